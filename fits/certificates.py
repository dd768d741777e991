"""What stands behind each limit: a number without its certificate is no limit.

A limit is certified when the fits behind it converged, their Hessians are positive definite, no parameter stands at a bound, CLs at
the root is what was asked for, and (for the masses checked) Minuit, with another likelihood code, other derivatives and another
algorithm, finds no lower minimum.
"""

from typing import Literal, NamedTuple

import iminuit
import numpy as np
from numpy.typing import NDArray

from trila.fits.likelihood import Model, Observation, deviance
from trila.fits.limits import Limits
from trila.fits.minimise import Minimum
from trila.fits.profile import covariance, free_parameters

__all__ = ["Certificate", "Check", "certify", "checked_alternatives", "minuit_excess"]

Array = NDArray[np.float64]
Check = Literal["all", "sample", "none"]

#: One alternative in so many is fitted again by Minuit for "sample".
_SAMPLE = 10
#: Our deviance may be above Minuit's by so much.
TOLERANCE = 1e-3


class Certificate(NamedTuple):
    """Of one limit.

    Attributes:
        passed: whether the number may be used.
        reasons: why not, one line each.
        distance: largest expected gain of a further step of its fits, in deviance.
        minuit: largest deviance above Minuit's minimum of the same fits (negative: ours is lower); None where not checked.
    """

    passed: bool
    reasons: tuple[str, ...]
    distance: float
    minuit: float | None


def certify(model: Model, limits: Limits, *, check: Check = "sample") -> list[Certificate]:
    """One certificate for each of M alternatives.

    Args:
        model: of the limits.
        limits: as `upper_limits` gave them.
        check: which alternatives Minuit fits again: all, a tenth, or none.
    """
    fits = {
        "background": (limits.profile.background, free_parameters(model, poi=False)),
        "best fit": (limits.profile.best, free_parameters(model, poi=True)),
        "fit at the limit": (limits.at_limit, free_parameters(model, poi=False)),
    }
    number = limits.observed.size
    reasons: list[list[str]] = [[] for _ in range(number)]
    for name, (minimum, free) in fits.items():
        _judge(model, name, minimum, free, limits.profile.which, reasons)
    for index in np.flatnonzero(~np.all(limits.verified, axis=1)):
        missing = [label for label, good in zip(_LABELS, limits.verified[index], strict=True) if not good]
        reasons[index].append(f"no root for {', '.join(missing)}")
    excess = np.full(number, np.nan)
    for index in checked_alternatives(number, check):
        if not reasons[index]:
            row = Observation(*(x[index] for x in limits.profile.observation))
            excess[index] = max(
                minuit_excess(
                    model,
                    int(limits.profile.which[index]),
                    row,
                    minimum.values[index],
                    minimum.deviance[index],
                    free,
                )
                for minimum, free in fits.values()
            )
            if excess[index] > TOLERANCE:
                reasons[index].append(f"Minuit finds a minimum lower by {excess[index]:.2g} in -2 ln L")
    distance = np.max([minimum.edm for minimum, _ in fits.values()], axis=0)
    return [
        Certificate(not why, tuple(why), float(d), None if np.isnan(e) else float(e))
        for why, d, e in zip(reasons, distance, excess, strict=True)
    ]


_LABELS = ("the observed limit", *(f"the expected limit at {n:+d} sigma" for n in range(-2, 3)))


def checked_alternatives(number: int, check: Check) -> NDArray[np.int64]:
    """Those that Minuit fits again: always the same ones, spread evenly."""
    if check == "none":
        return np.zeros(0, dtype=np.int64)
    if check == "all":
        return np.arange(number)
    return np.unique(np.linspace(0, number - 1, -(-number // _SAMPLE)).round().astype(np.int64))


def _judge(
    model: Model,
    name: str,
    minimum: Minimum,
    free: NDArray[np.bool_],
    which: NDArray[np.int64],
    reasons: list[list[str]],
) -> None:
    positive = covariance(minimum, free)[1]
    shape = (model.alternatives, len(model.parameters))
    lower, upper = (np.broadcast_to(b, shape)[which] for b in (model.lower, model.upper))
    if free[model.poi]:
        # no signal is best: the likelihood rises from the bound on, and its curvature there is not asked for
        others = free & (np.arange(free.size) != model.poi)
        none = minimum.values[:, model.poi] <= np.maximum(lower[:, model.poi], 0)
        positive = np.where(none & (lower[:, model.poi] >= 0), covariance(minimum, others)[1], positive)
    span = np.where(np.isfinite(upper - lower), upper - lower, 1.0)
    touches = free & ((minimum.values - lower < 1e-6 * span) | (upper - minimum.values < 1e-6 * span))
    # a best fit without signal stands at the bound of a parameter of interest that cannot be negative: that is no fault
    touches[:, model.poi] &= minimum.values[:, model.poi] > 0
    for index in np.flatnonzero(~minimum.converged):
        reasons[index].append(f"{name}: not converged")
    for index in np.flatnonzero(minimum.converged & ~positive):
        reasons[index].append(f"{name}: Hessian is not positive definite")
    for index in np.flatnonzero(minimum.converged & touches.any(axis=1)):
        names = [model.parameters[p] for p in np.flatnonzero(touches[index])]
        reasons[index].append(f"{name}: at a bound: {', '.join(names)}")


def minuit_excess(
    model: Model,
    alternative: int,
    observation: Observation,
    values: Array,
    reached: float,
    free: NDArray[np.bool_],
) -> float:
    """Deviance reached by a fit above that of Minuit's minimum, from another start; the larger, the worse.

    Args:
        model, alternative, observation: what was fitted.
        values: of the parameters at our minimum; fixed ones hold there.
        reached: our deviance.
        free: which parameters the fit moved, shape (P,).
    """
    tensors = model.tensors_of(alternative)
    moving = np.flatnonzero(free)
    full = np.array(values)

    def objective(point: Array) -> float:
        full[moving] = point
        value = float(deviance(model.structure, tensors, observation, full))
        return value if np.isfinite(value) else 1e30

    if not moving.size:
        return 0.0
    shape = (model.alternatives, len(model.parameters))
    lower, upper = (np.broadcast_to(b, shape)[alternative][moving] for b in (model.lower, model.upper))
    # from beside the model's own start, which for whitened parameters is the minimum itself
    start = np.clip(model.start[moving] + 0.3, lower, upper)
    minuit = iminuit.Minuit(objective, start)
    minuit.limits = list(zip(lower, upper, strict=True))
    minuit.errordef, minuit.strategy = iminuit.Minuit.LEAST_SQUARES, 0
    minuit.migrad()
    return float(reached - minuit.fval) if minuit.fval is not None else float("nan")
