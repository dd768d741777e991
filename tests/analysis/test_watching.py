"""A watch leads to the result of one run over the same files, whatever happens on the way.

Protected: files are taken when they are whole and no sooner, bad ones neither stop the watch nor get lost, times from arrival
to plot are those of the clock, a watch that is started again does nothing twice, and memory and open files do not grow. The
truth is that of the files (how many events were simulated), of a clock that the test sets, and of `trila run` over the same
files.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from trila.analysis import filesets, results, steps
from trila.analysis.simulation import simulate
from trila.analysis.watch_files import Arrivals, Used
from trila.analysis.watch_state import WatchState, datasets, plots
from trila.analysis.watch_steps import STEPS, Place, WatchConfig, check_steps, split_config
from trila.analysis.watching import Watch, Wish
from trila.fits.errors import FitError
from trila.processors.errors import InputError, UnknownName

EVENTS = 100  # of each file


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of one hundred dijet events each."""
    return simulate(tmp_path_factory.mktemp("sample"), kind="dijet", events=4 * EVENTS, files=4, seed=11)


class Clock:
    """A clock that goes on when somebody sleeps."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now or time.time() + 1000.0  # later than any file

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Plots take seconds: an empty one stands for all. The list has an entry for each time."""
    calls: list[str] = []

    def plot(result: Path, outdir: Path, **options: Any) -> list[Path]:
        calls.append(str(result))
        (outdir / "dijet_mass.png").write_bytes(b"")
        return [outdir / "dijet_mass.png"]

    monkeypatch.setattr(steps, "plot", plot)
    return calls


class Told:
    """What a watch says."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.errors: list[tuple[str, str]] = []

    def watch(self, result: Path, *inputs: Path | str, clock: Clock | None = None, **wish: Any) -> Watch:
        clock = clock or Clock()
        asked = Wish(tuple(str(item) for item in inputs), result, **({"processors": ("dijet",)} | wish))
        return Watch(
            asked, tell=self.lines.append, complain=lambda about, message: self.errors.append((about, message)),
            clock=clock, sleep=clock.sleep,
        )  # fmt: skip


def events(result: Path) -> int:
    return int(results.read(result, min_fraction=0.0).manifest["datasets"]["data"]["events"])


def counts(result: Path) -> Any:
    return results.read(result).histograms["dijet.mass"].values(flow=True)


def once_over(folder: Path, files: list[Path]) -> Any:
    """What `trila run` makes of the files."""
    steps.run(["dijet"], [str(file) for file in files], folder)
    return counts(folder)


def half(source: Path, place: Path) -> None:
    place.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


# ---- which files are whole


def test_a_file_is_whole_when_two_looks_see_the_same_and_it_can_be_read(
    tmp_path: Path, sample: list[Path]
) -> None:
    clock = Clock(2e9)
    arrivals = Arrivals([str(tmp_path)], patience=100.0, clock=clock)
    assert arrivals.look().datasets == {}
    place = tmp_path / "a.root"
    half(sample[0], place)
    os.utime(place, (2e9 + 3, 2e9 + 3))
    clock.sleep(10.0)
    assert (arrivals.look().waiting, arrivals.look().new) == ({"data": 1}, {})
    clock.sleep(10.0)
    look = arrivals.look()  # the copy has stalled
    assert (look.waiting, look.new, look.complaints) == ({"data": 1}, {}, {})
    shutil.copyfile(sample[0], place)
    os.utime(place, (2e9 + 25, 2e9 + 25))
    clock.sleep(10.0)
    assert arrivals.look().new == {}
    clock.sleep(10.0)
    look = arrivals.look()
    assert look.new == {str(place): 2e9 + 25}  # it arrived when it was last written
    assert look.datasets["data"].files == (str(place),)
    arrivals.take(look.new)
    assert arrivals.look().new == {}
    assert arrivals.used == {str(place): Used(sample[0].stat().st_size, (2 * 10**9 + 25) * 10**9, 2e9 + 25)}


@pytest.mark.parametrize(("modified", "arrived"), [(1.0, 2e9), (2e9 + 4, 2e9 + 4), (3e9, 2e9 + 10)])
def test_a_file_arrived_between_the_looks_whatever_its_own_time_says(
    tmp_path: Path, sample: list[Path], modified: float, arrived: float
) -> None:
    clock = Clock(2e9)
    arrivals = Arrivals([str(tmp_path)], patience=100.0, clock=clock)
    clock.sleep(10.0)
    place = Path(shutil.copyfile(sample[0], tmp_path / "a.root"))
    os.utime(place, (modified, modified))
    arrivals.look()
    clock.sleep(10.0)
    assert arrivals.look().new == {str(place): arrived}


def test_a_file_that_stays_broken_is_told_once_and_tried_again_when_it_changes(
    tmp_path: Path, sample: list[Path]
) -> None:
    clock = Clock()
    arrivals = Arrivals([str(tmp_path / "*.root")], patience=25.0, clock=clock)
    place = tmp_path / "a.root"
    place.write_text("not yet a file of ROOT")
    told = {}
    for second in (0, 10, 20, 30, 40):
        if complaints := arrivals.look().complaints:
            told[second] = complaints[str(place)]
        clock.sleep(10.0)
    assert told == {30: "is not a ROOT file (it begins with b'not ', expected b'root') (for 30 s)"}
    shutil.copyfile(sample[0], place)
    arrivals.look()
    assert list(arrivals.look().new) == []  # not without a pause: the clock stands still
    clock.sleep(10.0)
    assert list(arrivals.look().new) == [str(place)]


def test_a_used_file_that_is_written_again_is_new_and_one_that_is_removed_is_not(
    tmp_path: Path, sample: list[Path]
) -> None:
    clock = Clock()
    place = Path(shutil.copyfile(sample[0], tmp_path / "a.root"))
    arrivals = Arrivals([str(tmp_path)], patience=100.0, clock=clock)
    for expected in (sample[0], sample[1]):
        shutil.copyfile(expected, place)
        os.utime(place, (time.time() + sample.index(expected), time.time()))
        assert arrivals.look().new == {}
        clock.sleep(10.0)
        look = arrivals.look()
        assert list(look.new) == [str(place)]
        arrivals.take(look.new)
    place.unlink()
    assert arrivals.look() == ({}, {}, {}, {}, False)
    shutil.copy2(sample[1], place)
    os.utime(place, ns=(0, arrivals.used[str(place)].modified))
    assert arrivals.look().new == {}


def test_lists_and_filesets_are_read_again(tmp_path: Path, sample: list[Path]) -> None:
    clock = Clock()
    fileset = tmp_path / "data.yaml"
    fileset.write_text(f"a: {{files: [{sample[0]}], era: x}}\n")
    arrivals = Arrivals([str(fileset)], patience=100.0, clock=clock)
    arrivals.look()
    clock.sleep(10.0)
    assert list(arrivals.look().new) == [str(sample[0])]
    fileset.write_text("a: {fi")  # while somebody writes it
    look = arrivals.look()
    assert "is not YAML" in look.complaints[""]
    assert list(look.new) == [str(sample[0])]
    assert arrivals.look().complaints == {}
    fileset.write_text(
        f"a: {{files: [{sample[0]}], era: x}}\nb: {{files: [[{tmp_path / 'gone.root'}, {sample[1]}]]}}\n"
    )
    arrivals.look()
    clock.sleep(10.0)
    look = arrivals.look()
    # one place of a file is enough, but the first must have been there to see whether it changes
    assert (list(look.new), look.waiting) == ([str(sample[0])], {"a": 0, "b": 1})
    assert look.datasets["a"].era == "x"


def test_globs_of_filesets_and_lists_may_stand_for_no_file_yet(tmp_path: Path, sample: list[Path]) -> None:
    """For a run they may not."""
    clock = Clock()
    (tmp_path / "data.yaml").write_text(f"a: {{files: [{sample[0]}]}}\nb: {{files: ['b/*.root'], era: x}}\n")
    (tmp_path / "data.txt").write_text(f"{sample[1]}\nb/*.root\n")
    message = r"no file matches .*b/\*\.root; check the folder"
    for name, waiting in (("data.yaml", {"a": 0, "b": 0}), ("data.txt", {"data": 0})):
        given = str(tmp_path / name)
        with pytest.raises(InputError, match=message):
            filesets.datasets([given])
        arrivals = Arrivals([given], patience=100.0, clock=clock)
        arrivals.look()
        clock.sleep(10.0)
        look = arrivals.look()
        assert (len(look.new), look.waiting, look.complaints) == (1, waiting, {})
        arrivals.take(look.new)
        (tmp_path / "b").mkdir()
        shutil.copyfile(sample[2], tmp_path / "b" / "c.root")
        arrivals.look()
        clock.sleep(10.0)
        assert list(arrivals.look().new) == [str(tmp_path / "b" / "c.root")]
        shutil.rmtree(tmp_path / "b")


def test_a_url_is_asked_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    from trila.processors import readers
    from trila.processors.errors import BadFile

    clock, asked = Clock(0.5), list[float]()

    def inspect(file: str, *_: Any) -> None:
        asked.append(clock.now - 0.5)
        if clock.now < 300:
            raise BadFile(file, "the server does not answer", True)

    monkeypatch.setattr(readers, "inspect", inspect)
    url = "root://server//a.root"
    arrivals = Arrivals([url], patience=100.0, clock=clock)
    told, found = {}, list[float]()
    while clock.now < 400:
        look = arrivals.look()
        told |= look.complaints
        found += [clock.now] if look.new else []
        clock.sleep(10.0)
    assert asked == [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 260.0, 360.0]
    assert told == {url: "the server does not answer (for 100 s)"}
    assert found[0] == 360.5


def test_what_is_not_there_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="incoming is not there; give a folder, a glob, a list or a fileset"):
        Arrivals([str(tmp_path / "incoming")], patience=1.0)
    assert Arrivals([str(tmp_path / "*.root")], patience=1.0).look().datasets == {}


# ---- the watch


@pytest.mark.usefixtures("drawn")
def test_it_ends_with_the_result_of_one_run(tmp_path: Path, sample: list[Path]) -> None:
    incoming, clock, told = tmp_path / "incoming", Clock(), Told()
    incoming.mkdir()
    result = tmp_path / "result"
    with told.watch(result, incoming, clock=clock) as watch:
        watch.look()  # an empty folder
        for number, file in enumerate(sample[:3], 1):
            shutil.copyfile(file, incoming / file.name)
            watch.look()
            clock.sleep(10.0)
            watch.look()
            shown = watch.state.shown()
            [row] = shown["datasets"]
            assert (row["events"], row["files_done"], row["fraction"]) == (number * EVENTS, number, 1.0)
            assert sum(shown["spectra"]["dijet.mass_standard"]["counts"]) > 0
            assert [one["file"] for one in shown["plots"]] == ["dijet_mass.png"]
    assert np.array_equal(counts(result), once_over(tmp_path / "run", sample[:3]))
    assert told.errors == []
    assert [line.split(",")[0] for line in told.lines] == ["1 new"] * 3


@pytest.mark.usefixtures("drawn")
def test_bad_files_do_not_stop_it_and_count_when_they_are_mended(tmp_path: Path, sample: list[Path]) -> None:
    """A damaged basket is only found when it is read: the file is whole and bad."""
    incoming, clock, told, result = tmp_path / "incoming", Clock(), Told(), tmp_path / "result"
    incoming.mkdir()
    shutil.copyfile(sample[0], incoming / "a.root")
    with uproot.open(sample[1]) as file:
        key = file["Events"]["ScoutingPFJet_pt"].basket_key(0)
    data = sample[1].read_bytes()
    begin = key.fSeekKey + key.fKeylen
    (incoming / "b.root").write_bytes(data[:begin] + bytes(100) + data[begin + 100 :])
    half(sample[2], incoming / "c.root")
    with told.watch(result, incoming, clock=clock, patience=15.0) as watch:
        watch.once()
        assert list(watch.skipped) == [str(incoming / "b.root")]
        [row] = watch.state.shown()["datasets"]
        assert (row["files_done"], row["files_skipped"], row["files_waiting"]) == (1, 1, 1)
        assert row["fraction"] == pytest.approx(1 / 3)
        clock.sleep(10.0)
        watch.look()
        assert {Path(about).name for about, _ in told.errors} == {"b.root", "c.root"}
        assert len(watch.state.shown()["errors"]) == 2
        for name, file in (("b.root", sample[1]), ("c.root", sample[2])):
            shutil.copyfile(file, incoming / name)
        clock.sleep(10.0)
        watch.once()
        assert watch.state.shown()["errors"] == []
        assert len(told.errors) == 2
    assert np.array_equal(counts(result), once_over(tmp_path / "run", sample[:3]))


def test_times_are_from_the_arrival_to_the_plot(
    tmp_path: Path, sample: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, result = Clock(), tmp_path / "result"
    times = iter([3.0, 5.0, 1.0])
    monkeypatch.setattr(steps, "plot", lambda *_, **__: clock.sleep(next(times)))
    (tmp_path / "in").mkdir()
    seen = []
    with Told().watch(result, tmp_path / "in", clock=clock) as watch:
        for file in sample[:3]:
            clock.sleep(4.0)
            shutil.copyfile(file, tmp_path / "in" / file.name)
            os.utime(tmp_path / "in" / file.name, (clock.now, clock.now))
            watch.look()
            clock.sleep(10.0)
            watch.look()
            seen.append(watch.state.shown()["latency_s"])
    expected = [
        {"last": 13.0, "median": 13.0, "max": 13.0},
        {"last": 15.0, "median": 14.0, "max": 15.0},
        {"last": 11.0, "median": 13.0, "max": 15.0},
    ]
    assert [pytest.approx(one, abs=1e-3) for one in expected] == seen
    with Told().watch(result, tmp_path / "in", clock=clock) as watch:  # they go on
        assert watch.state.shown()["latency_s"] == pytest.approx(expected[-1], abs=1e-3)


def test_started_again_it_does_nothing_twice(tmp_path: Path, sample: list[Path], drawn: list[str]) -> None:
    result, clock = tmp_path / "result", Clock()
    with Told().watch(result, sample[0], clock=clock) as watch:
        watch.once()
    first = (result / "manifest.json").read_bytes()
    with Told().watch(result, sample[0], clock=clock, processors=()) as watch:
        [row] = watch.state.shown()["datasets"]  # shown before the first look
        assert row["events"] == EVENTS
        watch.once()
    assert (len(drawn), (result / "manifest.json").read_bytes()) == (1, first)
    # without its file it looks at all again; the ledger still knows what is done
    (result / "live" / "state.json").write_text("{")
    with Told().watch(result, sample[0], clock=clock) as watch:
        watch.once()
        assert watch.state.shown().get("rate_hz") is None  # no event was read
    assert len(drawn) == 2


def test_it_goes_on_with_the_result_of_a_run(tmp_path: Path, sample: list[Path], drawn: list[str]) -> None:
    """Files that a run took, whatever it was given, stay in; from then on only whole ones come to them."""
    result, incoming = tmp_path / "result", tmp_path / "incoming"
    incoming.mkdir()
    shutil.copyfile(sample[0], incoming / "a.root")
    steps.run(["dijet"], [str(incoming / "*.root")], result)
    (incoming / "a.root").unlink()
    shutil.copyfile(sample[1], incoming / "b.root")
    half(sample[2], incoming / "c.root")
    with Told().watch(result, incoming, processors=()) as watch:
        watch.once()
    assert [item["status"] for item in results.read(result).manifest["inputs"]] == ["done", "done"]
    assert np.array_equal(counts(result), once_over(tmp_path / "run", sample[:2]))


@pytest.mark.usefixtures("drawn")
def test_datasets_keep_what_their_fileset_says_of_them(tmp_path: Path, sample: list[Path]) -> None:
    fileset, copy = tmp_path / "data.yaml", tmp_path / "copy.root"
    shutil.copyfile(sample[1], copy)
    fileset.write_text(
        f"a: {{files: [{sample[0]}], era: x}}\nb: {{files: [[{sample[1]}, {copy}]], metadata: {{k: [1, 2]}}}}\n"
    )
    with Told().watch(tmp_path / "result", fileset) as watch:
        watch.once()
    listed = filesets.datasets([str(tmp_path / "result" / "live" / "fileset.json")])
    assert listed == filesets.datasets([str(fileset)])
    assert results.read(tmp_path / "result").manifest["inputs"][0]["era"] == "x"


@pytest.mark.usefixtures("drawn")
def test_other_options_than_those_of_the_result_are_refused(tmp_path: Path, sample: list[Path]) -> None:
    result, config = tmp_path / "result", tmp_path / "config.yaml"
    config.write_text("dijet: {delta_eta_max: 1.1}\n")
    with Told().watch(result, sample[0], config=config) as watch:
        watch.once()
    with Told().watch(result, sample[0], config=config):
        pass
    config.write_text("dijet: {delta_eta_max: 1.2}\n")
    message = "result was made by dijet with another --config, --lumi-mask or --corrections than given now"
    with pytest.raises(InputError, match=message):
        Told().watch(result, sample[0], config=config).__enter__()
    with pytest.raises(InputError, match="with another --processors than given now; leave it out"):
        Told().watch(result, sample[0], processors=("dimuon",)).__enter__()
    with pytest.raises(InputError, match="with another --format than given now"):
        Told().watch(result, sample[0], format="cms-nano").__enter__()


def test_an_update_that_fails_is_tried_again_less_and_less_often(
    tmp_path: Path, sample: list[Path], drawn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, told, tries = Clock(), Told(), list[float]()
    begin, run = clock.now, steps.run

    def failing(*args: Any, **options: Any) -> Any:
        tries.append(clock.now - begin)
        if clock.now - begin < 200:
            raise InputError("the disk is full; free some space")
        return run(*args, **options)

    monkeypatch.setattr(steps, "run", failing)
    with told.watch(tmp_path / "result", sample[0], clock=clock, patience=100.0) as watch:
        while clock.now - begin < 320:
            watch.look()
            if 10 <= clock.now - begin < 200:
                assert watch.state.shown()["phase"] == "failed"
            clock.sleep(10.0)
        assert watch.state.shown()["phase"] == "waiting"
        assert watch.state.shown()["errors"] == []
    assert tries == [10.0, 20.0, 40.0, 80.0, 160.0, 260.0]
    assert told.errors == [("update", "the disk is full; free some space")]
    assert (len(drawn), events(tmp_path / "result")) == (1, EVENTS)


@pytest.mark.usefixtures("drawn")
def test_nobody_else_watches_into_the_same_result(tmp_path: Path, sample: list[Path]) -> None:
    with (
        Told().watch(tmp_path / "result", sample[0]),
        pytest.raises(InputError, match="live is in use by process"),
    ):
        Told().watch(tmp_path / "result", sample[0]).__enter__()


@pytest.mark.parametrize(("name", "value"), [("every", 0.0), ("patience", float("nan"))])
def test_times_must_be_above_zero(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"--{name} is {value:g}; expected seconds above 0, such as 10"):
        Told().watch(tmp_path / "result", tmp_path, **{name: value}).__enter__()
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"processors": ("dijets",)}, "unknown processor 'dijets'; did you mean dijet"),
        ({"then": ("calibrate",)}, "step calibrate needs the processor response"),
        ({"config": "dijet: {delta_eta: 1.1}"}, r"c\.yaml: dijet\.delta_eta: Extra inputs are not permitted"),
        ({"config": "watch: {fits: {}}"}, "section watch: fits: Extra inputs are not permitted"),
        ({"lumi_mask": "gone.json"}, "gone.json cannot be read: No such file"),
        ({"format": "cms-scoutin"}, "unknown format 'cms-scoutin'; did you mean cms-scouting"),
        ({"inputs": "incoming"}, "incoming is not there; give a folder, a glob, a list or a fileset that is"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    wish = {"inputs": "*.root"} | wrong
    if "config" in wish:
        Path("c.yaml").write_text(wish["config"])
        wish["config"] = "c.yaml"
    before = sorted(Path().iterdir())
    with pytest.raises(ValueError, match=message):  # the mask's error is one of the corrections
        Told().watch(Path("made/result"), wish.pop("inputs"), **wish).__enter__()
    assert sorted(Path().iterdir()) == before


def test_who_is_refused_changes_nothing_of_what_is_there(tmp_path: Path, sample: list[Path]) -> None:
    """Not even the configuration that the next update would take."""
    result, config = tmp_path / "result", tmp_path / "c.yaml"
    config.write_text("dijet: {delta_eta_max: 1.1}\n")
    with Told().watch(result, sample[0], config=config):
        pass
    config.write_text("dijet: {delta_eta_max: wide}\n")
    with pytest.raises(InputError, match=r"c\.yaml: dijet\.delta_eta_max: Input should be a valid number"):
        Told().watch(result, sample[0], config=config).__enter__()
    assert (result / "live" / "config.yaml").read_text() == "dijet:\n  delta_eta_max: 1.1\n"


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_nothing_grows(tmp_path: Path, sample: list[Path]) -> None:
    """Thirty updates: as many open files, threads and bytes after the last as after the tenth."""
    incoming, clock = tmp_path / "in", Clock()
    incoming.mkdir()
    place = incoming / "a.root"
    tracemalloc.start()
    try:
        with Told().watch(tmp_path / "result", incoming, clock=clock) as watch:
            found = []
            for number in range(30):
                shutil.copyfile(sample[number % 4], place)
                watch.once()
                assert events(tmp_path / "result") == EVENTS
                gc.collect()
                found.append((len(os.listdir("/proc/self/fd")), tracemalloc.get_traced_memory()[0]))  # noqa: PTH208
    finally:
        tracemalloc.stop()
    assert {files for files, _ in found[10:]} == {found[10][0]}
    assert found[-1][1] - found[10][1] < 500_000


# ---- what the page shows


def test_files_that_wait_are_taken_to_be_as_large_as_the_others() -> None:
    inputs = [
        {"dataset": "a", "entries": 100, "status": "done"},
        {"dataset": "a", "entries": 300, "status": "done"},
        {"dataset": "a", "entries": None, "status": "skipped"},
    ]
    shares = {"a": {"events": 400, "planned": 600, "fraction": 400 / 600}}
    [a, b] = datasets(inputs, shares, {"a": 1, "b": 2})
    assert (a["events"], a["files_done"], a["files_skipped"], a["files_waiting"]) == (400, 2, 1, 1)
    assert a["fraction"] == pytest.approx(400 / 800)
    assert (b["files_waiting"], b["fraction"]) == (2, 0.0)
    [empty] = datasets([{"dataset": "a", "entries": 0, "status": "empty"}], {"a": {"events": 0, "planned": 0, "fraction": 1.0}}, {})  # fmt: skip
    assert empty["fraction"] == 1.0


def test_the_last_error_of_a_file_counts_and_old_ones_go(tmp_path: Path) -> None:
    state = WatchState(tmp_path / "state.json", "t", Clock(1.0))
    assert state.complain("a", "one")
    assert state.complain("a", "two")
    assert not state.complain("a", "two")
    for number in range(25):
        state.complain(f"file {number}", "bad")
    shown = [(error["file"], error["message"]) for error in state.shown()["errors"]]
    assert shown == [(f"file {number}", "bad") for number in range(5, 25)]
    state.mended({"file 24", "file 7"})
    assert len(state.shown()["errors"]) == 18


def test_plots_of_the_result_come_first(tmp_path: Path) -> None:
    for name in ("stability/rate.png", "b.png", "a_b.png", "a.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [(one["file"], one["title"]) for one in plots(tmp_path)] == [
        ("a_b.png", "a b"),
        ("b.png", "b"),
        ("stability/rate.png", "stability: rate"),
    ]


# ---- steps


FIT = {"spectrum": "dijet.mass", "function": "dijet4", "range": "489:2037"}


def configured(path: Path, **watch: Any) -> Path:
    path.write_text(json.dumps({"watch": watch, "dijet": {"delta_eta_max": 1.1}}))
    return path


def test_the_section_watch_is_split_off(tmp_path: Path) -> None:
    options, rest = split_config(configured(tmp_path / "c.yaml", fit=FIT, calibrate={"scale": {"knots": 4}}))
    assert options.fit is not None
    assert (options.fit.range, options.calibrate.scale.knots, rest) == (
        "489:2037",
        4,
        {"dijet": {"delta_eta_max": 1.1}},
    )


@pytest.mark.parametrize(
    ("watch", "message"),
    [
        ({"fits": {}}, "section watch: fits: Extra inputs are not permitted .*; known: calibrate, fit"),
        ({"fit": FIT | {"range": "9:1"}}, "fit.range: .* '9:1', expected LO:HI in GeV"),
        ({"fit": {"spectrum": "dijet.mass"}}, "fit.function: Field required"),
        ({"limit": FIT | {"signal": "gauss:0.1", "masses": "x"}}, "limit.masses: .* expected LO:HI:STEP"),
    ],
)
def test_wrong_options_of_steps_are_told_at_the_start(
    tmp_path: Path, watch: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split_config(configured(tmp_path / "c.yaml", **watch))


def test_a_configuration_that_is_a_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("[1]")
    with pytest.raises(InputError, match=r"c.yaml is a list; expected sections such as 'watch:'"):
        split_config(tmp_path / "c.yaml")


def test_steps_that_can_never_be_done_are_told_at_the_start(tmp_path: Path) -> None:
    options, _ = split_config(configured(tmp_path / "c.yaml", fit=FIT))
    with pytest.raises(UnknownName, match="unknown step 'calibrat'; did you mean calibrate"):
        check_steps(["calibrat"], options, ["response"])
    with pytest.raises(
        InputError, match=r"step limit has no options; --config FILE needs a section 'watch: \{limit:"
    ):
        check_steps(["limit"], options, ["dijet"])
    with pytest.raises(
        InputError, match="step fit needs the processor dijet, and those that run are response"
    ):
        check_steps(["fit"], options, ["response"])
    with pytest.raises(InputError, match="step turnon needs the processor efficiency"):
        check_steps(["turnon"], options, ["response"])
    with pytest.raises(InputError, match="step closure tests what calibrate made; put calibrate before it"):
        check_steps(["closure", "calibrate"], options, ["response"])
    check_steps(["calibrate", "closure", "fit"], options, ["response", "dijet"])


def test_a_step_that_cannot_be_done_yet_is_told_and_the_others_are_done(
    tmp_path: Path, sample: list[Path], drawn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told, clock, done = Told(), Clock(), list[str]()

    def fit(_place: Place, _config: WatchConfig) -> None:
        if not done:
            raise FitError("too few events; use more data")
        done.append("fit")

    monkeypatch.setitem(STEPS, "fit", fit)
    monkeypatch.setitem(STEPS, "limit", lambda place, _config: done.append(place.live.name))
    config = configured(tmp_path / "c.yaml", fit=FIT, limit=FIT | {"signal": "gauss:0.1", "masses": "900"})
    shutil.copyfile(sample[0], tmp_path / "a.root")
    wish = {"config": config, "then": ("fit", "limit")}
    with told.watch(tmp_path / "result", tmp_path / "*.root", clock=clock, **wish) as watch:
        watch.once()
        assert [error["file"] for error in watch.state.shown()["errors"]] == ["--then fit"]
        assert told.errors == [("--then fit", "too few events; use more data")]
        assert done == ["live"]
        shutil.copyfile(sample[1], tmp_path / "b.root")
        watch.once()
        assert (watch.state.shown()["errors"], done) == ([], ["live", "fit", "live"])
    assert events(tmp_path / "result") == 2 * EVENTS


@pytest.mark.slow
def test_all_steps_leave_their_products(tmp_path: Path, jets_sample: Path) -> None:
    told, result, live = Told(), tmp_path / "result", tmp_path / "result" / "live"
    cut = {"spectrum": "dijet.mass", "function": "dijet3", "range": "565:1530", "rebin": "standard"}
    scan = cut | {"signal": "gauss:0.1", "masses": "700:1100:200"}
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({"watch": {"fit": cut, "limit": scan, "significance": scan | {"toys": 0}}}))
    wish = {
        "processors": ("response", "efficiency", "stability", "dijet"),
        "config": config,
        "style": {"com": 13.6},
    }
    then = ("calibrate", "closure", "turnon", "stability", "fit", "limit", "significance")
    with told.watch(result, jets_sample, then=then, **wish) as watch:
        watch.once()
        shown = watch.state.shown()
    assert told.errors == []
    assert {path.name for path in live.iterdir()} >= {"calibration.json.gz", "fit.json", "limits.json", "significance.json"}  # fmt: skip
    drawn = {plot["file"].partition("/")[0] for plot in shown["plots"]}
    assert drawn >= {
        "dijet_mass.png",
        "calibrate",
        "closure",
        "turnon",
        "stability",
        "fit",
        "limit",
        "significance",
    }
    assert shown["series"]["response"]["runs"] == [380000, 380001]


# ---- the command


class Page:
    """The page of a watch in a process of its own, and the process."""

    def __init__(self, *arguments: object) -> None:
        code = "import typer; from trila.analysis.cli_watch import watch; typer.run(watch)"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split(" ")[0]
        assert self.url.startswith("http://127.0.0.1:"), self.process.communicate()

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}state.json", timeout=30) as answer:
            return dict(json.load(answer))

    def events(self) -> int:
        return sum(row["events"] for row in self.state()["datasets"])

    def end(self, number: int) -> tuple[int, str, str]:
        """Exit code and what was printed after the URL."""
        self.process.send_signal(number)
        printed, complaints = self.process.communicate(timeout=60)
        return self.process.returncode, printed, complaints


@pytest.fixture
def start() -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def make(*arguments: object) -> Page:
        pages.append(Page(*arguments))
        return pages[-1]

    yield make
    for page in pages:
        if page.process.poll() is None:
            page.process.kill()
            page.process.communicate()


def until(what: Callable[[], object], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.2)


@pytest.mark.slow
def test_files_that_come_slowly_and_a_watch_that_is_killed(
    tmp_path: Path, sample: list[Path], start: Callable[..., Page]
) -> None:
    """Half a file is not read, a killed watch goes on, and all counts are exact."""
    incoming, result = tmp_path / "incoming", tmp_path / "result"
    incoming.mkdir()
    command = (
        incoming,
        "-o",
        result,
        "--every",
        0.5,
        "--processors",
        "dijet,stability",
        "--then",
        "stability",
    )
    page = start(*command)
    assert page.state()["phase"] == "waiting"
    half(sample[0], incoming / "a.root")
    until(lambda: any(row["files_waiting"] for row in page.state()["datasets"]))
    time.sleep(2.0)  # some looks at a copy that has stalled
    assert page.events() == 0
    with (incoming / "a.root").open("ab") as stream:
        stream.write(sample[0].read_bytes()[stream.tell() :])
    until(lambda: page.events() == EVENTS)
    shutil.copyfile(sample[1], incoming / "b.root")
    until(lambda: page.state()["phase"] != "waiting")
    assert page.end(signal.SIGKILL)[0] == -signal.SIGKILL
    page = start(*command)
    until(lambda: page.events() == 2 * EVENTS and page.state()["phase"] == "waiting")
    shutil.copyfile(sample[2], incoming / "c.root")
    until(lambda: page.events() == 3 * EVENTS and page.state()["phase"] == "waiting")
    state = page.state()
    assert sum(state["spectra"]["dijet.mass_standard"]["counts"]) > 0
    assert {plot["file"] for plot in state["plots"]} >= {"dijet_mass.png"}
    assert 0.5 < state["latency_s"]["last"] < 240.0
    code, printed, complaints = page.end(signal.SIGTERM)
    assert (code, complaints) == (0, "")
    assert printed.splitlines()[-1] == "ended; the same command goes on from here"
    mass = results.read(result).histograms["dijet.mass"]
    steps.run(["dijet", "stability"], [str(file) for file in sample[:3]], tmp_path / "run")
    expected = results.read(tmp_path / "run").histograms["dijet.mass"]
    assert np.array_equal(mass.values(flow=True), expected.values(flow=True))


@pytest.mark.slow
def test_control_c_ends_it_and_once_tells_by_its_exit_code(
    tmp_path: Path, sample: list[Path], start: Callable[..., Page]
) -> None:
    page = start(tmp_path, "-o", tmp_path / "empty", "--every", 0.5)
    # not in the middle of its first line, which would come twice
    until(lambda: page.state()["phase"] == "waiting")
    assert page.end(signal.SIGINT) == (0, "ended; the same command goes on from here\n", "")
    code = "import typer; from trila.analysis.cli_watch import watch; typer.run(watch)"
    command = [sys.executable, "-c", code, *map(str, sample[:1]), "-o", str(tmp_path / "result"), "--once", "--every", "0.1"]  # fmt: skip

    def done(*more: str) -> tuple[int, str]:
        found = subprocess.run(
            [*command, "--processors", "dijet", *more], check=False, capture_output=True, text=True
        )
        return found.returncode, found.stderr

    assert done() == (0, "")
    assert events(tmp_path / "result") == EVENTS
    code_of_wrong, message = done("--then", "limits")
    assert (code_of_wrong, message) == (2, "error: unknown step 'limits'; did you mean limit?\n")


@pytest.mark.slow
def test_a_browser_sees_the_spectrum_grow(
    tmp_path: Path, sample: list[Path], start: Callable[..., Page]
) -> None:
    """Headless Chromium through the system's chromedriver: the page changes by itself when a file comes."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs a browser: Debian's packages chromium and chromium-driver")
    from selenium import webdriver

    incoming = tmp_path / "incoming"
    incoming.mkdir()
    page = start(incoming, "-o", tmp_path / "result", "--every", 0.5, "--processors", "dijet")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}"):  # fmt: skip
        options.add_argument(flag)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as browser:
        browser.get(page.url)

        def text(selector: str) -> str:
            script = "return document.querySelector(arguments[0])?.innerText ?? ''"
            return str(browser.execute_script(script, selector))

        def chart() -> str:
            script = "return document.querySelector('#spectra svg')?.outerHTML ?? ''"
            return str(browser.execute_script(script))

        charts = []
        for number, file in enumerate(sample[:2], 1):
            shutil.copyfile(file, incoming / file.name)
            until(lambda: text("#figures div:first-child dd") == str(number * EVENTS))  # noqa: B023
            until(lambda: chart() not in ("", *charts))
            charts.append(chart())
        until(lambda: browser.execute_script("return document.images[0]?.naturalWidth ?? 0") > 0)
