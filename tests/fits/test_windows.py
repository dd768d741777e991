"""Sliding windows, against loops over masses and bins."""

import numpy as np
import pytest
from scipy.special import ndtr

from trila.fits.errors import FitError
from trila.fits.signals import Gaussian, Resolution
from trila.fits.spectrum import Spectrum, checked, masked
from trila.fits.windows import merged, sliding

SIGNAL = Resolution(0.01, 0.0002)
EDGES = np.geomspace(8.0, 40.0, 641)
COUNTS = np.random.default_rng(1).poisson(1e4 / EDGES[:-1])


def spectrum() -> Spectrum:
    """Bins of a quarter of a percent, with one veto and one weightless end."""
    return masked(checked(EDGES, COUNTS, name="toy"), [(20.0, 20.5)])


def test_windows_are_those_of_a_loop() -> None:
    data = spectrum()
    masses = np.array([9.0, 12.5, 19.6, 24.0, 30.0, 39.5])
    found = sliding(data, SIGNAL, masses, 13000.0, parameters=4, nsigma=6.0)
    assert found.skipped == ()
    np.testing.assert_array_equal(found.masses, masses)
    for i, mass in enumerate(masses):
        half = 6.0 * mass * np.hypot(0.01, 0.0002 * mass)
        inside = [
            k
            for k in range(COUNTS.size)
            if EDGES[k + 1] > mass - half and EDGES[k] < mass + half and data.used[k]
        ]
        used = np.flatnonzero(found.windows.weight[i]) + found.first[i]
        np.testing.assert_array_equal(used, inside)
        bins = slice(found.first[i], found.first[i] + found.windows.counts.shape[1])
        np.testing.assert_array_equal(found.windows.counts[i], COUNTS[bins])
        np.testing.assert_array_equal(found.windows.edges[i], EDGES[bins.start : bins.stop + 1])
    np.testing.assert_array_equal(found.truncated, masses == 39.5)
    # the veto is inside the window of 19.6 GeV, and its bins have kept their places
    weight = found.windows.weight[2]
    assert np.any(weight[: weight.nonzero()[0].max()] == 0)


def test_weights_are_those_of_weighted_events() -> None:
    weighted = checked(EDGES, 0.5 * COUNTS, 0.25 * COUNTS, name="weights")
    found = sliding(weighted, SIGNAL, [15.0], 13000.0, parameters=4)
    np.testing.assert_allclose(found.windows.weight, 2.0)


def test_masses_without_a_window_are_named_with_the_reason() -> None:
    counts = np.where(EDGES[:-1] > 34, 0, COUNTS)
    data = masked(checked(EDGES, counts, name="toy"), [(20.0, 22.0), (22.3, 24.0)])
    masses = [7.0, 15.0, 21.0, 38.0, 45.0]
    found = sliding(data, SIGNAL, masses, 13000.0, parameters=4, nsigma=5.0)
    np.testing.assert_array_equal(found.masses, [15.0])
    reasons = {one.mass: one.reason for one in found.skipped}
    assert reasons == {
        7.0: "outside of the spectrum, 8 to 40 GeV",
        21.0: "in a bin that is not used, such as a veto",
        38.0: "no events in its window",
        45.0: "outside of the spectrum, 8 to 40 GeV",
    }
    few = sliding(data, SIGNAL, [15.0, 8.05], 13000.0, parameters=10, nsigma=3.0)
    assert few.skipped[0].reason.startswith("15 used bins within 3 widths, expected at least 20; widen")
    # between two vetoes, less than half of a peak can be seen
    hidden = sliding(data, SIGNAL, [15.0, 22.1], 13000.0, parameters=4, nsigma=12.0)
    assert hidden.skipped == ((22.1, "35% of the signal is in used bins, expected at least 50%"),)
    seen = np.diff(ndtr((EDGES / 22.1 - 1) / np.hypot(0.01, 0.0002 * 22.1)))[data.used].sum()
    assert round(100 * seen) == 35


def test_merged_bins_are_as_wide_as_asked_for_and_no_narrower_than_needed() -> None:
    data = spectrum()
    masses = np.linspace(9.0, 39.0, 10)
    coarse = merged(data, Gaussian(0.05), masses)
    widest = 0.05 * np.clip(coarse.edges[:-1], 9.0, 39.0) / 3
    width = np.diff(coarse.edges)
    assert np.all(width <= widest * (1 + 1e-9))
    # the next bin of the original would have been too much, or is on the other side of a veto
    position = np.searchsorted(data.edges, coarse.edges[1:-1] * (1 + 1e-12)) - 1
    following = data.edges[position + 1] - coarse.edges[:-2]
    at_veto = data.used[position] != data.used[position - 1]
    assert np.all((following > widest[:-1]) | at_veto)
    assert at_veto.sum() == 2
    assert coarse.counts.sum() == COUNTS.sum()
    assert COUNTS[data.used].sum() == coarse.counts[coarse.used].sum()


def test_wide_bins_stay() -> None:
    data = spectrum()
    assert merged(data, Gaussian(0.001), [10.0]).counts.size == COUNTS.size


def test_messages() -> None:
    with pytest.raises(FitError, match=r"none of 2 masses has a window; at 5 GeV: outside of .*choose other"):
        sliding(spectrum(), SIGNAL, [5.0, 20.2], 13000.0, parameters=3)
    with pytest.raises(FitError, match=r"none of 0 masses has a window; choose other masses"):
        sliding(spectrum(), SIGNAL, [], 13000.0, parameters=3)
    with pytest.raises(FitError, match=r"nsigma contains 0, expected finite values above 0; give the half"):
        sliding(spectrum(), SIGNAL, [15.0], 13000.0, parameters=3, nsigma=0.0)
    with pytest.raises(FitError, match=r"per_sigma contains -1, expected .*; give bins in one width"):
        merged(spectrum(), SIGNAL, [15.0], per_sigma=-1.0)
