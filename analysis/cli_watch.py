"""The command `trila watch`."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from trila.analysis.cli_common import (
    Debug,
    Energy,
    Luminosity,
    Status,
    Style,
    StyleName,
    err,
    escaped,
    out,
    reported,
)

__all__ = ["watch"]


def watch(
    fileset: Annotated[
        list[str],
        typer.Argument(help="Folders, globs, root:// URLs, .txt lists, or a fileset .yaml/.json to follow."),
    ],
    result: Annotated[
        Path, typer.Option("-o", "--output", metavar="RESULT", help="Folder to keep up to date.")
    ],
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Time between looks.")] = 10.0,
    then: Annotated[
        str | None,
        typer.Option(
            metavar="STEP[,STEP...]",
            help="After each update: calibrate, closure, turnon, stability, fit, limit, significance; options from the "
            "section watch of --config.",
        ),
    ] = None,
    processors: Annotated[
        str | None,
        typer.Option(
            metavar="PROCESSOR[,PROCESSOR...]",
            help="Default: those of an earlier RESULT, or response,dijet,stability.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Configuration, YAML, with options of --then in its section watch.")
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="Format of the files; else detected.")
    ] = None,
    lumi_mask: Annotated[str | None, typer.Option(help="Certified luminosity blocks, JSON.")] = None,
    corrections: Annotated[
        str | None, typer.Option(help="correctionlib file for the dijet spectrum.")
    ] = None,
    patience: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="After so long without a change, a file that is not whole is reported."
        ),
    ] = 600.0,
    port: Annotated[int, typer.Option(help="Of the page on localhost; default: any free one.")] = 0,
    once: Annotated[
        bool, typer.Option("--once", help="Look twice, update, and end, without a page.")
    ] = False,
    executor: Annotated[Literal["local", "processes", "dask"], typer.Option(help="Where to work.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes or jobs; default: one a core.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, tcp://...")] = None,
    cluster: Annotated[
        Literal["local", "slurm", "htcondor"] | None,
        typer.Option(help="Start a Dask cluster for each update; a --scheduler starts faster."),
    ] = None,
    chunk_size: Annotated[int | None, typer.Option(min=1, help="Events at a time.")] = None,
    style: Style = StyleName.cms,
    label: Status = "Private work",
    com: Energy = None,
    lumi: Luminosity = None,
    debug: Debug = False,
) -> None:
    """Follow files as they arrive, keep RESULT and its plots up to date, and show them on a page on localhost.

    Goes on where it stood when it is started again. Ctrl-C and SIGTERM end it, with exit code 0.

    Example: `trila watch /data/incoming -o result --then calibrate,stability`
    """
    with reported(debug):
        from trila.analysis.live_page import LivePage
        from trila.analysis.watching import Watch, Wish

        how = {
            "executor": executor, "workers": workers, "scheduler": scheduler, "cluster": cluster, "chunk_size": chunk_size,
        }  # fmt: skip
        wish = Wish(
            inputs=tuple(fileset), result=result, processors=_names(processors), then=_names(then), every=every,
            patience=patience, config=config, format=format, lumi_mask=lumi_mask, corrections=corrections,
            how={name: value for name, value in how.items() if value is not None},
            style={"style": style.value, "label": label, "com": com, "lumi": lumi}, command=("trila", *sys.argv[1:]),
        )  # fmt: skip
        with _ended_by_signals(), Watch(wish, tell=_tell, complain=_complain) as found:
            if once:
                found.once()
                code = 2 if found.failed else 3 if found.skipped else 0
                raise typer.Exit(code)
            with LivePage(found.state.shown, found.plots, port) as page:
                _tell(f"{page.url} shows {result}; Ctrl-C ends")
                found.run()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM are how a watch ends: no error."""

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        _tell("ended; the same command goes on from here")
    finally:
        signal.signal(signal.SIGTERM, before)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split(","))) if text else ()


def _tell(text: str) -> None:
    out.print(escaped(text))
    sys.stdout.flush()


def _complain(about: str, message: str) -> None:
    where = f"{escaped(about)}: " if about else ""
    err.print(f"[bold yellow]error:[/] {where}{escaped(message)}")
