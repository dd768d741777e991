"""RESULT, the directory that a run leaves: written completely, and read back.

`docs/results.md` describes the files. Nothing is half-written: everything is made in a folder of its own and moved into
place, `histograms.zip` last. What runs go on from, the ledger and tables of pairs, is there before.
"""

import contextlib
import json
import os
import platform
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import hist
import numpy as np
import uhi.io.zip
from isal import isal_zlib
from numpy.typing import NDArray

from trila.analysis import ledger
from trila.analysis.spectra_histograms import uhi_histogram
from trila.corrections.luminosity import ranges
from trila.processors.documents import read_bytes
from trila.processors.errors import InputError, unknown_name
from trila.processors.recipes import file_digest

__all__ = [
    "FORMAT_VERSION", "Result", "clear", "histogram", "package_versions", "read", "read_json", "read_manifest", "working",
    "write", "write_json",
]  # fmt: skip

FORMAT_VERSION = 2
_BUILDING = ".building"
_PRODUCTS = (
    "histograms.zip",
    "manifest.json",
    "cutflow.json",
    "luminosity_blocks.json",
    "pairs",
    "turnon",
)
#: Bytes that the JSON files and the histograms of a RESULT may take.
_LARGEST_JSON, _LARGEST_ARCHIVE = 200_000_000, 8_000_000_000
_WORKING = (_BUILDING, "live", *ledger.FILES)
_PACKAGES = (
    "awkward", "boost-histogram", "coffea", "correctionlib", "dask", "distributed", "hist", "iminuit", "jax", "jaxlib",
    "matplotlib", "mplhep", "numba", "numpy", "pyarrow", "pydantic", "pyhf", "scipy", "trila", "uhi", "uproot",
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


def write_json(path: Path, content: Any) -> None:
    """Write JSON with a stable order of keys, under a temporary name first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def working(path: Path) -> Iterator[Path]:
    """RESULT as a place to work in, which nobody else has meanwhile; gives a folder for what is being made.

    A folder that was not there, and in which nothing worth keeping was made, is gone when the context ends.

    Raises:
        InputError: the path is a file, or a folder with something else in it, or cannot be written, or is in use.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give a folder for the result")
    if (path / "pairs").is_symlink():
        raise InputError(f"{path}/pairs is a link; make it a folder: files in it are replaced and removed")
    existed = path.is_dir()
    if existed:
        others = sorted({entry.name for entry in path.iterdir()} - set(_WORKING))
        if others and not (_is_result(path) and set(others) <= set(_PRODUCTS)):
            raise InputError(
                f"{path} is not empty and is no earlier result ({others[0]}, ...); give another folder"
            )
    try:
        with _writable(path):
            path.mkdir(parents=True, exist_ok=True)
        with ledger.exclusive(path):
            folder = path / _BUILDING
            try:
                with _writable(path):
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir()
                yield folder.resolve()
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                _tidy(path)
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # something is in it
                path.rmdir()


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"result folder {path} cannot be written: {error.strerror}; choose another place"
        ) from error


def _tidy(path: Path) -> None:
    """Remove what a run leaves that came to nothing."""
    if (path / "manifest.json").is_file() or _has_partials(path):
        return
    for name in {"pairs", *ledger.FILES} - {ledger.LOCK}:
        target = path / name
        shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink(missing_ok=True)


def _has_partials(path: Path) -> bool:
    """Whether there is a ledger with something to go on from; one that cannot be read may have it."""
    if not (path / ledger.NAME).is_file():
        return False
    try:
        with ledger.Ledger(path) as left:
            return bool(left.rows("SELECT 1 FROM partials LIMIT 1"))
    except InputError:
        return (path / ledger.NAME).stat().st_size > 0


def clear(path: Path) -> None:
    """Remove an earlier result, so that a run that fails does not leave it in its place; what runs go on from stays."""
    for name in (*_PRODUCTS[:4], "turnon"):
        target = path / name
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)


def _is_result(path: Path) -> bool:
    if (path / ledger.NAME).is_file():
        return True
    try:
        manifest = read_json(path / "manifest.json")
    except InputError:
        return False
    return isinstance(manifest, dict) and {"trila", "format_version"} <= manifest.keys()


class _Archive(zipfile.ZipFile):
    """A zip file whose members are compressed by ISA-L: smaller than by zlib at its fastest, in a third of the time."""

    def open(self, *args: Any, **options: Any) -> Any:
        handle = super().open(*args, **options)
        if handle.writable():  # zipfile offers zlib alone; were this attribute to go, zlib would do
            handle._compressor = isal_zlib.compressobj(1, wbits=-isal_zlib.MAX_WBITS)  # type: ignore[attr-defined]
        return handle


class _Members:
    """Members of an archive in memory, to be written in the order of their names: uhi takes them from a set.

    So the same content makes the same file, and has one digest.
    """

    def __init__(self) -> None:
        self._pieces: dict[str, list[bytes]] = {}

    @contextmanager
    def open(self, name: str, _mode: str) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(write=self._pieces.setdefault(name, []).append)

    def writestr(self, name: str, text: str) -> None:
        self._pieces[name] = [text.encode()]

    def write(self, archive: zipfile.ZipFile) -> None:
        for name, pieces in sorted(self._pieces.items()):
            with archive.open(name, "w") as stream:
                for piece in pieces:
                    stream.write(piece)


def write(
    result: Result, folder: Path, *, blocks: NDArray[np.uint64] | None, parts: Mapping[str, str]
) -> Result:
    """Complete a RESULT and move it into place.

    Args:
        result: what to write, and where; the manifest is completed.
        folder: as `working` gave it.
        blocks: run << 32 | luminosity block of the data read; None for simulation.
        parts: SHA-256 of the tables of pairs that belong to the result, by their names in `pairs/`; others are dropped.

    Returns:
        The result with its complete manifest.
    """
    try:
        write_json(folder / "cutflow.json", result.cutflow)
        if blocks is not None:
            write_json(folder / "luminosity_blocks.json", ranges(blocks))
        with _Archive(folder / "histograms.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(result.histograms):
                members = _Members()
                uhi.io.zip.write(members, name, result.histograms[name])  # type: ignore[arg-type]
                members.write(archive)
        products = {entry.name: file_digest(entry) for entry in sorted(folder.iterdir())}
        result = result._replace(manifest={**result.manifest, "products": products, "pairs": dict(parts)})
        write_json(folder / "manifest.json", result.manifest)
        (result.path / _PRODUCTS[0]).unlink(
            missing_ok=True
        )  # not complete, until the last of them is in place
        for name in (*_PRODUCTS[1:4], _PRODUCTS[0]):
            if (folder / name).exists():
                (folder / name).replace(result.path / name)
            else:
                (result.path / name).unlink(missing_ok=True)
        kept = {result.path / "pairs" / name for name in parts}
        pairs = result.path / "pairs"
        written = [
            p for kind in ("parquet", "tmp") for p in pairs.glob(f"*/*.{kind}") if not p.parent.is_symlink()
        ]
        for part in [p for p in written if p not in kept]:
            part.unlink()
        if not parts:
            shutil.rmtree(pairs, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"result {result.path} cannot be written: {error.strerror or error}; free some space, and give the same command again"
        ) from error
    return result


def read(path: str | Path, *, min_fraction: float = 1.0) -> Result:
    """Read a RESULT.

    Args:
        path: of the folder.
        min_fraction: share of the planned events that must have been processed, in each dataset.

    Raises:
        InputError: there is none, or it is not complete or damaged, or too little of the data is in it.
    """
    folder = Path(path)
    manifest, cutflow = read_manifest(folder), read_json(folder / "cutflow.json")
    try:
        _check_fraction(path, manifest, min_fraction)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the manifest of {path} is damaged ({error!r:.100}); run it again") from error
    if not isinstance(cutflow, dict):
        raise InputError(
            f"{folder / 'cutflow.json'} is a {type(cutflow).__name__}, expected cutflows by dataset; run it again"
        )
    return Result(folder, _read_histograms(folder / "histograms.zip"), cutflow, manifest)


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a RESULT.

    Raises:
        InputError: there is none, or it is of another version, or the RESULT is not complete.
    """
    folder = Path(path)
    if not (folder / "manifest.json").is_file():
        raise InputError(f"{path} is no result: it has no manifest.json; `trila run ... -o {path}` makes one")
    if not (folder / "histograms.zip").is_file():
        raise InputError(f"{path} is not complete: it has no histograms.zip; run it again")
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or manifest.get("format_version") != FORMAT_VERSION:
        found = manifest.get("format_version") if isinstance(manifest, dict) else None
        raise InputError(f"{path} is of format version {found}, expected {FORMAT_VERSION}; run it again")
    return manifest


def read_json(path: Path) -> Any:
    """The content of a JSON file of a RESULT.

    Raises:
        InputError: it cannot be read, is too large or is no JSON.
    """
    try:
        return json.loads(read_bytes(path, "file", _LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no JSON ({str(error)[:80]}); run it again") from error


def _read_histograms(path: Path) -> dict[str, hist.Hist[Any]]:
    """All histograms of an archive, which may be anybody's: its size and that of each histogram are looked at first."""
    try:
        # of a damaged archive, zipfile leaves a file open that it has opened itself
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > _LARGEST_ARCHIVE:
                raise InputError(
                    f"{path} holds {size / 1e9:.3g} GB, expected less than {_LARGEST_ARCHIVE / 1e9:g}; run it again"
                )
            names = sorted(n.removesuffix(".json") for n in archive.namelist() if n.endswith(".json"))
            return {name: uhi_histogram(uhi.io.zip.read(archive, name), f"{path}:{name}") for name in names}
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {str(error)[:100]}); run it again"
        ) from error


def _check_fraction(path: str | Path, manifest: dict[str, Any], least: float) -> None:
    for name, dataset in manifest["datasets"].items():
        fraction = dataset["fraction"]
        if not fraction >= least:
            lost = dataset["planned"] - dataset["events"]
            skipped = [
                item["file"]
                for item in manifest["inputs"]
                if item["dataset"] == name and item["status"] == "skipped"
            ]
            files = "file" if len(skipped) == 1 else "files"
            raise InputError(
                f"{path} holds {dataset['events']} of the {dataset['planned']} planned events of dataset '{name}' "
                f"({100 * fraction:.4g}%), expected at least {100 * least:.4g}%: {lost} are lost in {len(skipped)} skipped "
                f"{files} ({', '.join(skipped[:3])}{', ...' if len(skipped) > 3 else ''}); run it again, or lower --min-fraction"
            )


def histogram(reference: str, *, min_fraction: float = 1.0) -> hist.Hist[Any]:
    """The histogram that `RESULT:NAME` names.

    Raises:
        InputError: not of that form, or no such result.
        UnknownName: no such histogram; offers the nearest.
    """
    path, separator, name = reference.rpartition(":")
    if not separator or not path:
        raise InputError(f"'{reference}' names no histogram; expected RESULT:NAME, such as result:dijet.mass")
    histograms = read(path, min_fraction=min_fraction).histograms
    if name not in histograms:
        raise unknown_name("histogram", name, histograms)
    return histograms[name]
