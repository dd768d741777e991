"""What a partial result depends on, besides the events: a digest, under which it is kept and found again.

It changes with the processor's configuration and the content of the files named there (corrections, masks), with the
source of the processor and of all that it imports, with the way in which branches make columns, with what is stated of the
dataset, and with the versions of the packages that compute. It does not change with anything else: two processors of one run
have two recipes.
"""

import ast
import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from trila.processors import partial
from trila.processors.readers import Layout

__all__ = ["digest", "file_digest", "recipe", "sources", "with_contents"]


def digest(content: Any) -> str:
    """SHA-256 of a JSON-like object, the same on every machine."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def recipe(
    processor: Any,
    configuration: Any,
    layout: Layout,
    metadata: Mapping[str, Any],
    packages: Mapping[str, str],
) -> str:
    """The digest of all that a processor's partial results depend on, besides the events.

    Args:
        processor: as it runs.
        configuration: its own, JSON-like; files that it names count with their content.
        layout: of the file, with the columns that the processor may touch.
        metadata: of the dataset, with its name.
        packages: versions.
    """
    return digest(
        {
            "processor": [type(processor).__module__, type(processor).__qualname__],
            "sources": sources(type(processor).__module__) | sources(partial.__name__),
            "configuration": with_contents(configuration),
            "format": json.loads(layout.table.model_dump_json()),
            "era": layout.era,
            "columns": layout.columns,
            "collections": layout.sources,
            "dataset": metadata,
            "packages": dict(packages),
        }
    )


def with_contents(configuration: Any) -> Any:
    """A JSON-like configuration in which names of files are replaced by digests of what is in them."""
    if isinstance(configuration, Mapping):
        return {str(key): with_contents(value) for key, value in configuration.items()}
    if isinstance(configuration, (list, tuple)):
        return [with_contents(value) for value in configuration]
    if isinstance(configuration, str) and len(configuration) < 4096 and "\0" not in configuration:
        path = Path(configuration)
        try:
            return {"file": file_digest(path)} if configuration and path.is_file() else configuration
        except OSError:
            return configuration
    return configuration


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def sources(name: str) -> dict[str, str]:
    """Digests of the source of a module and of all that it imports from trila and its own package or, without one, from its folder."""
    found: dict[str, str] = {}
    todo = [name]
    top = name.partition(".")[0]
    while todo:
        one = todo.pop()
        if one not in found and (module := _read(one)) is not None:
            found[one] = module.digest
            todo += [other for other in module.imports if _belongs(other, top, module.path)]
    return found


class _Module(NamedTuple):
    path: Path
    digest: str
    imports: frozenset[str]


@cache
def _read(name: str) -> _Module | None:
    path = _source(name)
    if path is None:
        return None
    content = path.read_bytes()
    return _Module(path, hashlib.sha256(content).hexdigest(), _imports(content, name))


def _source(name: str) -> Path | None:
    module = sys.modules.get(name)
    if module is not None:
        file = inspect.getsourcefile(module) if getattr(module, "__file__", None) else None
    else:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
        file = spec.origin if spec is not None and spec.has_location else None
    return Path(file) if file is not None and file.endswith(".py") and Path(file).is_file() else None


def _imports(content: bytes, name: str) -> frozenset[str]:
    """Modules that a source may import; `from a import b` may mean the module a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = ".".join(name.split(".")[: -node.level])
                base = f"{parent}.{base}".strip(".")
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(found - {""})


def _belongs(name: str, top: str, beside: Path) -> bool:
    """Whether a module is of the same package, or lies in the folder of the one that imports it."""
    if name.partition(".")[0] in (top, "trila"):
        return True
    path = _source(name) if name in sys.modules else None
    return path is not None and path.parent == beside.parent
