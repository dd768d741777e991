"""Branches as they lie in the file, for coffea's lazy columns.

uproot can give a jagged branch as an awkward array alone, with offsets of its own. The canonical event has one set of
offsets for all branches of a collection, and needs but the contents; so the baskets are left as they are until a
transform takes from them what it needs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot
from coffea.nanoevents.mapping import UprootSourceMapping
from numpy.typing import NDArray

__all__ = ["Baskets", "BranchMapping"]


class _Piece(NamedTuple):
    """A range of entries of one basket; objects of entry i are `contents[offsets[i] : offsets[i + 1]]`."""

    offsets: NDArray[Any]
    contents: NDArray[Any]


class Baskets:
    """A jagged branch, piece by piece, in the byte order of the file."""

    def __init__(self, pieces: Sequence[_Piece], dtype: Any) -> None:
        self.pieces = pieces
        self.dtype = np.dtype(dtype).newbyteorder("=")

    @classmethod
    def of(cls, column: Any) -> "Baskets":
        """Any jagged column: baskets themselves, or an awkward array."""
        if isinstance(column, cls):
            return column
        layout = ak.Array(column).layout.to_ListOffsetArray64(True)
        contents = np.asarray(layout.content.data)
        return cls([_Piece(layout.offsets.data, contents)], contents.dtype)

    def counts(self) -> NDArray[Any]:
        """The number of objects in each entry."""
        counts = [piece.offsets[1:] - piece.offsets[:-1] for piece in self.pieces]
        return np.concatenate(counts) if counts else np.empty(0, np.int64)

    def offsets(self) -> NDArray[np.int64]:
        """Where the objects of each entry begin and end among all, from 0."""
        return np.concatenate([[0], np.cumsum(self.counts())]).astype(np.int64)

    def have(self, counts: NDArray[Any]) -> bool:
        """Whether each entry has the given number of objects."""
        start = 0
        for offsets, _ in self.pieces:  # a basket's offsets fit the cache of the processor
            stop = start + len(offsets) - 1
            if not np.array_equal(offsets[1:] - offsets[:-1], counts[start:stop]):
                return False
            start = stop
        return start == len(counts)

    def values(self) -> NDArray[Any]:
        """All objects, one after the other."""
        values = np.empty(sum(int(offsets[-1] - offsets[0]) for offsets, _ in self.pieces), self.dtype)
        start = 0
        for offsets, contents in self.pieces:
            stop = start + int(offsets[-1] - offsets[0])
            values[start:stop] = contents[offsets[0] : offsets[-1]]
            start = stop
        return values

    def firsts(self) -> NDArray[Any]:
        """The first object of each entry, 0 where there is none."""
        firsts = np.zeros(sum(len(offsets) - 1 for offsets, _ in self.pieces), self.dtype)
        start = 0
        for offsets, contents in self.pieces:
            filled = np.flatnonzero(offsets[1:] > offsets[:-1])
            firsts[start + filled] = contents[offsets[filled]]
            start += len(offsets) - 1
        return firsts


class _AsBaskets(uproot.AsJagged):
    """uproot's interpretation of a jagged branch, but for what is made of its baskets."""

    def final_array(
        self, basket_arrays: Any, entry_start: int, entry_stop: int, entry_offsets: Any, *_: Any
    ) -> Baskets:
        pieces = []
        for number in sorted(basket_arrays):
            start, stop = entry_offsets[number], entry_offsets[number + 1]
            inside = slice(max(entry_start, start) - start, min(entry_stop, stop) - start + 1)
            basket = basket_arrays[number]
            pieces.append(_Piece(basket.offsets[inside], basket.content))
        return Baskets(pieces, self.content.to_dtype)


class BranchMapping(UprootSourceMapping):
    """coffea's columns of a tree, with jagged branches of plain numbers as `Baskets` and flat ones as NumPy arrays."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # columns of a collection share its counter, and fractions the four-vector: read once, if not kept for long
        self._recent = uproot.LRUCache(8)

    def extract_column(
        self, columnhandle: Any, start: int, stop: int, allow_missing: bool, use_ak_forth: bool = True
    ) -> Any:
        """Entries of a branch, as coffea's mapping asks for them."""
        interpretation: Any = getattr(columnhandle, "interpretation", None)  # an RNTuple has none
        if type(interpretation) is uproot.AsJagged and type(interpretation.content) is uproot.AsDtype:
            interpretation = _AsBaskets(interpretation.content, interpretation.header_bytes)
        elif type(interpretation) is not uproot.AsDtype:
            return super().extract_column(columnhandle, start, stop, allow_missing, use_ak_forth)
        if columnhandle.name not in self._recent:
            self._recent[columnhandle.name] = columnhandle.array(
                interpretation, start, stop, library="np", array_cache=None,
                decompression_executor=self.decompression_executor,
                interpretation_executor=self.interpretation_executor,
            )  # fmt: skip
        return self._recent[columnhandle.name]
