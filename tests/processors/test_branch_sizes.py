"""Sizes from a file's description of its branches, against what uproot reads of them."""

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from trila.processors.branch_sizes import uncompressed_bytes

NAMES = ("flat", "jagged")


def written(folder: Path, kind: str) -> Any:
    rng = np.random.default_rng(3)
    counts = rng.poisson(2.5, 5000)
    content = {
        "flat": rng.normal(size=len(counts)),
        "jagged": ak.unflatten(rng.normal(size=counts.sum()).astype(np.float32), counts),
    }
    with uproot.recreate(folder / "a.root") as file:
        getattr(file, f"mk{kind}")("Events", {"flat": "float64", "jagged": "var * float32"}).extend(content)
    return uproot.open(folder / "a.root")["Events"]


def bytes_of(tree: Any, name: str, offset: int) -> int:
    """Contents and, of a jagged branch, an offset of so many bytes an entry."""
    array = tree[name].array()
    flat = ak.to_numpy(ak.flatten(array, axis=None))
    return int(flat.nbytes + offset * len(array) * (array.ndim - 1))


def test_branches_of_a_tree(tmp_path: Path) -> None:
    tree = written(tmp_path, "tree")
    for name, found in zip(NAMES, uncompressed_bytes(tree, NAMES), strict=True):
        assert found == pytest.approx(bytes_of(tree, name, 4), abs=200)  # headers of the baskets


def test_fields_of_an_ntuple(tmp_path: Path) -> None:
    ntuple = written(tmp_path, "rntuple")
    assert uncompressed_bytes(ntuple, NAMES) == tuple(bytes_of(ntuple, name, 8) for name in NAMES)


def test_fields_that_are_names_for_columns_of_others(data_dir: Path) -> None:
    ntuple = uproot.open(data_dir / "cms/nano_dimuon_rntuple.root")["Events"]
    names = ("Muon_pt", "TrigObj_id", "event")
    assert uncompressed_bytes(ntuple, names) == tuple(bytes_of(ntuple, name, 8) for name in names)
