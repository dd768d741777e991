"""The BumpHunter, against a slow loop over windows, another program, and bumps and backgrounds with known answers."""

import numpy as np
import pytest
from scipy import special, stats

from trila.fits.background import BackgroundFit, fit_background, whole
from trila.fits.bump_hunt import bump_hunt, largest_bumps
from trila.fits.errors import FitError
from trila.fits.functions import Domain, expectation, resolve
from trila.fits.spectrum import Spectrum, checked, masked
from trila.fits.toys import background_toys

EDGES = np.geomspace(500, 3000, 21)
SQRT_S = 13000.0
EXPECTED = expectation("dijet3", EDGES, [1.0, 9.0, 5.5], domain=Domain(500, 3000, SQRT_S))
EXPECTED = EXPECTED * 1e5 / EXPECTED.sum()


def fitted(spectrum: Spectrum) -> BackgroundFit:
    return fit_background(resolve("dijet3"), whole(spectrum, SQRT_S))


def with_bump(events: float) -> Spectrum:
    """A Gaussian of 1200 GeV, with a width of two bins, on counts of the background."""
    bump = events * np.diff(stats.norm.cdf(EDGES, 1200, 100))
    return checked(EDGES, np.random.default_rng(2).poisson(EXPECTED + bump), name="s")


def test_windows_by_a_slow_loop() -> None:
    rng = np.random.default_rng(3)
    expected = np.geomspace(300, 0.5, 14)
    counts = rng.poisson(expected, (40, 14)).astype(float)
    used = np.arange(14) != 5
    found = largest_bumps(counts, np.tile(expected, (40, 1)), used.astype(float))
    for t, row in enumerate(counts):
        best, place, windows = 0.0, (0, 0), 0
        for width in range(2, 7):  # 13 bins are used
            for first in range(14 - width + 1):
                inside = slice(first, first + width)
                if not used[inside].all():
                    continue
                windows += 1
                d, b = row[inside].sum(), expected[inside].sum()
                surprise = -stats.poisson.logsf(d - 1, b) if d > b else 0.0
                if surprise > best * (1 + 1e-12):
                    best, place = surprise, (first, first + width)
        assert found.statistic[t] == pytest.approx(best, rel=1e-9)
        assert (found.first[t], found.last[t]) == place
        assert found.windows == windows


def test_bins_not_used_may_hold_anything() -> None:
    expected = np.full((1, 8), 10.0)
    counts = np.array([[12.0, 9.0, np.nan, 11.0, 16.0, 14.0, 9.0, 10.0]])
    weight = np.where(np.isnan(counts[0]), 0.0, 1.0)
    found = largest_bumps(counts, np.where(np.isnan(counts), np.nan, expected), weight)
    assert (found.first[0], found.last[0]) == (4, 6)
    assert found.statistic[0] == pytest.approx(-stats.poisson.logsf(29, 20.0))


def test_weights_are_scaled_away() -> None:
    counts, expected = np.array([[90.0, 110.0, 140.0, 95.0, 100.0]]), np.full((1, 5), 100.0)
    plain = largest_bumps(counts, expected, np.ones(5))
    scaled = largest_bumps(counts * 0.3, expected * 0.3, np.full(5, 1 / 0.3))
    assert scaled.statistic[0] == pytest.approx(plain.statistic[0])


@pytest.mark.parametrize(("events", "mean"), [(2000.0, 300.0), (1e6, 9.6e5), (40.0, 1e-9)])
def test_probabilities_below_the_smallest_number(events: float, mean: float) -> None:
    """The sum of the Poisson probabilities by their logarithms."""
    found = largest_bumps(
        np.array([[events, 0.0, 0.0, 0.0]]), np.array([[mean, 1e-300, mean, mean]]), np.ones(4)
    )
    n = np.arange(events, events + 200_000)
    truth = -special.logsumexp(n * np.log(mean) - mean - special.gammaln(n + 1))
    assert truth > 650
    assert found.statistic[0] == pytest.approx(truth, rel=1e-5)


def test_no_excess_anywhere() -> None:
    found = largest_bumps(np.zeros((1, 6)), np.ones((1, 6)), np.ones(6))
    assert (found.statistic[0], found.first[0], found.last[0]) == (0.0, 0, 0)


def test_an_injected_bump_is_found_in_its_place() -> None:
    found = bump_hunt(fitted(with_bump(1000)), toys=200, seed=1)
    assert 900 < found.low < 1200 < found.high < 1500
    assert found.p_global.value == 1 / 201
    assert found.p_global.low == 0
    assert found.p_global.high > 1 / 201
    assert found.events - found.background == pytest.approx(700, abs=300)
    assert found.p_local == pytest.approx(np.exp(-found.statistic))
    assert found.windows == sum(21 - width for width in range(2, 11))


def test_side_bands_do_not_bend_towards_the_bump() -> None:
    fit = fitted(with_bump(1000))
    bent, straight = bump_hunt(fit, toys=100), bump_hunt(fit, toys=100, sideband=True)
    assert straight.statistic > bent.statistic
    inside = (EDGES[:-1] >= straight.low) & (EDGES[1:] <= straight.high)
    error = np.sqrt(EXPECTED[inside].sum())
    assert straight.background == pytest.approx(EXPECTED[inside].sum(), abs=2.5 * error)


def test_nothing_to_find() -> None:
    """A spectrum that is its own fit: every toy has a larger bump."""
    fit = fitted(checked(EDGES, np.round(EXPECTED), name="s"))
    exact = fit._replace(windows=fit.windows._replace(counts=fit.prediction))
    found = bump_hunt(exact, toys=50)
    assert found.p_global.exceeding == 50
    assert found.p_global.value == 1.0


def test_messages() -> None:
    with pytest.raises(
        FitError, match="3 bins for windows of 2 and more, expected at least 4; widen the range"
    ):
        largest_bumps(np.ones((1, 4)), np.ones((1, 4)), np.array([1.0, 1.0, 0.0, 1.0]))
    short = fitted(masked(with_bump(0), [(EDGES[0], EDGES[15])]))
    with pytest.raises(
        FitError, match="3 bins are left beside the widest window for the 3 parameters of dijet3, expected"
    ):
        bump_hunt(short, toys=10, sideband=True)


@pytest.mark.slow
def test_other_program() -> None:
    """pyBumpHunter, with the background known and not fitted again: same window, same statistic, same share of toys."""
    pybumphunter = pytest.importorskip("pyBumpHunter")
    counts = with_bump(400).counts
    hunter = pybumphunter.BumpHunter1D(
        rang=(EDGES[0], EDGES[-1]), width_min=2, width_max=10, bins=EDGES, npe=2000, nworker=1, seed=3
    )
    hunter.bump_scan(counts, EXPECTED, is_hist=True)
    ours = largest_bumps(counts[None], EXPECTED[None], np.ones(20))
    assert ours.statistic[0] == pytest.approx(float(np.ravel(hunter.t_ar)[0]), rel=1e-6)
    assert (ours.first[0], ours.last[0] - ours.first[0]) == (hunter.min_loc_ar[0], hunter.min_width_ar[0])
    fit = fitted(checked(EDGES, counts, name="s"))
    toys = background_toys(fit._replace(prediction=EXPECTED[None]), 2000, 3)
    chance = largest_bumps(toys, np.tile(EXPECTED, (2000, 1)), np.ones(20)).statistic
    theirs = np.ravel(hunter.t_ar)[1:]
    assert stats.ks_2samp(chance, theirs).pvalue > 1e-3


@pytest.mark.slow
def test_global_p_values_of_the_background_are_uniform() -> None:
    rng = np.random.default_rng(8)
    p = [
        bump_hunt(fitted(checked(EDGES, rng.poisson(EXPECTED), name="s")), toys=300, seed=i).p_global.value
        for i in range(150)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01
