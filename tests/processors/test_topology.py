"""Tag and probe, wide jets and muon pairs: against slow loops in plain Python, and closed forms."""

import math
from typing import Any

import numpy as np
import pytest

from trila.processors.columns import Jagged
from trila.processors.dimuon import MUON_MASS, muon_pairs
from trila.processors.topology import dijets, wide_jets

Jet = dict[str, float]


def pack(events: list[list[Jet]], dtype: str = "float32") -> Jagged:
    offsets = np.concatenate([[0], np.cumsum([len(event) for event in events])]).astype(np.int64)
    names = next(iter(event[0] for event in events if event), {})
    flat = [jet for event in events for jet in event]
    return Jagged(offsets, {name: np.array([jet[name] for jet in flat], dtype=dtype) for name in names})


def four_vector(jet: Jet) -> tuple[float, float, float, float]:
    px, py, pz = (
        jet["pt"] * math.cos(jet["phi"]),
        jet["pt"] * math.sin(jet["phi"]),
        jet["pt"] * math.sinh(jet["eta"]),
    )
    return px, py, pz, math.sqrt(px**2 + py**2 + pz**2 + jet["mass"] ** 2)


def mass_of(*vectors: tuple[float, float, float, float]) -> float:
    px, py, pz, e = (sum(component) for component in zip(*vectors, strict=True))
    return math.sqrt(max(e**2 - px**2 - py**2 - pz**2, 0.0))


def distance(a: Jet, b: Jet) -> float:
    return math.hypot(a["eta"] - b["eta"], math.remainder(a["phi"] - b["phi"], 2 * math.pi))


def random_events(seed: int, n: int) -> list[list[Jet]]:
    rng = np.random.default_rng(seed)

    def jet() -> Jet:
        return {
            "pt": float(np.float32(rng.exponential(80) + 5)), "eta": float(np.float32(rng.normal(0, 1.5))),
            "phi": float(np.float32(rng.uniform(-np.pi, np.pi))), "mass": float(np.float32(rng.exponential(8))),
            "good": float(rng.random() < 0.9),
        }  # fmt: skip

    return [[jet() for _ in range(rng.integers(0, 7))] for _ in range(n)]


@pytest.mark.parametrize("radius", [1.1, 0.0])
def test_wide_jets_against_a_loop(radius: float) -> None:
    events = random_events(3, 800)
    jets = pack(events)
    good = jets.fields["good"] > 0
    cuts: dict[str, Any] = {"pt_min": 30.0, "eta_max": 2.5, "pt_first": 60.0, "pt_second": 30.0}
    passed = np.ones(len(events), np.bool_)
    found = wide_jets(jets, jets.pt, jets.mass, good, passed, radius=radius, **cuts)
    compared = 0
    for i, event in enumerate(events):
        usable = sorted((j for j in event if j["pt"] > 30 and abs(j["eta"]) < 2.5), key=lambda j: -j["pt"])
        assert found.n_jets[i] == len(usable)
        if len(usable) < 2 or usable[0]["pt"] < 60 or usable[1]["pt"] < 30:
            assert found.stage[i] == 0
            continue
        first, second = usable[:2]
        if not (first["good"] and second["good"]):
            assert found.stage[i] == 1
            continue
        groups = [[four_vector(first)], [four_vector(second)]]
        for other in usable[2:]:
            near = distance(other, first), distance(other, second)
            if other["good"] and min(near) < radius:
                groups[0 if near[0] < near[1] else 1].append(four_vector(other))
        sums = [tuple(map(sum, zip(*group, strict=True))) for group in groups]
        sums.sort(key=lambda v: -math.hypot(v[0], v[1]))
        assert found.stage[i] == 2
        assert found.mass[i] == pytest.approx(mass_of(*sums), rel=1e-9)
        rapidity = [0.5 * math.log((v[3] + v[2]) / (v[3] - v[2])) for v in sums]
        assert found.y_star[i] == pytest.approx(0.5 * (rapidity[0] - rapidity[1]), abs=1e-9)
        for k, v in enumerate(sums):
            assert found.pt[k, i] == pytest.approx(math.hypot(v[0], v[1]), rel=1e-9)
            assert found.eta[k, i] == pytest.approx(math.asinh(v[2] / math.hypot(v[0], v[1])), abs=1e-9)
            assert found.phi[k, i] == pytest.approx(math.atan2(v[1], v[0]), abs=1e-9)
        compared += 1
    assert compared > 200


@pytest.mark.parametrize(("threshold", "alpha_max"), [(0.0, math.inf), (60.0, 0.3)])
def test_dijets_against_a_loop(threshold: float, alpha_max: float) -> None:
    events = random_events(5, 3000)
    jets = pack(events)
    rng = np.random.default_rng(1)
    n = len(jets.pt)
    partner = np.where(rng.random(n) < 0.9, rng.permutation(n), -1)
    hlt_pt = rng.exponential(80, n).astype(np.float32)
    passed = rng.random(len(events)) < 0.9
    good = jets.fields["good"] > 0
    found = dijets(jets, good, partner, hlt_pt, passed, 2.7, alpha_max, 1.3, threshold)
    expected = []
    for i in np.flatnonzero(passed):
        order = sorted(range(jets.offsets[i], jets.offsets[i + 1]), key=lambda j: -jets.pt[j])
        if len(order) < 2 or not (good[order[0]] and good[order[1]]):
            continue
        a, b = order[:2]
        if abs(math.remainder(float(jets.phi[a]) - float(jets.phi[b]), 2 * math.pi)) < 2.7:
            continue
        third = float(jets.pt[order[2]]) if len(order) > 2 else 0.0
        alpha = 2 * third / (float(jets.pt[a]) + float(jets.pt[b]))
        for tag, probe in ((a, b), (b, a)):
            fired = threshold == 0 or (partner[tag] >= 0 and hlt_pt[partner[tag]] >= threshold)
            if alpha < alpha_max and abs(jets.eta[tag]) < 1.3 and fired and partner[probe] >= 0:
                expected.append((i, tag, probe, partner[probe], alpha))
    assert len(expected) > 30
    assert [tuple(row) for row in zip(found.event, found.tag, found.probe, found.hlt_probe, strict=True)] == [
        row[:4] for row in expected
    ]
    assert found.alpha == pytest.approx([row[4] for row in expected], rel=1e-6)


def test_muon_pairs_against_a_loop() -> None:
    rng = np.random.default_rng(7)
    events = [
        [
            {"pt": float(np.float32(rng.exponential(10) + 1)), "eta": float(np.float32(rng.normal(0, 1.2))),
             "phi": float(np.float32(rng.uniform(-np.pi, np.pi))), "charge": float(rng.choice([-1, 1])),
             "mass": MUON_MASS}
            for _ in range(rng.integers(0, 5))
        ]
        for _ in range(500)
    ]  # fmt: skip
    muons = pack(events)
    found = muon_pairs(muons, np.ones(len(muons.pt), np.bool_))
    expected = [
        (i, mass_of(four_vector(a), four_vector(b)), a["charge"] == b["charge"])
        for i, event in enumerate(events)
        for k, a in enumerate(event)
        for b in event[k + 1 :]
    ]
    assert found.event.tolist() == [row[0] for row in expected]
    assert found.mass == pytest.approx([row[1] for row in expected], rel=1e-7)
    assert found.same_sign.tolist() == [row[2] for row in expected]


@pytest.mark.parametrize(("mass", "pt"), [(0.5, 100.0), (0.25, 100.0), (3.0969, 20.0)])
def test_low_masses_are_not_smeared(mass: float, pt: float) -> None:
    """Two muons of equal pT, opposite in azimuth around their sum, with the opening angle of the mass."""
    energy2 = pt**2 + MUON_MASS**2
    half = 0.5 * math.acos((energy2 - 0.5 * (mass**2 - 2 * MUON_MASS**2)) / pt**2)
    muons = pack(
        [
            [
                {"pt": pt, "eta": 0.0, "phi": half, "charge": 1.0},
                {"pt": pt, "eta": 0.0, "phi": -half, "charge": -1.0},
            ]
        ],
        "float64",
    )
    pairs = muon_pairs(muons, np.ones(2, np.bool_))
    assert pairs.mass[0] == pytest.approx(mass, rel=1e-7)
    assert pairs.pt[0] == pytest.approx(2 * pt * math.cos(half), rel=1e-12)
    assert pairs.rapidity[0] == pytest.approx(0.0, abs=1e-12)


def test_only_good_muons_pair() -> None:
    muons = pack([[{"pt": 5.0, "eta": 0.1 * k, "phi": 0.3 * k, "charge": 1.0} for k in range(4)]])
    pairs = muon_pairs(muons, np.array([True, False, True, True]))
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(0, 2), (0, 3), (2, 3)]
