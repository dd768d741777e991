"""From a response to a correction: numerical inversion.

A response R(P) is known as a function of the reference (offline) pT, P; a correction is needed as a function of the
measured (HLT) pT, x. With x(P) = P R(P) strictly rising, the correction is c(x) = P(x)/x. It is not 1/R(x), which
differs by the slope of the response (ATLAS, arXiv:1406.0076, section 7).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["invert", "is_monotone"]

Array = NDArray[np.float64]
Curve = Callable[[Array], Array]


def is_monotone(slope: ArrayLike) -> bool:
    """Whether x(P) rises, given the slope d ln R / d ln P on a grid.

    >>> is_monotone([0.1, -0.5]), is_monotone([0.1, -1.0])
    (True, False)
    """
    return bool(np.all(1.0 + np.asarray(slope, dtype=np.float64) > 0.0))


def invert(
    log_measured: ArrayLike, log_response: Curve, log_slope: Curve, bounds: tuple[float, float]
) -> Array:
    """ln P for each ln x, by Newton's method kept inside a shrinking bracket.

    Args:
        log_measured: ln x, any shape.
        log_response: ln R as a function of ln P.
        log_slope: its derivative.
        bounds: lowest and highest ln P; the answer stays between them.

    Returns:
        ln P, to 1e-12, same shape.

    Raises:
        ValueError: x(P) does not rise at one of the points visited.
    """
    target = np.asarray(log_measured, dtype=np.float64)
    low, high = np.full(target.shape, bounds[0]), np.full(target.shape, bounds[1])
    found = np.clip(target, *bounds)
    for _ in range(100):
        slope = log_slope(found)
        if not is_monotone(slope):
            raise ValueError("the measured pT does not rise with the reference pT; fewer knots are needed")
        miss = found + log_response(found) - target
        low, high = np.where(miss < 0, found, low), np.where(miss > 0, found, high)
        step = found - miss / (1.0 + slope)
        step = np.where((step < low) | (step > high), 0.5 * (low + high), step)
        if np.all(np.abs(step - found) < 1e-13 * np.maximum(1.0, np.abs(found))):
            return np.asarray(step)
        found = step
    return found
