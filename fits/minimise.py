"""Minima of many likelihoods at once: Newton's method on the exact Hessian, batched and compiled once.

All fits of a scan (masses, observed data and Asimov data, free and conditional fits) differ in their data alone: which
parameters are free is an array too. So there is one compiled function for each structure, called with fixed
numbers of problems; short calls are filled up.

Steps are Levenberg-Marquardt's: the Hessian's diagonal is raised after a step that does not lower the deviance, and
released again. Parameters at a bound stay there while the gradient pushes them outwards. A fit has converged when the
expected gain of a further step (the estimated distance to the minimum, EDM) is below `TOLERANCE` in deviance.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from trila.fits.compiled import double_precision
from trila.fits.likelihood import Model, Observation, Structure, Tensors, deviance, select

__all__ = ["TOLERANCE", "Minimum", "minimise"]

Array = NDArray[np.float64]

#: EDM at which a fit has converged, in units of deviance. One more Newton step is made after it.
TOLERANCE = 1e-7
_ITERATIONS = 200
#: Problems of one call: enough to be fast, few enough to stay in the cache of a processor; and of a call for a few masses.
_CALL, _FEW = 128, 8
#: Hessians of one call are kept under this many elements.
_ELEMENTS = 2_000_000


class Minimum(NamedTuple):
    """Minima of N problems.

    Attributes:
        values: parameters, shape (N, P).
        deviance: shape (N,).
        gradient: of the deviance, shape (N, P).
        hessian: of the deviance, shape (N, P, P); the covariance is twice its inverse.
        converged: shape (N,).
        edm: gain expected of a further step, shape (N,).
    """

    values: Array
    deviance: Array
    gradient: Array
    hessian: Array
    converged: NDArray[np.bool_]
    edm: Array


def minimise(
    model: Model,
    observation: Observation,
    start: Array,
    free: NDArray[np.bool_],
    *,
    alternatives: NDArray[np.int64] | None = None,
) -> Minimum:
    """Minimise N deviances.

    Args:
        model: with M alternatives.
        observation: counts (N, I), auxiliary (N, P).
        start: first parameters, shape (N, P); fixed ones keep their values.
        free: parameters that move, shape (N, P) or (P,); those that the model fixes stay.
        alternatives: which of the model's alternatives each problem belongs to, shape (N,); default the first.
    """
    number, parameters = start.shape
    which = np.zeros(number, dtype=np.int64) if alternatives is None else np.asarray(alternatives)
    moving = np.array(np.broadcast_to(free, start.shape)) & ~model.fixed
    bounds = (model.alternatives, parameters)
    lower, upper = (np.broadcast_to(b, bounds)[which] for b in (model.lower, model.upper))
    size = max(1, min(_FEW if max(number, model.alternatives) <= _FEW else _CALL, _ELEMENTS // parameters**2))
    parts: list[Any] = []
    with double_precision():
        tensors = jax.device_put(model.tensors)
        for first in range(0, number, size):
            # the last call is filled up with its first problem, so that one compiled function serves all
            rows = np.arange(first, first + size)
            rows[rows >= number] = first
            parts.append(
                _minimise(
                    model.structure, tensors, which[rows], Observation(observation.counts[rows], observation.auxiliary[rows]),
                    start[rows], moving[rows], lower[rows], upper[rows],
                )
            )  # fmt: skip
        gathered = [np.concatenate([np.asarray(part[k]) for part in parts])[:number] for k in range(6)]
    return Minimum(*gathered)


@partial(jax.jit, static_argnums=0)
def _minimise(
    structure: Structure, tensors: Tensors, which: Any, observation: Observation, start: Any, free: Any, lower: Any, upper: Any
) -> tuple[Any, ...]:  # fmt: skip
    def one(
        index: Any, counts: Any, auxiliary: Any, first: Any, moves: Any, low: Any, high: Any
    ) -> tuple[Any, ...]:
        numbers = select(tensors, index)

        def objective(theta: Any) -> Any:
            return deviance(structure, numbers, Observation(counts, auxiliary), theta)

        return _newton(objective, first, moves, low, high)

    return jax.vmap(one)(which, observation.counts, observation.auxiliary, start, free, lower, upper)


class _State(NamedTuple):
    """Of one fit: the best point so far with its derivatives, and the one to try next.

    `computed` says that this was a step and not the same point again, `last` that it is the one after which the fit is done.
    """

    theta: Any
    value: Any
    gradient: Any
    hessian: Any
    trial: Any
    damping: Any
    edm: Any
    computed: Any
    last: Any
    done: Any
    iteration: Any


def _newton(objective: Any, start: Any, moves: Any, lower: Any, upper: Any) -> tuple[Any, ...]:
    # a held parameter may lie outside: a limit above the bound of the parameter of interest, a background at 0 below it
    lower, upper = jnp.where(moves, lower, -jnp.inf), jnp.where(moves, upper, jnp.inf)

    def evaluate(theta: Any) -> tuple[Any, Any, Any]:
        def gradient_and_value(point: Any) -> tuple[Any, tuple[Any, Any]]:
            value, gradient = jax.value_and_grad(objective)(point)
            return gradient, (value, gradient)

        hessian, (value, gradient) = jax.jacfwd(gradient_and_value, has_aux=True)(theta)
        return value, gradient, hessian

    def step_from(theta: Any, gradient: Any, hessian: Any, damping: Any) -> tuple[Any, Any]:
        held = ((theta <= lower) & (gradient > 0)) | ((theta >= upper) & (gradient < 0))
        active = moves & ~held
        slope = jnp.where(active, gradient, 0.0)
        diagonal = jnp.abs(jnp.diagonal(hessian))
        # scaled to a unit diagonal: parameters may differ by many orders of magnitude
        scale = jnp.where(active & (diagonal > 0), 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0)), 1.0)
        both = active[:, None] & active[None, :]
        matrix = jnp.where(both, hessian * scale[:, None] * scale[None, :], 0.0)
        matrix = matrix + jnp.diag(jnp.where(active, damping, 1.0))
        factor = jnp.linalg.cholesky(matrix)
        step = -scale * jax.scipy.linalg.cho_solve((factor, True), scale * slope)
        return step, -jnp.dot(slope, step) / 2

    def body(state: _State) -> _State:
        value, gradient, hessian = evaluate(state.trial)
        sound = jnp.isfinite(value) & jnp.all(jnp.isfinite(hessian))
        better = sound & (value <= state.value + 1e-9 * (1 + jnp.abs(value)))
        raised = jnp.maximum(state.damping * 10, 1e-6)
        lowered = jnp.where(state.damping < 1e-8, 0.0, state.damping / 10)
        # where no step could be computed nothing was tried: the damping stays
        damping = jnp.where(better, jnp.where(state.computed, lowered, state.damping), raised)
        theta = jnp.where(better, state.trial, state.theta)
        gradient = jnp.where(better, gradient, state.gradient)
        hessian = jnp.where(better, hessian, state.hessian)
        step, edm = step_from(theta, gradient, hessian, damping)
        usable = jnp.all(jnp.isfinite(step))
        # a step that cannot be computed leads nowhere; with more damping the next one can
        trial = jnp.clip(theta + jnp.where(usable, step, 0.0), lower, upper)
        damping = jnp.where(usable, damping, jnp.maximum(damping * 10, 1e-2))
        return _State(
            theta, jnp.where(better, value, state.value), gradient, hessian, trial, damping, edm,
            usable, usable & (edm < TOLERANCE) & (damping < 1e-3), state.last, state.iteration + 1,
        )  # fmt: skip

    def going(state: _State) -> Any:
        return ~state.done & (state.iteration < _ITERATIONS) & (state.damping < 1e12)

    first = jnp.clip(start, lower, upper)
    number = start.shape[0]
    begin = _State(
        first, jnp.inf, jnp.zeros(number), jnp.eye(number), first, 0.0, jnp.inf, False, False, False, 0
    )
    end = jax.lax.while_loop(going, body, jax.tree.map(jnp.asarray, begin))
    converged = end.done & jnp.isfinite(end.value)
    return end.theta, end.value, end.gradient, end.hessian, converged, end.edm
