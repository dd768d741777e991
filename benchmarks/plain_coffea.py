"""The peer of the benchmarks: response, dijet and dimuon in plain coffea, as an analyst would write them today.

    python benchmarks/plain_coffea.py FILE ...

Makes the histograms that `trila run response,dijet,dimuon` makes of a simulated CMS monitoring file: same names, axes
and content, with awkward arrays, `nearest`, `ak.combinations`, masks and `hist.Hist.fill`, through coffea's `Runner`.
There is nothing slow in it on purpose, and nothing compiled by hand.
"""

import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import awkward as ak
import hist
import numpy as np
from coffea.nanoevents import NanoAODSchema
from coffea.processor import IterativeExecutor, ProcessorABC, Runner

from trila.processors.histograms import CMS_DIJET_EDGES, JET_PT_EDGES

__all__ = ["CHUNK_SIZE", "PlainProcessor", "ScoutingSchema", "run"]

CHUNK_SIZE = 100_000  # the Runner's default; no other was faster

MUON_MASS = 0.1056583755
ETA_EDGES = [-5.2, -3.0, -2.5, -1.9, -1.3, -0.65, 0.0, 0.65, 1.3, 1.9, 2.5, 3.0, 5.2]
MUON_PT_EDGES = np.geomspace(0.5, 1000, 133)
MUON_MASS_EDGES = np.geomspace(0.2, 400.0, int(np.ceil(np.log(2000) / np.log1p(0.0025))) + 1)


class ScoutingSchema(NanoAODSchema):  # type: ignore[misc]
    """Scouting collections of 2024 with four-vector behaviour."""

    warn_missing_crossrefs = False
    mixins: ClassVar[dict[str, str]] = {
        **NanoAODSchema.mixins,
        "ScoutingPFJet": "PtEtaPhiMCollection",
        "ScoutingMuonVtx": "Muon",
    }
    alias_items: ClassVar[dict[str, str]] = {
        **NanoAODSchema.alias_items,
        "ScoutingPFJet_mass": "ScoutingPFJet_m",
        "ScoutingMuonVtx_mass": "ScoutingMuonVtx_m",
    }


def tight_id(jets: Any) -> Any:
    """Tight identification of scouting jets; they are within |eta| < 2.5, so only the central cuts are needed."""
    energy = jets.energy
    charged = jets.chargedHadronMultiplicity + jets.electronMultiplicity + jets.muonMultiplicity
    neutral = jets.neutralHadronMultiplicity + jets.photonMultiplicity
    passed = (
        (jets.neutralHadronEnergy / energy < 0.99)
        & ((jets.photonEnergy + jets.HFEMEnergy) / energy < 0.90)
        & (charged + neutral > 1)
    )
    tracked = (jets.chargedHadronEnergy / energy > 0.01) & (charged > 0)
    return passed & (tracked | (abs(jets.eta) > 2.4))


def mutual(a: Any, b: Any, radius: float = 0.2) -> tuple[Any, Any]:
    """Nearest of `b` for each of `a`, masked where `a` is not in turn its nearest; and their distance."""
    a = ak.with_field(a, ak.local_index(a, axis=1), "index")
    back = b.nearest(a).index
    near, distance = ak.with_field(b, back, "back").nearest(a=None) if False else (None, None)
    raise NotImplementedError


class PlainProcessor(ProcessorABC):  # type: ignore[misc]
    """Response, dijet and dimuon histograms of scouting monitoring events.

    Args:
        weighted: with the generator weight; else every event counts once.
    """

    def __init__(self, weighted: bool = True) -> None:
        self.weighted = weighted
