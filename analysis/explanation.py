"""What made a file, and what made that: the tree behind `trila explain`.

A file is asked for its record (`described.py`), the record for its inputs, and these for theirs, as long as they are what
they were: of an input whose content changed since, its record says nothing about the product any more.

| status of an input | |
| --- | --- |
| same | its digest is that of the record |
| changed since | it is there, with another content |
| not found | neither where the record says, nor beside what was made from it |
| not checked | nobody wrote its digest down, or it cannot be read |
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from trila.analysis.described import Description, Files, description_of
from trila.analysis.provenance import Input, Provenance, identity
from trila.analysis.results import package_versions
from trila.processors.errors import InputError
from trila.processors.fingerprints import code_digest

__all__ = ["Explanation", "Status", "explain"]

Status = Literal["asked for", "same", "changed since", "not found", "not checked"]

#: Products made from each other in a row, and all that one product was made from.
_DEEPEST, _MOST = 20, 1000


class Explanation(BaseModel):
    """A file, and what it was made from.

    Attributes:
        path: as given, or as the record has it.
        kind: "result", "part of a result", "product", "plot", "correction file", or "file", which says nothing of itself.
        status: whether it is still what it was.
        found: where it lies, if not at `path`.
        record: how it was made; None for what says nothing, and for a part of a RESULT.
        intact: whether the record has the digest that it should have; None without a digest of its own.
        same_code: whether the code is the one installed here; None if the record does not say.
        packages: those of another version than here: name to the version then and now, None for not installed.
        files: of a RESULT.
        made_from: its inputs.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    kind: str
    status: Status
    found: str | None = None
    record: Provenance | None = None
    intact: bool | None = None
    same_code: bool | None = None
    packages: dict[str, tuple[str, str | None]] = {}
    files: Files | None = None
    made_from: tuple["Explanation", ...] = ()


def explain(path: str | Path) -> Explanation:
    """The tree of what made a product, a plot, a correction file, a RESULT, or a file in one.

    Raises:
        InputError: no such file, one that does not say how it was made, a record that is none, or one that cannot be true:
            a product that was made from itself, or from more than 20 in a row.
        CorrectionError: a correction file that cannot be read.
    """
    place = Path(path)
    if not _exists(place):
        raise InputError(f"{path}: no such file; check the path")
    said = description_of(place)
    if said is None:
        raise InputError(
            f"{path} does not say how it was made; expected a RESULT or a file in one, or a .json, .json.gz, .png or .pdf "
            "that trila wrote with its provenance: make it again"
        )
    return _node(said, str(path), place, "asked for", (), iter(range(_MOST)))


def _node(
    said: Description, path: str, place: Path, status: Status, above: tuple[Path, ...], left: Iterator[int]
) -> Explanation:
    """A file with a record, and all below it; `left` ends where there are too many."""
    here = place.resolve()
    if here in above:
        raise InputError(
            f"{path} was made from itself, says its record; expected inputs that were there before: make it again"
        )
    if len(above) > _DEEPEST:
        raise InputError(
            f"{above[0]} was made in more than {_DEEPEST} steps, say the records; expected fewer: are they damaged?"
        )
    code, packages = (said.record.code, said.record.packages) if said.record is not None else ("", {})
    installed = package_versions()
    return Explanation(
        path=path,
        kind=said.kind,
        status=status,
        found=None if Path(path) == place else str(place),
        record=said.record,
        intact=said.intact,
        same_code=code == code_digest() if code else None,
        packages={
            name: (then, installed.get(name))
            for name, then in sorted(packages.items())
            if then != installed.get(name)
        },
        files=said.files,
        made_from=tuple(_input(item, place.parent, (*above, here), left) for item in said.inputs),
    )


def _input(item: Input, beside: Path, above: tuple[Path, ...], left: Iterator[int]) -> Explanation:
    if next(left, None) is None:
        raise InputError(
            f"{above[0]} was made from more than {_MOST} files, say the records; expected fewer: are they damaged?"
        )
    place, status = _found(item, beside)
    said = None
    if place is not None and status != "changed since":
        try:
            said = description_of(place)
        except ValueError:  # the content of an input may be anything
            said = None
    if said is not None and place is not None:
        return _node(said, item.path, place, status, above, left)
    found = None if place in (None, Path(item.path)) else str(place)
    return Explanation(path=item.path, kind=item.kind, status=status, found=found)


def _found(item: Input, beside: Path) -> tuple[Path | None, Status]:
    """Where an input lies, and whether it is what it was.

    Paths are of the working directory of then, which may be another now; or all was moved together.
    """
    places = [p for p in dict.fromkeys((Path(item.path), beside / item.path)) if _is_there(p, item.kind)]
    if not item.sha256:
        return (places[0], "not checked") if places else (None, "not found")
    for place in places:
        try:
            # no use in reading a file of another size
            if item.size in (None, place.stat().st_size) and identity(place).sha256 == item.sha256:
                return place, "same"
        except (OSError, InputError):
            return place, "not checked"
    return (places[0], "changed since") if places else (None, "not found")


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # text that is too long for a path
        return False


def _is_there(place: Path, kind: str) -> bool:
    return _exists(place) and ((place / "manifest.json").is_file() if kind == "result" else place.is_file())
