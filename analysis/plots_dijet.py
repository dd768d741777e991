"""Figures of dijets: the mass spectrum with its systematic variations, and the control distributions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from trila.analysis.plots_spectra import Control, by_category, control_figure, spectrum
from trila.analysis.plots_style import (
    Label,
    colors,
    finish,
    limit_log,
    new_figure,
    numbered_log_axis,
    points,
    style_context,
    text_size,
)

__all__ = ["dijet_control_figure", "dijet_mass_figure", "variation_sources"]

_CONTROL = {
    "pt": Control(r"Jet $p_\mathrm{T}$ [GeV]", "GeV", "Jets", True),
    "eta": Control(r"Jet $\eta$", counts="Jets"),
    "phi": Control(r"Jet $\phi$ [rad]", counts="Jets"),
    "delta_eta": Control(r"$|\Delta\eta_\mathrm{jj}|$"),
    "delta_phi": Control(r"$|\Delta\phi_\mathrm{jj}|$ [rad]", logarithmic=True),
    "y_star": Control(r"$y^*$"),
    "chi": Control(r"$\chi_\mathrm{dijet}$"),
    "n_jets": Control("Number of jets", logarithmic=True),
}

_MOST_SOURCES = 4  # that a legend can name; of more, the largest are drawn


def variation_sources(names: Sequence[str]) -> dict[str, list[str]]:
    """Variations by source: `jes_up` and `jes_down`, or `jesUp` and `jesDown`, are one source.

    Example:
        >>> variation_sources(["nominal", "jes_up", "jes_down", "pileup"])
        {'jes': ['jes_up', 'jes_down'], 'pileup': ['pileup']}
    """
    sources: dict[str, list[str]] = {}
    for name in names:
        if name != "nominal":
            sources.setdefault(re.sub(r"(?<=.)(_up|_down|Up|Down)$", "", name), []).append(name)
    return sources


def dijet_mass_figure(histogram: hist.Hist[Any], label: Label) -> Figure | None:
    """The dijet mass spectrum, dN/dm, and below it the ratio of each systematic variation to nominal.

    Args:
        histogram: Axes `systematic`, `mass` (`dijet.mass_standard`).
        label: What stands above.

    Returns:
        None if the spectrum is empty.
    """
    edges = np.asarray(histogram.axes["mass"].edges)
    parts = by_category(histogram, "systematic")
    contents = {name: values for name, (values, _) in parts.items()}
    variances = parts["nominal"][1]
    nominal = spectrum(contents["nominal"], variances, edges)
    if not nominal.center.size:
        return None
    sources = variation_sources(list(contents))
    with style_context(label.style):
        figure = new_figure(height=1.15 if sources else 1.0)
        if sources:
            ax, ratio = figure.subplots(2, 1, sharex=True, height_ratios=[1.9, 1.0])
        else:
            ax = ratio = figure.add_subplot()
        ax.errorbar(
            nominal.center, nominal.density, nominal.error, nominal.reach,
            color="black", marker="o", label="Data" if label.is_data else "Simulation", **points(),
        )  # fmt: skip
        # so that points do not run into the legend
        limit_log(ax, nominal.density, top=0.5 if sources else 0.08)
        ax.set_ylabel(r"$\mathrm{d}N/\mathrm{d}m_\mathrm{jj}$ [events / GeV]")
        handles, texts = ax.get_legend_handles_labels()
        if sources:
            entries = _ratio_panel(ratio, sources, contents, variances, edges)
            handles, texts = (
                handles + [handle for handle, _ in entries],
                texts + [text for _, text in entries],
            )
        low, high = nominal.center - nominal.reach[0], nominal.center + nominal.reach[1]
        numbered_log_axis(ax.xaxis, float(low.min()), float(high.max()))
        ratio.set_xlabel(r"$m_\mathrm{jj}$ [GeV]")
        ax.legend(
            handles,
            texts,
            loc="upper right",
            handlelength=2.5 if sources else None,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0.3)},
        )
        if sources:
            figure.align_ylabels([ax, ratio])
        return finish(figure, label, [ax])


def dijet_control_figure(histograms: Mapping[str, hist.Hist[Any]], label: Label) -> Figure | None:
    """A page of those control distributions `dijet.*` that there are."""
    return control_figure(
        [
            (histograms[f"dijet.{name}"], how)
            for name, how in _CONTROL.items()
            if f"dijet.{name}" in histograms
        ],
        label,
    )


def _ratio_panel(
    ax: Axes,
    sources: Mapping[str, Sequence[str]],
    contents: Mapping[str, NDArray[np.float64]],
    variances: NDArray[np.float64],
    edges: NDArray[np.float64],
) -> list[tuple[Any, str]]:
    """Ratios to nominal, and the statistical error as a grey band; returns the entries for a legend.

    Of many sources the largest are drawn, with the quadratic sum of all. Where the statistical error exceeds 20%, a
    variation's ratio shows which events crossed an edge, not the variation: there only the band is drawn.
    """
    nominal = contents["nominal"]
    one = np.where(nominal > 0, nominal, np.nan)
    error = np.sqrt(variances) / one
    ax.stairs(1 + error, edges, baseline=1 - error, fill=True, color="0.85", zorder=0)
    entries: list[tuple[Any, str]] = [(Patch(color="0.85"), "Statistical error")]
    shifts = {
        source: np.stack([np.where(error < 0.2, contents[name] / one - 1.0, np.nan) for name in names])
        for source, names in sources.items()
    }
    sizes = {source: np.nanmax(np.abs(np.nan_to_num(shift)), axis=0) for source, shift in shifts.items()}
    shown = sorted(sources, key=lambda source: -float(np.sum(sizes[source] ** 2)))[:_MOST_SOURCES]
    reach = [np.array([0.0])]
    if len(sources) > _MOST_SOURCES:
        total = np.where(error < 0.2, np.sqrt(np.sum([size**2 for size in sizes.values()], axis=0)), np.nan)
        for sign in (-1.0, 1.0):
            ax.stairs(1 + sign * total, edges, color="black", baseline=None, linewidth=2)
        entries.append((Line2D([], [], color="black"), f"All {len(sources)} sources"))
        reach.append(total[np.isfinite(total)])
    for source, color in zip(shown, colors(_MOST_SOURCES), strict=False):
        lines: list[Literal["-", "--", ":", "-."]] = ["-", "--", ":", "-."]
        names = sources[source]
        for shift, line in zip(shifts[source], lines, strict=False):
            ax.stairs(1 + shift, edges, color=color, linestyle=line, baseline=None, linewidth=2)
            reach.append(np.abs(shift)[np.isfinite(shift)])
        handle = tuple(Line2D([], [], color=color, linestyle=line) for line in lines[: len(names)])
        # "jes up, down" for the lines of jes_up and jes_down.
        suffixes = ", ".join(name.removeprefix(source).strip("_").lower() for name in names)
        entries.append((handle, f"{source.replace('_', ' ')} {suffixes}".strip()))
    # One migration at the threshold must not flatten all other variations.
    half = min(max(1.4 * float(np.quantile(np.concatenate(reach), 0.97)), 0.02), 1.0)
    ax.axhline(1.0, color="black", linewidth=1.0)
    ax.set_ylim(1 - half, 1 + half)
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.set_ylabel("Variation / nominal", fontsize=text_size())
    return entries
