"""Smooth functions of falling mass spectra, and their expectation in bins.

| you have | use |
| --- | --- |
| a function's name, parameters and bin edges | `expectation`, events per bin |
| the spectrum at given masses | `density`, events per GeV |
| any other density of yours | `integrate_bins` |

The dijet family, with x = m/√s, is the one that CDF introduced and CMS and ATLAS use,

    dN/dm = p0 (1-x)^p1 x^-(p2 + p3 ln x + p4 ln²x + p5 ln³x),

where `dijet3` keeps p0 to p2, `dijet4` p0 to p3, and so on to `dijet6` (CDF, arXiv:0812.4036; CMS, arXiv:1911.03947).
ATLAS writes the exponent of x with the opposite sign.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FUNCTIONS", "SpectrumFunction", "density", "expectation", "integrate_bins"]

Array = NDArray[np.float64]


class SpectrumFunction(NamedTuple):
    """A named density of events in mass.

    Attributes:
        name: as in a configuration.
        parameters: their names, in the order in which values are given; the first is the norm.
        density: density(mass in GeV, parameters, sqrt_s in GeV), in units of the norm.
        reference: where it comes from.
    """

    name: str
    parameters: tuple[str, ...]
    density: Callable[[Array, Array, float], Array]
    reference: str


def _dijet(mass: Array, parameters: Array, sqrt_s: float) -> Array:
    x = mass / sqrt_s
    log_x = np.log(x)
    exponent = np.polynomial.polynomial.polyval(log_x, parameters[2:])
    # One exponential of a sum: the factors alone overflow for the large exponents that a minimiser tries.
    shape: Array = np.exp(parameters[1] * np.log1p(-x) - exponent * log_x)
    return np.asarray(parameters[0] * shape)


FUNCTIONS: Mapping[str, SpectrumFunction] = MappingProxyType(
    {
        f"dijet{n}": SpectrumFunction(
            f"dijet{n}", tuple(f"p{i}" for i in range(n)), _dijet, "arXiv:0812.4036, arXiv:1911.03947"
        )
        for n in range(3, 7)
    }
)


def _checked(name: str, parameters: Sequence[float] | NDArray[Any]) -> tuple[SpectrumFunction, Array]:
    if name not in FUNCTIONS:
        raise ValueError(f"unknown function '{name}'; choose one of {', '.join(FUNCTIONS)}.")
    function = FUNCTIONS[name]
    values = np.asarray(parameters, dtype=np.float64)
    if values.shape != (len(function.parameters),):
        raise ValueError(
            f"{name} got parameters of shape {values.shape}, expected {len(function.parameters)} values "
            f"({', '.join(function.parameters)}); give one value for each."
        )
    return function, values


def _check_mass(mass: Array, sqrt_s: float) -> None:
    if not (np.all(mass > 0) and np.all(mass <= sqrt_s)):
        raise ValueError(
            f"masses from {np.min(mass):g} to {np.max(mass):g} GeV, expected values above 0 and up to "
            f"sqrt_s = {sqrt_s:g} GeV; check the units and the collision energy."
        )


def density(
    name: str, mass: ArrayLike, parameters: Sequence[float] | NDArray[Any], *, sqrt_s: float
) -> Array:
    """The spectrum at given masses.

    Args:
        name: a key of `FUNCTIONS`.
        mass: GeV, any shape.
        parameters: one value per parameter of the function.
        sqrt_s: collision energy, GeV.

    Returns:
        Events per GeV (in units of the norm), in the shape of `mass`.

    Raises:
        ValueError: unknown name, wrong number of parameters, or a mass outside (0, sqrt_s].

    >>> float(density("dijet3", 6500.0, [2.0, 1.0, 0.0], sqrt_s=13000.0))
    1.0
    """
    function, values = _checked(name, parameters)
    masses = np.asarray(mass, dtype=np.float64)
    _check_mass(masses, sqrt_s)
    return function.density(masses, values, sqrt_s)


def expectation(
    name: str,
    edges: ArrayLike,
    parameters: Sequence[float] | NDArray[Any],
    *,
    sqrt_s: float,
    points: int = 8,
) -> Array:
    """Expected events per bin: the integral of the density, not its value at the centre times the width.

    At 10⁸ events the difference between the two is larger than the statistical error.

    Args:
        name: a key of `FUNCTIONS`.
        edges: increasing bin edges, GeV, shape (bins + 1,).
        parameters: one value per parameter of the function.
        sqrt_s: collision energy, GeV.
        points: Gauss-Legendre points per bin.

    Returns:
        Shape (bins,).

    Raises:
        ValueError: as `density`, or edges that do not increase.

    >>> expectation("dijet3", [100.0, 200.0], [3.0, 0.0, 0.0], sqrt_s=13000.0).round(9).tolist()
    [300.0]
    """
    function, values = _checked(name, parameters)
    boundaries = np.asarray(edges, dtype=np.float64)
    _check_mass(boundaries, sqrt_s)
    return integrate_bins(lambda mass: function.density(mass, values, sqrt_s), boundaries, points=points)


def integrate_bins(function: Callable[[Array], Array], edges: ArrayLike, *, points: int = 8) -> Array:
    """Integral of a smooth function over each bin by Gauss-Legendre quadrature, exact to order 2·points - 1.

    Args:
        function: of masses of shape (bins, points), to values of the same shape.
        edges: increasing bin edges, shape (bins + 1,).
        points: per bin.

    Returns:
        Shape (bins,).

    Raises:
        ValueError: edges that do not increase.

    >>> integrate_bins(lambda m: m**2, [0.0, 3.0, 6.0]).round(9).tolist()
    [9.0, 63.0]
    """
    boundaries = np.asarray(edges, dtype=np.float64)
    if boundaries.ndim != 1 or boundaries.size < 2 or not np.all(np.diff(boundaries) > 0):
        raise ValueError(
            f"bin edges of shape {boundaries.shape}, expected at least two increasing values; sort them."
        )
    nodes, weights = np.polynomial.legendre.leggauss(points)
    half = np.diff(boundaries)[:, np.newaxis] / 2
    centre = (boundaries[1:] + boundaries[:-1])[:, np.newaxis] / 2
    return np.asarray((function(centre + half * nodes) * weights).sum(axis=1) * half[:, 0])
