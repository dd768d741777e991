"""Dijet asymmetries: how far two jets that should balance do not, in bins of their mean pT and slices of alpha.

With A = (p_tag - p_probe)/(p_tag + p_probe), the width of A is made of the resolutions of the two jets, of radiation
(alpha is the third jet's pT over the mean of the two), and of what is not balanced at particle level even without a
third jet. `slice_widths` measures it, `balanced` takes the last two off (CMS, arXiv:1607.03663, section 8).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.corrections.cells import cell_of
from trila.corrections.core_fits import gaussian_core
from trila.corrections.estimators import RESPONSE_EDGES, distributions
from trila.corrections.pairs import Pairs
from trila.corrections.resolution import asymmetry_resolution
from trila.corrections.response import effective_entries

__all__ = ["ALPHA_EDGES", "Balanced", "Jets", "Slices", "balanced", "partners", "slice_widths"]

Array = NDArray[np.float64]

#: Slices of alpha. Disjoint, so that their errors are independent; beyond 0.3 the third jet is no small correction.
ALPHA_EDGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)

# Bins of `RESPONSE_EDGES` for 1 + A, which is between 0 and 2.
_BINS = int(np.searchsorted(RESPONSE_EDGES, 2.0 - 1e-9))

# Width of A that stands for balance at particle level: of no consequence to a measured one.
_NO_WIDTH = 1e-9


class Jets(NamedTuple):
    """Two jets of each pair, and what their asymmetries are weighted and sliced with; arrays have shape (n,).

    Attributes:
        tag, probe: pT, GeV.
        alpha: third jet's pT over the mean of the two leading.
        weight: of the pair.
        shared: weight of the other pair that the same event gave, with tag and probe exchanged; 0 if there is none.
    """

    tag: NDArray[Any]
    probe: NDArray[Any]
    alpha: NDArray[Any]
    weight: Array
    shared: Array

    def take(self, which: NDArray[np.bool_]) -> "Jets":
        """The pairs that a mask names."""
        return Jets(*(column[which] for column in self))


class Slices(NamedTuple):
    """Gaussian cores of asymmetries; shape (bins of pT, slices of alpha) but for `pt` and `spectrum`.

    Attributes:
        pt: mean of the mean pT of the pairs in each bin, GeV, shape (bins,).
        spectrum: weight of the pairs per unit of ln pT, shape (bins,).
        alpha: root mean square.
        width: of the asymmetry; nan where there are too few pairs, or the fit failed.
        error: of the width, nan as well.
        entries: effective number of events.
    """

    pt: Array
    spectrum: Array
    alpha: Array
    width: Array
    error: Array
    entries: Array


class Balanced(NamedTuple):
    """Resolution of one jet if both have the same, √2 times the width of A; shape (bins,).

    Attributes:
        pt: at which it is, GeV.
        resolution: relative; nan where it could not be measured.
        error: its statistical error.
    """

    pt: Array
    resolution: Array
    error: Array


def partners(pairs: Pairs) -> NDArray[np.int64]:
    """For each pair the index of the one of the same event with tag and probe exchanged; -1 if there is none.

    Simulated samples may number their events alike: alpha and pile-up must agree too.
    """
    keys = [pairs.run, pairs.luminosity_block, pairs.event]
    keys += [column for column in (pairs.alpha, pairs.pileup) if column is not None]
    order = np.lexsort(keys)
    same = np.ones(max(order.size - 1, 0), dtype=np.bool_)
    for column in keys:
        same &= column[order[1:]] == column[order[:-1]]
    found = np.full(order.size, -1, dtype=np.int64)
    first, second = order[:-1][same], order[1:][same]
    found[first], found[second] = second, first
    return found


def slice_widths(
    jets: Jets,
    mean: ArrayLike,
    pt_edges: ArrayLike,
    entries: float,
    *,
    exchangeable: bool,
) -> Slices:
    """Widths of the asymmetry, of the core as in `gaussian_core`.

    Args:
        jets: whose asymmetry.
        mean: pT by which the pairs are binned, GeV, shape (n,): the mean of the two jets, or of the same jets in
            another reconstruction.
        pt_edges: bins of it.
        entries: effective events below which a slice is not used. The two pairs of one event have opposite
            asymmetries and count as one.
        exchangeable: whether tag and probe come from the same region. Then A and -A are equally probable, and both
            are filled, with half of the weight.
    """
    average = np.asarray(mean, dtype=np.float64)
    tag, probe = jets.tag.astype(np.float64), jets.probe.astype(np.float64)
    cell, cells = cell_of((average, pt_edges), (jets.alpha, ALPHA_EDGES))
    response = 1.0 + (tag - probe) / (tag + probe)
    # An event's part in a sum over A and -A is proportional to its whole weight, and so is the part of each pair.
    together = np.sqrt(jets.weight * (jets.weight + jets.shared))
    values = distributions(cell, response, jets.weight, cells)[0][:, :_BINS]
    variances = distributions(cell, response, together, cells)[1][:, :_BINS]
    if exchangeable:
        values, variances = (0.5 * (counts + counts[:, ::-1]) for counts in (values, variances))
    core = gaussian_core(values, variances, RESPONSE_EDGES[: _BINS + 1])
    number = effective_entries(values, variances)
    good = core.converged & (number >= entries)
    shape = (np.size(pt_edges) - 1, len(ALPHA_EDGES) - 1)
    inside = cell >= 0
    weight, where = jets.weight[inside], cell[inside]
    total, sum_pt, sum_alpha = (
        np.bincount(where, weight * factor, cells).reshape(shape)
        for factor in (1.0, average[inside], jets.alpha[inside].astype(np.float64) ** 2)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        pt = sum_pt.sum(axis=1) / total.sum(axis=1)
        alpha = np.sqrt(sum_alpha / total)
    return Slices(
        pt,
        total.sum(axis=1) / np.diff(np.log(np.asarray(pt_edges, dtype=np.float64))),
        alpha,
        np.where(good, core.width, np.nan).reshape(shape),
        np.where(good, core.width_error, np.nan).reshape(shape),
        number.reshape(shape),
    )


def balanced(measured: Slices, imbalance: Slices | None) -> Balanced:
    """Resolutions without radiation and imbalance, at the pT that the jets of a bin have before their measurement.

    On a falling spectrum most pairs of a bin come from below. With a spectrum dN/d ln p ~ p^-k and a resolution that
    falls as 1/√p, pairs of a mean p have p (1 - δ) before, δ = (k + 1) σ_A², to first order in the variance σ_A² of
    their mean, which is that of A. Their A is smaller by the same factor, as the mean is its denominator. k is taken
    from a parabola through the logarithm of the spectrum of the pairs.

    Args:
        measured: widths for the jets as measured.
        imbalance: for particle-level jets, in the same bins; None takes nothing off.
    """
    width = np.full_like(measured.width, _NO_WIDTH) if imbalance is None else imbalance.width
    error = np.full_like(measured.width, _NO_WIDTH) if imbalance is None else imbalance.error
    found = asymmetry_resolution(measured.alpha, measured.width, measured.error, width, error)
    kept = 1.0 - (_fall(measured) + 1.0) * 0.5 * found.resolution**2
    kept = np.where(kept > 0.5, kept, np.nan)  # beyond, a first order says nothing
    return Balanced(measured.pt * kept, found.resolution / kept, found.error / kept)


def _fall(measured: Slices) -> Array:
    """Logarithmic slope -d ln N / d ln p at each bin of a spectrum; nan where there are fewer than three bins."""
    used = (measured.spectrum > 0) & np.any(np.isfinite(measured.width), axis=1)
    if used.sum() < 3:
        return np.full_like(measured.pt, np.nan)
    log_pt = np.log(measured.pt)
    events = np.sqrt(measured.entries.sum(axis=1)[used])
    parabola = np.polyfit(log_pt[used], np.log(measured.spectrum[used]), 2, w=events)
    return np.where(used, -np.polyval(np.polyder(parabola), log_pt), np.nan)
