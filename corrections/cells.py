"""Distributions of single entries in cells, such as bins of η and pT: medians and averages, without histograms.

The entries are sorted once, by cell and value; after that the medians for other weights, such as those of a bootstrap
replica, cost a running sum.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Sorted", "cell_of", "effective_entries", "medians", "sort_cells", "sorted_medians"]

Array = NDArray[np.float64]


class Sorted(NamedTuple):
    """Entries in the order of cell and value.

    Attributes:
        order: which entries, shape (m,); those outside all cells are left out.
        values: theirs, shape (m,).
        starts: where each cell begins, and the end, shape (cells + 1,).
    """

    order: NDArray[np.int64]
    values: Array
    starts: NDArray[np.int64]


def cell_of(*bins: tuple[ArrayLike, ArrayLike]) -> tuple[NDArray[np.int32], int]:
    """The cell of each entry on a grid; lower edges belong to a bin, upper ones do not.

    Args:
        bins: values, shape (n,), and edges of each variable; the last one varies fastest.

    Returns:
        Number of the cell, -1 outside of the grid, and how many cells there are.

    >>> cell_of(([0.5, 1.5, 3.0], [0, 1, 2]), ([5, 5, 5], [0, 10]))[0].tolist()
    [0, 1, -1]
    """
    cell = np.zeros(np.shape(bins[0][0]), dtype=np.int32)
    outside = np.zeros(cell.shape, dtype=np.bool_)
    cells = 1
    for values, edges in bins:
        number = np.size(edges) - 1
        where = (
            np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="right").astype(np.int32) - 1
        )
        outside |= (where < 0) | (where >= number) | np.isnan(values)
        cell = cell * np.int32(number) + where
        cells *= number
    cell[outside] = -1
    return cell, cells


def sort_cells(cell: NDArray[np.int32], values: ArrayLike, cells: int) -> Sorted:
    """Sort entries for `medians`.

    Args:
        cell: of each entry, -1 for none, shape (n,).
        values: shape (n,).
        cells: how many there are.
    """
    array = np.asarray(values, dtype=np.float64)
    order = np.argsort(array)
    # numpy sorts 16-bit integers by radix, many times faster; entries of equal value may come in any order
    small = cell.astype(np.int16) if cells < 2**15 else cell
    order = order[np.argsort(small[order], kind="stable")]
    starts = np.searchsorted(small[order], np.arange(cells + 1))
    order = order[starts[0] : starts[-1]]
    return Sorted(order, array[order], starts - starts[0])


def medians(entries: Sorted, weights: ArrayLike, probability: float = 0.5) -> Array:
    """Weighted median, or another quantile, of each cell.

    The value at which the running sum of weights passes half of the total, halfway into the entries' own weight: linear
    between the entries around. With negative weights the running sum may pass it more than once; the first time counts.

    Args:
        entries: sorted.
        weights: of all entries, in the order before sorting, shape (n,).
        probability: 0.5 for the median.

    Returns:
        Shape (cells,); nan where the weights do not add up to more than zero.
    """
    return sorted_medians(entries, np.asarray(weights, dtype=np.float64)[entries.order], probability)


def sorted_medians(entries: Sorted, own: Array, probability: float = 0.5) -> Array:
    """As `medians`, with weights in the order of the sorted entries: for many sets of weights."""
    if own.size == 0:
        return np.full(entries.starts.size - 1, np.nan)
    first, end = entries.starts[:-1], entries.starts[1:]
    # Each cell is normalised: weights of different cells may differ by more than the digits of a number.
    filled = end > first
    totals = np.zeros(first.size)
    totals[filled] = np.add.reduceat(own, first[filled])
    own = own / np.repeat(np.where(totals > 0, totals, 1.0), end - first)
    running = np.concatenate([[0.0], np.cumsum(own)])
    target = running[first] + probability * (running[end] - running[first])
    middle = running[1:] - 0.5 * own
    if own.min() < 0:
        middle = np.maximum.accumulate(middle)
    after = np.clip(np.searchsorted(middle, target), first, np.maximum(end - 1, first))
    after = np.minimum(after, own.size - 1)
    before = np.maximum(after - 1, np.minimum(first, own.size - 1))
    step = middle[after] - middle[before]
    fraction = np.divide(target - middle[before], step, out=np.ones_like(target), where=step > 0)
    low, high = entries.values[before], entries.values[after]
    found = low + np.clip(fraction, 0.0, 1.0) * (high - low)
    return np.where(totals > 0, found, np.nan)


def effective_entries(cell: NDArray[np.int32], weights: ArrayLike, cells: int) -> Array:
    """(sum of w)^2 / (sum of w^2) of each cell; 0 where it is empty."""
    inside = cell >= 0
    w = np.asarray(weights, dtype=np.float64)[inside]
    total = np.bincount(cell[inside], w, cells)
    squares = np.bincount(cell[inside], w * w, cells)
    return np.divide(total**2, squares, out=np.zeros(cells), where=squares > 0)
