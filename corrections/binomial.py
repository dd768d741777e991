"""Counts that pass out of counts tried: maximum likelihood with limits on the parameters, and bins merged for it.

| you want | use |
| --- | --- |
| the best parameters of a smooth model of the efficiency | `maximise` |
| how well efficiencies describe the counts | `deviances` |
| bins with enough entries | `merged_starts` |

`maximise` is Fisher scoring: the binomial likelihood gives its information matrix in closed form, so neither second
derivatives nor a general minimiser are needed. It is written for efficiencies that end at a limit, such as a plateau of 1
where nothing failed, and says which parameters did.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["BinomialFit", "Model", "deviances", "maximise", "merged_starts"]

Array = NDArray[np.float64]

#: Parameters to the efficiency in each bin, shape (n,), and its derivatives, shape (n parameters, n).
Model = Callable[[Array], tuple[Array, Array]]

_AT_LIMIT = 1e-6  # of the distance between the limits
_TINY = 1e-12  # from 0 and 1: entries that pass where the model has none must not end a fit
_STEPS = 100
_CLOSE = 1e-7  # of the log-likelihood: a ten-thousandth of what a standard deviation costs is 5e-5


class BinomialFit(NamedTuple):
    """The maximum of a binomial likelihood.

    Attributes:
        values: of the parameters.
        efficiency, derivatives: the model there, shapes (n,) and (n parameters, n).
        free: parameters that are not at a limit, shape (n parameters,).
        deviance: twice the log-likelihood ratio to the efficiencies of the data.
        distance: estimated difference of the log-likelihood to its true maximum; below 1e-4 is converged.
    """

    values: Array
    efficiency: Array
    derivatives: Array
    free: NDArray[np.bool_]
    deviance: float
    distance: float


def deviances(passed: Array, total: Array, efficiency: Array) -> Array:
    """Twice the log-likelihood ratio between the efficiency of the data and `efficiency`, in each bin.

    >>> deviances(np.array([5.0]), np.array([10.0]), np.array([0.5])).tolist()
    [0.0]
    """
    failed = total - passed
    return np.asarray(
        2.0 * (special.xlogy(passed, passed) - special.xlogy(passed, total * efficiency))
        + 2.0 * (special.xlogy(failed, failed) - special.xlogy(failed, total * (1.0 - efficiency)))
    )


def maximise(
    passed: Array, total: Array, model: Model, start: Array, lower: Array, upper: Array
) -> BinomialFit:
    """Fisher scoring with damping (Levenberg, Marquardt) inside limits.

    Args:
        passed, total: counts, shape (n,), `total` above zero; effective counts of weighted entries are allowed.
        model: efficiency and derivatives; values outside (0, 1) are moved to its ends.
        start: values of the parameters to begin with, moved into the limits.
        lower, upper: limits of the parameters.
    """
    values = np.clip(start, lower, upper)
    damping = 1e-3
    efficiency, derivatives = _inside(model(values))
    deviance = float(deviances(passed, total, efficiency).sum())
    for _ in range(_STEPS):
        score, information = _score(passed, total, efficiency, derivatives)
        free = ~(((values <= lower) & (score <= 0)) | ((values >= upper) & (score >= 0)))
        distance = _distance(score[free], information[np.ix_(free, free)])
        if distance < _CLOSE or damping > 1e12:
            break
        scale = np.diag(information) + 1e-30
        proposed = values.copy()
        step = np.linalg.lstsq(
            (information + damping * np.diag(scale))[np.ix_(free, free)], score[free], rcond=None
        )
        proposed[free] = np.clip(values[free] + step[0], lower[free], upper[free])
        near = _AT_LIMIT * (upper - lower)
        proposed = np.where(
            proposed - lower < near, lower, np.where(upper - proposed < near, upper, proposed)
        )
        new_efficiency, new_derivatives = _inside(model(proposed))
        new_deviance = float(deviances(passed, total, new_efficiency).sum())
        if new_deviance <= deviance + _CLOSE:
            values, efficiency, derivatives, deviance = (
                proposed,
                new_efficiency,
                new_derivatives,
                new_deviance,
            )
            damping = max(0.2 * damping, 1e-12)
        else:
            damping *= 5.0
    return BinomialFit(values, efficiency, derivatives, free, deviance, distance)


def merged_starts(sums: Array, squares: Array, needed: float) -> NDArray[np.int64]:
    """First bins of groups of neighbours, made from the last bin down, with `needed` effective entries each.

    What remains below the lowest complete group belongs to none.

    Args:
        sums: sums of weights, shape (n,).
        squares: sums of squared weights, shape (n,).
        needed: (Σw)²/Σw² of each group at least.

    Returns:
        Increasing indices; each group ends where the next begins, the last one at n.

    >>> counts = np.array([9.0, 4.0, 8.0, 2.0, 9.0])
    >>> merged_starts(counts, counts, 10.0).tolist()
    [1, 3]
    """
    weight = np.append(0.0, np.cumsum(sums[::-1]))
    square = np.append(0.0, np.cumsum(squares[::-1]))
    ends = [0]
    while True:
        # Effective entries of the group that begins behind the last one, for every possible end of it.
        w, s = weight[ends[-1] + 1 :] - weight[ends[-1]], square[ends[-1] + 1 :] - square[ends[-1]]
        enough = np.flatnonzero((w > 0) & (s > 0) & (w**2 >= needed * s))
        if not enough.size:
            return (sums.size - np.array(ends[1:], np.int64))[::-1]
        ends.append(ends[-1] + 1 + int(enough[0]))


def _inside(model: tuple[Array, Array]) -> tuple[Array, Array]:
    return np.clip(model[0], _TINY, 1.0 - _TINY), model[1]


def _score(passed: Array, total: Array, efficiency: Array, derivatives: Array) -> tuple[Array, Array]:
    """First derivatives of the log-likelihood, and the expected information matrix."""
    variance = efficiency * (1.0 - efficiency)
    score = derivatives @ ((passed - total * efficiency) / variance)
    return score, (derivatives * (total / variance)) @ derivatives.T


def _distance(score: Array, information: Array) -> float:
    """Half of score · covariance · score, what a further step would gain."""
    size = np.sqrt(np.diag(information))
    size = np.where(size > 0, size, 1.0)
    reduced = score / size
    return 0.5 * float(reduced @ np.linalg.pinv(information / np.outer(size, size), 1e-12, True) @ reduced)
