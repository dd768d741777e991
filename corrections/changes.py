"""When did it change? Steps in a series of values with errors, such as a response against run.

The series is cut into pieces with a constant value each: of all ways to cut it, the one with the smallest

    chi2 + penalty × number of steps,

found exactly by dynamic programming ("optimal partitioning", Jackson et al., arXiv:math/0309285). The penalty is such that a
series without steps, with Gaussian errors, is cut at all with no more than a wanted probability, however long it is and
whatever the errors: see `penalty`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

__all__ = ["ChangePoints", "change_points", "penalty"]

Array = NDArray[np.float64]

# Standard deviations above which the formula for the Brownian bridge holds: it is the leading term for large ones.
_SMALLEST_B = 2.0


class ChangePoints(NamedTuple):
    """Steps of a series; k of them make k + 1 pieces.

    Attributes:
        indices: of the first value after each step, ascending, shape (k,).
        significance: of each step: difference of the means before and after over its error, shape (k,). Not below the square
            root of the penalty, which accounts for all the places where a step could have been.
        means, errors: weighted mean of each piece and its error, shape (k + 1,).
    """

    indices: NDArray[np.int64]
    significance: Array
    means: Array
    errors: Array


def change_points(values: ArrayLike, errors: ArrayLike, *, false_alarm: float = 1e-3) -> ChangePoints:
    """Find the steps.

    A value far off the others on both sides counts as two steps. Time goes with the square of the length: 0.1 s for 3000.

    Args:
        values: in the order of time, shape (n,).
        errors: Gaussian, independent, shape (n,). If they are too small, steps are found that are not there.
        false_alarm: probability to find steps where none are.

    Raises:
        ValueError: no values, shapes that differ, values that are not finite, errors that are not above zero, or a
            probability not inside (0, 1).

    >>> change_points([1.0, 1.0, 1.0, 1.1, 1.1, 1.1], [0.01] * 6).indices.tolist()
    [3]
    """
    y, sigma = np.asarray(values, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if y.ndim != 1 or y.size == 0 or y.shape != sigma.shape:
        raise ValueError(
            f"values have shape {y.shape} and errors {sigma.shape}; expected one axis, of one length, not empty"
        )
    bad = np.flatnonzero(~(np.isfinite(y) & np.isfinite(sigma) & (sigma > 0)))
    if bad.size:
        raise ValueError(
            f"value {bad[0]} is {y[bad[0]]} ± {sigma[bad[0]]}; expected finite values with errors above zero: leave out "
            "those that are not known"
        )
    weights = sigma**-2
    # Relative to the mean, so that the sums lose no digits.
    sums = _Sums(*(np.concatenate([[0.0], np.cumsum(w)]) for w in (weights, weights * (y - y.mean()))))
    starts = _best_starts(sums, penalty(weights, false_alarm))
    edges = np.append(starts, y.size)
    total = np.diff(sums.weight[edges])
    means = y.mean() + np.diff(sums.value[edges]) / total
    significance = np.abs(np.diff(means)) / np.sqrt(1.0 / total[1:] + 1.0 / total[:-1])
    return ChangePoints(starts[1:], significance, means, total**-0.5)


class _Sums(NamedTuple):
    """Running sums of weights and of weights times values, shape (n + 1,), from 0."""

    weight: Array
    value: Array


def _best_starts(sums: _Sums, cost: float) -> NDArray[np.int64]:
    """First index of each piece of the best cut.

    chi2 is a constant less the sum over pieces of (sum of w y)^2 / (sum of w); so the best cut of the first t values is the
    best of the first s, for some s < t, and one piece more. All s are tried at once.
    """
    number = sums.weight.size - 1
    best, last = np.zeros(number + 1), np.zeros(number + 1, dtype=np.int64)
    for end in range(1, number + 1):
        gain = (sums.value[end] - sums.value[:end]) ** 2 / (sums.weight[end] - sums.weight[:end])
        gain += best[:end]
        last[end] = np.argmax(gain)
        # each piece pays; the first one's payment is the same for all cuts
        best[end] = gain[last[end]] - cost
    starts = [int(last[number])]
    while starts[-1] > 0:
        starts.append(int(last[starts[-1]]))
    return np.array(starts[::-1], dtype=np.int64)


def penalty(weights: ArrayLike, false_alarm: float) -> float:
    """What a step must gain in chi2 to be believed.

    The solution β of P1 + P2 + P3 + ... = `false_alarm`, where Pk bounds the probability that k steps somewhere gain more than kβ:

    - one step: the largest of n - 1 correlated Gaussians squared. They are values of a standardised Brownian bridge, at the
      fractions of the weights before each place, which exceeds ±b between the fractions u and v with probability
      φ(b) [(b - 1/b) ln((v (1 - u)) / (u (1 - v))) + 4/b], b² = β (Miller and Siegmund, Biometrics 38 (1982) 1011); or
      (n - 1) times the tail of one Gaussian on both sides, where that is less;
    - k steps: as many times as there are ways to place them, the tail of a chi2 of k degrees of freedom above kβ.

    Args:
        weights: inverse squares of the errors, shape (n,).
        false_alarm: the probability.

    Returns:
        β; infinity for a single value.

    Raises:
        ValueError: a probability not inside (0, 1).

    >>> round(penalty([1.0, 1.0], 0.0455), 2)  # two values: two standard deviations
    4.0
    """
    if not 0 < false_alarm < 1:
        raise ValueError(f"false_alarm is {false_alarm}; expected a probability inside (0, 1), such as 1e-3")
    w = np.asarray(weights, dtype=np.float64)
    places = w.size - 1
    if places == 0:
        return np.inf
    first, last = w[0] / w.sum(), 1.0 - w[-1] / w.sum()
    length = np.log(last * (1.0 - first) / (first * (1.0 - last)))
    steps = np.arange(2, places + 1)
    log_ways = special.gammaln(places + 1) - special.gammaln(steps + 1) - special.gammaln(places - steps + 1)

    def excess(threshold: float) -> float:
        b = np.sqrt(threshold)
        log_one = np.log(2.0 * places) + special.log_ndtr(-b)
        if b > _SMALLEST_B:
            log_density = -0.5 * (threshold + np.log(2.0 * np.pi))
            log_one = min(log_one, log_density + np.log((b - 1.0 / b) * length + 4.0 / b))
        with np.errstate(divide="ignore"):  # a tail that vanishes
            log_more = log_ways + np.log(special.gammaincc(0.5 * steps, 0.5 * steps * threshold))
        return float(
            np.logaddexp(log_one, np.logaddexp.reduce(log_more, initial=-np.inf)) - np.log(false_alarm)
        )

    # Pk < exp(k (ln n - β/4)) for β > 20: at the upper end their sum is below.
    return float(optimize.brentq(excess, 1e-6, 20.0 + 8.0 * np.log(w.size / false_alarm)))
