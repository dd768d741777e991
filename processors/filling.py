"""Fast filling of histograms, with the bin edges of `hist.Hist.fill`.

Finding the bin takes most of the time of filling. `indices` and `fill` do it once for all the histograms that share an
axis; `locate` and `locate_regular` are for compiled loops that find cells for `fill_cells`.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import hist
import numpy as np
from numpy.typing import NDArray

from trila.processors.compiled import kernel

__all__ = ["Bins", "Indices", "bins_of", "fill", "fill_cells", "indices", "locate", "locate_regular"]

#: Positions on an axis.
Indices = NDArray[np.int32]


class Bins(NamedTuple):
    """A variable axis for compiled loops.

    Attributes:
        edges: ascending.
        below: for each cell of a fine equidistant grid over the axis, the number of edges in the cells before; the
            last cell is for what lies above, and has the last edge.
        upper: for each cell, the first edge that is not below it.
        scale: cells a unit.
        crowded: whether any cell has several edges.
    """

    edges: NDArray[np.float64]
    below: NDArray[np.int32]
    upper: NDArray[np.float64]
    scale: float
    crowded: bool


@lru_cache(maxsize=64)
def _bins(edges: bytes) -> Bins:
    array = np.frombuffer(edges)
    cells = int(min(max(64, 2 * np.ceil((array[-1] - array[0]) / np.diff(array).min())), 16384))
    scale = float(cells / (array[-1] - array[0]))
    # rounded as in `locate`: an edge in a cell before that of a value is certainly below the value
    cell_of_edge = np.minimum((array - array[0]) * scale, cells).astype(np.int64)
    crowded = bool((np.diff(cell_of_edge) == 0).any())
    cell_of_edge[-1] = cells
    below = np.searchsorted(cell_of_edge, np.arange(cells + 1), side="left")
    return Bins(array, below.astype(np.int32), array[below], scale, crowded)


def bins_of(axis: Any) -> Bins:
    """The bins of a variable axis with under- and overflow."""
    return _bins(np.asarray(axis.edges, dtype=np.float64).tobytes())


@kernel
def locate(value: float, bins: Bins) -> int:
    """Position on a variable axis, underflow first: 0 to the number of edges; NaN is overflow."""
    # Free of branches, which the processor would mostly guess wrong: five times as fast. In this order of arguments,
    # NaN goes to the last cell, and it is not below the edge there.
    cell = max((value - bins.edges[0]) * bins.scale, 0.0)
    cell = min(len(bins.below) - 1.0, cell)
    here = np.int64(cell)
    i = np.int64(bins.below[here]) + np.int64(not value < bins.upper[here])
    if bins.crowded:
        while i < len(bins.edges) and not value < bins.edges[i]:
            i += 1
    return int(i)


@kernel
def locate_regular(value: float, low: float, width: float, bins: int) -> int:
    """Position on an equidistant axis, underflow first: 0 to `bins + 1`."""
    z = (value - low) / width  # boost-histogram's own arithmetic, so that edges agree to the last bit
    if z < 0:
        return 0
    return int(z * bins) + 1 if z < 1 else bins + 1


@kernel
def _locate_all(values: NDArray[Any], bins: Bins, out: Indices) -> None:
    for k in range(len(values)):
        out[k] = locate(np.float64(values[k]), bins)


@kernel
def _locate_all_regular(values: NDArray[Any], low: float, width: float, bins: int, out: Indices) -> None:
    for k in range(len(values)):
        out[k] = locate_regular(np.float64(values[k]), low, width, bins)


@kernel
def _add(cells: Indices, weight: NDArray[np.float64], memory: NDArray[np.float64]) -> None:
    for k in range(len(cells)):
        cell = np.uint32(
            cells[k]
        )  # a signed one would be asked whether it counts from the end: a third of the time
        memory[cell, 0] += weight[k]
        memory[cell, 1] += weight[k] * weight[k]


def indices(axis: Any, values: Any) -> Indices:
    """Positions of values on an axis, underflow first.

    Args:
        axis: Variable or Regular with under- and overflow; or an integer or category axis.
        values: shape (n,); for a category axis, one category name.

    Raises:
        ValueError: values below an axis that has no underflow; filling trusts positions.
    """
    if not isinstance(axis, (hist.axis.Regular, hist.axis.Variable)):
        found = np.asarray(axis.index(values), dtype=np.int32) + int(axis.traits.underflow)
        if (found < 0).any():
            raise ValueError(f"values below axis '{axis.name}', which has no underflow")
        return found
    array = np.asarray(values)
    out = np.empty(len(array), dtype=np.int32)
    if isinstance(axis, hist.axis.Regular):
        _locate_all_regular(array, axis.edges[0], axis.edges[-1] - axis.edges[0], axis.size, out)
    else:
        _locate_all(array, bins_of(axis), out)
    return out


def fill(
    histogram: hist.Hist[Any], weight: NDArray[np.float64], *positions: NDArray[np.integer[Any]] | int
) -> None:
    """Add weights to a histogram, as `Hist.fill` does.

    Args:
        histogram: with `Weight` storage.
        weight: shape (n,).
        positions: one for each axis, from `indices`; shape (n,), or a number.
    """
    view = histogram.view(flow=True)
    cells = np.full(len(weight), positions[-1], np.int32)
    for position, size in zip(reversed(positions[:-1]), reversed(view.shape[:-1]), strict=True):
        cells *= size
        cells += position
    _add(cells, weight, _memory_of(view))


def fill_cells(histogram: hist.Hist[Any], weight: NDArray[np.float64], cells: Indices) -> None:
    """Add weights to cells of a histogram.

    The first axis runs fastest: with n0, n1, ... positions on the axes (flow bins counted), cell (i0, i1, ...) is
    i0 + n0 * (i1 + n1 * ...).

    Args:
        histogram: with `Weight` storage.
        weight, cells: shape (n,).
    """
    _add(cells, weight, _memory_of(histogram.view(flow=True)))


def _memory_of(view: Any) -> NDArray[np.float64]:
    """The memory that a histogram's view shows: sums of weights and of squared weights, shape (cells, 2)."""
    memory = np.asarray(view).T.reshape(-1).view(np.float64).reshape(-1, 2)
    if not np.shares_memory(memory, view):
        raise RuntimeError("histogram memory is not laid out with the first axis fastest")
    return memory
