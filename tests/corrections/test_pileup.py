"""The pile-up offset, against toys whose offset is known and a scalar formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trila.corrections.cells import cell_of, medians, sort_cells
from trila.corrections.pairs import Pairs
from trila.corrections.pileup import Offset, derive_offset

ETA = (-2.5, -1.3, 1.3, 2.5)
PT = (30.0, 40.0, 55.0, 75.0, 100.0, 150.0, 220.0, 320.0)


def toy(
    number: int, seed: int, slope: float = 0.08, rise: float = 0.0, *, unit: bool = False, flat: bool = False
) -> Pairs:
    """Two pairs an event; HLT jets carry (slope + rise ln(pT/100)) · A · (ρ - 20), and a scale that depends on pT and η.

    With `unit`, the areas are not known: they are 1. With `flat`, there are as many pairs at all ln pT.
    """
    generator = np.random.default_rng(seed)
    uniform = 1.0 - generator.random(number)
    true = 20.0 * (25.0**uniform if flat else uniform ** (-1 / 3))  # p^-4 else
    tag = true * generator.normal(1.0, 0.10, number)
    probe = true * np.minimum(np.abs(generator.normal(1.0, 0.2, number)) + 0.1, 2.0)
    shared, own = generator.normal(size=(2, number))
    offline = probe * np.abs(1.0 + 0.8 / np.sqrt(probe) * shared)
    eta = generator.uniform(-2.5, 2.5, number)
    scale = 0.92 + 0.02 * np.log(probe / 30.0) - 0.02 * np.abs(eta)
    hlt = probe * scale * np.abs(1.0 + 1.0 / np.sqrt(probe) * (0.75 * shared + 0.66 * own))
    rho = np.repeat(generator.normal(22.0, 5.6, number // 2), 2)
    area = np.ones(number) if unit else generator.normal(0.5, 0.02, number)
    hlt = hlt.clip(1.0)
    hlt += (slope + rise * np.log(hlt / 100.0)) * area * (rho - 20.0)
    return Pairs(
        hlt=hlt.clip(1.0).astype(np.float32),
        offline=offline.astype(np.float32),
        tag=tag.astype(np.float32),
        eta=eta.astype(np.float32),
        phi=np.zeros(number),
        weight=np.ones(number),
        run=np.full(number, 380000 + seed),
        luminosity_block=np.full(number, 7),
        event=np.arange(number) // 2,
        pileup=rho.astype(np.float32),
        area=None if unit else area.astype(np.float32),
    )


def derived(pairs: Pairs, **options: int) -> Offset:
    offset = derive_offset(pairs, ETA, PT, **options)
    assert offset is not None
    return offset


@pytest.fixture(scope="module")
def large() -> Pairs:
    return toy(400_000, seed=1)


@pytest.fixture(scope="module")
def offset(large: Pairs) -> Offset:
    return derived(large)


def test_offset_of_a_toy_is_found(large: Pairs, offset: Offset) -> None:
    assert np.all(np.abs(offset.s0 - 0.08) < 3.0 * offset.error)
    assert np.all(offset.error < 0.015)  # 5 sigma
    np.testing.assert_array_equal(offset.s1, 0.0)
    assert large.pileup is not None
    assert offset.rho_0 == pytest.approx(22.0, abs=0.05)
    # ± 2.326 standard deviations of the Gaussian
    assert offset.rho_range == pytest.approx((22.0 - 2.326 * 5.6, 22.0 + 2.326 * 5.6), abs=0.1)
    assert offset.uses_area
    assert offset.eta_edges == ETA
    # tags of 30 to 40 GeV have probes of 31 GeV, spread by 30%
    np.testing.assert_allclose(offset.pt_range[:, 0], 31.0 * np.exp(-0.3), atol=2.0)
    assert np.all(offset.pt_range[:, 1] > 120.0)


def test_no_dependence_is_left(large: Pairs, offset: Offset) -> None:
    again = derived(offset.subtract(large))
    assert np.all(np.abs(again.s0) < 0.2 * again.error)
    # Looked at in another way: medians of the plain response in three bins of pile-up.
    assert large.pileup is not None
    cell, cells = cell_of((large.tag, [30.0, 45.0]), (large.pileup, [10.0, 18.0, 26.0, 34.0]))

    def response(pairs: Pairs) -> np.ndarray:
        return medians(sort_cells(cell, pairs.hlt / pairs.offline, cells), pairs.weight)

    # 8 GeV of ρ are 0.32 GeV of 35, about 1%
    np.testing.assert_allclose(np.diff(response(large)), 0.01, atol=0.004)
    np.testing.assert_allclose(np.diff(response(offset.subtract(large))), 0.0, atol=0.003)


def test_pulls() -> None:
    """Over toys the error is the scatter."""
    found = [derived(toy(20_000, seed, 0.3), replicas=40) for seed in range(100, 140)]
    s0, error = (np.concatenate([getattr(each, name) for each in found]) for name in ("s0", "error"))
    pulls = (s0 - 0.3) / error
    # of 120 pulls: mean to 0.09, width to 0.065; the difference of models can only make the error larger
    assert abs(pulls.mean()) < 0.28
    assert 0.75 < pulls.std() < 1.15


def test_nothing_is_found_where_nothing_is() -> None:
    offset = derived(toy(200_000, seed=3, slope=0.0))
    assert np.all(np.abs(offset.s0) < 3.0 * offset.error)
    np.testing.assert_array_equal(offset.s1, 0.0)


def test_mean_number_of_interactions_instead_of_the_density() -> None:
    """Integers, without areas: the slope is GeV per interaction."""
    pairs = toy(300_000, seed=4, slope=0.0, unit=True)
    generator = np.random.default_rng(5)
    mu = np.repeat(generator.poisson(40.0, pairs.hlt.size // 2), 2)
    pairs = pairs._replace(hlt=pairs.hlt + 0.03 * (mu - 40.0), pileup=mu)
    offset = derived(pairs)
    assert not offset.uses_area
    assert np.all(np.abs(offset.s0 - 0.03) < 3.0 * offset.error)
    assert np.all(offset.error < 0.01)
    assert np.all(np.abs(derived(offset.subtract(pairs)).s0) < 0.2 * offset.error)


def test_slope_that_rises_with_pt() -> None:
    pairs = toy(400_000, seed=6, slope=0.5, rise=0.25, flat=True)
    offset = derived(pairs)
    np.testing.assert_allclose(offset.s0, 0.5, atol=0.05)
    np.testing.assert_allclose(offset.s1, 0.25, atol=0.06)
    # A constant would be off by 0.25 times the spread of ln pT. The fit weighs as 1/pT here, between 30 and 320 GeV: an
    # exponential in ln pT, cut off at 2.37, has a spread of 0.60.
    np.testing.assert_allclose(offset.error, 0.25 * 0.60, rtol=0.15)
    again = derived(offset.subtract(pairs))
    assert np.all(np.abs(again.s0) < 0.02)
    np.testing.assert_array_equal(again.s1, 0.0)


def test_errors_know_that_entries_of_an_event_belong_together() -> None:
    """Every event four times, under its own name: the same error as once. Under other names: half of it."""
    once = toy(30_000, seed=7, slope=0.3)
    copies = once.take(np.tile(np.arange(30_000), 4))
    apart = copies._replace(event=np.arange(120_000))
    # with two bins of pT there is but one model, and the error is statistical
    found = [derive_offset(pairs, ETA, (30.0, 40.0, 80.0), replicas=200) for pairs in (once, copies, apart)]
    errors = [offset.error for offset in found if offset is not None]
    np.testing.assert_allclose(errors[1], errors[0], rtol=0.03)
    np.testing.assert_allclose(errors[2], 0.5 * errors[0], rtol=0.2)


def test_weights_count() -> None:
    """Half of the pairs with another offset and next to no weight change nothing."""
    pairs = toy(200_000, seed=8)
    strange = np.arange(200_000) % 2 == 0
    assert pairs.pileup is not None
    mixed = pairs._replace(
        hlt=np.where(strange, pairs.hlt * (1.0 + 0.02 * (pairs.pileup - 20.0)), pairs.hlt),
        weight=np.where(strange, 1e-6, 1.0),
    )
    np.testing.assert_allclose(derived(mixed).s0, derived(pairs.take(~strange)).s0, atol=1e-3)


def test_factor_is_the_formula() -> None:
    offset = Offset(
        eta_edges=(-1.0, 0.0, 1.0),
        s0=np.array([0.1, 0.2]),
        s1=np.array([0.0, 0.05]),
        error=np.zeros(2),
        rho_0=20.0,
        rho_range=(10.0, 30.0),
        pt_range=np.array([[30.0, 300.0], [40.0, 200.0]]),
        uses_area=True,
    )

    def slow(pt: float, eta: float, area: float, rho: float) -> float:
        if not -1.0 <= eta < 1.0:
            return 1.0
        region = int(eta >= 0.0)
        low, high = offset.pt_range[region]
        slope = offset.s0[region] + offset.s1[region] * math.log(min(max(pt, low), high) / 100.0)
        return max(1.0 - area * (min(max(rho, 10.0), 30.0) - 20.0) * slope / pt, 0.1)

    points = [
        (pt, eta, area, rho)
        for pt in (0.5, 25.0, 100.0, 500.0)
        for eta in (-1.5, -1.0, -0.5, 0.0, 0.9, 1.0)
        for area in (0.4, 0.8)
        for rho in (0.0, 15.0, 20.0, 28.0, 60.0)
    ]
    expected = [slow(*point) for point in points]
    assert min(expected) == 0.1
    np.testing.assert_allclose(offset.factor(*np.transpose(points)), expected, rtol=1e-14)
    assert offset.factor(100.0, 0.5, 0.5, 25.0).item() == pytest.approx(1.0 - 0.5 * 5.0 * 0.2 / 100.0)
    np.testing.assert_array_equal(
        offset._replace(uses_area=False).factor(*np.transpose(points)),
        offset.factor(*np.transpose([(pt, eta, 1.0, rho) for pt, eta, _, rho in points])),
    )


def test_region_without_pairs_is_left_alone() -> None:
    pairs = toy(40_000, seed=9)
    pairs = pairs.take(pairs.eta < 1.3)
    offset = derived(pairs)
    assert np.isnan(offset.error).tolist() == [False, False, True]
    assert offset.s0[2] == offset.s1[2] == 0.0
    assert offset.factor(50.0, 2.0, 0.5, 30.0).item() == 1.0


def test_pairs_of_unknown_pile_up_or_area_do_not_count(large: Pairs) -> None:
    pairs = large.take(np.arange(100_000))
    assert pairs.pileup is not None
    assert pairs.area is not None
    pileup, area = pairs.pileup.copy(), pairs.area.copy()
    pileup[::10], area[1::10] = np.nan, np.nan
    offset = derived(pairs._replace(pileup=pileup, area=area))
    assert np.all(np.abs(offset.s0 - 0.08) < 3.0 * offset.error)


def test_no_offset_without_pile_up_or_spread() -> None:
    pairs = toy(10_000, seed=10)
    assert derive_offset(pairs._replace(pileup=None), ETA, PT) is None
    assert derive_offset(pairs._replace(pileup=np.full(10_000, 20.0)), ETA, PT) is None
    assert derive_offset(pairs._replace(pileup=np.full(10_000, np.nan)), ETA, PT) is None


def test_bad_options_are_refused() -> None:
    pairs = toy(100, seed=11)
    with pytest.raises(ValueError, match="pile_up_bins is 1; a slope and its error need two or more"):
        derive_offset(pairs, ETA, PT, pile_up_bins=1)
    with pytest.raises(ValueError, match="replicas is 0; a slope and its error need two or more"):
        derive_offset(pairs, ETA, PT, replicas=0)


def test_pairs_that_lack_a_column_are_refused(large: Pairs, offset: Offset) -> None:
    with pytest.raises(ValueError, match="the pairs have no pile-up variable; make them from input that has"):
        offset.subtract(large._replace(pileup=None))
    with pytest.raises(ValueError, match="derived with the areas of jets, and these pairs have none"):
        offset.subtract(large._replace(area=None))
