"""Toy experiments: seeded pseudo-data of a fitted background or of a model, their fits, and p-values from them.

| you have | use |
| --- | --- |
| a background fit, and want pseudo-data | `background_toys` |
| pseudo-data, and want the same function fitted to each | `refit` |
| a likelihood with nuisance parameters, and want pseudo-data | `model_toys` |
| a statistic of the data and those of toys | `p_value` |
| the deviance of a background fit, and want its p-value without the χ² distribution | `deviance_p_value` |

Toys are drawn by inversion: each bin of each toy has one uniform number, whose quantile of the Poisson distribution is the
count. So the first of many toys are those of a shorter run, no batch or number of cores changes them, and equal seeds give
nearby toys for nearby expectations (common random numbers): what is computed of them varies smoothly with a parameter.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from trila.fits.background import BackgroundFit, background_model, predicted
from trila.fits.errors import FitError
from trila.fits.likelihood import Model, Observation
from trila.fits.minimise import minimise
from trila.fits.profile import expected_counts

__all__ = [
    "Seed",
    "ToyFits",
    "ToyPValue",
    "background_toys",
    "deviance_p_value",
    "model_toys",
    "p_value",
    "refit",
]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
#: One number, or several: (7, 0) and (7, 1) give independent toys.
Seed = int | tuple[int, ...]

#: Above this expectation the expansion is right to 1e-4 of an event, and the tail itself is lost in rounding.
_MANY = 1e8
#: Probability in each tail of the interval quoted as one standard deviation.
_TAIL = 0.15865525393145707
#: Toys fitted at once, and where each hides bins of its own.
_ROWS, _OWN = 1024, 128


class ToyFits(NamedTuple):
    """Fits of T toys.

    Attributes:
        prediction: expected events, shape (T, I).
        deviance: shape (T,).
        good: converged, shape (T,).
    """

    prediction: Array
    deviance: Array
    good: Flags


class ToyPValue(NamedTuple):
    """Share of toys with a statistic at least that of the data, which counts as one of them.

    Attributes:
        value: (k + 1)/(T + 1) with k toys beyond the data. It is never 0, and with k = 0 an upper limit.
        low, high: Clopper-Pearson interval of 68.3 % of the share k/T.
        exceeding: k, with the failed ones.
        failed: toys whose fit failed. They count as beyond the data, so that failures never make a discovery.
        toys: T.
    """

    value: float
    low: float
    high: float
    exceeding: int
    failed: int
    toys: int


def background_toys(fit: BackgroundFit, number: int, seed: Seed) -> Array:
    """Pseudo-data of a background fit.

    Weighted spectra are drawn as scaled Poisson numbers, multiples of the mean weight of the bin.

    Args:
        fit: of one window.
        number: of toys.
        seed: of the toys.

    Returns:
        Shape (number, I); 0 in bins that the fit does not use.

    Raises:
        FitError: a fit of several windows or one that failed, or no toy.
    """
    _check(fit)
    return _counts(fit.prediction[0], fit.windows.weight[0], number, seed)


def model_toys(model: Model, values: Array, number: int, seed: Seed, *, alternative: int = 0) -> Observation:
    """Pseudo-experiments: counts, and the auxiliary measurements that constrain nuisance parameters.

    Both are drawn about the same true values. What constrains a fixed parameter is a constant and stays as in the data.

    Args:
        model: whose constraints are normal or Poisson.
        values: true parameters, shape (P,).
        number: of toys.
        seed: of the toys.
        alternative: of the model.

    Returns:
        Counts (number, I), 0 in bins that are not used, and auxiliary (number, P).

    Raises:
        FitError: no toy.
    """
    tensors = model.tensors_of(alternative)
    expected = expected_counts(model, values[None], np.array([alternative]))[0]
    counts = _counts(np.maximum(expected, 0.0), tensors.weight, number, seed)
    uniform = _uniform(seed, 1, (number, values.size))
    width = 1 / np.sqrt(np.where(tensors.normal > 0, tensors.normal, 1.0))
    auxiliary = np.where(
        tensors.normal > 0, values + width * special.ndtri(uniform), model.observation.auxiliary
    )
    counted = np.flatnonzero(tensors.poisson > 0)
    auxiliary[:, counted] = _quantiles(
        uniform[:, counted], np.maximum(tensors.poisson * values, 0.0)[counted]
    )
    return Observation(counts, np.where(model.fixed, model.observation.auxiliary, auxiliary))


def refit(fit: BackgroundFit, counts: Array, *, hidden: Flags | None = None) -> ToyFits:
    """Fit a function to T sets of counts, starting from its fit to the data.

    Args:
        fit: of one window.
        counts: shape (T, I).
        hidden: bins that each fit may not look at besides those not used, shape (T, I).

    Raises:
        FitError: a fit of several windows, one that failed, or one with a prior.
    """
    _check(fit)
    if np.isfinite(fit.prior).any():
        raise FitError(
            f"{fit.function.name} has a prior on its parameters, expected a function with free ones; use `search` and `model_toys`"
        )
    number, size = len(counts), len(fit.function.parameters)
    model = background_model(fit.function, fit.windows, fit.point, fit.transform)
    # toys that look at bins of their own are alternatives, always as many, which share all but the weights
    batch = _ROWS if hidden is None else _OWN
    points, deviances, converged = [], [], []
    for first in range(0, number, batch):
        rows = np.arange(first, min(first + batch, number))
        which = np.zeros(rows.size, dtype=np.int64)
        if hidden is not None:
            which = np.arange(rows.size)
            model = _with_own_bins(model, fit.windows.weight[0], hidden[rows])
        found = minimise(
            model, Observation(counts[rows], np.zeros((rows.size, size))), np.zeros((rows.size, size)),
            np.ones(size, dtype=bool), alternatives=which,
        )  # fmt: skip
        points.append(predicted(fit.function, fit.windows, fit.point + found.values @ fit.transform[0].T))
        deviances.append(found.deviance)
        converged.append(found.converged)
    return ToyFits(np.concatenate(points), np.concatenate(deviances), np.concatenate(converged))


def _with_own_bins(model: Model, weight: Array, hidden: Flags) -> Model:
    """The background with up to `_OWN` sets of hidden bins."""
    (term,) = model.tensors.terms
    shared = type(term)(
        *(leaf.reshape(leaf.shape[-n:]) for leaf, n in zip(term, (2, 2, 1, 2, 1), strict=True))
    )
    own = np.tile(weight, (_OWN, 1))
    own[: len(hidden)] = np.where(hidden, 0.0, weight)
    tensors = model.tensors._replace(weight=own, terms=(shared,))
    return model._replace(tensors=tensors, alternatives=_OWN)


def p_value(observed: float, toys: Array, good: Flags) -> ToyPValue:
    """How often toys have a statistic at least as large as that of the data.

    A p-value that counts the data as one of the toys is valid with any number of toys: it is at most α with a
    probability of at most α (A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application, section 4.2).

    Args:
        observed: statistic of the data.
        toys: those of the toys, shape (T,).
        good: toys whose statistic is valid, shape (T,).

    Raises:
        FitError: no toys, or a statistic of the data that is not a number.

    >>> p_value(2.0, np.array([1.0, 3.0, 0.5]), np.array([True, True, True])).value
    0.5
    """
    number = toys.size
    _check_number(number)
    if np.isnan(observed):
        raise FitError("the statistic of the data is no number, expected a fit that converged; mend that fit")
    k = int(np.sum(~good | (toys >= observed)))
    low = float(special.betaincinv(k, number - k + 1, _TAIL)) if k else 0.0
    high = float(special.betaincinv(k + 1, number - k, 1 - _TAIL)) if k < number else 1.0
    return ToyPValue((k + 1) / (number + 1), low, high, k, int(np.sum(~good)), number)


def deviance_p_value(fit: BackgroundFit, toys: ToyFits) -> ToyPValue:
    """Goodness of fit: how often the function fits its own toys worse than the data.

    It takes the place of the χ² distribution where bins hold few events (S. Baker and R. D. Cousins, Nucl. Instrum. Meth. 221
    (1984) 437).

    Args:
        fit: of one window.
        toys: of `background_toys`, as `refit` fits them.

    Raises:
        FitError: a fit of several windows, or one that failed.
    """
    _check(fit)
    return p_value(float(fit.deviance[0]), toys.deviance, toys.good)


def _check(fit: BackgroundFit) -> None:
    if len(fit.windows.edges) != 1:
        raise FitError(f"a fit of {len(fit.windows.edges)} windows, expected one of a whole spectrum")
    if not fit.good[0]:
        raise FitError(
            f"the fit of {fit.function.name} did not converge, expected a minimum to draw toys at; choose another function or "
            "range"
        )


def _check_number(number: int) -> None:
    if number < 1:
        raise FitError(f"{number} toys, expected at least 1; give a number such as 1000")


def _counts(expected: Array, weight: Array, number: int, seed: Seed) -> Array:
    _check_number(number)
    used = weight > 0
    events = np.where(used, expected * weight, 0.0)
    return _quantiles(_uniform(seed, 0, (number, expected.size)), events) / np.where(used, weight, 1.0)


def _uniform(seed: Seed, stream: int, shape: tuple[int, int]) -> Array:
    """Numbers in (0, 1), the first rows the same for any number of rows."""
    words = (seed,) if isinstance(seed, int) else seed
    sequence = np.random.SeedSequence(words, spawn_key=(stream,))
    drawn = np.random.Generator(np.random.Philox(sequence)).random(shape)
    return np.maximum(drawn, 2.0**-54)  # 0 has no normal quantile


def _quantiles(uniform: Array, expected: Array) -> Array:
    """Smallest n with P(≤ n | expected) ≥ uniform: the Cornish-Fisher expansion, then steps of one to the exact count.

    `scipy.stats.poisson.ppf` takes fifty times longer, and does not return at 10⁹ events.

    Args:
        uniform: shape (T, I).
        expected: at least 0, shape (I,).
    """
    z, root = special.ndtri(uniform), np.sqrt(expected)
    bend = (z**2 - 1) / 6 + (z - z**3) / (72 * np.maximum(root, 0.1))
    count = np.maximum(np.ceil(expected + root * z + bend - 0.5), 0.0).ravel()
    mean, target = np.broadcast_to(expected, uniform.shape).ravel(), uniform.ravel()
    exact = mean < _MANY
    low = np.flatnonzero(exact & (special.pdtr(count, mean) < target))
    while low.size:
        count[low] += 1
        low = low[special.pdtr(count[low], mean[low]) < target[low]]
    high = np.flatnonzero(exact & (count > 0) & (special.pdtr(count - 1, mean) >= target))
    while high.size:
        count[high] -= 1
        high = high[(count[high] > 0) & (special.pdtr(count[high] - 1, mean[high]) >= target[high])]
    return np.asarray(count.reshape(uniform.shape))
