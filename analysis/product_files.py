"""Reads the JSON files that fits, limits and tests leave, and tells by their keys what they hold."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trila.analysis.fit_inputs import read_json
from trila.analysis.fit_products import (
    Bias,
    BumpHunt,
    Diagnosis,
    Fit,
    FTest,
    Limits,
    Product,
    Significance,
    shown,
)
from trila.processors.errors import InputError
from trila.processors.formats import validation_message

__all__ = ["product_of", "read_product"]

#: Keys that tell the products apart.
_KEYS: tuple[tuple[type[Product], frozenset[str]], ...] = (
    (Fit, frozenset({"function", "data", "prediction"})),
    (FTest, frozenset({"tests", "chosen"})),
    (BumpHunt, frozenset({"low", "high", "statistic"})),
    (Significance, frozenset({"local", "global"})),
    (Diagnosis, frozenset({"pulls", "impacts"})),
    (Bias, frozenset({"spurious"})),
    (Bias, frozenset({"injection"})),
)


def read_product(path: str | Path) -> Product:
    """Read a file.

    Raises:
        InputError: missing, too large, not JSON, or not one of the products.
    """
    return product_of(read_json(Path(path)), str(path))


def product_of(content: Any, name: str) -> Product:
    """What the content of a JSON file is.

    Args:
        content: as parsed.
        name: for messages.

    Raises:
        InputError: none of the products, or one with a missing key or a value that cannot be.
    """
    try:
        if isinstance(content, list) and all(isinstance(row, dict) for row in content[:1]):
            return Limits.model_validate({"rows": content})
        found = content if isinstance(content, dict) else {}
        for kind, keys in _KEYS:
            if keys <= found.keys():
                return kind.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{name}, {validation_message(error)}; make the file again") from error
    given = f"the keys {', '.join(map(shown, list(found)[:6]))}" if found else "no keys"
    known = "; ".join(f"{kind.__name__}: {', '.join(sorted(keys))}" for kind, keys in _KEYS)
    raise InputError(f"{name} has {given}; expected a list of limits, or one of {known}")
