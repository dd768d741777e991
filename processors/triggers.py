"""Trigger decisions by name, with or without the version that experiments append (`_v12`)."""

import re
from collections.abc import Iterable
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from trila.processors.columns import TRIGGERS
from trila.processors.errors import unknown_name

__all__ = ["base_name", "columns_of", "decision", "threshold"]


def base_name(trigger: str) -> str:
    """The name without its version.

    >>> base_name("HLT_IsoMu27_v16"), base_name("HLT_PFJet40")
    ('HLT_IsoMu27', 'HLT_PFJet40')
    """
    return re.sub(r"_v\d+$", "", trigger)


def columns_of(trigger: str, available: Iterable[str]) -> list[str]:
    """Columns `triggers.<name>` that stand for a trigger: that very name, else all its versions.

    Raises:
        UnknownName: there is none; offers the nearest.
    """
    names = [column.removeprefix(f"{TRIGGERS}.") for column in available if column.startswith(f"{TRIGGERS}.")]
    found = [name for name in names if name == trigger]
    found = found or sorted(name for name in names if base_name(name) == base_name(trigger))
    if not found:
        raise unknown_name("trigger", trigger, names, "`trila inspect` lists those of a file.")
    return [f"{TRIGGERS}.{name}" for name in found]


def decision(events: Any, triggers: Iterable[str]) -> NDArray[np.bool_]:
    """Whether any of the triggers (any version of each) fired, shape (n_events,)."""
    fields = events[TRIGGERS].fields if TRIGGERS in events.fields else []
    available = [f"{TRIGGERS}.{field}" for field in fields]
    fired = np.zeros(len(events), dtype=np.bool_)
    for trigger in triggers:
        for column in columns_of(trigger, available):
            fired |= ak.to_numpy(events[TRIGGERS][column.removeprefix(f"{TRIGGERS}.")]).astype(np.bool_)
    return fired


def threshold(trigger: str) -> float | None:
    """The pT threshold in GeV of a single-jet trigger, read off its name; None for any other.

    >>> threshold("HLT_PFJet140_v3"), threshold("HLT_j20_PhysicsTLA_L1J100"), threshold("HLT_PFHT250")
    (140.0, 20.0, None)
    """
    match = re.match(r"^(?:HLT|DST)_(?:AK4)?(?:(?:PF|Calo)Jet(?:Fwd)?|j)(\d+)(?=_|$)", trigger)
    return float(match.group(1)) if match else None
