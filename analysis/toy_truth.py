"""The response of the toy detector in closed form: what a calibration should find.

| you want | use |
| --- | --- |
| HLT over particle level | `hlt_response` |
| offline over particle level | `offline_response` |
| HLT over offline | `hlt_over_offline` |

With the jets of `trila.analysis.toy_detector`, the response of the core is exactly R_HLT + offset/p; that of all jets is
a mixture of Gaussians whose median follows numerically.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.analysis.toy_detector import (
    JetDetector,
    Pileup,
    hlt_scale,
    pileup_offset,
    relative_resolution,
)
from trila.processors.compiled import kernel

__all__ = ["ResponseTruth", "hlt_over_offline", "hlt_response", "offline_response"]

Array = NDArray[np.float64]


class ResponseTruth(NamedTuple):
    """What an ideal measurement finds at given particle-level pT and η, all of the same shape.

    Attributes:
        core: location of the Gaussian core, without the low tail.
        median: of all jets, with the tail.
        mean: of all jets; for HLT over offline the ratio of the two means.
        resolution: standard deviation of the core over `core`; for HLT over offline to first order.
    """

    core: Array
    median: Array
    mean: Array
    resolution: Array


@kernel
def _below(
    ratio: float,
    upper: Array,
    lower: Array,
    correlation: float,
    losses: Array,
    weights_upper: Array,
    weights_lower: Array,
) -> float:
    """Probability that `upper` / `lower` is below `ratio`; each is location, width, offset, spread of the offset.

    For a positive denominator it is the probability that upper - ratio · lower is negative, and given what each lost
    that is a Gaussian variable.
    """
    total = 0.0
    for i in range(losses.size):
        if weights_upper[i] == 0.0:
            continue
        keep_upper = 1.0 - losses[i]
        for j in range(losses.size):
            if weights_lower[j] == 0.0:
                continue
            keep_lower = 1.0 - losses[j]
            location = upper[0] * keep_upper + upper[2] - ratio * lower[0] * keep_lower
            a = upper[1] * keep_upper
            b = ratio * lower[1] * keep_lower
            width = math.sqrt(max(a * a + b * b - 2.0 * correlation * a * b + upper[3] * upper[3], 1e-24))
            total += (
                weights_upper[i] * weights_lower[j] * 0.5 * math.erfc(location / (width * math.sqrt(2.0)))
            )
    return total


@kernel
def _medians(
    upper: Array, lower: Array, correlation: float, losses: Array, weights_upper: Array, weights_lower: Array
) -> Array:
    medians = np.empty(upper.shape[0])
    for k in range(upper.shape[0]):
        args = (upper[k], lower[k], correlation, losses, weights_upper, weights_lower)
        middle = (upper[k, 0] + upper[k, 2]) / lower[k, 0]
        step = 0.5 * (upper[k, 1] + lower[k, 1]) + 1e-6
        low, high = middle - step, middle + step
        below, above = _below(low, *args) - 0.5, _below(high, *args) - 0.5
        while below > 0.0:
            low -= step
            below = _below(low, *args) - 0.5
        while above < 0.0:
            high += step
            above = _below(high, *args) - 0.5
        # False position; halving the value of an end that stays (Illinois) keeps the other end moving.
        last = 0
        for _ in range(60):
            middle = (low * above - high * below) / (above - below)
            value = _below(middle, *args) - 0.5
            if abs(value) < 1e-13 or high - low < 1e-12:
                break
            if value < 0.0:
                low, below, above, last = middle, value, above * (0.5 if last == -1 else 1.0), -1
            else:
                high, above, below, last = middle, value, below * (0.5 if last == 1 else 1.0), 1
        medians[k] = middle
    return medians


@kernel
def _describe(
    pt: Array, eta: Array, offset: float, spread: float, detector: JetDetector
) -> tuple[Array, Array]:
    """Per point: location, width, offset and its spread, over pT, for the HLT and for the offline jet."""
    hlt, offline = np.zeros((pt.size, 4)), np.zeros((pt.size, 4))
    for k in range(pt.size):
        hlt[k, 0] = hlt_scale(pt[k], eta[k], detector)
        hlt[k, 1] = hlt[k, 0] * relative_resolution(pt[k], eta[k], detector.hlt)
        hlt[k, 2] = offset / pt[k]
        hlt[k, 3] = spread / pt[k]
        offline[k, 0] = detector.offline_scale
        offline[k, 1] = detector.offline_scale * relative_resolution(pt[k], eta[k], detector.offline)
    return hlt, offline


def _truth(
    pt: ArrayLike,
    eta: ArrayLike,
    detector: JetDetector,
    pileup: Pileup,
    rho: float | None,
    upper: str,
    lower: str,
) -> ResponseTruth:
    pts, etas = np.broadcast_arrays(np.asarray(pt, np.float64), np.asarray(eta, np.float64))
    shape = pts.shape
    offset = pileup_offset(pileup.rho_mean if rho is None else rho, 0.5, detector)
    spread = pileup_offset(detector.offset_rho + pileup.rho_spread, 0.5, detector) if rho is None else 0.0
    hlt, offline = _describe(pts.ravel(), etas.ravel(), offset, spread, detector)
    particle = np.zeros_like(hlt)
    particle[:, 0] = 1.0
    of = {"hlt": hlt, "offline": offline, "particle": particle}
    nodes, weights = np.polynomial.legendre.leggauss(16)
    losses = np.append(
        0.0, detector.tail_low + (detector.tail_high - detector.tail_low) * (nodes + 1.0) / 2.0
    )
    tail = np.append(1.0 - detector.tail_fraction, detector.tail_fraction * weights / 2.0)
    no_tail = np.append(1.0, np.zeros(nodes.size))
    tails = {"hlt": tail, "offline": tail, "particle": no_tail}
    kept = {"hlt": 1.0 - tail @ losses, "offline": 1.0 - tail @ losses, "particle": 1.0}
    a, b = of[upper], of[lower]
    median = _medians(a, b, detector.correlation, losses, tails[upper], tails[lower])
    core = (a[:, 0] + a[:, 2]) / b[:, 0]
    mean = (a[:, 0] * kept[upper] + a[:, 2]) / (b[:, 0] * kept[lower])
    own, other = np.hypot(a[:, 1], a[:, 3]) / (a[:, 0] + a[:, 2]), b[:, 1] / b[:, 0]
    shared = a[:, 1] / (a[:, 0] + a[:, 2]) * other
    resolution = np.sqrt(own**2 + other**2 - 2.0 * detector.correlation * shared)
    return ResponseTruth(*(values.reshape(shape) for values in (core, median, mean, resolution)))


_JETS = JetDetector()
_PILEUP = Pileup()


def hlt_response(
    pt: ArrayLike,
    eta: ArrayLike,
    *,
    detector: JetDetector = _JETS,
    pileup: Pileup = _PILEUP,
    rho: float | None = None,
) -> ResponseTruth:
    """HLT pT over particle-level pT.

    Args:
        pt: particle-level, GeV.
        eta: particle-level; broadcast with `pt`.
        detector: its parameters.
        pileup: its parameters.
        rho: at this ρ (GeV) exactly; by default the average over the pile-up of `pileup`.
    """
    return _truth(pt, eta, detector, pileup, rho, "hlt", "particle")


def offline_response(pt: ArrayLike, eta: ArrayLike, *, detector: JetDetector = _JETS) -> ResponseTruth:
    """Offline pT over particle-level pT; arguments as in `hlt_response`."""
    return _truth(pt, eta, detector, _PILEUP, None, "offline", "particle")


def hlt_over_offline(
    pt: ArrayLike,
    eta: ArrayLike,
    *,
    detector: JetDetector = _JETS,
    pileup: Pileup = _PILEUP,
    rho: float | None = None,
) -> ResponseTruth:
    """HLT pT over offline pT of the same jet, at given *particle-level* pT: what tag bins see; as `hlt_response`.

    In bins of the offline or the HLT pT of the jet itself, migrations on the falling spectrum come on top.
    """
    return _truth(pt, eta, detector, pileup, rho, "hlt", "offline")
