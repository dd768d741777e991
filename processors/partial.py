"""Results of a part of the data: made of one unit by `process_unit`, and adding up to the whole.

A unit is a range of entries of one file, and the smallest piece that is accounted for; it is read in one or more chunks.
"""

import hashlib
import os
import re
import uuid as uuids
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import awkward as ak
import hist
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from coffea.processor import accumulate
from hist.chunked import ChunkedHist
from numpy.typing import NDArray

from trila.corrections.jets import CorrectionError
from trila.corrections.lumi import LumiMask, blocks, certified
from trila.processors import readers
from trila.processors.columns import has, scalar
from trila.processors.cutflow import Cutflow
from trila.processors.errors import BadFile, InputError
from trila.processors.readers import Layout
from trila.processors.selection import is_data

__all__ = ["Job", "Measured", "Partial", "ProcessorError", "Unit", "process_unit"]

Blocks = NDArray[np.uint64]


class ProcessorError(RuntimeError):
    """A processor failed on readable data: a fault of the code, not of a file.

    The message says where, so that it can be repeated.

    Attributes:
        processor: its name; empty where reading failed.
        file: that was read.
        entry: the first one without which the processor does not fail; None where it was not looked for.
    """

    def __init__(self, message: str, processor: str, file: str, entry: int | None) -> None:
        super().__init__(message, processor, file, entry)
        self.processor, self.file, self.entry = processor, file, entry

    def __str__(self) -> str:
        return str(self.args[0])


class Unit(NamedTuple):
    """Entries of one file that are processed as one piece of work.

    Attributes:
        file: path or URL, as the user gave it.
        replicas: where it can be read, in the order of preference.
        tree, uuid: as found when it was planned.
        dataset: that it belongs to.
        layout: position in the job's list.
        processors: positions in the job's list.
        chunks: ranges of entries, one after the other, each of which is held in memory as a whole.
        pairs: name of the table of pairs, in the folder of pairs; None to drop them.
    """

    file: str
    replicas: tuple[str, ...]
    tree: str
    uuid: str
    dataset: str
    layout: int
    processors: tuple[int, ...]
    chunks: tuple[tuple[int, int], ...]
    pairs: str | None = None

    @property
    def start(self) -> int:
        return self.chunks[0][0]

    @property
    def stop(self) -> int:
        return self.chunks[-1][1]

    @property
    def entries(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Job:
    """What all units of a run share; sent to each worker once.

    Attributes:
        processors: with `process(events)`; histograms are stored under their `name`.
        layouts: of the files.
        metadata: dataset to what processors find in `events.metadata`.
        retracted: luminosity blocks of data whose events are taken as not there.
        pairs: folder for tables of pairs, or None to drop them.
        code: digest of the code that workers must have; not asked for, if empty.
    """

    processors: tuple[Any, ...]
    layouts: tuple[Layout, ...]
    metadata: dict[str, dict[str, Any]]
    retracted: LumiMask = field(default_factory=dict)
    pairs: Path | None = None
    code: str = ""


@dataclass
class Partial:
    """What one processor made of a part of one dataset.

    Attributes:
        histograms: by full name, such as `dijet.mass`.
        cutflow: if the processor gives one.
    """

    histograms: dict[str, Any] = field(default_factory=dict)
    cutflow: Cutflow | None = None

    def __iadd__(self, other: "Partial") -> Self:
        self.histograms = accumulate([other.histograms], self.histograms)
        if other.cutflow is not None:
            self.cutflow = other.cutflow if self.cutflow is None else self.cutflow + other.cutflow
        return self


class Measured(NamedTuple):
    """What came of a unit.

    Attributes:
        partials: by processor of the unit.
        branches: that were read.
        blocks: data: run << 32 | luminosity block of all events of the file in this range, ascending; None for simulation.
        pairs: SHA-256 of the table of pairs; None without one.
    """

    partials: tuple[Partial, ...]
    branches: tuple[str, ...]
    blocks: Blocks | None
    pairs: str | None


def process_unit(job: Job, unit: Unit, source: str) -> Measured:
    """Run a unit's processors over its events, chunk by chunk.

    Args:
        job: what units share.
        unit: what to process.
        source: which of the file's replicas to read.

    Raises:
        BadFile: the file is at fault.
        InputError: the configuration or the input as a whole is.
        ProcessorError: a processor failed on data that can be read.
    """
    partials = [Partial() for _ in unit.processors]
    branches: set[str] = set()
    seen: list[Blocks] = []
    tables: list[pa.Table] = []
    for start, stop in unit.chunks:
        log: list[Any] = []
        try:
            events, found = _events(job, unit, source, start, stop, log)
            if found is not None:
                seen.append(found)
        except (Exception, SystemExit) as error:
            raise _located(error, job, unit, source, start, stop, None) from error
        for place, position in enumerate(unit.processors):
            try:
                output = _checked(job.processors[position], events)
            except (Exception, SystemExit) as error:
                raise _located(error, job, unit, source, start, stop, position) from error
            partials[place] += _partial(job.processors[position], output)
            if unit.pairs is not None and "pairs" in output:
                tables.append(output["pairs"])
            del output  # its histograms would be there beside those of the next chunk
        branches |= {entry.branch for entry in log}
    digest = None
    if tables and unit.pairs is not None and job.pairs is not None:
        digest = _write_pairs(pa.concat_tables(tables), job.pairs / unit.pairs)
    return Measured(
        tuple(partials), tuple(sorted(branches)), np.unique(np.concatenate(seen)) if seen else None, digest
    )


def _events(
    job: Job, unit: Unit, source: str, start: int, stop: int, log: list[Any]
) -> tuple[Any, Blocks | None]:
    """Canonical events of a range, without those retracted; and the luminosity blocks of all of them, for data."""
    metadata = {"dataset": unit.dataset, "treename": unit.tree, **job.metadata[unit.dataset]}
    events = readers.read(source, unit.tree, unit.uuid, job.layouts[unit.layout], start, stop, metadata, log)
    if not (is_data(events) and has(events, "run", "luminosity_block")):
        return events, None
    run, block = scalar(events, "run"), scalar(events, "luminosity_block")
    if job.retracted:
        kept = ~certified(job.retracted, run, block)
        events = events if kept.all() else events[kept]
    return events, np.unique(blocks(run, block))


def _name(processor: Any) -> str:
    return str(getattr(processor, "name", type(processor).__name__))


def _partial(processor: Any, output: dict[str, Any]) -> Partial:
    name = _name(processor)
    histograms = {f"{name}.{key}": h for key, h in output.get("histograms", {}).items()}
    return Partial(histograms, output.get("cutflow"))


def _located(
    error: Exception | SystemExit,
    job: Job,
    unit: Unit,
    source: str,
    start: int,
    stop: int,
    position: int | None,
) -> Exception:
    """The error to raise for one that came while a range was read or processed: says whose fault it is, and where.

    Raises:
        BadFile: the range cannot be read.
        InputError, CorrectionError: the error, if it is one of these, as it says itself whose fault it is.
    """
    if isinstance(error, (InputError, CorrectionError)):
        raise error  # returned, it would become its own cause, and Dask follows causes to their end
    readers.readable(source, unit.tree, job.layouts[unit.layout], start, stop)
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    if position is None:
        return ProcessorError(
            f"reading failed on {source}, entries {start} to {stop}: {reason}", "", source, None
        )
    name = _name(job.processors[position])
    entry = (
        None if isinstance(error, MemoryError) else _first_failure(job, unit, source, start, stop, position)
    )
    if entry is None and _from_system(error):
        return BadFile(source, f"reading entries {start} to {stop} failed, and then did not: {reason}", True)
    where = "" if entry is None else f", first at entry {entry}{_identity(job, unit, source, entry)}"
    return ProcessorError(
        f"processor '{name}' failed on {source}, entries {start} to {stop}{where}: {reason}",
        name,
        source,
        entry,
    )


def _from_system(error: BaseException | None) -> bool:
    """Whether an error began as one of the network or the file system."""
    return error is not None and (
        isinstance(error, OSError) or _from_system(error.__cause__ or error.__context__)
    )


def _first_failure(job: Job, unit: Unit, source: str, start: int, stop: int, position: int) -> int | None:
    """The last entry of the shortest range from `start` on which a processor fails; None if it fails no more."""

    def fails(end: int) -> bool:
        try:
            job.processors[position].process(_events(job, unit, source, start, end, [])[0])
        except (Exception, SystemExit):  # noqa: BLE001  (whatever it is, it is being looked for)
            return True
        return False

    if not fails(stop):
        return None
    passes, failing = start, stop
    while failing - passes > 1:
        middle = (passes + failing) // 2
        passes, failing = (passes, middle) if fails(middle) else (middle, failing)
    return failing - 1


def _identity(job: Job, unit: Unit, source: str, entry: int) -> str:
    """Run, luminosity block and event of an entry, in brackets, where the file has them."""
    events, _ = _events(job, unit, source, entry, entry + 1, [])
    names = [name for name in ("run", "luminosity_block", "event") if has(events, name)]
    told = ", ".join(f"{n.replace('_', ' ')} {int(ak.to_numpy(events[n])[0])}" for n in names if len(events))
    return f" ({told})" if told else ""


def _checked(processor: Any, events: Any) -> dict[str, Any]:
    """What a processor returns, if it is of the form that can be stored."""
    name, output = _name(processor), processor.process(events)
    expected = "{'histograms': {name: hist.Hist or ChunkedHist}, 'cutflow': Cutflow}"
    if not isinstance(output, dict) or not output.keys() <= {"histograms", "cutflow", "pairs"}:
        keys = sorted(output) if isinstance(output, dict) else type(output).__name__
        raise InputError(f"processor '{name}' returned {keys}; expected {expected}")
    if not isinstance(output.get("histograms", {}), dict):
        found = type(output["histograms"]).__name__
        raise InputError(f"processor '{name}': histograms is a {found}; expected {expected}")
    for key, value in output.get("histograms", {}).items():
        if not isinstance(value, (hist.Hist, ChunkedHist)):
            raise InputError(
                f"processor '{name}': histogram '{key}' is a {type(value).__name__}; expected {expected}"
            )
    if "cutflow" in output and not isinstance(output["cutflow"], Cutflow):
        raise InputError(
            f"processor '{name}': cutflow is a {type(output['cutflow']).__name__}; expected {expected}"
        )
    return output


def _write_pairs(table: pa.Table, path: Path) -> str:
    """One Parquet file a unit, named after it, so that work that is done again replaces its own. Gives its SHA-256."""
    temporary = path.with_suffix(f".{os.getpid()}-{uuids.uuid4().hex[:8]}.tmp")
    if not re.fullmatch(r"[\w.-]+", path.name):  # it holds the file's uuid
        raise InputError(f"pairs cannot be written to a file called {path.name!r}; make the input file again")
    try:
        path.parent.mkdir(exist_ok=True)  # not its parents: when those are gone, the run is over
        # measured numbers have no repeats that a dictionary could use
        repeated = [n for n in ("run", "luminosity_block") if n in table.column_names]
        pa.parquet.write_table(
            table, temporary, compression="lz4", use_dictionary=repeated, write_statistics=False
        )
        with temporary.open("rb") as written:
            os.fsync(written.fileno())  # an empty table would look like one, after a power cut
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"pairs cannot be written to {path.parent}: {error.strerror or error}; free some space"
        ) from error
    return digest
