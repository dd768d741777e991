"""Jet corrections and veto maps from correctionlib files.

A correction here is a factor on pT (and mass) that may depend on `JetPt`, `JetEta`, `JetPhi`, `JetA`, `Rho`, `run`,
`luminosity_block` and the string `systematic`: `nominal`, or `<source>_up` and `<source>_down`.
"""

import gzip
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import correctionlib
import numpy as np
from correctionlib import schemav2
from numpy.typing import NDArray

__all__ = ["CorrectionError", "evaluate", "load", "names", "required_inputs", "systematics"]

#: Taken, if no name is given, from a file with several corrections.
DEFAULT = "hlt_jec"

NOMINAL: Mapping[str, str] = {"systematic": "nominal"}


class CorrectionError(ValueError):
    """A correction file cannot be used; says why and what to do."""


@lru_cache(maxsize=8)
def load(path: str) -> correctionlib.CorrectionSet:
    """A correction set, parsed once per process.

    Raises:
        CorrectionError: missing, or not correctionlib.
    """
    if not Path(path).is_file():
        raise CorrectionError(f"correction file {path}: no such file; check the path")
    try:
        return correctionlib.CorrectionSet.from_file(path)
    except Exception as error:  # correctionlib raises RuntimeError, IndexError, ...
        text = " ".join(str(error).split())[:200]
        raise CorrectionError(
            f"correction file {path} is not a correctionlib (v2) JSON file: {text}"
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
        raise CorrectionError(
            f"correction file {path} has no '{name or DEFAULT}'; name one of: {', '.join(known)}"
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
    model = schemav2.CorrectionSet.model_validate_json(_text(path))
    stack = {correction.name}
    for compound in model.compound_corrections or []:
        if compound.name == correction.name:
            stack = set(compound.stack)
    keys = [key for item in model.corrections if item.name in stack for key in _keys(item.data)]
    return tuple(dict.fromkeys(["nominal", *keys]))


def _text(path: str) -> str:
    data = Path(path).read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()


def evaluate(
    path: str, name: str | None, columns: Mapping[str, NDArray[Any]], choices: Mapping[str, str] = NOMINAL
) -> NDArray[np.float64]:
    """A correction for arrays of jets.

    Args:
        path: correctionlib file.
        name: correction or compound; `hlt_jec`, or the only one of the file, if not given.
        columns: input name to values, shape (n_jets,) each; evaluated in float64.
        choices: input name to value for the inputs that are strings, such as `systematic`.

    Returns:
        Factors, shape (n_jets,).

    Raises:
        CorrectionError: an input is not at hand, is NaN, or is outside the correction's range.
    """
    correction = _get(path, name)
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
    try:
        return np.asarray(correction.evaluate(*arguments), dtype=np.float64)
    except (RuntimeError, IndexError, ValueError) as error:
        ranges = ", ".join(f"{n} in [{v.min():.4g}, {v.max():.4g}]" for n, v in columns.items() if len(v))
        raise CorrectionError(
            f"correction '{correction.name}' of {path} refused its input ({error}): {ranges}"
        ) from error
