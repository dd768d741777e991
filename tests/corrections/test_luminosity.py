"""Coverage of luminosity blocks, against sets in slow loops; masks to blocks and back."""

from itertools import pairwise

import numpy as np
import pytest

from trila.corrections.lumi import LumiMask, LumiMaskError, blocks, certified
from trila.corrections.luminosity import LuminosityTable, by_run, coverage, expand, ranges


def pairs(found: np.ndarray) -> set[tuple[int, int]]:
    return {(int(b) >> 32, int(b) & 0xFFFFFFFF) for b in found}


def members(mask: LumiMask) -> set[tuple[int, int]]:
    return {(int(run), n) for run, given in mask.items() for low, high in given for n in range(low, high + 1)}


def random_mask(rng: np.random.Generator, runs: int) -> LumiMask:
    mask: LumiMask = {}
    for run in rng.choice(300, runs, replace=False):
        first = rng.integers(0, 40, 4)
        mask[str(run)] = tuple(zip(first.tolist(), (first + rng.integers(0, 12, 4)).tolist(), strict=True))
    return mask


def test_expand_and_ranges_against_loops() -> None:
    """Overlapping, touching and unordered ranges; back in the form of a mask they are the same set, and merged."""
    mask = random_mask(np.random.default_rng(1), 60)
    found = expand(mask)
    assert pairs(found) == members(mask)
    assert (np.diff(found.astype(object)) > 0).all()
    back = ranges(found)
    assert members(back) == members(mask)
    assert list(back) == sorted(mask, key=int)
    for given in back.values():
        assert all(high + 1 < low for (_, high), (low, _) in pairwise(given))  # no two could be one
    some = np.random.default_rng(2).integers(0, 60, (2, 500))
    assert certified(back, *some).tolist() == certified(mask, *some).tolist()


def test_edges_of_the_numbers() -> None:
    """The last block that a run can have and block 0 of the next run are neighbours as numbers, not as blocks."""
    top = 2**32 - 1
    mask: LumiMask = {"7": ((top - 1, top),), "8": ((0, 1),), str(top): ((top, top),)}
    assert expand(mask).tolist() == [
        7 << 32 | top - 1, 7 << 32 | top, 8 << 32, 8 << 32 | 1, top << 32 | top,
    ]  # fmt: skip
    assert ranges(expand(mask)) == mask
    assert expand({}).size == 0
    assert ranges(expand({})) == {}


def test_a_mask_without_an_end_is_refused() -> None:
    with pytest.raises(
        LumiMaskError, match=r"4294967299 .*blocks, most of them in run 5, \[1, 4294967295\]; .*end"
    ):
        expand({"4": ((1, 4),), "5": ((1, 2**32 - 1),)})


@pytest.mark.parametrize("with_mask", [True, False])
def test_coverage_against_sets(with_mask: bool) -> None:
    rng = np.random.default_rng(3)
    wanted, seen = random_mask(rng, 100), random_mask(rng, 100)
    block = expand(random_mask(rng, 100))
    recorded = np.where(rng.random(block.size) < 0.1, 0.0, rng.random(block.size))
    table = LuminosityTable(block, recorded + 1.0, recorded)
    found = coverage(table, expand(seen), expand(wanted) if with_mask else None)

    luminosity = {next(iter(pairs(block[i : i + 1]))): recorded[i] for i in range(block.size)}
    planned = set(luminosity) & members(wanted) if with_mask else set(luminosity)
    inside = members(seen) & members(wanted) if with_mask else members(seen)
    assert pairs(block[found.planned]) == planned
    assert pairs(block[found.seen]) == planned & members(seen)
    assert pairs(found.not_seen) == {b for b in planned - members(seen) if luminosity[b] > 0}
    assert pairs(found.seen_without_luminosity) == {b for b in inside if not luminosity.get(b, 0) > 0}
    assert pairs(found.mask_without_luminosity) == (members(wanted) - set(luminosity) if with_mask else set())
    assert pairs(found.seen_outside_mask) == (members(seen) - members(wanted) if with_mask else set())
    assert all(part.any() for part in (found.planned, found.seen))

    runs = by_run(table, found)
    assert runs.run.tolist() == sorted({run for run, _ in planned})
    for run, expected, in_seen in zip(*(part.tolist() for part in runs), strict=True):
        assert expected == pytest.approx(sum(luminosity[b] for b in planned if b[0] == run), rel=1e-13)
        assert in_seen == pytest.approx(
            sum(luminosity[b] for b in planned & members(seen) if b[0] == run), rel=1e-13
        )


def test_nothing_planned() -> None:
    table = LuminosityTable(blocks([1], [1]), np.ones(1), np.ones(1))
    found = coverage(table, expand({"2": ((1, 1),)}), expand({"3": ((1, 1),)}))
    runs = by_run(table, found)
    assert runs.run.size == runs.planned.size == runs.seen.size == 0
    assert pairs(found.mask_without_luminosity) == {(3, 1)}
    assert pairs(found.seen_outside_mask) == {(2, 1)}
