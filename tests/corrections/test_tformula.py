"""Formulas in ROOT's dialect: what correctionlib computes from the translation is what ROOT means."""

from __future__ import annotations

import math
from typing import Any

import pytest
from correctionlib import schemav2 as cs

from trila.corrections import tformula
from trila.corrections.jets import CorrectionError


def value(expression: str, variables: tuple[float, ...], parameters: tuple[float, ...] = ()) -> Any:
    """The translated formula as correctionlib evaluates it, with ranges so wide that they do nothing."""
    names = list(tformula.VARIABLES[: len(variables)])
    correction = cs.Correction(
        name="f",
        version=1,
        inputs=[cs.Variable(name=name, type="real") for name in names],
        output=cs.Variable(name="value", type="real"),
        data=cs.Formula(
            nodetype="formula",
            parser="TFormula",
            expression=tformula.held(expression, len(variables)),
            variables=names,
            parameters=[-1e9, 1e9] * len(variables) + list(parameters),
        ),
    )
    return correction.to_evaluator().evaluate(*variables)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # a sign binds weaker than a power (https://root.cern/doc/master/classTFormula.html)
        ("-x^2", -9.0),
        ("-(x)^2", -9.0),
        ("1-x^2", -8.0),
        ("2*-x^2", -18.0),
        ("exp(-x^2)", math.exp(-9)),
        ("-log(x)^2", -(math.log(3) ** 2)),
        ("-pow(x,2)^2*2", -162.0),
        ("x--x^2", 12.0),
        ("x^-1", 1 / 3),
        ("(-x)^2", 9.0),
        ("x**2", 9.0),
        # numbers
        (".5*x", 1.5),
        ("1e+2+1E3-1.e-1*x", 1099.7),
        ("+x++1", 4.0),
        ("5.*x", 15.0),
        # functions and constants
        ("TMath::Log10(x)+TMath::Power(x,2)-TMath::Max(x,4.)", math.log10(3) + 9 - 4),
        ("TMath::Erf(.1*x)*fabs(-x)+TMath::Abs(-1)", math.erf(0.3) * 3 + 1),
        ("TMath::Pi()*pi/TMath::E()", math.pi**2 / math.e),
        ("max(x, 2) ", 3.0),
        # choices by comparison
        ("(x<4)*10+(x>=4)*20", 10.0),
        ("((x>1)&&(x<2))||(x==3)", 1.0),
    ],
)
def test_one_variable(expression: str, expected: float) -> None:
    assert value(expression, (3.0,)) == pytest.approx(expected, rel=1e-14)


def test_parameters_follow_the_ranges() -> None:
    assert value("[0]*x+[p1]*y-[2]", (3.0, 5.0), (2.0, 10.0, 1.0)) == 55.0
    assert tformula.parameter_count("[0]*x+[p12]*y") == 13
    assert tformula.parameter_count("1") == 0


@pytest.mark.parametrize(("x", "expected"), [(1.0, 20.0), (30.0, 30.0), (99.0, 40.0)])
def test_variables_are_held_wherever_they_stand(x: float, expected: float) -> None:
    held = tformula.held("sqrt(x*x)", 1)
    formula = cs.Formula(
        nodetype="formula", parser="TFormula", expression=held, variables=["x"], parameters=[20.0, 40.0]
    )
    correction = cs.Correction(
        name="f", version=1, inputs=[cs.Variable(name="x", type="real")],
        output=cs.Variable(name="value", type="real"), data=formula,
    )  # fmt: skip
    assert correction.to_evaluator().evaluate(x) == expected


def test_numbers_keep_their_value() -> None:
    assert tformula.constant("1.") == 1.0
    assert tformula.constant("1*x") is None
    assert value("0.1234567890123456789*x", (1.0,)) == 0.1234567890123456789
    assert value("1e-30*1e25*x", (1.0,)) == pytest.approx(1e-5, rel=1e-15)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("x>2?1:2", r"correctionlib has no '\?'; comparisons give 0 or 1"),
        ("!(x>1)", "correctionlib has no '!'"),
        ("x%2", "correctionlib has no '%'"),
        ("TMath::Gaus(x)", "correctionlib has no 'TMath::Gaus'; it has abs, acos"),
        ("floor(x)", "correctionlib has no 'floor'"),
        ("x+y", r"'y' is none of its 1 variables"),
        ("x^2^3", r"a\^b\^c is read in two ways; put brackets"),
        ("2^-x^2", r"a\^b\^c is read in two ways; put brackets"),
        ("1/-x^2", r"put brackets around the power after '/-'"),
    ],
)
def test_refusals(expression: str, says: str) -> None:
    with pytest.raises(CorrectionError, match=says):
        tformula.held(expression, 1)
