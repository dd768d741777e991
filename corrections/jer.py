"""The resolution of corrected HLT jets and of offline jets, as a function of pT, in regions of |η|.

| method | what it is | needs |
| --- | --- | --- |
| `particle` | width over mean of pT over particle-level pT, in bins of the latter | simulation |
| `asymmetry` | width of the asymmetry of tag and probe, in bins of their mean pT | alpha |

Both take the width of a Gaussian core (`trila.corrections.core_fits`) and fit noise, stochastic and constant term.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.corrections.asymmetry import Balanced, Jets, Slices, balanced, partners, slice_widths
from trila.corrections.calibration import ResolutionRegion
from trila.corrections.cells import cell_of, effective_entries
from trila.corrections.core_fits import gaussian_core
from trila.corrections.estimators import RESPONSE_EDGES, distributions
from trila.corrections.pairs import Pairs
from trila.corrections.resolution import Resolution, fit_resolution, resolution

__all__ = ["ETA_EDGES", "PT_EDGES", "Jer", "Method", "measure_jer", "regions"]

Array = NDArray[np.float64]
Collection = Literal["hlt", "offline"]
Method = Literal["particle", "asymmetry"]

#: Regions of |η|; for asymmetries, the first is that of the tags.
ETA_EDGES = (0.0, 1.3, 2.5, 3.0, 5.2)

#: Bins of the particle-level pT or of the mean pT of two jets, GeV.
PT_EDGES = (
    30.0, 37.0, 45.0, 55.0, 68.0, 84.0, 105.0, 130.0, 165.0, 210.0, 265.0, 335.0, 425.0, 540.0, 680.0, 860.0, 1100.0,
    1400.0, 1800.0, 2400.0, 3200.0,
)  # fmt: skip

_TERMS = 3
_INCLUDED = "the imbalance of particle-level jets is included"


class Jer(NamedTuple):
    """Relative pT resolution of one collection in one region; arrays have shape (bins,).

    Attributes:
        collection: "hlt" (corrected) or "offline".
        method: how it was measured.
        eta: lower and upper |η|.
        pt: at which each point is, GeV.
        resolution: relative; nan where there is none.
        error: statistical.
        used: which points are fitted.
        fit: noise, stochastic and constant term; None if they could not be fitted.
        uncertainty: relative, of the fit: its error and what the points scatter around it beyond their own, both as
            an average over the points; nan without a fit.
        pt_range: lowest and highest pT of the points that are fitted, GeV; nan without a fit.
        note: why there is no fit, or what else one should know.
    """

    collection: Collection
    method: Method
    eta: tuple[float, float]
    pt: Array
    resolution: Array
    error: Array
    used: NDArray[np.bool_]
    fit: Resolution | None
    uncertainty: float
    pt_range: tuple[float, float]
    note: str


def measure_jer(
    pairs: Pairs,
    hlt: Array,
    tag_hlt: Array | None,
    method: Method,
    *,
    eta_edges: Sequence[float] = ETA_EDGES,
    pt_edges: Sequence[float] = PT_EDGES,
    entries: float = 200.0,
) -> tuple[Jer, ...]:
    """Measure the resolutions.

    Asymmetries: the tags are in the first region. Probes there have the same resolution, √2 times the width; for
    those elsewhere the tag's is taken off in quadrature. Where particle-level jets are known, so is their asymmetry
    in the first region, from events that gave two pairs; it is taken off everywhere, as if imbalance did not depend on
    η. Without them it is included. Bins in which the trigger of the tags decides on the spectrum should be left out.

    Args:
        pairs: tag-and-probe pairs.
        hlt: corrected HLT pT of the probes, GeV, shape (n,).
        tag_hlt: the same of the tags, 0 where they have no HLT jet; None if unknown, and then HLT jets have no
            asymmetry.
        method: which.
        eta_edges: of the regions of |η|, that of the probe's HLT jet, from 0.
        pt_edges: bins of the particle-level pT, or of the mean pT of tag and probe, GeV.
        entries: effective entries below which a bin, or a slice of one in alpha, is not used.

    Returns:
        One for each collection and region: those of HLT jets, then those of offline jets.

    Raises:
        ValueError: `pairs` lack what the method needs.
    """
    if method == "particle":
        if pairs.particle is None:
            raise ValueError(
                "resolution by method particle, but the pairs have no particle-level pT; use asymmetry, or simulation"
            )
        return (
            *_particle(pairs, "hlt", hlt, pairs.particle, eta_edges, pt_edges, entries),
            *_particle(pairs, "offline", pairs.offline, pairs.particle, eta_edges, pt_edges, entries),
        )
    if pairs.alpha is None:
        raise ValueError(
            "resolution by method asymmetry, but the pairs have no alpha; use particle, or make the pairs again"
        )
    central = np.abs(pairs.eta) < eta_edges[1]
    # Only where both jets of an event are in the first region it gives two pairs.
    other = np.where(central, partners(pairs), -1)
    shared = np.where(other >= 0, pairs.weight[other], 0.0)
    found: list[Jer] = []
    both: tuple[tuple[Collection, NDArray[Any], NDArray[Any] | None], ...]
    both = (("hlt", hlt, tag_hlt), ("offline", pairs.offline, pairs.tag))
    for collection, probe, tag in both:
        if tag is None:
            note = "the HLT pT of the tags is unknown, so there are no asymmetries of HLT jets"
            found += [_unmeasured(collection, eta, pt_edges, note) for eta in _regions(eta_edges)]
        else:
            jets = Jets(tag, probe, pairs.alpha, pairs.weight, shared)
            found += _asymmetry(pairs, collection, jets, other, eta_edges, pt_edges, entries)
    return tuple(found)


def regions(jers: Sequence[Jer]) -> tuple[ResolutionRegion, ...]:
    """Resolution of the corrected HLT jets, for a calibration."""
    return tuple(
        ResolutionRegion(jer.eta, jer.fit, jer.pt_range, jer.uncertainty)
        for jer in jers
        if jer.collection == "hlt"
    )


def _regions(eta_edges: Sequence[float]) -> list[tuple[float, float]]:
    return list(pairwise(eta_edges))


def _particle(
    pairs: Pairs,
    collection: Collection,
    pt: NDArray[Any],
    particle: NDArray[Any],
    eta_edges: Sequence[float],
    pt_edges: Sequence[float],
    entries: float,
) -> list[Jer]:
    """All regions at once. Two probes of one event are different jets, so that their errors are independent."""
    cell, cells = cell_of((np.abs(pairs.eta), eta_edges), (particle, pt_edges))
    known = particle > 0
    response = np.divide(pt, particle, out=np.zeros(known.shape), where=known, dtype=np.float64)
    core = gaussian_core(*distributions(cell, response, pairs.weight, cells), RESPONSE_EDGES)
    good = core.converged & (effective_entries(cell, pairs.weight, cells) >= entries)
    inside = cell >= 0
    total, sums = (
        np.bincount(cell[inside], pairs.weight[inside] * factor, cells) for factor in (1.0, particle[inside])
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        points = [sums / total, core.width / core.mean]
        points.append(points[1] * np.hypot(core.width_error / core.width, core.mean_error / core.mean))
    bins = len(pt_edges) - 1
    return [
        _fitted(collection, "particle", eta, Balanced(*(p[part] for p in points)), good[part], "")
        for number, eta in enumerate(_regions(eta_edges))
        for part in [slice(number * bins, (number + 1) * bins)]
    ]


def _asymmetry(
    pairs: Pairs,
    collection: Collection,
    jets: Jets,
    other: NDArray[np.int64],
    eta_edges: Sequence[float],
    pt_edges: Sequence[float],
    entries: float,
) -> list[Jer]:
    mean = 0.5 * (jets.tag.astype(np.float64) + jets.probe)
    region = cell_of((np.abs(pairs.eta), eta_edges))[0]
    region[(jets.tag <= 0) | (jets.probe <= 0)] = -1
    if pairs.tag_eta is not None:
        region[np.abs(pairs.tag_eta) >= eta_edges[1]] = -1

    def widths(use: NDArray[np.bool_], which: Jets, exchangeable: bool) -> Slices:
        return slice_widths(which.take(use), mean[use], pt_edges, entries, exchangeable=exchangeable)

    imbalance = None
    if pairs.particle is not None:
        particle = np.where(other >= 0, pairs.particle[other], 0.0)
        both = (region == 0) & (particle > 0) & (pairs.particle > 0)
        imbalance = widths(both, jets._replace(tag=particle, probe=pairs.particle), True)
    note = _INCLUDED if imbalance is None else ""
    found: list[Jer] = []
    for number, eta in enumerate(_regions(eta_edges)):
        points = balanced(widths(region == number, jets, number == 0), imbalance)
        if number > 0:
            barrel = found[0]
            if barrel.fit is None:
                text = f"the tags' own resolution is unknown: {barrel.note}"
                found.append(_unmeasured(collection, eta, pt_edges, text))
                continue
            points, share = _without_tag(points, barrel.fit)
        found.append(_fitted(collection, "asymmetry", eta, points, np.isfinite(points.error), note))
        if number > 0 and found[-1].fit is not None:
            common = barrel.uncertainty * float(np.mean(share[found[-1].used]))
            found[-1] = found[-1]._replace(uncertainty=float(np.hypot(found[-1].uncertainty, common)))
    return found


def _without_tag(points: Balanced, tag: Resolution) -> tuple[Balanced, Array]:
    """Resolution of probes whose tags have another, and how much a relative change of the tags' changes it.

    With both in A, 4 σ_A² = σ_tag² + σ_probe², and `points` are √2 σ_A.
    """
    pt = np.where(np.isfinite(points.pt), points.pt, 1.0)
    own = resolution(pt, tag.n, tag.s, tag.c)
    square = 2.0 * points.resolution**2 - own**2
    probe = np.sqrt(square, out=np.full_like(square, np.nan), where=square > 0)
    return Balanced(points.pt, probe, 2.0 * points.resolution * points.error / probe), own**2 / probe**2


def _fitted(
    collection: Collection,
    method: Method,
    eta: tuple[float, float],
    points: Balanced,
    good: NDArray[np.bool_],
    note: str,
) -> Jer:
    pt, measured, error = points
    used = good & np.isfinite(pt) & np.isfinite(measured) & np.isfinite(error)
    if used.sum() < _TERMS:
        text = f"{used.sum()} of {used.size} bins could be measured, and three terms need three"
        return Jer(collection, method, eta, pt, measured, error, used, None, np.nan, (np.nan, np.nan), text)
    x, y, e = pt[used], measured[used], error[used]
    fit = fit_resolution(x, y, e)
    fitted = resolution(x, fit.n, fit.s, fit.c)
    slopes = np.stack([np.abs(fit.n) / x**2, fit.s / x, np.full_like(x, fit.c)]) / fitted**2
    own = np.einsum("ip,ij,jp->p", slopes, fit.covariance, slopes)
    # Terms that are fitted take up their part of the scatter.
    share = fit.ndof / x.size
    weight = (fitted / e) ** 2
    excess = np.average((y / fitted - 1.0) ** 2, weights=weight) - share * np.average(
        (e / fitted) ** 2, weights=weight
    )
    uncertainty = float(np.sqrt(np.mean(own) + max(float(excess), 0.0)))
    ends = (float(x.min()), float(x.max()))
    return Jer(collection, method, eta, pt, measured, error, used, fit, uncertainty, ends, note)


def _unmeasured(
    collection: Collection, eta: tuple[float, float], pt_edges: Sequence[float], note: str
) -> Jer:
    empty = np.full(len(pt_edges) - 1, np.nan)
    used = np.zeros(empty.size, dtype=np.bool_)
    return Jer(collection, "asymmetry", eta, empty, empty, empty, used, None, np.nan, (np.nan, np.nan), note)
