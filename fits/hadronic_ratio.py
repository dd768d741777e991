"""R, the rate of e+e- to hadrons over that to massless muons, by which a dark photon decays to hadrons.

`hadronic_ratio(mass)` takes the built-in table, `hadronic_ratio(mass, table)` one of yours: an analysis near
ρ, ω, φ or the open-charm states should bring its own, fitted to the measurements there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.checks import at_least
from trila.fits.errors import FitError

__all__ = ["MEASURED", "RatioTable", "hadronic_ratio"]

Array = NDArray[np.float64]


class RatioTable(NamedTuple):
    """R at increasing masses, linear between them.

    Attributes:
        mass: GeV, shape (n,). The first is the threshold, below which R is 0.
        ratio: R, shape (n,).
    """

    mass: Array
    ratio: Array


_ROWS = np.array(
    [
        # From 2 m(π) over ρ and ω, which interfere.
        *[(0.27914, 0.0), (0.3, 0.02), (0.35, 0.1), (0.4, 0.19), (0.45, 0.32), (0.5, 0.47), (0.55, 0.79)],
        *[(0.575, 0.98), (0.6, 1.3), (0.62, 1.63), (0.64, 2.06), (0.66, 2.7), (0.68, 3.66), (0.7, 4.83)],
        *[(0.72, 6.27), (0.74, 7.85), (0.755, 8.75), (0.765, 9.25), (0.77, 9.9), (0.775, 12.0)],
        *[(0.777, 13.5), (0.779, 16.0), (0.782, 19.3), (0.7835, 18.2), (0.785, 15.5), (0.79, 9.1)],
        *[(0.795, 7.5), (0.8, 6.7), (0.81, 5.64), (0.82, 4.85), (0.835, 3.98), (0.85, 3.17), (0.87, 2.49)],
        *[(0.89, 1.95), (0.91, 1.6), (0.93, 1.33), (0.945, 1.14), (0.96, 1.07), (0.985, 0.97)],
        # φ.
        *[(0.995, 1.06), (1.0, 1.31), (1.0025, 1.32), (1.005, 1.58), (1.0075, 1.9), (1.01, 2.5)],
        *[(1.0125, 4.64), (1.0145, 8.2), (1.016, 14.2), (1.017, 22.1), (1.018, 35.8), (1.0185, 44.1)],
        *[(1.0195, 49.5), (1.0205, 39.2), (1.021, 32.4), (1.0215, 24.6), (1.022, 20.0), (1.0235, 11.3)],
        *[(1.025, 7.7), (1.0275, 4.5), (1.03, 3.35), (1.035, 2.1), (1.04, 1.63), (1.05, 1.24)],
        # Many pions and kaons, and the heavier ρ.
        *[(1.065, 1.03), (1.08, 0.97), (1.12, 0.87), (1.2, 0.93), (1.25, 1.03), (1.3, 1.18), (1.325, 1.22)],
        *[(1.35, 1.35), (1.4, 1.59), (1.45, 1.87), (1.5, 2.1), (1.6, 2.38), (1.66, 2.57), (1.75, 2.3)],
        # u, d and s quarks; J/ψ and ψ(2S) are left out.
        *[(1.86, 2.03), (1.92, 2.03), (2.0, 2.2), (2.3, 2.21), (3.0, 2.22), (3.72, 2.24)],
        # Open charm: ψ(3770), ψ(4040), ψ(4160), ψ(4415).
        *[(3.75, 2.9), (3.77, 3.6), (3.79, 2.6), (3.82, 2.35), (3.86, 2.45), (3.94, 2.95), (4.0, 3.35)],
        *[(4.03, 4.6), (4.1, 4.05), (4.17, 4.1), (4.2, 3.85), (4.25, 2.95), (4.3, 3.1), (4.38, 3.8)],
        *[(4.42, 4.0), (4.5, 3.6), (4.6, 3.45)],
        # Four quarks, then five; Υ and Z exchange are left out. The last values are 11/3 (1 + αs/π + ...).
        *[(5.0, 3.45), (7.0, 3.45), (7.5, 3.58), (10.5, 3.56), (11.1, 3.85), (70.0, 3.84)],
    ]
)

#: Local averages of the measurements that the Particle Data Group compiled (PTEP 2020, 083C01): rounded, and
#: within 6 % of them from 0.35 to 3.7 GeV, 12 % around open charm. From 11 GeV, QCD and the photon alone.
MEASURED = RatioTable(_ROWS[:, 0], _ROWS[:, 1])


def hadronic_ratio(mass: ArrayLike, table: RatioTable = MEASURED) -> Array:
    """R at given masses.

    Args:
        mass: GeV, any shape.
        table: what to interpolate.

    Returns:
        In the shape of `mass`; 0 below the first mass of the table.

    Raises:
        FitError: a mass is negative or beyond the table, or the table's masses do not increase or its ratios
        are
            negative.

    >>> hadronic_ratio([0.2, 2.15, 40.0]).round(2).tolist()
    [0.0, 2.2, 3.85]
    """
    masses = at_least("mass in GeV", mass, 0, "check the unit")
    if np.shape(table.mass) != np.shape(table.ratio) or np.ndim(table.mass) != 1 or np.size(table.mass) < 2:
        raise FitError(
            f"a table of R with {np.shape(table.mass)} masses and {np.shape(table.ratio)} values, "
            "expected one value for each of at least two masses; give both as lists of the same length."
        )
    if not np.all(np.diff(table.mass) > 0):
        raise FitError("the masses of a table of R do not increase; sort the table and drop repeated masses.")
    ratio = at_least("R", table.ratio, 0, "check the table")
    last = table.mass[-1]
    if np.any(masses > last):
        raise FitError(
            f"R at {masses.max():g} GeV, expected masses up to {last:g} GeV, the last of the table; "
            "extend the table. The built-in one ends where Z exchange has to be modelled too."
        )
    return np.interp(masses, table.mass, ratio, left=0.0)
