"""Two Dask workers against one, on a job of at least a minute; and the memory of a worker.

    python benchmarks/scaling.py [--seconds 60] [--rounds 2] [--json FILE]

The job runs all processors, with pairs, over as many files as a single worker needs a minute for; `--gigabytes` limits
the disk space of the files, and where that is not enough the job goes over them several times. The files are copies of
one simulated file, each with an identifier of its own. Workers are processes with one thread each, started and warm
before the clock. Beside it stands what the machine itself gives: reading the same columns with uproot, as plain Dask
tasks. Two cores that share a memory bus, or their arithmetic units, give less than 2.

Last, one worker runs the same processors over one file with a correction file of 1 and of 200 variations, each of which
has its spectrum of 14 000 bins: what they add to its memory.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]
import uproot
from distributed import Client, LocalCluster
from machine import DATA, describe, first_line, sample, touch

from trila.analysis import steps
from trila.processors import readers
from trila.processors.chunking import MOST_EVENTS
from trila.processors.run import cut

PROCESSORS = ("response", "efficiency", "dijet", "dimuon")
TARGET = 1.7
MEMORY_TARGET = 1536  # MiB; what the system keeps of files that a worker reads counts as its memory
VARIATIONS = (1, 200)


class Job(NamedTuple):
    """What is timed.

    Attributes:
        files: each once in a pass.
        passes: over all of them.
        columns: that it reads.
    """

    files: list[str]
    passes: int
    columns: list[str]


def copies(original: Path, number: int) -> list[str]:
    """Copies of a file with different identifiers, as a file may be listed only once."""
    with uproot.open(original) as directory:
        old = directory.file.uuid.bytes
    folder = original.parent / "copies"
    folder.mkdir(exist_ok=True)
    made = [str(original)]
    for index in range(1, number):
        path = folder / f"copy_{index:03d}.root"
        if not path.exists():
            part = path.with_suffix(".part")
            shutil.copyfile(original, part)
            with part.open("r+b") as stream:
                head = stream.read(1024)
                stream.seek(0)
                stream.write(head.replace(old, uuid.uuid4().bytes))
            part.rename(path)
        made.append(str(path))
    return made


def run(
    files: Sequence[str], result: Path, address: str | None = None, max_events: int | None = None,
    corrections: str | None = None,
) -> Any:  # fmt: skip
    """All processors over the files; on a cluster, if an address is given."""
    done = steps.run(
        PROCESSORS, files, result, scheduler=address, max_events=max_events, corrections=corrections
    )
    return done.result


def warm(file: str) -> int:
    """In a worker: import, compile and open what the job needs; gives its process."""
    with tempfile.TemporaryDirectory() as folder:
        run([file], Path(folder) / "result", max_events=20_000)
    return os.getpid()


def read(file: str, columns: Sequence[str]) -> None:
    """In a worker: read columns into arrays, chunk by chunk."""
    info = readers.inspect(file)
    with uproot.open(file) as directory:
        for start, stop in cut(info, info.entries, MOST_EVENTS):
            directory["Events"].arrays(list(columns), entry_start=start, entry_stop=stop)


@contextmanager
def workers(number: int, file: str) -> Iterator[tuple[Client, list[int]]]:
    """A cluster of warm workers, and their processes."""
    with (
        LocalCluster(
            n_workers=number, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=40
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        client.wait_for_workers(number)
        yield client, list(client.run(warm, file).values())


@contextmanager
def watched(processes: Sequence[int]) -> Iterator[dict[int, int]]:
    """The largest memory of each process while the context lasts, bytes."""
    peaks = dict.fromkeys(processes, 0)
    done = threading.Event()

    def watch() -> None:
        found = [psutil.Process(number) for number in processes]
        while not done.wait(0.2):
            for process in found:
                peaks[process.pid] = max(peaks[process.pid], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def calibrate(original: Path, folder: Path, seconds: float, gigabytes: float) -> Job:
    """A job that takes one worker long enough."""
    with workers(1, str(original)) as (client, _):
        columns = run([str(original)], folder / "first", client.scheduler.address).manifest["columns"]
        begin = time.perf_counter()
        run([str(original)], folder / "calibration", client.scheduler.address)
        once = time.perf_counter() - begin
    wanted = math.ceil(1.2 * seconds / once)  # in long runs the fixed costs of a run count less
    number = max(2, min(wanted, int(gigabytes * 1e9 / original.stat().st_size)))
    files = copies(original, number)
    touch([Path(file) for file in files])
    return Job(files, math.ceil(wanted / number), columns)


def measure(job: Job, number: int, folder: Path) -> dict[str, Any]:
    """Time of the job, and of reading alone, with this many workers."""
    with workers(number, job.files[0]) as (client, processes):
        seconds = 0.0
        with watched(processes) as peaks:
            for _ in range(job.passes):
                begin = time.perf_counter()
                run(job.files, folder / "result", client.scheduler.address)
                seconds += time.perf_counter() - begin
                shutil.rmtree(folder / "result")  # in which a run would find nothing left to do
        few = job.files[: min(len(job.files), 6)]  # afterwards, as it leaves memory behind
        begin = time.perf_counter()
        client.gather([client.submit(read, file, job.columns, pure=False) for file in few])
        reading = (time.perf_counter() - begin) / len(few)
    return {"workers": number, "seconds": seconds, "reading": reading, "peak_bytes": list(peaks.values())}


def corrections_of(path: Path, variations: int) -> str:
    """A correction file that moves all jets by a constant, another one for each variation."""
    keys = ["nominal", *(f"source{number}_up" for number in range(1, variations))]
    content = [{"key": key, "value": 1.0 + 1e-4 * number} for number, key in enumerate(keys)]
    correction = {
        "name": "hlt_jec", "version": 1, "output": {"name": "factor", "type": "real"},
        "inputs": [{"name": "JetPt", "type": "real"}, {"name": "systematic", "type": "string"}],
        "data": {"nodetype": "category", "input": "systematic", "content": content},
    }  # fmt: skip
    path.write_text(json.dumps({"schema_version": 2, "corrections": [correction]}))
    return str(path)


def vary(original: Path, folder: Path) -> dict[int, int]:
    """Number of variations of the spectrum to the largest memory of a worker, bytes."""
    peaks = {}
    for number in VARIATIONS:
        file = corrections_of(folder / f"corrections{number}.json", number)
        with workers(1, str(original)) as (client, processes), watched(processes) as found:
            run([str(original)], folder / f"varied{number}", client.scheduler.address, corrections=file)
        peaks[number] = max(found.values())
    return peaks


def show(report: dict[str, Any]) -> None:
    """Print what was found."""
    print(f"\n{first_line(report['machine'])}")
    print(
        f"{report['files']} files, {report['bytes'] / 1e9:.2f} GB, {report['passes']} passes: "
        f"{report['events'] / 1e6:.1f} million events; processors {', '.join(PROCESSORS)}, with pairs"
    )
    print(f"\n{'workers':>8s} {'seconds':>9s} {'kHz':>8s} {'peak memory of a worker':>24s}")
    for row in report["rounds"]:
        for one in row:
            peak = max(one["peak_bytes"]) / 2**20
            rate = report["events"] / one["seconds"] / 1e3
            print(f"{one['workers']:8d} {one['seconds']:9.1f} {rate:8.0f} {peak:20.0f} MiB")
    ratios = ", ".join(f"{ratio:.2f}" for ratio in report["ratios"])
    mark = "met" if report["ratio"] >= TARGET else "missed"
    print(f"\none worker / two workers: {report['ratio']:.2f} ({ratios}), target >= {TARGET} {mark}")
    peak = max(max(one["peak_bytes"]) for row in report["rounds"] for one in row) / 2**20
    mark = "met" if peak < MEMORY_TARGET else "missed"
    print(f"peak memory of a worker: {peak:.0f} MiB, target < {MEMORY_TARGET} MiB {mark}")
    shown = ", ".join(f"{peak / 2**20:.0f} MiB with {n}" for n, peak in report["variations"].items())
    mark = "met" if max(report["variations"].values()) / 2**20 < MEMORY_TARGET else "missed"
    print(f"by variations of the spectrum: {shown}, target < {MEMORY_TARGET} MiB {mark}")
    print(f"reading alone, one / two: {report['reading_ratio']:.2f}, what this machine gives")
    if min(row[0]["seconds"] for row in report["rounds"]) < report["wanted_seconds"]:
        print(f"the job was shorter than {report['wanted_seconds']:g} s with one worker")


def main() -> None:
    """Measure and report; a benchmark does not judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="least time of the job with one worker")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--events", type=int, default=1_000_000, help="of a file")
    parser.add_argument("--gigabytes", type=float, default=11.0, help="limit on all files")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the samples")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    (original,), _ = sample(options.data, events=options.events, files=1, seed=1)
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="trila-benchmark-") as name:
        job = calibrate(original, Path(name), options.seconds, options.gigabytes)
        rounds = []
        for index in range(options.rounds):
            row = [measure(job, number, Path(name)) for number in (1, 2)]
            print(f"round {index + 1}: one worker {row[0]['seconds']:.1f} s, two {row[1]['seconds']:.1f} s")
            rounds.append(row)
        varied = vary(original, Path(name))
    ratios = [one["seconds"] / two["seconds"] for one, two in rounds]
    report = {
        "machine": machine, "files": len(job.files), "passes": job.passes,
        "bytes": original.stat().st_size * len(job.files),
        "events": options.events * len(job.files) * job.passes, "rounds": rounds, "ratios": ratios,
        "ratio": statistics.median(ratios),
        "reading_ratio": statistics.median(one["reading"] / two["reading"] for one, two in rounds),
        "wanted_seconds": options.seconds, "variations": varied,
    }  # fmt: skip
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
