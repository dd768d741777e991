"""What a calibration's report says in numbers: responses, curves, uncertainties, resolution, distortion of a mass spectrum."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.derive import Derived
from trila.corrections.distortion import mass_distortion
from trila.corrections.jer import Jer
from trila.corrections.resolution import resolution
from trila.corrections.run_series import response_by_run, suggested_ranges

__all__ = ["notes", "summarise"]

Array = NDArray[np.float64]

#: Regions inside this |η| count for the distortion of a dijet mass spectrum.
_CENTRAL = 1.3

# Knots of a curve are at least so many mass resolutions apart, or a calibration's wiggle can look like a resonance.
_APART = 3.0


def summarise(derived: Derived, config: CalibrationConfig, description: Mapping[str, Any]) -> dict[str, Any]:
    """Content of `calibration.json`."""
    return {
        **description,
        "iterations": derived.scale.iterations,
        "last_change": derived.scale.change,
        "regions": [_region(derived, config, number) for number in range(len(derived.scale.curves))],
        "resolution": [_jer(jer) for jer in derived.jer],
        "pileup": None
        if derived.calibration.offset is None
        else _plain(derived.calibration.offset._asdict()),
        "runs": [[r.first, r.last] for r in derived.calibration.runs],
        "suggested_runs": suggested_runs(derived),
    }


def suggested_runs(derived: Derived) -> list[int]:
    """First run of each range in which the barrel's response, corrected for all runs together, is constant."""
    pairs = derived.pairs
    central = np.abs(pairs.eta) < _CENTRAL
    response = np.exp(derived.scale.log_pt[central]) / pairs.offline[central]
    return suggested_ranges(response_by_run(pairs.run[central], response, pairs.weight[central]))


def notes(derived: Derived, config: CalibrationConfig) -> list[str]:
    """What the user should know: bins that were not used, regions without a calibration, slow convergence."""
    found = []
    measured = derived.scale.measurement
    unused = (~measured.used) & (measured.entries > 0)
    if unused.any():
        found.append(
            f"{unused.sum()} of {(measured.entries > 0).sum()} bins have fewer than {config.scale.entries:g} effective "
            "pairs, or no valid response, and were not used"
        )
    edges = config.scale.eta_edges
    for number, curve in enumerate(derived.scale.curves):
        if curve is None:
            found.append(f"no calibration for eta {edges[number]:g} to {edges[number + 1]:g}: too few pairs")
    if derived.scale.change > config.scale.tolerance:
        found.append(
            f"the last of {derived.scale.iterations} passes still changed a correction by {derived.scale.change:.2g}"
        )
    if derived.calibration.offset is None and config.pileup:
        found.append("no pile-up offset: the pairs have neither rho nor mu, or it does not vary")
    for one in derived.calibration.runs:
        lacking = [
            f"{edges[k]:g} to {edges[k + 1]:g}"
            for k, (own, common) in enumerate(zip(one.curves, derived.scale.curves, strict=True))
            if own is None and common is not None
        ]
        if lacking:
            found.append(
                f"runs {one.first} to {one.last}: too few pairs for eta {', '.join(lacking)}; what all runs share holds there"
            )
    found += _close_knots(derived, config)
    suggested = suggested_runs(derived)
    if len(suggested) > max(len(config.runs), 1):
        found.append(
            f"the response changes with the run; ranges with a calibration of their own: runs: {suggested}"
        )
    for jer in derived.jer:
        if jer.fit is None:
            found.append(
                f"no {jer.collection} resolution for |eta| {jer.eta[0]:g} to {jer.eta[1]:g}: {jer.note}"
            )
    return found


def _close_knots(derived: Derived, config: CalibrationConfig) -> list[str]:
    """Central regions whose curve can follow structures as narrow as a resonance in a dijet mass spectrum."""
    found = []
    resolutions = [jer.fit for jer in derived.jer if jer.collection == "hlt" and jer.eta[0] == 0 and jer.fit]
    edges = config.scale.eta_edges
    for fit in resolutions[:1]:
        for number, curve in enumerate(derived.scale.curves):
            if curve is None or max(abs(edges[number]), abs(edges[number + 1])) > _CENTRAL:
                continue
            middle = np.exp(0.5 * (curve.knots[1:] + curve.knots[:-1]))
            # of the mass of two jets with the same relative resolution
            narrow = np.diff(curve.knots) < _APART * resolution(middle, fit.n, fit.s, fit.c) / np.sqrt(2.0)
            if narrow.any():
                found.append(
                    f"eta {edges[number]:g} to {edges[number + 1]:g}: {narrow.sum()} pairs of knots are closer than {_APART:g} mass "
                    "resolutions; what they follow can look like a resonance: lower scale: knots"
                )
    return found


def _region(derived: Derived, config: CalibrationConfig, number: int) -> dict[str, Any]:
    measured, curve = derived.scale.measurement, derived.scale.curves[number]
    eta, edges = config.scale.eta_edges[number : number + 2], config.scale.pt_edges
    log_pt, sources = derived.calibration.log_pt[number], derived.calibration.sources[number]
    found: dict[str, Any] = {
        "eta": list(eta),
        "pt_tag_edges": list(edges),
        **{name: _plain(values[number]) for name, values in measured._asdict().items()},
        "curve": None,
    }
    if curve is not None:
        used = measured.used[number]
        misses = np.log(measured.corrected[number][used]) / measured.error[number][used]
        found["curve"] = {
            "knots": _plain(np.exp(curve.knots)),
            "pt_range": [float(np.exp(curve.low)), float(np.exp(curve.high))],
            "chi2": float(np.sum(misses**2)),
            "ndof": int(used.sum() - curve.knots.size),
            "largest_change": {name: float(np.max(np.abs(change))) for name, change in sources.items()},
        }
        if max(abs(e) for e in eta) <= _CENTRAL:
            found["curve"]["mass_distortion"] = {
                name: float(
                    np.max(np.abs(mass_distortion(log_pt + np.log(2), change, config.spectrum_index)))
                )
                for name, change in sources.items()
            }
    return found


def _jer(jer: Jer) -> dict[str, Any]:
    found = {name: _plain(value) for name, value in jer._asdict().items()}
    found["fit"] = None if jer.fit is None else _plain(jer.fit._asdict())
    return found


def _plain(value: Any) -> Any:
    """As JSON knows it; no number where there is none."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
