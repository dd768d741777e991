"""YAML and JSON files of the user's: read within limits, and with one kind of message."""

from pathlib import Path
from typing import Any

import yaml

from trila.processors.errors import InputError

__all__ = ["LARGEST", "exists", "read_bytes", "read_yaml"]

#: Bytes of a YAML file, of which some megabytes are read in a second.
LARGEST = 10_000_000
#: Levels of lists and mappings.
_DEEPEST = 100
#: Characters of one number; Python takes a time that grows with their square.
_LONGEST_NUMBER = 400
_OF_NUMBERS = "0123456789abcdefABCDEFoxX_:.+-"


class _Loader(yaml.CSafeLoader):
    """Safe YAML in which a key that is given twice is an error: the first one would be lost without a word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    found: set[Any] = set()
    for name, _ in node.value:
        key = loader.construct_object(name, deep=True)
        if key in found and key != "<<":
            raise yaml.constructor.ConstructorError(
                None, None, f"key '{key}' is given twice", node.start_mark
            )
        found.add(key)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
        for key, value in node.value
    }


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def exists(path: str | Path) -> bool:
    """Whether there is a file or folder; a text that is empty, too long or has a zero byte names none."""
    try:
        return bool(str(path)) and Path(path).exists()
    except (OSError, ValueError):
        return False


def read_bytes(path: str | Path, what: str, limit: int) -> bytes:
    """The content of a file.

    Args:
        path: of the file.
        what: for messages: "configuration", "fileset", ...
        limit: bytes that it may have.

    Raises:
        InputError: missing, or larger.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(limit + 1)  # the size of a device or a pipe is not known before
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{what} {path} cannot be read: {reason}; check the path") from error
    if len(data) > limit:
        raise InputError(
            f"{what} {path} has more than {limit / 1e6:g} MB, expected less; check that it is the right file"
        )
    return data


def read_yaml(path: str | Path, what: str, *, limit: int = LARGEST) -> Any:
    """The content of a YAML (or JSON) file.

    Args:
        path: of the file.
        what: for messages: "configuration", "fileset", ...
        limit: bytes that it may have, with its aliases written out as well.

    Raises:
        InputError: missing, too large, too deep, not YAML, or a key given twice.
    """
    data = read_bytes(path, what, limit)
    try:
        text = data.decode("utf-8-sig")
        complaint = _unsafe(text, limit)
        if complaint is None:
            return yaml.load(text, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{what} {path} is not YAML or JSON: {' '.join(str(error).split())[:300]}"
        ) from error
    # values that belie their tags, such as !!bool 7
    except (LookupError, AttributeError, ArithmeticError, TypeError, ValueError) as error:
        raise InputError(
            f"{what} {path} is not YAML or JSON: {type(error).__name__} {str(error)[:80]}; mend its values"
        ) from error
    raise InputError(f"{what} {path} {complaint}")


def _unsafe(text: str, limit: int) -> str | None:
    """Why a text is not to be loaded: a short one can fill the memory with its aliases, a deep one the stack."""
    sizes: dict[str, int] = {}  # characters of what has an anchor, aliases written out
    open_: list[tuple[str | None, int]] = []  # anchor of a collection, and all characters before it
    total = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                return f"has an alias '{event.anchor}' within itself, or of nothing; write the value out"
            total += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size = len(event.value)
            if size > _LONGEST_NUMBER and not event.value.strip(_OF_NUMBERS):
                return f"has a number of {size} characters, expected at most {_LONGEST_NUMBER}; shorten it"
            total += 1 + size
            if event.anchor is not None:
                sizes[event.anchor] = 1 + size
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        if len(open_) > _DEEPEST:
            return f"nests more than {_DEEPEST} levels, expected fewer; take brackets out"
        if total > limit:
            return f"is larger than {limit / 1e6:g} MB with its aliases written out; take some out"
    return None
