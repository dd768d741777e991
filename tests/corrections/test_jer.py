"""Resolutions of jets with known noise, stochastic and constant terms, with tails, weights and imbalance."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from trila.corrections.jer import Jer, Method, measure_jer, regions
from trila.corrections.pairs import Pairs
from trila.corrections.resolution import resolution

Array = NDArray[np.float64]

ETA_EDGES = (0.0, 1.3, 2.5)
PT_EDGES = (30.0, 37.0, 45.0, 55.0, 68.0, 84.0, 105.0, 130.0, 165.0, 210.0, 265.0, 335.0)
TERMS = {
    ("hlt", 0.0): (4.5, 1.0, 0.045),
    ("hlt", 1.3): (6.75, 1.15, 0.045),
    ("offline", 0.0): (3.0, 0.85, 0.035),
    ("offline", 1.3): (4.5, 0.9775, 0.035),
}
PROBED = np.array([35.0, 50.0, 80.0, 120.0, 200.0, 300.0])


class Toy(NamedTuple):
    pairs: Pairs
    tag_hlt: Array


@cache
def toy(
    events: int, seed: int, *, tails: float = 0.03, imbalance: float = 0.03, radiation: float = 0.3
) -> Toy:
    """Dijets on a spectrum p^-5, drawn from p^-2; a tail loses 30% to 60%; radiation unbalances them with alpha."""
    generator = np.random.default_rng(seed)
    low, high = 1 / 20.0, 1 / 600.0
    p = 1 / (low + (high - low) * generator.random(events))
    weight = (p / 100.0) ** -3
    alpha = np.where(generator.random(events) < 0.2, 0.0, generator.exponential(0.12, events))
    kick = 0.5 * radiation * alpha * generator.standard_normal(events)
    shift = imbalance * generator.standard_normal((2, events)) + np.stack([kick, -kick])
    particle = p * (1 + shift)
    eta = generator.uniform(-1.3, 1.3, (2, events))
    endcap = generator.random(events) < 0.6
    eta[1, endcap] = generator.choice([-1, 1], endcap.sum()) * generator.uniform(1.3, 2.5, endcap.sum())
    outside = np.abs(eta) >= 1.3
    shared = generator.standard_normal((2, events))
    own = 0.75 * shared + np.sqrt(1 - 0.75**2) * generator.standard_normal((2, events))
    measured = {}
    for collection, noise in (("hlt", own), ("offline", shared)):
        inner, outer = (resolution(particle, *TERMS[collection, low]) for low in (0.0, 1.3))
        loss = np.where(generator.random((2, events)) < tails, generator.uniform(0.3, 0.6, (2, events)), 0.0)
        measured[collection] = np.maximum(
            particle * (1 + np.where(outside, outer, inner) * noise) * (1 - loss), 1.0
        )
    # Both jets are tag in turn, if they are central.
    event = np.concatenate([np.arange(events), np.flatnonzero(~endcap)])
    tag = np.repeat([0, 1], [events, event.size - events])
    probe = 1 - tag
    pairs = Pairs(
        hlt=measured["hlt"][probe, event], offline=measured["offline"][probe, event],
        tag=measured["offline"][tag, event], eta=eta[probe, event], phi=np.zeros(event.size), weight=weight[event],
        run=np.ones(event.size), luminosity_block=np.ones(event.size), event=event, particle=particle[probe, event],
        tag_eta=eta[tag, event], alpha=alpha[event],
    )  # fmt: skip
    return Toy(pairs, measured["hlt"][tag, event])


def measured(sample: Toy, method: Method, **options: float) -> dict[tuple[str, float], Jer]:
    pairs, tag_hlt = sample
    jers = measure_jer(pairs, pairs.hlt, tag_hlt, method, eta_edges=ETA_EDGES, pt_edges=PT_EDGES, **options)
    assert [(jer.collection, jer.eta[0]) for jer in jers] == list(TERMS)
    return {(jer.collection, jer.eta[0]): jer for jer in jers}


def closure(jer: Jer) -> Array:
    """Fitted over true resolution, minus 1, where the fit is known."""
    assert jer.fit is not None
    pt = PROBED[(jer.pt_range[0] <= PROBED) & (jer.pt_range[1] >= PROBED)]
    assert pt.size >= PROBED.size - 1
    true = resolution(pt, *TERMS[jer.collection, jer.eta[0]])
    return np.asarray(resolution(pt, jer.fit.n, jer.fit.s, jer.fit.c) / true - 1)


@pytest.mark.parametrize("method", ["particle", "asymmetry"])
def test_known_terms_are_recovered(method: Method) -> None:
    for (_, low), jer in measured(toy(900_000, 1), method).items():
        assert jer.method == method
        assert jer.note == ""
        change = np.abs(closure(jer))
        assert np.max(change) < (0.03 if low == 0.0 else 0.05)


@pytest.mark.parametrize("method", ["particle", "asymmetry"])
def test_without_tails_the_points_scatter_as_their_errors_say(method: Method) -> None:
    pulls = []
    for seed in range(4):
        for (_, low), jer in measured(toy(150_000, seed, tails=0.0), method).items():
            true = resolution(jer.pt[jer.used], *TERMS[jer.collection, low])
            pulls.append((jer.resolution[jer.used] - true) / jer.error[jer.used])
    every = np.concatenate(pulls)
    assert every.size > 120
    # Radiation and imbalance are common to the two widths of an asymmetry, whose errors are added up: too large.
    assert 0.7 < np.std(every) < 1.15
    assert abs(np.mean(every)) < 0.35


def test_the_uncertainty_is_the_scatter_of_fits() -> None:
    changes, stated = [], []
    for seed in range(12):
        jer = measured(toy(60_000, 100 + seed, tails=0.0), "particle")["offline", 0.0]
        changes.append(closure(jer)[:-1])
        stated.append(jer.uncertainty)
    assert np.sqrt(np.mean(np.square(changes))) == pytest.approx(np.mean(stated), rel=0.5)


def test_errors_follow_the_weights() -> None:
    sample = toy(60_000, 3)
    generator = np.random.default_rng(3)
    factor = generator.exponential(1.0, sample.pairs.weight.size)
    weighted = Toy(sample.pairs._replace(weight=sample.pairs.weight * factor), sample.tag_hlt)
    plain, heavy = (measured(s, "particle")["offline", 0.0] for s in (sample, weighted))
    both = plain.used & heavy.used
    # n (sum of w²)/(sum of w)² of exponential weights is 2.
    assert np.mean(heavy.error[both] / plain.error[both]) == pytest.approx(np.sqrt(2), rel=0.1)


def test_without_particle_level_the_imbalance_is_included() -> None:
    sample = toy(600_000, 4, tails=0.0, imbalance=0.06)
    data = Toy(sample.pairs._replace(particle=None), sample.tag_hlt)
    found, known = (measured(s, "asymmetry")["offline", 0.0] for s in (data, sample))
    assert found.note == "the imbalance of particle-level jets is included"
    assert found.fit is not None
    assert known.fit is not None
    pt = PROBED[:-1]
    true = resolution(pt, *TERMS["offline", 0.0])
    np.testing.assert_allclose(resolution(pt, *found.fit[:3]), np.sqrt(true**2 + 0.06**2), rtol=0.03)
    np.testing.assert_allclose(resolution(pt, *known.fit[:3]), true, rtol=0.05)


def test_unknown_tags_leave_hlt_jets_without_asymmetry() -> None:
    pairs = toy(60_000, 5).pairs
    jers = measure_jer(pairs, pairs.hlt, None, "asymmetry", eta_edges=ETA_EDGES, pt_edges=PT_EDGES)
    assert [jer.fit is None for jer in jers] == [True, True, False, False]
    assert all("the HLT pT of the tags is unknown" in jer.note for jer in jers[:2])
    for region, jer in zip(regions(jers), jers[:2], strict=True):
        assert region.fit is None
        assert region.eta == jer.eta


def test_tags_without_an_hlt_jet_do_not_count() -> None:
    pairs, tag_hlt = toy(150_000, 6)
    lost = np.random.default_rng(6).random(tag_hlt.size) < 0.3
    partly = measured(Toy(pairs, np.where(lost, 0.0, tag_hlt)), "asymmetry")
    removed = measured(Toy(pairs.take(~lost), tag_hlt[~lost]), "asymmetry")
    first, second = partly["hlt", 0.0], removed["hlt", 0.0]
    used = first.used & second.used
    assert used.sum() > 6
    np.testing.assert_allclose(first.pt[used], second.pt[used], rtol=0.01)
    np.testing.assert_allclose(first.resolution[used], second.resolution[used], rtol=0.1)


@pytest.mark.parametrize("method", ["particle", "asymmetry"])
def test_too_few_pairs_leave_a_region_without_fit(method: Method) -> None:
    sample = toy(60_000, 7)
    few = Toy(sample.pairs.take(np.s_[:600]), sample.tag_hlt[:600])
    for jer in measured(few, method).values():
        assert jer.fit is None
        assert np.isnan(jer.uncertainty)
        assert jer.used.sum() < 3
        assert jer.note.endswith(
            f"{jer.used.sum()} of 11 bins could be measured, and three terms need three"
        ) or (jer.note.startswith("the tags' own resolution is unknown: "))


def test_bins_with_few_pairs_are_left_out() -> None:
    sample = toy(60_000, 8)
    every, strict = (measured(sample, "particle", entries=n)["hlt", 1.3] for n in (60.0, 2000.0))
    assert every.used.all()
    assert 3 <= strict.used.sum() < every.used.sum()
    assert strict.pt_range == (strict.pt[strict.used][0], strict.pt[strict.used][-1])
    np.testing.assert_array_equal(strict.resolution[strict.used], every.resolution[strict.used])


def test_regions_are_those_of_hlt_jets() -> None:
    jers = measured(toy(60_000, 9), "particle")
    found = regions(tuple(jers.values()))
    assert [region.eta for region in found] == [(0.0, 1.3), (1.3, 2.5)]
    for region, jer in zip(found, jers.values(), strict=False):
        assert region.fit is jer.fit
        assert region.pt == jer.pt_range
        assert region.uncertainty == jer.uncertainty


def test_methods_say_what_they_miss() -> None:
    pairs = toy(60_000, 9).pairs
    with pytest.raises(
        ValueError, match="by method particle, but the pairs have no particle-level pT; use asymm"
    ):
        measure_jer(pairs._replace(particle=None), pairs.hlt, None, "particle")
    with pytest.raises(ValueError, match="by method asymmetry, but the pairs have no alpha; use particle"):
        measure_jer(pairs._replace(alpha=None), pairs.hlt, None, "asymmetry")
