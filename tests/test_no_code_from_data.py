"""Data is never run as code: no module unpickles or evaluates what it reads, but for what our own processes send each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path
    for folder in ("analysis", "corrections", "fits", "processors")
    for path in (ROOT / folder).glob("*.py")
)

BUILT_IN = {"eval", "exec", "compile", "__import__"}
#: Modules whose readers run code that the data names.
UNPICKLERS = {"pickle", "cloudpickle", "marshal", "shelve", "dill", "joblib"}
READERS = {"load", "loads", "open", "Unpickler"}
UNSAFE_YAML = {"unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader"}

#: What may be there: traffic between our own processes, and code that the user names on the command line.
ALLOWED = {
    ("processors/pools.py", "cloudpickle.loads"),
    ("fits/own_functions.py", "exec_module"),
    ("analysis/steps.py", "importlib.import_module"),
}


def _name(node: ast.expr) -> str:
    """`a.b.c` of a function that is called; only the last part where it belongs to a value."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _name(node.value)
        return f"{inner}.{node.attr}" if inner else node.attr
    return ""


def _safe_loaders(tree: ast.Module) -> set[str]:
    """Loaders of a module that build plain values alone."""
    own = {
        c.name
        for c in ast.walk(tree)
        if isinstance(c, ast.ClassDef) and any(_name(b).split(".")[-1] in SAFE_LOADERS for b in c.bases)
    }
    return own | {f"yaml.{name}" for name in SAFE_LOADERS}


def suspects(code: str) -> Iterator[str]:
    """Calls that may run what is read."""
    tree = ast.parse(code)
    safe = _safe_loaders(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name in READERS)
        if not isinstance(node, ast.Call):
            continue
        name = _name(node.func)
        module, _, function = name.rpartition(".")
        keywords = {word.arg: word.value for word in node.keywords}
        if (
            name in BUILT_IN
            or (module in UNPICKLERS and function in READERS)
            or (module == "yaml" and function in UNSAFE_YAML)
            or function in ("exec_module", "import_module", "read_pickle")
            or "allow_pickle" in keywords
        ):
            yield name if function != "exec_module" else function
        if (
            name in ("yaml.load", "yaml.load_all")
            and not {_name(a) for a in (*node.args[1:], *keywords.values())} & safe
        ):
            yield name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_that_is_read_is_run(path: Path) -> None:
    module = path.relative_to(ROOT).as_posix()
    assert {(module, name) for name in suspects(path.read_text())} <= ALLOWED


def test_what_is_allowed_is_there() -> None:
    assert {
        (module, name) for module, _ in ALLOWED for name in suspects((ROOT / module).read_text())
    } >= ALLOWED


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)", "exec(text)", "import pickle\npickle.loads(data)", "from pickle import loads", "cloudpickle.load(file)", "shelve.open(name)",
        "np.load(file, allow_pickle=True)", "yaml.load(text, yaml.Loader)", "yaml.load(text)", "yaml.unsafe_load(text)", "marshal.loads(data)",
        "class L(yaml.Loader): ...\nyaml.load(text, L)", "pickle.Unpickler(file).load()", "pd.read_pickle(name)",
    ],
)  # fmt: skip
def test_suspects_are_seen(code: str) -> None:
    assert list(suspects(code))


@pytest.mark.parametrize(
    "code",
    [
        "re.compile(text)",
        "yaml.safe_load(text)",
        "class L(yaml.CSafeLoader): ...\nyaml.load(text, L)",
        "json.loads(text)",
    ],
)
def test_others_are_not_suspected(code: str) -> None:
    assert not list(suspects(code))
