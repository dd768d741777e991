"""A search for displaced decays in bins of displacement, and what it excludes.

A dark photon of lifetime τ spreads over the bins; each bin has a spectrum, a background and a search of its own. For each
lifetime their likelihoods are combined with the shares of that lifetime, which gives one limit on the yield as a function of
mass and τ. `displaced.exclude` compares it with what each ε² makes.

| you have | use |
| --- | --- |
| bins of proper decay time | `decay_shares` |
| bins of a distance | shares of your own, from simulation with `lifetime_weights` |
| shares and a `Search` for each bin | `lifetime_limits`, then `exclusion` |
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.checks import above
from trila.fits.combination import combine
from trila.fits.displaced import Exclusion, LifetimeTable, exclude
from trila.fits.errors import FitError
from trila.fits.limits import upper_limits
from trila.fits.search import Search

__all__ = ["LifetimeLimits", "decay_shares", "exclusion", "lifetime_limits"]

Array = NDArray[np.float64]


class LifetimeLimits(NamedTuple):
    """Limits on a grid of mass and lifetime, each a `LifetimeTable`.

    Attributes:
        efficiency: sum of the shares, over that of prompt virtual photons.
        observed: upper limit on the events in all bins.
        expected: its median without a signal.
    """

    efficiency: LifetimeTable
    observed: LifetimeTable
    expected: LifetimeTable


def decay_shares(edges: ArrayLike, lifetime: ArrayLike) -> Array:
    """Part of the decays in each bin of proper time: exp(-t_b/τ) - exp(-t_{b+1}/τ).

    Args:
        edges: increasing, from 0 on, ps, shape (B + 1,); the last may be infinite.
        lifetime: τ, ps, shape (T,).

    Returns:
        Shape (B, T).

    Raises:
        FitError: edges that do not increase from 0 or more, or a lifetime not above 0.

    >>> decay_shares([0.0, 1.0, np.inf], [1.0]).round(4).tolist()
    [[0.6321], [0.3679]]
    """
    times = np.asarray(edges, dtype=np.float64)
    if times.ndim != 1 or times.size < 2 or not (times[0] >= 0 and np.all(times[1:] > times[:-1])):
        raise FitError(
            f"edges {times.tolist()!s:.80} ps of decay times, expected them to increase from 0 or more; sort them"
        )
    tau = above("lifetimes in ps", lifetime, 0, "check the unit")
    before = times[:, np.newaxis] / tau
    # exp(-a) - exp(-b) without loss of digits where both are near 1
    return np.asarray(-np.exp(-before[:-1]) * np.expm1(-np.diff(np.minimum(before, 1e6), axis=0)))


def lifetime_limits(
    searches: Sequence[Search], lifetimes: ArrayLike, shares: ArrayLike, *, level: float = 0.95
) -> LifetimeLimits:
    """Limits for each mass and lifetime, all in one batch.

    Args:
        searches: one for each of B bins of displacement, at the same M masses, at least two.
        lifetimes: increasing, ps, shape (T,).
        shares: efficiency of decays in each bin over that of prompt virtual photons, such as `decay_shares`, shape (B, T) or
            (B, M, T).
        level: of confidence; 90% is what others quote for ε².

    Raises:
        FitError: as `combine` and `upper_limits`, shares of another shape, or a limit that could not be found.
    """
    tau = np.asarray(lifetimes, dtype=np.float64)
    masses = searches[0].templates.masses if searches else np.zeros(0)
    given = np.asarray(shares, dtype=np.float64)
    grid = (masses.size, tau.size)
    if given.shape not in ((len(searches), tau.size), (len(searches), *grid)):
        raise FitError(
            f"shares of shape {given.shape} for {len(searches)} bins, {masses.size} masses and {tau.size} lifetimes; give one for "
            "each bin and lifetime, or for each bin, mass and lifetime"
        )
    parts = np.broadcast_to(given if given.ndim == 3 else given[:, np.newaxis, :], (len(searches), *grid))
    total = parts.sum(axis=0)
    if not np.all(total > 0):
        raise FitError(
            f"no decays of lifetime {tau[np.argmin(total.min(axis=0))]:g} ps are in any bin; leave that lifetime out"
        )
    both = combine(
        searches,
        (parts / total).reshape(len(searches), -1),
        which=np.repeat(np.arange(masses.size), tau.size),
    )
    found = upper_limits(both.model, level=level)
    observed, expected = (x * both.unit for x in (found.observed, found.expected[:, 2]))
    lost = ~(found.verified[:, 0] & found.verified[:, 3])
    if lost.any():
        first = int(np.argmax(lost))
        raise FitError(
            f"no limit was found at {both.masses[first]:g} GeV and {tau[first % tau.size]:g} ps; leave that mass or lifetime out"
        )
    return LifetimeLimits(
        *(LifetimeTable(masses, tau, values.reshape(grid)) for values in (total, observed, expected))
    )


def exclusion(
    limits: LifetimeLimits, masses: ArrayLike, eps2: ArrayLike, photons_per_gev: ArrayLike, *, expected: bool = False,
    flavours: ArrayLike | None = None,
) -> Exclusion:  # fmt: skip
    """What the limits exclude in mass and ε²; `displaced.excluded_ranges` gives the regions.

    Args:
        limits: of `lifetime_limits`.
        masses: GeV, within those of the limits, shape (k,).
        eps2: increasing, shape (n,); their lifetimes must be within those of the limits.
        photons_per_gev: dN/dm of prompt dimuons from virtual photons, shape (k,).
        expected: with the median limit instead of the observed one.
        flavours: N_f, as `displaced.exclude`.

    Raises:
        FitError: as `displaced.exclude`.
    """
    table = limits.expected if expected else limits.observed
    return exclude(masses, eps2, photons_per_gev, limits.efficiency, table, flavours)
