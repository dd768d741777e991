"""Text files of CMS jet corrections: what is read from them, and what is refused, with its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from trila.corrections.cms_text import FileName, parse, parse_name
from trila.corrections.jets import CorrectionError

FACTOR = """# a comment
{ 1 JetEta 2 JetPt Rho [0]+[1]*x*y Correction L1FastJet}

-1.3 0 6 4 1000 0 60 1.5 -2e-3
+0.0 1.3 6 4 2000 0 70 1.25 0
"""
UNCERTAINTY = """[One]
{1 JetEta 1 JetPt "" Correction JECSource}
-5 5 6 10 0.01 0.01 100 0.02 0.02
[Two]
{1 JetEta 1 JetPt "" Correction JECSource}
-5 0 3 10 0.01 0.01
 0 5 3 10 -.03 -.03
"""


def write(folder: Path, content: str, name: str = "a.txt") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.jec.txt.gz"])
def test_factors(tmp_path: Path, name: str) -> None:
    (table,) = parse(write(tmp_path, FACTOR, name))
    assert (table.section, table.kind, table.formula) == ("", "correction", "[0]+[1]*x*y")
    assert (table.binned, table.variables) == (("JetEta",), ("JetPt", "Rho"))
    assert table.bins == (((-1.3, 0.0),), ((0.0, 1.3),))
    assert table.ranges == (((4, 1000), (0, 60)), ((4, 2000), (0, 70)))
    assert table.parameters == ((1.5, -0.002), (1.25, 0))


def test_sections_and_uncertainties(tmp_path: Path) -> None:
    one, two = parse(write(tmp_path, UNCERTAINTY))
    assert [one.section, two.section] == ["One", "Two"]
    assert one.kind == two.kind == "uncertainty"
    assert one.parameters == ((10, 0.01, 0.01, 100, 0.02, 0.02),)
    assert two.parameters == ((10, 0.01, 0.01), (10, -0.03, -0.03))
    assert two.ranges == ((), ())


def test_resolutions_and_scale_factors(tmp_path: Path) -> None:
    (table,) = parse(write(tmp_path, "{1 JetEta 1 JetPt [0]/x Resolution}\n0 5 3 10 100 2\n"))
    assert (table.kind, table.ranges, table.parameters) == ("resolution", (((10, 100),),), ((2,),))
    (table,) = parse(write(tmp_path, "{1 JetEta 0 None ScaleFactor}\n0 5 3 1.1 1.0 1.2\n"))
    assert (table.kind, table.formula, table.parameters) == ("scale factor", "", ((1.1, 1.0, 1.2),))


def test_real_files_are_read_whole(data_dir: Path) -> None:
    """Rows and sections as `grep -c` counts them."""
    tables = {path.name.split("_")[-2]: parse(path) for path in (data_dir / "jec").glob("Summer22*.txt.gz")}
    assert {level: len(found) for level, found in tables.items()} == {
        "L1FastJet": 1, "L2Relative": 1, "L3Absolute": 1, "L2L3Residual": 1, "PtResolution": 1, "SF": 1,
        "UncertaintySources": 52,
    }  # fmt: skip
    rows = {level: sum(len(table.bins) for table in found) for level, found in tables.items()}
    assert rows["L2Relative"] == 82
    assert rows["SF"] == 652
    assert rows["PtResolution"] == 342
    assert rows["UncertaintySources"] == 52 * 40


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "Summer22_22Sep2023_V3_MC_L2Relative_AK4PFPuppi.jec.txt.gz",
            FileName("Summer22_22Sep2023_V3", "MC", "L2Relative", "AK4PFPuppi", False),
        ),
        (
            "RegroupedV2_Summer22_V3_MC_UncertaintySources_AK4PFPuppi.junc.txt",
            FileName("Summer22_V3", "MC", "UncertaintySources", "AK4PFPuppi", True),
        ),
        (
            "Autumn18_RunA_V10_DATA_DataMcSF_L1RC_AK4PF.txt",
            FileName("Autumn18_RunA_V10", "DATA", "DataMcSF_L1RC", "AK4PF", False),
        ),
        ("hlt.txt", None),
        ("hlt_MC_L2.txt", None),
    ],
)
def test_names(name: str, expected: FileName | None) -> None:
    stem, parts = parse_name(Path("some_MC_folder") / name)
    assert parts == expected
    assert name.startswith(stem)
    assert "." not in stem


HEADER = "{1 JetEta 1 JetPt [0]+[1]*x Correction L2Relative}\n"
JUNC = '{1 JetEta 1 JetPt "" Correction Uncertainty}\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no table of jet corrections in it"),
        ("../other/file.txt", r"line 1: '../other/file.txt' is no header of jet corrections; expected \{n binning"),
        ("{1 JetEta 1 JetPt}", "is no header of jet corrections"),
        (HEADER, "table: a header but no rows; the file is not complete"),
        ("[A]\n[B]\n" + HEADER + "0 1 4 1 2 1 1", r"section \[A\] is empty"),
        (f"[A]\n{HEADER}0 1 4 1 2 1 1\n[A]\n{HEADER}0 1 4 1 2 1 1", r"section \[A\] is there twice"),
        (HEADER + "0 1 4 1 2 1", "line 2: 6 numbers; expected 2 bin edges, the number of those that follow, and at l"),
        (HEADER + "0 1 3 1 2 1", "line 2: 6 numbers; .* and at least 4 more"),
        (HEADER + "0 1 4 1 2 1 one", "line 2: could not convert string to float: 'one'; expected numbers only"),
        (HEADER + "0 1 4 1 2 1 nan", "line 2: not all numbers are finite"),
        (HEADER + "1 0 4 1 2 1 1", "line 2: JetEta from 1 to 0; expected the lower end first"),
        (HEADER + "0 1 4 3 2 1 1", "line 2: JetPt from 3 to 2; expected the lower end first"),
        (JUNC + "0 1 4 10 1 1 20", "line 2: expected JetPt, up and down in turn, in rising order"),
        (JUNC + "0 1 6 10 1 1 10 1 1", "line 2: expected JetPt, up and down in turn, in rising order"),
        ("{1 JetEta 1 JetPt x Response L2}\n0 1 2 1 2", "line 1: 'x Response L2' cannot be converted; expected a f"),
        ("{1 JetEta 1 JetPt x ScaleFactor}\n0 1 2 1 2", "line 1: 'x ScaleFactor' cannot be converted"),
        ("{0 1 JetPt x Correction L2}\n2 1 2", "line 1: expected one binning variable or more, and none twice"),
        ('{1 JetEta 2 JetPt Rho "" Correction U}\n0 1 3 1 2 3', "line 1: 2 variables of an uncertainty; expected 1"),
        ("{1 JetEta 5 a b c d e x Correction U}\n0 1 3 1 2 3", r"line 1: 5 variables in a formula; expected 4 at m"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(CorrectionError, match=says):
        parse(write(tmp_path, content))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CorrectionError, match=r"none\.txt: no such file; check the path"):
        parse(tmp_path / "none.txt")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(FACTOR.encode())[:40])
    with pytest.raises(CorrectionError, match=r"b\.txt\.gz is damaged, or is not text"):
        parse(tmp_path / "b.txt.gz")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorrectionError, match=r"c\.txt is damaged, or is not text"):
        parse(tmp_path / "c.txt")
