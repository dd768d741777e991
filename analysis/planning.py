"""Plan a run: check every file before the first event is read, find what earlier runs have done, cut the rest into units."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trila import __version__
from trila.analysis.filesets import Dataset
from trila.analysis.ledger import FileRow, Leaf, Ledger, UnitRow
from trila.corrections.lumi import LumiMask, inside
from trila.processors import readers, recipes
from trila.processors.base import used_columns
from trila.processors.errors import BadFile, InputError, MissingColumn, UnknownName, nearest
from trila.processors.formats import Format
from trila.processors.partial import Unit
from trila.processors.pools import Pool
from trila.processors.readers import FileInfo, Layout
from trila.processors.run import Attempt, carry_out, cut

__all__ = ["Asked", "Plan", "Planned", "Reading", "plan", "retracted_digest", "time_of_change"]

#: Events of a unit at most, unless a chunk holds more: what is lost when a worker dies, and what a task is. It depends on
#: nothing else, so that sums of weights are the same, bit for bit, however many files and workers there are.
_LARGEST_UNIT = 1_000_000
_BLOCK = frozenset({"run", "luminosity_block"})


class Reading(NamedTuple):
    """How files are to be read.

    Attributes:
        table: the format; detected for each file, if None.
        sources: branch prefixes to take for some collections.
    """

    table: Format | None
    sources: dict[str, str]


class Planned(NamedTuple):
    """A unit that is to be done.

    Attributes:
        unit: what is sent to a worker.
        file: place of its file in the plan.
        names, recipes: of its processors.
    """

    unit: Unit
    file: int
    names: tuple[str, ...]
    recipes: tuple[str, ...]


class Plan(NamedTuple):
    """What a run will do.

    Attributes:
        files: every file that was given.
        units: that are to be done.
        done: (place of a file, position of a processor) to partial results that are there.
        layouts: that units refer to.
        metadata: dataset to what processors find in `events.metadata`.
        missing: optional columns that processors could have used.
        notes: what the user should know.
    """

    files: list[FileRow]
    units: list[Planned]
    done: dict[tuple[int, int], list[Leaf]]
    layouts: tuple[Layout, ...]
    metadata: dict[str, dict[str, Any]]
    missing: list[str]
    notes: tuple[str, ...] = ()

    def rows(self, names: Sequence[str]) -> Iterator[UnitRow]:
        """All units, those that are done as well; `names` are those of the processors."""
        for (file, position), leaves in self.done.items():
            for leaf in leaves:
                status = "done" if leaf.stop > leaf.start else "empty"
                yield UnitRow(file, (names[position],), leaf.start, leaf.stop, status)
        for planned in self.units:
            yield UnitRow(planned.file, planned.names, planned.unit.start, planned.unit.stop, "planned")

    def without(self, bad: Mapping[int, str]) -> "Plan":
        """The plan without some files: place of a file to the reason why it is skipped."""
        files = [
            row._replace(status="skipped", reason=bad[number]) if number in bad else row
            for number, row in enumerate(self.files)
        ]
        return self._replace(
            files=files,
            units=[planned for planned in self.units if planned.file not in bad],
            done={key: leaves for key, leaves in self.done.items() if key[0] not in bad},
        )


class Asked(NamedTuple):
    """What is asked of a plan.

    Attributes:
        processors: that run.
        names: of the processors.
        configurations: of the processors, JSON-like.
        packages: versions that results depend on.
        reading: how files are read.
        chunk_size: events that are held in memory at the same time, given a file and the columns that are read of it.
        max_events: of each dataset, in the order of its files; None for all.
        entries: range of entries, of the only file; None for all.
        retracted: luminosity blocks whose events are taken as not there.
        pairs: folder of tables of pairs; None without them.
        keep_gone: whether files that are known stay in the plan when they are no longer there: what they gave is kept.
    """

    processors: tuple[Any, ...]
    names: tuple[str, ...]
    configurations: tuple[Any, ...]
    packages: dict[str, str]
    reading: Reading
    chunk_size: Callable[[FileInfo, frozenset[str]], int]
    max_events: int | None
    entries: tuple[int, int] | None
    retracted: LumiMask
    pairs: Path | None
    keep_gone: bool


def plan(
    datasets: dict[str, Dataset], asked: Asked, ledger: Ledger, pool: Pool, *, skip_bad_files: bool,
    progress: Callable[[int], None],
) -> Plan:  # fmt: skip
    """Inspect files that are new or changed, find what of all is done, and cut the rest into units.

    Args:
        datasets: what to run on.
        asked: what is to be done with it.
        ledger: of earlier runs.
        pool: where files are inspected.
        skip_bad_files: leave out files that cannot be used.
        progress: called with 1 after each file.

    Raises:
        InputError: files that cannot be used, unless they are to be skipped; or none that can.
    """
    looked, bad = _look(datasets, asked, ledger, pool, progress)
    layouts = _Layouts()
    infos: dict[str, list[_Usable]] = {}
    missing: set[str] = set()
    seen: dict[str, tuple[str, str]] = {}  # uuid to dataset and file
    for name, dataset in datasets.items():
        infos[name] = []
        for file in dict.fromkeys(dataset.files):
            info = looked[file].info if file in looked else None
            if info is None:
                continue
            try:
                if info.uuid in seen:
                    raise BadFile(file, _same(name, *seen[info.uuid], info.uuid))
                info = info._replace(layout=layouts.shared(info.layout))
                used, lacking = layouts.needs(asked.processors, info)
            except BadFile as error:
                bad[file] = error
                continue
            seen[info.uuid] = name, file
            missing |= lacking
            infos[name].append(_Usable(file, info, used))
        odd = {error.file: error for error in _odd_ones(name, dataset, infos[name])}
        bad |= odd
        infos[name] = [item for item in infos[name] if item.file not in odd]
    twice = [file for d in datasets.values() for file, count in Counter(d.files).items() if count > 1]
    if twice and not skip_bad_files:
        bad[twice[0]] = BadFile(twice[0], "is listed twice; list it once")
    number = sum(len(d.files) for d in datasets.values())
    if bad and not skip_bad_files:
        raise _complaint(list(bad.values()), number)
    if not any(infos.values()):
        raise _complaint(list(bad.values()), len(bad))
    if asked.entries is not None and number != 1:
        raise InputError(f"a range of entries is of one file, and {number} are given; give one")
    metadata = {name: _metadata(dataset, infos[name]) for name, dataset in datasets.items()}
    files = _rows(datasets, infos, looked, bad, asked)
    units, done = _units(files, infos, metadata, asked, layouts, ledger.leaves())
    notes = tuple(f"{file} is listed twice; it is counted once" for file in dict.fromkeys(twice))
    return Plan(files, units, done, tuple(layouts.restricted), metadata, sorted(missing), notes)


def _same(name: str, other: str, file: str, uuid: str) -> str:
    """Why a file of a dataset is not counted, if it is that of another, or of the same, listed before."""
    if name == other:
        return f"is the same file as {file} (uuid {uuid}); list it once"
    return f"is in dataset '{name}', and is the same file as {file} in dataset '{other}' (uuid {uuid}); list it in one"


class _Usable(NamedTuple):
    """A file that can be used; `used` are the columns that each processor may touch."""

    file: str
    info: FileInfo
    used: tuple[frozenset[str], ...]


class _Layouts:
    """Layouts that files share, so that what depends on them is worked out once."""

    def __init__(self) -> None:
        self._known: list[Layout] = []
        self._needs: dict[int, tuple[tuple[frozenset[str], ...], frozenset[str]]] = {}
        self.restricted: list[Layout] = []
        self._place: dict[tuple[int, frozenset[str]], int] = {}

    def shared(self, layout: Layout) -> Layout:
        """The first layout that is equal to this one."""
        for known in self._known:
            if known is layout or known == layout:
                return known
        self._known.append(layout)
        return layout

    def needs(
        self, processors: Sequence[Any], info: FileInfo
    ) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
        """Columns that each processor uses of a file, and optional ones that it lacks."""
        key = id(info.layout)
        if key not in self._needs:
            self._needs[key] = _needs(processors, info)
        return self._needs[key]

    def place(self, layout: Layout, columns: frozenset[str]) -> int:
        """Position of the layout with these columns alone."""
        key = (id(layout), columns)
        if key not in self._place:
            self._place[key] = len(self.restricted)
            self.restricted.append(layout.restricted(columns))
        return self._place[key]


# ---- look at files


class _Looked(NamedTuple):
    info: FileInfo | None
    modified: int
    request: str
    arrived: float


def _look(
    datasets: dict[str, Dataset], asked: Asked, ledger: Ledger, pool: Pool, progress: Callable[[int], None]
) -> tuple[dict[str, _Looked], dict[str, BadFile]]:
    """What is known of all files: from the ledger, if they have not changed since; else they are opened."""
    reading = asked.reading
    table = None if reading.table is None else reading.table.model_dump_json()
    request = recipes.digest([__version__, recipes.sources(readers.__name__), table, reading.sources])
    known = {row.file: row for row in ledger.files()}
    replicas = {f: d.replicas.get(f, (f,)) for d in datasets.values() for f in d.files}
    looked: dict[str, _Looked] = {}
    new: list[str] = []
    for file, sources in replicas.items():
        row, modified = known.get(file), time_of_change(file)
        arrived = row.arrived if row is not None else time.time()
        looked[file] = _Looked(None, modified, request, arrived)
        known_so = (
            row is not None and row.info is not None and row.request == request and row.replicas == sources
        )
        gone = asked.keep_gone and modified == 0 and not readers.is_remote(file)
        if row is not None and known_so and (gone or row.modified == modified):
            looked[file] = _Looked(row.info, row.modified, request, arrived)
            progress(1)
        else:
            new.append(file)
    bad: dict[str, BadFile] = {}
    names: dict[tuple[str, ...], tuple[str, ...]] = {}  # most files have the same, thousands of them
    found = carry_out(
        pool, _inspect, reading, new, sources=lambda file: replicas[file],
        tried=lambda file, source, kind, reason: ledger.tried(file, None, source, kind, reason),
    )  # fmt: skip
    for file, outcome in found:
        progress(1)
        if isinstance(outcome, BadFile):
            bad[file] = BadFile(file, outcome.reason, outcome.transient)
        else:
            branches = names.setdefault(outcome.branches, outcome.branches)
            looked[file] = looked[file]._replace(info=outcome._replace(file=file, branches=branches))
    return looked, bad


def _inspect(reading: Reading, attempt: Attempt) -> FileInfo:
    return readers.inspect(attempt.source, reading.table, reading.sources)


def time_of_change(file: str) -> int:
    """What tells whether a file was changed, as `FileRow.modified` has it: its time of change in ns, with its size mixed in.

    0 for URLs, which are taken not to change, and for files that are not there.
    """
    if readers.is_remote(file):
        return 0
    try:
        status = Path(file).stat()
    except OSError:
        return 0
    return status.st_mtime_ns ^ (status.st_size << 1)


# ---- what processors need


def _needs(processors: Sequence[Any], info: FileInfo) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    available = frozenset(info.layout.columns)
    used, lacking = list[frozenset[str]](), frozenset[str]()
    for processor in processors:
        try:
            one, absent = used_columns(processor, available)
        except MissingColumn as error:
            name = getattr(processor, "name", type(processor).__name__)
            raise BadFile(info.file, _missing(name, str(error), info)) from error
        except UnknownName as error:  # a trigger; menus change, and a sum over files must not hide it
            raise BadFile(info.file, str(error)) from error
        used.append(one)
        lacking |= absent
    return tuple(used), lacking


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


def _odd_ones(name: str, dataset: Dataset, infos: list[_Usable]) -> list[BadFile]:
    """Files that differ from most others of their dataset: adding them up would mix two selections.

    In columns used, in the branches that collections are made of, or in being simulation.

    Trigger decisions come and go with the menu; those that a processor was told to use are asked for file by file.
    """
    kinds = []
    made: dict[int, frozenset[str]] = {}
    for item in infos:
        key = id(item.info.layout)
        if key not in made:
            columns = {c for used in item.used for c in used if not c.startswith("triggers.")}
            collections = {c.split(".")[0] for c in columns if "." in c}
            columns |= {f"{c} from {s}" for c, s in item.info.layout.sources.items() if c in collections}
            simulated = dataset.is_data is None and _is_simulation(item.info)
            made[key] = frozenset(columns | ({"simulation (weights or gen_jets)"} if simulated else set()))
        kinds.append(made[key])
    if len(set(kinds)) < 2:
        return []
    usual = Counter(kinds).most_common(1)[0][0]
    errors = []
    for item, kind in zip(infos, kinds, strict=True):
        if kind != usual:
            differs = [f"lacks {', '.join(sorted(usual - kind))}"] if usual - kind else []
            differs += [f"has {', '.join(sorted(kind - usual))}"] if kind - usual else []
            reason = f"{' and '.join(differs)}, unlike the other files of '{name}'; make it its own dataset"
            errors.append(BadFile(item.file, reason))
    return errors


def _metadata(dataset: Dataset, infos: list[_Usable]) -> dict[str, Any]:
    is_data = dataset.is_data
    if is_data is None and infos:
        is_data = not _is_simulation(infos[0].info)
    return {**dataset.metadata, "is_data": is_data, "cross_section": dataset.cross_section}


def _is_simulation(info: FileInfo) -> bool:
    return "weight" in info.layout.columns or "gen_jets.pt" in info.layout.columns


# ---- cut into units


def _rows(
    datasets: dict[str, Dataset], infos: dict[str, list[_Usable]], looked: dict[str, _Looked], bad: dict[str, BadFile],
    asked: Asked,
) -> list[FileRow]:  # fmt: skip
    """Every file that was given, with the entries that are planned of it."""
    rows = []
    for name, dataset in datasets.items():
        good = {item.file: item.info for item in infos[name]}
        left = asked.max_events if asked.max_events is not None else sum(i.entries for i in good.values())
        for file in dict.fromkeys(dataset.files):
            known = looked[file]
            info = good.get(file, known.info)
            planned = min(info.entries, left) if file in good and info is not None else 0
            first, last = (0, planned)
            if asked.entries is not None and info is not None:
                first, last = asked.entries
                if not 0 <= first < last <= info.entries:
                    raise InputError(
                        f"entries {first}:{last} are not in {file}, which has {info.entries}; expected 0 <= LO < HI"
                    )
            left -= planned
            replicas = dataset.replicas.get(file, (file,))
            reason = "" if file in good else bad[file].reason
            rows.append(
                FileRow(
                    name,
                    file,
                    replicas,
                    known.request,
                    known.modified,
                    info,
                    first,
                    last,
                    "planned" if file in good else "skipped",  # good may be what is bad in another dataset
                    reason,
                    known.arrived,
                )
            )
    return rows


def _units(
    files: list[FileRow], infos: dict[str, list[_Usable]], metadata: dict[str, dict[str, Any]], asked: Asked,
    layouts: _Layouts, stored: Iterable[Leaf],
) -> tuple[list[Planned], dict[tuple[int, int], list[Leaf]]]:  # fmt: skip
    """What is to be done, and what is done."""
    by_recipe: dict[tuple[str, str], list[Leaf]] = defaultdict(list)
    for leaf in stored:
        by_recipe[leaf.recipe, leaf.input].append(leaf)
    usable = {item.file: item for items in infos.values() for item in items}
    made: dict[tuple[str, int, int], str] = {}
    units: list[Planned] = []
    done: dict[tuple[int, int], list[Leaf]] = {}
    for number, row in enumerate(files):
        if row.status == "skipped":
            continue
        item = usable[row.file]
        if (
            asked.retracted
            and metadata[row.dataset]["is_data"]
            and not item.info.layout.columns.keys() >= _BLOCK
        ):
            raise InputError(
                f"luminosity blocks cannot be retracted from {row.file}, which has no run and luminosity block; retract the file"
            )
        gaps: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
        keys = []
        for position, used in enumerate(item.used):
            key = (row.dataset, position, id(item.info.layout))
            if key not in made:
                made[key] = _recipe(asked, position, item.info.layout.restricted(used), row.dataset, metadata)
            keys.append(made[key])
            candidates = [x for x in by_recipe.get((made[key], row.identity), ()) if _holds(x, asked)]
            done[number, position], missing = _cover(candidates, row.first, row.last)
            if missing:
                gaps[missing].append(position)
        for missing, positions in gaps.items():
            columns = frozenset[str]().union(*(item.used[p] for p in positions))
            if metadata[row.dataset]["is_data"]:  # blocks are accounted for, whatever the processors look at
                columns |= _BLOCK & item.info.layout.columns.keys()
            chunk = asked.chunk_size(item.info, columns)
            largest = max(chunk, _LARGEST_UNIT)
            place = layouts.place(item.info.layout, columns)
            recipe = tuple(keys[p] for p in positions)
            for begin, end in missing:
                for chunks in _bundles(cut(item.info, end, chunk, begin) or [(begin, end)], largest):
                    pairs = None
                    if asked.pairs is not None and any(asked.names[p] == "response" for p in positions):
                        mark = recipes.digest([recipe, row.identity, asked.retracted])[:8]
                        span = f"{chunks[0][0]:012d}-{chunks[-1][1]:012d}"
                        pairs = f"{row.dataset}/{item.info.uuid}-{span}-{mark}.parquet"
                    unit = Unit(
                        row.file, row.replicas, item.info.tree, item.info.uuid, row.dataset, place, tuple(positions), chunks, pairs
                    )  # fmt: skip
                    units.append(Planned(unit, number, tuple(asked.names[p] for p in positions), recipe))
    return units, done


def _recipe(
    asked: Asked, position: int, layout: Layout, dataset: str, metadata: dict[str, dict[str, Any]]
) -> str:
    name, processor = asked.names[position], asked.processors[position]
    configuration = {
        "own": asked.configurations[position],
        "pairs": name == "response" and asked.pairs is not None,
    }
    return recipes.recipe(
        processor, configuration, layout, {"name": dataset, **metadata[dataset]}, asked.packages
    )


def _holds(leaf: Leaf, asked: Asked) -> bool:
    """Whether a stored result is what would be made now."""
    if leaf.retracted != retracted_digest(leaf.blocks, asked.retracted):
        return False
    if leaf.pairs is None:
        return True
    table = None if asked.pairs is None else asked.pairs / leaf.pairs[0]
    return table is not None and table.is_file() and table.stat().st_size > 0


def retracted_digest(blocks: bytes | None, retracted: LumiMask) -> str:
    """Digest of those luminosity blocks that are retracted; empty if none is."""
    if blocks is None or not retracted:
        return ""
    found = np.frombuffer(blocks, np.uint64)
    out = found[inside(retracted, found)]
    return recipes.digest(out.tolist()) if out.size else ""


def _cover(leaves: list[Leaf], first: int, last: int) -> tuple[list[Leaf], tuple[tuple[int, int], ...]]:
    """Leaves that lie one after the other in a range, and what they leave open."""
    taken: list[Leaf] = []
    gaps: list[tuple[int, int]] = []
    place = first
    for leaf in sorted(leaves, key=lambda x: (x.start, -x.stop)):
        if leaf.start >= place and leaf.stop <= last and (leaf.stop > leaf.start or first == last):
            if leaf.start > place:
                gaps.append((place, leaf.start))
            taken.append(leaf)
            place = leaf.stop
    if place < last or (first == last and not taken):
        gaps.append((place, last))
    return taken, tuple(gaps)


def _bundles(chunks: list[tuple[int, int]], largest: int) -> list[tuple[tuple[int, int], ...]]:
    """Chunks, one after the other, in bundles of at most so many events, unless one has more."""
    bundles: list[list[tuple[int, int]]] = []
    for start, stop in chunks:
        if bundles and stop - bundles[-1][0][0] <= largest:
            bundles[-1].append((start, stop))
        else:
            bundles.append([(start, stop)])
    return [tuple(bundle) for bundle in bundles]


def _complaint(errors: list[BadFile], files: int) -> InputError:
    shown = "\n".join(f"  {error}" for error in errors[:10])
    more = f"\n  ... and {len(errors) - 10} more" if len(errors) > 10 else ""
    if len(errors) == 1:
        remedy = "" if files == 1 else "; --skip-bad-files goes on without it"
        return InputError(f"{errors[0]}{remedy}")
    remedy = "" if len(errors) == files else "; --skip-bad-files goes on without them"
    return InputError(f"{len(errors)} of {files} files cannot be used{remedy}:\n{shown}{more}")
