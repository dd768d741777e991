"""Cross-sections and ε² from yields, against closed forms and numbers of the papers' formulas."""

import numpy as np
import pytest

from trila.fits.background import BackgroundFit, Windows, fit_background
from trila.fits.dimuon_limits import (
    Bands,
    FractionTable,
    coupling_limits,
    cross_section_limits,
    fitted_density,
    in_events,
    photon_density,
    photon_shares,
)
from trila.fits.errors import FitError
from trila.fits.functions import resolve
from trila.fits.likelihood import Observation
from trila.fits.limits import Limits
from trila.fits.minimise import Minimum
from trila.fits.profile import Profile

#: Two windows of one spectrum, 6 · 10⁶ m^-3 per GeV.
EDGES = np.array([np.linspace(20.0, 26.0, 25), np.linspace(24.0, 30.0, 25)])
COUNTS = 3e6 * (EDGES[:, :-1] ** -2 - EDGES[:, 1:] ** -2)
MASSES = np.array([23.0, 27.0])
EVENTS = Bands(MASSES, np.array([50.0, np.nan]), np.arange(10.0, 20.0).reshape(2, 5))


@pytest.fixture(scope="module")
def fits() -> tuple[BackgroundFit, BackgroundFit]:
    """Of a window for each mass, and of one for both."""
    one = Windows(EDGES[:1], COUNTS[:1], np.ones((1, 24)), 13000.0)
    several = Windows(EDGES, COUNTS, np.ones((2, 24)), 13000.0)
    return fit_background(resolve("powerlaw"), several), fit_background(resolve("powerlaw"), one)


def test_density_of_the_background(fits: tuple[BackgroundFit, BackgroundFit]) -> None:
    """Counts are expectations: the fit is the function itself, not its mean over a bin."""
    several, one = fits
    np.testing.assert_allclose(fitted_density(several, MASSES), 6e6 * MASSES**-3, rtol=1e-6)
    inside = np.array([20.0, 21.0, 26.0])
    np.testing.assert_allclose(fitted_density(one, inside), 6e6 * inside**-3, rtol=1e-6)


def test_what_is_not_electromagnetic_is_subtracted(fits: tuple[BackgroundFit, BackgroundFit]) -> None:
    several, _ = fits
    density = 6e6 * MASSES**-3
    table = FractionTable(np.array([20.0, 25.0, 30.0]), np.array([0.1, 0.2, 0.4]))
    found = photon_density(several, MASSES, fractions=table)
    np.testing.assert_allclose(found, density * (1 - np.array([0.16, 0.28])), rtol=1e-6)
    # the same fit for pairs of equal charge, of which a fifth count
    found = photon_density(several, MASSES, same_sign=several, same_sign_factor=0.2, fractions=table)
    np.testing.assert_allclose(found, 0.8 * density * (1 - np.array([0.16, 0.28])), rtol=1e-6)


def test_eps2_of_the_published_formula() -> None:
    """1000 events over 5 · 10⁴ per GeV at 25 GeV, with N_f = 6.67, are ε² = 8.263 · 10⁻⁶."""
    events = Bands(np.array([25.0]), np.array([1000.0]), 1000.0 * np.arange(1.0, 6.0)[None])
    found = coupling_limits(events, [5e4], flavours=6.67)
    assert found.observed[0] == pytest.approx(8.263e-6, rel=1e-4)
    np.testing.assert_allclose(found.expected[0], found.observed[0] * np.arange(1, 6))
    np.testing.assert_allclose(
        coupling_limits(events, [5e4], efficiency_ratio=0.5, flavours=6.67).observed, 2 * found.observed
    )


def test_failed_limits_stay_nan() -> None:
    found = coupling_limits(EVENTS, [1e3, 1e3])
    np.testing.assert_array_equal(np.isnan(found.observed), [False, True])
    assert np.all(np.diff(found.expected, axis=1) > 0)


def test_categories_share_the_signal_as_they_share_the_photons() -> None:
    """With shares of the photons, ε² of each category alone is that of all together."""
    densities = np.array([[3e3, 2e3], [1e3, 6e3]])
    shares = photon_shares(densities)
    np.testing.assert_allclose(shares, [[0.75, 0.25], [0.25, 0.75]])
    both = coupling_limits(EVENTS, densities.sum(axis=0))
    for density, share in zip(densities, shares, strict=True):
        own = EVENTS._replace(observed=EVENTS.observed * share, expected=EVENTS.expected * share[:, None])
        np.testing.assert_allclose(coupling_limits(own, density).expected, both.expected)


def test_cross_section() -> None:
    found = cross_section_limits(EVENTS, luminosity=1e5, efficiency=[0.5, 0.2])
    np.testing.assert_allclose(found.observed, [1e-3, np.nan])
    np.testing.assert_allclose(found.expected[1], np.arange(15.0, 20.0) / 2e4)


def test_events_of_a_model() -> None:
    blank = np.zeros((2, 1))
    minimum = Minimum(blank, blank[:, 0], blank, blank[:, None], blank[:, 0] == 0, blank[:, 0])
    fits = Profile(Observation(blank, blank), np.arange(2), minimum, minimum)
    limits = Limits(
        np.array([2.0, np.nan]),
        np.ones((2, 5)),
        blank[:, 0],
        blank[:, 0],
        fits,
        minimum,
        np.ones((2, 6), dtype=bool),
    )
    found = in_events(MASSES, [10.0, 20.0], limits)
    np.testing.assert_array_equal(found.observed, [20.0, np.nan])
    np.testing.assert_array_equal(found.expected, np.array([[10.0], [20.0]]) * np.ones(5))


def test_messages(fits: tuple[BackgroundFit, BackgroundFit]) -> None:
    several, one = fits
    with pytest.raises(FitError, match=r"2 windows for 3 masses, expected one, or one for each"):
        fitted_density(several, [21.0, 22.0, 23.0])
    with pytest.raises(
        FitError, match=r"background at 23 GeV from a fit of 24 to 30 GeV; choose masses inside"
    ):
        fitted_density(several, [23.0, 23.0])
    with pytest.raises(FitError, match=r"background at 28 GeV from a fit of 20 to 26 GeV"):
        fitted_density(one, [21.0, 28.0])
    with pytest.raises(FitError, match=r"same_sign_factor contains -1, .* opposite-sign over same-sign"):
        photon_density(several, MASSES, same_sign=several, same_sign_factor=-1.0)
    with pytest.raises(FitError, match=r"dN/dm of virtual photons in 1/GeV contains -.*; leave out masses"):
        photon_density(several, MASSES, same_sign=several, same_sign_factor=1.5)
    with pytest.raises(
        FitError, match=r"a table of fractions with \(2,\) masses and \(1,\) fractions, .* sort or"
    ):
        photon_density(several, MASSES, fractions=FractionTable(np.array([20.0, 30.0]), np.array([0.1])))
    with pytest.raises(
        FitError, match=r"a fraction of 20 of other dimuons, expected 0 to below 1; give 0.2 for"
    ):
        photon_density(
            several, MASSES, fractions=FractionTable(np.array([20.0, 30.0]), np.array([0.1, 20.0]))
        )
    with pytest.raises(
        FitError, match=r"other dimuons at 27 GeV, expected 20 to 25 GeV, the range .* extend"
    ):
        photon_density(several, MASSES, fractions=FractionTable(np.array([20.0, 25.0]), np.array([0.1, 0.2])))
    with pytest.raises(FitError, match=r"in 1/GeV contains 0, .*; leave out the category there"):
        photon_shares([[1.0], [0.0]])
    with pytest.raises(FitError, match=r"the luminosity in 1/pb contains 0, .*; give that of the data"):
        cross_section_limits(EVENTS, luminosity=0.0)
    with pytest.raises(FitError, match=r"an efficiency of 20, expected at most 1; give 0.2 for 20%"):
        cross_section_limits(EVENTS, luminosity=1.0, efficiency=20.0)
