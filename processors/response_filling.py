"""Fills the response histograms, each in one pass over the jets, or the pairs, of a chunk.

All share the axes of eta and pT: `located` finds the bins of a collection's jets once for all of them. Compiled loops
find cells and others add to them: a loop that did both would wait for memory at each step, and take twice as long.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import hist
import numpy as np
from numpy.typing import NDArray

from trila.processors.columns import Jagged
from trila.processors.compiled import kernel
from trila.processors.filling import Bins, Indices, bins_of, fill_cells, indices, locate, locate_regular
from trila.processors.matching import Partners
from trila.processors.topology import Dijets

__all__ = ["Located", "fill_direct", "fill_matched", "fill_pairs", "fill_ratio", "located"]


class Located(NamedTuple):
    """Jets with their place in histograms of eta and pT; each array of shape (n_jets,).

    Attributes:
        jets: with `pt`.
        eta, pt: positions on the axes, underflow first.
        weight: of the jet's event; 0 where the event or the jet does not pass.
        n_eta: positions on the axis of eta.
        n_pt: positions on the axis of pT.
    """

    jets: Jagged
    eta: Indices
    pt: Indices
    weight: NDArray[np.float64]
    n_eta: int
    n_pt: int


def located(
    jets: Jagged, axes: Any, passed: NDArray[np.bool_], weight: NDArray[np.float64],
    good: NDArray[np.bool_] | None = None,
) -> Located:  # fmt: skip
    """Place jets on the first two of the axes, eta and pT.

    Args:
        jets: with `eta`, `pt`.
        axes: of a histogram.
        passed, weight: per event.
        good: per jet, whether it counts; all do, if not given.
    """
    eta, pt = indices(axes[0], jets.eta), indices(axes[1], jets.pt)
    per_jet = jets.spread(np.where(passed, weight, 0.0))
    if good is not None:
        np.copyto(per_jet, 0.0, where=~good)
    return Located(jets, eta, pt, per_jet, axes[0].extent, axes[1].extent)


@kernel
def _cells_of_matched(
    eta: Indices, pt: Indices, n_eta: int, n_pt: int, partner: NDArray[np.int64], cells: Indices
) -> None:
    for j in range(len(pt)):
        cells[j] = eta[j] + n_eta * (pt[j] + n_pt * int(partner[j] >= 0))


def fill_matched(histogram: hist.Hist[Any], at: Located, partner: NDArray[np.int64]) -> None:
    """Count jets in bins of eta, pT, and whether they have a partner.

    Args:
        histogram: axes eta, pT, matched.
        at: the jets.
        partner: per jet, position of its partner, or -1.
    """
    cells = np.empty(len(partner), np.int32)
    _cells_of_matched(at.eta, at.pt, at.n_eta, at.n_pt, partner, cells)
    fill_cells(histogram, at.weight, cells)


@kernel
def _cells_of_ratio(
    eta: Indices, pt: Indices, weight: NDArray[np.float64], n_eta: int, n_pt: int, jet_pt: NDArray[Any],
    partner: NDArray[np.int64], other_pt: NDArray[Any], response_bins: int, cells: Indices,
    cell_weight: NDArray[np.float64],
) -> int:  # fmt: skip
    n = 0
    for j in range(len(pt)):
        i = partner[j]
        if i >= 0:
            ratio = np.float64(other_pt[i]) / np.float64(jet_pt[j])
            cells[n] = eta[j] + n_eta * (pt[j] + n_pt * locate_regular(ratio, 0.0, 3.0, response_bins))
            cell_weight[n] = weight[j]
            n += 1
    return n


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
    cells, weight = np.empty(len(partner), np.int32), np.empty(len(partner))
    n = _cells_of_ratio(
        at.eta, at.pt, at.weight, at.n_eta, at.n_pt, at.jets.pt, partner, other_pt, histogram.axes[2].size, cells,
        weight,
    )  # fmt: skip
    fill_cells(histogram, weight[:n], cells[:n])


@kernel
def _cells_of_direct(
    eta: Indices, pt: Indices, weight: NDArray[np.float64], n_eta: int, n_pt: int, jet_pt: NDArray[Any],
    partner: NDArray[np.int64], distance2: NDArray[np.float64], hlt_pt: NDArray[Any], hlt_at: Indices,
    response_bins: int, distance_bins: int, radius: float, cells: Indices, cell_weight: NDArray[np.float64],
) -> int:  # fmt: skip
    n = 0
    for j in range(len(pt)):
        i = partner[j]
        if i >= 0:
            ratio = np.float64(hlt_pt[i]) / np.float64(jet_pt[j])
            at_response = locate_regular(ratio, 0.0, 3.0, response_bins)
            at_distance = locate_regular(np.sqrt(distance2[j]), 0.0, radius, distance_bins)
            cells[0, n] = eta[j] + n_eta * (pt[j] + n_pt * at_response)
            cells[1, n] = eta[j] + n_eta * (pt[j] + n_pt * hlt_at[i])
            cells[2, n] = pt[j] + n_pt * at_distance
            cell_weight[n] = weight[j]
            n += 1
    return n


def fill_direct(
    response: hist.Hist[Any], correlation: hist.Hist[Any], distance: hist.Hist[Any], at: Located,
    partners: Partners, hlt: Located,
) -> None:  # fmt: skip
    """Fill response, pT correlation and distance of every reference jet that has an HLT partner.

    Args:
        response: axes eta, pT (reference), response.
        correlation: axes eta, pT (reference), pT (HLT), both pT with the same edges.
        distance: axes pT (reference), delta R.
        at, hlt: the reference and HLT jets.
        partners: of reference and HLT jets.
    """
    cells, weight = np.empty((3, len(at.pt)), np.int32), np.empty(len(at.pt))
    d_r = distance.axes[1]
    n = _cells_of_direct(
        at.eta, at.pt, at.weight, at.n_eta, at.n_pt, at.jets.pt, partners.of_a, partners.distance2, hlt.jets.pt,
        hlt.pt, response.axes[2].size, d_r.size, d_r.edges[-1], cells, weight,
    )  # fmt: skip
    for histogram, found in zip((response, correlation, distance), cells, strict=True):
        fill_cells(histogram, weight[:n], found[:n])


@kernel
def _cells_of_pairs(
    eta: Indices, pt: Indices, n_eta: int, n_pt: int, jet_pt: NDArray[Any], hlt_at: Indices, hlt_pt: NDArray[Any],
    tag_of: NDArray[np.int64], probe_of: NDArray[np.int64], hlt_probe_of: NDArray[np.int64], bins: Bins,
    response_bins: int, cells: Indices,
) -> None:  # fmt: skip
    for k in range(len(tag_of)):
        tag, probe, hlt_probe = tag_of[k], probe_of[k], hlt_probe_of[k]
        pt_tag, pt_probe = np.float64(jet_pt[tag]), np.float64(jet_pt[probe])
        at_response = locate_regular(np.float64(hlt_pt[hlt_probe]) / pt_probe, 0.0, 3.0, response_bins)
        base = eta[probe] + n_eta * n_pt * at_response
        cells[0, k] = base + n_eta * pt[tag]
        cells[1, k] = base + n_eta * pt[probe]
        cells[2, k] = base + n_eta * hlt_at[hlt_probe]
        cells[3, k] = base + n_eta * locate(0.5 * (pt_tag + pt_probe), bins)


def fill_pairs(
    histograms: Mapping[str, hist.Hist[Any]], at: Located, hlt: Located, found: Dijets,
    weight: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill the response of the probes in bins of the pT of tag, probe, its HLT partner, and their average.

    Args:
        histograms: `tag_probe`, `tag_probe_reference`, `tag_probe_hlt`, `tag_probe_average`: axes eta, pT, response.
        at, hlt: the reference and HLT jets.
        found: the pairs.
        weight: per pair.
    """
    names = ("tag_probe", "tag_probe_reference", "tag_probe_hlt", "tag_probe_average")
    cells = np.empty((len(names), len(weight)), np.int32)
    axes = histograms["tag_probe"].axes
    _cells_of_pairs(
        at.eta, at.pt, at.n_eta, at.n_pt, at.jets.pt, hlt.pt, hlt.jets.pt, found.tag, found.probe, found.hlt_probe,
        bins_of(axes[1]), axes[2].size, cells,
    )  # fmt: skip
    for name, where in zip(names, cells, strict=True):
        fill_cells(histograms[name], weight, where)
