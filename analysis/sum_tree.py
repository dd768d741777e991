"""Add up what the ledger holds, pairwise up a tree.

At the bottom of the tree are blocks of at most 32 files, which are added up one after the other; above, two sums make one.
Files stand in the order of a hash of their uuids, and where there are more of them they are cut in two at the highest bit in
which their hashes differ. So the tree depends on which files there are, and not on the order in which they came, or on the
runs that they came from: a result after ten updates is, bit for bit, that of one run over the final list. The ledger keeps
each sum under what it is made of: one more file costs its block and the pairs above it. Above blocks, rounding grows with the
logarithm of the number of files (N. J. Higham, SIAM J. Sci. Comput. 14 (1993) 783, doi:10.1137/0914050).
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from trila.analysis.ledger import FileRow, Leaf, Ledger
from trila.processors.packing import Total
from trila.processors.partial import Partial
from trila.processors.recipes import digest

__all__ = ["SumTree", "order"]

#: Files of a block: larger ones make a run cheaper, smaller ones an update. The sum of a pair costs as much as some four
#: files, as it is packed and stored.
_BLOCK = 32


def order(uuid: str) -> int:
    """A number by which files are put in order."""
    return int.from_bytes(hashlib.sha256(uuid.encode()).digest()[:8], "big")


def _joint(parts: Sequence[Leaf | str]) -> Leaf | str | None:
    """What a sum is made of, as of `_Node.keys`: of leaves, what is in them."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return digest([part.digest if isinstance(part, Leaf) else part for part in parts])


class _File(NamedTuple):
    """A file that is added up; `number` is its place in the plan."""

    order: int
    uuid: str
    number: int


class _Node:
    """Files that are added up: a block, or two halves.

    Args:
        files: in their order.
        above: the node that this is a half of.

    Attributes:
        waiting: units of the files that are not done.
        keys: what its sums are made of, by position of the processor: a single leaf, or the key of several; None for nothing.
    """

    def __init__(self, files: Sequence[_File], above: "_Node | None" = None) -> None:
        self.files, self.above = files, above
        self.halves: list[_Node] = []
        self.waiting = 0
        self.keys: dict[int, Leaf | str | None] = {}
        differing = files[0].order ^ files[-1].order
        if len(files) > _BLOCK and differing:
            bit = differing.bit_length() - 1
            cut = bisect_left(files, files[-1].order >> bit << bit, key=lambda file: file.order)
            self.halves = [_Node(files[:cut], self), _Node(files[cut:], self)]

    def up(self) -> Iterator["_Node"]:
        """This one, that above it, and so on."""
        yield self
        if self.above is not None:
            yield from self.above.up()

    def nodes(self) -> Iterator["_Node"]:
        """This one, and all below."""
        yield self
        for half in self.halves:
            yield from half.nodes()


class SumTree:
    """Sums over the files of each dataset, for each processor.

    Args:
        files: of the plan.
        done: (place of a file in the plan, position of a processor) to results that are there.
        to_do: units that are not done: of each, its file's place in the plan.
        ledger: where results and sums are.
        stored: use sums that are there, and keep new ones.
    """

    def __init__(
        self, files: Sequence[FileRow], done: Mapping[tuple[int, int], Sequence[Leaf]], to_do: Sequence[int], ledger: Ledger, *,
        stored: bool = True,
    ) -> None:  # fmt: skip
        self._ledger, self._stored = ledger, stored
        self._leaves = {key: list(leaves) for key, leaves in done.items()}
        self._positions = range(1 + max((position for _, position in done), default=-1))
        self._files: dict[str, list[_File]] = {row.dataset: [] for row in files}
        for number, row in enumerate(files):
            if row.status != "skipped" and row.info is not None:
                self._files[row.dataset].append(_File(order(row.info.uuid), row.info.uuid, number))
        for files_of in self._files.values():
            files_of.sort()
        self._left_out = set[int]()
        # sums are made when the last of their units is done, while others are under way
        self._block = {
            file.number: node
            for root in self._roots().values()
            for node in root.nodes()
            if not node.halves
            for file in node.files
        }
        for number in to_do:
            for node in self._block[number].up():
                node.waiting += 1

    def _counted(self) -> dict[str, list[_File]]:
        """Files that are counted, of each dataset that has some, in the order of their names."""
        counted = {
            name: [file for file in files if file.number not in self._left_out]
            for name, files in sorted(self._files.items())
        }
        return {name: files for name, files in counted.items() if files}

    def _roots(self) -> dict[str, _Node]:
        """A tree for each dataset."""
        return {name: _Node(files) for name, files in self._counted().items()}

    def add(self, file: int, leaves: Mapping[int, Leaf]) -> None:
        """A unit is done.

        Args:
            file: its file's place in the plan.
            leaves: what came of it, by position of the processor.
        """
        for position, leaf in leaves.items():
            self._leaves[file, position].append(leaf)
        for node in self._block[file].up():
            node.waiting -= 1
            if not node.waiting:
                for position in self._positions:
                    self._sum(node, position)

    def leave_out(self, file: int) -> None:
        """A file is not to be counted."""
        self._left_out.add(file)

    def totals(self) -> Iterator[tuple[str, list[Partial]]]:
        """Datasets in the order of their names, and the sum of each processor."""
        for name, root in self._roots().items():
            yield name, [self._added([self._sum(root, position)]).partial() for position in self._positions]

    def leaves(self) -> dict[str, list[Leaf]]:
        """What is added up, by dataset."""
        return {
            name: [
                leaf
                for file in files
                for position in self._positions
                for leaf in self._leaves[file.number, position]
            ]
            for name, files in self._counted().items()
        }

    def prune(self) -> None:
        """Drop stored results that are of no more use.

        Those of files that were skipped half-way are kept: the file may be readable another time.
        """
        nodes = [node for root in self._roots().values() for node in root.nodes()]
        keys = (self._key(node, position) for node in nodes for position in self._positions)
        self._ledger.prune(
            (leaf for leaves in self._leaves.values() for leaf in leaves),
            (key for key in keys if isinstance(key, str)),
        )

    def _of(self, node: _Node, position: int) -> list[Leaf]:
        """What is added up in a node."""
        return [
            leaf
            for file in node.files
            for leaf in sorted(self._leaves[file.number, position], key=lambda leaf: leaf.start)
        ]

    def _key(self, node: _Node, position: int) -> Leaf | str | None:
        """As of `_Node.keys`, all units being done."""
        if position not in node.keys:
            parts = [self._key(half, position) for half in node.halves] or self._of(node, position)
            node.keys[position] = _joint([part for part in parts if part is not None])
        return node.keys[position]

    def _sum(self, node: _Node, position: int) -> bytes | None:
        """The packed sum of a node, made where it is not there; None for nothing. A single leaf is its own sum."""
        key = self._key(node, position)
        if key is None or isinstance(key, Leaf):
            return None if key is None else self._ledger.data(key)
        found = self._ledger.sum(key) if self._stored else None
        if found is None:
            # one after the other, before memory is taken for their sum
            halves = [self._sum(half, position) for half in node.halves]
            leaves = (self._ledger.data(leaf) for leaf in self._of(node, position))
            found = self._added(halves or leaves).packed()
            if self._stored:
                self._ledger.store_sum(key, found)
        return found

    @staticmethod
    def _added(parts: Iterable[bytes | None]) -> Total:
        total = Total()
        for part in parts:
            if part is not None:
                total.add(part)
        return total
