"""Numerical inversion of a response."""

import numpy as np
import pytest

from trila.corrections.inversion import invert, is_monotone
from trila.corrections.response_curve import Curve
from trila.corrections.splines import spread_knots


def _log_response(log_pt: np.ndarray) -> np.ndarray:
    return np.log(0.93 + 0.06 * (1 - np.exp(-np.exp(log_pt) / 80)))


def _slope(log_pt: np.ndarray) -> np.ndarray:
    pt = np.exp(log_pt)
    return 0.06 * pt / 80 * np.exp(-pt / 80) / np.exp(_log_response(log_pt))


def test_inversion_closes() -> None:
    """P R(P) is the measured pT again, to better than 1e-7."""
    bounds = (np.log(10.0), np.log(3000.0))
    log_measured = np.linspace(np.log(12.0), np.log(2900.0), 5001)
    log_pt = invert(log_measured, _log_response, _slope, bounds)
    np.testing.assert_allclose(np.exp(log_pt + _log_response(log_pt) - log_measured), 1.0, atol=1e-11)


def test_a_constant_response_is_divided_out() -> None:
    found = invert(np.log([20.0, 50.0]), lambda u: np.full_like(u, np.log(0.8)), np.zeros_like, (0.0, 9.0))
    np.testing.assert_allclose(np.exp(found), [25.0, 62.5], rtol=1e-12)


def test_differs_from_one_over_the_response_at_the_measured_pt() -> None:
    """With R = (P/100)^-0.1 the factor is (x/100)^(1/9), not (x/100)^0.1."""
    log_measured = np.log(np.array([30.0, 300.0]))
    log_pt = invert(
        log_measured, lambda u: -0.1 * (u - np.log(100)), lambda u: np.full_like(u, -0.1), (0.0, 9.0)
    )
    np.testing.assert_allclose(np.exp(log_pt - log_measured), [0.3 ** (1 / 9), 3 ** (1 / 9)], rtol=1e-12)


def test_a_measured_pt_that_falls_is_refused() -> None:
    assert not is_monotone([0.0, -1.2])
    with pytest.raises(ValueError, match="does not rise with the reference pT; fewer knots"):
        invert(np.array([3.0]), lambda u: -1.5 * u, lambda u: np.full_like(u, -1.5), (0.0, 9.0))


def test_a_curve_is_constant_outside_of_its_ends() -> None:
    knots = spread_knots(np.log(30.0), np.log(300.0), 2)
    curve = Curve(knots, np.array([-0.1, 0.08]), np.log(20.0), np.log(500.0))
    ends = np.array([curve.low, curve.high]) + curve.log_response(np.array([curve.low, curve.high]))
    factor = curve.reference(ends) - ends
    beyond = ends + np.array([-2.0, 3.0])
    np.testing.assert_allclose(curve.reference(beyond) - beyond, factor, atol=1e-12)
    inside = np.linspace(*ends, 1001)
    log_pt = curve.reference(inside)
    np.testing.assert_allclose(log_pt + curve.log_response(log_pt), inside, atol=1e-11)
