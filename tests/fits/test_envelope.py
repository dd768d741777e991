"""Envelopes of functions, against one function alone, a loop over functions and masses, and toys of another truth."""

import numpy as np
import pytest

from trila.fits.background import Windows, fit_background
from trila.fits.certificates import certify, judge
from trila.fits.envelope import Envelope, envelope, envelope_discovery, envelope_limits
from trila.fits.errors import FitError
from trila.fits.families import Domain
from trila.fits.functions import expectation, resolve
from trila.fits.likelihood import Model, Observation
from trila.fits.limits import upper_limits
from trila.fits.minimise import minimise
from trila.fits.profile import Profile, conditional, profile
from trila.fits.search import Search, SignalTemplates, search, templates
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


@pytest.fixture(scope="module")
def one() -> Search:
    """Of a power law."""
    return search(fit_background(resolve("powerlaw"), toys(3, seed=1)), SIGNAL)


def only(one: Search) -> Envelope:
    return Envelope((one,), np.ones((1, 3), dtype=bool), np.array([2.0]))


def reasons(found: Envelope) -> list[tuple[str, ...]]:
    """Why each limit is none; in these tests, its roots are all found."""
    limits = envelope_limits(found)
    return [certificate.reasons for certificate in judge(limits.fits, limits.verified, check="all")]


def test_one_function_has_the_limits_of_its_search(one: Search) -> None:
    alone, significance = upper_limits(one.model), discovery(one.model)
    limits, excess = envelope_limits(only(one)), envelope_discovery(only(one))
    assert limits.verified.all()
    np.testing.assert_allclose(limits.observed, alone.observed * one.unit, rtol=2e-6)
    np.testing.assert_allclose(limits.expected, alone.expected * one.unit[:, None], rtol=2e-6)
    np.testing.assert_allclose(limits.best_fit, alone.best_fit * one.unit, rtol=1e-9)
    np.testing.assert_allclose(limits.sigma, alone.sigma * one.unit, rtol=1e-9)
    np.testing.assert_allclose(excess.q0, significance.q0, rtol=1e-9)
    for chosen in (limits.background_function, limits.best_function, limits.limit_function):
        np.testing.assert_array_equal(chosen, 0)
    certificates = judge(limits.fits, limits.verified, check="all")
    for mine, other in zip(certificates, certify(one.model, alone, check="all"), strict=True):
        assert mine.passed
        assert other.passed
        assert mine.distance < 1e-7
        assert mine.minuit == pytest.approx(other.minuit, abs=1e-6)


def test_the_functions_that_are_lowest_are_judged(one: Search) -> None:
    """A second one is never lowest where the first one is used."""
    name = one.fit.function._replace(name="other")
    found = Envelope(
        (one, one._replace(fit=one.fit._replace(function=name))),
        np.array([[True, True, False], [False, True, True]]),
        np.array([2.0, 2.5]),
    )
    limits = envelope_limits(found)
    assert {fits.name: fits.limit.tolist() for fits in limits.fits} == {
        f"{kind} ({function})": masses
        for kind in ("background", "best fit", "fit at the limit")
        for function, masses in (("powerlaw", [0, 1]), ("other", [2]))
    }
    assert all(certificate.passed for certificate in judge(limits.fits, limits.verified, check="all"))


def test_a_parameter_that_is_not_determined(one: Search) -> None:
    """Two that do the same: the fits converge and have limits, but their Hessians are singular."""
    jacobian = np.repeat(one.fit.jacobian[:, :, :1], 2, axis=2)
    found = only(search(one.fit._replace(jacobian=jacobian), SIGNAL))
    assert envelope_limits(found).verified.all()
    for why in reasons(found):
        assert why == tuple(
            f"{kind} (powerlaw): Hessian is not positive definite"
            for kind in ("background", "best fit", "fit at the limit")
        )


def test_a_parameter_at_its_bound(one: Search) -> None:
    """At 0 is the fit without signal; the bound keeps one mass away from it."""
    lower = np.array(one.model.lower)
    lower[1, 1] = 0.5
    found = only(one._replace(model=one.model._replace(lower=lower)))
    assert envelope_limits(found).verified.all()
    why = reasons(found)
    assert why[0] == why[2] == ()
    assert "background (powerlaw): at a bound: background_0" in why[1]


def test_a_minimum_that_is_none(one: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """A best fit that moved the yield alone says that it has converged; Minuit finds what it missed."""

    def unfinished(model: Model, observation: Observation, which: np.ndarray) -> Profile:
        fits = profile(model, observation, which)
        poi = np.arange(model.start.size) == model.poi
        return fits._replace(
            best=minimise(model, observation, fits.background.values, poi, alternatives=which)
        )

    sound = envelope_limits(only(one)).fits[1].minimum
    monkeypatch.setattr("trila.fits.envelope.profile", unfinished)
    limits = envelope_limits(only(one))
    best = limits.fits[1].minimum
    missed = best.deviance - sound.deviance
    assert best.converged.all()
    assert missed.min() > 1e-3
    for found, gap in zip(judge(limits.fits, limits.verified, check="all"), missed, strict=True):
        assert not found.passed
        assert found.reasons == (f"Minuit finds a minimum lower by {found.minuit:.2g} in -2 ln L",)
        assert found.minuit == pytest.approx(gap, abs=1e-4)


def test_a_function_that_fails_is_named(one: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if another one is lower: what it would have been is not known."""
    found = Envelope((one, one), np.array([[True, True, True], [False, True, False]]), np.array([2.0, 3.0]))

    def failing(model: Model, observation: Observation, which: np.ndarray) -> Profile:
        fits = profile(model, observation, which)
        good = np.full(which.size, which.size > 1)
        return fits._replace(background=fits.background._replace(converged=good))

    monkeypatch.setattr("trila.fits.envelope.profile", failing)
    why = reasons(found)
    assert why[0] == why[2] == ()
    assert why[1][:2] == (
        "background (powerlaw): not converged",
        "Asimov data, background (powerlaw): not converged",
    )
    assert why[1][2].startswith("no root for the observed limit, the expected limit at -2 sigma")


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
    assert {name for fits in limits.fits for name in found.functions if f"({name})" in fits.name} == {
        "bernstein2", "powerlaw",
    }  # fmt: skip
    for certificate in judge(limits.fits, limits.verified, check="all"):
        assert certificate.passed
        assert certificate.minuit is not None
        assert abs(certificate.minuit) < 1e-3


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
