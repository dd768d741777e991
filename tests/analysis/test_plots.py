"""Figures from hand-made histograms with the names and axes of `docs/results.md`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import hist
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from trila.analysis import plots_dimuon
from trila.analysis.plots import figures, plot_histograms
from trila.analysis.plots_cutflow import cutflow_figure
from trila.analysis.plots_dijet import dijet_mass_figure, variation_sources
from trila.analysis.plots_dimuon import dimuon_mass_figure
from trila.analysis.plots_efficiency import efficiency_points, turn_on_figure, turn_on_groups
from trila.analysis.plots_response import response_distributions_figure
from trila.analysis.plots_response_curves import (
    BARREL,
    LEAST_ENTRIES,
    region_label,
    region_sums,
    response_curve,
)
from trila.analysis.plots_spectra import merged_starts, spectrum
from trila.analysis.plots_style import Label, save_figure
from trila.corrections.efficiency import clopper_pearson

ETA = [-5.191, -2.964, -2.5, -1.305, 0.0, 1.305, 2.5, 2.964, 5.191]
PT = [
    24, 28, 32, 37, 43, 49, 56, 64, 74, 84, 97, 114, 133, 153, 174, 196, 220, 245, 272, 300,
    362, 430, 507, 592, 686, 790, 905, 1032, 1172, 1327, 1497, 1684, 1890, 2116, 2500,
]  # fmt: skip
MASS = [
    453, 489, 526, 565, 606, 649, 693, 740, 788, 838, 890, 944, 1000, 1058, 1118, 1181, 1246, 1313, 1383, 1455, 1530,
    1607, 1687, 1770, 1856, 1945, 2037, 2132, 2231, 2332, 2438, 2546, 2659, 2775, 2895, 3019, 3147, 3279, 3416, 3558,
    3704, 3854, 4010, 4171, 4337, 4509, 4686, 4869, 5058, 5253, 5455, 5663, 5877, 6099, 6328, 6564, 6808, 7060,
]  # fmt: skip


def new(*axes: Any) -> hist.Hist[Any]:
    return hist.Hist(*axes, storage=hist.storage.Weight())


def variable(edges: Any, name: str) -> Any:
    return hist.axis.Variable(edges, name=name)


def response_toys(size: int, seed: int = 1) -> dict[str, hist.Hist[Any]]:
    """Jets with a falling pT spectrum, an HLT scale of 0.95 and a resolution that improves with pT."""
    generator = np.random.default_rng(seed)
    gen = np.minimum(25.0 * generator.uniform(0, 1, size) ** (-1 / 2.2), 2400.0)
    eta = np.clip(generator.normal(0, 1.9, size), -5.1, 5.1)
    worse = 1 + 0.25 * np.abs(eta)

    def smeared(pt: Any, scale: Any, noise: float, constant: float) -> Any:
        width = worse * np.hypot(noise / np.sqrt(pt), constant)
        return pt * np.clip(scale + width * generator.normal(size=size), 0.05, 3)

    offline = smeared(gen, 1.0, 0.7, 0.03)
    hlt = smeared(offline, 0.95 + 0.01 * np.log10(gen / 30) - 0.01 * np.abs(eta), 0.6, 0.02)
    tag = smeared(gen, 1.0, 0.7, 0.03)
    response, weight = hlt / offline, np.ones(size)
    eta_axis, axis = variable(ETA, "eta"), hist.axis.Regular(600, 0, 3, name="response")
    result = {}
    for name, pt_name, pt, value in (
        ("tag_probe", "pt_tag", tag, response),
        ("tag_probe_reference", "pt_reference", offline, response),
        ("tag_probe_hlt", "pt_hlt", hlt, response),
        ("tag_probe_average", "pt_average", 0.5 * (tag + offline), response),
        ("direct", "pt_reference", offline, response),
        ("hlt_gen", "pt_gen", gen, hlt / gen),
        ("offline_gen", "pt_gen", gen, offline / gen),
    ):
        result[f"response.{name}"] = new(eta_axis, variable(PT, pt_name), axis).fill(
            eta, pt, value, weight=weight
        )
    result["response.pt_correlation"] = new(
        eta_axis, variable(PT, "pt_reference"), variable(PT, "pt_hlt")
    ).fill(eta, offline, hlt, weight=weight)
    matched = generator.uniform(size=size) < 0.995 - 0.3 * np.exp(-(offline - 24) / 12) - 0.004 * np.abs(eta)
    for name, pt in (("reference", offline), ("hlt", hlt)):
        result[f"response.matching_{name}"] = new(
            eta_axis, variable(PT, f"pt_{name}"), hist.axis.Integer(0, 2, flow=False, name="matched")
        ).fill(eta, pt, matched.astype(int), weight=weight)
    result["response.delta_r"] = new(
        variable(PT, "pt_reference"), hist.axis.Regular(40, 0, 0.4, name="delta_r")
    ).fill(offline, np.minimum(0.39, (0.01 + 0.6 / offline) * generator.rayleigh(size=size)), weight=weight)
    return result


def efficiency_toys(size: int, seed: int = 2) -> dict[str, hist.Hist[Any]]:
    generator = np.random.default_rng(seed)
    pt = np.minimum(30.0 * generator.uniform(0, 1, size) ** (-1 / 2.2), 2400.0)
    passed_axis = hist.axis.Integer(0, 2, flow=False, name="passed")
    result = {}
    for threshold in (40, 60, 80, 140, 200, 260, 320, 400, 450, 500):
        probability = 0.5 * (1 + np.tanh((pt / threshold - 1.0) / 0.16))
        passed = (generator.uniform(size=size) < probability).astype(int)
        result[f"efficiency.HLT_PFJet{threshold}"] = new(variable(PT, "pt"), passed_axis).fill(
            pt, passed, weight=1.0
        )
    probability = 0.5 * (1 + np.tanh((pt / 180 - 1.0) / 0.2))
    passed = (generator.uniform(size=size) < probability).astype(int)
    name = "efficiency.DST_PFScouting_JetHT"
    for suffix, axis, value in (
        ("", variable(PT, "pt"), pt),
        (".average", variable(PT, "pt"), 0.95 * pt),
        (".mass", hist.axis.Regular(500, 0, 5000, name="mass"), 2.2 * pt),
        (".tag_probe", variable(PT, "pt"), pt),
    ):
        result[name + suffix] = new(axis, passed_axis).fill(value, passed, weight=1.0)
    return result


def dijet_toys(size: int, seed: int = 3, systematics: bool = True) -> dict[str, hist.Hist[Any]]:
    generator = np.random.default_rng(seed)
    mass = 453.0 * generator.uniform(0, 1, size) ** (-1 / 4.5)
    names = ["nominal", "jes_up", "jes_down", "jer_up", "jer_down"] if systematics else ["nominal"]
    axis = hist.axis.StrCategory(names, name="systematic")
    fine, standard = (
        new(axis, hist.axis.Regular(7000, 0, 7000, name="mass")),
        new(axis, variable(MASS, "mass")),
    )
    for name, shift in zip(names, (1.0, 1.02, 0.98, 1.004, 0.997), strict=False):
        fine.fill(name, shift * mass, weight=1.0)
        standard.fill(name, shift * mass, weight=1.0)
    y_star = np.clip(generator.normal(0, 0.6, size), -1.5, 1.5)
    both = hist.axis.StrCategory(["leading", "subleading"], name="jet")
    lead = mass / (2 * np.cosh(y_star))
    pt, eta = new(both, variable(PT, "pt")), new(both, hist.axis.Regular(50, -2.5, 2.5, name="eta"))
    phi = new(both, hist.axis.Regular(64, -np.pi, np.pi, name="phi"))
    for name, scale in (("leading", 1.0), ("subleading", 0.9)):
        pt.fill(name, scale * lead, weight=1.0)
        eta.fill(name, y_star + generator.normal(0, 0.5, size), weight=1.0)
        phi.fill(name, generator.uniform(-np.pi, np.pi, size), weight=1.0)
    regular = hist.axis.Regular
    return {
        "dijet.mass": fine,
        "dijet.mass_standard": standard,
        "dijet.pt": pt,
        "dijet.eta": eta,
        "dijet.phi": phi,
        "dijet.delta_eta": new(regular(50, 0, 5, name="delta_eta")).fill(2 * np.abs(y_star), weight=1.0),
        "dijet.delta_phi": new(regular(64, 0, np.pi, name="delta_phi")).fill(
            np.pi - np.minimum(3.0, generator.exponential(0.25, size)), weight=1.0
        ),
        "dijet.y_star": new(regular(60, -3, 3, name="y_star")).fill(y_star, weight=1.0),
        "dijet.chi": new(regular(50, 1, 21, name="chi")).fill(np.exp(2 * np.abs(y_star)), weight=1.0),
        "dijet.n_jets": new(hist.axis.Integer(0, 15, name="n_jets")).fill(
            2 + generator.poisson(0.9, size), weight=1.0
        ),
    }


def dimuon_toys(size: int, seed: int = 4) -> dict[str, hist.Hist[Any]]:
    generator = np.random.default_rng(seed)
    peaks = {0.78: 0.05, 1.0195: 0.05, 3.0969: 0.25, 3.6861: 0.03, 9.4604: 0.08, 10.02: 0.03, 91.188: 0.02}
    masses = [0.22 * (150 / 0.22) ** generator.beta(1.3, 2.2, size // 2)] + [
        peak * (1 + (0.013 if peak < 50 else 0.02) * generator.normal(size=int(fraction * size)))
        for peak, fraction in peaks.items()
    ]
    opposite, same = np.concatenate(masses), 0.22 * (150 / 0.22) ** generator.beta(1.3, 2.2, size // 4)
    signs = hist.axis.StrCategory(["os", "ss"], name="sign")
    categories = ["barrel", "forward", "barrel_displaced", "forward_displaced"]
    mass = new(
        signs,
        hist.axis.StrCategory(categories, name="category"),
        hist.axis.Regular(700, 0.2, 200, transform=hist.axis.transform.log, name="mass"),
    )
    result = {
        "dimuon.mass": mass,
        "dimuon.pt": new(signs, hist.axis.Regular(100, 0, 100, name="pt")),
        "dimuon.rapidity": new(signs, hist.axis.Regular(48, -2.4, 2.4, name="rapidity")),
        "dimuon.muon_pt": new(signs, hist.axis.Regular(100, 0, 100, name="pt")),
        "dimuon.muon_eta": new(signs, hist.axis.Regular(48, -2.4, 2.4, name="eta")),
    }
    for sign, values in (("os", opposite), ("ss", same)):
        parts = generator.choice(4, values.size, p=[0.5, 0.4, 0.06, 0.04])
        for index, category in enumerate(categories):
            mass.fill(sign, category, values[parts == index], weight=1.0)
        pt = generator.exponential(8.0, values.size) + 2
        result["dimuon.pt"].fill(sign, pt, weight=1.0)
        result["dimuon.muon_pt"].fill(sign, 3 + generator.exponential(5.0, values.size), weight=1.0)
        for name in ("rapidity", "muon_eta"):
            result[f"dimuon.{name}"].fill(sign, generator.normal(0, 1.2, values.size), weight=1.0)
    return result


def cutflow_toy() -> dict[str, dict[str, list[dict[str, Any]]]]:
    def rows(*pairs: tuple[str, int]) -> list[dict[str, Any]]:
        return [{"cut": cut, "events": n, "sumw": float(n), "sumw2": float(n)} for cut, n in pairs]

    dijet = rows(
        ("all", 1_000_000), ("luminosity_mask", 960_000), ("trigger", 310_000), ("two_jets", 290_000),
        ("delta_eta", 120_000), ("mass", 45_000),
    )  # fmt: skip
    dimuon = rows(("all", 1_000_000), ("trigger", 80_000), ("two_muons", 20_000), ("vertex", 0))
    return {
        "qcd_pt_170_300": {"dijet": dijet, "dimuon": dimuon},
        "qcd_pt_300_470": {"dijet": [{**row, "events": row["events"] // 3} for row in dijet]},
    }


NAMES = {
    "pt_correlation", "response_distributions", "response_vs_pt", "response_direct_vs_pt", "response_axes",
    "response_gen", "matching_reference", "matching_hlt", "delta_r", "efficiency_HLT_PFJetX",
    "efficiency_DST_PFScouting_JetHT", "efficiency_DST_PFScouting_JetHT_average",
    "efficiency_DST_PFScouting_JetHT_mass", "efficiency_DST_PFScouting_JetHT_tag_probe", "dijet_mass",
    "dijet_control", "dimuon_mass", "dimuon_mass_categories", "dimuon_peaks", "dimuon_control", "cutflow_dijet",
    "cutflow_dimuon",
}  # fmt: skip
TOY = Label("cms", "Private work", False, 13.6)


@pytest.fixture(scope="module")
def histograms() -> dict[str, hist.Hist[Any]]:
    return {**response_toys(60_000), **efficiency_toys(20_000), **dijet_toys(20_000), **dimuon_toys(40_000)}


@pytest.fixture(scope="module")
def drawn(histograms: dict[str, hist.Hist[Any]]) -> dict[str, Figure]:
    before = dict(matplotlib.rcParams)
    made = {name: make() for name, make in figures(histograms, TOY, cutflow=cutflow_toy())}
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []
    return {name: figure for name, figure in made.items() if figure is not None}


def axis_labels(figure: Figure) -> list[str]:
    labels = [text for ax in figure.axes for text in (ax.get_xlabel(), ax.get_ylabel()) if text]
    return labels + [text for text in (figure.get_supxlabel(), figure.get_supylabel()) if text]


def texts(figure: Figure) -> Iterator[str]:
    for ax in figure.axes:
        yield from (text.get_text() for text in ax.texts)


def test_every_figure_of_the_contract_is_made(drawn: dict[str, Figure]) -> None:
    assert set(drawn) == NAMES


def test_labels_have_units(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        labels = axis_labels(figure)
        assert len(labels) >= (1 if name.startswith("cutflow") else 2), name
        for text in labels:
            dimensionless = any(word in text for word in ("Median", "Response", "width", "Variation"))
            if not dimensionless and ("p_" in text or text.startswith("$m_")):
                assert "[GeV]" in text, (name, text)
            if "phi" in text:
                assert "[rad]" in text, (name, text)
            if "mathrm{d}N" in text:
                assert "/ GeV]" in text, (name, text)


def test_no_point_lies_under_a_legend(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        for ax in figure.axes:
            legend = ax.get_legend()
            if legend is None:
                continue
            box = legend.get_window_extent()
            for line in ax.lines:
                if line.get_marker() not in ("None", None, ""):
                    inside = box.count_contains(ax.transData.transform(line.get_xydata()))
                    assert inside == 0, (name, line.get_label())


def test_no_text_overlaps_another_or_is_clipped(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        page = figure.bbox
        for ax in figure.axes:
            boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
            legend = ax.get_legend()
            if legend is not None:
                boxes.append(legend.get_window_extent())
            for i, box in enumerate(boxes):
                assert page.x0 <= box.x0, name
                assert box.x1 <= page.x1 + 1, name
                assert box.y1 <= page.y1 + 1, name
                assert not any(box.overlaps(other) for other in boxes[:i]), (
                    name,
                    [t.get_text() for t in ax.texts],
                )


def test_toys_are_not_signed_for_an_experiment(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        assert "Private work (simulation)" in set(texts(figure)), name
        assert "CMS" not in set(texts(figure)), name


def test_files_are_complete_and_nothing_global_changes(
    histograms: dict[str, hist.Hist[Any]], tmp_path: Path
) -> None:
    before = dict(matplotlib.rcParams)
    chosen = {name: histograms[name] for name in ("response.pt_correlation", "response.delta_r")}
    written = plot_histograms(chosen, tmp_path / "new" / "plots", is_data=False, com=13.6)
    assert [path.name for path in written] == [
        f"{name}.{kind}" for name in ("pt_correlation", "delta_r") for kind in ("png", "pdf")
    ]
    assert sorted(written) == sorted((tmp_path / "new" / "plots").iterdir())
    for path in written:
        content = path.read_bytes()
        assert len(content) > 5000
        assert content.startswith(b"\x89PNG\r\n" if path.suffix == ".png" else b"%PDF-")
        assert content.rstrip().endswith(b"IEND\xaeB`\x82" if path.suffix == ".png" else b"%%EOF")
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("style", "name"), [("cms", "CMS"), ("atlas", "ATLAS"), ("lhcb", "LHCb")])
def test_styles_and_labels(style: Any, name: str) -> None:
    histogram = dijet_toys(2000, systematics=False)["dijet.mass_standard"]
    figure = dijet_mass_figure(histogram, Label(style, "Preliminary", True, 13.6, 34_700.0))
    assert figure is not None
    assert list(texts(figure)) == [name, "Preliminary", r"34.7 $\mathrm{fb}^{-1}$ (13.6 TeV)"]
    figure = dijet_mass_figure(histogram, Label(style, "Preliminary", False, None, 2.5))
    assert figure is not None
    assert list(texts(figure)) == [name, "Simulation Preliminary", r"2.5 $\mathrm{pb}^{-1}$"]


def test_a_long_label_is_shrunk_to_the_frame() -> None:
    label = Label("cms", "Work in progress, with a long remark", False, 13.6, 138_000.0)
    figure = dijet_mass_figure(dijet_toys(2000, systematics=False)["dijet.mass_standard"], label)
    assert figure is not None
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.x0)
    assert len(boxes) == 3
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert boxes[-1].x1 <= figure.axes[0].get_window_extent().x1 + 1


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="style is 'alice'; choose one of cms, atlas, lhcb"):
        plot_histograms({}, tmp_path, style="alice", is_data=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='reference is \'truth\'; choose "offline" or "gen"'):
        plot_histograms({}, tmp_path, reference="truth", is_data=True)  # type: ignore[arg-type]


def test_empty_histograms_cost_their_figures_only(
    histograms: dict[str, hist.Hist[Any]], tmp_path: Path
) -> None:
    empty = {name: histogram.copy().reset() for name, histogram in histograms.items()}
    nothing = {"data": {"dijet": [{"cut": "all", "events": 0, "sumw": 0.0, "sumw2": 0.0}], "dimuon": []}}
    assert (
        plot_histograms({**empty, "Mine.mass": empty["dijet.mass"]}, tmp_path, is_data=True, cutflow=nothing)
        == []
    )


def test_a_single_entry_is_no_obstacle() -> None:
    few = {**response_toys(1), **efficiency_toys(1), **dijet_toys(1), **dimuon_toys(4)}
    made = {name for name, make in figures(few, TOY) if make() is not None}
    assert {"pt_correlation", "dijet_mass", "dijet_control", "dimuon_mass"} <= made
    assert made.isdisjoint({"response_vs_pt", "response_distributions", "dimuon_peaks"})


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Figure, path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        save_figure(Figure(), tmp_path / "a", "cms")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_response_curve_finds_what_was_put_in() -> None:
    generator = np.random.default_rng(5)
    size = 40_000
    histogram = new(
        variable(ETA, "eta"),
        variable([30, 60, 100, 200], "pt_tag"),
        hist.axis.Regular(600, 0, 3, name="response"),
    )
    pt = generator.choice([40.0, 80.0], size)
    eta = generator.choice([-1.0, 1.0, 2.0], size)
    histogram.fill(
        eta, pt, np.where(np.abs(eta) < 1.3, 0.95, 0.8) + 4 / pt * generator.normal(size=size), weight=0.5
    )
    curve = response_curve(histogram, BARREL)
    assert curve is not None
    np.testing.assert_allclose(curve.pt, [np.sqrt(30 * 60), np.sqrt(60 * 100)])
    assert np.all(np.abs(curve.median - 0.95) < 4 * curve.median_error)
    assert np.all(np.abs(curve.width - [0.1, 0.05]) < 4 * curve.width_error + 2e-4)
    entries = size / 3
    np.testing.assert_allclose(
        curve.median_error,
        1.2533 * np.array([0.1, 0.05]) / np.sqrt(entries * np.array([0.5, 0.5]) * 2),
        rtol=0.1,
    )
    assert response_curve(histogram, (2.5, 3.0)) is None


def test_bins_with_too_few_entries_are_not_drawn() -> None:
    histogram = new(
        variable([-5, 0, 5], "eta"),
        variable([10, 20, 30], "pt_tag"),
        variable(np.linspace(0, 2, 41), "response"),
    )
    for index, entries in enumerate((LEAST_ENTRIES - 1, LEAST_ENTRIES)):
        values = np.linspace(0.8, 1.2, entries)
        histogram.fill(np.full(entries, 1.0), np.full(entries, 15.0 + 10 * index), values, weight=2.0)
    curve = response_curve(histogram, (0.0, 5.0))
    assert curve is not None
    np.testing.assert_array_equal(curve.edges, [[20], [30]])


def test_regions_take_bins_by_their_centre() -> None:
    histogram = new(variable(ETA, "eta")).fill([-2.7, -1.0, 0.5, 1.4, 4.0], weight=[1.0, 2.0, 4.0, 8.0, 16.0])
    expected = {(0.0, 1.3): 6.0, (1.3, 2.5): 8.0, (2.5, 3.0): 1.0, (3.0, 5.2): 16.0}
    for region, content in expected.items():
        sums = region_sums(histogram, region)
        assert sums is not None
        assert sums[0] == content
    spans = [region_sums(histogram, region) for region in expected]
    assert [region_label(sums[2]) for sums in spans if sums is not None] == [
        r"$|\eta| < 1.3$", r"$1.3 < |\eta| < 2.5$", r"$2.5 < |\eta| < 3$", r"$3 < |\eta| < 5.2$",
    ]  # fmt: skip
    one_bin = region_sums(new(variable([-1.3, 1.3], "eta")).fill([0.1], weight=1.0), BARREL)
    assert one_bin is not None
    assert region_label(one_bin[2]) == r"$|\eta| < 1.3$"


def test_efficiencies_of_unweighted_and_weighted_entries() -> None:
    edges = np.array([10.0, 20.0, 40.0, 80.0])
    values = np.array([[10.0, 30.0], [0.0, 50.0], [3.0, 2.0]])
    points = efficiency_points(values, values, edges)
    np.testing.assert_allclose(points.efficiency, [0.75, 1.0])  # the third bin has too few entries
    low, high = clopper_pearson([30, 50], [40, 50])
    np.testing.assert_allclose(points.error, [points.efficiency - low, high - points.efficiency])
    scaled = efficiency_points(1e-3 * values, 1e-6 * values, edges)
    np.testing.assert_allclose(scaled.error, points.error)


def test_fine_bins_are_merged_for_efficiencies() -> None:
    edges = np.linspace(0.0, 5000.0, 5001)
    values = np.full((5000, 2), 10.0)
    points = efficiency_points(values, values, edges)
    assert points.efficiency.size <= 51
    np.testing.assert_array_equal(points.edges[0][1:], points.edges[1][:-1])
    assert points.edges[0][0] == 1.0  # the bin from zero has no place on a logarithmic axis
    np.testing.assert_allclose(points.efficiency, 0.5)


def test_triggers_of_a_family_share_a_figure() -> None:
    toys = efficiency_toys(1)
    groups = turn_on_groups({**toys, "efficiency.HLT_AK8PFJet500": toys["efficiency.HLT_PFJet500"]})
    assert [(name, kind, len(members)) for (name, kind), members in groups.items()] == [
        ("HLT_PFJetX", "leading", 10),
        ("DST_PFScouting_JetHT", "leading", 1),
        ("DST_PFScouting_JetHT", "average", 1),
        ("DST_PFScouting_JetHT", "mass", 1),
        ("DST_PFScouting_JetHT", "tag_probe", 1),
        ("HLT_AK8PFJet500", "leading", 1),
    ]
    reverse = dict(reversed([item for item in toys.items() if "PFJet" in item[0]]))
    assert list(turn_on_groups(reverse)["HLT_PFJetX", "leading"])[:3] == [
        "HLT_PFJet40",
        "HLT_PFJet60",
        "HLT_PFJet80",
    ]


def test_legend_of_a_family_names_the_thresholds() -> None:
    toys = efficiency_toys(2000)
    members = {f"HLT_PFJet{pt}": toys[f"efficiency.HLT_PFJet{pt}"] for pt in (40, 80)}
    figure = turn_on_figure(members, TOY)
    assert figure is not None
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "HLT_PFJet…"
    assert [text.get_text() for text in legend.get_texts()] == ["40", "80"]


def test_spectrum_is_per_gev_and_leaves_empty_bins_out() -> None:
    values, variances = np.array([4.0, 0.0, 6.0, 2.0]), np.array([4.0, 0.0, 12.0, 2.0])
    content = spectrum(values, variances, np.array([1.0, 2.0, 4.0, 8.0, 10.0]))
    np.testing.assert_allclose(content.density, [4.0, 1.5, 1.0])
    np.testing.assert_allclose(content.error, [2.0, np.sqrt(12) / 4, np.sqrt(2) / 2])
    merged = spectrum(values, variances, np.array([1.0, 2.0, 4.0, 8.0, 10.0]), np.array([0, 2]))
    np.testing.assert_allclose(merged.density, [4 / 3, 8 / 6])
    from_zero = spectrum(values, variances, np.array([0.0, 2.0, 4.0, 8.0, 10.0]))
    np.testing.assert_allclose(from_zero.density[0], 2.0)  # divided by the whole bin
    np.testing.assert_allclose(from_zero.center[0] - from_zero.reach[0, 0], 1.0)  # drawn over its upper half


def test_merged_bins_cover_all_and_hold_enough() -> None:
    generator = np.random.default_rng(6)
    edges = np.geomspace(1, 100, 401)
    values = generator.poisson(1.5, 400).astype(float)
    values[:20] = values[-7:] = 0
    starts = merged_starts(values, values, edges, entries=16.0, widest=10.0)
    sums = np.add.reduceat(values, starts)
    assert starts[0] == 0
    assert sums.sum() == values.sum()
    assert sums[0] == sums[-1] == 0
    assert np.all(sums[1:-2] >= 16)
    narrow = merged_starts(values, values, edges, entries=1e9, widest=0.1)
    assert np.all(edges[narrow[2:-1]] / edges[narrow[1:-2]] < 1.1 * edges[1] / edges[0])
    np.testing.assert_array_equal(
        merged_starts(100 + values, 100 + values, edges, entries=16, widest=1), np.arange(400)
    )
    np.testing.assert_array_equal(
        merged_starts(0 * values, 0 * values, edges, entries=16, widest=1), np.arange(400)
    )


def test_variations_are_paired() -> None:
    names = ["nominal", "jes_up", "jes_down", "jerUp", "jerDown", "pileup", "trigger"]
    assert variation_sources(names) == {
        "jes": ["jes_up", "jes_down"],
        "jer": ["jerUp", "jerDown"],
        "pileup": ["pileup"],
        "trigger": ["trigger"],
    }


def test_the_ratio_panel_is_there_only_with_variations() -> None:
    alone = dijet_mass_figure(dijet_toys(3000, systematics=False)["dijet.mass_standard"], TOY)
    varied = dijet_mass_figure(dijet_toys(3000)["dijet.mass_standard"], TOY)
    assert alone is not None
    assert varied is not None
    assert (len(alone.axes), len(varied.axes)) == (1, 2)
    legend = varied.axes[0].get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["Simulation", "Statistical error", "jes up, down", "jer up, down"]


def test_resonances_are_named_only_where_there_are_data() -> None:
    histogram = dimuon_toys(1)["dimuon.mass"].copy().reset()
    masses = np.concatenate([np.full(500, 3.0969), np.linspace(2.0, 15.0, 300)])
    histogram.fill("os", "barrel", masses, weight=1.0)
    figure = dimuon_mass_figure(histogram, TOY)
    assert figure is not None
    named = [text for text in texts(figure) if text in plots_dimuon.RESONANCES]
    assert named == [r"$J/\psi$", r"$\Upsilon(1S)$"] or named == [r"$J/\psi$"]


@pytest.mark.parametrize("wanted", [[0.5, 0.5, 0.5], [0.0, 0.01, 0.9], [0.2, 0.95, 1.0], [0.1, 0.5, 0.9]])
def test_names_are_spread_without_overlap(wanted: list[float]) -> None:
    widths = np.array([0.1, 0.2, 0.15])
    centers = plots_dimuon._spread(wanted, list(widths))
    assert np.all(np.diff(centers) >= (widths[1:] + widths[:-1]) / 2)
    assert centers[0] - widths[0] / 2 >= 0
    assert centers[-1] + widths[-1] / 2 <= 1
    if wanted == [0.1, 0.5, 0.9]:
        np.testing.assert_allclose(centers, wanted)


def test_many_datasets_are_summed_in_a_cutflow() -> None:
    rows = cutflow_toy()["qcd_pt_170_300"]
    few = cutflow_figure({f"d{i}": rows for i in range(4)}, "dijet", TOY)
    many = cutflow_figure({f"d{i}": rows for i in range(5)}, "dijet", TOY)
    assert few is not None
    assert many is not None
    assert (len(few.axes[0].patches), len(many.axes[0].patches)) == (4 * 6, 6)
    assert {"31%", "4.5%"} <= set(texts(many))
    assert cutflow_figure(cutflow_toy(), "response", TOY) is None


def test_tiny_fractions_are_powers_of_ten() -> None:
    rows = [{"cut": cut, "events": n} for cut, n in (("all", 3_000_000_000), ("last", 7))]
    figure = cutflow_figure({"data": {"dijet": rows}}, "dijet", TOY)
    assert figure is not None
    assert {"100%", r"$2.3\times 10^{-7}$%"} <= set(texts(figure))


def test_distributions_need_the_barrel() -> None:
    histogram = new(
        variable([2.5, 3.0], "eta"),
        variable([30, 60], "pt_tag"),
        hist.axis.Regular(600, 0, 3, name="response"),
    )
    assert response_distributions_figure(histogram, TOY) is None
