"""Figures of efficiencies: trigger turn-on curves and jet matching, with Clopper-Pearson intervals.

Histograms that hold weights are drawn with their effective entries (Kish): the interval is that of an unweighted
sample with the same relative error. Every function returns a figure, or None where nothing can be drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from trila.analysis.plots_response_curves import ETA_REGIONS, region_label, region_sums
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
from trila.corrections.efficiency import clopper_pearson

__all__ = [
    "EfficiencyPoints",
    "TurnOnKind",
    "efficiency_points",
    "matching_figure",
    "turn_on_figure",
    "turn_on_groups",
]

TurnOnKind = Literal["leading", "average", "mass", "tag_probe"]

_LEAST_ENTRIES = 10.0  # below, an interval spans most of the axis and hides its neighbours
_MOST_POINTS = 50
_REFERENCE = {"offline": "offline", "gen": "particle-level"}


class EfficiencyPoints(NamedTuple):
    """Efficiency in bins, those with enough entries only."""

    edges: NDArray[np.float64]
    """Lower and upper bin edges, shape (2, n)."""
    efficiency: NDArray[np.float64]
    error: NDArray[np.float64]
    """Distances to the lower and upper limit of the interval, shape (2, n)."""


def efficiency_points(
    values: NDArray[np.float64], variances: NDArray[np.float64], edges: NDArray[np.float64]
) -> EfficiencyPoints:
    """Efficiencies from failed and passed entries.

    Neighbouring bins are merged where there are more than 50 to the logarithmic axis, so that the points can be
    told apart.

    Args:
        values: Sums of weights, shape (n, 2); the second axis is failed, passed.
        variances: Sums of squared weights, shape (n, 2).
        edges: Shape (n + 1,).

    Returns:
        The bins above zero with at least 10 effective entries.
    """
    # A bin that begins at zero has no place on a logarithmic axis.
    filled = np.flatnonzero((values.sum(axis=1) > 0) & (edges[:-1] > 0))
    if not filled.size:
        return EfficiencyPoints(np.empty((2, 0)), np.empty(0), np.empty((2, 0)))
    first, last = filled[0], filled[-1] + 1
    # Of even length on the logarithmic axis, as far as the bins allow.
    wanted = np.geomspace(edges[first], edges[last], _MOST_POINTS + 1)
    starts = np.unique(np.clip(np.searchsorted(edges, wanted * (1 - 1e-9)), first, last - 1))
    low, high = edges[starts], edges[np.append(starts[1:], last)]
    values = np.add.reduceat(values[:last], starts, axis=0)
    variances = np.add.reduceat(variances[:last], starts, axis=0)
    total, squares = values.sum(axis=1), variances.sum(axis=1)
    entries = np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)
    keep = (entries >= _LEAST_ENTRIES) & (total > 0)
    # Negative weights may carry a ratio out of 0 to 1.
    ratio = np.clip(values[keep, 1] / total[keep], 0.0, 1.0)
    lower, upper = clopper_pearson(ratio * entries[keep], entries[keep])
    error = np.clip(np.stack([ratio - lower, upper - ratio]), 0.0, None)
    return EfficiencyPoints(np.stack([low[keep], high[keep]]), ratio, error)


def turn_on_groups(
    histograms: Mapping[str, hist.Hist[Any]],
) -> dict[tuple[str, TurnOnKind], dict[str, hist.Hist[Any]]]:
    """The `efficiency.*` histograms by family and kind.

    Triggers of a family differ in numbers only, as HLT_PFJet40 and HLT_PFJet500 do. The family's name has an X in
    the place of the numbers that differ; a trigger alone in its family gives its own name.

    Returns:
        For each family and kind, the histograms by trigger, in the order of their numbers.
    """
    kinds: tuple[TurnOnKind, ...] = ("average", "mass", "tag_probe")
    found: dict[tuple[str, TurnOnKind], dict[str, hist.Hist[Any]]] = {}
    for name, histogram in histograms.items():
        if not name.startswith("efficiency."):
            continue
        trigger = name.removeprefix("efficiency.")
        kind: TurnOnKind = "leading"
        for candidate in kinds:
            if trigger.endswith(f".{candidate}"):
                trigger, kind = trigger.removesuffix(f".{candidate}"), candidate
        found.setdefault((re.sub(r"\d+", "#", trigger), kind), {})[trigger] = histogram
    groups = {}
    for (_, kind), members in found.items():
        ordered = dict(sorted(members.items(), key=lambda item: _numbers(item[0])))
        groups[_family(list(ordered))[0], kind] = ordered
    return groups


def turn_on_figure(
    histograms: Mapping[str, hist.Hist[Any]],
    label: Label,
    *,
    kind: TurnOnKind = "leading",
    reference: str = "offline",
) -> Figure | None:
    """Turn-on curves of one trigger or of a family.

    Args:
        histograms: By trigger, in the order of the legend; axes: pT or mass, then `passed`.
        label: What stands above.
        kind: Which of the contract's four histograms.
        reference: The reference jet: "offline" or "gen".
    """
    symbol = {"leading": "Leading jet ", "average": "Average ", "tag_probe": "Probe "}.get(kind, "")
    jet = transverse_momentum(reference)
    if kind == "mass":
        x_label = rf"$m_\mathrm{{jj}}^\mathrm{{{_REFERENCE.get(reference, reference)}}}$ [GeV]"
    else:
        x_label = f"{symbol}{jet} [GeV]"
    curves = {name: _points_of(histogram) for name, histogram in histograms.items()}
    family, shorts = _family(list(curves), mark="…")
    named = {
        short: curve for short, curve in zip(shorts, curves.values(), strict=True) if curve.efficiency.size
    }
    title = family if len(curves) > 1 else ""
    return _efficiency_figure(named, label, x_label, "Trigger efficiency", title=title, start=0.0)


def matching_figure(histogram: hist.Hist[Any], label: Label, *, reference: str = "offline") -> Figure | None:
    """Fraction of jets with a partner per region of |eta| (`response.matching_reference`, `_hlt`)."""
    kind = histogram.axes[1].name.removeprefix("pt_")
    edges = np.asarray(histogram.axes[1].edges)
    curves = {}
    for region in ETA_REGIONS:
        sums = region_sums(histogram, region)
        if sums is not None:
            curve = efficiency_points(sums[0], sums[1], edges)
            if curve.efficiency.size:
                curves[region_label(sums[2])] = curve
    jets, partner = ("hlt", reference) if kind == "hlt" else (reference, "hlt")
    words = {"offline": "Offline", "gen": "Particle", "hlt": "HLT"}
    y_label = f"{words.get(jets, jets)} jets with {_partner(partner)} partner"
    return _efficiency_figure(curves, label, f"{transverse_momentum(jets)} [GeV]", y_label, start=None)


def _efficiency_figure(
    curves: Mapping[str, EfficiencyPoints],
    label: Label,
    x_label: str,
    y_label: str,
    *,
    title: str = "",
    start: float | None,
) -> Figure | None:
    """Efficiencies versus a logarithmic axis; the y axis from `start`, or from just below the points."""
    if not curves:
        return None
    low = min(curve.edges[0].min() for curve in curves.values())
    high = max(curve.edges[1].max() for curve in curves.values())
    with style_context(label.style):
        figure = new_figure()
        ax = figure.add_subplot()
        chosen = colors(len(curves), ordered=True)
        for i, (name, curve) in enumerate(curves.items()):
            center = np.sqrt(curve.edges[0] * curve.edges[1])
            ax.errorbar(
                center,
                curve.efficiency,
                curve.error,
                np.abs(curve.edges - center),
                color=chosen[i],
                marker=markers()[i % len(markers())],
                label=name,
                **points(),
            )
        numbered_log_axis(ax.xaxis, low, high)
        ax.axhline(1.0, color="grey", linestyle="--", linewidth=1.0, zorder=0)
        if start is None:
            start = min(float((curve.efficiency - curve.error[0]).min()) for curve in curves.values())
            start = max(0.0, start - 0.1 * (1.0 - start)) if start < 0.98 else 0.97
        _legend(ax, list(curves), title, start, 0.78 * figure.get_size_inches()[1])
        ax.set_xlabel(x_label)
        ax.set_ylabel(y_label)
        return finish(figure, label, [ax])


def _legend(ax: Axes, names: Sequence[str], title: str, start: float, height: float) -> None:
    """Legend above the points, as a turn-on leaves no corner free; `height` is that of the axes in inches."""
    # The length of a text on the page, without the commands of mathematical text.
    longest = max(len(re.sub(r"\\[a-zA-Z]+|[${}^_\\]", "", name)) for name in names)
    columns = max(1, min(len(names), 4, 44 // (longest + 4)))
    rows = -(-len(names) // columns) + bool(title)
    part = (rows * 1.35 + 1.0) * text_size() / 72.0 / height
    headroom(ax, start, 1.0 + 0.03 * (1.0 - start), top=min(0.6, part))
    # Efficiencies end at 1, and so do their ticks.
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(start, 1.0)
    ax.set_yticks([tick for tick in ticks if start <= tick <= 1.0 + 1e-9])
    ax.legend(
        loc="upper left",
        ncols=columns,
        title=title or None,
        title_fontsize=text_size(),
        alignment="left",
        columnspacing=1.0,
        handletextpad=0.3,
        borderaxespad=0.2,
    )


def _points_of(histogram: hist.Hist[Any]) -> EfficiencyPoints:
    return efficiency_points(
        np.asarray(histogram.values()), np.asarray(histogram.variances()), np.asarray(histogram.axes[0].edges)
    )


def _partner(kind: str) -> str:
    return {"hlt": "an HLT", "offline": "an offline", "gen": "a particle-level"}.get(kind, f"a {kind}")


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _family(triggers: list[str], mark: str = "X") -> tuple[str, list[str]]:
    """The common name with a mark for the numbers that differ, and what tells the members apart.

    Example:
        >>> _family(["HLT_AK8PFJet40", "HLT_AK8PFJet500"])
        ('HLT_AK8PFJetX', ['40', '500'])
    """
    if len(triggers) == 1:
        return triggers[0], triggers
    pieces = [re.split(r"(\d+)", trigger) for trigger in triggers]
    varying = [i for i in range(1, len(pieces[0]), 2) if len({piece[i] for piece in pieces}) > 1]
    common = "".join(mark if i in varying else piece for i, piece in enumerate(pieces[0]))
    return common, [", ".join(piece[i] for i in varying) for piece in pieces]
