"""Figures of the jets behind a calibration: HLT against offline pT, and response distributions with fits."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from scipy.special import ndtr

from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.derive import Derived
from trila.analysis.plots_calibration_regions import eta_label, eta_of
from trila.analysis.plots_response_curves import pt_ratio
from trila.analysis.plots_style import (
    Label,
    colors,
    finish,
    new_figure,
    numbered_log_axis,
    points,
    style_context,
    text_size,
    transverse_momentum,
)
from trila.corrections.cells import cell_of
from trila.corrections.core_fits import gaussian_core
from trila.corrections.crystal_ball import crystal_ball
from trila.corrections.crystal_ball_shape import crystal_ball_cdf, crystal_ball_density
from trila.corrections.estimators import RESPONSE_EDGES, distributions
from trila.corrections.response import binned_quantiles, half_width

__all__ = ["correlation_figure", "distributions_figure"]

Array = NDArray[np.float64]

# Bins of the correlation in each direction: finer than the resolution, coarse enough to be filled.
_BINS = 120
# A page: three rows of three, one of them for the legend.
_PANELS = 8
# Half of a panel's x axis, in widths.
_REACH = 7.0
# Half of the window of the Gaussian core, in its widths; the densities shown, relative to the largest.
_CORE = 1.5
_LOWEST, _HIGHEST = 3e-4, 30.0


def correlation_figure(derived: Derived, label: Label) -> Figure:
    """HLT pT against offline pT of all probes, before and after the calibration, with the diagonal.

    Args:
        derived: the calibration, and its pairs.
        label: what stands above.
    """
    pairs = derived.pairs
    offline = pairs.offline.astype(np.float64)
    both = {"before calibration": pairs.hlt.astype(np.float64), "calibrated": np.exp(derived.scale.log_pt)}
    low = math.floor(min(float(np.quantile(pt, 1e-4)) for pt in (offline, *both.values())))
    high = 1.05 * max(float(pt.max()) for pt in (offline, *both.values()))
    edges = np.geomspace(max(low, 1.0), high, _BINS + 1)
    contents = []
    for hlt in both.values():
        cell, cells = cell_of((hlt, edges), (offline, edges))
        inside = cell >= 0
        contents.append(np.bincount(cell[inside], pairs.weight[inside], cells).reshape(_BINS, _BINS))
    positive = np.concatenate([content[content > 0] for content in contents])
    norm = LogNorm(float(positive.min()), max(float(positive.max()), 2.0 * float(positive.min())))
    with style_context(label.style):
        figure = new_figure(width=1.95, height=0.95)
        axes = figure.subplots(1, 2, sharey=True)
        for ax, (title, content) in zip(axes, zip(both, contents, strict=True), strict=True):
            mesh = ax.pcolormesh(
                edges, edges, np.ma.masked_less_equal(content, 0), norm=norm, cmap="viridis", rasterized=True
            )
            ax.plot(edges[[0, -1]], edges[[0, -1]], color="red", linestyle="--", linewidth=0.1 * text_size())
            for axis in (ax.xaxis, ax.yaxis):
                numbered_log_axis(axis, edges[0], edges[-1])
            ax.set_xlabel(f"{transverse_momentum('offline')} [GeV]")
            ax.text(0.05, 0.95, f"HLT {title}", transform=ax.transAxes, va="top", fontsize=text_size())
        axes[0].set_ylabel(f"{transverse_momentum('hlt')} [GeV]")
        figure.colorbar(mesh, ax=axes, pad=0.01, aspect=30).set_label("Weighted jets / bin")
        return finish(figure, label, list(axes))


def distributions_figure(
    derived: Derived, config: CalibrationConfig, region: int, label: Label
) -> Figure | None:
    """A page of response distributions before calibration in one region of η, with median, core and tails.

    At most eight bins, spread evenly over those that the curve was fitted to.

    Args:
        derived: the calibration, and its pairs.
        config: what it was derived with.
        region: number of the region.
        label: what stands above.

    Returns:
        The figure; None if no bin was used.
    """
    used = np.flatnonzero(derived.scale.measurement.used[region])
    if not used.size:
        return None
    chosen = used[np.unique(np.linspace(0, used.size - 1, min(_PANELS, used.size)).round().astype(int))]
    pairs, eta = derived.pairs, eta_of(config.scale.eta_edges, region)
    pairs = pairs.take((pairs.eta >= eta[0]) & (pairs.eta < eta[1]))
    cell, cells = cell_of((pairs.tag, config.scale.pt_edges))
    response = pairs.hlt.astype(np.float64) / pairs.offline
    values, variances = (part[chosen] for part in distributions(cell, response, pairs.weight, cells))
    core = gaussian_core(values, variances, RESPONSE_EDGES, _CORE)
    tails = crystal_ball(values, variances, RESPONSE_EDGES)
    medians, widths = binned_quantiles(values, RESPONSE_EDGES, 0.5), half_width(values, RESPONSE_EDGES)
    reach = np.clip(_REACH * widths, 0.2, 0.8)
    largest = float(1.0 / (2.5 * widths.min()))
    columns = min(3, chosen.size + 1)
    rows = math.ceil((chosen.size + 1) / columns)
    red, blue = colors(3)[2], colors(1)[0]
    with style_context(label.style):
        figure = new_figure(0.1 + 0.5 * columns, 0.1 + 0.46 * rows)
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for ax, number, index in zip(grid.flat, range(chosen.size), chosen, strict=False):
            x = np.linspace(medians[number] - reach[number], medians[number] + reach[number], 400)
            _histogram(ax, values[number], variances[number], float(widths[number]))
            ax.axvline(medians[number], color="black", linestyle=":", linewidth=1.5)
            lines = [
                f"{config.scale.pt_edges[index]:g}–{config.scale.pt_edges[index + 1]:g} GeV",
                f"median {medians[number]:.3f}",
            ]
            if core.converged[number]:
                mean, width = core.mean[number], core.width[number]
                _core(ax, values[number], float(mean), float(width), red)
                lines += [f"core {mean:.3f}", f"width {width:.3f}"]
            if tails.converged[number]:
                _tails(ax, tails.parameters[number], x, blue)
                lines.append(f"peak {tails.mean[number]:.3f}")
            _corner(ax, lines)
            _limits(ax, (max(float(x[0]), 0.0), float(x[-1])), largest)
        for ax in grid.flat[chosen.size :]:
            ax.axis("off")
        grid.flat[chosen.size].legend(
            handles=[
                Patch(color=blue, alpha=0.3, label="probes"),
                Line2D([], [], color="black", linestyle=":", linewidth=1.5, label="median"),
                Line2D([], [], color=red, label="Gaussian core"),
                Line2D([], [], color=blue, linestyle="--", label="Crystal Ball,\ntwo tails"),
            ],
            loc="center",
        )
        size = matplotlib.rcParams["axes.labelsize"]
        figure.supxlabel(
            rf"Response {pt_ratio('hlt', 'offline')}, {eta_label(eta)}, in bins of {transverse_momentum('tag')}",
            fontsize=size,
        )
        figure.supylabel("Probability density", fontsize=size)
        return finish(figure, label, [grid[0, 0], grid[0, columns - 1]])


def _histogram(ax: Axes, values: Array, variances: Array, width: float) -> None:
    """A distribution as a density, in bins of a quarter of its width, 1% at least: the tails are thin."""
    factor = round(max(0.25 * width, 0.01) / float(RESPONSE_EDGES[1]))
    while (RESPONSE_EDGES.size - 1) % factor:
        factor -= 1
    content, variance = (part.reshape(-1, factor).sum(axis=1) for part in (values, variances))
    edges = RESPONSE_EDGES[::factor]
    scale = 1.0 / (content.sum() * np.diff(edges))
    filled = content > 0
    # Down to the end of the axis, which has no zero.
    ax.stairs(
        np.maximum(content * scale, 1e-9), edges, fill=True, color=colors(1)[0], alpha=0.3, baseline=1e-9
    )
    style = points()
    style["markersize"] *= 0.5
    ax.errorbar(
        (0.5 * (edges[1:] + edges[:-1]))[filled],
        (content * scale)[filled],
        # an arrow down to zero has no end on this axis
        np.minimum(np.sqrt(variance) * scale, 0.999 * content * scale)[filled],
        color="black",
        marker="o",
        **style,
    )


def _core(ax: Axes, values: Array, mean: float, width: float, color: object) -> None:
    """The Gaussian, in its window, above what the window holds."""
    low, high = mean - _CORE * width, mean + _CORE * width
    below = np.interp([low, high], RESPONSE_EDGES, np.concatenate([[0.0], np.cumsum(values)])) / values.sum()
    x = np.linspace(low, high, 100)
    scale = (below[1] - below[0]) / (ndtr(_CORE) - ndtr(-_CORE)) / (width * np.sqrt(2 * np.pi))
    ax.plot(x, scale * np.exp(-0.5 * ((x - mean) / width) ** 2), color=color, linewidth=2.5)


def _tails(ax: Axes, parameters: Array, x: Array, color: object) -> None:
    """The Crystal Ball, normalised to the range that it was fitted in: tails may reach far beyond."""
    below = crystal_ball_cdf(RESPONSE_EDGES[[0, -1]], parameters)
    density = crystal_ball_density(x, parameters) / (below[1] - below[0])
    ax.plot(x, density, color=color, linestyle="--", linewidth=1.8)


def _corner(ax: Axes, lines: list[str]) -> None:
    """The bin in the left corner, numbers in the right."""
    at: dict[str, Any] = {"transform": ax.transAxes, "va": "top"}
    ax.text(0.04, 0.95, lines[0], fontsize=text_size(0.8), weight="bold", **at)
    ax.text(0.96, 0.85, "\n".join(lines[1:]), ha="right", fontsize=text_size(0.75), **at)


def _limits(ax: Axes, limits: tuple[float, float], largest: float) -> None:
    ax.set_xlim(*limits)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.set_yscale("log")
    ax.set_ylim(_LOWEST * largest, _HIGHEST * largest)
    ax.yaxis.set_major_locator(LogLocator(numticks=12))
    ax.yaxis.set_minor_locator(LogLocator(subs=tuple(range(1, 10)), numticks=60))
    ax.yaxis.set_minor_formatter(NullFormatter())
