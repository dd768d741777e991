"""Splines and clamps as correctionlib evaluates them."""

import math
from typing import Any

import numpy as np
import pytest
from correctionlib import schemav2
from scipy.interpolate import CubicSpline

from trila.corrections.contents import entries
from trila.corrections.nodes import (
    REFUSE,
    SPLINE_FORMULA,
    by_eta,
    by_run,
    clamped,
    formula,
    knots_for,
    spline,
    switch,
    variable,
)


def _evaluator(data: Any, *inputs: str) -> Any:
    return schemav2.Correction.model_validate(
        {
            "name": "test", "version": 1, "inputs": [variable(i) for i in inputs],
            "output": {"name": "factor", "type": "real"}, "generic_formulas": [SPLINE_FORMULA], "data": data,
        }
    ).to_evaluator()  # fmt: skip


def test_a_spline_survives_to_1e_12_and_is_constant_outside() -> None:
    points = np.linspace(np.log(15.0), np.log(2000.0), 12)
    values = 1.05 - 0.01 * np.sin(points)
    found = _evaluator(spline(points, values), "JetPt")
    pt = np.exp(np.random.default_rng(1).uniform(points[0], points[-1], 20_000))
    np.testing.assert_allclose(found.evaluate(pt), CubicSpline(points, values)(np.log(pt)), rtol=1e-12)
    np.testing.assert_allclose(found.evaluate(np.array([1e-3, 14.9, 15.0])), values[0], rtol=1e-12)
    np.testing.assert_allclose(found.evaluate(np.array([2000.0, 2001.0, 1e6])), values[-1], rtol=1e-12)


def test_a_formula_sees_the_clamped_variable() -> None:
    """The published correction of CMS calorimeter scouting jets of 2016 (arXiv:1806.00843), flat above 993 GeV."""
    bias = "1/(1+0.01*([0]+[1]*log(x)+[2]*pow(log(x),2)))"
    found = _evaluator(
        clamped(formula(bias, ["JetPt"], [-31.7198, 8.58611, -0.622092]), 10.0, 993.264), "JetPt"
    )
    pt = np.array([50.0, 100.0, 300.0, 993.264, 2000.0])
    np.testing.assert_allclose(
        found.evaluate(pt), [1.0828510, 1.0567739, 1.0307695, 1.0213820, 1.0213820], atol=1e-6
    )


def test_jets_outside_of_eta_runs_and_regions_are_refused() -> None:
    data = by_run([100, 200], 299, [by_eta([-1, 0, 1], [1.0, REFUSE]), by_eta([-1, 0, 1], [2.0, 3.0])])
    found = _evaluator(data, "run", "JetEta", "JetPt")
    assert found.evaluate(150.0, -0.5, 30.0) == 1.0
    assert found.evaluate(299.0, 0.5, 30.0) == 3.0
    for run, eta in ((99.0, 0.5), (300.0, 0.5), (150.0, 1.0), (150.0, 0.5)):
        with pytest.raises(RuntimeError):
            found.evaluate(run, eta, 30.0)


def test_other_sources_are_answered_with_nominal() -> None:
    found = _evaluator(switch({"nominal": 1.0, "method_up": 1.1}, 1.0), "JetPt", "systematic")
    assert [found.evaluate(30.0, k) for k in ("nominal", "method_up", "pileup_up")] == [1.0, 1.1, 1.0]


def test_so_many_points_as_a_curve_needs() -> None:
    assert knots_for(lambda u: 1 + 0 * u, 3.0, 7.0).size == 5
    points = knots_for(np.sin, 3.0, 7.0)
    check = np.linspace(3.0, 7.0, 999)
    assert np.max(np.abs(CubicSpline(points, np.sin(points))(check) - np.sin(check))) < 1e-7


def test_a_listing_does_not_take_logarithms_for_pt() -> None:
    correction = schemav2.Correction.model_validate(
        {
            "name": "test", "version": 1, "inputs": [variable("JetPt"), variable("JetEta")],
            "output": {"name": "factor", "type": "real"}, "generic_formulas": [SPLINE_FORMULA],
            "data": by_eta([-1, 0, 1], [spline([3.0, 5.0], [1.0, 1.1])] * 2),
        }
    )  # fmt: skip
    pt, eta = entries(schemav2.CorrectionSet(schema_version=2, corrections=[correction]))[0].inputs
    assert (eta.low, eta.high) == (-1.0, 1.0)
    assert math.isnan(pt.low)
