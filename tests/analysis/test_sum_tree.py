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


def row(name: str, dataset: str = "data", status: str = "planned") -> FileRow:
    info = FileInfo(name, "Events", name, 1, 10, (0, 10), LAYOUT, ())
    return FileRow(dataset, name, (name,), "", 1, info, 0, 10, status, "", 0.0)


def packed(weights: Any) -> bytes:
    made = hist.Hist(hist.axis.Regular(3, 0, 3, name="x"), storage=hist.storage.Weight())
    made.view()["value"] = weights
    made.view()["variance"] = weights**2
    return packing.pack(Partial({"p.x": made}))


def stored(ledger: Ledger, number: int, name: str, *weights: Any, start: int = 0) -> list[Leaf]:
    """A file's partial result, put into the ledger; of several processors, if the weights of each are given."""
    unit = Unit(name, (name,), "Events", name, "data", 0, (0,), ((start, start + 10),))
    parts = tuple(map(packed, weights or [content(name)]))
    names = [f"p{n}" for n in range(len(parts))]
    found = Packed(parts, (), None, None, 0.0)
    return ledger.store(unit, number, name, names, names, "", found)


def tree(ledger: Ledger, names: Sequence[str]) -> SumTree:
    """Of files that are all done."""
    leaves = {leaf.input: leaf for leaf in ledger.leaves()}
    done = {(n, 0): [leaves[name]] if name in leaves else [] for n, name in enumerate(names)}
    return SumTree([row(name) for name in names], done, [n for n, d in done.items() if not d], ledger)  # type: ignore[misc]


def values(sums: SumTree) -> Any:
    ((_, (partial,)),) = sums.totals()
    return partial.histograms["p.x"].values()


def bits(name: str) -> str:
    """The hash, written out."""
    return f"{int(hashlib.sha256(name.encode()).hexdigest(), 16):0256b}"


def by_halves(names: list[str], block: int, bit: int = 0) -> Any:
    """The same sum, cutting bit by bit."""
    if not names:
        return 0.0

    names = sorted(names, key=bits)
    if len(names) <= block:
        total = np.zeros(3)
        for name in names:
            total = total + content(name)
        return total
    halves = [[name for name in names if bits(name)[bit] == side] for side in "01"]
    return by_halves(halves[0], block, bit + 1) + by_halves(halves[1], block, bit + 1)


def sums_of(names: list[str], name: str) -> int:
    """Of how many sums a file is a part: its block, and all above that hold others."""
    beside = [set(names)]  # files that share the first bits with it, one bit more each time
    while len(beside[-1]) > sum_tree._BLOCK:
        bit = len(beside) - 1
        beside.append({one for one in beside[-1] if bits(one)[bit] == bits(name)[bit]})
    return len({frozenset(one) for one in beside})


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
            sums.add(int(number), dict(enumerate(stored(ledger, int(number), names[number]))))
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
        (leaf,) = stored(ledger, 1000, names[-1])
        found = values(tree(ledger, names))
        assert read.count("leaf") <= sum_tree._BLOCK + 1
        assert read.count("sum") == sums_of(names, names[-1]) < 10
        assert found.tobytes() == by_halves(names, sum_tree._BLOCK).tobytes()
        # and taken out again, nothing is made that was there
        read.clear()
        kept = tree(ledger, names[:-1])
        assert values(kept).tobytes() == by_halves(names[:-1], sum_tree._BLOCK).tobytes()
        assert read == []
        kept.prune()
        assert leaf not in ledger.leaves()
        read.clear()
        sums = ledger.rows("SELECT key FROM sums ORDER BY key")
        ledger.prune(ledger.leaves(), [])
        assert values(tree(ledger, names[:-1])).tobytes() == by_halves(names[:-1], sum_tree._BLOCK).tobytes()
        assert ledger.rows("SELECT key FROM sums ORDER BY key") == sums  # those of all nodes had been kept
        assert read.count("sum") == len(sums)


def test_a_unit_that_is_done_again_is_in_its_sums_again(tmp_path: Path) -> None:
    """Cut into other chunks, its weights add up to other last digits."""
    names = named(5)
    with Ledger(tmp_path, write=True) as ledger:
        for n, name in enumerate(names):
            stored(ledger, n, name)
        values(tree(ledger, names))
        stored(ledger, 2, names[2], content("another"))
        replaced = [*names[:2], "another", *names[3:]]
        np.testing.assert_allclose(values(tree(ledger, names)), sum(map(content, replaced)), rtol=1e-12)


def test_units_processors_and_datasets(tmp_path: Path) -> None:
    """Units in the order of their entries, each processor for itself, files that cannot be read in no sum."""
    rng = np.random.default_rng(7)
    names = named(40)
    rows = [row(name, f"data {n % 2}", "skipped" if n == 4 else "planned") for n, name in enumerate(names)]
    weights = {
        (n, start, p): rng.lognormal(0, 5, 3) for n in range(40) for start in (0, 10, 20) for p in (0, 1)
    }
    units = [(n, start) for n in range(40) if n != 4 for start in (20, 0, 10)]
    rng.shuffle(units)
    done: dict[tuple[int, int], list[Leaf]] = {(n, p): [] for n in range(40) for p in (0, 1)}
    with Ledger(tmp_path, write=True) as ledger:
        of_skipped = stored(ledger, 4, names[4], *(weights[4, 0, p] for p in (0, 1)))  # of an earlier run
        done[4, 0], done[4, 1] = [of_skipped[0]], [of_skipped[1]]
        sums = SumTree(rows, done, [n for n, _ in units], ledger)
        for n, start in units:
            leaves = stored(ledger, n, names[n], weights[n, start, 0], weights[n, start, 1], start=start)
            sums.add(n, dict(enumerate(leaves)))
        made = len(ledger.rows("SELECT key FROM sums"))
        found = dict(sums.totals())
        assert made == len(ledger.rows("SELECT key FROM sums")) == 4  # nothing was left to add up
        every = {leaf.digest: leaf for leaf in ledger.leaves()}
        counted = {leaf.digest for leaves in sums.leaves().values() for leaf in leaves}
        assert counted == set(every) - {leaf.digest for leaf in of_skipped}
        for n in range(40):
            for p in (0, 1):
                done[n, p] = [x for x in every.values() if x.input == names[n] and x.processor == f"p{p}"][
                    ::-1
                ]
        with ledger._writing():
            ledger._db.execute("UPDATE sums SET data = 'spoiled'")
        anew = dict(SumTree(rows, done, [], ledger, stored=False).totals())
    for k in (0, 1):
        files = sorted((n for n in range(k, 40, 2) if n != 4), key=lambda n: bits(names[n]))
        for p in (0, 1):
            expected = np.zeros(3)
            for n in files:
                for start in (0, 10, 20):
                    expected = expected + weights[n, start, p]
            for partials in (found, anew):
                assert partials[f"data {k}"][p].histograms["p.x"].values().tobytes() == expected.tobytes()


@pytest.mark.parametrize("out", [[3], [0, 7, 50], list(range(90))])
def test_files_that_turn_out_bad_are_as_if_they_had_not_been_given(out: list[int], tmp_path: Path) -> None:
    names = named(100)
    with Ledger(tmp_path, write=True) as ledger:
        sums = SumTree([row(n) for n in names], {(n, 0): [] for n in range(100)}, range(100), ledger)
        for number, name in enumerate(names):
            if number in out:
                sums.leave_out(number)
            else:
                sums.add(number, dict(enumerate(stored(ledger, number, name))))
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
