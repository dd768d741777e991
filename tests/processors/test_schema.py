"""Formats become canonical columns: names, values, units, types, laziness, four-vectors."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import cloudpickle
import numpy as np
import pytest
import uproot
from coffea.nanoevents import NanoEventsFactory

from trila.processors import columns, formats, readers, schema


def write(path: Path, tree: str, collections: Mapping[str, Any], **event: Any) -> Path:
    """A small TTree with NanoAOD-style names: collections of records, and flat branches."""
    content = {**event, **collections}
    with uproot.recreate(path) as file:
        types = {k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in content.items()}
        written = file.mktree(
            tree, types, counter_name=lambda name: f"n{name}",
            field_name=lambda outer, inner: inner if outer == "" else f"{outer}_{inner}",
        )  # fmt: skip
        written.extend(content)
    return path


def events_of(path: Path, **options: Any) -> Any:
    info = readers.inspect(str(path), **options)
    return readers.read(info.file, info.tree, info.uuid, info.layout, 0, info.entries, {}, [])


def jets(*events: list[float], **more: list[list[float]]) -> ak.Array:
    pt = ak.values_astype(ak.Array(list(events)), "float32")
    fields = {"pt": pt, "eta": pt * 0 + 0.5, "phi": pt * 0 - 1.0}
    return ak.zip(fields | {k: ak.values_astype(ak.Array(v), "float32") for k, v in more.items()})


IDENTITY = {
    "run": np.array([1, 1, 2], np.uint32),
    "luminosityBlock": np.array([4, 5, 6], np.uint32),
    "event": np.array([10, 11, 2**40], np.uint64),
}


def test_2023_scouting_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.root", "Events",
        {
            "ScoutingJet": jets([50.0, 20.0], [], [30.0], mass=[[5.0, 2.0], [], [3.0]], area=[[0.5, 0.4], [], [0.3]]),
            "ScoutingMuon": jets([5.0], [], [7.0, 6.0], m=[[0.1], [], [0.1, 0.1]], charge=[[1], [], [-1, 1]]),
        },
        ScoutingRho=np.array([10.0, 20.0, 30.0], np.float32), **IDENTITY,
    )  # fmt: skip
    info = readers.inspect(str(path))
    assert (info.layout.table.name, info.layout.era) == ("cms-scouting", "2022-2023")
    events = events_of(path)
    assert events.hlt_jets.pt.tolist() == [[50.0, 20.0], [], [30.0]]
    assert events.hlt_jets.area[0].tolist() == pytest.approx([0.5, 0.4])
    assert columns.scalar(events, "rho").tolist() == [10.0, 20.0, 30.0]
    assert columns.scalar(events, "event").tolist() == [10, 11, 2**40]
    assert events.hlt_muons.charge.tolist() == [[1], [], [-1, 1]]


def test_2024_names_come_first_and_the_choice_is_the_users(tmp_path: Path) -> None:
    both = {
        "ScoutingPFJet": jets([50.0], [], [30.0], m=[[5.0], [], [3.0]]),
        "ScoutingPFJetRecluster": jets([51.0], [40.0], [31.0], mass=[[5.0], [1.0], [3.0]]),
        "ScoutingMuonVtx": jets([5.0], [], [], m=[[0.1], [], []], charge=[[1], [], []]),
        "ScoutingMuonNoVtx": jets([6.0], [], [], m=[[0.1], [], []], charge=[[1], [], []]),
    }
    rho = np.array([1.0, 2.0, 3.0], np.float32)
    path = write(tmp_path / "a.root", "Events", both, ScoutingRho_fixedGridRhoFastjetAll=rho, **IDENTITY)
    assert readers.inspect(str(path)).layout.era == "2024-2025"
    events = events_of(path)
    assert events.hlt_jets.pt[0, 0] == 50.0
    assert events.hlt_muons.pt[0, 0] == 5.0
    chosen = events_of(path, sources={"hlt_jets": "ScoutingPFJetRecluster", "hlt_muons": "ScoutingMuonNoVtx"})
    assert chosen.hlt_jets.pt.tolist() == [[51.0], [40.0], [31.0]]
    assert chosen.hlt_muons.pt[0, 0] == 6.0


def test_energies_become_fractions(tmp_path: Path) -> None:
    pt, eta, mass = 40.0, 0.5, 6.0
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    collection = jets(
        [pt], [], [pt], m=[[mass], [], [mass]], chargedHadronEnergy=[[10.0], [], [0.0]],
        photonEnergy=[[8.0], [], [1.0]], HFEMEnergy=[[2.0], [], [0.0]],
    )  # fmt: skip
    events = events_of(write(tmp_path / "a.root", "Events", {"ScoutingPFJet": collection}, **IDENTITY))
    assert columns.flat(events, "hlt_jets", "charged_hadron_fraction") == pytest.approx(
        [10 / energy, 0.0], rel=1e-6
    )
    assert columns.flat(events, "hlt_jets", "neutral_em_fraction") == pytest.approx(
        [10 / energy, 1 / energy], rel=1e-6
    )


@pytest.mark.slow
def test_every_column_has_the_type_that_its_form_declares(data_dir: Path) -> None:
    """A transform that returned another type than declared would be read as garbage: materialise all, everywhere."""
    more = (data_dir / "cms/scouting_nano.root", data_dir / "atlas/trigger_offline_jets.root")
    for file in [*sorted((data_dir / "cms").glob("nano*.root")), *more]:
        info = readers.inspect(str(file))
        names = [c for c in info.layout.columns if not c.startswith("triggers.")]
        events = readers.read(
            info.file, info.tree, info.uuid, info.layout.restricted(names), 0, info.entries, {}, []
        )
        tree = uproot.open(file)[info.tree]
        for name in names:
            collection, _, field = name.rpartition(".")
            values = columns.flat(events, collection, field) if collection else columns.scalar(events, name)
            assert np.isfinite(values.astype(np.float64)).all(), (file.name, name)
            branch = info.layout.columns[name][-1]
            if (
                len(info.layout.columns[name]) <= 2
                and info.layout.table.energy_unit == "GeV"
                and branch[0] != "n"
            ):
                raw = ak.to_numpy(ak.flatten(tree[branch].array(), axis=None))
                if len(raw) == len(values):
                    np.testing.assert_array_equal(
                        values, raw.astype(values.dtype), err_msg=f"{file.name} {name}"
                    )


def test_first_entries_keep_their_type(data_dir: Path) -> None:
    file = data_dir / "atlas/trigger_offline_jets.root"
    weights = uproot.open(file)["AnalysisMiniTree"]["mcEventWeights"].array()
    np.testing.assert_array_equal(columns.scalar(events_of(file), "weight"), [float(w[0]) for w in weights])


def test_mev_becomes_gev(data_dir: Path) -> None:
    file = data_dir / "atlas/trigger_offline_jets.root"
    tree = uproot.open(file)["AnalysisMiniTree"]
    events = events_of(file)
    for ours, theirs in {"pt": "pt", "mass": "m"}.items():
        raw = ak.to_numpy(ak.flatten(tree[f"trigger_akt4_pf_{theirs}"].array()))
        np.testing.assert_allclose(columns.flat(events, "hlt_jets", ours), raw / 1000, rtol=2e-7)
    raw = ak.to_numpy(ak.flatten(tree["trigger_akt4_pf_eta"].array()))
    np.testing.assert_array_equal(columns.flat(events, "hlt_jets", "eta"), raw)
    assert columns.scalar(events, "n_pv").tolist() == ak.num(tree["offline_pv_z"].array()).tolist()


def test_trigger_objects_are_told_apart_by_their_id(data_dir: Path) -> None:
    file = data_dir / "cms/nano_tt_v15.root"
    tree = uproot.open(file)["Events"]
    ids, pts = tree["TrigObj_id"].array(), tree["TrigObj_pt"].array()
    events = events_of(file)
    for collection, code in {"hlt_jets": 1, "hlt_muons": 13}.items():
        expected = [[float(p) for p, i in zip(p_event, i_event, strict=True) if i == code]
                    for p_event, i_event in zip(pts, ids, strict=True)]  # fmt: skip
        assert events[collection].pt.tolist() == expected
    assert set(columns.flat(events, "hlt_jets", "mass")) == {0.0}


@pytest.mark.slow
def test_rntuple_gives_the_same_events_as_the_ttree(data_dir: Path) -> None:
    tree, ntuple = (
        events_of(data_dir / "cms" / name) for name in ("nano_dimuon.root", "nano_dimuon_rntuple.root")
    )
    for collection in ("offline_jets", "offline_muons", "hlt_jets"):
        assert ak.almost_equal(ak.to_packed(tree[collection].pt), ak.to_packed(ntuple[collection].pt))
    assert columns.scalar(tree, "event").tolist() == columns.scalar(ntuple, "event").tolist()


def test_four_vectors(data_dir: Path) -> None:
    events = events_of(data_dir / "cms/scouting_nano.root")
    first, second = events.hlt_jets[:, 0], events.hlt_jets[:, 1]
    mass = (first + second).mass
    expected = np.sqrt(
        (first.energy + second.energy) ** 2 - (first.px + second.px) ** 2 - (first.py + second.py) ** 2
        - (first.pz + second.pz) ** 2
    )  # fmt: skip
    assert ak.to_numpy(mass) == pytest.approx(ak.to_numpy(expected), rel=1e-3)
    assert ak.all(first.delta_r(first) == 0)
    assert ak.all(abs(events.hlt_muons.charge) == 1)


def test_nothing_is_read_before_it_is_touched(data_dir: Path) -> None:
    info = readers.inspect(str(data_dir / "cms/scouting_nano.root"))
    log: list[Any] = []
    events = readers.read(info.file, info.tree, info.uuid, info.layout, 0, 40, {}, log)
    assert log == []
    columns.flat(events, "hlt_jets", "pt")
    assert {entry.branch for entry in log} == {"nScoutingPFJet", "ScoutingPFJet_pt"}


def test_coffea_can_use_the_schema_by_itself(data_dir: Path) -> None:
    path = str(data_dir / "cms/DoubleMuParked2012_100k.root")
    events = NanoEventsFactory.from_root(
        f"{path}:Events", schemaclass=schema.canonical_schema(formats.load("cms-nano")), entry_stop=100
    ).events()
    assert ak.num(events.offline_muons).tolist()[:5] == uproot.open(path)["Events/nMuon"].array()[:5].tolist()


def test_layouts_travel() -> None:
    table = formats.load("cms-scouting")
    layout = readers.Layout(table, "2024", {"rho": ("ScoutingRho",)}, {})
    assert pickle.loads(pickle.dumps(layout)) == layout
    assert cloudpickle.loads(cloudpickle.dumps(layout)) == layout


def test_vertex_indices_become_bits(tmp_path: Path) -> None:
    muons = jets([9.0, 8.0, 7.0], [], [5.0], m=[[0.1] * 3, [], [0.1]], charge=[[1, -1, 1], [], [1]])
    muons["nScoutingMuonVtxVtxIndx"] = ak.values_astype(ak.Array([[2, 1, 0], [], [1]]), "uint16")
    muons["oScoutingMuonVtxVtxIndx"] = ak.values_astype(ak.Array([[0, 2, 3], [], [0]]), "uint16")
    lists = ak.zip({"vtxIndx": ak.values_astype(ak.Array([[0, 3, 0], [], [5]]), "int32")})
    path = write(
        tmp_path / "a.root", "Events", {"ScoutingMuonVtx": muons, "ScoutingMuonVtxVtxIndx": lists}, **IDENTITY
    )
    assert columns.flat(events_of(path), "hlt_muons", "vertex_bits").tolist() == [0b1001, 0b1, 0, 0b100000]
