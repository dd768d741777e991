"""Workers as jobs of a batch system: Slurm or HTCondor, by way of dask-jobqueue.

A job is one worker of one process, which works on one piece of the data at a time. Many small jobs start sooner than
few large ones, and one that is lost costs one worker. A job that ends early, or at its time limit, is replaced as long
as the run goes on; what it had done is done again elsewhere. The scheduler is in this process: when it is gone, running
workers end by themselves, and jobs that start later give up after a minute.

Whoever can talk to a Dask scheduler can run code as its user. So it listens on one address only, and takes nothing that
does not hold the certificate made for this run, which lies in `folder`, readable by the user alone, until the run ends.
"""

import logging
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from trila.analysis.cluster_options import ClusterOptions
from trila.processors.errors import InputError

__all__ = ["batch_cluster"]

#: Seconds between two looks at jobs that have not started.
POLL = 10.0

#: Seconds for which a worker looks for the scheduler before its job ends.
DEATH_TIMEOUT = 60

#: Parts of a job's time after which its worker hands over what it holds and ends, and the spread of it: so that jobs
#: that began together do not end together.
LIFETIME, STAGGER = 0.8, 0.1


class _System(NamedTuple):
    """A batch system.

    Attributes:
        title: its name.
        submit: the command that hands in a job.
        look: the command that shows jobs of given numbers to the user.
        columns: what to add to it, for a line of state and reason for each job.
        words: state, as printed, to a word; a state that is not here is its own.
    """

    title: str
    submit: str
    look: Callable[[list[str]], list[str]]
    columns: tuple[str, ...]
    words: dict[str, str]


SYSTEMS = {
    "slurm": _System(
        "Slurm", "sbatch", lambda numbers: ["squeue", f"--jobs={','.join(numbers)}"],
        ("--noheader", "--states=all", "--format=%T %r"), {},
    ),
    "htcondor": _System(
        "HTCondor", "condor_submit", lambda numbers: ["condor_q", *numbers], ("-af", "JobStatus", "HoldReason"),
        {"1": "idle", "2": "running", "3": "removed", "4": "completed", "5": "held", "7": "suspended"},
    ),
}  # fmt: skip

#: States that no worker comes from any more.
ENDED = {
    "gone", "failed", "completed", "cancelled", "timeout", "out_of_memory", "node_fail", "boot_fail", "deadline",
    "removed", "held",
}  # fmt: skip


@contextmanager
def batch_cluster(options: ClusterOptions) -> Iterator[Any]:
    """A Dask cluster of jobs, of which the first has started; all jobs are cancelled when the context ends.

    Raises:
        InputError: dask-jobqueue or the batch system is not installed here, no number of jobs is given, the batch
            system refuses a job, or none starts in time.
    """
    system = SYSTEMS[options.kind]
    if options.workers is None:
        raise InputError(
            f"how many jobs of {system.title}? Give --workers, or 'workers' in the section 'cluster'"
        )
    if shutil.which(system.submit) is None:
        raise InputError(
            f"{system.submit} is not found, so {system.title} cannot be used from here; "
            "log in where jobs are submitted, or use another kind of cluster"
        )
    folder = Path(options.folder).expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder for jobs {folder} cannot be made ({error.strerror}); "
            "give another 'folder' in the section 'cluster'"
        ) from error
    with (
        _security(folder) if options.encryption else nullcontext() as security,
        _cluster(options, folder, security) as cluster,
    ):
        _submit(cluster, system, options.workers)
        _wait(cluster, system, options)
        cluster.adapt(minimum_jobs=options.workers, maximum_jobs=options.workers)  # replaces jobs that end
        yield cluster


@contextmanager
def _security(folder: Path) -> Iterator[Any]:
    """A key and its certificate, which all parts of this cluster must hold; in files that last as long as the context.

    Raises:
        InputError: the package that makes them is missing.
    """
    from distributed import Security

    try:
        made = Security.temporary().get_tls_config_for_role("worker")
    except ImportError as error:
        raise _missing(error) from error
    with TemporaryDirectory(prefix="certificate-", dir=folder) as private:
        key, certificate = Path(private) / "key.pem", Path(private) / "certificate.pem"
        key.touch(mode=0o600)
        key.write_text(made["key"])
        certificate.write_text(made["cert"])
        roles = ("client", "scheduler", "worker")
        yield Security(
            require_encryption=True,
            tls_ca_file=str(certificate),
            **{f"tls_{role}_key": str(key) for role in roles},
            **{f"tls_{role}_cert": str(certificate) for role in roles},
        )


def _missing(error: ImportError) -> InputError:
    return InputError(
        f"jobs of a batch system need packages that are not installed ({error}); pip install 'trila[clusters]'"
    )


def _imported() -> Any:
    """dask-jobqueue, whose import makes Ctrl-C end the process as if all were well (as of 0.9.0): that is undone."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if handler is None else handler)
    return dask_jobqueue


def _cluster(options: ClusterOptions, folder: Path, security: Any) -> Any:
    """The cluster without jobs: a scheduler in this process.

    Raises:
        InputError: dask-jobqueue is missing, or the scheduler cannot listen where it should.
    """
    from distributed.utils import get_ip

    try:
        dask_jobqueue = _imported()
    except ImportError as error:
        raise _missing(error) from error
    host = options.host or get_ip()
    try:
        socket.create_server(
            (host, options.port)
        ).close()  # Dask's own attempt leaves threads behind when it fails
    except OSError as error:
        raise InputError(
            f"the scheduler cannot listen at {host}, port {options.port or 'any'} ({error.strerror}); "
            "check 'host' and 'port' in the section 'cluster'"
        ) from error
    lifetime = ("--lifetime", f"{LIFETIME * options.seconds:.0f}s")
    stagger = ("--lifetime-stagger", f"{STAGGER * options.seconds:.0f}s")
    common: dict[str, Any] = {
        "name": "trila",
        "cores": 1,
        "processes": 1,
        "memory": options.memory,
        "job_name": "trila",
        "job_script_prologue": list(options.setup),
        "python": options.python,
        "worker_extra_args": [
            *lifetime, *stagger, "--dashboard-address", "127.0.0.1:0", *options.worker_args
        ],
        "death_timeout": DEATH_TIMEOUT,
        "log_directory": str(folder),
        "security": security,
        "silence_logs": logging.CRITICAL,
        "scheduler_options": {"host": host, "port": options.port, "dashboard_address": "127.0.0.1:0"},
    }  # fmt: skip
    if options.kind == "slurm":
        return dask_jobqueue.SLURMCluster(
            job_cpu=options.cores, walltime=options.walltime, queue=options.queue, account=options.account,
            job_extra_directives=[
                f"--{key}" if value is True else f"--{key}={value}"
                for key, value in options.job_extra.items() if value is not False
            ],
            **common,
        )  # fmt: skip
    return dask_jobqueue.HTCondorCluster(
        disk=options.disk, job_extra_directives={"RequestCpus": options.cores, **options.job_extra}, **common
    )


def _submit(cluster: Any, system: _System, jobs: int) -> None:
    """Hand in the jobs.

    `cluster.scale` would do so in the background, where a refusal is only logged.

    Raises:
        InputError: a job is refused.
    """
    from distributed.core import Status

    async def submit() -> None:
        for _ in range(jobs):
            cluster.worker_spec.update(cluster.new_worker_spec())
        await cluster

    try:
        cluster.sync(submit)
    except RuntimeError as error:
        # with a job that has no status the cluster would not close, nor cancel the others
        for job in cluster.workers.values():
            job.status = Status.failed
        raise InputError(
            f"{system.title} refuses a job: {_last_line(error)}; check the section 'cluster'"
        ) from error


def _wait(cluster: Any, system: _System, options: ClusterOptions) -> None:
    """Wait for the first worker, as long as any may still come.

    Raises:
        InputError: none came in time, or none will.
    """
    numbers = [job.job_id for job in cluster.workers.values()]
    end = time.monotonic() + options.wait
    while True:
        try:
            cluster.wait_for_workers(1, timeout=max(0.1, min(POLL, end - time.monotonic())))
            return
        except TimeoutError:
            states = _states(system, numbers)
        late = time.monotonic() >= end
        if late or (states and all(state.partition(":")[0] in ENDED for state in states)):
            found = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            what = f"did not start within {options.wait:.0f} s" if late else "ended before they could work"
            raise InputError(
                f"the {len(numbers)} jobs of {system.title} {what} ({found or 'their state is not known'}); "
                f"look at `{shlex.join(system.look(numbers))}` and at their output in {options.folder}"
                + (", or give a longer 'wait' in the section 'cluster'" if late else "")
            )


def _states(system: _System, numbers: list[str]) -> Counter[str]:
    """How many jobs are in which state, with the batch system's reason; nothing, if it does not answer."""
    command = [*system.look(numbers), *system.columns]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return Counter()
    states: Counter[str] = Counter()
    for line in done.stdout.splitlines():
        state, _, reason = line.strip().partition(" ")
        word = system.words.get(state, state.lower())
        states[word if reason in {"", "None", "undefined"} else f"{word}: {reason}"] += 1
    return states + Counter({"gone": len(numbers) - states.total()})


def _last_line(error: Exception) -> str:
    """What matters in a message of several lines: the last one that says something."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()
