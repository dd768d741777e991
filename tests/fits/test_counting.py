"""Limits and significances of counts, against sums, root finding, toys and published numbers."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from trila.fits.asymptotics import band_targets
from trila.fits.counting import asimov_significance, cls_limit, z_bi
from trila.fits.errors import FitError


def slow_limit(n: int, b: float, level: float = 0.95) -> float:
    """CLs from sums of Poisson probabilities, term by term."""

    def poisson(mean: float) -> float:
        return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(n + 1))

    def excess(s: float) -> float:
        return poisson(s + b) / poisson(b) - (1 - level)

    return float(optimize.brentq(excess, 1e-9, 50 + 10 * n, xtol=1e-12, rtol=1e-14))


@pytest.mark.parametrize(
    ("n", "b", "limit"),
    [
        (0, 0.0, 2.99573),
        (0, 7.5, 2.99573),
        (1, 0.0, 4.74386),
        (2, 0.0, 6.29579),
        (3, 0.0, 7.75366),
        (3, 3.0, 5.39545),
        (5, 3.2, 7.50347),
        (10, 10.0, 8.08253),
    ],
)
def test_exact_limits(n: int, b: float, limit: float) -> None:
    assert cls_limit(n, b) == pytest.approx(limit, rel=1e-4)
    assert cls_limit(n, b) == pytest.approx(slow_limit(n, max(b, 1e-12)), rel=1e-8)


@pytest.mark.parametrize(
    ("n", "b", "level"), [(3, 3.0, 0.9), (0, 2.0, 0.9), (40, 20.0, 0.95), (20, 40.0, 0.99)]
)
def test_other_levels(n: int, b: float, level: float) -> None:
    assert cls_limit(n, b, level=level) == pytest.approx(slow_limit(n, b, level), rel=1e-8)


def test_limit_is_that_of_toys() -> None:
    rng = np.random.default_rng(4)
    s = cls_limit(5, 3.2)
    tails = [np.mean(rng.poisson(mean, 400_000) <= 5) for mean in (s + 3.2, 3.2)]
    assert tails[0] / tails[1] == pytest.approx(0.05, abs=4 * np.sqrt(0.05 / 400_000))


def test_large_counts_reach_the_gaussian_limit() -> None:
    b = 1e8
    for n, expected in zip(np.round(b + np.array([-2, -1, 0, 1, 2]) * 1e4), band_targets(0.95), strict=True):
        assert cls_limit(n, b) == pytest.approx(expected * 1e4, rel=2e-3)
    np.testing.assert_allclose(band_targets(0.95), [1.05176, 1.41199, 1.95996, 2.72718, 3.65598], rtol=1e-5)


def test_limit_of_arrays() -> None:
    found = cls_limit(np.arange(4)[:, np.newaxis], [0.5, 3.0])
    expected = [[slow_limit(n, b) for b in (0.5, 3.0)] for n in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_limit_messages() -> None:
    with pytest.raises(FitError, match=r"observed events contain 2.5, expected whole numbers; give counts"):
        cls_limit([1, 2.5], 1.0)
    with pytest.raises(FitError, match=r"observed events contains -1, .* at least 0; give counts"):
        cls_limit(-1, 1.0)
    with pytest.raises(FitError, match=r"background contains nan, .* give expected events"):
        cls_limit(1, np.nan)
    with pytest.raises(FitError, match=r"the confidence level is 95, expected .* between 0 and 1; give 0.95"):
        cls_limit(1, 1.0, level=95)
    with pytest.raises(
        FitError, match=r"0 events where 1000 are expected without signal: .* check the background"
    ):
        cls_limit([5, 0], [5.0, 1000.0])


@pytest.mark.parametrize(("s", "b", "z"), [(10, 100, 0.983992), (5, 1, 3.391329), (50, 100, 4.651831)])
def test_significance_with_a_known_background(s: float, b: float, z: float) -> None:
    assert asimov_significance(s, b) == pytest.approx(z, rel=1e-6)
    assert asimov_significance(s, b) == pytest.approx(
        np.sqrt(2 * ((s + b) * np.log(1 + s / b) - s)), rel=1e-12
    )


def profiled(s: float, b: float, sigma: float) -> float:
    """Square root of the deviance, with the background found by a minimiser."""
    tau = b / sigma**2

    def nll(mean: float, background: float) -> float:
        return float(mean - (s + b) * np.log(mean) + tau * background - tau * b * np.log(tau * background))

    fit = optimize.minimize_scalar(
        lambda x: nll(x, x), bounds=(b / 2, 2 * (s + b)), method="bounded", options={"xatol": 1e-9}
    )
    return float(np.sqrt(2 * (fit.fun - nll(s + b, b))))


@pytest.mark.parametrize(("s", "b", "sigma"), [(10, 100, 5), (5, 1, 0.5), (50, 100, 30), (200, 3, 2)])
def test_significance_with_an_uncertain_background(s: float, b: float, sigma: float) -> None:
    assert asimov_significance(s, b, sigma) == pytest.approx(profiled(s, b, sigma), rel=1e-6)
    # As in G. Cowan's note on counting experiments with a background uncertainty (2012).
    v = sigma**2
    cowan = (s + b) * np.log((s + b) * (b + v) / (b**2 + (s + b) * v))
    cowan -= b**2 / v * np.log(1 + v * s / (b * (b + v)))
    assert asimov_significance(s, b, sigma) == pytest.approx(np.sqrt(2 * cowan), rel=1e-10)


def test_significance_of_row_and_limits() -> None:
    assert asimov_significance(10, 100, 5) == pytest.approx(0.877246, rel=1e-6)
    # Small signals, in which the textbook form loses all digits.
    for s in (1e-9, 1.0, 1e3):
        assert asimov_significance(s, 1e10, 1e4) == pytest.approx(s / np.sqrt(1e10 + 1e8), rel=1e-6)
    np.testing.assert_allclose(asimov_significance(0.0, 5.0, [0.0, 1.0]), 0.0)
    # Continuous where the series takes over.
    around = asimov_significance(np.array([0.0999999, 0.1000001]), 100.0)
    assert around[1] / around[0] == pytest.approx(1.0000020, rel=1e-9)
    # A vanishing error is none.
    assert asimov_significance(20, 30, 1e-7) == pytest.approx(asimov_significance(20, 30), rel=1e-12)


def test_significance_messages() -> None:
    with pytest.raises(FitError, match=r"background contains 0, .* merge bins until some is expected"):
        asimov_significance(1.0, [1.0, 0.0])
    with pytest.raises(FitError, match=r"signal contains -1, .* give expected events"):
        asimov_significance(-1.0, 1.0)
    with pytest.raises(FitError, match=r"background error contains -1, .* give a standard deviation"):
        asimov_significance(1.0, 1.0, -1.0)


# Cousins, Linnemann, Tucker, physics/0702156, table 1.
PUBLISHED = [
    (4, 5, 5, 1.664),
    (17, 40.11, 10.56, 4.458),
    (50, 55, 2, 2.933),
    (200, 10, 0.1, 2.201),
    (523, 2327, 5.99, 5.933),
]


@pytest.mark.parametrize(("on", "off", "tau", "z"), PUBLISHED)
def test_published_z_bi(on: int, off: float, tau: float, z: float) -> None:
    assert z_bi(on, off, tau) == pytest.approx(z, abs=1e-3)


@pytest.mark.parametrize(("on", "off", "tau"), [(4, 5, 5.0), (50, 55, 2.0), (0, 3, 1.0), (200, 10, 0.1)])
def test_z_bi_is_a_binomial_test(on: int, off: int, tau: float) -> None:
    p = stats.binomtest(on, on + off, 1 / (1 + tau), alternative="greater").pvalue
    assert z_bi(on, off, tau) == pytest.approx(stats.norm.isf(p), rel=1e-9)


def test_z_bi_at_the_ends() -> None:
    assert z_bi(0, 0, 1.0) == -np.inf
    assert z_bi(2000, 0, 10.0) == np.inf
    # With a large control region the background is known, and the p-value is Poisson's.
    assert z_bi(12, 5e8, 1e8) == pytest.approx(stats.norm.isf(stats.poisson.sf(11, 5.0)), rel=1e-5)
    assert z_bi([[4], [8]], 5, [5.0, 6.0, 7.0]).shape == (2, 3)


def test_z_bi_messages() -> None:
    with pytest.raises(FitError, match=r"events in the signal region contains -1"):
        z_bi(-1, 1, 1.0)
    with pytest.raises(FitError, match=r"events in the control region contains nan"):
        z_bi(1, np.nan, 1.0)
    with pytest.raises(FitError, match=r"tau contains 0, .* background in the control region over"):
        z_bi(1, 1, 0.0)
