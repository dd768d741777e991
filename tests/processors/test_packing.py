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
    """The bytes are taken apart by hand: lengths, JSON, and plain arrays, first axis fastest."""
    made = histogram(3, "weighted", 400, weights=False)
    forms, counts, arrays = _opened(pack(Partial({"p.h": made}, cutflow(1))))
    assert forms["cutflow"] == ["all", "some"]
    assert counts["histograms"] == {"p.h": {"variances": "same", "chunks": None}}
    assert [kind for kind, _ in counts["arrays"]] == ["u1", "u1", "u1", "f8", "f8"]
    sizes = {"u1": 1, "f8": 8}
    assert sum(sizes[kind] * count for kind, count in counts["arrays"]) == len(arrays)
    n = counts["arrays"][0][1]
    places = np.cumsum(np.frombuffer(arrays, "u1", n).astype(int))
    values = np.frombuffer(arrays, "u1", n, n)
    view = made.view(flow=True)["value"].reshape(-1, order="F")
    np.testing.assert_array_equal(np.flatnonzero(view), places)
    np.testing.assert_array_equal(view[places], values)
    with pytest.raises(
        InputError, match=r"a histogram has storage 'mean'; expected one of int, double, weighted"
    ):
        pack(Partial({"m": hist.Hist(hist.axis.Regular(2, 0, 1), storage=hist.storage.Mean())}))


def test_variances_of_single_entries_are_told_by_their_weights() -> None:
    """Of bins with one entry of any weight nothing but the weight is kept; the others are kept as they are."""
    axis = hist.axis.Regular(1000, 0, 1, name="x")
    rng = np.random.default_rng(4)
    single = hist.Hist(axis, storage=hist.storage.Weight()).fill(axis.centers, weight=rng.normal(1, 1, 1000))
    _, counts, _ = _opened(pack(Partial({"h": single})))
    assert counts["histograms"]["h"]["variances"] == "squares"
    assert counts["arrays"][1:] == [["f8", 1000], ["u1", 125], ["u1", 0]]
    equal(unpack(pack(Partial({"h": single}))).histograms["h"], single)
    single.view()["variance"][[7, 900]] += 1e-9
    equal(unpack(pack(Partial({"h": single}))).histograms["h"], single)
    assert _opened(pack(Partial({"h": single})))[1]["arrays"][3] == ["f8", 2]


@pytest.mark.filterwarnings("error")
def test_numbers_that_are_none_come_back() -> None:
    made = histogram(1)
    made.view(flow=True)["value"].reshape(-1)[:4] = [np.nan, np.inf, -np.inf, 1e300]
    made.view(flow=True)["variance"].reshape(-1)[:4] = [np.nan, np.inf, 0, 1e-300]
    equal(unpack(pack(Partial({"h": made}))).histograms["h"], made)


def test_histograms_come_and_go_from_one_to_the_next() -> None:
    """Files of other triggers have other histograms; each is the sum over those that have it."""
    parts = [Partial({"a": histogram(1)}), Partial({"a": histogram(2), "b": histogram(3)}),
             Partial({"b": histogram(4)}), Partial({"a": histogram(5)})]  # fmt: skip
    total = Total()
    for part in parts:
        total.add(pack(part))
    for found in (total.partial(), unpack(total.packed())):
        equal(found.histograms["a"], histogram(1) + histogram(2) + histogram(5))
        equal(found.histograms["b"], histogram(3) + histogram(4))


def test_many_chunks_are_in_the_order_of_their_keys() -> None:
    """Whatever the order in which they came."""
    total, runs = Total(), np.random.default_rng(1).permutation(40)
    for run in [*runs, *runs[:10]]:
        made = ChunkedHist(
            hist.axis.IntCategory([], growth=True, name="run"), hist.axis.Regular(5, 0, 1, name="x"),
            hist.axis.Integer(0, 2, name="y"), storage=hist.storage.Int64(),
        )  # fmt: skip
        made.fill(run=int(run), x=np.full(3, run / 40), y=np.array([0, 1, 1]))
        total.add(pack(Partial({"c": made})))
    for found in (total.partial(), unpack(total.packed())):
        dense = found.histograms["c"].to_hist()
        assert list(dense.axes["run"]) == sorted(runs.tolist())
        expected = np.zeros((40, 7, 4), np.int64)
        for run in range(40):
            times = 2 if run in runs[:10] else 1
            expected[run, 1 + run // 8, 1:3] = times, 2 * times
        np.testing.assert_array_equal(dense.view(flow=True)[: len(runs)], expected)


def _opened(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Forms, counts, and the bytes of the arrays."""
    content = lz4.frame.decompress(data)
    texts = []
    for _ in range(2):
        length = int.from_bytes(content[:8], "little")
        texts.append(json.loads(content[8 : 8 + length]))
        content = content[8 + length :]
    return texts[0], texts[1], content


def _with(
    data: bytes,
    forms: dict[str, Any] | None = None,
    counts: dict[str, Any] | None = None,
    arrays: bytes = b"",
) -> bytes:
    """The same bytes with some things changed."""
    found = _opened(data)
    content = b""
    for one, changes in zip(found, (forms, counts), strict=False):
        text = json.dumps(one | (changes or {})).encode()  # type: ignore[operator]
        content += len(text).to_bytes(8, "little") + text
    return bytes(lz4.frame.compress(content + (arrays or found[2])))


def test_bytes_that_were_not_written_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(Partial({"p.h": histogram(1)}, cutflow(1)))
    forms, counts, arrays = _opened(data)
    form, listed = forms["histograms"]["p.h"], counts["arrays"]
    assert [kind for kind, _ in listed[:4]] == ["u1", "f8", "u1", "f8"]  # places, contents, and of variances
    several = pack(Partial({"c": chunked(1)}))
    chunked_form = _opened(several)[0]["histograms"]["c"]

    def formed(**changes: Any) -> bytes:
        return _with(data, {"histograms": {"p.h": form | changes}})

    def listing(place: int, kind: str, count: Any) -> bytes:
        return _with(data, counts={"arrays": [*listed[:place], [kind, count], *listed[place + 1 :]]})

    def keyed(*keys: Any) -> bytes:
        return _with(several, counts={"histograms": {"c": {"variances": "squares", "chunks": keys}}})

    gaps = listed[0][1]
    signed = _with(  # as many places, in eight bytes each
        data, counts={"arrays": [["i8", gaps], *listed[1:]]}, arrays=arrays[:gaps] + bytes(7 * gaps) + arrays[gaps:],
    )  # fmt: skip
    last = {"name": "x", "type": "regular", "bins": 10**9, "lower": 0, "upper": 1}
    damaged = [
        b"",
        b"not lz4",
        data[:-10],
        listing(0, "O", 3),
        listing(0, "f8", -1),
        listing(0, "u1", True),
        listing(0, "f8", 10**9),
        listing(0, "i8", 1),
        signed,
        listing(2, "u1", 0),
        listing(3, "f8", listed[3][1] - 1),
        listing(3, "f8", listed[3][1] + 1),
        _with(data, counts={"arrays": []}),
        _with(data, counts={"histograms": {}}),
        _with(data, arrays=b"\xff" * len(arrays)),
        _with(data, {"histograms": None}),
        formed(shape=[10**6, 10**6]),
        formed(shape=[-1, 5]),
        formed(shape=[2]),
        formed(shape=[]),
        formed(shape=[len(histogram(1).view(flow=True).reshape(-1))]),
        formed(storage="mean"),
        formed(storage="double"),
        formed(axes=[{"type": "x"}]),
        formed(axes=[*form["axes"][:3], form["axes"][3] | {"bins": 10**12}]),
        formed(axes=[last]),
        formed(axes=[last | {"categories": []}]),
        formed(axes=[last | {"edges": [0, 1]}]),
        _with(data, arrays=bytes(gaps) + arrays[gaps:]),  # all in one bin
        _with(data, {"cutflow": 3}),
        _with(data, {"cutflow": ["all", "some", "more"]}),
        keyed(),
        keyed(["a"]),
        keyed(["a"], ["b", "c"]),
        keyed(["a"], [7]),
        keyed([7], [8]),
        keyed(["a"], [["b"]]),
        _with(several, {"histograms": {"c": chunked_form | {"shape": [6]}}}),
        _with(several, {"histograms": {"c": chunked_form | {"shape": [0]}}}),
    ]
    for number, one in enumerate(damaged):
        with pytest.raises(
            InputError, match=r"a partial result is damaged \(.*\); delete the folder's ledger"
        ):
            pytest.fail(f"{number}: {unpack(one)}")
    total = Total()
    total.add(data)
    with pytest.raises(
        InputError, match=r"damaged \(ValueError: histograms of different axes do not add up\)"
    ):
        total.add(pack(Partial({"p.h": histogram(1, "double")})))
    grown = hist.Hist(hist.axis.IntCategory([], growth=True, name="run"), storage=hist.storage.Weight()).fill(
        [3]
    )
    for one, other in ((grown, histogram(1)), (histogram(1), grown)):
        total = Total()
        total.add(pack(Partial({"p.h": one})))
        with pytest.raises(InputError, match=r"damaged \(ValueError: a histogram grows here and not there\)"):
            total.add(pack(Partial({"p.h": other})))
    monkeypatch.setattr(packing, "_LONGEST", 100)
    with pytest.raises(
        InputError, match=r"damaged \(ValueError: a text of \d+ bytes; expected at most 100\)"
    ):
        unpack(data)
    monkeypatch.undo()
    many = _with(data, counts={"arrays": [["u1", 10**9], *listed[1:]]})
    with pytest.raises(
        InputError, match=r"damaged \(ValueError: arrays would take 16\d{9} bytes; expected at most"
    ):
        unpack(many)
    monkeypatch.setattr(packing, "LARGEST", 500)
    with pytest.raises(InputError, match=r"damaged \(ValueError: \d+ bytes; expected 1 to 500\)"):
        unpack(data)


def test_what_is_added_up_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all histograms and chunks together."""
    monkeypatch.setattr(packing, "LARGEST", 20_000)
    total = Total()
    for number in range(3):
        total.add(pack(Partial({f"h{number}": histogram(1)})))
    with pytest.raises(
        InputError, match=r"a histogram of shape .* would take \d+ bytes; expected at most \d+"
    ):
        total.add(pack(Partial({"h3": histogram(1)})))
    total, parts = Total(), []
    for run in range(358):
        made = ChunkedHist(
            hist.axis.IntCategory([], growth=True, name="run"), hist.axis.Regular(5, 0, 1, name="x")
        )
        made.fill(run=run, x=np.zeros(1))
        parts.append(pack(Partial({"c": made})))
    for part in parts[:357]:  # of seven bins of eight bytes
        total.add(part)
    with pytest.raises(
        InputError, match=r"a histogram of 358 chunks would take 48 bytes; expected at most 0"
    ):
        total.add(parts[357])


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_an_error_in_words_or_another_number(place: int, bit: int) -> None:
    """Which of them the digest in the ledger tells; here nothing else may happen."""
    data = bytearray(pack(Partial({"p.h": histogram(1)}, cutflow(1))))
    data[place % len(data)] ^= 1 << bit
    with contextlib.suppress(InputError):
        unpack(bytes(data))
