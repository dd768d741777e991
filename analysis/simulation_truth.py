"""What `truth.json` of a simulated sample holds: all that went in, and what a measurement should find."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from trila import __version__
from trila.analysis.simulation_branches import HT_THRESHOLD, JET_THRESHOLDS, SINGLE_JET_THRESHOLD
from trila.analysis.toy_dijet import GaussianSignal
from trila.analysis.toy_dimuon import PROCESSES
from trila.analysis.toy_model import Toy
from trila.analysis.toy_truth import ResponseTruth, hlt_over_offline, hlt_response, offline_response
from trila.fits.functions import Domain, expectation

__all__ = ["sample_truth"]

_ETA_REGIONS = ((0.0, 1.3), (1.3, 2.5), (2.5, 3.0), (3.0, 4.7))
_PT_GRID = (20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000, 1500, 2000, 3000)


def sample_truth(
    kind: str,
    format: str,
    events: int,
    files: Sequence[str],
    first_run: int,
    seed: int,
    signal: GaussianSignal | None,
    toy: Toy,
    counts: Counter[str],
) -> dict[str, Any]:
    """The content of `truth.json`.

    Args:
        kind, format, events, seed, signal, toy: as in `simulate`.
        files: names of the files.
        first_run: run number of the first one.
        counts: how many events came out "without HLT objects" and of "process i", i as in `Events`.
    """
    truth: dict[str, Any] = {
        "trila": __version__,
        "kind": kind,
        "format": format,
        "events": events,
        "files": list(files),
        "seed": seed,
        "first_run": first_run,
        "parameters": _plain(toy),
        "events_without_hlt_objects": counts["without HLT objects"],
        "pileup": {
            "mu_mean": toy.pileup.mu_mean,
            "rho_mean": toy.pileup.rho_mean,
            "rho_spread": toy.pileup.rho_spread,
            "offset": "HLT jets carry offset·(rho - offset_rho)/10·area/0.5 GeV, offline jets nothing",
        },
        "response": {
            "definition": "measured over particle-level pT at particle-level (pt, eta), averaged over pile-up; "
            "hlt_over_offline at particle-level pt, its mean is the ratio of means; the low tail is "
            "independent in HLT and offline, and not part of core and resolution",
            "table": _response_table(toy),
        },
        "triggers": _trigger_truth(toy),
    }
    if kind == "jets":
        truth["spectrum"] = {
            "of": "pT of the hard scattering (Generator_binvar), with genWeight",
            "function": "p^-exponent (1 - 2p/sqrt_s)^beta from pt_min to pt_max",
            **{k: getattr(toy.jets, k) for k in ("exponent", "beta", "sqrt_s", "pt_min", "pt_max", "bias")},
        }
    if kind == "dijet":
        truth["spectrum"] = _dijet_truth(toy, counts)
        truth["signal"] = _plain(signal) if signal is not None else None
    if kind in ("jets", "dimuon"):
        truth["dimuon"] = _dimuon_truth(kind, events, toy, counts)
    return truth


def _response_table(toy: Toy) -> list[dict[str, Any]]:
    rows = []
    for low, high in _ETA_REGIONS:
        eta, pt = (low + high) / 2, np.array(_PT_GRID, np.float64)
        truths: dict[str, ResponseTruth] = {
            "hlt": hlt_response(pt, eta, detector=toy.detector, pileup=toy.pileup),
            "offline": offline_response(pt, eta, detector=toy.detector),
            "hlt_over_offline": hlt_over_offline(pt, eta, detector=toy.detector, pileup=toy.pileup),
        }
        row: dict[str, Any] = {"abs_eta": [low, high], "at_abs_eta": eta, "pt": list(_PT_GRID)}
        rows.append(row | {k: {n: v.tolist() for n, v in t._asdict().items()} for k, t in truths.items()})
    return rows


def _dijet_truth(toy: Toy, counts: Counter[str]) -> dict[str, Any]:
    generator, background = toy.dijet, counts["process 0"]
    shape = (1.0, *generator.shape)
    edges = np.geomspace(generator.mass_min, generator.mass_max, 1001)
    domain = Domain(generator.mass_min, generator.mass_max, generator.sqrt_s)
    norm = background / float(expectation("dijet4", edges, shape, domain=domain).sum())
    return {
        "of": "particle-level dijet mass of the background",
        "function": "dijet4",
        "parameters": [norm, *generator.shape],
        "sqrt_s": generator.sqrt_s,
        "mass_min": generator.mass_min,
        "mass_max": generator.mass_max,
        "background_events": background,
        "signal_events": counts["process 1"],
    }


def _dimuon_truth(kind: str, events: int, toy: Toy, counts: Counter[str]) -> dict[str, Any]:
    shapes = ("resonance", "continuum", "combinatorial")
    pairs = events * (toy.jets.dimuon_fraction if kind == "jets" else 1.0)
    total = sum(process.events for process in PROCESSES)
    detector = toy.muon_detector
    return {
        "relative_mass_resolution": {
            # Two independent muons: σ_m/m = ½ √(σ1² + σ2²), up to the angles.
            region: {"hlt": hlt / np.sqrt(2.0), "offline": offline / np.sqrt(2.0)}
            for region, hlt, offline in (
                ("both muons in barrel", detector.hlt_barrel, detector.offline_barrel),
                ("both muons forward", detector.hlt_forward, detector.offline_forward),
            )
        },
        "processes": [
            {
                **_plain(process),
                "shape": shapes[process.shape],
                "expected": pairs * process.events / total,
                "generated": counts[f"process {index}"],
            }
            for index, process in enumerate(PROCESSES)
        ],
    }


def _trigger_truth(toy: Toy) -> dict[str, Any]:
    level1 = "particle-level jets times l1_scale, smeared by l1_resolution"
    triggers: dict[str, Any] = {
        "L1_HTT280er": {
            "threshold": HT_THRESHOLD,
            "acts_on": f"scalar sum of {level1}, above ht_pt within ht_eta",
        },
        "L1_SingleJet180": {"threshold": SINGLE_JET_THRESHOLD, "acts_on": f"leading of {level1}"},
        "DST_PFScouting_JetHT": {"acts_on": "L1_HTT280er or L1_SingleJet180"},
        "DST_PFScouting_DoubleMuon": {
            "threshold": toy.trigger.muon_threshold,
            "width": toy.trigger.muon_width,
            "acts_on": "true pT of both muons, an error function each",
        },
        "DST_PFScouting_ZeroBias": {"fraction": toy.trigger.zero_bias_fraction, "acts_on": "random"},
        "HLT_IsoMu27": {"fraction": toy.trigger.reference_fraction, "acts_on": "random"},
    }
    for threshold in JET_THRESHOLDS:
        triggers[f"HLT_PFJet{threshold}"] = {
            "threshold": float(threshold),
            "acts_on": "pT of the leading HLT jet as stored (also in events without HLT objects), at or above",
        }
    return triggers


def _plain(value: Any) -> Any:
    """Named tuples to dictionaries, at any depth."""
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
