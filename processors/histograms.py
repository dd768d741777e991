"""Histograms with sums of weights, and the axes that several processors share."""

from collections.abc import Sequence
from typing import Any

import hist

__all__ = ["CMS_DIJET_EDGES", "JET_PT_EDGES", "bytes_of", "new", "variable"]

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


def new(*axes: Axis, name: str = "", label: str = "") -> hist.Hist[Any]:
    """An empty histogram with sums of weights and of squared weights."""
    return hist.Hist(*axes, storage=hist.storage.Weight(), name=name, label=label)


def variable(edges: Sequence[float], name: str, label: str) -> Axis:
    """An axis with the given edges, under- and overflow."""
    return hist.axis.Variable(list(edges), name=name, label=label)


def bytes_of(histograms: Any) -> int:
    """Memory of the histograms of a mapping, flow bins included."""
    return sum(int(h.view(flow=True).nbytes) for h in histograms.values())
