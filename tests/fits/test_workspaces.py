"""HistFactory workspaces, against pyhf: random models with every modifier, and the minima, limits and p-values of them.

pyhf's numbers come from its NumPy backend with Minuit. Where a fit is compared, ours may not be worse than
pyhf's; where it is better, it is checked with pyhf's own likelihood.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest

from trila.fits.errors import FitError
from trila.fits.likelihood import Model, deviance, rates, twice_nll_offset
from trila.fits.limits import upper_limits
from trila.fits.profile import Profile, conditional, profile
from trila.fits.workspaces import from_pyhf, from_workspace

SETTINGS = [
    {"normsys": {"interpcode": norm}, "histosys": {"interpcode": shape}}
    for norm in ("code4", "code1")
    for shape in ("code4p", "code0", "code2")
]


@pytest.fixture
def minuit() -> Iterator[None]:
    """pyhf's NumPy backend with Minuit, and what was set before afterwards."""
    before = pyhf.get_backend()
    pyhf.set_backend("numpy", "minuit")
    yield
    pyhf.set_backend(*before)


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
        lumi_entry = {"name": "lumi", "auxdata": [1.0], "sigmas": [0.02], "bounds": [[0.8, 1.2]], "inits": [1.0]}
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
