from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from trila.fits import functions

SQRT_S = 13600.0
PARAMETERS = {
    "dijet3": (1e-2, 9.0, 5.2),
    "dijet4": (1e-2, 10.0, 5.5, 0.1),
    "dijet5": (1e-2, 10.0, 5.5, 0.1, 0.02),
    "dijet6": (1e-2, 10.0, 5.5, 0.1, 0.02, -0.003),
}


def slow_dijet(mass: float, parameters: tuple[float, ...]) -> float:
    """The function as written in the papers, term by term."""
    x = mass / SQRT_S
    power = sum(p * np.log(x) ** i for i, p in enumerate(parameters[2:]))
    return float(parameters[0] * (1 - x) ** parameters[1] / x**power)


@pytest.mark.parametrize("name", PARAMETERS)
def test_density_is_the_published_form(name: str) -> None:
    masses = [220.0, 531.0, 2000.0, 9000.0, 13599.0]
    expected = [slow_dijet(mass, PARAMETERS[name]) for mass in masses]
    np.testing.assert_allclose(
        functions.density(name, masses, PARAMETERS[name], sqrt_s=SQRT_S), expected, rtol=1e-12
    )


@pytest.mark.parametrize("name", PARAMETERS)
def test_expectation_agrees_with_adaptive_quadrature(name: str) -> None:
    edges = np.array([453.0, 489.0, 526.0, 1000.0, 1058.0, 6000.0, 6099.0])
    expected = [
        quad(slow_dijet, low, high, args=(PARAMETERS[name],), epsrel=1e-12)[0]
        for low, high in pairwise(edges)
    ]
    found = functions.expectation(name, edges, PARAMETERS[name], sqrt_s=SQRT_S)
    # Eight points are enough for bins of the widths in use, not for one of a factor of six in mass.
    usual = np.diff(edges) < 100.0
    np.testing.assert_allclose(found[usual], np.array(expected)[usual], rtol=1e-10)
    many = functions.expectation(name, edges, PARAMETERS[name], sqrt_s=SQRT_S, points=40)
    np.testing.assert_allclose(many, expected, rtol=1e-10)


def test_centre_times_width_is_not_good_enough() -> None:
    edges = np.array([489.0, 526.0])
    integral = functions.expectation("dijet4", edges, PARAMETERS["dijet4"], sqrt_s=SQRT_S)
    centre = functions.density("dijet4", edges.mean(), PARAMETERS["dijet4"], sqrt_s=SQRT_S) * 37.0
    assert 1e-3 < abs(centre / integral[0] - 1.0) < 1e-1


def test_large_exponents_do_not_overflow() -> None:
    value = functions.density("dijet4", 5000.0, (1.0, 2000.0, -900.0, 0.0), sqrt_s=SQRT_S)
    assert np.isfinite(value)


def test_integrate_bins_is_exact_for_polynomials() -> None:
    found = functions.integrate_bins(lambda m: m**3, [0.0, 1.0, 3.0], points=2)
    np.testing.assert_allclose(found, [0.25, 20.0], rtol=1e-14)


def test_each_function_names_its_parameters() -> None:
    assert {name: len(f.parameters) for name, f in functions.FUNCTIONS.items()} == {
        "dijet3": 3,
        "dijet4": 4,
        "dijet5": 5,
        "dijet6": 6,
    }


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"unknown function 'dijet7'; choose one of dijet3, dijet4"):
        functions.density("dijet7", 500.0, [1.0], sqrt_s=SQRT_S)
    with pytest.raises(
        ValueError, match=r"dijet3 got parameters of shape \(2,\), expected 3 values \(p0, p1, p2\)"
    ):
        functions.density("dijet3", 500.0, [1.0, 2.0], sqrt_s=SQRT_S)
    with pytest.raises(
        ValueError, match=r"masses from 500 to 20000 GeV, expected .* sqrt_s = 13600 GeV; check the units"
    ):
        functions.expectation("dijet3", [500.0, 20000.0], [1.0, 2.0, 3.0], sqrt_s=SQRT_S)
    with pytest.raises(
        ValueError, match=r"bin edges of shape \(3,\), expected at least two increasing values; sort"
    ):
        functions.expectation("dijet3", [500.0, 700.0, 600.0], [1.0, 2.0, 3.0], sqrt_s=SQRT_S)
