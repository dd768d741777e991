"""Follow a fileset: look for files that have become whole, update the result with them, and draw it again.

Whatever is wrong with files, or with a step that has too little data yet, is told and shown; the watch goes on. What the
watch wants done is in RESULT itself, so one that was killed goes on where it stood: `live/fileset.json` lists the files that
are whole and is the only input of the run, the ledger knows what is done of it, `live/state.json` which files were used.

| folder of RESULT | content |
| --- | --- |
| `live/plots/` | plots of the result, and in a folder each those of the steps of `--then` |
| `live/*.json`, `live/calibration.json.gz` | products of these steps |
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import yaml

from trila.analysis import ledger as ledgers
from trila.analysis import requests, results, steps
from trila.analysis.config import RunConfig, load_config, with_options
from trila.analysis.filesets import Dataset
from trila.analysis.ledger import Ledger, exclusive
from trila.analysis.requests import Request
from trila.analysis.results import Result, write_json
from trila.analysis.stability import series
from trila.analysis.watch_files import Arrivals, Look
from trila.analysis.watch_state import WatchState
from trila.analysis.watch_steps import Place, check_steps, follow, split_config
from trila.corrections.jets import CorrectionError
from trila.corrections.lumi import LumiMaskError
from trila.fits.errors import FitError
from trila.processors import formats
from trila.processors.errors import BadFile, InputError

__all__ = ["PROCESSORS", "Watch", "Wish"]

PROCESSORS = ("response", "dijet", "stability")
_LIVE = "live"
#: What errors are about that concern no one file.
_UPDATE = "update"


class Wish(NamedTuple):
    """What is to be watched.

    Attributes:
        inputs: folders, globs, lists, filesets.
        result: RESULT.
        processors: those of an earlier run into it, or `PROCESSORS`, if none are given.
        then: steps after each update.
        every: seconds between looks.
        patience: seconds without a change after which a file that is not whole is complained of.
        config, format, lumi_mask, corrections: as for `steps.run`; the configuration may have a section `watch`.
        how: `executor`, `workers`, `scheduler`, `cluster`, `chunk_size` of `steps.run`, where they are given.
        style: `style`, `label`, `com`, `lumi` of the plots.
        command: for the manifest.
    """

    inputs: tuple[str, ...]
    result: Path
    processors: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    every: float = 10.0
    patience: float = 600.0
    config: str | Path | None = None
    format: str | None = None
    lumi_mask: str | None = None
    corrections: str | None = None
    how: Mapping[str, Any] = {}
    style: Mapping[str, Any] = {}
    command: tuple[str, ...] = ()


class Watch:
    """A watch, from entering the context to leaving it; nobody else watches into this RESULT meanwhile.

    Args:
        wish: what is to be watched.
        tell: called with a line for each update.
        complain: called with a file (or what else it is about) and what is wrong; not again while it stays so.
        clock: gives time stamps, s.
        sleep: waits for seconds.

    Attributes:
        state: what the page shows; there once the context is entered.
        plots: folder of the plots.
        skipped: file to the reason why the result is without it.
        failed: whether the last update came to nothing.

    Raises:
        InputError: on entering, something is wrong that will not mend itself.
    """

    state: WatchState

    def __init__(
        self, wish: Wish, *, tell: Callable[[str], None], complain: Callable[[str, str], None],
        clock: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self.wish = wish
        self._tell, self._complain = tell, complain
        self._clock, self._sleep = clock, sleep
        self._live = wish.result.absolute() / _LIVE
        self.plots = self._live / "plots"
        self._fileset = self._live / "fileset.json"
        self._config = self._live / "config.yaml"
        self.skipped: dict[str, str] = {}
        self.failed = False
        self._pause, self._again = 0.0, 0.0
        self._open = ExitStack()

    def __enter__(self) -> Self:
        wish = self.wish
        for name, value in (("every", wish.every), ("patience", wish.patience)):
            if not 0 < value < 1e9:
                raise InputError(f"--{name} is {value:g}; expected seconds above 0, such as 10")
        # all that can be wrong is looked at before anything is made: nothing is left where nothing was
        self._options, rest = split_config(wish.config)
        settings = with_options(
            load_config(wish.config), lumi_mask=wish.lumi_mask, corrections=wish.corrections
        )
        before = self._before()
        if before is not None:
            self._check_same(before, settings)
            settings = before.config
        self._processors = wish.processors or (before.processors if before else PROCESSORS)
        format = before.format if before else wish.format
        check_steps(wish.then, self._options, self._processors)
        for name in self._processors:
            steps.make_processor(name, settings)
        self.state = WatchState(self._live / "state.json", f"trila watch: {wish.result.name}", self._clock)
        self._arrivals = Arrivals(
            wish.inputs, patience=wish.patience, table=formats.load(format) if format else None,
            sources=settings.reader.collections, used=self.state.used, looked=self.state.looked, clock=self._clock,
        )  # fmt: skip
        with ExitStack() as opened:
            self._claim(opened)
            if rest is not None:
                self._config.write_text(yaml.safe_dump(rest, sort_keys=False))
            with suppress(InputError):  # nothing there yet, or not complete, as it was killed
                self._show(results.read(wish.result, min_fraction=0.0))
                self.state.plots(self.plots)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.state.save(self._arrivals)
        self._open.close()

    def _claim(self, opened: ExitStack) -> None:
        """Make RESULT a place to work in, for this watch alone."""
        path = self.wish.result
        with results.working(path):
            pass
        path.mkdir(parents=True, exist_ok=True)
        Ledger(path, write=True).close()
        self.plots.mkdir(parents=True, exist_ok=True)
        opened.enter_context(exclusive(self._live))

    def _before(self) -> Request | None:
        """What the last run into RESULT was asked to do; None without one."""
        if not (self.wish.result / ledgers.NAME).is_file():
            return None
        with Ledger(self.wish.result) as ledger:
            return requests.earlier(ledger)

    def _check_same(self, before: Request, settings: RunConfig) -> None:
        """Options that shape a result are those of its first run; they may be left out."""
        wish = self.wish
        given = any(option is not None for option in (wish.config, wish.lumi_mask, wish.corrections))
        for option, differs in {
            "--processors": bool(wish.processors) and set(wish.processors) != set(before.processors),
            "--config, --lumi-mask or --corrections": given and _shaping(settings) != _shaping(before.config),
            "--format": wish.format is not None and wish.format != before.format,
        }.items():
            if differs:
                raise InputError(
                    f"{wish.result} was made by {','.join(before.processors)} with another {option} than given now; leave it "
                    "out to go on with that, or give another folder"
                )

    # ---- the loop

    def run(self) -> None:
        """Look and update until the process is told to end."""
        while True:
            look = self.look()
            if not look.more:
                self._sleep(self.wish.every)

    def once(self) -> None:
        """Bring the result up to date with the files that are whole now: that takes two looks."""
        self.look()
        self._sleep(self.wish.every)
        while self.look().more:
            pass

    def look(self) -> Look:
        """One look at the files, and an update where something is new."""
        look = self._arrivals.look()
        for file, message in look.complaints.items():
            self._tell_error(file, message)
        self.state.found(look)
        if look.new and self._clock() >= self._again:
            self._update(look)
        return look

    def _update(self, look: Look) -> None:
        begin = self._clock()
        try:
            self.state.phase("reading")
            outcome = self._run(look)
            for file, reason in outcome.skipped.items():
                if self.skipped.get(file) != reason:
                    self._tell_error(file, reason)
            self.skipped = outcome.skipped
            self._show(outcome.result)
            self.state.phase("plotting")
            steps.plot(self.wish.result, self.plots, min_fraction=0.0, **self.wish.style)
        except (InputError, OSError) as error:
            self._tell_error(*(error.args[:2] if isinstance(error, BadFile) else (_UPDATE, str(error))))
            self.state.phase("failed")
            # the disk may be full or a cluster gone: try again, less and less often
            self._pause = min(max(2 * self._pause, self.wish.every), self.wish.patience)
            self._again, self.failed = self._clock() + self._pause, True
            return
        done = self._clock()
        used = {file: arrived for file, arrived in look.new.items() if file not in outcome.skipped}
        self.state.took([done - arrived for arrived in used.values()])
        self.state.mended({*used, _UPDATE})
        self._pause, self._again, self.failed = 0.0, 0.0, False
        self.state.plots(self.plots)
        inputs = outcome.result.manifest["inputs"]
        skipped = f", {len(outcome.skipped)} of them skipped" if outcome.skipped else ""
        self._tell(
            f"{len(look.new)} new, {len(inputs)} files in all{skipped}: {sum(item['processed'] for item in inputs)} events, "
            f"drawn in {done - begin:.1f} s"
        )
        self._follow(outcome.result)
        self._arrivals.take(look.new)  # now, so that a watch that was killed before does the steps, too
        self.state.save(self._arrivals)
        self.state.phase("waiting")

    def _run(self, look: Look) -> steps.RunOutcome:
        """Bring the result up to date."""
        wish = self.wish
        write_json(self._fileset, {name: _listed(dataset) for name, dataset in look.datasets.items()})
        inputs = (str(self._fileset),)
        with exclusive(wish.result), Ledger(wish.result, write=True) as ledger:
            before = requests.earlier(ledger)
            if before is not None and before.inputs != inputs:
                # earlier runs took whatever their inputs stood for, whole or not; what they read stays in
                requests.remember(ledger, before.model_copy(update={"inputs": inputs}))
        shared: dict[str, Any] = {
            **wish.how, "skip_bad_files": True, "progress": self._progress, "command": wish.command,
        }  # fmt: skip
        if before is not None:
            return steps.update(wish.result, **shared)
        return steps.run(
            self._processors, inputs, wish.result, config=self._config if wish.config else None, format=wish.format,
            lumi_mask=wish.lumi_mask, corrections=wish.corrections, **shared,
        )  # fmt: skip

    def _progress(self, stage: str, _total: int) -> Callable[[int], None]:
        """The rate at which events are processed."""
        if stage != "processing events":
            return lambda _advance: None
        begin, events = self._clock(), 0

        def advance(number: int) -> None:
            nonlocal events
            events += number
            self.state.rate(events, self._clock() - begin)

        return advance

    def _show(self, content: Result) -> None:
        """What is in a result."""
        found: dict[str, Any] = {}
        if "stability" in content.manifest["processors"]:
            try:
                found = series(content.path)
            except InputError as error:
                self._tell_error("response versus run", str(error))
        self.state.result(content, found)

    def _follow(self, content: Result) -> None:
        """The steps of `--then`; one that fails leaves what it made before in its place."""
        is_data = any(dataset["is_data"] for dataset in content.manifest["datasets"].values())
        place = Place(self.wish.result, self._live, is_data, self.wish.style)
        for name in self.wish.then:
            self.state.phase("calibrating" if name in ("calibrate", "closure") else name)
            try:
                follow(name, place, self._options)
                self.state.mended({_step(name)})
            except (InputError, FitError, CorrectionError, LumiMaskError, OSError) as error:
                self._tell_error(_step(name), str(error))
            self.state.plots(self.plots)

    def _tell_error(self, about: str, message: str) -> None:
        if self.state.complain(about, message):
            self._complain(about, message)


def _listed(dataset: Dataset) -> dict[str, Any]:
    """A dataset as a fileset file has it: several places of a file are a list."""
    files: Sequence[Any] = [dataset.replicas.get(file, file) for file in dataset.files]
    content: dict[str, Any] = json.loads(dataset.model_dump_json(exclude_unset=True, exclude={"replicas"}))
    return content | {"files": files}


def _step(name: str) -> str:
    return f"--then {name}"


def _shaping(config: RunConfig) -> Any:
    """What of a configuration shapes the result."""
    return config.model_dump(mode="json", exclude={"cluster"})
