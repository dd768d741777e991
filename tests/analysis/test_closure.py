"""`trila closure` on hand-made pairs and a calibration that is their truth: what is counted, written and printed, exit codes, and the messages.

That calibrations close on large samples of known truth is tested in `test_calibration_closure.py`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from correctionlib import schemav2
from typer.testing import CliRunner

from trila import __version__
from trila.analysis import cli, results
from trila.analysis.closure import Closure, closure
from trila.analysis.pairs import Level
from trila.analysis.plots_closure import closure_figure, dependence_figure, plot_closure, pull_figure
from trila.analysis.plots_style import Label
from trila.corrections import correction_set
from trila.corrections.calibration import Calibration, points_of
from trila.corrections.calibration_set import Names, build
from trila.corrections.closure import Row
from trila.corrections.jets import CorrectionError
from trila.corrections.pileup import Offset
from trila.corrections.resampling import second_half
from trila.corrections.response_curve import Curve
from trila.processors import recipes
from trila.processors.errors import InputError

Columns = dict[str, Any]

RESPONSE = 0.9
ENTRIES = 240_000


def write_result(folder: Path, *, pileup: str = "rho") -> Path:
    """A RESULT with pairs in two η regions, HLT pT 0.9 of offline pT with 6% resolution, half of them in the barrel."""
    generator = np.random.default_rng(1)
    tag = np.exp(generator.uniform(np.log(30.0), np.log(1000.0), ENTRIES))
    hlt = RESPONSE * tag * generator.normal(1.0, 0.06, ENTRIES)
    columns = {
        "run": np.repeat(generator.integers(1, 5, ENTRIES // 2), 2).astype(np.uint32),
        "luminosity_block": np.ones(ENTRIES, dtype=np.uint32),
        "event": np.repeat(np.arange(ENTRIES // 2, dtype=np.uint64), 2), "weight": np.ones(ENTRIES),
        "pt_hlt": hlt, "pt_hlt_raw": hlt, "pt_offline": tag, "pt_offline_raw": tag, "pt_gen": tag, "pt_tag": tag,
        "eta": generator.uniform(-1.3, 1.3, ENTRIES), "phi": generator.uniform(-np.pi, np.pi, ENTRIES),
        pileup: generator.uniform(5.0, 40.0, ENTRIES), "area": np.full(ENTRIES, 0.5),
    }  # fmt: skip
    columns["eta"][::2] *= 2.0
    columns["eta_hlt"] = columns["eta_tag"] = columns["eta"]
    (folder / "pairs" / "toy").mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "pairs" / "toy" / "0.parquet")
    manifest = {
        "format_version": results.FORMAT_VERSION, "inputs": [], "pairs": {"toy/0.parquet": ""},
        "datasets": {"toy": {"is_data": False, "scale": 1.0, "fraction": 1.0}},
    }  # fmt: skip
    results.write_json(folder / "manifest.json", manifest)
    results.write_json(folder / "cutflow.json", {})
    with zipfile.ZipFile(folder / "histograms.zip", "w"):
        pass
    return folder


def write_calibration(path: Path, *, digest: str = "", offset: Offset | None = None) -> Path:
    """The truth, from 30 GeV on and within |η| < 2.5, with two statistical variations of 0.03% and 0.04%."""
    edges = (-2.5, 0.0, 2.5)
    low, high = np.log(30.0), np.log(1200.0)
    curve = Curve(np.array([np.log(100.0)]), np.array([np.log(RESPONSE)]), float(low), float(high))
    points = points_of(curve)
    sources = {
        "statistical_0": np.full_like(points, 3e-4), "statistical_rest": np.full_like(points, 4e-4),
        "method": np.full_like(points, 0.01),
    }  # fmt: skip
    calibration = Calibration(edges, (curve,) * 2, (points,) * 2, (sources,) * 2, offset, ())
    description = {
        "levels": {"hlt": Level(level="raw").model_dump(), "offline": Level(level="stored").model_dump()},
        "estimator": "median", "storage_threshold": 10.0, "manifest_digest": digest, "pileup_variable": "rho",
    }  # fmt: skip
    correction_set.write(build(calibration, Names("Toy", "MC", "AK4HLT"), description), path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """RESULT and its calibration."""
    folder = tmp_path_factory.mktemp("closure")
    result = write_result(folder / "result")
    digest = recipes.digest(results.read(result).manifest)
    return result, write_calibration(folder / "calibration.json.gz", digest=digest)


@pytest.fixture(scope="module")
def found(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Closure:
    return closure(*made, tmp_path_factory.mktemp("written"))


def with_pairs(result: Path, folder: Path, change: Callable[[Columns], None]) -> Path:
    """A copy of a RESULT whose pairs were changed."""
    shutil.copytree(result, folder)
    for file in folder.glob("pairs/*/*.parquet"):
        table = pq.read_table(file)
        columns = {name: table[name].to_numpy().copy() for name in table.column_names}
        change(columns)
        pq.write_table(pa.table(columns), file)
    return folder


def test_what_is_counted(made: tuple[Path, Path], found: Closure) -> None:
    result, _ = made
    table = pq.read_table(result / "pairs" / "toy" / "0.parquet")
    columns = {name: table[name].to_numpy() for name in table.column_names}
    second = second_half(columns["run"], columns["luminosity_block"], columns["event"])
    calibrated = second & (np.abs(columns["eta_hlt"]) < 2.5)
    # the ends of the range, 30 and 1200 GeV, are of the corrected pT
    beyond = calibrated & ((columns["pt_hlt"] < 30 * RESPONSE) | (columns["pt_hlt"] > 1200 * RESPONSE))
    assert found.summary["pairs"] == {
        "second_half": second.sum(), "used": calibrated.sum(), "eta_without_calibration": second.sum() - calibrated.sum(),
        "beyond_range_of_pt": beyond.sum(), "left_out": 0,
    }  # fmt: skip
    assert all(count > 0 for name, count in found.summary["pairs"].items() if name != "left_out")
    assert sum(row.entries for row in found.rows if row.variable == "tag") == calibrated.sum()


def test_a_true_calibration_closes(found: Closure) -> None:
    assert found.passed
    assert found.summary["failed"] == 0
    tested = [row for row in found.rows if row.tested]
    assert {row.variable for row in tested} == {"tag", "particle", "rho", "phi", "run"}
    # of the variations, and not of `method`, which is no statistical one
    assert [row.error_derivation for row in tested] == pytest.approx([5e-4] * len(tested), rel=1e-3)
    pulls = np.array([row.closure / row.error_statistical for row in tested if row.variable == "tag"])
    assert np.mean(pulls**2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / pulls.size))


def test_what_is_written(made: tuple[Path, Path], found: Closure) -> None:
    result, calibration = made
    text = found.paths[0].read_text()
    content = json.loads(text)
    assert text == json.dumps(content, indent=1, sort_keys=True) + "\n"
    assert content == json.loads(json.dumps(found.summary))
    assert content["trila"] == __version__
    assert content["corrections_sha256"] == hashlib.sha256(calibration.read_bytes()).hexdigest()
    assert content["manifest_digest"] == recipes.digest(results.read(result).manifest)
    assert content["derived_from_this_result"] is True
    assert content["definition"] == "median of corrected HLT pT over offline pT of the probes, minus 1"
    assert len(content["rows"]) == len(found.rows)
    assert content["tested"] == sum(row.tested for row in found.rows) > 0
    assert sum(content["not_tested"].values()) == len(found.rows) - content["tested"]
    names = {path.name for path in found.paths}
    kinds = ("tag", "particle", "rho", "phi", "run", "pulls")
    assert names >= {
        "closure.json",
        *(f"closure_{kind}.{suffix}" for kind in kinds for suffix in ("png", "pdf")),
    }
    assert {path.name for path in found.paths[0].parent.iterdir()} == names  # and no file of another name


def test_a_scale_that_is_wrong_fails(made: tuple[Path, Path], found: Closure, tmp_path: Path) -> None:
    """The HLT pT is 4% too high: so is the closure, in every bin."""

    def raise_scale(columns: Columns) -> None:
        columns["pt_hlt_raw"] *= 1.04

    wrong = closure(with_pairs(made[0], tmp_path / "wrong", raise_scale), made[1])
    assert not wrong.passed
    assert wrong.paths == ()
    for before, after in zip(found.rows, wrong.rows, strict=True):
        if before.tested and after.tested:  # errors grow with the scale
            assert (1.0 + after.closure) / (1.0 + before.closure) == pytest.approx(1.04, abs=1e-6)
            assert after.passed is False


def test_command(made: tuple[Path, Path], found: Closure, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["closure", str(made[0]), "--corrections", str(made[1])]
    content = found.summary
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == content["definition"]
    assert sum(line.endswith("  passed") for line in lines) == content["tested"]
    assert f"{sum(content['not_tested'].values())} bins are not tested" in lines
    for reason, number in content["not_tested"].items():
        assert f"  {number}: {reason}" in lines
    for number, text in (
        ("eta_without_calibration", "left out, at an eta that has no calibration"),
        (
            "beyond_range_of_pt",
            "of them beyond the range of pT of the calibration: they get the factor at its end",
        ),
    ):
        assert f"  {content['pairs'][number]} {text}" in lines
    everything = CliRunner().invoke(cli.app, [*arguments, "--all"])
    assert sum(
        line.endswith("error above a third of the limit") for line in everything.stdout.splitlines()
    ) == (
        content["not_tested"]["error above a third of the limit"] + 1  # and the sum
    )

    def stub(passed: bool | None) -> Callable[..., Closure]:
        row = Row(
            "tag", (0.0, 1.3), (100.0, 150.0), None, 9e4, 0.01, 4e-4, 0.0, 4e-4, 0.002, True, "", 25.0, passed
        )
        if passed is None:
            row = row._replace(tested=False, reason="fewer than 100 effective pairs")
        summary = {
            **content, "tested": int(row.tested), "failed": int(passed is False), "not_tested": {row.reason: 1}
        }  # fmt: skip
        return lambda _result, _file, folder, **_options: Closure(
            (row,), bool(passed), 2.33, summary, (folder,)
        )

    for passed, code, text in (
        (True, 0, "passed: 0 of 1 bins are beyond their limit by more than 2.33 errors"),
        (False, 1, "failed: 1 of 1 bins are beyond their limit by more than 2.33 errors"),
        (None, 1, "failed: no bin can be tested; use more data"),
    ):
        monkeypatch.setattr("trila.analysis.closure.closure", stub(passed))
        done = CliRunner().invoke(cli.app, [*arguments, "-o", "somewhere"])
        assert done.exit_code == code
        assert done.stdout.splitlines()[-2:] == [text, "1 files: somewhere"]


def test_not_a_calibration(made: tuple[Path, Path], tmp_path: Path) -> None:
    other = schemav2.CorrectionSet.model_validate(
        {
            "schema_version": 2,
            "corrections": [
                {
                    "name": "hlt_jec", "version": 1, "inputs": [{"name": "JetPt", "type": "real"}],
                    "output": {"name": "factor", "type": "real"}, "data": 1.0,
                }
            ],
        }
    )  # fmt: skip
    correction_set.write(other, tmp_path / "other.json")
    with pytest.raises(
        CorrectionError, match=r"does not say how it was derived; expected one that `trila calibrate` made"
    ):
        closure(made[0], tmp_path / "other.json")
    done = CliRunner().invoke(
        cli.app, ["closure", str(made[0]), "--corrections", str(tmp_path / "other.json")]
    )
    assert done.exit_code == 2
    assert "does not say how it was derived" in done.stderr


def test_no_pairs(made: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(made[0], tmp_path / "bare", ignore=shutil.ignore_patterns("pairs"))
    with pytest.raises(
        InputError, match=r"bare has no pairs: `trila run response FILES\.\.\. -o .*` makes them"
    ):
        closure(tmp_path / "bare", made[1])


def test_no_eta_with_a_calibration(made: tuple[Path, Path], tmp_path: Path) -> None:
    def away(columns: Columns) -> None:
        columns["eta_hlt"][:] = 4.0

    result = with_pairs(made[0], tmp_path / "away", away)
    with pytest.raises(
        InputError, match=r"none of \d+ pairs of the second half is at an eta that .* has a calibration for"
    ):
        closure(result, made[1])


def test_folder_that_cannot_be_written(made: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file cannot be written: .*; choose another folder"):
        closure(*made, tmp_path / "file")


def test_figures_of_nothing(found: Closure) -> None:
    rows = [row._replace(tested=False, passed=None, closure=np.nan) for row in found.rows]
    assert closure_figure(rows, "tag", Label()) is None
    assert dependence_figure(rows, "rho", "", Label()) is None
    assert pull_figure(rows, Label()) is None
    assert closure_figure(found.rows, "tag", Label()) is not None


@pytest.mark.slow
def test_plots_in_another_style(found: Closure, tmp_path: Path) -> None:
    failed = [row._replace(passed=False) if row.tested else row for row in found.rows]
    paths = plot_closure(failed, tmp_path, style="atlas", is_data=True, com=13.6, lumi=1000.0, pileup="mu")
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}


def test_pileup_of_another_kind(tmp_path: Path) -> None:
    offset = Offset(
        (-2.5, 0.0, 2.5), np.full(2, 2.0), np.zeros(2), np.full(2, 0.1), 20.0, (5.0, 40.0),
        np.array([[30.0, 1000.0]] * 2), True,
    )  # fmt: skip
    calibration = write_calibration(tmp_path / "calibration.json.gz", offset=offset)
    assert closure(write_result(tmp_path / "rho"), calibration).summary["derived_from_this_result"] is False
    with pytest.raises(
        InputError, match=r"takes off pile-up by 'rho', and the pairs of .*mu have 'mu'; use the result"
    ):
        closure(write_result(tmp_path / "mu", pileup="mu"), calibration)
