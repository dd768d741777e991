"""Look for events that are in the input more than once, in several files or in one: they would be counted twice.

Every event is told by run, luminosity block and event number, exactly and not by a hash. To need little memory for any number
of events, identities are spread over files on disk by a hash, and looked at file by file.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.ledger import FileRow, Ledger
from trila.analysis.planning import Plan
from trila.corrections.lumi import blocks
from trila.processors import readers
from trila.processors.columns import scalar
from trila.processors.errors import BadFile, InputError
from trila.processors.pools import Pool
from trila.processors.run import Attempt, carry_out

__all__ = ["check"]

_COLUMNS = frozenset({"run", "luminosity_block", "event"})
#: Events read at a time, and events in a file on disk on average.
_AT_A_TIME = 2_000_000
#: Knuth's multiplicative hash, 2^64 over the golden ratio.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

#: Events that a message names.
_EXAMPLES = 3

#: run << 32 | luminosity block, and event number, shape (n, 2).
Identities = NDArray[np.uint64]


class _Piece(NamedTuple):
    """Entries of a file; `file` and `number` say which."""

    row: FileRow
    number: int
    start: int
    stop: int

    @property
    def file(self) -> str:
        return self.row.file


class _Example(NamedTuple):
    """An event that is in the input twice; `one` and `other` are places of files in the plan."""

    block: int
    event: int
    one: int
    other: int


class _Found(NamedTuple):
    """Events of a piece.

    Attributes:
        once: each of them once.
        again: how many more there are.
        examples: some that are there again.
    """

    once: Identities
    again: int
    examples: Identities


def check(
    planned: Plan, ledger: Ledger, pool: Pool, folder: Path, progress: Callable[[str, int], Callable[[int], None]], *,
    skip_bad_files: bool,
) -> Plan:  # fmt: skip
    """Look for events that are planned more than once.

    Data are compared across datasets; simulated datasets, whose event numbers begin anew, each with itself.

    Args:
        planned: of the run.
        ledger: told of tries that failed.
        pool: where files are read.
        folder: for 24 bytes an event, for the time of the check.
        progress: shows long work.
        skip_bad_files: leave out files that cannot be read; their events are not compared.

    Returns:
        The plan, without the files that are left out.

    Raises:
        InputError: there are some, with examples; or events have no identity, or the disk is full.
        BadFile: a file cannot be read, and `skip_bad_files` is not set.
    """
    groups: dict[str, list[_Piece]] = defaultdict(list)
    for number, row in enumerate(planned.files):
        if row.status == "planned" and row.info is not None:
            if not row.info.layout.columns.keys() >= _COLUMNS:
                raise InputError(
                    f"{row.file} has no run, luminosity block and event number to tell events by; leave out --check-duplicates"
                )
            name = "" if planned.metadata[row.dataset]["is_data"] else row.dataset
            groups[name] += [
                _Piece(row, number, start, min(start + _AT_A_TIME, row.last))
                for start in range(row.first, row.last, _AT_A_TIME)
            ]
    advance = progress(
        "looking for duplicates", sum(p.stop - p.start for pieces in groups.values() for p in pieces)
    )
    bad: dict[int, str] = {}
    for pieces in groups.values():
        bad |= _check(pieces, planned, ledger, pool, folder, advance, skip_bad_files)
    return planned.without(bad)


def _check(
    pieces: list[_Piece], planned: Plan, ledger: Ledger, pool: Pool, folder: Path, advance: Callable[[int], None],
    skip_bad_files: bool,
) -> dict[int, str]:  # fmt: skip
    """Place of a file that cannot be read to the reason; raises InputError if events are there twice."""
    count = 1 + sum(piece.stop - piece.start for piece in pieces) // _AT_A_TIME
    bad: dict[int, str] = {}
    within: Counter[int] = Counter()  # by file: one may turn out to be bad at its last piece
    examples: list[_Example] = []
    for piece, found in _read(pieces, ledger, pool, bad, skip_bad_files):
        advance(piece.stop - piece.start)
        within[piece.number] += found.again
        examples += [
            _Example(block, event, piece.number, piece.number) for block, event in found.examples.tolist()
        ]
        with _writable(folder):
            _spread(found.once, piece.number, count, folder)
    total = sum(again for number, again in within.items() if number not in bad)
    examples = [example for example in examples if example.one not in bad]
    left_out = np.array(list(bad), np.uint64)
    for bucket in range(count):
        path = folder / f"events-{bucket}"
        if path.exists():
            with _writable(folder):
                rows = np.fromfile(path, np.uint64).reshape(-1, 3)
                path.unlink()
            if bad:
                rows = rows[~np.isin(rows[:, 2], left_out)]
            rows = rows[np.lexsort(rows.T[::-1])]
            again = _repeated(rows[:, :2])
            total += again.size
            shown = again[:_EXAMPLES]
            examples += map(_Example._make, np.column_stack([rows[shown], rows[shown + 1, 2]]).tolist())
    if total:
        raise InputError(
            f"{total} events are in the input more than once, such as {_told(sorted(examples)[:_EXAMPLES], planned)}; leave one out"
        )
    return bad


def _spread(found: Identities, number: int, count: int, folder: Path) -> None:
    """Append identities, with the number of their file, to files by their hash: the same identity goes to the same file."""
    place = (found[:, 0] * _GOLDEN ^ found[:, 1]) * _GOLDEN >> np.uint64(32)
    place %= np.uint64(count)
    order = np.argsort(place, kind="stable")
    edges = np.searchsorted(place[order], np.arange(count + 1, dtype=np.uint64))
    whole = np.column_stack([found, np.full(len(found), number, np.uint64)])[order]
    for bucket in np.flatnonzero(np.diff(edges)):
        with (folder / f"events-{bucket}").open("ab") as stream:
            stream.write(whole[edges[bucket] : edges[bucket + 1]].tobytes())


def _repeated(ordered: Identities) -> NDArray[np.intp]:
    """Rows that the next row repeats."""
    return np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1))


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"identities of events cannot be kept in {folder}: {error.strerror}; free some space"
        ) from error


def _read(
    pieces: list[_Piece], ledger: Ledger, pool: Pool, bad: dict[int, str], skip_bad_files: bool
) -> Iterator[tuple[_Piece, _Found]]:
    """Pieces with their events; files that cannot be read are added to `bad`, if they are to be skipped."""

    def tried(piece: _Piece, source: str, kind: str, reason: str) -> None:
        ledger.tried(piece.file, (piece.start, piece.stop), source, kind, reason)

    outcomes = carry_out(
        pool, _identities, None, pieces, sources=lambda piece: piece.row.replicas,
        wanted=lambda piece: piece.number not in bad, tried=tried,
    )  # fmt: skip
    for piece, outcome in outcomes:
        if not isinstance(outcome, BadFile):
            yield piece, outcome
        elif skip_bad_files:
            bad.setdefault(piece.number, outcome.reason)
        else:
            raise outcome


def _identities(_context: None, attempt: Attempt) -> _Found:
    """The events of a piece.

    Repetitions are taken out here: however often an identity comes, it takes the memory of one in the file on disk.
    """
    piece: _Piece = attempt.item
    info = piece.row.info
    assert info is not None
    metadata: dict[str, Any] = {"dataset": piece.row.dataset}
    layout = info.layout.restricted(_COLUMNS)
    try:
        events = readers.read(
            attempt.source, info.tree, info.uuid, layout, piece.start, piece.stop, metadata, []
        )
        block = blocks(scalar(events, "run"), scalar(events, "luminosity_block"))
        rows = np.column_stack([block, scalar(events, "event").astype(np.uint64)])
    except InputError:
        raise
    except Exception:
        # which branch cannot be read, and whether it may pass
        readers.readable(attempt.source, info.tree, layout, piece.start, piece.stop)
        raise
    rows = rows[np.lexsort(rows.T[::-1])]
    again = _repeated(rows)
    return _Found(np.delete(rows, again, axis=0), again.size, rows[again[:_EXAMPLES]])


def _told(examples: list[_Example], planned: Plan) -> str:
    told = []
    for block, event, one, other in examples:
        files = dict.fromkeys(planned.files[number].file for number in (one, other))
        where = " and ".join(files) if len(files) > 1 else f"{next(iter(files))}, twice"
        told.append(f"run {block >> 32}, block {block & 0xFFFFFFFF}, event {event} in {where}")
    return "; ".join(told)
