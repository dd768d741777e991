"""The steps of an analysis as functions; the command line is a thin layer over them."""

import importlib
import inspect as python_inspect
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from trila.analysis import duplicates, manifests, requests, results
from trila.analysis import ledger as ledger_module
from trila.analysis.accounting import Accounts, do
from trila.analysis.cluster import check_workers, connect
from trila.analysis.cluster_options import ClusterOptions
from trila.analysis.config import RunConfig, load_config, with_options
from trila.analysis.dataset_sum import DatasetSum, scale_to
from trila.analysis.filesets import datasets
from trila.analysis.ledger import Ledger
from trila.analysis.planning import Asked, Plan, Reading, plan
from trila.analysis.provenance import record
from trila.analysis.requests import Request
from trila.analysis.results import Result
from trila.corrections.lumi import LumiMask, inside
from trila.processors import formats, readers, recipes
from trila.processors.chunking import chunk_size
from trila.processors.dijet import DijetProcessor
from trila.processors.dimuon import DimuonProcessor
from trila.processors.efficiency import EfficiencyProcessor
from trila.processors.errors import InputError, unknown_name
from trila.processors.fingerprints import code_digest
from trila.processors.partial import Job, ProcessorError
from trila.processors.pools import DaskPool, LocalPool, Pool, ProcessPool
from trila.processors.readers import FileInfo
from trila.processors.response import ResponseProcessor
from trila.processors.stability import StabilityProcessor

__all__ = [
    "PROCESSORS",
    "Progress",
    "RunOutcome",
    "entry_range",
    "inspect",
    "make_processor",
    "plot",
    "run",
    "split_processors",
    "update",
]

PROCESSORS = ("response", "efficiency", "dijet", "dimuon", "stability")
_OWN = re.compile(r"[\w.]+:\w+")
Executor = Literal["local", "processes", "dask"]

#: Called with a stage's name and its total; gives a function to call with each advance.
Progress = Callable[[str, int], Callable[[int], None]]


def _silent(_stage: str, _total: int) -> Callable[[int], None]:
    return lambda _advance: None


class RunOutcome(NamedTuple):
    """What `run` did.

    Attributes:
        result: as it lies on disk.
        skipped: file to the reason why it was left out.
    """

    result: Result
    skipped: dict[str, str]


def inspect(files: Sequence[str], format: str | None = None) -> list[FileInfo]:
    """What files hold: format, era, entries, canonical columns and triggers.

    Raises:
        BadFile: a file cannot be used.
    """
    table = formats.load(format) if format else None
    return [
        readers.inspect(file, table)
        for name in [datasets(list(files))]
        for d in name.values()
        for file in d.files
    ]


def make_processor(name: str, config: RunConfig, *, pairs: bool = True) -> Any:
    """A processor by name, or the user's own by `module:Class`.

    Raises:
        UnknownName: no such processor.
        InputError: the module or class cannot be imported, or does not take its configuration.
    """
    if name == "response":
        return ResponseProcessor(config.response, config.events, pairs)
    if name == "efficiency":
        return EfficiencyProcessor(config.efficiency, config.events)
    if name == "dijet":
        return DijetProcessor(config.dijet, config.events)
    if name == "dimuon":
        return DimuonProcessor(config.dimuon, config.events)
    if name == "stability":
        return StabilityProcessor(config.stability, config.events)
    module_name, separator, class_name = name.partition(":")
    if not separator:
        raise unknown_name("processor", name, PROCESSORS, "One of your own is given as module:Class.")
    with _working_directory_importable():
        try:
            module = importlib.import_module(module_name)
            made = getattr(module, class_name)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(
                f"processor {name} cannot be imported: {error}; the module must be importable here"
            ) from error
    # before it is called: an update takes the name and its arguments from a RESULT
    if not (python_inspect.isclass(made) and callable(getattr(made, "process", None))):
        raise InputError(
            f"processor {name} is no class with a method process(events); expected a coffea ProcessorABC"
        )
    cloudpickle.register_pickle_by_value(module)  # workers need not have the user's file, nor those beside it
    for beside in (sys.modules.get(other) for other in recipes.sources(module_name)):
        if beside is not None and Path(str(beside.__file__)).resolve().parent == Path.cwd():
            cloudpickle.register_pickle_by_value(beside)
    try:
        python_inspect.signature(made).bind(**config.processors.get(name, {}))
        processor = made(**config.processors.get(name, {}))
    except TypeError as error:
        raise InputError(f"processor {name} does not take its configuration: {error}") from error
    return processor


def split_processors(given: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Processors, if the first of some arguments names them, and the rest, which are files."""
    names = tuple(given[0].split(",")) if given else ()
    if names and all(name in PROCESSORS or _OWN.fullmatch(name) for name in names):
        return names, tuple(given[1:])
    return (), tuple(given)


def entry_range(text: str | None) -> tuple[int, int] | None:
    """Entries as `LO:HI`, the last one not included.

    Raises:
        InputError: not of that form.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise InputError(f"--entries {text} is no range; expected LO:HI with LO < HI, such as 1000:1001")
    return int(match[1]), int(match[2])


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """A user's module beside his files is importable, as it is for `python` itself."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def run(
    processors: Sequence[str], files: Sequence[str], result: str | Path, *, config: str | Path | None = None,
    format: str | None = None, lumi_mask: str | None = None, corrections: str | None = None,
    max_events: int | None = None, entries: tuple[int, int] | None = None, executor: Executor = "local",
    workers: int | None = None, scheduler: str | None = None, cluster: str | None = None, chunk_size: int | None = None,
    skip_bad_files: bool = False, pairs: bool = True, check_duplicates: bool = False, progress: Progress = _silent,
    command: Sequence[str] = (),
) -> RunOutcome:  # fmt: skip
    """Run processors over files in one pass, and write RESULT; of what earlier runs did into it, only the rest is done.

    Args:
        processors: names, or `module:Class`.
        files: ROOT files, globs, URLs, lists or filesets.
        result: folder to write.
        config: YAML file.
        format: of the files; detected, if not given.
        lumi_mask: certified luminosity blocks, JSON.
        corrections: correctionlib file for the dijet spectrum.
        max_events: of each dataset.
        entries: range of entries of the only file, to look into a fault.
        executor: this process, local processes, or Dask.
        workers: for processes or a Dask cluster of this machine; as many as there are cores, if not given.
        scheduler: address of a running Dask cluster.
        cluster: kind of the Dask cluster to start, "htcondor", "slurm" or "local"; the configuration says more of it.
        chunk_size: events at a time; as many as a worker's memory allows, if not given.
        skip_bad_files: leave out files that cannot be read, and say so.
        pairs: whether `response` writes its table of pairs.
        check_duplicates: look for events that are in several files.
        progress: shows long work.
        command: for the manifest.

    Raises:
        InputError: something in the input is wrong; what was done is kept, without a result.
        ProcessorError: a processor failed on good data.
    """
    settings = with_options(
        load_config(config), lumi_mask=lumi_mask, corrections=corrections, cluster=cluster
    )
    names = tuple(dict.fromkeys(processors))
    if corrections is not None and "dijet" not in names:
        raise InputError(f"corrections {corrections} are for the dijet spectrum; add dijet to the processors")
    request = Request(
        processors=names, inputs=tuple(files), folder=str(Path.cwd()), fileset=datasets(list(files)), config=settings,
        format=format, max_events=max_events, pairs=pairs,
        options=_options(config=config, format=format, lumi_mask=lumi_mask, corrections=corrections, pairs=pairs),
    )  # fmt: skip
    how = How(executor, workers, scheduler, cluster, chunk_size, skip_bad_files, check_duplicates, entries)
    with results.working(Path(result)) as folder, Ledger(Path(result), write=True) as ledger:
        before = requests.earlier(ledger)
        lifted = [] if before is None else [*before.retracted_files, *before.retracted_blocks]
        notes = [f"the retraction of {', '.join(lifted[:5])} by an earlier run is lifted"] if lifted else []
        return _fulfil(request, how, Path(result), folder, ledger, progress, command, notes, clear=True)


def update(
    result: str | Path, *, files: Sequence[str] = (), retract: Sequence[str] = (), processors: Sequence[str] = (),
    executor: Executor = "local", workers: int | None = None, scheduler: str | None = None, cluster: str | None = None,
    chunk_size: int | None = None,
    skip_bad_files: bool = False, check_duplicates: bool = False, progress: Progress = _silent, command: Sequence[str] = (),
) -> RunOutcome:  # fmt: skip
    """Bring a RESULT up to date: with new files, or without some files or luminosity blocks.

    The result is, count by count, that of one run over the final list; only what is new is read. The earlier one stays in its
    place until then.

    Args:
        result: of an earlier run.
        files: to add to those that its inputs stand for by now.
        retract: files, `RUN`, `RUN:LB` or `RUN:FIRST-LAST` to take out.
        processors: must be those of the earlier run, if given.
        executor, workers, scheduler, cluster, chunk_size, skip_bad_files, check_duplicates, progress, command: as for `run`.

    Raises:
        InputError: no earlier run, or as for `run`.
    """
    path = Path(result)
    if not (path / ledger_module.NAME).is_file():
        raise _no_run(path)
    how = How(executor, workers, scheduler, cluster, chunk_size, skip_bad_files, check_duplicates, None)
    with results.working(path) as folder, Ledger(path, write=True) as ledger:
        request = requests.earlier(ledger)
        if request is None:
            raise _no_run(path)
        if processors and set(processors) != set(request.processors):
            raise InputError(
                f"{path} was made by {','.join(request.processors)}, not {','.join(processors)}; leave them out, or run them "
                "over all files without --update"
            )
        if cluster is not None:
            request = request.model_copy(update={"config": with_options(request.config, cluster=cluster)})
        if retract:
            request = requests.retract(request, retract)
        if files or not retract:
            request = requests.updated(request, files)
        return _fulfil(request, how, path, folder, ledger, progress, command, [], clear=False)


def _no_run(path: Path) -> InputError:
    return InputError(f"{path} holds no run to update; `trila run PROCESSORS FILES... -o {path}` makes one")


class How(NamedTuple):
    """What does not change the result: where and in what pieces it is made. Fields as the arguments of `run`."""

    executor: str
    workers: int | None
    scheduler: str | None
    cluster: str | None
    chunk_size: int | None
    skip_bad_files: bool
    check_duplicates: bool
    entries: tuple[int, int] | None

    @property
    def where(self) -> str:
        """The executor; a cluster, running or to be started, is Dask's."""
        return "dask" if self.scheduler or self.cluster else self.executor


def _fulfil(
    request: Request, how: How, path: Path, folder: Path, ledger: Ledger, progress: Progress, command: Sequence[str],
    notes: list[str], *, clear: bool,
) -> RunOutcome:  # fmt: skip
    """Do what is missing of a request, and write the result."""
    made = tuple(make_processor(name, request.config, pairs=request.pairs) for name in request.processors)
    names = _titles(made)
    pairs = path.resolve() / "pairs" if request.pairs and "response" in request.processors else None
    table = formats.load(request.format) if request.format else None
    ledger.begin(command)
    if clear:
        results.clear(path)
    try:
        if pairs is not None:
            pairs.mkdir(exist_ok=True)
        with _pool(how, request.config.cluster, pairs) as pool:
            asked = Asked(
                made, names, requests.configurations(request), _packages(),
                Reading(table, request.config.reader.collections), _chunking(how.chunk_size), request.max_events,
                how.entries, request.retracted_blocks, pairs, not clear,
            )  # fmt: skip
            planned = plan(
                request.fileset, asked, ledger, pool, skip_bad_files=how.skip_bad_files,
                progress=progress("checking files", sum(len(d.files) for d in request.fileset.values())),
            )  # fmt: skip
            _check_mixture(request, planned)
            if how.check_duplicates:
                planned = duplicates.check(
                    planned, ledger, pool, folder, progress, skip_bad_files=how.skip_bad_files
                )
            if clear:  # an update that fails is asked for again; what there is says what is in the products
                requests.remember(ledger, request)
            ledger.replace_plan(planned.files, planned.rows(names))
            job = Job(made, planned.layouts, planned.metadata, request.retracted_blocks, pairs, code_digest())
            accounts = do(
                planned, job, ledger, pool, skip_bad_files=how.skip_bad_files,
                progress=progress("processing events", sum(p.unit.entries for p in planned.units)),
            )  # fmt: skip
        requests.remember(ledger, request)
        outcome = _write(request, planned, accounts, names, path, folder, command, notes)
    except BaseException as error:
        told = _with_command(error, request, names) if isinstance(error, ProcessorError) else error
        ledger.end(f"{type(told).__name__}: {told}"[:1000])
        if told is not error:
            raise told from error
        raise
    ledger.end("done")
    return outcome


def _titles(made: Sequence[Any]) -> tuple[str, ...]:
    names = tuple(getattr(processor, "name", type(processor).__name__) for processor in made)
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two processors are called '{name}', and so would be their histograms; rename one"
            )
    return names


def _options(*, pairs: bool, **given: str | Path | None) -> tuple[str, ...]:
    """Options of the command line that shape a result, as they were given."""
    named = [
        (f"--{name.replace('_', '-')}", str(value)) for name, value in given.items() if value is not None
    ]
    return (*(part for option in named for part in option), *(() if pairs else ("--no-pairs",)))


def _with_command(error: ProcessorError, request: Request, names: Sequence[str]) -> ProcessorError:
    """The error with the command that repeats it on one chunk."""
    name = dict(zip(names, request.processors, strict=True)).get(
        error.processor, ",".join(request.processors)
    )
    entries = () if error.entry is None else ("--entries", f"{error.entry}:{error.entry + 1}")
    command = shlex.join(["trila", "run", name, error.file, *entries, "-o", "debug", *request.options])
    return ProcessorError(f"{error}; to repeat it: {command}", error.processor, error.file, error.entry)


def _chunking(size: int | None) -> Callable[[FileInfo, frozenset[str]], int]:
    """Events of a chunk, given what is known of a file and the columns that are read of it."""
    return chunk_size if size is None else lambda _info, _columns: size


def _packages() -> dict[str, str]:
    """Versions of what partial results are computed with."""
    names = (
        "python",
        "awkward",
        "boost-histogram",
        "coffea",
        "correctionlib",
        "hist",
        "numba",
        "numpy",
        "uproot",
    )
    found = results.package_versions()
    return {name: found[name] for name in names if name in found}


@contextmanager
def _pool(how: How, options: ClusterOptions, pairs: Path | None) -> Iterator[Pool]:
    if how.where == "local":
        with closing(LocalPool()) as here:
            yield here
    elif how.where == "processes":
        with closing(ProcessPool(how.workers or os.cpu_count() or 1)) as processes:
            yield processes
    elif how.where == "dask":
        if how.workers is not None:
            options = options.model_copy(update={"workers": how.workers})
        with connect(how.scheduler, options) as client:
            check_workers(client, pairs, code_digest)
            with closing(DaskPool(client)) as cluster:
                yield cluster
    else:
        raise unknown_name("executor", how.executor, ("local", "processes", "dask"))


def _write(
    request: Request, planned: Plan, accounts: Accounts, titles: Sequence[str], path: Path, folder: Path, command: Sequence[str],
    notes: list[str],
) -> RunOutcome:  # fmt: skip
    """Make the products of complete accounts."""
    skipped = {row.file: row.reason for row in accounts.files if row.status == "skipped"}
    if all(row.status == "skipped" for row in accounts.files):
        first, reason = next(iter(skipped.items()))
        raise InputError(f"none of {len(skipped)} files could be read; the first is {first}: {reason}")
    total = DatasetSum()
    scales = {}
    for name, partials in accounts.sums:
        scales[name] = scale_to(name, request.fileset[name].cross_section, partials)
        total.add(name, scales[name], dict(zip(titles, partials, strict=True)))
    blocks, retracted = _blocks(accounts), request.retracted_blocks
    if blocks is not None:
        notes = [*notes, *_retraction_notes(retracted, blocks)]
    manifest = manifests.manifest(request, planned, accounts, scales, command, [*notes, *planned.notes])
    complete = Result(path, total.histograms, total.cutflow, manifest)
    parts = {
        leaf.pairs[0]: leaf.pairs[1] for leaves in accounts.leaves.values() for leaf in leaves if leaf.pairs
    }
    seen = blocks if blocks is None or not retracted else blocks[~inside(retracted, blocks)]
    complete = results.write(complete, folder, blocks=seen, parts=parts)
    return RunOutcome(complete, skipped)


def _blocks(accounts: Accounts) -> NDArray[np.uint64] | None:
    """Luminosity blocks of all data read, those retracted as well; None for simulation, and where the input has none."""
    found = {leaf.blocks for leaves in accounts.leaves.values() for leaf in leaves if leaf.blocks is not None}
    if not found:
        return None
    return np.unique(np.concatenate([np.frombuffer(one, np.uint64) for one in found]))


def _retraction_notes(retracted: LumiMask, blocks: NDArray[np.uint64]) -> list[str]:
    """How many luminosity blocks are retracted; and ranges that none of the data is in, which may be slips."""
    if not retracted:
        return []
    notes = [f"{np.sum(inside(retracted, blocks))} luminosity blocks are retracted"]
    for name, pairs in retracted.items():
        for low, high in pairs:
            if not inside({name: ((low, high),)}, blocks).any():
                notes.append(
                    f"run {name} has no luminosity block from {low} to {high} in the input: nothing is retracted there"
                )
    return notes


def _check_mixture(request: Request, planned: Plan) -> None:
    """Datasets that cannot be added up, or luminosity blocks of simulation.

    Raises:
        InputError: data together with simulation, several simulated samples of unknown cross section, or blocks to retract
            without data.
    """
    fileset = request.fileset
    read = {row.dataset for row in planned.files if row.status != "skipped"}
    data = {name: bool(metadata["is_data"]) for name, metadata in planned.metadata.items() if name in read}
    for name in [n for n, is_data in data.items() if is_data and fileset[n].cross_section is not None]:
        raise InputError(
            f"'{name}' is data and has a cross_section; counted events are not scaled: leave it out"
        )
    if request.retracted_blocks and not any(data.values()):
        raise InputError(
            f"run {next(iter(request.retracted_blocks))} cannot be retracted: the input is simulation; retract files"
        )
    if len(set(data.values())) > 1:
        example = next(n for n, d in data.items() if d), next(n for n, d in data.items() if not d)
        raise InputError(
            f"'{example[0]}' is data and '{example[1]}' is simulation; their sum means nothing: run them into two results"
        )
    unknown = [n for n in data if fileset[n].cross_section is None]
    if len(data) > 1 and not any(data.values()) and unknown:
        raise InputError(
            f"simulated dataset '{unknown[0]}' has no cross_section, so it cannot be added to the others; "
            "give it in the fileset (pb)"
        )


def plot(
    result: str | Path, outdir: str | Path, *, style: Literal["cms", "atlas", "lhcb"] = "cms",
    label: str = "Private work", com: float | None = None, lumi: float | None = None, min_fraction: float = 1.0,
) -> list[Path]:  # fmt: skip
    """Make every plot that a result allows, as PNG and PDF.

    Args:
        result: RESULT.
        outdir: folder for the plots.
        style: whose look.
        label: text after the experiment's name.
        com: centre-of-mass energy, TeV.
        lumi: integrated luminosity, 1/pb.
        min_fraction: share of the planned events that RESULT must hold, see `results.read`.

    Raises:
        InputError: no complete result.
    """
    from trila.analysis.plots import plot_histograms  # matplotlib takes long to import

    content = results.read(result, min_fraction=min_fraction)
    is_data = any(dataset["is_data"] for dataset in content.manifest["datasets"].values())
    return plot_histograms(
        content.histograms, Path(outdir), style=style, label=label, is_data=is_data, com=com, lumi=lumi,
        reference=content.manifest["reference"] or "offline", cutflow=content.cutflow,
        made=record("plot", {"result": str(result), "style": style, "label": label}),
    )  # fmt: skip
