"""Upper limits over a scan of masses: `trila limit SPECTRUM`.

The background is fitted alone, to the whole range or in windows; then the likelihood of signal plus background is built for
all masses at once, with the background linear about its fit. Where that is not valid the mass is done again with the
function itself. Each limit carries its certificate; one that fails it is null.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.fit_inputs import FitInput, provenance, write_product
from trila.analysis.fitting import fitted, notes_on
from trila.fits.background import BackgroundFit, fit_background
from trila.fits.certificates import Certificate, Check, certify
from trila.fits.functions import resolve
from trila.fits.limits import Limits, best_fit_error, upper_limits
from trila.fits.profile import profile
from trila.fits.search import Form, Search, SignalTemplates, linearity, search, templates
from trila.fits.signal_systematics import Uncertainty, uncertainties
from trila.fits.signals import signal
from trila.fits.windows import merged, sliding

__all__ = ["LimitOutcome", "Scan", "limit", "scan"]

Array = NDArray[np.float64]

#: Largest difference of the linear background from the function, in statistical errors of a bin.
LINEAR = 0.2


class Scan(NamedTuple):
    """Background and signal at all masses of a scan that can be done.

    Attributes:
        fit: of the background, to one window or one for each mass.
        templates: of the signal.
        skipped: other masses, with the reason.
        notes: what a user should know.
    """

    fit: BackgroundFit
    templates: SignalTemplates
    skipped: dict[float, str]
    notes: tuple[str, ...]


class LimitOutcome(NamedTuple):
    """What `limit` made.

    Attributes:
        content: of LIMITS.json.
        search: the models, for export.
        notes: what a user should know.
    """

    content: list[dict[str, Any]]
    search: Search
    notes: tuple[str, ...]


def scan(
    given: FitInput, function: str, shape: str, points: Array, *, sources: Sequence[str] = (), window: float | None = None
) -> Scan:  # fmt: skip
    """Fit the background and make the signal's templates.

    Args:
        given: the spectrum.
        function: of the background.
        shape: SIGNAL as on the command line.
        points: masses, GeV.
        sources: SOURCE=SIZE of uncertainties.
        window: half width of sliding windows in widths of the signal; None for one fit to the whole range.

    Raises:
        FitError: as `fit_background`, `signal`, `uncertainties`, `sliding`.
    """
    background, peak = resolve(function), signal(shape)
    known = uncertainties(sources)
    visible = np.array([not any(low < m < high for low, high in given.blind) for m in points])
    skipped = {float(m): "blinded" for m in points[~visible]}
    if window is None:
        fit = fitted(background, given)
        notes = notes_on(fit, given)
        made = templates(peak, points[visible], given.spectrum.edges, _in_events(known))
    else:
        spectrum = merged(given.spectrum, peak, points[visible])
        slices = sliding(
            spectrum,
            peak,
            points[visible],
            given.sqrt_s,
            parameters=len(background.parameters),
            nsigma=window,
        )
        fit = fit_background(background, slices.windows)
        skipped |= {one.mass: one.reason for one in slices.skipped}
        notes = tuple(f"{len(skipped)} of {points.size} masses are left out" for _ in [0] if skipped)
        made = templates(
            peak,
            slices.masses,
            spectrum.edges,
            _in_events(known),
            first=slices.first,
            bins=slices.windows.counts.shape[1],
        )
        fit, made, failed = _converged(fit, made)
        skipped |= failed
    return Scan(fit, _spurious(fit, made, known), skipped, notes)


def _in_events(known: Sequence[Uncertainty]) -> list[Uncertainty]:
    return [one for one in known if one.unit != "sigma"]


def _spurious(fit: BackgroundFit, made: SignalTemplates, known: Sequence[Uncertainty]) -> SignalTemplates:
    """Spurious signals given in units of the statistical error, in events."""
    relative = [one for one in known if one.unit == "sigma"]
    if not relative:
        return made
    bare = search(fit, made._replace(up={}, down={}, norms={}, spurious={}))
    error = best_fit_error(bare.model, profile(bare.model))[1] * bare.unit
    return made._replace(spurious=made.spurious | {one.name: one.size * error for one in relative})


def _converged(
    fit: BackgroundFit, made: SignalTemplates
) -> tuple[BackgroundFit, SignalTemplates, dict[float, str]]:
    """Windows whose fit converged; the others with the reason."""
    good = fit.good
    failed = {
        float(m): f"the fit of {fit.function.name} in its window did not converge" for m in made.masses[~good]
    }
    if not failed:
        return fit, made, failed
    return (*_part(fit, made, np.flatnonzero(good)), failed)


def _part(
    fit: BackgroundFit, made: SignalTemplates, index: NDArray[np.int64]
) -> tuple[BackgroundFit, SignalTemplates]:
    """Some masses of a scan."""
    part = made._replace(
        masses=made.masses[index], nominal=made.nominal[index], up={n: x[index] for n, x in made.up.items()},
        down={n: x[index] for n, x in made.down.items()}, spurious={n: x[index] for n, x in made.spurious.items()},
    )  # fmt: skip
    if len(fit.windows.edges) > 1:
        windows = fit.windows._replace(
            **{n: getattr(fit.windows, n)[index] for n in ("edges", "counts", "weight")}
        )
        fit = fit._replace(windows=windows, **{n: getattr(fit, n)[index] for n in BackgroundFit._fields[2:]})
    return fit, part


class _Row(NamedTuple):
    """Numbers at one mass, in events."""

    observed: float
    expected: Array
    best_fit: float
    sigma: float
    certificate: Certificate
    form: Form


def limit(
    given: FitInput, function: str, shape: str, points: Array, output: Path, *, sources: Sequence[str] = (),
    level: float = 0.95, window: float | None = None, check: Check = "sample", luminosity: float | None = None,
) -> LimitOutcome:  # fmt: skip
    """Limits on the yield of a signal, or on its cross section times branching fraction times acceptance.

    Args:
        level: of confidence.
        check: which masses Minuit fits again.
        luminosity: 1/pb, for limits in pb; None for limits in events.
        others: as `scan`.

    Raises:
        FitError, InputError: as `scan`, and a file that cannot be written.
    """
    ready = scan(given, function, shape, points, sources=sources, window=window)
    found = search(ready.fit, ready.templates)
    rows = limit_rows(found, level=level, check=check)
    per, unit = (1.0, "events") if luminosity is None else (1 / luminosity, "pb")
    options = {
        **given.asked, "function": function, "signal": shape, "uncertainties": list(sources), "level": level,
        "window": window, "check": check, "luminosity": luminosity,
    }  # fmt: skip
    made = provenance("limit", options)["digest"]
    content = [
        _entry(float(mass), row, per, unit, level, made)
        for mass, row in zip(ready.templates.masses, rows, strict=True)
    ]
    content += [_missing(mass, reason, unit, level, made) for mass, reason in ready.skipped.items()]
    content.sort(key=lambda entry: entry["mass"])
    write_product(output, content)
    failed = [entry["mass"] for entry in content if not entry["certificate"]["passed"]]
    notes = ready.notes + tuple(
        f"no certified limit at {len(failed)} of {len(content)} masses" for _ in failed[:1]
    )
    return LimitOutcome(content, found, notes)


def limit_rows(found: Search, *, level: float = 0.95, check: Check = "sample") -> list[_Row]:
    """Limits of a search in events; masses where the linear background is not valid are done with the function itself."""
    rows, valid = _rows(found, level, check)
    again = np.flatnonzero(~valid)
    if again.size and found.form == "linear":
        exact = search(*_part(found.fit, found.templates, again), form="exact")
        for index, row in zip(again, _rows(exact, level, check)[0], strict=True):
            rows[index] = row
    return rows


def _rows(found: Search, level: float, check: Check) -> tuple[list[_Row], NDArray[np.bool_]]:
    limits: Limits = upper_limits(found.model, level=level)
    certificates = certify(found.model, limits, check=check)
    which = limits.profile.which
    departure = [
        linearity(found, fits.values, which)
        for fits in (limits.profile.background, limits.profile.best, limits.at_limit)
    ]
    valid = np.max(departure, axis=0) < LINEAR
    unit = found.unit
    rows = [
        _Row(float(o), e, float(b), float(s), certificate, found.form)
        for o, e, b, s, certificate in zip(
            limits.observed * unit, limits.expected * unit[:, None], limits.best_fit * unit, limits.sigma * unit,
            certificates, strict=True,
        )
    ]  # fmt: skip
    return rows, valid


def _entry(mass: float, row: _Row, per: float, unit: str, level: float, made: str) -> dict[str, Any]:
    passed = row.certificate.passed
    return {
        "mass": mass,
        "observed": float(row.observed) * per if passed else None,
        "expected": (row.expected * per).tolist() if passed else None,
        "best_fit": _number(row.best_fit * per),
        "sigma": _number(row.sigma * per),
        "unit": unit,
        "level": level,
        "certificate": {
            "passed": passed, "reasons": list(row.certificate.reasons), "distance": _number(row.certificate.distance),
            "minuit": row.certificate.minuit, "form": row.form, "inputs": made,
        },
    }  # fmt: skip


def _missing(mass: float, reason: str, unit: str, level: float, made: str) -> dict[str, Any]:
    certificate = {
        "passed": False,
        "reasons": [reason],
        "distance": None,
        "minuit": None,
        "form": None,
        "inputs": made,
    }
    nothing = dict.fromkeys(("observed", "expected", "best_fit", "sigma"))
    return {"mass": mass, **nothing, "unit": unit, "level": level, "certificate": certificate}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
