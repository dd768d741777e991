"""Values of events for their objects, against NumPy's repetition; and counts of objects that cannot be."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from trila.processors import readers
from trila.processors.columns import Jagged, jagged
from trila.processors.errors import BadFile


@pytest.mark.parametrize("counts", [[], [0, 0], [1], [7], [0, 3, 1, 0, 9, 2], [5, 0, 0, 0], [0, 0, 1]])
@pytest.mark.parametrize("dtype", [np.float64, np.bool_])
def test_spread_repeats_the_value_of_an_event(counts: list[int], dtype: type) -> None:
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    values = np.arange(1, len(counts) + 1).astype(dtype)
    values[::2] = 0
    found = Jagged(offsets, {}).spread(values)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, np.repeat(values, counts))


@pytest.mark.parametrize("entry", [1, 150])
@pytest.mark.parametrize("bit", [11, 20, 30])
def test_offsets_that_fall_are_refused(entry: int, bit: int, tmp_path: Path) -> None:
    """One bit of a basket's offsets is wrong, in a file whose branches have no counter: loops would leave their arrays."""
    counts = np.array([3, 1, 2, 2] * 50)
    columns = {
        f"Muon_{name}": ak.unflatten(np.linspace(1, 2, 400, dtype=np.float32), counts)
        for name in ("pt", "eta", "phi", "mass")
    } | {"Muon_charge": ak.unflatten(np.resize([1, -1], 400).astype(np.int32), counts)}
    path = tmp_path / "muons.root"
    with uproot.recreate(path, compression=None) as file:
        file.mktree(
            "Events", {name: f"var * {ak.type(c).content.content}" for name, c in columns.items()}
        ).extend(columns)
    content = bytearray(path.read_bytes())
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    table = next(  # of the first branch, after its key, whose length is added to each offset
        place
        for key in range(40, 200)
        if (place := content.find((4 * starts + key).astype(">i4").tobytes())) > 0
    )
    content[table + 4 * entry + 3 - bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    info = readers.inspect(str(path))
    metadata = {"dataset": "a", "treename": info.tree}
    events = readers.read(info.file, info.tree, info.uuid, info.layout, 0, 200, metadata, [])
    message = r"muons.root: the number of offline_muons is -\d+ in entry \d+; none or more are expected. The file is damaged"
    with pytest.raises(BadFile, match=message):
        jagged(events, "offline_muons", "eta")
