"""Fits of a spectrum's background: `trila fit` and `trila ftest`."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trila.analysis.fit_inputs import FitInput, number, provenance, write_product
from trila.fits.background import BackgroundFit, fit_background, whole
from trila.fits.errors import FitError
from trila.fits.ftest import FTests, f_test
from trila.fits.functions import SpectrumFunction, resolve

__all__ = ["FitOutcome", "fit", "fit_content", "fitted", "ftest", "notes_on"]

#: What is said of spectra of weights.
_APPROXIMATION = "scaled Poisson: counts and predictions are divided by variance/count of each bin"


class FitOutcome(NamedTuple):
    """What a command made.

    Attributes:
        content: of the JSON.
        notes: what the user should know of it.
    """

    content: Any
    notes: tuple[str, ...]


def fit(given: FitInput, function: str, output: Path) -> FitOutcome:
    """Fit a function to a spectrum, and write FIT.json.

    Raises:
        FitError: as `fit_background`, and a fit that did not converge.
        InputError: the file cannot be written.
    """
    found = fitted(resolve(function), given)
    content = fit_content(found, given) | {
        "provenance": provenance("fit", given.asked | {"function": function})
    }
    write_product(output, content)
    return FitOutcome(content, notes_on(found, given))


def fitted(function: SpectrumFunction, given: FitInput) -> BackgroundFit:
    """The fit of one function to a whole spectrum.

    Raises:
        FitError: as `fit_background`, and a fit that did not converge.
    """
    found = fit_background(function, whole(given.spectrum, given.sqrt_s))
    if not found.good[0]:
        edges = given.spectrum.edges
        raise FitError(
            f"the fit of {function.name} to {given.spectrum.name} from {edges[0]:g} to {edges[-1]:g} GeV did not converge "
            f"(distance to the minimum {found.distance[0]:.2g}, expected below 1e-9): its parameters are not determined; take "
            "a function with fewer parameters, or another range"
        )
    return found


def notes_on(found: BackgroundFit, given: FitInput) -> tuple[str, ...]:
    """What a user should know of a fit before trusting what is built on it."""
    notes = []
    if given.spectrum.variances is not None:
        notes.append(f"{given.spectrum.name} holds sums of weights: {_APPROXIMATION}")
    if found.p_value[0] < 0.01:
        notes.append(
            f"{found.function.name} describes the spectrum badly: chi2 {found.deviance[0]:.1f} for {found.ndof[0]} degrees of "
            f"freedom, p-value {found.p_value[0]:.2g}; try `trila ftest`"
        )
    return tuple(notes)


def fit_content(found: BackgroundFit, given: FitInput) -> dict[str, Any]:
    """FIT.json of the first window; bins that are blinded have no data."""
    spectrum = given.spectrum
    low, high = spectrum.edges[:-1], spectrum.edges[1:]
    hidden = np.zeros(spectrum.counts.size, dtype=bool)
    for begin, end in given.blind:
        hidden |= (high > begin) & (low < end)
    content: dict[str, Any] = {
        "function": found.function.name,
        "parameters": list(found.function.parameters),
        "values": found.values[0].tolist(),
        "covariance": found.covariance[0].tolist(),
        "chi2": {"deviance": float(found.deviance[0]), "pearson": float(found.pearson[0])},
        "ndof": int(found.ndof[0]),
        "p_value": number(found.p_value[0]),
        "edges": spectrum.edges.tolist(),
        "data": [None if gone else float(count) for gone, count in zip(hidden, spectrum.counts, strict=True)],
        "prediction": found.prediction[0].tolist(),
        "used": spectrum.used.tolist(),
        "blinded": [list(window) for window in given.blind],
        "sqrt_s": given.sqrt_s,
        "spectrum": spectrum.name,
    }
    if spectrum.variances is not None:
        content["variances"] = [
            None if gone else float(v) for gone, v in zip(hidden, spectrum.variances, strict=True)
        ]
        content["approximation"] = _APPROXIMATION
    return content


def ftest(given: FitInput, family: str, output: Path | None) -> tuple[FTests, dict[str, Any]]:
    """Compare the functions of a family, and write the table if a file is given.

    Raises:
        FitError: as `f_test`.
        InputError: the file cannot be written.
    """
    found = f_test(whole(given.spectrum, given.sqrt_s), family)
    content = {
        "family": family,
        "tests": [{"from": t.simple, "to": t.rich, "f": t.f, "p_value": t.p_value} for t in found.tests],
        "chosen": found.chosen,
        "fits": {
            name: {"chi2": float(one.deviance[0]), "ndof": int(one.ndof[0]), "p_value": float(one.p_value[0])}
            for name, one in found.fits.items()
        },
        "failed": found.failed,
        "provenance": provenance("ftest", given.asked | {"family": family}),
    }
    if output is not None:
        write_product(output, content)
    return found, content
