"""What stands behind each limit: a number without its certificate is no limit.

A limit is certified when the fits behind it converged, their Hessians are positive definite, no parameter stands at a bound, CLs at
the root is what was asked for, and (for the masses checked) Minuit, with another likelihood code, other derivatives and another
algorithm, finds no lower minimum.

| you have | use |
| --- | --- |
| a model and its limits | `certify` |
| fits of several models behind each limit, as an envelope has | `judge` |
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import iminuit
import numpy as np
from numpy.typing import NDArray

from trila.fits.likelihood import Model, Observation, deviance
from trila.fits.limits import Limits
from trila.fits.minimise import Minimum
from trila.fits.profile import covariance, free_parameters

__all__ = ["Certificate", "Check", "Evidence", "certify", "checked_alternatives", "judge", "minuit_excess"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Index = NDArray[np.int64]
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


class Evidence(NamedTuple):
    """N fits of one kind that limits rest on; a limit may rest on none of them.

    Attributes:
        name: as reasons call them.
        model: that was fitted, with P parameters.
        observation: what was fitted, shapes (N, I) and (N, P).
        which: alternatives of the model, shape (N,).
        minimum: the fits.
        free: which parameters they moved, shape (P,).
        limit: index of the limit that each fit stands behind, none twice, shape (N,).
    """

    name: str
    model: Model
    observation: Observation
    which: Index
    minimum: Minimum
    free: Flags
    limit: Index


def certify(model: Model, limits: Limits, *, check: Check = "sample") -> list[Certificate]:
    """One certificate for each of M alternatives.

    Args:
        model: of the limits.
        limits: as `upper_limits` gave them.
        check: which alternatives Minuit fits again: all, a tenth, or none.
    """
    data, which = limits.profile.observation, limits.profile.which
    each = np.arange(which.size)
    held, moved = (free_parameters(model, poi=poi) for poi in (False, True))
    fits = (
        Evidence("background", model, data, which, limits.profile.background, held, each),
        Evidence("best fit", model, data, which, limits.profile.best, moved, each),
        Evidence("fit at the limit", model, data, which, limits.at_limit, held, each),
    )
    return judge(fits, limits.verified, check=check)


def judge(fits: Sequence[Evidence], verified: Flags, *, check: Check = "sample") -> list[Certificate]:
    """One certificate for each of M limits.

    Args:
        fits: what the limits rest on.
        verified: whether each root is one, as in `Limits`, shape (M, 6).
        check: whose fits Minuit makes again: all limits', a tenth's, or none's.
    """
    number = len(verified)
    reasons: list[list[str]] = [[] for _ in range(number)]
    distance = np.full(number, -np.inf)
    for one in fits:
        _judge(one, reasons)
        np.maximum.at(distance, one.limit, one.minimum.edm)
    for index in np.flatnonzero(~np.all(verified, axis=1)):
        missing = [label for label, good in zip(_LABELS, verified[index], strict=True) if not good]
        reasons[index].append(f"no root for {', '.join(missing)}")
    excess = np.full(number, np.nan)
    for index in checked_alternatives(number, check):
        if not reasons[index]:
            rows = ((one, row) for one in fits for row in np.flatnonzero(one.limit == index).tolist())
            excess[index] = max((_excess(one, row) for one, row in rows), default=np.nan)
            if excess[index] > TOLERANCE:
                reasons[index].append(f"Minuit finds a minimum lower by {excess[index]:.2g} in -2 ln L")
    return [
        Certificate(not why, tuple(why), float(d), None if np.isnan(e) else float(e))
        for why, d, e in zip(reasons, np.where(np.isneginf(distance), np.nan, distance), excess, strict=True)
    ]


_LABELS = ("the observed limit", *(f"the expected limit at {n:+d} sigma" for n in range(-2, 3)))


def checked_alternatives(number: int, check: Check) -> Index:
    """Those that Minuit fits again: always the same ones, spread evenly."""
    if check == "none":
        return np.zeros(0, dtype=np.int64)
    if check == "all":
        return np.arange(number)
    return np.unique(np.linspace(0, number - 1, -(-number // _SAMPLE)).round().astype(np.int64))


def _judge(fits: Evidence, reasons: list[list[str]]) -> None:
    """Add to the reasons of each limit why its fit is no minimum to rest on."""
    model, minimum, free = fits.model, fits.minimum, fits.free
    positive = covariance(minimum, free)[1]
    shape = (model.alternatives, len(model.parameters))
    lower, upper = (np.broadcast_to(b, shape)[fits.which] for b in (model.lower, model.upper))
    if free[model.poi]:
        # no signal is best: the likelihood rises from the bound on, and its curvature there is not asked for
        others = free & (np.arange(free.size) != model.poi)
        none = minimum.values[:, model.poi] <= np.maximum(lower[:, model.poi], 0)
        positive = np.where(none & (lower[:, model.poi] >= 0), covariance(minimum, others)[1], positive)
    span = np.where(np.isfinite(upper - lower), upper - lower, 1.0)
    touches = free & ((minimum.values - lower < 1e-6 * span) | (upper - minimum.values < 1e-6 * span))
    # a best fit without signal stands at the bound of a parameter of interest that cannot be negative: that is no fault
    touches[:, model.poi] &= minimum.values[:, model.poi] > 0
    for row in np.flatnonzero(~minimum.converged):
        reasons[fits.limit[row]].append(f"{fits.name}: not converged")
    for row in np.flatnonzero(minimum.converged & ~positive):
        reasons[fits.limit[row]].append(f"{fits.name}: Hessian is not positive definite")
    for row in np.flatnonzero(minimum.converged & touches.any(axis=1)):
        names = [model.parameters[p] for p in np.flatnonzero(touches[row])]
        reasons[fits.limit[row]].append(f"{fits.name}: at a bound: {', '.join(names)}")


def _excess(fits: Evidence, row: int) -> float:
    """`minuit_excess` of one of the fits."""
    minimum = fits.minimum
    return minuit_excess(
        fits.model, int(fits.which[row]), Observation(*(x[row] for x in fits.observation)), minimum.values[row],
        float(minimum.deviance[row]), fits.free,
    )  # fmt: skip


def minuit_excess(
    model: Model,
    alternative: int,
    observation: Observation,
    values: Array,
    reached: float,
    free: Flags,
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
