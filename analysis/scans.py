"""A scan of masses: the background fitted to the whole range or in windows, and the signal's templates at each mass."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.fit_inputs import FitInput
from trila.analysis.fitting import fitted, notes_on
from trila.fits.background import BackgroundFit, fit_background, of_windows
from trila.fits.errors import FitError
from trila.fits.functions import resolve
from trila.fits.limits import best_fit_error
from trila.fits.profile import profile
from trila.fits.search import SignalTemplates, search, templates
from trila.fits.signal_systematics import Uncertainty, uncertainties
from trila.fits.signals import Signal, signal
from trila.fits.spectrum_systematics import spectrum_variations
from trila.fits.windows import merged, sliding

__all__ = ["Scan", "part", "scan"]

Array = NDArray[np.float64]


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
    return Scan(fit, _spurious(fit, _calibrated(given, peak, made), known), skipped, notes)


def _calibrated(given: FitInput, peak: Signal, made: SignalTemplates) -> SignalTemplates:
    """The signal with the calibration uncertainties of the spectrum.

    Raises:
        FitError: as `spectrum_variations`, and windows, whose bins differ from mass to mass.
    """
    if given.variations is None:
        return made
    if made.nominal.shape[1] != given.spectrum.counts.size:
        raise FitError("--systematics and --window do not go together; give --uncertainty scale=SIZE instead")
    nominal, varied = given.variations
    shapes = spectrum_variations(peak, made.masses, given.spectrum.edges, nominal, varied)
    return made._replace(
        up=made.up | {name: one.up for name, one in shapes.items()},
        down=made.down | {name: one.down for name, one in shapes.items()},
    )


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
