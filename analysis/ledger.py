"""The ledger of a RESULT: what was planned, what became of each piece of it, and the partial results that came of it.

An SQLite file, `ledger.sqlite`, so that a crash at any moment leaves a readable state: what a unit gave and that it is done
are written together or not at all. One run at a time writes it; any number of others may read it meanwhile.

| table | a row for each |
| --- | --- |
| `runs` | command that worked on the RESULT |
| `settings` | what the last of them was told, for those that go on from there |
| `files` | input file: what it is, what is planned of it, and what became of it |
| `units` | range of entries of the plan: planned, done, empty or skipped |
| `attempts` | try that failed |
| `partials` | result of one processor on one unit, under its content key |
| `sums` | sum over a block of files, or over two such sums, under the keys of its parts |
| `layouts` | way in which branches make columns; files of one production share it |
"""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from trila.processors.errors import InputError
from trila.processors.formats import Format
from trila.processors.partial import Unit
from trila.processors.readers import FileInfo, Layout
from trila.processors.recipes import digest
from trila.processors.run import Packed

__all__ = ["FILES", "LOCK", "NAME", "FileRow", "Leaf", "Ledger", "UnitRow", "exclusive"]

NAME = "ledger.sqlite"
#: Held while a run is going on.
LOCK = ".lock"
#: All that there can be of a ledger in its folder.
FILES = (NAME, f"{NAME}-journal", LOCK)
_VERSION = 2
_SCHEMA = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, begin TEXT, "end" TEXT, command TEXT, host TEXT, pid INTEGER, outcome TEXT);
CREATE TABLE settings (name TEXT PRIMARY KEY, content TEXT);
CREATE TABLE layouts (key TEXT PRIMARY KEY, content TEXT);
CREATE TABLE files (
  number INTEGER PRIMARY KEY, dataset TEXT, file TEXT, replicas TEXT, request TEXT, modified INTEGER, size INTEGER, layout TEXT,
  info TEXT, uuid TEXT, entries INTEGER, first INTEGER, last INTEGER, status TEXT, reason TEXT, arrived REAL);
CREATE TABLE units (
  file INTEGER, processors TEXT, start INTEGER, stop INTEGER, status TEXT, attempts INTEGER, seconds REAL,
  PRIMARY KEY (file, processors, start));
CREATE TABLE attempts (time TEXT, file TEXT, start INTEGER, stop INTEGER, source TEXT, kind TEXT, reason TEXT);
CREATE TABLE partials (
  recipe TEXT, input TEXT, start INTEGER, stop INTEGER, processor TEXT, retracted TEXT, branches TEXT, blocks BLOB, pairs TEXT, digest TEXT,
  data BLOB, PRIMARY KEY (recipe, input, start));
CREATE TABLE sums (key TEXT PRIMARY KEY, digest TEXT, data BLOB);
"""
_OBJECTS = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
#: Seconds between commits: a crash loses what was done since.
_INTERVAL = 0.5
#: Seconds to wait for another process that reads.
_PATIENCE = 60.0
#: Tries that failed: the last ones are kept, for a watch makes them without end where a file stays unreadable.
_MOST_TRIES = 10_000


class FileRow(NamedTuple):
    """An input file in the plan.

    Attributes:
        dataset, file: as given.
        replicas: where it can be read; the first is `file`.
        request: digest of how it was to be read.
        modified: time of its last change in ns; 0 for URLs.
        info: what is known of it; None if it could not be looked at.
        first, last: entries to process.
        status: "planned", "done", "empty" or "skipped".
        reason: why it is skipped.
        arrived: time stamp when it was first seen, s.
    """

    dataset: str
    file: str
    replicas: tuple[str, ...]
    request: str
    modified: int
    info: FileInfo | None
    first: int
    last: int
    status: str
    reason: str
    arrived: float

    @property
    def identity(self) -> str:
        """What tells whether a file is still the same: its uuid, which survives changes in place, size and time of change."""
        return f"{self.info.uuid}-{self.modified:x}" if self.info is not None else ""


class UnitRow(NamedTuple):
    """A range of entries in the plan.

    Attributes:
        file: place of its file in the plan.
        processors: names, in order.
        start, stop: entries.
        status: "planned", "done", "empty" or "skipped".
    """

    file: int
    processors: tuple[str, ...]
    start: int
    stop: int
    status: str


class Leaf(NamedTuple):
    """A stored partial result.

    Attributes:
        recipe, input, start, stop: what it was made of; the input is `FileRow.identity`.
        processor: that made it.
        retracted: digest of the luminosity blocks in its range that were left out; empty if none.
        branches: that were read.
        blocks: luminosity blocks in its range, as of `Packed`; None for simulation.
        pairs: name and SHA-256 of its table of pairs, if it has one.
        digest: SHA-256 of its data.
    """

    recipe: str
    input: str
    start: int
    stop: int
    processor: str
    retracted: str
    branches: tuple[str, ...]
    blocks: bytes | None
    pairs: tuple[str, str] | None
    digest: str


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Nobody else works on this RESULT meanwhile.

    Raises:
        InputError: somebody does.
    """
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(
                path.open("ab+", buffering=0)
            )  # closing must not try again what failed
            stream.seek(0)
            holder = stream.read(200).decode(errors="replace").strip()
            _lock(stream)
            if not _is_same(stream.fileno(), path):  # it was removed by one that has just ended
                raise BlockingIOError
        except BlockingIOError as error:
            raise InputError(
                f"{folder} is in use by {holder or 'another run'}; wait for its end, or give another folder"
            ) from error
        except OSError as error:
            raise InputError(
                f"{path} cannot be locked: {error.strerror}; free some space, or choose another file system"
            ) from error
        stack.callback(path.unlink, missing_ok=True)
        with contextlib.suppress(
            OSError
        ):  # it is locked all the same, if the disk has no place for who has it
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()} since {_now()}".encode())
        yield


def _lock(stream: Any) -> None:
    """Take the lock; `trila status` holds it for a moment, too."""
    for wait in (0.0, 0.05, 0.1):
        time.sleep(wait)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait == 0.1:
                raise
        else:
            return


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class Ledger:
    """The ledger in a folder; close it, or use it as a context.

    Args:
        folder: the RESULT.
        write: make it, if it is not there; else it is only read.

    Raises:
        InputError: there is none, it is damaged or of another version; from any method, too, if the disk is full.
    """

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        self.path = folder / NAME
        if not write and not self.path.is_file():
            raise InputError(f"{folder} has no ledger ({NAME}); `trila run ... -o {folder}` makes one")
        with self._guarded():
            # whoever reads first after a crash takes back what was half written
            mode = "rwc" if write else "rw" if os.access(self.path, os.W_OK) else "ro"
            uri = f"{self.path.resolve().as_uri()}?mode={mode}"
            self._db = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "cache_size=-8000", "cache_spill=OFF"):
                self._db.execute(f"PRAGMA {pragma}")
            if write and not self._one("SELECT count(*) FROM sqlite_master"):
                self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
            found = self._one("PRAGMA user_version")
            # views and triggers of others are not for us
            same = self._db.execute(_OBJECTS).fetchall() == _objects()
        if found != _VERSION or not same:
            self._db.close()
            raise InputError(
                f"{self.path} is of another version ({found}, expected {_VERSION}), or not made by trila; give another folder"
            )
        self._write = write
        self._run: int | None = None
        self._last_commit = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is not yet written, and close."""
        try:
            self.commit()
        finally:
            self._db.close()

    # ---- writing

    def begin(self, command: Sequence[str]) -> None:
        """A run begins."""
        values = (_now(), json.dumps(list(command)), socket.gethostname(), os.getpid())
        with self._writing():
            done = self._db.execute(
                "INSERT INTO runs (begin, command, host, pid) VALUES (?, ?, ?, ?)", values
            )
        self._run = done.lastrowid
        self.commit()

    def end(self, outcome: str) -> None:
        """The run that began has ended."""
        with self._writing():
            self._db.execute(
                'UPDATE runs SET "end" = ?, outcome = ? WHERE id = ?', (_now(), outcome, self._run)
            )
        self.commit()

    def put(self, name: str, content: Any) -> None:
        """Keep a setting, JSON-like."""
        with self._writing():
            self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(content)))

    def replace_plan(self, files: Sequence[FileRow], units: Iterable[UnitRow]) -> None:
        """What is to be done from now on."""
        keys: dict[tuple[int, tuple[str, ...]], str] = {}  # of layouts, which most files share
        with self._writing():
            self._db.execute("DELETE FROM files")
            self._db.execute("DELETE FROM units")
            self._db.executemany(
                f"INSERT INTO files VALUES ({', '.join('?' * 16)})",
                ((number, *self._file_values(row, keys)) for number, row in enumerate(files)),
            )
            self._db.executemany(
                "INSERT INTO units VALUES (?, ?, ?, ?, ?, 0, NULL)",
                ((u.file, ",".join(u.processors), u.start, u.stop, u.status) for u in units),
            )
        self.commit()

    def _file_values(self, row: FileRow, keys: dict[tuple[int, tuple[str, ...]], str]) -> tuple[Any, ...]:
        info, layout, content = row.info, None, None
        if info is not None:
            same = id(info.layout), info.branches
            layout = keys[same] if same in keys else keys.setdefault(same, self._layout_key(info))
            content = json.dumps({**info._asdict(), "layout": None, "branches": None})
        return (
            row.dataset, row.file, json.dumps(row.replicas), row.request, row.modified, info.size if info else None, layout, content,
            info.uuid if info else None, info.entries if info else None, row.first, row.last, row.status, row.reason, row.arrived,
        )  # fmt: skip

    def _layout_key(self, info: FileInfo) -> str:
        layout = info.layout
        content = {
            "table": json.loads(layout.table.model_dump_json(exclude_unset=True)),
            "era": layout.era,
            "columns": layout.columns,
            "sources": layout.sources,
            "branches": info.branches,
        }
        key = digest(content)
        self._db.execute("INSERT OR IGNORE INTO layouts VALUES (?, ?)", (key, json.dumps(content)))
        return key

    def store(
        self,
        unit: Unit,
        file: int,
        identity: str,
        names: Sequence[str],
        recipes: Sequence[str],
        retracted: str,
        found: Packed,
    ) -> list[Leaf]:
        """A unit is done: keep what came of it, a leaf for each of its processors.

        Args:
            unit: what was done.
            file: place of its file in the plan.
            identity: of its file.
            names: of its processors.
            recipes: of its processors.
            retracted: digest of the luminosity blocks in its range that were left out; empty if none.
            found: what came of it.
        """
        pairs = (unit.pairs, found.pairs) if unit.pairs is not None and found.pairs is not None else None
        leaves = [
            Leaf(
                key,
                identity,
                unit.start,
                unit.stop,
                name,
                retracted,
                found.branches,
                found.blocks,
                pairs if name == "response" else None,  # whose they are: another may be done again without it
                _sha(data),
            )
            for key, name, data in zip(recipes, names, found.partials, strict=True)
        ]
        with self._writing():
            for leaf, data in zip(leaves, found.partials, strict=True):
                values = (
                    *leaf[:6],
                    json.dumps(leaf.branches),
                    leaf.blocks,
                    json.dumps(leaf.pairs),
                    leaf.digest,
                    data,
                )
                self._db.execute(f"INSERT OR REPLACE INTO partials VALUES ({', '.join('?' * 11)})", values)
            status = "done" if unit.entries else "empty"
            self._db.execute(
                "UPDATE units SET status = ?, attempts = attempts + 1, seconds = ? WHERE file = ? AND processors = ? AND start = ?",
                (status, found.seconds, file, ",".join(names), unit.start),
            )
        self._commit_now_and_then(found.seconds)
        return leaves

    def tried(self, item: str, span: tuple[int, int] | None, source: str, kind: str, reason: str) -> None:
        """A try failed; of all that did, the last ones are kept."""
        start, stop = span or (None, None)
        with self._writing():
            done = self._db.execute(
                "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)",
                (_now(), item, start, stop, source, kind, reason),
            )
            last = done.lastrowid or 0  # SQLite numbers rows one after the other
            self._db.execute("DELETE FROM attempts WHERE rowid <= ?", (last - _MOST_TRIES,))
        self._commit_now_and_then()

    def settle(self, file: int, status: str, reason: str = "") -> None:
        """What became of a file."""
        with self._writing():
            self._db.execute(
                "UPDATE files SET status = ?, reason = ? WHERE number = ?", (status, reason, file)
            )
            if status == "skipped":
                self._db.execute("UPDATE units SET status = 'skipped' WHERE file = ?", (file,))
        self._commit_now_and_then()

    def store_sum(self, key: str, data: bytes) -> None:
        """Keep the sum over several files."""
        with self._writing():
            self._db.execute("INSERT OR REPLACE INTO sums VALUES (?, ?, ?)", (key, _sha(data), data))
        self._commit_now_and_then()

    def prune(self, leaves: Iterable[Leaf], sums: Iterable[str]) -> None:
        """Drop partial results and sums other than these."""
        with self._writing():
            self._db.execute(
                "CREATE TEMP TABLE kept (recipe TEXT, input TEXT, start INTEGER, PRIMARY KEY (recipe, input, start))"
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO kept VALUES (?, ?, ?)", ((x.recipe, x.input, x.start) for x in leaves)
            )
            self._db.execute(
                "DELETE FROM partials WHERE NOT EXISTS (SELECT 1 FROM kept WHERE kept.recipe = partials.recipe AND "
                "kept.input = partials.input AND kept.start = partials.start)"
            )
            self._db.execute("DROP TABLE kept")
            self._db.execute("CREATE TEMP TABLE kept_sums (key TEXT PRIMARY KEY)")
            self._db.executemany("INSERT OR IGNORE INTO kept_sums VALUES (?)", ((key,) for key in sums))
            self._db.execute("DELETE FROM sums WHERE key NOT IN (SELECT key FROM kept_sums)")
            self._db.execute("DROP TABLE kept_sums")
        self.commit()

    def commit(self) -> None:
        """Write what is not yet written."""
        if self._db.in_transaction:
            with self._guarded():
                self._db.execute("COMMIT")
        self._last_commit = time.monotonic()

    def _commit_now_and_then(self, worth: float = 0.0) -> None:
        """Commit, if what could be lost took long; the next that is done may come in an hour."""
        if max(worth, time.monotonic() - self._last_commit) > _INTERVAL:
            self.commit()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._guarded():
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise InputError(
                    f"{self.path} cannot be written: the disk is full; what was done is kept: free some space and give the "
                    "same command again"
                ) from error
            raise InputError(
                f"{self.path} cannot be used ({error}); wait for others that use it, or give another folder"
            ) from error

    # ---- reading

    def _one(self, query: str, *values: Any) -> Any:
        row = self._db.execute(query, values).fetchone()
        return row[0] if row is not None else None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query of the ledger's tables gives."""
        with self._guarded():
            return self._db.execute(query, values).fetchall()

    def setting(self, name: str) -> Any:
        """A setting; None if it is not there."""
        with self._guarded():
            found = self._one("SELECT content FROM settings WHERE name = ?", name)
        return None if found is None else json.loads(found)

    def files(self) -> list[FileRow]:
        """Input files of the plan, in order.

        Raises:
            InputError: a row is damaged.
        """
        try:
            layouts = {
                key: json.loads(content) for key, content in self.rows("SELECT key, content FROM layouts")
            }
            made = {key: _layout(content) for key, content in layouts.items()}
            found = []
            for row in self.rows(
                "SELECT dataset, file, replicas, request, modified, layout, info, first, last, status, reason, arrived "
                "FROM files ORDER BY number"
            ):
                dataset, file, replicas, request, modified, key, content, *rest = row
                info = None
                if content is not None:
                    values: dict[str, Any] = json.loads(content)
                    values |= {"branches": layouts[key]["branches"], "layout": made[key]}
                    given: dict[str, Any] = {k: tuple(v) if type(v) is list else v for k, v in values.items()}
                    info = FileInfo(**given)
                found.append(
                    FileRow(dataset, file, tuple(json.loads(replicas)), request, modified, info, *rest)
                )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path} is damaged ({type(error).__name__}: {error}); give another folder"
            ) from error
        return found

    def leaves(self) -> list[Leaf]:
        """All stored partial results, without their data."""
        found = []
        known: dict[str, tuple[str, ...]] = {}  # the same branches stand in most rows
        for recipe, identity, start, stop, processor, retracted, branches, blocks, pairs, sha in self.rows(
            "SELECT recipe, input, start, stop, processor, retracted, branches, blocks, pairs, digest FROM partials "
            "ORDER BY start, stop"
        ):
            if branches not in known:
                known[branches] = tuple(json.loads(branches))
            table, read = json.loads(pairs), known[branches]
            stored = tuple(table) if table else None
            found.append(Leaf(recipe, identity, start, stop, processor, retracted, read, blocks, stored, sha))
        return found

    def data(self, leaf: Leaf) -> bytes:
        """A stored partial result.

        Raises:
            InputError: it is not there, or is not what was stored.
        """
        with self._guarded():
            data = self._one(
                "SELECT data FROM partials WHERE recipe = ? AND input = ? AND start = ?",
                leaf.recipe,
                leaf.input,
                leaf.start,
            )
        if not isinstance(data, bytes) or _sha(data) != leaf.digest:
            raise InputError(
                f"{self.path}: the partial result of entries {leaf.start} to {leaf.stop} of file {leaf.input} is damaged; "
                "delete the folder and run again"
            )
        return data

    def sum(self, key: str) -> bytes | None:
        """The sum over several files; None if it is not there.

        Raises:
            InputError: it is not what was stored.
        """
        found = self.rows("SELECT digest, data FROM sums WHERE key = ?", key)
        if not found:
            return None
        sha, data = found[0]
        if not isinstance(data, bytes) or _sha(data) != sha:
            raise InputError(
                f"{self.path}: the sum {key[:12]} over several files is damaged; delete the folder and run again"
            )
        return data


@cache
def _objects() -> list[tuple[str, ...]]:
    """What a ledger consists of."""
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(_SCHEMA)
        return empty.execute(_OBJECTS).fetchall()


def _layout(content: dict[str, Any]) -> Layout:
    columns = {name: tuple(branches) for name, branches in content["columns"].items()}
    return Layout(Format.model_validate(content["table"]), content["era"], columns, content["sources"])


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
