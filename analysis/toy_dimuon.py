"""Toy muon pairs: resonances, continuum, same-sign pairs, displaced vertices.

`PROCESSES` are the sources of pairs; `draw_dimuon` makes one pair, also in events of other kinds.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.toy_detector import measure_muon, smeared_direction
from trila.analysis.toy_events import (
    Events,
    empty_events,
    jet_rows,
    muon_rows,
    sort_rows,
    store_rows,
    trimmed,
)
from trila.analysis.toy_model import DEFAULT, DimuonGenerator, Toy
from trila.analysis.toy_random import State, azimuth, exponential, generator_state, normal_pair, uniform
from trila.analysis.toy_reconstruction import detect_jets, draw_conditions, wrapped
from trila.processors.compiled import kernel

__all__ = [
    "COMBINATORIAL",
    "CONTINUUM",
    "MUON_MASS",
    "PROCESSES",
    "RESONANCE",
    "Process",
    "dimuon",
    "draw_dimuon",
    "process_table",
]

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

#: GeV.
MUON_MASS = 0.1056584
RESONANCE, CONTINUUM, COMBINATORIAL = 0, 1, 2


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


def process_table(processes: tuple[Process, ...]) -> Array:
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
            return 0.25 + exponential(3.0, state)
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
    momentum = math.sqrt(max(0.25 * mass * mass - MUON_MASS**2, 0.0))
    while True:
        pt = scale * math.sqrt(max((tail * uniform(state)) ** -0.5 - 1.0, 0.0))
        y = g.rapidity * (2.0 * uniform(state) - 1.0)
        transverse_mass = math.hypot(mass, pt)
        pz, energy = transverse_mass * math.sinh(y), transverse_mass * math.cosh(y)
        cosine, angle = 2.0 * uniform(state) - 1.0, math.tau * uniform(state)
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
    phi = azimuth(state)
    rows[0, 2], rows[1, 2] = rows[0, 2] + phi, rows[1, 2] + phi
    return pt, phi, pz / pt


@kernel
def draw_dimuon(
    hlt: Array,
    offline: Array,
    vertex: Array,
    primary: Floats,
    state: State,
    toy: Toy,
    processes: Array,
) -> tuple[int, float, bool, int]:
    """Fill one muon pair and its vertex; returns process, true mass, trigger decision and number of vertices.

    Args:
        hlt: gets two rows of pt, eta, phi, charge, track isolation, number of vertices.
        offline: gets two rows of pt, eta, phi, charge.
        vertex: gets x, y, z, their errors, χ², degrees of freedom.
        primary: x, y, z of the primary vertex, cm.
        state: of the random numbers.
        toy: parameters.
        processes: from `process_table`.
    """
    generator, detector, trigger = toy.dimuon, toy.muon_detector, toy.trigger
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
        for row in (hlt[k], offline[k]):
            row[1], phi_measured = smeared_direction(eta, angle, detector.angle, state)
            row[2] = wrapped(phi_measured)
        hlt[k, 3] = charge if k == 0 or processes[which, 5] > 0.0 else -charge
        offline[k, 3] = hlt[k, 3]
        hlt[k, 4] = exponential(5.0 if shape == COMBINATORIAL else 0.5, state)
        hlt[k, 5] = float(n_vertices)
        turn_on = 0.5 * math.erfc((trigger.muon_threshold - true_pt) / (math.sqrt(2.0) * trigger.muon_width))
        fired = fired and uniform(state) < turn_on
    sort_rows(hlt, 2)
    sort_rows(offline, 2)
    length = exponential(generator.decay_length * pt, state) if uniform(state) < processes[which, 4] else 0.0
    (dx, dy), (dz, chi), error = normal_pair(state), normal_pair(state), generator.vertex_error
    vertex[0] = primary[0] + length * math.cos(phi) + error * dx
    vertex[1] = primary[1] + length * math.sin(phi) + error * dy
    vertex[2] = primary[2] + length * slope + 2.0 * error * dz
    vertex[3], vertex[4], vertex[5] = error, error, 2.0 * error
    vertex[6], vertex[7] = chi * chi * (3.0 if shape == COMBINATORIAL else 1.0), 1.0
    return which, mass, fired, n_vertices


@kernel
def _fill_dimuon(first: int, seed: int, out: Events, toy: Toy, processes: Array) -> None:
    state, cursors = np.zeros(1, np.uint64), np.zeros(5, np.int64)
    gen, hlt, offline = jet_rows()
    hlt_muons, muons, vertex = muon_rows()
    for i in range(out.weight.size):
        generator_state(seed, first + i, state)
        out.reference[i], out.zero_bias[i], mu, rho, n_pv = draw_conditions(
            out.vertices.values, cursors[0], state, toy.pileup, toy.trigger
        )
        out.mu[i], out.rho[i], out.n_pv[i] = mu, rho, n_pv
        primary = out.vertices.values[:, cursors[0]]
        which, out.hard_scale[i], fired, n_vertices = draw_dimuon(
            hlt_muons, muons, vertex[0], primary, state, toy, processes
        )
        out.process[i], out.muon_pair[i] = which, fired
        # Only the few jets that pile-up makes.
        n_hlt, _, _, _ = detect_jets(gen, 0, rho, (20.0, 1e9), hlt, offline, state, toy.detector, toy.trigger)
        out.hlt_pt[i] = hlt[0, 0] if n_hlt > 0 else 0.0
        out.vertices.counts[i] = n_pv
        cursors[0] += n_pv
        cursors[1] = store_rows(hlt, n_hlt, out.hlt, i, cursors[1])
        cursors[2] = store_rows(hlt_muons, 2, out.hlt_muons, i, cursors[2])
        cursors[3] = store_rows(muons, 2, out.offline_muons, i, cursors[3])
        cursors[4] = store_rows(vertex, n_vertices, out.dimuon_vertices, i, cursors[4])


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
    out = empty_events(count)
    _fill_dimuon(first, seed, out, toy, process_table(processes))
    return trimmed(out)
