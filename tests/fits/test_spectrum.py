"""Spectra are what their numbers say, and numbers that make none are refused in words."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trila.fits.errors import FitError
from trila.fits.spectrum import Spectrum, checked, from_rows, masked, rebin, scale, select

EDGES = [1530.0, 1607.0, 1687.0, 1770.0, 1856.0]
COUNTS = [40.0, 30.0, 20.0, 10.0]
WEIGHTED = checked(EDGES, [4.0, 3.0, 0.0, 1.0], [2.0, 4.5, 0.0, 0.1], name="w")


def plain() -> Spectrum:
    return checked(EDGES, COUNTS, name="s")


def test_event_counts() -> None:
    spectrum = plain()
    assert spectrum.variances is None
    assert spectrum.used.all()
    assert spectrum.used.shape == spectrum.counts.shape == (4,)
    assert spectrum.counts.dtype == spectrum.edges.dtype == np.float64
    np.testing.assert_array_equal(scale(spectrum), 1.0)


def test_counts_as_their_own_variances_are_event_counts() -> None:
    assert checked(EDGES, COUNTS, COUNTS, name="s").variances is None
    assert checked([0, 1, 2], [0, 0], [0, 0], name="s").variances is None


def test_rounding_of_density_times_width_is_undone() -> None:
    width = np.diff(EDGES)
    spectrum = checked(EDGES, np.array([7.0, 3.0, 1e6 + 1, 0.0]) / width * width, name="s")
    np.testing.assert_array_equal(spectrum.counts, [7.0, 3.0, 1e6 + 1, 0.0])
    assert checked([0, 1], [-1e-9], name="s").counts[0] == 0.0


def test_sums_of_weights_keep_their_variances() -> None:
    spectrum = checked(EDGES, COUNTS, np.multiply(COUNTS, 5), name="s")
    np.testing.assert_array_equal(spectrum.variances, [200, 150, 100, 50])
    assert checked([0, 1, 2], [-0.5, 2], [0.3, 0.4], name="s").counts[0] == -0.5


@pytest.mark.parametrize(
    ("edges", "counts", "variances", "message"),
    [
        ([0], [], None, r"s: its counts have the shape \(0,\); expected a list of at least one bin"),
        ([0, 1], [[1]], None, r"shape \(1, 1\)"),
        ([0, 1], [1, 2], None, r"edges of shape \(2,\) for 2 bins; give 3 edges"),
        ([0, 2, 1], [1, 2], None, "edge 2 is followed by 1; edges must increase"),
        ([0, 1, 1], [1, 2], None, "edge 1 is followed by 1"),
        ([0, np.inf], [1], None, "edge 2 is inf; expected a mass in GeV"),
        ([0, 1, 2], [1, np.nan], None, "count of the bin 1 to 2 GeV is nan; expected a number"),
        ([0, 1, 2], [np.inf, 1], None, "count of the bin 0 to 1 GeV is inf"),
        ([0, 1, 2], [3, -2], None, "count of the bin 1 to 2 GeV is -2; events cannot be fewer than 0"),
        ([0, 1, 2], [3, 2.5], None, "count of the bin 1 to 2 GeV is 2.5, no integer; .* the variances"),
        ([0, 1, 2], [3, 2.5], [1, np.nan], "variance of the bin 1 to 2 GeV is nan"),
        ([0, 1, 2], [3, 2.5], [1], r"variances of shape \(1,\) for 2 bins; give one for each bin"),
        ([0, 1, 2], [3, 2.5], [1, -1], "variance of the bin 1 to 2 GeV is -1 for a sum of weights of 2.5"),
        ([0, 1, 2], [3, 2.5], [0, 1], "variance of the bin 0 to 1 GeV is 0 .* above zero"),
    ],
)
def test_what_makes_no_spectrum(
    edges: list[float], counts: list[float], variances: object, message: str
) -> None:
    with pytest.raises(FitError, match=message):
        checked(edges, counts, variances, name="s")  # type: ignore[arg-type]


def test_rows_make_the_same_spectrum() -> None:
    spectrum = from_rows(EDGES[:-1], EDGES[1:], COUNTS, name="s")
    for ours, expected in zip(spectrum, plain(), strict=True):
        np.testing.assert_array_equal(ours, expected)
    # edges as written from both sides, not bit for bit the same
    third = from_rows([0, 0.1 + 0.2], [0.3, 0.6], [1, 2], name="s")
    np.testing.assert_array_equal(third.edges, [0, 0.1 + 0.2, 0.6])


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0, 2], [1, 3], "gap between bins, 1 to 2 GeV; give a row for each bin"),
        ([0, 0.5], [1, 3], "bins overlap from 0.5 to 1 GeV"),
        ([0, 1], [1, 1], "the bin 1 to 1 GeV is empty or reversed; expected low < high"),
        ([1, 0], [2, 1], "the bin at 1 GeV is followed by one at 0 GeV; sort by mass"),
        ([0, np.nan], [1, 2], "edge of the bin nan to 2 GeV is nan"),
        ([], [], r"lower edges of shape \(0,\)"),
        ([0], [1, 2], r"upper edges of shape \(2,\); expected a row for each bin"),
        ([-1e308, 0], [0, 1e308], "edge of the bin"),
    ],
)
def test_rows_that_make_no_spectrum(low: list[float], high: list[float], message: str) -> None:
    with pytest.raises(FitError, match=message):
        from_rows(low, high, [1] * len(low), name="s")


@pytest.mark.parametrize(
    ("low", "high", "edges"),
    [
        (1530, 1856, EDGES),
        (1607, 1770, EDGES[1:4]),
        (1607 * (1 + 5e-10), 1770 * (1 - 5e-10), EDGES[1:4]),
        (1550, 1800, EDGES[1:4]),  # inwards, from both sides
        (1608, 1770, EDGES[2:4]),
    ],
)
def test_select_takes_the_bins_inside(low: float, high: float, edges: list[float]) -> None:
    spectrum = masked(WEIGHTED, [(1700, 1701)])
    found = select(spectrum, low, high)
    inside = [i for i in range(4) if EDGES[i] >= edges[0] and EDGES[i + 1] <= edges[-1]]
    np.testing.assert_array_equal(found.edges, edges)
    np.testing.assert_array_equal(found.counts, spectrum.counts[inside])
    np.testing.assert_array_equal(found.variances, WEIGHTED.variances[inside])  # type: ignore[index]
    np.testing.assert_array_equal(found.used, spectrum.used[inside])


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (1000, 1770, "s: range 1000:1770 reaches outside the data; choose one within 1530 to 1856 GeV"),
        (1530, 2000, "range 1530:2000 reaches outside"),
        (3000, 4000, "reaches outside"),
        (1770, 1607, "range 1770:1607 is empty; expected low < high, within 1530 to 1856 GeV"),
        (np.nan, 1607, "is empty"),
        (1610, 1620, "no bin lies inside the range 1610:1620; .* edges are 1607, 1687, 1770"),
        (1610, 1690, "no bin lies inside"),
    ],
)
def test_ranges_that_cannot_be_selected(low: float, high: float, message: str) -> None:
    with pytest.raises(FitError, match=message):
        select(plain(), low, high)


@settings(deadline=None, max_examples=50)
@given(counts=st.lists(st.integers(0, 10**9), min_size=2, max_size=30), data=st.data())
def test_rebin_adds_what_lies_between_the_edges(counts: list[int], data: st.DataObject) -> None:
    edges = np.geomspace(200, 9000, len(counts) + 1)
    kept = sorted(data.draw(st.sets(st.integers(0, len(counts)), min_size=2)))
    weighted = checked(edges, np.array(counts) + 0.5, np.array(counts) + 0.25, name="s")
    hidden = data.draw(st.integers(0, len(counts) - 1))
    used = np.arange(len(counts)) != hidden
    found = rebin(weighted._replace(used=used), edges[kept] * (1 + 5e-10))
    np.testing.assert_array_equal(found.edges, edges[kept])
    for i, (first, last) in enumerate(pairwise(kept)):
        assert found.counts[i] == sum(counts[first:last]) + 0.5 * (last - first)
        assert found.variances is not None
        assert found.variances[i] == sum(counts[first:last]) + 0.25 * (last - first)
        assert found.used[i] == (not first <= hidden < last)


def test_rebin_of_event_counts() -> None:
    found = rebin(plain(), [1607, 1770, 1856])
    np.testing.assert_array_equal(found.counts, [50, 10])
    assert found.variances is None


def test_an_edge_at_zero() -> None:
    spectrum = checked([-1, 0, 1, 2], [1, 2, 3], name="s")
    np.testing.assert_array_equal(rebin(spectrum, [1e-12, 2]).counts, [5])
    np.testing.assert_array_equal(select(spectrum, 1e-12, 2).counts, [2, 3])


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (
            [1530, 1650, 1700],
            "s: new edge 1650 GeV is none of the spectrum's; leave it out, or take the nearest, 1607 or 1687 GeV",
        ),
        ([1000, 1607], "new edge 1000 GeV is none"),
        ([1607, 2000], "new edge 2000 GeV is none .* 1770 or 1856 GeV"),
        ([1607, 1530], "s: new edges: edge 1607 is followed by 1530; edges must increase"),
        ([1607, 1607.0000001, 1687], "new edges 1607 and 1607.0000001 GeV are the same"),
        ([1607, np.nan], "new edges: edge 2 is nan"),
        ([1607], r"new edges of shape \(1,\); give at least two"),
    ],
)
def test_edges_that_cannot_be_merged_to(edges: list[float], message: str) -> None:
    with pytest.raises(FitError, match=message):
        rebin(plain(), edges)


@pytest.mark.parametrize(
    ("windows", "used"),
    [
        ([], [True, True, True, True]),
        ([(1650, 1651)], [True, False, True, True]),
        ([(1607, 1687)], [True, False, True, True]),  # neighbours only touch it
        ([(1606.9, 1687.1)], [False, False, False, True]),
        ([(0, 1531), (1800, 9000)], [False, True, True, False]),
        ([(5000, 6000)], [True, True, True, True]),
    ],
)
def test_bins_that_overlap_a_window_are_hidden(windows: list[tuple[float, float]], used: list[bool]) -> None:
    found = masked(plain(), windows)
    np.testing.assert_array_equal(found.used, used)
    np.testing.assert_array_equal(found.counts, COUNTS)


def test_masks_add_up() -> None:
    found = masked(masked(plain(), [(1540, 1541)]), [(1850, 1851)])
    np.testing.assert_array_equal(found.used, [False, True, True, False])


def test_windows_that_cannot_be() -> None:
    with pytest.raises(FitError, match="s: window 5:5 is empty; expected low < high, in GeV"):
        masked(plain(), [(1, 2), (5, 5)])
    with pytest.raises(
        FitError, match="no bin from 1530 to 1856 GeV is left outside the windows; give narrower"
    ):
        masked(plain(), [(1000, 2000)])


def test_scale_is_the_mean_weight_and_that_of_the_neighbours_in_empty_bins() -> None:
    np.testing.assert_allclose(scale(WEIGHTED), [0.5, 1.5, (1.5 + 0.1) / 2, 0.1])
    counts, variances = [0, 0, 2, 0, 0, 4, 0], [0, 0.5, 3, 0, 0, 2, 0]
    spectrum = checked(np.arange(8), counts, variances, name="s")
    np.testing.assert_allclose(scale(spectrum), [1.5, 1.5, 1.5, 1, 1, 0.5, 0.5])


def test_scale_gives_back_the_mean_and_variance_of_weighted_events() -> None:
    """n = count / scale is taken as Poisson: scale n has the variance scale² n, which is that of the sum of weights."""
    rng = np.random.default_rng(4)
    events = rng.poisson(30.0, 20_000)
    weights = rng.exponential(2.0, events.sum())
    which = np.repeat(np.arange(events.size), events)
    sums = np.bincount(which, weights, events.size)
    squares = np.bincount(which, weights**2, events.size)
    found = scale(checked(np.arange(events.size + 1), sums, squares, name="s"))
    assert sums.mean() == pytest.approx(30 * 2.0, rel=0.01)
    assert np.mean(found**2 * (sums / found)) == pytest.approx(sums.var(), rel=0.03)
    assert sums.var() == pytest.approx(30 * 2 * 2.0**2, rel=0.03)


def test_scale_cannot_be_had_of_negative_or_no_events() -> None:
    spectrum = checked([0, 1, 2, 3], [1.5, -0.5, 2.5], [1, 1, 1], name="s")
    with pytest.raises(
        FitError, match=re.escape("weights of the bin 1 to 2 GeV sum to -0.5; a fit needs 0 or more")
    ):
        scale(spectrum)
    np.testing.assert_allclose(scale(masked(spectrum, [(1, 2)])), [1 / 1.5, (1 / 1.5 + 0.4) / 2, 0.4])
    with pytest.raises(FitError, match="no bin has events; give another spectrum or range"):
        scale(checked([0, 1], [0], [1.0], name="s"))
