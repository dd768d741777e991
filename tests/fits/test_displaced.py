"""Exclusion of displaced decays, against loops, root finding and an efficiency in closed form."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize

from trila.fits import dark_photon
from trila.fits.displaced import Exclusion, LifetimeTable, exclude, excluded_ranges, interpolate
from trila.fits.errors import FitError

MASS = np.array([0.22, 0.25, 0.27])
LIFETIME = np.geomspace(1e-3, 1e4, 4000)
PHOTONS = np.array([3e8, 2e8, 1e8])


def accepted(lifetime: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Decays between 0.5 and 20 ps, of a mean `lifetime`."""
    return np.asarray(np.exp(-0.5 / np.asarray(lifetime)) - np.exp(-20.0 / np.asarray(lifetime)))


EFFICIENCY = LifetimeTable(np.array([0.2, 0.3]), LIFETIME, np.tile(accepted(LIFETIME), (2, 1)))
LIMIT = LifetimeTable(np.array([0.2, 0.3]), np.array([1e-3, 1e4]), np.full((2, 2), 2.3))


def test_interpolation_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(2)
    table = LifetimeTable(np.array([1.0, 2.0, 4.0]), np.array([0.1, 1.0, 100.0]), rng.uniform(size=(3, 3)))
    mass, tau = rng.uniform(1, 4, 50), np.exp(rng.uniform(np.log(0.1), np.log(100), 50))
    expected = []
    for m, t in zip(mass, tau, strict=True):
        columns = [np.interp(m, table.mass, table.values[:, k]) for k in range(3)]
        expected.append(np.interp(np.log(t), np.log(table.lifetime), columns))
    np.testing.assert_allclose(interpolate(table, mass, tau), expected, rtol=1e-12)
    # At the corners, and broadcast.
    np.testing.assert_allclose(interpolate(table, table.mass[:, np.newaxis], table.lifetime), table.values)


def test_expectation_is_that_of_a_loop() -> None:
    eps2 = np.geomspace(1e-11, 1e-8, 30)
    found = exclude(MASS, eps2, PHOTONS, EFFICIENCY, LIMIT)
    for i, m in enumerate(MASS):
        for j in range(0, 30, 7):
            tau = 0.6582119569 / (float(dark_photon.widths(m, eps2[j]).total) * 1e12)
            flavours = float(dark_photon.effective_flavours(m))
            n = eps2[j] * PHOTONS[i] * 3 * np.pi * m * 137.035999 / (2 * flavours)
            assert found.lifetime[i, j] == pytest.approx(tau, rel=1e-9)
            assert found.expected[i, j] == pytest.approx(n * accepted(tau), rel=1e-4)
            assert found.excluded[i, j] == (found.expected[i, j] > 2.3)


def test_island_has_the_shores_of_root_finding() -> None:
    eps2 = np.geomspace(1e-11, 1e-7, 200)
    ranges = excluded_ranges(exclude(MASS, eps2, PHOTONS, EFFICIENCY, LIMIT))
    np.testing.assert_array_equal(ranges.mass, MASS)
    for m, photons, low, high in zip(MASS, PHOTONS, ranges.low, ranges.high, strict=True):

        def excess(log_eps2: float, m: float = m, photons: float = photons) -> float:
            value = np.exp(log_eps2)
            tau = dark_photon.lifetime(m, value)
            return float(dark_photon.expected_yield(m, value, photons, efficiency_ratio=accepted(tau)) - 2.3)

        middle = np.log(np.sqrt(low * high))
        for end, start in ((low, np.log(1e-12)), (high, np.log(1e-7))):
            assert end == pytest.approx(np.exp(optimize.brentq(excess, start, middle)), rel=2e-3)


def test_ranges_of_a_drawn_map() -> None:
    """Rows without, with one, with two and with open ranges."""
    excluded = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]])
    ratio = np.where(excluded == 1, 0.1, 10.0)
    # Nothing is expected on the right of the second range of row 2: it ends at its last point.
    expected = np.where(np.arange(25).reshape(5, 5) == 14, 0.0, 1.0)
    eps2 = 10.0 ** np.arange(-10.0, -5.0)
    mass = np.arange(1.0, 6.0)
    found = excluded_ranges(Exclusion(mass, eps2, ratio, expected, ratio, excluded.astype(bool)))
    np.testing.assert_array_equal(found.mass, [2.0, 3.0, 3.0, 4.0, 5.0])
    # Halfway between neighbours, as the ratio goes from 10 to 0.1 between them.
    np.testing.assert_allclose(np.log10(found.low), [-9.5, -10.0, -7.5, -7.5, -10.0])
    np.testing.assert_allclose(np.log10(found.high), [-7.5, -9.5, -7.0, -6.0, -6.0])


def test_nothing_excluded() -> None:
    found = excluded_ranges(exclude(MASS, [1e-10, 1e-9], PHOTONS / 1e9, EFFICIENCY, LIMIT))
    assert found.mass.shape == found.low.shape == found.high.shape == (0,)


def test_more_of_everything_excludes_more() -> None:
    eps2 = np.geomspace(1e-11, 1e-7, 50)
    few = exclude(MASS, eps2, PHOTONS, EFFICIENCY, LIMIT)
    many = exclude(MASS, eps2, 10 * PHOTONS, EFFICIENCY, LIMIT)
    assert np.all(many.excluded >= few.excluded)
    assert many.excluded.sum() > few.excluded.sum()
    halved = exclude(
        MASS, eps2, PHOTONS, EFFICIENCY, LIMIT, flavours=2 * dark_photon.effective_flavours(MASS)
    )
    np.testing.assert_allclose(halved.lifetime, few.lifetime / 2)


def test_messages() -> None:
    with pytest.raises(
        FitError, match=r"a lifetime of 20000, expected 0.001 to 10000, the range of the table; extend"
    ):
        interpolate(EFFICIENCY, 0.25, 2e4)
    with pytest.raises(FitError, match=r"a mass of 0.5, expected 0.2 to 0.3, .* shorten the scan"):
        interpolate(EFFICIENCY, [0.25, 0.5], 1.0)
    with pytest.raises(FitError, match=r"a mass of nan, expected 0.2 to 0.3"):
        interpolate(EFFICIENCY, np.nan, 1.0)
    with pytest.raises(
        FitError, match=r"2 masses and 4000 lifetimes with values of shape \(4000, 2\), .* transpose"
    ):
        interpolate(EFFICIENCY._replace(values=EFFICIENCY.values.T), 0.25, 1.0)
    with pytest.raises(FitError, match=r"the lifetimes in ps of a table do not increase; sort"):
        interpolate(EFFICIENCY._replace(lifetime=LIFETIME[::-1]), 0.25, 1.0)
    with pytest.raises(FitError, match=r"lifetimes in ps contains 0, .* check the unit"):
        interpolate(LIMIT._replace(lifetime=np.array([0.0, 1.0])), 0.25, 0.5)
    with pytest.raises(FitError, match=r"a table's values contains -1, .* check the table"):
        interpolate(LIMIT._replace(values=-np.ones((2, 2))), 0.25, 0.5)
    with pytest.raises(FitError, match=r"photons_per_gev of shape \(2,\) for 3 masses; give one value"):
        exclude(MASS, [1e-9], PHOTONS[:2], EFFICIENCY, LIMIT)
    with pytest.raises(FitError, match=r"flavours of shape \(\) for 3 masses; give one value"):
        exclude(MASS, [1e-9], PHOTONS, EFFICIENCY, LIMIT, flavours=2.0)
    with pytest.raises(FitError, match=r"values of eps2 do not increase; sort"):
        exclude(MASS, [1e-9, 1e-10], PHOTONS, EFFICIENCY, LIMIT)
    with pytest.raises(FitError, match=r"yield_limit contains 0, .* give upper limits in events"):
        exclude(MASS, [1e-9], PHOTONS, EFFICIENCY, LIMIT._replace(values=np.zeros((2, 2))))
