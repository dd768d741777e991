"""What an error of a calibration does to a mass spectrum, and whether it would look like a signal.

A mass scale that is wrong by ε(m), smooth or not, moves events along a falling spectrum dN/dm ~ m^-n and crowds or thins
them out where ε changes: with m → m (1 + ε(m)), to first order,

    Δ ln N(m) = (n - 1) ε(m) - dε/d ln m.

The second term is why wiggles matter more than shifts: one of height 0.1% and width 5% in ln m makes a bump of 1.5%, and so
is why trigger-level searches, with their many events, ask for calibrations that are smooth over several mass
resolutions (ATLAS, arXiv:1804.03496).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

__all__ = ["mass_distortion"]

_SMALLEST_GRID = 4  # points; a cubic needs as many


def mass_distortion(log_mass: ArrayLike, epsilon: ArrayLike, index: ArrayLike) -> NDArray[np.float64]:
    """Relative change of a mass spectrum by a relative change of the mass scale, to first order in ε and its derivative.

    The derivative is that of a cubic spline through the points, good to 0.1% of its largest value for wiggles that are
    four steps of the grid wide (one standard deviation).

    Args:
        log_mass: ln m of a grid, ascending, at least four points; shape (n,).
        epsilon: relative change of the mass there, shape (..., n). For two central jets back to back it is that of the pT of
            jets of m/2.
        index: n = -d ln(dN/dm) / d ln m of the spectrum, a number or shape (n,).

    Returns:
        Δ ln N, shape (..., n): positive where the change makes more events.

    Raises:
        ValueError: too few points, not ascending, or shapes that do not fit.

    A constant shift only moves the spectrum along:

    >>> mass_distortion([6.0, 6.5, 7.0, 7.5], [0.01] * 4, 6.0).round(6).tolist()
    [0.05, 0.05, 0.05, 0.05]
    """
    grid, values = np.asarray(log_mass, dtype=np.float64), np.asarray(epsilon, dtype=np.float64)
    if grid.ndim != 1 or grid.size < _SMALLEST_GRID or not np.all(np.diff(grid) > 0):
        raise ValueError(
            f"log_mass has shape {grid.shape}; expected one axis of {_SMALLEST_GRID} or more ascending numbers: sort them, "
            "or evaluate the correction on a finer grid"
        )
    if values.shape[-1:] != grid.shape:
        raise ValueError(
            f"epsilon has shape {values.shape} and log_mass {grid.shape}; the last axes must be of one length: evaluate "
            "epsilon on the points of log_mass"
        )
    slope = CubicSpline(grid, values, axis=-1)(grid, 1)
    return np.asarray((np.asarray(index, dtype=np.float64) - 1.0) * values - slope)
