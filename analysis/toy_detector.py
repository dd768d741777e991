"""A toy detector: its parameters, and kernels that measure one particle.

| you want | use |
| --- | --- |
| other parameters | `JetDetector`, `MuonDetector`, `Pileup`: named tuples with defaults |
| to measure one particle | `measure_jet`, `measure_muon`, `measure_angle`, `smeared_direction` |
| the truth that a calibration should find | `trila.analysis.toy_truth` |

A particle-level jet of pT p is measured as

    offline = p R_off (1 + σ_off g1) (1 - L_off),
    HLT     = p R_HLT (1 + σ_HLT (ϱ g1 + √(1-ϱ²) g2)) (1 - L_HLT) + κ (ρ - ρ0)/10 GeV · area/0.5,

with g1, g2 standard normal, and σ² = (N/p)² + S²/p + C² at the particle-level p, as in arXiv:1607.03663. The low tail
(a fraction of jets that lose L, uniform between two values; else L = 0) is drawn independently for HLT and offline.
What a jet loses is lost before pile-up is added; only the HLT keeps a residual of it, zero at ρ0.
"""

import math
from typing import NamedTuple

from trila.analysis.toy_random import State, normal_pair, uniform
from trila.processors.compiled import kernel

__all__ = [
    "JetDetector",
    "MuonDetector",
    "Pileup",
    "Resolution",
    "hlt_scale",
    "measure_angle",
    "measure_jet",
    "measure_muon",
    "pileup_offset",
    "relative_resolution",
    "smeared_direction",
]


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


@kernel
def _region(eta: float) -> int:
    if abs(eta) < 1.3:
        return 0
    return 1 if abs(eta) < 3.0 else 2


@kernel
def relative_resolution(pt: float, eta: float, regions: tuple[Resolution, Resolution, Resolution]) -> float:
    """σ(pT)/pT of a jet's core at particle-level `pt` (GeV) and `eta`."""
    terms = regions[_region(eta)]
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
def _noise(correlation: float, state: State) -> tuple[float, float]:
    """Standard normal numbers of HLT and offline, correlated."""
    shared, own = normal_pair(state)
    return correlation * shared + math.sqrt(1.0 - correlation**2) * own, shared


@kernel
def measure_jet(
    pt: float, eta: float, offset: float, state: State, detector: JetDetector
) -> tuple[float, float]:
    """HLT and offline pT of a jet of particle-level `pt`, all GeV; a wide core can fluctuate below zero."""
    hlt_noise, offline_noise = _noise(detector.correlation, state)
    hlt_width = relative_resolution(pt, eta, detector.hlt)
    offline_width = relative_resolution(pt, eta, detector.offline)
    hlt = pt * hlt_scale(pt, eta, detector) * (1.0 + hlt_width * hlt_noise)
    offline = pt * detector.offline_scale * (1.0 + offline_width * offline_noise)
    return hlt * (1.0 - _loss(state, detector)) + offset, offline * (1.0 - _loss(state, detector))


@kernel
def smeared_direction(eta: float, phi: float, width: float, state: State) -> tuple[float, float]:
    """η and φ (not wrapped), both with a Gaussian error of this width."""
    first, second = normal_pair(state)
    return eta + width * first, phi + width * second


@kernel
def measure_angle(
    pt: float, eta: float, phi: float, state: State, detector: JetDetector
) -> tuple[float, float]:
    """Measured η and φ (not wrapped) of a jet."""
    width = detector.angle_high * math.sqrt(detector.angle_pt / pt)
    width = min(max(width, detector.angle_low), detector.angle_high)
    return smeared_direction(eta, phi, width, state)


@kernel
def measure_muon(pt: float, eta: float, state: State, detector: MuonDetector) -> tuple[float, float]:
    """HLT and offline pT of a muon."""
    hlt, offline = _noise(detector.correlation, state)
    if abs(eta) < detector.barrel_eta:
        return pt * (1.0 + detector.hlt_barrel * hlt), pt * (1.0 + detector.offline_barrel * offline)
    return pt * (1.0 + detector.hlt_forward * hlt), pt * (1.0 + detector.offline_forward * offline)
