"""Toys and their fits, against the distributions they are drawn of and fits of each toy alone."""

import numpy as np
import pytest
from scipy import stats

from trila.fits.background import BackgroundFit, fit_background, whole
from trila.fits.errors import FitError
from trila.fits.functions import Domain, expectation, resolve
from trila.fits.likelihood import Model, Observation, Structure, Tensors
from trila.fits.spectrum import Spectrum, checked, masked
from trila.fits.toys import (
    ToyFits,
    background_toys,
    deviance_p_value,
    model_toys,
    p_value,
    refit,
)

EDGES = np.geomspace(500, 3000, 21)
SQRT_S = 13000.0


def falling(events: float, seed: int = 1) -> Spectrum:
    """Counts of a dijet spectrum."""
    expected = expectation("dijet3", EDGES, [1.0, 9.0, 5.5], domain=Domain(500, 3000, SQRT_S))
    rng = np.random.default_rng(seed)
    return checked(EDGES, rng.poisson(expected * events / expected.sum()), name="s")


def fitted(spectrum: Spectrum) -> BackgroundFit:
    return fit_background(resolve("dijet3"), whole(spectrum, SQRT_S))


@pytest.fixture(scope="module")
def fit() -> BackgroundFit:
    return fitted(falling(1e5))


def constrained() -> Model:
    """Parameters of interest, with a normal and a Poisson constraint, and with one but fixed; an expectation of 5 per unit."""
    none = np.zeros((0, 1, 1))
    index = np.zeros(0, dtype=np.int64)
    return Model(
        Structure("code4", "code4p", ()),
        Tensors(
            np.array([[5.0]]), np.array([[[0]]]), index, none, none, index, none, none, np.array([0.0, 4.0, 0.0, 1.0]),
            np.array([0.0, 0.0, 100.0, 0.0]), np.ones(1), (),
        ),
        ("mu", "normal", "counted", "fixed"), 0, np.ones(4), np.zeros(4), np.full(4, 10.0), np.arange(4) == 3,
        Observation(np.array([5.0]), np.array([0.0, 1.0, 100.0, 0.3])),
    )  # fmt: skip


@pytest.mark.parametrize("mean", [0.02, 0.7, 4.0, 35.0, 900.0])
def test_counts_are_poisson(fit: BackgroundFit, mean: float) -> None:
    counts = background_toys(fit._replace(prediction=np.full((1, 20), mean)), 2000, 4).ravel()
    values = np.arange(stats.poisson.ppf(1e-3, mean), stats.poisson.ppf(1 - 1e-3, mean) + 1)
    probability = stats.poisson.pmf(values, mean)
    seen = np.array([np.sum(counts == value) for value in values])
    chi_square = np.sum((seen - counts.size * probability) ** 2 / (counts.size * probability))
    assert stats.chi2.sf(chi_square, values.size) > 1e-3
    assert np.all(counts == np.round(counts))


@pytest.mark.parametrize("mean", [1e6, 1e9, 1e12])
def test_large_counts(fit: BackgroundFit, mean: float) -> None:
    counts = background_toys(fit._replace(prediction=np.full((1, 20), mean)), 1000, 4).ravel()
    pulls = (counts - mean) / np.sqrt(mean)
    assert stats.kstest(pulls, "norm").pvalue > 1e-3


def test_more_toys_begin_with_the_same_ones(fit: BackgroundFit) -> None:
    few, many = background_toys(fit, 7, 3), background_toys(fit, 2500, 3)
    np.testing.assert_array_equal(few, many[:7])
    assert np.any(few != background_toys(fit, 7, 4))
    assert np.any(background_toys(fit, 7, (3, 0)) != background_toys(fit, 7, (3, 1)))


def test_equal_seeds_give_common_random_numbers(fit: BackgroundFit) -> None:
    """More expected events, and no bin of any toy has fewer; a little more, and nearly all have as many."""
    now = background_toys(fit, 200, 3)
    more = background_toys(fit._replace(prediction=fit.prediction * 1.0001), 200, 3)
    assert np.all(more >= now)
    assert np.mean(more == now) > 0.5


def test_weighted_toys_have_the_spread_of_the_weights() -> None:
    plain = falling(1e5)
    spectrum = checked(EDGES, plain.counts * 2.5, plain.counts * 2.5**2, name="w")
    found = fitted(spectrum)
    counts = background_toys(found, 4000, 1)
    np.testing.assert_allclose(counts / 2.5, np.round(counts / 2.5), atol=1e-6)
    np.testing.assert_allclose(counts.var(axis=0), 2.5 * found.prediction[0], rtol=0.12)
    toys = refit(found, counts[:500])
    assert toys.deviance.mean() == pytest.approx(17, abs=4 * np.sqrt(34 / 500))


def test_bins_not_used_hold_nothing() -> None:
    counts = background_toys(fitted(masked(falling(1e5), [(1000, 1200)])), 10, 1)
    hidden = (EDGES[1:] > 1000) & (EDGES[:-1] < 1200)
    assert np.all(counts[:, hidden] == 0)
    assert np.all(counts[:, ~hidden].sum(axis=0) > 0)


def test_refits_are_fits_of_each_toy(fit: BackgroundFit) -> None:
    counts = background_toys(fit, 3, 5)
    toys = refit(fit, counts)
    assert toys.good.all()
    # fits of spectra end within 3e-5 standard deviations, some percent here
    for i, row in enumerate(counts):
        alone = fitted(checked(EDGES, row, name="toy"))
        np.testing.assert_allclose(toys.prediction[i], alone.prediction[0], rtol=1e-5)
        assert toys.deviance[i] == pytest.approx(alone.deviance[0], abs=1e-5)


def test_each_toy_may_hide_bins_of_its_own(fit: BackgroundFit) -> None:
    counts = np.repeat(background_toys(fit, 1, 5), 2, axis=0)
    hidden = np.zeros(counts.shape, dtype=bool)
    hidden[1, 6:9] = True
    toys = refit(fit, counts, hidden=hidden)
    spectrum = checked(EDGES, counts[0], name="toy")
    for i, one in enumerate([spectrum, masked(spectrum, [(EDGES[6], EDGES[9])])]):
        np.testing.assert_allclose(toys.prediction[i], fitted(one).prediction[0], rtol=1e-5)


def test_deviances_at_high_counts_follow_chi_square(fit: BackgroundFit) -> None:
    toys = refit(fit, background_toys(fit, 2000, 2))
    assert toys.good.all()
    assert stats.kstest(toys.deviance, stats.chi2(17).cdf).pvalue > 1e-3
    found = deviance_p_value(fit, toys)
    assert found.value == pytest.approx(float(fit.p_value[0]), abs=0.03)
    assert found.failed == 0


def test_a_toy_that_cannot_be_fitted_is_counted_as_beyond_the_data(fit: BackgroundFit) -> None:
    counts = background_toys(fit, 20, 2)
    counts[3, 4] = np.nan
    toys = refit(fit, counts)
    assert np.flatnonzero(~toys.good).tolist() == [3]
    found = deviance_p_value(fit, toys)
    assert found.failed == 1
    assert found.exceeding == 1 + np.sum(np.delete(toys.deviance, 3) >= fit.deviance[0])


@pytest.mark.parametrize("beyond", [0, 1, 17, 50])
def test_p_value_and_interval(beyond: int) -> None:
    found = p_value(0.5, np.where(np.arange(50) < beyond, 1.0, 0.0), np.ones(50, dtype=bool))
    assert found.value == pytest.approx((beyond + 1) / 51)
    exact = stats.binomtest(beyond, 50).proportion_ci(2 * stats.norm.cdf(1) - 1, method="exact")
    low, high = exact.low, exact.high
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_auxiliary_measurements_follow_their_constraints() -> None:
    values = np.array([2.0, 1.5, 1.2, 0.9])
    toys = model_toys(constrained(), values, 20_000, 6)
    assert toys.counts.mean() == pytest.approx(10.0, abs=4 * np.sqrt(10 / 20_000))
    assert stats.kstest(toys.auxiliary[:, 1], stats.norm(1.5, 0.5).cdf).pvalue > 1e-3
    assert toys.auxiliary[:, 2].mean() == pytest.approx(120, abs=4 * np.sqrt(120 / 20_000))
    assert toys.auxiliary[:, 2].var() == pytest.approx(120, rel=0.05)
    np.testing.assert_array_equal(toys.auxiliary[:, [0, 3]], np.tile([0.0, 0.3], (20_000, 1)))
    correlation = np.corrcoef(np.column_stack([toys.counts, toys.auxiliary[:, 1:3]]).T)
    np.testing.assert_allclose(correlation, np.eye(3), atol=0.03)


def test_messages(fit: BackgroundFit) -> None:
    with pytest.raises(FitError, match="0 toys, expected at least 1; give a number such as 1000"):
        background_toys(fit, 0, 1)
    with pytest.raises(FitError, match="0 toys, expected at least 1"):
        model_toys(constrained(), np.ones(4), 0, 1)
    with pytest.raises(FitError, match="a fit of 2 windows, expected one of a whole spectrum"):
        background_toys(fit._replace(windows=fit.windows._replace(edges=np.stack([EDGES, EDGES]))), 10, 1)
    bad = fit._replace(good=np.array([False]))
    for call in (
        lambda: background_toys(bad, 10, 1),
        lambda: refit(bad, fit.windows.counts),
        lambda: deviance_p_value(bad, ToyFits(fit.prediction, fit.deviance, fit.good)),
    ):
        with pytest.raises(
            FitError, match="fit of dijet3 did not converge, expected a minimum to draw toys at; choose"
        ):
            call()
    with pytest.raises(
        FitError, match="statistic of the data is no number, expected a fit that converged; mend"
    ):
        p_value(float("nan"), np.zeros(3), np.ones(3, dtype=bool))
