"""What toy events hold and how they are stored: arrays of particle-level, HLT and offline objects.

| you want | use |
| --- | --- |
| to calibrate: weighted dijet events with HLT, offline and particle-level jets | `trila.analysis.toy_jets.jets` |
| to search: HLT jets whose dijet mass falls as `dijet4`, with or without a signal | `trila.analysis.toy_dijet.dijet` |
| muon pairs: resonances, continuum, same-sign, displaced vertices | `trila.analysis.toy_dimuon.dimuon` |

Event number i depends on the seed and on i alone, not on the range of events asked for. Momenta, energies and masses are
in GeV, lengths in cm.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.processors.compiled import kernel

__all__ = [
    "HLT_JET_FIELDS",
    "MAX_JETS",
    "Collection",
    "Events",
    "empty_events",
    "jet_rows",
    "muon_rows",
    "sort_rows",
    "store_rows",
    "trimmed",
]

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

HLT_JET_FIELDS = (
    *("pt", "eta", "phi", "m", "jetArea"),
    *("chargedHadronEnergy", "neutralHadronEnergy", "photonEnergy", "electronEnergy", "muonEnergy"),
    *("HFHadronEnergy", "HFEMEnergy"),
    *("chargedHadronMultiplicity", "neutralHadronMultiplicity", "photonMultiplicity"),
    *("electronMultiplicity", "muonMultiplicity"),
)

#: Of one kind, in one event.
MAX_JETS = 20
_HLT_FIELDS = len(HLT_JET_FIELDS)


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


def _collection(events: int, fields: int, per_event: int) -> Collection:
    # Pages that stay untouched cost nothing: the capacity may be generous.
    return Collection(np.zeros(events, np.int32), np.empty((fields, events * per_event + 64), np.float32))


def empty_events(events: int) -> Events:
    """Room for this many events, to be filled with `store_rows` and cut with `trimmed`."""

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
        gen=_collection(events, 4, MAX_JETS),
        offline=_collection(events, 5, MAX_JETS),
        hlt=_collection(events, _HLT_FIELDS, MAX_JETS),
        vertices=_collection(events, 3, 100),
        hlt_muons=_collection(events, 6, 2),
        offline_muons=_collection(events, 4, 2),
        dimuon_vertices=_collection(events, 8, 1),
    )


def trimmed(events: Events) -> Events:
    """Without the room that was not used."""
    parts: dict[str, Any] = events._asdict()
    for name, part in parts.items():
        if isinstance(part, Collection):
            parts[name] = Collection(part.counts, part.values[:, : int(part.counts.sum())])
    return Events(**parts)


@kernel
def jet_rows() -> tuple[Array, Array, Array]:
    """Room for the particle-level, HLT and offline jets of an event while it is made: a row each."""
    return np.zeros((MAX_JETS, 4)), np.zeros((MAX_JETS, _HLT_FIELDS)), np.zeros((MAX_JETS, 5))


@kernel
def muon_rows() -> tuple[Array, Array, Array]:
    """Room for the HLT muons, the offline muons and the vertex of an event."""
    return np.zeros((2, 6)), np.zeros((2, 4)), np.zeros((1, 8))


@kernel
def sort_rows(rows: Array, count: int) -> None:
    """The first `count` rows, highest first column first."""
    for i in range(1, count):
        j = i
        while j > 0 and rows[j - 1, 0] < rows[j, 0]:
            for k in range(rows.shape[1]):
                rows[j - 1, k], rows[j, k] = rows[j, k], rows[j - 1, k]
            j -= 1


@kernel
def store_rows(rows: Array, count: int, collection: Collection, event: int, cursor: int) -> int:
    """Write the first `count` rows; returns where the next event begins."""
    for k in range(collection.values.shape[0]):
        for i in range(count):
            collection.values[k, cursor + i] = rows[i, k]
    collection.counts[event] = count
    return cursor + count
