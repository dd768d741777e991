"""Limits of a closure, and how often a test with them raises a false alarm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from trila.corrections.closure_limits import LIMITS, beyond, claimed_from, limit_of, significance


@pytest.mark.parametrize(
    ("eta", "pt", "limit"),
    [
        ((-1.3, 0.0), (100, 150), 0.002),
        ((0.0, 1.3), (400, 600), 0.002),
        ((-1.3, 1.3), (100, 600), 0.002),
        ((0.0, 1.3), (40, 60), 0.005),
        ((0.0, 1.3), (800, 1000), 0.005),
        ((0.0, 1.3), (30, 40), 0.01),
        ((-2.5, -1.3), (30, 40), 0.01),
        ((1.3, 2.5), (2000, 3000), 0.01),
        ((2.5, 3.0), (30, 3000), 0.02),
        ((-5.2, -3.0), (45, 60), 0.03),
        ((0.0, 1.3), (1000, 1500), None),  # none is given there
        ((0.0, 1.3), (20, 30), None),
        ((3.0, 5.2), (20, 30), None),
        ((0.0, 1.3), (80, 150), None),  # in two regions
        ((-2.5, 2.5), (100, 150), None),
    ],
)
def test_limit_of_a_bin(eta: tuple[float, float], pt: tuple[float, float], limit: float | None) -> None:
    assert limit_of(eta, pt) == limit


def test_regions_do_not_overlap() -> None:
    for first in LIMITS:
        for second in LIMITS:
            apart = first.eta[1] <= second.eta[0] or first.pt[1] <= second.pt[0]
            assert apart or first == second or second.eta[1] <= first.eta[0] or second.pt[1] <= first.pt[0]


def test_claimed_from() -> None:
    assert claimed_from(10.0) == 30.0
    assert claimed_from(20.0) == 45.0
    # what the docstring says of the jets below the threshold: response 0.9, resolution 20%
    for threshold in (10.0, 20.0):
        pt = claimed_from(threshold)
        assert stats.norm.cdf((threshold - 0.9 * pt) / (0.2 * pt)) < 0.012


@pytest.mark.parametrize("tested", [1, 2, 40, 500])
def test_significance_of_independent_bins(tested: int) -> None:
    z = significance(tested, 0.01)
    assert 1.0 - (1.0 - stats.norm.sf(z)) ** tested == pytest.approx(0.01, rel=1e-9)
    assert significance(tested, 0.01, 99.0) > z  # errors that are not exact
    assert 1.0 - (1.0 - stats.t.sf(significance(tested, 0.01, 99.0), 99)) ** tested == pytest.approx(
        0.01, rel=1e-9
    )


def test_nothing_tested() -> None:
    assert math.isnan(significance(0, 0.01))


def test_false_alarms_at_the_limit() -> None:
    """Samples with every bin exactly at its limit, on either side, fail in 1% of all cases."""
    generator = np.random.default_rng(1)
    samples, limit = 100_000, np.repeat([0.002, 0.005, 0.01, 0.03], 10)
    error = limit * generator.uniform(0.02, 1 / 3, limit.size)
    truth = limit * generator.choice([-1.0, 1.0], limit.size)
    closure = generator.normal(truth, error, (samples, limit.size))
    alarms = beyond(closure, error, limit, significance(limit.size, 0.01)).any(axis=1).sum()
    assert alarms == pytest.approx(0.01 * samples, abs=4 * math.sqrt(0.01 * 0.99 * samples))
    # those without any closure never do: three errors more are needed
    clean = beyond(closure - truth, error, limit, significance(limit.size, 0.01)).any(axis=1).sum()
    assert clean == 0


def test_bins_that_share_pairs_fail_together() -> None:
    """Correlated bins, such as those of two variables, have fewer false alarms."""
    generator = np.random.default_rng(2)
    samples, bins, limit, error = 50_000, 30, 0.01, 0.003
    shared = generator.normal(0.0, 1.0, (samples, 1))
    own = generator.normal(0.0, 1.0, (samples, bins))
    closure = limit + error * (math.sqrt(0.5) * shared + math.sqrt(0.5) * own)
    alarms = beyond(closure, error, limit, significance(bins, 0.01)).any(axis=1).mean()
    assert 0.002 < alarms < 0.01


def test_a_bin_belongs_to_one_limit() -> None:
    bins = [((-1.3, 0.0), (100.0, 150.0)), ((1.3, 2.5), (30.0, 40.0)), ((-5.2, -3.0), (60.0, 80.0))]
    for eta, pt in bins:
        assert sum(limit.holds(eta, pt) for limit in LIMITS) == 1
    assert not any(limit.holds((1.0, 1.5), (100.0, 150.0)) for limit in LIMITS)
