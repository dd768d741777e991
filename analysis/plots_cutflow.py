"""Figures of cutflows: how many events each cut leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from trila.analysis.plots_style import Label, colors, finish, new_figure, style_context, text_size

__all__ = ["cutflow_figure"]

_MOST_DATASETS = 4  # drawn one by one; more are summed

Rows = Sequence[Mapping[str, Any]]


def cutflow_figure(cutflow: Mapping[str, Mapping[str, Rows]], processor: str, label: Label) -> Figure | None:
    """Raw numbers of events after each cut of a processor, and the fraction of the first cut's that is left.

    Args:
        cutflow: By dataset and processor, rows with `cut` and `events` in the order of the cuts (`cutflow.json`).
        processor: Which processor's.
        label: What stands above.

    Returns:
        None if the processor is not in the cutflow, or saw no event. More than four datasets are summed.
    """
    counts: dict[str, dict[str, int]] = {}
    for dataset, processors in cutflow.items():
        rows = processors.get(processor, ())
        if rows:
            counts[dataset] = {str(row["cut"]): int(row["events"]) for row in rows}
    cuts = list(dict.fromkeys(cut for row in counts.values() for cut in row))
    if len(counts) > _MOST_DATASETS:
        counts = {"all": {cut: sum(row.get(cut, 0) for row in counts.values()) for cut in cuts}}
    events = {dataset: np.array([row.get(cut, 0) for cut in cuts]) for dataset, row in counts.items()}
    if not any((content > 0).any() for content in events.values()):
        return None
    smallest = min(content[content > 0].min() for content in events.values() if (content > 0).any())
    largest = max(content.max() for content in events.values())
    # Bars begin a decade below the smallest count, or they would have no length.
    start = min(1.0, 0.1 * smallest) if smallest < 10 else 10.0 ** (np.floor(np.log10(smallest)) - 1)
    start = max(start, 0.5)
    with style_context(label.style):
        thickness = 0.8 / len(events)
        figure = new_figure(1.2, max(0.5, 0.18 + 0.075 * len(cuts) * max(1.0, 0.75 * len(events))))
        ax = figure.add_subplot()
        position = np.arange(len(cuts), dtype=float)
        for i, ((dataset, content), color) in enumerate(
            zip(events.items(), colors(len(events)), strict=True)
        ):
            y = position + (i - 0.5 * (len(events) - 1)) * thickness
            ax.barh(
                y, np.maximum(content - start, 0), 0.9 * thickness, left=start, color=color, label=dataset
            )
            for at, count in zip(y, content, strict=True):
                share = _percent(count / content[0]) if content[0] else ""
                ax.text(1.15 * max(count, start), at, share, va="center", ha="left", fontsize=text_size(0.8))
        ax.set_xscale("log")
        # A quarter of the axis is left for the percentages behind the bars.
        ax.set_xlim(start, largest * max(largest / start, 10.0) ** 0.3)
        ax.xaxis.set_major_locator(LogLocator(numticks=9))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_yticks(position, cuts)
        ax.minorticks_on()
        ax.tick_params(axis="y", which="minor", left=False, right=False)
        ax.tick_params(axis="y", which="major", left=False, right=False)
        ax.set_ylim(len(cuts) - 0.4, -0.6)
        ax.set_xlabel("Events")
        if len(events) > 1:
            figure.legend(loc="outside lower left", ncols=2, columnspacing=1.0, handletextpad=0.4)
        return finish(figure, label, [ax])


def _percent(fraction: float) -> str:
    """A fraction to three digits; powers of ten where zeros would have to be counted."""
    if fraction == 0 or fraction >= 1e-5:
        return f"{100 * fraction:.3g}%"
    digits, exponent = f"{100 * fraction:.1e}".split("e")
    return rf"${digits}\times 10^{{{int(exponent)}}}$%"
