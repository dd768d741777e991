"""What a product was made from: the record that every JSON file, calibration and plot carries.

A record names the command, its options, the code and the packages that ran, and the files that went in, each with a digest
of its content. Which files went in is read off the options: every text among them that names a file or a RESULT is an
input. A new option is covered without another line, and the record cannot say less than what was asked for.

| input | its digest |
| --- | --- |
| a file | SHA-256 of its content |
| RESULT | `recipes.digest` of its manifest |

The digest of a record does not depend on where its inputs lie: in the options, paths stand for what they name. The same
command on the same content gives the same digest in another folder and on another machine.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python

from trila import __version__
from trila.analysis.fit_inputs import read_json
from trila.analysis.results import package_versions
from trila.processors.errors import InputError
from trila.processors.fingerprints import code_digest
from trila.processors.recipes import digest

__all__ = [
    "Input",
    "Name",
    "Provenance",
    "identity",
    "inputs_of",
    "manifest_of",
    "named_in",
    "on_rows",
    "record",
    "record_digest",
]

#: Characters and colons of a text that may name a file; an expression of the user's may have more.
_LONGEST, _MOST_COLONS = 4096, 8

Name = Annotated[str, Field(max_length=10_000)]


class Input(BaseModel):
    """Something that a product was made from.

    Attributes:
        path: as it was given.
        kind: a file, or a RESULT.
        sha256: of the file's content, or digest of RESULT's manifest; empty if nobody wrote it down.
        size: bytes of the file; None for RESULT.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: Name
    kind: Literal["file", "result"] = "file"
    sha256: Name = ""
    size: int | None = None


class Provenance(BaseModel):
    """How a product was made.

    Attributes:
        trila: version.
        command: name of the command, such as "fit".
        options: as asked for.
        code: digest of trila's sources; empty in files of versions that did not write it.
        packages: versions of Python and of the packages that results depend on.
        inputs: what went in.
        digest: of all that, see above.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    trila: Name
    command: Name
    options: dict[str, Any]
    code: Name = ""
    packages: dict[str, Name] = {}
    inputs: Annotated[tuple[Input, ...], Field(max_length=1000)] = ()
    digest: Name

    def as_json(self) -> dict[str, Any]:
        """For the key `provenance` of a product."""
        return self.model_dump(mode="json")

    def as_text(self) -> str:
        """In one line of ASCII, for files that hold texts alone."""
        return json.dumps(self.as_json(), sort_keys=True)


def record(command: str, options: Mapping[str, Any]) -> Provenance:
    """The record of something that is made now.

    Args:
        command: name of the command.
        options: whatever the product depends on, paths of its inputs included; not the place that it goes to.

    Raises:
        InputError: an input that cannot be read any more.

    >>> record("fit", {"function": "dijet4"}).inputs
    ()
    """
    plain = to_jsonable_python(dict(options))
    made = Provenance(
        trila=__version__, command=command, options=plain, code=code_digest(), packages=package_versions(),
        inputs=inputs_of(plain), digest="",
    )  # fmt: skip
    return made.model_copy(update={"digest": record_digest(made)})


def record_digest(made: Provenance) -> str:
    """The digest that a record should have."""
    contents = {item.path: item.sha256 for item in made.inputs}
    return digest(
        made.model_dump(mode="json", exclude={"options", "inputs", "digest"})
        | {
            "options": _addressed(made.options, contents),
            "inputs": [[item.kind, item.sha256] for item in made.inputs],
        }
    )


def on_rows(rows: Sequence[Mapping[str, Any]], made: Provenance) -> list[dict[str, Any]]:
    """Rows of a product that is a list, with the record: the first has all of it, the others its digest and its inputs."""
    whole = made.as_json()
    short = {name: whole[name] for name in ("digest", "inputs")}
    return [{**row, "provenance": short if number else whole} for number, row in enumerate(rows)]


def inputs_of(options: Any) -> tuple[Input, ...]:
    """The files and RESULTs that options name, with digests.

    Args:
        options: JSON-like.

    Raises:
        InputError: one that cannot be read.
    """
    return tuple(identity(Path(path)).model_copy(update={"path": path}) for path in named_in(options))


def named_in(options: Any) -> list[str]:
    """Paths of the files and RESULTs that options name: `FILE`, `FILE:NAME`, `KIND:FILE`, `RESULT:NAME[AXIS=BIN]`."""
    pieces = (piece for text in _texts(options) for piece in _pieces(text, _is_input))
    return list(dict.fromkeys(text for text, is_path in pieces if is_path))


def identity(path: Path) -> Input:
    """A file or RESULT with the digest of its content.

    Raises:
        InputError: it cannot be read, or is a folder without a manifest.
    """
    if path.is_dir():
        manifest = manifest_of(path)
        if manifest is None:
            raise InputError(f"{path} is a folder without a manifest; expected a RESULT of `trila run`")
        return Input(path=str(path), kind="result", sha256=digest(manifest))
    try:
        with path.open("rb") as file:
            return Input(
                path=str(path),
                sha256=hashlib.file_digest(file, "sha256").hexdigest(),
                size=path.stat().st_size,
            )
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check the path") from error


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """The manifest of a RESULT; None if a folder is none.

    Raises:
        InputError: a manifest that cannot be read.
    """
    path = folder / "manifest.json"
    content = read_json(path) if path.is_file() else None
    return content if isinstance(content, dict) and {"trila", "format_version"} <= content.keys() else None


def _is_input(text: str) -> bool:
    try:
        path = Path(text)
        return bool(text) and (path.is_file() or manifest_of(path) is not None)
    except (OSError, ValueError):  # text that is too long for a path, or has a zero byte
        return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)


def _pieces(text: str, is_path: Callable[[str], bool]) -> list[tuple[str, bool]]:
    """A text cut at its colons, and before a selection in brackets; what names a path stays whole, colons and all.

    >>> _pieces("swift:a/f.py:mine", {"a/f.py"}.__contains__)
    [('swift', False), ('a/f.py', True), ('mine', False)]
    """
    if len(text) > _LONGEST or text.count(":") > _MOST_COLONS:
        return [(text, False)]
    body, bracket, selection = (
        text.rpartition("[") if text.endswith("]") and not is_path(text) else (text, "", "")
    )
    parts = body.split(":")
    found = []
    first = 0
    while first < len(parts):
        ends = [end for end in range(len(parts), first, -1) if is_path(":".join(parts[first:end]))]
        last = ends[0] if ends else first + 1
        found.append((":".join(parts[first:last]), bool(ends)))
        first = last
    return [*found, (bracket + selection, False)] if bracket else found


def _addressed(value: Any, contents: Mapping[str, str]) -> Any:
    """Options with digests of contents in the place of paths."""
    if isinstance(value, str):
        pieces = _pieces(value, contents.__contains__)
        return [contents[piece] if is_path else piece for piece, is_path in pieces]
    if isinstance(value, Mapping):
        return {key: _addressed(item, contents) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_addressed(item, contents) for item in value]
    return value
