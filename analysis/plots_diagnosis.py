"""Figures of a fit's nuisance parameters: their pulls beside their impacts on the result, and their correlations."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from trila.analysis.fit_products import Diagnosis, Impact, Pull, column
from trila.analysis.plots_style import (
    Label,
    colors,
    finish,
    new_figure,
    points,
    style_context,
    text_size,
)

__all__ = ["correlation_figure", "ranking_figure"]

#: Parameters that a page has room for: those with the largest impacts, or correlations.
_MOST = 30
#: Of more parameters than this the coefficients are colours only.
_NUMBERED = 15


def ranking_figure(diagnosis: Diagnosis, label: Label) -> Figure | None:
    """Pulls of the nuisance parameters, and the shifts of the result that each causes, the largest first.

    Pulls are (value - measured)/width of the constraint, their bars error/width. Full bars are impacts after the fit, open
    ones before. What is missing is named "n/a"; a parameter without constraint has its value in the place of the pull.

    Returns:
        None without parameters.
    """
    ranked = {impact.name: impact for impact in sorted(diagnosis.impacts, key=_largest, reverse=True)}
    pulls = {pull.name: pull for pull in diagnosis.pulls}
    # Parameters without an impact come last; the parameter of interest is none of them.
    names = list(ranked) or list(pulls)
    if not names:
        return None
    shown = names[:_MOST]
    with style_context(label.style):
        figure = new_figure(1.25, float(np.clip(0.3 + 0.055 * len(shown), 0.55, 2.0)))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.0, 1.2])
        _draw_pulls(left, [pulls.get(name) for name in shown])
        _draw_impacts(right, [ranked.get(name) for name in shown], diagnosis.unit)
        left.set_yticks(range(len(shown)), shown, fontsize=text_size(0.75))
        left.set_ylim(len(shown) - 0.4, -0.6)
        for ax in (left, right):
            ax.tick_params(axis="y", which="both", length=0)
        _legend(figure, diagnosis, len(names))
        return finish(figure, label, [left, right])


def correlation_figure(diagnosis: Diagnosis, label: Label) -> Figure | None:
    """Correlation coefficients in percent as a matrix; of many parameters those with the largest ones.

    Returns:
        None with fewer than two parameters.
    """
    given = diagnosis.correlations
    if given is None or len(given.names) < 2:
        return None
    matrix = np.array(given.matrix)
    strength = np.abs(matrix - np.diag(np.diag(matrix))).max(axis=1)
    chosen = np.sort(np.argsort(-strength, kind="stable")[:_MOST])
    names, shown = [given.names[i] for i in chosen], 100.0 * matrix[np.ix_(chosen, chosen)]
    with style_context(label.style):
        figure = new_figure(1.25, 1.15)
        ax = figure.add_subplot()
        image = ax.imshow(shown, cmap="RdBu_r", vmin=-100.0, vmax=100.0)
        if len(names) <= _NUMBERED:
            size = text_size(min(0.75, 6.0 / len(names)))
            for (row, place), value in np.ndenumerate(shown):
                color = "white" if abs(value) > 60.0 else "black"
                ax.text(
                    place, row, f"{value + 0.0:.0f}", ha="center", va="center", color=color, fontsize=size
                )
        size = text_size(min(0.75, 12.0 / len(names)))
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
        ax.set_yticks(range(len(names)), names, fontsize=size)
        ax.tick_params(which="both", length=0)
        ax.minorticks_off()
        bar = figure.colorbar(image, ax=ax, pad=0.02)
        bar.set_label("Correlation [%]")
        if len(names) < len(given.names):
            ax.set_xlabel(f"{len(names)} of {len(given.names)} parameters", fontsize=text_size(0.85))
        return finish(figure, label, [ax])


def _largest(impact: Impact) -> float:
    return float(np.nanmax(np.abs(column([impact.up, impact.down, 0.0]))))


def _draw_pulls(ax: Axes, pulls: list[Pull | None]) -> None:
    """Points with bars of the constraint; ±1 and ±2 standard deviations shaded."""
    for reach, color in ((2.0, "0.93"), (1.0, "0.83")):
        ax.axvspan(-reach, reach, color=color, linewidth=0.0, zorder=0)
    ax.axvline(0.0, color="black", linewidth=1.0, zorder=1)
    largest = 2.0
    for place, pull in enumerate(pulls):
        if pull is None or pull.pull is None or pull.constraint is None:
            text = "n/a" if pull is None or pull.value is None else _free(pull.value, pull.error)
            ax.text(
                0.0, place, text, ha="center", va="center", fontsize=text_size(0.75), zorder=3,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip
            continue
        ax.errorbar(pull.pull, place, xerr=pull.constraint, color="black", marker="o", zorder=2, **points())
        largest = max(largest, abs(pull.pull) + pull.constraint)
    half = min(1.1 * largest, 6.0)
    ax.set_xlim(-half, half)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel(r"Pull [$\sigma$]")


def _draw_impacts(ax: Axes, impacts: list[Impact | None], unit: str) -> None:
    """Bars of the shift with a parameter up and down."""
    ends = []
    for place, impact in enumerate(impacts):
        sides = (
            [None] * 4 if impact is None else [impact.up, impact.down, impact.prefit_up, impact.prefit_down]
        )
        for value, color in zip(sides[:2], colors(3)[::2], strict=True):
            if value is not None:
                ax.barh(place, value, height=0.6, color=color, alpha=0.8, zorder=2)
        for value, color in zip(sides[2:], colors(3)[::2], strict=True):
            if value is not None:
                ax.barh(place, value, height=0.85, fill=False, edgecolor=color, linewidth=1.5, zorder=1)
        ends += [abs(value) for value in sides if value is not None]
        missing = [name for name, value in zip(("up", "down"), sides, strict=False) if value is None]
        if missing:
            text = "n/a" if len(missing) == 2 else f"{missing[0]}: n/a"
            ax.text(0.98, place, text, transform=ax.get_yaxis_transform(), ha="right", va="center", color="red",
                    fontsize=text_size(0.75))  # fmt: skip
    half = 1.15 * max(ends, default=1.0) or 1.0
    ax.axvline(0.0, color="black", linewidth=1.0, zorder=3)
    ax.set_xlim(-half, half)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.set_xlabel(f"Impact on {unit or 'the signal'}")


def _legend(figure: Figure, diagnosis: Diagnosis, parameters: int) -> None:
    """Below the axes: colours, and the goodness of the fit."""
    up, down = colors(3)[::2]
    handles = [
        Patch(color=up, alpha=0.8, label=r"$+1\sigma$"),
        Patch(color=down, alpha=0.8, label=r"$-1\sigma$"),
    ]
    if any(impact.prefit_up is not None or impact.prefit_down is not None for impact in diagnosis.impacts):
        handles.append(Patch(fill=False, edgecolor="0.3", label="before the fit"))
    notes = []
    goodness = diagnosis.goodness_of_fit
    if goodness is not None:
        p_value = goodness.p_value if goodness.p_toys is None else goodness.p_toys
        notes.append(rf"$\chi^2$ / ndf = {goodness.statistic:.1f} / {goodness.ndof}")
        notes[-1] += (
            "" if p_value is None else f", $p$ = {p_value:.2g}{'' if goodness.p_toys is None else ' (toys)'}"
        )
    if parameters > _MOST:
        notes.append(f"the largest {_MOST} of {parameters} parameters")
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, title="; ".join(notes) or None, title_fontsize=text_size(0.85),
        fontsize=text_size(0.85), borderaxespad=0.2, columnspacing=1.0,
    )  # fmt: skip


def _free(value: float, error: float | None) -> str:
    """Value of a parameter without constraint, to two digits of its error.

    >>> _free(1234.5, 12.3), _free(0.5, None)
    ('1234 ± 12', '0.5')
    """
    if not error:
        return f"{value:.3g}"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e} ± {error:.1e}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
