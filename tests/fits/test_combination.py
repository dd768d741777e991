"""Combinations of channels, against one channel with all the counts, channels alone, and pyhf."""

from typing import Any

import numpy as np
import pyhf
import pytest

from trila.fits.background import Windows, fit_background
from trila.fits.combination import combine
from trila.fits.errors import FitError
from trila.fits.families import Domain
from trila.fits.functions import expectation, resolve
from trila.fits.likelihood import Observation, deviance, rates
from trila.fits.limits import Limits, upper_limits
from trila.fits.search import Search, search, templates
from trila.fits.signal_systematics import uncertainties
from trila.fits.signals import Resolution

EDGES = np.linspace(20.0, 30.0, 31)
MASSES = np.array([23.0, 26.0])
EXPECTED = expectation("bernstein2", EDGES, [400.0, 150.0, 100.0], domain=Domain(20.0, 30.0, 13000.0))
COUNTS = np.random.default_rng(3).poisson(EXPECTED).astype(np.float64)
OTHER = np.random.default_rng(4).poisson(3 * EXPECTED).astype(np.float64)
SOURCES = uncertainties(["scale=0.002", "luminosity=0.02"])


def channel(counts: Any, width: float = 0.02, sources: Any = ()) -> Search:
    window = Windows(EDGES[None], np.asarray(counts)[None], np.ones((1, 30)), 13000.0)
    signal = templates(Resolution(width, 0.0), MASSES, EDGES, sources)
    return search(fit_background(resolve("bernstein2"), window), signal)


def in_events(found: Limits, unit: np.ndarray) -> np.ndarray:
    assert found.verified.all()
    return np.asarray(
        np.column_stack([found.observed, found.expected, found.best_fit, found.sigma]) * unit[:, None]
    )


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    """Limits of each of two channels, in events of the common yield: half of it is in each."""
    found = []
    for one in (channel(COUNTS), channel(OTHER, width=0.03)):
        found.append(2 * in_events(upper_limits(one.model), one.unit))
    return np.array(found)


@pytest.fixture(scope="module")
def together() -> np.ndarray:
    both = combine([channel(COUNTS), channel(OTHER, width=0.03)], [0.5, 0.5])
    return in_events(upper_limits(both.model), both.unit)


def test_identical_channels_are_one_with_double_counts() -> None:
    """Their deviances are equal where both backgrounds are: unit errors of twice the events are smaller by √2."""
    both = combine([channel(COUNTS, sources=SOURCES)] * 2, [0.5, 0.5])
    one = channel(2 * COUNTS, sources=SOURCES)
    np.testing.assert_allclose(both.unit, one.unit, rtol=1e-6)
    for theta in np.random.default_rng(5).normal(size=(5, 6)):
        twice = np.concatenate([theta, theta[3:]])
        theta[3:] *= np.sqrt(2)
        found, expected = (
            deviance(
                x.model.structure, x.model.tensors_of(1), Observation(counts, np.zeros(values.size)), values
            )
            for x, counts, values in ((both, np.tile(COUNTS, 2), twice), (one, 2 * COUNTS, theta))
        )
        assert found == pytest.approx(expected, rel=1e-6)


def test_parameters_of_equal_names_are_common() -> None:
    searches = [
        channel(COUNTS, sources=SOURCES),
        channel(OTHER, sources=uncertainties(["scale=0.002", "efficiency=0.1"])),
    ]
    both = combine(searches, [0.5, 0.5])
    assert both.model.parameters == (
        "mu", "luminosity", "scale", "efficiency",
        *(f"channel{c}_background_{i}" for c in range(2) for i in range(3)),
    )  # fmt: skip
    np.testing.assert_array_equal(both.model.tensors.normal, [0, 1, 1, 1, 0, 0, 0, 0, 0, 0])


def test_rates_are_those_of_the_channels() -> None:
    searches = [
        channel(COUNTS, sources=SOURCES),
        channel(OTHER, sources=uncertainties(["spurious=30", "scale=0.002"])),
    ]
    both = combine(searches, [0.3, 0.6])
    theta = np.array([1.5, 0.4, -0.7, 0.3, 0.1, 0.2, 0.3, -0.1, -0.2, -0.3])
    found = rates(both.model.structure, both.model.tensors_of(1), theta)
    own = [theta[[0, 1, 2, 4, 5, 6]], theta[[0, 2, 3, 7, 8, 9]]]
    assert both.model.parameters[1:4] == ("luminosity", "scale", "spurious")
    for one, share, values, half in zip(searches, (0.3, 0.6), own, (found[:30], found[30:]), strict=True):
        values[0] *= share * both.unit[1] / one.unit[1]
        np.testing.assert_allclose(half, rates(one.model.structure, one.model.tensors_of(1), values))
    lower = [s.model.lower[1, 0] * s.unit[1] / share for s, share in zip(searches, (0.3, 0.6), strict=True)]
    assert both.model.lower[1, 0] * both.unit[1] == pytest.approx(max(lower))


@pytest.mark.slow
def test_the_combination_is_better_than_each(alone: np.ndarray, together: np.ndarray) -> None:
    assert np.all(together[:, 1:6] < alone[:, :, 1:6].min(axis=0))


@pytest.mark.slow
def test_errors_are_those_of_a_weighted_mean() -> None:
    """In data without fluctuations, where the Hessian is the Fisher information."""
    searches = [channel(EXPECTED), channel(3 * EXPECTED, width=0.03)]
    shares = np.array([0.3, 0.7])
    both = combine(searches, shares)
    each = [
        upper_limits(one.model).sigma * one.unit / share for one, share in zip(searches, shares, strict=True)
    ]
    expected = (1 / np.array(each) ** 2).sum(axis=0) ** -0.5
    np.testing.assert_allclose(upper_limits(both.model).sigma * both.unit, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
def test_shares_of_each_alternative(alone: np.ndarray, together: np.ndarray, first: int) -> None:
    """A channel without signal changes nothing; alternatives may be in any order, with shares of their own."""
    searches = [channel(COUNTS), channel(OTHER, width=0.03)]
    shares = np.array([[1.0, 0.5], [0.0, 0.5]])[:: 1 - 2 * first]
    mixed = combine(searches, shares, which=np.array([1, 0]))
    np.testing.assert_array_equal(mixed.masses, MASSES[::-1])
    found = in_events(upper_limits(mixed.model), mixed.unit)
    np.testing.assert_allclose(found, [alone[first, 1] / 2, together[0]], rtol=1e-5, atol=1e-4)


def test_messages() -> None:
    one = channel(COUNTS)
    with pytest.raises(FitError, match=r"no channels to combine; give at least one search"):
        combine([], [])
    with pytest.raises(FitError, match=r"shares of shape \(3,\) for 2 channels and 2 alternatives; give one"):
        combine([one, one], [0.2, 0.3, 0.5])
    with pytest.raises(
        FitError, match=r"a share is negative, .* or those of all channels are 0; give the part"
    ):
        combine([one, one], [[0.5, 0.0], [0.5, 0.0]])
    with pytest.raises(FitError, match=r"a share is negative"):
        combine([one, one], [1.5, -0.5])
    other = one._replace(templates=one.templates._replace(masses=MASSES[:1]))
    with pytest.raises(
        FitError, match=r"channel 1 has 1 masses that are not the 2 of channel 0; give the masses"
    ):
        combine([one, other], [0.5, 0.5])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")
def test_limits_are_those_of_pyhf() -> None:
    """The same channels as a HistFactory model: derivatives of the background as samples with free normalisations."""
    searches = [channel(COUNTS, sources=SOURCES), channel(OTHER, width=0.03, sources=SOURCES)]
    both = combine(searches, [0.5, 0.5])
    index, unit = 0, both.unit[0]
    channels, observations = [], []
    parameters: list[dict[str, Any]] = [{"name": "mu", "inits": [1.0], "bounds": [[0.0, 20.0]]}]
    for number, (one, counts) in enumerate(zip(searches, (COUNTS, OTHER), strict=True)):
        shape = {
            "hi_data": (0.5 * unit * one.templates.up["scale"][index]).tolist(),
            "lo_data": (0.5 * unit * one.templates.down["scale"][index]).tolist(),
        }
        signal = [
            {"name": "mu", "type": "normfactor", "data": None},
            {"name": "scale", "type": "histosys", "data": shape},
            {"name": "luminosity", "type": "normsys", "data": {"hi": 1.02, "lo": 1 / 1.02}},
        ]
        samples = [
            {
                "name": "signal",
                "data": (0.5 * unit * one.templates.nominal[index]).tolist(),
                "modifiers": signal,
            },
            {"name": f"b{number}", "data": one.fit.prediction[0].tolist(), "modifiers": []},
        ]
        for k in range(3):
            name = f"z{number}_{k}"
            modifiers = [{"name": name, "type": "normfactor", "data": None}]
            samples.append({"name": name, "data": one.fit.jacobian[0, :, k].tolist(), "modifiers": modifiers})
            parameters.append({"name": name, "inits": [0.0], "bounds": [[-20.0, 20.0]]})
        channels.append({"name": f"c{number}", "samples": samples})
        observations.append({"name": f"c{number}", "data": counts.tolist()})
    measurement = {"name": "m", "config": {"poi": "mu", "parameters": parameters}}
    workspace = pyhf.Workspace(
        {
            "channels": channels,
            "observations": observations,
            "measurements": [measurement],
            "version": "1.0.0",
        }
    )
    before = pyhf.get_backend()
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer())
    try:
        model = workspace.model()
        observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(
            workspace.data(model), model, scan=None, level=0.05, rtol=1e-6
        )
    finally:
        pyhf.set_backend(*before)
    found = upper_limits(both.model)
    assert found.observed[index] == pytest.approx(float(observed), rel=2e-3)
    np.testing.assert_allclose(found.expected[index], np.array(expected, dtype=float), rtol=2e-3)
