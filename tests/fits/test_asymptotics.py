"""Asymptotic p-values, against published numbers, closed forms and the distributions of the paper drawn by hand."""

import numpy as np
import pytest
from scipy import stats

from trila.fits import asymptotics


def test_bands_of_an_expected_limit() -> None:
    """For μ̂ Gaussian with width 1, band N of the 95 % limit in CLs."""
    expected = [1.05176, 1.41199, 1.95996, 2.72718, 3.65598]
    np.testing.assert_allclose(asymptotics.band_targets(0.95), expected, atol=1e-5)


@pytest.mark.parametrize("level", [0.68, 0.9, 0.95, 0.99])
def test_bands_solve_their_equation(level: float) -> None:
    """At μ/σ of band N, a data set at N standard deviations has CLs = 1 - level."""
    found = [asymptotics.expected_cls(x**2)[n] for n, x in enumerate(asymptotics.band_targets(level))]
    np.testing.assert_allclose(found, 1 - level, rtol=1e-10)


@pytest.mark.parametrize(("mu", "sigma"), [(1.0, 1.0), (2.0, 0.8), (0.5, 1.3)])
def test_p_values_of_gaussian_estimates(mu: float, sigma: float) -> None:
    """Estimates μ̂ of known width, their q̃_μ by its definition, and the shares of estimates beyond the observed one."""

    def statistic(estimate: np.ndarray) -> np.ndarray:
        below_zero = mu * (mu - 2 * estimate) / sigma**2
        return np.where(
            estimate > mu, 0.0, np.where(estimate < 0, below_zero, ((mu - estimate) / sigma) ** 2)
        )

    observed = np.array([-2.0, -0.5, 0.0, 0.1, 0.4])
    found = asymptotics.observed_cls(statistic(observed), np.full(observed.size, (mu / sigma) ** 2))
    # q̃ falls with the estimate: the tail is that of smaller estimates
    np.testing.assert_allclose(found.clsb, stats.norm.cdf(observed, mu, sigma), rtol=1e-12)
    np.testing.assert_allclose(found.clb, stats.norm.cdf(observed, 0.0, sigma), rtol=1e-12)
    np.testing.assert_allclose(found.cls, found.clsb / found.clb, rtol=1e-12)


def test_observed_at_a_band_is_the_band() -> None:
    """Data at N standard deviations above the background give the CLs of band N."""
    width, n = 3.0, asymptotics.BANDS
    statistic = np.where(n < 0, width * (width - 2 * n), (width - n) ** 2)
    found = asymptotics.observed_cls(statistic, np.full(5, width**2)).cls
    np.testing.assert_allclose(found, asymptotics.expected_cls(width**2), rtol=1e-12)


def test_far_tails_keep_their_digits() -> None:
    """The ratio of two probabilities that are both smaller than the smallest number."""
    found = asymptotics.observed_cls(45.0**2, 40.0**2)
    assert found.clsb == 0.0
    expected = np.exp(stats.norm.logsf((45**2 - 40**2) / 80 + 40) - stats.norm.logsf((45**2 - 40**2) / 80))
    assert found.cls == pytest.approx(expected, rel=1e-12)


def test_nothing_is_excluded_without_sensitivity() -> None:
    found = asymptotics.observed_cls(0.0, 0.0)
    assert (found.cls, found.clsb, found.clb) == (1.0, 0.5, 0.5)
    assert np.isnan(asymptotics.observed_cls(np.nan, 1.0).cls)


def test_significances() -> None:
    assert asymptotics.p0(25.0) == pytest.approx(2.866516e-7, rel=1e-6)
    assert asymptotics.z_value(2.866515719235352e-07) == pytest.approx(5.0, rel=1e-9)
    np.testing.assert_allclose(asymptotics.p0([-1.0, 0.0]), 0.5)
