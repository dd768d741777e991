"""The commands around the ledger of a RESULT: `trila status`, `verify`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from trila.analysis.cli_common import Debug, err, escaped, out, progress_bars, reported

__all__ = ["status", "verify"]

Result = Annotated[
    Path, typer.Argument(metavar="RESULT", help="Folder of `trila run`, also while it goes on.")
]
_SHOWN = 20


def status(
    result: Result,
    luminosity: Annotated[
        str | None,
        typer.Option(metavar="FILE.csv", help="brilcalc lumi --byls: recorded luminosity of each block."),
    ] = None,
    lumi_mask: Annotated[
        str | None, typer.Option(help="Blocks that were to be processed, JSON; else all of the CSV.")
    ] = None,
    prescales: Annotated[
        str | None, typer.Option(metavar="FILE.csv", help="brilcalc trg --prescale.")
    ] = None,
    trigger: Annotated[
        list[str], typer.Option(metavar="NAME", help="For the effective luminosity; repeatable.")
    ] = [],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Folder for a plot of the luminosity."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """How far a RESULT is: files, units and events done and lost, and the luminosity that they are.

    Example: `trila status result --luminosity brilcalc.csv --lumi-mask golden.json`
    """
    with reported(debug):
        from trila.analysis.status import status as read
        from trila.processors.errors import InputError

        found = read(result)
        account = None
        if luminosity is not None:
            from trila.analysis.luminosity import account as count

            account = count(
                result, mask=lumi_mask, luminosity=luminosity, prescales=prescales, triggers=trigger
            )
        elif lumi_mask or prescales or trigger or output:
            raise InputError("--lumi-mask, --prescales, --trigger and --output need --luminosity")
        if as_json:
            content = found.as_json() | ({} if account is None else {"luminosity": account.as_json()})
            out.print_json(json.dumps(content))
            return
        _print(found)
        if account is not None:
            _print_luminosity(account.as_json())
            if output is not None:
                from trila.analysis.plots_luminosity import plot_luminosity

                out.print(f"{len(plot_luminosity(account, output))} files: {output}")


def _print(found: Any) -> None:
    last = found.runs[-1] if found.runs else None
    if last is not None:
        ended = f", ended {last.end}" if last.end else ""
        out.print(escaped(f"{found.path}: {last.outcome} (begun {last.begin}{ended}, {last.where})"))
    complete = "complete" if found.complete else "not complete: the same command goes on"
    out.print(f"products: {complete}; ledger {found.size / 1e6:.1f} MB, {len(found.runs)} runs")
    table = Table("dataset", "files done", "empty", "to do", "skipped", "events", "planned", "fraction")
    for name, share in found.fractions.items():
        files = found.counts(name)
        counts = [str(files.get(status, 0)) for status in ("done", "empty", "planned", "skipped")]
        waiting = sum(
            row.last - row.first for row in found.files if row.dataset == name and row.status == "planned"
        )
        table.add_row(
            escaped(name),
            *counts,
            str(share.done),
            str(share.planned + waiting),
            f"{100 * share.fraction:.4g}%",
        )
    out.print(table)
    out.print("units: " + (", ".join(f"{count} {status}" for status, count in found.units.items()) or "none"))
    if found.retracted:
        out.print(escaped(f"retracted: {', '.join(found.retracted[:_SHOWN])}"))
    skipped = [row for row in found.files if row.status == "skipped"]
    for row in skipped[:_SHOWN]:
        out.print(f"[bold yellow]skipped[/] {escaped(row.file)}: {escaped(row.reason)}")
    if len(skipped) > _SHOWN:
        out.print(f"... and {len(skipped) - _SHOWN} more (--json lists them)")
    for time, file, start, stop, source, kind, reason in found.attempts:
        span = "" if start is None else f", entries {start} to {stop}"
        at = "" if source == file else f" at {source}"
        out.print(escaped(f"failed try {time} ({kind}): {file}{at}{span}: {reason}"))


def _print_luminosity(account: dict[str, Any]) -> None:
    out.print_json(json.dumps(account))


def verify(result: Result, debug: Debug = False) -> None:
    """Check a RESULT: digests, the ledger, sums of partial results, and the input; exit code 1 if something is wrong.

    Example: `trila verify result`
    """
    with reported(debug):
        from trila.analysis.verification import verify as check

        with progress_bars() as bars:
            checks = check(result, bars)
        for one in checks:
            verdict = "[green]good[/]" if not one.faults else f"[bold red]{len(one.faults)} faults[/]"
            out.print(f"{one.name}: {one.checked} checked, {verdict}")
            for fault in one.faults[:_SHOWN]:
                err.print(f"  {escaped(fault)}")
    if any(one.faults for one in checks):
        raise typer.Exit(1)
