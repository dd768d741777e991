"""No number is made of a part of the data without being asked for: fractions by hand, and every command that reads a RESULT.

Protected: what is lost, in each way in which files get lost, against numbers worked out by hand; each command refuses a
RESULT with skipped files, says how much and which, and takes it with `--min-fraction`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import uproot
from typer.testing import CliRunner

from trila.analysis import cli, results, steps
from trila.analysis.accounting import DatasetFraction, fractions
from trila.analysis.ledger import FileRow
from trila.analysis.simulation import simulate
from trila.processors import formats
from trila.processors.errors import InputError
from trila.processors.readers import FileInfo, Layout

LAYOUT = Layout(formats.load("cms-scouting"), "2024", {}, {})


def row(
    status: str, entries: int | None, planned: int | tuple[int, int] | None = None, dataset: str = "a"
) -> FileRow:
    """A file with so many entries, None if it cannot be opened, of which these are planned: all, if not given."""
    info = None if entries is None else FileInfo("f", "Events", "u", 1, entries, (0,), LAYOUT, ())
    first, last = planned if isinstance(planned, tuple) else (0, entries or 0 if planned is None else planned)
    return FileRow(dataset, "f", ("f",), "", 1, info, first, last, status, "", 0.0)


@pytest.mark.parametrize(
    ("files", "max_events", "expected"),
    [
        # all is there; an empty file is nothing lost
        ([row("done", 100), row("empty", 0)], None, (100, 100, 0)),
        # one was lost while it was read: all its entries were planned
        ([row("done", 100), row("skipped", 60)], None, (160, 100, 0)),
        # one was opened and found unfit: nothing was planned, and all its entries are lost
        ([row("done", 100), row("skipped", 60, 0)], None, (160, 100, 0)),
        # one could not be opened: as many as the mean of those known, 100 and 50
        ([row("done", 100), row("done", 50), row("skipped", None)], None, (225, 150, 1)),
        # of a file that is skipped, the entries are known too: mean of 100 and 40
        ([row("done", 100), row("skipped", 40), row("skipped", None)], None, (210, 100, 1)),
        # nothing is known of any
        ([row("skipped", None), row("skipped", None)], None, (0, 0, 2)),
        # the first 150 of 100 + 100; the third is not wanted
        ([row("done", 100), row("done", 100, 50), row("empty", 100, 0)], 150, (150, 150, 0)),
        # the first is lost before planning: the others make up for it
        ([row("skipped", 100, 0), row("done", 100), row("done", 100, 50)], 150, (150, 150, 0)),
        ([row("skipped", None), row("done", 100), row("done", 100, 50)], 150, (150, 150, 1)),
        # there are not enough others
        ([row("skipped", 100, 0), row("done", 100)], 150, (150, 100, 0)),
        # the first is lost half-way, when it was planned: 50 are left
        ([row("skipped", 100), row("done", 100, 50), row("empty", 100, 0)], 150, (150, 50, 0)),
        # fewer were asked for than are lost
        ([row("skipped", 1000, 0), row("done", 10)], 30, (30, 10, 0)),
        # a range of entries
        ([row("done", 100, (20, 30))], None, (10, 10, 0)),
    ],
)
def test_by_hand(files: list[FileRow], max_events: int | None, expected: tuple[int, int, int]) -> None:
    assert fractions(files, max_events) == {"a": DatasetFraction(*expected)}


def test_each_dataset_alone() -> None:
    files = [row("done", 10), row("skipped", None, dataset="b"), row("done", 30, dataset="b")]
    assert fractions(files, None) == {"a": DatasetFraction(10, 10, 0), "b": DatasetFraction(60, 30, 1)}


@pytest.mark.parametrize(
    ("share", "expected"), [((0, 0, 0), 1.0), ((0, 0, 2), 0.0), ((4, 3, 1), 0.75), ((4, 4, 0), 1.0)]
)
def test_the_share(share: tuple[int, int, int], expected: float) -> None:
    """Of nothing planned, nothing is missing, unless nobody could look."""
    assert DatasetFraction(*share).fraction == expected


# ---- a result with files left out

FILES, EVENTS = 5, 40
LOST = "dijet_001.root"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of five files, the second cannot be read in the midst, and the last cannot be opened."""
    folder = tmp_path_factory.mktemp("fraction")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        *_, last = simulate(Path("s"), kind="dijet", events=FILES * EVENTS, files=FILES, seed=3)
        spoil(Path("s") / LOST)
        last.write_bytes(b"")
        steps.run(["dijet"], ["s/*.root"], "result", skip_bad_files=True)
    return folder


def spoil(path: Path) -> None:
    with uproot.open(path) as file:
        key = file["Events"]["ScoutingPFJet_pt"].basket_key(0)
        place = int(key.fSeekKey + key.fKeylen)
    data = bytearray(path.read_bytes())
    data[place : place + 20] = bytes(20)
    path.write_bytes(data)


@pytest.fixture(autouse=True)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "made" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("made"))


def test_what_the_run_says(made: Path) -> None:
    manifest = results.read("result", min_fraction=0.0).manifest
    assert manifest["datasets"]["data"]["fraction"] == 0.6
    assert [item["status"] for item in manifest["inputs"]] == ["done", "skipped", "done", "done", "skipped"]
    for least in (0.0, 0.5, 0.6):
        results.read("result", min_fraction=least)
    for least in (0.61, 1.0):
        with pytest.raises(
            InputError, match=r"^result holds 120 of the 200 planned events of dataset 'data'"
        ):
            results.read("result", min_fraction=least)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.pop("datasets"), r"^the manifest of .* is damaged \(KeyError\('datasets'\)\); run it again"),
        (lambda m: m["datasets"]["data"].update(fraction="1"), r"is damaged \(TypeError"),
        (lambda m: m["datasets"]["data"].update(fraction=0.5, events=None), r"is damaged \(TypeError"),
        (lambda m: m["datasets"]["data"].update(fraction=float("nan")), r"planned events of dataset 'data'"),
        (lambda m: m.update(format_version=1), r"is of format version 1, expected 2; run it again"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_say(made: Path, tmp_path: Path, change: Any, says: str) -> None:
    manifest = json.loads(Path("result/manifest.json").read_text())
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "histograms.zip").touch()
    (tmp_path / "cutflow.json").write_text("{}")
    with pytest.raises(InputError, match=says):
        results.read(tmp_path)


SPECTRUM = "result:dijet.mass"
FIT = [SPECTRUM, "--range", "90000:91000", "-o", "out/f.json"]
SCAN = [*FIT, "--function", "dijet4", "--signal", "gauss:0.05", "--masses", "500:600:50"]
COMMANDS = {
    "plot": ["result", "-o", "out"],
    "calibrate": ["result", "-o", "out/c.json.gz"],
    "closure": ["result", "--corrections", "none.json.gz"],
    "turnon": ["result", "-o", "out"],
    "stability": ["result", "-o", "out"],
    "fit": [*FIT, "--function", "dijet4"],
    "ftest": [*FIT, "--family", "dijet"],
    "limit": SCAN,
    "significance": SCAN,
    "bias": SCAN,
    "bumphunt": [*FIT, "--function", "dijet4"],
}


@pytest.mark.parametrize(
    "command",
    [c if c != "plot" else pytest.param(c, marks=pytest.mark.slow) for c in COMMANDS],  # matplotlib
)
def test_every_command_refuses(made: Path, command: str) -> None:
    done = CliRunner().invoke(cli.app, [command, *COMMANDS[command]])
    assert done.exit_code == 2, done.output
    assert done.stderr == (
        "error: result holds 120 of the 200 planned events of dataset 'data' (60%), expected at least 100%: 80 are lost in 2 "
        "skipped files (s/dijet_001.root, s/dijet_004.root); run it again, or lower --min-fraction\n"
    )
    assert not Path("out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("plot", "stability")])
def test_every_command_gets_beyond_that(made: Path, command: str) -> None:
    """To what is wrong next: this result has no pairs, no triggers, and nothing in the range of the fits."""
    done = CliRunner().invoke(cli.app, [command, *COMMANDS[command], "--min-fraction", "0.5"])
    assert done.exit_code == 2, done.output
    assert re.search("pairs|turn-on|efficiency|none.json.gz|90000", done.stderr), done.stderr
    assert "planned events" not in done.stderr


@pytest.mark.slow
def test_what_is_no_share_is_refused(made: Path) -> None:
    for value in ("1.1", "-0.1", "half"):
        done = CliRunner().invoke(cli.app, ["plot", "result", "-o", "out", "--min-fraction", value])
        assert done.exit_code == 2
        assert "--min-fraction" in done.stderr


@pytest.mark.slow
def test_a_part_of_the_data_is_taken_if_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command to its end."""
    monkeypatch.chdir(tmp_path)
    simulate(Path("s"), kind="jets", events=60_000, files=3, seed=7)
    Path("s/jets_002.root").write_bytes(b"")
    steps.run(["response", "efficiency", "dijet", "stability"], ["s/*.root"], "result", skip_bad_files=True)
    fit = [SPECTRUM, "--range", "300:1500", "--rebin", "standard", "-o", "f.json"]
    scan = ["--function", "dijet3", "--signal", "gauss:0.05", "--masses", "600:700:50"]
    for command in (
        ["plot", "result", "-o", "plots"],
        ["calibrate", "result", "-o", "c.json.gz"],
        ["closure", "result", "--corrections", "c.json.gz"],
        ["turnon", "result", "-o", "turnon"],
        ["stability", "result", "-o", "stability"],
        ["fit", *fit, "--function", "dijet3"],
        ["ftest", *fit, "--family", "dijet"],
        ["limit", *fit, *scan],
        ["significance", *fit, *scan],
        ["bias", *fit, *scan, "--toys", "5"],
        ["bumphunt", *fit, "--function", "dijet3", "--toys", "20"],
    ):
        done = CliRunner().invoke(cli.app, [*command])
        assert done.exit_code == 2, command
        assert (
            "(66.67%), expected at least 100%: 20000 are lost in 1 skipped file (s/jets_002.root)"
            in done.stderr
        )
        done = CliRunner().invoke(cli.app, [*command, "--min-fraction", "0.5"])
        assert done.exit_code in ((0, 1) if command[0] == "closure" else (0,)), (command, done.output)
