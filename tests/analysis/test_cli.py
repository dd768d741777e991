"""The command line: what it prints, what it writes, and what each option does to the numbers.

Protected: examples in `--help` that can be typed, output fit for a pipe, the fields of the manifest, filesets with
cross sections, paths relative to the list that names them, luminosity masks, limits on events, formats and processors
of the user's own, the choice of a collection, and the thinning of pairs. Expectations are counted from the arrays that
were written, or are the sum of simpler runs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import awkward as ak
import correctionlib.schemav2 as schema
import hist
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import uhi.io.zip
import uproot
import yaml
from commands import Done, trila

from trila import __version__
from trila.analysis import cli
from trila.analysis.simulation import simulate

Branches = dict[str, Any]
Histograms = dict[str, Any]

EVENTS = 20_000
EVERY = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
COMMANDS = {name: command for name, command in EVERY.items() if not hasattr(command, "commands")}  # no groups


def ran(*arguments: object, result: str = "result") -> Histograms:
    """The histograms of a run that must succeed."""
    done = trila("run", *arguments, "-o", result)
    assert done.code == 0, done.stderr
    return histograms(result)


def histograms(result: str | Path) -> Histograms:
    with zipfile.ZipFile(Path(result) / "histograms.zip") as archive:
        names = [name.removesuffix(".json") for name in archive.namelist() if name.endswith(".json")]
        return {name: hist.Hist(uhi.io.zip.read(archive, name)) for name in names}


def read(file: str, result: str = "result") -> Any:
    return json.loads((Path(result) / file).read_text())


def equal(ours: Histograms, theirs: Histograms) -> None:
    assert ours.keys() == theirs.keys()
    assert any(h.view(flow=True)["value"].any() for h in theirs.values())
    for name, histogram in ours.items():
        assert histogram.axes == theirs[name].axes, name
        assert histogram.view(flow=True).tobytes() == theirs[name].view(flow=True).tobytes(), name


# ---- files


def events(n: int, seed: int, *, run: int = 1, weights: tuple[float, ...] = ()) -> Branches:
    """Two to four jets, the first two back to back; ten events a luminosity block. Data without weights."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 5, n)
    total = int(counts.sum())
    turn = np.concatenate([np.arange(count) for count in counts])
    phi = np.repeat(rng.uniform(-3.1, 3.1, n), counts) + turn * np.pi
    fields = {
        "pt": np.where(turn < 2, rng.uniform(100, 400, total), 35.0),
        "eta": rng.uniform(-1.2, 1.2, total),
        "phi": (phi + np.pi) % (2 * np.pi) - np.pi,
        "m": rng.uniform(5, 30, total),
    }
    branches: Branches = {
        "run": np.full(n, run, np.uint32),
        "luminosityBlock": (1 + np.arange(n) // 10).astype(np.uint32),
        "event": np.arange(n).astype(np.uint64),
        "ScoutingPFJet": jets(counts, fields),
    }
    if weights:
        branches["genWeight"] = rng.choice(weights, n).astype(np.float32)
    return branches


def jets(counts: Any, fields: dict[str, Any], dtype: Any = np.float32) -> ak.Array:
    return ak.zip({name: ak.unflatten(values.astype(dtype), counts) for name, values in fields.items()})


def write(path: str | Path, branches: Branches, tree: str = "Events") -> Path:
    types = {n: v.dtype if isinstance(v, np.ndarray) else v.type.content for n, v in branches.items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        made = file.mktree(
            tree,
            types,
            counter_name=lambda collection: f"n{collection}",
            field_name=lambda outer, inner: f"{outer}_{inner}" if outer else inner,
        )
        made.extend(branches)
    return Path(path)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated file with all that the processors can use."""
    (path,) = simulate(tmp_path_factory.mktemp("sample"), kind="jets", events=EVENTS, seed=3)
    return path


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ---- help, version, silence


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_can_be_typed(name: str) -> None:
    done = trila(name, "--help")
    assert done.code == 0
    assert f"trila {name} " in done.stdout
    examples = re.findall(r"`trila (.*?)`", COMMANDS[name].help)
    assert examples
    for example in examples:
        first, *arguments = example.split()
        assert first == name
        with COMMANDS[name].make_context(name, arguments) as context:  # parses, does not run
            assert context.params


def test_help_is_shown_without_arguments() -> None:
    done = trila()
    assert all(name in done.stdout + done.stderr for name in EVERY)


def test_version() -> None:
    assert trila("--version") == Done(0, f"trila {version('trila')}\n", "")


@pytest.mark.parametrize("how", [["trila"], [sys.executable, "-m", "trila"]])
def test_the_command_is_installed(how: list[str]) -> None:
    first = str(Path(sys.executable).with_name("trila")) if how == ["trila"] else how[0]
    done = subprocess.run(
        [first, *how[1:], "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"trila {version('trila')}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "dijet", "a.root"], "Missing option .*--output"),
        (["run", "dijet", "-o", "x"], "give PROCESSOR.* and FILES, or --update or --retract"),
        (["run", "dijet", "a.root", "-o", "x", "--executor", "slurm"], "'local', 'processes', 'dask'"),
        (["run", "dijet", "a.root", "-o", "x", "--chunk-size", "0"], "--chunk-size.* 1"),
        (["run", "dijet", "a.root", "-o", "x", "--max-events", "-1"], "--max-events.* 1"),
        (["run", "dijet", "a.root", "-o", "x", "--skip-bad-file"], "--skip-bad-files"),
        (["simulate", "x", "--kind", "jet"], "'jets', 'dimuon', 'dijet'"),
        (["rum"], "run"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str) -> None:
    done = trila(*arguments)
    assert done.code == 2
    assert re.search(says, " ".join(re.sub("[│╭╮╰╯─]", " ", done.stderr).split()))
    assert not list(Path().iterdir())


def test_no_progress_bars_off_a_terminal(sample: Path) -> None:
    done = trila("run", "dijet", sample, "-o", "result", "--chunk-size", 5000)
    assert done.code == 0
    assert done.stderr == ""
    assert not re.search("\x1b|\r|checking files|processing events|%", done.stdout)
    made = trila("simulate", "toys", "--events", 200, "--kind", "dimuon")
    assert made.stderr == ""
    assert made.stdout.splitlines() == ["1 file, 200 events: toys/dimuon_000.root", "truth: toys/truth.json"]


def test_cutflow_is_on_the_screen(sample: Path) -> None:
    done = trila("run", "dijet,dimuon", sample, "-o", "result")
    assert f"{EVENTS} events of 1 file, {len(histograms('result'))} histograms: result" in done.stdout
    for name, rows in read("cutflow.json")["data"].items():
        assert f"{name}, dataset data" in done.stdout
        for row in rows:
            number = re.escape(f"{row['sumw']:.6g}")
            assert re.search(rf"│ {row['cut']} +│ {row['events']} +│ {number} +│", done.stdout)


# ---- inspect


def test_inspect_simulated(sample: Path) -> None:
    done = trila("inspect", sample)
    assert done.code == 0
    text = " ".join(done.stdout.split())
    with uproot.open(sample) as file:
        uuid = str(file.file.uuid)
    assert text.startswith(str(sample))
    assert "format cms-scouting, era 2024" in text
    assert f"tree Events, {EVENTS} entries, {sample.stat().st_size / 1e6:.1f} MB, uuid {uuid}" in text
    assert "hlt_jets (ScoutingPFJet) pt, eta, phi, mass, area" in text
    assert re.search(
        r"offline_jets \(Jet\) pt, eta, phi, mass, area, raw_factor missing: charged_hadron_fraction", text
    )
    assert "hlt_fatjets not there" in text
    assert re.search(r"triggers 16: DST_PFScouting_DoubleMuon, DST_PFScouting_JetHT.*, \.\.\.", text)


def test_inspect_lines_are_not_cut_where_they_are_piped(sample: Path) -> None:
    """`trila inspect FILE | grep ^tree` gives the whole line."""
    with uproot.open(sample) as file:
        uuid = str(file.file.uuid)
    done = trila("inspect", sample)
    assert re.search(rf"^tree +Events, {EVENTS} entries, .* MB, uuid {uuid}\s*$", done.stdout, re.MULTILINE)


def test_inspect_several_files_and_lists(sample: Path) -> None:
    write("sub/a.root", events(30, 1))
    Path("sub/list.txt").write_text("# two\na.root\n\n")
    done = trila("inspect", sample, "sub/list.txt")
    assert done.code == 0
    assert [line for line in done.stdout.splitlines() if line.endswith(".root")] == [
        str(sample),
        "sub/a.root",
    ]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (
            "cms/scouting_nano.root",
            ["format cms-scouting, era 2022-2023", "tree Events, 40 entries, 0.2 MB", "gen_jets (GenJet) pt, eta, phi, mass",
             "offline_jets not there", "triggers 0", "hlt_jets (ScoutingPFJet) pt, eta, phi, mass, area"],
        ),
        (
            "cms/nano_tt_v15.root",
            ["format cms-nano, era v15", "tree Events, 200 entries", "hlt_jets (TrigObj) pt, eta, phi, mass missing: area",
             "triggers 1145: ", "note HLT jets and muons are TrigObj"],
        ),
        pytest.param(
            "cms/nano_dimuon_rntuple.root",
            ["format cms-nano", "tree Events, 40 entries", "offline_muons (Muon) pt, eta, phi, mass, charge"], marks=pytest.mark.slow),
        ("cms/nano_dy_empty.root", ["format cms-nano", "tree Events, 0 entries"]),
        (
            "cms/missing_luminosityBlock.root",
            ["event run, event", "missing: luminosity_block"],
        ),
        (
            "atlas/trigger_offline_jets.root",
            ["format atlas-tla", "tree AnalysisMiniTree, 100 entries", "hlt_jets (trigger_akt4_pf) pt, eta, phi, mass",
             "offline_jets (offline_akt4_pf_NOSYS) pt, eta, phi, mass"],
        ),
    ],
)  # fmt: skip
def test_inspect_real_files(data_dir: Path, file: str, says: list[str]) -> None:
    """Numbers of events and of trigger bits as in the data's SOURCE.md."""
    done = trila("inspect", data_dir / file)
    assert done.code == 0, done.stderr
    text = " ".join(done.stdout.split())
    for part in says:
        assert part in text


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("cms/uproot-Zmumu.root", "has no tree 'Events' or 'AnalysisMiniTree'; it has 'events'"),
        (
            "atlas/PHYSLITE_example.root",
            "has no tree 'Events' or 'AnalysisMiniTree'; it has 'CollectionTree'",
        ),
        ("cms/Zmumu_Run2011A.csv", "is not a ROOT file"),
    ],
)
def test_inspect_refuses_what_it_cannot_read(data_dir: Path, file: str, says: str) -> None:
    done = trila("inspect", data_dir / file)
    assert done.code == 2
    assert f"error: {data_dir / file}: {says}" in done.stderr


# ---- what a result holds


def test_manifest(sample: Path) -> None:
    write("empty.root", {name: values[:0] for name, values in events(10, 1, weights=(1.0,)).items()})
    write("other.root", events(50, 1, weights=(1.0,)))
    ran("dijet", "other.root", "empty.root", "--max-events", 40)
    manifest = read("manifest.json")
    assert manifest["format_version"] == 2
    assert manifest["trila"] == __version__
    assert manifest["complete"] is True
    assert manifest["format"] == ["cms-scouting"]
    assert manifest["processors"] == ["dijet"]
    assert manifest["seeds"] == {}
    assert manifest["configuration"]["dijet"]["selection"] == "auto"
    for package in ("awkward", "coffea", "hist", "numpy", "uproot"):
        assert manifest["packages"][package] == version(package)
    kinematics = {f"ScoutingPFJet_{field}" for field in ("pt", "eta", "phi", "m")}
    assert set(manifest["columns"]) == kinematics | {"nScoutingPFJet", "genWeight"}
    assert {"rho", "hlt_jets.neutral_hadron_fraction"} <= set(manifest["columns_missing"])
    assert manifest["datasets"] == {
        "data": {
            "is_data": False,
            "cross_section": None,
            "scale": 1.0,
            "events": 40,
            "planned": 40,
            "fraction": 1.0,
            "unknown_files": 0,
        }
    }
    for entry, size, status in zip(manifest["inputs"], (50, 0), ("done", "empty"), strict=True):
        path = Path(entry["file"])
        with uproot.open(path) as file:
            assert entry["uuid"] == str(file.file.uuid)
        assert entry["size"] == path.stat().st_size
        assert (entry["entries"], entry["processed"]) == (size, min(size, 40))
        assert (entry["status"], entry["reason"], entry["dataset"]) == (status, "", "data")
        assert entry["sources"] == {"hlt_jets": "ScoutingPFJet"}


def test_columns_in_the_manifest_are_those_that_were_read(sample: Path) -> None:
    """Damage to any other branch would not matter; nothing of the muons is read for jets."""
    ran("dijet", sample)
    columns = read("manifest.json")["columns"]
    with uproot.open(sample) as file:
        branches = set(file["Events"].keys())
    assert set(columns) < branches
    assert not [column for column in columns if column.startswith(("ScoutingMuon", "Jet_", "GenJet", "HLT_"))]


def _keys_in_order(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert [key for key, _ in pairs] == sorted(key for key, _ in pairs)
    return dict(pairs)


def test_keys_are_sorted_and_two_runs_agree_byte_for_byte() -> None:
    for name, seed in (("b", 1), ("a", 2)):
        write(f"{name}.root", events(60, seed, run=100 - seed))
    Path("set.yaml").write_text("zulu: [b.root]\nalpha: [a.root]")
    ran("dijet", "set.yaml", result="one")
    ran("dijet", "set.yaml", result="two")
    for file in ("manifest.json", "cutflow.json", "luminosity_blocks.json"):
        text = Path("one", file).read_text()
        assert json.loads(text, object_pairs_hook=_keys_in_order)
        assert text == Path("two", file).read_text()
    equal(histograms("one"), histograms("two"))


def test_command_and_its_options_are_in_the_manifest() -> None:
    write("a.root", events(30, 1))
    arguments = ["run", "dijet", "a.root", "-o", "my result", "--max-events", "20"]
    done = subprocess.run(
        [Path(sys.executable).with_name("trila"), *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert read("manifest.json", "my result")["command"] == ["trila", *arguments]


def test_histograms_need_no_pickle_and_no_trila() -> None:
    write("a.root", events(30, 1))
    ran("dijet", "a.root")
    with zipfile.ZipFile("result/histograms.zip") as archive:
        assert {Path(name).suffix for name in archive.namelist()} == {".json", ".npy"}
        content = archive.read("dijet.mass.json")
    assert json.loads(content)["storage"]["type"] == "weighted"
    code = (
        "import sys, zipfile, hist, uhi.io.zip\n"
        "h = hist.Hist(uhi.io.zip.read(zipfile.ZipFile('result/histograms.zip'), 'dijet.mass'))\n"
        "print(h.sum(flow=True).value, 'trila' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    value, loaded = done.stdout.split()
    assert float(value) == read("cutflow.json")["data"]["dijet"][-1]["sumw"] > 0
    assert loaded == "False"


def test_a_second_run_replaces_the_first(sample: Path) -> None:
    """Pairs of files that are no longer in the input do not stay."""
    ran("response", sample, "--max-events", 4000, "--chunk-size", 1000)
    before = {file.name for file in Path("result/pairs").rglob("*.parquet")}
    assert len(before) == 1
    ran("response", sample, "--max-events", 2000, "--chunk-size", 2000)
    after = {file.name for file in Path("result/pairs").rglob("*.parquet")}
    assert len(after) == 1
    assert after != before
    ran("response", sample, "--max-events", 2000, "--no-pairs")
    assert sorted(path.name for path in Path("result").iterdir()) == [
        "cutflow.json",
        "histograms.zip",
        "ledger.sqlite",
        "manifest.json",
    ]
    assert sorted(path.name for path in Path().iterdir()) == ["result"]


# ---- which events


def _masses(*branches: Branches) -> Counter[int]:
    """Dijet masses in 1 GeV bins by hand: no wide jets, no cut but on |delta eta|."""
    found: Counter[int] = Counter()
    for collection in (b["ScoutingPFJet"] for b in branches):
        for event in collection.to_list():
            a, b = sorted(event, key=lambda jet: -jet["pt"])[:2]
            if abs(a["eta"] - b["eta"]) < 1.3:
                p4 = [
                    (
                        j["pt"] * np.cos(j["phi"]),
                        j["pt"] * np.sin(j["phi"]),
                        j["pt"] * np.sinh(j["eta"]),
                        np.sqrt((j["pt"] * np.cosh(j["eta"])) ** 2 + j["m"] ** 2),
                    )
                    for j in (a, b)
                ]
                x, y, z, e = np.sum(p4, axis=0)
                found[int(np.sqrt(e**2 - x**2 - y**2 - z**2))] += 1
    return found


NARROW = "dijet: {radius: 0.0}"


def test_spectrum_by_hand() -> None:
    """The anchor of the comparisons below: what comes out for plain files is the spectrum itself."""
    samples = [events(300, 1), events(200, 2, run=2)]
    for number, sample in enumerate(samples):
        write(f"{number}.root", sample)
    Path("config.yaml").write_text(NARROW)
    mass = ran("dijet", "?.root", "--config", "config.yaml")["dijet.mass"]
    values = mass["nominal", :].values()
    assert {int(b): int(values[b]) for b in np.flatnonzero(values)} == dict(_masses(*samples))


def test_two_simulated_datasets_are_added_by_cross_section() -> None:
    weights = {"low": (0.5, 2.0, -0.25), "high": (3.0, 7.0)}
    cross_sections = {"low": 1234.5, "high": 0.75}
    total: dict[str, Any] = {}
    scales = {}
    for seed, name in enumerate(weights):
        files = [events(n, 10 * seed + n, weights=weights[name]) for n in (200, 150)]
        for number, branches in enumerate(files):
            write(f"{name}/{number}.root", branches)
        sumw = sum(float(b["genWeight"].astype(np.float64).sum()) for b in files)
        scales[name] = cross_sections[name] / sumw
        for histogram_name, histogram in ran("dijet", f"{name}/*.root").items():
            total[histogram_name] = total.get(histogram_name, 0) + histogram * scales[name]
    fileset = {n: {"files": [f"{n}/*.root"], "cross_section": x} for n, x in cross_sections.items()}
    for file, dump in (("set.yaml", yaml.safe_dump), ("set.json", json.dumps)):
        Path(file).write_text(dump(fileset))
        found = ran("dijet", file, "--chunk-size", 64)
        assert found.keys() == total.keys()
        for name, histogram in found.items():
            for field in ("value", "variance"):
                np.testing.assert_allclose(
                    histogram.view(flow=True)[field],
                    total[name].view(flow=True)[field],
                    rtol=1e-12,
                    atol=1e-15,
                )
        datasets = read("manifest.json")["datasets"]
        assert {n: d["scale"] for n, d in datasets.items()} == pytest.approx(scales, rel=1e-12)
        assert {n: d["cross_section"] for n, d in datasets.items()} == cross_sections
        cutflow = read("cutflow.json")
        assert {name: flow["dijet"][0]["events"] for name, flow in cutflow.items()} == {
            "low": 350,
            "high": 350,
        }


def test_one_dataset_is_scaled_too_and_a_part_of_it_to_the_whole() -> None:
    """The cross section is that of the process, however many of its events were run."""
    write("a.root", events(400, 1, weights=(1.0, 3.0)))
    Path("set.yaml").write_text("mc: {files: [a.root], cross_section: 8.0}")
    for options, n in (((), 400), (("--max-events", 100), 100)):
        found = ran("dijet", "set.yaml", *options)
        (scale,) = [d["scale"] for d in read("manifest.json")["datasets"].values()]
        rows = read("cutflow.json")["mc"]["dijet"]
        assert rows[0]["events"] == n
        assert scale * rows[0]["sumw"] == pytest.approx(8.0, rel=1e-12)
        assert found["dijet.mass"].sum(flow=True).value == pytest.approx(scale * rows[-1]["sumw"], rel=1e-12)


def test_pile_up_weights_do_not_change_the_normalisation() -> None:
    """Cross sections are per *generated* event: weights of mean 2 double the yield instead of dropping out."""
    branches = events(200, 1, weights=(1.0, 2.0)) | {"Pileup_nTrueInt": np.full(200, 30, np.float32)}
    write("a.root", branches)
    real, text = (
        schema.Variable(name=n, type=t) for n, t in (("NumTrueInteractions", "real"), ("weights", "string"))
    )
    content = schema.CorrectionSet(
        schema_version=2,
        corrections=[
            schema.Correction(
                name="pu",
                version=1,
                inputs=[real, text],
                output=schema.Variable(name="w", type="real"),
                data=2.0,
            )
        ],
    )
    Path("pu.json").write_text(content.model_dump_json(exclude_unset=True))
    Path("config.yaml").write_text("events: {pileup_weights: {file: pu.json}}")
    Path("set.yaml").write_text("mc: {files: [a.root], cross_section: 8.0}")
    plain = ran("dijet", "set.yaml")
    weighted = ran("dijet", "set.yaml", "--config", "config.yaml")
    assert weighted["dijet.mass"].sum(flow=True).value == pytest.approx(
        2 * plain["dijet.mass"].sum(flow=True).value
    )


def test_data_are_added_as_they_are() -> None:
    samples = [events(120, 1), events(80, 2, run=2)]
    for number, sample in enumerate(samples):
        write(f"{number}.root", sample)
    Path("set.yaml").write_text("first: [0.root]\nsecond: {files: [1.root], is_data: true}")
    equal(ran("dijet", "set.yaml"), ran("dijet", "0.root", "1.root", result="plain"))
    assert set(read("luminosity_blocks.json")) == {"1", "2"}


def test_simulation_may_be_declared_data() -> None:
    """Then weights are not applied."""
    write("a.root", events(100, 1, weights=(5.0,)))
    Path("set.yaml").write_text("d: {files: [a.root], is_data: true}")
    found = ran("dijet", "set.yaml")["dijet.mass"].sum(flow=True).value
    assert 5 * found == ran("dijet", "a.root", result="plain")["dijet.mass"].sum(flow=True).value > 0


def test_era_of_the_fileset_is_in_the_manifest() -> None:
    write("a.root", events(20, 1))
    Path("set.yaml").write_text("d: {files: [a.root], era: 2024F}")
    ran("dijet", "set.yaml")
    assert [item["era"] for item in read("manifest.json")["inputs"]] == ["2024F"]


def test_paths_are_relative_to_the_list_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("data/one.root", "data/deep/two.root", "far/three.root")
    for seed, name in enumerate(names):
        write(name, events(40 + seed, seed))
    Path("data/deep/list.txt").write_text(
        f"two.root\n../one.root  \n# a comment\n{tmp_path}/far/three.root\n"
    )
    Path("data/set.yaml").write_text("d: {files: [one.root, deep/*.root, ../far/three.root]}")
    Path("data/nested.yaml").write_text("d: {files: [deep/list.txt]}")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for given in (
        "../data/deep/list.txt",
        "../data/set.yaml",
        "../data/nested.yaml",
        str(tmp_path / "data/set.yaml"),
    ):
        ran("dijet", given)
        files = {Path(item["file"]).resolve() for item in read("manifest.json")["inputs"]}
        assert files == {tmp_path / name for name in names}
        (flow,) = read("cutflow.json").values()
        assert flow["dijet"][0]["events"] == 40 + 41 + 42


def test_events_are_limited_for_each_dataset() -> None:
    for seed, (name, n) in enumerate({"a0": 50, "a1": 60, "a2": 70, "b0": 30, "c0": 500}.items()):
        write(f"{name}.root", events(n, seed))
    Path("set.yaml").write_text("a: [a*.root]\nb: [b0.root]\nc: [c0.root]")
    for chunk_size in (7, 100_000):
        ran("dijet", "set.yaml", "--max-events", 100, "--chunk-size", chunk_size)
        cutflow = read("cutflow.json")
        assert {name: flow["dijet"][0]["events"] for name, flow in cutflow.items()} == {
            "a": 100,
            "b": 30,
            "c": 100,
        }
        processed = {Path(i["file"]).stem: i["processed"] for i in read("manifest.json")["inputs"]}
        assert processed == {"a0": 50, "a1": 50, "a2": 0, "b0": 30, "c0": 100}


def test_the_first_events_are_taken() -> None:
    branches = events(100, 1)
    write("a.root", branches)
    write("half.root", {name: values[:33] for name, values in branches.items()})
    equal(ran("dijet", "a.root", "--max-events", 33), ran("dijet", "half.root", result="half"))


def test_mask() -> None:
    """Runs 1 and 2 of 200 events in 20 blocks; a block that two ranges name counts once."""
    samples = {run: events(200, run, run=run) for run in (1, 2, 3)}
    for run, branches in samples.items():
        write(f"{run}.root", branches)
    mask = {"1": [[2, 4], [4, 5], [17, 99]], "2": [[20, 20]], "7": [[1, 100]]}
    Path("golden.json").write_text(json.dumps(mask))
    kept = {1: [2, 3, 4, 5, 17, 18, 19, 20], 2: [20], 3: []}
    arguments = ("dijet", "1.root", "2.root", "3.root")
    found = ran(*arguments, "--lumi-mask", "golden.json", "--chunk-size", 64)
    rows = read("cutflow.json")["data"]["dijet"]
    assert [(row["cut"], row["events"]) for row in rows[:2]] == [
        ("all events", 600),
        ("certified luminosity", 90),
    ]
    selected = {
        run: {name: values[np.isin(b["luminosityBlock"], kept[run])] for name, values in b.items()}
        for run, b in samples.items()
    }
    for run in (1, 2):
        write(f"kept_{run}.root", selected[run])
    equal(found, ran("dijet", "kept_1.root", "kept_2.root", result="kept"))
    # all that was read, certified or not: what brilcalc needs together with the mask
    assert read("luminosity_blocks.json") == {run: [[1, 20]] for run in ("1", "2", "3")}
    assert read("manifest.json")["configuration"]["events"]["lumi_mask"] == mask
    Path("config.yaml").write_text("events: {lumi_mask: golden.json}")
    equal(found, ran(*arguments, "--config", "config.yaml", result="config"))


def test_mask_is_for_data_only() -> None:
    write("a.root", events(100, 1, weights=(1.0, 2.0)))
    Path("golden.json").write_text('{"5": [[1, 2]]}')
    equal(ran("dijet", "a.root", "--lumi-mask", "golden.json"), ran("dijet", "a.root", result="plain"))
    assert not Path("result/luminosity_blocks.json").exists()


def test_blocks_that_were_read_are_a_mask() -> None:
    branches = events(200, 1, run=9)
    keep = (branches["luminosityBlock"] < 4) | (branches["luminosityBlock"] == 11)
    write("a.root", {name: values[keep] for name, values in branches.items()})
    found = ran("dijet", "a.root", "--chunk-size", 7)
    assert read("luminosity_blocks.json") == {"9": [[1, 3], [11, 11]]}
    again = ran("dijet", "a.root", "--lumi-mask", "result/luminosity_blocks.json", result="again")
    equal(found, again)


# ---- of one's own


ODD = """
name: test-beam
tree: ntuple
energy_unit: MeV
triggers: ["passed_*"]
events: {run: runNo, luminosity_block: block, event: evtNo}
collections:
  hlt_jets:
    source: [online, trigger]
    fields: {pt: momentum, eta: pseudo, phi: azimuth, mass: [weight, inv]}
"""


def test_format_of_ones_own() -> None:
    """A tree of odd names in MeV, in float64, gives what the same jets give in GeV."""
    branches = events(300, 4)
    collection = branches["ScoutingPFJet"]
    counts = ak.num(collection.pt)
    flat = {name: ak.to_numpy(ak.flatten(collection[name])).astype(np.float64) for name in collection.fields}
    flat = {name: np.round(values, 2) if name in ("pt", "m") else values for name, values in flat.items()}
    odd = {
        "momentum": 1000 * flat["pt"],
        "pseudo": flat["eta"],
        "azimuth": flat["phi"],
        "inv": 1000 * flat["m"],
    }
    write("twin.root", {**branches, "ScoutingPFJet": jets(counts, flat, np.float64)})
    write(
        "odd.root",
        {
            "evtNo": branches["event"],
            "runNo": branches["run"],
            "block": branches["luminosityBlock"],
            "trigger": jets(counts, odd, np.float64),
            "passed_all": np.arange(300) % 3 == 0,
        },
        tree="ntuple",
    )
    Path("odd.yaml").write_text(ODD)
    found = ran("dijet", "odd.root", "--format", "odd.yaml")
    equal(found, ran("dijet", "twin.root", result="twin"))
    assert read("manifest.json")["format"] == ["test-beam"]
    assert read("luminosity_blocks.json") == {"1": [[1, 30]]}

    done = trila("inspect", "odd.root", "--format", "odd.yaml")
    text = " ".join(done.stdout.split())
    assert "format test-beam tree ntuple, 300 entries" in text
    assert "hlt_jets (trigger) pt, eta, phi, mass" in text
    assert "triggers 1: passed_all" in text

    Path("config.yaml").write_text("events: {triggers: [passed_all]}")
    ran("dijet", "odd.root", "--format", "odd.yaml", "--config", "config.yaml")
    assert read("cutflow.json")["data"]["dijet"][4] == {
        "cut": "trigger",
        "events": 100,
        "sumw": 100.0,
        "sumw2": 100.0,
    }
    assert trila("run", "dijet", "odd.root", "-o", "x").code == 2, (
        "it is not of a format that comes with the package"
    )


MINE = """
import awkward as ak
import hist
import numpy as np
from coffea.processor import ProcessorABC

from trila.processors.cutflow import Cutflow


class Leading(ProcessorABC):
    def __init__(self, pt_min, bins=4, note=""):
        self.pt_min, self.bins, self.note = pt_min, bins, note

    def process(self, events):
        leading = ak.to_numpy(ak.max(events.hlt_jets.pt, axis=1))
        good = leading > self.pt_min
        h = hist.Hist(hist.axis.Regular(self.bins, 0, 400, name="pt"), storage=hist.storage.Weight())
        h.fill(leading[good])
        what = hist.Hist(hist.axis.StrCategory([], growth=True, name="what"), storage=hist.storage.Weight())
        for key in ("dataset", "format", "colour"):
            what.fill(f"{key}={events.metadata.get(key)}", weight=len(events))
        cutflow = Cutflow.from_stages(("all events", "leading jet [gev]"), good.astype(int), np.ones(len(good)))
        return {"histograms": {"pt": h, "what": what}, "cutflow": cutflow}

    def postprocess(self, accumulator):
        return accumulator
"""


def test_processor_of_ones_own() -> None:
    Path("my_analysis.py").write_text(MINE)
    branches = events(300, 6)
    write("a.root", branches)
    Path("set.yaml").write_text("mine: {files: [a.root], metadata: {colour: red}}")
    Path("config.yaml").write_text("processors:\n  my_analysis:Leading: {pt_min: 250, bins: 8}")
    done = trila(
        "run",
        "dijet,my_analysis:Leading",
        "set.yaml",
        "-o",
        "result",
        "--config",
        "config.yaml",
        "--chunk-size",
        70,
    )
    assert done.code == 0, done.stderr
    found = histograms("result")
    leading = ak.to_numpy(ak.max(branches["ScoutingPFJet"].pt, axis=1))
    expected, _ = np.histogram(leading[leading > 250], bins=8, range=(0, 400))
    assert found["Leading.pt"].values().tolist() == expected.tolist()
    what = found["Leading.what"]
    assert dict(zip(what.axes[0], what.values(), strict=True)) == {
        "dataset=mine": 300.0,
        "format=cms-scouting": 300.0,
        "colour=red": 300.0,
    }
    rows = read("cutflow.json")["mine"]["Leading"]
    assert [row["events"] for row in rows] == [300, int(expected.sum())]
    assert "leading jet [gev]" in done.stdout, "rich takes [gev] for markup"
    manifest = read("manifest.json")
    assert manifest["processors"] == ["dijet", "my_analysis:Leading"]
    assert manifest["configuration"]["processors"] == {"my_analysis:Leading": {"pt_min": 250, "bins": 8}}
    # the built-in processor beside it is not touched by it
    dijet = {name: h for name, h in found.items() if name.startswith("dijet.")}
    equal(dijet, ran("dijet", "set.yaml", result="dijet"))


def test_collection_of_ones_choice() -> None:
    branches, other = events(150, 1), events(150, 2)
    write("a.root", {**branches, "ScoutingPFJetRecluster": other["ScoutingPFJet"]})
    write("pf.root", branches)
    write("recluster.root", {**branches, "ScoutingPFJet": other["ScoutingPFJet"]})
    Path("config.yaml").write_text("reader: {collections: {hlt_jets: ScoutingPFJetRecluster}}")
    equal(ran("dijet", "a.root"), ran("dijet", "pf.root", result="pf"))
    equal(
        ran("dijet", "a.root", "--config", "config.yaml"), ran("dijet", "recluster.root", result="recluster")
    )
    manifest = read("manifest.json")
    assert manifest["inputs"][0]["sources"]["hlt_jets"] == "ScoutingPFJetRecluster"
    assert "ScoutingPFJetRecluster_pt" in manifest["columns"]
    assert "ScoutingPFJet_pt" not in manifest["columns"]


def test_processors_share_one_pass_and_do_not_touch_each_other(sample: Path) -> None:
    together = ran("dimuon,dijet,efficiency,dijet", sample)
    assert read("manifest.json")["processors"] == ["dimuon", "dijet", "efficiency"]
    apart: dict[str, Any] = {}
    for name in ("dimuon", "dijet", "efficiency"):
        apart |= ran(name, sample, result=name)
    equal(together, apart)


# ---- pairs


def pairs(result: str) -> pa.Table:
    return pa.concat_tables(
        [pq.read_table(file) for file in sorted(Path(result, "pairs").rglob("*.parquet"))]
    )


THINNING = {"pt": [0.0, 60.0, 120.0], "keep": [0.1, 0.4, 1.0]}


def _fraction(pt_tag: Any) -> Any:
    return np.where(pt_tag < 60, 0.1, np.where(pt_tag < 120, 0.4, 1.0))


def test_thinned_pairs_stand_for_all(sample: Path) -> None:
    ran("response", sample, result="all")
    Path("config.yaml").write_text(yaml.safe_dump({"response": {"thinning": THINNING}}))
    thinned = ran("response", sample, "--config", "config.yaml", result="thinned")
    equal(thinned, histograms("all"))  # of the table only

    everything, kept = pairs("all").to_pydict(), pairs("thinned").to_pydict()
    key = ("run", "luminosity_block", "event", "pt_tag", "pt_hlt")
    weight = dict(zip(zip(*(everything[k] for k in key), strict=True), everything["weight"], strict=True))
    assert len(weight) == len(everything["weight"])
    rows = list(zip(*(kept[k] for k in key), strict=True))
    assert len(set(rows)) == len(rows)
    fractions = _fraction(np.array(kept["pt_tag"]))
    expected = np.array([weight[row] for row in rows]) / fractions
    np.testing.assert_allclose(kept["weight"], expected, rtol=1e-12)

    w, pt = np.array(everything["weight"]), np.array(everything["pt_tag"])
    kept_w, kept_pt = np.array(kept["weight"]), np.array(kept["pt_tag"])
    for low, high, keep in ((0, 60, 0.1), (60, 120, 0.4)):
        inside, kept_inside = (pt >= low) & (pt < high), (kept_pt >= low) & (kept_pt < high)
        n = int(inside.sum())
        # both pairs of an event stay or go together: twice the variance of independent ones at most
        assert abs(kept_inside.sum() - keep * n) < 4 * np.sqrt(2 * n * keep * (1 - keep))
        assert 0 < kept_inside.sum() < n
        sigma = np.sqrt(2 * (w[inside] ** 2).sum() * (1 - keep) / keep)
        assert abs(kept_w[kept_inside].sum() - w[inside].sum()) < 4 * sigma
    assert (kept_pt >= 120).sum() == (pt >= 120).sum()


def test_thinning_does_not_depend_on_the_chunks(sample: Path) -> None:
    Path("config.yaml").write_text(yaml.safe_dump({"response": {"thinning": THINNING}}))
    options = ("response", sample, "--config", "config.yaml", "--max-events", 6000)
    tables = []
    for chunk_size in (700, 5000, 10**6):
        ran(*options, "--chunk-size", chunk_size)
        columns = pairs("result").to_pydict()
        tables.append(sorted(zip(*(columns[name] for name in sorted(columns)), strict=True)))
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) > 100


def test_thinning_needs_to_know_the_events() -> None:
    branches = {name: values for name, values in events(50, 1, weights=(1.0,)).items() if name != "event"}
    collection = branches["ScoutingPFJet"]
    fields = {"pt": collection.pt, "eta": collection.eta, "phi": collection.phi, "mass": collection.m}
    write("a.root", {**branches, "Jet": ak.zip(fields)})
    Path("config.yaml").write_text(yaml.safe_dump({"response": {"thinning": THINNING}}))
    done = trila("run", "response", "a.root", "-o", "result", "--config", "config.yaml")
    assert done.code == 2
    assert (
        "thinning of pairs needs run, luminosity block and event; the input has not all of them"
        in done.stderr
    )


# ---- simulate, plot, demo


def test_simulate_is_reproducible_and_can_be_run() -> None:
    for folder, files in (("one", 1), ("same", 1), ("two", 2)):
        done = trila("simulate", folder, "--kind", "dijet", "--events", 600, "--files", files, "--seed", 4)
        assert done.code == 0, done.stderr
        assert sorted(path.name for path in Path(folder).iterdir()) == [
            *(f"dijet_{i:03d}.root" for i in range(files)), "truth.json",
        ]  # fmt: skip
    equal(ran("dijet", "one/*.root"), ran("dijet", "same/*.root", result="same_result"))
    equal(histograms("result"), ran("dijet", "two/*.root", result="two_result"))
    assert trila("simulate", "other", "--kind", "dijet", "--events", 600, "--seed", 5).code == 0
    other = ran("dijet", "other/*.root", result="other_result")
    assert other["dijet.pt"].values().tolist() != histograms("result")["dijet.pt"].values().tolist()


def test_simulated_formats_hold_the_same_jets() -> None:
    for name in ("cms-scouting", "atlas-tla"):
        assert trila("simulate", name, "--kind", "dijet", "--events", 500, "--format", name).code == 0
    Path("config.yaml").write_text("dijet: {selection: cms, identification: none}")
    counts = []
    for name in ("cms-scouting", "atlas-tla"):
        ran("dijet", f"{name}/*.root", "--config", "config.yaml", result=f"result-{name}")
        assert read("manifest.json", f"result-{name}")["format"] == [name]
        counts.append(read("cutflow.json", f"result-{name}")["data"]["dijet"][-1]["events"])
    # CMS rounds to 10 bits and has events without trigger objects
    assert counts[0] == pytest.approx(counts[1], abs=10)
    assert counts[0] > 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["taken"], "taken is not empty"),
        (["file"], "file is a file"),
        (["new", "--kind", "dimuon", "--format", "atlas-tla"], "that layout has no muons; use cms-scouting"),
        (["new", "--events", "3", "--files", "4"], "files is 4, expected 1 to 3"),
        (["new", "--seed", "-1"], "seed is -1, expected 0 to"),
    ],
)
def test_simulate_refuses(arguments: list[str], says: str) -> None:
    Path("taken").mkdir()
    Path("taken/thesis.tex").write_text("mine")
    Path("file").write_text("mine")
    done = trila("simulate", *arguments)
    assert done.code == 2
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert sorted(str(path) for path in Path().rglob("*")) == ["file", "taken", "taken/thesis.tex"]


@pytest.mark.slow
def test_plot(sample: Path) -> None:
    ran("dijet", sample)
    done = trila("plot", "result", "-o", "plots")
    assert done.code == 0, done.stderr
    made = sorted(path.suffix for path in Path("plots").iterdir())
    assert done.stdout == f"{len(made)} files: plots\n"
    assert made.count(".png") == made.count(".pdf") == len(made) / 2 > 0
    assert sum("mass" in path.name for path in Path("plots").iterdir()) >= 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        ("nothing", "result is no result: it has no manifest.json; `trila run ... -o result` makes one"),
        ("no histograms", "result is not complete: it has no histograms.zip; run it again"),
        ("broken", "result/histograms.zip cannot be read (BadZipFile: "),
    ],
)
def test_plot_refuses(make: str, says: str) -> None:
    if make != "nothing":
        write("a.root", events(20, 1))
        ran("dijet", "a.root")
        Path("result/histograms.zip").unlink() if make == "no histograms" else Path(
            "result/histograms.zip"
        ).write_text("x")
    done = trila("plot", "result", "-o", "plots")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert not Path("plots").exists()


@pytest.mark.slow
def test_demo() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("trila"), "demo", "here"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.endswith("Look at the plots in here/plots\n")
    assert len(list(Path("here/plots").rglob("*.png"))) > 20
