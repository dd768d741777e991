"""Column arithmetic that file formats may ask for, evaluated lazily when a column is first read.

coffea's mapping turns a form key such as `Jet_pt,!load,!content,0.001,!trila_scale` into an array by calling the
functions of `coffea.nanoevents.transforms` by name, each on a stack. There is no call to register more of them, so
`register` adds ours to that module under a prefix of our own; nothing that is there is changed.
"""

from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np
from coffea.nanoevents import transforms as coffea_transforms
from numpy.typing import NDArray

__all__ = ["PREFIX", "register"]

PREFIX = "trila_"
Stack = list[Any]


def _values(column: Any) -> NDArray[Any]:
    """A column as a flat array: jagged ones without their structure."""
    if isinstance(column, np.ndarray):
        return column
    array = column if isinstance(column, ak.Array) else ak.Array(column)
    return np.asarray(ak.to_numpy(ak.flatten(array, axis=None)))


def content(stack: Stack) -> None:
    """A jagged column, the objects per event -> the column's entries, flat.

    Raises:
        ValueError: the column has other counts. In a damaged file, columns would shift against each other unseen.
    """
    counts = ak.to_numpy(stack.pop())
    layout = ak.Array(stack.pop()).layout.to_ListOffsetArray64(True)
    offsets = layout.offsets.data
    if not np.array_equal(offsets[1:] - offsets[:-1], counts):
        raise ValueError("a column does not have as many entries as its collection has objects")
    stack.append(np.asarray(layout.content.data)[: offsets[-1]])


def scale(stack: Stack) -> None:
    """values, factor -> values * factor, in float64: a unit must not cost digits."""
    factor = float(stack.pop())
    stack.append(_values(stack.pop()).astype(np.float64) * factor)


def fraction(stack: Stack) -> None:
    """energies, pt, eta, mass -> energies over the energy of the four-vector; 0 where that is 0.

    In float32, ten times as fast here as float64: identification cuts need three digits.
    """
    mass, eta, pt, energy = (_values(stack.pop()).astype(np.float32, copy=False) for _ in range(4))
    momentum = pt * (np.exp(eta) + np.exp(-eta)) * np.float32(0.5)
    total = np.sqrt(momentum * momentum + mass * mass)
    stack.append(np.divide(energy, total, out=np.zeros_like(total), where=total > 0))


def total(stack: Stack) -> None:
    """columns, count -> their sum, element by element."""
    count = int(stack.pop())
    columns = [_values(stack.pop()) for _ in range(count)]
    kind = np.int32 if all(c.dtype.kind in "iub" for c in columns) else np.float32
    stack.append(np.sum([c.astype(kind) for c in columns], axis=0, dtype=kind))


def first(stack: Stack) -> None:
    """A jagged column -> its first entry in each event, 0 where there is none."""
    layout = ak.Array(stack.pop()).layout.to_ListOffsetArray64(True)
    offsets, values = layout.offsets.data, np.asarray(layout.content.data)
    filled = offsets[1:] > offsets[:-1]
    firsts = np.zeros(len(offsets) - 1, values.dtype)  # the type that the form declares
    firsts[filled] = values[offsets[:-1][filled]]
    stack.append(firsts)


def count(stack: Stack) -> None:
    """A jagged column -> the number of its entries in each event."""
    stack.append(np.asarray(ak.to_numpy(ak.num(ak.Array(stack.pop()), axis=1))).astype(np.int32))


def offsets(stack: Stack) -> None:
    """A jagged column -> its offsets, from 0."""
    counts = ak.to_numpy(ak.num(ak.Array(stack.pop()), axis=1))
    stack.append(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def select(stack: Stack) -> None:
    """A jagged column, a jagged column of codes, the code wanted -> the entries with that code, flat."""
    wanted = int(stack.pop())
    codes = _values(stack.pop())
    values = _values(stack.pop())
    stack.append(values[codes == wanted])


def select_offsets(stack: Stack) -> None:
    """A jagged column of codes, the code wanted -> offsets of the entries with that code."""
    wanted = int(stack.pop())
    counts = ak.to_numpy(ak.sum(ak.Array(stack.pop()) == wanted, axis=1))
    stack.append(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def constant(stack: Stack) -> None:
    """offsets, value -> the value for every object."""
    value = float(stack.pop())
    edges = _values(stack.pop())
    stack.append(np.full(int(edges[-1]), value, dtype=np.float32))


def index_bits(stack: Stack) -> None:
    """Per object its number of indices and where they begin; per event the list of indices -> one bit an index.

    Indices over 63 do not fit the 64 bits and are left out: no event has that many dimuon vertices.
    """
    lists = ak.Array(stack.pop())
    begin = ak.Array(stack.pop())
    length = ak.Array(stack.pop())
    list_starts = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(lists, axis=1)))])[:-1]
    objects = ak.to_numpy(ak.num(begin, axis=1))
    starts = np.repeat(list_starts, objects) + _values(begin).astype(np.int64)
    lengths = _values(length).astype(np.int64)
    indices = _values(lists).astype(np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    chosen = indices[starts[owner] + within]
    fits = (chosen >= 0) & (chosen < 64)
    bits = np.zeros(len(lengths), dtype=np.uint64)
    np.bitwise_or.at(bits, owner[fits], np.uint64(1) << chosen[fits].astype(np.uint64))
    stack.append(bits)


_TRANSFORMS: tuple[Callable[[Stack], None], ...] = (
    content, scale, fraction, total, first, count, offsets, select, select_offsets, constant, index_bits,
)  # fmt: skip


def register() -> None:
    """Make the transforms known to coffea, in this process."""
    for transform in _TRANSFORMS:
        setattr(coffea_transforms, PREFIX + transform.__name__, transform)
