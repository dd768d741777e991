"""SPECTRUM arguments of every form give the numbers that were written, and anything else is refused in words."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
import uhi.io.json
import uproot
import yaml

from trila.analysis import results, spectra
from trila.fits.errors import FitError
from trila.fits.spectrum import checked, select
from trila.processors.errors import InputError
from trila.processors.histograms import CMS_DIJET_EDGES

EDGES = [453.0, 489.0, 526.0, 565.0]
COUNTS = [40.0, 30.0, 20.0]
CSV = "low,high,count\n453,489,40\n489,526,30\n526,565,20\n"
HEPDATA = {
    "independent_variables": [
        {"header": {"name": "M", "units": "GeV"}, "values": [{"low": a, "high": b} for a, b in pairwise(EDGES)]}
    ],
    "dependent_variables": [{"header": {"name": "Events"}, "values": [{"value": n} for n in COUNTS]}],
}  # fmt: skip


def mass(storage: Any = None) -> hist.Hist[Any]:
    """The three bins, with events in under- and overflow."""
    histogram = hist.Hist(hist.axis.Variable(EDGES, name="mass"), storage=storage or hist.storage.Int64())
    histogram.fill(np.repeat([100.0, 460.0, 500.0, 530.0, 600.0], [7, 40, 30, 20, 9]))
    return histogram


def dijet() -> hist.Hist[Any]:
    """As the dijet processor books it; a variation doubles the second bin."""
    names = hist.axis.StrCategory(["nominal", "JES_up", "JES_down"], name="systematic")
    histogram = hist.Hist(names, hist.axis.Variable(EDGES, name="mass"), storage=hist.storage.Weight())
    for name, factor in {"nominal": 1, "JES_up": 2, "JES_down": 0}.items():
        histogram.fill(name, np.repeat([460.0, 500.0, 530.0], [40, 30 * factor, 20]))
    return histogram


def written(folder: Path, **histograms: hist.Hist[Any]) -> Path:
    """A RESULT with these histograms."""
    folder.mkdir()
    manifest = {"trila": "0", "format_version": results.FORMAT_VERSION, "datasets": {}, "inputs": []}
    with results.working(folder) as inside:
        results.write(results.Result(folder, dict(histograms), {}, manifest), inside, blocks=None, parts={})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One spectrum in every form."""
    root = tmp_path_factory.mktemp("spectra")
    result = written(root / "result", dijet=dijet(), mass=mass())
    shutil.copy(result / "histograms.zip", root / "s.zip")
    with uproot.recreate(root / "s.root") as file:
        file["folder/mass"] = mass(hist.storage.Double())
        file["weighted"] = dijet()[{"systematic": "JES_up"}] * 2.0
        file["two"] = dijet()
        file["events"] = {"x": np.arange(3)}
    (root / "s.csv").write_text(CSV)
    (root / "uhi.json").write_text(json.dumps(mass(), default=uhi.io.json.default))
    (root / "dijet.json").write_text(json.dumps(dijet(), default=uhi.io.json.default))
    (root / "hepdata.json").write_text(json.dumps(HEPDATA))
    (root / "hepdata.yaml").write_text(yaml.safe_dump(HEPDATA))
    return root


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("result:dijet", "result:dijet"),
        ("result:mass", "result:mass"),
        ("s.zip:mass", "s.zip:mass"),
        ("s.root:folder/mass", "s.root:folder/mass"),
        ("s.root:folder/mass;1", "s.root:folder/mass;1"),
        ("s.csv", "s.csv"),
        ("uhi.json", "uhi.json"),
        ("dijet.json[systematic=nominal]", "dijet.json[systematic=nominal]"),
        ("hepdata.json", "hepdata.json"),
        ("hepdata.yaml", "hepdata.yaml"),
    ],
)
def test_every_form_gives_the_counts_that_were_written(folder: Path, text: str, name: str) -> None:
    spectrum = spectra.read(f"{folder}/{text}")
    np.testing.assert_array_equal(spectrum.edges, EDGES)
    np.testing.assert_array_equal(spectrum.counts, COUNTS)
    assert spectrum.variances is None
    assert spectrum.used.all()
    assert spectrum.name == name


def test_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert spectra.read("result:mass").counts.sum() == spectra.read("s.csv").counts.sum() == 90


def test_weights_of_a_root_histogram(folder: Path) -> None:
    spectrum = spectra.read(f"{folder}/s.root:weighted")
    np.testing.assert_array_equal(spectrum.counts, [80, 120, 40])
    np.testing.assert_array_equal(spectrum.variances, [160, 240, 80])


def test_variations(folder: Path) -> None:
    found = spectra.variations(f"{folder}/result:dijet")
    assert {name: list(spectrum.counts) for name, spectrum in found.items()} == {
        "JES_up": [40, 60, 20],
        "JES_down": [40, 0, 20],
    }
    assert found["JES_up"].name == "result:dijet[systematic=JES_up]"
    one = spectra.read(f"{folder}/result:dijet[systematic=JES_up]")
    np.testing.assert_array_equal(one.counts, found["JES_up"].counts)
    assert spectra.variations(f"{folder}/result:mass") == spectra.variations(f"{folder}/s.csv") == {}
    with pytest.raises(InputError, match="result:dijet selects one variation; leave systematic out"):
        spectra.variations(f"{folder}/result:dijet[systematic=JES_up]")


def test_published_spectrum(data_dir: Path) -> None:
    """CMS, 137/fb: the counts in the file, and its bins, standard ones but for the last."""
    file = data_dir / "hepdata" / "cms_dijet_137fb_ins1764471.csv"
    spectrum = spectra.read(str(file))
    low, high, count = np.loadtxt(file, delimiter=",", skiprows=3, usecols=(0, 1, 2)).T
    np.testing.assert_array_equal(spectrum.edges, [*low, high[-1]])
    np.testing.assert_array_equal(spectrum.counts, count)
    assert spectrum.counts[0] == 1574755
    # the last bin is wider than the standard one
    with pytest.raises(FitError, match=r"new edge 8447 GeV is none .* the nearest, 8152 or 8752 GeV"):
        spectra.rebinned(spectrum, "standard")
    same = spectra.rebinned(select(spectrum, 1530, 8152), "standard")
    np.testing.assert_array_equal(same.edges, spectrum.edges[:-1])
    np.testing.assert_array_equal(same.counts, count[:-1])
    halves = spectra.rebinned(spectrum, "1530,2037,8152")
    np.testing.assert_array_equal(
        halves.counts, [count[low < 2037].sum(), count[(low >= 2037) & (high <= 8152)].sum()]
    )


@pytest.mark.parametrize(
    "name", ["run2_atlas_tla_dijet_J50_hepdata.json", "HEPData-ins2704121-v1-Figure_5-a.yaml"]
)
def test_published_limits_are_no_spectrum(data_dir: Path, name: str) -> None:
    with pytest.raises(
        InputError, match="is a point; expected bins with low and high: points are no spectrum"
    ):
        spectra.read(str(data_dir / "hepdata" / name), columns="count=1")


def test_standard_edges_merge_bins_of_one_gev() -> None:
    counts = np.random.default_rng(1).poisson(20, 2000)
    found = spectra.rebinned(checked(np.arange(400, 2401), counts, name="s"), "standard")
    inside = [edge for edge in CMS_DIJET_EDGES if 400 <= edge <= 2400]
    np.testing.assert_array_equal(found.edges, inside)
    expected = [counts[a - 400 : b - 400].sum() for a, b in pairwise(inside)]
    np.testing.assert_array_equal(found.counts, expected)


def test_edges_of_a_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "edges.txt").write_text("# GeV\n453\n526  # two bins\n565,\n")
    spectrum = spectra.read(f"{folder}/s.csv")
    for edges in (str(tmp_path / "edges.txt"), "453,526,565", "453, 526.0, 5.65e2"):
        np.testing.assert_array_equal(spectra.rebinned(spectrum, edges).counts, [70, 20])


@pytest.mark.parametrize(
    ("edges", "kind", "message"),
    [
        ("453,abc", InputError, "edges '453,abc': could not convert .* expected standard, masses in GeV"),
        ("", InputError, "edges '': could not convert"),
        ("missing.txt", InputError, "edges 'missing.txt'"),
        (
            "453,500",
            FitError,
            "new edge 500 GeV is none of the spectrum's; leave it out, or take the nearest, 489 or 526 GeV",
        ),
        ("453", FitError, "give at least two"),
        ("/tmp", InputError, "/tmp cannot be read: Is a directory; check the path"),
        ("x" * 5000, InputError, "expected standard"),
    ],
)
def test_edges_that_are_none(folder: Path, edges: str, kind: type[ValueError], message: str) -> None:
    with pytest.raises(kind, match=message):
        spectra.rebinned(spectra.read(f"{folder}/s.csv"), edges)


def test_no_standard_bin() -> None:
    with pytest.raises(InputError, match="s: no standard bin lies within 500 to 510 GeV; give edges instead"):
        spectra.rebinned(checked([500, 505, 510], [1, 2], name="s"), "standard")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("elsewhere/none.csv", "none.csv: no such file; check the path"),
        ("hepdata.yml", "no such file; did you mean hepdata.yaml?"),
        ("result", "names no histogram; expected RESULT:NAME"),
        ("result:dijett", "unknown histogram 'dijett'; did you mean dijet"),
        ("nowhere:dijet", "is no result: it has no manifest.json"),
        ("s.root", "may hold many histograms; name one, such as .*s.root:NAME"),
        ("s.root:folder/mas", "unknown histogram of .* 'folder/mas'; did you mean folder/mass"),
        (
            "s.root:events",
            r"events of .* is a ROOT::RNTuple; expected a histogram \(TH1\): folder/mass, two, weighted",
        ),
        ("s.root:two", "s.root:two has"),
        ("s.zip:none", "unknown histogram of .* 'none'"),
        ("s.csv:mass", "holds one spectrum; leave :mass out"),
        ("s.csv[sign=os]", "s.csv is a table, without axes to select on"),
        ("uhi.json[sign=os]", "unknown axis of uhi.json to select on 'sign'; known: none"),
        (
            "result:dijet[systematic=JER_up]",
            "unknown systematic of result:dijet 'JER_up'; did you mean JES_up",
        ),
        ("result:dijet[systematic]", r"selection \[systematic\] has 'systematic'; expected \[AXIS=BIN,...\]"),
        (
            "workspace.json",
            "workspace.json is a pyhf workspace; expected a spectrum: RESULT:NAME, .* or .csv",
        ),
        ("other.json", "has the keys name, age; expected a histogram of uhi's or a HEPData table"),
        ("list.json", "has no keys"),
        ("broken.json", "broken.json is no JSON file: Expecting"),
        ("deep.json", "deep.json is no JSON file: maximum recursion"),
        ("tag.yaml", "tag.yaml is not YAML or JSON: IndexError"),
        ("broken.yaml", "broken.yaml is not YAML or JSON"),
        ("text.txt", r"is a file of no known kind \('.txt'\); expected RESULT:NAME"),
        ("text.root:h", "text.root cannot be read: .*; expected a ROOT file"),
        ("text.zip:h", "text.zip cannot be read: BadZipFile"),
        ("long.yaml", "long.yaml has more than 10 MB, expected less; check that it is the right file"),
        ("a\0b.csv", "no such file"),
    ],
)
def test_arguments_that_are_no_spectrum(folder: Path, text: str, message: str) -> None:
    bad = {
        "workspace.json": '{"channels": [], "version": "1.0.0"}',
        "other.json": '{"name": 1, "age": 2}',
        "list.json": "[1]",
        "broken.json": "{",
        "deep.json": "[" * 100_000,
        "tag.yaml": '!!int ""',
        "broken.yaml": "a: [1",
        "long.yaml": "#" * 10_000_001,
        **dict.fromkeys(("text.txt", "text.root", "text.zip"), "text"),
    }
    if text.split(":")[0] in bad:
        (folder / text.split(":")[0]).write_text(bad[text.split(":")[0]])
    with pytest.raises(InputError, match=message):
        spectra.read(f"{folder}/{text}")


def test_columns_are_for_tables(folder: Path) -> None:
    with pytest.raises(
        InputError, match="--columns is for tables, and result:dijet is a histogram; leave it out"
    ):
        spectra.read(f"{folder}/result:dijet", columns="count=N")


def test_a_file_may_have_a_colon_or_a_bracket_in_its_name(tmp_path: Path) -> None:
    for name in ("a:b.csv", "a[sign=os].csv"):
        (tmp_path / name).write_text(CSV)
        assert spectra.read(str(tmp_path / name)).counts.sum() == 90
