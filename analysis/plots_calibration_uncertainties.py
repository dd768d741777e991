"""Figures of a calibration's uncertainties: by source versus pT, and what they do to a mass spectrum."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trila.analysis.derive import Derived
from trila.analysis.plots_calibration_regions import (
    eta_label,
    eta_of,
    limit_linear,
    quadrature,
    statistical,
)
from trila.analysis.plots_style import (
    Label,
    colors,
    finish,
    new_figure,
    numbered_log_axis,
    style_context,
    text_size,
    transverse_momentum,
)
from trila.corrections.calibration import Calibration
from trila.corrections.distortion import mass_distortion

__all__ = ["mass_distortion_figure", "uncertainties_figure"]

Array = NDArray[np.float64]

_NAMES = {
    "method": "Estimator",
    "binning": "Binning",
    "trigger": "Trigger",
    "smoothing": "Smoothing",
    "closure": "Closure",
    "pileup": "Pile-up",
}
_LINES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 1)), (0, (8, 3)))


def uncertainties_figure(calibration: Calibration, region: int, label: Label) -> Figure | None:
    """Relative uncertainties of the calibrated pT by source, and their sum in quadrature.

    Args:
        calibration: with a curve in this region.
        region: number of the region.
        label: what stands above.

    Returns:
        The figure; None if the region has no curve.
    """
    if calibration.curves[region] is None:
        return None
    sources = calibration.sources[region]
    lines = {"Statistical": statistical(sources)}
    lines |= {
        _NAMES.get(name, name): np.abs(change)
        for name, change in sources.items()
        if not name.startswith("statistical")
    }
    return _sources_figure(
        np.exp(calibration.log_pt[region]),
        lines,
        quadrature(sources),
        label,
        eta=eta_of(calibration.eta_edges, region),
        x_label=f"Calibrated {transverse_momentum('hlt')} [GeV]",
        y_label=f"Uncertainty of {transverse_momentum('hlt')} [%]",
    )


def mass_distortion_figure(derived: Derived, region: int, index: float, label: Label) -> Figure | None:
    """By how much each source changes a falling dijet mass spectrum, if both jets lie in this region.

    The masses are those of two jets with the pT that bins of the measurement have on average: where the curve
    goes on beyond them, its derivative means little.

    Args:
        derived: the calibration, and its measurements.
        region: number of the region.
        index: n of the spectrum m^-n.
        label: what stands above.

    Returns:
        The figure; None if the region has no curve, or a single bin.
    """
    calibration, measured = derived.calibration, derived.scale.measurement
    if calibration.curves[region] is None:
        return None
    pt = measured.pt_offline[region][measured.used[region]]
    log_mass = calibration.log_pt[region] + np.log(2.0)
    inside = (log_mass >= np.log(2.0 * pt.min())) & (log_mass <= np.log(2.0 * pt.max()))
    if inside.sum() < 2:
        return None
    changes = {
        name: mass_distortion(log_mass, change, index)[inside]
        for name, change in calibration.sources[region].items()
    }
    lines = {"Statistical": statistical(changes)}
    lines |= {
        _NAMES.get(name, name): change
        for name, change in changes.items()
        if not name.startswith("statistical")
    }
    return _sources_figure(
        np.exp(log_mass[inside]),
        lines,
        quadrature(changes),
        label,
        eta=eta_of(calibration.eta_edges, region),
        x_label="Dijet mass [GeV]",
        y_label=r"$\Delta \ln N(m)$ [%]" + rf" for $\mathrm{{d}}N/\mathrm{{d}}m \sim m^{{-{index:g}}}$",
        symmetric=True,
    )


def _sources_figure(
    x: Array, lines: dict[str, Array], total: Array, label: Label, *, eta: tuple[float, float],
    x_label: str, y_label: str, symmetric: bool = False,
) -> Figure:  # fmt: skip
    """One line a source, and the total as a filled area: above zero, or on both sides of it."""
    with style_context(label.style):
        figure = new_figure(height=1.05)
        ax = figure.add_subplot()
        low = -total if symmetric else np.zeros_like(total)
        ax.fill_between(x, 100 * low, 100 * total, color="grey", alpha=0.25, linewidth=0, label="Total")
        drawn = {name: values for name, values in lines.items() if np.any(values)}
        for (name, values), color, line in zip(drawn.items(), colors(len(drawn)), _LINES, strict=False):
            ax.plot(x, 100 * values, color=color, linestyle=line, label=name)
        numbered_log_axis(ax.xaxis, float(x[0]), float(x[-1]))
        if symmetric:
            ax.axhline(0.0, color="grey", linewidth=1.0, zorder=0)
            limit_linear(ax, [100 * low, 100 * total], top=0.3, least=0.1)
        else:
            limit_linear(ax, [100 * low, 100 * total], top=0.3, least=0.1)
            ax.set_ylim(bottom=0.0)
        _name(ax, x_label, y_label, eta, [name for name in lines if name not in drawn])
        return finish(figure, label, [ax])


def _name(ax: Axes, x_label: str, y_label: str, eta: tuple[float, float], zero: list[str]) -> None:
    """Labels and legend; sources that change nothing are named in its title."""
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    title = eta_label(eta) + (f"; zero: {', '.join(zero).casefold()}" if zero else "")
    ax.legend(
        loc="upper right", ncols=3, columnspacing=1.0, borderaxespad=0.2, title=title,
        title_fontsize=text_size(), fontsize=text_size(0.9),
    )  # fmt: skip
