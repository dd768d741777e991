"""Uncertainties of a signal, as given on the command line, and the shapes that they change.

| `--uncertainty` | meaning |
| --- | --- |
| `scale=0.02` | the mass scale is known to 2%: peak at m (1 ± 0.02) |
| `resolution=0.1` | the resolution is known to 10%: width σ (1 ± 0.1) |
| `luminosity=0.016`, `efficiency=0.05`, `anything=0.1` | the number of signal events is known to this fraction |
| `spurious=40` | up to 40 events of background are taken for signal |
| `spurious=0.2sigma` | the same, as a fraction of the statistical error of the signal yield |

`uncertainties` reads these texts, `variations` gives the shapes up and down.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from trila.fits.errors import FitError
from trila.fits.signals import Signal

__all__ = ["Uncertainty", "Variations", "uncertainties", "variations"]

Array = NDArray[np.float64]

Kind = Literal["shape", "norm", "spurious"]
Unit = Literal["fraction", "events", "sigma"]

# Names with a meaning of their own; every other name is a normalisation.
_KINDS: dict[str, Kind] = {"scale": "shape", "resolution": "shape", "spurious": "spurious"}

# Names of other parameters in a model that is written to a file.
_TAKEN = r"mu|(background|spurious)_.*"

# A name this similar to one with a meaning is a slip, and would silently become a normalisation.
_SIMILAR = 0.8


class Uncertainty(BaseModel):
    """One source of uncertainty; each is independent of the others.

    Attributes:
        name: of the source, and of its parameter in a model.
        kind: "shape" for `scale` and `resolution`, "spurious" for events of background taken for signal, "norm" for
            all others.
        size: one standard deviation, above 0.
        unit: what `size` counts: "fraction" for shapes and norms; "events", or "sigma" for the statistical error of
            the signal yield, for a spurious signal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    size: float
    unit: Unit = "fraction"


class Variations(NamedTuple):
    """Fractions of signal events per bin one standard deviation up and down, each of shape (M, bins)."""

    up: Array
    down: Array


def uncertainties(texts: Sequence[str]) -> tuple[Uncertainty, ...]:
    """Read texts of the form SOURCE=SIZE.

    Raises:
        FitError: another form, a name of another parameter, a size that is no number or out of range, a name that is given twice or is close to
            one with a meaning of its own.

    >>> uncertainties(["luminosity=0.016"])[0].kind
    'norm'
    """
    found = tuple(_uncertainty(text) for text in texts)
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise FitError(
                f"uncertainty '{name}' is given {names.count(name)} times; give one size, or other names."
            )
    return found


def _uncertainty(text: str) -> Uncertainty:
    name, _, amount = text.partition("=")
    kind = _KINDS.get(name, "norm")
    unit: Unit = "fraction"
    if kind == "spurious":
        unit = "sigma" if amount.endswith("sigma") else "events"
    try:
        size = float(amount.removesuffix("sigma") if unit == "sigma" else amount)
    except ValueError:
        size = np.nan
    if not re.fullmatch(r"[A-Za-z][\w-]*", name, re.ASCII) or np.isnan(size):
        raise FitError(
            f"uncertainty '{text}', expected SOURCE=SIZE, a name and a number such as scale=0.02; mend it."
        )
    if re.fullmatch(_TAKEN, name):
        raise FitError(
            f"uncertainty '{name}' has the name of another parameter of the model; choose another."
        )
    close = difflib.get_close_matches(name.lower(), _KINDS, n=1, cutoff=_SIMILAR)
    if name not in _KINDS and close:
        raise FitError(
            f"uncertainty '{name}' would be a normalisation, but looks like '{close[0]}'; write that, or choose another "
            f"name."
        )
    largest = np.inf if kind == "spurious" else 1.0
    if not 0 < size < largest:
        expected = "above 0" if kind == "spurious" else "between 0 and 1, a fraction (2% is 0.02)"
        raise FitError(
            f"uncertainty '{text}' has size {size:g}, expected a number {expected}; change the size."
        )
    return Uncertainty(name=name, kind=kind, size=size, unit=unit)


def variations(signal: Signal, masses: ArrayLike, edges: ArrayLike, uncertainty: Uncertainty) -> Variations:
    """The signal's shape with the mass scale or the resolution one standard deviation up and down.

    Args:
        signal: any shape.
        masses: of the resonance, GeV, shape (M,).
        edges: ascending bin edges, GeV, shape (bins + 1,).
        uncertainty: of kind "shape".

    Raises:
        FitError: an uncertainty of another kind, and what `signal` raises.
    """
    if uncertainty.kind != "shape":
        raise FitError(
            f"uncertainty '{uncertainty.name}' is of kind {uncertainty.kind}, expected scale or resolution: it changes no "
            f"shape; apply its size to the number of events."
        )
    factors = (1 + uncertainty.size, 1 - uncertainty.size)
    if uncertainty.name == "scale":
        return Variations(*(signal.fractions(masses, edges, scale=factor) for factor in factors))
    return Variations(*(signal.fractions(masses, edges, resolution=factor) for factor in factors))
