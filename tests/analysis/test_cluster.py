"""A cluster that cannot do the work is refused in words, before the work and without a hang.

Protected: what may be asked for, the descriptions of jobs that HTCondor gets, the messages where a batch system, a
package or a worker is not as it should be, that jobs are cancelled, and that nothing here listens to other machines.
HTCondor is played by three shell scripts; Slurm is real in `test_slurm.py`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from trila import __version__
from trila.analysis.batch_clusters import batch_cluster
from trila.analysis.cluster import check_workers, connect
from trila.analysis.cluster_options import ClusterOptions
from trila.processors.errors import InputError

# ---- what may be asked for


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "pbs"}, "Input should be 'local', 'slurm' or 'htcondor'"),
        ({"kind": "slurm", "nodes": 3}, "Extra inputs are not permitted"),
        ({"kind": "slurm", "workers": 0}, "greater than or equal to 1"),
        ({"kind": "slurm", "memory": "4"}, "expected a size such as 4GB"),
        (
            {"kind": "slurm", "walltime": 14400},
            "expected hours:minutes:seconds in quotes, such as '04:00:00'",
        ),
        ({"kind": "slurm", "walltime": "4h"}, "expected hours:minutes:seconds in quotes"),
        ({"kind": "slurm", "folder": "my jobs"}, "expected a path without spaces"),
        ({"kind": "slurm", "disk": "4GB"}, "'disk' is for htcondor, not for a cluster of kind slurm"),
        ({"kind": "htcondor", "queue": "short"}, "'queue' is for slurm, not for a cluster of kind htcondor"),
        ({"cores": 2}, "'cores' is for slurm and htcondor, not for a cluster of kind local"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        ClusterOptions.model_validate(options)


@pytest.mark.parametrize(
    ("walltime", "seconds"), [("00:30:00", 1800), ("4:00:01", 14401), ("2-01:00:00", 2 * 86400 + 3600)]
)
def test_walltime_in_seconds(walltime: str, seconds: int) -> None:
    assert ClusterOptions(kind="slurm", walltime=walltime).seconds == seconds


# ---- HTCondor, played by scripts

#: Keeps the description, and starts the job if `RUN` is set, with the arguments unquoted as condor_submit does.
SUBMIT = """#!/usr/bin/env python3
import itertools, os, pathlib, re, subprocess, sys
folder = pathlib.Path(__file__).parent
text = pathlib.Path(sys.argv[-1]).read_text()
for number in itertools.count(7):
    try:
        (folder / f"job-{number}").open("x").close()  # jobs are handed in at the same time
        break
    except FileExistsError:
        pass
(folder / f"job-{number}").write_text(text)
if "RUN" in os.environ:
    executable = re.search("^Executable = (.*)$", text, re.M)[1]
    arguments = re.search('^Arguments = "-c \\'(.*)\\'"$', text, re.M)[1]
    command = arguments.replace("''", "'").replace('""', '"')
    with open(folder / f"output-{number}", "w") as output:
        job = subprocess.Popen([executable, "-c", "exec " + command], stdout=output, stderr=output)
    (folder / f"pid-{number}").write_text(str(job.pid))
print(f"1 job(s) submitted to cluster {number}.")
"""
REMOVE = """#!/bin/sh
here=$(dirname "$0")
echo "$1" >> "$here/removed"
[ -e "$here/pid-${1%.0}" ] && kill "$(cat "$here/pid-${1%.0}")"
true
"""
QUEUE = """#!/bin/sh
printf '1 undefined\\n5 no such disk\\n'
"""


@pytest.fixture
def condor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the scripts, first on the path."""
    folder = tmp_path / "condor"
    folder.mkdir()
    for name, text in (("condor_submit", SUBMIT), ("condor_rm", REMOVE), ("condor_q", QUEUE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def lines(text: str) -> dict[str, str]:
    """A description of HTCondor as name to value."""
    pairs = (line.partition(" = ") for line in text.splitlines() if " = " in line)
    return {name: value for name, _, value in pairs}


def test_jobs_of_htcondor(condor: Path, tmp_path: Path) -> None:
    """What is handed in, the message when no job starts, and that all jobs are removed."""
    folder = tmp_path / "jobs"
    on_interrupt = signal.getsignal(signal.SIGINT)  # ignored in the background of some shells
    options = ClusterOptions(
        kind="htcondor", workers=2, cores=2, memory="3GB", disk="5GB", walltime="01:00:00", folder=str(folder), wait=0.3,
        job_extra={"MY.JobFlavour": '"workday"', "Stream_Output": False}, setup=("source /env/setup.sh",),
        python="/env/bin/python", worker_args=("--worker-port", "10000:10100"), host="127.0.0.1",
    )  # fmt: skip
    with (
        pytest.raises(
            InputError,
            match=r"^the 2 jobs of HTCondor did not start within 0 s \(1 held: no such disk, 1 idle\); look at "
            rf"`condor_q (7\.0 8\.0|8\.0 7\.0)` and at their output in {folder}, or give a longer 'wait' in the section 'cluster'$",
        ),
        batch_cluster(options),
    ):
        pytest.fail("no job has started")
    assert sorted((condor / "removed").read_text().split()) == ["7.0", "8.0"]
    assert signal.getsignal(signal.SIGINT) is on_interrupt
    assert list(folder.iterdir()) == []  # the certificate is gone
    job = lines((condor / "job-7").read_text())
    assert job["RequestCpus"] == "2"
    assert job["MY.DaskWorkerMemory"] == "3000000000"
    assert job["MY.DaskWorkerDisk"] == "5000000000"
    assert job["RequestMemory"] == "floor(MY.DaskWorkerMemory / 1048576)"
    assert job["MY.JobFlavour"] == '"workday"'
    assert job["Stream_Output"] == "False"
    assert job["LogDirectory"] == str(folder)
    assert job["Executable"] == "/bin/sh"
    certificate = rf"{folder}/certificate-\w+"
    assert re.fullmatch(
        r""""-c 'source /env/setup\.sh; /env/bin/python -m distributed\.cli\.dask_worker tls://127\.0\.0\.1:\d+ """
        r"--name trila-[01] --nthreads 1 --memory-limit 2\.79GiB --nanny --death-timeout 60 "
        r"--lifetime 2880s --lifetime-stagger 360s --dashboard-address 127\.0\.0\.1:0 --worker-port 10000:10100 "
        rf"--protocol tls:// --tls-ca-file {certificate}/certificate\.pem --tls-cert {certificate}/certificate\.pem "
        rf"--tls-key {certificate}/key\.pem'\"",
        job["Arguments"],
    )


def test_without_encryption_no_certificate_is_asked_for(condor: Path, tmp_path: Path) -> None:
    options = ClusterOptions(
        kind="htcondor",
        workers=1,
        folder=str(tmp_path / "jobs"),
        wait=0.2,
        host="127.0.0.1",
        encryption=False,
    )
    with pytest.raises(InputError, match="did not start"), batch_cluster(options):
        pytest.fail("no job has started")
    arguments = lines((condor / "job-7").read_text())["Arguments"]
    assert " tcp://127.0.0.1:" in arguments
    assert "tls" not in arguments


@pytest.mark.slow
def test_work_in_a_job_of_htcondor(condor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command in the description starts a worker that can do the work, and ends with the context."""
    monkeypatch.setenv("RUN", "1")
    options = ClusterOptions(
        kind="htcondor", workers=1, folder=str(tmp_path / "jobs"), wait=60, host="127.0.0.1", memory="1GB"
    )
    with connect(None, options) as client:
        check_workers(client, tmp_path, digest=lambda: "the same")
        assert client.submit(sum, [1, 2]).result() == 3
        pid = int((condor / "pid-7").read_text())
        assert psutil.pid_exists(pid)
    assert (condor / "removed").read_text().split() == ["7.0"]
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# ---- a batch system that cannot be used


def refused(message: str, **options: Any) -> None:
    with (
        pytest.raises(InputError, match=message),
        connect(None, ClusterOptions(kind="htcondor", **{"workers": 1, **options})),
    ):
        pytest.fail("there is a cluster")


def test_no_number_of_jobs() -> None:
    refused(
        r"^how many jobs of HTCondor\? Give --workers, or 'workers' in the section 'cluster'$", workers=None
    )


def test_no_batch_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    refused(
        "^condor_submit is not found, so HTCondor cannot be used from here; log in where jobs are submitted"
    )


@pytest.mark.parametrize("package", ["dask_jobqueue", "cryptography"])
def test_extra_is_not_installed(
    package: str, condor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"^jobs of a batch system need packages that are not installed \(.*{package}.*\); pip install 'trila\[clusters\]'$"
    refused(message, folder=str(tmp_path / "jobs"))
    assert list((tmp_path / "jobs").iterdir()) == []


def test_folder_that_cannot_be_made(condor: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(
        r"^the folder for jobs .*/file/jobs cannot be made \(Not a directory\); give another 'folder'",
        folder=str(tmp_path / "file" / "jobs"),
    )


def test_address_that_is_not_of_this_machine(condor: Path, tmp_path: Path) -> None:
    refused(
        r"^the scheduler cannot listen at 203\.0\.113\.1, port 8786 \(Cannot assign requested address.*\); check 'host' and 'port' in the section 'cluster'$",
        folder=str(tmp_path / "jobs"), host="203.0.113.1", port=8786,
    )  # fmt: skip


def test_job_that_is_refused(condor: Path, tmp_path: Path) -> None:
    (condor / "condor_submit").write_text("#!/bin/sh\necho 'ERROR: no such flavour' >&2\nexit 1\n")
    refused(
        "^HTCondor refuses a job: ERROR: no such flavour; check the section 'cluster'$",
        folder=str(tmp_path / "jobs"),
    )


# ---- workers that cannot do the work


@pytest.fixture(scope="module")
def here() -> Iterator[Any]:
    """A client of a cluster within this process."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, processes=False, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as running,
        Client(running, set_as_default=False) as client,
    ):
        yield client


def test_workers_that_are_the_same(here: Any, tmp_path: Path) -> None:
    check_workers(here, tmp_path, digest=lambda: "abc")


def test_folder_that_workers_do_not_see(here: Any) -> None:
    with pytest.raises(InputError, match=r"^worker inproc://.* cannot see /not/there, where it has to write"):
        check_workers(here, Path("/not/there"))


def test_worker_that_does_not_answer(here: Any) -> None:
    async def never() -> str:
        import asyncio

        await asyncio.sleep(2)
        return ""

    with pytest.raises(
        InputError, match=r"^no answer from the cluster's workers in 0 s; look at their logs$"
    ):
        check_workers(here, None, digest=never, timeout=0.2)  # type: ignore[arg-type]


@contextmanager
def worker(*arguments: str, prelude: str = "", path: str | None = None) -> Iterator[Any]:
    """Client of a cluster whose only worker is a process of its own, which begins with `prelude`."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=0, processes=False, host="127.0.0.1", protocol="tcp://", dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        code = f"{prelude}\nfrom distributed.cli.dask_worker import main; main()"
        command = [sys.executable, *arguments, "-c", code, cluster.scheduler_address, "--no-nanny"]
        environment = {**os.environ, **({"PYTHONPATH": path} if path else {})}
        with subprocess.Popen(
            [*command, "--dashboard-address", "127.0.0.1:0"],
            env=environment,
            stderr=subprocess.DEVNULL,
            cwd="/",
        ) as process:
            try:
                yield client
            finally:
                process.terminate()


@pytest.fixture(scope="module")
def without_trila(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | None], str]:
    """A folder with all packages of this environment but trila; with its claim to a version, if one is given."""

    def make(version: str | None) -> str:
        folder = tmp_path_factory.mktemp("packages")
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if "trila" not in path.name and path.suffix != ".pth":
                (folder / path.name).symlink_to(path)
        if version is not None:
            claim = folder / f"trila-{version}.dist-info"
            claim.mkdir()
            (claim / "METADATA").write_text(f"Metadata-Version: 2.1\nName: trila\nVersion: {version}\n")
        return str(folder)

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, rf"^the cluster's workers do not have trila; install trila {re.escape(__version__)} there$"),
        ("99.0", rf"^worker tcp://127\S+ has trila 99\.0, here it is {re.escape(__version__)}; install the same version$"),
        (
            __version__,
            rf"^the cluster's workers call themselves trila {re.escape(__version__)}, but are other code \(.*No module named 'trila'.*\); ",
        ),
    ],
)  # fmt: skip
def test_worker_without_this_trila(
    version: str | None, message: str, without_trila: Callable[[str | None], str]
) -> None:
    """Where `-S` leaves out the environment's own packages, and another folder of packages takes their place."""
    from trila.processors.recipes import digest

    begin = time.monotonic()
    with worker("-S", path=without_trila(version)) as client, pytest.raises(InputError, match=message):
        check_workers(client, None, digest=digest)
    assert time.monotonic() - begin < 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prelude", "message"),
    [
        (
            "import platform; platform.python_version = lambda: '3.99.1'",
            rf"has Python 3\.99, here it is {sys.version_info[0]}\.{sys.version_info[1]}; use the same minor version$",
        ),
        ("", r"has code of trila with the digest \d+, here it is \d+; install the same code$"),
    ],
    ids=["Python", "code"],  # the same in each process that collects them
)
def test_worker_that_is_another(prelude: str, message: str) -> None:
    """The number of the process stands for the digest of code: it differs between here and there."""
    with worker(prelude=prelude) as client, pytest.raises(InputError, match=message):
        check_workers(client, None, digest=lambda: str(os.getpid()))


@pytest.mark.slow
def test_cluster_of_this_machine_is_not_seen_from_others() -> None:
    begin = set(listening())
    with connect(None, ClusterOptions(workers=1)) as client:
        check_workers(client, None)
        opened = set(listening()) - begin
        assert len(opened) >= 4  # scheduler, its dashboard, nanny, worker
        assert {host for host, _ in opened} == {"127.0.0.1"}


def listening() -> list[tuple[str, int]]:
    """Where this process and its children listen."""
    this = psutil.Process()
    return [
        (connection.laddr.ip, connection.laddr.port)
        for process in (this, *this.children(recursive=True))
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
