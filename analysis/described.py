"""What a file says of how it was made: products, plots, correction files, RESULT and the files in it.

| file | where its record is |
| --- | --- |
| a JSON product | key `provenance`, in a list that of the first row |
| a correctionlib file | `provenance` in its description |
| a plot | see `plot_records.py` |
| RESULT | its manifest |
| a file in RESULT | that RESULT |
| a model as HistFactory JSON | `provenance.json` beside it, which lists it with its digest |
"""

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from trila.analysis.fit_inputs import read_json
from trila.analysis.plot_records import plot_text
from trila.analysis.provenance import Input, Name, Provenance, identity, manifest_of, named_in, record_digest
from trila.corrections.correction_text import text
from trila.processors.errors import InputError
from trila.processors.formats import validation_message
from trila.processors.recipes import digest

__all__ = ["Description", "Files", "description_of"]

#: Files of a RESULT that are named: of all, and of those left out.
_FIRST, _SKIPPED = 3, 20
#: Folders between RESULT and a file in it.
_NESTED = 4
#: Characters of an option of RESULT that is kept as it is.
_SHORT = 200


class _File(BaseModel):
    """A file in a manifest, as far as it is shown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    file: Name
    size: int | None = None
    processed: int = 0
    status: Name = ""
    reason: Name = ""


_FILES, _RECORD = TypeAdapter(list[_File]), TypeAdapter(Provenance)


class Files(BaseModel):
    """The ROOT files that a RESULT was made from.

    Attributes:
        number: of all.
        number_skipped: of those that were left out.
        events: processed.
        first: names of the first ones that were not left out.
        skipped: file to the reason why it was left out; the first ones.
        places: how many of those not left out are where they were: number for each of "same size", "changed since",
            "not found", "not checked".
    """

    model_config = ConfigDict(frozen=True)

    number: int
    number_skipped: int
    events: int
    first: tuple[str, ...]
    skipped: dict[str, str]
    places: dict[str, int]


class Description(NamedTuple):
    """What a file says of itself.

    Attributes:
        kind: "result", "part of a result", "product", "plot" or "correction file".
        record: how it was made; None for a part of a RESULT.
        inputs: what it was made from.
        intact: whether the record has the digest that it should have; None without a digest of its own.
        files: of a RESULT.
    """

    kind: str
    record: Provenance | None
    inputs: tuple[Input, ...]
    intact: bool | None = None
    files: Files | None = None


def description_of(place: Path) -> Description | None:
    """What a file or folder says of itself; None if nothing.

    Raises:
        InputError, CorrectionError: it cannot be read, or its record is none.
    """
    manifest = manifest_of(place) if place.is_dir() else None
    if manifest is not None:
        return _result(place, manifest)
    kind, content = _record_in(place) if place.is_file() else ("", None)
    if isinstance(content, dict) and {"command", "digest"} <= content.keys():
        made = _validated(_RECORD, content, place)
        # records of versions that wrote no code had another digest
        intact = record_digest(made) == made.digest if made.code else None
        return Description(kind, made, made.inputs, intact)
    return _part_of_result(place) or _listed_beside(place)


def _record_in(place: Path) -> tuple[str, Any]:
    """Kind of a file, and the record in it as parsed; None if it holds none."""
    name = place.name.lower()
    try:
        if name.endswith((".png", ".pdf")):
            return "plot", json.loads(plot_text(place) or "null")
        if not name.endswith((".json", ".json.gz")):
            return "", None
        content = json.loads(text(place)) if name.endswith(".gz") else read_json(place)
        if isinstance(content, dict) and "schema_version" in content:
            description = json.loads(str(content.get("description")))
            return "correction file", description.get("provenance") if isinstance(description, dict) else None
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror}; check the path") from error
    except (json.JSONDecodeError, RecursionError):  # keywords and descriptions of others
        return "", None
    holder = content[0] if isinstance(content, list) and content else content
    return "product", holder.get("provenance") if isinstance(holder, dict) else None


def _part_of_result(place: Path) -> Description | None:
    """Of a file in a RESULT: that it belongs there."""
    folder = next((one for one in place.resolve().parents[:_NESTED] if manifest_of(one) is not None), None)
    return None if folder is None else Description("part of a result", None, (identity(folder),))


def _listed_beside(place: Path) -> Description | None:
    """Of a file whose form has no room for a record."""
    path = place.with_name("provenance.json")
    content = read_json(path) if place.is_file() and path.is_file() else None
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or files.get(place.name) != identity(place).sha256:
        return None
    return description_of(path)


def _result(folder: Path, manifest: Mapping[str, Any]) -> Description:
    """Of a RESULT, whose record is its manifest."""
    configuration, command = manifest.get("configuration"), manifest.get("command")
    used = manifest.get("used")
    if used is None:  # nobody wrote the digests down
        used = [{"path": path} for path in named_in(configuration)]
    content = {
        "trila": manifest["trila"],
        "command": shlex.join(map(str, command)) if isinstance(command, list) and command else "run",
        "options": _changed(configuration) if isinstance(configuration, dict) else {},
        "code": manifest.get("code", ""),
        "packages": manifest.get("packages", {}),
        "inputs": used,
        "digest": digest(manifest),
    }
    made = _validated(_RECORD, content, folder / "manifest.json")
    files = _validated(_FILES, manifest.get("inputs", []), folder / "manifest.json")
    return Description("result", made, made.inputs, files=_summary(files))


def _changed(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the defaults, as `section.key`; what is long, by its digest."""
    from trila.analysis.config import RunConfig  # imports the processors, which takes long

    defaults = json.loads(RunConfig().model_dump_json())
    found: dict[str, Any] = {}
    for section, content in configuration.items():
        known = defaults.get(section)
        if isinstance(content, dict) and isinstance(known, dict):
            found |= {f"{section}.{key}": v for key, v in content.items() if v != known.get(key)}
        else:
            found[section] = content
    return {key: v if len(str(v)) <= _SHORT else f"digest {digest(v)}" for key, v in found.items()}


def _summary(files: list[_File]) -> Files:
    taken = [item for item in files if item.status != "skipped"]
    skipped = {item.file: item.reason for item in files if item.status == "skipped"}
    return Files(
        number=len(files),
        number_skipped=len(files) - len(taken),
        events=sum(item.processed for item in files),
        first=tuple(item.file for item in taken[:_FIRST]),
        skipped=dict(list(skipped.items())[:_SKIPPED]),
        places=dict(Counter(map(_place, taken))),
    )


def _place(item: _File) -> str:
    """Whether a ROOT file still has its size: to read them all would take as long as the run."""
    if "://" in item.file or item.size is None:
        return "not checked"
    try:
        return "same size" if Path(item.file).stat().st_size == item.size else "changed since"
    except (OSError, ValueError):  # also of a name that cannot be one
        return "not found"


def _validated(kind: TypeAdapter[Any], content: Any, place: Path) -> Any:
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        raise InputError(
            f"{place}: its record is none ({validation_message(error)}); make the file again"
        ) from error
