"""Jet corrections from correctionlib files: values, variations, refusals."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from correctionlib import schemav2 as cs

from trila.corrections import jets


def write(
    path: Path, *corrections: cs.Correction, compounds: list[cs.CompoundCorrection] | None = None
) -> str:
    content = cs.CorrectionSet(
        schema_version=2, corrections=list(corrections), compound_corrections=compounds
    )
    path.write_bytes(gzip.compress(content.model_dump_json(exclude_unset=True).encode()))
    return str(path)


def scale(name: str, values: dict[str, float]) -> cs.Correction:
    """A constant factor for each value of `systematic`."""
    return cs.Correction(
        name=name,
        version=1,
        inputs=[cs.Variable(name="JetPt", type="real"), cs.Variable(name="systematic", type="string")],
        output=cs.Variable(name="factor", type="real"),
        data=cs.Category(
            nodetype="category",
            input="systematic",
            content=[
                cs.CategoryItem(
                    key=key,
                    value=cs.Binning(
                        nodetype="binning",
                        input="JetPt",
                        edges=[10.0, 100.0, 1000.0],
                        content=[value, 1.0],
                        flow="error",
                    ),
                )
                for key, value in values.items()
            ],
        ),
    )


@pytest.fixture
def file(tmp_path: Path) -> str:
    return write(tmp_path / "c.json.gz", scale("hlt_jec", {"nominal": 1.1, "jes_up": 1.2, "jes_down": 1.0}))


def test_values_and_variations(file: str) -> None:
    pt = np.array([50.0, 200.0], np.float32)
    assert jets.systematics(file) == ("nominal", "jes_up", "jes_down")
    assert jets.required_inputs(file) == ("JetPt", "systematic")
    assert jets.evaluate(file, None, {"JetPt": pt}).tolist() == [1.1, 1.0]
    assert jets.evaluate(file, "hlt_jec", {"JetPt": pt}, {"systematic": "jes_up"}).tolist() == [1.2, 1.0]


def test_real_corrections_agree_with_published_numbers(data_dir: Path) -> None:
    """Summer22_V3 AK4PUPPI MC, L1L2L3Res at area 0.5, rho 30, eta 0.1 (values computed with correctionlib 2.9)."""
    path = str(data_dir / "jec/jet_jerc_Summer22_V3.json.gz")
    name = next(n for n in jets.names(path) if n.endswith("_MC_L1L2L3Res_AK4PFPuppi"))
    pt = np.array([15.0, 30.0, 100.0, 300.0, 1000.0, 3000.0])
    columns: dict[str, Any] = {
        "JetPt": pt, "JetEta": np.full(6, 0.1), "JetA": np.full(6, 0.5), "Rho": np.full(6, 30.0),
        "JetPhi": np.zeros(6), "run": np.ones(6),
    }  # fmt: skip
    expected = [1.09166563, 1.07683638, 1.06592315, 1.05961002, 1.04967788, 1.01886206]
    assert jets.evaluate(path, name, columns) == pytest.approx(expected, rel=1e-6)
    assert jets.systematics(path, name) == ("nominal",)


def test_systematics_of_a_compound_are_those_of_its_stack(tmp_path: Path) -> None:
    compound = cs.CompoundCorrection(
        name="hlt_jec", inputs=scale("a", {"nominal": 1.0}).inputs, output=cs.Variable(name="factor", type="real"),
        inputs_update=["JetPt"], input_op="*", output_op="*", stack=["a"],
    )  # fmt: skip
    file = write(
        tmp_path / "c.json.gz", scale("a", {"nominal": 1.1, "x_up": 1.2}), scale("b", {"nominal": 1.0, "y_up": 1.0}),
        compounds=[compound],
    )  # fmt: skip
    assert jets.systematics(file) == ("nominal", "x_up")
    assert jets.systematics(file, "b") == ("nominal", "y_up")


def test_refusals(file: str, tmp_path: Path) -> None:
    with pytest.raises(jets.CorrectionError, match="1 NaN among 'JetPt'"):
        jets.evaluate(file, None, {"JetPt": np.array([np.nan])})
    with pytest.raises(jets.CorrectionError, match=r"refused its input .*JetPt in \[5, 5\]"):
        jets.evaluate(file, None, {"JetPt": np.array([5.0])})
    with pytest.raises(
        jets.CorrectionError, match="needs 'JetPt', which the input cannot give; at hand: JetEta"
    ):
        jets.evaluate(file, None, {"JetEta": np.array([1.0])})
    with pytest.raises(jets.CorrectionError, match="has no 'hlt'; name one of: hlt_jec"):
        jets.evaluate(file, "hlt", {})
    with pytest.raises(jets.CorrectionError, match="no such file"):
        jets.load(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(jets.CorrectionError, match="is not a correctionlib"):
        jets.load(str(tmp_path / "bad.json"))
    two = write(tmp_path / "two.json.gz", scale("a", {"nominal": 1.0}), scale("b", {"nominal": 1.0}))
    with pytest.raises(jets.CorrectionError, match="has no 'hlt_jec'; name one of: a, b"):
        jets.evaluate(two, None, {})
