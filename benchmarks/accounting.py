"""What it costs to plan and account for 10 000 files in 100 000 chunks, with a real scheduler and two workers.

Nothing is read and nothing is computed: each unit gives back a small histogram at once. What is left is planning,
scheduling, the ledger's writes, and adding up; and the memory of the client, which must not grow with the number of units.

    python benchmarks/accounting.py [--files 10000] [--chunks 10]
"""

import argparse
import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hist
import machine
import numpy as np
import psutil
from coffea.processor import ProcessorABC

from trila.analysis import planning, results
from trila.analysis.accounting import do
from trila.analysis.cluster import check_workers, connect
from trila.analysis.cluster_options import ClusterOptions
from trila.analysis.filesets import Dataset
from trila.analysis.ledger import Ledger
from trila.analysis.planning import Asked, Reading, plan
from trila.processors import formats, packing
from trila.processors.fingerprints import code_digest
from trila.processors.partial import Job, Partial
from trila.processors.pools import DaskPool, LocalPool
from trila.processors.readers import FileInfo, Layout
from trila.processors.run import Attempt, Packed

#: Events of a chunk, as small as they come: what is measured does not depend on it.
_CHUNK = 1000
#: Milliseconds a chunk, and growth of the client's memory in MiB.
_TARGETS = {"do": 4.0, "memory": 50.0}


class Nothing(ProcessorABC):
    """Stands in the plan; it is never called."""

    name = "nothing"

    def process(self, events: Any) -> Any:
        raise NotImplementedError

    def postprocess(self, accumulator: Any) -> Any:
        return accumulator


def at_once(_job: Job, attempt: Attempt) -> Packed:
    """A histogram of one number, the unit's entries."""
    histogram = hist.Hist(hist.axis.Regular(100, 0, 100, name="x"), storage=hist.storage.Weight())
    histogram.view()["value"][50] = attempt.item.entries
    histogram.view()["variance"][50] = attempt.item.entries
    blocks = np.arange(20, dtype=np.uint64) + np.uint64(attempt.item.start)
    return Packed((packing.pack(Partial({"nothing.x": histogram})),), ("x",), blocks.tobytes(), None, 0.0)


def _pretend(chunks: int) -> Any:
    """An `inspect` for files that are not there."""
    table = formats.load("cms-scouting")
    columns = {name: (name,) for name in ("run", "luminosity_block", "event", "hlt_jets.pt")}

    def inspect(file: str, *_: Any) -> FileInfo:
        entries = chunks * _CHUNK
        clusters = tuple(range(0, entries + 1, _CHUNK))
        return FileInfo(
            file, "Events", f"uuid-{file}", 10**9, entries, clusters, Layout(table, "2024", columns, {}), ()
        )

    return inspect


@contextlib.contextmanager
def memory_over_time() -> Iterator[list[tuple[float, float]]]:
    """Time and resident memory of this process in MiB, twice a second."""
    found: list[tuple[float, float]] = []
    stop = threading.Event()
    own = psutil.Process()

    def sample() -> None:
        while not stop.wait(0.5):
            found.append((time.monotonic(), own.memory_info().rss / 2**20))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _verdict(good: bool) -> str:
    return "met" if good else "missed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--chunks", type=int, default=10, help="of each file")
    options = parser.parse_args()
    total = options.files * options.chunks
    print(machine.first_line(machine.describe()))
    print(f"{options.files} files, {total} chunks, 2 workers of a local Dask cluster")
    fileset = {
        "data": Dataset(files=tuple(f"root://nowhere//{n}.root" for n in range(options.files)), is_data=True)
    }
    planning.readers.inspect = _pretend(options.chunks)
    processors = (Nothing(),)
    asked = Asked(
        processors, ("nothing",), ({},), results.package_versions(), Reading(None, {}), lambda _info, _columns: _CHUNK, None, None, {},
        None, False,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder), write=True) as ledger:
        begin = time.monotonic()
        planned = plan(fileset, asked, ledger, LocalPool(), skip_bad_files=False, progress=lambda _n: None)
        ledger.replace_plan(planned.files, planned.rows(("nothing",)))
        planning_time = time.monotonic() - begin
        job = Job(processors, planned.layouts, planned.metadata)
        with connect(None, ClusterOptions(workers=2)) as client, memory_over_time() as memory:
            check_workers(client, None, code_digest)
            pool = DaskPool(client)
            begin = time.monotonic()
            accounts = do(
                planned,
                job,
                ledger,
                pool,
                skip_bad_files=False,
                progress=lambda _n: None,
                work=at_once,
            )
            doing = time.monotonic() - begin
        count = accounts.partials["data"][0].histograms["nothing.x"].sum().value
        assert count == total * _CHUNK, f"{count} events of {total * _CHUNK}"
        begin = time.monotonic()
        again = plan(fileset, asked, ledger, LocalPool(), skip_bad_files=False, progress=lambda _n: None)
        resuming = time.monotonic() - begin
        assert not again.units
        size = ledger.path.stat().st_size / 2**20
    # the first fifth is spent on imports, compilation and filling queues
    late = [mib for at, mib in memory if at > memory[0][0] + 0.2 * (memory[-1][0] - memory[0][0])]
    growth = late[-1] - late[0] if late else 0.0
    for name, seconds in (("planning, first time", planning_time), ("planning, all done", resuming)):
        print(f"{name:34} {seconds:8.1f} s {1e3 * seconds / total:8.3f} ms a chunk")
    per_chunk = 1e3 * doing / total
    print(
        f"{'scheduling, ledger, adding up':34} {doing:8.1f} s {per_chunk:8.3f} ms a chunk < {_TARGETS['do']:g} {_verdict(per_chunk < _TARGETS['do'])}"
    )
    print(f"{'units of work':34} {len(planned.units):8}   {1e3 * doing / len(planned.units):8.3f} ms a unit")
    print(
        f"{'memory of the client, growth':34} {growth:8.1f} MiB of {late[-1]:.0f} < {_TARGETS['memory']:g} {_verdict(growth < _TARGETS['memory'])}"
    )
    print(f"{'ledger':34} {size:8.1f} MiB")


if __name__ == "__main__":
    main()
