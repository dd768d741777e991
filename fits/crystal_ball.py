"""The double-sided Crystal Ball of a signal, and how its parameters depend on the mass.

A Gaussian core with a power law on either side: with t the distance from the peak in widths, the density is
proportional to

    exp(-t²/2)                                        for -alpha_low <= t <= alpha_high,
    exp(-alpha²/2) [1 + (alpha/n) (|t| - alpha)]^-n   beyond, with the alpha and n of that side

(one tail: Gaiser, SLAC-R-255 (1982), appendix F; two: ATLAS, arXiv:1407.6583). Its integral has a closed form, which is
`tail_probability`. `CrystalBallParameters` is what a user's file says:

```yaml
mean: -0.004                                    # peak at m (1 + mean): a number
sigma: {polynomial: [0.075, -1.5e-5, 2.0e-9]}   # width over m: c0 + c1 m + c2 m², m in GeV
alpha_low: {masses: [500, 1000, 2000], values: [1.1, 1.3, 1.4]}   # a table, interpolated (GeV)
n_low: 4
alpha_high: 2
n_high: 8
```
"""

from itertools import pairwise
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtr

from trila.fits.errors import FitError

__all__ = ["CrystalBallParameters", "Polynomial", "Table", "tail_probability"]

Array = NDArray[np.float64]


def tail_probability(
    position: ArrayLike, alpha_low: ArrayLike, n_low: ArrayLike, alpha_high: ArrayLike, n_high: ArrayLike
) -> Array:
    """Probability beyond a point, seen from the peak: below it where it is low, above it elsewhere.

    The cumulative distribution is this where t < 0, and one minus this elsewhere; it is given on the nearer side
    so that the contents of bins far out are no differences of numbers close to one.

    Args:
        position: t = (x - peak) / width, may be infinite; broadcast with the others.
        alpha_low, alpha_high: where the core ends, in widths, above 0.
        n_low, n_high: powers of the tails, above 1.

    Returns:
        Between 0 and 1.

    >>> float(tail_probability(0.0, 1.5, 3.0, 1.5, 3.0))
    0.5
    """
    t = np.asarray(position, dtype=np.float64)
    low = t < 0
    alpha, n = np.where(low, alpha_low, alpha_high), np.where(low, n_low, n_high)
    distance = np.abs(t)
    power_law = _whole_tail(alpha, n) * np.exp(
        (1 - n) * np.log1p(alpha / n * np.maximum(distance - alpha, 0.0))
    )
    core = np.sqrt(2 * np.pi) * (ndtr(-np.minimum(distance, alpha)) - ndtr(-alpha))
    return np.asarray((power_law + core) / (_side(alpha_low, n_low) + _side(alpha_high, n_high)))


def _whole_tail(alpha: Array, n: Array) -> Array:
    return np.asarray(np.exp(-0.5 * alpha**2) * n / (alpha * (n - 1)))


def _side(alpha: ArrayLike, n: ArrayLike) -> Array:
    """Integral of one half of the function, from the peak outwards, in widths."""
    a, m = np.asarray(alpha, dtype=np.float64), np.asarray(n, dtype=np.float64)
    return np.asarray(_whole_tail(a, m) + np.sqrt(2 * np.pi) * (0.5 - ndtr(-a)))


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Polynomial(_Strict):
    """A parameter as c0 + c1 m + c2 m², with m in GeV.

    Attributes:
        polynomial: one to three coefficients, the lowest order first, in 1, 1/GeV and 1/GeV².
    """

    polynomial: tuple[float, ...] = Field(min_length=1, max_length=3)

    def at(self, masses: Array) -> Array:
        """The value at masses (GeV), shape (M,)."""
        return np.asarray(np.polynomial.polynomial.polyval(masses, self.polynomial))


class Table(_Strict):
    """A parameter at some masses, between them a monotone cubic (PCHIP) that adds no extremes of its own.

    Attributes:
        masses: ascending, GeV, at least two.
        values: one for each mass.
    """

    masses: tuple[float, ...] = Field(min_length=2)
    values: tuple[float, ...]

    @model_validator(mode="after")
    def _matching(self) -> Self:
        if not all(low < high for low, high in pairwise(self.masses)):
            raise ValueError("the masses of a table do not ascend; sort them, and give each once")
        if len(self.values) != len(self.masses):
            raise ValueError(f"{len(self.values)} values for {len(self.masses)} masses; give one for each")
        return self

    def at(self, masses: Array) -> Array:
        """The value at masses (GeV), shape (M,); NaN outside of the table."""
        return np.asarray(PchipInterpolator(self.masses, self.values, extrapolate=False)(masses))


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return (
            "table" if {"masses", "values"} & set(value) else "polynomial" if "polynomial" in value else None
        )
    if isinstance(value, Polynomial | Table):
        return type(value).__name__.lower()
    return "number"


_Parameter = Annotated[
    Annotated[float, Tag("number")]
    | Annotated[Polynomial, Tag("polynomial")]
    | Annotated[Table, Tag("table")],
    Discriminator(
        _kind,
        custom_error_type="parameter",
        custom_error_message="expected a number, {polynomial: [c0, c1, c2]} or {masses: [...], values: [...]}",
    ),
]

# What each parameter must be above, and at most.
_LIMITS = {
    "mean": (-0.5, 0.5),
    "sigma": (1e-9, 1.0),
    "alpha_low": (1e-9, 1e3),
    "n_low": (1.0, 1e6),
    "alpha_high": (1e-9, 1e3),
    "n_high": (1.0, 1e6),
}


class CrystalBallParameters(_Strict):
    """The six parameters, each a number, a `Polynomial` in the mass or a `Table`.

    Attributes:
        mean: shift of the peak over the mass, above -0.5 and up to 0.5.
        sigma: width of the core over the mass, above 1e-9 and up to 1.
        alpha_low, alpha_high: where the core ends, in widths, above 1e-9 and up to 1000, which is a Gaussian.
        n_low, n_high: powers of the tails, above 1 and up to 1e6, which is an exponential.
    """

    mean: _Parameter
    sigma: _Parameter
    alpha_low: _Parameter
    n_low: _Parameter
    alpha_high: _Parameter
    n_high: _Parameter

    @model_validator(mode="after")
    def _numbers_in_range(self) -> Self:
        for name in _LIMITS:
            value = getattr(self, name)
            if isinstance(value, float) and not _allowed(name, value):
                raise ValueError(f"{name} is {value:g}, expected a value {_range(name)}; mend it")
        return self

    def at(self, masses: Array) -> Array:
        """The parameters in the order of the attributes, shape (6, M), at masses in GeV of shape (M,).

        Raises:
            FitError: a mass outside of a table, or a value out of its range.
        """
        return np.stack([self._value(name, masses) for name in _LIMITS])

    def _value(self, name: str, masses: Array) -> Array:
        given = getattr(self, name)
        if isinstance(given, float):
            return np.full(masses.shape, given)
        values: Array = given.at(masses)
        unknown = np.isnan(values)
        if unknown.any():
            raise FitError(
                f"mass {masses[unknown][0]:g} GeV is outside of the table of {name}, {given.masses[0]:g} to "
                f"{given.masses[-1]:g} GeV; add a mass to the table, or leave this one out."
            )
        wrong = ~_allowed(name, values)
        if wrong.any():
            raise FitError(
                f"{name} of the Crystal Ball is {values[wrong][0]:g} at {masses[wrong][0]:g} GeV, expected a value "
                f"{_range(name)}; mend the parameter, or leave the mass out."
            )
        return values


def _allowed(name: str, value: ArrayLike) -> NDArray[np.bool_]:
    above, at_most = _LIMITS[name]
    return np.asarray((np.asarray(value) > above) & (np.asarray(value) <= at_most))


def _range(name: str) -> str:
    above, at_most = _LIMITS[name]
    return f"above {above:g}" + (f" and up to {at_most:g}" if np.isfinite(at_most) else "")
