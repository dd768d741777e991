"""Speed of `trila limit` on one core, against pyhf's root finding on the same models; and of background toys.

    python benchmarks/limits.py [--sample 5] [--masses 100 1000] [--json FILE]

The search: 5·10⁸ events in 60 bins, the dijet function of five parameters, a Gaussian signal of 5%, and uncertainties of
luminosity, mass scale and resolution: nine parameters. Observed limit and five bands at each mass. Ours is the whole
command, as a process, from the CSV to LIMITS.json: the first run with an empty cache of compiled code (`TRILA_CACHE`),
the second with what the first left there. pyhf computes with NumPy and Minuit, and `upper_limit(data, model, scan=None)`
finds the roots of each mass, of the workspaces that the command writes itself; it is timed at some masses, spread over
the range, without its imports, and scaled to all of them. All run pinned to one core. Beside the time by the clock stands
that of the processor, as machines are shared; targets are for the clock.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyhf
from machine import describe, first_line, pinned
from numpy.typing import NDArray

from trila.fits.background import fit_background, whole
from trila.fits.functions import Domain, expectation, resolve
from trila.fits.pyhf_backend import pyhf_backend
from trila.fits.spectrum import checked
from trila.fits.toys import background_toys, refit

LOW, HIGH, SQRT_S = 500.0, 2500.0, 13000.0
FIRST, LAST = 600.0, 2100.0
PARAMETERS = [1.0, 8.0, 6.0, 0.25, 0.02]
SOURCES = ("luminosity=0.016", "scale=0.01", "resolution=0.1")
#: How many times faster than pyhf: at so many masses, in the first and in the second run.
TARGETS = {100: (50.0, 100.0), 1000: (250.0, 250.0)}
TOYS, TOY_SECONDS = 10_000, 20.0


class Took(NamedTuple):
    """Time by the clock and of the processor, seconds."""

    seconds: float
    processor: float


def drawn(bins: int, events: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Edges and counts of a spectrum."""
    edges = np.geomspace(LOW, HIGH, bins + 1)
    shape = expectation("dijet5", edges, PARAMETERS, domain=Domain(LOW, HIGH, SQRT_S))
    return edges, np.random.default_rng(1).poisson(events * shape / shape.sum())


def grid(number: int) -> str:
    """So many masses as the command line takes them."""
    step = (LAST - FIRST) / (number - 1)
    return f"{FIRST!r}:{LAST!r}:{step!r}"


def command(folder: Path, number: int, cache: Path, *more: str) -> tuple[list[dict[str, Any]], Took]:
    """One run of `trila limit`: what it wrote, and its time."""
    output = folder / "limits.json"
    sources = [text for source in SOURCES for text in ("--uncertainty", source)]
    call = [
        sys.executable, "-m", "trila", "limit", str(folder / "spectrum.csv"),
        "--function", "dijet5", "--range", f"{LOW:g}:{HIGH:g}", "--signal", "gauss:0.05", "--masses", grid(number),
        "--sqrts", f"{SQRT_S:g}", "-o", str(output), *sources, *more,
    ]  # fmt: skip
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(call, check=True, env=os.environ | {"TRILA_CACHE": str(cache)}, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    content = json.loads(output.read_text())
    if len(content) != number:
        raise SystemExit(f"{len(content)} limits for {number} masses")
    return content, Took(seconds, processor)


def by_pyhf(models: Path, chosen: NDArray[np.int64]) -> tuple[list[list[float]], list[Took]]:
    """Observed limit and bands, in events, and time at some of the masses."""
    background = json.loads((models / "background.json").read_text())
    patches = pyhf.PatchSet(json.loads((models / "signals.json").read_text()))
    patches.verify(background)
    limits, took = [], []
    with pyhf_backend("numpy", "minuit"):
        for patch in [list(patches)[index] for index in chosen]:
            begin, processor = time.perf_counter(), time.process_time()
            workspace = pyhf.Workspace(patch.apply(background))
            model = workspace.model()
            observed, bands = pyhf.infer.intervals.upper_limits.upper_limit(
                workspace.data(model), model, scan=None
            )
            took.append(Took(time.perf_counter() - begin, time.process_time() - processor))
            limits.append([float(x) * patch.values[1] for x in (observed, *bands)])
            print(f"pyhf at {patch.values[0]:g} GeV: {took[-1].seconds:.1f} s ({took[-1].processor:.1f} s)")
    return limits, took


def toys() -> Took:
    """Draw and fit toys of 25 bins, with nothing compiled."""
    edges, counts = drawn(25, 1e7)
    fit = fit_background(resolve("dijet5"), whole(checked(edges, counts, name="toy"), SQRT_S))
    begin, processor = time.perf_counter(), time.process_time()
    fits = refit(fit, background_toys(fit, TOYS, seed=1))
    took = Took(time.perf_counter() - begin, time.process_time() - processor)
    print(f"{int(fits.good.sum())} of {TOYS} toys fitted")
    return took


def difference(ours: list[dict[str, Any]], theirs: list[list[float]], chosen: NDArray[np.int64]) -> float:
    """Largest relative difference of any limit or band; infinite where ours are not certified."""
    found = [
        [ours[i]["observed"], *ours[i]["expected"]] if ours[i]["certificate"]["passed"] else [np.inf] * 6
        for i in chosen
    ]
    return float(np.abs(np.array(found) / np.array(theirs) - 1).max())


def measure(folder: Path, numbers: list[int], sample: int) -> dict[str, Any]:
    """All that is timed."""
    edges, counts = drawn(60, 5e8)
    rows = [f"{low!r},{high!r},{n}" for (low, high), n in zip(pairwise(edges.tolist()), counts, strict=True)]
    (folder / "spectrum.csv").write_text("\n".join(["low,high,count", *rows]) + "\n")
    runs: dict[int, dict[str, Any]] = {}
    for number in numbers:
        cache = folder / f"cache-{number}"
        _, first = command(folder, number, cache)
        content, second = command(folder, number, cache)
        certified = sum(entry["certificate"]["passed"] for entry in content)
        print(f"{number} masses: {first.seconds:.1f} s, then {second.seconds:.1f} s; {certified} certified")
        runs[number] = {"first": first, "second": second, "certified": certified}
    content, _ = command(
        folder, numbers[0], folder / f"cache-{numbers[0]}", "--workspaces", str(folder / "models")
    )
    chosen = np.linspace(0, numbers[0] - 1, sample).round().astype(np.int64)
    theirs, took = by_pyhf(folder / "models", chosen)
    return {
        "runs": runs, "pyhf": took, "difference": difference(content, theirs, chosen),
        "masses": [content[i]["mass"] for i in chosen], "toys": toys(),
    }  # fmt: skip


def show(report: dict[str, Any]) -> None:
    """Print what was found."""
    print(f"\n{first_line(report['machine'])}")
    each = Took(*np.mean(report["pyhf"], axis=0).tolist())
    print(
        f"pinned to core {report['core']}; 60 bins, 9 parameters, observed limit and five bands\n"
        f"pyhf: {each.seconds:.1f} s a mass ({each.processor:.1f} s of the processor), the mean of "
        f"{len(report['pyhf'])} masses; the time of all masses is that times their number\n"
        f"largest difference of a limit or band: {report['difference']:.1e}"
    )
    print(f"\n{'':28s} {'seconds':>17s} {'ratio to pyhf':>15s}")
    print(f"{'':28s} {'clock':>8s} {'proc.':>8s} {'clock':>7s} {'proc.':>7s}   target")
    for number, run in report["runs"].items():
        for name, target in zip(("first", "second"), TARGETS.get(number, (None, None)), strict=True):
            took = run[name]
            ratio, processor = each.seconds * number / took.seconds, each.processor * number / took.processor
            mark = "" if target is None else f">= {target:g}  {'met' if ratio >= target else 'missed'}"
            label = f"{number} masses, {name} run"
            print(
                f"{label:28s} {took.seconds:8.1f} {took.processor:8.1f} {ratio:7.0f} {processor:7.0f}   {mark}"
            )
    took = report["toys"]
    mark = "met" if took.seconds < TOY_SECONDS else "missed"
    label = f"{TOYS} toys of 25 bins"
    print(f"{label:28s} {took.seconds:8.1f} {took.processor:8.1f} {'':15s}   < {TOY_SECONDS:g}  {mark}")


def main() -> None:
    """Measure and report; a benchmark does not judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=5, help="masses at which pyhf is timed")
    parser.add_argument("--masses", type=int, nargs="+", default=sorted(TARGETS), help="numbers of masses")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of pyhf's schema validation
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="trila-benchmark-") as name, pinned() as core:
        folder = Path(name)
        os.environ["TRILA_CACHE"] = str(folder / "cache-toys")
        report = {"machine": machine, "core": core, **measure(folder, options.masses, options.sample)}
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
