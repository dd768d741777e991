"""Trigger turn-on curves: a binomial likelihood fit of error functions, and the points where the trigger is efficient.

| you want | use |
| --- | --- |
| the fit of failed and passed entries in bins | `fit_turn_on` |
| where a trigger reaches 95%, 99% or 99.5% of its plateau | `point` |
| the curve | `trila.corrections.turnon_curve`, and `expected` averaged over bins |
| the first bin from which a trigger may be used, without a model | `trila.corrections.plateau` |

The model is

    ε(x) = ε_max [(1 - f) Φ((x - μ)/σ) + f Φ((x - μ₂)/σ₂)],   Φ(z) = ½ [1 + erf(z/√2)],

with one component (f = 0) unless the data ask for a second or third, as the OR of several seeds does, or a response with
tails. A bin's efficiency is the average of ε over the bin with the spectrum that its neighbours indicate: on a falling spectrum the value
at the centre is not that average, and the threshold would be biased by it.

Weighted entries enter with effective counts: sums of weights times Σw/Σw² of the surroundings. That of the bin itself
would depend on whether its heavy entries failed, and bias the curve. The covariance is that of the weighted estimator
(arXiv:1911.01303), which allows for weights that differ between failed and passed entries.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from trila.corrections.binomial import BinomialFit, deviances, maximise, merged_starts
from trila.corrections.turnon_curve import NAMES, POSITIONS, SIGMAS, averages, with_derivatives

__all__ = [
    "LEAST_ENTRIES",
    "NotFitted",
    "Point",
    "TurnOn",
    "expected",
    "fit_turn_on",
    "point",
]

Array = NDArray[np.float64]
Status = Literal["good", "poor fit", "step", "not converged"]

LEAST_ENTRIES = 10.0
"""Fewest effective entries that pass, and that fail, around a turn-on for a fit to mean something."""

_LARGEST = (0.5, 0.3)  # fractions of the second and third component: the first is the main one
_FURTHER = 0.001  # a component is taken if the likelihood ratio has a smaller p-value (three more parameters)
_POOR = 0.001  # a smaller p-value marks the fit
_NARROWEST = 0.05  # bin widths: a smaller σ cannot be told from none
_STEP = 0.3  # bin widths: below, σ and the place of μ within its bin cannot be told apart
_SURROUNDINGS = 200.0  # effective entries that an average weight is taken over
_CONVERGED = 1e-4  # of the log-likelihood
_MERGED = 5.0  # expected entries of both kinds from which a deviance follows χ²


class NotFitted(ValueError):
    """The entries do not allow a fit; the message says why."""


class TurnOn(NamedTuple):
    """A fitted turn-on curve; μ and σ in the unit of the bin edges.

    Attributes:
        names: of the parameters: mu, sigma, epsilon_max, then fraction, mu and sigma of a second and of a third component.
        values: of the parameters, shape (n,).
        covariance: shape (n, n); zero for a parameter that ended at a limit.
        at_limit: those parameters; epsilon_max where nothing fails on the plateau.
        deviance: twice the log-likelihood ratio to the data's own efficiencies, in bins merged to at least five expected
            entries that pass and five that fail; distributed as χ² with `ndof` if the model is true (weights are allowed for
            on average).
        ndof: merged bins minus parameters that are not at a limit.
        p_value: of the deviance; nan without degrees of freedom.
        low, high: range of the fit.
        status: "good"; "poor fit" if the p-value is below 0.001; "step" if the rise is narrower than the bins can show,
            where only the bin of the threshold is known; "not converged".
    """

    names: tuple[str, ...]
    values: Array
    covariance: Array
    at_limit: tuple[str, ...]
    deviance: float
    ndof: int
    p_value: float
    low: float
    high: float
    status: Status


class Point(NamedTuple):
    """Where ε reaches a fraction of ε_max, and its standard deviation."""

    value: float
    error: float


class _Bins(NamedTuple):
    """What the likelihood needs: effective counts, points and weights of the averages over the bins."""

    passed: Array
    total: Array
    x: Array
    weights: Array


def expected(values: ArrayLike, edges: ArrayLike, fit: TurnOn) -> Array:
    """The efficiency of the fit averaged over each bin.

    Args:
        values: sums of weights, shape (n, 2); the second axis is failed, passed. They give the spectrum within the bins.
        edges: shape (n + 1,).
        fit: the turn-on curve.

    Returns:
        Shape (n,).

    Raises:
        ValueError: shapes that do not fit, edges that do not increase.
    """
    contents, boundaries = _checked(values, edges)
    x, weights = averages(contents.sum(axis=1), boundaries)
    return np.asarray((with_derivatives(x, fit.values)[0] * weights).sum(axis=1))


def point(fit: TurnOn, level: float) -> Point:
    """Where ε reaches `level` · ε_max: for one component μ + √2 erf⁻¹(2 level - 1) σ.

    The error follows from the covariance of the parameters to first order. It does not include how well the model
    describes the turn-on.

    Args:
        fit: the turn-on curve.
        level: between 0 and 1, both excluded.

    Raises:
        ValueError: a level that is not inside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(
            f"level is {level}, expected a fraction of the plateau between 0 and 1, such as 0.99"
        )
    relative = fit.values.copy()
    relative[2] = 1.0
    centres, widths = relative[POSITIONS[: relative.size // 3]], relative[SIGMAS[: relative.size // 3]]
    x = optimize.brentq(
        lambda at: float(with_derivatives(np.float64(at), relative)[0]) - level,
        float((centres - 9.0 * widths).min()), float((centres + 9.0 * widths).max()), xtol=1e-12, rtol=1e-14,
    )  # fmt: skip
    gradient = with_derivatives(np.float64(x), relative)[1]
    gradient[2] = 0.0  # relative to the plateau
    # All components shift with x, so the slope is minus the derivative with respect to their positions.
    slope = -float(gradient[POSITIONS[: relative.size // 3]].sum())
    variance = max(float(gradient @ fit.covariance @ gradient), 0.0)
    return Point(float(x), float(np.sqrt(variance)) / slope)


def fit_turn_on(values: ArrayLike, variances: ArrayLike, edges: ArrayLike) -> TurnOn:
    """Fit the turn-on of a trigger.

    The fit begins where the efficiency starts to rise, 1.5 times as far below its middle as the tenth of the plateau, so
    that the few events that pass far below the threshold do not shape the curve above it; it ends with the last
    entries. A second, then a third component is taken if the likelihood ratio to the fit without it has a p-value below 0.1%.

    Args:
        values: sums of weights, shape (n, 2); the second axis is failed, passed.
        variances: sums of squared weights, shape (n, 2).
        edges: shape (n + 1,). Bins may be as fine as one likes: they need not hold many entries.

    Raises:
        NotFitted: too few entries, no rise, or no end of it.
        ValueError: shapes that do not fit, edges that do not increase.
    """
    contents, boundaries = _checked(values, edges)
    squares = np.asarray(variances, np.float64)
    if squares.shape != contents.shape:
        raise ValueError(
            f"variances have shape {squares.shape} and values {contents.shape}; give one for each"
        )
    sums = contents.sum(axis=1)
    scale = _scale(sums, squares.sum(axis=1))
    # Bins whose negative weights outweigh the others tell nothing.
    total = np.maximum(sums, 0.0) * scale
    ratio = np.clip(np.divide(contents[:, 1], sums, out=np.zeros_like(sums), where=total > 0), 0.0, 1.0)
    start, first = _start(ratio, total, boundaries)
    last = int(np.flatnonzero(total)[-1]) + 1
    x, weights = averages(sums, boundaries)
    chosen = np.arange(first, last)[total[first:last] > 0]
    bins = _Bins((ratio * total)[chosen], total[chosen], x[chosen], weights[chosen])
    failed, passed = float((bins.total - bins.passed).sum()), float(bins.passed.sum())
    if min(failed, passed) < LEAST_ENTRIES:
        raise NotFitted(
            f"too few entries: around the threshold {passed:.1f} passed and {failed:.1f} failed (effective counts), "
            f"expected at least {LEAST_ENTRIES:g} of both; add events"
        )
    weighted = None if np.array_equal(contents, squares) else (squares * scale[:, np.newaxis] ** 2)[chosen]
    low, high = float(boundaries[first]), float(boundaries[last])
    width = float(np.diff(boundaries)[first:last].min())
    lower = np.array([low, _NARROWEST * width, 1e-3])
    upper = np.array([high, high - low, 1.0])
    fit = _best(bins, [start, start * [1.0, 0.4, 1.0], start * [1.0, 2.5, 1.0]], lower, upper)
    # A further component narrower than the first would take single bins for a seed.
    narrowest = max(0.5 * fit.values[1], _NARROWEST * width)
    for largest in _LARGEST:
        lower = np.concatenate([lower, [0.0, low, narrowest]])
        upper = np.concatenate([upper, [largest, high, high - low]])
        more = _best(bins, _further_starts(fit.values), lower, upper)
        gain = max(fit.deviance - more.deviance, 0.0) / _errors(fit, bins, weighted)[1]
        if more.distance >= _CONVERGED or stats.chi2.sf(gain, 3) >= _FURTHER:
            break
        fit = more
    bin_width = float(np.diff(boundaries)[np.searchsorted(boundaries, fit.values[0], "right") - 1])
    return _described(fit, bins, weighted, bin_width, low, high)


def _checked(values: ArrayLike, edges: ArrayLike) -> tuple[Array, Array]:
    contents, boundaries = np.asarray(values, np.float64), np.asarray(edges, np.float64)
    if contents.ndim != 2 or contents.shape[1] != 2 or boundaries.shape != (contents.shape[0] + 1,):
        raise ValueError(
            f"values have shape {contents.shape} and edges {boundaries.shape}; expected (n, 2), failed and passed, and "
            "(n + 1,)"
        )
    if boundaries[0] < 0 or not np.all(np.diff(boundaries) > 0):
        raise ValueError(
            f"edges must increase from 0 or above, got {boundaries.tolist()}; use a pT or a mass"
        )
    return contents, boundaries


def _scale(sums: Array, squares: Array) -> Array:
    """Effective counts per sum of weights around each bin, shape (n,); one where nothing is weighted."""
    # The first group also takes the bins below it.
    starts = np.append(0, merged_starts(sums, squares, _SURROUNDINGS)[1:])
    weight, square = np.add.reduceat(sums, starts), np.add.reduceat(squares, starts)
    scale = np.divide(weight, square, out=np.zeros_like(weight), where=(weight > 0) & (square > 0))
    return np.repeat(scale, np.diff(np.append(starts, sums.size)))


def _start(ratio: Array, total: Array, edges: Array) -> tuple[Array, int]:
    """μ, σ and ε_max read off the efficiencies smoothed to a rising curve, and the first bin of the fit.

    Raises:
        NotFitted: no entries, or no rise among them.
    """
    used = np.flatnonzero(total > 0)
    if total.sum() < 2 * LEAST_ENTRIES:
        raise NotFitted(
            f"too few entries: {total.sum():.1f} effective ones, expected at least {2 * LEAST_ENTRIES:g}; add events"
        )
    smooth = optimize.isotonic_regression(ratio[used], weights=total[used]).x
    # The value that the last entries reach, not that of the very last one.
    top = smooth[np.flatnonzero(np.cumsum(total[used][::-1])[::-1] >= LEAST_ENTRIES)[-1]]
    if not top > 0:
        raise NotFitted("no turn-on: nothing passed; choose a lower threshold or add events at higher values")
    tenth, half, most = (used[np.argmax(smooth >= part * top)] for part in (0.1, 0.5, 0.9))
    if half == used[0]:
        raise NotFitted(
            f"no turn-on: already in the first bin, from {edges[half]:g}, the efficiency is {smooth[0]:.3f}, above half "
            f"of the plateau of {top:.3f}; the threshold is below the data"
        )
    centre = 0.5 * (edges[1:] + edges[:-1])
    width = float(edges[half + 1] - edges[half])
    sigma = max(float(centre[most] - centre[tenth]) / 2.563, 0.3 * width)
    reach = max(1.5 * float(centre[half] - centre[tenth]), 5.0 * width)
    first = max(int(np.searchsorted(edges, centre[half] - reach, "right")) - 1, int(used[0]))
    return np.array([float(centre[half]), sigma, float(top)]), first


def _further_starts(values: Array) -> list[Array]:
    """A further component, broader than the first: above, below, around, and far above."""
    mu, sigma = values[:2]
    return [
        np.concatenate([values, [fraction, mu + shift * sigma, stretch * sigma]])
        for fraction, shift, stretch in ((0.2, 2.0, 2.0), (0.2, -1.0, 2.0), (0.2, 0.5, 1.5), (0.03, 8.0, 5.0))
    ]


def _best(bins: _Bins, starts: Sequence[Array], lower: Array, upper: Array) -> BinomialFit:
    """The most likely of the fits from several starts."""

    def model(values: Array) -> tuple[Array, Array]:
        curve, derivatives = with_derivatives(bins.x, values)
        return (curve * bins.weights).sum(axis=-1), (derivatives * bins.weights).sum(axis=-1)

    fits = [maximise(bins.passed, bins.total, model, start, lower, upper) for start in starts]
    return min(fits, key=lambda fit: fit.deviance + (fit.distance >= _CONVERGED) * 1e-3)


def _errors(fit: BinomialFit, bins: _Bins, weighted: Array | None) -> tuple[Array, float]:
    """Covariance, and by how much weights make likelihood ratios larger than those of counts."""
    free = np.flatnonzero(fit.free)
    slopes = fit.derivatives[free]
    information = (slopes * (bins.total / (fit.efficiency * (1.0 - fit.efficiency)))) @ slopes.T
    inverse = np.linalg.pinv(information, 1e-14, True)
    dispersion = 1.0
    if weighted is not None:
        spread = weighted[:, 0] / (1.0 - fit.efficiency) ** 2 + weighted[:, 1] / fit.efficiency**2
        score = (slopes * spread) @ slopes.T
        dispersion = max(float(np.trace(inverse @ score)) / max(free.size, 1), 1.0)
        inverse = inverse @ score @ inverse
    covariance = np.zeros((fit.values.size, fit.values.size))
    covariance[np.ix_(free, free)] = inverse
    return covariance, dispersion


def _described(
    fit: BinomialFit, bins: _Bins, weighted: Array | None, bin_width: float, low: float, high: float
) -> TurnOn:
    """Covariance, goodness of fit and verdict.

    Args:
        fit: the maximum.
        bins: what was fitted.
        weighted: variances of the effective counts, failed and passed, where entries have weights.
        bin_width: at μ.
        low, high: range of the fit.
    """
    size = fit.values.size
    covariance, dispersion = _errors(fit, bins, weighted)
    step = bool(fit.values[1] < _STEP * bin_width)
    if step:
        # Anywhere in the bin, as a uniform distribution has it.
        covariance[:2], covariance[:, :2] = 0.0, 0.0
        covariance[[0, 1], [0, 1]] = bin_width**2 / 12.0
    rare = np.cumsum(bins.total * np.minimum(fit.efficiency, 1.0 - fit.efficiency))
    group = np.minimum((rare / _MERGED).astype(np.int64), max(int(rare[-1] / _MERGED) - 1, 0))
    passed, total, model = (
        np.asarray(np.bincount(group, counts), np.float64)
        for counts in (bins.passed, bins.total, bins.total * fit.efficiency)
    )
    filled = total > 0
    deviance = (
        float(deviances(passed[filled], total[filled], (model[filled] / total[filled])).sum()) / dispersion
    )
    ndof = int(np.count_nonzero(filled)) - int(np.count_nonzero(fit.free))
    p_value = float(stats.chi2.sf(deviance, ndof)) if ndof > 0 else float("nan")
    status: Status = "good"
    if fit.distance >= _CONVERGED:
        status = "not converged"
    elif step:
        status = "step"
    elif p_value < _POOR:
        status = "poor fit"
    names = NAMES[:size]
    at_limit = tuple(name for name, is_free in zip(names, fit.free, strict=True) if not is_free)
    return TurnOn(names, fit.values, covariance, at_limit, deviance, ndof, p_value, low, high, status)
