"""Figures of what fits, limits and tests leave as JSON, as PNG and PDF.

`draw` is the entry; what a file holds is told by its keys (`product_files.py`). The figures themselves are functions of
`plots_fit`, `plots_limits`, `plots_significance`, `plots_diagnosis` and `plots_bias`. Import this module where figures are
wanted: it imports matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from trila.analysis.curves import Curve, read_curve
from trila.analysis.fit_products import BumpHunt, Diagnosis, Fit, FTest, Limits, Product, Significance
from trila.analysis.plots_bias import injection_figure, pull_figure, spurious_figure
from trila.analysis.plots_diagnosis import correlation_figure, ranking_figure
from trila.analysis.plots_fit import fit_figure
from trila.analysis.plots_limits import COUPLINGS, coupling_figure, limits_figure
from trila.analysis.plots_significance import bump_figure, f_test_figure, significance_figure
from trila.analysis.plots_style import Label, Style, save_figure
from trila.analysis.product_files import read_product
from trila.analysis.provenance import record
from trila.fits.couplings import Scaling, read_scaling
from trila.processors.errors import InputError

__all__ = ["draw", "product_figures"]


def draw(
    path: str | Path,
    outdir: Path,
    *,
    style: Style = "cms",
    label: str = "Private work",
    is_data: bool,
    com: float | None = None,
    lumi: float | None = None,
    log_x: bool | None = None,
    overlays: Sequence[str] = (),
    theory: str | Path | None = None,
) -> list[Path]:
    """Make every figure that a file allows; their names begin with its own.

    Args:
        path: JSON file of a fit, limits, a significance, an F-test, a bump hunt, a diagnosis or a test of bias.
        outdir: made if it does not exist. Figures of the same name are replaced.
        style: whose style: "cms", "atlas" or "lhcb".
        label: the status after the experiment's name. A text that begins with "Private work" is written without the
            experiment's name.
        is_data: False writes "Simulation".
        com: centre-of-mass energy in TeV; that of a fit, if it is not given.
        lumi: integrated luminosity in 1/pb.
        log_x: whether mass axes are logarithmic; by default where they span a factor of 8, and for couplings.
        overlays: published curves for figures of limits, see `curves.py`. Those in fb, pb or nb are laid over
            cross-sections, the others over couplings where there are any.
        theory: CSV table of predicted cross-sections, see `trila.fits.couplings.read_scaling`, for figures of limits.

    Returns:
        The files written, PNG and PDF of each figure in turn.

    Raises:
        InputError: a file that cannot be read, is none of these, or allows no figure; curves where none can be drawn.
        FitError: a table of predictions or weights that cannot be used.
        ValueError: the style is not known.
    """
    product = read_product(path)
    if com is None and isinstance(product, Fit) and product.sqrt_s is not None:
        com = product.sqrt_s / 1000.0
    if (overlays or theory) and not isinstance(product, Limits):
        raise InputError(f"{path} has no limits; leave curves and predictions out, or give a file of limits")
    figures = product_figures(
        product,
        Label(style, label, is_data, com, lumi),
        log_x=log_x,
        curves=[read_curve(text) for text in overlays],
        theory=None if theory is None else read_scaling(theory),
    )
    if not figures:
        raise InputError(f"{path} has nothing to draw; make it again with toys, masses or parameters")
    made = record(
        "plot",
        {"product": str(path), "overlays": list(overlays), "theory": theory, "style": style, "label": label},
    )
    outdir.mkdir(parents=True, exist_ok=True)
    return [
        file
        for name, figure in figures.items()
        for file in save_figure(figure, outdir / f"{Path(path).stem}{name}", style, made)
    ]


def product_figures(
    product: Product,
    label: Label,
    *,
    log_x: bool | None = None,
    curves: Sequence[Curve] = (),
    theory: Scaling | None = None,
) -> dict[str, Figure]:
    """The figures that a product allows, by what follows the name of its file.

    Args:
        product: what to draw.
        label, log_x: as for `draw`.
        curves, theory: for limits.

    Raises:
        InputError, FitError: as for `draw`.
    """
    found: dict[str, Figure | None]
    if isinstance(product, Fit):
        found = {"": fit_figure(product, label, log_x=log_x)}
    elif isinstance(product, Limits):
        found = _limits(product, label, log_x, curves, theory)
    elif isinstance(product, Significance):
        found = {"": significance_figure(product, label, log_x=log_x)}
    elif isinstance(product, FTest):
        found = {"": f_test_figure(product, label)}
    elif isinstance(product, BumpHunt):
        found = {"": bump_figure(product, label)}
    elif isinstance(product, Diagnosis):
        found = {
            "_ranking": ranking_figure(product, label),
            "_correlations": correlation_figure(product, label),
        }
    else:
        found = {
            "_spurious": spurious_figure(product, label, log_x=log_x),
            "_injection": injection_figure(product, label),
            "_pulls": pull_figure(product, label),
        }
    return {name: figure for name, figure in found.items() if figure is not None}


def _limits(
    limits: Limits, label: Label, log_x: bool | None, curves: Sequence[Curve], theory: Scaling | None
) -> dict[str, Figure | None]:
    """Limits, and those on each coupling that they have, with the curves shared out among them."""
    keys = [key for key in COUPLINGS if any(getattr(row, key) is not None for row in limits.rows)]
    of_coupling = [curve for curve in curves if keys and not curve.unit]
    of_limit = [curve for curve in curves if curve.unit or not keys]
    found: dict[str, Figure | None] = {
        "": limits_figure(limits, label, curves=of_limit, theory=theory, log_x=log_x)
    }
    for key in keys:
        found[f"_{key}"] = coupling_figure(
            limits, key, label, curves=of_coupling, log_x=True if log_x is None else log_x
        )
    return found
