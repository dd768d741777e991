"""Calibrations and their closure on samples whose truth is known in closed form: the package's own simulation, and Pythia jets
measured by a detector of another shape (`pythia_sample.py`). All goes the way of a user: events in ROOT files,
`trila run response`, `trila calibrate`, `trila closure`.
"""

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pythia_sample
from numpy.typing import NDArray

from trila.analysis import results, steps, toy_truth
from trila.analysis.calibration import calibrate
from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.closure import Closure, closure
from trila.analysis.derive import Derived
from trila.analysis.pairs import Level, read_pairs
from trila.analysis.simulation import simulate
from trila.analysis.toy_detector import Pileup
from trila.analysis.toy_model import DEFAULT
from trila.corrections import jets
from trila.corrections.calibration_set import metadata
from trila.corrections.closure import ClosureConfig, Row
from trila.corrections.closure_limits import LIMITS, limit_of
from trila.corrections.derivation import DerivationConfig
from trila.corrections.resolution import resolution

Array = NDArray[np.float64]
Range = tuple[float, float]


# Both sides of the barrel together, and as wide in pT as the limits allow: a few million events are enough to test 0.2%.
_BINS = ClosureConfig(
    eta_edges=(-5.2, -3.0, -2.5, -1.3, 1.3, 2.5, 3.0, 5.2),
    pt_edges=(30, 40, 60, 100, 200, 400, 600, 1000, 1500, 3000),
)
# |η|; of the last one, where there are jets.
_REGIONS = ((0.0, 1.3), (1.3, 2.5), (2.5, 3.0), (3.0, 4.5))

# Of the corrections, and the columns of pairs that they are.
_INPUTS = {"JetPt": "pt_hlt_raw", "JetEta": "eta_hlt", "JetA": "area", "Rho": "rho"}


def _silent(_stage: str, _total: int) -> Callable[[int], None]:
    return lambda _advance: None


class _Sample(NamedTuple):
    """A sample that was calibrated, and its truth.

    Attributes:
        result: RESULT of the response.
        corrections: what it was calibrated to.
        derived: from the first half.
        found: closure of the second half.
        rho: three densities.
        reach: up to which pT there are enough jets, in each of `_REGIONS`.
        scale: median of HLT over offline pT at particle-level pT, η and ρ.
        jer: resolution of calibrated HLT jets at particle-level pT and η.
    """

    result: Path
    corrections: Path
    derived: Derived
    found: Closure
    rho: tuple[float, ...]
    reach: tuple[float, ...]
    scale: Callable[[Array, Array, float], Array]
    jer: Callable[[Array, float], Array]


def _jer_of(core: Callable[[Array], Array], pt: Array, width: Array) -> Array:
    """Resolution after calibration: that of the raw core, `width` over its pT, times d ln p / d ln(raw core pT)."""
    step = 1e-3
    slope = np.log(core(pt * np.exp(step)) / core(pt * np.exp(-step))) / (2 * step)
    return np.asarray(width / core(pt) / slope)


def _toy_jer(pt: Array, eta: float) -> Array:
    steady = Pileup(mu_width=0.0, rho_width=0.0)  # a calibration takes off what changes with pile-up

    def core(p: Array) -> Array:
        return p * toy_truth.hlt_response(p, eta, pileup=steady).core

    return _jer_of(core, pt, toy_truth.hlt_response(pt, eta, pileup=steady).resolution * core(pt))


def _toy_scale(pt: Array, eta: Array, rho: float) -> Array:
    return toy_truth.hlt_over_offline(pt, eta, rho=rho).median


def _calibrated(
    files: list[Path], folder: Path, config: CalibrationConfig
) -> tuple[Path, Path, Derived, Closure]:
    result, corrections = folder / "result", folder / "corrections.json.gz"
    steps.run(["response"], [str(file) for file in files], result)
    for file in files:
        file.unlink()  # some gigabytes, and the RESULT has all that follows
    derived = calibrate(result, corrections, config=config, progress=_silent).derived
    return result, corrections, derived, closure(result, corrections, config=_BINS)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> _Sample:
    folder = tmp_path_factory.mktemp("simulated")
    files = simulate(folder / "sample", kind="jets", events=4_000_000, seed=2)
    parts = _calibrated(files, folder, CalibrationConfig())
    return _Sample(*parts, (12.0, 22.0, 32.0), (1000.0, 1500.0, 400.0, 400.0), _toy_scale, _toy_jer)


@pytest.fixture(scope="module")
def pythia(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> _Sample:
    folder = tmp_path_factory.mktemp("pythia")
    detector = pythia_sample.Detector()
    file = folder / "jets.root"
    source = data_dir / "pythia" / "qcd_genjets_13p6TeV.parquet"
    pythia_sample.write_events(source, file, repeats=60, seed=3, detector=detector)

    def jer(pt: Array, eta: float) -> Array:
        def core(p: Array) -> Array:
            return np.asarray(p * detector.response(p, eta) + detector.offset_at(detector.rho_mean))

        return _jer_of(core, pt, pt * detector.response(pt, eta) * pythia_sample.width(pt, detector.hlt))

    parts = _calibrated([file], folder, CalibrationConfig())
    return _Sample(*parts, (12.0, 22.0, 32.0), (1000.0, 1000.0, 400.0, 400.0), detector.median, jer)


_SAMPLES = ["simulated", "pythia"]


@pytest.fixture
def sample(request: pytest.FixtureRequest) -> _Sample:
    found: _Sample = request.getfixturevalue(request.param)
    return found


def _middles(region: Range) -> Array:
    """Three η inside a region on either side, the middles of its thirds."""
    inside = np.linspace(*region, 7)[1::2]
    return np.concatenate([-inside, inside])


def _limit(row: Row) -> Range:
    """|η| and pT at which the region of a bin's limit begins."""
    low = 0.0 if row.eta[0] < 0.0 < row.eta[1] else min(map(abs, row.eta))
    return max((x.eta[0], x.pt[0]) for x in LIMITS if x.eta[0] <= low and x.pt[0] <= row.pt[0])


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["tag", "particle"])
@pytest.mark.parametrize("sample", _SAMPLES, indirect=True)
def test_it_closes_wherever_a_limit_is_given(sample: _Sample, variable: str) -> None:
    """No bin fails, and every region that has a limit is tested, up to the pT where the sample ends."""
    assert sample.found.passed, [row for row in sample.found.rows if row.passed is False]
    tested = [row for row in sample.found.rows if row.variable == variable and row.tested]
    assert {_limit(row) for row in tested} == {(limit.eta[0], limit.pt[0]) for limit in LIMITS}
    for (low, _), reach in zip(_REGIONS, sample.reach, strict=True):
        assert max(row.pt[1] for row in tested if _limit(row)[0] == low) >= reach, low


def _probes(sample: _Sample, region: Range) -> Iterator[tuple[Range, Array, Array]]:
    """Bins of particle-level pT, and the particle-level pT and η of some probes in each, drawn by their weights."""
    pairs = read_pairs(results.read(sample.result), Level(level="raw"), Level(level="stored")).pairs
    inside = (np.abs(pairs.eta) >= region[0]) & (np.abs(pairs.eta) < region[1])
    rng = np.random.default_rng(1)
    reach = sample.reach[_REGIONS.index(region)]
    for low, high in pairwise(edge for edge in _BINS.pt_edges if edge <= reach):
        own = np.flatnonzero(inside & (pairs.particle >= low) & (pairs.particle < high))
        drawn = rng.choice(own, 300, p=pairs.weight[own] / pairs.weight[own].sum())
        yield (low, high), pairs.particle[drawn].astype(np.float64), pairs.eta[drawn].astype(np.float64)


def _product(sample: _Sample, pt: Array, eta: Array, rho: float, systematic: str = "nominal") -> float:
    """Correction times true response, averaged over jets of the mean area."""
    response = sample.scale(pt, eta, rho)
    columns = {
        "JetPt": pt * response,
        "JetEta": eta,
        "JetA": np.full_like(pt, 0.5),
        "Rho": np.full_like(pt, rho),
    }
    factor = jets.evaluate(str(sample.corrections), "hlt_jec", columns, {"systematic": systematic}, hold=True)
    return float(np.mean(response * factor))


@pytest.mark.slow
@pytest.mark.parametrize("region", _REGIONS)
@pytest.mark.parametrize("sample", _SAMPLES, indirect=True)
def test_the_scale_is_the_truth(sample: _Sample, region: Range) -> None:
    """Correction times response is one, in bins of the particle-level pT; at three densities of pile-up the same."""
    sources = [name for name in metadata(str(sample.corrections))["sources"] if "statistical" in name]
    for bin_, pt, eta in _probes(sample, region):
        limit = limit_of(region, bin_)
        assert limit is not None
        products = np.array([_product(sample, pt, eta, rho) for rho in sample.rho])
        varied = [_product(sample, pt, eta, sample.rho[1], f"{name}_up") for name in sources]
        error = float(np.linalg.norm(varied - products[1]))
        assert np.all(np.abs(products - 1.0) < limit), (bin_, products)
        assert error < limit / 2.0, (bin_, error)  # or a small deviation would be luck
        assert np.ptp(products) < (0.005 if region[1] <= 2.5 else limit), (bin_, products)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("sample", _SAMPLES, indirect=True)
def test_the_resolution_is_the_truth(sample: _Sample, number: int) -> None:
    """Of calibrated HLT jets: within 3% in the barrel and 5% up to 2.5.

    Beyond, these samples know it to 2% only: there it is 5% plus twice the error. At 33 GeV resolutions outside the barrel are
    30%, and the low tail of the simulation lies within the core: of jets drawn at that pT and not selected, the core is 4% wider
    than its Gaussian.
    """
    found = [jer for jer in sample.derived.jer if jer.collection == "hlt"][number]
    assert found.fit is not None
    allowed = (0.03, 0.05, *[0.05 + 2.0 * found.uncertainty] * 2)[number]
    pt = np.geomspace(found.pt_range[0], sample.reach[number], 20)
    measured = resolution(pt, found.fit.n, found.fit.s, found.fit.c)
    truth = np.sqrt(np.mean([sample.jer(pt, eta) ** 2 for eta in _middles(_REGIONS[number])], axis=0))
    assert found.uncertainty < 0.03
    assert np.all(np.abs(measured / truth - 1.0) < allowed), (pt, measured / truth)


def _changed(sample: _Sample, folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """A copy of the RESULT with other columns of its pairs."""
    copy = folder / "changed"
    shutil.copytree(sample.result, copy)
    for path in (copy / "pairs").rglob("*.parquet"):
        table = pq.read_table(path)
        columns = {name: table[name].to_numpy() for name in table.column_names}
        pq.write_table(pa.table(columns | change(columns)), path)
    return copy


@pytest.mark.slow
def test_one_pass_in_bins_of_the_probes_own_hlt_pt_is_found(simulated: _Sample, tmp_path: Path) -> None:
    """Migration on the falling spectrum biases it, by as much as 8% at 30 GeV and still 0.8% at 600 GeV, one way."""
    wrong = _changed(simulated, tmp_path, lambda columns: {"pt_tag": columns["pt_hlt"]})
    once = DerivationConfig().model_copy(update={"iterations": (1, 1)})  # which a user cannot ask for
    config = CalibrationConfig(scale=once)
    calibrate(wrong, tmp_path / "wrong.json.gz", config=config, progress=_silent)
    found = closure(simulated.result, tmp_path / "wrong.json.gz", config=_BINS)
    assert not found.passed
    barrel = {row.pt[0]: row for row in found.rows if row.variable == "particle" and row.eta == (-1.3, 1.3)}
    assert not any(barrel[pt].passed for pt in _BINS.pt_edges if pt < 1000.0 and barrel[pt].tested)
    assert -0.10 < barrel[30.0].closure < -0.06
    assert -0.010 < barrel[600.0].closure < -0.006


@pytest.mark.slow
def test_a_local_defect_of_one_percent_is_found(simulated: _Sample, tmp_path: Path) -> None:
    """HLT jets of the barrel whose corrected pT is between 200 and 400 GeV are 1% off: there it fails.

    In bins of the tag's pT the next one, with probes of lower pT, notices too.
    """
    low, high = 200.0, 400.0

    def defect(columns: dict[str, Any]) -> dict[str, Any]:
        inputs = {name: columns[key] for name, key in _INPUTS.items()}
        factor = jets.evaluate(
            str(simulated.corrections), "hlt_jec", inputs, {"systematic": "nominal"}, hold=True
        )
        pt = columns["pt_hlt_raw"] * factor
        wrong = (np.abs(columns["eta_hlt"]) < 1.3) & (pt > low) & (pt < high)
        return {"pt_hlt_raw": np.where(wrong, np.float32(1.01), np.float32(1.0)) * columns["pt_hlt_raw"]}

    found = closure(_changed(simulated, tmp_path, defect), simulated.corrections, config=_BINS)
    assert not found.passed
    failed = [row for row in found.rows if row.passed is False]
    assert [row.pt for row in failed if row.variable == "particle"] == [(low, high)]
    assert (low, high) in [row.pt for row in failed if row.variable == "tag"]
    assert all(max(map(abs, row.eta)) <= 1.3 and row.pt[0] < 600.0 for row in failed)


def test_a_small_sample_closes_where_it_can_be_tested(tmp_path: Path) -> None:
    """100 000 events of high pT: enough for the limits of 0.5% and more."""
    hard = DEFAULT._replace(jets=DEFAULT.jets._replace(pt_min=150.0, pt_max=1500.0, bias=2.0))
    files = simulate(tmp_path / "sample", kind="jets", events=100_000, seed=4, toy=hard)
    config = CalibrationConfig(scale=DerivationConfig(replicas=20, eigen_variations=2))
    found = _calibrated(files, tmp_path, config)[-1]
    assert found.passed
    tested = {_limit(row) for row in found.rows if row.variable == "particle" and row.tested}
    assert tested == {(0.0, 600.0), (1.3, 30.0), (2.5, 30.0), (3.0, 30.0)}
