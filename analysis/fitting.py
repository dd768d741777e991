"""Fits of a spectrum's background: `trila fit` and `trila ftest`.

| `--function` | background |
| --- | --- |
| a name, `expr:EXPRESSION`, `FILE.py:NAME` | that function |
| `gp`, `gp:MEAN` | a Gaussian process about it, by default about dijet3 |
| `swift:FUNCTION` | that function in a sliding window for each bin; `trila fit` alone |
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.fit_inputs import FitInput, number, write_product
from trila.analysis.provenance import record
from trila.fits.background import BackgroundFit, fit_background, whole
from trila.fits.errors import FitError
from trila.fits.ftest import FTests, f_test
from trila.fits.functions import SpectrumFunction, resolve
from trila.fits.gaussian_process import LENGTH_FLOOR, GaussianProcess, gaussian_process
from trila.fits.sliding_background import sliding_background
from trila.fits.spectrum import scale

__all__ = [
    "GP",
    "SWIFT",
    "FitOutcome",
    "background",
    "fit",
    "fit_content",
    "fitted",
    "ftest",
    "notes_on",
    "weights_note",
]

#: Kinds of backgrounds that are more than a function, and the mean of the first.
GP, SWIFT = "gp", "swift"
_MEAN = "dijet3"
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
    kind, name = background(function)
    mean = resolve(name)
    if kind == SWIFT:
        content, notes = _swift(mean, given)
    elif kind == GP:
        # bins are about as wide as the resolution
        lengths = LENGTH_FLOOR * np.diff(given.spectrum.edges)
        process = gaussian_process(fitted(mean, given), np.append(lengths, lengths[-1]))
        content, notes = _process_content(process, given), notes_on(process.fit, given)
    else:
        found = fitted(mean, given)
        content, notes = fit_content(found, given), notes_on(found, given)
    content["provenance"] = record("fit", given.asked | {"function": function}).as_json()
    write_product(output, content)
    return FitOutcome(content, notes)


def background(function: str) -> tuple[str, str]:
    """Kind of a background (`GP`, `SWIFT` or nothing, for a function) and the name of its function.

    Raises:
        FitError: sliding windows of no function.

    >>> background("gp"), background("dijet4")
    (('gp', 'dijet3'), ('', 'dijet4'))
    """
    kind, _, name = function.partition(":")
    if kind == SWIFT and not name:
        raise FitError(f"--function {function} names no function; give one, such as {SWIFT}:dijet4")
    return (kind, name or _MEAN) if kind in (GP, SWIFT) else ("", function)


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
    notes = weights_note(given)
    if found.p_value[0] < 0.01:
        bad = (
            f"{found.function.name} describes the spectrum badly: chi2 {found.deviance[0]:.1f} for {found.ndof[0]} degrees of "
            f"freedom, p-value {found.p_value[0]:.2g}; try `trila ftest`"
        )
        notes += (bad,)
    return notes


def weights_note(given: FitInput) -> tuple[str, ...]:
    """What is approximate with a spectrum of weights; nothing for event counts."""
    if given.spectrum.variances is None:
        return ()
    return (f"{given.spectrum.name} holds sums of weights: {_APPROXIMATION}",)


def fit_content(found: BackgroundFit, given: FitInput) -> dict[str, Any]:
    """FIT.json of the first window."""
    return {
        "function": found.function.name,
        "parameters": list(found.function.parameters),
        "values": found.values[0].tolist(),
        # that of a norm far above its events may be no floating-point number
        "covariance": [[number(value) for value in row] for row in found.covariance[0]],
        "chi2": {"deviance": float(found.deviance[0]), "pearson": float(found.pearson[0])},
        "ndof": int(found.ndof[0]),
        "p_value": number(found.p_value[0]),
    } | _spectrum_content(found.prediction[0], given)


def _process_content(found: GaussianProcess, given: FitInput) -> dict[str, Any]:
    """FIT.json of a Gaussian process, whose parameters are those of its kernel."""
    names = found.hyperparameters._fields
    return fit_content(found.fit, given) | {
        "parameters": list(names),
        "values": list(found.hyperparameters),
        "covariance": [[None] * len(names) for _ in names],
        "log_evidence": found.log_evidence,
    }


def _swift(function: SpectrumFunction, given: FitInput) -> tuple[dict[str, Any], tuple[str, ...]]:
    """FIT.json of sliding windows, and what a user should know of them.

    Raises:
        FitError: as `sliding_background`, and windows that did not converge.
    """
    spectrum = given.spectrum
    found = sliding_background(function, spectrum, given.sqrt_s)
    chosen, used = found.chosen, spectrum.used
    if chosen.failed:
        raise FitError(
            f"{chosen.failed} of the windows of {function.name} did not converge at the best of {len(found.tried)} widths, "
            "expected all to; take a function with fewer parameters, or another range"
        )
    variance = found.prediction * scale(spectrum)
    pearson = np.sum((spectrum.counts - found.prediction)[used] ** 2 / variance[used])
    content = {
        "function": f"{SWIFT}:{function.name}",
        "parameters": [],
        "values": [],
        "covariance": [],
        "chi2": {"deviance": chosen.deviance, "pearson": float(pearson)},
        "ndof": round(chosen.ndof),
        "p_value": chosen.p_value,
        "tried": [one._asdict() for one in found.tried],
        "half_width": chosen.half_width,
    } | _spectrum_content(found.prediction, given)
    notes = [f"windows of {chosen.half_width} bins on both sides"]
    if spectrum.variances is not None:
        notes.append(f"{spectrum.name} holds sums of weights: {_APPROXIMATION}")
    if not found.accepted:
        notes.append(
            f"no windows of {function.name} describe the spectrum: the best p-value is {chosen.p_value:.2g}; take a function with "
            "more parameters"
        )
    return content, tuple(notes)


def _spectrum_content(prediction: NDArray[np.float64], given: FitInput) -> dict[str, Any]:
    """What FIT.json says of the spectrum; bins that are blinded have no data."""
    spectrum = given.spectrum
    low, high = spectrum.edges[:-1], spectrum.edges[1:]
    hidden = np.zeros(spectrum.counts.size, dtype=bool)
    for begin, end in given.blind:
        hidden |= (high > begin) & (low < end)
    content: dict[str, Any] = {
        "edges": spectrum.edges.tolist(),
        "data": [None if gone else float(count) for gone, count in zip(hidden, spectrum.counts, strict=True)],
        "prediction": prediction.tolist(),
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
        "provenance": record("ftest", given.asked | {"family": family}).as_json(),
    }
    if output is not None:
        write_product(output, content)
    return found, content
