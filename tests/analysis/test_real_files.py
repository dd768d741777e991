"""The processors on real files against an independent slow loop, bin by bin.

Protected: that what `docs/processors.md` says is selected and filled is what comes out of `trila run`, on files
as experiments write them: every bin of every histogram with its variance and the flow bins, every line of the
cutflow and every row of the pairs. The loop (`slow_loop.py`) was written from the documents alone: where the two
differ, one of document and package is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pyarrow.parquet as pq
import pytest
import slow_loop as slow
import yaml

from trila.analysis import steps

TOLERANCE = 1e-12  # of sums of weights, whose order is not defined
THRESHOLDS = (40, 60, 80, 110, 140, 200, 260, 320, 400, 450, 500, 550)
MEASURED = [*(f"HLT_PFJet{threshold}" for threshold in THRESHOLDS), "DST_PFScouting_JetHT"]
MUON_TRIGGERS = ["HLT_IsoMu27", "HLT_Mu50"]


# ------------------------------------------------------------------------------------------------------------
# Run and compare


def _run(
    processors: list[str],
    path: Path,
    folder: Path,
    configuration: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Run over one file, with a configuration written as YAML; the result."""
    config = None
    if configuration is not None:
        config = folder / "configuration.yaml"
        config.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    outcome = steps.run(processors, [str(path)], folder / "RESULT", config=config, **options)
    assert not outcome.skipped
    assert outcome.result.manifest["complete"] is True
    return outcome.result


def _axis(axis: Any) -> Any:
    """What the slow loop needs to find a bin."""
    text = isinstance(axis, hist.axis.StrCategory)
    return slow.Axis(
        edges=[] if text else [float(edge) for edge in axis.edges],
        categories=list(axis) if text else [],
        underflow=axis.traits.underflow,
        overflow=axis.traits.overflow,
    )


def _compare(
    result: Any, processor: str, fill: Callable[..., None], events: Sequence[Any], **options: Any
) -> Any:
    """Fill all histograms and cuts of a processor with the slow loop, and compare; the slow loop's."""
    axes = {
        name: [_axis(axis) for axis in histogram.axes]
        for name, histogram in result.histograms.items()
        if name.startswith(f"{processor}.")
    }
    assert axes
    booking = slow.Booking(axes)
    fill(events, booking, **options)
    _compare_cutflow(result, processor, booking)
    _compare_histograms(result, booking)
    return booking


def _compare_histograms(result: Any, booking: Any) -> None:
    problems = []
    for name, bins in booking.bins.items():
        view = result.histograms[name].view(flow=True)
        filled = (view["value"] != 0) | (view["variance"] != 0)
        places = {tuple(int(position) for position in index) for index in np.argwhere(filled)}
        for place in sorted(places | set(bins)):
            weights = bins.get(place, [])
            value, variance = math.fsum(weights), math.fsum(weight**2 for weight in weights)
            found = view[place]
            if not (
                math.isclose(found["value"], value, rel_tol=TOLERANCE)
                and math.isclose(found["variance"], variance, rel_tol=TOLERANCE)
            ):
                problems.append(
                    f"{name}{list(place)}: expected {value!r}, {variance!r}; found {found['value']!r}, "
                    f"{found['variance']!r}"
                )
    assert not problems, f"{len(problems)} bins differ (value, variance):\n" + "\n".join(problems[:30])


def _compare_cutflow(result: Any, processor: str, booking: Any) -> None:
    (dataset,) = result.cutflow
    rows = result.cutflow[dataset][processor]
    assert [row["cut"] for row in rows] == list(booking.cuts)
    for row, weights in zip(rows, booking.cuts.values(), strict=True):
        assert row["events"] == len(weights), row
        assert math.isclose(row["sumw"], math.fsum(weights), rel_tol=TOLERANCE), row
        squares = math.fsum(weight**2 for weight in weights)
        assert math.isclose(row["sumw2"], squares, rel_tol=TOLERANCE), row


def _compare_pairs(result: Any, expected: Sequence[dict[str, float]], n_expected: int) -> None:
    """Compare the table row by row: identity and weight as they are, all else as `float32`."""

    def key(row: dict[str, float]) -> tuple[float, ...]:
        return (row["run"], row["luminosity_block"], row["event"], row["pt_tag"])

    files = sorted((result.path / "pairs").glob("*/*.parquet"))
    found = sorted((row for file in files for row in pq.read_table(file).to_pylist()), key=key)
    assert len(found) == len(expected) == n_expected
    problems = []
    for row, wanted in zip(found, sorted(expected, key=key), strict=True):
        assert row.keys() == wanted.keys()
        for column, value in wanted.items():
            exact = column in ("run", "luminosity_block", "event", "weight")
            if row[column] != (value if exact else slow.as_float32(value)):
                problems.append(f"event {row['event']}, {column}: expected {value!r}, found {row[column]!r}")
    assert not problems, f"{len(problems)} values differ:\n" + "\n".join(problems[:30])


# ------------------------------------------------------------------------------------------------------------
# CMS scouting: no offline jets, the reference is the particle level


@pytest.fixture(scope="module")
def scouting_events(data_dir: Path) -> list[Any]:
    """All events of the scouting file, as the slow loop reads them."""
    return list(slow.read_cms_scouting(data_dir / "cms" / "scouting_nano.root"))


@pytest.fixture(scope="module")
def scouting_result(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All processors that the scouting file can feed."""
    path = data_dir / "cms" / "scouting_nano.root"
    return _run(["response", "dijet", "dimuon"], path, tmp_path_factory.mktemp("scouting"))


def test_scouting_response(scouting_events: list[Any], scouting_result: Any) -> None:
    """Without offline jets, particle-level jets are the reference, and the manifest says so."""
    assert scouting_result.manifest["reference"] == "gen"
    booking = _compare(scouting_result, "response", slow.response, scouting_events, reference_is_gen=True)
    _compare_pairs(scouting_result, booking.pairs, 65)


def test_scouting_dijet(scouting_events: list[Any], scouting_result: Any) -> None:
    """Wide jets from jets whose identification inputs are energies, not fractions."""
    booking = _compare(scouting_result, "dijet", slow.dijet, scouting_events)
    assert len(booking.cuts["two jets"]) > len(booking.cuts["jet identification"]) > 0


def test_scouting_dimuon(scouting_events: list[Any], scouting_result: Any) -> None:
    """Trigger-level muons have a charge here."""
    booking = _compare(scouting_result, "dimuon", slow.dimuon, scouting_events)
    assert len(booking.cuts["a pair"]) == 2


# ------------------------------------------------------------------------------------------------------------
# CMS NanoAOD: trigger objects, offline and particle-level jets, trigger decisions, weights that are not one


@pytest.fixture(scope="module")
def ttbar(data_dir: Path) -> Path:
    """The NanoAOD file."""
    return data_dir / "cms" / "nano_tt_v15.root"


@pytest.fixture(scope="module")
def ttbar_events(ttbar: Path) -> list[Any]:
    """All events of the NanoAOD file, as the slow loop reads them."""
    return list(slow.read_cms_nano(ttbar, [*MEASURED, *MUON_TRIGGERS]))


@pytest.fixture(scope="module")
def ttbar_result(ttbar: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All processors, with nothing configured."""
    return _run(["response", "efficiency", "dijet", "dimuon"], ttbar, tmp_path_factory.mktemp("ttbar"))


def test_ttbar_response(ttbar_events: list[Any], ttbar_result: Any) -> None:
    """Offline jets are the reference where there are any; particle-level jets have their own histograms."""
    assert ttbar_result.manifest["reference"] == "offline"
    booking = _compare(ttbar_result, "response", slow.response, ttbar_events, reference_is_gen=False)
    _compare_pairs(ttbar_result, booking.pairs, 107)


def test_ttbar_dijet(ttbar_events: list[Any], ttbar_result: Any) -> None:
    """Massless trigger-level jets without identification inputs: all pass."""
    _compare(ttbar_result, "dijet", slow.dijet, ttbar_events)


def test_ttbar_dimuon(ttbar_events: list[Any], ttbar_result: Any) -> None:
    """Trigger objects have no charge: the muons are the offline ones."""
    booking = _compare(ttbar_result, "dimuon", slow.dimuon, ttbar_events)
    assert booking.bins["dimuon.mass"]


def _measured(result: Any) -> list[str]:
    return sorted({name.split(".")[1] for name in result.histograms if name.startswith("efficiency.")})


def test_ttbar_efficiency(ttbar_events: list[Any], ttbar_result: Any) -> None:
    """By default single-jet and JetHT triggers, against the first muon trigger, which never fired here."""
    assert _measured(ttbar_result) == sorted(MEASURED)
    options = {"measured": MEASURED, "orthogonal": MUON_TRIGGERS[:1]}
    booking = _compare(ttbar_result, "efficiency", slow.efficiency, ttbar_events, **options)
    assert booking.bins["efficiency.HLT_PFJet80.tag_probe"]
    assert not booking.bins["efficiency.HLT_PFJet80"]


@pytest.mark.parametrize("orthogonal", [["HLT_PFJet40"], ["HLT_PFJet140", "HLT_Mu50"]], ids=["one", "either"])
def test_ttbar_efficiency_of_orthogonal_events(
    ttbar: Path, ttbar_events: list[Any], tmp_path: Path, orthogonal: list[str]
) -> None:
    """Any of the orthogonal triggers takes the event, and the tag-and-probe events stay what they are."""
    result = _run(["efficiency"], ttbar, tmp_path, {"efficiency": {"orthogonal_triggers": orthogonal}})
    options = {"measured": _measured(result), "orthogonal": orthogonal}
    booking = _compare(result, "efficiency", slow.efficiency, ttbar_events, **options)
    for suffix in ("", ".average", ".mass", ".tag_probe"):
        assert booking.bins[f"efficiency.HLT_PFJet80{suffix}"]


def test_required_triggers_in_chunks(ttbar: Path, ttbar_events: list[Any], tmp_path: Path) -> None:
    """Any of the required triggers, in all processors; how events are cut into chunks changes nothing."""
    triggers = ["HLT_PFJet140", "HLT_Mu50"]
    configuration = {"events": {"triggers": triggers}}
    result = _run(["response", "dijet", "dimuon"], ttbar, tmp_path, configuration, chunk_size=37)
    options = {"reference_is_gen": False, "triggers": triggers}
    booking = _compare(result, "response", slow.response, ttbar_events, **options)
    assert 0 < len(booking.cuts["trigger"]) < len(booking.cuts["all events"])
    _compare_pairs(result, booking.pairs, 37)
    _compare(result, "dijet", slow.dijet, ttbar_events, triggers=triggers)
    _compare(result, "dimuon", slow.dimuon, ttbar_events, triggers=triggers)


def test_tag_trigger_and_third_jet(ttbar: Path, ttbar_events: list[Any], tmp_path: Path) -> None:
    """The tag trigger took the event and the tag's partner is above its threshold; a third jet is limited."""
    configuration = {"response": {"tag_trigger": "HLT_PFJet80", "alpha_max": 0.5}}
    result = _run(["response"], ttbar, tmp_path, configuration)
    options = {"triggers": ["HLT_PFJet80"], "tag_threshold": 80.0, "alpha_max": 0.5}
    booking = _compare(result, "response", slow.response, ttbar_events, reference_is_gen=False, **options)
    lines = ("all events", "trigger", "back to back", "third jet", "tag")
    counts = [len(booking.cuts[line]) for line in lines]
    assert counts == sorted(set(counts), reverse=True)  # each of them takes something away
    _compare_pairs(result, booking.pairs, 35)


# ------------------------------------------------------------------------------------------------------------
# ATLAS: MeV, several weights, no identification inputs


@pytest.fixture(scope="module")
def atlas(data_dir: Path) -> Path:
    """The ATLAS ntuple."""
    return data_dir / "atlas" / "trigger_offline_jets.root"


@pytest.fixture(scope="module")
def atlas_events(atlas: Path) -> list[Any]:
    """All events of the ATLAS ntuple, as the slow loop reads them."""
    return list(slow.read_atlas(atlas))


def test_atlas_response(atlas: Path, atlas_events: list[Any], tmp_path: Path) -> None:
    """Energies are in GeV in the result, and weighted with the first of the generator's weights."""
    result = _run(["response"], atlas, tmp_path)
    assert result.manifest["reference"] == "offline"
    booking = _compare(result, "response", slow.response, atlas_events, reference_is_gen=False)
    _compare_pairs(result, booking.pairs, 35)


@pytest.mark.parametrize("pt_min", [None, 20.0], ids=["default", "low"])
def test_atlas_dijet(atlas: Path, atlas_events: list[Any], tmp_path: Path, pt_min: float | None) -> None:
    """ATLAS's selection is taken for its files; no event has two jets above 85 GeV, many above 20 GeV."""
    options = {} if pt_min is None else {"pt_first": pt_min, "pt_second": pt_min}
    result = _run(["dijet"], atlas, tmp_path, {"dijet": options} if options else None)
    booking = _compare(result, "dijet", slow.dijet, atlas_events, atlas=True, **options)
    assert bool(booking.bins["dijet.mass"]) == (pt_min is not None)


# ------------------------------------------------------------------------------------------------------------
# CMS open data: a real dimuon spectrum


@pytest.fixture(scope="module")
def open_data_result(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Muon pairs of all events."""
    path = data_dir / "cms" / "DoubleMuParked2012_100k.root"
    return _run(["dimuon"], path, tmp_path_factory.mktemp("open_data"))


def test_open_data_dimuon(data_dir: Path, tmp_path: Path) -> None:
    """Collision data with nothing but muons weigh one each; the first events of a file can be asked for."""
    path = data_dir / "cms" / "DoubleMuParked2012_100k.root"
    result = _run(["dimuon"], path, tmp_path, max_events=10_000)
    _compare(result, "dimuon", slow.dimuon, list(slow.read_open_data_muons(path, 10_000)))


@pytest.mark.slow
def test_open_data_dimuon_all(data_dir: Path, open_data_result: Any) -> None:
    """All 230 169 pairs, down to twice the muon's mass, where a mass in single precision is off by a bin."""
    path = data_dir / "cms" / "DoubleMuParked2012_100k.root"
    booking = _compare(open_data_result, "dimuon", slow.dimuon, list(slow.read_open_data_muons(path)))
    assert sum(len(weights) for weights in booking.bins["dimuon.mass"].values()) == 230_169


@pytest.mark.parametrize(
    ("mass", "sides", "tolerance", "least"),
    [
        pytest.param(3.0969, (2.90, 3.30), 0.005, 5.0, id="J/psi"),
        pytest.param(9.4604, (8.90, 10.90), 0.005, 1.5, id="Upsilon(1S)"),
        pytest.param(91.1880, (80.0, 102.0), 0.007, 3.0, id="Z"),
    ],
)
def test_peaks_are_at_their_masses(
    open_data_result: Any, mass: float, sides: tuple[float, float], tolerance: float, least: float
) -> None:
    """Opposite-sign pairs peak where the known particles are: units, formula and axis are right together."""
    spectrum = open_data_result.histograms["dimuon.mass"]["os", sum, :]
    edges, counts = spectrum.axes[0].edges, spectrum.values()
    centres = np.sqrt(edges[:-1] * edges[1:])

    def in_window(position: int) -> float:
        return float(counts[position - 3 : position + 4].sum())  # 7 bins, 1.75%

    low, high = (int(np.searchsorted(edges, factor * mass)) for factor in (0.96, 1.04))
    peak = max(range(low, high), key=in_window)
    window = slice(peak - 3, peak + 4)
    position = float(np.average(centres[window], weights=counts[window]))
    assert position == pytest.approx(mass, rel=tolerance)
    beside = [in_window(int(np.searchsorted(edges, side))) for side in sides]
    assert in_window(peak) > least * sum(beside) / 2
