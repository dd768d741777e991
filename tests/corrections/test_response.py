"""Binned quantiles and their errors, against closed forms, unbinned NumPy and a bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trila.corrections.response import (
    CENTRAL_68,
    LARGEST_BIN,
    binned_quantiles,
    effective_entries,
    half_width,
    half_width_error,
    median_error,
)

EDGES = np.linspace(0.0, 3.0, 601)


def gaussian_bins(mean: float, width: float, edges: np.ndarray = EDGES) -> np.ndarray:
    return np.diff(stats.norm(mean, width).cdf(edges))


def slow_quantile(values: np.ndarray, edges: np.ndarray, probability: float) -> float:
    """The definition, bin by bin."""
    target, below = probability * values.sum(), 0.0
    for content, low, high in zip(values, edges[:-1], edges[1:], strict=True):
        if below + content >= target:
            return float(low + (high - low) * (target - below) / content)
        below += content
    raise AssertionError


@pytest.mark.parametrize("width", [0.02, 0.1, 0.2])
def test_quantiles_of_a_gaussian(width: float) -> None:
    probabilities = [0.05, CENTRAL_68[0], 0.5, CENTRAL_68[1], 0.95]
    quantiles = binned_quantiles(gaussian_bins(0.95, width), EDGES, probabilities)
    np.testing.assert_allclose(quantiles, stats.norm(0.95, width).ppf(probabilities), atol=3e-4)


def test_half_width_of_a_gaussian_is_its_sigma() -> None:
    values = np.stack([gaussian_bins(1.0, width) for width in (0.03, 0.1, 0.2)])
    np.testing.assert_allclose(half_width(values, EDGES), [0.03, 0.1, 0.2], rtol=5e-3)


def test_quantiles_agree_with_a_slow_loop_on_uneven_bins() -> None:
    generator = np.random.default_rng(1)
    edges = np.cumsum(generator.uniform(0.1, 2.0, 31))
    values = generator.poisson(5.0, (4, 3, 30)).astype(float)
    probabilities = [0.01, 0.3, 0.5, 0.99]
    quantiles = binned_quantiles(values, edges, probabilities)
    assert quantiles.shape == (4, 3, 4)
    for index in np.ndindex(4, 3):
        expected = [slow_quantile(values[index], edges, probability) for probability in probabilities]
        np.testing.assert_allclose(quantiles[index], expected, rtol=1e-12)


def test_leading_axes_are_independent() -> None:
    values = np.stack([gaussian_bins(0.9, 0.1), gaussian_bins(1.1, 0.2)])
    both = binned_quantiles(values, EDGES, 0.5)
    assert both.shape == (2,)
    np.testing.assert_array_equal(both, [binned_quantiles(row, EDGES, 0.5) for row in values])


def test_scale_of_the_weights_does_not_matter() -> None:
    values = gaussian_bins(1.0, 0.1)
    np.testing.assert_allclose(
        binned_quantiles(1e-9 * values, EDGES, 0.3), binned_quantiles(values, EDGES, 0.3)
    )


def test_empty_and_coarse_distributions_are_refused() -> None:
    edges = np.arange(11.0)
    values = np.ones((4, 10))
    values[1] = 0.0
    values[2, 4] = 1.01 * LARGEST_BIN / (1 - LARGEST_BIN) * 9  # just above 20%
    values[3] = -1.0
    quantiles = binned_quantiles(values, edges, [0.2, 0.5])
    assert np.isfinite(quantiles[0]).all()
    assert np.isnan(quantiles[1:]).all()
    assert np.isnan(median_error(values, np.abs(values), edges)[1:]).all()
    assert np.isnan(half_width(values, edges)[1:]).all()
    assert np.isnan(half_width_error(values, np.abs(values), edges)[1:]).all()


def test_negative_weights_stay_inside_the_axis() -> None:
    values = gaussian_bins(1.0, 0.1) * 1000
    values[::7] *= -0.1
    median = binned_quantiles(values, EDGES, 0.5)
    assert 0.98 < median < 1.02


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, [0.5, 1.5], [[0.5]]])
def test_probabilities_outside_are_refused(probability: object) -> None:
    with pytest.raises(ValueError, match=r"probabilities are .* between 0 and 1"):
        binned_quantiles(np.ones(10), np.arange(11), probability)  # type: ignore[arg-type]


def test_shapes_and_edges_are_checked() -> None:
    with pytest.raises(ValueError, match=r"values have shape \(10,\) and edges \(10,\)"):
        binned_quantiles(np.ones(10), np.arange(10), 0.5)
    with pytest.raises(ValueError, match="edges must increase"):
        binned_quantiles(np.ones(2), [0.0, 2.0, 1.0], 0.5)


def test_effective_entries() -> None:
    weights = np.random.default_rng(2).exponential(1.0, 1000)
    assert effective_entries([weights.sum()], [(weights**2).sum()]) == pytest.approx(
        weights.sum() ** 2 / (weights**2).sum()
    )
    np.testing.assert_array_equal(effective_entries(np.zeros((3, 5)), np.zeros((3, 5))), np.zeros(3))


@pytest.mark.parametrize("entries", [100, 2000])
def test_errors_agree_with_repeated_experiments(entries: int) -> None:
    generator = np.random.default_rng(entries)
    expected = entries * gaussian_bins(0.95, 0.1)
    toys = generator.poisson(expected, (2000, expected.size)).astype(float)
    median_spread = np.std(binned_quantiles(toys, EDGES, 0.5))
    width_spread = np.std(half_width(toys, EDGES))
    assert np.mean(median_error(toys, toys, EDGES)) == pytest.approx(median_spread, rel=0.1)
    assert np.mean(half_width_error(toys, toys, EDGES)) == pytest.approx(width_spread, rel=0.1)


def test_median_error_agrees_with_a_bootstrap() -> None:
    generator = np.random.default_rng(3)
    sample = 0.9 + 0.15 * generator.standard_t(4, 1500)
    copies = generator.choice(sample, (1000, sample.size))
    values = np.histogram(sample, EDGES)[0].astype(float)
    assert median_error(values, values, EDGES) == pytest.approx(np.std(np.median(copies, axis=1)), rel=0.15)


def test_errors_follow_the_weights() -> None:
    generator = np.random.default_rng(4)
    entries, experiments = 500, 800
    sample = generator.normal(0.95, 0.1, (experiments, entries))
    weights = generator.exponential(1.0, sample.shape)
    values = np.stack([np.histogram(s, EDGES, weights=w)[0] for s, w in zip(sample, weights, strict=True)])
    squares = np.stack(
        [np.histogram(s, EDGES, weights=w**2)[0] for s, w in zip(sample, weights, strict=True)]
    )
    spread = np.std(binned_quantiles(values, EDGES, 0.5))
    assert np.mean(median_error(values, squares, EDGES)) == pytest.approx(spread, rel=0.1)


def test_gaussian_errors_are_the_textbook_ones() -> None:
    entries = 10_000
    values = entries * gaussian_bins(1.0, 0.1)
    assert median_error(values, values, EDGES) == pytest.approx(np.sqrt(np.pi / 2) * 0.1 / 100, rel=0.03)
