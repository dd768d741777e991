"""Files are open as long as their events are in use, and never mapped: one that is cut short would end the process."""

import gc
import os
import sys
import tracemalloc
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from trila.processors import readers
from trila.processors.columns import jagged
from trila.processors.errors import BadFile
from trila.processors.readers import FileInfo

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for open and mapped files")

FIELDS = ("pt", "eta", "phi", "mass")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Files of few branches with many muons."""
    rng = np.random.default_rng(1)
    counts = np.full(50_000, 2)
    muons = {field: ak.unflatten(rng.uniform(1, 2, 100_000).astype(np.float32), counts) for field in FIELDS}
    muons["charge"] = ak.unflatten(rng.integers(0, 2, 100_000, np.int32), counts)
    paths = [tmp_path / f"{letter}.root" for letter in "abc"]
    for path in paths:
        with uproot.recreate(path, compression=None) as file:
            file.mktree("Events", {"Muon": ak.zip(muons).type.content}).extend({"Muon": ak.zip(muons)})
    return paths


def opened(file: Path) -> bool:
    """Whether this process has the file open."""
    descriptors = Path("/proc/self/fd")
    return any(os.path.realpath(descriptor) == str(file) for descriptor in descriptors.iterdir())


def muons_of(info: FileInfo, *fields: str) -> list[list[float]]:
    layout = info.layout.restricted([f"offline_muons.{field}" for field in fields])
    events = readers.read(info.file, info.tree, info.uuid, layout, 0, info.entries, {}, [])
    muons = jagged(events, "offline_muons", *fields)
    return [muons.fields[field].tolist() for field in fields]


def test_no_file_is_mapped(files: list[Path]) -> None:
    """Neither by uproot, which reads all columns first, nor by us."""
    for file in files:
        info = readers.inspect(str(file))
        readers.readable(info.file, info.tree, info.layout, 0, info.entries)
        muons_of(info, *FIELDS)
        assert str(file) not in Path("/proc/self/maps").read_text()


def test_files_before_take_no_memory(files: list[Path]) -> None:
    """Neither bytes nor open files, once Python has collected cycles: uproot's branches and trees refer to each other."""
    tracemalloc.start()
    try:
        taken = []
        for file in files:
            muons_of(readers.inspect(str(file)), *FIELDS)
            gc.collect()
            taken.append(tracemalloc.get_traced_memory()[0])
            assert [other for other in files if opened(other)] == [file]
    finally:
        tracemalloc.stop()
    assert max(taken[1:]) - taken[0] < 0.1 * files[0].stat().st_size


def test_a_file_that_is_cut_short_while_it_is_read_is_truncated(files: list[Path]) -> None:
    """Reading fails as reading does; a second look tells why, wherever the first one stood."""
    info = readers.inspect(str(files[0]))
    layout = info.layout.restricted(["offline_muons.pt"])
    events = readers.read(info.file, info.tree, info.uuid, layout, 0, info.entries, {}, [])
    os.truncate(files[0], 5000)
    with pytest.raises(OSError, match=r"expected Chunk of length \d+,\s+received \d+ bytes from LocalFile"):
        jagged(events, "offline_muons", "pt")
    with pytest.raises(
        BadFile, match=r"a\.root: is truncated: 5000 bytes, but its header says \d+; copy it again"
    ):
        readers.readable(info.file, info.tree, layout, 0, info.entries)


def test_events_outlive_the_next_file(files: list[Path]) -> None:
    info = readers.inspect(str(files[0]))
    expected = muons_of(info, "pt")
    layout = info.layout.restricted(["offline_muons.pt"])
    events = readers.read(info.file, info.tree, info.uuid, layout, 0, info.entries, {}, [])
    readers.inspect(str(files[1]))
    assert [jagged(events, "offline_muons", "pt").pt.tolist()] == expected
