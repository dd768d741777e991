"""Certified luminosity blocks: masks from the experiments' JSON files ("golden JSON").

A mask maps a run number to closed ranges of luminosity blocks: `{"297050": [[12, 137], [193, 776]]}`.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LumiMask", "LumiMaskError", "blocks", "certified", "check_mask", "inside", "load_mask"]

_EXPECTED = 'expected {"run": [[first, last], ...], ...}'
_LARGEST = 2**32 - 1
#: A mask of all runs of the LHC has less than one.
_MOST_BYTES = 20_000_000

LumiMask = dict[str, tuple[tuple[int, int], ...]]


class LumiMaskError(ValueError):
    """The file is not a luminosity mask; says what is wrong with it."""


def load_mask(path: str | Path) -> LumiMask:
    """Read a mask and check it.

    Raises:
        LumiMaskError: unreadable, no JSON, or not of the form `{"run": [[first, last], ...]}`.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise LumiMaskError(f"luminosity mask {path} cannot be read: {reason}; check the path") from error
    if len(data) > _MOST_BYTES:
        raise LumiMaskError(
            f"luminosity mask {path} has more than {_MOST_BYTES / 1e6:g} MB, expected less; {_EXPECTED}"
        )
    try:
        content = json.loads(data, object_pairs_hook=_once)
    except LumiMaskError as error:
        raise LumiMaskError(f"luminosity mask {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise LumiMaskError(f"luminosity mask {path} is not JSON ({error}); {_EXPECTED}") from error
    if not isinstance(content, dict) or not content:
        raise LumiMaskError(f"luminosity mask {path} holds {type(content).__name__}, or no run; {_EXPECTED}")
    try:
        return check_mask(content)
    except LumiMaskError as error:
        raise LumiMaskError(f"luminosity mask {path}, {error}") from error


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON keeps the last of two equal keys without a word: the ranges of the first would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise LumiMaskError(f"run {name[:20]} is given twice; put its ranges into one list")
    return found


def check_mask(content: Mapping[str, object]) -> LumiMask:
    """A mask, if the content is of the form `{"run": [[first, last], ...]}`.

    Raises:
        LumiMaskError: it is not; says which run.
    """
    mask: LumiMask = {}
    for run, ranges in content.items():
        if not _is_run(str(run)) or not isinstance(ranges, (list, tuple)):
            raise LumiMaskError(f"run {str(run)[:20]!r}: {_EXPECTED}")
        for pair in ranges:
            if (
                not isinstance(pair, (list, tuple))
                or len(pair) != 2
                or not all(type(n) is int and 0 <= n <= _LARGEST for n in pair)  # True is no block
                or pair[0] > pair[1]
            ):
                raise LumiMaskError(f"run {run}: {str(pair)[:40]} is not [first, last]; {_EXPECTED}")
        mask[str(run)] = tuple((first, last) for first, last in ranges)
    return mask


def _is_run(text: str) -> bool:
    """Whether a text is a number that ROOT's UInt_t holds; other digits than ASCII's are none."""
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LARGEST


def certified(mask: LumiMask, run: ArrayLike, luminosity_block: ArrayLike) -> NDArray[np.bool_]:
    """Which events lie in the mask's closed ranges.

    Args:
        mask: as `load_mask` gives it.
        run: run numbers, shape (n,).
        luminosity_block: luminosity blocks, shape (n,).

    >>> certified({"5": ((1, 3), (7, 7))}, [5, 5, 5, 6], [3, 4, 7, 1]).tolist()
    [True, False, True, False]
    """
    return inside(mask, blocks(run, luminosity_block))


def inside(mask: LumiMask, block: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which blocks, as `blocks` gives them, lie in the mask's closed ranges, shape (n,)."""
    ranges = sorted(
        (int(r) << 32 | first, int(r) << 32 | last) for r, pairs in mask.items() for first, last in pairs
    )
    merged: list[tuple[int, int]] = []  # overlapping ranges would hide one another from the search below
    for low, high in ranges:
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    first, last = np.array(merged, dtype=np.uint64).reshape(-1, 2).T
    index = np.searchsorted(first, block, side="right")
    found = index > 0
    found[found] = block[found] <= last[index[found] - 1]
    return found


def blocks(run: ArrayLike, luminosity_block: ArrayLike) -> NDArray[np.uint64]:
    """Run and luminosity block as one number, run first, shape (n,)."""
    high = np.asarray(run, dtype=np.uint64) << np.uint64(32)
    return np.asarray(high | np.asarray(luminosity_block, dtype=np.uint64))
