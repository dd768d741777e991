"""Toy events: arrays of particle-level, HLT and offline objects, with known truth.

| you want | use |
| --- | --- |
| to calibrate: weighted dijet events with HLT, offline and particle-level jets | `jets` |
| to search: HLT jets whose dijet mass falls as `dijet4`, with or without a signal | `dijet` |
| muon pairs: resonances, continuum, same-sign pairs, displaced vertices | `dimuon` |

Event number i depends on the seed and on i alone, not on the range of events asked for. Momenta, energies and masses are
in GeV, lengths in cm.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.toy_detector import (
    JetDetector,
    MuonDetector,
    Pileup,
    coarse_normal,
    generator_state,
    measure_angle,
    measure_jet,
    measure_muon,
    normal_pair,
    pileup_offset,
    uniform,
)
from trila.fits.functions import expectation
from trila.processors.compiled import kernel

__all__ = [
    "COMBINATORIAL",
    "CONTINUUM",
    "DEFAULT",
    "HLT_JET_FIELDS",
    "PROCESSES",
    "RESONANCE",
    "Collection",
    "DijetGenerator",
    "DimuonGenerator",
    "Events",
    "GaussianSignal",
    "JetGenerator",
    "Process",
    "Toy",
    "Trigger",
    "dijet",
    "dimuon",
    "jets",
]

Floats = NDArray[np.float32]
Array = NDArray[np.float64]
State = NDArray[np.uint64]

HLT_JET_FIELDS = (
    *("pt", "eta", "phi", "m", "jetArea"),
    *("chargedHadronEnergy", "neutralHadronEnergy", "photonEnergy", "electronEnergy", "muonEnergy"),
    *("HFHadronEnergy", "HFEMEnergy"),
    *("chargedHadronMultiplicity", "neutralHadronMultiplicity", "photonMultiplicity"),
    *("electronMultiplicity", "muonMultiplicity"),
)

_MAX_JETS = 20
_MUON_MASS = 0.1056584
_TWO_PI = 2.0 * math.pi
RESONANCE, CONTINUUM, COMBINATORIAL = 0, 1, 2


class Collection(NamedTuple):
    """Objects of one kind: how many per event, and their fields, shape (fields, objects of all events)."""

    counts: NDArray[np.int32]
    values: Floats


class Events(NamedTuple):
    """A range of events.

    Attributes:
        weight: of the event; 1 except for `jets`.
        hard_scale: pT of the hard scattering (`jets`), mass of the two jets or muons before detection (others).
        process: 1 for signal (`dijet`), index of the process or -1 (`dimuon`, `jets`), else 0.
        mu, rho, n_pv: mean number of interactions, energy density, reconstructed vertices.
        products: whether the HLT objects were stored.
        reference: an orthogonal trigger took the event.
        zero_bias: a random trigger took the event.
        muon_pair: both muons fired the level-1 trigger.
        l1_ht, l1_pt: level-1 HT and leading jet.
        hlt_pt: leading HLT jet, stored or not.
        gen: pt, eta, phi, mass.
        offline: pt, eta, phi, mass, area.
        hlt: `HLT_JET_FIELDS`.
        vertices: HLT primary vertices: x, y, z.
        hlt_muons: pt, eta, phi, charge, track isolation, number of dimuon vertices.
        offline_muons: pt, eta, phi, charge.
        dimuon_vertices: x, y, z, their errors, χ², degrees of freedom.
    """

    weight: Floats
    hard_scale: Array
    process: NDArray[np.int32]
    mu: Floats
    rho: Floats
    n_pv: NDArray[np.int32]
    products: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    zero_bias: NDArray[np.bool_]
    muon_pair: NDArray[np.bool_]
    l1_ht: Floats
    l1_pt: Floats
    hlt_pt: Floats
    gen: Collection
    offline: Collection
    hlt: Collection
    vertices: Collection
    hlt_muons: Collection
    offline_muons: Collection
    dimuon_vertices: Collection


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


class GaussianSignal(NamedTuple):
    """A resonance in the dijet mass: particle-level mass and width in GeV, and how many events of the sample."""

    mass: float
    width: float
    events: int


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


class Process(NamedTuple):
    """A source of muon pairs.

    Attributes:
        name: of the process.
        shape: `RESONANCE` (Breit-Wigner, a line where the width is 0, cut at ten widths), `CONTINUUM`
            (m^-3 from 2 to 200 GeV) or `COMBINATORIAL` (85 % e^(-m/3 GeV) above 0.25 GeV, 15 % m^-3 from 1 to 200).
        mass, width: GeV.
        events: relative yield.
        displaced: fraction from decays in flight, with the lifetime of B hadrons.
        same_sign: both muons carry the same charge.
    """

    name: str
    shape: int
    mass: float
    width: float
    events: float
    displaced: float = 0.0
    same_sign: bool = False


# Masses and widths: Particle Data Group, Phys. Rev. D 110, 030001 (2024).
PROCESSES = (
    Process("eta", RESONANCE, 0.547862, 0.0, 2e4),
    Process("omega", RESONANCE, 0.78266, 0.00868, 5e4),
    Process("phi", RESONANCE, 1.019461, 0.004249, 8e4),
    Process("J/psi", RESONANCE, 3.0969, 0.0, 1.5e6, 0.2),
    Process("psi(2S)", RESONANCE, 3.686097, 0.0, 5e4, 0.2),
    Process("Upsilon(1S)", RESONANCE, 9.4604, 0.0, 1.2e5),
    Process("Upsilon(2S)", RESONANCE, 10.0234, 0.0, 3.5e4),
    Process("Upsilon(3S)", RESONANCE, 10.3551, 0.0, 2e4),
    Process("Z", RESONANCE, 91.188, 2.4955, 1e5),
    Process("Drell-Yan", CONTINUUM, 2.0, 0.0, 2.9e6),
    Process("combinatorial", COMBINATORIAL, 0.25, 0.0, 4e6),
    Process("combinatorial same-sign", COMBINATORIAL, 0.25, 0.0, 4e6, 0.0, True),
)


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


# ---- storage
def _collection(events: int, fields: int, per_event: int) -> Collection:
    # Pages that stay untouched cost nothing: the capacity may be generous.
    return Collection(np.zeros(events, np.int32), np.empty((fields, events * per_event + 64), np.float32))


def _empty(events: int) -> Events:
    def floats() -> Floats:
        return np.zeros(events, np.float32)

    def bools() -> NDArray[np.bool_]:
        return np.zeros(events, np.bool_)

    return Events(
        weight=np.ones(events, np.float32),
        hard_scale=np.zeros(events),
        process=np.full(events, -1, np.int32),
        mu=floats(),
        rho=floats(),
        n_pv=np.zeros(events, np.int32),
        products=np.ones(events, np.bool_),
        reference=bools(),
        zero_bias=bools(),
        muon_pair=bools(),
        l1_ht=floats(),
        l1_pt=floats(),
        hlt_pt=floats(),
        gen=_collection(events, 4, _MAX_JETS),
        offline=_collection(events, 5, _MAX_JETS),
        hlt=_collection(events, len(HLT_JET_FIELDS), _MAX_JETS),
        vertices=_collection(events, 3, 100),
        hlt_muons=_collection(events, 6, 2),
        offline_muons=_collection(events, 4, 2),
        dimuon_vertices=_collection(events, 8, 1),
    )


def _trimmed(events: Events) -> Events:
    parts: dict[str, Any] = events._asdict()
    for name, part in parts.items():
        if isinstance(part, Collection):
            parts[name] = Collection(part.counts, part.values[:, : int(part.counts.sum())])
    return Events(**parts)


@kernel
def _sort(rows: Array, count: int) -> None:
    """The first `count` rows, highest first column first."""
    for i in range(1, count):
        j = i
        while j > 0 and rows[j - 1, 0] < rows[j, 0]:
            for k in range(rows.shape[1]):
                rows[j - 1, k], rows[j, k] = rows[j, k], rows[j - 1, k]
            j -= 1


@kernel
def _store(rows: Array, count: int, collection: Collection, event: int, cursor: int) -> int:
    """Write the first `count` rows; returns where the next event begins."""
    for k in range(collection.values.shape[0]):
        for i in range(count):
            collection.values[k, cursor + i] = rows[i, k]
    collection.counts[event] = count
    return cursor + count


# ---- pieces of an event
@kernel
def _wrapped(phi: float) -> float:
    # From anywhere within ±3π; a floating-point remainder takes ten times as long.
    if phi >= math.pi:
        return phi - _TWO_PI
    return phi + _TWO_PI if phi < -math.pi else phi


@kernel
def _poisson(mean: float, state: State) -> int:
    limit, product, count = math.exp(-mean), uniform(state), 0
    while product > limit:
        product *= uniform(state)
        count += 1
    return count


@kernel
def _exponential(mean: float, state: State) -> float:
    return -mean * math.log(uniform(state))


@kernel
def _near(eta: float, phi: float, rows: Array, count: int, distance: float) -> bool:
    for i in range(count):
        d_eta, d_phi = eta - rows[i, 1], _wrapped(phi - rows[i, 2])
        if d_eta * d_eta + d_phi * d_phi < distance * distance:
            return True
    return False


@kernel
def _draw_pileup(vertices: Floats, cursor: int, state: State, pileup: Pileup) -> tuple[float, float, int]:
    """μ, ρ and the number of vertices, which are written from `cursor` on."""
    first, second = normal_pair(state)
    mu = max(pileup.mu_mean + pileup.mu_width * first, 1.0)
    rho = max(pileup.rho_per_mu * mu + pileup.rho_width * second, 0.0)
    mean = pileup.vertices_per_mu * mu
    count = min(max(round(mean + math.sqrt(mean) * coarse_normal(state)), 1), 99)
    for k in range(cursor, cursor + count):
        vertices[0, k] = 0.17 + 0.0015 * coarse_normal(state)
        vertices[1, k] = -0.18 + 0.0015 * coarse_normal(state)
        vertices[2, k] = 3.5 * coarse_normal(state)
    return mu, rho, count


@kernel
def _compose(row: Array, state: State) -> None:
    """Energies and multiplicities by kind of particle, which add up to the jet's energy."""
    energy = math.sqrt((row[0] * math.cosh(row[1])) ** 2 + row[3] ** 2)
    first, second = uniform(state), uniform(state)
    charged, photon, electron, muon, hf_hadron, hf_em = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if abs(row[1]) < 3.0:
        charged = (0.40 + 0.40 * first) if abs(row[1]) < 2.5 else 0.0
        photon = (1.0 - charged) * (0.4 + 0.5 * second)
        electron = 0.002 if charged > 0.0 else 0.0
    else:
        hf_em = 0.1 + 0.4 * second
        hf_hadron = 1.0 - hf_em
    # The neutral hadron energy holds the HF hadrons, as in CMS particle flow.
    neutral = 1.0 - charged - photon - electron - muon - hf_em
    row[5], row[6], row[7] = charged * energy, neutral * energy, photon * energy
    row[8], row[9], row[10], row[11] = electron * energy, muon * energy, hf_hadron * energy, hf_em * energy
    row[12] = math.floor(1.0 + 3.0 * math.sqrt(charged * row[0])) if charged > 0.0 else 0.0
    row[13] = math.floor(1.0 + math.sqrt(neutral * row[0]))
    row[14] = math.floor(1.0 + 3.0 * math.sqrt(photon * row[0])) if photon > 0.0 else 0.0
    row[15], row[16] = (1.0 if electron > 0.0 else 0.0), 0.0


@kernel
def _detect_jets(
    gen: Array,
    n_gen: int,
    rho: float,
    thresholds: tuple[float, float],
    hlt: Array,
    offline: Array,
    state: State,
    detector: JetDetector,
    trigger: Trigger,
) -> tuple[int, int, float, float]:
    """Measure the particle-level jets, add pile-up jets; counts of HLT and offline jets, level-1 HT and leading pT."""
    hlt_pt, offline_pt = thresholds
    n_hlt, n_offline, ht, leading = 0, 0, 0.0, 0.0
    for k in range(n_gen):
        pt, eta, phi, mass = gen[k, 0], gen[k, 1], gen[k, 2], gen[k, 3]
        area = 0.5 + 0.02 * coarse_normal(state)
        pt_hlt, pt_offline = measure_jet(pt, eta, pileup_offset(rho, area, detector), state, detector)
        smear, _ = normal_pair(state)
        level1 = trigger.l1_scale * pt * (1.0 + trigger.l1_resolution * smear)
        if abs(eta) < trigger.ht_eta and level1 > trigger.ht_pt:
            ht += level1
        leading = max(leading, level1)
        if pt_hlt > hlt_pt and n_hlt < _MAX_JETS:
            row = hlt[n_hlt]
            row[0], row[3], row[4] = pt_hlt, mass * pt_hlt / pt, area
            row[1], row[2] = measure_angle(pt, eta, phi, state, detector)
            n_hlt += 1
        if pt_offline > offline_pt and n_offline < _MAX_JETS:
            row = offline[n_offline]
            row[0], row[3], row[4] = pt_offline, mass * pt_offline / pt, 0.5 + 0.02 * coarse_normal(state)
            row[1], row[2] = measure_angle(pt, eta, phi, state, detector)
            n_offline += 1
    # Pile-up jets below 25 GeV, of their own in each reconstruction, away from the jets of the event.
    for which in range(2):
        if (hlt_pt if which == 0 else offline_pt) > 25.0:
            continue
        for _ in range(_poisson(0.015 * rho, state)):
            pt = 10.0 + _exponential(4.0, state)
            eta, phi = 4.7 * (2.0 * uniform(state) - 1.0), math.pi * (2.0 * uniform(state) - 1.0)
            if pt > 25.0 or _near(eta, phi, gen, n_gen, 0.6):
                continue
            if which == 0 and pt > hlt_pt and n_hlt < _MAX_JETS:
                row, n_hlt = hlt[n_hlt], n_hlt + 1
            elif which == 1 and pt > offline_pt and n_offline < _MAX_JETS:
                row, n_offline = offline[n_offline], n_offline + 1
            else:
                continue
            row[0], row[1], row[2], row[3], row[4] = pt, eta, phi, 0.1 * pt, 0.5
    for k in range(n_hlt):
        hlt[k, 2] = _wrapped(hlt[k, 2])
        _compose(hlt[k], state)
    for k in range(n_offline):
        offline[k, 2] = _wrapped(offline[k, 2])
    _sort(hlt, n_hlt)
    _sort(offline, n_offline)
    return n_hlt, n_offline, ht, leading


# ---- multijet events
@kernel
def _particle_jets(hard: float, rows: Array, state: State, g: JetGenerator) -> int:
    """Fill pt, eta, phi, mass of the particle-level jets; returns their number."""
    while True:
        boost, half = normal_pair(state)
        boost, half = boost * g.boost_width, half * g.half_width
        y1, y2 = boost + half, boost - half
        if (
            max(abs(y1), abs(y2)) < g.eta_max
            and 2.0 * hard * math.cosh(half) * math.exp(abs(boost)) < g.sqrt_s
        ):
            break
    phi = math.pi * (2.0 * uniform(state) - 1.0)
    kick_x, kick_y = normal_pair(state)
    kick_x, kick_y = 0.5 * g.kick * kick_x, 0.5 * g.kick * kick_y
    n = 2
    for _ in range(_poisson(g.isr_mean, state)):
        reach = max(g.isr_reach * hard / g.isr_pt, 1.0)
        pt = g.isr_pt * reach ** (uniform(state) ** 1.5)
        angle = math.pi * (2.0 * uniform(state) - 1.0)
        eta, _ = normal_pair(state)
        if n < 6:
            rows[n, 0], rows[n, 1], rows[n, 2] = pt, boost + 1.7 * eta, angle
            kick_x -= 0.5 * pt * math.cos(angle)
            kick_y -= 0.5 * pt * math.sin(angle)
            n += 1
    cone = normal_pair(state)
    for k in range(2):
        sign = 1.0 if k == 0 else -1.0
        px, py = sign * hard * math.cos(phi) + kick_x, sign * hard * math.sin(phi) + kick_y
        eta = y1 if k == 0 else y2
        if uniform(state) < g.fsr_fraction:
            share = g.fsr_low * (g.fsr_high / g.fsr_low) ** uniform(state)
            distance, angle = 0.6 + 0.7 * uniform(state), _TWO_PI * uniform(state)
            pt, at = share * math.hypot(px, py), math.atan2(py, px) + distance * math.sin(angle)
            rows[n, 0], rows[n, 1], rows[n, 2] = pt, eta + distance * math.cos(angle), at
            px -= pt * math.cos(at)
            py -= pt * math.sin(at)
            n += 1
        rows[k, 0] = math.hypot(px, py) * max(1.0 + g.cone_width * cone[k], 0.05)
        rows[k, 1], rows[k, 2] = eta, math.atan2(py, px)
    # Jets of one clustering are not closer than its radius: the harder one takes the other.
    kept = 0
    for k in range(n):
        merged = False
        for j in range(kept):
            d_eta, d_phi = rows[k, 1] - rows[j, 1], _wrapped(rows[k, 2] - rows[j, 2])
            if d_eta * d_eta + d_phi * d_phi < 0.25:
                share = rows[k, 0] / (rows[k, 0] + rows[j, 0])
                rows[j, 1] += share * d_eta
                rows[j, 2] += share * d_phi
                rows[j, 0] += rows[k, 0]
                merged = True
                break
        if not merged:
            rows[kept, 0], rows[kept, 1], rows[kept, 2] = rows[k, 0], rows[k, 1], _wrapped(rows[k, 2])
            kept += 1
    n, kept = kept, 0
    for k in range(n):
        if rows[k, 0] > 5.0 and abs(rows[k, 1]) < g.eta_max:
            rows[kept, 0], rows[kept, 1], rows[kept, 2] = rows[k, 0], rows[k, 1], rows[k, 2]
            rows[kept, 3] = rows[k, 0] * min(0.06 + _exponential(0.04, state), 0.3)
            kept += 1
    return kept


@kernel
def _fill_jets(first: int, seed: int, out: Events, toy: Toy, processes: Array) -> None:
    generator, trigger = toy.jets, toy.trigger
    thresholds = (generator.hlt_pt, generator.offline_pt)
    state, cursors = np.zeros(1, np.uint64), np.zeros(7, np.int64)
    gen, hlt, offline = np.zeros((_MAX_JETS, 4)), np.zeros((_MAX_JETS, 17)), np.zeros((_MAX_JETS, 5))
    hlt_muons, muons, vertex = np.zeros((2, 6)), np.zeros((2, 4)), np.zeros((1, 8))
    power = 1.0 - generator.bias
    low, high = generator.pt_min**power, generator.pt_max**power
    for i in range(out.weight.size):
        generator_state(seed, first + i, state)
        hard = (low + (high - low) * uniform(state)) ** (1.0 / power)
        fall = (1.0 - 2.0 * hard / generator.sqrt_s) / (1.0 - 200.0 / generator.sqrt_s)
        out.hard_scale[i] = hard
        out.weight[i] = (hard / 100.0) ** (generator.bias - generator.exponent) * fall**generator.beta
        out.products[i] = uniform(state) >= trigger.missing_fraction
        out.reference[i] = uniform(state) < trigger.reference_fraction
        out.zero_bias[i] = uniform(state) < trigger.zero_bias_fraction
        mu, rho, n_pv = _draw_pileup(out.vertices.values, cursors[0], state, toy.pileup)
        n_gen = _particle_jets(hard, gen, state, generator)
        n_hlt, n_offline, out.l1_ht[i], out.l1_pt[i] = _detect_jets(
            gen, n_gen, rho, thresholds, hlt, offline, state, toy.detector, trigger
        )
        out.mu[i], out.rho[i], out.n_pv[i] = mu, rho, n_pv
        out.hlt_pt[i] = hlt[0, 0] if n_hlt > 0 else 0.0
        n_muons, n_hlt_muons, n_vertices = 0, 0, 0
        if uniform(state) < generator.dimuon_fraction:
            primary = out.vertices.values[:, cursors[0]]
            which, _, fired, n_vertices = _draw_dimuon(
                hlt_muons, muons, vertex[0], primary, state, toy.dimuon, toy.muon_detector, trigger, processes
            )
            out.process[i], out.muon_pair[i], n_muons, n_hlt_muons = which, fired, 2, 2
        if not out.products[i]:
            out.rho[i], n_hlt, n_hlt_muons, n_vertices, n_pv = 0.0, 0, 0, 0, 0
        _sort(gen, n_gen)
        while n_gen > 0 and gen[n_gen - 1, 0] <= generator.particle_pt:
            n_gen -= 1
        out.vertices.counts[i] = n_pv
        cursors[0] += n_pv
        cursors[1] = _store(gen, n_gen, out.gen, i, cursors[1])
        cursors[2] = _store(offline, n_offline, out.offline, i, cursors[2])
        cursors[3] = _store(hlt, n_hlt, out.hlt, i, cursors[3])
        cursors[4] = _store(hlt_muons, n_hlt_muons, out.hlt_muons, i, cursors[4])
        cursors[5] = _store(muons, n_muons, out.offline_muons, i, cursors[5])
        cursors[6] = _store(vertex, n_vertices, out.dimuon_vertices, i, cursors[6])


def jets(first: int, count: int, seed: int, *, toy: Toy = DEFAULT) -> Events:
    """Weighted multijet events seen by HLT and offline reconstruction, as in a monitoring stream.

    Args:
        first: number of the first event.
        count: how many events.
        seed: of the sample.
        toy: its parameters.
    """
    out = _empty(count)
    _fill_jets(first, seed, out, toy, _process_table(PROCESSES))
    return _trimmed(out)


# ---- two-jet events of a falling mass spectrum
@kernel
def _fill_dijet(
    first: int,
    seed: int,
    out: Events,
    signal: GaussianSignal,
    total: int,
    log_mass: Array,
    cumulative: Array,
    toy: Toy,
) -> None:
    generator, trigger = toy.dijet, toy.trigger
    state, cursors = np.zeros(1, np.uint64), np.zeros(2, np.int64)
    gen, hlt, offline = np.zeros((_MAX_JETS, 4)), np.zeros((_MAX_JETS, 17)), np.zeros((_MAX_JETS, 5))
    for i in range(out.weight.size):
        event = first + i
        generator_state(seed, event, state)
        # Signal is spread evenly over the sample: exactly as many events as asked for, in any blocks.
        is_signal = (event + 1) * signal.events // total > event * signal.events // total
        out.process[i] = 1 if is_signal else 0
        if is_signal:
            while True:
                mass = signal.mass + signal.width * normal_pair(state)[0]
                if generator.mass_min < mass < generator.mass_max:
                    break
            half = math.atanh((2.0 * uniform(state) - 1.0) * math.tanh(0.5 * generator.separation))
        else:
            u = uniform(state)
            k = min(int(np.searchsorted(cumulative, u, side="right")), log_mass.size - 1) - 1
            step = (u - cumulative[k]) / (cumulative[k + 1] - cumulative[k])
            mass = math.exp(log_mass[k] + step * (log_mass[k + 1] - log_mass[k]))
            half = 0.5 * math.log(1.0 + uniform(state) * (math.exp(generator.separation) - 1.0))
            if uniform(state) < 0.5:
                half = -half
        out.hard_scale[i] = mass
        limit = min(math.log(generator.sqrt_s / mass), 4.9 - abs(half))
        while True:
            boost = generator.boost_width * normal_pair(state)[0]
            if abs(boost) < limit:
                break
        r1, r2 = min(0.06 + _exponential(0.04, state), 0.3), min(0.06 + _exponential(0.04, state), 0.3)
        # Equal pT, opposite in φ, jet masses r·pT: m² = pT² (r1² + r2² + 2 (√(1+r1²) √(1+r2²) cosh Δy + 1)).
        t1, t2 = math.sqrt(1.0 + r1 * r1), math.sqrt(1.0 + r2 * r2)
        pt = mass / math.sqrt(r1 * r1 + r2 * r2 + 2.0 * (t1 * t2 * math.cosh(2.0 * half) + 1.0))
        phi = math.pi * (2.0 * uniform(state) - 1.0)
        gen[0, 0], gen[0, 1], gen[0, 2], gen[0, 3] = (
            pt,
            math.asinh(math.sinh(boost + half) * t1),
            phi,
            r1 * pt,
        )
        gen[1, 0], gen[1, 1], gen[1, 3] = pt, math.asinh(math.sinh(boost - half) * t2), r2 * pt
        gen[1, 2] = _wrapped(phi + math.pi)
        n = 2
        for _ in range(_poisson(generator.extra_mean, state)):
            soft = 20.0 + _exponential(generator.extra_pt, state)
            eta, angle = 2.0 * normal_pair(state)[0], math.pi * (2.0 * uniform(state) - 1.0)
            if soft < 0.5 * pt and abs(eta) < 4.7 and n < 8 and not _near(eta, angle, gen, n, 0.6):
                gen[n, 0], gen[n, 1], gen[n, 2], gen[n, 3] = soft, eta, angle, 0.1 * soft
                n += 1
        out.reference[i] = uniform(state) < trigger.reference_fraction
        out.zero_bias[i] = uniform(state) < trigger.zero_bias_fraction
        mu, rho, n_pv = _draw_pileup(out.vertices.values, cursors[0], state, toy.pileup)
        n_hlt, _, out.l1_ht[i], out.l1_pt[i] = _detect_jets(
            gen, n, rho, (generator.hlt_pt, 1e9), hlt, offline, state, toy.detector, trigger
        )
        out.mu[i], out.rho[i], out.n_pv[i] = mu, rho, n_pv
        out.hlt_pt[i] = hlt[0, 0] if n_hlt > 0 else 0.0
        out.vertices.counts[i] = n_pv
        cursors[0] += n_pv
        cursors[1] = _store(hlt, n_hlt, out.hlt, i, cursors[1])


def dijet(
    first: int, count: int, seed: int, *, total: int, signal: GaussianSignal | None = None, toy: Toy = DEFAULT
) -> Events:
    """Unweighted HLT-only two-jet events with a falling mass spectrum.

    Args:
        first: number of the first event.
        count: how many events.
        seed: of the sample.
        total: events in the whole sample, among which the signal is spread.
        signal: to inject, in place of background events.
        toy: parameters.
    """
    out = _empty(count)
    # Cells of 0.07 % in mass: the inverse of the cumulative distribution is exact at their edges.
    log_mass = np.linspace(math.log(toy.dijet.mass_min), math.log(toy.dijet.mass_max), 6001)
    events = expectation("dijet4", np.exp(log_mass), (1.0, *toy.dijet.shape), sqrt_s=toy.dijet.sqrt_s)
    cumulative = np.append(0.0, np.cumsum(events)) / events.sum()
    injected = signal if signal is not None else GaussianSignal(1000.0, 1.0, 0)
    _fill_dijet(first, seed, out, injected, total, log_mass, cumulative, toy)
    return _trimmed(out)


# ---- muon pairs
def _process_table(processes: tuple[Process, ...]) -> Array:
    """Columns: cumulative fraction, shape, mass, width, displaced fraction, same sign."""
    events = np.array([p.events for p in processes])
    rows = [(p.shape, p.mass, p.width, p.displaced, p.same_sign) for p in processes]
    return np.column_stack([np.cumsum(events) / events.sum(), np.array(rows, np.float64)])


@kernel
def _power_mass(low: float, high: float, state: State) -> float:
    """dN/dm ∝ m^-3 between two masses."""
    a, b = low**-2, high**-2
    return float((a + (b - a) * uniform(state)) ** -0.5)


@kernel
def _pair_mass(shape: int, mass: float, width: float, state: State) -> float:
    if shape == CONTINUUM:
        return _power_mass(2.0, 200.0, state)
    if shape == COMBINATORIAL:
        if uniform(state) < 0.85:
            return 0.25 + _exponential(3.0, state)
        return _power_mass(1.0, 200.0, state)
    while width > 0.0:
        distance = 0.5 * math.tan(math.pi * (uniform(state) - 0.5))
        if abs(distance) < 10.0:
            return mass + width * distance
    return mass


@kernel
def _decay(mass: float, rows: Array, state: State, g: DimuonGenerator) -> tuple[float, float, float]:
    """Fill pt, eta, phi of two muons in acceptance; returns the pair's pT, φ and pz/pT."""
    scale = max(g.pt_scale, 0.5 * mass)
    # Two muons above pt_min need a pair pT above √(4 pt_min² - m²): draw only from there.
    floor = max(4.0 * g.pt_min**2 - mass * mass, 0.0)
    tail = (1.0 + floor / scale**2) ** -2
    momentum = math.sqrt(max(0.25 * mass * mass - _MUON_MASS**2, 0.0))
    while True:
        pt = scale * math.sqrt(max((tail * uniform(state)) ** -0.5 - 1.0, 0.0))
        y = g.rapidity * (2.0 * uniform(state) - 1.0)
        transverse_mass = math.hypot(mass, pt)
        pz, energy = transverse_mass * math.sinh(y), transverse_mass * math.cosh(y)
        cosine, angle = 2.0 * uniform(state) - 1.0, _TWO_PI * uniform(state)
        sine = math.sqrt(1.0 - cosine * cosine)
        x, py, z = momentum * sine * math.cos(angle), momentum * sine * math.sin(angle), momentum * cosine
        good = True
        for k in range(2):
            sign = 1.0 if k == 0 else -1.0
            # Lorentz boost: p = p* + P (P·p*/(M (E + M)) + E*/M), with P = (pt, 0, pz) and E*/M = 1/2.
            factor = sign * (pt * x + pz * z) / (mass * (energy + mass)) + 0.5
            qx, qy, qz = sign * x + factor * pt, sign * py, sign * z + factor * pz
            rows[k, 0] = math.hypot(qx, qy)
            rows[k, 1], rows[k, 2] = math.asinh(qz / rows[k, 0]), math.atan2(qy, qx)
            good = good and rows[k, 0] > g.pt_min and abs(rows[k, 1]) < g.eta_max
        if good:
            break
    phi = math.pi * (2.0 * uniform(state) - 1.0)
    rows[0, 2], rows[1, 2] = rows[0, 2] + phi, rows[1, 2] + phi
    return pt, phi, pz / pt


@kernel
def _draw_dimuon(
    hlt: Array,
    offline: Array,
    vertex: Array,
    primary: Floats,
    state: State,
    generator: DimuonGenerator,
    detector: MuonDetector,
    trigger: Trigger,
    processes: Array,
) -> tuple[int, float, bool, int]:
    """Fill one muon pair and its vertex; returns process, true mass, trigger decision and number of vertices."""
    which = min(int(np.searchsorted(processes[:, 0], uniform(state), side="right")), processes.shape[0] - 1)
    shape = int(processes[which, 1])
    mass = _pair_mass(shape, processes[which, 2], processes[which, 3], state)
    pt, phi, slope = _decay(mass, offline, state, generator)
    charge = 1.0 if uniform(state) < 0.5 else -1.0
    n_vertices = 1 if shape != COMBINATORIAL or uniform(state) < 0.3 else 0
    fired = True
    for k in range(2):
        true_pt, eta, angle = offline[k, 0], offline[k, 1], offline[k, 2]
        hlt[k, 0], offline[k, 0] = measure_muon(true_pt, eta, state, detector)
        d_eta, d_phi = normal_pair(state)
        hlt[k, 1], hlt[k, 2] = eta + detector.angle * d_eta, _wrapped(angle + detector.angle * d_phi)
        d_eta, d_phi = normal_pair(state)
        offline[k, 1], offline[k, 2] = eta + detector.angle * d_eta, _wrapped(angle + detector.angle * d_phi)
        hlt[k, 3] = charge if k == 0 or processes[which, 5] > 0.0 else -charge
        offline[k, 3] = hlt[k, 3]
        hlt[k, 4] = _exponential(5.0 if shape == COMBINATORIAL else 0.5, state)
        hlt[k, 5] = float(n_vertices)
        turn_on = 0.5 * math.erfc((trigger.muon_threshold - true_pt) / (math.sqrt(2.0) * trigger.muon_width))
        fired = fired and uniform(state) < turn_on
    _sort(hlt, 2)
    _sort(offline, 2)
    length = _exponential(generator.decay_length * pt, state) if uniform(state) < processes[which, 4] else 0.0
    (dx, dy), (dz, chi), error = normal_pair(state), normal_pair(state), generator.vertex_error
    vertex[0] = primary[0] + length * math.cos(phi) + error * dx
    vertex[1] = primary[1] + length * math.sin(phi) + error * dy
    vertex[2] = primary[2] + length * slope + 2.0 * error * dz
    vertex[3], vertex[4], vertex[5] = error, error, 2.0 * error
    vertex[6], vertex[7] = chi * chi * (3.0 if shape == COMBINATORIAL else 1.0), 1.0
    return which, mass, fired, n_vertices


@kernel
def _fill_dimuon(first: int, seed: int, out: Events, toy: Toy, processes: Array) -> None:
    trigger = toy.trigger
    state, cursors = np.zeros(1, np.uint64), np.zeros(5, np.int64)
    gen, hlt, offline = np.zeros((_MAX_JETS, 4)), np.zeros((_MAX_JETS, 17)), np.zeros((_MAX_JETS, 5))
    hlt_muons, muons, vertex = np.zeros((2, 6)), np.zeros((2, 4)), np.zeros((1, 8))
    for i in range(out.weight.size):
        generator_state(seed, first + i, state)
        out.reference[i] = uniform(state) < trigger.reference_fraction
        out.zero_bias[i] = uniform(state) < trigger.zero_bias_fraction
        mu, rho, n_pv = _draw_pileup(out.vertices.values, cursors[0], state, toy.pileup)
        primary = out.vertices.values[:, cursors[0]]
        which, out.hard_scale[i], fired, n_vertices = _draw_dimuon(
            hlt_muons, muons, vertex[0], primary, state, toy.dimuon, toy.muon_detector, trigger, processes
        )
        out.process[i], out.muon_pair[i] = which, fired
        # Only the few jets that pile-up makes.
        n_hlt, _, _, _ = _detect_jets(gen, 0, rho, (20.0, 1e9), hlt, offline, state, toy.detector, trigger)
        out.mu[i], out.rho[i], out.n_pv[i] = mu, rho, n_pv
        out.hlt_pt[i] = hlt[0, 0] if n_hlt > 0 else 0.0
        out.vertices.counts[i] = n_pv
        cursors[0] += n_pv
        cursors[1] = _store(hlt, n_hlt, out.hlt, i, cursors[1])
        cursors[2] = _store(hlt_muons, 2, out.hlt_muons, i, cursors[2])
        cursors[3] = _store(muons, 2, out.offline_muons, i, cursors[3])
        cursors[4] = _store(vertex, n_vertices, out.dimuon_vertices, i, cursors[4])


def dimuon(
    first: int, count: int, seed: int, *, processes: tuple[Process, ...] = PROCESSES, toy: Toy = DEFAULT
) -> Events:
    """Unweighted events with one muon pair each, from resonances and continuum.

    Args:
        first: number of the first event.
        count: how many events.
        seed: of the sample.
        processes: sources of pairs; their yields are relative.
        toy: parameters.
    """
    out = _empty(count)
    _fill_dimuon(first, seed, out, toy, _process_table(processes))
    return _trimmed(out)
