"""The steps of an analysis as functions; the command line is a thin layer over them."""

import importlib
import inspect as python_inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cloudpickle
import hist

from trila import __version__
from trila.analysis import results
from trila.analysis.cluster import check_workers, connect
from trila.analysis.config import RunConfig, load_config, with_options
from trila.analysis.filesets import Dataset, datasets
from trila.analysis.planning import Plan, plan
from trila.analysis.results import Result
from trila.processors import formats, readers
from trila.processors.dijet import DijetProcessor
from trila.processors.dimuon import DimuonProcessor
from trila.processors.efficiency import EfficiencyProcessor
from trila.processors.errors import InputError, unknown_name
from trila.processors.partial import Job, Partial
from trila.processors.readers import FileInfo
from trila.processors.response import ResponseProcessor
from trila.processors.run import CHUNK_SIZE, Outcome, run_dask, run_local, run_processes

__all__ = ["PROCESSORS", "Progress", "RunOutcome", "inspect", "plot", "run"]

PROCESSORS = ("response", "efficiency", "dijet", "dimuon")
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
    cloudpickle.register_pickle_by_value(module)  # workers need not have the user's file
    try:
        python_inspect.signature(made).bind(**config.processors.get(name, {}))
        processor = made(**config.processors.get(name, {}))
    except TypeError as error:
        raise InputError(f"processor {name} does not take its configuration: {error}") from error
    if not callable(getattr(processor, "process", None)):
        raise InputError(f"processor {name} has no method process(events); expected a coffea ProcessorABC")
    return processor


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
    max_events: int | None = None, executor: Executor = "local", workers: int | None = None,
    scheduler: str | None = None, chunk_size: int = CHUNK_SIZE, skip_bad_files: bool = False, pairs: bool = True,
    progress: Progress = _silent, command: Sequence[str] = (),
) -> RunOutcome:  # fmt: skip
    """Run processors over files in one pass, and write RESULT.

    Args:
        processors: names, or `module:Class`.
        files: ROOT files, globs, URLs, lists or filesets.
        result: folder to write.
        config: YAML file.
        format: of the files; detected, if not given.
        lumi_mask: certified luminosity blocks, JSON.
        corrections: correctionlib file for the dijet spectrum.
        max_events: of each dataset.
        executor: this process, local processes, or Dask.
        workers: for processes or a Dask cluster of this machine; as many as there are cores, if not given.
        scheduler: address of a running Dask cluster.
        chunk_size: events at a time.
        skip_bad_files: leave out files that cannot be read, and say so.
        pairs: whether `response` writes its table of pairs.
        progress: shows long work.
        command: for the manifest.

    Raises:
        InputError: something in the input is wrong; nothing is left in `result`.
        ProcessorError: a processor failed on good data.
    """
    settings = with_options(load_config(config), lumi_mask=lumi_mask, corrections=corrections)
    names = list(dict.fromkeys(processors))
    if corrections is not None and "dijet" not in names:
        raise InputError(f"corrections {corrections} are for the dijet spectrum; add dijet to the processors")
    made = [make_processor(name, settings, pairs=pairs) for name in names]
    titles = [getattr(processor, "name", type(processor).__name__) for processor in made]
    for title in titles:
        if titles.count(title) > 1:
            raise InputError(
                f"two processors are called '{title}', and so would be their histograms; rename one"
            )
    fileset = datasets(list(files))
    table = formats.load(format) if format else None
    path = Path(result)
    with results.building(path) as folder:
        planned = plan(
            fileset, made, table=table, sources=settings.reader.collections, chunk_size=chunk_size,
            max_events=max_events, skip_bad_files=skip_bad_files,
            progress=progress("checking files", sum(len(d.files) for d in fileset.values())),
        )  # fmt: skip
        _check_mixture(fileset, planned)
        pairs_folder = folder / "pairs" if pairs and "response" in names else None
        if pairs_folder is not None:
            pairs_folder.mkdir()
        job = Job(tuple(made), planned.layouts, planned.metadata, pairs_folder)
        outcome = _execute(
            job, planned, executor="dask" if scheduler else executor, workers=workers or os.cpu_count() or 1,
            scheduler=scheduler, skip_bad_files=skip_bad_files,
            progress=progress("processing events", sum(i.entries for i in planned.inputs)),
        )  # fmt: skip
        skipped = {i.file: i.reason for i in planned.inputs if i.reason} | outcome.bad
        if not outcome.partials:
            first, reason = next(iter(skipped.items()))
            raise InputError(f"none of {len(skipped)} files could be read; the first is {first}: {reason}")
        scales = _scales(fileset, outcome.partials)
        complete = Result(
            path,
            _total(outcome.partials, scales),
            {n: {k: c.rows() for k, c in p.cutflows.items()} for n, p in outcome.partials.items()},
            _manifest(names, settings, fileset, planned, outcome, scales, command),
        )
        blocks = [p.blocks for n, p in outcome.partials.items() if planned.metadata[n]["is_data"]]
        parts = [folder / "pairs" / c.pairs_file for c in planned.chunks if c.file not in outcome.bad]
        results.write(complete, folder, blocks=set().union(*blocks) or None, parts=parts)
    return RunOutcome(complete, skipped)


def _check_mixture(fileset: dict[str, Dataset], planned: Plan) -> None:
    """Datasets that cannot be added up.

    Raises:
        InputError: data together with simulation, or several simulated samples of unknown cross section.
    """
    read = {item.dataset for item in planned.inputs if item.info is not None}
    data = {name: bool(metadata["is_data"]) for name, metadata in planned.metadata.items() if name in read}
    for name in [n for n, is_data in data.items() if is_data and fileset[n].cross_section is not None]:
        raise InputError(
            f"'{name}' is data and has a cross_section; counted events are not scaled: leave it out"
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


def _execute(
    job: Job, planned: Plan, *, executor: str, workers: int, scheduler: str | None, skip_bad_files: bool,
    progress: Callable[[int], None],
) -> Outcome:  # fmt: skip
    if executor == "local":
        return run_local(job, planned.chunks, skip_bad_files=skip_bad_files, progress=progress)
    if executor == "processes":
        return run_processes(
            job, planned.chunks, workers=workers, skip_bad_files=skip_bad_files, progress=progress
        )
    if executor != "dask":
        raise unknown_name("executor", executor, ("local", "processes", "dask"))
    with connect(scheduler, workers) as client:
        check_workers(client, job.pairs.parent if job.pairs is not None else None)
        return run_dask(job, planned.chunks, client=client, skip_bad_files=skip_bad_files, progress=progress)


def _scales(fileset: dict[str, Dataset], partials: dict[str, Partial]) -> dict[str, float]:
    """Dataset to factor on its weights: cross section over the sum of generator weights; 1 where not known."""
    scales = {}
    for name, partial in partials.items():
        cross_section = fileset[name].cross_section
        sums = [cutflow.sumw[0] for cutflow in partial.cutflows.values()]
        if cross_section is not None and not sums:
            raise InputError(
                f"dataset '{name}' has a cross_section, but no processor gives a cutflow to normalise by"
            )
        if cross_section is not None and not sums[0] > 0:
            raise InputError(
                f"dataset '{name}': the sum of generator weights is {sums[0]}, it cannot be normalised"
            )
        scales[name] = 1.0 if cross_section is None else cross_section / float(sums[0])
    return scales


def _total(partials: dict[str, Partial], scales: dict[str, float]) -> dict[str, hist.Hist[Any]]:
    """Histograms of all datasets together, each scaled."""
    total: dict[str, hist.Hist[Any]] = {}
    for dataset in sorted(partials):
        for name, histogram in partials[dataset].histograms.items():
            scaled = histogram if scales[dataset] == 1.0 else histogram * scales[dataset]
            total[name] = total[name] + scaled if name in total else scaled
    return total


def _manifest(
    names: list[str], settings: RunConfig, fileset: dict[str, Dataset], planned: Plan, outcome: Outcome, scales: dict[str, float],
    command: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    inputs = []
    for item in planned.inputs:
        reason = item.reason or outcome.bad.get(item.file, "")
        info = item.info
        inputs.append(
            {
                "file": item.file,
                "dataset": item.dataset,
                "uuid": info.uuid if info else None,
                "size": info.size if info else None,
                "entries": info.entries if info else None,
                "processed": 0 if reason else item.entries,
                "era": (fileset[item.dataset].era or info.layout.era) if info else None,
                "format": info.layout.table.name if info else None,
                "sources": info.layout.sources if info else None,
                "status": "skipped" if reason else "done" if info and info.entries else "empty",
                "reason": reason,
            }
        )
    reference: str | None = None
    if "response" in names:
        reference = settings.response.reference
        if reference == "auto":
            columns = {c for layout in planned.layouts for c in layout.columns}
            reference = "offline" if "offline_jets.pt" in columns else "gen"
    configuration = json.loads(settings.model_dump_json())
    return {
        "format_version": results.FORMAT_VERSION,
        "trila": __version__,
        "command": list(command),
        "configuration": configuration,
        "configuration_digest": results.digest(configuration),
        "format": sorted({layout.table.name for layout in planned.layouts}),
        "notes": sorted({layout.table.note for layout in planned.layouts if layout.table.note}),
        "processors": names,
        "reference": reference,
        "columns": sorted(set().union(*(p.branches for p in outcome.partials.values()))),
        "columns_missing": planned.missing,
        "datasets": {
            name: {
                "is_data": bool(metadata["is_data"]),
                "cross_section": metadata["cross_section"],
                "scale": scales.get(name),
                "events": outcome.partials[name].events if name in outcome.partials else 0,
            }
            for name, metadata in planned.metadata.items()
        },
        "inputs": inputs,
        "seeds": {},
        "packages": results.package_versions(),
        "complete": True,
    }


def plot(
    result: str | Path, outdir: str | Path, *, style: Literal["cms", "atlas", "lhcb"] = "cms",
    label: str = "Private work", com: float | None = None, lumi: float | None = None,
) -> list[Path]:  # fmt: skip
    """Make every plot that a result allows, as PNG and PDF.

    Args:
        result: RESULT.
        outdir: folder for the plots.
        style: whose look.
        label: text after the experiment's name.
        com: centre-of-mass energy, TeV.
        lumi: integrated luminosity, 1/pb.

    Raises:
        InputError: no complete result.
    """
    from trila.analysis.plots import plot_histograms  # matplotlib takes long to import

    content = results.read(result)
    is_data = any(dataset["is_data"] for dataset in content.manifest["datasets"].values())
    return plot_histograms(
        content.histograms, Path(outdir), style=style, label=label, is_data=is_data, com=com, lumi=lumi,
        reference=content.manifest["reference"] or "offline", cutflow=content.cutflow,
    )  # fmt: skip
