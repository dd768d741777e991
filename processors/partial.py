"""Results of a part of the data: made of one chunk by `process_chunk`, and adding up to the whole."""

import os
import uuid as uuids
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import hist
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from coffea.processor import accumulate

from trila.corrections.jets import CorrectionError
from trila.corrections.lumi import blocks
from trila.processors import readers
from trila.processors.columns import has, scalar
from trila.processors.cutflow import Cutflow
from trila.processors.errors import InputError
from trila.processors.readers import Layout
from trila.processors.selection import is_data

__all__ = ["Chunk", "Job", "Partial", "Partials", "ProcessorError", "merge", "process_chunk"]


class ProcessorError(RuntimeError):
    """A processor failed on readable data: a fault of the code, not of a file.

    The message says where, so that it can be repeated.
    """


class Chunk(NamedTuple):
    """A range of entries of one file; `layout` is a position in the job's list."""

    file: str
    tree: str
    uuid: str
    start: int
    stop: int
    dataset: str
    layout: int

    @property
    def pairs_file(self) -> Path:
        """Where its table of pairs is, in the folder of pairs."""
        return Path(self.dataset) / f"{self.uuid}-{self.start:012d}.parquet"


@dataclass(frozen=True)
class Job:
    """What all chunks of a run share; sent to each worker once.

    Attributes:
        processors: with `process(events)`; histograms are stored under their `name`.
        layouts: of the files.
        metadata: dataset to what processors find in `events.metadata`.
        pairs: folder for tables of pairs, or None to drop them.
    """

    processors: tuple[Any, ...]
    layouts: tuple[Layout, ...]
    metadata: dict[str, dict[str, Any]]
    pairs: Path | None = None


@dataclass
class Partial:
    """The result of some chunks of one dataset.

    Attributes:
        events: entries read.
        histograms: by full name, such as `dijet.mass`.
        cutflows: by processor.
        branches: branches read.
        blocks: data: run << 32 | luminosity block of all events read.
    """

    events: int = 0
    histograms: dict[str, hist.Hist[Any]] = field(default_factory=dict)
    cutflows: dict[str, Cutflow] = field(default_factory=dict)
    branches: set[str] = field(default_factory=set)
    blocks: set[int] = field(default_factory=set)

    def __iadd__(self, other: "Partial") -> Self:
        self.events += other.events
        self.histograms = accumulate([other.histograms], self.histograms)
        self.cutflows = accumulate([other.cutflows], self.cutflows)
        self.branches |= other.branches
        self.blocks |= other.blocks
        return self

    def __add__(self, other: "Partial") -> "Partial":
        total = Partial()
        total += self
        total += other
        return total


Partials = dict[str, Partial]


def merge(parts: list[Partials]) -> Partials:
    """The sum of partial results, dataset by dataset. The first one is changed, to save memory."""
    total = parts[0]
    for part in parts[1:]:
        for dataset, partial in part.items():
            if dataset in total:
                total[dataset] += partial
            else:
                total[dataset] = partial
    return total


def process_chunk(job: Job, chunk: Chunk) -> Partials:
    """Run all processors over a chunk.

    Raises:
        BadFile: the file is at fault.
        InputError: the configuration or the input as a whole is.
        ProcessorError: a processor failed on data that can be read.
    """
    layout = job.layouts[chunk.layout]
    log: list[Any] = []
    result = Partial(events=chunk.stop - chunk.start)
    name = ""
    try:
        metadata = {"dataset": chunk.dataset, "treename": chunk.tree, **job.metadata[chunk.dataset]}
        events = readers.read(
            chunk.file, chunk.tree, chunk.uuid, layout, chunk.start, chunk.stop, metadata, log
        )
        for processor in job.processors:
            name = getattr(processor, "name", type(processor).__name__)
            output = _checked(name, processor.process(events))
            result.histograms.update({f"{name}.{key}": h for key, h in output.get("histograms", {}).items()})
            if "cutflow" in output:
                result.cutflows[name] = output["cutflow"]
            if job.pairs is not None and "pairs" in output:
                _write_pairs(output["pairs"], job.pairs / chunk.pairs_file)
        name = ""
        if is_data(events) and has(events, "run", "luminosity_block"):
            seen = np.unique(blocks(scalar(events, "run"), scalar(events, "luminosity_block")))
            result.blocks = set(seen.tolist())
    except (InputError, CorrectionError):
        raise
    except Exception as error:
        readers.readable(chunk.file, chunk.tree, layout, chunk.start, chunk.stop)
        who = f"processor '{name}'" if name else "reading"
        raise ProcessorError(
            f"{who} failed on {chunk.file}, entries {chunk.start} to {chunk.stop}: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:500]}"
        ) from error
    result.branches = {entry.branch for entry in log}
    return {chunk.dataset: result}


def _checked(name: str, output: Any) -> dict[str, Any]:
    """What a processor returned, if it is of the form that can be stored."""
    expected = "{'histograms': {name: hist.Hist}, 'cutflow': Cutflow}"
    if not isinstance(output, dict) or not output.keys() <= {"histograms", "cutflow", "pairs"}:
        keys = sorted(output) if isinstance(output, dict) else type(output).__name__
        raise InputError(f"processor '{name}' returned {keys}; expected {expected}")
    if not isinstance(output.get("histograms", {}), dict):
        found = type(output["histograms"]).__name__
        raise InputError(f"processor '{name}': histograms is a {found}; expected {expected}")
    for key, value in output.get("histograms", {}).items():
        if not isinstance(value, hist.Hist):
            raise InputError(
                f"processor '{name}': histogram '{key}' is a {type(value).__name__}; expected {expected}"
            )
    if "cutflow" in output and not isinstance(output["cutflow"], Cutflow):
        raise InputError(
            f"processor '{name}': cutflow is a {type(output['cutflow']).__name__}; expected {expected}"
        )
    return output


def _write_pairs(table: pa.Table, path: Path) -> None:
    """One Parquet file a chunk, named after it, so that a task that is run again replaces its own."""
    temporary = path.with_suffix(f".{os.getpid()}-{uuids.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)  # not its parents: when those are gone, the run is over
        # measured numbers have no repeats that a dictionary could use
        repeated = [n for n in ("run", "luminosity_block") if n in table.column_names]
        pa.parquet.write_table(
            table, temporary, compression="lz4", use_dictionary=repeated, write_statistics=False
        )
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"pairs cannot be written to {path.parent}: {error.strerror or error}; free some space"
        ) from error
