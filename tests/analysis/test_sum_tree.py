"""Adding up pairwise: the same bits in any order, small rounding, and little to do for one more file."""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest

from trila.analysis import sum_tree
from trila.analysis.ledger import FileRow, Leaf, Ledger
from trila.analysis.sum_tree import SumTree
from trila.processors import formats, packing
from trila.processors.partial import Partial, Unit
from trila.processors.readers import FileInfo, Layout
from trila.processors.run import Packed

LAYOUT = Layout(formats.load("cms-scouting"), "2024", {}, {})


def content(name: str) -> Any:
    """What a file adds: three weights of all sizes."""
    return np.random.default_rng(list(name.encode())).lognormal(0, 5, 3)


def row(name: str, dataset: str = "data") -> FileRow:
    info = FileInfo(name, "Events", name, 1, 10, (0, 10), LAYOUT, ())
    return FileRow(dataset, name, (name,), "", 1, info, 0, 10, "planned", "", 0.0)


def stored(ledger: Ledger, number: int, name: str) -> Leaf:
    """A file's partial result, put into the ledger."""
    made = hist.Hist(hist.axis.Regular(3, 0, 3, name="x"), storage=hist.storage.Weight())
    made.view()["value"] = content(name)
    made.view()["variance"] = content(name) ** 2
    unit = Unit(name, (name,), "Events", name, "data", 0, (0,), ((0, 10),))
    packed = Packed((packing.pack(Partial({"p.x": made})),), (), None, None, 0.0)
    (leaf,) = ledger.store(unit, number, name, ("p",), ("recipe",), "", packed)
    return leaf


def tree(ledger: Ledger, names: Sequence[str]) -> SumTree:
    """Of files that are all done."""
    leaves = {leaf.input: leaf for leaf in ledger.leaves()}
    done = {(n, 0): [leaves[name]] if name in leaves else [] for n, name in enumerate(names)}
    return SumTree([row(name) for name in names], done, [n for n, d in done.items() if not d], ledger)  # type: ignore[misc]


def values(sums: SumTree) -> Any:
    ((_, (partial,)),) = sums.totals()
    return partial.histograms["p.x"].values()


def by_halves(names: list[str], block: int, bit: int = 0) -> Any:
    """The same sum, cutting bit by bit of the hash written out."""
    if not names:
        return 0.0

    def bits(name: str) -> str:
        return f"{int(hashlib.sha256(name.encode()).hexdigest(), 16):0256b}"

    names = sorted(names, key=bits)
    if len(names) <= block:
        total = np.zeros(3)
        for name in names:
            total = total + content(name)
        return total
    halves = [[name for name in names if bits(name)[bit] == side] for side in "01"]
    return by_halves(halves[0], block, bit + 1) + by_halves(halves[1], block, bit + 1)


def named(number: int) -> list[str]:
    return [f"file {n}" for n in range(number)]


@pytest.mark.parametrize("block", [1, 3, 32])
@pytest.mark.parametrize("number", [1, 2, 40, 200])
def test_halves_are_those_of_the_hash(
    block: int, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sum_tree, "_BLOCK", block)
    names = named(number)
    with Ledger(tmp_path, write=True) as ledger:
        for n, name in enumerate(names):
            stored(ledger, n, name)
        for order in (names, names[::-1]):
            assert values(tree(ledger, order)).tobytes() == by_halves(names, block).tobytes()
    exact = [math.fsum(content(name)[k] for name in names) for k in range(3)]
    # no sum is of more than the levels of the tree and the block
    depth = block + 4 * math.log2(number + 1)
    np.testing.assert_allclose(by_halves(names, block), exact, rtol=depth * 2.0**-53)


def test_sums_are_made_as_units_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order; afterwards nothing is left to add."""
    names = named(100)
    with Ledger(tmp_path, write=True) as ledger:
        sums = SumTree([row(n) for n in names], {(n, 0): [] for n in range(100)}, range(100), ledger)
        for number in np.random.default_rng(1).permutation(100):
            sums.add(int(number), {0: stored(ledger, int(number), names[number])})
        monkeypatch.setattr(ledger, "data", None)
        monkeypatch.setattr(ledger, "store_sum", None)
        assert values(sums).tobytes() == by_halves(names, sum_tree._BLOCK).tobytes()


def test_one_more_file_costs_its_block_and_what_is_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = named(1001)
    read: list[Any] = []
    with Ledger(tmp_path, write=True) as ledger:
        for n, name in enumerate(names[:-1]):
            stored(ledger, n, name)
        values(tree(ledger, names[:-1]))
        data, store = ledger.data, ledger.store_sum
        monkeypatch.setattr(ledger, "data", lambda leaf: read.append("leaf") or data(leaf))
        monkeypatch.setattr(ledger, "store_sum", lambda *given: read.append("sum") or store(*given))
        leaf = stored(ledger, 1000, names[-1])
        sums = tree(ledger, names)
        found = values(sums)
        assert read.count("leaf") <= sum_tree._BLOCK + 1
        assert (
            read.count("sum") <= 2 + math.ceil(math.log2(1001 / 8)) + 3
        )  # a tree of hashes is not quite even
        assert found.tobytes() == by_halves(names, sum_tree._BLOCK).tobytes()
        # and taken out again, nothing is made that was there
        read.clear()
        kept = tree(ledger, names[:-1])
        assert values(kept).tobytes() == by_halves(names[:-1], sum_tree._BLOCK).tobytes()
        assert read == []
        kept.prune()
        assert leaf not in ledger.leaves()
        read.clear()
        assert values(tree(ledger, names[:-1])).tobytes() == by_halves(names[:-1], sum_tree._BLOCK).tobytes()
        assert read == []


@pytest.mark.parametrize("out", [[3], [0, 7, 50], list(range(90))])
def test_files_that_turn_out_bad_are_as_if_they_had_not_been_given(out: list[int], tmp_path: Path) -> None:
    names = named(100)
    with Ledger(tmp_path, write=True) as ledger:
        sums = SumTree([row(n) for n in names], {(n, 0): [] for n in range(100)}, range(100), ledger)
        for number, name in enumerate(names):
            if number in out:
                sums.leave_out(number)
            else:
                sums.add(number, {0: stored(ledger, number, name)})
        left = [name for number, name in enumerate(names) if number not in out]
        assert {leaf.input for leaf in sums.leaves()["data"]} == set(left)
        assert values(sums).tobytes() == by_halves(left, sum_tree._BLOCK).tobytes()
        sums.prune()
        kept = len(ledger.rows("SELECT key FROM sums"))
        values(tree(ledger, left))
        assert len(ledger.rows("SELECT key FROM sums")) == kept


def test_memory_holds_one_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files there are; the sums below are there as packed bytes."""
    alive: list[weakref.ref[Any]] = []
    most = 0

    class Counted(packing.Total):
        def __init__(self) -> None:
            nonlocal most
            super().__init__()
            alive.append(weakref.ref(self))
            most = max(most, sum(one() is not None for one in alive))

    monkeypatch.setattr(sum_tree, "Total", Counted)
    names = named(200)
    with Ledger(tmp_path, write=True) as ledger:
        for n, name in enumerate(names):
            stored(ledger, n, name)
        sums = tree(ledger, names)
        assert values(sums).tobytes() == by_halves(names, sum_tree._BLOCK).tobytes()
    assert len(alive) > 10
    assert most == 1
