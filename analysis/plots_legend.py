"""Legends beside the data: the y axis grows until what is drawn lies below the legend.

Use `make_room` after `finish`: only then is it known how large the legend is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from numpy.typing import NDArray

__all__ = ["make_room"]

Array = NDArray[np.float64]

#: Free space around a legend, in parts of the axes.
_GAP = 0.025
#: Points that stand for the line between two neighbours.
_BETWEEN = 8


def make_room(ax: Axes, legend: Legend, series: Sequence[tuple[Array, Array]]) -> None:
    """Raise the upper end of the y axis until no line lies under a legend at the top, nor above 0.96 of the axes.

    Args:
        ax: with its final size; its y axis may be linear or logarithmic.
        legend: at the top of it.
        series: x and y of each line, of one shape; NaN is passed over.
    """
    box = legend.get_window_extent().transformed(ax.transAxes.inverted())
    scale = ax.yaxis.get_transform()
    low, high = ax.get_ylim()
    bottom, top = scale.transform(np.array([low, high]))
    for x, y in series:
        keep = np.isfinite(x) & np.isfinite(y) & (y > low)
        if not keep.any():
            continue
        number = np.arange(keep.sum())
        along = np.linspace(0.0, number[-1], number.size * _BETWEEN)
        places = ax.transData.transform(np.column_stack([x[keep], y[keep]]))
        place = np.interp(along, number, ax.transAxes.inverted().transform(places)[:, 0])
        level = np.interp(along, number, scale.transform(y[keep]))
        within = (place >= -_GAP) & (place <= 1 + _GAP)
        under = (place > box.x0 - _GAP) & (place < box.x1 + _GAP)
        part = np.where(under, max(box.y0 - _GAP, 0.1), 0.96)
        top = max(top, float(np.max((bottom + (level - bottom) / part)[within], initial=top)))
    ax.set_ylim(low, float(scale.inverted().transform(np.array([top]))[0]))
