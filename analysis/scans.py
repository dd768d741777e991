"""A scan of masses: the background fitted to the whole range or in windows, and the signal's templates at each mass."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.fit_inputs import FitInput
from trila.analysis.fitting import GP, SWIFT, background, fitted, notes_on, weights_note
from trila.fits.background import BackgroundFit, Windows, fit_background, of_windows, whole
from trila.fits.errors import FitError
from trila.fits.functions import resolve
from trila.fits.gaussian_process import LENGTH_FLOOR, gaussian_process
from trila.fits.limits import best_fit_error
from trila.fits.profile import profile
from trila.fits.search import Search, SignalTemplates, linearity, search, templates
from trila.fits.signal_systematics import Uncertainty, uncertainties
from trila.fits.signals import Signal, signal
from trila.fits.spectrum_systematics import spectrum_variations
from trila.fits.windows import merged, sliding

__all__ = ["LINEAR", "Scan", "Slices", "part", "scan", "slices", "valid_search"]

Array = NDArray[np.float64]

#: Largest difference of the linear background from the function, in statistical errors of a bin.
LINEAR = 0.02


class Slices(NamedTuple):
    """What is fitted at the masses of a scan: one window for all, or one for each.

    Attributes:
        windows: of the spectrum.
        templates: of the signal in them.
        skipped: masses left out, with the reason.
    """

    windows: Windows
    templates: SignalTemplates
    skipped: dict[float, str]


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
        FitError: as `slices`, and `fit_background`; a kind of background that the windows do not go together with.
    """
    kind, name = background(function)
    if kind == SWIFT:
        raise FitError(
            f"--function {function} fits a window around each bin, but a search fits one around each mass; give --function {name} "
            "--window K"
        )
    if kind == GP and window is not None:
        raise FitError(
            f"--function {function} is a background of the whole range, and does not go together with --window"
        )
    mean = resolve(name)
    cut = slices(given, len(mean.parameters), shape, points, sources=sources, window=window)
    made, skipped = cut.templates, cut.skipped
    if window is None:
        fit = fitted(mean, given)
        if kind == GP:
            # outside of the scan a signal is taken as wide as at its ends
            inside = np.clip(given.spectrum.edges, made.masses.min(), made.masses.max())
            fit = gaussian_process(fit, LENGTH_FLOOR * signal(shape).width(inside)).fit
        notes = notes_on(fit, given)
    else:
        fit, made, failed = _converged(fit_background(mean, cut.windows), made)
        skipped = skipped | failed
        notes = weights_note(given)
    notes += tuple(f"{len(skipped)} of {points.size} masses are left out" for _ in [0] if skipped)
    return Scan(fit, _spurious(fit, made, uncertainties(sources)), skipped, notes)


def valid_search(fit: BackgroundFit, made: SignalTemplates) -> Search:
    """A search whose background is linear if that is valid at the fits of all masses, else the function itself."""
    found = search(fit, made)
    fits = profile(found.model)
    departure = [linearity(found, one.values, fits.which) for one in (fits.background, fits.best)]
    return found if np.all(np.max(departure, axis=0) < LINEAR) else search(fit, made, form="exact")


def slices(
    given: FitInput, parameters: int, shape: str, points: Array, *, sources: Sequence[str] = (), window: float | None = None
) -> Slices:  # fmt: skip
    """Windows of a spectrum and the signal in them, for fits of functions with so many parameters; arguments as `scan`.

    Raises:
        FitError: as `signal`, `uncertainties`, `sliding`, and no mass that is not blinded.
    """
    peak = signal(shape)
    known = [one for one in uncertainties(sources) if one.unit != "sigma"]
    visible = np.array([not any(low < m < high for low, high in given.blind) for m in points])
    skipped = {float(m): "blinded" for m in points[~visible]}
    if not visible.any():
        raise FitError(f"all {points.size} masses lie in blinded windows; choose others")
    if window is None:
        made = templates(peak, points[visible], given.spectrum.edges, known)
        return Slices(whole(given.spectrum, given.sqrt_s), _calibrated(given, peak, made), skipped)
    if given.variations is not None:
        raise FitError("--systematics and --window do not go together; give --uncertainty scale=SIZE instead")
    spectrum = merged(given.spectrum, peak, points[visible])
    cut = sliding(spectrum, peak, points[visible], given.sqrt_s, parameters=parameters, nsigma=window)
    bins = cut.windows.counts.shape[1]
    made = templates(peak, cut.masses, spectrum.edges, known, first=cut.first, bins=bins)
    return Slices(cut.windows, made, skipped | {one.mass: one.reason for one in cut.skipped})


def _calibrated(given: FitInput, peak: Signal, made: SignalTemplates) -> SignalTemplates:
    """The signal with the calibration uncertainties of the spectrum.

    Raises:
        FitError: as `spectrum_variations`, and one that --uncertainty names as well.
    """
    if given.variations is None:
        return made
    nominal, varied = given.variations
    shapes = spectrum_variations(peak, made.masses, given.spectrum.edges, nominal, varied)
    twice = sorted(shapes.keys() & {*made.up, *made.norms, *made.spurious})
    if twice:
        raise FitError(
            f"uncertainty '{twice[0]}' is in --uncertainty and among the variations of {given.spectrum.name}: one name is one "
            "parameter; choose another name, or leave one of them out"
        )
    return made._replace(
        up=made.up | {name: one.up for name, one in shapes.items()},
        down=made.down | {name: one.down for name, one in shapes.items()},
    )


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
    return (*part(fit, made, np.flatnonzero(good)), failed)


def part(
    fit: BackgroundFit, made: SignalTemplates, index: NDArray[np.int64]
) -> tuple[BackgroundFit, SignalTemplates]:
    """Some masses of a scan."""
    chosen = made._replace(
        masses=made.masses[index], nominal=made.nominal[index], up={n: x[index] for n, x in made.up.items()},
        down={n: x[index] for n, x in made.down.items()}, spurious={n: x[index] for n, x in made.spurious.items()},
    )  # fmt: skip
    if len(fit.windows.edges) > 1:
        fit = of_windows(fit, index)
    return fit, chosen
