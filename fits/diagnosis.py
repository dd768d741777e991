"""What a fit did to its nuisance parameters, and they to its result: pulls, impacts, correlations, goodness of fit.

Use these before an observed limit is believed. Every function starts from `best_fit`, the fit that limits and
significances use. What cannot be given is NaN and says why: an error where the Hessian is not positive definite, a shift
outside a parameter's bounds, a refit that failed.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from trila.fits.errors import FitError
from trila.fits.likelihood import Model, Observation, deviance
from trila.fits.minimise import Minimum, minimise
from trila.fits.profile import covariance, free_fit, free_parameters, profile
from trila.fits.toys import model_toys
from trila.fits.toys import p_value as toy_p_value

__all__ = [
    "BestFit", "Correlations", "GoodnessOfFit", "Impacts", "Pulls", "best_fit", "correlations", "goodness_of_fit", "impacts",
    "pulls",
]  # fmt: skip

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


class BestFit(NamedTuple):
    """The fit of one alternative with the parameter of interest free; P parameters.

    Attributes:
        alternative: index of the alternative.
        data: counts (1, I) and auxiliary (1, P).
        values: shape (P,).
        covariance: from the Hessian, shape (P, P); zero for fixed parameters and those at a bound, which count as fixed there.
        errors: its diagonal's roots, shape (P,); NaN for parameters at a bound, 0 for fixed ones.
        free: parameters that the fit moved, shape (P,).
        at_bound: those of them that ended at a bound, shape (P,).
        deviance: at the minimum.
        converged: whether it is one.
        verified: and the Hessian is positive definite; if not, covariance and errors are NaN.
    """

    alternative: int
    data: Observation
    values: Array
    covariance: Array
    errors: Array
    free: Flags
    at_bound: Flags
    deviance: float
    converged: bool
    verified: bool


class Pulls(NamedTuple):
    """All parameters in the model's order, P of them.

    Attributes:
        parameters: names.
        values, errors: of the fit, shape (P,).
        pulls: (value - measured)/width of the constraint, shape (P,); NaN without constraint or if fixed.
        constraints: error/width of the constraint, shape (P,); NaN likewise.
    """

    parameters: tuple[str, ...]
    values: Array
    errors: Array
    pulls: Array
    constraints: Array


class Impacts(NamedTuple):
    """Shifts of the parameter of interest, K nuisance parameters with the largest first.

    Attributes:
        parameters: names.
        postfit: with the parameter held at its value plus and minus its error, shape (K, 2).
        prefit: plus and minus the width of its constraint, shape (K, 2).
        postfit_status, prefit_status: why a number is missing ("no constraint", "no error", "outside bounds", "not converged",
            "result at bound"), or what to know of it ("other at bound"); empty where all is well; shape (K, 2).
    """

    parameters: tuple[str, ...]
    postfit: Array
    prefit: Array
    postfit_status: NDArray[np.str_]
    prefit_status: NDArray[np.str_]


class Correlations(NamedTuple):
    """Correlation coefficients of K parameters that the fit moved and that are at no bound.

    Attributes:
        parameters: names.
        matrix: shape (K, K).
    """

    parameters: tuple[str, ...]
    matrix: Array


class GoodnessOfFit(NamedTuple):
    """The fit against the saturated model.

    Attributes:
        statistic: deviance at the minimum.
        ndof: bins and constraints less parameters.
        p_value: of χ² with that many degrees of freedom; NaN without any, and if the fit is not verified: parameters that
            the data do not determine are no lost degrees of freedom.
        p_toys: share of toys with a statistic as large, the data and failed toys counted; NaN without toys.
        toys: statistics of the toys whose fits converged, shape (T,).
        toys_failed: number of the others.
    """

    statistic: float
    ndof: int
    p_value: float
    p_toys: float
    toys: Array
    toys_failed: int


def best_fit(model: Model, *, alternative: int = 0) -> BestFit:
    """Fit one alternative to its data.

    Args:
        model: with M alternatives.
        alternative: which one.

    Raises:
        FitError: no such alternative, or no parameter of interest.
    """
    if not 0 <= alternative < model.alternatives:
        raise FitError(f"alternative {alternative}, expected 0 to {model.alternatives - 1}")
    if model.poi < 0:
        raise FitError("the model has no parameter of interest; choose one of its parameters to be it")
    which = np.array([alternative])
    observed = model.observed()
    data = Observation(observed.counts[which], observed.auxiliary[which])
    found = profile(model, data, which).best
    free = free_parameters(model, poi=True)
    lower, upper = _bounds(model, alternative)
    values = found.values[0]
    at_bound = free & ((values <= lower) | (values >= upper))
    spread, sound = covariance(found, free & ~at_bound)
    converged = bool(found.converged[0])
    verified = converged and bool(sound[0])
    matrix = spread[0] if verified else np.full(spread[0].shape, np.nan)
    errors = np.where(at_bound, np.nan, np.sqrt(np.diagonal(matrix)))
    return BestFit(
        alternative,
        data,
        values,
        matrix,
        errors,
        free,
        at_bound,
        float(found.deviance[0]),
        converged,
        verified,
    )


def pulls(model: Model, fit: BestFit) -> Pulls:
    """How far the data moved each parameter from its constraint, and how much they narrowed it."""
    measured, width = _constraint(model, fit)
    errors = np.where(fit.free, fit.errors, np.nan)
    return Pulls(model.parameters, fit.values, fit.errors, (fit.values - measured) / width, errors / width)


def impacts(model: Model, fit: BestFit) -> Impacts:
    """Refit with each nuisance parameter held aside of its value, by its error after and before the fit.

    All refits are one batch. The order is that of the larger of the two post-fit shifts; those without any come last.
    """
    nuisances = np.flatnonzero(fit.free & (np.arange(fit.values.size) != model.poi))
    width = _constraint(model, fit)[1]
    sizes = np.stack([fit.errors[nuisances], width[nuisances]], axis=1)
    shifts = sizes[:, :, None] * np.array([1.0, -1.0])  # (K, postfit and prefit, up and down)
    held = np.broadcast_to(nuisances[:, None, None], shifts.shape)
    targets = fit.values[held] + shifts
    lower, upper = _bounds(model, fit.alternative)
    outside = (targets < lower[held]) | (targets > upper[held])
    possible = np.isfinite(shifts) & ~outside

    rows = np.arange(shifts.size)
    start = np.repeat(fit.values[None], shifts.size, axis=0)
    start[rows, held.ravel()] = np.where(possible, targets, fit.values[held]).ravel()
    free = np.repeat(fit.free[None], shifts.size, axis=0)
    free[rows, held.ravel()] = False
    data = Observation(*(np.repeat(x, shifts.size, axis=0) for x in fit.data))
    found = minimise(
        model, data, start, free, alternatives=np.full(shifts.size, fit.alternative, dtype=np.int64)
    )

    touching = free & ((found.values <= lower) | (found.values >= upper))
    result_bound = touching[:, model.poi].reshape(shifts.shape)
    other_bound = np.any(touching & ~fit.at_bound, axis=1).reshape(shifts.shape)
    missing = np.array(["no error", "no constraint"])[:, None]
    status = np.select(
        [~np.isfinite(shifts), outside, ~found.converged.reshape(shifts.shape), result_bound, other_bound],
        [missing, "outside bounds", "not converged", "result at bound", "other at bound"],
        default="",
    )
    usable = (status == "") | (status == "other at bound")
    moved = (found.values[:, model.poi] - fit.values[model.poi]).reshape(shifts.shape)
    moved = np.where(usable, moved, np.nan)
    largest = np.max(np.where(np.isfinite(moved[:, 0]), np.abs(moved[:, 0]), -1.0), axis=1, initial=-1.0)
    order = np.argsort(-largest, kind="stable")
    names = tuple(model.parameters[k] for k in nuisances[order])
    return Impacts(names, moved[order, 0], moved[order, 1], status[order, 0], status[order, 1])


def correlations(model: Model, fit: BestFit) -> Correlations:
    """Correlation coefficients of the fitted parameters, from the covariance."""
    index = np.flatnonzero(fit.free & ~fit.at_bound)
    errors = fit.errors[index]
    matrix = fit.covariance[np.ix_(index, index)] / np.outer(errors, errors)
    return Correlations(tuple(model.parameters[k] for k in index), matrix)


def goodness_of_fit(model: Model, fit: BestFit, *, toys: int = 0, seed: int = 0) -> GoodnessOfFit:
    """The deviance at the best fit, which is a likelihood ratio with the model that has a parameter for each bin.

    Constraints count as measurements: degrees of freedom are used bins and constraints of free parameters less free
    parameters. In small numbers χ² is not its distribution; toys are: counts and auxiliary measurements drawn from the best
    fit, each fitted as the data were (Baker and Cousins, Nucl. Instrum. Meth. 221 (1984) 437).

    Args:
        toys: number of toys, 0 for none.
        seed: of the toys.

    Raises:
        FitError: a negative number of toys.
    """
    if toys < 0:
        raise FitError(f"{toys} toys, expected 0 for none or a positive number such as 1000")
    tensors = model.tensors_of(fit.alternative)
    constrained = fit.free & np.isfinite(_constraint(model, fit)[1])
    ndof = int(np.sum(tensors.weight > 0) + np.sum(constrained) - np.sum(fit.free))
    # the constraint of a parameter that no fit moves is a constant and no measurement
    relevant = tensors._replace(
        normal=np.where(fit.free, tensors.normal, 0.0), poisson=np.where(fit.free, tensors.poisson, 0.0)
    )
    only = Observation(fit.data.counts[0], fit.data.auxiliary[0])
    statistic = float(deviance(model.structure, relevant, only, fit.values))
    constant = fit.deviance - statistic
    p_value = float(chdtrc(ndof, statistic)) if ndof > 0 and fit.verified else float("nan")
    if not toys:
        return GoodnessOfFit(statistic, ndof, p_value, float("nan"), np.zeros(0), 0)
    found = _fit_toys(model, fit, toys, seed)
    share = toy_p_value(statistic, found.deviance - constant, found.converged)
    drawn = found.deviance[found.converged] - constant
    return GoodnessOfFit(statistic, ndof, p_value, share.value, drawn, share.failed)


def _fit_toys(model: Model, fit: BestFit, toys: int, seed: int) -> Minimum:
    drawn = model_toys(model, fit.values, toys, seed, alternative=fit.alternative)
    start = np.repeat(fit.values[None], toys, axis=0)
    return free_fit(model, drawn, start, np.full(toys, fit.alternative, dtype=np.int64))


def _bounds(model: Model, alternative: int) -> tuple[Array, Array]:
    shape = (model.alternatives, model.start.size)
    lower, upper = (np.broadcast_to(b, shape)[alternative] for b in (model.lower, model.upper))
    return lower, upper


def _constraint(model: Model, fit: BestFit) -> tuple[Array, Array]:
    """What was measured of each parameter and with which width, both of shape (P,); NaN without constraint or if fixed.

    That of a Poisson constraint of τθ is 1/√τ, its width at θ = 1.
    """
    tensors = model.tensors_of(fit.alternative)
    auxiliary = fit.data.auxiliary[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        counted = tensors.poisson > 0
        width = np.where(counted, 1 / np.sqrt(tensors.poisson), 1 / np.sqrt(tensors.normal))
        measured = np.where(counted, auxiliary / tensors.poisson, auxiliary)
    used = fit.free & (counted | (tensors.normal > 0))
    return np.where(used, measured, np.nan), np.where(used, width, np.nan)
