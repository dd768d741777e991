"""Figure of a function fitted to a spectrum: data per GeV with the fit, and pulls below.

Errors are central 68.3% intervals of a Poisson mean (F. Garwood, Biometrika 28 (1936) 437). What the fit did not look at is
grey; what nobody may look at is hatched and not drawn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm

from trila.analysis.fit_products import Fit, column
from trila.analysis.plots_legend import make_room
from trila.analysis.plots_scan import is_wide, mass_axis
from trila.analysis.plots_style import (
    Label,
    colors,
    finish,
    limit_log,
    new_figure,
    points,
    style_context,
    text_size,
)
from trila.fits.spectrum import Spectrum, scale

__all__ = ["Binned", "binned", "fit_figure", "garwood", "mass_symbol"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: More points than this are drawn smaller and without the width of their bins.
_MANY = 120
#: The y axis ends where a bin has this many events, however small the fit becomes.
_LEAST_EVENTS = 0.2
_UNSEEN: dict[str, Any] = {
    "facecolor": "none",
    "edgecolor": "0.6",
    "hatch": "///",
    "linewidth": 0.0,
    "zorder": 0,
}


class Binned(NamedTuple):
    """What is drawn of a spectrum of n bins, all per bin.

    Attributes:
        edges: GeV, shape (n + 1,).
        counts: NaN where they are not shown, shape (n,).
        error: downwards and upwards, shape (2, n).
        pull: (data - fit)/√(variance that the fit predicts); NaN where the fit did not look.
        used: bins that the fit looked at.
        hidden: bins whose data is not shown.
    """

    edges: Array
    counts: Array
    error: Array
    pull: Array
    used: Flags
    hidden: Flags


def garwood(counts: ArrayLike) -> tuple[Array, Array]:
    """Central 68.3% confidence interval of a Poisson mean, lower and upper end, in the shape of the counts.

    >>> [end.round(3).item() for end in garwood(0.0)]
    [0.0, 1.841]
    """
    observed = np.asarray(counts, np.float64)
    tail = norm.sf(1.0)
    low = np.where(observed > 0, 0.5 * chi2.ppf(tail, 2 * np.maximum(observed, 1e-9)), 0.0)
    return low, np.asarray(0.5 * chi2.isf(tail, 2 * observed + 2))


def binned(fit: Fit) -> Binned:
    """The numbers of a figure. A sum of weights is scaled to a Poisson variable of the same mean and variance.

    Raises:
        FitError: weights that cannot be scaled.
    """
    edges, counts, prediction = np.array(fit.edges), column(fit.data), np.array(fit.prediction)
    windows = np.array(fit.blinded, np.float64).reshape(-1, 2)
    hidden = np.isnan(counts) | np.any((edges[:-1] < windows[:, 1:]) & (edges[1:] > windows[:, :1]), axis=0)
    used = np.ones(counts.size, bool) if fit.used is None else np.array(fit.used)
    used &= ~hidden
    shown = np.where(hidden, np.nan, counts)
    weight = np.ones(counts.size)
    if fit.variances is not None and np.any(np.nan_to_num(shown) > 0):
        variances = np.where(hidden, 0.0, column(fit.variances))
        weight = scale(Spectrum(edges, np.nan_to_num(shown), np.nan_to_num(variances), used, fit.spectrum))
    low, high = (end * weight for end in garwood(np.maximum(np.nan_to_num(shown), 0.0) / weight))
    error = np.maximum(np.stack([shown - low, high - shown]), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = (shown - prediction) / np.sqrt(weight * prediction)
    return Binned(edges, shown, error, np.where(used & (prediction > 0), pull, np.nan), used, hidden)


def fit_figure(fit: Fit, label: Label, *, log_x: bool | None = None) -> Figure:
    """The spectrum per GeV with the fitted function, and the pulls.

    Args:
        fit: what is drawn.
        label: what stands above.
        log_x: whether the mass axis is logarithmic; by default where it spans a factor of 8.

    Raises:
        FitError: weights that cannot be scaled.
    """
    content = binned(fit)
    width = np.diff(content.edges)
    center = _centers(content.edges, log_x)
    curve = np.array(fit.prediction) / width
    with style_context(label.style):
        figure = new_figure(height=1.15)
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1.0])
        _unseen(ax, below, content)
        name = "Data" if label.is_data else "Simulation"
        _data(ax, content, center, width, name)
        ax.plot(center, curve, color=colors(1)[0], label=f"Fit, {fit.function}", zorder=3)
        if fit.signal is not None:
            _signal(ax, below, center, np.array(fit.signal), np.array(fit.prediction), width, fit.signal_name)
        _pulls(below, content, center)
        floor = float(np.min(_LEAST_EVENTS / width))
        drawn = np.concatenate([curve, (content.counts / width)[~content.hidden]])
        limit_log(ax, np.maximum(drawn[drawn > 0], floor), top=0.05)
        mass_axis(below, content.edges[0], content.edges[-1], log_x)
        symbol = mass_symbol(fit.spectrum)
        below.set_xlabel(f"{symbol} [GeV]" if symbol else "Mass [GeV]")
        ax.set_ylabel(f"{fit.unit[:1].upper()}{fit.unit[1:]} / GeV")
        handles, texts = ax.get_legend_handles_labels()
        order = sorted(range(len(texts)), key=lambda i: not texts[i].startswith(name))  # the points first
        legend = ax.legend(
            [handles[i] for i in order], [texts[i] for i in order], loc="upper right", title=_quality(fit), title_fontsize=text_size(0.9), fontsize=text_size(0.9), alignment="left",
            borderaxespad=0.3, labelspacing=0.3,
        )  # fmt: skip
        figure.align_ylabels([ax, below])
        finish(figure, label, [ax])
        top = (content.counts + content.error[1]) / width
        make_room(ax, legend, [(center, top), (center, curve)])
        return figure


def mass_symbol(name: str) -> str:
    """Symbol of the mass of a spectrum by its name, as mathematical text; empty where the name does not tell."""
    lower = name.casefold()
    if any(part in lower for part in ("dimuon", "mumu")):
        return r"$m_{\mu\mu}$"
    return r"$m_\mathrm{jj}$" if any(part in lower for part in ("dijet", "mjj")) else ""


def _centers(edges: Array, log_x: bool | None) -> Array:
    """Where the points of bins stand: in the middle as it is drawn."""
    if is_wide(edges[0], edges[-1], log_x):
        return np.asarray(np.sqrt(edges[:-1] * edges[1:]))
    return np.asarray(0.5 * (edges[:-1] + edges[1:]))


def _data(ax: Axes, content: Binned, center: Array, width: Array, name: str) -> None:
    """Points of the bins that the fit used in black, of the others that may be shown in grey."""
    for chosen, color, text in (
        (content.used, "black", name),
        (~content.used & ~content.hidden, "0.6", f"{name}, not in the fit"),
    ):
        if chosen.any():
            edges = np.stack([content.edges[:-1], content.edges[1:]])
            reach = None if center.size > _MANY else np.abs(edges - center)[:, chosen]
            ax.errorbar(
                center[chosen], (content.counts / width)[chosen], (content.error / width)[:, chosen], reach,
                color=color, marker="o", label=text, zorder=2, **_points(center.size),
            )  # fmt: skip


def _points(bins: int) -> dict[str, Any]:
    style = points()
    style["markersize"] *= 1.0 if bins <= 60 else 0.75 if bins <= _MANY else 0.4
    return style


def _unseen(ax: Axes, below: Axes, content: Binned) -> None:
    """Ranges without data hatched; those that the fit did not look at grey."""
    for i, (low, high) in enumerate(_runs(content.hidden, content.edges)):
        for axes in (ax, below):
            axes.axvspan(low, high, **_UNSEEN, label="Blinded" if i == 0 else "")
    for low, high in _runs(~content.used & ~content.hidden, content.edges):
        for axes in (ax, below):
            axes.axvspan(low, high, color="0.93", linewidth=0.0, zorder=0)


def _runs(flags: Flags, edges: Array) -> list[tuple[float, float]]:
    """Ranges of neighbouring bins with a flag, GeV."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return [
        (float(edges[first]), float(edges[last])) for first, last in zip(steps[::2], steps[1::2], strict=True)
    ]


def _signal(
    ax: Axes, below: Axes, center: Array, signal: Array, prediction: Array, width: Array, name: str
) -> None:
    """A signal per GeV, and in units of the background's fluctuation."""
    line = {"color": colors(2)[1], "linestyle": "--", "zorder": 3}
    positive = np.where(signal > 0, signal, np.nan)
    ax.plot(center, positive / width, label=name, **line)
    below.plot(
        center,
        np.divide(signal, np.sqrt(prediction), out=np.full(signal.size, np.nan), where=prediction > 0),
        **line,
    )


def _pulls(ax: Axes, content: Binned, center: Array) -> None:
    """Pulls as bars from zero; those beyond the axis have an arrow at its end."""
    color = colors(1)[0]
    finite = content.pull[np.isfinite(content.pull)]
    half = float(np.clip(np.abs(finite).max(initial=0.0) + 0.7, 3.2, 6.0))
    ax.stairs(content.pull, content.edges, baseline=0.0, fill=True, color=color, alpha=0.6)
    ax.axhline(0.0, color="black", linewidth=1.0)
    for sign, marker in ((1.0, "^"), (-1.0, "v")):
        beyond = np.flatnonzero(sign * np.nan_to_num(content.pull) > half)
        if beyond.size:
            place = np.full(beyond.size, 0.88 * sign * half)
            ax.plot(center[beyond], place, marker, color="red", markersize=0.5 * text_size())
    ax.set_ylim(-half, half)
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
    ax.set_ylabel(r"(Data $-$ fit) / $\sigma$", fontsize=text_size(0.9))


def _quality(fit: Fit) -> str:
    text = rf"$\chi^2$ / ndf = {fit.chi2.deviance:.1f} / {fit.ndof}"
    return text if fit.p_value is None else f"{text}, $p$ = {fit.p_value:.2g}"
