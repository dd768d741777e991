"""Goodness of fit of predictions that are linear in the counts, but no fit of one function.

A sliding window predicts each bin from a fit of its own, whose data it shares with its neighbours'; a Gaussian process has
modes that a prior holds. Neither has a number of parameters. What both have is the response of predictions to counts,
H_ij = ∂prediction_i/∂count_j, which is the projection on the parameters for a fit of one function. The variance of the predictions
in units of that of the counts, summed over bins, is the effective number of parameters (tr HHᵀ of T. J. Hastie and
R. J. Tibshirani, Generalized Additive Models, section 3.5). The sum of squared pulls is a sum of squares of normal variables
with unequal weights; its mean and variance are those of a scaled χ² variable, which takes its place (F. E. Satterthwaite,
Biometrics Bull. 2 (1946) 110).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

__all__ = ["Goodness", "goodness"]

Array = NDArray[np.float64]


class Goodness(NamedTuple):
    """Of one spectrum.

    Attributes:
        parameters: effective number of parameters.
        ndof: deviance to be expected; bins less parameters for a fit of one function. It is more than the bins where a
            prediction does not use its own bin.
        p_value: of the deviance, in the limit of large counts.
    """

    parameters: float
    ndof: float
    p_value: float


def goodness(deviance: float, response: Array, variance: Array) -> Goodness:
    """Compare a deviance with what predictions of this response lead to.

    Args:
        deviance: of the predictions, over I bins.
        response: ∂prediction_i/∂count_j, shape (I, I).
        variance: of the counts, above 0, shape (I,).

    >>> goodness(3.841459, np.zeros((1, 1)), np.ones(1)).p_value.__round__(6)
    0.05
    """
    root = np.sqrt(variance)
    # of pulls instead of counts: what is left of unit normal numbers
    own = response * root / root[:, np.newaxis]
    left = np.eye(root.size) - own
    mean, half_variance = float(np.sum(left**2)), float(np.sum((left.T @ left) ** 2))
    p_value = float(chi2.sf(deviance * mean / half_variance, mean**2 / half_variance))
    return Goodness(float(np.sum(own**2)), mean, p_value)
