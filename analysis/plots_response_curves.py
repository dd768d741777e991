"""Figures of the jet response versus pT: median and width per region of |eta|, and compared in the barrel.

`region_sums` and `response_curve` are the numbers behind the figures. The histograms are those that
`docs/results.md` declares (`response.*`); a figure is None where no bin holds enough entries to be drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    finish,
    headroom,
    markers,
    new_figure,
    numbered_log_axis,
    points,
    style_context,
    text_size,
    transverse_momentum,
)
from trila.corrections.response import (
    binned_quantiles,
    effective_entries,
    half_width,
    half_width_error,
    median_error,
)

__all__ = [
    "BARREL",
    "ETA_REGIONS",
    "LEAST_ENTRIES",
    "ResponseCurve",
    "pt_kind",
    "pt_ratio",
    "region_label",
    "region_sums",
    "response_comparison_figure",
    "response_curve",
    "response_regions_figure",
]

ETA_REGIONS = ((0.0, 1.3), (1.3, 2.5), (2.5, 3.0), (3.0, 5.2))
"""Regions in |eta|; an eta bin belongs to the region that holds its centre."""

BARREL = ETA_REGIONS[0]

LEAST_ENTRIES = 30
"""Effective entries below which a response distribution is not drawn."""


class ResponseCurve(NamedTuple):
    """Median and half width of the response in bins of pT, those with enough entries only."""

    pt: NDArray[np.float64]
    """Geometric bin centres in GeV."""
    edges: NDArray[np.float64]
    """Lower and upper bin edges in GeV, shape (2, n)."""
    median: NDArray[np.float64]
    median_error: NDArray[np.float64]
    width: NDArray[np.float64]
    """Half of the central 68% interval."""
    width_error: NDArray[np.float64]


def region_sums(
    histogram: hist.Hist[Any], region: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]] | None:
    """Values and variances summed over the eta bins of a region in |eta|.

    Args:
        histogram: With an axis `eta`, of either sign or absolute.
        region: Lower and upper |eta|.

    Returns:
        Values and variances over the remaining axes, in their order, and the |eta| that the bins really span;
        None if no bin has its centre in the region.
    """
    position = list(histogram.axes.name).index("eta")
    edges = np.abs(np.asarray(histogram.axes[position].edges))
    centers = np.abs(np.asarray(histogram.axes[position].centers))
    chosen = (centers >= region[0]) & (centers < region[1])
    if not chosen.any():
        return None
    # A bin across zero spans |eta| from zero on.
    crosses = (
        np.asarray(histogram.axes[position].edges)[:-1] * np.asarray(histogram.axes[position].edges)[1:] < 0
    )
    inner = np.where(crosses, 0.0, np.minimum(edges[:-1], edges[1:]))[chosen].min()
    outer = np.maximum(edges[:-1], edges[1:])[chosen].max()
    values, variances = (
        np.asarray(part).compress(chosen, axis=position).sum(axis=position)
        for part in (histogram.values(), histogram.variances())
    )
    return values, variances, (float(inner), float(outer))


def region_label(span: tuple[float, float]) -> str:
    """A region in |eta| as mathematical text."""
    low, high = (f"{edge:.2g}" for edge in span)
    return rf"$|\eta| < {high}$" if span[0] < 0.05 else rf"${low} < |\eta| < {high}$"


def response_curve(histogram: hist.Hist[Any], region: tuple[float, float]) -> ResponseCurve | None:
    """Median and half width of the response versus pT, in a region of |eta|.

    Args:
        histogram: Axes `eta`, one of pT, `response`, in this order.
        region: Lower and upper |eta|.

    Returns:
        The bins with at least `LEAST_ENTRIES` effective entries; None if there is none.
    """
    sums = region_sums(histogram, region)
    if sums is None:
        return None
    values, variances, _ = sums
    pt_edges, response_edges = (np.asarray(axis.edges) for axis in histogram.axes[1:])
    median = binned_quantiles(values, response_edges, 0.5)
    keep = (effective_entries(values, variances) >= LEAST_ENTRIES) & np.isfinite(median) & (pt_edges[:-1] > 0)
    if not keep.any():
        return None
    values, variances = values[keep], variances[keep]
    low, high = pt_edges[:-1][keep], pt_edges[1:][keep]
    return ResponseCurve(
        pt=np.sqrt(low * high),
        edges=np.stack([low, high]),
        median=median[keep],
        median_error=median_error(values, variances, response_edges),
        width=half_width(values, response_edges),
        width_error=half_width_error(values, variances, response_edges),
    )


def pt_kind(axis_name: str, reference: str) -> str:
    """The kind of jet in an axis name: `pt_tag` is the tag, `pt_reference` the reference's kind."""
    kind = axis_name.removeprefix("pt_")
    return reference if kind == "reference" else kind


def pt_ratio(numerator: str, denominator: str) -> str:
    """A ratio of the pT of two kinds of jet, as mathematical text."""
    return f"{transverse_momentum(numerator)} / {transverse_momentum(denominator)}"


def response_regions_figure(
    histogram: hist.Hist[Any],
    label: Label,
    *,
    reference: str = "offline",
    numerator: str = "hlt",
    denominator: str | None = None,
) -> Figure | None:
    """Median response versus pT per region of |eta|, and below it the resolution.

    Args:
        histogram: Axes `eta`, one of pT, `response`.
        label: What stands above.
        reference: The reference jet: "offline" or "gen".
        numerator: The jet whose pT is divided: "hlt" or "offline".
        denominator: The jet whose pT divides; `reference` if not given.
    """
    curves = []
    for region in ETA_REGIONS:
        curve, sums = response_curve(histogram, region), region_sums(histogram, region)
        if curve is not None and sums is not None:
            curves.append((region_label(sums[2]), curve))
    pt_symbol = transverse_momentum(pt_kind(histogram.axes[1].name, reference))
    return _curves_figure(
        curves, label, f"{pt_symbol} [GeV]", f"Median of {pt_ratio(numerator, denominator or reference)}"
    )


def response_comparison_figure(
    histograms: Mapping[str, hist.Hist[Any]], label: Label, *, x_label: str, y_label: str
) -> Figure | None:
    """Median response and resolution in the barrel of several histograms, e.g. of different pT axes.

    Args:
        histograms: By legend text; axes `eta`, one of pT, `response`.
        label: What stands above.
        x_label: With unit.
        y_label: Of the upper panel.
    """
    curves = []
    title = ""
    for name, histogram in histograms.items():
        curve, sums = response_curve(histogram, BARREL), region_sums(histogram, BARREL)
        if curve is not None and sums is not None:
            curves.append((name, curve))
            title = region_label(sums[2])
    return _curves_figure(curves, label, x_label, y_label, title=title, band=False)


def _curves_figure(
    curves: Sequence[tuple[str, ResponseCurve]],
    label: Label,
    x_label: str,
    y_label: str,
    *,
    title: str = "",
    band: bool = True,
) -> Figure | None:
    """Medians above, half widths below, on one logarithmic pT axis."""
    if not curves:
        return None
    with style_context(label.style):
        figure = new_figure(height=1.15)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1.3, 1.0])
        for (name, curve), color, marker in zip(curves, colors(len(curves)), markers(), strict=False):
            for ax, value, error in (
                (upper, curve.median, curve.median_error),
                (lower, curve.width, curve.width_error),
            ):
                if band:
                    _band(ax, curve, value, error, color)
                ax.errorbar(
                    curve.pt,
                    value,
                    error,
                    None if band else np.abs(curve.edges - curve.pt),
                    color=color,
                    marker=marker,
                    label=name,
                    **points(),
                )
        low = min(curve.edges[0].min() for _, curve in curves)
        high = max(curve.edges[1].max() for _, curve in curves)
        numbered_log_axis(upper.xaxis, low, high)
        medians = [curve.median + sign * curve.median_error for _, curve in curves for sign in (-1, 1)]
        widths = [curve.width + sign * curve.width_error for _, curve in curves for sign in (-1, 1)]
        _limit_linear(upper, medians, include=1.0, top=0.3)
        _limit_linear(lower, widths, include=0.0, top=0.08)
        upper.axhline(1.0, color="grey", linestyle="--", linewidth=1.0, zorder=0)
        upper.set_ylabel(y_label)
        lower.set_ylabel("Half width (68%)")
        lower.set_xlabel(x_label)
        upper.legend(
            loc="upper right",
            ncols=2 if len(curves) > 1 else 1,
            title=title or None,
            title_fontsize=text_size(),
            columnspacing=1.0,
            handletextpad=0.3,
            borderaxespad=0.2,
        )
        figure.align_ylabels([upper, lower])
        return finish(figure, label, [upper])


def _band(ax: Axes, curve: ResponseCurve, value: NDArray[Any], error: NDArray[Any], color: Any) -> None:
    """Statistical band, interrupted where bins are missing."""
    for run in np.split(
        np.arange(curve.pt.size), np.flatnonzero(curve.edges[0][1:] > curve.edges[1][:-1] * (1 + 1e-9)) + 1
    ):
        # Out to the edges of the first and last bin, so that a single bin has a band, too.
        x = np.concatenate([[curve.edges[0][run[0]]], curve.pt[run], [curve.edges[1][run[-1]]]])
        ends = np.concatenate([[run[0]], run, [run[-1]]])
        ax.fill_between(
            x, (value - error)[ends], (value + error)[ends], color=color, alpha=0.3, linewidth=0, zorder=1
        )


def _limit_linear(ax: Axes, series: Sequence[NDArray[np.float64]], *, include: float, top: float) -> None:
    """y limits around all values and `include`; zero is a limit, not a value to keep a margin from."""
    values = np.concatenate([*series, [include]])
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 0.05
    headroom(ax, low - margin if include else 0.0, high + margin, top=top)
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
