"""From limits on the yield of dimuons to a cross-section, and to the ε² of a dark photon.

The cross-section needs the luminosity and the efficiency. ε² does not: the dimuons from virtual photons in the same data, with
the same trigger, selection and efficiency, calibrate it (Ilten, Soreq, Thaler, Williams, Xue, arXiv:1603.08926; LHCb,
arXiv:1710.02867 and arXiv:1910.06926). Their number per GeV is the fitted background at the mass, less what is not electromagnetic:

| you know | use |
| --- | --- |
| a fit of the dimuons | `photon_density` |
| and one of same-sign dimuons | its `same_sign`, for muons that are misidentified hadrons or of unrelated origin |
| and the fraction of heavy flavour at some masses | its `fractions` |
| densities of several categories | `photon_shares`, for `combination.combine` |
| a limit on the yield in events | `cross_section_limits`, `coupling_limits` |

`in_events` takes limits from the units of a model to events.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits import dark_photon
from trila.fits.background import BackgroundFit
from trila.fits.checks import above, at_least
from trila.fits.errors import FitError
from trila.fits.families import Domain
from trila.fits.limits import Limits

__all__ = [
    "Bands", "FractionTable", "coupling_limits", "cross_section_limits", "fitted_density", "in_events", "photon_density",
    "photon_shares",
]  # fmt: skip

Array = NDArray[np.float64]


class Bands(NamedTuple):
    """Limits at M masses in one unit, NaN where there is none.

    Attributes:
        masses: GeV, shape (M,).
        observed: shape (M,).
        expected: at -2, -1, 0, 1, 2 standard deviations of the background, shape (M, 5).
    """

    masses: Array
    observed: Array
    expected: Array


class FractionTable(NamedTuple):
    """Fraction of the dimuons that does not come from virtual photons, linear between masses.

    Attributes:
        mass: increasing, GeV, shape (n,).
        fraction: from 0 to below 1, shape (n,).
    """

    mass: Array
    fraction: Array


def in_events(masses: ArrayLike, unit: ArrayLike, limits: Limits) -> Bands:
    """Limits on the number of signal events.

    Args:
        masses: GeV, shape (M,).
        unit: events for a parameter of interest of one, of a `Search` or `Combination`, shape (M,).
        limits: in that unit.
    """
    events = np.asarray(unit, dtype=np.float64)
    return Bands(
        np.asarray(masses, dtype=np.float64),
        limits.observed * events,
        limits.expected * events[:, np.newaxis],
    )


def fitted_density(fit: BackgroundFit, masses: ArrayLike) -> Array:
    """Events per GeV of a fitted function, shape (M,).

    Args:
        fit: of one window, or of one for each mass.
        masses: GeV, within their windows, shape (M,).

    Raises:
        FitError: another number of windows than of masses, or a mass outside its window.
    """
    points = np.asarray(masses, dtype=np.float64)
    edges = fit.windows.edges
    if len(edges) not in (1, points.size):
        raise FitError(f"{len(edges)} windows for {points.size} masses, expected one, or one for each mass")
    low, high = edges[:, 0], edges[:, -1]
    outside = (points < low) | (points > high)
    if outside.any():
        first = int(np.argmax(outside))
        own = first if len(edges) > 1 else 0
        raise FitError(
            f"the background at {points[first]:g} GeV from a fit of {low[own]:g} to {high[own]:g} GeV; choose masses inside"
        )
    ends = np.stack([low, high, np.full(low.shape, fit.windows.sqrt_s)])
    # parameters and ends of each window, or of the one that serves all masses
    values = fit.function.density(points, fit.values.T, Domain(*ends))
    return np.array(np.broadcast_to(values, points.shape))


def photon_density(
    fit: BackgroundFit, masses: ArrayLike, *, same_sign: BackgroundFit | None = None, same_sign_factor: float = 1.0,
    fractions: FractionTable | None = None,
) -> Array:  # fmt: skip
    """dN/dm of dimuons from virtual photons, 1/GeV, shape (M,): (dimuons - factor · same sign) · (1 - fraction).

    Args:
        fit: of the dimuons without a signal, to one window or to one for each mass.
        masses: GeV, shape (M,).
        same_sign: fit of pairs of equal charge, likewise.
        same_sign_factor: pairs of opposite charge that are no dimuons for one of equal charge.
        fractions: of other dimuons among those that remain.

    Raises:
        FitError: as `fitted_density`, nothing left, a factor or fraction out of range, a table that does not increase, or a mass
            beyond it.
    """
    points = np.asarray(masses, dtype=np.float64)
    left = fitted_density(fit, points)
    if same_sign is not None:
        factor = at_least("same_sign_factor", same_sign_factor, 0, "give opposite-sign over same-sign pairs")
        left = left - factor * fitted_density(same_sign, points)
    if fractions is not None:
        left = left * (1 - _fraction(fractions, points))
    return above(
        "dN/dm of virtual photons in 1/GeV", left, 0, "leave out masses without them, or subtract less"
    )


def _fraction(table: FractionTable, masses: Array) -> Array:
    mass, fraction = (np.asarray(column, dtype=np.float64) for column in table)
    if mass.ndim != 1 or mass.shape != fraction.shape or mass.size < 1 or not np.all(np.diff(mass) > 0):
        raise FitError(
            f"a table of fractions with {mass.shape} masses and {fraction.shape} fractions, expected one for each of increasing "
            "masses; sort or complete it"
        )
    if not np.all((fraction >= 0) & (fraction < 1)):
        wrong = fraction[~((fraction >= 0) & (fraction < 1))][0]
        raise FitError(f"a fraction of {wrong:g} of other dimuons, expected 0 to below 1; give 0.2 for 20%")
    outside = (masses < mass[0]) | (masses > mass[-1])
    if outside.any():
        raise FitError(
            f"the fraction of other dimuons at {masses[outside][0]:g} GeV, expected {mass[0]:g} to {mass[-1]:g} GeV, the range "
            "of the table; extend it"
        )
    return np.interp(masses, mass, fraction)


def photon_shares(densities: ArrayLike) -> Array:
    """Part of a dark photon's yield in each category: that of the dimuons from virtual photons, of the same acceptance.

    Args:
        densities: dN/dm of `photon_density`, shape (C, M).

    Returns:
        Shape (C, M); the sum over categories is 1.

    Raises:
        FitError: a density not above 0.

    >>> photon_shares([[30.0], [10.0]]).tolist()
    [[0.75], [0.25]]
    """
    photons = above("dN/dm of virtual photons in 1/GeV", densities, 0, "leave out the category there")
    return np.asarray(photons / photons.sum(axis=0))


def cross_section_limits(events: Bands, *, luminosity: float, efficiency: ArrayLike = 1.0) -> Bands:
    """Limits on cross-section times branching fraction, N/(L ε): pb for a luminosity in 1/pb.

    Args:
        events: limits on the yield.
        luminosity: 1/pb.
        efficiency: with the acceptance, above 0, shape () or (M,); 1 for limits within the acceptance.

    Raises:
        FitError: a luminosity or efficiency not above 0, or an efficiency above 1.
    """
    recorded = above("the luminosity in 1/pb", luminosity, 0, "give that of the data")
    seen = above("the efficiency", efficiency, 0, "leave out masses without efficiency")
    if np.any(seen > 1):
        raise FitError(f"an efficiency of {seen.max():g}, expected at most 1; give 0.2 for 20%")
    each = np.broadcast_to(recorded * seen, events.masses.shape)
    return Bands(events.masses, events.observed / each, events.expected / each[:, np.newaxis])


def coupling_limits(
    events: Bands, photons_per_gev: ArrayLike, *, efficiency_ratio: ArrayLike = 1.0, flavours: ArrayLike | None = None
) -> Bands:  # fmt: skip
    """Limits on ε² of a prompt dark photon, in which its yield is linear: see `dark_photon.eps2_limit`.

    Args:
        events: limits on the yield; 90% is the confidence level that others quote.
        photons_per_gev: of `photon_density`, summed over categories, shape (M,).
        efficiency_ratio, flavours: as `dark_photon.expected_yield`, shape () or (M,).

    Raises:
        FitError: as `dark_photon.eps2_limit`.
    """
    stacked = np.vstack([events.observed, events.expected.T])
    found = dark_photon.eps2_limit(
        events.masses, stacked, photons_per_gev, efficiency_ratio=efficiency_ratio, flavours=flavours
    )
    return Bands(events.masses, found[0], found[1:].T)
