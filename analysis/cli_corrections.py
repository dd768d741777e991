"""The command `trila corrections`: show, check and convert files of jet corrections."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trila.analysis.cli_common import Debug, escaped, out, reported

if TYPE_CHECKING:
    from trila.corrections.check import Finding
    from trila.corrections.contents import Entry, Input

__all__ = ["corrections_app"]

corrections_app = typer.Typer(
    name="corrections",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Show, check and convert jet corrections.",
)

Files = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="correctionlib files, .json or .json.gz.")
]


@corrections_app.command()
def show(files: Files, debug: Debug = False) -> None:
    """What files hold: corrections, their inputs with unit and range, systematics, how they were made.

    Example: `trila corrections show corrections.json.gz`
    """
    with reported(debug):
        from trila.corrections.contents import entries, metadata
        from trila.corrections.correction_set import read

        for file in files:
            corrections = read(file)
            out.print(f"[bold]{escaped(file)}[/]")
            for key, value in metadata(corrections).items():
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                out.print(escaped(f"{key}: {text}"))
            for entry in entries(corrections):
                _print_entry(entry)


def _print_entry(entry: "Entry") -> None:
    """The name, what is said about it, and a line for each input, in columns."""
    out.print(f"\n[bold]{escaped(entry.name)}[/]")
    lines = [entry.description]
    if entry.stack:
        lines.append(f"applies in turn: {', '.join(entry.stack)}")
    rows = [_row(item) for item in entry.inputs]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(f"{text:{w}}" for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    for line in filter(None, lines):
        out.print(escaped(f"  {line}"))


def _row(item: "Input") -> tuple[str, str, str, str]:
    if item.keys:
        values = ", ".join(map(str, item.keys))
    elif math.isnan(item.low):
        values = "no bins"
    else:
        values = f"{item.low:g} to {item.high:g}, beyond: {' or '.join(item.outside)}"
    return item.name, item.type, values, item.description


@corrections_app.command()
def check(files: Files, debug: Debug = False) -> None:
    """What is wrong with files: schema, gaps, extrapolation, NaN, names of systematics, stacks.

    Exit code 0 if there is no problem, 1 if there is, 2 if a file cannot be read or evaluated.

    Example: `trila corrections check corrections.json.gz`
    """
    code = 0
    for file in files:
        try:
            with reported(debug):
                from trila.corrections.check import check as findings_of

                findings = findings_of(file)
        except typer.Exit as failed:
            code = max(code, failed.exit_code)
            continue
        problems = sum(finding.problem for finding in findings)
        code = max(code, 1 if problems else 0)
        out.print(f"[bold]{escaped(file)}[/]: {problems} problem{'' if problems == 1 else 's'}")
        _print_findings(findings)
    if code:
        raise typer.Exit(code)


def _print_findings(findings: "list[Finding]") -> None:
    """Problems first; what holds for many corrections is said once."""
    grouped: dict[tuple[bool, str], list[str]] = {}
    for finding in sorted(findings, key=lambda finding: not finding.problem):
        grouped.setdefault((finding.problem, finding.text), []).append(finding.correction)
    for (problem, text), names in grouped.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        label = "[bold red]problem[/]" if problem else "[yellow]note[/]"
        out.print(f"{label} {escaped(names[0])}{others}: {escaped(text)}")


@corrections_app.command()
def convert(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="CMS text files: JEC, resolutions, scale factors, uncertainties."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="File to write, .json.gz or .json.")
    ] = Path("jet_jerc.json.gz"),
    tag: Annotated[
        str | None, typer.Option(help="Campaign and version in the names; default: that of the files' names.")
    ] = None,
    debug: Debug = False,
) -> None:
    """CMS text files to one correctionlib file, with the names that CMS and coffea use.

    Example: `trila corrections convert Summer22_V3_MC_*.txt -o jet_jerc.json.gz`
    """
    with reported(debug):
        from trila.corrections import correction_set
        from trila.corrections.cms_convert import convert as converted

        corrections = converted(files, tag)
        correction_set.write(corrections, output)
    for compound in corrections.compound_corrections:
        out.print(f"compound {escaped(compound.name)}")
    out.print(
        f"{len(files)} file{'s' if len(files) != 1 else ''}, {len(corrections.corrections)} corrections: "
        f"{escaped(output)}"
    )
