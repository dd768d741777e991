"""Whether the linear form of a background may stand for its function, and another expansion where it may not.

The expansion is about the fit of the background alone. It fails where few events leave the parameters far from there: in empty
tails, or with a large signal. `validity` compares with the exact form; `relinearised` expands about another point. About
the fit at the observed limit, that limit is right again (to 1% in the tail of 5000 events, where it was off by 5%), but
not the expected ones, whose Asimov data are those of the background alone.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.fits.background import expanded_about
from trila.fits.limits import Limits, upper_limits
from trila.fits.search import Search, SignalTemplates, linearity, search

__all__ = ["Validity", "relinearised", "validity"]

Array = NDArray[np.float64]

#: Largest accepted difference of the backgrounds, in units of the counts' error.
_BACKGROUND = 0.2
#: Of limits, relative; of the best fit and its error, in units of that error.
_LIMIT, _ESTIMATE = 0.01, 0.01
#: Widths of whitened parameters may differ from 1 by this factor.
_WIDTH = 1.25
#: How far along each parameter the backgrounds are compared, in standard deviations.
_FAR = 3.0


class Validity(NamedTuple):
    """Comparison of the linear form with the exact one, each array of shape (M,); NaN where a fit failed.

    Attributes:
        background: largest difference in units of the counts' error: at three standard deviations along each
            whitened parameter, at the best fit, and at the fit at the limit.
        limit: largest relative difference of the observed limit and the five expected ones.
        best_fit, sigma: difference of the estimated yield and of its error, in units of the latter.
        width: of the background's parameters in the best fit, by their block of the Hessian; that farthest from 1. It is
            1 where the data determine the parameters as the fit of the background did, and nothing else does.
    """

    background: Array
    limit: Array
    best_fit: Array
    sigma: Array
    width: Array

    @property
    def good(self) -> NDArray[np.bool_]:
        """All within what is accepted: 0.2, 1%, 1%, 1% and a factor of 1.25; False where a fit failed, shape (M,)."""
        with np.errstate(invalid="ignore"):
            return np.asarray(
                (self.background < _BACKGROUND)
                & (self.limit < _LIMIT)
                & (self.best_fit < _ESTIMATE)
                & (self.sigma < _ESTIMATE)
                & (np.abs(np.log(self.width)) < np.log(_WIDTH))
            )


def validity(found: Search, limits: Limits, *, level: float = 0.95) -> Validity:
    """Compare a linear search with the exact one.

    Args:
        found: in linear form.
        limits: of it.
        level: of confidence, of `limits`.
    """
    exact = upper_limits(search(found.fit, found.templates, form="exact").model, level=level)
    ours = np.column_stack([limits.observed, limits.expected])
    theirs = np.column_stack([exact.observed, exact.expected])
    return Validity(
        _background(found, limits),
        np.abs(ours / theirs - 1).max(axis=1),
        np.abs(limits.best_fit - exact.best_fit) / exact.sigma,
        np.abs(limits.sigma / exact.sigma - 1),
        _width(found, limits),
    )


def relinearised(found: Search, index: int, values: Array) -> Search:
    """A linear search of one mass, expanded about another point.

    Its unit is that of the background there: compare limits in events, limit times unit.

    Args:
        found: of either form.
        index: of the mass.
        values: parameters of its model, such as `limits.at_limit.values[index]`, shape (P,).

    Raises:
        FitError: as `search`.
    """
    fit, signal = found.fit, found.templates
    row = np.array([0 if len(fit.windows.edges) == 1 else index])
    about = expanded_about(fit, row, values[np.newaxis, -len(fit.function.parameters) :])
    one = slice(index, index + 1)
    up, down, spurious = (
        {name: x[one] for name, x in part.items()} for part in (signal.up, signal.down, signal.spurious)
    )
    chosen = SignalTemplates(signal.masses[one], signal.nominal[one], up, down, signal.norms, spurious)
    return search(about, chosen, form="linear")


def _background(found: Search, limits: Limits) -> Array:
    windows, masses = len(found.fit.windows.edges), found.unit.size
    free = len(found.fit.function.parameters)
    far = np.zeros((2 * free, len(found.model.parameters)))
    far[:, -free:] = _FAR * np.concatenate([np.eye(free), -np.eye(free)])
    # one window for all masses is compared once
    along = linearity(found, np.tile(far, (windows, 1)), np.repeat(np.arange(windows), 2 * free))
    each = np.broadcast_to(along.reshape(windows, -1).max(axis=1), masses)
    rows = np.arange(masses)
    best = linearity(found, limits.profile.best.values, rows)
    at_limit = linearity(found, limits.at_limit.values, rows)
    return np.asarray(np.maximum(np.maximum(each, best), at_limit))


def _width(found: Search, limits: Limits) -> Array:
    free = len(found.fit.function.parameters)
    block = limits.profile.best.hessian[:, -free:, -free:] / 2
    sound = np.all(np.isfinite(block), axis=(1, 2))
    curvature = np.linalg.eigvalsh(np.where(sound[:, None, None], block, np.eye(free)))
    with np.errstate(divide="ignore", invalid="ignore"):
        width = 1 / np.sqrt(curvature)
        farthest = np.abs(np.log(width)).argmax(axis=1)
    return np.where(sound, np.take_along_axis(width, farthest[:, None], axis=1)[:, 0], np.nan)
