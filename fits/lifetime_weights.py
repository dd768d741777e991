"""One simulated lifetime made to stand for another, by weights of the decay times.

Simulate the longest lifetime and weight to shorter ones: those weights are bounded. Upwards they are not, and
from twice the simulated lifetime on their variance is infinite, which no sample shows.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.checks import above, at_least
from trila.fits.errors import FitError

__all__ = ["effective_events", "lifetime_weights"]

Array = NDArray[np.float64]


def effective_events(weights: ArrayLike) -> float:
    """(Σ w)² / Σ w²: events of weight 1 with the same relative error of their sum; 0 without events.

    Args:
        weights: shape (n,).

    >>> effective_events([1.0, 1.0, 2.0]).__round__(3)
    2.667
    """
    values = np.asarray(weights, dtype=np.float64)
    squares = np.square(values).sum()
    return float(values.sum() ** 2 / squares) if squares > 0 else 0.0


def lifetime_weights(
    times: ArrayLike,
    simulated: float,
    wanted: float,
    *,
    smallest_sample: float = 100.0,
    largest_share: float = 0.05,
) -> Array:
    """Weights w = (t0/t1) exp[-t (1/t1 - 1/t0)], which make decays of lifetime t0 those of t1.

    Args:
        times: proper decay times of all simulated decays, before any selection, ps, shape (n,).
        simulated: lifetime t0 of the simulation, ps.
        wanted: lifetime t1, ps, below 2 t0.
        smallest_sample: effective events that must remain.
        largest_share: of the sum of weights, that one decay may have.

    Returns:
        Shape (n,), 1 in the mean over all decays.

    Raises:
        FitError: a time is negative, a lifetime is not positive, the wanted lifetime is at least twice the
            simulated one, too few effective events remain, or one decay has too large a share.

    >>> lifetime_weights(np.full(200, 2.0), 2.0, 1.0).round(4)[0].item()
    0.7358
    """
    t = at_least("decay times in ps", times, 0, "give proper times of simulated decays")
    for name, value in (("the simulated lifetime in ps", simulated), ("the wanted lifetime in ps", wanted)):
        above(name, value, 0, "check the unit")
    if wanted >= 2 * simulated:
        raise FitError(
            f"a lifetime of {wanted:g} ps wanted from one of {simulated:g} ps, expected less than "
            f"{2 * simulated:g} ps, from where the variance of the weights is infinite; "
            "simulate a longer lifetime."
        )
    exponent = -t * (1 / wanted - 1 / simulated)
    # The guards do not depend on the norm, and relative to the largest no weight overflows.
    relative = np.exp(exponent - exponent.max(initial=-np.inf))
    remaining = effective_events(relative)
    if remaining < smallest_sample:
        raise FitError(
            f"weights from {simulated:g} to {wanted:g} ps leave {remaining:.1f} effective events of "
            f"{t.size}, expected at least {smallest_sample:g}; simulate more, or a lifetime nearer to the wanted one."
        )
    share = float(1 / relative.sum())
    if share > largest_share:
        raise FitError(
            f"one decay, at {t[np.argmax(exponent)]:g} ps, has {share:.1%} of the sum of weights, "
            f"expected at most {largest_share:.1%}; simulate more, or a lifetime nearer to the wanted one."
        )
    return np.asarray(simulated / wanted * np.exp(exponent))
