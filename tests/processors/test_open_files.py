"""What was read of a file is given back before the next chunk, or the next file, is read."""

import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from trila.processors import readers
from trila.processors.columns import jagged
from trila.processors.readers import FileInfo

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for mapped files")

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


def resident(file: Path) -> int:
    """Kilobytes of a mapped file that are in this process' memory."""
    found, mapped = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line[0].isupper():  # a range of addresses; what is known of it follows
            mapped = line.endswith(str(file))
        elif mapped and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


def muons_of(info: FileInfo, *fields: str) -> list[list[float]]:
    layout = info.layout.restricted([f"offline_muons.{field}" for field in fields])
    events = readers.read(info.file, info.tree, info.uuid, layout, 0, info.entries, {}, [])
    muons = jagged(events, "offline_muons", *fields)
    return [muons.fields[field].tolist() for field in fields]


def test_files_before_take_no_memory(files: list[Path]) -> None:
    for file in files:
        muons_of(readers.inspect(str(file)), *FIELDS)
        assert [resident(other) > 0 for other in files] == [other == file for other in files]


def test_a_chunk_gives_back_the_pages_of_the_one_before(files: list[Path]) -> None:
    info = readers.inspect(str(files[0]))
    expected = muons_of(info, *FIELDS)
    all_columns = resident(files[0])
    assert muons_of(info, "pt") == expected[:1]
    assert 0 < resident(files[0]) < all_columns
    assert muons_of(info, *FIELDS) == expected  # pages come back


def test_events_outlive_the_next_file(files: list[Path]) -> None:
    info = readers.inspect(str(files[0]))
    expected = muons_of(info, "pt")
    layout = info.layout.restricted(["offline_muons.pt"])
    events = readers.read(info.file, info.tree, info.uuid, layout, 0, info.entries, {}, [])
    readers.inspect(str(files[1]))
    assert [jagged(events, "offline_muons", "pt").pt.tolist()] == expected
