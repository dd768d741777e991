"""Run by run: what the detector and the triggers did, as histograms with the run as an axis.

The response of barrel probes, dimuon masses around known resonances, and how often triggers fired. Only runs that were
seen take memory (`hist.chunked.ChunkedHist`): a chunk of events fills those few that it holds, and chunks of other runs
add theirs. `trila.analysis.stability` makes time series of them.
"""

from typing import Annotated, Any, Literal

import hist
import numpy as np
from hist.chunked import ChunkedHist
from numpy.typing import NDArray
from pydantic import Field

from trila.processors import triggers
from trila.processors.base import Columns, Output, Processor
from trila.processors.columns import TRIGGERS, has, jagged, scalar
from trila.processors.cutflow import Cutflow
from trila.processors.dimuon import muon_pairs
from trila.processors.filling import Indices, indices
from trila.processors.identification import ID_FIELDS, tight_jet_id
from trila.processors.matching import mutual_nearest
from trila.processors.selection import (
    EVENT_COLUMNS,
    EVENT_CUTS,
    Config,
    EventConfig,
    EventSelection,
    select_events,
)
from trila.processors.topology import dijets

__all__ = ["StabilityConfig", "StabilityProcessor", "fill_runs"]

_P4 = ("pt", "eta", "phi")
_MUON = (*_P4, "charge")
_CERTIFIED = EVENT_CUTS.index("certified luminosity")

#: A name that may be part of a histogram's, and of a file's.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
_Window = tuple[Annotated[float, Field(gt=0)], float]


class StabilityConfig(Config):
    """Configuration of the monitoring by run.

    Attributes:
        tag_pt_min: of the tag (reference jet), GeV; well above where the triggers become efficient, or a change of
            prescales moves the spectrum, and with it the mean response.
        tag_trigger: single-jet trigger that the event and the tag's HLT jet must have fired; none is asked for, if not
            given.
        tag_eta_max, probe_eta_max: tags and probes are more central than this.
        match_radius: HLT and reference jets match within this.
        delta_phi_min: the two leading jets are at least this far apart in azimuth.
        identification: "tight" where its inputs are present, or "none".
        response_bins: in 0 to 3; fine against the resolution.
        triggers: to count; if none are given, those that the selection and the tag ask for, or else all single-jet and
            all scouting (`DST_`) triggers of the input.
        masses: window in GeV for each resonance, with enough on both sides of it to see the background.
        mass_bins: of each window; fine against the resolution.
        muon_pt_min: GeV, of each muon.
    """

    tag_pt_min: float = Field(default=100.0, ge=0)
    tag_trigger: str | None = None
    tag_eta_max: float = 1.3
    probe_eta_max: float = 1.3
    match_radius: float = 0.2
    delta_phi_min: float = 2.7
    identification: Literal["tight", "none"] = "tight"
    response_bins: int = Field(default=600, ge=300)
    triggers: tuple[str, ...] = ()
    masses: dict[_Name, _Window] = Field(
        default_factory=lambda: {
            "phi": (0.94, 1.10),
            "jpsi": (2.85, 3.35),
            "upsilon": (8.9, 9.85),
            "z": (70.0, 112.0),
        }
    )
    mass_bins: int = Field(default=100, ge=50)
    muon_pt_min: float = 0.0

    def model_post_init(self, _context: Any) -> None:
        for name, (low, high) in self.masses.items():
            if not low < high:
                raise ValueError(f"masses: {name} is ({low}, {high}); expected its lower end first")
        if self.tag_trigger is not None and triggers.threshold(self.tag_trigger) is None:
            raise ValueError(
                f"tag_trigger {self.tag_trigger}: its name gives no single-jet threshold; name one such as "
                "HLT_PFJet140, or leave it out"
            )


class StabilityProcessor(Processor):
    """Fills the `stability.*` histograms, those that the input allows.

    Args:
        config: of the monitoring.
        events: of the event selection.
    """

    name = "stability"

    def __init__(self, config: StabilityConfig | None = None, events: EventConfig | None = None) -> None:
        self.config = config or StabilityConfig()
        self.events = events or EventConfig()

    def columns(self, available: frozenset[str]) -> Columns:
        """Run numbers are required; jets, muons and triggers are used where present."""
        reference, muons = _reference(available), _muons(available)
        optional = [*EVENT_COLUMNS]
        optional += [f"{jets}.{field}" for jets in ("hlt_jets", reference) for field in _P4]
        if self.config.identification == "tight" and reference == "offline_jets":
            optional += [f"offline_jets.{field}" for field in ID_FIELDS]
        optional += [f"{muons}.{field}" for field in _MUON]
        for trigger in (*self.events.triggers, *self._tag_trigger(), *self._counted(available)):
            optional += triggers.columns_of(trigger, available)
        return Columns((("run",),), tuple(dict.fromkeys(optional)))

    def _tag_trigger(self) -> tuple[str, ...]:
        return () if self.config.tag_trigger is None else (self.config.tag_trigger,)

    def _counted(self, available: frozenset[str]) -> tuple[str, ...]:
        """Names, without versions, of the triggers to count."""
        asked = self.config.triggers or (*self.events.triggers, *self._tag_trigger())
        if not asked:
            fields = sorted(
                column.removeprefix(f"{TRIGGERS}.")
                for column in available
                if column.startswith(f"{TRIGGERS}.")
            )
            asked = tuple(f for f in fields if f.startswith("DST_") or triggers.threshold(f) is not None)
        return tuple(dict.fromkeys(triggers.base_name(name) for name in asked))

    def process(self, events: Any) -> Output:
        """Histograms and cutflow of one chunk."""
        selected = select_events(events, self.events)
        run = scalar(events, "run")
        available = _available(events)
        histograms: dict[str, Any] = self._count(events, run, selected, available)
        jets = ("hlt_jets", _reference(available))
        if has(events, *(f"{collection}.{field}" for collection in jets for field in _P4)):
            histograms["response"] = self._respond(events, run, selected, jets[1])
        if has(events, *(f"{_muons(available)}.{field}" for field in _MUON)):
            histograms |= self._masses(events, run, selected, _muons(available))
        return {
            "histograms": histograms,
            "cutflow": Cutflow.from_stages(
                EVENT_CUTS, selected.stage, selected.weight, selected.generator_weight
            ),
        }

    def _count(
        self, events: Any, run: NDArray[Any], selected: EventSelection, available: frozenset[str]
    ) -> dict[str, ChunkedHist]:
        """Events that pass the selection, and decisions of triggers in all events of certified luminosity.

        A trigger that a run's menu lacks has no entries at all there, one that never fired has entries at 0.
        """
        certified = selected.stage >= _CERTIFIED
        run, weight = run[certified], selected.weight[certified]
        passed = ChunkedHist(_runs(), _flag("passed"), storage=hist.storage.Weight())
        fill_runs(passed, run, weight, selected.passed[certified].astype(np.int32))
        histograms = {"events": passed}
        counted = self._counted(available)
        if counted:
            axis = hist.axis.StrCategory([], growth=True, name="trigger", label="trigger")
            fired = ChunkedHist(_runs(), axis, _flag("fired"), storage=hist.storage.Weight())
            for trigger in counted:
                decision = triggers.decision(events, [trigger])[certified]
                fill_runs(fired, run, weight, decision.astype(np.int32), trigger)
            histograms["triggers"] = fired
        return histograms

    def _respond(
        self, events: Any, run: NDArray[Any], selected: EventSelection, collection: str
    ) -> ChunkedHist:
        """HLT over reference pT of the probes of dijet events."""
        config = self.config
        hlt = jagged(events, "hlt_jets", *_P4)
        reference = jagged(events, collection, *_P4, *ID_FIELDS)
        good = (
            tight_jet_id(reference)
            if config.identification == "tight"
            else np.ones(len(reference.pt), np.bool_)
        )
        passed, threshold = selected.passed, 0.0
        if config.tag_trigger is not None:
            passed = passed & triggers.decision(events, [config.tag_trigger])
            threshold = triggers.threshold(config.tag_trigger) or 0.0
        found = dijets(
            reference, good, mutual_nearest(reference, hlt, config.match_radius).of_a, hlt.pt, passed,
            config.delta_phi_min, np.inf, config.tag_eta_max, threshold,
        )  # fmt: skip
        chosen = (reference.pt[found.tag] >= config.tag_pt_min) & (
            np.abs(reference.eta[found.probe]) < config.probe_eta_max
        )
        event, probe, partner = found.event[chosen], found.probe[chosen], found.hlt_probe[chosen]
        ratio = hlt.pt[partner].astype(np.float64) / reference.pt[probe]
        level = "offline" if collection == "offline_jets" else "particle-level"
        axis = hist.axis.Regular(
            config.response_bins, 0, 3, name="response", label=rf"HLT $p_T$ / {level} $p_T$"
        )
        histogram = ChunkedHist(_runs(), axis, storage=hist.storage.Weight())
        fill_runs(histogram, run[event], selected.weight[event], indices(axis, ratio))
        return histogram

    def _masses(
        self, events: Any, run: NDArray[Any], selected: EventSelection, collection: str
    ) -> dict[str, ChunkedHist]:
        """Masses of opposite-sign pairs in each window."""
        muons = jagged(events, collection, *_MUON)
        good = np.repeat(selected.passed, np.diff(muons.offsets)) & (muons.pt >= self.config.muon_pt_min)
        pairs = muon_pairs(muons, good)
        histograms = {}
        for name, (low, high) in self.config.masses.items():
            inside = (pairs.mass >= low) & (pairs.mass < high) & ~pairs.same_sign
            event = pairs.event[inside]
            axis = hist.axis.Regular(self.config.mass_bins, low, high, name="mass", label="dimuon mass [GeV]")
            histogram = ChunkedHist(_runs(), axis, storage=hist.storage.Weight())
            fill_runs(histogram, run[event], selected.weight[event], indices(axis, pairs.mass[inside]))
            histograms[f"mass.{name}"] = histogram
        return histograms


def fill_runs(
    histogram: ChunkedHist, run: NDArray[Any], weight: NDArray[np.float64], position: Indices, *keys: str
) -> None:
    """Add weights to a histogram with one dense axis, in the part of each run.

    Args:
        histogram: its first axis is the run, its last one the dense one; `Weight` storage.
        run: of each entry, shape (n,).
        weight: shape (n,).
        position: on the dense axis, underflow first, shape (n,).
        keys: on the category axes in between, the same for all entries.
    """
    (cells,) = histogram.dense_view_shape
    runs, which = np.unique(run, return_inverse=True)
    flat = which * cells + position
    parts = np.zeros((runs.size, cells), dtype=histogram.dense_view_dtype)
    parts["value"] = np.bincount(flat, weight, runs.size * cells).reshape(runs.size, cells)
    parts["variance"] = np.bincount(flat, weight * weight, runs.size * cells).reshape(runs.size, cells)
    for number, part in zip(runs.tolist(), parts, strict=True):
        histogram.add_dense_view((number, *keys), part)


def _runs() -> Any:
    return hist.axis.IntCategory([], growth=True, name="run", label="run")


def _flag(name: str) -> Any:
    return hist.axis.Integer(0, 2, name=name, label=name, underflow=False, overflow=False)


def _available(events: Any) -> frozenset[str]:
    """Names of the columns that the choices below depend on."""
    names = ("offline_jets.pt", "gen_jets.pt", "hlt_muons.charge")
    fired = events[TRIGGERS].fields if TRIGGERS in events.fields else []
    return frozenset([name for name in names if has(events, name)] + [f"{TRIGGERS}.{name}" for name in fired])


def _reference(available: frozenset[str]) -> str:
    particles = "offline_jets.pt" not in available and "gen_jets.pt" in available
    return "gen_jets" if particles else "offline_jets"


def _muons(available: frozenset[str]) -> str:
    return "hlt_muons" if "hlt_muons.charge" in available else "offline_muons"
