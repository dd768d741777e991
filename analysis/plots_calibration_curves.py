"""Figures of what a calibration corrects: response and its curve versus pT, estimators, factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.derive import Derived
from trila.analysis.plots_calibration_regions import (
    Sides,
    eta_label,
    eta_of,
    limit_linear,
    marker_handle,
    quadrature,
    statistical,
)
from trila.analysis.plots_response_curves import LEAST_ENTRIES, pt_ratio
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
from trila.corrections.calibration import Calibration
from trila.corrections.cells import cell_of
from trila.corrections.derivation import Measurement
from trila.corrections.estimators import ESTIMATORS, locations

__all__ = ["estimators_figure", "factor_eta_figure", "factor_pt_figure", "response_figure"]

Array = NDArray[np.float64]

# What a calibration of jets at the trigger level aims at.
_GOAL = 0.01
# Raw HLT pT (GeV) at which the factors are drawn versus η, where the curves reach it.
_MOMENTA = (30.0, 60.0, 120.0, 300.0, 800.0)
_ESTIMATOR_NAMES = {
    "median": "median",
    "core": "Gaussian core",
    "crystal_ball": "Crystal Ball peak",
    "ratio_of_means": "ratio of means",
}


def response_figure(derived: Derived, group: Sides, label: Label) -> Figure | None:
    """Response versus offline pT with the fitted curve, and what the calibration leaves of it.

    The probes of a bin of the tag's pT are spread in pT, and the curve is fitted to averages over them: a point
    may lie beside the curve where that bends, and still agree with it, as the lower panel shows.

    Args:
        derived: the calibration, and its measurements.
        group: regions of η.
        label: what stands above.

    Returns:
        The figure; None if no region has a curve.
    """
    calibration, measured = derived.calibration, derived.scale.measurement
    regions = [region for region in group.regions if calibration.curves[region] is not None]
    if not regions:
        return None
    with style_context(label.style):
        figure = new_figure(height=1.15)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1.7, 1.0])
        above, below, across = [], [np.array([1 - 1.5 * _GOAL, 1 + 1.5 * _GOAL])], []
        for region, color, marker in zip(regions, colors(2), markers(), strict=False):
            pt, response, band = _curve(calibration, region)
            for size, alpha in ((band[1], 0.2), (band[0], 0.4)):
                upper.fill_between(
                    pt, response - size, response + size, color=color, alpha=alpha, linewidth=0, zorder=1
                )
            upper.plot(pt, response, color=color, linewidth=1.5, zorder=2)
            above += [response - band[1], response + band[1]]
            across += [pt]
            eta = eta_of(calibration.eta_edges, region)
            for used in (True, False):
                which = measured.used[region] if used else _unfitted(measured, region)
                style = {**points(), "color": color, "marker": marker, "markeredgewidth": 1.0}
                if not used:
                    style["markerfacecolor"] = "white"
                name = eta_label(eta) if used else None
                x = measured.pt_offline[region][which]
                for ax, values in ((upper, measured.response), (lower, measured.corrected)):
                    y = values[region][which]
                    ax.errorbar(x, y, y * measured.error[region][which], label=name, **style)
            inside = measured.used[region]
            error = measured.error[region][inside]
            for values, limits in ((measured.response, above), (measured.corrected, below)):
                y = values[region][inside]
                limits += [y * (1 - error), y * (1 + error)]
            across.append(measured.pt_offline[region][inside])
        low, high = (f(np.concatenate(across)) for f in (np.min, np.max))
        numbered_log_axis(upper.xaxis, 0.93 * float(low), 1.07 * float(high))
        limit_linear(upper, above, top=0.3, least=0.03)
        limit_linear(lower, below, top=0.0)
        for ax in (upper, lower):
            ax.axhline(1.0, color="grey", linestyle="--", linewidth=1.0, zorder=0)
        lower.axhspan(1 - _GOAL, 1 + _GOAL, color="grey", alpha=0.2, linewidth=0, zorder=0)
        upper.set_ylabel(f"Response {pt_ratio('hlt', 'offline')}")
        lower.set_ylabel("Calibrated")
        lower.set_xlabel(f"{transverse_momentum('offline')} [GeV]")
        handles, _ = upper.get_legend_handles_labels()
        handles += _band_handles("grey")
        if any(_unfitted(measured, region).any() for region in regions):
            handles.append(marker_handle("Not fitted", color="grey", face="white"))
        # Opaque, as the line at one may pass behind it.
        upper.legend(
            handles=handles, loc="upper right", ncols=2, columnspacing=1.0, borderaxespad=0.2,
            frameon=True, framealpha=1.0, edgecolor="none",
        )  # fmt: skip
        figure.align_ylabels([upper, lower])
        return finish(figure, label, [upper])


def _unfitted(measured: Measurement, region: int) -> NDArray[np.bool_]:
    """Bins that have too few pairs for the fit, but enough to be seen."""
    return np.asarray(~measured.used[region] & (measured.entries[region] >= LEAST_ENTRIES))


def _curve(calibration: Calibration, region: int) -> tuple[Array, Array, tuple[Array, Array]]:
    """Calibrated pT, response, and its statistical and total uncertainty; shape (points,) each."""
    curve, log_pt, sources = (
        calibration.curves[region],
        calibration.log_pt[region],
        calibration.sources[region],
    )
    assert curve is not None
    response = np.exp(curve.log_response(log_pt))
    # The sources are changes at the same raw pT; these are at the same calibrated one.
    scale = response * (1.0 + curve.slope(log_pt))
    return np.exp(log_pt), response, (scale * statistical(sources), scale * quadrature(sources))


def _band_handles(color: str) -> list[Line2D]:
    return [
        Line2D([], [], color=color, alpha=alpha, linewidth=10, label=text)
        for alpha, text in ((0.7, "Fit, stat. unc."), (0.35, "Total unc."))
    ]


def estimators_figure(
    derived: Derived, config: CalibrationConfig, region: int, label: Label
) -> Figure | None:
    """The response of all estimators versus offline pT in one region of η, before calibration.

    Args:
        derived: the calibration, and its pairs.
        config: what it was derived with.
        region: number of the region.
        label: what stands above.

    Returns:
        The figure; None if no bin was used.
    """
    measured, eta = derived.scale.measurement, eta_of(config.scale.eta_edges, region)
    used = measured.used[region]
    if not used.any():
        return None
    pairs = derived.pairs.take((derived.pairs.eta >= eta[0]) & (derived.pairs.eta < eta[1]))
    cell, cells = cell_of((pairs.tag, config.scale.pt_edges))
    hlt, offline = pairs.hlt.astype(np.float64), pairs.offline.astype(np.float64)
    found = {name: locations(name, cell, hlt, offline, pairs.weight, cells)[used] for name in ESTIMATORS}
    reference, error = found[config.scale.estimator], measured.error[region][used]
    x = measured.pt_offline[region][used]
    with style_context(label.style):
        figure = new_figure(height=1.15)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, 1.0])
        above, below = [], []
        lower.fill_between(x, -100 * error, 100 * error, color="grey", alpha=0.25, linewidth=0)
        for name, color, marker in zip(found, colors(len(found)), markers(), strict=False):
            style = {"color": color, "marker": marker, "linestyle": "-", "linewidth": 1.0}
            size = points()["markersize"]
            difference = 100.0 * (found[name] / reference - 1.0)
            upper.plot(x, found[name], markersize=size, label=_ESTIMATOR_NAMES[name], **style)
            lower.plot(x, difference, markersize=size, **style)
            above.append(found[name])
            below.append(difference)
        numbered_log_axis(upper.xaxis, 0.93 * float(x.min()), 1.07 * float(x.max()))
        limit_linear(upper, above, top=0.35)
        limit_linear(lower, [*below, -100 * error, 100 * error], top=0.0)
        upper.set_ylabel(f"Response {pt_ratio('hlt', 'offline')}")
        lower.set_ylabel(f"Rel. to {_ESTIMATOR_NAMES[config.scale.estimator]} [%]")
        lower.set_xlabel(f"{transverse_momentum('offline')} [GeV]")
        handles, _ = upper.get_legend_handles_labels()
        handles.append(Line2D([], [], color="grey", alpha=0.4, linewidth=10, label="Stat. unc. (correlated)"))
        upper.legend(
            handles=handles, loc="upper right", ncols=2, columnspacing=1.0, borderaxespad=0.2,
            title=eta_label(eta), title_fontsize=text_size(), fontsize=text_size(0.9),
        )  # fmt: skip
        figure.align_ylabels([upper, lower])
        return finish(figure, label, [upper])


def factor_pt_figure(calibration: Calibration, groups: Sequence[Sides], label: Label) -> Figure | None:
    """The factor on the raw HLT pT, with its total uncertainty, for each region of η.

    Args:
        calibration: with curves.
        groups: regions of η, of which mirrored ones have one colour.
        label: what stands above.

    Returns:
        The figure; None if no region has a curve.
    """
    with style_context(label.style):
        figure = new_figure(height=1.05)
        ax = figure.add_subplot()
        series, across, handles = [], [], []
        for group, color in zip(groups, colors(len(groups), ordered=True), strict=True):
            for region, line in zip(group.regions, ("-", "--"), strict=False):
                if calibration.curves[region] is None:
                    continue
                raw, factor, band = _factor(calibration, region)
                ax.fill_between(
                    raw, factor - band, factor + band, color=color, alpha=0.15, linewidth=0, zorder=1
                )
                ax.plot(raw, factor, color=color, linestyle=line, zorder=2)
                series += [factor - band, factor + band]
                across.append(raw)
            handles.append(Line2D([], [], color=color, label=group.text))
        if not series:
            return None
        if any(len(group.regions) > 1 for group in groups):
            handles.append(Line2D([], [], color="black", linestyle="-", label=r"$\eta > 0$"))
            handles.append(Line2D([], [], color="black", linestyle="--", label=r"$\eta < 0$"))
        numbered_log_axis(ax.xaxis, min(float(x.min()) for x in across), max(float(x.max()) for x in across))
        _factor_axis(ax, series)
        ax.set_xlabel(f"{transverse_momentum('hlt')} before calibration [GeV]")
        ax.legend(
            handles=handles, loc="upper right", ncols=2, columnspacing=1.0, borderaxespad=0.2,
            fontsize=text_size(0.9),
        )  # fmt: skip
        return finish(figure, label, [ax])


def _factor(calibration: Calibration, region: int) -> tuple[Array, Array, Array]:
    """Raw pT, factor on it and the factor's total uncertainty; shape (points,) each."""
    curve, log_pt = calibration.curves[region], calibration.log_pt[region]
    assert curve is not None
    log_response = curve.log_response(log_pt)
    factor = np.exp(-log_response)
    return np.exp(log_pt + log_response), factor, factor * quadrature(calibration.sources[region])


def _factor_axis(ax: Axes, series: Sequence[Array]) -> None:
    ax.axhline(1.0, color="grey", linestyle="--", linewidth=1.0, zorder=0)
    limit_linear(ax, series, top=0.3, least=0.05)
    ax.set_ylabel(f"Factor on {transverse_momentum('hlt')}")


def factor_eta_figure(calibration: Calibration, label: Label) -> Figure | None:
    """The factor versus η for several raw HLT pT, where the curves reach them, with its total uncertainty.

    Args:
        calibration: with curves.
        label: what stands above.

    Returns:
        The figure; None if no curve reaches any.
    """
    edges = np.asarray(calibration.eta_edges)
    found = {}
    for pt in _MOMENTA:
        rows = np.full((2, edges.size - 1), np.nan)
        for region, curve in enumerate(calibration.curves):
            if curve is not None:
                raw, factor, band = _factor(calibration, region)
                if raw[0] <= pt <= raw[-1]:
                    rows[:, region] = np.interp(pt, raw, factor), np.interp(pt, raw, band)
        if np.isfinite(rows).any():
            found[pt] = rows
    if not found:
        return None
    with style_context(label.style):
        figure = new_figure(height=1.05)
        ax = figure.add_subplot()
        series = []
        for (pt, (factor, band)), color in zip(found.items(), colors(len(found), ordered=True), strict=True):
            ax.stairs(factor, edges, color=color, baseline=None, linewidth=2.0, label=f"{pt:g} GeV", zorder=2)
            ax.stairs(
                factor + band, edges, baseline=factor - band, fill=True, color=color, alpha=0.2, zorder=1
            )
            series += [factor - band, factor + band]
        ax.set_xlim(edges[0], edges[-1])
        _factor_axis(ax, series)
        ax.set_xlabel(r"$\eta^\mathrm{HLT}$")
        ax.legend(
            loc="upper center", ncols=3, columnspacing=1.0, borderaxespad=0.2,
            title=f"{transverse_momentum('hlt')} before calibration", title_fontsize=text_size(),
        )  # fmt: skip
        return finish(figure, label, [ax])
