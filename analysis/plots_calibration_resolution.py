"""Figures beside the scale of a calibration: resolution of HLT and offline jets, dependence on pile-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.derive import Derived
from trila.analysis.plots_calibration_regions import eta_label, eta_of, limit_linear, marker_handle
from trila.analysis.plots_response_curves import region_label
from trila.analysis.plots_style import (
    Label,
    colors,
    finish,
    markers,
    new_figure,
    numbered_log_axis,
    points,
    style_context,
    text_size,
    transverse_momentum,
)
from trila.corrections.cells import cell_of, effective_entries
from trila.corrections.jer import Jer
from trila.corrections.pileup import PIVOT, Offset
from trila.corrections.resolution import resolution
from trila.corrections.tag_bins import TagBins, measure

__all__ = ["PileUp", "pileup_figure", "resolution_figure"]

Array = NDArray[np.float64]
PileUp = Literal["rho", "mu"]

_PILE_UP_BINS = 12
_SYMBOLS = {"rho": r"$\rho$ [GeV]", "mu": r"$\mu$"}
_JETS = {"hlt": "Calibrated HLT jets", "offline": "Offline jets"}


def resolution_figure(jers: Sequence[Jer], label: Label) -> Figure | None:
    """Relative pT resolution of HLT and offline jets in one region of |η|, and its distance from the fits.

    Args:
        jers: of one region.
        label: what stands above.

    Returns:
        The figure; None if there is no point.
    """
    jers = [jer for jer in jers if jer.used.any()]
    if not jers:
        return None
    with style_context(label.style):
        figure = new_figure(height=1.15)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1.8, 1.0])
        above, below, across, notes = [np.zeros(1)], [np.array([-3.0, 3.0])], [], []
        for jer, color, marker in zip(jers, colors(len(jers)), markers(), strict=False):
            pt, value, error = (part[jer.used] for part in (jer.pt, jer.resolution, jer.error))
            style = {**points(), "color": color, "marker": marker}
            upper.errorbar(pt, 100 * value, 100 * error, label=_JETS[jer.collection], **style)
            above += [100 * (value + error)]
            across.append(pt)
            if jer.fit is None:
                notes.append("no fit")
                continue
            terms = (jer.fit.n, jer.fit.s, jer.fit.c)
            x = np.geomspace(pt.min(), pt.max(), 200)
            upper.plot(x, 100 * resolution(x, *terms), color=color, linewidth=1.5)
            fitted = resolution(pt, *terms)
            lower.errorbar(pt, 100 * (value / fitted - 1), 100 * error / fitted, **style)
            below += [100 * ((value + sign * error) / fitted - 1) for sign in (-1, 1)]
            notes.append(
                rf"$N = {terms[0]:.2f}$ GeV, $S = {terms[1]:.3f}$ GeV$^{{1/2}}$, $C = {100 * terms[2]:.2f}$%"
            )
        low, high = (f(np.concatenate(across)) for f in (np.min, np.max))
        numbered_log_axis(upper.xaxis, 0.93 * float(low), 1.07 * float(high))
        limit_linear(upper, above, top=0.38)
        upper.set_ylim(bottom=0.0)
        limit_linear(lower, below, top=0.0)
        lower.axhline(0.0, color="grey", linestyle="--", linewidth=1.0, zorder=0)
        kind = "gen" if jers[0].method == "particle" else "average"
        upper.set_ylabel(f"Resolution of {transverse_momentum('jet')} [%]")
        lower.set_ylabel("Rel. to fit [%]")
        lower.set_xlabel(f"{transverse_momentum(kind)} [GeV]")
        _terms(upper, notes, region_label(jers[0].eta))
        figure.align_ylabels([upper, lower])
        return finish(figure, label, [upper])


def _terms(ax: Axes, notes: Sequence[str], title: str) -> None:
    """Legend with the terms of each fit below its jets' name."""
    handles, _ = ax.get_legend_handles_labels()
    entries = [
        entry
        for handle, note in zip(handles, notes, strict=True)
        for entry in (handle, Line2D([], [], linestyle="none", label=note))
    ]
    ax.legend(
        handles=entries, loc="upper right", title=title, title_fontsize=text_size(),
        fontsize=text_size(0.9), borderaxespad=0.2,
    )  # fmt: skip


def pileup_figure(
    derived: Derived,
    config: CalibrationConfig,
    regions: Sequence[int],
    label: Label,
    *,
    pileup: PileUp = "rho",
) -> Figure | None:
    """The slope of the offset versus η, and the calibrated response versus pile-up with and without it.

    Args:
        derived: the calibration, and its pairs.
        config: what it was derived with.
        regions: numbers of those whose response is shown.
        label: what stands above.
        pileup: what the pairs have.

    Returns:
        The figure; None without a region, or where the pile-up is not known or (nearly) the same for all.
    """
    levels = _levels(derived)
    if levels.size < 2 or not regions:
        return None
    offset = derived.calibration.offset
    with style_context(label.style):
        figure = new_figure(height=1.15 if offset is not None else 0.9)
        panels = figure.subplots(1 if offset is None else 2, 1, squeeze=False)[:, 0]
        if offset is not None:
            _slopes(panels[0], offset, pileup)
        _against_pileup(panels[-1], derived, config, regions, levels)
        panels[-1].set_xlabel(_SYMBOLS[pileup])
        figure.align_ylabels(list(panels))
        return finish(figure, label, [panels[0]])


def _levels(derived: Derived) -> Array:
    """Edges of bins of pile-up with equally many pairs; none where it is not known."""
    if derived.pairs.pileup is None:
        return np.empty(0)
    known = derived.pairs.pileup[np.isfinite(derived.pairs.pileup)]
    return np.unique(np.quantile(known, np.linspace(0.01, 0.99, _PILE_UP_BINS + 1)).astype(np.float64))


def _slopes(ax: Axes, offset: Offset, pileup: PileUp) -> None:
    edges = np.asarray(offset.eta_edges)
    known = np.isfinite(offset.error)
    middle = 0.5 * (edges[1:] + edges[:-1])[known]
    ax.errorbar(
        middle, offset.s0[known], offset.error[known], 0.5 * np.diff(edges)[known],
        color=colors(1)[0], marker="o", **points(),
    )  # fmt: skip
    ax.axhline(0.0, color="grey", linestyle="--", linewidth=1.0, zorder=0)
    ax.set_xlim(edges[0], edges[-1])
    limit_linear(ax, [(offset.s0 + sign * offset.error)[known] for sign in (-1, 1)] + [np.zeros(1)], top=0.15)
    ax.set_xlabel(r"$\eta^\mathrm{HLT}$")
    per = {"rho": r"$\rho$", "mu": r"$\mu$"}[pileup]
    variable = rf"$A${per}" if offset.uses_area else per
    # ρ has the unit of pT, μ none
    unit = "GeV/GeV" if pileup == "rho" else "GeV"
    ax.set_ylabel(rf"Offset per {variable} [{unit}]")
    text = rf"at {transverse_momentum('hlt')} = {PIVOT:g} GeV"
    ax.text(0.97, 0.94, text, transform=ax.transAxes, ha="right", va="top", fontsize=text_size())


def _against_pileup(
    ax: Axes, derived: Derived, config: CalibrationConfig, regions: Sequence[int], levels: Array
) -> None:
    """Medians of the calibrated response in bins of pile-up; open points without the offset's subtraction."""
    pairs, calibration = derived.pairs, derived.calibration
    assert pairs.pileup is not None
    cell, cells = cell_of((pairs.eta, calibration.eta_edges), (pairs.pileup, levels))
    # below, the tag asks for probes that fluctuated down
    cell[(pairs.tag < config.scale.pt_edges[0]) | (pairs.tag >= config.scale.pt_edges[-1])] = -1
    bins = levels.size - 1
    entries = effective_entries(cell, pairs.weight, cells).reshape(-1, bins)
    where = TagBins(cell, entries.shape[0], bins, entries)
    inside = cell >= 0
    total = np.bincount(cell[inside], pairs.weight[inside], cells)
    sums = np.bincount(cell[inside], pairs.weight[inside] * pairs.pileup[inside], cells)
    x = where.table(np.divide(sums, total, out=np.full(cells, np.nan), where=total > 0))
    versions = {"calibrated" if calibration.offset is None else "offset subtracted": derived.scale.log_pt}
    if calibration.offset is not None:
        versions["not subtracted"] = derived.scale.log_pt + _put_back(derived, calibration.offset)
    series, handles = [], []
    for (text, log_pt), face in zip(versions.items(), (None, "white"), strict=False):
        found = measure(pairs, where, log_pt, "median")
        for region, color, marker in zip(regions, colors(len(regions)), markers(), strict=False):
            median = np.exp(found.log_median[region])
            error = median * found.error[region]
            style = {**points(), "color": color, "marker": marker, "markeredgewidth": 1.2}
            ax.errorbar(x[region], median, error, markerfacecolor=face or color, **style)
            series += [median - error, median + error]
            if face is None:
                eta = eta_of(calibration.eta_edges, region)
                handles.append(marker_handle(eta_label(eta), color=color, marker=marker))
        handles.append(marker_handle(text, color="grey", face=face))
    ax.axhline(1.0, color="grey", linestyle="--", linewidth=1.0, zorder=0)
    limit_linear(ax, series, top=0.35, least=0.02)
    ax.set_xlim(levels[0], levels[-1])
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    ax.set_ylabel("Calibrated response")
    ax.legend(
        handles=handles, loc="upper right", ncols=2, columnspacing=1.0, borderaxespad=0.2,
        fontsize=text_size(0.9),
    )  # fmt: skip


def _put_back(derived: Derived, offset: Offset) -> Array:
    """Change of ln pT that the offset had made, shape (n,), to first order in its dependence on pT."""
    pairs = derived.pairs
    assert pairs.pileup is not None
    area = 1.0 if pairs.area is None else pairs.area
    return np.asarray(-np.log(offset.factor(pairs.hlt, pairs.eta, area, pairs.pileup)))
