"""Do what is planned, account for each unit in the ledger, and add up what is there.

Results are added up in a tree that does not depend on the order in which they came, or on the runs that they came from:
leaves (a unit) in the order of their entries, in groups of files that are told by a hash of the file's uuid, groups in
their order. So a result after ten updates is, bit for bit, that of one run over the final list; and one more file costs the
sum of its group and of all groups, not of all files.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from trila.analysis.ledger import FileRow, Leaf, Ledger
from trila.analysis.planning import Plan, Planned, retracted_digest
from trila.processors.errors import BadFile
from trila.processors.packing import Total
from trila.processors.partial import Job, Partial
from trila.processors.pools import Pool
from trila.processors.recipes import digest
from trila.processors.run import Attempt, Packed, carry_out, measure

__all__ = ["Accounts", "DatasetFraction", "added_up_again", "do", "fractions"]

#: Groups of files; about the square root of how many files there are.
_GROUPS = 64


class Accounts(NamedTuple):
    """What came of a plan.

    Attributes:
        sums: datasets in the order of their names, and what each processor gave, in order, over complete files; each is
            added up when it is asked for, so that memory holds one.
        files: of the plan, with what became of them.
        leaves: that go into the sums, by dataset.
    """

    sums: Iterator[tuple[str, list[Partial]]]
    files: list[FileRow]
    leaves: dict[str, list[Leaf]]


def do(
    planned: Plan, job: Job, ledger: Ledger, pool: Pool, *, skip_bad_files: bool,
    progress: Callable[[int], None], work: Callable[[Job, Attempt], Packed] = measure,
) -> Accounts:  # fmt: skip
    """Process the units of a plan that are not done, and add up.

    Args:
        planned: what is to be done.
        job: what units share.
        ledger: that accounts for them.
        pool: where they are processed.
        skip_bad_files: leave out files that cannot be read.
        progress: called with the events of each unit.
        work: what is done with a unit.

    Raises:
        BadFile: a file cannot be read, and `skip_bad_files` is not set.
        InputError: the input or the cluster as a whole is at fault; what was done is kept.
        ProcessorError: a processor failed on good data.
    """
    sums = _Sums(planned, ledger)
    bad: dict[int, str] = {}
    of_unit = {_key(p): p for p in planned.units}

    def tried(unit: Any, source: str, kind: str, reason: str) -> None:
        ledger.tried(unit.file, (unit.start, unit.stop), source, kind, reason)

    units = (p.unit for p in sorted(planned.units, key=lambda p: (_group(p.unit.uuid), p.file, p.unit.start)))
    outcomes = carry_out(
        pool, work, job, units, sources=lambda unit: unit.replicas,
        wanted=lambda unit: of_unit[unit.file, unit.processors, unit.start].file not in bad, tried=tried,
    )  # fmt: skip
    for unit, outcome in outcomes:
        one = of_unit[unit.file, unit.processors, unit.start]
        progress(unit.entries)
        if isinstance(outcome, BadFile):
            if not skip_bad_files:
                raise outcome
            if one.file not in bad:  # several units of it may have been under way
                bad[one.file] = outcome.reason
                ledger.settle(one.file, "skipped", outcome.reason)
                sums.leave_out(one.file)
        elif one.file not in bad:
            assert isinstance(outcome, Packed)
            identity = planned.files[one.file].identity
            left_out = retracted_digest(outcome.blocks, job.retracted)
            sums.add(one, ledger.store(unit, one.file, identity, one.names, one.recipes, left_out, outcome))
    files = []
    for number, row in enumerate(planned.files):
        if row.status == "planned":
            status = "skipped" if number in bad else "done" if row.last > row.first else "empty"
            ledger.settle(number, status, bad.get(number, ""))
            row = row._replace(status=status, reason=bad.get(number, ""))
        files.append(row)
    ledger.commit()
    left = ledger.rows("SELECT count(*) FROM units WHERE status = 'planned'")[0][0]
    if left:
        raise AssertionError(f"{left} units are unaccounted for")
    sums.prune()
    return Accounts(sums.totals(), files, sums.leaves())


def added_up_again(ledger: Ledger, processors: Sequence[str]) -> Iterator[tuple[str, list[Partial]]]:
    """As `Accounts.sums`, of some processors over all stored results of files that are done, without any stored sum."""
    files = ledger.files()
    numbers = {
        row.identity: n for n, row in enumerate(files) if row.info is not None and row.status != "skipped"
    }
    done: dict[tuple[int, int], list[Leaf]] = {
        (n, p): [] for n in numbers.values() for p in range(len(processors))
    }
    for leaf in ledger.leaves():
        if leaf.input in numbers and leaf.processor in processors:
            done[numbers[leaf.input], processors.index(leaf.processor)].append(leaf)
    return _Sums(Plan(files, [], done, (), {}, []), ledger, stored=False).totals()


def _key(planned: Planned) -> tuple[str, tuple[int, ...], int]:
    return planned.unit.file, planned.unit.processors, planned.unit.start


def _sum_key(leaves: list[Leaf]) -> str:
    """Under which a sum is kept."""
    return digest([(x.recipe, x.input, x.start, x.stop, x.retracted) for x in leaves])


def _group(uuid: str) -> int:
    return int.from_bytes(hashlib.sha256(uuid.encode()).digest()[:4], "big") % _GROUPS


class _Sums:
    """Sums over groups of files; each is made when the last unit of the group is done.

    Args:
        planned: files, what is done of them, and what is to be done.
        ledger: where partial results and sums are.
        stored: use sums that are there, and keep new ones.
    """

    def __init__(self, planned: Plan, ledger: Ledger, *, stored: bool = True) -> None:
        self._ledger = ledger
        self._stored = stored
        self._files = planned.files
        self._processors = 1 + max((p for _, p in planned.done), default=-1)
        self._leaves: dict[tuple[int, int], list[Leaf]] = {key: list(v) for key, v in planned.done.items()}
        self._members: dict[tuple[str, int], list[int]] = defaultdict(list)
        for number, row in enumerate(planned.files):
            if row.status != "skipped" and row.info is not None:
                self._members[row.dataset, _group(row.info.uuid)].append(number)
        self._last: dict[str, Total] = {}  # sums over the last group that was done
        self._waiting: dict[tuple[str, int], int] = defaultdict(int)
        for one in planned.units:
            self._waiting[self._place(one.file)] += 1

    def _place(self, file: int) -> tuple[str, int]:
        row = self._files[file]
        assert row.info is not None
        return row.dataset, _group(row.info.uuid)

    def add(self, one: Planned, leaves: list[Leaf]) -> None:
        """A unit is done."""
        for position, leaf in zip(one.unit.processors, leaves, strict=True):
            self._leaves[one.file, position].append(leaf)
        place = self._place(one.file)
        self._waiting[place] -= 1
        if not self._waiting[place]:
            self._last = {}
            for position in range(self._processors):
                self._sum(place, position, self._last)

    def leave_out(self, file: int) -> None:
        """A file is not to be counted."""
        self._members[self._place(file)].remove(file)

    def _of(self, place: tuple[str, int], position: int) -> list[Leaf]:
        files = sorted(self._members[place], key=lambda n: self._files[n].info.uuid)  # type: ignore[union-attr]
        return [leaf for n in files for leaf in sorted(self._leaves[n, position], key=lambda x: x.start)]

    def _places(self, dataset: str) -> list[tuple[str, int]]:
        """Groups of a dataset that have files, in their order."""
        return sorted(place for place, files in self._members.items() if place[0] == dataset and files)

    def _sum(
        self, place: tuple[str, int], position: int, made: dict[str, Total] | None = None
    ) -> bytes | None:
        """The sum over a group, made where it is not there; None without files. A single leaf is its own sum.

        Args:
            place: dataset and group.
            position: of the processor.
            made: the sum is put there, by its key, if it had to be made.
        """
        leaves = self._of(place, position)
        if len(leaves) < 2:
            return self._ledger.data(leaves[0]) if leaves else None
        key = _sum_key(leaves)
        found = self._ledger.sum(key) if self._stored else None
        if found is None:
            total = Total()
            for leaf in leaves:
                total.add(self._ledger.data(leaf))
            found = total.packed()
            if self._stored:
                self._ledger.store_sum(key, found)
            if made is not None:
                made[key] = total
        return found

    def _total(self, places: list[tuple[str, int]], position: int) -> Total:
        """The sum over groups; that over a single one is taken as it is, if it was just made."""
        if len(places) == 1:
            whole = self._last.pop(_sum_key(self._of(places[0], position)), None)
            if whole is not None:
                return whole
        total = Total()
        for data in (self._sum(place, position) for place in places):
            if data is not None:
                total.add(data)
        return total

    def totals(self) -> Iterator[tuple[str, list[Partial]]]:
        """Datasets in the order of their names, and the sum of each processor."""
        for dataset in sorted({row.dataset for row in self._files}):
            places = self._places(dataset)
            if places:
                yield dataset, [self._total(places, p).partial() for p in range(self._processors)]

    def prune(self) -> None:
        """Drop stored results that are of no more use.

        Those of files that were skipped half-way are kept: the file may be readable another time.
        """
        groups = (self._of(place, p) for place in self._members for p in range(self._processors))
        self._ledger.prune(
            (leaf for leaves in self._leaves.values() for leaf in leaves),
            (_sum_key(leaves) for leaves in groups if len(leaves) > 1),
        )

    def leaves(self) -> dict[str, list[Leaf]]:
        """Leaves of complete files, by dataset."""
        found: dict[str, list[Leaf]] = defaultdict(list)
        for (dataset, _), files in sorted(self._members.items()):
            for number in files:
                for position in range(self._processors):
                    found[dataset] += self._leaves[number, position]
        return dict(found)


class DatasetFraction(NamedTuple):
    """How much of a dataset was processed.

    Attributes:
        planned: events of the plan; those of files that could not be looked at are taken to be as many as in the others.
        done: events that were processed.
        unknown: files that could not be looked at.
    """

    planned: int
    done: int
    unknown: int

    @property
    def fraction(self) -> float:
        """Share of the planned events, 1 for none."""
        return self.done / self.planned if self.planned else 0.0 if self.unknown else 1.0


def fractions(files: list[FileRow], max_events: int | None) -> dict[str, DatasetFraction]:
    """Dataset to how much of it was processed, after `--max-events`.

    Events outside of a luminosity mask are not planned; the share of a lost file that the mask would have kept is taken to be
    that of the others, so that it drops out of the fraction.
    """
    found = {}
    for dataset in dict.fromkeys(row.dataset for row in files):
        rows = [row for row in files if row.dataset == dataset]
        done = sum(row.last - row.first for row in rows if row.status in ("done", "empty"))
        known = [row.info.entries for row in rows if row.info is not None]
        unknown = sum(row.info is None for row in rows)
        mean = round(sum(known) / len(known)) if known else 0
        lost = sum(
            (
                mean
                if row.info is None
                else row.info.entries
                if row.last == row.first
                else row.last - row.first
            )
            for row in rows
            if row.status == "skipped"
        )
        planned = done + lost if max_events is None else min(done + lost, max(done, max_events))
        found[dataset] = DatasetFraction(planned, done, unknown)
    return found
