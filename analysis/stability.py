"""Time series: response, resolution, resonance masses and trigger rates of each run, and the runs from which on they differ.

What to use when: `measure` gives the series of a RESULT of `trila run stability`, `series` the same as plain lists,
`stability` writes them to `stability.json` and draws them.

False alarms. Less than one step that is not there is reported in 1000 runs, over all series together, also where new runs
come in one after the other and every one of them is a new look at the series. Each of S series of n runs is searched with
the probability 1 - exp(-p n / S), p = 2e-5 a run, to find any step (`corrections.changes`): so a single look at R
runs has at most p R false alarms. That p is so far below 1/1000 is for the looks in between, each of which gives a chance
fluctuation of the last runs another occasion; how much they add has no closed form, and was measured (the tests do).

Errors are statistical. A series whose neighbouring runs differ by more than their errors, such as rates that follow the
luminosity, is searched with errors that are larger by that `scatter`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila import __version__
from trila.analysis import results
from trila.analysis.provenance import record
from trila.analysis.stability_points import Points, mass_points, rate_points, response_points
from trila.corrections.changes import change_points
from trila.corrections.lumi import certified, check_mask
from trila.processors.errors import InputError

__all__ = ["FORMAT_VERSION", "Change", "Series", "measure", "search", "series", "stability"]

Array = NDArray[np.float64]

FORMAT_VERSION = 1

#: Orbits of a CMS luminosity block over the LHC's frequency of revolution, s.
_CMS_BLOCK = 2**18 / 11245.5
#: In one look at all the series, however many; one in 1000 runs where there is a look after every run.
_ALARMS_PER_RUN = 2e-5
_LEAST_FOR_SCATTER = 10  # runs


class Change(NamedTuple):
    """A step.

    Attributes:
        run: first one after it.
        previous: last one before it.
        before, after: mean of the runs up to the neighbouring steps, in the unit of the series.
        significance: of the difference, in standard deviations.
    """

    run: int
    previous: int
    before: float
    after: float
    significance: float


class Series(NamedTuple):
    """A quantity by run, and its steps.

    Attributes:
        points: the quantity.
        scatter: typical difference of neighbouring runs over its error; 1 where it is not above what is expected.
        false_alarm: probability to find any step where there is none.
        changes: in order.
    """

    points: Points
    scatter: float
    false_alarm: float
    changes: tuple[Change, ...]


def measure(
    result: str | Path,
    *,
    entries: float = 200.0,
    block_seconds: float | None = None,
    min_fraction: float = 1.0,
) -> tuple[Series, ...]:
    """All series that a result allows.

    Args:
        result: RESULT of the processor `stability`.
        entries: effective number of probes, or of muon pairs above the background, that a run must have.
        block_seconds: length of a luminosity block, for rates in Hz; that of CMS (2^18 orbits) for its formats, if not
            given. Other rates are per block.
        min_fraction: as `results.read` has it.

    Raises:
        InputError: no result, none of this processor, or an argument out of range.
    """
    if not entries >= 1:
        raise InputError(
            f"entries is {entries}; expected at least 1: give the number that a run must have, such as 200"
        )
    if block_seconds is not None and not 0 < block_seconds < np.inf:
        raise InputError(f"a luminosity block of {block_seconds} s; expected a length above zero")
    content = results.read(result, min_fraction=min_fraction)
    found = {
        name.removeprefix("stability."): histogram
        for name, histogram in content.histograms.items()
        if name.startswith("stability.")
    }
    if "events" not in found:
        raise InputError(
            f"{result} has no stability histograms; `trila run stability FILES -o RESULT` fills them"
        )
    points: list[Points] = []
    if "response" in found:
        points += response_points(found["response"], entries)
    for name, histogram in found.items():
        if name.startswith("mass."):
            points += mass_points(name.removeprefix("mass."), histogram, entries)
    blocks = _blocks(content)
    if blocks:
        if block_seconds is None and any(name.startswith("cms") for name in content.manifest["format"]):
            block_seconds = _CMS_BLOCK
        points += rate_points(found, blocks, block_seconds)
    return tuple(search(one, len(points)) for one in points)


def series(result: Path) -> dict[str, dict[str, Any]]:
    """The series as plain lists, by name: `runs`, `values`, `errors`, `unit`, `label`, `changes` (runs).

    Of whatever the result holds so far: files that were skipped do not matter.

    Raises:
        InputError: as `measure`.
    """
    return {
        one.points.name: {
            **_lists(one.points),
            "changes": [change.run for change in one.changes],
        }
        for one in measure(result, min_fraction=0.0)
    }


def _lists(points: Points) -> dict[str, Any]:
    return {
        "label": points.label,
        "unit": points.unit,
        "runs": points.runs.tolist(),
        "values": points.values.tolist(),
        "errors": points.errors.tolist(),
    }


def stability(
    result: str | Path,
    outdir: str | Path,
    *,
    entries: float = 200.0,
    block_seconds: float | None = None,
    min_fraction: float = 1.0,
    style: Mapping[str, Any] | None = None,
) -> tuple[tuple[Series, ...], list[Path]]:
    """Write `stability.json` (`docs/stability.md` has its fields) and a figure of each series.

    Args:
        result, entries, block_seconds, min_fraction: as `measure` has them.
        outdir: folder.
        style: look and label of the figures, keywords of `plots_stability.plot_stability`.

    Returns:
        The series and the files written.

    Raises:
        InputError: as `measure`; or the folder cannot be written.
    """
    from trila.analysis.plots_stability import plot_stability  # matplotlib takes long to import

    found = measure(result, entries=entries, block_seconds=block_seconds, min_fraction=min_fraction)
    made = record("stability", {"result": str(result), "entries": entries, "block_seconds": block_seconds})
    datasets = json.loads((Path(result) / "manifest.json").read_text())["datasets"].values()
    content = {
        "format_version": FORMAT_VERSION,
        "trila": __version__,
        "result": str(result),
        "false_alarms_per_run": _ALARMS_PER_RUN,
        "series": {one.points.name: _described(one) for one in found},
        "provenance": made.as_json(),
    }
    folder = Path(outdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        results.write_json(folder / "stability.json", content)
        is_data = any(dataset["is_data"] for dataset in datasets)
        figures = plot_stability(found, folder, is_data=is_data, made=made, **(style or {}))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}; choose another folder") from error
    return found, [folder / "stability.json", *figures]


def _described(one: Series) -> dict[str, Any]:
    return {
        **_lists(one.points),
        "left_out": list(one.points.left_out),
        "scatter": one.scatter,
        "false_alarm": one.false_alarm,
        "changes": [change._asdict() for change in one.changes],
    }


def search(points: Points, number: int = 1) -> Series:
    """The steps of a quantity, one of `number` that are searched."""
    runs = points.runs.tolist()
    false_alarm = -np.expm1(-_ALARMS_PER_RUN * len(runs) / number)
    scatter = _scatter(points.even, points.even_errors)
    found = change_points(points.even, scatter * points.even_errors, false_alarm=false_alarm)
    means = points.back(found.means).tolist()
    changes = tuple(
        Change(runs[index], runs[index - 1], means[i], means[i + 1], float(found.significance[i]))
        for i, index in enumerate(found.indices)
    )
    return Series(points, scatter, float(false_alarm), changes)


def _scatter(values: Array, errors: Array) -> float:
    """Typical difference of neighbours over its error, by the median, which a few steps do not move; at least 1."""
    if values.size < _LEAST_FOR_SCATTER:
        return 1.0
    differences = np.abs(np.diff(values)) / np.hypot(errors[1:], errors[:-1])
    return max(1.0, float(np.median(differences)) / 0.6744897501960817)


def _blocks(content: results.Result) -> dict[int, int]:
    """Number of luminosity blocks of each run that were read and certified; none, for simulation."""
    path = content.path / "luminosity_blocks.json"
    if not path.is_file():
        return {}
    seen: dict[str, list[list[int]]] = json.loads(path.read_text())
    ranges = np.array([(int(run), *pair) for run, pairs in seen.items() for pair in pairs], dtype=np.int64)
    run, first, last = ranges.reshape(-1, 3).T
    size = last - first + 1
    runs = np.repeat(run, size)
    numbers = np.arange(runs.size) + np.repeat(first - np.concatenate([[0], np.cumsum(size)[:-1]]), size)
    mask = content.manifest["configuration"]["events"]["lumi_mask"]
    if mask is not None:
        runs = runs[certified(check_mask(mask), runs, numbers)]
    found, counts = np.unique(runs, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
