"""Sliding windows, against the fit of each window alone, and spectra whose background is known."""

import numpy as np
import pytest
from scipy import stats

from trila.fits.background import Windows, fit_background
from trila.fits.errors import FitError
from trila.fits.functions import Domain, expectation, resolve
from trila.fits.signals import Gaussian
from trila.fits.sliding_background import SlidingBackground, refit_sliding, sliding_background
from trila.fits.spectrum import Spectrum, checked, masked

EDGES = np.geomspace(489.0, 2037.0, 41)
DOMAIN = Domain(489.0, 2037.0, 13000.0)
DIJET3 = resolve("dijet3")
HALF = 8


def expected(name: str, values: list[float], events: float) -> np.ndarray:
    counts = expectation(name, EDGES, values, domain=DOMAIN)
    return counts * events / counts.sum()


TRUTH = expected("dijet3", [1.0, 9.0, 5.5], 1e6)
#: No three parameters describe it over the range.
CURVED = expected("dijet5", [1.0, 9.0, 5.5, 0.5, 0.2], 2e6)


def drawn(truth: np.ndarray, seed: int = 3) -> Spectrum:
    return checked(EDGES, np.random.default_rng(seed).poisson(truth), name="toy")


def slid(spectrum: Spectrum, **options: object) -> SlidingBackground:
    return sliding_background(DIJET3, spectrum, 13000.0, half_widths=[HALF], **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found() -> SlidingBackground:
    return slid(drawn(TRUTH))


def test_each_bin_has_the_fit_of_its_window(found: SlidingBackground) -> None:
    counts = drawn(TRUTH).counts
    for i in (0, 5, 20, 31, 39):
        first = min(max(i - HALF, 0), 40 - 2 * HALF - 1)
        bins = slice(first, first + 2 * HALF + 1)
        window = Windows(EDGES[None, first : bins.stop + 1], counts[None, bins], np.ones((1, 17)), 13000.0)
        assert found.prediction[i] == pytest.approx(fit_background(DIJET3, window).prediction[0, i - first])
    assert found.fit.good.all()
    assert found.accepted


def test_predictions_and_deviance_of_toys_are_those_expected(found: SlidingBackground) -> None:
    """Drawn from the function itself, predictions are unbiased, and the deviance has the distribution claimed."""
    toys = np.random.default_rng(5).poisson(TRUTH, (100, 40)).astype(float)
    fits = refit_sliding(found, toys)
    assert fits.good.all()
    pulls = (fits.prediction - TRUTH) / np.sqrt(TRUTH)
    error = pulls.std(axis=0) / np.sqrt(len(toys))
    assert np.abs(pulls.mean(axis=0) / error).max() < 4
    assert (pulls**2).mean(axis=0).sum() == pytest.approx(found.chosen.parameters, rel=0.25)
    assert fits.deviance.mean() == pytest.approx(found.chosen.ndof, abs=4 * fits.deviance.std() / 10)
    p_values = stats.chi2.sf(fits.deviance, found.chosen.ndof)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    # the spectrum itself once more
    again = refit_sliding(found, drawn(TRUTH).counts[None])
    np.testing.assert_allclose(again.prediction[0], found.prediction, rtol=1e-6)
    assert again.deviance[0] == pytest.approx(found.chosen.deviance, abs=1e-3)


def test_narrow_windows_follow_what_the_function_cannot() -> None:
    spectrum = drawn(CURVED)
    found = sliding_background(DIJET3, spectrum, 13000.0, half_widths=[4, HALF, 19])
    assert [one.half_width for one in found.tried] == [19, HALF]
    assert found.tried[0].p_value < 1e-20
    assert (found.accepted, found.chosen.half_width) == (True, HALF)
    assert np.abs((found.prediction - CURVED) / np.sqrt(CURVED))[1:-1].max() < 3


def test_the_least_bad_width_is_no_accepted_one() -> None:
    found = slid(drawn(500 * CURVED))
    assert not found.accepted
    assert found.chosen.p_value < 1e-6


def test_windows_that_fail_leave_the_others() -> None:
    """Where there is next to nothing, fits run away, and their derivatives are no numbers."""
    bins = np.arange(40)
    counts = np.where(bins < 5, 400.0, np.where(bins % 4 == 3, 1.0, 0.0))
    found = slid(checked(EDGES, counts, name="sparse"))
    good = found.fit.good
    assert found.chosen.failed == (~good).sum() > 0
    assert (found.accepted, found.chosen.p_value) == (False, 0.0)
    np.testing.assert_array_equal(np.isnan(found.prediction), ~good[found.row])
    kept = good[found.row]
    ratio = np.where(counts > 0, counts, 1.0)[kept] / found.prediction[kept]
    expected = 2 * np.sum(found.prediction[kept] - counts[kept] + counts[kept] * np.log(ratio))
    assert found.chosen.deviance == pytest.approx(expected, rel=1e-9)
    assert 0 < found.chosen.parameters < kept.sum()
    with pytest.raises(
        FitError, match=r"\d of 24 windows did not converge, expected .*; choose wider windows"
    ):
        refit_sliding(found, counts[None])


@pytest.mark.slow
def test_no_window_that_converges() -> None:
    counts = np.where(np.arange(30) % 7 < 5, np.random.default_rng(0).poisson(2, 30) + 1.0, 0.0)
    spectrum = checked(np.geomspace(489.0, 2037.0, 31), counts, name="sparse")
    found = sliding_background(resolve("ua2-4"), spectrum, 13000.0, half_widths=[4])
    assert found.chosen == (4, 0.0, 0.0, 0.0, 0.0, found.first.size)
    assert np.isnan(found.prediction).all()


def test_a_hidden_signal_is_not_absorbed(found: SlidingBackground) -> None:
    share = Gaussian(0.03).fractions([1000.0], EDGES)[0]
    events = 4000.0
    spectrum = drawn(TRUTH + events * share)
    hidden = slid(masked(spectrum, [(910.0, 1090.0)]))
    there = share > 0.01 * share.max()

    def excess(background: SlidingBackground) -> float:
        return float((spectrum.counts - background.prediction)[there].sum())

    # the data of the window itself, and what its sides say of it
    assert excess(hidden) == pytest.approx(events, abs=4 * 2 * np.sqrt(TRUTH[there].sum()))
    assert excess(slid(spectrum)) < 0.8 * excess(hidden)
    assert hidden.accepted


@pytest.mark.slow
def test_a_signal_that_is_fitted_is_not_absorbed() -> None:
    """In the bins of the peak, where the fit has it at the right mass."""
    share = Gaussian(0.03).fractions([1000.0], EDGES)[0]
    spectrum = drawn(TRUTH + 4000.0 * share)
    peak = int(np.argmax(share))
    without, with_it = slid(spectrum), slid(spectrum, peak=Gaussian(0.03))
    excess = [(spectrum.counts - one.prediction)[peak] / (4000 * share[peak]) for one in (without, with_it)]
    assert excess[1] == pytest.approx(1.0, abs=0.25)
    assert excess[0] < excess[1]
    # the central bin is the signal's: its own count says little of the background
    toys = np.random.default_rng(5).poisson(TRUTH, (60, 40)).astype(float)
    null = slid(drawn(TRUTH), peak=Gaussian(0.03))
    fits = refit_sliding(null, toys)
    assert fits.good.mean() > 0.9
    assert fits.deviance[fits.good].mean() == pytest.approx(null.chosen.ndof, rel=0.1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"half_widths": [0, 5]}, "half width of 0 bins, expected at least 1"),
        ({"half_widths": [1, 30]}, "no windows of 1, 30 bins on each side fit into 40 bins"),
        ({"level": 1.5}, "level of the p-value is 1.5"),
    ],
)
def test_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(FitError, match=says):
        sliding_background(DIJET3, drawn(TRUTH), 13000.0, **options)  # type: ignore[arg-type]


def test_toys_need_fits_of_the_data(found: SlidingBackground) -> None:
    good = np.arange(found.first.size) > 1
    with pytest.raises(FitError, match="2 of 24 windows did not converge"):
        refit_sliding(found._replace(fit=found.fit._replace(good=good)), np.ones((1, 40)))
