"""The peer of the benchmarks: response, dijet and dimuon in plain coffea, as an analyst would write them today.

    python benchmarks/plain_coffea.py FILE ...

Makes the histograms that `trila run response,dijet,dimuon` makes of a simulated CMS monitoring file: same names, axes
and content, with awkward arrays, `nearest`, `ak.combinations`, masks and `hist.Hist.fill`, through coffea's `Runner`.
There is nothing slow in it on purpose, and nothing compiled by hand.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import awkward as ak
import hist
import numpy as np
from coffea.nanoevents import NanoAODSchema
from coffea.processor import IterativeExecutor, ProcessorABC, Runner

from trila.processors.histograms import CMS_DIJET_EDGES, JET_PT_EDGES

__all__ = ["CHUNK_SIZE", "PlainProcessor", "ScoutingSchema", "run"]

CHUNK_SIZE = 500_000  # fastest; the Runner's default, 100 000, is slower

MUON_MASS = 0.1056583755
ETA_EDGES = [-5.2, -3.0, -2.5, -1.9, -1.3, -0.65, 0.0, 0.65, 1.3, 1.9, 2.5, 3.0, 5.2]
DIMUON_PT_EDGES = np.geomspace(0.5, 1000, 133)
DIMUON_MASS_EDGES = np.geomspace(0.2, 400.0, int(np.ceil(np.log(400.0 / 0.2) / np.log1p(0.0025))) + 1)

Histograms = dict[str, Any]


class ScoutingSchema(NanoAODSchema):  # type: ignore[misc]
    """Gives the scouting collections of 2024 the behaviour of four-vectors."""

    warn_missing_crossrefs = False
    mixins: ClassVar[dict[str, str]] = {
        **NanoAODSchema.mixins,
        "ScoutingPFJet": "PtEtaPhiMCollection",
        "ScoutingMuonVtx": "Muon",
    }


def regular(bins: int, low: float, high: float, name: str) -> Any:
    return hist.axis.Regular(bins, low, high, name=name)


def new(*axes: Any) -> Any:
    return hist.Hist(*axes, storage=hist.storage.Weight())


def flat(array: Any) -> Any:
    """All numbers of a jagged array that are not None."""
    return ak.to_numpy(ak.drop_none(ak.flatten(array)))


def double(objects: Any, mass: Any) -> Any:
    """Four-vectors in float64: at high pT, masses in float32 are off by more than a bin."""
    parts = {name: ak.values_astype(objects[name], np.float64) for name in ("pt", "eta", "phi")}
    return ak.zip(
        {**parts, "mass": ak.values_astype(mass, np.float64)},
        with_name="PtEtaPhiMLorentzVector",
        behavior=objects.behavior,
    )


def tight_id(jets: Any) -> Any:
    """Tight identification of scouting jets (the offline and particle-level jets of these files have no inputs)."""
    eta, energy = abs(jets.eta), jets.energy
    charged = jets.chargedHadronMultiplicity + jets.electronMultiplicity + jets.muonMultiplicity
    neutral = jets.neutralHadronMultiplicity + jets.photonMultiplicity
    hadrons = jets.neutralHadronEnergy / energy
    electromagnetic = (jets.photonEnergy + jets.HFEMEnergy) / energy
    central = (hadrons < 0.99) & (electromagnetic < 0.90) & (charged + neutral > 1)
    tracked = (jets.chargedHadronEnergy / energy > 0.01) & (charged > 0)
    return (
        ((eta <= 2.4) & central & tracked)
        | ((eta > 2.4) & (eta <= 2.6) & central)
        | ((eta > 2.6) & (eta <= 2.7) & (hadrons < 0.90) & (electromagnetic < 0.99))
        | ((eta > 2.7) & (eta <= 3.0) & (hadrons < 0.99))
        | ((eta > 3.0) & (electromagnetic < 0.40) & (neutral >= 2))
    )


def indexed(jets: Any) -> Any:
    return ak.with_field(jets, ak.local_index(jets, axis=1), "index")


def partners(a: Any, b: Any, radius: float = 0.2) -> tuple[Any, Any]:
    """The partner in `b` of each of `a`, and the reverse: nearest of each other, and closer than the radius."""
    to_b, to_a = a.nearest(b, threshold=radius), b.nearest(a, threshold=radius)
    mutual_a = ak.fill_none(to_a.index[to_b.index] == a.index, False)
    mutual_b = ak.fill_none(to_b.index[to_a.index] == b.index, False)
    return ak.mask(to_b, mutual_a), ak.mask(to_a, mutual_b)


def response(events: Any, weight: Any) -> Histograms:
    """HLT jets against offline jets, by direct matching and by tag and probe."""

    def eta() -> Any:
        return hist.axis.Variable(ETA_EDGES, name="eta")

    def pt(name: str) -> Any:
        return hist.axis.Variable(JET_PT_EDGES, name=name)

    ratio, matched = regular(600, 0, 3, "response"), hist.axis.Integer(0, 2, name="matched", flow=False)
    quantities = ["pt_tag", "pt_reference", "pt_hlt"]
    out = {
        "tag_probe": new(eta(), pt("pt_tag"), ratio),
        "tag_probe_reference": new(eta(), pt("pt_reference"), ratio),
        "tag_probe_hlt": new(eta(), pt("pt_hlt"), ratio),
        "tag_probe_average": new(eta(), pt("pt_average"), ratio),
        "tag_probe_sums": new(eta(), pt("pt_tag"), hist.axis.StrCategory(quantities, name="quantity")),
        "direct": new(eta(), pt("pt_reference"), ratio),
        "pt_correlation": new(eta(), pt("pt_reference"), pt("pt_hlt")),
        "matching_reference": new(eta(), pt("pt_reference"), matched),
        "matching_hlt": new(eta(), pt("pt_hlt"), matched),
        "delta_r": new(pt("pt_reference"), regular(80, 0, 0.2, "delta_r")),
        "hlt_gen": new(eta(), pt("pt_gen"), ratio),
        "offline_gen": new(eta(), pt("pt_gen"), ratio),
    }
    hlt, reference, gen = indexed(events.ScoutingPFJet), indexed(events.Jet), indexed(events.GenJet)

    def weights(jets: Any) -> Any:
        return np.repeat(weight, ak.to_numpy(ak.num(jets)))

    to_hlt, to_reference = partners(reference, hlt)
    for name, jets, partner in (("reference", reference, to_hlt), ("hlt", hlt, to_reference)):
        out[f"matching_{name}"].fill(
            flat(jets.eta),
            flat(jets.pt),
            flat(~ak.is_none(partner, axis=1)).astype(int),
            weight=weights(jets),
        )

    has_partner = ~ak.is_none(to_hlt, axis=1)
    near, probe = reference[has_partner], to_hlt[has_partner]
    w, near_eta, near_pt, probe_pt = weights(near), flat(near.eta), flat(near.pt), flat(probe.pt)
    out["direct"].fill(near_eta, near_pt, probe_pt / near_pt, weight=w)
    out["pt_correlation"].fill(near_eta, near_pt, probe_pt, weight=w)
    out["delta_r"].fill(near_pt, flat(near.delta_r(probe)), weight=w)

    for name, jets in (("hlt_gen", hlt), ("offline_gen", reference)):
        partner, _ = partners(gen, jets)
        has_partner = ~ak.is_none(partner, axis=1)
        near = gen[has_partner]
        near_pt = flat(near.pt)
        out[name].fill(flat(near.eta), near_pt, flat(partner[has_partner].pt) / near_pt, weight=weights(near))

    leading = ak.argsort(reference.pt, axis=1, ascending=False)[:, :2]
    two = ak.num(leading) == 2
    leading, reference, to_hlt = leading[two], reference[two], to_hlt[two]
    pair, pair_hlt = reference[leading], to_hlt[leading]
    back_to_back = abs(pair[:, 0].delta_phi(pair[:, 1])) >= 2.7
    columns = []
    for tag, probe, probe_hlt in (
        (pair[:, 0], pair[:, 1], pair_hlt[:, 1]),
        (pair[:, 1], pair[:, 0], pair_hlt[:, 0]),
    ):
        chosen = back_to_back & (abs(tag.eta) < 1.3) & ~ak.is_none(probe_hlt)
        values = (weight[ak.to_numpy(two)], probe.eta, tag.pt, probe.pt, probe_hlt.pt)
        columns.append([ak.to_numpy(ak.drop_none(ak.Array(v)[chosen])) for v in values])
    w, eta_probe, pt_tag, pt_probe, pt_hlt = (np.concatenate(c) for c in zip(*columns, strict=True))
    r = pt_hlt / pt_probe
    out["tag_probe"].fill(eta_probe, pt_tag, r, weight=w)
    out["tag_probe_reference"].fill(eta_probe, pt_probe, r, weight=w)
    out["tag_probe_hlt"].fill(eta_probe, pt_hlt, r, weight=w)
    out["tag_probe_average"].fill(eta_probe, 0.5 * (pt_tag + pt_probe), r, weight=w)
    for quantity, sums in zip(quantities, (pt_tag, pt_probe, pt_hlt), strict=True):
        out["tag_probe_sums"].fill(eta_probe, pt_tag, quantity, weight=w * sums)
    return out


def dijet(events: Any, weight: Any) -> Histograms:
    """The mass spectrum of wide jets."""
    systematic = hist.axis.StrCategory(["nominal"], name="systematic")
    jet = hist.axis.StrCategory(["leading", "subleading"], name="jet")
    out = {
        "mass": new(systematic, regular(14000, 0, 14000, "mass")),
        "mass_standard": new(systematic, hist.axis.Variable(CMS_DIJET_EDGES, name="mass")),
        "pt": new(jet, regular(400, 0, 4000, "pt")),
        "eta": new(jet, regular(100, -5, 5, "eta")),
        "phi": new(jet, regular(64, -np.pi, np.pi, "phi")),
        "delta_eta": new(regular(100, 0, 5, "delta_eta")),
        "delta_phi": new(regular(64, 0, np.pi, "delta_phi")),
        "y_star": new(regular(100, -2.5, 2.5, "y_star")),
        "chi": new(regular(80, 1, 21, "chi")),
        "n_jets": new(hist.axis.Integer(0, 20, name="n_jets")),
    }
    jets = events.ScoutingPFJet
    jets = jets[(jets.pt > 30) & (abs(jets.eta) < 2.5)]
    two = ak.num(jets) >= 2
    jets, weight = jets[two], weight[ak.to_numpy(two)]
    jets = jets[ak.argsort(jets.pt, axis=1, ascending=False)]
    good = tight_id(jets)
    seeded = (jets.pt[:, 0] >= 60) & (jets.pt[:, 1] >= 30) & good[:, 0] & good[:, 1]
    jets, good, weight = jets[seeded], good[seeded], weight[ak.to_numpy(seeded)]

    n_jets = ak.to_numpy(ak.num(jets))
    jets = double(jets, jets.mass)[good]
    first, second, others = jets[:, 0], jets[:, 1], jets[:, 2:]
    to_first, to_second = others.delta_r(first), others.delta_r(second)
    wide = [
        first + others[(to_first < to_second) & (to_first < 1.1)].sum(axis=1),
        second + others[(to_second <= to_first) & (to_second < 1.1)].sum(axis=1),
    ]
    swapped = wide[1].pt > wide[0].pt
    pt, eta, phi, rapidity = (
        [np.where(swapped, b, a), np.where(swapped, a, b)]
        for a, b in (
            [ak.to_numpy(getattr(w, name)) for w in wide] for name in ("pt", "eta", "phi", "rapidity")
        )
    )
    mass = ak.to_numpy((wide[0] + wide[1]).mass)
    delta_eta, y_star = abs(eta[0] - eta[1]), 0.5 * (rapidity[0] - rapidity[1])
    out["delta_eta"].fill(delta_eta, weight=weight)
    out["y_star"].fill(y_star, weight=weight)

    central = delta_eta < 1.3
    w = weight[central]
    out["mass"].fill("nominal", mass[central], weight=w)
    out["mass_standard"].fill("nominal", mass[central], weight=w)
    for position, name in enumerate(("leading", "subleading")):
        out["pt"].fill(name, pt[position][central], weight=w)
        out["eta"].fill(name, eta[position][central], weight=w)
        out["phi"].fill(name, phi[position][central], weight=w)
    delta_phi = abs(phi[0] - phi[1])[central]
    out["delta_phi"].fill(np.minimum(delta_phi, 2 * np.pi - delta_phi), weight=w)
    out["chi"].fill(np.exp(2 * abs(y_star[central])), weight=w)
    out["n_jets"].fill(n_jets[central], weight=w)
    return out


def dimuon(events: Any, weight: Any) -> Histograms:
    """All pairs of muons: mass in categories, pT, rapidity, and the muons in them."""
    sign = hist.axis.StrCategory(["os", "ss"], name="sign")
    categories = ["barrel", "forward", "barrel_displaced", "forward_displaced"]
    category = hist.axis.StrCategory(categories, name="category")
    out = {
        "mass": new(sign, category, hist.axis.Variable(DIMUON_MASS_EDGES, name="mass")),
        "pt": new(sign, hist.axis.Variable(DIMUON_PT_EDGES, name="pt")),
        "rapidity": new(sign, regular(120, -3, 3, "rapidity")),
        "muon_pt": new(sign, hist.axis.Variable(DIMUON_PT_EDGES, name="pt")),
        "muon_eta": new(sign, regular(120, -3, 3, "eta")),
    }
    two = ak.num(events.ScoutingMuonVtx) >= 2
    events, weight = events[two], weight[ak.to_numpy(two)]
    stored = events.ScoutingMuonVtx
    muons = double(stored, ak.full_like(stored.pt, MUON_MASS, dtype=np.float64))
    muons["charge"] = stored.charge
    # the event's list of vertex indices, cut into those of each muon
    indices = ak.flatten(events.ScoutingMuonVtxVtxIndx.vtxIndx)
    of_muon = ak.unflatten(indices, ak.flatten(stored.nScoutingMuonVtxVtxIndx))
    muons["vertices"] = ak.unflatten(of_muon, ak.num(stored))
    a, b = ak.unzip(ak.combinations(muons, 2))
    w = np.repeat(weight, ak.to_numpy(ak.num(a)))
    pair = a + b

    index_a, index_b = ak.unzip(ak.cartesian([a.vertices, b.vertices], axis=2))
    common = ak.min(index_a[index_a == index_b], axis=2)
    vertex = events.ScoutingMuonVtxDisplacedVertex[common]
    primary = events.ScoutingPrimaryVertex
    x = vertex.x - ak.fill_none(ak.firsts(primary.x), 0)
    y = vertex.y - ak.fill_none(ak.firsts(primary.y), 0)
    # distance > 5 errors, the error being that along the flight direction
    displaced = flat(ak.fill_none(x**2 + y**2 > 5 * np.hypot(x * vertex.xError, y * vertex.yError), False))

    same = flat(a.charge == b.charge)
    barrel = flat((abs(a.eta) < 0.9) & (abs(b.eta) < 0.9))
    mass, pt, rapidity = flat(pair.mass), flat(pair.pt), flat(pair.rapidity)
    for sign_name, chosen in (("os", ~same), ("ss", same)):
        out["pt"].fill(sign_name, pt[chosen], weight=w[chosen])
        out["rapidity"].fill(sign_name, rapidity[chosen], weight=w[chosen])
        for muon in (a, b):
            out["muon_pt"].fill(sign_name, flat(muon.pt)[chosen], weight=w[chosen])
            out["muon_eta"].fill(sign_name, flat(muon.eta)[chosen], weight=w[chosen])
        for name in categories:
            inside = (
                chosen & (barrel == name.startswith("barrel")) & (displaced == name.endswith("displaced"))
            )
            out["mass"].fill(sign_name, name, mass[inside], weight=w[inside])
    return out


class PlainProcessor(ProcessorABC):  # type: ignore[misc]
    """All three, in one pass.

    Args:
        weighted: with the generator weight; else each event counts once.
    """

    def __init__(self, weighted: bool = True) -> None:
        self.weighted = weighted

    def process(self, events: Any) -> Histograms:
        """Histograms of one chunk, by full name."""
        events = events[  # those that a scouting trigger wrote
            (events.ScoutingRho.fixedGridRhoFastjetAll > 0)
            | (ak.num(events.ScoutingPrimaryVertex) > 0)
            | (ak.num(events.ScoutingPFJet) > 0)
            | (ak.num(events.ScoutingMuonVtx) > 0)
        ]
        weight = ak.to_numpy(events.genWeight).astype(np.float64) if self.weighted else np.ones(len(events))
        steps = {"response": response, "dijet": dijet, "dimuon": dimuon}
        return {f"{name}.{key}": h for name, f in steps.items() for key, h in f(events, weight).items()}

    def postprocess(self, accumulator: Any) -> Any:
        return accumulator


def run(files: Sequence[str], *, chunk_size: int = CHUNK_SIZE, weighted: bool = True) -> Histograms:
    """All histograms of the files, by the names that `trila run` gives them."""
    runner = Runner(IterativeExecutor(status=False), schema=ScoutingSchema, chunksize=chunk_size)
    histograms: Histograms = runner({"simulation": list(files)}, PlainProcessor(weighted), treename="Events")
    return histograms


def main() -> None:
    begin = time.perf_counter()
    histograms = run(sys.argv[1:])
    for name, histogram in histograms.items():
        print(f"{name:32s} {histogram.sum(flow=True).value:.6g}")
    print(f"{time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
