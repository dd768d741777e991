"""Speed and memory of `trila calibrate` on one core: five million pairs, 40 regions of η by 30 bins of pT.

    python benchmarks/calibration.py [--pairs 5000000] [--rounds 3] [--json FILE]

Everything is on: pile-up offset, at least two passes of the scale, 100 bootstrap replicas, all uncertainties,
resolutions from asymmetries, and the file. Each round is a process of its own, pinned to one core, from the RESULT on
disk (in the page cache) to the correctionlib file; imports are over before the clock starts. Beside the time by the
clock stands that of the processor, as machines are shared; the memory is the largest resident set of the process,
and how it had grown by the end of each stage. What counts are the medians over the rounds.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from calibration_pairs import response, sample
from machine import DATA, describe, first_line, pinned, touch

from trila.analysis import calibration, derive, results
from trila.analysis.calibration_config import CalibrationConfig
from trila.corrections import calibration_set, correction_set

SECONDS, GIBIBYTES = 60.0, 2.0

#: Where a function of each stage is looked up, and what it does; those within another one are not listed.
STAGES = (
    (results, "read", "result"),
    (calibration, "read_pairs", "pairs"),
    (derive, "derive_offset", "pile-up offset"),
    (derive, "derive", "scale"),
    (derive, "uncertainties", "uncertainties"),
    (derive, "measure_jer", "resolution"),
    (calibration_set, "build", "content of the file"),
    (correction_set, "write", "writing and checking it"),
    (calibration, "summarise", "summary"),
)

CONFIG = CalibrationConfig.model_validate(
    {
        "resolution": "asymmetry",
        "scale": {
            "eta_edges": np.linspace(-3.0, 3.0, 41).tolist(),
            "pt_edges": np.geomspace(45.0, 2500.0, 31).tolist(),
        },
    }
)


def peak() -> float:
    """Largest resident set of this process so far, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def watched(
    function: Callable[..., Any], title: str, stages: dict[str, dict[str, float]]
) -> Callable[..., Any]:
    """The function, with what it took added to `stages`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        begin, processor = time.perf_counter(), time.process_time()
        answer = function(*args, **kwargs)
        row = stages.setdefault(title, {"seconds": 0.0, "processor": 0.0, "peak": 0.0})
        row["seconds"] += time.perf_counter() - begin
        row["processor"] += time.process_time() - processor
        row["peak"] = peak()
        return answer

    return call


def once(source: Path, output: Path) -> dict[str, Any]:
    """One calibration, in this process."""
    stages: dict[str, dict[str, float]] = {}
    for module, name, title in STAGES:
        setattr(module, name, watched(getattr(module, name), title, stages))
    begin, processor = time.perf_counter(), time.process_time()
    outcome = calibration.calibrate(
        source, output, config=CONFIG, progress=lambda _name, _total: lambda _: None
    )
    seconds = {"seconds": time.perf_counter() - begin, "processor": time.process_time() - processor}
    scale = outcome.derived.scale
    stages["everything else"] = {
        key: whole - sum(stage[key] for stage in stages.values()) for key, whole in seconds.items()
    }  # fmt: skip
    return {
        **seconds, "peak": peak(), "stages": stages, "passes": scale.iterations,
        "cells_used": int(scale.measurement.used.sum()), "pairs": int(outcome.derived.pairs.hlt.size),
        "miss": miss(outcome), "file_bytes": output.stat().st_size,
    }  # fmt: skip


def miss(outcome: Any) -> float:
    """Median distance of the curves from the toy's response, inside of their ranges."""
    edges = outcome.derived.calibration.eta_edges
    found = []
    for low, high, curve in zip(edges[:-1], edges[1:], outcome.derived.scale.curves, strict=True):
        if curve is not None:
            log_pt = np.linspace(curve.low, curve.high, 21)
            truth = response(np.exp(log_pt), 0.5 * (low + high))
            found.append(np.abs(np.exp(curve.log_response(log_pt)) / truth - 1.0))
    return float(np.median(np.concatenate(found)))


def measure(source: Path, rounds: int) -> list[dict[str, Any]]:
    """One calibration a process; what each found."""
    found = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="trila-benchmark-") as name:
            answer = Path(name) / "answer.json"
            command = [sys.executable, __file__, "--once", str(source), "--json", str(answer)]
            subprocess.run(command, check=True)
            found.append(json.loads(answer.read_text()))
        row = found[-1]
        print(
            f"round {number + 1}: {row['seconds']:.1f} s ({row['processor']:.1f} s of the processor), "
            f"{row['peak']:.2f} GiB"
        )
    return found


def show(report: dict[str, Any]) -> None:
    """Print what was found."""
    rounds = report["rounds"]
    first = rounds[0]
    print(f"\n{first_line(report['machine'])}")
    print(
        f"pinned to core {report['core']}; {report['pairs'] / 1e6:g} million pairs, {report['bytes'] / 1e6:.0f} MB, of which "
        f"{first['pairs'] / 1e6:.2f} million are calibrated with (the rest is for the closure)"
    )
    print(
        f"{len(CONFIG.scale.eta_edges) - 1} x {len(CONFIG.scale.pt_edges) - 1} bins, {first['cells_used']} of them used; "
        f"{first['passes']} passes, {CONFIG.scale.replicas} replicas; file of {first['file_bytes'] / 1e6:.1f} MB"
    )
    print(f"curves against the response of the toy: {first['miss']:.1e} (median)")
    print(f"\n{'stage':24s} {'seconds':>8s} {'processor':>10s} {'peak by its end':>16s}")
    for title in first["stages"]:
        row = {key: median(rounds, title, key) for key in first["stages"][title]}
        memory = f"{row['peak']:12.2f} GiB" if "peak" in row else ""
        print(f"{title:24s} {row['seconds']:8.1f} {row['processor']:10.1f} {memory}")
    print(f"\n{'':24s} {'median':>8s} {'min':>8s} {'max':>8s}   target")
    for text, key, limit in (("seconds", "seconds", SECONDS), ("peak memory, GiB", "peak", GIBIBYTES)):
        values = [row[key] for row in rounds]
        middle = statistics.median(values)
        mark = "met" if middle < limit else "missed"
        print(f"{text:24s} {middle:8.2f} {min(values):8.2f} {max(values):8.2f}   < {limit:g}  {mark}")


def median(rounds: list[dict[str, Any]], title: str, key: str) -> float:
    """Of one figure of a stage over the rounds."""
    return statistics.median(row["stages"][title][key] for row in rounds)


def main() -> None:
    """Measure and report; a benchmark does not judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the samples")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--once", type=Path, metavar="RESULT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        with tempfile.TemporaryDirectory(prefix="trila-benchmark-") as name:
            answer = once(options.once, Path(name) / "calibration.json.gz")
        options.json.write_text(json.dumps(answer))
        return
    machine = describe()
    source, _ = sample(options.data, pairs=options.pairs, seed=1)
    files = sorted(source.rglob("*.parquet"))
    touch(files)
    with pinned() as core:
        rounds = measure(source, options.rounds)
    report = {
        "machine": machine, "core": core, "pairs": options.pairs,
        "bytes": sum(file.stat().st_size for file in files), "rounds": rounds,
    }  # fmt: skip
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
