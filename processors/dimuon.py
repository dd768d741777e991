"""The dimuon mass spectrum: all opposite- and same-sign pairs, in categories of resolution and displacement.

Masses are computed in float64 from pT, eta, phi and the muon's known mass: a float32 sum smears a mass of 0.5 GeV at a
pT of 100 GeV by 1%, and the mass that trigger-level muons store is rounded, or plain noise.
"""

from typing import Annotated, Any, Literal, NamedTuple

import hist
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trila.processors import triggers
from trila.processors.base import Columns, Output, Processor
from trila.processors.columns import Jagged, has, jagged, scalar
from trila.processors.compiled import kernel
from trila.processors.cutflow import Cutflow
from trila.processors.filling import fill, indices
from trila.processors.histograms import new, variable
from trila.processors.matching import delta_phi
from trila.processors.selection import EVENT_COLUMNS, EVENT_CUTS, Config, EventConfig, select_events

__all__ = ["MUON_MASS", "DimuonConfig", "DimuonProcessor", "Pairs", "muon_pairs"]

#: GeV (PDG 2024).
MUON_MASS = 0.1056583755

_FIELDS = ("pt", "eta", "phi", "charge", "vertex_bits")
_CUTS = ("two muons", "a pair")
_CATEGORIES = ("barrel", "forward", "barrel_displaced", "forward_displaced")


#: Of the mass axis.
_MOST_BINS = 1_000_000


class DimuonConfig(Config):
    """Configuration of the dimuon spectrum. Nothing is cut unless asked for.

    Attributes:
        collection: which muons; "auto" takes HLT muons where the input gives their charge, else offline ones.
        pt_min: GeV, of each muon.
        eta_max: of each muon.
        barrel_eta: a pair is "barrel" if both muons have |eta| below this, else "forward".
        displaced_significance: a pair with a common vertex is "displaced" if the vertex is further from the primary
            vertex in the transverse plane than this many standard deviations.
        mass_range: GeV.
        mass_step: relative width of the mass bins; at most a third of the relative mass resolution.
    """

    collection: Literal["auto", "hlt_muons", "offline_muons"] = "auto"
    pt_min: float = 0.0
    eta_max: float = float("inf")
    barrel_eta: float = 0.9
    displaced_significance: float = 5.0
    mass_range: tuple[Annotated[float, Field(gt=0)], float] = (0.2, 400.0)
    mass_step: float = Field(default=0.0025, gt=0, lt=0.1)

    def model_post_init(self, _context: Any) -> None:
        if not self.mass_range[0] < self.mass_range[1] < np.inf:
            raise ValueError(f"mass_range is {self.mass_range}; expected two masses, its lower end first")
        bins = np.log(self.mass_range[1] / self.mass_range[0]) / self.mass_step
        if not bins < _MOST_BINS:
            raise ValueError(
                f"mass_step {self.mass_step:g} gives {bins:.3g} bins, expected at most {_MOST_BINS}; widen it"
            )


class Pairs(NamedTuple):
    """All pairs of muons of a chunk, each array of shape (n_pairs,).

    Attributes:
        event: position of the event.
        first, second: positions among all muons.
        mass, pt, rapidity: of the pair (GeV).
        same_sign: whether the charges are equal.
    """

    event: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    mass: NDArray[np.float64]
    pt: NDArray[np.float64]
    rapidity: NDArray[np.float64]
    same_sign: NDArray[np.bool_]


@kernel
def _muon_pairs(
    offsets: NDArray[np.int64], pt: NDArray[Any], eta: NDArray[Any], phi: NDArray[Any], charge: NDArray[Any],
    good: NDArray[np.bool_], mass2: float, event_of: NDArray[np.int64], first: NDArray[np.int64],
    second: NDArray[np.int64], mass: NDArray[np.float64], pair_pt: NDArray[np.float64],
    rapidity: NDArray[np.float64], same_sign: NDArray[np.bool_],
) -> int:  # fmt: skip
    n = 0
    for event in range(len(offsets) - 1):
        for i in range(offsets[event], offsets[event + 1]):
            if not good[i]:
                continue
            for j in range(i + 1, offsets[event + 1]):
                if not good[j]:
                    continue
                pt_i, pt_j = np.float64(pt[i]), np.float64(pt[j])
                pz_i, pz_j = pt_i * np.sinh(np.float64(eta[i])), pt_j * np.sinh(np.float64(eta[j]))
                e_i = np.sqrt(pt_i * pt_i + pz_i * pz_i + mass2)
                e_j = np.sqrt(pt_j * pt_j + pz_j * pz_j + mass2)
                cosine = np.cos(delta_phi(np.float64(phi[i]), np.float64(phi[j])))
                m2 = 2.0 * (mass2 + e_i * e_j - pz_i * pz_j - pt_i * pt_j * cosine)
                energy, pz = e_i + e_j, pz_i + pz_j
                event_of[n], first[n], second[n] = event, i, j
                mass[n] = np.sqrt(max(m2, 0.0))
                pair_pt[n] = np.sqrt(max(pt_i * pt_i + pt_j * pt_j + 2.0 * pt_i * pt_j * cosine, 0.0))
                rapidity[n] = (
                    0.5 * np.log((energy + pz) / (energy - pz)) if energy > abs(pz) else np.copysign(99.0, pz)
                )
                same_sign[n] = charge[i] == charge[j]
                n += 1
    return n


def muon_pairs(muons: Jagged, good: NDArray[np.bool_]) -> Pairs:
    """All pairs of good muons, event by event.

    Args:
        muons: with `pt`, `eta`, `phi`, `charge`.
        good: per muon.
    """
    per_event = np.diff(np.concatenate([[0], np.cumsum(good)])[muons.offsets])
    n = int(np.sum(per_event * (per_event - 1) // 2))
    out = Pairs(
        np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n), np.empty(n), np.empty(n),
        np.empty(n, np.bool_),
    )  # fmt: skip
    _muon_pairs(muons.offsets, muons.pt, muons.eta, muons.phi, muons.charge, good, MUON_MASS**2, *out)
    return out


class DimuonProcessor(Processor):
    """Fills the `dimuon.*` histograms.

    Args:
        config: of the spectrum.
        events: of the event selection.
    """

    name = "dimuon"

    def __init__(self, config: DimuonConfig | None = None, events: EventConfig | None = None) -> None:
        self.config = config or DimuonConfig()
        self.events = events or EventConfig()

    def _collection(self, available: Any) -> str:
        if self.config.collection != "auto":
            return self.config.collection
        return "hlt_muons" if "hlt_muons.charge" in available else "offline_muons"

    def columns(self, available: frozenset[str]) -> Columns:
        """Four-vectors and charge are required; vertices are used where present."""
        collection = self._collection(available)
        optional = [*EVENT_COLUMNS]
        if collection == "hlt_muons":
            optional += ["hlt_muons.vertex_bits", "pv_x", "pv_y"]
            optional += [f"dimuon_vertices.{f}" for f in ("x", "y", "x_error", "y_error")]
        for trigger in self.events.triggers:
            optional += triggers.columns_of(trigger, available)
        required: list[tuple[str, ...]] = [(f"{collection}.{f}",) for f in ("pt", "eta", "phi", "charge")]
        if self.config.collection == "auto" and not available & {"hlt_muons.charge", "offline_muons.charge"}:
            required = [("hlt_muons.charge", "offline_muons.charge")]
        return Columns(tuple(required), tuple(optional))

    def process(self, events: Any) -> Output:
        """Histograms and cutflow of one chunk."""
        config = self.config
        selected = select_events(events, self.events)
        collection = self._collection(["hlt_muons.charge"] if has(events, "hlt_muons.charge") else [])
        muons = jagged(events, collection, *_FIELDS)
        good = muons.spread(selected.passed)
        if config.pt_min > 0 or np.isfinite(config.eta_max):
            good = good & (muons.pt >= config.pt_min) & (np.abs(muons.eta) < config.eta_max)
        pairs = muon_pairs(muons, good)
        central = (np.abs(muons.eta[pairs.first]) < config.barrel_eta) & (
            np.abs(muons.eta[pairs.second]) < config.barrel_eta
        )
        category = np.where(central, 0, 1) + 2 * self._displaced(events, collection, muons, pairs)

        histograms = self._book()
        w = selected.weight[pairs.event]
        sign = pairs.same_sign.astype(np.int64)  # os is 0, ss is 1
        mass = indices(histograms["mass"].axes[2], pairs.mass)
        fill(histograms["mass"], w, sign, category, mass)
        fill(histograms["pt"], w, sign, indices(histograms["pt"].axes[1], pairs.pt))
        fill(histograms["rapidity"], w, sign, indices(histograms["rapidity"].axes[1], pairs.rapidity))
        for which in (pairs.first, pairs.second):
            fill(histograms["muon_pt"], w, sign, indices(histograms["muon_pt"].axes[1], muons.pt[which]))
            fill(histograms["muon_eta"], w, sign, indices(histograms["muon_eta"].axes[1], muons.eta[which]))

        stage = selected.stage.copy()
        two = selected.passed & (np.diff(muons.offsets) >= 2)
        stage += two
        stage += np.bincount(pairs.event, minlength=len(stage)) > 0
        return {
            "histograms": histograms,
            "cutflow": Cutflow.from_stages(
                EVENT_CUTS + _CUTS, stage, selected.weight, selected.generator_weight
            ),
        }

    def _displaced(self, events: Any, collection: str, muons: Jagged, pairs: Pairs) -> NDArray[np.int64]:
        """1 for pairs with a common vertex that is displaced, 0 for all others.

        Without the table that says which muons a vertex is made of, a vertex is taken as that of the pair only where
        an event has one vertex and two muons.
        """
        result = np.zeros(len(pairs.event), dtype=np.int64)
        if collection != "hlt_muons" or not has(events, "dimuon_vertices.x_error", "dimuon_vertices.y_error"):
            return result
        vertices = jagged(events, "dimuon_vertices", "x", "y", "x_error", "y_error")
        n_vertices = np.diff(vertices.offsets)[pairs.event]
        if "vertex_bits" in muons.fields:
            common = muons.vertex_bits[pairs.first] & muons.vertex_bits[pairs.second]
            lowest = common & (~common + np.uint64(1))
            index = np.where(common > 0, np.log2(np.maximum(lowest, 1).astype(np.float64)), -1).astype(
                np.int64
            )
            index[index >= n_vertices] = -1
        else:
            n_muons = np.diff(muons.offsets)[pairs.event]
            index = np.where((n_vertices == 1) & (n_muons == 2), 0, -1)
        linked = np.flatnonzero(index >= 0)
        vertex = vertices.offsets[pairs.event[linked]] + index[linked]
        x, y = vertices.x[vertex].astype(np.float64), vertices.y[vertex].astype(np.float64)
        if has(events, "pv_x", "pv_y"):
            x -= scalar(events, "pv_x")[pairs.event[linked]]
            y -= scalar(events, "pv_y")[pairs.event[linked]]
        distance = np.hypot(x, y)
        # uncertainty along the flight direction, without the (unstored) correlation of x and y
        error = np.hypot(x * vertices.x_error[vertex], y * vertices.y_error[vertex]) / np.maximum(
            distance, 1e-12
        )
        result[linked] = distance > self.config.displaced_significance * error
        return result

    def _book(self) -> dict[str, hist.Hist[Any]]:
        low, high = self.config.mass_range
        bins = int(np.ceil(np.log(high / low) / np.log1p(self.config.mass_step)))
        sign = hist.axis.StrCategory(["os", "ss"], name="sign", label="sign of the pair")
        category = hist.axis.StrCategory(list(_CATEGORIES), name="category", label="category")
        pt = np.geomspace(0.5, 1000, 133).tolist()

        def regular(bins: int, low: float, high: float, name: str, label: str) -> Any:
            return hist.axis.Regular(bins, low, high, name=name, label=label)

        return {
            "mass": new(sign, category, variable(np.geomspace(low, high, bins + 1).tolist(), "mass", "dimuon mass [GeV]")),
            "pt": new(sign, variable(pt, "pt", r"dimuon $p_T$ [GeV]")),
            "rapidity": new(sign, regular(120, -3, 3, "rapidity", "dimuon rapidity")),
            "muon_pt": new(sign, variable(pt, "pt", r"muon $p_T$ [GeV]")),
            "muon_eta": new(sign, regular(120, -3, 3, "eta", r"muon $\eta$")),
        }  # fmt: skip
