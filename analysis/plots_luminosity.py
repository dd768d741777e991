"""Figure of the luminosity of a RESULT: planned and seen, by run and summed over runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trila.analysis.luminosity import LuminosityAccount
from trila.analysis.plots_style import Label, colors, finish, headroom, new_figure, save_figure, style_context
from trila.analysis.provenance import record
from trila.processors.errors import InputError

__all__ = ["luminosity_figure", "plot_luminosity"]

#: Runs of which each can have its number.
_NUMBERED = 6


def luminosity_figure(account: LuminosityAccount, label: Label) -> Figure | None:
    """Recorded luminosity of the planned blocks and of those seen: by run above, summed up to each run below.

    Runs stand side by side in their order, at equal distances whatever their numbers: the numbers of a year leave gaps in
    which there is nothing.

    Args:
        account: what to draw.
        label: what stands above; the luminosity is written by the figure itself.

    Returns:
        None where nothing is planned.
    """
    run, planned, seen = account.runs
    if not run.size or not planned.any():
        return None
    with style_context(label.style):
        figure = new_figure(1.2, 1.2)
        upper, lower = figure.subplots(2, 1, sharex=True)
        edges = np.arange(run.size + 1) - 0.5
        color = colors(1)[0]
        symbol = r"$L_\mathrm{rec}$"
        for ax, every, found, text in (
            (upper, planned, seen, f"{symbol} per run"),
            (lower, np.cumsum(planned), np.cumsum(seen), f"{symbol}, sum"),
        ):
            # Each in its own unit: by run and summed up differ by the number of runs.
            scale, unit = (1000.0, "fb") if every.max() >= 1000.0 else (1.0, "pb")
            # What is grey is missing; outlines would hide it where runs are many.
            ax.stairs(every / scale, edges, fill=True, color="0.75", gid="planned")
            ax.stairs(found / scale, edges, fill=True, color=color, gid="seen")
            headroom(ax, 0.0, float(every.max()) / scale, top=0.08)
            ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            ax.set_ylabel(rf"{text} [$\mathrm{{{unit}}}^{{-1}}$]")
            ax.tick_params(axis="x", which="minor", bottom=False, top=False)
        _run_axis(lower, run.tolist())
        share = f": {_percent(account.fraction)} of planned" if account.fraction is not None else ""
        figure.legend(lower.patches, ["Planned", f"Seen{share}"], loc="outside lower left", ncols=2)
        lumi = account.seen.recorded if account.seen.recorded > 0 else None
        return finish(figure, replace(label, is_data=True, lumi=lumi), [upper])


def _run_axis(ax: Axes, runs: list[int]) -> None:
    """An axis on which the runs stand side by side; of many, five are numbered, away from the other axis."""
    ax.set_xlim(-0.5, len(runs) - 0.5)
    many = len(runs) > _NUMBERED
    ticks = (
        np.linspace(0, len(runs) - 1, _NUMBERED + 1)[1:-1].round().astype(int) if many else range(len(runs))
    )
    ax.set_xticks(list(ticks), [str(runs[i]) for i in ticks])
    ax.set_xlabel("Run")


def _percent(fraction: float) -> str:
    """A fraction; 100% is written only for all.

    >>> _percent(1.0), _percent(0.99999), _percent(0.5)
    ('100%', '99.99%', '50.00%')
    """
    return "100%" if fraction == 1.0 else f"{np.floor(1e4 * fraction) / 100:.2f}%"


def plot_luminosity(account: LuminosityAccount, outdir: Path) -> list[Path]:
    """Draw the figure, as PNG and PDF, into a folder; nothing where nothing is planned.

    Raises:
        InputError: the folder cannot be made.
    """
    label = Label("cms", "Private work", True, None, None)
    figure = luminosity_figure(account, label)
    if figure is None:
        return []
    try:
        outdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{outdir} cannot be made: {error.strerror}; choose another folder") from error
    return save_figure(
        figure, outdir / "luminosity", label.style, record("status", {"result": account.result})
    )
