"""Adding up: the sum is the same to the last bit whether it was just made, comes from the ledger, or is made anew."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest

from trila.analysis import sum_tree
from trila.analysis.accounting import added_up_again, do
from trila.analysis.ledger import FileRow, Ledger
from trila.analysis.planning import Plan, Planned
from trila.processors import formats, packing
from trila.processors.partial import Job, Partial, Unit
from trila.processors.pools import LocalPool
from trila.processors.readers import FileInfo, Layout
from trila.processors.run import Attempt, Packed

LAYOUT = Layout(formats.load("cms-scouting"), "2024", {}, {})


def weights(file: str, start: int) -> Any:
    return np.random.default_rng(sum(file.encode()) + start).normal(1, 1, 50)


def at_once(_job: Job, attempt: Attempt) -> Packed:
    unit = attempt.item
    made = hist.Hist(hist.axis.Regular(10, 0, 1, name="x"), storage=hist.storage.Weight())
    made.fill(np.linspace(0, 1, 50), weight=weights(unit.file, unit.start))
    return Packed((packing.pack(Partial({"p.x": made})),), (), None, None, 0.0)


def planned(files: list[str], units: int) -> Plan:
    rows, todo = [], []
    for number, file in enumerate(files):
        stop = 10 * units
        info = FileInfo(file, "Events", f"uuid {file}", 1, stop, (0, stop), LAYOUT, ())
        rows.append(FileRow("data", file, (file,), "", 1, info, 0, stop, "planned", "", 0.0))
        for start in range(0, stop, 10):
            unit = Unit(file, (file,), "Events", info.uuid, "data", 0, (0,), ((start, start + 10),))
            todo.append(Planned(unit, number, ("p",), ("recipe",)))
    return Plan(rows, todo, {(n, 0): [] for n in range(len(files))}, (LAYOUT,), {"data": {}}, [])


@pytest.mark.parametrize("files", [["a"], ["a", "b", "c", "d"]])
@pytest.mark.parametrize("block", [1, 2, 32])
def test_sums_do_not_depend_on_where_they_come_from(
    files: list[str], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sum_tree, "_BLOCK", block)
    plan = planned(files, 3)
    how = {"skip_bad_files": False, "progress": lambda _n: None, "work": at_once}
    with Ledger(tmp_path, write=True) as ledger:
        ledger.replace_plan(plan.files, plan.rows(("p",)))
        made = do(plan, Job((), (LAYOUT,), {"data": {}}), ledger, LocalPool(), **how)  # type: ignore[arg-type]
        found = dict(made.sums)["data"][0].histograms["p.x"].view(flow=True).tobytes()
        done = {
            (n, 0): [x for x in ledger.leaves() if x.input == row.identity]
            for n, row in enumerate(plan.files)
        }
        again = do(
            plan._replace(units=[], done=done),
            Job((), (LAYOUT,), {"data": {}}),
            ledger,
            LocalPool(),
            **how,  # type: ignore[arg-type]
        )
        assert dict(again.sums)["data"][0].histograms["p.x"].view(flow=True).tobytes() == found
        ledger.replace_plan(made.files, [])
        anew = dict(added_up_again(ledger, ["p"]))["data"][0].histograms["p.x"]
        assert anew.view(flow=True).tobytes() == found
    expected = sum(weights(file, start) for file in files for start in (0, 10, 20))
    total = np.histogram(np.linspace(0, 1, 50)[:-1], 10, (0, 1), weights=expected[:-1])[0]
    np.testing.assert_allclose(anew.values(), total, rtol=1e-12)


def test_datasets_are_added_up_one_after_the_other(tmp_path: Path) -> None:
    """So that memory holds the histograms of one, however many there are."""
    plan = planned(["b", "a"], 2)
    rows = [row._replace(dataset=f"dataset {row.file}") for row in plan.files]
    todo = [one._replace(unit=one.unit._replace(dataset=rows[one.file].dataset)) for one in plan.units]
    plan = plan._replace(files=rows, units=todo)
    job = Job((), (LAYOUT,), {row.dataset: {} for row in rows})
    with Ledger(tmp_path, write=True) as ledger:
        ledger.replace_plan(plan.files, plan.rows(("p",)))
        made = do(
            plan, job, ledger, LocalPool(), skip_bad_files=False, progress=lambda _n: None, work=at_once
        )
        name, (partial,) = next(made.sums)
        assert name == "dataset a"
        assert partial.histograms["p.x"].sum().value == pytest.approx(
            sum(weights("a", k)[:-1].sum() for k in (0, 10))
        )
        kept = weakref.ref(partial)
        del partial
        name, (other,) = next(made.sums)
        assert name == "dataset b"
        assert other.histograms["p.x"].sum().value == pytest.approx(
            sum(weights("b", k)[:-1].sum() for k in (0, 10))
        )
        assert kept() is None
