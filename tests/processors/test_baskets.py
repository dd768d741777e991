"""Branches are read basket by basket just as uproot reads them, wherever a range of entries begins and ends."""

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from trila.processors import baskets
from trila.processors.baskets import Baskets
from trila.processors.local_files import LocalFile

BASKETS = (40, 1, 60)  # entries
RANGES = [(0, 101), (0, 40), (13, 29), (13, 41), (39, 42), (40, 41), (100, 101), (50, 50)]


@pytest.fixture(params=[uproot.ZSTD(5), uproot.LZ4(4), None], ids=["zstd", "lz4", "none"])
def tree(request: Any, tmp_path: Path) -> Any:
    rng = np.random.default_rng(7)
    with uproot.recreate(tmp_path / "a.root", compression=request.param) as file:
        written = file.mktree("Events", {"flat": "float64", "jagged": "var * float32", "bits": "var * uint8"})
        for entries in BASKETS:
            counts = rng.poisson(1.5, entries)
            written.extend(
                {
                    "flat": rng.normal(size=entries),
                    "jagged": ak.unflatten(rng.normal(size=counts.sum()).astype(np.float32), counts),
                    "bits": ak.unflatten(rng.integers(0, 255, counts.sum(), np.uint8), counts),
                }
            )
    return uproot.open({str(tmp_path / "a.root"): "Events"}, handler=LocalFile)


@pytest.mark.parametrize(("start", "stop"), RANGES)
def test_any_range_is_read_as_uproot_reads_it(tree: Any, start: int, stop: int) -> None:
    np.testing.assert_array_equal(
        baskets._read(tree["flat"], start, stop), tree["flat"].array(entry_start=start, entry_stop=stop)
    )
    for name in ("jagged", "bits"):
        expected = tree[name].array(entry_start=start, entry_stop=stop)
        found = baskets._read(tree[name], start, stop)
        firsts = ak.to_numpy(ak.fill_none(ak.firsts(expected), 0))
        np.testing.assert_array_equal(found.firsts(), firsts)  # before anything is kept
        assert found.counts().tolist() == ak.num(expected).tolist()
        assert found.offsets().tolist() == [0, *np.cumsum(ak.num(expected)).tolist()]
        np.testing.assert_array_equal(found.values(), ak.flatten(expected))
        assert found.values().dtype == expected.layout.content.dtype
        np.testing.assert_array_equal(found.firsts(), firsts)  # from what is kept


def test_an_awkward_array_is_taken_as_baskets() -> None:
    array = ak.Array([[9.0], [1.0, 2.0], [], [3.0]])[1:]
    found = Baskets.of(array)
    assert found.counts().tolist() == [2, 0, 1]
    assert found.values().tolist() == [1.0, 2.0, 3.0]
    assert found.firsts().tolist() == [1.0, 0.0, 3.0]


def test_a_basket_with_other_entries_than_the_branch_says_is_refused(tree: Any) -> None:
    for name in ("flat", "jagged"):
        (basket,) = baskets._baskets(tree[name], 0, 40)
        interpretation = tree[name].interpretation
        dtype = getattr(interpretation, "content", interpretation).from_dtype
        with pytest.raises(ValueError, match=f"basket 0 of branch {name} does not have 39 entries"):
            basket._replace(entries=39).read(dtype, jagged=name == "jagged")
