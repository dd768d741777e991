"""Steps in a series, against trying all cuts, closed forms and toys."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from trila.corrections.changes import change_points, penalty


def chi2_of_cut(values: np.ndarray, errors: np.ndarray, edges: list[int]) -> float:
    total = 0.0
    for first, end in itertools.pairwise(edges):
        y, sigma = values[first:end], errors[first:end]
        total += float(np.sum(((y - np.average(y, weights=sigma**-2)) / sigma) ** 2))
    return total


def best_of_all_cuts(values: np.ndarray, errors: np.ndarray, cost: float) -> list[int]:
    inner = range(1, values.size)
    cuts = [cut for steps in range(values.size) for cut in itertools.combinations(inner, steps)]
    costs = [chi2_of_cut(values, errors, [0, *cut, values.size]) + cost * len(cut) for cut in cuts]
    return list(cuts[int(np.argmin(costs))])


@pytest.mark.parametrize("seed", range(12))
def test_all_cuts_tried(seed: int) -> None:
    generator = np.random.default_rng(seed)
    errors = generator.uniform(0.5, 2.0, 9)
    values = generator.normal(5.0, errors) + 6.0 * (
        np.arange(9) > generator.integers(9)
    ) * generator.integers(0, 2)
    found = change_points(values, errors, false_alarm=0.3)
    assert found.indices.tolist() == best_of_all_cuts(values, errors, penalty(errors**-2, 0.3))


def test_means_errors_and_significance() -> None:
    generator = np.random.default_rng(2)
    errors = generator.uniform(0.001, 0.002, 300)
    truth = np.repeat([1.0, 1.02, 0.99], [100, 50, 150])
    values = generator.normal(truth, errors)
    found = change_points(values, errors)
    assert found.indices.tolist() == [100, 150]
    for piece, (first, end) in enumerate(itertools.pairwise([0, 100, 150, 300])):
        weights = errors[first:end] ** -2
        assert found.means[piece] == pytest.approx(np.average(values[first:end], weights=weights), rel=1e-12)
        assert found.errors[piece] == pytest.approx(weights.sum() ** -0.5, rel=1e-12)
    difference = found.means[1] - found.means[0]
    assert found.significance[0] == pytest.approx(difference / np.hypot(*found.errors[:2]), rel=1e-12)


def test_significance_is_what_the_step_gains() -> None:
    """Its square is the loss of chi2 without the step, and not below the penalty."""
    generator = np.random.default_rng(3)
    errors = np.full(60, 1.0)
    values = generator.normal(np.where(np.arange(60) < 20, 0.0, 2.0), errors)
    found = change_points(values, errors)
    assert found.indices.size == 1
    with_step = chi2_of_cut(values, errors, [0, int(found.indices[0]), 60])
    gain = chi2_of_cut(values, errors, [0, 60]) - with_step
    assert found.significance[0] ** 2 == pytest.approx(gain, rel=1e-9)
    assert gain > penalty(errors**-2, 1e-3)


@pytest.mark.parametrize(("number", "series"), [(2, 2000), (10, 1500), (100, 600), (400, 200)])
def test_false_alarms(number: int, series: int) -> None:
    """Not more often than asked for, with errors that differ by a factor of five."""
    generator = np.random.default_rng(number)
    errors = generator.uniform(0.2, 1.0, (series, number))
    values = generator.normal(1.0, errors)
    alarms = sum(
        change_points(y, sigma, false_alarm=0.05).indices.size > 0
        for y, sigma in zip(values, errors, strict=True)
    )
    assert alarms <= stats.binom(series, 0.05).ppf(0.999)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "series"), [(30, 10_000), (300, 4000), (2000, 1500)])
def test_false_alarms_of_the_default(number: int, series: int) -> None:
    generator = np.random.default_rng(number)
    errors = np.ones(number)
    alarms = sum(change_points(generator.normal(size=number), errors).indices.size > 0 for _ in range(series))
    assert alarms <= stats.binom(series, 1e-3).ppf(0.999)


def test_penalty_of_two_values_is_exact() -> None:
    for probability in (0.3, 0.01, 1e-6):
        assert penalty([1.0, 3.0], probability) == pytest.approx(stats.chi2(1).isf(probability), rel=1e-9)


def test_penalty_bounds_a_single_step() -> None:
    """The largest gain of one step of long clean series: the penalty is above its quantile, and not much."""
    generator = np.random.default_rng(5)
    number, series = 200, 20_000
    sums = np.cumsum(generator.normal(size=(series, number)), axis=1)
    place = np.arange(1, number)
    gain = (sums[:, :-1] - place / number * sums[:, -1:]) ** 2 / (place * (1.0 - place / number))
    quantile = np.quantile(gain.max(axis=1), 0.99)
    assert quantile < penalty(np.ones(number), 0.01) < quantile + 5.0


def test_penalty_grows_slowly() -> None:
    penalties = [penalty(np.ones(number), 1e-3) for number in (2, 10, 100, 1000, 5000)]
    assert penalties == sorted(penalties)
    assert penalties[-1] < 25.0
    assert penalty([1.0], 1e-3) == np.inf


@pytest.mark.parametrize("error", [0.001, 0.002])
def test_step_of_half_a_percent_is_found_within_a_few_runs(error: float) -> None:
    """Of 400 runs, the response of the last 150 is half a percent higher."""
    generator = np.random.default_rng(6)
    truth = np.where(np.arange(400) < 250, 0.985, 0.990)
    misses = []
    for _ in range(50):
        found = change_points(generator.normal(truth, error), np.full(400, error))
        assert found.indices.size == 1
        misses.append(abs(int(found.indices[0]) - 250))
        assert found.means[1] - found.means[0] == pytest.approx(0.005, abs=5 * error / 12)
    assert np.quantile(misses, 0.9) <= 3


@pytest.mark.parametrize(("error", "runs"), [(0.001, 3), (0.0015, 5), (0.002, 7)])
def test_step_of_half_a_percent_is_noticed_soon_after(error: float, runs: int) -> None:
    """With as few runs after the step, nine of ten are seen."""
    generator = np.random.default_rng(7)
    truth = np.append(np.full(250, 0.985), np.full(runs, 0.990))
    seen = [
        change_points(generator.normal(truth, error), np.full(truth.size, error)).indices for _ in range(100)
    ]
    assert np.mean([indices.size > 0 for indices in seen]) > 0.9


def test_large_offsets_lose_no_digits() -> None:
    generator = np.random.default_rng(8)
    values, errors = generator.normal(np.repeat([0.0, 1.0], 500), 0.2), np.full(1000, 0.2)
    small, large = change_points(values, errors), change_points(values + 1e8, errors)
    np.testing.assert_array_equal(small.indices, large.indices)
    np.testing.assert_allclose(large.significance, small.significance, rtol=1e-5)


def test_outlier_is_two_steps() -> None:
    values = np.ones(50)
    values[20] = 1.1
    found = change_points(values, np.full(50, 0.01))
    assert found.indices.tolist() == [20, 21]
    np.testing.assert_allclose(found.means, [1.0, 1.1, 1.0])


def test_single_value() -> None:
    found = change_points([2.0], [0.5])
    assert found.indices.size == found.significance.size == 0
    assert (found.means.tolist(), found.errors.tolist()) == ([2.0], [0.5])


@pytest.mark.parametrize(
    ("values", "errors", "message"),
    [
        ([], [], r"values have shape \(0,\) and errors \(0,\); expected one axis, of one length, not empty"),
        ([1.0, 2.0], [1.0], r"values have shape \(2,\) and errors \(1,\)"),
        ([[1.0]], [[1.0]], r"values have shape \(1, 1\)"),
        (
            [1.0, np.nan],
            [1.0, 1.0],
            "value 1 is nan ± 1.0; expected finite values with errors above zero: leave out",
        ),
        ([1.0, 2.0], [0.0, 1.0], "value 0 is 1.0 ± 0.0"),
        ([1.0, 2.0], [1.0, np.inf], "value 1 is 2.0 ± inf"),
    ],
)
def test_bad_series_are_refused(values: list[float], errors: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change_points(values, errors)


@pytest.mark.parametrize("probability", [0.0, 1.0, float("nan")])
def test_bad_probabilities_are_refused(probability: float) -> None:
    with pytest.raises(
        ValueError, match=rf"false_alarm is {probability}; expected a probability inside \(0, 1\)"
    ):
        change_points([1.0, 2.0], [1.0, 1.0], false_alarm=probability)
