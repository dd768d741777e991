"""The dijet spectrum with a calibration file: against jets corrected by correctionlib and an event loop without trila."""

import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import correctionlib
import numpy as np
import pytest
from numpy.typing import NDArray

from trila.analysis import results, steps
from trila.analysis.simulation import simulate
from trila.corrections import calibration_set, correction_set
from trila.corrections.calibration import Calibration, points_of
from trila.corrections.jets import CorrectionError
from trila.corrections.pileup import Offset
from trila.corrections.response_curve import Curve
from trila.processors import readers
from trila.processors.dijet import DijetConfig, DijetProcessor

Array = NDArray[np.float64]

ETA = (-2.5, 0.0, 2.5)
LOW, HIGH = 25.0, 400.0  # corrected pT; the sample has jets on either side
SOURCES = ("statistical_0", "closure", "pileup")
VARIATIONS = ("nominal", *(f"{source}_{way}" for source in SOURCES for way in ("up", "down")))
OFFSET = Offset(
    ETA, np.array([0.06, 0.09]), np.array([0.0, 0.01]), np.full(2, 0.01), 35.0, (10.0, 60.0),
    np.array([[LOW, HIGH]] * 2), True,
)  # fmt: skip


def calibrated(
    path: Path, *, offset: Offset | None = OFFSET, level: str = "raw", regions: int = 2, pileup: str = "rho"
) -> str:
    """A file whose scale differs between the two regions of η; the second has a curve only if there shall be two."""
    knots = np.log([50.0, 300.0])
    curves = [Curve(knots, np.array([-0.10, 0.05]), math.log(LOW), math.log(HIGH))]
    curves.append(curves[0]._replace(values=np.array([-0.20, 0.12])))
    known = [curve if number < regions else None for number, curve in enumerate(curves)]
    points = tuple(points_of(curve) for curve in known)
    changes = [
        {"statistical_0": 0.03 * np.cos(p), "closure": 0.02 + 0.0 * p, "pileup": np.exp(-p)} for p in points
    ]
    made = Calibration(ETA, tuple(known), points, tuple(changes), offset, ())
    levels = {"hlt": {"level": level}, "offline": {"level": "stored"}}
    description = {"levels": levels, "pileup_variable": pileup}
    content = calibration_set.build(made, calibration_set.Names("Toy", "MC", "AK4HLT"), description)
    correction_set.write(content, path)
    return str(path)


def load(file: Path, events: int = 12_000) -> Any:
    info = readers.inspect(str(file))
    return readers.read(info.file, info.tree, info.uuid, info.layout, 0, min(events, info.entries), {}, [])


@pytest.fixture(scope="module")
def events(jets_sample: Path) -> Any:
    return load(jets_sample / "jets_000.root")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return calibrated(tmp_path_factory.mktemp("calibration") / "calibration.json.gz")


def config(file: str, **options: Any) -> DijetConfig:
    return DijetConfig.model_validate({"corrections": file, "identification": "none", **options})


class Jets(NamedTuple):
    """The jets of all events one after the other, and how many each event has."""

    counts: NDArray[np.int64]
    pt: Array
    eta: Array
    phi: Array
    mass: Array


def factors(
    events: Any, file: str, collection: str, systematic: str, *, raw: bool, pileup: str = "rho"
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Corrected over stored pT by plain correctionlib, the pT it starts from, and which jets it was asked about."""
    jets = events[collection]
    counts = ak.num(jets).to_numpy()

    def flat(field: str) -> Array:
        return ak.flatten(jets[field]).to_numpy().astype(np.float64)

    stored = 1.0 - flat("raw_factor") if raw else np.ones(counts.sum())
    rho = np.repeat(events[pileup].to_numpy().astype(np.float64), counts)
    written = np.repeat((events.rho > 0).to_numpy() | (events.n_pv > 0).to_numpy(), counts)
    asked = written & (np.abs(flat("eta")) < 2.5) & (flat("pt") > 15.0)
    before = flat("pt") * stored
    factor = np.ones(before.size)
    given = {"JetPt": before, "JetEta": flat("eta"), "JetA": flat("area"), "Rho": rho}
    correction = correctionlib.CorrectionSet.from_file(file).compound["hlt_jec"]
    inputs = [systematic if i.name == "systematic" else given[i.name][asked] for i in correction.inputs]
    factor[asked] = correction.evaluate(*inputs) * stored[asked]
    return factor, before, asked


def corrected(events: Any, file: str, collection: str, systematic: str = "nominal", **options: Any) -> Jets:
    """Jets as they should be."""
    factor, _, _ = factors(events, file, collection, systematic, **options)
    jets = events[collection]
    pt, eta, phi, mass = (
        ak.flatten(jets[f]).to_numpy().astype(np.float64) for f in ("pt", "eta", "phi", "mass")
    )
    return Jets(ak.num(jets).to_numpy(), pt * factor, eta, phi, mass * factor)


def vector(pt: float, eta: float, phi: float, mass: float) -> Array:
    """px, py, pz, E."""
    px, py, pz = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    return np.array([px, py, pz, math.sqrt(px * px + py * py + pz * pz + mass * mass)])


def masses(jets: Jets, written: NDArray[np.bool_]) -> dict[int, float]:
    """Mass of the wide jets of each selected event (CMS, arXiv:1806.00843), in a loop over events."""
    found = {}
    offsets = np.concatenate([[0], np.cumsum(jets.counts)])
    for event, (begin, end) in enumerate(itertools.pairwise(offsets)):
        selected = [j for j in range(begin, end) if jets.pt[j] > 30.0 and abs(jets.eta[j]) < 2.5]
        selected.sort(key=lambda j: -jets.pt[j])
        if not written[event] or len(selected) < 2 or jets.pt[selected[0]] < 60.0:
            continue
        seeds = selected[:2]
        wide = [vector(*(float(column[j]) for column in jets[1:])) for j in seeds]
        for j in selected[2:]:
            turn = [abs(float(jets.phi[j] - jets.phi[seed])) for seed in seeds]
            distance = [
                math.hypot(float(jets.eta[j] - jets.eta[seed]), min(angle, 2 * math.pi - angle))
                for seed, angle in zip(seeds, turn, strict=True)
            ]
            if min(distance) < 1.1:
                wide[int(distance[0] >= distance[1])] += vector(*(float(column[j]) for column in jets[1:]))
        eta = [math.asinh(p[2] / math.hypot(p[0], p[1])) for p in wide]
        if abs(eta[0] - eta[1]) < 1.3:
            total = wide[0] + wide[1]
            found[event] = math.sqrt(total[3] ** 2 - float(total[:3] @ total[:3]))
    return found


def spectrum(events: Any, jets: Jets) -> Array:
    """In bins of 1 GeV, with overflow."""
    written = (events.rho > 0).to_numpy() | (events.n_pv > 0).to_numpy()
    found = masses(jets, written)
    weight = events.weight.to_numpy().astype(np.float64)[list(found)]
    where = np.minimum(np.floor(list(found.values())).astype(np.int64), 14_000)
    return np.bincount(where, weight, 14_001)


def test_every_spectrum_is_that_of_jets_corrected_by_hand(events: Any, file: str) -> None:
    histogram = DijetProcessor(config(file)).process(events)["histograms"]["mass"]
    assert tuple(histogram.axes[0]) == VARIATIONS
    spectra = []
    for number, systematic in enumerate(VARIATIONS):
        wanted = spectrum(events, corrected(events, file, "hlt_jets", systematic, raw=False))
        found = histogram.values(flow=True)[number]
        assert (wanted > 0).sum() > 300
        np.testing.assert_allclose(found[1:], wanted, rtol=1e-12)
        assert found[0] == 0
        spectra.append(found)
    assert len({tuple(one) for one in spectra}) == len(VARIATIONS)


def test_jets_beyond_the_range_are_counted(events: Any, file: str) -> None:
    """And only those that may be selected: the correction is not asked about others."""
    histogram = DijetProcessor(config(file)).process(events)["histograms"]["calibration_range"]
    _, before, asked = factors(events, file, "hlt_jets", "nominal", raw=False)
    eta = ak.flatten(events.hlt_jets.eta).to_numpy()
    ends = np.array([[LOW, HIGH], [LOW, HIGH]])
    curves = ([-0.10, 0.05], [-0.20, 0.12])
    for row, (constant, slope) in enumerate(curves):
        position = np.log(ends[row] / 50.0) / math.log(6.0)  # a straight line in ln P, 0 and 1 at its knots
        ends[row] *= np.exp(constant + slope * position)
    region = (eta >= 0).astype(np.int64)
    beyond = (before < ends[region, 0]) | (before > ends[region, 1])
    weight = np.repeat(events.weight.to_numpy().astype(np.float64), ak.num(events.hlt_jets).to_numpy())
    wanted = [weight[asked & ~beyond].sum(), weight[asked & beyond].sum()]
    assert list(histogram.axes[0]) == ["inside", "beyond"]
    np.testing.assert_allclose(histogram.values(), wanted, rtol=1e-9)
    assert (asked & beyond & (before > HIGH)).sum() > 20
    assert (asked & beyond & (before < LOW)).sum() > 1000


@pytest.mark.parametrize("level", ["raw", "stored"])
def test_the_level_says_where_the_correction_starts(events: Any, tmp_path: Path, level: str) -> None:
    """Offline jets come with a stored correction; a file for the raw pT undoes it first, another one does not."""
    file = calibrated(tmp_path / "calibration.json.gz", level=level)
    assert ak.flatten(events.offline_jets.raw_factor).to_numpy().min() > 0.02
    made = DijetProcessor(config(file, collection="offline_jets"))
    wanted = spectrum(events, corrected(events, file, "offline_jets", raw=level == "raw"))
    found = made.process(events)["histograms"]["mass"].values(flow=True)[0]
    # raw_factor is a float32: its product with pT is rounded, and a mass in 10^4 may cross the edge of its bin
    assert np.abs(found[1:] - wanted).sum() < 1e-3 * wanted.sum()
    other = spectrum(events, corrected(events, file, "offline_jets", raw=level != "raw"))
    assert np.abs(found[1:] - other).sum() > 0.1 * wanted.sum()


def test_pile_up_may_be_the_number_of_interactions(events: Any, tmp_path: Path) -> None:
    file = calibrated(tmp_path / "calibration.json.gz", pileup="mu")
    found = DijetProcessor(config(file)).process(events)["histograms"]["mass"].values(flow=True)[0]
    wanted, other = (
        spectrum(events, corrected(events, file, "hlt_jets", raw=False, pileup=name))
        for name in ("mu", "rho")
    )
    np.testing.assert_allclose(found[1:], wanted, rtol=1e-12)
    assert np.any(wanted != other)


def test_input_without_area_or_pile_up(tmp_path: Path) -> None:
    """Files that know neither take a calibration that needs neither, and say so for one that does."""
    [sample] = simulate(tmp_path / "sample", kind="jets", events=3000, seed=5, format="atlas-tla")
    events = load(sample)
    plain = calibrated(tmp_path / "plain.json.gz", offset=None)
    histograms = DijetProcessor(config(plain, eta_max=2.5)).process(events)["histograms"]
    assert histograms["mass"].values().sum() > 0
    assert tuple(histograms["mass"].axes[0]) == VARIATIONS
    full = calibrated(tmp_path / "full.json.gz")
    with pytest.raises(
        CorrectionError, match=r"'hlt_jec' of .*full.json.gz needs 'JetA', which the input cannot give"
    ):
        DijetProcessor(config(full, eta_max=2.5)).process(events)


def test_the_columns_that_a_calibration_needs_are_read(file: str, tmp_path: Path) -> None:
    columns = DijetProcessor(config(file)).columns(frozenset())
    assert {"hlt_jets.area", "hlt_jets.raw_factor", "rho"} <= set(columns.optional)
    plain = calibrated(tmp_path / "plain.json.gz", offset=None)
    assert "hlt_jets.area" not in DijetProcessor(config(plain)).columns(frozenset()).optional


def test_a_region_without_a_curve_stops_the_run(events: Any, tmp_path: Path) -> None:
    """Rather than a spectrum of jets of which some are calibrated and some are not."""
    file = calibrated(tmp_path / "half.json.gz", regions=1)
    with pytest.raises(CorrectionError, match=r"jets are outside of the range of .*half.json.gz"):
        DijetProcessor(config(file)).process(events)


def test_no_event_passes(events: Any, file: str) -> None:
    histograms = DijetProcessor(config(file, eta_max=1e-9)).process(events)["histograms"]
    assert histograms["calibration_range"].values().sum() == 0
    assert histograms["mass"].values(flow=True).sum() == 0


def test_a_run_has_all_of_it(jets_sample: Path, file: str, tmp_path: Path) -> None:
    files = [str(path) for path in sorted(jets_sample.glob("*.root"))]
    outcome = steps.run(
        ["dijet"], files, tmp_path / "result", corrections=file, max_events=8000, chunk_size=3000
    )
    found = results.read(tmp_path / "result").histograms
    assert tuple(found["dijet.mass"].axes[0]) == VARIATIONS
    assert found["dijet.calibration_range"].values().min() > 0
    assert outcome.result.manifest["configuration"]["dijet"]["corrections"] == file
