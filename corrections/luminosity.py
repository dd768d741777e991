"""Integrated luminosity by luminosity block: what was planned, what was seen, what is missing on either side.

Blocks are numbers `run << 32 | luminosity block` (`lumi.blocks`), so that sets of them are sorted arrays. Use `expand`
and `ranges` to go from a mask to blocks and back, `coverage` to compare the blocks that were seen with a table of
luminosities, and `by_run` for sums over runs.

A block that the table lacks is not a block without luminosity: it is listed, never counted as zero.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.corrections.lumi import LumiMask, LumiMaskError

__all__ = ["Coverage", "LuminosityTable", "RunLuminosity", "by_run", "coverage", "expand", "ranges"]

#: More than any experiment has recorded (Run 2 of CMS: 10^6); a mask of whole numbers up to 2^32 would fill the memory.
_MOST_BLOCKS = 50_000_000
_BITS = np.uint64(32)
_LOW = np.uint64(2**32 - 1)

Blocks = NDArray[np.uint64]
Array = NDArray[np.float64]


class LuminosityTable(NamedTuple):
    """Luminosity by block, 1/pb; arrays of shape (n,)."""

    block: Blocks
    """Ascending, each once."""
    delivered: Array
    recorded: Array
    """Delivered, less what the experiment lost in dead time."""


class Coverage(NamedTuple):
    """Blocks that were seen, compared with those that were planned."""

    planned: NDArray[np.bool_]
    """Rows of the table that the mask certifies, all without a mask; shape (n,)."""
    seen: NDArray[np.bool_]
    """Rows that are planned and seen, shape (n,)."""
    not_seen: Blocks
    """Planned, with recorded luminosity, but not seen."""
    mask_without_luminosity: Blocks
    """Certified by the mask, but not in the table; empty without a mask."""
    seen_without_luminosity: Blocks
    """Seen, inside the mask if there is one, but not in the table, or with nothing recorded there."""
    seen_outside_mask: Blocks
    """Seen, but not certified; empty without a mask."""


class RunLuminosity(NamedTuple):
    """Recorded luminosity by run, 1/pb; arrays of shape (R,)."""

    run: NDArray[np.int64]
    """Ascending, each once."""
    planned: Array
    seen: Array
    """Of the planned blocks that were seen."""


def expand(mask: LumiMask) -> Blocks:
    """All blocks of a mask, ascending, each once even where ranges overlap.

    Raises:
        LumiMaskError: the mask holds more blocks than there can be data of.

    >>> [(int(b) >> 32, int(b) & 0xFFFFFFFF) for b in expand({"5": ((1, 2), (2, 3)), "4": ((7, 7),)})]
    [(4, 7), (5, 1), (5, 2), (5, 3)]
    """
    pairs = [(int(run) << 32, first, last) for run, given in mask.items() for first, last in given]
    run, first, last = np.array(pairs, dtype=np.uint64).reshape(-1, 3).T
    counts = (last - first + np.uint64(1)).astype(np.int64)
    if (total := sum(counts.tolist())) > _MOST_BLOCKS:
        widest = int(np.argmax(counts))
        raise LumiMaskError(
            f"the mask holds {total} luminosity blocks, most of them in run {int(run[widest] >> _BITS)}, "
            f"[{first[widest]}, {last[widest]}]; at most {_MOST_BLOCKS} are handled: end the range where the run ends"
        )
    starts = np.cumsum(counts) - counts
    within = np.arange(total, dtype=np.int64) - np.repeat(starts, counts)
    return np.unique(np.repeat(run | first, counts) + within.astype(np.uint64))


def ranges(block: Blocks) -> LumiMask:
    """Blocks in the form of a mask, runs ascending.

    Args:
        block: ascending, each once, shape (n,).

    >>> ranges(np.array([5 << 32 | 1, 5 << 32 | 2, 5 << 32 | 4], dtype=np.uint64))
    {'5': ((1, 2), (4, 4))}
    """
    if not block.size:
        return {}
    # The last block that a run can have and block 0 of the next run are neighbours as numbers.
    breaks = (np.diff(block) != 1) | (np.diff(block >> _BITS) != 0)
    first = block[np.concatenate(([True], breaks))]
    last = block[np.concatenate((breaks, [True]))]
    found: dict[str, list[tuple[int, int]]] = {}
    for run, low, high in zip(
        (first >> _BITS).tolist(), (first & _LOW).tolist(), (last & _LOW).tolist(), strict=True
    ):
        found.setdefault(str(run), []).append((low, high))
    return {run: tuple(pairs) for run, pairs in found.items()}


def coverage(table: LuminosityTable, seen: Blocks, mask: Blocks | None) -> Coverage:
    """Compare the blocks that were seen with those that were planned.

    Planned is what has a luminosity and is certified; without a mask, all that has a luminosity: what was asked of
    the luminosity tool is then taken as the plan, also runs of which nothing was seen.

    Args:
        table: luminosity by block.
        seen: blocks in which events were read, ascending, each once.
        mask: certified blocks, ascending, each once, or None.
    """
    recorded = table.recorded > 0
    without = outside = np.zeros(0, dtype=np.uint64)
    certified, planned = seen, np.ones(table.block.size, dtype=np.bool_)
    if mask is not None:
        without = np.setdiff1d(mask, table.block, assume_unique=True)
        outside = np.setdiff1d(seen, mask, assume_unique=True)
        certified, planned = np.intersect1d(seen, mask, assume_unique=True), np.isin(table.block, mask)
    in_seen = planned & np.isin(table.block, seen)
    return Coverage(
        planned=planned,
        seen=in_seen,
        not_seen=table.block[planned & ~in_seen & recorded],
        mask_without_luminosity=without,
        seen_without_luminosity=np.setdiff1d(certified, table.block[recorded], assume_unique=True),
        seen_outside_mask=outside,
    )


def by_run(table: LuminosityTable, covered: Coverage) -> RunLuminosity:
    """Recorded luminosity of the planned blocks, and of those of them that were seen, summed over each run."""
    runs, index = np.unique((table.block[covered.planned] >> _BITS).astype(np.int64), return_inverse=True)
    recorded = table.recorded[covered.planned]
    planned, seen = (
        np.bincount(index, weights=np.where(rows[covered.planned], recorded, 0.0), minlength=runs.size)
        for rows in (covered.planned, covered.seen)
    )
    return RunLuminosity(runs, planned.astype(np.float64), seen.astype(np.float64))
