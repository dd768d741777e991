"""Response against run, and where it changes."""

import numpy as np

from trila.corrections.run_series import response_by_run, suggested_ranges

RNG = np.random.default_rng(8)


def _sample(step: float) -> tuple[np.ndarray, np.ndarray]:
    """60 runs of 4000 jets each; from run 1040 on the response is higher."""
    run = np.repeat(np.arange(1000, 1060), 4000)
    return run, RNG.normal(1.0 + step * (run >= 1040), 0.1)


def test_medians_and_errors_are_those_of_a_loop() -> None:
    run, response = _sample(0.0)
    series = response_by_run(run, response, np.ones(run.size))
    np.testing.assert_array_equal(series.run, np.arange(1000, 1060))
    np.testing.assert_allclose(
        series.response, [np.median(response[run == r]) for r in series.run], atol=1e-12
    )
    pulls = (series.response - 1.0) / series.error
    assert 0.75 < pulls.std() < 1.3


def test_runs_with_few_entries_are_left_out() -> None:
    series = response_by_run([5] * 200 + [6] * 3, RNG.normal(1, 0.1, 203), np.ones(203))
    assert series.run.tolist() == [5]


def test_a_step_of_half_a_percent_is_found_and_none_is_made_up() -> None:
    for step, expected in ((0.005, [1000, 1040]), (0.0, [1000])):
        run, response = _sample(step)
        found = suggested_ranges(response_by_run(run, response, np.ones(run.size)))
        assert len(found) == len(expected)
        assert all(abs(a - b) <= 2 for a, b in zip(found, expected, strict=True))
    assert suggested_ranges(response_by_run([], [], [])) == []
