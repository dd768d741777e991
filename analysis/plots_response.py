"""Figures of the jet response that are not curves: correlation, distributions, and the distance of matched jets.

The histograms are those that `docs/results.md` declares (`response.*`); a figure is None where no bin holds enough
entries to be drawn. Medians and widths versus pT are in `plots_response_curves`.
"""

from __future__ import annotations

import math
from typing import Any

import hist
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from trila.analysis.plots_response_curves import (
    BARREL,
    LEAST_ENTRIES,
    pt_kind,
    pt_ratio,
    region_label,
    region_sums,
)
from trila.analysis.plots_style import (
    Label,
    colors,
    finish,
    headroom,
    limit_log,
    markers,
    new_figure,
    numbered_log_axis,
    points,
    style_context,
    text_size,
    transverse_momentum,
)
from trila.corrections.response import binned_quantiles, effective_entries, half_width

__all__ = ["delta_r_figure", "pt_correlation_figure", "response_distributions_figure"]


def pt_correlation_figure(
    histogram: hist.Hist[Any], label: Label, *, reference: str = "offline"
) -> Figure | None:
    """Matched jets in HLT pT versus reference pT, all eta, with the diagonal (`response.pt_correlation`)."""
    summed = histogram.project("pt_reference", "pt_hlt")
    values = np.asarray(summed.values())
    x, y = (np.asarray(axis.edges) for axis in summed.axes)
    if not (values > 0).any():
        return None
    filled = np.concatenate(
        [
            np.append(edges[:-1][any_], edges[1:][any_])
            for edges, any_ in ((x, (values > 0).any(axis=1)), (y, (values > 0).any(axis=0)))
        ]
    )
    low, high = filled[filled > 0].min(), filled.max()
    with style_context(label.style):
        figure = new_figure(width=1.12)
        ax = figure.add_subplot()
        positive = values[values > 0]
        mesh = ax.pcolormesh(
            x,
            y,
            np.ma.masked_less_equal(values.T, 0),
            norm=LogNorm(positive.min(), max(positive.max(), 2 * positive.min())),
            cmap="viridis",
            rasterized=True,
        )
        ax.plot([low, high], [low, high], color="red", linestyle="--", linewidth=0.1 * text_size())
        for axis in (ax.xaxis, ax.yaxis):
            numbered_log_axis(axis, low, high)
        ax.set_xlabel(f"{transverse_momentum(reference)} [GeV]")
        ax.set_ylabel(f"{transverse_momentum('hlt')} [GeV]")
        bar = figure.colorbar(mesh, ax=ax, pad=0.02, aspect=25)
        bar.set_label("Jets / bin")
        return finish(figure, label, [ax])


def response_distributions_figure(
    histogram: hist.Hist[Any], label: Label, *, reference: str = "offline", panels: int = 9
) -> Figure | None:
    """A page of response distributions in the barrel, one panel per bin of pT, with median and width.

    Args:
        histogram: Axes `eta`, one of pT, `response` (`response.tag_probe`).
        label: What stands above.
        reference: The reference jet: "offline" or "gen".
        panels: Most panels; they are spread evenly over the bins with enough entries.
    """
    sums = region_sums(histogram, BARREL)
    if sums is None:
        return None
    values, variances, span = sums
    pt_edges, edges = (np.asarray(axis.edges) for axis in histogram.axes[1:])
    medians, widths = binned_quantiles(values, edges, 0.5), half_width(values, edges)
    # Three times the entries of a point of a curve: here the shape must be seen.
    good = np.flatnonzero((effective_entries(values, variances) >= 3 * LEAST_ENTRIES) & np.isfinite(medians))
    if not good.size:
        return None
    bins = good[np.unique(np.linspace(0, good.size - 1, min(panels, good.size)).round().astype(int))]
    reach = max(4.5 * float(np.median(widths[bins])), 3.2 * float(widths[bins].max()))
    low = max(edges[0], math.floor(10 * (medians[bins].min() - reach)) / 10)
    high = min(edges[-1], math.ceil(10 * (medians[bins].max() + reach)) / 10)
    columns = min(3, bins.size)
    rows = math.ceil(bins.size / columns)
    with style_context(label.style):
        figure = new_figure(0.1 + 0.5 * columns, 0.1 + 0.46 * rows)
        grid = np.atleast_2d(figure.subplots(rows, columns, sharex=True, squeeze=False))
        for ax, index in zip(grid.flat, bins, strict=False):
            _distribution_panel(
                ax, values[index], variances[index], edges, (low, high), medians[index], widths[index]
            )
            pt_range = rf"{pt_edges[index]:g}–{pt_edges[index + 1]:g} GeV"
            ax.text(
                0.05, 0.94, pt_range, transform=ax.transAxes, va="top", fontsize=text_size(0.9), weight="bold"
            )
        for ax in grid.flat[bins.size :]:
            ax.remove()
        for column in range(columns):
            last = max(row for row in range(rows) if row * columns + column < bins.size)
            grid[last, column].tick_params(labelbottom=True)
        pt_symbol = transverse_momentum(pt_kind(histogram.axes[1].name, reference))
        figure.supxlabel(
            rf"Response {pt_ratio('hlt', reference)}, {region_label(span)}, in bins of {pt_symbol}",
            fontsize=matplotlib.rcParams["axes.labelsize"],
        )
        figure.supylabel("Probability density", fontsize=matplotlib.rcParams["axes.labelsize"])
        return finish(figure, label, [grid[0, 0], grid[0, columns - 1]])


def delta_r_figure(histogram: hist.Hist[Any], label: Label, *, reference: str = "offline") -> Figure | None:
    """Distance of matched jets in up to four ranges of reference pT, normalised (`response.delta_r`)."""
    values, variances = np.asarray(histogram.values()), np.asarray(histogram.variances())
    pt_edges, edges = (np.asarray(axis.edges) for axis in histogram.axes)
    good = np.flatnonzero(effective_entries(values, variances) >= 1)
    if not good.size or effective_entries(values.sum(0), variances.sum(0)) < LEAST_ENTRIES:
        return None
    groups = [group for group in np.array_split(good, min(4, good.size)) if group.size]
    with style_context(label.style):
        figure = new_figure()
        ax = figure.add_subplot()
        drawn = []
        for group, color, marker in zip(groups, colors(len(groups)), markers(), strict=False):
            content, variance = values[group].sum(axis=0), variances[group].sum(axis=0)
            scale = 1.0 / (content.sum() * np.diff(edges))
            keep = content > 0
            if effective_entries(content, variance) < LEAST_ENTRIES:
                continue
            ax.errorbar(
                0.5 * (edges[1:] + edges[:-1])[keep],
                (content * scale)[keep],
                (np.sqrt(variance) * scale)[keep],
                np.diff(edges)[keep] / 2,
                color=color,
                marker=marker,
                label=f"{pt_edges[group[0]]:g}–{pt_edges[group[-1] + 1]:g} GeV",
                **points(),
            )
            drawn.append((content * scale)[keep])
        if not drawn:
            return None
        limit_log(ax, np.concatenate(drawn), top=0.08)
        filled = np.flatnonzero(values[good].sum(axis=0) > 0)
        ax.set_xlim(edges[0], edges[filled[-1] + 1])
        ax.set_xlabel(r"$\Delta R$ (HLT, " + {"gen": "particle"}.get(reference, reference) + ")")
        ax.set_ylabel("Probability density")
        ax.legend(loc="upper right", title=transverse_momentum(reference), title_fontsize=text_size())
        return finish(figure, label, [ax])


def _distribution_panel(
    ax: Axes,
    values: NDArray[np.float64],
    variances: NDArray[np.float64],
    edges: NDArray[np.float64],
    limits: tuple[float, float],
    median: float,
    width: float,
) -> None:
    """One normalised distribution, with bins of about a quarter of its width."""
    entries = float(effective_entries(values, variances))
    # Fewer entries, coarser bins (Freedman-Diaconis: 2 IQR / N^(1/3), with IQR = 1.35 sigma).
    wanted = np.clip(2.7 * width / entries ** (1 / 3), 0.15 * width, 0.5 * width)
    factor = max(1, round(wanted / float(np.diff(edges).mean())))
    while (edges.size - 1) % factor:
        factor -= 1
    content, variance = (part.reshape(-1, factor).sum(axis=1) for part in (values, variances))
    coarse = edges[::factor]
    scale = 1.0 / (content.sum() * np.diff(coarse))
    ax.stairs(content * scale, coarse, fill=True, color=colors(1)[0], alpha=0.35)
    keep = content > 0
    style = points()
    style["markersize"] *= 0.6
    ax.errorbar(
        (0.5 * (coarse[1:] + coarse[:-1]))[keep],
        (content * scale)[keep],
        (np.sqrt(variance) * scale)[keep],
        color="black",
        marker="o",
        **style,
    )
    ax.axvline(median, color=colors(3)[2], linewidth=1.5)
    ax.set_xlim(*limits)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    headroom(ax, 0.0, float((content * scale).max()), top=0.42)
    # Without the zero, which would meet the first number of the x axis.
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 4, 5, 10], prune="lower"))
    ax.text(
        0.95,
        0.80,
        f"median {median:.3f}\nwidth {width:.3f}",
        transform=ax.transAxes,
        va="top",
        ha="right",
        fontsize=text_size(0.8),
    )
