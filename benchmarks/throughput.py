"""Speed on one core: trila against reading the same columns with uproot, and against plain coffea.

    python benchmarks/throughput.py [--events 1000000] [--rounds 5] [--json FILE]

In one process pinned to one core, in turn and several times over (A B C D A B C D ...), as machines are shared and
noisy: (A) uproot reads the columns of the run into awkward arrays, with its default options, in the ranges of entries
that the run takes as chunks, so that both need the same memory; (B) the run, from checking the file to the RESULT on
disk. Both without and with the table of pairs, which needs more columns. (C) plain coffea makes the same histograms,
in fewer rounds. The file is in the page cache; imports and compilation are over before.

Each is also timed over a file of 1000 events, directly after: what does not depend on the number of events, such as opening
a file of a thousand branches, or making a ledger and an archive of histograms. This start-up is taken off. What counts are
the medians of the ratios within a round; those of the whole times are printed beside them.
"""

import argparse
import gc
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plain_coffea
import uproot
from agreement import compare
from coffea.util import coffea_console
from machine import DATA, describe, first_line, pinned, sample, touch

from trila.analysis import steps
from trila.analysis.simulation import simulate
from trila.processors import readers
from trila.processors.chunking import MOST_EVENTS
from trila.processors.run import cut

PROCESSORS = ("response", "dijet", "dimuon")
FEW = 1000


class Target(NamedTuple):
    """A ratio with what it should be.

    Attributes:
        text: the ratio in words.
        above, below: measurements whose ratio it is.
        limit: the ratio should be at most this; at least, if negative.
    """

    text: str
    above: str
    below: str
    limit: float


TARGETS = (
    Target("run without pairs / reading", "run", "read", 1.5),
    Target("run with pairs / reading", "run with pairs", "read for pairs", 2.0),
    Target("plain coffea / run without pairs", "plain coffea", "run", -4.0),
)


def read(file: Path, columns: Sequence[str], ranges: Sequence[tuple[int, int]]) -> None:
    """Read columns into arrays, chunk by chunk, and drop them."""
    with uproot.open(file) as directory:
        tree = directory["Events"]
        for start, stop in ranges:
            tree.arrays(list(columns), entry_start=start, entry_stop=stop)


def run(file: Path | str, result: Path, *, pairs: bool, config: Path | None = None, **options: Any) -> Any:
    """All processors in one pass, here; gives the RESULT."""
    return steps.run(PROCESSORS, [str(file)], result, pairs=pairs, config=config, **options).result


def timed(function: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    gc.collect()
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


class Seconds(NamedTuple):
    """Times of one thing that was done over and over.

    Attributes:
        whole: one a round.
        start: one a round, over a file of few events.
    """

    whole: list[float]
    start: list[float]

    def without_start(self) -> list[float]:
        """What is left for the events."""
        return [whole - start for whole, start in zip(self.whole, self.start, strict=True)]


def measure(
    file: Path, few: Path, folder: Path, rounds: int, coffea_rounds: int
) -> tuple[dict[str, Seconds], dict[str, Any]]:
    """Times by name, and what else is worth knowing."""
    warm = {
        pairs: run(file, folder / "warm", pairs=pairs, max_events=50_000).manifest["columns"]
        for pairs in (False, True)
    }
    touch([file, few])
    ranges = {}
    for path in (file, few):
        info = readers.inspect(str(path))
        ranges[path] = cut(info, info.entries, MOST_EVENTS)
    read(file, warm[True], [(0, min(50_000, ranges[file][-1][1]))])
    todo: dict[str, Callable[[Path, Path], Any]] = {
        "read": lambda path, _: read(path, warm[False], ranges[path]),
        "run": lambda path, result: run(path, result, pairs=False),
        "read for pairs": lambda path, _: read(path, warm[True], ranges[path]),
        "run with pairs": lambda path, result: run(path, result, pairs=True),
        "plain coffea": lambda path, _: plain_coffea.run([str(path)]),
    }
    seconds = {name: Seconds([], []) for name in todo}
    table = 0
    for number in range(rounds):
        for name, function in todo.items():
            if name != "plain coffea" or number < coffea_rounds:
                for path, times in ((file, seconds[name].whole), (few, seconds[name].start)):
                    times.append(timed(lambda: function(path, folder / "result")))  # noqa: B023  (called at once)
                    table = max(table, sum(p.stat().st_size for p in (folder / "result").rglob("*.parquet")))
                    # a run over what is there would find nothing left to do
                    shutil.rmtree(folder / "result", ignore_errors=True)
        print(
            f"round {number + 1}: "
            + ", ".join(f"{n} {s.whole[number]:.2f} s" for n, s in seconds.items() if number < len(s.whole))
        )
    return seconds, {
        "columns": {"without pairs": warm[False], "with pairs": warm[True]},
        "chunks": ranges[file],
        "pairs_bytes": table,
    }


def ratios(seconds: dict[str, Seconds]) -> list[dict[str, Any]]:
    """The ratios within each round, with their targets."""
    rows = []
    for target in TARGETS:
        above, below = seconds[target.above], seconds[target.below]
        values = [a / b for a, b in zip(above.without_start(), below.without_start(), strict=False)]
        whole = [a / b for a, b in zip(above.whole, below.whole, strict=False)]
        if values:
            median = statistics.median(values)
            met = median <= target.limit if target.limit > 0 else median >= -target.limit
            wanted = f"{'<=' if target.limit > 0 else '>='} {abs(target.limit):g}"
            rows.append(
                {
                    "ratio": target.text, "values": values, "median": median, "target": wanted, "met": met,
                    "whole": statistics.median(whole),
                }
            )  # fmt: skip
    return rows


def agreement(file: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Histograms of trila against those of plain coffea, by counts and by weights."""
    fileset, config = folder / "fileset.yaml", folder / "config.yaml"
    fileset.write_text(json.dumps({"counted": {"files": [str(file)], "is_data": True}}))  # data have weight 1
    config.write_text("response: {tag_trigger: none}\n")
    counts = (
        run(fileset, folder / "counts", pairs=False, config=config).histograms,
        plain_coffea.run([str(file)], weighted=False),
    )
    weighted = (run(file, folder / "weights", pairs=False).histograms, plain_coffea.run([str(file)]))
    return {name: found._asdict() for name, found in compare(counts, weighted).items()}


def simulation_speed(folder: Path, events: int = 100_000) -> float:
    """Events per second simulated and written."""
    simulate(folder / "sample", kind="jets", events=1000, seed=2)  # compiles
    return events / timed(lambda: simulate(folder / "sample", kind="jets", events=events, seed=2))


def show(report: dict[str, Any]) -> None:
    """Print what was found."""
    events, seconds = report["events"], report["seconds"]
    print(f"\n{first_line(report['machine'])}")
    print(
        f"pinned to core {report['core']}; {report['file']}, {events} events, {report['bytes'] / 1e6:.0f} MB"
    )
    print(f"\n{'seconds':34s} {'median':>8s} {'min':>8s} {'max':>8s} {'start-up':>8s} {'kHz':>8s}")
    for name, times in seconds.items():
        if times["whole"]:
            values, start = times["whole"], statistics.median(times["start"])
            middle = statistics.median(values)
            print(
                f"{name:34s} {middle:8.2f} {min(values):8.2f} {max(values):8.2f} {start:8.2f} {events / middle / 1e3:8.0f}"
            )
    print(
        f"{'simulation, writing included':34s} {'':35s} {report['simulation_events_per_second'] / 1e3:8.0f}"
    )
    print(
        f"\n{'ratio, start-up taken off':34s} {'median':>8s} {'min':>8s} {'max':>8s} {'whole':>8s}   target"
    )
    for row in report["ratios"]:
        low, high = min(row["values"]), max(row["values"])
        mark = "met" if row["met"] else "missed"
        print(
            f"{row['ratio']:34s} {row['median']:8.2f} {low:8.2f} {high:8.2f} {row['whole']:8.2f}   {row['target']}  {mark}"
        )
    if report["agreement"]:
        show_agreement(report["agreement"])


def show_agreement(found: dict[str, dict[str, float]]) -> None:
    """Print how the histograms of both programs differ."""
    print(
        f"\n{'trila against plain coffea':34s} {'entries':>12s} {'lost':>8s} {'moved':>8s} {'weights, relative':>18s}"
    )
    for name, row in found.items():
        if row["lost"] or row["moved"] or row["weights"] > 1e-9:
            print(
                f"{name:34s} {row['entries']:12.6g} {row['lost']:8g} {row['moved']:8g} {row['weights']:18.1e}"
            )
    exact = sum(not (row["lost"] or row["moved"]) for row in found.values())
    largest = max(row["largest"] for row in found.values())
    weights = max(row["weights"] for row in found.values())
    print(
        f"{exact} of {len(found)} histograms have the same counts in every cell; largest difference of counts {largest:g},"
    )
    print(
        f"of weights {weights:.1e} (relative; of cells, or of totals where entries moved; expected below 1e-9)."
    )
    print("Moved entries lie at the edge of a bin, where float32 and float64 arithmetic differ.")


def main() -> None:
    """Measure and report; a benchmark does not judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--coffea-rounds", type=int, default=3)
    parser.add_argument("--no-agreement", action="store_true", help="do not compare the histograms")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the samples")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    coffea_console.quiet = True
    (file,), _ = sample(options.data, events=options.events, files=1, seed=1)
    (few,), _ = sample(options.data, events=FEW, files=1, seed=1)
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="trila-benchmark-") as name, pinned() as core:
        folder = Path(name)
        seconds, details = measure(
            file, few, folder, options.rounds, min(options.coffea_rounds, options.rounds)
        )
        speed = simulation_speed(folder)
        found = {} if options.no_agreement else agreement(file, folder)
    report = {
        "machine": machine, "core": core, "file": os.path.relpath(file), "events": options.events,
        "bytes": file.stat().st_size, "seconds": {name: times._asdict() for name, times in seconds.items()}, "ratios": ratios(seconds),
        "simulation_events_per_second": speed, "agreement": found, **details,
    }  # fmt: skip
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
