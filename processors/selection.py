"""What every processor does first: which events count, and with what weight.

Certified luminosity blocks, events without trigger-level products, unphysical pile-up in simulation, required
triggers; generator and pile-up weights.
"""

import math
from itertools import pairwise
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

from trila.corrections import jets as jet_corrections
from trila.corrections.lumi import LumiMask, certified, check_mask
from trila.processors import triggers
from trila.processors.columns import EVENT, has, jagged, scalar
from trila.processors.errors import InputError

__all__ = [
    "EVENT_COLUMNS",
    "EVENT_CUTS",
    "Config",
    "Edges",
    "EventConfig",
    "EventSelection",
    "JetVeto",
    "is_data",
    "select_events",
]

#: Event columns that the selection uses where present.
EVENT_COLUMNS = ("run", "luminosity_block", "event", "weight", "rho", "mu", "n_pv", "pt_hat", "pt_hat_pileup")

#: Names of the common cuts, as in the cutflows.
EVENT_CUTS = (
    "all events",
    "certified luminosity",
    "trigger-level products",
    "pile-up below hard process",
    "trigger",
)


class Config(BaseModel):
    """Configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    @model_validator(mode="after")
    def _numbers(self) -> Self:
        """NaN compares with nothing: a cut on it would take or leave all, without a word."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and math.isnan(number) for number in numbers):
                raise ValueError(f"{name} is no number; give one, or leave it out")
        return self


#: Of one axis; histograms have an entry for every bin of all their axes.
_MOST_EDGES = 10_001


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) < 2 or not all(low < high for low, high in pairwise(values)):
        raise ValueError("expected at least two numbers in ascending order")
    if not all(map(math.isfinite, values)) or len(values) > _MOST_EDGES:
        raise ValueError(f"expected at most {_MOST_EDGES} edges, all of them finite")
    return values


#: Edges of a histogram's axis.
Edges = Annotated[tuple[float, ...], AfterValidator(_ascending)]


class WeightFile(Config):
    """Pile-up weights from a correctionlib file in CMS's form (inputs `NumTrueInteractions` and `weights`).

    Attributes:
        file: path.
        correction: name in the file; not needed if there is only one.
    """

    file: str
    correction: str | None = None


class JetVeto(Config):
    """Regions of the detector to avoid, from a correctionlib file (inputs `type`, `eta`, `phi`; non-zero is vetoed).

    Attributes:
        file: path.
        correction: name in the file; not needed if there is only one.
        type: which map.
        pt_min: jets above this pT in GeV count.
    """

    file: str
    correction: str | None = None
    type: str = "jetvetomap"
    pt_min: float = 15.0


class EventConfig(Config):
    """Which events count.

    Attributes:
        triggers: any of these must have fired; all events count, if empty.
        lumi_mask: certified luminosity blocks, for data.
        pileup_weights: for simulation.
    """

    triggers: tuple[str, ...] = ()
    lumi_mask: Annotated[
        LumiMask | None, BeforeValidator(lambda m: m if m is None else check_mask(dict(m)))
    ] = None
    pileup_weights: WeightFile | None = None


class EventSelection(NamedTuple):
    """The result of the common selection.

    Attributes:
        stage: per event, the number of `EVENT_CUTS` passed after the first; `len(EVENT_CUTS) - 1` if all.
        passed: per event, whether all were.
        weight: per event, generator weight times pile-up weight; 1 in data.
        generator_weight: per event; its sum, of all events, is what a cross section is divided by.
    """

    stage: NDArray[np.int64]
    passed: NDArray[np.bool_]
    weight: NDArray[np.float64]
    generator_weight: NDArray[np.float64]


def is_data(events: Any) -> bool:
    """Whether events are data: as the fileset says, else what has no generator weight and no particle jets."""
    stated = (events.metadata or {}).get("is_data")
    return bool(stated) if stated is not None else not (has(events, "weight") or has(events, "gen_jets"))


def _with_products(events: Any) -> NDArray[np.bool_]:
    """Events in which the trigger wrote at least one product; all, where the input cannot tell."""
    products = (events.metadata or {}).get("products", ())
    # an empty jet list alone says nothing: it takes a quantity that every written event has
    if not any(name in EVENT and has(events, name) for name in products):
        return np.ones(len(events), dtype=np.bool_)
    found = np.zeros(len(events), dtype=np.bool_)
    for name in products:
        if name in EVENT and has(events, name):
            found |= scalar(events, name) > 0
        elif has(events, name):
            found |= np.diff(jagged(events, name).offsets) > 0
    return found


def select_events(events: Any, config: EventConfig, method: tuple[str, ...] = ()) -> EventSelection:
    """Apply the common selection to a chunk.

    Args:
        events: canonical events.
        config: of the selection.
        method: triggers of a measurement's method, any of which must have fired besides one of the configuration's.

    Raises:
        InputError: a luminosity mask is given, but the input has no run and luminosity block.
        UnknownName: a trigger that the input does not have.
    """
    n = len(events)
    data = is_data(events)
    everything = np.ones(n, dtype=np.bool_)
    weight = np.ones(n) if data or not has(events, "weight") else scalar(events, "weight").astype(np.float64)
    generator_weight = weight

    good_lumi = everything
    if data and config.lumi_mask is not None:
        if not has(events, "run", "luminosity_block"):
            raise InputError(
                "a luminosity mask needs run and luminosity block, which the input does not have; run without"
            )
        good_lumi = certified(config.lumi_mask, scalar(events, "run"), scalar(events, "luminosity_block"))

    physical = everything
    if not data and has(events, "pt_hat", "pt_hat_pileup"):
        pt_hat = scalar(events, "pt_hat")  # -1 where the generator has no such scale
        physical = (pt_hat <= 0) | (scalar(events, "pt_hat_pileup") < pt_hat)

    if not data and config.pileup_weights is not None:
        if not has(events, "mu"):
            raise InputError(
                "pile-up weights need the mean number of interactions, which the input does not have"
            )
        weight = weight * jet_corrections.evaluate(
            config.pileup_weights.file,
            config.pileup_weights.correction,
            {"NumTrueInteractions": scalar(events, "mu")},
            {"weights": "nominal"},
        )
    fired = everything
    for group in (config.triggers, method):
        fired = fired & triggers.decision(events, group) if group else fired

    stage = np.zeros(n, dtype=np.int64)
    passed = everything
    for cut in (good_lumi, _with_products(events), physical, fired):
        passed = passed & cut
        stage += passed
    return EventSelection(stage, passed, weight, generator_weight)
