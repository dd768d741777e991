"""Whether two programs made the same histograms.

Counts (every event with weight 1) must be the same up to entries at the edge of a bin, which float32 and float64
arithmetic may put on either side: those are counted. Without any, the weights of every cell must agree as well; else
their total.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Agreement", "compare", "same_axes"]


class Agreement(NamedTuple):
    """How one histogram differs between two programs.

    Attributes:
        entries: of the first one.
        lost: entries that only the first has, less those that only the second has.
        moved: entries in another cell.
        largest: difference of counts in any cell.
        weights: largest relative difference of sums of weights, and of squared weights: of any cell if no entry
            moved, else of the totals (a cell may lose one entry and gain another).
    """

    entries: float
    lost: float
    moved: float
    largest: float
    weights: float


def same_axes(ours: Any, theirs: Any) -> bool:
    """Whether axes have the same names, kinds and edges; labels do not count."""

    def key(axis: Any) -> tuple[Any, ...]:
        # comparing axes compares their names and labels as well
        values = list(axis) if type(axis).__name__ in ("StrCategory", "Integer") else axis.edges.tolist()
        return type(axis).__name__, axis.name, axis.traits.underflow, axis.traits.overflow, values

    return [key(a) for a in ours.axes] == [key(a) for a in theirs.axes]


def compare(
    counts: tuple[Mapping[str, Any], Mapping[str, Any]], weighted: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> dict[str, Agreement]:
    """Histogram by histogram; under- and overflow count.

    Args:
        counts: of both programs, histograms filled with weight 1.
        weighted: of both programs, with weights.

    Raises:
        ValueError: the names or axes differ.
    """
    found = {}
    names = set(counts[0])
    if any(set(histograms) != names for histograms in (*counts, *weighted)):
        raise ValueError(f"different histograms: {sorted(names ^ set(counts[1]))}")
    for name in sorted(names):
        if not same_axes(counts[0][name], counts[1][name]):
            raise ValueError(f"{name}: different axes: {counts[0][name].axes}, {counts[1][name].axes}")
        ours, theirs = (c[name].view(flow=True) for c in counts)
        difference = ours.value - theirs.value
        # sums of pT are no counts: those of a cell are not the same to the last digit
        difference[np.abs(difference) <= 1e-9 * np.abs(ours.value)] = 0.0
        a, b = (w[name].view(flow=True) for w in weighted)
        sums = [(a.value, b.value), (a.variance, b.variance)]
        if difference.any():
            sums = [(np.atleast_1d(x.sum()), np.atleast_1d(y.sum())) for x, y in sums]
        relative = [np.abs(x - y) / np.maximum(np.abs(x), 1e-300) for x, y in sums]
        found[name] = Agreement(
            float(ours.value.sum()), float(difference.sum()),
            float(np.abs(difference).sum() - abs(difference.sum())) / 2, float(np.abs(difference).max()),
            float(max(r.max() for r in relative)),
        )  # fmt: skip
    return found
