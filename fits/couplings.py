"""Limits on a coupling from limits on a cross-section, by a table of predictions that the user gives.

`read_scaling` reads the table, `coupling_limit` applies it. The prediction is σ = σ_ref (g/g_ref)², as of a
Z' with coupling g_q to quarks while its width is small against the resolution; where it is not, the shape
changes too, and a limit has to be made for each width.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.checks import above
from trila.fits.errors import FitError
from trila.fits.tables import read_table

__all__ = ["COLUMNS", "Scaling", "coupling_limit", "read_scaling"]

Array = NDArray[np.float64]

#: Columns of a table: mass in GeV, the coupling of the prediction, and the predicted cross-section in pb.
COLUMNS = ("mass", "g", "sigma")


class Scaling(NamedTuple):
    """Predicted cross-sections at a reference coupling.

    Attributes:
        mass: increasing, GeV, shape (n,).
        coupling: with which each prediction was made, shape (n,).
        sigma: pb, shape (n,): of what the limit is on, so times branching fraction and acceptance for a limit
            on σ·B·A.
        source: where it comes from, for messages.
    """

    mass: Array
    coupling: Array
    sigma: Array
    source: str


def read_scaling(path: str | Path) -> Scaling:
    """Read a table of predictions.

    Args:
        path: CSV file whose first line names the columns, among them `mass` (GeV), `g` and `sigma` (pb).
            Lines that begin with # are left out. Rows may stand in any order.

    Returns:
        Sorted by mass.

    Raises:
        FitError: the file cannot be read, a column is missing, a value is not a positive number, a mass
            stands twice, or there are fewer than two masses.
    """
    values = read_table(path, COLUMNS)
    wrong = np.argwhere(~((values > 0) & (values < math.inf)))
    if wrong.size:
        row, column = wrong[0]
        raise FitError(
            f"'{path}' has {COLUMNS[column]} = '{values[row, column]:g}', expected a number above 0; correct that row."
        )
    values = values[np.argsort(values[:, 0])]
    repeated = values[1:, 0][np.diff(values[:, 0]) == 0]
    if repeated.size:
        raise FitError(f"'{path}' has a mass of {repeated[0]:g} GeV twice; keep one row for each mass.")
    if len(values) < 2:
        raise FitError(f"'{path}' has {len(values)} masses, expected at least two; add rows.")
    mass, coupling, sigma = values.T
    return Scaling(mass, coupling, sigma, str(path))


def coupling_limit(table: Scaling, mass: ArrayLike, limit: ArrayLike) -> Array:
    """Upper limits on the coupling: g = g_ref sqrt(limit / σ_ref).

    σ_ref at the same coupling is a straight line between neighbouring masses in the logarithms of both, exact
    for a power of the mass.

    Args:
        table: predictions.
        mass: GeV, shape (n,).
        limit: upper limits on the cross-section, pb, shape (n,), or (..., n) for the five limits of an
            expected band. nan where there is none.

    Returns:
        In the shape of `limit`.

    Raises:
        FitError: a mass outside the table, a limit that is not positive, or shapes that do not fit.

    >>> table = Scaling(np.array([500.0, 1000.0]), np.array([0.25, 0.25]), np.array([16.0, 1.0]), "example")
    >>> coupling_limit(table, [500.0, 1000.0], [4.0, 1.0]).round(6).tolist()
    [0.125, 0.25]
    """
    masses = np.atleast_1d(np.asarray(mass, dtype=np.float64))
    limits = np.atleast_1d(np.asarray(limit, dtype=np.float64))
    if masses.ndim != 1 or limits.shape[-1] != masses.size:
        raise FitError(
            f"limits of shape {limits.shape} for masses of shape {masses.shape}, "
            "expected one limit for each mass on the last axis; transpose the limits."
        )
    above("limit in pb", limits[~np.isnan(limits)], 0, "give upper limits, nan where there is none")
    outside = ~((masses >= table.mass[0]) & (masses <= table.mass[-1]))
    if np.any(outside):
        raise FitError(
            f"a mass of {masses[outside][0]:g} GeV, expected {table.mass[0]:g} to {table.mass[-1]:g} GeV, "
            f"the range of '{table.source}'; add predictions there or leave the mass out."
        )
    unit = np.interp(np.log(masses), np.log(table.mass), np.log(table.sigma / table.coupling**2))
    return np.asarray(np.sqrt(limits / np.exp(unit)))
