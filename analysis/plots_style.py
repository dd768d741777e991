"""The common look of the figures: experiment style, label, axes, and how a figure becomes files.

What to use when:

* inside `with style_context(label.style):` a figure is made by `new_figure`, finished by `finish`;
* `save_figure` writes it as PNG and PDF, in the same style, because matplotlib reads the fonts of mathematical
  text only when it draws;
* `numbered_log_axis`, `limit_log`, `headroom` set axes so that ticks are readable and legends lie beside the data.

Nothing here, and in the other `plots_*` modules, changes the global matplotlib state: figures are plain
`matplotlib.figure.Figure` objects, unknown to pyplot, so there is nothing to close and no display is needed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import matplotlib
import matplotlib.style
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from trila.analysis.plot_records import Kind, plot_metadata
from trila.analysis.provenance import Provenance

__all__ = [
    "REFERENCE_NAMES",
    "Label",
    "Style",
    "colors",
    "count_axis",
    "figure_size",
    "finish",
    "headroom",
    "limit_log",
    "markers",
    "new_figure",
    "numbered_log_axis",
    "points",
    "save_figure",
    "style_context",
    "text_size",
    "transverse_momentum",
]

Style = Literal["cms", "atlas", "lhcb"]

REFERENCE_NAMES = {"offline": "offline", "gen": "particle", "average": "avg", "hlt": "HLT", "tag": "tag"}
"""How a kind of jet is written in an axis label."""


@dataclass(frozen=True)
class Label:
    """What stands above every figure.

    A text that begins with "Private work" is written without the experiment's name: whoever draws a toy
    simulation, or has no approval, must not sign for the collaboration.
    """

    style: Style = "cms"
    text: str = "Private work"
    is_data: bool = False
    com: float | None = None
    """Centre-of-mass energy in TeV."""
    lumi: float | None = None
    """Integrated luminosity in 1/pb; written in 1/fb from 100 1/pb on."""

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise ValueError(f"style is {self.style!r}; choose one of {', '.join(get_args(Style))}")


@contextmanager
def style_context(style: Style) -> Iterator[None]:
    """The experiment's style from mplhep on top of matplotlib's defaults; the user's settings come back after."""
    sheet = {"cms": mplhep.style.CMS, "atlas": mplhep.style.ATLAS, "lhcb": mplhep.style.LHCb}[style]
    # Journals ask for TrueType fonts in PDF. `round_numbers` (ATLAS) would move limits that are set on purpose;
    # LHCb's tight bounding box makes the size of a figure depend on its text.
    own = {
        "pdf.fonttype": 42,
        "axes.autolimit_mode": "data",
        "savefig.bbox": None,
        "errorbar.capsize": 0,
        "lines.linewidth": 2.0,
        "lines.markeredgewidth": 0.0,
        "patch.linewidth": 1.0,
        "figure.dpi": 100,
        "savefig.dpi": 100,
    }
    if style == "lhcb":
        own["axes.labelpad"] = 10.0  # else the large labels touch the numbers
    with matplotlib.style.context([sheet, own], after_reset=True):
        yield


def figure_size(width: float = 1.0, height: float = 1.0) -> tuple[float, float]:
    """Size in inches, in units of the style's own figure."""
    style_width, style_height = matplotlib.rcParams["figure.figsize"]
    return width * style_width, height * style_height


def new_figure(width: float = 1.0, height: float = 1.0) -> Figure:
    """An empty figure in the current style; the size in units of the style's own figure."""
    return Figure(figsize=figure_size(width, height), layout="constrained")


def text_size(scale: float = 1.0) -> float:
    """Points of the style's legend text, which is also used for text inside the axes."""
    return scale * FontProperties(size=matplotlib.rcParams["legend.fontsize"]).get_size_in_points()


def points() -> dict[str, Any]:
    """Keywords of `Axes.errorbar` for data points in proportion to the style's text."""
    return {"linestyle": "none", "markersize": 0.33 * text_size(), "elinewidth": 0.08 * text_size()}


def markers() -> tuple[str, ...]:
    """Markers that differ also where a figure is printed in grey."""
    return ("o", "s", "^", "v", "D", "P", "X", "<", ">", "p")


def colors(n: int, *, ordered: bool = False) -> list[Any]:
    """`n` colours: of a palette for colour-blind readers, or, for an `ordered` series, along a colour map."""
    if ordered and n > 4:
        return [matplotlib.colormaps["viridis"](x) for x in np.linspace(0.0, 0.85, n)]
    palette = matplotlib.color_sequences["petroff10"]
    order = (0, 1, 2, 4, 9, 5, 6, 7, 3, 8)  # greys last: they are for what has no name of its own
    return [palette[order[i % len(order)]] for i in range(n)]


def transverse_momentum(kind: str) -> str:
    """Symbol of a jet's pT, as mathematical text without unit, e.g. of "offline"."""
    return rf"$p_\mathrm{{T}}^\mathrm{{{REFERENCE_NAMES.get(kind, kind)}}}$"


def numbered_log_axis(axis: Axis, low: float, high: float) -> None:
    """Logarithmic axis with plain numbers instead of powers of ten; 2 and 5 are named where there is room."""
    if axis is axis.axes.xaxis:
        axis.axes.set_xscale("log")
        axis.axes.set_xlim(low, high)
    else:
        axis.axes.set_yscale("log")
        axis.axes.set_ylim(low, high)
    decades = math.log10(high / low)
    subs = (
        (1.0,) if decades > 2.2 else (1.0, 2.0, 5.0) if decades > 0.8 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    )
    axis.set_major_locator(LogLocator(subs=subs, numticks=30))
    axis.set_minor_locator(LogLocator(subs=tuple(range(1, 10)), numticks=30))
    axis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x:g}" if x < 1e5 else rf"$10^{{{math.log10(x):.0f}}}$")
    )
    axis.set_minor_formatter(NullFormatter())


def limit_log(ax: Axes, positive: NDArray[np.float64], top: float = 0.25) -> None:
    """Logarithmic y axis around the positive values, with a fraction `top` of its length left free above them."""
    values = positive[np.isfinite(positive) & (positive > 0)]
    if not values.size:
        return
    low, high = math.log10(values.min()) - 0.3, math.log10(values.max())
    high = max(high, low + 1.0)
    ax.set_yscale("log")
    ax.set_ylim(10**low, 10 ** (low + (high - low) / (1.0 - top)))
    decades = (high - low) / (1.0 - top)
    ax.yaxis.set_major_locator(LogLocator(numticks=8 if decades > 8 else 12))
    ax.yaxis.set_minor_locator(LogLocator(subs=tuple(range(1, 10)), numticks=60))
    ax.yaxis.set_minor_formatter(NullFormatter())


def headroom(ax: Axes, low: float, high: float, top: float = 0.25) -> None:
    """Linear y axis from `low` to `high` with a fraction `top` of its length left free above `high`."""
    ax.set_ylim(low, low + (high - low) / (1.0 - top))


def count_axis(ax: Axes, text: str, unit: str = "") -> None:
    """Name a linear y axis of counts; from 10,000 on it counts in powers of 1000, named in the label.

    matplotlib would write the power above the axis, where the experiment's label is.
    """
    power = 3 * int(math.log10(max(ax.get_ylim()[1], 1.0) / 10.0) // 3)
    scale = 10.0**power
    prefix = rf" ($\times 10^{{{power}}}$)" if power > 0 else ""
    if power > 0:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y / scale:g}"))
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.set_ylabel(f"{text}{unit}{prefix}")


def finish(figure: Figure, label: Label, axes: Sequence[Axes]) -> Figure:
    """Lay the figure out and write the experiment's label above the top row of axes.

    Args:
        figure: Complete but for the label.
        label: What to write.
        axes: The top left and the top right axes; one if they are the same.
    """
    size = matplotlib.rcParams["font.size"] if label.style != "lhcb" else 28.0
    reserved = 1.75 * size / 72.0 / figure.get_size_inches()[1]
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0.0, 0.0, 1.0, 1.0 - reserved))
        engine.execute(figure)
    # Frozen before the label is written, which would otherwise push the axes of a page apart.
    figure.set_layout_engine("none")

    left, right = axes[0], axes[-1]
    room = right.get_window_extent().x1 - left.get_window_extent().x0
    scale = 1.0
    for _ in range(4):
        texts = _write_label(label, left, right, scale)
        widths = [text.get_window_extent().width for text in texts]
        needed = sum(widths) + 0.5 * size / 72.0 * figure.dpi * (len(texts) - 1)
        if needed <= room:
            break
        scale *= 0.98 * room / needed
        for text in texts:
            text.remove()
    else:
        _write_label(label, left, right, scale)
    return figure


def _write_label(label: Label, left: Axes, right: Axes, scale: float) -> list[Any]:
    """The texts of the label: experiment and status over the left axes, luminosity and energy over the right."""
    private = label.text.casefold().startswith("private work")
    experiment = "" if private else {"cms": "CMS", "atlas": "ATLAS", "lhcb": "LHCb"}[label.style]
    status = label.text
    if not label.is_data and "simulation" not in label.text.casefold():
        status = f"{label.text} (simulation)" if private else f"Simulation {label.text}"
    write = {"cms": mplhep.cms.label, "atlas": mplhep.atlas.label, "lhcb": mplhep.lhcb.label}[label.style]
    # mplhep's own sizes, scaled: CMS and ATLAS relative to the font size, LHCb to 28 points.
    base = scale * (28.0 if label.style == "lhcb" else float(matplotlib.rcParams["font.size"]))
    sizes = (1.3 * base, (1.2 if label.style == "atlas" else 1.0) * base, base / 1.1, base / 1.3)
    # Above the frame in every style: inside, the label would meet data on some of the figures.
    common = {"loc": 0, "scilocator_adjust": False, "fontsize": sizes, "exp": experiment}
    texts = []
    for text in filter(None, write(ax=left, llabel=status, rlabel="", **common)):
        if text.get_text():
            texts.append(text)
        else:
            text.remove()
    if private:
        texts[0].set_x(0.0)  # mplhep leaves a gap after the name, which there is not
    energy = f"{label.com:g} TeV" if label.com is not None else ""
    luminosity = ""
    if label.lumi is not None:
        value, unit = (label.lumi / 1000.0, "fb") if label.lumi >= 100.0 else (label.lumi, "pb")
        luminosity = rf"{value:.3g} $\mathrm{{{unit}}}^{{-1}}$"
    line = f"{luminosity} ({energy})" if luminosity and energy else luminosity or energy
    if line:
        texts.append(
            mplhep.add_text(line, loc="over right", xpad=0, ypad=0, fontsize=sizes[2], va="bottom", ax=right)
        )
    return texts


def save_figure(figure: Figure, stem: Path, style: Style, made: Provenance | None = None) -> list[Path]:
    """Write `stem`.png and `stem`.pdf; readers see either the old or the complete new file.

    Args:
        figure: Made in the same style.
        stem: Path without suffix; its folder must exist.
        style: The style that the figure was made in.
        made: How it was made; the files carry it.

    Returns:
        The two paths.
    """
    written = []
    kinds: tuple[Kind, ...] = ("png", "pdf")
    with style_context(style):
        for kind in kinds:
            path = stem.with_name(f"{stem.name}.{kind}")
            temporary = stem.with_name(f".{stem.name}.{os.getpid()}.{kind}.part")
            try:
                figure.savefig(temporary, format=kind, metadata=plot_metadata(made, kind))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            written.append(path)
    return written
