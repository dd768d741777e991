"""Tables give the numbers that stand in them, in GeV and in events."""

import copy
import re
from typing import Any

import numpy as np
import pytest
from scipy.special import gammainccinv, gammaincinv

from trila.analysis.spectra_tables import csv_spectrum, hepdata_spectrum, is_hepdata
from trila.fits.errors import FitError
from trila.processors.errors import InputError, UnknownName

BINS = [(500.0, 520.0), (520.0, 560.0), (560.0, 600.0)]


def submitted(values: list[Any], *, units: str = "GeV", name: str = "Events") -> dict[str, Any]:
    """The YAML form, as submitted."""
    return {
        "independent_variables": [
            {"header": {"name": "M", "units": units}, "values": [{"low": a, "high": b} for a, b in BINS]}
        ],
        "dependent_variables": [
            {"header": {"name": name}, "values": [v if isinstance(v, dict) else {"value": v} for v in values]}
        ],
    }


def as_json(values: list[Any], header: str = "Events") -> dict[str, Any]:
    """The form that hepdata.net returns: numbers are text, and an error that is not given is hidden."""
    hidden = {"errors": [{"hide": True, "symerror": 0}]}
    return {
        "headers": [{"name": "M [GeV]", "colspan": 1}, {"name": header, "colspan": 1}],
        "values": [
            {"x": [{"low": str(a), "high": str(b)}], "y": [{**hidden, **(v if isinstance(v, dict) else {"value": str(v)})}]}
            for (a, b), v in zip(BINS, values, strict=True)
        ],
    }  # fmt: skip


def test_csv_with_comments_blank_lines_and_further_columns() -> None:
    data = b'\xef\xbb\xbf# CMS\n\n low , high,note,count\n1,2,first,3\n  # between\n2,4,"a, b",5.0\n \n4,5,,6e0\n'
    spectrum = csv_spectrum(data, "s.csv")
    np.testing.assert_array_equal(spectrum.edges, [1, 2, 4, 5])
    np.testing.assert_array_equal(spectrum.counts, [3, 5, 6])
    assert spectrum.variances is None


def test_csv_columns_of_other_names() -> None:
    data = b"xmin,xmax,N,low\n1,2,3,x\n2,4,5,x\n"
    spectrum = csv_spectrum(data, "s.csv", "low=xmin, high=xmax,count=N")
    np.testing.assert_array_equal(spectrum.counts, [3, 5])


def test_csv_of_weights() -> None:
    spectrum = csv_spectrum(b"low,high,count,variance\n1,2,3.5,2\n2,4,5,7\n", "s.csv")
    np.testing.assert_array_equal(spectrum.variances, [2, 7])  # type: ignore[arg-type]
    named = csv_spectrum(b"low,high,count,w2\n1,2,3.5,2\n2,4,5,7\n", "s.csv", "variance=w2")
    np.testing.assert_array_equal(named.variances, [2, 7])  # type: ignore[arg-type]


@pytest.mark.parametrize(("per", "factor"), [("GeV", 1.0), ("TeV", 1e-3), ("MeV", 1e3)])
def test_values_per_unit_of_mass_are_multiplied_by_the_width(per: str, factor: float) -> None:
    data = b"low,high,count,variance\n1000,1500,3.5,0.2\n1500,2500,5,0.7\n"
    spectrum = csv_spectrum(data, "s.csv", f"per={per}")
    np.testing.assert_allclose(spectrum.counts, [3.5 * 500 * factor, 5 * 1000 * factor])
    np.testing.assert_allclose(spectrum.variances, [0.2 * (500 * factor) ** 2, 0.7 * (1000 * factor) ** 2])  # type: ignore[arg-type]


def test_the_published_cross_section_is_counts_over_luminosity(data_dir: Any) -> None:
    """Counts of the file were rounded from dσ/dm (pb/TeV) x width x 137/fb; `per=TeV` gives those back, over 137/fb."""
    data = (data_dir / "hepdata" / "cms_dijet_137fb_ins1764471.csv").read_bytes()
    counts = csv_spectrum(data, "cms.csv").counts
    with pytest.raises(FitError, match=r"count of the bin 1530 to 1607 GeV is 11\.4945.*, no integer"):
        csv_spectrum(data, "cms.csv", "count=dsigma_dmjj_pb_per_TeV,per=TeV")
    columns = "count=dsigma_dmjj_pb_per_TeV,variance=dsigma_dmjj_pb_per_TeV,per=TeV"
    np.testing.assert_allclose(csv_spectrum(data, "cms.csv", columns).counts * 137_000, counts, atol=0.5)


@pytest.mark.parametrize(
    ("data", "columns", "message"),
    [
        (b"", None, "s.csv has no rows; expected a line of names"),
        (b"low,high,count\n", None, "has no rows"),
        (b"\xff\xfe", None, "s.csv is no CSV file: .* can't decode"),
        (b'low,high,count\n1,2,"3\n', None, "s.csv is no CSV file: unexpected end of data"),
        (b"mass,count\n1,2\n", None, "unknown column of s.csv 'low'; known: count, mass. Name it with --columns low=NAME"),
        (b"low,high,counts\n1,2,3\n", None, "unknown column of s.csv 'count'; did you mean counts"),
        (b"low,high,count\n1,2,3\n", "variance=w2", "unknown column of s.csv 'w2'"),
        (b"low,high,count,low\n1,2,3,4\n", None, "has two columns 'low'; rename one"),
        (b"low,high,count\n# x\n1,2,3\n2,3\n", None, "s.csv, line 4: 2 fields; expected 3"),
        (b"low,high,count\n1,2,abc\n", None, "s.csv, line 2, count: 'abc' is no number"),
        (b"low,high,count\n1,2,-\n", None, "'-' is no number; give one, or leave the row out"),
        (b"low,high,count\n1,2,3\n", "cuont=N", "unknown key of --columns 'cuont'; did you mean count"),
        (b"low,high,count\n1,2,3\n", "count", "--columns has 'count'; expected WHAT=NAME"),
        (b"low,high,count\n1,2,3\n", "count=a,count=b", "--columns gives 'count' twice"),
        (b"low,high,count\n1,2,3\n", "per=eV", "unknown unit of per= 'eV'; did you mean"),
    ],
)  # fmt: skip
def test_csv_that_cannot_be_read(data: bytes, columns: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        csv_spectrum(data, "s.csv", columns)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,2,3\n3,4,5", "s.csv: gap between bins, 2 to 3 GeV"),
        ("1,2,3\n2,4,nan", "s.csv: count of the bin 2 to 4 GeV is nan"),
        ("1,2,-3", "s.csv: count of the bin 1 to 2 GeV is -3"),
        ("1,2,1e999", "count of the bin 1 to 2 GeV is inf"),
    ],
)
def test_csv_that_makes_no_spectrum(rows: str, message: str) -> None:
    with pytest.raises(FitError, match=message):
        csv_spectrum(f"low,high,count\n{rows}\n".encode(), "s.csv")


@pytest.mark.parametrize("content", [submitted([3, 5.0, "6"]), as_json([3, 5, 6.0])])
def test_hepdata(content: dict[str, Any]) -> None:
    assert is_hepdata(content)
    spectrum = hepdata_spectrum(content, "t")
    np.testing.assert_array_equal(spectrum.edges, [500, 520, 560, 600])
    np.testing.assert_array_equal(spectrum.counts, [3, 5, 6])
    assert spectrum.variances is None


@pytest.mark.parametrize(("units", "factor"), [("TeV", 1e3), ("GEV", 1.0), ("MeV", 1e-3), ("", 1.0)])
def test_hepdata_masses_are_brought_to_gev(units: str, factor: float) -> None:
    spectrum = hepdata_spectrum(submitted([3, 5, 6], units=units), "t")
    np.testing.assert_allclose(spectrum.edges, np.array([500, 520, 560, 600]) * factor)


def test_hepdata_density() -> None:
    spectrum = hepdata_spectrum(submitted([0.35, 0.125, 0.15]), "t", "per=GeV")
    np.testing.assert_array_equal(spectrum.counts, [7, 5, 6])


@pytest.mark.parametrize("unit", ["Events / GeV", "Events/GEV", "GEV^{-1}", "GeV**-1"])
def test_hepdata_density_is_not_taken_for_counts(unit: str) -> None:
    with pytest.raises(InputError, match="is no number of events; give --columns per=GeV to multiply"):
        hepdata_spectrum(as_json([3, 5, 6], f"N [{unit}]"), "t")
    content = submitted([3, 5, 6])
    content["dependent_variables"][0]["header"]["units"] = unit
    with pytest.raises(InputError, match=re.escape(f"'Events [{unit}]' is no number of events")):
        hepdata_spectrum(content, "t")
    assert hepdata_spectrum(as_json([3, 5, 6], f"N [{unit}]"), "t", "per=bin").counts.sum() == 14
    assert hepdata_spectrum(as_json([3, 5, 6], "Events / 20 GeV"), "t").counts.sum() == 14


def test_hepdata_statistical_errors_make_weights() -> None:
    values = [
        {"value": 3.5, "errors": [{"symerror": 2.0, "label": "stat"}, {"symerror": 9, "label": "sys"}]},
        {"value": 2.5, "errors": [{"asymerror": {"plus": 1.5, "minus": -0.5}}]},
        {"value": 5.0, "errors": [{"symerror": "20%", "label": "stat"}, {"asymerror": {"plus": 1, "minus": -1}, "label": "sys,lumi"}]},
    ]  # fmt: skip
    for content in (submitted(values), as_json(values)):
        np.testing.assert_allclose(hepdata_spectrum(content, "t").variances, [4.0, 1.0, 1.0])  # type: ignore[arg-type]


def test_hepdata_counts_with_poisson_errors_are_counts() -> None:
    counts = np.array([0, 3, 1_000_000])
    up = (
        gammainccinv(counts + 1, 0.1587) - counts
    )  # the central interval of F. Garwood, Biometrika 28 (1936) 437
    down = counts - np.array([0, *gammaincinv(counts[1:], 0.1587)])
    garwood = [
        {"value": int(n), "errors": [{"asymerror": {"plus": float(u), "minus": -float(d)}}]}
        for n, u, d in zip(counts, up, down, strict=True)
    ]
    roots = [{"value": int(n), "errors": [{"symerror": round(float(np.sqrt(n)), 1)}]} for n in counts]
    scaled = [{"value": 5 * int(n), "errors": [{"symerror": 5.0 * float(np.sqrt(n))}]} for n in counts]
    assert hepdata_spectrum(submitted(garwood), "t").variances is None
    assert hepdata_spectrum(submitted(roots), "t").variances is None
    np.testing.assert_allclose(hepdata_spectrum(submitted(scaled), "t").variances, 25.0 * counts)  # type: ignore[arg-type]


def test_hepdata_columns() -> None:
    content = submitted([3, 5, 6], name="N, all")
    content["dependent_variables"] += submitted([7, 8, 9], name="other")["dependent_variables"]
    with pytest.raises(
        InputError,
        match="t has 2 dependent variables; choose one with --columns count=: 1 'N, all', 2 'other'",
    ):
        hepdata_spectrum(content, "t")
    assert hepdata_spectrum(content, "t", "count=1").counts[0] == 3
    assert hepdata_spectrum(content, "t", "count=other").counts[0] == 7
    for wrong in ("3", "0", "others", "²"):
        with pytest.raises(
            InputError, match=f"'{wrong}' is not one of its dependent variables; give the position"
        ):
            hepdata_spectrum(content, "t", f"count={wrong}")
    with pytest.raises(UnknownName, match="unknown key of --columns 'low'"):
        hepdata_spectrum(content, "t", "low=x")


def test_hepdata_headers_over_several_columns() -> None:
    content = as_json([3, 5, 6])
    content["headers"][1]["colspan"] = 2
    for row in content["values"]:
        row["y"].append({"value": "9"})
    assert hepdata_spectrum(content, "t", "count=2").counts.sum() == 27
    content["headers"][1]["colspan"] = 10**12
    assert hepdata_spectrum(content, "t", "count=1").counts.sum() == 14


def _without(content: dict[str, Any], *path: Any, put: Any = None) -> dict[str, Any]:
    """A table with one item replaced."""
    content = copy.deepcopy(content)
    node: Any = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = put
    return content


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_without(submitted([3, 5, 6]), "independent_variables", put=[]), "t has 0 independent variables; a spectrum has one"),
        (_without(submitted([3, 5, 6]), "dependent_variables", put=[]), "t has no dependent variable"),
        (_without(submitted([3, 5, 6]), "dependent_variables", 0, "values", put=[]), "t: 3 masses and 0 values"),
        (_without(submitted([3, 5, 6]), "dependent_variables", 0, "values", put=5), "t: values of dependent_variables is no list"),
        (_without(submitted([3, 5, 6]), "dependent_variables", put=5), "t: dependent_variables is no list of mappings"),
        (_without(submitted([3, 5, 6]), "independent_variables", 0, "values", 1, put={"value": 4}), r"t, row 2: 'M \[GeV\]' is a point"),
        (submitted([3, "-", 6]), "t, row 2: '-' is no number"),
        (submitted([3, None, 6]), "t, row 2: a value of type NoneType is no number"),
        (submitted([3, ENDLESS, 6]), "t, row 2: a value of type list is no number"),
        (submitted([3, True, 6]), "a value of type bool is no number"),
        (submitted([3, 10**400, 6]), "a value of type int is no number"),
        (submitted([3.5, {"value": 4, "errors": [{"symerror": "x"}]}, 6]), "t, row 2, error: 'x' is no number"),
        (_without(as_json([3, 5, 6]), "values", 0, "y", put=5), "t: y of values is no list of mappings"),
        (_without(as_json([3, 5, 6]), "values", 0, "y", put=[]), "t: its rows differ in length"),
        (_without(as_json([3, 5, 6]), "values", put=[]), "t has 0 independent variables"),
    ],
)  # fmt: skip
def test_hepdata_that_cannot_be_read(content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        hepdata_spectrum(content, "t")


def test_hepdata_that_makes_no_spectrum() -> None:
    with pytest.raises(FitError, match=r"is 3.5, no integer; .* HEPData errors"):
        hepdata_spectrum(submitted([3.5, 1, 2]), "t")
    with pytest.raises(FitError, match="variance of the bin 520 to 560 GeV is nan"):
        hepdata_spectrum(submitted([{"value": 3.5, "errors": [{"symerror": 1}]}, 1.5, 2]), "t")
    assert not is_hepdata({"headers": []})
    assert not is_hepdata([1])
