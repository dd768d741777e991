"""What is done when a piece of work fails: replicas, pauses, workers that are lost, and where it ends.

The pool is one whose answers are written down beforehand, and whose clock is its own.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trila.processors import run
from trila.processors.errors import BadFile, InputError
from trila.processors.partial import Unit
from trila.processors.pools import Finished, WorkerLost
from trila.processors.readers import FileInfo
from trila.processors.run import Attempt, carry_out, cut

#: What becomes of the tries at an item, in order; an error, or None for success.
Script = dict[str, list[Exception | None]]


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Scripted:
    """A pool that gives back what is written, the last task first; each task takes a second."""

    def __init__(self, script: Script, clock: Clock, slots: int = 2) -> None:
        self.slots = slots
        self.script = {item: list(outcomes) for item, outcomes in script.items()}
        self.clock = clock
        self.under_way: list[Attempt] = []
        self.log: list[tuple[float, str, str]] = []
        self.waits: list[float | None] = []

    def share(self, context: Any) -> Any:
        return context

    def submit(self, work: Any, shared: Any, task: Attempt) -> None:
        self.under_way.append(task)
        assert len(self.under_way) <= self.slots
        self.log.append((self.clock.now - 100, task.item, task.source))

    def finished(self, timeout: float | None = None) -> list[Finished]:
        self.waits.append(timeout)
        if timeout is not None and timeout < 1:
            self.clock.now += timeout
            return []
        self.clock.now += 1
        task = self.under_way.pop()
        error = self.script[task.item].pop(0)
        return [Finished(task, None if error else f"of {task.item}", error)]

    def close(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(run, "time", made)
    return made


def outcomes(
    pool: Scripted, items: Any, replicas: dict[str, tuple[str, ...]] | None = None, **more: Any
) -> Any:
    """Item to what came of it, and the tries that failed."""
    tried: list[tuple[str, str, str, str]] = []
    found = carry_out(
        pool, lambda *_: None, None, items, sources=lambda item: (replicas or {}).get(item, (item,)),
        tried=lambda *failed: tried.append(failed), **more,
    )  # fmt: skip
    values = {item: value.reason if isinstance(value, BadFile) else value for item, value in found}
    return values, tried


def bad(reason: str = "is bad", transient: bool = False) -> BadFile:
    return BadFile("f", reason, transient)


def test_everything_is_done_once_a_few_at_a_time(clock: Clock) -> None:
    pool = Scripted(defaultdict(lambda: [None]), clock, slots=3)
    pool.script = {str(n): [None] for n in range(20)}
    values, tried = outcomes(pool, map(str, range(20)))
    assert values == {str(n): f"of {n}" for n in range(20)}
    assert tried == []
    assert clock.slept == []
    assert set(pool.waits) == {None}
    assert outcomes(Scripted({}, clock), []) == ({}, [])


def test_replicas_are_read_in_their_order_and_at_once(clock: Clock) -> None:
    pool = Scripted({"a": [bad("1"), bad("2"), None]}, clock)
    values, tried = outcomes(pool, ["a"], {"a": ("near", "far", "tape")})
    assert values == {"a": "of a"}
    assert pool.log == [(0, "a", "near"), (1, "a", "far"), (2, "a", "tape")]
    assert tried == [("a", "near", "input", "1"), ("a", "far", "input", "2")]


def test_what_is_bad_for_good_is_not_tried_again(clock: Clock) -> None:
    pool = Scripted({"a": [bad("1", True), bad("2")], "b": [bad("3")], "c": [None]}, clock, slots=1)
    values, tried = outcomes(pool, ["a", "b", "c"], {"a": ("near", "far")})
    assert values == {"a": "2", "b": "3", "c": "of c"}
    assert len(tried) == 3
    assert clock.slept == []


def test_what_may_pass_is_tried_in_six_rounds_with_longer_pauses(clock: Clock) -> None:
    """2 s after the first round, then twice as long each time, a minute in all; then it is bad."""
    pool = Scripted({"a": [bad(str(n), True) for n in range(12)]}, clock)
    values, tried = outcomes(pool, ["a"], {"a": ("near", "far")})
    assert values == {"a": "11"}
    assert [time for time, *_ in pool.log] == [0, 1, 4, 5, 10, 11, 20, 21, 38, 39, 72, 73]
    assert [source for *_, source in pool.log] == ["near", "far"] * 6
    assert [reason for *_, reason in tried] == [str(n) for n in range(12)]
    assert clock.slept == [2, 4, 8, 16, 32]
    assert (run.ROUNDS, run.PAUSE) == (6, 2.0)


def test_others_go_on_during_a_pause(clock: Clock) -> None:
    pool = Scripted({"a": [bad("0", True), None], **{n: [None] for n in "bcd"}}, clock, slots=1)
    values, _ = outcomes(pool, "abcd")
    assert values == {n: f"of {n}" for n in "abcd"}
    assert [item for _, item, _ in pool.log] == ["a", "b", "c", "a", "d"]
    assert clock.slept == []


def test_one_that_is_due_waits_for_a_slot_without_asking_all_the_time(clock: Clock) -> None:
    script: Script = {"a": [bad("0", True), None], "b": [None], "c": [None], "d": [None]}
    pool = Scripted(script, clock, slots=2)
    outcomes(pool, ["b", "a", "c", "d"])
    assert 0.0 not in pool.waits


def test_lost_workers(clock: Clock) -> None:
    """What may be to blame is done again alone; three workers lost so end the run. Dask counts by itself."""
    lost = WorkerLost("a worker process died", 1)
    pool = Scripted(
        {"a": [lost, lost, None], "b": [lost, None], "c": [lost, None], "d": [None]}, clock, slots=3
    )
    values, tried = outcomes(pool, "abcd")
    assert values == {name: f"of {name}" for name in "abcd"}
    assert sorted(tried) == [(item, item, "worker", "a worker process died") for item in ("a", "a", "b", "c")]
    assert [item for _, item, _ in pool.log] == ["a", "b", "c", "c", "b", "a", "a", "d"]
    unit = Unit("a.root", ("a.root",), "t", "u", "data", 0, (0,), ((5, 7), (7, 9)))
    for times, deaths in (([lost] * 4, 3), ([WorkerLost("x", 4)], 4), ([WorkerLost("x", 2), lost], 3)):
        pool = Scripted({}, clock)
        pool.script = {unit: times}  # type: ignore[dict-item]
        with pytest.raises(
            InputError,
            match=rf"^{deaths} workers died on a.root, entries 5 to 9, most likely for want of memory; use a smaller --chunk",
        ):
            outcomes(pool, [unit], {unit: ("a.root",)})  # type: ignore[dict-item]


def test_anything_else_stops_at_once(clock: Clock) -> None:
    pool = Scripted({"a": [None], "b": [ZeroDivisionError("no")], "c": [None]}, clock, slots=1)
    with pytest.raises(ZeroDivisionError, match="no"):
        outcomes(pool, "abc")
    assert [item for _, item, _ in pool.log] == ["a", "b"]


def test_what_is_no_longer_wanted_is_left_out(clock: Clock) -> None:
    """Also where it was to be tried again."""
    wanted = {"a", "b", "c"}
    pool = Scripted({"a": [bad("0", True), None], "b": [None], "c": [None], "d": [None]}, clock, slots=1)
    tried: list[Any] = []

    def failed(*what: Any) -> None:
        tried.append(what)
        wanted.remove("a")

    found = carry_out(
        pool, lambda *_: None, None, "abcd", sources=lambda i: (i,), wanted=wanted.__contains__, tried=failed
    )
    assert dict(found) == {"b": "of b", "c": "of c"}
    assert len(tried) == 1


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_each_item_comes_back_once_whatever_fails(data: st.DataObject) -> None:
    """Against the rules, followed item by item."""
    kinds = st.sampled_from(["ok", "bad", "passing", "lost"])
    scripts = data.draw(st.lists(st.lists(kinds, min_size=30, max_size=30), max_size=6))
    replicas = [data.draw(st.integers(1, 3)) for _ in scripts]
    expected: dict[str, str] = {}
    stops = False
    for number, (script, count) in enumerate(zip(scripts, replicas, strict=True)):
        tries = losses = 0
        alone = False
        for kind in script:
            if kind == "ok":
                expected[str(number)] = f"of {number}"
                break
            if kind == "lost":
                losses += alone
                alone = True
                stops |= losses == 3
                if losses == 3:
                    break
                continue
            alone = False
            tries += 1
            if tries % count == 0 and (kind == "bad" or tries == 6 * count):
                expected[str(number)] = kind
                break
    made = {"ok": None, "bad": bad("bad"), "passing": bad("passing", True), "lost": WorkerLost("x", 1)}
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(run, "time", clock)
        pool = Scripted({str(n): [made[k] for k in s] for n, s in enumerate(scripts)}, clock)
        names = {str(n): tuple(f"r{i}" for i in range(count)) for n, count in enumerate(replicas)}
        if stops:
            with pytest.raises(InputError, match="3 workers died on r"):
                outcomes(pool, list(names), names)
        else:
            assert outcomes(pool, list(names), names)[0] == expected


def test_cuts_are_at_clusters_and_leave_nothing_out() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        entries = int(rng.integers(0, 60))
        clusters = tuple(sorted({0, entries, *rng.integers(0, entries + 1, 4).tolist()}))
        info = FileInfo("f", "t", "u", 0, entries, clusters, None, ())  # type: ignore[arg-type]
        size, start = int(rng.integers(1, 30)), int(rng.integers(0, entries + 1))
        found = cut(info, entries, size, start)
        assert [n for begin, end in found for n in range(begin, end)] == list(range(start, entries))
        assert all(0 < end - begin <= size for begin, end in found)
        for _, end in found:  # at a cluster, or as there is none within reach
            assert (
                end in clusters
                or not any(end - size < c <= end for c in clusters if c > start)
                or end == entries
            )
    with pytest.raises(InputError, match="chunk size is 0; expected at least 1"):
        cut(FileInfo("f", "t", "u", 0, 5, (0,), None, ()), 5, 0)  # type: ignore[arg-type]
