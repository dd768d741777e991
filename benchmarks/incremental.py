"""One more file: `trila run --update` into a RESULT of 1000 files, against a run over that file alone.

    python benchmarks/incremental.py [--files 1000] [--events 3000] [--rounds 7] [--json FILE]

Whole processes, as a user starts them, in turns; each round has a file of its own, copied from one simulated file with an
identifier of its own. The RESULT is made beforehand and grows by one file a round; all that an update has to do besides the
new file (know the others, add up, write the products) is in the ratio of the medians.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import uproot
from machine import DATA, describe, first_line

from trila.analysis.simulation import simulate

TARGET = 1.5


def copies(original: Path, folder: Path, number: int) -> list[Path]:
    """Copies of a file with different identifiers, as a file may be listed only once."""
    with uproot.open(original) as directory:
        old = directory.file.uuid.bytes
    content = original.read_bytes()
    folder.mkdir()
    made = [folder / f"copy_{index:05d}.root" for index in range(number)]
    for path in made:
        path.write_bytes(content.replace(old, uuid.uuid4().bytes))
    return made


def seconds(*arguments: object) -> float:
    """The time that a `trila` process takes."""
    begin = time.perf_counter()
    subprocess.run(
        [Path(sys.executable).with_name("trila"), *map(str, arguments)], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - begin


def measure(processors: str, files: int, events: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Times of both commands, and how long the first run took."""
    (original,) = simulate(folder / "sample", kind="jets", events=events, seed=1)
    known = copies(original, folder / "files", files)
    more = copies(original, folder / "more", rounds + 1)
    result = folder / "result"
    first = seconds("run", processors, folder / "files" / "*.root", "-o", result)
    updates, alone = [], []
    for number, file in enumerate(more):
        alone.append(seconds("run", processors, file, "-o", folder / f"alone_{number}"))
        updates.append(seconds("run", "--update", file, "-o", result))
    inputs = json.loads((result / "manifest.json").read_text())["inputs"]
    assert len(inputs) == len(known) + len(more)
    assert all(item["processed"] == events for item in inputs)
    return {"first": first, "update": updates[1:], "alone": alone[1:]}  # the first round warms the disk


def main() -> None:
    """Measure and report; a benchmark does not judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1000, help="of the RESULT")
    parser.add_argument("--events", type=int, default=3000, help="of a file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processors", default="response,dijet")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=DATA))
    try:
        found = measure(options.processors, options.files, options.events, options.rounds, folder)
    finally:
        shutil.rmtree(folder)
    update, alone = (statistics.median(found[name]) for name in ("update", "alone"))
    ratio = update / alone
    verdict = "met" if ratio <= TARGET else "missed"
    machine = describe()
    print(first_line(machine))
    print(f"{options.processors}, files of {options.events} events, {options.rounds} rounds, median (range)")
    print(f"  first run, {options.files} files   {found['first']:8.2f} s")
    for name, label in (("alone", "run over one file     "), ("update", "update with one file  ")):
        times = found[name]
        print(f"  {label}      {statistics.median(times):8.2f} s  ({min(times):.2f} to {max(times):.2f})")
    print(f"  ratio {ratio:.2f}, target at most {TARGET}: {verdict}")
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine, **found, "ratio": ratio, "target": TARGET, "verdict": verdict})
            + "\n"
        )


if __name__ == "__main__":
    main()
