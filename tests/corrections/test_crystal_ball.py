"""Crystal Ball fits, against toys, a general minimiser, and cases that have no answer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from trila.corrections.crystal_ball import MINIMUM_ENTRIES, crystal_ball
from trila.corrections.crystal_ball_shape import PARAMETERS, crystal_ball_cdf

EDGES = np.linspace(0.0, 3.0, 601)
TRUTH = np.array([1.0, 0.1, 1.5, 3.0, 2.0, 5.0])


def bins(truth: np.ndarray | list[float], edges: np.ndarray = EDGES) -> np.ndarray:
    share = np.diff(crystal_ball_cdf(edges, truth))
    return share / share.sum()


@pytest.mark.parametrize(
    "truth",
    [
        [1.0, 0.1, 1.5, 3.0, 2.0, 5.0],
        [1.0, 0.1, 1.0, 2.5, 1.8, 4.0],
        [0.9, 0.2, 0.8, 2.0, 1.2, 20.0],
        [1.0, 0.05, 2.5, 2.0, 1.0, 1.5],
        [1.0, 0.15, 0.6, 5.0, 2.5, 10.0],
    ],
)
def test_parameters_are_recovered_without_fluctuations(truth: list[float]) -> None:
    values = 1e6 * bins(truth)
    fit = crystal_ball(values, values, EDGES)
    assert fit.converged
    # A likelihood within 1e-4 of its maximum is within 0.015 errors of it.
    assert np.all(np.abs(fit.parameters - truth) < 0.015 * fit.errors)
    assert fit.mean == fit.parameters[0]
    assert fit.width == fit.parameters[1]


def test_pulls() -> None:
    toys = np.random.default_rng(11).poisson(20_000 * bins(TRUTH), (20, 20, 600)).astype(float)
    fit = crystal_ball(toys, toys, EDGES)
    assert fit.parameters.shape == fit.errors.shape == (20, 20, 6)
    assert fit.converged.all()
    pulls = ((fit.parameters - TRUTH) / fit.errors).reshape(-1, 6)
    # 400 toys: the mean is known to 0.05, the width to 0.035.
    np.testing.assert_allclose(pulls.mean(axis=0), 0, atol=0.2)
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=0.12)
    assert np.mean(fit.deviance_per_ndof) == pytest.approx(1, abs=0.03)


def test_agrees_with_a_general_minimiser() -> None:
    toys = np.random.default_rng(12).poisson(5000 * bins(TRUTH), (3, 600)).astype(float)
    fit = crystal_ball(toys, toys, EDGES)
    for counts, parameters in zip(toys, fit.parameters, strict=True):

        def loss(p: np.ndarray, counts: np.ndarray = counts) -> float:
            share = np.diff(crystal_ball_cdf(EDGES, p))
            filled = counts > 0
            return -float(np.sum(counts[filled] * np.log(share[filled] / share.sum())))

        limits = [(0.9, 1.1), (0.05, 0.2), (0.3, 5), (1.05, 100), (0.3, 5), (1.05, 100)]
        best = min(
            optimize.minimize(loss, start, method="L-BFGS-B", bounds=limits, options={"ftol": 1e-13}).fun
            for start in (TRUTH, parameters)
        )
        assert loss(parameters) < best + 1e-3


def test_leading_axes_are_independent() -> None:
    rng = np.random.default_rng(13)
    values = rng.poisson(3000 * bins(TRUTH), (70, 600)).astype(float)
    values[10] = 0
    together = crystal_ball(values, values, EDGES)
    for row in (0, 10, 66):
        alone = crystal_ball(values[row], values[row], EDGES)
        for many, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(many[row], one, rtol=1e-6)


def test_scale_of_weights_does_not_matter() -> None:
    values = np.random.default_rng(14).poisson(5000 * bins(TRUTH)).astype(float)
    plain, scaled = crystal_ball(values, values, EDGES), crystal_ball(0.01 * values, 1e-4 * values, EDGES)
    for one, other in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6)


def test_errors_follow_the_weights() -> None:
    """Each entry counts with weight 1 or 5: the number of each fluctuates by itself."""
    rng = np.random.default_rng(15)
    few, many = (rng.poisson(n * bins(TRUTH), (300, 600)) for n in (4000, 40_000))
    fit = crystal_ball(many + 5.0 * few, many + 25.0 * few, EDGES)
    pulls = (fit.parameters - TRUTH) / fit.errors
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=0.15)
    assert np.mean(fit.deviance_per_ndof) == pytest.approx(1, abs=0.05)


def test_a_gaussian_has_no_tails() -> None:
    """Tails that are not there end at bounds or without information; core and convergence do not suffer."""
    share = np.diff(stats.norm(1, 0.1).cdf(EDGES))
    toys = np.random.default_rng(16).poisson(10_000 * share, (100, 600)).astype(float)
    fit = crystal_ball(toys, toys, EDGES)
    assert fit.converged.all()
    pulls = (fit.parameters[:, :2] - [1, 0.1]) / fit.errors[:, :2]
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=0.3)
    assert np.isnan(fit.errors[:, 2:]).any()
    assert np.median(fit.parameters[:, [2, 4]]) > 2.5


def test_wrong_function_has_a_large_deviance() -> None:
    share = bins(TRUTH) + 0.3 * bins([1.4, 0.05, 2.0, 5.0, 2.0, 5.0])
    values = 1e4 * share
    assert crystal_ball(values, values, EDGES).deviance_per_ndof > 3


def test_empty_and_sparse_histograms_have_no_answer() -> None:
    values = np.stack([np.zeros(600), 0.98 * MINIMUM_ENTRIES * bins(TRUTH)])
    fit = crystal_ball(values, values, EDGES)
    assert np.isnan(fit.parameters).all()
    assert np.isnan(fit.errors).all()
    assert np.isnan(fit.deviance_per_ndof).all()
    assert not fit.converged.any()
    assert fit.parameters.shape == (2, len(PARAMETERS))


def test_no_histograms_at_all() -> None:
    fit = crystal_ball(np.empty((0, 600)), np.empty((0, 600)), EDGES)
    assert fit.parameters.shape == (0, 6)
    assert fit.converged.shape == (0,)


def test_a_distribution_without_a_peak_is_flagged() -> None:
    """A valley: both branches want the peak at an end, where no fit of a core may go."""
    edges = np.linspace(-1.0, 1.0, 201)
    valley = 1e4 * np.linspace(-1, 1, 200) ** 2
    fit = crystal_ball(valley, valley, edges)
    assert not (fit.converged and fit.deviance_per_ndof < 10)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"variances have shape \(5,\) and values \(10,\)"):
        crystal_ball(np.ones(10), np.ones(5), np.arange(11))
