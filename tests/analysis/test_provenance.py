"""Where products come from: records, their digests, plots that carry them, and the tree of `trila explain`."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from trila import __version__
from trila.analysis import explanation, provenance, results
from trila.analysis.cli_provenance import explain as command
from trila.analysis.explanation import Explanation, explain
from trila.analysis.plot_records import plot_text
from trila.analysis.plots_style import save_figure
from trila.analysis.provenance import Input, Provenance, inputs_of, on_rows, record
from trila.corrections import correction_set
from trila.corrections.jets import CorrectionError
from trila.processors.errors import InputError
from trila.processors.recipes import digest

MANIFEST = {
    "format_version": 1, "trila": "0.1.0", "command": ["trila", "run", "dijet", "data/*.root", "-o", "my result"],
    "configuration": {
        "dijet": {"corrections": "cal.json", "correction": None},
        "events": {"triggers": ["DST_A"], "lumi_mask": {"1": [[n, n] for n in range(100)]}},
        "processors": {},
    },
    "packages": {"numpy": "1.0", "no-such-package": "3"}, "inputs": [],
}  # fmt: skip


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def product(path: Path, **options: Any) -> Path:
    return write(path, {"value": 1, "provenance": record("fit", options).as_json()})


def root_file(path: Path, size: int, **more: Any) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"r" * size)
    return {"file": str(path), "size": size, "processed": 10, "status": "done", "reason": "", **more}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ROOT files, a correction file, a RESULT, a fit of it and a plot of the fit."""
    monkeypatch.chdir(tmp_path)
    files = [root_file(Path(f"data/{n}.root"), 100 + n) for n in range(5)]
    files += [
        {
            "file": f"data/bad{n}.root",
            "processed": 0,
            "size": None,
            "status": "skipped",
            "reason": f"cut at {n}",
        }
        for n in range(25)
    ]
    files += [{"file": "root://eos//a.root", "size": 5, "processed": 7, "status": "done", "reason": ""}]
    made = record("calibrate", {"result": "none"})
    corrections = {
        "schema_version": 2, "description": json.dumps({"format": 1, "provenance": made.as_json()}), "corrections": [],
    }  # fmt: skip
    write(tmp_path / "cal.json", corrections)
    used = [item.model_dump(mode="json") for item in inputs_of({"corrections": "cal.json"})]
    write(
        tmp_path / "result" / "manifest.json", {**MANIFEST, "inputs": files, "code": "c" * 64, "used": used}
    )
    write(tmp_path / "result" / "cutflow.json", {})
    product(tmp_path / "fit.json", spectrum="result:dijet.mass", range=[20.0, 60.0], rebin=None)
    save_figure(Figure(figsize=(2, 2)), tmp_path / "fit", "cms", record("plot", {"product": "fit.json"}))
    return tmp_path


# ---- records


def test_inputs_are_what_the_options_name(work: Path) -> None:
    for name in ("mine.py", "edges.txt", "peak.yaml", "a:b.csv", "table[1]"):
        (work / name).write_text(name)
    options = {
        "spectrum": "result:dimuon.mass[sign=os,category=barrel]", "function": "swift:mine.py:f", "rebin": "edges.txt",
        "signal": ["dcb:peak.yaml", "gauss:0.07", "expr:p0*(1-x/13000)**p1"], "more": {"twice": Path("edges.txt"), "n": 3},
        "table": "a:b.csv", "columns": "low=xmin,high=xmax", "selected": "peak.yaml[x=1]", "bracket": "table[1]",
        "none": "nothing.json", "empty": "", "long": "x" * 5000, "colons": "edges.txt" + ":" * 20, "folder": "data", "zero": "\0",
    }  # fmt: skip
    found = record("limit", options).inputs
    names = ["mine.py", "edges.txt", "peak.yaml", "a:b.csv", "table[1]"]
    assert [item.path for item in found] == ["result", *names]
    manifest = json.loads((work / "result" / "manifest.json").read_text())
    assert found[0] == Input(path="result", kind="result", sha256=digest(manifest))
    for item, name in zip(found[1:], names, strict=True):
        assert item == Input(path=name, sha256=sha256(work / name), size=len(name))


def test_a_record_is_complete_and_survives_json(work: Path) -> None:
    made = record("fit", {"spectrum": Path("fit.json"), "range": (1.0, 2.0)})
    assert (made.trila, made.command, made.options) == (
        __version__,
        "fit",
        {"spectrum": "fit.json", "range": [1.0, 2.0]},
    )
    assert made.packages == results.package_versions()
    assert len(made.code) == len(made.digest) == 64
    again = Provenance.model_validate_json(made.as_text())
    assert again == made
    assert provenance.record_digest(again) == made.digest
    assert made.as_text().isascii()


def test_the_digest_is_of_contents_not_of_places(
    work: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "deep"
    shutil.copytree(work, elsewhere)
    options = {"spectrum": "fit.json:x", "cl": 0.95}
    here = record("limit", options).digest
    assert record("limit", {"spectrum": f"{elsewhere}/fit.json:x", "cl": 0.95}).digest == here
    assert record("limit", {"spectrum": "data/../fit.json:x", "cl": 0.95}).digest == here
    others = {
        record("limit", {**options, "cl": 0.9}).digest,
        record("limit", {**options, "spectrum": "fit.json:y"}).digest,
        record("bias", options).digest,
        record("limit", {**options, "table": "cal.json"}).digest,
    }
    (elsewhere / "fit.json").write_text("{}")
    others.add(record("limit", {"spectrum": f"{elsewhere}/fit.json:x", "cl": 0.95}).digest)
    monkeypatch.setattr(provenance, "code_digest", lambda: "0" * 64)
    others.add(record("limit", options).digest)
    assert len(others | {here}) == 7


def test_an_input_that_cannot_be_read(work: Path) -> None:
    (work / "other").mkdir()
    with pytest.raises(InputError, match="other is a folder without a manifest; expected a RESULT"):
        provenance.identity(Path("other"))
    with pytest.raises(
        InputError, match=r"gone\.csv cannot be read: No such file or directory; check the path"
    ):
        provenance.identity(Path("gone.csv"))
    write(work / "other" / "manifest.json", {"name": "of something else"})
    assert inputs_of({"spectrum": "other:x"}) == ()


def test_rows_carry_the_record(work: Path) -> None:
    made = record("limit", {"spectrum": "result:dijet.mass"})
    rows = on_rows([{"mass": 1.0}, {"mass": 2.0}], made)
    assert rows[0] == {"mass": 1.0, "provenance": made.as_json()}
    assert rows[1] == {
        "mass": 2.0, "provenance": {"digest": made.digest, "inputs": [made.inputs[0].model_dump(mode="json")]},
    }  # fmt: skip
    write(work / "limits.json", rows)
    assert explain("limits.json").record == made


# ---- plots


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_plots_carry_their_record_and_no_time(kind: str, work: Path) -> None:
    awkward = record("plot", {"product": "fit.json", "label": "a (b)) \\( é\n\U0001f600 /Keywords (x) %"})
    for name in ("one", "two"):
        save_figure(Figure(figsize=(1, 1)), work / name, "atlas", awkward)
    path = work / f"one.{kind}"
    assert path.read_bytes() == (work / f"two.{kind}").read_bytes()
    assert Provenance.model_validate_json(plot_text(path) or "") == awkward
    if kind == "png":
        with Image.open(path) as image:
            assert image.info["trila"] == awkward.as_text()
    save_figure(Figure(figsize=(1, 1)), work / "bare", "atlas")
    assert plot_text(work / f"bare.{kind}") is None


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", b""),
        ("a.png", b"GIF89a"),
        ("a.png", _PNG),
        ("a.png", _PNG + b"\xff\xff\xff\xfftEXttrila\0{}"),
        ("a.png", _PNG + _chunk(b"gAMA", b"") * 200 + _chunk(b"tEXt", b"trila\0{}")),
        ("a.png", _PNG + _chunk(b"IDAT", b"") + _chunk(b"tEXt", b"trila\0{}")),
        ("a.png", _PNG + _chunk(b"tEXt", b"trilax\0{}")),
        ("a.pdf", b""),
        ("a.pdf", b"/Keywords (" * 100_000),
        ("a.pdf", b"/Keywords ({}" + b"\\" * 100_001),
        ("a.pdf", b"/Keywords ({})" + b" " * 5_000_000),
    ],
    ids=range(11),
)
def test_plots_of_others_say_nothing(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert plot_text(tmp_path / name) is None


def test_a_text_before_the_image_is_read(tmp_path: Path) -> None:
    texts = _chunk(b"tEXt", b"Software\0x") + _chunk(b"tEXt", b"trila\0{}")
    (tmp_path / "a.png").write_bytes(_PNG + _chunk(b"IHDR", b"13") + texts)
    assert plot_text(tmp_path / "a.png") == "{}"


# ---- explain


@pytest.mark.parametrize("name", ["fit.png", "fit.pdf"])
def test_a_plot_down_to_the_root_files(name: str, work: Path) -> None:
    plot = explain(work / name)
    fit = plot.made_from[0]
    result = fit.made_from[0]
    calibration = result.made_from[0]
    tree = (plot, fit, result, calibration)
    assert [x.kind for x in tree] == ["plot", "product", "result", "correction file"]
    assert [x.status for x in tree] == ["asked for", "same", "same", "same"]
    assert [x.intact for x in tree] == [True, True, None, True]
    assert [x.same_code for x in tree] == [True, True, False, True]
    assert result.packages == {
        "numpy": ("1.0", results.package_versions()["numpy"]),
        "no-such-package": ("3", None),
    }
    assert result.record is not None
    assert result.record.command == "trila run dijet 'data/*.root' -o 'my result'"
    mask = digest(MANIFEST["configuration"]["events"]["lumi_mask"])  # type: ignore[index]
    assert result.record.options == {
        "dijet.corrections": "cal.json", "events.triggers": ["DST_A"], "events.lumi_mask": f"digest {mask}",
    }  # fmt: skip
    files = result.files
    assert files is not None
    assert (files.number, files.number_skipped, files.events) == (31, 25, 57)
    assert files.first == ("data/0.root", "data/1.root", "data/2.root")
    assert files.skipped == {f"data/bad{n}.root": f"cut at {n}" for n in range(20)}
    assert files.places == {"same size": 5, "not checked": 1}


def test_what_became_of_the_inputs(work: Path) -> None:
    with Path("data/0.root").open("ab") as file:
        file.write(b"more")
    Path("data/1.root").unlink()
    files = explain("result").files
    assert files is not None
    assert files.places == {"changed since": 1, "not found": 1, "same size": 3, "not checked": 1}

    manifest = json.loads(Path("result/manifest.json").read_text())
    write(work / "result" / "manifest.json", {**manifest, "trila": "9"})
    (changed,) = explain("fit.json").made_from
    # what it is now says nothing about the fit
    assert (changed.status, changed.kind, changed.made_from, changed.record) == (
        "changed since",
        "result",
        (),
        None,
    )
    shutil.rmtree("result")
    assert explain("fit.json").made_from[0].status == "not found"

    text = Path("fit.json").read_text()
    Path("fit.json").write_text(text.replace("20.0", "30.0"))
    assert explain("fit.json").intact is False
    assert explain("fit.pdf").made_from[0].status == "changed since"


def test_inputs_that_moved_along_are_found(
    work: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("other"))
    write(Path("cal.json"), "another file of that name")
    fit = explain(work / "fit.png").made_from[0]
    assert (fit.path, fit.found, fit.status) == ("fit.json", str(work / "fit.json"), "same")
    calibration = fit.made_from[0].made_from[0]
    assert (calibration.found, calibration.status) == (str(work / "cal.json"), "same")
    (work / "cal.json").unlink()
    assert explain(work / "result").made_from[0].status == "changed since"


def test_parts_of_a_result(work: Path) -> None:
    parts = [work / "result" / "cutflow.json", work / "result" / "pairs" / "data" / "0.parquet"]
    parts[1].parent.mkdir(parents=True)
    parts[1].write_bytes(b"PAR1")
    for path in parts:
        found = explain(path)
        assert (found.kind, found.record) == ("part of a result", None)
        assert (found.made_from[0].path, found.made_from[0].status) == (str(work / "result"), "same")
    # a product that lies there has its own
    assert explain(product(work / "result" / "turnon" / "turnon.json", result="result")).kind == "product"


def test_a_result_of_before_digests_were_written_down(work: Path) -> None:
    write(work / "result" / "manifest.json", MANIFEST)
    found = explain("result")
    assert found.same_code is None
    assert [(x.path, x.status, x.kind) for x in found.made_from] == [
        ("cal.json", "not checked", "correction file")
    ]


def test_correction_files(work: Path) -> None:
    content = json.loads(Path("cal.json").read_text())
    Path("cal.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    said = explain("cal.json.gz")
    assert (said.kind, said.record) == ("correction file", explain("cal.json").record)
    Path("cal.json.gz").write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(CorrectionError, match="damaged"):
        explain("cal.json.gz")
    made = correction_set.schemav2.CorrectionSet.model_validate({**content, "description": "of others"})
    correction_set.write(made, "others.json.gz")
    with pytest.raises(InputError, match="does not say how it was made"):
        explain("others.json.gz")


def test_files_without_room_for_a_record(work: Path) -> None:
    path = write(work / "models" / "background.json", {"channels": []})
    made = record("limit", {"spectrum": "result:dijet.mass"})
    listed = {"provenance": made.as_json(), "files": {"background.json": sha256(path)}}
    write(work / "models" / "provenance.json", listed)
    assert explain(path).record == made
    write(path, {"channels": ["others"]})
    with pytest.raises(InputError, match="does not say how it was made"):
        explain(path)


# ---- what cannot be


def _forged(path: Path, inputs: list[str]) -> Path:
    """A product with a record that names inputs without digests."""
    made = {
        "trila": "0",
        "command": "fit",
        "options": {},
        "digest": "0",
        "inputs": [{"path": p} for p in inputs],
    }
    return write(path, {"provenance": made})


def _cycle() -> None:
    _forged(Path("a.json"), ["b.json"])
    _forged(Path("b.json"), ["./a.json"])


def _chain() -> None:
    for n in range(30):
        _forged(Path("a.json" if n == 0 else f"{n}.json"), [f"{n + 1}.json"])


def _wide() -> None:
    for n in range(12):
        _forged(Path("a.json" if n == 0 else f"{n}.json"), [f"{n + 1}.json"] * 10)


def _wrong() -> None:
    write(Path("a.json"), {"provenance": {"command": "fit", "digest": 3, "trila": "0", "options": {}}})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, r"a\.json: no such file; check the path"),
        (lambda: write(Path("a.json"), {"x": 1}), r"a\.json does not say how it was made; expected a RESULT or a file in one"),
        (lambda: write(Path("a.json"), [[]]), "does not say"),
        (lambda: write(Path("a.json"), {"schema_version": 2, "description": "{"}), "does not say"),
        (lambda: write(Path("a.json"), {"provenance": "mine"}), "does not say"),
        (lambda: Path("a.json").mkdir(), "does not say"),
        (lambda: Path("a.json").write_text("{"), r"a\.json is no JSON"),
        (_wrong, r"a\.json: its record is none \(digest: Input should be a valid string \(given: 3\)\); make the file again"),
        (_cycle, r"\./a\.json was made from itself, says its record; expected inputs that were there before"),
        (_chain, r"a\.json was made in more than 20 steps, say the records; expected fewer"),
        (_wide, r"a\.json was made from more than 1000 files, say the records; expected fewer"),
    ],
)  # fmt: skip
def test_messages(
    make: Callable[[], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make()
    with pytest.raises(InputError, match=message):
        explain("a.json")


def test_a_name_that_is_none() -> None:
    with pytest.raises(InputError, match="no such file"):
        explain("x" * 5000)


def test_inputs_of_others_may_be_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{")
    Path("text.pdf").write_bytes(b"/Keywords (hep, plots)")
    _forged(Path("a.json"), ["broken.json", "text.pdf", "x" * 5000, "/dev/zero", ".", "\0"])
    found = explain("a.json").made_from
    assert [x.status for x in found] == ["not checked"] * 2 + ["not found"] * 4
    assert all(x.record is None for x in found)


# ---- the command


app = typer.Typer()
app.command()(command)


def printed(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.output


def test_the_command_prints_a_tree(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed("fit.png")
    for line in (
        "fit.png, plot", "made by trila plot, version", "fit.json, product: same", "made by trila run dijet 'data/*.root'",
        f"code {'c' * 16} not the code installed here", "numpy 1.0 (here", "no-such-package 3 (here not installed)",
        'events.triggers = ["DST_A"]', "range = [20.0, 60.0]", "6 input files, 57 events: 5 same size, 1 not checked",
        "data/2.root", "and 3 more", "25 skipped", "data/bad19.root: cut at 19", "and 5 more", "cal.json, correction file: same",
    ):  # fmt: skip
        assert line in text
    assert text.count("made by trila run") == 1
    assert "rebin" not in text
    assert "data/3.root" not in text
    parsed = Explanation.model_validate_json(printed("fit.png", "--json"))
    assert parsed == explain("fit.png")
    assert "error: none.json: no such file" in printed("none.json", code=2)
    both = product(work / "both.json", first="fit.json", second="result:dijet.mass")
    text = printed(str(both))
    assert (text.count("result, result: same"), text.count("made by trila run"), text.count("as above")) == (
        2,
        1,
        1,
    )
    monkeypatch.setattr(explanation, "code_digest", lambda: "0" * 64)
    assert "not the code installed here" in printed("fit.json")


def test_what_others_wrote_commands_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    evil = "\x1b[2J\x07[red]" + "y" * 1000
    files = [{"file": evil, "status": "skipped", "reason": evil}, {"file": evil, "status": "done"}]
    write(
        Path("result/manifest.json"),
        {**MANIFEST, "trila": evil, "command": [evil], "inputs": files, "code": evil},
    )
    text = printed("result")
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]" in text
    # nothing is cut at the width of a terminal, and nothing goes on for ever
    assert 300 < max(map(len, text.splitlines())) < 800
