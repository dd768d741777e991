"""Trigger efficiency: how many of the events, or jets, that a trigger should take it does take.

Two methods. *Orthogonal*: in events taken by a trigger that has nothing to do with jets, the fraction in which the
trigger under study fired as well, against the leading jet's pT, the average pT and the mass of the two leading jets.
*Tag and probe*, for single-jet triggers: in events taken by the trigger itself, with the tag's own HLT jet above the
threshold, the fraction of probes whose HLT jet is above it too.
"""

from typing import Any, Literal

import hist
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trila.processors import triggers
from trila.processors.base import Columns, Output, Processor
from trila.processors.columns import TRIGGERS, Jagged, has, jagged
from trila.processors.cutflow import Cutflow
from trila.processors.errors import InputError
from trila.processors.filling import fill, indices
from trila.processors.histograms import new
from trila.processors.identification import ID_FIELDS, tight_jet_id
from trila.processors.matching import mutual_nearest
from trila.processors.selection import (
    EVENT_COLUMNS,
    EVENT_CUTS,
    Config,
    EventConfig,
    EventSelection,
    is_data,
    select_events,
)
from trila.processors.topology import dijets, wide_jets

__all__ = ["EfficiencyConfig", "EfficiencyProcessor"]

_P4 = ("pt", "eta", "phi", "mass")
_CUTS = ("a reference jet", "two reference jets")
#: Muon triggers that CMS uses as reference for jets, tried in this order.
_MUON_REFERENCES = ("HLT_IsoMu27", "HLT_IsoMu24", "HLT_Mu50", "HLT_IsoMu20")


class EfficiencyConfig(Config):
    """Configuration of the efficiency measurement.

    Attributes:
        triggers: to measure; if none are given, all single-jet (`HLT_PFJet<n>`) and jet scouting triggers.
        orthogonal_triggers: the events of any of these are the reference; if none are given, the first single-muon
            trigger that the input has. Simulation without any is taken as it is; data are refused.
        reference: jets whose pT is on the axis.
        eta_max: reference jets have |eta| below this.
        identification: "tight" where its inputs are present, or "none".
        match_radius, delta_phi_min, tag_eta_max: of the tag-and-probe method.
        pt_max, pt_bins, mass_max, mass_bins: of the histograms, GeV.
    """

    triggers: tuple[str, ...] = ()
    orthogonal_triggers: tuple[str, ...] = ()
    reference: Literal["auto", "offline", "hlt"] = "auto"
    eta_max: float = 2.5
    identification: Literal["tight", "none"] = "tight"
    match_radius: float = 0.2
    delta_phi_min: float = 2.7
    tag_eta_max: float = 1.3
    pt_max: float = Field(default=1000.0, gt=0, allow_inf_nan=False)
    pt_bins: int = Field(default=500, gt=0, le=100_000)
    mass_max: float = Field(default=2500.0, gt=0, allow_inf_nan=False)
    mass_bins: int = Field(default=500, gt=0, le=100_000)


class EfficiencyProcessor(Processor):
    """Fills the `efficiency.*` histograms.

    Args:
        config: of the measurement.
        events: of the event selection.
    """

    name = "efficiency"

    def __init__(self, config: EfficiencyConfig | None = None, events: EventConfig | None = None) -> None:
        self.config = config or EfficiencyConfig()
        self.events = events or EventConfig()

    def _names(self, available: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Triggers to measure and orthogonal ones, without versions.

        Raises:
            InputError: the input has no trigger decisions, or none that are measured by default.
        """
        fields = sorted(c.removeprefix(f"{TRIGGERS}.") for c in available if c.startswith(f"{TRIGGERS}."))
        names = dict.fromkeys(triggers.base_name(field) for field in fields)
        measured = self.config.triggers or tuple(
            name for name in names
            if name.removeprefix("HLT_PFJet").isdigit() or (name.startswith("DST_") and name.endswith("JetHT"))
        )  # fmt: skip
        if not measured:
            raise InputError(
                f"no trigger to measure: the input has {len(names)} trigger decisions"
                f"{' (' + ', '.join(list(names)[:5]) + ', ...)' if names else ''}; name some under efficiency: triggers "
                "in the configuration, or use a sample that has them"
            )
        orthogonal = self.config.orthogonal_triggers or tuple([n for n in _MUON_REFERENCES if n in names][:1])
        return measured, orthogonal

    def columns(self, available: frozenset[str]) -> Columns:
        """Reference jets and trigger decisions are required; HLT jets and identification are used where present."""
        collection = self._collection(available)
        measured, orthogonal = self._names(available)
        optional = [*EVENT_COLUMNS, *(f"hlt_jets.{f}" for f in _P4)]
        if self.config.identification != "none":
            optional += [f"{collection}.{f}" for f in ID_FIELDS]
        for trigger in (*measured, *orthogonal, *self.events.triggers):
            optional += triggers.columns_of(trigger, available)
        return Columns(tuple((f"{collection}.{f}",) for f in _P4), tuple(optional))

    def _collection(self, available: frozenset[str]) -> str:
        if self.config.reference == "auto":
            return "offline_jets" if "offline_jets.pt" in available else "hlt_jets"
        return f"{self.config.reference}_jets"

    def process(self, events: Any) -> Output:
        """Histograms and cutflow of one chunk."""
        config = self.config
        fields = events[TRIGGERS].fields if TRIGGERS in events.fields else []
        measured, orthogonal = self._names(frozenset(f"{TRIGGERS}.{field}" for field in fields))
        if is_data(events) and not orthogonal:
            raise InputError(
                "data need an orthogonal trigger as reference: name one under efficiency: orthogonal_triggers in the "
                "configuration, such as [HLT_IsoMu27]"
            )
        common = select_events(events, self.events)
        selected = select_events(events, self.events, orthogonal)
        collection = self._collection(
            frozenset({"offline_jets.pt"} if has(events, "offline_jets.pt") else ())
        )
        jets = jagged(events, collection, *_P4, *ID_FIELDS)
        good = tight_jet_id(jets) if config.identification == "tight" else np.ones(len(jets.pt), np.bool_)
        hlt = jagged(events, "hlt_jets", *_P4) if has(events, *(f"hlt_jets.{f}" for f in _P4)) else None

        everywhere = np.ones(len(selected.passed), np.bool_)
        system = wide_jets(
            jets, jets.pt, jets.mass, good, everywhere,
            pt_min=0.0, eta_max=config.eta_max, pt_first=0.0, pt_second=0.0, radius=0.0,
        )  # fmt: skip
        leading = _leading(jets, good & (np.abs(jets.eta) < config.eta_max))
        histograms: dict[str, hist.Hist[Any]] = {}
        pair = system.stage == 2
        variables = {
            "": (leading > 0, leading, "pt", "leading jet $p_T$ [GeV]"),
            ".average": (pair, 0.5 * (system.pt[0] + system.pt[1]), "pt", "average dijet $p_T$ [GeV]"),
            ".mass": (pair, system.mass, "mass", "dijet mass [GeV]"),
        }
        for trigger in measured:
            fired = triggers.decision(events, [trigger]).astype(np.int64)
            for suffix, (defined, values, axis, label) in variables.items():
                name = triggers.base_name(trigger) + suffix
                histograms[name] = self._book(axis, label)
                chosen = np.flatnonzero(selected.passed & defined)
                fill(
                    histograms[name], selected.weight[chosen], indices(histograms[name].axes[0], values[chosen]),
                    fired[chosen],
                )  # fmt: skip
            threshold = triggers.threshold(trigger)
            if threshold is not None and hlt is not None and collection != "hlt_jets":
                name = f"{triggers.base_name(trigger)}.tag_probe"
                histograms[name] = self._book("pt", "probe jet $p_T$ [GeV]")
                taken = common.passed & (fired > 0)
                self._fill_tag_probe(histograms[name], jets, good, hlt, taken, common, threshold)

        stage = np.where(
            selected.passed,
            selected.stage + (leading > 0) + pair,
            selected.stage,
        )
        return {
            "histograms": histograms,
            "cutflow": Cutflow.from_stages(
                EVENT_CUTS + _CUTS, stage, selected.weight, selected.generator_weight
            ),
        }

    def _fill_tag_probe(
        self, histogram: hist.Hist[Any], jets: Jagged, good: NDArray[np.bool_], hlt: Jagged, taken: NDArray[np.bool_],
        selected: EventSelection, threshold: float,
    ) -> None:  # fmt: skip
        """Probes of events that the trigger took, tag above the threshold; a probe without HLT jet did not pass."""
        partner = mutual_nearest(jets, hlt, self.config.match_radius).of_a
        lost = len(hlt.pt)
        hlt_pt = np.append(hlt.pt, 0.0)  # unmatched probes point to a jet of no pT, so that none is left out
        found = dijets(
            jets, good, np.where(partner < 0, lost, partner), hlt_pt, taken, self.config.delta_phi_min, np.inf,
            self.config.tag_eta_max, threshold,
        )  # fmt: skip
        central = np.abs(jets.eta[found.probe]) < self.config.eta_max
        probe, event = found.probe[central], found.event[central]
        passed = (hlt_pt[found.hlt_probe[central]] >= threshold).astype(np.int64)
        fill(histogram, selected.weight[event], indices(histogram.axes[0], jets.pt[probe]), passed)

    def _book(self, axis: str, label: str) -> hist.Hist[Any]:
        config = self.config
        bins, high = (
            (config.mass_bins, config.mass_max) if axis == "mass" else (config.pt_bins, config.pt_max)
        )
        passed = hist.axis.Integer(0, 2, name="passed", label="passed", underflow=False, overflow=False)
        return new(hist.axis.Regular(bins, 0, high, name=axis, label=label), passed)


def _leading(jets: Jagged, good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The largest pT of each event's good jets; 0 where there is none."""
    largest = np.zeros(len(jets.offsets) - 1)
    owner = np.repeat(np.arange(len(largest)), np.diff(jets.offsets))
    np.maximum.at(largest, owner[good], jets.pt[good].astype(np.float64))
    return largest
