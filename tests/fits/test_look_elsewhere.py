"""Global p-values, against Rice's formula for crossings and toys in large numbers."""

import numpy as np
import pytest
from scipy import stats

from trila.fits.background import fit_background, whole
from trila.fits.errors import FitError
from trila.fits.functions import Domain, expectation, resolve
from trila.fits.look_elsewhere import gross_vitells, scan_toys, toy_global
from trila.fits.search import Search, search, templates
from trila.fits.signals import signal
from trila.fits.significance import discovery
from trila.fits.spectrum import checked
from trila.fits.toys import background_toys

#: A Gaussian bump of known width on a flat background: estimates at two masses δ apart correlate as exp(-δ²/4σ²).
WIDTH = 10.0
MASSES = np.arange(0.0, 400.0, 2.0)


def scans(number: int, seed: int) -> np.ndarray:
    """q_0 of such a background: white noise seen through the bump, for estimates above 0."""
    rng = np.random.default_rng(seed)
    fine = np.arange(-40.0, 440.0, 1.0)
    shape = np.exp(-((MASSES[:, None] - fine) ** 2) / (2 * WIDTH**2))
    shape /= np.sqrt((shape**2).sum(axis=1, keepdims=True))
    z = rng.normal(size=(number, fine.size)) @ shape.T
    return np.where(z > 0, z**2, 0.0)


def test_crossings_follow_rices_formula() -> None:
    """With correlation exp(-δ²/4σ²), √c is crossed upwards L/(2π√2 σ) exp(-c/2) times."""
    q0 = scans(2000, 1)
    for level in (0.5, 1.0, 2.0):
        found = gross_vitells(q0, 9.0, masses=MASSES, widths=np.full(MASSES.size, WIDTH), level=level)
        rate = (MASSES[-1] - MASSES[0]) / (2 * np.pi * np.sqrt(2) * WIDTH) * np.exp(-level / 2)
        assert found.crossings == pytest.approx(rate, abs=4 * found.crossings_error + 0.01 * rate)
        assert found.p_global == pytest.approx(stats.norm.sf(3) + rate * np.exp(-(9 - level) / 2), rel=0.1)
        assert found.p_local == pytest.approx(stats.norm.sf(3))
        assert found.error / found.p_global < 0.05


@pytest.mark.parametrize("z", [2.5, 3.0, 3.3])
def test_forty_toys_tell_what_ten_thousand_count(z: float) -> None:
    counted = toy_global(scans(10_000, 2), z**2)
    bound = gross_vitells(scans(40, 3), z**2, masses=MASSES, widths=np.full(MASSES.size, WIDTH))
    error = np.hypot(bound.error, (counted.high - counted.low) / 2)
    # the bound counts two crossings of one scan twice
    allowance = counted.value**2 / 2 + 0.02 * counted.value
    assert bound.p_global == pytest.approx(counted.value, abs=3 * error + allowance)


def test_p_global_is_no_more_than_one_and_rises_as_the_excess_falls() -> None:
    q0, widths = scans(100, 4), np.full(MASSES.size, WIDTH)
    found = [
        gross_vitells(q0, c, masses=MASSES, widths=widths).p_global for c in (0.0, 1.0, 4.0, 16.0, 400.0)
    ]
    assert found[0] == 1.0
    assert np.all(np.diff(found) <= 0)
    assert 0 < found[-1] < 1e-40


def test_failed_toys() -> None:
    """They are left out of the mean of crossings, and count as larger where toys are counted."""
    q0, widths = scans(100, 4), np.full(MASSES.size, WIDTH)
    broken = np.array(q0)
    broken[:30, 5] = np.nan
    found = gross_vitells(broken, 9.0, masses=MASSES, widths=widths)
    assert (found.toys, found.failed) == (70, 30)
    assert found.crossings == gross_vitells(q0[30:], 9.0, masses=MASSES, widths=widths).crossings
    counted = toy_global(broken, 400.0)
    assert (counted.exceeding, counted.failed) == (30, 30)


def test_no_crossing_at_all_has_an_error() -> None:
    found = gross_vitells(np.zeros((50, 3)), 9.0, masses=[1.0, 2.0, 3.0], widths=np.full(3, 10.0))
    assert found.crossings == 0
    assert found.crossings_error == 1 / 50


def test_messages() -> None:
    q0, widths = np.zeros((30, 3)), np.full(3, 10.0)
    with pytest.raises(
        FitError,
        match="masses 105 and 111 GeV are 6 GeV apart, expected at most half the width of the signal, 5 G",
    ):
        gross_vitells(q0, 9.0, masses=[100.0, 105.0, 111.0], widths=widths)
    with pytest.raises(FitError, match="mass 105 GeV is followed by 104 GeV; sort them, each once"):
        gross_vitells(q0, 9.0, masses=[100.0, 105.0, 104.0], widths=widths)
    with pytest.raises(
        FitError, match=r"crossings are counted at q0 = 0, expected a level above 0; 0.5 to 1 are usual"
    ):
        gross_vitells(q0, 9.0, masses=[100.0, 105.0, 110.0], widths=widths, level=0.0)
    q0[:11] = np.nan
    with pytest.raises(
        FitError, match="19 toys without failed fits, expected at least 20 to count crossings in; give more"
    ):
        gross_vitells(q0, 9.0, masses=[100.0, 105.0, 110.0], widths=widths)


@pytest.fixture(scope="module")
def found() -> Search:
    edges = np.geomspace(500, 3000, 21)
    expected = expectation("dijet3", edges, [1.0, 9.0, 5.5], domain=Domain(500, 3000, 13000.0))
    counts = np.random.default_rng(1).poisson(expected * 1e5 / expected.sum())
    fit = fit_background(resolve("dijet3"), whole(checked(edges, counts, name="s"), 13000.0))
    masses = 700 * 1.03 ** np.arange(38)
    return search(fit, templates(signal("gauss:0.07"), masses, edges))


@pytest.mark.slow
def test_scans_of_toys_are_scans_of_each(found: Search) -> None:
    q0 = scan_toys(found, 30, 3)
    counts = background_toys(found.fit, 30, 3)
    model = found.model
    for i in (0, 17):
        alone = discovery(model._replace(observation=model.observation._replace(counts=counts[i])))
        np.testing.assert_allclose(q0[i], alone.q0, atol=1e-5)
    np.testing.assert_array_equal(scan_toys(found, 3, 3), q0[:3])


@pytest.mark.slow
def test_both_ways_agree_on_a_search(found: Search) -> None:
    q0 = scan_toys(found, 2000, 3)
    assert np.isfinite(q0).all()
    widths = signal("gauss:0.07").width(found.templates.masses)
    assert np.mean(q0[:, 20] == 0) == pytest.approx(0.5, abs=0.05)
    counted = toy_global(q0, 2.7**2)
    bound = gross_vitells(q0[:200], 2.7**2, masses=found.templates.masses, widths=widths)
    error = np.hypot(bound.error, (counted.high - counted.low) / 2)
    assert bound.p_global == pytest.approx(counted.value, abs=3 * error + counted.value**2)


@pytest.mark.slow
def test_a_search_in_windows_has_no_single_background(found: Search) -> None:
    windows = found.fit.windows._replace(edges=np.tile(found.fit.windows.edges, (2, 1)))
    with pytest.raises(
        FitError, match="a search with 2 windows has no single background to draw toys of; expected one"
    ):
        scan_toys(found._replace(fit=found.fit._replace(windows=windows)), 10, 1)
