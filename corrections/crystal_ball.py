"""Fits of the double-sided Crystal Ball to binned response distributions, for all bins of a calibration at once.

It describes core and tails together (`trila.corrections.crystal_ball_shape` has its formula); for the core alone
`trila.corrections.core_fits.gaussian_core` asks less of the data. Histograms have the response as the last axis;
all leading axes (eta, pT) are worked on at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from trila.corrections.core_fits import gaussian_core
from trila.corrections.crystal_ball_shape import PARAMETERS, bin_probabilities
from trila.corrections.response import effective_entries

__all__ = ["MINIMUM_ENTRIES", "CrystalBall", "crystal_ball"]

Array = NDArray[np.float64]

MINIMUM_ENTRIES = 300.0
"""Fewest effective entries of a histogram that is fitted: with fewer, the tails are not known at all."""

# Tails that start within 0.3 widths leave no core, tails beyond 5 are those of no jet; below n = 1 the integral
# diverges, and at n = 100 the tail is an exponential.
_ALPHA = (0.3, 5.0)
_N = (1.05, 100.0)

# Shapes of the tails to start from (alpha_low, n_low, alpha_high, n_high); mean and width are those of the core.
_STARTS = np.array(
    [[1.5, 3.0, 1.5, 3.0], [1.0, 3.0, 2.5, 10.0], [2.5, 10.0, 1.0, 3.0], [2.0, 30.0, 2.0, 30.0]]
)

# Levenberg and Marquardt's damping, relative to the diagonal, to begin with; a fit has converged when a step so
# damped would gain less than this in the logarithm of the likelihood of effective entries.
_STEPS = 100
_DAMPING = 1e-2
_GAIN = 1e-4

# Information on the logarithm of a parameter that is none: an error of a factor exp(30).
_NO_INFORMATION = 1e-3

# For the inverse: keeps it finite, and is seen by no error.
_NONE = 1e-9

# Rows fitted together: their arrays stay in a processor's cache.
_BLOCK = 64

# Expected effective entries in each group of bins that the deviance is summed over: with fewer it does not
# follow the chi-squared distribution.
_GROUP = 10.0


class CrystalBall(NamedTuple):
    """Double-sided Crystal Balls fitted to a stack of histograms of shape (..., n).

    Attributes:
        parameters: shape (..., 6), in the order of `PARAMETERS`; mean and width in the unit of the edges. nan
            where there was nothing to fit.
        errors: their statistical errors, shape (..., 6); nan for a parameter at its bound and where the fit
            failed.
        converged: whether the fit can be used, shape (...).
        deviance_per_ndof: near 1 where the function describes the data, shape (...); nan without a degree of
            freedom.
    """

    parameters: Array
    errors: Array
    converged: NDArray[np.bool_]
    deviance_per_ndof: Array

    @property
    def mean(self) -> Array:
        """Position of the peak, shape (...)."""
        return np.asarray(self.parameters[..., 0])

    @property
    def width(self) -> Array:
        """Standard deviation of the Gaussian part, shape (...)."""
        return np.asarray(self.parameters[..., 1])


def crystal_ball(values: ArrayLike, variances: ArrayLike, edges: ArrayLike) -> CrystalBall:
    """Fit a double-sided Crystal Ball to each histogram.

    The likelihood is the multinomial one of the bins, with the function integrated over each bin in closed form
    and normalised to the range of the edges. It is maximised by Fisher scoring with Levenberg's and Marquardt's
    damping, within 0.3 < alpha < 5 and 1.05 < n < 100, from the core that `gaussian_core` finds; a fit that
    fails is tried again from other tails. Where none converges, `converged` is False, the parameters are the
    best that were found and the errors nan. A histogram that `gaussian_core` refuses or that has fewer than
    `MINIMUM_ENTRIES` effective entries has nan throughout.

    A parameter at a bound has no error, nor has one of which the data say nothing (the n of a tail without
    entries); those of the others are for it fixed. The errors take the weights into account (Huber, Proc. 5th
    Berkeley Symp. 1 (1967) 221). They hold for tails of some hundred entries; with fewer the distributions of
    alpha and n are far from Gaussian.

    The deviance is that of effective entries, as if their weights were the same all over the histogram, summed
    over groups of neighbouring bins in which 10 or more are expected. As the fit saw finer bins, it exceeds its
    degrees of freedom by up to the number of parameters.

    Args:
        values: Sums of weights, shape (..., n).
        variances: Sums of squared weights, shape (..., n).
        edges: Bin edges in increasing order, shape (n + 1,), common to all histograms.

    Returns:
        Parameters, errors and quality of each fit.

    Raises:
        ValueError: If the shapes do not fit, or the edges do not increase.

    Example:
        >>> from trila.corrections.crystal_ball_shape import crystal_ball_cdf
        >>> edges, truth = np.linspace(0.0, 2.0, 201), [0.98, 0.1, 1.5, 3.0, 2.0, 5.0]
        >>> values = 1e5 * np.diff(crystal_ball_cdf(edges, truth))
        >>> crystal_ball(values, values, edges).parameters.round(3).tolist()
        [0.98, 0.1, 1.5, 3.0, 2.0, 5.0]
    """
    core = gaussian_core(values, variances, edges)
    boundaries = np.asarray(edges, dtype=np.float64)
    bins = boundaries.size - 1
    contents, squares = (
        np.asarray(array, dtype=np.float64).reshape(-1, bins) for array in (values, variances)
    )
    rows = np.flatnonzero(
        np.isfinite(core.mean.ravel()) & (effective_entries(contents, squares) >= MINIMUM_ENTRIES)
    )
    parameters = np.full((core.mean.size, len(PARAMETERS)), np.nan)
    errors = parameters.copy()
    converged = np.zeros(core.mean.size, dtype=np.bool_)
    deviance = np.full(core.mean.size, np.nan)
    start = np.stack([core.mean.ravel(), core.width.ravel()], axis=-1)
    for first in range(0, rows.size, _BLOCK):
        block = rows[first : first + _BLOCK]
        parameters[block], errors[block], converged[block], deviance[block] = _fit(
            contents[block], squares[block], boundaries, start[block]
        )
    shape = core.mean.shape
    return CrystalBall(
        parameters.reshape(*shape, len(PARAMETERS)),
        errors.reshape(*shape, len(PARAMETERS)),
        converged.reshape(shape),
        deviance.reshape(shape),
    )


def _fit(values: Array, variances: Array, edges: Array, cores: Array) -> CrystalBall:
    """Fit one block of histograms, shape (rows, n), from mean and width of shape (rows, 2)."""
    # In effective entries, so that tolerances mean the same for all weights.
    scale = (values.sum(axis=1) / variances.sum(axis=1))[:, np.newaxis]
    entries, spread = values * scale, variances * scale**2
    start = np.concatenate([cores, np.broadcast_to(_STARTS[0], (len(cores), 4))], axis=1)
    parameters, likelihood, converged = _maximise(entries, edges, start)
    for tails in _STARTS[1:]:
        left = np.flatnonzero(~converged)
        again = np.concatenate([cores[left], np.broadcast_to(tails, (left.size, 4))], axis=1)
        found, reached, success = _maximise(entries[left], edges, again)
        better = success | (reached > likelihood[left])
        to = left[better]
        parameters[to], likelihood[to], converged[to] = found[better], reached[better], success[better]

    probability, scores = bin_probabilities(edges, parameters)
    information = _information(entries, probability, scores)
    low, high = _bounds(start)
    informed = np.diagonal(information, axis1=1, axis2=2) > _NO_INFORMATION
    free = (parameters > low) & (parameters < high) & informed
    converged &= free[:, 0] & free[:, 1]
    inverse = np.linalg.inv(_damped(information, free, np.full(len(free), _NONE)))
    covariance = inverse @ np.matmul(scores * spread[:, np.newaxis], scores.transpose(0, 2, 1)) @ inverse
    unit = np.where(np.array(PARAMETERS) == "mean", parameters[:, 1:2], parameters)
    errors = unit * np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    errors[~free | ~converged[:, np.newaxis]] = np.nan
    deviance = _deviance_per_ndof(entries, probability, free.sum(axis=1))
    return CrystalBall(parameters, errors, converged, deviance)


def _maximise(entries: Array, edges: Array, start: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Parameters (rows, 6) of the largest likelihood, its logarithm, and whether it is a maximum."""
    low, high = _bounds(start)
    parameters = start.copy()
    likelihood, gradient, information = _likelihood(entries, edges, parameters)
    damping = np.full(len(start), _DAMPING)
    success = np.zeros(len(start), dtype=np.bool_)
    rows = np.arange(len(start))
    for _ in range(_STEPS):
        now, slope = parameters[rows], gradient[rows]
        free = ~(((now <= low[rows]) & (slope < 0)) | ((now >= high[rows]) & (slope > 0)))
        slope = np.where(free, slope, 0.0)
        full = _solve(_damped(information[rows], free, np.full(len(rows), _DAMPING)), slope)
        success[rows] = 0.5 * (slope * full).sum(axis=1) < _GAIN
        going = ~success[rows]
        rows, now, slope, free = rows[going], now[going], slope[going], free[going]
        if rows.size == 0:
            break
        step = np.clip(_solve(_damped(information[rows], free, damping[rows]), slope), -1.0, 1.0)
        trial = now * np.exp(step)
        trial[:, 0] = now[:, 0] + now[:, 1] * step[:, 0]
        trial = np.clip(trial, low[rows], high[rows])
        reached, gradient_there, information_there = _likelihood(entries[rows], edges, trial)
        better = reached >= likelihood[rows]
        # Nielsen's rule (IMM-REP-1999-05): the expected information may be half of the curvature that is there,
        # and steps twice too long would swing across the maximum without coming nearer.
        promised = (slope * step).sum(axis=1) - 0.5 * np.einsum("ri,rij,rj->r", step, information[rows], step)
        ratio = np.divide(
            reached - likelihood[rows], promised, out=np.zeros_like(promised), where=promised > 0
        )
        damping[rows] *= np.where(better, np.maximum(1 / 3, 1 - (2 * np.minimum(ratio, 1.0) - 1) ** 3), 4.0)
        to = rows[better]
        parameters[to], likelihood[to] = trial[better], reached[better]
        gradient[to], information[to] = gradient_there[better], information_there[better]
    return parameters, likelihood, success


def _solve(matrix: Array, vector: Array) -> Array:
    return np.asarray(np.linalg.solve(matrix, vector[..., np.newaxis])[..., 0])


def _likelihood(entries: Array, edges: Array, parameters: Array) -> tuple[Array, Array, Array]:
    """Logarithm of the likelihood (rows,), its gradient (rows, 6) and the expected information (rows, 6, 6)."""
    probability, scores = bin_probabilities(edges, parameters)
    gradient = np.matmul(scores, entries[..., np.newaxis])[..., 0]
    return xlogy(entries, probability).sum(axis=1), gradient, _information(entries, probability, scores)


def _information(entries: Array, probability: Array, scores: Array) -> Array:
    weight = entries.sum(axis=1)[:, np.newaxis] * probability
    return np.asarray(np.matmul(scores * weight[:, np.newaxis], scores.transpose(0, 2, 1)))


def _damped(information: Array, free: NDArray[np.bool_], damping: Array) -> Array:
    """The matrix of a step of the free parameters; 1 on the diagonal for the others."""
    diagonal = np.diagonal(information, axis1=1, axis2=2)
    # A tail without entries carries no information: an absolute part keeps its step finite.
    added = np.where(free, damping[:, np.newaxis] * np.maximum(diagonal, _NO_INFORMATION), 1.0)
    matrix = np.where(free[:, :, np.newaxis] & free[:, np.newaxis, :], information, 0.0)
    return np.asarray(matrix + added[:, :, np.newaxis] * np.eye(len(PARAMETERS)))


def _bounds(start: Array) -> tuple[Array, Array]:
    """Lowest and highest parameters of fits that start at `start`, shape (rows, 6)."""
    mean, width = start[:, 0], start[:, 1]
    columns = ((mean - 3 * width, mean + 3 * width), (width / 5, width * 5), _ALPHA, _N, _ALPHA, _N)
    low, high = (
        np.stack([np.broadcast_to(column[side], mean.shape) for column in columns], axis=-1)
        for side in (0, 1)
    )
    return low, high


def _deviance_per_ndof(entries: Array, probability: Array, free: NDArray[np.intp]) -> Array:
    """Deviance over its degrees of freedom, (rows,), with bins grouped to `_GROUP` expected entries or more."""
    expected = entries.sum(axis=1, keepdims=True) * probability
    rows, bins = expected.shape
    # A group begins where the entries expected below pass a multiple of _GROUP; what remains joins the last one.
    below = np.cumsum(expected, axis=1) - expected
    last = np.maximum(np.floor(expected.sum(axis=1, keepdims=True) / _GROUP) - 1, 0)
    number = np.minimum(np.floor(below / _GROUP), last)
    group = (
        np.cumsum(np.diff(number, axis=1, prepend=0.0) > 0, axis=1) + bins * np.arange(rows)[:, np.newaxis]
    )
    observed, expected = (
        np.bincount(group.ravel(), weights=array.ravel(), minlength=rows * bins).reshape(rows, bins)
        for array in (entries, expected)
    )
    ratio = np.divide(observed, expected, out=np.ones_like(observed), where=(observed > 0) & (expected > 0))
    terms = 2 * (observed * np.log(ratio) - observed + expected)
    ndof = (expected > 0).sum(axis=1) - 1 - free
    result = np.divide(terms.sum(axis=1), ndof, out=np.full(rows, np.nan), where=ndof > 0)
    return np.asarray(result)
