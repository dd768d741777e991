"""Limits on events as limits on couplings: g_q of a resonance that decays to quarks, ε² of a dark photon."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trila.fits.background import BackgroundFit
from trila.fits.couplings import coupling_limit, read_scaling
from trila.fits.dimuon_limits import Bands, FractionTable, coupling_limits, photon_density
from trila.fits.errors import FitError

__all__ = ["Interpreter", "interpreters"]

#: Of limits in events at all masses of a scan, and the factor that makes them pb.
Interpreter = Callable[[Bands, float], Bands]


def interpreters(
    coupling: Path | None, fit: BackgroundFit | None, other: Path | None
) -> dict[str, Interpreter]:
    """What limits can be turned into, by the key under which they stand in LIMITS.json.

    Args:
        coupling: table of predictions, see `couplings.read_scaling`.
        fit: of the dimuon background, to which limits on ε² are normalised.
        other: table mass,fraction of the dimuons that do not come from virtual photons.

    Raises:
        FitError: a table that cannot be read, or one without use.
    """
    found: dict[str, Interpreter] = {}
    if coupling is not None:
        table = read_scaling(coupling)

        def on_coupling(events: Bands, per: float) -> Bands:
            observed = coupling_limit(table, events.masses, events.observed * per)
            expected = coupling_limit(table, events.masses, (events.expected * per).T)
            return Bands(events.masses, observed, expected.T)

        found["coupling"] = on_coupling
    if fit is None and other is not None:
        raise FitError("a table of other dimuons is for limits on eps2; add --eps2")
    if fit is not None:
        fractions = None if other is None else _fractions(other)

        def on_mixing(events: Bands, _per: float) -> Bands:
            return coupling_limits(events, photon_density(fit, events.masses, fractions=fractions))

        found["eps2"] = on_mixing
    return found


def _fractions(path: Path) -> FractionTable:
    try:
        table: Any = np.genfromtxt(
            path, delimiter=",", names=True, comments="#", dtype=np.float64, max_rows=100_000
        )
        mass, fraction = (np.atleast_1d(np.asarray(table[name])) for name in ("mass", "fraction"))
    except (OSError, ValueError, IndexError) as error:
        raise FitError(
            f"{path} cannot be read ({str(error)[:80]}); expected a CSV with columns mass,fraction"
        ) from error
    if not mass.size or not (np.isfinite(mass).all() and np.isfinite(fraction).all()):
        raise FitError(f"{path} has no rows, or entries that are no numbers; expected mass,fraction in each")
    return FractionTable(mass, fraction)
