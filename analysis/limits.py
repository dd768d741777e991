"""Upper limits over a scan of masses: `trila limit SPECTRUM`.

The background is fitted alone (`scans.py`); then the likelihood of signal plus background is built for all masses at once,
with the background linear about its fit. Where that is not valid the mass is done again with the function itself. Each limit
carries its certificate; one that fails it is null.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.envelopes import PREFIX, chosen_functions, enveloped, limits_of
from trila.analysis.exported_models import write_models
from trila.analysis.fit_inputs import FitInput, check_place, number, write_product
from trila.analysis.fitting import weights_note
from trila.analysis.interpretations import Interpreter, interpreters, read_tables
from trila.analysis.provenance import on_rows, record
from trila.analysis.scans import LINEAR, part, scan
from trila.fits.background import BackgroundFit
from trila.fits.certificates import Certificate, Check, certify
from trila.fits.dimuon_limits import Bands
from trila.fits.errors import FitError
from trila.fits.limits import Limits, upper_limits
from trila.fits.search import Search, linearity, search
from trila.fits.toy_limits import toy_limits

__all__ = ["Choices", "LimitOutcome", "limit", "limit_entry", "limit_rows"]

Array = NDArray[np.float64]


class Choices(NamedTuple):
    """How limits are made.

    Attributes:
        sources: SOURCE=SIZE of uncertainties.
        level: of confidence.
        window: half width of sliding windows in widths of the signal; None for one fit to the whole range.
        check: which masses Minuit fits again.
        luminosity: 1/pb, for limits in pb; None for limits in events.
        toys, seed: toys at each strength of the signal, for limits without asymptotic formulas; 0 for none.
        coupling: table of predictions, for limits on g_q; needs the luminosity.
        eps2: limits on the kinetic mixing of a dark photon as well.
        other: table of the fraction of dimuons that are no virtual photons, for `eps2`.
        workspaces: folder for the models as HistFactory JSON.
    """

    sources: tuple[str, ...] = ()
    level: float = 0.95
    window: float | None = None
    check: Check = "sample"
    luminosity: float | None = None
    toys: int = 0
    seed: int = 0
    coupling: Path | None = None
    eps2: bool = False
    other: Path | None = None
    workspaces: Path | None = None


class LimitOutcome(NamedTuple):
    """What `limit` made.

    Attributes:
        content: of LIMITS.json.
        notes: what a user should know.
    """

    content: list[dict[str, Any]]
    notes: tuple[str, ...]


class _Row(NamedTuple):
    """Numbers at one mass, in events."""

    observed: float
    expected: Array
    best_fit: float
    sigma: float
    certificate: Certificate
    form: str


def limit(
    given: FitInput, function: str, shape: str, points: Array, output: Path, choices: Choices, *,
    progress: Callable[[str, int], Callable[[int], None]],
) -> LimitOutcome:  # fmt: skip
    """Limits on the yield of a signal, or on its cross section times branching fraction times acceptance.

    Args:
        given: the spectrum.
        function: of the background.
        shape: SIGNAL as on the command line.
        points: masses, GeV.
        output: LIMITS.json.
        choices: all else.
        progress: shows long work.

    Raises:
        FitError, InputError: as `scan`, choices that do not fit together, and a file that cannot be written.
    """
    per, unit = _unit(choices)
    tables = read_tables(choices.coupling, choices.other, eps2=choices.eps2)
    check_place(output)
    if choices.workspaces is not None:
        check_place(choices.workspaces / "background.json")
    if function.partition(":")[0] == PREFIX:
        done = _enveloped(given, function, shape, points, choices)
    else:
        done = _scanned(given, function, shape, points, choices, progress)
    hidden = {"blinded": [list(window) for window in given.blind]} if given.blind else {}
    options = given.asked | {"function": function, "signal": shape} | _recorded(choices)
    made = record("limit", options)
    masses = done.masses
    interpreted = _interpreted(
        interpreters(tables, done.backgrounds if choices.eps2 else None), masses, done.rows, per
    )
    content = [
        limit_entry(
            float(mass), row.observed * per, row.expected * per, row.best_fit * per, row.sigma * per, row.certificate,
            unit=unit, level=choices.level, form=row.form, inputs=made.digest,
        )
        | more
        | extra
        for mass, row, more, extra in zip(masses, done.rows, interpreted, done.extras, strict=True)
    ]  # fmt: skip
    content += [
        _missing(mass, reason, unit, choices.level, made.digest) for mass, reason in done.skipped.items()
    ]
    content = on_rows(
        sorted((entry | hidden for entry in content), key=lambda entry: float(entry["mass"])), made
    )
    notes = done.notes
    write_product(output, content)
    if choices.workspaces is not None and done.models is not None:
        model, limits = done.models
        passed = np.array([row.certificate.passed for row in done.rows])
        exact = masses[np.array([row.form == "exact" for row in done.rows])]
        certified = limits._replace(observed=np.where(passed, limits.observed, np.nan))
        notes += write_models(choices.workspaces, model, certified, name="mass", exact=exact, made=made)
    failed_masses = [entry["mass"] for entry in content if not entry["certificate"]["passed"]]
    if failed_masses:
        notes += (f"no certified limit at {len(failed_masses)} of {len(content)} masses",)
    return LimitOutcome(content, notes)


class _Done(NamedTuple):
    """Limits before they are written.

    Attributes:
        masses: GeV, shape (M,).
        rows: one for each.
        extras: more to write of each.
        backgrounds: the fit that limits on a coupling are normalised to; None if there is none.
        models: the search and its limits in its own units, for files of models; None if there are several searches.
        skipped: other masses, with the reason.
        notes: what a user should know.
    """

    masses: Array
    rows: list[_Row]
    extras: list[dict[str, Any]]
    backgrounds: BackgroundFit | None
    models: tuple[Search, Limits] | None
    skipped: dict[float, str]
    notes: tuple[str, ...]


def _scanned(
    given: FitInput, function: str, shape: str, points: Array, choices: Choices,
    progress: Callable[[str, int], Callable[[int], None]],
) -> _Done:  # fmt: skip
    """Limits with one function."""
    ready = scan(given, function, shape, points, sources=choices.sources, window=choices.window)
    found = search(ready.fit, ready.templates)
    rows, limits = limit_rows(found, level=choices.level, check=choices.check)
    notes = ready.notes
    if choices.toys:
        rows, failed = _by_toys(found, rows, choices, progress("toys", found.unit.size))
        notes += tuple(f"{failed} toys failed; none of them excludes anything" for _ in [0] if failed)
    return _Done(
        ready.templates.masses, rows, [{} for _ in rows], ready.fit, (found, limits), ready.skipped, notes
    )


def _enveloped(given: FitInput, function: str, shape: str, points: Array, choices: Choices) -> _Done:
    """Limits with the choice of the function profiled.

    Raises:
        FitError: as `enveloped`, and choices that need one function.
    """
    for name, asked in {"--toys": choices.toys, "--workspaces": choices.workspaces}.items():
        if asked:
            raise FitError(
                f"{name} is for one function, and --function {function} profiles several; leave it out"
            )
    ready = enveloped(given, function, shape, points, sources=choices.sources, window=choices.window)
    limits, certified = limits_of(ready.envelope, choices.level, check=choices.check)
    rows = [
        _Row(
            float(limits.observed[i]),
            limits.expected[i],
            float(limits.best_fit[i]),
            float(limits.sigma[i]),
            one,
            PREFIX,
        )
        for i, one in enumerate(certified)
    ]
    extras = [{"functions": chosen_functions(ready.envelope, limits, i)} for i in range(len(rows))]
    first = ready.envelope.searches[0].fit if len(ready.envelope.searches) == 1 else None
    if choices.eps2 and first is None:
        raise FitError(
            "--eps2 is normalised to one fitted background; give one --function, or one family of one function"
        )
    notes = weights_note(given)
    if ready.skipped:
        notes += (f"{len(ready.skipped)} of {points.size} masses are left out",)
    return _Done(ready.templates.masses, rows, extras, first, None, ready.skipped, notes)


def _unit(choices: Choices) -> tuple[float, str]:
    """Factor from events, and its unit.

    Raises:
        FitError: a luminosity not above 0 or without end, or none where one is needed.
    """
    if choices.luminosity is None:
        if choices.coupling is not None:
            raise FitError(
                "--coupling turns cross sections into couplings and needs --lumi, the luminosity in 1/pb"
            )
        return 1.0, "events"
    if not 0 < choices.luminosity < np.inf:
        raise FitError(f"--lumi {choices.luminosity:g}, expected 1/pb above 0, such as 137000")
    return 1 / choices.luminosity, "pb"


def _recorded(choices: Choices) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in choices._asdict().items()
        if name != "workspaces"
    }


def _interpreted(
    interpret: dict[str, Interpreter], masses: Array, rows: list[_Row], per: float
) -> list[dict[str, Any]]:
    """Limits on couplings at each mass, where the limit itself is certified."""
    passed = np.array([row.certificate.passed for row in rows])
    # what is not certified is left out below; any number above 0 will do here
    observed = np.where(passed, [row.observed for row in rows], 1.0)
    expected = np.where(passed[:, None], [row.expected for row in rows], 1.0)
    found = {name: one(Bands(masses, observed, expected), per) for name, one in interpret.items()}
    return [
        {
            name: {"observed": number(b.observed[i]), "expected": [number(x) for x in b.expected[i]]}
            for name, b in found.items()
            if good
        }
        for i, good in enumerate(passed)
    ]


def _by_toys(
    found: Search, rows: list[_Row], choices: Choices, advance: Callable[[int], None]
) -> tuple[list[_Row], int]:
    """Rows with limits by toys; each keeps the certificate of its fits."""
    if any(row.form == "exact" for row in rows):
        # toys stray further from the fit than the data do
        found = search(found.fit, found.templates, form="exact")
    made = toy_limits(found.model, toys=choices.toys, seed=choices.seed, level=choices.level)
    advance(found.unit.size)
    changed = []
    for index, row in enumerate(rows):
        scale = found.unit[index]
        certificate = row.certificate
        if not made.verified[index].all():
            why = (*certificate.reasons, "toys do not bracket the limit: more are needed")
            certificate = certificate._replace(passed=False, reasons=why)
        changed.append(
            row._replace(
                observed=float(made.observed[index] * scale),
                expected=made.expected[index] * scale,
                certificate=certificate,
                form=found.form,
            )
        )
    return changed, int(made.failed.sum())


def limit_rows(found: Search, *, level: float = 0.95, check: Check = "sample") -> tuple[list[_Row], Limits]:
    """Limits of a search in events; masses where the linear background is not valid are done with the function itself.

    Returns:
        One row for each mass, and the limits of the search as it was given, in its own units.
    """
    rows, valid, limits = _rows(found, level, check)
    again = np.flatnonzero(~valid)
    if again.size and found.form == "linear":
        exact = search(*part(found.fit, found.templates, again), form="exact")
        for index, row in zip(again, _rows(exact, level, check)[0], strict=True):
            rows[index] = row
    return rows, limits


def _rows(found: Search, level: float, check: Check) -> tuple[list[_Row], NDArray[np.bool_], Limits]:
    limits = upper_limits(found.model, level=level)
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
    return rows, valid, limits


def limit_entry(
    mass: float | None, observed: float, expected: Array, best_fit: float, sigma: float, certificate: Certificate, *,
    unit: str, level: float, form: str, inputs: str,
) -> dict[str, Any]:  # fmt: skip
    """One entry of LIMITS.json: no limit without its certificate."""
    return {
        "mass": mass,
        "observed": float(observed) if certificate.passed else None,
        "expected": expected.tolist() if certificate.passed else None,
        "best_fit": number(best_fit),
        "sigma": number(sigma),
        "unit": unit,
        "level": level,
        "certificate": {
            "passed": certificate.passed, "reasons": list(certificate.reasons), "distance": number(certificate.distance),
            "minuit": certificate.minuit, "form": form, "inputs": inputs,
        },
    }  # fmt: skip


def _missing(mass: float, reason: str, unit: str, level: float, inputs: str) -> dict[str, Any]:
    nothing = Certificate(False, (reason,), np.nan, None)
    nan = np.full(5, np.nan)
    return limit_entry(
        mass, np.nan, nan, np.nan, np.nan, nothing, unit=unit, level=level, form="", inputs=inputs
    )
