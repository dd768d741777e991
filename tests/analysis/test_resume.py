"""A run goes on from what earlier runs left, and its result is, bit for bit, that of one run over the final list.

Protected: nothing is done twice, and nothing is taken over that would be made otherwise today: other configuration, other
corrections, other source, other file, other entries. Updates and retractions of files, runs and luminosity blocks are
compared with runs over the final files, from which the events were filtered with uproot alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot

from trila.analysis import planning, results, simulation, steps, sum_tree
from trila.analysis.ledger import Ledger
from trila.analysis.pairs import Level, read_pairs
from trila.analysis.simulation import FIRST_RUN, Kind, simulate
from trila.analysis.verification import verify
from trila.processors import partial, readers
from trila.processors import run as carrying
from trila.processors.errors import InputError

FILES, EVENTS = 4, 400

FACTOR = {
    "schema_version": 2,
    "corrections": [
        {
            "name": "hlt_jec", "version": 1, "inputs": [{"name": "JetPt", "type": "real"}],
            "output": {"name": "factor", "type": "real"}, "data": 1.0,
        }
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulation with weights in `jets`, data in `dijet`: each file a run of four luminosity blocks."""
    folder = tmp_path_factory.mktemp("resume")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "EVENTS_PER_LUMINOSITY_BLOCK", EVENTS // 4)
        kinds: tuple[Kind, ...] = ("jets", "dijet")
        for kind in kinds:
            simulate(folder / kind, kind=kind, events=FILES * EVENTS, files=FILES, seed=3)
    return folder


@pytest.fixture
def jets(samples: Path, tmp_path: Path) -> list[Path]:
    return _copied(samples / "jets", tmp_path / "jets")


@pytest.fixture
def data(samples: Path, tmp_path: Path) -> list[Path]:
    return _copied(samples / "dijet", tmp_path / "data")


def _copied(source: Path, target: Path) -> list[Path]:
    target.mkdir()
    return [Path(shutil.copy2(path, target)) for path in sorted(source.glob("*.root"))]


def run(processors: str, files: list[Path], result: Path, **options: Any) -> None:
    steps.run(processors.split(","), [str(file) for file in files], result, **options)


def redone(result: Path) -> list[tuple[str, str, int, int]]:
    """File, processors and entries of the units that the last run did."""
    with Ledger(result) as ledger:
        found = ledger.rows(
            "SELECT files.file, processors, start, stop FROM units JOIN files ON files.number = units.file "
            "WHERE attempts > 0 ORDER BY units.file, processors, start"
        )
        assert not ledger.rows("SELECT 1 FROM units WHERE status NOT IN ('done', 'empty', 'skipped')")
    return [(Path(file).name, processors, start, stop) for file, processors, start, stop in found]


def whole(files: list[Path], processors: str) -> list[tuple[str, str, int, int]]:
    return [(file.name, processors, 0, EVENTS) for file in files]


def pairs(result: results.Result) -> list[tuple[Any, ...]]:
    tables = [pq.read_table(result.path / "pairs" / name).to_pydict() for name in result.manifest["pairs"]]
    return sorted(row for table in tables for row in zip(*table.values(), strict=True))


def same(result: Path, other: Path) -> None:
    """Histograms with flow bins and variances, cutflow, luminosity blocks and pairs are equal, bit for bit."""
    one, two = results.read(result), results.read(other)
    assert one.histograms.keys() == two.histograms.keys()
    assert any(h.view(flow=True)["value"].any() for h in two.histograms.values())
    for name, histogram in one.histograms.items():
        assert histogram.axes == two.histograms[name].axes, name
        assert histogram.view(flow=True).tobytes() == two.histograms[name].view(flow=True).tobytes(), name
    assert one.cutflow == two.cutflow
    seen = [(path / "luminosity_blocks.json") for path in (result, other)]
    assert seen[0].exists() == seen[1].exists()
    if seen[0].exists():
        assert json.loads(seen[0].read_text()) == json.loads(seen[1].read_text())
    assert pairs(one) == pairs(two)
    assert {path.relative_to(result / "pairs").as_posix() for path in result.rglob("*.parquet")} == set(
        one.manifest["pairs"]
    )


def events(result: Path) -> int:
    return sum(item["processed"] for item in results.read(result).manifest["inputs"])


# ---- what is done is not done again


def test_the_same_again_reads_nothing(
    data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("dijet", data[:2], tmp_path / "result")
    assert redone(tmp_path / "result") == whole(data[:2], "dijet")
    shutil.copytree(tmp_path / "result", tmp_path / "first")

    def never(*_: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(readers, "inspect", never)
    monkeypatch.setattr(readers, "read", never)
    run("dijet", data[:2], tmp_path / "result")
    assert redone(tmp_path / "result") == []
    same(tmp_path / "result", tmp_path / "first")


@pytest.mark.slow
def test_a_changed_configuration_runs_its_processor_again(jets: list[Path], tmp_path: Path) -> None:
    run("response,dijet", jets, tmp_path / "result")
    (tmp_path / "other.yaml").write_text("response: {tag_eta_max: 0.8}\n")
    other = {"config": tmp_path / "other.yaml"}
    run("response,dijet", jets, tmp_path / "result", **other)
    assert redone(tmp_path / "result") == whole(jets, "response")
    run("response,dijet", jets, tmp_path / "alone", **other)
    same(tmp_path / "result", tmp_path / "alone")  # the earlier pairs are gone, too
    (tmp_path / "neither.yaml").write_text("dimuon: {pt_min: 50}\n")
    run("response,dijet", jets, tmp_path / "result", config=tmp_path / "neither.yaml")
    assert redone(tmp_path / "result") == whole(jets, "response")


@pytest.mark.slow
def test_changed_corrections_run_the_dijet_spectrum_again(jets: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(FACTOR))
    run("response,dijet", jets, tmp_path / "result", corrections=str(file))
    with Ledger(tmp_path / "result") as ledger:
        before = ledger.rows("SELECT rowid, * FROM partials WHERE processor = 'response'")
    FACTOR["corrections"][0]["data"] = 1.1  # type: ignore[index]
    file.write_text(json.dumps(FACTOR))
    run("response,dijet", jets, tmp_path / "result", corrections=str(file))
    assert redone(tmp_path / "result") == whole(jets, "dijet")
    with Ledger(tmp_path / "result") as ledger:
        assert ledger.rows("SELECT rowid, * FROM partials WHERE processor = 'response'") == before
    run("response,dijet", jets, tmp_path / "alone", corrections=str(file))
    same(tmp_path / "result", tmp_path / "alone")


@pytest.mark.slow
def test_a_replaced_file_is_read_again(samples: Path, data: list[Path], tmp_path: Path) -> None:
    run("dijet", data, tmp_path / "result")
    (other,) = simulate(tmp_path / "other", kind="dijet", events=EVENTS, seed=9)
    shutil.copy(other, data[1])
    run("dijet", data, tmp_path / "result")
    assert redone(tmp_path / "result") == whole(data[1:2], "dijet")
    run("dijet", data, tmp_path / "alone")
    same(tmp_path / "result", tmp_path / "alone")
    data[2].touch()  # its uuid would stay if it were changed in place
    run("dijet", data, tmp_path / "result")
    assert redone(tmp_path / "result") == whole(data[2:3], "dijet")


@pytest.mark.slow
def test_another_processor_runs_alone(jets: list[Path], tmp_path: Path) -> None:
    run("response", jets, tmp_path / "result")
    run("response,dijet", jets, tmp_path / "result")
    assert redone(tmp_path / "result") == whole(jets, "dijet")
    run("response,dijet", jets, tmp_path / "alone")
    same(tmp_path / "result", tmp_path / "alone")
    run("dijet", jets, tmp_path / "result")
    assert redone(tmp_path / "result") == []
    assert results.read(tmp_path / "result").manifest["pairs"] == {}


@pytest.mark.slow
def test_other_chunks_are_no_other_result(
    data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_LARGEST_UNIT", 1)
    run("dijet", data[:3], tmp_path / "result", chunk_size=150)
    assert len(redone(tmp_path / "result")) == 3 * 3
    run("dijet", data, tmp_path / "result", chunk_size=10**6)
    assert redone(tmp_path / "result") == whole(data[3:], "dijet")
    run("dijet", data, tmp_path / "alone")
    same(tmp_path / "result", tmp_path / "alone")


@pytest.mark.slow
def test_more_and_fewer_events(data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_LARGEST_UNIT", 1)
    for most, done in ((500, [100, 400]), (700, [200]), (None, [100, 400, 400]), (650, [150]), (650, [])):
        run("dijet", data, tmp_path / "result", max_events=most)
        lengths = [stop - start for _, _, start, stop in redone(tmp_path / "result")]
        assert sorted(n for n in lengths if n) == done, most  # files that are not needed have an empty unit
        assert events(tmp_path / "result") == (most or FILES * EVENTS)
        run("dijet", data, tmp_path / f"alone_{most}", max_events=most)
        same(tmp_path / "result", tmp_path / f"alone_{most}")


@pytest.mark.slow
def test_pairs_of_a_shorter_unit_do_not_replace_those_of_a_longer_one(
    jets: list[Path], tmp_path: Path
) -> None:
    run("response", jets[:1], tmp_path / "result")
    before = results.read(tmp_path / "result").manifest["pairs"]
    run("response", jets[:1], tmp_path / "result", max_events=100)
    assert not before.keys() & results.read(tmp_path / "result").manifest["pairs"].keys()


class Killed(BaseException):
    """Ends a run as nothing else does."""


@pytest.mark.parametrize("units", [0, 1, 5, 11, 12])
@pytest.mark.slow
def test_stopped_anywhere_and_resumed(
    units: int, jets: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_LARGEST_UNIT", 1)
    how: dict[str, Any] = {"chunk_size": 150}
    run("response,dijet", jets, tmp_path / "whole", **how)
    count = len(redone(tmp_path / "whole"))
    assert count == 12
    with monkeypatch.context() as patch:
        if units < count:
            made = carrying.process_unit
            left = iter(range(units))

            def measure(*given: Any) -> Any:
                if next(left, None) is None:
                    raise Killed
                return made(*given)

            patch.setattr(carrying, "process_unit", measure)
        else:  # while the products are written
            patch.setattr(results, "_Archive", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run("response,dijet", jets, tmp_path / "result", **how)
    assert not (tmp_path / "result" / "manifest.json").exists()
    assert (tmp_path / "result").exists() == (units > 0)
    run("response,dijet", jets, tmp_path / "result", **how)
    assert len(redone(tmp_path / "result")) == count - units
    same(tmp_path / "result", tmp_path / "whole")
    assert sorted(p.name for p in (tmp_path / "result").iterdir()) == [
        "cutflow.json", "histograms.zip", "ledger.sqlite", "manifest.json", "pairs",
    ]  # fmt: skip


def test_a_damaged_partial_result_is_found(data: list[Path], tmp_path: Path) -> None:
    run("dijet", data[:2], tmp_path / "result")
    _flip(tmp_path / "result", "partials")
    run("dijet", data[:2], tmp_path / "other")
    with pytest.raises(
        InputError, match=r"the partial result of entries 0 to 400 of file \S+ is damaged; delete the folder"
    ):
        steps.update(tmp_path / "result", files=[str(data[2])])


@pytest.mark.slow
def test_what_is_done_again_in_other_chunks_is_added_up_again(jets: list[Path], tmp_path: Path) -> None:
    """Its weights differ in their last digits: sums that it is a part of are not those that are kept."""
    run("response", jets, tmp_path / "result", chunk_size=EVENTS)
    min((tmp_path / "result" / "pairs").rglob("*.parquet")).unlink()
    run("response", jets, tmp_path / "result", chunk_size=60)
    assert len(redone(tmp_path / "result")) == 1
    checks = verify(tmp_path / "result", lambda _what, _total: lambda _done: None)
    assert [check for check in checks if check.faults] == []


@pytest.mark.slow
def test_a_damaged_sum_is_found(data: list[Path], tmp_path: Path) -> None:
    run("dijet", data, tmp_path / "result")
    _flip(tmp_path / "result", "sums")
    with pytest.raises(InputError, match=r"the sum \w+ over several files is damaged; delete the folder"):
        run("dijet", data, tmp_path / "result")


def _flip(result: Path, table: str) -> None:
    with sqlite3.connect(result / "ledger.sqlite") as db:
        row, data = db.execute(f"SELECT rowid, data FROM {table}").fetchone()
        spoiled = bytearray(data)
        spoiled[len(data) // 2] ^= 1
        db.execute(f"UPDATE {table} SET data = ? WHERE rowid = ?", (bytes(spoiled), row))
    db.close()


# ---- with more files


@pytest.mark.parametrize("kind", ["jets", "data"])
@pytest.mark.slow
def test_updates_give_the_result_of_one_run(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sum_tree, "_BLOCK", 1)
    files: list[Path] = request.getfixturevalue(kind)
    processors = "response,efficiency" if kind == "jets" else "dijet"
    how = {"chunk_size": 150}
    for file in files[1:]:
        file.rename(file.with_suffix(".later"))
    run(processors, [files[0].with_name("*.root")], tmp_path / "result", **how)
    for number, file in enumerate(files[1:], 1):
        file.with_suffix(".later").rename(file)
        given = [str(file)] if number == 2 else []
        steps.update(tmp_path / "result", files=given, **how)
        assert redone(tmp_path / "result") == whole([file], processors)
    steps.update(tmp_path / "result", **how)
    assert redone(tmp_path / "result") == []
    run(processors, files, tmp_path / "alone", **how)
    same(tmp_path / "result", tmp_path / "alone")


def test_an_update_of_nothing_is_refused(data: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"result holds no run to update; `trila run PROCESSORS FILES"):
        steps.update(tmp_path / "result", files=[str(data[0])])
    run("dijet", data[:1], tmp_path / "result")
    with pytest.raises(InputError, match=r"was made by dijet, not dimuon; leave them out"):
        steps.update(tmp_path / "result", files=[str(data[1])], processors=["dimuon"])
    assert results.read(tmp_path / "result").cutflow


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.slow
def test_files_that_are_gone_stay_in_the_result(left: int, data: list[Path], tmp_path: Path) -> None:
    run("dijet", data, tmp_path / "alone")
    later = tmp_path / "later.root"
    data[3].rename(later)
    run("dijet", [data[0].with_name("*.root")], tmp_path / "result")
    for file in data[left:3]:
        file.unlink()
    steps.update(tmp_path / "result", files=[str(later)])
    assert redone(tmp_path / "result") == whole([later], "dijet")
    same(tmp_path / "result", tmp_path / "alone")
    steps.update(tmp_path / "result")
    assert redone(tmp_path / "result") == []
    same(tmp_path / "result", tmp_path / "alone")


@pytest.mark.slow
def test_an_update_from_another_folder(
    data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.json").write_text(json.dumps(FACTOR))
    (tmp_path / "config.yaml").write_text("dijet: {corrections: c.json}\n")
    monkeypatch.chdir(tmp_path)
    data[3].rename("later.root")
    run("dijet", [Path("data/*.root")], Path("result"), config="config.yaml")
    Path("later.root").rename(data[3])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    steps.update("../result")
    assert redone(Path("../result")) == whole(data[3:], "dijet")
    monkeypatch.chdir(tmp_path)
    run("dijet", [Path("data/*.root")], Path("alone"), config="config.yaml")
    same(Path("result"), Path("alone"))


@pytest.mark.slow
def test_the_earlier_result_stays_while_it_is_updated(
    jets: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also its pairs: those of units that are done already are not of it."""
    run("response", jets[:2], tmp_path / "result")
    shutil.copytree(tmp_path / "result", tmp_path / "before")
    with monkeypatch.context() as patch:
        patch.setattr(results, "_Archive", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            steps.update(tmp_path / "result", files=[str(jets[2])])
    assert len(list((tmp_path / "result").rglob("*.parquet"))) == 3
    levels = Level(level="raw"), Level(level="stored")
    found, before = (
        read_pairs(results.read(tmp_path / name), *levels).pairs for name in ("result", "before")
    )
    assert found.event.tobytes() == before.event.tobytes()


# ---- with less


def filtered(source: Path, target: Path, keep: Any) -> Path:
    """A copy of a file with some of its events, made with uproot alone."""
    with uproot.open(source) as file:
        arrays = file["Events"].arrays()
    arrays = arrays[keep(arrays["run"], arrays["luminosityBlock"])]
    collections = {name[1:] for name in arrays.fields if name.startswith("n") and name[1:2].isupper()}
    branches: dict[str, Any] = {}
    for collection in collections:
        fields = [name for name in arrays.fields if name.startswith(f"{collection}_")]
        fields = [name for name in fields if arrays[name].ndim == 2]
        branches[collection] = ak.zip({name.removeprefix(f"{collection}_"): arrays[name] for name in fields})
    for name in arrays.fields:
        if arrays[name].ndim == 1 and name[1:] not in collections:
            branches[name] = ak.to_numpy(arrays[name])
    types = {n: b.dtype if isinstance(b, np.ndarray) else b.type.content for n, b in branches.items()}
    with uproot.recreate(target) as file:
        tree = file.mktree(
            "Events", types, counter_name=lambda c: f"n{c}", field_name=lambda o, i: f"{o}_{i}" if o else i
        )
        tree.extend(branches)
    return target


@pytest.mark.parametrize(
    ("items", "lost", "runs"),
    [
        ([f"{FIRST_RUN + 1}"], (1, 1, 4), 1),
        ([f"{FIRST_RUN + 1}:3"], (1, 3, 3), 1),
        ([f"{FIRST_RUN + 1}:2-3"], (1, 2, 3), 1),
        ([f"{FIRST_RUN + 2}:1", f"{FIRST_RUN + 2}:2-4"], (2, 1, 4), 1),
    ],
)
@pytest.mark.slow
def test_retracted_blocks_are_as_if_never_taken(
    items: list[str], lost: tuple[int, int, int], runs: int, data: list[Path], tmp_path: Path
) -> None:
    run("dijet", data, tmp_path / "result")
    steps.update(tmp_path / "result", retract=items)
    number, first, last = lost
    assert redone(tmp_path / "result") == whole(data[number : number + runs], "dijet")

    def keep(run: Any, block: Any) -> Any:
        return ~((run == FIRST_RUN + number) & (block >= first) & (block <= last))

    (tmp_path / "filtered").mkdir()
    files = [filtered(file, tmp_path / "filtered" / file.name, keep) for file in data]
    run("dijet", files, tmp_path / "alone")
    same(tmp_path / "result", tmp_path / "alone")
    assert set(results.read(tmp_path / "result").manifest["retracted"]["blocks"]) == {str(FIRST_RUN + number)}
    before = results.read(tmp_path / "result").manifest["retracted"]
    steps.update(tmp_path / "result", retract=items)
    assert redone(tmp_path / "result") == []
    assert results.read(tmp_path / "result").manifest["retracted"] == before
    same(tmp_path / "result", tmp_path / "alone")


@pytest.mark.slow
def test_retractions_last_until_a_new_run(data: list[Path], tmp_path: Path) -> None:
    later = tmp_path / "later.root"
    data[3].rename(later)
    files = [data[0].with_name("*.root")]
    run("dijet", files, tmp_path / "whole")
    run("dijet", files, tmp_path / "result")
    block = f"{FIRST_RUN}:1"
    for _ in range(2):
        steps.update(tmp_path / "result", retract=[str(data[1]), block])
        assert results.read(tmp_path / "result").manifest["retracted"]["files"] == [str(data[1])]
    (tmp_path / "filtered").mkdir()
    first = filtered(data[0], tmp_path / "filtered" / "first.root", lambda _run, lb: lb != 1)
    run("dijet", [first, data[2]], tmp_path / "alone")
    same(tmp_path / "result", tmp_path / "alone")
    steps.update(tmp_path / "result")
    assert redone(tmp_path / "result") == []
    same(tmp_path / "result", tmp_path / "alone")
    steps.update(tmp_path / "result", files=[str(later)])
    assert redone(tmp_path / "result") == whole([later], "dijet")
    run("dijet", [first, data[2], later], tmp_path / "more")
    same(tmp_path / "result", tmp_path / "more")
    run("dijet", files, tmp_path / "result")
    manifest = results.read(tmp_path / "result").manifest
    assert f"the retraction of {data[1]}, {FIRST_RUN} by an earlier run is lifted" in manifest["notes"]
    assert manifest["retracted"] == {"files": [], "blocks": {}}
    same(tmp_path / "result", tmp_path / "whole")


def test_what_cannot_be_retracted_is_said(data: list[Path], tmp_path: Path) -> None:
    run("dijet", data[:1], tmp_path / "result")
    for item, told in {
        str(data[0]): r"it is the only file of dataset 'data'; run again without the dataset",
        "dijet_007.root": r"no such file in the result",
        f"{FIRST_RUN}:4-2": r"4 to 2 is no range of luminosity blocks; expected RUN:FIRST-LAST",
    }.items():
        with pytest.raises(InputError, match=rf"--retract {item}: {told}"):
            steps.update(tmp_path / "result", retract=[item])
    assert events(tmp_path / "result") == EVENTS


# ---- processes that end


MODULE = """
import time

import hist
import numpy as np
from coffea.processor import ProcessorABC

import settings_of_mine


class Counts(ProcessorABC):
    def __init__(self, folder, pause):
        self.folder, self.pause = folder, pause

    def process(self, events):
        where = events.metadata
        with open(f"{self.folder}/log.txt", "a") as stream:
            stream.write(f"{where['filename']} {where['entrystart']} {where['entrystop']}\\n")
        time.sleep(self.pause)
        h = hist.Hist(hist.axis.Regular(10, 0, 500, name="x"), storage=hist.storage.Weight())
        h.fill(np.full(len(events), settings_of_mine.X))
        return {"histograms": {"x": h}}

    def postprocess(self, accumulator):
        return accumulator
"""


def mine(folder: Path, pause: float = 0.0) -> Path:
    """A processor of one's own that logs what it does; gives the log."""
    (folder / "mine.py").write_text(MODULE)
    (folder / "settings_of_mine.py").write_text("X = 120.0\n")
    settings = {"processors": {"mine:Counts": {"folder": str(folder), "pause": pause}}}
    (folder / "config.yaml").write_text(json.dumps(settings))
    return folder / "log.txt"


def command(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name("trila")), *map(str, arguments)]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
@pytest.mark.slow
def test_a_changed_source_runs_its_processor_again(data: list[Path], tmp_path: Path) -> None:
    log = mine(tmp_path)
    call = command("run", "dijet,mine:Counts", "data/*.root", "-o", "result", "--config", "config.yaml")
    for source, done in (("X = 120.0\n", "dijet,Counts"), ("X = 120.0\n", ""), ("X = 370.0\n", "Counts")):
        (tmp_path / "settings_of_mine.py").write_text(source)
        log.unlink(missing_ok=True)
        subprocess.run(call, cwd=tmp_path, check=True, capture_output=True, timeout=120)
        assert redone(tmp_path / "result") == (whole(data, done) if done else [])
        assert len(lines(log)) == (FILES if done else 0)
    counts = results.read(tmp_path / "result").histograms["Counts.x"]
    assert counts[370j].value == FILES * EVENTS
    assert counts.sum(flow=True).value == FILES * EVENTS


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "processes", "dask"])
@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(where: str, jets: list[Path], tmp_path: Path) -> None:
    log = mine(tmp_path, pause=0.7)
    call = ["run", "mine:Counts,response", "jets/*.root", "--config", "config.yaml", "--chunk-size", "200"]
    options = [] if where == "local" else ["--executor", where, "--workers", "2"]
    killed = subprocess.Popen(
        command(*call, "-o", "result", *options),
        cwd=tmp_path,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    begin = time.monotonic()
    while _done(tmp_path / "result") < 2:
        assert killed.poll() is None, "the run ended too soon"
        assert time.monotonic() - begin < 120
        time.sleep(0.02)
    workers = _children(killed.pid)
    killed.kill()
    killed.wait()
    done = _done(tmp_path / "result")  # as whoever looks at it does, with what was half written taken back
    assert 2 <= done < FILES
    with Ledger(tmp_path / "result") as ledger:
        assert ledger.rows("SELECT outcome FROM runs") == [(None,)]
        assert ledger.rows("PRAGMA integrity_check") == [("ok",)]
    until = time.monotonic() + 20
    while (alive := [pid for pid in workers if _alive(pid)]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive, "workers outlive the run"
    log.unlink()
    subprocess.run(command(*call, "-o", "result"), cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert len(redone(tmp_path / "result")) == FILES - done
    assert len(lines(log)) == 2 * (FILES - done)  # two chunks a file
    subprocess.run(command(*call, "-o", "whole"), cwd=tmp_path, check=True, capture_output=True, timeout=120)
    same(tmp_path / "result", tmp_path / "whole")


def _done(result: Path) -> int:
    try:
        with Ledger(result) as ledger:
            return int(ledger.rows("SELECT count(*) FROM units WHERE status = 'done'")[0][0])
    except InputError:  # not there yet
        return 0


def _children(pid: int) -> list[int]:
    """All processes that a process has started, and theirs."""
    own = [
        int(n)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for n in (task / "children").read_text().split()
    ]
    return [*own, *(n for child in own for n in _children(child))]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.slow
@pytest.mark.slow
def test_an_interrupted_run_says_so_and_goes_on(data: list[Path], tmp_path: Path) -> None:
    mine(tmp_path, pause=0.7)
    call = command("run", "mine:Counts", "data/*.root", "--config", "config.yaml", "-o", "result")
    going = subprocess.Popen(call, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while _done(tmp_path / "result") < 1:
        assert going.poll() is None
        time.sleep(0.02)
    going.send_signal(signal.SIGINT)
    _, told = going.communicate(timeout=60)
    assert going.returncode == 130
    assert told == "interrupted\n"
    done = _done(tmp_path / "result")
    with Ledger(tmp_path / "result") as ledger:
        ((outcome,),) = ledger.rows("SELECT outcome FROM runs")
    assert outcome.startswith("KeyboardInterrupt")
    subprocess.run(call, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert len(redone(tmp_path / "result")) == FILES - done
    assert results.read(tmp_path / "result").histograms["Counts.x"].sum(flow=True).value == FILES * EVENTS


def test_a_source_counts_with_all_that_it_imports() -> None:
    from trila.processors.recipes import sources

    assert {"trila.processors.dijet", "trila.processors.topology"} <= sources("trila.processors.dijet").keys()
    assert partial.__name__ in sources(partial.__name__)
