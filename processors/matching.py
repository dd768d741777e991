"""One-to-one matching of two jet collections in angle.

Two jets are partners if each is the other's nearest and they are closer than the limit: no jet has two partners, the
result does not depend on the order of jets, and a far jet is never taken because the near one was used up.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.processors.columns import Jagged
from trila.processors.compiled import kernel

__all__ = ["Partners", "delta_phi", "mutual_nearest"]


@kernel
def delta_phi(a: float, b: float) -> float:
    """The angle between two azimuths, 0 to pi; both in [-pi, pi], or both in [0, 2 pi]."""
    difference = abs(a - b)
    return min(difference, abs(2.0 * np.pi - difference))  # a modulo costs five times as much


class Partners(NamedTuple):
    """Who is whose partner in two collections, a and b; positions are among all objects of a collection.

    Attributes:
        of_a: for each object of a, the position of its partner in b, or -1.
        of_b: for each object of b, the position of its partner in a, or -1.
        distance2: for each object of a that has a partner, the square of the distance to it.
    """

    of_a: NDArray[np.int64]
    of_b: NDArray[np.int64]
    distance2: NDArray[np.float64]


@kernel
def _mutual_nearest(
    a_offsets: NDArray[np.int64], a_eta: NDArray[Any], a_phi: NDArray[Any],
    b_offsets: NDArray[np.int64], b_eta: NDArray[Any], b_phi: NDArray[Any],
    limit2: float, of_a: NDArray[np.int64], of_b: NDArray[np.int64], distance2: NDArray[np.float64],
) -> None:  # fmt: skip
    of_b[:] = -1
    for event in range(len(a_offsets) - 1):
        begin, end = b_offsets[event], b_offsets[event + 1]
        undecided = 0  # combinations within the limit that are no partners yet
        for i in range(a_offsets[event], a_offsets[event + 1]):
            eta, phi = np.float64(a_eta[i]), np.float64(a_phi[i])
            nearest, least = -1, limit2
            for j in range(begin, end):  # free of branches, which the processor would often guess wrong
                d_eta = eta - np.float64(b_eta[j])
                d_phi = delta_phi(phi, np.float64(b_phi[j]))
                distance = d_eta * d_eta + d_phi * d_phi
                undecided += int(distance < limit2)
                nearest = j if distance < least else nearest
                least = min(distance, least)
            of_a[i], distance2[i] = nearest, least
            if nearest >= 0:
                undecided -= int(of_b[nearest] < 0)
                of_b[nearest] = i
        if undecided > 0:  # some jet has a choice
            _decide(
                a_offsets[event], a_offsets[event + 1], a_eta, a_phi, begin, end, b_eta, b_phi, limit2, of_a, of_b
            )  # fmt: skip


@kernel
def _decide(
    a_begin: int, a_end: int, a_eta: NDArray[Any], a_phi: NDArray[Any],
    b_begin: int, b_end: int, b_eta: NDArray[Any], b_phi: NDArray[Any],
    limit2: float, of_a: NDArray[np.int64], of_b: NDArray[np.int64],
) -> None:  # fmt: skip
    """Leave the mutual ones of the nearest in b, `of_a`, of one event."""
    for j in range(b_begin, b_end):
        eta, phi = np.float64(b_eta[j]), np.float64(b_phi[j])
        of_b[j], least = -1, limit2
        for i in range(a_begin, a_end):
            d_eta = np.float64(a_eta[i]) - eta
            d_phi = delta_phi(np.float64(a_phi[i]), phi)
            distance = d_eta * d_eta + d_phi * d_phi
            if distance < least:
                of_b[j], least = i, distance
    for i in range(a_begin, a_end):
        if of_a[i] >= 0 and of_b[of_a[i]] != i:
            of_a[i] = -1
    for j in range(b_begin, b_end):
        if of_b[j] >= 0 and of_a[of_b[j]] != j:
            of_b[j] = -1


def mutual_nearest(a: Jagged, b: Jagged, limit: float) -> Partners:
    """Partners of the objects of two collections with `eta` and `phi`.

    Args:
        a: one collection.
        b: the other, of the same events.
        limit: partners are closer than this in sqrt(d_eta^2 + d_phi^2). For jets of radius R, R/2 leaves no choice.
    """
    partners = Partners(np.empty(len(a.eta), np.int64), np.empty(len(b.eta), np.int64), np.empty(len(a.eta)))
    _mutual_nearest(a.offsets, a.eta, a.phi, b.offsets, b.eta, b.phi, limit * limit, *partners)
    return partners
