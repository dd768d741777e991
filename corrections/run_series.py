"""The response run by run: does one calibration do for all of them, and if not, from which run on is another needed?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.corrections.cells import effective_entries, medians, sort_cells
from trila.corrections.changes import change_points

__all__ = ["RunSeries", "response_by_run", "suggested_ranges"]

Array = NDArray[np.float64]

_CENTRAL_68 = (0.15865525393145707, 0.8413447460685429)


class RunSeries(NamedTuple):
    """Median response of each run, shape (runs,).

    Attributes:
        run: numbers, ascending; only runs with enough entries.
        response: median.
        error: of it, statistical.
    """

    run: NDArray[np.int64]
    response: Array
    error: Array


def response_by_run(
    run: ArrayLike, response: ArrayLike, weight: ArrayLike, entries: float = 100.0
) -> RunSeries:
    """Median response of each run.

    Args:
        run: of each entry, shape (n,).
        response: shape (n,).
        weight: shape (n,).
        entries: effective number that a run must have to be in the series.

    >>> response_by_run([7, 7, 8], [0.9, 1.1, 1.0], [1, 1, 1], entries=2).run.tolist()
    [7]
    """
    runs, where = np.unique(np.asarray(run), return_inverse=True)
    cell = np.asarray(where, dtype=np.int32)
    ordered = sort_cells(cell, response, runs.size)
    low, middle, high = (medians(ordered, weight, p) for p in (_CENTRAL_68[0], 0.5, _CENTRAL_68[1]))
    number = effective_entries(cell, weight, runs.size)
    # of the median of a Gaussian
    error = np.sqrt(0.5 * np.pi / np.maximum(number, 1.0)) * 0.5 * (high - low)
    keep = (number >= entries) & (error > 0)
    return RunSeries(runs[keep].astype(np.int64), middle[keep], error[keep])


def suggested_ranges(series: RunSeries, false_alarm: float = 1e-3) -> list[int]:
    """First run of each range in which the response is constant, the first run of all included.

    Args:
        series: of runs.
        false_alarm: probability to find more than one range where the response never changes.
    """
    if series.run.size == 0:
        return []
    steps = change_points(series.response, series.error, false_alarm=false_alarm).indices
    return [int(series.run[0]), *(int(series.run[i]) for i in steps)]
