"""Projections of histograms are NumPy sums of what was filled, and no description of one can ask for memory without end."""

import json
import zipfile
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
import uhi.io.json
import uproot

from trila.analysis.spectra_histograms import (
    projected,
    root_histogram,
    selection_of,
    systematics,
    uhi_histogram,
    zip_histogram,
)
from trila.processors.errors import InputError, UnknownName

SIGNS = ["os", "ss"]
CATEGORIES = ["barrel", "forward", "a+b"]
EDGES = np.geomspace(0.2, 400.0, 6)
#: Events per sign, category and bin of mass.
FILLED = np.random.default_rng(3).poisson(20.0, (2, 3, 5))


def dimuon() -> hist.Hist[Any]:
    histogram = hist.Hist(
        hist.axis.StrCategory(SIGNS, name="sign"),
        hist.axis.StrCategory(CATEGORIES, name="category"),
        hist.axis.Variable(EDGES, name="mass"),
        storage=hist.storage.Weight(),
    )
    view = histogram.view(flow=True)
    view.value[...] = view.variance[...] = 1000.0  # under- and overflow, and the bins of unknown categories
    histogram.view().value[...], histogram.view().variance[...] = FILLED, 2.0 * FILLED
    return histogram


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sign=os,category=barrel", FILLED[0, 0]),
        ("category=forward, sign=ss", FILLED[1, 1]),
        ("sign=all,category=barrel+forward", FILLED[:, :2].sum(axis=(0, 1))),
        ("sign=os+ss,category=all", FILLED.sum(axis=(0, 1))),
        ("sign=os,category=a+b", FILLED[0, 2]),
    ],
)
def test_selections_are_sums(text: str, expected: np.ndarray[Any, Any]) -> None:
    spectrum = projected(dimuon(), selection_of(text), "r:dimuon.mass")
    np.testing.assert_array_equal(spectrum.edges, EDGES)
    np.testing.assert_array_equal(spectrum.counts, expected)
    np.testing.assert_array_equal(spectrum.variances, 2 * expected)
    assert spectrum.name == f"r:dimuon.mass[{text.replace(' ', '')}]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            r"h has bins of sign \(os, ss\) and category \(barrel, forward, a\+b\); say which, such as h\[sign=os,category=barr",
        ),
        (
            "category=barrel",
            r"h has bins of sign \(os, ss\); say which, such as h\[category=barrel,sign=os\]",
        ),
        ("sign=os,category=barel", "unknown category of h 'barel'; did you mean barrel"),
        ("sign=os+os,category=barrel", r"h: sign=os\+os counts events twice; give each bin once"),
        ("mass=1", "unknown axis of h to select on 'mass'; known: category, sign"),
        ("sign=os,sign=ss", r"gives 'sign' twice; join bins by \+, as in \[sign=a\+b\]"),
        ("sign=", r"selection \[sign=\] has 'sign='; expected \[AXIS=BIN,...\], such as \[sign=os\]"),
    ],
)
def test_selections_that_cannot_be_made(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        projected(dimuon(), selection_of(text), "h")


def test_datasets_are_summed_and_the_nominal_is_taken() -> None:
    axes = (
        hist.axis.StrCategory(["A", "B"], name="dataset"),
        hist.axis.StrCategory(["up", "nominal"], name="systematic"),
        hist.axis.Integer(0, 2, name="passed", underflow=False, overflow=False),
        hist.axis.Boolean(name="good"),
        hist.axis.StrCategory(["only"], name="era"),
        hist.axis.Regular(3, 0, 3, name="mass"),
    )
    histogram = hist.Hist(*axes, storage=hist.storage.Double())
    filled = np.arange(48.0).reshape(2, 2, 2, 2, 1, 3)
    histogram.view()[...] = filled
    spectrum = projected(histogram, {"passed": "1", "good": "0"}, "h")
    np.testing.assert_array_equal(spectrum.counts, filled[:, 1, 1, 0, 0].sum(axis=0))
    assert spectrum.variances is None
    up = projected(histogram, {"passed": "1", "good": "0", "systematic": "up", "dataset": "B"}, "h")
    np.testing.assert_array_equal(up.counts, filled[1, 0, 1, 0, 0])
    assert systematics(histogram) == ("up",)
    assert systematics(dimuon()) == ()
    with pytest.raises(
        InputError, match="h: variations are of the same events; select one, such as systematic=up"
    ):
        projected(histogram, {"passed": "1", "good": "0", "systematic": "all"}, "h")


def test_integer_axes_are_masses_where_there_is_no_other() -> None:
    histogram = hist.Hist(hist.axis.Integer(0, 3, name="n"), storage=hist.storage.Int64())
    histogram.fill([0, 1, 1, 2, 5])
    spectrum = projected(histogram, {}, "h")
    np.testing.assert_array_equal(spectrum.edges, [0, 1, 2, 3])
    np.testing.assert_array_equal(spectrum.counts, [1, 2, 1])


def test_histograms_that_are_no_spectrum() -> None:
    regular = [hist.axis.Regular(2, 0, 1, name=name) for name in "xy"]
    with pytest.raises(
        InputError, match=r"h has 2 axes of numbers \(x, y\); expected one, the mass: project it"
    ):
        projected(hist.Hist(*regular), {}, "h")
    with pytest.raises(InputError, match=r"h has 0 axes of numbers \(none\)"):
        projected(hist.Hist(hist.axis.StrCategory(["a"], name="c")), {}, "h")
    with pytest.raises(InputError, match="h holds means; expected a histogram of counts"):
        projected(hist.Hist(regular[0], storage=hist.storage.Mean()), {}, "h")
    with pytest.raises(InputError, match="h has an axis c without a bin; expected a filled histogram"):
        projected(hist.Hist(hist.axis.StrCategory([], growth=True, name="c"), regular[0]), {}, "h")


def _description(histogram: hist.Hist[Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(histogram, default=uhi.io.json.default))
    return content


@pytest.mark.parametrize(
    "axis",
    [
        hist.axis.Regular(3, 1, 8, name="mass"),
        hist.axis.Regular(3, 1, 8, name="mass", transform=hist.axis.transform.log),
        hist.axis.Regular(3, 1, 8, name="mass", underflow=False),
        hist.axis.Integer(1, 4, name="mass", overflow=False),
        hist.axis.Variable([1, 2, 4, 8], name="mass", flow=False),
        hist.axis.Regular(3, 1, 8, name="mass", growth=True),
    ],
    ids=str,
)
def test_descriptions_of_all_axes(axis: Any) -> None:
    histogram = hist.Hist(
        axis, hist.axis.Boolean(name="b"), hist.axis.IntCategory([4, 7], name="c", growth=True)
    )
    histogram.view()[...] = np.arange(12).reshape(3, 2, 2)
    spectrum = projected(uhi_histogram(_description(histogram), "u"), {"b": "1", "c": "4+7"}, "u")
    np.testing.assert_allclose(spectrum.edges, axis.edges, rtol=1e-14)
    np.testing.assert_array_equal(spectrum.counts, np.arange(12).reshape(3, 2, 2)[:, 1].sum(axis=1))


def _with(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    content = _description(hist.Hist(hist.axis.Regular(3, 0, 3, name="mass"), storage=hist.storage.Int64()))
    node: Any = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            _with(("axes", 0, "bins"), 10**12),
            r"u: its axes have 1e\+12 bins, its storage 5 values; write it again",
        ),
        (_with(("axes", 0, "writer_info"), {"boost-histogram": {"transform": "log", "bins": 10**12}}), ""),
        (_with(("storage", "values"), [1, 2, 3]), "u: its axes have 5 bins, its storage 3 values"),
        (_with(("storage",), {"type": "int"}), "u is no histogram of uhi's: KeyError: 'values'"),
        (_with(("storage", "values"), ["a"] * 5), "u is no histogram of uhi's"),
        (_with(("axes",), 5), "u is no histogram of uhi's: TypeError"),
        (_with(("axes", 0, "type"), "regulr"), "u is no histogram of uhi's"),
        (
            _with(("uhi_schema",), 99),
            "u is of uhi schema 99; expected 1: write it with a version of uhi that knows that",
        ),
    ],
)
def test_descriptions_that_are_no_histogram(content: dict[str, Any], message: str) -> None:
    if not message:  # what is not looked at does no harm
        assert projected(uhi_histogram(content, "u"), {}, "u").counts.sum() == 0
        return
    with pytest.raises(InputError, match=message):
        uhi_histogram(content, "u")


def test_zip_members_of_any_size_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trila.analysis.spectra_histograms.LARGEST", 10_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("h.json", "{}")
        archive.writestr("h_storage_values.npy", bytes(12_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 20_000
    with pytest.raises(
        InputError, match=r"bomb\.zip has a member of 12 MB; one may have 10 MB: project it first"
    ):
        zip_histogram(tmp_path / "bomb.zip", "h")


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    content = _description(hist.Hist(hist.axis.Regular(3, 0, 3, name="mass")))
    content["storage"]["values"] = "h_storage_values.npy"
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("h.json", json.dumps(content))
        with archive.open("h_storage_values.npy", "w") as stream:
            np.save(stream, np.array([{}] * 5, dtype=object), allow_pickle=True)
    with pytest.raises(
        InputError, match=r"p\.zip cannot be read: ValueError: Object arrays cannot be loaded"
    ):
        zip_histogram(tmp_path / "p.zip", "h")


def test_two_axes_of_a_root_histogram(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "f.root") as file:
        file["th2"] = np.histogram2d([1.0, 2.0], [1.0, 2.0], bins=(2, 2))
    found = root_histogram(str(tmp_path / "f.root"), "th2")
    with pytest.raises(InputError, match=r"f.root:th2 has 2 axes of numbers \(xaxis, yaxis\)"):
        projected(found, {}, "f.root:th2")
    with pytest.raises(UnknownName, match=r"unknown histogram of .*f\.root 'th3'; did you mean th2"):
        root_histogram(str(tmp_path / "f.root"), "th3")
