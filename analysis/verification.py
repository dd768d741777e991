"""Check a RESULT against itself and against its input: nothing lost, nothing counted twice, nothing changed since."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trila.analysis import results, steps
from trila.analysis.accounting import added_up_again
from trila.analysis.ledger import FileRow, Ledger
from trila.processors import readers
from trila.processors.errors import BadFile
from trila.processors.recipes import file_digest

__all__ = ["Check", "verify"]


class Check(NamedTuple):
    """One thing that was checked.

    Attributes:
        name: what.
        checked: how many pieces.
        faults: what is wrong; empty if nothing is.
    """

    name: str
    checked: int
    faults: tuple[str, ...]


def verify(result: str | Path, progress: Callable[[str, int], Callable[[int], None]]) -> list[Check]:
    """Check a RESULT.

    Products and tables of pairs against the digests in the manifest; the plan against its units, each of which must be
    accounted for once and without gaps; histograms and cutflows against the sum of all partial results; input files against
    what was read.

    Args:
        result: folder.
        progress: shows long work.

    Raises:
        InputError: no complete RESULT, or no ledger, or one that is damaged.
    """
    path = Path(result)
    content = results.read(path, min_fraction=0.0)
    with Ledger(path) as ledger:
        # not from the request: making its processors would run code that the RESULT names
        titles = tuple(
            name for (name,) in ledger.rows("SELECT DISTINCT processor FROM partials ORDER BY processor")
        )
        files = ledger.files()
        return [
            _digests("products", path, content.manifest["products"], progress),
            _digests("tables of pairs", path / "pairs", content.manifest["pairs"], progress),
            _units(files, titles, ledger),
            _sums(content, titles, ledger),
            _inputs(files, content.manifest["inputs"], progress),
        ]


def _digests(
    name: str, folder: Path, expected: dict[str, str], progress: Callable[[str, int], Callable[[int], None]]
) -> Check:
    faults = []
    advance = progress(f"checking {name}", len(expected))
    for file, sha in expected.items():
        advance(1)
        if Path(file).is_absolute() or ".." in Path(file).parts:
            faults.append(f"{file} lies outside of the result")
        elif not (folder / file).is_file():
            faults.append(f"{file} is missing")
        elif file_digest(folder / file) != sha:
            faults.append(f"{file} was changed after the run")
    return Check(name, len(expected), tuple(faults))


def _units(files: list[FileRow], titles: tuple[str, ...], ledger: Ledger) -> Check:
    """Units of a file that is done follow one another from its first to its last entry, for each processor."""
    faults = []
    spans: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    rows = ledger.rows("SELECT file, processors, start, stop, status FROM units ORDER BY start")
    for file, names, start, stop, status in rows:
        if status == "planned":
            faults.append(f"{files[file].file}, entries {start} to {stop}: planned, and not accounted for")
        if status in ("done", "empty"):
            for name in names.split(","):
                spans[file, name].append((start, stop))
    for number, row in enumerate(files):
        for name in titles if row.status in ("done", "empty") else ():
            edges = [row.first, *(edge for span in spans[number, name] for edge in span), row.last]
            if not spans[number, name] or any(a != b for a, b in zip(edges[::2], edges[1::2], strict=True)):
                faults.append(
                    f"{row.file}: entries of '{name}' are missing or counted twice: {spans[number, name][:5]}"
                )
    return Check("units of the ledger", len(rows), tuple(faults))


def _sums(content: results.Result, titles: tuple[str, ...], ledger: Ledger) -> Check:
    """Histograms and cutflows are the sums of what is stored."""
    faults = []
    partials = added_up_again(ledger, titles)
    scales = {name: dataset["scale"] for name, dataset in content.manifest["datasets"].items()}
    again = steps.total(partials, {name: scales[name] for name in partials})
    for name in sorted(again.keys() | content.histograms.keys()):
        one, other = again.get(name), content.histograms.get(name)
        if one is None or other is None or not _same(one, other):
            faults.append(f"histogram {name} is not the sum of the partial results")
    for dataset, parts in partials.items():
        for title, part in zip(titles, parts, strict=True):
            rows = None if part.cutflow is None else part.cutflow.rows()
            if rows != content.cutflow.get(dataset, {}).get(title):
                faults.append(f"cutflow of {title}, dataset {dataset}, is not the sum of the partial results")
    return Check("sums of partial results", len(again), tuple(faults))


def _same(one: Any, other: Any) -> bool:
    return one.axes == other.axes and np.array_equal(one.view(flow=True), other.view(flow=True))


def _inputs(
    files: list[FileRow], inputs: list[dict[str, Any]], progress: Callable[[str, int], Callable[[int], None]]
) -> Check:
    faults = []
    advance = progress("checking input", len(files))
    known = {row.file: row for row in files}
    for item in inputs:
        row = known.get(item["file"])
        if row is None or row.status != item["status"]:
            faults.append(f"{item['file']} is {item['status']} in the manifest, not in the ledger")
    for row in files:
        advance(1)
        if row.info is not None and row.status in ("done", "empty"):
            faults += list(_input_faults(row))
    return Check("input files", len(files), tuple(faults))


def _input_faults(row: FileRow) -> Iterator[str]:
    assert row.info is not None
    if not readers.is_remote(row.file) and not os.path.exists(row.file):  # noqa: PTH110  (any string may stand there)
        yield f"{row.file} is gone; what it gave is kept"
        return
    try:
        found = readers.inspect(row.file, row.info.layout.table)
    except BadFile as error:
        yield f"{error}"
        return
    if (found.uuid, found.entries) != (row.info.uuid, row.info.entries):
        yield (
            f"{row.file} is another file now: {found.entries} entries, uuid {found.uuid}; processed were "
            f"{row.info.entries} entries, uuid {row.info.uuid}"
        )
