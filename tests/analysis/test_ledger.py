"""The ledger says what happened, whatever happens to it: rows that come back, half-written states, locks, damage.

Protected: what is stored comes back; a unit's results and that it is done are written together or not at all, also when
the process is killed between; what others read meanwhile is whole; a damaged ledger is refused in words; nothing in it is
code.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trila.analysis import ledger as ledgers
from trila.analysis.ledger import FileRow, Leaf, Ledger, UnitRow, exclusive
from trila.analysis.results import working
from trila.processors import formats
from trila.processors.errors import InputError
from trila.processors.partial import Unit
from trila.processors.readers import FileInfo, Layout
from trila.processors.run import Packed

LAYOUT = Layout(
    formats.load("cms-scouting"),
    "2024",
    {"hlt_jets.pt": ("nScoutingPFJet", "ScoutingPFJet_pt")},
    {"hlt_jets": "x"},
)


def info(file: str) -> FileInfo:
    return FileInfo(
        file, "Events", f"uuid of {file}", 1000, 30, (0, 10, 30), LAYOUT, ("run", "ScoutingPFJet_pt")
    )


def row(file: str, **changes: Any) -> FileRow:
    made = FileRow("data", file, (file, f"far/{file}"), "request", 123, info(file), 0, 30, "planned", "", 5.5)
    return made._replace(**changes)


def unit(file: str, start: int = 0, stop: int = 30) -> Unit:
    return Unit(
        file, (file,), "Events", f"uuid of {file}", "data", 0, (0, 1), ((start, stop),), "data/p.parquet"
    )


def packed(*data: bytes) -> Packed:
    return Packed(data, ("run",), np.array([1 << 32 | 7], np.uint64).tobytes(), "sha of pairs", 1.5)


def filled(folder: Path) -> Ledger:
    made = Ledger(folder, write=True)
    made.begin(["trila", "run"])
    made.put("request", {"a": [1, None]})
    rows = [row("a"), row("b"), row("c", info=None, status="skipped", reason="no such file")]
    names = ("response", "dijet")
    made.replace_plan(rows, [UnitRow(0, names, 0, 30, "planned"), UnitRow(1, names, 0, 30, "planned")])
    return made


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        leaves = made.store(
            unit("a"), 0, "of a", ("response", "dijet"), ("r1", "r2"), "out", packed(b"one", b"two")
        )
        made.tried("b", (0, 30), "far/b", "input", "no answer")
        made.settle(0, "done")
        made.settle(1, "skipped", "is bad")
        made.store_sum("key", b"sum")
        made.end("done")
    blocks = np.array([1 << 32 | 7], np.uint64).tobytes()
    pairs = ("data/p.parquet", "sha of pairs")
    with Ledger(tmp_path) as read:
        expected = [
            row("a", status="done"), row("b", status="skipped", reason="is bad"),
            row("c", info=None, status="skipped", reason="no such file"),
        ]  # fmt: skip
        assert read.files() == expected
        assert read.setting("request") == {"a": [1, None]}
        assert read.setting("other") is None
        assert [leaf[:9] for leaf in read.leaves()] == [
            ("r1", "of a", 0, 30, "response", "out", ("run",), blocks, pairs),
            ("r2", "of a", 0, 30, "dijet", "out", ("run",), blocks, None),  # pairs are of the responses
        ]
        assert read.leaves() == leaves
        assert [read.data(leaf) for leaf in leaves] == [b"one", b"two"]
        assert (read.sum("key"), read.sum("no")) == (b"sum", None)
        assert read.rows("SELECT file, processors, start, stop, status, attempts, seconds FROM units") == [
            (0, "response,dijet", 0, 30, "done", 1, 1.5), (1, "response,dijet", 0, 30, "skipped", 0, None),
        ]  # fmt: skip
        assert read.rows("SELECT file, start, stop, source, kind, reason FROM attempts") == [
            ("b", 0, 30, "far/b", "input", "no answer")
        ]
        ((command, outcome, begin, end, process),) = read.rows(
            'SELECT command, outcome, begin, "end", pid FROM runs'
        )
    assert (command, outcome, process) == ('["trila", "run"]', "done", os.getpid())
    assert begin <= end


def test_of_tries_that_failed_the_last_ones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over many openings, as a watch makes them: the ledger does not grow with each."""
    monkeypatch.setattr(ledgers, "_MOST_TRIES", 5)
    for number in range(7):
        with Ledger(tmp_path, write=True) as made:
            made.tried("a", None, "a", "input", "no such file")
            made.tried("b", (0, 30), "b", "input", f"reason {number}")
    with Ledger(tmp_path) as read:
        assert read.rows("SELECT file, reason FROM attempts ORDER BY rowid") == [
            ("b", "reason 4"), ("a", "no such file"), ("b", "reason 5"), ("a", "no such file"), ("b", "reason 6"),
        ]  # fmt: skip


def test_another_plan_leaves_what_was_done(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        made.store(unit("a"), 0, "of a", ("response", "dijet"), ("r1", "r2"), "", packed(b"one", b"two"))
        made.replace_plan([row("z")], [])
        assert [file.file for file in made.files()] == ["z"]
        assert made.rows("SELECT * FROM units") == []
        assert len(made.leaves()) == 2


def test_what_is_not_kept_is_dropped(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        leaves = made.store(
            unit("a"), 0, "of a", ("response", "dijet"), ("r1", "r2"), "", packed(b"one", b"two")
        )
        for key in ("x", "y"):
            made.store_sum(key, b"sum")
        made.prune(leaves[:1], ["y"])
        assert made.leaves() == leaves[:1]
        assert made.rows("SELECT key FROM sums") == [("y",)]


def test_what_was_changed_behind_its_back_is_found(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        one, two = made.store(
            unit("a"), 0, "of a", ("response", "dijet"), ("r1", "r2"), "", packed(b"one", b"two")
        )
        made.store_sum("key", b"sum")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("UPDATE partials SET data = 'twp' WHERE recipe = 'r2'")
        db.execute("UPDATE sums SET data = 'sun'")
    db.close()
    with Ledger(tmp_path) as read:
        assert read.data(one) == b"one"
        with pytest.raises(InputError, match=r"entries 0 to 30 of file of a is damaged; delete the folder"):
            read.data(two)
        with pytest.raises(InputError, match=r"entries 0 to 30 of file none is damaged"):
            read.data(Leaf("r1", "none", 0, 30, "p", "", (), None, None, ""))
        with pytest.raises(InputError, match=r"the sum key over several files is damaged; delete the folder"):
            read.sum("key")


def test_a_ledger_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no ledger \(ledger.sqlite\); `trila run \.\.\. -o .*` makes one"
    ):
        Ledger(tmp_path)
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database, and long enough to be looked at as one" * 20)
    for write in (False, True):
        with pytest.raises(
            InputError,
            match=r"cannot be used \(file is not a database\); wait for others that use it, or give",
        ):
            Ledger(tmp_path, write=write)
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE x (y)")
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(
        InputError,
        match=r"is of another version \(99, expected \d+\), or not made by trila; give another folder",
    ):
        Ledger(tmp_path, write=True)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE files SET info = '{'", "UPDATE files SET info = '{}'", "UPDATE files SET info = '[]'",
        "UPDATE files SET layout = 'other'", "UPDATE files SET replicas = '3'", "UPDATE layouts SET content = '{}'",
    ],
)  # fmt: skip
def test_damaged_rows_are_refused(change: str, tmp_path: Path) -> None:
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute(change)
    db.close()
    with (
        Ledger(tmp_path) as read,
        pytest.raises(InputError, match=r"is damaged \(\w+: .*\); give another folder"),
    ):
        read.files()


WRITER = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_ledger import filled, packed, unit
made = filled(Path(sys.argv[1]))
made.store(unit("a"), 0, "of a", ("response", "dijet"), ("r1", "r2"), "", packed(b"1" * 10, b"2"))  # worth a commit by itself
for pragma in ("cache_spill=ON", "cache_size=5"):  # so that what is not committed is in the file, and its journal beside it
    made._db.execute(f"PRAGMA {pragma}")
big = os.urandom(3_000_000)
made.store(unit("b"), 1, "of b", ("response", "dijet"), ("r1", "r2"), "", packed(big, big)._replace(seconds=0.0))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_unit_is_done_with_its_results_or_not_at_all(tmp_path: Path) -> None:
    """Killed in the middle of writing, the next who reads takes it back."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)],
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "ledger.sqlite-journal").stat().st_size > 0
    assert (tmp_path / "ledger.sqlite").stat().st_size > 3_000_000
    with Ledger(tmp_path) as read:
        assert read.rows("SELECT file, status FROM units") == [(0, "done"), (1, "planned")]
        assert [read.data(leaf) for leaf in read.leaves()] == [b"1" * 10, b"2"]
        assert read.rows("PRAGMA integrity_check") == [("ok",)]
        assert read.rows('SELECT outcome, "end" FROM runs') == [(None, None)]


def test_others_may_read_while_it_is_written(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        made.settle(0, "done")  # not committed yet
        with Ledger(tmp_path) as read:
            assert [file.status for file in read.files()] == ["planned", "planned", "skipped"]
        made.commit()
        with Ledger(tmp_path) as read:
            assert [file.status for file in read.files()] == ["done", "planned", "skipped"]


def test_results_that_took_long_are_written_at_once(tmp_path: Path) -> None:
    """The next unit may be done in an hour, and the process killed before."""
    with filled(tmp_path) as made:
        quick = packed(b"1", b"2")._replace(seconds=0.001)
        for found, done in ((quick, 0), (packed(b"1", b"2"), 1)):
            made.store(unit("a"), 0, "of a", ("response", "dijet"), ("r1", "r2"), "", found)
            with Ledger(tmp_path) as read:
                assert read.rows("SELECT count(*) FROM units WHERE status = 'done'") == [(done,)]


def test_one_at_a_time(tmp_path: Path) -> None:
    told = rf"is in use by process {os.getpid()} on \S+ since \S+; wait for its end, or give another folder"
    with exclusive(tmp_path):
        with pytest.raises(InputError, match=told), exclusive(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".lock").write_text("process 1 on a machine that went down")
    with exclusive(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    with (
        pytest.raises(InputError, match=r"cannot be locked: No such file or directory; free some space"),
        exclusive(tmp_path / "none"),
    ):
        pass


def test_a_lock_that_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run ended between opening its file and locking it: two would hold two locks of one name."""
    lock = ledgers.fcntl.flock

    def late(stream: Any, how: int) -> None:
        (tmp_path / ".lock").unlink()
        lock(stream, how)

    monkeypatch.setattr(ledgers.fcntl, "flock", late)
    with pytest.raises(InputError, match="is in use by another run"), exclusive(tmp_path):
        pass


def test_who_is_refused_leaves_everything_as_it_is(tmp_path: Path) -> None:
    result = tmp_path / "result"
    with working(result):
        filled(result).close()
        before = sorted(result.iterdir())
        with pytest.raises(InputError, match="is in use by process"), working(result):
            pass
        assert sorted(result.iterdir()) == before
    assert not result.exists()  # nothing was done in it


def test_what_cannot_be_read_is_not_thrown_away(tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.mkdir()
    (result / "ledger.sqlite").write_bytes(b"damaged, but perhaps not wholly lost " * 40)
    with working(result):
        pass
    assert (result / "ledger.sqlite").exists()
    (result / "ledger.sqlite").write_bytes(b"")
    with working(result):
        pass
    assert list(result.iterdir()) == []
