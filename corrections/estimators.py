"""Where a response distribution lies: four estimators side by side, for all cells at once.

| estimator | what it is | tails |
| --- | --- | --- |
| `median` | half of the jets are below | hardly matter; the default |
| `core` | mean of a Gaussian fitted within 1.5 standard deviations | do not matter |
| `crystal_ball` | peak of a double-sided Crystal Ball fit | are part of the model |
| `ratio_of_means` | mean HLT pT over mean offline pT | count in full |

Derivation and closure must use the same one; the others tell how much the choice matters.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trila.corrections.cells import medians, sort_cells
from trila.corrections.core_fits import gaussian_core
from trila.corrections.crystal_ball import crystal_ball

__all__ = ["ESTIMATORS", "RESPONSE_EDGES", "Estimator", "distributions", "locations"]

Array = NDArray[np.float64]
Estimator = Literal["median", "core", "crystal_ball", "ratio_of_means"]

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)

#: Of the histograms that are fitted: fine against any jet resolution.
RESPONSE_EDGES = np.linspace(0.0, 3.0, 601)


def distributions(cell: NDArray[np.int32], response: Array, weight: Array, cells: int) -> tuple[Array, Array]:
    """Histograms of the response of each cell: sums of weights and of their squares, shape (cells, bins)."""
    bins = RESPONSE_EDGES.size - 1
    where = np.floor(response * (bins / RESPONSE_EDGES[-1]))
    inside = (cell >= 0) & (where >= 0) & (where < bins)
    flat = cell[inside].astype(np.int64) * bins + where[inside].astype(np.int64)
    w = weight[inside]
    sums = (np.bincount(flat, each, cells * bins).reshape(cells, bins) for each in (w, w * w))
    values, variances = (np.asarray(each, dtype=np.float64) for each in sums)
    return values, variances


def locations(
    estimator: Estimator, cell: NDArray[np.int32], hlt: Array, offline: Array, weight: Array, cells: int
) -> Array:
    """HLT over offline response of each cell.

    Args:
        estimator: which.
        cell: of each pair, -1 for none, shape (n,).
        hlt, offline: pT of the probes, GeV, shape (n,).
        weight: shape (n,).
        cells: how many there are.

    Returns:
        Shape (cells,); nan where a cell has no answer: it is empty, or its fit failed.
    """
    if estimator == "ratio_of_means":
        inside = cell >= 0
        w, c = weight[inside], cell[inside]
        below = np.bincount(c, w * offline[inside], cells)
        above = np.bincount(c, w * hlt[inside], cells)
        return np.asarray(np.divide(above, below, out=np.full(cells, np.nan), where=below > 0))
    response = hlt / offline
    if estimator == "median":
        return medians(sort_cells(cell, response, cells), weight)
    values, variances = distributions(cell, response, weight, cells)
    fit = gaussian_core if estimator == "core" else crystal_ball
    fitted = fit(values, variances, RESPONSE_EDGES)
    return np.where(fitted.converged, fitted.mean, np.nan)
