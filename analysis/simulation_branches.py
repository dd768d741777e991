"""Columns of toy events under the branch names, in the units and with the precision of each experiment's files."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from trila.analysis.toy_dimuon import MUON_MASS
from trila.analysis.toy_events import HLT_JET_FIELDS, Collection, Events
from trila.processors.compiled import kernel

__all__ = [
    "HT_THRESHOLD",
    "JET_THRESHOLDS",
    "LAYOUTS",
    "SINGLE_JET_THRESHOLD",
    "Layout",
    "raw_factor",
    "round_mantissa",
]

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

#: GeV: of the level-1 triggers, and of HLT_PFJet.
HT_THRESHOLD, SINGLE_JET_THRESHOLD = 280.0, 180.0
JET_THRESHOLDS = (40, 60, 80, 140, 200, 260, 320, 400, 450, 500)


@kernel
def _round_in_place(bits: NDArray[np.uint32]) -> None:
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            old = bits[i, j]
            carry = (old >> np.uint32(12)) & np.uint32(1) & np.uint32((old & np.uint32(0x7FE000)) < 0x7FC000)
            bits[i, j] = (old & np.uint32(0xFFFFE000)) + (carry << np.uint32(13))


def round_mantissa(values: Floats) -> Floats:
    """Rounded to 10 bits after the binary point of the mantissa, as the HLT packer of CMS does.

    It rounds half up, except that the two largest mantissas are cut: it never carries into the exponent
    (`MiniFloatConverter::reduceMantissaToNbitsRounding` of CMSSW).

    Args:
        values: shape (fields, objects).
    """
    rounded = values.copy()
    _round_in_place(rounded.view(np.uint32))
    return rounded


def raw_factor(pt: Floats) -> Floats:
    """1 - uncorrected/corrected pT that `Jet_rawFactor` states for the offline jets of the toy, at corrected pT (GeV)."""
    factor: Floats = (0.03 + 0.12 * np.exp(-pt / np.float32(150.0))).astype(np.float32)
    return factor


def _jagged(counts: NDArray[np.int32], fields: Mapping[str, NDArray[Any]]) -> ak.Array:
    offsets = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    contents = [ak.contents.NumpyArray(np.ascontiguousarray(values)) for values in fields.values()]
    record = ak.contents.RecordArray(contents, list(fields), length=int(offsets[-1]))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))


def _named(collection: Collection, *names: str) -> ak.Array:
    return _jagged(collection.counts, dict(zip(names, collection.values, strict=True)))


def _cms_branches(kind: str, run: int, lumi: Integers, number: Integers, events: Events) -> dict[str, Any]:
    # In place: the events are made for this file, and memory that is new to the process is slow.
    for packed in (events.hlt, events.vertices, events.hlt_muons, events.dimuon_vertices):
        _round_in_place(packed.values.view(np.uint32))
    hlt = dict(zip(HLT_JET_FIELDS, events.hlt.values, strict=True))
    jets = {k: v.astype(np.int32) if k.endswith("Multiplicity") else v for k, v in hlt.items()}
    muon_pt, muon_eta, muon_phi, charge, isolation, n_vertices = events.hlt_muons.values
    muon_vertices = n_vertices.astype(np.uint16)
    # Offset of each muon's entries in the event's table of vertex indices: those of the muons before it.
    entries = np.concatenate(([0], np.cumsum(muon_vertices, dtype=np.int64)))
    starts = np.concatenate(([0], np.cumsum(events.hlt_muons.counts)))
    table_counts = np.diff(entries[starts]).astype(np.int32)
    muon_offsets = entries[:-1] - np.repeat(entries[starts[:-1]], events.hlt_muons.counts)
    muons = {
        "pt": muon_pt,
        "eta": muon_eta,
        "phi": muon_phi,
        "m": np.full_like(muon_pt, round_mantissa(np.full((1, 1), MUON_MASS, np.float32))[0, 0]),
        "charge": charge.astype(np.int32),
        "trackIso": isolation,
        "nScoutingMuonVtxVtxIndx": muon_vertices,
        "oScoutingMuonVtxVtxIndx": muon_offsets.astype(np.uint16),
    }
    branches: dict[str, Any] = {
        "run": np.full(number.size, run, np.uint32),
        "luminosityBlock": lumi.astype(np.uint32),
        "event": number.astype(np.uint64),
        "ScoutingPFJet": _jagged(events.hlt.counts, jets),
        "ScoutingRho_fixedGridRhoFastjetAll": events.rho,
        "ScoutingPrimaryVertex": _named(events.vertices, "x", "y", "z"),
        "ScoutingMuonVtx": _jagged(events.hlt_muons.counts, muons),
        "ScoutingMuonVtxDisplacedVertex": _named(
            events.dimuon_vertices,
            *("x", "y", "z", "xError", "yError", "zError", "chi2", "ndof"),
        ),
        # All toy muons that have a vertex share the event's only one.
        "ScoutingMuonVtxVtxIndx": _jagged(table_counts, {"vtxIndx": np.zeros(int(entries[-1]), np.int32)}),
    }
    if kind == "jets":
        pt, eta, phi, mass, area = events.offline.values
        offline = {"pt": pt, "eta": eta, "phi": phi, "mass": mass, "rawFactor": raw_factor(pt), "area": area}
        pt, eta, phi, charge = events.offline_muons.values
        muons = {"pt": pt, "eta": eta, "phi": phi, "mass": np.full_like(pt, MUON_MASS)}
        muons["charge"] = charge.astype(np.int32)
        branches |= {
            "Jet": _jagged(events.offline.counts, offline),
            "GenJet": _named(events.gen, "pt", "eta", "phi", "mass"),
            "Muon": _jagged(events.offline_muons.counts, muons),
            "genWeight": events.weight,
            "Generator_binvar": events.hard_scale.astype(np.float32),
            "Pileup_nTrueInt": events.mu,
            "PV_npvsGood": events.n_pv,
        }
    return branches | _triggers(events)


def _triggers(events: Events) -> dict[str, NDArray[np.bool_]]:
    ht, single = events.l1_ht >= HT_THRESHOLD, events.l1_pt >= SINGLE_JET_THRESHOLD
    leading = round_mantissa(events.hlt_pt[np.newaxis])[0]
    return {
        "L1_HTT280er": ht,
        "L1_SingleJet180": single,
        "DST_PFScouting_JetHT": (ht | single) & events.products,
        "DST_PFScouting_DoubleMuon": events.muon_pair & events.products,
        "DST_PFScouting_ZeroBias": events.zero_bias & events.products,
        "HLT_IsoMu27": events.reference,
    } | {f"HLT_PFJet{threshold}": leading >= threshold for threshold in JET_THRESHOLDS}


def _atlas_branches(kind: str, run: int, lumi: Integers, number: Integers, events: Events) -> dict[str, Any]:
    """Momenta in MeV, lengths in mm; nothing is rounded."""
    names = ("pt", "eta", "phi", "m")

    def in_mev(jets: Collection) -> ak.Array:
        pt, eta, phi, mass = jets.values[:4]
        thousand = np.float32(1000.0)
        return _jagged(jets.counts, dict(zip(names, (pt * thousand, eta, phi, mass * thousand), strict=True)))

    branches: dict[str, Any] = {
        "runNumber": np.full(number.size, run, np.uint32),
        "eventNumber": number.astype(np.uint64),
        "lumiBlock": lumi.astype(np.uint32),
        "averageInteractionsPerCrossing": events.mu,
        "actualInteractionsPerCrossing": events.mu,
        "trigger_akt4_pf": in_mev(events.hlt),
        "offline_pv": _jagged(events.vertices.counts, {"z": events.vertices.values[2] * np.float32(10.0)}),
    }
    if kind == "jets":
        branches["offline_akt4_pf_NOSYS"] = in_mev(events.offline)
        branches["mcChannelNumber"] = np.full(number.size, 364_700, np.uint32)
        branches["mcEventWeights"] = ak.Array(
            ak.contents.ListOffsetArray(
                ak.index.Index64(np.arange(number.size + 1)), ak.contents.NumpyArray(events.weight)
            )
        )
    return branches


class Layout(NamedTuple):
    """How a format stores events.

    Attributes:
        tree: name of the tree.
        branches: kind of sample, run, luminosity block and number of each event, events: to arrays by branch. It may
            change the events in place.
    """

    tree: str
    branches: Callable[[str, int, Integers, Integers, Events], dict[str, Any]]


LAYOUTS: Mapping[str, Layout] = {
    "cms-scouting": Layout("Events", _cms_branches),
    "atlas-tla": Layout("AnalysisMiniTree", _atlas_branches),
}
