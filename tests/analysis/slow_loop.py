"""What `docs/processors.md` says, a second time: plain loops over events and objects, in Python floats.

Written from the documents and the files' branches alone, without a look at the package, and meant to be read as
a specification. Branches are read by their real names; a `float32` becomes a Python float (`float64`) before any
arithmetic. Nothing here imports `trila`.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import uproot

MUON_MASS = 0.1056583755  # GeV
MEV = 0.001  # in GeV


# ------------------------------------------------------------------------------------------------------------
# Bookkeeping


class Axis(NamedTuple):
    """Edges of a numerical axis, or the categories of one of text; with or without flow bins."""

    edges: list[float]
    categories: list[str]
    underflow: bool
    overflow: bool


class Booking:
    """Weights by histogram bin and by line of the cutflow, kept singly and added up exactly at the end."""

    def __init__(self, axes: dict[str, list[Axis]]) -> None:
        """Take the axes of the histograms to fill, by name."""
        self.axes = axes
        self.bins: dict[str, dict[tuple[int, ...], list[float]]] = {name: {} for name in axes}
        self.cuts: dict[str, list[float]] = {}
        self.pairs: list[dict[str, float]] = []

    def fill(self, name: str, values: Sequence[float | str], weight: float) -> None:
        """Add one entry; a histogram that the result does not have is an error."""
        axes = self.axes[name]
        assert len(axes) == len(values), name
        index = tuple(bin_index(axis, value) for axis, value in zip(axes, values, strict=True))
        self.bins[name].setdefault(index, []).append(weight)

    def cut(self, name: str, weight: float | None) -> None:
        """Count an event on a line of the cutflow; `None` only makes the line."""
        line = self.cuts.setdefault(name, [])
        if weight is not None:
            line.append(weight)


def bin_index(axis: Axis, value: float | str) -> int:
    """Bin of a value, counted from the first one that is stored: underflow, if there is one."""
    if axis.categories:
        return axis.categories.index(str(value))  # a category that is not there is an error
    number = float(value)
    position = bisect_right(axis.edges, number)  # 0: below all; len(edges): at or above the last
    if not axis.underflow:
        assert position > 0, (value, axis)
        position -= 1
    if not axis.overflow:
        assert number < axis.edges[-1], (value, axis)
    return position


def as_float32(value: float) -> float:
    """The value as a column of type `float` keeps it."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


# ------------------------------------------------------------------------------------------------------------
# The event


class Inputs(NamedTuple):
    """What the jet identification looks at."""

    neutral_hadron_fraction: float
    neutral_em_fraction: float
    charged_hadron_fraction: float
    charged_multiplicity: int
    neutral_multiplicity: int
    n_constituents: int


class Jet(NamedTuple):
    """A jet, in GeV; without inputs it passes the identification."""

    pt: float
    eta: float
    phi: float
    mass: float
    inputs: Inputs | None = None
    area: float | None = None
    raw_factor: float | None = None


class Muon(NamedTuple):
    """A muon, in GeV."""

    pt: float
    eta: float
    phi: float
    charge: int


class Event(NamedTuple):
    """All that the processors look at. A collection that the file does not have is `None`."""

    weight: float = 1.0
    identity: dict[str, int] = {}  # noqa: RUF012
    rho: float | None = None
    mu: float | None = None
    has_products: bool = True
    pileup_below: bool = True
    hlt_jets: list[Jet] | None = None
    offline_jets: list[Jet] | None = None
    gen_jets: list[Jet] | None = None
    muons: list[Muon] | None = None
    fired: dict[str, bool] = {}  # noqa: RUF012


# ------------------------------------------------------------------------------------------------------------
# The files


def _columns(path: Path, tree: str, names: Sequence[str], events: int | None = None) -> dict[str, list[Any]]:
    with uproot.open(path) as file:
        return {name: file[tree][name].array(entry_stop=events).to_list() for name in names}


def read_cms_scouting(path: Path) -> Iterator[Event]:
    """ScoutingNano of 2022-23: trigger-level jets are `ScoutingPFJet`, with energies; no offline jets."""
    jet = "ScoutingPFJet_"
    columns = _columns(
        path,
        "Events",
        [
            "run", "luminosityBlock", "event", "genWeight", "ScoutingRho", "nScoutingPrimaryVertex",
            "Pileup_nTrueInt",
            f"{jet}pt", f"{jet}eta", f"{jet}phi", f"{jet}m", f"{jet}jetArea",
            f"{jet}neutralHadronEnergy", f"{jet}chargedHadronEnergy", f"{jet}photonEnergy",
            f"{jet}HFEMEnergy",
            f"{jet}chargedHadronMultiplicity", f"{jet}electronMultiplicity", f"{jet}muonMultiplicity",
            f"{jet}neutralHadronMultiplicity", f"{jet}photonMultiplicity", f"{jet}HFHadronMultiplicity",
            f"{jet}HFEMMultiplicity",
            "GenJet_pt", "GenJet_eta", "GenJet_phi", "GenJet_mass",
            "ScoutingMuon_pt", "ScoutingMuon_eta", "ScoutingMuon_phi", "ScoutingMuon_charge",
        ],
    )  # fmt: skip
    for i in range(len(columns["genWeight"])):
        hlt_jets = []
        for j in range(len(columns[f"{jet}pt"][i])):
            pt, eta, mass = columns[f"{jet}pt"][i][j], columns[f"{jet}eta"][i][j], columns[f"{jet}m"][i][j]
            energy = math.sqrt((pt * math.cosh(eta)) ** 2 + mass**2)
            charged = (
                columns[f"{jet}chargedHadronMultiplicity"][i][j]
                + columns[f"{jet}electronMultiplicity"][i][j]
                + columns[f"{jet}muonMultiplicity"][i][j]
            )
            neutral = (
                columns[f"{jet}neutralHadronMultiplicity"][i][j]
                + columns[f"{jet}photonMultiplicity"][i][j]
                + columns[f"{jet}HFHadronMultiplicity"][i][j]
                + columns[f"{jet}HFEMMultiplicity"][i][j]
            )
            inputs = Inputs(
                neutral_hadron_fraction=columns[f"{jet}neutralHadronEnergy"][i][j] / energy,
                neutral_em_fraction=(columns[f"{jet}photonEnergy"][i][j] + columns[f"{jet}HFEMEnergy"][i][j])
                / energy,
                charged_hadron_fraction=columns[f"{jet}chargedHadronEnergy"][i][j] / energy,
                charged_multiplicity=charged,
                neutral_multiplicity=neutral,
                n_constituents=charged + neutral,
            )
            phi, area = columns[f"{jet}phi"][i][j], columns[f"{jet}jetArea"][i][j]
            hlt_jets.append(Jet(pt, eta, phi, mass, inputs, area=area))
        muons = _muons(columns, "ScoutingMuon", i)
        rho = columns["ScoutingRho"][i]
        yield Event(
            weight=columns["genWeight"][i],
            identity=_identity(columns, i, "run", "luminosityBlock", "event"),
            rho=rho,
            mu=columns["Pileup_nTrueInt"][i],
            has_products=rho > 0
            or columns["nScoutingPrimaryVertex"][i] > 0
            or len(hlt_jets) > 0
            or len(muons) > 0,
            hlt_jets=hlt_jets,
            gen_jets=_jets(columns, "GenJet", "mass", i),
            muons=muons,
        )


def read_cms_nano(path: Path, triggers: Sequence[str] = ()) -> Iterator[Event]:
    """NanoAOD simulation: trigger-level jets are the trigger objects with `id` 1, muons the offline ones."""
    columns = _columns(
        path,
        "Events",
        [
            "run", "luminosityBlock", "event", "genWeight", "Pileup_nTrueInt", "Pileup_pthatmax",
            "Generator_binvar", "Rho_fixedGridRhoFastjetAll",
            "TrigObj_id", "TrigObj_pt", "TrigObj_eta", "TrigObj_phi",
            "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "Jet_rawFactor", "Jet_neHEF", "Jet_neEmEF",
            "Jet_chHEF", "Jet_chMultiplicity", "Jet_neMultiplicity", "Jet_nConstituents",
            "GenJet_pt", "GenJet_eta", "GenJet_phi", "GenJet_mass",
            "Muon_pt", "Muon_eta", "Muon_phi", "Muon_charge",
            *triggers,
        ],
    )  # fmt: skip
    for i in range(len(columns["genWeight"])):
        hlt_jets = []
        for j in range(len(columns["TrigObj_pt"][i])):
            if columns["TrigObj_id"][i][j] == 1:
                pt, eta, phi = (columns[f"TrigObj_{field}"][i][j] for field in ("pt", "eta", "phi"))
                hlt_jets.append(Jet(pt, eta, phi, 0.0))
        offline_jets = []
        for j, jet in enumerate(_jets(columns, "Jet", "mass", i)):
            inputs = Inputs(
                neutral_hadron_fraction=columns["Jet_neHEF"][i][j],
                neutral_em_fraction=columns["Jet_neEmEF"][i][j],
                charged_hadron_fraction=columns["Jet_chHEF"][i][j],
                charged_multiplicity=columns["Jet_chMultiplicity"][i][j],
                neutral_multiplicity=columns["Jet_neMultiplicity"][i][j],
                n_constituents=columns["Jet_nConstituents"][i][j],
            )
            offline_jets.append(jet._replace(inputs=inputs, raw_factor=columns["Jet_rawFactor"][i][j]))
        hard = columns["Generator_binvar"][i]
        yield Event(
            weight=columns["genWeight"][i],
            identity=_identity(columns, i, "run", "luminosityBlock", "event"),
            rho=columns["Rho_fixedGridRhoFastjetAll"][i],
            mu=columns["Pileup_nTrueInt"][i],
            pileup_below=columns["Pileup_pthatmax"][i] < hard if hard > 0 else True,
            hlt_jets=hlt_jets,
            offline_jets=offline_jets,
            gen_jets=_jets(columns, "GenJet", "mass", i),
            muons=_muons(columns, "Muon", i),
            fired={name: columns[name][i] for name in triggers},
        )


def read_atlas(path: Path) -> Iterator[Event]:
    """A flat ATLAS ntuple of simulated events, in MeV."""
    hlt, offline = "trigger_akt4_pf", "offline_akt4_pf_NOSYS"
    fields = ("pt", "eta", "phi", "m")
    columns = _columns(
        path,
        "AnalysisMiniTree",
        [
            "runNumber",
            "lumiBlock",
            "eventNumber",
            "mcEventWeights",
            "averageInteractionsPerCrossing",
            *(f"{collection}_{field}" for collection in (hlt, offline) for field in fields),
        ],
    )
    for i in range(len(columns["eventNumber"])):
        yield Event(
            weight=columns["mcEventWeights"][i][0],
            identity=_identity(columns, i, "runNumber", "lumiBlock", "eventNumber"),
            mu=columns["averageInteractionsPerCrossing"][i],
            hlt_jets=_jets(columns, hlt, "m", i, MEV),
            offline_jets=_jets(columns, offline, "m", i, MEV),
        )


def read_open_data_muons(path: Path, events: int | None = None) -> Iterator[Event]:
    """Collision data with nothing but muons; all of them, or the first events."""
    columns = _columns(path, "Events", ["Muon_pt", "Muon_eta", "Muon_phi", "Muon_charge"], events)
    for i in range(len(columns["Muon_pt"])):
        yield Event(muons=_muons(columns, "Muon", i))


def _jets(columns: dict[str, list[Any]], name: str, mass: str, i: int, unit: float = 1.0) -> list[Jet]:
    jets = []
    for j in range(len(columns[f"{name}_pt"][i])):
        pt, eta, phi, m = (columns[f"{name}_{field}"][i][j] for field in ("pt", "eta", "phi", mass))
        jets.append(Jet(pt * unit, eta, phi, m * unit))
    return jets


def _muons(columns: dict[str, list[Any]], name: str, i: int) -> list[Muon]:
    muons = []
    for j in range(len(columns[f"{name}_pt"][i])):
        pt, eta, phi, charge = (columns[f"{name}_{field}"][i][j] for field in ("pt", "eta", "phi", "charge"))
        muons.append(Muon(pt, eta, phi, charge))
    return muons


def _identity(columns: dict[str, list[Any]], i: int, run: str, block: str, event: str) -> dict[str, int]:
    return {"run": columns[run][i], "luminosity_block": columns[block][i], "event": columns[event][i]}


# ------------------------------------------------------------------------------------------------------------
# Kinematics


def delta_phi(first: float, second: float) -> float:
    """Difference in azimuth, 0 to pi."""
    difference = abs(first - second) % (2 * math.pi)
    return min(difference, 2 * math.pi - difference)


def delta_r(first: Jet, second: Jet) -> float:
    """Distance in pseudorapidity and azimuth."""
    return math.sqrt((first.eta - second.eta) ** 2 + delta_phi(first.phi, second.phi) ** 2)


class Vector(NamedTuple):
    """A four-vector."""

    x: float
    y: float
    z: float
    e: float

    @property
    def pt(self) -> float:
        return math.sqrt(self.x**2 + self.y**2)

    @property
    def eta(self) -> float:
        return math.asinh(self.z / self.pt)

    @property
    def phi(self) -> float:
        return math.atan2(self.y, self.x)

    @property
    def rapidity(self) -> float:
        return 0.5 * math.log((self.e + self.z) / (self.e - self.z))

    @property
    def mass(self) -> float:
        return math.sqrt(max(self.e**2 - self.x**2 - self.y**2 - self.z**2, 0.0))


def vector(pt: float, eta: float, phi: float, mass: float) -> Vector:
    """The four-vector of an object."""
    x, y, z = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    return Vector(x, y, z, math.sqrt((pt * math.cosh(eta)) ** 2 + mass**2))


def add(first: Vector, second: Vector) -> Vector:
    """The sum of two four-vectors."""
    return Vector(first.x + second.x, first.y + second.y, first.z + second.z, first.e + second.e)


# ------------------------------------------------------------------------------------------------------------
# Common to the processors


def counted(event: Event, booking: Booking, triggers: Sequence[str] = ()) -> bool:
    """Go through the cuts on events: does this one count?"""
    booking.cut("all events", event.weight)
    booking.cut("certified luminosity", event.weight)  # no mask is given
    if not event.has_products:
        return False
    booking.cut("trigger-level products", event.weight)
    if not event.pileup_below:
        return False
    booking.cut("pile-up below hard process", event.weight)
    if triggers and not any(event.fired[name] for name in triggers):
        return False
    booking.cut("trigger", event.weight)
    return True


COMMON = (
    "all events",
    "certified luminosity",
    "trigger-level products",
    "pile-up below hard process",
    "trigger",
)


def identified(jet: Jet) -> bool:
    """CMS's tight identification for Run 3 PUPPI jets; a jet without inputs passes."""
    if jet.inputs is None:
        return True
    neutral_hadron, neutral_em, charged_hadron, n_charged, n_neutral, n_constituents = jet.inputs
    eta = abs(jet.eta)
    if eta <= 2.6:
        good = neutral_hadron < 0.99 and neutral_em < 0.90 and n_constituents > 1
        if eta <= 2.4:
            good = good and charged_hadron > 0.01 and n_charged > 0
        return good
    if eta <= 2.7:
        return neutral_hadron < 0.90 and neutral_em < 0.99
    if eta <= 3.0:
        return neutral_hadron < 0.99
    return neutral_em < 0.40 and n_neutral >= 2


def leading_first(jets: Sequence[Jet]) -> list[Jet]:
    """By falling pT; equal ones as they are stored."""
    return sorted(jets, key=lambda jet: -jet.pt)


def nearest(jet: Jet, others: Sequence[Jet]) -> int | None:
    """Position of the nearest of the others; the first stored one of equally near ones."""
    best, least = None, math.inf
    for position, other in enumerate(others):
        distance = delta_r(jet, other)
        if distance < least:
            best, least = position, distance
    return best


def partners(jets: Sequence[Jet], others: Sequence[Jet], radius: float = 0.2) -> list[Jet | None]:
    """For each jet its partner: each is the nearest of the other, and they are closer than the radius."""
    found: list[Jet | None] = []
    for position, jet in enumerate(jets):
        candidate = nearest(jet, others)
        if (
            candidate is not None
            and nearest(others[candidate], jets) == position
            and delta_r(jet, others[candidate]) < radius
        ):
            found.append(others[candidate])
        else:
            found.append(None)
    return found


# ------------------------------------------------------------------------------------------------------------
# The processors


def response(
    events: Iterator[Event],
    booking: Booking,
    *,
    reference_is_gen: bool,
    triggers: Sequence[str] = (),
    alpha_max: float | None = None,
    tag_threshold: float | None = None,
) -> None:
    """Direct and tag-and-probe response.

    A tag trigger is one that took the event: it is among the triggers, and gives the tag its threshold.
    """
    lines = (
        "jet veto map",
        "two reference jets",
        "jet identification",
        "back to back",
        "third jet",
        "tag",
        "matched probe",
    )
    for line in (*COMMON, *lines):
        booking.cut(line, None)
    for event in events:
        if not counted(event, booking, triggers):
            continue
        booking.cut("jet veto map", event.weight)  # no map is given
        reference = event.gen_jets if reference_is_gen else event.offline_jets
        assert reference is not None
        assert event.hlt_jets is not None
        hlt_of_reference = partners(reference, event.hlt_jets)
        _direct(event, reference, hlt_of_reference, booking)
        _tag_and_probe(event, reference, hlt_of_reference, booking, alpha_max, tag_threshold)


def _direct(event: Event, reference: list[Jet], hlt_of_reference: list[Jet | None], booking: Booking) -> None:
    assert event.hlt_jets is not None
    for jet, hlt in zip(reference, hlt_of_reference, strict=True):
        if not identified(jet):
            continue
        booking.fill("response.matching_reference", (jet.eta, jet.pt, hlt is not None), event.weight)
        if hlt is not None:
            booking.fill("response.direct", (jet.eta, jet.pt, hlt.pt / jet.pt), event.weight)
            booking.fill("response.pt_correlation", (jet.eta, jet.pt, hlt.pt), event.weight)
            booking.fill("response.delta_r", (jet.pt, delta_r(jet, hlt)), event.weight)
    for hlt, jet_of_hlt in zip(event.hlt_jets, partners(event.hlt_jets, reference), strict=True):
        booking.fill("response.matching_hlt", (hlt.eta, hlt.pt, jet_of_hlt is not None), event.weight)
    if event.gen_jets is not None:
        for gen, hlt in zip(event.gen_jets, partners(event.gen_jets, event.hlt_jets), strict=True):
            if hlt is not None:
                booking.fill("response.hlt_gen", (gen.eta, gen.pt, hlt.pt / gen.pt), event.weight)
        if event.offline_jets is not None:
            for gen, offline in zip(
                event.gen_jets, partners(event.gen_jets, event.offline_jets), strict=True
            ):
                if offline is not None:
                    ratio = offline.pt / gen.pt
                    booking.fill("response.offline_gen", (gen.eta, gen.pt, ratio), event.weight)


def _tag_and_probe(
    event: Event,
    reference: list[Jet],
    hlt_of_reference: list[Jet | None],
    booking: Booking,
    alpha_max: float | None,
    tag_threshold: float | None,
) -> None:
    if len(reference) < 2:
        return
    booking.cut("two reference jets", event.weight)
    order = sorted(range(len(reference)), key=lambda position: -reference[position].pt)
    first, second = reference[order[0]], reference[order[1]]
    if not (identified(first) and identified(second)):
        return
    booking.cut("jet identification", event.weight)
    if delta_phi(first.phi, second.phi) < 2.7:
        return
    booking.cut("back to back", event.weight)
    alpha = reference[order[2]].pt / (0.5 * (first.pt + second.pt)) if len(reference) > 2 else 0.0
    if alpha_max is not None and not alpha < alpha_max:
        return
    booking.cut("third jet", event.weight)
    gen_of_reference = partners(reference, event.gen_jets or [])
    has_tag = has_pair = False
    for tag_position, probe_position in ((order[0], order[1]), (order[1], order[0])):
        tag, probe, hlt = reference[tag_position], reference[probe_position], hlt_of_reference[probe_position]
        tag_hlt = hlt_of_reference[tag_position]
        if not abs(tag.eta) < 1.3:
            continue
        if tag_threshold is not None and (tag_hlt is None or not tag_hlt.pt > tag_threshold):
            continue
        has_tag = True
        if hlt is None:
            continue
        has_pair = True
        ratio = hlt.pt / probe.pt
        booking.fill("response.tag_probe", (probe.eta, tag.pt, ratio), event.weight)
        booking.fill("response.tag_probe_reference", (probe.eta, probe.pt, ratio), event.weight)
        booking.fill("response.tag_probe_hlt", (probe.eta, hlt.pt, ratio), event.weight)
        average = 0.5 * (tag.pt + probe.pt)
        booking.fill("response.tag_probe_average", (probe.eta, average, ratio), event.weight)
        for quantity, value in (("pt_tag", tag.pt), ("pt_reference", probe.pt), ("pt_hlt", hlt.pt)):
            booking.fill("response.tag_probe_sums", (probe.eta, tag.pt, quantity), event.weight * value)
        row = {
            **event.identity,
            "weight": event.weight,
            "pt_hlt": hlt.pt,
            "pt_hlt_raw": hlt.pt,  # none of the files has a stored correction of the trigger-level jets
            "pt_tag": tag.pt,
            "pt_hlt_tag": tag_hlt.pt if tag_hlt is not None else 0.0,
            "eta": probe.eta,
            "phi": probe.phi,
            "eta_tag": tag.eta,
            "eta_hlt": hlt.eta,
            "alpha": alpha,
        }
        if event.rho is not None:
            row["rho"] = event.rho
        if event.mu is not None:
            row["mu"] = event.mu
        if hlt.area is not None:
            row["area"] = hlt.area
        if event.offline_jets is not None and reference is event.offline_jets:
            row["pt_offline"] = probe.pt
            if probe.raw_factor is not None:
                row["pt_offline_raw"] = probe.pt * (1 - probe.raw_factor)
        if event.gen_jets is not None:
            gen = probe if reference is event.gen_jets else gen_of_reference[probe_position]
            row["pt_gen"] = gen.pt if gen is not None else 0.0
        booking.pairs.append(row)
    if has_tag:
        booking.cut("tag", event.weight)
    if has_pair:
        booking.cut("matched probe", event.weight)


def dijet(
    events: Iterator[Event],
    booking: Booking,
    *,
    atlas: bool = False,
    pt_first: float | None = None,
    pt_second: float | None = None,
    triggers: Sequence[str] = (),
) -> None:
    """The spectrum of CMS's wide jets, or of ATLAS's jets as they are."""
    for line in (*COMMON, "two jets", "jet identification", "central"):
        booking.cut(line, None)
    pt_min, eta_max = (20.0, 2.8) if atlas else (30.0, 2.5)
    first_min = pt_first if pt_first is not None else (85.0 if atlas else 60.0)
    second_min = pt_second if pt_second is not None else (85.0 if atlas else 30.0)
    for event in events:
        if not counted(event, booking, triggers):
            continue
        assert event.hlt_jets is not None
        selected = leading_first(
            [jet for jet in event.hlt_jets if jet.pt > pt_min and abs(jet.eta) < eta_max]
        )
        if len(selected) < 2 or selected[0].pt < first_min or selected[1].pt < second_min:
            continue
        booking.cut("two jets", event.weight)
        if not (identified(selected[0]) and identified(selected[1])):
            continue
        booking.cut("jet identification", event.weight)
        seeds = selected[:2]
        wide = [vector(*seed[:4]) for seed in seeds]
        # pT, eta, phi: as stored where nothing is added, as rounding would move entries to other bins
        stated = [(seed.pt, seed.eta, math.remainder(seed.phi, 2 * math.pi)) for seed in seeds]
        if not atlas:
            for jet in selected[2:]:
                if not identified(jet):
                    continue
                to_first, to_second = delta_r(jet, seeds[0]), delta_r(jet, seeds[1])
                if min(to_first, to_second) < 1.1:
                    nearer = 0 if to_first < to_second else 1  # the second at a tie
                    wide[nearer] = add(wide[nearer], vector(*jet[:4]))
                    stated[nearer] = (wide[nearer].pt, wide[nearer].eta, wide[nearer].phi)
        if stated[0][0] < stated[1][0]:  # the leading one has the larger pT, once they are complete
            wide.reverse()
            stated.reverse()
        y_star = 0.5 * (wide[0].rapidity - wide[1].rapidity)
        difference = abs(stated[0][1] - stated[1][1])
        booking.fill("dijet.delta_eta", (difference,), event.weight)
        booking.fill("dijet.y_star", (y_star,), event.weight)
        if not (abs(y_star) < 0.6 if atlas else difference < 1.3):
            continue
        booking.cut("central", event.weight)
        mass = add(wide[0], wide[1]).mass
        booking.fill("dijet.mass", ("nominal", mass), event.weight)
        booking.fill("dijet.mass_standard", ("nominal", mass), event.weight)
        booking.fill("dijet.delta_phi", (delta_phi(stated[0][2], stated[1][2]),), event.weight)
        booking.fill("dijet.chi", (math.exp(2 * abs(y_star)),), event.weight)
        booking.fill("dijet.n_jets", (len(selected),), event.weight)
        for name, (pt, eta, phi) in zip(("leading", "subleading"), stated, strict=True):
            booking.fill("dijet.pt", (name, pt), event.weight)
            booking.fill("dijet.eta", (name, eta), event.weight)
            booking.fill("dijet.phi", (name, phi), event.weight)


def dimuon(events: Iterator[Event], booking: Booking, *, triggers: Sequence[str] = ()) -> None:
    """All pairs of muons. None of the files has vertices of pairs, so that none is displaced."""
    for line in (*COMMON, "two muons", "a pair"):
        booking.cut(line, None)
    for event in events:
        if not counted(event, booking, triggers):
            continue
        muons = event.muons
        assert muons is not None
        if len(muons) < 2:
            continue
        booking.cut("two muons", event.weight)
        booking.cut("a pair", event.weight)
        for i in range(len(muons)):
            for j in range(i + 1, len(muons)):
                one, two = muons[i], muons[j]
                pair = add(
                    vector(one.pt, one.eta, one.phi, MUON_MASS), vector(two.pt, two.eta, two.phi, MUON_MASS)
                )
                sign = "os" if one.charge * two.charge < 0 else "ss"
                barrel = abs(one.eta) < 0.9 and abs(two.eta) < 0.9
                category = "barrel" if barrel else "forward"
                booking.fill("dimuon.mass", (sign, category, pair.mass), event.weight)
                booking.fill("dimuon.pt", (sign, pair.pt), event.weight)
                booking.fill("dimuon.rapidity", (sign, pair.rapidity), event.weight)
                for muon in (one, two):
                    booking.fill("dimuon.muon_pt", (sign, muon.pt), event.weight)
                    booking.fill("dimuon.muon_eta", (sign, muon.eta), event.weight)


def efficiency(
    events: Iterator[Event],
    booking: Booking,
    *,
    measured: Sequence[str],
    orthogonal: Sequence[str],
) -> None:
    """How often a trigger fires; measured against offline jets."""
    for line in (*COMMON, "a reference jet", "two reference jets"):
        booking.cut(line, None)
    for event in events:
        # The line of the trigger is that of the orthogonal ones; tag and probe does not ask for them.
        taken = counted(event, booking, orthogonal)
        if not event.has_products or not event.pileup_below:
            continue
        reference = event.offline_jets
        assert reference is not None
        if taken:
            _orthogonal(event, reference, booking, measured)
        for trigger in measured:
            if f"efficiency.{trigger}.tag_probe" in booking.axes and event.fired[trigger]:
                _single_jet(event, reference, booking, trigger)


def _orthogonal(event: Event, reference: list[Jet], booking: Booking, measured: Sequence[str]) -> None:
    central = leading_first([jet for jet in reference if abs(jet.eta) < 2.5])
    good = [jet for jet in central if identified(jet)]
    if good:
        booking.cut("a reference jet", event.weight)
        for trigger in measured:
            booking.fill(f"efficiency.{trigger}", (good[0].pt, event.fired[trigger]), event.weight)
    if len(central) >= 2 and identified(central[0]) and identified(central[1]):
        booking.cut("two reference jets", event.weight)
        mass = add(vector(*central[0][:4]), vector(*central[1][:4])).mass
        average = 0.5 * (central[0].pt + central[1].pt)
        for trigger in measured:
            passed = event.fired[trigger]
            booking.fill(f"efficiency.{trigger}.average", (average, passed), event.weight)
            booking.fill(f"efficiency.{trigger}.mass", (mass, passed), event.weight)


def _single_jet(event: Event, reference: list[Jet], booking: Booking, trigger: str) -> None:
    threshold = float("".join(letter for letter in trigger if letter.isdigit()))
    if len(reference) < 2:
        return
    assert event.hlt_jets is not None
    hlt_of_reference = partners(reference, event.hlt_jets)
    order = sorted(range(len(reference)), key=lambda position: -reference[position].pt)
    first, second = order[:2]
    if not (identified(reference[first]) and identified(reference[second])):
        return
    if delta_phi(reference[first].phi, reference[second].phi) < 2.7:
        return
    for tag, probe in ((first, second), (second, first)):
        tag_hlt, probe_hlt = hlt_of_reference[tag], hlt_of_reference[probe]
        if not abs(reference[tag].eta) < 1.3 or tag_hlt is None or not tag_hlt.pt > threshold:
            continue
        if not abs(reference[probe].eta) < 2.5:
            continue
        passed = probe_hlt is not None and probe_hlt.pt > threshold
        booking.fill(f"efficiency.{trigger}.tag_probe", (reference[probe].pt, passed), event.weight)
