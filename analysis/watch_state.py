"""What the live page of `trila watch` shows, and what a watch that is started again has to know.

The page's numbers come from RESULT itself; the file `state.json` beside the plots holds what is not in there: which files
were used as they are, how long they took, and the last errors. It is written completely or not at all. Without it nothing is
lost but these: the ledger knows what is done.
"""

import json
import statistics
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hist

from trila.analysis.results import Result, write_json
from trila.analysis.watch_files import Arrivals, Look, Used

__all__ = ["WatchState", "datasets", "plots", "spectra"]

_VERSION = 1
_ERRORS = 20
#: Files whose time is kept, for the median.
_TIMES = 1000

#: Spectra of the page: histogram to label, unit, and what is chosen of its categories; the others are added up.
_SPECTRA = {
    "dijet.mass_standard": ("dijet mass", "GeV", {"systematic": "nominal"}),
    "dimuon.mass": ("dimuon mass, opposite signs", "GeV", {"sign": "os"}),
}


class WatchState:
    """The state of a watch.

    Args:
        path: of `state.json`; read, if there is one.
        title: of the page.
        clock: gives time stamps, s.

    Attributes:
        used: files of the result, as `Arrivals` takes them.
        looked: time stamp of the last look; None before the first.
    """

    def __init__(self, path: Path, title: str, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self.used: dict[str, Used] = {}
        self.looked: float | None = None
        self._times: list[float] = []
        self._longest = 0.0
        self._page: dict[str, Any] = {"title": title, "phase": "waiting", "errors": []}
        self._inputs: list[dict[str, Any]] = []
        self._shares: dict[str, Any] = {}
        self._waiting: dict[str, int] = {}
        self._restore()

    def _restore(self) -> None:
        try:
            content = json.loads(self._path.read_text())
            if content["version"] != _VERSION:
                return
            used = {file: Used(*values) for file, values in content["files"].items()}
            times, longest = list(map(float, content["times_s"])), float(content["longest_s"])
            errors = [
                {key: str(one[key]) for key in ("time", "file", "message")} for one in content["errors"]
            ]
            looked, rate = content["looked"], content["rate_hz"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return  # nothing is lost but what the page would show
        self.used, self.looked, self._times, self._longest = used, looked, times, longest
        self._change(errors=errors, rate_hz=rate, latency_s=self._latency())

    def save(self, arrivals: Arrivals) -> None:
        """Write what another process has to know."""
        self.used, self.looked = arrivals.used, arrivals.looked
        content = {
            "version": _VERSION, "files": {file: list(used) for file, used in self.used.items()}, "looked": self.looked,
            "times_s": self._times, "longest_s": self._longest, "errors": self._page["errors"],
            "rate_hz": self._page.get("rate_hz"),
        }  # fmt: skip
        try:
            write_json(self._path, content)
        except OSError as error:  # a watch goes on without it
            self.complain(self._path.name, f"cannot be written: {error.strerror}; free some space")

    # ---- what the page shows

    def shown(self) -> Mapping[str, Any]:
        """The keys of `LivePage`; what is returned never changes."""
        return self._page

    def _change(self, **values: Any) -> None:
        # in one step: the page is served by another thread
        self._page = {**self._page, **values}

    def phase(self, name: str) -> None:
        """What is being done."""
        self._change(phase=name, updated=_time(self._clock()))

    def rate(self, events: int, seconds: float) -> None:
        """Events of an update so far."""
        self._change(rate_hz=events / seconds if seconds > 0 else None)

    def complain(self, about: str, message: str) -> bool:
        """The last error of a file or a step; whether it is another than before."""
        errors = self._page["errors"]
        new = all((error["file"], error["message"]) != (about, message) for error in errors)
        error = {"time": _time(self._clock()), "file": about, "message": message}
        self._change(errors=[*(e for e in errors if e["file"] != about), error][-_ERRORS:])
        return new

    def mended(self, about: Collection[str]) -> None:
        """What was wrong with these is no more."""
        self._change(errors=[error for error in self._page["errors"] if error["file"] not in about])

    def found(self, look: Look) -> None:
        """What came of a look at the files."""
        self._waiting = dict(look.waiting)
        waiting = dict(look.waiting)
        for name, dataset in look.datasets.items():
            waiting[name] += len(look.new.keys() & set(dataset.files))
        self._change(datasets=datasets(self._inputs, self._shares, waiting), updated=_time(self._clock()))

    def result(self, result: Result, series: Mapping[str, Any]) -> None:
        """What an update made of all that was new.

        Args:
            result: as it is now.
            series: of `stability.series`.
        """
        self._inputs, self._shares = result.manifest["inputs"], result.manifest["datasets"]
        self._change(
            datasets=datasets(self._inputs, self._shares, self._waiting), spectra=spectra(result.histograms),
            series=dict(series), updated=_time(self._clock()),
        )  # fmt: skip

    def plots(self, folder: Path) -> None:
        """What was drawn."""
        self._change(plots=plots(folder), updated=_time(self._clock()))

    def took(self, seconds: list[float]) -> None:
        """Times from the arrival of files to their plots."""
        if seconds:
            self._times = [*self._times, *sorted(seconds)][-_TIMES:]
            self._longest = max(self._longest, *seconds)
            self._change(latency_s=self._latency())

    def _latency(self) -> dict[str, float]:
        if not self._times:
            return {}
        return {"last": self._times[-1], "median": statistics.median(self._times), "max": self._longest}


def datasets(
    inputs: list[dict[str, Any]], shares: Mapping[str, Any], waiting: Mapping[str, int]
) -> list[dict[str, Any]]:
    """The rows of the page's table.

    Args:
        inputs, shares: of the manifest: `inputs` and `datasets`; empty before there is a result.
        waiting: dataset to the number of files that are not in the result as they are now. They are taken to hold as many
            events as the others.
    """
    found = []
    for name in dict.fromkeys([*shares, *waiting]):
        rows = [item for item in inputs if item["dataset"] == name]
        share = shares.get(name, {"events": 0, "planned": 0, "fraction": 0.0})
        known = [item["entries"] for item in rows if item["entries"] is not None]
        number = waiting.get(name, 0)
        more = number * (sum(known) / len(known) if known else 0.0)
        whole = share["planned"] + more
        unknown = 0.0 if number or not rows else share["fraction"]
        found.append(
            {
                "name": name,
                "files_done": sum(item["status"] != "skipped" for item in rows),
                "files_skipped": sum(item["status"] == "skipped" for item in rows),
                "files_waiting": number,
                "events": share["events"],
                "fraction": share["events"] / whole if whole else unknown,
            }
        )
    return found


def spectra(histograms: Mapping[str, hist.Hist[Any]]) -> dict[str, dict[str, Any]]:
    """The spectra of a result that the page knows."""
    found = {}
    for name, (label, unit, chosen) in _SPECTRA.items():
        if name in histograms:
            whole: Any = histograms[name]
            mass = whole[chosen].project("mass")
            edges = mass.axes[0].edges.tolist()
            found[name] = {"label": label, "unit": unit, "edges": edges, "counts": mass.values().tolist()}
    return found


def plots(folder: Path) -> list[dict[str, str]]:
    """PNG files in and below a folder; those of the result itself come first."""
    files = sorted(folder.rglob("*.png"), key=lambda path: (len(path.relative_to(folder).parts), path))
    names = [file.relative_to(folder).as_posix() for file in files]
    return [{"name": name, "title": _title(name), "file": name} for name in names]


def _title(name: str) -> str:
    """
    >>> _title("limit/limits_expected.png")
    'limit: limits expected'
    """
    return name.removesuffix(".png").replace("_", " ").replace("/", ": ")


def _time(stamp: float) -> str:
    return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="seconds")
