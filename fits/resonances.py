"""Known dimuon resonances, and the windows of mass around them that a search leaves out.

Masses and widths are those of the Particle Data Group (Phys. Rev. D 110 (2024) 030001).
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.checks import above, at_least
from trila.fits.errors import FitError

__all__ = ["RESONANCES", "Resonance", "relative_resolution", "veto_windows"]

Array = NDArray[np.float64]

_MEV = 1e-3


class Resonance(NamedTuple):
    """A known resonance.

    Attributes:
        mass: GeV.
        width: full width, GeV.
    """

    mass: float
    width: float


#: By name, in order of mass.
RESONANCES: Mapping[str, Resonance] = MappingProxyType(
    {
        name: Resonance(mass * _MEV, width * _MEV)
        for name, mass, width in (
            ("eta", 547.862, 1.31e-3),
            ("rho", 775.26, 147.4),
            ("omega", 782.66, 8.68),
            ("phi", 1019.46, 4.249),
            ("J/psi", 3096.900, 92.6e-3),
            ("psi(2S)", 3686.097, 293e-3),
            ("Upsilon(1S)", 9460.40, 54.0e-3),
            ("Upsilon(2S)", 10023.4, 32.0e-3),
            ("Upsilon(3S)", 10355.1, 20.3e-3),
            ("Z", 91187.9, 2495.5),
        )
    }
)


def relative_resolution(mass: ArrayLike, constant: float, slope: float) -> Array:
    """σ_m/m = sqrt(a² + (b m)²), of two muons: multiple scattering, and the sagitta that shrinks with
    momentum.

    Args:
        mass: GeV, any shape.
        constant: a.
        slope: b, 1/GeV.

    >>> relative_resolution(10.0, 0.01, 0.0).item()
    0.01
    """
    return np.hypot(constant, slope * np.asarray(mass, dtype=np.float64))


def veto_windows(
    resolution: Callable[[Array], Array] | tuple[float, float],
    *,
    names: Sequence[str] = tuple(RESONANCES),
    nsigma: float = 5.0,
    tail_sigma: float = 2.0,
) -> list[tuple[float, float]]:
    """Windows of mass around known resonances.

    Each goes from m - h - k' σ to m + h with h = max(k σ, 2 Γ); k' σ makes room for the radiative tail.

    Args:
        resolution: σ_m/m as a function of mass in GeV, or (a, b) of `relative_resolution`.
        names: of `RESONANCES` to leave out. A search below the φ that lists `rho` has little left: its 2 Γ
            are 0.3 GeV.
        nsigma: k.
        tail_sigma: k'.

    Returns:
        (low, high), GeV, in order of mass; windows that overlap are one.

    Raises:
        FitError: an unknown name, a resolution that is not positive, or a negative number of standard
            deviations.

    >>> [(round(low, 4), round(high, 4)) for low, high in veto_windows((0.01, 0.0), names=["J/psi"])]
    [(2.8801, 3.2517)]
    """
    unknown = [name for name in names if name not in RESONANCES]
    if unknown:
        raise FitError(f"unknown resonance '{unknown[0]}'; choose from {', '.join(RESONANCES)}.")
    for name, value in (("nsigma", nsigma), ("tail_sigma", tail_sigma)):
        at_least(name, value, 0, "give a number of standard deviations")
    chosen = np.array([RESONANCES[name] for name in names]).reshape(-1, 2)
    mass, width = chosen.T
    relative = resolution(mass) if callable(resolution) else relative_resolution(mass, *resolution)
    sigma = mass * above("the relative mass resolution", relative, 0, "give σ_m/m")
    half = np.maximum(nsigma * sigma, 2 * width)
    merged: list[tuple[float, float]] = []
    for low, high in sorted(
        zip((mass - half - tail_sigma * sigma).tolist(), (mass + half).tolist(), strict=True)
    ):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged
