"""The demonstration: the main job, from files to plots, on data simulated here."""

from collections.abc import Callable
from pathlib import Path

from trila.analysis import steps
from trila.analysis.simulation import Kind, simulate
from trila.analysis.steps import Progress

__all__ = ["demo"]

_SAMPLES: dict[Kind, tuple[int, int, tuple[str, ...]]] = {  # kind: events, files, processors
    "jets": (400_000, 2, ("response", "efficiency")),
    "dijet": (400_000, 2, ("dijet",)),
    "dimuon": (400_000, 2, ("dimuon",)),
}


def demo(outdir: Path, *, progress: Progress, say: Callable[[str], None]) -> Path:
    """Simulate, run and plot, under one folder.

    Args:
        outdir: gets `data/`, `result_<kind>/` and `plots/`.
        progress: shows long work.
        say: gets a line for each step, the command that does the same.

    Returns:
        The folder of the plots.
    """
    for kind, (events, files, processors) in _SAMPLES.items():
        data, result, plots = outdir / "data" / kind, outdir / f"result_{kind}", outdir / "plots" / kind
        say(f"trila simulate {data} --kind {kind} --events {events} --files {files}")
        paths = simulate(
            data, kind=kind, events=events, files=files, progress=progress(f"simulating {kind}", events)
        )
        say(f"trila run {','.join(processors)} {data}/*.root -o {result}")
        steps.run(processors, [str(path) for path in paths], result, progress=progress)
        say(f"trila plot {result} -o {plots}")
        # spectra come without generator information, as data do: the label says what they are
        steps.plot(
            result, plots, com=13.6, label="Private work" if kind == "jets" else "Private work (toy data)"
        )
    return outdir / "plots"
