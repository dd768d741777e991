"""Tests of a search on pseudo-data: `trila bias`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.fit_inputs import FitInput, check_place, number, write_product
from trila.analysis.fitting import FitOutcome
from trila.analysis.provenance import record
from trila.analysis.scans import scan, valid_search
from trila.fits.background import BackgroundFit, fit_background
from trila.fits.bias import coverage, injection, spurious_signal
from trila.fits.errors import FitError
from trila.fits.functions import resolve

__all__ = ["BiasChoices", "bias"]

Array = NDArray[np.float64]


class BiasChoices(NamedTuple):
    """What is tested.

    Attributes:
        truths: functions that pseudo-data are made of; none: that of the search.
        strengths: of injected signals, in their expected errors.
        toys: for each truth, mass and strength; 0 for spurious signals alone.
        seed: of the toys.
        window: half width of sliding windows in widths of the signal; None for one fit to the whole range.
        level: of confidence, of the limits whose coverage is measured.
    """

    truths: tuple[str, ...] = ()
    strengths: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0, 5.0)
    toys: int = 200
    seed: int = 0
    window: float | None = None
    level: float = 0.95


def bias(
    given: FitInput, function: str, shape: str, points: Array, output: Path, choices: BiasChoices, *,
    sources: Sequence[str] = (), progress: Callable[[str, int], Callable[[int], None]],
) -> FitOutcome:  # fmt: skip
    """Spurious signals, injected signals and coverage at each mass, written as JSON.

    Args:
        given, function, shape, points, sources: of the search, as `scan` takes them.
        output: the file.
        choices: what is tested.
        progress: shows long work.

    Raises:
        FitError, InputError: as `scan`, a truth that cannot be fitted, and a file that cannot be written.
    """
    check_place(output)
    ready = scan(given, function, shape, points, sources=sources, window=choices.window)
    found = valid_search(ready.fit, ready.templates)
    names = choices.truths or (function,)
    advance = progress("backgrounds", len(names))
    content: dict[str, Any] = {"spurious": [], "injection": [], "linearity": [], "coverage": []}
    for name in names:
        truth = _fitted(name, ready.fit)
        spurious = spurious_signal(found, truth)
        content["spurious"] += [
            {"truth": name} | _row(("mass", "spurious", "sigma", "ratio"), values)
            for values in zip(*spurious, strict=True)
        ]
        if choices.toys:
            made = injection(
                found, strengths=choices.strengths, toys=choices.toys, seed=choices.seed, truth=truth
            )
            content["injection"] += [
                {"truth": name, "mass": float(mass), "failed": int(made.failed[i, k]), "toys": choices.toys}
                | _row(_INJECTION, [getattr(made, field)[i, k] for field in _INJECTION])
                | {"pulls": [float(x) for x in made.pulls[i, k] if np.isfinite(x)]}
                for i, mass in enumerate(made.masses)
                for k in range(made.strengths.size)
            ]
            content["linearity"] += [
                {"truth": name, "mass": float(mass)}
                | _row(_LINE, [getattr(made, field)[i] for field in _LINE])
                for i, mass in enumerate(made.masses)
            ]
        above = [s for s in choices.strengths if s > 0]
        # no limit excludes a signal of 0
        if choices.toys and above:
            tested = coverage(
                found, strengths=above, toys=choices.toys, seed=choices.seed, truth=truth, level=choices.level
            )
            content["coverage"] += [
                {"truth": name, "mass": float(mass), "failed": int(tested.failed[i, k]), "toys": choices.toys}
                | _row(_COVERAGE, [getattr(tested, field)[i, k] for field in _COVERAGE])
                for i, mass in enumerate(tested.masses)
                for k in range(tested.strengths.size)
            ]
        advance(1)
    options = (
        given.asked
        | {"function": function, "signal": shape, "uncertainties": list(sources)}
        | choices._asdict()
    )
    content |= {"unit": "events", "provenance": record("bias", options).as_json()}
    write_product(output, content)
    return FitOutcome(content, ready.notes)


_INJECTION = (
    "injected", "fitted", "fitted_error", "mean_pull", "mean_pull_error", "width", "width_error",
)  # fmt: skip
_LINE = ("slope", "slope_error", "offset", "offset_error")
_COVERAGE = ("injected", "covered", "low", "high")


def _fitted(name: str, fit: BackgroundFit) -> BackgroundFit:
    """Another function fitted to the windows of a search."""
    if name == fit.function.name:
        return fit
    truth = fit_background(resolve(name), fit.windows)
    if not truth.good.all():
        raise FitError(
            f"the fit of {name} did not converge in {int((~truth.good).sum())} of {truth.good.size} windows; take another --truth"
        )
    return truth


def _row(names: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    return {name: number(value) for name, value in zip(names, values, strict=True)}
