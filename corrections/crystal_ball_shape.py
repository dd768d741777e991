"""Double-sided Crystal Ball: a Gaussian core with power-law tails on both sides.

With t = (x - mean) / width the density is proportional to

    exp(-t²/2)                                        for -alpha_low <= t <= alpha_high,
    exp(-alpha²/2) [1 + (alpha/n) (|t| - alpha)]^-n   beyond, with the alpha and n of that side,

continuous with its first derivative (one tail: Gaiser, SLAC-R-255 (1982), appendix F). What to use when:

* at given points: `crystal_ball_density`;
* what bins hold: differences of `crystal_ball_cdf`;
* the same for many sets of parameters, with derivatives for a fit: `bin_probabilities`;
* a fit to histograms: `trila.corrections.crystal_ball`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

__all__ = ["PARAMETERS", "bin_probabilities", "crystal_ball_cdf", "crystal_ball_density"]

Array = NDArray[np.float64]

PARAMETERS = ("mean", "width", "alpha_low", "n_low", "alpha_high", "n_high")
"""The order of parameters wherever they are an array's last axis."""

_SQRT_TWO_PI = np.sqrt(2 * np.pi)


def crystal_ball_density(x: ArrayLike, parameters: ArrayLike) -> Array:
    """Density of the double-sided Crystal Ball, normalised to 1 over all real numbers.

    Args:
        x: Any shape.
        parameters: Shape (..., 6), in the order of `PARAMETERS`; the leading axes are broadcast with `x`.

    Returns:
        In the inverse unit of `x`.

    Raises:
        ValueError: If there are not six parameters, or a width or alpha is not above 0, or an n not above 1.

    Example:
        >>> round(float(crystal_ball_density(1.0, [1.0, 0.1, 1.5, 3.0, 2.0, 5.0])), 4)
        3.7156
    """
    shape = _checked(parameters)
    position = (np.asarray(x, dtype=np.float64) - shape[..., 0]) / shape[..., 1]
    return np.asarray(_evaluate(position, shape).density / (shape[..., 1] * _area(shape)))


def crystal_ball_cdf(x: ArrayLike, parameters: ArrayLike) -> Array:
    """Integral of `crystal_ball_density` from minus infinity to `x`, in closed form.

    Args:
        x: Any shape.
        parameters: As for `crystal_ball_density`.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: As `crystal_ball_density`.

    Example:
        >>> bool(crystal_ball_cdf(0.7, [0.7, 0.1, 2.0, 3.0, 2.0, 3.0]) == 0.5)
        True
    """
    shape = _checked(parameters)
    position = (np.asarray(x, dtype=np.float64) - shape[..., 0]) / shape[..., 1]
    at = _evaluate(position, shape)
    total = _area(shape)
    return np.asarray(np.where(at.low, at.integral, total + at.integral) / total)


def _checked(parameters: ArrayLike) -> Array:
    shape = np.asarray(parameters, dtype=np.float64)
    if shape.ndim == 0 or shape.shape[-1] != len(PARAMETERS):
        raise ValueError(
            f"parameters have shape {shape.shape}; the last axis must hold {len(PARAMETERS)}: {', '.join(PARAMETERS)}"
        )
    lowest = np.array([-np.inf, 0.0, 0.0, 1.0, 0.0, 1.0])
    wrong = ~(shape > lowest)
    if wrong.any():
        first = np.argwhere(wrong)[0]
        raise ValueError(
            f"{PARAMETERS[first[-1]]} is {shape[tuple(first)]}; it must be above {lowest[first[-1]]:g}"
        )
    return shape


class _Evaluated(NamedTuple):
    """The function, not normalised, at positions t in units of the width.

    Attributes:
        low: whether t is below 0, so that alpha and n are those of the low side.
        density: the function.
        integral: from minus infinity to t where t < 0, else minus that from t to infinity: never the small
            difference of large numbers.
        slopes: derivatives of `integral`'s magnitude with respect to the logarithms of alpha and n of that side.
    """

    low: NDArray[np.bool_]
    density: Array
    integral: Array
    slopes: tuple[Array, Array]


def _evaluate(position: Array, parameters: Array) -> _Evaluated:
    _, _, alpha_low, n_low, alpha_high, n_high = np.moveaxis(parameters, -1, 0)
    low = position < 0
    alpha, n = np.where(low, alpha_low, alpha_high), np.where(low, n_low, n_high)
    distance = np.abs(position)
    in_core = np.minimum(distance, alpha)
    base = 1 + alpha / n * (distance - in_core)
    log_base = np.log(base)
    density = np.exp(-0.5 * in_core**2 - n * log_base)
    beyond = np.where(low, *(_tail(a, m) for a, m in ((alpha_low, n_low), (alpha_high, n_high))))
    tail = beyond * np.exp((1 - n) * log_base)
    core = _SQRT_TWO_PI * (ndtr(-in_core) - np.where(low, ndtr(-alpha_low), ndtr(-alpha_high)))
    slopes = (
        tail * ((n - 1) * ((1 + alpha**2 / n) / base - 1) - alpha**2 - 1),
        tail * ((n - 1) * (1 - 1 / base) - n * log_base - 1 / (n - 1)),
    )
    return _Evaluated(low, density, np.where(low, 1.0, -1.0) * (tail + core), slopes)


def _tail(alpha: Array, n: Array) -> Array:
    """Integral of a whole tail, in units of the width."""
    return np.asarray(np.exp(-0.5 * alpha**2) * n / (alpha * (n - 1)))


def _area(parameters: Array) -> Array:
    """Integral of the function, in units of the width."""
    alpha, n = parameters[..., 2::2], parameters[..., 3::2]
    return np.asarray((_tail(alpha, n) + _SQRT_TWO_PI * (0.5 - ndtr(-alpha))).sum(axis=-1))


def bin_probabilities(edges: Array, parameters: Array) -> tuple[Array, Array]:
    """Probabilities of bins, relative to the range of the edges, and the derivatives of their logarithms.

    Args:
        edges: Shape (n + 1,).
        parameters: Shape (rows, 6).

    Returns:
        Shapes (rows, n) and (rows, 6, n); the derivatives are with respect to mean/width and to the logarithms
        of the other parameters.
    """
    position = (edges - parameters[:, :1]) / parameters[:, 1:2]
    at = _evaluate(position, parameters[:, np.newaxis])
    integral = np.diff(at.integral, axis=1)
    change = np.stack(
        [
            -np.diff(at.density, axis=1),
            -np.diff(position * at.density, axis=1),
            *(np.diff(np.where(at.low, slope, 0.0), axis=1) for slope in at.slopes),
            *(np.diff(np.where(at.low, 0.0, -slope), axis=1) for slope in at.slopes),
        ],
        axis=1,
    )
    # Where a bin holds t = 0, the integral jumps from one side's to the other's.
    rows, bins = np.nonzero(at.low[:, :-1] & ~at.low[:, 1:])
    alpha, n = parameters[rows, 2::2], parameters[rows, 3::2]
    tail = _tail(alpha, n)
    integral[rows, bins] += _area(parameters[rows])
    change[rows, 2::2, bins] -= tail * (1 + alpha**2 / n)
    change[rows, 3::2, bins] -= tail / (n - 1)

    probability = integral / integral.sum(axis=1, keepdims=True)
    scores = change / integral[:, np.newaxis]
    scores -= np.matmul(scores, probability[:, :, np.newaxis])
    return probability, scores
