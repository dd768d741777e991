"""Toy multijet events: to calibrate, with HLT, offline and particle-level jets."""

import math

import numpy as np
from numpy.typing import NDArray

from trila.analysis.toy_dimuon import PROCESSES, draw_dimuon, process_table
from trila.analysis.toy_events import (
    Events,
    empty_events,
    jet_rows,
    muon_rows,
    sort_rows,
    store_rows,
    trimmed,
)
from trila.analysis.toy_model import DEFAULT, JetGenerator, Toy
from trila.analysis.toy_random import State, azimuth, generator_state, normal_pair, poisson, uniform
from trila.analysis.toy_reconstruction import detect_jets, draw_conditions, jet_mass, wrapped
from trila.processors.compiled import kernel

__all__ = ["jets"]

Array = NDArray[np.float64]


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
    phi = azimuth(state)
    kick_x, kick_y = normal_pair(state)
    kick_x, kick_y = 0.5 * g.kick * kick_x, 0.5 * g.kick * kick_y
    n = 2
    for _ in range(poisson(g.isr_mean, state)):
        reach = max(g.isr_reach * hard / g.isr_pt, 1.0)
        pt = g.isr_pt * reach ** (uniform(state) ** 1.5)
        angle = azimuth(state)
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
            distance, angle = 0.6 + 0.7 * uniform(state), math.tau * uniform(state)
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
            d_eta, d_phi = rows[k, 1] - rows[j, 1], wrapped(rows[k, 2] - rows[j, 2])
            if d_eta * d_eta + d_phi * d_phi < 0.25:
                share = rows[k, 0] / (rows[k, 0] + rows[j, 0])
                rows[j, 1] += share * d_eta
                rows[j, 2] += share * d_phi
                rows[j, 0] += rows[k, 0]
                merged = True
                break
        if not merged:
            rows[kept, 0], rows[kept, 1], rows[kept, 2] = rows[k, 0], rows[k, 1], wrapped(rows[k, 2])
            kept += 1
    n, kept = kept, 0
    for k in range(n):
        if rows[k, 0] > 5.0 and abs(rows[k, 1]) < g.eta_max:
            rows[kept, 0], rows[kept, 1], rows[kept, 2] = rows[k, 0], rows[k, 1], rows[k, 2]
            rows[kept, 3] = rows[k, 0] * jet_mass(state)
            kept += 1
    return kept


@kernel
def _fill_jets(first: int, seed: int, out: Events, toy: Toy, processes: Array) -> None:
    generator = toy.jets
    thresholds = (generator.hlt_pt, generator.offline_pt)
    state, cursors = np.zeros(1, np.uint64), np.zeros(7, np.int64)
    gen, hlt, offline = jet_rows()
    hlt_muons, muons, vertex = muon_rows()
    power = 1.0 - generator.bias
    low, high = generator.pt_min**power, generator.pt_max**power
    for i in range(out.weight.size):
        generator_state(seed, first + i, state)
        hard = (low + (high - low) * uniform(state)) ** (1.0 / power)
        fall = (1.0 - 2.0 * hard / generator.sqrt_s) / (1.0 - 200.0 / generator.sqrt_s)
        out.hard_scale[i] = hard
        out.weight[i] = (hard / 100.0) ** (generator.bias - generator.exponent) * fall**generator.beta
        out.products[i] = uniform(state) >= toy.trigger.missing_fraction
        out.reference[i], out.zero_bias[i], mu, rho, n_pv = draw_conditions(
            out.vertices.values, cursors[0], state, toy.pileup, toy.trigger
        )
        out.mu[i], out.rho[i], out.n_pv[i] = mu, rho, n_pv
        n_gen = _particle_jets(hard, gen, state, generator)
        n_hlt, n_offline, out.l1_ht[i], out.l1_pt[i] = detect_jets(
            gen, n_gen, rho, thresholds, hlt, offline, state, toy.detector, toy.trigger
        )
        out.hlt_pt[i] = hlt[0, 0] if n_hlt > 0 else 0.0
        n_muons, n_hlt_muons, n_vertices = 0, 0, 0
        if uniform(state) < generator.dimuon_fraction:
            primary = out.vertices.values[:, cursors[0]]
            which, _, fired, n_vertices = draw_dimuon(
                hlt_muons, muons, vertex[0], primary, state, toy, processes
            )
            out.process[i], out.muon_pair[i], n_muons, n_hlt_muons = which, fired, 2, 2
        if not out.products[i]:
            out.rho[i], n_hlt, n_hlt_muons, n_vertices, n_pv = 0.0, 0, 0, 0, 0
        sort_rows(gen, n_gen)
        while n_gen > 0 and gen[n_gen - 1, 0] <= generator.particle_pt:
            n_gen -= 1
        out.vertices.counts[i] = n_pv
        cursors[0] += n_pv
        cursors[1] = store_rows(gen, n_gen, out.gen, i, cursors[1])
        cursors[2] = store_rows(offline, n_offline, out.offline, i, cursors[2])
        cursors[3] = store_rows(hlt, n_hlt, out.hlt, i, cursors[3])
        cursors[4] = store_rows(hlt_muons, n_hlt_muons, out.hlt_muons, i, cursors[4])
        cursors[5] = store_rows(muons, n_muons, out.offline_muons, i, cursors[5])
        cursors[6] = store_rows(vertex, n_vertices, out.dimuon_vertices, i, cursors[6])


def jets(first: int, count: int, seed: int, *, toy: Toy = DEFAULT) -> Events:
    """Weighted multijet events seen by HLT and offline reconstruction, as in a monitoring stream.

    Args:
        first: number of the first event.
        count: how many events.
        seed: of the sample.
        toy: its parameters.
    """
    out = empty_events(count)
    _fill_jets(first, seed, out, toy, process_table(PROCESSES))
    return trimmed(out)
