"""Limits and significances with the choice of the background function profiled: `--function envelope`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.fit_inputs import FitInput
from trila.analysis.scans import slices
from trila.fits.background import Windows
from trila.fits.certificates import Certificate, Check, judge
from trila.fits.envelope import LADDERS, Envelope, EnvelopeLimits, envelope, envelope_limits
from trila.fits.errors import FitError
from trila.fits.functions import FAMILIES, resolve
from trila.fits.search import SignalTemplates

__all__ = ["PREFIX", "Enveloped", "chosen_functions", "enveloped", "limits_of"]

Array = NDArray[np.float64]

#: Of --function; alone it takes `envelope.LADDERS`.
PREFIX = "envelope"


class Enveloped(NamedTuple):
    """An envelope at all masses of a scan that can be done.

    Attributes:
        envelope: the functions.
        templates: of the signal.
        skipped: other masses, with the reason.
    """

    envelope: Envelope
    templates: SignalTemplates
    skipped: dict[float, str]


def ladders_of(function: str) -> tuple[tuple[str, ...], ...]:
    """Functions of each family that `envelope` or `envelope:FAMILY,FAMILY,...` names.

    Raises:
        FitError: no such family.

    >>> ladders_of("envelope:powerlaw")
    (('powerlaw',),)
    """
    _, _, text = function.partition(":")
    if not text:
        return LADDERS
    unknown = [name for name in text.split(",") if name not in FAMILIES]
    if unknown:
        raise FitError(f"unknown family '{unknown[0]}' in '{function}'; choose of {', '.join(FAMILIES)}")
    return tuple(FAMILIES[name] for name in text.split(","))


def enveloped(
    given: FitInput, function: str, shape: str, points: Array, *, sources: Sequence[str] = (), window: float | None = None
) -> Enveloped:  # fmt: skip
    """The envelope of families of functions; arguments as `scans.scan`.

    Raises:
        FitError: as `slices`, `envelope`, and a spurious signal in units of an error, which each function has its own of.
    """
    if any(text.endswith("sigma") for text in sources):
        raise FitError(
            "a spurious signal in units of sigma has no meaning for several functions; give it in events"
        )
    ladders = ladders_of(function)
    most = max(len(resolve(name).parameters) for ladder in ladders for name in ladder)
    cut = slices(given, most, shape, points, sources=sources, window=window)
    windows, number = cut.windows, cut.templates.masses.size
    if len(windows.edges) < number:
        # masses that share a window may have different functions
        edges, counts, weight, energy = windows
        edges, counts, weight = (np.repeat(x, number, axis=0) for x in (edges, counts, weight))
        windows = Windows(edges, counts, weight, energy)
    return Enveloped(
        envelope(windows, cut.templates, ladders=ladders, form="exact"), cut.templates, cut.skipped
    )


def limits_of(
    found: Envelope, level: float, *, check: Check = "sample"
) -> tuple[EnvelopeLimits, list[Certificate]]:
    """Limits in events, and what stands behind them.

    Args:
        found: the functions.
        level: of confidence.
        check: at which masses Minuit fits the functions that were chosen again.

    Raises:
        FitError: as `envelope_limits`.
    """
    limits = envelope_limits(found, level=level)
    return limits, judge(limits.fits, limits.verified, check=check)


def chosen_functions(found: Envelope, limits: EnvelopeLimits, index: int) -> dict[str, str | None]:
    """Which function is lowest without signal, at the best fit, and at the observed limit."""
    picks = {
        "background": limits.background_function, "best_fit": limits.best_function, "limit": limits.limit_function,
    }  # fmt: skip
    return {
        name: found.functions[which[index]] if which[index] >= 0 else None for name, which in picks.items()
    }
