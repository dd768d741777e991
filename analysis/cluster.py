"""Dask clusters: connect, or start one here, and make sure that its workers can do the work."""

import asyncio
import importlib.metadata
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trila import __version__
from trila.processors.errors import InputError

__all__ = ["check_workers", "connect"]


@contextmanager
def connect(scheduler: str | None, workers: int) -> Iterator[Any]:
    """A client of a running cluster, or of one of `workers` processes on this machine that ends with the context.

    Raises:
        InputError: no scheduler answers at the address.
    """
    from distributed import Client, LocalCluster

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
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


def check_workers(client: Any, folder: Path | None, timeout: float = 60.0) -> None:
    """Ask the workers for the package's version and whether they see a folder that they are to write to.

    A worker without the package would not fail but hang: so this is asked first, with what every Python has.

    Raises:
        InputError: no worker, no answer in time, another version, or a folder that workers cannot see.
    """

    async def ask(function: Any, *args: Any) -> dict[str, Any]:
        answer = await asyncio.wait_for(client._run(function, *args), timeout)
        return dict(answer)

    try:
        client.wait_for_workers(1, timeout=timeout)
        versions = client.sync(ask, importlib.metadata.version, "trila")
        sees = client.sync(ask, Path.is_dir, folder) if folder is not None else {}
    except TimeoutError as error:
        raise InputError(
            f"no answer from the cluster's workers in {timeout:.0f} s; look at their logs"
        ) from error
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"the cluster's workers do not have trila; install trila {__version__} there"
        ) from error
    different = {address: found for address, found in versions.items() if found != __version__}
    if different:
        address, found = next(iter(different.items()))
        raise InputError(
            f"worker {address} has trila {found}, here it is {__version__}; install the same version"
        )
    blind = [address for address, seen in sees.items() if not seen]
    if blind:
        raise InputError(
            f"worker {blind[0]} cannot see {folder}, where it has to write pairs; "
            "put the result on a shared file system, or use --no-pairs"
        )
