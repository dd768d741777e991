"""Branches as they lie in the file, for coffea's lazy columns.

uproot can give a jagged branch as an awkward array alone, with offsets of its own. The canonical event has one set of
offsets for all branches of a collection, and needs but the contents; so the baskets are left as they are until a
transform takes from them what it needs.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import pyarrow as pa
import uproot
from coffea.nanoevents.mapping import UprootSourceMapping
from numpy.typing import NDArray
from uproot.source.chunk import Chunk
from uproot.source.cursor import Cursor

from trila.processors.local_files import LocalFile

__all__ = ["Baskets", "BranchMapping"]


class _Piece(NamedTuple):
    """A range of entries; objects of entry i are `contents[offsets[i] : offsets[i + 1]]`."""

    offsets: NDArray[Any]
    contents: NDArray[Any]


class _Basket(NamedTuple):
    """One basket of a branch, as it lies in the file.

    Attributes:
        branch, number: which.
        stored: as compressed, without its header.
        entries: how many the branch says it has.
        inside: those that are asked for.
        key: bytes of the header.
        border: bytes of contents; offsets follow in a jagged branch.
        size: bytes of both.
    """

    branch: Any
    number: int
    stored: NDArray[np.uint8]
    entries: int
    inside: slice
    key: int
    border: int
    size: int

    def read(self, dtype: np.dtype[Any], jagged: bool) -> _Piece:
        """The entries that are asked for; of a flat branch with no offsets.

        Raises:
            ValueError: the basket has another number of entries than the branch says.
        """
        data = self._decompressed()
        contents = data[: self.border].view(dtype)
        offsets = np.empty(0, np.int32)
        if jagged:  # bytes from the beginning of the header, after their own number; the last is not set
            offsets = data[self.border :].view(">i4")[1:].astype(np.int32)
            offsets -= self.key
            offsets[-1] = self.border
            offsets //= dtype.itemsize
        if (len(offsets) - 1 if jagged else len(contents)) != self.entries:
            raise ValueError(
                f"basket {self.number} of branch {self.branch.name} does not have {self.entries} entries"
            )
        if jagged:
            return _Piece(offsets[self.inside.start : self.inside.stop + 1], contents)
        return _Piece(offsets, contents[self.inside])

    def _decompressed(self) -> NDArray[np.uint8]:
        if len(self.stored) == self.size:
            return np.array(self.stored)
        # algorithm, method, and sizes before and after in three bytes each
        header = self.stored[:9].tobytes()
        sizes = int.from_bytes(header[3:6], "little"), int.from_bytes(header[6:9], "little")
        if header[:2] == b"ZS" and sizes == (len(self.stored) - 9, self.size):  # faster than uproot's way
            return np.frombuffer(_ZSTD.decompress(self.stored[9:], self.size), np.uint8)
        chunk, cursor = Chunk.wrap(self.branch.file.source, self.stored), Cursor(0)
        return np.asarray(
            uproot.compression.decompress(chunk, cursor, {}, len(self.stored), self.size).raw_data
        )


_ZSTD = pa.Codec("zstd")
_KEY = struct.Struct(
    ">6xi4xh"
)  # of TKey: its own size and version; size of the object; date; size of the key
_END_OF_KEY = struct.Struct(">ix")  # of TBasket, behind the key's names: where contents end; a flag


def _baskets(branch: Any, start: int, stop: int) -> list[_Basket]:
    """Those of a branch that have entries from start to stop."""
    found = []
    for number, (first, end) in enumerate(pairwise(branch.entry_offsets)):
        if first < stop and start < end:
            raw: Any = np.asarray(branch.basket_chunk_cursor(number)[0].raw_data)
            size, key = _KEY.unpack_from(raw)
            (last,) = _END_OF_KEY.unpack_from(raw, key - _END_OF_KEY.size)
            inside = slice(max(start, first) - first, min(stop, end) - first)
            found.append(_Basket(branch, number, raw[key:], end - first, inside, key, last - key, size))
    return found


class Baskets:
    """A jagged branch: baskets are decompressed when they are asked for, one at a time.

    What is needed of one is taken while it is in the cache of the processor.
    """

    def __init__(self, baskets: Sequence[_Basket], dtype: np.dtype[Any]) -> None:
        self._baskets = baskets
        self._stored = dtype
        self.dtype = dtype.newbyteorder("=")
        self._loaded: tuple[NDArray[np.int32], NDArray[Any]] | None = None

    @classmethod
    def of(cls, column: Any) -> "Baskets":
        """Any jagged column: baskets themselves, or an awkward array."""
        if isinstance(column, cls):
            return column
        layout = ak.Array(column).layout.to_ListOffsetArray64(True)
        contents = np.asarray(layout.content.data)
        baskets = cls([], contents.dtype)
        baskets._loaded = np.diff(layout.offsets.data).astype(np.int32), contents[: layout.offsets[-1]]
        return baskets

    def _pieces(self) -> Iterator[_Piece]:
        return (basket.read(self._stored, jagged=True) for basket in self._baskets)

    def _load(self) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Counts and values."""
        if self._loaded is None:
            counts = np.empty(sum(b.inside.stop - b.inside.start for b in self._baskets), np.int32)
            # at most: a basket may have more entries than are asked for
            values = np.empty(sum(b.border for b in self._baskets) // self.dtype.itemsize, self.dtype)
            entry, stop = 0, 0
            for offsets, contents in self._pieces():
                np.subtract(offsets[1:], offsets[:-1], out=counts[entry : entry + len(offsets) - 1])
                entry += len(offsets) - 1
                found = contents[offsets[0] : offsets[-1]]
                values[stop : stop + len(found)] = found
                stop += len(found)
            self._loaded = counts, values[:stop]
            self._baskets = []  # nothing more is asked of them
        return self._loaded

    def counts(self) -> NDArray[np.int32]:
        """The number of objects in each entry."""
        return self._load()[0]

    def offsets(self) -> NDArray[np.int64]:
        """Where the objects of each entry begin and end among all, from 0."""
        return np.concatenate([[0], np.cumsum(self.counts(), dtype=np.int64)])

    def values(self) -> NDArray[Any]:
        """All objects, one after the other."""
        return self._load()[1]

    def firsts(self) -> NDArray[Any]:
        """The first object of each entry, 0 where there is none; other objects are not kept."""
        pieces = self._pieces() if self._loaded is None else [_Piece(self.offsets(), self.values())]
        firsts = [np.zeros(0, self.dtype)]
        for offsets, contents in pieces:
            filled = offsets[1:] > offsets[:-1]
            firsts.append(np.zeros(len(filled), self.dtype))
            firsts[-1][filled] = contents[offsets[:-1][filled]]
        return np.concatenate(firsts)


def _read(branch: Any, start: int, stop: int) -> Baskets | NDArray[Any]:
    """Entries of a branch that `_is_plain`, without uproot's way through queues and executors for each basket."""
    baskets = _baskets(branch, start, stop)
    if type(branch.interpretation) is uproot.AsJagged:
        return Baskets(baskets, branch.interpretation.content.from_dtype)
    dtype = branch.interpretation.from_dtype
    values = np.empty(stop - start, dtype.newbyteorder("="))
    entry = 0
    for basket in baskets:
        contents = basket.read(dtype, jagged=False).contents
        values[entry : entry + len(contents)] = contents
        entry += len(contents)
    return values


def _is_plain(branch: Any) -> bool:
    """Whether a branch is of numbers, flat or jagged once, in complete baskets of a local file."""
    interpretation = branch.interpretation
    if type(interpretation) is uproot.AsJagged and interpretation.header_bytes == 0:
        interpretation = interpretation.content
    return (
        type(interpretation) is uproot.AsDtype
        and interpretation.from_dtype.shape == ()
        and isinstance(branch.file.source, LocalFile)
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
