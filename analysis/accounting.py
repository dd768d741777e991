"""Do what is planned, and account for each unit in the ledger."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from trila.analysis.ledger import FileRow, Leaf, Ledger
from trila.analysis.planning import Plan, Planned, retracted_digest
from trila.analysis.sum_tree import SumTree, order
from trila.processors.errors import BadFile
from trila.processors.partial import Job, Partial
from trila.processors.pools import Pool
from trila.processors.run import Attempt, Packed, carry_out, measure

__all__ = ["Accounts", "DatasetFraction", "added_up_again", "do", "fractions"]


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
    sums = SumTree(planned.files, planned.done, [one.file for one in planned.units], ledger)
    bad: dict[int, str] = {}
    of_unit = {_key(p): p for p in planned.units}

    def tried(unit: Any, source: str, kind: str, reason: str) -> None:
        ledger.tried(unit.file, (unit.start, unit.stop), source, kind, reason)

    units = [one.unit for one in planned.units]
    units.sort(key=lambda unit: (unit.dataset, order(unit.uuid), unit.start))  # the order of adding up
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
            leaves = ledger.store(unit, one.file, identity, one.names, one.recipes, left_out, outcome)
            sums.add(one.file, dict(zip(one.unit.processors, leaves, strict=True)))
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
    return SumTree(files, done, [], ledger, stored=False).totals()


def _key(planned: Planned) -> tuple[str, tuple[int, ...], int]:
    return planned.unit.file, planned.unit.processors, planned.unit.start


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
