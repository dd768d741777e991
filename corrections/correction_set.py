"""Correction sets as files: read as models of the schema, and written checked, reproducibly, and never half.

What to use when:

* the values of a correction: `trila.corrections.jets`;
* what a file holds, node by node: `read`;
* a new file: `write`, as does all of this package, so that a file that exists can be evaluated.
"""

import gzip
import io
import os
from pathlib import Path
from typing import Any

import correctionlib
from correctionlib import schemav2

from trila.corrections.correction_text import CorrectionError, check_structure, text

__all__ = ["read", "write"]


def read(path: str | Path) -> Any:
    """A correction set as a `correctionlib.schemav2.CorrectionSet`, checked against the schema.

    Raises:
        CorrectionError: it cannot be read, or is not of the schema.
    """
    content = text(path)
    try:
        check_structure(content, str(path))
        return schemav2.CorrectionSet.model_validate_json(content)
    except CorrectionError:
        raise
    except ValueError as error:
        raise CorrectionError(
            f"correction file {path} is not a correctionlib (v2) JSON file: {_short(error)}"
        ) from error


def write(corrections: Any, path: str | Path) -> None:
    """Write a correction set, after the schema and correctionlib's evaluator have accepted its text.

    The file gets its name only when it is complete; one that has the name already is replaced. The time is left out
    of the compressed file, so that equal corrections give equal bytes.

    Args:
        corrections: a `correctionlib.schemav2.CorrectionSet`.
        path: file to write; `.json.gz` is compressed, `.json` is not.

    Raises:
        CorrectionError: another suffix, not of the schema, not to be evaluated, or the folder cannot be written to;
            nothing is left behind.
    """
    path = Path(path)
    if not path.name.endswith((".json.gz", ".json")):  # correctionlib goes by the suffix
        raise CorrectionError(f"correction file {path}: the name must end in .json.gz or .json")
    content = corrections.model_dump_json(exclude_unset=True)
    try:
        # the text and not the model: models may be changed after they were checked, and JSON knows no infinity
        schemav2.CorrectionSet.model_validate_json(content)
        check_structure(content, str(path))
        correctionlib.CorrectionSet.from_string(content)
    except CorrectionError:
        raise
    except Exception as error:  # pydantic raises ValidationError, correctionlib RuntimeError, IndexError, ...
        raise CorrectionError(
            f"correction file {path} not written, its content is not valid: {_short(error)}"
        ) from error
    data = content.encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(_compressed(data) if path.suffix == ".gz" else data)
        temporary.replace(path)
    except OSError as error:
        raise CorrectionError(
            f"correction file {path} cannot be written: {error.strerror}; check the folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _compressed(data: bytes) -> bytes:
    # gzip.compress leaves the operating system in the header from Python 3.11 to 3.12
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(data)
    return buffer.getvalue()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
