"""Upper limits in CLs from toys, where too few events are expected for the asymptotic ones of `limits.py`.

The statistic is q̃_μ (Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727, eq. (16)). Its distribution with signal comes from toys
drawn at the data's conditional best fit at μ, that without from toys at the one at 0, auxiliary measurements
included; CLs is the ratio of the shares of toys with a statistic at least that of the data (Read, J. Phys. G 28 (2002) 2693).
Expected values take the quantiles of the toys without signal for data.

The limit is the root of a random function. The same random numbers at each μ make it a smooth one of which the crossing can be
found; what other numbers would have given is its error, from the binomial errors of the shares and the slope of ln CLs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from trila.fits.asymptotics import BANDS
from trila.fits.checks import inside
from trila.fits.errors import FitError
from trila.fits.likelihood import Model, Observation
from trila.fits.limits import upper_limits
from trila.fits.minimise import Minimum
from trila.fits.profile import conditional, free_fit
from trila.fits.toys import Seed, model_toys

__all__ = ["ToyCLs", "ToyLimits", "toy_cls", "toy_limits"]

Array = NDArray[np.float64]

#: Equal data lead to equal statistics but for the tolerance of minima.
_TIE = 1e-5
#: A limit has been found when CLs is known this near to it, in errors of the limit.
_NEAR = 0.5
#: The slope at a limit is that between points at least this far from it, relative.
_APART = 0.2
#: Scans without a limit inside grow by this factor.
_GROWTH = 1.3
_ROUNDS = 12


class ToyCLs(NamedTuple):
    """CLs of one alternative at K values of the parameter of interest.

    Attributes:
        mu: ascending, shape (K,).
        observed, expected: CLs of the data, and at -2, -1, 0, 1, 2 standard deviations of the background, shapes (K,), (K, 5).
            A share without toys stands as that of half a toy.
        observed_error, expected_error: of ln CLs, from the number of toys.
        failed: toys whose fits failed, of the 2 K T drawn.
    """

    mu: Array
    observed: Array
    observed_error: Array
    expected: Array
    expected_error: Array
    failed: int


class ToyLimits(NamedTuple):
    """Limits of M alternatives, in units of the parameter of interest; NaN where none was found.

    Attributes:
        observed, expected: shapes (M,) and (M, 5), the bands as in `ToyCLs`.
        observed_error, expected_error: from the number of toys.
        toys: at each value of the parameter of interest, with and without signal.
        failed: toys whose fits failed, of all that were drawn for an alternative, shape (M,).
        drawn: how many that were, shape (M,).
        verified: CLs was computed within the error of the limit, for the observed limit and the bands, shape (M, 6).
    """

    observed: Array
    observed_error: Array
    expected: Array
    expected_error: Array
    toys: int
    failed: NDArray[np.int64]
    drawn: NDArray[np.int64]
    verified: NDArray[np.bool_]


def toy_cls(model: Model, mu: Array, toys: int, seed: Seed, *, alternative: int = 0) -> ToyCLs:
    """CLs at given values of the parameter of interest.

    A toy whose fit failed counts as beyond the data with signal and as not beyond it without: either raises CLs, so failures
    never exclude anything.

    Args:
        model: of a search.
        mu: above 0, ascending, shape (K,).
        toys: at each value, with and without signal.
        seed: equal ones give common random numbers at all values.
        alternative: of the model.

    Raises:
        FitError: no toy, or the fit of the data failed.
    """
    return _Hypotheses(model, toys, seed, alternative).cls(mu)


def toy_limits(model: Model, *, toys: int = 1000, seed: Seed = 0, level: float = 0.95) -> ToyLimits:
    """Observed and expected upper limits.

    The search begins at the asymptotic limits. All six limits share the values at which toys are drawn.

    Args:
        model: with M alternatives.
        toys: at each value of the parameter of interest, with and without signal.
        seed: the same for each alternative, whose errors are therefore alike.
        level: of confidence.

    Raises:
        FitError: no toy, or a level outside (0, 1).
    """
    inside("the confidence level", level, "give 0.95 for 95 %")
    if toys < 1:
        raise FitError(f"{toys} toys, expected at least 1; give a number such as 1000")
    guess = upper_limits(model, level=level)
    starts = np.column_stack([guess.observed, guess.expected])
    # one mass after the other: the toys of one are thousands of fits, and other masses need other signals
    found = [_limits(model, start, toys, seed, level, i) for i, start in enumerate(starts)]
    limit, error, verified = (np.array([getattr(x, name) for x in found]) for name in _Found._fields[:3])
    return ToyLimits(
        limit[:, 0], error[:, 0], limit[:, 1:], error[:, 1:], toys, np.array([x.failed for x in found]),
        np.array([x.drawn for x in found]), verified,
    )  # fmt: skip


class _Found(NamedTuple):
    """Limits of one alternative: observed and bands, each of shape (6,)."""

    limit: Array
    error: Array
    verified: NDArray[np.bool_]
    failed: int
    drawn: int


def _limits(model: Model, start: Array, toys: int, seed: Seed, level: float, alternative: int) -> _Found:
    lost = np.full(1 + BANDS.size, np.nan)
    begin = np.unique(start[np.isfinite(start) & (start > 0)])
    nothing = _Found(lost, lost, np.zeros(lost.size, dtype=bool), 0, 0)
    if not begin.size:
        return nothing
    try:
        hypotheses = _Hypotheses(model, toys, seed, alternative)
    except FitError:
        return nothing
    new = np.concatenate([begin[:1] / _GROWTH, begin, begin[-1:] * _GROWTH])
    curves: ToyCLs | None = None
    for _ in range(_ROUNDS):
        curves = _merged(curves, hypotheses.cls(new))
        limit, error, known = _crossings(curves, level)
        new = _wanted(curves, limit, known, level)
        if not new.size:
            break
    assert curves is not None
    return _Found(limit, error, known, curves.failed, 2 * toys * curves.mu.size)


def _crossings(curves: ToyCLs, level: float) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Where ln CLs falls to ln(1 - level) for the last time, its error, and whether a point nearby confirms it; shape (6,).

    NaN where it does not.
    """
    mu = curves.mu
    rows = np.log(np.column_stack([curves.observed, curves.expected]).T) - np.log(1 - level)
    errors = np.column_stack([curves.observed_error, curves.expected_error]).T
    limit, error = (np.full(len(rows), np.nan) for _ in range(2))
    known = np.zeros(len(rows), dtype=bool)
    for k, (y, sigma) in enumerate(zip(rows, errors, strict=True)):
        above = np.flatnonzero(y > 0)
        if not above.size or above[-1] == mu.size - 1:
            continue
        i = above[-1]
        limit[k] = mu[i] + (mu[i + 1] - mu[i]) * y[i] / (y[i] - y[i + 1])
        low = max(0, np.searchsorted(mu, limit[k] * (1 - _APART), side="right") - 1)
        high = min(mu.size - 1, np.searchsorted(mu, limit[k] * (1 + _APART)))
        nearest = np.argmin(np.abs(mu - limit[k]))
        slope = (y[low] - y[high]) / (mu[high] - mu[low])
        error[k] = sigma[nearest] / slope if slope > 0 else np.nan
        known[k] = abs(mu[nearest] - limit[k]) <= _NEAR * error[k]
    return limit, error, known


def _wanted(curves: ToyCLs, limit: Array, known: NDArray[np.bool_], level: float) -> Array:
    """Values of the parameter of interest that would tell more, ascending."""
    wanted = set(limit[np.isfinite(limit) & ~known])
    rows = np.column_stack([curves.observed, curves.expected])[:, np.isnan(limit)]
    if np.any(rows[-1] > 1 - level):
        wanted.add(curves.mu[-1] * _GROWTH)
    if np.any(np.all(rows <= 1 - level, axis=0)):
        wanted.add(curves.mu[0] / _GROWTH)
    return np.array(sorted(wanted - set(curves.mu)))


def _merged(one: ToyCLs | None, other: ToyCLs) -> ToyCLs:
    if one is None:
        return other
    order = np.argsort(np.concatenate([one.mu, other.mu]))

    def both(name: str) -> Array:
        return np.concatenate([getattr(one, name), getattr(other, name)])[order]

    return ToyCLs(
        both("mu"), both("observed"), both("observed_error"), both("expected"), both("expected_error"),
        one.failed + other.failed,
    )  # fmt: skip


class _Hypotheses:
    """The data and the toys without signal, which are the same for all values of the parameter of interest."""

    def __init__(self, model: Model, toys: int, seed: Seed, alternative: int) -> None:
        shape = (model.alternatives, model.start.size)
        lower = np.array(np.broadcast_to(model.lower, shape))
        # estimates below 0 compare with 0: q̃ is the q of fits bounded there
        lower[:, model.poi] = 0.0
        self.model, self.number, self.alternative = model._replace(lower=lower), toys, alternative
        words = (seed,) if isinstance(seed, int) else seed
        self.with_signal = (*words, 1)
        self.data = Observation(*(x[[alternative]] for x in model.observed()))
        start = np.broadcast_to(model.start, (1, model.start.size))
        self.background = conditional(self.model, self.data, np.zeros(1), start, self._which(1))
        self.best = free_fit(self.model, self.data, self.background.values, self._which(1))
        if not (self.background.converged[0] and self.best.converged[0]):
            raise FitError(
                f"the fit of the data of alternative {alternative} did not converge, expected a minimum to draw toys at; "
                "choose another mass, range or function"
            )
        truth = self.background.values[0]
        self.toys = model_toys(self.model, truth, toys, (*words, 0), alternative=alternative)
        self.toys_best = self._free(self.toys, truth)

    def cls(self, mu: Array) -> ToyCLs:
        """CLs at values of the parameter of interest."""
        observed, error, expected, errors, failed = zip(*(self._at(value) for value in mu), strict=True)
        return ToyCLs(
            np.asarray(mu, np.float64), np.array(observed), np.array(error), np.array(expected), np.array(errors), sum(failed)
        )  # fmt: skip

    def _at(self, mu: float) -> tuple[float, float, Array, Array, int]:
        there = conditional(self.model, self.data, np.array([mu]), self.background.values, self._which(1))
        observed = self._statistic(self.best, there, mu)[0]
        truth = there.values[0]
        signal = model_toys(self.model, truth, self.number, self.with_signal, alternative=self.alternative)
        best = self._free(signal, truth)
        with_signal = self._statistic(best, self._held(signal, mu, best), mu)
        without = self._statistic(self.toys_best, self._held(self.toys, mu, self.toys_best), mu)
        failed = int(np.isnan(with_signal).sum() + np.isnan(without).sum())
        with_signal = np.sort(np.where(np.isnan(with_signal), np.inf, with_signal))
        without = np.sort(np.where(np.isnan(without), -np.inf, without))
        # a fit of the data that failed at μ does not exclude it
        clsb, clb = (self._share(toys, np.nan_to_num(observed)) for toys in (with_signal, without))
        variance = (1 - clsb) / (clsb * self.number) + (1 - clb) / (clb * self.number)
        share = ndtr(BANDS)
        spread = np.sqrt(share * (1 - share) / self.number)
        here, down, up = (without[self._rank(share + x * spread)] for x in (0, -1, 1))
        tails = self._share(with_signal, here)
        # the quantile has an error as well: how far it moves the tail with signal
        moved = (np.log(self._share(with_signal, up)) - np.log(self._share(with_signal, down))) / 2
        expected = tails / self._share(without, here)
        error = np.sqrt((1 - tails) / (tails * self.number) + moved**2)
        return float(clsb / clb), float(np.sqrt(variance)), np.minimum(expected, 1.0), error, failed

    def _rank(self, share: Array) -> NDArray[np.int64]:
        """Index of the toy without signal, in ascending order, with this share of toys at or above it."""
        beyond = np.ceil(np.clip(share, 0.0, 1.0) * self.number - 1e-9).astype(np.int64)
        return self.number - np.clip(beyond, 1, self.number)

    def _share(self, toys: Array, statistic: Array) -> Array:
        """Of sorted toys at or above a statistic."""
        beyond = self.number - np.searchsorted(toys, statistic - _TIE)
        return np.asarray(np.maximum(beyond, 0.5) / self.number)

    def _free(self, toys: Observation, truth: Array) -> Minimum:
        start = np.broadcast_to(truth, toys.auxiliary.shape)
        return free_fit(self.model, toys, start, self._which(self.number))

    def _held(self, toys: Observation, mu: float, best: Minimum) -> Minimum:
        return conditional(self.model, toys, np.full(self.number, mu), best.values, self._which(self.number))

    def _statistic(self, best: Minimum, held: Minimum, mu: float) -> Array:
        """q̃_μ; NaN where a fit failed."""
        excess = np.maximum(held.deviance - best.deviance, 0.0)
        q = np.where(best.values[:, self.model.poi] > mu, 0.0, excess)
        return np.where(best.converged & held.converged, q, np.nan)

    def _which(self, number: int) -> NDArray[np.int64]:
        return np.full(number, self.alternative, dtype=np.int64)
