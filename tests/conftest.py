"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real files: `TRILA_TEST_DATA`, else `../shared/data` beside the repository.

    Tests that need it are skipped without it, unless `TRILA_REQUIRE_DATA` is "1": then they fail, so that a
    machine that should have the data cannot pass by not looking at them.
    """
    given = os.environ.get("TRILA_TEST_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "SOURCE.md").is_file():
        reason = f"no test data in {folder}: set TRILA_TEST_DATA to the folder that holds them"
        if os.environ.get("TRILA_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def jets_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two files of 60 000 simulated monitoring events in all, and their truth."""
    from trila.analysis.simulation import simulate

    folder = tmp_path_factory.mktemp("jets")
    simulate(folder, kind="jets", events=60_000, files=2, seed=7)
    return folder
