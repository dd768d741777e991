"""Searches as HistFactory JSON, against pyhf's schema and our likelihood of the same search."""

import json
from typing import Any

import numpy as np
import pyhf
import pytest

from trila.fits.background import fit_background, whole
from trila.fits.errors import FitError
from trila.fits.functions import Domain, expectation, resolve
from trila.fits.histfactory import background_bound, bins_of, highest
from trila.fits.likelihood import Model, Observation, deviance, rates
from trila.fits.limits import Limits, upper_limits
from trila.fits.linear_basis import background_workspace, combined, patch_set, workspace
from trila.fits.minimise import Minimum
from trila.fits.profile import Profile, asimov, conditional
from trila.fits.search import Form, Search, search, templates
from trila.fits.signal_systematics import uncertainties
from trila.fits.signals import signal
from trila.fits.spectrum import checked, masked
from trila.fits.workspaces import from_workspace

#: pyhf's schema validation, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")

EDGES = np.geomspace(500.0, 2500.0, 16)
MASSES = np.array([800.0, 1200.5])
SOURCES = ("luminosity=0.02", "efficiency=0.3", "scale=0.02", "resolution=0.1", "spurious=40")
BLINDED = 4


def small_search(form: Form = "linear", *, sources: tuple[str, ...] = SOURCES) -> Search:
    """Of two masses; events have the weight 0.7, and the fifth bin is not looked at."""
    truth = expectation("dijet3", EDGES, [0.02, 6.0, 5.0], domain=Domain(500.0, 2500.0, 13000.0))
    counts = np.random.default_rng(1).poisson(truth).astype(float)
    window = (EDGES[BLINDED], EDGES[BLINDED + 1])
    spectrum = masked(checked(EDGES, 0.7 * counts, 0.49 * counts, name="toy"), [window])
    fit = fit_background(resolve("dijet3"), whole(spectrum, 13000.0))
    return search(fit, templates(signal("gauss:0.05"), MASSES, EDGES, uncertainties(sources)), form=form)


def given_limits(observed: list[float], expected: list[list[float]]) -> Limits:
    """Limits of these numbers, without the fits behind them."""
    size = len(observed)
    none = Minimum(*(np.zeros((size, 0)) for _ in Minimum._fields))
    fits = Profile(Observation(np.zeros((size, 0)), np.zeros((size, 0))), np.arange(size), none, none)
    numbers = (np.array(observed), np.array(expected), np.zeros(size), np.ones(size))
    return Limits(*numbers, fits, none, np.ones((size, 6), dtype=bool))


@pytest.fixture(scope="module")
def found() -> Search:
    return small_search()


@pytest.fixture(scope="module")
def limits() -> Limits:
    return given_limits([2.5, 4.0], [[1.0, 1.4, 2.0, 2.7, 3.7], [1.1, 1.5, 2.1, 2.8, 3.8]])


def in_the_order_of(model: Model, found: Search, values: np.ndarray, name: str = "dijet") -> np.ndarray:
    """Parameters of a search in the order that pyhf gave them, by name."""
    ours = dict(zip(found.model.parameters, values, strict=True))
    return np.array([ours[label.removesuffix(f"_{name}")] for label in model.parameters])


def random_point(found: Search, rng: np.random.Generator) -> np.ndarray:
    values = rng.normal(0, 1, len(found.model.parameters))
    values[0] = rng.uniform(0.5, 3)
    return values


def test_the_likelihood_read_back_is_that_of_the_search(found: Search, limits: Limits) -> None:
    """Weights, blinded bins, norms, shapes and spurious signals: the same deviance wherever it is looked at."""
    rng = np.random.default_rng(5)
    for index in (0, 1):
        content = workspace(found, index, limits, name="dijet")
        back = from_workspace(json.loads(json.dumps(content)))
        assert len(back.observation.counts) == len(EDGES) - 2
        ours = found.model.observed()
        for _ in range(5):
            values = random_point(found, rng)
            there = deviance(
                back.structure, back.tensors_of(0), back.observation, in_the_order_of(back, found, values)
            )
            here = deviance(
                found.model.structure, found.model.tensors_of(index), Observation(ours.counts[index], ours.auxiliary[index]), values
            )  # fmt: skip
            assert there == pytest.approx(here, rel=1e-9)


def test_the_schema_of_pyhf_is_met(found: Search, limits: Limits) -> None:
    content = workspace(found, 0, limits, name="dijet")
    pyhf.schema.validate(content, "workspace.json", version="1.0.0")
    pyhf.schema.validate(background_workspace(found, limits, name="dijet"), "workspace.json", version="1.0.0")
    pyhf.schema.validate(patch_set(found, limits, name="dijet"), "patchset.json", version="1.0.0")
    assert content["version"] == "1.0.0"
    assert min(min(sample["data"]) for sample in content["channels"][0]["samples"]) < 0


def test_only_yield_and_signal_are_constrained(found: Search, limits: Limits) -> None:
    """The parameters of the background are free: their fit was to the same data."""
    model = pyhf.Workspace(workspace(found, 0, limits, name="dijet")).model()
    constrained = {name for name in model.config.par_map if model.config.param_set(name).constrained}
    assert constrained == {"luminosity", "efficiency", "scale", "resolution", "spurious_dijet"}
    assert set(model.config.par_map) - constrained == {"mu", *(f"background_{k}_dijet" for k in range(3))}


def test_bounds_of_the_parameter_of_interest(found: Search, limits: Limits) -> None:
    """Five times the largest limit, in the units in which the workspace counts."""
    for events, upper in ((None, 20.0), (10.0, 20.0 * found.unit[1] / 10.0)):
        model = pyhf.Workspace(workspace(found, 1, limits, name="dijet", events=events)).model()
        low, high = model.config.suggested_bounds()[model.config.poi_index]
        assert (low, high) == (0.0, pytest.approx(upper))
    np.testing.assert_allclose(highest(limits), [18.5, 20.0])


def test_bounds_of_the_background_hold_what_the_largest_signal_does(found: Search) -> None:
    """The shift of the whitened parameters by a signal is a least-squares fit."""
    far = given_limits([400.0, 300.0], [[400.0] * 5, [300.0] * 5])
    bound = background_bound(found, far)
    for index, mu in enumerate(highest(far)):
        here = bins_of(found, index)
        events = mu * found.unit[index] * found.templates.nominal[index][here.used] * here.weight
        error = np.sqrt(here.background)
        shift = np.linalg.lstsq(here.jacobian / error[:, None], -events / error, rcond=None)[0]
        assert 2 * np.abs(shift).max() + 10 < bound + 1
    assert background_bound(found, given_limits([1.0, 1.0], [[1.0] * 5] * 2)) == 50.0


def test_patches_make_the_workspaces_of_their_masses(found: Search, limits: Limits) -> None:
    background = json.loads(json.dumps(background_workspace(found, limits, name="dijet")))
    patches = pyhf.PatchSet(
        json.loads(json.dumps(patch_set(found, limits, name="dijet", record="ins1234567")))
    )
    patches.verify(background)
    assert [patch.name for patch in patches] == ["dijet_800", "dijet_1200p5"]
    assert patches.references == {"hepdata": "ins1234567"}
    assert patches.labels == ["mass", "events"]
    for index, patch in enumerate(patches):
        assert patch.values == (MASSES[index], found.unit[index])
        assert dict(patches.apply(background, patch.name)) == workspace(found, index, limits, name="dijet")
        model = from_workspace(background, patch=patch.patch)
        assert model.parameters[model.poi] == "mu"
    background["channels"][0]["samples"][0]["data"][0] += 1
    with pytest.raises(pyhf.exceptions.PatchSetVerificationError):
        patches.verify(background)


def test_masses_without_limits_have_no_patch(found: Search) -> None:
    some = given_limits([np.nan, 4.0], [[1.0] * 5, [2.0] * 5])
    assert [p["metadata"]["values"][0] for p in patch_set(found, some, name="x")["patches"]] == [MASSES[1]]


def test_channels_share_the_signal_and_its_nuisances(found: Search, limits: Limits) -> None:
    """Rates of the combination are those of its channels, each with its part of the signal; spurious signals are their own."""
    parts = [workspace(found, 0, limits, name=n, events=e) for n, e in (("low", 30.0), ("high", 70.0))]
    both = combined(parts)
    pyhf.schema.validate(both, "workspace.json", version="1.0.0")
    model = from_workspace(both)
    assert len(model.parameters) == 1 + 4 + 2 * (1 + 3)
    assert model.upper[model.poi] == pytest.approx(18.5 * found.unit[0] / 30.0)
    rng = np.random.default_rng(2)
    values = dict(zip(model.parameters, rng.normal(0, 1, len(model.parameters)), strict=True))
    values["mu"] = 2.0
    expected = []
    for part in sorted(parts, key=lambda one: str(one["channels"][0]["name"])):
        alone = from_workspace(part)
        point = np.array([values[label] for label in alone.parameters])
        expected.append(rates(alone.structure, alone.tensors_of(0), point))
    point = np.array([values[label] for label in model.parameters])
    np.testing.assert_allclose(
        rates(model.structure, model.tensors_of(0), point), np.concatenate(expected), rtol=1e-12
    )


def messages() -> list[tuple[Any, str]]:
    bad = given_limits([np.nan, 1.0], [[1.0] * 5] * 2)
    none = given_limits([np.nan, np.nan], [[1.0] * 5] * 2)

    def twice(found: Search, limits: Limits) -> Any:
        return combined([workspace(found, 0, limits, name="a"), workspace(found, 1, limits, name="a")])

    def windows(found: Search, limits: Limits) -> Any:
        several = found.fit.windows._replace(edges=np.stack([EDGES, EDGES]))
        return background_workspace(found._replace(fit=found.fit._replace(windows=several)), limits, name="x")

    return [
        (
            lambda f, li: workspace(f._replace(form="exact"), 0, li, name="x"),
            r"a search of form 'exact' is no HistFactory model, expected form 'linear'; make it in that form, or use trila",
        ),
        (
            lambda f, li: workspace(f, 0, li, name="m jj"),
            r"channel name 'm jj', expected letters, digits and underscores; rename it",
        ),
        (
            lambda f, li: workspace(f, 0, bad, name="x"),
            r"the limits at 800 GeV are nan \(observed\) and 1 \(expected\), expected numbers above 0; leave the mass out",
        ),
        (
            lambda f, li: patch_set(f, li, name="x", record="ins12"),
            r"record 'ins12', expected ins and seven digits, as in ins1234567; see INSPIRE",
        ),
        (
            lambda f, li: patch_set(f, none, name="x"),
            r"none of 2 masses has limits, expected at least one; see their fits",
        ),
        (windows, r"2 windows have backgrounds of their own, expected one for all masses; write a workspace"),
        (twice, r"channels a, a, expected at least one, each with a name of its own; rename them"),
        (
            lambda f, li: combined([]),
            r"channels none, expected at least one, each with a name of its own; rename them",
        ),
    ]


@pytest.mark.parametrize(("call", "message"), messages())
def test_messages(found: Search, limits: Limits, call: Any, message: str) -> None:
    with pytest.raises(FitError, match=message):
        call(found, limits)


@pytest.mark.slow
def test_limits_read_back_are_those_of_the_search() -> None:
    found = small_search(sources=("luminosity=0.02", "scale=0.02"))
    limits = upper_limits(found.model)
    back = upper_limits(from_workspace(workspace(found, 0, limits, name="dijet")))
    assert limits.verified.all()
    assert back.observed[0] == pytest.approx(limits.observed[0], rel=1e-4)
    np.testing.assert_allclose(back.expected[0], limits.expected[0], rtol=1e-4)


@pytest.mark.slow
def test_signals_far_above_the_data_are_fitted(found: Search) -> None:
    """Data without signal and a large one held: at the start, a shape that could move has negative curvature."""
    none = np.zeros((2, len(found.model.parameters)))
    data, which = asimov(found.model, none, np.arange(2)), np.arange(2)
    for mu in (1.0, 4.0, 10.0, 20.0):
        assert conditional(found.model, data, np.full(2, mu), none, which).converged.all()
