"""Text of correction files: read within limits, and refused where correctionlib's parsers would end the process.

correctionlib (2.9) reads JSON and formulas with one call of a function for each level of brackets and each operator: some
100 kB of "[" or of "x+x+x" overflow its stack, and there is no error to catch.
"""

import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CorrectionError", "check_formula", "check_structure", "text"]

#: Bytes of a file once unpacked; the largest that CMS distributes have some 100 MB.
_LARGEST = 300_000_000
#: Levels of a file; correctionlib's own schema refuses more.
_DEEPEST = 200
#: Characters of a formula, and levels of its brackets; the time to parse it grows with their square.
_LONGEST_FORMULA = 4000
_DEEPEST_FORMULA = 100
#: What lies between brackets is no structure: strings, with what is escaped in them.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class CorrectionError(ValueError):
    """A correction file cannot be used; says why and what to do."""


def text(path: str | Path) -> str:
    """Content of a text file that may be compressed with gzip, whatever its suffix.

    Raises:
        CorrectionError: it cannot be read, is too large, or is not text.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        return (_unpacked(data) if data[:2] == b"\x1f\x8b" else _limited(data)).decode()
    except CorrectionError as error:
        raise CorrectionError(f"correction file {path} {error}") from error
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorrectionError(f"correction file {path} is damaged, or is not text: {error}") from error
    except FileNotFoundError as error:
        raise CorrectionError(f"correction file {path}: no such file; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise CorrectionError(f"correction file {path} cannot be read: {reason}; check the path") from error


def _limited(data: bytes | bytearray) -> bytes | bytearray:
    if len(data) > _LARGEST:
        raise CorrectionError(
            f"has more than {_LARGEST / 1e6:g} MB of text, expected less; check that it is the right file"
        )
    return data


def _unpacked(data: bytes) -> bytes | bytearray:
    """All members of a gzip file, as far as the limit."""
    found = bytearray()
    while data:
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        found += member.decompress(data, _LARGEST + 1 - len(found))
        if len(found) > _LARGEST:
            break
        if not member.eof:
            raise EOFError("it ends before its end-of-stream marker")
        data = member.unused_data.lstrip(b"\0")  # gzip allows for zeros behind the last member
    return _limited(found)


def check_structure(content: str, name: str) -> None:
    """Complain of JSON that correctionlib must not be given.

    Args:
        content: JSON.
        name: of the file, for messages.

    Raises:
        CorrectionError: nested too deep, or with a formula that is too long or too deep.
        ValueError: no JSON; not all that is none is found.
    """
    depth = _depth(_STRING.sub("", content), "[{", "]}")
    if depth > _DEEPEST:
        raise CorrectionError(
            f"correction file {name} nests {depth} levels, expected at most {_DEEPEST}; check that it is the right file"
        )

    def checked(pairs: list[tuple[str, Any]]) -> None:  # what is read is not kept
        for key, value in pairs:
            if key == "expression" and isinstance(value, str):
                check_formula(value, f"correction file {name}")

    if any(map(_is_suspect, set(_STRING.findall(content)))):
        json.loads(content, object_pairs_hook=checked)


def _is_suspect(string: str) -> bool:
    """Whether a string of JSON, as it is written, may stand for a formula to be refused."""
    return len(string) > _LONGEST_FORMULA or string.count("(") > _DEEPEST_FORMULA or "\\u00" in string


def check_formula(expression: str, what: str) -> None:
    """Complain of a formula that correctionlib must not be given.

    Args:
        expression: in correctionlib's dialect.
        what: has it, for messages.

    Raises:
        CorrectionError: too long, or with too many levels of brackets.
    """
    levels = _depth(expression, "(", ")")
    if len(expression) > _LONGEST_FORMULA or levels > _DEEPEST_FORMULA:
        raise CorrectionError(
            f"{what} has a formula of {len(expression)} characters and {levels} levels of brackets ({expression[:30]}...), "
            f"expected at most {_LONGEST_FORMULA} and {_DEEPEST_FORMULA}; split it into bins"
        )


def _depth(text: str, opening: str, closing: str) -> int:
    """Most levels of brackets that are open at one place of a text.

    >>> _depth("[{}{[]}]", "[{", "]}")
    3
    """
    characters = np.frombuffer(text.encode("ascii", errors="replace"), np.uint8)
    up, down = (np.isin(characters, list(brackets.encode())) for brackets in (opening, closing))
    levels = np.cumsum(np.where(up, 1, -1)[up | down])
    return int(levels.max(initial=0))
