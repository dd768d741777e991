"""Fisher scoring against closed forms and a general minimiser; merged bins against a loop."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, special, stats

from trila.corrections.binomial import deviances, maximise, merged_starts

Array = NDArray[np.float64]


def constant(values: Array) -> tuple[Array, Array]:
    return np.repeat(values[0], 3), np.ones((1, 3))


def test_one_efficiency_is_passed_over_total() -> None:
    passed, total = np.array([3.0, 10.0, 1.0]), np.array([10.0, 20.0, 10.0])
    fit = maximise(passed, total, constant, np.array([0.9]), np.array([0.0]), np.array([1.0]))
    assert fit.values[0] == pytest.approx(14 / 40, abs=1e-4)
    assert fit.free.all()
    assert fit.distance < 1e-6


def test_a_limit_is_reached_and_named() -> None:
    total = np.array([10.0, 20.0, 10.0])
    fit = maximise(total, total, constant, np.array([0.5]), np.array([0.0]), np.array([1.0]))
    assert fit.values[0] == 1.0
    assert not fit.free.any()


def test_the_maximum_is_that_of_a_general_minimiser() -> None:
    x = np.linspace(-3, 3, 40)
    generator = np.random.default_rng(1)
    total = generator.integers(1, 50, 40).astype(float)
    passed = generator.binomial(total.astype(int), special.expit(1.3 * x + 0.4)).astype(float)

    def model(values: Array) -> tuple[Array, Array]:
        p = special.expit(values[0] * x + values[1])
        return p, p * (1 - p) * np.stack([x, np.ones_like(x)])

    fit = maximise(passed, total, model, np.array([0.1, 0.0]), np.full(2, -10.0), np.full(2, 10.0))
    other = optimize.minimize(
        lambda v: -stats.binom.logpmf(passed, total, model(v)[0]).sum(), [0.1, 0.0], method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-10},
    )  # fmt: skip
    np.testing.assert_allclose(fit.values, other.x, atol=1e-4)
    best = stats.binom.logpmf(passed, total, passed / total).sum()
    assert fit.deviance == pytest.approx(2 * (best + other.fun), abs=1e-6)


def test_deviances_of_impossible_and_certain_bins() -> None:
    found = deviances(np.array([0.0, 4.0]), np.array([4.0, 4.0]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(found, 2 * 4 * np.log(2), rtol=1e-12)


def test_merged_bins_have_what_they_need() -> None:
    generator = np.random.default_rng(2)
    weights = generator.exponential(size=200)
    sums, squares = 5 * weights, 5 * weights**2
    starts = merged_starts(sums, squares, 30.0)
    ends = np.append(starts[1:], 200)
    for begin, end in zip(starts, ends, strict=True):
        assert sums[begin:end].sum() ** 2 / squares[begin:end].sum() >= 30.0
        # One bin fewer would not have been enough.
        assert sums[begin + 1 : end].sum() ** 2 < 30.0 * squares[begin + 1 : end].sum()
    assert sums[: starts[0]].sum() ** 2 < 30.0 * squares[: starts[0]].sum()
    assert merged_starts(np.ones(5), np.ones(5), 6.0).size == 0
