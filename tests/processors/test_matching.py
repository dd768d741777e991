"""Matching is one-to-one, mutual and wrapped: against a loop over all pairs."""

import math

import numpy as np
import pytest

from trila.processors.columns import Jagged
from trila.processors.matching import delta_phi, mutual_nearest


def _jets(events: list[list[tuple[float, float]]]) -> Jagged:
    flat = np.array([jet for event in events for jet in event], dtype=np.float32).reshape(-1, 2)
    offsets = np.concatenate([[0], np.cumsum([len(event) for event in events])])
    return Jagged(offsets.astype(np.int64), {"eta": flat[:, 0].copy(), "phi": flat[:, 1].copy()})


def _distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    d_phi = math.remainder(a[1] - b[1], 2 * math.pi)
    return math.hypot(a[0] - b[0], d_phi)


def _slow(a: list[tuple[float, float]], b: list[tuple[float, float]], limit: float) -> list[int]:
    result = []
    for jet in a:
        partner = min(range(len(b)), key=lambda j: _distance(jet, b[j]), default=-1)
        mutual = partner >= 0 and min(a, key=lambda other: _distance(other, b[partner])) == jet
        result.append(partner if mutual and _distance(jet, b[partner]) < limit else -1)
    return result


@pytest.mark.parametrize("limit", [0.2, 0.4, 1.5])
def test_against_a_loop_over_all_pairs(limit: float) -> None:
    rng = np.random.default_rng(11)
    first, second, expected = [], [], []
    start = 0
    for _ in range(300):
        event = rng.uniform([-2, -np.pi], [2, np.pi], (rng.integers(0, 7), 2)).astype(np.float32)
        moved = event + rng.normal(0, 0.15, event.shape).astype(np.float32)
        moved = moved[rng.random(len(moved)) < 0.9]
        moved[:, 1] = (moved[:, 1] + np.pi) % (2 * np.pi) - np.pi
        moved = rng.permutation(moved)
        first.append([(float(x), float(y)) for x, y in event])
        second.append([(float(x), float(y)) for x, y in moved])
        expected += [j + start if j >= 0 else -1 for j in _slow(first[-1], second[-1], limit)]
        start += len(moved)
    to_second, to_first, _ = mutual_nearest(_jets(first), _jets(second), limit)
    assert to_second.tolist() == expected
    back = [int(np.flatnonzero(to_second == j)[0]) if j in to_second else -1 for j in range(len(to_first))]
    assert to_first.tolist() == back


def test_two_jets_never_share_a_partner() -> None:
    a = _jets([[(0.0, 0.0), (0.1, 0.0)]])
    b = _jets([[(0.06, 0.0)]])
    to_b, to_a, _ = mutual_nearest(a, b, 0.2)
    assert to_b.tolist() == [-1, 0]
    assert to_a.tolist() == [1]


def test_azimuth_wraps() -> None:
    to_b, _, _ = mutual_nearest(_jets([[(1.0, 3.13)]]), _jets([[(1.0, -3.13)]]), 0.2)
    assert to_b.tolist() == [0]
    for a, b in [(3.0, -3.0), (-3.1, 3.1), (0.1, 6.2), (1.0, 2.0)]:
        assert delta_phi(a, b) == pytest.approx(abs(math.remainder(a - b, 2 * math.pi)), abs=1e-12)


def test_the_limit_is_exclusive() -> None:
    to_b, _, _ = mutual_nearest(_jets([[(0.0, 0.0)]]), _jets([[(0.25, 0.0)]]), 0.25)
    assert to_b.tolist() == [-1]
