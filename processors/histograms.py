"""Axes that several processors share, and fast filling.

`indices` and `fill` do in two steps what `hist.Hist.fill` does, bin edges included. Finding the bin takes most of the
time: here it is done once for all the histograms that share an axis.
"""

from collections.abc import Sequence
from typing import Any

import hist
import numpy as np
from numpy.typing import NDArray

from trila.processors.compiled import kernel

__all__ = ["CMS_DIJET_EDGES", "JET_PT_EDGES", "bytes_of", "fill", "indices", "new", "variable"]

#: Jet pT in GeV (the bins of the CMS and CMS-scouting jet energy measurements).
JET_PT_EDGES = (
    8, 10, 12, 15, 18, 21, 24, 28, 32, 37, 43, 49, 56, 64, 74, 84, 97, 114, 133, 153, 174, 196, 220, 245, 272, 300,
    362, 430, 507, 592, 686, 790, 905, 1032, 1172, 1327, 1497, 1684, 1890, 2116, 2500, 3000, 3500, 4500, 7000,
)  # fmt: skip

#: Dijet mass in GeV: 103 bins of about the mass resolution (CMS, arXiv:1911.03947).
CMS_DIJET_EDGES = (
    1, 3, 6, 10, 16, 23, 31, 40, 50, 61, 74, 88, 103, 119, 137, 156, 176, 197, 220, 244, 270, 296, 325, 354, 386, 419,
    453, 489, 526, 565, 606, 649, 693, 740, 788, 838, 890, 944, 1000, 1058, 1118, 1181, 1246, 1313, 1383, 1455, 1530,
    1607, 1687, 1770, 1856, 1945, 2037, 2132, 2231, 2332, 2438, 2546, 2659, 2775, 2895, 3019, 3147, 3279, 3416, 3558,
    3704, 3854, 4010, 4171, 4337, 4509, 4686, 4869, 5058, 5253, 5455, 5663, 5877, 6099, 6328, 6564, 6808, 7060, 7320,
    7589, 7866, 8152, 8447, 8752, 9067, 9391, 9726, 10072, 10430, 10798, 11179, 11571, 11977, 12395, 12827, 13272,
    13732, 14000,
)  # fmt: skip

Axis = Any
Indices = NDArray[np.int64]


def new(*axes: Axis, name: str = "", label: str = "") -> hist.Hist:
    """An empty histogram with sums of weights and of squared weights."""
    return hist.Hist(*axes, storage=hist.storage.Weight(), name=name, label=label)


def variable(edges: Sequence[float], name: str, label: str) -> Axis:
    """An axis with the given edges, under- and overflow."""
    return hist.axis.Variable(list(edges), name=name, label=label)


def bytes_of(histograms: Any) -> int:
    """Memory of the histograms of a mapping, flow bins included."""
    return sum(int(h.view(flow=True).nbytes) for h in histograms.values())


@kernel
def _variable_index(values: NDArray[Any], edges: NDArray[np.float64], flow: int, out: Indices) -> None:
    last = len(edges) - 1
    for k in range(len(values)):
        x = values[k]
        if x < edges[0]:
            out[k] = flow - 1
        elif not x < edges[last]:  # overflow, NaN with it
            out[k] = last + flow
        else:
            low, high = 0, last
            while high - low > 1:
                middle = (low + high) // 2
                if x < edges[middle]:
                    high = middle
                else:
                    low = middle
            out[k] = low + flow


@kernel
def _regular_index(values: NDArray[Any], low: float, width: float, bins: int, flow: int, out: Indices) -> None:
    for k in range(len(values)):
        z = (values[k] - low) / width  # boost-histogram's own arithmetic, so that edges agree to the last bit
        if z < 0:
            out[k] = flow - 1
        elif z < 1:
            out[k] = int(z * bins) + flow
        else:
            out[k] = bins + flow


@kernel
def _accumulate(position: Indices, weight: NDArray[np.float64], memory: NDArray[np.float64]) -> None:
    for k in range(len(position)):
        w = weight[k]
        memory[position[k], 0] += w
        memory[position[k], 1] += w * w


def indices(axis: Axis, values: Any) -> Indices:
    """Positions of values on an axis, counted with the underflow bin first.

    Args:
        axis: Variable, Regular, Integer or Boolean with under- and overflow, or a category axis.
        values: shape (n,); for a category axis, one category name.
    """
    if isinstance(axis, (hist.axis.StrCategory, hist.axis.IntCategory)):
        return np.asarray(axis.index(values), dtype=np.int64)
    array = np.asarray(values)
    if isinstance(axis, (hist.axis.Integer, hist.axis.Boolean)):
        return np.asarray(axis.index(array), dtype=np.int64) + int(axis.traits.underflow)
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    out = np.empty(len(array), dtype=np.int64)
    flow = int(axis.traits.underflow)
    if isinstance(axis, hist.axis.Regular):
        _regular_index(array.astype(np.float64), axis.edges[0], axis.edges[-1] - axis.edges[0], axis.size, flow, out)
    else:
        _variable_index(array, np.asarray(axis.edges), flow, out)
    return out


def fill(histogram: hist.Hist, weight: NDArray[np.float64], *positions: Indices) -> None:
    """Add weights to a histogram, as `Hist.fill` does.

    Args:
        histogram: with `Weight` storage.
        weight: shape (n,).
        positions: one for each axis, from `indices`; shape (n,), or a number.
    """
    view = histogram.view(flow=True)
    shape = view.shape
    flat: Any = np.int64(0)
    for position, size in zip(reversed(positions), reversed(shape), strict=True):
        flat = flat * size + position  # first axis fastest: boost-histogram's order in memory
    memory = np.asarray(view).T.reshape(-1).view(np.float64).reshape(-1, 2)
    if not np.shares_memory(memory, view):
        raise RuntimeError("histogram memory is not laid out with the first axis fastest")
    _accumulate(np.broadcast_to(flat, weight.shape), weight, memory)
