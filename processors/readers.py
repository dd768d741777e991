"""Open input files: check them, say what they hold, deliver chunks of canonical events.

`inspect` does all checks that can be made without reading events; `read` gives the events of one range of entries,
lazily; `readable` tells an unreadable file from an error of the code after something went wrong.
"""

import errno
import fnmatch
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot
from coffea.nanoevents import NanoEventsFactory
from coffea.nanoevents.mapping import TrivialUprootOpener
from coffea.nanoevents.util import tuple_to_key
from numpy.typing import NDArray

from trila.processors import formats
from trila.processors.baskets import BranchMapping
from trila.processors.branch_sizes import uncompressed_bytes
from trila.processors.columns import TRIGGERS
from trila.processors.documents import exists
from trila.processors.errors import BadFile, InputError, nearest
from trila.processors.formats import Format
from trila.processors.local_files import LocalFile
from trila.processors.schema import BranchType, canonical_schema, resolve

__all__ = ["FileInfo", "Layout", "inspect", "is_remote", "read", "readable"]

#: Numbers of system errors that a file system gives on a bad day.
_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EREMOTEIO,
    errno.ENOMEM,
    errno.EMFILE,
}
_TREES = ("TTree", "ROOT::RNTuple")


class Layout(NamedTuple):
    """How a file's branches make canonical columns; files of one production share it.

    Attributes:
        table: the format.
        era: as recognised from the branches; may be empty.
        columns: canonical column to the branches that it is made of.
        sources: collection to the branch prefix taken.
    """

    table: Format
    era: str
    columns: dict[str, tuple[str, ...]]
    sources: dict[str, str]

    def restricted(self, columns: Iterable[str]) -> "Layout":
        """The layout with these columns alone."""
        return self._replace(columns={name: self.columns[name] for name in sorted(columns)})


class FileInfo(NamedTuple):
    """What is known of an input file without reading its events.

    Attributes:
        file: path or URL.
        tree: name of the TTree or RNTuple.
        uuid: the file's own identifier.
        size: bytes.
        entries: events.
        clusters: entry numbers at which the tree's columns can be cut without reading a basket twice.
        layout: how the branches make canonical columns.
        branches: all of them.
        sizes: bytes of the branches that the layout's columns are made of, when decompressed, in the order of the
            branches' names; trigger decisions, of which there are thousands, are left out.
    """

    file: str
    tree: str
    uuid: str
    size: int
    entries: int
    clusters: tuple[int, ...]
    layout: Layout
    branches: tuple[str, ...]
    sizes: tuple[int, ...] = ()

    @property
    def branch_sizes(self) -> dict[str, int]:
        """The sizes by branch; empty where they are not known."""
        return dict(zip(_sized(self.layout.columns), self.sizes, strict=True)) if self.sizes else {}


def _sized(columns: dict[str, tuple[str, ...]]) -> list[str]:
    """Branches of all columns but trigger decisions."""
    made_of = (branches for name, branches in columns.items() if not name.startswith(f"{TRIGGERS}."))
    return sorted({branch for branches in made_of for branch in branches})


def is_remote(file: str) -> bool:
    """Whether a file is a URL such as `root://...` or `https://...`."""
    return "://" in file


def _check_local(file: str) -> None:
    """A file that is cut short often opens well and fails only at some basket: compare its end with its header."""
    path = Path(file)
    if not exists(path):
        folder = path.parent if exists(path.parent) and path.parent.is_dir() else None
        close = nearest(path.name, [entry.name for entry in folder.iterdir()]) if folder else []
        hint = f"did you mean {close[0]}?" if close else "check the path"
        raise BadFile(file, f"no such file; {hint}")
    if path.is_dir():
        raise BadFile(file, "is a folder; give files, or a glob such as folder/*.root")
    if not path.is_file():
        raise BadFile(file, "is a device or a pipe; copy what comes out of it to a file")
    size = path.stat().st_size
    if size == 0:
        raise BadFile(file, "is empty (0 bytes); copy it again")
    with path.open("rb") as stream:
        header = stream.read(20)
    if header[:4] == b"root" and len(header) < 20:
        raise BadFile(file, f"is truncated: {size} bytes, less than the header of a ROOT file; copy it again")
    if header[:4] != b"root":
        raise BadFile(file, f"is not a ROOT file (it begins with {header[:4]!r}, expected b'root')")
    large = struct.unpack(">i", header[4:8])[0] >= 1_000_000
    end = struct.unpack(">q", header[12:20])[0] if large else struct.unpack(">i", header[12:16])[0]
    if size < end:
        raise BadFile(file, f"is truncated: {size} bytes, but its header says {end}; copy it again")


class _Open(NamedTuple):
    key: tuple[str, int, int]
    directory: Any


_last_opened: list[_Open] = []  # parsing a tree of 2000 branches takes a second: chunks of one file share it


def _open(file: str) -> Any:
    if is_remote(file):
        key = (file, 0, 0)
    else:
        _check_local(file)
        status = Path(file).stat()
        key = (file, status.st_size, status.st_mtime_ns)
    if _last_opened and _last_opened[0].key == key:
        return _last_opened[0].directory
    try:
        options = {} if is_remote(file) else {"handler": LocalFile}
        directory = uproot.open({file: None}, **options)
    except Exception as error:  # uproot and its sources raise many kinds
        remedy = ""
        if isinstance(error, ImportError) and file.startswith("root://"):
            remedy = " (pip install 'trila[xrootd]')"
        raise BadFile(
            file, f"cannot be opened: {_one_line(error)}{remedy}", _may_pass(file, error)
        ) from error
    _last_opened[:] = [_Open(key, directory)]  # the one before is closed once no events refer to it
    return directory


def _may_pass(file: str, error: Exception) -> bool:
    """Whether an error of reading says more about the network or the file system than about the file."""
    if isinstance(error, (FileNotFoundError, ImportError)):
        return False
    return is_remote(file) or isinstance(error, TimeoutError) or getattr(error, "errno", None) in _PASSING


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _tree_name(directory: Any, file: str, wanted: str | None) -> str:
    trees = [name for name, kind in directory.classnames(cycle=False).items() if kind in _TREES]
    candidates = (
        [wanted] if wanted else list(dict.fromkeys(formats.load(name).tree for name in formats.BUILT_IN))
    )
    for name in candidates:
        if name in trees:
            return name
    expected = " or ".join(f"'{name}'" for name in candidates)
    raise BadFile(file, f"has no tree {expected}; it has {', '.join(map(repr, trees)) or 'no tree at all'}")


def _branch_type(branch: Any) -> BranchType | None:
    """The numbers in a branch, flat or jagged once; None for anything else."""
    if isinstance(branch, uproot.behaviors.RNTuple.HasFields):
        form = branch.to_akform()[0].contents[0]
    else:
        try:
            form = branch.interpretation.awkward_form(None)
        except (uproot.interpretation.objects.CannotBeAwkward, NotImplementedError):
            return None
    jagged = bool(form.is_list and form.purelist_depth == 2)
    form = form.content if jagged else form
    primitive = getattr(form, "primitive", None)
    return BranchType(str(primitive), jagged) if primitive is not None and form.inner_shape == () else None


def _wanted_types(tree: Any, table: Format) -> dict[str, BranchType]:
    """Types of the branches that the format names; those of thousands of trigger bits would take seconds to read."""
    names = set(tree.keys())
    bits = {name for pattern in table.triggers for name in fnmatch.filter(names, pattern)}
    types = {name: BranchType("bool", False) for name in bits}
    for name in table.mentioned(names) - bits:
        kind = _branch_type(tree[name])
        if kind is not None:
            types[name] = kind
    return types


def inspect(file: str, table: Format | None = None, sources: dict[str, str] | None = None) -> FileInfo:
    """Check a file and say what it holds.

    Args:
        file: path or URL.
        table: its format; detected, if not given.
        sources: branch prefixes to take for some collections instead of the format's own choice.

    Raises:
        BadFile: missing, empty, truncated, not ROOT, without the tree, or of no known format.
    """
    directory = _open(file)
    if not is_remote(file):
        size = Path(file).stat().st_size
    else:
        size = int(directory.file.source.num_bytes or 0)
        if size and size < directory.file.fEND:
            raise BadFile(file, f"is truncated: {size} bytes, but its header says {directory.file.fEND}")
    try:
        name = _tree_name(directory, file, table.tree if table else None)
    except InputError:
        raise
    except Exception as error:
        raise BadFile(file, f"its contents cannot be listed: {_one_line(error)}; copy it again") from error
    try:
        tree = directory[name]
        entries = int(tree.num_entries)
        if entries < 0:
            raise BadFile(file, f"its tree '{name}' has {entries} entries; copy it again")
        branches = tree.keys()
        if table is None:
            table = formats.detect(branches)
        if table is None:
            some = ", ".join(branches[:5])
            raise BadFile(
                file,
                f"is of no known format ({', '.join(formats.BUILT_IN)}); its branches begin with {some}. "
                "Describe it in a YAML file and give that with --format",
            )
        if sources:
            table = table.with_sources(sources)
        resolved = resolve(table, _wanted_types(tree, table))
        clusters: tuple[int, ...] = (0,)
        if not isinstance(tree, uproot.behaviors.RNTuple.HasFields) and resolved.branches:
            leading = resolved.branches.get("hlt_jets.pt") or next(iter(resolved.branches.values()))
            clusters = tuple(int(n) for n in tree[leading[-1]].entry_offsets)
        sizes = uncompressed_bytes(tree, _sized(resolved.branches))
    except InputError:
        raise
    except Exception as error:
        raise BadFile(
            file, f"its tree '{name}' cannot be read: {_one_line(error)}", _may_pass(file, error)
        ) from error
    layout = Layout(table, table.era(set(branches)), resolved.branches, resolved.sources)
    uuid = str(directory.file.uuid)
    return FileInfo(file, name, uuid, size, entries, clusters, layout, tuple(branches), sizes)


def read(
    file: str,
    tree: str,
    uuid: str,
    layout: Layout,
    start: int,
    stop: int,
    metadata: dict[str, Any],
    log: list[Any],
) -> Any:
    """Canonical events of the entries `start` to `stop`, lazily.

    Args:
        file, tree, uuid: as `inspect` found them.
        layout: with the columns that may be touched.
        start, stop: entries.
        metadata: given on as `events.metadata`.
        log: gets an entry with the attribute `branch` for each branch that is read.

    Raises:
        BadFile: the file cannot be opened, or is not the one that was inspected.
    """
    directory = _open(file)
    if str(directory.file.uuid) != uuid:
        raise BadFile(
            file, f"was replaced while the run was going on (uuid {directory.file.uuid}, not {uuid})"
        )
    # what NanoEventsFactory.from_root does, with a mapping of our own
    source = directory[tree]
    mapping = BranchMapping(
        TrivialUprootOpener({uuid: file}), start, stop, cache={}, access_log=log, file_handle=directory, virtual=True,
        buffer_cache={},  # a column is read once, however many processors use it
    )  # fmt: skip
    key = (uuid, source.object_path, f"{start}-{stop}")
    mapping.preload_column_source(*key[:2], source)
    wanted = frozenset(_branches(layout)).__contains__  # a list would be tried name by name for each branch
    form = BranchMapping._extract_base_form(source, iteritems_options={"filter_name": wanted})
    form["parameters"]["metadata"] = {
        **metadata, "filename": file, "entrystart": start, "entrystop": stop, "fileuuid": uuid,
        "format": layout.table.name, "era": layout.era, "products": layout.table.products,
    }  # fmt: skip
    schema = canonical_schema(layout.table)(form)
    return NanoEventsFactory(schema, mapping, tuple_to_key(key), mode="virtual").events()


def _branches(layout: Layout) -> list[str]:
    return sorted({branch for branches in layout.columns.values() for branch in branches})


def readable(file: str, tree: str, layout: Layout, start: int, stop: int) -> None:
    """Read the columns once more, plainly: after an error, tells a damaged file from a fault of the code.

    Raises:
        BadFile: a branch cannot be read, or holds another number of objects than its collection; names it.
    """
    directory = _open(file)
    counts: dict[str, NDArray[np.int64] | None] = {}
    for branch in _branches(layout):
        try:
            counts[branch] = _counts(directory[tree][branch].array(entry_start=start, entry_stop=stop))
        except Exception as error:
            raise BadFile(
                file,
                f"branch {branch} cannot be read in entries {start} to {stop}: {_one_line(error)}; copy it again",
                _may_pass(file, error),
            ) from error
    for column, (counter, *others) in layout.columns.items():
        own = f"{layout.sources.get(column.split('.')[0])}_"  # lists of indices belong to no collection
        for branch in [name for name in others if name.startswith(own)]:
            expected, found = counts[counter], counts[branch]
            if expected is not None and found is not None and not np.array_equal(expected, found):
                raise BadFile(
                    file,
                    f"branches {counter} and {branch} disagree on the number of objects in entries {start} to {stop}; "
                    "copy it again",
                )


def _counts(array: Any) -> NDArray[np.int64] | None:
    """Objects per event of a jagged branch, or what a branch of counts says; None for other columns."""
    if array.ndim == 2:
        return np.asarray(ak.to_numpy(ak.num(array, axis=1)), dtype=np.int64)
    values = np.asarray(ak.to_numpy(array))
    return values.astype(np.int64) if values.dtype.kind in "iu" else None
