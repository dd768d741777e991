"""Figures of a closure test: against pT in regions of η; against pile-up, φ and run; and the pulls.

A bin that fails is marked with a red cross, one that is not tested is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import stats

from trila.analysis.plots_response_curves import region_label
from trila.analysis.plots_style import (
    Label,
    Style,
    colors,
    finish,
    headroom,
    markers,
    new_figure,
    numbered_log_axis,
    points,
    save_figure,
    style_context,
    text_size,
    transverse_momentum,
)
from trila.analysis.provenance import Provenance
from trila.corrections.closure import Row

__all__ = ["closure_figure", "dependence_figure", "plot_closure", "pull_figure"]

_FAILED = "red"
_SIZE = 0.45  # of markers against text
_PT = {"tag": transverse_momentum("tag"), "particle": transverse_momentum("gen")}
_OTHER = {"phi": r"$\phi$ of the probe", "run": "Runs"}
_PILEUP = {"rho": r"Pile-up density $\rho$ [GeV]", "mu": r"Mean number of interactions $\mu$"}


def plot_closure(
    rows: Sequence[Row],
    outdir: Path,
    *,
    style: Style = "cms",
    label: str = "Private work",
    is_data: bool,
    com: float | None = None,
    lumi: float | None = None,
    pileup: Literal["rho", "mu"] = "rho",
    made: Provenance | None = None,
) -> list[Path]:
    """Every figure that the rows allow, as PNG and PDF.

    Args:
        rows: of `closure_table`.
        outdir: folder that exists.
        style, label, is_data, com, lumi: look and label, as `trila.analysis.plots.plot_histograms` has them.
        pileup: measure of pile-up that the rows "rho" are of.
        made: record that the files carry.

    Returns:
        The files written.
    """
    banner = Label(style, label, is_data, com, lumi)
    figures = {
        **{f"closure_{variable}": closure_figure(rows, variable, banner) for variable in _PT},
        **{
            f"closure_{variable}": dependence_figure(rows, variable, text, banner)
            for variable, text in {"rho": _PILEUP[pileup], **_OTHER}.items()
        },
        "closure_pulls": pull_figure(rows, banner),
    }
    written: list[Path] = []
    for name, figure in figures.items():
        if figure is not None:
            written += save_figure(figure, outdir / name, style, made)
    return written


def closure_figure(rows: Sequence[Row], variable: str, label: Label) -> Figure | None:
    """Closure versus pT, one panel for each region of signed η, with the limit and both errors.

    Args:
        rows: of `closure_table`.
        variable: "tag" or "particle".
        label: what stands above.

    Returns:
        None if there is no bin to draw.
    """
    chosen = [row for row in rows if row.variable == variable and _drawn(row)]
    regions = sorted({row.eta for row in chosen})
    if not regions:
        return None
    columns = min(len(regions), 4)
    lines = -(-len(regions) // columns)
    with style_context(label.style):
        figure = new_figure(0.62 * columns + 0.2, 0.62 * lines + 0.15)
        axes = figure.subplots(lines, columns, sharex=True, squeeze=False)
        low, high = min(row.pt[0] for row in chosen), max(row.pt[1] for row in chosen)
        for ax, region in zip(axes.flat, regions, strict=False):
            inside = [row for row in chosen if row.eta == region]
            _draw_panel(ax, inside)
            ax.set_title(_signed(region), fontsize=text_size(), loc="right", y=0.87, x=0.96)
            numbered_log_axis(ax.xaxis, low, high)
        for ax in axes.flat[len(regions) :]:
            ax.remove()
        for ax in axes[:, 0]:
            ax.set_ylabel("Closure [%]")
        for ax in axes[-1]:
            ax.set_xlabel(f"{_PT[variable]} [GeV]")
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=len(names),
            fontsize=text_size(),
            borderaxespad=0.2,
        )
        return finish(figure, label, [axes[0, 0], axes[0, -1]])


def _draw_panel(ax: Axes, rows: Sequence[Row]) -> None:
    """One region of η: the limit as a grey band, the error of the derivation as boxes, points with statistical errors."""
    edges = np.array([row.pt for row in rows])
    center = np.sqrt(edges[:, 0] * edges[:, 1])
    closure, statistical, derivation = (
        100.0 * np.array([[row.closure, row.error_statistical, row.error_derivation] for row in rows]).T
    )
    limited = [row for row in rows if row.limit is not None]
    # bars and not a band: bins may be missing between others
    ax.bar(
        [row.pt[0] for row in limited], [200.0 * (row.limit or 0.0) for row in limited],
        [row.pt[1] - row.pt[0] for row in limited], [-100.0 * (row.limit or 0.0) for row in limited],
        align="edge", color="0.85", linewidth=0, zorder=0, label="Limit",
    )  # fmt: skip
    ax.bar(
        edges[:, 0], 2 * derivation, np.diff(edges)[:, 0], closure - derivation, align="edge", color=colors(1)[0],
        alpha=0.3, linewidth=0, zorder=1, label="Error of the derivation",
    )  # fmt: skip
    ax.axhline(0.0, color="grey", linestyle="--", linewidth=1.0, zorder=1)
    tested = np.array([row.tested for row in rows])
    failed = np.array([row.passed is False for row in rows])
    for which, marker, color, face, name in (
        (tested & ~failed, "o", "black", "black", "Passed"),
        (failed, "x", _FAILED, _FAILED, "Failed"),
        (~tested, "o", "0.45", "white", "Not tested"),
    ):
        # drawn without points, too: the legend of the page is the first panel's
        ax.errorbar(
            center[which], closure[which], statistical[which], np.abs(edges - center[:, None]).T[:, which],
            color=color, marker=marker, markerfacecolor=face, markeredgecolor=color,
            markeredgewidth=_edge(failed=marker == "x"), label=name, **{**points(), "markersize": _SIZE * text_size()},
        )  # fmt: skip
    # what is not tested may have errors that nobody wants to see in full
    reach = np.concatenate(
        [[100.0 * (row.limit or 0.0) for row in rows], np.abs(closure[tested]) + statistical[tested]]
    )
    reach = reach if tested.any() or limited else np.abs(closure) + statistical
    headroom(ax, -1.15 * float(reach.max()), 1.15 * float(reach.max()), top=0.12)
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def dependence_figure(rows: Sequence[Row], variable: str, x_label: str, label: Label) -> Figure | None:
    """Closure over its limit versus pile-up, φ or run, one panel for each region of |η|, ranges of pT in colours.

    Args:
        rows: of `closure_table`.
        variable: "rho", "phi" or "run".
        x_label: with unit.
        label: what stands above.

    Returns:
        None if there is no bin that has a limit and the entries to be drawn.
    """
    chosen = [row for row in rows if row.variable == variable and row.limit is not None and _drawn(row)]
    regions, ranges = sorted({row.eta for row in chosen}), sorted({row.pt for row in chosen})
    if not regions:
        return None
    others = sorted({row.other for row in chosen if row.other is not None})
    series = list(zip(ranges, colors(len(ranges)), markers(), strict=False))
    with style_context(label.style):
        figure = new_figure(0.62 * len(regions) + 0.2, 0.8)
        axes = figure.subplots(1, len(regions), sharey=True, squeeze=False)[0]
        for ax, region in zip(axes, regions, strict=True):
            ax.axhspan(-1.0, 1.0, color="0.85", linewidth=0, zorder=0)
            ax.axhline(0.0, color="grey", linestyle="--", linewidth=1.0, zorder=1)
            for number, (pt, color, marker) in enumerate(series):
                inside = [row for row in chosen if row.eta == region and row.pt == pt]
                _draw_series(ax, inside, others, 0.75 * ((number + 0.5) / len(series) - 0.5), color, marker)
            _name_bins(ax, variable, others)
            ax.set_xlabel(x_label)
            ax.set_title(region_label(region), fontsize=text_size(), loc="right", y=0.89, x=0.96)
        ends = [((abs(row.closure) + row.error) / (row.limit or 1.0), row.tested) for row in chosen]
        # what is not tested may have errors that nobody wants to see in full
        reach = max(1.0, *(end if tested else min(end, 2.0) for end, tested in ends))
        headroom(axes[0], -1.1 * reach, 1.1 * reach, top=0.14)
        axes[0].set_ylabel("Closure / limit")
        handles = [
            Line2D([], [], linestyle="none", markersize=_SIZE * text_size(), **look)
            for look in (
                *({"color": color, "marker": marker} for _, color, marker in series),
                {"color": "0.45", "marker": "o", "markerfacecolor": "white", "markeredgewidth": _edge()},
                {"color": _FAILED, "marker": "x", "markeredgewidth": _edge(failed=True)},
            )
        ]
        names = [f"{transverse_momentum('tag')}: {pt[0]:g} to {pt[1]:g} GeV" for pt in ranges]
        figure.legend(
            handles, [*names, "Not tested", "Failed"], loc="outside lower center", ncols=len(handles),
            fontsize=text_size(), borderaxespad=0.2, columnspacing=1.2, handletextpad=0.2,
        )  # fmt: skip
        return finish(figure, label, [axes[0], axes[-1]])


def _draw_series(
    ax: Axes,
    rows: Sequence[Row],
    others: Sequence[tuple[float, float]],
    shift: float,
    color: Any,
    marker: str,
) -> None:
    """One range of pT, beside the others of the same bin."""
    numbers = [
        (
            others.index(row.other),
            row.closure / row.limit,
            row.error / row.limit,
            row.tested,
            row.passed is False,
        )
        for row in rows
        if row.other is not None and row.limit is not None
    ]
    at, closure, error, tested, failed = np.array(numbers, dtype=np.float64).reshape(-1, 5).T
    for which, shape, face, edge in (
        ((tested > 0) & (failed == 0), marker, color, color),
        (failed > 0, "x", _FAILED, _FAILED),
        (tested == 0, marker, "white", color),
    ):
        if which.any():
            ax.errorbar(
                at[which] + shift, closure[which], error[which], color=color, marker=shape, markerfacecolor=face,
                markeredgecolor=edge, markeredgewidth=_edge(failed=shape == "x"),
                **{**points(), "markersize": _SIZE * text_size()},
            )  # fmt: skip


def _name_bins(ax: Axes, variable: str, others: Sequence[tuple[float, float]]) -> None:
    """Bins side by side, whatever their widths: runs have none."""
    ax.set_xlim(-0.5, len(others) - 0.5)
    shape = ".0f" if variable == "run" else ".1f"
    texts = [f"{low:{shape}}" + (f" to {high:{shape}}" if high > low else "") for low, high in others]
    ax.set_xticks(range(len(others)), texts, rotation=90 if len(others) > 3 else 0, fontsize=text_size(0.75))
    ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    ax.tick_params(axis="x", which="major", top=False)


def pull_figure(rows: Sequence[Row], label: Label) -> Figure | None:
    """Closure over its error of the tested bins, and the standard normal distribution; None without tested bins."""
    kinds = list(dict.fromkeys(row.variable for row in rows))
    pulls = {kind: [row.pull for row in rows if row.tested and row.variable == kind] for kind in kinds}
    pulls = {kind: values for kind, values in pulls.items() if values}
    if not pulls:
        return None
    every = np.concatenate([*pulls.values()])
    reach = max(5.0, float(np.ceil(np.abs(every).max())))
    width = 0.5 if reach <= 10 else reach / 20
    edges = np.linspace(-reach, reach, round(2 * reach / width) + 1)
    with style_context(label.style):
        figure = new_figure()
        ax = figure.add_subplot()
        counts, _, _ = ax.hist(
            list(pulls.values()), edges.tolist(), stacked=True, label=[f"{kind} ({len(v)})" for kind, v in pulls.items()],
            color=colors(len(pulls)), linewidth=0,
        )  # fmt: skip
        x = np.linspace(-reach, reach, 401)
        expected = every.size * width * stats.norm.pdf(x)
        ax.plot(x, expected, color="black", label="Standard normal")
        ax.set_xlim(-reach, reach)
        headroom(ax, 0.0, float(max(np.max(counts), expected.max())), top=0.25)
        ax.set_xlabel("Closure / error")
        ax.set_ylabel("Tested bins")
        ax.legend(
            loc="upper left",
            ncols=2,
            columnspacing=1.0,
            title=f"Mean {every.mean():.2f}, width {every.std():.2f}",
        )
        return finish(figure, label, [ax])


def _edge(failed: bool = False) -> float:
    """Width of the edge of a marker: a cross is all edge."""
    return (0.14 if failed else 0.06) * text_size()


def _drawn(row: Row) -> bool:
    """Tested, or with errors that are not much too large to look at."""
    return bool(np.isfinite(row.closure + row.error)) and row.entries >= 30


def _signed(region: tuple[float, float]) -> str:
    return rf"${region[0]:.2g} < \eta < {region[1]:.2g}$"
