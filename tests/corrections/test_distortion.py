"""The distortion of a mass spectrum, against spectra whose masses are really changed."""

from __future__ import annotations

import numpy as np
import pytest

from trila.corrections.distortion import mass_distortion

GRID = np.linspace(6.0, 8.0, 401)
CENTRE = 7.0


def wiggle(log_mass: np.ndarray, height: float, width: float) -> np.ndarray:
    return height * np.exp(-0.5 * ((log_mass - CENTRE) / width) ** 2)


def really_distorted(edges: np.ndarray, height: float, width: float, index: float) -> np.ndarray:
    """ln of the ratio of the contents of bins in ln m after and before m → m (1 + wiggle(m)), without approximation.

    An edge of the new spectrum is where some mass went to; the content between two is that of the old one between their
    origins, and m^-n has a primitive.
    """
    before = np.linspace(edges[0] - 0.1, edges[-1] + 0.1, 2_000_001)
    origins = np.interp(edges, before + np.log1p(wiggle(before, height, width)), before)

    def contents(log_edges: np.ndarray) -> np.ndarray:
        return -np.diff(np.exp(-(index - 1.0) * (log_edges - CENTRE)))

    return np.log(contents(origins) / contents(edges))


@pytest.mark.parametrize("index", [4.0, 6.0, 8.0])
@pytest.mark.parametrize("width", [0.03, 0.05, 0.2])
@pytest.mark.parametrize("height", [1e-4, -1e-4])
def test_spectrum_whose_masses_are_changed(height: float, width: float, index: float) -> None:
    edges = np.linspace(6.4, 7.6, 601)
    centres = 0.5 * (edges[1:] + edges[:-1])
    expected = really_distorted(edges, height, width, index)
    found = mass_distortion(centres, wiggle(centres, height, width), index)
    # second order: height/width of the largest effect
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=largest * (1.5 * abs(height) / width + 0.002))


def test_a_permille_wiggle_of_five_percent_width_makes_a_bump_of_one_and_a_half_percent() -> None:
    """n = 6: 1.541% when masses are really changed, and within 1% of that to first order."""
    exact = really_distorted(np.linspace(6.5, 7.5, 4001), 1e-3, 0.05, 6.0)
    assert np.abs(exact).max() == pytest.approx(1.541e-2, rel=3e-4)
    found = mass_distortion(GRID, wiggle(GRID, 1e-3, 0.05), 6.0)
    assert np.abs(found).max() == pytest.approx(1.541e-2, rel=0.01)


def test_first_order_in_closed_form() -> None:
    """Of a Gaussian: ε (n - 1 + (x - x0)/w²), on a grid with four points a standard deviation, to 0.1%."""
    grid = np.arange(6.0, 8.0, 0.05 / 4)
    epsilon = wiggle(grid, 1e-3, 0.05)
    expected = epsilon * (5.0 + (grid - CENTRE) / 0.05**2)
    np.testing.assert_allclose(
        mass_distortion(grid, epsilon, 6.0), expected, atol=1e-3 * np.abs(expected).max()
    )


def test_events_whose_masses_are_changed() -> None:
    """A toy spectrum of two million events, with a wiggle of 2%."""
    generator = np.random.default_rng(1)
    mass = np.exp(6.3) * (1.0 - generator.random(2_000_000)) ** (-1 / 4.0)  # m^-5
    edges = np.linspace(6.5, 7.5, 26)
    before = np.histogram(np.log(mass), edges)[0]
    mass *= 1.0 + wiggle(np.log(mass), 0.02, 0.25)
    after = np.histogram(np.log(mass), edges)[0]
    centres = 0.5 * (edges[1:] + edges[:-1])
    found = mass_distortion(centres, wiggle(centres, 0.02, 0.25), 5.0)
    assert found.max() > 0.1
    # the same events: only those that cross an edge fluctuate; second order is 1%
    np.testing.assert_allclose(np.log(after / before), found, atol=0.02)


def test_index_may_depend_on_the_mass_and_several_wiggles_go_at_once() -> None:
    index = np.linspace(5.0, 7.0, GRID.size)
    both = np.stack([wiggle(GRID, 1e-3, 0.1), wiggle(GRID, -2e-3, 0.2)])
    found = mass_distortion(GRID, both, index)
    assert found.shape == both.shape
    for row, epsilon in zip(found, both, strict=True):
        np.testing.assert_allclose(row, mass_distortion(GRID, epsilon, index), rtol=1e-12, atol=1e-18)
        at_centre = row[200] / epsilon[200]  # the slope is zero there
        assert at_centre == pytest.approx(5.0, abs=1e-6)


def test_power_law_of_the_scale_changes_the_index() -> None:
    """m → m (1 + a ln m): a straight line, of which the spline's derivative is exact."""
    np.testing.assert_allclose(mass_distortion(GRID, 1e-3 * GRID, 6.0), 5e-3 * GRID - 1e-3, rtol=1e-9)


@pytest.mark.parametrize("grid", [[6.0, 6.1, 6.2], [6.0, 6.2, 6.1, 6.3], [[6.0, 6.1, 6.2, 6.3]]])
def test_bad_grids_are_refused(grid: list[float]) -> None:
    with pytest.raises(
        ValueError, match=r"log_mass has shape \(.*\); expected one axis of 4 or more ascending numbers"
    ):
        mass_distortion(grid, np.zeros_like(grid), 6.0)


def test_epsilon_on_another_grid_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"epsilon has shape \(4,\) and log_mass \(401,\); the last axes must be of one"
    ):
        mass_distortion(GRID, np.zeros(4), 6.0)
    with pytest.raises(ValueError, match=r"epsilon has shape \(\) and log_mass \(401,\)"):
        mass_distortion(GRID, 0.0, 6.0)
