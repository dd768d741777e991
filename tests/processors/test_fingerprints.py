"""The digest of the code: the same however the package is installed, another one with every change."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("analysis", "corrections", "fits", "processors")
CALL = "from trila.processors.fingerprints import code_digest; print(code_digest())"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a wheel lays it out."""
    place = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src" / "trila", place / "trila", symlinks=True)
    for folder in FOLDERS:
        (place / "trila" / folder).unlink()
        shutil.copytree(ROOT / folder, place / "trila" / folder)
    return place


def digest_at(place: Path) -> str:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(place)!r}); {CALL}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=place).stdout.strip()


def test_it_is_that_of_all_sources(installed: Path) -> None:
    """Against `sha256sum` of the list that `sha256sum` would print, in the other order of its columns."""
    package = installed / "trila"
    names = sorted(
        p.relative_to(package).as_posix() for p in package.rglob("*") if p.suffix in (".py", ".yaml")
    )
    assert {"__init__.py", "analysis/cli.py", "processors/cms-nano.yaml"} <= set(names)
    lines = [f"{name} {hashlib.sha256((package / name).read_bytes()).hexdigest()}\n" for name in names]
    assert digest_at(installed) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_any_change_shows_and_the_layout_does_not(installed: Path, tmp_path: Path) -> None:
    before = digest_at(installed)
    # the folders elsewhere, as in a checkout
    (tmp_path / "src").mkdir()
    shutil.copytree(
        installed / "trila", tmp_path / "src" / "trila", ignore=shutil.ignore_patterns("__pycache__")
    )
    for folder in FOLDERS:
        (tmp_path / "src" / "trila" / folder).rename(tmp_path / folder)
        (tmp_path / "src" / "trila" / folder).symlink_to(tmp_path / folder)
    assert digest_at(tmp_path / "src") == before
    with (tmp_path / "fits" / "errors.py").open("a") as file:
        file.write("# one line more\n")
    changed = digest_at(tmp_path / "src")
    (tmp_path / "fits" / "errors.py").rename(tmp_path / "fits" / "mistakes.py")
    assert len({before, changed, digest_at(tmp_path / "src")}) == 3
