"""What all processors have in common: they say which columns they need, and return histograms and a cutflow."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import hist
import pyarrow as pa
from coffea.processor import ProcessorABC
from hist.chunked import ChunkedHist

from trila.processors.cutflow import Cutflow
from trila.processors.errors import MissingColumn

__all__ = ["Columns", "Output", "Processor", "used_columns"]


class Output(TypedDict, total=False):
    """What `process` returns for a chunk.

    `histograms` (by name, without the processor's) and `cutflow` add up over chunks; `pairs`, a table, is written to
    disk by the runner and not kept.
    """

    histograms: Mapping[str, hist.Hist[Any] | ChunkedHist]
    cutflow: Cutflow
    pairs: pa.Table


class Columns(NamedTuple):
    """Columns of the canonical event that a processor touches.

    Attributes:
        required: of each group at least one column must be there.
        optional: used where present.
    """

    required: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()


class Processor(ProcessorABC):
    """Base of the processors here: holds its configuration and nothing else.

    Attributes:
        name: first part of the histograms' names.
    """

    name: str

    def columns(self, available: frozenset[str]) -> Columns:
        """Which columns the processor touches, given those that the input has."""
        raise NotImplementedError

    def process(self, events: Any) -> Output:
        """Histograms and cutflow of one chunk of canonical events."""
        raise NotImplementedError


def used_columns(processor: Any, available: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Columns that a processor may touch, and optional ones that the input lacks.

    A processor of the user's without `columns` may touch all.

    Raises:
        MissingColumn: of a required group there is none.
    """
    if not hasattr(processor, "columns"):
        return available, frozenset()
    needed = processor.columns(available)
    for group in needed.required:
        if not available.intersection(group):
            raise MissingColumn(" or ".join(group))
    wanted = {column for group in needed.required for column in group} | set(needed.optional)
    return available & wanted, frozenset(needed.optional) - available
