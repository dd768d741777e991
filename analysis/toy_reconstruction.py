"""From the collision to the recorded event, the same for all kinds of toy events.

| you want | use |
| --- | --- |
| pile-up and the random triggers | `draw_conditions` |
| the HLT and offline jets of given particle-level jets | `detect_jets` |
| mass of a particle-level jet | `jet_mass` |
| angles | `wrapped`, `near` |

The kernels take the arrays that they need and not `Events`: handing that over counts references to each of its arrays,
which nearly doubles the time of an event with few objects.
"""

import math

import numpy as np
from numpy.typing import NDArray

from trila.analysis.toy_detector import JetDetector, Pileup, measure_angle, measure_jet, pileup_offset
from trila.analysis.toy_events import MAX_JETS, sort_rows
from trila.analysis.toy_model import Trigger
from trila.analysis.toy_random import (
    State,
    azimuth,
    coarse_normal,
    exponential,
    normal_pair,
    poisson,
    uniform,
)
from trila.processors.compiled import kernel

__all__ = ["detect_jets", "draw_conditions", "jet_mass", "near", "wrapped"]

Floats = NDArray[np.float32]
Array = NDArray[np.float64]


@kernel
def wrapped(phi: float) -> float:
    """φ between -π and π."""
    # From anywhere within ±3π; a floating-point remainder takes ten times as long.
    if phi >= math.pi:
        return phi - math.tau
    return phi + math.tau if phi < -math.pi else phi


@kernel
def near(eta: float, phi: float, rows: Array, count: int, distance: float) -> bool:
    """Whether one of the first `count` rows (pt, eta, phi, ...) is within this distance in η and φ."""
    for i in range(count):
        d_eta, d_phi = eta - rows[i, 1], wrapped(phi - rows[i, 2])
        if d_eta * d_eta + d_phi * d_phi < distance * distance:
            return True
    return False


@kernel
def jet_mass(state: State) -> float:
    """Mass over pT of a particle-level jet."""
    return min(0.06 + exponential(0.04, state), 0.3)


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
def draw_conditions(
    vertices: Floats, cursor: int, state: State, pileup: Pileup, trigger: Trigger
) -> tuple[bool, bool, float, float, int]:
    """Two random decisions, μ, ρ and the number of vertices, which are written from `cursor` on.

    The decisions are those of the reference and of the zero-bias trigger.
    """
    reference = uniform(state) < trigger.reference_fraction
    zero_bias = uniform(state) < trigger.zero_bias_fraction
    mu, rho, n_pv = _draw_pileup(vertices, cursor, state, pileup)
    return reference, zero_bias, mu, rho, n_pv


@kernel
def _compose(row: Array, state: State) -> None:
    """Energies and multiplicities by kind of particle, which add up to the jet's energy."""
    energy = math.sqrt((row[0] * math.cosh(row[1])) ** 2 + row[3] ** 2)
    first, second = uniform(state), uniform(state)
    charged, photon, electron, hf_hadron, hf_em = 0.0, 0.0, 0.0, 0.0, 0.0
    if abs(row[1]) < 3.0:
        charged = (0.40 + 0.40 * first) if abs(row[1]) < 2.5 else 0.0
        photon = (1.0 - charged) * (0.4 + 0.5 * second)
        electron = 0.002 if charged > 0.0 else 0.0
    else:
        hf_em = 0.1 + 0.4 * second
        hf_hadron = 1.0 - hf_em
    # The neutral hadron energy holds the HF hadrons, as in CMS particle flow.
    neutral = 1.0 - charged - photon - electron - hf_em
    row[5], row[6], row[7] = charged * energy, neutral * energy, photon * energy
    row[8], row[9], row[10], row[11] = electron * energy, 0.0, hf_hadron * energy, hf_em * energy
    row[12] = math.floor(1.0 + 3.0 * math.sqrt(charged * row[0])) if charged > 0.0 else 0.0
    row[13] = math.floor(1.0 + math.sqrt(neutral * row[0]))
    row[14] = math.floor(1.0 + 3.0 * math.sqrt(photon * row[0])) if photon > 0.0 else 0.0
    row[15], row[16] = (1.0 if electron > 0.0 else 0.0), 0.0


@kernel
def detect_jets(
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
    """Measure the particle-level jets of one event and add pile-up jets.

    Args:
        gen: rows of pt, eta, phi, mass.
        n_gen: how many rows are filled.
        rho: GeV.
        thresholds: HLT and offline jets are kept above these pT (GeV).
        hlt: gets a row of `HLT_JET_FIELDS` for each jet.
        offline: gets a row of pt, eta, phi, mass, area for each jet.
        state: of the random numbers.
        detector, trigger: parameters.

    Returns:
        How many HLT and offline jets; level-1 HT and leading pT.
    """
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
        if pt_hlt > hlt_pt and n_hlt < MAX_JETS:
            row = hlt[n_hlt]
            row[0], row[3], row[4] = pt_hlt, mass * pt_hlt / pt, area
            row[1], row[2] = measure_angle(pt, eta, phi, state, detector)
            n_hlt += 1
        if pt_offline > offline_pt and n_offline < MAX_JETS:
            row = offline[n_offline]
            row[0], row[3], row[4] = pt_offline, mass * pt_offline / pt, 0.5 + 0.02 * coarse_normal(state)
            row[1], row[2] = measure_angle(pt, eta, phi, state, detector)
            n_offline += 1
    # Pile-up jets below 25 GeV, of their own in each reconstruction, away from the jets of the event.
    for which in range(2):
        if (hlt_pt if which == 0 else offline_pt) > 25.0:
            continue
        for _ in range(poisson(0.015 * rho, state)):
            pt = 10.0 + exponential(4.0, state)
            eta, phi = 4.7 * (2.0 * uniform(state) - 1.0), azimuth(state)
            if pt > 25.0 or near(eta, phi, gen, n_gen, 0.6):
                continue
            if which == 0 and pt > hlt_pt and n_hlt < MAX_JETS:
                row, n_hlt = hlt[n_hlt], n_hlt + 1
            elif which == 1 and pt > offline_pt and n_offline < MAX_JETS:
                row, n_offline = offline[n_offline], n_offline + 1
            else:
                continue
            row[0], row[1], row[2], row[3], row[4] = pt, eta, phi, 0.1 * pt, 0.5
    for k in range(n_hlt):
        hlt[k, 2] = wrapped(hlt[k, 2])
        _compose(hlt[k], state)
    for k in range(n_offline):
        offline[k, 2] = wrapped(offline[k, 2])
    sort_rows(hlt, n_hlt)
    sort_rows(offline, n_offline)
    return n_hlt, n_offline, ht, leading
