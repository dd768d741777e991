"""Partial results as bytes: sparse, compressed, without code in them, and added up one after the other.

Histograms of a part of the data are mostly empty, and mostly hold small whole numbers: what is kept are the places of the
bins that are not, and their contents in the smallest type that holds them exactly. A byte string is

    lz4 frame of [length of header, 8 bytes][header, JSON][arrays one after the other]

It may come from others (it is part of a RESULT): reading it runs nothing, and takes no more memory than `LARGEST`.
"""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import hist
import lz4.frame
import numpy as np
from hist.chunked import ChunkedHist
from numpy.typing import NDArray

from trila.processors.cutflow import Cutflow
from trila.processors.errors import InputError
from trila.processors.partial import Partial

__all__ = ["LARGEST", "Total", "pack", "unpack"]

#: Bytes that a partial result may take when it is unpacked.
LARGEST = 4_000_000_000
_TYPES = ("u1", "u2", "u4", "u8", "i8", "f8")
_WHOLE = ("u1", "u2", "u4")


def pack(partial: Partial) -> bytes:
    """A partial result as bytes."""
    header: dict[str, Any] = {"histograms": {}, "cutflow": None}
    arrays: list[NDArray[Any]] = []
    for name, histogram in partial.histograms.items():
        header["histograms"][name] = _take_apart(histogram, arrays)
    if partial.cutflow is not None:
        header["cutflow"] = list(partial.cutflow.cuts)
        arrays += [partial.cutflow.events, partial.cutflow.sumw, partial.cutflow.sumw2]
    small = [_smallest(array) for array in arrays]
    header["arrays"] = [[array.dtype.str[1:], array.size] for array in small]
    text = json.dumps(header).encode()
    parts = [len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in small)]
    return bytes(lz4.frame.compress(b"".join(parts)))


def unpack(data: bytes) -> Partial:
    """A partial result from bytes.

    Raises:
        InputError: the bytes are not of this form, or too large.
    """
    total = Total()
    total.add(data)
    return total.partial()


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
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"a partial result is damaged ({type(error).__name__}: {reason}); delete the folder's ledger and run again"
        ) from error


class Total:
    """The sum of packed partial results: takes the memory of one, however many are added."""

    def __init__(self) -> None:
        self._dense: dict[str, _Dense] = {}
        self._other: dict[str, Any] = {}
        self._cutflow: Cutflow | None = None

    def add(self, data: bytes) -> None:
        """Add one.

        Raises:
            InputError: the bytes are not of this form, or too large.
        """
        with _understood():
            header, arrays = _open(data)
            take = iter(arrays)
            for name, form in header["histograms"].items():
                self._add(name, form, [next(take) for _ in range(1 + len(form["fields"]))])
            if header["cutflow"] is not None:
                events, sumw, sumw2 = (next(take) for _ in range(3))
                flow = Cutflow(tuple(header["cutflow"]), events.astype(np.int64), *_floats(sumw, sumw2))
                self._cutflow = flow if self._cutflow is None else self._cutflow + flow

    def packed(self) -> bytes:
        """What was added up, as bytes."""
        return pack(self.partial())

    def partial(self) -> Partial:
        """What was added up.

        Raises:
            InputError: as `add`.
        """
        with _understood():
            histograms = {name: dense.histogram() for name, dense in self._dense.items()} | self._other
        return Partial(dict(sorted(histograms.items())), self._cutflow)

    def _add(self, name: str, form: dict[str, Any], arrays: list[NDArray[Any]]) -> None:
        places, *contents = arrays
        index = np.cumsum(places.astype(np.int64))
        if form["chunks"] is None and not form["grows"]:
            if name not in self._dense:
                self._dense[name] = _Dense(form)
            self._dense[name].add(form, index, contents)
            return
        # histograms whose categories grow know themselves how to be added
        one = _Dense(form)
        one.add(form, index, contents)
        other = one.chunked() if form["chunks"] is not None else one.histogram()
        self._other[name] = self._other[name] + other if name in self._other else other


class _Dense:
    """One histogram being added up, as arrays."""

    def __init__(self, form: dict[str, Any]) -> None:
        self.form = form
        self.shape = tuple(int(n) for n in form["shape"])
        bins = math.prod(_extent(axis) for axis in form["axes"])
        if (
            min(self.shape, default=0) < 0
            or max(math.prod(self.shape), bins) * 8 * len(form["fields"]) > LARGEST
        ):
            raise ValueError(f"a histogram of shape {self.shape}, {bins} bins")
        self.fields = {
            name: np.zeros(self.shape, np.int64 if kind == "i8" else np.float64)
            for name, kind in form["fields"]
        }

    def add(self, form: dict[str, Any], index: NDArray[np.int64], contents: Iterable[NDArray[Any]]) -> None:
        if form["axes"] != self.form["axes"] or form["fields"] != self.form["fields"]:
            raise ValueError("histograms of different axes do not add up")
        for array, values in zip(self.fields.values(), contents, strict=True):
            array.reshape(-1)[index] += values.astype(array.dtype)  # no place comes twice

    def histogram(self) -> hist.Hist[Any]:
        storage = {"type": self.form["storage"], **self.fields}
        return hist.Hist(hist.Hist._from_uhi_(_content(self.form, storage)))

    def chunked(self) -> ChunkedHist:
        empty: hist.Hist[Any] = hist.Hist(
            hist.Hist._from_uhi_(_content(self.form, {"type": self.form["storage"]}))
        )
        total = ChunkedHist(
            *empty.axes, storage=empty.storage_type(), name=empty.name or "", label=empty.label or ""
        )
        for number, key in enumerate(self.form["chunks"]):
            dense = np.zeros(total.dense_view_shape, total.dense_view_dtype)
            for field, name in zip(self.fields.values(), _FIELD_NAMES[self.form["storage"]], strict=True):
                target = dense[name] if name else dense
                target[...] = field[number]
            total.add_dense_view(tuple(key), dense)
        return total


#: Storages that add up bin by bin, and what NumPy views of them call their fields.
_FIELD_NAMES = {"int": ("",), "double": ("",), "weighted": ("value", "variance")}


def _take_apart(histogram: Any, arrays: list[NDArray[Any]]) -> dict[str, Any]:
    """What a histogram is, as JSON; places and contents of its bins are added to `arrays`."""
    chunks = None
    if isinstance(histogram, ChunkedHist):
        empty: hist.Hist[Any] = hist.Hist(
            *histogram.axes, storage=histogram.storage_type(), name=histogram.name, label=histogram.label
        )
        content: Any = empty._to_uhi_()
        found = sorted(histogram.items())
        chunks = [list(key) for key, _ in found]
        names = _FIELD_NAMES[content["storage"]["type"]]
        stacked = [
            np.stack([view[n] if n else view for _, view in found]) if found else np.zeros(0) for n in names
        ]
        shape = (len(found), *histogram.dense_view_shape)
        fields = {
            key: array.reshape(shape)
            for key, array in zip((k for k in content["storage"] if k != "type"), stacked, strict=True)
        }
    else:
        content = histogram._to_uhi_()
        fields = {key: value for key, value in content["storage"].items() if key != "type"}
        shape = histogram.axes.extent
    kind = content["storage"]["type"]
    if kind not in _FIELD_NAMES:
        raise InputError(f"a histogram has storage '{kind}'; expected one of {', '.join(_FIELD_NAMES)}")
    filled = np.zeros(int(np.prod(shape)), np.bool_)
    for array in fields.values():
        filled |= array.reshape(-1) != 0
    index = np.flatnonzero(filled)
    arrays.append(np.diff(index, prepend=0))
    arrays += [array.reshape(-1)[index] for array in fields.values()]
    return {
        "axes": [_listed(axis) for axis in content["axes"]],
        "storage": kind,
        "metadata": content.get("metadata") or {},
        "fields": [[key, "i8" if kind == "int" else "f8"] for key in fields],
        "shape": [int(n) for n in shape],
        "chunks": chunks,
        "grows": any(axis.traits.growth for axis in histogram.axes),
    }


def _listed(axis: dict[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in axis.items()}


def _extent(axis: dict[str, Any]) -> int:
    """Bins of an axis, at most: with both flow bins."""
    listed = axis.get("categories", axis.get("edges"))
    return 2 + (len(listed) if listed is not None else int(axis.get("bins", 2)))


def _content(form: dict[str, Any], storage: dict[str, Any]) -> dict[str, Any]:
    """What `hist` makes a histogram from."""
    axes = [{**axis, "edges": np.array(axis["edges"])} if "edges" in axis else axis for axis in form["axes"]]
    return {"uhi_schema": 1, "axes": axes, "storage": storage, "metadata": form["metadata"]}


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    """The array in the smallest type that holds it exactly."""
    if array.size == 0:
        return array.astype(np.uint8)
    low, high = array.min(), array.max()
    if low >= 0 and high < 2**32:
        for kind in _WHOLE:
            if high <= np.iinfo(kind).max:
                small = array.astype(kind)
                return small if np.array_equal(small, array) else np.ascontiguousarray(array)
    return np.ascontiguousarray(array)


def _open(data: bytes) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    size = lz4.frame.get_frame_info(data)["content_size"]
    if not 0 < size <= LARGEST:
        raise ValueError(f"{size} bytes; expected 1 to {LARGEST}")
    content = lz4.frame.decompress(data)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    arrays, start = [], 8 + length
    for kind, count in header["arrays"]:
        if kind not in _TYPES or not isinstance(count, int) or count < 0:
            raise ValueError(f"an array of type {kind!r}, size {count!r}")
        arrays.append(np.frombuffer(content, np.dtype(kind), count, start))
        start += arrays[-1].nbytes
    return header, arrays


def _floats(*arrays: NDArray[Any]) -> tuple[NDArray[np.float64], ...]:
    return tuple(array.astype(np.float64) for array in arrays)
