"""Gaussian processes as background, against closed forms of their regression and searches with functions."""

import numpy as np
import pytest
from scipy import linalg, stats

from trila.fits.asymptotics import BANDS
from trila.fits.background import BackgroundFit, fit_background, whole
from trila.fits.bias import spurious_signal
from trila.fits.certificates import certify
from trila.fits.errors import FitError
from trila.fits.functions import Domain, expectation, resolve
from trila.fits.gaussian_process import (
    LENGTH_FLOOR,
    GaussianProcess,
    Hyperparameters,
    bin_covariance,
    gaussian_process,
    kernel,
    log_evidence,
    modes,
)
from trila.fits.limits import upper_limits
from trila.fits.linear_basis import workspace
from trila.fits.look_elsewhere import scan_toys
from trila.fits.profile import profile
from trila.fits.search import Search, linearity, search, templates
from trila.fits.signals import Gaussian
from trila.fits.significance import discovery
from trila.fits.spectrum import checked, masked
from trila.fits.toys import refit
from trila.fits.workspaces import from_workspace

#: pyhf's schema validation, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")

EDGES = np.geomspace(489.0, 2037.0, 27)
DOMAIN = Domain(489.0, 2037.0, 13000.0)
SIGNAL = Gaussian(0.05)
FLOOR = LENGTH_FLOOR * SIGNAL.width(EDGES)
MASSES = np.array([700.0, 1000.0, 1400.0])
#: No three parameters describe it.
CURVED = expectation("dijet5", EDGES, [1.0, 9.0, 5.5, 0.5, 0.2], domain=DOMAIN)
CURVED *= 3e7 / CURVED.sum()
GIVEN = Hyperparameters(4e8, 150.0, 0.4, 100.0, 978.0)


def mean_of(counts: np.ndarray, name: str = "dijet3") -> BackgroundFit:
    return fit_background(resolve(name), whole(checked(EDGES, np.round(counts), name="toy"), 13000.0))


@pytest.fixture(scope="module")
def curved() -> BackgroundFit:
    return mean_of(np.random.default_rng(2).poisson(CURVED))


@pytest.fixture(scope="module")
def made(curved: BackgroundFit) -> GaussianProcess:
    return gaussian_process(curved, FLOOR)


@pytest.fixture(scope="module")
def found(made: GaussianProcess) -> Search:
    return search(made.fit, templates(SIGNAL, MASSES, EDGES))


def test_kernel_is_that_of_the_paper() -> None:
    x, y = 600.0, 750.0
    first, second = 0.4 * x + 100, 0.4 * y + 100
    spread = first**2 + second**2
    by_hand = (
        4e8 * np.exp((978 - x - y) / 300) * np.sqrt(2 * first * second / spread) * np.exp(-(150**2) / spread)
    )
    assert float(kernel(x, y, GIVEN)) == pytest.approx(by_hand)
    # a covariance of any masses
    points = np.linspace(489, 2037, 60)
    correlation = kernel(points[:, None], points, GIVEN._replace(a=1e9))
    assert np.linalg.eigvalsh(correlation).min() > -1e-6 * correlation.max()


def test_bins_hold_the_integral_of_the_kernel() -> None:
    total = bin_covariance(EDGES, GIVEN)
    for i, j in ((0, 0), (3, 4), (25, 25), (2, 20)):
        x, y = (np.linspace(EDGES[k], EDGES[k + 1], 201) for k in (i, j))
        x, y = ((z[1:] + z[:-1]) / 2 for z in (x, y))
        area = (EDGES[i + 1] - EDGES[i]) * (EDGES[j + 1] - EDGES[j])
        assert total[i, j] == pytest.approx(kernel(x[:, None], y, GIVEN).mean() * area, rel=1e-3)


def test_modes_reproduce_the_covariance() -> None:
    total = bin_covariance(EDGES, GIVEN)
    for variance in (CURVED, 1e-3 * CURVED):
        columns = modes(total, variance)
        assert columns.shape[1] < 20
        left = (columns @ columns.T - total) / np.sqrt(np.outer(variance, variance))
        assert np.abs(np.linalg.eigvalsh(left)).max() < 1.01e-4


def test_evidence_is_the_density_of_what_the_mean_cannot_move() -> None:
    rng = np.random.default_rng(1)
    design = np.linalg.qr(rng.normal(size=(12, 3)))[0]
    residual = rng.normal(size=12)
    outside = linalg.null_space(design.T)
    values = []
    for size in (0.3, 2.0):
        total = size * np.exp(-(np.subtract.outer(np.arange(12), np.arange(12)) ** 2) / 18)
        density = stats.multivariate_normal(cov=outside.T @ (np.eye(12) + total) @ outside)
        values.append(log_evidence(residual, design, total) - density.logpdf(outside.T @ residual))
    # a constant apart, which no hyper-parameter changes
    assert values[0] == pytest.approx(9 / 2 * np.log(2 * np.pi))
    assert values[1] == pytest.approx(values[0])


def test_large_counts_are_regression_in_closed_form() -> None:
    """Posterior mean of a Gaussian process with a linear mean of flat prior (Rasmussen and Williams, eq. (2.41))."""
    truth = expectation("dijet3", EDGES, [1.0, 9.0, 5.5], domain=DOMAIN)
    truth *= 1e12 / truth.sum()
    given = GIVEN._replace(A=1e12)
    mean = mean_of(np.random.default_rng(3).poisson(truth))
    fit = gaussian_process(mean, FLOOR, hyperparameters=given).fit
    counts, expected = mean.windows.counts[0], mean.prediction[0]
    total = bin_covariance(EDGES, given)
    noisy = np.linalg.inv(total + np.diag(expected))
    design = mean.jacobian[0]
    z = np.linalg.solve(design.T @ noisy @ design, design.T @ noisy @ (counts - expected))
    moved = design @ z
    posterior = expected + moved + total @ noisy @ (counts - expected - moved)
    assert fit.good[0]
    assert np.abs((fit.prediction[0] - posterior) / np.sqrt(expected)).max() < 1e-3
    # it has moved by more than that
    assert np.abs((fit.prediction[0] - expected) / np.sqrt(expected)).max() > 0.1


def test_it_describes_what_its_mean_does_not(curved: BackgroundFit, made: GaussianProcess) -> None:
    fit, chosen = made.fit, made.hyperparameters
    assert curved.p_value[0] < 1e-10
    assert fit.p_value[0] > 0.01
    assert 3 < EDGES.size - 1 - fit.ndof[0] < 15
    assert np.abs((fit.prediction[0] - CURVED) / np.sqrt(CURVED)).max() < 3
    assert np.all(chosen.b * EDGES + chosen.c >= FLOOR * (1 - 1e-9))
    # the most probable of all others tried
    for other in (
        chosen._replace(A=2 * chosen.A),
        chosen._replace(a=1.2 * chosen.a),
        chosen._replace(c=1.2 * chosen.c),
    ):
        if np.all(other.b * EDGES + other.c >= FLOOR):
            assert (
                gaussian_process(curved, FLOOR, hyperparameters=other).log_evidence
                <= made.log_evidence + 1e-6
            )


def test_hidden_bins_are_predicted(curved: BackgroundFit, made: GaussianProcess) -> None:
    counts = curved.windows.counts[0]
    hidden = masked(checked(EDGES, counts, name="toy"), [(1000.0, 1100.0)])
    mean = fit_background(resolve("dijet3"), whole(hidden, 13000.0))
    fit = gaussian_process(mean, FLOOR, hyperparameters=made.hyperparameters).fit
    away = ~hidden.used
    error = np.sqrt(np.einsum("ip,pq,iq->i", fit.jacobian[0], fit.covariance[0], fit.jacobian[0]))[away]
    pull = (fit.prediction[0] - CURVED)[away] / error
    assert np.abs(pull).max() < 4
    assert np.all(error < 3 * np.sqrt(CURVED[away]))


@pytest.mark.slow
def test_search_has_the_background_and_its_prior(found: Search) -> None:
    fits = profile(found.model)
    # without signal the fit of the background is the minimum: nothing moves
    np.testing.assert_allclose(fits.background.values, 0.0, atol=1e-3)
    assert linearity(found, fits.best.values, fits.which).max() < 1e-9
    limits = upper_limits(found.model)
    assert all(one.passed for one in certify(found.model, limits, check="all"))
    assert np.all(np.abs(limits.best_fit / limits.sigma) < 3)


@pytest.mark.slow
def test_a_signal_comes_back_as_large_as_it_was() -> None:
    events = np.array([6.0, 6.0, 6.0])
    share = SIGNAL.fractions(MASSES, EDGES)
    for k in range(3):
        size = events[k] / np.sqrt(np.sum(share[k] ** 2 / CURVED)) * 1.5
        mean = mean_of(np.random.default_rng(20 + k).poisson(CURVED + size * share[k]))
        made = search(gaussian_process(mean, FLOOR).fit, templates(SIGNAL, MASSES, EDGES))
        best = discovery(made.model)
        assert best.verified.all()
        assert best.best_fit[k] * made.unit[k] == pytest.approx(size, abs=3 * best.sigma[k] * made.unit[k])
        assert best.z_local[k] > 2


@pytest.mark.slow
def test_limits_are_near_those_of_functions() -> None:
    """The mean's own parameters are free: never better than its limits, and within a fifth of a function with one more."""
    truth = expectation("dijet4", EDGES, [1.0, 9.0, 5.5, 0.1], domain=DOMAIN)
    counts = np.random.default_rng(4).poisson(truth * 3e7 / truth.sum())
    made = templates(SIGNAL, MASSES, EDGES)

    def expected(fit: BackgroundFit) -> np.ndarray:
        model = search(fit, made)
        return np.asarray(upper_limits(model.model).expected[:, BANDS == 0][:, 0] * model.unit)

    three, four = (expected(mean_of(counts, name)) for name in ("dijet3", "dijet4"))
    ours = expected(gaussian_process(mean_of(counts), FLOOR).fit)
    assert np.all(ours > 0.999 * three)
    np.testing.assert_allclose(ours, four, rtol=0.2)
    assert np.mean(ours / four) > 0.95


@pytest.mark.slow
def test_toys_are_scanned_like_those_of_functions(found: Search) -> None:
    q0 = scan_toys(found, 60, seed=1)
    assert np.isfinite(q0).all()
    # half of the toys have no excess at a mass, and larger ones follow a χ² of one degree of freedom
    assert np.mean(q0 == 0) == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 180) * 1.5)
    assert np.mean(q0 > 1) == pytest.approx(stats.norm.sf(1), abs=4 * np.sqrt(0.16 * 0.84 / 180) * 1.5)


@pytest.mark.slow
def test_the_exported_model_has_the_same_limits(found: Search) -> None:
    limits = upper_limits(found.model)
    back = upper_limits(from_workspace(workspace(found, 1, limits, name="dijet")))
    assert back.observed[0] == pytest.approx(limits.observed[1], rel=1e-4)
    np.testing.assert_allclose(back.expected[0], limits.expected[1], rtol=1e-4)


def test_refused(curved: BackgroundFit, found: Search) -> None:
    with pytest.raises(
        FitError, match=r"least lengths of shape \(3,\) from 1 GeV on, expected a length above 0"
    ):
        gaussian_process(curved, np.ones(3))
    with pytest.raises(
        FitError, match=r"length of correlation is 208\.7 GeV at 2037 GeV, expected at least 407\.4 GeV"
    ):
        gaussian_process(curved, FLOOR, hyperparameters=GIVEN._replace(b=0.1, c=5.0))
    with pytest.raises(FitError, match="a mean of 1 windows, 0 of which converged"):
        gaussian_process(curved._replace(good=np.array([False])), FLOOR)
    with pytest.raises(FitError, match="gp:dijet3 has a prior on its parameters"):
        refit(found.fit, CURVED[None])
    with pytest.raises(FitError, match="gp:dijet3 has a prior on its parameters"):
        spurious_signal(found, found.fit)
