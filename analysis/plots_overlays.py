"""What is laid over limits: published curves, and a prediction with the masses at which it crosses the limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from trila.analysis.plots_style import colors, text_size
from trila.fits.couplings import Scaling

__all__ = ["Line", "crossings", "draw_lines", "draw_prediction", "predicted_line"]

Array = NDArray[np.float64]

#: Crossings that a legend has room for.
_NAMED = 3
#: Points of a prediction, so close that straight lines join them on any axis.
_CLOSE = 200


class Line(NamedTuple):
    """A curve in the unit of the axis: its name, masses in GeV, and values, both of shape (n,)."""

    name: str
    mass: Array
    value: Array


def crossings(mass: Array, limit: Array, prediction: Array) -> Array:
    """Masses at which a prediction crosses a limit; both are straight between neighbours in the logarithms.

    Args:
        mass: GeV, ascending, shape (M,).
        limit: NaN where there is none, shape (M,).
        prediction: NaN where there is none, shape (M,).

    >>> crossings(np.array([100.0, 400.0]), np.array([1.0, 1.0]), np.array([2.0, 0.5])).round(6).tolist()
    [200.0]
    """
    x, difference = np.log(mass), np.log(prediction) - np.log(limit)
    first, second = difference[:-1], difference[1:]
    between = np.flatnonzero(np.isfinite(first) & np.isfinite(second) & ((first < 0) != (second < 0)))
    part = first[between] / (first[between] - second[between])
    return np.asarray(np.exp(x[between] + part * (x[between + 1] - x[between])))


def predicted_line(theory: Scaling, unit: float) -> Line:
    """A prediction, interpolated as for limits on couplings, in units of so many pb."""
    couplings = np.unique(theory.coupling)
    name = f"Prediction, $g$ = {couplings[0]:g}" if couplings.size == 1 else "Prediction"
    mass = np.union1d(np.geomspace(theory.mass[0], theory.mass[-1], _CLOSE)[1:-1], theory.mass)
    return Line(name, mass, _interpolated(mass, theory.mass, theory.sigma / unit))


def draw_lines(ax: Axes, lines: Sequence[Line]) -> list[Any]:
    """Published curves; returns the entries of the legend."""
    styles = ("-", "-.", ":", "--")
    return [
        ax.plot(line.mass, line.value, color=color, linestyle=styles[i % 4], label=line.name, zorder=2.5)[0]
        for i, (line, color) in enumerate(zip(lines, colors(len(lines)), strict=True))
    ]


def draw_prediction(ax: Axes, line: Line, mass: Array, limit: Array) -> list[Any]:
    """A prediction, with diamonds where it crosses a limit; returns the entry of the legend."""
    found = crossings(mass, limit, _interpolated(mass, line.mass, line.value))
    color, name = "#bd1f01", line.name
    ax.plot(
        found, _interpolated(found, line.mass, line.value), color=color, marker="D", linestyle="none",
        markersize=0.5 * text_size(), markeredgecolor="black", markeredgewidth=1.0, zorder=3, gid="crossings",
    )  # fmt: skip
    if 0 < found.size <= _NAMED:
        name += f", crosses at {', '.join(f'{x:.4g}' for x in found)} GeV"
    elif found.size:
        name += f", {found.size} crossings"
    return ax.plot(line.mass, line.value, color=color, linestyle="-.", linewidth=3, label=name, zorder=2.6)


def _interpolated(mass: Array, known: Array, value: Array) -> Array:
    """Straight lines in the logarithms of both; NaN outside."""
    inside = (mass >= known[0]) & (mass <= known[-1])
    return np.where(inside, np.exp(np.interp(np.log(mass), np.log(known), np.log(value))), np.nan)
