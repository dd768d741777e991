"""Files of a fileset as they arrive: which are whole, and since when.

A file that is being written or copied is left until it is whole: its size and its time of change are those of the look
before, and it can be opened and has a tree of a known format (`readers.inspect`). The first alone would take a copy that
has stalled, the second alone a file whose program writes a readable state now and then.
"""

import glob
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trila.analysis.filesets import Dataset, datasets
from trila.processors import readers
from trila.processors.documents import exists
from trila.processors.errors import BadFile, InputError
from trila.processors.formats import Format
from trila.processors.readers import is_remote

__all__ = ["Arrivals", "Look", "Used"]

#: Size in bytes and time of the last change in ns; zeros for URLs, which are taken not to change.
Mark = tuple[int, int]

#: Seconds of a look for opening files; a folder of many thousands is worked off in several looks.
_OPENING = 60.0
_WRITING = "is still being written"


class Used(NamedTuple):
    """A file as it went into the result.

    Attributes:
        size, modified: bytes, and time of the last change in ns.
        arrived: time stamp of its arrival, s.
    """

    size: int
    modified: int
    arrived: float


class Look(NamedTuple):
    """What a look found.

    Attributes:
        datasets: with those files alone that are whole; paths are absolute.
        new: whole files that are not in the result as they are now, with the time stamps of their arrival, s.
        waiting: dataset to the number of files that are not whole, or that there was no time to open.
        complaints: file to what is wrong with it; each is told once. What concerns no file has an empty name.
        more: whether files were left for want of time: look again at once.
    """

    datasets: dict[str, Dataset]
    new: dict[str, float]
    waiting: dict[str, int]
    complaints: dict[str, str]
    more: bool


@dataclass(slots=True)
class _Followed:
    """A file that is not in the result as it is now: `mark` is so since `since`, and `arrived` is when it came to be so."""

    mark: Mark | None
    since: float
    arrived: float
    whole: bool = False
    reason: str = _WRITING
    tried: bool = False
    again: float = 0.0
    told: bool = False


class Arrivals:
    """Follows the files that inputs stand for.

    Args:
        inputs: as of `datasets`, or folders, for the `.root` files in and below them.
        patience: seconds without a change after which a file that is not whole is complained of.
        table: format of the files; detected, if None.
        sources: branch prefixes to take for some collections.
        used: files of the result as it is.
        looked: time stamp of the last look of an earlier process, s; files that are new came later.
        clock: gives time stamps.

    Raises:
        InputError: an input that is no glob is not there.
    """

    def __init__(
        self, inputs: Sequence[str], *, patience: float, table: Format | None = None, sources: dict[str, str] | None = None,
        used: Mapping[str, Used] | None = None, looked: float | None = None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        for item in inputs:
            if not (is_remote(item) or _is_glob(item) or exists(item)):
                raise InputError(f"{item} is not there; give a folder, a glob, a list or a fileset that is")
        self._inputs = tuple(inputs)
        self._patience = patience
        self._table, self._sources = table, sources
        self._clock = clock
        self._followed: dict[str, _Followed] = {}
        self._given: dict[str, Dataset] = {}
        self._complaint = ""
        self.used = dict(used or {})
        self.looked = clock() if looked is None else looked

    def look(self) -> Look:
        """Look at the files that the inputs stand for by now."""
        now, end = self._clock(), time.monotonic() + _OPENING
        complaints = self._expand()
        whole: dict[str, Dataset] = {}
        new: dict[str, float] = {}
        waiting: dict[str, int] = {}
        followed: dict[str, _Followed] = {}
        more = False
        for name, dataset in self._given.items():
            files = []
            for file in dict.fromkeys(dataset.files):
                places = dataset.replicas.get(file, (file,))
                one = self._follow(file, places[0], now)
                if one is not None:
                    followed[file] = one
                    left = time.monotonic() < end
                    more |= not self._open(one, places, now, left)
                    if one.reason and now - one.since >= self._patience and not one.told:
                        complaints[file] = f"{one.reason} (for {now - one.since:.0f} s)"
                        one.told = True
                    if one.whole:
                        new[file] = one.arrived
                if one is None or one.whole:
                    files.append(file)
            waiting[name] = len(dict.fromkeys(dataset.files)) - len(files)
            if files:
                replicas = {file: dataset.replicas[file] for file in files if file in dataset.replicas}
                whole[name] = dataset.model_copy(update={"files": tuple(files), "replicas": replicas})
        self._followed, self.looked = followed, now
        return Look(whole, new, waiting, complaints, more)

    def take(self, files: Mapping[str, float]) -> None:
        """These new files are in the result, as they were at the last look."""
        for file in files:
            one = self._followed.pop(file)
            size, modified = one.mark or (0, 0)
            self.used[file] = Used(size, modified, one.arrived)

    def _expand(self) -> dict[str, str]:
        """What the inputs stand for; what it was before, where they cannot be read."""
        try:
            self._given = _present(self._inputs)
        except InputError as error:
            known, self._complaint = self._complaint, str(error)
            return {} if known == self._complaint else {"": self._complaint}
        self._complaint = ""
        return {}

    def _follow(self, file: str, place: str, now: float) -> _Followed | None:
        """What is known of a file; None if it is in the result as it is."""
        mark = _mark(place)
        used = self.used.get(file)
        if used is not None and (mark is None or mark == (used.size, used.modified)):
            return None  # what a file gave is kept when it is removed
        one = self._followed.get(file)
        if one is not None and one.mark == mark:
            return one
        # it came to be so between the look before and this one; clocks of file servers may be off
        changed = now if mark is None or is_remote(place) else mark[1] / 1e9
        return _Followed(mark, now, min(now, max(self.looked, changed)))

    def _open(self, one: _Followed, places: tuple[str, ...], now: float, time_left: bool) -> bool:
        """Open a file that may be whole; False if there was no time for it."""
        if one.whole:
            return True
        if one.mark is None:
            one.reason = "is not there"
            return True
        remote = is_remote(places[0])
        if (one.tried and not (remote and now >= one.again)) or (not remote and one.since == now):
            return True
        if not time_left:
            return False
        one.reason, one.tried = self._fault(places), True
        one.whole = not one.reason
        # nobody tells when a URL changes; what is asked often is asked less and less often
        one.again = now + min(self._patience, now - one.since)
        return True

    def _fault(self, places: tuple[str, ...]) -> str:
        """Why a file cannot be used at any of its places; empty if it can."""
        reason = ""
        for place in places:
            try:
                readers.inspect(place, self._table, self._sources)
            except BadFile as error:
                reason = reason or error.reason
            else:
                return ""
        return reason


def _is_glob(item: str) -> bool:
    return any(c in item for c in "*?[") and not exists(item)


def _present(inputs: Sequence[str]) -> dict[str, Dataset]:
    """Datasets with absolute paths; an empty folder and a glob without files, also one of a fileset, stand for none yet."""
    items = [
        f"{glob.escape(given)}/**/*.root" if not is_remote(given) and Path(given).is_dir() else given
        for given in inputs
    ]
    return {
        name: dataset.model_copy(
            update={
                "files": tuple(_absolute(file) for file in dataset.files),
                "replicas": {_absolute(f): tuple(map(_absolute, p)) for f, p in dataset.replicas.items()},
            }
        )
        for name, dataset in datasets(items, empty=True).items()
    }


def _absolute(file: str) -> str:
    return file if is_remote(file) else str(Path(file).absolute())


def _mark(place: str) -> Mark | None:
    """The mark of a file; None if it is not there."""
    if is_remote(place):
        return 0, 0
    try:
        status = Path(place).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
