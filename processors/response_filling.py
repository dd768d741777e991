"""Compiled loops that fill the response histograms, each in one pass over the jets of a chunk.

All share the axes of eta and pT: `located` finds the bins of a collection's jets once for all of them.
"""

from typing import Any, NamedTuple

import hist
import numpy as np
from numpy.typing import NDArray

from trila.processors.columns import Jagged
from trila.processors.compiled import kernel
from trila.processors.filling import Indices, add, indices, locate_regular, memory_of
from trila.processors.matching import Partners

__all__ = ["Located", "fill_direct", "fill_matched", "fill_ratio", "located"]

Memory = NDArray[np.float64]


class Located(NamedTuple):
    """Jets with their place in histograms of eta and pT; each array of shape (n_jets,).

    Attributes:
        jets: with `pt`.
        eta, pt: positions on the axes, underflow first.
        weight: of the jet's event; 0 where that does not pass.
        n_eta: positions on the axis of eta.
        n_pt: positions on the axis of pT.
    """

    jets: Jagged
    eta: Indices
    pt: Indices
    weight: NDArray[np.float64]
    n_eta: int
    n_pt: int


def located(jets: Jagged, axes: Any, passed: NDArray[np.bool_], weight: NDArray[np.float64]) -> Located:
    """Place jets on the first two of the axes, eta and pT.

    Args:
        jets: with `eta`, `pt`.
        axes: of a histogram.
        passed, weight: per event.
    """
    eta, pt = indices(axes[0], jets.eta), indices(axes[1], jets.pt)
    per_jet = np.repeat(np.where(passed, weight, 0.0), np.diff(jets.offsets))
    return Located(jets, eta, pt, per_jet, axes[0].extent, axes[1].extent)


@kernel
def _fill_matched(
    eta: Indices, pt: Indices, weight: NDArray[np.float64], n_eta: int, n_pt: int, good: NDArray[np.bool_],
    partner: NDArray[np.int64], memory: Memory,
) -> None:  # fmt: skip
    for j in range(len(pt)):
        matched = 1 if partner[j] >= 0 else 0
        add(memory, eta[j] + n_eta * (pt[j] + n_pt * matched), weight[j] if good[j] else 0.0)


def fill_matched(
    histogram: hist.Hist[Any], at: Located, good: NDArray[np.bool_], partner: NDArray[np.int64]
) -> None:
    """Count jets in bins of eta, pT, and whether they have a partner.

    Args:
        histogram: axes eta, pT, matched.
        at: the jets.
        good: per jet, whether it counts.
        partner: per jet, position of its partner, or -1.
    """
    _fill_matched(at.eta, at.pt, at.weight, at.n_eta, at.n_pt, good, partner, memory_of(histogram))


@kernel
def _fill_ratio(
    eta: Indices, pt: Indices, weight: NDArray[np.float64], n_eta: int, n_pt: int, jet_pt: NDArray[Any],
    partner: NDArray[np.int64], other_pt: NDArray[Any], response_bins: int, memory: Memory,
) -> None:  # fmt: skip
    for j in range(len(pt)):
        i = partner[j]
        if i >= 0:
            ratio = np.float64(other_pt[i]) / np.float64(jet_pt[j])
            response = locate_regular(ratio, 0.0, 3.0, response_bins)
            add(memory, eta[j] + n_eta * (pt[j] + n_pt * response), weight[j])


def fill_ratio(
    histogram: hist.Hist[Any], at: Located, partner: NDArray[np.int64], other_pt: NDArray[Any]
) -> None:
    """Fill the ratio of a partner's pT to the jet's, in bins of the jet's eta and pT.

    Args:
        histogram: axes eta, pT, ratio (equidistant in 0 to 3).
        at: the jets.
        partner: per jet, position of its partner, or -1.
        other_pt: pT of the partners' collection.
    """
    _fill_ratio(
        at.eta, at.pt, at.weight, at.n_eta, at.n_pt, at.jets.pt, partner, other_pt, histogram.axes[2].size,
        memory_of(histogram),
    )  # fmt: skip


@kernel
def _fill_direct(
    eta: Indices, pt: Indices, weight: NDArray[np.float64], n_eta: int, n_pt: int, jet_pt: NDArray[Any],
    good: NDArray[np.bool_], partner: NDArray[np.int64], distance2: NDArray[np.float64], hlt_pt: NDArray[Any],
    hlt_at: Indices, response_bins: int, distance_bins: int, radius: float, response: Memory, correlation: Memory,
    distance: Memory,
) -> None:  # fmt: skip
    for j in range(len(pt)):
        i = partner[j]
        if i >= 0 and good[j]:
            ratio = np.float64(hlt_pt[i]) / np.float64(jet_pt[j])
            at_response = locate_regular(ratio, 0.0, 3.0, response_bins)
            at_distance = locate_regular(np.sqrt(distance2[j]), 0.0, radius, distance_bins)
            add(response, eta[j] + n_eta * (pt[j] + n_pt * at_response), weight[j])
            add(correlation, eta[j] + n_eta * (pt[j] + n_pt * hlt_at[i]), weight[j])
            add(distance, pt[j] + n_pt * at_distance, weight[j])


def fill_direct(
    response: hist.Hist[Any], correlation: hist.Hist[Any], distance: hist.Hist[Any], at: Located,
    good: NDArray[np.bool_], partners: Partners, hlt: Located,
) -> None:  # fmt: skip
    """Fill response, pT correlation and distance of every good reference jet that has an HLT partner.

    Args:
        response: axes eta, pT (reference), response.
        correlation: axes eta, pT (reference), pT (HLT), both pT with the same edges.
        distance: axes pT (reference), delta R.
        at, hlt: the reference and HLT jets.
        good: per reference jet.
        partners: of reference and HLT jets.
    """
    d_r = distance.axes[1]
    _fill_direct(
        at.eta, at.pt, at.weight, at.n_eta, at.n_pt, at.jets.pt, good, partners.of_a, partners.distance2, hlt.jets.pt,
        hlt.pt, response.axes[2].size, d_r.size, d_r.edges[-1], memory_of(response), memory_of(correlation),
        memory_of(distance),
    )  # fmt: skip
