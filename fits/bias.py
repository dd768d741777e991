"""Tests of a search on pseudo-data with a known signal: does its fit find what was put in, and do its limits hold?

| the question | use |
| --- | --- |
| which signal does a wrong background function make up? | `spurious_signal`, without toys |
| does an injected signal come back, with the right error? | `injection` |
| do upper limits exclude what is there too often? | `coverage` |

The truth is any function fitted to the data, by default the search's own: another one tests the choice of the function. The
search is made anew for the expectation of the truth, as an analysis would of such data. Signals are injected in units of their
expected error, which is that in the truth's Asimov data set. For one mass all strengths share random numbers, so that what
changes with the strength is not hidden by fluctuations.

Usual goals are a spurious signal below 0.2 of its error (ATLAS, ATL-PHYS-PUB-2020-028), pulls with a mean within ±0.2 and a
width of 0.9 to 1.1, and at least 94% of 95% limits above the signal; of a weak signal nearly all are, as is the purpose of CLs
(Read, J. Phys. G 28 (2002) 2693).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from trila.fits.asymptotics import observed_cls
from trila.fits.background import BackgroundFit, fit_background
from trila.fits.checks import above, at_least, inside
from trila.fits.errors import FitError
from trila.fits.likelihood import Model, Observation
from trila.fits.limits import best_fit_error
from trila.fits.profile import Profile, asimov, conditional, profile
from trila.fits.search import Search, search
from trila.fits.toys import Seed, model_toys

__all__ = ["Coverage", "Injection", "SpuriousSignal", "coverage", "injection", "spurious_signal"]

Array = NDArray[np.float64]

#: Probability in each tail of the interval quoted as one standard deviation.
_TAIL = 0.15865525393145707
#: For a width.
_FEWEST = 2


class SpuriousSignal(NamedTuple):
    """Signal fitted where there is none, at M masses; NaN where the fit failed.

    Attributes:
        masses: GeV, shape (M,).
        spurious: events, shape (M,).
        sigma: statistical error of the signal in the same fit, events, shape (M,).
        ratio: of the two, shape (M,).
    """

    masses: Array
    spurious: Array
    sigma: Array
    ratio: Array


class Injection(NamedTuple):
    """Fits of T toys with a signal, at M masses and K strengths. Failed toys are left out of means, which are NaN without any.

    Attributes:
        masses: GeV, shape (M,).
        strengths: of the signal in expected errors, shape (K,).
        injected: events, shape (M, K).
        fitted, fitted_error: mean of the fitted signals and its error, events, shape (M, K).
        mean_pull, mean_pull_error: of (fitted - injected)/error, shape (M, K).
        width, width_error: standard deviation of these, shape (M, K).
        slope, slope_error, offset, offset_error: of fitted = offset + slope · injected in expected errors, the mean of a line through
            the strengths of each toy, shape (M,); NaN with one strength.
        failed: toys whose fit did not converge or has no error, shape (M, K).
        at_bound: other toys whose signal is at its lower bound, where bins would be empty, shape (M, K). They count in all means.
        pulls: NaN for failed toys, shape (M, K, T).
    """

    masses: Array
    strengths: Array
    injected: Array
    fitted: Array
    fitted_error: Array
    mean_pull: Array
    mean_pull_error: Array
    width: Array
    width_error: Array
    slope: Array
    slope_error: Array
    offset: Array
    offset_error: Array
    failed: NDArray[np.int64]
    at_bound: NDArray[np.int64]
    pulls: Array


class Coverage(NamedTuple):
    """How often limits are above the injected signal, at M masses and K strengths.

    Attributes:
        masses: GeV, shape (M,).
        strengths: of the signal in expected errors, shape (K,).
        injected: events, shape (M, K).
        covered: share of the toys, shape (M, K). Failed ones do not count as covered.
        low, high: Clopper-Pearson interval of 68.3%, shape (M, K).
        failed: toys with a fit that did not converge, shape (M, K).
        toys: number for each mass and strength.
        level: of confidence.
    """

    masses: Array
    strengths: Array
    injected: Array
    covered: Array
    low: Array
    high: Array
    failed: NDArray[np.int64]
    toys: int
    level: float


def spurious_signal(found: Search, truth: BackgroundFit) -> SpuriousSignal:
    """Fit signal and background to the expectation of another background.

    Nuisance parameters are held: they would take part of the spurious signal, and their errors are not statistical.

    Args:
        found: with the function to test.
        truth: of another function, fitted to the same windows.

    Raises:
        FitError: a fit that failed, or one of other windows.
    """
    tested = _on_expectation(found, truth)
    model = tested.model
    best, sigma = _estimate(
        tested._replace(model=model._replace(fixed=model.fixed | (model.tensors.normal > 0)))
    )
    return SpuriousSignal(tested.templates.masses, best, sigma, best / sigma)


def injection(
    found: Search, *, strengths: Sequence[float] = (0.0, 1.0, 2.0, 3.0, 5.0), toys: int = 1000, seed: Seed = 0,
    truth: BackgroundFit | None = None,
) -> Injection:  # fmt: skip
    """Fit toys with a signal of known size.

    Args:
        found: the search to test; its fits are in its form.
        strengths: of the signal in expected errors, at least 0, shape (K,).
        toys: for each mass and strength.
        seed: of the toys.
        truth: background of the toys, by default that of the search.

    Raises:
        FitError: fewer than two toys, no strength or a negative one, and as `spurious_signal`.
    """
    steps = at_least("the strength of a signal in its errors", _listed(strengths), 0, "give 0 or more")
    if toys < _FEWEST:
        raise FitError(f"{toys} toys, expected at least {_FEWEST} for a width; give a number such as 1000")
    background = found.fit if truth is None else truth
    tested, source = _on_expectation(found, background), search(background, found.templates)
    expected = _estimate(tested)[1][:, None]
    injected = expected * steps
    fitted, error = (np.full((*injected.shape, toys), np.nan) for _ in range(2))
    at_bound = np.zeros(injected.shape, dtype=np.int64)
    # one point after the other: each is many fits already, and all together would not fit into memory
    for i, k in np.ndindex(injected.shape):
        fits = _fits(tested, source, i, float(injected[i, k]), toys, seed)
        fitted[i, k], error[i, k] = best_fit_error(tested.model, fits)
        lowest = tested.model.lower[i, tested.model.poi]
        at_bound[i, k] = np.sum(np.isfinite(error[i, k]) & (fitted[i, k] <= lowest))
    unit = tested.unit[:, None, None]
    fitted, error = fitted * unit, error * unit
    pulls = (fitted - injected[..., None]) / error
    good = np.isfinite(pulls)
    mean, mean_error, _ = _moments(np.where(good, fitted, np.nan))
    mean_pull, mean_pull_error, width = _moments(pulls)
    number = good.sum(axis=-1)
    slopes, offsets = _lines(steps, np.where(good, fitted / expected[..., None], np.nan))
    return Injection(
        tested.templates.masses, steps, injected, mean, mean_error, mean_pull, mean_pull_error, width,
        width / np.sqrt(2 * np.maximum(number - 1, 1)), *_moments(slopes)[:2], *_moments(offsets)[:2], toys - number, at_bound, pulls,
    )  # fmt: skip


def coverage(
    found: Search, *, strengths: Sequence[float] = (1.0, 2.0, 3.0, 5.0), toys: int = 1000, seed: Seed = 0, level: float = 0.95,
    truth: BackgroundFit | None = None,
) -> Coverage:  # fmt: skip
    """How often the observed limits of `upper_limits` are above the injected signal.

    The limit of a toy need not be found for that: it is above a signal where CLs of that signal is above 1 - level.

    Args:
        found: the search to test; its fits are in its form.
        strengths: of the signal in expected errors, above 0: no limit excludes a signal of 0. Shape (K,).
        toys: for each mass and strength.
        seed: of the toys.
        level: of confidence.
        truth: background of the toys, by default that of the search.

    Raises:
        FitError: no toy, no strength or one not above 0, a level outside (0, 1), and as `spurious_signal`.
    """
    steps = above("the strength of a signal in its errors", _listed(strengths), 0, "a limit covers 0 always")
    inside("the confidence level", level, "give 0.95 for 95%")
    background = found.fit if truth is None else truth
    tested, source = _on_expectation(found, background), search(background, found.templates)
    injected = _estimate(tested)[1][:, None] * steps
    covered, failed = (np.zeros(injected.shape, dtype=np.int64) for _ in range(2))
    for i, k in np.ndindex(injected.shape):
        fits = _fits(tested, source, i, float(injected[i, k]), toys, seed)
        cls = _cls(tested.model, fits, np.full(toys, injected[i, k] / tested.unit[i]))
        covered[i, k], failed[i, k] = np.sum(cls > 1 - level), np.sum(np.isnan(cls))
    low = np.where(covered > 0, special.betaincinv(np.maximum(covered, 1), toys - covered + 1, _TAIL), 0.0)
    missed = toys - covered
    high = np.where(missed > 0, special.betaincinv(covered + 1, np.maximum(missed, 1), 1 - _TAIL), 1.0)
    return Coverage(tested.templates.masses, steps, injected, covered / toys, low, high, failed, toys, level)


def _listed(strengths: Sequence[float]) -> Array:
    values = np.asarray(strengths, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise FitError(
            f"strengths of shape {values.shape}, expected a list of at least one, such as 1, 2 and 5"
        )
    return values


def _on_expectation(found: Search, truth: BackgroundFit) -> Search:
    """The search of the truth's Asimov data set: a linear form is one about the fit to that, not to other data."""
    ours, theirs = found.fit.windows, truth.windows
    if not (np.array_equal(ours.edges, theirs.edges) and np.array_equal(ours.weight, theirs.weight)):
        raise FitError(
            f"{truth.function.name} was fitted to {len(theirs.edges)} windows from {theirs.edges.min():g} to "
            f"{theirs.edges.max():g} GeV, {found.fit.function.name} to {len(ours.edges)} from {ours.edges.min():g} to "
            f"{ours.edges.max():g} GeV; expected the same bins of the same spectrum for both"
        )
    if np.isfinite(found.fit.prior).any():
        raise FitError(
            f"{found.fit.function.name} has a prior on its parameters, expected a function with free ones to fit to expectations; "
            "inject signals into spectra, and fit these"
        )
    expectation = fit_background(found.fit.function, ours._replace(counts=truth.prediction))
    return search(expectation, found.templates, form=found.form)


def _estimate(tested: Search) -> tuple[Array, Array]:
    """Best fit to a search's own data and its error, events, each of shape (M,)."""
    best, sigma = best_fit_error(tested.model, profile(tested.model))
    return best * tested.unit, sigma * tested.unit


def _fits(tested: Search, source: Search, mass: int, events: float, toys: int, seed: Seed) -> Profile:
    """Toys of one mass with a signal, and their fits; the same random numbers for any number of signal events."""
    truth = np.zeros(source.model.start.size)
    truth[source.model.poi] = events / source.unit[mass]
    words = (seed,) if isinstance(seed, int) else seed
    drawn = model_toys(source.model, truth, toys, (*words, mass), alternative=mass)
    # the two differ in the number of the background's parameters, which come last and were not measured elsewhere
    auxiliary = np.zeros((toys, tested.model.start.size))
    shared = auxiliary.shape[1] - len(tested.fit.function.parameters)
    auxiliary[:, :shared] = drawn.auxiliary[:, :shared]
    return profile(tested.model, Observation(drawn.counts, auxiliary), np.full(toys, mass))


def _cls(model: Model, fits: Profile, mu: Array) -> Array:
    """CLs of each data set at a value of the parameter of interest, as in `upper_limits`; NaN where a fit failed."""
    best, background = fits.best, fits.background
    held = conditional(model, fits.observation, mu, best.values, fits.which)
    expectation = asimov(model, background.values, fits.which)
    flat = conditional(model, expectation, mu, background.values, fits.which)
    # with the parameter of interest below 0, q̃ compares with 0
    lowest = np.where(best.values[:, model.poi] < 0, background.deviance, best.deviance)
    q = np.where(best.values[:, model.poi] > mu, 0.0, held.deviance - lowest)
    good = best.converged & background.converged & held.converged & flat.converged
    return np.where(good, observed_cls(q, flat.deviance).cls, np.nan)


def _moments(values: Array) -> tuple[Array, Array, Array]:
    """Mean, its error and the standard deviation over the last axis, without NaN."""
    good = np.isfinite(values)
    number = good.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(good, values, 0.0).sum(axis=-1) / number
        square = np.where(good, values - mean[..., None], 0.0) ** 2
        spread = np.sqrt(square.sum(axis=-1) / (number - 1))
        return mean, spread / np.sqrt(number), spread


def _lines(x: Array, y: Array) -> tuple[Array, Array]:
    """Slope and offset of the line through the strengths of each toy, (M, T); y of shape (M, K, T), NaN where it has one."""
    distance = x - x.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.einsum("k,mkt->mt", distance, y) / np.sum(distance**2)
    return slope, y.mean(axis=1) - slope * x.mean()
