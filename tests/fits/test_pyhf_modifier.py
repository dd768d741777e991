"""The exact background as a pyhf model: rates against adaptive quadrature, likelihoods against ours, limits by five ways."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyhf
import pytest
from iminuit import Minuit
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from trila.fits.background import fit_background, whole
from trila.fits.functions import Domain, density, expectation, resolve
from trila.fits.likelihood import Observation, deviance
from trila.fits.limits import Limits, upper_limits
from trila.fits.linear_basis import workspace
from trila.fits.minimise import Minimum
from trila.fits.profile import Profile
from trila.fits.pyhf_backend import pyhf_backend
from trila.fits.pyhf_modifier import exact_model, modifier_set
from trila.fits.search import Search, search, templates
from trila.fits.signal_systematics import uncertainties
from trila.fits.signals import signal
from trila.fits.spectrum import checked, masked

#: pyhf's schema validation, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")

EDGES = np.geomspace(500.0, 2500.0, 16)
SQRT_S = 13000.0
SOURCES = ("luminosity=0.02", "scale=0.02", "spurious=40")


@pytest.fixture(scope="module")
def found() -> Search:
    """One mass; the fifth bin is not looked at."""
    truth = expectation("dijet3", EDGES, [0.02, 6.0, 5.0], domain=Domain(500.0, 2500.0, SQRT_S))
    counts = np.random.default_rng(1).poisson(truth)
    spectrum = masked(checked(EDGES, counts, name="toy"), [(EDGES[4], EDGES[5])])
    fit = fit_background(resolve("dijet3"), whole(spectrum, SQRT_S))
    shapes = templates(signal("gauss:0.05"), [900.0], EDGES, uncertainties(SOURCES))
    return search(fit, shapes, form="exact")


@pytest.fixture(scope="module")
def limits() -> Limits:
    """Some numbers, without the fits behind them."""
    none = Minimum(*(np.zeros((1, 0)) for _ in Minimum._fields))
    fits = Profile(Observation(np.zeros((1, 0)), np.zeros((1, 0))), np.arange(1), none, none)
    bands = np.array([[1.0, 1.4, 2.0, 2.7, 3.7]])
    return Limits(np.ones(1), bands, np.zeros(1), np.ones(1), fits, none, np.ones((1, 6), dtype=bool))


def parameters(model: Any, found: Search, values: np.ndarray) -> np.ndarray:
    """Parameters of a search in pyhf's order."""
    ours = dict(zip(found.model.parameters, values, strict=True))
    names = [
        name.replace("_dijet[", "_").rstrip("]").removesuffix("_dijet") for name in model.config.par_names
    ]
    return np.array([ours[name] for name in names])


@pytest.mark.parametrize("backend", ["numpy", pytest.param("jax", marks=pytest.mark.slow)])
def test_rates_are_integrals_of_the_function(found: Search, limits: Limits, backend: Any) -> None:
    """Without signal, each bin by adaptive quadrature of the density with its own parameters."""
    rng = np.random.default_rng(3)
    values = np.zeros(len(found.model.parameters))
    values[-3:] = rng.normal(0, 3, 3)
    coordinates = found.fit.point[0] + found.fit.transform[0] @ values[-3:]
    own = [np.exp(coordinates[0]), *coordinates[1:]]
    domain = Domain(500.0, 2500.0, SQRT_S)
    slow = [
        quad(lambda m: float(density("dijet3", m, own, domain=domain)), low, high, epsrel=1e-11)[0]
        for i, (low, high) in enumerate(pairwise(EDGES))
        if i != 4
    ]
    with pyhf_backend(backend, "scipy"):
        model, data = exact_model(found, 0, limits, name="dijet")
        rates = np.asarray(model.expected_actualdata(parameters(model, found, values)))
    np.testing.assert_allclose(rates, slow, rtol=1e-9)
    assert len(data) == len(slow) + 3


def test_differences_of_the_likelihood_are_ours(found: Search, limits: Limits) -> None:
    rng = np.random.default_rng(4)
    ours = found.model.observed()
    observation = Observation(ours.counts[0], ours.auxiliary[0])
    theirs, here = [], []
    with pyhf_backend("numpy", "scipy"):
        model, data = exact_model(found, 0, limits, name="dijet")
        for _ in range(5):
            values = rng.normal(0, 1, len(found.model.parameters))
            values[0] = rng.uniform(0, 3)
            theirs.append(-2 * model.logpdf(parameters(model, found, values), data)[0])
            here.append(deviance(found.model.structure, found.model.tensors_of(0), observation, values))
    np.testing.assert_allclose(np.diff(theirs), np.diff(here), rtol=1e-7)


def test_batches_and_several_channels(found: Search, limits: Limits) -> None:
    """Two channels with a function each: rates of a batch are those of its rows, and of the channels alone."""
    with pyhf_backend("numpy", "scipy"):
        one, _ = exact_model(found, 0, limits, name="one")
        two, _ = exact_model(found, 0, limits, name="two")
        both = {key: one.spec[key] + two.spec[key] for key in ("channels",)}
        settings = {"modifier_set": modifier_set(), "validate": False, "poi_name": "mu"}
        model = pyhf.Model(both, **settings)
        batched = pyhf.Model(both, batch_size=3, **settings)
        rows = np.random.default_rng(1).normal(0, 1, (3, model.config.npars))
        single = np.array([model.expected_actualdata(row) for row in rows])
        np.testing.assert_allclose(batched.expected_actualdata(rows), single, rtol=1e-12)
        for position, alone in enumerate((one, two)):
            names = [model.config.par_names.index(name) for name in alone.config.par_names]
            part = single[:, 14 * position : 14 * (position + 1)]
            np.testing.assert_allclose(part[0], alone.expected_actualdata(rows[0][names]), rtol=1e-12)


def test_models_without_the_modifier_are_left_alone() -> None:
    plain = pyhf.simplemodels.uncorrelated_background([1.0], [10.0], [1.0])
    ours = pyhf.Model(plain.spec, modifier_set=modifier_set(), validate=False, poi_name="mu")
    np.testing.assert_allclose(ours.expected_data([2.0, 1.1]), plain.expected_data([2.0, 1.1]))


class Direct:
    """The parametric likelihood, written out anew: raw parameters, Minuit, and the formulas of q̃."""

    def __init__(
        self, counts: np.ndarray, edges: np.ndarray, fractions: np.ndarray, start: np.ndarray
    ) -> None:
        nodes, weights = np.polynomial.legendre.leggauss(10)
        half, centre = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
        self.x, self.weights = (centre + half * nodes) / SQRT_S, half * weights
        self.counts, self.fractions, self.start = counts, fractions, start
        # Minuit works in steps of about the errors of the raw parameters
        log_x = np.log(self.x)
        slopes = [np.ones_like(log_x), np.log1p(-self.x), -log_x, -(log_x**2), -(log_x**3)]
        pulls = np.array([(self.background(start, s)) / np.sqrt(self.background(start)) for s in slopes]).T
        self.covariance = np.linalg.inv(pulls.T @ pulls)

    def background(self, p: np.ndarray, factor: Any = 1.0) -> np.ndarray:
        log_x = np.log(self.x)
        exponent = p[0] + p[1] * np.log1p(-self.x) - p[2] * log_x - p[3] * log_x**2 - p[4] * log_x**3
        return np.asarray((np.exp(exponent) * factor * self.weights).sum(axis=1))

    def fit(self, counts: np.ndarray, events: float | None) -> tuple[float, np.ndarray]:
        """Smallest deviance and its parameters (signal in units of 1000 events first), with the signal held or free."""
        turn = np.linalg.cholesky(self.covariance)

        def cost(values: np.ndarray) -> float:
            rate = self.background(self.start + turn @ values[1:]) + 1000 * values[0] * self.fractions
            return float(2 * np.sum(rate - counts - counts * np.log1p((rate - counts) / counts)))

        minuit = Minuit(cost, np.array([0.0 if events is None else events / 1000, *np.zeros(5)]))
        minuit.fixed["x0"] = events is not None
        minuit.strategy, minuit.tol = 2, 1e-4
        for _ in range(3):
            minuit.migrad()
        values = np.array(minuit.values)
        assert minuit.fval is not None
        return minuit.fval, values

    def limits(self, guess: float) -> np.ndarray:
        """Observed limit and the five bands, in events."""
        lowest, best = self.fit(self.counts, None)
        if best[0] < 0:
            lowest = self.fit(self.counts, 0.0)[0]
        background = self.fit(self.counts, 0.0)[1][1:]
        asimov = self.background(self.start + np.linalg.cholesky(self.covariance) @ background)

        def q(counts: np.ndarray, events: float, floor: float) -> float:
            return max(self.fit(counts, events)[0] - floor, 0.0)

        def observed(events: float) -> float:
            width = np.sqrt(q(asimov, events, 0.0))
            root = np.sqrt(q(self.counts, events, lowest)) if events > 1000 * best[0] else 0.0
            t = root - width if root <= width else (root**2 - width**2) / (2 * width)
            return float(norm.sf(t + width) / norm.sf(t) - 0.05)

        def band(events: float, number: float) -> float:
            target = norm.isf(0.05 * norm.cdf(number)) + number
            return float(np.sqrt(q(asimov, events, 0.0)) - target)

        found = [brentq(observed, 0.2 * guess, 6 * guess, rtol=1e-5)]
        for number in (-2, -1, 0, 1, 2):
            found.append(brentq(band, 0.2 * guess, 6 * guess, args=(number,), rtol=1e-5))
        return np.array(found)


@pytest.mark.slow
def test_five_ways_to_a_limit_agree() -> None:
    """5·10⁸ events in 60 bins, dijet5, a Gaussian of 5%: the limits of all ways agree to 0.2%."""
    edges = np.geomspace(500.0, 2500.0, 61)
    domain = Domain(500.0, 2500.0, SQRT_S)
    shape = expectation("dijet5", edges, [1.0, 8.0, 6.0, 0.25, 0.02], domain=domain)
    counts = np.random.default_rng(3).poisson(5e8 * shape / shape.sum())
    fit = fit_background(resolve("dijet5"), whole(checked(edges, counts, name="toy"), SQRT_S))
    gaussian = templates(signal("gauss:0.05"), [1000.0], edges)
    linear, exact = search(fit, gaussian), search(fit, gaussian, form="exact")
    ways = {}
    limits = upper_limits(linear.model)
    ways["linear"] = np.append(limits.observed, limits.expected) * linear.unit
    ours = upper_limits(exact.model)
    ways["exact"] = np.append(ours.observed, ours.expected) * exact.unit
    with pyhf_backend("numpy", "minuit"):
        read = pyhf.Workspace(workspace(linear, 0, limits, name="dijet"))
        model = read.model()
        models = {
            "linear, pyhf": (model, read.data(model)),
            "exact, pyhf": exact_model(exact, 0, ours, name="dijet"),
        }
        for name, (model, data) in models.items():
            observed, bands = pyhf.infer.intervals.upper_limits.upper_limit(data, model, scan=None)
            ways[name] = np.array([observed, *bands]) * linear.unit[0]
    fractions = norm.cdf(edges[1:], 1000, 50) - norm.cdf(edges[:-1], 1000, 50)
    start = np.array([np.log(fit.values[0, 0]), *fit.values[0, 1:]])
    direct = Direct(counts.astype(float), edges, fractions, start).limits(ways["exact"][3])
    for name, found in ways.items():
        np.testing.assert_allclose(found, direct, rtol=2e-3, err_msg=name)
