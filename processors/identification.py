"""Jet identification from constituents, the same for HLT and offline jets."""

import numpy as np
from numpy.typing import NDArray

from trila.processors.columns import Jagged

__all__ = ["ID_FIELDS", "tight_jet_id"]

#: Fields that the identification uses where they are present.
ID_FIELDS = (
    "charged_hadron_fraction", "neutral_hadron_fraction", "neutral_em_fraction", "charged_multiplicity",
    "neutral_multiplicity", "n_constituents",
)  # fmt: skip


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
    eta = np.abs(jets.eta)
    passed = np.ones(len(eta), dtype=np.bool_)

    def require(region: NDArray[np.bool_], good: NDArray[np.bool_]) -> None:
        np.logical_and(passed, ~region | good, out=passed)

    central, tracked, edge = eta <= 2.6, eta <= 2.4, (eta > 2.6) & (eta <= 2.7)
    transition, forward = (eta > 2.7) & (eta <= 3.0), eta > 3.0
    fields = jets.fields
    if (x := fields.get("neutral_hadron_fraction")) is not None:
        require(central | transition, x < 0.99)
        require(edge, x < 0.90)
    if (x := fields.get("neutral_em_fraction")) is not None:
        require(central, x < 0.90)
        require(edge, x < 0.99)
        require(forward, x < 0.40)
    if (x := fields.get("charged_hadron_fraction")) is not None:
        require(tracked, x > 0.01)
    if (x := fields.get("charged_multiplicity")) is not None:
        require(tracked, x > 0)
    if (x := fields.get("neutral_multiplicity")) is not None:
        require(forward, x >= 2)
    constituents = fields.get("n_constituents")
    if constituents is None and {"charged_multiplicity", "neutral_multiplicity"} <= fields.keys():
        constituents = fields["charged_multiplicity"].astype(np.int32) + fields["neutral_multiplicity"]
    if constituents is not None:
        require(central, constituents > 1)
    return passed
