"""A binned mass spectrum as fits take it: counts in adjacent bins, and which of them a fit may look at."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spectrum"]

Array = NDArray[np.float64]


class Spectrum(NamedTuple):
    """Counts in adjacent bins of mass.

    Attributes:
        edges: increasing, without gaps, GeV, shape (bins + 1,).
        counts: events per bin, shape (bins,); sums of weights where `variances` is given.
        variances: sum of squared weights per bin; None for plain event counts (integers).
        used: True where a fit may look; False in bins that are blinded, vetoed or missing.
        name: where it came from, for titles and messages.
    """

    edges: Array
    counts: Array
    variances: Array | None
    used: NDArray[np.bool_]
    name: str
