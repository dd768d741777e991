"""Limits on events as limits on couplings: g_q of a resonance that decays to quarks, ε² of a dark photon."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trila.fits.background import BackgroundFit
from trila.fits.couplings import Scaling, coupling_limit, read_scaling
from trila.fits.dimuon_limits import Bands, FractionTable, coupling_limits, photon_density
from trila.fits.errors import FitError
from trila.fits.tables import read_table

__all__ = ["Interpreter", "Tables", "interpreters", "read_tables"]

#: Of limits in events at all masses of a scan, and the factor that makes them pb.
Interpreter = Callable[[Bands, float], Bands]


class Tables(NamedTuple):
    """What the user knows of other physics; None where nothing is given.

    Attributes:
        predictions: of a resonance's cross-section.
        others: fraction of dimuons that do not come from virtual photons.
    """

    predictions: Scaling | None
    others: FractionTable | None


def read_tables(coupling: Path | None, other: Path | None, *, eps2: bool) -> Tables:
    """Read the tables before long work is done for them.

    Args:
        coupling: table of predictions, see `couplings.read_scaling`.
        other: table mass,fraction.
        eps2: whether limits on ε² are wanted.

    Raises:
        FitError: a table that cannot be read, or one without use.
    """
    if other is not None and not eps2:
        raise FitError("a table of other dimuons is for limits on eps2; add --eps2")
    return Tables(
        None if coupling is None else read_scaling(coupling), None if other is None else _fractions(other)
    )


def interpreters(tables: Tables, fit: BackgroundFit | None) -> dict[str, Interpreter]:
    """What limits can be turned into, by the key under which they stand in LIMITS.json.

    Args:
        tables: what is known.
        fit: of the dimuon background, to which limits on ε² are normalised; None without them.
    """
    found: dict[str, Interpreter] = {}
    if tables.predictions is not None:
        table = tables.predictions

        def on_coupling(events: Bands, per: float) -> Bands:
            observed = coupling_limit(table, events.masses, events.observed * per)
            expected = coupling_limit(table, events.masses, (events.expected * per).T)
            return Bands(events.masses, observed, expected.T)

        found["coupling"] = on_coupling
    if fit is not None:

        def on_mixing(events: Bands, _per: float) -> Bands:
            return coupling_limits(events, photon_density(fit, events.masses, fractions=tables.others))

        found["eps2"] = on_mixing
    return found


def _fractions(path: Path) -> FractionTable:
    mass, fraction = read_table(path, ("mass", "fraction")).T
    if not mass.size or not (np.isfinite(mass).all() and np.isfinite(fraction).all()):
        raise FitError(f"{path} has no rows, or entries that are no numbers; expected mass,fraction in each")
    return FractionTable(mass, fraction)
