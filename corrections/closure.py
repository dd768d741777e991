"""Does a calibration close: HLT jets, corrected, against offline jets, in bins of pT, η, pile-up, φ and run.

Closure is the estimator of (corrected HLT pT / offline pT) of the probes of a bin, minus one. Bins of the tag's and of the
particle jet's pT do not bias it; bins of either of the two pT that are compared would, by percents.

| variable | bins |
| --- | --- |
| `tag` | signed η of the probe, pT of the tag |
| `particle` | signed η of the probe, pT of its particle-level jet |
| `rho` | absolute η, ranges of the tag's pT, terciles of the pile-up density |
| `phi` | absolute η, ranges of the tag's pT, φ of the probe |
| `run` | absolute η, ranges of the tag's pT, groups of runs of about equal numbers of pairs |

The errors are those of the Poisson bootstrap of events (`trila.corrections.resampling`). For the median they are not drawn
but calculated: a replica that takes event e k_e times moves the median m of a bin by

    sum_e (k_e - 1) a_e,   a_e = sum over the event's entries of w (1/2 - [r > m]) / (f(m) sum of w),

and k_e has variance one, so the square of the error is the sum of a_e^2 (the infinitesimal jackknife; Efron, "The jackknife, the
bootstrap and other resampling plans", SIAM 1982). f(m) is the density of a Gaussian through the quantiles of 30% and 70%.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from trila.corrections.cells import cell_of, effective_entries, medians, sort_cells
from trila.corrections.closure_limits import LIMITS, Limit, beyond, claimed_from, limit_of, significance
from trila.corrections.estimators import Estimator, locations
from trila.corrections.event_hash import event_hash
from trila.corrections.pairs import Pairs
from trila.corrections.resampling import bootstrap_weights

__all__ = ["ClosureConfig", "Row", "closes", "closure_table", "untested", "z_of"]

Array = NDArray[np.float64]
Range = tuple[float, float]

# The error must be smaller than this part of the limit: else a bin that passes says little.
_SHARE = 1.0 / 3.0

_AROUND_MEDIAN = (0.3, 0.7)
# Between these quantiles of a Gaussian, times the density at its median.
_GAUSSIAN_STEP = float((stats.norm.ppf(0.7) - stats.norm.ppf(0.3)) * stats.norm.pdf(0.0))


class ClosureConfig(BaseModel):
    """Bins and rules of the test.

    Attributes:
        eta_edges: of signed η.
        pt_edges: with signed η, GeV; the pT from which closure is claimed becomes an edge.
        eta_regions: edges of absolute η, for the other variables.
        pt_ranges: with those, GeV; as `pt_edges`.
        phi_bins, run_groups: how many.
        entries: effective pairs below which a bin is not tested.
        false_alarms: fraction of the samples with a closure exactly at the limits that fail.
        replicas: of the bootstrap, for estimators other than the median.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    eta_edges: tuple[float, ...] = (-5.2, -3.0, -2.5, -1.3, 0.0, 1.3, 2.5, 3.0, 5.2)
    pt_edges: tuple[float, ...] = (
        30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000, 1500, 2000, 3000,
    )  # fmt: skip
    eta_regions: tuple[float, ...] = (0.0, 1.3, 2.5, 3.0, 5.2)
    pt_ranges: tuple[float, ...] = (30, 40, 100, 600, 1000)
    phi_bins: int = Field(default=8, ge=1)
    run_groups: int = Field(default=10, ge=1)
    entries: float = Field(default=100.0, gt=0)
    false_alarms: float = Field(default=0.01, gt=0, lt=1)
    replicas: int = Field(default=100, ge=20)


class Row(NamedTuple):
    """One bin of the test.

    Attributes:
        variable: "tag", "particle", "rho", "phi" or "run".
        eta: lower and upper edge; signed with "tag" and "particle", else absolute.
        pt: lower and upper edge, GeV.
        other: lower and upper edge of ρ or φ, first and last run; None with "tag" and "particle".
        entries: effective number of pairs.
        closure: nan where there is none.
        error_statistical: of the pairs of this bin.
        error_derivation: from the pairs that the calibration was derived from.
        error: both together.
        limit: of |closure|; None where none is claimed.
        tested: whether it counts.
        reason: why it does not; empty if it does.
        pull: closure over error.
        passed: None where it does not count.
    """

    variable: str
    eta: Range
    pt: Range
    other: Range | None
    entries: float
    closure: float
    error_statistical: float
    error_derivation: float
    error: float
    limit: float | None
    tested: bool
    reason: str
    pull: float
    passed: bool | None


class _Grid(NamedTuple):
    """Bins of one variable: the cell of each pair, and for each cell the edges of η, pT and, if any, the other one."""

    variable: str
    cell: NDArray[np.int32]
    cells: int
    edges: tuple[Array, ...]


def closure_table(
    pairs: Pairs,
    corrected: ArrayLike,
    changes: ArrayLike,
    estimator: Estimator,
    storage_threshold: float,
    config: ClosureConfig,
) -> tuple[Row, ...]:
    """All bins, with errors and verdict.

    Args:
        pairs: that the calibration was not derived from.
        corrected: HLT pT of the probes after the calibration, GeV, shape (n,).
        changes: relative change of the calibration of each probe, by each of its independent statistical
            variations, shape (variations, n).
        estimator: of the response: the one of the derivation.
        storage_threshold: pT above which HLT jets were stored, GeV.
        config: bins and rules.
    """
    hlt = np.asarray(corrected, dtype=np.float64)
    by_response = np.argsort(hlt / pairs.offline)  # once, here: to sort again what is in order is cheap
    pairs, hlt, shifts = pairs.take(by_response), hlt[by_response], np.asarray(changes)[:, by_response]
    events = event_hash(pairs.run, pairs.luminosity_block, pairs.event)
    by_event = np.argsort(events)
    events = events[by_event]
    rows: list[Row] = []
    for grid in _grids(pairs, storage_threshold, config):
        if estimator == "median":
            closure, statistical = _median(grid, hlt / pairs.offline, pairs.weight, by_event, events)
        else:
            closure, statistical = _resampled(grid, hlt, pairs, estimator, config.replicas)
        derivation = _derivation_error(grid, shifts, pairs.weight)
        entries = effective_entries(grid.cell, pairs.weight, grid.cells)
        numbers = np.stack(
            [entries, closure - 1.0, statistical, derivation, np.hypot(statistical, derivation)]
        )
        rows += _rows(grid, numbers, storage_threshold, config)
    return _judged(rows, z_of(rows, estimator, config))


def z_of(rows: "tuple[Row, ...] | list[Row]", estimator: Estimator, config: ClosureConfig) -> float:
    """The number of errors beyond its limit at which a bin of the table fails; nan if none is tested."""
    freedom = np.inf if estimator == "median" else config.replicas - 1.0
    return significance(sum(row.tested for row in rows), config.false_alarms, freedom)


def closes(rows: tuple[Row, ...]) -> bool:
    """Whether the calibration passes: no bin fails, and at least one is tested."""
    tested = [row for row in rows if row.tested]
    return bool(tested) and all(row.passed for row in tested)


def untested(rows: tuple[Row, ...]) -> tuple[Limit, ...]:
    """Limits that no bin of the pT of tag or particle-level jet tests: a table that passes says nothing of them."""
    tested = [row for row in rows if row.tested and row.variable in ("tag", "particle")]
    return tuple(limit for limit in LIMITS if not any(limit.holds(row.eta, row.pt) for row in tested))


def _grids(pairs: Pairs, storage_threshold: float, config: ClosureConfig) -> Iterator[_Grid]:
    start = claimed_from(storage_threshold)
    fine, coarse = (_with_edge(edges, start) for edges in (config.pt_edges, config.pt_ranges))
    signed = (pairs.eta, np.asarray(config.eta_edges))
    yield _grid("tag", signed, (pairs.tag, fine))
    if pairs.particle is not None:
        yield _grid("particle", signed, (pairs.particle, fine))
    axes = ((np.abs(pairs.eta), np.asarray(config.eta_regions)), (pairs.tag, coarse))
    if pairs.pileup is not None:
        yield _grid("rho", *axes, (pairs.pileup, _quantile_edges(pairs.pileup, 3)))
    # a little more than π: angles are stored with few digits
    yield _grid("phi", *axes, (pairs.phi, np.linspace(-3.1416, 3.1416, config.phi_bins + 1)))
    runs = _quantile_edges(pairs.run, config.run_groups)
    if runs.size > 2:  # one group has nothing to be compared with
        grid = _grid("run", *axes, (pairs.run, runs))
        grid.edges[2][:, 1] -= 1  # the last run that belongs to it
        yield grid


def _with_edge(edges: tuple[float, ...], edge: float) -> Array:
    return np.union1d(edges, edge) if edges[0] < edge < edges[-1] else np.asarray(edges, dtype=np.float64)


def _quantile_edges(values: NDArray[Any], number: int) -> Array:
    """Edges of up to `number` bins of about equally many entries; the upper one just above the largest value.

    Equal values stay together; "just above" is one for whole numbers.
    """
    if values.size == 0:
        return np.array([0.0, 1.0])
    edges = np.quantile(values, np.arange(number) / number, method="higher").astype(np.float64)
    largest = float(values.max())
    above = largest + 1.0 if values.dtype.kind in "iu" else np.nextafter(largest, np.inf)
    return np.append(np.unique(edges), above)


def _grid(variable: str, *axes: tuple[NDArray[Any], Array]) -> _Grid:
    cell, cells = cell_of(*axes)
    where = np.unravel_index(np.arange(cells), [edges.size - 1 for _, edges in axes])
    bounds = tuple(
        np.stack([edges[at], edges[at + 1]], axis=1) for (_, edges), at in zip(axes, where, strict=True)
    )
    return _Grid(variable, cell, cells, bounds)


def _median(
    grid: _Grid, response: Array, weight: Array, by_event: NDArray[np.int64], events: NDArray[np.uint64]
) -> tuple[Array, Array]:
    """Median of each cell, and its error; `by_event` sorts the pairs into the order of `events`."""
    entries = sort_cells(grid.cell, response, grid.cells)
    median = medians(entries, weight)
    low, high = (medians(entries, weight, probability) for probability in _AROUND_MEDIAN)
    inside = grid.cell >= 0
    influence = np.zeros(response.size)
    influence[inside] = weight[inside] * 0.5 * np.sign(median[grid.cell[inside]] - response[inside])
    square = _sums_of_squares(grid, influence, by_event, events)
    total = np.bincount(grid.cell[inside], weight[inside], grid.cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        return median, np.sqrt(square) * (high - low) / (_GAUSSIAN_STEP * total)


def _sums_of_squares(
    grid: _Grid, influence: Array, by_event: NDArray[np.int64], events: NDArray[np.uint64]
) -> Array:
    """For each cell, the sum over events of (sum over the event's entries in the cell)^2."""
    cell = grid.cell[by_event]
    # Stable: within a cell the order of events stays. Integers of 16 bits are sorted much faster.
    by_cell = np.argsort(cell.astype(np.int16) if grid.cells < 2**15 else cell, kind="stable")
    by_cell = by_cell[np.searchsorted(cell, 0, sorter=by_cell) :]
    if by_cell.size == 0:
        return np.zeros(grid.cells)
    cell, event = cell[by_cell], events[by_cell]
    first = np.flatnonzero(np.append(True, (cell[1:] != cell[:-1]) | (event[1:] != event[:-1])))
    sums = np.add.reduceat(influence[by_event[by_cell]], first)
    return np.asarray(np.bincount(cell[first], sums**2, grid.cells), dtype=np.float64)


def _resampled(
    grid: _Grid, corrected: Array, pairs: Pairs, estimator: Estimator, replicas: int
) -> tuple[Array, Array]:
    """Any other estimator of each cell, and its error, by replicas."""
    inside = grid.cell >= 0
    cell, hlt, offline = grid.cell[inside], corrected[inside], pairs.offline[inside].astype(np.float64)
    weight = pairs.weight[inside]
    value = locations(estimator, cell, hlt, offline, weight, grid.cells)
    identity = (pairs.run[inside], pairs.luminosity_block[inside], pairs.event[inside])
    others = np.stack(
        [
            locations(estimator, cell, hlt, offline, weight * taken, grid.cells)
            for taken in bootstrap_weights(*identity, replicas)
        ]
    )
    return value, np.asarray(np.std(others, axis=0, ddof=1))


def _derivation_error(grid: _Grid, changes: Array, weight: Array) -> Array:
    """Quadratic sum over the variations of their mean change in each cell."""
    inside = grid.cell >= 0
    cell, w = grid.cell[inside], weight[inside]
    total = np.bincount(cell, w, grid.cells)
    square = np.zeros(grid.cells)
    for change in changes:
        mean = np.bincount(cell, w * change[inside], grid.cells)
        square += np.divide(mean, total, out=np.zeros(grid.cells), where=total > 0) ** 2
    return np.asarray(np.sqrt(square))


def _rows(grid: _Grid, numbers: Array, storage_threshold: float, config: ClosureConfig) -> list[Row]:
    """Rows without verdict; `numbers` are entries, closure and its three errors, shape (5, cells)."""
    rows = []
    edges = [part.tolist() for part in grid.edges]
    for at, (entries, closure, statistical, derivation, error) in enumerate(numbers.T.tolist()):
        eta, pt, *others = [(part[at][0], part[at][1]) for part in edges]
        limit, reason = _limit(eta, pt, storage_threshold)
        if limit is not None:
            if entries < config.entries:
                reason = f"fewer than {config.entries:g} effective pairs"
            elif not np.isfinite(closure + error):
                reason = "no answer of the estimator"
            elif error > _SHARE * limit:
                reason = "error above a third of the limit"
        rows.append(
            Row(
                grid.variable, eta, pt, others[0] if others else None, entries, closure, statistical, derivation,
                error, limit, not reason, reason, closure / error if error > 0 else np.nan, None,
            )
        )  # fmt: skip
    return rows


def _limit(eta: Range, pt: Range, storage_threshold: float) -> tuple[float | None, str]:
    """The limit that is claimed, or None and the reason."""
    start = claimed_from(storage_threshold)
    if pt[0] < start:
        return None, f"below {start:g} GeV, where the storage threshold of {storage_threshold:g} GeV is felt"
    limit = limit_of(eta, pt)
    return limit, "" if limit is not None else "no limit is given there"


def _judged(rows: list[Row], z: float) -> tuple[Row, ...]:
    numbers = [(row.closure, row.error, row.limit) for row in rows if row.tested]
    closure, error, limit = np.array(numbers, dtype=np.float64).reshape(-1, 3).T
    failed = iter(beyond(closure, error, limit, z).tolist())
    return tuple(row._replace(passed=not next(failed)) if row.tested else row for row in rows)
