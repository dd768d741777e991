"""Tag-and-probe pairs as arrays: what a calibration is derived from and closed with."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pairs"]

Array = NDArray[np.float64]


class Pairs(NamedTuple):
    """One entry a pair, all of shape (n,); momenta in GeV.

    Attributes:
        hlt: HLT pT of the probe, at the level that the calibration starts from.
        offline: offline pT of the probe, at the level that it leads to.
        tag: offline pT of the tag.
        eta, phi: of the probe, HLT.
        weight: of the event.
        run, luminosity_block, event: identity of the event.
        pileup: ρ (GeV) or mean number of interactions; None if unknown.
        area: of the HLT jet; None if unknown.
        particle: particle-level pT of the probe, 0 where it has no partner; None in data.
        tag_hlt: HLT pT of the tag, 0 where it has no partner; None if unknown.
        tag_eta: of the tag, offline; None if unknown.
        alpha: third jet's pT over the mean of the two leading.
    """

    hlt: NDArray[Any]
    offline: NDArray[Any]
    tag: NDArray[Any]
    eta: NDArray[Any]
    phi: NDArray[Any]
    weight: Array
    run: NDArray[Any]
    luminosity_block: NDArray[Any]
    event: NDArray[Any]
    pileup: NDArray[Any] | None = None
    area: NDArray[Any] | None = None
    particle: NDArray[Any] | None = None
    tag_hlt: NDArray[Any] | None = None
    tag_eta: NDArray[Any] | None = None
    alpha: NDArray[Any] | None = None

    def take(self, which: NDArray[Any]) -> "Pairs":
        """The pairs that a mask or an index names."""
        chosen: dict[str, Any] = {name: None if c is None else c[which] for name, c in self._asdict().items()}
        return Pairs(**chosen)
