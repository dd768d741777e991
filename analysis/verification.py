"""Check a RESULT against itself and against its input: nothing lost, nothing counted twice, nothing changed since.

What is there is made again from the partial results in the ledger, without the processors: nothing that RESULT names is
imported or run.
"""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from trila.analysis import requests, results
from trila.analysis.accounting import added_up_again, fractions
from trila.analysis.dataset_sum import DatasetSum
from trila.analysis.ledger import FileRow, Leaf, Ledger
from trila.analysis.planning import time_of_change
from trila.analysis.spectra_histograms import uhi_histogram
from trila.corrections.lumi import LumiMask, inside
from trila.corrections.luminosity import ranges
from trila.processors import readers
from trila.processors.errors import BadFile, InputError
from trila.processors.formats import validation_message
from trila.processors.partial import Partial
from trila.processors.recipes import file_digest

__all__ = ["Check", "verify"]

Progress = Callable[[str, int], Callable[[int], None]]


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


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Dataset(_Said):
    is_data: bool
    cross_section: float | None
    scale: float | None
    events: int
    planned: int
    fraction: float


class _Input(_Said):
    dataset: str
    file: str
    uuid: str | None
    entries: int | None
    processed: int
    status: str


class _Manifest(_Said):
    """What the manifest says of the things that are checked."""

    products: dict[str, str]
    pairs: dict[str, str]
    datasets: dict[str, _Dataset]
    inputs: list[_Input]


class _Stored(NamedTuple):
    """What the ledger says, without the partial results themselves.

    Attributes:
        files: of the plan.
        leaves: of files that are done.
        titles: of the processors.
        retracted: luminosity blocks that were taken out.
        max_events: of each dataset.
    """

    files: list[FileRow]
    leaves: list[Leaf]
    titles: tuple[str, ...]
    retracted: LumiMask
    max_events: int | None


def verify(result: str | Path, progress: Progress) -> list[Check]:
    """Check a RESULT.

    Products and tables of pairs against the digests in the manifest; the plan against its units, each of which must be
    accounted for once and without gaps; histograms, cutflows and luminosity blocks against the sum of all partial results;
    what the manifest says against the ledger; input files against what was read.

    Args:
        result: folder.
        progress: shows long work.

    Raises:
        InputError: no complete RESULT, or no ledger, or a manifest or a ledger that cannot be read.
    """
    path = Path(result)
    try:
        said = _Manifest.model_validate(results.read_manifest(path))
    except ValidationError as error:
        raise InputError(
            f"the manifest of {path} is damaged: {validation_message(error)}; run it again"
        ) from error
    with Ledger(path) as ledger:
        stored = _stored(ledger)
        partials = _partials(stored, ledger, progress)
        checks = [
            _digests("products", path, said.products, progress),
            _digests("tables of pairs", path / "pairs", said.pairs, progress),
            _units(stored, ledger),
            partials,
            _sums(path, said, stored, ledger) if not partials.faults else Check("sums", 0, ()),
            _manifest(said, stored),
        ]
        last = ledger.rows("SELECT begin, outcome FROM runs ORDER BY id DESC LIMIT 1")
    if last and last[0][1] != "done" and any(check.faults for check in checks[2:]):
        begin, outcome = last[0]
        reason = (
            f"the run begun {begin} has not come to its end ({outcome or 'interrupted, or still going on'}): products are of an "
            "earlier one; give the same command again"
        )
        checks.insert(0, Check("last run", 1, (reason,)))
    return [*checks, _inputs(stored.files, progress)]


def _stored(ledger: Ledger) -> _Stored:
    files = ledger.files()
    done = {row.identity for row in files if row.status in ("done", "empty")}
    leaves = ledger.leaves()
    request = requests.earlier(ledger)
    return _Stored(
        files,
        [leaf for leaf in leaves if leaf.input in done],
        # not from the request: making its processors would run code that the RESULT names
        tuple(sorted({leaf.processor for leaf in leaves})),
        request.retracted_blocks if request is not None else {},
        request.max_events if request is not None else None,
    )


def _digests(name: str, folder: Path, expected: dict[str, str], progress: Progress) -> Check:
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


def _units(stored: _Stored, ledger: Ledger) -> Check:
    """Units of a file that is done, and their results, follow one another from its first entry to its last, for each processor."""
    faults = []
    files = stored.files
    spans: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    rows = ledger.rows("SELECT file, processors, start, stop, status FROM units ORDER BY start, stop")
    for file, names, start, stop, status in rows:
        if not 0 <= file < len(files):
            faults.append(f"entries {start} to {stop} of a file that is not in the ledger: {status}")
        elif status == "planned":
            faults.append(f"{files[file].file}, entries {start} to {stop}: planned, and not accounted for")
        elif status in ("done", "empty"):
            for name in names.split(","):
                spans[file, name].append((start, stop))
    made: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for leaf in stored.leaves:
        made[leaf.input, leaf.processor].append((leaf.start, leaf.stop))
    for number, row in enumerate(files):
        for name in stored.titles if row.status in ("done", "empty") else ():
            found = spans[number, name]
            edges = [row.first, *(edge for span in found for edge in span), row.last]
            if not found or any(a != b for a, b in zip(edges[::2], edges[1::2], strict=True)):
                faults.append(f"{row.file}: entries of '{name}' are missing or counted twice: {found[:5]}")
            elif made[row.identity, name] != found:
                faults.append(
                    f"{row.file}: results of '{name}' are of entries {made[row.identity, name][:5]}, its units of {found[:5]}"
                )
    return Check("units of the ledger", len(rows), tuple(faults))


def _partials(stored: _Stored, ledger: Ledger, progress: Progress) -> Check:
    """Partial results, and the sums that updates go on from, are what was stored."""
    faults = []
    sums = [key for (key,) in ledger.rows("SELECT key FROM sums ORDER BY key")]
    advance = progress("checking partial results", len(stored.leaves) + len(sums))
    readings = [(ledger.data, leaf) for leaf in stored.leaves] + [(ledger.sum, key) for key in sums]
    for read, thing in readings:
        advance(1)
        try:
            read(thing)  # type: ignore[arg-type]
        except InputError as error:
            faults.append(str(error))
    return Check("partial results", len(stored.leaves) + len(sums), tuple(faults))


def _sums(path: Path, said: _Manifest, stored: _Stored, ledger: Ledger) -> Check:
    """Histograms, cutflows and luminosity blocks are the sums of what is stored."""
    try:
        content = results.read(path, min_fraction=0.0)
        again = DatasetSum()
        faults: list[str] = []
        for name, parts in added_up_again(ledger, stored.titles):
            faults += _scale_faults(name, said.datasets.get(name), parts)
            scale = said.datasets[name].scale if name in said.datasets else None
            again.add(name, 1.0 if scale is None else scale, dict(zip(stored.titles, parts, strict=True)))
    except InputError as error:
        return Check("sums", 0, (str(error),))
    for name in sorted(again.histograms.keys() | content.histograms.keys()):
        one, other = again.histograms.get(name), content.histograms.get(name)
        if one is None or other is None or not _same(uhi_histogram(one._to_uhi_(), name), other):
            faults.append(f"histogram {name} is not the sum of the partial results")
    for dataset in sorted(again.cutflow.keys() | content.cutflow.keys()):
        if again.cutflow.get(dataset) != content.cutflow.get(dataset):
            faults.append(f"the cutflow of dataset {dataset} is not the sum of the partial results")
    blocks = _blocks(said, stored)
    listed = path / "luminosity_blocks.json"
    if (None if blocks is None else ranges(blocks)) != (_listed(listed) if listed.is_file() else None):
        faults.append(f"{listed.name} does not hold the luminosity blocks of the partial results")
    return Check("sums", len(again.histograms), tuple(faults))


def _scale_faults(name: str, dataset: _Dataset | None, parts: Sequence[Partial]) -> Iterator[str]:
    """Whether the scale of a dataset is not its cross section over its sum of generator weights."""
    if dataset is None:
        yield f"dataset {name} is not in the manifest"
    elif dataset.cross_section is None:
        if dataset.scale != 1.0:
            yield f"dataset {name} has a scale of {dataset.scale} and no cross section; expected 1"
    else:
        sums = [float(part.cutflow.sumw[0]) for part in parts if part.cutflow is not None]
        if not any(dataset.scale == dataset.cross_section / one for one in sums if one):
            yield (
                f"dataset {name} has a scale of {dataset.scale}; its cross section is {dataset.cross_section} pb, and the "
                f"generator weights sum up to {', '.join(f'{one:.6g}' for one in sums) or 'nothing'}"
            )


def _same(one: Any, other: Any) -> bool:
    """Bit for bit, NaN too; both as they are read, which axes that grow no longer do."""
    bits = [histogram.view(flow=True).tobytes() for histogram in (one, other)]
    return bool(one.axes == other.axes) and bits[0] == bits[1]


def _blocks(said: _Manifest, stored: _Stored) -> NDArray[np.uint64] | None:
    """Luminosity blocks of all data; None without any."""
    data = {
        row.identity
        for row in stored.files
        if row.dataset in said.datasets and said.datasets[row.dataset].is_data
    }
    parts = {leaf.blocks for leaf in stored.leaves if leaf.input in data and leaf.blocks is not None}
    if not parts:
        return None
    blocks = np.unique(np.concatenate([np.frombuffer(part, np.uint64) for part in parts]))
    out = inside(stored.retracted, blocks)
    return blocks[~out]


def _listed(path: Path) -> LumiMask | None:
    """Ranges of blocks in a file, as they stand; None if it has none."""
    try:
        content = results.read_json(path)
        return {run: tuple((first, last) for first, last in pairs) for run, pairs in content.items()}
    except (InputError, TypeError, ValueError, AttributeError):
        return None


def _manifest(said: _Manifest, stored: _Stored) -> Check:
    """The manifest says what the ledger says."""
    faults = []
    known = {(row.dataset, row.file): row for row in stored.files}
    listed = {(item.dataset, item.file): item for item in said.inputs}
    for key in known.keys() | listed.keys():
        row, item = known.get(key), listed.get(key)
        if row is None or item is None:
            faults.append(f"{key[1]} is in the {'ledger' if item is None else 'manifest'} alone")
            continue
        info = row.info
        stands = (
            row.status,
            info.uuid if info is not None else None,
            info.entries if info is not None else None,
            row.last - row.first if row.status == "done" else 0,
        )
        if (item.status, item.uuid, item.entries, item.processed) != stands:
            faults.append(
                f"{row.file}: {item.processed} of {item.entries} entries {item.status} in the manifest, {stands[3]} of "
                f"{stands[2]} {stands[0]} in the ledger"
            )
    if len(listed) != len(said.inputs):
        faults.append("files are more than once in the manifest")
    for name, share in fractions(stored.files, stored.max_events).items():
        dataset = said.datasets.get(name)
        if dataset is None or (dataset.events, dataset.planned) != (share.done, share.planned):
            faults.append(
                f"dataset {name} has {share.done} of {share.planned} planned events in the ledger, not in the manifest"
            )
        elif not math.isclose(dataset.fraction, share.fraction):
            faults.append(
                f"the fraction of dataset {name} is {dataset.fraction} in the manifest, expected {share.fraction}"
            )
    if {leaf.pairs[0]: leaf.pairs[1] for leaf in stored.leaves if leaf.pairs} != said.pairs:
        faults.append("the tables of pairs in the manifest are not those of the partial results")
    return Check("manifest and ledger", len(known) + len(said.datasets), tuple(sorted(faults)))


def _inputs(files: list[FileRow], progress: Progress) -> Check:
    faults: list[str] = []
    read = [row for row in files if row.info is not None and row.status in ("done", "empty")]
    advance = progress("checking input", len(read))
    for row in read:
        advance(1)
        faults += _input_faults(row)
    return Check("input files", len(read), tuple(faults))


def _input_faults(row: FileRow) -> Iterable[str]:
    assert row.info is not None
    there = [
        source
        for source in row.replicas
        if readers.is_remote(source) or os.path.exists(source)  # noqa: PTH110  (any string may stand there)
    ]
    if not there:
        return (f"{row.file} is gone; what it gave is kept",)
    complaints = []
    for source in there:
        try:
            found = readers.inspect(source, row.info.layout.table)
        except BadFile as error:
            complaints.append(str(error))
            continue
        if (found.uuid, found.entries, found.size) != (row.info.uuid, row.info.entries, row.info.size):
            now = f"{found.entries} entries, {found.size} bytes, uuid {found.uuid}"
            was = f"{row.info.entries} entries, {row.info.size} bytes, uuid {row.info.uuid}"
            return (f"{source} is another file now: {now}; processed were {was}",)
        if source == row.file and row.modified not in (0, time_of_change(source)):
            return (f"{source} was changed or touched after it was read: its time of change is another",)
        return ()
    return complaints[:1]
