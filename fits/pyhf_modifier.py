"""A search as a pyhf model with the function itself: a modifier of our own for pyhf.

What `linear_basis.py` writes is HistFactory, and linear in the parameters of the background. Here a sample has a
modifier of the type `trila_function`, which multiplies the fitted background by F(z)/F(0), with F the function integrated
over each bin and z its whitened parameters. Such a model is computed by pyhf alone, with NumPy or JAX, but no other
program knows the modifier:

    with pyhf_backend("numpy", "minuit"):
        model, data = exact_model(found, 0, limits, name="dijet")
        pyhf.infer.mle.fit(data, model)

Models of your own take it by `pyhf.Model(spec, modifier_set=modifier_set(), validate=False, poi_name="mu")`. The data of
the modifier are a function's name and plain numbers: `edges` (pairs), `scale` (of each bin), `domain`, `centre` and
`transform`, the last three with the meanings that they have in `likelihood.FunctionTerm`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.fits.functions import Domain, quadrature, resolve
from trila.fits.histfactory import POI, background_bound, bins_of, signal_part
from trila.fits.likelihood import natural
from trila.fits.limits import Limits
from trila.fits.search import Search

__all__ = ["TYPE", "FunctionApplier", "FunctionBuilder", "exact_model", "modifier_set"]

#: Type of the modifier, as it stands in a specification.
TYPE = "trila_function"


class _Place(NamedTuple):
    """Where a modifier acts: its sample, nominal rates, the first of its bins among all, and its data."""

    sample: str
    nominal: NDArray[np.float64]
    first: int
    data: dict[str, Any]


class FunctionBuilder:
    """Collects modifiers from a specification, as pyhf wants it."""

    is_shared = False  # one function is the background of one channel

    def __init__(self, config: Any) -> None:
        self.config = config
        self.places: dict[str, _Place] = {}
        self.required_parsets: dict[str, list[dict[str, Any]]] = {}

    def append(self, key: str, channel: str, sample: str, thismod: Any, defined_samp: Any) -> None:
        """Called for each modifier of this type, in each sample of each channel."""
        if not thismod:
            return
        before = self.config.channels[: self.config.channels.index(channel)]
        first = sum(self.config.channel_nbins[name] for name in before)
        nominal = np.asarray(defined_samp["data"], dtype=np.float64)
        self.places[key] = _Place(sample, nominal, first, thismod["data"])
        number = len(thismod["data"]["centre"])
        self.required_parsets[thismod["name"]] = [
            {
                "paramset_type": "unconstrained",
                "n_parameters": number,
                "is_scalar": False,
                "inits": (0.0,) * number,
                "bounds": ((-50.0, 50.0),) * number,
                "fixed": False,
            }
        ]

    def finalize(self) -> dict[str, _Place]:
        """What the applier gets."""
        return self.places


class FunctionApplier:
    """Computes F(z)/F(0) of all modifiers, as pyhf wants it."""

    name = TYPE
    op_code = "multiplication"

    def __init__(
        self, modifiers: Any, pdfconfig: Any, builder_data: dict[str, _Place], batch_size: int | None = None
    ) -> None:
        self.samples, self.batch = list(pdfconfig.samples), batch_size or 1
        self.bins = sum(pdfconfig.channel_nbins[name] for name in pdfconfig.channels)
        self.terms = [
            _Term(builder_data[f"{kind}/{name}"], pdfconfig.par_slice(name)) for name, kind in modifiers
        ]

    def apply(self, pars: Any) -> Any:
        """Factors of shape (modifiers, samples, batch, bins); None without modifiers.

        Args:
            pars: shape (parameters,) or (batch, parameters), of pyhf's backend.
        """
        if not self.terms:
            return None
        xp = pars.__array_namespace__()
        rows, one = xp.reshape(pars, (self.batch, -1)), xp.ones((self.batch, self.bins))
        factors = []
        for term in self.terms:
            last = term.place.first + term.place.nominal.size
            factor = xp.concat([one[:, : term.place.first], term.factor(rows), one[:, last:]], axis=1)
            factors.append(xp.stack([factor if name == term.place.sample else one for name in self.samples]))
        return xp.stack(factors)


class _Term:
    """One function, with what does not depend on its parameters."""

    def __init__(self, place: _Place, parameters: slice) -> None:
        data = place.data
        self.place, self.parameters = place, parameters
        self.function, self.domain = resolve(data["function"]), Domain(*data["domain"])
        nodes, weights = quadrature(np.asarray(data["edges"]))
        self.nodes = nodes[:, 0]
        self.weights = weights[:, 0] * (np.asarray(data["scale"]) / place.nominal)[:, None]
        self.centre, self.transform = np.asarray(data["centre"]), np.asarray(data["transform"])

    def factor(self, rows: Any) -> Any:
        """Shape (batch, bins), of parameters of shape (batch, parameters)."""
        point = self.centre[:, None] + self.transform @ rows[:, self.parameters].T
        # parameters (P, batch, 1, 1) are broadcast against nodes (bins, points)
        values = natural(self.function, point)[:, :, None, None]
        return (self.function.density(self.nodes, values, self.domain) * self.weights).sum(axis=-1)


def modifier_set() -> dict[str, Any]:
    """HistFactory's modifiers and ours, for `pyhf.Model`."""
    import pyhf

    return {**pyhf.modifiers.histfactory_set, TYPE: (FunctionBuilder, FunctionApplier)}


def exact_model(found: Search, index: int, limits: Limits, *, name: str) -> tuple[Any, list[float]]:
    """The `pyhf.Model` of one mass with the exact background, and its data with auxiliary data.

    Args:
        found: of either form.
        index: of the mass.
        limits: of the masses of `found`; bounds lie well above them.
        name: of the channel.

    Raises:
        FitError: no limit for this mass.
    """
    import pyhf

    fit, here = found.fit, bins_of(found, index)
    row = 0 if len(fit.windows.edges) == 1 else index
    label, number = f"background_{name}", len(fit.function.parameters)
    ends = fit.windows.edges[row][[0, -1]].tolist()
    data = {
        "function": fit.function.name, "edges": here.edges.tolist(), "scale": here.weight.tolist(),
        "domain": [*ends, float(fit.windows.sqrt_s)], "centre": fit.point[row].tolist(),
        "transform": fit.transform[row].tolist(),
    }  # fmt: skip
    modifier = {"name": label, "type": TYPE, "data": data}
    background = {"name": "background", "data": here.background.tolist(), "modifiers": [modifier]}
    bound = background_bound(found, limits)
    settings = {"name": label, "inits": [0.0] * number, "bounds": [[-bound, bound]] * number}
    part = signal_part(found, index, limits, name=name)
    specification = {
        "channels": [{"name": name, "samples": [background, *part.samples]}],
        "parameters": [settings, *part.parameters],
    }
    model = pyhf.Model(specification, modifier_set=modifier_set(), validate=False, poi_name=POI)
    return model, [*here.counts.tolist(), *model.config.auxdata]
