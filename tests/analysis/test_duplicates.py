"""Events that are in the input more than once are found exactly, wherever they are and however many.

Protected: several files and one file, files whose uuids differ, datasets of data against one another and simulated ones
each alone, counts against a slow loop, little memory, every executor, and a result that the check does not touch.
"""

from __future__ import annotations

import re
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml
from numpy.typing import NDArray
from typer.testing import CliRunner

from trila.analysis import cli, duplicates, results, steps
from trila.analysis.ledger import Ledger
from trila.analysis.verification import verify
from trila.processors.errors import BadFile, InputError

Events = NDArray[np.uint64]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, events: Any, *, without: tuple[str, ...] = (), simulated: bool = False) -> str:
    """A file with events (run, luminosity block, event), each of which has one jet."""
    rows = np.array(events, dtype=np.uint64).reshape(-1, 3)
    ones = np.ones(len(rows), np.float32)
    jets = ak.zip(dict.fromkeys(("pt", "eta", "phi", "m"), ones))
    branches: dict[str, Any] = {
        "run": rows[:, 0].astype(np.uint32),
        "luminosityBlock": rows[:, 1].astype(np.uint32),
        "event": rows[:, 2],
        "ScoutingPFJet": ak.unflatten(jets, np.ones(len(rows), np.int64)),
    }
    if simulated:
        branches["genWeight"] = ones
    branches = {key: values for key, values in branches.items() if key not in without}
    types = {k: v.dtype if isinstance(v, np.ndarray) else v.type.content for k, v in branches.items()}
    with uproot.recreate(name) as file:
        tree = file.mktree(
            "Events", types, counter_name=lambda c: f"n{c}", field_name=lambda c, f: f"{c}_{f}" if c else f
        )
        tree.extend(branches)
    return name


def run(*files: str, result: str = "result", **options: Any) -> None:
    steps.run(["dijet"], files, result, check_duplicates=True, **options)


def refused(*files: str, **options: Any) -> str:
    with pytest.raises(InputError, match="events are in the input more than once") as caught:
        run(*files, **options)
    return str(caught.value)


def test_the_same_events_in_two_files() -> None:
    """Their uuids differ, so that the files look different."""
    rows = [(5, 7, 100), (5, 7, 101), (5, 8, 100)]
    write("a.root", rows)
    write("b.root", [*rows[:2], (6, 7, 100)])
    with uproot.open("a.root") as one, uproot.open("b.root") as other:
        assert one.file.uuid != other.file.uuid
    assert refused("a.root", "b.root") == (
        "2 events are in the input more than once, such as run 5, block 7, event 100 in a.root and b.root; run 5, block 7, "
        "event 101 in a.root and b.root; leave one out"
    )
    assert not Path("result").exists()


def test_one_event_twice_in_one_file() -> None:
    write("a.root", [(5, 7, 2**63 + 1), (5, 7, 3), (5, 7, 2**63 + 1)])
    assert refused("a.root") == (
        "1 events are in the input more than once, such as run 5, block 7, event 9223372036854775809 in a.root, twice; "
        "leave one out"
    )


def test_what_is_alike_is_not_the_same() -> None:
    """Runs, blocks and event numbers that differ in the last bit, or are exchanged; 2^32 is the largest block and run."""
    last = 2**32 - 1
    write("a.root", [(1, 2, 3), (2, 1, 3), (1, 3, 2), (1, 2, 2), (last, last, 2**64 - 1)])
    write("b.root", [(1, 2, 4), (last, last, 2**64 - 2), (last, last - 1, 2**64 - 1), (0, 0, 0), (0, 1, 0)])
    run("a.root", "b.root")


def test_only_what_is_planned_counts() -> None:
    write("a.root", [(5, 7, 1), (5, 7, 2), (5, 7, 1)])
    run("a.root", max_events=2)
    run("a.root", entries=(1, 3))
    refused("a.root", max_events=3)


def test_data_across_datasets_and_simulation_within() -> None:
    """Event numbers of simulated datasets begin anew."""
    for name, simulated in (("data", False), ("mc", True)):
        write(f"{name}_a.root", [(1, 1, 1), (1, 1, 2)], simulated=simulated)
        write(f"{name}_b.root", [(1, 1, 2), (1, 1, 3)], simulated=simulated)
        sets = {one: {"files": [f"{name}_{one}.root"]} for one in "ab"}
        if simulated:
            sets = {one: {**content, "cross_section": 1.0} for one, content in sets.items()}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(sets))
    assert "1 events are in the input more than once" in refused("data.yaml")
    run("mc.yaml")
    assert "run 1, block 1, event 2 in mc_a.root and mc_b.root" in refused("mc_a.root", "mc_b.root")


@pytest.mark.parametrize("seed", range(3))
def test_as_many_as_a_slow_loop_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pieces and many files on disk, few values: each event comes up to a dozen times, in one file and in several."""
    monkeypatch.setattr(duplicates, "_AT_A_TIME", 37)
    rng = np.random.default_rng(seed)
    files, seen = [], Counter[tuple[int, ...]]()
    for number in range(3):
        rows = rng.integers(1, (3, 5, 40), (rng.integers(100, 200), 3))
        files.append(write(f"{number}.root", rows))
        for row in rows:
            seen[tuple(row.tolist())] += 1
    extra = sum(count - 1 for count in seen.values())
    assert extra > 50
    message = refused(*files)
    assert message.startswith(f"{extra} events are in the input")
    for run_, block, event in re.findall(r"run (\d+), block (\d+), event (\d+)", message):
        assert seen[int(run_), int(block), int(event)] > 1


def test_memory_is_that_of_one_file_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events there are, and however often the same comes; earlier files on disk are not kept."""
    monkeypatch.setattr(duplicates, "_AT_A_TIME", 500)
    rng = np.random.default_rng(1)
    sizes: list[int] = []
    alive: list[weakref.ref[Any]] = []
    original = np.fromfile

    def fromfile(path: Path, kind: Any) -> Any:
        assert not any(ref() is not None for ref in alive), "an earlier file on disk is still in memory"
        found = original(path, kind)
        alive.append(weakref.ref(found))
        sizes.append(found.size // 3)
        return found

    monkeypatch.setattr(np, "fromfile", fromfile)
    write("many.root", np.column_stack([np.ones((20_000, 2)), rng.permutation(20_000)]))
    run("many.root")
    assert sum(sizes) == 20_000
    assert len(sizes) == 41  # as many as 1 + 20 000 / 500
    assert max(sizes) < 700
    sizes.clear()
    write("same.root", np.ones((20_000, 3)))
    assert refused("many.root", "same.root").startswith("20000 events are in")  # (1, 1, 1) is in both
    assert max(sizes) < 700


def test_what_cannot_be_told_is_refused() -> None:
    write("a.root", [(1, 1, 1)], without=("event",))
    with pytest.raises(
        InputError,
        match=r"^a\.root has no run, luminosity block and event number to tell events by; leave out --check-",
    ):
        run("a.root")


def spoil(name: str) -> None:
    """Damage the first basket of the event numbers."""
    with uproot.open(name) as file:
        key = file["Events"]["event"].basket_key(0)
        place = int(key.fSeekKey + key.fKeylen)
    data = bytearray(Path(name).read_bytes())
    data[place : place + 9] = b"\xff" * 9
    Path(name).write_bytes(data)


def test_a_file_that_cannot_be_read_is_named() -> None:
    write("a.root", [(1, 1, n) for n in range(50)])
    spoil("a.root")
    with pytest.raises(BadFile, match=r"^a\.root: branch event cannot be read"):
        run("a.root")


def test_a_file_that_cannot_be_read_is_skipped_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has events of another file, and some twice, which do not count, as it does not; of its pieces one is good."""
    monkeypatch.setattr(duplicates, "_AT_A_TIME", 40)
    for number in range(2):
        write(f"{number}.root", [(1, number, n) for n in range(50)])
    rows = [(1, 0, n) for n in range(30)] + [(1, 0, n) for n in range(30)]
    write("bad.root", rows)
    pieces = duplicates._identities

    def reads(context: None, attempt: Any) -> Any:
        if attempt.item.file == "bad.root" and attempt.item.start > 0:
            raise BadFile("bad.root", "branch event cannot be read in entries 40 to 60")
        return pieces(context, attempt)

    monkeypatch.setattr(duplicates, "_identities", reads)
    outcome = steps.run(
        ["dijet"], ["0.root", "bad.root", "1.root"], "result", check_duplicates=True, skip_bad_files=True
    )
    assert outcome.skipped == {"bad.root": "branch event cannot be read in entries 40 to 60"}
    with Ledger(Path("result")) as ledger:
        assert ledger.rows("SELECT file, kind, reason FROM attempts") == [
            ("bad.root", "input", outcome.skipped["bad.root"])
        ]
        assert ledger.rows("SELECT status, count(*) FROM units GROUP BY 1") == [("done", 2)]
    manifest = outcome.result.manifest
    assert [(i["status"], i["processed"]) for i in manifest["inputs"]] == [("done", 50), ("skipped", 0), ("done", 50)]  # fmt: skip
    data = manifest["datasets"]["data"]
    assert (data["events"], data["planned"]) == (100, 160)
    assert not any(check.faults for check in verify("result", silent))
    alone = steps.run(["dijet"], ["0.root", "1.root"], "alone").result
    one, two = (found.histograms["dijet.mass"].view(flow=True).tobytes() for found in (outcome.result, alone))
    assert (one, outcome.result.cutflow) == (two, alone.cutflow)
    write("again.root", [(1, 1, 7)])
    with pytest.raises(
        InputError, match=r"^1 events are .*event 7 in 1\.root and again\.root; leave one out$"
    ):
        run("0.root", "bad.root", "1.root", "again.root", skip_bad_files=True)


def test_no_file_can_be_read() -> None:
    write("a.root", [(1, 1, n) for n in range(50)])
    spoil("a.root")
    with pytest.raises(
        InputError, match=r"none of 1 files could be read; the first is a\.root: branch event cannot"
    ):
        run("a.root", skip_bad_files=True)


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.root", [(1, 1, 1)])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(duplicates, "_spread", full)
    with pytest.raises(
        InputError,
        match=r"^identities of events cannot be kept in .*\.building: No space left on device; free some space$",
    ):
        run("a.root")


def silent(_stage: str, _total: int) -> Callable[[int], None]:
    return lambda _advance: None


def test_the_result_is_what_it_is_without() -> None:
    """Also where it only adds to an earlier one, whose files are compared with what is new."""
    for number in range(3):
        write(f"{number}.root", [(1, number, n) for n in range(40)])
    write("again.root", [(1, 0, 0)])
    run("0.root", "1.root")
    with pytest.raises(
        InputError, match=r"1 events are .*run 1, block 0, event 0 in 0\.root and again\.root"
    ):
        steps.update("result", files=["again.root"], check_duplicates=True)
    steps.update("result", files=["2.root"], check_duplicates=True)
    steps.run(["dijet"], ["0.root", "1.root", "2.root"], "alone")
    one, two = results.read("result"), results.read("alone")
    assert {path.name for path in Path("result").iterdir()} == {path.name for path in Path("alone").iterdir()}
    assert one.manifest["products"] == two.manifest["products"]
    assert one.cutflow == two.cutflow
    assert not any(check.faults for check in verify("result", silent))


def test_the_option() -> None:
    write("a.root", [(1, 1, 1)] * 3)
    given = ["run", "dijet", "a.root", "-o", "result", "--check-duplicates"]
    done = CliRunner().invoke(cli.app, given)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: 2 events are in the input more than once, such as run 1, block 1, ")
    done = CliRunner().invoke(cli.app, given[:-1])
    assert done.exit_code == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_other_executors(executor: Any) -> None:
    rows = [(1, 1, n) for n in range(60)]
    files = [write(f"{n}.root", rows[20 * n : 20 * n + 20]) for n in range(3)]
    run(*files, result="good", executor=executor, workers=2)
    assert not any(check.faults for check in verify("good", silent))
    twice = write("twice.root", rows[5:25])
    assert refused(*files, twice, executor=executor, workers=2) == refused(*files, twice)
