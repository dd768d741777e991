"""Discrete profiling: the choice of the background function as one more nuisance parameter.

Where no function is known to be right, several are tried, and the likelihood is the envelope of theirs,

    D(μ) = min_i [D_i(μ) + c n_i],

with the deviance D_i of function i, minimised over its n_i parameters, and a penalty c for each of them: 1 makes functions with
different numbers of parameters compare as their p-values do, 2 is Akaike's criterion (Dauncey, Kenzie, Wardle, Davies,
arXiv:1408.6865). Limits and significances follow from D(μ) as from any profile likelihood; they are weaker than those of one
function, as the data may choose another one for another μ. Expected limits are those of the function that
is best without signal: the spread and bias that come from choosing wrong functions are not in their bands.

| you have | use |
| --- | --- |
| windows and a signal | `envelope`: for each mass and family the function that the F-test chooses |
| an `Envelope` | `envelope_limits`, `envelope_discovery` |
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.fits.asymptotics import p0
from trila.fits.background import BackgroundFit, Windows, fit_background
from trila.fits.certificates import Evidence
from trila.fits.checks import at_least
from trila.fits.errors import FitError
from trila.fits.families import Linear
from trila.fits.ftest import LEVEL, statistics
from trila.fits.functions import resolve
from trila.fits.likelihood import Observation
from trila.fits.limits import ConditionalScan, best_fit_error, crossings
from trila.fits.minimise import Minimum
from trila.fits.profile import Profile, expected_counts, free_parameters, profile
from trila.fits.search import Form, Search, SignalTemplates, search
from trila.fits.significance import Discovery

__all__ = ["LADDERS", "Envelope", "EnvelopeLimits", "envelope", "envelope_discovery", "envelope_limits"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Index = NDArray[np.int64]

#: Functions of each family from the simplest on. Legendre polynomials span what Bernstein's do, and would add nothing.
LADDERS: tuple[tuple[str, ...], ...] = (
    ("bernstein2", "bernstein3", "bernstein4", "bernstein5"),
    ("exppoly1", "exppoly2", "exppoly3"),
    ("powerlaw",),
)
#: Bins that a function must have beside those that its parameters use up.
_SPARE_BINS = 10


class Envelope(NamedTuple):
    """F functions for the background of a search at M masses.

    Attributes:
        searches: one for each function, with the same signal and data.
        used: whether a function is in the envelope of a mass, shape (F, M).
        penalty: for each function, in deviance, shape (F,).
    """

    searches: tuple[Search, ...]
    used: Flags
    penalty: Array

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of the functions."""
        return tuple(one.fit.function.name for one in self.searches)


class EnvelopeLimits(NamedTuple):
    """Limits of M masses in events of signal; NaN where no root was found.

    Attributes:
        observed: shape (M,).
        expected: at -2, -1, 0, 1, 2 standard deviations of the background, from the Asimov data set of the best function without
            signal, shape (M, 5).
        best_fit, sigma: estimate of the yield, and its error by the function chosen there, shape (M,).
        background_function, best_function, limit_function: which function is lowest without signal, at the best fit and at the
            observed limit, as index of `Envelope.functions`, -1 for none, shape (M,).
        verified: all functions' fits converged, and CLs at the limit is what was asked for, for the observed limit and the bands,
            shape (M, 6).
        fits: what the limits rest on, for `certificates.judge`: fits of the data without signal, with it, and at the observed limit,
            each by the function that is lowest there; and all fits that failed, those of the Asimov data set as well.
    """

    observed: Array
    expected: Array
    best_fit: Array
    sigma: Array
    background_function: Index
    best_function: Index
    limit_function: Index
    verified: Flags
    fits: tuple[Evidence, ...]


def envelope(
    windows: Windows, signal: SignalTemplates, *, ladders: Sequence[Sequence[str]] = LADDERS, form: Form = "linear",
    penalty: float = 1.0,
) -> Envelope:  # fmt: skip
    """Of each family the function that the F-test chooses, for each mass for itself.

    Args:
        windows: one for each of M masses.
        signal: at these masses.
        ladders: functions of each family, each a special case of the next.
        form: of the backgrounds, as in `search.search`.
        penalty: c, deviance for each parameter.

    Raises:
        FitError: a negative penalty, no functions, as `fit_background` and `search`, or a mass that no function fits.
    """
    at_least("penalty", np.float64(penalty), 0, "give the deviance for each parameter, such as 1")
    fits: list[BackgroundFit] = []
    used: list[Flags] = []
    for ladder in ladders:
        climbed = [fit_background(resolve(name), windows) for name in ladder]
        chosen = _chosen(climbed)
        for number, fit in enumerate(climbed):
            if np.any(chosen == number):
                fits.append(fit)
                used.append(chosen == number)
    lost = ~np.any(used, axis=0) if used else np.ones(len(windows.edges), dtype=bool)
    if lost.any():
        tried = ", ".join(name for ladder in ladders for name in ladder) or "no functions"
        raise FitError(
            f"of {tried}, none could be fitted at {signal.masses[np.argmax(lost)]:g} GeV; choose other functions or windows"
        )
    searches = tuple(
        search(_without_failures(fit, good), signal, form=_form(fit, form))
        for fit, good in zip(fits, used, strict=True)
    )
    return Envelope(
        searches, np.array(used), penalty * np.array([len(fit.function.parameters) for fit in fits])
    )


def _form(fit: BackgroundFit, form: Form) -> Form:
    """A function that is linear in its parameters is its own expansion, and quicker as such."""
    return "linear" if isinstance(fit.function.density, Linear) else form


def _chosen(fits: Sequence[BackgroundFit]) -> Index:
    """Position in its family of the simplest function whose successor does not improve the fit, -1 for none; shape (M,)."""
    chosen = np.full(fits[0].good.shape, -1)
    going = np.ones(chosen.shape, dtype=bool)
    for number, fit in enumerate(fits):
        good = fit.good & (fit.ndof >= _SPARE_BINS)
        better = chosen < 0
        for lower, simple in enumerate(fits[:number]):
            better |= (chosen == lower) & (statistics(simple, fit).p_value < LEVEL)
        going &= better | ~good
        chosen = np.where(good & going, number, chosen)
    return chosen


def _without_failures(fit: BackgroundFit, good: Flags) -> BackgroundFit:
    """The fit with numbers that can be computed with, but are not used, where it is not in the envelope."""

    def filled(values: Array, value: float) -> Array:
        return np.where(good.reshape(-1, *[1] * (values.ndim - 1)), values, value)

    return fit._replace(
        point=filled(fit.point, 0.0), transform=filled(fit.transform, 0.0), prediction=filled(fit.prediction, 1.0),
        jacobian=filled(fit.jacobian, 0.0), good=np.ones(good.shape, dtype=bool),
    )  # fmt: skip


def envelope_limits(found: Envelope, *, level: float = 0.95) -> EnvelopeLimits:
    """Observed and expected upper limits in CLs; with one function, those of `limits.upper_limits`.

    Args:
        found: the functions.
        level: of confidence.

    Raises:
        FitError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise FitError(f"confidence level {level:g}, expected a value between 0 and 1, such as 0.95")
    data = _observed(found)
    fits = _fit(found, data)
    expectation = _asimov(found, fits)
    flat = _fit(found, expectation)
    flat_error = flat.error
    width = np.where(np.isfinite(flat_error) & (flat_error > 0), flat_error, found.searches[0].unit)
    masses = np.arange(width.size)
    of_data = _Scan(found, fits, data, masses)
    of_asimov = _Scan(found, flat, expectation, masses)
    of_bands = _Scan(found, flat, expectation, np.repeat(masses, 5))
    roots = crossings(
        fits.value, width,
        lambda mu, lane: _lowest(of_data(mu, lane))[0] - fits.lowest[lane],
        lambda mu, lane: _lowest(of_asimov(mu, lane))[0] - flat.lowest[lane],
        lambda mu, lane: _lowest(of_bands(mu, lane))[0] - flat.lowest[lane // 5],
        level=level,
    )  # fmt: skip
    at_limit = of_data.fits(roots.observed, masses)
    ends = _penalised(found, at_limit, masses.size)
    sound = fits.sound & flat.sound & ~np.any(np.isnan(ends), axis=0)
    background, best, limit = (_lowest(values)[1] for values in (fits.background, fits.best, ends))
    # of the fits of the Asimov data, as of those by other functions, only failures count
    none = np.full(masses.size, -1)
    evidence = (
        *_evidence("background", found, data, _of(fits, poi=False), background, poi=False),
        *_evidence("best fit", found, data, _of(fits, poi=True), best, poi=True),
        *_evidence("fit at the limit", found, data, at_limit, limit, poi=False),
        *_evidence("Asimov data, background", found, expectation, _of(flat, poi=False), none, poi=False),
        *_evidence("Asimov data, best fit", found, expectation, _of(flat, poi=True), none, poi=True),
    )
    return EnvelopeLimits(
        roots.observed, roots.expected, fits.value, fits.error, background, best, limit,
        roots.verified & sound[:, np.newaxis], evidence,
    )  # fmt: skip


def envelope_discovery(found: Envelope) -> Discovery:
    """Local significance of the signal in the data, in events: the background may be another function with it and without."""
    fits = _fit(found, _observed(found))
    gain = _lowest(fits.background)[0] - _lowest(fits.best)[0]
    q0 = np.where(fits.sound, np.where(fits.value <= 0, 0.0, np.maximum(gain, 0.0)), np.nan)
    return Discovery(q0, p0(q0), np.sqrt(q0), fits.value, fits.error, fits.sound)


class _Data(NamedTuple):
    """Counts (M, I), and auxiliary measurements of the nuisances that all functions share (M, N)."""

    counts: Array
    auxiliary: Array


class _Part(NamedTuple):
    """Those of the fits asked for that one function makes.

    Attributes:
        function: its index.
        rows: their positions among all that were asked for, shape (N,).
        minimum: N fits.
    """

    function: int
    rows: Index
    minimum: Minimum


class _Fits(NamedTuple):
    """Fits of one data set for each mass by F functions.

    Attributes:
        profiles: of each function, for the masses at which it is used.
        background, best: penalised deviance without and with signal, infinite where not used, NaN where failed, shape (F, M).
        value, error: of the yield by the function that is best, events, shape (M,).
        lowest: what q̃ compares with, shape (M,).
        sound: all fits converged, shape (M,).
    """

    profiles: tuple[Profile, ...]
    background: Array
    best: Array
    value: Array
    error: Array
    lowest: Array
    sound: Flags


def _lowest(values: Array) -> tuple[Array, Index]:
    """The lowest of F values and where it is; NaN and -1 if there is none. Shapes (N,)."""
    finite = np.where(np.isfinite(values), values, np.inf)
    where = np.argmin(finite, axis=0)
    value = finite[where, np.arange(where.size)]
    return np.where(np.isfinite(value), value, np.nan), np.where(np.isfinite(value), where, -1)


def _nuisances(one: Search) -> slice:
    """Parameters between the yield and those of the background."""
    return slice(1, len(one.model.parameters) - len(one.fit.function.parameters))


def _observed(found: Envelope) -> _Data:
    data = found.searches[0].model.observed()
    return _Data(data.counts, data.auxiliary[:, _nuisances(found.searches[0])])


def _for(one: Search, data: _Data, rows: Index) -> Observation:
    """The data of some masses, as one function's model takes them."""
    auxiliary = np.zeros((rows.size, len(one.model.parameters)))
    auxiliary[:, _nuisances(one)] = data.auxiliary[rows]
    return Observation(data.counts[rows], auxiliary)


def _fit(found: Envelope, data: _Data) -> _Fits:
    shape = found.used.shape
    background, best, value, error = (np.full(shape, fill) for fill in (np.inf, np.inf, np.nan, np.nan))
    profiles = []
    for number, (one, used) in enumerate(zip(found.searches, found.used, strict=True)):
        rows = np.flatnonzero(used)
        fits = profile(one.model, _for(one, data, rows), rows)
        for total, minimum in ((background, fits.background), (best, fits.best)):
            total[number, rows] = (
                np.where(minimum.converged, minimum.deviance, np.nan) + found.penalty[number]
            )
        value[number, rows], error[number, rows] = (
            x * one.unit[rows] for x in best_fit_error(one.model, fits)
        )
        profiles.append(fits)
    lowest, which = _lowest(best)
    columns = np.arange(which.size)
    estimate = value[which, columns]
    with np.errstate(invalid="ignore"):
        # with a yield below 0, q̃ compares with 0
        lowest = np.where(estimate < 0, _lowest(background)[0], lowest)
    sound = ~np.any(np.isnan(background) | np.isnan(best), axis=0)
    return _Fits(tuple(profiles), background, best, estimate, error[which, columns], lowest, sound)


def _asimov(found: Envelope, fits: _Fits) -> _Data:
    """The expectation of the function that is best without signal."""
    which = _lowest(fits.background)[1]
    size = which.size, found.searches[0].templates.nominal.shape[1]
    names = _nuisances(found.searches[0])
    data = _Data(np.full(size, np.nan), np.zeros((which.size, names.stop - names.start)))
    for number, (one, fit) in enumerate(zip(found.searches, fits.profiles, strict=True)):
        here = which[fit.which] == number
        rows, values = fit.which[here], fit.background.values[here]
        if rows.size:
            data.counts[rows] = expected_counts(one.model, values, rows)
            data.auxiliary[rows] = values[:, _nuisances(one)]
    return data


class _Scan:
    """Penalised deviances of F functions with the yield held, shape (F, N): infinite where not used, NaN where failed."""

    def __init__(self, found: Envelope, fits: _Fits, data: _Data, masses: Index) -> None:
        self.found, self.masses = found, masses
        self.scans = []
        for one, used, fit in zip(found.searches, found.used, fits.profiles, strict=True):
            row = np.cumsum(used) - 1  # of a mass, in the fits of this function
            self.scans.append(ConditionalScan(fit, one.model, _for(one, data, fit.which), row[masses]))

    def __call__(self, events: Array, lane: Any) -> Array:
        return _penalised(self.found, self.fits(events, lane), events.size)

    def fits(self, events: Array, lane: Any) -> list[_Part]:
        """Those behind the deviances: of each function, for the lanes at whose masses it is used."""
        masses = self.masses[lane]
        parts = []
        for number, (one, scan) in enumerate(zip(self.found.searches, self.scans, strict=True)):
            here = np.flatnonzero(self.found.used[number, masses])
            if here.size:
                parts.append(_Part(number, here, scan(events[here] / one.unit[masses[here]], lane[here])))
        return parts


def _penalised(found: Envelope, parts: Sequence[_Part], size: int) -> Array:
    """Deviances with their penalties, infinite where a function has no part, shape (F, size)."""
    values = np.full((len(found.searches), size), np.inf)
    for part in parts:
        values[part.function, part.rows] = part.minimum.deviance + found.penalty[part.function]
    return values


def _of(fits: _Fits, *, poi: bool) -> list[_Part]:
    """The fits with or without signal; positions are masses."""
    return [
        _Part(number, one.which, one.best if poi else one.background)
        for number, one in enumerate(fits.profiles)
    ]


def _evidence(
    name: str, found: Envelope, data: _Data, parts: Sequence[_Part], chosen: Index, *, poi: bool
) -> list[Evidence]:
    """Fits by the function chosen at each mass, and those that failed; positions are masses."""
    evidence = []
    for part in parts:
        picked = np.flatnonzero((chosen[part.rows] == part.function) | ~part.minimum.converged)
        if picked.size:
            one, masses = found.searches[part.function], part.rows[picked]
            evidence.append(
                Evidence(
                    f"{name} ({one.fit.function.name})", one.model, _for(one, data, masses), masses,
                    Minimum._make(x[picked] for x in part.minimum), free_parameters(one.model, poi=poi), masses,
                )
            )  # fmt: skip
    return evidence
