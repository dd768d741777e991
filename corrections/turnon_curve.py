"""The curve of a trigger turn-on: error functions, their derivatives, and their average over a bin.

    ε(x) = ε_max Σ f_k Φ((x - μ_k)/σ_k),   Φ(z) = ½ [1 + erf(z/√2)],   Σ f_k = 1,

with up to three components. The fit is `trila.corrections.turnon`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = ["FRACTIONS", "NAMES", "POSITIONS", "SIGMAS", "averages", "efficiency", "with_derivatives"]

Array = NDArray[np.float64]

NAMES = ("mu", "sigma", "epsilon_max", "fraction_2", "mu_2", "sigma_2", "fraction_3", "mu_3", "sigma_3")
"""Of the parameters; one component has the first three, two have six."""

POSITIONS, SIGMAS, FRACTIONS = [0, 4, 7], [1, 5, 8], [3, 6]
"""Which parameters are μ, σ and f of the components; the first has what the other fractions leave."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)


def efficiency(x: ArrayLike, values: Sequence[float] | Array) -> Array:
    """The model at `x`.

    Args:
        x: any shape.
        values: mu, sigma, epsilon_max; fraction_2, mu_2, sigma_2; fraction_3, mu_3, sigma_3.

    Returns:
        Shape of `x`.

    Raises:
        ValueError: not three, six or nine values.

    >>> efficiency([200.0, 234.8952], [200.0, 15.0, 1.0]).round(6).tolist()
    [0.5, 0.99]
    """
    return with_derivatives(np.asarray(x, np.float64), np.asarray(values, np.float64))[0]


def with_derivatives(x: Array | np.float64, values: Array) -> tuple[Array, Array]:
    """The model at `x`, and its derivatives with respect to the parameters (first axis).

    Args:
        x: any shape.
        values: of the parameters, as in `efficiency`.

    Raises:
        ValueError: not three, six or nine values.
    """
    if values.shape not in ((3,), (6,), (9,)):
        raise ValueError(f"{values.size} parameters, expected 3, 6 or 9: {', '.join(NAMES)}")
    count = values.size // 3
    fractions = values[FRACTIONS[: count - 1]]
    top, shares = values[2], [1.0 - float(fractions.sum()), *fractions]
    rises, shapes = [], []
    for share, place, width in zip(shares, POSITIONS, SIGMAS, strict=False):
        z = (x - values[place]) / values[width]
        density = -top * share / values[width] * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
        rises.append(special.ndtr(z))
        shapes.append([density, density * z])
    curve = np.sum([share * rise for share, rise in zip(shares, rises, strict=True)], axis=0)
    derivatives = [*shapes[0], curve]
    for rise, shape in zip(rises[1:], shapes[1:], strict=True):
        derivatives += [top * (rise - rises[0]), *shape]
    return np.asarray(top * curve), np.stack(derivatives)


def averages(sums: Array, edges: Array) -> tuple[Array, Array]:
    """Points inside each bin and weights for the average of a function over it, shape (n, points).

    The spectrum inside a bin is taken as a power of x, with the exponent that the neighbours on both sides have, or the
    bin itself and its only neighbour; as flat where there is none.

    Args:
        sums: sums of weights of the bins, shape (n,).
        edges: shape (n + 1,), from 0 or above.

    Returns:
        Points, and weights that add up to one in each bin.
    """
    width = np.diff(edges)[:, np.newaxis]
    centre = 0.5 * (edges[1:] + edges[:-1])
    x = centre[:, np.newaxis] + 0.5 * width * _NODES
    filled = np.flatnonzero(sums > 0)
    power = np.zeros_like(sums)
    if filled.size > 1:
        density, place = np.log(sums[filled] / width[filled, 0]), np.log(centre[filled])
        left, right = (
            np.maximum(np.arange(filled.size) - 1, 0),
            np.minimum(np.arange(filled.size) + 1, filled.size - 1),
        )
        power[filled] = (density[right] - density[left]) / (place[right] - place[left])
    weights = _WEIGHTS * np.exp(
        np.clip(power[:, np.newaxis] * np.log(x / centre[:, np.newaxis]), -30.0, 30.0)
    )
    return x, weights / weights.sum(axis=1, keepdims=True)
