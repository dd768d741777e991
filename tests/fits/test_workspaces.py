"""HistFactory workspaces, against pyhf: random models with every modifier, and the minima, limits and p-values of them.

pyhf's numbers come from its NumPy backend with Minuit. Where fits are compared, ours may not be worse than pyhf's;
where it is better, that is read from pyhf's own likelihood at our parameters.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pyhf
import pytest

from trila.fits.errors import FitError
from trila.fits.likelihood import Model, deviance, rates, twice_nll_offset
from trila.fits.limits import upper_limits
from trila.fits.profile import profile
from trila.fits.pyhf_backend import pyhf_backend
from trila.fits.significance import discovery
from trila.fits.workspaces import from_pyhf, from_workspace

#: pyhf's schema validation, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")

#: Every combination of interpolations.
SETTINGS = [
    {"normsys": {"interpcode": norm}, "histosys": {"interpcode": shape}}
    for norm, shape in product(("code4", "code1"), ("code4p", "code2", "code0"))
]
DEFAULT, *_ = SMOOTH = SETTINGS[:2]
#: Those with a kink at 0: each side may have its minimum, and at the kink there is no gradient.
KINKED = SETTINGS[2:]


@pytest.fixture
def minuit() -> Iterator[None]:
    """pyhf's NumPy backend with Minuit."""
    with pyhf_backend("numpy", "minuit"):
        yield


def random_workspace(seed: int) -> dict[str, Any]:
    """Up to three channels and four samples with every modifier of HistFactory, samples missing here and there."""
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(1, 5, size=rng.integers(1, 4))]
    if len(sizes) > 1 and rng.random() < 0.5:
        sizes[1] = sizes[0]
    samples = ["signal", "fixed", "scaled", "shaped"][: rng.integers(2, 5)]
    lumi, stat = rng.random() < 0.5, rng.random() < 0.7
    channels = []
    for c, size in enumerate(sizes):
        entries = []
        for name in samples:
            if name != "fixed" and c > 0 and rng.random() < 0.3:
                continue
            data = rng.uniform(5, 30, size) if name == "signal" else rng.uniform(40, 200, size)
            if name != "fixed" and size > 1 and rng.random() < 0.3:
                data[rng.integers(size)] = 0.0
            modifiers = [{"name": "lumi", "type": "lumi", "data": None}] if lumi else []
            if name == "signal":
                modifiers.append({"name": "mu", "type": "normfactor", "data": None})
            for k in range(3):
                if rng.random() < 0.6:
                    factors = {"hi": rng.uniform(1.01, 1.25), "lo": rng.uniform(0.8, 0.99)}
                    modifiers.append({"name": f"theta{k}", "type": "normsys", "data": factors})
                if rng.random() < 0.5:
                    up, down = (data * (1 + rng.normal(0, 0.08, (2, size)))).tolist()
                    label = f"theta{k}" if rng.random() < 0.5 else f"shape{k}"
                    shape = {"hi_data": up, "lo_data": down}
                    modifiers.append({"name": label, "type": "histosys", "data": shape})
            if name == "scaled":
                modifiers.append({"name": "scale", "type": "normfactor", "data": None})
            relative = rng.uniform(0.02, 0.2, size)
            if stat and name in ("fixed", "scaled"):
                # pyhf wants the samples that share one to have it in the same channels
                label = f"stat{c}" if len(samples) > 2 else "stat"
                modifiers.append({"name": label, "type": "staterror", "data": (data * relative).tolist()})
            if name == "shaped":
                label = f"uncorrelated{c}"
                modifiers.append({"name": label, "type": "shapesys", "data": (data * relative).tolist()})
            if name == "fixed" and c < 2 and sizes[:1] == sizes[1:2]:
                modifiers.append({"name": "free", "type": "shapefactor", "data": None})
            entries.append({"name": name, "data": data.tolist(), "modifiers": modifiers})
        channels.append({"name": f"channel{c}", "samples": entries})
    parameters = [{"name": "mu", "inits": [1.0], "bounds": [[float(rng.choice([0.0, -3.0])), 15.0]]}]
    if lumi:
        lumi_entry = {
            "name": "lumi",
            "auxdata": [1.0],
            "sigmas": [0.02],
            "bounds": [[0.8, 1.2]],
            "inits": [1.0],
        }
        parameters.append(lumi_entry)
    used = {m["name"] for c in channels for s in c["samples"] for m in s["modifiers"]}
    if rng.random() < 0.5:
        parameters += [{"name": name, "fixed": True} for name in sorted(used & {"theta2"})]
    total = [np.sum([s["data"] for s in c["samples"]], axis=0) for c in channels]
    return {
        "channels": channels,
        "observations": [
            {"name": c["name"], "data": rng.poisson(rate).astype(float).tolist()}
            for c, rate in zip(channels, total, strict=True)
        ],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": parameters}}],
        "version": "1.0.0",
    }


def pair(seed: int, settings: dict[str, Any] = DEFAULT) -> tuple[Any, list[float], Model]:
    """pyhf's model and data of a random workspace, and ours of them."""
    workspace = pyhf.Workspace(random_workspace(seed))
    theirs = workspace.model(modifier_settings=settings)
    data = workspace.data(theirs)
    return theirs, data, from_pyhf(theirs, data)


def random_parameters(model: Model, seed: int, *, inside: bool) -> np.ndarray:
    """Factors around 1, and systematics up to a few standard deviations, or within one of them."""
    generator = np.random.default_rng(seed)
    theta = generator.uniform(0.3, 1.7, len(model.parameters))
    alpha = np.array([name.startswith(("theta", "shape")) for name in model.parameters])
    theta[alpha] = generator.normal(0, 1.5, alpha.sum())
    return np.where(alpha & inside, np.clip(theta, -1, 1), theta)


def twice_nll(model: Model, theta: np.ndarray) -> float:
    found = deviance(model.structure, model.tensors, model.observation, theta)
    return float(found) + twice_nll_offset(model, model.observation)


def compare_likelihoods(seed: int, settings: dict[str, Any]) -> set[str]:
    """Rates and likelihood at random parameters; returns the modifiers of the workspace."""
    theirs, data, model = pair(seed, settings)
    # pyhf's parabola of code2 has no tangents outside
    inside = settings["histosys"]["interpcode"] == "code2"
    for point in range(3):
        theta = random_parameters(model, 10 * seed + point, inside=inside)
        expected = theirs.expected_actualdata(theta)
        np.testing.assert_allclose(
            rates(model.structure, model.tensors, theta), expected, rtol=1e-10, atol=1e-10
        )
        if (expected > 0).all():
            assert twice_nll(model, theta) == pytest.approx(
                -2 * float(theirs.logpdf(theta, data)[0]), abs=1e-6
            )
    return {kind for _, kind in theirs.config.modifiers}


def test_likelihoods_of_random_workspaces() -> None:
    seen = set()
    for seed in range(12):
        seen |= compare_likelihoods(seed, SETTINGS[seed % len(SETTINGS)])
    assert seen == {"normfactor", "normsys", "histosys", "shapesys", "staterror", "shapefactor", "lumi"}


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_likelihoods_of_many_random_workspaces(settings: dict[str, Any]) -> None:
    for seed in range(100, 140):
        compare_likelihoods(seed, settings)


def test_parameters_are_those_of_the_measurement() -> None:
    for seed in (4, 5, 13):
        theirs, data, model = pair(seed)
        assert model.parameters == tuple(theirs.config.par_names)
        assert model.parameters[model.poi] == "mu"
        np.testing.assert_array_equal(model.start, theirs.config.suggested_init())
        np.testing.assert_array_equal(model.fixed, theirs.config.suggested_fixed())
        np.testing.assert_array_equal(
            np.transpose([model.lower, model.upper]), theirs.config.suggested_bounds()
        )
        np.testing.assert_array_equal(model.observation.counts, data[: theirs.config.nmaindata])
    assert model.fixed.any()


def test_settings_of_one_kind_alone() -> None:
    """pyhf then has other defaults for the other kind than where no settings are given."""
    for settings in ({"histosys": {"interpcode": "code4p"}}, {"normsys": {"interpcode": "code4"}}):
        compare = pyhf.Workspace(random_workspace(5)).model(modifier_settings=settings)
        model = from_pyhf(compare, [*np.ones(compare.config.nmaindata), *compare.config.auxdata])
        theta = random_parameters(model, 1, inside=False)
        found = rates(model.structure, model.tensors, theta)
        np.testing.assert_allclose(found, compare.expected_actualdata(theta), rtol=1e-10)


def test_a_parabola_has_tangents_outside() -> None:
    """`code2` as RooFit has it: value and slope are continuous at ±1, and beyond it is straight."""
    histogram = {"hi_data": [130.0], "lo_data": [95.0]}
    modifiers = [
        {"name": "mu", "type": "normfactor", "data": None},
        {"name": "a", "type": "histosys", "data": histogram},
    ]
    spec = {"channels": [{"name": "c", "samples": [{"name": "s", "data": [100.0], "modifiers": modifiers}]}]}
    theirs = pyhf.Model(spec, poi_name="mu", modifier_settings=SETTINGS[1])
    model = from_pyhf(theirs, [100.0, 0.0])
    index = model.parameters.index("a")

    def rate(alpha: float) -> float:
        theta = np.where(np.arange(2) == index, alpha, 1.0)
        return float(rates(model.structure, model.tensors, theta)[0])

    assert [rate(alpha) for alpha in (-1.0, 0.0, 1.0)] == pytest.approx([95.0, 100.0, 130.0])
    for side in (-1, 1):
        step = 1e-6 * side
        inner, outer = (rate(side + k * step) - rate(side + (k - 1) * step) for k in (0, 1))
        assert outer == pytest.approx(inner, rel=1e-4)
        assert rate(3.0 * side) - rate(2.0 * side) == pytest.approx(outer / 1e-6, rel=1e-4)


def test_a_workspace_with_a_patch() -> None:
    """The measurement's parameter of interest, or another; and the signal of a patch instead of the file's."""
    content = random_workspace(2)
    _, _, expected = pair(2)
    found = from_workspace(content)
    assert found.parameters == expected.parameters
    np.testing.assert_array_equal(found.tensors.nominal, expected.tensors.nominal)
    other = from_workspace(content, poi="scale")
    assert other.parameters[other.poi] == "scale"
    bins = len(content["channels"][0]["samples"][0]["data"])
    patch = [{"op": "replace", "path": "/channels/0/samples/0/data", "value": [7.5] * bins}]
    patched = from_workspace(content, patch=patch)
    assert (patched.tensors.nominal == 7.5).sum() == bins
    assert content == random_workspace(2)


def test_messages() -> None:
    content = random_workspace(2)
    with pytest.raises(
        FitError,
        match=r"the workspace cannot be used \(.*'observations' is a required property.*pyhf inspect",
    ):
        from_workspace({name: part for name, part in content.items() if name != "observations"})
    with pytest.raises(
        FitError, match=r"the workspace cannot be used \(.*no_such_name.*check it with `pyhf inspect`"
    ):
        from_workspace(content, poi="no_such_name")
    with pytest.raises(FitError, match=r"the workspace cannot be used \(.*nowhere"):
        from_workspace(content, patch=[{"op": "replace", "path": "/nowhere/0", "value": 1}])
    theirs = pyhf.Workspace(content).model(poi_name=None)
    with pytest.raises(FitError, match=r"names no parameter of interest; give --poi, one of mu"):
        from_pyhf(theirs, [])


def their_minimum(theirs: Any, data: list[float], mu: float | None) -> float:
    """pyhf's minimum of -2 ln L; infinite where Minuit reports that it found none."""
    try:
        if mu is None:
            return float(pyhf.infer.mle.fit(data, theirs, return_fitted_val=True)[1])
        return float(pyhf.infer.mle.fixed_poi_fit(mu, data, theirs, return_fitted_val=True)[1])
    except pyhf.exceptions.FailedMinimization:
        return np.inf


def compare_minima(seed: int, settings: dict[str, Any]) -> None:
    theirs, data, model = pair(seed, settings)
    fits = profile(model)
    for found, mu in ((fits.best, None), (fits.background, 0.0)):
        assert found.converged.all()
        value = found.deviance[0] + twice_nll_offset(model, model.observation)
        reached = -2 * float(theirs.logpdf(found.values[0], data)[0])
        assert reached == pytest.approx(value, abs=1e-6)
        # where it is lower by more, pyhf's own likelihood at our parameters says that Minuit's is not the minimum
        assert value < their_minimum(theirs, data, mu) + 1e-4


@pytest.mark.usefixtures("minuit")
def test_minima_of_a_random_workspace() -> None:
    compare_minima(14, DEFAULT)


@pytest.mark.slow
@pytest.mark.usefixtures("minuit")
@pytest.mark.filterwarnings("ignore")  # Minuit and pyhf warn on the way
@pytest.mark.parametrize("settings", SMOOTH)
@pytest.mark.parametrize("seed", [0, 3, 6, 12, 14, 23])
def test_minima_of_random_workspaces(seed: int, settings: dict[str, Any]) -> None:
    compare_minima(seed, settings)


@pytest.mark.slow
def test_minima_of_kinked_interpolations() -> None:
    """What is called converged is a minimum, if not the only one; at a kink the fit says that it is not."""
    converged = 0
    for settings in KINKED:
        _, _, model = pair(7, settings)
        fits = profile(model)
        for found, held in ((fits.best, -1), (fits.background, model.poi)):
            if not found.converged[0]:
                continue
            converged += 1
            theta, lowest = found.values[0], twice_nll(model, found.values[0])
            for k, step in product(np.flatnonzero(~model.fixed), (1e-3, -1e-3)):
                aside = theta + step * (np.arange(theta.size) == k)
                if k != held and model.lower[k] <= aside[k] <= model.upper[k]:
                    assert twice_nll(model, aside) > lowest - 1e-7
    assert converged > 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Minuit and pyhf warn on the way
@pytest.mark.parametrize("seed", [0, 14, 23])
def test_cls_at_the_limits_of_random_workspaces(seed: int) -> None:
    """pyhf's CLs there is 5 %: it falls by at least as large a fraction as the limit rises.

    That of seed 0 has two valleys whose depths cross between two bands.
    """
    theirs, data, model = pair(seed)
    found = upper_limits(model)
    assert found.verified.all()
    with pyhf_backend("numpy", "minuit", tolerance=1e-5):
        assert float(pyhf.infer.hypotest(found.observed[0], data, theirs)) == pytest.approx(0.05, rel=1e-3)
        for n, limit in enumerate(found.expected[0]):
            bands = pyhf.infer.hypotest(limit, data, theirs, return_expected_set=True)[1]
            assert float(bands[n]) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Minuit and pyhf warn on the way
def test_limits_of_a_random_workspace() -> None:
    """Root finding in both; many random workspaces end pyhf's, which tries values where Minuit fails."""
    theirs, data, model = pair(14)
    found = upper_limits(model)
    with pyhf_backend("numpy", "minuit", tolerance=1e-3):
        observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(data, theirs)
    assert found.observed[0] == pytest.approx(float(observed), rel=1e-3)
    np.testing.assert_allclose(found.expected[0], [float(x) for x in expected], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Minuit and pyhf warn on the way
@pytest.mark.parametrize("seed", [0, 6, 14, 23])
def test_discoveries_of_random_workspaces(seed: int) -> None:
    theirs, data, model = pair(seed)
    found = discovery(model)
    assert found.verified.all()
    with pyhf_backend("numpy", "minuit", tolerance=1e-5):
        expected = float(pyhf.infer.hypotest(0.0, data, theirs, test_stat="q0"))
    assert found.p_local[0] == pytest.approx(expected, rel=1e-3)
