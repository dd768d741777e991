"""Prescaled triggers: closed forms, all outcomes enumerated, counters counted, toys with a known number of events."""

from itertools import product

import numpy as np
import pytest

from trila.corrections.lumi import blocks
from trila.corrections.prescales import (
    PrescaleError,
    PrescaleRanges,
    effective_luminosity,
    event_weights,
    kept_fraction,
    prescale_of,
)


def enumerated(prescales: list[float], fired: tuple[bool, ...]) -> float:
    """Probability that an event is kept, summed over what each trigger may do."""
    total = 0.0
    for outcome in product((False, True), repeat=len(prescales)):
        chance = 1.0
        for kept, accepted, prescale in zip(outcome, fired, prescales, strict=True):
            p = 1.0 / prescale if accepted and prescale else 0.0
            chance *= p if kept else 1.0 - p
        total += chance if any(outcome) else 0.0
    return total


def test_kept_fraction_against_all_outcomes() -> None:
    prescales = [1.5, 7.0, 0.0, 100.0]
    decisions = list(product((False, True), repeat=4))
    expected = [enumerated(prescales, fired) for fired in decisions]
    assert kept_fraction(prescales, decisions) == pytest.approx(expected, rel=1e-14, abs=1e-17)


@pytest.mark.parametrize("prescales", [(3, 4), (5, 1), (2, 3, 5), (7, 9)])
def test_counters_without_a_common_divisor(prescales: tuple[int, ...]) -> None:
    """Counters over the same events keep exactly the fraction of independent ones, whatever they begin with."""
    period = int(np.prod(prescales))
    event = np.arange(period)
    for start in (0, 1):
        kept = np.any([(event + start * i) % p == 0 for i, p in enumerate(prescales)], axis=0)
        assert kept.sum() / period == pytest.approx(kept_fraction(prescales).item(), rel=1e-14)


def test_large_prescales_keep_their_digits() -> None:
    assert kept_fraction([1e12, 1e12]).item() == pytest.approx(2e-12, rel=1e-11)


def test_unknown_prescales() -> None:
    """They matter where the trigger accepts the event."""
    found = kept_fraction([[np.nan, 2.0], [np.nan, 2.0]], [[True, True], [False, True]])
    assert np.isnan(found[0])
    assert found[1] == 0.5


@pytest.mark.parametrize("wrong", [-1.0, 0.5, np.inf])
def test_impossible_prescales(wrong: float) -> None:
    with pytest.raises(
        PrescaleError, match=f"prescale {wrong:g} cannot be; expected 1 or more, 0 for a disabled"
    ):
        kept_fraction([1.0, wrong])


def test_prescale_of_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    first = np.array([10, 20, 21, 40])
    last = np.array([15, 20, 30, 2**32 - 1])
    table = PrescaleRanges(
        blocks(np.full(4, 5), first), blocks(np.full(4, 5), last), np.array([2.0, 0.0, 4.0, 8.0])
    )
    run, ls = rng.integers(4, 7, 400), rng.integers(0, 60, 400)
    expected = [
        next(
            (p for a, b, p in zip(first, last, table.prescale, strict=True) if r == 5 and a <= n <= b), np.nan
        )
        for r, n in zip(run, ls, strict=True)
    ]
    np.testing.assert_array_equal(prescale_of(table, blocks(run, ls)), expected)
    none = PrescaleRanges(*(np.zeros(0, dtype=np.uint64),) * 2, np.zeros(0))
    assert np.isnan(prescale_of(none, blocks(run, ls))).all()


def test_effective_luminosity() -> None:
    """By hand; a block with an unknown prescale is left out, one with a disabled trigger counts for the other alone."""
    recorded = [10.0, 20.0, 30.0, 40.0]
    prescales = np.array([[2.0, 5.0], [1.0, 9.0], [0.0, 3.0], [np.nan, 1.0]])
    assert effective_luminosity(recorded, prescales[:, :1]) == pytest.approx(10 / 2 + 20)
    assert effective_luminosity(recorded, prescales) == pytest.approx(10 * (1 - 0.5 * 0.8) + 20 + 30 / 3)


def toy(rng: np.random.Generator, counters: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decisions before prescales, prescales by event, and which events are kept; prescales change at half time."""
    size = 30_000
    decisions = rng.random((size, 3)) < np.array([0.5, 0.3, 0.1])
    decisions[:, 1] |= decisions[:, 2]  # a higher threshold of the same kind
    prescales = np.where(np.arange(size)[:, None] < size // 2, [50.0, 7.0, 1.0], [20.0, 0.0, 3.0])
    if counters:
        counted = np.cumsum(decisions, axis=0) + rng.integers(0, 50, 3)
        kept = (counted % np.maximum(prescales, 1) == 0) & (prescales > 0)
    else:
        kept = rng.random((size, 3)) * prescales < (prescales > 0)
    return decisions, prescales, (decisions & kept).any(axis=1)


@pytest.mark.parametrize("counters", [False, True])
def test_weights_give_back_all_events(counters: bool) -> None:
    """The weighted events are as many as any enabled trigger accepted, over many toys and within their own error.

    Counters keep every p-th event, so that the numbers spread less than those of independent decisions.
    """
    pulls = []
    for seed in range(30):
        decisions, prescales, kept = toy(np.random.default_rng(seed), counters)
        weights = event_weights(decisions[kept], prescales[kept])
        truth = int((decisions & (prescales > 0)).any(axis=1).sum())
        fraction = 1.0 / weights
        pulls.append((weights.sum() - truth) / np.sqrt(np.sum(weights**2 * (1.0 - fraction))))
    assert abs(np.mean(pulls)) < 3.0 / np.sqrt(30)
    spread = np.std(pulls, ddof=1)
    assert spread < 1.3 if counters else 0.7 < spread < 1.3


def test_effective_luminosity_counts_the_events_of_a_toy() -> None:
    """Events of a known cross section, which all triggers accept, in blocks with their own prescales."""
    rng = np.random.default_rng(5)
    luminosity = rng.uniform(0.5, 2.0, 300)
    prescales = rng.choice([0.0, 1.0, 3.0, 10.0], (300, 2))
    prescales[:, 0] = np.maximum(prescales[:, 0], 3.0)
    produced = rng.poisson(500.0 * luminosity)
    block = np.repeat(np.arange(300), produced)
    chance = np.divide(1.0, prescales, out=np.zeros((300, 2)), where=prescales > 0)[block]
    kept = (rng.random(chance.shape) < chance).any(axis=1).sum()
    expected = 500.0 * effective_luminosity(luminosity, prescales)
    assert kept == pytest.approx(expected, abs=4.0 * np.sqrt(expected))
    assert np.sqrt(expected) < 0.01 * expected


def test_events_that_cannot_have_been_kept() -> None:
    with pytest.raises(
        PrescaleError, match="event 1 has no weight: no enabled trigger accepted it; select events"
    ):
        event_weights([[True, True], [True, False]], [[2.0, 1.0], [0.0, 1.0]])
    with pytest.raises(PrescaleError, match="event 0 has no weight: the prescale of a trigger is unknown"):
        event_weights([[True, True]], [np.nan, 2.0])
