"""The sum over datasets, each scaled to its cross section."""

from collections.abc import Mapping, Sequence
from typing import Any

import hist
from hist.chunked import ChunkedHist

from trila.processors.errors import InputError
from trila.processors.partial import Partial

__all__ = ["DatasetSum", "scale_to"]


def scale_to(dataset: str, cross_section: float | None, partials: Sequence[Partial]) -> float:
    """Factor on the weights of a dataset: cross section over the sum of generator weights; 1 where not known.

    Args:
        dataset: its name.
        cross_section: pb, or None where not known.
        partials: of its processors.

    Raises:
        InputError: there is a cross section, and nothing, or nothing positive, to normalise by.
    """
    if cross_section is None:
        return 1.0
    sums = [part.cutflow.sumw[0] for part in partials if part.cutflow is not None]
    if not sums:
        raise InputError(
            f"dataset '{dataset}' has a cross_section, but no processor gives a cutflow to normalise by"
        )
    if not sums[0] > 0:
        raise InputError(
            f"dataset '{dataset}': the sum of generator weights is {sums[0]}, it cannot be normalised"
        )
    return cross_section / float(sums[0])


class DatasetSum:
    """Histograms and cutflows of several datasets: takes the memory of one, however many are added.

    Attributes:
        histograms: by name, each dataset scaled.
        cutflow: dataset to processor to rows.
    """

    def __init__(self) -> None:
        self.histograms: dict[str, hist.Hist[Any]] = {}
        self.cutflow: dict[str, dict[str, Any]] = {}

    def add(self, dataset: str, scale: float, partials: Mapping[str, Partial]) -> None:
        """Add a dataset: what each processor, by name, made of it."""
        flows = {name: part.cutflow for name, part in partials.items()}
        self.cutflow[dataset] = {name: flow.rows() for name, flow in flows.items() if flow is not None}
        for part in partials.values():
            for name, histogram in part.histograms.items():
                dense = histogram.to_hist() if isinstance(histogram, ChunkedHist) else histogram
                scaled = dense if scale == 1.0 else dense * scale
                self.histograms[name] = self.histograms[name] + scaled if name in self.histograms else scaled
