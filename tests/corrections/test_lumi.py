"""Luminosity masks: closed ranges, against a loop; every malformed file has its message."""

import json
from pathlib import Path

import numpy as np
import pytest

from trila.corrections.lumi import LumiMaskError, blocks, certified, load_mask


def test_against_a_loop(data_dir: Path) -> None:
    path = data_dir / "lumi/Cert_294927-306462_13TeV_EOY2017ReReco_Collisions17_JSON.txt"
    mask = load_mask(path)
    raw = json.loads(path.read_text())
    rng = np.random.default_rng(1)
    runs = rng.choice([int(r) for r in raw] + [1, 999999], 3000)
    lumis = rng.integers(0, 1500, 3000)
    expected = [
        any(first <= lumi <= last for first, last in raw.get(str(run), []))
        for run, lumi in zip(runs, lumis, strict=True)
    ]
    assert certified(mask, runs, lumis).tolist() == expected
    assert 0 < sum(expected) < 3000


def test_ranges_are_closed_and_may_overlap() -> None:
    mask = {"3": ((5, 10), (8, 9), (20, 20)), "4": ((1, 1),)}
    lumis = np.array([4, 5, 8, 9, 10, 11, 19, 20, 21])
    assert certified(mask, np.full(9, 3), lumis).tolist() == [False, *[True] * 4, False, False, True, False]
    assert certified(mask, [4, 4, 5], [1, 2, 1]).tolist() == [True, False, False]


def test_run_and_block_do_not_mix() -> None:
    assert blocks([1], [2**32 - 1])[0] < blocks([2], [0])[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds list"),
        ("{}", "or no run"),
        ('{"a": [[1, 2]]}', "run 'a'"),
        ('{"1": [[2, 1]]}', r"\[2, 1\] is not \[first, last\]"),
        ('{"1": [[1]]}', r"\[1\] is not"),
        ('{"1": [["1", 2]]}', "is not"),
        ('{"1": 5}', "run '1'"),
    ],
)
def test_malformed_masks(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mask.json"
    path.write_text(content)
    with pytest.raises(LumiMaskError, match=message) as error:
        load_mask(path)
    assert "expected" in str(error.value)


def test_missing_mask(tmp_path: Path) -> None:
    with pytest.raises(LumiMaskError, match="cannot be read: No such file"):
        load_mask(tmp_path / "no.json")
