"""Every figure of a calibration, as PNG and PDF.

`plot_calibration` is the entry. The figures themselves are functions of `plots_calibration_distributions`,
`plots_calibration_curves`, `plots_calibration_uncertainties` and `plots_calibration_resolution`; their look is
in `plots_style`. Import this module where figures are wanted: it imports matplotlib.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.derive import Derived
from trila.analysis.plots_calibration_curves import (
    estimators_figure,
    factor_eta_figure,
    factor_pt_figure,
    response_figure,
)
from trila.analysis.plots_calibration_distributions import correlation_figure, distributions_figure
from trila.analysis.plots_calibration_regions import (
    CENTRAL,
    FORWARD,
    eta_of,
    nearest,
    region_name,
    representative,
    sides,
)
from trila.analysis.plots_calibration_resolution import PileUp, pileup_figure, resolution_figure
from trila.analysis.plots_calibration_uncertainties import mass_distortion_figure, uncertainties_figure
from trila.analysis.plots_style import Label, Style, save_figure
from trila.analysis.provenance import Provenance

__all__ = ["calibration_figures", "plot_calibration"]

logger = logging.getLogger(__name__)

# Pages with the response: a fine binning in η would make hundreds.
_REGIONS = 6


def plot_calibration(
    derived: Derived,
    folder: Path,
    *,
    config: CalibrationConfig,
    style: Style = "cms",
    label: str = "Private work",
    com: float | None = None,
    lumi: float | None = None,
    is_data: bool = False,
    pileup: PileUp = "rho",
    made: Provenance | None = None,
) -> list[Path]:
    """Make every figure that a calibration allows.

    What is missing (a curve, a resolution, the pile-up) costs its figure, not an error. Where there are more
    than six regions of |η|, six that are spread evenly stand for all; `factor_eta` shows them all.

    Args:
        derived: The calibration and what was measured on the way.
        folder: Made if it does not exist. Figures of the same name are replaced.
        config: What it was derived with.
        style: Whose style: "cms", "atlas" or "lhcb".
        label: The status after the experiment's name.
        com: Centre-of-mass energy in TeV.
        lumi: Integrated luminosity in 1/pb.
        is_data: False writes "Simulation".
        pileup: What the pairs know of the pile-up: ρ in GeV, or the mean number of interactions μ.
        made: Record that the files carry.

    Returns:
        The files written, PNG and PDF of each figure in turn.

    Raises:
        ValueError: If the style is not known.
    """
    banner = Label(style, label, is_data, com, lumi)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, make in calibration_figures(derived, config, banner, pileup=pileup):
        figure = make()
        if figure is None:
            logger.info("%s: nothing to draw", name)
            continue
        written += save_figure(figure, folder / name, style, made)
    return written


def calibration_figures(
    derived: Derived, config: CalibrationConfig, label: Label, *, pileup: PileUp = "rho"
) -> Iterator[tuple[str, Callable[[], Figure | None]]]:
    """Name and maker of each figure; the maker returns None where there is nothing to draw.

    Args:
        derived: The calibration and what was measured on the way.
        config: What it was derived with.
        label: What stands above every figure.
        pileup: "rho" or "mu".
    """
    calibration = derived.calibration
    curves = calibration.curves
    groups = [
        group
        for group in sides(calibration.eta_edges)
        if any(curves[region] is not None for region in group.regions)
    ]
    shown = representative(groups, _REGIONS)
    if len(shown) < len(groups):
        logger.info(
            "of %d regions, those shown are %s", len(groups), ", ".join(group.name for group in shown)
        )
    # Of the two sides, the first one with a curve stands for the region where only one is drawn.
    two = list(
        dict.fromkeys(
            next(region for region in nearest(groups, eta).regions if curves[region] is not None)
            for eta in (CENTRAL, FORWARD)
            if groups
        )
    )
    names = {region: region_name(eta_of(calibration.eta_edges, region)) for region in two}

    yield "correlation", partial(correlation_figure, derived, label)
    for region, name in names.items():
        yield f"distributions_{name}", partial(distributions_figure, derived, config, region, label)
    for group in shown:
        yield f"response_{group.name}", partial(response_figure, derived, group, label)
    for central in two[:1]:
        yield "estimators", partial(estimators_figure, derived, config, central, label)
    yield "factor_pt", partial(factor_pt_figure, calibration, shown, label)
    yield "factor_eta", partial(factor_eta_figure, calibration, label)
    for region, name in names.items():
        yield f"uncertainties_{name}", partial(uncertainties_figure, calibration, region, label)
    for eta in dict.fromkeys(jer.eta for jer in derived.jer):
        jers = [jer for jer in derived.jer if jer.eta == eta]
        yield f"resolution_{region_name(eta)}", partial(resolution_figure, jers, label)
    yield "pileup", partial(pileup_figure, derived, config, two, label, pileup=pileup)
    for central in two[:1]:
        distorted = partial(mass_distortion_figure, derived, central, config.spectrum_index, label)
        yield "mass_distortion", distorted
