"""Jet resolution: its measurement from dijet asymmetries, and its parametrisation in transverse momentum.

What to use when:

* widths of dijet asymmetries in slices of alpha, and the same of particle jets: `asymmetry_resolution`;
* pairwise variances of three independent measurements of the same jets: `three_way`;
* a resolution at several transverse momenta, to be a function: `fit_resolution`, then `resolution`.

Where a particle-level jet is matched to the reconstructed one, the resolution is the width of their response over
its mean (`trila.corrections.core_fits`); none of this is needed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

__all__ = [
    "AsymmetryResolution",
    "Resolution",
    "asymmetry_resolution",
    "fit_resolution",
    "resolution",
    "three_way",
]

Array = NDArray[np.float64]


class Resolution(NamedTuple):
    """Noise, stochastic and constant terms of a resolution.

    Attributes:
        n: noise term, GeV; negative where the resolution rises less at low transverse momentum than the other
            terms say.
        s: stochastic term, square root of GeV.
        c: constant term.
        covariance: of (n, s, c), shape (3, 3). A term that the fit left at its bound 0 has zeros.
        chi2: at the minimum.
        ndof: points minus terms that are not at their bound.
    """

    n: float
    s: float
    c: float
    covariance: Array
    chi2: float
    ndof: int


class AsymmetryResolution(NamedTuple):
    """Relative resolutions from dijet asymmetries.

    Attributes:
        resolution: of one jet; nan where the asymmetry is no wider than that of particle jets.
        error: its statistical error.
    """

    resolution: Array
    error: Array


def resolution(pt: ArrayLike, n: ArrayLike, s: ArrayLike, c: ArrayLike) -> Array:
    """Relative resolution sqrt(sgn(n) n²/pt² + s²/pt + c²) (CMS, arXiv:1607.03663, section 8).

    Args:
        pt: Transverse momentum, GeV, above 0.
        n: Noise term, GeV. A negative one is subtracted.
        s: Stochastic term, square root of GeV.
        c: Constant term.

    Returns:
        In the shape that the arguments broadcast to; nan where a negative noise term exceeds the others.

    Raises:
        ValueError: If a transverse momentum is not above 0.

    Example:
        >>> round(float(resolution(100.0, 3.0, 0.8, 0.05)), 6)
        0.098995
    """
    momentum = _positive("pt", pt)
    n, s, c = (np.asarray(term, dtype=np.float64) for term in (n, s, c))
    squared = n * np.abs(n) / momentum**2 + s**2 / momentum + c**2
    return np.sqrt(squared, out=np.full_like(squared, np.nan), where=squared >= 0)


def fit_resolution(pt: ArrayLike, resolution: ArrayLike, error: ArrayLike) -> Resolution:
    """Fit noise, stochastic and constant term to measured resolutions, by weighted least squares.

    The stochastic and the constant term are not negative: one that would be is 0, its bound. The fit is done in the
    squares of the terms, in which the function is nearly linear; the covariance is that of the terms themselves. The
    error of a term near 0 is therefore large, but that of the function, which holds the squares, is not.

    Args:
        pt: Transverse momentum of each point, GeV, shape (m,).
        resolution: Measured relative resolution, shape (m,).
        error: Its statistical error, shape (m,). Points with a nan or an infinite value in one of the three are left
            out.

    Raises:
        ValueError: If the shapes differ, a value is not above 0, or fewer than three different transverse momenta are
            left.

    Example:
        >>> pt = np.array([30.0, 60.0, 120.0, 300.0, 1000.0])
        >>> measured = np.sqrt((3.0 / pt) ** 2 + 0.64 / pt + 0.05**2)
        >>> fit = fit_resolution(pt, measured, 0.01 * measured)
        >>> round(fit.n, 6), round(fit.s, 6), round(fit.c, 6), fit.ndof
        (3.0, 0.8, 0.05, 2)
    """
    momentum, measured, sigma = (np.asarray(array, dtype=np.float64) for array in (pt, resolution, error))
    if not momentum.shape == measured.shape == sigma.shape or momentum.ndim != 1:
        raise ValueError(
            f"pt, resolution and error have shapes {momentum.shape}, {measured.shape} and {sigma.shape}; "
            "give one value of each for each point"
        )
    points = np.isfinite(momentum) & np.isfinite(measured) & np.isfinite(sigma)
    momentum = _positive("pt", momentum[points])
    measured = _positive("resolution", measured[points])
    sigma = _positive("error", sigma[points])
    different = np.unique(momentum).size
    if different < 3:
        raise ValueError(
            f"{different} different transverse momenta with finite values, but three terms to fit; "
            "give at least three, or merge fewer bins"
        )
    design = np.stack([momentum**-2, 1 / momentum, np.ones_like(momentum)], axis=1)

    free = [0, 1, 2]
    squares, covariance, chi2 = _fit_squares(design, measured, sigma)
    if np.any(squares[1:] < 0):
        fits = [(kept, *_fit_squares(design[:, kept], measured, sigma)) for kept in ([0, 1], [0, 2], [0])]
        allowed = [fit for fit in fits if np.all(fit[1][1:] >= 0)]
        free, squares, covariance, chi2 = min(allowed, key=lambda fit: fit[3])
    terms = np.zeros(3)
    terms[free] = np.sign(squares) * np.sqrt(np.abs(squares))
    to_terms = 1 / (2 * np.abs(terms[free]))
    full = np.zeros((3, 3))
    full[np.ix_(free, free)] = to_terms[:, np.newaxis] * covariance * to_terms
    n, s, c = terms.tolist()
    return Resolution(n, s, c, full, chi2, momentum.size - len(free))


def _fit_squares(design: Array, measured: Array, sigma: Array) -> tuple[Array, Array, float]:
    """Fit sqrt(design @ squares) to the measured values; squares, their covariance and chi-squared."""
    # Linear in the squares: where to start.
    weight = 1 / (2 * measured * sigma)
    start = np.linalg.lstsq(design * weight[:, np.newaxis], measured**2 * weight, rcond=None)[0]

    def residuals(squares: Array) -> Array:
        total = design @ squares
        return np.asarray((np.sign(total) * np.sqrt(np.abs(total)) - measured) / sigma)

    fit = optimize.least_squares(residuals, start, method="lm", x_scale="jac")
    return fit.x, np.linalg.inv(fit.jac.T @ fit.jac), 2 * float(fit.cost)


def asymmetry_resolution(
    alpha: ArrayLike,
    width: ArrayLike,
    error: ArrayLike,
    particle_width: ArrayLike,
    particle_error: ArrayLike,
) -> AsymmetryResolution:
    """Relative resolution of one jet from the asymmetries of two jets in the same region of eta.

    With A = (pt1 - pt2) / (pt1 + pt2) of two jets with the same resolution, sigma(pt)/pt = sqrt(2) sigma(A). Radiation
    adds to sigma(A) in quadrature and in proportion to alpha, so sigma(A)² is extrapolated to alpha = 0 along a line in
    alpha². What then remains of the asymmetry of particle jets is subtracted in quadrature (CMS, arXiv:1607.03663,
    section 8).

    The slices of alpha must be disjoint: then their errors are independent. Samples with alpha below a sequence of cuts
    share their events, and would give an error that is too small.

    Args:
        alpha: Root mean square of alpha in each slice, shape (m,), or (..., m) as the widths.
        width: Width of the asymmetry of reconstructed jets in each slice, shape (..., m).
        error: Its statistical error, same shape. A slice with a nan or an infinite value is left out.
        particle_width: The width for particle jets, same shape.
        particle_error: Its statistical error, same shape.

    Returns:
        Shape (...); nan where fewer than two slices are left.

    Raises:
        ValueError: If the shapes do not fit, there are fewer than two slices, or an error is not above 0.

    Example:
        >>> alpha = np.array([0.05, 0.15, 0.25])
        >>> particle = np.sqrt(0.02**2 + (0.3 * alpha) ** 2)
        >>> measured = np.sqrt(0.1**2 / 2 + 0.02**2 + (0.4 * alpha) ** 2)
        >>> error = np.full(3, 0.001)
        >>> asymmetry_resolution(alpha, measured, error, particle, error).resolution.round(6).item()
        0.1
    """
    try:
        x, *pairs = np.broadcast_arrays(
            *(np.asarray(a, dtype=np.float64) for a in (alpha, width, error, particle_width, particle_error))
        )
    except ValueError:
        x = np.empty(0)
    if x.ndim == 0 or x.shape[-1] < 2:
        shapes = [np.shape(array) for array in (alpha, width, error, particle_width, particle_error)]
        raise ValueError(
            f"alpha, width, error, particle_width and particle_error have shapes {', '.join(map(str, shapes))}; "
            "give one value of each for each slice of alpha, the last axis, and at least two slices"
        )
    squared, variance = _at_zero(x, pairs[0], pairs[1])
    particle, particle_variance = _at_zero(x, pairs[2], pairs[3])
    square = 2 * (squared - particle)
    result = np.sqrt(square, out=np.full_like(square, np.nan), where=square > 0)
    return AsymmetryResolution(result, np.asarray(np.sqrt(variance + particle_variance) / result))


def _at_zero(alpha: Array, width: Array, error: Array) -> tuple[Array, Array]:
    """Squared width at alpha = 0 and its variance, from a weighted line in alpha² along the last axis."""
    used = np.isfinite(alpha) & np.isfinite(width) & np.isfinite(error)
    if np.any(used & ~((error > 0) & (width > 0))):
        raise ValueError(
            "a width or an error of an asymmetry is not above 0; give nan for a slice that could not be measured"
        )
    weight = np.divide(1.0, (2 * width * error) ** 2, out=np.zeros_like(width), where=used)
    x, y = (np.where(used, array**2, 0.0) for array in (alpha, width))
    w, wx, wy, wxx, wxy = ((weight * term).sum(axis=-1) for term in (np.ones_like(x), x, y, x * x, x * y))
    determinant = w * wxx - wx**2
    # Slices at one alpha give no line: a determinant of rounding errors.
    line = determinant > 1e-12 * w * wxx
    value, variance = (
        np.divide(term, determinant, out=np.full_like(w, np.nan), where=line)
        for term in (wxx * wy - wx * wxy, wxx)
    )
    return value, variance


def three_way(v_hg: ArrayLike, v_ho: ArrayLike, v_og: ArrayLike) -> Array:
    """Resolution of h from the variances of the relative differences of three measurements h, o and g.

    sqrt((V_hg + V_ho - V_og) / 2), if the errors of all three are independent (Gray and Allan, 28th Symposium on
    Frequency Control (1974) 243). Those of an HLT jet and of the offline jet from the same calorimeter are not: use a
    jet elsewhere in the event, or the particle jet, as the others.

    Args:
        v_hg: Variance of (h - g)/g, any shape.
        v_ho: Variance of (h - o)/g.
        v_og: Variance of (o - g)/g.

    Returns:
        Standard deviation of h/g; nan where the combination is negative.

    Example:
        >>> three_way(0.1**2, 0.1**2 + 0.05**2, 0.05**2).round(6).item()
        0.1
    """
    hg, ho, og = (np.asarray(variance, dtype=np.float64) for variance in (v_hg, v_ho, v_og))
    squared = np.asarray(0.5 * (hg + ho - og))
    return np.sqrt(squared, out=np.full_like(squared, np.nan), where=squared >= 0)


def _positive(name: str, values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if not np.all(array > 0):
        worst = array[~(array > 0)].ravel()[0]
        raise ValueError(f"{name} contains {worst:g}; every value must be above 0 (momenta in GeV)")
    return array
