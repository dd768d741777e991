"""Chunks against their formula by hand, and the memory of a process that works in them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trila.processors import formats, readers
from trila.processors.chunking import MOST_EVENTS, bytes_per_event, chunk_size
from trila.processors.errors import InputError
from trila.processors.readers import FileInfo, Layout

COLUMNS = {
    "hlt_jets.pt": ("nJet", "Jet_pt"),
    "hlt_jets.eta": ("nJet", "Jet_eta"),
    "pv_x": ("PV_x",),
    "triggers.HLT_a": ("HLT_a",),
}


def file_of(jet: int, entries: int = 10**7) -> FileInfo:
    """A file with so many bytes an event in each branch of jets."""
    layout = Layout(formats.load("cms-scouting"), "", COLUMNS, {})
    per_event = {"Jet_eta": jet, "Jet_pt": jet, "PV_x": 80, "nJet": 4}
    return FileInfo(
        "a.root", "Events", "u", 0, entries, (0,), layout, (), tuple(n * entries for n in per_event.values())
    )


def test_a_branch_counts_once_and_an_event_column_as_one_number() -> None:
    info = file_of(100)
    assert bytes_per_event(info, ["hlt_jets.pt"]) == 104
    assert bytes_per_event(info, ["hlt_jets.pt", "hlt_jets.eta"]) == 204
    assert bytes_per_event(info, COLUMNS) == 204 + 8 + 1


def test_chunks_shrink_as_events_grow() -> None:
    jets = ("hlt_jets.pt", "hlt_jets.eta")
    assert chunk_size(file_of(10), jets) == MOST_EVENTS
    large, larger = (chunk_size(file_of(jet), jets) for jet in (998, 1998))
    assert MOST_EVENTS > large == pytest.approx(2 * larger, abs=1)
    # what is beside the events, 0.6 GB, does not grow with them
    assert chunk_size(file_of(1998), jets, 0.6e9 + 2 * 0.9e9) == pytest.approx(2 * larger, abs=1)


def test_sizes_that_are_not_known_do_no_harm() -> None:
    info = file_of(100)._replace(sizes=())
    assert bytes_per_event(info, ["hlt_jets.pt"]) == 0
    assert chunk_size(info, COLUMNS) == MOST_EVENTS
    assert chunk_size(file_of(100, entries=0), COLUMNS) == MOST_EVENTS


@pytest.mark.parametrize("memory", [0.0, 0.3e9, 0.6001e9])
def test_too_little_memory_is_refused(memory: float) -> None:
    message = rf"a.root: {memory / 1e9:.2f} GB .* expected at least 0.60 GB; give workers more, or choose"
    with pytest.raises(InputError, match=message):
        chunk_size(file_of(100), COLUMNS, memory)


def test_sizes_of_a_file(data_dir: Path) -> None:
    file = str(data_dir / "cms/scouting_nano.root")
    info = readers.inspect(file)
    tree = readers._open(file)[info.tree]
    assert info.branch_sizes["ScoutingPFJet_pt"] == tree["ScoutingPFJet_pt"].uncompressed_bytes
    assert not any(branch.startswith(("DST_", "L1_")) for branch in info.branch_sizes)


_RUN = """
import json, runpy, sys
sys.argv[1:] = json.loads(sys.argv[1])
try:
    runpy.run_module("trila", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory of a process")
def test_a_process_stays_within_its_memory(tmp_path: Path) -> None:
    from trila.analysis.simulation import simulate

    (file,) = simulate(tmp_path / "sample", kind="jets", events=300_000, files=1, seed=5)
    info = readers.inspect(str(file))
    processors = "response,efficiency,dijet,dimuon"
    memory = 0.75e9
    events = chunk_size(info, info.layout.columns, memory)
    assert events < info.entries / 3
    arguments = ["run", processors, str(file), "-o", str(tmp_path / "result"), "--chunk-size", str(events)]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(arguments)], capture_output=True, text=True, check=True
    )
    assert 1024 * int(done.stdout.split()[-1]) < memory
