"""The command `trila corrections`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import commands
import correctionlib
import pytest
import typer
from commands import Done

from trila.analysis.cli_corrections import corrections_app

LEVELS = ("L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual")
COMMANDS = typer.main.get_command(corrections_app).commands  # type: ignore[attr-defined]
TEXT = "{1 JetEta 1 JetPt [0]+[1]*x Correction L2Relative}\n-5 5 4 10 1000 1.5 0.001\n"


def trila(*arguments: object) -> Done:
    return commands.trila("corrections", *arguments)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, data: Any, description: str | None = None) -> None:
    correction = {
        "name": "hlt_jec",
        "version": 1,
        "inputs": [{"name": "JetPt", "type": "real", "description": "transverse momentum, GeV"}],
        "output": {"name": "factor", "type": "real"},
        "data": data,
    }
    content = {"schema_version": 2, "description": description, "corrections": [correction]}
    Path(name).write_text(json.dumps(content))


def binning(flow: Any, content: Any = 1.0) -> dict[str, Any]:
    return {"nodetype": "binning", "input": "JetPt", "edges": [10, 100], "content": [content], "flow": flow}


def line(*variables: str) -> dict[str, Any]:
    return {
        "nodetype": "formula",
        "parser": "TFormula",
        "expression": "x",
        "variables": list(variables),
    }


# ---- convert


def test_convert() -> None:
    files = [f"A_V7_MC_{level}_AK4PF.jec.txt" for level in LEVELS]
    for file in files:
        Path(file).write_text(TEXT)
    done = trila("convert", *files, "-o", "out.json.gz", "--tag", "B_V8")
    assert done == Done(0, "compound B_V8_MC_L1L2L3Res_AK4PF\n4 files, 4 corrections: out.json.gz\n", "")
    corrections = correctionlib.CorrectionSet.from_file("out.json.gz")
    assert list(corrections) == sorted(f"B_V8_MC_{level}_AK4PF" for level in LEVELS)
    pt = 100.0
    for _ in LEVELS:
        pt *= 1.5 + 0.001 * min(pt, 1000.0)
    full = corrections.compound["B_V8_MC_L1L2L3Res_AK4PF"]
    assert full.evaluate(0.0, 100.0) == pytest.approx(pt / 100)

    assert trila("convert", files[0]) == Done(0, "1 file, 1 corrections: jet_jerc.json.gz\n", "")
    assert Path("jet_jerc.json.gz").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.txt"], "error: correction file none.txt: no such file; check the path\n"),
        (["bad.txt"], "error: bad.txt, line 2: 1 numbers; expected 2 bin edges"),
        (["a.txt", "-o", "out.txt"], "error: correction file out.txt: the name must end in .json.gz or .json\n"),
        (["a.txt", "-o", "none/out.json"], "error: correction file none/out.json cannot be written: No such file"),
    ],
)  # fmt: skip
def test_convert_refuses(arguments: list[str], says: str) -> None:
    Path("a.txt").write_text(TEXT)
    Path("bad.txt").write_text(TEXT.splitlines()[0] + "\n5\n")
    done = trila("convert", *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith(says)
    assert sorted(path.name for path in Path().iterdir()) == ["a.txt", "bad.txt"]


# ---- check


@pytest.mark.parametrize(
    ("flow", "code", "says"),
    [
        ("error", 0, "a.json: 0 problems\n"),
        (
            1.0,
            0,
            "a.json: 0 problems\nnote hlt_jec: NaN in JetPt gives a number; make sure that there is none\n",
        ),
        ("clamp", 1, "a.json: 2 problems\nproblem hlt_jec: goes on below JetPt 10, although its bins are clamped"),
    ],
)  # fmt: skip
def test_check(flow: Any, code: int, says: str) -> None:
    write("a.json", binning(flow, line("JetPt")))
    done = trila("check", "a.json")
    assert done.code == code
    assert done.stdout.startswith(says)
    assert done.stderr == ""


def test_check_says_once_what_holds_for_many() -> None:
    Path("a.txt").write_text("[One]\n" + TEXT + "[Two]\n" + TEXT + "[Three]\n" + TEXT)
    assert trila("convert", "a.txt", "-o", "c.json").code == 0
    done = trila("check", "c.json")
    note = "note a_One and 2 more: NaN in JetEta, JetPt gives a number; make sure that there is none\n"
    assert done == Done(0, f"c.json: 0 problems\n{note}", "")


def test_check_goes_on_after_a_file_that_cannot_be_read() -> None:
    write("a.json", binning("clamp", line("JetPt")))
    write("b.json", binning("error"))
    Path("bad.json").write_text("{}")
    done = trila("check", "bad.json", "none.json", "a.json", "b.json")
    assert done.code == 2
    errors = done.stderr.splitlines()
    assert errors[0].startswith("error: correction file bad.json is not a correctionlib (v2) JSON file: ")
    assert errors[1] == "error: correction file none.json: no such file; check the path"
    assert "a.json: 2 problems\n" in done.stdout
    assert done.stdout.endswith("b.json: 0 problems\n")


# ---- show


def test_show() -> None:
    write("a.json", binning("error"), json.dumps({"estimator": "median", "valid": {"JetPt": [30, 2000]}}))
    assert trila("show", "a.json") == Done(
        0,
        'a.json\nestimator: median\nvalid: {"JetPt": [30, 2000]}\n\n'
        "hlt_jec\n  JetPt  real  10 to 100, beyond: error  transverse momentum, GeV\n",
        "",
    )
    write("b.json", binning("error"))
    assert trila("show", "b.json").stdout.startswith("b.json\n\nhlt_jec\n  JetPt ")


def test_show_of_converted_files() -> None:
    Path("A_V7_MC_SF_AK4PF.txt").write_text("{1 JetEta 0 None ScaleFactor}\n-5 5 3 1.1 1.0 1.2\n")
    Path("A_V7_MC_L2Relative_AK4PF.txt").write_text(TEXT)
    assert trila("convert", *sorted(Path().glob("*.txt"))).code == 0
    lines = trila("show", "jet_jerc.json.gz").stdout.splitlines()
    assert lines[:2] == [
        "jet_jerc.json.gz",
        "description: CMS jet corrections, converted from text files by trila",
    ]
    assert lines[3:7] == [
        "A_V7_MC_L2Relative_AK4PF",
        "  correction, converted from A_V7_MC_L2Relative_AK4PF.txt; outside the bins 1",
        "  JetEta  real  -5 to 5, beyond: 1  pseudorapidity",
        "  JetPt   real  no bins             transverse momentum, GeV, held within 10 to 1000",
    ]
    assert lines[10:] == [
        "  JetEta      real    -5 to 5, beyond: clamp  pseudorapidity",
        "  systematic  string  nom, up, down           variation",
    ]


def test_show_of_compounds(data_dir: Path) -> None:
    done = trila("show", data_dir / "jec/jet_jerc.json.gz")
    assert done.code == 0
    stack = ", ".join(f"Summer24Prompt24_V2_MC_{level}_AK4PFPuppi" for level in LEVELS)
    assert f"\nSummer24Prompt24_V2_MC_L1L2L3Res_AK4PFPuppi\n  applies in turn: {stack}\n" in done.stdout


def test_show_refuses() -> None:
    Path("bad.json").write_text("[")
    done = trila("show", "bad.json")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: correction file bad.json is not a correctionlib (v2) JSON file: ")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_can_be_typed(name: str) -> None:
    done = trila(name, "--help")
    assert done.code == 0
    examples = re.findall(r"`trila corrections (.*?)`", COMMANDS[name].help)
    assert examples
    for example in examples:
        first, *arguments = example.split()
        assert first == name
        with COMMANDS[name].make_context(name, arguments) as context:  # parses, does not run
            assert context.params["files"]


def test_help_names_the_commands() -> None:
    done = trila("--help")
    assert done.code == 0
    assert set(COMMANDS) == {"show", "check", "convert"}
    assert all(command in done.stdout for command in COMMANDS)
