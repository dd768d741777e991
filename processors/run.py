"""Run processors over files: plan chunks, process them here, in local processes or on a Dask cluster, and add up.

coffea's `Runner` does not fit: it forgets which files it skipped, keeps the chunks of a file that fails half-way, and
cannot tell a damaged file from a fault of the code. So the loop is here; events, schemas and accumulation are coffea's.

A file counts as a whole or not at all. Its chunks are added up first, and only complete files enter the result.
"""

import multiprocessing
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import cloudpickle
import lz4.frame

from trila.processors import memory
from trila.processors.errors import BadFile, InputError
from trila.processors.partial import Chunk, Job, Partials, merge, process_chunk
from trila.processors.readers import FileInfo

__all__ = ["CHUNK_SIZE", "Outcome", "cut", "run_dask", "run_local", "run_processes"]

#: Events a chunk: large, as opening a file with a thousand branches costs as much as reading 100 000 events.
CHUNK_SIZE = 500_000

Progress = Callable[[int], None]


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        partials: dataset to the sum over its complete files.
        bad: file to the reason why it was left out.
    """

    partials: Partials
    bad: dict[str, str]


def cut(info: FileInfo, entries: int, chunk_size: int = CHUNK_SIZE) -> list[tuple[int, int]]:
    """Ranges of at most `chunk_size` entries, cut where the file's clusters end, if they are not larger than that.

    >>> cut(FileInfo("f", "t", "u", 0, 10, (0, 4, 8, 10), None, ()), 10, 5)
    [(0, 4), (4, 8), (8, 10)]
    """
    if chunk_size < 1:
        raise InputError(f"chunk size is {chunk_size}; expected at least 1")
    ranges = []
    start = 0
    edges = [edge for edge in info.clusters if 0 < edge < entries] + [entries]
    while start < entries:
        limit = start + chunk_size
        stop = max((edge for edge in edges if start < edge <= limit), default=min(limit, entries))
        ranges.append((start, stop))
        start = stop
    return ranges


class _Assembly:
    """Adds up chunks to files and files to the result; keeps a file apart until its last chunk is in."""

    def __init__(self, chunks: list[Chunk], skip_bad_files: bool, progress: Progress) -> None:
        self.open: dict[str, Partials] = {}
        self.left: dict[str, int] = defaultdict(int)
        for chunk in chunks:
            self.left[chunk.file] += 1
        self.skip_bad_files = skip_bad_files
        self.progress = progress
        self.total: Partials = {}
        self.bad: dict[str, str] = {}

    def wanted(self, chunk: Chunk) -> bool:
        return chunk.file not in self.bad

    def add(self, chunk: Chunk, result: Partials) -> None:
        self.progress(chunk.stop - chunk.start)
        if chunk.file in self.bad:
            return
        part = merge([self.open.pop(chunk.file), result]) if chunk.file in self.open else result
        self.left[chunk.file] -= 1
        if self.left[chunk.file]:
            self.open[chunk.file] = part
        else:
            self.total = merge([self.total, part])

    def fail(self, error: BadFile) -> None:
        if not self.skip_bad_files:
            raise error
        self.bad.setdefault(error.file, error.reason)
        self.open.pop(error.file, None)


def run_local(job: Job, chunks: list[Chunk], *, skip_bad_files: bool, progress: Progress) -> Outcome:
    """Process chunks one after the other, in this process.

    Raises:
        BadFile: a file cannot be read, and `skip_bad_files` is not set.
    """
    memory.keep()
    assembly = _Assembly(chunks, skip_bad_files, progress)
    for chunk in chunks:
        if assembly.wanted(chunk):
            try:
                assembly.add(chunk, process_chunk(job, chunk))
            except BadFile as error:
                assembly.fail(error)
    return Outcome(assembly.total, assembly.bad)


_worker_job: list[Job] = []  # set once in each worker process


def _start_worker(job: bytes) -> None:
    memory.keep()
    _worker_job[:] = [cloudpickle.loads(job)]


def _process_in_worker(chunk: Chunk) -> bytes:
    return _pack(process_chunk(_worker_job[0], chunk))


def _pack(partials: Partials) -> bytes:
    """Mostly empty histograms shrink twenty-fold on their way between processes."""
    return bytes(lz4.frame.compress(pickle.dumps(partials, protocol=5)))


def _unpack(data: bytes) -> Partials:
    partials: Partials = pickle.loads(lz4.frame.decompress(data))
    return partials


def run_processes(
    job: Job, chunks: list[Chunk], *, workers: int, skip_bad_files: bool, progress: Progress
) -> Outcome:
    """Process chunks in local processes.

    Raises:
        BadFile: a file cannot be read, and `skip_bad_files` is not set.
        InputError: a worker process died, mostly for want of memory.
    """
    assembly = _Assembly(chunks, skip_bad_files, progress)
    context = multiprocessing.get_context("spawn")  # forked threads of NumPy or Arrow would hang
    with ProcessPoolExecutor(workers, context, _start_worker, (cloudpickle.dumps(job),)) as pool:
        waiting = iter(chunks)
        running: dict[Future[bytes], Chunk] = {}
        try:
            while True:
                while len(running) < 2 * workers and (chunk := next(waiting, None)) is not None:
                    if assembly.wanted(chunk):
                        running[pool.submit(_process_in_worker, chunk)] = chunk
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    chunk = running.pop(future)
                    try:
                        assembly.add(chunk, _unpack(future.result()))
                    except BadFile as error:
                        assembly.fail(error)
        except BrokenProcessPool as error:
            raise InputError(
                f"a worker process died, most likely for want of memory, with {workers} workers; "
                "use fewer workers or a smaller chunk size"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return Outcome(assembly.total, assembly.bad)


def _identity(value: bytes) -> bytes:
    return value


def _process_on_cluster(job: bytes, chunk: Chunk) -> bytes:
    key = hash(job)
    if _cluster_job.get("key") != key:  # parse the job once in each worker
        memory.keep()
        _cluster_job.update(key=key, job=cloudpickle.loads(job))
    return _pack(process_chunk(_cluster_job["job"], chunk))


_cluster_job: dict[str, Any] = {}


def _merge_on_cluster(*parts: bytes) -> bytes:
    return _pack(merge([_unpack(part) for part in parts]))


def _windowed(
    client: Any, job: Any, chunks: Iterable[Chunk], size: int, wanted: Callable[[Chunk], bool]
) -> Iterator[Any]:
    """Chunks and their futures as they finish, at most `size` under way: the client's memory stays flat."""
    from distributed import as_completed

    waiting = iter(chunks)
    chunk_of: dict[Any, Chunk] = {}
    finished = as_completed(loop=client.loop)

    def submit_next() -> None:
        for chunk in waiting:
            if wanted(chunk):
                future = client.submit(_process_on_cluster, job, chunk, pure=False)
                chunk_of[future.key] = chunk
                finished.add(future)
                return

    for _ in range(size):
        submit_next()
    for future in finished:
        yield chunk_of.pop(future.key), future
        submit_next()


def run_dask(
    job: Job, chunks: list[Chunk], *, client: Any, skip_bad_files: bool, progress: Progress
) -> Outcome:
    """Process chunks on a Dask cluster; results are added up there, in a tree, and only the sum comes back.

    Args:
        client: of `distributed`; its workers must have this version of the package (see `cluster.check_workers`).

    Raises:
        BadFile: a file cannot be read, and `skip_bad_files` is not set.
        InputError: workers died again and again, mostly for want of memory.
    """
    from distributed import KilledWorker

    left: dict[str, int] = defaultdict(int)
    for chunk in chunks:
        left[chunk.file] += 1
    parts: dict[str, list[Any]] = defaultdict(list)
    levels: dict[int, list[Any]] = defaultdict(list)
    bad: dict[str, str] = {}
    fan_in = 8

    def promote(future: Any, level: int) -> None:
        levels[level].append(future)
        if len(levels[level]) == fan_in:
            promote(client.submit(_merge_on_cluster, *levels.pop(level), pure=False), level + 1)

    shared = client.submit(_identity, cloudpickle.dumps(job), pure=False)
    window = 2 * max(1, sum(client.nthreads().values())) + 2
    try:
        for chunk, future in _windowed(client, shared, chunks, window, lambda c: c.file not in bad):
            progress(chunk.stop - chunk.start)
            if future.status == "error":
                error = future.exception()
                if not isinstance(error, BadFile) or not skip_bad_files:
                    raise error
                bad.setdefault(error.file, error.reason)
                parts.pop(chunk.file, None)
            elif chunk.file not in bad:
                parts[chunk.file].append(future)
                left[chunk.file] -= 1
                if not left[chunk.file]:
                    done = parts.pop(chunk.file)
                    promote(
                        done[0] if len(done) == 1 else client.submit(_merge_on_cluster, *done, pure=False), 0
                    )
        rest = [future for level in sorted(levels) for future in levels[level]]
        if not rest:
            return Outcome({}, bad)
        return Outcome(_unpack(client.submit(_merge_on_cluster, *rest, pure=False).result()), bad)
    except KilledWorker as error:
        raise InputError(
            f"workers died again and again, most likely for want of memory ({error}); "
            "use a smaller chunk size or give workers more memory"
        ) from error
