"""Arithmetic of columns, against the same with Python's numbers."""

import math

import numpy as np
import pytest

from trila.processors import transforms


def test_fractions_are_of_the_jets_own_energy() -> None:
    """Several fractions of one collection, then of another, and of the first again: energies kept are never another's."""
    rng = np.random.default_rng(4)
    collections = [[rng.uniform(0, 3, 50).astype(np.float32) for _ in range(3)] for _ in range(2)]
    for which in (0, 0, 1, 1, 0):
        pt, eta, mass = collections[which]
        energies = rng.uniform(0, 5, 50).astype(np.float32)
        stack = [energies, pt, eta, mass]
        transforms.fraction(stack)
        expected = [
            e / math.hypot(p * math.cosh(h), m) for e, p, h, m in zip(energies, pt, eta, mass, strict=True)
        ]
        assert stack == [pytest.approx(expected, rel=1e-5)]
    assert collections[0][0].max() <= 3  # nothing was changed in place


def test_a_jet_without_energy_has_no_fraction() -> None:
    zero = np.zeros(2, np.float32)
    stack = [np.ones(2, np.float32), np.array([0, 1], np.float32), zero, zero]
    transforms.fraction(stack)
    assert stack[0].tolist() == [0.0, 1.0]


def test_a_sum_leaves_its_columns_as_they_are() -> None:
    a, b = np.array([1, 2], np.int32), np.array([10, 20], np.uint8)
    for columns, expected in (([a], [1, 2]), ([a, b], [11, 22])):
        stack = [*columns, len(columns)]
        transforms.total(stack)
        assert stack[0].tolist() == expected
    assert (a.tolist(), b.tolist()) == ([1, 2], [10, 20])
