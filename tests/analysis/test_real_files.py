"""The processors on real files against an independent slow loop, bin by bin.

Protected: that what `docs/processors.md` says is selected and filled is what comes out of `trila run`, on files as
experiments write them: every bin of every histogram with its variance and the flow bins, every line of the cutflow
and every row of the pairs. The loop (`slow_loop.py`) was written from the documents alone.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import hist
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from trila.analysis import steps

TOLERANCE = 1e-12  # of sums of weights, whose order is not defined
PFJETS = [f"HLT_PFJet{threshold}" for threshold in (40, 60, 80, 110, 140, 200, 260, 320, 400, 450, 500, 550)]
MEASURED = [*PFJETS, "DST_PFScouting_JetHT"]
ORTHOGONAL = ["HLT_IsoMu27", "HLT_IsoMu24", "HLT_Mu50", "HLT_IsoMu20"]


def _slow_loop() -> ModuleType:
    name = "trila_tests_slow_loop"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("slow_loop.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


slow = _slow_loop()


def _axis(axis: Any) -> Any:
    text = isinstance(axis, hist.axis.StrCategory)
    return slow.Axis(
        edges=[] if text else [float(edge) for edge in axis.edges],
        categories=list(axis) if text else [],
        underflow=axis.traits.underflow,
        overflow=axis.traits.overflow,
    )


def _run(
    processors: list[str],
    path: Path,
    folder: Path,
    configuration: dict[str, Any] | None = None,
    chunk_size: int = 500_000,
) -> Any:
    config = None
    if configuration is not None:
        config = folder / "configuration.yaml"
        config.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    outcome = steps.run(processors, [str(path)], folder / "RESULT", config=config, chunk_size=chunk_size)
    assert outcome.result.manifest["complete"] is True
    return outcome.result


def _booking(result: Any, processor: str) -> Any:
    """Empty, with the axes of all histograms that the result has of this processor."""
    axes = {
        name: [_axis(axis) for axis in histogram.axes]
        for name, histogram in result.histograms.items()
        if name.startswith(f"{processor}.")
    }
    assert axes
    return slow.Booking(axes)


def _compare_histograms(result: Any, booking: Any) -> None:
    problems = []
    for name, bins in booking.bins.items():
        view = result.histograms[name].view(flow=True)
        found_bins = {tuple(int(i) for i in index) for index in np.argwhere(view["variance"] != 0)}
        for index in sorted(found_bins | set(bins)):
            weights = bins.get(index, [])
            value, variance = math.fsum(weights), math.fsum(weight**2 for weight in weights)
            found = view[index]
            if not (
                math.isclose(found["value"], value, rel_tol=TOLERANCE)
                and math.isclose(found["variance"], variance, rel_tol=TOLERANCE)
            ):
                problems.append(f"{name}{list(index)}: {value} +- {variance}^1/2, found {found}")
        assert not np.any((view["value"] != 0) & (view["variance"] == 0)), name
    assert not problems, f"{len(problems)} bins differ:\n" + "\n".join(problems[:30])


def _compare_cutflow(result: Any, processor: str, booking: Any) -> None:
    (dataset,) = result.cutflow
    rows = result.cutflow[dataset][processor]
    assert [row["cut"] for row in rows] == list(booking.cuts)
    for row, weights in zip(rows, booking.cuts.values(), strict=True):
        assert row["events"] == len(weights), row
        assert row["sumw"] == pytest.approx(math.fsum(weights), rel=TOLERANCE, abs=0), row
        squares = math.fsum(weight**2 for weight in weights)
        assert row["sumw2"] == pytest.approx(squares, rel=TOLERANCE, abs=0), row


def _compare(result: Any, processor: str, fill: Callable[..., None], *args: Any, **kwargs: Any) -> Any:
    booking = _booking(result, processor)
    fill(*args, booking, **kwargs)
    _compare_cutflow(result, processor, booking)
    _compare_histograms(result, booking)
    return booking


def _compare_pairs(result: Any, expected: Sequence[dict[str, float]]) -> None:
    def key(row: dict[str, float]) -> tuple[float, ...]:
        return (row["run"], row["luminosity_block"], row["event"], row["pt_tag"])

    files = sorted((result.path / "pairs").glob("*/*.parquet"))
    found = sorted((row for file in files for row in pq.read_table(file).to_pylist()), key=key)
    assert len(found) == len(expected)
    for row, wanted in zip(found, sorted(expected, key=key), strict=True):
        assert row.keys() == wanted.keys()
        for column, value in wanted.items():
            exact = column in ("run", "luminosity_block", "event", "weight")
            assert row[column] == (value if exact else slow.as_float32(value)), (column, row, wanted)


@pytest.fixture(scope="module")
def scouting(data_dir: Path) -> Path:
    return data_dir / "cms" / "scouting_nano.root"
@pytest.fixture(scope="module")
def ttbar(data_dir: Path) -> Path:
    return data_dir / "cms" / "nano_tt_v15.root"
@pytest.fixture(scope="module")
def atlas(data_dir: Path) -> Path:
    return data_dir / "atlas" / "trigger_offline_jets.root"


def test_cms_scouting(scouting,tmp_path):
    r=_run(["response","dijet","dimuon"],scouting,tmp_path)
    assert r.manifest["reference"] == "gen"
    events=list(slow.read_cms_scouting(scouting))
    E=[]
    for p,f,k in [("response",slow.response,dict(reference_is_gen=True)),("dijet",slow.dijet,{}),("dimuon",slow.dimuon,{})]:
        try:
            b=_compare(r,p,f,iter(events),**k)
            if b.pairs: _compare_pairs(r,b.pairs)
        except AssertionError as e: E.append(f"{p}: {e}")
    assert not E, "\n".join(E)

@pytest.mark.parametrize("o",[ORTHOGONAL[:1],["HLT_Mu50"],["HLT_PFJet40"],["HLT_PFJet80","DST_PFScouting_JetHT"]])
def test_tt(ttbar,tmp_path,o):
    c={"efficiency":{"orthogonal_triggers":o}} if o[0]!="HLT_IsoMu27" else None
    r=_run(["response","dijet","dimuon","efficiency"],ttbar,tmp_path,c)
    assert r.manifest["reference"] == "offline"
    events=list(slow.read_cms_nano(ttbar,[*MEASURED,*ORTHOGONAL]))
    E=[]
    for p,f,k in [("response",slow.response,dict(reference_is_gen=False)),("dijet",slow.dijet,{}),("dimuon",slow.dimuon,{}),("efficiency",slow.efficiency,dict(measured=MEASURED,orthogonal=o))]:
        try:
            b=_compare(r,p,f,iter(events),**k)
            if b.pairs: _compare_pairs(r,b.pairs)
        except AssertionError as e: E.append(f"{p}: {e}")
    assert not E, "\n".join(E)

@pytest.mark.parametrize("c",[None,{"dijet":{"pt_first":20,"pt_second":20}}])
def test_at(atlas,tmp_path,c):
    r=_run(["response","dijet"],atlas,tmp_path,c)
    events=list(slow.read_atlas(atlas))
    E=[]
    for p,f,k in [("response",slow.response,dict(reference_is_gen=False)),("dijet",slow.dijet,dict(atlas=True,**(c["dijet"] if c else {})))]:
        try:
            b=_compare(r,p,f,iter(events),**k)
            if b.pairs: _compare_pairs(r,b.pairs)
        except AssertionError as e: E.append(f"{p}: {e}")
    assert not E, "\n".join(E)

def test_mu(data_dir,tmp_path):
    path=data_dir/"cms"/"DoubleMuParked2012_100k.root"
    r=_run(["dimuon"],path,tmp_path)
    _compare(r,"dimuon",slow.dimuon,slow.read_open_data_muons(path))
