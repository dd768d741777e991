"""Figures of time series: values against run, and the runs at which they step.

Runs stand side by side in their order: their numbers leave gaps of any size. Lines are the means between steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from trila.analysis.plots_style import (
    Label,
    Style,
    colors,
    finish,
    headroom,
    new_figure,
    points,
    save_figure,
    style_context,
    text_size,
)
from trila.analysis.provenance import Provenance
from trila.analysis.stability import Change, Series

__all__ = ["plot_stability", "series_figure"]

_MOST_TICKS = 8
_LABEL_WIDTH = 0.035  # of the axis, that a run's number takes when it is written upwards
_SYMBOLS = {
    "pT": r"$p_\mathrm{T}$",
    "mass of phi": r"mass of $\phi$",
    "mass of jpsi": r"mass of $J/\psi$",
    "mass of upsilon": r"mass of $\Upsilon(1S)$",
    "mass of z": r"mass of $Z$",
}


def plot_stability(
    found: Sequence[Series],
    outdir: Path,
    *,
    style: Style = "cms",
    label: str = "Private work",
    is_data: bool,
    com: float | None = None,
    lumi: float | None = None,
    made: Provenance | None = None,
) -> list[Path]:
    """A figure of each series, as PNG and PDF.

    Args:
        found: of `trila.analysis.stability.measure`.
        outdir: folder that exists.
        style, label, is_data, com, lumi: look and label, as `trila.analysis.plots.plot_histograms` has them.
        made: record that the files carry.

    Returns:
        The files written.
    """
    banner = Label(style, label, is_data, com, lumi)
    written: list[Path] = []
    for one in found:
        written += save_figure(
            series_figure(one, banner), outdir / f"stability_{one.points.name.replace('.', '_')}", style, made
        )
    return written


def series_figure(one: Series, label: Label) -> Figure:
    """Values against run with their errors, the means between steps, and the runs of the steps."""
    runs, values, errors = one.points.runs, one.points.values, one.points.errors
    place = np.arange(runs.size)
    with style_context(label.style):
        figure = new_figure(1.5, 0.8)
        ax = figure.subplots()
        crowded = runs.size > 100
        look = points() | (
            {"markersize": 0.2 * text_size(), "elinewidth": 0.05 * text_size()} if crowded else {}
        )
        ax.errorbar(place, values, errors, marker="o", color="black", zorder=2, **look)  # fmt: skip
        # room for the number of a step at the second run, which stands left of its line
        ax.set_xlim(-_LABEL_WIDTH * runs.size - 0.5, 1.02 * runs.size - 0.5)
        low, high = float((values - errors).min()), float((values + errors).max())
        margin = 0.08 * (high - low)
        # below, for the note on the steps; above, for their runs
        headroom(ax, low - 2.0 * margin, high + margin, top=0.25 if one.changes else 0.05)
        _draw_steps(ax, one)
        _name_axes(ax, one)
        return finish(figure, label, [ax])


def _name_axes(ax: Axes, one: Series) -> None:
    runs = one.points.runs
    text = one.points.label
    for plain, symbol in _SYMBOLS.items():
        text = text.replace(plain, symbol)
    unit = f" [{one.points.unit}]" if one.points.unit else ""
    ax.set_ylabel(f"{text[0].upper()}{text[1:]}{unit}", fontsize=text_size(1.1))
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.ticklabel_format(axis="y", useOffset=False)
    ax.xaxis.set_major_locator(FixedLocator(list(range(0, runs.size, -(-runs.size // _MOST_TICKS)))))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: str(runs[round(x)])))
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.tick_params(axis="x", labelsize=text_size())
    ax.set_xlabel("Run")


def _draw_steps(ax: Axes, one: Series) -> None:
    """Means between steps, a line at each step, and its run; of steps that are too close, the most significant is named."""
    runs, changes = one.points.runs, one.changes
    color = colors(3)[2]
    at = np.searchsorted(runs, [change.run for change in changes]).tolist()
    edges = [0, *at, runs.size]
    means = [changes[0].before, *(change.after for change in changes)] if changes else []
    for mean, first, end in zip(means, edges[:-1], edges[1:], strict=False):
        ax.plot([first - 0.5, end - 0.5], [mean, mean], color=color, zorder=3)
    if changes:
        ax.vlines(
            np.array(at) - 0.5, 0.0, 1.0, color=color, linestyle=":", linewidth=1.0, zorder=1,
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
    named = _apart(changes, at, _LABEL_WIDTH * runs.size)
    for index in named:
        ax.text(
            at[index] - 0.5, 0.97, f" {changes[index].run} ", rotation=90, ha="right", va="top", color=color,
            fontsize=text_size(0.8), transform=ax.get_xaxis_transform(),
        )  # fmt: skip
    note = f"{len(changes) or 'no'} step{'' if len(changes) == 1 else 's'}"
    note += f", {len(named)} named" if len(named) < len(changes) else ""
    if one.scatter > 1.5:
        note += f"; run to run, {one.scatter:.1f} times the errors"
    ax.text(
        0.99,
        0.03,
        note,
        ha="right",
        va="bottom",
        fontsize=text_size(0.8),
        color="0.4",
        transform=ax.transAxes,
    )


def _apart(changes: Sequence[Change], at: Sequence[int], distance: float) -> list[int]:
    """Steps to name: the most significant first, none nearer than `distance` to another."""
    named: list[int] = []
    for index in sorted(range(len(changes)), key=lambda i: -changes[i].significance):
        if all(abs(at[index] - at[other]) >= distance for other in named):
            named.append(index)
    return sorted(named)
