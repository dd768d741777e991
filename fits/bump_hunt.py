"""The BumpHunter: the least probable excess in any window of a spectrum, and how often chance makes one as improbable.

For every window of adjacent bins with D events over a background of B, the local p-value is P(≥ D | B). The statistic is
t = -ln of the smallest, and the global p-value the share of toys with a larger one (G. Choudalakis, arXiv:1101.0390). The
background is fitted again in each toy as it was in the data, which a comparison with the data's own fit would take for known.

No signal is assumed: the width of the window is found, not given. Where a model of the signal exists,
`look_elsewhere.py` is more sensitive.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from trila.fits.background import BackgroundFit
from trila.fits.errors import FitError
from trila.fits.toys import Seed, ToyPValue, background_toys, p_value, refit

__all__ = ["BumpHunt", "Bumps", "bump_hunt", "largest_bumps"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_NARROWEST = 2
#: Smaller probabilities are summed by their first terms.
_SMALL = 1e-290


class Bumps(NamedTuple):
    """The least probable window of each of T spectra.

    Attributes:
        statistic: -ln of its local p-value, 0 where no window has an excess, shape (T,).
        first, last: its bins are first, ..., last - 1, shape (T,); both 0 where there is none.
        windows: how many were scanned.
    """

    statistic: Array
    first: Index
    last: Index
    windows: int


class BumpHunt(NamedTuple):
    """The largest bump of a spectrum.

    Attributes:
        low, high: edges of its window, GeV; NaN where no window has an excess.
        events, background: in that window.
        p_local: P(≥ events | background); it does not know of the other windows.
        statistic: -ln p_local, also where p_local is no longer a floating-point number.
        p_global: from toys, with its interval and the number of failed fits.
        windows: how many were scanned.
        toys: statistics of the toys, infinite for those that failed, shape (T,).
    """

    low: float
    high: float
    events: float
    background: float
    p_local: float
    statistic: float
    p_global: ToyPValue
    windows: int
    toys: Array


def largest_bumps(counts: Array, background: Array, weight: Array) -> Bumps:
    """Scan all windows of 2 to half of the bins used, in many spectra at once.

    Sums of weights are compared as Poisson numbers scaled by variance/count of the window's background.

    Args:
        counts: shape (T, I).
        background: expected, shape (T, I).
        weight: of each bin, 0 for bins that no window may contain and count/variance for the others, shape (I,).

    Raises:
        FitError: fewer than four bins are used.
    """
    used = weight > 0
    widest = int(used.sum()) // 2
    if widest < _NARROWEST:
        raise FitError(
            f"{used.sum()} bins for windows of {_NARROWEST} and more, expected at least 4; widen the range"
        )
    variance = background / np.where(used, weight, 1.0)
    # a bin that is not used is in no window: it may hold anything
    events, expected, spread = (_sums(np.where(used, x, 0.0)) for x in (counts, background, variance))
    gaps = _sums(~used[None])[0]
    number = len(counts)
    statistic, first = np.zeros(number), np.zeros(number, dtype=np.int64)
    last, windows = np.zeros(number, dtype=np.int64), 0
    for width in range(_NARROWEST, widest + 1):
        begin = np.flatnonzero(gaps[width:] == gaps[:-width])
        if not begin.size:
            break
        windows += begin.size
        d, b, v = (x[:, begin + width] - x[:, begin] for x in (events, expected, spread))
        surprise = _surprise(d * b / v, b * b / v)
        best = surprise.argmax(axis=1)
        found = np.take_along_axis(surprise, best[:, None], axis=1)[:, 0]
        better = found > statistic
        statistic = np.where(better, found, statistic)
        first = np.where(better, begin[best], first)
        last = np.where(better, begin[best] + width, last)
    return Bumps(statistic, first, last, windows)


def bump_hunt(fit: BackgroundFit, *, toys: int = 10_000, seed: Seed = 0, sideband: bool = False) -> BumpHunt:
    """The largest bump over a fitted background, and its global p-value.

    Args:
        fit: of one window to the whole spectrum, with the data in it.
        toys: number of toys of the background.
        seed: of the toys.
        sideband: fit once more without the bins of the bump, in the data and in each toy, and look again: the fit to all
            bins bends towards a bump.

    Raises:
        FitError: a fit of several windows or one that failed, too few bins, or no toy.
    """
    drawn = background_toys(fit, toys, seed)
    weight = fit.windows.weight[0]
    used, free = int(np.sum(weight > 0)), len(fit.function.parameters)
    if sideband and used - used // 2 <= free:
        raise FitError(
            f"{used - used // 2} bins are left beside the widest window for the {free} parameters of {fit.function.name}, "
            f"expected at least {free + 1}; take finer bins, or no side-bands"
        )
    # the data are the first of the spectra, which are all treated alike
    background, bumps, good = _hunt(fit, np.concatenate([fit.windows.counts, drawn]), sideband=sideband)
    if not good[0]:
        raise FitError(
            f"the fit of {fit.function.name} to the side-bands did not converge, expected a background to hunt bumps over; hunt "
            "without side-bands"
        )
    statistics = np.where(good, bumps.statistic, np.inf)[1:]
    observed = float(bumps.statistic[0])
    window = slice(int(bumps.first[0]), int(bumps.last[0]))
    edges = fit.windows.edges[0]
    nowhere = window.start == window.stop
    return BumpHunt(
        float("nan") if nowhere else float(edges[window.start]), float("nan") if nowhere else float(edges[window.stop]),
        float(fit.windows.counts[0, window].sum()), float(background[0, window].sum()), float(np.exp(-observed)), observed,
        p_value(observed, statistics, good[1:]), bumps.windows, statistics,
    )  # fmt: skip


def _hunt(fit: BackgroundFit, counts: Array, *, sideband: bool) -> tuple[Array, Bumps, NDArray[np.bool_]]:
    """Background and largest bumps of T spectra, and which fits converged."""
    weight = fit.windows.weight[0]
    found = refit(fit, counts)
    bumps = largest_bumps(counts, found.prediction, weight)
    good = found.good
    if sideband:
        bins = np.arange(counts.shape[1])
        hidden = (bins >= bumps.first[:, None]) & (bins < bumps.last[:, None])
        found = refit(fit, counts, hidden=hidden)
        bumps = largest_bumps(counts, found.prediction, weight)
        good = good & found.good
    return found.prediction, bumps, good


def _sums(values: NDArray[np.generic]) -> Array:
    """Sums of all bins before each edge, along the last axis."""
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1, dtype=np.float64)], axis=1)


def _surprise(events: Array, expected: Array) -> Array:
    """-ln P(≥ events | expected), the regularised lower incomplete gamma function; 0 without excess."""
    # picked out by index: SciPy 1.17 writes past the arrays when its functions get `where` and `out`
    excess = (events > expected) & (expected > 0)
    d, b = events[excess], expected[excess]
    p = special.gammainc(d, b)
    logarithm = -np.log(np.maximum(p, _SMALL))
    tiny = p < _SMALL
    d, b = d[tiny], b[tiny]
    # the terms beyond D fall by B/(D + 1) or faster
    logarithm[tiny] = special.gammaln(d + 1) + b - d * np.log(b) + np.log1p(-b / (d + 1))
    surprise = np.zeros(events.shape)
    surprise[excess] = logarithm
    return surprise
