"""Clopper-Pearson intervals against published numbers, their definition, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from trila.corrections.efficiency import clopper_pearson


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.168149),
        (9, 10, 0.705865, 0.982873),
        (995, 1000, 0.991632, 0.997158),
        (10, 10, 0.831851, 1.0),
    ],
)
def test_known_intervals(passed: int, total: int, low: float, high: float) -> None:
    assert clopper_pearson(passed, total) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_limits_solve_the_binomial_equations() -> None:
    low, high = clopper_pearson(7, 23)
    tail = (1 - 0.6826894921370859) / 2
    assert stats.binom.sf(6, 23, float(low)) == pytest.approx(tail, rel=1e-9)
    assert stats.binom.cdf(7, 23, float(high)) == pytest.approx(tail, rel=1e-9)


def test_it_covers() -> None:
    total = 40
    low, high = clopper_pearson(np.arange(total + 1), total)
    for truth in np.linspace(0.01, 0.99, 50):
        covered = stats.binom.pmf(np.arange(total + 1), total, truth)[(low <= truth) & (truth <= high)].sum()
        assert covered >= 0.6826


def test_nothing_tried() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("passed", "total"), [(3, 2), (-1, 2), (float("nan"), 1)])
def test_impossible_counts(passed: float, total: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= passed <= total"):
        clopper_pearson(passed, total)
