"""The file of a calibration against its parts, evaluated directly; by correctionlib, by this package, by coffea."""

import gzip
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import correctionlib
import numpy as np
import pytest
from coffea.jetmet_tools import CorrectedJetsFactory, CorrectionLibJECStack
from numpy.typing import NDArray

from trila.corrections import calibration_set, correction_set, jets
from trila.corrections.calibration import Calibration, ResolutionRegion, RunRange, points_of
from trila.corrections.calibration_set import FORMAT, Names
from trila.corrections.pileup import Offset
from trila.corrections.resolution import Resolution, resolution
from trila.corrections.response_curve import Curve
from trila.corrections.splines import natural_basis, spread_knots

Array = NDArray[np.float64]

ETA = (-2.5, -1.3, 0.0, 1.3, 2.5)
NO_CURVE = 3
SOURCES = (
    "statistical_0", "statistical_rest", "method", "binning", "trigger", "smoothing", "closure", "pileup",
)  # fmt: skip
NAMES = Names("Toy_V1", "MC", "AK4HLT")
RUNS = (100, 200, 250)

# What derivation writes of itself: the values are of no consequence here.
DESCRIPTION = {
    "made_by": "trila 0", "definition": "median", "estimator": "median",
    "levels": {"hlt": {"level": "raw"}, "offline": {"level": "stored"}}, "trigger": "HLT_PFJet140", "era": ["2024"],
    "lumi_mask_digest": "a" * 64, "manifest_digest": "b" * 64, "storage_threshold": 20.0, "pileup_variable": "rho",
}  # fmt: skip


def curve(low: float, high: float, knots: int, first: float, wave: float) -> Curve:
    """ln R falls from -`first` towards 0 with a wave on top, as the spline through so many knots."""
    at = spread_knots(np.log(1.3 * low), np.log(0.8 * high), knots)
    wanted = -first * np.exp(-(at - at[0])) + wave * np.sin(2.0 * at)
    return Curve(at, np.linalg.solve(natural_basis(at, at), wanted), np.log(low), np.log(high))


CURVES = (
    curve(25.0, 900.0, 4, 0.12, 0.01), curve(20.0, 2000.0, 6, 0.15, 0.02), curve(20.0, 2000.0, 2, 0.08, 0.0), None,
)  # fmt: skip
POINTS = tuple(points_of(c) for c in CURVES)


def changes(region: int, log_pt: Array) -> dict[str, Array]:
    """Relative changes of the correction by source: smooth, signed, each another one in each region."""
    scale = 0.01 * (1 + region)
    shapes = (
        np.cos(log_pt), 1.0 / log_pt, np.tanh(log_pt - 5.0), -0.5 * log_pt / 7.0, 0.0 * log_pt, 0.3 * (log_pt - 5.0),
        0.2 + 0.0 * log_pt, 10.0 * np.exp(-log_pt),
    )  # fmt: skip
    return {source: scale * shape for source, shape in zip(SOURCES, shapes, strict=True)}


def offset(*, area: bool) -> Offset:
    return Offset(
        ETA, np.array([0.05, 0.08, 0.07, 0.0]), np.array([0.0, 0.02, -0.01, 0.0]), np.full(4, 0.01), 22.0, (8.0, 40.0),
        np.array([[20.0, 800.0]] * 4), area,
    )  # fmt: skip


def fitted(n: float, s: float, c: float) -> Resolution:
    return Resolution(n, s, c, np.eye(3), 1.0, 5)


RESOLUTION = (
    ResolutionRegion((0.0, 1.3), fitted(3.0, 0.8, 0.05), (30.0, 1500.0), 0.08),
    ResolutionRegion((1.3, 2.5), fitted(-2.0, 1.1, 0.06), (35.0, 700.0), 0.15),
    ResolutionRegion((2.5, 5.2), None, (np.nan, np.nan), np.nan),
)
RUN_RANGES = tuple(
    RunRange(
        first, after - 1, tuple(None if c is None else curve(20.0, 1500.0, 2, size, 0.0) for c in CURVES)
    )
    for first, after, size in zip(RUNS[:-1], RUNS[1:], (0.02, -0.03), strict=True)
)


def calibration(*, pile_up: Offset | None = None, runs: bool = False) -> Calibration:
    sources = tuple(
        {} if c is None else changes(i, p) for i, (c, p) in enumerate(zip(CURVES, POINTS, strict=True))
    )
    return Calibration(ETA, CURVES, POINTS, sources, pile_up, RESOLUTION, RUN_RANGES if runs else ())


class File(NamedTuple):
    """A calibration and its file, once as a path and once as correctionlib reads it."""

    calibration: Calibration
    path: str
    plain: Any


def written(folder: Path, **options: Any) -> File:
    made = calibration(**options)
    path = folder / "calibration.json.gz"
    correction_set.write(calibration_set.build(made, NAMES, DESCRIPTION), path)
    return File(made, str(path), correctionlib.CorrectionSet.from_file(str(path)))


VARIANTS: dict[str, dict[str, Any]] = {
    "scale": {},
    "offset": {"pile_up": offset(area=True)},
    "offset without area": {"pile_up": offset(area=False)},
    "runs": {"runs": True},
    "all": {"pile_up": offset(area=True), "runs": True},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], File]:
    return cache(lambda variant: written(tmp_path_factory.mktemp("file"), **VARIANTS[variant]))


@pytest.fixture(params=VARIANTS)
def file(request: pytest.FixtureRequest, files: Callable[[str], File]) -> File:
    return files(request.param)


@pytest.fixture
def simple(files: Callable[[str], File]) -> File:
    return files("scale")


@pytest.fixture
def full(files: Callable[[str], File]) -> File:
    return files("all")


def sample(number: int = 10_000, low: float = 1.0, high: float = 7000.0) -> dict[str, Array]:
    """Jets in the regions with a curve, their pT far beyond both ends of the curves."""
    generator = np.random.default_rng(5)
    pt = np.exp(generator.uniform(np.log(low), np.log(high), number))
    rho = generator.uniform(0.0, 60.0, number)
    return {
        "JetPt": pt, "JetEta": generator.uniform(-2.5, 1.3, number), "JetA": generator.normal(0.5, 0.02, number),
        "Rho": rho, "run": generator.integers(RUNS[0], RUNS[-1], number).astype(np.float64),
    }  # fmt: skip


def inside(columns: dict[str, Array]) -> dict[str, Array]:
    """Those that the calibration is valid for."""
    region = regions(columns["JetEta"])
    ends = np.array([raw_ends(c) if c is not None else (np.nan, np.nan) for c in CURVES])
    good = (columns["JetPt"] > ends[region, 0]) & (columns["JetPt"] < ends[region, 1])
    return {name: values[good] for name, values in columns.items()}


def raw_ends(one: Curve) -> tuple[float, float]:
    """Raw pT, GeV, that the ends of a curve belong to: x = P R(P)."""
    low, high = (np.exp(end + one.log_response(end)) for end in (one.low, one.high))
    return float(low), float(high)


def regions(eta: Array) -> NDArray[np.int64]:
    return np.searchsorted(ETA, eta, side="right") - 1


def scale(curves: tuple[Curve | None, ...], pt: Array, eta: Array, systematic: str = "nominal") -> Array:
    """Factor P/x of the curves, with the change of a source at P; held beyond the ends."""
    factor = np.full(pt.shape, np.nan)
    source, _, way = systematic.rpartition("_")
    for number, one in enumerate(curves):
        if one is not None:
            here = regions(eta) == number
            held = np.log(pt[here].clip(*raw_ends(one)))
            log_pt = one.reference(held)
            factor[here] = np.exp(log_pt - held)
            if source in SOURCES:
                change = changes(number, log_pt)[source]
                factor[here] *= 1.0 + (change if way == "up" else -change)
    return factor


def expected(made: Calibration, columns: dict[str, Array], systematic: str = "nominal") -> Array:
    """The compound step by step, each with the pT that the one before left."""
    pt, eta = columns["JetPt"], columns["JetEta"]
    if made.offset is not None:
        pt = pt * made.offset.factor(pt, eta, columns["JetA"], columns["Rho"])
    pt = pt * scale(made.curves, pt, eta, systematic)
    if made.runs:
        remainder = np.full(pt.shape, np.nan)
        for one in made.runs:
            here = (columns["run"] >= one.first) & (columns["run"] <= one.last)
            remainder[here] = scale(one.curves, pt[here], eta[here])
        pt = pt * remainder
    return pt / columns["JetPt"]


def plain(file: File, name: str, columns: dict[str, Array], systematic: str = "nominal") -> Array:
    """A correction as correctionlib itself evaluates it."""
    compound = name in list(file.plain.compound.keys())
    correction = file.plain.compound[name] if compound else file.plain[name]
    inputs = [systematic if i.name == "systematic" else columns[i.name] for i in correction.inputs]
    return np.asarray(correction.evaluate(*inputs))


def test_spline_is_the_curve(simple: File) -> None:
    columns = sample(100_000)
    wanted = scale(CURVES, columns["JetPt"], columns["JetEta"])
    np.testing.assert_allclose(plain(simple, "hlt_to_offline", columns), wanted, rtol=1e-6)


def test_factor_is_held_beyond_the_curve(simple: File) -> None:
    for number, one in enumerate(CURVES[:NO_CURVE]):
        assert one is not None
        low, high = raw_ends(one)
        eta = np.full(4, 0.5 * (ETA[number] + ETA[number + 1]))
        found = plain(simple, "hlt_to_offline", {"JetPt": np.array([1e-3, low, high, 1e6]), "JetEta": eta})
        ends = np.exp(-one.log_response(np.array([one.low, one.low, one.high, one.high])))
        np.testing.assert_allclose(found, ends, rtol=1e-9)


def test_compound_is_the_product_of_its_parts(file: File) -> None:
    columns = sample()
    wanted = expected(file.calibration, columns)
    np.testing.assert_allclose(plain(file, "hlt_jec", columns), wanted, rtol=2e-6)
    # were the pT not updated in between, the third digit would be another one
    if file.calibration.runs:
        static = plain(file, "hlt_to_offline", columns) * plain(file, "hlt_run", columns)
        if file.calibration.offset is not None:
            static *= plain(file, "hlt_pileup_offset", columns)
        assert np.max(np.abs(static / wanted - 1.0)) > 1e-3


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_moves_the_correction_by_its_change(full: File, source: str, way: str) -> None:
    columns = sample()
    systematic = f"{source}_{way}"
    wanted = expected(full.calibration, columns, systematic)
    np.testing.assert_allclose(plain(full, "hlt_jec", columns, systematic), wanted, rtol=1e-5)


def test_inputs_are_those_that_are_needed(file: File) -> None:
    made = file.calibration
    needed = ["JetPt", "JetEta"]
    if made.offset is not None:
        needed += ["JetA", "Rho"] if made.offset.uses_area else ["Rho"]
    needed += ["run"] if made.runs else []
    assert [i.name for i in file.plain.compound["hlt_jec"].inputs] == [*needed, "systematic"]
    assert [i.name for i in file.plain.compound[NAMES.of("L1L2L3Res")].inputs] == needed
    assert {"hlt_pileup_offset", "hlt_run"} & set(file.plain) == {
        *(["hlt_pileup_offset"] if made.offset is not None else []), *(["hlt_run"] if made.runs else []),
    }  # fmt: skip


@pytest.mark.parametrize("variant", ["offset", "offset without area"])
def test_offset(files: Callable[[str], File], variant: str) -> None:
    file = files(variant)
    pile_up = file.calibration.offset
    assert pile_up is not None
    columns = sample(low=0.3)
    columns["JetEta"] = np.random.default_rng(1).uniform(-2.5, 2.5, columns["JetPt"].size)
    wanted = pile_up.factor(columns["JetPt"], columns["JetEta"], columns["JetA"], columns["Rho"])
    assert 0.1 == wanted.min() < 1.0 < wanted.max()  # the smallest factor is reached by jets of few GeV
    found = plain(file, "hlt_pileup_offset", columns)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("systematic", "shift"), [("nominal", 0.0), ("resolution_up", 1.0), ("resolution_down", -1.0)]
)
def test_resolution(simple: File, systematic: str, shift: float) -> None:
    columns = sample()
    found = plain(simple, "hlt_resolution", columns, systematic)
    for region in RESOLUTION[:2]:
        here = (np.abs(columns["JetEta"]) >= region.eta[0]) & (np.abs(columns["JetEta"]) < region.eta[1])
        assert region.fit is not None
        held = columns["JetPt"][here].clip(*region.pt)
        wanted = resolution(held, *region.fit[:3]) * (1.0 + shift * region.uncertainty)
        np.testing.assert_allclose(found[here], wanted, rtol=1e-12)
    with pytest.raises(RuntimeError):  # no fit there
        plain(simple, "hlt_resolution", {"JetPt": np.array([50.0]), "JetEta": np.array([2.7])}, systematic)


def test_a_calibration_without_resolution_or_offset_has_no_such_correction(tmp_path: Path) -> None:
    unknown = tuple(region._replace(fit=None) for region in RESOLUTION)
    path = tmp_path / "c.json.gz"
    content = calibration_set.build(calibration()._replace(resolution=unknown), NAMES, DESCRIPTION)
    correction_set.write(content, path)
    found = jets.names(str(path))
    assert not [name for name in found if "esolution" in name or "ScaleFactor" in name or "offset" in name]
    assert "resolution" not in calibration_set.metadata(str(path))["sources"]


@pytest.mark.parametrize("eta", [-2.6, 2.5, 1.3])
def test_jets_without_a_curve_are_refused(full: File, eta: float) -> None:
    """Outside of all regions, and in one that has none."""
    columns = {**sample(1), "JetPt": np.array([100.0]), "JetEta": np.array([eta])}
    for name in ("hlt_to_offline", "hlt_jec", NAMES.of("L1L2L3Res"), "hlt_run"):
        with pytest.raises(RuntimeError):
            plain(full, name, columns)
    with pytest.raises(RuntimeError):
        plain(full, NAMES.of("method"), columns)
    message = rf"1 of 1 jets are outside of the range of .*, the first with pT 100 GeV and eta {eta:g}; it is valid for pT "
    with pytest.raises(
        jets.CorrectionError, match=message + r".* GeV for eta -2.5 to -1.3; .*; leave such jets out"
    ):
        jets.evaluate(full.path, None, columns)
    with pytest.raises(jets.CorrectionError, match=message):
        jets.evaluate(full.path, None, columns, hold=True)


@pytest.mark.parametrize("run", [99, 250])
def test_runs_outside_of_all_ranges_are_refused(full: File, run: int) -> None:
    columns = {**inside(sample(100)), "JetPt": np.full(1, 100.0), "JetEta": np.zeros(1)}
    columns = {name: values[:1] for name, values in columns.items()} | {"run": np.array([run])}
    with pytest.raises(
        jets.CorrectionError, match=rf"'hlt_jec' of .* refused its input .*run in \[{run}, {run}\]"
    ):
        jets.evaluate(full.path, None, columns)


def test_pt_outside_of_the_range_is_refused_or_held(file: File) -> None:
    columns = sample(2000)
    good = inside(columns)
    wanted = expected(file.calibration, good)
    np.testing.assert_allclose(jets.evaluate(file.path, None, good), wanted, rtol=2e-6)
    number = columns["JetPt"].size - good["JetPt"].size
    assert number > 500
    for name in (None, "hlt_to_offline"):
        with pytest.raises(jets.CorrectionError, match=rf"{number} of 2000 jets are outside of the range of"):
            jets.evaluate(file.path, name, columns)
    held = jets.evaluate(file.path, None, columns, hold=True)
    np.testing.assert_allclose(held, expected(file.calibration, columns), rtol=2e-6)
    mask = jets.inside_range(file.path, columns["JetPt"], columns["JetEta"])
    np.testing.assert_array_equal(columns["JetPt"][mask], good["JetPt"])


@pytest.mark.parametrize("name", ["JetPt", "JetEta", "JetA", "Rho", "run"])
def test_nan_is_refused(full: File, name: str) -> None:
    columns = inside(sample(100))
    columns[name] = np.where(np.arange(columns[name].size) < 2, np.nan, columns[name])
    for hold in (False, True):
        with pytest.raises(jets.CorrectionError, match=f"correction 'hlt_jec': 2 NaN among '{name}'"):
            jets.evaluate(full.path, None, columns, hold=hold)


def test_a_missing_input_is_named(full: File) -> None:
    columns = inside(sample(100))
    del columns["Rho"]
    message = r"needs 'Rho', which the input cannot give; at hand: JetPt, JetEta, JetA, run"
    with pytest.raises(jets.CorrectionError, match=message):
        jets.evaluate(full.path, None, columns)


def test_no_jets_give_no_factors(full: File) -> None:
    none = {name: values[:0] for name, values in sample(10).items()}
    assert jets.evaluate(full.path, None, none).shape == (0,)


@pytest.mark.parametrize("systematic", ["resolution_up", "flavour_up", "method", "Nominal", ""])
def test_what_is_not_its_own_is_nominal_to_correctionlib(full: File, systematic: str) -> None:
    columns = sample(100)
    for name in ("hlt_to_offline", "hlt_jec"):
        np.testing.assert_array_equal(plain(full, name, columns, systematic), plain(full, name, columns))
    if systematic != "resolution_up":
        np.testing.assert_array_equal(
            plain(full, "hlt_resolution", columns, systematic), plain(full, "hlt_resolution", columns)
        )
        message = f"knows no systematic '{systematic}'; name nominal, or _up or _down of: {', '.join(SOURCES)}, resolution"
        with pytest.raises(jets.CorrectionError, match=re.escape(message)):
            jets.evaluate(full.path, None, inside(columns), {"systematic": systematic})


def test_sources_of_one_correction_are_nominal_to_another(full: File) -> None:
    columns = inside(sample(1000))
    nominal = jets.evaluate(full.path, None, columns)
    np.testing.assert_array_equal(
        jets.evaluate(full.path, None, columns, {"systematic": "resolution_up"}), nominal
    )
    own = jets.evaluate(full.path, "hlt_resolution", columns)
    np.testing.assert_array_equal(
        jets.evaluate(full.path, "hlt_resolution", columns, {"systematic": "method_up"}), own
    )


def test_systematics_are_listed(full: File) -> None:
    variations = [f"{source}_{way}" for source in SOURCES for way in ("up", "down")]
    assert jets.systematics(full.path) == ("nominal", *variations)
    assert jets.systematics(full.path, "hlt_to_offline") == ("nominal", *variations)
    assert jets.systematics(full.path, "hlt_resolution") == ("nominal", "resolution_up", "resolution_down")
    assert jets.systematics(full.path, NAMES.of("L1L2L3Res")) == ("nominal",)


def test_the_file_says_what_it_is(full: File) -> None:
    content = json.loads(gzip.decompress(Path(full.path).read_bytes()))
    assert content["schema_version"] == 2
    found = calibration_set.metadata(full.path)
    assert json.loads(content["description"]) == found
    assert found["format"] == FORMAT
    assert {key: found[key] for key in DESCRIPTION} == DESCRIPTION
    assert found["sources"] == [*SOURCES, "resolution"]
    assert found["units"] == {"JetPt": "GeV", "Rho": "GeV"}
    assert len(found["valid"]["regions"]) == NO_CURVE
    for region, one, low, high in zip(found["valid"]["regions"], CURVES, ETA[:-1], ETA[1:], strict=False):
        assert one is not None
        assert region == {"JetEta": [low, high], "JetPt": pytest.approx(raw_ends(one), rel=1e-12)}
    assert found["valid"]["JetEta"] == [-2.5, 1.3]
    pts = [pt for region in found["valid"]["regions"] for pt in region["JetPt"]]
    assert found["valid"]["JetPt"] == [min(pts), max(pts)]
    assert jets.valid_regions(full.path) == [
        (tuple(r["JetEta"]), tuple(r["JetPt"])) for r in found["valid"]["regions"]
    ]
    for correction in [*content["corrections"], *content["compound_corrections"]]:
        assert correction["description"]
        for item in correction["inputs"]:
            assert item["description"]
            assert ("[GeV]" in item["description"]) == (item["name"] in ("JetPt", "Rho"))


def test_metadata_of_other_files_is_refused(tmp_path: Path) -> None:
    other = {"schema_version": 2, "corrections": []}
    for number, description in enumerate([None, "text", json.dumps([1]), json.dumps({"format": "x"})]):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(other | ({"description": description} if description else {})))
        with pytest.raises(
            jets.CorrectionError,
            match=r"does not say how it was derived; expected one that `trila calibrate` made",
        ):
            calibration_set.metadata(str(path))
    with pytest.raises(jets.CorrectionError, match=r"none\.json: no such file; check the path"):
        calibration_set.metadata(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(jets.CorrectionError, match=r"bad\.json is not a correctionlib"):
        calibration_set.metadata(str(tmp_path / "bad.json"))


def jagged(file: File, number: int = 3000) -> ak.Array:
    """Jets of events, 0 to 4 each, with all that coffea's jet tools may ask for; raw pT inside of the range."""
    columns = inside(sample(number, 20.0, 1500.0))
    size = columns["JetPt"].size
    generator = np.random.default_rng(3)
    counts = generator.integers(0, 5, size)
    counts = counts[: np.searchsorted(np.cumsum(counts), size)]
    total = int(counts.sum())
    pt = columns["JetPt"][:total].astype(np.float32)
    fields = {
        "pt": pt, "mass": 0.1 * pt, "pt_raw": pt, "mass_raw": 0.1 * pt, "eta": columns["JetEta"][:total],
        "phi": np.zeros(total), "area": columns["JetA"][:total], "rho": columns["Rho"][:total],
        "run": columns["run"][:total], "pt_gen": (pt * generator.normal(1.1, 0.1, total)).astype(np.float32),
    }  # fmt: skip
    return ak.unflatten(ak.zip(fields), counts)


NAME_MAP = {
    "JetPt": "pt", "JetMass": "mass", "JetEta": "eta", "JetPhi": "phi", "JetA": "area", "Rho": "rho", "run": "run",
    "ptRaw": "pt_raw", "massRaw": "mass_raw", "ptGenJet": "pt_gen",
}  # fmt: skip


def built(file: File, jagged_jets: ak.Array, *, smeared: bool = False) -> Any:
    stack = CorrectionLibJECStack.from_file(
        file.path, NAMES.tag, NAMES.data_type, NAMES.algorithm, unc_sources=list(SOURCES),
        jer_tag=NAMES.tag if smeared else None,
    )  # fmt: skip
    factory = CorrectedJetsFactory(NAME_MAP, stack)
    assert factory.uncertainties() == (["JER"] if smeared else []) + [f"JES_{source}" for source in SOURCES]
    return factory.build(jagged_jets)


def flat(jagged_jets: ak.Array) -> dict[str, Array]:
    """Inputs of the corrections, one entry a jet."""
    names = {"JetPt": "pt_raw", "JetEta": "eta", "JetA": "area", "Rho": "rho", "run": "run"}
    return {
        name: ak.to_numpy(ak.flatten(jagged_jets[field])).astype(np.float64) for name, field in names.items()
    }


def by_hlt_jec(file: File, columns: dict[str, Array], systematic: str) -> Array:
    """Corrected pT."""
    return columns["JetPt"] * jets.evaluate(file.path, "hlt_jec", columns, {"systematic": systematic})


def test_coffea_corrects_as_hlt_jec_does(file: File) -> None:
    before = jagged(file)
    corrected = built(file, before)
    assert ak.num(corrected).tolist() == ak.num(before).tolist()
    columns = flat(before)
    factor = jets.evaluate(file.path, "hlt_jec", columns)
    for field in ("pt", "mass"):
        wanted = factor * ak.to_numpy(ak.flatten(before[f"{field}_raw"]))
        np.testing.assert_allclose(ak.to_numpy(ak.flatten(corrected[field])), wanted, rtol=1e-12)


def test_coffea_varies_by_the_relative_change(full: File) -> None:
    """At the corrected pT. It is `hlt_jec`'s own variation to the accuracy of the tables, 1e-5, and where runs differ to
    second order in the changes: there the one takes the change before the remainder of the run, the other after it."""
    before = jagged(full)
    corrected = built(full, before)
    columns = flat(before)
    nominal = ak.to_numpy(ak.flatten(corrected.pt))
    region = regions(columns["JetEta"])
    for source in SOURCES:
        delta = np.zeros(nominal.size)
        for number in range(NO_CURVE):
            ends = POINTS[number][[0, -1]]
            here = region == number
            delta[here] = changes(number, np.log(nominal[here]).clip(*ends))[source]
        for way, sign in (("up", 1.0), ("down", -1.0)):
            varied = ak.to_numpy(ak.flatten(corrected[f"JES_{source}"][way].pt))
            np.testing.assert_allclose(varied, nominal * (1.0 + sign * delta), rtol=1e-5)
            np.testing.assert_allclose(varied, by_hlt_jec(full, columns, f"{source}_{way}"), rtol=1e-3)


@pytest.mark.parametrize("variant", ["scale", "offset"])
def test_coffea_and_hlt_jec_have_the_same_variations(files: Callable[[str], File], variant: str) -> None:
    one = files(variant)
    before = jagged(one)
    corrected = built(one, before)
    columns = flat(before)
    for source in SOURCES:
        for way in ("up", "down"):
            varied = ak.to_numpy(ak.flatten(corrected[f"JES_{source}"][way].pt))
            np.testing.assert_allclose(varied, by_hlt_jec(one, columns, f"{source}_{way}"), rtol=1e-5)


def test_coffea_smears(full: File) -> None:
    before = jagged(full)
    corrected, plain_jets = built(full, before, smeared=True), built(full, before)
    pt = ak.to_numpy(ak.flatten(plain_jets.pt))
    # a scale factor of one leaves the jets alone
    np.testing.assert_allclose(ak.to_numpy(ak.flatten(corrected.pt)), pt, rtol=1e-6)
    columns = flat(before) | {"JetPt": pt}
    width = ak.to_numpy(ak.flatten(corrected.jet_energy_resolution))
    np.testing.assert_allclose(width, plain(full, "hlt_resolution", columns), rtol=1e-12)
    central = np.abs(columns["JetEta"]) < 1.3
    uncertainty = np.where(central, RESOLUTION[0].uncertainty, RESOLUTION[1].uncertainty)
    factors = ak.to_numpy(ak.flatten(corrected.jet_energy_resolution_scale_factor))
    np.testing.assert_allclose(factors, 1.0 + uncertainty[:, None] * np.array([0.0, 1.0, -1.0]), rtol=1e-12)
    # near its particle-level jet, a jet moves away from it by the factor
    gen = ak.to_numpy(ak.flatten(before.pt_gen)).astype(np.float64)
    near = np.abs(pt - gen) / pt < 2.9 * width
    assert near.sum() > 0.9 * near.size
    for way, sign in (("up", 1.0), ("down", -1.0)):
        moved = ak.to_numpy(ak.flatten(corrected.JER[way].pt))
        wanted = pt + sign * uncertainty * (pt - gen)
        np.testing.assert_allclose(moved[near], wanted[near], rtol=1e-5)
