"""Weighted quantiles in cells against a slow loop."""

import numpy as np
import pytest

from trila.corrections.cells import cell_of, effective_entries, medians, sort_cells

RNG = np.random.default_rng(3)


def _slow_quantile(values: np.ndarray, weights: np.ndarray, probability: float) -> float:
    order = np.argsort(values)
    v, w = values[order], weights[order]
    middle = np.cumsum(w) - 0.5 * w
    return float(np.interp(probability * w.sum(), middle, v))


@pytest.mark.parametrize("probability", [0.5, 0.16, 0.9])
def test_quantiles_agree_with_a_loop(probability: float) -> None:
    x, y = RNG.uniform(-1, 4, 5000), RNG.normal(1, 0.2, 5000)
    weights = RNG.exponential(size=5000)
    cell, cells = cell_of((x, [0, 1, 2, 3]))
    found = medians(sort_cells(cell, y, cells), weights, probability)
    slow = [_slow_quantile(y[cell == k], weights[cell == k], probability) for k in range(cells)]
    np.testing.assert_allclose(found, slow, rtol=1e-12)


def test_median_of_unit_weights_is_that_of_numpy() -> None:
    values = RNG.normal(size=1001)
    entries = sort_cells(np.zeros(1001, np.int32), values, 1)
    # to the rounding of a sum of 1001 weights of 1/1001
    assert medians(entries, np.ones(1001))[0] == pytest.approx(np.median(values), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e12])
def test_weights_of_other_cells_do_not_matter(scale: float) -> None:
    """A cell of tiny weights after one of large ones: generator weights span many orders of magnitude."""
    values, weights = RNG.normal(size=4000), RNG.exponential(size=4000)
    cell = np.repeat(np.array([0, 1], np.int32), 2000)
    scaled = np.where(cell == 0, 1e3 * weights, scale * weights)
    entries = sort_cells(cell, values, 2)
    np.testing.assert_allclose(medians(entries, scaled), medians(entries, weights), atol=1e-11)


def test_cells_without_entries_or_weight_have_no_median() -> None:
    entries = sort_cells(np.array([0, 2, 2], np.int32), [1.0, 2.0, 3.0], 4)
    np.testing.assert_array_equal(medians(entries, [1.0, 0.0, 0.0]), [1.0, np.nan, np.nan, np.nan])
    empty = sort_cells(np.array([-1], np.int32), [1.0], 2)
    np.testing.assert_array_equal(medians(empty, [1.0]), [np.nan, np.nan])


def test_bins_hold_their_lower_edge_only() -> None:
    cell, cells = cell_of(([0.0, 1.0, 2.0, np.nan], [0, 1, 2]), ([5.0] * 4, [5, 6]))
    assert cells == 2
    np.testing.assert_array_equal(cell, [0, 1, -1, -1])


def test_effective_entries() -> None:
    found = effective_entries(np.array([0, 0, 1, -1], np.int32), [1.0, 3.0, 2.0, 9.0], 3)
    np.testing.assert_allclose(found, [16 / 10, 1.0, 0.0])
