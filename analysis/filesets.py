"""What to run on: from the files, globs, lists and filesets of the command line to datasets.

A fileset, YAML or JSON:

```yaml
qcd_pt300:
  files:
    - /data/qcd/*.root
    - "root://server//path/file.root"
    - ["root://near//store/file.root", "root://far//store/file.root"]    # the same file at two places
  is_data: false
  cross_section: 110600.0      # pb; needed where several simulated samples are added up
  era: "2024"
```
"""

import glob
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from trila.processors.documents import exists, read_bytes, read_yaml
from trila.processors.errors import InputError, nearest
from trila.processors.formats import validation_message
from trila.processors.readers import is_remote
from trila.processors.selection import Config

__all__ = ["Dataset", "datasets", "names_a_folder"]


#: Bytes of a list: some hundred thousand paths.
_LARGEST_LIST = 50_000_000
#: Characters of a name; file systems allow 255.
_LONGEST_NAME = 200


class Dataset(Config):
    """Files that belong together.

    Attributes:
        files: paths, globs or URLs; a list is of places where the same file is, the preferred one first.
        replicas: file to all places where it is, if there are several; made from `files`.
        is_data: as recognised from the columns, if not given.
        cross_section: pb, for simulation.
        era: for the record; as recognised from the branches, if not given.
        metadata: anything else that a processor of the user's wants to find in `events.metadata`.
    """

    files: tuple[str, ...] = Field(min_length=1)
    replicas: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    is_data: bool | None = None
    cross_section: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    era: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _split_replicas(cls, content: Any) -> Any:
        """Take lists of places out of `files`."""
        files = content.get("files") if isinstance(content, dict) else None
        if not isinstance(files, (list, tuple)) or not any(isinstance(item, (list, tuple)) for item in files):
            return content
        if not all(item if isinstance(item, (list, tuple)) else True for item in files):
            raise ValueError("files holds an empty list of replicas; expected one or more places of a file")
        replicas = {
            item[0]: tuple(item) for item in files if isinstance(item, (list, tuple)) and len(item) > 1
        }
        return {
            **content,
            "files": [i[0] if isinstance(i, (list, tuple)) else i for i in files],
            "replicas": replicas,
        }


def datasets(inputs: list[str], *, empty: bool = False) -> dict[str, Dataset]:
    """Datasets by name; plain files make up one that is called "data".

    Args:
        inputs: ROOT files, globs, URLs, `.txt` lists, or one or more filesets (`.yaml`, `.json`).
        empty: whether a glob may stand for no file, as its files may be gone by now, or not there yet.

    Raises:
        InputError: a glob without files, a list that cannot be read, a fileset of the wrong form, a name used twice.
    """
    found: dict[str, Dataset] = {}
    files: list[str] = []
    for item in inputs:
        if Path(item).suffix in {".yaml", ".yml", ".json"} and not is_remote(item):
            for name, dataset in _fileset(item, empty).items():
                if name in found:
                    raise InputError(f"dataset '{name}' is in two filesets; give it another name in {item}")
                found[name] = dataset
        else:
            files += _expand(item, empty=empty)
    if files:
        if found:
            raise InputError(
                f"files ({files[0]}, ...) and a fileset were given together; put the files into the fileset"
            )
        found["data"] = Dataset(files=tuple(files))
    if not found and not empty:
        raise InputError("no input; give ROOT files, a glob, a .txt list, or a fileset (.yaml, .json)")
    return found


def _expand(item: str, folder: Path | None = None, *, inside: str = "", empty: bool = False) -> list[str]:
    """Files that an argument, or a line of the list `inside`, stands for; relative to `folder`."""
    if is_remote(item):
        return [item]
    path = str(folder / item) if folder is not None else item
    if Path(item).suffix == ".txt":
        if inside:
            raise InputError(f"file list {inside} names another list, {item}; name ROOT files")
        try:
            lines = read_bytes(path, "file list", _LARGEST_LIST).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"file list {path} is not text; expected one path or URL a line") from error
        names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not names:
            raise InputError(f"file list {path} names no file; expected one path or URL a line")
        return [file for name in names for file in _expand(name, Path(path).parent, inside=path, empty=empty)]
    if any(c in item for c in "*?[") and not exists(path):
        files = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
        if not files and not empty:
            near = Path(path).parent
            there = (
                nearest(Path(path).name, [entry.name for entry in near.iterdir()])
                if exists(near) and near.is_dir()
                else []
            )
            raise InputError(
                f"no file matches {path}; {f'nearest: {there[0]}' if there else 'check the folder'}"
            )
        return files
    return [path]


def names_a_folder(name: str) -> bool:
    """Whether a folder of a result can have a name."""
    return (
        0 < len(name.encode(errors="replace")) <= _LONGEST_NAME
        and name.isprintable()
        and not name.startswith(".")
        and not {"/", "\\"} & set(name)
    )


def _fileset(path: str, empty: bool) -> dict[str, Dataset]:
    content = read_yaml(path, "fileset")  # JSON is YAML
    if not isinstance(content, dict) or not content:
        raise InputError(f"fileset {path} holds no datasets; expected 'name: {{files: [...]}}'")
    found = {}
    for name, item in content.items():
        value = {"files": item} if isinstance(item, list) else item
        if not isinstance(name, str) or not names_a_folder(name):
            raise InputError(
                f"fileset {path}: dataset name {name!r:.60} cannot name a folder; use letters, digits and _"
            )
        try:
            dataset = Dataset.model_validate(value)
        except ValidationError as error:
            raise InputError(f"fileset {path}, dataset '{name}': {validation_message(error)}") from error
        folder = Path(path).parent
        files = tuple(file for given in dataset.files for file in _expand(given, folder, empty=empty))
        replicas = {
            _one(given, folder): tuple(_one(place, folder) for place in places)
            for given, places in dataset.replicas.items()
        }
        found[name] = dataset.model_copy(update={"files": files, "replicas": replicas})
    return found


def _one(place: str, folder: Path) -> str:
    """The single file that one of several places stands for."""
    found = _expand(place, folder)
    if len(found) != 1:
        raise InputError(f"replica {place} stands for {len(found)} files; name one")
    return found[0]
