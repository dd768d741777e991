"""Natural cubic splines in the logarithm of pT, as a basis: a smooth curve is a matrix product.

| you want | use |
| --- | --- |
| a curve, or the design matrix of a linear fit | `natural_basis` |
| its derivative | `natural_slope` |
| knots | `spread_knots` |

With one knot the curve is a constant, with two a straight line; with K >= 3 it is cubic between the knots and
straight outside the outer ones (Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, eq. 5.4 and 5.5).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["natural_basis", "natural_slope", "spread_knots"]

Array = NDArray[np.float64]


def spread_knots(low: float, high: float, number: int) -> Array:
    """Knots at equal distances; a single one in the middle.

    >>> spread_knots(1.0, 2.0, 3).tolist()
    [1.0, 1.5, 2.0]
    """
    return np.linspace(low, high, number) if number > 1 else np.array([0.5 * (low + high)])


def natural_basis(u: ArrayLike, knots: ArrayLike) -> Array:
    """The basis functions at points.

    Args:
        u: points, any shape.
        knots: ascending, shape (k,).

    Returns:
        Shape (..., k).
    """
    x, t = _scaled(u, knots)
    columns = [np.ones_like(x)]
    if t.size > 1:
        columns.append(x)
        last = _hinge(x, t[-2], t[-1], 3)
        columns += [_hinge(x, knot, t[-1], 3) - last for knot in t[:-2]]
    return np.stack(columns, axis=-1)


def natural_slope(u: ArrayLike, knots: ArrayLike) -> Array:
    """Derivative of `natural_basis` with respect to u; same arguments and shape."""
    x, t = _scaled(u, knots)
    columns = [np.zeros_like(x)]
    if t.size > 1:
        columns.append(np.ones_like(x))
        last = _hinge(x, t[-2], t[-1], 2)
        columns += [_hinge(x, knot, t[-1], 2) - last for knot in t[:-2]]
    scale = _scale(np.asarray(knots, dtype=np.float64))
    return np.asarray(np.stack(columns, axis=-1) / scale)


def _scale(knots: Array) -> float:
    return float(knots[-1] - knots[0]) if knots.size > 1 else 1.0


def _scaled(u: ArrayLike, knots: ArrayLike) -> tuple[Array, Array]:
    """Points and knots with the knots from 0 to 1, which keeps the cubic terms of order one."""
    t = np.asarray(knots, dtype=np.float64)
    if t.ndim != 1 or t.size == 0 or np.any(np.diff(t) <= 0):
        raise ValueError(f"knots are {t.tolist()}; expected one or more ascending numbers")
    x = (np.asarray(u, dtype=np.float64) - t[0]) / _scale(t)
    return x, (t - t[0]) / _scale(t)


def _hinge(x: Array, knot: float, last: float, power: int) -> Array:
    """(x - knot)+^3 - (x - last)+^3 over last - knot; with power 2, its derivative."""
    factor = 1.0 if power == 3 else 3.0
    return np.asarray(
        factor * (np.maximum(x - knot, 0.0) ** power - np.maximum(x - last, 0.0) ** power) / (last - knot)
    )
