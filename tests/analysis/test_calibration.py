"""`trila calibrate` from a RESULT to the file, its report, and what it says."""

import json
from pathlib import Path
from typing import Any

import correctionlib
import numpy as np
import pytest
from typer.testing import CliRunner

from trila.analysis import cli, results, steps
from trila.analysis.calibration import calibrate
from trila.analysis.calibration_config import CalibrationConfig, load_calibration_config
from trila.analysis.calibration_report import notes, suggested_runs
from trila.analysis.derive import derive_all
from trila.analysis.pairs import Level, read_pairs
from trila.corrections.calibration_set import metadata
from trila.corrections.derivation import DerivationConfig
from trila.corrections.pairs import Pairs
from trila.processors.errors import InputError
from trila.processors.recipes import digest

SMALL = "scale: {eta_edges: [-2.5, 0.0, 2.5], entries: 30, replicas: 20, eigen_variations: 2, knots: 3}\n"


def silent(_stage: str, _total: int) -> Any:
    return lambda _advance: None


@pytest.fixture(scope="module")
def result(jets_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("result") / "r"
    steps.run(["response"], [str(path) for path in sorted(jets_sample.glob("*.root"))], folder)
    return folder


@pytest.fixture(scope="module")
def made(result: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The file as the command makes it, and what it prints."""
    folder = tmp_path_factory.mktemp("calibration")
    (folder / "c.yaml").write_text(SMALL)
    output = folder / "c.json.gz"
    arguments = ["calibrate", str(result), "-o", str(output), "--config", str(folder / "c.yaml")]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    return output, done.output


def test_the_file_says_where_it_comes_from(made: tuple[Path, str], result: Path) -> None:
    manifest = json.loads((result / "manifest.json").read_text())
    said = metadata(str(made[0]))
    assert said["manifest_digest"] == digest(manifest)
    assert said["levels"] == {
        "hlt": {"level": "raw", "file": None, "correction": None},
        "offline": {"level": "stored", "file": None, "correction": None},
        "tag": "offline, as stored",
    }
    assert said["estimator"] == "median"
    assert said["trigger"] == "none"
    assert said["era"] == sorted({item["era"] for item in manifest["inputs"]})
    assert said["lumi_mask_digest"] is None
    assert said["pileup_variable"] == "rho"
    assert {
        "statistical_0",
        "statistical_rest",
        "method",
        "binning",
        "trigger",
        "smoothing",
        "closure",
        "pileup",
    } <= set(said["sources"])


def test_plain_correctionlib_corrects_the_other_half(made: tuple[Path, str], result: Path) -> None:
    """The response of jets that it has not seen comes out as one, within the few events there are."""
    pairs = read_pairs(results.read(result), Level(level="raw"), Level(level="stored"), half="second").pairs
    jec = correctionlib.CorrectionSet.from_file(str(made[0])).compound["hlt_jec"]
    inside = (np.abs(pairs.eta) < 1.3) & (pairs.tag > 100) & (pairs.tag < 600)
    p = pairs.take(inside)
    assert p.area is not None
    assert p.pileup is not None
    columns = (np.asarray(c, np.float64) for c in (p.hlt, p.eta, p.area, p.pileup))
    before, after = p.hlt / p.offline, p.hlt * jec.evaluate(*columns, "nominal") / p.offline
    assert abs(np.median(before) - 1) > 0.01
    assert abs(np.median(after) - 1) < 0.004


def test_the_command_prints_a_table(made: tuple[Path, str]) -> None:
    assert "-2.5 to 0" in made[1]
    assert "pairs, " in made[1]
    assert "c.json.gz" in made[1]


@pytest.mark.slow
def test_the_report_has_plots_and_numbers(result: Path, tmp_path: Path) -> None:
    config = CalibrationConfig(scale=DerivationConfig(eta_edges=(-1.3, 0.0, 1.3), replicas=20, entries=30))
    outcome = calibrate(
        result, tmp_path / "c.json.gz", config=config, report=tmp_path / "report", progress=silent
    )
    summary = json.loads((tmp_path / "report/calibration.json").read_text())
    curve = summary["regions"][0]["curve"]
    assert curve["ndof"] > 0
    assert set(curve["mass_distortion"]) == set(curve["largest_change"])
    assert all(path.is_file() for path in outcome.plots)
    assert {path.suffix for path in outcome.plots} == {".png", ".pdf"}


def _toy(step: float) -> Pairs:
    """Pairs whose response is 0.95, and higher by `step` from run 500 on."""
    rng = np.random.default_rng(4)
    number = 120_000
    tag = np.exp(rng.uniform(np.log(30), np.log(1000), number))
    run = np.sort(rng.integers(450, 550, number))
    offline = tag * rng.normal(1, 0.2, number).clip(0.3, 2)
    hlt = offline * 0.95 * (1 + step * (run >= 500)) * rng.normal(1, 0.08, number)
    return Pairs(
        hlt=hlt, offline=offline, tag=tag, eta=rng.uniform(-1.3, 1.3, number), phi=np.zeros(number),
        weight=np.ones(number), run=run, luminosity_block=np.ones(number, int), event=np.arange(number),
        alpha=np.zeros(number), particle=offline,
    )  # fmt: skip


def test_ranges_of_runs_get_their_own_calibration() -> None:
    """A step of 2% at run 500 is suggested, and taken out where it is asked for."""
    pairs = _toy(0.02)
    scale = DerivationConfig(eta_edges=(-1.3, 1.3), replicas=20, knots=3)
    derived = derive_all(pairs, CalibrationConfig(scale=scale, runs=(450, 500)), progress=silent)
    first, second = suggested_runs(derived)
    assert (first, abs(second - 500) <= 1) == (450, True)
    log_pt = np.log(np.array([60.0, 200.0, 600.0]))
    factors = []
    for one in derived.calibration.runs:
        curve = one.curves[0]
        assert curve is not None
        factors.append(np.exp(curve.reference(log_pt) - log_pt))
    np.testing.assert_allclose(factors[0] / factors[1], 1.02, atol=0.003)
    assert [(one.first, one.last) for one in derived.calibration.runs] == [(450, 499), (500, 549)]
    shared = CalibrationConfig(scale=scale)
    assert any(
        f"runs: [450, {second}]" in note for note in notes(derive_all(pairs, shared, progress=silent), shared)
    )
    steady = derive_all(_toy(0.0), CalibrationConfig(scale=scale), progress=silent)
    assert len(suggested_runs(steady)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale: {knotz: 3}", r"known sections: hlt, offline, scale"),
        ("runs: [5, 4]", r"runs are \[5, 4\]; expected the first run of each range, ascending"),
        ("scale: {estimator: mean}", r"'median', 'core', 'crystal_ball' or 'ratio_of_means'"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_calibration_config(tmp_path / "c.yaml")


def test_too_few_pairs_and_no_pairs_are_said(result: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("scale: {entries: 1.0e+9}")
    arguments = [
        "calibrate",
        str(result),
        "-o",
        str(tmp_path / "c.json.gz"),
        "--config",
        str(tmp_path / "c.yaml"),
    ]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 2
    assert "no bin has 1e+09 effective pairs" in done.stderr
    assert not (tmp_path / "c.json.gz").exists()
    done = CliRunner().invoke(cli.app, ["calibrate", str(tmp_path), "-o", str(tmp_path / "c.json.gz")])
    assert done.exit_code == 2
    assert "is no result" in done.stderr
