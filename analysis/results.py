"""RESULT, the directory that a run leaves: written once, completely, and read back.

`docs/results.md` describes the files. Nothing is half-written: everything is made in a folder of its own and moved into
place, `histograms.zip` last.
"""

import hashlib
import json
import os
import platform
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import hist
import uhi.io.zip
from isal import isal_zlib

from trila.processors.errors import InputError, unknown_name

__all__ = [
    "FORMAT_VERSION", "Result", "building", "digest", "histogram", "package_versions", "read", "write", "write_json",
]  # fmt: skip

FORMAT_VERSION = 1
_BUILDING = ".building"
_PRODUCTS = ("histograms.zip", "manifest.json", "cutflow.json", "luminosity_blocks.json", "pairs", "turnon")
_PACKAGES = (
    "awkward", "boost-histogram", "coffea", "correctionlib", "dask", "distributed", "hist", "mplhep", "numba", "numpy",
    "pyarrow", "trila", "uhi", "uproot",
)  # fmt: skip


class Result(NamedTuple):
    """A complete RESULT.

    Attributes:
        path: of the directory.
        histograms: by name.
        cutflow, manifest: content of the JSON files.
    """

    path: Path
    histograms: dict[str, hist.Hist[Any]]
    cutflow: dict[str, Any]
    manifest: dict[str, Any]


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def digest(content: Any) -> str:
    """SHA-256 of a JSON-like object, the same on every machine."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON with a stable order of keys, under a temporary name first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def building(path: Path) -> Iterator[Path]:
    """A folder inside RESULT to make a new result in; it is gone when the context ends.

    An earlier result goes first of all, so that a run that fails does not leave it in its place.

    Raises:
        InputError: the path is a file, or a folder with something else in it, or cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give a folder for the result")
    existed = path.is_dir()
    if existed:
        others = sorted({entry.name for entry in path.iterdir()} - {_BUILDING})
        if others and not (_is_result(path) and set(others) <= set(_PRODUCTS)):
            raise InputError(
                f"{path} is not empty and is no earlier result ({others[0]}, ...); give another folder"
            )
    folder = path / _BUILDING
    try:
        for name in (*_PRODUCTS, _BUILDING):
            target = path / name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"result folder {path} cannot be written: {error.strerror}; choose another place"
        ) from error
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not existed and not any(path.iterdir()):
            path.rmdir()


def _is_result(path: Path) -> bool:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"trila", "format_version"} <= manifest.keys()


class _Archive(zipfile.ZipFile):
    """A zip file whose members are compressed by ISA-L: smaller than by zlib at its fastest, in a third of the time."""

    def open(self, *args: Any, **options: Any) -> Any:
        handle = super().open(*args, **options)
        if handle.writable():  # zipfile offers zlib alone; were this attribute to go, zlib would do
            handle._compressor = isal_zlib.compressobj(1, wbits=-isal_zlib.MAX_WBITS)  # type: ignore[attr-defined]
        return handle


def write(result: Result, folder: Path, *, blocks: Iterable[int] | None, parts: Iterable[Path]) -> None:
    """Complete a RESULT and move it into place.

    Args:
        result: what to write, and where.
        folder: as `building` gave it; tables of pairs are in its `pairs/`.
        blocks: run << 32 | luminosity block of the data read; None for simulation.
        parts: tables of pairs that belong to the result; others, of files that were skipped, are dropped.
    """
    try:
        kept = set(parts)
        pairs = folder / "pairs"
        for part in [p for p in pairs.rglob("*") if p.is_file() and p not in kept] if pairs.is_dir() else []:
            part.unlink()
        write_json(folder / "cutflow.json", result.cutflow)
        write_json(folder / "manifest.json", result.manifest)
        if blocks is not None:
            write_json(folder / "luminosity_blocks.json", _ranges(blocks))
        with _Archive(folder / "histograms.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(result.histograms):
                uhi.io.zip.write(archive, name, result.histograms[name])
        for name in (*_PRODUCTS[1:], _PRODUCTS[0]):
            if (folder / name).exists():
                (folder / name).replace(result.path / name)
    except OSError as error:
        raise InputError(
            f"result {result.path} cannot be written: {error.strerror or error}; free some space"
        ) from error


def _ranges(blocks: Iterable[int]) -> dict[str, list[list[int]]]:
    """Luminosity blocks in the form of a mask: run to closed ranges.

    >>> _ranges([5 << 32 | 1, 5 << 32 | 2, 5 << 32 | 4])
    {'5': [[1, 2], [4, 4]]}
    """
    found: dict[str, list[list[int]]] = {}
    for run, group in groupby(sorted(blocks), key=lambda b: b >> 32):
        ranges: list[list[int]] = []
        for number in (block & 0xFFFFFFFF for block in group):
            if ranges and number == ranges[-1][1] + 1:
                ranges[-1][1] = number
            else:
                ranges.append([number, number])
        found[str(run)] = ranges
    return found


def read(path: str | Path) -> Result:
    """Read a RESULT.

    Raises:
        InputError: there is none, or it is not complete or damaged.
    """
    folder = Path(path)
    if not (folder / "manifest.json").is_file():
        raise InputError(f"{path} is no result: it has no manifest.json; `trila run ... -o {path}` makes one")
    if not (folder / "histograms.zip").is_file():
        raise InputError(f"{path} is not complete: it has no histograms.zip; run it again")
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        cutflow = json.loads((folder / "cutflow.json").read_text())
        with zipfile.ZipFile(folder / "histograms.zip") as archive:
            names = sorted(n.removesuffix(".json") for n in archive.namelist() if n.endswith(".json"))
            histograms: dict[str, hist.Hist[Any]] = {
                name: hist.Hist(uhi.io.zip.read(archive, name)) for name in names
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}); run it again") from error
    return Result(folder, histograms, cutflow, manifest)


def histogram(reference: str) -> hist.Hist[Any]:
    """The histogram that `RESULT:NAME` names.

    Raises:
        InputError: not of that form, or no such result.
        UnknownName: no such histogram; offers the nearest.
    """
    path, separator, name = reference.rpartition(":")
    if not separator or not path:
        raise InputError(f"'{reference}' names no histogram; expected RESULT:NAME, such as result:dijet.mass")
    histograms = read(path).histograms
    if name not in histograms:
        raise unknown_name("histogram", name, histograms)
    return histograms[name]
