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
import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from trila.processors import packing
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
            "sources": sources(type(processor).__module__) | sources(packing.__name__),
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
            # folders count by their names: logs and results of this very run may lie there
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
    """Digests of the source of a module and of all that it imports and that is not installed as a package of its own.

    That is trila, the module's own package, its folder, and what lies on Python's path or is installed to be edited. The
    versions of installed packages are another part of a recipe.
    """
    found: dict[str, str] = {}
    todo: list[tuple[str, Path | None]] = [(name, None)]
    top = name.partition(".")[0]
    while todo:
        one, folder = todo.pop()
        if one in found or (module := _read(one, folder)) is None:
            continue
        if one.partition(".")[0] in (top, "trila") or not _installed(module.path):
            found[one] = module.digest
            todo += [(other, module.path.parent) for other in module.imports if _wanted(other)]
    return found


class _Module(NamedTuple):
    path: Path
    digest: str
    imports: frozenset[str]


@cache
def _read(name: str, folder: Path | None) -> _Module | None:
    path = _source(name, folder)
    if path is None:
        return None
    content = path.read_bytes()
    return _Module(
        path, hashlib.sha256(content).hexdigest(), _imports(content, name, path.name == "__init__.py")
    )


def _source(name: str, folder: Path | None) -> Path | None:
    """The file of a module that may be imported from one in a folder; found without importing anything."""
    module = sys.modules.get(name)
    if module is not None:
        file = inspect.getsourcefile(module) if getattr(module, "__file__", None) else None
        return Path(file) if file is not None and file.endswith(".py") and Path(file).is_file() else None
    first, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        spec = None
    places = [] if folder is None else [folder.joinpath(first, *rest)]
    places += [Path(place, *rest) for place in (spec and spec.submodule_search_locations) or []]
    places += [Path(spec.origin).with_suffix("")] if spec is not None and spec.origin and not rest else []
    for place in places:
        for candidate in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _wanted(name: str) -> bool:
    """Whether a module may be somebody's own: the standard library's are not looked at."""
    return name.partition(".")[0] not in sys.stdlib_module_names


def _installed(path: Path) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return any(path.is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib"))


def _imports(content: bytes, name: str, package: bool) -> frozenset[str]:
    """Modules that a source may import; `from a import b` may mean the module a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                level = node.level - package
                parent = ".".join(name.split(".")[:-level] if level else name.split("."))
                base = f"{parent}.{base}".strip(".")
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(found - {""})
