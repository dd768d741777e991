"""A toy detector whose response is known in closed form.

| you want | use |
| --- | --- |
| the truth that a calibration should find | `hlt_response`, `offline_response`, `hlt_over_offline` |
| other parameters | `JetDetector`, `MuonDetector`, `Pileup`: named tuples with defaults |
| to measure one particle | `measure_jet`, `measure_muon`, `measure_angle`: kernels that draw from `uniform` and `normal_pair` |

A particle-level jet of pT p is measured as

    offline = p R_off (1 + σ_off g1) (1 - L_off),
    HLT     = p R_HLT (1 + σ_HLT (ϱ g1 + √(1-ϱ²) g2)) (1 - L_HLT) + κ (ρ - ρ0)/10 GeV · area/0.5,

with g1, g2 standard normal, and σ² = (N/p)² + S²/p + C² at the particle-level p, as in arXiv:1607.03663. The low tail
(a fraction of jets that lose L, uniform between two values; else L = 0) is drawn independently for HLT and offline.
What a jet loses is lost before pile-up is added; only the HLT keeps a residual of it, zero at ρ0.
The response of the core is thus exactly R_HLT + offset/p, that of all jets is a mixture whose median follows numerically.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.processors.compiled import kernel

__all__ = [
    "JetDetector",
    "MuonDetector",
    "Pileup",
    "Resolution",
    "ResponseTruth",
    "coarse_normal",
    "generator_state",
    "hlt_over_offline",
    "hlt_response",
    "hlt_scale",
    "measure_angle",
    "measure_jet",
    "measure_muon",
    "normal_pair",
    "offline_response",
    "pileup_offset",
    "relative_resolution",
    "uniform",
]

Array = NDArray[np.float64]
State = NDArray[np.uint64]


class Resolution(NamedTuple):
    """Relative pT resolution: noise N (GeV), stochastic S (√GeV), constant C."""

    noise: float
    stochastic: float
    constant: float


class JetDetector(NamedTuple):
    """Jet scale and resolution; regions are barrel |η| < 1.3, endcap, forward |η| ≥ 3.

    Attributes:
        scale_low, scale_rise, scale_rise_pt: barrel HLT scale low + rise (1 - e^(-p/rise_pt)), pT in GeV.
        scale_fall, scale_fall_pt: minus fall · ln(p/fall_pt) above fall_pt (GeV).
        endcap_slope: the HLT scale in the endcap is the barrel's times 1 - slope (|η| - 1.3).
        forward_scale: and forward this factor.
        offline_scale: of the offline reconstruction everywhere.
        hlt, offline: resolution in the three regions.
        correlation: between the two Gaussian cores.
        tail_fraction, tail_low, tail_high: fraction of jets that lose between `low` and `high` of their pT.
        offset, offset_rho: HLT pile-up residual κ (GeV, for 10 GeV of ρ and an area of 0.5), zero at `offset_rho` (GeV).
        angle_high, angle_low, angle_pt: η and φ resolution, high · √(angle_pt/p), kept between low and high.
    """

    scale_low: float = 0.93
    scale_rise: float = 0.06
    scale_rise_pt: float = 80.0
    scale_fall: float = 0.008
    scale_fall_pt: float = 500.0
    endcap_slope: float = 0.03
    forward_scale: float = 0.90
    offline_scale: float = 1.0
    hlt: tuple[Resolution, Resolution, Resolution] = (
        Resolution(4.5, 1.0, 0.045),
        Resolution(6.75, 1.15, 0.045),
        Resolution(4.5, 1.3, 0.07),
    )
    offline: tuple[Resolution, Resolution, Resolution] = (
        Resolution(3.0, 0.85, 0.035),
        Resolution(4.5, 0.9775, 0.035),
        Resolution(3.0, 1.3, 0.07),
    )
    correlation: float = 0.75
    tail_fraction: float = 0.03
    tail_low: float = 0.3
    tail_high: float = 0.6
    offset: float = 0.4
    offset_rho: float = 20.0
    angle_high: float = 0.05
    angle_low: float = 0.02
    angle_pt: float = 20.0


class MuonDetector(NamedTuple):
    """Relative pT resolution of one muon, both in |η| < `barrel_eta` and beyond; angles in radians."""

    barrel_eta: float = 0.9
    hlt_barrel: float = 0.0125
    hlt_forward: float = 0.025
    offline_barrel: float = 0.010
    offline_forward: float = 0.020
    correlation: float = 0.75
    angle: float = 0.0003


class Pileup(NamedTuple):
    """Mean number of interactions μ, a Gaussian; ρ (GeV) is `rho_per_mu` · μ with a Gaussian spread; vertices."""

    mu_mean: float = 40.0
    mu_width: float = 10.0
    rho_per_mu: float = 0.55
    rho_width: float = 1.0
    vertices_per_mu: float = 0.5

    @property
    def rho_mean(self) -> float:
        """Mean ρ, GeV."""
        return self.rho_per_mu * self.mu_mean

    @property
    def rho_spread(self) -> float:
        """Standard deviation of ρ over all events, GeV."""
        return math.hypot(self.rho_per_mu * self.mu_width, self.rho_width)


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


# ---- random numbers: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), one stream per event, so that an event is the same
# ---- whatever block or file it is made for.
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_LOW16, _S16, _S32, _S48 = np.uint64(0xFFFF), np.uint64(16), np.uint64(32), np.uint64(48)
_S30, _S27, _S31, _S12 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(12)


@kernel
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _S30)) * _FIRST
    value = (value ^ (value >> _S27)) * _SECOND
    return value ^ (value >> _S31)


@kernel
def generator_state(seed: int, event: int, state: State) -> None:
    """Put `state` (one element) at the beginning of an event's random numbers."""
    state[0] = _mixed(_mixed(np.uint64(seed) + _INCREMENT) + np.uint64(event) * _INCREMENT)


@kernel
def uniform(state: State) -> float:
    """The next uniform number, between 0 and 1, both excluded."""
    state[0] += _INCREMENT
    return (float(_mixed(state[0]) >> _S12) + 0.5) * 2.0**-52


@kernel
def normal_pair(state: State) -> tuple[float, float]:
    """Two independent standard normal numbers (Marsaglia's polar method)."""
    while True:
        x, y = 2.0 * uniform(state) - 1.0, 2.0 * uniform(state) - 1.0
        square = x * x + y * y
        if 0.0 < square < 1.0:
            factor = math.sqrt(-2.0 * math.log(square) / square)
            return x * factor, y * factor


@kernel
def coarse_normal(state: State) -> float:
    """A nearly normal number from one draw, for what nobody fits: four 16-bit uniform numbers, never beyond 3.5."""
    state[0] += _INCREMENT
    draw = _mixed(state[0])
    total = (draw & _LOW16) + ((draw >> _S16) & _LOW16) + ((draw >> _S32) & _LOW16) + (draw >> _S48)
    return (float(total) - 2.0 * 65535.0) * math.sqrt(3.0) / 65536.0


# ---- the detector, one particle at a time
@kernel
def _region(eta: float) -> int:
    if abs(eta) < 1.3:
        return 0
    return 1 if abs(eta) < 3.0 else 2


@kernel
def relative_resolution(pt: float, terms: Resolution) -> float:
    """σ(pT)/pT of a jet's core at particle-level `pt` (GeV)."""
    noise = terms.noise / pt
    return math.sqrt(
        noise * noise + terms.stochastic * terms.stochastic / pt + terms.constant * terms.constant
    )


@kernel
def hlt_scale(pt: float, eta: float, detector: JetDetector) -> float:
    """R_HLT, the HLT core response at particle-level `pt` (GeV) and `eta`, without pile-up."""
    scale = detector.scale_low + detector.scale_rise * (1.0 - math.exp(-pt / detector.scale_rise_pt))
    if pt > detector.scale_fall_pt:
        scale -= detector.scale_fall * math.log(pt / detector.scale_fall_pt)
    region = _region(eta)
    if region == 1:
        scale *= 1.0 - detector.endcap_slope * (abs(eta) - 1.3)
    elif region == 2:
        scale *= detector.forward_scale
    return scale


@kernel
def pileup_offset(rho: float, area: float, detector: JetDetector) -> float:
    """pT that pile-up leaves in an HLT jet, GeV."""
    return detector.offset * (rho - detector.offset_rho) / 10.0 * area / 0.5


@kernel
def _loss(state: State, detector: JetDetector) -> float:
    draw = uniform(state)
    if draw >= detector.tail_fraction:
        return 0.0
    # Below the fraction the draw itself is uniform again.
    return detector.tail_low + (detector.tail_high - detector.tail_low) * draw / detector.tail_fraction


@kernel
def measure_jet(
    pt: float, eta: float, offset: float, state: State, detector: JetDetector
) -> tuple[float, float]:
    """HLT and offline pT of a jet of particle-level `pt`, all GeV; a wide core can fluctuate below zero."""
    region = _region(eta)
    shared, own = normal_pair(state)
    hlt_noise = detector.correlation * shared + math.sqrt(1.0 - detector.correlation**2) * own
    hlt = (
        pt * hlt_scale(pt, eta, detector) * (1.0 + relative_resolution(pt, detector.hlt[region]) * hlt_noise)
    )
    offline = pt * detector.offline_scale * (1.0 + relative_resolution(pt, detector.offline[region]) * shared)
    return hlt * (1.0 - _loss(state, detector)) + offset, offline * (1.0 - _loss(state, detector))


@kernel
def measure_angle(
    pt: float, eta: float, phi: float, state: State, detector: JetDetector
) -> tuple[float, float]:
    """Measured η and φ (not wrapped) of a jet."""
    width = detector.angle_high * math.sqrt(detector.angle_pt / pt)
    width = min(max(width, detector.angle_low), detector.angle_high)
    first, second = normal_pair(state)
    return eta + width * first, phi + width * second


@kernel
def measure_muon(pt: float, eta: float, state: State, detector: MuonDetector) -> tuple[float, float]:
    """HLT and offline pT of a muon."""
    shared, own = normal_pair(state)
    noise = detector.correlation * shared + math.sqrt(1.0 - detector.correlation**2) * own
    if abs(eta) < detector.barrel_eta:
        return pt * (1.0 + detector.hlt_barrel * noise), pt * (1.0 + detector.offline_barrel * shared)
    return pt * (1.0 + detector.hlt_forward * noise), pt * (1.0 + detector.offline_forward * shared)


# ---- the truth
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
        region = _region(eta[k])
        hlt[k, 0] = hlt_scale(pt[k], eta[k], detector)
        hlt[k, 1] = hlt[k, 0] * relative_resolution(pt[k], detector.hlt[region])
        hlt[k, 2] = offset / pt[k]
        hlt[k, 3] = spread / pt[k]
        offline[k, 0] = detector.offline_scale
        offline[k, 1] = detector.offline_scale * relative_resolution(pt[k], detector.offline[region])
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
