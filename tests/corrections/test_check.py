"""Pitfalls of correction sets: every kind is planted, found with its numbers, and not found where there is none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from trila.corrections import contents, correction_set
from trila.corrections.check import Finding, check
from trila.corrections.jets import CorrectionError

NAN = "NaN in JetPt gives a number; make sure that there is none"


def correction(data: Any, name: str = "hlt_jec", inputs: str = "JetPt", **more: Any) -> dict[str, Any]:
    types = {"systematic": "string", "run": "int"}
    return {
        "name": name,
        "version": 1,
        "inputs": [{"name": item, "type": types.get(item, "real")} for item in inputs.split()],
        "output": {"name": "factor", "type": "real"},
        "data": data,
        **more,
    }


def binning(variable: str, edges: list[Any], content: list[Any], flow: Any = "error") -> dict[str, Any]:
    return {"nodetype": "binning", "input": variable, "edges": edges, "content": content, "flow": flow}


def formula(expression: str, variables: str = "JetPt") -> dict[str, Any]:
    return {
        "nodetype": "formula",
        "parser": "TFormula",
        "expression": expression,
        "variables": variables.split(),
    }


def category(**values: Any) -> dict[str, Any]:
    items = [{"key": key, "value": value} for key, value in values.items()]
    return {"nodetype": "category", "input": "systematic", "content": items}


def write(folder: Path, *corrections: dict[str, Any], compounds: Any = None) -> Path:
    path = folder / "c.json"
    content = {"schema_version": 2, "corrections": corrections, "compound_corrections": compounds}
    path.write_text(json.dumps(content))
    return path


def found(folder: Path, data: Any, inputs: str = "JetPt", **more: Any) -> list[tuple[bool, str]]:
    path = write(folder, correction(data, inputs=inputs, **more))
    return [(finding.problem, finding.text) for finding in check(path)]


def test_nothing_to_find(tmp_path: Path) -> None:
    data = category(
        nominal=binning("JetPt", [10, 100, 1000], [1.1, 1.0]),
        jes_up=binning("JetPt", [10, 100, 1000], [1.2, formula("max(1,min(2,x/500))")]),
        jes_down=binning("JetPt", [10, 100, 1000], [1.0, 1.0]),
    )
    assert found(tmp_path, data, "JetPt systematic") == []


# ---- extrapolation


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (binning("JetPt", [10, 100, 1000], [1.0, formula("1+x/1000")], "clamp"), "above JetPt 1000"),
        (binning("JetPt", [10, 100, 1000], [formula("1+1/x"), 1.0], "clamp"), "below JetPt 10"),
        (binning("JetPt", [10, 100], [formula("1+max(10,min(100,x))")], "clamp"), None),
        (binning("JetPt", [10, 100, 1000], [formula("x"), 1.0], 1.0), None),
        (binning("JetPt", [10, 100, 500, 1000], [1.0, formula("x"), 1.0], "clamp"), None),
        (binning("JetPt", [10, "inf"], [formula("max(10,x)")], "clamp"), None),
        (
            {
                "nodetype": "transform",
                "input": "JetPt",
                "rule": formula("max(10,min(100,x))"),
                "content": binning("JetPt", [10, 100], [formula("x")], "clamp"),
            },
            None,
        ),
        (
            {
                "nodetype": "multibinning",
                "inputs": ["JetEta", "JetPt"],
                "edges": [[-1, 0, 1], {"n": 2, "low": 10, "high": 20}],
                "content": [1.0, formula("x"), 1.0, formula("2*x")],
                "flow": "clamp",
            },
            "above JetPt 20, although its bins are clamped, in 2 of 2 formulas",
        ),
        (
            binning("JetPt", [10, 100], [category(nominal=formula("x"))], "clamp"),
            "in 1 of 1 formulas; put max",
        ),
    ],
)
def test_extrapolation(tmp_path: Path, data: Any, expected: str | None) -> None:
    texts = [text for problem, text in found(tmp_path, data, "JetEta JetPt systematic") if problem]
    if expected is None:
        assert [text for text in texts if "goes on" in text] == []
    else:
        assert any(text.startswith("goes on ") and expected in text for text in texts)


def test_extrapolation_of_shared_formulas(tmp_path: Path) -> None:
    """The nominal of an eta region held, of another not: only the second is told of."""
    shared = [formula("[0]+[1]*x")]
    data = binning(
        "JetEta",
        [-1, 0, 1],
        [
            binning("JetPt", [10, 1000], [{"nodetype": "formularef", "index": 0, "parameters": [1.0, slope]}], "clamp")
            for slope in (0.0, 0.001)
        ],
    )  # fmt: skip
    problems = [
        text for problem, text in found(tmp_path, data, "JetEta JetPt", generic_formulas=shared) if problem
    ]
    assert problems == [
        f"goes on {side} JetPt {edge}, although its bins are clamped, in 1 of 2 formulas; put max(lo,min(hi,x)) into them"
        for side, edge in (("below", 10), ("above", 1000))
    ]  # fmt: skip


# ---- values


def test_gaps(tmp_path: Path) -> None:
    narrower = binning("JetPt", [10, 55], [1.0])
    data = binning("JetEta", [-1, 0, 1], [narrower, binning("JetPt", [10, 100], [1.0])])
    ((problem, text),) = found(tmp_path, data, "JetEta JetPt")
    assert problem
    count = int(text.split()[1])
    assert abs(count - 50) < 4 * math.sqrt(200 * 0.25 * 0.75)  # a quarter of the points
    assert text.startswith(f"refuses {count} of 200 points within its bins: ")
    assert text.endswith("; close the gap")


def test_categories_that_are_missing_in_some_bins(tmp_path: Path) -> None:
    data = binning(
        "JetPt", [0, 50, 100], [category(nominal=1.0, a_up=1.1, a_down=0.9), category(nominal=1.0)]
    )
    ((problem, text),) = found(tmp_path, data, "JetPt systematic")
    assert problem
    assert "points within its bins (systematic a_up): " in text


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    data = binning("JetPt", [0, 100], [formula("log(x-50)")])
    ((problem, text),) = found(tmp_path, data)
    assert problem
    count = int(text.split()[4])
    assert abs(count - 100) < 4 * math.sqrt(200 * 0.25)  # half of the points
    assert text == f"is not finite at {count} of 200 points within its bins; mend the formula"


def test_nan(tmp_path: Path) -> None:
    assert found(tmp_path, binning("JetPt", [0, 100], [1.0], 1.0)) == [(False, NAN)]
    assert found(tmp_path, binning("JetPt", [0, 100], [1.0], "clamp")) == [(False, NAN)]
    assert found(tmp_path, binning("JetPt", [0, 100], [1.0], "error")) == []
    assert found(tmp_path, formula("x")) == []
    assert found(tmp_path, binning("run", [1, 5], [1.0], "error"), "run") == []


def test_azimuth(tmp_path: Path) -> None:
    text = "bins of JetPhi from -3.1 to 3.2 leave out directions; expected -pi to pi"
    assert found(tmp_path, binning("JetPhi", [-3.1, 3.2], [1.0]), "JetPhi") == [(True, text)]
    assert found(tmp_path, binning("JetPhi", [-3.1416, 3.1416], [1.0]), "JetPhi") == []


# ---- names


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["nominal"], []),
        (["nominal", "a_b_up", "a_b_down"], []),
        (["nom", "up", "down"], [(False, "systematics are called down, nom, up as in CMS, not nominal, <source>_up")]),
        (["a_up", "a_down"], [(True, "systematics have no 'nominal'; add it")]),
        (["nominal", "a_up"], [(True, "systematic 'a_up' lacks its opposite; add it")]),
        (["nominal", "aUp"], [(True, "systematic 'aUp' is not nominal, <source>_up or <source>_down; rename it")]),
        (["nominal", "up"], [(True, "systematic 'up' is not nominal, <source>_up or <source>_down; rename it")]),
    ],
)  # fmt: skip
def test_systematics(tmp_path: Path, keys: list[str], expected: list[tuple[bool, str]]) -> None:
    assert found(tmp_path, category(**dict.fromkeys(keys, 1.0)), "systematic") == expected


def compound(stack: list[str], inputs: str = "JetPt", update: str = "JetPt") -> dict[str, Any]:
    made = correction(1.0, "all", inputs)
    del made["data"], made["version"]
    return made | {"inputs_update": [update], "input_op": "*", "output_op": "*", "stack": stack}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (compound(["one"]), []),
        (compound(["one", "two"]), ["'two' of its stack needs JetEta; add to the compound's inputs"]),
        (
            compound(["one", "four"]),
            ["its stack names 'four', which is not in the file; put it there, or take it out of the stack"],
        ),
        (compound(["one"], update="JetE"), ["updates 'JetE', which is none of its inputs; add it to them"]),
    ],
)
def test_stacks(tmp_path: Path, made: dict[str, Any], expected: list[str]) -> None:
    one = correction(1.0, "one")
    two = correction(1.0, "two", "JetEta JetPt")
    findings = check(write(tmp_path, one, two, compounds=[made]))
    assert [finding for finding in findings if finding.problem] == [
        Finding("all", True, text) for text in expected
    ]


# ---- real files, and those that are none


def test_real_file_has_no_problem(data_dir: Path) -> None:
    findings = check(data_dir / "jec/jet_jerc.json.gz")
    assert [finding for finding in findings if finding.problem] == []


@pytest.mark.slow
def test_official_file_has_no_problem(data_dir: Path) -> None:
    findings = check(data_dir / "jec/jet_jerc_Summer22_V3.json.gz")
    assert [finding for finding in findings if finding.problem] == []
    assert "Summer22_22Sep2023_V3_MC_Total_AK4PFPuppi" in {finding.correction for finding in findings}


def test_files_that_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(CorrectionError, match=r"none\.json: no such file; check the path"):
        check(tmp_path / "none.json")
    (tmp_path / "a.json").write_text('{"schema_version": 2}')
    with pytest.raises(
        CorrectionError, match=r"a\.json is not a correctionlib \(v2\) JSON file: .*corrections"
    ):
        check(tmp_path / "a.json")
    path = write(tmp_path, correction(formula("floor(x)")))
    with pytest.raises(CorrectionError, match=r"c\.json cannot be evaluated: .*floor"):
        check(path)


# ---- contents


def test_contents(tmp_path: Path) -> None:
    first = correction(
        binning(
            "JetEta",
            [-1, 0, 1],
            [category(nominal=1.0, a_up=1.1), binning("JetPt", [10, 90], [1.0], 1.0)],
            "clamp",
        ),
        "one",
        "JetEta JetPt systematic",
        description="first",
    )
    first["inputs"][1]["description"] = "GeV"
    second = correction(binning("JetPt", [5, "inf"], [1.0], formula("x")), "two")
    path = write(tmp_path, first, second, compounds=[compound(["two", "one"], "JetEta JetPt systematic")])
    one, two, both = contents.entries(correction_set.read(path))
    assert (one.name, one.description, two.description) == ("one", "first", "")
    eta, pt, systematic = one.inputs
    assert (eta.low, eta.high, eta.outside, eta.keys) == (-1, 1, ("clamp",), ())
    assert (pt.description, pt.low, pt.high, pt.outside) == ("GeV", 10, 90, ("1",))
    assert (systematic.type, systematic.keys) == ("string", ("nominal", "a_up"))
    assert math.isnan(systematic.low)
    assert math.isnan(systematic.high)
    assert (two.inputs[0].low, two.inputs[0].high, two.inputs[0].outside) == (5, math.inf, ("formula",))
    assert both.stack == ("two", "one")
    assert (both.inputs[1].low, both.inputs[1].high) == (5, math.inf)
    assert both.inputs[1].outside == ("1", "formula")


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (None, {}),
        ("plain", {"description": "plain"}),
        ("[1]", {"description": "[1]"}),
        ('{"estimator": "median"}', {"estimator": "median"}),
    ],
)
def test_metadata(tmp_path: Path, description: str | None, expected: dict[str, str]) -> None:
    content = {"schema_version": 2, "corrections": [], "description": description}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert contents.metadata(correction_set.read(tmp_path / "a.json")) == expected
