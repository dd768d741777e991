"""What pile-up leaves in HLT jets: an offset that rises with ρ (or μ), taken off before the scale is derived.

HLT jets carry s(pT, η) · A · (ρ - ρ0) more than at the mean pile-up ρ0; the mean offset itself is part of the scale. The
form is that of the area-based subtraction (Cacciari and Salam, arXiv:0707.1378) with the residual dependence on pile-up
measured in data (CMS, arXiv:1607.03663, section 4; ATLAS, arXiv:1703.09665, section 5).

1. In each region of η, bin of the tag's pT and bin of pile-up: the median of d = h - R o, HLT pT less R times offline pT of
   the probe, with R the median of h/o over all pile-up. An offset shifts d, and its median, by just as much.
2. In each region and bin of pT: the slope of the medians against the mean of A (ρ - ρ0).
3. In each region: the mean of the slopes, or a straight line in ln pT where an F-test asks for it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from trila.corrections.cells import cell_of, medians, sort_cells
from trila.corrections.pairs import Pairs
from trila.corrections.resampling import bootstrap_weights
from trila.corrections.tag_bins import TagBins, tag_bins

__all__ = ["PIVOT", "SMALLEST_FACTOR", "Offset", "derive_offset"]

Array = NDArray[np.float64]

#: GeV, the pT at which `Offset.s0` is the slope.
PIVOT = 100.0

#: No jet is left with less than this part of its pT.
SMALLEST_FACTOR = 0.1

# Part of the pairs at either end of the pile-up distribution beyond which the offset is not extrapolated.
_TAIL = 0.01
# Of the F-test. A calibration makes a dozen of them.
_LEVEL = 0.01
# Quantiles of d between which its density at the median is measured; for a Gaussian 2.4% too low.
_AROUND = (0.35, 0.65)
# Entries that are resampled at a time: few enough for the cache, which makes the hash four times as fast.
_PIECE = 2**16


class Offset(NamedTuple):
    """The offset A (ρ - ρ0) (s0 + s1 ln(pT/100 GeV)) of HLT jets, in GeV; "ρ" is whatever pile-up variable the pairs have.

    Attributes:
        eta_edges: of the regions.
        s0: slope at 100 GeV in each region, GeV per unit of A ρ; 0 where it could not be measured. Shape (regions,).
        s1: its change with ln pT; 0 where none is significant.
        error: of the slope, the same at all pT: statistical, and how much the other of the two models (constant or straight
            line) differs beyond that, both averaged over pT as the data weigh it; nan where it could not be measured.
        rho_0: weighted mean of ρ.
        rho_range: ρ between which the offset is known; constant beyond.
        pt_range: likewise HLT pT in GeV, shape (regions, 2): means of ln pT in the outermost bins, and a standard deviation
            further out.
        uses_area: whether A is the area of the jet; else it is 1.
    """

    eta_edges: tuple[float, ...]
    s0: Array
    s1: Array
    error: Array
    rho_0: float
    rho_range: tuple[float, float]
    pt_range: Array
    uses_area: bool

    def factor(self, pt: ArrayLike, eta: ArrayLike, area: ArrayLike, rho: ArrayLike) -> Array:
        """What multiplies the HLT pT to take the offset off: 1 - offset/pT, at least 0.1; 1 outside of all regions.

        Args:
            pt: HLT pT before, GeV.
            eta, area, rho: of the jet; the area is not looked at unless `uses_area`.
        """
        before = np.asarray(pt, dtype=np.float64)
        region = cell_of((np.ravel(eta), self.eta_edges))[0].reshape(np.shape(eta))
        log_pt = np.log(np.clip(before, self.pt_range[region, 0], self.pt_range[region, 1]) / PIVOT)
        density = np.clip(np.asarray(rho, dtype=np.float64), *self.rho_range) - self.rho_0
        slope = self.s0[region] + self.s1[region] * log_pt
        offset = (np.asarray(area, dtype=np.float64) if self.uses_area else 1.0) * density * slope
        return np.where(region >= 0, np.maximum(1.0 - offset / before, SMALLEST_FACTOR), 1.0)

    def subtract(self, pairs: Pairs) -> Pairs:
        """The pairs with the offset taken off their HLT pT.

        Raises:
            ValueError: they lack the pile-up variable, or the area that the offset was derived with.
        """
        if pairs.pileup is None:
            raise ValueError("the pairs have no pile-up variable; make them from input that has ρ or μ")
        if self.uses_area and pairs.area is None:
            raise ValueError(
                "the offset was derived with the areas of jets, and these pairs have none; use input that has them, or "
                "derive it again without"
            )
        area = 1.0 if pairs.area is None else pairs.area
        return pairs._replace(hlt=pairs.hlt * self.factor(pairs.hlt, pairs.eta, area, pairs.pileup))


class _Slopes(NamedTuple):
    """d against pile-up in each region and bin of the tag's pT, shape (regions, bins); `used` says where it is known.

    `log_pt` and `spread` are mean and standard deviation of ln(pT/100 GeV) of the HLT jets, and `influence` is by how much
    each pair moves the slope of its cell, shape (n,); pairs of no cell have 0.
    """

    slope: Array
    error: Array
    log_pt: Array
    spread: Array
    used: NDArray[np.bool_]
    influence: Array


def derive_offset(
    pairs: Pairs,
    eta_edges: Sequence[float],
    pt_edges: Sequence[float],
    *,
    entries: float = 100.0,
    pile_up_bins: int = 5,
    replicas: int = 50,
) -> Offset | None:
    """Derive the offset.

    Args:
        pairs: at the levels that the calibration connects.
        eta_edges: regions of the probe's η.
        pt_edges: bins of the tag's pT, GeV.
        entries: effective entries below which a bin of η and pT is not used.
        pile_up_bins: how many, with as many pairs in each.
        replicas: of the bootstrap.

    Returns:
        The offset; None if the pairs have no pile-up variable, or it is (nearly) the same for all of them.

    Raises:
        ValueError: fewer than two bins of pile-up, or replicas.
    """
    for name, number in {"pile_up_bins": pile_up_bins, "replicas": replicas}.items():
        if number < 2:
            raise ValueError(f"{name} is {number}; a slope and its error need two or more")
    if pairs.pileup is None:
        return None
    known = np.isfinite(pairs.pileup)
    edges = _quantile_edges(pairs.pileup[known], pile_up_bins)
    if edges.size < 3:
        return None
    rho_0 = float(np.average(pairs.pileup[known].astype(np.float64), weights=pairs.weight[known]))
    pile_up = pairs.pileup.astype(np.float64) - rho_0
    if pairs.area is not None:
        pile_up *= pairs.area
    bins = tag_bins(pairs, eta_edges, pt_edges)
    found = _measure(pairs, bins, cell_of((pairs.pileup, edges)), pile_up, entries)
    moves = _replicas(pairs, bins, found.influence, replicas)
    s0, s1, error = np.zeros(bins.regions), np.zeros(bins.regions), np.full(bins.regions, np.nan)
    pt_range = np.tile([pt_edges[0], pt_edges[-1]], (bins.regions, 1)).astype(np.float64)
    for region, used in enumerate(found.used):
        if used.any():
            log_pt, spread = found.log_pt[region][used], found.spread[region][used]
            s0[region], s1[region], error[region] = _combine(
                log_pt, found.slope[region][used], found.error[region][used], moves[:, region][:, used]
            )
            pt_range[region] = PIVOT * np.exp([np.min(log_pt - spread), np.max(log_pt + spread)])
    low, high = np.quantile(pairs.pileup[known], [_TAIL, 1.0 - _TAIL])
    return Offset(
        tuple(eta_edges), s0, s1, error, rho_0, (float(low), float(high)), pt_range, pairs.area is not None
    )


def _quantile_edges(pileup: NDArray[np.floating], number: int) -> Array:
    """Edges of bins with equally many pairs; fewer bins where values repeat, as those of a simulated μ may."""
    if pileup.size == 0:
        return np.zeros(0)
    inner = np.quantile(pileup, np.arange(1, number) / number, method="higher").astype(np.float64)
    return np.unique(np.concatenate([[float(pileup.min())], inner, [np.inf]]))


def _measure(
    pairs: Pairs, bins: TagBins, levels: tuple[NDArray[np.int32], int], pile_up: Array, entries: float
) -> _Slopes:
    """The slopes.

    Args:
        pairs, bins: and where they belong.
        levels: the bin of pile-up of each pair, and how many bins there are.
        pile_up: A (ρ - ρ0) of each pair; those for which it is nan do not count.
        entries: effective entries below which a cell is not used.
    """
    level, count = levels
    hlt, offline = pairs.hlt.astype(np.float64), pairs.offline.astype(np.float64)
    response = medians(sort_cells(bins.cell, hlt / offline, bins.cells), pairs.weight)
    inside = np.flatnonzero((bins.cell >= 0) & (level >= 0) & np.isfinite(pile_up))
    cell, weight = bins.cell[inside], pairs.weight[inside]
    fine, fines = cell * np.int32(count) + level[inside], bins.cells * count
    shift = hlt[inside] - response[cell] * offline[inside]
    ordered = sort_cells(fine, shift, fines)
    median = medians(ordered, weight)
    around = [medians(ordered, weight, probability).reshape(-1, count) for probability in _AROUND]

    log_pt, spread = _mean_and_spread(cell, np.log(hlt[inside] / PIVOT), weight, bins.cells)
    total, squares = np.bincount(fine, weight, fines), np.bincount(fine, weight * weight, fines)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = (np.bincount(fine, weight * pile_up[inside], fines) / total).reshape(-1, count)
        # The width of d is that of the jets, hardly of the pile-up: its mean over the bins of pile-up fluctuates less.
        density = (_AROUND[1] - _AROUND[0]) / np.mean(around[1] - around[0], axis=1, keepdims=True)
        variance = (squares / total**2).reshape(-1, count) * (0.5 / density) ** 2
        x -= np.sum(x / variance, axis=1, keepdims=True) / np.sum(1.0 / variance, axis=1, keepdims=True)
        below = np.sum(x * x / variance, axis=1, keepdims=True)
        gain = x / variance / below
        slope = np.sum(gain * median.reshape(-1, count), axis=1)
        # A pair moves its median by w (1/2 - [d < median]) / (density · sum of w).
        per_pair = (gain / (density * total.reshape(-1, count))).ravel()
    used = (bins.entries.ravel() >= entries) & np.isfinite(slope) & (below[:, 0] > 0)
    influence = np.zeros(hlt.size)
    influence[inside] = np.where(used[cell], weight * (0.5 - (shift < median[fine])) * per_pair[fine], 0.0)
    error = np.divide(1.0, np.sqrt(below[:, 0]), out=np.full(bins.cells, np.nan), where=used)
    return _Slopes(
        slope=bins.table(slope),
        error=bins.table(error),
        log_pt=bins.table(log_pt),
        spread=bins.table(spread),
        used=used.reshape(bins.regions, bins.bins),
        influence=influence,
    )


def _mean_and_spread(
    cell: NDArray[np.int32], values: Array, weight: Array, cells: int
) -> tuple[Array, Array]:
    """Weighted mean and standard deviation of each cell; nan where it is empty."""
    total = np.bincount(cell, weight, cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(cell, weight * values, cells) / total
        variance = np.bincount(cell, weight * (values - mean[cell]) ** 2, cells) / total
        return mean, np.sqrt(variance)


def _replicas(pairs: Pairs, bins: TagBins, influence: Array, replicas: int) -> Array:
    """By how much the slopes move in each replica, to first order in the weights; shape (replicas, regions, bins)."""
    moves = np.zeros((replicas, bins.cells))
    inside = np.flatnonzero(influence)
    run, block, event = (column[inside] for column in (pairs.run, pairs.luminosity_block, pairs.event))
    cell, part = bins.cell[inside], influence[inside]
    for first in range(0, inside.size, _PIECE):
        piece = slice(first, first + _PIECE)
        weights = bootstrap_weights(run[piece], block[piece], event[piece], replicas)
        for number, taken in enumerate(weights):
            moves[number] += np.bincount(cell[piece], taken * part[piece], bins.cells)
    return moves.reshape(replicas, bins.regions, bins.bins)


def _combine(log_pt: Array, slope: Array, error: Array, moves: Array) -> tuple[float, float, float]:
    """s0, s1 and the error of the slope, from those of one region.

    Args:
        log_pt: ln(pT/100 GeV) of the bins, shape (k,).
        slope, error: shape (k,).
        moves: of the slopes in each replica, shape (replicas, k).
    """
    constant = _solver(np.ones((slope.size, 1)), error)
    if slope.size < 3:
        values = constant @ slope
        return float(values[0]), 0.0, float(np.std(constant @ moves.T, ddof=1))
    straight = np.stack([np.ones_like(log_pt), log_pt], axis=1)
    line = _solver(straight, error)
    smooth = {"constant": np.repeat(constant, slope.size, axis=0), "line": straight @ line}
    chi2 = {name: float(np.sum(((slope - matrix @ slope) / error) ** 2)) for name, matrix in smooth.items()}
    improvement = (chi2["constant"] - chi2["line"]) / max(chi2["line"] / (slope.size - 2), 1e-300)
    rises = stats.f.sf(improvement, 1, slope.size - 2) < _LEVEL
    statistical = np.var(smooth["line" if rises else "constant"] @ moves.T, axis=1, ddof=1)
    difference = smooth["line"] - smooth["constant"]
    # Two models differ by chance too, as much as they do in the replicas: only what is beyond counts.
    beyond = (difference @ slope) ** 2 - np.var(difference @ moves.T, axis=1, ddof=1)
    weights = error**-2
    variance = np.average(statistical, weights=weights) + max(np.average(beyond, weights=weights), 0.0)
    values = line @ slope if rises else np.array([*(constant @ slope), 0.0])
    return float(values[0]), float(values[1]), float(np.sqrt(variance))


def _solver(design: Array, error: Array) -> Array:
    """The matrix that turns values into the coefficients of their weighted least-squares fit, shape (p, k)."""
    return np.asarray(np.linalg.pinv(design / error[:, None]) / error)
