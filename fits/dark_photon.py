"""A dark photon's widths and lifetime, and its coupling from a yield of dimuons.

A dark photon A' of mass m couples to charge with ε times the coupling of the photon, so the spectrum of
prompt dimuons from virtual photons, dN/dm, calibrates its yield in data: the luminosity and the efficiency
cancel (Ilten, Soreq, Thaler, Williams, Xue, arXiv:1603.08926; LHCb, arXiv:1710.02867 and arXiv:1910.06926;
CMS, arXiv:1912.04776 and arXiv:2309.16003).

| you have | use |
| --- | --- |
| mass and ε² | `widths`, `muon_branching`, `lifetime`, `decay_length` |
| mass, ε² and the width of a mass window | `rate_ratio`, A' over virtual photons in it |
| mass, ε² and dN/dm | `expected_yield` |
| mass, a limit on the yield and dN/dm | `eps2_limit`; for decays with a lifetime `trila.fits.displaced` |

dN/dm holds all dimuons from virtual photons (Drell-Yan, final-state radiation, Dalitz decays), but neither
misidentified muons nor heavy flavour, and not the narrow resonances (`trila.fits.resonances`). Above about
40 GeV the exchange of a Z and its mixing with the A' make the formulas fail: simulate the cross-section.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trila.fits.checks import above, at_least
from trila.fits.hadronic_ratio import hadronic_ratio

__all__ = [
    "ALPHA",
    "HBAR",
    "LEPTON_MASSES",
    "LIGHT_SPEED",
    "Widths",
    "decay_length",
    "effective_flavours",
    "eps2_limit",
    "expected_yield",
    "lifetime",
    "muon_branching",
    "rate_ratio",
    "signal_factor",
    "widths",
]

Array = NDArray[np.float64]

#: Fine-structure constant at zero momentum (CODATA 2022), as in the papers; ε² is defined with it.
ALPHA = 7.2973525643e-3
#: Reduced Planck constant, GeV ps (exact in the SI).
HBAR = 6.582119569e-13
#: Speed of light, mm/ps (exact).
LIGHT_SPEED = 0.299792458
#: Electron, muon and tau, GeV (Particle Data Group, Phys. Rev. D 110 (2024) 030001).
LEPTON_MASSES = (0.51099895069e-3, 0.1056583755, 1.77693)


class Widths(NamedTuple):
    """Partial widths of a dark photon, GeV, all of one shape.

    Attributes:
        ee: to electrons.
        mumu: to muons.
        tautau: to taus.
        hadrons: to hadrons.
    """

    ee: Array
    mumu: Array
    tautau: Array
    hadrons: Array

    @property
    def total(self) -> Array:
        """Sum of the four, GeV: without decays to anything dark."""
        return np.asarray(self.ee + self.mumu + self.tautau + self.hadrons)


def _phase_space(mass: Array, lepton: float) -> Array:
    """sqrt(1 - 4 x) (1 + 2 x) with x = (m_lepton/m)²: the width to a lepton over that to a massless one."""
    x = np.minimum((lepton / mass) ** 2, 0.25)
    return np.asarray(np.sqrt(1 - 4 * x) * (1 + 2 * x))


def _masses(mass: ArrayLike) -> Array:
    return above("mass in GeV", mass, 0, "check the unit")


def _eps2(eps2: ArrayLike) -> Array:
    return above("eps2", eps2, 0, "give the square of the kinetic mixing")


def _hadrons(mass: Array, hadrons: ArrayLike | None) -> Array:
    return hadronic_ratio(mass) if hadrons is None else at_least("hadrons", hadrons, 0, "give R at each mass")


def _flavours(mass: Array, flavours: ArrayLike | None) -> Array:
    if flavours is None:
        return effective_flavours(mass)
    return above("flavours", flavours, 0, "give N_f at each mass, as `effective_flavours` does")


def widths(mass: ArrayLike, eps2: ArrayLike, hadrons: ArrayLike | None = None) -> Widths:
    """Partial widths of a dark photon that decays to standard-model particles only.

    Γ(ℓℓ) = ε² α m/3 sqrt(1 - 4x)(1 + 2x) with x = (m_ℓ/m)², and Γ(hadrons) = ε² α m/3 R(m)
    (arXiv:1603.08926).

    Args:
        mass: GeV, any shape.
        eps2: ε², broadcast with `mass`.
        hadrons: R at each mass; None takes `hadronic_ratio`.

    Raises:
        FitError: a value is not positive, or a mass is beyond the table of R.

    >>> f"{widths(0.25, 1e-9).mumu:.3e}"
    '4.410e-13'
    """
    m = _masses(mass)
    unit = np.asarray(_eps2(eps2) * ALPHA * m / 3)
    ee, mumu, tautau = (unit * _phase_space(m, lepton) for lepton in LEPTON_MASSES)
    return Widths(ee, mumu, tautau, unit * _hadrons(m, hadrons))


def effective_flavours(mass: ArrayLike, hadrons: ArrayLike | None = None) -> Array:
    """N_f, the total width in units of that to one massless lepton: R plus the phase space of the three
    leptons.

    Far above the thresholds of five quarks, without QCD corrections, it is 3 + 11/3 = 20/3.

    Args:
        mass: GeV, any shape.
        hadrons: R at each mass; None takes `hadronic_ratio`.

    Raises:
        FitError: as `widths`.

    >>> effective_flavours(25.0, hadrons=11 / 3).round(3).item()
    6.667
    """
    m = _masses(mass)
    return np.asarray(sum(_phase_space(m, lepton) for lepton in LEPTON_MASSES) + _hadrons(m, hadrons))


def muon_branching(mass: ArrayLike, flavours: ArrayLike | None = None) -> Array:
    """Branching fraction to two muons.

    Args:
        mass: GeV, any shape.
        flavours: N_f; None takes `effective_flavours`.

    Raises:
        FitError: as `widths`.

    >>> muon_branching(0.25).round(4).item()
    0.4204
    """
    m = _masses(mass)
    return np.asarray(_phase_space(m, LEPTON_MASSES[1]) / _flavours(m, flavours))


def lifetime(mass: ArrayLike, eps2: ArrayLike, flavours: ArrayLike | None = None) -> Array:
    """Mean proper lifetime ħ/Γ, ps, with Γ = ε² α m N_f/3.

    Args:
        mass: GeV, any shape.
        eps2: ε², broadcast with `mass`.
        flavours: N_f; None takes `effective_flavours`.

    Raises:
        FitError: as `widths`.

    >>> lifetime(0.25, 1e-9).round(4).item()
    0.6274
    """
    m = _masses(mass)
    return np.asarray(3 * HBAR / (_eps2(eps2) * ALPHA * m * _flavours(m, flavours)))


def decay_length(mass: ArrayLike, eps2: ArrayLike, flavours: ArrayLike | None = None) -> Array:
    """Mean proper decay length cτ, mm; arguments and errors as `lifetime`.

    >>> decay_length(0.25, 1e-9).round(3).item()
    0.188
    """
    return np.asarray(LIGHT_SPEED * lifetime(mass, eps2, flavours))


def signal_factor(mass: ArrayLike, flavours: ArrayLike | None = None) -> Array:
    """F(m) = 3π m/(2 α N_f), GeV: dimuons from an A' over ε² dN/dm, with dN/dm of those from virtual photons.

    It is the integral over the A' line of its Breit-Wigner over the photon's propagator, LHCb's F
    (arXiv:1710.02867). The phase space of the muons is the same for both and cancels.

    Args:
        mass: GeV, any shape.
        flavours: N_f; None takes `effective_flavours`.

    Raises:
        FitError: as `widths`.

    >>> signal_factor(1.0, flavours=3.5).round(1).item()
    184.5
    """
    m = _masses(mass)
    return np.asarray(3 * np.pi * m / (2 * ALPHA * _flavours(m, flavours)))


def rate_ratio(
    mass: ArrayLike, eps2: ArrayLike, window: ArrayLike, flavours: ArrayLike | None = None
) -> Array:
    """Dimuons from an A' over those from virtual photons in a window of mass around it: ε² F(m)/δm.

    With δm = 4 σ of the mass resolution it is the form 3π/8 (m/σ) ε²/(α N_f) of arXiv:1603.08926.

    Args:
        mass: GeV, any shape.
        eps2: ε².
        window: full width δm of the window, GeV, small against the mass.
        flavours: N_f; None takes `effective_flavours`.

    Raises:
        FitError: as `widths`, or a window that is not positive.

    >>> rate_ratio(25.0, 2e-5, 1.0, flavours=6.67).round(6).item()
    0.048408
    """
    width = above("the width of the window in GeV", window, 0, "check the unit")
    return np.asarray(_eps2(eps2) * signal_factor(mass, flavours) / width)


def expected_yield(
    mass: ArrayLike,
    eps2: ArrayLike,
    photons_per_gev: ArrayLike,
    *,
    efficiency_ratio: ArrayLike = 1.0,
    flavours: ArrayLike | None = None,
) -> Array:
    """Dimuons from an A': ε² dN/dm F(m) times the efficiency ratio (n_ex of arXiv:1710.02867).

    Args:
        mass: GeV, any shape.
        eps2: ε².
        photons_per_gev: dN/dm, observed dimuons from virtual photons per GeV at the mass: their number n_ob
            in a window of ± Δm over 2 Δm.
        efficiency_ratio: efficiency of the A' over that of virtual photons, at least 0; 1 for prompt decays.
        flavours: N_f; None takes `effective_flavours`.

    Returns:
        Events, in the shape to which the arguments broadcast.

    Raises:
        FitError: as `widths`, or a yield or efficiency that is negative.

    >>> expected_yield(25.0, 8.263e-6, 5e4, flavours=6.67).round(1).item()
    1000.0
    """
    ratio = at_least("the efficiency ratio", efficiency_ratio, 0, "give the A' over prompt virtual photons")
    photons = at_least("photons_per_gev", photons_per_gev, 0, "subtract less, or merge masses")
    return np.asarray(_eps2(eps2) * photons * ratio * signal_factor(mass, flavours))


def eps2_limit(
    mass: ArrayLike,
    yield_limit: ArrayLike,
    photons_per_gev: ArrayLike,
    *,
    efficiency_ratio: ArrayLike = 1.0,
    flavours: ArrayLike | None = None,
) -> Array:
    """Upper limit on ε² from one on the yield of prompt A', in which it is linear.

    Args:
        mass: GeV, any shape.
        yield_limit: events, broadcast with the others; bands may be stacked in front, shape (5, masses). nan
            where there is none.
        photons_per_gev: dN/dm, as `expected_yield`, above 0.
        efficiency_ratio: as `expected_yield`, above 0.
        flavours: N_f; None takes `effective_flavours`.

    Returns:
        ε², in the shape to which the arguments broadcast.

    Raises:
        FitError: as `expected_yield`, or a limit, yield or efficiency that is not positive.

    >>> f"{eps2_limit(25.0, 1000.0, 5e4, flavours=6.67):.3e}"
    '8.263e-06'
    """
    limit = np.asarray(yield_limit, dtype=np.float64)
    above("yield_limit", limit[~np.isnan(limit)], 0, "give upper limits in events, nan where there is none")
    photons = above("photons_per_gev", photons_per_gev, 0, "leave out masses without virtual photons")
    ratio = above("the efficiency ratio", efficiency_ratio, 0, "leave out masses without efficiency")
    return np.asarray(limit / (photons * ratio * signal_factor(mass, flavours)))
