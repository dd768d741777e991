"""A complete HLT-to-offline calibration: what is derived, kept together, and written as one correction set."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.corrections.pileup import Offset
from trila.corrections.resolution import Resolution
from trila.corrections.response_curve import Curve

__all__ = ["Calibration", "ResolutionRegion", "RunRange", "points_of"]

Array = NDArray[np.float64]


class ResolutionRegion(NamedTuple):
    """Relative pT resolution of corrected HLT jets in a region of |η|.

    Attributes:
        eta: lower and upper |η|.
        fit: its terms; None where it could not be fitted.
        pt: lowest and highest corrected pT that it was fitted to, GeV.
        uncertainty: relative, of the resolution.
    """

    eta: tuple[float, float]
    fit: Resolution | None
    pt: tuple[float, float]
    uncertainty: float


class RunRange(NamedTuple):
    """Remainder of the calibration in a range of runs, on top of the average over all runs.

    Attributes:
        first, last: runs, both included.
        curves: one for each region of η.
    """

    first: int
    last: int
    curves: tuple[Curve | None, ...]


class Calibration(NamedTuple):
    """Everything that goes into the file.

    Attributes:
        eta_edges: of the regions.
        curves: response of each region; None where it could not be derived.
        log_pt: ln of the corrected pT (GeV) of each region, where its `sources` are given.
        sources: relative change of the correction by source, for each region.
        offset: pile-up offset; None where the pairs do not know the pile-up.
        resolution: of corrected jets.
        runs: ranges of runs, ascending; empty where all runs have the same calibration.
    """

    eta_edges: tuple[float, ...]
    curves: tuple[Curve | None, ...]
    log_pt: tuple[Array, ...]
    sources: tuple[Mapping[str, Array], ...]
    offset: Offset | None
    resolution: tuple[ResolutionRegion, ...]
    runs: tuple[RunRange, ...] = ()


def points_of(curve: Curve | None, number: int = 201) -> Array:
    """ln of corrected pT over the range of a curve, for the uncertainties; empty without a curve."""
    return np.linspace(curve.low, curve.high, number) if curve is not None else np.empty(0)
