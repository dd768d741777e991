"""The commands around calibrations: `trila calibrate`, `closure`, `turnon`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

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

__all__ = ["calibrate", "closure", "turnon"]


def calibrate(
    result: Annotated[Path, typer.Argument(help="RESULT of `trila run response`.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="CALIBRATION.json.gz", help="correctionlib file to write."),
    ],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: levels, binning, estimator, runs.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for plots and calibration.json.")
    ] = None,
    style: Style = StyleName.cms,
    label: Status = "Private work",
    com: Energy = None,
    lumi: Luminosity = None,
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """HLT-to-offline jet calibration from the pairs of a result, as a correctionlib file.

    Half of the events are left for its closure.

    Example: `trila calibrate result -o calibration.json.gz --report calibration`
    """
    with reported(debug):
        from trila.analysis.calibration import calibrate as make
        from trila.analysis.calibration_config import load_calibration_config

        with progress_bars() as bars:
            outcome = make(
                result, output, config=load_calibration_config(config), report=report, progress=bars,
                style={"style": style.value, "label": label, "com": com, "lumi": lumi}, min_fraction=min_fraction,
            )  # fmt: skip
    for note in outcome.notes:
        err.print(f"[yellow]note:[/] {escaped(note)}")
    table = Table("eta", "raw pT [GeV]", "knots", "chi2 / ndof", "largest uncertainty")
    for region in outcome.summary["regions"]:
        curve = region["curve"]
        eta = f"{region['eta'][0]:g} to {region['eta'][1]:g}"
        if curve is None:
            table.add_row(eta, "no calibration")
            continue
        name, size = max(curve["largest_change"].items(), key=lambda item: item[1])
        table.add_row(
            eta, f"{curve['pt_range'][0]:.0f} to {curve['pt_range'][1]:.0f}", str(len(curve["knots"])),
            f"{curve['chi2']:.1f} / {curve['ndof']}", f"{name} {100 * size:.2f}%",
        )  # fmt: skip
    out.print(table)
    out.print(f"{outcome.summary['pairs']} pairs, {outcome.summary['iterations']} passes: {outcome.path}")
    if outcome.plots:
        out.print(f"{len(outcome.plots)} plots: {report}")


def closure(
    result: Annotated[Path, typer.Argument(help="RESULT of `trila run response`.")],
    corrections: Annotated[
        Path, typer.Option(metavar="CALIBRATION.json.gz", help="File that `trila calibrate` made.")
    ],
    outdir: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for closure.json and plots.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Print bins that are not tested, too.")] = False,
    style: Style = StyleName.cms,
    label: Status = "Private work",
    com: Energy = None,
    lumi: Luminosity = None,
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """Closure of a calibration on the half of the pairs that it was not derived from.

    Exit code 0 if it closes; 1 if a bin fails, or none can be tested.

    Example: `trila closure result --corrections calibration.json.gz -o closure`
    """
    with reported(debug):
        from trila.analysis.closure import closure as test

        with progress_bars() as bars:
            found = test(
                result, corrections, outdir, progress=bars,
                style={"style": style.value, "label": label, "com": com, "lumi": lumi}, min_fraction=min_fraction,
            )  # fmt: skip
    _print_closure(found, every)
    if found.paths:
        out.print(f"{len(found.paths)} files: {outdir}")
    if not found.passed:
        raise typer.Exit(1)


def _print_closure(found: Any, every: bool) -> None:
    # lines that are too long for a terminal are better than the columns of a table cut off
    lines = [("variable", "eta", "pT [GeV]", "bin", "pairs", "closure [%]", "error", "limit", "pull", "")]
    for row in found.rows:
        if every or row.tested:
            ranges = [f"{r[0]:.6g} to {r[1]:.6g}" if r else "" for r in (row.eta, row.pt, row.other)]
            numbers = [f"{row.entries:.0f}", f"{100 * row.closure:.2f}", f"{100 * row.error:.2f}"]
            limit = "" if row.limit is None else f"{100 * row.limit:g}"
            verdict = {True: "passed", False: "FAILED", None: row.reason}[row.passed]
            lines.append((row.variable, *ranges, *numbers, limit, f"{row.pull:.1f}", verdict))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    out.print(escaped(found.summary["definition"]))
    for line in lines:
        style = "bold red" if line[-1] == "FAILED" else None
        text = "  ".join(f"{part:{width}}" for part, width in zip(line, widths, strict=True))
        out.print(escaped(text.rstrip()), style=style)
    summary = found.summary
    pairs = summary["pairs"]
    out.print(f"{pairs['used']} pairs of the second half of the events")
    for key, text in (
        ("left_out", "left out: a pT not above zero, or a pile-up or an area that is no number"),
        ("eta_without_calibration", "left out, at an eta that has no calibration"),
        (
            "beyond_range_of_pt",
            "of them beyond the range of pT of the calibration: they get the factor at its end",
        ),
    ):
        if pairs[key]:
            out.print(f"  {pairs[key]} {text}")
    out.print(f"{sum(summary['not_tested'].values())} bins are not tested")
    for reason, number in summary["not_tested"].items():
        out.print(f"  {number}: {reason}")
    for words in summary["limits_not_tested"]:
        out.print(f"[yellow]no bin of tag or particle-level pT tests the limit of[/] {words}")
    if not summary["tested"]:
        out.print("[bold red]failed:[/] no bin can be tested; use more data")
        return
    verdict = "[bold green]passed[/]" if found.passed else "[bold red]failed[/]"
    out.print(
        f"{verdict}: {summary['failed']} of {summary['tested']} bins are beyond their limit by more than "
        f"{found.z:.2f} errors"
    )


def turnon(
    result: Annotated[Path, typer.Argument(help="RESULT of `trila run efficiency`.")],
    outdir: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Folder to write; default: RESULT/turnon."),
    ] = None,
    trigger: Annotated[
        list[str] | None, typer.Option("--trigger", metavar="NAME", help="Only this one; may be repeated.")
    ] = None,
    style: Style = StyleName.cms,
    label: Status = "Private work",
    com: Energy = None,
    lumi: Luminosity = None,
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """Fitted trigger turn-ons: thresholds and plateaus as JSON, curves as PNG and PDF.

    Example: `trila turnon result -o turnon`
    """
    with reported(debug):
        from trila.analysis.turnon import turnon as make

        with progress_bars() as bars:
            outcome = make(
                result, outdir, triggers=trigger or (), style=style.value, label=label, com=com, lumi=lumi,
                progress=bars, min_fraction=min_fraction,
            )  # fmt: skip
    width = max(len(entry["trigger"]) for entry in outcome.turn_ons)
    out.print(f"{'trigger':{width}}  variable    method      99% at [GeV]     status")
    for entry in outcome.turn_ons:
        at = entry["points"]["99%"]
        value = "" if at["value"] is None else f"{at['value']:.1f} ± {at['error']:.1f}"
        line = f"{entry['trigger']:{width}}  {entry['variable']:10}  {entry['method']:10}  {value:15}  {entry['status']}"
        out.print(escaped(line))
    out.print(f"{len(outcome.turn_ons)} turn-ons, {len(outcome.figures)} figures: {outcome.path}")
