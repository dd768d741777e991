"""Figures of fits, limits and tests: what is drawn equals what the JSON says, and what may not be seen is not drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from scipy.optimize import brentq
from scipy.stats import norm, poisson

from trila.analysis import plots_products
from trila.analysis.curves import read_curve
from trila.analysis.fit_products import Bias, Diagnosis, Fit, Limits
from trila.analysis.plots_fit import binned, fit_figure, garwood
from trila.analysis.plots_limits import coupling_figure, limit_scan, limits_figure
from trila.analysis.plots_overlays import crossings
from trila.analysis.plots_products import draw, product_figures
from trila.analysis.plots_style import Label
from trila.analysis.product_files import product_of, read_product
from trila.analysis.provenance import Provenance
from trila.fits.couplings import Scaling
from trila.fits.errors import FitError
from trila.processors.errors import InputError

LABEL = Label("cms", "Private work", True, 13.0, 137_000.0)
EDGES = np.array([489.0, 526, 565, 606, 649, 693, 740, 788, 838, 890, 944, 1000])
COUNTS = np.array([4100.0, 2931, 2236, 1650, 1189, 915, 695, 518, 384, 300, 0])
PREDICTION = np.array([4060.5, 3004.1, 2235.7, 1673.0, 1209.4, 918.3, 674.0, 503.2, 387.9, 297.1, 1.5])
FAILED = (1, 5)


def fit_content(**changes: Any) -> dict[str, Any]:
    return {
        "function": "dijet2", "parameters": ["p0", "p1"], "values": [1.0, 2.0], "covariance": [[1.0, 0.1], [0.1, 1.0]],
        "chi2": {"deviance": 9.24, "pearson": 9.0}, "ndof": 9, "p_value": 0.415, "edges": EDGES.tolist(),
        "data": COUNTS.tolist(), "prediction": PREDICTION.tolist(), "sqrt_s": 13000.0, "spectrum": "result:dijet.mass",
        "provenance": {"trila": "0"}, **changes,
    }  # fmt: skip


def blinded_content() -> dict[str, Any]:
    data: list[float | None] = COUNTS.tolist()
    data[3] = data[4] = None
    used = [True] * 3 + [False] * 2 + [True] * 3 + [False] + [True] * 2
    return fit_content(data=data, used=used, blinded=[[620.0, 680.0]])


def limits_content(masses: Any = None, unit: str = "pb") -> list[dict[str, Any]]:
    mass = np.linspace(600.0, 1000.0, 9) if masses is None else np.asarray(masses, np.float64)
    rows = []
    for i, m in enumerate(mass):
        median = 3.0 * (m / 600.0) ** -4
        good = i not in FAILED
        band = [median * factor for factor in (0.5, 0.7, 1.0, 1.4, 1.9)]
        rows.append({
            "mass": float(m), "observed": 1.1 * median if good else None, "expected": band if good else None, "best_fit": 0.1,
            "sigma": 0.5 * median, "unit": unit, "level": 0.95, "certificate": {"passed": good, "reasons": []},
        })  # fmt: skip
        if good:
            rows[-1]["coupling"] = {"observed": 0.1 + 1e-5 * m, "expected": [0.07, 0.08, 0.1, 0.12, 0.15]}
    return rows


def significance_content() -> dict[str, Any]:
    z = [0.0, 1.0, 2.5, 0.3, 0.0]
    local: list[dict[str, Any]] = [
        {"mass": 600.0 + 100 * i, "p_local": float(norm.sf(x)), "z_local": x} for i, x in enumerate(z)
    ]
    local[3] |= {"p_local": None, "z_local": None}
    overall = [
        {"p_global": 0.021, "method": "Gross-Vitells"},
        {"p_global": 0.03, "p_global_error": 0.005, "method": "toys"},
    ]
    return {"local": local, "global": overall}


F_TEST = {
    "tests": [
        {"from": "dijet2", "to": "dijet3", "f": 30.0, "p_value": 1e-4},
        {"from": "dijet3", "to": "dijet4", "f": 1.2, "p_value": 0.3},
    ],
    "chosen": "dijet3",
}
BUMP = {
    "low": 788.0, "high": 890.0, "p_local": 1e-3, "statistic": 6.9, "p_global": 0.05, "p_global_error": 0.01,
    "toys_statistics": np.random.default_rng(4).gumbel(3.0, 1.0, 400).tolist(),
}  # fmt: skip
DIAGNOSIS = {
    "pulls": [
        {"name": "mu", "value": 0.7, "error": 0.4, "pull": None, "constraint": None},
        {"name": "scale", "value": 0.5, "error": 0.9, "pull": 0.5, "constraint": 0.9},
        {"name": "p0", "value": 12.34, "error": 0.56, "pull": None, "constraint": None},
    ],
    "impacts": [
        {"name": "p0", "up": 0.1, "down": -0.12, "prefit_up": None, "prefit_down": None},
        {"name": "scale", "up": -0.3, "down": None, "prefit_up": -0.35, "prefit_down": 0.33},
    ],
    "correlations": {"names": ["mu", "scale", "p0"], "matrix": [[1.0, -0.5, 0.1], [-0.5, 1.0, 0.0], [0.1, 0.0, 1.0]]},
    "goodness_of_fit": {"statistic": 10.5, "ndof": 9, "p_value": 0.31, "p_toys": None, "failed_toys": 0},
    "unit": "mu",
}  # fmt: skip
BIAS = {
    "spurious": [{"mass": 600.0 + 50 * i, "spurious": 10.0 * r, "sigma": 10.0, "ratio": r} for i, r in enumerate((0.1, -0.3, 0.7))],
    "injection": [
        {
            "injected": x, "mean_pull": 0.05, "width": 1.01, "mean_pull_error": 0.05, "fitted": x + 2.0, "fitted_error": 3.0,
            "pulls": [-1.0, 0.0, 0.2, 1.1],
        }
        for x in (0.0, 100.0, 300.0)
    ],
}  # fmt: skip


def made(content: Any) -> dict[str, Figure]:
    return product_figures(product_of(content, "t"), LABEL)


def drawn(**contents: Any) -> dict[str, Figure]:
    """Figures by the name of their content; making them leaves matplotlib as it was."""
    before = dict(matplotlib.rcParams)
    found = {
        kind + name: figure for kind, content in contents.items() for name, figure in made(content).items()
    }
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []
    return found


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return drawn(
        fit=fit_content(signal=(0.1 * PREDICTION).tolist()), blinded=blinded_content(), limits=limits_content(),
        significance=significance_content(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def others() -> dict[str, Figure]:
    return drawn(f_test=F_TEST, bump=BUMP, diagnosis=DIAGNOSIS, bias=BIAS)


def line_of(figure: Figure, text: str, ax: int = 0) -> Line2D:
    return next(line for line in figure.axes[ax].lines if str(line.get_label()).startswith(text))


def points_of(figure: Figure, text: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Middles, and lower and upper ends, of points with errors."""
    container = next(c for c in figure.axes[0].containers if c.get_label() == text)
    data, _, bars = container  # type: ignore[misc]
    return np.asarray(data.get_xydata()), np.array([[s[0][1], s[1][1]] for s in bars[-1].get_segments()])


def by_gid(figure: Figure, gid: str) -> Any:
    return next(artist for artist in figure.axes[0].get_children() if artist.get_gid() == gid)


def all_texts(figure: Figure) -> str:
    found = [text.get_text() for ax in figure.axes for text in (*ax.texts, *ax.get_yticklabels())]
    for legend in [*figure.legends, *(ax.get_legend() for ax in figure.axes)]:
        if legend is not None:
            found += [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]
    return "\n".join(found)


def check_labels(figures: dict[str, Figure], expected: dict[str, tuple[str, str]]) -> None:
    for name, (x_label, y_label) in expected.items():
        axes = figures[name].axes
        assert (axes[-1].get_xlabel(), axes[0].get_ylabel()) == (x_label, y_label), name


def check_layout(figures: dict[str, Figure]) -> None:
    """Texts and legends lie on the page, beside each other, and beside the points and lines."""
    for name, figure in figures.items():
        for ax in figure.axes:
            boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
            legend = ax.get_legend()
            if legend is not None:
                boxes.append(legend.get_window_extent())
                for line in ax.lines:
                    data = line.get_transform().transform(np.asarray(line.get_xydata(), np.float64))
                    inside = boxes[-1].count_contains(data[np.isfinite(data).all(axis=1)])
                    assert inside == 0, (name, line.get_label())
            for i, box in enumerate(boxes):
                assert figure.bbox.x0 <= box.x0, name
                assert box.x1 <= figure.bbox.x1 + 1, name
                assert box.y1 <= figure.bbox.y1 + 1, name
                assert not any(box.overlaps(other) for other in boxes[:i]), name


def test_figures_have_units_and_room(figures: dict[str, Figure]) -> None:
    expected = {
        "fit": (r"$m_\mathrm{jj}$ [GeV]", "Events / GeV"),
        "blinded": (r"$m_\mathrm{jj}$ [GeV]", "Events / GeV"),
        "limits": ("Resonance mass [GeV]", r"95% CL upper limit on $\sigma\,\mathcal{B}\,A$ [pb]"),
        "limits_coupling": (r"$m_{Z'}$ [GeV]", "Coupling $g_q$"),
        "significance": ("Resonance mass [GeV]", "Local $p$-value"),
    }
    assert set(figures) == set(expected)
    check_labels(figures, expected)
    check_layout(figures)


@pytest.mark.slow
def test_other_figures_have_units_and_room(others: dict[str, Figure]) -> None:
    expected = {
        "f_test": ("$p$-value of the F-test", ""),
        "bump": ("BumpHunter statistic", "Toys"),
        "diagnosis_ranking": ("Impact on mu", ""),
        "diagnosis_correlations": ("", ""),
        "bias_spurious": ("Resonance mass [GeV]", r"Spurious signal / $\sigma$"),
        "bias_injection": ("Injected signal [events]", "Fitted signal [events]"),
        "bias_pulls": (r"(Fitted $-$ injected) / $\sigma$", "Fraction of toys per unit of pull"),
    }
    assert set(others) == set(expected)
    check_labels(others, expected)
    check_layout(others)


def test_garwood_intervals_are_those_of_the_poisson_distribution() -> None:
    counts = np.array([0.0, 1.0, 4.0, 50.0])
    low, high = garwood(counts)
    tail = norm.sf(1.0)
    for n, lower, upper in zip(counts, low, high, strict=True):
        assert upper == pytest.approx(
            brentq(lambda mean, n=n: poisson.cdf(n, mean) - tail, 1e-6, 200), rel=1e-9
        )
        if n:
            assert lower == pytest.approx(
                brentq(lambda mean, n=n: poisson.sf(n - 1, mean) - tail, 1e-6, 200), rel=1e-9
            )
    assert low[0] == 0.0


def test_a_spectrum_is_drawn_per_gev_with_its_fit_and_pulls(figures: dict[str, Figure]) -> None:
    figure, width = figures["fit"], np.diff(EDGES)
    data, ends = points_of(figure, "Data")
    np.testing.assert_allclose(data, np.column_stack([0.5 * (EDGES[1:] + EDGES[:-1]), COUNTS / width]))
    np.testing.assert_allclose(ends, np.stack(garwood(COUNTS), axis=1) / width[:, None], atol=1e-12)
    curve = line_of(figure, "Fit").get_ydata()
    np.testing.assert_allclose(curve, PREDICTION / width)
    np.testing.assert_allclose(line_of(figure, "Signal").get_ydata(), 0.1 * PREDICTION / width)
    steps = figure.axes[1].patches[0].get_data()  # type: ignore[attr-defined]
    np.testing.assert_allclose(steps.values, (COUNTS - PREDICTION) / np.sqrt(PREDICTION))
    np.testing.assert_array_equal(steps.edges, EDGES)
    assert r"$\chi^2$ / ndf = 9.2 / 9, $p$ = 0.41" in all_texts(figure)
    assert figure.axes[0].get_yscale() == "log"


def test_blinded_data_is_nowhere_in_the_figure(figures: dict[str, Figure]) -> None:
    figure = figures["blinded"]
    for ax in figure.axes:
        for line in ax.lines:
            if line.get_marker() not in ("None", "", None):
                x = np.asarray(line.get_xdata(), np.float64)
                assert not np.any((x > EDGES[3]) & (x < EDGES[5])), line.get_label()
    assert points_of(figure, "Data")[0].shape == (8, 2)
    vetoed = points_of(figure, "Data, not in the fit")[0]
    np.testing.assert_allclose(vetoed, [[0.5 * (EDGES[8] + EDGES[9]), COUNTS[8] / (EDGES[9] - EDGES[8])]])
    steps = next(patch for patch in figure.axes[1].patches if hasattr(patch, "get_data")).get_data()
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(steps.values)), [3, 4, 8])
    assert "Blinded" in all_texts(figure)
    # A window hides bins that it touches, also where the file has their data and calls them used.
    content = binned(Fit.model_validate(fit_content(blinded=[[650.0, 660.0]])))
    np.testing.assert_array_equal(np.flatnonzero(content.hidden), [4])
    assert np.isnan(content.counts[4])
    assert np.isnan(content.pull[4])
    assert not content.used[4]


@pytest.mark.slow
def test_a_function_may_be_negative_where_it_was_not_fitted() -> None:
    """As a polynomial beyond its range: no pulls there, and the others as ever."""
    used = [True] * 9 + [False] * 2
    figure = made(fit_content(prediction=[*PREDICTION[:9], -3.0, -40.0], used=used))[""]
    figure.draw_without_rendering()
    pulls = next(patch for patch in figure.axes[1].patches if isinstance(patch, StepPatch)).get_data().values
    np.testing.assert_allclose(pulls[:9], ((COUNTS - PREDICTION) / np.sqrt(PREDICTION))[:9])
    assert np.isnan(pulls[9:]).all()
    lowest = (PREDICTION / np.diff(EDGES))[:9].min()
    assert 0.1 * lowest < figure.axes[0].get_ylim()[0] < lowest


def test_sums_of_weights_are_scaled_poisson_variables() -> None:
    content = binned(
        Fit.model_validate(fit_content(data=(3 * COUNTS).tolist(), variances=(9 * COUNTS).tolist()))
    )
    low, high = garwood(COUNTS)
    filled = COUNTS > 0
    np.testing.assert_allclose(
        content.error[:, filled], 3 * np.stack([COUNTS - low, high - COUNTS])[:, filled]
    )
    pulls = (3 * COUNTS - PREDICTION) / np.sqrt(3 * PREDICTION)
    np.testing.assert_allclose(content.pull, pulls)
    negative = fit_content(data=[-1.0, *COUNTS[1:]], variances=COUNTS.tolist())
    with pytest.raises(FitError, match="the weights of the bin 489 to 526 GeV sum to -1"):
        fit_figure(Fit.model_validate(negative), LABEL)


@pytest.mark.slow
def test_a_wide_mass_axis_is_logarithmic() -> None:
    edges = np.geomspace(11.0, 100.0, COUNTS.size + 1)
    fit = Fit.model_validate(fit_content(edges=edges.tolist(), spectrum="result:dimuon.mass[sign=os]"))
    figure = fit_figure(fit, LABEL)
    assert figure.axes[1].get_xscale() == "log"
    assert figure.axes[1].get_xlabel() == r"$m_{\mu\mu}$ [GeV]"
    np.testing.assert_allclose(line_of(figure, "Fit").get_xdata(), np.sqrt(edges[1:] * edges[:-1]))
    assert fit_figure(fit, LABEL, log_x=False).axes[1].get_xscale() == "linear"


def band(figure: Figure, gid: str) -> list[np.ndarray[Any, Any]]:
    collection = by_gid(figure, gid)
    assert isinstance(collection, FillBetweenPolyCollection)
    return [np.asarray(path.vertices) for path in collection.get_paths()]


def test_limits_are_drawn_with_their_bands_and_failures(figures: dict[str, Figure]) -> None:
    figure, rows = figures["limits"], limits_content()
    mass = np.array([row["mass"] for row in rows])
    observed = np.array([row["observed"] for row in rows], np.float64)
    np.testing.assert_array_equal(line_of(figure, "Observed").get_xydata(), np.column_stack([mass, observed]))
    median = [np.nan if row["expected"] is None else row["expected"][2] for row in rows]
    np.testing.assert_array_equal(line_of(figure, "Median expected").get_ydata(), median)
    for gid, low, high in (("band3", 0, 4), ("band2", 1, 3)):
        drawn = {(x, y) for part in band(figure, gid) for x, y in part}
        for row in rows:
            wanted = row["expected"] and {
                (row["mass"], row["expected"][low]),
                (row["mass"], row["expected"][high]),
            }
            assert not wanted or wanted <= drawn or row["mass"] == 600.0  # which has no neighbour
            assert wanted or row["mass"] not in {x for x, _ in drawn}
    bars = [c for c in figure.axes[0].collections if hasattr(c, "get_segments") and len(c.get_segments())]
    np.testing.assert_allclose([bar.get_segments()[0][:, 1] for bar in bars], [[1.5, 5.7], [2.1, 4.2]])
    cross = by_gid(figure, "failed")
    np.testing.assert_array_equal(cross.get_xdata(), mass[list(FAILED)])
    assert cross.get_marker() == "x"
    assert "No limit: 2 of 9 masses" in all_texts(figure)


def test_a_limit_without_its_certificate_is_no_limit() -> None:
    rows = limits_content()
    rows[0]["certificate"] = {"passed": False}
    scan = limit_scan(Limits.model_validate({"rows": rows}))
    np.testing.assert_array_equal(np.flatnonzero(scan.failed), sorted({0, *FAILED}))
    assert np.isnan(scan.observed[0])
    assert np.isnan(scan.expected[0]).all()


def test_the_region_above_a_limit_on_a_coupling_is_excluded(figures: dict[str, Figure]) -> None:
    figure = figures["limits_coupling"]
    top = figure.axes[0].get_ylim()[1]
    corners = np.concatenate(band(figure, "excluded"))
    for row in limits_content():
        y = corners[corners[:, 0] == row["mass"], 1]
        if row["mass"] in (700.0, 750.0, 800.0, 900.0, 950.0, 1000.0):
            assert {round(row["coupling"]["observed"], 9), round(top, 9)} <= set(y.round(9))
    assert "Excluded" in all_texts(figure)
    assert "No limit: 2 of 9 masses" in all_texts(figure)
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("log", "log")


@pytest.mark.slow
@pytest.mark.parametrize("masses", [[800.0], [800.0, 1200.0], np.geomspace(2.0, 70.0, 1000)])
def test_few_and_many_masses(masses: Any) -> None:
    rows = limits_content(masses, unit="events")
    for row in rows:
        row |= {"eps2": row.pop("coupling", None)}
    limits = product_of(rows, "t")
    assert isinstance(limits, Limits)
    figure = limits_figure(limits, LABEL)
    low, high = figure.axes[0].get_xlim()
    assert low <= min(masses) <= max(masses) <= high
    assert figure.axes[0].get_ylabel() == "95% CL upper limit on signal events"
    assert figure.axes[0].get_xscale() == ("log" if len(masses) > 2 else "linear")
    mixing = coupling_figure(limits, "eps2", LABEL)
    assert mixing is not None
    assert mixing.axes[0].get_ylabel() == r"Kinetic mixing $\varepsilon^2$"


@pytest.mark.slow
def test_a_prediction_crosses_where_two_power_laws_do() -> None:
    """Observed 3.3 (m/600)⁻⁴ pb, predicted 6.6 (m/600)⁻⁶ pb: they meet at 600 √2 GeV."""
    rows = [row for row in limits_content() if row["observed"] is not None]
    mass = np.array([500.0, 1200.0])
    theory = Scaling(mass, np.full(2, 0.25), 6.6 * (mass / 600.0) ** -6, "table")
    figure = limits_figure(Limits.model_validate({"rows": rows}), LABEL, theory=theory)
    diamond = by_gid(figure, "crossings")
    np.testing.assert_allclose(diamond.get_xydata(), [[600 * np.sqrt(2), 3.3 / 4]], rtol=1e-6)
    assert "Prediction, $g$ = 0.25, crosses at 848.5 GeV" in all_texts(figure)
    nothing = np.array([np.nan, 1.0, np.nan])
    assert crossings(np.array([1.0, 2.0, 3.0]), nothing, np.array([2.0, 0.5, 2.0])).size == 0


@pytest.mark.slow
def test_published_curves_are_drawn_in_the_unit_of_the_limits(tmp_path: Path) -> None:
    table = {
        "independent_variables": [{"header": {"name": "Mass", "units": "TeV"}, "values": [{"value": 0.9}, {"value": 0.7}]}],
        "dependent_variables": [
            {"header": {"name": "Observed", "units": "fb"}, "values": [{"value": 500.0}, {"value": 2000.0}]},
            {"header": {"name": "Coupling"}, "values": [{"value": 0.1}, {"value": 0.2}]},
        ],
    }  # fmt: skip
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    curve = read_curve(f"Earlier, 36/fb={path}:Observed [fb]")
    assert (curve.name, curve.unit) == ("Earlier, 36/fb", "fb")
    np.testing.assert_allclose(curve.mass, [700.0, 900.0])
    limits = Limits.model_validate({"rows": limits_content()})
    np.testing.assert_allclose(
        line_of(limits_figure(limits, LABEL, curves=[curve]), "Earlier").get_ydata(), [2.0, 0.5]
    )
    coupling = read_curve(f"{path}:2")
    assert (coupling.name, coupling.unit) == ("Coupling", "")
    both = product_figures(limits, LABEL, curves=[curve, coupling])
    np.testing.assert_array_equal(
        line_of(both["_coupling"], "Coupling").get_xydata(), [[700.0, 0.2], [900.0, 0.1]]
    )
    with pytest.raises(StopIteration):
        line_of(both[""], "Coupling")
    events = Limits.model_validate({"rows": limits_content(unit="events")})
    with pytest.raises(
        InputError, match="limits on events cannot be compared with a cross-section; make them with a lumi"
    ):
        limits_figure(events, LABEL, curves=[curve])


def test_published_tables_of_hepdata(data_dir: Path) -> None:
    folder = data_dir / "hepdata"
    dijet = read_curve(f"{folder / 'run2_atlas_tla_dijet_J100_hepdata.json'}:Observed, 5% width [pb]")
    assert (dijet.mass[0], dijet.value[0], dijet.unit, dijet.mass.size) == (600.0, 0.88824, "pb", 25)
    dimuon = read_curve(f"CMS={folder / 'HEPData-ins2704121-v1-Figure_5-a.yaml'}:1")
    assert (dimuon.mass[0], dimuon.value[0], dimuon.unit, dimuon.name) == (1.176, 0.051659, "", "CMS")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "curve.txt",
            r"curve 'curve.txt'; expected FILE.json or FILE.yaml, with :COLUMN behind and NAME= before it",
        ),
        ("nowhere.json:2", "nowhere.json cannot be read: No such file or directory; check the path"),
        ("{dir}/list.json", "list.json is no HEPData table; expected one as hepdata.net gives it"),
        ("{dir}/two.json", "two.json has 2 columns; give one of them as FILE:COLUMN: 1 'a', 2 'b'"),
        (
            "{dir}/two.json:c",
            "two.json has no column 'c'; give one of them as FILE:COLUMN: 1 'a', 2 'b'",
        ),
        (
            "{dir}/two.json:b",
            "row 1: -1 at a mass of 5; expected numbers above 0: choose the column of a limit",
        ),
        (
            "{dir}/plane.json:1",
            "plane.json, independent_variables: List should have at most 1 item .* a function of the mass alone: choose another",
        ),
    ],
)
def test_bad_curves_are_refused(text: str, message: str, tmp_path: Path) -> None:
    x = {"header": {"name": "m"}, "values": [{"value": 5.0}]}
    y = [{"header": {"name": name}, "values": [{"value": v}]} for name, v in (("a", 1.0), ("b", -1.0))]
    contents = {
        "list": [1], "two": {"independent_variables": [x], "dependent_variables": y},
        "plane": {"independent_variables": [x, x], "dependent_variables": y},
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_curve(text.format(dir=tmp_path))


def test_local_significances_with_their_lines(figures: dict[str, Figure]) -> None:
    figure = figures["significance"]
    rows = significance_content()["local"]
    expected = np.array([[row["mass"], row["p_local"]] for row in rows], np.float64)
    np.testing.assert_array_equal(line_of(figure, "Observed").get_xydata(), expected)
    for number in (1, 2, 3):
        assert by_gid(figure, f"{number} sigma").get_ydata()[0] == pytest.approx(norm.sf(number))
    text = all_texts(figure)
    assert r"Global $p$ = 0.021 (2.0 $\sigma$), Gross-Vitells" in text
    assert r"Global $p$ = 0.03 ± 0.005 (1.9 $\sigma$), toys" in text
    assert "Failed: 1 of 5 masses" in text
    np.testing.assert_array_equal(by_gid(figure, "failed").get_xdata(), [900.0])


@pytest.mark.slow
def test_huge_significances_are_arrows_at_the_axis() -> None:
    huge = {"local": [{"mass": 100.0, "p_local": 0.0}], "global": {"p_global": 0.0, "method": "toys"}}
    figure = made(huge)[""]
    assert figure.axes[0].get_ylim()[0] > 1e-30
    assert r"Above 10 $\sigma$" in all_texts(figure)


@pytest.mark.slow
def test_bumps_and_f_tests_show_their_numbers(others: dict[str, Figure]) -> None:
    toys = np.array(BUMP["toys_statistics"])
    steps = others["bump"].axes[0].patches[0].get_data()  # type: ignore[attr-defined]
    assert steps.values.sum() == toys.size
    np.testing.assert_array_equal(steps.values, np.histogram(toys, steps.edges)[0])
    np.testing.assert_array_equal(line_of(others["bump"], "Observed").get_xdata(), [6.9, 6.9])
    assert "Largest excess: 788 to 890 GeV, global $p$ = 0.05 ± 0.01" in all_texts(others["bump"])
    figure = others["f_test"]
    assert list(line_of(figure, "Larger function needed").get_xdata()) == [1e-4]
    assert list(line_of(figure, "Not needed").get_xdata()) == [0.3]
    for text in ("dijet2 → dijet3", "$F$ = 1.2", "Chosen: dijet3"):
        assert text in all_texts(figure)


@pytest.mark.slow
def test_a_family_of_one_function_has_nothing_to_compare() -> None:
    figure = made(F_TEST | {"tests": [], "chosen": "powerlaw"})[""]
    assert "Chosen: powerlaw" in all_texts(figure)
    for text in ("Larger function needed", "Not needed"):
        assert len(line_of(figure, text).get_xdata()) == 0


@pytest.mark.slow
def test_ranking_and_correlations(others: dict[str, Figure]) -> None:
    left, right = others["diagnosis_ranking"].axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["scale", "p0"]  # the largest impact first
    widths = [bar.get_width() for container in right.containers for bar in container]
    assert widths == [-0.3, -0.35, 0.33, 0.1, -0.12]
    np.testing.assert_array_equal(left.containers[0][0].get_xydata(), [[0.5, 0.0]])  # type: ignore[index]
    (bar,) = left.containers[0][2]  # type: ignore[index]
    np.testing.assert_allclose(bar.get_segments()[0][:, 0], [-0.4, 1.4])
    text = all_texts(others["diagnosis_ranking"])
    for part in ("12.34 ± 0.56", "down: n/a", r"$\chi^2$ / ndf = 10.5 / 9, $p$ = 0.31"):
        assert part in text
    image = others["diagnosis_correlations"].axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), 100 * np.array(DIAGNOSIS["correlations"]["matrix"]))  # type: ignore[index]
    names = [f"n{i}" for i in range(100)]
    rows = [{"name": name, "up": float(i), "down": -1.0} for i, name in enumerate(names)]
    many = product_figures(Diagnosis.model_validate({"pulls": [], "impacts": rows}), LABEL)["_ranking"]
    assert [text.get_text() for text in many.axes[0].get_yticklabels()] == [
        f"n{i}" for i in range(99, 69, -1)
    ]
    assert "the largest 30 of 100 parameters" in all_texts(many)


@pytest.mark.slow
def test_tests_of_bias_show_their_numbers(others: dict[str, Figure]) -> None:
    np.testing.assert_allclose(
        line_of(others["bias_spurious"], "Spurious").get_xydata(),
        [[600.0, 0.1], [650.0, -0.3], [700.0, 0.7]],
    )
    data, ends = points_of(others["bias_injection"], "Toys")
    np.testing.assert_allclose(data, [[0.0, 2.0], [100.0, 102.0], [300.0, 302.0]])
    np.testing.assert_allclose(ends[0], [-1.0, 5.0])
    steps = others["bias_pulls"].axes[0].patches[0].get_data()  # type: ignore[attr-defined]
    assert np.sum(steps.values * np.diff(steps.edges)) == pytest.approx(1.0)
    alone = Bias.model_validate({"injection": [{"injected": 1.0, "mean_pull": 0.1, "width": 1.0}]})
    assert set(product_figures(alone, LABEL)) == {"_injection"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, r"has the keys a; expected a list of limits, or one of Fit: data, function, prediction; FTest"),
        (3, "has no keys; expected a list of limits"),
        ([], "rows: Tuple should have at least 1 item"),
        ([{"mass": 1.0}], r"rows.0.observed: Field required .*; make the file again"),
        (limits_content([5.0, 5.0]), "mass 5 stands twice; keep one row for each"),
        ([*limits_content([5.0]), *limits_content([6.0], "events")], "unit is pb at 5 GeV and events at 6 GeV; expected one"),
        ([limits_content([5.0])[0] | {"mass": None}], "rows.0.mass: Value error, nothing to draw it against; those of a workspace"),
        ([limits_content([5.0])[0] | {"expected": [1.0]}], "rows.0.expected: Tuple should have at least 5 items"),
        ([limits_content([5.0])[0] | {"observed": -1.0}], "rows.0.observed: Input should be greater than 0"),
        (fit_content(data=[1.0]), "data has 1 entries; expected 11, one for each bin"),
        (fit_content(edges=EDGES[::-1].tolist()), "edges must increase"),
        (fit_content(values=[1.0]), r"parameters, values and covariance have the sizes \[1, 2\]; expected one"),
        (fit_content(prediction=["1", *PREDICTION[1:]]), "prediction.0: Input should be a valid number"),
        (fit_content(p_value=float("nan")), "p_value: Input should be less than or equal to 1 .given: nan"),
        (fit_content(ndof=10**400), "ndof: Input should be less than or equal to 1000000000"),
        (fit_content(values=[10**400, 1.0]), "values.0: Input should be a"),
        (significance_content() | {"global": 3}, "global: Input should be a valid tuple"),
        (DIAGNOSIS | {"correlations": {"names": ["a"], "matrix": []}}, "matrix is not 1 by 1, as its names ask for"),
        (fit_content(prediction=[-1.5, *PREDICTION[1:]]), r"prediction is -1\.5 in a bin that was used; expected at least 0 there"),
    ],
)  # fmt: skip
def test_what_is_no_product_is_refused_in_one_line(content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        product_of(content, "x.json")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_names_cannot_break_a_figure() -> None:
    name = r"$\undefined{" + "x" * 100 + "\n"
    fit = Fit.model_validate(fit_content(function=name, spectrum=name))
    figure = fit_figure(fit, LABEL)
    figure.draw_without_rendering()
    assert len(fit.function) < 60
    assert "\n" not in fit.function


def test_a_file_becomes_figures_of_its_name(
    tmp_path: Path, figures: dict[str, Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "limits_13.json", tmp_path / "plots"
    path.write_text(json.dumps(limits_content()))
    asked: list[Any] = []

    def ready(product: Any, label: Label, **options: Any) -> dict[str, Figure]:
        asked.append((type(product), label, options["log_x"]))
        return {"": figures["limits"], "_coupling": figures["limits_coupling"]}

    def saved(_figure: Figure, stem: Path, style: str, made: Provenance) -> list[Path]:
        assert stem.parent.is_dir()
        assert [item.path for item in made.inputs] == [str(path)]
        return [stem.with_name(f"{stem.name}.{style}")]

    monkeypatch.setattr(plots_products, "product_figures", ready)
    monkeypatch.setattr(plots_products, "save_figure", saved)
    written = draw(path, out, style="atlas", is_data=False, com=13.6, log_x=True)
    assert written == [out / "limits_13.atlas", out / "limits_13_coupling.atlas"]
    path.write_text(json.dumps(fit_content()))
    draw(path, out, is_data=True)
    assert asked == [
        (Limits, Label("atlas", "Private work", False, 13.6), True), (Fit, Label("cms", "Private work", True, 13.0), None),
    ]  # fmt: skip


@pytest.mark.slow
def test_files_are_written(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(fit_content()))
    written = draw(path, tmp_path / "new" / "plots", is_data=True)
    assert [file.name for file in written] == ["fit.png", "fit.pdf"]
    assert all(file.stat().st_size > 5000 for file in written)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    path, out = tmp_path / "fit.json", tmp_path / "plots"
    path.write_text(json.dumps(fit_content()))
    assert isinstance(read_product(path), Fit)
    with pytest.raises(InputError, match=r"fit\.json has no limits; leave curves and predictions out"):
        draw(path, out, is_data=True, overlays=["a.json"])
    path.write_text(json.dumps(BUMP | {"toys_statistics": []}))
    with pytest.raises(
        InputError, match="has nothing to draw; make it again with toys, masses or parameters"
    ):
        draw(path, out, is_data=True)
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"fit\.json is no JSON"):
        draw(path, out, is_data=True)
    with pytest.raises(
        InputError, match=r"gone\.json cannot be read: No such file or directory; check the path"
    ):
        draw(tmp_path / "gone.json", out, is_data=True)
