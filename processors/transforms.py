"""Column arithmetic that file formats may ask for, evaluated lazily when a column is first read.

coffea's mapping turns a form key such as `Jet_pt,!load,!content,0.001,!trila_scale` into an array by calling the
functions of `coffea.nanoevents.transforms` by name, each on a stack. There is no call to register more of them, so
`register` adds ours to that module under a prefix of our own; nothing that is there is changed.
"""

import weakref
from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np
from coffea.nanoevents import transforms as coffea_transforms
from numpy.typing import NDArray

from trila.processors.baskets import Baskets

__all__ = ["PREFIX", "register"]

PREFIX = "trila_"
Stack = list[Any]


def _values(column: Any) -> NDArray[Any]:
    """A column as a flat array: jagged ones without their structure."""
    if isinstance(column, Baskets):
        return column.values()
    if isinstance(column, ak.contents.NumpyArray):
        return np.asarray(column.data)
    return np.asarray(
        column if isinstance(column, np.ndarray) else ak.to_numpy(ak.flatten(column, axis=None))
    )


def values(stack: Stack) -> None:
    """A jagged column -> its entries, flat."""
    stack.append(_values(stack.pop()))


def content(stack: Stack) -> None:
    """A jagged column, the objects per event -> the column's entries, flat.

    Raises:
        ValueError: the column has other counts. In a damaged file, columns would shift against each other unseen.
    """
    counts = ak.to_numpy(stack.pop())
    column = Baskets.of(stack.pop())
    if not np.array_equal(column.counts(), counts):
        raise ValueError("a column does not have as many entries as its collection has objects")
    stack.append(ak.contents.NumpyArray(column.values()))  # coffea would copy a NumPy array


def scale(stack: Stack) -> None:
    """values, factor -> values * factor, in float64: a unit must not cost digits."""
    factor = float(stack.pop())
    stack.append(_values(stack.pop()).astype(np.float64) * factor)


def fraction(stack: Stack) -> None:
    """energies, pt, eta, mass -> energies over the energy of the four-vector; 0 where that is 0.

    In float32, ten times as fast here as float64: identification cuts need three digits.
    """
    mass, eta, pt, energy = (_values(stack.pop()) for _ in range(4))
    total = _energies(pt, eta, mass)
    energy = energy.astype(np.float32, copy=False)
    stack.append(np.divide(energy, total, out=np.zeros_like(total), where=total > 0))


def _energies(*four_vector: NDArray[Any]) -> NDArray[np.float32]:
    """Energies from pt, eta and mass. Those before are kept: a collection has fractions of several kinds."""
    for of, energies in tuple(_kept):
        if all(kept() is given for kept, given in zip(of, four_vector, strict=True)):
            return energies
    pt, eta, mass = (values.astype(np.float32, copy=False) for values in four_vector)
    growth = np.exp(eta)
    total = np.reciprocal(growth)  # from here on in place: new memory would cost as much as the arithmetic
    total += growth
    total *= pt
    total *= np.float32(0.5)
    total *= total
    total += mass * mass
    np.sqrt(total, out=total)
    _kept[:] = [(tuple(map(weakref.ref, four_vector)), total)]
    return total


_kept: list[tuple[tuple[weakref.ref[NDArray[Any]], ...], NDArray[np.float32]]] = []


def total(stack: Stack) -> None:
    """columns, count -> their sum, element by element."""
    count = int(stack.pop())
    columns = [_values(stack.pop()) for _ in range(count)]
    kind = np.int32 if all(c.dtype.kind in "iub" for c in columns) else np.float32
    total = columns[0].astype(kind, copy=count > 1)
    for column in columns[1:]:
        total += column.astype(kind, copy=False)
    stack.append(total)


def first(stack: Stack) -> None:
    """A jagged column -> its first entry in each event, 0 where there is none."""
    stack.append(Baskets.of(stack.pop()).firsts())


def count(stack: Stack) -> None:
    """A jagged column -> the number of its entries in each event."""
    stack.append(Baskets.of(stack.pop()).counts())


def offsets(stack: Stack) -> None:
    """A jagged column -> its offsets, from 0."""
    stack.append(Baskets.of(stack.pop()).offsets())


def select(stack: Stack) -> None:
    """A jagged column, a jagged column of codes, the code wanted -> the entries with that code, flat."""
    wanted = int(stack.pop())
    codes = _values(stack.pop())
    values = _values(stack.pop())
    stack.append(values[codes == wanted])


def select_offsets(stack: Stack) -> None:
    """A jagged column of codes, the code wanted -> offsets of the entries with that code."""
    wanted = int(stack.pop())
    codes = Baskets.of(stack.pop())
    before = np.concatenate([[0], np.cumsum(codes.values() == wanted)]).astype(np.int64)
    stack.append(before[codes.offsets()])


def constant(stack: Stack) -> None:
    """offsets, value -> the value for every object."""
    value = float(stack.pop())
    edges = _values(stack.pop())
    stack.append(np.full(int(edges[-1]), value, dtype=np.float32))


def index_bits(stack: Stack) -> None:
    """Per object its number of indices and where they begin; per event the list of indices -> one bit an index.

    Indices over 63 do not fit the 64 bits and are left out: no event has that many dimuon vertices.
    """
    lists, begin, length = (Baskets.of(stack.pop()) for _ in range(3))
    starts = np.repeat(lists.offsets()[:-1], begin.counts()) + begin.values().astype(np.int64)
    lengths = length.values().astype(np.int64)
    indices = lists.values().astype(np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    chosen = indices[starts[owner] + within]
    fits = (chosen >= 0) & (chosen < 64)
    bits = np.zeros(len(lengths), dtype=np.uint64)
    np.bitwise_or.at(bits, owner[fits], np.uint64(1) << chosen[fits].astype(np.uint64))
    stack.append(bits)


_TRANSFORMS: tuple[Callable[[Stack], None], ...] = (
    values, content, scale, fraction, total, first, count, offsets, select, select_offsets, constant, index_bits,
)  # fmt: skip


def register() -> None:
    """Make the transforms known to coffea, in this process."""
    for transform in _TRANSFORMS:
        setattr(coffea_transforms, PREFIX + transform.__name__, transform)
