"""Displacement bins, against integrals of the decay law, a counting experiment, and closed forms of exclusion."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate

from trila.fits import dark_photon
from trila.fits.background import Windows, fit_background
from trila.fits.displaced import LifetimeTable, excluded_ranges
from trila.fits.displacement_bins import LifetimeLimits, decay_shares, exclusion, lifetime_limits
from trila.fits.errors import FitError
from trila.fits.functions import resolve
from trila.fits.limits import upper_limits
from trila.fits.search import Search, search, templates
from trila.fits.signals import Resolution

TIMES = np.array([0.0, 0.3, 1.0, np.inf])
LIFETIMES = np.array([0.1, 1.0, 10.0])


def test_shares_are_integrals_of_the_decay_law() -> None:
    found = decay_shares(TIMES, LIFETIMES)
    np.testing.assert_allclose(found.sum(axis=0), 1.0)
    for i, (low, high) in enumerate(pairwise(TIMES)):
        for j, tau in enumerate(LIFETIMES):
            expected, _ = integrate.quad(lambda t, tau=tau: np.exp(-t / tau) / tau, low, high)
            assert found[i, j] == pytest.approx(expected, rel=1e-6)
    # a narrow bin at late times keeps its digits
    assert decay_shares([10.0, 10.0 + 1e-9], [1e3])[0, 0] == pytest.approx(1e-12 * np.exp(-0.01), rel=1e-5)


def test_exclusion_in_closed_form() -> None:
    """All decays of 0.5 ps or later count, and 2.3 events are the limit: ε² k exp(-0.5/τ) = 2.3 with τ = c/ε²."""
    masses, tau = np.array([0.22, 0.28]), np.geomspace(1e-3, 1e4, 3000)
    late = decay_shares([0.5, np.inf], tau)[0]
    table = LifetimeTable(masses, tau, np.tile(late, (2, 1)))
    flat = LifetimeTable(masses, tau, np.full((2, tau.size), 2.3))
    limits = LifetimeLimits(table, flat, flat._replace(values=2 * flat.values))
    eps2 = np.geomspace(1e-11, 1e-7, 200)
    ranges = excluded_ranges(exclusion(limits, [0.25], eps2, [2e8]))
    k = float(dark_photon.expected_yield(0.25, 1.0, 2e8))
    c = float(dark_photon.lifetime(0.25, 1.0))
    for end in (ranges.low[0], ranges.high[0]):
        assert end * k * np.exp(-0.5 * end / c) == pytest.approx(2.3, rel=5e-3)
    # twice the limit excludes less, at both ends
    fewer = excluded_ranges(exclusion(limits, [0.25], eps2, [2e8], expected=True))
    assert ranges.low[0] < fewer.low[0] < fewer.high[0] < ranges.high[0]


def channels() -> list[Search]:
    """A prompt bin with much background, and a displaced one with little."""
    edges = np.linspace(0.2, 0.3, 31)
    found = []
    for events in (3e4, 300.0):
        counts = np.full((1, 30), events)
        window = Windows(edges[None], counts, np.ones((1, 30)), 13000.0)
        signal = templates(Resolution(0.01, 0.0), [0.24, 0.26], edges)
        found.append(search(fit_background(resolve("powerlaw"), window), signal))
    return found


@pytest.mark.slow
def test_limits_follow_the_lifetime() -> None:
    """Decays of one bin alone have its limit; those spread over both have that of the inverse sum of squared errors."""
    both = channels()
    alone = np.array([(found := upper_limits(x.model)).expected[:, 2] * x.unit for x in both])
    assert found.verified.all()
    shares = np.array([[1.0, 0.0, 0.8], [0.0, 1.0, 0.4]])
    limits = lifetime_limits(both, LIFETIMES, shares)
    np.testing.assert_allclose(limits.efficiency.values, np.tile([1.0, 1.0, 1.2], (2, 1)))
    np.testing.assert_allclose(limits.expected.values[:, :2], alone.T, rtol=1e-4)
    parts = np.array([[2 / 3], [1 / 3]])
    np.testing.assert_allclose(
        limits.expected.values[:, 2], ((parts / alone) ** 2).sum(axis=0) ** -0.5, rtol=0.02
    )
    # without a fluctuation in the data, the observed limit is the expected one
    np.testing.assert_allclose(limits.observed.values, limits.expected.values, rtol=1e-3)
    of_each_mass = lifetime_limits(both, LIFETIMES, np.repeat(shares[:, None], 2, axis=1))
    np.testing.assert_allclose(of_each_mass.observed.values, limits.observed.values, rtol=1e-6)


def test_messages() -> None:
    with pytest.raises(
        FitError, match=r"edges \[1.0, 0.0\] ps of decay times, expected them to increase from 0"
    ):
        decay_shares([1.0, 0.0], [1.0])
    with pytest.raises(FitError, match=r"lifetimes in ps contains 0, .* check the unit"):
        decay_shares([0.0, 1.0], [0.0])
    both = channels()
    with pytest.raises(
        FitError, match=r"shares of shape \(2,\) for 2 bins, 2 masses and 3 lifetimes; give one for"
    ):
        lifetime_limits(both, LIFETIMES, [0.5, 0.5])
    with pytest.raises(FitError, match=r"no decays of lifetime 1 ps are in any bin; leave that lifetime out"):
        lifetime_limits(both, LIFETIMES, [[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
