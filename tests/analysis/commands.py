"""What tests of whole runs have in common: the command line, in this process and in one of its own, and damaged files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import uproot
from typer.testing import CliRunner

from trila.analysis import cli


class Done(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def trila(*arguments: object) -> Done:
    """In this process."""
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    return Done(done.exit_code, done.stdout, done.stderr)


def script(*arguments: object) -> list[str]:
    """The words of a command that runs in a process of its own."""
    return [str(Path(sys.executable).with_name("trila")), *map(str, arguments)]


def command(*arguments: object, folder: Path) -> Done:
    """In a process of its own."""
    done = subprocess.run(
        script(*arguments), capture_output=True, text=True, timeout=180, check=False, cwd=folder
    )
    return Done(done.returncode, done.stdout, done.stderr)


def spoil(path: Path, branch: str = "ScoutingPFJet_pt") -> None:
    """Damage the last basket of a branch: the file opens, but cannot be read to its end."""
    with uproot.open(path) as file:
        tree = next(file[name] for name in file.keys(cycle=False))
        key = tree[branch].basket_key(tree[branch].num_baskets - 1)
        position = int(key.fSeekKey + key.fKeylen)
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)
