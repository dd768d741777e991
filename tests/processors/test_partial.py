"""A unit in its chunks: what stays in memory from one to the next, and what variations of a spectrum add to it."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import hist
import pytest

from trila.processors import readers
from trila.processors.errors import InputError
from trila.processors.partial import Job, Unit, process_unit

CHUNKS = tuple((start, start + 100) for start in range(0, 500, 100))


class Counting:
    """Events in one bin; keeps an eye on the histograms that it gave away."""

    name = "counting"

    def __init__(self) -> None:
        self.given: list[weakref.ref[Any]] = []
        self.alive: list[int] = []

    def process(self, events: Any) -> dict[str, Any]:
        self.alive.append(sum(one() is not None for one in self.given))
        made = hist.Hist(hist.axis.Integer(0, 1, name="x"), storage=hist.storage.Weight())
        made.fill([0] * len(events))
        self.given.append(weakref.ref(made))
        return {"histograms": {"x": made}}


class Reusing(Counting):
    """Has one histogram, emptied for each chunk."""

    def process(self, events: Any) -> dict[str, Any]:
        if not self.given:
            self.mine = super().process(events)["histograms"]["x"]
        else:
            self.mine.reset().fill([0] * len(events))
        return {"histograms": {"x": self.mine}}


def processed(folder: Path, processor: Counting) -> float:
    """Events that a unit of five chunks counts."""
    info = readers.inspect(str(folder / "jets_000.root"))
    unit = Unit(info.file, (info.file,), info.tree, info.uuid, "a", 0, (0,), CHUNKS)
    (partial,) = process_unit(Job((processor,), (info.layout,), {"a": {}}), unit, info.file).partials
    return float(partial.histograms["counting.x"].sum().value)


def test_histograms_of_a_chunk_are_gone_when_the_next_begins(jets_sample: Path) -> None:
    """So however many chunks there are, a worker holds those of one, and their sum."""
    processor = Counting()
    assert processed(jets_sample, processor) == 500
    assert processor.alive == [0] * len(CHUNKS)


def test_a_processor_may_use_its_histogram_again(jets_sample: Path) -> None:
    assert processed(jets_sample, Reusing()) == 500


class Refusing(Counting):
    def process(self, events: Any) -> dict[str, Any]:
        raise InputError("this will not do")


def test_an_error_has_no_circle_of_causes(jets_sample: Path) -> None:
    """Dask asks each for its cause before it sends it, and so would never end."""
    with pytest.raises(InputError, match="this will not do") as caught:
        processed(jets_sample, Refusing())
    seen: list[BaseException | None] = [caught.value]
    while seen[-1] is not None:
        found = seen[-1].__cause__ or seen[-1].__context__
        assert not any(found is one for one in seen)
        seen.append(found)


_MEASURE = """
import sys
from trila.processors import readers
from trila.processors.dijet import DijetConfig, DijetProcessor
from trila.processors.partial import Job, Unit
from trila.processors.run import Attempt, measure

file, corrections, step = *sys.argv[1:3], int(sys.argv[3])
info = readers.inspect(file)
chunks = tuple((start, start + step) for start in range(0, 20_000, step))
unit = Unit(file, (file,), info.tree, info.uuid, "a", 0, (0,), chunks)
measure(Job((DijetProcessor(DijetConfig(corrections=corrections)),), (info.layout,), {"a": {}}), Attempt(unit, (file,)))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory of a process")
@pytest.mark.parametrize("step", [20_000, 2_000])
def test_200_variations_of_a_spectrum_add_twice_its_size(
    jets_sample: Path, tmp_path: Path, step: int
) -> None:
    """45 MB for a chunk's, 45 MB for their sum, and half as much for all that is in between."""
    peaks = []
    for variations in (1, 200):
        keys = ["nominal", *(f"source{number}_up" for number in range(1, variations))]
        content = [{"key": key, "value": 1.0 + 0.001 * number} for number, key in enumerate(keys)]
        names = {"JetPt": "real", "systematic": "string"}
        correction = {
            "name": "hlt_jec", "version": 1, "output": {"name": "factor", "type": "real"},
            "inputs": [{"name": name, "type": kind} for name, kind in names.items()],
            "data": {"nodetype": "category", "input": "systematic", "content": content},
        }  # fmt: skip
        file = tmp_path / f"{variations}.json"
        file.write_text(json.dumps({"schema_version": 2, "corrections": [correction]}))
        arguments = [str(jets_sample / "jets_000.root"), str(file), str(step)]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, *arguments], capture_output=True, text=True, check=True
        )
        peaks.append(1024 * int(done.stdout))
    size = 200 * 14_002 * 16
    assert 0.5 * size < peaks[1] - peaks[0] < 2.5 * size
