"""Quantiles of binned response distributions: median, width, and their statistical errors.

What to use when:

* the typical response, robust against tails: `binned_quantiles(values, edges, 0.5)` with `median_error`;
* the resolution: `half_width`, half of the interval that holds the central 68.27%, with `half_width_error`;
* is a bin worth drawing or fitting: `effective_entries`.

Every function takes histograms with the response as the last axis and works on all leading axes (eta, pT)
at once. Under- and overflow are the caller's: pass the bins that the distribution consists of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CENTRAL_68",
    "LARGEST_BIN",
    "binned_quantiles",
    "effective_entries",
    "half_width",
    "half_width_error",
    "median_error",
]

CENTRAL_68 = (0.15865525393145707, 0.8413447460685429)
"""The probabilities of a Gaussian's minus and plus one standard deviation."""

LARGEST_BIN = 0.2
"""Largest fraction of a distribution in one bin for which a binned quantile is still meaningful."""

# Half width, in probability, of the window that measures the density at a quantile: wide enough that 30 entries
# give it to 30%, narrow enough that a Gaussian's peak density is underestimated (the error: overestimated) by
# only 2.4%.
_DENSITY_WINDOW = 0.15


def effective_entries(values: ArrayLike, variances: ArrayLike) -> NDArray[np.float64]:
    """Number of unweighted entries that would have the same relative error.

    (sum of w)^2 / (sum of w^2), summed over the last axis.

    Args:
        values: Sums of weights, shape (..., n).
        variances: Sums of squared weights, shape (..., n).

    Returns:
        Shape (...); 0 where the histogram is empty.

    Example:
        >>> effective_entries([4.0, 6.0], [4.0, 6.0]).item()
        10.0
    """
    total = np.sum(np.asarray(values, dtype=np.float64), axis=-1)
    squares = np.sum(np.asarray(variances, dtype=np.float64), axis=-1)
    result = np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)
    return np.asarray(result, dtype=np.float64)


def binned_quantiles(values: ArrayLike, edges: ArrayLike, probabilities: ArrayLike) -> NDArray[np.float64]:
    """Quantiles of histograms, by linear interpolation of the cumulative distribution.

    Within a bin the entries are taken as evenly spread, so the answer depends on the binning. A distribution of
    which one bin holds more than 20% (`LARGEST_BIN`) is refused, that is, answered with nan: its quantiles would
    say more about the bin than about the data. So is an empty one, and one with a sum of weights that is not
    positive. With negative weights the cumulative distribution may cross a probability more than once; the first
    crossing counts.

    Args:
        values: Bin contents, shape (..., n).
        edges: Bin edges in increasing order, shape (n + 1,), common to all histograms.
        probabilities: Between 0 and 1, both excluded; scalar or shape (m,).

    Returns:
        Shape (..., m), or (...) for a scalar probability; in the unit of `edges`.

    Raises:
        ValueError: If the shapes do not fit, the edges do not increase, or a probability is not inside (0, 1).

    Example:
        >>> binned_quantiles([1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5, 6], [0.25, 0.5]).tolist()
        [1.5, 3.0]
    """
    contents = np.asarray(values, dtype=np.float64)
    boundaries = np.asarray(edges, dtype=np.float64)
    levels = np.asarray(probabilities, dtype=np.float64)
    _check_shapes(contents, boundaries)
    if levels.ndim > 1 or not np.all((levels > 0) & (levels < 1)):
        raise ValueError(
            f"probabilities are {levels.tolist()}; give one number or a list, each between 0 and 1 (both excluded)"
        )

    cumulative = np.cumsum(contents, axis=-1)
    total = cumulative[..., -1:]
    usable = (total > 0) & (np.max(contents, axis=-1, keepdims=True) <= LARGEST_BIN * total)
    # One level at a time: (..., n) in memory, never (..., n, m).
    quantiles = np.stack(
        [_crossing(contents, cumulative, boundaries, level * total) for level in np.atleast_1d(levels)],
        axis=-1,
    )
    result = np.where(usable, quantiles, np.nan)
    return result if levels.ndim else result[..., 0]


def half_width(values: ArrayLike, edges: ArrayLike) -> NDArray[np.float64]:
    """Half of the interval that holds the central 68.27% of each histogram: a Gaussian's standard deviation.

    Args:
        values: Bin contents, shape (..., n).
        edges: Bin edges, shape (n + 1,).

    Returns:
        Shape (...), in the unit of `edges`; nan where `binned_quantiles` refuses.
    """
    bounds = binned_quantiles(values, edges, CENTRAL_68)
    return np.asarray(0.5 * (bounds[..., 1] - bounds[..., 0]), dtype=np.float64)


def median_error(values: ArrayLike, variances: ArrayLike, edges: ArrayLike) -> NDArray[np.float64]:
    """Statistical error of the median, sqrt(p (1 - p) / (N_eff f^2)) with p = 1/2.

    f is the normalised density at the median. It is measured between the quantiles 0.35 and 0.65, not taken from
    the bin of the median, whose content fluctuates.

    Args:
        values: Sums of weights, shape (..., n).
        variances: Sums of squared weights, shape (..., n).
        edges: Bin edges, shape (n + 1,).

    Returns:
        Shape (...), in the unit of `edges`; nan where `binned_quantiles` refuses.
    """
    density = _density(values, edges, 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        result = 0.5 / (density * np.sqrt(effective_entries(values, variances)))
    return np.asarray(result, dtype=np.float64)


def half_width_error(values: ArrayLike, variances: ArrayLike, edges: ArrayLike) -> NDArray[np.float64]:
    """Statistical error of `half_width`, from the asymptotic covariance of two quantiles.

    The covariance of the quantiles a <= b is a (1 - b) / (N_eff f_a f_b), with the densities f there.

    Args:
        values: Sums of weights, shape (..., n).
        variances: Sums of squared weights, shape (..., n).
        edges: Bin edges, shape (n + 1,).

    Returns:
        Shape (...), in the unit of `edges`; nan where `binned_quantiles` refuses.
    """
    low, high = CENTRAL_68
    at_low, at_high = _density(values, edges, low), _density(values, edges, high)
    variance = (
        low * (1 - low) / at_low**2
        + high * (1 - high) / at_high**2
        - 2 * low * (1 - high) / (at_low * at_high)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        result = 0.5 * np.sqrt(variance / effective_entries(values, variances))
    return np.asarray(result, dtype=np.float64)


def _density(values: ArrayLike, edges: ArrayLike, probability: float) -> NDArray[np.float64]:
    """Normalised density at a quantile, from the distance of two quantiles around it."""
    window = min(_DENSITY_WINDOW, 0.5 * probability, 0.5 * (1 - probability))
    around = binned_quantiles(values, edges, [probability - window, probability + window])
    return np.asarray(2 * window / (around[..., 1] - around[..., 0]), dtype=np.float64)


def _crossing(
    contents: NDArray[np.float64],
    cumulative: NDArray[np.float64],
    edges: NDArray[np.float64],
    target: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Where the cumulative distribution first reaches `target` (shape (..., 1)); shape (..., 1) for `np.where`."""
    # Rounding may leave the last cumulative value below the target of a probability near 1: then the last bin.
    reached = cumulative >= target
    index = np.where(reached.any(axis=-1), reached.argmax(axis=-1), contents.shape[-1] - 1)[..., None]
    content = np.take_along_axis(contents, index, axis=-1)
    below = np.take_along_axis(cumulative, index, axis=-1) - content
    fraction = np.divide(target - below, content, out=np.zeros_like(content), where=content > 0)
    position: NDArray[Any] = edges[index] + np.clip(fraction, 0.0, 1.0) * (edges[index + 1] - edges[index])
    return np.asarray(position[..., 0], dtype=np.float64)


def _check_shapes(values: NDArray[np.float64], edges: NDArray[np.float64]) -> None:
    if edges.ndim != 1 or values.ndim == 0 or values.shape[-1] != edges.size - 1:
        raise ValueError(
            f"values have shape {values.shape} and edges {edges.shape}; "
            "the last axis of values must be one shorter than the edges"
        )
    if not np.all(np.diff(edges) > 0):
        raise ValueError(f"edges must increase, got {edges.tolist()}")
