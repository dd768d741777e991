"""Upper limits in CLs on the parameter of interest, for all masses of a scan at once.

The observed limit is the μ with CLs(μ) = 1 - level for q̃_μ. The expected ones need no data: with q_A(μ) of the background's Asimov
data set, band N is where √q_A(μ) = Φ⁻¹(1-(1-level)Φ(N)) + N. Both are roots, found by Chandrupatla's method for all masses and
bands together (`scipy.optimize.elementwise`); a grid would be off by its interpolation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import elementwise
from scipy.special import ndtr, ndtri

from trila.fits.asymptotics import BANDS, band_targets, observed_cls
from trila.fits.errors import FitError
from trila.fits.likelihood import Model, Observation
from trila.fits.minimise import Minimum
from trila.fits.profile import Profile, asimov, conditional, covariance, free_fit, free_parameters, profile

__all__ = ["ConditionalScan", "Crossings", "Limits", "best_fit_error", "crossings", "upper_limits"]

Array = NDArray[np.float64]
#: curve(mu, lane): values at parameters of interest of lanes, both of shape (N,); NaN where a fit failed.
Curve = Callable[[Array, Any], Array]

#: Of a root, relative.
_PRECISION = 1e-6
#: CLs at a limit may differ from 1 - level by this fraction.
_ROOT = 1e-4


class Limits(NamedTuple):
    """Limits of M alternatives, in units of the parameter of interest; NaN where no root was found.

    Attributes:
        observed: shape (M,).
        expected: at -2, -1, 0, 1, 2 standard deviations of the background, shape (M, 5).
        best_fit, sigma: estimate of the parameter of interest and its error from the Hessian, shape (M,).
        profile: the fits of the data.
        at_limit: fits of the data at the observed limit.
        verified: converged at the limit, and CLs there is what was asked for, for the observed limit and the bands, shape (M, 6);
            the observed one also with an estimate below the upper bound of the parameter of interest.
    """

    observed: Array
    expected: Array
    best_fit: Array
    sigma: Array
    profile: Profile
    at_limit: Minimum
    verified: NDArray[np.bool_]


class Crossings(NamedTuple):
    """Limits as roots: see `Limits`."""

    observed: Array
    expected: Array
    verified: NDArray[np.bool_]


def upper_limits(model: Model, *, level: float = 0.95) -> Limits:
    """Observed and expected upper limits.

    Args:
        model: with M alternatives.
        level: of confidence.

    Raises:
        FitError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise FitError(f"confidence level {level:g}, expected a value between 0 and 1, such as 0.95")
    fits = profile(model)
    best_fit, sigma = best_fit_error(model, fits)
    # with the parameter of interest below 0, q̃ compares with 0
    negative = fits.best.values[:, model.poi] < 0
    lowest = np.where(negative, fits.background.deviance, fits.best.deviance)
    # what follows from a fit that failed is NaN as well
    lowest = np.where(fits.best.converged, lowest, np.nan)
    background = np.where(fits.background.converged[:, np.newaxis], fits.background.values, np.nan)
    expectation = asimov(model, background, fits.which)
    flat = free_fit(model, expectation, fits.background.values, fits.which)
    width = best_fit_error(model, fits._replace(best=flat))[1]
    width = np.where(np.isfinite(width) & (width > 0), width, 1.0)

    masses = np.arange(fits.which.size)
    data_scan = ConditionalScan(fits, model, fits.observation, masses)
    asimov_scan = ConditionalScan(fits, model, expectation, masses)
    band_scan = ConditionalScan(fits, model, expectation, np.repeat(masses, BANDS.size))
    found = crossings(
        best_fit, width,
        lambda mu, lane: data_scan(mu, lane).deviance - lowest[lane],
        lambda mu, lane: asimov_scan(mu, lane).deviance,  # that of the Asimov data set's best fit is zero
        lambda mu, lane: band_scan(mu, lane).deviance,
        level=level,
    )  # fmt: skip
    at_limit = data_scan(found.observed, masses)
    verified = found.verified
    # an estimate that its upper bound holds back is not the best one, and what q̃ compares with is too high
    upper = np.broadcast_to(model.upper, (model.alternatives, model.start.size))[fits.which, model.poi]
    verified[:, 0] &= fits.best.values[:, model.poi] < upper
    return Limits(found.observed, found.expected, best_fit, sigma, fits, at_limit, verified)


def crossings(
    best_fit: Array, width: Array, data: Curve, asimov_data: Curve, bands: Curve, *, level: float
) -> Crossings:
    """Where CLs of M masses is what was asked for, from curves of -2 ln of the likelihood ratio with the best fit.

    Args:
        best_fit: of the data, below which q̃ is 0, shape (M,).
        width: about the error of the parameter of interest, above 0: where the search for roots begins.
        data, asimov_data: curves of the data and of the background's Asimov data set; lanes are masses.
        bands: that of the Asimov data set once more; lane 5 i + n is band n of mass i.
        level: of confidence.
    """
    targets = np.tile(band_targets(level), best_fit.size)

    def band(mu: Array, lane: Any) -> Array:
        return np.asarray(np.sqrt(np.maximum(bands(mu, lane), 0)) - targets[lane])

    def tail(mu: Array, lane: Any) -> Array:
        q = np.where(best_fit[lane] > mu, 0.0, data(mu, lane))
        values = observed_cls(q, asimov_data(mu, lane))
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(1 - level) - np.log(values.cls))

    expected = _roots(band, targets * np.repeat(width, BANDS.size))
    shift = np.clip(np.where(np.isfinite(best_fit), best_fit, 0.0) / width, -3, 30)
    observed = _roots(tail, (shift - ndtri((1 - level) * ndtr(shift))) * width)
    with np.errstate(invalid="ignore"):
        reached = np.column_stack(
            [
                np.abs(tail(observed, np.arange(observed.size))),
                np.abs(band(expected, np.arange(expected.size))).reshape(-1, BANDS.size),
            ]
        )
    return Crossings(observed, expected.reshape(-1, BANDS.size), reached < _ROOT)


def best_fit_error(model: Model, fits: Profile) -> tuple[Array, Array]:
    """Best-fit parameter of interest and its error, each of shape (M,); NaN where the fit failed."""
    spread, sound = covariance(fits.best, free_parameters(model, poi=True))
    good = fits.best.converged & sound
    value = np.where(fits.best.converged, fits.best.values[:, model.poi], np.nan)
    return value, np.where(good, np.sqrt(np.abs(spread[:, model.poi, model.poi])), np.nan)


class ConditionalScan:
    """Conditional fits of lanes, the better of one from where the last ended and one from the background; NaN where both failed.

    Two valleys of a likelihood may cross on the way: the last fit's is then no longer the deeper one.
    """

    def __init__(self, fits: Profile, model: Model, observation: Observation, rows: Any) -> None:
        self.model, self.observation, self.rows, self.which = model, observation, rows, fits.which
        self.background = fits.background.values[rows]
        self.values = np.array(self.background)

    def __call__(self, mu: Array, lane: Any) -> Minimum:
        row = np.tile(self.rows[lane], 2)
        data = Observation(self.observation.counts[row], self.observation.auxiliary[row])
        usable = np.tile(np.where(np.isfinite(mu), mu, 0.0), 2)
        start = np.concatenate([self.values[lane], self.background[lane]])
        both = conditional(self.model, data, usable, start, self.which[row])
        depth = np.where(both.converged, both.deviance, np.inf).reshape(2, -1)
        found = Minimum(*(x[np.argmin(depth, axis=0) * mu.size + np.arange(mu.size)] for x in both))
        good = found.converged & np.isfinite(mu)
        self.values[lane] = np.where(good[:, None], found.values, self.values[lane])
        return found._replace(deviance=np.where(good, found.deviance, np.nan))


def _roots(function: Curve, guess: Array) -> Array:
    """Where a rising function of each lane is zero, started near a guess above zero; NaN where there is no root."""
    lanes = np.arange(guess.size)
    first = np.maximum(guess, 1e-12)
    bracket = elementwise.bracket_root(
        function, 0.85 * first, 1.2 * first, xmin=0.0, args=(lanes,), maxiter=60
    )
    low, high = (np.where(bracket.success, x, np.nan) for x in bracket.bracket)
    roots = np.full(guess.shape, np.nan)
    good = np.flatnonzero(bracket.success)
    if good.size:
        found = elementwise.find_root(
            function,
            (low[good], high[good]),
            args=(lanes[good],),
            tolerances={"xrtol": _PRECISION, "fatol": 1e-7},
        )
        roots[good] = np.where(found.success, found.x, np.nan)
    return roots
