"""Writing correction sets: what is written can be evaluated, equal content gives equal bytes, nothing is half done."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path
from typing import Any

import correctionlib
import pytest
from correctionlib import schemav2 as cs

from trila.corrections import correction_set, correction_text
from trila.corrections.jets import CorrectionError


def constant(value: float | str) -> Any:
    formula = {"nodetype": "formula", "parser": "TFormula", "variables": ["JetPt"], "expression": value}
    return cs.CorrectionSet.model_validate(
        {
            "schema_version": 2,
            "corrections": [
                {
                    "name": "hlt_jec", "version": 1, "inputs": [{"name": "JetPt", "type": "real"}],
                    "output": {"name": "factor", "type": "real"},
                    "data": formula if isinstance(value, str) else value,
                }
            ],
        }
    )  # fmt: skip


@pytest.mark.parametrize("name", ["c.json.gz", "c.json"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    correction_set.write(constant(0.1 + 0.2), path)
    assert correctionlib.CorrectionSet.from_file(str(path))["hlt_jec"].evaluate(50.0) == 0.1 + 0.2
    correction_set.write(constant("1+x/100"), path)  # replaced
    assert correctionlib.CorrectionSet.from_file(str(path))["hlt_jec"].evaluate(50.0) == 1.5
    assert list(tmp_path.iterdir()) == [path]
    umask_default = tmp_path / "other"
    umask_default.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(umask_default.stat().st_mode)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json.gz", tmp_path / "b.json.gz"
    correction_set.write(constant(1.5), first)
    correction_set.write(constant(1.5), second)
    assert first.read_bytes() == second.read_bytes()
    header = first.read_bytes()[:10]
    assert header[:4] == b"\x1f\x8b\x08\x00"  # no name in it
    assert header[4:8] == bytes(4)  # no time
    assert header[9] == 255  # no operating system
    assert gzip.decompress(first.read_bytes()) == constant(1.5).model_dump_json(exclude_unset=True).encode()


def _changed_after_validation() -> Any:
    corrections = constant(1.0)
    corrections.corrections[0].data = float("inf")
    return corrections


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (constant("floor(x)"), "its content is not valid: .*floor"),
        (constant("[0]*x"), "its content is not valid: .*parameter"),
        (_changed_after_validation(), "its content is not valid: "),
    ],
)
def test_invalid_content_is_not_written(tmp_path: Path, content: Any, says: str) -> None:
    path = tmp_path / "c.json.gz"
    path.write_text("the old one")
    with pytest.raises(CorrectionError, match=says):
        correction_set.write(content, path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CorrectionError, match=r"c\.txt: the name must end in \.json\.gz or \.json"):
        correction_set.write(constant(1.0), tmp_path / "c.txt")
    with pytest.raises(
        CorrectionError, match="cannot be written: No such file or directory; check the folder"
    ):
        correction_set.write(constant(1.0), tmp_path / "none" / "c.json")
    (tmp_path / "d.json").mkdir()
    with pytest.raises(CorrectionError, match="cannot be written: Is a directory"):
        correction_set.write(constant(1.0), tmp_path / "d.json")
    assert [path.name for path in tmp_path.iterdir()] == ["d.json"]


@pytest.mark.parametrize("name", ["c.json.gz", "c.json"])
def test_models_come_back(tmp_path: Path, name: str) -> None:
    correction_set.write(constant("1+x/100"), tmp_path / name)
    assert correction_set.read(tmp_path / name) == constant("1+x/100")
    (tmp_path / "other").write_bytes((tmp_path / name).read_bytes())  # the suffix does not matter
    assert correction_text.text(tmp_path / "other") == constant("1+x/100").model_dump_json(exclude_unset=True)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CorrectionError, match=r"none\.json: no such file; check the path"):
        correction_set.read(tmp_path / "none.json")
    (tmp_path / "a.json").write_text('{"schema_version": 2, "corrections": 1}')
    with pytest.raises(
        CorrectionError, match=r"a\.json is not a correctionlib \(v2\) JSON file: .*corrections"
    ):
        correction_set.read(tmp_path / "a.json")
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(b"text" * 100, mtime=0)[:-9])
    with pytest.raises(CorrectionError, match=r"b\.json\.gz is damaged, or is not text"):
        correction_text.text(tmp_path / "b.json.gz")
