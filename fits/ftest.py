"""How many parameters a background needs: the F-test over nested functions.

    F = [(χ²_a - χ²_b) / (ν_a - ν_b)] / (χ²_b / ν_b)

compares function a with the next one, b, of its family; p is the probability of a larger F if a suffices. A parameter
is added while p < 0.05 (Fisher; for dijet spectra CMS, arXiv:1911.03947). χ² is the deviance of the Poisson likelihood.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from trila.fits.background import BackgroundFit, Windows, fit_background
from trila.fits.errors import FitError
from trila.fits.functions import FAMILIES, resolve

__all__ = ["LEVEL", "FTest", "FTests", "Statistics", "f_test", "statistics"]

#: Below this p-value a parameter is added.
LEVEL = 0.05


class FTest(NamedTuple):
    """A function compared with the next one.

    Attributes:
        simple, rich: names.
        f: the statistic.
        p_value: of it.
    """

    simple: str
    rich: str
    f: float
    p_value: float


class Statistics(NamedTuple):
    """F and its p-value, each of shape (M,)."""

    f: NDArray[np.float64]
    p_value: NDArray[np.float64]


class FTests(NamedTuple):
    """The ladder of a family.

    Attributes:
        tests: each function with the next.
        fits: of all functions that converged, by name.
        failed: those that did not, with the reason.
        chosen: the simplest function that the next one does not improve.
    """

    tests: tuple[FTest, ...]
    fits: dict[str, BackgroundFit]
    failed: dict[str, str]
    chosen: str


def f_test(windows: Windows, family: str) -> FTests:
    """Compare the functions of a family, from the simplest on.

    Args:
        windows: one.
        family: a key of `functions.FAMILIES`.

    Raises:
        FitError: no such family, or none of its functions can be fitted.
    """
    if family not in FAMILIES:
        raise FitError(f"unknown family '{family}'; choose one of {', '.join(FAMILIES)}")
    fits: dict[str, BackgroundFit] = {}
    failed: dict[str, str] = {}
    for name in FAMILIES[family]:
        try:
            found = fit_background(resolve(name), windows)
        except FitError as error:
            failed[name] = str(error)
            continue
        if found.good[0]:
            fits[name] = found
        else:
            failed[name] = "the fit did not converge"
    if not fits:
        raise FitError(f"no function of family {family} could be fitted: {next(iter(failed.values()))}")
    names = list(fits)
    tests = tuple(_compared(fits[a], fits[b]) for a, b in pairwise(names))
    return FTests(tests, fits, failed, _chosen(names, tests))


def statistics(simple: BackgroundFit, rich: BackgroundFit) -> Statistics:
    """F of two nested functions, fitted to the same M windows."""
    gained = simple.ndof - rich.ndof
    # the richer function holds the simpler one: a worse fit of it would be a failed one, and rounding is no loss
    difference = np.maximum(simple.deviance - rich.deviance, 0.0)
    f = difference / gained / (rich.deviance / rich.ndof)
    return Statistics(f, fdtrc(gained, rich.ndof, f))


def _compared(simple: BackgroundFit, rich: BackgroundFit) -> FTest:
    found = statistics(simple, rich)
    return FTest(simple.function.name, rich.function.name, float(found.f[0]), float(found.p_value[0]))


def _chosen(names: Sequence[str], tests: Sequence[FTest]) -> str:
    """The simplest function whose successor does not improve the fit."""
    improved = np.array([test.p_value < LEVEL for test in tests])
    return names[int(np.argmin(improved))] if not improved.all() else names[-1]
