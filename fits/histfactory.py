"""The parts of a search that its HistFactory models share: signal, observation, and bounds.

A model counts w·n events in a bin with n: w is the weight of the bin in the deviance, 1 for event counts and
count/variance for sums of weights, whose likelihood is then that of scaled Poisson counts (G. Bohm and G. Zech,
arXiv:1309.1287). Bins that a fit may not look at (weight 0) are left out.

| parameter | is |
| --- | --- |
| `mu` | the yield of the signal in units of `Search.unit`, or of as many events as asked for |
| `luminosity`, `scale`, ... | a source of uncertainty, by its name: the same in all channels |
| `spurious_CHANNEL` | the same, of one channel alone |
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.fits.errors import FitError
from trila.fits.limits import Limits
from trila.fits.search import Search

__all__ = ["POI", "Bins", "SignalPart", "background_bound", "bins_of", "highest", "signal_part"]

Array = NDArray[np.float64]

#: Name of the parameter of interest.
POI = "mu"
#: A bound of the parameter of interest lies this many times above the largest of its limits.
_MARGIN = 5.0
#: Least bound of whitened parameters, and what they move by on their own, in standard deviations.
_LEAST, _OWN = 50.0, 10.0


class Bins(NamedTuple):
    """The bins of one mass that a fit looks at, I of them.

    Attributes:
        used: which ones of the window, shape (bins,).
        weight: of each, shape (I,).
        edges: lower and upper one, GeV, shape (I, 2).
        counts: observed, times the weight, shape (I,).
        background: the fit's prediction, times the weight, shape (I,).
        jacobian: derivatives of that by the whitened parameters, shape (I, P).
        prior: of these, see `BackgroundFit`, shape (P,).
    """

    used: NDArray[np.bool_]
    weight: Array
    edges: Array
    counts: Array
    background: Array
    jacobian: Array
    prior: Array


class SignalPart(NamedTuple):
    """What one signal adds to the model of the background.

    Attributes:
        samples: of HistFactory.
        parameters: their settings in the measurement.
    """

    samples: list[dict[str, Any]]
    parameters: list[dict[str, Any]]


def bins_of(found: Search, index: int) -> Bins:
    """The bins of a mass."""
    fit, row = found.fit, 0 if len(found.fit.windows.edges) == 1 else index
    used = fit.windows.weight[row] > 0
    weight, edges = fit.windows.weight[row][used], fit.windows.edges[row]
    return Bins(
        used, weight, np.column_stack([edges[:-1], edges[1:]])[used], weight * fit.windows.counts[row][used],
        weight * fit.prediction[row][used], weight[:, None] * fit.jacobian[row][used], fit.prior[row],
    )  # fmt: skip


def highest(limits: Limits) -> Array:
    """Upper bounds of the parameter of interest: far above its limits, as those who search them need, shape (M,).

    NaN where a limit was not found.
    """
    return np.asarray(_MARGIN * np.maximum(limits.expected.max(axis=1), limits.observed))


def background_bound(found: Search, limits: Limits) -> float:
    """Bound of the whitened parameters for all masses, in standard deviations.

    A signal of μ moves them by -μ Jᵀ (s/B): wide enough for twice that at the highest signal.
    """
    fit = found.fit
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = (
            np.where(fit.windows.weight > 0, fit.windows.weight / fit.prediction, 0.0)[:, :, None]
            * fit.jacobian
        )
    subscripts = "ip,mi->mp" if len(pull) == 1 else "mip,mi->mp"
    pull = pull[0] if len(pull) == 1 else pull
    moved = np.abs(np.einsum(subscripts, pull, found.templates.nominal)).max(axis=1)
    reach = np.nan_to_num(highest(limits)) * found.unit * moved
    return float(np.ceil(max(_LEAST, _OWN + 2 * reach.max())))


def signal_part(
    found: Search, index: int, limits: Limits, *, name: str, events: float | None = None
) -> SignalPart:
    """The samples of a signal, and of the background that is taken for it.

    Args:
        found: of either form.
        index: of the mass.
        limits: of the masses of `found`.
        name: of the channel.
        events: of the signal, in this channel, for a parameter of interest of 1; default the unit of the search.

    Raises:
        FitError: no limit was found for this mass: there is no scale for the bounds.
    """
    signal, here = found.templates, bins_of(found, index)
    unit = float(found.unit[index]) if events is None else events
    largest = float(highest(limits)[index] * found.unit[index] / unit)
    if not (np.isfinite(largest) and largest > 0):
        raise FitError(
            f"the limits at {signal.masses[index]:g} GeV are {limits.observed[index]:g} (observed) and "
            f"{limits.expected[index].max():g} (expected), expected numbers above 0; leave the mass out, or choose another "
            "function or range"
        )

    def rates(fractions: Array, factor: float) -> list[float]:
        values: list[float] = (fractions[index][here.used] * here.weight * factor).tolist()
        return values

    modifiers: list[dict[str, Any]] = [{"name": POI, "type": "normfactor", "data": None}]
    for source, size in signal.norms.items():
        modifiers.append({"name": source, "type": "normsys", "data": {"hi": 1 + size, "lo": 1 / (1 + size)}})
    for source in signal.up:
        shapes = {"hi_data": rates(signal.up[source], unit), "lo_data": rates(signal.down[source], unit)}
        modifiers.append({"name": source, "type": "histosys", "data": shapes})
    samples = [{"name": "signal", "data": rates(signal.nominal, unit), "modifiers": modifiers}]
    constrained = [*signal.norms, *signal.up]
    for source, number in signal.spurious.items():
        label, size = f"{source}_{name}", float(number[index])
        shapes = {"hi_data": rates(signal.nominal, size), "lo_data": rates(signal.nominal, -size)}
        modifier = {"name": label, "type": "histosys", "data": shapes}
        samples.append({"name": source, "data": [0.0] * int(here.used.sum()), "modifiers": [modifier]})
        constrained.append(label)
    bound = float(found.model.upper[1]) if constrained else 0.0
    parameters: list[dict[str, Any]] = [{"name": POI, "inits": [0.0], "bounds": [[0.0, largest]]}]
    parameters += [{"name": label, "inits": [0.0], "bounds": [[-bound, bound]]} for label in constrained]
    return SignalPart(samples, parameters)
