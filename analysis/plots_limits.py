"""Figures of upper limits: on a cross-section or number of events, and on a coupling, with their expected bands.

Masses without a limit, or with one that its certificate does not prove, have a gap and a cross at the axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator
from numpy.typing import NDArray

from trila.analysis.curves import PICOBARN, Curve
from trila.analysis.fit_products import Coupling, Limit, Limits, column
from trila.analysis.plots_legend import make_room
from trila.analysis.plots_overlays import Line, draw_lines, draw_prediction, predicted_line
from trila.analysis.plots_scan import mark_failed, scan_axis
from trila.analysis.plots_style import (
    Label,
    finish,
    limit_log,
    new_figure,
    points,
    style_context,
    text_size,
)
from trila.fits.couplings import Scaling
from trila.processors.errors import InputError

__all__ = [
    "COUPLINGS",
    "Scan",
    "coupling_figure",
    "coupling_scan",
    "limit_scan",
    "limits_figure",
]

Array = NDArray[np.float64]

#: Keys of the limits on couplings: y label and x label.
COUPLINGS = {
    "coupling": (r"Coupling $g_q$", r"$m_{Z'}$ [GeV]"),
    "eps2": (r"Kinetic mixing $\varepsilon^2$", r"$m_{A'}$ [GeV]"),
}

_GREEN, _YELLOW = "#607641", "#F5BB54"
#: More masses than this are a line without markers.
_MANY = 60


class Scan(NamedTuple):
    """Limits at M masses.

    Attributes:
        mass: GeV, ascending, shape (M,).
        observed: NaN where there is none, shape (M,).
        expected: at -2, -1, 0, 1, 2 standard deviations, NaN where there are none, shape (M, 5).
        failed: masses where one of them is missing or not proved, shape (M,).
    """

    mass: Array
    observed: Array
    expected: Array
    failed: NDArray[np.bool_]


def limit_scan(limits: Limits) -> Scan:
    """The limits themselves, as arrays."""
    return _scan(limits.rows, limits.rows)


def coupling_scan(limits: Limits, key: str) -> Scan | None:
    """Those on a coupling, "coupling" or "eps2"; None where there are none at all."""
    found = [getattr(row, key) or Coupling(observed=None) for row in limits.rows]
    return _scan(limits.rows, found) if any(getattr(row, key) is not None for row in limits.rows) else None


def limits_figure(
    limits: Limits,
    label: Label,
    *,
    curves: Sequence[Curve] = (),
    theory: Scaling | None = None,
    log_x: bool | None = None,
) -> Figure:
    """Observed limits, and the median and the 68% and 95% bands of those expected without a signal.

    Args:
        limits: what is drawn.
        label: what stands above.
        curves: published limits to compare with, in fb, pb or nb.
        theory: predicted cross-sections; where they cross the observed limit is marked.
        log_x: whether the mass axis is logarithmic; by default where it spans a factor of 8.

    Raises:
        InputError: a curve or prediction in pb, and limits that are not a cross-section.
    """
    first, scan = limits.rows[0], limit_scan(limits)
    if first.unit not in PICOBARN and (theory or any(curve.unit for curve in curves)):
        raise InputError(
            f"limits on {first.unit} cannot be compared with a cross-section; make them with a luminosity, in pb"
        )
    unit = PICOBARN.get(first.unit, 1.0)
    lines = [Line(c.name, c.mass, c.value * PICOBARN.get(c.unit, unit) / unit) for c in curves]
    quantity = {"events": "signal events"}.get(first.unit, first.unit)
    if first.unit in PICOBARN:
        quantity = rf"$\sigma\,\mathcal{{B}}\,A$ [{first.unit}]"
    with style_context(label.style):
        figure = new_figure()
        ax = figure.add_subplot()
        handles = _draw(ax, scan) + draw_lines(ax, lines)
        if theory is not None:
            lines.append(predicted_line(theory, unit))
            handles += draw_prediction(ax, lines[-1], scan.mass, scan.observed)
        ax.set_ylabel(f"{100 * first.level:g}% CL upper limit on {quantity}")
        ax.set_xlabel("Resonance mass [GeV]")
        return _finish(figure, ax, scan, handles, lines, label, log_x)


def coupling_figure(
    limits: Limits, key: str, label: Label, *, curves: Sequence[Curve] = (), log_x: bool = True
) -> Figure | None:
    """Excluded couplings against mass; the excluded region is hatched.

    Args:
        limits: what is drawn.
        key: "coupling" or "eps2".
        label: what stands above.
        curves: published limits on the same coupling.
        log_x: whether the mass axis is logarithmic.

    Returns:
        None if no row has the key.
    """
    scan = coupling_scan(limits, key)
    if scan is None:
        return None
    y_label, x_label = COUPLINGS[key]
    lines = [Line(curve.name, curve.mass, curve.value) for curve in curves]
    with style_context(label.style):
        figure = new_figure()
        ax = figure.add_subplot()
        handles = _draw(ax, scan) + draw_lines(ax, lines)
        ax.set_ylabel(y_label)
        ax.set_xlabel(x_label)
        excluded = Patch(facecolor="none", edgecolor="0.35", hatch="///", linewidth=0.0, label="Excluded")
        title = f"{100 * limits.rows[0].level:g}% CL upper limits"
        _finish(figure, ax, scan, [*handles, excluded], lines, label, log_x, title)
        top = np.full(scan.mass.size, ax.get_ylim()[1])
        ax.fill_between(
            scan.mass, scan.observed, top, facecolor="none", edgecolor="0.35", hatch="///", linewidth=0.0, zorder=1.4,
            gid="excluded",
        )  # fmt: skip
        return figure


def _scan(rows: Sequence[Limit], limits: Sequence[Limit] | Sequence[Coupling]) -> Scan:
    proved = np.array([row.certificate.passed for row in rows])
    observed = np.where(proved, column([limit.observed for limit in limits]), np.nan)
    bands = np.array([limit.expected or (None,) * 5 for limit in limits], np.float64)
    expected = np.where(proved[:, None], bands, np.nan)
    failed = np.isnan(observed) | np.isnan(expected).any(axis=1)
    return Scan(column([row.mass for row in rows]), observed, expected, failed)


def _draw(ax: Axes, scan: Scan) -> list[Any]:
    """Bands, lines and crosses of a scan; returns the entries of the legend."""
    mass, marked = scan.mass, scan.mass.size <= _MANY
    for low, high, color, zorder in ((0, 4, _YELLOW, 1.0), (1, 3, _GREEN, 1.1)):
        ax.fill_between(
            mass, scan.expected[:, low], scan.expected[:, high], color=color, linewidth=0.0, zorder=zorder, gid=f"band{high - 1}"
        )  # fmt: skip
        # A mass whose neighbours failed has no area; its band is a bar.
        alone = _alone(scan.expected[:, low])
        ax.vlines(
            mass[alone],
            scan.expected[alone, low],
            scan.expected[alone, high],
            color=color,
            linewidth=6,
            zorder=zorder,
        )
    (median,) = ax.plot(
        mass, scan.expected[:, 2], color="black", linestyle="--", label="Median expected", zorder=2
    )
    (observed,) = ax.plot(
        mass, scan.observed, color="black", marker="o", markersize=points()["markersize"] * (0.7 if marked else 0.5),
        markevery=slice(None) if marked else [int(i) for i in np.flatnonzero(_alone(scan.observed))],
        label="Observed", zorder=2.1,
    )  # fmt: skip
    bands = [Patch(color=_GREEN, label="68% expected"), Patch(color=_YELLOW, label="95% expected")]
    return [observed, median, *bands, *mark_failed(ax, mass, scan.failed, "No limit")]


def _alone(values: Array) -> NDArray[np.bool_]:
    """Points without a neighbour to be joined to."""
    there = np.isfinite(np.concatenate([[np.nan], values, [np.nan]]))
    return np.asarray(there[1:-1] & ~there[:-2] & ~there[2:])


def _finish(
    figure: Figure,
    ax: Axes,
    scan: Scan,
    handles: Sequence[Any],
    lines: Sequence[Line],
    label: Label,
    log_x: bool | None,
    title: str | None = None,
) -> Figure:
    """Axes around the scan, legend and label. What is laid over does not widen the mass axis."""
    scan_axis(ax, scan.mass, log_x)
    low, high = ax.get_xlim()
    inside = [line.value[(line.mass >= low) & (line.mass <= high)] for line in lines]
    values = np.concatenate([scan.observed, scan.expected.ravel(), *inside])
    if np.isfinite(values).any():
        limit_log(ax, values, top=0.2)
    else:
        ax.set_yticks([])
    _name_ticks(ax)
    legend = ax.legend(
        handles=handles, loc="upper right", title=title, title_fontsize=text_size(0.85),
        fontsize=text_size(0.85), alignment="left", borderaxespad=0.3, labelspacing=0.3, ncols=1 if len(handles) < 5 else 2,
        columnspacing=1.0, frameon=title is not None, framealpha=1.0, edgecolor="none",
    )  # fmt: skip
    finish(figure, label, [ax])
    everything = [(scan.mass, scan.observed), (scan.mass, scan.expected[:, 4])]
    make_room(ax, legend, everything + [(line.mass, line.value) for line in lines])
    return figure


def _name_ticks(ax: Axes) -> None:
    """Numbers also at 2 and 5 where a logarithmic axis has few decades."""
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log" and high < 100 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        ax.yaxis.set_major_formatter(FuncFormatter(_number))


def _number(value: float, _position: int | None) -> str:
    """A number as text: plain, or with a power of ten where it is far from one.

    >>> _number(0.2, None), _number(5e-7, None)
    ('0.2', '$5\\\\times 10^{-7}$')
    """
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    digits, power = f"{value:.0e}".split("e")
    return rf"${digits}\times 10^{{{int(power)}}}$"
