"""Profile likelihoods of a parameter of interest: the fits that limits, significances and impacts are made of."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from trila.fits.compiled import double_precision
from trila.fits.likelihood import Model, Observation, Structure, Tensors, rates, select
from trila.fits.minimise import Minimum, minimise

__all__ = [
    "Profile",
    "asimov",
    "conditional",
    "covariance",
    "expected_counts",
    "free_fit",
    "free_parameters",
    "profile",
]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


class Profile(NamedTuple):
    """Fits of M data sets, each to its alternative.

    Attributes:
        observation: what was fitted, (M, I) and (M, P).
        which: alternatives, shape (M,).
        background: at a parameter of interest of 0.
        best: with the parameter of interest free.
    """

    observation: Observation
    which: Index
    background: Minimum
    best: Minimum


def free_parameters(model: Model, *, poi: bool) -> NDArray[np.bool_]:
    """Which parameters a fit moves, shape (P,)."""
    free = ~model.fixed
    if not poi:
        free[model.poi] = False
    return free


def conditional(model: Model, observation: Observation, poi: Array, start: Array, which: Index) -> Minimum:
    """Fits with the parameter of interest held.

    Args:
        poi: values, shape (N,).
        start: of the others, shape (N, P).
    """
    first = np.array(start)
    first[:, model.poi] = poi
    return minimise(model, observation, first, free_parameters(model, poi=False), alternatives=which)


def free_fit(model: Model, observation: Observation, start: Array, which: Index) -> Minimum:
    """Fits with all parameters free; one that fails is tried again from the model's own start."""
    free = free_parameters(model, poi=True)
    found = minimise(model, observation, start, free, alternatives=which)
    failed = np.flatnonzero(~found.converged)
    if failed.size:
        again = minimise(
            model, Observation(*(x[failed] for x in observation)),
            np.broadcast_to(model.start, (failed.size, model.start.size)), free, alternatives=which[failed],
        )  # fmt: skip
        for kept, new in zip(found, again, strict=True):
            kept[failed] = np.where(again.converged.reshape(-1, *[1] * (kept.ndim - 1)), new, kept[failed])
    return found


def profile(model: Model, observation: Observation | None = None, which: Index | None = None) -> Profile:
    """Fit M data sets without and with the signal; default the model's data for each of its alternatives."""
    data = model.observed() if observation is None else observation
    index = np.arange(model.alternatives) if which is None else which
    start = np.broadcast_to(model.start, (len(index), model.start.size))
    background = conditional(model, data, np.zeros(len(index)), start, index)
    return Profile(data, index, background, free_fit(model, data, background.values, index))


def expected_counts(model: Model, values: Array, which: Index) -> Array:
    """Expected events of N sets of parameters, shape (N, I)."""
    with double_precision():
        return np.asarray(_expected(model.structure, model.tensors, values, which))


@partial(jax.jit, static_argnums=0)
def _expected(structure: Structure, tensors: Tensors, values: Any, which: Any) -> Any:
    return jax.vmap(lambda theta, index: rates(structure, select(tensors, index), theta))(values, which)


def asimov(model: Model, values: Array, which: Index) -> Observation:
    """The data set of the expectation itself: counts, and auxiliary measurements at the parameters' values."""
    t = model.tensors
    return Observation(
        expected_counts(model, values, which), np.where(t.poisson > 0, t.poisson * values, values)
    )


def covariance(minimum: Minimum, free: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
    """Covariance from the Hessian, and whether that is positive definite.

    Args:
        minimum: of N problems.
        free: parameters that the fit moved, shape (P,).

    Returns:
        Shape (N, P, P), zero for fixed parameters, NaN where the Hessian is not positive definite; shape (N,).
    """
    index = np.flatnonzero(free)
    hessian = minimum.hessian[:, index[:, None], index[None, :]]
    diagonal = np.diagonal(hessian, axis1=1, axis2=2)
    sound = np.all(np.isfinite(hessian), axis=(1, 2)) & np.all(diagonal > 0, axis=1)
    scale = np.where(diagonal > 0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1)), 1.0)
    scaled = np.where(
        sound[:, None, None], hessian * scale[:, :, None] * scale[:, None, :], np.eye(index.size)
    )
    eigenvalues = np.linalg.eigvalsh(scaled)
    # a direction whose curvature is lost in rounding is no measurement; without free parameters there is none to lose
    sound &= eigenvalues.min(axis=1, initial=np.inf) > 1e-13 * eigenvalues.max(axis=1, initial=0.0)
    safe = np.where(sound[:, None, None], scaled, np.eye(index.size))
    full = np.zeros(minimum.hessian.shape)
    inverse = 2 * np.linalg.inv(safe) * scale[:, :, None] * scale[:, None, :]
    full[:, index[:, None], index[None, :]] = np.where(sound[:, None, None], inverse, np.nan)
    return full, sound
