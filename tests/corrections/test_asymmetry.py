"""Dijet asymmetries, against slow loops, repeated experiments, and jets whose resolution is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trila.corrections.asymmetry import ALPHA_EDGES, Jets, Slices, balanced, partners, slice_widths
from trila.corrections.pairs import Pairs

Array = NDArray[np.float64]

PT_EDGES = (30.0, 37.0, 45.0, 55.0, 68.0, 84.0)
WIDTH = 0.08


def pairs_of(event: list[int], alpha: list[float], pileup: list[float] | None = None) -> Pairs:
    one = np.ones(len(event))
    return Pairs(
        hlt=one, offline=one, tag=one, eta=one, phi=one, weight=one, run=one, luminosity_block=one,
        event=np.array(event), alpha=np.array(alpha), pileup=None if pileup is None else np.array(pileup),
    )  # fmt: skip


def exchanged(jets: Jets) -> Jets:
    """Both pairs of every event."""
    return Jets(
        np.concatenate([jets.tag, jets.probe]),
        np.concatenate([jets.probe, jets.tag]),
        np.tile(jets.alpha, 2),
        np.tile(jets.weight, 2),
        np.tile(jets.weight, 2),
    )


def gaussian_jets(generator: np.random.Generator, events: int, weights: bool) -> Jets:
    """Jets of 50 GeV with an asymmetry of exactly this width, alpha in the first slice."""
    asymmetry = generator.normal(0.0, WIDTH, events)
    weight = generator.exponential(1.0, events) if weights else np.ones(events)
    return Jets(50 * (1 + asymmetry), 50 * (1 - asymmetry), np.full(events, 0.01), weight, np.zeros(events))


def widths_of(jets: Jets, entries: float = 200.0, exchangeable: bool = True) -> Slices:
    return slice_widths(jets, 0.5 * (jets.tag + jets.probe), PT_EDGES, entries, exchangeable=exchangeable)


def test_partners_agree_with_a_slow_loop() -> None:
    generator = np.random.default_rng(1)
    event = generator.permutation(np.concatenate([np.arange(50), np.arange(30)])).tolist()
    found = partners(pairs_of(event, [0.1] * len(event)))
    for index, number in enumerate(event):
        others = [i for i, n in enumerate(event) if n == number and i != index]
        assert found[index] == (others[0] if others else -1)


def test_events_of_other_samples_with_the_same_number_are_no_partners() -> None:
    assert partners(pairs_of([7, 7, 8], [0.1, 0.2, 0.1])).tolist() == [-1, -1, -1]
    assert partners(pairs_of([7, 7, 7], [0.0, 0.0, 0.0], [20.0, 30.0, 20.0])).tolist() == [2, -1, 0]
    assert partners(pairs_of([], [])).size == 0


def test_no_asymmetry_is_lost_at_the_ends() -> None:
    """The histogram of 1 + A that is mirrored ends at 2: A of -1 and 1."""
    assert ALPHA_EDGES[0] == 0.0
    generator = np.random.default_rng(2)
    jets = gaussian_jets(generator, 5000, False)
    found = widths_of(jets)
    assert found.entries[2, 0] == pytest.approx(5000)
    turned = widths_of(jets._replace(tag=jets.probe, probe=jets.tag))
    np.testing.assert_allclose(turned.width[2, 0], found.width[2, 0], rtol=1e-3)


def experiments_of(jets: Jets, number: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Width, error and entries of repeated experiments, each in a bin of its own."""
    edges = np.arange(1.0, number.max() + 3.0)
    found = slice_widths(jets, number + 1.5, edges, 200.0, exchangeable=True)
    return found.width[:, 0], found.error[:, 0], found.entries[:, 0]


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_errors_agree_with_repeated_experiments(weights: bool, both: bool) -> None:
    """An event that gives two pairs is one event: they have opposite asymmetries."""
    jets = gaussian_jets(np.random.default_rng(3), 300 * 1500, weights)
    number = np.repeat(np.arange(300), 1500)
    width, error, entries = (
        experiments_of(exchanged(jets), np.tile(number, 2)) if both else experiments_of(jets, number)
    )
    assert np.mean(width) == pytest.approx(WIDTH, rel=0.01)
    assert np.mean(error) == pytest.approx(np.std(width), rel=0.1)
    assert np.mean(entries) == pytest.approx(750 if weights else 1500, rel=0.05)


def test_thinned_pairs_count_with_their_weights() -> None:
    """Of the two pairs of an event one may be kept with a larger weight: the width stays, the error grows."""
    generator = np.random.default_rng(4)
    events = 300 * 3000
    jets = exchanged(gaussian_jets(generator, events, False))
    harder = jets.tag > jets.probe
    kept = ~harder | np.tile(generator.random(events) < 0.5, 2)
    weight = np.where(harder, 2.0, 1.0)
    other = np.where(np.roll(kept, events), np.roll(weight, events), 0.0)
    number = np.tile(np.repeat(np.arange(300), 3000), 2)
    width, error, _ = experiments_of(jets._replace(weight=weight, shared=other).take(kept), number[kept])
    assert np.mean(width) == pytest.approx(WIDTH, rel=0.01)
    assert np.mean(error) == pytest.approx(np.std(width), rel=0.1)


def test_probes_elsewhere_may_have_another_scale() -> None:
    generator = np.random.default_rng(5)
    jets = gaussian_jets(generator, 100_000, False)
    asymmetry = 0.1 + (jets.tag - jets.probe) / 100
    found = widths_of(jets._replace(tag=50 * (1 + asymmetry), probe=50 * (1 - asymmetry)), exchangeable=False)
    assert found.width[2, 0] == pytest.approx(WIDTH, rel=0.02)


def test_slices_with_few_events_are_not_used() -> None:
    jets = gaussian_jets(np.random.default_rng(6), 150, False)
    assert np.isnan(widths_of(jets).width).all()
    assert np.isfinite(widths_of(jets, entries=100.0).width).sum() == 1


def slices_of(width: Array, spectrum: Array) -> Slices:
    """Every slice of a bin with the same width, known to 1%."""
    pt = np.geomspace(35.0, 500.0, width.size)
    shape = (width.size, len(ALPHA_EDGES) - 1)
    alpha = np.broadcast_to(0.5 * (np.array(ALPHA_EDGES[1:]) + ALPHA_EDGES[:-1]), shape)
    columns = (width, 0.01 * width, np.full_like(width, 1e3))
    return Slices(pt, spectrum, alpha, *(np.repeat(column[:, None], shape[1], axis=1) for column in columns))


def test_nothing_is_taken_off_twice() -> None:
    """A spectrum dN/d ln p ~ p, on which no more pairs come from below than from above."""
    width = np.full(6, 0.05)
    pt = np.geomspace(35.0, 500.0, 6)
    plain = balanced(slices_of(width, pt), None)
    np.testing.assert_allclose(plain.resolution, np.sqrt(2) * width, rtol=1e-6)
    np.testing.assert_allclose(plain.pt, pt, rtol=1e-6)
    imbalance = slices_of(np.full(6, 0.03), pt)
    np.testing.assert_allclose(
        balanced(slices_of(width, pt), imbalance).resolution, np.sqrt(2) * 0.04, rtol=1e-6
    )


def test_migration_is_that_of_a_falling_spectrum() -> None:
    """Against a Monte Carlo of steeply falling jets: S = 1.1, 20% at 30 GeV, 12% of migration."""
    generator = np.random.default_rng(7)
    p = 1 / generator.uniform(1 / 200.0, 1 / 15.0, 1_500_000)  # dN/dp ~ p^-2, weighted to p^-5
    weight = (p / 30.0) ** -3
    first, second = (p * (1 + 1.1 / np.sqrt(p) * generator.standard_normal(p.size)) for _ in range(2))
    positive = (first > 0) & (second > 0)
    alpha = 0.3 * generator.random(p.size)
    jets = Jets(first, second, alpha, weight, np.zeros(p.size)).take(positive)
    found = widths_of(jets)
    used = np.isfinite(found.width[:, 0])
    assert used.all()
    points = balanced(found, None)
    np.testing.assert_allclose(points.resolution, 1.1 / np.sqrt(points.pt), rtol=0.02)
    # Without it the resolutions would be wrong by this much at the lowest pT.
    raw = np.sqrt(2) * np.average(found.width[0], weights=found.error[0] ** -2)
    assert raw / (1.1 / np.sqrt(found.pt[0])) < 0.96


def test_fewer_than_three_bins_have_no_spectrum() -> None:
    width = np.array([0.05, 0.05, np.nan, np.nan, np.nan])
    found = balanced(slices_of(width, np.geomspace(35.0, 500.0, 5) ** -4), None)
    assert np.isnan(found.resolution).all()
