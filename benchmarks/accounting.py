"""What it costs to plan and account for 10 000 files in 100 000 chunks, with a real scheduler and two workers.

Nothing is read and nothing is computed: each unit gives back a small histogram at once. What is left is planning,
scheduling, the ledger's writes, and adding up; and the memory of the client, which must not grow with the number of units.

Then what real units cost the client on top: a million simulated events each through all processors, once as simulation, whose
histograms hold weights, and once as if they were data, whose histograms hold counts. Four of them are added up 32 times, up
the tree of a real run, whose sums are stored; sums of different units fill more bins, and take more. With both, what 10^10
events take:

    client's time = units * (scheduling of a unit + storing + adding up)        ledger = units * size

    python benchmarks/accounting.py [--files 10000] [--chunks 10] [--events 1000000]
"""

import argparse
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import hist
import machine
import numpy as np
import psutil
from coffea.processor import ProcessorABC

from trila.analysis import planning, results, steps
from trila.analysis.accounting import do
from trila.analysis.cluster import check_workers, connect
from trila.analysis.cluster_options import ClusterOptions
from trila.analysis.filesets import Dataset
from trila.analysis.ledger import FileRow, Leaf, Ledger
from trila.analysis.planning import Asked, Reading, plan
from trila.analysis.sum_tree import SumTree
from trila.processors import formats, packing
from trila.processors.fingerprints import code_digest
from trila.processors.partial import Job, Partial, Unit
from trila.processors.pools import DaskPool, LocalPool
from trila.processors.readers import FileInfo, Layout
from trila.processors.run import Attempt, Packed

#: Events of a chunk, as small as they come: what is measured does not depend on it.
_CHUNK = 1000
#: Milliseconds a chunk, and growth of the client's memory in MiB.
_TARGETS = {"do": 4.0, "memory": 50.0}
#: Real units, and times that each is added up.
_UNITS, _REPEATS = 4, 32
#: Events that the costs of a unit are extrapolated to.
_MANY = 1e10


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


class Cost(NamedTuple):
    """Of one unit to the client.

    Attributes:
        events: of the unit.
        megabytes: packed partial results, by processor.
        add: ms to read them from the ledger and add them up, by processor.
        store: ms to keep all of them in the ledger.
        kept: ledger's megabytes a unit, with those of the sums.
    """

    events: int
    megabytes: dict[str, float]
    add: dict[str, float]
    store: float
    kept: float


def cost_of_unit(folder: Path, files: Sequence[Path], *, is_data: bool) -> Cost:
    """What a unit costs that is the first of a file, in the mean over many."""
    folder.mkdir()
    fileset, config = folder / "fileset.json", folder / "config.yaml"
    fileset.write_text(
        json.dumps({"unit": {"files": [str(file.resolve()) for file in files], "is_data": is_data}})
    )
    config.write_text("response: {tag_trigger: none}\n" if is_data else "{}\n")
    steps.run(steps.PROCESSORS, [str(fileset)], folder / "result", config=config, pairs=False)
    with Ledger(folder / "result") as ledger:
        layout = next(row.info.layout for row in ledger.files() if row.info is not None)
        of_file: dict[str, list[Leaf]] = {}
        for leaf in ledger.leaves():
            if leaf.start == 0:
                of_file.setdefault(leaf.input, []).append(leaf)
        units = [(leaves, tuple(map(ledger.data, leaves))) for leaves in of_file.values()]
    names = [leaf.processor for leaf in units[0][0]]
    stop = units[0][0][0].stop
    made: list[list[Leaf]] = []
    rows = []
    with Ledger(folder, write=True) as ledger:
        begin = time.perf_counter()
        for number in range(_REPEATS * len(units)):
            leaves, packed = units[number % len(units)]
            unit = Unit("", ("",), "", "", "unit", 0, (), ((0, stop),))
            found = Packed(packed, leaves[0].branches, leaves[0].blocks, None, 1.0)
            recipes = [leaf.recipe for leaf in leaves]
            made.append(ledger.store(unit, number, str(number), names, recipes, "", found))
            info = FileInfo("", "Events", str(number), 1, stop, (0, stop), layout, ())
            rows.append(FileRow("unit", "", ("",), "", 1, info, 0, stop, "planned", "", 0.0))
        ledger.commit()
        store = time.perf_counter() - begin
        add = []
        for place in range(len(names)):
            begin = time.perf_counter()
            done = {(number, 0): [leaves[place]] for number, leaves in enumerate(made)}
            list(SumTree(rows, done, [], ledger).totals())
            ledger.commit()
            add.append(time.perf_counter() - begin)
        kept = ledger.path.stat().st_size
    count = len(made)
    return Cost(
        stop,
        {name: sum(len(packed[n]) for _, packed in units) / len(units) / 1e6 for n, name in enumerate(names)},
        {name: 1e3 * seconds / count for name, seconds in zip(names, add, strict=True)},
        1e3 * store / count,
        kept / count / 1e6,
    )


def show_cost(kind: str, cost: Cost, scheduling: float) -> None:
    """Print what a unit costs, and what many events take.

    Args:
        kind: of the events.
        cost: as of `cost_of_unit`.
        scheduling: of a unit, ms.
    """
    size, add, units = sum(cost.megabytes.values()), sum(cost.add.values()), _MANY / cost.events
    print(
        f"\n{f'unit of {cost.events} events of {kind}':34} {'MB':>8} {'ms to add up':>13} {'ms to store':>12}"
    )
    for name, megabytes in cost.megabytes.items():
        print(f"{name:34} {megabytes:8.3f} {cost.add[name]:13.2f}")
    print(f"{'all':34} {size:8.3f} {add:13.2f} {cost.store:12.2f}")
    seconds = units * (scheduling + cost.store + add) / 1e3
    print(
        f"{_MANY:.0e} events: {units:.0f} units * ({scheduling:.2f} + {cost.store:.2f} + {add:.2f}) ms = {seconds:.0f} s; "
        f"ledger, sums included, {units:.0f} units * {cost.kept:.2f} MB = {units * cost.kept / 1e3:.1f} GB"
    )


def accounting_alone(files: int, chunks: int) -> float:
    """Measure what is left without reading and computing, and print it; gives ms a unit.

    Args:
        files: how many.
        chunks: of each.
    """
    total = files * chunks
    print(f"{files} files, {total} chunks, 2 workers of a local Dask cluster")
    fileset = {"data": Dataset(files=tuple(f"root://nowhere//{n}.root" for n in range(files)), is_data=True)}
    processors = (Nothing(),)
    asked = Asked(
        processors, ("nothing",), ({},), results.package_versions(), Reading(None, {}), lambda _info, _columns: _CHUNK, None, None, {},
        None, False,
    )  # fmt: skip
    with (
        mock.patch.object(planning.readers, "inspect", _pretend(chunks)),
        tempfile.TemporaryDirectory() as folder,
        Ledger(Path(folder), write=True) as ledger,
    ):
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
            sums = dict(accounts.sums)
            doing = time.monotonic() - begin
        count = sums["data"][0].histograms["nothing.x"].sum().value
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
    return 1e3 * doing / len(planned.units)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--chunks", type=int, default=10, help="of each file")
    parser.add_argument("--events", type=int, default=1_000_000, help="of a real unit")
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder of the samples")
    options = parser.parse_args()
    print(machine.first_line(machine.describe()))
    scheduling = accounting_alone(options.files, options.chunks)
    files, _ = machine.sample(options.data, events=_UNITS * options.events, files=_UNITS, seed=1)
    with tempfile.TemporaryDirectory(prefix="trila-benchmark-") as folder, machine.pinned():
        for kind in ("simulation", "data"):
            cost = cost_of_unit(Path(folder) / kind, files, is_data=kind == "data")
            show_cost(kind, cost, scheduling)


if __name__ == "__main__":
    main()
