"""What a run was asked to do, as it is kept in the ledger: updates and retractions go on from there."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from trila.analysis.config import RunConfig
from trila.analysis.filesets import Dataset, datasets, names_a_folder
from trila.analysis.ledger import Ledger
from trila.corrections.lumi import LumiMask
from trila.processors.errors import InputError, nearest
from trila.processors.formats import validation_message
from trila.processors.readers import is_remote
from trila.processors.selection import Config

__all__ = ["Request", "configurations", "earlier", "remember", "retract", "updated"]

_SETTING = "request"
_BLOCKS = re.compile(r"(\d+)(?::(\d+)(?:-(\d+))?)?")
_LAST = 2**32 - 1


def _named_as_folders(fileset: dict[str, Dataset]) -> dict[str, Dataset]:
    """Tables of pairs are written to folders of these names: a ledger may be anybody's."""
    for name in fileset:
        if not names_a_folder(name):
            raise ValueError(f"dataset {name[:60]!r} cannot name a folder")
    return fileset


class Request(Config):
    """What a run is to do.

    Attributes:
        processors: names, or `module:Class`.
        inputs: files, globs, lists and filesets, as given.
        folder: where they were given: relative paths begin there.
        fileset: datasets with their files.
        config: the configuration.
        format: of the files; detected, if None.
        max_events: of each dataset.
        pairs: whether `response` writes its table of pairs.
        options: of the command line that say the same, to repeat a part of it.
        retracted_files: that are not to be used.
        retracted_blocks: luminosity blocks of data whose events are taken as not there.
    """

    processors: tuple[str, ...]
    inputs: tuple[str, ...]
    folder: str
    fileset: Annotated[dict[str, Dataset], AfterValidator(_named_as_folders)]
    config: RunConfig
    format: str | None = None
    max_events: int | None = None
    pairs: bool = True
    options: tuple[str, ...] = ()
    retracted_files: tuple[str, ...] = ()
    retracted_blocks: LumiMask = Field(default_factory=dict)


def earlier(ledger: Ledger) -> Request | None:
    """What the last run was asked to do; None before the first.

    Raises:
        InputError: it cannot be read.
    """
    content = ledger.setting(_SETTING)
    if content is None:
        return None
    try:
        return Request.model_validate(content)
    except ValidationError as error:
        raise InputError(
            f"{ledger.path}: {validation_message(error)}; run again from the beginning"
        ) from error


def remember(ledger: Ledger, request: Request) -> None:
    """Keep it for those that come."""
    ledger.put(_SETTING, json.loads(request.model_dump_json(exclude_unset=True)))


def updated(request: Request, files: Sequence[str]) -> Request:
    """The same with more files: those given, and those that the earlier inputs stand for by now.

    Files that were removed since stay in: what they gave is kept.
    """
    request = _from_here(request)
    inputs = tuple(dict.fromkeys([*request.inputs, *files]))
    fileset = dict(request.fileset)
    if files:  # of those that are new, each glob has to stand for something
        asked = {
            _absolute(file): file for dataset in datasets(list(files)).values() for file in dataset.files
        }
        for name in request.retracted_files:
            if _absolute(name) in asked:
                raise InputError(
                    f"{asked[_absolute(name)]} was retracted; a run over all files, without --update, takes it in again"
                )
    for name, dataset in datasets(list(inputs), empty=True).items():
        known = fileset.get(name)
        if known is None:
            fileset |= {name: dataset} if dataset.files else {}
            continue
        out = {_absolute(file) for file in (*request.retracted_files, *known.files)}
        more = tuple(file for file in dict.fromkeys(dataset.files) if _absolute(file) not in out)
        fileset[name] = dataset.model_copy(
            update={"files": known.files + more, "replicas": {**known.replicas, **dataset.replicas}}
        )
    return request.model_copy(update={"inputs": inputs, "fileset": fileset})


def _from_here(request: Request) -> Request:
    """The same as seen from the present folder: relative paths of another one become absolute."""
    here = str(Path.cwd())
    if request.folder == here:
        return request

    def seen(item: str) -> str:
        return item if is_remote(item) else str(Path(request.folder) / item)

    def all_seen(items: Iterable[str]) -> tuple[str, ...]:
        return tuple(seen(item) for item in items)

    fileset = {
        name: dataset.model_copy(
            update={
                "files": all_seen(dataset.files),
                "replicas": {seen(file): all_seen(urls) for file, urls in dataset.replicas.items()},
            }
        )
        for name, dataset in request.fileset.items()
    }
    return request.model_copy(
        update={
            "folder": here,
            "config": RunConfig.model_validate(
                _with_files(request.config.model_dump(mode="json", exclude_unset=True), Path(request.folder))
            ),
            "format": _with_files(request.format, Path(request.folder)),
            "inputs": all_seen(request.inputs),
            "fileset": fileset,
            "retracted_files": all_seen(request.retracted_files),
        }
    )


def _with_files(content: Any, folder: Path) -> Any:
    """JSON-like content in which relative names of files and folders that there are become absolute."""
    if isinstance(content, dict):
        return {key: _with_files(value, folder) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_files(value, folder) for value in content]
    if isinstance(content, str) and content and len(content) < 4096 and "\0" not in content:
        place = folder / content
        with suppress(OSError):  # too long a name
            return str(place) if place.is_file() or (os.sep in content and place.is_dir()) else content
    return content


def _absolute(file: str) -> str:
    """One spelling of a file's name."""
    return file if is_remote(file) else os.path.normpath(Path.cwd() / file)


def retract(request: Request, items: Sequence[str]) -> Request:
    """The same without some files, or without the events of some luminosity blocks.

    Args:
        request: what was asked.
        items: files as they are in the fileset, `RUN`, `RUN:LB` or `RUN:FIRST-LAST`.

    Raises:
        InputError: a file that is not in the fileset, the last file of a dataset, or a range that is none.
    """
    request = _from_here(request)
    fileset, gone, blocks = (
        dict(request.fileset),
        list(request.retracted_files),
        dict(request.retracted_blocks),
    )
    for item in items:
        match = _BLOCKS.fullmatch(item)
        if match:
            run, first, last = match.groups()
            low = int(first) if first else 0
            high = int(last) if last else low if first else _LAST
            if not low <= high <= _LAST:
                raise InputError(
                    f"--retract {item}: {low} to {high} is no range of luminosity blocks; expected RUN:FIRST-LAST"
                )
            key = str(int(run))
            blocks[key] = tuple(dict.fromkeys([*blocks.get(key, ()), (low, high)]))
            continue
        if _absolute(item) in map(_absolute, gone):
            continue
        name, file = _holder(fileset, item)
        dataset = fileset[name]
        left = tuple(other for other in dataset.files if other != file)
        if not left:
            raise InputError(
                f"--retract {item}: it is the only file of dataset '{name}'; run again without the dataset"
            )
        fileset[name] = dataset.model_copy(update={"files": left})
        gone.append(file)
    return request.model_copy(
        update={"fileset": fileset, "retracted_files": tuple(dict.fromkeys(gone)), "retracted_blocks": blocks}
    )


def _holder(fileset: dict[str, Dataset], item: str) -> tuple[str, str]:
    """Dataset and name of a file, given as it was or by its absolute path."""
    for name, dataset in fileset.items():
        for file in dataset.files:
            if _absolute(file) == _absolute(item):
                return name, file
    close = nearest(item, [file for dataset in fileset.values() for file in dataset.files])
    hint = f"did you mean {close[0]}?" if close else "manifest.json lists them"
    raise InputError(f"--retract {item}: no such file in the result; {hint}")


def configurations(request: Request) -> tuple[Any, ...]:
    """What each processor is configured with, JSON-like."""
    whole = json.loads(request.config.model_dump_json())
    own = [whole.get(name, whole["processors"].get(name, {})) for name in request.processors]
    return tuple({"own": one, "events": whole["events"]} for one in own)
