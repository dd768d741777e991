"""Quantities of each run with their errors, from histograms of the processor `stability`.

What to use when: `response_points` for median and width of the response, `mass_points` for a resonance, `rate_points` for
triggers. All work on all runs at once.

Where the error of a quantity depends on its value, the points hold a function of it whose error does not: the logarithm of
a width, the square root of a rate (Anscombe, Biometrika 35 (1948) 246). Otherwise runs that fluctuate to one side
would get too small an error, and be taken for steps.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import hist
import numpy as np
from numpy.typing import NDArray

from trila.corrections.changes import change_points
from trila.corrections.response import (
    binned_quantiles,
    effective_entries,
    half_width,
    half_width_error,
    median_error,
)

__all__ = ["Points", "mass_points", "rate_points", "response_points"]

Array = NDArray[np.float64]
Runs = NDArray[np.int64]

_LEAST_COUNT = 25.0  # expected decisions, for the square root of a count to be Gaussian
_REGION, _SIDEBAND, _EDGE = 2.5, 4.0, 0.1  # of a resonance: in half widths, and as a part of the window
_LEAST_SENSITIVITY = 0.2


class Points(NamedTuple):
    """A quantity by run.

    Attributes:
        name: such as `response`, `mass.jpsi` or `rate.HLT_PFJet140`.
        label: what it is, in plain text.
        unit: of values and errors; "" for pure numbers.
        runs: ascending, shape (n,).
        values, errors: shape (n,).
        left_out: runs with too few entries.
        even, even_errors: function of the values whose errors do not depend on them, and its errors.
        back: from that function to values.
    """

    name: str
    label: str
    unit: str
    runs: Runs
    values: Array
    errors: Array
    left_out: tuple[int, ...]
    even: Array
    even_errors: Array
    back: Callable[[Array], Array]


def _by_run(histogram: hist.Hist[Any]) -> tuple[Runs, Array, Array]:
    """Runs, ascending, and sums of weights and of their squares with the run as first axis."""
    runs = np.array(list(histogram.axes["run"]), dtype=np.int64)
    order = np.argsort(runs)
    values, variances = (np.asarray(a, dtype=np.float64) for a in (histogram.values(), histogram.variances()))
    return runs[order], values[order], variances[order]


def _same(values: Array) -> Array:
    return values


def response_points(histogram: hist.Hist[Any], entries: float) -> list[Points]:
    """Median and half width of the response.

    The error of both is their run's half width over the square root of its entries, times a number that depends on the
    shape alone; so that comes from all runs together. For the median, the half width is that of all the runs between two
    steps of the resolution.
    """
    runs, values, variances = _by_run(histogram)
    edges = np.asarray(histogram.axes["response"].edges)
    number = effective_entries(values, variances)
    widths = half_width(values, edges)
    keep = (number >= entries) & (widths > 0)
    if not keep.any():
        return []
    left_out = tuple(runs[~keep].tolist())
    runs, number, widths = runs[keep], number[keep], widths[keep]
    whole, whole_variances = values[keep].sum(axis=0), variances[keep].sum(axis=0)
    shape = np.sqrt(effective_entries(whole, whole_variances)) / half_width(whole, edges)
    relative = half_width_error(whole, whole_variances, edges) * shape / np.sqrt(number)
    steady = change_points(np.log(widths), relative)
    pieces = np.diff(np.concatenate([[0], steady.indices, [runs.size]]))
    width = np.repeat(np.exp(steady.means), pieces)
    medians = binned_quantiles(values[keep], edges, 0.5)
    errors = median_error(whole, whole_variances, edges) * shape * width / np.sqrt(number)
    what = str(histogram.axes["response"].label).replace("$p_T$", "pT")
    return [
        Points("response", f"median of {what}", "", runs, medians, errors, left_out, medians, errors, _same),
        Points(
            "resolution", f"half width (68%) of {what}", "", runs, widths, relative * widths, left_out, np.log(widths),
            relative, np.exp,
        ),
    ]  # fmt: skip


def mass_points(name: str, histogram: hist.Hist[Any], entries: float) -> list[Points]:
    """Mean mass in a region around a resonance, without the background.

    The background is a straight line through the sidebands' densities. So signal and first moment are sums over bins with
    fixed factors, and all runs take one product of matrices. The mean follows a shift of the peak with a sensitivity κ
    below 1, as the region does not move: it is taken from the spectrum of all runs, and divided out.
    """
    runs, values, variances = _by_run(histogram)
    center = np.asarray(histogram.axes["mass"].centers)
    pool, pool_variance = values.sum(axis=0), variances.sum(axis=0)
    if effective_entries(pool, pool_variance) < entries:
        return []
    zeroth, first = _moments(center, pool)
    signal = float(pool @ zeroth)
    if signal <= 5.0 * np.sqrt(pool_variance @ zeroth**2):
        return []
    mean = float(pool @ first) / signal
    shift = first - mean * zeroth
    sensitivity = -float(np.gradient(pool, center) @ shift) / signal
    if sensitivity < _LEAST_SENSITIVITY:
        return []
    signals = values @ zeroth
    # as many pairs without background would have the same relative error
    keep = (signals > 0) & (signals**2 >= entries * (variances @ zeroth**2))
    if not keep.any():
        return []
    scale = signals[keep] * sensitivity
    masses = mean + (values[keep] @ shift) / scale
    errors = np.sqrt(variances[keep] @ shift**2) / scale
    left_out = tuple(runs[~keep].tolist())
    label = f"mean mass of {name}"
    return [Points(f"mass.{name}", label, "GeV", runs[keep], masses, errors, left_out, masses, errors, _same)]


def _moments(center: Array, pool: Array) -> tuple[Array, Array]:
    """Factors of the bins in the signal of the region, and in its first moment, shape (bins,).

    The region is 2.5 half widths (68%) around the median of what is above the background, sidebands are beyond four; where
    the window has less than a tenth of its length there, its outer tenths.
    """
    step = center[1] - center[0]
    edges = np.append(center - 0.5 * step, center[-1] + 0.5 * step)
    reach = _EDGE * (edges[-1] - edges[0])
    low, high = edges[0] + reach, edges[-1] - reach
    inside = (center > low) & (center < high)
    for _ in range(3):  # the first sidebands are the outer tenths
        below, above = center < low, center > high
        density = pool[below].mean(), pool[above].mean()
        places = center[below].mean(), center[above].mean()
        peak = pool - np.interp(center, places, density)
        peak[below | above] = 0.0
        width = half_width(peak, edges)
        if not width > 0:  # no peak: nor is there a signal in what the region was before
            break
        middle = binned_quantiles(peak, edges, 0.5)
        low = max(middle - _SIDEBAND * width, edges[0] + reach)
        high = min(middle + _SIDEBAND * width, edges[-1] - reach)
        inside = (np.abs(center - middle) < _REGION * width) & (center > low) & (center < high)
    below, above = center < low, center > high
    left, right = center[below].mean(), center[above].mean()
    to_right = (center - left) / (right - left)

    def factors(moment: Array) -> Array:
        at_left, at_right = (moment * (1.0 - to_right))[inside].sum(), (moment * to_right)[inside].sum()
        background = at_left * below / below.sum() + at_right * above / above.sum()
        return np.asarray(np.where(inside, moment, 0.0) - background)

    return factors(np.ones_like(center)), factors(center)


def rate_points(
    found: Mapping[str, hist.Hist[Any]], blocks: Mapping[int, int], block_seconds: float | None
) -> list[Points]:
    """Decisions of each trigger, and selected events, per luminosity block or second."""
    length, unit = (1.0, "1/block") if block_seconds is None else (block_seconds, "Hz")
    runs, events, _ = _by_run(found["events"])
    counted = {"rate.events": (runs, events[:, 1], events.sum(axis=1))}
    if "triggers" in found:
        histogram = found["triggers"]
        runs, fired, _ = _by_run(histogram)
        for index, trigger in enumerate(histogram.axes["trigger"]):
            counted[f"rate.{trigger}"] = (runs, fired[:, index, 1], fired[:, index].sum(axis=1))
    points = []
    for name, (runs, counts, seen) in counted.items():
        on_menu = seen > 0
        one = _rate(name, runs[on_menu], counts[on_menu], blocks, length, unit)
        points += [one] if one is not None else []
    return points


def _rate(
    name: str, runs: Runs, counts: Array, blocks: Mapping[int, int], length: float, unit: str
) -> Points | None:
    """One rate; None where too few decisions are expected in every run."""
    time = length * np.array([blocks.get(run, 0) for run in runs.tolist()], dtype=np.float64)
    if not time.sum() > 0:
        return None
    # by what is expected, not by what was counted: a trigger that stopped is what this is for
    keep = time * counts.sum() / time.sum() >= _LEAST_COUNT
    if not keep.any():
        return None
    left_out = tuple(runs[~keep].tolist())
    runs, counts, time = runs[keep], counts[keep], time[keep]
    root = 2.0 * np.sqrt((counts + 0.375) / time)
    errors = np.sqrt(np.maximum(counts, 1.0)) / time
    label = f"rate of {name.removeprefix('rate.')}"
    return Points(
        name, label, unit, runs, counts / time, errors, left_out, root, time**-0.5, lambda y: 0.25 * y**2
    )
