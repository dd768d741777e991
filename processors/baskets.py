"""Branches as they lie in the file, for coffea's lazy columns.

uproot can give a jagged branch as an awkward array alone, with offsets of its own. The canonical event has one set of
offsets for all branches of a collection, and needs but the contents; so the baskets are left as they are until a
transform takes from them what it needs.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import pyarrow as pa
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
        self.pieces = list(pieces)
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self._values: NDArray[Any] | None = None

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
        """All objects, one after the other; from then on there is no other copy of them."""
        if self._values is None:
            sizes = [int(offsets[-1] - offsets[0]) for offsets, _ in self.pieces]
            self._values = np.empty(sum(sizes), self.dtype)
            stop = 0
            for number, (size, (offsets, contents)) in enumerate(zip(sizes, self.pieces, strict=True)):
                values = self._values[stop : stop + size]
                values[:] = contents[offsets[0] : offsets[-1]]
                self.pieces[number] = _Piece(offsets - offsets[0], values)
                stop += size
        return self._values

    def firsts(self) -> NDArray[Any]:
        """The first object of each entry, 0 where there is none."""
        firsts = np.zeros(sum(len(offsets) - 1 for offsets, _ in self.pieces), self.dtype)
        start = 0
        for offsets, contents in self.pieces:
            filled = np.flatnonzero(offsets[1:] > offsets[:-1])
            firsts[start + filled] = contents[offsets[filled]]
            start += len(offsets) - 1
        return firsts


_ZSTD = pa.Codec("zstd")


def _decompressed(chunk: Any, cursor: Any, size: int) -> NDArray[np.uint8]:
    """What a basket holds after its header, where the cursor is; `size` bytes."""
    stored = chunk.raw_data[cursor.index - chunk.start :]
    if len(stored) == size:
        return np.array(stored)
    header = stored[:9].tobytes()  # algorithm, method, and sizes before and after in three bytes each
    sizes = int.from_bytes(header[3:6], "little"), int.from_bytes(header[6:9], "little")
    if header[:2] == b"ZS" and sizes == (len(stored) - 9, size):  # Arrow is faster than what uproot uses
        return np.frombuffer(_ZSTD.decompress(stored[9:], size), np.uint8)
    return np.asarray(uproot.compression.decompress(chunk, cursor, {}, len(stored), size).raw_data)


def _piece(branch: Any, number: int, dtype: Any, jagged: bool) -> _Piece:
    """A basket; of a flat branch with no offsets.

    Raises:
        ValueError: it has another number of entries than the branch says.
    """
    chunk, cursor = branch.basket_chunk_cursor(number)
    basket = uproot.models.TBasket.Model_TBasket.read(
        chunk, cursor.copy(), {"basket_num": number, "read_basket": False}, branch.file, branch.file, branch
    )
    cursor.skip(basket.member("fKeylen"))
    data = _decompressed(chunk, cursor, basket.member("fObjlen"))
    contents = data[: basket.border].view(dtype)
    offsets = np.empty(0, np.int32)
    if (
        jagged
    ):  # positions of bytes from the beginning of the header, after their own number; the last is not set
        offsets = data[basket.border :].view(">i4")[1:].astype(np.int32)
        offsets -= basket.member("fKeylen")
        offsets[-1] = basket.border
        offsets //= contents.itemsize
    entries = branch.entry_offsets[number + 1] - branch.entry_offsets[number]
    if (len(offsets) - 1 if jagged else len(contents)) != entries:
        raise ValueError(f"basket {number} of branch {branch.name} does not have {entries} entries")
    return _Piece(offsets, contents)


def _read(branch: Any, start: int, stop: int) -> Baskets | NDArray[Any]:
    """Entries of a branch that `_is_plain`, without uproot's way through queues and executors for each basket."""
    jagged = type(branch.interpretation) is uproot.AsJagged
    dtype = (branch.interpretation.content if jagged else branch.interpretation).from_dtype
    pieces = []
    for number, (first, end) in enumerate(pairwise(branch.entry_offsets)):
        if first < stop and start < end:
            offsets, contents = _piece(branch, number, dtype, jagged)
            inside = slice(max(start, first) - first, min(stop, end) - first)
            if jagged:
                pieces.append(_Piece(offsets[inside.start : inside.stop + 1], contents))
            else:
                pieces.append(_Piece(offsets, contents[inside]))
    if jagged:
        return Baskets(pieces, dtype)
    return np.concatenate([np.empty(0, dtype), *(p.contents for p in pieces)]).astype(dtype.newbyteorder("="))


def _is_plain(branch: Any) -> bool:
    """Whether a branch is of numbers, flat or jagged once, in complete baskets of a local file."""
    interpretation = branch.interpretation
    if type(interpretation) is uproot.AsJagged and interpretation.header_bytes == 0:
        interpretation = interpretation.content
    return (
        type(interpretation) is uproot.AsDtype
        and interpretation.from_dtype.shape == ()
        and isinstance(branch.file.source, uproot.MemmapSource)
        and not branch.embedded_baskets
    )


class BranchMapping(UprootSourceMapping):
    """coffea's columns of a tree, with jagged branches of plain numbers as `Baskets` and flat ones as NumPy arrays."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # columns of a collection share its counter, and fractions the four-vector: read once, if not kept for long
        self._recent = uproot.LRUCache(16)

    def extract_column(
        self, columnhandle: Any, start: int, stop: int, allow_missing: bool, use_ak_forth: bool = True
    ) -> Any:
        """Entries of a branch, as coffea's mapping asks for them."""
        if not isinstance(columnhandle, uproot.TBranch):
            return super().extract_column(columnhandle, start, stop, allow_missing, use_ak_forth)
        key = columnhandle.cache_key
        if key not in self._recent:
            self._recent[key] = (
                _read(columnhandle, start, stop)
                if _is_plain(columnhandle)
                else super().extract_column(columnhandle, start, stop, allow_missing, use_ak_forth)
            )
        return self._recent[key]
