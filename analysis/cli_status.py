"""The commands around the ledger of a RESULT: `trila status`, `verify`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from trila.analysis.cli_common import Debug, err, escaped, out, progress_bars, reported

__all__ = ["status", "verify"]

Result = Annotated[
    Path, typer.Argument(metavar="RESULT", help="Folder of `trila run`, also while it goes on.")
]
#: Lines or ranges of blocks that are shown of each list.
_SHOWN = 20
_TO_DO = {"planned": "to do"}


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
            _print_luminosity(account)
            if output is not None:
                from trila.analysis.plots_luminosity import plot_luminosity

                out.print(f"{len(plot_luminosity(account, output))} files: {output}")


def _print(found: Any) -> None:
    last = found.runs[-1] if found.runs else None
    if last is not None:
        ended = f", ended {last.end}" if last.end else ""
        out.print(escaped(f"{found.path}: {last.outcome} (begun {last.begin}{ended}, {last.where})"))
    going_on = last is not None and last.outcome == "running"
    remedy = "a run is going on" if going_on else "the same command goes on"
    complete = "complete" if found.complete else f"not complete: {remedy}"
    out.print(f"products: {complete}; ledger {found.size / 1e6:.1f} MB, {_number(len(found.runs), 'run')}")
    table = Table("dataset", "files done", "empty", "to do", "skipped", "events", "planned", "fraction")
    for name, share in found.fractions.items():
        files = found.counts(name)
        counts = [str(files.get(status, 0)) for status in ("done", "empty", "planned", "skipped")]
        fraction = f"{100 * share.fraction:.4g}%"
        table.add_row(escaped(name), *counts, str(share.done), str(share.planned), fraction)
    out.print(table)
    units = ", ".join(f"{count} {_TO_DO.get(status, status)}" for status, count in found.units.items())
    out.print(f"units: {units or 'none'}")
    if found.retracted:
        out.print(escaped(f"retracted: {_shortened(found.retracted)}"))
    skipped = [row for row in found.files if row.status == "skipped"]
    for row in skipped[:_SHOWN]:
        out.print(f"[bold yellow]skipped[/] {escaped(row.file)}: {escaped(row.reason)}")
    if len(skipped) > _SHOWN:
        out.print(f"... and {len(skipped) - _SHOWN} more (--json lists them)")
    for time, file, start, stop, source, kind, reason in found.attempts:
        span = "" if start is None else f", entries {start} to {stop}"
        at = "" if source == file else f" at {source}"
        out.print(escaped(f"failed try {time} ({kind}): {file}{at}{span}: {reason}"))


def _print_luminosity(account: Any) -> None:
    planned, seen = account.planned, account.seen
    share = "" if account.fraction is None else f", {100 * account.fraction:.4g}%"
    out.print(
        f"luminosity: {seen.recorded:.6g} of {planned.recorded:.6g} /pb recorded were seen{share} "
        f"({seen.blocks} of {_number(planned.blocks, 'block')}, {_number(len(account.runs.run), 'run')}; delivered "
        f"{seen.delivered:.6g} of {planned.delivered:.6g} /pb)"
    )
    for words, mask in (
        ("not seen, but planned", account.not_seen),
        ("in the mask, without a luminosity", account.mask_without_luminosity),
        ("seen, without a luminosity", account.seen_without_luminosity),
        ("seen outside of the mask, whose events a run with it drops", account.seen_outside_mask),
    ):
        _print_blocks(words, mask)
    effective = dict(account.triggers)
    if account.any_trigger is not None:
        effective["any of them"] = account.any_trigger
    width = max(map(len, effective), default=0)
    if effective:
        out.print("effective luminosity after prescales:")
    for name, one in effective.items():
        out.print(f"  {escaped(f'{name:{width}}')}  {one.seen:.6g} of {one.planned:.6g} /pb")
        _print_blocks(f"  {name}: without a known prescale, counted as nothing", one.without_prescale)
    for seed, names in account.shared_seeds.items():
        text = (
            f"  {', '.join(names)} share the prescaled seed {seed}: that of any of them is an approximation"
        )
        out.print(escaped(text))


def _print_blocks(words: str, mask: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    blocks = [(run, *pair) for run, pairs in mask.items() for pair in pairs]
    if blocks:
        number = sum(last - first + 1 for _, first, last in blocks)
        texts = [f"{run}:{first}" + (f"-{last}" if last > first else "") for run, first, last in blocks]
        out.print(escaped(f"{words}: {_number(number, 'block')} ({_shortened(texts)})"))


def _shortened(texts: Sequence[str]) -> str:
    more = f", ... and {len(texts) - _SHOWN} more; --json lists them" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def verify(result: Result, debug: Debug = False) -> None:
    """Check a RESULT: digests, the ledger, sums of partial results, and the input; exit code 1 if something is wrong.

    Example: `trila verify result`
    """
    with reported(debug):
        from trila.analysis.verification import verify as check

        with progress_bars() as bars:
            checks = check(result, bars)
        for one in checks:
            verdict = (
                "[green]good[/]" if not one.faults else f"[bold red]{_number(len(one.faults), 'fault')}[/]"
            )
            out.print(f"{one.name}: {one.checked} checked, {verdict}")
            for fault in one.faults[:_SHOWN]:
                err.print(f"  {escaped(fault)}")
            if len(one.faults) > _SHOWN:
                err.print(f"  ... and {len(one.faults) - _SHOWN} more")
    if any(one.faults for one in checks):
        raise typer.Exit(1)
