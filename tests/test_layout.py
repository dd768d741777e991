"""The package is laid out as docs/architecture.md says: imports point downwards, no global name is taken."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("analysis", "corrections", "fits", "processors")
#: What each folder may import of ours, besides itself.
ALLOWED = {
    "analysis": {"processors", "corrections", "fits"},
    "processors": {"corrections"},
    "fits": set(),
    "corrections": set(),
}
MODULES = sorted((folder, path) for folder in FOLDERS for path in (ROOT / folder).glob("*.py"))


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(("folder", "path"), MODULES, ids=lambda value: getattr(value, "stem", value))
def test_imports_point_downwards(folder: str, path: Path) -> None:
    ours = {name.split(".")[1] for name in _imports(path) if name.startswith("trila.")} & set(FOLDERS)
    assert ours - {folder} <= ALLOWED[folder]


@pytest.mark.parametrize(("folder", "path"), MODULES, ids=lambda value: getattr(value, "stem", value))
def test_public_names_exist(folder: str, path: Path) -> None:
    name = f"trila.{folder}" + ("" if path.stem == "__init__" else f".{path.stem}")
    module = importlib.import_module(name)
    assert len(module.__all__) == len(set(module.__all__))
    assert all(hasattr(module, public) for public in module.__all__)


@pytest.mark.parametrize(("folder", "path"), MODULES, ids=lambda value: getattr(value, "stem", value))
def test_names_used_elsewhere_are_public(folder: str, path: Path) -> None:
    """What another module imports is in `__all__` of the module that it comes from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trila."):
            module = importlib.import_module(node.module)
            for alias in node.names:
                is_module = (ROOT / node.module.removeprefix("trila.") / f"{alias.name}.py").is_file()
                assert is_module or alias.name in module.__all__, f"{node.module}: {alias.name}"


def test_every_folder_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(settings["packages"]) == {"trila", *(f"trila.{folder}" for folder in FOLDERS)}
    assert settings["package-dir"] == {"trila": "src/trila"} | {
        f"trila.{folder}": folder for folder in FOLDERS
    }
    nested = [p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py") if p.parent != ROOT / folder]
    assert nested == []


def test_no_global_name_is_taken(tmp_path: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {FOLDERS!r} if u.find_spec(n)])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_formats_are_in_the_package() -> None:
    from importlib import resources

    from trila.processors.formats import BUILT_IN

    for name in BUILT_IN:
        assert (resources.files("trila.processors") / f"{name}.yaml").is_file()


@pytest.mark.slow
def test_wheel_is_complete(tmp_path: Path) -> None:
    """A wheel built from the source distribution holds every module once, and nothing outside `trila/`."""
    import zipfile

    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)], check=True, capture_output=True
    )
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    expected = {f"trila/{folder}/{path.name}" for folder, path in MODULES} | {
        "trila/__init__.py",
        "trila/py.typed",
    }
    expected |= {f"trila/processors/{path.name}" for path in (ROOT / "processors").glob("*.yaml")}
    assert expected <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"trila"}
