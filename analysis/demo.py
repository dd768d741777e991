"""The demonstration: the whole chain, from files to a closed calibration, calibrated spectra and limits, on data simulated here."""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from trila.analysis import steps
from trila.analysis.calibration import calibrate
from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.closure import closure
from trila.analysis.fit_inputs import masses, prepared
from trila.analysis.fitting import fit
from trila.analysis.limits import Choices, limit
from trila.analysis.plots_products import draw
from trila.analysis.simulation import Kind, simulate
from trila.analysis.status import status
from trila.analysis.steps import Progress
from trila.analysis.turnon import turnon
from trila.processors.errors import InputError

__all__ = ["demo"]

_COM = 13.6
_SOURCES = ("scale=0.01", "resolution=0.1", "luminosity=0.016")
_TRIGGERS = ("DST_PFScouting_JetHT", "HLT_PFJet140")


def demo(outdir: Path, *, progress: Progress, say: Callable[[str], None]) -> Path:
    """Simulate, run, calibrate, close, set limits and plot, under one folder.

    Args:
        outdir: gets `data/`, `result_<kind>/`, `calibration.json.gz`, `<kind>_limits.json` and `plots/`.
        progress: shows long work.
        say: gets a line for each step, the command that does the same.

    Returns:
        The folder of the plots.
    """
    # what only draws is done beside the rest, on another core
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as beside:
        drawn: list[Future[Any]] = []

        def draw_beside(*given: Any, **options: Any) -> None:
            drawn.append(beside.submit(*given, **options))

        plots = _chain(outdir, progress, say, draw_beside)
        for one in drawn:
            one.result()
    return plots


def _chain(outdir: Path, progress: Progress, say: Callable[[str], None], beside: Callable[..., None]) -> Path:
    """The steps, one after the other; `beside` is called with a function that only draws, and what it is given."""
    plots, result = outdir / "plots", outdir / "result_jets"
    _run(outdir, "jets", 1_000_000, ("response", "efficiency"), progress, say, beside)
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
    beside(turnon, result, plots / "turnon", triggers=_TRIGGERS, com=_COM)
    _run(outdir, "dijet", 250_000, ("dijet",), progress, say, beside, corrections=calibration)
    dijet = {"range": "270:2037", "sqrt_s": 1000 * _COM, "rebin": "standard"}
    _search(
        outdir,
        "dijet",
        "dijet.mass",
        "dijet4",
        "gauss:0.07",
        "350:1500:25",
        Choices(sources=_SOURCES),
        dijet,
        progress,
        say,
    )
    _run(outdir, "dimuon", 400_000, ("dimuon",), progress, say, beside, files=8, kill=True)
    dimuon = {"range": "11.5:60", "sqrt_s": 1000 * _COM}
    choices = Choices(level=0.9, window=10.0, eps2=True)
    _search(
        outdir, "dimuon", "dimuon.mass[sign=os,category=barrel]", "powerlaw", "resolution:0.0125,0", "14:45:0.25", choices,
        dimuon, progress, say,
    )  # fmt: skip
    return plots


def _search(
    outdir: Path, kind: Kind, name: str, function: str, shape: str, points: str, choices: Choices, cut: dict[str, Any],
    progress: Progress, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Fit one spectrum, set limits on a resonance in it, and plot both."""
    text, plots = f"{outdir / f'result_{kind}'}:{name}", outdir / "plots" / kind
    given = prepared(text, **cut)
    options = f"--range {cut['range']} --sqrts {cut['sqrt_s']:g}" + (
        f" --rebin {cut['rebin']}" if "rebin" in cut else ""
    )
    products = [outdir / f"{kind}_limits.json"]
    if choices.window is None:
        products.insert(0, outdir / f"{kind}_fit.json")
        say(f"trila fit '{text}' --function {function} {options} -o {products[0]}")
        fit(given, function, products[0])
    asked = "".join(f" --uncertainty {source}" for source in choices.sources)
    asked += f" --cl {choices.level:g} --window {choices.window:g} --eps2" if choices.window else ""
    say(
        f"trila limit '{text}' --function {function} {options} --signal {shape} --masses {points}{asked} -o {products[-1]}"
    )
    found = limit(given, function, shape, masses(points), products[-1], choices, progress=progress)
    certified = sum(entry["certificate"]["passed"] for entry in found.content)
    say(f"  certified limits at {certified} of {len(found.content)} masses")
    for product in products:
        say(f"trila plot {product} -o {plots} --simulation")
        draw(product, plots, is_data=False, com=_COM, label="Private work")


def _run(
    outdir: Path, kind: Kind, events: int, processors: Sequence[str], progress: Progress, say: Callable[[str], None],
    beside: Callable[..., None], *, corrections: Path | None = None, files: int = 2, kill: bool = False,
) -> None:  # fmt: skip
    """Simulate one kind of sample, run processors over it, and plot; the run is killed half-way first, if wanted."""
    data, result, plots = outdir / "data" / kind, outdir / f"result_{kind}", outdir / "plots" / kind
    say(f"trila simulate {data} --kind {kind} --events {events} --files {files}")
    paths = simulate(
        data, kind=kind, events=events, files=files, progress=progress(f"simulating {kind}", events)
    )
    option = "" if corrections is None else f" --corrections {corrections}"
    command = f"trila run {','.join(processors)} {data}/*.root -o {result}{option}"
    say(command)
    if kill:
        done, units = _kill_half_way(
            ["run", ",".join(processors), *map(str, paths), "-o", str(result)], result
        )
        say(f"  killed when {done} of {units} units of work were done; the same command goes on from there:")
        say(command)
    steps.run(
        processors, [str(path) for path in paths], result, progress=progress,
        corrections=None if corrections is None else str(corrections),
    )  # fmt: skip
    say(f"trila plot {result} -o {plots}")
    # spectra come without generator information, as data do: the label says what they are
    beside(
        steps.plot,
        result,
        plots,
        com=_COM,
        label="Private work" if kind == "jets" else "Private work (toy data)",
    )


def _kill_half_way(arguments: Sequence[str], result: Path) -> tuple[int, int]:
    """Begin a run in a process of its own and kill it when half of it is done. Gives units done, and all of them."""
    done, units = 0, 0
    with subprocess.Popen(
        [sys.executable, "-m", "trila", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            with suppress(InputError):  # there is no ledger yet
                counts = status(result).units
                done, units = counts.get("done", 0), sum(counts.values())
            if units and 2 * done >= units:
                process.kill()
            time.sleep(0.05)
    counts = status(result).units
    return counts.get("done", 0), sum(counts.values())
