"""Envelopes of functions, against one function alone, a loop over functions and masses, and toys of another truth."""

import numpy as np
import pytest

from trila.fits.background import Windows, fit_background
from trila.fits.envelope import Envelope, envelope, envelope_discovery, envelope_limits
from trila.fits.errors import FitError
from trila.fits.families import Domain
from trila.fits.functions import expectation, resolve
from trila.fits.limits import upper_limits
from trila.fits.profile import conditional
from trila.fits.search import SignalTemplates, search, templates
from trila.fits.signals import Resolution
from trila.fits.significance import discovery

EDGES = np.linspace(20.0, 30.0, 31)
MASSES = np.array([23.0, 25.0, 27.0])
SIGNAL = templates(Resolution(0.02, 0.0), MASSES, EDGES)
EXPECTED = expectation("exppoly1", EDGES, [400.0, 2.0, 150.0], domain=Domain(20.0, 30.0, 13000.0))
LADDERS = (("bernstein2", "bernstein3", "bernstein4"), ("powerlaw",))


def windows(counts: np.ndarray) -> Windows:
    """The same bins, with counts of their own for each mass or toy."""
    edges = np.tile(EDGES, (len(counts), 1))
    return Windows(edges, np.asarray(counts, dtype=np.float64), np.ones(counts.shape), 13000.0)


def toys(number: int, seed: int) -> Windows:
    return windows(np.random.default_rng(seed).poisson(EXPECTED, size=(number, EXPECTED.size)))


def repeated(number: int, mass: float = 25.0) -> SignalTemplates:
    return templates(Resolution(0.02, 0.0), np.full(number, mass), EDGES)


def test_one_function_has_the_limits_of_its_search() -> None:
    data = toys(3, seed=1)
    one = search(fit_background(resolve("powerlaw"), data), SIGNAL)
    alone, significance = upper_limits(one.model), discovery(one.model)
    found = Envelope((one,), np.ones((1, 3), dtype=bool), np.array([2.0]))
    limits, excess = envelope_limits(found), envelope_discovery(found)
    assert limits.verified.all()
    np.testing.assert_allclose(limits.observed, alone.observed * one.unit, rtol=2e-6)
    np.testing.assert_allclose(limits.expected, alone.expected * one.unit[:, None], rtol=2e-6)
    np.testing.assert_allclose(limits.best_fit, alone.best_fit * one.unit, rtol=1e-9)
    np.testing.assert_allclose(limits.sigma, alone.sigma * one.unit, rtol=1e-9)
    np.testing.assert_allclose(excess.q0, significance.q0, rtol=1e-9)
    for chosen in (limits.background_function, limits.best_function, limits.limit_function):
        np.testing.assert_array_equal(chosen, 0)


def test_functions_are_those_of_the_f_test() -> None:
    """A power law is its own family; of the polynomials, each mass has the order that its data need."""
    steep = expectation("powerlaw", EDGES, [1e-10, 6.0], domain=Domain(20.0, 30.0, 13000.0))
    steep *= 1e6 / steep.sum()
    cubic = expectation("bernstein3", EDGES, [3e5, 1e5, 2.5e5, 1e5], domain=Domain(20.0, 30.0, 13000.0))
    line = expectation("bernstein2", EDGES, [3e5, 2e5, 1e5], domain=Domain(20.0, 30.0, 13000.0))
    counts = np.random.default_rng(11).poisson([steep, cubic, line])
    found = envelope(windows(counts), SIGNAL, ladders=LADDERS)
    chosen = [
        {name for name, used in zip(found.functions, found.used[:, i], strict=True) if used} for i in range(3)
    ]
    assert chosen[0] in ({"bernstein3", "powerlaw"}, {"bernstein4", "powerlaw"})
    assert chosen[1] == {"bernstein3", "powerlaw"}
    assert chosen[2] == {"bernstein2", "powerlaw"}
    parameters = {"bernstein2": 3, "bernstein3": 4, "bernstein4": 5, "powerlaw": 2}
    np.testing.assert_array_equal(found.penalty, [parameters[name] for name in found.functions])


def test_messages() -> None:
    data = toys(3, seed=1)
    with pytest.raises(FitError, match=r"penalty contains -1, .*; give the deviance for each parameter"):
        envelope(data, SIGNAL, penalty=-1.0)
    with pytest.raises(
        FitError, match=r"of no functions, none could be fitted at 23 GeV; choose other functions"
    ):
        envelope(data, SIGNAL, ladders=())
    few = data._replace(edges=data.edges[:, :13], counts=data.counts[:, :12], weight=data.weight[:, :12])
    with pytest.raises(FitError, match=r"of bernstein2, none could be fitted at 23 GeV"):
        envelope(few, SIGNAL, ladders=[["bernstein2"]])
    found = Envelope((), np.zeros((0, 3), dtype=bool), np.zeros(0))
    with pytest.raises(
        FitError, match=r"confidence level 95, expected a value between 0 and 1, such as 0.95"
    ):
        envelope_limits(found, level=95.0)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [1.0, 2.0])
def test_envelope_is_the_lowest_of_a_loop(penalty: float) -> None:
    """Profiles of each function on a grid of yields, and where their envelope crosses."""
    data = toys(3, seed=2)
    found = envelope(data, SIGNAL, ladders=(("bernstein2",), ("powerlaw",)), penalty=penalty)
    limits, excess = envelope_limits(found), envelope_discovery(found)
    assert limits.verified.all()
    for i in range(3):
        events = np.linspace(-2, 5, 141) * limits.sigma[i]
        curves = []
        for one, size in zip(found.searches, (3, 2), strict=True):
            observed = one.model.observed()
            many = type(observed)(*(np.repeat(x[i : i + 1], events.size, axis=0) for x in observed))
            start = np.zeros((events.size, one.model.start.size))
            fits = conditional(one.model, many, events / one.unit[i], start, np.full(events.size, i))
            assert fits.converged.all()
            curves.append(fits.deviance + penalty * size)
        lowest = np.min(curves, axis=0)
        # between the points of the grid the curve is nearly a parabola
        assert limits.best_fit[i] == pytest.approx(events[np.argmin(lowest)], abs=0.05 * limits.sigma[i])
        gain = np.interp(0.0, events, lowest) - lowest.min()
        assert excess.q0[i] == pytest.approx(gain if limits.best_fit[i] > 0 else 0.0, abs=0.01)
        at = np.argmin(np.abs(events - limits.observed[i]))
        assert limits.limit_function[i] == np.argmin([curve[at] for curve in curves])


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.0, 3.0])
def test_coverage_with_a_truth_of_another_family(strength: float) -> None:
    """Toys of an exponential times a line, fitted with polynomials and power laws: 95% limits hold."""
    number = 400
    shape = repeated(1).nominal[0]
    sigma = 1 / np.sqrt((shape**2 / EXPECTED).sum())
    truth = strength * sigma
    counts = np.random.default_rng(7).poisson(EXPECTED + truth * shape, size=(number, EXPECTED.size))
    found = envelope(windows(counts), repeated(number), ladders=LADDERS)
    limits = envelope_limits(found)
    good = limits.verified[:, 0]
    assert good.mean() > 0.99
    # one-sided error of the share at 95%: 0.011
    assert np.mean(limits.observed[good] >= truth) >= 0.94
    # the power law alone is wrong by half of its error; the envelope finds out
    alone = Envelope(found.searches[-1:], found.used[-1:], found.penalty[-1:])
    assert found.functions[-1] == "powerlaw"
    pulls = [(one.best_fit - truth) / one.sigma for one in (limits, envelope_limits(alone))]
    assert pulls[1].mean() > 0.4
    assert abs(pulls[0].mean()) < 0.2
    assert 0.9 < pulls[0].std() < 1.1
