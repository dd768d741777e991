"""Several spectra, one signal: categories, years or bins of displacement as channels of one likelihood.

Each channel has its own bins, resolution and background. The yield of the signal is common, and so are uncertainties of equal
names: a `scale` in two channels is one parameter. `shares` says which part of the yield each channel sees.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.errors import FitError
from trila.fits.likelihood import FunctionTerm, LinearTerm, Model, Observation, Structure, Tensors, select
from trila.fits.search import Search

__all__ = ["Combination", "combine"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


class Combination(NamedTuple):
    """A model of C channels for A alternatives.

    Attributes:
        model: parameters are the yield, the nuisances of all channels, and the background of each.
        unit: events of signal, in all channels' shares, for a parameter of interest of one, shape (A,).
        masses: GeV, shape (A,).
        shares: shape (C, A).
        searches: the channels.
    """

    model: Model
    unit: Array
    masses: Array
    shares: Array
    searches: tuple[Search, ...]


def combine(searches: Sequence[Search], shares: ArrayLike, *, which: Index | None = None) -> Combination:
    """The product of the likelihoods of channels that share their signal.

    Args:
        searches: C of them, at the same M masses.
        shares: part of the yield in each channel, before that outside of its bins is lost; at least 0, shape (C,) or (C, A).
            Their sum is 1 where the yield is that of all channels together.
        which: mass of each alternative, shape (A,); default all masses once.

    Raises:
        FitError: no channels, channels with other masses, or shares that do not fit, are negative or all 0.
    """
    if not searches:
        raise FitError("no channels to combine; give at least one search")
    masses = searches[0].templates.masses
    for number, one in enumerate(searches):
        if not np.array_equal(one.templates.masses, masses):
            raise FitError(
                f"channel {number} has {one.templates.masses.size} masses that are not the {masses.size} of channel 0; "
                "give the masses that all channels have"
            )
    index = np.arange(masses.size) if which is None else np.asarray(which, dtype=np.int64)
    parts = _shares(shares, len(searches), index.size)
    units = np.array([one.unit[index] for one in searches])
    unit = 1 / np.sqrt(((parts / units) ** 2).sum(axis=0))
    # what one unit of the common yield is, in the units of each channel's own
    factors = parts * unit / units
    names, places = _parameters(searches)
    models = [one.model for one in searches]
    lower, upper = _bounds(models, places, len(names), index, factors)
    observed = [one.observed().counts[index] for one in models]
    auxiliary = np.zeros(len(names))
    for part, place in zip(models, places, strict=True):
        auxiliary[place[:-1]] = part.observation.auxiliary
    model = Model(
        _structure(models, places),
        _tensors(models, places, len(names), index, factors),
        names, 0, np.zeros(len(names)), lower, upper, np.zeros(len(names), dtype=bool),
        Observation(np.concatenate(observed, axis=1), auxiliary), index.size,
    )  # fmt: skip
    return Combination(model, unit, masses[index], parts, tuple(searches))


def _shares(shares: ArrayLike, channels: int, alternatives: int) -> Array:
    given = np.asarray(shares, dtype=np.float64)
    if given.shape not in ((channels,), (channels, alternatives)):
        raise FitError(
            f"shares of shape {given.shape} for {channels} channels and {alternatives} alternatives; give one for each "
            "channel, or for each channel and alternative"
        )
    parts = np.array(np.broadcast_to(given.T, (alternatives, channels)).T)
    if not (np.all(np.isfinite(parts)) and np.all(parts >= 0) and np.all(parts.sum(axis=0) > 0)):
        raise FitError(
            "a share is negative, not a number, or those of all channels are 0; give the part of the yield in each channel"
        )
    return parts


def _parameters(searches: Sequence[Search]) -> tuple[tuple[str, ...], list[Index]]:
    """Names of all parameters, and for each channel where its own are; one more entry stands for no parameter."""
    free = [len(one.fit.function.parameters) for one in searches]
    own = [one.model.parameters[1:-n] for one, n in zip(searches, free, strict=True)]
    common = list(dict.fromkeys(name for names in own for name in names))
    backgrounds = [
        [f"channel{number}_background_{i}" for i in range(count)] for number, count in enumerate(free)
    ]
    names = ("mu", *common, *(name for channel in backgrounds for name in channel))
    places = [
        np.array([0, *(names.index(name) for name in (*shared, *channel)), len(names)])
        for shared, channel in zip(own, backgrounds, strict=True)
    ]
    return names, places


def _structure(models: Sequence[Model], places: Sequence[Index]) -> Structure:
    terms, begin = [], 0
    for model, place in zip(models, places, strict=True):
        for term in model.structure.terms:
            first = int(place[term.first])
            terms.append(
                term._replace(
                    first=first, last=first + term.last - term.first, low=begin + term.low, high=begin + term.high
                )
            )  # fmt: skip
        begin += model.observation.counts.shape[-1]
    return Structure(models[0].structure.normsys, models[0].structure.histosys, tuple(terms))


def _bounds(
    models: Sequence[Model], places: Sequence[Index], size: int, index: Index, factors: Array
) -> tuple[Array, Array]:
    lower, upper = np.full((index.size, size), -np.inf), np.full((index.size, size), np.inf)
    for model, place, factor in zip(models, places, factors, strict=True):
        shape = (model.alternatives, len(model.parameters))
        low, high = (np.array(np.broadcast_to(b, shape)[index]) for b in (model.lower, model.upper))
        with np.errstate(divide="ignore"):
            low[:, model.poi], high[:, model.poi] = (b[:, model.poi] / factor for b in (low, high))
        here = place[:-1]
        lower[:, here] = np.maximum(lower[:, here], low)
        upper[:, here] = np.minimum(upper[:, here], high)
    return lower, upper


def _tensors(
    models: Sequence[Model], places: Sequence[Index], size: int, index: Index, factors: Array
) -> Tensors:
    chosen = [select(model.tensors, index) for model in models]
    samples = max(t.nominal.shape[1] for t in chosen)
    ends = np.cumsum([t.nominal.shape[2] for t in chosen])
    bins, number = int(ends[-1]), index.size
    norms, shapes = (
        list(dict.fromkeys(int(place[p]) for t, place in zip(chosen, places, strict=True) for p in t[field]))
        for field in (Tensors._fields.index("norm_parameter"), Tensors._fields.index("shape_parameter"))
    )
    nominal = np.zeros((number, samples, bins))
    scaled_by = np.full((1, samples, bins), size)
    norm_up, norm_down = (np.zeros((len(norms), samples, bins)) for _ in range(2))
    shape_up, shape_down = (np.zeros((number, len(shapes), samples, bins)) for _ in range(2))
    weight = np.zeros((number, bins))
    normal = np.zeros(size)
    terms: list[LinearTerm | FunctionTerm] = []
    for model, t, place, factor, end in zip(models, chosen, places, factors, ends, strict=True):
        here = slice(int(end) - t.nominal.shape[2], int(end))
        rows = slice(0, t.nominal.shape[1])
        # of the samples, only those that the yield multiplies are in its units
        signal = (t.factors == model.poi).any(axis=(0, 2))
        times = np.where(signal, factor[:, np.newaxis], 1.0)[:, :, np.newaxis]
        nominal[:, rows, here] = t.nominal * times
        scaled_by[:, rows, here] = place[t.factors]
        for total, own in ((norm_up, t.norm_up), (norm_down, t.norm_down)):
            for k, parameter in enumerate(t.norm_parameter):
                total[norms.index(place[parameter]), rows, here] = own[k]
        for total, own in ((shape_up, t.shape_up), (shape_down, t.shape_down)):
            for k, parameter in enumerate(t.shape_parameter):
                total[:, shapes.index(place[parameter]), rows, here] = own[:, k] * times
        weight[:, here] = t.weight
        normal[place[:-1]] = np.maximum(normal[place[:-1]], t.normal)
        terms.extend(t.terms)
    return Tensors(
        nominal, scaled_by, np.array(norms, dtype=np.int64), norm_up, norm_down, np.array(shapes, dtype=np.int64), shape_up,
        shape_down, normal, np.zeros(size), weight, tuple(terms),
    )  # fmt: skip
