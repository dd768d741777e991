"""Spectra per unit of their axis, and pages of control distributions: what dijets and dimuons share.

Errors are those of the variances; empty bins are left out, not drawn as zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from trila.analysis.plots_style import (
    Label,
    colors,
    count_axis,
    finish,
    headroom,
    limit_log,
    new_figure,
    numbered_log_axis,
    style_context,
)

__all__ = [
    "Control",
    "Spectrum",
    "by_category",
    "control_figure",
    "control_panel",
    "merged_starts",
    "spectrum",
]

_LEGEND = {"os": "Opposite sign", "ss": "Same sign", "leading": "Leading", "subleading": "Subleading"}


class Spectrum(NamedTuple):
    """Contents per unit of the axis, of the bins that are not empty."""

    center: NDArray[np.float64]
    """Geometric bin centres."""
    reach: NDArray[np.float64]
    """Distances from the centre to the lower and upper edge, shape (2, n)."""
    density: NDArray[np.float64]
    error: NDArray[np.float64]


class Control(NamedTuple):
    """How a control distribution is drawn."""

    text: str
    """x label with unit."""
    unit: str = ""
    """If given, contents are divided by the bin width and counted per this unit; else they are per bin."""
    counts: str = "Events"
    logarithmic: bool = False


def by_category(
    histogram: hist.Hist[Any], axis: str
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Values and variances over the other axes, in their order, by category of one axis."""
    position = list(histogram.axes.name).index(axis)
    values, variances = (
        np.moveaxis(np.asarray(part), position, 0) for part in (histogram.values(), histogram.variances())
    )
    return {str(name): (values[i], variances[i]) for i, name in enumerate(histogram.axes[position])}


def spectrum(
    values: NDArray[np.float64],
    variances: NDArray[np.float64],
    edges: NDArray[np.float64],
    starts: NDArray[np.int64] | None = None,
) -> Spectrum:
    """A histogram on a positive axis, divided by the bin widths.

    Args:
        values: Sums of weights, shape (n,).
        variances: Sums of squared weights, shape (n,).
        edges: Shape (n + 1,).
        starts: Where bins are merged, the first bin of each group, from 0 on.
    """
    if starts is None:
        starts = np.arange(values.size)
    low, high = edges[starts], edges[np.append(starts[1:], values.size)]
    # A first bin that begins at zero has no place on a logarithmic axis; it is drawn over its upper half.
    low = np.where(low > 0, low, 0.5 * high)
    values, variances = np.add.reduceat(values, starts), np.add.reduceat(variances, starts)
    keep = values > 0
    low, high, width = low[keep], high[keep], (high - edges[starts])[keep]
    center = np.sqrt(low * high)
    return Spectrum(
        center,
        np.stack([center - low, high - center]),
        values[keep] / width,
        np.sqrt(variances[keep]) / width,
    )


def merged_starts(
    values: NDArray[np.float64],
    variances: NDArray[np.float64],
    edges: NDArray[np.float64],
    *,
    entries: float,
    widest: float,
) -> NDArray[np.int64]:
    """Groups of neighbouring bins, each of which holds some effective entries or has become wide.

    For the eye only: bins that depend on their content must not be fitted.

    Args:
        values: Sums of weights, shape (n,).
        variances: Sums of squared weights, shape (n,).
        edges: Shape (n + 1,).
        entries: A group ends when it holds as many effective entries,
        widest: or when it spans as much relative to its lower edge.

    Returns:
        The first bin of each group; the empty bins before and after the filled ones form groups of their own.
    """
    filled = np.flatnonzero(values > 0)
    if not filled.size:
        return np.arange(values.size)
    starts = [0] if filled[0] else []
    complete, total, squares = True, 0.0, 0.0
    for i in range(int(filled[0]), int(filled[-1]) + 1):
        if complete:
            starts.append(i)
            total = squares = 0.0
        total, squares = total + float(values[i]), squares + float(variances[i])
        complete = total**2 >= entries * squares > 0 or bool(edges[i + 1] >= (1 + widest) * edges[starts[-1]])
    if filled[-1] + 1 < values.size:
        starts.append(int(filled[-1]) + 1)
    return np.array(starts)


def control_figure(panels: Sequence[tuple[hist.Hist[Any], Control]], label: Label) -> Figure | None:
    """A page of control distributions; None if all are empty."""
    chosen = [
        (histogram, control) for histogram, control in panels if np.any(np.asarray(histogram.values()) > 0)
    ]
    if not chosen:
        return None
    columns = {1: 1, 2: 2, 4: 2}.get(len(chosen), 3)
    rows = -(-len(chosen) // columns)
    with style_context(label.style):
        figure = new_figure(0.66 * columns, 0.6 * rows + 0.05)
        grid = figure.subplots(rows, columns, squeeze=False)
        for ax, (histogram, control) in zip(grid.flat, chosen, strict=False):
            control_panel(ax, histogram, control)
        for ax in grid.flat[len(chosen) :]:
            ax.remove()
        return finish(figure, label, [grid[0, 0], grid[0, -1]])


def control_panel(ax: Axes, histogram: hist.Hist[Any], control: Control) -> None:
    """One control distribution, with a line for each category of the first axis if that is a categorical one.

    Args:
        ax: Where to draw.
        histogram: One dense axis, and at most one of categories before it; not empty.
        control: What to write, and how to scale.
    """
    axis = histogram.axes[-1]
    # The bins of an integer axis are drawn around the integers.
    integer = isinstance(axis, hist.axis.Integer)
    edges = np.asarray(axis.edges, dtype=np.float64) - 0.5 * integer
    several = len(histogram.axes) == 2
    names = [str(name) for name in histogram.axes[0]] if several else [""]
    values, variances = (
        np.atleast_2d(np.asarray(part)) for part in (histogram.values(), histogram.variances())
    )
    filled = np.flatnonzero((values > 0).any(axis=0))
    first, last = int(filled[0]), int(filled[-1]) + 1
    edges, values, variances = edges[first : last + 1], values[:, first:last], variances[:, first:last]
    scale = 1.0 / np.diff(edges) if control.unit else np.ones(last - first)

    drawn = []
    for name, content, variance, color, line in zip(
        names, values, variances, colors(len(names)), ("-", "--", ":", "-.") * 3, strict=False
    ):
        keep = content > 0
        if not keep.any():
            continue
        density, error = content * scale, np.sqrt(variance) * scale
        # The baseline closes the step of a bin next to an empty one; there is none on a logarithmic axis.
        ax.stairs(
            np.where(keep, density, np.nan), edges, color=color, linestyle=line, linewidth=2,
            label=_LEGEND.get(name, name), baseline=None,
        )  # fmt: skip
        center = 0.5 * (edges[1:] + edges[:-1])
        ax.errorbar(center[keep], density[keep], error[keep], color=color, linestyle="none", elinewidth=1.5)
        drawn.append(density[keep])

    top = 0.25 if several else 0.06
    per = f" / {control.unit}" if control.unit else "" if integer else " / bin"
    if control.logarithmic:
        limit_log(ax, np.concatenate(drawn), top=top)
        ax.set_ylabel(f"{control.counts}{per}")
    else:
        headroom(ax, 0.0, 1.05 * float(np.concatenate(drawn).max()), top=top)
        count_axis(ax, control.counts, per)
    if control.unit and edges[0] > 0 and edges[-1] > 5 * edges[0]:
        numbered_log_axis(ax.xaxis, float(edges[0]), float(edges[-1]))
    else:
        ax.set_xlim(edges[0], edges[-1])
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=integer, steps=[1, 2, 5, 10]))
    ax.set_xlabel(control.text)
    if several:
        ax.legend(
            loc="upper right",
            ncols=len(drawn),
            columnspacing=0.8,
            handlelength=1.2,
            handletextpad=0.3,
            borderaxespad=0.1,
        )
