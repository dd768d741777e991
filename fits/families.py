"""Densities of falling mass spectra.

| family | density in x = m/√s or t = (m - low)/(high - low) | neutral value of the last parameter |
| --- | --- | --- |
| dijet | p0 (1-x)^p1 x^-(p2 + p3 ln x + p4 ln²x + p5 ln³x) | 0 |
| ua2 | p0 x^-p1 exp(-p2 x - p3 x² - p4 x³ - p5 x⁴) | 0 |
| modexp, 3 | p0 exp(p1 x^p2) | |
| modexp, 4 | p0 exp(p1 x^p2 + p1 (1-x)^p3) | p3 = 0 moves exp(p1) into p0 |
| modexp, 5 | p0 exp(p1 x^p2 + p3 (1-x)^p4) | p3 = p1 |
| modexp, 6 | p0 exp(p1 x^p2 + p3 (1-x)^p4 (1 + p5 x)) | 0 |
| polyext | dijet of four parameters times 1 + p4 x + p5 x² + p6 x³ | 0 |
| bernstein | sum over k of p_k C(n,k) t^k (1-t)^(n-k), order n | raised degree |
| exppoly | exp(-p1 t) (p0 + p2 t + p3 t² + ...) | 0 |
| legendre | sum over k of p_k P_k(2t - 1) | 0 |
| powerlaw | p0 x^-p1 | |

A density takes masses, parameters and a `Domain`. It computes in the array library of its parameters, so that the same
code serves NumPy and JAX; how many parameters there are decides how many terms. Densities are module-level functions or
frozen dataclasses of these: equal ones have equal hashes, and they can be pickled.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, repeat
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Density",
    "Domain",
    "Linear",
    "LogLinear",
    "SpectrumFunction",
    "Start",
    "Terms",
    "bernstein_terms",
    "dijet_terms",
    "exppoly",
    "legendre_terms",
    "modexp",
    "monomial_terms",
    "polyext",
    "powers",
    "ua2_terms",
]

Array = NDArray[np.float64]


class Domain(NamedTuple):
    """What a density knows besides mass and parameters.

    Attributes:
        low: where the fit range begins, GeV; t = 0 there.
        high: where it ends, GeV; t = 1 there.
        sqrt_s: collision energy, GeV; x = 1 there.
    """

    low: float
    high: float
    sqrt_s: float


#: density(mass, parameters, domain): masses in GeV of any shape, parameters along the first axis, whose further axes are
#: broadcast against the masses; events per GeV, in the shape of the masses. Arrays are NumPy's or JAX's.
Density = Callable[[Any, Any, Domain], Any]
#: start(mass, values, errors, domain): measured events per GeV and their positive errors at masses, all of shape (N,);
#: start values of shape (starts, P).
Start = Callable[[Array, Array, Array, Domain], Array]
#: terms(namespace, mass, domain, count): the first `count` terms of a sum, each in the shape of the masses.
Terms = Callable[[Any, Any, Domain, int], list[Any]]


_NORMED = ("dijet", "ua2", "modexp", "polyext", "powerlaw")


class SpectrumFunction(NamedTuple):
    """A named density of events in mass, and where a fit of it begins.

    Attributes:
        name: as in a configuration.
        parameters: their names, in the order in which values are given.
        density: see `Density`.
        start: see `Start`.
        family: functions of one family are nested.
        reference: where it comes from.
    """

    name: str
    parameters: tuple[str, ...]
    density: Density
    start: Start
    family: str
    reference: str

    @property
    def normed(self) -> bool:
        """Whether the first parameter is a positive norm that multiplies an exponential."""
        return self.family in _NORMED


@dataclass(frozen=True)
class LogLinear:
    """The density p0 exp(p1 terms[0] + p2 terms[1] + ...).

    One exponential of a sum: factors alone overflow for the large exponents that a minimiser tries.
    """

    terms: Terms

    def __call__(self, mass: Any, parameters: Any, domain: Domain) -> Any:
        xp = parameters.__array_namespace__()
        terms = self.terms(xp, mass, domain, parameters.shape[0] - 1)
        return parameters[0] * xp.exp(sum(parameters[i + 1] * term for i, term in enumerate(terms)))


@dataclass(frozen=True)
class Linear:
    """The density p0 terms[0] + p1 terms[1] + ..."""

    terms: Terms

    def __call__(self, mass: Any, parameters: Any, domain: Domain) -> Any:
        terms = self.terms(parameters.__array_namespace__(), mass, domain, parameters.shape[0])
        return sum(parameters[i] * term for i, term in enumerate(terms))


def powers(base: Any, count: int) -> list[Any]:
    """base, base², ... up to the power `count`, by products: a general power is many times slower."""
    return list(accumulate(repeat(base, count), operator.mul))


def dijet_terms(xp: Any, mass: Any, domain: Domain, count: int) -> list[Any]:
    """ln(1-x), -ln x, -ln²x, ... (CDF, arXiv:0812.4036; CMS, arXiv:1911.03947).

    ATLAS writes the exponent of x with the opposite sign.
    """
    x = mass / domain.sqrt_s
    return [xp.log1p(-x), *(-power for power in powers(xp.log(x), count - 1))]


def ua2_terms(xp: Any, mass: Any, domain: Domain, count: int) -> list[Any]:
    """-ln x, -x, -x², ... (UA2, Z. Phys. C 49 (1991) 17); the first alone is a power law."""
    x = mass / domain.sqrt_s
    return [-xp.log(x), *(-power for power in powers(x, count - 1))]


def monomial_terms(xp: Any, mass: Any, domain: Domain, count: int) -> list[Any]:
    """1, t, t², ..."""
    t = _fraction(mass, domain)
    return [xp.ones_like(t), *powers(t, count - 1)]


def bernstein_terms(xp: Any, mass: Any, domain: Domain, count: int) -> list[Any]:
    """C(n,k) t^k (1-t)^(n-k) for k from 0 to the order n = count - 1: none is negative within the fit range."""
    order, t = count - 1, _fraction(mass, domain)
    one = xp.ones_like(t)
    rising, falling = [one, *powers(t, order)], [one, *powers(1.0 - t, order)]
    return [comb(order, k) * rising[k] * falling[order - k] for k in range(count)]


def legendre_terms(xp: Any, mass: Any, domain: Domain, count: int) -> list[Any]:
    """Legendre polynomials of 2t - 1 by Bonnet's recurrence, as in M. Williams' bump hunt (arXiv:1705.03578)."""
    u = 2.0 * _fraction(mass, domain) - 1.0
    terms = [xp.ones_like(u), u]
    for k in range(1, count - 1):
        terms.append(((2 * k + 1) * u * terms[k] - k * terms[k - 1]) / (k + 1))
    return terms[:count]


def modexp(mass: Any, parameters: Any, domain: Domain) -> Any:
    """The modified exponential of three to six parameters (CMS, in CMSDIJET/DijetRootTreeAnalyzer)."""
    xp, count = parameters.__array_namespace__(), parameters.shape[0]
    x = mass / domain.sqrt_s
    exponent = parameters[1] * x ** parameters[2]
    if count == 4:
        exponent = exponent + parameters[1] * (1.0 - x) ** parameters[3]
    elif count > 4:
        bend = 1.0 + parameters[5] * x if count == 6 else 1.0
        exponent = exponent + parameters[3] * (1.0 - x) ** parameters[4] * bend
    return parameters[0] * xp.exp(exponent)


def polyext(mass: Any, parameters: Any, domain: Domain) -> Any:
    """A dijet function of four parameters times a polynomial (CMS, in CMSDIJET/DijetRootTreeAnalyzer)."""
    terms = powers(mass / domain.sqrt_s, parameters.shape[0] - 4)
    polynomial = 1.0 + sum(parameters[4 + i] * term for i, term in enumerate(terms))
    return LogLinear(dijet_terms)(mass, parameters[:4], domain) * polynomial


def exppoly(mass: Any, parameters: Any, domain: Domain) -> Any:
    """An exponential times a polynomial, for masses near a resonance (Dauncey et al., arXiv:1408.6865).

    Not the exponential of a polynomial: the factor of the polynomial is linear in its coefficients.
    """
    xp, t = parameters.__array_namespace__(), _fraction(mass, domain)
    terms = powers(t, parameters.shape[0] - 2)
    polynomial = parameters[0] + sum(parameters[2 + i] * term for i, term in enumerate(terms))
    return xp.exp(-parameters[1] * t) * polynomial


def _fraction(mass: Any, domain: Domain) -> Any:
    return (mass - domain.low) / (domain.high - domain.low)
