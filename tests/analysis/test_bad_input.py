"""Bad input is refused in words, never with a traceback, and never gives a silently smaller result.

Protected: the exit codes of `trila run` (1 a fault of the code, 2 wrong input, 3 done without some files), what each
message says (value, expectation, remedy), that a run that fails leaves nothing behind, and that `--skip-bad-files`
gives bit for bit what the good files alone give, with each file that is left out named on the screen and in the
manifest.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import correctionlib.schemav2 as schema
import hist
import numpy as np
import pyarrow.parquet as pq
import pytest
import uhi.io.zip
import uproot
import yaml
from commands import trila

Branches = dict[str, Any]
Histograms = dict[str, Any]

EVENTS = 400  # of good_a.root, in four baskets
BASKET = 100
GOOD_B = 300
HLT = "ScoutingPFJet"


def refused(*arguments: object, code: int = 2, result: str = "out/result") -> str:
    """The message of a run that must fail, with no result left of it."""
    folder = Path(result).parent
    folder.mkdir(exist_ok=True)
    before = sorted(path for path in folder.iterdir() if path != Path(result))
    done = trila("run", *arguments, "-o", result)
    everything = done.stdout + done.stderr
    assert done.code == code, everything
    assert "Traceback" not in everything
    assert done.stdout == ""
    assert len(re.findall(r"^(?:internal )?error: ", done.stderr, re.MULTILINE)) == 1, "one clear message"
    assert done.stderr.startswith("error: " if code == 2 else "internal error: ")
    assert not (Path(result) / "histograms.zip").exists()
    after = sorted(folder.iterdir())
    assert [path for path in after if path != Path(result)] == before, "something was left beside the result"
    if Path(result).exists():  # what was done before the fault is kept, for the next run
        assert {path.name for path in Path(result).iterdir()} <= {"ledger.sqlite", "pairs"}
    return " ".join(done.stderr.split())


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("trila")
    return subprocess.run([str(script), *arguments], capture_output=True, text=True, timeout=120, check=False)


# ---- files


def objects(counts: Any, **fields: Any) -> ak.Array:
    return ak.zip({name: ak.unflatten(values, counts) for name, values in fields.items()})


def events(n: int, seed: int, *, run: int = 1, data: bool = False) -> Branches:
    """Two jets back to back and at times a third one, at both levels; up to three muons; triggers; three weights."""
    rng = np.random.default_rng(seed)
    jets = rng.integers(2, 4, n)
    total = int(jets.sum())
    first = np.repeat(rng.uniform(-3.1, 3.1, n), jets)
    turn = np.concatenate([np.arange(count) for count in jets]) * np.pi if n else np.zeros(0)
    phi = (first + turn + np.pi) % (2 * np.pi) - np.pi
    pt = np.where(turn < 4, rng.uniform(80, 400, total), 40.0)
    eta = rng.uniform(-1.2, 1.2, total)
    four = {"pt": pt, "eta": eta, "phi": phi, "m": 0.1 * pt}
    hlt = {name: values.astype(np.float32) for name, values in four.items()}
    reference = {"mass" if name == "m" else name: values for name, values in hlt.items()}
    muons = rng.integers(0, 4, n)
    many = int(muons.sum())
    muon = {
        "pt": rng.uniform(4, 60, many),
        "eta": rng.uniform(-2.4, 2.4, many),
        "phi": rng.uniform(-3.1, 3.1, many),
    }
    branches: Branches = {
        "run": np.full(n, run, np.uint32),
        "luminosityBlock": (1 + np.arange(n) // 50).astype(np.uint32),
        "event": np.arange(1, n + 1).astype(np.uint64),
        HLT: objects(jets, **hlt),
        "Jet": objects(jets, **{**reference, "pt": (reference["pt"] * np.float32(1.03125)).astype(np.float32)}),
        "ScoutingMuonVtx": objects(
            muons,
            **{name: values.astype(np.float32) for name, values in muon.items()},
            m=np.full(many, 0.1057, np.float32),
            charge=rng.choice([-1, 1], many).astype(np.int32),
        ),
        "HLT_IsoMu27": rng.random(n) < 0.5,
        "HLT_PFJet40": rng.random(n) < 0.9,
        "DST_PFScouting_JetHT": rng.random(n) < 0.8,
    }  # fmt: skip
    if not data:
        branches["genWeight"] = rng.choice([0.3, 1.1, 2.7], n).astype(np.float32)
    return branches


def with_gen(branches: Branches) -> Branches:
    jets = branches["Jet"]
    return {**branches, "GenJet": ak.zip({name: jets[name] for name in ("pt", "eta", "phi", "mass")})}


def with_field(branches: Branches, collection: str, field: str, new_name: str) -> Branches:
    jets = branches[collection]
    return {
        **branches,
        collection: ak.zip({new_name if name == field else name: jets[name] for name in jets.fields}),
    }


def write(path: str | Path, branches: Branches, tree: str = "Events", compression: Any = None) -> Path:
    types = {n: v.dtype if isinstance(v, np.ndarray) else v.type.content for n, v in branches.items()}
    size = len(next(iter(branches.values())))
    with uproot.recreate(path, compression=compression or uproot.ZSTD(1)) as file:
        made = file.mktree(
            tree,
            types,
            counter_name=lambda collection: f"n{collection}",
            field_name=lambda outer, inner: f"{outer}_{inner}" if outer else inner,
        )
        for start in range(0, size, BASKET):
            made.extend({name: values[start : start + BASKET] for name, values in branches.items()})
    return Path(path)


def payload(path: str | Path, branch: str, basket: int) -> int:
    """Where a basket's content begins in the file."""
    with uproot.open(path) as file:
        key = file["Events"][branch].basket_key(basket)
        return int(key.fSeekKey + key.fKeylen)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write(folder / "good_a.root", events(EVENTS, 1))
    write(folder / "good_b.root", events(GOOD_B, 2, run=2))
    write(folder / "data_a.root", events(EVENTS, 3, data=True))
    write(folder / "data_b.root", events(GOOD_B, 4, run=2, data=True))
    write(folder / "empty.root", events(0, 5))
    for processor in ("response", "efficiency", "dijet", "dimuon"):  # what the good file alone gives
        arguments = ("run", processor, folder / "good_b.root", "-o", folder / f"alone_{processor}")
        assert trila(*arguments, "--chunk-size", BASKET).code == 0
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the good files in it."""
    for file in samples.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- results


def histograms(result: str | Path) -> Histograms:
    with zipfile.ZipFile(Path(result) / "histograms.zip") as archive:
        names = [name.removesuffix(".json") for name in archive.namelist() if name.endswith(".json")]
        return {name: hist.Hist(uhi.io.zip.read(archive, name)) for name in names}


def identical(one: str | Path, other: str | Path) -> None:
    """The same histograms to the last bit, the same cutflow, the same pairs."""
    ours, theirs = histograms(one), histograms(other)
    assert ours.keys() == theirs.keys()
    for name, histogram in ours.items():
        assert histogram.axes == theirs[name].axes, name
        assert histogram.view(flow=True).tobytes() == theirs[name].view(flow=True).tobytes(), name
    assert sum(float(np.sum(h.view(flow=True)["value"])) for h in ours.values()) > 0, "nothing was compared"
    assert (Path(one) / "cutflow.json").read_bytes() == (Path(other) / "cutflow.json").read_bytes()
    assert pairs(one) == pairs(other)


def pairs(result: str | Path) -> list[tuple[Any, ...]]:
    folder = Path(result) / "pairs"
    return sorted(
        row for file in folder.rglob("*.parquet") for row in zip(*pq.read_table(file).to_pydict().values(), strict=True)
    )  # fmt: skip


def manifest(result: str | Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(result) / "manifest.json").read_text())
    return content


# ---- damaged files


class Damage(NamedTuple):
    """A way to spoil good_a.root, and what the message must say."""

    spoil: Callable[[bytes], bytes]
    says: str


def _flip(data: bytes, position: int) -> bytes:
    spoiled = bytearray(data)
    spoiled[position] ^= 0xFF
    return bytes(spoiled)


def _zero(data: bytes, start: int, size: int) -> bytes:
    return data[:start] + bytes(size) + data[start + size :]


def _in_basket(offset: int = 0) -> int:
    return payload("good_a.root", f"{HLT}_pt", 2) + offset


_UNREADABLE = rf"branch {HLT}_pt cannot be read in entries \d+ to \d+: "

DAMAGES = {
    "last byte missing": Damage(
        lambda d: d[:-1], r"is truncated: {size} bytes, but its header says {good}; copy it again"
    ),
    "cut inside a basket": Damage(
        lambda d: d[: _in_basket(20)],
        r"is truncated: {size} bytes, but its header says {good}; copy it again",
    ),
    "cut inside the header": Damage(lambda d: d[:15], r"truncated"),
    "zero bytes": Damage(lambda d: b"", r"is empty \(0 bytes\); copy it again"),
    "text": Damage(
        lambda d: b"Hello, this is no ROOT file, but is long enough",
        r"is not a ROOT file \(it begins with b'Hell', expected b'root'\)",
    ),
    "wrong magic": Damage(
        lambda d: b"r00t" + d[4:], r"is not a ROOT file \(it begins with b'r00t', expected b'root'\)"
    ),
    "end filled with zeros": Damage(lambda d: _zero(d, len(d) - 3000, 3000), r"cannot be (opened|read)"),
    "basket filled with zeros": Damage(lambda d: _zero(d, _in_basket(), 200), _UNREADABLE),
    "flipped: compression": Damage(lambda d: _flip(d, _in_basket(0)), _UNREADABLE),
    "flipped: size": Damage(lambda d: _flip(d, _in_basket(4)), _UNREADABLE),
    "flipped: frame": Damage(lambda d: _flip(d, _in_basket(9)), _UNREADABLE),
}


def spoiled(name: str) -> str:
    """Writes bad.root; what the message must say of it."""
    good = Path("good_a.root").read_bytes()
    bad = DAMAGES[name].spoil(good)
    assert bad != good
    Path("bad.root").write_bytes(bad)
    return rf"bad\.root: .*{DAMAGES[name].says}".replace("{size}", str(len(bad))).replace(
        "{good}", str(len(good))
    )


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_file_stops_the_run(name: str) -> None:
    says = spoiled(name)
    assert re.search(says, refused("dijet", "good_b.root", "bad.root"))


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_file_is_left_out_whole(name: str) -> None:
    says = spoiled(name)
    done = trila(
        "run", "dijet", "bad.root", "good_b.root", "-o", "result", "--skip-bad-files", "--chunk-size", BASKET
    )
    assert done.code == 3, done.stderr
    assert re.search(rf"^skipped {says}", done.stderr, re.MULTILINE)
    identical("result", "alone_dijet")
    entries = {item["file"]: item for item in manifest("result")["inputs"]}
    assert list(entries) == ["bad.root", "good_b.root"]
    assert (entries["bad.root"]["status"], entries["bad.root"]["processed"]) == ("skipped", 0)
    assert f"skipped bad.root: {entries['bad.root']['reason']}" in done.stderr
    assert (entries["good_b.root"]["status"], entries["good_b.root"]["processed"]) == ("done", GOOD_B)
    assert entries["good_b.root"]["reason"] == ""


def test_truncation_is_seen_wherever_it_is() -> None:
    """uproot opens most of these; the end is checked against the size first."""
    good = Path("good_a.root").read_bytes()
    for size in [20, 63, *range(100, len(good), len(good) // 12), len(good) - 1]:
        Path("bad.root").write_bytes(good[:size])
        message = refused("dijet", "bad.root")
        assert (
            f"bad.root: is truncated: {size} bytes, but its header says {len(good)}; copy it again" in message
        )


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_flipped_byte_is_seen_where_the_basket_has_a_checksum(fraction: float) -> None:
    """ROOT writes a checksum of the content with LZ4 (not with ZSTD): any flipped byte is found when it is read."""
    write("lz4.root", events(EVENTS, 1), compression=uproot.LZ4(4))
    with uproot.open("lz4.root") as file:
        key = file["Events"][f"n{HLT}"].basket_key(1)
        size = int(key.fNbytes - key.fKeylen)
        assert size < key.fObjlen, "what does not shrink is not compressed and has no checksum"
        position = int(key.fSeekKey + key.fKeylen + fraction * size)
    Path("bad.root").write_bytes(_flip(Path("lz4.root").read_bytes(), position))
    assert re.search(rf"bad\.root: branch n{HLT} cannot be read", refused("dijet", "bad.root"))


def test_file_that_fails_while_it_is_read_comes_with_a_remedy() -> None:
    spoiled("flipped: frame")
    message = refused("dijet", "good_b.root", "bad.root")
    assert re.search(r"copy it again|make it again|--skip-bad-files", message)


def test_a_branch_that_no_processor_reads_may_be_damaged() -> None:
    """Only columns that are needed are read; the manifest says which."""
    data = Path("good_a.root").read_bytes()
    Path("bad.root").write_bytes(_flip(data, payload("good_a.root", "ScoutingMuonVtx_eta", 1) + 9))
    assert trila("run", "dijet", "bad.root", "-o", "result").code == 0
    assert not [column for column in manifest("result")["columns"] if "Muon" in column]
    assert "branch ScoutingMuonVtx_eta cannot be read" in refused("dimuon", "bad.root")


@pytest.mark.parametrize("value", [1, 3, 200, 0xFF], ids=["fewer", "more", "far more", "negative"])
def test_counts_that_do_not_fit_the_jets_are_the_files_fault(value: int) -> None:
    """A wrong number of jets in one event would move all later jets to other events."""
    raw = write("raw.root", events(EVENTS, 1), compression=uproot.ZSTD(0)).read_bytes()
    position = payload("raw.root", f"n{HLT}", 1)
    stored = int.from_bytes(raw[position : position + 4], "big")
    assert stored in (2, 3)
    number = (-1 if value == 0xFF else value if value != stored else 4).to_bytes(4, "big", signed=True)
    Path("bad.root").write_bytes(raw[:position] + number + raw[position + 4 :])
    assert re.search(rf"bad\.root: .*({HLT}|hlt_jets)", refused("dijet", "bad.root"))


def test_flat_numbers_in_place_of_jets_are_the_files_fault() -> None:
    branches = {f"{HLT}_{f}": np.full(50, 100, np.float32) for f in ("pt", "eta", "phi", "m")}
    write("bad.root", branches)
    assert re.search(rf"bad\.root: .*{HLT}_pt", refused("dijet", "bad.root"))


def test_missing_file_names_the_nearest() -> None:
    assert "good_aa.root: no such file; did you mean good_a.root?" in refused("dijet", "good_aa.root")
    assert "nowhere/x.root: no such file; check the path" in refused("dijet", "nowhere/x.root")


def test_folder_in_place_of_a_file() -> None:
    Path("folder").mkdir()
    assert "folder: is a folder; give files, or a glob such as folder/*.root" in refused("dijet", "folder")


@pytest.mark.parametrize(
    ("tree", "says"), [("events", "it has 'events'"), ("LuminosityBlocks", "it has 'LuminosityBlocks'")]
)
def test_missing_tree_names_those_that_are_there(tree: str, says: str) -> None:
    write("bad.root", events(50, 1), tree=tree)
    message = refused("dijet", "bad.root", "good_a.root")
    assert "bad.root: has no tree 'Events' or 'AnalysisMiniTree'" in message
    assert says in message


def test_file_without_any_tree() -> None:
    with uproot.recreate("bad.root") as file:
        file["h"] = np.histogram([1.0, 2.0])
    assert "bad.root: has no tree 'Events' or 'AnalysisMiniTree'; it has no tree at all" in refused(
        "dijet", "bad.root"
    )


def test_unknown_branches_call_for_a_format_of_ones_own() -> None:
    write("bad.root", {"px": np.ones(50), "py": np.ones(50)})
    message = refused("dijet", "bad.root")
    assert (
        "bad.root: is of no known format (cms-scouting, atlas-tla, cms-nano); its branches begin with px, py"
        in message
    )
    assert "--format" in message


@pytest.mark.parametrize(
    ("collection", "field", "written", "processor"),
    [
        (HLT, "m", "mas", "dijet"),
        (HLT, "eta", "Eta", "dijet"),
        (HLT, "phi", "phii", "response"),
        ("Jet", "pt", "ptt", "response"),
        ("Jet", "phi", "phii", "response"),
        ("Jet", "eta", "etaa", "response"),
        ("Jet", "phi", "phii", "efficiency"),
        ("ScoutingMuonVtx", "charge", "charg", "dimuon"),
    ],
)
@pytest.mark.parametrize("gen", [False, True], ids=["", "with particle-level jets"])
def test_misnamed_branch_names_the_nearest(
    collection: str, field: str, written: str, processor: str, gen: bool
) -> None:
    good = with_gen(events(50, 1)) if gen and field != "pt" else events(50, 1)
    write("bad.root", with_field(good, collection, field, written))
    message = refused(processor, "bad.root")
    assert re.search(
        rf"bad\.root: processor '{processor}' needs \w+\.{'mass' if field == 'm' else field}\b", message
    )
    assert f"{collection}_{field}" in message
    assert re.search(rf"nearest branch: [^;]*{collection}_{written}\b", message)


def test_misnamed_leading_branch_names_the_nearest() -> None:
    """Without `_pt` the file no longer looks like its format, but its other branches do."""
    write("bad.root", with_field(events(50, 1), HLT, "pt", "pT"))
    message = refused("dijet", "bad.root", "--format", "cms-scouting")
    assert "needs hlt_jets.pt" in message
    assert re.search(rf"nearest branch: [^;]*{HLT}_pT", message)


@pytest.mark.parametrize(
    ("collection", "field", "processor", "column"),
    [("GenJet", "phi", "response", "gen_jets.phi"), (HLT, "phi", "efficiency", "hlt_jets.phi")],
)
def test_half_an_optional_collection_is_no_fault_of_the_code(
    collection: str, field: str, processor: str, column: str
) -> None:
    """Either what needs it is left out, and the manifest says so, or the file is refused."""
    write("half.root", with_field(with_gen(events(50, 1)), collection, field, "other"))
    done = trila("run", processor, "half.root", "-o", "result")
    assert done.code in (0, 2), done.stderr
    if done.code == 2:
        assert f"{collection}_{field}" in done.stderr
    else:
        assert column in manifest("result")["columns_missing"]
        assert not {"response.hlt_gen", "efficiency.HLT_PFJet40.tag_probe"} & histograms("result").keys()


NUMBERS = [
    ("dijet", HLT, "pt", "hlt_jets.pt", np.nan),
    ("dijet", HLT, "pt", "hlt_jets.pt", np.inf),
    ("dijet", HLT, "pt", "hlt_jets.pt", -np.inf),
    ("dijet", HLT, "eta", "hlt_jets.eta", np.nan),
    ("dijet", HLT, "eta", "hlt_jets.eta", -np.inf),
    ("dijet", HLT, "phi", "hlt_jets.phi", np.nan),
    ("dijet", HLT, "m", "hlt_jets.mass", np.inf),
    ("response", HLT, "pt", "hlt_jets.pt", np.inf),
    ("response", "Jet", "pt", "offline_jets.pt", np.nan),
    ("response", "Jet", "phi", "offline_jets.phi", np.inf),
    ("efficiency", "Jet", "eta", "offline_jets.eta", np.nan),
    ("dimuon", "ScoutingMuonVtx", "pt", "hlt_muons.pt", np.nan),
    ("dimuon", "ScoutingMuonVtx", "eta", "hlt_muons.eta", np.inf),
]


def _poisoned(collection: str, field: str, event: int, value: float) -> int:
    """Writes bad.root with one such number, in this event or the next that has an object; which one."""
    branches = events(EVENTS, 1)
    jets = branches[collection]
    counts = ak.to_numpy(ak.num(jets[field]))
    while counts[event] == 0:
        event += 1
    numbers = ak.to_numpy(ak.flatten(jets[field])).copy()
    numbers[counts[: event + 1].sum() - 1] = value
    fields = {n: ak.unflatten(numbers, counts) if n == field else jets[n] for n in jets.fields}
    write("bad.root", {**branches, collection: ak.zip(fields)})
    return event


@pytest.mark.parametrize(("processor", "collection", "field", "column", "value"), NUMBERS)
def test_not_a_number_is_named_with_its_entry(
    processor: str, collection: str, field: str, column: str, value: float
) -> None:
    event = _poisoned(collection, field, 277, value)
    message = refused(processor, "good_b.root", "bad.root", "--chunk-size", BASKET)
    assert f"bad.root: {column} is {value} in entry {event}; finite numbers are expected" in message
    assert "make it again or leave it out" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weight_that_is_not_a_number_is_named_with_its_entry(value: float) -> None:
    branches = events(EVENTS, 1)
    branches["genWeight"][277] = value
    write("bad.root", branches)
    message = refused("dijet", "good_b.root", "bad.root", "--chunk-size", BASKET)
    assert re.search(rf"bad\.root: .*weight.* {value}.* entry 277", message, re.IGNORECASE)


def test_file_with_nan_in_its_last_chunk_is_left_out_whole() -> None:
    """Its first chunks were good, their pairs were written: none of that may stay."""
    _poisoned("Jet", "phi", 377, np.nan)
    done = trila(
        "run",
        "response",
        "bad.root",
        "good_b.root",
        "-o",
        "result",
        "--chunk-size",
        BASKET,
        "--skip-bad-files",
    )
    assert done.code == 3
    assert "skipped bad.root: offline_jets.phi is nan in entry 377" in done.stderr
    identical("result", "alone_response")
    uuids = {item["file"]: item["uuid"] for item in manifest("result")["inputs"]}
    written = [file.name for file in Path("result/pairs").rglob("*") if file.is_file()]
    assert len(written) == 1
    assert all(name.startswith(uuids["good_b.root"]) for name in written)
    assert len(pairs("result")) > GOOD_B


@pytest.mark.parametrize("processor", ["response", "efficiency", "dijet", "dimuon"])
def test_file_without_events_is_fine_and_counted(processor: str) -> None:
    done = trila("run", processor, "good_b.root", "empty.root", "-o", "result", "--chunk-size", BASKET)
    assert done.code == 0, done.stderr
    assert f"{GOOD_B} events of 2 files" in done.stdout
    entry = manifest("result")["inputs"][1]
    assert (entry["file"], entry["status"], entry["entries"], entry["reason"]) == (
        "empty.root",
        "empty",
        0,
        "",
    )
    identical("result", f"alone_{processor}")


def test_nothing_but_a_file_without_events() -> None:
    done = trila("run", "response,efficiency,dijet,dimuon", "empty.root", "-o", "result")
    assert done.code == 0, done.stderr
    assert "0 events of 1 file" in done.stdout
    assert all(not h.view(flow=True)["value"].any() for h in histograms("result").values())
    cutflow = json.loads(Path("result/cutflow.json").read_text())["data"]
    assert {row["events"] for rows in cutflow.values() for row in rows} == {0}
    assert pairs("result") == []


# ---- which files


@pytest.mark.parametrize("way", ["link", "copy", "same path", "other spelling"])
def test_a_file_given_twice_is_counted_once_or_refused(way: str) -> None:
    other = {
        "link": "again.root",
        "copy": "again.root",
        "same path": "good_a.root",
        "other spelling": "./good_a.root",
    }
    if way == "link":
        Path("again.root").symlink_to("good_a.root")
    if way == "copy":
        shutil.copy("good_a.root", "again.root")
    message = refused("dijet", "good_a.root", other[way])
    expected = "is listed twice" if way == "same path" else "is the same file as good_a.root (uuid "
    assert f"{other[way]}: {expected}" in message
    assert "list it once" in message
    done = trila("run", "dijet", "good_a.root", other[way], "-o", "result", "--skip-bad-files")
    if way == "same path":
        assert "note: good_a.root is listed twice; it is counted once" in done.stderr
    trila("run", "dijet", "good_a.root", "-o", "alone")
    identical("result", "alone")


def test_a_file_in_two_datasets_is_refused() -> None:
    Path("set.yaml").write_text(
        "a: {files: [good_a.root], cross_section: 1}\nb: {files: [good_a.root], cross_section: 2}"
    )
    assert "is the same file as good_a.root" in refused("dijet", "set.yaml")


def test_all_bad_files_are_listed_at_once() -> None:
    good = Path("good_a.root").read_bytes()
    for number in range(14):
        Path(f"bad_{number:02d}.root").write_bytes(good[: 1000 + number])
    message = refused("dijet", "good_b.root", "bad_*.root")
    assert "14 of 15 files cannot be used; --skip-bad-files goes on without them" in message
    assert "bad_00.root: is truncated: 1000 bytes" in message
    assert "... and 4 more" in message
    done = trila("run", "dijet", "good_b.root", "bad_*.root", "-o", "result", "--skip-bad-files")
    assert done.code == 3
    assert [
        n for n in range(14) if f"skipped bad_{n:02d}.root: is truncated: {1000 + n} bytes" in done.stderr
    ] == [*range(14)]


@pytest.mark.parametrize(
    "names", [["last byte missing"], ["flipped: frame"], ["last byte missing", "flipped: frame"]]
)
def test_no_result_if_every_file_is_skipped(names: list[str]) -> None:
    files = []
    for number, name in enumerate(names):
        spoiled(name)
        files.append(str(Path("bad.root").rename(f"bad_{number}.root")))
    message = refused("dijet", *files, "--skip-bad-files")
    assert all(file in message for file in files[:1])
    assert "('" not in message, "a Python tuple is no message"


def test_dataset_of_bad_files_only_is_skipped() -> None:
    """What it would have been, data or simulation, is not known and does not matter."""
    Path("bad.root").write_bytes(Path("data_b.root").read_bytes()[:-1])
    Path("set.yaml").write_text("first: {files: [data_a.root]}\nsecond: {files: [bad.root]}")
    done = trila("run", "dijet", "set.yaml", "-o", "result", "--skip-bad-files")
    assert done.code == 3, done.stderr
    assert "skipped bad.root: is truncated" in done.stderr
    statuses = {item["dataset"]: item["status"] for item in manifest("result")["inputs"]}
    assert statuses == {"first": "done", "second": "skipped"}
    cutflow = json.loads(Path("result/cutflow.json").read_text())
    assert cutflow["first"]["dijet"][0]["events"] == EVENTS


@pytest.mark.parametrize("order", [["data_a.root", "good_a.root"], ["good_a.root", "data_a.root"]])
def test_data_and_simulation_in_one_list(order: list[str]) -> None:
    message = refused("dijet", *order)
    assert "weight" in message
    assert f"{order[1]}: " in message
    assert "make it its own dataset" in message


def test_data_and_simulation_without_weights_in_one_list() -> None:
    """Particle-level jets make it simulation, even where no processor reads them."""
    write("gen.root", with_gen(events(EVENTS, 1, data=True)))
    message = refused("dijet", "data_a.root", "gen.root")
    assert re.search(r"gen\.root.*(simulation|gen_jets)", message)


def test_data_and_simulation_in_two_datasets() -> None:
    Path("set.yaml").write_text("d: {files: [data_a.root]}\nmc: {files: [good_a.root], cross_section: 2}")
    message = refused("dijet", "set.yaml")
    assert "'d' is data and 'mc' is simulation; their sum means nothing: run them into two results" in message


def test_simulation_without_cross_section_is_not_added() -> None:
    Path("set.yaml").write_text("a: {files: [good_a.root], cross_section: 2}\nb: {files: [good_b.root]}")
    message = refused("dijet", "set.yaml")
    assert "simulated dataset 'b' has no cross_section" in message
    assert "give it in the fileset (pb)" in message


def test_data_have_no_cross_section() -> None:
    """Events that were counted must not be scaled."""
    Path("set.yaml").write_text("d: {files: [data_a.root], is_data: true, cross_section: 2}")
    assert re.search(r"'d'.*cross_section", refused("dijet", "set.yaml"))


def test_files_with_different_jets_are_not_added() -> None:
    """One file has PF jets, the other reclustered ones only: their sum would be of two kinds of jets."""
    branches = events(EVENTS, 1)
    write("both.root", {**branches, "ScoutingPFJetRecluster": branches[HLT]})
    other = events(EVENTS, 2)
    write("one.root", {"ScoutingPFJetRecluster" if name == HLT else name: v for name, v in other.items()})
    message = refused("dijet", "both.root", "one.root")
    assert re.search(r"one\.root.*ScoutingPFJetRecluster", message)
    assert "dataset" in message


# ---- names


@pytest.mark.parametrize(
    ("processor", "says"),
    [
        (
            "dijett",
            "unknown processor 'dijett'; did you mean dijet? One of your own is given as module:Class.",
        ),
        ("response,dimoun", "unknown processor 'dimoun'; did you mean dimuon?"),
        ("xyz", "unknown processor 'xyz'; known: dijet, dimuon, efficiency, response, stability."),
        ("", "unknown processor ''; known: dijet"),
    ],
)
def test_unknown_processor(processor: str, says: str) -> None:
    assert says in refused(processor, "good_a.root")


def test_unknown_format() -> None:
    message = refused("dijet", "good_a.root", "--format", "cms-scoutin")
    assert "unknown format 'cms-scoutin'; did you mean cms-scouting?" in message
    assert "A format of your own is given as a .yaml file." in message


@pytest.mark.parametrize(
    ("processor", "config", "name"),
    [
        ("dijet", {"events": {"triggers": ["DST_PFScouting_JetH"]}}, "DST_PFScouting_JetHT"),
        ("dimuon", {"events": {"triggers": ["HLT_IsoMu2"]}}, "HLT_IsoMu27"),
        ("response", {"response": {"tag_trigger": "HLT_PFJet4"}}, "HLT_PFJet40"),
        ("response", {"response": {"orthogonal_triggers": ["HLT_IsoMu"]}}, "HLT_IsoMu27"),
        ("efficiency", {"efficiency": {"triggers": ["HLT_PFJet400"]}}, "HLT_PFJet40"),
    ],
)
def test_unknown_trigger(processor: str, config: dict[str, Any], name: str) -> None:
    Path("config.yaml").write_text(yaml.safe_dump(config))
    message = refused(processor, "good_a.root", "--config", "config.yaml")
    assert re.search(rf"good_a\.root: unknown trigger '\w+'; did you mean {name}\b", message)
    assert "`trila inspect` lists those of a file." in message


# ---- YAML and JSON


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dijett: {}", "config.yaml: dijett: .*not permitted.*known sections: reader, events, response"),
        ("dijet: {pt_minn: 3}", r"config.yaml: dijet.pt_minn: .*not permitted.*given: 3"),
        ("dijet: {pt_min: abc}", r"config.yaml: dijet.pt_min: .*valid number.*given: abc"),
        ("dijet: {selection: lhcb}", r"config.yaml: dijet.selection: .*'auto', 'cms' or 'atlas'.*given: lhcb"),
        ("events: {triggers: HLT_IsoMu27}", r"config.yaml: events.triggers: .*given: HLT_IsoMu27"),
        ("response: {response_bins: 3}", r"config.yaml: response.response_bins: .*600.*given: 3"),
        ("response: {thinning: {pt: [0, 100], keep: [1]}}", "config.yaml: response.thinning: .*as many numbers"),
        ("response: {thinning: {pt: [0], keep: [0]}}", "config.yaml: response.thinning: .*above 0 and at most 1"),
        ("dijet: [}", "configuration config.yaml is not YAML or JSON: .*line 1, column"),
        ("- dijet", "configuration config.yaml is a list; expected sections such as 'response:'"),
        ("dijet", "configuration config.yaml is a str; expected sections such as 'response:'"),
        ("dijet: 3", "config.yaml: dijet: .*given: 3"),
        ("events: {lumi_mask: mask.json}", "luminosity mask mask.json cannot be read: .*check the path"),
        ("events: {lumi_mask: {one: [[1, 2]]}}", "config.yaml.*one"),
        ("events: {lumi_mask: {'1': [[2, 1]]}}", r"config.yaml.*\[?2, 1"),
        ("dijet: {pt_min: 30}\ndijet: {pt_min: 60}", "config.yaml.*dijet"),
        ("reader: {collections: {hlt_jet: ScoutingPFJet}}", "unknown collection 'hlt_jet'; did you mean hlt_jets"),
        (
            "reader: {collections: {hlt_jets: ScoutingPFJets}}",
            f"hlt_jets.pt .branch ScoutingPFJets_pt.*nearest branch: {HLT}_pt",
        ),
    ],
)  # fmt: skip
def test_malformed_configuration(text: str, says: str) -> None:
    Path("config.yaml").write_text(text)
    message = refused("dijet", "data_a.root", "--config", "config.yaml")
    assert re.search(says, message), message


def test_a_configuration_mistake_is_not_blamed_on_the_file() -> None:
    """It would hold for every file: there is nothing to skip."""
    Path("config.yaml").write_text("reader: {collections: {hlt_jet: ScoutingPFJet}}")
    message = refused("dijet", "good_a.root", "--config", "config.yaml", "--skip-bad-files")
    assert "cannot be read" not in message


def test_configuration_that_cannot_be_read() -> None:
    message = refused("dijet", "good_a.root", "--config", "none.yaml")
    assert "configuration none.yaml cannot be read: No such file or directory; check the path" in message
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "configuration binary.yaml is not YAML" in refused(
        "dijet", "good_a.root", "--config", "binary.yaml"
    )


_MASK = r'expected {"run": [[first, last], ...], ...}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "luminosity mask mask.json is not JSON"),
        ("run 1", "luminosity mask mask.json is not JSON"),
        ("[[1, 2]]", "luminosity mask mask.json holds list"),
        ("{}", "luminosity mask mask.json holds dict, or no run"),
        ('{"one": [[1, 2]]}', "run 'one'"),
        ('{"1": {"1": 2}}', "run '1'"),
        ('{"1": [1, 2]}', "run 1: 1 is not [first, last]"),
        ('{"1": [[1, 2, 3]]}', "run 1: [1, 2, 3] is not [first, last]"),
        ('{"1": [[2, 1]]}', "run 1: [2, 1] is not [first, last]"),
        ('{"1": [["1", "2"]]}', "run 1: ['1', '2'] is not [first, last]"),
        ('{"1": [[1.5, 2]]}', "run 1: [1.5, 2] is not [first, last]"),
        ('{"1": [[-1, 2]]}', "run 1: [-1, 2] is not [first, last]"),
    ],
)
def test_malformed_mask(text: str, says: str) -> None:
    Path("mask.json").write_text(text)
    message = refused("dijet", "data_a.root", "--lumi-mask", "mask.json")
    assert says in message
    assert _MASK in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"1": [[1, 2]], "1": [[4, 5]]}', "run 1"),  # the first of the two would be dropped in silence
        ('{"99999999999": [[1, 2]]}', "99999999999"),
        ('{"1": [[1, 99999999999]]}', "99999999999"),  # would reach into the runs after it
    ],
)
def test_mask_that_cannot_be_meant(text: str, says: str) -> None:
    Path("mask.json").write_text(text)
    assert re.search(
        rf"mask\.json.*{says}", refused("dijet", "data_a.root", "data_b.root", "--lumi-mask", "mask.json")
    )


def test_missing_mask() -> None:
    message = refused("dijet", "data_a.root", "--lumi-mask", "none.json")
    assert "luminosity mask none.json cannot be read: No such file or directory; check the path" in message


@pytest.mark.parametrize("column", ["run", "luminosityBlock"])
def test_mask_needs_the_run_number(column: str) -> None:
    write("bad.root", {name: v for name, v in events(50, 1, data=True).items() if name != column})
    Path("mask.json").write_text('{"1": [[1, 2]]}')
    message = refused("dijet", "bad.root", "--lumi-mask", "mask.json")
    assert (
        "a luminosity mask needs run and luminosity block, which the input does not have; run without"
        in message
    )


def _correction(inputs: list[str]) -> None:
    variables = [schema.Variable(name=name, type="real") for name in inputs]
    formula = schema.Formula(nodetype="formula", expression="1.0", parser="TFormula", variables=inputs)
    made = schema.Correction(
        name="hlt_jec",
        version=1,
        inputs=variables,
        output=schema.Variable(name="c", type="real"),
        data=formula,
    )
    content = schema.CorrectionSet(schema_version=2, corrections=[made])
    Path("correction.json").write_text(content.model_dump_json(exclude_unset=True))


@pytest.mark.parametrize("text", ["{}", "no json", '{"schema_version": 2, "corrections": 3}'])
def test_correction_file_that_is_none(text: str, tmp_path: Path) -> None:
    Path("correction.json").write_text(text)
    message = refused("dijet", "good_a.root", "--corrections", "correction.json")
    assert (
        f"correction file {tmp_path / 'correction.json'} is not a correctionlib (v2) JSON file: " in message
    )


def test_missing_correction_file(tmp_path: Path) -> None:
    message = refused("dijet", "good_a.root", "--corrections", "none.json")
    assert f"correction file {tmp_path / 'none.json'}: no such file; check the path" in message


def test_correction_of_something_that_the_input_does_not_have() -> None:
    _correction(["JetPt", "Rho"])
    message = refused("dijet", "good_a.root", "--corrections", "correction.json")
    assert re.search(
        "correction 'hlt_jec' of .*correction.json needs 'Rho', which the input cannot give", message
    )
    assert "at hand: JetPt" in message


def test_correction_without_that_name(tmp_path: Path) -> None:
    _correction(["JetPt"])
    Path("config.yaml").write_text("dijet: {corrections: correction.json, correction: hlt}")
    message = refused("dijet", "good_a.root", "--config", "config.yaml")
    assert "has no 'hlt'; name one of: hlt_jec" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "fileset set.yaml is not YAML or JSON: "),
        ("- good_a.root", r"fileset set.yaml holds no datasets; expected 'name: {files: \[...\]}'"),
        ("", r"fileset set.yaml holds no datasets; expected 'name: {files: \[...\]}'"),
        ("a: {file: [good_a.root]}", r"fileset set.yaml, dataset 'a': files: Field required"),
        ("a: {files: [good_a.root], cross_sectio: 1}", r"dataset 'a': cross_sectio: .*not permitted"),
        ("a: {files: [good_a.root], cross_section: -1}", r"dataset 'a': cross_section: .*greater than 0.*given: -1"),
        ("a: {files: [good_a.root], cross_section: .inf}", r"'a'.*cross_section.*inf"),
        ("a: {files: [good_a.root], cross_section: .nan}", r"'a'.*cross_section.*nan"),
        ("a: {files: [good_a.root], is_data: perhaps}", r"dataset 'a': is_data: .*given: perhaps"),
        ("a: {files: good_a.root}", r"dataset 'a': files: .*given: good_a.root"),
        ("a: {files: []}", r"dataset 'a': files: .*at least 1"),
        ("a: {files: [nothing_*.root]}", r"no file matches nothing_\*.root"),
        ("a: {files: [good_c.root]}", r"good_c.root: no such file; did you mean good_"),
        ("a/b: {files: [good_a.root]}", "dataset name 'a/b' cannot name a folder; use letters, digits and _"),
        ("3: {files: [good_a.root]}", "dataset name 3 cannot name a folder; use letters, digits and _"),
        # YAML itself would keep the second one in silence
        ("a: {files: [good_a.root]}\na: {files: [good_b.root]}", "set.yaml.*'?a'?.*(twice|duplicate|again)"),
    ],
)  # fmt: skip
def test_malformed_fileset(text: str, says: str) -> None:
    Path("set.yaml").write_text(text)
    message = refused("dijet", "set.yaml")
    assert re.search(says, message), message


def test_fileset_that_cannot_be_read() -> None:
    assert "fileset none.yaml cannot be read: No such file or directory; check the path" in refused(
        "dijet", "none.yaml"
    )
    Path("binary.json").write_bytes(b"\xff\xfe\x00")
    assert "fileset binary.json is not YAML or JSON" in refused("dijet", "binary.json")


def test_dataset_in_two_filesets() -> None:
    for name in ("one", "two"):
        Path(f"{name}.yaml").write_text("qcd: {files: [good_a.root]}")
    message = refused("dijet", "one.yaml", "two.yaml")
    assert "dataset 'qcd' is in two filesets; give it another name in two.yaml" in message


def test_files_beside_a_fileset() -> None:
    Path("set.yaml").write_text("a: [good_a.root]")
    message = refused("dijet", "set.yaml", "good_b.root")
    assert (
        "files (good_b.root, ...) and a fileset were given together; put the files into the fileset"
        in message
    )


def test_glob_without_match() -> None:
    assert "no file matches good_c*.root; nearest: good_" in refused("dijet", "good_c*.root")
    assert "no file matches nowhere/*.root; check the folder" in refused("dijet", "nowhere/*.root")


def test_file_with_brackets_in_its_name() -> None:
    shutil.copy("good_a.root", "jets[1].root")
    assert trila("run", "dijet", "jets[1].root", "-o", "result").code == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"# nothing\n\n", "file list list.txt names no file; expected one path or URL a line"),
        (b"good_c.root\n", "good_c.root: no such file; did you mean good_"),
        (b"\xff\xferoot\x00", r"file list list.txt"),
        (b"list.txt\n", r"list\.txt"),
    ],
    ids=["empty", "missing file", "binary", "itself"],
)
def test_malformed_list(content: bytes, says: str) -> None:
    Path("list.txt").write_bytes(content)
    assert re.search(says, refused("dijet", "list.txt"))


def test_missing_list() -> None:
    message = refused("dijet", "none.txt")
    assert "file list none.txt cannot be read: No such file or directory; check the path" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [", "format file mine.yaml is not YAML"),
        ("[]", "format file mine.yaml is not a format"),
        ("name: mine", "format file mine.yaml is not a format: collections: Field required"),
        ("name: mine\nenergy_unit: TeV\ncollections: {}", "energy_unit: .*'GeV' or 'MeV'.*given: TeV"),
        (
            "name: mine\ncollections: {hlt_jet: {source: [j], fields: {pt: pt}}}",
            "mine.yaml.*unknown collection 'hlt_jet'; did you mean hlt_jets",
        ),
        (
            "name: mine\ncollections: {hlt_jets: {source: [j], fields: {ptt: pt}}}",
            "mine.yaml.*unknown field of hlt_jets 'ptt'; did you mean pt",
        ),
        (
            "name: mine\nevents: {runn: run}\ncollections: {}",
            "mine.yaml.*unknown event column 'runn'; did you mean run",
        ),
    ],
)
def test_malformed_format(text: str, says: str) -> None:
    Path("mine.yaml").write_text(text)
    message = refused("dijet", "good_a.root", "--format", "mine.yaml")
    assert re.search(says, message), message


def test_missing_format_file() -> None:
    assert "format file none.yaml cannot be read: No such file" in refused(
        "dijet", "good_a.root", "--format", "none.yaml"
    )


# ---- where to


def test_result_that_is_a_file() -> None:
    Path("taken").write_text("mine")
    done = trila("run", "dijet", "good_a.root", "-o", "taken")
    assert done.code == 2
    assert "taken is a file; give a folder for the result" in done.stderr
    assert Path("taken").read_text() == "mine"
    done = trila("run", "dijet", "good_a.root", "-o", "taken/result")
    assert done.code == 2
    assert (
        "result folder taken/result cannot be written: Not a directory; choose another place" in done.stderr
    )


@pytest.mark.parametrize("inside", ["thesis.tex", "pairs/mine.parquet", "cutflow.json"])
def test_foreign_folder_is_not_touched(inside: str) -> None:
    file = Path("foreign") / inside
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    before = sorted(Path().rglob("*"))
    done = trila("run", "dijet", "good_a.root", "-o", "foreign")
    assert file.exists(), "the user's file is gone"
    assert file.read_text() == "mine"
    assert done.code == 2
    assert re.search(
        r"foreign is not empty and is no earlier result \(.*\); give another folder", done.stderr
    )
    assert sorted(Path().rglob("*")) == before


def test_foreign_manifest_does_not_make_a_result() -> None:
    Path("foreign/pairs").mkdir(parents=True)
    Path("foreign/manifest.json").write_text('{"name": "a web page"}')
    Path("foreign/pairs/mine.parquet").write_text("mine")
    done = trila("run", "dijet", "good_a.root", "-o", "foreign")
    assert Path("foreign/pairs/mine.parquet").exists(), "the user's file is gone"
    assert done.code == 2
    assert "foreign is not empty and is no earlier result" in done.stderr


def test_result_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-o .` in a new folder."""
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    done = trila("run", "dijet", "../good_a.root", "-o", ".")
    assert done.code == 0, done.stderr
    assert Path("histograms.zip").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


MODULE = """
import hist
import numpy as np
from coffea.processor import ProcessorABC

from trila.processors.cutflow import Cutflow


class Good(ProcessorABC):
    def process(self, events):
        h = hist.Hist(hist.axis.Regular(4, 0, 4, name="n"), storage=hist.storage.Weight())
        h.fill(np.zeros(len(events)))
        n = np.zeros(len(events), int)
        return {"histograms": {"n": h}, "cutflow": Cutflow.from_stages(("all events",), n, np.ones(len(events)))}

    def postprocess(self, accumulator):
        return accumulator


class Fails(Good):
    def process(self, events):
        raise KeyError("no such [thing]")


class FailsLate(Good):
    def process(self, events):
        if events.metadata["entrystart"] >= 200:
            raise RuntimeError("late")
        return super().process(events)


class GivesNone(Good):
    def process(self, events):
        return None


class GivesList(Good):
    def process(self, events):
        return []


class GivesOther(Good):
    def process(self, events):
        return {"hists": {}}


class GivesNumber(Good):
    def process(self, events):
        return {"histograms": {"n": 3}}


class GivesNoHistograms(Good):
    def process(self, events):
        return {"histograms": None}


class GivesCounts(Good):
    def process(self, events):
        return {"histograms": {}, "cutflow": {"all": 3}}


class NeedsArgument(Good):
    def __init__(self, pt_min):
        self.pt_min = pt_min


class NoProcessor:
    pass


class Unbuildable(Good):
    def __init__(self):
        raise RuntimeError("cannot be made")
"""


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        (
            "Fails",
            1,
            r"processor 'Fails' failed on good_a.root, entries 0 to 100, first at entry 0 .*: KeyError: 'no such \[thing\]'",
        ),
        (
            "FailsLate",
            1,
            "processor 'FailsLate' failed on good_a.root, entries 200 to 300.*: RuntimeError: late",
        ),
        ("Unbuildable", 1, "cannot be made"),
        ("GivesNone", 2, r"processor 'GivesNone' returned NoneType; expected \{'histograms'"),
        ("GivesList", 2, r"processor 'GivesList' returned list; expected \{'histograms'"),
        ("GivesOther", 2, r"processor 'GivesOther' returned \['hists'\]; expected \{'histograms'"),
        ("GivesNumber", 2, "processor 'GivesNumber': histogram 'n' is a int; expected"),
        ("GivesNoHistograms", 2, r"processor 'GivesNoHistograms'.*histograms.*NoneType.*expected"),
        ("GivesCounts", 2, "processor 'GivesCounts': cutflow is a dict; expected"),
        ("NeedsArgument", 2, "mine_bad:NeedsArgument does not take its configuration: .*'pt_min'"),
        (
            "NoProcessor",
            2,
            r"mine_bad:NoProcessor is no class with a method process\(events\); expected a coffea ProcessorABC",
        ),
        ("Goode", 2, "mine_bad:Goode cannot be imported: .*'Goode'; the module must be importable here"),
        ("", 2, "mine_bad: cannot be imported"),
    ],
)
def test_processor_of_ones_own_that_is_wrong(name: str, code: int, says: str) -> None:
    Path("mine_bad.py").write_text(MODULE)
    message = refused(f"mine_bad:{name}", "good_a.root", "--chunk-size", BASKET, code=code)
    assert re.search(says, message), message
    # a fault of the code is not a bad file: it is not skipped
    refused(
        f"mine_bad:{name}",
        "good_a.root",
        "good_b.root",
        "--chunk-size",
        BASKET,
        "--skip-bad-files",
        code=code,
    )


def test_damaged_file_is_not_blamed_on_a_processor_of_ones_own() -> None:
    spoiled("flipped: frame")
    Path("mine_reads.py").write_text(
        MODULE.replace("h.fill(np.zeros(len(events)))", "h.fill([float(events.hlt_jets.pt[-1, 0])])")
    )
    assert re.search(rf"bad\.root: {_UNREADABLE}", refused("mine_reads:Good", "bad.root"))


@pytest.mark.parametrize("name", ["nowhere:Mine", ":Mine", "nowhere.deep:Mine"])
def test_module_that_is_not_there(name: str) -> None:
    assert re.search(
        rf"processor {name} cannot be imported: .*; the module must be importable here",
        refused(name, "good_a.root"),
    )


def test_configuration_that_a_processor_of_ones_own_does_not_take() -> None:
    Path("mine_strict.py").write_text(MODULE)
    Path("config.yaml").write_text("processors: {'mine_strict:NeedsArgument': {pt_mni: 3}}")
    message = refused("mine_strict:NeedsArgument", "good_a.root", "--config", "config.yaml")
    assert re.search("does not take its configuration: .*pt_m", message)


def test_two_processors_of_one_name_do_not_overwrite_each_other() -> None:
    for module in ("mine_one", "mine_two"):
        Path(f"{module}.py").write_text(MODULE)
    message = refused("mine_one:Good,mine_two:Good", "good_a.root")
    assert re.search("Good", message)


# ---- what an earlier run left


@pytest.mark.parametrize(
    ("processor", "file"),
    [
        ("dijet", "last byte missing"),
        ("dijet", "flipped: frame"),
        ("dimuon", "no muons"),
        ("mine_later:Fails", "good"),
        ("dijet", "missing"),
    ],
)
def test_failing_run_leaves_no_histograms_of_an_earlier_one(processor: str, file: str) -> None:
    Path("mine_later.py").write_text(MODULE)
    assert trila("run", "dijet", "good_a.root", "-o", "out/result").code == 0
    assert Path("out/result/histograms.zip").is_file()
    if file in DAMAGES:
        spoiled(file)
    elif file == "no muons":
        write("bad.root", {name: v for name, v in events(50, 1).items() if "Muon" not in name})
    elif file == "good":
        shutil.copy("good_a.root", "bad.root")
    refused(processor, "bad.root", code=1 if file == "good" else 2)
    done = trila("plot", "out/result", "-o", "plots")
    assert done.code == 2
    assert re.search("out/result is (not complete|no result): it has no .*", done.stderr)


def test_remains_of_a_killed_run_do_not_enter() -> None:
    """A run that is killed when the first of two files has written its pairs; the next one takes the other file."""
    Path("mine_dies.py").write_text(
        MODULE + "\n\nclass Dies(Good):\n    def process(self, events):\n"
        "        import os, pathlib\n"
        "        first = pathlib.Path('first')\n"
        "        if first.exists() and first.read_text() != events.metadata['filename']:\n            os._exit(9)\n"
        "        first.write_text(events.metadata['filename'])\n"
        "        return super().process(events)\n"
    )
    Path("out").mkdir()
    arguments = (
        "run",
        "response,mine_dies:Dies",
        "good_a.root",
        "good_b.root",
        "-o",
        "out/result",
        "--chunk-size",
        str(BASKET),
    )
    assert command(*arguments).returncode == 9
    assert list(Path("out").rglob("*.parquet")), "the run was killed too early"
    assert not list(Path("out").rglob("histograms.zip"))
    assert trila("run", "response", "good_b.root", "-o", "out/result", "--chunk-size", BASKET).code == 0
    identical("out/result", "alone_response")
    assert [path.name for path in Path("out").iterdir()] == ["result"]
    assert (
        len([path for path in Path("out").rglob("*") if path.is_file()]) == 5
    )  # ledger, three products, and one table of pairs


# ---- the command itself


def test_the_command_says_one_line_and_exits_with_2() -> None:
    spoiled("flipped: frame")
    done = command("run", "dijet", "good_b.root", "bad.root", "-o", "result")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(rf"error: bad\.root: {_UNREADABLE}.*\n", done.stderr)
    assert not Path("result/histograms.zip").exists()


def test_debug_shows_the_traceback_and_keeps_the_exit_code() -> None:
    spoiled("last byte missing")
    done = command("run", "dijet", "bad.root", "-o", "result", "--debug")
    assert "Traceback (most recent call last)" in done.stderr
    assert "is truncated" in done.stderr.splitlines()[-1]
    assert done.returncode == 2


def test_the_command_exits_with_3_after_skipping() -> None:
    spoiled("last byte missing")
    done = command("run", "dijet", "good_b.root", "bad.root", "-o", "result", "--skip-bad-files")
    assert done.returncode == 3
    assert re.fullmatch(r"skipped bad\.root: is truncated: .*; copy it again\n", done.stderr)
    assert f"{GOOD_B} events of 1 file" in done.stdout
    assert manifest("result")["command"] == [
        "trila", "run", "dijet", "good_b.root", "bad.root", "-o", "result", "--skip-bad-files",
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", [["inspect", "bad.root"], ["inspect", "good_a.root", "bad.root"]])
def test_inspect_refuses_a_bad_file(arguments: list[str]) -> None:
    spoiled("last byte missing")
    done = trila(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert re.search(r"error: bad\.root: is truncated: .*; copy it again", done.stderr)
