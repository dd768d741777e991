"""Prescaled triggers: effective luminosity, and weights of events that several triggers may have kept.

A trigger with prescale p keeps one of p events that it accepts; 0 stands for a disabled trigger. Prescales are totals, of
all levels multiplied. An event that triggers i accepted (d_i = 1) is then kept with the probability

    P = 1 - product over i of (1 - d_i / p_i),

if the prescales of different triggers are independent. They are not where two triggers share a prescaled seed, or where
two counters run over the same events and their prescales have a common divisor.

Source: V. Lendermann et al., "Combining Triggers in HEP Data Analysis", Nucl. Instrum. Meth. A 604 (2009) 707,
doi:10.1016/j.nima.2009.03.173, "inclusion method".
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "PrescaleError",
    "PrescaleRanges",
    "effective_luminosity",
    "event_weights",
    "kept_fraction",
    "prescale_of",
]

Array = NDArray[np.float64]


class PrescaleError(ValueError):
    """Prescales or decisions that cannot be; says which."""


class PrescaleRanges(NamedTuple):
    """Prescales of one trigger by closed ranges of blocks (`lumi.blocks`); arrays of shape (m,)."""

    first: NDArray[np.uint64]
    """Ascending; no two ranges overlap."""
    last: NDArray[np.uint64]
    prescale: Array


def prescale_of(table: PrescaleRanges, block: NDArray[np.uint64]) -> Array:
    """Prescale in each block, shape (n,); NaN where the table has none."""
    if not table.first.size:
        return np.full(block.shape, np.nan)
    index = np.searchsorted(table.first, block, side="right") - 1
    inside = (index >= 0) & (block <= table.last[index])
    return np.where(inside, table.prescale[index], np.nan)


def kept_fraction(prescales: ArrayLike, decisions: ArrayLike = True) -> Array:
    """Probability that at least one of the triggers keeps an event, shape (...).

    Args:
        prescales: shape (..., T) for T triggers; 0 for a disabled one, NaN for an unknown one.
        decisions: whether each trigger accepts the event, before its prescale; as prescales, or broadcast to them.

    Returns:
        NaN where a trigger that accepts the event has an unknown prescale.

    Raises:
        PrescaleError: a prescale is negative, or between 0 and 1.

    >>> kept_fraction([2.0, 4.0]).item(), kept_fraction([2.0, 0.0]).item(), kept_fraction([1.0, 7.0]).item()
    (0.625, 0.5, 1.0)
    """
    prescale, fired = np.broadcast_arrays(
        np.asarray(prescales, dtype=np.float64), np.asarray(decisions, np.bool_)
    )
    wrong = (prescale < 0) | ((prescale > 0) & (prescale < 1)) | np.isinf(prescale)
    if wrong.any():
        raise PrescaleError(
            f"prescale {prescale[wrong][0]:g} cannot be; expected 1 or more, 0 for a disabled trigger"
        )
    active = fired & (prescale != 0)
    chance = np.divide(1.0, prescale, out=np.zeros(prescale.shape), where=active)
    # By logarithms: with prescales of 10^6 and more, 1 - (1 - 1/p) would lose the digits that matter.
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(np.log1p(-chance).sum(axis=-1)))


def effective_luminosity(recorded: ArrayLike, prescales: ArrayLike) -> float:
    """Luminosity that an unprescaled trigger would have needed, for events that all the triggers accept.

    The sum over blocks of recorded * [1 - product over triggers of (1 - 1/p)]; for one trigger, of recorded / p.

    Args:
        recorded: luminosity by block, shape (n,).
        prescales: shape (n, T), as for `kept_fraction`; blocks with an unknown one are left out.

    Returns:
        In the unit of `recorded`.
    """
    fraction = kept_fraction(prescales)
    known = np.isfinite(fraction)
    return float(np.sum(np.asarray(recorded, dtype=np.float64)[known] * fraction[known]))


def event_weights(decisions: ArrayLike, prescales: ArrayLike) -> Array:
    """Weights 1 / P that make kept events stand for all that any of the triggers accepted, shape (n,).

    Args:
        decisions: whether each trigger accepted the event *before* its prescale, shape (n, T). Decisions after the
            prescale would give a bias: the weight must not depend on which of the counters kept the event.
        prescales: at the time of each event, shape (n, T) or (T,).

    Raises:
        PrescaleError: an event cannot have been kept: no enabled trigger accepted it; or its prescale is unknown.

    >>> event_weights([[True, False], [True, True]], [2.0, 4.0]).tolist()
    [2.0, 1.6]
    """
    fraction = kept_fraction(prescales, decisions)
    if not (fraction > 0).all():  # False also for NaN
        event = int(np.flatnonzero(~(fraction > 0))[0])
        why = (
            "the prescale of a trigger is unknown"
            if np.isnan(fraction[event])
            else "no enabled trigger accepted it"
        )
        raise PrescaleError(
            f"event {event} has no weight: {why}; select events by the triggers, and blocks with prescales, first"
        )
    return 1.0 / fraction
