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
        files: of the plan.
        units: status to how many units of the plan have it.
        fractions: dataset to how much of it was processed.
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
        files = ledger.files()
        busy = _in_use(path)
        rows = ledger.rows('SELECT begin, "end", command, host, pid, outcome FROM runs ORDER BY id')
        runs = [
            RunRow(begin, end, json.loads(command), f"{host}, process {pid}", outcome or "interrupted")
            for begin, end, command, host, pid, outcome in rows
        ]
        if runs and runs[-1].end is None and busy:
            runs[-1] = runs[-1]._replace(outcome="running")
        retracted: list[str] = []
        if request is not None:
            retracted = list(request.retracted_files)
            retracted += [
                f"{run}:{a}-{b}" for run, pairs in request.retracted_blocks.items() for a, b in pairs
            ]
        failed = ledger.rows(
            "SELECT time, file, start, stop, source, kind, reason FROM attempts ORDER BY rowid DESC LIMIT ?",
            attempts,
        )
        return Status(
            path,
            (path / "histograms.zip").is_file() and (path / "manifest.json").is_file(),
            runs,
            files,
            dict(ledger.rows("SELECT status, count(*) FROM units GROUP BY status ORDER BY status")),
            fractions(files, request.max_events if request is not None else None),
            failed[::-1],
            retracted,
            ledger.path.stat().st_size,
        )


def _in_use(path: Path) -> bool:
    """Whether a run is going on."""
    lock = path / ledgers.LOCK
    if not lock.is_file():
        return False
    with lock.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
