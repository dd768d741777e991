"""HLT jets against offline jets: response by tag and probe and by direct matching, and the pairs to calibrate from.

The response of a probe is the ratio of its HLT to its reference (offline) pT. It is measured in bins of the pT of the
*tag*, the other jet of a dijet event: in bins of the probe's own pT, HLT or offline, the resolution moves jets between
bins and the steep spectrum turns that into a bias of up to several percent. Imbalance of the two jets cancels, as the
same probe is compared in two reconstructions, and so does not call for a cut on further jets.
"""

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

import hist
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from trila.corrections import jets as jet_corrections
from trila.corrections.event_hash import event_uniform
from trila.processors import triggers
from trila.processors.base import Columns, Output, Processor
from trila.processors.columns import Jagged, has, jagged, scalar
from trila.processors.cutflow import Cutflow
from trila.processors.errors import InputError
from trila.processors.filling import fill, indices
from trila.processors.histograms import JET_PT_EDGES, new, variable
from trila.processors.identification import ID_FIELDS, tight_jet_id
from trila.processors.matching import mutual_nearest
from trila.processors.response_filling import (
    Located,
    fill_direct,
    fill_matched,
    fill_pairs,
    fill_ratio,
    located,
)
from trila.processors.selection import (
    EVENT_COLUMNS,
    EVENT_CUTS,
    Config,
    Edges,
    EventConfig,
    EventSelection,
    JetVeto,
    is_data,
    select_events,
)
from trila.processors.topology import Dijets, dijets

__all__ = ["ResponseConfig", "ResponseProcessor", "Thinning"]

_P4 = ("pt", "eta", "phi")
_CUTS = (
    "jet veto map",
    "two reference jets",
    "jet identification",
    "back to back",
    "third jet",
    "tag",
    "matched probe",
)


#: Of one histogram.
_MOST_BINS = 100_000_000


class Thinning(Config):
    """Keep only a part of the pairs, decided by the event's hash; their weight makes up for it.

    Attributes:
        pt: edges in the tag's pT in GeV, ascending; the last bin is open.
        keep: fraction kept from each edge on; below the first edge everything is kept.
    """

    pt: tuple[float, ...]
    keep: tuple[float, ...]

    def model_post_init(self, _context: Any) -> None:
        if len(self.pt) != len(self.keep) or list(self.pt) != sorted(self.pt):
            raise ValueError("pt must ascend and have as many numbers as keep")
        if not all(0 < k <= 1 for k in self.keep):
            raise ValueError("every kept fraction must be above 0 and at most 1")


class ResponseConfig(Config):
    """Configuration of the response measurement.

    Attributes:
        reference: compare with offline or with particle-level (gen) jets; "auto" takes offline where there are any.
        hlt_level, offline_level: what the stored pT are, for the record; menus and productions differ.
        tag_trigger: single-jet trigger that the tag itself must have fired (its HLT jet is above the threshold in
            the trigger's name); "none" asks for no trigger. Data need one or the other, or `orthogonal_triggers`.
        orthogonal_triggers: the event was taken by any of these, which have nothing to do with jets.
        tag_eta_max: tags are more central than this.
        match_radius: HLT and reference jets match within this.
        delta_phi_min: the two leading jets are at least this far apart in azimuth.
        alpha_max: largest pT of the third jet over the mean of the two leading; no cut, if not given.
        identification: "tight" where its inputs are present, or "none".
        jet_veto: skip events with a jet in these regions.
        eta_edges, pt_edges: of the histograms.
        response_bins: in 0 to 3.
        thinning: of the pairs.
    """

    reference: Literal["auto", "offline", "gen"] = "auto"
    hlt_level: str = "as stored"
    offline_level: str = "as stored"
    tag_trigger: str | None = None
    orthogonal_triggers: tuple[str, ...] = ()
    tag_eta_max: float = 1.3
    match_radius: float = 0.2
    delta_phi_min: float = 2.7
    alpha_max: float | None = None
    identification: Literal["tight", "none"] = "tight"
    jet_veto: JetVeto | None = None
    eta_edges: Edges = (-5.2, -3.0, -2.5, -1.9, -1.3, -0.65, 0.0, 0.65, 1.3, 1.9, 2.5, 3.0, 5.2)
    pt_edges: Edges = tuple(float(x) for x in JET_PT_EDGES)
    response_bins: int = Field(default=600, ge=600, le=100_000)
    thinning: Thinning | None = None

    def model_post_init(self, _context: Any) -> None:
        bins = (len(self.eta_edges) + 1) * (len(self.pt_edges) + 1) * (self.response_bins + 2)
        if bins > _MOST_BINS:
            raise ValueError(
                f"a histogram would have {bins} bins, expected at most {_MOST_BINS}; give fewer edges"
            )


class _Jets(NamedTuple):
    """The two collections of a chunk, placed on the axes of the histograms, and each reference jet's HLT partner."""

    hlt: Located
    reference: Located
    to_hlt: NDArray[np.int64]


class ResponseProcessor(Processor):
    """Fills the `response.*` histograms and makes the table of tag-and-probe pairs.

    Args:
        config: of the measurement.
        events: of the event selection.
        pairs: whether to make the table.
    """

    name = "response"

    def __init__(
        self, config: ResponseConfig | None = None, events: EventConfig | None = None, pairs: bool = True
    ) -> None:
        self.config = config or ResponseConfig()
        self.events = events or EventConfig()
        self.pairs = pairs

    def columns(self, available: frozenset[str]) -> Columns:
        """HLT jets and one reference are required; identification, pile-up, area and event identity are optional."""
        required: list[tuple[str, ...]] = [(f"hlt_jets.{f}",) for f in _P4]
        if self.config.reference == "auto" and not available & {"offline_jets.pt", "gen_jets.pt"}:
            required += [("offline_jets.pt", "gen_jets.pt")]
        else:
            required += [(f"{self._reference(available)}.{f}",) for f in _P4]
        optional = [*EVENT_COLUMNS, "hlt_jets.area", "hlt_jets.raw_factor", "offline_jets.raw_factor"]
        optional += [f"{c}.{f}" for c in ("offline_jets", "gen_jets") for f in _P4]
        if self.config.identification != "none":
            optional += [f"offline_jets.{f}" for f in ID_FIELDS]
        asked = (*self.events.triggers, *self.config.orthogonal_triggers, *self._tag_trigger())
        for trigger in asked:
            optional += triggers.columns_of(trigger, available)
        return Columns(tuple(required), tuple(optional))

    def _tag_trigger(self) -> tuple[str, ...]:
        return (self.config.tag_trigger,) if self.config.tag_trigger not in (None, "none") else ()

    def _tag_threshold(self, events: Any) -> float:
        """The HLT pT that a tag must have: that of the tag trigger, or 0 if none is asked for."""
        if self._tag_trigger():
            value = triggers.threshold(self._tag_trigger()[0])
            if value is None:
                raise InputError(
                    f"tag_trigger {self.config.tag_trigger}: its name gives no single-jet threshold; name one such as "
                    "HLT_PFJet140, or put the trigger under orthogonal_triggers"
                )
            return value
        if is_data(events) and self.config.tag_trigger is None and not self.config.orthogonal_triggers:
            raise InputError(
                "data need the trigger that took them, or the response is biased by up to 19%: set response: "
                "tag_trigger (such as HLT_PFJet140) or orthogonal_triggers (such as [HLT_IsoMu27]) in the "
                "configuration, or tag_trigger: none to go without"
            )
        return 0.0

    def _reference(self, available: Collection[str]) -> str:
        if self.config.reference == "auto":
            return "offline_jets" if "offline_jets.pt" in available else "gen_jets"
        return f"{self.config.reference}_jets"

    def process(self, events: Any) -> Output:
        """Histograms, cutflow and pairs of one chunk."""
        config = self.config
        threshold = self._tag_threshold(events)
        asked = (*config.orthogonal_triggers, *self._tag_trigger())
        selected = select_events(events, self.events, asked)
        extra = ("area", "raw_factor") if self.pairs else ()
        hlt = jagged(events, "hlt_jets", *_P4, *extra)
        collection = self._reference(["offline_jets.pt"] if has(events, "offline_jets.pt") else [])
        reference = jagged(events, collection, *_P4, *extra, *ID_FIELDS)
        identified = (
            tight_jet_id(reference)
            if config.identification == "tight"
            else np.ones(len(reference.pt), np.bool_)
        )
        vetoed = self._vetoed(reference, identified)
        passed = selected.passed & ~vetoed

        histograms = self._book(collection)
        weight = selected.weight
        jets = self._fill_matched(histograms, hlt, reference, identified, passed, weight)
        pt_gen = self._fill_gen(histograms, events, jets, collection, passed, weight)
        found = dijets(
            reference, identified, jets.to_hlt, hlt.pt, passed, config.delta_phi_min,
            np.inf if config.alpha_max is None else config.alpha_max, config.tag_eta_max, threshold,
        )  # fmt: skip
        self._fill_pairs(histograms, jets, found, selected.weight)
        stage = np.where(selected.passed, selected.stage + ~vetoed + found.stage, selected.stage)
        output: Output = {
            "histograms": histograms,
            "cutflow": Cutflow.from_stages(
                EVENT_CUTS + _CUTS, stage, selected.weight, selected.generator_weight
            ),
        }
        if self.pairs:
            output["pairs"] = self._table(events, jets, found, selected, collection, pt_gen)
        return output

    def _vetoed(self, jets: Jagged, identified: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Events with a good jet in a veto region: the whole event goes, which leaves the balance of the rest."""
        vetoed = np.zeros(len(jets.offsets) - 1, dtype=np.bool_)
        veto = self.config.jet_veto
        if veto is not None:
            counted = identified & (jets.pt > veto.pt_min)
            inside = np.abs(jets.eta) < 5.19  # the maps end there
            values = jet_corrections.evaluate(
                veto.file, veto.correction,
                {"eta": jets.eta[inside], "phi": np.clip(jets.phi[inside], -3.14159, 3.14159)}, {"type": veto.type},
            )  # fmt: skip
            hit = np.zeros(len(jets.pt), dtype=np.bool_)
            hit[inside] = values != 0
            owner = np.repeat(np.arange(len(vetoed)), np.diff(jets.offsets))
            vetoed[owner[hit & counted]] = True
        return vetoed

    def _book(self, collection: str) -> dict[str, hist.Hist[Any]]:
        level = "offline" if collection == "offline_jets" else "particle-level"
        config = self.config

        def eta(who: str = f"{level} jet") -> Any:
            return variable(config.eta_edges, "eta", rf"{who} $\eta$")

        def pt(name: str, who: str) -> Any:
            return variable(config.pt_edges, name, rf"{who} $p_T$ [GeV]")

        def response(over: str = level, of: str = "HLT") -> Any:
            return hist.axis.Regular(
                config.response_bins, 0, 3, name="response", label=rf"{of} $p_T$ / {over} $p_T$"
            )

        matched = hist.axis.Integer(0, 2, name="matched", label="matched", underflow=False, overflow=False)
        quantities = hist.axis.StrCategory(
            ["pt_tag", "pt_reference", "pt_hlt"], name="quantity", label="quantity"
        )
        reference = pt("pt_reference", level)
        return {
            "tag_probe": new(eta(f"probe {level} jet"), pt("pt_tag", f"tag {level}"), response()),
            "tag_probe_reference": new(eta(f"probe {level} jet"), pt("pt_reference", f"probe {level}"), response()),
            "tag_probe_hlt": new(eta(f"probe {level} jet"), pt("pt_hlt", "probe HLT"), response()),
            "tag_probe_average": new(eta(f"probe {level} jet"), pt("pt_average", f"average {level}"), response()),
            "tag_probe_sums": new(eta(f"probe {level} jet"), pt("pt_tag", f"tag {level}"), quantities),
            "direct": new(eta(), reference, response()),
            "pt_correlation": new(eta(), reference, pt("pt_hlt", "HLT")),
            "matching_reference": new(eta(), reference, matched),
            "matching_hlt": new(eta("HLT jet"), pt("pt_hlt", "HLT"), matched),
            "delta_r": new(
                reference, hist.axis.Regular(80, 0, config.match_radius, name="delta_r", label=r"$\Delta R$(HLT, reference)")
            ),
            "hlt_gen": new(eta("particle-level jet"), pt("pt_gen", "particle-level"), response("particle-level")),
            "offline_gen": new(
                eta("particle-level jet"), pt("pt_gen", "particle-level"), response("particle-level", "offline")
            ),
        }  # fmt: skip

    def _fill_matched(
        self, histograms: dict[str, hist.Hist[Any]], hlt: Jagged, reference: Jagged, identified: NDArray[np.bool_],
        passed: NDArray[np.bool_], weight: NDArray[np.float64],
    ) -> _Jets:  # fmt: skip
        """Matching and direct response; distances and the HLT jets' partners are not kept, as they take much memory."""
        partners = mutual_nearest(reference, hlt, self.config.match_radius)
        axes = histograms["direct"].axes
        jets = _Jets(
            located(hlt, axes, passed, weight),
            located(reference, axes, passed, weight, identified),
            partners.of_a,
        )
        fill_matched(histograms["matching_reference"], jets.reference, partners.of_a)
        fill_matched(histograms["matching_hlt"], jets.hlt, partners.of_b)
        fill_direct(
            histograms["direct"], histograms["pt_correlation"], histograms["delta_r"], jets.reference, partners,
            jets.hlt,
        )  # fmt: skip
        return jets

    def _fill_gen(
        self, histograms: dict[str, hist.Hist[Any]], events: Any, jets: _Jets, collection: str,
        passed: NDArray[np.bool_], weight: NDArray[np.float64],
    ) -> NDArray[Any] | None:  # fmt: skip
        """HLT and offline against particle level, where there is one; the histograms go where there is not.

        Returns:
            Particle-level pT of each reference jet, 0 where it has no partner; None without particle-level jets.
        """
        if not has(events, *(f"gen_jets.{f}" for f in _P4)):
            del histograms["hlt_gen"], histograms["offline_gen"]
            return None
        gen = jagged(events, "gen_jets", *_P4)
        at_gen = located(gen, histograms["hlt_gen"].axes, passed, weight)
        self._fill_ratio(histograms["hlt_gen"], at_gen, jets.hlt.jets)
        if not has(events, *(f"offline_jets.{f}" for f in _P4)):
            del histograms["offline_gen"]
            return gen.pt  # particle level is the reference itself
        if collection != "offline_jets":
            self._fill_ratio(histograms["offline_gen"], at_gen, jagged(events, "offline_jets", *_P4))
            return gen.pt
        to_gen = self._fill_ratio(histograms["offline_gen"], at_gen, jets.reference.jets)
        return np.append(gen.pt, np.zeros(1, gen.pt.dtype))[to_gen]  # the last one stands for no partner, -1

    def _fill_ratio(self, histogram: hist.Hist[Any], at_gen: Located, others: Jagged) -> NDArray[np.int64]:
        """Other jets against their particle-level partners, whose positions are given back, -1 where there is none."""
        partners = mutual_nearest(at_gen.jets, others, self.config.match_radius)
        fill_ratio(histogram, at_gen, partners.of_a, others.pt)
        return partners.of_b

    @staticmethod
    def _fill_pairs(
        histograms: dict[str, hist.Hist[Any]], jets: _Jets, found: Dijets, weight: NDArray[np.float64]
    ) -> None:
        w = weight[found.event]
        hlt, reference = jets.hlt, jets.reference
        fill_pairs(histograms, reference, hlt, found, w)
        sums = histograms["tag_probe_sums"]
        eta, tag = reference.eta[found.probe], reference.pt[found.tag]
        for quantity, pt in {
            "pt_tag": reference.jets.pt[found.tag],
            "pt_reference": reference.jets.pt[found.probe],
            "pt_hlt": hlt.jets.pt[found.hlt_probe],
        }.items():
            fill(sums, w * pt, eta, tag, indices(sums.axes[2], quantity))

    def _table(
        self, events: Any, jets: _Jets, found: Dijets, selected: EventSelection, collection: str,
        pt_gen: NDArray[Any] | None,
    ) -> pa.Table:  # fmt: skip
        """One row a pair; columns as documented in docs/results.md."""
        event, tag, probe, hlt_probe = found.event, found.tag, found.probe, found.hlt_probe
        weight = selected.weight
        identity = ("run", "luminosity_block", "event")
        if self.config.thinning is not None:
            if not has(events, *identity):
                raise InputError(
                    "thinning of pairs needs run, luminosity block and event; the input has not all of them"
                )
            thinning = self.config.thinning
            fraction = np.array([1.0, *thinning.keep])[
                np.searchsorted(thinning.pt, jets.reference.jets.pt[tag], side="right")
            ]
            run, block, number = (scalar(events, name) for name in identity)
            kept = event_uniform(run, block, number)[event] < fraction
            event, tag, probe, hlt_probe, fraction = (
                a[kept] for a in (event, tag, probe, hlt_probe, fraction)
            )
            alpha = found.alpha[kept]
            pair_weight = weight[event] / fraction
        else:
            alpha, pair_weight = found.alpha, weight[event]
        hlt, reference = jets.hlt.jets, jets.reference.jets
        columns: dict[str, NDArray[Any]] = {
            name: scalar(events, name)[event] for name in identity if has(events, name)
        }
        columns["weight"] = pair_weight
        columns["pt_hlt"] = hlt.pt[hlt_probe]
        columns["pt_hlt_raw"] = _raw(hlt, hlt_probe)
        if collection == "offline_jets":
            columns["pt_offline"] = reference.pt[probe]
            if "raw_factor" in reference.fields:
                columns["pt_offline_raw"] = _raw(reference, probe)
        if pt_gen is not None:
            columns["pt_gen"] = pt_gen[probe]
        columns["pt_tag"] = reference.pt[tag]
        partner = jets.to_hlt[tag]
        columns["pt_hlt_tag"] = np.where(partner >= 0, _raw(hlt, partner), 0.0)
        columns["eta"] = reference.eta[probe]
        columns["phi"] = reference.phi[probe]
        columns["eta_tag"] = reference.eta[tag]
        columns["eta_hlt"] = hlt.eta[hlt_probe]
        for name in ("rho", "mu"):
            if has(events, name):
                columns[name] = scalar(events, name)[event]
        if "area" in hlt.fields:
            columns["area"] = hlt.area[hlt_probe]
        columns["alpha"] = alpha
        exact = {*identity, "weight"}  # the rest is measured to three digits, whatever the input's type
        columns = {k: v if k in exact else v.astype(np.float32, copy=False) for k, v in columns.items()}
        # that nothing is missing saves half the time of writing
        fields = [pa.field(k, pa.from_numpy_dtype(v.dtype), nullable=False) for k, v in columns.items()]
        return pa.table(columns, pa.schema(fields))


def _raw(jets: Jagged, which: NDArray[np.int64]) -> NDArray[Any]:
    """pT with the stored correction undone; as stored where the input does not say."""
    pt = jets.pt[which]
    return pt * (1 - jets.raw_factor[which]) if "raw_factor" in jets.fields else pt
