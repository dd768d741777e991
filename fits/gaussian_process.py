"""A Gaussian process as background: a smooth function with deviations that are correlated over a length, and otherwise free.

The deviation of the spectrum (events per GeV) from its mean function is normal with the covariance of M. Frate, K. Cranmer,
S. Kalia, A. Vandenberg-Rodes and D. Whiteson (arXiv:1709.05681),

    k(x, x') = A exp((d - (x + x'))/2a) √(2 l l'/(l² + l'²)) exp(-(x - x')²/(l² + l'²)),    l(x) = b x + c.

A signal is narrower than the length l: a floor on l keeps the background from taking it (`LENGTH_FLOOR`).

| you have | use |
| --- | --- |
| the fit of a mean function | `gaussian_process`; its `fit` goes into `search` as any other |
| hyper-parameters of your own, such as those of a control region | `gaussian_process(..., hyperparameters=...)` |
| two masses | `kernel`; for bins `bin_covariance` |

The parameters of the mean are free, as if their prior were flat (C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine
Learning, section 2.7). Held at their fit, a process of small amplitude would be a known background, although the same data
determined it. The hyper-parameters maximise the probability of the data, with that prior integrated out and counts taken
for normal. They are then constants, but the counts are Poisson: with the covariance of bins

    K = M Mᵀ,    B = mean + J z + M η,

where J z moves the mean and each η_k has a unit normal constraint. That is a sum of `histosys` in HistFactory, whose constraint is the
prior itself; the data enter it through the hyper-parameters alone. The columns of M are eigenvectors of K in units of the counts' errors: K's own
would hold the first bins alone, which have a million times the variance of the last.

Errors are right on average over spectra that the process draws. For one given spectrum the prior pulls the background, and a signal
is off by a part of its error: in toys of one spectrum by 0.4 of it where the mean has a χ² of 56 for 23 degrees of freedom, by
0.75 where that is 3000. Inject signals into toys of the spectrum in question before use.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, optimize

from trila.fits.background import BackgroundFit
from trila.fits.errors import FitError
from trila.fits.families import Domain, SpectrumFunction
from trila.fits.functions import quadrature
from trila.fits.likelihood import poisson_deviance
from trila.fits.linear_response import goodness

__all__ = [
    "LENGTH_FLOOR",
    "GaussianProcess",
    "Hyperparameters",
    "bin_covariance",
    "gaussian_process",
    "kernel",
    "log_evidence",
    "modes",
]

Array = NDArray[np.float64]

#: Shortest length of correlation in widths of the signal.
LENGTH_FLOOR = 4.0
#: Modes of less variance than this, in units of the counts', are left out: together over all bins 1% of an error.
_SMALLEST = 1e-4
#: Points of the quadrature of the kernel in each bin: bins are shorter than the length.
_POINTS = 2
#: Bounds: of the amplitude in the smallest error; of the fall and of the length in the range.
_LEAST_AMPLITUDE, _FALL, _LONGEST = 1e-2, (0.02, 10.0), 3.0
#: Of the conditioning, and the squared distance to its end in errors.
_ITERATIONS, _CLOSE = 100, 1e-9


class Hyperparameters(NamedTuple):
    """Of the kernel: see the module.

    Attributes:
        A: variance at x = d/2, (events/GeV)².
        a: mass over which the variance falls by e, GeV.
        b: slope of the length.
        c: length at mass 0, GeV.
        d: twice the mass at which the variance is A, GeV: no parameter of its own, but a choice of unit.
    """

    A: float
    a: float
    b: float
    c: float
    d: float


class GaussianProcess(NamedTuple):
    """A process conditioned on a spectrum.

    Attributes:
        fit: of the counts; parameters are those of the mean, whitened, and of the modes.
        hyperparameters: of the kernel.
        log_evidence: of the whitened residuals given these, see `log_evidence`.
    """

    fit: BackgroundFit
    hyperparameters: Hyperparameters
    log_evidence: float


@dataclass(frozen=True, eq=False)
class BinnedLinear:
    """A density that is linear in its parameters and constant in each bin; equal to nothing but itself.

    Attributes:
        edges: GeV, shape (I + 1,).
        offset: events per GeV, shape (I,).
        matrix: events per GeV for a parameter of one, shape (P, I).
    """

    edges: Array
    offset: Array
    matrix: Array

    def __call__(self, mass: Any, parameters: Any, domain: Domain) -> Any:
        xp = parameters.__array_namespace__()
        here = xp.searchsorted(xp.asarray(self.edges[1:-1]), mass, side="right")
        columns = xp.asarray(self.matrix)
        steps = sum(parameters[k] * columns[k][here] for k in range(len(self.matrix)))
        return xp.asarray(self.offset)[here] + steps

    def start(self, mass: Array, values: Array, errors: Array, domain: Domain) -> Array:
        """The mean itself."""
        return np.zeros((1, len(self.matrix)))


def kernel(x: ArrayLike, y: ArrayLike, given: Hyperparameters) -> Array:
    """Covariance of the densities at masses x and y (GeV, broadcast), (events/GeV)².

    >>> float(kernel(500.0, 500.0, Hyperparameters(9.0, 100.0, 0.1, 20.0, 1000.0)))
    9.0
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    own, other = given.b * first + given.c, given.b * second + given.c
    square = own**2 + other**2
    decay = (given.d - (first + second)) / (2 * given.a) - (first - second) ** 2 / square
    return np.asarray(given.A * np.exp(decay) * np.sqrt(2 * own * other / square))


def bin_covariance(edges: ArrayLike, given: Hyperparameters) -> Array:
    """Covariance of the events in bins, the kernel integrated over both, shape (I, I)."""
    nodes, weights = quadrature(edges, _POINTS)
    points, size = nodes.ravel(), len(nodes)
    values = kernel(points[:, np.newaxis], points, given) * np.outer(weights, weights)
    return np.asarray(values.reshape(size, _POINTS, size, _POINTS).sum(axis=(1, 3)))


def modes(total: Array, variance: Array) -> Array:
    """A matrix M of few columns with M Mᵀ = K but for directions of less than 1e-4 of the counts' variance.

    Args:
        total: K, shape (I, I).
        variance: of the counts, above 0, shape (I,).

    Returns:
        Shape (I, K), the columns in falling order of their size in errors.
    """
    root = np.sqrt(variance)
    values, vectors = np.linalg.eigh(total / np.outer(root, root))
    kept = np.flatnonzero(values > _SMALLEST)[::-1]
    return np.asarray(root[:, np.newaxis] * vectors[:, kept] * np.sqrt(values[kept]))


def log_evidence(residual: Array, design: Array, total: Array) -> float:
    """Logarithm of the probability of residuals with their covariance, any combination of columns added, less a constant.

    Args:
        residual: in units of the counts' errors, shape (I,).
        design: orthonormal columns, shape (I, P).
        total: covariance without that of the counts, in these units, shape (I, I).
    """
    factor = linalg.cholesky(np.eye(residual.size) + total, lower=True)
    both = linalg.solve_triangular(factor, np.column_stack([residual, design]), lower=True)
    pull, columns = both[:, 0], both[:, 1:]
    information = columns.T @ columns
    along = columns.T @ pull
    square = pull @ pull - along @ np.linalg.solve(information, along)
    logarithm = 2 * np.log(np.diagonal(factor)).sum() + np.linalg.slogdet(information)[1]
    return float(-(square + logarithm) / 2)


def gaussian_process(
    mean: BackgroundFit, floor: ArrayLike, *, hyperparameters: Hyperparameters | None = None
) -> GaussianProcess:
    """Fit deviations from a mean function.

    Args:
        mean: fit of one window.
        floor: least length at each edge, GeV, shape (I + 1,): `LENGTH_FLOOR` times the width of the signal.
        hyperparameters: default those of the largest evidence.

    Returns:
        The p-value of the fit is that of `linear_response.py`, and its degrees of freedom are rounded.

    Raises:
        FitError: a mean of several windows or one whose fit failed, a floor of another shape or not above 0, or a length below it.
    """
    lengths = np.asarray(floor, dtype=np.float64)
    _check(mean, lengths)
    used = mean.windows.weight[0] > 0
    edges, expected = mean.windows.edges[0], mean.prediction[0]
    variance = expected / np.where(used, mean.windows.weight[0], 1.0)
    root = np.sqrt(variance)
    residual = ((mean.windows.counts[0] - expected) / root)[used]
    design = (mean.jacobian[0] / root[:, np.newaxis])[used]

    def evidence(given: Hyperparameters) -> float:
        whitened = bin_covariance(edges, given) / np.outer(root, root)
        return log_evidence(residual, design, whitened[np.ix_(used, used)])

    if hyperparameters is None:
        chosen = _most_probable(evidence, edges, expected, root, lengths)
    else:
        chosen = hyperparameters
        if np.any(chosen.b * edges + chosen.c < lengths * (1 - 1e-9)):
            at = int(np.argmin(chosen.b * edges + chosen.c - lengths))
            raise FitError(
                f"the length of correlation is {chosen.b * edges[at] + chosen.c:g} GeV at {edges[at]:g} GeV, expected at least "
                f"{lengths[at]:g} GeV, so that it does not take the signal; choose larger b or c"
            )
    fit = _conditioned(mean, modes(bin_covariance(edges, chosen), variance))
    return GaussianProcess(fit, chosen, evidence(chosen))


def _check(mean: BackgroundFit, floor: Array) -> None:
    if len(mean.windows.edges) != 1 or not mean.good[0]:
        raise FitError(
            f"a mean of {len(mean.windows.edges)} windows, {int(mean.good.sum())} of which converged, expected one that did; "
            "choose another function or range"
        )
    edges = mean.windows.edges[0]
    if floor.shape != edges.shape or not np.all(floor > 0):
        raise FitError(
            f"least lengths of shape {floor.shape} from {np.min(floor, initial=np.inf):g} GeV on, expected a length above 0 for "
            f"each of {edges.size} edges; give a multiple of the signal's width there"
        )


def _most_probable(
    evidence: Any, edges: Array, expected: Array, root: Array, floor: Array
) -> Hyperparameters:
    """Hyper-parameters of the largest evidence within bounds."""
    low, high = edges[0], edges[-1]
    span = high - low
    line = np.interp(edges, [low, high], floor[[0, -1]])
    # a straight length that is above the floor at both ends may be below it in between
    shortest = floor[[0, -1]] + max(0.0, np.max(floor - line))
    error, density = root / np.diff(edges), expected / np.diff(edges)

    def from_coordinates(logs: Array) -> Hyperparameters:
        amplitude, fall, first, last = np.exp(logs)
        slope = (last - first) / span
        return Hyperparameters(
            float(amplitude**2), float(fall), float(slope), float(first - slope * low), float(2 * low)
        )

    longest = np.maximum(_LONGEST * span, 2 * shortest)
    bounds = np.log(
        [
            (_LEAST_AMPLITUDE * error.min(), density.max()),
            (_FALL[0] * span, _FALL[1] * span),
            *zip(shortest, longest, strict=True),
        ]
    )
    # deviations that fall as the errors, and as the spectrum itself
    falls = [span / (2 * np.log(max(x[0] / x[-1], 1.1))) for x in (error, density)]
    starts = product((3 * error[0], 100 * error[0]), falls, (shortest, np.sqrt(shortest * longest)))
    found = [
        optimize.minimize(
            lambda logs: -evidence(from_coordinates(logs)),
            np.clip(np.log([amplitude, fall, *length]), bounds[:, 0], bounds[:, 1]),
            method="L-BFGS-B",
            bounds=bounds,
        )
        for amplitude, fall, length in starts
    ]
    return from_coordinates(min(found, key=lambda one: float(one.fun)).x)


def _conditioned(mean: BackgroundFit, columns: Array) -> BackgroundFit:
    """The fit of the mean's parameters and of the modes to the counts."""
    windows = mean.windows
    matrix = np.concatenate([mean.jacobian[0], columns], axis=1)
    size = matrix.shape[1]
    free = size - columns.shape[1]
    width = np.diff(windows.edges[0])
    density = BinnedLinear(windows.edges[0], mean.prediction[0] / width, (matrix / width[:, None]).T)
    names = (*(f"mean_{i}" for i in range(free)), *(f"mode_{i}" for i in range(size - free)))
    function = SpectrumFunction(
        f"gp:{mean.function.name}", names, density, density.start, "gp", "arXiv:1709.05681"
    )
    found = _posterior(mean, matrix, (np.arange(size) >= free).astype(np.float64))
    point, prediction = found.point[np.newaxis], found.prediction[np.newaxis]
    used = windows.weight[0] > 0
    weight = windows.weight[0][used]
    variance = prediction[0][used] / weight
    deviance = poisson_deviance(windows.counts, prediction, windows.weight)
    response = matrix[used] @ found.covariance @ matrix[used].T / variance
    of_fit = goodness(float(deviance[0]), response, variance)
    pearson = np.sum((windows.counts[0][used] - prediction[0][used]) ** 2 / variance)
    return BackgroundFit(
        function, windows, point, found.covariance[np.newaxis], point, np.eye(size)[np.newaxis], prediction,
        matrix[np.newaxis], deviance, np.array([pearson]), np.array([round(of_fit.ndof)]), np.array([of_fit.p_value]),
        np.array([found.distance]), np.array([found.distance <= _CLOSE]), np.where(np.arange(size) >= free, -point, np.nan),
    )  # fmt: skip


class _Posterior(NamedTuple):
    """The most probable parameters, their covariance, the events expected there, and the squared distance to the maximum."""

    point: Array
    covariance: Array
    prediction: Array
    distance: float


def _posterior(mean: BackgroundFit, matrix: Array, normal: Array) -> _Posterior:
    """Fisher scoring of a linear expectation with normal priors of precision `normal`, steps halved until they gain."""
    counts, weight = mean.windows.counts[0], mean.windows.weight[0]

    def objective(point: Array) -> float:
        expected = mean.prediction[0] + matrix @ point
        if np.any(expected <= 0):
            return np.inf
        return float(poisson_deviance(counts, expected, weight) + normal @ point**2)

    point, length = np.zeros(normal.size), 1.0
    value = objective(point)
    for _ in range(_ITERATIONS):
        expected = mean.prediction[0] + matrix @ point
        information = matrix.T @ (matrix * (weight / expected)[:, np.newaxis]) + np.diag(normal)
        slope = matrix.T @ (weight * (counts / expected - 1)) - normal * point
        step = np.linalg.solve(information, slope)
        distance = float(step @ slope)
        if distance <= _CLOSE:
            break
        trial = objective(point + length * step)
        if trial <= value + 1e-9 * (1 + value):
            point, value, length = point + length * step, trial, min(1.0, 2 * length)
        else:
            length /= 2
    return _Posterior(point, np.linalg.inv(information), expected, distance)
