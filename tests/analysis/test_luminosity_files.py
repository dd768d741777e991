"""Files of brilcalc: real ones against coffea, all units, and every malformed line's message."""

import re
from pathlib import Path

import numpy as np
import pytest

from trila.analysis.luminosity_files import read_luminosity, read_prescales
from trila.corrections.lumi import blocks
from trila.corrections.prescales import prescale_of
from trila.processors.errors import InputError, UnknownName

HEADER = "#run:fill,ls,time,beamstatus,E(GeV),delivered({unit}),recorded({unit}),avgpu,source"
PATHS = "# run,cmsls,prescidx,totprescval,hltpath/prescval,logic,l1bit/prescval"


def lumi_file(folder: Path, *rows: str, unit: str = "/pb") -> str:
    """Rows are "run:fill,ls:ls,delivered,recorded"."""
    lines = ["#Data tag : 19v2 , Norm tag: None", HEADER.format(unit=unit)]
    for row in rows:
        run, ls, *luminosity = row.split(",")
        lines.append(
            ",".join((run, ls, "06/16/17 20:55:44", "STABLE BEAMS", "6500", *luminosity, "40.3", "HFET"))
        )
    lines += ["#Summary:", "#nfill,nrun,nls,ncms,totdelivered(/pb),totrecorded(/pb)", "#1,1,3,3,0.4,0.3"]
    path = folder / "lumi.csv"
    path.write_text("\r\n".join(lines) + "\r\n")
    return str(path)


def prescale_file(folder: Path, *lines: str) -> str:
    path = folder / "prescales.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize("name", ["lumi_small.csv", "small_lumi.csv"])
def test_real_files_against_a_loop(data_dir: Path, name: str) -> None:
    path = data_dir / "lumi" / name
    rows = [line.split(",") for line in path.read_text().splitlines() if not line.startswith("#")]
    expected = {
        (int(row[0].split(":")[0]), int(row[1].split(":")[0])): (float(row[5]), float(row[6])) for row in rows
    }
    found = read_luminosity(str(path))
    keys = zip(
        (found.block >> np.uint64(32)).tolist(), (found.block & np.uint64(2**32 - 1)).tolist(), strict=True
    )
    assert dict(zip(keys, zip(found.delivered, found.recorded, strict=True), strict=True)) == expected


@pytest.mark.slow
def test_real_file_against_coffea(data_dir: Path) -> None:
    from coffea.lumi_tools import LumiData

    path = str(data_dir / "lumi/lumi_small.csv")
    found = read_luminosity(path)
    pairs = np.stack([found.block >> np.uint64(32), found.block & np.uint64(2**32 - 1)], axis=1)
    assert found.recorded.sum() == pytest.approx(LumiData(path).get_lumi(pairs), rel=1e-13)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("/ub", 1e-6), ("/nb", 1e-3), ("/pb", 1.0), ("/fb", 1e3), ("1e30/cm2", 1e-6), ("1e36/cm2", 1.0),
        ("hz/ub", 23.31e-6), ("1e30/cm2s", 23.31e-6), ("1e34/cm2s", 0.2331),
    ],
)  # fmt: skip
def test_units(tmp_path: Path, unit: str, factor: float) -> None:
    """Lines in any order; "13:0" is a block in which the experiment did not run."""
    path = lumi_file(tmp_path, "7:1,12:12,4,3.5", "7:1,11:11,3.,2E0", "7:1,13:0,.5,0", unit=unit)
    found = read_luminosity(path)
    assert found.block.tolist() == blocks([7, 7, 7], [11, 12, 13]).tolist()
    np.testing.assert_allclose(found.delivered, factor * np.array([3.0, 4.0, 0.5]), rtol=1e-14)
    np.testing.assert_allclose(found.recorded, factor * np.array([2.0, 3.5, 0.0]), rtol=1e-14)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("/xb", "unknown unit '/xb', expected one of /kb, .* make it with -u /pb"),
        ("hz/nb", "some versions .* hz/pb"),
    ],
)
def test_refused_units(tmp_path: Path, unit: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_luminosity(lumi_file(tmp_path, "7:1,12:12,4,3", unit=unit))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("7:1,12:12,5,5", "line 5: run 7, luminosity block 12 was given in line 3 already; leave one"),
        ("7:1,14:14,5,nan", r"line 5: recorded\(/pb\) is 'nan', expected a number that is not negative"),
        ("7:1,14:14,-5,1", r"line 5: delivered\(/pb\) is '-5', expected a number that is not negative"),
        ("7:1,14:14,5,many", r"line 5: recorded\(/pb\) is 'many'"),
        ("7:1,14:15,5,5", "line 5: ls is '14:15', two different blocks"),
        ("7:1,a:a,5,5", "line 5: ls is 'a:a', expected a luminosity block"),
        ("x:1,14:14,5,5", "line 5: run:fill is 'x:1', expected run:fill, two numbers"),
        ("9999999999:1,14:14,5,5", "line 5: run is 9999999999, expected at most 4294967295"),
        ("7:1,14:14,5", "line 5: 8 columns, expected 9"),
    ],
)
def test_malformed_lines(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_luminosity(lumi_file(tmp_path, "7:1,12:12,4,3", "7:1,13:13,4,3", row))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "#run:fill,time,nls,ncms,delivered(/ub),recorded(/ub)\n7:1,x,2,2,1,1\n",
            "expected run:fill and ls; make it",
        ),
        ("#run:fill,ls,delivered(/pb)\n7:1,1:1,2\n", r"expected one recorded\(unit\)"),
        ("#run:fill,ls,hltpath,delivered(/pb),recorded(/pb)\n7:1,1:1,HLT,1,1\n", "make it without --hltpath"),
        (HEADER.format(unit="/fb") + "\n7:1,1:1,t,b,1,0.000,0.000,1,s\n", "rounded away.*-u /ub"),
    ],
)
def test_other_tables(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "lumi.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_luminosity(str(path))


def at(path: str, trigger: str, run: list[int], ls: list[int]) -> list[float]:
    return prescale_of(read_prescales(path, [trigger]).ranges[trigger], blocks(run, ls)).tolist()


def test_prescales_of_brilcalc(tmp_path: Path) -> None:
    """A row is in force until the next of its run; lines in any order; another trigger's rows do not matter."""
    path = prescale_file(
        tmp_path,
        PATHS,
        "8,1,2,5,HLT_A_v2/5,ONE,L1_X/1",
        "7,14,3,0,HLT_A_v1/0,ONE,L1_X/1",
        "7,1,4,12000,HLT_A_v1/20,ONE,L1_X/600",
        "7,20,4,9,HLT_B_v1/9,ONE,L1_X/1",
        "9,None,4,9,HLT_A_v1/9,ONE,L1_X/1",
    )
    expected = [12000.0, 12000.0, 0.0, 0.0, 5.0, np.nan, np.nan]
    run, ls = [7, 7, 7, 7, 8, 8, 9], [1, 13, 14, 5000, 2**32 - 1, 0, 1]
    np.testing.assert_array_equal(at(path, "HLT_A", run, ls), expected)
    np.testing.assert_array_equal(at(path, "HLT_A_v7", run, ls), expected)


def test_a_disabled_seed_does_not_disable_a_path(tmp_path: Path) -> None:
    """brilcalc's total of an OR of seeds is that of the smallest prescale, and 0 if one of the seeds is disabled."""
    path = prescale_file(
        tmp_path,
        PATHS,
        "7,1,1,0,HLT_A_v1/5,OR,L1_X/0 L1_Y/4 L1_Z/6",
        "7,2,1,0,HLT_A_v1/0,OR,L1_X/1 L1_Y/4",
        "7,3,1,0,HLT_A_v1/5,OR,L1_X/0 L1_Y/0",
        "7,4,1,0,HLT_A_v1/5,AND,L1_X/0 L1_Y/1",
        "7,5,1,20,HLT_A_v1/5,OR,L1_X/4 L1_Y/8",
    )
    assert at(path, "HLT_A", [7] * 5, [1, 2, 3, 4, 5]) == [20.0, 0.0, 0.0, 0.0, 20.0]


def test_shared_seeds(tmp_path: Path) -> None:
    """Only seeds that have a prescale, of triggers that were asked for."""
    path = prescale_file(
        tmp_path,
        PATHS,
        "7,1,1,50,HLT_A_v1/5,OR,L1_X/10 L1_Y/1",
        "7,1,1,50,HLT_B_v1/5,OR,L1_Y/1 L1_X/10",
        "7,1,1,50,HLT_C_v1/5,ONE,L1_Y/1",
    )
    assert read_prescales(path, ["HLT_B", "HLT_C", "HLT_A"]).shared_seeds == {"L1_X": ("HLT_B", "HLT_A")}
    assert read_prescales(path, ["HLT_A", "HLT_C"]).shared_seeds == {}


def test_plain_prescales(tmp_path: Path) -> None:
    path = prescale_file(
        tmp_path,
        "run,ls,trigger,prescale",
        "7,11-20,HLT_A,2.5",
        "7,1-10,HLT_A,4",
        "7,30,HLT_A,1",
        "7,1-30,HLT_B,0",
    )
    assert at(path, "HLT_A", [7] * 4, [1, 10, 11, 20]) == [4.0, 4.0, 2.5, 2.5]
    np.testing.assert_array_equal(at(path, "HLT_A", [7] * 3, [21, 30, 31]), [np.nan, 1.0, np.nan])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7,10-12,HLT_A,2", "line 3: the same trigger, run and luminosity block as in line 2; leave one"),
        ("7,20-12,HLT_A,2", "line 3: ls is '20-12', expected first-last"),
        ("7,all,HLT_A,2", "line 3: ls is 'all', expected a luminosity block, or first-last"),
        ("7,11,HLT_A,0.5", "line 3: prescale is 0.5, expected a prescale: 0, or 1 and more"),
        ("7,11,HLT_A,-1", "line 3: prescale is '-1', expected a prescale: 0, or 1 and more"),
        ("B,11,HLT_A,1", "line 3: run is 'B', expected a run"),
    ],
)
def test_malformed_plain_prescales(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_prescales(prescale_file(tmp_path, "run,ls,trigger,prescale", "7,1-10,HLT_A,4", line), ["HLT_A"])


def test_malformed_prescales_of_brilcalc(tmp_path: Path) -> None:
    row = "7,1,1,5,HLT_A_v1/5,ONE,L1_X/1"
    for line, message in (
        (row, "line 3: the same trigger, run and luminosity block as in line 2"),
        (
            "7,2,1,5,HLT_A_v1,ONE,L1_X/1",
            "line 3: hltpath/prescval is 'HLT_A_v1', expected a path and its prescale",
        ),
        ("7,b,1,5,HLT_A_v1/5,ONE,L1_X/1", "line 3: cmsls is 'b', expected a luminosity block"),
    ):
        with pytest.raises(InputError, match=message):
            read_prescales(prescale_file(tmp_path, PATHS, row, line), ["HLT_A"])
    path = prescale_file(tmp_path, PATHS, row)
    with pytest.raises(UnknownName, match=re.escape(f"did you mean HLT_A? They are those of {path}.")):
        read_prescales(path, ["HLT_AA"])
    path = prescale_file(tmp_path, "# run,cmsls,prescidx", "7,1,3")
    with pytest.raises(
        InputError, match=r"has columns run,cmsls,prescidx, expected others; make it with .*--hltpath"
    ):
        read_prescales(path, ["HLT_A"])
