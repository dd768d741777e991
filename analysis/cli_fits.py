"""The commands around fits of spectra: `trila fit`, `ftest`, `limit`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from trila.analysis.cli_common import Debug, err, escaped, out, reported

__all__ = ["fit", "ftest", "limit"]

Spectrum = Annotated[
    str,
    typer.Argument(
        metavar="SPECTRUM", help="RESULT:NAME, FILE.root:NAME, FILE.zip:NAME, or a file .json, .yaml, .csv."
    ),
]
Function = Annotated[
    str,
    typer.Option(
        "--function",
        help="Background: dijet4, ua2-5, modexp4, bernstein3, ..., expr:EXPRESSION, FILE.py:NAME.",
    ),
]
Range = Annotated[str, typer.Option("--range", metavar="LO:HI", help="Fit range, GeV.")]
Sqrts = Annotated[float, typer.Option("--sqrts", metavar="GEV", help="Collision energy, GeV.")]
Columns = Annotated[
    str | None, typer.Option(help="Columns of a table, such as low=xmin,high=xmax,count=N; per=GeV.")
]
Rebin = Annotated[
    str | None, typer.Option(metavar="standard|EDGES", help="Merge bins: CMS dijet edges, a list, or a file.")
]
Blind = Annotated[
    list[str], typer.Option(metavar="LO:HI", help="Window that nobody may look at, GeV; repeatable.")
]
Veto = Annotated[
    list[str],
    typer.Option(metavar="LO:HI", help="Window that fits leave out, such as a resonance, GeV; repeatable."),
]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE.json", help="JSON file to write.")]
SignalShape = Annotated[
    str, typer.Option("--signal", help="gauss:WIDTH, dcb:FILE.yaml, resolution:a,b, or a file of templates.")
]
Masses = Annotated[str, typer.Option("--masses", metavar="LO:HI:STEP|LIST", help="Masses of the scan, GeV.")]
Sources = Annotated[
    list[str],
    typer.Option(
        "--uncertainty",
        metavar="SOURCE=SIZE",
        help="scale, resolution, luminosity, spurious, ...; repeatable.",
    ),
]
Window = Annotated[
    float | None, typer.Option(metavar="K", help="Fit windows of K signal widths on both sides of each mass.")
]


class Family(StrEnum):
    """Nested functions."""

    dijet = "dijet"
    ua2 = "ua2"
    modexp = "modexp"
    polyext = "polyext"
    bernstein = "bernstein"
    exppoly = "exppoly"
    legendre = "legendre"


class CheckName(StrEnum):
    """Which masses Minuit fits again."""

    all = "all"
    sample = "sample"
    none = "none"


def _notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        err.print(f"[yellow]note:[/] {escaped(note)}")


def _given(
    spectrum: str,
    range: str,
    sqrts: float,
    columns: str | None,
    rebin: str | None,
    blind: list[str],
    veto: list[str],
) -> Any:
    from trila.analysis.fit_inputs import prepared

    return prepared(spectrum, range=range, sqrt_s=sqrts, columns=columns, rebin=rebin, blind=blind, veto=veto)


def fit(
    spectrum: Spectrum,
    function: Function,
    range: Range,
    output: Output,
    sqrts: Sqrts = 13000.0,
    columns: Columns = None,
    rebin: Rebin = None,
    blind: Blind = [],
    veto: Veto = [],
    debug: Debug = False,
) -> None:
    """Fit a smooth function to a spectrum.

    Example: `trila fit result:dijet.mass --rebin standard --function dijet4 --range 489:2037 -o fit.json`
    """
    with reported(debug):
        from trila.analysis import fitting

        given = _given(spectrum, range, sqrts, columns, rebin, blind, veto)
        outcome = fitting.fit(given, function, output)
        _notes(outcome.notes)
        content = outcome.content
        out.print(
            f"{content['function']}: chi2 {content['chi2']['deviance']:.1f} for {content['ndof']} degrees of freedom, "
            f"p-value {content['p_value']:.3g}"
        )
        errors = [content["covariance"][i][i] ** 0.5 for i, _ in enumerate(content["values"])]
        for name, value, error in zip(content["parameters"], content["values"], errors, strict=True):
            out.print(f"  {escaped(name)} = {value:.6g} +- {error:.2g}")
        out.print(f"{output}")


def ftest(
    spectrum: Spectrum,
    family: Annotated[Family, typer.Option(help="Functions to compare.")],
    range: Range,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.json", help="JSON file to write.")
    ] = None,
    sqrts: Sqrts = 13000.0,
    columns: Columns = None,
    rebin: Rebin = None,
    blind: Blind = [],
    veto: Veto = [],
    debug: Debug = False,
) -> None:
    """How many parameters the background needs.

    Example: `trila ftest result:dijet.mass --rebin standard --family dijet --range 489:2037`
    """
    with reported(debug):
        from trila.analysis import fitting

        given = _given(spectrum, range, sqrts, columns, rebin, blind, veto)
        found, _ = fitting.ftest(given, family.value, output)
        table = Table("function", "chi2 / ndof", "p-value", "F against the next", "p-value of F")
        steps = {test.simple: test for test in found.tests}
        for name, one in found.fits.items():
            step = steps.get(name)
            table.add_row(
                name, f"{one.deviance[0]:.1f} / {one.ndof[0]}", f"{one.p_value[0]:.3g}",
                f"{step.f:.2f}" if step else "", f"{step.p_value:.3g}" if step else "",
            )  # fmt: skip
        out.print(table)
        for name, reason in found.failed.items():
            err.print(f"[yellow]note:[/] {escaped(name)} left out: {escaped(reason)}")
        out.print(f"chosen: {found.chosen}")
        if output is not None:
            out.print(f"{output}")


def limit(
    spectrum: Spectrum,
    output: Output,
    function: Function,
    range: Range,
    signal: SignalShape,
    masses: Masses,
    sqrts: Sqrts = 13000.0,
    cl: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
    uncertainty: Sources = [],
    window: Window = None,
    check: Annotated[CheckName, typer.Option(help="Masses that Minuit fits again.")] = CheckName.sample,
    lumi: Annotated[float | None, typer.Option(help="Integrated luminosity, 1/pb: limits in pb.")] = None,
    columns: Columns = None,
    rebin: Rebin = None,
    blind: Blind = [],
    veto: Veto = [],
    debug: Debug = False,
) -> None:
    """Upper limits in CLs on a resonance, for all masses of a scan.

    Example: `trila limit result:dijet.mass --rebin standard --function dijet5 --range 489:2037 --signal gauss:0.07
    --masses 600:1800:50 --uncertainty scale=0.01 -o limits.json`
    """
    with reported(debug):
        from trila.analysis.fit_inputs import masses as points
        from trila.analysis.limits import limit as make

        outcome = make(
            _given(spectrum, range, sqrts, columns, rebin, blind, veto), function, signal, points(masses), output,
            sources=uncertainty, level=cl, window=window, check=check.value, luminosity=lumi,
        )  # fmt: skip
        _notes(outcome.notes)
        _print_limits(outcome.content)
        out.print(f"{output}")


#: Rows of a printed table; the file holds them all.
_ROWS = 20


def _print_limits(content: list[dict[str, Any]]) -> None:
    unit, level = content[0]["unit"], content[0]["level"]
    table = Table(
        "mass [GeV]", f"observed {100 * level:g}% CL [{unit}]", "expected", "-1 to +1 sigma", "certificate"
    )
    step = -(-len(content) // _ROWS)
    for entry in content[::step]:
        if not entry["certificate"]["passed"]:
            table.add_row(
                f"{entry['mass']:g}", "", "", "", escaped("; ".join(entry["certificate"]["reasons"]))
            )
            continue
        bands = entry["expected"]
        table.add_row(
            f"{entry['mass']:g}",
            f"{entry['observed']:.4g}",
            f"{bands[2]:.4g}",
            f"{bands[1]:.4g} to {bands[3]:.4g}",
            "passed",
        )
    out.print(table)
