"""Pairs of a RESULT: levels, halves, weights, and what is said where they do not suffice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trila.analysis import results
from trila.analysis.pairs import Level, pileup_variable, read_pairs, run_range, storage_threshold
from trila.processors.errors import InputError

RAW, STORED = Level(level="raw"), Level(level="stored")
N = 1000


def table(**columns: Any) -> pa.Table:
    """Pairs of N events; a column given as None is left out."""
    rng = np.random.default_rng(1)
    pt = rng.uniform(30, 300, N).astype(np.float32)
    content: dict[str, Any] = {
        "run": np.full(N, 7), "luminosity_block": np.arange(N) // 50, "event": np.arange(N), "weight": np.ones(N),
        "pt_hlt": 0.9 * pt, "pt_hlt_raw": 0.8 * pt, "pt_offline": pt, "pt_offline_raw": 0.95 * pt, "pt_tag": pt,
        "eta": np.zeros(N), "phi": np.zeros(N), "eta_tag": np.zeros(N), "eta_hlt": np.zeros(N), "rho": np.full(N, 20.0),
    }  # fmt: skip
    return pa.table({k: v for k, v in (content | columns).items() if v is not None})


def result(folder: Path, tables: dict[str, pa.Table], scales: dict[str, float]) -> results.Result:
    for name, content in tables.items():
        (folder / "pairs" / name).mkdir(parents=True)
        pq.write_table(content, folder / "pairs" / name / "part.parquet")
    manifest = {
        "datasets": {name: {"scale": scale} for name, scale in scales.items()},
        "pairs": {f"{name}/part.parquet": "digest" for name in tables},
    }
    return results.Result(folder, {}, {}, manifest)


def test_levels(tmp_path: Path) -> None:
    made = result(tmp_path, {"a": table()}, {"a": 1.0})
    raw, stored = read_pairs(made, RAW, STORED).pairs, read_pairs(made, STORED, RAW).pairs
    np.testing.assert_allclose(raw.hlt / raw.offline, 0.8, rtol=1e-6)
    np.testing.assert_allclose(stored.hlt / stored.offline, 0.9 / 0.95, rtol=1e-6)
    assert pileup_variable(made) == "rho"


def test_a_level_corrected_with_a_file(tmp_path: Path) -> None:
    factor = {
        "schema_version": 2,
        "corrections": [
            {
                "name": "double", "version": 1, "inputs": [{"name": "JetPt", "type": "real"}],
                "output": {"name": "factor", "type": "real"}, "data": 2.0,
            }
        ],
    }  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(factor))
    made = result(tmp_path / "r", {"a": table()}, {"a": 1.0})
    pairs = read_pairs(made, RAW, Level(level="corrected", file=str(tmp_path / "c.json"))).pairs
    np.testing.assert_allclose(pairs.hlt / pairs.offline, 0.8 / 1.9, rtol=1e-6)


def test_halves_are_disjoint_and_complete(tmp_path: Path) -> None:
    made = result(tmp_path, {"a": table()}, {"a": 1.0})
    first, second = (
        set(read_pairs(made, RAW, STORED, half=h).pairs.event.tolist()) for h in ("first", "second")
    )
    assert not first & second
    assert first | second == set(range(N))
    assert abs(len(first) - N / 2) < 5 * np.sqrt(N / 4)


def test_datasets_are_weighted_with_their_cross_sections(tmp_path: Path) -> None:
    """Columns that only one of them has are left out."""
    made = result(tmp_path, {"a": table(), "b": table(rho=None)}, {"a": 2.0, "b": 0.5})
    pairs = read_pairs(made, RAW, STORED).pairs
    assert pairs.weight.sum() == 2.5 * N
    assert pairs.pileup is None


def test_pairs_without_a_positive_pt_are_left_out(tmp_path: Path) -> None:
    pt = np.full(N, 50.0, np.float32)
    pt[:3] = [0.0, np.nan, -1.0]
    rho = np.full(N, 20.0)
    rho[5] = np.nan
    made = result(tmp_path, {"a": table(pt_hlt_raw=pt, rho=rho)}, {"a": 1.0})
    read = read_pairs(made, RAW, STORED)
    assert (read.pairs.hlt.size, read.left_out) == (N - 4, 4)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no pairs: `trila run response FILES"):
        read_pairs(results.Result(tmp_path / "none", {}, {}, {"datasets": {}}), RAW, STORED)
    made = result(tmp_path / "a", {"a": table(event=None)}, {"a": 1.0})
    with pytest.raises(
        InputError, match=r"have no event: errors and the two halves of the data go by the identity"
    ):
        read_pairs(made, RAW, STORED)
    made = result(tmp_path / "b", {"a": table(pt_offline_raw=None)}, {"a": 1.0})
    with pytest.raises(
        InputError, match=r"do not say what pt_offline is before its correction; use level: stored"
    ):
        read_pairs(made, RAW, RAW)
    made = result(tmp_path / "c", {"a": table().slice(0, 0)}, {"b": 1.0})
    with pytest.raises(InputError, match=r"is empty: no event had a tag and a probe"):
        read_pairs(made, RAW, STORED)


@pytest.mark.parametrize("level", [{"level": "corrected"}, {"level": "raw", "file": "c.json"}])
def test_a_file_belongs_to_one_level(level: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="level 'corrected' needs a file, and only that level takes one"):
        Level.model_validate(level)


def test_runs_and_threshold_are_those_of_all_pairs(tmp_path: Path) -> None:
    made = result(tmp_path, {"a": table(run=np.arange(N)), "b": table(rho=None)}, {"a": 1.0, "b": 1.0})
    assert run_range(made) == (0, N - 1)
    assert storage_threshold(made) == 27.0  # 0.9 of the smallest offline pT
    assert pileup_variable(made) is None


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    made = result(tmp_path, {"a": table()}, {"a": 1.0})
    file = tmp_path / "pairs/a/part.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        InputError, match=r"pairs .*part.parquet are damaged: .*; run `trila run response` again"
    ):
        read_pairs(made, RAW, STORED)
