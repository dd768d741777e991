"""Carry out work over files: hand it to a pool, try again what can be tried again, tell faults of files from faults of code.

coffea's `Runner` does not fit: it forgets which files it skipped, keeps the chunks of a file that fails half-way, and
cannot tell a damaged file from a fault of the code. So the loop is here; events, schemas and accumulation are coffea's.

| what happened | what is done |
| --- | --- |
| a file cannot be read | its next replica; then, if it may pass (network, file system), all of them again, after a pause that doubles |
| a worker was lost | what it may have been doing again, one at a time; one that costs `LOSSES` workers ends the run |
| anything else | stop |
"""

import heapq
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from trila.processors import packing
from trila.processors.errors import BadFile, InputError
from trila.processors.fingerprints import code_digest
from trila.processors.partial import Job, Unit, process_unit
from trila.processors.pools import Pool, WorkerLost
from trila.processors.readers import FileInfo

__all__ = ["Attempt", "Packed", "carry_out", "cut", "measure"]

#: Times that all replicas are tried, and seconds before the second time.
ROUNDS, PAUSE = 6, 2.0
#: Times that a task may cost a worker its life.
LOSSES = 3


class Attempt(NamedTuple):
    """One try at a piece of work.

    Attributes:
        item: the piece of work.
        sources: where its file can be read.
        number: of the try, from 0; it reads `sources[number % len(sources)]`.
        losses: workers that it cost so far.
        alone: whether nothing else is done at the same time.
    """

    item: Any
    sources: tuple[str, ...]
    number: int = 0
    losses: int = 0
    alone: bool = False

    @property
    def source(self) -> str:
        return self.sources[self.number % len(self.sources)]


class _Later(NamedTuple):
    """An attempt to be made when the time has come; `order` is of equal times."""

    begin: float
    order: int
    attempt: Attempt


#: Told of each try that failed: the piece of work, where it was read, "input" or "worker", and the reason.
Tried = Callable[[Any, str, str, str], None]


def carry_out(
    pool: Pool, work: Callable[[Any, Attempt], Any], context: Any, items: Iterable[Any], *,
    sources: Callable[[Any], tuple[str, ...]], wanted: Callable[[Any], bool] = lambda _item: True, tried: Tried,
) -> Iterator[tuple[Any, Any]]:  # fmt: skip
    """Do work on many items, a window of them at a time.

    Args:
        pool: where.
        work: called with the context and an attempt, somewhere.
        context: what all of them share.
        items: pieces of work.
        sources: of an item: paths or URLs of its file.
        wanted: asked before an item is begun or begun again.
        tried: told of each try that failed.

    Yields:
        Each wanted item with what came of it, or with the `BadFile` why nothing did.

    Raises:
        InputError: workers died again and again, or the cluster is gone.
        Exception: whatever else the work raised.
    """
    shared = pool.share(context)
    waiting = iter(items)
    later: list[_Later] = []
    again, under_way, count = list[Attempt](), 0, 0
    suspects: list[Attempt] = []  # of having cost a worker its life: they are done one at a time

    def following() -> Attempt | None:
        if later and later[0].begin <= time.monotonic():
            return heapq.heappop(later).attempt
        if again:
            return again.pop(0)
        item = next(waiting, None)
        return None if item is None else Attempt(item, sources(item))

    lonely = False
    while True:
        if suspects and not under_way:
            suspect = suspects.pop(0)
            if not wanted(suspect.item):
                continue
            pool.submit(work, shared, suspect)
            under_way, lonely = 1, True
        while not suspects and not lonely and under_way < pool.slots and (attempt := following()) is not None:
            if wanted(attempt.item):
                pool.submit(work, shared, attempt)
                under_way += 1
        # while all slots are taken, or one is alone, what is due has to wait for something to end
        free = under_way < pool.slots and not lonely and not suspects
        pause = max(0.0, later[0].begin - time.monotonic()) if later and free else None
        if not under_way:
            if pause is None:
                return
            time.sleep(pause)
            continue
        for attempt, value, error in pool.finished(pause):
            under_way -= 1
            lonely = lonely and not attempt.alone
            if error is None:
                yield attempt.item, value
            elif isinstance(error, BadFile):
                tried(attempt.item, attempt.source, "input", error.reason)
                rounds, replica = divmod(attempt.number + 1, len(attempt.sources))
                if replica:
                    again.append(attempt._replace(number=attempt.number + 1, alone=False))
                elif error.transient and rounds < ROUNDS:
                    count += 1
                    begin = time.monotonic() + PAUSE * 2 ** (rounds - 1)
                    heapq.heappush(
                        later, _Later(begin, count, attempt._replace(number=attempt.number + 1, alone=False))
                    )
                else:
                    yield attempt.item, error
            elif isinstance(error, WorkerLost):
                tried(attempt.item, attempt.source, "worker", str(error.args[0]))
                # a process that dies takes the others with it: only a task that was alone is to blame
                losses = attempt.losses + (error.times if attempt.alone or error.times > 1 else 0)
                if losses >= LOSSES:
                    raise InputError(
                        f"{losses} workers died on {attempt.source}{_range(attempt.item)}, most likely for want of memory; "
                        "use a smaller --chunk-size, fewer workers, or give them more memory"
                    ) from error
                suspects.append(attempt._replace(losses=losses, alone=True))
            else:
                raise error


def _range(item: Any) -> str:
    return f", entries {item.start} to {item.stop}" if isinstance(item, Unit) else ""


class Packed(NamedTuple):
    """What came of a unit, as it travels and is stored; the fields of `Measured`, with partial results as bytes."""

    partials: tuple[bytes, ...]
    branches: tuple[str, ...]
    blocks: bytes | None
    pairs: str | None
    seconds: float


def measure(job: Job, attempt: Attempt) -> Packed:
    """Process a unit, and pack what comes of it."""
    if job.code and job.code != code_digest():  # a worker that joined late was not asked
        raise InputError(
            f"{socket.gethostname()} has other code of trila than this machine; install the same code there"
        )
    begin = time.monotonic()
    found = process_unit(job, attempt.item, attempt.source)
    return Packed(
        tuple(packing.pack(partial) for partial in found.partials),
        found.branches,
        None if found.blocks is None else found.blocks.tobytes(),
        found.pairs,
        time.monotonic() - begin,
    )


def cut(info: FileInfo, entries: int, chunk_size: int, start: int = 0) -> list[tuple[int, int]]:
    """Ranges of at most `chunk_size` entries, cut where the file's clusters end, if they are not larger than that.

    >>> cut(FileInfo("f", "t", "u", 0, 10, (0, 4, 8, 10), None, ()), 10, 5)
    [(0, 4), (4, 8), (8, 10)]
    """
    if chunk_size < 1:
        raise InputError(f"chunk size is {chunk_size}; expected at least 1")
    ranges = []
    edges = [edge for edge in info.clusters if start < edge < entries] + [entries]
    while start < entries:
        limit = start + chunk_size
        stop = max((edge for edge in edges if start < edge <= limit), default=min(limit, entries))
        ranges.append((start, stop))
        start = stop
    return ranges
