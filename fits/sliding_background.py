"""The background of each bin from a fit of a window around it: sliding windows of a smooth spectrum (SWiFt).

At 10⁹ events no function of few parameters describes a dijet spectrum as a whole, but each describes a part of it (ATLAS,
arXiv:1804.03496 and arXiv:2509.01219). For each bin the window of w bins on both sides is fitted, and the fit's expectation in that
bin alone is the background. Where the spectrum ends the window stops, and serves all bins from there on. The widest windows that
describe the spectrum are taken: narrow ones follow a signal.

| you want | use |
| --- | --- |
| the background without a look at some masses | `spectrum.masked`, before |
| a signal of known shape in each fit, at the mass of the bin, which the background then leaves out | `peak` |
| the same for pseudo-data | `refit_sliding` |
| limits with windows around the masses of a scan | `windows.sliding` |

Windows share their data, and their predictions are no fit of one function: see `linear_response.py` for the p-value. The width is
chosen on the data; toys keep it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.fits.background import (
    BackgroundFit,
    Windows,
    background_model,
    fit_background,
    of_windows,
    predicted,
)
from trila.fits.checks import inside
from trila.fits.errors import FitError
from trila.fits.families import SpectrumFunction
from trila.fits.likelihood import Model, Observation, poisson_deviance
from trila.fits.linear_response import Goodness, goodness
from trila.fits.minimise import minimise
from trila.fits.search import search, templates
from trila.fits.signals import Signal
from trila.fits.spectrum import Spectrum, scale
from trila.fits.toys import ToyFits

__all__ = ["SlidingBackground", "TriedWidth", "refit_sliding", "sliding_background"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

#: Half widths tried by default.
_TRIED = 6
#: Windows of one batch of toys.
_BATCH = 8192


class TriedWidth(NamedTuple):
    """What windows of one width make of a spectrum.

    Attributes:
        half_width: bins on each side.
        deviance: of the predictions, over the bins used; without those whose window failed.
        parameters: effective number of parameters.
        ndof: deviance to be expected.
        p_value: of the deviance; 0 if a window failed.
        failed: windows whose fit did not converge.
    """

    half_width: int
    deviance: float
    parameters: float
    ndof: float
    p_value: float
    failed: int


class SlidingBackground(NamedTuple):
    """The background of N bins from M windows.

    Attributes:
        prediction: events, NaN where the window's fit did not converge, shape (N,).
        chosen: the width.
        accepted: whether it describes the spectrum; if not, none did, and this is the least bad.
        tried: from the widest down to the chosen one.
        row: window of each bin, shape (N,).
        first: first bin of each window, shape (M,).
        fit: of the background alone to each window; `fit.good` says which ones converged.
        model: likelihood of each window, with the signal if there is one; the background's parameters come last.
    """

    prediction: Array
    chosen: TriedWidth
    accepted: bool
    tried: tuple[TriedWidth, ...]
    row: Index
    first: Index
    fit: BackgroundFit
    model: Model


def sliding_background(
    function: SpectrumFunction, spectrum: Spectrum, sqrt_s: float, *, half_widths: Sequence[int] | None = None,
    level: float = 0.05, peak: Signal | None = None,
) -> SlidingBackground:  # fmt: skip
    """The background of each bin, with the widest windows whose p-value is above a level.

    Args:
        function: fitted to each window.
        spectrum: what it does not use no fit looks at; predictions are for all bins.
        sqrt_s: collision energy, GeV.
        half_widths: to try, bins; default six, from the whole spectrum to a few bins more than parameters.
        level: of the p-value.
        peak: fitted together with the background, at the centre of each bin.

    Raises:
        FitError: a half width below 1 or no width with enough bins and events in all windows, a level outside (0, 1), and as
            `fit_background` and `search`.
    """
    inside("the level of the p-value", level, "give 0.05 for 5%")
    tried: list[TriedWidth] = []
    best: SlidingBackground | None = None
    for half_width in _candidates(function, spectrum, half_widths):
        found = _with_width(function, spectrum, sqrt_s, half_width, peak)
        tried.append(found.chosen)
        if best is None or found.chosen.p_value > best.chosen.p_value:
            best = found
        if found.chosen.p_value > level:
            break
    assert best is not None
    return best._replace(accepted=best.chosen.p_value > level, tried=tuple(tried))


def refit_sliding(background: SlidingBackground, counts: Array) -> ToyFits:
    """The background of T sets of counts, by windows of the same width.

    Args:
        background: of the data; fits start there.
        counts: shape (T, N).

    Returns:
        The deviance is that of the predictions; good toys have converged in all windows.

    Raises:
        FitError: a window of the data whose fit did not converge: there is nowhere to start.
    """
    fit, number = background.fit, background.first.size
    if not fit.good.all():
        raise FitError(
            f"{int((~fit.good).sum())} of {number} windows did not converge, expected fits to start toys from; choose wider "
            "windows or another function"
        )
    size = max(1, _BATCH // number)
    parts = [_refitted(background, counts[begin : begin + size]) for begin in range(0, len(counts), size)]
    prediction, good = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    weight = np.zeros(background.row.size)
    weight[background.first[:, None] + np.arange(fit.windows.weight.shape[1])] = fit.windows.weight
    return ToyFits(prediction, np.asarray(poisson_deviance(counts, prediction, weight)), np.all(good, axis=1))


def _candidates(
    function: SpectrumFunction, spectrum: Spectrum, half_widths: Sequence[int] | None
) -> list[int]:
    """Half widths with more filled bins than parameters in all windows, the widest first."""
    bins, number = spectrum.counts.size, len(function.parameters)
    widest = (bins - 1) // 2
    if half_widths is None:
        half_widths = (
            np.geomspace(min(number + 1, max(widest, 1)), max(widest, 1), _TRIED).round().astype(int).tolist()
        )
    if min(half_widths) < 1:
        raise FitError(f"half width of {min(half_widths)} bins, expected at least 1; give another")
    filled = np.append(0, np.cumsum(spectrum.used & (spectrum.counts > 0)))
    found = []
    for half_width in sorted(set(half_widths), reverse=True):
        size = 2 * half_width + 1
        if size <= bins and np.min(filled[size:] - filled[:-size]) > number:
            found.append(half_width)
    if not found:
        raise FitError(
            f"{spectrum.name}: no windows of {', '.join(map(str, sorted(set(half_widths))))} bins on each side fit into {bins} "
            f"bins with more filled ones than the {number} parameters of {function.name} in each; take wider windows, a "
            "longer range or merged bins"
        )
    return found


def _with_width(
    function: SpectrumFunction, spectrum: Spectrum, sqrt_s: float, half_width: int, peak: Signal | None
) -> SlidingBackground:
    bins, size = spectrum.counts.size, 2 * half_width + 1
    begin = np.clip(np.arange(bins) - half_width, 0, bins - size)
    # with a peak each bin has its own fit; without, those at the ends share theirs
    first, row = (begin, np.arange(bins)) if peak is not None else np.unique(begin, return_inverse=True)
    columns = first[:, None] + np.arange(size)
    weight = np.where(spectrum.used, 1 / scale(spectrum), 0.0)
    edges = spectrum.edges[first[:, None] + np.arange(size + 1)]
    fit = fit_background(function, Windows(edges, spectrum.counts[columns], weight[columns], sqrt_s))
    design, parameters = fit.jacobian, fit.jacobian.shape[2]
    if peak is None:
        model = background_model(function, fit.windows, fit.point, fit.transform)
    else:
        centres = (spectrum.edges[1:] + spectrum.edges[:-1]) / 2
        made = templates(peak, centres, spectrum.edges, first=first, bins=size)
        model = search(fit, made, form="exact").model
        design = np.concatenate([made.nominal[:, :, None], design], axis=2)
    place = np.arange(bins) - first[row]
    found = SlidingBackground(
        fit.prediction[row, place], TriedWidth(half_width, np.nan, np.nan, np.nan, np.nan, 0), False, (), row, first, fit, model
    )  # fmt: skip
    good, prediction = fit.good, found.prediction
    if peak is not None:
        refitted, converged = _refitted(found, spectrum.counts[None])
        prediction, good = refitted[0], converged[0]
    # the derivatives of a fit that failed, by which it would be judged, may be anything
    kept, sound = np.flatnonzero((weight > 0) & good[row]), np.flatnonzero(good)
    deviance = float(poisson_deviance(spectrum.counts[kept], prediction[kept], weight[kept]))
    response = np.zeros((kept.size, bins))
    response[np.arange(kept.size)[:, None], columns[row[kept]]] = _responses(
        of_windows(fit, sound), design[sound], parameters
    )[np.searchsorted(sound, row[kept]), place[kept]]
    variance = prediction[kept] / weight[kept]
    of_fit = goodness(deviance, response[:, kept], variance) if kept.size else Goodness(0.0, 0.0, 0.0)
    p_value = of_fit.p_value if good.all() else 0.0
    chosen = TriedWidth(half_width, deviance, of_fit.parameters, of_fit.ndof, p_value, int(np.sum(~good)))
    return found._replace(prediction=np.where(good[row], prediction, np.nan), chosen=chosen)


def _responses(fit: BackgroundFit, design: Array, parameters: int) -> Array:
    """∂background_i/∂count_j in each window, shape (M, I, I); the design's last columns are the background's."""
    information = (fit.windows.weight / fit.prediction)[:, :, None] * design
    inverse = np.linalg.inv(np.swapaxes(design, 1, 2) @ information)
    return np.asarray(design[:, :, -parameters:] @ inverse[:, -parameters:] @ np.swapaxes(information, 1, 2))


def _refitted(background: SlidingBackground, counts: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Predictions of T sets of counts, shape (T, N), and whether each of their windows converged, shape (T, M)."""
    fit, model = background.fit, background.model
    number, size = fit.windows.counts.shape
    which = np.tile(np.arange(number), len(counts))
    columns = background.first[:, None] + np.arange(size)
    start = np.zeros((which.size, model.start.size))
    data = Observation(counts[:, columns].reshape(-1, size), start)
    found = minimise(model, data, start, ~model.fixed, alternatives=which)
    each = of_windows(fit, which)
    moved = found.values[:, -fit.point.shape[1] :]
    point = each.point + np.einsum("mij,mj->mi", each.transform, moved)
    expected = predicted(fit.function, each.windows, point).reshape(len(counts), number, size)
    bins = np.arange(background.row.size)
    prediction = expected[:, background.row, bins - background.first[background.row]]
    return prediction, found.converged.reshape(len(counts), number)
