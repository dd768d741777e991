"""Uncertainties of mass scale and resolution, measured on the spectrum itself.

A calibration's uncertainty is one of jets or muons; a search needs it as one of the mass. Where the spectrum was made with the
calibration one standard deviation up and down, from the same events, each change can be read off:

| you have | use |
| --- | --- |
| a variation of the scale (any name but `JER...`) | `mass_shift`: by how much it moves masses |
| a variation of the resolution (`JER...`) | `width_change`: by how much it widens a peak |
| all of them, `NAME_up` and `NAME_down`, and a signal | `spectrum_variations`, for `SignalTemplates.up` and `down` |

With C(m) the number of events above m, a scale that moves m to m (1 + δ) has

    C_varied(m (1 + δ)) = C_nominal(m).

An extra smearing of ln m by s (median unchanged) of a falling spectrum, C ~ m^-n, raises C by exp(n² s²/2), as a shift by
δ = n s²/2 would.

Both spectra have the same fluctuations, and these cancel: of a shift all but where events lie within a bin, which is that of
n δ C events in bins wider than the shift. Of a smearing there remain the events that cross m both ways, √(2/π) n s C of them.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from trila.fits.checks import above
from trila.fits.errors import FitError
from trila.fits.signal_systematics import Variations
from trila.fits.signals import Signal
from trila.fits.spectrum import Spectrum

__all__ = ["mass_shift", "spectrum_variations", "width_change"]

Array = NDArray[np.float64]

#: Events above a mass, at least: a shift of 1% is then known to a fifth of itself, also in wide bins.
_FEWEST = 400.0
#: Error of the factor on a width, at most.
_WIDTH_ERROR = 0.05
#: Masses over which the slope is taken: from m / 1.1 to 1.1 m.
_SPAN = 1.1
#: Part of a shift that may be lost because events cross the upper end of the spectrum.
_LOST = 0.02
#: Below the upper end, to count how many do.
_TOP = 0.9
_RESOLUTION = "JER"


def mass_shift(nominal: Spectrum, varied: Spectrum, masses: ArrayLike) -> Array:
    """Relative shift δ of the masses between two spectra of the same events, shape (M,).

    Args:
        nominal: the whole spectrum, to its upper end: events that cross the end of a range would be missed. Bins that a fit may
            not use count as well.
        varied: with another calibration, in the same bins.
        masses: GeV, shape (M,).

    Raises:
        FitError: spectra in other bins or with negative contents, a mass outside, with fewer than 400 events above it, or so near
            to the upper end that what crosses it matters.
    """
    points = above("masses in GeV", masses, 0, "check the masses")
    if not np.array_equal(nominal.edges, varied.edges):
        raise FitError(
            f"{varied.name}: {varied.counts.size} bins from {varied.edges[0]:g} to {varied.edges[-1]:g} GeV for a variation of "
            f"{nominal.counts.size} from {nominal.edges[0]:g} to {nominal.edges[-1]:g} GeV; expected the same bins"
        )
    edges, events = nominal.edges, _events_above(nominal)
    position, level = _falling(varied)
    # at an edge the nominal count is known, and only the varied one is interpolated
    known = (_effective(nominal) >= _FEWEST) & (events <= np.exp(level[-1]))
    _check_inside(nominal, points, edges[known])
    _check_end(nominal, points)
    shift = PchipInterpolator(level, position)(np.log(events[known])) - np.log(edges[known])
    return np.asarray(np.expm1(np.interp(np.log(points), np.log(edges[known]), shift)))


def width_change(nominal: Spectrum, varied: Spectrum, masses: ArrayLike, width: ArrayLike) -> Array:
    """Factor √(1 + s²/width²) on the width of a peak that a variation of the resolution makes, shape (M,).

    s² = 2 δ/n with the slope n = -d ln C/d ln m, negative for a better resolution.

    Args:
        nominal, varied, masses: as for `mass_shift`.
        width: of the peak over its mass, shape () or (M,).

    Raises:
        FitError: as `mass_shift`, a width not above 0, a change that would leave no width, or one that is not known to 5% of the
            width.
    """
    relative = above("the width of the signal over its mass", width, 0, "give 0.05 for 5%")
    points = np.asarray(masses, dtype=np.float64)
    shift = mass_shift(nominal, varied, points)
    slope = _slope(nominal, points)
    change = 2 * shift / slope
    crossing = np.sqrt(2 / np.pi) * slope * np.sqrt(np.abs(change)) / _effective_at(nominal, points)
    error = np.sqrt(crossing) / (slope * relative) ** 2
    if np.any(error > _WIDTH_ERROR):
        worst = int(np.argmax(error))
        raise FitError(
            f"{varied.name}: the factor on the width of a signal at {points[worst]:g} GeV has an error of {error[worst]:.2g} with "
            f"{_effective_at(nominal, points)[worst]:.0f} events above, expected at most {_WIDTH_ERROR:g}; leave the mass out, or "
            "give the size of the uncertainty in the place of spectra"
        )
    square = 1 + change / relative**2
    if np.any(square <= 0):
        worst = int(np.argmin(square))
        raise FitError(
            f"{varied.name}: its resolution at {points[worst]:g} GeV is better by {np.sqrt(-change[worst]):.3g} of the mass, "
            f"more than the whole width of the signal, {np.broadcast_to(relative, points.shape)[worst]:.3g}; is this a variation "
            "of the resolution, and the width that of the nominal one?"
        )
    return np.asarray(np.sqrt(square))


def spectrum_variations(
    signal: Signal, masses: ArrayLike, edges: ArrayLike, nominal: Spectrum, varied: Mapping[str, Spectrum]
) -> dict[str, Variations]:
    """Signal shapes with each calibration uncertainty of the spectrum up and down.

    Args:
        signal: any shape.
        masses: GeV, shape (M,).
        edges: of the bins to fit, GeV, shape (bins + 1,).
        nominal: the whole spectrum, in any bins.
        varied: `NAME_up` and `NAME_down` of each source, in the bins of `nominal`; a NAME that begins with JER is one of the
            resolution.

    Returns:
        By NAME, fractions of shape (M, bins).

    Raises:
        FitError: as `mass_shift`, `width_change` and `signal`, or a name without up or down, or with one of them only.
    """
    points = np.asarray(masses, dtype=np.float64)

    def shape(name: str, spectrum: Spectrum) -> Array:
        if not name.startswith(_RESOLUTION):
            return signal.fractions(points, edges, scale=1 + mass_shift(nominal, spectrum, points))
        factor = width_change(nominal, spectrum, points, signal.width(points) / points)
        return signal.fractions(points, edges, resolution=factor)

    return {
        name: Variations(shape(name, varied[f"{name}_up"]), shape(name, varied[f"{name}_down"]))
        for name in _sources(varied)
    }


def _sources(varied: Mapping[str, Spectrum]) -> list[str]:
    stems = {name: name.removesuffix("_up").removesuffix("_down") for name in varied}
    for name, stem in stems.items():
        missing = [other for other in (f"{stem}_up", f"{stem}_down") if other not in varied]
        if stem == name or missing:
            raise FitError(
                f"variation '{name}' of a spectrum without {' and '.join(missing)}; expected NAME_up and NAME_down of each source"
            )
    return list(dict.fromkeys(stems.values()))


def _events_above(spectrum: Spectrum) -> Array:
    """Events above each edge, shape (bins + 1,)."""
    counts = spectrum.counts
    if np.any(counts < 0):
        i = int(np.argmax(counts < 0))
        raise FitError(
            f"{spectrum.name}: the weights of the bin {spectrum.edges[i]:g} to {spectrum.edges[i + 1]:g} GeV sum to "
            f"{counts[i]:g}, expected 0 or more; merge bins"
        )
    return np.append(np.cumsum(counts[::-1])[::-1], 0.0)


def _effective(spectrum: Spectrum) -> Array:
    """Events above each edge as far as their fluctuation goes, (Σ w)²/Σ w², shape (bins + 1,)."""
    if spectrum.variances is None:
        return _events_above(spectrum)
    squares = np.append(np.cumsum(spectrum.variances[::-1])[::-1], 0.0)
    effective = np.zeros(squares.shape)
    np.divide(_events_above(spectrum) ** 2, squares, out=effective, where=squares > 0)
    return effective


def _effective_at(spectrum: Spectrum, masses: Array) -> Array:
    return np.asarray(np.interp(masses, spectrum.edges, _effective(spectrum)))


def _falling(spectrum: Spectrum) -> tuple[Array, Array]:
    """ln m and ln C at edges, by increasing C; of edges with equally many events above, the lowest."""
    events = _events_above(spectrum)
    level, first = np.unique(events, return_index=True)
    some = level > 0
    if np.count_nonzero(some) < 2:
        raise FitError(
            f"{spectrum.name}: events in {np.count_nonzero(some)} bins, which give no shift of masses; give the spectrum in finer "
            "bins"
        )
    return np.log(spectrum.edges[first[some]]), np.log(level[some])


def _slope(spectrum: Spectrum, masses: Array) -> Array:
    """n of C ~ m^-n about each mass, shape (M,)."""
    position, level = (x[::-1] for x in _falling(spectrum))
    curve = PchipInterpolator(position, level)
    ends = [np.clip(np.log(masses) + x, position[0], position[-1]) for x in np.log([1 / _SPAN, _SPAN])]
    return np.asarray(-(curve(ends[1]) - curve(ends[0])) / (ends[1] - ends[0]))


def _check_inside(nominal: Spectrum, masses: Array, known: Array) -> None:
    if known.size < 2:
        raise FitError(
            f"{nominal.name}: {_effective(nominal)[0]:.4g} events in all, expected at least {_FEWEST:g} above two edges that the "
            "variation has as well; more events, or the size of the uncertainty in the place of spectra"
        )
    outside = (masses < known[0]) | (masses > known[-1])
    if outside.any():
        raise FitError(
            f"{nominal.name}: the shift at {masses[outside][0]:g} GeV can be measured from {known[0]:g} to {known[-1]:g} GeV "
            f"only, where at least {_FEWEST:g} events are above; leave the mass out, or give the size of the uncertainty in the "
            "place of spectra"
        )


def _check_end(nominal: Spectrum, masses: Array) -> None:
    """Events that cross the upper end, over those that cross each mass: dC/d ln m at both."""
    end = nominal.edges[-1]
    near = nominal.counts[nominal.edges[:-1] >= _TOP * end].sum() / -np.log(_TOP)
    events = np.interp(masses, nominal.edges, _events_above(nominal))
    lost = near / (_slope(nominal, masses) * events)
    if np.any(lost > _LOST):
        worst = int(np.argmax(lost))
        raise FitError(
            f"{nominal.name}: it ends at {end:g} GeV, where as many events cross as {lost[worst]:.0%} of those at "
            f"{masses[worst]:g} GeV, expected at most {_LOST:.0%}; give the spectrum to its end, or lower masses"
        )
