"""From where a trigger may be used: the bin from which its efficiency stays above a level, without a model.

The rule of trigger-level searches: the first bin whose lower Clopper-Pearson limit is at least the level, as is that of
every later bin. A spectrum then starts at the next edge of its own binning. Beside a fitted turn-on
(`trila.corrections.turnon`) it needs more events, and believes no curve.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from trila.corrections.binomial import merged_starts
from trila.corrections.efficiency import clopper_pearson

__all__ = ["Plateau", "plateau"]

_SPARE = 3.0  # times the entries that would do if none failed: leaves room for two that fail
_TAIL = 0.15865525393145707  # of the interval of one standard deviation, on either side


class Plateau(NamedTuple):
    """Where the plateau of a trigger begins.

    Attributes:
        start: lower edge of the first bin on the plateau; None if there is no plateau.
        rounded: the first of the given edges that is not below `start`; None if there is none.
        lower_limit: smallest lower limit of the bins on the plateau; None if there is no plateau.
        bins: number of (merged) bins on the plateau.
        reason: why there is none, else empty.
    """

    start: float | None
    rounded: float | None
    lower_limit: float | None
    bins: int
    reason: str


def plateau(
    values: ArrayLike,
    variances: ArrayLike,
    edges: ArrayLike,
    level: float,
    *,
    round_to: ArrayLike | None = None,
) -> Plateau:
    """The first bin whose lower limit is at least `level`, as are those of all later populated bins.

    With few entries no limit can reach the level: n that all pass give 0.1587^(1/n), so 184 are needed for 99%. Bins are
    merged, from the highest down, to three times that; else the end of a falling spectrum would never be on a plateau.

    Args:
        values: sums of weights, shape (n, 2); the second axis is failed, passed.
        variances: sums of squared weights, shape (n, 2). Weighted entries enter with effective counts.
        edges: shape (n + 1,).
        level: of the efficiency, such as 0.99.
        round_to: increasing edges of the spectrum that the trigger is for.

    Raises:
        ValueError: a level that is not inside (0, 1).

    >>> counts = [[90.0, 10.0], [0.0, 1000.0], [1.0, 1999.0]]
    >>> plateau(counts, counts, [100.0, 200.0, 300.0, 400.0], 0.99, round_to=[190.0, 220.0]).rounded
    220.0
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}, expected an efficiency between 0 and 1, such as 0.99")
    contents, squares = np.asarray(values, np.float64), np.asarray(variances, np.float64)
    needed = _SPARE * math.log(_TAIL) / math.log(level)
    starts = merged_starts(contents.sum(axis=1), squares.sum(axis=1), needed)
    if not starts.size:
        return Plateau(None, None, None, 0, f"fewer than {math.ceil(needed)} effective entries")
    low = np.asarray(edges, np.float64)[starts]
    contents, squares = np.add.reduceat(contents, starts), np.add.reduceat(squares, starts)
    sums = contents.sum(axis=1)
    total = sums**2 / squares.sum(axis=1)
    limit = clopper_pearson(np.clip(contents[:, 1] / sums, 0.0, 1.0) * total, total)[0]
    below = np.flatnonzero(limit < level)
    first = int(below[-1]) + 1 if below.size else 0
    if first == low.size:
        reason = f"the last bin, from {low[-1]:g}, has a lower limit of {limit[-1]:.4f}"
        return Plateau(None, None, None, 0, reason)
    start = float(low[first])
    above = np.asarray([] if round_to is None else round_to, np.float64)
    above = above[above >= start - 1e-9 * abs(start)]
    return Plateau(
        start, float(above[0]) if above.size else None, float(limit[first:].min()), int(low.size - first), ""
    )
