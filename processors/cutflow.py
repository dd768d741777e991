"""Cutflows: how many events, raw and weighted, are left after each cut."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trila.processors.compiled import kernel

__all__ = ["Cutflow"]


@kernel
def _count(
    stage: NDArray[Any], weight: NDArray[np.float64], events: NDArray[np.int64], sumw: NDArray[np.float64],
    sumw2: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add each event to its last stage."""
    for k in range(len(stage)):
        events[stage[k]] += 1
        sumw[stage[k]] += weight[k]
        sumw2[stage[k]] += weight[k] * weight[k]


@dataclass(frozen=True)
class Cutflow:
    """Counts after each of a list of cuts; cutflows of the same cuts add up.

    Attributes:
        cuts: names, in order; each row counts what passed this cut and all before it.
        events: raw counts, shape (n_cuts,).
        sumw: sums of weights, shape (n_cuts,).
        sumw2: sums of squared weights, shape (n_cuts,).
    """

    cuts: tuple[str, ...]
    events: NDArray[np.int64]
    sumw: NDArray[np.float64]
    sumw2: NDArray[np.float64]

    @classmethod
    def from_stages(
        cls,
        cuts: tuple[str, ...],
        stage: NDArray[Any],
        weight: NDArray[np.float64],
        generated: NDArray[np.float64] | None = None,
    ) -> "Cutflow":
        """A cutflow from the number of cuts that each event passed.

        Args:
            cuts: names of the cuts; the first one is passed by all.
            stage: per event, the number of cuts passed after the first, 0 to `len(cuts) - 1`.
            weight: per event.
            generated: generator weights, for the first row, which simulation is normalised by; `weight`, if not given.

        >>> Cutflow.from_stages(("all", "a", "b"), np.array([0, 2, 1]), np.ones(3)).events.tolist()
        [3, 2, 1]
        """

        events = np.zeros(len(cuts), np.int64)
        sumw, sumw2 = np.zeros(len(cuts)), np.zeros(len(cuts))
        _count(np.asarray(stage), weight, events, sumw, sumw2)
        for counted in (events, sumw, sumw2):  # by their last stage: each passed those before as well
            counted[:] = np.cumsum(counted[::-1])[::-1]
        flow = cls(cuts, events, sumw, sumw2)
        if generated is not None:
            flow.sumw[0], flow.sumw2[0] = generated.sum(), (generated**2).sum()
        return flow

    def __add__(self, other: "Cutflow") -> "Cutflow":
        if self.cuts != other.cuts:
            raise ValueError(f"cutflows of different cuts do not add up: {self.cuts} and {other.cuts}")
        return Cutflow(
            self.cuts, self.events + other.events, self.sumw + other.sumw, self.sumw2 + other.sumw2
        )

    def rows(self) -> list[dict[str, Any]]:
        """For JSON: a list of `cut`, `events`, `sumw`, `sumw2`."""
        return [
            {"cut": cut, "events": int(n), "sumw": float(w), "sumw2": float(w2)}
            for cut, n, w, w2 in zip(self.cuts, self.events, self.sumw, self.sumw2, strict=True)
        ]
