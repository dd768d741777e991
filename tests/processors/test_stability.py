"""The processor `stability`, against loops over events and the processors it shares its selection with."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import awkward as ak
import hist
import numpy as np
import pytest
from hist.chunked import ChunkedHist
from pydantic import ValidationError

from trila.processors import readers
from trila.processors.base import used_columns
from trila.processors.columns import scalar
from trila.processors.errors import MissingColumn, UnknownName
from trila.processors.response import ResponseConfig, ResponseProcessor
from trila.processors.selection import EventConfig
from trila.processors.stability import StabilityConfig, StabilityProcessor, fill_runs


@pytest.fixture(scope="module")
def samples(jets_sample: Path) -> list[Any]:
    """Events of two runs."""
    infos = [readers.inspect(str(file)) for file in sorted(jets_sample.glob("*.root"))]
    return [
        readers.read(info.file, info.tree, info.uuid, info.layout, 0, 20_000, {"is_data": False}, [])
        for info in infos
    ]


@pytest.fixture(scope="module")
def output(samples: list[Any]) -> dict[str, ChunkedHist]:
    """Histograms of both runs together."""
    first, second = (StabilityProcessor().process(events)["histograms"] for events in samples)
    return {name: first[name] + second[name] for name in first}


def test_fill_runs_is_fill() -> None:
    generator = np.random.default_rng(1)
    run, x, weight = generator.integers(7, 12, 500), generator.normal(size=500), generator.uniform(size=500)
    axis = hist.axis.Regular(10, -1, 1, name="x")
    runs = hist.axis.IntCategory([], growth=True, name="run")
    kinds = hist.axis.StrCategory([], growth=True, name="kind")
    chunked = ChunkedHist(runs, kinds, axis, storage=hist.storage.Weight())
    for kind in ("a", "b"):
        fill_runs(chunked, run, weight, axis.index(x) + 1, kind)
    plain = hist.Hist(runs, kinds, axis, storage=hist.storage.Weight())
    order = np.argsort(run)  # the same order of categories
    for kind in ("a", "b"):
        plain.fill(run[order], kind, x[order], weight=weight[order])
    dense = chunked.to_hist()
    assert list(dense.axes["run"]) == list(plain.axes["run"]) == [7, 8, 9, 10, 11]
    np.testing.assert_allclose(dense.values(flow=True)[:, :, 1:-1], plain.values(flow=True)[:, :, 1:-1])
    np.testing.assert_allclose(dense.variances(), plain.variances())
    assert dense.sum(flow=True).value == pytest.approx(2 * weight.sum(), rel=1e-12)


def test_runs_are_kept_apart(samples: list[Any], output: dict[str, ChunkedHist]) -> None:
    for name, histogram in output.items():
        assert {key[0] for key in histogram} <= {380_000, 380_001}, name
    whole = ak.concatenate([events["run"] for events in samples])
    assert output["events"].to_hist().values().shape == (len(np.unique(whole)), 2)


def test_response_is_that_of_tag_and_probe(samples: list[Any], output: dict[str, ChunkedHist]) -> None:
    """Barrel probes and tags above 100 GeV, as the table of pairs has them."""
    for run, events in enumerate(samples):
        pairs = ResponseProcessor(ResponseConfig(tag_trigger="none")).process(events)["pairs"].to_pandas()
        chosen = pairs[(pairs.pt_tag >= 100) & (pairs.eta.abs() < 1.3)]
        expected, _ = np.histogram(
            chosen.pt_hlt / chosen.pt_offline, np.linspace(0, 3, 601), weights=chosen.weight
        )
        values = output["response"].chunk_view({"run": 380_000 + run})["value"][1:-1]
        assert values.sum() == pytest.approx(expected.sum(), rel=1e-9)
        # pairs are stored in float32: a few cross a bin's edge
        assert np.abs(np.cumsum(values - expected)).max() < 0.01 * values.sum()


def test_masses_are_those_of_a_loop(samples: list[Any]) -> None:
    config = StabilityConfig(masses={"low": (0.5, 5.0)}, muon_pt_min=4.0)
    histogram = StabilityProcessor(config).process(samples[0])["histograms"]["mass.low"]
    masses, weights = [], []
    for muons, weight in zip(
        ak.to_list(samples[0]["hlt_muons"][["pt", "eta", "phi", "charge"]]),
        scalar(samples[0], "weight"),
        strict=True,
    ):
        for i, a in enumerate(muons):
            for b in muons[i + 1 :]:
                if a["charge"] * b["charge"] < 0 and min(a["pt"], b["pt"]) >= 4.0:
                    angle = np.cosh(a["eta"] - b["eta"]) - np.cos(a["phi"] - b["phi"])
                    energies = [np.hypot(0.1056583755, m["pt"] * np.cosh(m["eta"])) for m in (a, b)]
                    momenta = a["pt"] * b["pt"] * (np.cosh(a["eta"]) * np.cosh(b["eta"]) - angle)
                    masses.append(np.sqrt(2 * (0.1056583755**2 + energies[0] * energies[1] - momenta)))
                    weights.append(weight)
    expected = np.zeros(100)
    for mass, weight in zip(masses, weights, strict=True):
        if 0.5 <= mass < 5.0:
            expected[int(100 * (mass - 0.5) / 4.5)] += weight
    assert len(masses) > 100
    np.testing.assert_allclose(histogram.chunk_view({"run": 380_000})["value"][1:-1], expected, rtol=1e-9)


def test_triggers_are_counted_whatever_the_selection(samples: list[Any]) -> None:
    """In all certified events, also where another trigger is required; runs that the mask leaves out have none."""
    events = samples[0]
    selection = EventConfig(triggers=("HLT_IsoMu27",))
    processor = StabilityProcessor(StabilityConfig(triggers=("HLT_PFJet140_v3",)), selection)
    histograms = processor.process(events)["histograms"]
    fired = np.asarray(events["triggers"]["HLT_PFJet140"])
    weight = np.asarray(events["weight"])
    view = histograms["triggers"].chunk_view({"run": 380_000, "trigger": "HLT_PFJet140"})
    assert view["value"].tolist() == pytest.approx([weight[~fired].sum(), weight[fired].sum()])
    muons = np.asarray(events["triggers"]["HLT_IsoMu27"]) & np.asarray(events["rho"] > 0)
    assert histograms["events"].chunk_view({"run": 380_000})["value"][1] == pytest.approx(weight[muons].sum())


def test_triggers_that_are_counted_by_default(samples: list[Any], output: dict[str, ChunkedHist]) -> None:
    names = {key[1] for key in output["triggers"]}
    assert {"HLT_PFJet140", "DST_PFScouting_JetHT"} <= names
    assert not {"HLT_IsoMu27", "L1_SingleJet180"} & names
    selected = StabilityProcessor(
        StabilityConfig(tag_trigger="HLT_PFJet140"), EventConfig(triggers=("DST_PFScouting_JetHT",))
    ).process(samples[0])["histograms"]
    assert {key[1] for key in selected["triggers"]} == {"DST_PFScouting_JetHT", "HLT_PFJet140"}
    # the tag trigger is asked for in the response alone
    free = output["response"].chunk_view({"run": 380_000})["value"].sum()
    assert 0 < selected["response"].chunk_view({"run": 380_000})["value"].sum() < free


def test_columns_follow_the_input() -> None:
    processor = StabilityProcessor()
    with pytest.raises(MissingColumn, match="run"):
        used_columns(processor, frozenset({"hlt_jets.pt", "luminosity_block"}))
    used, lacking = used_columns(processor, frozenset({"run", "hlt_muons.charge", "triggers.DST_X"}))
    assert used == {"run", "hlt_muons.charge", "triggers.DST_X"}
    assert {"hlt_jets.pt", "offline_jets.pt", "hlt_muons.pt"} <= lacking
    asked = StabilityProcessor(StabilityConfig(triggers=("HLT_PFJet141",)))
    with pytest.raises(UnknownName, match="unknown trigger 'HLT_PFJet141'; did you mean HLT_PFJet140"):
        used_columns(asked, frozenset({"run", "triggers.HLT_PFJet140"}))


def test_what_the_input_lacks_is_left_out(jets_sample: Path) -> None:
    info = readers.inspect(str(jets_sample / "jets_000.root"))
    layout = info.layout.restricted(frozenset({"run", "luminosity_block", "rho"}))
    events = readers.read(info.file, info.tree, info.uuid, layout, 0, 100, {"is_data": True}, [])
    assert StabilityProcessor().process(events)["histograms"].keys() == {"events"}


def test_it_travels_and_keeps_no_state(samples: list[Any]) -> None:
    processor = StabilityProcessor()
    before = pickle.dumps(processor)
    again = pickle.loads(before).process(samples[0])
    assert pickle.loads(pickle.dumps(again["histograms"]["response"])).to_hist() == (
        processor.process(samples[0])["histograms"]["response"].to_hist()
    )
    assert pickle.dumps(processor) == before
    assert again["cutflow"].events[0] == len(samples[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"masses": {"z": (100.0, 80.0)}}, r"z is \(100.0, 80.0\); expected its lower end first"),
        ({"masses": {"J/psi": (2.8, 3.4)}}, "String should match pattern"),
        (
            {"tag_trigger": "HLT_IsoMu27"},
            "HLT_IsoMu27: its name gives no single-jet threshold; name one such as",
        ),
        ({"tag_pt": 100}, "Extra inputs are not permitted"),
    ],
)
def test_bad_configurations_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StabilityConfig.model_validate(content)
