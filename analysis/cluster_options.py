"""What may be asked of the cluster that a run starts for itself: the section `cluster` of a configuration.

```yaml
cluster:
  kind: slurm
  workers: 50
  queue: short
  walltime: "02:00:00"
```
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from trila.processors.selection import Config

__all__ = ["ClusterOptions"]


def _size(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?\s*[kMGT]i?B", text):
        raise ValueError("expected a size such as 4GB")
    return text


def _duration(text: object) -> object:
    """YAML takes 04:00:00 without quotes for a number."""
    if not isinstance(text, str) or not re.fullmatch(r"(\d+-)?\d{1,2}:\d\d:\d\d", text):
        raise ValueError("expected hours:minutes:seconds in quotes, such as '04:00:00'")
    return text


def _path(text: str) -> str:
    if re.search(r"\s", text):
        raise ValueError("expected a path without spaces, which do not survive in the scripts of jobs")
    return text


Size = Annotated[str, AfterValidator(_size)]
Duration = Annotated[str, BeforeValidator(_duration)]
FolderPath = Annotated[str, AfterValidator(_path)]

#: Options that only some kinds of cluster have; the others are for both batch systems.
ONLY = {
    "kind": ("local", "slurm", "htcondor"),
    "workers": ("local", "slurm", "htcondor"),
    "queue": ("slurm",),
    "account": ("slurm",),
    "disk": ("htcondor",),
}


class ClusterOptions(Config):
    """The cluster that a run starts for itself.

    Attributes:
        kind: processes of this machine, or jobs of Slurm or HTCondor.
        workers: how many processes or jobs; of a local cluster, as many as there are cores if not given.
        cores: asked for each job; its worker uses one. More where a site gives memory by the core.
        memory: of each job.
        walltime: after which Slurm ends a job; on HTCondor, what `job_extra` asks of the site.
        disk: of each job.
        queue: Slurm's partition.
        account: that Slurm charges.
        job_extra: further options of the job: `constraint: cpu` is `--constraint=cpu` for Slurm, `exclusive: true` is
            `--exclusive`; for HTCondor the lines of the description, `MY.JobFlavour: '"workday"'`.
        setup: shell commands that a job begins with.
        python: that runs the workers; the one that runs here, if not given.
        worker_args: further arguments of `dask worker`.
        folder: for the jobs' output and the run's certificate; this machine and the nodes must see it.
        host: address or name of this machine for the nodes; found, if not given.
        port: of the scheduler; a free one, if 0.
        encryption: whether scheduler and workers prove who they are; without it, anybody who reaches the port can run
            code as you.
        wait: seconds for the first job to start.
    """

    kind: Literal["local", "slurm", "htcondor"] = "local"
    workers: int | None = Field(default=None, ge=1)
    cores: int = Field(default=1, ge=1)
    memory: Size = "4GB"
    walltime: Duration = "04:00:00"
    disk: Size = "4GB"
    queue: str | None = None
    account: str | None = None
    job_extra: dict[str, str | bool | int] = Field(default_factory=dict)
    setup: tuple[str, ...] = ()
    python: str | None = None
    worker_args: tuple[str, ...] = ()
    folder: FolderPath = "~/.trila/jobs"
    host: str | None = None
    port: int = Field(default=0, ge=0, le=65535)
    encryption: bool = True
    wait: float = Field(default=600.0, gt=0)

    @model_validator(mode="after")
    def _of_this_kind(self) -> Self:
        for name in sorted(self.model_fields_set):
            kinds = ONLY.get(name, ("slurm", "htcondor"))
            if self.kind not in kinds:
                raise ValueError(
                    f"'{name}' is for {' and '.join(kinds)}, not for a cluster of kind {self.kind}"
                )
        return self

    @property
    def seconds(self) -> int:
        """`walltime` as a number."""
        days, _, clock = self.walltime.rpartition("-")
        hours, minutes, seconds = (int(part) for part in clock.split(":"))
        return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds
