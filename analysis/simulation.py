"""Simulated samples: ROOT files as the experiments write them, and `truth.json` with everything that went in.

`simulate` writes toy events (`trila.analysis.toy_events`) in the layout of CMS ScoutingNano or of ATLAS trigger-level
ntuples. A sample is made for closure tests: `truth.json` holds the response that a calibration should find, the trigger
thresholds, the spectrum and the yields.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import uproot

from trila.analysis.simulation_branches import LAYOUTS
from trila.analysis.simulation_truth import sample_truth
from trila.analysis.toy_dijet import GaussianSignal, dijet
from trila.analysis.toy_dimuon import dimuon
from trila.analysis.toy_events import Events
from trila.analysis.toy_jets import jets
from trila.analysis.toy_model import DEFAULT, Toy
from trila.processors.documents import read_bytes
from trila.processors.errors import InputError, unknown_name

__all__ = [
    "EVENTS_PER_LUMINOSITY_BLOCK",
    "FIRST_RUN",
    "Format",
    "Kind",
    "simulate",
]

Kind = Literal["jets", "dijet", "dimuon"]
Format = Literal["cms-scouting", "atlas-tla"]

FIRST_RUN = 380_000
EVENTS_PER_LUMINOSITY_BLOCK = 1000

#: Bytes of truth.json.
_LARGEST_TRUTH = 50_000_000


def simulate(
    outdir: Path,
    *,
    kind: Kind = "jets",
    events: int = 100_000,
    files: int = 1,
    seed: int = 1,
    format: Format = "cms-scouting",
    signal: GaussianSignal | None = None,
    toy: Toy = DEFAULT,
    block: int = 50_000,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write a sample and its truth; a sample that is there already is replaced.

    Args:
        outdir: folder, empty or with an earlier sample.
        kind: "jets" (HLT, offline and particle level, weighted), "dijet" or "dimuon" (data-like).
        events: in all files together.
        files: over which the events are spread; each is a run of its own.
        seed: event i of a seed is the same in any number of files and blocks.
        format: layout of the files.
        signal: resonance to inject into "dijet".
        toy: parameters of generator, detector and trigger.
        block: events per write.
        progress: called after each block with the number of events in it.

    Returns:
        The ROOT files.

    Raises:
        InputError: arguments that do not go together, or a folder that holds something else.
    """
    _check(kind, format, events, files, seed, signal, block)
    old = _earlier_sample(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    paths = [outdir / f"{kind}_{index:03d}.root" for index in range(files)]
    parts = [path.with_name(f".{path.name}.part") for path in paths]
    bounds = [index * events // files for index in range(files + 1)]
    counts: Counter[str] = Counter()
    try:
        for index, part in enumerate(parts):
            begin, end = bounds[index], bounds[index + 1]
            blocks = _blocks(kind, begin, end, seed, events, signal, toy, block)
            _write(part, format, kind, FIRST_RUN + index, begin, blocks, counts, progress)
        names = [path.name for path in paths]
        truth = sample_truth(kind, format, events, names, FIRST_RUN, seed, signal, toy, counts)
        # Without truth.json the folder is not a sample: it goes first and comes last.
        (outdir / "truth.json").unlink(missing_ok=True)
        for path in old:
            path.unlink(missing_ok=True)
        for part, path in zip(parts, paths, strict=True):
            part.rename(path)
        part = outdir / ".truth.json.part"
        part.write_text(json.dumps(truth, indent=1) + "\n")
        part.rename(outdir / "truth.json")
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return paths


def _check(
    kind: str, format: str, events: int, files: int, seed: int, signal: GaussianSignal | None, block: int
) -> None:
    if kind not in get_args(Kind):
        raise unknown_name("kind of sample", kind, get_args(Kind))
    if format not in get_args(Format):
        raise unknown_name("format of a sample", format, get_args(Format))
    if format == "atlas-tla" and kind == "dimuon":
        raise InputError("kind dimuon in format atlas-tla: that layout has no muons; use cms-scouting.")
    for name, value, low, high in (
        ("events", events, 1, 2**62),
        ("files", files, 1, events),
        ("block", block, 1, 2**62),
        ("seed", seed, 0, 2**62),
    ):
        if not low <= value <= high:
            raise InputError(f"{name} is {value}, expected {low} to {high}; choose a value in between.")
    if signal is not None and kind != "dijet":
        raise InputError(f"a signal was given for kind {kind}; it exists for dijet only: leave it out.")
    if signal is not None and not 0 <= signal.events <= events:
        raise InputError(
            f"signal of {signal.events} events in a sample of {events}; expected 0 to {events}, the signal is "
            "part of the sample: ask for fewer."
        )


def _earlier_sample(outdir: Path) -> list[Path]:
    """ROOT files of the sample in the folder, to be replaced."""
    if not outdir.exists():
        return []
    if not outdir.is_dir():
        raise InputError(f"{outdir} is a file, expected a folder; choose another name.")
    # Names that end in .part were left by a run that was killed.
    found = sorted(path.name for path in outdir.iterdir() if not path.name.endswith(".part"))
    if not found:
        return []
    if "truth.json" not in found:
        raise InputError(
            f"{outdir} is not empty (it holds {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}) and "
            "has no truth.json, so it is not an earlier sample; choose an empty or a new folder."
        )
    try:
        names = json.loads(read_bytes(outdir / "truth.json", "truth", _LARGEST_TRUTH))["files"]
        if not all(isinstance(name, str) and name.endswith(".root") for name in names):
            raise TypeError("names of ROOT files are expected")  # what it lists is going to be deleted
        return [outdir / Path(name).name for name in names]
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{outdir / 'truth.json'} does not list the files of a sample ({error!r}); choose an empty or a new "
            "folder."
        ) from error


def _blocks(
    kind: str,
    begin: int,
    end: int,
    seed: int,
    total: int,
    signal: GaussianSignal | None,
    toy: Toy,
    block: int,
) -> Iterator[tuple[int, Events]]:
    """Number of the first event of a block, and its events."""
    for first in range(begin, end, block):
        count = min(block, end - first)
        if kind == "jets":
            yield first, jets(first, count, seed, toy=toy)
        elif kind == "dijet":
            yield first, dijet(first, count, seed, total=total, signal=signal, toy=toy)
        else:
            yield first, dimuon(first, count, seed, toy=toy)


def _write(
    path: Path,
    format: str,
    kind: str,
    run: int,
    begin: int,
    blocks: Iterator[tuple[int, Events]],
    counts: Counter[str],
    progress: Callable[[int], None] | None,
) -> None:
    layout = LAYOUTS[format]
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        tree = None
        for first, events in blocks:
            number = first + np.arange(events.weight.size)
            lumi = 1 + (number - begin) // EVENTS_PER_LUMINOSITY_BLOCK
            branches = layout.branches(kind, run, lumi, number + 1, events)
            if tree is None:
                types = {name: _type(values) for name, values in branches.items()}
                tree = file.mktree(layout.tree, types, counter_name=_counter_name, field_name=_field_name)
            tree.extend(branches)
            counts["without HLT objects"] += int(np.count_nonzero(~events.products))
            for process, times in enumerate(np.bincount(events.process + 1)):
                counts[f"process {process - 1}"] += int(times)
            if progress is not None:
                progress(events.weight.size)


def _counter_name(collection: str) -> str:
    return f"n{collection}"


def _field_name(outer: str, inner: str) -> str:
    return inner if outer == "" else f"{outer}_{inner}"


def _type(values: Any) -> Any:
    return values.dtype if isinstance(values, np.ndarray) else values.type.content
