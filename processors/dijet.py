"""The dijet mass spectrum, with every variation of the jet calibration, and its control distributions."""

from typing import Any, Literal, NamedTuple

import hist
import numpy as np
from numpy.typing import NDArray

from trila.corrections import jets as jet_corrections
from trila.processors import triggers
from trila.processors.base import Columns, Output, Processor
from trila.processors.columns import Jagged, has, jagged, scalar
from trila.processors.cutflow import Cutflow
from trila.processors.filling import fill, indices
from trila.processors.histograms import CMS_DIJET_EDGES, new, variable
from trila.processors.identification import ID_FIELDS, tight_jet_id
from trila.processors.selection import EVENT_COLUMNS, EVENT_CUTS, Config, EventConfig, select_events
from trila.processors.topology import WideJets, wide_jets

__all__ = ["DijetConfig", "DijetProcessor"]

_P4 = ("pt", "eta", "phi", "mass")
_CUTS = ("two jets", "jet identification", "central")
_INPUTS = {"JetPt": "pt", "JetEta": "eta", "JetPhi": "phi", "JetA": "area"}


class _Preset(NamedTuple):
    """Selection of an experiment's published search."""

    pt_min: float
    eta_max: float
    pt_first: float
    pt_second: float
    radius: float
    delta_eta_max: float
    y_star_max: float


#: CMS: wide jets of radius 1.1, |delta eta| < 1.3 (arXiv:1806.00843). ATLAS: the two leading jets of at least 85 GeV,
#: |y*| < 0.6 (arXiv:1804.03496).
_PRESETS = {
    "cms": _Preset(30.0, 2.5, 60.0, 30.0, 1.1, 1.3, np.inf),
    "atlas": _Preset(20.0, 2.8, 85.0, 85.0, 0.0, np.inf, 0.6),
}


class _Candidates(NamedTuple):
    """Jets to correct: their positions, events, inputs of the correction, and raw over stored pT."""

    which: NDArray[np.int64]
    event: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]
    stored: NDArray[Any]


class DijetConfig(Config):
    """Configuration of the dijet spectrum. What is not given follows the preset.

    Attributes:
        selection: "cms", "atlas", or "auto": by the input's format.
        collection: which jets.
        pt_min: GeV, and `eta_max`: jets that take part.
        pt_first, pt_second: GeV, least pT of the two leading jets.
        radius: wide-jet radius; 0 for none.
        delta_eta_max, y_star_max: the cut on the two (wide) jets.
        identification: "tight" where its inputs are present, or "none".
        corrections: correctionlib file; jets are taken as stored, if not given.
        correction: its name in the file; `hlt_jec`, or the only one, if not given.
    """

    selection: Literal["auto", "cms", "atlas"] = "auto"
    collection: Literal["hlt_jets", "hlt_fatjets", "offline_jets"] = "hlt_jets"
    pt_min: float | None = None
    eta_max: float | None = None
    pt_first: float | None = None
    pt_second: float | None = None
    radius: float | None = None
    delta_eta_max: float | None = None
    y_star_max: float | None = None
    identification: Literal["tight", "none"] = "tight"
    corrections: str | None = None
    correction: str | None = None

    def resolved(self, format_name: str) -> _Preset:
        """The preset with what the configuration changes."""
        which = (
            ("atlas" if format_name.startswith("atlas") else "cms")
            if self.selection == "auto"
            else self.selection
        )
        given = {field: getattr(self, field) for field in _Preset._fields if getattr(self, field) is not None}
        return _PRESETS[which]._replace(**given)


class DijetProcessor(Processor):
    """Fills the `dijet.*` histograms.

    Args:
        config: of the spectrum.
        events: of the event selection.
    """

    name = "dijet"

    def __init__(self, config: DijetConfig | None = None, events: EventConfig | None = None) -> None:
        self.config = config or DijetConfig()
        self.events = events or EventConfig()

    def columns(self, available: frozenset[str]) -> Columns:
        """Four-vectors are required; identification and inputs of the correction are used where present."""
        collection = self.config.collection
        optional = [*EVENT_COLUMNS]
        if self.config.identification != "none":
            optional += [f"{collection}.{f}" for f in ID_FIELDS]
        if self.config.corrections is not None:
            needed = jet_corrections.required_inputs(self.config.corrections, self.config.correction)
            optional += [f"{collection}.{_INPUTS[name]}" for name in needed if name in _INPUTS]
            optional += [f"{collection}.raw_factor"]
        for trigger in self.events.triggers:
            optional += triggers.columns_of(trigger, available)
        return Columns(tuple((f"{collection}.{f}",) for f in _P4), tuple(optional))

    def process(self, events: Any) -> Output:
        """Histograms and cutflow of one chunk."""
        config = self.config
        preset = config.resolved((events.metadata or {}).get("format", ""))
        selected = select_events(events, self.events)
        more = ("area", "raw_factor") if config.corrections is not None else ()
        jets = jagged(events, config.collection, *_P4, *more, *ID_FIELDS)
        good = tight_jet_id(jets) if config.identification == "tight" else np.ones(len(jets.pt), np.bool_)
        systematics: tuple[str, ...] = ("nominal",)
        candidates = None
        if config.corrections is not None:
            systematics = jet_corrections.systematics(config.corrections, config.correction)
            candidates = self._candidates(events, jets, preset, selected.passed)
        histograms = self._book(systematics)
        if candidates is not None:
            self._fill_range(histograms, candidates, selected.weight)
        stage = selected.stage
        for systematic in systematics:
            pt, mass = self._corrected(jets, candidates, systematic)
            system = wide_jets(
                jets, pt, mass, good, selected.passed,
                pt_min=preset.pt_min, eta_max=preset.eta_max, pt_first=preset.pt_first, pt_second=preset.pt_second,
                radius=preset.radius,
            )  # fmt: skip
            found = system.stage == 2
            delta_eta = np.abs(system.eta[0] - system.eta[1])
            central = found & (delta_eta < preset.delta_eta_max) & (np.abs(system.y_star) < preset.y_star_max)
            chosen = np.flatnonzero(central)
            for name in ("mass", "mass_standard"):
                fill(
                    histograms[name], selected.weight[chosen], indices(histograms[name].axes[0], systematic),
                    indices(histograms[name].axes[1], system.mass[chosen]),
                )  # fmt: skip
            if systematic == "nominal":
                stage = np.where(selected.passed, selected.stage + system.stage + central, selected.stage)
                self._fill_control(histograms, system, np.flatnonzero(found), chosen, selected.weight)
        return {
            "histograms": histograms,
            "cutflow": Cutflow.from_stages(
                EVENT_CUTS + _CUTS, stage, selected.weight, selected.generator_weight
            ),
        }

    def _candidates(
        self, events: Any, jets: Jagged, preset: _Preset, passed: NDArray[np.bool_]
    ) -> _Candidates:
        """The jets that may be selected once they are corrected, with the inputs of the correction.

        The others are spared, as a calibration does not hold for all that is stored: too far forward, or with less than half
        of the pT that is asked for.
        """
        assert self.config.corrections is not None
        event = np.repeat(np.arange(len(jets.offsets) - 1), np.diff(jets.offsets))
        which = np.flatnonzero(
            passed[event] & (np.abs(jets.eta) < preset.eta_max) & (jets.pt > 0.5 * preset.pt_min)
        )
        columns: dict[str, NDArray[Any]] = {
            name: jets.fields[field][which] for name, field in _INPUTS.items() if field in jets.fields
        }
        stored = np.ones(len(which))
        if jet_corrections.starts_from_raw(self.config.corrections) and "raw_factor" in jets.fields:
            stored = 1.0 - jets.fields["raw_factor"][which]
            columns["JetPt"] = columns["JetPt"] * stored
        pileup = jet_corrections.pileup_variable(self.config.corrections)
        for name, column in {"Rho": pileup, "run": "run", "luminosity_block": "luminosity_block"}.items():
            if has(events, column):
                columns[name] = scalar(events, column)[event[which]]
        return _Candidates(which, event[which], columns, stored)

    def _corrected(
        self, jets: Jagged, candidates: _Candidates | None, systematic: str
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """pT and mass of each jet with the correction; as stored without a correction file."""
        if self.config.corrections is None or candidates is None:
            return jets.pt, jets.mass
        factor = np.ones(len(jets.pt))
        factor[candidates.which] = candidates.stored * jet_corrections.evaluate(
            self.config.corrections,
            self.config.correction,
            candidates.columns,
            {"systematic": systematic},
            hold=True,
        )
        return jets.pt * factor, jets.mass * factor

    def _fill_range(
        self, histograms: dict[str, hist.Hist[Any]], candidates: _Candidates, weight: NDArray[np.float64]
    ) -> None:
        """How many jets are beyond the range of the calibration, where the factor is that at its end."""
        assert self.config.corrections is not None
        inside = jet_corrections.inside_range(
            self.config.corrections, candidates.columns["JetPt"], candidates.columns["JetEta"]
        )
        axis = hist.axis.StrCategory(["inside", "beyond"], name="range", label="range of the calibration")
        histograms["calibration_range"] = new(axis)
        for name, chosen in (("inside", inside), ("beyond", ~inside)):
            fill(histograms["calibration_range"], weight[candidates.event[chosen]], indices(axis, name))

    @staticmethod
    def _book(systematics: tuple[str, ...]) -> dict[str, hist.Hist[Any]]:
        variations = hist.axis.StrCategory(list(systematics), name="systematic", label="systematic variation")
        jet = hist.axis.StrCategory(["leading", "subleading"], name="jet", label="jet")
        mass = "dijet mass [GeV]"

        def regular(bins: int, low: float, high: float, name: str, label: str) -> Any:
            return hist.axis.Regular(bins, low, high, name=name, label=label)

        return {
            "mass": new(variations, regular(14000, 0, 14000, "mass", mass)),
            "mass_standard": new(variations, variable(CMS_DIJET_EDGES, "mass", mass)),
            "pt": new(jet, regular(400, 0, 4000, "pt", r"jet $p_T$ [GeV]")),
            "eta": new(jet, regular(100, -5, 5, "eta", r"jet $\eta$")),
            "phi": new(jet, regular(64, -np.pi, np.pi, "phi", r"jet $\phi$ [rad]")),
            "delta_eta": new(regular(100, 0, 5, "delta_eta", r"$|\Delta\eta|$")),
            "delta_phi": new(regular(64, 0, np.pi, "delta_phi", r"$|\Delta\phi|$ [rad]")),
            "y_star": new(regular(100, -2.5, 2.5, "y_star", "$y^*$")),
            "chi": new(regular(80, 1, 21, "chi", r"$\chi = e^{2|y^*|}$")),
            "n_jets": new(hist.axis.Integer(0, 20, name="n_jets", label="selected jets")),
        }

    @staticmethod
    def _fill_control(
        histograms: dict[str, hist.Hist[Any]], system: WideJets, found: NDArray[np.int64], chosen: NDArray[np.int64],
        weight: NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Nominal distributions: those of the cut variables before the cut, the others after it."""
        after = system.of(chosen)
        eta_before = system.eta[:, found]
        w = weight[chosen]
        for position, jet in enumerate(("leading", "subleading")):
            for name, values in {"pt": after.pt, "eta": after.eta, "phi": after.phi}.items():
                axes = histograms[name].axes
                fill(histograms[name], w, indices(axes[0], jet), indices(axes[1], values[position]))
        d_phi = np.abs(after.phi[0] - after.phi[1])
        quantities: tuple[tuple[str, NDArray[Any], NDArray[np.float64]], ...] = (
            ("delta_phi", np.minimum(d_phi, 2 * np.pi - d_phi), w),
            ("chi", np.exp(2 * np.abs(after.y_star)), w),
            ("n_jets", after.n_jets, w),
            ("delta_eta", np.abs(eta_before[0] - eta_before[1]), weight[found]),
            ("y_star", system.y_star[found], weight[found]),
        )
        for name, values, weights in quantities:
            fill(histograms[name], weights, indices(histograms[name].axes[0], values))
