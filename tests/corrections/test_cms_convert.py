"""CMS text files as correctionlib: the same numbers as coffea, as the official files, and as the text itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coffea.lookup_tools import extractor

from trila.corrections import correction_set, jets
from trila.corrections.cms_convert import convert
from trila.corrections.cms_text import parse, parse_name
from trila.corrections.jets import CorrectionError

POINTS = 20_000
TAG = "Summer22_22Sep2023"


def made(folder: Path, content: str, name: str = "a.txt", tag: str | None = None) -> str:
    """Path of the converted file of a text file with this content."""
    (folder / name).write_text(content)
    correction_set.write(convert([folder / name], tag), folder / "c.json.gz")
    return str(folder / "c.json.gz")


# ---- against coffea and the official files


def points(seed: int) -> dict[str, Any]:
    """Jets within and beyond all bins."""
    rng = np.random.default_rng(seed)
    return {
        "JetEta": rng.uniform(-5.6, 5.6, POINTS),
        "JetPt": np.exp(rng.uniform(np.log(2), np.log(7000), POINTS)),
        "Rho": rng.uniform(0, 90, POINTS),
        "JetA": rng.uniform(0.1, 1.2, POINTS),
    }


LEVELS = [
    f"{TAG}_V3_MC_{level}_AK4PFPuppi.jec.txt.gz"
    for level in ("L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual")
]
RESOLUTION = [
    f"{TAG}_JRV1_MC_PtResolution_AK4PFPuppi.jr.txt.gz",
    f"{TAG}_JRV1_MC_SF_AK4PFPuppi.jersf.txt.gz",
]
FALL = [
    "Fall17_17Nov2017_V32_MC_L2Relative_AK4PFPuppi.jec.txt",
    "Fall17_17Nov2017_V32_MC_Uncertainty_AK4PFPuppi.junc.txt",
]
SOURCES = [
    f"RegroupedV2_{TAG}_V3_MC_UncertaintySources_AK4PFPuppi.junc.txt.gz",
    f"{TAG}_V3_MC_UncertaintySources_AK4PFPuppi.junc.txt.gz",
]
FILES = [*LEVELS, *RESOLUTION, *FALL, *(pytest.param(file, marks=pytest.mark.slow) for file in SOURCES)]


def converted(folder: Path, data_dir: Path, *files: str) -> str:
    """Path of the converted file of these files of the test data."""
    correction_set.write(convert([data_dir / "jec" / file for file in files]), folder / "converted.json.gz")
    return str(folder / "converted.json.gz")


def test_all_files_are_compared(data_dir: Path) -> None:
    files = [*LEVELS, *RESOLUTION, *FALL, *SOURCES]
    assert sorted(path.name for path in (data_dir / "jec").glob("*.txt*")) == sorted(files)


@pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning")  # coffea 2026.9
@pytest.mark.parametrize("file", FILES)
def test_agrees_with_coffea(data_dir: Path, tmp_path: Path, file: str) -> None:
    """coffea holds edges as float32: jets within 1e-6 of an edge may fall on its other side."""
    path = data_dir / "jec" / file
    lookups = extractor()
    lookups.add_weight_sets([f"* * {path}"])
    lookups.finalize()
    evaluator = lookups.make_evaluator()
    columns = points(3)
    ours = converted(tmp_path, data_dir, file)
    stem, _ = parse_name(path)
    tables = parse(path)
    names = jets.names(ours)
    assert len(names) == len(tables) == len(evaluator.keys())
    for table in tables:
        name = next(
            name for name in names if name.endswith(f"_{table.section}_AK4PFPuppi" * bool(table.section))
        )
        lookup = evaluator["_".join(filter(None, [stem, table.section]))]
        expected = np.asarray(lookup(*(columns[variable] for variable in lookup.signature)))
        if table.kind == "scale factor":
            choices = [{"systematic": choice} for choice in ("nom", "up", "down")]
            found = np.stack([jets.evaluate(ours, name, columns, choice) for choice in choices], axis=1)
        else:
            found = jets.evaluate(ours, name, columns)
        if table.kind == "uncertainty":
            found = np.stack([1 + found, 1 - found], axis=1)
        far = np.ones(POINTS, dtype=bool)
        for i, variable in enumerate(table.binned):
            edges = np.unique([row[i] for row in table.bins])
            far &= np.abs(columns[variable][:, None] - edges).min(axis=1) > 1e-6
        assert far.sum() > POINTS - 10
        np.testing.assert_allclose(found[far], expected[far], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("files", [[*LEVELS, *RESOLUTION], pytest.param(SOURCES, marks=pytest.mark.slow)])
def test_agrees_with_the_official_file(data_dir: Path, tmp_path: Path, files: list[str]) -> None:
    """Names, inputs, and values within the bins; its parameters are rounded to float32."""
    official = str(data_dir / "jec/jet_jerc_Summer22_V3.json.gz")
    ours = converted(tmp_path, data_dir, *files)
    names = jets.names(ours)
    assert set(names) <= set(jets.names(official))
    columns = points(4)
    inside = (np.abs(columns["JetEta"]) < 5.19) & (columns["JetPt"] > 10) & (columns["JetPt"] < 4000)
    inside &= columns["Rho"] < 60
    columns = {name: values[inside] for name, values in columns.items()}
    for name in names:
        assert jets.required_inputs(official, name) == jets.required_inputs(ours, name)
        for choice in ("nom", "up", "down") if "_ScaleFactor_" in name else ("",):
            expected = jets.evaluate(official, name, columns, {"systematic": choice})
            found = jets.evaluate(ours, name, columns, {"systematic": choice})
            np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7, err_msg=name)


@pytest.mark.slow
def test_all_official_names_of_simulation_are_made(data_dir: Path, tmp_path: Path) -> None:
    official = jets.names(str(data_dir / "jec/jet_jerc_Summer22_V3.json.gz"))
    ours = jets.names(converted(tmp_path, data_dir, *LEVELS, *RESOLUTION, *SOURCES))
    assert sorted(ours) == sorted(name for name in official if "_MC_" in name)


def at(**values: Any) -> dict[str, Any]:
    return {name: np.atleast_1d(value).astype(float) for name, value in values.items()}


def test_published_full_correction(data_dir: Path, tmp_path: Path) -> None:
    """Summer22 V3, AK4 PUPPI, simulation (values of correctionlib 2.9 for the official file)."""
    pt = np.array([15.0, 30.0, 100.0, 300.0, 1000.0, 3000.0])
    expected = [1.09166563, 1.07683638, 1.06592315, 1.05961002, 1.04967788, 1.01886206]
    columns = at(JetPt=pt, JetEta=np.full(6, 0.1), JetA=np.full(6, 0.5), Rho=np.full(6, 30.0))
    ours = converted(tmp_path, data_dir, *LEVELS)
    for file in (ours, str(data_dir / "jec/jet_jerc_Summer22_V3.json.gz")):
        found = jets.evaluate(file, f"{TAG}_V3_MC_L1L2L3Res_AK4PFPuppi", columns)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_published_steps_in_data(data_dir: Path) -> None:
    """Each step sees the momentum that the ones before have made: eta 2, 100 GeV, first eras of 2022."""
    file = str(data_dir / "jec/jet_jerc_Summer22_V3.json.gz")

    def step(level: str, pt: float) -> float:
        columns = at(JetPt=pt, JetEta=2.0, JetA=0.5, Rho=30.0)
        return float(jets.evaluate(file, f"{TAG}_RunCD_V3_DATA_{level}_AK4PFPuppi", columns)[0])

    first = step("L2Relative", 100.0)
    second = step("L2L3Residual", 100.0 * first)
    assert first == pytest.approx(1.18664114, rel=1e-7)
    assert second == pytest.approx(1.02771342, rel=1e-7)
    assert step("L1L2L3Res", 100.0) == pytest.approx(1.21952703, rel=1e-7)
    assert step("L1L2L3Res", 100.0) == pytest.approx(first * second, rel=1e-12)


def test_published_resolution(data_dir: Path, tmp_path: Path) -> None:
    ours = converted(tmp_path, data_dir, *RESOLUTION)
    for file in (ours, str(data_dir / "jec/jet_jerc_Summer22_V3.json.gz")):
        columns = at(JetPt=[30.0, 100.0, 1000.0], JetEta=[0.1] * 3, Rho=[30.0] * 3)
        resolution = jets.evaluate(file, f"{TAG}_JRV1_MC_PtResolution_AK4PFPuppi", columns)
        np.testing.assert_allclose(resolution, [0.16612396, 0.10055818, 0.04511991], rtol=1e-6)
        factors = [
            jets.evaluate(
                file,
                f"{TAG}_JRV1_MC_ScaleFactor_AK4PFPuppi",
                at(JetPt=100.0, JetEta=0.1),
                {"systematic": key},
            )[0]
            for key in ("nom", "up", "down")
        ]
        np.testing.assert_allclose(factors, [1.128, 1.146, 1.110], rtol=1e-6)


@pytest.mark.slow
def test_published_uncertainty(data_dir: Path, tmp_path: Path) -> None:
    ours = converted(tmp_path, data_dir, SOURCES[1])
    for file in (ours, str(data_dir / "jec/jet_jerc_Summer22_V3.json.gz")):
        total = jets.evaluate(file, f"{TAG}_V3_MC_Total_AK4PFPuppi", at(JetPt=100.0, JetEta=0.1))
        np.testing.assert_allclose(total, [0.01059333], rtol=1e-6)


# ---- formulas and bins


def test_published_scouting_correction_is_constant_beyond_its_range(tmp_path: Path) -> None:
    """Calorimeter scouting jets to particle-flow jets, CMS 2016 (arXiv:1806.00843), in percent, frozen at 993 GeV."""
    content = (
        "{1 JetEta 1 JetPt 1./(1.+([0]+[1]*log(x)+[2]*log(x)^2)/100.) Correction HLT}\n"
        "-5 5 5 20 993.264 -31.7198 8.58611 -0.622092\n"
    )
    file = made(tmp_path, content)
    pt = np.array([50.0, 100.0, 300.0, 993.264, 2000.0, 1e5])
    found = jets.evaluate(file, None, at(JetPt=pt, JetEta=np.zeros(6)))
    np.testing.assert_allclose(found[:3], [1.0828510, 1.0567739, 1.0307695], rtol=1e-7)
    np.testing.assert_allclose(found[3:], 1.0213820, rtol=1e-7)
    below = jets.evaluate(file, None, at(JetPt=[5.0, 20.0], JetEta=[0.0, 0.0]))
    assert below[0] == below[1]


def slow(content: str, jet: dict[str, float], formula: Any) -> float:
    """A correction as the text says it, row by row: the first bin that holds the jet; 1 outside."""
    (header, *rows) = content.strip().splitlines()
    words = header.strip("{}").split()
    n = int(words[0])
    binned, variables = words[1 : n + 1], words[n + 2 : n + 2 + int(words[n + 1])]
    for row in rows:
        numbers = [float(word) for word in row.split()]
        if all(numbers[2 * i] <= jet[v] < numbers[2 * i + 1] for i, v in enumerate(binned)):
            columns = numbers[2 * n + 1 :]
            arguments = [
                min(max(jet[v], columns[2 * i]), columns[2 * i + 1]) for i, v in enumerate(variables)
            ]
            return float(formula(columns[2 * len(variables) :], *arguments))
    return 1.0


# in one eta bin, one phi slice apart, as where a part of the pixel detector is off; in another, pT bins differ by eta
SLICED = """{2 JetEta JetPhi 1 JetPt [0]+[1]*log10(x) Correction L2Relative}
-2.5 -1.5 -3.1416 3.1416 4 8 4000 1.1 0.01
-1.5  0   -3.1416 -1.2   4 8 4000 1.2 0.02
-1.5  0   -1.2    -0.8   4 8 3000 1.9 0.03
-1.5  0   -0.8    3.1416 4 8 4000 1.3 0.04
 0    2.5 -3.1416 3.1416 4 8 4000 1.4 0.05
"""
SPANNING = """{3 JetPhi JetEta JetPt 2 Rho JetPt [0]+[1]*x*log(y) Correction L1FastJet}
-4 4 -3 -1 5   50   6 0 50 10 90 1.1 0.001
-4 4 -3 -1 50  500  6 0 50 10 90 1.2 0.002
-4 0 -1  1 5   500  6 0 40 10 90 1.3 0.003
 0 4 -1  1 5   100  6 0 50 10 80 1.4 0.004
 0 4 -1  1 100 500  6 0 50 10 90 1.5 0.005
-4 4  1  3 5   5000 6 0 50 10 90 1.6 0.006
"""
FLAT = """{1 Rho 0 1.25 Correction L3Absolute}
0 20 0
20 50 0
"""


@pytest.mark.parametrize(
    ("content", "formula"),
    [
        (SLICED, lambda p, x: p[0] + p[1] * math.log10(x)),
        (SPANNING, lambda p, x, y: p[0] + p[1] * x * math.log(y)),
        (FLAT, lambda p: 1.25),
    ],
)
def test_every_binning(tmp_path: Path, content: str, formula: Any) -> None:
    file = made(tmp_path, content)
    rng = np.random.default_rng(5)
    n = 3000
    columns = {
        "JetEta": rng.uniform(-3.5, 3.5, n),
        "JetPhi": rng.uniform(-4, 4, n),
        "JetPt": np.exp(rng.uniform(1, 9, n)),
        "Rho": rng.uniform(0, 60, n),
    }
    columns["JetEta"][:5] = [-2.5, -1.5, 0.0, 2.5, 1.0]  # a lower edge belongs to its bin
    columns["JetPhi"][:5] = [0.0, -1.2, -0.8, 0.0, 0.0]
    jets_of = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    expected = [slow(content, jet, formula) for jet in jets_of]
    assert len(set(expected)) > 1
    np.testing.assert_allclose(jets.evaluate(file, None, columns), expected, rtol=1e-13)


def test_uncertainties_are_lines_between_knots(tmp_path: Path) -> None:
    content = '{1 JetEta 1 JetPt "" Correction U}\n' + "".join(
        f"{low} {low + 1} 12 10 {y[0]} {y[0]} 20 {y[1]} {y[1]} 40 {y[1]} {y[1]} 100 {y[2]} {y[2]}\n"
        for low, y in ((-1, (0.05, 0.02, -0.01)), (0, (0.03, 0.03, 0.03)))
    )
    file = made(tmp_path, content)
    pt = np.array([1.0, 10.0, 13.0, 20.0, 30.0, 40.0, 61.0, 100.0, 5000.0] * 4)
    eta = np.repeat([-0.5, 0.5, -7.0, 7.0], 9)
    expected = [
        np.interp(p, [10, 20, 40, 100], [0.05, 0.02, 0.02, -0.01] if e < 0 else [0.03] * 4)
        for p, e in zip(pt, eta, strict=True)
    ]
    np.testing.assert_allclose(
        jets.evaluate(file, None, at(JetPt=pt, JetEta=eta)), expected, rtol=1e-12, atol=1e-15
    )


# ---- names


LEVEL = "{1 JetEta 1 JetPt [0] Correction L2Relative}\n-5 5 3 1 9999 1.5\n"
SECTION = '[One]\n{1 JetEta 1 JetPt "" Correction S}\n-5 5 3 9 0.1 0.1\n'


def names(folder: Path, files: dict[str, str], tag: str | None = None) -> list[str]:
    for name, content in files.items():
        (folder / name).write_text(content)
    path = folder / "c.json"
    correction_set.write(convert([folder / name for name in files], tag), path)
    model = correction_set.read(path)
    return [item.name for item in [*model.corrections, *model.compound_corrections]]


@pytest.mark.parametrize(
    ("file", "content", "tag", "expected"),
    [
        ("A_V7_DATA_L2Relative_AK4PF.txt", LEVEL, None, "A_V7_DATA_L2Relative_AK4PF"),
        ("A_V7_DATA_L2Relative_AK4PF.jec.txt", LEVEL, "B_V8", "B_V8_DATA_L2Relative_AK4PF"),
        ("A_V7_MC_UncertaintySources_AK8PF.junc.txt", SECTION, None, "A_V7_MC_One_AK8PF"),
        ("Regrouped_A_V7_MC_UncertaintySources_AK8PF.txt", SECTION, None, "A_V7_MC_Regrouped_One_AK8PF"),
        ("mine.txt", LEVEL, None, "mine"),
        ("mine.txt", SECTION, "B", "B_mine_One"),
    ],
)
def test_names(tmp_path: Path, file: str, content: str, tag: str | None, expected: str) -> None:
    assert names(tmp_path, {file: content}, tag) == [expected]


def test_compound_takes_all_levels(tmp_path: Path) -> None:
    levels = ("L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual")
    files = {f"A_V7_MC_{level}_AK4PF.txt": LEVEL for level in reversed(levels)}
    assert names(tmp_path, files)[-1] == "A_V7_MC_L1L2L3Res_AK4PF"
    model = correction_set.read(tmp_path / "c.json")
    assert model.compound_corrections[0].stack == [f"A_V7_MC_{level}_AK4PF" for level in levels]
    assert {item.version for item in model.corrections} == {7}
    found = jets.evaluate(str(tmp_path / "c.json"), "A_V7_MC_L1L2L3Res_AK4PF", at(JetPt=10.0, JetEta=0.0))
    assert found == pytest.approx([1.5**4])
    for level in levels:
        others = {name: content for name, content in files.items() if level not in name}
        assert "A_V7_MC_L1L2L3Res_AK4PF" not in names(tmp_path, others)


def test_the_same_text_gives_the_same_bytes(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "jec" / RESOLUTION[0]
    correction_set.write(convert([path]), tmp_path / "a.json.gz")
    correction_set.write(convert([path]), tmp_path / "b.json.gz")
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


# ---- refusals


HEADER = "{2 JetEta JetPt 1 JetPt [0] Correction L2Relative}\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            HEADER + "-1 0 5 90 3 5 90 1\n0.5 1 5 90 3 5 90 1\n",
            r"a\.txt: no bin for JetEta from 0 to 0\.5; close the gap in the file",
        ),
        (
            HEADER + "-1 0 5 20 3 5 90 1\n-1 0 30 90 3 5 90 1\n",
            r"no bin for JetPt from 20 to 30 at JetEta -1 to 0; close the gap",
        ),
        (
            HEADER + "-1 0 5 90 3 5 90 1\n-0.5 1 5 90 3 5 90 1\n",
            "bins overlap: JetEta -1 to 0, JetPt 5 to 90 and JetEta -0.5 to 1, JetPt 5 to 90",
        ),
        (
            SECTION.replace("0.1 0.1", "0.1 0.2"),
            r"a\.txt, \[One\]: up and down differ, which one relative shift cannot say",
        ),
        (
            HEADER.replace("[0]", "TMath::Gaus(x)") + "-1 0 5 90 2 5 90\n",
            "correctionlib has no 'TMath::Gaus'",
        ),
        (HEADER.replace("[0]", "(x") + "-1 0 5 90 2 5 90\n", r"a\.txt: formula \(x: not for correctionlib"),
    ],
)
def test_refusals(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(CorrectionError, match=says):
        made(tmp_path, content)


def test_two_files_of_one_name(tmp_path: Path) -> None:
    files = {"A_V7_MC_L2Relative_AK4PF.txt": LEVEL, "B_V7_MC_L2Relative_AK4PF.txt": LEVEL}
    with pytest.raises(
        CorrectionError, match=r"B_V7.*txt and .*A_V7.*txt both give C_MC_L2Relative_AK4PF; convert"
    ):
        names(tmp_path, files, "C")
    with pytest.raises(CorrectionError, match="no file to convert; name at least one"):
        convert([])
