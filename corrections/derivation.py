"""The HLT-to-offline scale from tag-and-probe pairs: a curve for each region of η.

1. Medians of HLT over offline pT of the probes in bins of the tag's offline pT;
2. a smooth curve through them (`trila.corrections.response_curve`), inverted to the raw HLT pT, applied to the probes;
3. the same with what remains, until nothing changes.

Uncertainties: `trila.corrections.uncertainties`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from trila.corrections.estimators import Estimator
from trila.corrections.pairs import Pairs
from trila.corrections.response_curve import Cells, Curve, choose_curve, fit_curve, unit_curve
from trila.corrections.tag_bins import GRID, TagBins, corrected, measure, tag_bins, used_cells

__all__ = ["DerivationConfig", "Measurement", "Scale", "derive", "outer_knots"]

Array = NDArray[np.float64]

# Part of the probes in the outermost bins beyond the ends of a curve: most jets of the sample lie inside.
_TAIL = 0.02


class DerivationConfig(BaseModel):
    """How the scale is derived.

    Attributes:
        eta_edges: regions of the probe's signed η, each with a curve of its own.
        pt_edges: bins of the tag's offline pT, GeV.
        estimator: of the response, for derivation and closure alike.
        iterations: least and largest number of passes.
        tolerance: stop when no correction changes by more than this.
        knots: largest number of knots of a curve.
        entries: effective entries below which a bin is not used.
        replicas: of the bootstrap.
        eigen_variations: statistical variations that are kept one by one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    eta_edges: tuple[float, ...] = (
        -5.2, -3.0, -2.5, -1.9, -1.3, -0.65, 0.0, 0.65, 1.3, 1.9, 2.5, 3.0, 5.2,
    )  # fmt: skip
    pt_edges: tuple[float, ...] = (
        30, 35, 40, 50, 60, 75, 90, 110, 135, 165, 200, 245, 300, 370, 450, 550, 670, 820, 1000, 1250, 1600, 2000, 3000,
    )  # fmt: skip
    estimator: Estimator = "median"
    iterations: tuple[int, int] = (2, 8)
    tolerance: float = Field(default=1e-4, gt=0)
    knots: int = Field(default=6, ge=1)
    entries: float = Field(default=100.0, gt=0)
    replicas: int = Field(default=100, ge=20)
    eigen_variations: int = Field(default=8, ge=1)

    @field_validator("eta_edges", "pt_edges")
    @classmethod
    def _ascending(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if len(edges) < 2 or list(edges) != sorted(set(edges)):
            raise ValueError(f"edges are {list(edges)}; expected two or more, ascending")
        return edges

    @field_validator("iterations")
    @classmethod
    def _at_least_two(cls, passes: tuple[int, int]) -> tuple[int, int]:
        if not 2 <= passes[0] <= passes[1]:
            raise ValueError(f"iterations are {list(passes)}; expected least and largest number, two or more")
        return passes


class Measurement(NamedTuple):
    """Responses by region of η and bin of the tag's pT, shape (regions, bins) each.

    Attributes:
        response: of the HLT jets as they came in.
        corrected: of the corrected ones.
        error: of the logarithm of either.
        entries: effective number of pairs.
        pt_offline, pt_hlt: means of the probes, GeV.
        used: whether the curve was fitted to it.
    """

    response: Array
    corrected: Array
    error: Array
    entries: Array
    pt_offline: Array
    pt_hlt: Array
    used: NDArray[np.bool_]


class Scale(NamedTuple):
    """What `derive` finds.

    Attributes:
        curves: of the regions; None where there were not enough pairs.
        measurement: what they were fitted to.
        iterations: how many passes it took.
        change: largest change of a correction in the last one.
        cells: what remains of the responses, and where the corrected probes are; arrays are (regions, bins, ...).
        log_pt: ln of the corrected pT of each pair (GeV), shape (n,).
    """

    curves: tuple[Curve | None, ...]
    measurement: Measurement
    iterations: int
    change: float
    cells: Cells
    log_pt: Array


def derive(
    pairs: Pairs, config: DerivationConfig, progress: Callable[[int], None] = lambda _steps: None
) -> Scale:
    """Derive the curves.

    Args:
        pairs: between the levels that it shall connect, with the pile-up offset taken off.
        config: how.
        progress: called with 1 after each pass.

    Raises:
        ValueError: no bin has enough pairs.
    """
    bins = tag_bins(pairs, config.eta_edges, config.pt_edges)
    if not np.any(bins.entries >= config.entries):
        raise ValueError(
            f"no bin has {config.entries:g} effective pairs, of {pairs.hlt.size} pairs in all (most: "
            f"{bins.entries.max(initial=0):.1f}); use more data, wider bins (eta_edges, pt_edges), or lower 'entries'"
        )
    log_pt = np.log(pairs.hlt.astype(np.float64))
    cells = measure(pairs, bins, log_pt, config.estimator)
    raw = np.exp(cells.log_median)
    used = (bins.entries >= config.entries) & np.isfinite(cells.log_median) & (cells.error > 0)
    if not used.any():
        raise ValueError(
            f"no bin gives a {config.estimator} response with an error, of {np.sum(bins.entries >= config.entries)} bins "
            "with enough pairs; use more data, or another estimator"
        )
    curves = [_start(used_cells(cells, used, region)) for region in range(bins.regions)]
    change, passes = np.inf, 0
    while passes < config.iterations[0] or (change > config.tolerance and passes < config.iterations[1]):
        change = 0.0
        for region, curve in enumerate(curves):
            own = used_cells(cells, used, region)
            if curve is not None and own.log_median.size >= curve.knots.size:
                # The number of knots is settled before the last passes, or it would change for ever between two.
                if passes < config.iterations[0]:
                    new = choose_curve(own, curve, outer_knots(own), config.knots)
                else:
                    new = fit_curve(own, curve, curve.knots)[0]
                curves[region] = new
                change = max(change, _change(new, curve))
        log_pt = corrected(pairs.hlt, pairs.eta, config.eta_edges, curves)
        cells = measure(pairs, bins, log_pt, config.estimator)
        used &= np.isfinite(cells.log_median) & (
            cells.error > 0
        )  # a fit may fail later than in the first pass
        passes += 1
        progress(1)
    # a region whose last bin lost its answer on the way has no curve either
    curves = [curve if used[region].any() else None for region, curve in enumerate(curves)]
    offline, hlt = (_means(bins, values, pairs.weight) for values in (pairs.offline, pairs.hlt))
    measurement = Measurement(raw, np.exp(cells.log_median), cells.error, bins.entries, offline, hlt, used)
    return Scale(tuple(curves), measurement, passes, change, cells, log_pt)


def _start(cells: Cells) -> Curve | None:
    """Response one over the range of the probes that a region has."""
    if cells.log_median.size == 0:
        return None
    first, last = np.cumsum(cells.probes[0]), np.cumsum(cells.probes[-1])
    return unit_curve(
        float(GRID[np.searchsorted(first, _TAIL)]), float(GRID[np.searchsorted(last, 1.0 - _TAIL)])
    )


def outer_knots(cells: Cells) -> tuple[float, float]:
    """Mean ln P of the probes of the first and last cell of a region."""
    return float(cells.probes[0] @ cells.grid), float(cells.probes[-1] @ cells.grid)


def _change(new: Curve, old: Curve) -> float:
    """Largest relative difference of two corrections."""
    log_measured = np.linspace(old.low, old.high, 101)
    return float(np.max(np.abs(new.reference(log_measured) - old.reference(log_measured))))


def _means(bins: TagBins, values: NDArray[np.floating], weight: Array) -> Array:
    inside = bins.cell >= 0
    w = weight[inside]
    above = np.bincount(bins.cell[inside], w * values[inside], bins.cells)
    below = np.bincount(bins.cell[inside], w, bins.cells)
    return bins.table(np.divide(above, below, out=np.full(bins.cells, np.nan), where=below != 0))
