"""Fits of smooth functions to spectra, or to many windows of one spectrum at once.

The likelihood is the Poisson one of counts, with the function integrated over each bin. Parameters such as those of the dijet
functions are correlated to one part in 10¹⁰; the fit is therefore done in whitened coordinates z,

    p = centre + T z,

with T from the Fisher information: there z has unit errors and no correlations, and the score is the step to the minimum
(Fisher scoring).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from trila.fits.compiled import double_precision
from trila.fits.errors import FitError
from trila.fits.functions import Domain, SpectrumFunction, quadrature
from trila.fits.likelihood import (
    FunctionTerm,
    Model,
    Observation,
    Structure,
    Tensors,
    Term,
    natural,
    poisson_deviance,
)
from trila.fits.minimise import minimise
from trila.fits.spectrum import Spectrum, scale

__all__ = [
    "BackgroundFit",
    "Windows",
    "background_model",
    "expanded_about",
    "fit_background",
    "nodes_and_domains",
    "of_windows",
    "predicted",
    "whole",
]

Array = NDArray[np.float64]
_POINTS = 8
_ITERATIONS = 60
#: Steps are not shortened below this part of the full one.
_SHORTEST = 1e-3
#: How often Newton's method takes over where Fisher scoring gets stuck.
_RESCUES = 2
#: Squared distance to the minimum in standard deviations at which a fit has converged.
_CLOSE = 1e-9


class Windows(NamedTuple):
    """M windows of a spectrum, all of I bins.

    Attributes:
        edges: GeV, shape (M, I + 1).
        counts: shape (M, I).
        weight: of each bin in the deviance, 0 where a fit may not look, shape (M, I).
        sqrt_s: collision energy, GeV.
    """

    edges: Array
    counts: Array
    weight: Array
    sqrt_s: float


class BackgroundFit(NamedTuple):
    """A function fitted to M windows; P parameters.

    Attributes:
        function: what was fitted.
        windows: to what.
        values: the function's own parameters, shape (M, P).
        covariance: of them, by the Fisher information, shape (M, P, P).
        point: coordinates of the fit, see `likelihood.natural`, shape (M, P).
        transform: whitening at the minimum, shape (M, P, P).
        prediction: expected events, shape (M, I).
        jacobian: its derivatives by the whitened parameters, shape (M, I, P).
        deviance, pearson: χ² in its two forms over the bins used, shape (M,).
        ndof: bins used less parameters, shape (M,).
        p_value: of the deviance, by the χ² distribution, shape (M,).
        distance: to the minimum, in deviance, shape (M,).
        good: converged, and all parameters determined, shape (M,).
        prior: where a normal constraint of unit width on each whitened parameter is centred, less the parameter's fit; NaN
            where there is none, as for all parameters of a function. Shape (M, P).
    """

    function: SpectrumFunction
    windows: Windows
    values: Array
    covariance: Array
    point: Array
    transform: Array
    prediction: Array
    jacobian: Array
    deviance: Array
    pearson: Array
    ndof: NDArray[np.int64]
    p_value: Array
    distance: Array
    good: NDArray[np.bool_]
    prior: Array


def whole(spectrum: Spectrum, sqrt_s: float) -> Windows:
    """A spectrum as one window.

    Raises:
        FitError: as `scale`.
    """
    weight = np.where(spectrum.used, 1 / scale(spectrum), 0.0)
    return Windows(spectrum.edges[None], spectrum.counts[None], weight[None], sqrt_s)


def fit_background(function: SpectrumFunction, windows: Windows) -> BackgroundFit:
    """Fit one function to M windows.

    Raises:
        FitError: fewer bins than parameters plus one, no events, or masses outside (0, sqrt_s).
    """
    _check(function, windows)
    starts = _starts(function, windows)
    best: BackgroundFit | None = None
    for start in np.moveaxis(starts, 1, 0):
        found = _fit(function, windows, start)
        best = found if best is None else _better(best, found)
        if np.all(best.good & (best.p_value > 1e-3)):
            break
    assert best is not None
    return best


def _check(function: SpectrumFunction, windows: Windows) -> None:
    used = (windows.weight > 0).sum(axis=1)
    number = len(function.parameters)
    if np.any(used <= number):
        first = int(np.argmax(used <= number))
        low, high = windows.edges[first, 0], windows.edges[first, -1]
        raise FitError(
            f"{used[first]} bins between {low:g} and {high:g} GeV for the {number} parameters of {function.name}, "
            f"expected at least {number + 1}; widen the range or take finer bins"
        )
    empty = ~np.any((windows.counts > 0) & (windows.weight > 0), axis=1)
    if np.any(empty):
        first = int(np.argmax(empty))
        raise FitError(
            f"no events between {windows.edges[first, 0]:g} and {windows.edges[first, -1]:g} GeV; choose a range with data"
        )
    if not (np.all(windows.edges > 0) and np.all(windows.edges < windows.sqrt_s)):
        raise FitError(
            f"masses from {windows.edges.min():g} to {windows.edges.max():g} GeV, expected values above 0 and below "
            f"sqrt_s = {windows.sqrt_s:g} GeV; check the units, the range and --sqrts"
        )


def nodes_and_domains(windows: Windows) -> tuple[Array, Array, Array]:
    """Quadrature nodes and weights, each of shape (M, I, points), and domains of shape (M, 3)."""
    nodes, weights = quadrature(windows.edges, _POINTS)
    number = len(windows.edges)
    ends = np.column_stack([windows.edges[:, 0], windows.edges[:, -1], np.full(number, windows.sqrt_s)])
    return nodes, weights, ends


def predicted(function: SpectrumFunction, windows: Windows, point: Array) -> Array:
    """Expected events of M sets of coordinates, shape (M, I)."""
    nodes, weights, domains = nodes_and_domains(windows)
    # masses first, so that parameters (P, M, 1, 1) broadcast against nodes (M, I, points)
    columns = natural(function, point.T)[:, :, None, None]
    density = function.density(nodes, columns, Domain(*domains.T[:, :, None, None]))
    return np.asarray((density * weights).sum(axis=-1))


def _starts(function: SpectrumFunction, windows: Windows) -> Array:
    """Coordinates of starts, shape (M, starts, P), those of the lowest χ² first."""
    found = []
    for edges, counts, weight in zip(windows.edges, windows.counts, windows.weight, strict=True):
        used = weight > 0
        width = np.diff(edges)[used]
        centre = ((edges[1:] + edges[:-1]) / 2)[used]
        error = np.sqrt(np.maximum(counts[used], 1.0) / weight[used]) / width
        value = counts[used] / width
        limits = Domain(edges[0], edges[-1], windows.sqrt_s)
        rows = np.atleast_2d(function.start(centre, value, error, limits))
        with np.errstate(all="ignore"):
            chi_square = [
                np.sum(((function.density(centre, row, limits) - value) / error) ** 2) for row in rows
            ]
        if function.normed:
            rows = np.column_stack([np.log(rows[:, 0]), rows[:, 1:]])
        found.append(rows[np.argsort(np.nan_to_num(chi_square, nan=np.inf))])
    number = min(len(rows) for rows in found)
    return np.array([rows[:number] for rows in found])


def _better(one: BackgroundFit, other: BackgroundFit) -> BackgroundFit:
    """The better of two fits, window by window."""
    take = other.good & (~one.good | (other.deviance < one.deviance - 1e-6))
    arrays = [_taken(take, theirs, ours) for theirs, ours in zip(other[2:], one[2:], strict=True)]
    return BackgroundFit._make([one.function, one.windows, *arrays])


def _fit(function: SpectrumFunction, windows: Windows, start: Array) -> BackgroundFit:
    point, now, distance = _scored(function, windows, start)
    for _ in range(_RESCUES):
        hard = np.flatnonzero(~(distance <= _CLOSE))
        if not hard.size:
            break
        # curved valleys, where second derivatives matter: Newton's method, whitened anew each time
        model = background_model(function, windows, point, np.nan_to_num(now.transform))
        observation = Observation(windows.counts[hard], np.zeros(point[hard].shape))
        found = minimise(model, observation, np.zeros(point[hard].shape), ~model.fixed, alternatives=hard)
        moved = np.array(point)
        moved[hard] += np.einsum("mij,mj->mi", np.nan_to_num(now.transform[hard]), found.values)
        point, now, distance = _scored(function, windows, moved)
    return _summary(function, windows, point, now, distance)


def _scored(function: SpectrumFunction, windows: Windows, start: Array) -> tuple[Array, "_Expansion", Array]:
    """Fisher scoring: in whitened coordinates the information is the unit matrix, and the score is the step."""
    point = start
    now = _expand(function, windows, point)
    length = np.ones(len(point))
    for _ in range(_ITERATIONS):
        step = np.einsum("mij,mi->mj", now.jacobian, _score(windows, now.prediction))
        distance = (step**2).sum(axis=1)
        going = (distance > _CLOSE) & (length > _SHORTEST)
        if not going.any():
            break
        moved = point + np.where(going, length, 0.0)[:, None] * np.einsum("mij,mj->mi", now.transform, step)
        trial = _expand(function, windows, moved)
        better = going & (trial.deviance <= now.deviance + 1e-9 * (1 + now.deviance))
        point = np.where(better[:, None], moved, point)
        now = _Expansion(*(_taken(better, new, old) for new, old in zip(trial, now, strict=True)))
        length = np.where(better, np.minimum(1.0, 2 * length), np.where(going, length / 2, length))
    return point, now, distance


def _taken(which: NDArray[np.bool_], new: Any, old: Any) -> Any:
    return np.where(which.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _score(windows: Windows, prediction: Array) -> Array:
    """Derivative of ln L by the expected events, shape (M, I)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(windows.weight > 0, windows.weight * (windows.counts - prediction) / prediction, 0.0)


def _summary(
    function: SpectrumFunction, windows: Windows, point: Array, now: "_Expansion", distance: Array
) -> BackgroundFit:
    used = windows.weight > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        pearson = np.where(
            used, windows.weight * (windows.counts - now.prediction) ** 2 / now.prediction, 0.0
        )
    ndof = used.sum(axis=1) - point.shape[1]
    values = natural(function, point.T).T
    # of the function's own parameters: the norm was fitted as its logarithm
    slope = np.ones(values.shape)
    if function.normed:
        slope[:, 0] = values[:, 0]
    good = (distance <= _CLOSE) & np.all(np.isfinite(now.transform), axis=(1, 2)) & np.isfinite(now.deviance)
    with np.errstate(over="ignore", invalid="ignore"):
        own = now.transform * slope[:, :, None]
        covariance = own @ np.swapaxes(own, 1, 2)
    return BackgroundFit(
        function, windows, values, covariance, point, now.transform, now.prediction, now.jacobian,
        now.deviance, pearson.sum(axis=1), ndof, chdtrc(ndof, now.deviance), distance, good, np.full(values.shape, np.nan),
    )  # fmt: skip


def background_model(function: SpectrumFunction, windows: Windows, centre: Array, transform: Array) -> Model:
    """The likelihood of the background alone in whitened parameters, one alternative for each window."""
    size, bins = windows.counts.shape
    number = len(function.parameters)
    none = np.zeros((0, 0, bins))
    nodes, weights, domains = nodes_and_domains(windows)
    return Model(
        Structure("code4", "code4p", (Term(function, 0, number, 0, bins),)),
        Tensors(
            np.zeros((0, bins)), np.zeros((1, 0, bins), dtype=np.int64), np.zeros(0, dtype=np.int64), none, none,
            np.zeros(0, dtype=np.int64), none, none, np.zeros(number), np.zeros(number), windows.weight,
            (FunctionTerm(nodes, weights, centre, transform, domains),),
        ),
        function.parameters, -1, np.zeros(number), np.full(number, -np.inf), np.full(number, np.inf),
        np.zeros(number, dtype=bool), Observation(windows.counts, np.zeros(number)), size,
    )  # fmt: skip


def of_windows(fit: BackgroundFit, which: NDArray[np.int64]) -> BackgroundFit:
    """The fits of some windows, in any order and as often as wanted."""
    edges, counts, weight, sqrt_s = fit.windows
    windows = Windows(edges[which], counts[which], weight[which], sqrt_s)
    return BackgroundFit._make([fit.function, windows, *(x[which] for x in fit[2:])])


def expanded_about(fit: BackgroundFit, which: NDArray[np.int64], points: Array) -> BackgroundFit:
    """Fits with another origin: prediction, Jacobian and whitening are those at other points than the minimum.

    Args:
        fit: of M windows.
        which: windows, shape (N,).
        points: whitened parameters of `fit` that are the new origins, shape (N, P).

    Returns:
        Of N windows; what is not an expansion (values, covariance, deviance) is that of the minimum still.
    """
    chosen = of_windows(fit, which)
    origin = chosen.point + np.einsum("nij,nj->ni", chosen.transform, points)
    there = _expand(fit.function, chosen.windows, origin)
    return chosen._replace(
        point=origin, prediction=there.prediction, jacobian=there.jacobian, transform=there.transform
    )


class _Expansion(NamedTuple):
    """A function about one point, for M windows.

    Attributes:
        prediction: expected events, shape (M, I).
        jacobian: derivatives by the whitened parameters, shape (M, I, P).
        transform: whitening, shape (M, P, P).
        deviance: shape (M,).
    """

    prediction: Array
    jacobian: Array
    transform: Array
    deviance: Array


def _expand(function: SpectrumFunction, windows: Windows, point: Array) -> _Expansion:
    nodes, weights, domains = nodes_and_domains(windows)
    with double_precision():
        found = _expanded(function, nodes, weights, domains, windows.weight, windows.counts, point)
        return _Expansion(*(np.asarray(x) for x in found))


@partial(jax.jit, static_argnums=0)
def _expanded(function: SpectrumFunction, *windows: Any) -> tuple[Any, Any, Any, Any]:
    def one(
        nodes: Any, weights: Any, domain: Any, weight: Any, counts: Any, point: Any
    ) -> tuple[Any, Any, Any, Any]:
        def events(coordinates: Any) -> Any:
            return (function.density(nodes, natural(function, coordinates), Domain(*domain)) * weights).sum(
                axis=-1
            )

        expected, jacobian = events(point), jax.jacfwd(events)(point)
        # rows are pulls: the Fisher information is the square of this matrix, and its QR keeps all digits
        pulls = jacobian * jnp.sqrt(weight / expected)[:, None]
        norm = jnp.linalg.norm(pulls, axis=0)
        triangle = jnp.linalg.qr(pulls / norm, mode="r")
        transform = jax.scipy.linalg.solve_triangular(triangle, jnp.eye(len(point))) / norm[:, None]
        return expected, jacobian @ transform, transform, poisson_deviance(counts, expected, weight)

    return jax.vmap(one)(*windows)
