"""The command line: parse, call, print, exit code. Only the modules `cli*` print.

Exit codes: 0 done; 1 a fault of the code, or a test that did not pass; 2 wrong input or usage; 3 done, but files were skipped.
"""

import logging
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from trila import __version__
from trila.analysis.cli_calibration import calibrate, closure, turnon
from trila.analysis.cli_common import (
    Debug,
    Energy,
    Luminosity,
    MinFraction,
    Status,
    Style,
    StyleName,
    err,
    escaped,
    out,
    progress_bars,
    reported,
)
from trila.analysis.cli_corrections import corrections_app
from trila.analysis.cli_fits import bias, bumphunt, diagnose, fit, ftest, limit, significance
from trila.analysis.cli_provenance import explain
from trila.analysis.cli_stability import stability
from trila.analysis.cli_status import status, verify
from trila.analysis.cli_watch import watch

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Trigger-level analysis: from scouting, TLA and Turbo files to histograms, calibrations and limits.",
)
app.add_typer(corrections_app)


class ExecutorName(StrEnum):
    """Where chunks are processed."""

    local = "local"
    processes = "processes"
    dask = "dask"


class ClusterKind(StrEnum):
    """Clusters that can be started."""

    local = "local"
    slurm = "slurm"
    htcondor = "htcondor"


class Kind(StrEnum):
    """What to simulate."""

    jets = "jets"
    dimuon = "dimuon"
    dijet = "dijet"


class SimulatedFormat(StrEnum):
    """Formats that `simulate` writes."""

    cms_scouting = "cms-scouting"
    atlas_tla = "atlas-tla"


Files = Annotated[
    list[str], typer.Argument(help="ROOT files, globs, root:// URLs, .txt lists, or a fileset .yaml/.json.")
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="cms-scouting, cms-nano, atlas-tla, or a .yaml of your own; else detected."
    ),
]


OptionalFiles = Annotated[
    list[str] | None,
    typer.Argument(
        help="ROOT files, globs, root:// URLs, .txt lists, or a fileset .yaml/.json.", show_default=False
    ),
]


def _version(value: bool) -> None:
    if value:
        out.print(f"trila {__version__}")
        raise typer.Exit


def _is_for_users(record: logging.LogRecord) -> bool:
    """What distributed logs comes with tracebacks; that a scheduler or worker is lost is said in words elsewhere."""
    return not record.name.startswith("distributed") or record.levelno >= logging.CRITICAL


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.ERROR)  # distributed tells of every worker that is slow to end
        handler.addFilter(_is_for_users)
    warnings.filterwarnings(
        "ignore", module="coffea|uproot|dask|distributed"
    )  # of no use to a user; the tests see them


@app.command()
def inspect(files: Files, format: Format = None, debug: Debug = False) -> None:
    """What files hold: format, era, entries, canonical columns found and missing, triggers.

    Example: `trila inspect scouting.root`
    """
    with reported(debug):
        from trila.analysis import steps
        from trila.processors.columns import COLLECTIONS, EVENT

        for info in steps.inspect(files, format):
            layout = info.layout
            out.print(f"[bold]{escaped(info.file)}[/]")
            era = f", era {layout.era}" if layout.era else ""
            lines = {
                "format": f"{layout.table.name}{era}",
                "tree": f"{info.tree}, {info.entries} entries, {info.size / 1e6:.1f} MB, uuid {info.uuid}",
            }
            wanted = {"event": list(EVENT)} | {name: list(fields) for name, fields in COLLECTIONS.items()}
            for name, fields in wanted.items():
                found = [f for f in fields if (f if name == "event" else f"{name}.{f}") in layout.columns]
                missing = [f for f in fields if f not in found]
                label = f"{name} ({layout.sources[name]})" if name in layout.sources else name
                text = ", ".join(found) + (f"   missing: {', '.join(missing)}" if missing else "")
                lines[label] = text if found else "not there"
            triggers = sorted(
                c.removeprefix("triggers.") for c in layout.columns if c.startswith("triggers.")
            )
            shown = (
                ": " + ", ".join(triggers[:12]) + (", ..." if len(triggers) > 12 else "") if triggers else ""
            )
            lines["triggers"] = f"{len(triggers)}{shown}"
            if layout.table.note:
                lines["note"] = layout.table.note
            width = max(len(label) for label in lines) + 2
            for label, text in lines.items():
                out.print(escaped(f"{label:{width}}{text}"))


@app.command()
def simulate(
    outdir: Annotated[Path, typer.Argument(help="Folder for the files and truth.json.")],
    kind: Annotated[Kind, typer.Option(help="jets: monitoring stream; dijet, dimuon: spectra.")] = Kind.jets,
    events: Annotated[int, typer.Option(min=1, help="Events in all.")] = 100_000,
    files: Annotated[int, typer.Option(min=1, help="Files to spread them over.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 1,
    format: Annotated[
        SimulatedFormat, typer.Option("--format", help="Branch names.")
    ] = SimulatedFormat.cms_scouting,
    debug: Debug = False,
) -> None:
    """Simulated files with known truth, to try things out and to prove closure.

    Example: `trila simulate toys --kind jets --events 1000000 --files 4`
    """
    with reported(debug), progress_bars() as bars:
        from trila.analysis.simulation import simulate as make

        paths = make(
            outdir, kind=kind.value, events=events, files=files, seed=seed, format=format.value,
            progress=bars("simulating events", events),
        )  # fmt: skip
    out.print(f"{len(paths)} file{'s' if len(paths) != 1 else ''}, {events} events: {paths[0]}")
    out.print(f"truth: {outdir / 'truth.json'}")


@app.command()
def run(
    processors: Annotated[
        str | None,
        typer.Argument(
            metavar="PROCESSOR[,PROCESSOR...]",
            help="response, efficiency, dijet, dimuon, stability, module:Class; not needed with --update and --retract.",
        ),
    ] = None,
    files: OptionalFiles = None,
    result: Annotated[Path, typer.Option("-o", "--output", metavar="RESULT", help="Folder to write.")] = ...,  # type: ignore[assignment]
    config: Annotated[Path | None, typer.Option(help="Configuration, YAML.")] = None,
    format: Format = None,
    lumi_mask: Annotated[str | None, typer.Option(help="Certified luminosity blocks, JSON.")] = None,
    corrections: Annotated[
        str | None, typer.Option(help="correctionlib file for the dijet spectrum.")
    ] = None,
    max_events: Annotated[
        int | None, typer.Option(min=1, help="Of each dataset, in the order of its files.")
    ] = None,
    entries: Annotated[
        str | None,
        typer.Option(metavar="LO:HI", help="Of one file: these entries alone, to look into a fault."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Add files that are new to an earlier RESULT, and those given.")
    ] = False,
    retract: Annotated[
        list[str],
        typer.Option(
            metavar="FILE|RUN:LB-LB",
            help="Take a file or luminosity blocks out of an earlier RESULT; repeatable.",
        ),
    ] = [],
    executor: Annotated[ExecutorName, typer.Option(help="Where to work.")] = ExecutorName.local,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes or jobs; default: one a core.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, tcp://...")] = None,
    cluster: Annotated[
        ClusterKind | None,
        typer.Option(help="Start a Dask cluster; the section cluster of --config says more."),
    ] = None,
    chunk_size: Annotated[
        int | None, typer.Option(min=1, help="Events at a time; default: what 1.5 GB a worker allow.")
    ] = None,
    skip_bad_files: Annotated[
        bool, typer.Option("--skip-bad-files", help="Go on without them; exit code 3.")
    ] = False,
    check_duplicates: Annotated[
        bool, typer.Option("--check-duplicates", help="Refuse events that are in the input more than once.")
    ] = False,
    no_pairs: Annotated[
        bool, typer.Option("--no-pairs", help="Do not write the table of tag-and-probe pairs.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Run processors over files in one pass over the data, and write RESULT; what earlier runs did is not done again.

    Examples:

    `trila run response,dijet,dimuon monitoring_*.root -o result`

    `trila run dijet data.yaml -o result --lumi-mask golden.json --cluster slurm --workers 50`

    `trila run --update -o result`

    `trila run --retract 362439:10-25 -o result`
    """
    with reported(debug):
        from trila.analysis import steps
        from trila.processors.errors import InputError

        shared: dict[str, Any] = {
            "executor": executor.value, "workers": workers, "scheduler": scheduler, "cluster": cluster and cluster.value,
            "chunk_size": chunk_size, "skip_bad_files": skip_bad_files, "check_duplicates": check_duplicates,
            "command": ["trila", *sys.argv[1:]],
        }  # fmt: skip
        given = [*([] if processors is None else [processors]), *(files or [])]
        with progress_bars() as bars:
            if update or retract:
                named, more = steps.split_processors(given)
                _only_for_new_runs(config=config, format=format, lumi_mask=lumi_mask, corrections=corrections,
                                   max_events=max_events, entries=entries, no_pairs=no_pairs or None)  # fmt: skip
                outcome = steps.update(
                    result, files=more, retract=retract, processors=named, progress=bars, **shared
                )
            else:
                if len(given) < 2:
                    raise InputError("give PROCESSOR[,PROCESSOR...] and FILES, or --update or --retract")
                outcome = steps.run(
                    given[0].split(","), given[1:], result, config=config, format=format, lumi_mask=lumi_mask,
                    corrections=corrections, max_events=max_events, entries=steps.entry_range(entries), pairs=not no_pairs,
                    progress=bars, **shared,
                )  # fmt: skip
    _print_result(outcome)
    if outcome.skipped:
        raise typer.Exit(3)


def _only_for_new_runs(**options: Any) -> None:
    from trila.processors.errors import InputError

    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"--{name.replace('_', '-')} is for a new run; --update and --retract go on as the earlier run began"
            )


def _print_result(outcome: Any) -> None:
    manifest = outcome.result.manifest
    for note in manifest["notes"]:
        err.print(f"[yellow]note:[/] {escaped(note)}")
    for dataset, processors in outcome.result.cutflow.items():
        for name, rows in processors.items():
            table = Table(
                "cut", "events", "sum of weights", title=f"{name}, dataset {dataset}", title_justify="left"
            )
            for row in rows:
                table.add_row(escaped(row["cut"]), str(row["events"]), f"{row['sumw']:.6g}")
            out.print(table)
    done = sum(item["status"] != "skipped" for item in manifest["inputs"])
    events = sum(item["processed"] for item in manifest["inputs"])
    out.print(
        f"{events} events of {done} file{'s' if done != 1 else ''}, {len(outcome.result.histograms)} histograms: "
        f"{outcome.result.path}"
    )
    for file, reason in outcome.skipped.items():
        err.print(f"[bold yellow]skipped[/] {escaped(file)}: {escaped(reason)}")


@app.command()
def plot(
    product: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT|FILE.json", help="RESULT of `trila run`, or what a fit or search left."
        ),
    ],
    outdir: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the plots.")],
    overlay: Annotated[
        list[str],
        typer.Option(metavar="FILE[:COLUMN]", help="Published limits to draw over limits; repeatable."),
    ] = [],
    theory: Annotated[
        Path | None, typer.Option(metavar="TABLE.csv", help="Predictions mass,g,sigma to draw over limits.")
    ] = None,
    log_x: Annotated[
        bool | None, typer.Option("--log-x/--lin-x", help="Mass axis of fits and searches.")
    ] = None,
    simulation: Annotated[
        bool, typer.Option("--simulation", help="Label a fit or search as of simulation.")
    ] = False,
    style: Style = StyleName.cms,
    label: Status = "Private work",
    com: Energy = None,
    lumi: Luminosity = None,
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """Every plot that a result, a fit or a search allows, as PNG and PDF.

    Example: `trila plot result -o plots --style cms`, `trila plot limits.json -o plots`
    """
    with reported(debug):
        if product.is_file():
            from trila.analysis.plots_products import draw

            paths = draw(
                product, outdir, style=style.value, label=label, is_data=not simulation, com=com, lumi=lumi, log_x=log_x,
                overlays=overlay, theory=theory,
            )  # fmt: skip
        else:
            from trila.analysis import steps

            paths = steps.plot(
                product, outdir, style=style.value, label=label, com=com, lumi=lumi, min_fraction=min_fraction
            )
    out.print(f"{len(paths)} files: {outdir}")


@app.command()
def demo(
    outdir: Annotated[Path, typer.Argument(help="Folder for data, results and plots.")], debug: Debug = False
) -> None:
    """The whole chain on simulated data: simulate, run, calibrate, close, plot.

    Example: `trila demo demo`
    """
    with reported(debug):
        from trila.analysis.demo import demo as make

        with progress_bars() as bars:
            plots = make(outdir, progress=bars, say=lambda text: out.print(text))
    out.print(f"[bold]Look at the plots in[/] {plots}")


for command in (
    watch, status, verify, explain, calibrate, closure, turnon, stability, fit, ftest, bumphunt, limit, significance, bias, diagnose,
):  # fmt: skip
    app.command()(command)


def main() -> None:
    """Entry point of the command `trila`."""
    app()
