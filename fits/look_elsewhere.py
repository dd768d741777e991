"""Global significance: how often chance makes a local significance as large anywhere in the masses searched.

| you have | use |
| --- | --- |
| a search, and want its scans of background toys | `scan_toys` |
| a p-value down to about ten times 1/toys | `toy_global`, exact |
| a larger significance, from a few tens of toys | `gross_vitells` |

E. Gross and O. Vitells (arXiv:1005.1891) bound the global p-value by the number of times the scan of q_0 crosses a level
upwards. That number is easily counted at a low level c₀ and falls with the level as exp(-c/2):

    p_global ≤ p_local + <N(c₀)> exp(-(c - c₀)/2).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.asymptotics import p0
from trila.fits.errors import FitError
from trila.fits.search import Search
from trila.fits.significance import discovery
from trila.fits.toys import Seed, ToyPValue, model_toys, p_value

__all__ = ["LookElsewhere", "gross_vitells", "scan_toys", "toy_global"]

Array = NDArray[np.float64]

_FEWEST = 20
#: Fits of one batch: their data stay within some tens of megabytes.
_FITS = 20_000


class LookElsewhere(NamedTuple):
    """Global p-value from counted crossings.

    Attributes:
        p_local: of the largest significance.
        p_global: the bound, at most 1.
        error: of p_global, from the number of toys.
        crossings: mean number per toy at the level c₀.
        crossings_error: its standard error.
        toys: whose crossings were counted.
        failed: toys with a mass whose fit failed; they are left out of the mean.
    """

    p_local: float
    p_global: float
    error: float
    crossings: float
    crossings_error: float
    toys: int
    failed: int


def scan_toys(found: Search, number: int, seed: Seed) -> Array:
    """q_0 of background toys at all masses of a search.

    A toy is one experiment: all its masses share counts and auxiliary measurements. The background is that of the fit, the
    fits are those of the data's own scan.

    Args:
        found: with one window for all masses.
        number: of toys.
        seed: of the toys.

    Returns:
        Shape (number, M); NaN where a fit failed.

    Raises:
        FitError: windows of their own for each mass, or no toy.
    """
    if len(found.fit.windows.edges) != 1:
        raise FitError(
            f"a search with {len(found.fit.windows.edges)} windows has no single background to draw toys of; expected one "
            "fit for all masses"
        )
    model, masses = found.model, found.unit.size
    # no signal, and nuisance parameters at their measured values
    toys = model_toys(model, np.zeros(model.start.size), number, seed)
    batch = max(1, _FITS // masses)
    scans = []
    for first in range(0, number, batch):
        part = type(toys)(*(np.repeat(x[first : first + batch], masses, axis=0) for x in toys))
        which = np.tile(np.arange(masses), len(part.counts) // masses)
        scans.append(discovery(model, part, which).q0.reshape(-1, masses))
    return np.concatenate(scans)


def toy_global(q0: Array, largest: float) -> ToyPValue:
    """Share of toys whose largest local significance is at least that of the data.

    Args:
        q0: of toys at all masses, shape (T, M); a toy with a NaN has failed and counts as larger.
        largest: q_0 of the data at its most significant mass.

    Raises:
        FitError: no toys, or no number.
    """
    good = np.all(np.isfinite(q0), axis=1)
    return p_value(largest, np.where(good[:, None], q0, 0.0).max(axis=1), good)


def gross_vitells(
    q0: Array, largest: float, *, masses: ArrayLike, widths: ArrayLike, level: float = 0.5
) -> LookElsewhere:
    """Global p-value of the largest q_0 of a scan, from crossings counted in toys.

    Args:
        q0: of toys of the background at all masses, shape (T, M); NaN where a fit failed.
        largest: q_0 of the data at its most significant mass.
        masses: of the scan, increasing, GeV, shape (M,).
        widths: of the signal at each mass, one standard deviation, GeV, shape (M,).
        level: c₀. A low one is crossed often, which makes the error small; one near 0 is crossed between two masses unseen.

    Raises:
        FitError: fewer than 20 toys, masses that do not increase or are further apart than half a width, or a level that is
            not positive.
    """
    _check_step(np.asarray(masses, np.float64), np.asarray(widths, np.float64))
    if not level > 0:
        raise FitError(
            f"crossings are counted at q0 = {level:g}, expected a level above 0; 0.5 to 1 are usual"
        )
    good = np.all(np.isfinite(q0), axis=1)
    number = int(good.sum())
    if number < _FEWEST:
        raise FitError(
            f"{number} toys without failed fits, expected at least {_FEWEST} to count crossings in; give more toys"
        )
    above = q0[good] >= level
    counted = np.sum(~above[:, :-1] & above[:, 1:], axis=1)
    mean, error = float(counted.mean()), float(counted.std(ddof=1) / np.sqrt(number))
    # toys without any crossing leave room for as many as a Poisson mean of one in all of them
    error = max(error, 1 / number)
    fall = float(np.exp(-(largest - level) / 2))
    p_local = float(p0(largest))
    return LookElsewhere(
        p_local, min(1.0, p_local + mean * fall), error * fall, mean, error, number, int(np.sum(~good))
    )


def _check_step(masses: Array, widths: Array) -> None:
    step = np.diff(masses)
    if not np.all(step > 0):
        i = int(np.argmin(step > 0))
        raise FitError(f"mass {masses[i]:g} GeV is followed by {masses[i + 1]:g} GeV; sort them, each once")
    half = np.minimum(widths[1:], widths[:-1]) / 2
    if np.any(step > half * (1 + 1e-9)):
        i = int(np.argmax(step / half))
        raise FitError(
            f"masses {masses[i]:g} and {masses[i + 1]:g} GeV are {step[i]:g} GeV apart, expected at most half the width of "
            f"the signal, {half[i]:g} GeV, so that no crossing is missed; add masses"
        )
