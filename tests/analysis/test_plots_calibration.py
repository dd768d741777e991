"""Figures of a calibration made by hand, whose curves, uncertainties and pairs are known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from trila.analysis import plots_calibration
from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.derive import Derived
from trila.analysis.plots_calibration import calibration_figures, plot_calibration
from trila.analysis.plots_calibration_curves import factor_pt_figure, response_figure
from trila.analysis.plots_calibration_distributions import correlation_figure, distributions_figure
from trila.analysis.plots_calibration_regions import (
    limit_linear,
    nearest,
    quadrature,
    representative,
    sides,
    statistical,
)
from trila.analysis.plots_calibration_resolution import pileup_figure
from trila.analysis.plots_calibration_uncertainties import mass_distortion_figure, uncertainties_figure
from trila.analysis.plots_style import Label
from trila.corrections.calibration import Calibration, points_of
from trila.corrections.derivation import DerivationConfig, Measurement, Scale
from trila.corrections.jer import Jer
from trila.corrections.pairs import Pairs
from trila.corrections.pileup import Offset
from trila.corrections.resolution import fit_resolution, resolution
from trila.corrections.response_curve import Cells, Curve
from trila.corrections.splines import spread_knots

ETA = (-2.5, -1.3, 0.0, 1.3, 2.5)
PT = (30.0, 45.0, 70.0, 110.0, 200.0, 400.0, 1000.0)
RESPONSES = (0.85, 0.90, 0.95, 0.80)
"""Of the regions, the same at all pT."""
WIDTH = 0.08
SLOPE = 0.5
"""GeV of HLT pT per GeV of A ρ that was subtracted."""
COLLECTIONS: dict[Literal["hlt", "offline"], float] = {"hlt": 1.0, "offline": 0.8}
"""Stochastic terms of the resolutions."""
LABEL = Label()


def config(**scale: Any) -> CalibrationConfig:
    return CalibrationConfig(scale=DerivationConfig(eta_edges=ETA, pt_edges=PT, **scale))


def flat_curve(response: float) -> Curve:
    low, high = np.log(20.0), np.log(1200.0)
    return Curve(spread_knots(low, high, 1), np.full(1, np.log(response)), low, high)


def toy_pairs(size: int = 40_000) -> Pairs:
    """Probes with a Gaussian HLT/offline response."""
    generator = np.random.default_rng(3)
    tag = 30.0 * generator.uniform(0.005, 1, size) ** (-0.6)
    offline = tag * generator.normal(1.0, 0.1, size)
    eta = generator.uniform(-2.5, 2.5, size)
    response = np.array(RESPONSES)[np.searchsorted(ETA, eta) - 1] * generator.normal(1.0, WIDTH, size)
    number = np.arange(size)
    return Pairs(
        hlt=offline * response, offline=offline, tag=tag, eta=eta, phi=generator.uniform(-3, 3, size),
        weight=np.ones(size), run=np.ones(size, int), luminosity_block=np.ones(size, int), event=number,
        pileup=generator.uniform(10.0, 40.0, size), area=np.full(size, 0.5),
    )  # fmt: skip


def toy_jers() -> tuple[Jer, ...]:
    pt = np.geomspace(35.0, 900.0, 12)
    found = []
    for eta in ((0.0, 1.3), (1.3, 2.5)):
        for collection, s in COLLECTIONS.items():
            value = resolution(pt, 3.0, s, 0.04)
            error, used = 0.01 * value, np.arange(pt.size) < 10
            fit = None if eta[0] and collection == "hlt" else fit_resolution(pt, value, error)
            found.append(
                Jer(collection, "particle", eta, pt, value, error, used, fit, 0.02, (35.0, 900.0), "")
            )
    return tuple(found)


@pytest.fixture(scope="module")
def derived() -> Derived:
    pairs = toy_pairs()
    regions, bins = len(ETA) - 1, len(PT) - 1
    raw = np.tile(np.array(RESPONSES)[:, None], bins)
    used = np.ones((regions, bins), dtype=bool)
    used[:, -1] = False
    centres = np.tile(np.sqrt(np.multiply(PT[1:], PT[:-1])), (regions, 1))
    entries = np.full((regions, bins), 500.0)
    error = np.full((regions, bins), 0.003)
    measured = Measurement(
        raw, np.ones_like(raw), error, entries, centres, raw * centres, used
    )  # fmt: skip
    curves = tuple(flat_curve(response) for response in RESPONSES)
    log_pt = tuple(points_of(curve) for curve in curves)
    sources = tuple(
        {
            "statistical_0": np.full_like(x, 0.003),
            "statistical_rest": np.full_like(x, 0.004),
            "method": np.full_like(x, -0.012),
            "trigger": np.zeros_like(x),
        }
        for x in log_pt
    )
    slopes = np.full(regions, SLOPE)
    offset = Offset(
        ETA, slopes, np.zeros(regions), 0.1 * slopes, 25.0, (10.0, 40.0), np.tile([25.0, 900.0], (regions, 1)), True
    )  # fmt: skip
    calibration = Calibration(ETA, curves, log_pt, sources, offset, ())
    region = np.searchsorted(ETA, pairs.eta) - 1
    cells = Cells(
        np.log(measured.corrected), measured.error, np.empty((*measured.error.shape, 0)), np.empty(0)
    )
    log_jets = np.log(pairs.hlt / np.array(RESPONSES)[region])
    return Derived(calibration, Scale(curves, measured, 3, 1e-5, cells, log_jets), toy_jers(), pairs)


@pytest.fixture(scope="module")
def made(derived: Derived) -> dict[str, Figure]:
    figures = {name: make() for name, make in calibration_figures(derived, config(), LABEL)}
    return {name: figure for name, figure in figures.items() if figure is not None}


def changed(derived: Derived, **parts: Any) -> Derived:
    return derived._replace(calibration=derived.calibration._replace(**parts))


def listed(derived: Derived) -> dict[str, Callable[[], Figure | None]]:
    return dict(calibration_figures(derived, config(), LABEL))


def line(figure: Figure, text: str) -> tuple[Any, Any]:
    """x and y of the line with this text in the legend."""
    found = [item for ax in figure.axes for item in ax.lines if item.get_label() == text]
    return found[0].get_xdata(), found[0].get_ydata()


def test_every_figure_is_made(made: dict[str, Figure]) -> None:
    two = ("eta_0_1.3", "eta_1.3_2.5")
    several = ("distributions", "response", "uncertainties", "resolution")
    single = ("correlation", "estimators", "factor_pt", "factor_eta", "pileup", "mass_distortion")
    assert set(made) == {f"{name}_{eta}" for name in several for eta in two} | set(single)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["cms", "atlas", "lhcb"])
def test_files(derived: Derived, tmp_path: Path, style: Any) -> None:
    written = plot_calibration(
        derived, tmp_path / "report", config=config(), style=style, com=13.6, lumi=1000.0, is_data=True, pileup="mu"
    )  # fmt: skip
    assert len(written) == 2 * 14
    assert sorted(written) == sorted((tmp_path / "report").iterdir())
    assert all(path.stat().st_size > 1000 for path in written)


def test_png_and_pdf_of_each(derived: Derived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure that cannot be made costs no more than its files."""

    def two(*arguments: Any, **keywords: Any) -> Any:
        for name, make in calibration_figures(*arguments, **keywords):
            if name == "factor_eta":
                yield name, make
        yield "nothing", lambda: None

    monkeypatch.setattr(plots_calibration, "calibration_figures", two)
    written = plot_calibration(derived, tmp_path / "new", config=config())
    assert [path.name for path in written] == ["factor_eta.png", "factor_eta.pdf"]
    assert sorted(written) == sorted((tmp_path / "new").iterdir())


def test_unknown_style(derived: Derived, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"style is 'alice'; choose one of cms, atlas, lhcb"):
        plot_calibration(derived, tmp_path, config=config(), style="alice")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "x_unit", "y_unit"),
    [
        ("correlation", "[GeV]", "[GeV]"),
        ("response", "[GeV]", None),
        ("estimators", "[GeV]", None),
        ("factor_pt", "[GeV]", None),
        ("uncertainties", "[GeV]", "[%]"),
        ("resolution", "[GeV]", "[%]"),
        ("mass_distortion", "[GeV]", "[%]"),
        ("pileup", "[GeV]", None),
    ],
)
def test_axes_have_units(made: dict[str, Figure], start: str, x_unit: str, y_unit: str | None) -> None:
    for name, figure in made.items():
        if name.startswith(start):
            assert (
                x_unit
                in figure.axes[
                    1 if start in ("response", "estimators", "resolution", "pileup") else 0
                ].get_xlabel()
            )
            assert figure.axes[0].get_ylabel()
            assert y_unit is None or y_unit in figure.axes[0].get_ylabel()


@pytest.mark.parametrize("name", ["response_eta_0_1.3", "resolution_eta_0_1.3", "estimators", "factor_pt"])
def test_legends_lie_beside_the_data(made: dict[str, Figure], name: str) -> None:
    ax = made[name].axes[0]
    legend = ax.get_legend()
    assert legend is not None
    box = legend.get_window_extent()
    for item in ax.lines:
        at = item.get_transform().transform(np.column_stack([item.get_xdata(), item.get_ydata()]))
        assert not np.any(np.all((at > box.min) & (at < box.max), axis=1))


def test_regions_that_mirror_each_other_are_one_page() -> None:
    assert [group.regions for group in sides(ETA)] == [(2, 1), (3, 0)]
    assert [group.text for group in sides(ETA)] == [r"$|\eta| < 1.3$", r"$1.3 < |\eta| < 2.5$"]
    assert [group.span for group in sides((-3.0, -1.0, 1.0, 2.0))] == [(0.0, 1.0), (1.0, 2.0), (-3.0, -1.0)]
    assert sides((-3.0, -1.0, 1.0, 2.0))[2].name == "eta_-3_-1"


def test_a_fine_binning_makes_no_more_pages(derived: Derived) -> None:
    edges = np.round(np.linspace(-5.0, 5.0, 81), 6)
    groups = sides(edges.tolist())
    shown = representative(groups, 6)
    assert len(groups) == 40
    assert (shown[0], shown[-1], len(shown)) == (groups[0], groups[-1], 6)
    assert nearest(groups, 2.2).span == pytest.approx((2.125, 2.25))

    number = edges.size - 1
    calibration = derived.calibration
    fine = changed(
        derived, eta_edges=tuple(edges), curves=(calibration.curves[0],) * number,
        log_pt=(calibration.log_pt[0],) * number, sources=(calibration.sources[0],) * number, offset=None,
    )  # fmt: skip
    assert len(list(calibration_figures(fine, config(), LABEL))) <= 20


def test_what_is_missing_costs_its_own_figures_only(derived: Derived, made: dict[str, Figure]) -> None:
    outer = derived.calibration.curves[1:3]
    less = changed(
        derived._replace(jer=(), pairs=derived.pairs._replace(pileup=None)), curves=(None, *outer, None), offset=None
    )  # fmt: skip
    found = listed(less)
    gone = {name for name in made if "1.3_2.5" in name or name.startswith("resolution")}
    assert set(found) == set(made) - gone
    assert found["pileup"]() is None
    assert all(found[name]() for name in ("factor_pt", "factor_eta", "response_eta_0_1.3"))

    found = listed(changed(derived, curves=(None,) * 4))
    assert {name for name in found if not name.startswith("resolution")} == {
        "correlation", "factor_pt", "factor_eta", "pileup",
    }  # fmt: skip
    assert not any(found[name]() for name in ("factor_pt", "factor_eta", "pileup"))


def test_a_side_without_a_curve_leaves_the_other(derived: Derived) -> None:
    half = changed(derived, curves=(*derived.calibration.curves[:3], None))
    figure = response_figure(half, sides(ETA)[1], LABEL)
    assert figure is not None
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert [text for text in texts if "eta" in text] == [r"$-2.5 < \eta < -1.3$"]


def test_response_points_and_curve(made: dict[str, Figure], derived: Derived) -> None:
    """Points at the mean offline pT; open where the curve was not fitted; the curve over its range."""
    upper, lower = made["response_eta_0_1.3"].axes[:2]
    measured = derived.scale.measurement
    for region, color in ((2, 0), (1, 1)):
        filled, hollow = upper.containers[2 * color : 2 * color + 2]
        np.testing.assert_allclose(filled[0].get_xdata(), measured.pt_offline[region][:-1])
        np.testing.assert_allclose(filled[0].get_ydata(), RESPONSES[region])
        assert hollow[0].get_xdata() == pytest.approx(measured.pt_offline[region][-1:])
        assert to_rgb(hollow[0].get_markerfacecolor()) == (1.0, 1.0, 1.0)
    np.testing.assert_allclose(lower.containers[0][0].get_ydata(), 1.0)
    curve = next(item for item in upper.lines if len(item.get_xdata()) == 201)
    np.testing.assert_allclose(curve.get_ydata(), RESPONSES[2])
    assert curve.get_xdata()[[0, -1]] == pytest.approx([20.0, 1200.0])
    # bands: 5/1000 statistical, 13/1000 in total
    reach = [
        np.ptp(band.get_paths()[0].vertices[:, 1])
        for band in upper.collections
        if len(band.get_paths()[0].vertices) > 400
    ]
    assert reach[:2] == pytest.approx([2 * 0.013 * RESPONSES[2], 2 * 0.005 * RESPONSES[2]])


def test_factor_times_response_is_one(derived: Derived) -> None:
    figure = factor_pt_figure(derived.calibration, sides(ETA), LABEL)
    assert figure is not None
    curves = [item for item in figure.axes[0].lines if len(item.get_xdata()) == 201]
    for item, region in zip(curves, (2, 1, 3, 0), strict=True):
        np.testing.assert_allclose(item.get_ydata(), 1 / RESPONSES[region])
        assert item.get_xdata()[[0, -1]] == pytest.approx([20 * RESPONSES[region], 1200 * RESPONSES[region]])


def test_uncertainties_add_in_quadrature(derived: Derived) -> None:
    sources = derived.calibration.sources[0]
    np.testing.assert_allclose(statistical(sources), 0.005)
    np.testing.assert_allclose(quadrature(sources), 0.013)
    figure = uncertainties_figure(derived.calibration, 2, LABEL)
    assert figure is not None
    np.testing.assert_allclose(line(figure, "Statistical")[1], 0.5)
    np.testing.assert_allclose(line(figure, "Estimator")[1], 1.2)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert legend.get_title().get_text().endswith("zero: trigger")


def test_a_constant_shift_distorts_by_the_index_less_one(derived: Derived) -> None:
    figure = mass_distortion_figure(derived, 2, 7.0, LABEL)
    assert figure is not None
    mass, change = line(figure, "Estimator")
    np.testing.assert_allclose(change, -1.2 * (7.0 - 1.0))
    pt = derived.scale.measurement.pt_offline[2][:-1]
    assert mass[0] == pytest.approx(2 * pt[0], rel=0.03)
    assert mass[-1] == pytest.approx(2 * pt[-1], rel=0.03)


def test_correlation_holds_the_pairs(derived: Derived) -> None:
    weight = np.linspace(0.5, 1.5, derived.pairs.hlt.size)
    figure = correlation_figure(derived._replace(pairs=derived.pairs._replace(weight=weight)), LABEL)
    mesh = figure.axes[0].collections[0]
    content = np.ma.filled(mesh.get_array(), 0.0).reshape(120, 120)
    edges = mesh.get_coordinates()[0, :, 0]  # type: ignore[attr-defined]
    expected, _, _ = np.histogram2d(derived.pairs.hlt, derived.pairs.offline, (edges, edges), weights=weight)
    np.testing.assert_allclose(content, expected, atol=1e-9)
    assert content.sum() > 0.999 * weight.sum()


def test_fits_lie_on_the_distributions(derived: Derived) -> None:
    """Densities of a Gaussian response: both fits have its peak, 1 / (sqrt(2 pi) width)."""
    figure = distributions_figure(derived, config(), 2, LABEL)
    assert figure is not None
    width = WIDTH * RESPONSES[2]
    panel = figure.axes[1]
    solid, dashed = (
        next(item for item in panel.lines if item.get_linestyle() == style and len(item.get_xdata()) >= 100)
        for style in ("-", "--")
    )
    for item in (solid, dashed):
        peak = np.argmax(item.get_ydata())
        assert item.get_xdata()[peak] == pytest.approx(RESPONSES[2], abs=0.2 * width)
        assert item.get_ydata()[peak] == pytest.approx(1 / (np.sqrt(2 * np.pi) * width), rel=0.06)
    assert np.ptp(solid.get_xdata()) == pytest.approx(3 * width, rel=0.1)
    steps = panel.patches[0].get_data()  # type: ignore[attr-defined]
    assert np.sum(steps.values * np.diff(steps.edges)) == pytest.approx(1.0, abs=1e-6)


def test_pileup_shows_the_offset_that_was_subtracted(derived: Derived) -> None:
    """The pairs depend on no pile-up: with the offset put back, the response rises by slope · A / pT."""
    figure = pileup_figure(derived, config(), [2, 3], LABEL)
    assert figure is not None
    upper, lower = figure.axes[:2]
    assert upper.get_ylabel() == r"Offset per $A$$\rho$ [GeV/GeV]"
    np.testing.assert_allclose(upper.containers[0][0].get_ydata(), SLOPE)
    subtracted, not_subtracted = (lower.containers[number][0] for number in (0, 2))
    slopes = [np.polyfit(item.get_xdata(), item.get_ydata(), 1)[0] for item in (subtracted, not_subtracted)]
    pairs = derived.pairs
    chosen = (pairs.eta > 0) & (pairs.eta < 1.3) & (pairs.tag < PT[-1])
    typical = float(np.median(1 / pairs.hlt[chosen]))
    assert slopes[0] == pytest.approx(0.0, abs=4e-4)
    assert slopes[1] - slopes[0] == pytest.approx(SLOPE * 0.5 * typical, rel=0.2)


def test_pileup_that_does_not_vary_has_no_figure(derived: Derived) -> None:
    same = derived.pairs._replace(pileup=np.full(derived.pairs.hlt.size, 30.0))
    assert pileup_figure(changed(derived._replace(pairs=same), offset=None), config(), [2], LABEL) is None


def test_mu_has_no_unit(derived: Derived) -> None:
    assert derived.calibration.offset is not None
    without = derived.calibration.offset._replace(uses_area=False)
    figure = pileup_figure(changed(derived, offset=without), config(), [2], LABEL, pileup="mu")
    assert figure is not None
    assert figure.axes[0].get_ylabel() == r"Offset per $\mu$ [GeV]"
    assert figure.axes[1].get_xlabel() == r"$\mu$"


def test_limits_leave_room_above() -> None:
    ax = Figure().add_subplot()
    limit_linear(ax, [np.array([1.0, np.nan]), np.array([3.0])], top=0.5)
    low, high = ax.get_ylim()
    assert low == pytest.approx(0.84)
    assert low + 0.5 * (high - low) == pytest.approx(3.16)
    limit_linear(ax, [np.array([2.0])], top=0.0, least=1.0)
    assert ax.get_ylim() == pytest.approx((1.5, 2.5))
