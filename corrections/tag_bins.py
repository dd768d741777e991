"""Responses in regions of the probe's η and bins of the tag's pT: what a calibration is fitted to.

In bins of the tag's pT migrations between bins do not bias the response of the probe: the two jets fluctuate
independently. In bins of the probe's own pT, offline or HLT, they do, by up to several percent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.corrections.cells import cell_of, effective_entries, medians, sort_cells
from trila.corrections.estimators import Estimator, locations
from trila.corrections.pairs import Pairs
from trila.corrections.response_curve import Cells, Curve

__all__ = ["GRID", "TagBins", "corrected", "measure", "tag_bins", "used_cells"]

Array = NDArray[np.float64]

_GRID_EDGES = np.linspace(np.log(2.0), np.log(14_000.0), 801)

#: ln of pT in GeV on which distributions of probes are kept: much finer than these are wide.
GRID = 0.5 * (_GRID_EDGES[1:] + _GRID_EDGES[:-1])

_TABLE = 8001
_CENTRAL_68 = (0.15865525393145707, 0.8413447460685429)


class TagBins(NamedTuple):
    """Where each pair belongs.

    Attributes:
        cell: number of its region of η times `bins` plus that of its tag's pT, -1 for none; shape (n,).
        regions, bins: how many there are.
        entries: effective number of pairs, shape (regions, bins).
    """

    cell: NDArray[np.int32]
    regions: int
    bins: int
    entries: Array

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return self.regions * self.bins

    def table(self, values: Array) -> Array:
        """Numbers of the cells as (regions, bins, ...)."""
        return values.reshape(self.regions, self.bins, *values.shape[1:])


def tag_bins(pairs: Pairs, eta_edges: Sequence[float], pt_edges: Sequence[float]) -> TagBins:
    """Bin pairs in the probe's η and the tag's pT (GeV)."""
    cell, cells = cell_of((pairs.eta, eta_edges), (pairs.tag, pt_edges))
    regions, bins = len(eta_edges) - 1, len(pt_edges) - 1
    entries = effective_entries(cell, pairs.weight, cells).reshape(regions, bins)
    return TagBins(cell, regions, bins, entries)


def corrected(
    hlt: ArrayLike, eta: ArrayLike, eta_edges: Sequence[float], curves: Sequence[Curve | None]
) -> Array:
    """ln of the corrected pT of jets; as they came where their region has no curve.

    Args:
        hlt: pT, GeV, shape (n,).
        eta: shape (n,).
        eta_edges: of the regions.
        curves: one for each.
    """
    log_pt = np.log(np.asarray(hlt, dtype=np.float64))
    if log_pt.size == 0:
        return log_pt
    # A table for each region on one grid; the curves are so smooth that a line between its points is good to 1e-7.
    grid = np.linspace(log_pt.min(), log_pt.max() + 1e-9, _TABLE)
    table = np.stack([np.zeros(_TABLE) if c is None else c.reference(grid) - grid for c in curves]).ravel()
    region = cell_of((eta, eta_edges))[0]
    position = (log_pt - grid[0]) / (grid[1] - grid[0])
    below = np.minimum(position.astype(np.int64), _TABLE - 2)
    above = position - below
    below += region.astype(np.int64) * _TABLE
    change = table[below] * (1.0 - above) + table[below + 1] * above
    return np.where(region >= 0, log_pt + change, log_pt)


def measure(pairs: Pairs, bins: TagBins, log_pt: Array, estimator: Estimator) -> Cells:
    """Responses of corrected probes, of all regions; arrays are (regions, bins, ...).

    Args:
        pairs: their offline pT and weights count.
        bins: where they belong.
        log_pt: ln of the corrected HLT pT, shape (n,).
        estimator: of the response. The errors are those of the median; the others' are similar.
    """
    response = np.exp(log_pt) / pairs.offline
    entries = sort_cells(bins.cell, response, bins.cells)
    found = medians(entries, pairs.weight)
    low, high = (medians(entries, pairs.weight, probability) for probability in _CENTRAL_68)
    # of the median of a Gaussian; medians of many entries are normally distributed
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(0.5 * np.pi / bins.entries) * bins.table(0.5 * (high - low) / found)
    if estimator != "median":
        found = locations(estimator, bins.cell, np.exp(log_pt), pairs.offline, pairs.weight, bins.cells)
    return Cells(bins.table(np.log(found)), error, bins.table(_probes(pairs, bins, log_pt)), GRID)


def _probes(pairs: Pairs, bins: TagBins, log_pt: Array) -> Array:
    inside = bins.cell >= 0
    steps = (log_pt[inside] - _GRID_EDGES[0]) / (_GRID_EDGES[1] - _GRID_EDGES[0])
    where = np.clip(steps.astype(np.int64), 0, GRID.size - 1)
    flat = bins.cell[inside].astype(np.int64) * GRID.size + where
    counts = np.bincount(flat, pairs.weight[inside], bins.cells * GRID.size).reshape(bins.cells, GRID.size)
    total = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(counts, total, out=np.zeros_like(counts), where=total > 0))


def used_cells(cells: Cells, used: NDArray[np.bool_], region: int) -> Cells:
    """The cells of one region that are fitted."""
    keep = used[region]
    return Cells(
        cells.log_median[region][keep], cells.error[region][keep], cells.probes[region][keep], cells.grid
    )
