"""Arrays of numbers as few bytes, and the bins of a histogram's memory that are not empty.

A number takes as many bytes as the largest of its array needs, if all are whole; else eight. Arrays are written byte by
byte, the first bytes of all numbers, then the second ones: those of a kind are alike, such as exponents and zeros, and
compress better and faster so.

`filled` and `add` go once over the memory of a histogram, whose numbers are taken as plain bits where they are only moved.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.processors.compiled import kernel

__all__ = ["Bits", "Stored", "add", "filled", "joined", "smallest", "split", "squares", "variances"]

Bits = NDArray[np.uint64]
#: Kinds of arrays, and bytes of a number: whole numbers, counts that may be negative, and others.
_SIZES = {"u1": 1, "u2": 2, "u4": 4, "i8": 8, "f8": 8}
_LARGEST = {"u1": 2**8, "u2": 2**16, "u4": 2**32}


class Stored(NamedTuple):
    """An array as it is written.

    Attributes:
        kind: "u1", "u2", "u4", "i8" or "f8".
        numbers: whose lowest bytes are written, shape (n,).
    """

    kind: str
    numbers: Bits


def smallest(array: NDArray[Any]) -> Stored:
    """An array in the smallest kind that holds it exactly.

    Args:
        array: of unsigned or signed integers or floats of eight bytes, shape (n,).
    """
    if array.size == 0:
        return Stored("u1", np.zeros(0, np.uint64))
    low, high = array.min(), array.max()
    if low >= 0 and high < 2**32:
        kind = next(kind for kind, largest in _LARGEST.items() if high < largest)
        whole = array.astype(np.uint64, copy=False)
        if array.dtype.kind != "f" or np.array_equal(whole, array):
            return Stored(kind, whole)
    return Stored(array.dtype.str[1:], np.ascontiguousarray(array).view(np.uint64))


def split(start: bytes, arrays: Sequence[Stored]) -> NDArray[np.uint8]:
    """Some bytes, followed by arrays."""
    size = sum(array.numbers.size * _SIZES[array.kind] for array in arrays)
    content = np.empty(len(start) + size, np.uint8)
    content[: len(start)] = np.frombuffer(start, np.uint8)
    begin = len(start)
    for kind, numbers in arrays:
        stop = begin + numbers.size * _SIZES[kind]
        _split(numbers, _SIZES[kind], content[begin:stop])
        begin = stop
    return content


def joined(content: NDArray[np.uint8], listed: Sequence[Any]) -> Iterator[NDArray[Any]]:
    """What `split` wrote.

    Args:
        content: of the arrays.
        listed: kind and size of each.

    Yields:
        Arrays of uint64 where numbers are whole, else of int64 or float64.

    Raises:
        ValueError: there are no such arrays.
    """
    begin = 0
    for kind, count in listed:
        if kind not in _SIZES or type(count) is not int or count < 0:
            raise ValueError(f"an array of type {kind!r}, size {count!r}")
        stop = begin + count * _SIZES[kind]
        if stop > content.size:
            raise ValueError(f"an array ends at byte {stop} of {content.size}")
        numbers = np.empty(count, np.uint64)
        _join(content[begin:stop], _SIZES[kind], numbers)
        begin = stop
        yield numbers if kind in _LARGEST else numbers.view(kind)


def filled(memory: Bits) -> tuple[Bits, Bits]:
    """The bins of a histogram that are not empty.

    Args:
        memory: shape (bins, numbers of a bin).

    Returns:
        Distance of each from the one before, the first from 0, shape (n,); and their numbers, (numbers of a bin, n).
    """
    n = _count(memory)
    gaps, numbers = np.empty(n, np.uint64), np.empty((memory.shape[1], n), np.uint64)
    _fetch(memory, gaps, numbers)
    return gaps, numbers


@kernel
def add(
    gaps: Bits, numbers: NDArray[Any], rows: NDArray[np.int64], bins: int, memory: NDArray[Any],
) -> bool:  # fmt: skip
    """Add numbers to bins, from the first to the last; false, and not all added, if there are no such bins.

    Args:
        gaps: as of `filled`, each below 2**32, and only the first may be 0; all bins of a chunk come before those of the next.
        numbers: shape (numbers of a bin, n).
        rows: where in `memory` chunks are; a single one for a histogram without chunks.
        bins: of a chunk.
        memory: shape (rows * bins, numbers of a bin).
    """
    row, place = 0, np.uint64(0)
    size, begin = np.uint64(bins), np.uint64(0)
    for k in range(len(gaps)):
        if k > 0 and gaps[k] == 0:
            return False
        place += gaps[k]
        while row < len(rows) and place >= begin + size:
            row, begin = row + 1, begin + size
        if row == len(rows):
            return False
        target = rows[row] * bins + np.int64(place - begin)
        memory[target, 0] += numbers[0, k]
        if numbers.shape[0] == 2:  # twice as fast as a loop over the numbers of a bin
            memory[target, 1] += numbers[1, k]
    return True


def squares(values: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[Bits, NDArray[np.float64]]:
    """Which variances are not the squares of the values, as bits, eight to a number; and those, in their order."""
    with np.errstate(all="ignore"):
        other = values * values != errors
    return np.packbits(other).astype(np.uint64), errors[other]


@kernel
def variances(
    values: NDArray[np.float64], flags: Bits, others: NDArray[np.float64], out: NDArray[np.float64]
) -> bool:
    """From what `squares` gave, the variances again; false if it is not of these values."""
    if len(flags) != (len(values) + 7) // 8:
        return False
    taken = 0
    for k in range(len(values)):
        if flags[k >> 3] >> np.uint64(7 - (k & 7)) & np.uint64(1):
            if taken == len(others):
                return False
            out[k] = others[taken]
            taken += 1
        else:
            out[k] = values[k] * values[k]
    return taken == len(others)


@kernel
def _count(memory: Bits) -> int:
    first, last = memory[:, 0], memory[:, -1]  # all numbers of a bin, as there are one or two
    n = 0
    for place in range(len(memory)):
        n += (first[place] | last[place]) != 0
    return n


@kernel
def _fetch(memory: Bits, gaps: Bits, numbers: Bits) -> None:
    first, last = memory[:, 0], memory[:, -1]
    n, before = 0, 0
    for place in range(len(memory)):
        if first[place] | last[place]:
            gaps[n] = place - before
            numbers[0, n], numbers[-1, n] = first[place], last[place]
            n, before = n + 1, place


@kernel
def _split(numbers: Bits, size: int, out: NDArray[np.uint8]) -> None:
    for j in range(size):
        shift, bytes_j = np.uint64(8 * j), out[j * len(numbers) : (j + 1) * len(numbers)]
        for k in range(len(numbers)):
            bytes_j[k] = np.uint8(numbers[k] >> shift)


@kernel
def _join(content: NDArray[np.uint8], size: int, out: Bits) -> None:
    for k in range(len(out)):
        out[k] = content[k]
    for j in range(1, size):
        shift, bytes_j = np.uint64(8 * j), content[j * len(out) : (j + 1) * len(out)]
        for k in range(len(out)):
            out[k] |= np.uint64(bytes_j[k]) << shift
