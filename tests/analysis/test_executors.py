"""The result does not depend on where, in what pieces or in what order the events were processed.

Protected: the same events give the same histograms, cutflows, luminosity blocks and pairs in this process, in local
processes and on a Dask cluster, whatever the chunk size and the number of files: bit for bit where the weights are 1,
to 1e-12 where they are not. The same for files that are left out; and each executor tells a bad file from a fault of
the code, says it once and leaves nothing behind.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import hist
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uhi.io.zip
import uproot
from commands import command, spoil, trila

from trila import __version__
from trila.analysis import cluster, steps
from trila.analysis.simulation import Kind, simulate
from trila.corrections.jets import CorrectionError
from trila.corrections.lumi import LumiMaskError
from trila.processors.errors import BadFile, InputError, MissingColumn, unknown_name
from trila.processors.partial import ProcessorError

Histograms = dict[str, Any]

EVENTS = 12_000
PROCESSORS: dict[Kind, str] = {"jets": "response,efficiency", "dijet": "dijet", "dimuon": "dimuon"}


# ---- samples and results


class Samples(NamedTuple):
    """The same events of each kind, in one file and in three."""

    folder: Path

    def glob(self, kind: Kind, files: int) -> Path:
        return self.folder / f"{kind}_{files}" / "*.root"


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("executors")
    for kind in PROCESSORS:
        for files in (1, 3):
            simulate(folder / f"{kind}_{files}", kind=kind, events=EVENTS, files=files, seed=5)
    return Samples(folder)


@pytest.fixture(scope="session")
def references(samples: Samples) -> dict[Kind, Path]:
    """Results of one file in one piece."""
    results = {}
    for kind, processors in PROCESSORS.items():
        results[kind] = samples.folder / f"reference_{kind}"
        done = trila("run", processors, samples.glob(kind, 1), "-o", results[kind], "--chunk-size", 10**6)
        assert done.code == 0, done.stderr
    return results


def histograms(result: Path) -> Histograms:
    with zipfile.ZipFile(result / "histograms.zip") as archive:
        names = [name.removesuffix(".json") for name in archive.namelist() if name.endswith(".json")]
        return {name: hist.Hist(uhi.io.zip.read(archive, name)) for name in names}


def rows(result: Path, *but: str) -> list[tuple[Any, ...]]:
    """Pairs as a sorted list, with all columns but those named."""
    tables = [pq.read_table(file).drop_columns(list(but)) for file in (result / "pairs").rglob("*.parquet")]
    columns = pa.concat_tables(tables).to_pydict()
    return sorted(zip(*(columns[name] for name in sorted(columns)), strict=True))


def agree(result: Path, reference: Path, tolerance: float) -> None:
    """Histograms with flow bins, variances and axes, and cutflows; bit for bit if the tolerance is 0."""
    ours, theirs = histograms(result), histograms(reference)
    assert ours.keys() == theirs.keys()
    assert any(h.view(flow=True)["value"].any() for h in theirs.values())
    for name, histogram in ours.items():
        assert histogram.axes == theirs[name].axes, name
        for field in ("value", "variance"):
            one, other = histogram.view(flow=True)[field], theirs[name].view(flow=True)[field]
            if tolerance:
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=0, err_msg=name)
            else:
                assert one.tobytes() == other.tobytes(), name
    flow, expected = (json.loads((path / "cutflow.json").read_text())["data"] for path in (result, reference))
    assert flow.keys() == expected.keys()
    for name, cuts in flow.items():
        for row, other in zip(cuts, expected[name], strict=True):
            assert (row["cut"], row["events"]) == (other["cut"], other["events"])
            for field in ("sumw", "sumw2"):
                assert math.isclose(row[field], other[field], rel_tol=tolerance, abs_tol=0), (
                    name,
                    row,
                    other,
                )


def blocks(result: Path) -> Any:
    return json.loads((result / "luminosity_blocks.json").read_text())


def check(kind: Kind, samples: Samples, files: int, reference: Path, result: Path, *options: object) -> None:
    """Run, and compare with the reference."""
    done = trila("run", PROCESSORS[kind], samples.glob(kind, files), "-o", result, *options)
    assert done.code == 0, done.stderr
    assert f"{EVENTS} events of {files} file" in done.stdout
    agree(result, reference, 1e-12 if kind == "jets" else 0.0)
    if kind == "jets":
        # the run number of a simulated file is its place among the files
        assert rows(result, "run", "luminosity_block") == rows(reference, "run", "luminosity_block")
        assert len(rows(result)) > EVENTS / 4
    else:
        per_file = -(-EVENTS // files)
        seen = blocks(result)
        assert len(seen) == files
        assert all(ranges == [[1, -(-per_file // 1000)]] for ranges in seen.values())


# ---- here and in local processes


@pytest.mark.parametrize(("chunk_size", "files"), [(1000, 1), (1000, 3), (7777, 1), (10**6, 3)])
@pytest.mark.parametrize("kind", PROCESSORS)
def test_chunks_and_files_do_not_matter(
    kind: Kind, chunk_size: int, files: int, samples: Samples, references: dict[Kind, Path], tmp_path: Path
) -> None:
    check(kind, samples, files, references[kind], tmp_path / "result", "--chunk-size", chunk_size)


@pytest.mark.parametrize(
    "kind", ["dijet", *(pytest.param(k, marks=pytest.mark.slow) for k in ("jets", "dimuon"))]
)
def test_processes_do_not_matter(
    kind: Kind, samples: Samples, references: dict[Kind, Path], tmp_path: Path
) -> None:
    options = ("--executor", "processes", "--workers", 2, "--chunk-size", 7777)
    check(kind, samples, 3, references[kind], tmp_path / "result", *options)


def _with_bad_files(samples: Samples, folder: Path, kind: Kind) -> tuple[list[Path], Path]:
    """Three good files with two bad ones among them; and the result of the good ones alone.

    One is cut short, which is seen before the run; of the other, whose events are others, the last basket is spoiled.
    """
    good = sorted(samples.glob(kind, 3).parent.glob("*.root"))
    short = folder / "short.root"
    short.write_bytes(good[0].read_bytes()[:-100])
    (path,) = simulate(folder / "other", kind=kind, events=2000, seed=9, block=200)
    spoil(path)
    alone = folder / "alone"
    assert trila("run", PROCESSORS[kind], *good, "-o", alone).code == 0
    return [good[0], path, good[1], short, good[2]], alone


def check_skipping(kind: Kind, samples: Samples, folder: Path, *options: object) -> None:
    files, alone = _with_bad_files(samples, folder, kind)
    result = folder / "result"
    done = trila(
        "run", PROCESSORS[kind], *files, "-o", result, "--skip-bad-files", "--chunk-size", 1000, *options
    )
    assert done.code == 3, done.stderr
    assert re.search(
        rf"^skipped {files[1]}: branch ScoutingPFJet_pt cannot be read", done.stderr, re.MULTILINE
    )
    assert re.search(rf"^skipped {files[3]}: is truncated", done.stderr, re.MULTILINE)
    agree(result, alone, 1e-12 if kind == "jets" else 0.0)
    if kind == "jets":
        assert rows(result) == rows(alone)
    inputs = json.loads((result / "manifest.json").read_text())["inputs"]
    assert [item["file"] for item in inputs] == [str(file) for file in files]
    assert [item["status"] for item in inputs] == ["done", "skipped", "done", "skipped", "done"]
    assert sorted(path.name for path in folder.iterdir()) == ["alone", "other", "result", "short.root"]


def check_stopping(samples: Samples, folder: Path, *options: object) -> None:
    files, _ = _with_bad_files(samples, folder, "jets")
    result = folder / "result"
    done = trila("run", "response", *(f for f in files if f.name != "short.root"), "-o", result, *options)
    assert done.code == 2
    assert done.stdout == ""
    assert re.fullmatch(rf"error: {files[1]}: branch ScoutingPFJet_pt cannot be read .*\n", done.stderr)
    assert not (result / "histograms.zip").exists()
    assert not (result / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jets", "dijet"])
def test_bad_files_are_skipped_in_processes(kind: Kind, samples: Samples, tmp_path: Path) -> None:
    check_skipping(kind, samples, tmp_path, "--executor", "processes", "--workers", 2)


@pytest.mark.slow
def test_bad_file_stops_processes(samples: Samples, tmp_path: Path) -> None:
    check_stopping(samples, tmp_path, "--executor", "processes", "--workers", 2)


MODULE = """
import os
import time

import hist
import numpy as np
from coffea.processor import ProcessorABC

from trila.processors.cutflow import Cutflow

STEP = 50.0


class Counts(ProcessorABC):
    def __init__(self, scale=1.0):
        self.scale = scale

    def process(self, events):
        n = len(events)
        h = hist.Hist(hist.axis.Regular(10, 0, 500, name="x"), storage=hist.storage.Weight())
        h.fill(np.full(n, self.scale * STEP))
        return {"histograms": {"x": h}, "cutflow": Cutflow.from_stages(("all",), np.zeros(n, int), np.ones(n))}

    def postprocess(self, accumulator):
        return accumulator


class Fails(Counts):
    def process(self, events):
        raise ZeroDivisionError("divided by nothing")


class Dies(Counts):
    def process(self, events):
        os._exit(9)


class Sleeps(Counts):
    def process(self, events):
        if "other" not in events.metadata["filename"]:
            time.sleep(3)
        return super().process(events)
"""


@pytest.mark.slow
def test_module_beside_the_files_reaches_the_processes(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "config.yaml").write_text("processors: {'mine:Counts': {scale: 3.0}}")
    done = command(
        "run", "mine:Counts", samples.glob("dijet", 3), "-o", "result", "--config", "config.yaml",
        "--executor", "processes", "--workers", 2, "--chunk-size", 5000, folder=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert done.stderr == ""
    counts = histograms(tmp_path / "result")["Counts.x"]
    assert counts[150j].value == EVENTS
    assert counts.sum(flow=True).value == EVENTS


@pytest.mark.slow
def test_processor_that_fails_in_a_process_is_the_codes_fault(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    done = command(
        "run", "mine:Fails", samples.glob("dijet", 3), "-o", "result", "--executor", "processes", "--workers", 2,
        "--skip-bad-files", folder=tmp_path,
    )  # fmt: skip
    assert done.code == 1
    assert re.fullmatch(
        r"internal error: ProcessorError: processor 'Fails' failed on .*dijet_00\d.root, entries 0 to \d+, first at entry 0 "
        r"\(run \d+, luminosity block 1, event \d+\): ZeroDivisionError: divided by nothing; to repeat it: "
        r"trila run .*:Fails .*dijet_00\d.root --entries 0:1 -o debug \(--debug shows where\)\n",
        done.stderr,
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["mine.py"]


@pytest.mark.slow
def test_process_that_dies_ends_the_run_in_words(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    done = command(
        "run", "mine:Dies", samples.glob("dijet", 3), "-o", "result", "--executor", "processes", "--workers", 2,
        folder=tmp_path,
    )  # fmt: skip
    assert done.code == 2
    assert re.fullmatch(
        r"error: 3 workers died on .*dijet_00\d.root, entries 0 to 4000, most likely for want of memory; "
        r"use a smaller --chunk-size, fewer workers, or give them more memory\n",
        done.stderr,
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["mine.py"]


@pytest.mark.parametrize(
    "error",
    [
        InputError("one"),
        BadFile("a.root", "is bad"),
        MissingColumn("rho"),
        unknown_name("trigger", "HLT_x", ["HLT_y"]),
        ProcessorError("failed", "dijet", "a.root", 3),
        CorrectionError("no"),
        LumiMaskError("no"),
    ],
)
def test_errors_travel_between_processes(error: Exception) -> None:
    """One that cannot be unpickled would look like a worker that died."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


# ---- on a cluster


@pytest.mark.slow
@pytest.mark.parametrize(("chunk_size", "files"), [(1000, 3), (7777, 1), (7777, 3), (10**6, 1)])
@pytest.mark.parametrize("kind", PROCESSORS)
def test_cluster_does_not_matter(
    kind: Kind,
    chunk_size: int,
    files: int,
    samples: Samples,
    references: dict[Kind, Path],
    tmp_path: Path,
    scheduler: str,
) -> None:
    options = ("--scheduler", scheduler, "--chunk-size", chunk_size)
    check(kind, samples, files, references[kind], tmp_path / "result", *options)


@pytest.mark.slow
def test_command_on_a_cluster(
    samples: Samples, references: dict[Kind, Path], tmp_path: Path, scheduler: str
) -> None:
    """Silent, as a run without a cluster."""
    files = samples.glob("dijet", 3)
    done = command("run", "dijet", files, "-o", "result", "--scheduler", scheduler, folder=tmp_path)
    assert done.code == 0, done.stderr
    assert done.stderr == ""
    agree(tmp_path / "result", references["dijet"], 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jets", "dijet"])
def test_bad_files_are_skipped_on_a_cluster(
    kind: Kind, samples: Samples, tmp_path: Path, scheduler: str
) -> None:
    check_skipping(kind, samples, tmp_path, "--scheduler", scheduler)


@pytest.mark.slow
def test_bad_file_stops_a_cluster(samples: Samples, tmp_path: Path, scheduler: str) -> None:
    check_stopping(samples, tmp_path, "--scheduler", scheduler)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["dask", "processes", "local"])
def test_most_files_bad_and_in_a_row(executor: str, samples: Samples, tmp_path: Path, scheduler: str) -> None:
    """25 of 40, more than are under way at a time."""
    (whole,) = simulate(tmp_path / "whole", kind="dijet", events=500, seed=3)
    content = whole.read_bytes()
    with uproot.open(whole) as file:
        uuid = file.file.uuid.bytes
        key = file["Events"]["ScoutingPFJet_pt"].basket_key(0)
        position = int(key.fSeekKey + key.fKeylen)
    assert uuid in content
    bad = set(range(5, 30))
    files = []
    for number in range(40):
        data = bytearray(content.replace(uuid, number.to_bytes(16, "big")))
        if number in bad:
            data[position] ^= 0xFF
        files.append(tmp_path / "files" / f"file_{number:02d}.root")
        files[-1].parent.mkdir(exist_ok=True)
        files[-1].write_bytes(data)
    where = ("--scheduler", scheduler) if executor == "dask" else ("--executor", executor, "--workers", 2)
    result = tmp_path / "result"
    done = trila("run", "dijet", *files, "-o", result, "--skip-bad-files", "--chunk-size", 200, *where)
    assert done.code == 3, done.stderr
    skipped = re.findall(
        r"^skipped .*file_(\d\d)\.root: branch ScoutingPFJet_pt cannot be read", done.stderr, re.MULTILINE
    )
    assert sorted(map(int, skipped)) == sorted(bad)
    assert "7500 events of 15 files" in done.stdout
    inputs = json.loads((result / "manifest.json").read_text())["inputs"]
    assert [item["status"] for item in inputs] == ["skipped" if n in bad else "done" for n in range(40)]
    alone = tmp_path / "alone"
    assert trila("run", "dijet", *(f for n, f in enumerate(files) if n not in bad), "-o", alone).code == 0
    agree(result, alone, 0.0)


@pytest.mark.slow
def test_processor_that_fails_on_a_cluster_is_the_codes_fault(
    samples: Samples, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_on_cluster.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    done = trila(
        "run", "mine_on_cluster:Fails", samples.glob("dijet", 3), "-o", "result", "--scheduler", scheduler,
        "--skip-bad-files",
    )  # fmt: skip
    assert done.code == 1
    assert re.fullmatch(
        r"internal error: ProcessorError: processor 'Fails' failed on .*dijet_00\d.root, entries 0 to \d+, first at entry 0 "
        r"\(run \d+, luminosity block 1, event \d+\): ZeroDivisionError: divided by nothing; to repeat it: "
        r"trila run .*:Fails .*dijet_00\d.root --entries 0:1 -o debug \(--debug shows where\)\n",
        done.stderr,
    )
    assert not Path("result").exists()
    # the cluster is none the worse for it, and does not need the module
    done = trila(
        "run", "mine_on_cluster:Counts", samples.glob("dijet", 3), "-o", "result", "--scheduler", scheduler
    )
    assert done.code == 0, done.stderr
    assert histograms(Path("result"))["Counts.x"].sum(flow=True).value == EVENTS


@pytest.mark.slow
def test_work_that_is_still_going_on_does_not_bring_a_failed_run_back(
    samples: Samples, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worker is at a chunk when the run fails, and writes its pairs after the folder is gone."""
    files, _ = _with_bad_files(samples, tmp_path, "jets")
    (tmp_path / "mine_sleeps.py").write_text(MODULE)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    done = trila(
        "run", "mine_sleeps:Sleeps,response", files[0], files[1], "-o", "out/result", "--scheduler", scheduler
    )
    assert done.code == 2, done.stderr
    time.sleep(5)
    assert list(Path("out").iterdir()) == []


@pytest.mark.slow
def test_cluster_with_another_version_is_refused(
    samples: Samples, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = __version__
    monkeypatch.setattr(cluster, "__version__", "99.0")
    done = trila(
        "run", "dijet", samples.glob("dijet", 1), "-o", tmp_path / "result", "--scheduler", scheduler
    )
    assert done.code == 2
    assert re.fullmatch(
        rf"error: worker tcp://\S+ has trila {re.escape(here)}, here it is 99\.0; install the same version\n",
        done.stderr,
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_cluster_that_does_not_see_the_result_is_refused(
    samples: Samples, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs are written by the workers: the check is made with a folder that they do not have."""
    check_workers = cluster.check_workers
    monkeypatch.setattr(
        steps, "check_workers", lambda client, _folder, _digest: check_workers(client, Path("/not/there"))
    )
    arguments = (
        "run",
        "response",
        samples.glob("jets", 1),
        "-o",
        tmp_path / "result",
        "--scheduler",
        scheduler,
    )
    done = trila(*arguments)
    assert done.code == 2
    assert re.search(r"^error: worker tcp://\S+ cannot see /not/there, where it has to write pairs; put the result on a "
                     "shared file system, or use --no-pairs", done.stderr)  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_address_that_is_none(samples: Samples, tmp_path: Path) -> None:
    arguments = ("run", "dijet", samples.glob("dijet", 1), "-o", tmp_path / "result")
    done = trila(*arguments, "--scheduler", "nonsense://here")
    assert done.code == 2
    assert re.search(
        r"^error: no Dask scheduler answers at nonsense://here \(.*\); check the address$", done.stderr
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_address_where_nobody_is(samples: Samples, tmp_path: Path) -> None:
    """Takes the 20 seconds that a scheduler may take to answer."""
    arguments = ("run", "dijet", samples.glob("dijet", 1), "-o", tmp_path / "result")
    done = trila(*arguments, "--scheduler", "tcp://127.0.0.1:9")
    assert done.code == 2
    assert re.search(
        r"^error: no Dask scheduler answers at tcp://127\.0\.0\.1:9 \(.*\); check the address$", done.stderr
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_cluster_of_this_machine(samples: Samples, references: dict[Kind, Path], tmp_path: Path) -> None:
    """Without an address a cluster is started and ended, without a word."""
    done = command(
        "run", PROCESSORS["jets"], samples.glob("jets", 3), "-o", "result", "--executor", "dask", "--workers", 2,
        "--chunk-size", 7777, folder=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert done.stderr == ""
    agree(tmp_path / "result", references["jets"], 1e-12)
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


@pytest.mark.slow
def test_cluster_of_this_machine_says_what_is_wrong_once(samples: Samples, tmp_path: Path) -> None:
    files, _ = _with_bad_files(samples, tmp_path, "dijet")
    done = command(
        "run", "dijet", files[1], "-o", "result", "--executor", "dask", "--workers", 1, folder=tmp_path
    )
    assert done.code == 2
    assert done.stdout == ""
    assert re.fullmatch(rf"error: {files[1]}: branch ScoutingPFJet_pt cannot be read .*\n", done.stderr)


@pytest.mark.slow
def test_worker_that_dies_again_and_again_ends_the_run_in_words(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    done = command(
        "run", "mine:Dies", samples.glob("dijet", 1), "-o", "result", "--executor", "dask", "--workers", 1,
        folder=tmp_path,
    )  # fmt: skip
    assert done.code == 2, done.stderr
    assert re.search(r"4 workers died on .*, entries 0 to 12000, most likely for want of memory", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "result").exists()
