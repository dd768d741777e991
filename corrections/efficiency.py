"""Binomial intervals of trigger efficiencies."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["clopper_pearson"]


def clopper_pearson(
    passed: ArrayLike, total: ArrayLike, level: float = 0.6826894921370859
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The central interval of a binomial proportion that covers at least `level` (Biometrika 26 (1934) 404).

    Args:
        passed: number that passed, any shape.
        total: number tried, same shape. Effective counts of weighted samples are allowed (then only approximate).
        level: coverage; by default that of one Gaussian standard deviation.

    Returns:
        Lower and upper limits; 0 and 1 where nothing was tried.

    Raises:
        ValueError: more passed than were tried, or a negative count.

    >>> low, high = clopper_pearson(0, 10)
    >>> float(low), round(float(high), 6)
    (0.0, 0.168149)
    """
    k, n = np.broadcast_arrays(np.asarray(passed, dtype=np.float64), np.asarray(total, dtype=np.float64))
    wrong = ~((k >= 0) & (k <= n))
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"passed = {k[first]} of total = {n[first]} at index {first}: expected 0 <= passed <= total"
        )
    tail = 0.5 * (1.0 - level)
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, stats.beta.ppf(tail, k, n - k + 1), 0.0)
        high = np.where(k < n, stats.beta.ppf(1.0 - tail, k + 1, n - k), 1.0)
    return low, high
