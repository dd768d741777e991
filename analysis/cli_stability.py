"""The command `trila stability`."""

from pathlib import Path
from typing import Annotated

import typer

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
    reported,
)

__all__ = ["stability"]


def stability(
    result: Annotated[Path, typer.Argument(help="RESULT of `trila run stability`.")],
    outdir: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for stability.json and the plots.")
    ],
    entries: Annotated[
        float, typer.Option(help="Probes, or muon pairs above the background, that a run must have.")
    ] = 200.0,
    block_seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Length of a luminosity block, for rates in Hz; CMS: 23.31."),
    ] = None,
    style: Style = StyleName.cms,
    label: Status = "Private work",
    com: Energy = None,
    lumi: Luminosity = None,
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """Response, resolution, resonance masses and trigger rates by run, and the runs at which they step.

    Example: `trila stability result -o stability`
    """
    with reported(debug):
        from trila.analysis.stability import stability as measure

        found, paths = measure(
            result, outdir, entries=entries, block_seconds=block_seconds,
            style={"style": style.value, "label": label, "com": com, "lumi": lumi}, min_fraction=min_fraction,
        )  # fmt: skip
    for one in found:
        points = one.points
        left_out = f", {len(points.left_out)} left out" if points.left_out else ""
        out.print(f"[bold]{escaped(points.name)}[/]: {points.runs.size} runs{left_out}")
        unit = f" {points.unit}" if points.unit else ""
        for change in one.changes:
            out.print(
                f"  from run {change.run} on {change.after:.6g}{unit} instead of {change.before:.6g}, "
                f"{change.significance:.1f} standard deviations"
            )
    if not found:
        err.print("[yellow]note:[/] no run has enough entries for any series; --entries asks for fewer")
    out.print(f"{len(paths)} files: {escaped(outdir)}")
