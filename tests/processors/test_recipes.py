"""The digest under which a partial result is kept changes with all that it depends on, and with nothing else."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trila.processors import formats, recipes
from trila.processors.dijet import DijetProcessor
from trila.processors.dimuon import DimuonProcessor
from trila.processors.readers import Layout
from trila.processors.recipes import digest, file_digest, recipe, sources, with_contents

LAYOUT = Layout(
    formats.load("cms-scouting"),
    "2024",
    {"hlt_jets.pt": ("nScoutingPFJet", "ScoutingPFJet_pt")},
    {"hlt_jets": "x"},
)
GIVEN: dict[str, Any] = {
    "processor": DijetProcessor(), "configuration": {"own": {"pt_min": 30.0}}, "layout": LAYOUT,
    "metadata": {"name": "data", "is_data": True, "cross_section": None}, "packages": {"numpy": "2.0"},
}  # fmt: skip


@pytest.fixture
def fresh() -> Iterator[None]:
    """What is known of sources is forgotten, as a new process does."""
    yield
    recipes.sources.cache_clear()
    recipes._read.cache_clear()


def test_digests_are_those_of_canonical_json() -> None:
    """Worked out by hand, so that they agree between machines."""
    expected = hashlib.sha256(b'{"a":[1,null],"b":1.5}').hexdigest()
    assert digest({"b": 1.5, "a": (1, None)}) == expected
    assert recipe(**GIVEN) == recipe(**GIVEN)


@pytest.mark.parametrize(
    "change",
    [
        {"processor": DimuonProcessor()},
        {"configuration": {"own": {"pt_min": 31.0}}},
        {"layout": LAYOUT._replace(era="2023")},
        {"layout": LAYOUT._replace(columns={})},
        {"layout": LAYOUT._replace(sources={})},
        {"layout": LAYOUT._replace(table=formats.load("atlas-tla"))},
        {"metadata": GIVEN["metadata"] | {"name": "other"}},
        {"metadata": GIVEN["metadata"] | {"is_data": False}},
        {"metadata": GIVEN["metadata"] | {"cross_section": 2.0}},
        {"packages": {"numpy": "2.1"}},
    ],
)
def test_all_that_a_result_depends_on_counts(change: dict[str, Any]) -> None:
    assert recipe(**GIVEN | change) != recipe(**GIVEN)


def test_files_count_by_what_is_in_them(tmp_path: Path) -> None:
    file, copy = tmp_path / "c.json", tmp_path / "copy.json"
    file.write_text("1")
    copy.write_text("1")
    given = {
        "a": [str(file), "no file", 3, None, True],
        "b": "",
        "c": "x" * 5000,
        "d": "zero\0byte",
        "e": str(tmp_path),
    }
    found = with_contents(given)
    assert found == given | {"a": [{"file": file_digest(file)}, "no file", 3, None, True]}
    assert file_digest(file) == hashlib.sha256(b"1").hexdigest()
    before = recipe(**GIVEN | {"configuration": str(file)})
    assert recipe(**GIVEN | {"configuration": str(copy)}) == before
    file.write_text("2")
    assert recipe(**GIVEN | {"configuration": str(file)}) != before


def test_sources_of_the_package_are_followed() -> None:
    found = sources("trila.processors.dijet")
    assert {"trila.processors.dijet", "trila.processors.topology", "trila.corrections.jets"} <= found.keys()
    assert not {"numpy", "hist", "trila.processors.dimuon", "trila.analysis.steps"} & found.keys()
    for name in ("topology", "dijet"):
        module = sys.modules[f"trila.processors.{name}"]
        assert found[module.__name__] == file_digest(Path(str(module.__file__)))


def test_sources_of_a_users_own_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    """A module, those that lie beside it, and what they take from trila."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_recipe_a.py").write_text(
        "import json\nimport own_recipe_b\nfrom trila.processors.topology import wide_jets\n"
    )
    (tmp_path / "own_recipe_b.py").write_text("X = 1\n")
    __import__("own_recipe_a")
    found = sources("own_recipe_a")
    assert {"own_recipe_a", "own_recipe_b", "trila.processors.topology"} <= found.keys()
    assert "json" not in found
    (tmp_path / "own_recipe_b.py").write_text("X = 2\n")
    recipes.sources.cache_clear()
    recipes._read.cache_clear()
    again = sources("own_recipe_a")
    assert {name for name in found if again[name] != found[name]} == {"own_recipe_b"}
    for name in ("own_recipe_a", "own_recipe_b"):
        del sys.modules[name]


def test_a_module_without_a_source_has_none() -> None:
    assert sources("sys") == {}
    assert sources("no_such_module_at_all") == {}
    assert json.dumps(sources("trila.processors.cutflow"))
