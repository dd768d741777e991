"""Reads SPECTRUM arguments: the binned mass spectra that fits, searches and limits start from.

| SPECTRUM | what it is |
| --- | --- |
| `RESULT:NAME` | a histogram of a run, such as `result:dijet.mass` |
| `FILE.root:NAME` | a TH1, with the folder it is in |
| `FILE.zip:NAME`, `FILE.json` | a histogram as `uhi.io.zip` or `uhi.io.json` writes it |
| `FILE.yaml`, `FILE.json` | a HEPData table |
| `FILE.csv` | columns `low`, `high`, `count`, and `variance` for sums of weights |

Histograms with more axes than the mass take a selection, `result:dimuon.mass[sign=os,category=barrel]`
(`spectra_histograms.py`); tables take the names of their columns (`spectra_tables.py`). Masses are in GeV.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import hist
import numpy as np

from trila.analysis import results
from trila.analysis.spectra_histograms import (
    LARGEST,
    SYSTEMATIC,
    is_uhi,
    projected,
    root_histogram,
    selection_of,
    systematics,
    uhi_histogram,
    zip_histogram,
)
from trila.analysis.spectra_tables import csv_spectrum, hepdata_spectrum, is_hepdata
from trila.fits.spectrum import Spectrum, rebin
from trila.processors.documents import LARGEST as LARGEST_YAML
from trila.processors.documents import exists, read_bytes, read_yaml
from trila.processors.errors import InputError, nearest
from trila.processors.histograms import CMS_DIJET_EDGES

__all__ = ["read", "rebinned", "variations"]

#: Bytes of a file, by its suffix.
_LIMITS = {".csv": 50_000_000, ".json": LARGEST, ".yaml": LARGEST_YAML, ".yml": LARGEST_YAML}
_WITH_NAMES = (".root", ".zip")
_EDGES_LIMIT = 1_000_000
_FORMS = "RESULT:NAME, FILE.root:NAME, FILE.zip:NAME, or a file .json, .yaml or .csv"


class _Source(NamedTuple):
    """A SPECTRUM argument in parts.

    Attributes:
        path: of the file or folder.
        name: of the histogram in it; may be empty.
        selection: axis to bins.
        label: the argument without the folders that it lies in.
    """

    path: str
    name: str
    selection: dict[str, str]
    label: str


def read(text: str, *, columns: str | None = None, min_fraction: float = 1.0) -> Spectrum:
    """The spectrum that an argument names. All of its bins are used.

    Args:
        text: one of the forms above.
        columns: of a table, such as `low=xmin,high=xmax,count=N`; `per=GeV` for values per GeV.
        min_fraction: share of the planned events that RESULT must hold, see `results.read`.

    Raises:
        InputError: no such file, histogram, column or bin; not one of the forms; or too large.
        FitError: contents that make no spectrum.
    """
    source = _source(text)
    content = _content(source, min_fraction)
    if isinstance(content, hist.Hist):
        if columns is not None:
            raise InputError(f"--columns is for tables, and {source.label} is a histogram; leave it out")
        return projected(content, source.selection, source.label)
    if source.selection:
        raise InputError(
            f"{source.label} is a table, without axes to select on; choose its columns with --columns"
        )
    if isinstance(content, bytes):
        return csv_spectrum(content, source.label, columns)
    return hepdata_spectrum(content, source.label, columns)


def variations(text: str, *, min_fraction: float = 1.0) -> dict[str, Spectrum]:
    """The systematic variations of a spectrum: name, such as `JES_up`, to the spectrum with it.

    Args:
        text: as for `read`, without a bin of the axis `systematic`.
        min_fraction: as for `read`.

    Returns:
        Without the nominal spectrum; empty for tables, and for histograms without that axis.

    Raises:
        InputError, FitError: as for `read`.
    """
    source = _source(text)
    if SYSTEMATIC in source.selection:
        raise InputError(
            f"{source.label} selects one variation; leave {SYSTEMATIC} out where all of them are wanted"
        )
    content = _content(source, min_fraction)
    if not isinstance(content, hist.Hist):
        return {}
    return {
        name: projected(content, {**source.selection, SYSTEMATIC: name}, source.label)
        for name in systematics(content)
    }


def rebinned(spectrum: Spectrum, edges: str) -> Spectrum:
    """A spectrum with its bins merged.

    Args:
        spectrum: to merge.
        edges: `standard`, the CMS dijet edges as far as the spectrum reaches; or edges in GeV separated by commas; or a
            file with edges separated by commas, spaces or lines, and comments after #.

    Raises:
        InputError: not numbers, or a file that cannot be read.
        FitError: an edge that the spectrum does not have.
    """
    if edges == "standard":
        table = np.array(CMS_DIJET_EDGES, np.float64)
        first, last = spectrum.edges[[0, -1]] * [1 - 1e-9, 1 + 1e-9]
        inside = table[(table >= first) & (table <= last)]
        if inside.size < 2:
            raise InputError(
                f"{spectrum.name}: no standard bin lies within {first:g} to {last:g} GeV; give edges instead"
            )
        return rebin(spectrum, inside)
    content = read_bytes(edges, "edges", _EDGES_LIMIT).decode(errors="replace") if exists(edges) else edges
    fields = re.split(r"[\s,]+", re.sub(r"#[^\n]*", "", content).strip(" \t\n\r,"))
    try:
        numbers = [float(field) for field in fields]
    except ValueError as error:
        raise InputError(
            f"edges '{edges[:60]}': {str(error)[:80]}; expected standard, masses in GeV separated by commas, or a file of them"
        ) from error
    return rebin(spectrum, numbers)


def _source(text: str) -> _Source:
    body, selection = text, ""
    if text.endswith("]") and not exists(text):
        body, _, selection = text[:-1].rpartition("[")
    path, separator, name = (body, "", "") if exists(body) else body.rpartition(":")
    if not separator or name.startswith("//"):
        path, name = body, ""
    label = Path(path).name + (f":{name}" if name else "")
    return _Source(path, name, selection_of(selection), label)


def _content(source: _Source, min_fraction: float) -> "hist.Hist[Any] | bytes | dict[str, Any]":
    """What the argument names: a histogram, a CSV file, or a HEPData table."""
    path, suffix = Path(source.path), Path(source.path).suffix.lower()
    is_folder = exists(source.path) and path.is_dir()
    if is_folder or suffix not in (*_LIMITS, *_WITH_NAMES):
        if exists(source.path) and not is_folder:
            raise InputError(f"{source.path} is a file of no known kind ('{suffix}'); expected {_FORMS}")
        name = f"{source.path}:{source.name}" if source.name else source.path
        return results.histogram(name, min_fraction=min_fraction)
    if "://" not in source.path and not exists(source.path):
        folder = path.parent if path.parent.is_dir() else None
        close = nearest(path.name, [entry.name for entry in folder.iterdir()]) if folder else []
        raise InputError(
            f"{source.path}: no such file; {f'did you mean {close[0]}?' if close else 'check the path'}"
        )
    if suffix in _WITH_NAMES:
        if not source.name:
            raise InputError(f"{source.path} may hold many histograms; name one, such as {source.path}:NAME")
        return (
            root_histogram(source.path, source.name)
            if suffix == ".root"
            else zip_histogram(path, source.name)
        )
    if source.name:
        raise InputError(f"{source.path} holds one spectrum; leave :{source.name} out")
    limit = _LIMITS[suffix]
    if suffix == ".csv":
        return read_bytes(path, "spectrum", limit)
    content = (
        _json(read_bytes(path, "spectrum", limit), source.path)
        if suffix == ".json"
        else read_yaml(path, "spectrum", limit=limit)
    )
    if is_uhi(content):
        return uhi_histogram(content, source.label)
    if is_hepdata(content):
        return dict(content)
    if isinstance(content, dict) and "channels" in content:
        raise InputError(f"{source.path} is a pyhf workspace; expected a spectrum: {_FORMS}")
    keys = [key[:20] for key in content if isinstance(key, str)][:6] if isinstance(content, dict) else []
    raise InputError(
        f"{source.path} has {'the keys ' + ', '.join(keys) if keys else 'no keys'}; expected a histogram of uhi's or a "
        "HEPData table"
    )


def _json(data: bytes, path: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON file: {str(error)[:120]}; write or download it again") from error
