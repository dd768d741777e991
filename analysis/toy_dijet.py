"""Toy two-jet events of a falling mass spectrum: to search, with or without a signal."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.toy_events import Events, empty_events, jet_rows, store_rows, trimmed
from trila.analysis.toy_model import DEFAULT, DijetGenerator, Toy
from trila.analysis.toy_random import (
    State,
    azimuth,
    exponential,
    generator_state,
    normal_pair,
    poisson,
    uniform,
)
from trila.analysis.toy_reconstruction import detect_jets, draw_conditions, jet_mass, near, wrapped
from trila.fits.functions import Domain, expectation
from trila.processors.compiled import kernel

__all__ = ["GaussianSignal", "dijet"]

Array = NDArray[np.float64]


class GaussianSignal(NamedTuple):
    """A resonance in the dijet mass: particle-level mass and width in GeV, and how many events of the sample."""

    mass: float
    width: float
    events: int


@kernel
def _signal_pair(signal: GaussianSignal, state: State, g: DijetGenerator) -> tuple[float, float]:
    """Mass and half the difference in rapidity."""
    while True:
        mass = signal.mass + signal.width * normal_pair(state)[0]
        if g.mass_min < mass < g.mass_max:
            break
    return mass, math.atanh((2.0 * uniform(state) - 1.0) * math.tanh(0.5 * g.separation))


@kernel
def _background_pair(
    log_mass: Array, cumulative: Array, state: State, g: DijetGenerator
) -> tuple[float, float]:
    """Mass and half the difference in rapidity."""
    u = uniform(state)
    k = min(int(np.searchsorted(cumulative, u, side="right")), log_mass.size - 1) - 1
    step = (u - cumulative[k]) / (cumulative[k + 1] - cumulative[k])
    mass = math.exp(log_mass[k] + step * (log_mass[k + 1] - log_mass[k]))
    half = 0.5 * math.log(1.0 + uniform(state) * (math.exp(g.separation) - 1.0))
    return mass, -half if uniform(state) < 0.5 else half


@kernel
def _particle_jets(mass: float, half: float, rows: Array, state: State, g: DijetGenerator) -> int:
    """Fill pt, eta, phi, mass of the pair and of soft further jets; returns their number."""
    limit = min(math.log(g.sqrt_s / mass), 4.9 - abs(half))
    while True:
        boost = g.boost_width * normal_pair(state)[0]
        if abs(boost) < limit:
            break
    r1, r2 = jet_mass(state), jet_mass(state)
    # Equal pT, opposite in φ, jet masses r·pT: m² = pT² (r1² + r2² + 2 (√(1+r1²) √(1+r2²) cosh Δy + 1)).
    t1, t2 = math.sqrt(1.0 + r1 * r1), math.sqrt(1.0 + r2 * r2)
    pt = mass / math.sqrt(r1 * r1 + r2 * r2 + 2.0 * (t1 * t2 * math.cosh(2.0 * half) + 1.0))
    phi = azimuth(state)
    rows[0, 0], rows[0, 1], rows[0, 2] = pt, math.asinh(math.sinh(boost + half) * t1), phi
    rows[1, 0], rows[1, 1], rows[1, 2] = pt, math.asinh(math.sinh(boost - half) * t2), wrapped(phi + math.pi)
    rows[0, 3], rows[1, 3] = r1 * pt, r2 * pt
    n = 2
    for _ in range(poisson(g.extra_mean, state)):
        soft = 20.0 + exponential(g.extra_pt, state)
        eta, angle = 2.0 * normal_pair(state)[0], azimuth(state)
        if soft < 0.5 * pt and abs(eta) < 4.7 and n < 8 and not near(eta, angle, rows, n, 0.6):
            rows[n, 0], rows[n, 1], rows[n, 2], rows[n, 3] = soft, eta, angle, 0.1 * soft
            n += 1
    return n


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
    thresholds = (toy.dijet.hlt_pt, 1e9)
    state, cursors = np.zeros(1, np.uint64), np.zeros(2, np.int64)
    gen, hlt, offline = jet_rows()
    for i in range(out.weight.size):
        event = first + i
        generator_state(seed, event, state)
        # Signal is spread evenly over the sample: exactly as many events as asked for, in any blocks.
        is_signal = (event + 1) * signal.events // total > event * signal.events // total
        out.process[i] = 1 if is_signal else 0
        if is_signal:
            mass, half = _signal_pair(signal, state, toy.dijet)
        else:
            mass, half = _background_pair(log_mass, cumulative, state, toy.dijet)
        out.hard_scale[i] = mass
        n_gen = _particle_jets(mass, half, gen, state, toy.dijet)
        out.reference[i], out.zero_bias[i], mu, rho, n_pv = draw_conditions(
            out.vertices.values, cursors[0], state, toy.pileup, toy.trigger
        )
        out.mu[i], out.rho[i], out.n_pv[i] = mu, rho, n_pv
        n_hlt, _, out.l1_ht[i], out.l1_pt[i] = detect_jets(
            gen, n_gen, rho, thresholds, hlt, offline, state, toy.detector, toy.trigger
        )
        out.hlt_pt[i] = hlt[0, 0] if n_hlt > 0 else 0.0
        out.vertices.counts[i] = n_pv
        cursors[0] += n_pv
        cursors[1] = store_rows(hlt, n_hlt, out.hlt, i, cursors[1])


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
    out = empty_events(count)
    # Cells of 0.07 % in mass: the inverse of the cumulative distribution is exact at their edges.
    log_mass = np.linspace(math.log(toy.dijet.mass_min), math.log(toy.dijet.mass_max), 6001)
    domain = Domain(toy.dijet.mass_min, toy.dijet.mass_max, toy.dijet.sqrt_s)
    events = expectation("dijet4", np.exp(log_mass), (1.0, *toy.dijet.shape), domain=domain)
    cumulative = np.append(0.0, np.cumsum(events)) / events.sum()
    injected = signal if signal is not None else GaussianSignal(1000.0, 1.0, 0)
    _fill_dijet(first, seed, out, injected, total, log_mass, cumulative, toy)
    return trimmed(out)
