"""Parameters of toy events: `Toy` holds all of them, `DEFAULT` the usual ones; change some with `_replace`.

Momenta, energies and masses are in GeV, lengths in cm.
"""

from typing import NamedTuple

from trila.analysis.toy_detector import JetDetector, MuonDetector, Pileup

__all__ = ["DEFAULT", "DijetGenerator", "DimuonGenerator", "JetGenerator", "Toy", "Trigger"]

# Kernels read these by position, so a change here has them compiled again: see `trila.processors.compiled`.


class Trigger(NamedTuple):
    """Level-1 objects and random decisions.

    Attributes:
        l1_scale, l1_resolution: a level-1 jet is the particle jet's pT times scale, smeared by this relative width.
        ht_pt, ht_eta: level-1 jets above this pT (GeV) and within this |η| enter HT.
        muon_threshold, muon_width: level-1 muon turn-on, an error function of true pT (GeV).
        reference_fraction, zero_bias_fraction: of events taken by the orthogonal and by the random trigger.
        missing_fraction: of `jets` events without HLT objects, as in the monitoring stream of 2022 to 2024.
    """

    l1_scale: float = 0.8
    l1_resolution: float = 0.22
    ht_pt: float = 30.0
    ht_eta: float = 2.4
    muon_threshold: float = 3.5
    muon_width: float = 0.5
    reference_fraction: float = 0.2
    zero_bias_fraction: float = 0.01
    missing_fraction: float = 0.001


class JetGenerator(NamedTuple):
    """Particle-level multijet events.

    The pT of the hard scattering is drawn from p^-bias and weighted to p^-exponent (1 - 2p/√s)^beta; the weight is 1 at
    100 GeV. Two partons of that pT get a common transverse kick, recoil against initial-state jets, lose a jet by
    final-state radiation and are smeared for what falls out of the cone.

    Attributes:
        pt_min, pt_max: range of the hard scattering, GeV.
        exponent, beta, bias: above.
        sqrt_s: GeV.
        boost_width, half_width: Gaussian widths of (y1+y2)/2 and (y1-y2)/2.
        eta_max: of particle-level jets.
        kick: common transverse momentum, per component, GeV.
        isr_mean, isr_pt, isr_reach: mean number of initial-state jets, their lowest pT (GeV), their highest over the
            hard pT; pT = lowest (highest/lowest)^(u^1.5) with u uniform.
        fsr_fraction, fsr_low, fsr_high: probability of each parton to radiate a jet, with a momentum fraction dz/z.
        cone_width: relative spread of what the cone catches.
        dimuon_fraction: of events with a muon pair.
        particle_pt, offline_pt, hlt_pt: jets are stored above, GeV.
    """

    pt_min: float = 10.0
    pt_max: float = 4000.0
    exponent: float = 5.0
    beta: float = 10.0
    bias: float = 1.5
    sqrt_s: float = 13600.0
    boost_width: float = 1.0
    half_width: float = 1.2
    eta_max: float = 4.7
    kick: float = 3.0
    isr_mean: float = 0.8
    isr_pt: float = 5.0
    isr_reach: float = 0.6
    fsr_fraction: float = 0.25
    fsr_low: float = 0.04
    fsr_high: float = 0.5
    cone_width: float = 0.10
    dimuon_fraction: float = 0.2
    particle_pt: float = 8.0
    offline_pt: float = 10.0
    hlt_pt: float = 10.0


class DijetGenerator(NamedTuple):
    """Two-jet events whose particle-level mass falls as `dijet4`; balanced in pT, with soft further jets.

    Attributes:
        shape: p1, p2, p3 of `dijet4`.
        mass_min, mass_max: GeV.
        sqrt_s: GeV.
        separation: largest |Δη| of background, flat in e^|Δη|; signal is flat in tanh(Δη/2).
        boost_width: Gaussian width of (y1+y2)/2, truncated where x > 1 and at |η| = 5.
        extra_mean, extra_pt: mean number of further jets; their pT over 20 GeV is exponential with this mean (GeV).
        hlt_pt: jets are stored above, GeV.
    """

    shape: tuple[float, float, float] = (10.0, 5.5, 0.1)
    mass_min: float = 200.0
    mass_max: float = 12000.0
    sqrt_s: float = 13600.0
    separation: float = 2.0
    boost_width: float = 0.8
    extra_mean: float = 0.7
    extra_pt: float = 15.0
    hlt_pt: float = 20.0


class DimuonGenerator(NamedTuple):
    """Two-body decays, isotropic, of pairs flat in rapidity, with both muons in acceptance.

    Attributes:
        pt_min, eta_max: every muon has true pT above (GeV) and |η| below.
        rapidity: largest |y| of the pair.
        pt_scale: the pair's dN/dpT ∝ pT (1 + pT²/s²)^-3 with s the larger of this (GeV) and half the mass.
        decay_length: cτ of a displaced source over its mass (cm/GeV): transverse length = this · pT, exponential.
        vertex_error: transverse, cm; along the beam twice that.
    """

    pt_min: float = 3.0
    eta_max: float = 2.4
    rapidity: float = 2.2
    pt_scale: float = 4.0
    decay_length: float = 0.0086
    vertex_error: float = 0.003


class Toy(NamedTuple):
    """All parameters of toy events."""

    jets: JetGenerator = JetGenerator()
    dijet: DijetGenerator = DijetGenerator()
    dimuon: DimuonGenerator = DimuonGenerator()
    detector: JetDetector = JetDetector()
    muon_detector: MuonDetector = MuonDetector()
    pileup: Pileup = Pileup()
    trigger: Trigger = Trigger()


DEFAULT = Toy()
