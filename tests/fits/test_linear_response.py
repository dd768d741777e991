"""Goodness of fit of linear predictions, against projections and drawn counts."""

import numpy as np
import pytest
from scipy import stats

from trila.fits.linear_response import goodness

VARIANCE = np.geomspace(1e6, 1e2, 30)
POSITION = np.linspace(-1, 1, 30)


def test_a_fit_of_one_function_has_its_own_parameters() -> None:
    """A weighted straight-line fit is a projection: χ² with two parameters less than bins."""
    design = np.column_stack([np.ones(30), POSITION])
    information = design.T / VARIANCE
    response = design @ np.linalg.solve(information @ design, information)
    found = goodness(31.0, response, VARIANCE)
    assert found.parameters == pytest.approx(2.0)
    assert found.ndof == pytest.approx(28.0)
    assert found.p_value == pytest.approx(stats.chi2.sf(31.0, 28))


def test_p_values_of_a_smoother_are_uniform() -> None:
    """Neighbours averaged with the bin itself, and without it: no projections, and the second expects more than its bins."""
    rng = np.random.default_rng(1)
    drawn = rng.normal(0, np.sqrt(VARIANCE), (1000, 30))
    near = np.exp(-((POSITION[:, None] - POSITION) ** 2) / 0.02)
    for response in (near / near.sum(axis=1, keepdims=True), (near - np.eye(30)) / 4):
        squares = ((drawn - drawn @ response.T) ** 2 / VARIANCE).sum(axis=1)
        found = [goodness(square, response, VARIANCE) for square in squares]
        assert found[0].ndof == pytest.approx(squares.mean(), rel=0.04)
        assert found[0].parameters == pytest.approx(
            ((drawn @ response.T) ** 2 / VARIANCE).sum(axis=1).mean(), rel=0.1
        )
        p_values = np.array([one.p_value for one in found])
        for level in (0.05, 0.5):
            assert np.mean(p_values < level) == pytest.approx(level, abs=4 * np.sqrt(level / 1000))
