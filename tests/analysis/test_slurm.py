"""A run in jobs of a real Slurm: it counts what a local run counts, and leaves no job behind, however it ends.

Skipped without a Slurm that has an idle node; `.ci/run` starts one where it can.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import yaml

from trila.analysis import batch_clusters, steps
from trila.analysis.cluster import connect
from trila.analysis.cluster_options import ClusterOptions
from trila.analysis.simulation import simulate
from trila.processors.errors import InputError

pytestmark = pytest.mark.slow

#: Two jobs of this size fit a small machine.
JOB: dict[str, Any] = {"kind": "slurm", "memory": "1GB", "walltime": "00:10:00", "wait": 60}


def jobs() -> list[str]:
    """Numbers of this user's jobs."""
    done = subprocess.run(
        ["squeue", "--me", "--noheader", "--format=%i"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def soon_no_jobs() -> bool:
    """A cancelled job is still shown while its processes end."""
    for _ in range(60):
        if not jobs():
            return True
        time.sleep(0.5)
    return False


@pytest.fixture(autouse=True)
def slurm() -> Iterator[None]:
    """Skips where there is no Slurm; afterwards, no job must be left."""
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        pytest.skip("no Slurm here: sbatch or sinfo is not found")
    nodes = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False
    )
    if not {"idle", "mixed"} & set(nodes.stdout.split()):
        pytest.skip(f"Slurm has no idle node: {nodes.stdout.strip() or nodes.stderr.strip()}")
    yield
    assert soon_no_jobs()


def options(folder: Path, **more: Any) -> ClusterOptions:
    return ClusterOptions(**{**JOB, "workers": 2, "folder": str(folder / "jobs"), **more})


def test_run_in_jobs_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [str(path) for path in simulate(tmp_path / "sample", kind="dijet", events=3000, files=3, seed=5)]
    section = {**JOB, "queue": "main", "folder": str(tmp_path / "jobs"), "job_extra": {"nice": 10}}
    Path("config.yaml").write_text(yaml.safe_dump({"cluster": section}))
    here = steps.run(["dijet"], files, "here", chunk_size=700).result
    there = steps.run(
        ["dijet"], files, "there", config="config.yaml", cluster="slurm", workers=2, chunk_size=700
    ).result
    assert there.cutflow == here.cutflow
    assert there.histograms.keys() == here.histograms.keys()
    for name, histogram in here.histograms.items():
        np.testing.assert_array_equal(there.histograms[name].view(flow=True), histogram.view(flow=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.yaml",
        "here",
        "jobs",
        "sample",
        "there",
    ]
    # no certificate is left, only what the jobs said
    assert {path.suffix for path in Path("jobs").iterdir()} == {".err", ".out"}


def test_failure_cancels_the_jobs(tmp_path: Path) -> None:
    def fail() -> None:
        with connect(None, options(tmp_path)) as client:
            assert jobs()
            client.submit(lambda: 1 / 0).result()

    with pytest.raises(ZeroDivisionError):
        fail()


SCRIPT = """
import sys, time
from trila.analysis.cluster import connect
from trila.analysis.cluster_options import ClusterOptions
if __name__ == "__main__":
    with connect(None, ClusterOptions.model_validate_json(sys.argv[1])):
        print("ready", flush=True)
        time.sleep(300)
"""


def test_interrupt_cancels_the_jobs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, options(tmp_path).model_dump_json(exclude_unset=True)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert jobs()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert said.rstrip().endswith("KeyboardInterrupt")


def test_job_that_ends_is_replaced(tmp_path: Path) -> None:
    """Its work is done by the one that takes its place."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}),
        connect(None, options(tmp_path, workers=1)) as client,
    ):
        before = jobs()
        subprocess.run(["scancel", *before], check=True)
        assert client.submit(os.getpid).result(timeout=60) > 0
        assert set(jobs()) - set(before)


def test_queue_that_does_not_exist(tmp_path: Path) -> None:
    with (
        pytest.raises(
            InputError,
            match=r"^Slurm refuses a job: .*Invalid partition name specified.*check the section 'cluster'$",
        ),
        connect(None, options(tmp_path, queue="nonsense")),
    ):
        pytest.fail("there is a cluster")


def test_jobs_that_wait_too_long(tmp_path: Path) -> None:
    message = (
        r"^the 2 jobs of Slurm did not start within 2 s \(2 pending: JobHeldUser\); look at "
        rf"`squeue --jobs=\d+,\d+` and at their output in {re.escape(str(tmp_path))}/jobs, or give a longer 'wait'"
    )
    with (
        pytest.raises(InputError, match=message),
        connect(None, options(tmp_path, job_extra={"hold": True}, wait=2)),
    ):
        pytest.fail("there is a cluster")


def test_jobs_that_cannot_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that the node does not have: said as soon as it is known, not at the end of the wait."""
    monkeypatch.setattr(batch_clusters, "POLL", 1.0)
    with (
        pytest.raises(
            InputError,
            match=r"^the 2 jobs of Slurm ended before they could work \(2 failed: NonZeroExitCode\)",
        ),
        connect(None, options(tmp_path, python="/not/there/python")),
    ):
        pytest.fail("there is a cluster")
    assert any("/not/there/python" in path.read_text() for path in (tmp_path / "jobs").glob("*.err"))
