"""Dijet topology: the two leading jets of an event, as tag and probe and as wide jets."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.processors.columns import Jagged
from trila.processors.compiled import kernel
from trila.processors.matching import delta_phi

__all__ = ["Dijets", "WideJets", "dijets", "wide_jets"]


class Dijets(NamedTuple):
    """Tag-and-probe pairs; positions are among all jets of their collection.

    Attributes:
        event: of each pair, shape (n_pairs,).
        tag, probe: in the reference collection.
        hlt_probe: the probe's partner in the HLT collection.
        alpha: third jet's pT over the mean of the two leading.
        stage: per event, cuts passed: two jets, identification, back to back, third jet, a tag, a matched probe.
    """

    event: NDArray[np.int64]
    tag: NDArray[np.int64]
    probe: NDArray[np.int64]
    hlt_probe: NDArray[np.int64]
    alpha: NDArray[np.float64]
    stage: NDArray[np.int64]


@kernel
def _dijets(
    offsets: NDArray[np.int64], pt: NDArray[Any], eta: NDArray[Any], phi: NDArray[Any], good: NDArray[np.bool_],
    partner: NDArray[np.int64], hlt_pt: NDArray[Any], passed: NDArray[np.bool_], delta_phi_min: float,
    alpha_max: float, tag_eta_max: float, threshold: float, event_of: NDArray[np.int64], tag_of: NDArray[np.int64],
    probe_of: NDArray[np.int64], alpha_of: NDArray[np.float64], stage: NDArray[np.int64],
) -> int:  # fmt: skip
    n = 0
    for event in range(len(offsets) - 1):
        if not passed[event] or offsets[event + 1] - offsets[event] < 2:
            continue
        first, second, third = -1, -1, -1  # formats differ in the order of jets: find the leading ones
        for j in range(offsets[event], offsets[event + 1]):
            if first < 0 or pt[j] > pt[first]:
                first, second, third = j, first, second
            elif second < 0 or pt[j] > pt[second]:
                second, third = j, second
            elif third < 0 or pt[j] > pt[third]:
                third = j
        stage[event] = 1
        if not (good[first] and good[second]):
            continue
        stage[event] = 2
        if delta_phi(np.float64(phi[first]), np.float64(phi[second])) < delta_phi_min:
            continue
        stage[event] = 3
        alpha = 2.0 * pt[third] / (np.float64(pt[first]) + pt[second]) if third >= 0 else 0.0
        if alpha >= alpha_max:
            continue
        stage[event] = 4
        for role in range(2):
            tag, probe = (first, second) if role == 0 else (second, first)
            if abs(eta[tag]) >= tag_eta_max:
                continue
            if threshold > 0 and (partner[tag] < 0 or hlt_pt[partner[tag]] < threshold):
                continue
            stage[event] = max(stage[event], 5)
            if partner[probe] < 0:
                continue
            stage[event] = 6
            event_of[n], tag_of[n], probe_of[n], alpha_of[n] = event, tag, probe, alpha
            n += 1
    return n


def dijets(
    jets: Jagged, good: NDArray[np.bool_], partner: NDArray[np.int64], hlt_pt: NDArray[Any],
    passed: NDArray[np.bool_], delta_phi_min: float, alpha_max: float, tag_eta_max: float, threshold: float,
) -> Dijets:  # fmt: skip
    """Tag-and-probe pairs of the two leading jets, each of them as tag in turn.

    Args:
        jets: reference jets with `pt`, `eta`, `phi`, in any order.
        good: per jet, passes the identification; both leading ones must.
        partner: per jet, position of its HLT partner, or -1.
        hlt_pt: of the HLT jets, GeV.
        passed: per event, whether to look at it.
        delta_phi_min: least angle between the two in azimuth.
        alpha_max: upper limit on alpha.
        tag_eta_max: tags have |eta| below this.
        threshold: least pT of the tag's HLT partner in GeV; 0 asks for no partner.
    """
    n = len(passed)
    event, tag, probe = (np.empty(2 * n, dtype=np.int64) for _ in range(3))
    alpha = np.empty(2 * n)
    stage = np.zeros(n, dtype=np.int64)
    count = _dijets(
        jets.offsets, jets.pt, jets.eta, jets.phi, good, partner, hlt_pt, passed, delta_phi_min, alpha_max,
        tag_eta_max, threshold, event, tag, probe, alpha, stage,
    )  # fmt: skip
    event, tag, probe, alpha = event[:count], tag[:count], probe[:count], alpha[:count]
    return Dijets(event, tag, probe, partner[probe], alpha, stage)


class WideJets(NamedTuple):
    """The dijet system of each event; entries of events with `stage` below 2 mean nothing.

    Attributes:
        mass: of the pair, GeV, shape (n_events,).
        pt, eta, phi: of the two (wide) jets, leading first, shape (2, n_events); as stored where nothing is added to
            a leading jet.
        y_star: half the rapidity difference, signed.
        n_jets: selected jets.
        stage: 1 if the two leading jets pass their thresholds, 2 if both are good as well.
    """

    mass: NDArray[np.float64]
    pt: NDArray[np.float64]
    eta: NDArray[np.float64]
    phi: NDArray[np.float64]
    y_star: NDArray[np.float64]
    n_jets: NDArray[np.int64]
    stage: NDArray[np.int64]

    def of(self, events: NDArray[np.int64]) -> "WideJets":
        """The systems of these events alone."""
        return WideJets._make(np.take(values, events, axis=-1) for values in self)


@kernel
def _distance2(eta: float, phi: float, other_eta: float, other_phi: float) -> float:
    d_eta = np.float64(eta) - np.float64(other_eta)
    d_phi = delta_phi(np.float64(phi), np.float64(other_phi))
    return float(d_eta * d_eta + d_phi * d_phi)


@kernel
def _wide_jets(
    offsets: NDArray[np.int64], pt: NDArray[Any], eta: NDArray[Any], phi: NDArray[Any], mass: NDArray[Any], good: NDArray[np.bool_], passed: NDArray[np.bool_], pt_min: float, eta_max: float,
    pt_first: float, pt_second: float, radius: float, out_mass: NDArray[np.float64], out_pt: NDArray[np.float64],
    out_eta: NDArray[np.float64], out_phi: NDArray[np.float64], y_star: NDArray[np.float64],
    n_jets: NDArray[np.int64], stage: NDArray[np.int64],
) -> None:  # fmt: skip
    p = np.empty((2, 4))  # px, py, pz, E of the two
    seeds, size = np.empty(2, np.int64), np.empty(2, np.int64)
    wide = np.empty((2, 3))  # pt, eta, phi of the two
    for event in range(len(offsets) - 1):
        if not passed[event]:
            continue
        first, second = -1, -1
        for j in range(offsets[event], offsets[event + 1]):
            if pt[j] > pt_min and abs(eta[j]) < eta_max:
                n_jets[event] += 1
                if first < 0 or pt[j] > pt[first]:
                    first, second = j, first
                elif second < 0 or pt[j] > pt[second]:
                    second = j
        if second < 0 or pt[first] < pt_first or pt[second] < pt_second:
            continue
        stage[event] = 1
        if not (good[first] and good[second]):
            continue
        stage[event] = 2
        seeds[0], seeds[1] = first, second
        size[:] = 0
        p[:] = 0.0
        for j in range(offsets[event], offsets[event + 1]):
            if j == first:
                k = 0
            elif j == second:
                k = 1
            elif radius > 0 and good[j] and pt[j] > pt_min and abs(eta[j]) < eta_max:
                d_first = _distance2(eta[j], phi[j], eta[first], phi[first])
                d_second = _distance2(eta[j], phi[j], eta[second], phi[second])
                if min(d_first, d_second) >= radius * radius:
                    continue
                k = 0 if d_first < d_second else 1
            else:
                continue
            transverse, azimuth, m = np.float64(pt[j]), np.float64(phi[j]), np.float64(mass[j])
            growth = np.exp(np.float64(eta[j]))
            pz = 0.5 * transverse * (growth - 1.0 / growth)
            p[k, 0] += transverse * np.cos(azimuth)
            p[k, 1] += transverse * np.sin(azimuth)
            p[k, 2] += pz
            p[k, 3] += np.sqrt(transverse * transverse + pz * pz + m * m)
            size[k] += 1
        for k in range(2):
            if (
                size[k] == 1
            ):  # as stored: computed back from px, py and pz, it would often round into another bin
                j = seeds[k]
                azimuth = np.float64(phi[j])
                wide[k, 0], wide[k, 1] = pt[j], eta[j]
                wide[k, 2] = azimuth if abs(azimuth) <= np.pi else azimuth - np.copysign(2.0 * np.pi, azimuth)
            else:
                wide[k, 0] = np.sqrt(p[k, 0] * p[k, 0] + p[k, 1] * p[k, 1])
                wide[k, 1] = np.arcsinh(p[k, 2] / wide[k, 0])
                wide[k, 2] = np.arctan2(p[k, 1], p[k, 0])
        lead = 0 if wide[0, 0] >= wide[1, 0] else 1
        for k in range(2):
            q = wide[lead] if k == 0 else wide[1 - lead]
            out_pt[k, event], out_eta[k, event], out_phi[k, event] = q[0], q[1], q[2]
        a, b = p[lead], p[1 - lead]
        y_star[event] = 0.25 * np.log((a[3] + a[2]) * (b[3] - b[2]) / ((a[3] - a[2]) * (b[3] + b[2])))
        energy = p[0, 3] + p[1, 3]
        momentum2 = (p[0, 0] + p[1, 0]) ** 2 + (p[0, 1] + p[1, 1]) ** 2 + (p[0, 2] + p[1, 2]) ** 2
        out_mass[event] = np.sqrt(max(energy * energy - momentum2, 0.0))


def wide_jets(
    jets: Jagged, pt: NDArray[Any], mass: NDArray[Any], good: NDArray[np.bool_],
    passed: NDArray[np.bool_], *, pt_min: float, eta_max: float, pt_first: float, pt_second: float, radius: float,
) -> WideJets:  # fmt: skip
    """The dijet system made of the two leading jets and the radiation near them.

    The two leading jets are the seeds; each other jet closer than `radius` to one of them is added, four-vector by
    four-vector, to the nearer (CMS, arXiv:1806.00843). `radius` 0 leaves the two leading jets alone.

    Args:
        jets: with `eta` and `phi`, in any order.
        pt: corrected pT of the jets, GeV, shape (n_jets,).
        mass: corrected mass of the jets, GeV, shape (n_jets,).
        good: per jet, passes the identification.
        passed: per event, whether to look at it.
        pt_min, eta_max: jets with more pT and less |eta| take part.
        pt_first, pt_second: least pT of the two leading jets.
        radius: in sqrt(d_eta^2 + d_phi^2).
    """
    n = len(passed)
    out = WideJets(
        np.zeros(n), np.zeros((2, n)), np.zeros((2, n)), np.zeros((2, n)), np.zeros(n), np.zeros(n, np.int64),
        np.zeros(n, np.int64),
    )  # fmt: skip
    _wide_jets(
        jets.offsets,
        pt,
        jets.eta,
        jets.phi,
        mass,
        good,
        passed,
        pt_min,
        eta_max,
        pt_first,
        pt_second,
        radius,
        *out,
    )
    return out
