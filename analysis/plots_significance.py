"""Figures of searches: local p-values against mass, statistics of a bump hunt and its toys, and F-tests."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter
from scipy.stats import norm

from trila.analysis.fit_products import BumpHunt, FTest, Significance, column
from trila.analysis.plots_legend import make_room
from trila.analysis.plots_scan import mark_failed, scan_axis
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

__all__ = ["bump_figure", "f_test_figure", "significance_figure"]

#: Local p-values below this one are arrows at the lower end of the axis: 10 standard deviations.
_SMALLEST = float(norm.sf(10.0))
_LINES = 5
_MANY = 60


def significance_figure(significance: Significance, label: Label, *, log_x: bool | None = None) -> Figure:
    """Local p-values of a scan with lines at 1 to 5 standard deviations, and the global p-values as text.

    Args:
        significance: what is drawn; masses where it failed are crosses at the axis.
        label: what stands above.
        log_x: whether the mass axis is logarithmic; by default where it spans a factor of 8.
    """
    rows = sorted(significance.local, key=lambda row: row.mass)
    mass, p_local = column([row.mass for row in rows]), column([row.p_local for row in rows])
    expected = column([row.expected for row in rows])
    failed = np.isnan(p_local)
    drawn = np.maximum(p_local, _SMALLEST)
    with style_context(label.style):
        figure = new_figure()
        ax = figure.add_subplot()
        many = mass.size > _MANY
        ax.plot(
            mass, drawn, color="black", marker="" if many else "o", markersize=0.7 * points()["markersize"],
            linewidth=1.2 if many else 2.0, label="Observed", zorder=3,
        )  # fmt: skip
        beyond = p_local < _SMALLEST
        if beyond.any():
            ax.plot(mass[beyond], drawn[beyond], "v", color="red", label=r"Above 10 $\sigma$", zorder=4)
        if np.isfinite(expected).any():
            ax.plot(
                mass,
                np.maximum(expected, _SMALLEST),
                color=colors(1)[0],
                linestyle="--",
                label="Expected for a signal",
            )
        scan_axis(ax, mass, log_x)
        smallest = float(np.nanmin(np.concatenate([drawn, expected, [norm.sf(3.0)]])))
        ax.set_yscale("log")
        ax.set_ylim(max(0.1 * smallest, 0.1 * _SMALLEST), 10.0)
        _standard_deviations(ax)
        mark_failed(ax, mass, failed, "Failed")
        ax.set_xlabel("Resonance mass [GeV]")
        ax.set_ylabel(r"Local $p$-value")
        legend = ax.legend(
            loc="upper left", title=_overall(significance), title_fontsize=text_size(0.85), fontsize=text_size(0.85),
            alignment="left", borderaxespad=0.3, labelspacing=0.3, ncols=2, columnspacing=1.0,
        )  # fmt: skip
        finish(figure, label, [ax])
        # Also the line at p = 1, above which there is nothing.
        make_room(ax, legend, [(mass, drawn), (np.array(ax.get_xlim()), np.ones(2))])
        # A p-value above 1 has no number.
        decades = np.arange(np.ceil(np.log10(ax.get_ylim()[0])), 1)
        ax.yaxis.set_major_locator(FixedLocator(list(10.0 ** decades[:: 1 + decades.size // 12])))
        return figure


def bump_figure(hunt: BumpHunt, label: Label) -> Figure | None:
    """Distribution of the statistic in toys of the background, and the observed one.

    Returns:
        None if there are no toys.
    """
    toys = np.array(hunt.toys_statistics)
    if not toys.size:
        return None
    low, high = min(float(toys.min()), hunt.statistic), max(float(toys.max()), hunt.statistic)
    margin = 0.05 * (high - low) or 0.5
    bins = int(np.clip(np.sqrt(toys.size), 10, 60))
    counts, edges = np.histogram(toys, bins, (low - margin, high + margin))
    with style_context(label.style):
        figure = new_figure()
        ax = figure.add_subplot()
        ax.stairs(
            counts,
            edges,
            fill=True,
            color=colors(1)[0],
            alpha=0.4,
            label=f"{toys.size} toys of the background",
        )
        limit_log(ax, np.append(counts.astype(np.float64), 0.5), top=0.1)
        # Not into the legend.
        ax.plot([hunt.statistic] * 2, [ax.get_ylim()[0], counts.max()], color="black", label=_observed(hunt))
        ax.set_xlim(edges[0], edges[-1])
        ax.set_xlabel("BumpHunter statistic")
        ax.set_ylabel("Toys")
        legend = ax.legend(
            loc="upper right", title=_excess(hunt), title_fontsize=text_size(0.85), fontsize=text_size(0.85), alignment="left",
            borderaxespad=0.3, labelspacing=0.3,
        )  # fmt: skip
        finish(figure, label, [ax])
        center = 0.5 * (edges[1:] + edges[:-1])
        observed = (np.full(2, hunt.statistic), np.array([1.0, counts.max()]))
        make_room(ax, legend, [(center, counts.astype(np.float64)), observed])
        return figure


def f_test_figure(test: FTest, label: Label) -> Figure:
    """p-values of successive F-tests with the level below which the larger function is taken."""
    rows = test.tests
    place = np.arange(len(rows), dtype=np.float64)
    p_value = column([row.p_value for row in rows])
    drawn = np.maximum(p_value, _SMALLEST)
    with style_context(label.style):
        figure = new_figure(height=float(np.clip(0.35 + 0.11 * len(rows), 0.6, 1.6)))
        ax = figure.add_subplot()
        wanted = p_value < test.level
        for chosen, color, text in (
            (wanted, colors(3)[2], "Larger function needed"),
            (~wanted & ~np.isnan(p_value), colors(3)[0], "Not needed"),
        ):
            ax.plot(drawn[chosen], place[chosen], "o", color=color, markersize=0.6 * text_size(), label=text)
        top = -1.2 - 0.05 * len(rows)
        # Not into the legend.
        ax.plot(
            [test.level] * 2,
            [len(rows) - 0.5, -0.5],
            color="black",
            linestyle="--",
            label=f"$p$ = {test.level:g}",
        )
        ax.set_xscale("log")
        ax.set_xlim(0.3 * float(np.nanmin(np.append(drawn, 0.3 * test.level))), 2.0)
        ax.xaxis.set_major_locator(LogLocator(numticks=8))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(len(rows) - 0.5, top)
        for y, row in zip(place, rows, strict=True):
            f = "failed" if row.f is None else f"$F$ = {row.f:.3g}"
            ax.text(1.02, y, f, transform=ax.get_yaxis_transform(), va="center", fontsize=text_size(0.9))
        ax.set_yticks(place, [f"{row.simple} → {row.to}" for row in rows], fontsize=text_size(0.9))
        ax.tick_params(axis="y", which="both", length=0)
        ax.set_xlabel(r"$p$-value of the F-test")
        ax.legend(
            loc="upper left", title=f"Chosen: {test.chosen}", title_fontsize=text_size(0.85), fontsize=text_size(0.85), ncols=3,
            alignment="left", borderaxespad=0.2, columnspacing=0.8, handletextpad=0.4, handlelength=1.2,
        )  # fmt: skip
        return finish(figure, label, [ax])


def _standard_deviations(ax: Axes) -> None:
    """Lines at 1 to 5 standard deviations, those that lie on the axis, named at the right."""
    for number in range(1, _LINES + 1):
        level = float(norm.sf(number))
        if level > ax.get_ylim()[0]:
            ax.axhline(level, color="0.6", linestyle=":", linewidth=1.5, zorder=1, gid=f"{number} sigma")
            ax.text(
                1.01, level, rf"{number}$\sigma$", transform=ax.get_yaxis_transform(), va="center", color="0.4",
                fontsize=text_size(0.85),
            )  # fmt: skip


def _overall(significance: Significance) -> str:
    """Lines of text with the global p-values."""
    lines = []
    for test in significance.overall:
        value = "failed" if test.p_global is None else _with_error(test.p_global, test.p_global_error)
        if test.p_global:
            value += rf" ({norm.isf(test.p_global):.1f} $\sigma$)"
        lines.append(f"Global $p$ = {value}, {test.method}")
    return "\n".join(lines)


def _excess(hunt: BumpHunt) -> str:
    text = "No excess" if hunt.low is None else f"Largest excess: {hunt.low:g} to {hunt.high:g} GeV"
    if hunt.p_global is None:
        return text
    return f"{text}, global $p$ = {_with_error(hunt.p_global, hunt.p_global_error)}"


def _observed(hunt: BumpHunt) -> str:
    text = f"Observed, {hunt.statistic:.3g}"
    return text if hunt.p_local is None else f"{text}, local $p$ = {hunt.p_local:.2g}"


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.2g}" if error is None else f"{value:.2g} ± {error:.1g}"
