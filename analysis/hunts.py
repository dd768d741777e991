"""Excesses: `trila bumphunt` without a model of the signal, `trila significance` with one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trila.analysis.envelopes import PREFIX, enveloped
from trila.analysis.fit_inputs import FitInput, check_place, number, write_product
from trila.analysis.fitting import FitOutcome, fitted, notes_on
from trila.analysis.provenance import record
from trila.analysis.scans import scan, valid_search
from trila.fits.bump_hunt import bump_hunt
from trila.fits.envelope import envelope_discovery
from trila.fits.errors import FitError
from trila.fits.functions import resolve
from trila.fits.look_elsewhere import gross_vitells, scan_toys, toy_global
from trila.fits.search import Search
from trila.fits.signals import signal
from trila.fits.significance import Discovery, discovery

__all__ = ["bumphunt", "local_rows", "significance"]

Array = NDArray[np.float64]

#: Of the toys whose crossings Gross and Vitells' bound counts.
_CROSSING_TOYS = 100


def bumphunt(
    given: FitInput, function: str, output: Path, *, toys: int = 1000, seed: int = 0, sideband: bool = False
) -> FitOutcome:
    """Find the largest bump and its global p-value, and write them.

    Raises:
        FitError: as `bump_hunt`.
        InputError: the file cannot be written.
    """
    check_place(output)
    fit = fitted(resolve(function), given)
    found = bump_hunt(fit, toys=toys, seed=seed, sideband=sideband)
    options = given.asked | {"function": function, "toys": toys, "seed": seed, "sideband": sideband}
    content = {
        "low": number(found.low),
        "high": number(found.high),
        "events": number(found.events),
        "background": number(found.background),
        "p_local": number(found.p_local),
        "statistic": number(found.statistic),
        "p_global": found.p_global.value,
        "p_global_error": (found.p_global.high - found.p_global.low) / 2,
        "p_global_interval": [found.p_global.low, found.p_global.high],
        "toys": toys,
        "failed_toys": found.p_global.failed,
        "windows": found.windows,
        "toys_statistics": found.toys[np.isfinite(found.toys)].tolist(),
        "provenance": record("bumphunt", options).as_json(),
    }
    write_product(output, content)
    notes = notes_on(fit, given)
    if found.p_global.failed:
        notes += (f"{found.p_global.failed} of {toys} toys failed; they count as larger bumps",)
    return FitOutcome(content, notes)


def significance(
    given: FitInput, function: str, shape: str, points: Array, output: Path, *, sources: Sequence[str] = (),
    window: float | None = None, toys: int = _CROSSING_TOYS, seed: int = 0,
) -> FitOutcome:  # fmt: skip
    """Local p-values of a scan, and the global one by Gross and Vitells' bound and by toys.

    Args:
        toys: of the background; none leaves the global p-value out.
        others: as `limits.scan`.

    Raises:
        FitError, InputError: as `limits.scan`, and a file that cannot be written.
    """
    check_place(output)
    overall: list[dict[str, Any]] = []
    notes: tuple[str, ...] = ()
    if function.partition(":")[0] == PREFIX:
        several = enveloped(given, function, shape, points, sources=sources, window=window)
        made, skipped = several.templates, several.skipped
        local, unit = envelope_discovery(several.envelope), np.ones(made.masses.size)
        single = False
    else:
        ready = scan(given, function, shape, points, sources=sources, window=window)
        made, skipped, notes = ready.templates, ready.skipped, ready.notes
        found = valid_search(ready.fit, made)
        local, unit = discovery(found.model), found.unit
        single = len(ready.fit.windows.edges) == 1
    if toys and not single:
        notes += ("no global p-value: toys need one background for all masses",)
    elif toys and not local.verified.any():
        notes += ("no global p-value: no mass has a significance",)
    elif toys:
        overall, more = _overall(found, local, signal(shape).width(made.masses), toys, seed)
        notes += more
    options = given.asked | {
        "function": function, "signal": shape, "uncertainties": list(sources), "window": window, "toys": toys, "seed": seed,
    }  # fmt: skip
    rows = local_rows(made.masses, local, unit)
    rows += [{"mass": m, "p_local": None, "z_local": None, "reason": why} for m, why in skipped.items()]
    content = {
        "local": sorted(rows, key=lambda row: float(row["mass"])),
        "global": overall,
        "provenance": record("significance", options).as_json(),
    }
    write_product(output, content)
    return FitOutcome(content, notes)


def _overall(
    found: Search, local: Discovery, widths: Array, toys: int, seed: int
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Global p-values of the largest excess, and what is missing of them."""
    q0 = scan_toys(found, toys, seed)
    largest = float(np.max(local.q0[local.verified]))
    counted = toy_global(q0, largest)
    by_toys = {
        "p_global": counted.value, "p_global_error": (counted.high - counted.low) / 2, "method": "toys", "toys": toys,
        "failed_toys": counted.failed,
    }  # fmt: skip
    try:
        bound = gross_vitells(q0, largest, masses=found.templates.masses, widths=widths)
    except FitError as error:
        return [by_toys], (f"no bound by Gross and Vitells: {error}",)
    by_crossings = {
        "p_global": bound.p_global, "p_global_error": bound.error, "method": "Gross-Vitells", "toys": bound.toys,
    }  # fmt: skip
    return [by_crossings, by_toys], ()


def local_rows(masses: Array, local: Discovery, unit: Array) -> list[dict[str, Any]]:
    """Rows of a scan; null where a fit failed."""
    return [
        {
            "mass": float(mass),
            "p_local": number(p) if good else None,
            "z_local": number(z) if good else None,
            "best_fit": number(best * scale),
            "sigma": number(error * scale),
        }
        for mass, p, z, best, error, scale, good in zip(
            masses,
            local.p_local,
            local.z_local,
            local.best_fit,
            local.sigma,
            unit,
            local.verified,
            strict=True,
        )
    ]
