"""Compiled loops that fill the response histograms, each in one pass over the jets of a chunk."""

from typing import Any

import hist
import numpy as np
from numpy.typing import NDArray

from trila.processors.columns import Jagged
from trila.processors.compiled import kernel
from trila.processors.filling import Bins, add, bins_of, locate, locate_regular, memory_of
from trila.processors.matching import delta_phi

__all__ = ["fill_direct", "fill_matched", "fill_ratio"]

Memory = NDArray[np.float64]


@kernel
def _fill_matched(
    offsets: NDArray[np.int64], eta: NDArray[Any], pt: NDArray[Any], good: NDArray[np.bool_],
    partner: NDArray[np.int64], passed: NDArray[np.bool_], weight: NDArray[np.float64], eta_bins: Bins, pt_bins: Bins,
    memory: Memory,
) -> None:  # fmt: skip
    n_eta, n_pt = len(eta_bins.edges) + 1, len(pt_bins.edges) + 1
    for event in range(len(offsets) - 1):
        if passed[event]:
            for j in range(offsets[event], offsets[event + 1]):
                if good[j]:
                    matched = 1 if partner[j] >= 0 else 0
                    cell = locate(np.float64(eta[j]), eta_bins) + n_eta * locate(np.float64(pt[j]), pt_bins)
                    add(memory, cell + n_eta * n_pt * matched, weight[event])


def fill_matched(
    histogram: hist.Hist[Any], jets: Jagged, good: NDArray[np.bool_], partner: NDArray[np.int64],
    passed: NDArray[np.bool_], weight: NDArray[np.float64],
) -> None:  # fmt: skip
    """Count jets in bins of eta, pT, and whether they have a partner.

    Args:
        histogram: axes eta, pT, matched.
        jets: with `eta`, `pt`.
        good: per jet, whether it counts.
        partner: per jet, position of its partner, or -1.
        passed, weight: per event.
    """
    axes = histogram.axes
    _fill_matched(
        jets.offsets, jets.eta, jets.pt, good, partner, passed, weight, bins_of(axes[0]), bins_of(axes[1]),
        memory_of(histogram),
    )  # fmt: skip


@kernel
def _fill_ratio(
    offsets: NDArray[np.int64], eta: NDArray[Any], pt: NDArray[Any], partner: NDArray[np.int64], other_pt: NDArray[Any],
    passed: NDArray[np.bool_], weight: NDArray[np.float64], eta_bins: Bins, pt_bins: Bins, response_bins: int,
    memory: Memory,
) -> None:  # fmt: skip
    n_eta, n_pt = len(eta_bins.edges) + 1, len(pt_bins.edges) + 1
    for event in range(len(offsets) - 1):
        if passed[event]:
            for j in range(offsets[event], offsets[event + 1]):
                i = partner[j]
                if i >= 0:
                    response = locate_regular(
                        np.float64(other_pt[i]) / np.float64(pt[j]), 0.0, 3.0, response_bins
                    )
                    cell = locate(np.float64(eta[j]), eta_bins) + n_eta * locate(np.float64(pt[j]), pt_bins)
                    add(memory, cell + n_eta * n_pt * response, weight[event])


def fill_ratio(
    histogram: hist.Hist[Any], jets: Jagged, partner: NDArray[np.int64], other_pt: NDArray[Any],
    passed: NDArray[np.bool_], weight: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill the ratio of a partner's pT to the jet's, in bins of the jet's eta and pT.

    Args:
        histogram: axes eta, pT, ratio (equidistant in 0 to 3).
        jets: with `eta`, `pt`.
        partner: per jet, position of its partner, or -1.
        other_pt: pT of the partners' collection.
        passed, weight: per event.
    """
    axes = histogram.axes
    _fill_ratio(
        jets.offsets, jets.eta, jets.pt, partner, other_pt, passed, weight, bins_of(axes[0]), bins_of(axes[1]),
        axes[2].size, memory_of(histogram),
    )  # fmt: skip


@kernel
def _fill_direct(
    offsets: NDArray[np.int64], eta: NDArray[Any], phi: NDArray[Any], pt: NDArray[Any], good: NDArray[np.bool_],
    partner: NDArray[np.int64], other_eta: NDArray[Any], other_phi: NDArray[Any], other_pt: NDArray[Any],
    passed: NDArray[np.bool_], weight: NDArray[np.float64], eta_bins: Bins, pt_bins: Bins, response_bins: int,
    distance_bins: int, radius: float, response: Memory, correlation: Memory, distance: Memory,
) -> None:  # fmt: skip
    n_eta, n_pt = len(eta_bins.edges) + 1, len(pt_bins.edges) + 1
    for event in range(len(offsets) - 1):
        if passed[event]:
            w = weight[event]
            for j in range(offsets[event], offsets[event + 1]):
                i = partner[j]
                if i >= 0 and good[j]:
                    at_pt = locate(np.float64(pt[j]), pt_bins)
                    cell = locate(np.float64(eta[j]), eta_bins) + n_eta * at_pt
                    ratio = np.float64(other_pt[i]) / np.float64(pt[j])
                    add(response, cell + n_eta * n_pt * locate_regular(ratio, 0.0, 3.0, response_bins), w)
                    add(correlation, cell + n_eta * n_pt * locate(np.float64(other_pt[i]), pt_bins), w)
                    d_eta = np.float64(eta[j]) - np.float64(other_eta[i])
                    d_phi = delta_phi(np.float64(phi[j]), np.float64(other_phi[i]))
                    d_r = np.sqrt(d_eta * d_eta + d_phi * d_phi)
                    add(distance, at_pt + n_pt * locate_regular(d_r, 0.0, radius, distance_bins), w)


def fill_direct(
    response: hist.Hist[Any], correlation: hist.Hist[Any], distance: hist.Hist[Any], reference: Jagged,
    good: NDArray[np.bool_], partner: NDArray[np.int64], hlt: Jagged, passed: NDArray[np.bool_],
    weight: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill response, pT correlation and distance of every good reference jet that has an HLT partner.

    Args:
        response: axes eta, pT (reference), response.
        correlation: axes eta, pT (reference), pT (HLT), both pT with the same edges.
        distance: axes pT (reference), delta R.
        reference, hlt: with `pt`, `eta`, `phi`.
        good: per reference jet.
        partner: per reference jet, position of its HLT partner, or -1.
        passed, weight: per event.
    """
    d_r = distance.axes[1]
    _fill_direct(
        reference.offsets, reference.eta, reference.phi, reference.pt, good, partner, hlt.eta, hlt.phi, hlt.pt, passed,
        weight, bins_of(response.axes[0]), bins_of(response.axes[1]), response.axes[2].size, d_r.size, d_r.edges[-1],
        memory_of(response), memory_of(correlation), memory_of(distance),
    )  # fmt: skip
