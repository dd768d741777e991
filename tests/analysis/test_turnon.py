"""`trila turnon`: thresholds of simulated triggers against their truth, the JSON, the figures, and the messages.

For a closed-form truth the detector is set so that HLT pT = offline pT + Gaussian noise of constant width: then the
probability that a probe passes a threshold T is an error function of its offline pT with μ = T and σ = that width.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from trila import __version__
from trila.analysis import cli, results, steps
from trila.analysis.plots_style import Label
from trila.analysis.plots_turnon import fitted_turn_on_figure
from trila.analysis.simulation import simulate
from trila.analysis.toy_detector import Resolution
from trila.analysis.toy_model import DEFAULT
from trila.analysis.turnon import turnon
from trila.corrections.turnon import fit_turn_on
from trila.processors.errors import InputError

NOISE = 9.0
TRIGGERS = ("HLT_PFJet140", "HLT_PFJet200", "HLT_PFJet260")
SAMPLE_CONFIG = "efficiency: {triggers: [HLT_PFJet80, HLT_PFJet500]}\n"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, jets_sample: Path) -> Path:
    """RESULT of two triggers: one with enough entries, one with few."""
    folder = tmp_path_factory.mktemp("turnon")
    (folder / "config.yaml").write_text(SAMPLE_CONFIG)
    steps.run(["efficiency"], [f"{jets_sample}/*.root"], folder / "result", config=folder / "config.yaml")
    return folder / "result"


@pytest.fixture(scope="module")
def written(measured: Path) -> Path:
    """The folder that the command wrote, by default inside RESULT."""
    done = CliRunner().invoke(cli.app, ["turnon", str(measured)])
    assert done.exit_code == 0, done.stderr
    assert "HLT_PFJet80" in done.stdout
    assert "8 turn-ons" in done.stdout
    assert f"figures: {measured}/turnon/turnon.json" in done.stdout
    return measured / "turnon"


def document(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "turnon.json").read_text())
    return content


def entry_of(folder: Path, trigger: str, variable: str = "pt", method: str = "orthogonal") -> dict[str, Any]:
    wanted = (trigger, variable, method)
    found = [e for e in document(folder)["turn_ons"] if (e["trigger"], e["variable"], e["method"]) == wanted]
    assert len(found) == 1
    entry: dict[str, Any] = found[0]
    return entry


def test_json_says_where_it_comes_from(written: Path, measured: Path) -> None:
    content = document(written)
    assert (content["format_version"], content["trila"]) == (1, __version__)
    assert content["manifest_sha256"] == hashlib.sha256((measured / "manifest.json").read_bytes()).hexdigest()
    assert (content["result"], content["reference"]) == (str(measured), "offline")
    assert {(e["trigger"], e["variable"], e["method"]) for e in content["turn_ons"]} == {
        (trigger, *how)
        for trigger in ("HLT_PFJet80", "HLT_PFJet500")
        for how in (("pt", "orthogonal"), ("average_pt", "orthogonal"), ("mass", "orthogonal"), ("pt", "tag_probe"))
    }  # fmt: skip


def test_points_are_those_of_the_fit(written: Path, measured: Path) -> None:
    """Recomputed from the parameters that the file states."""
    for entry in document(written)["turn_ons"]:
        if entry["status"] not in ("good", "poor fit"):
            continue
        parts = [{"mu": entry["mu"], "sigma": entry["sigma"]}, *entry["further_components"]]
        shares = [1 - sum(p["fraction"] for p in parts[1:]), *(p["fraction"] for p in parts[1:])]
        assert np.shape(entry["covariance"]) == (len(entry["parameters"]),) * 2
        for name, found in entry["points"].items():
            cdf = sum(
                s * stats.norm.cdf(found["value"], p["mu"], p["sigma"])
                for s, p in zip(shares, parts, strict=True)
            )
            assert cdf == pytest.approx(float(name.rstrip("%")) / 100, abs=1e-9)
            assert found["error"] > 0


def test_the_known_threshold_is_near(written: Path) -> None:
    """HLT and offline scales differ by a few percent at most, so ε is one half near the trigger's threshold."""
    for method in ("orthogonal", "tag_probe"):
        entry = entry_of(written, "HLT_PFJet80", method=method)
        assert entry["status"] in ("good", "poor fit")
        assert entry["mu"] == pytest.approx(82, abs=4)
        assert 95 < entry["points"]["99%"]["value"] < 185


def test_a_turn_on_without_plateau_has_no_points(written: Path) -> None:
    entry = entry_of(written, "HLT_PFJet500", "mass")
    assert entry["status"] in ("no plateau", "not fitted")
    assert entry["reason"]
    assert entry["points"]["99.5%"] == {"value": None, "error": None}
    assert entry["plateau"]["99%"]["start"] is None
    assert entry["plateau"]["99%"]["reason"]


def test_figures_of_every_fit(written: Path) -> None:
    fitted = [e for e in document(written)["turn_ons"] if e["status"] != "not fitted"]
    stems = {
        f"turnon_{e['trigger']}" + {"pt": "", "average_pt": "_average", "mass": "_mass"}[e["variable"]]
        + ("_tag_probe" if e["method"] == "tag_probe" else "")
        for e in fitted
    }  # fmt: skip
    expected = {f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf")} | {"turnon.json"}
    assert {path.name for path in written.iterdir()} == expected
    assert (written / "turnon_HLT_PFJet80.png").read_bytes().startswith(b"\x89PNG")
    assert (written / "turnon_HLT_PFJet80.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_again_gives_the_same_bytes_in_another_folder(measured: Path, written: Path, tmp_path: Path) -> None:
    outcome = turnon(measured, tmp_path / "other")
    assert outcome.path == tmp_path / "other" / "turnon.json"
    assert outcome.path.read_bytes() == (written / "turnon.json").read_bytes()
    assert sorted(p.name for p in outcome.path.parent.iterdir()) == sorted(p.name for p in written.iterdir())


def test_pulls_and_curve_are_those_of_the_histogram() -> None:
    """Points drawn are the efficiencies of the bins, pulls their distance to the fit."""
    generator = np.random.default_rng(1)
    x = 100 + generator.exponential(60, 20_000)
    passed = generator.uniform(size=x.size) < stats.norm.cdf(x, 160, 10)
    histogram = hist.Hist(
        hist.axis.Regular(200, 0, 1000, name="pt"), hist.axis.Integer(0, 2, flow=False, name="passed"),
        storage=hist.storage.Weight(),
    ).fill(x, passed.astype(int), weight=1.0)  # fmt: skip
    fit = fit_turn_on(histogram.values(), histogram.variances(), histogram.axes[0].edges)
    figure = fitted_turn_on_figure(
        histogram, fit, {"99%": {"value": 183.0, "error": 0.5}}, Label("atlas"), trigger="HLT_j100"
    )
    above, below = figure.axes
    assert "99%: 183.00 ± 0.50 GeV" in [text.get_text() for text in above.get_legend().get_texts()]
    pulls = np.concatenate([c.lines[0].get_ydata() for c in below.containers])
    assert np.abs(pulls).max() < 5
    assert 0.4 < np.std(pulls) < 1.6
    drawn = above.containers[0].lines[0]
    assert np.interp(160.0, drawn.get_xdata(), drawn.get_ydata()) == pytest.approx(0.5, abs=0.08)


def test_a_result_without_efficiencies(jets_sample: Path, tmp_path: Path) -> None:
    steps.run(["dimuon"], [f"{jets_sample}/*.root"], tmp_path / "result", max_events=1000)
    done = CliRunner().invoke(cli.app, ["turnon", str(tmp_path / "result")])
    assert done.exit_code == 2
    assert f"{tmp_path}/result has no efficiency histograms (its processors: dimuon)" in done.stderr
    assert f"`trila run efficiency FILES -o {tmp_path}/result` makes them" in done.stderr
    assert not (tmp_path / "result" / "turnon").exists()


def test_no_result(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no result: it has no manifest\.json"):
        turnon(tmp_path / "nothing")


def test_a_file_in_the_place_of_the_folder(measured: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match=r"taken cannot be written: .*; give another with -o"):
        turnon(measured, tmp_path / "taken")


def test_a_damaged_result(measured: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "histograms.zip", "w") as archive:
        archive.writestr("efficiency.x.json", "{")
    for name in ("manifest.json", "cutflow.json"):
        (tmp_path / name).write_bytes((measured / name).read_bytes())
    with pytest.raises(InputError, match="cannot be read"):
        turnon(tmp_path)


@pytest.fixture(scope="module")
def closed_form(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """RESULT of a million events of the detector of the closed form, and its truth.json."""
    folder = tmp_path_factory.mktemp("closed")
    noise, exact = Resolution(NOISE, 0.0, 0.0), Resolution(0.0, 0.0, 0.0)
    detector = DEFAULT.detector._replace(
        scale_low=1.0, scale_rise=0.0, scale_fall=0.0, endcap_slope=0.0, forward_scale=1.0, hlt=(noise,) * 3,
        offline=(exact,) * 3, tail_fraction=0.0, offset=0.0,
    )  # fmt: skip
    simulate(folder / "toys", kind="jets", events=1_000_000, seed=11, toy=DEFAULT._replace(detector=detector))
    (folder / "config.yaml").write_text(f"efficiency: {{triggers: [{', '.join(TRIGGERS)}]}}\n")
    steps.run(
        ["efficiency"], [f"{folder}/toys/*.root"], folder / "result", config=folder / "config.yaml"
    )  # fmt: skip
    return folder / "result", json.loads((folder / "toys" / "truth.json").read_text())


@pytest.mark.slow
def test_simulated_thresholds_are_recovered(closed_form: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """95%, 99% and 99.5% points within 1 GeV or 0.5% of the truth, and within what the errors say."""
    result, truth = closed_form
    turnon(result, tmp_path)
    pulls = []
    for trigger in TRIGGERS:
        mu = truth["triggers"][trigger]["threshold"]
        sigma = truth["parameters"]["detector"]["hlt"][0]["noise"]
        entry = entry_of(tmp_path, trigger, method="tag_probe")
        assert entry["status"] == "good"
        for name, found in entry["points"].items():
            true = mu + sigma * stats.norm.ppf(float(name.rstrip("%")) / 100)
            assert abs(found["value"] - true) < max(1.0, 0.005 * true)
            assert found["error"] < max(1.0, 0.005 * true)
            pulls.append((found["value"] - true) / found["error"])
    assert np.abs(pulls).max() < 4


@pytest.mark.slow
def test_the_threshold_in_hlt_momentum_is_a_step(
    closed_form: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Against the pT that the trigger itself cuts on, the 99% point is the threshold of truth.json."""
    result, truth = closed_form
    files = [item["file"] for item in results.read(result).manifest["inputs"]]
    (tmp_path / "config.yaml").write_text("efficiency: {triggers: [HLT_PFJet140], reference: hlt}\n")
    steps.run(["efficiency"], files, tmp_path / "result", config=tmp_path / "config.yaml")
    turnon(tmp_path / "result")
    assert document(tmp_path / "result" / "turnon")["reference"] == "hlt"
    entry = entry_of(tmp_path / "result" / "turnon", "HLT_PFJet140")
    assert entry["status"] == "step"
    assert abs(entry["points"]["99%"]["value"] - truth["triggers"]["HLT_PFJet140"]["threshold"]) < 1.0
