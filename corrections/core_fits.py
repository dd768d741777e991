"""The Gaussian core of binned response distributions, for all bins of a calibration at once.

What to use when:

* the peak and its width, unmoved by tails: `gaussian_core`, a Gaussian fitted within `k` of its own widths;
* the tails as well: `trila.corrections.crystal_ball`;
* few entries, or a shape without a peak: the quantiles of `trila.corrections.response`.

Every function takes histograms with the response as the last axis and works on all leading axes (eta, pT)
at once: a step of the fit is one array operation over all histograms that still need it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from trila.corrections.response import binned_quantiles, effective_entries

__all__ = ["MINIMUM_ENTRIES", "Core", "gaussian_core"]

Array = NDArray[np.float64]

MINIMUM_ENTRIES = 50.0
"""Fewest effective entries of a histogram that is fitted: with fewer, a core's width is not known to a quarter."""

# Windows tried, and when two of them count as the same: changes of mean and width, in units of the width.
_WINDOWS = 15
_MEAN_TOLERANCE = 3e-4
_WIDTH_TOLERANCE = 1e-3

# A fit in a frozen window stands when it agrees with its window to a quarter of the width: further away it is
# not a fit of the core within `k` widths, but of something else.
_FROZEN_TOLERANCE = 0.25

# Fisher scoring in one window: at most so many steps, the last one smaller than this many widths. A width of
# ten half windows is a straight line, not a peak.
_STEPS = 40
_STEP_TOLERANCE = 1e-6
_FLAT = 10.0

# Where to start: the quantiles (low, high), and how many widths of a Gaussian lie between them.
_STARTS = ((0.25, 0.75, 1.3489795003921634), (0.05, 0.95, 3.289707253902945))

_SQRT_TWO_PI = np.sqrt(2 * np.pi)


class Core(NamedTuple):
    """Gaussian cores of a stack of histograms; every array has the shape of the leading axes.

    Attributes:
        mean: position of the peak, in the unit of the edges; nan where there was nothing to fit.
        width: standard deviation of the core, in the same unit.
        mean_error: statistical error of the mean.
        width_error: statistical error of the width.
        converged: whether the fit can be used.
    """

    mean: Array
    width: Array
    mean_error: Array
    width_error: Array
    converged: NDArray[np.bool_]


def gaussian_core(values: ArrayLike, variances: ArrayLike, edges: ArrayLike, k: float = 1.5) -> Core:
    """Fit a Gaussian to the core of each histogram, within `k` fitted widths of the fitted mean.

    The likelihood is the multinomial one of the bins inside the window, so the Gaussian is truncated where the
    window ends and the width needs no correction for what lies outside. A bin that the window cuts counts with
    the fraction of it that the Gaussian of the window puts inside: the result follows the data smoothly, and
    is unbiased for a Gaussian. The window follows the fit, from the median and the interquartile range, until
    the mean changes by less than 3e-4 widths and the width by less than 1e-3, at most 15 times. When it swings
    back by more than half of its last move, as with few entries it may for ever, it is frozen halfway, and the
    last fit is done there.

    A fit that fails (no peak in the window, or a frozen window that disagrees with its fit by more than a
    quarter of the width) is tried again from the central 90%. Where that fails too, `converged` is False, mean
    and width are the median and the interquartile range over 1.349, and both errors are as large as the width:
    such a point has no weight in a later fit. Where a histogram has fewer than `MINIMUM_ENTRIES` effective
    entries, or is one that `binned_quantiles` refuses, all is nan and `converged` False.

    The errors take the weights into account (Huber, Proc. 5th Berkeley Symp. 1 (1967) 221) and the window as
    given. The error of the width is nearly proportional to the width: with some hundred entries a pull should
    be taken in the width's logarithm.

    Args:
        values: Sums of weights, shape (..., n).
        variances: Sums of squared weights, shape (..., n).
        edges: Bin edges in increasing order, shape (n + 1,), common to all histograms.
        k: Half of the window in widths: 1.5, with 2 as the usual variation.

    Returns:
        Arrays of shape (...).

    Raises:
        ValueError: If the shapes do not fit, the edges do not increase, or `k` is not positive.

    Example:
        >>> edges = np.linspace(0.0, 2.0, 201)
        >>> values = 1000 * np.diff(ndtr((edges - 0.98) / 0.1))
        >>> core = gaussian_core(values, values, edges)
        >>> core.mean.round(6).item(), core.width.round(6).item(), core.converged.item()
        (0.98, 0.1, True)
    """
    contents = np.asarray(values, dtype=np.float64)
    squares = np.asarray(variances, dtype=np.float64)
    boundaries = np.asarray(edges, dtype=np.float64)
    if squares.shape != contents.shape:
        raise ValueError(
            f"variances have shape {squares.shape} and values {contents.shape}; "
            "give one sum of squared weights for each sum of weights"
        )
    if not k > 0:
        raise ValueError(f"k is {k}; give the half width of the window, more than 0 widths")
    median = binned_quantiles(contents, boundaries, 0.5)
    shape, bins = median.shape, contents.shape[-1]
    contents, squares, median = contents.reshape(-1, bins), squares.reshape(-1, bins), median.ravel()
    rows = np.flatnonzero(np.isfinite(median) & (effective_entries(contents, squares) >= MINIMUM_ENTRIES))

    robust = _robust_width(contents, boundaries, *_STARTS[0])
    result = np.full((4, median.size), np.nan)
    result[:, rows] = median[rows], robust[rows], robust[rows], robust[rows]
    converged = np.zeros(median.size, dtype=np.bool_)
    for start in _STARTS:
        left = rows[~converged[rows]]
        width = _robust_width(contents[left], boundaries, *start)
        fit = _follow(contents[left], squares[left], boundaries, median[left], width, k)
        result[:, left[fit.converged]] = np.stack(fit[:4])[:, fit.converged]
        converged[left] = fit.converged
    mean, width, mean_error, width_error = result.reshape(4, *shape)
    return Core(mean, width, mean_error, width_error, converged.reshape(shape))


def _robust_width(values: Array, edges: Array, low: float, high: float, widths: float) -> Array:
    bounds = binned_quantiles(values, edges, [low, high])
    return np.asarray((bounds[:, 1] - bounds[:, 0]) / widths)


def _follow(values: Array, variances: Array, edges: Array, mean: Array, width: Array, k: float) -> Core:
    """Fit in windows that follow the fit; all arrays have one row for each histogram."""
    mean, width = mean.copy(), width.copy()
    fitted = np.full((4, mean.size), np.nan)
    success = np.zeros(mean.size, dtype=np.bool_)
    move = np.zeros((2, mean.size))
    frozen = np.zeros(mean.size, dtype=np.bool_)
    rows = np.arange(mean.size)
    for window in range(_WINDOWS):
        fit = _fit_window(values[rows], variances[rows], edges, mean[rows], width[rows], k)
        fitted[:, rows] = fit[:4]
        step = np.stack([(fit.mean - mean[rows]) / width[rows], np.log(fit.width / width[rows])])
        settled = (np.abs(step[0]) < _MEAN_TOLERANCE) & (np.abs(step[1]) < _WIDTH_TOLERANCE)
        near = np.all(np.abs(step) < _FROZEN_TOLERANCE, axis=0)
        success[rows] = fit.converged & (settled | near)
        done = settled | frozen[rows] | ~fit.converged

        back = np.any((step * move[:, rows] < 0) & (np.abs(step) > 0.5 * np.abs(move[:, rows])), axis=0)
        # The window after the last move is frozen too.
        frozen[rows] = back | (window == _WINDOWS - 2)
        move[:, rows] = step
        # At most a factor of two at a time: the width of a nearly flat window says little.
        taken = np.where(back, 0.5, 1.0) * np.clip(step, -np.log(2), np.log(2))
        mean[rows] += taken[0] * width[rows]
        width[rows] *= np.exp(taken[1])
        rows = rows[~done]
        if rows.size == 0:
            break
    return Core(fitted[0], fitted[1], fitted[2], fitted[3], success)


def _fit_window(values: Array, variances: Array, edges: Array, mean: Array, width: Array, k: float) -> Core:
    """Fit each row within its own window, `mean` plus and minus `k` times `width`, by Fisher scoring."""
    low, high = (mean - k * width)[:, np.newaxis], (mean + k * width)[:, np.newaxis]
    # As many bins for each row as the widest window has; those beyond a window are cut down to nothing below.
    first = np.maximum(np.searchsorted(edges, low[:, 0], side="right") - 1, 0)
    last = np.searchsorted(edges, high[:, 0], side="left")
    index = first[:, np.newaxis] + np.arange(np.max(last - first, initial=1) + 1)
    whole = edges[np.minimum(index, edges.size - 1)]
    cut = np.clip(whole, low, high)
    bins = np.minimum(index[:, :-1], edges.size - 2)

    mean, width = mean[:, np.newaxis], width[:, np.newaxis]
    inside = np.diff(ndtr((cut - mean) / width), axis=1)
    entire = np.diff(ndtr((whole - mean) / width), axis=1)
    fraction = np.divide(inside, entire, out=np.zeros_like(inside), where=entire > 0)
    values = np.take_along_axis(values, bins, axis=1) * fraction
    variances = np.take_along_axis(variances, bins, axis=1) * fraction**2
    total = values.sum(axis=1)
    limit = _FLAT * k * width
    for _ in range(_STEPS):
        scores, information = _scores(cut, mean, width)
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = _inverse(information)
            step = np.einsum("ijr,jr->ir", inverse, np.einsum("irb,rb->ir", scores, values) / total)
        # In mean/width² and 1/width² the likelihood has one maximum, and the step leads to it from anywhere;
        # in mean and width it would not.
        precision = np.clip(1 - 2 * step[1], 0.25, 4.0)[:, np.newaxis]
        moved = np.clip(mean + width * np.clip(step[0][:, np.newaxis] / precision, -1.0, 1.0), low, high)
        # A row that has arrived stays there, whatever its neighbours still need.
        small = np.all(np.abs(step) < _STEP_TOLERANCE, axis=0)
        mean = np.where(small[:, np.newaxis], mean, moved)
        width = np.where(small[:, np.newaxis], width, np.minimum(width / np.sqrt(precision), limit))
        # Also true where the sums above were not finite.
        no_peak = ~((mean > low) & (mean < high) & (width < limit))[:, 0]
        if np.all(small | no_peak):
            break
    spread = np.einsum("irb,jrb,rb->ijr", scores, scores, variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = np.einsum("ijr,jkr,lkr->ilr", inverse, spread, inverse) / total**2
        errors = width[:, 0] * np.sqrt(covariance[[0, 1], [0, 1]])
    converged = small & ~no_peak & np.all(np.isfinite(errors) & (errors > 0), axis=0)
    return Core(mean[:, 0], width[:, 0], errors[0], errors[1], converged)


def _scores(edges: Array, mean: Array, width: Array) -> tuple[Array, Array]:
    """Derivatives of the logarithms of the bins' probabilities, and the information of one entry.

    Args:
        edges: Shape (rows, bins + 1); a bin may be empty.
        mean: Shape (rows, 1).
        width: Shape (rows, 1).

    Returns:
        Shape (2, rows, bins), with respect to mean/width and to the logarithm of the width, and (2, 2, rows).
    """
    position = (edges - mean) / width
    density = np.exp(-0.5 * position**2) / _SQRT_TWO_PI
    integral = np.diff(ndtr(position), axis=1)
    probability = integral / integral.sum(axis=1, keepdims=True)
    change = -np.stack([np.diff(density, axis=1), np.diff(position * density, axis=1)])
    scores = np.divide(change, integral, out=np.zeros_like(change), where=integral > 0)
    scores -= (probability * scores).sum(axis=2, keepdims=True)
    return scores, np.einsum("irb,jrb,rb->ijr", scores, scores, probability)


def _inverse(matrix: Array) -> Array:
    """Inverse of symmetric 2 x 2 matrices, shape (2, 2, rows); not finite where there is none."""
    (a, b), (_, d) = matrix
    return np.asarray(np.array([[d, -b], [-b, a]]) / (a * d - b * b))
