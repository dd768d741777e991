"""What can go wrong at scale does: each fault ends with exactly the counts of what is good, and is accounted for.

Protected: bad files of every kind, a whole group of them, workers, clients and schedulers that are killed, two runs into one
RESULT, files that change or are listed twice, replicas, errors that pass, faults of the code, a full disk. The truth is
always a run over the good files alone, bit for bit.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import uproot
from commands import command, spoil, trila

from trila.analysis import ledger as ledgers
from trila.analysis import planning, results, steps, sum_tree
from trila.analysis.ledger import Ledger
from trila.analysis.simulation import simulate
from trila.processors import partial, readers
from trila.processors import run as carrying
from trila.processors.errors import BadFile

FILES, EVENTS = 20, 60


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of data, each a run of its own."""
    return simulate(
        tmp_path_factory.mktemp("faults") / "s", kind="dijet", events=FILES * EVENTS, files=FILES, seed=3
    )


@pytest.fixture
def files(sample: list[Path], tmp_path: Path) -> list[Path]:
    (tmp_path / "files").mkdir()
    return [Path(shutil.copy(path, tmp_path / "files")) for path in sample]


@pytest.fixture
def where(request: pytest.FixtureRequest) -> list[str]:
    """Options for an executor."""
    if request.param == "dask":
        return ["--scheduler", request.getfixturevalue("scheduler")]
    return ["--executor", request.param, *(["--workers", "2"] if request.param == "processes" else [])]


EXECUTORS = pytest.mark.parametrize(
    "where",
    [
        "local",
        pytest.param("processes", marks=pytest.mark.slow),
        pytest.param("dask", marks=pytest.mark.slow),
    ],
    indirect=True,
)


def same(result: Path, good: list[Path], alone: Path, processors: str = "dijet") -> None:
    """Bit for bit a run over the good files alone."""
    steps.run(processors.split(","), [str(file) for file in good], alone)
    one, two = results.read(result, min_fraction=0), results.read(alone)
    assert one.histograms.keys() == two.histograms.keys()
    for name, histogram in one.histograms.items():
        assert histogram.view(flow=True).tobytes() == two.histograms[name].view(flow=True).tobytes(), name
    assert one.cutflow == two.cutflow
    seen, expected = (json.loads((p / "luminosity_blocks.json").read_text()) for p in (result, alone))
    assert seen == expected
    assert sum(item["processed"] for item in one.manifest["inputs"]) == len(good) * EVENTS


def rows(result: Path) -> dict[str, tuple[str, str, int | None]]:
    """File to its status, reason and entries in the ledger."""
    with Ledger(result) as ledger:
        found = ledger.rows("SELECT file, status, reason, entries FROM files")
        units = ledger.rows(
            "SELECT files.status, units.status, count(*) FROM units JOIN files ON number = units.file GROUP BY 1, 2"
        )
    assert {(file, unit) for file, unit, _ in units} <= {("done", "done"), ("skipped", "skipped")}
    return {Path(file).name: rest for file, *rest in found}


def renamed(path: Path, number: uuid.UUID, target: Path) -> Path:
    """A copy of a file with another uuid."""
    with uproot.open(path) as file:
        old = file.file.uuid.bytes
    content = path.read_bytes()
    assert old in content
    target.write_bytes(content.replace(old, number.bytes))
    return target


# ---- bad files


def _missing(path: Path) -> None:
    path.unlink()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def _no_root(path: Path) -> None:
    path.write_bytes(b"PK\3\4" + path.read_bytes()[4:])


def _no_tree(path: Path) -> None:
    with uproot.recreate(path) as file:
        file["other"] = {"x": np.ones(3)}


def _no_branch(path: Path) -> None:
    with uproot.open(path) as file:
        arrays = file["Events"].arrays(["run", "luminosityBlock", "event"], library="np")
    with uproot.recreate(path) as file:
        file["Events"] = {**arrays, "nScoutingPFJet": np.zeros(len(arrays["run"]), np.int32)}


FAULTS: dict[str, tuple[Callable[[Path], None], str, int | None]] = {
    "missing": (_missing, r"no such file", None),
    "truncated": (_truncated, r"is truncated: \d+ bytes, but its header says \d+; copy it again", None),
    "magic": (_no_root, r"is not a ROOT file \(it begins with b'PK\\x03\\x04', expected b'root'\)", None),
    "tree": (_no_tree, r"has no tree 'Events' or .*; it has 'other'", None),
    "branch": (_no_branch, r"is of no known format|which is missing", None),
    "basket": (spoil, rf"branch ScoutingPFJet_pt cannot be read in entries 0 to {EVENTS}", EVENTS),
}


@pytest.mark.slow
@EXECUTORS
def test_a_third_of_the_files_is_bad(where: list[str], files: list[Path], tmp_path: Path) -> None:
    bad = {files[number]: fault for number, fault in zip((1, 4, 5, 6, 13, 19), FAULTS, strict=True)}
    for path, fault in bad.items():
        FAULTS[fault][0](path)
    done = trila("run", "dijet", *files, "-o", tmp_path / "result", "--skip-bad-files", *where)
    assert done.code == 3, done.stderr
    found = rows(tmp_path / "result")
    assert list(found) == [path.name for path in files]
    for path in files:
        status, reason, entries = found[path.name]
        if path in bad:
            assert status == "skipped"
            assert re.search(FAULTS[bad[path]][1], reason), reason
            assert entries == FAULTS[bad[path]][2]
            assert len(re.findall(rf"^skipped {path}: ", done.stderr, re.MULTILINE)) == 1
        else:
            assert (status, reason, entries) == ("done", "", EVENTS)
    good = [path for path in files if path not in bad]
    same(tmp_path / "result", good, tmp_path / "alone")
    data = results.read(tmp_path / "result", min_fraction=0).manifest["datasets"]["data"]
    assert (data["events"], data["planned"], data["unknown_files"]) == (14 * EVENTS, 20 * EVENTS, 5)
    assert data["fraction"] == pytest.approx(0.7, rel=1e-12)


def test_bad_files_stop_a_run_that_is_not_told_to_skip_them(files: list[Path], tmp_path: Path) -> None:
    spoil(files[2])
    done = trila("run", "dijet", *files[:4], "-o", tmp_path / "result")
    assert done.code == 2
    assert re.fullmatch(rf"error: {files[2]}: branch ScoutingPFJet_pt cannot be read .*\n", done.stderr)
    assert not (tmp_path / "result" / "histograms.zip").exists()


@pytest.mark.slow
@EXECUTORS
def test_a_whole_group_of_files_is_bad(
    where: list[str], files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results are added up by halves: here one has nothing to add up. Units of a file fail at the same time."""
    monkeypatch.setattr(planning, "_LARGEST_UNIT", 1)
    monkeypatch.setattr(sum_tree, "_BLOCK", 4)
    rng = np.random.default_rng(1)
    numbers = sorted(
        (uuid.UUID(bytes=rng.bytes(16)) for _ in range(100)), key=lambda n: sum_tree.order(str(n))
    )
    inside, outside = numbers[:4], numbers[-4:]
    made = [
        renamed(path, number, tmp_path / f"made_{i}.root")
        for i, (path, number) in enumerate(zip(files, [*inside, *outside], strict=False))
    ]
    kept = [Path(shutil.copy(path, tmp_path / f"kept_{path.name}")) for path in made[:4]]
    for path in made[:4]:
        spoil(path)
    options = ("--skip-bad-files", "--chunk-size", 20, *where)
    done = trila("run", "dijet", *made, "-o", tmp_path / "result", *options)
    assert done.code == 3, done.stderr
    assert [status for status, *_ in rows(tmp_path / "result").values()] == ["skipped"] * 4 + ["done"] * 4
    same(tmp_path / "result", made[4:], tmp_path / "alone")
    for path, copy in zip(made, kept, strict=False):
        shutil.copy(copy, path)
    done = trila("run", "dijet", *made, "-o", tmp_path / "result", *options)
    assert done.code == 0, done.stderr
    with Ledger(tmp_path / "result") as ledger:
        assert ledger.rows("SELECT DISTINCT file FROM units WHERE attempts > 0") == [(0,), (1,), (2,), (3,)]
    same(tmp_path / "result", made, tmp_path / "all")


@pytest.mark.slow
@pytest.mark.parametrize("skip", [True, False])
def test_a_file_is_replaced_after_it_was_looked_at(
    skip: bool, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = carrying.process_unit
    (other,) = simulate(tmp_path / "other", kind="dijet", events=EVENTS, seed=8)

    def measure(*given: Any) -> Any:
        shutil.copy(other, tmp_path / "new.root")
        (tmp_path / "new.root").replace(files[2])
        return made(*given)

    monkeypatch.setattr(carrying, "process_unit", measure)
    done = trila(
        "run", "dijet", *files[:5], "-o", tmp_path / "result", *(["--skip-bad-files"] if skip else [])
    )
    told = rf"{files[2]}: was replaced while the run was going on \(uuid [\w-]+, not [\w-]+\)"
    assert done.code == (3 if skip else 2)
    assert re.search(rf"^{'skipped' if skip else 'error:'} {told}$", done.stderr, re.MULTILINE), done.stderr
    monkeypatch.undo()
    if skip:
        assert rows(tmp_path / "result")[files[2].name][0] == "skipped"
        same(tmp_path / "result", [*files[:2], *files[3:5]], tmp_path / "alone")
    done = trila("run", "dijet", *files[:5], "-o", tmp_path / "result")  # what is there now
    assert done.code == 0, done.stderr
    same(tmp_path / "result", files[:5], tmp_path / "now")


@pytest.mark.slow
def test_a_file_is_counted_once_however_often_it_is_listed(files: list[Path], tmp_path: Path) -> None:
    link = tmp_path / "link.root"
    link.symlink_to(files[0])
    twice = {
        str(link): rf"{link}: is the same file as {files[0]} \(uuid [\w-]+\); list it once",
        str(files[0]): rf"{files[0]}: is listed twice; list it once",
    }
    for again, told in twice.items():
        given = ("run", "dijet", *files[:3], again, "-o", tmp_path / "result")
        done = trila(*given)
        assert done.code == 2
        assert re.fullmatch(rf"error: {told}; --skip-bad-files goes on without it\n", done.stderr), (
            done.stderr
        )
        done = trila(*given, "--skip-bad-files")
        assert done.code == (3 if again == str(link) else 0), done.stderr
        same(tmp_path / "result", files[:3], tmp_path / "alone")
    content = {"a": {"files": [str(files[0]), str(files[1])]}, "b": {"files": [str(files[1]), str(files[2])]}}
    (tmp_path / "set.json").write_text(json.dumps(content))
    done = trila("run", "dijet", tmp_path / "set.json", "-o", tmp_path / "result", "--skip-bad-files")
    assert done.code == 3
    manifest = results.read(tmp_path / "result", min_fraction=0).manifest
    assert [(i["dataset"], i["status"]) for i in manifest["inputs"]] == [
        ("a", "done"), ("a", "done"), ("b", "skipped"), ("b", "done"),
    ]  # fmt: skip
    assert sum(item["processed"] for item in manifest["inputs"]) == 3 * EVENTS


def test_the_same_file_in_two_datasets_is_told_with_both(files: list[Path], tmp_path: Path) -> None:
    shutil.copy(files[0], tmp_path / "copy.root")
    content = {"a": {"files": [str(files[0])]}, "b": {"files": [str(files[1]), str(tmp_path / "copy.root")]}}
    (tmp_path / "set.json").write_text(json.dumps(content))
    done = trila("run", "dijet", tmp_path / "set.json", "-o", tmp_path / "result")
    assert done.code == 2
    assert re.fullmatch(
        rf"error: {tmp_path}/copy.root: is in dataset 'b', and is the same file as {files[0]} in dataset 'a' \(uuid [\w-]+\); "
        "list it in one; --skip-bad-files goes on without it\n",
        done.stderr,
    ), done.stderr


# ---- replicas, and errors that pass


def test_another_replica_is_read(files: list[Path], tmp_path: Path) -> None:
    """One is missing, which is seen at once; one can be opened but not read."""
    (tmp_path / "near").mkdir()
    near = [tmp_path / "near" / path.name for path in files[:3]]
    shutil.copy(files[1], near[1])
    spoil(near[1])
    content = {"data": {"files": [[str(n), str(f)] for n, f in zip(near, files, strict=False)]}}
    (tmp_path / "set.json").write_text(json.dumps(content))
    done = trila("run", "dijet", tmp_path / "set.json", "-o", tmp_path / "result")
    assert done.code == 0, done.stderr
    same(tmp_path / "result", files[:3], tmp_path / "alone")
    with Ledger(tmp_path / "result") as ledger:
        tried = ledger.rows("SELECT DISTINCT file, source, kind, start IS NULL, reason FROM attempts")
    assert {(Path(f), Path(s), kind) for f, s, kind, *_ in tried} == {(n, n, "input") for n in near}
    reasons = {(Path(file), looked): reason for file, _, _, looked, reason in tried}
    assert reasons[near[0], 1].startswith("no such file")
    assert reasons[near[1], 0].startswith("branch ScoutingPFJet_pt cannot be read")


def test_all_replicas_are_bad(files: list[Path], tmp_path: Path) -> None:
    content = {"data": {"files": [str(files[0]), [str(tmp_path / "a.root"), str(tmp_path / "b.root")]]}}
    (tmp_path / "set.json").write_text(json.dumps(content))
    done = trila("run", "dijet", tmp_path / "set.json", "-o", tmp_path / "result", "--skip-bad-files")
    assert done.code == 3
    assert re.search(rf"^skipped {tmp_path}/a.root: no such file", done.stderr, re.MULTILINE)
    same(tmp_path / "result", files[:1], tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["inspect", "read"])
@pytest.mark.parametrize("times", [5, 6])
def test_errors_that_pass_are_waited_for(
    stage: str, times: int, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six tries, then the file is bad."""
    monkeypatch.setattr(carrying, "PAUSE", 0.01)
    works = getattr(readers, stage)
    failed = []

    def fails(file: str, *given: Any) -> Any:
        if file == str(files[1]) and len(failed) < times:
            failed.append(file)
            raise BadFile(file, "cannot be opened: TimeoutError: no answer", True)
        return works(file, *given)

    monkeypatch.setattr(readers, stage, fails)
    # whether it can be read is looked at after an error; that it fails is the point here
    monkeypatch.setattr(partial, "_located", lambda error, *_: error)
    done = trila("run", "dijet", *files[:3], "-o", tmp_path / "result", "--skip-bad-files")
    monkeypatch.undo()
    assert done.code == (0 if times == 5 else 3), done.stderr
    with Ledger(tmp_path / "result") as ledger:
        tried = ledger.rows("SELECT file, source, kind, reason FROM attempts")
    reason = "cannot be opened: TimeoutError: no answer"
    assert tried == [(str(files[1]), str(files[1]), "input", reason)] * times
    assert rows(tmp_path / "result")[files[1].name][:2] == (
        ["done", ""] if times == 5 else ["skipped", reason]
    )
    same(tmp_path / "result", files[:3] if times == 5 else [files[0], files[2]], tmp_path / "alone")


# ---- processes that end

MODULE = """
import os
import signal
import time
from pathlib import Path

import hist
import numpy as np
from coffea.processor import ProcessorABC


class Counts(ProcessorABC):
    def __init__(self, folder=""):
        self.folder = folder

    def process(self, events):
        self.before(events)
        h = hist.Hist(hist.axis.Regular(10, 0, 500, name="x"), storage=hist.storage.Weight())
        h.fill(np.full(len(events), 120.0))
        return {"histograms": {"x": h}}

    def before(self, events):
        pass

    def postprocess(self, accumulator):
        return accumulator


class Dies(Counts):
    def before(self, events):
        marks = len(list(Path(self.folder).glob("mark_*")))
        if "_003" in events.metadata["filename"] and marks < 2:
            Path(self.folder, f"mark_{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Slow(Counts):
    def before(self, events):
        time.sleep(0.5)


class Shortens(Counts):
    def before(self, events):
        file = events.metadata["filename"]
        if "_003" in file:
            os.truncate(file, 4096)
            np.asarray(events.event)  # of the file, which has no such bytes any more


class Fails(Counts):
    def before(self, events):
        if np.any(np.asarray(events.event) == 3 * 60 + 18):
            raise ZeroDivisionError("divided by nothing")
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with processors of one's own."""
    name = f"faulty_{uuid.uuid4().hex}"  # a module is imported once
    (tmp_path / f"{name}.py").write_text(MODULE)
    classes = ("Counts", "Dies", "Slow", "Shortens", "Fails")
    settings = {"processors": {f"{name}:{c}": {"folder": str(tmp_path)} for c in classes}}
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / name
    sys.modules.pop(name, None)


def counted(result: Path, name: str) -> float:
    return float(results.read(result).histograms[f"{name}.x"].sum(flow=True).value)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["processes", "dask"], indirect=True)
def test_workers_are_killed(where: list[str], files: list[Path], mine: Path) -> None:
    done = command(
        "run", f"{mine.name}:Dies,dijet", *files[:8], "-o", "result", "--config", "config.yaml", *where,
        folder=mine.parent,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert len(list(mine.parent.glob("mark_*"))) == 2
    assert counted(Path("result"), "Dies") == 8 * EVENTS
    with Ledger(Path("result")) as ledger:
        tried = ledger.rows("SELECT DISTINCT kind, reason FROM attempts")
        assert ledger.rows("SELECT status, count(*) FROM units GROUP BY 1") == [("done", 8)]
    assert tried == (
        [("worker", "a worker process died")] if "--workers" in where else []
    )  # Dask tells nobody
    alone = steps.run(["dijet"], [str(file) for file in files[:8]], "alone").result
    assert results.read("result").cutflow["data"]["dijet"] == alone.cutflow["data"]["dijet"]


@pytest.mark.slow
@EXECUTORS
def test_a_file_is_cut_short_while_it_is_read(where: list[str], files: list[Path], mine: Path) -> None:
    """It is found to be truncated, and no process dies of it."""
    done = command(
        "run", f"{mine.name}:Shortens,dijet", *files[:6], "-o", "result", "--config", "config.yaml", "--skip-bad-files", *where,
        folder=mine.parent,
    )  # fmt: skip
    assert done.code == 3, done.stderr
    assert re.fullmatch(
        rf"skipped {files[3]}: is truncated: 4096 bytes, but its header says \d+; copy it again\n",
        done.stderr,
    )
    assert [status for status, *_ in rows(Path("result")).values()] == ["done"] * 3 + ["skipped"] + [
        "done"
    ] * 2
    found = results.read("result", min_fraction=0)
    assert found.histograms["Shortens.x"].sum(flow=True).value == 5 * EVENTS
    with Ledger(Path("result")) as ledger:
        tried = ledger.rows("SELECT file, kind FROM attempts")
    assert tried == [(str(files[3]), "input")]


def _done(result: Path) -> int:
    """Units that are done, as whoever looks at a running run sees them; -1 before there are any."""
    if not (result / "ledger.sqlite").is_file():
        return -1
    with Ledger(result) as ledger:
        if not ledger.rows("SELECT 1 FROM units"):
            return -1
        return int(ledger.rows("SELECT count(*) FROM units WHERE status = 'done'")[0][0])


def _wait(result: Path, units: int, going: subprocess.Popen[str]) -> None:
    begin = time.monotonic()
    while True:
        try:
            if _done(result) >= units:
                return
        except Exception:  # noqa: BLE001  (it is being made)
            assert time.monotonic() - begin < 120
        assert going.poll() is None, going.communicate()[1]
        time.sleep(0.02)


def _start(*arguments: object, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        commands.script(*arguments), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_the_scheduler_is_killed(files: list[Path], mine: Path, scheduler: str) -> None:
    """The run ends in words, and soon; a run on another cluster does the rest."""
    file = mine.parent / "scheduler.json"
    started = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(file), *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=mine.parent,
        )
        for what, options in (
            ("scheduler", ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]),
            ("worker", ["--nthreads", "1", "--no-dashboard", "--no-nanny", "--death-timeout", "60"]),
        )
    ]  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < until
            time.sleep(0.1)
        time.sleep(0.5)
        address = json.loads(file.read_text())["address"]
        arguments = ("run", f"{mine.name}:Slow,dijet", *files, "-o", "result", "--config", "config.yaml")
        going = _start(*arguments, "--scheduler", address, folder=mine.parent)
        _wait(Path("result"), 2, going)
        started[0].kill()
        begin = time.monotonic()
        out, told = going.communicate(timeout=90)
        assert time.monotonic() - begin < 75
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert (going.returncode, out) == (2, "")
    assert told == (
        "error: the connection to the cluster's scheduler is lost; what was done is kept: give the same command again, with "
        "a running scheduler, to go on\n"
    )
    done = _done(Path("result"))
    assert 2 <= done < FILES
    with Ledger(Path("result")) as ledger:
        assert ledger.rows("SELECT outcome FROM runs")[0][0].startswith("ClusterLost: the connection to")
    ended = command(*arguments, "--scheduler", scheduler, folder=mine.parent)
    assert ended.code == 0, ended.stderr
    with Ledger(Path("result")) as ledger:
        assert ledger.rows("SELECT count(*) FROM units WHERE attempts > 0") == [(FILES - done,)]
    assert counted(Path("result"), "Slow") == FILES * EVENTS


@pytest.mark.slow
def test_a_second_run_into_the_same_result_is_refused(files: list[Path], mine: Path) -> None:
    """Also before the first has done anything: the second must not take its ledger for one that came to nothing."""
    arguments = ("run", f"{mine.name}:Slow,dijet", *files[:8], "-o", "result", "--config", "config.yaml")
    first = _start(*arguments, folder=mine.parent)
    told = rf"error: result is in use by process {first.pid} on \S+ since \S+; wait for its end, or give another folder\n"
    for units in (0, 1, 3):
        _wait(Path("result"), units, first)
        for second in (
            arguments,
            ("run", "--update", "-o", "result"),
            ("run", "dijet", files[9], "-o", "result"),
        ):
            done = trila(*second)
            assert done.code == 2
            assert re.fullmatch(told, done.stderr), done.stderr
    _, stderr = first.communicate(timeout=120)
    assert first.returncode == 0, stderr
    assert counted(Path("result"), "Slow") == 8 * EVENTS
    with Ledger(Path("result")) as ledger:
        assert ledger.rows("SELECT outcome FROM runs") == [("done",)]
        assert ledger.rows("SELECT min(attempts), max(attempts), count(*) FROM units") == [(1, 1, 8)]
    assert not Path("result/.lock").exists()


# ---- faults of the code


@pytest.mark.slow
def test_a_fault_of_the_code_can_be_repeated_on_its_event(files: list[Path], mine: Path) -> None:
    """Event 198 is entry 17 of the fourth file; the command that is printed runs as it stands."""
    given = ("run", f"{mine.name}:Fails,dijet", *files, "-o", "result", "--config", "config.yaml")
    done = command(*given, "--skip-bad-files", folder=mine.parent)
    assert done.code == 1
    told = re.fullmatch(
        rf"internal error: ProcessorError: processor 'Fails' failed on {files[3]}, entries 0 to {EVENTS}, first at entry 17 "
        r"\(run 380003, luminosity block 1, event 198\): ZeroDivisionError: divided by nothing; to repeat it: "
        r"(trila run .*) \(--debug shows where\)\n",
        done.stderr,
    )
    assert told is not None, done.stderr
    name, *arguments = shlex.split(told[1])
    assert name == "trila"
    again = command(*arguments, folder=mine.parent)
    assert again.code == 1
    assert f"failed on {files[3]}, entries 17 to 18, first at entry 17" in again.stderr
    arguments[arguments.index("17:18")] = "18:60"
    assert command(*arguments, folder=mine.parent).code == 0
    with Ledger(Path("result")) as ledger:
        assert ledger.rows("SELECT outcome FROM runs")[0][0].startswith("ProcessorError: processor 'Fails'")
    # mended, it goes on: only the processor that was changed does everything again
    source = mine.with_suffix(".py")
    source.write_text(source.read_text().replace("raise ZeroDivisionError", "ZeroDivisionError"))
    done = command(*given, folder=mine.parent)
    assert done.code == 0, done.stderr
    assert counted(Path("result"), "Fails") == FILES * EVENTS


# ---- a full disk


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> Path:
    file = folder / "filler"
    with file.open("ab", buffering=0) as stream:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    stream.write(b"0" * size)
            except OSError:
                pass
    return file


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
@pytest.mark.parametrize("stage", ["ledger", "pairs", "products", "start"])
def test_the_disk_is_full(
    stage: str, files: list[Path], tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, wrote = carrying.process_unit, results.write
    left = iter(range(3))
    kind = "jets" if stage == "pairs" else "dijet"
    processors = "response" if stage == "pairs" else "dijet"
    given = (
        simulate(tmp_path / "jets", kind="jets", events=480, files=8, seed=2) if kind == "jets" else files[:8]
    )

    def measure(*arguments: Any) -> Any:
        if next(left, None) is None and stage in ("ledger", "pairs"):
            _fill(small)
        return made(*arguments)

    def write(*arguments: Any, **options: Any) -> Any:
        if stage == "products":
            _fill(small)
        return wrote(*arguments, **options)

    monkeypatch.setattr(carrying, "process_unit", measure)
    monkeypatch.setattr(results, "write", write)
    monkeypatch.setattr(ledgers, "_INTERVAL", 0.0)
    if stage == "start":
        _fill(small)
    done = trila("run", processors, *given, "-o", small / "result")
    monkeypatch.undo()
    assert done.code == 2, done.stderr
    assert re.fullmatch(
        r"error: .*(full|No space left).*(free some space|choose another place).*\n", done.stderr
    )
    assert not (small / "result" / "manifest.json").exists()
    (small / "filler").unlink()
    kept = max(0, _done(small / "result"))
    assert (small / "result").exists() == (kept > 0)
    assert kept == (0 if stage == "start" else 8 if stage == "products" else 3)
    done = trila("run", processors, *given, "-o", small / "result")
    assert done.code == 0, done.stderr
    with Ledger(small / "result") as ledger:
        assert ledger.rows("SELECT count(*) FROM units WHERE attempts > 0")[0][0] == 8 - kept
    if kind == "dijet":
        same(small / "result", files[:8], tmp_path / "alone")
    else:
        assert sum(item["processed"] for item in results.read(small / "result").manifest["inputs"]) == 480
