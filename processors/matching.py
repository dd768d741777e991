"""One-to-one matching of two jet collections in angle.

Two jets are partners if each is the other's nearest and they are closer than the limit: no jet has two partners, the
result does not depend on the order of jets, and a far jet is never taken because the near one was used up.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trila.processors.columns import Jagged
from trila.processors.compiled import kernel

__all__ = ["delta_phi", "mutual_nearest"]


@kernel
def delta_phi(a: float, b: float) -> float:
    """The angle between two azimuths, 0 to pi; both in [-pi, pi], or both in [0, 2 pi]."""
    difference = abs(a - b)
    return (
        difference if difference <= np.pi else abs(2.0 * np.pi - difference)
    )  # a modulo costs five times as much


@kernel
def _mutual_nearest(
    a_offsets: NDArray[np.int64], a_eta: NDArray[Any], a_phi: NDArray[Any],
    b_offsets: NDArray[np.int64], b_eta: NDArray[Any], b_phi: NDArray[Any],
    limit: float, a_partner: NDArray[np.int64], b_partner: NDArray[np.int64], a_distance: NDArray[np.float64],
    b_distance: NDArray[np.float64],
) -> None:  # fmt: skip
    for event in range(len(a_offsets) - 1):
        for i in range(a_offsets[event], a_offsets[event + 1]):
            for j in range(b_offsets[event], b_offsets[event + 1]):
                d_eta = np.float64(a_eta[i]) - np.float64(b_eta[j])
                if abs(d_eta) >= limit:
                    continue
                d_phi = delta_phi(np.float64(a_phi[i]), np.float64(b_phi[j]))
                distance = d_eta * d_eta + d_phi * d_phi
                if distance < a_distance[i]:
                    a_distance[i] = distance
                    a_partner[i] = j
                if distance < b_distance[j]:
                    b_distance[j] = distance
                    b_partner[j] = i
        for i in range(a_offsets[event], a_offsets[event + 1]):
            j = a_partner[i]
            if j >= 0 and b_partner[j] != i:
                a_partner[i] = -1
        for j in range(b_offsets[event], b_offsets[event + 1]):
            i = b_partner[j]
            if i >= 0 and a_partner[i] != j:
                b_partner[j] = -1


def mutual_nearest(a: Jagged, b: Jagged, limit: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Partners of the objects of two collections with `eta` and `phi`.

    Args:
        a: one collection.
        b: the other, of the same events.
        limit: partners are closer than this in sqrt(d_eta^2 + d_phi^2). For jets of radius R, R/2 leaves no choice.

    Returns:
        For each object of `a` the position of its partner among all objects of `b`, and for each of `b` that in `a`;
        -1 where there is none.
    """
    a_partner = np.full(len(a.eta), -1, dtype=np.int64)
    b_partner = np.full(len(b.eta), -1, dtype=np.int64)
    a_distance = np.full(len(a.eta), limit * limit)
    b_distance = np.full(len(b.eta), limit * limit)
    _mutual_nearest(
        a.offsets, a.eta, a.phi, b.offsets, b.eta, b.phi, limit, a_partner, b_partner, a_distance, b_distance
    )
    return a_partner, b_partner
