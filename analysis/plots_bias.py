"""Figures of tests of a background function: spurious signals against mass, and fits to toys with a signal in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import norm

from trila.analysis.fit_products import Bias, Injection, column
from trila.analysis.plots_legend import make_room
from trila.analysis.plots_scan import mark_failed, scan_axis
from trila.analysis.plots_style import (
    Label,
    colors,
    finish,
    headroom,
    markers,
    new_figure,
    points,
    style_context,
    text_size,
)

__all__ = ["injection_figure", "pull_figure", "spurious_figure"]

Array = NDArray[np.float64]

#: Parts of the signal's error that a spurious signal may have: a usual goal, and a usual limit.
_BANDS = (0.2, 0.5)
#: Signals that a figure can tell apart.
_MOST = 6
_MANY = 120


def spurious_figure(bias: Bias, label: Label, *, log_x: bool | None = None) -> Figure | None:
    """Spurious signal over the error of the signal, against mass, with bands at ±0.2 and ±0.5.

    Args:
        bias: masses where the test failed are crosses at the axis.
        label: what stands above.
        log_x: whether the mass axis is logarithmic; by default where it spans a factor of 8.

    Returns:
        None without this test.
    """
    if not bias.spurious:
        return None
    rows = sorted(bias.spurious, key=lambda row: row.mass)
    mass, ratio = column([row.mass for row in rows]), column([row.ratio for row in rows])
    failed = np.isnan(ratio)
    with style_context(label.style):
        figure = new_figure()
        ax = figure.add_subplot()
        for reach, color in zip(_BANDS[::-1], ("0.92", "0.82"), strict=True):
            ax.axhspan(-reach, reach, color=color, linewidth=0.0, zorder=0, label=f"± {reach:g}")
        ax.axhline(0.0, color="black", linewidth=1.0, zorder=1)
        many = mass.size > _MANY
        ax.plot(
            mass, ratio, color=colors(1)[0], marker="" if many else "o", markersize=points()["markersize"], linewidth=1.2,
            label="Spurious signal", zorder=2,
        )  # fmt: skip
        mark_failed(ax, mass, failed, "Failed")
        scan_axis(ax, mass, log_x)
        half = max(1.2 * _BANDS[-1], 1.1 * float(np.abs(ratio[~failed]).max(initial=0.0)))
        headroom(ax, -half, half, top=0.1)
        ax.set_xlabel("Resonance mass [GeV]")
        ax.set_ylabel(r"Spurious signal / $\sigma$")
        legend = ax.legend(
            loc="upper right", ncols=2, fontsize=text_size(0.85), borderaxespad=0.3, columnspacing=1.0
        )
        finish(figure, label, [ax])
        everything = [(mass, ratio), (np.array(ax.get_xlim()), np.full(2, _BANDS[-1]))]
        make_room(ax, legend, everything)
        return figure


def injection_figure(bias: Bias, label: Label) -> Figure | None:
    """Mean and width of the pulls against the injected signal, and above them the fitted signals where they are given.

    Returns:
        None without this test.
    """
    groups = _by_mass(bias.injection)
    if not groups:
        return None
    linear = any(row.fitted is not None for row in bias.injection)
    unit = f" [{bias.unit}]" if bias.unit else ""
    x = _injected(bias.injection)
    margin = 0.06 * float(np.ptp(x)) or 1.0
    ends = np.array([x.min() - margin, x.max() + margin])
    with style_context(label.style):
        figure = new_figure(height=1.15 if linear else 1.0)
        axes = figure.subplots(
            1 + linear, 1, sharex=True, height_ratios=[2.0, 1.2][: 1 + linear], squeeze=False
        )[:, 0]
        top, below = axes[0], axes[-1]
        if linear:
            top.plot(ends, ends, color="grey", linestyle="--", label="Fitted = injected", zorder=0)
            top.set_ylabel(f"Fitted signal{unit}")
        for i, (mass, rows) in enumerate(groups):
            style = {
                "color": colors(len(groups))[i],
                "marker": markers()[i],
                "label": "Toys" if mass is None else f"{mass:g} GeV",
                **points(),
            }
            # Side by side, or the masses would hide each other.
            place = _injected(rows) + 0.2 * margin * (i - 0.5 * (len(groups) - 1))
            if linear:
                fitted, error = (
                    column([row.fitted for row in rows]),
                    column([row.fitted_error for row in rows]),
                )
                top.errorbar(_injected(rows), fitted, np.nan_to_num(error), **style)
            _draw_pulls(below, place, rows, style)
        for reach, color in ((1.0, "0.92"), (_BANDS[-1], "0.82")):
            below.axhspan(-reach, reach, color=color, linewidth=0.0, zorder=0)
        below.axhline(0.0, color="black", linewidth=1.0, zorder=1)
        below.set_xlim(*ends)
        half = max(1.4, *(1.1 * (abs(row.mean_pull or 0.0) + (row.width or 0.0)) for row in bias.injection))
        headroom(below, -half, half, top=0.0)
        below.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        below.set_xlabel(f"Injected signal{unit}")
        below.set_ylabel("Mean and width of pulls", fontsize=text_size(0.9))
        legend = top.legend(
            loc="upper left", ncols=2, fontsize=text_size(0.85), borderaxespad=0.3, columnspacing=1.0
        )
        figure.align_ylabels(list(axes))
        finish(figure, label, [top])
        drawn = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in top.lines]
        make_room(top, legend, drawn)
        return figure


def pull_figure(bias: Bias, label: Label) -> Figure | None:
    """Distributions of the pulls of toys, as densities, beside that of a standard normal variable.

    Returns:
        None if no test gives the pulls of its toys.
    """
    rows = [row for row in bias.injection if row.pulls]
    if not rows:
        return None
    shown = [
        rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).round().astype(int))
    ]
    edges = np.linspace(-5.0, 5.0, 41)
    x = np.linspace(-5.0, 5.0, 201)
    with style_context(label.style):
        figure = new_figure()
        ax = figure.add_subplot()
        drawn = [(x, norm.pdf(x))]
        for row, color in zip(shown, colors(len(shown)), strict=True):
            pulls = np.array(row.pulls)
            # Pulls beyond the axis count in the norm: the part that is seen is smaller than one.
            density = np.histogram(pulls, edges)[0] / (pulls.size * np.diff(edges))
            mass = "" if row.mass is None else f" at {row.mass:g} GeV"
            text = f"{row.injected:g} {bias.unit}{mass}: {pulls.mean():.2f} ± {pulls.std():.2f}"
            ax.stairs(density, edges, color=color, linewidth=2, label=text)
            drawn.append((0.5 * (edges[1:] + edges[:-1]), density))
        ax.plot(x, norm.pdf(x), color="black", linestyle="--", label="Standard normal")
        ax.set_xlim(-5.0, 5.0)
        headroom(ax, 0.0, 1.1 * max(float(y.max()) for _, y in drawn), top=0.05)
        ax.set_xlabel(r"(Fitted $-$ injected) / $\sigma$")
        ax.set_ylabel("Fraction of toys per unit of pull")
        legend = ax.legend(
            loc="upper left", title="Injected: mean ± width", title_fontsize=text_size(0.8), fontsize=text_size(0.8),
            alignment="left", borderaxespad=0.3, labelspacing=0.3,
        )  # fmt: skip
        finish(figure, label, [ax])
        make_room(ax, legend, drawn)
        return figure


def _by_mass(rows: Sequence[Injection]) -> list[tuple[float | None, list[Injection]]]:
    """Tests by mass, the masses ascending; of many, some that are spread evenly."""
    groups: dict[float | None, list[Injection]] = {}
    for row in sorted(rows, key=lambda row: (row.mass or 0.0, row.injected)):
        groups.setdefault(row.mass, []).append(row)
    chosen = np.unique(np.linspace(0, len(groups) - 1, min(len(groups), _MOST)).round().astype(int))
    items = list(groups.items())
    return [items[i] for i in chosen]


def _injected(rows: Sequence[Injection]) -> Array:
    return column([row.injected for row in rows])


def _draw_pulls(ax: Axes, place: Array, rows: Sequence[Injection], style: dict[str, Any]) -> None:
    """Means with their errors, and thin bars of the width: both ends at ±1 for a fit without bias."""
    mean, width = column([row.mean_pull for row in rows]), column([row.width for row in rows])
    error = column([row.mean_pull_error for row in rows])
    ax.vlines(place, mean - width, mean + width, color=style["color"], linewidth=1.0, zorder=2)
    ax.plot(
        place, mean + width, "_", place, mean - width, "_", color=style["color"], markersize=0.5 * text_size()
    )
    ax.errorbar(place, mean, np.nan_to_num(error), zorder=3, **style)
