"""Figures of fitted trigger turn-ons: efficiencies, curve, the points of the plateau, and pulls below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from trila.analysis.plots_efficiency import EfficiencyPoints, TurnOnKind, efficiency_points
from trila.analysis.plots_style import (
    Label,
    colors,
    finish,
    headroom,
    new_figure,
    points,
    style_context,
    text_size,
    transverse_momentum,
)
from trila.corrections.turnon import TurnOn, expected
from trila.corrections.turnon_curve import efficiency

__all__ = ["fitted_turn_on_figure"]

_LINES = ("--", "-.", ":")


def fitted_turn_on_figure(
    histogram: hist.Hist[Any],
    fit: TurnOn,
    levels: Mapping[str, Mapping[str, float]],
    label: Label,
    *,
    trigger: str,
    kind: TurnOnKind = "leading",
    reference: str = "offline",
) -> Figure:
    """Efficiencies with Clopper-Pearson intervals, the fitted curve, and pulls.

    Args:
        histogram: Axes pT or mass, then `passed`.
        fit: What is drawn.
        levels: Value and error of the points to mark, by name ("99%").
        label: What stands above.
        trigger: Its name, for the legend.
        kind: Which of the four histograms of a trigger.
        reference: The jets on the axis: "offline" or "hlt".
    """
    values = np.asarray(histogram.values(), np.float64)
    variances = np.asarray(histogram.variances(), np.float64)
    edges = np.asarray(histogram.axes[0].edges)
    low, high = _window(fit, levels, edges)
    shown = slice(np.searchsorted(edges, low), np.searchsorted(edges, high) + 1)
    bins = slice(shown.start, shown.stop - 1)
    curve = efficiency_points(values[bins], variances[bins], edges[shown])
    with style_context(label.style):
        figure = new_figure(height=1.15)
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1.0])
        center = curve.edges.mean(axis=0)
        reach = np.abs(curve.edges - center)
        data = "Data" if label.is_data else "Simulation"
        ax.errorbar(
            center, curve.efficiency, curve.error, reach, color="black", marker="o", label=data, zorder=3, **points()
        )  # fmt: skip
        x = np.linspace(max(low, fit.low), high, 600)
        ax.plot(x, efficiency(x, fit.values), color=colors(1)[0], label=_curve_text(fit), zorder=2)
        chosen = colors(4)[1:]
        for i, (name, value) in enumerate(levels.items()):
            text = f"{name}: {_rounded(value['value'], value['error'])} GeV"
            line = {"color": chosen[i % 3], "linestyle": _LINES[i % 3], "zorder": 1}
            # Not into the legend.
            ax.plot([value["value"]] * 2, [0.0, 1.05], label=text, **line)
            below.axvline(value["value"], **line)
        ax.axhline(1.0, color="grey", linewidth=1.0, zorder=0)
        _pulls(below, curve, values, edges, fit)
        ax.set_xlim(low, high)
        headroom(ax, 0.0, 1.05, top=_legend_part(figure, len(levels)))
        ax.set_yticks(np.linspace(0.0, 1.0, 6))
        ax.set_ylabel("Trigger efficiency")
        below.set_xlabel(_x_label(kind, reference))
        handles, texts = ax.get_legend_handles_labels()
        ax.legend(
            handles[-1:] + handles[:-1], texts[-1:] + texts[:-1],
            loc="upper left", ncols=1, title=trigger, title_fontsize=text_size(0.9), fontsize=text_size(0.8),
            alignment="left", borderaxespad=0.3, labelspacing=0.3, handletextpad=0.5,
        )  # fmt: skip
        ax.text(
            0.98, 0.97, _parameter_text(fit), transform=ax.transAxes, ha="right", va="top", fontsize=text_size(0.8),
            linespacing=1.4,
        )  # fmt: skip
        figure.align_ylabels([ax, below])
        return finish(figure, label, [ax])


def _window(
    fit: TurnOn, levels: Mapping[str, Mapping[str, float]], edges: NDArray[np.float64]
) -> tuple[float, float]:
    """The rise and as much again of the plateau, on edges of the binning."""
    start = max(float(fit.values[0] - 4.0 * fit.values[1]), float(edges[edges > 0][0]))
    last = max([value["value"] for value in levels.values()], default=fit.high)
    stop = min(last + 0.5 * (last - start), fit.high)
    low = float(edges[max(int(np.searchsorted(edges, start, "right")) - 1, 0)])
    return low, float(edges[min(int(np.searchsorted(edges, stop)), edges.size - 1)])


def _pulls(
    ax: Axes, curve: EfficiencyPoints, values: NDArray[np.float64], edges: NDArray[np.float64], fit: TurnOn
) -> None:
    """Efficiency minus fit over the error on the side of the fit; bins outside the fit's range in grey."""
    sums = values.sum(axis=1)
    predicted = np.append(0.0, np.cumsum(expected(values, edges, fit) * sums))
    entries = np.append(0.0, np.cumsum(sums))
    first, last = (np.searchsorted(edges, side) for side in curve.edges)
    model = (predicted[last] - predicted[first]) / (entries[last] - entries[first])
    difference = curve.efficiency - model
    error = np.where(difference > 0, curve.error[0], curve.error[1])
    pull = np.divide(difference, error, out=np.zeros_like(error), where=error > 0)
    center = curve.edges.mean(axis=0)
    inside = curve.edges[0] >= fit.low
    for chosen, color in ((inside, "black"), (~inside, "0.6")):
        ax.errorbar(
            center[chosen], pull[chosen], 1.0, np.abs(curve.edges - center)[:, chosen], color=color, marker="o",
            **points(),
        )  # fmt: skip
    ax.axhline(0.0, color=colors(1)[0])
    half = float(np.clip(np.abs(pull[inside]).max(initial=0.0) + 1.5, 3.5, 6.0))
    ax.set_ylim(-half, half)
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
    ax.set_ylabel(r"(Data $-$ fit) / $\sigma$", fontsize=text_size())


def _legend_part(figure: Figure, levels: int) -> float:
    """Fraction of the upper axes that legend and parameters take."""
    height = 0.5 * figure.get_size_inches()[1]
    return min(0.55, float((levels + 3) * 1.3 * text_size(0.85) / 72.0 / height))


def _x_label(kind: TurnOnKind, reference: str) -> str:
    if kind == "mass":
        return rf"$m_\mathrm{{jj}}^\mathrm{{{'HLT' if reference == 'hlt' else reference}}}$ [GeV]"
    symbol = {"leading": "Leading jet ", "average": "Average ", "tag_probe": "Probe "}[kind]
    return f"{symbol}{transverse_momentum(reference)} [GeV]"


def _curve_text(fit: TurnOn) -> str:
    count = fit.values.size // 3
    return "Fit, one error function" if count == 1 else f"Fit, {count} error functions"


def _parameter_text(fit: TurnOn) -> str:
    """Goodness of fit and the first component."""
    errors = np.sqrt(np.diag(fit.covariance))
    mu, sigma, top = (_rounded(fit.values[i], errors[i]) for i in range(3))
    lines = [
        rf"$\chi^2$ / ndf = {fit.deviance:.1f} / {fit.ndof}",
        *([f"$p$ = {fit.p_value:.2g}"] if fit.ndof > 0 else []),
        rf"$\varepsilon_\mathrm{{max}}$ = {top if errors[2] > 0 else '1 (limit)'}",
    ]
    if fit.values.size == 3:
        lines += [rf"$\mu$ = {mu} GeV", rf"$\sigma$ = {sigma} GeV"]
    return "\n".join(lines)


def _rounded(value: float, error: float) -> str:
    """Value and error to two digits of the error.

    Example:
        >>> _rounded(234.8952, 0.0312)
        '234.895 ± 0.031'
    """
    if not error > 0:
        return f"{value:.4g}"
    digits = min(max(0, 1 - int(np.floor(np.log10(error)))), 5)
    return f"{value:.{digits}f} ± {error:.{digits}f}"
