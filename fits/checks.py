"""Values that a formula can take, or a message that names the one it cannot.

| the formula needs | use |
| --- | --- |
| finite values above a bound | `above` |
| finite values at or above a bound | `at_least` |
| a probability strictly between 0 and 1 | `inside` |
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.errors import FitError

__all__ = ["above", "at_least", "inside"]

Array = NDArray[np.float64]


def above(name: str, values: ArrayLike, bound: float, remedy: str) -> Array:
    """The values as float64, each finite and above the bound.

    Args:
        name: what the values are, with the unit, for the message.
        values: any shape.
        bound: that no value may reach.
        remedy: what to do, for the message.

    Raises:
        FitError: a value is nan, infinite or not above the bound.

    >>> above("mass in GeV", [1, 2], 0, "check the unit").tolist()
    [1.0, 2.0]
    """
    array = np.asarray(values, dtype=np.float64)
    _check(name, array, np.isfinite(array) & (array > bound), f"finite values above {bound:g}", remedy)
    return array


def at_least(name: str, values: ArrayLike, bound: float, remedy: str) -> Array:
    """As `above`, with the bound itself allowed.

    Raises:
        FitError: a value is nan, infinite or below the bound.
    """
    array = np.asarray(values, dtype=np.float64)
    _check(name, array, np.isfinite(array) & (array >= bound), f"finite values of at least {bound:g}", remedy)
    return array


def inside(name: str, value: float, remedy: str) -> float:
    """A probability that is neither 0 nor 1.

    Raises:
        FitError: the value is not between 0 and 1.
    """
    if not 0 < value < 1:
        raise FitError(f"{name} is {value:g}, expected a value between 0 and 1; {remedy}.")
    return value


def _check(name: str, array: Array, good: NDArray[np.bool_], expected: str, remedy: str) -> None:
    if not np.all(good):
        raise FitError(f"{name} contains {array[~good].ravel()[0]:g}, expected {expected}; {remedy}.")
