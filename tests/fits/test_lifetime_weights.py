"""Weights of decay times, against samples of the wanted lifetime and closed forms."""

import numpy as np
import pytest
from scipy import stats

from trila.fits.errors import FitError
from trila.fits.lifetime_weights import effective_events, lifetime_weights

RNG = np.random.default_rng(3)
TIMES = RNG.exponential(10.0, 200_000)


@pytest.mark.parametrize("wanted", [1.0, 4.0, 10.0, 13.0])
def test_weighted_times_are_those_of_the_wanted_lifetime(wanted: float) -> None:
    weights = lifetime_weights(TIMES, 10.0, wanted)
    error = 1 / np.sqrt(effective_events(weights))
    assert weights.mean() == pytest.approx(1, abs=4 * error)
    assert np.average(TIMES, weights=weights) == pytest.approx(wanted, rel=6 * error)
    # The fraction that decays in a window, as an efficiency would be.
    found = weights[(TIMES > 0.5) & (TIMES < 3.0)].sum() / TIMES.size
    expected = stats.expon.cdf(3.0, scale=wanted) - stats.expon.cdf(0.5, scale=wanted)
    assert found == pytest.approx(expected, abs=4 * error)


def test_weights_are_the_ratio_of_the_densities() -> None:
    weights = lifetime_weights(TIMES, 10.0, 4.0)
    ratio = stats.expon.pdf(TIMES, scale=4.0) / stats.expon.pdf(TIMES, scale=10.0)
    np.testing.assert_allclose(weights, ratio, rtol=1e-10)
    np.testing.assert_array_equal(lifetime_weights(TIMES, 10.0, 10.0), 1.0)


@pytest.mark.parametrize("wanted", [0.5, 3.0, 12.0])
def test_effective_events(wanted: float) -> None:
    """⟨w⟩²/⟨w²⟩ = t1 (2 t0 - t1)/t0² for exponential decays."""
    share = effective_events(lifetime_weights(TIMES, 10.0, wanted)) / TIMES.size
    assert share == pytest.approx(wanted * (20 - wanted) / 100, rel=0.03)
    assert effective_events(np.zeros(3)) == 0.0
    assert effective_events(np.full(7, 0.3)) == pytest.approx(7)


def test_messages() -> None:
    with pytest.raises(
        FitError, match=r"20 ps wanted from one of 10 ps, expected less than 20 ps, .* simulate a longer"
    ):
        lifetime_weights(TIMES, 10.0, 20.0)
    with pytest.raises(
        FitError,
        match=r"from 10 to 0.01 ps leave \d+\.\d effective events of 5000, expected at least 100; simulate",
    ):
        lifetime_weights(TIMES[:5000], 10.0, 0.01)
    with pytest.raises(FitError, match=r"leave 0.0 effective events of 0, expected at least 100"):
        lifetime_weights([], 10.0, 1.0)
    # Times in another unit: the weights themselves would overflow.
    with pytest.raises(FitError, match=r"leave 1.0 effective events of 200000"):
        lifetime_weights(1e4 * TIMES, 10.0, 15.0)
    late = np.concatenate([np.full(3000, 0.1), [150.0]])
    with pytest.raises(
        FitError, match=r"one decay, at 150 ps, has \d+\.\d% of the sum of weights, expected at most 5.0%"
    ):
        lifetime_weights(late, 10.0, 18.0, smallest_sample=1)
    with pytest.raises(FitError, match=r"decay times in ps contains -1, .* give proper times"):
        lifetime_weights([-1.0], 10.0, 5.0)
    with pytest.raises(FitError, match=r"the wanted lifetime in ps contains 0, .* check the unit"):
        lifetime_weights(TIMES, 10.0, 0.0)
    with pytest.raises(FitError, match=r"the simulated lifetime in ps contains nan"):
        lifetime_weights(TIMES, np.nan, 1.0)
