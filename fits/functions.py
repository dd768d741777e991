"""Smooth functions of falling mass spectra, and their expectation in bins.

| you have | use |
| --- | --- |
| a function's name, an expression or a Python file | `resolve` |
| a function, parameters and bin edges | `expectation`, events per bin |
| the spectrum at given masses | `density`, events per GeV |
| any other density of yours | `integrate_bins` |
| many expectations in the same bins | `quadrature`, once |

The densities of the named functions are in `families.py`, where their fits begin in `starts.py`.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits import families, starts
from trila.fits.errors import FitError
from trila.fits.expressions import PREFIX, expression
from trila.fits.families import Density, Domain, Linear, LogLinear, SpectrumFunction, Start, Terms
from trila.fits.own_functions import own_function

__all__ = [
    "FAMILIES",
    "FUNCTIONS",
    "Domain",
    "SpectrumFunction",
    "density",
    "expectation",
    "integrate_bins",
    "quadrature",
    "resolve",
]

Array = NDArray[np.float64]


def _named(name: str, count: int, density: Density, start: Start, reference: str) -> SpectrumFunction:
    family = name.rstrip("0123456789").rstrip("-")
    return SpectrumFunction(name, tuple(f"p{i}" for i in range(count)), density, start, family, reference)


def _log_linear(name: str, count: int, terms: Terms, reference: str) -> SpectrumFunction:
    return _named(name, count, LogLinear(terms), starts.LogLinearStart(terms, count), reference)


def _polynomial(name: str, order: int, terms: Terms, reference: str) -> SpectrumFunction:
    start = starts.PolynomialStart(terms, order + 1)
    return _named(f"{name}{order}", order + 1, Linear(terms), start, reference)


def _all() -> list[SpectrumFunction]:
    code = "CMSDIJET/DijetRootTreeAnalyzer"
    dijet, ua2 = families.dijet_terms, families.ua2_terms
    return [
        *(_log_linear(f"dijet{n}", n, dijet, "arXiv:0812.4036, arXiv:1911.03947") for n in range(3, 7)),
        *(_log_linear(f"ua2-{n}", n, ua2, "Z. Phys. C 49 (1991) 17") for n in range(4, 7)),
        *(_named(f"modexp{n}", n, families.modexp, starts.ModExpStart(n), code) for n in range(3, 7)),
        *(_named(f"polyext{n}", n, families.polyext, starts.PolyExtStart(n), code) for n in range(5, 8)),
        *(_polynomial("bernstein", n, families.bernstein_terms, "arXiv:1912.04776") for n in range(2, 7)),
        *(
            _named(
                f"exppoly{n}", n + 2, families.exppoly, starts.ExpPolynomialStart(n + 2), "arXiv:1408.6865"
            )
            for n in range(1, 5)
        ),
        *(_polynomial("legendre", n, families.legendre_terms, "arXiv:1705.03578") for n in range(2, 7)),
        _log_linear("powerlaw", 2, ua2, "arXiv:1408.6865"),
    ]


#: Function of each name. The number in a name counts the parameters of dijet, ua2, modexp and polyext; it is the order
#: of the polynomial of bernstein, exppoly and legendre, which have one, two and one parameters more.
FUNCTIONS: Mapping[str, SpectrumFunction] = MappingProxyType({function.name: function for function in _all()})
#: Names of each family's functions, each a special case of the next: an F-test may compare them.
FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        family: tuple(name for name, function in FUNCTIONS.items() if function.family == family)
        for family in dict.fromkeys(function.family for function in FUNCTIONS.values())
    }
)
#: Names that stand for more than a function: `gaussian_process.py`, `sliding_background.py`.
_BACKGROUNDS = ("gp", "swift")


def resolve(name: str) -> SpectrumFunction:
    """The function of a name; equal names give equal functions, with equal hashes.

    Args:
        name: a key of `FUNCTIONS`, `expr:EXPRESSION` (see `expressions.py`) or `FILE.py:NAME` (see `own_functions.py`).

    Raises:
        FitError: there is none, or the expression or file cannot be used.

    >>> resolve("dijet4").parameters
    ('p0', 'p1', 'p2', 'p3')
    """
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    if name.startswith(PREFIX):
        return expression(name)
    if ".py:" in name:
        return own_function(name)
    if name.partition(":")[0] in _BACKGROUNDS:
        raise FitError(
            f"'{name}' is a background, but no function of mass; expected one here, such as dijet4: take that"
        )
    close = difflib.get_close_matches(name, FUNCTIONS, n=3)
    hint = f"did you mean {' or '.join(close)}" if close else f"known: {', '.join(FUNCTIONS)}"
    raise FitError(f"unknown function '{name}'; {hint}? {PREFIX}EXPRESSION and FILE.py:NAME are your own.")


def density(
    function: str | SpectrumFunction,
    mass: ArrayLike,
    parameters: Sequence[float] | NDArray[Any],
    *,
    domain: Domain,
) -> Array:
    """The spectrum at given masses.

    Args:
        function: as `resolve` gives it, or its name.
        mass: GeV, any shape.
        parameters: one value per parameter of the function.
        domain: fit range and collision energy.

    Returns:
        Events per GeV, in the shape of `mass`.

    Raises:
        FitError: unknown name, wrong number of parameters, an empty range, or a mass outside (0, sqrt_s].

    >>> float(density("dijet3", 6500.0, [2.0, 1.0, 0.0], domain=Domain(500.0, 9000.0, 13000.0)))
    1.0
    """
    found, values = _checked(function, parameters)
    masses = np.asarray(mass, dtype=np.float64)
    _check_masses(masses, domain)
    return np.asarray(found.density(masses, values, domain))


def expectation(
    function: str | SpectrumFunction,
    edges: ArrayLike,
    parameters: Sequence[float] | NDArray[Any],
    *,
    domain: Domain,
    points: int = 8,
) -> Array:
    """Expected events per bin: the integral of the density, not its value at the centre times the width.

    At 10⁸ events the difference between the two is larger than the statistical error.

    Args:
        function: as `resolve` gives it, or its name.
        edges: increasing bin edges, GeV, shape (bins + 1,).
        parameters: one value per parameter of the function.
        domain: fit range and collision energy; the range need not be that of the edges.
        points: Gauss-Legendre points per bin.

    Returns:
        Shape (bins,).

    Raises:
        FitError: as `density`, or edges that do not increase.

    >>> domain = Domain(100.0, 200.0, 13000.0)
    >>> expectation("dijet3", [100.0, 200.0], [3.0, 0.0, 0.0], domain=domain).round(9).tolist()
    [300.0]
    """
    found, values = _checked(function, parameters)
    boundaries = np.asarray(edges, dtype=np.float64)
    _check_masses(boundaries, domain)
    return integrate_bins(lambda mass: found.density(mass, values, domain), boundaries, points=points)


def integrate_bins(function: Callable[[Array], Array], edges: ArrayLike, *, points: int = 8) -> Array:
    """Integral of a smooth function over each bin by Gauss-Legendre quadrature, exact to order 2·points - 1.

    Args:
        function: of masses of shape (bins, points), to values of the same shape.
        edges: increasing bin edges, shape (bins + 1,).
        points: per bin.

    Returns:
        Shape (bins,).

    Raises:
        FitError: edges that do not increase.

    >>> integrate_bins(lambda m: m**2, [0.0, 3.0, 6.0]).round(9).tolist()
    [9.0, 63.0]
    """
    nodes, weights = quadrature(edges, points)
    return np.asarray((function(nodes) * weights).sum(axis=-1))


def quadrature(edges: ArrayLike, points: int = 8) -> tuple[Array, Array]:
    """Where to evaluate a density, and what to multiply it with: the sum over points is then the integral of each bin.

    Args:
        edges: increasing bin edges, shape (..., bins + 1).
        points: Gauss-Legendre points per bin.

    Returns:
        Masses and weights (of the unit of the edges), each of shape (..., bins, points).

    Raises:
        FitError: edges that do not increase.

    >>> mass, weights = quadrature([0.0, 3.0, 6.0], points=2)
    >>> (mass**3 * weights).sum(axis=-1).round(9).tolist()
    [20.25, 303.75]
    """
    boundaries = np.asarray(edges, dtype=np.float64)
    if boundaries.ndim < 1 or boundaries.shape[-1] < 2 or not np.all(np.diff(boundaries) > 0):
        raise FitError(
            f"bin edges of shape {boundaries.shape}, expected at least two increasing values; sort them."
        )
    nodes, weights = np.polynomial.legendre.leggauss(points)
    half = np.diff(boundaries)[..., np.newaxis] / 2
    centre = (boundaries[..., 1:] + boundaries[..., :-1])[..., np.newaxis] / 2
    return centre + half * nodes, half * weights


def _checked(
    function: str | SpectrumFunction, parameters: Sequence[float] | NDArray[Any]
) -> tuple[SpectrumFunction, Array]:
    found = resolve(function) if isinstance(function, str) else function
    values = np.asarray(parameters, dtype=np.float64)
    if values.shape != (len(found.parameters),):
        raise FitError(
            f"{found.name} got parameters of shape {values.shape}, expected {len(found.parameters)} values "
            f"({', '.join(found.parameters)}); give one value for each."
        )
    return found, values


def _check_masses(mass: Array, domain: Domain) -> None:
    if not (np.all(mass > 0) and np.all(mass <= domain.sqrt_s)):
        raise FitError(
            f"masses from {np.min(mass):g} to {np.max(mass):g} GeV, expected values above 0 and up to "
            f"sqrt_s = {domain.sqrt_s:g} GeV; check the units and the collision energy."
        )
    if not domain.low < domain.high:
        raise FitError(
            f"fit range from {domain.low:g} to {domain.high:g} GeV, expected a lower end below the upper one; "
            "exchange them."
        )
