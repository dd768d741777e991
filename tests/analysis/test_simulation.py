"""The samples do what `truth.json` says: every number is compared with the closed form or with a slow loop."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from numpy.typing import NDArray
from scipy.integrate import quad

from trila.analysis import simulation, toy_truth
from trila.analysis.simulation_branches import round_mantissa
from trila.analysis.toy_detector import JetDetector, MuonDetector, Resolution
from trila.analysis.toy_dijet import GaussianSignal, dijet
from trila.analysis.toy_dimuon import PROCESSES, dimuon
from trila.analysis.toy_events import Collection
from trila.analysis.toy_jets import jets
from trila.analysis.toy_model import DEFAULT

Array = NDArray[Any]

# A detector that measures without error.
_EXACT = Resolution(0.0, 0.0, 0.0)
PERFECT = JetDetector(
    scale_low=1.0,
    scale_rise=0.0,
    scale_fall=0.0,
    endcap_slope=0.0,
    forward_scale=1.0,
    hlt=(_EXACT, _EXACT, _EXACT),
    offline=(_EXACT, _EXACT, _EXACT),
    tail_fraction=0.0,
    offset=0.0,
    angle_high=0.0,
    angle_low=0.0,
)


def padded(collection: Collection, size: int) -> Array:
    """Shape (fields, events, size), NaN where an event has fewer objects."""
    offsets = np.concatenate(([0], np.cumsum(collection.counts)))[:-1]
    out = np.full((collection.values.shape[0], collection.counts.size, size), np.nan)
    for k in range(size):
        has = collection.counts > k
        out[:, has, k] = collection.values[:, offsets[has] + k]
    return out


def nearest(gen: Array, reco: Array) -> Array:
    """pT of the reconstructed jet nearest to each particle jet, NaN beyond 0.3."""
    d_eta = gen[1][:, :, None] - reco[1][:, None, :]
    d_phi = np.abs(gen[2][:, :, None] - reco[2][:, None, :])
    d_phi = np.minimum(d_phi, 2 * np.pi - d_phi)
    distance = np.nan_to_num(np.hypot(d_eta, d_phi), nan=np.inf)
    best = distance.argmin(axis=2)
    pt = np.take_along_axis(reco[0], best, axis=1)
    return np.where(distance.min(axis=2) < 0.3, pt, np.nan)


@pytest.fixture(scope="module")
def matched() -> dict[str, Array]:
    """Particle jets above 40 GeV with their HLT and offline pT, and the truth at their pT and η."""
    events = jets(0, 40_000, 11)
    gen, offline, hlt = padded(events.gen, 2), padded(events.offline, 6), padded(events.hlt, 6)
    pt, eta = gen[0].ravel(), gen[1].ravel()
    off, trigger = nearest(gen, offline[:3]).ravel(), nearest(gen, hlt[:3]).ravel()
    good = (pt > 40.0) & np.isfinite(off) & np.isfinite(trigger)
    return {"pt": pt[good], "eta": eta[good], "offline": off[good], "hlt": trigger[good]}


@pytest.mark.parametrize("region", [(0.0, 1.3), (1.3, 3.0), (3.0, 4.7)])
@pytest.mark.parametrize("measured", ["hlt", "offline", "hlt_over_offline"])
def test_response_is_the_truth(matched: dict[str, Array], region: tuple[float, float], measured: str) -> None:
    chosen = (np.abs(matched["eta"]) >= region[0]) & (np.abs(matched["eta"]) < region[1])
    pt, eta = matched["pt"][chosen], matched["eta"][chosen]
    hlt, offline = matched["hlt"][chosen], matched["offline"][chosen]
    if measured == "hlt":
        ratio, truth = hlt / pt, toy_truth.hlt_response(pt, eta)
    elif measured == "offline":
        ratio, truth = offline / pt, toy_truth.offline_response(pt, eta)
    else:
        ratio, truth = hlt / offline, toy_truth.hlt_over_offline(pt, eta)
    # Half of the jets are below their own median, whatever their pT: no bins, no bin migration.
    assert abs(np.mean(ratio < truth.median) - 0.5) < 3.5 * 0.5 / math.sqrt(pt.size)
    if measured != "hlt_over_offline":
        residual = ratio - truth.mean
        assert abs(residual.mean()) < 3.5 * residual.std() / math.sqrt(pt.size)
    # The tail is beyond 2σ above 150 GeV: the core holds its Gaussian share of all jets.
    high = pt > 150.0
    pull = np.abs(ratio[high] / truth.core[high] - 1.0) / truth.resolution[high]
    keep = 1.0 - DEFAULT.detector.tail_fraction
    for width, share in ((1.0, 0.682689), (2.0, 0.954500)):
        expected = share * (keep**2 if measured == "hlt_over_offline" else keep)
        error = math.sqrt(expected * (1.0 - expected) / high.sum())
        # Of the double loss, a part falls back into the core; to first order only, the ratio is Gaussian.
        allowed = 3.5 * error + (0.006 if measured == "hlt_over_offline" else 0.0)
        assert abs(np.mean(pull < width) - expected) < allowed, (width, high.sum())


def test_core_is_the_written_formula() -> None:
    """Spelled out again, with the numbers of the detector."""
    barrel = 0.93 + 0.06 * (1.0 - math.exp(-700.0 / 80.0)) - 0.008 * math.log(700.0 / 500.0)
    offset = 0.4 * (22.0 - 20.0) / 10.0 / 700.0
    for eta, scale in ((-1.0, barrel), (2.3, barrel * (1.0 - 0.03)), (-3.5, barrel * 0.9)):
        assert toy_truth.hlt_response(700.0, eta).core == pytest.approx(scale + offset, rel=1e-12)
    assert toy_truth.offline_response(700.0, 2.0).core == 1.0
    width = math.hypot(math.hypot(3.0 / 50.0, 0.85 / math.sqrt(50.0)), 0.035)
    assert toy_truth.offline_response(50.0, 0.3).resolution == pytest.approx(width, rel=1e-12)
    assert toy_truth.offline_response(50.0, 0.3).mean == pytest.approx(1.0 - 0.03 * 0.45, rel=1e-12)


def test_pileup_moves_the_hlt_jets_only() -> None:
    low, high = (toy_truth.hlt_response(40.0, 0.0, rho=rho) for rho in (10.0, 30.0))
    assert high.core - low.core == pytest.approx(0.8 / 40.0, rel=1e-12)
    events = jets(0, 20_000, 4)
    assert events.rho[events.products].mean() == pytest.approx(22.0, abs=0.2)
    assert events.rho[events.products].std() == pytest.approx(DEFAULT.pileup.rho_spread, rel=0.03)


def test_spectrum_of_the_hard_scattering() -> None:
    events = jets(0, 100_000, 5)
    edges = np.array([12.0, 20.0, 40.0, 80.0, 150.0, 300.0, 600.0, 1000.0, 2000.0, 3500.0])

    def spectrum(p: float) -> float:
        return (p / 100.0) ** -5.0 * (1.0 - 2.0 * p / 13600.0) ** 10.0

    weights = events.weight.astype(np.float64)
    # Not np.histogram: it takes differences of a running sum, and the weights fall over twelve orders.
    bins = np.digitize(events.hard_scale, edges)
    sums = np.bincount(bins, weights, edges.size + 1)[1:-1]
    squares = np.bincount(bins, weights**2, edges.size + 1)[1:-1]
    integrals = np.array([quad(spectrum, a, b)[0] for a, b in pairwise(edges)])
    # Normalised with the known density of drawn events: p^-1.5 between 10 and 4000 GeV.
    norm = weights.size * 0.5 / (10.0**-0.5 - 4000.0**-0.5) * 100.0**-1.5 * (1.0 - 200.0 / 13600.0) ** -10.0
    chi2 = np.sum((sums - norm * integrals) ** 2 / squares)
    assert chi2 < 30.0  # 9 bins: probability 4e-4
    assert np.count_nonzero(events.hard_scale > 2000.0) > 1000


def test_alpha_has_a_spectrum() -> None:
    gen = padded(jets(0, 20_000, 6).gen, 3)
    average = (gen[0, :, 0] + gen[0, :, 1]) / 2.0
    chosen = average > 100.0
    alpha = np.nan_to_num(gen[0, chosen, 2]) / average[chosen]
    for low, high in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.5)):
        assert np.mean((alpha >= low) & (alpha < high)) > 0.05
    imbalance = (gen[0, chosen, 0] - gen[0, chosen, 1]) / average[chosen]
    assert 0.1 < np.sqrt(np.mean(imbalance**2)) < 0.4


def two_body_mass(first: Array, second: Array) -> Array:
    """From pt, eta, phi, mass."""
    vectors = []
    for pt, eta, phi, mass in (first, second):
        energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
        vectors.append(np.array([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]))
    total = vectors[0] + vectors[1]
    return np.asarray(np.sqrt(total[0] ** 2 - total[1] ** 2 - total[2] ** 2 - total[3] ** 2))


def test_dijet_mass_is_the_drawn_mass() -> None:
    """With a perfect detector the stored jets give back the mass, masses of the jets included."""
    toy = DEFAULT._replace(detector=PERFECT, dijet=DEFAULT.dijet._replace(extra_mean=0.0))
    events = dijet(0, 5000, 3, total=5000, toy=toy)
    hlt = padded(events.hlt, 2)
    mass = two_body_mass(hlt[:4, :, 0], hlt[:4, :, 1])
    both = np.isfinite(mass)
    assert both.mean() > 0.99
    np.testing.assert_allclose(mass[both], events.hard_scale[both], rtol=1e-5)


def test_dijet_spectrum_and_signal() -> None:
    signal = GaussianSignal(mass=750.0, width=40.0, events=5000)
    parts = [dijet(first, 50_000, 8, total=150_000, signal=signal) for first in (0, 50_000, 100_000)]
    mass = np.concatenate([part.hard_scale for part in parts])
    process = np.concatenate([part.process for part in parts])
    assert np.count_nonzero(process == 1) == 5000
    assert mass[process == 1].mean() == pytest.approx(750.0, abs=3.5 * 40.0 / math.sqrt(5000))
    assert mass[process == 1].std() == pytest.approx(40.0, rel=0.035)
    edges = np.geomspace(200.0, 2000.0, 31)

    def spectrum(m: float) -> float:
        x = m / 13600.0
        return float((1.0 - x) ** 10.0 * x ** -(5.5 + 0.1 * math.log(x)))

    integrals = np.array([quad(spectrum, a, b)[0] for a, b in pairwise(edges)])
    total = quad(spectrum, 200.0, 12000.0, limit=200)[0]
    found, _ = np.histogram(mass[process == 0], edges)
    expected = integrals / total * 145_000
    assert np.sum((found - expected) ** 2 / expected) < 30 + 3.5 * math.sqrt(60)
    hlt = padded(parts[0].hlt, 2)
    assert 0.3 < np.mean(np.abs(hlt[1, :, 0] - hlt[1, :, 1]) < 1.3) < 0.9


def test_dimuon_peaks_and_widths() -> None:
    events = dimuon(0, 60_000, 2)
    muons = padded(events.hlt_muons, 2)
    vectors = [np.array([*muons[:3, :, k], np.full(muons.shape[1], 0.1056584)]) for k in range(2)]
    mass = two_body_mass(vectors[0], vectors[1])
    detector = MuonDetector()
    sigma = np.where(np.abs(muons[1]) < detector.barrel_eta, detector.hlt_barrel, detector.hlt_forward)
    width = np.sqrt(sigma[:, 0] ** 2 + sigma[:, 1] ** 2) / 2.0
    opposite = muons[3, :, 0] * muons[3, :, 1] < 0.0
    total = sum(process.events for process in PROCESSES)
    for index, process in enumerate(PROCESSES):
        chosen = events.process == index
        expected = 60_000 * process.events / total
        assert abs(chosen.sum() - expected) < 4.0 * math.sqrt(expected)
        assert np.all(opposite[chosen] != process.same_sign)
        if process.name in ("J/psi", "Upsilon(1S)"):
            pull = (mass[chosen] / process.mass - 1.0) / width[chosen]
            assert abs(np.median(pull)) < 3.5 * 1.2533 / math.sqrt(chosen.sum())
            # The angles add up to 0.3 % to the width, in quadrature.
            assert np.mean(np.abs(pull) < 1.0) == pytest.approx(0.6827, abs=0.03)
    displaced = events.process == 3
    vertices = padded(events.dimuon_vertices, 1)[:, displaced, 0]
    primary = padded(events.vertices, 1)[:, displaced, 0]
    length = np.hypot(vertices[0] - primary[0], vertices[1] - primary[1])
    assert 0.1 < np.mean(length > 5.0 * 0.003) < 0.2  # 20 % from decays in flight, some of them short


def test_mantissa_of_ten_bits() -> None:
    generator = np.random.default_rng(1)
    values = (generator.normal(size=3000) * 10.0 ** generator.uniform(-3, 3, 3000)).astype(np.float32)
    values[:4] = [0.0, 1.0, np.float32(2.0) - np.float32(2.0) ** -23, -3.0]
    rounded = round_mantissa(values[np.newaxis])[0]
    for value, result in zip(values.tolist(), rounded.tolist(), strict=True):
        mantissa, exponent = math.frexp(abs(value))
        # frexp's mantissa is in [1/2, 1): one bit for the leading one, ten for what is stored.
        units = mantissa * 2048.0
        kept = math.floor(units) if units >= 2046.0 else math.floor(units + 0.5)
        assert result == math.copysign(math.ldexp(kept, exponent - 11), value)
    assert np.all(np.abs(rounded - values) <= 2.0**-10 * np.abs(values))


CMS_TYPES = {
    "run": "uint32_t",
    "luminosityBlock": "uint32_t",
    "event": "uint64_t",
    "ScoutingRho_fixedGridRhoFastjetAll": "float",
    **{f"n{name}": "int32_t" for name in ("ScoutingPFJet", "ScoutingPrimaryVertex", "ScoutingMuonVtx")},
    **{f"n{name}": "int32_t" for name in ("ScoutingMuonVtxDisplacedVertex", "ScoutingMuonVtxVtxIndx")},
    **{
        f"ScoutingPFJet_{name}": "int32_t[]" if name.endswith("Multiplicity") else "float[]"
        for name in (
            *(
                "pt",
                "eta",
                "phi",
                "m",
                "jetArea",
                "chargedHadronEnergy",
                "neutralHadronEnergy",
                "photonEnergy",
            ),
            *("electronEnergy", "muonEnergy", "HFHadronEnergy", "HFEMEnergy", "chargedHadronMultiplicity"),
            *("neutralHadronMultiplicity", "photonMultiplicity", "electronMultiplicity", "muonMultiplicity"),
        )
    },
    **{f"ScoutingPrimaryVertex_{name}": "float[]" for name in "xyz"},
    **{f"ScoutingMuonVtx_{name}": "float[]" for name in ("pt", "eta", "phi", "m", "trackIso")},
    "ScoutingMuonVtx_charge": "int32_t[]",
    "ScoutingMuonVtx_nScoutingMuonVtxVtxIndx": "uint16_t[]",
    "ScoutingMuonVtx_oScoutingMuonVtxVtxIndx": "uint16_t[]",
    "ScoutingMuonVtxVtxIndx_vtxIndx": "int32_t[]",
    **{
        f"ScoutingMuonVtxDisplacedVertex_{name}": "float[]"
        for name in ("x", "y", "z", "xError", "yError", "zError", "chi2", "ndof")
    },
    **{f"DST_PFScouting_{name}": "bool" for name in ("JetHT", "DoubleMuon", "ZeroBias")},
    **{f"HLT_PFJet{name}": "bool" for name in (40, 60, 80, 140, 200, 260, 320, 400, 450, 500)},
    **dict.fromkeys(("HLT_IsoMu27", "L1_HTT280er", "L1_SingleJet180"), "bool"),
}
CMS_JETS_TYPES = {
    **{f"n{name}": "int32_t" for name in ("Jet", "GenJet", "Muon")},
    **{f"Jet_{name}": "float[]" for name in ("pt", "eta", "phi", "mass", "rawFactor", "area")},
    **{f"GenJet_{name}": "float[]" for name in ("pt", "eta", "phi", "mass")},
    **{f"Muon_{name}": "float[]" for name in ("pt", "eta", "phi", "mass")},
    "Muon_charge": "int32_t[]",
    **dict.fromkeys(("genWeight", "Generator_binvar", "Pileup_nTrueInt"), "float"),
    "PV_npvsGood": "int32_t",
}
ATLAS_TYPES = {
    "runNumber": "uint32_t",
    "eventNumber": "uint64_t",
    "lumiBlock": "uint32_t",
    "averageInteractionsPerCrossing": "float",
    "actualInteractionsPerCrossing": "float",
    "ntrigger_akt4_pf": "int32_t",
    **{f"trigger_akt4_pf_{name}": "float[]" for name in ("pt", "eta", "phi", "m")},
    "noffline_pv": "int32_t",
    "offline_pv_z": "float[]",
}
ATLAS_JETS_TYPES = {
    "mcChannelNumber": "uint32_t",
    "nmcEventWeights": "int32_t",
    "mcEventWeights": "float[]",
    "noffline_akt4_pf_NOSYS": "int32_t",
    **{f"offline_akt4_pf_NOSYS_{name}": "float[]" for name in ("pt", "eta", "phi", "m")},
}


def types(path: Path, tree: str) -> dict[str, str]:
    with uproot.open(path) as file:
        return dict(file[tree].typenames())


def content(paths: list[Path], tree: str = "Events") -> ak.Array:
    return ak.concatenate([uproot.open(path)[tree].arrays() for path in paths])


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("jets")
    paths = simulation.simulate(folder, events=7001, files=3, seed=4)
    return paths, json.loads((folder / "truth.json").read_text())


def test_branches_of_cms(sample: tuple[list[Path], dict[str, Any]], tmp_path: Path) -> None:
    assert types(sample[0][0], "Events") == CMS_TYPES | CMS_JETS_TYPES
    for kind in ("dijet", "dimuon"):
        (path,) = simulation.simulate(tmp_path / kind, kind=kind, events=50)
        assert types(path, "Events") == CMS_TYPES


def test_branches_of_atlas(sample: tuple[list[Path], dict[str, Any]], tmp_path: Path) -> None:
    (path,) = simulation.simulate(tmp_path / "dijet", kind="dijet", events=50, format="atlas-tla")
    assert types(path, "AnalysisMiniTree") == ATLAS_TYPES
    (path,) = simulation.simulate(tmp_path / "jets", events=7001, seed=4, format="atlas-tla")
    assert types(path, "AnalysisMiniTree") == ATLAS_TYPES | ATLAS_JETS_TYPES
    atlas, cms = content([path], "AnalysisMiniTree"), content(sample[0])
    trigger, scouting = (
        ak.to_numpy(ak.flatten(pt)) for pt in (atlas["trigger_akt4_pf_pt"], cms["ScoutingPFJet_pt"])
    )
    np.testing.assert_allclose(trigger, 1000.0 * scouting, rtol=2.0**-10)
    np.testing.assert_array_equal(ak.to_numpy(atlas["mcEventWeights"])[:, 0], ak.to_numpy(cms["genWeight"]))


def test_identity_of_events(sample: tuple[list[Path], dict[str, Any]]) -> None:
    paths, truth = sample
    assert (
        [path.name for path in paths] == ["jets_000.root", "jets_001.root", "jets_002.root"] == truth["files"]
    )
    events = content(paths)
    assert np.unique(ak.to_numpy(events["event"])).size == len(events) == 7001
    for index, path in enumerate(paths):
        part = content([path])
        assert set(part["run"].tolist()) == {380000 + index}
        expected = 1 + np.arange(len(part)) // 1000
        assert part["luminosityBlock"].tolist() == expected.tolist()


def test_same_seed_same_events(sample: tuple[list[Path], dict[str, Any]], tmp_path: Path) -> None:
    """Whatever the block and the number of files."""
    steps: list[int] = []
    again = simulation.simulate(tmp_path / "a", events=7001, seed=4, block=997, progress=steps.append)
    other = simulation.simulate(tmp_path / "b", events=7001, seed=5)
    assert sum(steps) == 7001
    assert max(steps) == 997
    first, second, third = content(sample[0]), content(again), content(other)
    for name in first.fields:
        if name not in ("run", "luminosityBlock"):
            assert ak.array_equal(first[name], second[name]), name
    assert not ak.array_equal(first["genWeight"], third["genWeight"])


def test_stored_content(sample: tuple[list[Path], dict[str, Any]]) -> None:
    paths, truth = sample
    events = content(paths)
    for name in ("ScoutingPFJet_pt", "Jet_pt", "GenJet_pt"):
        pt = events[name]
        assert ak.all(pt[:, :-1] >= pt[:, 1:]), "highest pT first"
    assert ak.min(events["ScoutingPFJet_pt"]) >= 10.0
    assert ak.min(events["Jet_pt"]) >= 10.0
    assert ak.max(abs(events["GenJet_eta"])) < 4.7
    for name, kind in CMS_TYPES.items():
        if name.startswith("Scouting") and kind == "float[]":
            for value in ak.flatten(events[name])[:500].tolist():
                assert (math.frexp(value)[0] * 2048.0).is_integer(), name
    parts = ("chargedHadron", "neutralHadron", "photon", "electron", "muon", "HFEM")
    sums = sum(events[f"ScoutingPFJet_{part}Energy"] for part in parts)
    energy = np.hypot(
        events["ScoutingPFJet_pt"] * np.cosh(events["ScoutingPFJet_eta"]), events["ScoutingPFJet_m"]
    )
    np.testing.assert_allclose(ak.flatten(sums), ak.flatten(energy), rtol=4e-3)
    raw = ak.flatten(events["Jet_pt"] * (1.0 - events["Jet_rawFactor"]))
    assert np.all(ak.to_numpy(raw) < ak.to_numpy(ak.flatten(events["Jet_pt"])))
    assert np.mean(events["HLT_IsoMu27"]) == pytest.approx(0.2, abs=0.02)
    assert np.mean(events["nMuon"] == 2) == pytest.approx(0.2, abs=0.02)
    empty = events["nScoutingPrimaryVertex"] == 0
    assert np.count_nonzero(empty) == truth["events_without_hlt_objects"] > 0
    assert not np.any(events[empty]["ScoutingRho_fixedGridRhoFastjetAll"])
    assert not np.any(events[empty]["nScoutingPFJet"])


def test_trigger_bits_are_the_truth(sample: tuple[list[Path], dict[str, Any]]) -> None:
    paths, truth = sample
    events = content(paths)
    stored = events[events["nScoutingPrimaryVertex"] > 0]
    leading = ak.fill_none(ak.firsts(stored["ScoutingPFJet_pt"]), 0.0)
    for threshold in (40, 140, 500):
        name = f"HLT_PFJet{threshold}"
        assert ak.all(stored[name] == (leading >= truth["triggers"][name]["threshold"]))
        assert 0 < np.count_nonzero(stored[name]) < len(stored)
    assert ak.all(stored["DST_PFScouting_JetHT"] == (stored["L1_HTT280er"] | stored["L1_SingleJet180"]))
    assert not ak.any(events[events["nScoutingPrimaryVertex"] == 0]["DST_PFScouting_JetHT"])


def test_vertex_index_tables(tmp_path: Path) -> None:
    (path,) = simulation.simulate(tmp_path, kind="dimuon", events=500)
    seen = 0
    for event in content([path]):
        for n, o in zip(
            event["ScoutingMuonVtx_nScoutingMuonVtxVtxIndx"],
            event["ScoutingMuonVtx_oScoutingMuonVtxVtxIndx"],
            strict=True,
        ):
            indices = event["ScoutingMuonVtxVtxIndx_vtxIndx"][o : o + n]
            assert len(indices) == n
            assert all(0 <= index < event["nScoutingMuonVtxDisplacedVertex"] for index in indices)
            seen += n
        assert event["nScoutingMuonVtxVtxIndx"] == sum(event["ScoutingMuonVtx_nScoutingMuonVtxVtxIndx"])
    assert seen > 300


def test_truth_file(sample: tuple[list[Path], dict[str, Any]], tmp_path: Path) -> None:
    truth = sample[1]
    assert (truth["kind"], truth["seed"], truth["events"]) == ("jets", 4, 7001)
    assert truth["parameters"]["detector"]["hlt"][0] == {"noise": 4.5, "stochastic": 1.0, "constant": 0.045}
    (barrel,) = (row for row in truth["response"]["table"] if row["abs_eta"] == [0.0, 1.3])
    at = barrel["pt"].index(100)
    assert barrel["hlt"]["median"][at] == pytest.approx(float(toy_truth.hlt_response(100.0, 0.65).median))
    assert truth["spectrum"]["exponent"] == 5.0
    signal = GaussianSignal(600.0, 30.0, 20)
    simulation.simulate(tmp_path / "dijet", kind="dijet", events=1000, signal=signal)
    truth = json.loads((tmp_path / "dijet" / "truth.json").read_text())
    assert truth["signal"] == {"mass": 600.0, "width": 30.0, "events": 20}
    assert truth["spectrum"]["signal_events"] == 20
    p0, p1, p2, p3 = truth["spectrum"]["parameters"]
    total, _ = quad(
        lambda m: p0 * (1 - m / 13600) ** p1 * (m / 13600) ** -(p2 + p3 * math.log(m / 13600)),
        200,
        12000,
        limit=200,
    )
    assert total == pytest.approx(980.0, rel=1e-6)
    simulation.simulate(tmp_path / "dimuon", kind="dimuon", events=1000)
    truth = json.loads((tmp_path / "dimuon" / "truth.json").read_text())
    processes = truth["dimuon"]["processes"]
    assert sum(process["generated"] for process in processes) == 1000
    assert sum(process["expected"] for process in processes) == pytest.approx(1000.0)


def test_an_earlier_sample_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".jets_000.root.part").touch()  # of a run that was killed
    simulation.simulate(tmp_path, events=40, files=4)
    simulation.simulate(tmp_path, events=40, files=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "jets_000.root",
        "jets_001.root",
        "truth.json",
    ]


def test_a_failed_run_leaves_the_earlier_sample(tmp_path: Path) -> None:
    simulation.simulate(tmp_path, events=40)
    before = (tmp_path / "truth.json").read_text()

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulation.simulate(tmp_path, events=80, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jets_000.root", "truth.json"]
    assert (tmp_path / "truth.json").read_text() == before


def test_messages(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        ValueError, match=r"is not empty \(it holds notes.txt\) and has no truth.json.*choose an empty"
    ):
        simulation.simulate(tmp_path, events=10)
    (tmp_path / "truth.json").write_text("{}")
    with pytest.raises(ValueError, match=r"truth.json does not list the files.*choose an empty"):
        simulation.simulate(tmp_path, events=10)
    with pytest.raises(ValueError, match=r"notes.txt is a file, expected a folder; choose another"):
        simulation.simulate(tmp_path / "notes.txt", events=10)
    new = tmp_path / "new"
    with pytest.raises(ValueError, match=r"unknown kind of sample 'jet'; did you mean jets"):
        simulation.simulate(new, kind="jet")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"unknown format of a sample 'atlas'; known: atlas-tla, cms-scouting|did you"
    ):
        simulation.simulate(new, format="atlas")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"that layout has no muons; use cms-scouting"):
        simulation.simulate(new, kind="dimuon", format="atlas-tla")
    with pytest.raises(ValueError, match=r"files is 9, expected 1 to 5; choose"):
        simulation.simulate(new, events=5, files=9)
    with pytest.raises(
        ValueError, match=r"signal of 6 events in a sample of 5; expected 0 to 5.*ask for fewer"
    ):
        simulation.simulate(new, kind="dijet", events=5, signal=GaussianSignal(600.0, 30.0, 6))
    with pytest.raises(
        ValueError, match=r"a signal was given for kind jets; it exists for dijet only: leave it out"
    ):
        simulation.simulate(new, events=5, signal=GaussianSignal(600.0, 30.0, 1))
    assert not new.exists()
