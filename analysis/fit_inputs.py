"""What all fits start from: a spectrum cut to its range, without blinded and vetoed bins; masses; where products go."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis import spectra
from trila.analysis.results import write_json
from trila.fits.resonances import veto_windows
from trila.fits.spectrum import Spectrum, masked, select
from trila.processors.documents import read_bytes
from trila.processors.errors import InputError
from trila.processors.recipes import digest

__all__ = [
    "FitInput",
    "check_place",
    "interval",
    "masses",
    "number",
    "numbers",
    "prepared",
    "read_json",
    "vetoed",
    "write_product",
]

Array = NDArray[np.float64]
Interval = tuple[float, float]


class FitInput(NamedTuple):
    """A spectrum as a fit sees it, and how it was asked for.

    Attributes:
        spectrum: in the range; bins that are blinded or vetoed are not used.
        sqrt_s: collision energy, GeV.
        blind: windows that nobody may look at, GeV.
        variations: the whole spectrum in its own bins, and its calibration variations by name; empty if not asked for.
        asked: the options, for the record.
    """

    spectrum: Spectrum
    sqrt_s: float
    blind: tuple[Interval, ...]
    variations: tuple[Spectrum, dict[str, Spectrum]] | None
    asked: dict[str, Any]


def prepared(
    text: str, *, range: str, sqrt_s: float = 13000.0, columns: str | None = None, rebin: str | None = None,
    blind: Sequence[str] = (), veto: Sequence[str] = (), systematics: bool = False, min_fraction: float = 1.0,
) -> FitInput:  # fmt: skip
    """Read a spectrum, cut it to a range, merge its bins, and leave out what may not be looked at.

    Args:
        text: see `spectra.read`.
        range: LO:HI, GeV.
        sqrt_s: collision energy, GeV.
        columns: of a table.
        rebin: see `spectra.rebinned`.
        systematics: read the variations of the spectrum as well.
        min_fraction: share of the planned events that RESULT must hold, see `results.read`.
        blind, veto: windows LO:HI, GeV, and `resonances:a,b` for vetoes, see `vetoed`; bins that touch one are not used, and data in a blinded one is not shown either.

    Raises:
        InputError, FitError: as `spectra.read`, and a range or window that is none.
    """
    low, high = interval("--range", range)
    if not 0 < sqrt_s < np.inf:
        raise InputError(f"--sqrts {sqrt_s:g}, expected the collision energy in GeV above 0, such as 13000")
    hidden = tuple(interval("--blind", window) for window in blind)
    away = tuple(window for text in veto for window in vetoed(text))
    everything = spectra.read(text, columns=columns, min_fraction=min_fraction)
    varied = spectra.variations(text, min_fraction=min_fraction) if systematics else {}
    if systematics and not varied:
        raise InputError(
            f"{text} has no systematic variations, expected an axis 'systematic' with JES_up, JES_down, ...; run with corrections "
            "that have uncertainties, or leave --systematics out"
        )
    spectrum = select(everything, low, high)
    if rebin is not None:
        spectrum = spectra.rebinned(spectrum, rebin)
    asked = {
        "spectrum": text, "range": [low, high], "sqrt_s": sqrt_s, "columns": columns, "rebin": rebin, "systematics": systematics,
        "blinded": [list(window) for window in hidden], "vetoed": [list(window) for window in away],
        "digest": digest([spectrum.edges.tolist(), spectrum.counts.tolist()]),
    }  # fmt: skip
    if hidden or away:
        spectrum = masked(spectrum, [*hidden, *away])
    return FitInput(spectrum, sqrt_s, hidden, (everything, varied) if varied else None, asked)


def vetoed(text: str) -> list[Interval]:
    """Windows of one `--veto`: LO:HI, or `resonances:a,b`, those of the known resonances of two muons.

    Raises:
        InputError: of neither form.
        FitError: as `resonances.veto_windows`.

    >>> vetoed("9:11")
    [(9.0, 11.0)]
    """
    name, _, values = text.partition(":")
    if name != "resonances":
        return [interval("--veto", text)]
    found = numbers("--veto", values)
    if len(found) != 2:
        raise InputError(
            f"--veto '{text}', expected resonances:a,b with the resolution sqrt(a^2 + (b m)^2) of the mass"
        )
    return veto_windows((found[0], found[1]))


def interval(option: str, text: str) -> Interval:
    """LO:HI as two numbers in GeV.

    Raises:
        InputError: not of that form, or LO not below HI.

    >>> interval("--range", "500:2000")
    (500.0, 2000.0)
    """
    parts = text.split(":")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        low, high = np.nan, np.nan
    if not low < high or not np.isfinite([low, high]).all():
        raise InputError(f"{option} '{text}', expected LO:HI in GeV with LO below HI, such as 500:2000")
    return low, high


#: Bytes of a JSON file.
_LARGEST = 200_000_000
#: Of a scan; more are a slip in the step.
_MOST_MASSES = 100_000


def masses(text: str) -> Array:
    """LO:HI:STEP (HI included) or a list separated by commas, GeV; ascending.

    Raises:
        InputError: not of these forms, not above 0, or too many.

    >>> masses("600:800:100").tolist()
    [600.0, 700.0, 800.0]
    """
    try:
        numbers = [float(part) for part in text.split(":" if ":" in text else ",")]
    except ValueError:
        numbers = []
    if ":" in text and len(numbers) == 3 and numbers[2] > 0 and numbers[0] <= numbers[1]:
        low, high, step = numbers
        count = np.floor((high - low) / step * (1 + 1e-12) + 1e-9) + 1
        if count > _MOST_MASSES:
            raise InputError(
                f"--masses '{text}' are {count:.0f} masses, expected at most {_MOST_MASSES}; check the step"
            )
        numbers = (low + step * np.arange(int(count))).tolist()
    elif ":" in text:
        numbers = []
    found = np.unique(np.asarray(numbers, dtype=np.float64))
    if not found.size or not np.isfinite(found).all() or found[0] <= 0:
        raise InputError(
            f"--masses '{text}', expected LO:HI:STEP or a list M1,M2,... in GeV above 0, such as 600:1800:50"
        )
    return found


def numbers(option: str, text: str) -> tuple[float, ...]:
    """A list of numbers separated by commas.

    Raises:
        InputError: not of that form.

    >>> numbers("--strengths", "0,1.5")
    (0.0, 1.5)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} '{text}', expected numbers separated by commas, such as 0,1,2") from error


def number(value: float) -> float | None:
    """A number for JSON: null where there is none."""
    return float(value) if np.isfinite(value) else None


def check_place(path: Path) -> None:
    """Complain of a file that cannot be written before long work is done for it.

    Raises:
        InputError: a folder, or a place without permission.
    """
    try:
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        why = (
            "it is a folder" if path.is_dir() else f"{folder} is no folder" if not folder.is_dir()
            else f"no permission in {folder}" if not os.access(folder, os.W_OK) else ""
        )  # fmt: skip
    except OSError as error:  # a name that is too long
        why = str(error.strerror)
    if why:
        raise InputError(f"{path} cannot be written: {why}; choose another place")


def write_product(path: Path, content: Any) -> None:
    """Write a product, its folder made where missing, under a temporary name first.

    Raises:
        InputError: the place cannot be written.
    """
    check_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; choose another place") from error


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        InputError: no such file, too large, or no JSON.
    """
    data = read_bytes(path, "file", _LARGEST)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no JSON ({str(error)[:80]}); expected a workspace or product as JSON"
        ) from error
