"""A smooth response as a function of pT in one region of η, fitted to medians of cells.

The medians of tag-and-probe responses belong to bins of the *tag*'s pT, in which the probes are spread by tens of percent.
So the curve is not drawn through the medians at a mean pT of the probes. It is the curve whose average over the probes
of each cell gives the cell's median: with

    c(x) = P(x) / x,   x = P R(P),   ln R(P) = sum_j θ_j B_j(ln P),

a change of θ_j moves the logarithm of the median of c·h/o in cell k by -<B_j(ln P) / (1 + d ln R/d ln P)>_k, the average over
its probes. A least-squares fit with that matrix, repeated with the new curve, finds the θ at which corrected
jets have response one.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from trila.corrections.inversion import invert, is_monotone
from trila.corrections.splines import natural_basis, natural_slope, spread_knots

__all__ = ["Cells", "Curve", "choose_curve", "fit_curve", "unit_curve"]

Array = NDArray[np.float64]


class Curve(NamedTuple):
    """ln R as a natural cubic spline in ln P; constant outside of `low` to `high`.

    Attributes:
        knots: in ln P, shape (k,).
        values: coefficients of `natural_basis`, shape (k,).
        low, high: ln P between which the curve is known.
    """

    knots: Array
    values: Array
    low: float
    high: float

    def log_response(self, log_pt: ArrayLike) -> Array:
        """ln R at ln P."""
        return natural_basis(np.clip(log_pt, self.low, self.high), self.knots) @ self.values

    def slope(self, log_pt: ArrayLike) -> Array:
        """d ln R / d ln P at ln P; zero outside."""
        u = np.asarray(log_pt, dtype=np.float64)
        inside = (u >= self.low) & (u <= self.high)
        return np.where(inside, natural_slope(u, self.knots) @ self.values, 0.0)

    def reference(self, log_measured: ArrayLike) -> Array:
        """ln P of a jet measured at ln x; c = P/x."""
        x = np.asarray(log_measured, dtype=np.float64)
        ends = self.log_response(np.array([self.low, self.high]))
        inside = np.clip(x, self.low + ends[0], self.high + ends[1])
        return invert(inside, self.log_response, self.slope, (self.low, self.high)) + x - inside


class Cells(NamedTuple):
    """What is measured in the cells of one region, with the curve that the jets were corrected with.

    Attributes:
        log_median: logarithm of the median of corrected HLT over offline pT, shape (cells,).
        error: of it, shape (cells,).
        probes: distribution of ln P of the corrected probes in each cell, normalised, shape (cells, grid).
        grid: ln P at the middle of its bins, shape (grid,).
    """

    log_median: Array
    error: Array
    probes: Array
    grid: Array


def unit_curve(low: float, high: float) -> Curve:
    """Response one between two ln P."""
    return Curve(spread_knots(low, high, 1), np.zeros(1), low, high)


def _gain(cells: Cells, curve: Curve) -> Array:
    """Weight of each point of the grid in each cell, 1 / (1 + slope) included; shape (cells, grid)."""
    return np.asarray(cells.probes / (1.0 + curve.slope(cells.grid)))


def fit_curve(cells: Cells, current: Curve, knots: Array) -> tuple[Curve, float, Array]:
    """The curve with these knots that brings all medians to one, from where `current` left them.

    Args:
        cells: measured with `current` applied.
        current: the curve that corrected the jets.
        knots: of the new curve, in ln P.

    Returns:
        The curve; chi2 of the remaining medians; the matrix that turns changes of `log_median`, shape
        (cells,), into changes of the coefficients, shape (k, cells).
    """
    gain = _gain(cells, current)
    design = gain @ natural_basis(np.clip(cells.grid, current.low, current.high), knots)
    wanted = cells.log_median + gain @ current.log_response(cells.grid)
    whitened = design / cells.error[:, None]
    solver = np.linalg.pinv(whitened) / cells.error[None, :]
    values = solver @ wanted
    chi2 = float(np.sum(((wanted - design @ values) / cells.error) ** 2))
    return current._replace(knots=knots, values=values), chi2, solver


def choose_curve(
    cells: Cells, current: Curve, centres: tuple[float, float], largest: int, level: float = 0.05
) -> Curve:
    """The curve with as few knots as the data ask for.

    Knots are added while an F-test finds the improvement of chi2 significant; two more are tried before giving up, as a wave
    may need them both. A curve whose measured pT does not rise with the reference pT is not considered.

    Args:
        cells, current: as in `fit_curve`.
        centres: ln P of the first and last knot.
        largest: number of knots.
        level: of significance.
    """
    count = cells.log_median.size
    best, best_chi2, _ = fit_curve(cells, current, spread_knots(*centres, 1))
    for number in range(2, min(largest, count - 1) + 1):
        curve, chi2, _ = fit_curve(cells, current, spread_knots(*centres, number))
        if not is_monotone(curve.slope(cells.grid)):
            continue
        extra, left = number - best.knots.size, count - number
        if extra > 2:
            break
        improvement = (best_chi2 - chi2) / extra / max(chi2 / left, 1e-300)
        if special.fdtrc(extra, left, improvement) < level:
            best, best_chi2 = curve, chi2
    return best
