"""What figures against mass share: the mass axis, and crosses where there is no result."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from trila.analysis.plots_style import numbered_log_axis, text_size

__all__ = ["is_wide", "mark_failed", "mass_axis", "scan_axis"]

Array = NDArray[np.float64]

#: Upper over lower end of an axis from which on it is logarithmic.
_WIDE = 8.0


def is_wide(low: float, high: float, log_x: bool | None) -> bool:
    """Whether an axis from `low` to `high` is logarithmic: as asked for, by default where these are a factor of 8 apart."""
    return low > 0 and (high >= _WIDE * low if log_x is None else log_x)


def mass_axis(ax: Axes, low: float, high: float, log_x: bool | None) -> None:
    """A mass axis from `low` to `high` GeV, logarithmic or not as `is_wide` says."""
    if is_wide(low, high, log_x):
        numbered_log_axis(ax.xaxis, low, high)
    else:
        ax.set_xlim(low, high)
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def scan_axis(ax: Axes, mass: Array, log_x: bool | None) -> None:
    """A mass axis from the first to the last mass of a scan, GeV, or around the only one."""
    low, high = float(mass[0]), float(mass[-1])
    mass_axis(ax, *((low, high) if low < high else (0.9 * low, 1.1 * high)), log_x)


def mark_failed(ax: Axes, mass: Array, failed: NDArray[np.bool_], text: str) -> list[Any]:
    """Crosses at the mass axis, counted in the legend.

    Args:
        ax: where.
        mass: all masses, GeV, shape (M,).
        failed: those to mark, shape (M,).
        text: what they have in common, for the legend.

    Returns:
        The entry of the legend; empty if no mass failed.
    """
    if not failed.any():
        return []
    number = int(failed.sum())
    return ax.plot(
        mass[failed], np.full(number, 0.03), color="red", marker="x", linestyle="none", markeredgewidth=2.0,
        markersize=0.5 * text_size(), transform=ax.get_xaxis_transform(), clip_on=False, zorder=4, gid="failed",
        label=f"{text}: {number} of {mass.size} masses",
    )  # fmt: skip
