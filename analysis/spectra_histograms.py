"""Reads histograms of ROOT and uhi files, and makes the spectrum that a selection of their categories names.

A spectrum has one axis of mass. Of other axes, bins are selected as in `dimuon.mass[sign=os,category=barrel+forward]`:
several of one axis are joined by +, `all` stands for all of them. An axis may be left out where it has one bin, where it is
`dataset` (which is summed), or `systematic` (of which `nominal` is taken). Under- and overflow are not part of a spectrum.
"""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hist
import numpy as np
import uhi.io.json
import uhi.io.zip
import uproot

from trila.fits.spectrum import Spectrum, checked
from trila.processors.errors import InputError, unknown_name

__all__ = [
    "LARGEST", "SYSTEMATIC", "is_uhi", "projected", "root_histogram", "selection_of", "systematics", "uhi_histogram",
    "zip_histogram",
]  # fmt: skip

#: Bytes of one histogram, once unpacked.
LARGEST = 100_000_000
SYSTEMATIC = "systematic"
_NOMINAL = "nominal"
_SUMMED = "dataset"
_ALL = "all"

Histogram = hist.Hist[Any]


def root_histogram(file: str, name: str) -> Histogram:
    """A TH1 (or TH2) of a ROOT file.

    Args:
        file: path or URL.
        name: with its folder; with its cycle, if not the last.

    Raises:
        InputError: not a ROOT file, no such object, or no histogram.
    """
    try:
        options = {} if "://" in file else {"handler": uproot.MemmapSource}
        with uproot.open({file: None}, **options) as directory:
            classes = directory.classnames()
            names = sorted({key.partition(";")[0] for key, kind in classes.items() if kind.startswith("TH")})
            if name not in classes and name not in {key.partition(";")[0] for key in classes}:
                raise unknown_name(f"histogram of {file}", name, names)
            stored = directory[name]
            if not stored.classname.startswith("TH"):
                raise InputError(
                    f"{name} of {file} is a {stored.classname}; expected a histogram (TH1): {', '.join(names[:8]) or 'none'}"
                )
            return hist.Hist(stored.to_hist())
    except InputError:
        raise
    except Exception as error:  # uproot and its sources raise many kinds
        raise InputError(f"{file} cannot be read: {_one_line(error)}; expected a ROOT file") from error


def is_uhi(content: Any) -> bool:
    """Whether the content of a JSON file is a histogram as `uhi.io.json` writes it."""
    return isinstance(content, dict) and {"axes", "storage"} <= content.keys()


def uhi_histogram(content: Mapping[str, Any], name: str) -> Histogram:
    """A histogram from its uhi description.

    Args:
        content: with values as lists or arrays.
        name: for messages.

    Raises:
        InputError: not a histogram, or another number of values than its axes have bins.
    """
    if content.get("uhi_schema") != 1:
        schema = " ".join(str(content.get("uhi_schema"))[:10].split())
        raise InputError(
            f"{name} is of uhi schema {schema}; expected 1: write it with a version of uhi that knows that"
        )
    try:
        axes = [_plain(axis) for axis in content["axes"]]
        storage = uhi.io.json.object_hook(dict(content["storage"]))
        expected, found = math.prod(map(_extent, axes)), int(np.size(storage["values"]))
        if expected != found:  # found before the memory for the bins is asked for
            raise InputError(
                f"{name}: its axes have {expected:g} bins, its storage {found} values; write it again"
            )
        return hist.Hist({**content, "axes": axes, "storage": storage})
    except InputError:
        raise
    except Exception as error:  # what is not as uhi describes it fails in many ways
        raise InputError(
            f"{name} is no histogram of uhi's: {_one_line(error)}; write it with uhi.io.json or uhi.io.zip"
        ) from error


def zip_histogram(file: Path, name: str) -> Histogram:
    """A histogram of a zip file that `uhi.io.zip` wrote.

    Raises:
        InputError: not a zip file, no such histogram, or a damaged or too large one.
    """
    try:
        # of a damaged archive, zipfile leaves a file open that it has opened itself
        with Path(file).open("rb") as stream, zipfile.ZipFile(stream) as archive:
            names = [
                member.removesuffix(".json") for member in archive.namelist() if member.endswith(".json")
            ]
            if name not in names:
                raise unknown_name(f"histogram of {file}", name, names)
            size = max(member.file_size for member in archive.infolist())
            if size > LARGEST:
                raise InputError(
                    f"{file} has a member of {size / 1e6:.0f} MB; one may have {LARGEST / 1e6:.0f} MB: project it first"
                )
            content = uhi.io.zip.read(archive, name)
    except InputError:
        raise
    except Exception as error:  # zipfile, its decompressors, JSON and NumPy raise many kinds
        raise InputError(
            f"{file} cannot be read: {_one_line(error)}; write it again with uhi.io.zip"
        ) from error
    return uhi_histogram(content, f"{file}:{name}")


def selection_of(text: str) -> dict[str, str]:
    """`sign=os,category=barrel` as a mapping.

    Raises:
        InputError: not of that form, or an axis twice.
    """
    selection: dict[str, str] = {}
    for item in text.split(",") if text else ():
        axis, separator, wanted = (part.strip() for part in item.partition("="))
        if not (axis and separator and wanted):
            raise InputError(f"selection [{text}] has '{item}'; expected [AXIS=BIN,...], such as [sign=os]")
        if axis in selection:
            raise InputError(f"selection [{text}] gives '{axis}' twice; join bins by +, as in [{axis}=a+b]")
        selection[axis] = wanted
    return selection


def systematics(histogram: Histogram) -> tuple[str, ...]:
    """The variations in a histogram, without the nominal one; none without an axis `systematic`."""
    for axis in histogram.axes:
        if axis.name == SYSTEMATIC and isinstance(axis, hist.axis.StrCategory):
            return tuple(label for label in _labels(axis) if label != _NOMINAL)
    return ()


def projected(histogram: Histogram, selection: Mapping[str, str], name: str) -> Spectrum:
    """The spectrum of the selected bins.

    Args:
        histogram: with one axis of mass, GeV.
        selection: axis to bins of it, joined by +.
        name: for messages, and of the spectrum.

    Raises:
        InputError: a histogram of means, none or several axes of mass, or a selection that is missing or does not exist.
        FitError: contents that make no spectrum.
    """
    if histogram.kind != "COUNT":
        raise InputError(f"{name} holds means; expected a histogram of counts")
    names = [axis.name or f"axis{i}" for i, axis in enumerate(histogram.axes)]
    continuous = [isinstance(axis, (hist.axis.Regular, hist.axis.Variable)) for axis in histogram.axes]
    masses = [i for i, chosen in enumerate(continuous) if chosen] or [
        i for i, axis in enumerate(histogram.axes) if isinstance(axis, hist.axis.Integer)
    ]
    if len(masses) != 1:
        shown = ", ".join(names[i] for i in masses) or "none"
        raise InputError(
            f"{name} has {len(masses)} axes of numbers ({shown}); expected one, the mass: project it first"
        )
    others = {i: names[i] for i in range(len(names)) if i != masses[0]}
    for axis in selection:
        if axis not in others.values():
            raise unknown_name(f"axis of {name} to select on", axis, others.values())
    bins = _selected({axis: _labels(histogram.axes[i]) for i, axis in others.items()}, selection, name)
    counts = histogram.values(flow=False)
    # other storages hold no sums of squared weights: theirs would be a guess
    weighted = issubclass(histogram.storage_type, hist.storage.Weight)
    variances = histogram.variances(flow=False) if weighted else None
    for i in sorted(others, reverse=True):
        counts = counts.take(bins[others[i]], axis=i).sum(axis=i)
        variances = None if variances is None else variances.take(bins[others[i]], axis=i).sum(axis=i)
    shown = f"[{_selection_text(selection)}]" if selection else ""
    return checked(histogram.axes[masses[0]].edges, counts, variances, name=name + shown)


def _selected(
    labels: Mapping[str, list[str]], selection: Mapping[str, str], name: str
) -> dict[str, list[int]]:
    """Positions of the bins that are asked for, on each axis that has labels."""
    wanted = dict(selection)
    for axis, known in labels.items():
        if not known:
            raise InputError(f"{name} has an axis {axis} without a bin; expected a filled histogram")
        if axis == SYSTEMATIC and _NOMINAL in known:
            wanted.setdefault(axis, _NOMINAL)
        elif axis == _SUMMED or len(known) == 1:
            wanted.setdefault(axis, _ALL)
    missing = {axis: known for axis, known in labels.items() if axis not in wanted}
    if missing:
        shown = " and ".join(
            f"{axis} ({', '.join(known[:8])}{', ...' if len(known) > 8 else ''})"
            for axis, known in missing.items()
        )
        example = _selection_text({**selection, **{axis: known[0] for axis, known in missing.items()}})
        raise InputError(
            f"{name} has bins of {shown}; say which, such as {name}[{example}]: several of an axis are joined by +, {_ALL} "
            "stands for all"
        )
    return {axis: _positions(axis, known, wanted[axis], name) for axis, known in labels.items()}


def _positions(axis: str, known: list[str], wanted: str, name: str) -> list[int]:
    """Positions on one axis."""
    if wanted in known:  # a name may have a + in it
        return [known.index(wanted)]
    chosen = known if wanted == _ALL else [part.strip() for part in wanted.split("+")]
    for label in chosen:
        if label not in known:
            raise unknown_name(f"{axis} of {name}", label, known)
    if axis == SYSTEMATIC and len(chosen) > 1:
        raise InputError(f"{name}: variations are of the same events; select one, such as {axis}={known[0]}")
    if len(set(chosen)) < len(chosen):
        raise InputError(f"{name}: {axis}={wanted} counts events twice; give each bin once")
    return [known.index(label) for label in chosen]


def _selection_text(selection: Mapping[str, str]) -> str:
    """The inverse of `selection_of`."""
    return ",".join(f"{axis}={wanted}" for axis, wanted in selection.items())


def _labels(axis: Any) -> list[str]:
    """What the bins of an axis of categories, of integers or of yes and no are called in a selection."""
    values = [axis.value(i) for i in range(len(axis))]
    return [value if isinstance(value, str) else str(int(value)) for value in values]


def _plain(axis: Mapping[str, Any]) -> dict[str, Any]:
    """An axis described by its edges alone: those of a transformed one are stored beside the transformation."""
    writer = axis.get("writer_info", {}).get("boost-histogram", {})
    return {**axis, "writer_info": {"boost-histogram": {k: v for k, v in writer.items() if k == "orig_type"}}}


def _extent(axis: Mapping[str, Any]) -> int:
    """Bins of an axis, flow included, from its description."""
    kind = axis["type"]
    if kind == "boolean":
        return 2
    if kind in ("category_str", "category_int"):
        return len(axis["categories"]) + bool(axis["flow"])
    bins = int(axis["bins"]) if kind == "regular" else len(axis["edges"]) - 1
    return bins + bool(axis["underflow"]) + bool(axis["overflow"])


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
