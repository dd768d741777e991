"""Sliding windows: a part of the spectrum around each mass of a scan, for fits of narrow peaks on an unknown background.

A dimuon spectrum falls over many orders of magnitude and holds a dozen resonances; no function describes it as a whole. In a
window of some resolutions around a mass a polynomial or an exponential does (LHCb, arXiv:1710.02867; CMS, arXiv:1912.04776).

| you have | use |
| --- | --- |
| bins much narrower than the resolution | `merged`, before: fits take time in proportion to the bins |
| a spectrum without its resonances (`resonances.veto_windows`, `spectrum.masked`), and masses | `sliding` |

The windows of all masses have the same number of bins, so that they are fitted together: shorter ones are filled up with
neighbouring bins of weight 0. Vetoed bins keep their places too: the function is the same on both sides of a veto.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.background import Windows
from trila.fits.checks import above
from trila.fits.errors import FitError
from trila.fits.signals import Signal
from trila.fits.spectrum import Spectrum, rebin, scale

__all__ = ["Skipped", "SlidingWindows", "merged", "sliding"]

Array = NDArray[np.float64]

#: Bins that a window must have beside those that its function's parameters use up.
_SPARE_BINS = 10
#: Of the signal, in the bins used: with less, what is fitted is the model of the peak's tail.
_SMALLEST_SHARE = 0.5
#: A merged bin may be wider than asked for by this fraction: edges are rounded.
_ROUNDING = 1e-9


class Skipped(NamedTuple):
    """A mass without a window.

    Attributes:
        mass: GeV.
        reason: why.
    """

    mass: float
    reason: str


class SlidingWindows(NamedTuple):
    """A window for each of M masses.

    Attributes:
        masses: those with a window, GeV, shape (M,).
        windows: for `fit_background`.
        first: bin of the spectrum with which each window begins, for `search.templates`, shape (M,).
        truncated: whether the spectrum ends inside the window, shape (M,).
        skipped: the other masses.
    """

    masses: Array
    windows: Windows
    first: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    skipped: tuple[Skipped, ...]


def merged(spectrum: Spectrum, signal: Signal, masses: ArrayLike, *, per_sigma: float = 3.0) -> Spectrum:
    """Merge bins until they are just not wider than a part of the signal's width there.

    Args:
        spectrum: in bins as narrow as you like; wider ones stay as they are. Used and unused bins are not merged.
        signal: whose width counts; below the first and above the last mass it is that of these.
        masses: of the scan, GeV.
        per_sigma: bins in one width of the signal.

    Raises:
        FitError: `per_sigma` not above 0, and as `Signal.width`.
    """
    above("per_sigma", per_sigma, 0, "give bins in one width of the signal, such as 3")
    points = np.asarray(masses, dtype=np.float64)
    edges = spectrum.edges
    widest = signal.width(np.clip(edges, points.min(), points.max())) / per_sigma
    # for each edge the last one that a bin from it on may end with, never beyond the end of a veto
    reach = np.searchsorted(edges, edges + widest * (1 + _ROUNDING), side="right") - 1
    changes = np.append(np.flatnonzero(np.diff(spectrum.used)) + 1, spectrum.counts.size)
    here = np.arange(spectrum.counts.size)
    end = np.minimum(reach[:-1], changes[np.searchsorted(changes, here, side="right")])
    following = np.maximum(end, here + 1).tolist()
    # where a bin ends says where the next begins: a chain, followed once for a spectrum
    chosen = [0]
    while chosen[-1] < here.size:
        chosen.append(following[chosen[-1]])
    return rebin(spectrum, edges[chosen])


def sliding(
    spectrum: Spectrum, signal: Signal, masses: ArrayLike, sqrt_s: float, *, parameters: int, nsigma: float = 8.0
) -> SlidingWindows:  # fmt: skip
    """The bins that overlap with m ± K σ, for each mass m with the signal's width σ.

    A window that reaches over an end of the spectrum is cut there (`truncated`). A mass is left out, and the reason given, if it
    is outside of the spectrum or in a bin that is not used, if its window has fewer used bins than parameters plus 10 or no
    events, or if less than half of its signal is in the used bins.

    Args:
        spectrum: what it does not use has weight 0.
        signal: for its width and where it is.
        masses: GeV, shape (M,).
        sqrt_s: collision energy, GeV.
        parameters: of the function to be fitted; of several, the largest number.
        nsigma: K.

    Raises:
        FitError: no mass has a window, K is not above 0, and as `scale` and `Signal.width`.
    """
    above("nsigma", nsigma, 0, "give the half width of a window in widths of the signal, such as 8")
    points = np.asarray(masses, dtype=np.float64)
    edges, bins = spectrum.edges, spectrum.counts.size
    half = nsigma * signal.width(points)
    begin = np.clip(np.searchsorted(edges, points - half, side="right") - 1, 0, bins - 1)
    end = np.clip(np.searchsorted(edges, points + half, side="left"), begin + 1, bins)
    reasons = _reasons(spectrum, signal, points, begin, end, parameters, nsigma)
    kept = reasons == ""
    skipped = tuple(Skipped(float(m), str(r)) for m, r in zip(points[~kept], reasons[~kept], strict=True))
    if not kept.any():
        why = f"; at {skipped[0].mass:g} GeV: {skipped[0].reason}" if skipped else ""
        raise FitError(f"none of {points.size} masses has a window{why}; choose other masses or windows")
    points, half, begin, end = points[kept], half[kept], begin[kept], end[kept]
    size = int((end - begin).max())
    first = np.minimum(begin, bins - size)
    columns = first[:, np.newaxis] + np.arange(size)
    inside = (columns >= begin[:, np.newaxis]) & (columns < end[:, np.newaxis])
    weight = np.where(spectrum.used, 1 / scale(spectrum), 0.0)
    return SlidingWindows(
        points,
        Windows(
            edges[first[:, np.newaxis] + np.arange(size + 1)], spectrum.counts[columns],
            np.where(inside, weight[columns], 0.0), sqrt_s,
        ),
        first, (points - half < edges[0]) | (points + half > edges[-1]), skipped,
    )  # fmt: skip


def _reasons(
    spectrum: Spectrum, signal: Signal, points: Array, begin: NDArray[np.int64], end: NDArray[np.int64], parameters: int,
    nsigma: float,
) -> NDArray[np.str_]:  # fmt: skip
    """Why a mass has no window, empty if it has one; shape (M,)."""
    edges, used = spectrum.edges, spectrum.used

    def inside(values: Array) -> Array:
        """Sum over the used bins of each window; `values` of shape (bins,) or (M, bins)."""
        total = np.cumsum(np.where(used, values, 0.0), axis=-1)
        total = np.concatenate([np.zeros((*total.shape[:-1], 1)), total], axis=-1)
        rows = np.arange(points.size) if total.ndim == 2 else ...
        return np.asarray(total[rows, end] - total[rows, begin])

    number, events = inside(np.ones(used.size)), inside(spectrum.counts)
    share = inside(signal.fractions(points, edges))
    own = np.clip(np.searchsorted(edges, points, side="right") - 1, 0, used.size - 1)
    needed = parameters + _SPARE_BINS
    texts = [
        np.full(points.size, f"outside of the spectrum, {edges[0]:g} to {edges[-1]:g} GeV"),
        np.full(points.size, "in a bin that is not used, such as a veto"),
        np.array(
            [
                f"{n:.0f} used bins within {nsigma:g} widths, expected at least {needed}; widen the window, or take finer bins"
                for n in number
            ]
        ),
        np.full(points.size, "no events in its window"),
        np.array(
            [f"{s:.0%} of the signal is in used bins, expected at least {_SMALLEST_SHARE:.0%}" for s in share]
        ),
    ]
    bad = [
        (points < edges[0]) | (points > edges[-1]),
        ~used[own],
        number < needed,
        events <= 0,
        share < _SMALLEST_SHARE,
    ]
    return np.select(bad, texts, default="")
