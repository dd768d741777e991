"""The demonstration: the whole chain, from files to a closed calibration and calibrated spectra, on data simulated here."""

from collections.abc import Callable, Sequence
from pathlib import Path

from trila.analysis import steps
from trila.analysis.calibration import calibrate
from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.closure import closure
from trila.analysis.simulation import Kind, simulate
from trila.analysis.steps import Progress
from trila.analysis.turnon import turnon

__all__ = ["demo"]

_COM = 13.6
_TRIGGERS = ("DST_PFScouting_JetHT", "HLT_PFJet140")


def demo(outdir: Path, *, progress: Progress, say: Callable[[str], None]) -> Path:
    """Simulate, run, calibrate, close and plot, under one folder.

    Args:
        outdir: gets `data/`, `result_<kind>/`, `calibration.json.gz` and `plots/`.
        progress: shows long work.
        say: gets a line for each step, the command that does the same.

    Returns:
        The folder of the plots.
    """
    plots, result = outdir / "plots", outdir / "result_jets"
    _run(outdir, "jets", 1_000_000, ("response", "efficiency"), progress, say)
    calibration = outdir / "calibration.json.gz"
    report = plots / "calibration"
    say(f"trila calibrate {result} -o {calibration} --report {report}")
    calibrate(
        result, calibration, config=CalibrationConfig(), report=report, progress=progress, style={"com": _COM}
    )
    say(f"trila closure {result} --corrections {calibration} -o {plots / 'closure'}")
    closed = closure(result, calibration, plots / "closure", progress=progress, style={"com": _COM})
    verdict = "closes" if closed.passed else "does not close"
    say(
        f"  the calibration {verdict}: {closed.summary['tested']} bins tested, {closed.summary['failed']} failed"
    )
    say(f"trila turnon {result} -o {plots / 'turnon'}{''.join(f' --trigger {name}' for name in _TRIGGERS)}")
    turnon(result, plots / "turnon", triggers=_TRIGGERS, com=_COM, progress=progress)
    _run(outdir, "dijet", 400_000, ("dijet",), progress, say, corrections=calibration)
    _run(outdir, "dimuon", 400_000, ("dimuon",), progress, say)
    return plots


def _run(
    outdir: Path, kind: Kind, events: int, processors: Sequence[str], progress: Progress, say: Callable[[str], None],
    *, corrections: Path | None = None,
) -> None:  # fmt: skip
    """Simulate one kind of sample, run processors over it, and plot."""
    data, result, plots = outdir / "data" / kind, outdir / f"result_{kind}", outdir / "plots" / kind
    say(f"trila simulate {data} --kind {kind} --events {events} --files 2")
    paths = simulate(data, kind=kind, events=events, files=2, progress=progress(f"simulating {kind}", events))
    option = "" if corrections is None else f" --corrections {corrections}"
    say(f"trila run {','.join(processors)} {data}/*.root -o {result}{option}")
    steps.run(
        processors, [str(path) for path in paths], result, progress=progress,
        corrections=None if corrections is None else str(corrections),
    )  # fmt: skip
    say(f"trila plot {result} -o {plots}")
    # spectra come without generator information, as data do: the label says what they are
    steps.plot(result, plots, com=_COM, label="Private work" if kind == "jets" else "Private work (toy data)")
