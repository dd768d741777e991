"""The machine of a benchmark, its packages, and the samples that are made on it once."""

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from trila.analysis import simulation
from trila.analysis.results import package_versions
from trila.analysis.simulation import simulate

__all__ = ["DATA", "describe", "first_line", "pinned", "sample", "touch"]

DATA = Path(__file__).resolve().parent / ".data"


def describe() -> dict[str, Any]:
    """Processor, cores, memory, load and packages."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
        "packages": package_versions(),
    }


def first_line(machine: dict[str, Any]) -> str:
    """The machine in words, two lines."""
    packages = machine["packages"]
    shown = (
        "python",
        "trila",
        "numpy",
        "numba",
        "awkward",
        "uproot",
        "coffea",
        "hist",
        "distributed",
        "pyarrow",
    )
    versions = ", ".join(f"{name} {packages[name]}" for name in shown if name in packages)
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({machine['usable_cores']} usable), "
        f"{machine['memory_gib']} GiB, load {machine['load'][0]}, {machine['system']}\n{versions}"
    )


@contextmanager
def pinned() -> Iterator[int | None]:
    """This process on one core, the last of those it may use; gives its number, or None where that cannot be had."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    core = max(before)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


def sample(folder: Path, *, events: int, files: int, seed: int) -> tuple[list[Path], float | None]:
    """A simulated monitoring sample, made if it is not there; a changed simulation makes another one.

    Returns:
        Its files, and how long it took to make them, None if they were there.
    """
    package = Path(str(simulation.__file__)).parent
    sources = sorted([*package.glob("simulation*.py"), *package.glob("toy_*.py")])
    text = b"".join(path.read_bytes() for path in sources)
    name = f"jets-{events}-{files}-{seed}-{hashlib.sha256(text).hexdigest()[:8]}"
    if (folder / name / "truth.json").exists():
        return sorted((folder / name).glob("*.root")), None
    begin = time.perf_counter()
    paths = simulate(folder / name, kind="jets", events=events, files=files, seed=seed)
    return paths, time.perf_counter() - begin


def touch(paths: list[Path]) -> None:
    """Read files once, so that all that are timed find them in the page cache."""
    for path in paths:
        with path.open("rb") as stream:
            while stream.read(1 << 24):
                pass
