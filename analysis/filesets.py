"""What to run on: from the files, globs, lists and filesets of the command line to datasets.

A fileset, YAML or JSON:

```yaml
qcd_pt300:
  files: [/data/qcd/*.root, "root://server//path/file.root"]
  is_data: false
  cross_section: 110600.0      # pb; needed where several simulated samples are added up
  era: "2024"
```
"""

import glob
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from trila.processors.documents import read_yaml
from trila.processors.errors import InputError, nearest
from trila.processors.formats import validation_message
from trila.processors.readers import is_remote
from trila.processors.selection import Config

__all__ = ["Dataset", "datasets"]


class Dataset(Config):
    """Files that belong together.

    Attributes:
        files: paths, globs or URLs.
        is_data: as recognised from the columns, if not given.
        cross_section: pb, for simulation.
        era: for the record; as recognised from the branches, if not given.
        metadata: anything else that a processor of the user's wants to find in `events.metadata`.
    """

    files: tuple[str, ...] = Field(min_length=1)
    is_data: bool | None = None
    cross_section: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    era: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


def datasets(inputs: list[str]) -> dict[str, Dataset]:
    """Datasets by name; plain files make up one that is called "data".

    Args:
        inputs: ROOT files, globs, URLs, `.txt` lists, or one or more filesets (`.yaml`, `.json`).

    Raises:
        InputError: a glob without files, a list that cannot be read, a fileset of the wrong form, a name used twice.
    """
    found: dict[str, Dataset] = {}
    files: list[str] = []
    for item in inputs:
        if Path(item).suffix in {".yaml", ".yml", ".json"} and not is_remote(item):
            for name, dataset in _fileset(item).items():
                if name in found:
                    raise InputError(f"dataset '{name}' is in two filesets; give it another name in {item}")
                found[name] = dataset
        else:
            files += _expand(item)
    if files:
        if found:
            raise InputError(
                f"files ({files[0]}, ...) and a fileset were given together; put the files into the fileset"
            )
        found["data"] = Dataset(files=tuple(files))
    if not found:
        raise InputError("no input; give ROOT files, a glob, a .txt list, or a fileset (.yaml, .json)")
    return found


def _expand(item: str, folder: Path | None = None, *, inside: str = "") -> list[str]:
    """Files that an argument, or a line of the list `inside`, stands for; relative to `folder`."""
    if is_remote(item):
        return [item]
    path = str(folder / item) if folder is not None else item
    if Path(item).suffix == ".txt":
        if inside:
            raise InputError(f"file list {inside} names another list, {item}; name ROOT files")
        try:
            lines = Path(path).read_text().splitlines()
        except OSError as error:
            raise InputError(f"file list {path} cannot be read: {error.strerror}; check the path") from error
        except UnicodeDecodeError as error:
            raise InputError(f"file list {path} is not text; expected one path or URL a line") from error
        names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not names:
            raise InputError(f"file list {path} names no file; expected one path or URL a line")
        return [file for name in names for file in _expand(name, Path(path).parent, inside=path)]
    if any(c in item for c in "*?[") and not Path(path).exists():
        files = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
        if not files:
            near = Path(path).parent
            there = (
                nearest(Path(path).name, [entry.name for entry in near.iterdir()]) if near.is_dir() else []
            )
            raise InputError(
                f"no file matches {path}; {f'nearest: {there[0]}' if there else 'check the folder'}"
            )
        return files
    return [path]


def _fileset(path: str) -> dict[str, Dataset]:
    content = read_yaml(path, "fileset")  # JSON is YAML
    if not isinstance(content, dict) or not content:
        raise InputError(f"fileset {path} holds no datasets; expected 'name: {{files: [...]}}'")
    found = {}
    for name, item in content.items():
        value = {"files": item} if isinstance(item, list) else item
        if not isinstance(name, str) or "/" in name or name.startswith("."):
            raise InputError(
                f"fileset {path}: dataset name {name!r} cannot name a folder; use letters, digits and _"
            )
        try:
            dataset = Dataset.model_validate(value)
        except ValidationError as error:
            raise InputError(f"fileset {path}, dataset '{name}': {validation_message(error)}") from error
        folder = Path(path).parent
        files = tuple(file for given in dataset.files for file in _expand(given, folder))
        found[name] = dataset.model_copy(update={"files": files})
    return found
