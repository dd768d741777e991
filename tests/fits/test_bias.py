"""Pseudo-data with a known signal, against weighted least squares, against limits found as roots, and by what must come back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from trila.fits import bias
from trila.fits.background import BackgroundFit, fit_background, whole
from trila.fits.bias import coverage, injection, spurious_signal
from trila.fits.errors import FitError
from trila.fits.functions import Domain, expectation, resolve
from trila.fits.likelihood import Observation
from trila.fits.limits import upper_limits
from trila.fits.profile import Profile, profile
from trila.fits.search import Form, Search, search, templates
from trila.fits.signal_systematics import uncertainties
from trila.fits.signals import Gaussian
from trila.fits.spectrum import Spectrum, checked, from_rows

Array = NDArray[np.float64]

EDGES = np.geomspace(500.0, 3000.0, 25)
#: More masses than a small call has, so that all fits of this file are one compiled function.
MASSES = np.linspace(700.0, 1500.0, 9)


@pytest.fixture(scope="module")
def found() -> Search:
    """10⁸ events that follow a power law, and a search with it."""
    shape = expectation("powerlaw", EDGES, [1.0, 5.0], domain=Domain(500.0, 3000.0, 13000.0))
    counts = np.random.default_rng(3).poisson(1e8 * shape / shape.sum())
    fit = fit_background(resolve("powerlaw"), whole(checked(EDGES, counts, name="toy"), 13000.0))
    return search(fit, templates(Gaussian(0.06), MASSES, EDGES))


def least_squares(found: Search, counts: Array, i: int) -> tuple[Array, float]:
    """Signal events of each set of counts and their error, (T,): a linear fit with the errors of the background."""
    error = np.sqrt(found.fit.prediction[0])
    matrix = np.column_stack([found.templates.nominal[i], found.fit.jacobian[0]]) / error[:, None]
    inverse = np.linalg.inv(matrix.T @ matrix)
    pulls = (np.atleast_2d(counts) - found.fit.prediction[0]) / error
    return (pulls @ matrix @ inverse)[:, 0], float(np.sqrt(inverse[0, 0]))


def test_no_spurious_signal_of_the_same_function(found: Search) -> None:
    same = spurious_signal(found, found.fit)
    np.testing.assert_array_equal(same.masses, MASSES)
    np.testing.assert_allclose(same.ratio, 0.0, atol=1e-4)
    errors = [least_squares(found, EDGES[1:], i)[1] for i in range(MASSES.size)]
    np.testing.assert_allclose(same.sigma, errors, rtol=1e-3)


def test_spurious_signals_are_those_of_least_squares(found: Search) -> None:
    """A background with a ripple of 4e-4: what a linear fit of signal and background makes of it at each mass."""
    ripple = found.fit.prediction * (1 + 4e-4 * np.sin(9 * np.log(EDGES[1:])))
    wrong = spurious_signal(found, found.fit._replace(prediction=ripple))
    expected = [least_squares(found, ripple[0], i)[0][0] for i in range(MASSES.size)]
    assert np.abs(wrong.ratio).max() > 1
    np.testing.assert_allclose(wrong.spurious, expected, atol=5e-3 * wrong.sigma.max())
    np.testing.assert_allclose(wrong.ratio, wrong.spurious / wrong.sigma)


def with_signal(found: Search, events: float) -> BackgroundFit:
    """A background with a signal at the middle mass."""
    return found.fit._replace(prediction=found.fit.prediction + events * found.templates.nominal[4])


def test_a_signal_in_the_background_is_what_is_found(found: Search) -> None:
    assert spurious_signal(found, with_signal(found, 2e4)).spurious[4] == pytest.approx(2e4, rel=1e-3)


@pytest.mark.slow
def test_uncertainties_take_no_part_of_a_spurious_signal(found: Search) -> None:
    """One of them is a spurious signal itself."""
    sick = with_signal(found, 2e4)
    sources = uncertainties(["spurious=10000", "luminosity=0.1"])
    uncertain = search(found.fit, templates(Gaussian(0.06), MASSES, EDGES, sources))
    tested = spurious_signal(uncertain, sick)
    assert tested.spurious[4] == pytest.approx(2e4, rel=1e-3)
    np.testing.assert_allclose(tested.sigma, spurious_signal(found, sick).sigma, rtol=1e-4)


def test_injected_signals_come_back(found: Search) -> None:
    toys = 150
    tested = injection(found, strengths=(0.0, 1.0, 5.0), toys=toys, seed=(5, 1))
    sigma = spurious_signal(found, found.fit).sigma
    np.testing.assert_allclose(tested.injected, sigma[:, None] * [0.0, 1.0, 5.0], rtol=1e-6)
    assert (tested.failed.max(), tested.at_bound.max()) == (0, 0)
    assert tested.pulls.shape == (MASSES.size, 3, toys)
    np.testing.assert_allclose(tested.mean_pull, tested.pulls.mean(axis=-1), rtol=1e-10)
    np.testing.assert_allclose(tested.width, tested.pulls.std(axis=-1, ddof=1), rtol=1e-10)
    assert np.all(np.abs(tested.mean_pull) < 3.5 / np.sqrt(toys))
    assert np.all(np.abs(tested.width - 1) < 3.5 / np.sqrt(2 * toys))
    np.testing.assert_allclose(tested.mean_pull_error, 1 / np.sqrt(toys), rtol=0.25)
    np.testing.assert_allclose(tested.width_error, 1 / np.sqrt(2 * toys), rtol=0.25)
    # no fluctuation hides the slope: toys of all strengths share random numbers
    assert tested.slope_error.max() < 1e-3
    np.testing.assert_allclose(tested.slope, 1.0, atol=2e-3)
    assert np.all(np.abs(tested.offset) < 3.5 * tested.offset_error)
    np.testing.assert_allclose(tested.fitted[:, 0], tested.offset * sigma, atol=0.01 * sigma.max())
    # masses have random numbers of their own
    assert np.corrcoef(tested.pulls[0, 0], tested.pulls[1, 0])[0, 1] < 0.4


def test_toys_of_another_background_are_biased_by_its_spurious_signal(found: Search) -> None:
    ripple = found.fit._replace(prediction=found.fit.prediction * (1 + 4e-4 * np.sin(9 * np.log(EDGES[1:]))))
    tested = injection(found, strengths=(0.0,), toys=100, truth=ripple)
    expected = spurious_signal(found, ripple).ratio
    assert np.all(np.abs(tested.mean_pull[:, 0] - expected) < 3.5 / np.sqrt(100))
    assert np.isnan(tested.slope).all()


def test_covered_is_where_the_limit_is_above(found: Search) -> None:
    """Limits of the same toys, found as roots."""
    one = search(found.fit, templates(Gaussian(0.06), np.full(9, MASSES[2]), EDGES))
    toys, strength = 45, 2.0
    tested = coverage(one, strengths=(strength,), toys=toys, seed=4)
    sigma = spurious_signal(one, one.fit).sigma[0]
    np.testing.assert_allclose(tested.injected, strength * sigma, rtol=1e-6)
    covered = 0
    for first in range(0, toys, 9):
        values = np.zeros(one.model.start.size)
        values[0] = strength * sigma / one.unit[0]
        drawn = bias.model_toys(one.model, values, toys, (4, 0)).counts[first : first + 9]
        model = one.model._replace(observation=Observation(drawn, np.zeros(values.size)))
        covered += int(np.sum(upper_limits(model).observed > values[0]))
    assert tested.covered[0, 0] == covered / toys
    assert 0.85 < tested.covered[0, 0] < 1
    interval = stats.binomtest(covered, toys).proportion_ci(stats.norm.cdf(1) - stats.norm.cdf(-1))
    assert (tested.low[0, 0], tested.high[0, 0]) == pytest.approx((interval.low, interval.high), rel=1e-6)


def test_coverage_follows_the_level(found: Search) -> None:
    """Of strong signals the level itself, of weak ones more: CLs."""
    tested = coverage(found, strengths=(0.3, 4.0), toys=200, level=0.8, seed=2)
    assert tested.covered[:, 0].min() == 1.0
    assert (tested.low[0, 0], tested.high[0, 0]) == pytest.approx((0.1586553 ** (1 / 200), 1.0))
    strong = tested.covered[:, 1]
    assert np.all(np.abs(strong - 0.8) < 3.5 * np.sqrt(0.16 / 200))
    assert strong.mean() == pytest.approx(0.8, abs=0.03)
    assert (tested.toys, tested.level, tested.failed.max()) == (200, 0.8, 0)


def test_failed_toys_are_counted_and_never_covered(found: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*given: Any) -> Profile:
        fits = profile(*given)
        if len(given) > 1:
            fits.best.converged[:3] = False
        return fits

    good = injection(found, strengths=(0.0, 1.0), toys=20), coverage(found, strengths=(0.3,), toys=20)
    monkeypatch.setattr(bias, "profile", failing)
    tested, covered = (
        injection(found, strengths=(0.0, 1.0), toys=20),
        coverage(found, strengths=(0.3,), toys=20),
    )
    assert np.all(tested.failed == 3)
    np.testing.assert_allclose(tested.mean_pull, good[0].pulls[..., 3:].mean(axis=-1))
    assert np.isnan(tested.pulls[..., :3]).all()
    np.testing.assert_allclose(tested.slope, 1.0, atol=5e-3)
    assert np.all(covered.failed == 3)
    np.testing.assert_allclose(good[1].covered - covered.covered, 3 / 20)


def test_messages(found: Search) -> None:
    with pytest.raises(
        FitError, match=r"the strength of a signal in its errors contains -1, expected .*; give 0 or"
    ):
        injection(found, strengths=(0.0, -1.0))
    with pytest.raises(
        FitError, match=r"1 toys, expected at least 2 for a width; give a number such as 1000"
    ):
        injection(found, toys=1)
    with pytest.raises(
        FitError, match=r"strengths of shape \(0,\), expected a list of at least one, such as"
    ):
        injection(found, strengths=())
    with pytest.raises(
        FitError, match=r"signal in its errors contains 0, expected .* above 0; a limit covers 0 always"
    ):
        coverage(found, strengths=(0.0, 1.0))
    with pytest.raises(
        FitError, match=r"the confidence level is 95, expected a value between 0 and 1; give 0\.95"
    ):
        coverage(found, level=95)
    with pytest.raises(FitError, match=r"0 toys, expected at least 1"):
        coverage(found, toys=0)
    windows = found.fit.windows
    other = found.fit._replace(windows=windows._replace(weight=0.5 * windows.weight))
    with pytest.raises(
        FitError, match=r"powerlaw was fitted to 1 windows from 500 to 3000 GeV, .*expected the same bins"
    ):
        spurious_signal(found, other)


def dijets() -> tuple[Spectrum, Array]:
    """5·10⁸ dijets in bins of 4 to 7% in mass, and masses to search at."""
    edges = np.append(np.geomspace(489.0, 6564.0, 51), 7000.0)
    shape = expectation("dijet4", edges, [1.0, 11.0, 5.8, 0.1], domain=Domain(489.0, 7000.0, 13000.0))
    counts = np.random.default_rng(8).poisson(5e8 * shape / shape.sum())
    return checked(edges, counts, name="5e8 dijets"), np.array([700.0, 1200.0, 2500.0])


def published(data_dir: Path) -> tuple[Spectrum, Array]:
    """CMS, arXiv:1911.03947: from a million events in a bin down to none."""
    file = data_dir / "hepdata" / "cms_dijet_137fb_ins1764471.csv"
    low, high, count = np.loadtxt(file, delimiter=",", comments=["#", "low"], usecols=(0, 1, 2), unpack=True)
    return from_rows(low, high, count, name="CMS 137/fb"), np.array([2000.0, 4500.0, 6500.0])


@pytest.fixture(scope="module", params=["5e8 events, linear", "137/fb, linear", "137/fb, exact"])
def acceptance(request: pytest.FixtureRequest) -> Search:
    many, form = str(request.param).split(", ")
    spectrum, masses = dijets() if many == "5e8 events" else published(request.getfixturevalue("data_dir"))
    fit = fit_background(resolve("dijet4"), whole(spectrum, 13000.0))
    assert fit.p_value[0] > 0.05
    chosen: Form = "linear" if form == "linear" else "exact"
    return search(fit, templates(Gaussian(0.05), masses, spectrum.edges), form=chosen)


@pytest.mark.slow
def test_pulls_of_injected_signals(acceptance: Search) -> None:
    tested = injection(acceptance, toys=2000, seed=11)
    assert tested.failed.max() == 0
    assert np.abs(tested.mean_pull).max() < 0.2
    assert tested.width.min() > 0.9
    assert tested.width.max() < 1.1
    np.testing.assert_allclose(tested.slope, 1.0, atol=0.02)
    assert np.abs(tested.offset).max() < 0.2


@pytest.mark.slow
def test_limits_cover(acceptance: Search) -> None:
    tested = coverage(acceptance, toys=3000, seed=12)
    assert tested.failed.max() == 0
    assert tested.covered.min() >= 0.94
    # no more than CLs needs to: a strong signal is excluded in about 5% of all toys
    assert tested.covered[:, -1].max() < 0.965


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form", "least", "most"),
    [
        ("dijet4", "linear", 0.0, 1e-3),
        ("dijet5", "linear", 0.0, 1e-2),
        ("dijet3", "linear", 5.0, np.inf),
        ("dijet3", "exact", 5.0, np.inf),
    ],
)
def test_a_wrong_function_is_found_out(name: str, form: Form, least: float, most: float) -> None:
    """5·10⁸ dijets that follow four parameters: five find no signal, three do not describe them."""
    spectrum, masses = dijets()
    windows = whole(spectrum, 13000.0)
    signal = templates(Gaussian(0.05), masses, spectrum.edges)
    truth, tested = (fit_background(resolve(each), windows) for each in ("dijet4", name))
    ratio = np.abs(spurious_signal(search(tested, signal, form=form), truth).ratio).max()
    assert least <= ratio <= most
