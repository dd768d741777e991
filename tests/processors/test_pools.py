"""Results of a Dask cluster when workers and schedulers go: each task comes back, once, or the loss is told."""

from __future__ import annotations

import operator
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from trila.processors.pools import ClusterLost, DaskPool

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[tuple[Any, Any]]:
    """A cluster of one process, and its client."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as made,
        Client(made) as client,
    ):
        yield made, client


def finished(futures: list[Any]) -> bool:
    return all(future.status == "finished" for future in futures)


def until(what: Any) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_results_that_went_with_their_worker_are_made_again(cluster: tuple[Any, Any]) -> None:
    """They were there, and are gone before they were fetched."""
    _, client = cluster
    pool = DaskPool(client)
    shared = pool.share(2)
    for task in range(3):
        pool.submit(operator.mul, shared, task)  # not of this module, which workers cannot import
    futures = list(pool._returned.under_way.values())
    until(lambda: finished(futures))
    ((address, pid),) = client.run(os.getpid).items()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not finished(futures))
    found = {}
    while len(found) < 3:
        for task, value, error in pool.finished():
            assert error is None
            assert task not in found
            found[task] = value
    assert found == {0: 0, 1: 2, 2: 4}
    assert address not in client.scheduler_info()["workers"]


def test_a_cluster_that_is_gone(cluster: tuple[Any, Any]) -> None:
    made, client = cluster
    pool = DaskPool(client)
    shared = pool.share(None)
    pool.submit(lambda _, seconds: time.sleep(seconds), shared, 60)
    made.close()
    with pytest.raises(
        ClusterLost, match="the connection to the cluster's scheduler is lost; what was done is kept"
    ):
        deque(iter(pool.finished, None), maxlen=0)
