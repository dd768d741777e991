"""Closed formulas of a counting experiment: limits and significances.

| you have | use |
| --- | --- |
| few events, a known background, and want a limit | `cls_limit`, exact |
| expected signal and background, and want the median significance of a discovery | `asimov_significance` |
| counts in a signal and a control region, and want a significance | `z_bi` |

Below about ten events the asymptotic limits of `trila.fits.limits` are too low, by 14 % where three events
are expected and none is seen. `cls_limit` is exact.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from trila.fits.asymptotics import z_value
from trila.fits.checks import above, at_least, inside
from trila.fits.errors import FitError

__all__ = ["asimov_significance", "cls_limit", "z_bi"]

Array = NDArray[np.float64]


def cls_limit(observed: ArrayLike, background: ArrayLike, *, level: float = 0.95) -> Array:
    """Exact CLs upper limit on the signal in a count, with the background known.

    The limit s solves P(≤ n | s + b) / P(≤ n | b) = 1 - level (Read, J. Phys. G 28 (2002) 2693). P(≤ n | λ)
    is the regularised upper incomplete gamma function Q(n + 1, λ), whose inverse SciPy has, so nothing is
    searched for. It is also the Bayesian limit with a flat prior (Helene, Nucl. Instrum. Meth. 212 (1983)
    319).

    Args:
        observed: events, integers of at least 0, any shape.
        background: expected events without signal, broadcast with `observed`.
        level: confidence level.

    Returns:
        Events, in the shape to which the arguments broadcast.

    Raises:
        FitError: a count is not a whole number or is negative, a background is negative, the level is not a
            probability, or a count is so far below its background that P(≤ n | b) is no longer a
            floating-point number.

    >>> cls_limit([0, 3], [5.0, 3.0]).round(4).tolist()
    [2.9957, 5.3954]
    """
    n = at_least("observed events", observed, 0, "give counts")
    if not np.all(n == np.floor(n)):
        raise FitError(
            f"observed events contain {n[n != np.floor(n)].ravel()[0]:g}, expected whole numbers; "
            "give counts, without weights."
        )
    b = at_least("background", background, 0, "give expected events")
    inside("the confidence level", level, "give 0.95 for 95 %")
    n, b = np.broadcast_arrays(n, b)
    tail = (1 - level) * special.gammaincc(n + 1, b)
    # Below the smallest normal number the inverse has no digits left.
    lost = tail < np.finfo(np.float64).tiny
    if np.any(lost):
        raise FitError(
            f"{n[lost].ravel()[0]:g} events where {b[lost].ravel()[0]:g} are expected without signal: "
            "the probability is too small to compute; check the background."
        )
    return np.asarray(special.gammainccinv(n + 1, tail) - b)


def asimov_significance(signal: ArrayLike, background: ArrayLike, background_error: ArrayLike = 0.0) -> Array:
    """Median significance of a discovery in a count.

    Without error of the background, Z² = 2 [(s + b) ln(1 + s/b) - s] (arXiv:1007.1727, equation 97). With an
    error σ, the background is taken as measured by a Poisson count with that relative error, so with τ = b/σ²
    and the background b₀ = b + s/(1 + τ) that fits best without signal,

        Z² = 2 [(s + b) ln((s + b)/b₀) + τ b ln(b/b₀)]

    (Li, Ma, Astrophys. J. 272 (1983) 317, equation 17, at the expected counts). For s ≪ b both are
    s/sqrt(b + σ²).

    Args:
        signal: expected events, at least 0, any shape.
        background: expected events, above 0, broadcast with `signal`.
        background_error: standard deviation of the background, events, at least 0, broadcast with the others.

    Returns:
        Standard deviations, in the shape to which the arguments broadcast.

    Raises:
        FitError: a value is outside its range.

    >>> asimov_significance(10.0, 100.0, [0.0, 5.0]).round(4).tolist()
    [0.984, 0.8772]
    """
    s = at_least("signal", signal, 0, "give expected events")
    b = above("background", background, 0, "merge bins until some is expected")
    variance = at_least("background error", background_error, 0, "give a standard deviation") ** 2
    total = b + variance
    fitted = b + s * variance / total
    # The two deviances of the sum in a form that cancels to s²/(b + σ²) before any digit is lost, and in
    # which an error of 0 is nothing special.
    shape = b * _deviance(s * b / (total * fitted)) + variance * _deviance(-s * variance / (total * fitted))
    return np.asarray(s / total * np.sqrt(2 * b / fitted * shape))


def _deviance(x: Array) -> Array:
    """[(1 + x) ln(1 + x) - x] / x² for x ≥ -1; 1/2 at 0."""
    # The direct form loses the digits of 1/x at small x; the series is exact to 1e-16 up to 1e-3.
    small = np.abs(x) < 1e-3
    series = np.polynomial.polynomial.polyval(
        np.where(small, x, 0.0), [1 / 2, -1 / 6, 1 / 12, -1 / 20, 1 / 30, -1 / 42]
    )
    large = np.where(small, 1.0, x)
    return np.where(small, series, (special.xlog1py(1 + large, large) - large) / large**2)


def z_bi(on: ArrayLike, off: ArrayLike, tau: ArrayLike) -> Array:
    """Significance of a count in a signal region, with the background from a control region.

    p = I(1/(1 + τ); n_on, n_off + 1), the regularised incomplete beta function: the binomial probability that
    so large a part of all events falls in the signal region (Cousins, Linnemann, Tucker, physics/0702156). It
    does not claim too much at any count. A background b ± σ stands for τ = b/σ², n_off = b²/σ².

    Args:
        on: events in the signal region, at least 0, any shape.
        off: events in the control region, at least 0; not a whole number where a background ± error is
            restated.
        tau: expected background in the control region over that in the signal region, above 0.

    Returns:
        Standard deviations, one-sided, in the shape to which the arguments broadcast; -inf without events in
        the signal region, inf above 37, where the p-value is no longer a floating-point number.

    Raises:
        FitError: a value is outside its range.

    >>> z_bi(4, 5, 5.0).round(3).item()
    1.664
    """
    n_on = at_least("events in the signal region", on, 0, "give counts")
    n_off = at_least("events in the control region", off, 0, "give counts")
    ratio = above("tau", tau, 0, "give the background in the control region over that in the signal region")
    n_on, n_off, ratio = np.broadcast_arrays(n_on, n_off, ratio)
    p = np.where(n_on > 0, special.betainc(np.where(n_on > 0, n_on, 1.0), n_off + 1, 1 / (1 + ratio)), 1.0)
    return z_value(p)
