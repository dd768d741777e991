"""Natural cubic splines as a basis."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from trila.corrections.splines import natural_basis, natural_slope, spread_knots


@pytest.mark.parametrize("number", [3, 4, 6])
def test_spans_the_natural_cubic_splines(number: int) -> None:
    """scipy's natural spline through any values at the knots is a combination of the basis."""
    knots = spread_knots(3.0, 7.0, number)
    values = np.random.default_rng(1).normal(size=number)
    spline = CubicSpline(knots, values, bc_type="natural")
    coefficients = np.linalg.solve(natural_basis(knots, knots), values)
    u = np.linspace(3.0, 7.0, 101)
    np.testing.assert_allclose(natural_basis(u, knots) @ coefficients, spline(u), atol=1e-11)
    np.testing.assert_allclose(natural_slope(u, knots) @ coefficients, spline(u, 1), atol=1e-10)


def test_is_straight_outside_of_the_knots() -> None:
    knots = spread_knots(3.0, 7.0, 5)
    coefficients = np.random.default_rng(2).normal(size=5)
    for first, last in ((1.0, 3.0), (7.0, 9.0)):
        curve = natural_basis(np.linspace(first, last, 5), knots) @ coefficients
        np.testing.assert_allclose(np.diff(curve, 2), 0.0, atol=1e-11)


def test_one_knot_is_a_constant_and_two_are_a_line() -> None:
    u = np.array([1.0, 2.0, 4.0])
    np.testing.assert_array_equal(natural_basis(u, [2.0]), np.ones((3, 1)))
    np.testing.assert_array_equal(natural_slope(u, [2.0]), np.zeros((3, 1)))
    np.testing.assert_allclose(natural_basis(u, [1.0, 3.0]), [[1, 0], [1, 0.5], [1, 1.5]])
    np.testing.assert_allclose(natural_slope(u, [1.0, 3.0]), [[0, 0.5]] * 3)


def test_knots_must_ascend() -> None:
    with pytest.raises(ValueError, match=r"knots are \[2.0, 1.0\]; expected one or more ascending numbers"):
        natural_basis([1.0], [2.0, 1.0])
