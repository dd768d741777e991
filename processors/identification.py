"""Jet identification from constituents, the same for HLT and offline jets."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.processors.columns import Jagged
from trila.processors.compiled import kernel

__all__ = ["ID_FIELDS", "tight_jet_id"]

#: Fields that the identification uses where they are present.
ID_FIELDS = (
    "charged_hadron_fraction", "neutral_hadron_fraction", "neutral_em_fraction", "charged_multiplicity",
    "neutral_multiplicity", "n_constituents",
)  # fmt: skip


class _Requirement(NamedTuple):
    """Jets with `over` < |eta| <= `up_to` must have a field that `is_` "<", ">" or ">=" the limit."""

    over: float
    up_to: float
    field: str
    is_: str
    limit: float


_TIGHT = (
    _Requirement(-1.0, 2.6, "neutral_hadron_fraction", "<", 0.99),
    _Requirement(2.6, 2.7, "neutral_hadron_fraction", "<", 0.90),
    _Requirement(2.7, 3.0, "neutral_hadron_fraction", "<", 0.99),
    _Requirement(-1.0, 2.6, "neutral_em_fraction", "<", 0.90),
    _Requirement(2.6, 2.7, "neutral_em_fraction", "<", 0.99),
    _Requirement(3.0, np.inf, "neutral_em_fraction", "<", 0.40),
    _Requirement(-1.0, 2.4, "charged_hadron_fraction", ">", 0.01),
    _Requirement(-1.0, 2.4, "charged_multiplicity", ">", 0),
    _Requirement(3.0, np.inf, "neutral_multiplicity", ">=", 2),
    _Requirement(-1.0, 2.6, "n_constituents", ">", 1),
)


@kernel
def _require(
    eta: NDArray[Any], over: float, up_to: float, values: NDArray[Any], limit: float, less: bool, equal: bool,
    passed: NDArray[np.bool_],
) -> None:  # fmt: skip
    for j in range(len(passed)):
        x = values[j]
        good = x < limit if less else x > limit or (equal and x == limit)
        passed[j] &= good or not over < abs(eta[j]) <= up_to


def tight_jet_id(jets: Jagged) -> NDArray[np.bool_]:
    """The tight identification of CMS Run-3 AK4 jets, from the inputs that there are.

    |eta| <= 2.6: neutral hadron fraction < 0.99, neutral EM fraction < 0.90, more than one constituent, charged hadron
    fraction > 0.01, at least one charged constituent; 2.6 to 2.7: < 0.90 and < 0.99; 2.7 to 3.0: neutral hadron
    fraction < 0.99; beyond: neutral EM fraction < 0.40 and at least two neutral constituents (the recommendations of
    the CMS JetMET group for PUPPI jets of 2022-24). Trigger-level jets have no tracks beyond |eta| = 2.5: charged
    constituents are asked for up to 2.4 only. A requirement whose input is missing is not made.

    Args:
        jets: with `eta` and any of `ID_FIELDS`.

    Returns:
        Shape (n_jets,).
    """
    passed = np.ones(len(jets.eta), dtype=np.bool_)
    fields = dict(jets.fields)
    if {"charged_multiplicity", "neutral_multiplicity"} <= fields.keys() and "n_constituents" not in fields:
        fields["n_constituents"] = (
            fields["charged_multiplicity"].astype(np.int32) + fields["neutral_multiplicity"]
        )
    kind = jets.eta.dtype.type
    for over, up_to, field, is_, limit in _TIGHT:
        if field in fields:
            values = fields[field]
            at = values.dtype.type(limit)  # limits are of the column's type, as NumPy compares with numbers
            _require(jets.eta, kind(over), kind(up_to), values, at, is_ == "<", is_ == ">=", passed)
    return passed
