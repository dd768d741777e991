"""Signal plus background: the likelihood of a search, for all masses of a scan at once.

The yield of the signal is the parameter of interest, in units of about its own statistical error, so that it is of order
one at any mass and luminosity (`Search.unit`). The background is the fitted function, in one of two forms:

- `exact`: the function itself, integrated over bins, in whitened parameters;
- `linear`: its expansion to first order about the fit, B + J z. This is a standard HistFactory model (samples that are
  derivatives of B, with free normalisations), quick to fit and to publish. `linearity` tells where it stops being valid.

The parameters of the background are free in both: constraining them by the fit to the same data would count the data twice.
Those of a Gaussian process have a prior besides (`BackgroundFit.prior`), which is no such constraint.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.background import BackgroundFit, Windows, nodes_and_domains, predicted
from trila.fits.errors import FitError
from trila.fits.likelihood import FunctionTerm, LinearTerm, Model, Observation, Structure, Tensors, Term
from trila.fits.signal_systematics import Uncertainty, variations
from trila.fits.signals import Signal

__all__ = ["CONSTRAINED", "Form", "Search", "SignalTemplates", "linearity", "search", "templates"]

Array = NDArray[np.float64]
Form = Literal["exact", "linear"]

#: Bounds of parameters with a constraint of unit width, and of whitened parameters of the background.
CONSTRAINED, _FREE = 10.0, 1000.0
#: Part of the background, in its emptiest bin, that a negative signal may take away.
_LARGEST_DEFICIT = 0.9


class SignalTemplates(NamedTuple):
    """Signal events per bin for a yield of one, at M masses.

    Attributes:
        masses: GeV, shape (M,).
        nominal: shape (M, I).
        up, down: of each uncertainty of the shape, by name, shapes (M, I).
        norms: relative size of each uncertainty of the yield, by name.
        spurious: events of background taken for signal, by name, shape (M,).
    """

    masses: Array
    nominal: Array
    up: dict[str, Array]
    down: dict[str, Array]
    norms: dict[str, float]
    spurious: dict[str, Array]


class Search(NamedTuple):
    """A model for M masses and what its parameters mean.

    Attributes:
        model: parameters are the signal's yield, its nuisances, and those of the background.
        unit: events for a parameter of interest of one, shape (M,).
        fit: of the background alone, of one window or of one for each mass.
        templates: of the signal, without `unit`.
        form: of the background.
    """

    model: Model
    unit: Array
    fit: BackgroundFit
    templates: SignalTemplates
    form: Form


def templates(
    signal: Signal, masses: ArrayLike, edges: Array, uncertainties: Sequence[Uncertainty] = (), *, first: ArrayLike | None = None,
    bins: int | None = None,
) -> SignalTemplates:  # fmt: skip
    """The signal and its variations per bin.

    Args:
        signal: its shape.
        masses: GeV, shape (M,).
        edges: of the whole spectrum, GeV.
        uncertainties: sources; a spurious signal in units of sigma must be in events by now.
        first, bins: the window of mass i is `bins` bins from `first[i]` on; default all bins.
    """
    points = np.asarray(masses, dtype=np.float64)
    size = len(edges) - 1 if bins is None else bins
    begin = np.zeros(points.size, dtype=np.int64) if first is None else np.asarray(first)
    columns = begin[:, None] + np.arange(size)

    def cut(fractions: Array) -> Array:
        return np.take_along_axis(fractions, columns, axis=1)

    up, down = {}, {}
    for source in uncertainties:
        if source.kind == "shape":
            varied = variations(signal, points, edges, source)
            up[source.name], down[source.name] = cut(varied.up), cut(varied.down)
    return SignalTemplates(
        points, cut(signal.fractions(points, edges)), up, down,
        {u.name: u.size for u in uncertainties if u.kind == "norm"},
        {u.name: np.full(points.size, u.size) for u in uncertainties if u.kind == "spurious"},
    )  # fmt: skip


def search(fit: BackgroundFit, signal: SignalTemplates, *, form: Form = "linear") -> Search:
    """The likelihood of signal plus background at M masses.

    Args:
        fit: of the background, to one window for all masses or to one each.
        signal: of M masses in the bins of the windows.
        form: of the background.

    Raises:
        FitError: the background fit failed, a mass has less than a thousandth of its signal in the bins used, or the
            numbers of windows and masses differ.
    """
    number = signal.masses.size
    windows = fit.windows
    if len(windows.edges) not in (1, number):
        raise FitError(
            f"{len(windows.edges)} windows for {number} masses, expected one, or one for each mass"
        )
    _check(fit, signal)
    prediction = np.broadcast_to(fit.prediction, signal.nominal.shape)
    weight = np.broadcast_to(windows.weight, signal.nominal.shape)
    unit = 1 / np.sqrt((weight * signal.nominal**2 / prediction).sum(axis=1))
    nuisances = [*signal.norms, *signal.up, *signal.spurious]
    free = len(fit.function.parameters)
    names = ("mu", *nuisances, *(f"background_{i}" for i in range(free)))
    first = 1 + len(nuisances)
    size, bins = len(names), signal.nominal.shape[1]
    # a constrained background (a Gaussian process) is one of the whole spectrum
    prior = fit.prior[0]
    reach = np.where(np.isfinite(prior), CONSTRAINED, _FREE)
    limit = np.concatenate([[np.inf], np.full(len(nuisances), CONSTRAINED), reach])
    lower = np.tile(-limit, (number, 1))
    lower[:, 0] = _lowest(signal.nominal * unit[:, None], prediction, weight)
    term = Term(None if form == "linear" else fit.function, first, size, 0, bins)
    # alternatives share what does not depend on the mass
    single = len(windows.edges) == 1
    model = Model(
        Structure("code4", "code4p", (term,)),
        _tensors(
            signal, unit, nuisances, np.isfinite(prior), windows.weight[0] if single else windows.weight,
            _background(fit, form, single=single),
        ),
        names, 0, np.zeros(size), lower, limit, np.zeros(size, dtype=bool),
        Observation(
            windows.counts[0] if single else windows.counts, np.concatenate([np.zeros(first), np.nan_to_num(prior)])
        ),
        number,
    )  # fmt: skip
    return Search(model, unit, fit, signal, form)


def _check(fit: BackgroundFit, signal: SignalTemplates) -> None:
    edges = fit.windows.edges
    if not np.all(fit.good):
        first = int(np.argmin(fit.good))
        raise FitError(
            f"the fit of {fit.function.name} between {edges[first, 0]:g} and {edges[first, -1]:g} GeV did not converge; "
            "choose another function or range"
        )
    seen = np.where(fit.windows.weight > 0, signal.nominal, 0.0).sum(axis=1)
    if np.any(seen < 1e-3):
        worst = int(np.argmin(seen))
        raise FitError(
            f"{seen[worst]:.2g} of the signal at {signal.masses[worst]:g} GeV lies in the bins used "
            f"({edges[0, 0]:g} to {edges[-1, -1]:g} GeV without vetoes), expected at least 0.001; choose masses inside"
        )


def _lowest(signal: Array, prediction: Array, weight: Array) -> Array:
    with np.errstate(divide="ignore", over="ignore"):
        ratio = np.where(
            (weight > 0) & (signal > 1e-9 * signal.max(axis=1, keepdims=True)), prediction / signal, np.inf
        )
    return np.asarray(-_LARGEST_DEFICIT * ratio.min(axis=1))


def _tensors(
    signal: SignalTemplates, unit: Array, nuisances: list[str], constrained: NDArray[np.bool_], weight: Array,
    background: LinearTerm | FunctionTerm,
) -> Tensors:  # fmt: skip
    """Samples are the signal, and spurious signals that the parameter of interest does not scale."""
    number, bins = signal.nominal.shape
    size = 1 + len(nuisances) + constrained.size
    scaled = unit[:, None]
    shape = list(signal.up) + list(signal.spurious)
    nominal = np.zeros((number, 2 if signal.spurious else 1, bins))
    nominal[:, 0] = signal.nominal * scaled
    factors = np.full((1, nominal.shape[1], bins), size)
    factors[0, 0] = 0
    norm_up, norm_down = (np.zeros((len(signal.norms), nominal.shape[1], bins)) for _ in range(2))
    for i, amount in enumerate(signal.norms.values()):
        norm_up[i, 0], norm_down[i, 0] = np.log1p(amount), -np.log1p(amount)
    up, down = (np.zeros((number, len(shape), nominal.shape[1], bins)) for _ in range(2))
    for i, name in enumerate(shape):
        if name in signal.up:
            up[:, i, 0] = (signal.up[name] - signal.nominal) * scaled
            down[:, i, 0] = (signal.down[name] - signal.nominal) * scaled
        else:
            events = signal.spurious[name][:, None] * signal.nominal
            up[:, i, 1], down[:, i, 1] = events, -events
    index = {name: 1 + i for i, name in enumerate(nuisances)}
    normal = np.concatenate([[0.0], np.ones(len(nuisances)), constrained])
    return Tensors(
        nominal, factors, np.array([index[n] for n in signal.norms], dtype=np.int64), norm_up, norm_down,
        np.array([index[n] for n in shape], dtype=np.int64), up, down, normal, np.zeros(size), weight, (background,),
    )  # fmt: skip


def _background(fit: BackgroundFit, form: Form, *, single: bool) -> LinearTerm | FunctionTerm:
    pick = 0 if single else slice(None)
    if form == "linear":
        return LinearTerm(fit.prediction[pick], fit.jacobian[pick])
    nodes, weights, domains = nodes_and_domains(fit.windows)
    return FunctionTerm(nodes[pick], weights[pick], fit.point[pick], fit.transform[pick], domains[pick])


def linearity(found: Search, values: Array, which: NDArray[np.int64]) -> Array:
    """Largest difference of the linear background from the function, in units of the counts' error, shape (N,).

    Args:
        found: of either form.
        values: parameters of the model, shape (N, P).
        which: mass of each, shape (N,).
    """
    fit = found.fit
    row = np.zeros_like(which) if len(fit.windows.edges) == 1 else which
    z = values[:, -len(fit.function.parameters) :]
    linear = fit.prediction[row] + np.einsum("nij,nj->ni", fit.jacobian[row], z)
    point = fit.point[row] + np.einsum("nij,nj->ni", fit.transform[row], z)
    exact = predicted(
        fit.function,
        Windows(fit.windows.edges[row], fit.windows.counts[row], fit.windows.weight[row], fit.windows.sqrt_s),
        point,
    )
    pull = np.abs(linear - exact) * np.sqrt(fit.windows.weight[row] / fit.prediction[row])
    return np.asarray(np.where(fit.windows.weight[row] > 0, pull, 0.0).max(axis=1))
