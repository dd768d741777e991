"""Uncertainties of a scale, each as a relative change of the correction against the corrected pT.

| source | what is changed |
| --- | --- |
| `statistical_0`, ... | the events: eigen-variations of the covariance of the bootstrap replicas, largest first |
| `statistical_rest` | the eigen-variations that are too small to be kept one by one, all together |
| `method` | the estimator of the response: the one that makes the largest difference |
| `binning` | the bins of the tag's pT, shifted by half a bin |
| `trigger` | tags near the threshold of their trigger are left out; zero where the trigger does not look at the tag |
| `smoothing` | one knot more or one less: what makes the larger difference |
| `closure` | nothing: what the curve leaves of the medians beyond their errors, the same at all pT |

Except for the first two, the sign of a source is a convention: each is fully correlated over pT and η.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trila.corrections.cells import sort_cells, sorted_medians
from trila.corrections.derivation import DerivationConfig, Scale, outer_knots
from trila.corrections.estimators import ESTIMATORS, locations
from trila.corrections.pairs import Pairs
from trila.corrections.resampling import bootstrap_weights
from trila.corrections.response_curve import Cells, Curve, fit_curve
from trila.corrections.splines import natural_basis, spread_knots
from trila.corrections.tag_bins import TagBins, measure, tag_bins, used_cells

__all__ = ["Sources", "uncertainties"]

Array = NDArray[np.float64]

#: For each region of η, where it has a curve, the relative change of the correction by source; shape (points,) each.
Sources = tuple[Mapping[str, Array], ...]

# Above this multiple of a threshold on the HLT pT a single-jet trigger is fully efficient.
_PLATEAU = 1.25


def uncertainties(
    pairs: Pairs,
    scale: Scale,
    config: DerivationConfig,
    log_pt: Sequence[Array],
    *,
    trigger_threshold: float = 0.0,
    progress: Callable[[int], None] = lambda _steps: None,
) -> Sources:
    """All sources.

    Args:
        pairs, config: what the scale was derived from, and how.
        scale: the result.
        log_pt: ln of the corrected pT at which they are wanted, one array for each region.
        trigger_threshold: GeV, of the single-jet trigger that the tags fired; 0 if none was asked for.
        progress: called with 1 after each step.
    """
    bins = tag_bins(pairs, config.eta_edges, config.pt_edges)
    jets, cells, used = scale.log_pt, scale.cells, scale.measurement.used
    sources: list[dict[str, Array]] = [{} for _ in scale.curves]

    def add(name: str, changes: Sequence[Array | None]) -> None:
        for region, change in enumerate(changes):
            if change is not None:
                sources[region][name] = change
        progress(1)

    for name, variation in _statistical(pairs, bins, scale, config, log_pt).items():
        add(name, variation)
    hlt = np.exp(jets)
    others = []
    for estimator in ESTIMATORS:
        if estimator != config.estimator:
            found = locations(estimator, bins.cell, hlt, pairs.offline, pairs.weight, bins.cells)
            others.append(
                _remainder(cells._replace(log_median=bins.table(np.log(found))), used, scale, log_pt)
            )
    add("method", _largest(others))
    half = np.sqrt(np.multiply(config.pt_edges[1:], config.pt_edges[:-1])).tolist()
    shifted = tag_bins(pairs, config.eta_edges, half)
    again = measure(pairs, shifted, jets, config.estimator)
    add("binning", _remainder(again, _usable(again, shifted.entries, config), scale, log_pt))
    away = used & (np.asarray(config.pt_edges[:-1]) >= _PLATEAU * trigger_threshold)
    add(
        "trigger",
        _remainder(cells, away, scale, log_pt) if trigger_threshold > 0 else _nothing(scale, log_pt),
    )
    add("smoothing", _largest([_with_knots(cells, used, scale, log_pt, step) for step in (-1, 1)]))
    add("closure", _misfit(cells, used, scale, log_pt))
    return tuple(sources)


def _usable(cells: Cells, entries: Array, config: DerivationConfig) -> NDArray[np.bool_]:
    return (entries >= config.entries) & np.isfinite(cells.log_median) & (cells.error > 0)


def _change(curve: Curve, shift: Array, log_pt: Array, knots: Array) -> Array:
    """Relative change of the correction if the coefficients for `knots` change by `shift`, shape (k, ...); (points, ...)."""
    basis = natural_basis(np.clip(log_pt, curve.low, curve.high), knots)
    slope = 1.0 + curve.slope(log_pt)
    return np.asarray(-(basis @ shift) / slope.reshape(-1, *[1] * (shift.ndim - 1)))


def _each(
    scale: Scale, log_pt: Sequence[Array], change: Callable[[int, Curve, Array], Array]
) -> list[Array | None]:
    """A change of the correction in each region, from its number, its curve and the points; None without a curve."""
    return [
        None if curve is None else change(region, curve, points)
        for region, (curve, points) in enumerate(zip(scale.curves, log_pt, strict=True))
    ]


def _remainder(
    cells: Cells, used: NDArray[np.bool_], scale: Scale, log_pt: Sequence[Array]
) -> list[Array | None]:
    """Change of the correction that would bring these medians to one; constant beyond the first and last of them.

    Nothing where there are none. A bin without an answer counts as one without a difference: left out, it would let the
    spline swing.
    """

    def change(region: int, curve: Curve, points: Array) -> Array:
        own = used_cells(cells, used, region)
        if own.log_median.size == 0:
            return np.zeros_like(points)
        # with fewer bins than knots, one change for all pT
        enough = own.log_median.size >= curve.knots.size
        knots = curve.knots if enough else spread_knots(*outer_knots(own), 1)
        _, _, solver = fit_curve(own, curve, knots)
        held = np.clip(points, *outer_knots(own))
        return _change(curve, solver @ np.nan_to_num(own.log_median), held, knots)

    return _each(scale, log_pt, change)


def _nothing(scale: Scale, log_pt: Sequence[Array]) -> list[Array | None]:
    return _each(scale, log_pt, lambda _region, _curve, points: np.zeros_like(points))


def _largest(alternatives: Sequence[Sequence[Array | None]]) -> list[Array | None]:
    """In each region the alternative that differs most, by its mean square.

    Not the largest of all at each pT: that has kinks, which a falling spectrum would show.
    """
    found: list[Array | None] = []
    for region in zip(*alternatives, strict=True):
        changes = [change for change in region if change is not None]
        found.append(max(changes, key=lambda change: float(np.mean(change**2))) if changes else None)
    return found


def _with_knots(
    cells: Cells, used: NDArray[np.bool_], scale: Scale, log_pt: Sequence[Array], step: int
) -> list[Array | None]:
    def change(region: int, curve: Curve, points: Array) -> Array:
        own = used_cells(cells, used, region)
        number = min(max(curve.knots.size + step, 1), own.log_median.size)
        other, _, _ = fit_curve(own, curve, spread_knots(*outer_knots(own), number))
        difference = other.log_response(points) - curve.log_response(points)
        return np.asarray(-difference / (1.0 + curve.slope(points)))

    return _each(scale, log_pt, change)


def _misfit(
    cells: Cells, used: NDArray[np.bool_], scale: Scale, log_pt: Sequence[Array]
) -> list[Array | None]:
    """Spread of the remaining medians beyond that of their errors."""

    def change(region: int, curve: Curve, points: Array) -> Array:
        own = used_cells(cells, used, region)
        weight = own.error**-2
        # knots.size of the medians' freedoms are used up by the curve
        share = max(1.0 - curve.knots.size / own.log_median.size, 0.0)
        errors = np.average(own.error**2, weights=weight)
        excess = np.average(own.log_median**2, weights=weight) - share * errors
        return np.full_like(points, np.sqrt(max(excess, 0.0)))

    return _each(scale, log_pt, change)


def _statistical(
    pairs: Pairs, bins: TagBins, scale: Scale, config: DerivationConfig, log_pt: Sequence[Array]
) -> dict[str, list[Array | None]]:
    """Eigen-variations of all coefficients together: two entries of an event may lie in different regions."""
    shifts = _replica_shifts(pairs, bins, scale, config)
    parts = [slice(0, 0)]
    for curve in scale.curves:
        parts.append(slice(parts[-1].stop, parts[-1].stop + (0 if curve is None else curve.knots.size)))
    # in units of the correction itself, so that "largest" is largest in what matters
    changes = [
        None if curve is None else _change(curve, shifts[part], points, curve.knots)
        for curve, part, points in zip(scale.curves, parts[1:], log_pt, strict=True)
    ]
    stacked = np.concatenate([c for c in changes if c is not None]) / np.sqrt(shifts.shape[1] - 1)
    vectors, sizes, _ = np.linalg.svd(stacked, full_matrices=False)
    variations = vectors * sizes
    kept = min(config.eigen_variations, variations.shape[1])
    named = {f"statistical_{number}": variations[:, number] for number in range(kept)}
    named["statistical_rest"] = np.sqrt(np.sum(variations[:, kept:] ** 2, axis=1))
    found: dict[str, list[Array | None]] = {}
    for name, values in named.items():
        pieces = iter(np.split(values, np.cumsum([c.shape[0] for c in changes if c is not None])[:-1]))
        found[name] = [None if c is None else next(pieces) for c in changes]
    return found


def _replica_shifts(pairs: Pairs, bins: TagBins, scale: Scale, config: DerivationConfig) -> Array:
    """Change of all coefficients in each replica, centred; shape (coefficients, replicas)."""
    entries = sort_cells(bins.cell, np.exp(scale.log_pt) / pairs.offline, bins.cells)
    weight = pairs.weight[entries.order]
    nominal = sorted_medians(entries, weight)
    ratios = np.empty((config.replicas, bins.cells))
    run, block, event = (a[entries.order] for a in (pairs.run, pairs.luminosity_block, pairs.event))
    for number, taken in enumerate(bootstrap_weights(run, block, event, config.replicas)):
        ratios[number] = sorted_medians(entries, weight * taken)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(ratios / nominal).reshape(config.replicas, bins.regions, bins.bins)
    shifts = []
    for region, curve in enumerate(scale.curves):
        if curve is not None:
            used = scale.measurement.used[region]
            own = used_cells(scale.cells, scale.measurement.used, region)
            _, _, solver = fit_curve(own, curve, curve.knots)
            shifts.append(solver @ np.nan_to_num(logs[:, region][:, used]).T)
    stacked = np.concatenate(shifts)
    return np.asarray(stacked - stacked.mean(axis=1, keepdims=True))
