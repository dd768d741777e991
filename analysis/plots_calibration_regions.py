"""What the figures of a calibration share: which regions of η they show, and under which names.

Regions of positive and negative η that mirror each other are drawn together (`Sides`); of a fine binning only
some are drawn (`representative`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from trila.analysis.plots_response_curves import region_label
from trila.analysis.plots_style import headroom, points

__all__ = [
    "CENTRAL",
    "FORWARD",
    "Sides",
    "eta_label",
    "eta_of",
    "limit_linear",
    "marker_handle",
    "nearest",
    "quadrature",
    "region_name",
    "representative",
    "sides",
    "statistical",
]

Array = NDArray[np.float64]

CENTRAL, FORWARD = 0.5, 2.2
"""|η| of the two regions that stand for barrel and endcap where only two are shown."""


class Sides(NamedTuple):
    """One region of η, or the two that mirror each other.

    Attributes:
        span: lower and upper |η| of mirrored regions, else η.
        regions: their numbers; that at positive η first.
        text: the span as mathematical text.
    """

    span: tuple[float, float]
    regions: tuple[int, ...]
    text: str

    @property
    def name(self) -> str:
        """Of the span, in names of files."""
        return region_name(self.span)


def sides(eta_edges: Sequence[float]) -> tuple[Sides, ...]:
    """All regions, from the centre outwards.

    Args:
        eta_edges: of the regions, ascending.

    Example:
        >>> [group.regions for group in sides([-2.5, -1.3, 0.0, 1.3, 3.0])]
        [(2, 1), (0,), (3,)]
    """
    regions = list(pairwise(eta_edges))
    found = []
    for number, (low, high) in enumerate(regions):
        mirror = [
            other
            for other, edges in enumerate(regions)
            if math.isclose(edges[0], -high, abs_tol=1e-6) and math.isclose(edges[1], -low, abs_tol=1e-6)
        ]
        if mirror == [number]:
            found.append(Sides((0.0, high), (number,), region_label((0.0, high))))
        elif mirror and low > regions[mirror[0]][0]:
            found.append(Sides((max(low, 0.0), high), (number, mirror[0]), region_label((low, high))))
        elif not mirror:
            found.append(Sides((low, high), (number,), eta_label((low, high))))
    return tuple(sorted(found, key=lambda group: abs(sum(group.span))))


def eta_of(eta_edges: Sequence[float], region: int) -> tuple[float, float]:
    """Lower and upper η of a region."""
    return eta_edges[region], eta_edges[region + 1]


def eta_label(region: tuple[float, float]) -> str:
    """A region of signed η as mathematical text."""
    return rf"${region[0]:.3g} < \eta < {region[1]:.3g}$"


def region_name(region: tuple[float, float]) -> str:
    """A region in names of files."""
    return f"eta_{region[0]:g}_{region[1]:g}"


def representative(groups: Sequence[Sides], most: int) -> list[Sides]:
    """At most `most` of the regions, spread evenly, the innermost and the outermost among them."""
    chosen = np.linspace(0, len(groups) - 1, min(most, len(groups))).round().astype(int)
    return [groups[number] for number in np.unique(chosen)]


def nearest(groups: Sequence[Sides], eta: float) -> Sides:
    """The regions whose centre is nearest to an |η|."""
    return min(groups, key=lambda group: abs(0.5 * abs(sum(group.span)) - eta))


def quadrature(sources: Mapping[str, Array]) -> Array:
    """Sizes of uncertainties added in quadrature, shape (points,)."""
    return np.asarray(np.sqrt(np.sum([change**2 for change in sources.values()], axis=0)))


def statistical(sources: Mapping[str, Array]) -> Array:
    """Size of the statistical uncertainty: its variations are independent of each other."""
    return quadrature({name: change for name, change in sources.items() if name.startswith("statistical")})


def marker_handle(text: str, *, color: Any, marker: str = "o", face: Any = None) -> Line2D:
    """A point in a legend.

    Args:
        text: what it stands for.
        color, marker: its look.
        face: colour inside, if another.
    """
    style: dict[str, Any] = {
        "linestyle": "none",
        "markeredgewidth": 1.2,
        "markersize": points()["markersize"],
    }
    return Line2D([], [], color=color, marker=marker, markerfacecolor=face or color, label=text, **style)


def limit_linear(ax: Axes, series: Sequence[Array], *, top: float, least: float = 0.0) -> None:
    """Linear y axis around all finite values, with a fraction `top` of its length left free above them.

    Args:
        ax: whose y axis.
        series: the values.
        top: for the legend.
        least: length that the axis has in any case.
    """
    values = np.concatenate([np.ravel(part) for part in series])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = max(0.08 * (high - low), 0.5 * (least - (high - low)), 1e-6)
    headroom(ax, low - margin, high + margin, top=top)
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
