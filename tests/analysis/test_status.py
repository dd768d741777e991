"""`trila status` tells how far a RESULT is, at any moment, and what luminosity that is.

Protected: counts of files, units and events against runs whose course is known: complete, going on, killed, with files left
out, updated, retracted; and that what is printed is short and says it all.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trila.analysis import cli, ledger, results, simulation, steps
from trila.analysis.simulation import simulate
from trila.analysis.status import Status, status
from trila.processors.errors import InputError

FILES, EVENTS = 4, 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of data, each a run of four luminosity blocks, from 380000 on."""
    folder = tmp_path_factory.mktemp("status")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "EVENTS_PER_LUMINOSITY_BLOCK", EVENTS // 4)
        simulate(folder / "s", kind="dijet", events=FILES * EVENTS, files=FILES, seed=3)
    return folder


@pytest.fixture(autouse=True)
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made / "s", tmp_path / "s")
    monkeypatch.chdir(tmp_path)


def run(*files: str, **options: Any) -> None:
    steps.run(["dijet"], files or ["s/*.root"], "result", **options)


def trila(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def share(found: Status) -> tuple[int, int, float]:
    one = found.fractions["data"]
    return one.done, one.planned, one.fraction


def test_done() -> None:
    Path("s/empty.root").write_bytes(b"")
    run(skip_bad_files=True, command=["trila", "run"], max_events=100)
    found = status("result")
    assert (found.complete, found.runs[-1].outcome, found.runs[-1].command) == (
        True,
        "done",
        ["trila", "run"],
    )
    assert found.runs[-1].where.endswith(f"process {os.getpid()}")
    assert found.counts("data") == {"done": 3, "empty": 1, "skipped": 1}  # the fourth is beyond 100 events
    assert found.units == {"done": 3, "empty": 1}
    assert share(found) == (100, 100, 1.0)  # others made up for the file that is lost
    assert found.size == Path("result/ledger.sqlite").stat().st_size
    content = json.loads(trila("status", "result", "--json"))
    assert content["skipped"] == [
        {"file": "s/empty.root", "dataset": "data", "reason": "is empty (0 bytes); copy it again"}
    ]
    assert content["datasets"]["data"] == {
        "planned": 100, "done": 100, "unknown": 1, "fraction": 1.0, "files": {"done": 3, "empty": 1, "skipped": 1},
    }  # fmt: skip
    (tried,) = content["attempts"]
    assert (tried["file"], tried["kind"], tried["start"]) == ("s/empty.root", "input", None)
    assert results.read("result").manifest["datasets"]["data"]["fraction"] == 1.0


def test_while_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is done when all its units are; what is to do is planned, and not lost."""
    monkeypatch.setattr(ledger, "_INTERVAL", -1.0)  # each unit is written at once
    Path("s/empty.root").write_bytes(b"")
    seen: list[Status] = []

    def progress(stage: str, _total: int) -> Callable[[int], None]:
        return lambda _advance: seen.append(status("result")) if stage == "processing events" else None

    monkeypatch.setattr("trila.analysis.planning._LARGEST_UNIT", 20)
    run(chunk_size=20, skip_bad_files=True, progress=progress)
    assert len(seen) == 2 * FILES  # when a unit came back, before it was written
    for number, found in enumerate(seen):
        assert (found.complete, found.runs[-1].outcome, found.runs[-1].end) == (False, "running", None)
        assert found.units == {"planned": 8 - number} | ({"done": number} if number else {})
        done = found.counts("data").get("done", 0)
        assert done in (number // 2, number // 2 - 1, (number + 1) // 2)
        assert found.counts("data") == {k: n for k, n in {"done": done, "planned": FILES - done, "skipped": 1}.items() if n}  # fmt: skip
        # the file that is lost is taken to be as long as the others
        assert share(found) == (20 * number, 5 * EVENTS, 20 * number / (5 * EVENTS))
    assert share(status("result")) == (FILES * EVENTS, 5 * EVENTS, 0.8)


def test_the_first_lines_say_what_is_going_on() -> None:
    run()
    with sqlite3.connect("result/ledger.sqlite") as content:
        content.execute('UPDATE runs SET "end" = NULL, outcome = NULL')
        content.execute("UPDATE units SET status = 'planned' WHERE file = 3")
        content.execute("UPDATE files SET status = 'planned' WHERE number = 3")
    content.close()
    Path("result/histograms.zip").unlink()
    first, second, *table, units = trila("status", "result").splitlines()
    assert first.startswith("result: interrupted (begun 2")
    assert second.startswith("products: not complete: the same command goes on; ledger 0.1 MB, 1 run")
    assert [cell.strip() for cell in table[3].split("│")[1:-1]] == [
        "data", "3", "0", "1", "0", "120", "160", "75%",
    ]  # fmt: skip
    assert units == "units: 3 done, 1 to do"
    with ledger.exclusive(Path("result")):
        first, second, *_ = trila("status", "result").splitlines()
    assert first.startswith("result: running (begun 2")
    assert second.startswith("products: not complete: a run is going on; ledger")


@pytest.mark.slow
def test_an_error_and_what_was_retracted() -> None:
    run()
    steps.update("result", retract=["380001:2-3", "380002:1", "380003", "s/dijet_000.root"])
    Path("bad.root").write_bytes(b"")
    with pytest.raises(InputError):
        steps.update("result", files=["bad.root"])
    found = status("result")
    assert found.retracted == ["s/dijet_000.root", "380001:2-3", "380002:1", "380003"]
    assert [one.outcome for one in found.runs[:2]] == ["done", "done"]
    assert found.runs[-1].outcome.startswith("InputError: bad.root: is empty")
    assert found.complete
    text = trila("status", "result")
    assert "retracted: s/dijet_000.root, 380001:2-3, 380002:1, 380003\n" in text
    assert "failed try 2" in text
    assert "(input): bad.root: is empty (0 bytes); copy it again\n" in text


@pytest.mark.slow
def test_many_skipped_files_are_not_all_shown() -> None:
    for number in range(30):
        Path(f"s/[b]{number:02d}.root").write_bytes(b"")
    run(skip_bad_files=True)
    text = trila("status", "result")
    assert text.count("skipped s/[b]") == 20
    assert "\n... and 10 more (--json lists them)\n" in text
    assert len(json.loads(trila("status", "result", "--json"))["skipped"]) == 30


def test_what_has_no_ledger_is_refused() -> None:
    Path("folder").mkdir()
    with pytest.raises(
        InputError, match=r"^folder has no ledger \(ledger\.sqlite\); `trila run .* -o folder`"
    ):
        status("folder")
    done = CliRunner().invoke(cli.app, ["status", "nothing"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nothing has no ledger")
    done = CliRunner().invoke(cli.app, ["status", "nothing", "--trigger", "x"])
    assert done.exit_code == 2
    run()
    done = CliRunner().invoke(cli.app, ["status", "result", "--lumi-mask", "x"])
    assert done.stderr == "error: --lumi-mask, --prescales, --trigger and --output need --luminosity\n"


LUMI = "#run:fill,ls,delivered(/pb),recorded(/pb)\n" + "".join(
    f"{380_000 + run}:1,{ls}:{ls},2.0,1.0\n" for run in range(5) for ls in range(1, 5)
)
PRESCALES = "run,ls,trigger,prescale\n380000,1-4,HLT_A,2\n380001,1-4,HLT_A,4\n380000,1-4,HLT_B,2\n"


def test_luminosity_in_words() -> None:
    """Of five runs of four blocks with 1/pb each, four were seen, one of them without its first block."""
    run()
    steps.update("result", retract=["380000:1"])
    Path("lumi.csv").write_text(LUMI)
    Path("mask.json").write_text(json.dumps({str(380_000 + run): [[1, 3 if run else 9]] for run in range(5)}))
    Path("prescales.csv").write_text(PRESCALES)
    given = ["--luminosity", "lumi.csv", "--lumi-mask", "mask.json", "--prescales", "prescales.csv"]
    given += ["--trigger", "HLT_A", "--trigger", "HLT_B"]
    lines = trila("status", "result", *given).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("luminosity"))
    unknown = "12 blocks (380001:1-3, 380002:1-3, 380003:1-3, 380004:1-3)"
    assert lines[start:] == [
        "luminosity: 12 of 16 /pb recorded were seen, 75% (12 of 16 blocks, 5 runs; delivered 24 of 32 /pb)",
        "not seen, but planned: 4 blocks (380000:1, 380004:1-3)",
        "in the mask, without a luminosity: 5 blocks (380000:5-9)",
        "seen outside of the mask, whose events a run with it drops: 3 blocks (380001:4, 380002:4, 380003:4)",
        "effective luminosity after prescales:",
        "  HLT_A        2.25 of 2.75 /pb",  # 3/2 + 3/4 of 4/2 + 3/4
        "  HLT_A: without a known prescale, counted as nothing: 9 blocks (380002:1-3, 380003:1-3, 380004:1-3)",
        "  HLT_B        1.5 of 2 /pb",
        f"  HLT_B: without a known prescale, counted as nothing: {unknown}",
        "  any of them  2.25 of 3 /pb",  # 3/4 of 3, of 4
        f"  any of them: without a known prescale, counted as nothing: {unknown}",
    ]
    content = json.loads(trila("status", "result", "--json", *given))
    assert content["luminosity"]["fraction"] == 0.75
    assert content["retracted"] == ["380000:1"]


@pytest.mark.slow
def test_long_lists_of_blocks_are_shortened() -> None:
    run()
    Path("lumi.csv").write_text(LUMI + "".join(f"380009:1,{2 * n}:{2 * n},1.0,1.0\n" for n in range(1, 31)))
    (line,) = (
        t for t in trila("status", "result", "--luminosity", "lumi.csv").splitlines() if "not seen" in t
    )
    assert line.startswith("not seen, but planned: 34 blocks (380004:1-4, 380009:2, 380009:4, ")
    assert line.endswith(", 380009:38, ... and 11 more; --json lists them)")


@pytest.mark.slow
def test_the_plot_of_the_luminosity() -> None:
    run()
    Path("lumi.csv").write_text(LUMI)
    assert "files: plots" in trila("status", "result", "--luminosity", "lumi.csv", "-o", "plots")
    assert list(Path("plots").glob("*.pdf"))


KILLED = """
import os, signal, sys
from trila.analysis import ledger, steps
ledger._INTERVAL = -1.0
count = 0

def progress(stage, total):
    def advance(n):
        global count
        count += stage == "processing events"
        if count == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    return advance

steps.run(["dijet"], ["s/*.root"], "result", progress=progress)
"""


@pytest.mark.slow
def test_killed() -> None:
    """What was written is told, and the lock that was left does not hold."""
    done = subprocess.run([sys.executable, "-c", KILLED], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert Path("result/.lock").exists()
    found = status("result")
    assert (found.complete, found.runs[-1].outcome) == (False, "interrupted")
    assert found.units == {"done": 2, "planned": 2}
    assert share(found) == (2 * EVENTS, FILES * EVENTS, 0.5)
    run()
    found = status("result")
    assert [one.outcome for one in found.runs] == ["interrupted", "done"]
    assert share(found) == (FILES * EVENTS, FILES * EVENTS, 1.0)
