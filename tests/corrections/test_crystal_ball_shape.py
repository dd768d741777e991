"""The double-sided Crystal Ball, against SciPy's one-sided one, quadrature and finite differences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from trila.corrections.crystal_ball_shape import bin_probabilities, crystal_ball_cdf, crystal_ball_density

SHAPES = [[1.0, 0.1, 1.5, 3.0, 2.0, 5.0], [0.9, 0.2, 0.5, 1.5, 3.0, 40.0]]


def test_one_tail_is_scipys() -> None:
    """A high tail that starts at 30 widths is none."""
    x = np.linspace(-3.0, 3.0, 301)
    one = stats.crystalball(beta=1.4, m=3.5, loc=0.5, scale=0.2)
    low = [0.5, 0.2, 1.4, 3.5, 30.0, 2.0]
    np.testing.assert_allclose(crystal_ball_density(x, low), one.pdf(x), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(crystal_ball_cdf(x, low), one.cdf(x), rtol=1e-12)
    mirrored = [-0.5, 0.2, 30.0, 2.0, 1.4, 3.5]
    np.testing.assert_allclose(crystal_ball_density(-x, mirrored), one.pdf(x), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("x", [-2.0, 0.5, 0.9, 1.0, 1.15, 1.4, 4.0])
def test_cdf_is_the_integral_of_the_density(shape: list[float], x: float) -> None:
    mean, width, alpha_low, _, alpha_high, _ = shape
    points = [mean - 10, mean - alpha_low * width, mean, mean + alpha_high * width]
    ends = [p for p in points if p < x] + [x]
    total = integrate.quad(crystal_ball_density, -np.inf, ends[0], args=(shape,), epsabs=1e-13)[0]
    for low, high in pairwise(ends):
        total += integrate.quad(crystal_ball_density, low, high, args=(shape,), epsabs=1e-13, limit=200)[0]
    assert crystal_ball_cdf(x, shape) == pytest.approx(total, abs=1e-10)


def test_parameters_broadcast() -> None:
    x = np.linspace(0.5, 1.5, 7)
    shapes = np.array(SHAPES)
    for function in (crystal_ball_density, crystal_ball_cdf):
        both = function(x, shapes[:, np.newaxis])
        assert both.shape == (2, 7)
        np.testing.assert_array_equal(both[1], function(x, shapes[1]))


@pytest.mark.parametrize("edges", [np.linspace(0.0, 3.0, 61), np.array([-4.0, 0.8, 1.3, 1.35, 6.0])])
def test_probabilities_of_bins_and_their_derivatives(edges: np.ndarray) -> None:
    shapes = np.array(SHAPES)
    probability, slopes = bin_probabilities(edges, shapes)
    share = np.diff(crystal_ball_cdf(edges, shapes[:, np.newaxis]), axis=1)
    np.testing.assert_allclose(probability, share / share.sum(axis=1, keepdims=True), rtol=1e-9, atol=1e-15)
    step = 1e-5
    for number in range(6):
        up, down = shapes.copy(), shapes.copy()
        for moved, sign in ((up, 1), (down, -1)):
            if number == 0:
                moved[:, 0] += sign * step * shapes[:, 1]
            else:
                moved[:, number] *= np.exp(sign * step)
        expected = (np.log(bin_probabilities(edges, up)[0]) - np.log(bin_probabilities(edges, down)[0])) / (
            2 * step
        )
        np.testing.assert_allclose(slopes[:, number], expected, atol=2e-6)


def test_far_tails_are_not_rounded_away() -> None:
    """Probabilities down to 1e-30 on both sides, from the power law itself."""
    edges = np.array([-40.0, -39.0, 0.0, 39.0, 40.0])
    probability, _ = bin_probabilities(edges, np.array([[0.0, 1.0, 4.0, 30.0, 4.0, 30.0]]))
    first = integrate.quad(crystal_ball_density, 39, 40, args=([0.0, 1.0, 4.0, 30.0, 4.0, 30.0],), epsabs=0)[
        0
    ]
    assert first < 1e-25
    np.testing.assert_allclose(probability[0, [0, 3]], first, rtol=1e-8)


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"parameters have shape \(5,\); the last axis must hold 6: mean, width"
    ):
        crystal_ball_density(1.0, np.ones(5))
    with pytest.raises(ValueError, match=r"width is 0\.0; it must be above 0"):
        crystal_ball_cdf(1.0, [1.0, 0.0, 1.0, 2.0, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"n_high is 1\.0; it must be above 1"):
        crystal_ball_cdf(1.0, [[1.0, 0.1, 1.0, 2.0, 1.0, 1.0]])
