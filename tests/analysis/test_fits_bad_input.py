"""Bad input of fits and searches is refused in words: one line with value, expectation and remedy, and nothing is written.

Protected: exit code 2 without a traceback, no file that was not there before (nor half of one), an output file of an earlier
run as it was, and options that would change nothing. Workspaces and patches that were spoiled at random raise this
package's errors, or give numbers that the certificate vouches for.
"""

from __future__ import annotations

import copy
import json
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyhf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from trila.analysis import cli, workspaces
from trila.analysis.fit_inputs import interval, masses, numbers, write_product
from trila.fits.errors import FitError
from trila.processors.errors import InputError

#: pyhf's schema validation, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")

EDGES = np.arange(500, 1001, 25)
COUNTS = np.round(1e6 * (EDGES[:-1] / 500.0) ** -6).astype(int)
OLD = "what an earlier run left\n"
FIT = ("--function", "dijet3", "--range", "500:1000")
SEARCH = (*FIT, "--signal", "gauss:0.05", "--masses", "600,700,800")


def table(name: str, counts: Any = COUNTS, edges: Any = EDGES, extra: str = "") -> None:
    rows = [f"{low},{high},{n}" for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    Path(name).write_text(f"low,high,count{extra}\n" + "\n".join(rows) + "\n")


def workspace() -> dict[str, Any]:
    """Two bins with a signal and a background of uncertain size and shape."""
    background = [
        {"name": "size", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
        {"name": "shape", "type": "histosys", "data": {"hi_data": [52.0, 48.0], "lo_data": [48.0, 52.0]}},
    ]
    return {
        "channels": [
            {
                "name": "channel",
                "samples": [
                    {"name": "signal", "data": [5.0, 8.0], "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]},
                    {"name": "background", "data": [50.0, 50.0], "modifiers": background},
                ],
            }
        ],
        "observations": [{"name": "channel", "data": [52.0, 49.0]}],
        "measurements": [{"name": "search", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }  # fmt: skip


def patches(*names: str) -> dict[str, Any]:
    """A patch set whose signals are of other sizes."""
    path = "/channels/0/samples/0/data"
    return {
        "metadata": {
            "references": {"hepdata": "ins1234567"}, "description": "", "digests": {"sha256": pyhf.utils.digest(workspace())}, "labels": ["mass"],
        },
        "patches": [
            {
                "metadata": {"name": name, "values": [100.0 * (i + 1)]},
                "patch": [{"op": "replace", "path": path, "value": [4.0 + i, 8.0]}],
            }
            for i, name in enumerate(names)
        ],
        "version": "1.0.0",
    }  # fmt: skip


def write(name: str, content: Any) -> None:
    Path(name).write_text(json.dumps(content))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a good spectrum, a good workspace, bad ones, and what an earlier run left."""
    monkeypatch.chdir(tmp_path)
    table("good.csv")
    changed = {"negative": -5, "fraction": 5.5, "nothing": "", "nan": "nan", "words": "many"}
    for name, value in changed.items():
        table(f"{name}.csv", [*COUNTS[:3], value, *COUNTS[4:]])
    table("empty.csv", np.zeros(COUNTS.size, dtype=int))
    Path("gap.csv").write_text("\n".join([*Path("good.csv").read_text().splitlines()[:5], "650,675,9"]))
    Path("no_count.csv").write_text("low,high\n500,525\n525,550\n")
    # negative sums of weights are allowed until a likelihood needs them
    rows = [
        f"{low},{low + 25},{n},100" for low, n in zip(EDGES, [*COUNTS[:3], -5.5, *COUNTS[4:]], strict=False)
    ]
    Path("weights.csv").write_text("\n".join(["low,high,count,variance", *rows]))
    write("workspace.json", workspace())
    write("patches.json", patches("one", "two"))
    Path("truncated.json").write_text(json.dumps(workspace())[:300])
    Path("nested.json").write_text("[" * 100_000)
    write("list.json", [1])
    write("keys.json", {"a": 1})
    strange = workspace()
    strange["channels"][0]["samples"][0]["modifiers"][0]["type"] = "own"
    write("own_modifier.json", strange)
    no_poi = workspace()
    no_poi["measurements"][0]["config"]["poi"] = ""
    write("no_poi.json", no_poi)
    write("no_patches.json", patches())
    write("same_names.json", patches("one", "one"))
    elsewhere = patches("one")
    elsewhere["metadata"]["digests"]["sha256"] = 64 * "0"
    write("other_background.json", elsewhere)
    write("wrong_path.json", [{"op": "replace", "path": "/nowhere/0", "value": 1}])
    Path("couplings.csv").write_text("mass,g,sigma\n600,0.25,1.0\n700,0.25,0.5\n")
    Path("fractions.csv").write_text("mass,fraction\n600,0.1\n900,1.5\n")
    Path("folder").mkdir()
    Path("old.json").write_text(OLD)


def files() -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(Path().rglob("*"))}


def refused(*arguments: str, output: str = "old.json") -> str:
    """The message of a command that must fail and leave all files as they were."""
    before = files()
    done = CliRunner().invoke(cli.app, [*arguments, "-o", output])
    everything = done.stdout + done.stderr
    assert done.exit_code == 2, everything
    assert "Traceback" not in everything
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, "one line"
    assert files() == before
    return done.stderr


SPECTRA = {
    "negative.csv": r"count of the bin 575 to 600 GeV is -5; events cannot be fewer than 0: give event counts",
    "fraction.csv": r"count of the bin 575 to 600 GeV is 5\.5, no integer; give event counts, or the variances",
    "nothing.csv": r"nothing\.csv, line 5, count: '' is no number; give one",
    "words.csv": r"words\.csv, line 5, count: 'many' is no number; give one",
    "nan.csv": r"count of the bin 575 to 600 GeV is nan; expected a number: give one",
    "empty.csv": r"no events between 500 and 1000 GeV; choose a range with data",
    "gap.csv": r"gap between bins, 600 to 650 GeV; give a row for each bin",
    "no_count.csv": r"unknown column of no_count\.csv 'count'; known: high, low\. Name it with --columns count=NAME",
    "weights.csv": r"weights of the bin 575 to 600 GeV sum to -5\.5; a fit needs 0 or more: merge bins",
    "nowhere.csv": r"nowhere\.csv: no such file; (did you mean|check the path)",
    "truncated.json": r"truncated\.json is no JSON file: .*; write or download it again",
    "nested.json": r"nested\.json is no JSON file: .*; write or download it again",
    "list.json": r"list\.json has no keys; expected a histogram of uhi's or a HEPData table",
    "keys.json": r"keys\.json has the keys a; expected a histogram of uhi's or a HEPData table",
    "workspace.json": r"workspace\.json is a pyhf workspace; expected a spectrum: RESULT:NAME, FILE\.root:NAME",
    "folder": r"folder is no result|folder",
}


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra(name: str) -> None:
    assert re.search(SPECTRA[name], refused("fit", name, *FIT))


def test_spectra_with_an_approximation_are_no_errors() -> None:
    """Weights are approximated, and it is said; the file says so too."""
    rows = [f"{low},{low + 25},{n * 0.5},{n * 0.25}" for low, n in zip(EDGES, COUNTS, strict=False)]
    Path("half.csv").write_text("\n".join(["low,high,count,variance", *rows]))
    done = CliRunner().invoke(cli.app, ["fit", "half.csv", *FIT, "-o", "fit.json"])
    assert done.exit_code == 0
    assert "note: half.csv holds sums of weights: scaled Poisson" in done.stderr
    assert "scaled Poisson" in json.loads(Path("fit.json").read_text())["approximation"]


FITS = {
    "outside": (("--range", "100:1000"), r"range 100:1000 reaches outside the data; choose one within 500 to 1000 GeV"),
    "reversed": (("--range", "1000:500"), r"--range '1000:500', expected LO:HI in GeV with LO below HI, such as"),
    "no range": (("--range", "wide"), r"--range 'wide', expected LO:HI in GeV with LO below HI, such as 500:2000"),
    "no bin": (("--range", "501:520"), r"no bin lies inside the range 501:520; choose a wider one"),
    "few bins": (
        ("--range", "500:575"),
        r"3 bins between 500 and 575 GeV for the 3 parameters of dijet3, expected at least 4; widen the range",
    ),
    "unknown": (("--function", "dijet33"), r"unknown function 'dijet33'; did you mean dijet3"),
    "no file": (("--function", "own.py:f"), r"own\.py"),
    "expression": (("--function", "expr:p0*("), r"expr:|expression"),
    "no swift": (("--function", "swift"), r"--function swift names no function; give one, such as swift:dijet4"),
    "singular": (
        ("--function", "expr:p0*x**-p1+0*p2"),
        r"the fit of expr:\S+ to good\.csv from 500 to 1000 GeV did not converge .*: its parameters are not determined; take",
    ),
    "energy": (("--sqrts", "900"), r"masses from 500 to 1000 GeV, expected values above 0 and below sqrt_s = 900 GeV; check"),
    "no energy": (("--sqrts", "inf"), r"--sqrts inf, expected the collision energy in GeV above 0, such as 13000"),
    "all blind": (("--blind", "400:2000"), r"no bin from 500 to 1000 GeV is left outside the windows; give narrower ones"),
    "blind": (("--blind", "a:b"), r"--blind 'a:b', expected LO:HI in GeV with LO below HI, such as 500:2000"),
    "veto": (("--veto", "900:800"), r"--veto '900:800', expected LO:HI in GeV with LO below HI, such as 500:2000"),
    "columns": (("--columns", "count=N"), r"unknown column of good\.csv 'N'; known: count, high, low"),
    "rebin": (("--rebin", "1,2"), r"new edge 1 GeV is none of the spectrum's; leave it out, or take the nearest"),
    "no edges": (("--rebin", "wide"), r"edges 'wide': .*; expected standard, masses in GeV separated by commas, or a file"),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "singular")) for name in FITS]
)
def test_fits(name: str) -> None:
    options, says = FITS[name]
    assert re.search(says, refused("fit", "good.csv", *FIT, *options))


SEARCHES = {
    "outside": (("--masses", "600,2000"), r"of the signal at 2000 GeV lies in the bins used \(500 to 1000 GeV .*; choose masses"),
    "masses": (("--masses", "heavy"), r"--masses 'heavy', expected LO:HI:STEP or a list M1,M2,\.\.\. in GeV above 0, such as"),
    "too many": (
        ("--masses", "1:1e9:0.001"), r"--masses '1:1e9:0\.001' are 99999999\d+ masses, expected at most 100000; check the step",
    ),
    "signal": (("--signal", "gaus:0.05"), r"unknown signal 'gaus:0\.05'; expected gauss:WIDTH"),
    "width": (("--signal", "gauss:5"), r"relative width 5 of a Gaussian, expected a number above 0 and up to 1; give the width"),
    "shape": (("--signal", "dcb:nowhere.yaml"), r"'nowhere\.yaml' is not a file; check the path"),
    "level": (("--cl", "95"), r"confidence level 95, expected a value between 0 and 1, such as 0\.95"),
    "no lumi": (("--lumi", "0"), r"--lumi 0, expected 1/pb above 0"),
    "endless lumi": (("--lumi", "inf"), r"--lumi inf, expected 1/pb above 0"),
    "coupling": (("--coupling", "couplings.csv"), r"--coupling turns .* and needs --lumi, the luminosity in 1/pb"),
    "no table": (("--coupling", "good.csv", "--lumi", "9"), r"has columns low, high, count, expected mass, g, sigma; add 'mass'"),
    "other": (("--other", "fractions.csv"), r"a table of other dimuons is for limits on eps2; add --eps2"),
    "source": (("--uncertainty", "scale"), r"uncertainty 'scale', expected SOURCE=SIZE, a name and a number such as scale=0\.02"),
    "slip": (("--uncertainty", "scael=0.1"), r"uncertainty 'scael' would be a normalisation, but looks like 'scale'; write that"),
    "taken": (("--uncertainty", "mu=0.1"), r"uncertainty 'mu' has the name of another parameter of the model; choose another"),
    "systematics": (("--systematics",), r"good\.csv has no systematic variations, expected an axis 'systematic' .* or leave"),
    "window": (("--window", "0"), r"nsigma contains 0, expected finite values above 0; give the half width of a window"),
    "narrow": (("--window", "0.5"), r"none of 3 masses has a window; at 600 GeV: .*; widen the window, or take finer bins"),
    "blind": (("--blind", "400:900"), r"all 3 masses lie in blinded windows; choose others"),
    "family": (("--function", "envelope:old"), r"unknown family 'old' in 'envelope:old'; choose of dijet, ua2"),
    "envelope": (("--function", "envelope", "--toys", "9"), r"--toys is for one function, and .* profiles several; leave it out"),
    "swift": (("--function", "swift:dijet3"), r"fits a window around each bin, .*; give --function dijet3 --window K"),
    "patch": (("--patch", "patches.json"), r"--patch is for workspaces of pyhf or HistFactory; leave it out"),
    "poi": (("--poi", "mu"), r"--poi is for workspaces of pyhf or HistFactory; leave it out"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEARCHES)
def test_searches(name: str) -> None:
    options, says = SEARCHES[name]
    assert re.search(says, refused("limit", "good.csv", *SEARCH, *options))


@pytest.mark.slow
def test_what_fails_late_leaves_nothing() -> None:
    """The limits are there when the table of couplings turns out to end at 700 GeV: no models are written either."""
    options = ("--coupling", "couplings.csv", "--lumi", "9", "--workspaces", "models")
    says = refused("limit", "good.csv", *SEARCH, *options)
    assert "a mass of 800 GeV, expected 600 to 700 GeV, the range of 'couplings.csv'; add predictions" in says
    assert not Path("models").exists()
    says = refused("limit", "good.csv", *SEARCH, "--eps2", "--other", "fractions.csv")
    assert "a fraction of 1.5 of other dimuons, expected 0 to below 1; give 0.2 for 20%" in says


@pytest.mark.parametrize("missing", ["function", "range", "signal", "masses"])
@pytest.mark.parametrize("command", ["limit", "significance"])
def test_a_search_needs_all_its_options(command: str, missing: str) -> None:
    at = SEARCH.index(f"--{missing}")
    says = refused(command, "good.csv", *SEARCH[:at], *SEARCH[at + 2 :])
    assert (
        f"--{missing} is missing; a search in a spectrum needs --function, --range, --signal and --masses"
        in says
    )


WORKSPACES = {
    "truncated": (("truncated.json",), r"truncated\.json is no JSON \(.*; expected a workspace or product as JSON"),
    "own modifier": (("own_modifier.json",), r"the workspace cannot be used \(.*'own'.*; check it with `pyhf inspect`"),
    "no poi": (("no_poi.json",), r"the workspace names no parameter of interest; give --poi, one of mu|cannot be used"),
    "unknown poi": (("workspace.json", "--poi", "nu"), r"the workspace cannot be used \(.*'nu'.*; check it with"),
    "no patch": (("workspace.json", "--patch", "nowhere.json"), r"nowhere\.json cannot be read: No such file .*; check the path"),
    "bad patch": (("workspace.json", "--patch", "truncated.json"), r"truncated\.json is no JSON"),
    "a list": (("workspace.json", "--patch", "list.json"), r"the workspace cannot be used \(.*; check it with"),
    "keys": (("workspace.json", "--patch", "keys.json"), r"is neither a JSON patch nor a patch set of pyhf; expected a list"),
    "wrong path": (("workspace.json", "--patch", "wrong_path.json"), r"the workspace cannot be used \(.*nowhere"),
    "patch name": (("workspace.json", "--patch", "patches.json:tow"), r"unknown patch 'tow'; did you mean two"),
    "empty": (("workspace.json", "--patch", "no_patches.json"), r"holds 0 patches with 0 names; expected at least one"),
    "other background": (
        ("workspace.json", "--patch", "other_background.json"),
        r"other_background\.json is for another background: its sha256 is 0000.*; give the workspace that it was made for",
    ),
    "same names": (("workspace.json", "--patch", "same_names.json"), r"holds 2 patches with 1 names; .* each with a name of its"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKSPACES)
@pytest.mark.parametrize("command", ["limit", "significance", "diagnose"])
def test_workspaces(command: str, name: str) -> None:
    arguments, says = WORKSPACES[name]
    message = refused(command, *arguments, output="old.json" if command != "diagnose" else "plots")
    assert re.search(says, message)


def test_diagnosis_is_of_one_model() -> None:
    says = refused("diagnose", "workspace.json", "--patch", "patches.json", output="plots")
    assert "holds 2 patches; name one of them as PATCHES.json:NAME, such as one, two" in says
    assert "list.json" in refused("diagnose", "nested.json", output="plots").replace("nested", "list")
    assert "the workspace cannot be used" in refused("diagnose", "keys.json", output="plots")


@pytest.mark.parametrize(
    "option", ["--function=dijet3", "--lumi=9", "--toys=9", "--blind=600:700", "--rebin=standard", "--eps2", "--sqrts=8000"]
)  # fmt: skip
def test_options_of_spectra_are_not_for_workspaces(option: str) -> None:
    says = refused("limit", "workspace.json", option)
    name = option.split("=")[0]
    assert f"{name} is for spectra, and a workspace brings its own model; leave it out" in says


PLACES = {
    "folder": (("fit", "good.csv", *FIT), "folder", r"folder cannot be written: it is a folder; choose another place"),
    "file": (("fit", "good.csv", *FIT), "good.csv/fit.json", r"good\.csv is no folder; choose another place"),
    "long": (("limit", "good.csv", *SEARCH), "a" * 300, r"cannot be written: File name too long; choose another place"),
    "bump": (("bumphunt", "good.csv", *FIT), "folder", r"cannot be written: it is a folder; choose another place"),
    "significance": (("significance", "good.csv", *SEARCH), "folder", r"cannot be written: it is a folder"),
    "bias": (("bias", "good.csv", *SEARCH), "folder", r"cannot be written: it is a folder; choose another place"),
    "models": (
        ("limit", "good.csv", *SEARCH, "--workspaces", "good.csv"), "old.json", r"good\.csv is no folder; choose another place",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_places_that_cannot_be_written(name: str) -> None:
    arguments, output, says = PLACES[name]
    assert re.search(says, refused(*arguments, output=output))


def test_a_number_that_json_does_not_know_leaves_nothing() -> None:
    before = files()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_product(Path("new.json"), {"limit": math.inf})
    assert files() == before


@pytest.mark.parametrize("option", ["--seed=-1", "--toys=-1", "--toys=many"])
@pytest.mark.parametrize("command", ["limit", "significance", "bias", "bumphunt"])
def test_counts_are_usage_errors(command: str, option: str) -> None:
    before = files()
    arguments = FIT if command == "bumphunt" else SEARCH
    done = CliRunner().invoke(cli.app, [command, "good.csv", *arguments, option, "-o", "old.json"])
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr
    assert f"Invalid value for '{option.split('=')[0]}'" in done.stderr
    assert files() == before


@pytest.mark.parametrize("family", ["dijet33", ""])
def test_families_are_usage_errors(family: str) -> None:
    done = CliRunner().invoke(cli.app, ["ftest", "good.csv", "--family", family, "--range", "500:1000"])
    assert done.exit_code == 2
    assert "Invalid value for '--family'" in done.stderr


@pytest.mark.parametrize(
    ("strengths", "says"),
    [
        ("a", r"--strengths 'a', expected numbers separated by commas, such as 0,1,2"),
        ("-1", r"the strength of a signal in its errors contains -1, expected finite values of at least 0"),
        ("inf", r"the strength of a signal in its errors contains inf, expected finite values of at least 0"),
    ],
)
def test_strengths(strengths: str, says: str) -> None:
    assert re.search(says, refused("bias", "good.csv", *SEARCH, f"--strengths={strengths}"))


@pytest.mark.parametrize(
    "text",
    ["", "nan", "0", "-5", "1:2", "1:2:0", "2:1:1", "1:2:3:4", "600:700:nan", "600,,700", "inf", "1e400"],
)
def test_masses_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=r"expected LO:HI:STEP or a list M1,M2"):
        masses(text)


@pytest.mark.parametrize("text", ["1:inf:1", "1:2:1e-320", "1e308:1.1e308:1e300"])
def test_masses_without_end(text: str) -> None:
    with pytest.raises(InputError, match="masses, expected at most 100000; check the step"):
        masses(text)


@given(text=st.text(alphabet="0123456789.:,-+enaif ", max_size=20))
def test_texts_of_numbers_are_numbers_or_refused(text: str) -> None:
    for read in (masses, lambda t: interval("--range", t), lambda t: numbers("--strengths", t)):
        with suppress(InputError):
            assert np.asarray(read(text)).size > 0


@pytest.mark.parametrize("name", ["good.csv", "truncated.json", "workspace.json", "list.json", "folder"])
def test_what_cannot_be_plotted(name: str) -> None:
    before = files()
    done = CliRunner().invoke(cli.app, ["plot", name, "-o", "plots"])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert files() == before


# ---- spoiled at random

#: What a place in a JSON file may become; numbers keep the shape of a model, so that little is compiled anew.
VALUES: tuple[Any, ...] = (
    None, True, "", "mu", "shape", [], {}, [1.0], -1.0, 0.0, 1e-300, 1e300, math.inf, math.nan, 10**400, -3,
)  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all parts of a JSON content."""
    inner: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path] * bool(path) + [p for key, value in inner for p in places(value, (*path, key))]


def spoiled(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(content)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


def numbers_or_refused(**options: Any) -> None:
    """Limits of a workspace: this package's errors, or numbers with a certificate."""
    try:
        content = workspaces.limit(Path("spoiled.json"), Path("limits.json"), check="none", **options)
    except (FitError, InputError):
        assert not Path("limits.json").exists()
        return
    for entry in content:
        limits = [entry["observed"], *(entry["expected"] or ())]
        assert entry["certificate"]["passed"] == all(x is not None and np.isfinite(x) for x in limits)
    Path("limits.json").unlink()


RANDOM = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.slow
@RANDOM
@given(path=st.sampled_from(places(workspace())), value=st.sampled_from(VALUES))
def test_spoiled_workspaces(path: tuple[Any, ...], value: Any) -> None:
    write("spoiled.json", spoiled(workspace(), path, value))
    numbers_or_refused()


@pytest.mark.slow
@RANDOM
@given(path=st.sampled_from(places(patches("one", "two"))), value=st.sampled_from(VALUES))
def test_spoiled_patches(path: tuple[Any, ...], value: Any) -> None:
    write("spoiled.json", workspace())
    write("patch.json", spoiled(patches("one", "two"), path, value))
    numbers_or_refused(patch="patch.json")
