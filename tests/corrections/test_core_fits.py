"""Gaussian cores, against closed forms, a slow fit of one histogram, and toys."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from trila.corrections.core_fits import MINIMUM_ENTRIES, Core, gaussian_core
from trila.corrections.crystal_ball_shape import crystal_ball_cdf
from trila.corrections.response import binned_quantiles

EDGES = np.linspace(0.0, 3.0, 601)
LIGHT = (1.0, 0.1, 1.5, 3.0, 2.0, 5.0)
HEAVY = (1.0, 0.1, 1.0, 2.5, 1.8, 4.0)


def gaussian_bins(mean: float, width: float, edges: np.ndarray = EDGES) -> np.ndarray:
    return np.diff(stats.norm(mean, width).cdf(edges))


def crystal_ball_bins(truth: tuple[float, ...], edges: np.ndarray = EDGES) -> np.ndarray:
    return np.diff(crystal_ball_cdf(edges, truth))


def slow_fit(truth: tuple[float, ...], mean: float, width: float, k: float) -> tuple[float, float]:
    """Fit of a truncated Gaussian in one window, by a simplex over fine bins that end where the window does."""
    edges = np.linspace(mean - k * width, mean + k * width, 401)
    share = crystal_ball_bins(truth, edges)

    def loss(parameters: np.ndarray) -> float:
        inside = gaussian_bins(parameters[0], parameters[1], edges)
        return -float(np.sum(share * np.log(inside / inside.sum())))

    fit = optimize.minimize(
        loss, [mean, width], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-13}
    )
    return float(fit.x[0]), float(fit.x[1])


def slow_core(truth: tuple[float, ...], k: float) -> tuple[float, float]:
    """The window follows until nothing changes."""
    mean, width = 1.0, 0.1
    for _ in range(60):
        before = (mean, width)
        mean, width = slow_fit(truth, mean, width, k)
        if max(abs(mean - before[0]), abs(width - before[1])) < 1e-6:
            return mean, width
    raise AssertionError


@pytest.mark.parametrize(
    ("k", "truncated"), [(1.0, 0.539560), (1.5, 0.742647), (2.0, 0.879626), (2.5, 0.954597), (3.0, 0.986578)]
)
def test_width_needs_no_correction_for_the_truncation(k: float, truncated: float) -> None:
    """The RMS within k widths is too small by a known factor; the fit in the same window is not."""
    c = stats.norm.cdf(k) - stats.norm.cdf(-k)
    assert np.sqrt(1 - 2 * k * stats.norm.pdf(k) / c) == pytest.approx(truncated, abs=1e-6)
    values = gaussian_bins(1.0, 0.1) * 1e6
    centres = 0.5 * (EDGES[1:] + EDGES[:-1])
    inside = np.abs(centres - 1) < 0.1 * k
    rms = np.sqrt(np.average((centres[inside] - 1) ** 2, weights=values[inside]))
    assert rms == pytest.approx(0.1 * truncated, rel=1e-3)
    core = gaussian_core(values, values, EDGES, k)
    # The window stops following at 1e-3 of the width, which the cut bins pass on in second order.
    np.testing.assert_allclose([core.mean, core.width], [1.0, 0.1], rtol=1e-5)
    assert core.converged


@pytest.mark.parametrize("width", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("mean", [0.97, 1.0013])
def test_unbiased_for_a_gaussian_wherever_bins_are_cut(mean: float, width: float) -> None:
    values = gaussian_bins(mean, width) * 1e5
    core = gaussian_core(values, values, EDGES)
    np.testing.assert_allclose([core.mean, core.width], [mean, width], rtol=1e-5)


def test_window_beyond_the_axis() -> None:
    edges = np.linspace(0.9, 1.12, 45)
    values = gaussian_bins(1.0, 0.1, edges) * 1e6
    core = gaussian_core(values, values, edges)
    np.testing.assert_allclose([core.mean, core.width], [1.0, 0.1], rtol=1e-3)


def test_tails_do_not_move_the_core() -> None:
    values = 1e6 * crystal_ball_bins(LIGHT)
    core = gaussian_core(values, values, EDGES)
    assert core.mean == pytest.approx(1.0, abs=1e-3)
    assert core.width == pytest.approx(0.0998, rel=0.01)
    centres = 0.5 * (EDGES[1:] + EDGES[:-1])
    assert np.average(centres, weights=values) < 0.985
    assert binned_quantiles(values, EDGES, 0.5) < 0.995


@pytest.mark.parametrize("truth", [LIGHT, HEAVY])
@pytest.mark.parametrize("k", [1.5, 2.0])
def test_agrees_with_a_slow_fit(truth: tuple[float, ...], k: float) -> None:
    values = 1e6 * crystal_ball_bins(truth)
    core = gaussian_core(values, values, EDGES, k)
    mean, width = slow_core(truth, k)
    # The window stops following when the width changes by less than 1e-3.
    assert core.mean == pytest.approx(mean, abs=2e-4)
    assert core.width == pytest.approx(width, rel=2e-3)


def test_leading_axes_are_independent() -> None:
    rng = np.random.default_rng(3)
    expected = np.stack([1000 * gaussian_bins(m, s) for m, s in ((0.9, 0.05), (1.0, 0.1), (1.1, 0.3))])
    values = rng.poisson(expected, (2, *expected.shape)).astype(float)
    together = gaussian_core(values, values, EDGES)
    assert together.mean.shape == (2, 3)
    for index in np.ndindex(2, 3):
        alone = gaussian_core(values[index], values[index], EDGES)
        for many, one in zip(together, alone, strict=True):
            assert one.shape == ()
            np.testing.assert_allclose(many[index], one, rtol=1e-9)


@pytest.mark.parametrize("entries", [1000, 10_000])
def test_pulls(entries: int) -> None:
    rng = np.random.default_rng(entries)
    toys = rng.poisson(entries * crystal_ball_bins(LIGHT), (1000, EDGES.size - 1)).astype(float)
    core = gaussian_core(toys, toys, EDGES)
    assert core.converged.all()
    pulls = np.stack(
        [(core.mean - 1) / core.mean_error, np.log(core.width / 0.1) * core.width / core.width_error]
    )
    # 1000 toys: the mean is known to 0.03, the width to 0.02; the width is biased by 1/N, 0.07 errors here.
    np.testing.assert_allclose(pulls.mean(axis=1), 0, atol=0.1)
    np.testing.assert_allclose(pulls.std(axis=1), 1, atol=0.08)


def test_errors_follow_the_weights() -> None:
    rng = np.random.default_rng(5)
    sample = rng.normal(0.95, 0.1, (400, 2000))
    weights = rng.exponential(1.0, sample.shape)
    values, squares = (
        np.stack([np.histogram(s, EDGES, weights=w)[0] for s, w in zip(sample, power, strict=True)])
        for power in (weights, weights**2)
    )
    core = gaussian_core(values, squares, EDGES)
    assert core.converged.all()
    assert np.std(core.mean) == pytest.approx(np.mean(core.mean_error), rel=0.1)
    assert np.std(core.width) == pytest.approx(np.mean(core.width_error), rel=0.1)


def test_scale_of_weights_and_unit_of_the_axis_do_not_matter() -> None:
    values = np.random.default_rng(6).poisson(500 * gaussian_bins(1.0, 0.1)).astype(float)
    core = gaussian_core(values, values, EDGES)
    weighted = gaussian_core(1e-3 * values, 1e-6 * values, EDGES)
    np.testing.assert_allclose(weighted[:4], core[:4], rtol=1e-9)
    percent = gaussian_core(values, values, 100 * EDGES)
    np.testing.assert_allclose(percent[:4], 100 * np.array(core[:4]), rtol=1e-9)


def test_empty_and_sparse_histograms_have_no_answer() -> None:
    values = np.stack([np.zeros(600), 0.98 * MINIMUM_ENTRIES * gaussian_bins(1, 0.1), np.eye(600)[3] * 1e4])
    core = gaussian_core(values, values, EDGES)
    assert np.isnan(np.stack(core[:4])).all()
    assert not core.converged.any()


def test_a_distribution_without_a_peak_is_flagged() -> None:
    """A valley: the window around the median holds no maximum, from either start."""
    edges = np.linspace(-1.0, 1.0, 201)
    centres = 0.5 * (edges[1:] + edges[:-1])
    valley, peak = 1000 * centres**2, 1e5 * gaussian_bins(0.1, 0.1, edges)
    core = gaussian_core(np.stack([valley, peak]), np.stack([valley, peak]), edges)
    np.testing.assert_array_equal(core.converged, [False, True])
    low, median, high = binned_quantiles(valley, edges, [0.25, 0.5, 0.75])
    assert core.mean[0] == median
    assert core.width[0] == pytest.approx((high - low) / 1.349, rel=1e-4)
    assert core.mean_error[0] == core.width_error[0] == core.width[0]
    assert core.mean[1] == pytest.approx(0.1, abs=1e-6)


def test_a_gap_at_the_median_is_flagged() -> None:
    edges = np.linspace(0.0, 1.0, 101)
    values = np.where(np.abs(np.arange(100) - 49.5) > 40, 100.0, 0.0)
    core = gaussian_core(values, values, edges)
    assert not core.converged
    assert np.isfinite(core.mean)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"variances have shape \(5,\) and values \(10,\); give one sum"):
        gaussian_core(np.ones(10), np.ones(5), np.arange(11))
    with pytest.raises(ValueError, match="k is -1; give the half width of the window"):
        gaussian_core(np.ones(10), np.ones(10), np.arange(11), -1)
    with pytest.raises(ValueError, match=r"values have shape \(10,\) and edges \(10,\)"):
        gaussian_core(np.ones(10), np.ones(10), np.arange(10))


def test_no_histograms_at_all() -> None:
    core: Core = gaussian_core(np.empty((0, 4, 600)), np.empty((0, 4, 600)), EDGES)
    assert core.mean.shape == core.converged.shape == (0, 4)
