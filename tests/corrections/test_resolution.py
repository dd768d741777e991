"""Resolutions, against closed forms, SciPy's curve_fit and toys."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from trila.corrections.resolution import (
    Resolution,
    asymmetry_resolution,
    fit_resolution,
    resolution,
    three_way,
)

PT = np.array([30.0, 40, 60, 80, 100, 150, 200, 300, 500, 800, 1200, 2000])


def test_terms_dominate_where_they_should() -> None:
    assert resolution(1.0, 3.0, 0.8, 0.05) == pytest.approx(np.sqrt(9 + 0.64 + 0.0025))
    assert resolution(1e8, 3.0, 0.8, 0.05) == pytest.approx(0.05, rel=1e-4)
    assert resolution(100.0, -3.0, 0.8, 0.05) == pytest.approx(np.sqrt(-0.0009 + 0.0064 + 0.0025))
    assert np.isnan(resolution(1.0, -3.0, 0.8, 0.05))
    assert resolution(PT[:, np.newaxis], [1.0, 2.0], 0.8, 0.05).shape == (12, 2)


@pytest.mark.parametrize("terms", [(-2.07, 0.978, 0.033), (3.75, 1.15, 0.032), (0.29, 1.03, 0.039)])
def test_terms_are_recovered(terms: tuple[float, float, float]) -> None:
    measured = resolution(PT, *terms)
    fit = fit_resolution(PT, measured, 0.01 * measured)
    np.testing.assert_allclose(fit[:3], terms, rtol=1e-5)
    assert fit.chi2 == pytest.approx(0, abs=1e-9)
    assert fit.ndof == 9


def test_agrees_with_curve_fit() -> None:
    rng = np.random.default_rng(1)
    truth = (3.0, 0.8, 0.05)
    error = 0.02 * resolution(PT, *truth)
    measured = rng.normal(resolution(PT, *truth), error)
    fit = fit_resolution(PT, measured, error)
    values, covariance = optimize.curve_fit(resolution, PT, measured, truth, error, absolute_sigma=True)
    np.testing.assert_allclose(fit[:3], values, rtol=1e-4)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-2)
    assert fit.chi2 == pytest.approx(np.sum(((resolution(PT, *values) - measured) / error) ** 2), rel=1e-6)


@pytest.mark.parametrize("truth", [(3.0, 0.8, 0.05), (-2.07, 0.978, 0.033)])
def test_pulls(truth: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(2)
    expected = resolution(PT, *truth)
    error = 0.01 * expected
    fits = [fit_resolution(PT, rng.normal(expected, error), error) for _ in range(300)]
    pulls = np.array([(np.array(f[:3]) - truth) / np.sqrt(np.diagonal(f.covariance)) for f in fits])
    # 300 toys: the mean is known to 0.06, the width to 0.04.
    np.testing.assert_allclose(pulls.mean(axis=0), 0, atol=0.2)
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=0.13)
    assert np.mean([f.chi2 / f.ndof for f in fits]) == pytest.approx(1, abs=0.07)


def test_terms_that_are_not_there_are_zero() -> None:
    """Where a square would be negative, its term is 0 and the best fit is one without it."""
    measured = np.sqrt((4.0 / PT) ** 2 + 0.64 / PT - 0.015**2)
    error = 0.01 * measured
    fit = fit_resolution(PT, measured, error)
    assert fit.c == 0
    assert fit.ndof == PT.size - 2
    np.testing.assert_array_equal(fit.covariance[2], 0)
    values, _ = optimize.curve_fit(lambda p, n, s: resolution(p, n, s, 0.0), PT, measured, (4, 0.8), error)
    np.testing.assert_allclose([fit.n, fit.s], values, rtol=1e-4)


def test_points_without_a_value_are_left_out() -> None:
    measured = resolution(PT, 3.0, 0.8, 0.05)
    error = 0.01 * measured
    broken, wide = measured.copy(), error.copy()
    broken[3], wide[5] = np.nan, np.inf
    fit = fit_resolution(PT, broken, wide)
    assert isinstance(fit, Resolution)
    assert fit.ndof == 7
    np.testing.assert_allclose(fit[:3], (3.0, 0.8, 0.05), rtol=1e-5)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(
        ValueError, match="2 different transverse momenta with finite values, but three terms"
    ):
        fit_resolution([10.0, 10.0, 20.0, np.nan], [0.2, 0.2, 0.1, 0.1], [0.01] * 4)
    with pytest.raises(ValueError, match=r"have shapes \(3,\), \(2,\) and \(3,\); give one value of each"):
        fit_resolution([1.0, 2, 3], [0.1, 0.1], [0.1] * 3)
    with pytest.raises(ValueError, match="pt contains -1; every value must be above 0"):
        fit_resolution([-1.0, 2, 3], [0.1] * 3, [0.1] * 3)
    with pytest.raises(ValueError, match="error contains 0; every value"):
        fit_resolution([1.0, 2, 3], [0.1] * 3, [0.1, 0.1, 0.0])
    with pytest.raises(ValueError, match="pt contains 0; every value"):
        resolution(0.0, 1.0, 1.0, 1.0)


def test_asymmetry_of_simulated_dijets() -> None:
    """Two jets of equal resolution, with an imbalance of particle jets that grows with alpha."""
    rng = np.random.default_rng(4)
    events, truth = 400_000, 0.08
    alpha = rng.uniform(0, 0.3, events)
    imbalance = np.hypot(0.02, 0.25 * alpha) * rng.standard_normal(events)
    particle = 100 * np.stack([1 + imbalance, 1 - imbalance])
    measured = particle * rng.normal(1, truth, (2, events))
    slices = np.digitize(alpha, [0.05, 0.1, 0.15, 0.2, 0.25])
    count = np.bincount(slices)
    x = np.sqrt(np.bincount(slices, alpha**2) / count)
    widths, errors = [], []
    for pair in (measured, particle):
        a = (pair[0] - pair[1]) / (pair[0] + pair[1])
        widths.append(np.sqrt(np.bincount(slices, a**2) / count))
        errors.append(widths[-1] / np.sqrt(2 * count))
    found = asymmetry_resolution(x, widths[0], errors[0], widths[1], errors[1])
    assert found.error < 0.01 * truth
    assert abs(found.resolution - truth) < 3 * found.error
    # Without the extrapolation and the particle jets it would be far off.
    assert np.sqrt(2) * widths[0][2] > 1.15 * truth


def test_asymmetry_errors_from_toys() -> None:
    rng = np.random.default_rng(5)
    alpha = np.array([0.05, 0.1, 0.2, 0.3])
    particle = np.hypot(0.02, 0.2 * alpha)
    width = np.sqrt(0.1**2 / 2 + particle**2)
    error, particle_error = np.full(4, 0.001), np.full(4, 0.0005)
    found = asymmetry_resolution(
        alpha,
        rng.normal(width, error, (2000, 4)),
        error,
        rng.normal(particle, particle_error, (2000, 4)),
        particle_error,
    )
    pulls = (found.resolution - 0.1) / found.error
    assert np.mean(pulls) == pytest.approx(0, abs=0.1)
    assert np.std(pulls) == pytest.approx(1, abs=0.06)


def test_asymmetry_slices_without_a_value_are_left_out() -> None:
    alpha = np.array([0.05, 0.15, 0.25])
    particle, error = np.hypot(0.02, 0.2 * alpha), np.full(3, 0.001)
    width = np.tile(np.sqrt(0.1**2 / 2 + particle**2), (4, 1))
    width[1, 0] = np.nan
    width[2, :2] = np.nan
    width[3] = 0.5 * particle
    found = asymmetry_resolution(alpha, width, error, particle, error)
    np.testing.assert_allclose(found.resolution, [0.1, 0.1, np.nan, np.nan], rtol=1e-9)
    np.testing.assert_array_equal(np.isfinite(found.error), [True, True, False, False])
    assert found.error[1] > found.error[0]
    same = asymmetry_resolution(np.full(3, 0.1), width[0], error, particle, error)
    assert np.isnan(same.resolution)


def test_asymmetries_that_cannot_be_used_are_refused() -> None:
    three, two = np.ones(3), np.ones(2)
    with pytest.raises(
        ValueError, match=r"have shapes \(3,\), \(2,\), \(3,\), \(3,\), \(3,\); give one value"
    ):
        asymmetry_resolution(three, two, three, three, three)
    with pytest.raises(ValueError, match="at least two slices"):
        asymmetry_resolution([0.1], [0.1], [0.1], [0.1], [0.1])
    with pytest.raises(ValueError, match="a width or an error of an asymmetry is not above 0; give nan"):
        asymmetry_resolution([0.1, 0.2], two, [0.1, 0.0], two, two)


def test_three_way_of_simulated_measurements() -> None:
    rng = np.random.default_rng(6)
    h, o, g = (rng.normal(1, width, 200_000) for width in (0.12, 0.08, 0.05))
    assert three_way(np.var(h - g), np.var(h - o), np.var(o - g)) == pytest.approx(0.12, rel=0.01)
    assert np.isnan(three_way(0.01, 0.01, 0.03))
