"""Where the linear form holds and where not, and expansions about other points, against the function itself."""

import numpy as np
import pytest

from trila.fits.background import BackgroundFit, fit_background, whole
from trila.fits.functions import Domain, expectation, resolve
from trila.fits.limits import upper_limits
from trila.fits.linear_validity import Validity, relinearised, validity
from trila.fits.search import Search, SignalTemplates, search, templates
from trila.fits.signal_systematics import uncertainties
from trila.fits.signals import signal
from trila.fits.spectrum import checked

EDGES = np.geomspace(1000.0, 4000.0, 21)
DOMAIN = Domain(1000.0, 4000.0, 13000.0)
MASSES = np.array([1500.0, 2000.0, 2500.0, 3000.0, 3500.0])


def fitted(events: float) -> BackgroundFit:
    shape = expectation("dijet3", EDGES, [1.0, 10.0, 5.0], domain=DOMAIN)
    counts = np.random.default_rng(1).poisson(events * shape / shape.sum())
    return fit_background(resolve("dijet3"), whole(checked(EDGES, counts, name="toy"), 13000.0))


def gaussian() -> SignalTemplates:
    return templates(signal("gauss:0.1"), MASSES, EDGES, uncertainties(["luminosity=0.016"]))


def natural(found: Search, z: np.ndarray) -> np.ndarray:
    """The function's own parameters at whitened ones."""
    coordinates = found.fit.point[0] + found.fit.transform[0] @ z
    return np.array([np.exp(coordinates[0]), *coordinates[1:]])


def test_another_expansion_is_that_of_the_function_there() -> None:
    """Value and slopes by finite differences of the function, whose parameters have unit errors and no correlations there."""
    found = search(fitted(5000), gaussian())
    values = np.array([1.0, 0.0, 2.0, -1.5, 1.0])
    there = relinearised(found, 2, values)
    assert there.templates.masses.tolist() == [2500.0]
    counts = expectation("dijet3", EDGES, natural(found, values[-3:]), domain=DOMAIN)
    np.testing.assert_allclose(there.fit.prediction[0], counts, rtol=1e-10)
    np.testing.assert_allclose(natural(there, np.zeros(3)), natural(found, values[-3:]), rtol=1e-10)
    for k, unit in enumerate(np.eye(3) * 1e-4):
        up, down = (
            expectation("dijet3", EDGES, natural(there, sign * unit), domain=DOMAIN) for sign in (1, -1)
        )
        np.testing.assert_allclose(
            there.fit.jacobian[0, :, k], (up - down) / 2e-4, rtol=1e-5, atol=1e-6 * counts.max()
        )
    pulls = there.fit.jacobian[0] / np.sqrt(counts)[:, None]
    np.testing.assert_allclose(pulls.T @ pulls, np.eye(3), atol=1e-9)


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        ({}, True),
        ({"background": 0.21}, False),
        ({"limit": 0.011}, False),
        ({"best_fit": 0.011}, False),
        ({"sigma": 0.011}, False),
        ({"width": 1.3}, False),
        ({"width": 0.75}, False),
        ({"limit": np.nan}, False),
        ({"width": np.nan}, False),
    ],
)
def test_what_is_accepted(changed: dict[str, float], good: bool) -> None:
    fine = {"background": 0.19, "limit": 0.009, "best_fit": 0.009, "sigma": 0.009, "width": 0.85} | changed
    assert Validity(**{name: np.array([value]) for name, value in fine.items()}).good.tolist() == [good]


@pytest.mark.slow
def test_many_events_make_the_function_linear() -> None:
    found = search(fitted(2e8), gaussian())
    checks = validity(found, upper_limits(found.model))
    assert checks.good.all()
    assert checks.background.max() < 0.01
    assert checks.limit.max() < 1e-3
    np.testing.assert_allclose(checks.width, 1.0, atol=5e-3)


@pytest.mark.slow
def test_few_events_need_another_expansion() -> None:
    """In the tail of 5000 events the linear form misses the observed limit; about the fit at the limit it is right."""
    found = search(fitted(5000), gaussian())
    limits = upper_limits(found.model)
    exact = search(found.fit, found.templates, form="exact")
    truth = upper_limits(exact.model).observed * exact.unit
    checks = validity(found, limits)
    assert not checks.good.any()
    assert checks.background.min() > 0.2
    assert abs(limits.observed[2] * found.unit[2] / truth[2] - 1) > 0.03
    assert checks.limit[2] > 0.03
    for index in range(MASSES.size):
        there = relinearised(found, index, limits.at_limit.values[index])
        observed = upper_limits(there.model).observed * there.unit
        assert observed[0] == pytest.approx(truth[index], rel=0.01)
