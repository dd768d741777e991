"""Every figure that the histograms of a run allow, as PNG and PDF.

`plot_histograms` is the entry. The figures themselves are functions of `plots_response`, `plots_response_curves`,
`plots_efficiency`, `plots_dijet`, `plots_dimuon` and `plots_cutflow`; their look is in `plots_style`. Import this
module where figures are wanted, not at the top of the command line: it imports matplotlib.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import hist
from matplotlib.figure import Figure

from trila.analysis.plots_cutflow import cutflow_figure
from trila.analysis.plots_dijet import dijet_control_figure, dijet_mass_figure
from trila.analysis.plots_dimuon import (
    dimuon_categories_figure,
    dimuon_control_figure,
    dimuon_mass_figure,
    dimuon_peaks_figure,
)
from trila.analysis.plots_efficiency import matching_figure, turn_on_figure, turn_on_groups
from trila.analysis.plots_response import delta_r_figure, pt_correlation_figure, response_distributions_figure
from trila.analysis.plots_response_curves import response_comparison_figure, response_regions_figure
from trila.analysis.plots_style import Label, Style, save_figure, transverse_momentum
from trila.analysis.provenance import Provenance

__all__ = ["figures", "plot_histograms"]

logger = logging.getLogger(__name__)

Histograms = Mapping[str, hist.Hist[Any]]
Cutflows = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
Reference = Literal["offline", "gen"]


def plot_histograms(
    histograms: Histograms,
    outdir: Path,
    *,
    style: Style = "cms",
    label: str = "Private work",
    is_data: bool,
    com: float | None = None,
    lumi: float | None = None,
    reference: Reference = "offline",
    cutflow: Cutflows | None = None,
    made: Provenance | None = None,
) -> list[Path]:
    """Make every figure that the histograms allow.

    Histograms that are missing, empty, or hold too few entries cost their figure, not an error; names that
    `docs/results.md` does not declare are left alone.

    Args:
        histograms: By the names of `docs/results.md`, with `Weight` storage.
        outdir: Made if it does not exist. Figures of the same name are replaced.
        style: Whose style: "cms", "atlas" or "lhcb".
        label: The status after the experiment's name. A text that begins with "Private work" is written without
            the experiment's name.
        is_data: False writes "Simulation".
        com: Centre-of-mass energy in TeV.
        lumi: Integrated luminosity in 1/pb.
        reference: The jets that HLT jets are compared with, as the manifest names them.
        cutflow: Content of `cutflow.json`.
        made: Record that the files carry.

    Returns:
        The files written, PNG and PDF of each figure in turn.

    Raises:
        ValueError: If the style or the reference is not known.
    """
    if reference not in ("offline", "gen"):
        raise ValueError(f'reference is {reference!r}; choose "offline" or "gen"')
    banner = Label(style, label, is_data, com, lumi)
    outdir.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, make in figures(histograms, banner, reference=reference, cutflow=cutflow):
        figure = make()
        if figure is None:
            logger.info("%s: too few entries, not drawn", name)
            continue
        written += save_figure(figure, outdir / name, style, made)
    return written


def figures(
    histograms: Histograms, label: Label, *, reference: Reference = "offline", cutflow: Cutflows | None = None
) -> Iterator[tuple[str, Callable[[], Figure | None]]]:
    """Name and maker of each figure; the maker returns None where there are too few entries.

    Args:
        histograms: By the names of `docs/results.md`.
        label: What stands above every figure.
        reference: "offline" or "gen".
        cutflow: Content of `cutflow.json`.
    """
    yield from _response(histograms, label, reference)
    for (family, kind), members in turn_on_groups(histograms).items():
        name = _file_name(f"efficiency_{family}" + ("" if kind == "leading" else f"_{kind}"))
        yield name, partial(turn_on_figure, members, label, kind=kind, reference=reference)
    if "dijet.mass_standard" in histograms:
        yield "dijet_mass", partial(dijet_mass_figure, histograms["dijet.mass_standard"], label)
    yield "dijet_control", partial(dijet_control_figure, histograms, label)
    if "dimuon.mass" in histograms:
        mass = histograms["dimuon.mass"]
        yield "dimuon_mass", partial(dimuon_mass_figure, mass, label)
        yield "dimuon_mass_categories", partial(dimuon_categories_figure, mass, label)
        yield "dimuon_peaks", partial(dimuon_peaks_figure, mass, label)
    yield "dimuon_control", partial(dimuon_control_figure, histograms, label)
    for processor in dict.fromkeys(name for processors in (cutflow or {}).values() for name in processors):
        yield _file_name(f"cutflow_{processor}"), partial(cutflow_figure, cutflow or {}, processor, label)


def _response(
    histograms: Histograms, label: Label, reference: Reference
) -> Iterator[tuple[str, Callable[[], Figure | None]]]:
    """The figures of `response.*`."""
    found = {
        name.removeprefix("response."): histogram
        for name, histogram in histograms.items()
        if name.startswith("response.")
    }
    if "pt_correlation" in found:
        yield (
            "pt_correlation",
            partial(pt_correlation_figure, found["pt_correlation"], label, reference=reference),
        )
    if "tag_probe" in found:
        distributions = partial(response_distributions_figure, found["tag_probe"], label, reference=reference)
        yield "response_distributions", distributions
        yield (
            "response_vs_pt",
            partial(response_regions_figure, found["tag_probe"], label, reference=reference),
        )
    if "direct" in found:
        direct = partial(response_regions_figure, found["direct"], label, reference=reference)
        yield "response_direct_vs_pt", direct

    binned_in = {
        "tag_probe": f"vs {transverse_momentum('tag')}",
        "tag_probe_reference": f"vs {transverse_momentum(reference)}",
        "tag_probe_hlt": f"vs {transverse_momentum('hlt')}",
        "tag_probe_average": f"vs {transverse_momentum('average')}",
    }
    by_axis = {text: found[name] for name, text in binned_in.items() if name in found}
    if len(by_axis) > 1:
        ratio = f"{transverse_momentum('hlt')} / {transverse_momentum(reference)}"
        yield (
            "response_axes",
            partial(
                response_comparison_figure,
                by_axis,
                label,
                x_label=r"Jet $p_\mathrm{T}$ [GeV]",
                y_label=f"Median of {ratio}",
            ),
        )
    particle = {"hlt_gen": "HLT", "offline_gen": "Offline"}
    to_particle = {text: found[name] for name, text in particle.items() if name in found}
    if to_particle:
        symbol = transverse_momentum("gen")
        yield (
            "response_gen",
            partial(
                response_comparison_figure,
                to_particle,
                label,
                x_label=f"{symbol} [GeV]",
                y_label=rf"Median of $p_\mathrm{{T}}$ / {symbol}",
            ),
        )
    for name in ("matching_reference", "matching_hlt"):
        if name in found:
            yield name, partial(matching_figure, found[name], label, reference=reference)
    if "delta_r" in found:
        yield "delta_r", partial(delta_r_figure, found["delta_r"], label, reference=reference)


def _file_name(text: str) -> str:
    """A name of letters, digits, dots, dashes and underscores: a processor's name may hold a colon."""
    return re.sub(r"[^\w.-]+", "_", text)
