"""Arrays as few bytes: what is written is taken apart by hand, and what is read is what was written.

Protected: the smallest kind that holds an array exactly, the order of the bytes, the bins that are not empty, variances
of single entries, and that no place outside of a histogram is written to.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trila.processors.packed_arrays import (
    Stored,
    add,
    filled,
    joined,
    smallest,
    split,
    squares,
    variances,
)

ONE_ROW = np.zeros(1, np.int64)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([], "u1"), ([0.0, 255.0], "u1"), ([256.0], "u2"), ([65536.0], "u4"), ([2.0**32 - 1], "u4"), ([2.0**32], "f8"),
        ([0.5], "f8"), ([-1.0], "f8"), ([np.nan], "f8"), ([np.inf], "f8"), ([1.0, 255.25], "f8"),
    ],
)  # fmt: skip
def test_an_array_takes_the_smallest_kind_that_holds_it(numbers: list[float], kind: str) -> None:
    array = np.array(numbers)
    stored = smallest(array)
    assert stored.kind == kind
    (back,) = joined(split(b"", [stored]), [(kind, array.size)])
    np.testing.assert_array_equal(back, array)


def test_counts_may_be_negative_or_large() -> None:
    for count in (-1, 2**32, 2**62 + 1):
        stored = smallest(np.array([3, count]))
        assert stored.kind == "i8"
        (back,) = joined(split(b"", [stored]), [("i8", 2)])
        assert back.tolist() == [3, count]


def test_the_first_bytes_of_all_numbers_come_first() -> None:
    arrays = [Stored("u2", np.array([0x0102, 0x0304], np.uint64)), Stored("u1", np.array([7], np.uint64))]
    content = split(b"start", arrays)
    assert content.tobytes() == b"start" + bytes([2, 4, 1, 3, 7])
    first, second = joined(content[5:], [["u2", 2], ["u1", 1]])
    assert (first.tolist(), second.tolist()) == ([0x0102, 0x0304], [7])


def test_arrays_that_are_not_there_are_refused() -> None:
    content = np.zeros(10, np.uint8)
    with pytest.raises(ValueError, match=r"an array of type 'O', size 1"):
        list(joined(content, [["O", 1]]))
    with pytest.raises(ValueError, match=r"an array of type 'u1', size -1"):
        list(joined(content, [["u1", -1]]))
    with pytest.raises(ValueError, match=r"an array ends at byte 16 of 10"):
        list(joined(content, [["f8", 2]]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.integers(1, 2), rows=st.integers(1, 3))
def test_filled_bins_are_those_of_a_slow_loop_and_add_up(seed: int, width: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    memory = np.where(rng.random((12, width)) < 0.4, rng.normal(size=(12, width)), 0)
    gaps, bits = filled(memory.view(np.uint64))
    places = [place for place in range(12) if memory[place].any()]
    assert np.cumsum(gaps).tolist() == places
    numbers = bits.view(np.float64)
    np.testing.assert_array_equal(numbers.T, memory[places])
    order, bins = rng.permutation(rows), 12 // rows
    before = rng.normal(size=(12, width))
    total = before.copy()
    assert add(gaps, numbers, order, bins, total)
    for row in range(rows):
        before[order[row] * bins : (order[row] + 1) * bins] += memory[row * bins : (row + 1) * bins]
    np.testing.assert_array_equal(total, before)


def test_no_place_outside_is_written_to() -> None:
    guarded = np.zeros((6, 1))
    one = np.ones((1, 1))
    for gap in (4, 5, 2**32 - 1):
        assert not add(np.array([gap], np.uint64), one, ONE_ROW, 4, guarded[:4])
    assert not add(np.array([0], np.uint64), one, ONE_ROW[:0], 4, guarded[:4])
    assert not add(np.array([0], np.uint64), one, ONE_ROW, 0, guarded[:0])
    assert not add(np.full(2, 2**32 - 1, np.uint64), np.ones((1, 2)), ONE_ROW, 2, guarded[:2])
    assert not guarded.any()


def test_variances_of_single_entries_follow_from_their_weights() -> None:
    values = np.array([2.0, -3.0, 0.5, 1e200, np.nan, 4.0, 1.0, 1.0, 1.5])
    errors = np.array([4.0, 9.0, 0.3, np.inf, 1.0, 16.0, 1.0, 0.0, 2.25])
    flags, others = squares(values, errors)
    assert (flags.tolist(), others.tolist()) == ([0b00101001, 0], [0.3, 1.0, 0.0])
    out = np.empty(9)
    assert variances(values, flags, others, out)
    np.testing.assert_array_equal(out, errors)
    assert not variances(values, flags, others[:2], out)
    assert not variances(values, flags, np.append(others, 1.0), out)
    assert not variances(values, flags[:1], others, out)
