"""Whatever is changed in a RESULT, its ledger or its input is found, and nothing is found where nothing was changed.

Protected: each fault is planted alone, most of them with digests made to agree, and the check that must tell is named. Runs
of all kinds (skipped, cut short, updated, retracted, scaled) are without faults. Nothing that RESULT names is imported.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hist
import numpy as np
import pytest
import uhi.io.zip
import uproot
import yaml
from typer.testing import CliRunner

from trila.analysis import cli, results, simulation, steps
from trila.analysis.simulation import simulate
from trila.analysis.verification import Check, verify
from trila.processors.errors import InputError
from trila.processors.recipes import file_digest

FILES, EVENTS = 3, 60


def silent(_stage: str, _total: int) -> Callable[[int], None]:
    return lambda _advance: None


def faults(result: str = "result") -> dict[str, tuple[str, ...]]:
    """Name of a check to its faults, where there are any."""
    return {check.name: check.faults for check in verify(result, silent) if check.faults}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and their result, with names of files relative to the folder."""
    folder = tmp_path_factory.mktemp("verification")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(simulation, "EVENTS_PER_LUMINOSITY_BLOCK", EVENTS // 4)
        simulate(Path("dijet"), kind="dijet", events=FILES * EVENTS, files=FILES, seed=3)
        steps.run(["dijet"], ["dijet/*.root"], "result")
    return folder


@pytest.fixture(autouse=True)
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of it, with times of change, as the working directory."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


def sql(command: str, *values: Any, result: str = "result") -> None:
    with sqlite3.connect(f"{result}/ledger.sqlite") as ledger:
        assert ledger.execute(command, values).rowcount == 1
    ledger.close()


def stored(query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect("result/ledger.sqlite") as ledger:
        found = ledger.execute(query).fetchall()
    ledger.close()
    return found


def edit(name: str, change: Callable[[Any], None], *, result: str = "result") -> None:
    """Change a JSON file, and the manifest's digest of it."""
    path = Path(result, name)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    agree(name, result)


def agree(name: str, result: str = "result") -> None:
    path = Path(result, "manifest.json")
    if name != path.name:
        manifest = json.loads(path.read_text())
        manifest["products"][name] = file_digest(Path(result, name))
        path.write_text(json.dumps(manifest))


# ---- faults


def changed_bytes(name: str, place: int = -1) -> None:
    data = bytearray(Path(name).read_bytes())
    data[place] ^= 0xFF
    Path(name).write_bytes(data)


def another_histogram() -> None:
    """One count more in one bin, in an archive whose digest agrees."""
    content = results.read("result").histograms
    view = content["dijet.mass"].view(flow=True)
    view["value"][np.unravel_index(view["value"].argmax(), view.shape)] += 1
    with zipfile.ZipFile("result/histograms.zip", "w") as archive:
        for name, histogram in content.items():
            uhi.io.zip.write(archive, name, histogram)
    agree("histograms.zip")


def a_histogram_less() -> None:
    content = results.read("result").histograms
    with zipfile.ZipFile("result/histograms.zip", "w") as archive:
        for name in content.keys() - {"dijet.mass"}:
            uhi.io.zip.write(archive, name, content[name])
    agree("histograms.zip")


def one_count_more_in_the_cutflow(content: Any) -> None:
    content["data"]["dijet"][0]["events"] += 1


def one_partial_for_another() -> None:
    """Results of one unit stand in the place of those of another, with their digest."""
    ((recipe, digest, data),) = stored("SELECT recipe, digest, data FROM partials ORDER BY rowid LIMIT 1")
    sql(
        "UPDATE partials SET digest = ?, data = ? WHERE rowid = (SELECT max(rowid) FROM partials)",
        digest,
        data,
    )
    assert recipe


def a_partial_that_is_none() -> None:
    data = b"nothing that can be unpacked"
    sql(
        "UPDATE partials SET digest = ?, data = ? WHERE rowid = 1",
        hashlib.sha256(data).hexdigest(),
        data,
    )


def replaced() -> None:
    (other,) = simulate(Path("other"), kind="dijet", events=EVENTS, seed=9)
    other.replace("dijet/dijet_001.root")


def longer_in_place() -> None:
    """Another tree is written into the same file, whose uuid and entries stay."""
    with uproot.open("dijet/dijet_001.root") as before:
        uuid = before.file.uuid
    with uproot.update("dijet/dijet_001.root") as file:
        file["more"] = np.histogram([1.0])
    with uproot.open("dijet/dijet_001.root") as after:
        assert after.file.uuid == uuid


class Fault(NamedTuple):
    """A fault, the check that must find it, and what it must say."""

    plant: Callable[[], Any]
    check: str
    says: str


UNIT = "WHERE file = 1 AND start = 0"
FAULTS = {
    "histograms changed": Fault(
        lambda: changed_bytes("result/histograms.zip", 0), "products", r"histograms\.zip was changed after"
    ),
    "histograms unreadable": Fault(
        lambda: (Path("result/histograms.zip").write_bytes(b"PK"), agree("histograms.zip")),
        "sums",
        r"histograms\.zip cannot be read",
    ),
    "histograms rewritten": Fault(
        another_histogram, "sums", r"^histogram dijet\.mass is not the sum of the partial results"
    ),
    "histogram left out": Fault(a_histogram_less, "sums", r"histogram dijet\.mass is not the sum"),
    "product gone": Fault(
        lambda: Path("result/luminosity_blocks.json").unlink(), "products", r"blocks\.json is missing"
    ),
    "product of elsewhere": Fault(
        lambda: edit("manifest.json", lambda m: m["products"].update({"../x": "0"})),
        "products",
        r"\.\./x lies outside of the result",
    ),
    "cutflow changed": Fault(
        lambda: changed_bytes("result/cutflow.json"), "products", r"cutflow\.json was changed"
    ),
    "cutflow rewritten": Fault(
        lambda: edit("cutflow.json", one_count_more_in_the_cutflow),
        "sums",
        r"the cutflow of dataset data is not the sum",
    ),
    "cutflow with more": Fault(
        lambda: edit("cutflow.json", lambda c: c.update(more={})), "sums", r"cutflow of dataset more is not"
    ),
    "cutflow of another form": Fault(
        lambda: (Path("result/cutflow.json").write_text("[]"), agree("cutflow.json")),
        "sums",
        r"cutflow\.json is a list, expected cutflows by dataset",
    ),
    "blocks rewritten": Fault(
        lambda: edit("luminosity_blocks.json", lambda b: b.popitem()),
        "sums",
        r"luminosity_blocks\.json does not hold the luminosity blocks",
    ),
    "unit deleted": Fault(
        lambda: sql(f"DELETE FROM units {UNIT}"),
        "units of the ledger",
        r"dijet_001\.root: entries of 'dijet' are missing or counted twice: \[\]",
    ),
    "unit twice": Fault(
        lambda: sql(f"INSERT INTO units SELECT file, 'dijet,dijet', start, stop, status, 1, 0 FROM units {UNIT}"),
        "units of the ledger",
        r"dijet_001\.root: entries of 'dijet' are missing or counted twice: \[\(0, 60\), \(0, 60\), \(0, 60\)\]",
    ),
    "unit overlapping": Fault(
        lambda: sql(f"INSERT INTO units SELECT file, processors, 30, stop, status, 1, 0 FROM units {UNIT}"),
        "units of the ledger",
        r"missing or counted twice: \[\(0, 60\), \(30, 60\)\]",
    ),
    "unit cut": Fault(
        lambda: sql(f"UPDATE units SET stop = 59 {UNIT}"), "units of the ledger", r"counted twice: \[\(0, 59\)\]"
    ),
    "unit not done": Fault(
        lambda: sql(f"UPDATE units SET status = 'planned' {UNIT}"),
        "units of the ledger",
        r"dijet_001\.root, entries 0 to 60: planned, and not accounted for",
    ),
    "unit of no file": Fault(
        lambda: sql(f"UPDATE units SET file = 9 {UNIT}"),
        "units of the ledger",
        r"entries 0 to 60 of a file that is not in the ledger",
    ),
    "file deleted": Fault(
        lambda: sql("DELETE FROM files WHERE number = 2"),
        "manifest and ledger",
        r"dijet_002\.root is in the manifest alone",
    ),
    "partial changed": Fault(
        lambda: sql("UPDATE partials SET data = CAST(substr(data, 2) AS BLOB) WHERE rowid = 1"),
        "partial results",
        r"the partial result of entries 0 to 60 of file .* is damaged",
    ),
    "partial that is none": Fault(a_partial_that_is_none, "sums", r"a partial result is damaged"),
    "partial deleted": Fault(
        lambda: sql("DELETE FROM partials WHERE rowid = 1"),
        "units of the ledger",
        r"results of 'dijet' are of entries \[\], its units of \[\(0, 60\)\]",
    ),
    "partial of another": Fault(one_partial_for_another, "sums", r"cutflow|histogram .* is not the sum"),
    "input replaced": Fault(
        replaced, "input files", r"dijet_001\.root is another file now: 60 entries, .* processed were 60 entries"
    ),
    "input longer": Fault(longer_in_place, "input files", r"dijet_001\.root is another file now"),
    "input changed in place": Fault(
        lambda: changed_bytes("dijet/dijet_001.root", 5000),
        "input files",
        r"dijet_001\.root was changed or touched after it was read",
    ),
    "input cut short": Fault(
        lambda: Path("dijet/dijet_001.root").write_bytes(Path("dijet/dijet_001.root").read_bytes()[:-100]),
        "input files",
        r"dijet_001\.root: is truncated",
    ),
    "input gone": Fault(
        lambda: Path("dijet/dijet_001.root").unlink(),
        "input files",
        r"dijet_001\.root is gone; what it gave is kept",
    ),
    "manifest: file": Fault(
        lambda: edit("manifest.json", lambda m: m["inputs"][1].update(status="skipped", processed=0)),
        "manifest and ledger",
        r"dijet_001\.root: 0 of 60 entries skipped in the manifest, 60 of 60 done in the ledger",
    ),
    "manifest: file twice": Fault(
        lambda: edit("manifest.json", lambda m: m["inputs"].append(m["inputs"][0])),
        "manifest and ledger",
        r"files are more than once in the manifest",
    ),
    "manifest: events": Fault(
        lambda: edit("manifest.json", lambda m: m["datasets"]["data"].update(events=179)),
        "manifest and ledger",
        r"dataset data has 180 of 180 planned events in the ledger, not in the manifest",
    ),
    "manifest: fraction": Fault(
        lambda: edit("manifest.json", lambda m: m["datasets"]["data"].update(fraction=0.5)),
        "manifest and ledger",
        r"fraction of dataset data is 0\.5 in the manifest, expected 1\.0",
    ),
    "manifest: scale": Fault(
        lambda: edit("manifest.json", lambda m: m["datasets"]["data"].update(scale=2.0)),
        "sums",
        r"dataset data has a scale of 2\.0 and no cross section; expected 1",
    ),
    "manifest: dataset": Fault(
        lambda: edit("manifest.json", lambda m: m["datasets"].clear()), "sums", r"data is not in the manifest"
    ),
}  # fmt: skip


#: One of each kind; the others are slow tests.
QUICK = (
    "histograms changed",
    "histograms rewritten",
    "cutflow changed",
    "unit deleted",
    "unit twice",
    "partial changed",
    "partial of another",
    "input replaced",
    "input changed in place",
    "manifest: fraction",
)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAULTS]
)
def test_each_fault_is_found(name: str) -> None:
    fault = FAULTS[name]
    fault.plant()
    found = faults()
    assert any(re.search(fault.says, line) for line in found.get(fault.check, ())), found


@pytest.mark.slow
@pytest.mark.parametrize("change", ["deleted", "changed", "left out"])
def test_faults_of_tables_of_pairs_are_found(change: str) -> None:
    simulate(Path("jets"), kind="jets", events=FILES * EVENTS, files=FILES, seed=3)
    steps.run(["response"], ["jets/*.root"], "pairs")
    table = next(Path("pairs/pairs").rglob("*.parquet"))
    assert faults("pairs") == {}
    if change == "deleted":
        table.unlink()
        assert faults("pairs") == {"tables of pairs": (f"{table.relative_to('pairs/pairs')} is missing",)}
    elif change == "changed":
        changed_bytes(str(table), 50)
        (text,) = faults("pairs")["tables of pairs"]
        assert text == f"{table.relative_to('pairs/pairs')} was changed after the run"
    else:
        edit("manifest.json", lambda m: m["pairs"].popitem(), result="pairs")
        says = "the tables of pairs in the manifest are not those of the partial results"
        assert faults("pairs") == {"manifest and ledger": (says,)}


@pytest.mark.slow
def test_a_stored_sum_that_was_changed_is_found() -> None:
    """Updates go on from sums over several files."""
    steps.run(["dijet"], ["dijet/*.root"], "changed-sum")
    assert faults("changed-sum") == {}
    sql("UPDATE sums SET data = CAST(substr(data, 2) AS BLOB)", result="changed-sum")
    (text,) = faults("changed-sum")["partial results"]
    assert "over several files is damaged" in text


def test_exit_code_and_what_is_printed() -> None:
    done = CliRunner().invoke(cli.app, ["verify", "result"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "products: 3 checked, good",
        "tables of pairs: 0 checked, good",
        "units of the ledger: 3 checked, good",
        "partial results: 4 checked, good",  # of three files, and their sum
        "sums: 10 checked, good",
        "manifest and ledger: 4 checked, good",
        "input files: 3 checked, good",
    ]
    Path("dijet/dijet_000.root").unlink()
    done = CliRunner().invoke(cli.app, ["verify", "result"])
    assert done.exit_code == 1
    assert "input files: 3 checked, 1 fault\n" in done.stdout
    assert done.stderr == "  dijet/dijet_000.root is gone; what it gave is kept\n"


@pytest.mark.slow
def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(InputError, match=r"^nothing is no result: it has no manifest\.json"):
        verify("nothing", silent)
    Path("result/ledger.sqlite").rename("ledger")
    with pytest.raises(InputError, match=r"^result has no ledger \(ledger\.sqlite\)"):
        verify("result", silent)
    Path("result/ledger.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match=r"ledger\.sqlite cannot be used \(file is not a database\)"):
        verify("result", silent)
    Path("ledger").replace("result/ledger.sqlite")
    edit("manifest.json", lambda m: m.update(products=[]))
    with pytest.raises(InputError, match=r"^the manifest of result is damaged: products: .*; run it again"):
        verify("result", silent)
    Path("result/histograms.zip").unlink()
    with pytest.raises(InputError, match=r"^result is not complete: it has no histograms\.zip"):
        verify("result", silent)


# ---- no false alarms


def run(*files: str, processors: str = "dijet", **options: Any) -> None:
    steps.run(processors.split(","), files, "new", **options)


def good() -> None:
    assert [check for check in verify("new", silent) if check.faults] == list[Check]()


@pytest.mark.slow
def test_skipped_files_are_no_fault() -> None:
    """One that cannot be opened, one of which a basket cannot be read, and one that is in two datasets."""
    with uproot.open("dijet/dijet_001.root") as file:
        key = file["Events"]["ScoutingPFJet_pt"].basket_key(0)
        place = int(key.fSeekKey + key.fKeylen) + 9
    changed_bytes("dijet/dijet_001.root", place)
    Path("dijet/none.root").write_bytes(b"")
    Path("set.yaml").write_text(
        yaml.safe_dump({name: {"files": ["dijet/*.root"], "is_data": True} for name in ("a", "b")})
    )
    run("set.yaml", skip_bad_files=True)
    manifest = results.read("new", min_fraction=0.0).manifest
    assert [item["status"] for item in manifest["inputs"]].count("skipped") == 6
    good()


@pytest.mark.slow
def test_the_first_events_are_no_fault() -> None:
    run("dijet/*.root", max_events=EVENTS + 7)
    good()
    run("dijet/dijet_000.root", entries=(5, 20))
    good()


def test_an_update_and_retractions_are_no_fault() -> None:
    run("dijet/dijet_000.root", "dijet/dijet_001.root", chunk_size=25)
    steps.update("new", files=["dijet/dijet_002.root"])
    good()
    steps.update("new", retract=["380001:1-2", "380002", "dijet/dijet_000.root"])
    good()
    assert Path("new/luminosity_blocks.json").read_text().count("380001") == 1


@pytest.mark.slow
def test_empty_files_are_no_fault() -> None:
    """Two of them: units of no entries begin and end where they are."""
    with uproot.open("dijet/dijet_000.root") as file:
        types = file["Events"].typenames()
    collections: dict[str, list[str]] = {}
    for name, kind in types.items():
        if kind.endswith("[]"):
            collection, _, field = name.partition("_")
            collections.setdefault(collection, []).append(f"{field}: {_plain(kind)}")
    branches = {name: f"var * {{{', '.join(fields)}}}" for name, fields in collections.items()}
    branches |= {n: _plain(k) for n, k in types.items() if "[]" not in k and n[1:] not in collections}
    for name in ("a", "b"):
        with uproot.recreate(f"dijet/empty_{name}.root") as file:
            file.mktree(
                "Events", branches, counter_name=lambda c: f"n{c}", field_name=lambda c, f: f"{c}_{f}" if c else f
            )  # fmt: skip
    run("dijet/*.root")
    statuses = [item["status"] for item in results.read("new").manifest["inputs"]]
    assert statuses == ["done"] * FILES + ["empty"] * 2
    good()


def _plain(kind: str) -> str:
    """A type of NumPy's from one of C++."""
    name = kind.removesuffix("[]").removesuffix("_t")
    return {"float": "float32", "double": "float64"}.get(name, name)


@pytest.mark.slow
def test_simulation_with_cross_sections_is_no_fault() -> None:
    simulate(Path("jets"), kind="jets", events=FILES * EVENTS, files=FILES, seed=3)
    content = {
        "a": {"files": ["jets/jets_000.root"], "is_data": False, "cross_section": 7.0},
        "b": {"files": ["jets/jets_001.root", "jets/jets_002.root"], "cross_section": 0.3},
    }
    Path("set.yaml").write_text(yaml.safe_dump(content))
    run("set.yaml", processors="response,dijet")
    good()
    edit("manifest.json", lambda m: m["datasets"]["a"].update(scale=1.5), result="new")
    found = faults("new")["sums"]
    assert found[0].startswith("dataset a has a scale of 1.5; its cross section is 7.0 pb, and the generator")
    assert any("histogram dijet.mass is not the sum" in text for text in found)
    run("set.yaml", processors="dijet")  # pairs and results of the other are gone
    good()


@pytest.mark.slow
def test_replicas_are_looked_at_in_their_order() -> None:
    shutil.copytree("dijet", "far")
    Path("set.yaml").write_text(
        yaml.safe_dump({"data": {"files": [["dijet/dijet_000.root", "far/dijet_000.root"]]}})
    )
    run("set.yaml")
    Path("dijet/dijet_000.root").unlink()
    good()
    Path("far/dijet_000.root").unlink()
    assert faults("new")["input files"] == ("dijet/dijet_000.root is gone; what it gave is kept",)


@pytest.mark.slow
def test_an_update_that_did_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier products are still there, and no longer those of the ledger."""
    run("dijet/dijet_000.root", "dijet/dijet_001.root")
    with monkeypatch.context() as patch:
        patch.setattr(steps, "do", stopped)
        with pytest.raises(KeyboardInterrupt):
            steps.update("new", files=["dijet/dijet_002.root"])
    found = faults("new")
    (text,) = found["last run"]
    assert (
        "has not come to its end (KeyboardInterrupt: ): products are of an earlier one; give the same" in text
    )
    assert (
        "dijet_002.root, entries 0 to 60: planned, and not accounted for" in found["units of the ledger"][0]
    )
    steps.update("new")
    good()
    with pytest.raises(InputError, match="nowhere"):
        steps.update("new", files=["nowhere.root"])  # before it changed anything
    good()


def stopped(*_arguments: Any, **_options: Any) -> None:
    raise KeyboardInterrupt


OWN = """
import awkward as ak
import hist
import numpy as np
from coffea.processor import ProcessorABC


class Own(ProcessorABC):
    def process(self, events):
        axis = hist.axis.Regular(4, 0, 4, name="x")
        n = np.asarray(ak.num(events.hlt_jets.pt))
        counted = hist.Hist(axis, storage=hist.storage.Int64()).fill(n)
        summed = hist.Hist(axis, storage=hist.storage.Double()).fill(n, weight=np.full(len(n), np.nan))
        kinds = hist.axis.StrCategory([], growth=True, name="kind")
        grown = hist.Hist(kinds, storage=hist.storage.Weight()).fill([f"{i % 3}" for i in n], weight=-0.1)
        return {"histograms": {"counted": counted, "summed": summed, "grown": grown}}

    def postprocess(self, accumulator):
        return accumulator
"""


@pytest.mark.slow
def test_nothing_that_the_result_names_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Histograms of all storages, with NaN in them, are what they were; the module would leave a file."""
    Path("own_of_verification.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    run("dijet/*.root", processors="own_of_verification:Own")
    content = results.read("new").histograms
    assert isinstance(content["Own.counted"], hist.Hist)
    assert np.isnan(content["Own.summed"].values(flow=True)).any()
    del sys.modules["own_of_verification"]
    Path("own_of_verification.py").write_text("open('ran', 'w').close()\n")
    good()
    assert not Path("ran").exists()
    assert "own_of_verification" not in sys.modules
