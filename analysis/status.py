"""How far a RESULT is, and what was lost: read from its ledger, also while a run is going on."""

import fcntl
import json
from pathlib import Path
from typing import Any, NamedTuple

from trila.analysis import ledger as ledgers
from trila.analysis import requests
from trila.analysis.accounting import DatasetFraction, fractions
from trila.analysis.ledger import FileRow, Ledger

__all__ = ["RunRow", "Status", "status"]

#: Luminosity blocks that a retracted run stands for.
_WHOLE_RUN = (0, 2**32 - 1)


class RunRow(NamedTuple):
    """A command that worked on a RESULT.

    Attributes:
        begin, end: times, ISO; the end is None while it goes on, and where it never came.
        command: as given.
        where: machine and process.
        outcome: "done", "running", "interrupted", or the error that ended it.
    """

    begin: str
    end: str | None
    command: list[str]
    where: str
    outcome: str


class Status(NamedTuple):
    """What the ledger of a RESULT says.

    Attributes:
        path: of the RESULT.
        complete: whether it has its products.
        runs: commands, the last one at the end.
        files: of the plan; one whose units are all done is done.
        units: status to how many units of the plan have it.
        fractions: dataset to how much of it was processed so far.
        attempts: tries that failed, the last ones: time, file, first and last entry, source, kind, reason.
        retracted: files and luminosity blocks that were taken out.
        size: of the ledger, bytes.
    """

    path: Path
    complete: bool
    runs: list[RunRow]
    files: list[FileRow]
    units: dict[str, int]
    fractions: dict[str, DatasetFraction]
    attempts: list[tuple[Any, ...]]
    retracted: list[str]
    size: int

    def counts(self, dataset: str) -> dict[str, int]:
        """Status to how many files of a dataset have it."""
        found: dict[str, int] = {}
        for row in self.files:
            if row.dataset == dataset:
                found[row.status] = found.get(row.status, 0) + 1
        return found

    def as_json(self) -> dict[str, Any]:
        """The same, JSON-like."""
        return {
            "result": str(self.path),
            "complete": self.complete,
            "runs": [run._asdict() for run in self.runs],
            "datasets": {
                name: {**share._asdict(), "fraction": share.fraction, "files": self.counts(name)}
                for name, share in self.fractions.items()
            },
            "units": self.units,
            "skipped": [
                {"file": r.file, "dataset": r.dataset, "reason": r.reason}
                for r in self.files
                if r.status == "skipped"
            ],
            "attempts": [
                dict(zip(("time", "file", "start", "stop", "source", "kind", "reason"), row, strict=True))
                for row in self.attempts
            ],
            "retracted": self.retracted,
            "ledger_bytes": self.size,
        }


def status(result: str | Path, *, attempts: int = 20) -> Status:
    """How far a RESULT is.

    Args:
        result: folder.
        attempts: how many of the tries that failed.

    Raises:
        InputError: it has no ledger, or a damaged one.
    """
    path = Path(result)
    with Ledger(path) as ledger:
        request = requests.earlier(ledger)
        rows = ledger.files()
        left = _left(ledger, len(rows))
        busy = _in_use(path)
        known = ledger.rows('SELECT begin, "end", command, host, pid, outcome FROM runs ORDER BY id')
        runs = [
            RunRow(begin, end, json.loads(command), f"{host}, process {pid}", outcome or "interrupted")
            for begin, end, command, host, pid, outcome in known
        ]
        if runs and runs[-1].end is None and busy:
            runs[-1] = runs[-1]._replace(outcome="running")
        retracted: list[str] = []
        if request is not None:
            retracted = list(request.retracted_files)
            retracted += [
                _blocks(run, *pair) for run, pairs in request.retracted_blocks.items() for pair in pairs
            ]
        failed = ledger.rows(
            "SELECT time, file, start, stop, source, kind, reason FROM attempts ORDER BY rowid DESC LIMIT ?",
            attempts,
        )
        return Status(
            path,
            (path / "histograms.zip").is_file() and (path / "manifest.json").is_file(),
            runs,
            [_by_now(row, left[number]) for number, row in enumerate(rows)],
            dict(ledger.rows("SELECT status, count(*) FROM units GROUP BY status ORDER BY status")),
            _so_far(rows, left, request.max_events if request is not None else None),
            failed[::-1],
            retracted,
            ledger.path.stat().st_size,
        )


def _left(ledger: Ledger, files: int) -> list[int | None]:
    """Entries of each file that are still to do; None where no unit is."""
    by_name: list[dict[str, int]] = [{} for _ in range(files)]
    rows = ledger.rows(
        "SELECT file, processors, sum(stop - start) FROM units WHERE status = 'planned' GROUP BY file, processors"
    )
    for file, names, entries in rows:
        for name in names.split(",") if file < files else ():
            by_name[file][name] = by_name[file].get(name, 0) + entries
    return [max(found.values()) if found else None for found in by_name]


def _by_now(row: FileRow, left: int | None) -> FileRow:
    """A run settles its files at its end; until then, what became of their units says it."""
    if row.status != "planned" or left is not None:
        return row
    return row._replace(status="done" if row.last > row.first else "empty")


def _so_far(
    rows: list[FileRow], left: list[int | None], max_events: int | None
) -> dict[str, DatasetFraction]:
    """Fractions of what is planned: entries that are still to do are planned, and not done."""
    all_done = [row._replace(status="done") if row.status == "planned" else row for row in rows]
    found = fractions(all_done, max_events)
    for row, entries in zip(rows, left, strict=True):
        if row.status == "planned" and entries is not None:
            share = found[row.dataset]
            found[row.dataset] = share._replace(done=share.done - entries)
    return found


def _blocks(run: str, first: int, last: int) -> str:
    """Luminosity blocks as `--retract` takes them."""
    if (first, last) == _WHOLE_RUN:
        return run
    return f"{run}:{first}" if first == last else f"{run}:{first}-{last}"


def _in_use(path: Path) -> bool:
    """Whether a run is going on."""
    try:
        with (path / ledgers.LOCK).open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
