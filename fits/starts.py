"""Where fits of falling spectra begin: weighted linear least squares of a density or of its logarithm.

| the function | its start |
| --- | --- |
| linear in ln f | `LogLinearStart` |
| a polynomial, linear in f | `PolynomialStart` |
| an exponential times a polynomial | `ExpPolynomialStart`, a grid of the slope |
| the modified exponential | `ModExpStart`, a grid of its exponents |
| dijet times a polynomial | `PolyExtStart` |
| the user's own | `GivenStart` |

Each is called as start(mass, values, errors, domain) with measured events per GeV and their positive errors at masses
in GeV, all of shape (N,), and returns finite start values of shape (starts, P) where the density is positive at these
masses. All raise `FitError` where no value is above 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trila.fits.errors import FitError
from trila.fits.families import (
    Density,
    Domain,
    Linear,
    LogLinear,
    Terms,
    bernstein_terms,
    dijet_terms,
    exppoly,
    modexp,
    monomial_terms,
    polyext,
    powers,
)

__all__ = [
    "ExpPolynomialStart",
    "GivenStart",
    "LogLinearStart",
    "ModExpStart",
    "PolyExtStart",
    "PolynomialStart",
]

Array = NDArray[np.float64]

_LARGEST_LOG_NORM = 300.0
"""Of |ln p0|: beyond, p0 and the exponential that it multiplies leave the range of floats."""
_SLOPES = np.linspace(-8.0, 8.0, 65)
"""Of an exponential in t, about the slope of the logarithm."""
_EXPONENT, _EXPONENT_RANGE = 0.35, 12.0
"""Of x in the modified exponential: centre and ratio, from nearly a logarithm to a steep cut-off."""
_BEND, _BEND_RANGE = 2.0, 20.0
"""Of 1 - x in the modified exponential: centre and ratio."""
_GRID = np.linspace(-1.0, 1.0, 13)
_ZOOMS = (1.0, 0.2, 0.04)
"""Sizes of grids, each about the best point of the one before."""
_SMALLEST = 1e-9
"""Of the Bernstein coefficients of a positive polynomial, relative to the largest: rounding must not undo the sign."""
_COARSENESS = 0.3
"""How far ln f may be off at the points of the first grid, beside the errors of the data."""


@dataclass(frozen=True)
class LogLinearStart:
    """The fit of ln f = ln p0 + p1 terms[0] + ..., one row.

    In a narrow range the terms look alike, and noise gives them a norm that no float can hold: the last ones are then
    left at zero, until it can.
    """

    terms: Terms
    count: int

    def __call__(self, mass: Array, values: Array, errors: Array, domain: Domain) -> Array:
        logs, weights = _logarithms(values, errors)
        terms = self.terms(np, mass, domain, self.count - 1)
        basis = np.stack([np.ones_like(logs), *terms], axis=-1)
        row = np.zeros((1, self.count))
        for kept in range(self.count, 0, -1):
            solution = _solve(basis[:, :kept], logs, weights)
            if abs(solution[0]) <= _LARGEST_LOG_NORM:
                break
        row[0, :kept] = solution
        row[0, 0] = np.exp(row[0, 0])
        return row


@dataclass(frozen=True)
class PolynomialStart:
    """The fit of f = p0 terms[0] + p1 terms[1] + ..., one row; where it is not positive, the best that must be."""

    terms: Terms
    count: int

    def __call__(self, mass: Array, values: Array, errors: Array, domain: Domain) -> Array:
        _check_events(values)
        basis = np.stack(self.terms(np, mass, domain, self.count), axis=-1)
        free = _solve(basis, values, 1.0 / errors)
        bounded = _positive(self.terms, self.count, np.ones_like(mass), mass, values, errors, domain)
        return _usable(Linear(self.terms), [free, bounded], mass, domain)[:1]


@dataclass(frozen=True)
class ExpPolynomialStart:
    """The best polynomial on a grid of slopes, where it is positive, and the best that must be at one slope."""

    count: int

    def __call__(self, mass: Array, values: Array, errors: Array, domain: Domain) -> Array:
        logs, weights = _logarithms(values, errors)
        line = np.stack(monomial_terms(np, mass, domain, 2), axis=-1)
        slope = -_solve(line, logs, weights)[1]
        t = (mass - domain.low) / (domain.high - domain.low)
        terms = np.stack(monomial_terms(np, mass, domain, self.count - 1), axis=-1)
        slopes = slope + _SLOPES
        basis = np.exp(-slopes[:, np.newaxis] * t)[..., np.newaxis] * terms
        free = _solve(basis, values, 1.0 / errors)
        best = _best(basis, free, values, 1.0 / errors)
        bounded = _positive(monomial_terms, self.count - 1, np.exp(-slope * t), mass, values, errors, domain)
        rows = [np.insert(free[best], 1, slopes[best]), np.insert(bounded, 1, slope)]
        return _usable(exppoly, rows, mass, domain)


@dataclass(frozen=True)
class ModExpStart:
    """Fits of ln f on finer and finer grids of the exponents: the best with a positive and with a negative one of x."""

    count: int

    def __call__(self, mass: Array, values: Array, errors: Array, domain: Domain) -> Array:
        logs, weights = _logarithms(values, errors)
        x = mass / domain.sqrt_s
        rows = []
        for sign in (1.0, -1.0):
            exponent, bend = sign * _EXPONENT, _BEND
            for zoom in _ZOOMS:
                exponents = exponent * _EXPONENT_RANGE ** (zoom * _GRID)
                bends = bend * _BEND_RANGE ** (zoom * _GRID) if self.count > 3 else np.array([bend])
                grid = np.stack(np.meshgrid(exponents, bends), axis=-1).reshape(-1, 2)
                basis = self._basis(x, grid[:, :1], grid[:, 1:])
                # With the errors of many events alone, the valley of good fits is narrower than a coarse grid.
                softened = 1.0 / np.hypot(1.0 / weights, zoom * _COARSENESS)
                solutions = _solve(basis, logs, softened)
                solutions[np.abs(solutions[:, 0]) > _LARGEST_LOG_NORM] = 0.0
                best = _best(basis, solutions, logs, softened)
                exponent, bend = grid[best]
            rows.append(self._row(solutions[best], exponent, bend))
        return _usable(modexp, rows, mass, domain)

    def _basis(self, x: Array, exponent: Array, bend: Array) -> Array:
        """The terms of ln f, shape (grid, N, terms), for exponents of shape (grid, 1)."""
        falling, bent = x**exponent, (1.0 - x) ** bend
        one = np.ones_like(falling)
        terms = {
            3: [one, falling],
            4: [one, falling + bent],
            5: [one, falling, bent],
            6: [one, falling, bent, bent * x],
        }[self.count]
        return np.stack(terms, axis=-1)

    def _row(self, solution: Array, exponent: float, bend: float) -> Array:
        """The parameters in their order, of a solution of the terms above."""
        norm = np.exp(solution[0])
        if self.count == 6:
            slope = solution[3] / solution[2] if solution[2] else 0.0
            return np.array([norm, solution[1], exponent, solution[2], bend, slope])
        return np.array([norm, solution[1], exponent, *solution[2:], bend][: self.count])


@dataclass(frozen=True)
class PolyExtStart:
    """The dijet function alone, and with the polynomial that fits what it leaves."""

    count: int

    def __call__(self, mass: Array, values: Array, errors: Array, domain: Domain) -> Array:
        alone = LogLinearStart(dijet_terms, 4)(mass, values, errors, domain)[0]
        extra = self.count - 4
        dijet = LogLinear(dijet_terms)(mass, alone, domain)
        x = powers(mass / domain.sqrt_s, extra)
        basis = np.stack([dijet, *(dijet * power for power in x)], axis=-1)
        factor = _solve(basis, values, 1.0 / errors)
        rows = [np.append(alone, np.zeros(extra))]
        if factor[0] > 0:
            rows.append(np.concatenate([alone[:1] * factor[0], alone[1:], factor[1:] / factor[0]]))
        return _usable(polyext, rows, mass, domain)


@dataclass(frozen=True)
class GivenStart:
    """The start values of the user, and the same with a norm from the data where the density is proportional to p0.

    Raises:
        FitError: the density at these values is not positive and finite everywhere.
    """

    name: str
    density: Density
    values: tuple[float, ...]

    def __call__(self, mass: Array, values: Array, errors: Array, domain: Domain) -> Array:
        _check_events(values)
        row = np.array(self.values)
        with np.errstate(all="ignore"):
            density = np.asarray(self.density(mass, row, domain))
            doubled = np.asarray(self.density(mass, np.concatenate([2.0 * row[:1], row[1:]]), domain))
        if not np.all(np.isfinite(density) & (density > 0)):
            given = ", ".join(f"{value:g}" for value in row)
            worst = mass[np.argmin(np.isfinite(density) & (density > 0))]
            raise FitError(
                f"{self.name} at its start values ({given}) is not a positive number at {worst:g} GeV, expected one at "
                "every mass; give other start values."
            )
        rows = [row]
        if np.allclose(doubled, 2.0 * density, rtol=1e-9, atol=0.0):
            norm = _solve(density[:, np.newaxis], values, 1.0 / errors)
            rows.append(np.concatenate([row[:1] * norm, row[1:]]))
        return _usable(self.density, rows, mass, domain)


def _check_events(values: Array) -> None:
    if not np.any(values > 0):
        raise FitError(
            f"{values.size} bins without events, expected events in some; choose a range that holds some of the "
            "spectrum."
        )


def _logarithms(values: Array, errors: Array) -> tuple[Array, Array]:
    """Logarithms of the values, and their inverse errors.

    A bin without events stands with half its error: left out, nothing would hold the curve down there.
    """
    _check_events(values)
    filled = np.where(values > 0, values, errors / 2)
    return np.log(filled), filled / errors


def _solve(basis: Array, target: Array, weights: Array) -> Array:
    """Weighted least squares: basis of shape (..., N, K), target and weights (N,), solution (..., K).

    The shortest solution where there are fewer points than terms.
    """
    weighted = basis * weights[:, np.newaxis]
    scale = np.linalg.norm(weighted, axis=-2, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0)
    solution: Array = np.linalg.pinv(weighted / scale) @ (target * weights) / scale[..., 0, :]
    return solution


def _best(basis: Array, solutions: Array, target: Array, weights: Array) -> int:
    """Which of the solutions, of shape (grid, K), has the smallest sum of squares."""
    residuals = (np.einsum("gnk,gk->gn", basis, solutions) - target) * weights
    return int(np.argmin(np.sum(residuals**2, axis=-1)))


def _positive(
    terms: Terms, count: int, factor: Array, mass: Array, values: Array, errors: Array, domain: Domain
) -> Array:
    """The polynomial times a factor that fits best among those whose Bernstein coefficients are not negative.

    Such a polynomial is positive in all of the range.
    """
    from scipy.optimize import nnls

    basis = factor[:, np.newaxis] * np.stack(bernstein_terms(np, mass, domain, count), axis=-1)
    weighted = basis / errors[:, np.newaxis]
    scale = np.linalg.norm(weighted, axis=0)
    coefficients = nnls(weighted / scale, np.maximum(values, 0.0) / errors)[0] / scale
    coefficients = np.maximum(coefficients, _SMALLEST * np.max(coefficients))
    points = np.linspace(domain.low, domain.high, count)
    curve = np.stack(bernstein_terms(np, points, domain, count), axis=-1) @ coefficients
    solution: Array = np.linalg.solve(np.stack(terms(np, points, domain, count), axis=-1), curve)
    return solution


def _usable(density: Density, rows: list[Array], mass: Array, domain: Domain) -> Array:
    """Those of the rows whose density is positive and finite at all masses."""
    with np.errstate(all="ignore"):
        curves = np.stack([np.asarray(density(mass, row, domain)) for row in rows])
    return np.stack(rows)[np.all(np.isfinite(curves) & (curves > 0), axis=-1)]
