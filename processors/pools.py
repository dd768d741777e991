"""Where work is done: in this process, in processes of this machine, or on a Dask cluster; behind one small interface.

A pool is handed tasks, as many at a time as it has `slots`, and gives each back once, with its value or its error, in any
order. It keeps no results: memory here stays flat however many tasks there are.
"""

import contextlib
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple, Protocol

import cloudpickle
import dask.config

from trila.processors import memory
from trila.processors.errors import InputError

__all__ = ["ClusterLost", "DaskPool", "Finished", "LocalPool", "Pool", "ProcessPool", "WorkerLost"]

Work = Callable[[Any, Any], Any]
#: Seconds after which a cluster is asked again how large it is.
_ASK_EVERY = 10.0
#: Seconds that a cluster may be without any worker.
_WITHOUT_WORKERS = 600.0


class WorkerLost(RuntimeError):
    """The process that did a task ended before it was done, mostly for want of memory. It can be tried again.

    Attributes:
        times: how often; Dask tries again by itself.
    """

    def __init__(self, message: str, times: int) -> None:
        super().__init__(message, times)
        self.times = times


class ClusterLost(InputError):
    """The cluster's scheduler is gone, and what it was doing with it."""


class Finished(NamedTuple):
    """A task that came back.

    Attributes:
        task: as it was handed in.
        value: what the work returned; None with an error.
        error: what it raised; `WorkerLost` where it did not end.
    """

    task: Any
    value: Any
    error: BaseException | None


class Pool(Protocol):
    """What all pools can do.

    Attributes:
        slots: tasks worth handing in at the same time.
    """

    @property
    def slots(self) -> int: ...

    def share(self, context: Any) -> Any:
        """Make something known to all workers; what comes back is given to `submit`."""

    def submit(self, work: Work, shared: Any, task: Any) -> None:
        """Hand in a task: `work(context, task)` is called somewhere."""

    def finished(self, timeout: float | None = None) -> list[Finished]:
        """Tasks that came back since the last call; waits for one, but no longer than `timeout` seconds."""

    def close(self) -> None:
        """Drop what is still under way."""


class LocalPool:
    """Does tasks in this process, one at a time, when their result is asked for."""

    def __init__(self) -> None:
        memory.keep()
        self.slots = 1
        self._waiting: list[tuple[Work, Any, Any]] = []

    def share(self, context: Any) -> Any:
        return context

    def submit(self, work: Work, shared: Any, task: Any) -> None:
        self._waiting.append((work, shared, task))

    def finished(self, timeout: float | None = None) -> list[Finished]:
        if not self._waiting:
            return []
        work, shared, task = self._waiting.pop(0)
        try:
            return [Finished(task, work(shared, task), None)]
        except Exception as error:  # noqa: BLE001  (carried to whoever asked for the work)
            return [Finished(task, None, error)]

    def close(self) -> None:
        self._waiting.clear()


_context: dict[str, Any] = {}  # of a worker: the last context, parsed


def _call(work: Work, shared: bytes, task: Any) -> Any:
    """In a worker: parse the context once, not for each task."""
    key = hash(shared)
    if _context.get("key") != key:
        memory.keep()
        _context.update(key=key, value=cloudpickle.loads(shared))
    return work(_context["value"], task)


def _end_with_parent() -> None:
    """In a worker: do not outlive a parent that was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


class _Returned:
    """Tasks under way and those that came back, from whatever thread."""

    def __init__(self) -> None:
        self.under_way: dict[Any, Any] = {}  # task number to future
        self._done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._tasks: dict[int, Any] = {}
        self._number = 0

    def watch(self, future: Any, task: Any) -> None:
        self._number += 1
        number = self._number
        self.under_way[number], self._tasks[number] = future, task
        future.add_done_callback(lambda done: self._done.put((number, done)))

    def take(self, timeout: float | None) -> list[tuple[Any, Any]]:
        if not self.under_way:
            return []
        found = []
        try:
            found.append(self._done.get(timeout=timeout))
            while True:
                found.append(self._done.get_nowait())
        except queue.Empty:
            pass
        for number, _ in found:
            self.under_way.pop(number, None)
        return [(self._tasks.pop(number), future) for number, future in found]


class ProcessPool:
    """Processes of this machine. One that dies takes the others with it; they are started again."""

    def __init__(self, workers: int) -> None:
        self.slots = 2 * workers
        self._workers = workers
        self._returned = _Returned()
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # forked threads of NumPy or Arrow would hang
        self._executor = ProcessPoolExecutor(self._workers, context, _end_with_parent)

    def share(self, context: Any) -> Any:
        return cloudpickle.dumps(context)

    def submit(self, work: Work, shared: Any, task: Any) -> None:
        try:
            future = self._executor.submit(_call, work, shared, task)
        except BrokenProcessPool:
            self._start()
            future = self._executor.submit(_call, work, shared, task)
        self._returned.watch(future, task)

    def finished(self, timeout: float | None = None) -> list[Finished]:
        return [self._outcome(task, future) for task, future in self._returned.take(timeout)]

    def _outcome(self, task: Any, future: Any) -> Finished:
        try:
            return Finished(task, future.result(), None)
        except BrokenProcessPool:
            return Finished(task, None, WorkerLost("a worker process died", 1))
        except Exception as error:  # noqa: BLE001  (carried to whoever asked for the work)
            return Finished(task, None, error)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class DaskPool:
    """Workers of a Dask cluster.

    Args:
        client: of `distributed`; its workers must have this version of the package (`analysis/cluster.py`).
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._returned = _Returned()
        self._slots, self._asked = 0, -_ASK_EVERY
        self._with_workers = time.monotonic()
        self._allowed = int(dask.config.get("distributed.scheduler.allowed-failures"))

    @property
    def slots(self) -> int:
        if time.monotonic() - self._asked > _ASK_EVERY:  # workers come and go
            self._asked = time.monotonic()
            with contextlib.suppress(OSError):  # that the scheduler is lost shows below
                threads = sum(self._client.nthreads().values())
                self._slots = 2 * max(1, threads) + 2
                self._with_workers = self._asked if threads else self._with_workers
        return self._slots

    def share(self, context: Any) -> Any:
        # a task, and not scattered data: it is computed again where it was lost with its worker
        return self._client.submit(_identity, cloudpickle.dumps(context), pure=False)

    def submit(self, work: Work, shared: Any, task: Any) -> None:
        self._returned.watch(self._client.submit(_call, work, shared, task, pure=False), task)

    def finished(self, timeout: float | None = None) -> list[Finished]:
        patience = 5.0  # a lost scheduler ends no task
        found = self._returned.take(patience if timeout is None else min(timeout, patience))
        if not found and self._returned.under_way and self._client.status not in ("running", "connecting"):
            raise self._lost()
        if not found and self._asked - self._with_workers > _WITHOUT_WORKERS:
            raise ClusterLost(
                f"the cluster has had no worker for {_WITHOUT_WORKERS / 60:.0f} minutes; look at the workers' logs, and give the "
                "same command again to go on"
            )
        whole = [future for _, future in found if future.status == "finished"]
        try:  # one message for all of them
            values = dict(zip((future.key for future in whole), self._client.gather(whole), strict=True))
        except Exception:  # noqa: BLE001  (which of them it was comes out when they are asked for one by one)
            values = {}
        return [
            Finished(task, values[future.key], None) if future.key in values else self._outcome(task, future)
            for task, future in found
        ]

    def _outcome(self, task: Any, future: Any) -> Finished:
        from distributed import KilledWorker

        if future.status == "cancelled":
            raise self._lost()
        try:  # a result that was lost with its worker is made again meanwhile
            return Finished(task, future.result(), None)
        except KilledWorker:
            return Finished(task, None, WorkerLost("workers died", 1 + self._allowed))
        except CancelledError as error:
            raise self._lost() from error
        except Exception as error:  # noqa: BLE001  (carried to whoever asked for the work)
            return Finished(task, None, error)

    def _lost(self) -> ClusterLost:
        return ClusterLost(
            "the connection to the cluster's scheduler is lost; what was done is kept: give the same command again, with "
            "a running scheduler, to go on"
        )

    def close(self) -> None:
        for future in self._returned.under_way.values():
            future.cancel()


def _identity(value: bytes) -> bytes:
    return value
