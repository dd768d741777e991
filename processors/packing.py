"""Partial results as bytes: sparse, compressed, without code in them, and added up one after the other.

Histograms of a part of the data are mostly empty, and mostly hold small whole numbers: what is kept are the places of the
bins that are not, and their contents in as few bytes as hold them exactly. A byte string is an lz4 frame of

    [length, 8 bytes][forms, JSON][length, 8 bytes][counts, JSON][arrays, as `packed_arrays` writes them]

The forms say what the histograms and the cutflow are: they are the same in all units of a processor, and are understood
once for all that are added up. The counts say what this one holds: of histograms that have chunks their keys, how
variances are told, and kind and size of each array. Of each histogram there are

* the places of the bins that are not empty, in the order of the memory that holds them (first axis fastest; chunks one
  after the other, the last axis fastest in each), as distances from the one before;
* their contents;
* their variances: nothing, if they are the contents ("same": entries of weight 1); else ("squares") a bit for each bin in
  which they are not the squares of the contents, as they are for a single entry, and those.

It may come from others (it is part of a RESULT): reading it runs nothing, and takes no more memory than `LARGEST`.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hist
import lz4.frame
import numpy as np
from boost_histogram.serialization import to_uhi
from hist.chunked import ChunkedHist
from numpy.typing import NDArray

from trila.processors.cutflow import Cutflow
from trila.processors.errors import InputError
from trila.processors.packed_arrays import (
    Bits,
    Stored,
    add,
    filled,
    joined,
    smallest,
    split,
    squares,
    variances,
)
from trila.processors.partial import Partial

__all__ = ["LARGEST", "Total", "pack", "unpack"]

#: Bytes that a partial result may take when it is unpacked.
LARGEST = 4_000_000_000
#: Bytes of JSON in it, which takes twenty times as many as objects.
_LONGEST = 16_000_000
#: Storages that add up bin by bin: type of their numbers, and how many a bin has.
_STORAGES = {"int": ("i8", 1), "double": ("f8", 1), "weighted": ("f8", 2)}
#: Axes that chunks are of, and what their keys are.
_KEYS: dict[str, type] = {"category_int": int, "category_str": str}


def pack(partial: Partial) -> bytes:
    """A partial result as bytes.

    Raises:
        InputError: a histogram is of a kind that does not add up bin by bin.
    """
    writer = _Writer()
    for name, histogram in partial.histograms.items():
        if isinstance(histogram, ChunkedHist):
            keys = sorted(histogram)
            empty: hist.Hist[Any] = hist.Hist(
                *histogram.axes, storage=histogram.storage_type(), name=histogram.name, label=histogram.label
            )
            form = _form(empty, histogram.dense_view_shape, chunked=True)
            parts = [histogram.chunks[key].reshape(-1) for key in keys]
            together = np.concatenate([np.zeros(0, histogram.dense_view_dtype), *parts])
            writer.add(name, form, _numbers(together), keys)
        else:
            form = _form(histogram, histogram.axes.extent, chunked=False)
            writer.add(name, form, _memory(histogram), None)
    return writer.bytes(partial.cutflow)


def unpack(data: bytes) -> Partial:
    """A partial result from bytes.

    Raises:
        InputError: the bytes are not of this form, or too large.
    """
    total = Total()
    total.add(data)
    return total.partial()


class Total:
    """The sum of packed partial results: takes the memory of one, however many are added."""

    def __init__(self) -> None:
        self._text = b""
        self._forms: dict[str, Any] = {}
        self._room = _Room()
        self._sums: dict[str, _Sum] = {}
        self._grown: dict[str, hist.Hist[Any]] = {}
        self._cutflow: Cutflow | None = None

    def add(self, data: bytes) -> None:
        """Add one.

        Raises:
            InputError: the bytes are not of this form, or too large.
        """
        with _understood():
            text, counts, arrays = _open(data)
            if text != self._text:
                self._expect(text)
            for name, form in self._forms["histograms"].items():
                count = counts[name]
                gaps, columns = _read(form["storage"], count["variances"], arrays)
                if not form["grows"]:
                    self._sums[name].add(count["chunks"], gaps, columns)
                    continue
                # histograms whose categories grow know themselves how to be added
                one = _Sum(form, _Room())
                one.add(None, gaps, columns)
                other = one.result()
                self._grown[name] = self._grown[name] + other if name in self._grown else other
            if self._forms["cutflow"] is not None:
                flow = _cutflow(self._forms["cutflow"], arrays)
                self._cutflow = flow if self._cutflow is None else self._cutflow + flow

    def packed(self) -> bytes:
        """What was added up, as bytes."""
        writer = _Writer()
        for name in sorted(self._sums.keys() | self._grown.keys()):
            if name in self._sums:
                one = self._sums[name]
                writer.add(name, one.form, *one.ordered())
            else:
                grown = self._grown[name]
                writer.add(name, _form(grown, grown.axes.extent, chunked=False), _memory(grown), None)
        return writer.bytes(self._cutflow)

    def partial(self) -> Partial:
        """What was added up.

        Raises:
            InputError: as `add`.
        """
        with _understood():
            histograms = {name: one.result() for name, one in self._sums.items()} | self._grown
        return Partial(dict(sorted(histograms.items())), self._cutflow)

    def _expect(self, text: bytes) -> None:
        """What follows is of these forms."""
        forms = json.loads(text)
        for name, form in forms["histograms"].items():
            before = self._sums.get(name)
            if form["grows"] if before is not None else name in self._grown and not form["grows"]:
                raise ValueError("a histogram grows here and not there")
            if before is not None and form != before.form:
                raise ValueError("histograms of different axes do not add up")
            if before is None and not form["grows"]:
                self._sums[name] = _Sum(form, self._room)
        self._forms, self._text = forms, text


class _Writer:
    """A byte string in the making."""

    def __init__(self) -> None:
        self._forms: dict[str, Any] = {}
        self._counts: dict[str, Any] = {}
        self._arrays: list[Stored] = []

    def add(
        self, name: str, form: dict[str, Any], memory: Bits, chunks: list[tuple[Any, ...]] | None
    ) -> None:
        """A histogram.

        Args:
            name: of it.
            form: what it is.
            memory: of its bins, shape (bins, numbers of a bin).
            chunks: their keys, if it has chunks.
        """
        kind, width = _STORAGES[form["storage"]]
        gaps, numbers = filled(memory)
        columns, rule = numbers.view(kind), None
        self._arrays += [smallest(gaps), smallest(columns[0])]
        if width == 2:
            rule = "same" if np.array_equal(*columns) else "squares"
            self._arrays += [smallest(array) for array in squares(*columns) if rule == "squares"]
        self._forms[name], self._counts[name] = form, {"variances": rule, "chunks": chunks}

    def bytes(self, cutflow: Cutflow | None) -> bytes:
        """The histograms that were added, and a cutflow."""
        if cutflow is not None:
            self._arrays += [smallest(array) for array in (cutflow.events, cutflow.sumw, cutflow.sumw2)]
        forms = {"histograms": self._forms, "cutflow": None if cutflow is None else list(cutflow.cuts)}
        arrays = [(array.kind, array.numbers.size) for array in self._arrays]
        start = b""
        for content in (forms, {"histograms": self._counts, "arrays": arrays}):
            text = json.dumps(content).encode()
            start += len(text).to_bytes(8, "little") + text
        return bytes(lz4.frame.compress(split(start, self._arrays)))


class _Room:
    """Bytes that may still be taken."""

    def __init__(self) -> None:
        self.left = LARGEST

    def take(self, size: int, what: str) -> None:
        if size > self.left:
            raise ValueError(f"{what} would take {size} bytes; expected at most {self.left}")
        self.left -= size


class _Sum:
    """One histogram being added up, as arrays: a row for each of its chunks, or a single one."""

    def __init__(self, form: dict[str, Any], room: _Room) -> None:
        self.form = form
        kind, self._width = _STORAGES[form["storage"]]
        shape = [int(n) for n in form["shape"]]
        self._cells = math.prod(shape)
        bins = math.prod(_extent(axis) for axis in form["axes"])
        if min(shape, default=0) < 0 or 8 * self._width * bins > LARGEST:  # before the axes are made
            raise ValueError(f"a histogram of shape {shape}, up to {bins} bins")
        self._room = room
        self._rows: dict[tuple[Any, ...], int] = {}
        self._keys = [_KEYS[axis["type"]] for axis in form["axes"] if axis["type"] in _KEYS]
        cells = 0 if form["chunked"] else self._cells
        room.take(8 * self._width * cells, f"a histogram of shape {shape}")
        self._memory = np.zeros((cells, self._width), kind)

    def add(self, chunks: list[Any] | None, gaps: Bits, numbers: NDArray[Any]) -> None:
        """Add what was read of one."""
        rows = self._rows_of(chunks) if self.form["chunked"] else np.zeros(1, np.int64)
        if not add(gaps, numbers, rows, self._cells, self._memory):
            raise ValueError("places outside of a histogram")

    def _rows_of(self, chunks: Any) -> NDArray[np.int64]:
        """Where chunks are, those that come for the first time after the others."""
        for key in chunks:
            if len(key) != len(self._keys) or not all(map(_is_key, key, self._keys)):
                raise ValueError(f"a chunk {key!r:.100}")
        rows = [self._rows.setdefault(tuple(key), len(self._rows)) for key in chunks]
        more = len(self._rows) * self._cells - len(self._memory)
        if more > 0:
            # twice as much, where there is room, so that it need not be moved often
            more = max(more, min(len(self._memory), self._room.left // (8 * self._width)))
            self._room.take(8 * self._width * more, f"a histogram of {len(self._rows)} chunks")
            self._memory = np.concatenate([self._memory, np.zeros((more, self._width), self._memory.dtype)])
        return np.array(rows, np.int64)

    def ordered(self) -> tuple[Bits, list[tuple[Any, ...]] | None]:
        """Memory of the bins, shape (bins, numbers of a bin), and the keys of chunks in their order."""
        memory = self._memory.view(np.uint64)
        if not self.form["chunked"]:
            return memory, None
        keys = sorted(self._rows)
        places = np.array([self._rows[key] for key in keys], np.int64)[:, None] * self._cells
        return memory[(places + np.arange(self._cells)).reshape(-1)], keys

    def result(self) -> Any:
        """The histogram."""
        memory, keys = self.ordered()
        made: hist.Hist[Any] = hist.Hist(hist.Hist._from_uhi_(_content(self.form)))
        if keys is None:
            if made.axes.extent != tuple(self.form["shape"]):
                raise ValueError(f"shape {self.form['shape']} of a histogram of shape {made.axes.extent}")
            _memory(made)[...] = memory
            return made
        rows = memory.view(made.view(flow=True).dtype).reshape(len(keys), *self.form["shape"])
        chunks = dict(zip(keys, rows, strict=True))
        named = {"name": made.name or "", "label": made.label or ""}
        return ChunkedHist(*made.axes, storage=made.storage_type(), **named, chunks=chunks)


def _is_key(part: Any, kind: Any) -> bool:
    """Whether a category axis can have it."""
    return type(part) is kind and (kind is str or -(2**31) <= part < 2**31)


def _read(storage: str, rule: str | None, arrays: Iterator[NDArray[Any]]) -> tuple[Bits, NDArray[Any]]:
    """Distances of the bins of a histogram that are not empty, and their numbers, shape (numbers of a bin, bins)."""
    kind, width = _STORAGES[storage]
    gaps, values = next(arrays), next(arrays)
    if gaps.dtype != np.uint64 or gaps.size != values.size:
        raise ValueError(f"{values.size} bins at {gaps.size} places of type {gaps.dtype}")
    numbers = np.empty((width, values.size), kind)
    numbers[0] = values
    if width == 2 and rule == "same":
        numbers[1] = numbers[0]
    elif width == 2 and not variances(
        numbers[0], next(arrays).astype(np.uint64), next(arrays).astype(np.float64), numbers[1]
    ):
        raise ValueError(f"variances are not those of {values.size} bins")
    return gaps, numbers


def _cutflow(cuts: Any, arrays: Iterator[NDArray[Any]]) -> Cutflow:
    events, sumw, sumw2 = (next(arrays) for _ in range(3))
    if not len(cuts) == events.size == sumw.size == sumw2.size:
        raise ValueError(f"{events.size} rows of a cutflow of {len(cuts)} cuts")
    return Cutflow(tuple(cuts), events.astype(np.int64), sumw.astype(np.float64), sumw2.astype(np.float64))


def _form(histogram: hist.Hist[Any], shape: Sequence[int], *, chunked: bool) -> dict[str, Any]:
    """What a histogram is, as JSON."""
    content: Any = to_uhi(histogram, keep_storage=False)
    kind = content["storage"]["type"]
    if kind not in _STORAGES:
        raise InputError(f"a histogram has storage '{kind}'; expected one of {', '.join(_STORAGES)}")
    return {
        "axes": [_listed(axis) for axis in content["axes"]],
        "storage": kind,
        "metadata": content["metadata"],
        "shape": [int(n) for n in shape],
        "chunked": chunked,
        "grows": not chunked and any(axis.traits.growth for axis in histogram.axes),
    }


def _listed(axis: dict[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in axis.items()}


def _extent(axis: dict[str, Any]) -> int:
    """Bins of an axis, at most: with both flow bins."""
    listed = {"variable": "edges", "category_int": "categories", "category_str": "categories"}.get(
        axis["type"]
    )
    return 2 + (int(axis.get("bins", 2)) if listed is None else len(axis[listed]))


def _content(form: dict[str, Any]) -> dict[str, Any]:
    """What `hist` makes an empty histogram from."""
    axes = [{**axis, "edges": np.array(axis["edges"])} if "edges" in axis else axis for axis in form["axes"]]
    return {"uhi_schema": 1, "axes": axes, "storage": {"type": form["storage"]}, "metadata": form["metadata"]}


def _memory(histogram: hist.Hist[Any]) -> Bits:
    """The memory of a histogram, first axis fastest, as plain bits, shape (bins, numbers of a bin)."""
    view = np.asarray(histogram.view(flow=True))
    memory = view.T.reshape(-1)
    if memory.size and not np.shares_memory(memory, view):
        raise RuntimeError("histogram memory is not laid out with the first axis fastest")
    return _numbers(memory)


def _numbers(bins: NDArray[Any]) -> Bits:
    """Bins in a row as plain bits, shape (bins, numbers of a bin)."""
    return bins.view(np.uint64).reshape(bins.size, bins.itemsize // 8)


def _open(data: bytes) -> tuple[bytes, dict[str, Any], Iterator[NDArray[Any]]]:
    """The forms as they are written, what is said of each histogram, and the arrays."""
    size = lz4.frame.get_frame_info(data)["content_size"]
    if not 0 < size <= LARGEST:
        raise ValueError(f"{size} bytes; expected 1 to {LARGEST}")
    content = lz4.frame.decompress(data)
    texts, start = [], 0
    for _ in range(2):
        stop = start + 8 + int.from_bytes(content[start : start + 8], "little")
        if stop - start > _LONGEST:
            raise ValueError(f"a text of {stop - start} bytes; expected at most {_LONGEST}")
        texts.append(content[start + 8 : stop])
        start = stop
    counts = json.loads(texts[1])
    taken = sum(16 * max(0, count) for _, count in counts["arrays"])  # as they are read, and added up
    if taken > LARGEST:
        raise ValueError(f"arrays would take {taken} bytes; expected at most {LARGEST}")
    return texts[0], counts["histograms"], joined(np.frombuffer(content, np.uint8)[start:], counts["arrays"])


@contextmanager
def _understood() -> Iterator[None]:
    """Whatever the bytes say that cannot be is an error of the input."""
    try:
        yield
    except InputError:
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        StopIteration,
        RuntimeError,
        MemoryError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"a partial result is damaged ({type(error).__name__}: {reason}); delete the folder's ledger and run again"
        ) from error
