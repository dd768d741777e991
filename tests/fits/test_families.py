"""Densities against the formulas of the papers, term by term, and in both array libraries."""

import math
import pickle
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.polynomial import legendre

from trila.fits import families
from trila.fits.families import Domain, Linear, LogLinear
from trila.fits.functions import FAMILIES, FUNCTIONS

DOMAIN = Domain(400.0, 9000.0, 13000.0)
MASSES = np.array([401.0, 531.0, 2000.0, 8999.0])


def dijet(x: float, t: float, p: tuple[float, ...]) -> float:
    return p[0] * (1 - x) ** p[1] / x ** sum(q * math.log(x) ** i for i, q in enumerate(p[2:]))


def ua2(x: float, t: float, p: tuple[float, ...]) -> float:
    return p[0] * x ** -p[1] * math.exp(-sum(q * x ** (i + 1) for i, q in enumerate(p[2:])))


def modexp(x: float, t: float, p: tuple[float, ...]) -> float:
    match p:
        case (a, b, c):
            return a * math.exp(b * x**c)
        case (a, b, c, d):
            return a * math.exp(b * x**c + b * (1 - x) ** d)
        case (a, b, c, d, e):
            return a * math.exp(b * x**c + d * (1 - x) ** e)
    a, b, c, d, e, f = p
    return a * math.exp(b * x**c + d * (1 - x) ** e * (1 + f * x))


def polyext(x: float, t: float, p: tuple[float, ...]) -> float:
    return dijet(x, t, p[:4]) * (1 + sum(q * x ** (i + 1) for i, q in enumerate(p[4:])))


def bernstein(x: float, t: float, p: tuple[float, ...]) -> float:
    """By de Casteljau's repeated averages, which have no binomial coefficients."""
    rest = list(p)
    while len(rest) > 1:
        rest = [(1 - t) * a + t * b for a, b in pairwise(rest)]
    return rest[0]


def exppoly(x: float, t: float, p: tuple[float, ...]) -> float:
    return math.exp(-p[1] * t) * sum(q * t**i for i, q in enumerate((p[0], *p[2:])))


def legendre_series(x: float, t: float, p: tuple[float, ...]) -> float:
    return float(legendre.legval(2 * t - 1, p))


FORMULAS: dict[str, tuple[Callable[[float, float, tuple[float, ...]], float], tuple[float, ...]]] = {
    "dijet": (dijet, (1e-2, 10.0, 5.5, 0.1, 0.02, -0.003)),
    "ua2": (ua2, (1e-2, 4.5, 12.0, 3.0, 4.0, -2.0)),
    "modexp": (modexp, (1e12, -38.0, 0.21, 3.0, 6.0, -2.0)),
    "polyext": (polyext, (1e-2, 9.0, 5.2, 0.1, 2.0, -3.0, 4.0)),
    "bernstein": (bernstein, (900.0, 400.0, 150.0, 80.0, 20.0, 6.0, 3.0)),
    "exppoly": (exppoly, (900.0, 3.0, 700.0, -300.0, 200.0, 100.0)),
    "legendre": (legendre_series, (900.0, -600.0, 250.0, -80.0, 20.0, -6.0, 3.0)),
    "powerlaw": (ua2, (1e-2, 4.5)),
}


def parameters(name: str) -> tuple[float, ...]:
    function = FUNCTIONS[name]
    return FORMULAS[function.family][1][: len(function.parameters)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_density_is_the_published_form(name: str) -> None:
    formula = FORMULAS[FUNCTIONS[name].family][0]
    x = MASSES / DOMAIN.sqrt_s
    t = (MASSES - DOMAIN.low) / (DOMAIN.high - DOMAIN.low)
    expected = [formula(a, b, parameters(name)) for a, b in zip(x, t, strict=True)]
    found = FUNCTIONS[name].density(MASSES, np.array(parameters(name)), DOMAIN)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


NEUTRAL = {"polyext": 0.0, "dijet": 0.0, "ua2": 0.0, "exppoly": 0.0, "legendre": 0.0}


@pytest.mark.parametrize(
    ("small", "large"),
    [(a, b) for family in NEUTRAL for a, b in zip(FAMILIES[family], FAMILIES[family][1:], strict=False)]
    + [("dijet4", "polyext5"), ("powerlaw", "ua2-4")],
)
def test_a_neutral_parameter_gives_the_smaller_function(small: str, large: str) -> None:
    p = np.array(parameters(small))
    extended = np.append(p, np.zeros(len(FUNCTIONS[large].parameters) - p.size))
    expected = FUNCTIONS[small].density(MASSES, p, DOMAIN)
    np.testing.assert_allclose(FUNCTIONS[large].density(MASSES, extended, DOMAIN), expected, rtol=1e-12)


def test_modified_exponentials_are_nested() -> None:
    norm, slope, power = 1e12, -38.0, 0.21
    three = families.modexp(MASSES, np.array([norm, slope, power]), DOMAIN)
    four = families.modexp(MASSES, np.array([norm * math.exp(-slope), slope, power, 0.0]), DOMAIN)
    np.testing.assert_allclose(four, three, rtol=1e-12)
    four = families.modexp(MASSES, np.array([norm, slope, power, 6.0]), DOMAIN)
    five = families.modexp(MASSES, np.array([norm, slope, power, slope, 6.0]), DOMAIN)
    np.testing.assert_allclose(five, four, rtol=1e-12)
    six = families.modexp(MASSES, np.array([norm, slope, power, slope, 6.0, 0.0]), DOMAIN)
    np.testing.assert_allclose(six, five, rtol=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_bernstein_polynomials_are_nested(order: int) -> None:
    """Raising the degree: the new coefficients are averages of neighbours."""
    p = np.array(parameters(f"bernstein{order}"))
    k = np.arange(order + 2) / (order + 1)
    raised = k * np.insert(p, 0, 0.0) + (1 - k) * np.append(p, 0.0)
    density = Linear(families.bernstein_terms)
    np.testing.assert_allclose(density(MASSES, raised, DOMAIN), density(MASSES, p, DOMAIN), rtol=1e-12)


def test_bernstein_coefficients_at_the_ends_are_the_density_there() -> None:
    density = Linear(families.bernstein_terms)
    ends = density(np.array([DOMAIN.low, DOMAIN.high]), np.array([7.0, 1.0, 2.0, 3.0]), DOMAIN)
    np.testing.assert_allclose(ends, [7.0, 3.0], rtol=1e-14)


def test_large_exponents_do_not_overflow() -> None:
    value = FUNCTIONS["dijet4"].density(np.array([5000.0]), np.array([1.0, 2000.0, -900.0, 0.0]), DOMAIN)
    assert np.isfinite(value).all()


def test_jax_and_numpy_agree() -> None:
    """The largest function of each family, whose code is that of the others; modexp has a branch for each size."""
    import jax

    names = {names[-1] for names in FAMILIES.values()} | set(FAMILIES["modexp"])
    with jax.enable_x64(True):

        @jax.jit
        def all_densities(values: dict[str, jax.Array], domain: Domain) -> dict[str, jax.Array]:
            return {name: FUNCTIONS[name].density(MASSES, p, domain) for name, p in values.items()}

        found = all_densities({name: np.array(parameters(name)) for name in names}, DOMAIN)
    for name, density in found.items():
        expected = FUNCTIONS[name].density(MASSES, np.array(parameters(name)), DOMAIN)
        assert density.dtype == np.float64
        np.testing.assert_allclose(np.asarray(density), expected, rtol=1e-12, err_msg=name)


def test_derivatives_of_jax_are_those_of_the_formula() -> None:
    import jax

    norm, slope, power = p = np.array(parameters("modexp3"))
    with jax.enable_x64(True):
        found = jax.jit(jax.jacfwd(lambda q: families.modexp(MASSES, q, DOMAIN)))(p)
    x = MASSES / DOMAIN.sqrt_s
    density = families.modexp(MASSES, p, DOMAIN)
    expected = [density / norm, density * x**power, density * slope * x**power * np.log(x)]
    np.testing.assert_allclose(found, np.stack(expected, axis=-1), rtol=1e-12)


def test_functions_are_equal_and_hashed_by_value() -> None:
    copies = {name: pickle.loads(pickle.dumps(function)) for name, function in FUNCTIONS.items()}
    assert copies == dict(FUNCTIONS)
    assert {hash(function) for function in copies.values()} == {hash(f) for f in FUNCTIONS.values()}
    assert len({function.density for function in FUNCTIONS.values()}) == 7
    assert LogLinear(families.dijet_terms) != Linear(families.dijet_terms)
