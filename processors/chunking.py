"""How many events a chunk may hold, so that a worker stays within its memory.

A worker needs memory for its code and histograms, whatever the chunk, and for each event what its columns take when they
are read, several times over: processors place objects in bins, match them and weigh them, column by column. What the
columns take stands in the file; the other two numbers were measured (`benchmarks/scaling.py` shows what comes of them).
"""

from collections.abc import Iterable

from trila.processors.columns import TRIGGERS
from trila.processors.errors import InputError
from trila.processors.readers import FileInfo

__all__ = ["MEMORY", "MOST_EVENTS", "bytes_per_event", "chunk_size"]

#: Bytes that a worker may take: three quarters of the 2 GB that grid sites and batch systems commonly give a core, and
#: below the four fifths of its limit at which a Dask worker pauses.
MEMORY = 1.5e9

#: Events of a chunk at most, whatever their size: enough that opening a file with a thousand branches, which costs as
#: much as reading 100 000 events, does not matter, and few enough that all workers find work.
MOST_EVENTS = 500_000

#: Fewer events a chunk would spend the time on opening files.
_LEAST_EVENTS = 1_000

#: Bytes of a worker without events: 0.28 to 0.57 GB, and up to 0.1 GB for being one of Dask.
_BASE = 0.6e9

#: Memory for each byte of the columns read: 1.8 to 3.3, the most for `response` alone in events with many jets.
_FACTOR = 3.5


def bytes_per_event(info: FileInfo, columns: Iterable[str]) -> float:
    """Bytes that canonical columns of an event take on average, decompressed, each branch counted once.

    Args:
        info: of the file.
        columns: such as `hlt_jets.pt`, `rho` or `triggers.HLT_x`.
    """
    sizes = info.branch_sizes
    branches: set[str] = set()
    scalars = 0
    for name in columns:
        collection, _, field = name.partition(".")
        if collection == TRIGGERS:
            scalars += 1
        elif not field:  # one number an event is kept, also of a list such as that of the vertices
            scalars += 8
        else:
            branches.update(info.layout.columns[name])
    return scalars + sum(sizes.get(branch, 0) for branch in branches) / max(info.entries, 1)


def chunk_size(info: FileInfo, columns: Iterable[str], memory: float = MEMORY) -> int:
    """Number of events of a file to process at the same time, so that a worker takes less than `memory`.

    Args:
        info: of the file.
        columns: canonical columns that are read of it.
        memory: bytes.

    Raises:
        InputError: the memory is hardly enough for a worker without any events.
    """
    per_event = _FACTOR * bytes_per_event(info, columns)
    events = int(max(memory - _BASE, 0) / max(per_event, 1.0))
    if events < min(_LEAST_EVENTS, info.entries):
        least = (_BASE + _LEAST_EVENTS * per_event) / 1e9
        raise InputError(
            f"{info.file}: {memory / 1e9:.2f} GB of memory are too few for a worker, expected at least {least:.2f} GB; "
            "give workers more, or choose the chunk size yourself"
        )
    return min(events, MOST_EVENTS)
