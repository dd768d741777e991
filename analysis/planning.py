"""Plan a run: check every file before the first event is read, and cut the files into chunks."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from trila.analysis.filesets import Dataset
from trila.processors import readers
from trila.processors.base import used_columns
from trila.processors.errors import BadFile, InputError, MissingColumn, UnknownName, nearest
from trila.processors.formats import Format
from trila.processors.partial import Chunk
from trila.processors.readers import FileInfo, Layout
from trila.processors.run import cut

__all__ = ["Input", "Plan", "plan"]


class Input(NamedTuple):
    """One input file in the plan.

    Attributes:
        file, dataset: as given.
        info: what is known of it; None if it is left out.
        entries: events to process.
        reason: why it is left out; empty if it is not.
    """

    file: str
    dataset: str
    info: FileInfo | None
    entries: int
    reason: str


class Plan(NamedTuple):
    """What a run will do.

    Attributes:
        inputs: every file that was given.
        chunks: of the good ones.
        layouts: that the chunks refer to.
        metadata: dataset to what processors find in `events.metadata`.
        missing: optional columns that processors could have used.
    """

    inputs: list[Input]
    chunks: list[Chunk]
    layouts: tuple[Layout, ...]
    metadata: dict[str, dict[str, Any]]
    missing: list[str]


def plan(
    datasets: dict[str, Dataset], processors: Iterable[Any], *, table: Format | None, sources: dict[str, str],
    chunk_size: int, max_events: int | None, skip_bad_files: bool, progress: Callable[[int], None],
) -> Plan:  # fmt: skip
    """Inspect all files and cut them into chunks.

    Args:
        datasets: what to run on.
        processors: they say which columns they need.
        table: the format; detected for each file, if not given.
        sources: branch prefixes to take for some collections.
        chunk_size: events a chunk at most.
        max_events: of each dataset, in the order of its files.
        skip_bad_files: leave out files that cannot be used.
        progress: called with 1 after each file.

    Raises:
        InputError: files that cannot be used, unless they are to be skipped; or none that can.
    """
    processors = list(processors)
    bad: dict[str, BadFile] = {}
    infos: dict[str, list[tuple[str, FileInfo, frozenset[str]]]] = {}
    seen: dict[str, str] = {}
    missing: set[str] = set()
    for name, dataset in datasets.items():
        infos[name] = []
        for file in dataset.files:
            try:
                info = readers.inspect(file, table, sources)
                if info.uuid in seen:
                    raise BadFile(
                        file, f"is the same file as {seen[info.uuid]} (uuid {info.uuid}); list it once"
                    )
                used, lacking = _needs(processors, info)
                seen[info.uuid] = file
                infos[name].append((file, info, used))
                missing |= lacking
            except BadFile as error:
                bad[file] = error
            progress(1)
        odd = {error.file: error for error in _odd_ones(name, dataset, infos[name])}
        bad |= odd
        infos[name] = [item for item in infos[name] if item[0] not in odd]
    if bad and not skip_bad_files:
        raise _complaint(list(bad.values()), sum(len(d.files) for d in datasets.values()))
    if not any(infos.values()):
        raise _complaint(list(bad.values()), len(bad))

    inputs, chunks, layouts = [], [], list[Layout]()
    for name, dataset in datasets.items():
        left = max_events if max_events is not None else sum(info.entries for _, info, _ in infos[name])
        good = {file: (info, used) for file, info, used in infos[name]}
        for file in dict.fromkeys(dataset.files):
            if file not in good:
                inputs.append(Input(file, name, None, 0, bad[file].reason))
                continue
            info, used = good[file]
            layout = info.layout.restricted(used)
            if layout not in layouts:
                layouts.append(layout)
            entries = min(info.entries, left)
            left -= entries
            inputs.append(Input(file, name, info, entries, ""))
            chunks += [
                Chunk(file, info.tree, info.uuid, start, stop, name, layouts.index(layout))
                for start, stop in cut(info, entries, chunk_size) or [(0, 0)]
            ]
    metadata = {name: _metadata(dataset, infos[name]) for name, dataset in datasets.items()}
    return Plan(inputs, chunks, tuple(layouts), metadata, sorted(missing))


def _needs(processors: list[Any], info: FileInfo) -> tuple[frozenset[str], frozenset[str]]:
    """Columns that the processors use of a file, and optional ones that it lacks."""
    available = frozenset(info.layout.columns)
    used, lacking = frozenset[str](), frozenset[str]()
    for processor in processors:
        try:
            one, absent = used_columns(processor, available)
        except MissingColumn as error:
            name = getattr(processor, "name", type(processor).__name__)
            raise BadFile(info.file, _missing(name, str(error), info)) from error
        except UnknownName as error:  # a trigger; menus change, and a sum over files must not hide it
            raise BadFile(info.file, str(error)) from error
        used, lacking = used | one, lacking | absent
    return used, lacking


def _missing(processor: str, columns: str, info: FileInfo) -> str:
    """Says which branches were looked for, and what is most like them in the file."""
    wanted: list[str] = []
    for column in columns.split(" or "):
        collection, _, field = column.partition(".")
        table = info.layout.table.collections.get(collection)
        if table is not None and field in table.fields:
            wanted += [f"{s}_{e}" for s in table.source for e in table.fields[field] if isinstance(e, str)]
    near = nearest(wanted[0], info.branches) if wanted else []
    looked = f" (branch {' or '.join(wanted)})" if wanted else f" (format {info.layout.table.name} has none)"
    hint = f"; nearest branch: {', '.join(near)}" if near else ""
    return f"processor '{processor}' needs {columns}{looked}, which is missing{hint}"


def _odd_ones(
    name: str, dataset: Dataset, infos: list[tuple[str, FileInfo, frozenset[str]]]
) -> list[BadFile]:
    """Files that differ from most others of their dataset: adding them up would mix two selections.

    In columns used, in the branches that collections are made of, or in being simulation.

    Trigger decisions come and go with the menu; those that a processor was told to use are asked for file by file.
    """
    kinds = []
    for _, info, used in infos:
        columns = {c for c in used if not c.startswith("triggers.")}
        collections = {c.split(".")[0] for c in columns if "." in c}
        columns |= {f"{c} from {source}" for c, source in info.layout.sources.items() if c in collections}
        simulated = dataset.is_data is None and _is_simulation(info)
        kinds.append(frozenset(columns | ({"simulation (weights or gen_jets)"} if simulated else set())))
    if len(set(kinds)) < 2:
        return []
    usual = Counter(kinds).most_common(1)[0][0]
    errors = []
    for (file, _, _), kind in zip(infos, kinds, strict=True):
        if kind != usual:
            differs = [f"lacks {', '.join(sorted(usual - kind))}"] if usual - kind else []
            differs += [f"has {', '.join(sorted(kind - usual))}"] if kind - usual else []
            reason = f"{' and '.join(differs)}, unlike the other files of '{name}'; make it its own dataset"
            errors.append(BadFile(file, reason))
    return errors


def _metadata(dataset: Dataset, infos: list[tuple[str, FileInfo, frozenset[str]]]) -> dict[str, Any]:
    is_data = dataset.is_data
    if is_data is None and infos:
        is_data = not _is_simulation(infos[0][1])
    return {**dataset.metadata, "is_data": is_data, "cross_section": dataset.cross_section}


def _is_simulation(info: FileInfo) -> bool:
    return "weight" in info.layout.columns or "gen_jets.pt" in info.layout.columns


def _complaint(errors: list[BadFile], files: int) -> InputError:
    shown = "\n".join(f"  {error}" for error in errors[:10])
    more = f"\n  ... and {len(errors) - 10} more" if len(errors) > 10 else ""
    if len(errors) == 1:
        remedy = "" if files == 1 else "; --skip-bad-files goes on without it"
        return InputError(f"{errors[0]}{remedy}")
    remedy = "" if len(errors) == files else "; --skip-bad-files goes on without them"
    return InputError(f"{len(errors)} of {files} files cannot be used{remedy}:\n{shown}{more}")
