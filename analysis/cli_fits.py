"""The commands around fits: `trila fit`, `ftest`, `bumphunt`, `limit`, `significance`, `bias`, `diagnose`."""

from enum import StrEnum
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
)  # fmt: skip

__all__ = ["bias", "bumphunt", "diagnose", "fit", "ftest", "limit", "significance"]

Spectrum = Annotated[
    str,
    typer.Argument(
        metavar="SPECTRUM", help="RESULT:NAME, FILE.root:NAME, FILE.zip:NAME, or a file .json, .yaml, .csv."
    ),
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="SPECTRUM|WORKSPACE",
        help="As for `trila fit`; or a workspace of pyhf or HistFactory as JSON.",
    ),
]
_FUNCTION = (
    "Background: dijet4, ua2-5, modexp4, bernstein3, ..., expr:EXPRESSION, FILE.py:NAME; gp, swift:FUNCTION."
)
_RANGE = "Fit range, GeV."
Function = Annotated[str, typer.Option("--function", help=_FUNCTION)]
Range = Annotated[str, typer.Option("--range", metavar="LO:HI", help=_RANGE)]
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
    typer.Option(
        metavar="LO:HI",
        help="Window that fits leave out, GeV; resonances:a,b for known ones of two muons and their resolution; repeatable.",
    ),
]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE.json", help="JSON file to write.")]
Sources = Annotated[
    list[str],
    typer.Option(
        "--uncertainty",
        metavar="SOURCE=SIZE",
        help="scale, resolution, luminosity, spurious, ...; repeatable.",
    ),
]
OptionalFunction = Annotated[str | None, typer.Option("--function", help=_FUNCTION)]
OptionalRange = Annotated[str | None, typer.Option("--range", metavar="LO:HI", help=_RANGE)]
_SIGNAL = "gauss:WIDTH, dcb:FILE.yaml, resolution:a,b, or a file of templates."
_MASSES = "Masses of the scan, GeV."
OptionalSignal = Annotated[str | None, typer.Option("--signal", help=_SIGNAL)]
OptionalMasses = Annotated[str | None, typer.Option("--masses", metavar="LO:HI:STEP|LIST", help=_MASSES)]
Seed = Annotated[int, typer.Option(min=0, help="Of the toys.")]
Patch = Annotated[
    str | None,
    typer.Option(metavar="PATCH.json[:NAME]", help="JSON patch or pyhf patch set for a workspace."),
]
Poi = Annotated[str | None, typer.Option(metavar="NAME", help="Parameter of interest of a workspace.")]
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
    spectrum: str, range: str, sqrts: float, columns: str | None, rebin: str | None, blind: list[str], veto: list[str],
    min_fraction: float, *, systematics: bool = False,
) -> Any:  # fmt: skip
    from trila.analysis.fit_inputs import prepared

    return prepared(
        spectrum,
        range=range,
        sqrt_s=sqrts,
        columns=columns,
        rebin=rebin,
        blind=blind,
        veto=veto,
        systematics=systematics,
        min_fraction=min_fraction,
    )


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
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """Fit a smooth function to a spectrum.

    Example: `trila fit result:dijet.mass --rebin standard --function dijet4 --range 489:2037 -o fit.json`
    """
    with reported(debug):
        from trila.analysis import fitting

        given = _given(spectrum, range, sqrts, columns, rebin, blind, veto, min_fraction)
        outcome = fitting.fit(given, function, output)
        _notes(outcome.notes)
        content = outcome.content
        out.print(
            f"{content['function']}: chi2 {content['chi2']['deviance']:.1f} for {content['ndof']} degrees of freedom, "
            f"p-value {content['p_value']:.3g}"
        )
        variances = [row[i] for i, row in enumerate(content["covariance"])]
        for name, value, variance in zip(content["parameters"], content["values"], variances, strict=True):
            error = "" if variance is None else f" +- {variance**0.5:.2g}"
            out.print(f"  {escaped(name)} = {value:.6g}{error}")
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
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """How many parameters the background needs.

    Example: `trila ftest result:dijet.mass --rebin standard --family dijet --range 489:2037`
    """
    with reported(debug):
        from trila.analysis import fitting

        given = _given(spectrum, range, sqrts, columns, rebin, blind, veto, min_fraction)
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
    context: typer.Context,
    spectrum: Target,
    output: Output,
    function: OptionalFunction = None,
    range: OptionalRange = None,
    signal: OptionalSignal = None,
    masses: OptionalMasses = None,
    sqrts: Sqrts = 13000.0,
    cl: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
    uncertainty: Sources = [],
    window: Window = None,
    check: Annotated[CheckName, typer.Option(help="Masses that Minuit fits again.")] = CheckName.sample,
    toys: Annotated[
        int,
        typer.Option(
            min=0, help="Toys at each signal strength: limits without asymptotic formulas; 0 for none."
        ),
    ] = 0,
    seed: Seed = 0,
    lumi: Annotated[float | None, typer.Option(help="Integrated luminosity, 1/pb: limits in pb.")] = None,
    coupling: Annotated[
        Path | None,
        typer.Option(metavar="TABLE.csv", help="Predictions mass,g,sigma: limits on g_q; needs --lumi."),
    ] = None,
    eps2: Annotated[
        bool,
        typer.Option("--eps2", help="Limits on the kinetic mixing of a dark photon, normalised to the data."),
    ] = False,
    other: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE.csv",
            help="Fraction of dimuons that are no virtual photons: mass,fraction; for --eps2.",
        ),
    ] = None,
    systematics: Annotated[
        bool,
        typer.Option("--systematics", help="Calibration uncertainties from the spectrum's systematics axis."),
    ] = False,
    workspaces: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the models as HistFactory JSON, with a patch for each mass."),
    ] = None,
    patch: Patch = None,
    poi: Poi = None,
    columns: Columns = None,
    rebin: Rebin = None,
    blind: Blind = [],
    veto: Veto = [],
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """Upper limits in CLs on a resonance, for all masses of a scan; or on the parameter of interest of a workspace.

    Example: `trila limit result:dijet.mass --rebin standard --function dijet5 --range 489:2037 --signal gauss:0.07 --masses 600:1800:50 --uncertainty scale=0.01 -o limits.json`
    """
    with reported(debug):
        from trila.analysis import workspaces as given_workspaces

        if given_workspaces.is_workspace(spectrum):
            _check_options(context, workspace=True)
            content = given_workspaces.limit(
                Path(spectrum), output, patch=patch, poi=poi, level=cl, check=check.value
            )
        else:
            from trila.analysis.fit_inputs import masses as points
            from trila.analysis.limits import Choices
            from trila.analysis.limits import limit as make

            _check_options(context, workspace=False)
            function, range, signal, masses = _needed(
                function=function, range=range, signal=signal, masses=masses
            )
            with progress_bars() as bars:
                outcome = make(
                    _given(spectrum, range, sqrts, columns, rebin, blind, veto, min_fraction, systematics=systematics), function, signal, points(masses), output,
                    Choices(
                        sources=tuple(uncertainty), level=cl, window=window, check=check.value, luminosity=lumi, toys=toys,
                        seed=seed, coupling=coupling, eps2=eps2, other=other,
                        workspaces=workspaces,
                    ),
                    progress=bars,
                )  # fmt: skip
            _notes(outcome.notes)
            content = outcome.content
        _print_limits(content)
        out.print(f"{output}")


def significance(
    context: typer.Context,
    spectrum: Target,
    output: Output,
    function: OptionalFunction = None,
    range: OptionalRange = None,
    signal: OptionalSignal = None,
    masses: OptionalMasses = None,
    sqrts: Sqrts = 13000.0,
    uncertainty: Sources = [],
    window: Window = None,
    toys: Annotated[int, typer.Option(min=0, help="Toys for the global p-value; 0 for none.")] = 100,
    seed: Seed = 0,
    patch: Patch = None,
    poi: Poi = None,
    columns: Columns = None,
    rebin: Rebin = None,
    blind: Blind = [],
    veto: Veto = [],
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """Local p-values of a resonance at all masses of a scan, and the global one.

    Example: `trila significance result:dijet.mass --rebin standard --function dijet5 --range 489:2037 --signal gauss:0.07 --masses 600:1800:20 -o significance.json`
    """
    with reported(debug):
        from trila.analysis import workspaces as given_workspaces

        if given_workspaces.is_workspace(spectrum):
            _check_options(context, workspace=True)
            content = given_workspaces.significance(Path(spectrum), output, patch=patch, poi=poi)
        else:
            from trila.analysis.fit_inputs import masses as points
            from trila.analysis.hunts import significance as make

            _check_options(context, workspace=False)
            function, range, signal, masses = _needed(
                function=function, range=range, signal=signal, masses=masses
            )
            outcome = make(
                _given(spectrum, range, sqrts, columns, rebin, blind, veto, min_fraction), function, signal, points(masses), output,
                sources=uncertainty, window=window, toys=toys, seed=seed,
            )  # fmt: skip
            _notes(outcome.notes)
            content = outcome.content
        found = [row for row in content["local"] if row["p_local"] is not None]
        out.print(f"{len(found)} of {len(content['local'])} masses")
        if found:
            top = max(found, key=lambda row: row["z_local"])
            at = "" if top["mass"] is None else f" at {top['mass']:g} GeV"
            out.print(f"largest: {top['z_local']:.2f} sigma{at}, local p-value {top['p_local']:.3g}")
        for one in content["global"]:
            out.print(
                f"global p-value, {one['method']}: {one['p_global']:.3g} +- {one['p_global_error']:.1g}"
            )
        out.print(f"{output}")


def bumphunt(
    spectrum: Spectrum,
    function: Function,
    range: Range,
    output: Output,
    toys: Annotated[
        int, typer.Option(min=1, help="Toys for the global p-value, fitted like the data.")
    ] = 1000,
    seed: Seed = 0,
    sideband: Annotated[
        bool, typer.Option("--sideband", help="Fit once more without the bump, in data and toys.")
    ] = False,
    sqrts: Sqrts = 13000.0,
    columns: Columns = None,
    rebin: Rebin = None,
    blind: Blind = [],
    veto: Veto = [],
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """The largest bump of a spectrum, of any width, and its global p-value.

    Example: `trila bumphunt result:dijet.mass --rebin standard --function dijet5 --range 489:2037 -o bump.json`
    """
    with reported(debug):
        from trila.analysis import hunts

        outcome = hunts.bumphunt(
            _given(spectrum, range, sqrts, columns, rebin, blind, veto, min_fraction), function, output, toys=toys, seed=seed,
            sideband=sideband,
        )  # fmt: skip
        _notes(outcome.notes)
        content = outcome.content
        if content["low"] is None:
            out.print("no window has an excess")
        else:
            out.print(
                f"{content['low']:g} to {content['high']:g} GeV: {content['events']:.0f} events, {content['background']:.1f} "
                f"expected, local p-value {content['p_local']:.3g}"
            )
        low, high = content["p_global_interval"]
        out.print(f"global p-value {content['p_global']:.3g} ({low:.3g} to {high:.3g}) from {toys} toys")
        out.print(f"{output}")


def bias(
    spectrum: Spectrum,
    function: Function,
    range: Range,
    signal: Annotated[str, typer.Option("--signal", help=_SIGNAL)],
    masses: Annotated[str, typer.Option("--masses", metavar="LO:HI:STEP|LIST", help=_MASSES)],
    output: Output,
    truth: Annotated[
        list[str],
        typer.Option(
            metavar="FUNCTION", help="Background of the pseudo-data; repeatable; default the one tested."
        ),
    ] = [],
    strengths: Annotated[
        str, typer.Option(metavar="LIST", help="Injected signals, in their expected errors.")
    ] = "0,1,2,3,5",
    toys: Annotated[
        int, typer.Option(min=0, help="Toys for each background, mass and signal; 0: spurious signals alone.")
    ] = 200,
    seed: Seed = 0,
    cl: Annotated[
        float, typer.Option(help="Confidence level of the limits whose coverage is measured.")
    ] = 0.95,
    uncertainty: Sources = [],
    window: Window = None,
    sqrts: Sqrts = 13000.0,
    columns: Columns = None,
    rebin: Rebin = None,
    blind: Blind = [],
    veto: Veto = [],
    min_fraction: MinFraction = 1.0,
    debug: Debug = False,
) -> None:
    """Test a search on pseudo-data: spurious signals, injected signals, coverage of limits.

    Example: `trila bias result:dijet.mass --rebin standard --function dijet5 --range 489:2037 --signal gauss:0.07 --masses 700,1000,1500 --truth ua2-5 --truth modexp4 -o bias.json`
    """
    with reported(debug):
        from trila.analysis.bias import BiasChoices
        from trila.analysis.bias import bias as make
        from trila.analysis.fit_inputs import masses as points
        from trila.analysis.fit_inputs import numbers

        with progress_bars() as bars:
            outcome = make(
                _given(spectrum, range, sqrts, columns, rebin, blind, veto, min_fraction), function, signal, points(masses), output,
                BiasChoices(tuple(truth), numbers("--strengths", strengths), toys, seed, window, cl),
                sources=uncertainty, progress=bars,
            )  # fmt: skip
        _notes(outcome.notes)
        table = Table(
            "background", "mass [GeV]", "spurious / sigma", "worst mean pull", "widths", "lowest coverage"
        )
        for one in outcome.content["spurious"]:
            same = [
                [
                    row
                    for row in outcome.content[key]
                    if (row["truth"], row["mass"]) == (one["truth"], one["mass"])
                ]
                for key in ("injection", "coverage")
            ]
            pulls = [row["mean_pull"] for row in same[0] if row["mean_pull"] is not None]
            widths = [row["width"] for row in same[0] if row["width"] is not None]
            covered = [row["covered"] for row in same[1]]
            table.add_row(
                one["truth"], f"{one['mass']:g}", "failed" if one["ratio"] is None else f"{one['ratio']:+.3f}",
                f"{max(pulls, key=abs):+.2f}" if pulls else "", f"{min(widths):.2f} to {max(widths):.2f}" if widths else "",
                f"{min(covered):.3f}" if covered else "",
            )  # fmt: skip
        out.print(table)
        out.print(f"{output}")


def diagnose(
    workspace: Annotated[Path, typer.Argument(help="pyhf or HistFactory JSON.")],
    outdir: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for diagnosis.json and its plots.")
    ],
    patch: Patch = None,
    poi: Poi = None,
    toys: Annotated[int, typer.Option(min=0, help="Toys for the goodness of fit; 0 for none.")] = 0,
    seed: Seed = 0,
    style: Style = StyleName.cms,
    label: Status = "Private work",
    com: Energy = None,
    lumi: Luminosity = None,
    debug: Debug = False,
) -> None:
    """Pulls, constraints, impacts, correlations and goodness of fit of a workspace.

    Example: `trila diagnose workspace.json -o diagnosis`
    """
    with reported(debug):
        from trila.analysis.plots_products import draw
        from trila.analysis.workspaces import diagnose as make

        path, content = make(workspace, outdir, patch=patch, poi=poi, toys=toys, seed=seed)
        good = content["goodness_of_fit"]
        p = "" if good["p_value"] is None else f", p-value {good['p_value']:.3g}"
        out.print(f"goodness of fit: {good['statistic']:.1f} for {good['ndof']} degrees of freedom{p}")
        table = Table("parameter", "impact up", "impact down")
        for one in content["impacts"][:_ROWS]:
            table.add_row(
                escaped(one["name"]), *("" if one[k] is None else f"{one[k]:+.3g}" for k in ("up", "down"))
            )
        out.print(table)
        paths = draw(path, outdir, style=style.value, label=label, is_data=True, com=com, lumi=lumi)
        out.print(f"{path}, {len(paths)} plots: {outdir}")


#: Options of a search that a workspace takes as well, and those for workspaces alone.
_ALSO_WORKSPACE = {"spectrum", "output", "cl", "check", "debug"}
_ONLY_WORKSPACE = {"patch", "poi"}


def _check_options(context: typer.Context, *, workspace: bool) -> None:
    """Options that would change nothing are mistakes."""
    from trila.processors.errors import InputError

    for name in context.params:
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        if workspace and name not in _ALSO_WORKSPACE | _ONLY_WORKSPACE:
            raise InputError(f"--{name} is for spectra, and a workspace brings its own model; leave it out")
        if not workspace and name in _ONLY_WORKSPACE:
            raise InputError(f"--{name} is for workspaces of pyhf or HistFactory; leave it out")


def _needed(**options: str | None) -> list[str]:
    from trila.processors.errors import InputError

    for name, value in options.items():
        if value is None:
            raise InputError(
                f"--{name} is missing; a search in a spectrum needs --function, --range, --signal and --masses"
            )
    return [value for value in options.values() if value is not None]


#: Rows of a printed table; the file holds them all.
_ROWS = 20


def _print_limits(content: list[dict[str, Any]]) -> None:
    unit, level = content[0]["unit"], content[0]["level"]
    table = Table(
        "mass [GeV]",
        escaped(f"observed {100 * level:g}% CL [{unit}]"),
        "expected",
        "-1 to +1 sigma",
        "certificate",
    )
    step = -(-len(content) // _ROWS)
    for entry in content[::step]:
        # a workspace may have no mass, and then perhaps the name of a patch
        name = escaped(entry["patch"]) if entry["mass"] is None else f"{entry['mass']:g}"
        if not entry["certificate"]["passed"]:
            table.add_row(name, "", "", "", escaped("; ".join(entry["certificate"]["reasons"])))
            continue
        bands = entry["expected"]
        table.add_row(
            name,
            f"{entry['observed']:.4g}",
            f"{bands[2]:.4g}",
            f"{bands[1]:.4g} to {bands[3]:.4g}",
            "passed",
        )
    out.print(table)
