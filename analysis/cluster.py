"""Dask clusters: connect, or start one, and make sure that its workers can do the work."""

import asyncio
import importlib.metadata
import logging
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trila import __version__
from trila.analysis.batch_clusters import batch_cluster
from trila.analysis.cluster_options import ClusterOptions
from trila.processors.errors import InputError

__all__ = ["check_workers", "connect"]


@contextmanager
def connect(scheduler: str | None, options: ClusterOptions) -> Iterator[Any]:
    """A client of a running cluster, or of one that is started here and ends with the context.

    Args:
        scheduler: address of a running cluster.
        options: of the cluster to start, if there is no address.

    Raises:
        InputError: no scheduler answers at the address, or the cluster cannot be started (`batch_clusters`).
    """
    from distributed import Client

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="20s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {scheduler} ({error}); check the address"
            ) from error
        with client:
            yield client
        return
    with (
        _local_cluster(options) if options.kind == "local" else batch_cluster(options) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _local_cluster(options: ClusterOptions) -> Any:
    """Processes of this machine, which nothing outside it can reach."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=options.workers or os.cpu_count() or 1, threads_per_worker=1, processes=True, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL,
    )  # fmt: skip


def check_workers(
    client: Any, folder: Path | None, digest: Callable[[], str] | None = None, timeout: float = 60.0
) -> None:
    """Ask the workers for trila's version, Python's, trila's code, and whether they see a folder to write to.

    A worker without the package would not fail but hang: so its version is asked first, with what every Python has.

    Args:
        client: of the cluster.
        folder: that the workers are to write to.
        digest: gives the digest of trila's code where it is called; must be a function of trila.
        timeout: seconds for each answer.

    Raises:
        InputError: no worker, no answer in time, another version of trila or of Python, other code, or a folder that
            workers cannot see.
    """

    def ask(function: Any, *args: Any) -> dict[str, Any]:
        async def answers() -> dict[str, Any]:
            return dict(await asyncio.wait_for(client._run(function, *args), timeout))

        return client.sync(answers)  # type: ignore[no-any-return]

    try:
        client.wait_for_workers(1, timeout=timeout)
        versions = ask(importlib.metadata.version, "trila")
        _same("trila", versions, __version__, "install the same version")
        # functions travel as bytecode, which differs between minor versions
        pythons = {address: _minor(found) for address, found in ask(platform.python_version).items()}
        _same("Python", pythons, _minor(platform.python_version()), "use the same minor version")
        if digest is not None:
            digests = {address: found[:16] for address, found in _digests(ask, digest).items()}
            _same("code of trila with the digest", digests, digest()[:16], "install the same code")
        sees = ask(Path.is_dir, folder) if folder is not None else {}
    except TimeoutError as error:
        raise InputError(
            f"no answer from the cluster's workers in {timeout:.0f} s; look at their logs"
        ) from error
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"the cluster's workers do not have trila; install trila {__version__} there"
        ) from error
    except OSError as error:
        raise InputError(
            f"a worker was lost when it was asked for its version ({error}); look at its log"
        ) from error
    blind = [address for address, seen in sees.items() if not seen]
    if blind:
        raise InputError(
            f"worker {blind[0]} cannot see {folder}, where it has to write pairs; "
            "put the result on a shared file system, or use --no-pairs"
        )


def _digests(ask: Callable[..., dict[str, Any]], digest: Callable[[], str]) -> dict[str, Any]:
    """Raises InputError where a worker cannot find the function."""
    try:
        return ask(digest)
    except (TimeoutError, OSError):
        raise
    except Exception as error:  # what a worker cannot import comes back without its type
        raise InputError(
            f"the cluster's workers call themselves trila {__version__}, but are other code ({error}); "
            "install the same code there"
        ) from error


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _same(what: str, found: dict[str, str], here: str, remedy: str) -> None:
    """Raises InputError for the first worker that has something else."""
    for address, there in found.items():
        if there != here:
            raise InputError(f"worker {address} has {what} {there}, here it is {here}; {remedy}")
