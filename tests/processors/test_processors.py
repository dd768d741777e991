"""The processors as a whole: on simulated events with known truth, and with their configurations."""

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
from correctionlib import schemav2 as cs
from numpy.typing import NDArray

from trila.analysis.toy_truth import hlt_response
from trila.corrections.response import binned_quantiles, median_error
from trila.processors import readers
from trila.processors.base import used_columns
from trila.processors.columns import jagged, scalar
from trila.processors.dijet import DijetConfig, DijetProcessor
from trila.processors.dimuon import DimuonConfig, DimuonProcessor
from trila.processors.efficiency import EfficiencyConfig, EfficiencyProcessor
from trila.processors.errors import InputError, MissingColumn, UnknownName
from trila.processors.histograms import bytes_of
from trila.processors.response import ResponseConfig, ResponseProcessor
from trila.processors.selection import EventConfig

PROCESSORS = (ResponseProcessor, EfficiencyProcessor, DijetProcessor, DimuonProcessor)


def load(file: Path, **metadata: Any) -> Any:
    info = readers.inspect(str(file))
    return readers.read(info.file, info.tree, info.uuid, info.layout, 0, info.entries, metadata, [])


@pytest.fixture(scope="module")
def events(jets_sample: Path) -> Any:
    return load(jets_sample / "jets_000.root")


def values(histogram: hist.Hist[Any]) -> NDArray[np.float64]:
    return np.asarray(histogram.values(flow=True))


@pytest.mark.parametrize("processor", PROCESSORS)
def test_default_histograms_fit_into_memory(processor: Any, events: Any) -> None:
    output = processor().process(events)
    assert bytes_of(output["histograms"]) < 64 * 2**20


@pytest.mark.parametrize("processor", PROCESSORS)
def test_processors_travel_and_keep_no_state(processor: Any, events: Any) -> None:
    made = processor()
    before = pickle.dumps(made)
    first = made.process(events)
    assert pickle.dumps(made) == before
    second = pickle.loads(before).process(events)
    assert first["histograms"].keys() == second["histograms"].keys()
    assert all(first["histograms"][name] == second["histograms"][name] for name in first["histograms"])


def test_response_agrees_with_the_truth_at_particle_level(jets_sample: Path) -> None:
    """Median HLT response in bins of the particle-level pT, barrel, where nothing is cut off by the storage threshold."""
    total: Any = 0
    for file in sorted(jets_sample.glob("*.root")):
        total = total + ResponseProcessor(pairs=False).process(load(file))["histograms"]["hlt_gen"]
    edges = np.asarray(total.axes[1].edges)
    barrel = [i for i, (low, high) in enumerate(total.axes[0]) if max(abs(low), abs(high)) <= 1.3]
    content = total.values()[barrel].sum(axis=0)
    variance = total.variances()[barrel].sum(axis=0)
    response_edges = np.asarray(total.axes[2].edges)
    compared = 0
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        if not 56 <= low < 1000:
            continue
        median = binned_quantiles(content[i], response_edges, 0.5)
        error = median_error(content[i], variance[i], response_edges)
        # truth at both ends of the bin: the response rises by less than the tolerance over it
        truth = [float(hlt_response(pt, 0.5).median) for pt in (low, high)]
        assert min(truth) - 4 * error < median < max(truth) + 4 * error, (low, median, truth)
        assert error < 0.01
        compared += 1
    assert compared > 10


def test_binning_in_the_probes_own_pt_is_biased_and_in_the_tags_is_not(events: Any) -> None:
    """The steep spectrum moves jets between bins: the response against HLT pT lies above that against the tag's pT."""
    histograms = ResponseProcessor(pairs=False).process(events)["histograms"]

    def median(name: str, low: float, high: float) -> float:
        h = histograms[name]
        barrel = h.values()[3:9]  # |eta| < 1.9
        pt = np.asarray(h.axes[1].edges)
        chosen = barrel[:, (pt[:-1] >= low) & (pt[1:] <= high)].sum(axis=(0, 1))
        return float(binned_quantiles(chosen, np.asarray(h.axes[2].edges), 0.5))

    tag, hlt = median("tag_probe", 49, 97), median("tag_probe_hlt", 49, 97)
    assert hlt - tag > 0.02


def test_pairs_are_the_content_of_the_histogram(events: Any) -> None:
    output = ResponseProcessor().process(events)
    pairs, histogram = output["pairs"].to_pandas(), output["histograms"]["tag_probe"]
    again = hist.Hist(*histogram.axes, storage=hist.storage.Weight())
    ratio = pairs["pt_hlt"].astype(np.float64) / pairs["pt_offline"].astype(np.float64)
    again.fill(pairs["eta"], pairs["pt_tag"], ratio, weight=pairs["weight"])
    np.testing.assert_allclose(values(again), values(histogram), rtol=1e-12)
    factor = 1 - 0.03 - 0.12 * np.exp(-pairs["pt_offline"] / 150)  # what the simulation writes
    np.testing.assert_allclose(pairs["pt_offline_raw"] / pairs["pt_offline"], factor, rtol=1e-5)
    assert (pairs["eta_tag"].abs() < 1.3).all()
    assert (pairs["pt_gen"] > 0).mean() > 0.9


def test_thinning_keeps_the_sum_of_weights(events: Any) -> None:
    config = ResponseConfig.model_validate({"thinning": {"pt": [0, 100], "keep": [0.1, 0.5]}})
    full = ResponseProcessor().process(events)["pairs"].to_pandas()
    thin = ResponseProcessor(config).process(events)["pairs"].to_pandas()
    merged = thin.merge(full, on=["event", "pt_tag", "pt_hlt"], suffixes=("", "_full"))
    assert len(merged) == len(thin)
    expected = np.where(merged["pt_tag"] < 100, 10.0, 2.0)
    np.testing.assert_allclose(merged["weight"] / merged["weight_full"], expected, rtol=1e-12)
    for low, high, keep in [(0, 100, 0.1), (100, 1e9, 0.5)]:
        n = ((full["pt_tag"] >= low) & (full["pt_tag"] < high)).sum()
        kept = ((thin["pt_tag"] >= low) & (thin["pt_tag"] < high)).sum()
        assert abs(kept - keep * n) < 5 * np.sqrt(2 * n * keep)  # two pairs an event go together


def test_tag_trigger_asks_for_the_tags_own_jet(events: Any) -> None:
    output = ResponseProcessor(ResponseConfig(tag_trigger="HLT_PFJet140")).process(events)
    everything = ResponseProcessor().process(events)
    tagged, full = output["pairs"].num_rows, everything["pairs"].num_rows
    assert 0 < tagged < full
    # the simulated detector loses at most 60% of a jet's pT, in 3% of jets
    pt, every = output["pairs"]["pt_tag"].to_numpy(), everything["pairs"]["pt_tag"].to_numpy()
    assert pt.min() > 0.35 * 140
    assert (pt < 100).sum() < 0.05 * (every < 100).sum()
    assert (pt > 450).sum() == (every > 450).sum()


def test_required_and_tag_trigger_must_both_fire(events: Any) -> None:
    """They are two questions: an event that only one of them took is not an event of the measurement."""
    required = EventConfig(triggers=("HLT_IsoMu27",))
    cutflow = ResponseProcessor(ResponseConfig(tag_trigger="HLT_PFJet140"), required).process(events)[
        "cutflow"
    ]
    fired = {t: np.asarray(events.triggers[t]) for t in ("HLT_IsoMu27", "HLT_PFJet140")}
    written = (scalar(events, "rho") > 0) | (scalar(events, "n_pv") > 0)
    both = int((fired["HLT_IsoMu27"] & fired["HLT_PFJet140"] & written).sum())
    assert 0 < both < min(int(f.sum()) for f in fired.values())
    assert cutflow.events[4] == both


def test_data_must_name_their_trigger(jets_sample: Path) -> None:
    data = load(jets_sample / "jets_000.root", is_data=True)
    with pytest.raises(InputError, match=r"tag_trigger .* or orthogonal_triggers"):
        ResponseProcessor().process(data)
    assert ResponseProcessor(ResponseConfig(tag_trigger="none")).process(data)["pairs"].num_rows > 0
    orthogonal = ResponseProcessor(ResponseConfig(orthogonal_triggers=("HLT_IsoMu27",))).process(data)
    assert orthogonal["cutflow"].events[4] == scalar_sum(data, "HLT_IsoMu27")
    with pytest.raises(InputError, match="gives no single-jet threshold"):
        ResponseProcessor(ResponseConfig(tag_trigger="HLT_IsoMu27")).process(data)


def scalar_sum(events: Any, trigger: str) -> int:
    """Events with products in which a trigger fired."""
    written = (scalar(events, "rho") > 0) | (scalar(events, "n_pv") > 0)
    return int((np.asarray(events.triggers[trigger]) & written).sum())


def test_events_without_products_are_counted(jets_sample: Path, events: Any) -> None:
    truth = json.loads((jets_sample / "truth.json").read_text())
    assert "0.001" in json.dumps(truth)
    missing = int(((scalar(events, "rho") == 0) & (scalar(events, "n_pv") == 0)).sum())
    cutflow = DimuonProcessor().process(events)["cutflow"]
    rows = dict(zip(cutflow.cuts, cutflow.events.tolist(), strict=True))
    assert 0 < missing < 100
    assert rows["all events"] - rows["trigger-level products"] == missing


def test_lumi_mask_applies_to_data_only(jets_sample: Path, events: Any) -> None:
    mask = EventConfig(lumi_mask={"380000": ((3, 5),)})
    data = load(jets_sample / "jets_000.root", is_data=True)
    expected = int(((scalar(data, "luminosity_block") >= 3) & (scalar(data, "luminosity_block") <= 5)).sum())
    assert 0 < expected < len(data)
    assert DimuonProcessor(events=mask).process(data)["cutflow"].events[1] == expected
    assert DimuonProcessor(events=mask).process(events)["cutflow"].events[1] == len(events)


def test_efficiency_counts(events: Any) -> None:
    output = EfficiencyProcessor(EfficiencyConfig(triggers=("HLT_PFJet140",))).process(events)
    histograms = output["histograms"]
    assert set(histograms) == {f"HLT_PFJet140{s}" for s in ("", ".average", ".mass", ".tag_probe")}
    jets = jagged(events, "offline_jets", "pt", "eta")
    weight = scalar(events, "weight")
    fired, reference = (np.asarray(events.triggers[t]) for t in ("HLT_PFJet140", "HLT_IsoMu27"))
    written = (scalar(events, "rho") > 0) | (scalar(events, "n_pv") > 0)
    again = hist.Hist(*histograms["HLT_PFJet140"].axes, storage=hist.storage.Weight())
    for i in np.flatnonzero(reference & written):
        span = slice(jets.offsets[i], jets.offsets[i + 1])
        pt = jets.pt[span][np.abs(jets.eta[span]) < 2.5]
        if len(pt):
            again.fill(float(pt.max()), int(fired[i]), weight=weight[i])
    np.testing.assert_allclose(values(again), values(histograms["HLT_PFJet140"]), rtol=1e-12)
    passed = histograms["HLT_PFJet140.tag_probe"].values()
    pt = histograms["HLT_PFJet140.tag_probe"].axes[0].centers
    assert passed[pt > 250, 1].sum() > 0.99 * passed[pt > 250].sum()
    assert passed[pt < 0.35 * 140, 1].sum() == 0


def test_efficiency_needs_triggers_and_data_a_reference(data_dir: Path, jets_sample: Path) -> None:
    info = readers.inspect(str(data_dir / "cms/scouting_nano.root"))
    with pytest.raises(InputError, match="no trigger to measure: the input has 0 trigger decisions"):
        used_columns(EfficiencyProcessor(), frozenset(info.layout.columns))
    info = readers.inspect(str(jets_sample / "jets_000.root"))
    misspelt = EfficiencyProcessor(EfficiencyConfig(triggers=("HLT_PFJet14",)))
    with pytest.raises(UnknownName, match="unknown trigger 'HLT_PFJet14'; did you mean HLT_PFJet140"):
        used_columns(misspelt, frozenset(info.layout.columns))


def correction(path: Path) -> str:
    """1.1 in nominal, 1.21 and 1.0 in the variations."""
    category = cs.Category(
        nodetype="category", input="systematic",
        content=[cs.CategoryItem(key=k, value=v) for k, v in {"nominal": 1.1, "jes_up": 1.21, "jes_down": 1.0}.items()],
    )  # fmt: skip
    made = cs.Correction(
        name="hlt_jec", version=1, data=category, output=cs.Variable(name="factor", type="real"),
        inputs=[cs.Variable(name=n, type=t) for n, t in [("JetPt", "real"), ("JetA", "real"), ("Rho", "real"),
                                                         ("run", "real"), ("systematic", "string")]],
    )  # fmt: skip
    path.write_text(
        cs.CorrectionSet(schema_version=2, corrections=[made]).model_dump_json(exclude_unset=True)
    )
    return str(path)


def test_dijet_applies_a_correction_with_all_variations(events: Any, tmp_path: Path) -> None:
    loose = {"pt_min": 0.0, "pt_first": 0.0, "pt_second": 0.0, "radius": 0.0, "identification": "none"}
    plain = DijetProcessor(DijetConfig(**loose)).process(events)["histograms"]["mass"]
    path = correction(tmp_path / "c.json")
    corrected = DijetProcessor(DijetConfig(corrections=path, **loose)).process(events)["histograms"]["mass"]
    assert list(corrected.axes[0]) == ["nominal", "jes_up", "jes_down"]
    assert values(corrected)[2, :] == pytest.approx(values(plain)[0, :], rel=1e-12)
    # without thresholds every mass is multiplied by the factor, and so is the mean
    centres = corrected.axes[1].centers
    mean = [float((centres * row).sum() / row.sum()) for row in corrected.values()]
    assert mean[0] / mean[2] == pytest.approx(1.1, rel=2e-4)
    assert mean[1] / mean[2] == pytest.approx(1.21, rel=2e-4)


def test_atlas_selection(data_dir: Path) -> None:
    file = data_dir / "atlas/trigger_offline_jets.root"
    loose = DijetProcessor(DijetConfig(pt_first=20.0, pt_second=20.0)).process(load(file))
    assert loose["cutflow"].cuts[-1] == "central"
    y_star = loose["histograms"]["y_star"]
    inside = y_star.values()[
        (np.abs(y_star.axes[0].edges[:-1]) < 0.6) & (np.abs(y_star.axes[0].edges[1:]) < 0.6001)
    ]
    assert values(loose["histograms"]["mass"]).sum() == pytest.approx(inside.sum(), rel=1e-9)
    assert DijetConfig().resolved("atlas-tla").y_star_max == 0.6
    assert DijetConfig(y_star_max=0.3).resolved("atlas-tla").y_star_max == 0.3
    assert DijetConfig().resolved("cms-scouting").delta_eta_max == 1.3
    assert DijetConfig(selection="cms").resolved("atlas-tla").radius == 1.1


def test_dimuon_categories(tmp_path: Path) -> None:
    from trila.analysis.simulation import simulate

    [file] = simulate(tmp_path / "muons", kind="dimuon", events=20_000, seed=3)
    events = load(file)
    mass = DimuonProcessor().process(events)["histograms"]["mass"]
    by_category = mass[{"mass": sum, "sign": 0}].values()
    assert (by_category > 0).all()
    assert by_category[2:].sum() < 0.2 * by_category.sum()
    far = DimuonProcessor(DimuonConfig(displaced_significance=1e9)).process(events)["histograms"]["mass"]
    assert far[{"mass": sum, "sign": 0}].values()[2:].sum() == 0
    assert far.sum(flow=True).value == mass.sum(flow=True).value
    edges = np.asarray(mass.axes[2].edges)
    assert np.max(edges[1:] / edges[:-1]) < 1 + 0.01 / 3 + 1e-9  # a third of a resolution of 1%
    tight = DimuonProcessor(DimuonConfig(pt_min=5.0, eta_max=1.5)).process(events)["histograms"]
    assert tight["muon_pt"][:, : hist.loc(4.9)].sum(flow=False).value == 0
    assert 0 < tight["mass"].sum(flow=True).value < mass.sum(flow=True).value


def test_missing_columns_are_named(data_dir: Path) -> None:
    info = readers.inspect(str(data_dir / "cms/DoubleMuParked2012_100k.root"))
    with pytest.raises(MissingColumn, match=r"hlt_jets\.pt"):
        used_columns(ResponseProcessor(), frozenset(info.layout.columns))
    used, missing = used_columns(DimuonProcessor(), frozenset(info.layout.columns))
    assert used == {f"offline_muons.{f}" for f in ("pt", "eta", "phi", "charge")}
    assert "rho" in missing
