"""Look for events that are in the input more than once, in several files or in one: they would be counted twice.

Every event is told by run, luminosity block and event number, exactly and not by a hash. To need little memory for any number
of events, identities are spread over files on disk by a hash, and looked at file by file.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
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


def check(
    planned: Plan,
    ledger: Ledger,
    pool: Pool,
    folder: Path,
    progress: Callable[[str, int], Callable[[int], None]],
) -> None:
    """Look for events that are planned more than once.

    Data are compared across datasets; simulated datasets, whose event numbers begin anew, each with itself.

    Args:
        planned: of the run.
        ledger: told of tries that failed.
        pool: where files are read.
        folder: for 24 bytes an event, for the time of the check.
        progress: shows long work.

    Raises:
        InputError: there are some, with examples; or events have no identity, or the disk is full.
        BadFile: a file cannot be read.
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
    for pieces in groups.values():
        _check(pieces, planned, ledger, pool, folder, advance)


def _check(
    pieces: list[_Piece],
    planned: Plan,
    ledger: Ledger,
    pool: Pool,
    folder: Path,
    advance: Callable[[int], None],
) -> None:
    count = 1 + sum(piece.stop - piece.start for piece in pieces) // _AT_A_TIME
    try:
        for piece, found in _read(pieces, ledger, pool):
            advance(piece.stop - piece.start)
            place = (found[:, 0] * _GOLDEN ^ found[:, 1]) * _GOLDEN >> np.uint64(32)
            place %= np.uint64(count)
            order = np.argsort(place, kind="stable")
            edges = np.searchsorted(place[order], np.arange(count + 1, dtype=np.uint64))
            whole = np.column_stack([found, np.full(len(found), piece.number, np.uint64)])[order]
            for bucket in np.flatnonzero(np.diff(edges)):
                with (folder / f"events-{bucket}").open("ab") as stream:
                    stream.write(whole[edges[bucket] : edges[bucket + 1]].tobytes())
        total, examples = 0, []
        for path in folder.glob("events-*"):
            rows = np.fromfile(path, np.uint64).reshape(-1, 3)
            rows = rows[np.lexsort(rows.T[::-1])]
            again = np.flatnonzero((rows[1:, :2] == rows[:-1, :2]).all(axis=1))
            total += again.size
            examples += [(rows[i], rows[i + 1]) for i in again[:3]]
            path.unlink()
    except OSError as error:
        raise InputError(
            f"identities of events cannot be written to {folder}: {error.strerror}; free some space"
        ) from error
    if total:
        raise InputError(
            f"{total} events are in the input more than once, such as {_told(examples[:3], planned)}; leave one out"
        )


def _read(pieces: list[_Piece], ledger: Ledger, pool: Pool) -> Iterator[tuple[_Piece, Identities]]:
    def tried(piece: _Piece, source: str, kind: str, reason: str) -> None:
        ledger.tried(piece.file, (piece.start, piece.stop), source, kind, reason)

    outcomes = carry_out(
        pool, _identities, None, pieces, sources=lambda piece: piece.row.replicas, tried=tried
    )
    for piece, outcome in outcomes:
        if isinstance(outcome, BadFile):
            raise outcome
        yield piece, np.frombuffer(outcome, np.uint64).reshape(-1, 2)


def _identities(_context: None, attempt: Attempt) -> bytes:
    """Luminosity blocks with their runs, and event numbers, of a piece, shape (n, 2)."""
    piece: _Piece = attempt.item
    info = piece.row.info
    assert info is not None
    metadata: dict[str, Any] = {"dataset": piece.row.dataset}
    layout = info.layout.restricted(_COLUMNS)
    events = readers.read(attempt.source, info.tree, info.uuid, layout, piece.start, piece.stop, metadata, [])
    block = blocks(scalar(events, "run"), scalar(events, "luminosity_block"))
    return np.column_stack([block, scalar(events, "event").astype(np.uint64)]).tobytes()


def _told(examples: list[tuple[Identities, Identities]], planned: Plan) -> str:
    told = []
    for one, other in examples:
        files = dict.fromkeys(planned.files[int(row[2])].file for row in (one, other))
        where = " and ".join(files) if len(files) > 1 else f"{next(iter(files))}, twice"
        told.append(
            f"run {one[0] >> np.uint64(32)}, block {one[0] & np.uint64(0xFFFFFFFF)}, event {one[1]} in {where}"
        )
    return "; ".join(told)
