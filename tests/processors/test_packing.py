"""Partial results as bytes: nothing is lost on the way, sums are those of hist, and reading them runs nothing.

Protected: contents, variances, flow bins, axes and cutflows come back bit for bit; a `Total` is the sum that hist makes;
bytes that were damaged, that are too large, or that come from someone who means harm are refused in words.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hist
import lz4.frame
import numpy as np
import pytest
from hist.chunked import ChunkedHist
from hypothesis import given, settings
from hypothesis import strategies as st

from trila.processors import packing
from trila.processors.cutflow import Cutflow
from trila.processors.errors import InputError
from trila.processors.packing import Total, pack, unpack
from trila.processors.partial import Partial

STORAGES = {
    "int": hist.storage.Int64(), "double": hist.storage.Double(), "weighted": hist.storage.Weight(),
}  # fmt: skip


def histogram(seed: int, storage: str = "weighted", n: int = 40, weights: bool = True) -> Any:
    rng = np.random.default_rng(seed)
    made = hist.Hist(
        hist.axis.StrCategory(["a", "b"], name="systematic", label="Systematic"),
        hist.axis.Variable([0, 1, 3, 7], name="x", label="x [GeV]"),
        hist.axis.Regular(4, 0, 1, name="y", underflow=False),
        hist.axis.Integer(0, 3, name="z"),
        storage=STORAGES[storage],
        name="h",
    )  # fmt: skip
    values = [
        rng.choice(["a", "b"], n),
        rng.uniform(-1, 9, n),
        rng.uniform(0, 1.2, n),
        rng.integers(-1, 5, n),
    ]
    if weights and storage != "int":
        return made.fill(*values, weight=rng.normal(1, 0.5, n))
    return made.fill(*values)


def cutflow(seed: int) -> Cutflow:
    rng = np.random.default_rng(seed)
    return Cutflow.from_stages(("all", "some"), rng.integers(0, 2, 50), rng.normal(1, 1, 50))


def equal(one: Any, other: Any) -> None:
    assert one.axes == other.axes
    assert [axis.label for axis in one.axes] == [axis.label for axis in other.axes]
    assert one.storage_type is other.storage_type
    assert one.view(flow=True).tobytes() == other.view(flow=True).tobytes()


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_packed_comes_back(storage: str, weights: bool) -> None:
    made = Partial(
        {"p.h": histogram(1, storage, weights=weights), "p.empty": histogram(1, storage, 0)}, cutflow(2)
    )
    back = unpack(pack(made))
    assert list(back.histograms) == ["p.empty", "p.h"]
    for name, one in made.histograms.items():
        equal(back.histograms[name], one)
    assert back.cutflow is not None
    assert back.cutflow.rows() == made.cutflow.rows()  # type: ignore[union-attr]
    assert unpack(pack(Partial())) == Partial()


@settings(max_examples=30, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=4), storage=st.sampled_from(sorted(STORAGES))
)
def test_totals_are_the_sums_of_hist(seeds: list[int], storage: str) -> None:
    total, expected = Total(), None
    for seed in seeds:
        one = histogram(seed, storage)
        total.add(pack(Partial({"p.h": one}, cutflow(seed))))
        expected = one if expected is None else expected + one
    found = total.partial()
    equal(found.histograms["p.h"], expected)
    equal(unpack(total.packed()).histograms["p.h"], expected)
    flows = [cutflow(seed) for seed in seeds]
    assert found.cutflow is not None
    np.testing.assert_array_equal(found.cutflow.events, sum(flow.events for flow in flows))


def chunked(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    made = ChunkedHist(
        hist.axis.StrCategory([], growth=True, name="trigger"), hist.axis.Regular(5, 0, 1, name="x"),
        storage=hist.storage.Weight(), name="c", label="events",
    )  # fmt: skip
    for trigger in rng.choice(["a", "b", "c"], 2, replace=False):
        made.fill(trigger=trigger, x=rng.uniform(0, 1, 6), weight=rng.uniform(0, 2, 6))
    return made


def by_trigger(made: Any) -> dict[str, bytes]:
    """The order of categories that grew says nothing."""
    whole = made.to_hist()
    return {trigger: whole[trigger, :].view(flow=True).tobytes() for trigger in whole.axes["trigger"]}


def test_histograms_that_grow_add_up_as_they_do() -> None:
    """The chunks, and the categories, of the two need not be the same."""
    one, other = chunked(1), chunked(5)
    total = Total()
    for made in (one, other):
        back = unpack(pack(Partial({"c": made}))).histograms["c"]
        assert isinstance(back, ChunkedHist)
        assert by_trigger(back) == by_trigger(made)
        total.add(pack(Partial({"c": made})))
    assert by_trigger(total.partial().histograms["c"]) == by_trigger(one + other)
    grown = [
        hist.Hist(hist.axis.IntCategory([], growth=True, name="run"), storage=hist.storage.Weight()).fill(
            runs
        )
        for runs in ([3, 5], [5, 4])
    ]
    total = Total()
    for made in grown:
        total.add(pack(Partial({"g": made})))
    assert total.partial().histograms["g"] == grown[0] + grown[1]


def test_whole_numbers_take_little_and_there_is_no_code_in_it() -> None:
    """The bytes are taken apart by hand: a length, JSON, and plain arrays."""
    made = histogram(3, "weighted", 400, weights=False)
    data = pack(Partial({"p.h": made}, cutflow(1)))
    content = lz4.frame.decompress(data)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert [kind for kind, _ in header["arrays"][:3]] == ["u1", "u1", "u1"]
    assert (
        sum(np.dtype(kind).itemsize * count for kind, count in header["arrays"]) == len(content) - 8 - length
    )
    places = np.cumsum(np.frombuffer(content, "u1", header["arrays"][0][1], 8 + length).astype(int))
    values = np.frombuffer(content, "u1", len(places), 8 + length + len(places))
    view = made.view(flow=True)["value"].reshape(-1)
    np.testing.assert_array_equal(np.flatnonzero(view), places)
    np.testing.assert_array_equal(view[places], values)
    with pytest.raises(
        InputError, match=r"a histogram has storage 'mean'; expected one of int, double, weighted"
    ):
        pack(Partial({"m": hist.Hist(hist.axis.Regular(2, 0, 1), storage=hist.storage.Mean())}))


def _with(data: bytes, **changes: Any) -> bytes:
    """The same bytes with another header."""
    content = lz4.frame.decompress(data)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length]) | changes
    text = json.dumps(header).encode()
    return bytes(lz4.frame.compress(len(text).to_bytes(8, "little") + text + content[8 + length :]))


def test_bytes_that_were_not_written_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(Partial({"p.h": histogram(1)}, cutflow(1)))
    form = json.loads(lz4.frame.decompress(data)[8:].split(b', "cutflow"')[0][len(b'{"histograms": ') :])[
        "p.h"
    ]
    damaged = [
        b"",
        b"not lz4",
        data[:-10],
        _with(data, arrays=[["O", 3]]),
        _with(data, arrays=[["f8", -1]]),
        _with(data, arrays=[["f8", 10**9]]),
        _with(data, arrays=[]),
        _with(data, histograms=None),
        _with(data, histograms={"p.h": form | {"shape": [10**6, 10**6]}}),
        _with(data, histograms={"p.h": form | {"shape": [-1, 5]}}),
        _with(data, histograms={"p.h": form | {"shape": [2]}}),
        _with(data, histograms={"p.h": form | {"storage": "mean"}}),
        _with(data, histograms={"p.h": form | {"axes": [{"type": "x"}]}}),
        _with(
            data, histograms={"p.h": form | {"axes": [*form["axes"][:3], form["axes"][3] | {"bins": 10**12}]}}
        ),
        _with(data, cutflow=3),
    ]
    for one in damaged:
        with pytest.raises(
            InputError, match=r"a partial result is damaged \(.*\); delete the folder's ledger"
        ):
            unpack(one)
    total = Total()
    total.add(data)
    with pytest.raises(
        InputError, match=r"damaged \(ValueError: histograms of different axes do not add up\)"
    ):
        total.add(pack(Partial({"p.h": histogram(1, "double")})))
    monkeypatch.setattr(packing, "LARGEST", 500)
    with pytest.raises(InputError, match=r"damaged \(ValueError: \d+ bytes; expected 1 to 500\)"):
        unpack(data)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_an_error_in_words_or_another_number(place: int, bit: int) -> None:
    """Which of them the digest in the ledger tells; here nothing else may happen."""
    data = bytearray(pack(Partial({"p.h": histogram(1)}, cutflow(1))))
    data[place % len(data)] ^= 1 << bit
    with contextlib.suppress(InputError):
        unpack(bytes(data))
