"""Event hashes are the same everywhere, uniform, and independent between salts."""

import numpy as np

from trila.corrections.event_hash import event_hash, event_uniform

MASK = 2**64 - 1


def _slow(run: int, block: int, event: int, salt: int) -> int:
    """The published finaliser in Python's own integers."""
    gamma = 0x9E3779B97F4A7C15
    state = salt
    for part in (run, block, event):
        z = (state + gamma + part * gamma) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        state = z ^ (z >> 31)
    return state


def test_against_integers() -> None:
    rng = np.random.default_rng(2)
    run, block, event = rng.integers(0, 2**32, 100), rng.integers(0, 5000, 100), rng.integers(0, 2**63, 100)
    expected = [_slow(int(r), int(b), int(e), 7) for r, b, e in zip(run, block, event, strict=True)]
    assert event_hash(run, block, event, salt=7).tolist() == expected


def test_splitmix64_reference() -> None:
    """First output of SplitMix64 with seed 0, as published: the finaliser of the first state."""
    gamma = 0x9E3779B97F4A7C15
    z = gamma
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    assert z ^ (z >> 31) == 0xE220A8397B1DCDAF


def test_uniform_and_independent() -> None:
    n = 200_000
    one, block = np.ones(n, np.uint32), np.arange(n) // 1000
    a, b = (event_uniform(one, block, np.arange(n), salt) for salt in (0, 1))
    counts = np.histogram(a, bins=100, range=(0, 1))[0]
    assert ((counts - n / 100) ** 2 / (n / 100)).sum() < 160  # chi-square of 99, 1e-4 tail
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(n)
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 4 / np.sqrt(n)
    assert a.min() >= 0
    assert a.max() < 1
