"""Jet corrections and veto maps from correctionlib files.

A correction here is a factor on pT (and mass) that may depend on `JetPt`, `JetEta`, `JetPhi`, `JetA`, `Rho`, `run`,
`luminosity_block` and the string `systematic`: `nominal`, or `<source>_up` and `<source>_down`.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import correctionlib
import numpy as np
from correctionlib import schemav2
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trila.corrections.correction_set import read
from trila.corrections.correction_text import CorrectionError, check_structure, text

__all__ = [
    "CorrectionError", "evaluate", "inside_range", "load", "names", "pileup_variable", "required_inputs", "starts_from_raw", "systematics",
    "valid_regions",
]  # fmt: skip

#: Taken, if no name is given, from a file with several corrections.
DEFAULT = "hlt_jec"

NOMINAL: Mapping[str, str] = {"systematic": "nominal"}

# Corrections of a calibration of this package whose JetPt its valid range is stated in.
_OF_RAW_PT = ("hlt_jec", "hlt_to_offline")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Region(_Frozen):
    """Ranges of JetEta and of raw JetPt (GeV)."""

    eta: tuple[float, float] = Field(alias="JetEta")
    pt: tuple[float, float] = Field(alias="JetPt")


class _Valid(_Frozen):
    regions: tuple[_Region, ...] = ()


class _Level(_Frozen):
    level: str = "raw"
    file: str | None = None


class _Levels(_Frozen):
    hlt: _Level = _Level()


class _Description(_Frozen):
    """What a calibration of this package says of itself, as far as it matters for applying it."""

    valid: _Valid = _Valid()
    sources: tuple[str, ...] | None = None
    levels: _Levels = _Levels()
    pileup_variable: str | None = None


@lru_cache(maxsize=8)
def load(path: str) -> correctionlib.CorrectionSet:
    """A correction set, parsed once per process.

    Raises:
        CorrectionError: missing, or not correctionlib.
    """
    content = text(path)
    try:
        check_structure(content, path)
        return correctionlib.CorrectionSet.from_string(content)
    except CorrectionError:
        raise
    except Exception as error:  # correctionlib raises RuntimeError, IndexError, ...
        reason = " ".join(str(error).split())[:200]
        raise CorrectionError(
            f"correction file {path} is not a correctionlib (v2) JSON file: {reason}"
        ) from error


def names(path: str) -> list[str]:
    """Corrections and compound corrections of a file."""
    corrections = load(path)
    return [*corrections.keys(), *corrections.compound.keys()]


def _get(path: str, name: str | None) -> Any:
    known = names(path)
    if name is None:
        name = DEFAULT if DEFAULT in known else known[0] if len(known) == 1 else None
    if name is None or name not in known:
        shown = ", ".join(" ".join(known_name[:80].split()) for known_name in known[:12])
        raise CorrectionError(
            f"correction file {path} has no '{name or DEFAULT}'; name one of: {shown}{', ...' if len(known) > 12 else ''}"
        )
    corrections = load(path)
    # `in` raises on these mappings (correctionlib 2.9)
    return corrections.compound[name] if name in list(corrections.compound.keys()) else corrections[name]


def required_inputs(path: str, name: str | None = None) -> tuple[str, ...]:
    """Names of a correction's inputs, in its order."""
    return tuple(variable.name for variable in _get(path, name).inputs)


def _keys(node: Any) -> list[str]:
    """Category keys of the input `systematic` below a node of correctionlib's schema, in order."""
    found: list[str] = []
    if isinstance(node, schemav2.Category) and node.input == "systematic":
        found += [str(item.key) for item in node.content]
    children = getattr(node, "content", None)
    for child in children if isinstance(children, list) else []:
        found += _keys(getattr(child, "value", child))
    return found


@lru_cache(maxsize=32)
def systematics(path: str, name: str | None = None) -> tuple[str, ...]:
    """Values of `systematic` that a correction knows, `nominal` first; only `nominal` where it has no such input."""
    correction = _get(path, name)
    if "systematic" not in required_inputs(path, name):
        return ("nominal",)
    model = read(path)
    stack = {correction.name}
    for compound in model.compound_corrections or []:
        if compound.name == correction.name:
            stack = set(compound.stack)
    keys = [key for item in model.corrections if item.name in stack for key in _keys(item.data)]
    return tuple(dict.fromkeys(["nominal", *keys]))


@lru_cache(maxsize=8)
def _description(path: str) -> _Description:
    """What a calibration of this package says of itself; nothing, for other files."""
    try:
        found = json.loads(json.loads(text(path))["description"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return _Description()
    if not isinstance(found, dict) or not {"valid", "sources"} <= found.keys():
        return _Description()
    try:
        return _Description.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise CorrectionError(
            f"correction file {path} does not say where it is valid ({'.'.join(map(str, first['loc']))}: {first['msg']}); derive "
            "it again with `trila calibrate`"
        ) from error


def valid_regions(path: str) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Where a calibration of this package holds: ranges of JetEta and of raw JetPt (GeV); none for other files."""
    return [(region.eta, region.pt) for region in _description(path).valid.regions]


def starts_from_raw(path: str) -> bool:
    """Whether a file is meant for pT without any stored correction: all are, but calibrations that say otherwise.

    Raises:
        CorrectionError: it is meant for jets that another file has corrected before.
    """
    hlt = _description(path).levels.hlt
    if hlt.level == "corrected":
        raise CorrectionError(
            f"{path} was derived for HLT jets corrected with {hlt.file}; expected one for raw or stored jets; derive "
            "it for those"
        )
    return hlt.level == "raw"


def pileup_variable(path: str) -> str:
    """What the input `Rho` of a file is: "rho", or "mu" where a calibration of this package was derived with it."""
    return _description(path).pileup_variable or "rho"


def inside_range(path: str, pt: NDArray[Any], eta: NDArray[Any]) -> NDArray[np.bool_]:
    """Which jets a file has a calibration for, by raw pT (GeV) and η; all, where the file does not say.

    Shape (n_jets,).
    """
    regions = valid_regions(path)
    inside = np.full(np.shape(pt), not regions)
    for (eta_low, eta_high), (pt_low, pt_high) in regions:
        inside |= (eta >= eta_low) & (eta < eta_high) & (pt >= pt_low) & (pt <= pt_high)
    return inside


def _check_range(path: str, columns: Mapping[str, NDArray[Any]], hold: bool) -> None:
    if not valid_regions(path) or "JetPt" not in columns or "JetEta" not in columns:
        return
    pt, eta = columns["JetPt"], columns["JetEta"]
    if hold:  # only η counts
        outside = ~np.any([(eta >= low) & (eta < high) for (low, high), _ in valid_regions(path)], axis=0)
    else:
        outside = ~inside_range(path, pt, eta)
    if outside.any():
        first = int(np.argmax(outside))
        ranges = "; ".join(
            f"pT {pt[0]:.4g} to {pt[1]:.4g} GeV for eta {eta[0]:g} to {eta[1]:g}"
            for eta, pt in valid_regions(path)
        )
        raise CorrectionError(
            f"{outside.sum()} of {outside.size} jets are outside of the range of {path}, the first with pT "
            f"{columns['JetPt'][first]:.4g} GeV and eta {columns['JetEta'][first]:.3g}; it is valid for {ranges}; leave "
            "such jets out"
        )


def _check_systematic(path: str, name: str, systematic: str) -> None:
    """A calibration answers `nominal` to what it does not know, as a source may belong to another correction of the file."""
    sources = _description(path).sources
    if sources is None or systematic == "nominal":
        return
    if systematic not in [f"{source}_{direction}" for source in sources for direction in ("up", "down")]:
        raise CorrectionError(
            f"correction '{name}' of {path} knows no systematic '{systematic}'; name nominal, or _up or _down of: "
            f"{', '.join(sources)}"
        )


def evaluate(
    path: str,
    name: str | None,
    columns: Mapping[str, NDArray[Any]],
    choices: Mapping[str, str] = NOMINAL,
    *,
    hold: bool = False,
) -> NDArray[np.float64]:
    """A correction for arrays of jets.

    Args:
        path: correctionlib file.
        name: correction or compound; `hlt_jec`, or the only one of the file, if not given.
        columns: input name to values, shape (n_jets,) each; evaluated in float64.
        choices: input name to value for the inputs that are strings, such as `systematic`.
        hold: take jets whose pT is beyond the range of a calibration too; their factor is that at its end.

    Returns:
        Factors, shape (n_jets,).

    Raises:
        CorrectionError: an input is not at hand, is NaN, or is outside the correction's range.
    """
    correction = _get(path, name)
    _check_systematic(path, correction.name, choices.get("systematic", "nominal"))
    arguments: list[Any] = []
    for variable in correction.inputs:
        if variable.name in choices:
            arguments.append(choices[variable.name])
            continue
        if variable.name not in columns:
            raise CorrectionError(
                f"correction '{correction.name}' of {path} needs '{variable.name}', which the input cannot give; "
                f"at hand: {', '.join(columns)}"
            )
        values = np.asarray(columns[variable.name])
        values = values.astype(np.int64 if variable.type == "int" else np.float64)
        if np.isnan(values).any():  # correctionlib would silently take the last bin
            raise CorrectionError(
                f"correction '{correction.name}': {np.isnan(values).sum()} NaN among '{variable.name}'"
            )
        arguments.append(values)
    if correction.name in _OF_RAW_PT:
        _check_range(path, columns, hold)
    try:
        return np.asarray(correction.evaluate(*arguments), dtype=np.float64)
    except (RuntimeError, IndexError, ValueError) as error:
        ranges = ", ".join(f"{n} in [{v.min():.4g}, {v.max():.4g}]" for n, v in columns.items() if len(v))
        raise CorrectionError(
            f"correction '{correction.name}' of {path} refused its input ({' '.join(str(error).split())[:200]}): {ranges}"
        ) from error
