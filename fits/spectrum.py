"""A binned mass spectrum as fits take it: counts in adjacent bins, and which of them a fit may look at.

| you have | use |
| --- | --- |
| edges and counts | `checked` |
| rows of a table: low, high, count | `from_rows` |
| a spectrum, and a range, wider bins, or windows not to look at | `select`, `rebin`, `masked` |
| a weighted spectrum, and a likelihood of event counts | `scale` |

A sum of weights is no Poisson variable. In its stead, count / scale is taken for one, with scale = variance / count of its
bin: mean and variance are then right, and higher moments nearly so (G. Bohm and G. Zech, arXiv:1309.1287).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.errors import FitError

__all__ = ["Spectrum", "checked", "from_rows", "masked", "rebin", "scale", "select"]

Array = NDArray[np.float64]

#: Edges closer than this are the same edge, relative to its mass (to the narrowest bin, for an edge near zero).
_SAME = 1e-9
#: Counts this close to an integer are event counts; products of a density and a width are rounded.
_INTEGER = 1e-6
#: No mass, count or variance is this large; sums and squares of what is smaller do not overflow.
_HUGE = 1e100


class Spectrum(NamedTuple):
    """Counts in adjacent bins of mass.

    Attributes:
        edges: increasing, without gaps, GeV, shape (bins + 1,).
        counts: events per bin, shape (bins,); sums of weights where `variances` is given.
        variances: sum of squared weights per bin; None for plain event counts (integers).
        used: True where a fit may look; False in bins that are blinded or vetoed.
        name: where it came from, for titles and messages.
    """

    edges: Array
    counts: Array
    variances: Array | None
    used: NDArray[np.bool_]
    name: str


def checked(
    edges: ArrayLike, counts: ArrayLike, variances: ArrayLike | None = None, *, name: str
) -> Spectrum:
    """A spectrum of numbers that a fit can use, all of its bins used.

    Integer counts whose variances are the counts themselves are plain event counts. Sums of weights may be negative:
    `rebin` and `select` often mend that, and `scale` complains of what is left.

    Args:
        edges: GeV, shape (bins + 1,).
        counts: shape (bins,).
        variances: sums of squared weights, shape (bins,); None for event counts.
        name: for messages.

    Raises:
        FitError: no bin, shapes that do not fit, edges that do not increase, a value that is not finite, a negative number of
            events, counts that are neither integers nor have variances, or a variance that cannot be one.
    """
    edge, count = np.asarray(edges, np.float64), np.asarray(counts, np.float64)
    if count.ndim != 1 or count.size < 1:
        raise FitError(
            f"{name}: its counts have the shape {count.shape}; expected a list of at least one bin"
        )
    if edge.shape != (count.size + 1,):
        raise FitError(
            f"{name}: edges of shape {edge.shape} for {count.size} bins; give {count.size + 1} edges"
        )
    _check_edges(edge, name)
    _check_finite("count", count, edge, name)
    whole = np.round(count)
    integer = bool(np.all(np.abs(count - whole) <= _INTEGER))
    if variances is not None:
        variance = np.asarray(variances, np.float64)
        if variance.shape != count.shape:
            raise FitError(
                f"{name}: variances of shape {variance.shape} for {count.size} bins; give one for each bin"
            )
        _check_finite("variance", variance, edge, name)
        if not (integer and np.allclose(variance, whole, rtol=1e-9, atol=_INTEGER)):
            bad = (variance < 0) | ((variance == 0) & (count != 0))
            if bad.any():
                i = int(np.argmax(bad))
                raise FitError(
                    f"{name}: variance of the bin {_bin(edge, i)} is {variance[i]:g} for a sum of weights of {count[i]:g}; "
                    "give the sum of squared weights, above zero"
                )
            return Spectrum(edge, count, variance, np.ones(count.size, np.bool_), name)
    if not integer:
        i = int(np.argmax(np.abs(count - whole) > _INTEGER))
        raise FitError(
            f"{name}: count of the bin {_bin(edge, i)} is {count[i]:.8g}, no integer; give event counts, or the variances "
            "of the sums of weights (a weighted histogram, HEPData errors, or a column `variance`)"
        )
    if whole.min() < 0:
        i = int(np.argmin(whole))
        raise FitError(
            f"{name}: count of the bin {_bin(edge, i)} is {whole[i]:g}; events cannot be fewer than 0: give event counts, "
            "or variances where these are sums of weights"
        )
    return Spectrum(edge, np.abs(whole), None, np.ones(count.size, np.bool_), name)


def from_rows(
    low: ArrayLike, high: ArrayLike, counts: ArrayLike, variances: ArrayLike | None = None, *, name: str
) -> Spectrum:
    """A spectrum from the rows of a table, in order of mass.

    Args:
        low, high: edges of each bin, GeV, shape (bins,).
        counts, variances: as for `checked`.
        name: for messages.

    Raises:
        FitError: bins that overlap, have a gap between them, or are not in order; and as for `checked`.
    """
    lows, highs = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if lows.ndim != 1 or lows.size < 1 or lows.shape != highs.shape:
        raise FitError(
            f"{name}: lower edges of shape {lows.shape}, upper edges of shape {highs.shape}; expected a row for each bin"
        )
    for edges in (lows, highs):
        _check_finite("edge", edges, np.append(lows, highs[-1]), name)
    if np.any(highs <= lows):
        i = int(np.argmax(highs <= lows))
        raise FitError(
            f"{name}: the bin {lows[i]:g} to {highs[i]:g} GeV is empty or reversed; expected low < high"
        )
    if np.any(np.diff(lows) <= 0):
        i = int(np.argmax(np.diff(lows) <= 0))
        raise FitError(
            f"{name}: the bin at {lows[i]:g} GeV is followed by one at {lows[i + 1]:g} GeV; sort by mass"
        )
    step = lows[1:] - highs[:-1]
    apart = np.abs(step) > _SAME * np.maximum(np.abs(lows[1:]), np.min(highs - lows))
    if np.any(apart):
        i = int(np.argmax(apart))
        if step[i] < 0:
            raise FitError(
                f"{name}: bins overlap from {lows[i + 1]:g} to {highs[i]:g} GeV; give adjacent bins, each event once"
            )
        raise FitError(
            f"{name}: gap between bins, {highs[i]:g} to {lows[i + 1]:g} GeV; give a row for each bin, also for empty ones, "
            "or one side of the gap alone"
        )
    return checked(np.append(lows, highs[-1]), counts, variances, name=name)


def select(spectrum: Spectrum, low: float, high: float) -> Spectrum:
    """The bins wholly inside a range. Limits between two edges move inwards; the edges returned say where to.

    Args:
        spectrum: to take bins from.
        low, high: GeV, within the spectrum.

    Raises:
        FitError: no range, one that reaches outside the spectrum, or one with no bin inside.
    """
    edges, name = spectrum.edges, spectrum.name
    whole = f"{edges[0]:g} to {edges[-1]:g} GeV"
    if not low < high:
        raise FitError(f"{name}: range {low:g}:{high:g} is empty; expected low < high, within {whole}")
    if low < edges[0] - _tolerance(edges)[0] or high > edges[-1] + _tolerance(edges)[-1]:
        raise FitError(f"{name}: range {low:g}:{high:g} reaches outside the data; choose one within {whole}")
    inside = np.flatnonzero((edges >= low - _tolerance(edges)) & (edges <= high + _tolerance(edges)))
    if inside.size < 2:
        i = int(np.searchsorted(edges, low, side="right")) - 1
        raise FitError(
            f"{name}: no bin lies inside the range {low:g}:{high:g}; choose a wider one (here the edges are "
            f"{', '.join(f'{edge:g}' for edge in edges[i : i + 3])}, ... GeV)"
        )
    bins = slice(int(inside[0]), int(inside[-1]))
    return spectrum._replace(
        edges=edges[bins.start : bins.stop + 1],
        counts=spectrum.counts[bins],
        variances=None if spectrum.variances is None else spectrum.variances[bins],
        used=spectrum.used[bins],
    )


def rebin(spectrum: Spectrum, edges: ArrayLike) -> Spectrum:
    """Merge bins. Bins outside the new edges are left out; a bin is used if all bins in it are.

    Args:
        spectrum: to merge.
        edges: some of its edges, increasing, GeV.

    Raises:
        FitError: edges that do not increase, or one that is no edge of the spectrum.
    """
    old, new = spectrum.edges, np.asarray(edges, np.float64)
    if new.ndim != 1 or new.size < 2:
        raise FitError(f"{spectrum.name}: new edges of shape {new.shape}; give at least two")
    _check_edges(new, f"{spectrum.name}: new edges")
    above = np.clip(np.searchsorted(old, new), 1, old.size - 1)
    nearest = above - (np.abs(new - old[above - 1]) < np.abs(new - old[above]))
    wrong = np.abs(old[nearest] - new) > _tolerance(old)[nearest]
    if wrong.any():
        i = int(np.argmax(wrong))
        raise FitError(
            f"{spectrum.name}: new edge {new[i]:.10g} GeV is none of the spectrum's; leave it out, or take the nearest, "
            f"{old[above[i] - 1]:.10g} or {old[above[i]]:.10g} GeV"
        )
    if np.any(np.diff(nearest) == 0):
        i = int(np.argmax(np.diff(nearest) == 0))
        raise FitError(
            f"{spectrum.name}: new edges {new[i]:.12g} and {new[i + 1]:.12g} GeV are the same; give each once"
        )
    inside = slice(int(nearest[0]), int(nearest[-1]))
    starts = nearest[:-1] - nearest[0]
    variances = spectrum.variances
    return spectrum._replace(
        edges=old[nearest],
        counts=np.add.reduceat(spectrum.counts[inside], starts),
        variances=None if variances is None else np.add.reduceat(variances[inside], starts),
        used=np.logical_and.reduceat(spectrum.used[inside], starts),
    )


def masked(spectrum: Spectrum, windows: Sequence[tuple[float, float]]) -> Spectrum:
    """Take the bins that overlap any of the windows out of the fit's sight. A bin that only touches one stays.

    Args:
        spectrum: to look at; what it does not use stays unused.
        windows: (low, high) of each, GeV.

    Raises:
        FitError: an empty window, or no bin left.
    """
    limits = np.asarray(windows, np.float64).reshape(-1, 2)
    empty = ~(limits[:, 0] < limits[:, 1])
    if empty.any():
        low, high = limits[int(np.argmax(empty))]
        raise FitError(f"{spectrum.name}: window {low:g}:{high:g} is empty; expected low < high, in GeV")
    slack = _tolerance(spectrum.edges)
    lows, highs = spectrum.edges[:-1] + slack[:-1], spectrum.edges[1:] - slack[1:]
    hidden = np.any((lows < limits[:, 1:]) & (highs > limits[:, :1]), axis=0)
    used = spectrum.used & ~hidden
    if not used.any():
        raise FitError(
            f"{spectrum.name}: no bin from {spectrum.edges[0]:g} to {spectrum.edges[-1]:g} GeV is left outside the windows; "
            "give narrower ones"
        )
    return spectrum._replace(used=used)


def scale(spectrum: Spectrum) -> Array:
    """Variance over count of each bin: ones for event counts, the mean weight of an event for sums of weights.

    A bin without events has no weight of its own: it takes the mean of the nearest bins on both sides that have one.

    Returns:
        Shape (bins,), above zero.

    Raises:
        FitError: a negative sum of weights in a bin that is used, or no bin with events.
    """
    edges, counts, variances, used, name = spectrum
    if variances is None:
        return np.ones(counts.size)
    if np.any(used & (counts < 0)):
        i = int(np.argmax(used & (counts < 0)))
        raise FitError(
            f"{name}: the weights of the bin {_bin(edges, i)} sum to {counts[i]:g}; a fit needs 0 or more: merge bins, or "
            "leave this one out"
        )
    filled = counts > 0
    if not filled.any():
        raise FitError(f"{name}: no bin has events; give another spectrum or range")
    bins = np.arange(counts.size)
    last = counts.size
    below = np.maximum.accumulate(np.where(filled, bins, -1))
    above = np.minimum.accumulate(np.where(filled, bins, last)[::-1])[::-1]
    below, above = np.where(below < 0, above, below), np.where(above == last, below, above)
    own = np.divide(variances, counts, out=np.zeros(last), where=filled)
    return np.asarray(0.5 * (own[below] + own[above]))


def _tolerance(edges: Array) -> Array:
    """How far from each edge a number still means that edge, GeV."""
    return np.asarray(_SAME * np.maximum(np.abs(edges), np.diff(edges).min()))


def _check_edges(edges: Array, name: str) -> None:
    usual = np.abs(edges) < _HUGE
    if not usual.all():
        i = int(np.argmin(usual))
        raise FitError(f"{name}: edge {i + 1} is {edges[i]}; expected a mass in GeV")
    if np.any(np.diff(edges) <= 0):
        i = int(np.argmax(np.diff(edges) <= 0))
        raise FitError(f"{name}: edge {edges[i]:g} is followed by {edges[i + 1]:g}; edges must increase")


def _check_finite(what: str, values: Array, edges: Array, name: str) -> None:
    usual = np.abs(values) < _HUGE
    if not usual.all():
        i = int(np.argmin(usual))
        raise FitError(
            f"{name}: {what} of the bin {_bin(edges, i)} is {values[i]}; expected a number: give one, or leave out the bins from "
            "there on"
        )


def _bin(edges: Array, i: int) -> str:
    return f"{edges[i]:g} to {edges[i + 1]:g} GeV"
