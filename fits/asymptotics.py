"""p-values of profile likelihood ratios in the asymptotic limit (Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727).

Limits use q̃_μ, discoveries q_0, and limits are quoted in CLs (Read, J. Phys. G 28 (2002) 2693): CLs = CLs+b / CLb. As in pyhf, the width of
the distributions is that of the Asimov data set of the background alone.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtr, ndtri

__all__ = ["BANDS", "PValues", "band_targets", "expected_cls", "observed_cls", "p0", "z_value"]

Array = NDArray[np.float64]

#: Bands of an expected limit, in standard deviations of the background.
BANDS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])


class PValues(NamedTuple):
    """CLs and its parts, in the shape of the test statistics."""

    cls: Array
    clsb: Array
    clb: Array


def observed_cls(q: ArrayLike, asimov: ArrayLike) -> PValues:
    """p-values of a measured q̃_μ.

    Args:
        q: q̃_μ of the data.
        asimov: q̃_μ of the background's Asimov data set, the square of μ/σ.

    >>> observed_cls(3.841459, 3.841459).clsb.round(6).item()
    0.025
    """
    root, width = np.sqrt(np.maximum(q, 0)), np.sqrt(np.maximum(asimov, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        # above μ/σ the distribution of q̃ is another one, eq. (66)
        statistic = np.where(root <= width, root - width, (root**2 - width**2) / (2 * width))
        log_clsb, log_clb = log_ndtr(-statistic - width), log_ndtr(-statistic)
        # without sensitivity (a width of 0) a positive q is infinitely far, and CLs is 0/0
        return PValues(np.exp(log_clsb - log_clb), np.exp(log_clsb), np.exp(log_clb))


def expected_cls(asimov: ArrayLike) -> Array:
    """CLs that the background alone leads to at each of `BANDS`, shape (..., 5), ascending in the limit.

    >>> expected_cls(2.0).round(4)[2].item()
    0.1573
    """
    width = np.sqrt(np.maximum(asimov, 0))[..., np.newaxis]
    return np.asarray(np.exp(log_ndtr(BANDS - width) - log_ndtr(BANDS)))


def band_targets(level: float) -> Array:
    """μ/σ at which each of `BANDS` is excluded: Φ⁻¹(1 - (1-level) Φ(N)) + N.

    >>> band_targets(0.95).round(4).tolist()
    [1.0518, 1.412, 1.96, 2.7272, 3.656]
    """
    return np.asarray(BANDS - ndtri((1 - level) * ndtr(BANDS)))


def p0(q: ArrayLike) -> Array:
    """Local p-value of the background-only hypothesis for q_0."""
    return np.asarray(ndtr(-np.sqrt(np.maximum(q, 0))))


def z_value(p: ArrayLike) -> Array:
    """One-sided significance of a p-value, in standard deviations."""
    return np.asarray(-ndtri(p))
