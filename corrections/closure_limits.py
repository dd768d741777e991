"""How well a calibration must close, where that is claimed, and when a closure test fails.

| absolute η | pT (GeV) | limit |
| --- | --- | --- |
| below 1.3 | 30 to 40 | 1% |
| | 40 to 100 | 0.5% |
| | 100 to 600 | 0.2% |
| | 600 to 1000 | 0.5% |
| 1.3 to 2.5 | from 30 | 1% |
| 2.5 to 3 | from 30 | 2% |
| beyond 3 | from 30 | 3% |

A bin fails beyond its limit plus z times its error. z is such that a sample whose true closure is exactly at the limit in
every one of n bins, the worst that still is clean, fails in a fraction α of all cases: each bin fails with probability
1 - (1 - α)^(1/n), one-sided, because the other limit is many errors away (Šidák, J. Am. Stat. Assoc. 62 (1967) 626). Bins
that share pairs are positively correlated, and fail together more often: α is then an upper bound.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["LIMITS", "Limit", "beyond", "claimed_from", "limit_of", "significance"]


class Limit(NamedTuple):
    """Largest closure that is allowed in a region.

    Attributes:
        eta: lower and upper absolute η.
        pt: lower and upper pT, GeV.
        value: of |closure|.
    """

    eta: tuple[float, float]
    pt: tuple[float, float]
    value: float

    def holds(self, eta: tuple[float, float], pt: tuple[float, float]) -> bool:
        """Whether a bin of η, signed or absolute, and pT (GeV) lies inside."""
        low, high = (0.0 if eta[0] < 0.0 < eta[1] else min(map(abs, eta))), max(map(abs, eta))
        return self.eta[0] <= low and high <= self.eta[1] and self.pt[0] <= pt[0] and pt[1] <= self.pt[1]


LIMITS = (
    Limit((0.0, 1.3), (30.0, 40.0), 0.01),
    Limit((0.0, 1.3), (40.0, 100.0), 0.005),
    Limit((0.0, 1.3), (100.0, 600.0), 0.002),
    Limit((0.0, 1.3), (600.0, 1000.0), 0.005),
    Limit((1.3, 2.5), (30.0, math.inf), 0.01),
    Limit((2.5, 3.0), (30.0, math.inf), 0.02),
    Limit((3.0, math.inf), (30.0, math.inf), 0.03),
)


def claimed_from(storage_threshold: float) -> float:
    """pT from which closure is claimed, GeV, if only HLT jets above a threshold (GeV) are stored.

    Pairs whose probe falls below the threshold are missing, so that the median of the others is too high. From
    15 GeV + 1.5 times the threshold on (30 GeV with a threshold of 10 GeV, 45 GeV with 20 GeV) at most about 1% of the
    jets of that particle-level pT are, with a response of 0.9 and a resolution of 20%; then the median moves by
    1.25 * 1% * 20%, half of the smallest limit there.

    >>> claimed_from(20.0)
    45.0
    """
    return 15.0 + 1.5 * storage_threshold


def limit_of(eta: tuple[float, float], pt: tuple[float, float]) -> float | None:
    """The limit of a bin of η, signed or absolute, and pT (GeV); None if it does not lie within one of `LIMITS`.

    >>> limit_of((-1.3, 0.0), (100.0, 150.0))
    0.002
    """
    return next((limit.value for limit in LIMITS if limit.holds(eta, pt)), None)


def significance(tested: int, false_alarms: float, freedom: float = math.inf) -> float:
    """z, by which errors are multiplied; nan if nothing is tested.

    Args:
        tested: number of bins.
        false_alarms: fraction of the clean samples, at worst, in which a bin fails.
        freedom: degrees of freedom of the errors, where these come from a number of replicas: Student's t.

    >>> round(significance(1, 0.01), 3)
    2.326
    """
    if tested == 0:
        return math.nan
    # 1 - (1 - α)^(1/n) without the loss of digits
    return float(stats.t.isf(-math.expm1(math.log1p(-false_alarms) / tested), freedom))


def beyond(closure: ArrayLike, error: ArrayLike, limit: ArrayLike, z: float) -> NDArray[np.bool_]:
    """Which bins fail.

    Args:
        closure, error, limit: of the bins, any one shape.
        z: of `significance`.
    """
    return np.asarray(np.abs(closure) > np.asarray(limit) + z * np.asarray(error))
