"""YAML and JSON files of the user's: read with one kind of message."""

from pathlib import Path
from typing import Any

import yaml

from trila.processors.errors import InputError

__all__ = ["read_yaml"]


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key that is given twice is an error: the first one would be lost without a word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1 and key != "<<":
            raise yaml.constructor.ConstructorError(
                None, None, f"key '{key}' is given twice", node.start_mark
            )
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
        for key, value in node.value
    }


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: str | Path, what: str) -> Any:
    """The content of a YAML (or JSON) file.

    Args:
        path: of the file.
        what: for messages: "configuration", "fileset", ...

    Raises:
        InputError: missing, not YAML, or a key given twice.
    """
    try:
        return yaml.load(Path(path).read_text(), _Loader)
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}; check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{what} {path} is not YAML or JSON: {' '.join(str(error).split())}") from error
