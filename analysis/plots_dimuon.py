"""Figures of muon pairs: mass spectra with the known resonances, the peaks, and the control distributions.

Where a spectrum holds few pairs, neighbouring bins are merged, so that its points can be read; all are per GeV.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy import optimize

from trila.analysis.plots_spectra import (
    Control,
    Spectrum,
    by_category,
    control_figure,
    merged_starts,
    spectrum,
)
from trila.analysis.plots_style import (
    Label,
    colors,
    count_axis,
    finish,
    headroom,
    limit_log,
    markers,
    new_figure,
    numbered_log_axis,
    points,
    style_context,
    text_size,
)

__all__ = [
    "RESONANCES",
    "dimuon_categories_figure",
    "dimuon_control_figure",
    "dimuon_mass_figure",
    "dimuon_peaks_figure",
]

# Masses in GeV (Particle Data Group); rho and omega are not resolved.
RESONANCES = {
    r"$\rho/\omega$": 0.78,
    r"$\phi$": 1.0195,
    r"$J/\psi$": 3.0969,
    r"$\psi(2S)$": 3.6861,
    r"$\Upsilon(1S)$": 9.4604,
    r"$Z$": 91.1880,
}

_LEAST_PAIRS = 20  # within 5% of a resonance's mass, for its name to be written
_LEAST_IN_PEAK = 300  # in the window of a peak, for it to be drawn
_PER_POINT = 16.0  # effective pairs that bins are merged to hold, errors of a quarter,
_WIDEST = 0.25  # unless they span as much relative to their mass
_MASS = r"$m_{\mu\mu}$ [GeV]"
_SIGNS = {"os": "Opposite sign", "ss": "Same sign"}
_CATEGORIES = {
    "barrel": "Barrel",
    "forward": "Forward",
    "barrel_displaced": "Barrel, displaced",
    "forward_displaced": "Forward, displaced",
}
_CONTROL = {
    "pt": Control(r"Pair $p_\mathrm{T}$ [GeV]", "GeV", "Pairs", True),
    "rapidity": Control("Pair rapidity", counts="Pairs"),
    "muon_pt": Control(r"Muon $p_\mathrm{T}$ [GeV]", "GeV", "Muons", True),
    "muon_eta": Control(r"Muon $\eta$", counts="Muons"),
}


class _Window(NamedTuple):
    """Where a peak is looked at, in GeV."""

    title: str
    low: float
    high: float


_WINDOWS = (
    _Window(r"$J/\psi$, $\psi(2S)$", 2.6, 4.2),
    _Window(r"$\Upsilon$", 8.4, 11.4),
    _Window(r"$Z$", 70.0, 112.0),
)


def dimuon_mass_figure(histogram: hist.Hist[Any], label: Label) -> Figure | None:
    """Opposite-sign and same-sign spectra of all categories, with the known resonances named.

    Args:
        histogram: Axes `sign`, `category`, `mass` (`dimuon.mass`).
        label: What stands above.

    Returns:
        None if there is no pair.
    """
    return _spectra_figure(_by_sign(histogram), np.asarray(histogram.axes["mass"].edges), label)


def dimuon_categories_figure(histogram: hist.Hist[Any], label: Label) -> Figure | None:
    """Opposite-sign spectra by category; None if fewer than two hold pairs."""
    values, variances = by_category(histogram, "sign")["os"]
    series = {
        _CATEGORIES.get(str(name), str(name)): (values[i], variances[i])
        for i, name in enumerate(histogram.axes["category"])
        if (values[i] > 0).any()
    }
    if len(series) < 2:
        return None
    return _spectra_figure(series, np.asarray(histogram.axes["mass"].edges), label, title="Opposite sign")


def dimuon_peaks_figure(histogram: hist.Hist[Any], label: Label) -> Figure | None:
    """The J/psi, Upsilon and Z regions on linear axes, those with enough pairs; None if there is none."""
    edges = np.asarray(histogram.axes["mass"].edges)
    parts = _by_sign(histogram)
    chosen = []
    for window in _WINDOWS:
        inside = slice(*np.searchsorted(edges, [window.low, window.high]))
        values, variances = (part[inside] for part in parts[_SIGNS["os"]])
        boundaries = edges[inside.start : inside.start + values.size + 1]
        if values.size >= 10 and values.sum() ** 2 >= _LEAST_IN_PEAK * max(variances.sum(), 1e-300):
            # Even bins, or the eye sees structure in the background; at least 30, or the peak is a point.
            entries = values.sum() ** 2 / variances.sum()
            factor = int(np.clip(_PER_POINT * values.size / entries, 1, max(1, values.size // 30)))
            chosen.append((window, inside, boundaries, np.arange(0, values.size, factor)))
    if not chosen:
        return None
    with style_context(label.style):
        figure = new_figure(0.1 + 0.72 * len(chosen), 0.72)
        axes = figure.subplots(1, len(chosen), squeeze=False)[0]
        for ax, (window, inside, boundaries, starts) in zip(axes, chosen, strict=True):
            highest = 0.0
            for (text, part), color, marker in zip(
                parts.items(), ("black", colors(3)[2]), markers(), strict=False
            ):
                content = spectrum(part[0][inside], part[1][inside], boundaries, starts)
                if content.center.size:
                    _draw(ax, content, color, marker, text, reach=False)
                    highest = max(highest, float((content.density + content.error).max()))
            ax.set_xlim(boundaries[0], boundaries[-1])
            headroom(ax, 0.0, highest, top=0.27)
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            count_axis(ax, "Pairs", " / GeV")
            ax.set_xlabel(_MASS)
            ax.legend(loc="upper right", title=window.title, title_fontsize=text_size(), handletextpad=0.2,
                      borderaxespad=0.2)  # fmt: skip
        return finish(figure, label, [axes[0], axes[-1]])


def dimuon_control_figure(histograms: Mapping[str, hist.Hist[Any]], label: Label) -> Figure | None:
    """A page of those control distributions `dimuon.*` that there are."""
    return control_figure(
        [
            (histograms[f"dimuon.{name}"], how)
            for name, how in _CONTROL.items()
            if f"dimuon.{name}" in histograms
        ],
        label,
    )


def _by_sign(histogram: hist.Hist[Any]) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Values and variances versus mass, all categories, by the legend's text."""
    parts = by_category(histogram.project("sign", "mass"), "sign")
    return {text: parts[sign] for sign, text in _SIGNS.items() if sign in parts}


def _spectra_figure(
    series: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    edges: NDArray[np.float64],
    label: Label,
    title: str = "",
) -> Figure | None:
    """Spectra on doubly logarithmic axes."""
    total = np.sum([values for values, _ in series.values()], axis=0)
    contents = {
        name: spectrum(*pair, edges, merged_starts(*pair, edges, entries=_PER_POINT, widest=_WIDEST))
        for name, pair in series.items()
    }
    contents = {name: content for name, content in contents.items() if content.center.size}
    if not contents:
        return None
    with style_context(label.style):
        figure = new_figure(width=1.2)
        ax = figure.add_subplot()
        rows = math.ceil(len(contents) / 2) + bool(title)
        palette = ["black", *(colors(6)[i] for i in (2, 0, 1))] if not title else colors(len(contents))
        for (name, content), color, marker in zip(contents.items(), palette, markers(), strict=False):
            _draw(ax, content, color, marker, name, reach=True)
        limit_log(
            ax, np.concatenate([content.density for content in contents.values()]), top=0.26 + 0.06 * rows
        )
        low = min(float((content.center - content.reach[0]).min()) for content in contents.values())
        high = max(float((content.center + content.reach[1]).max()) for content in contents.values())
        numbered_log_axis(ax.xaxis, low, high)
        ax.set_xlabel(_MASS)
        ax.set_ylabel(r"$\mathrm{d}N/\mathrm{d}m_{\mu\mu}$ [pairs / GeV]")
        legend = ax.legend(
            loc="upper right", ncols=2, title=title or None, title_fontsize=text_size(), columnspacing=1.0,
            handletextpad=0.2, borderaxespad=0.2, markerscale=2.0,
        )  # fmt: skip
        finish(figure, label, [ax])
        bottom = ax.transAxes.inverted().transform(legend.get_window_extent())[0, 1]
        _name_resonances(ax, next(iter(contents.values())), edges, total, float(bottom))
        return figure


def _draw(ax: Axes, content: Spectrum, color: Any, marker: str, name: str, *, reach: bool) -> None:
    style = points()
    # Hundreds of points on a line: smaller ones, or they merge into a band.
    style["markersize"] *= 0.5 if content.center.size > 60 else 0.8
    ax.errorbar(
        content.center, content.density, content.error, content.reach if reach else None,
        color=color, marker=marker, label=name, **style,
    )  # fmt: skip


def _name_resonances(
    ax: Axes, drawn: Spectrum, edges: NDArray[np.float64], values: NDArray[np.float64], top: float
) -> None:
    """Names of the resonances that there are data for, each with a line to its mass.

    They stand in one row, which ends at `top` as a fraction of the axes. The layout must be final: the names are
    moved apart by their width on the page.
    """
    center = np.sqrt(np.maximum(edges[:-1], 1e-6) * edges[1:])
    low, high = ax.get_xlim()
    present = {
        name: mass
        for name, mass in RESONANCES.items()
        if low < mass < high and values[np.abs(center / mass - 1) < 0.05].sum() >= _LEAST_PAIRS
    }
    if not present:
        return
    frame = ax.get_window_extent()
    row = top - 1.5 * text_size() / 72.0 * ax.figure.dpi / frame.height
    texts, tips, wanted, widths = [], [], [], []
    for name, mass in present.items():
        near = drawn.density[np.abs(drawn.center / mass - 1) < 0.08]
        position = math.log(mass / low) / math.log(high / low)
        text = ax.text(
            position, row, name, transform=ax.transAxes, ha="center", va="bottom", fontsize=text_size()
        )
        texts.append(text)
        # The line ends a little above the highest point nearby.
        tips.append(float(near.max(initial=drawn.density.min())))
        wanted.append(position)
        widths.append(text.get_window_extent().width / frame.width)
    for text, mass, tip, position in zip(texts, present.values(), tips, _spread(wanted, widths), strict=True):
        text.set_x(position)
        ax.annotate(
            "", xy=(mass, tip * 1.6), xytext=(position, row - 0.005), textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def _spread(wanted: Sequence[float], widths: Sequence[float], gap: float = 0.012) -> NDArray[np.float64]:
    """The centres nearest to the wanted ones at which texts of these widths neither overlap nor leave 0 to 1."""
    half = 0.5 * np.asarray(widths)
    distance = np.concatenate([[0.0], np.cumsum(half[:-1] + half[1:] + gap)])
    # Less the distances that they must keep, the centres need only be in order.
    centers = optimize.isotonic_regression(np.asarray(wanted) - distance).x + distance
    last = np.minimum(centers, 1.0 - gap - half[-1] - (distance[-1] - distance))
    return np.asarray(np.maximum(last, gap + half[0] + distance), dtype=np.float64)
