"""Dark photons that decay displaced: which masses and couplings a search excludes.

The lifetime falls as 1/ε², so the efficiency depends on the coupling, the yield is no longer linear in it,
and what is excluded is an island in (m, ε²): below it too few are produced, above it they decay too early
(LHCb, arXiv:1710.02867 and arXiv:1910.06926). `exclude` says what a search expects and excludes on a grid,
`excluded_ranges` where the islands begin and end.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import RegularGridInterpolator

from trila.fits import dark_photon
from trila.fits.checks import above, at_least
from trila.fits.errors import FitError

__all__ = ["Exclusion", "LifetimeTable", "Ranges", "exclude", "excluded_ranges", "interpolate"]

Array = NDArray[np.float64]


class LifetimeTable(NamedTuple):
    """A quantity on a grid of mass and lifetime, such as an efficiency or a limit.

    Attributes:
        mass: increasing, GeV, shape (k,).
        lifetime: increasing, ps, shape (n,).
        values: at least 0, shape (k, n): masses first.
    """

    mass: Array
    lifetime: Array
    values: Array


class Exclusion(NamedTuple):
    """What a search for displaced decays expects and excludes.

    Attributes:
        mass: GeV, shape (k,).
        eps2: ε², shape (n,).
        lifetime: ps, shape (k, n).
        expected: events of an A', shape (k, n).
        limit: upper limit on them, shape (k, n).
        excluded: whether the limit is below what is expected, shape (k, n).
    """

    mass: Array
    eps2: Array
    lifetime: Array
    expected: Array
    limit: Array
    excluded: NDArray[np.bool_]


class Ranges(NamedTuple):
    """Excluded intervals of ε², one an entry; a mass may have none or several.

    Attributes:
        mass: GeV, shape (r,).
        low: lower end in ε², shape (r,).
        high: upper end, shape (r,).
    """

    mass: Array
    low: Array
    high: Array


def interpolate(table: LifetimeTable, mass: ArrayLike, lifetime: ArrayLike) -> Array:
    """A table at given masses and lifetimes, linear in the mass and in the logarithm of the lifetime.

    Args:
        table: on its grid.
        mass: GeV, any shape.
        lifetime: ps, broadcast with `mass`.

    Returns:
        In the shape to which they broadcast.

    Raises:
        FitError: a table whose axes do not increase or do not fit its values, or a mass or lifetime outside
        it.

    >>> table = LifetimeTable(np.array([0.2, 0.3]), np.array([0.1, 10.0]), np.array([[0.0, 1.0], [0.0, 2.0]]))
    >>> interpolate(table, 0.25, 1.0).round(6).item()
    0.75
    """
    axes = (np.asarray(table.mass, dtype=np.float64), np.asarray(table.lifetime, dtype=np.float64))
    if np.shape(table.values) != tuple(axis.size for axis in axes) or min(axis.size for axis in axes) < 2:
        raise FitError(
            f"a table of {axes[0].size} masses and {axes[1].size} lifetimes with values of shape "
            f"{np.shape(table.values)}, expected at least two of each and a row of values for each mass; "
            "transpose or complete the values."
        )
    for name, axis in zip(("masses in GeV", "lifetimes in ps"), axes, strict=True):
        above(name, axis, 0, "check the unit")
        if not np.all(np.diff(axis) > 0):
            raise FitError(f"the {name} of a table do not increase; sort the table.")
    values = at_least("a table's values", table.values, 0, "check the table")
    points = np.broadcast_arrays(*(np.asarray(point, dtype=np.float64) for point in (mass, lifetime)))
    for name, axis, point in zip(("mass", "lifetime"), axes, points, strict=True):
        outside = ~((point >= axis[0]) & (point <= axis[-1]))
        if np.any(outside):
            raise FitError(
                f"a {name} of {point[outside].ravel()[0]:g}, expected {axis[0]:g} to {axis[-1]:g}, "
                "the range of the table; extend the table or shorten the scan."
            )
    grid = (axes[0], np.log(axes[1]))
    # Rounding in the logarithm must not move an end of the table beyond itself.
    logs = np.clip(np.log(points[1]), grid[1][0], grid[1][-1])
    return np.asarray(RegularGridInterpolator(grid, values)(np.stack([points[0], logs], axis=-1)))


def exclude(
    mass: ArrayLike,
    eps2: ArrayLike,
    photons_per_gev: ArrayLike,
    efficiency_ratio: LifetimeTable,
    yield_limit: LifetimeTable,
    flavours: ArrayLike | None = None,
) -> Exclusion:
    """Compare the limit on the yield with what is expected, at each mass and coupling.

    Args:
        mass: GeV, shape (k,).
        eps2: increasing ε², shape (n,).
        photons_per_gev: dN/dm of prompt dimuons from virtual photons, as `dark_photon.expected_yield`, shape
            (k,).
        efficiency_ratio: efficiency of the A' over that of prompt virtual photons.
        yield_limit: upper limit, events, above 0.
        flavours: N_f, shape (k,); None takes `dark_photon.effective_flavours`.

    Raises:
        FitError: shapes that do not fit, values out of their range, or a lifetime outside the tables.
    """
    masses, couplings = (np.atleast_1d(np.asarray(axis, dtype=np.float64)) for axis in (mass, eps2))
    photons = np.asarray(photons_per_gev, dtype=np.float64)
    n_f = dark_photon.effective_flavours(masses) if flavours is None else np.asarray(flavours, np.float64)
    for name, values in (("photons_per_gev", photons), ("flavours", n_f)):
        if values.shape != masses.shape:
            raise FitError(
                f"{name} of shape {values.shape} for {masses.size} masses; give one value for each mass."
            )
    if couplings.ndim != 1 or not np.all(np.diff(couplings) > 0):
        raise FitError("the values of eps2 do not increase; sort them.")
    column = masses[:, np.newaxis]
    tau = dark_photon.lifetime(column, couplings, n_f[:, np.newaxis])
    expected = dark_photon.expected_yield(
        column,
        couplings,
        photons[:, np.newaxis],
        efficiency_ratio=interpolate(efficiency_ratio, column, tau),
        flavours=n_f[:, np.newaxis],
    )
    limit = above("yield_limit", interpolate(yield_limit, column, tau), 0, "give upper limits in events")
    return Exclusion(masses, couplings, tau, expected, limit, limit < expected)


def excluded_ranges(exclusion: Exclusion) -> Ranges:
    """Intervals of ε² in which limit over expectation is below 1, by interpolation in the logarithms of both.

    An interval that reaches an end of the scan ends there, and so does one at a point beyond which nothing is
    expected.

    Args:
        exclusion: of `exclude`.

    Returns:
        In order of mass, then of ε².
    """
    outside = np.zeros((exclusion.mass.size, 1), dtype=np.int8)
    step = np.diff(exclusion.excluded.astype(np.int8), axis=1, prepend=outside, append=outside)
    rows, first = np.nonzero(step == 1)
    last = np.nonzero(step == -1)[1] - 1
    # A row has as many ends as beginnings, and both are found in the same order.
    low, high = (_crossing(exclusion, rows, edge, side) for edge, side in ((first, -1), (last, 1)))
    return Ranges(exclusion.mass[rows], low, high)


def _crossing(exclusion: Exclusion, rows: NDArray[np.intp], inner: NDArray[np.intp], side: int) -> Array:
    """ε² between an excluded point and its neighbour on one side, where limit and expectation are equal."""
    outer = np.clip(inner + side, 0, exclusion.eps2.size - 1)
    with np.errstate(divide="ignore"):
        ratio_in, ratio_out = (
            np.log(exclusion.limit[rows, at]) - np.log(exclusion.expected[rows, at]) for at in (inner, outer)
        )
    # At an end of the scan, inner and outer are one point.
    gap = np.where(outer == inner, np.inf, ratio_out - ratio_in)
    log_in, log_out = np.log(exclusion.eps2[inner]), np.log(exclusion.eps2[outer])
    return np.asarray(np.exp(log_in + (log_out - log_in) * (-ratio_in / gap)))
