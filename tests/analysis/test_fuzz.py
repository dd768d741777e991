"""Files of others are data: whatever is in them, a reader returns something sound, or one message; soon, and in little memory.

Each kind of file that a command reads starts from a valid small one, of which bytes, or the values and keys of its document, are
replaced, taken out, repeated or put in. Files that were made to do harm (bombs) are there by name.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re
import resource
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import hist
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uhi.io.json
import uhi.io.zip
import uproot
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trila.analysis import results, spectra, workspaces
from trila.analysis.calibration_config import load_calibration_config
from trila.analysis.cli_common import escaped
from trila.analysis.config import load_config
from trila.analysis.curves import read_curve
from trila.analysis.filesets import datasets
from trila.analysis.interpretations import read_tables
from trila.analysis.pairs import Level, pileup_variable, read_pairs, run_range, storage_threshold
from trila.analysis.product_files import read_product
from trila.analysis.simulation import simulate
from trila.corrections import cms_convert, correction_set, jets
from trila.corrections.calibration_set import FORMAT, metadata
from trila.corrections.check import check
from trila.corrections.contents import entries
from trila.corrections.jets import CorrectionError
from trila.corrections.lumi import LumiMaskError, certified, load_mask
from trila.fits.couplings import read_scaling
from trila.fits.errors import FitError
from trila.fits.expressions import expression
from trila.fits.signals import signal as signal_shape
from trila.fits.spectrum import checked
from trila.processors import formats
from trila.processors.columns import jagged, scalar
from trila.processors.errors import BadFile, InputError
from trila.processors.readers import inspect, read, readable

#: pyhf's schema validation, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")

#: What a user gets as a message.
REFUSED = (InputError, CorrectionError, FitError, LumiMaskError)
SECONDS = 20.0
#: Bytes beyond those that the process has.
MEMORY = 1_500_000_000


class Hang(BaseException):
    """A reader took too long; no reader may catch this."""


@contextmanager
def limited() -> Iterator[None]:
    """A time and a memory for what is done inside."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Hang(f"more than {SECONDS} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)


def refused_or_sound(reader: Callable[[Path], None], path: Path) -> str:
    """The message, or nothing if the reader took the file."""
    try:
        with limited():
            reader(path)
    except REFUSED as error:
        said, cause = str(error), error.__cause__
        assert "\n" not in said
        assert 10 < len(said) < 1500, said
        assert not isinstance(cause, MemoryError), "the memory was asked for"
        return said
    return ""


# ---- readers: what each does with a file, and what must hold of what it gives


def ascending(values: Any) -> None:
    array = np.asarray(values, dtype=np.float64)
    assert np.isfinite(array).all()
    assert (np.diff(array) > 0).all()


def configuration(path: Path) -> None:
    found = load_config(path)
    for edges in (found.response.eta_edges, found.response.pt_edges):
        ascending(edges)
    assert found.efficiency.pt_bins * found.efficiency.mass_bins > 0


def calibration_configuration(path: Path) -> None:
    found = load_calibration_config(path)
    ascending(found.scale.eta_edges)


def fileset(path: Path) -> None:
    for name, dataset in datasets([str(path)]).items():
        assert name.isprintable()
        assert all(isinstance(file, str) for file in dataset.files)
        assert dataset.cross_section is None or 0 < dataset.cross_section < np.inf


def format_table(path: Path) -> None:
    table = formats.load(str(path))
    branches = ["nMyJet", "MyJet_pt", "run"]
    assert isinstance(table.recognises(branches), bool)
    assert table.mentioned(branches) <= set(branches)
    assert isinstance(table.era(branches), str)


def mask(path: Path) -> None:
    found = load_mask(path)
    assert all(0 <= first <= last < 2**32 for ranges in found.values() for first, last in ranges)
    certified(found, [5, 6], [1, 2])


def correction(path: Path) -> None:
    applied(path, "c")
    metadata(str(path))


def applied(path: Path, name: str) -> None:
    where = str(path)
    refused = 0
    pt = np.array([50.0, 100.0])
    for use in (
        lambda: entries(correction_set.read(where)),
        lambda: check(where),
        lambda: jets.systematics(where, name),
        lambda: jets.evaluate(where, name, {"JetPt": pt, "JetEta": 0 * pt}),
        lambda: jets.inside_range(where, pt, 0 * pt),
        lambda: (jets.starts_from_raw(where), jets.pileup_variable(where)),
    ):
        try:
            use()
        except CorrectionError as error:  # each of them has to, by itself
            refused, last = refused + 1, error
    if refused:
        raise last


def cms_tables(path: Path) -> None:
    correction_set.write(cms_convert.convert([path], "V1"), path.with_name("converted.json"))
    applied(path.with_name("converted.json"), "V1_MC_L2Relative_AK4")


def a_spectrum(path: Path) -> None:
    found = spectra.read(f"{path}:h" if path.suffix in (".zip", ".root") else str(path))
    ascending(found.edges)
    assert np.isfinite(found.counts).all()
    assert found.counts.shape == (found.edges.size - 1,)
    spectra.variations(f"{path}:h" if path.suffix in (".zip", ".root") else str(path))


def edges_file(path: Path) -> None:
    ascending(spectra.rebinned(checked([1.0, 2.0, 3.0, 4.0], [1, 2, 3], None, name="s"), str(path)).edges)


def crystal_ball(path: Path) -> None:
    _shape(f"dcb:{path}")


def template(path: Path) -> None:
    _shape(str(path))


def _shape(text: str) -> None:
    contents = signal_shape(text).fractions([700.0], np.linspace(500, 1000, 11))
    assert np.isfinite(contents).all()


def workspace(path: Path) -> None:
    for given_model in workspaces.models(path):
        model = given_model.model
        assert np.isfinite(model.observation.counts).all()
        assert all(
            np.isfinite(part).all()
            for part in (model.tensors.nominal, model.start, model.observation.auxiliary)
        )


def patches(path: Path) -> None:
    workspaces.models(path.with_name("workspace.json"), patch=str(path))


def product(path: Path) -> None:
    read_product(path)


def curve(path: Path) -> None:
    found = read_curve(str(path))
    assert np.isfinite(found.mass + found.value).all()


def predictions(path: Path) -> None:
    ascending(read_scaling(path).mass)


def fractions(path: Path) -> None:
    others = read_tables(None, path, eps2=True).others
    assert others is not None
    assert np.isfinite(others.fraction).all()


def pairs(path: Path) -> None:
    folder = path.parent / f"of_{path.stem}"
    (folder / "pairs" / "a").mkdir(parents=True)
    (folder / "pairs" / "a" / "part.parquet").symlink_to(path)
    manifest = {"datasets": {"a": {"scale": 1.0}}, "pairs": {"a/part.parquet": "digest"}}
    result = results.Result(folder, {}, {}, manifest)
    found = read_pairs(result, Level(level="raw"), Level(level="stored"), half="first").pairs
    assert np.isfinite(found.hlt).all()
    assert (found.offline > 0).all()
    pileup_variable(result), run_range(result), storage_threshold(result)


def events(path: Path) -> None:
    info = inspect(str(path))
    assert info.entries >= 0
    layout = info.layout.restricted(info.layout.columns)
    stop = min(info.entries, 1000)
    try:
        found = read(info.file, info.tree, info.uuid, layout, 0, stop, {}, [])
        if "run" in layout.columns:
            scalar(found, "run")
        for name in ("hlt_jets", "hlt_muons"):
            if f"{name}.pt" in layout.columns:
                offsets = jagged(found, name).offsets
                assert (np.diff(offsets) >= 0).all()
    except BadFile:
        raise
    except Exception:  # as a run does: the file is read once more, plainly
        readable(info.file, info.tree, layout, 0, stop)
        raise


READERS: dict[str, Callable[[Path], None]] = {
    "config.yaml": configuration, "calibrate.yaml": calibration_configuration, "set.yaml": fileset, "list.txt": fileset,
    "format.yaml": format_table, "mask.json": mask, "correction.json": correction, "correction.json.gz": correction,
    "V1_MC_L2Relative_AK4.txt": cms_tables, "spectrum.csv": a_spectrum, "table.yaml": a_spectrum, "table.json": a_spectrum,
    "h.json": a_spectrum, "h.zip": a_spectrum, "h.root": a_spectrum, "edges.txt": edges_file, "dcb.yaml": crystal_ball,
    "template.json": template, "workspace.json": workspace, "patch.json": patches, "patches.json": patches,
    "limits.json": product, "fit.json": product, "significance.json": product, "curve.json": curve,
    "predictions.csv": predictions, "fractions.csv": fractions, "pairs.parquet": pairs, "events.root": events,
}  # fmt: skip


# ---- a small valid file of each kind

_NODE = {
    "nodetype": "binning", "input": "JetEta", "edges": [-5.0, 0.0, 5.0], "flow": "clamp",
    "content": [
        1.1,
        {"nodetype": "formula", "parser": "TFormula", "variables": ["JetPt"], "expression": "[0]+log10(x)", "parameters": [1.0]},
    ],
}  # fmt: skip
_DERIVED = {
    "format": FORMAT, "sources": ["statistics"], "valid": {"regions": [{"JetEta": [-5, 5], "JetPt": [20, 1000]}]},
    "levels": {"hlt": {"level": "raw"}, "offline": {"level": "stored"}}, "estimator": "median", "storage_threshold": 20.0,
    "manifest_digest": "0", "pileup_variable": None,
}  # fmt: skip
_CORRECTION = {
    "schema_version": 2, "description": json.dumps(_DERIVED),
    "corrections": [
        {
            "name": "c", "version": 1, "output": {"name": "factor", "type": "real"}, "data": _NODE,
            "inputs": [{"name": "JetPt", "type": "real"}, {"name": "JetEta", "type": "real"}],
        }
    ],
}  # fmt: skip
_TABLE = {
    "independent_variables": [{"header": {"name": "m", "units": "GeV"}, "values": [{"low": 1, "high": 2}, {"low": 2, "high": 3}]}],
    "dependent_variables": [
        {"header": {"name": "N"}, "values": [{"value": 3, "errors": [{"symerror": 1.7, "label": "stat"}]}, {"value": 4}]}
    ],
}  # fmt: skip
_RETURNED = {
    "headers": [{"name": "m [GeV]", "colspan": 1}, {"name": "N", "colspan": 1}],
    "values": [
        {"x": [{"low": str(a), "high": str(a + 1)}], "y": [{"value": "3", "errors": [{"symerror": 2}]}]} for a in (1, 2)
    ],
}  # fmt: skip
_WORKSPACE = {
    "channels": [
        {
            "name": "channel",
            "samples": [
                {"name": "s", "data": [5.0, 8.0], "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]},
                {
                    "name": "b", "data": [50.0, 50.0],
                    "modifiers": [
                        {"name": "n", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
                        {"name": "h", "type": "histosys", "data": {"hi_data": [52.0, 48.0], "lo_data": [48.0, 52.0]}},
                        {"name": "u", "type": "shapesys", "data": [1.0, 2.0]},
                    ],
                },
            ],
        }
    ],
    "observations": [{"name": "channel", "data": [52.0, 49.0]}],
    "measurements": [{"name": "search", "config": {"poi": "mu", "parameters": []}}],
    "version": "1.0.0",
}  # fmt: skip
_PATCH = [
    {"op": "replace", "path": "/channels/0/samples/0/data", "value": [4.0, 8.0]},
    {"op": "copy", "from": "/observations/0/data", "path": "/channels/0/samples/1/data"},
]
_LIMIT = {
    "mass": 600.0, "observed": 1.1, "expected": [0.5, 0.7, 1.0, 1.4, 1.9], "best_fit": 0.1, "sigma": 0.5, "unit": "pb",
    "level": 0.95, "certificate": {"passed": True, "reasons": []},
}  # fmt: skip
_FIT = {
    "function": "dijet2", "parameters": ["p0", "p1"], "values": [1.0, 2.0], "covariance": [[1.0, 0.1], [0.1, 1.0]],
    "chi2": {"deviance": 1.2, "pearson": 1.0}, "ndof": 1, "p_value": 0.4, "edges": [1.0, 2.0, 3.0], "data": [3, 4],
    "prediction": [3.1, 3.9], "sqrt_s": 13000.0, "spectrum": "s",
}  # fmt: skip
DOCUMENTS: dict[str, Any] = {
    "config.yaml": {
        "events": {"triggers": ["a"], "lumi_mask": {"5": [[1, 2]]}}, "reader": {"collections": {"hlt_jets": "J"}},
        "response": {"tag_trigger": "T", "alpha_max": 0.3, "eta_edges": [-1, 0, 1], "thinning": {"pt": [10], "keep": [0.5]}},
        "efficiency": {"pt_max": 500.0, "pt_bins": 10}, "dijet": {"pt_min": 30.0}, "dimuon": {"mass_range": [1, 2]},
        "processors": {"m:C": {"k": 1}},
    },
    "calibrate.yaml": {"hlt": {"level": "raw"}, "scale": {"estimator": "median", "knots": 6}, "runs": [1, 2], "names": {"tag": "V1"}},
    "set.yaml": {"qcd": {"files": ["a.root", "root://b//c.root"], "is_data": False, "cross_section": 2.0, "era": "x"}, "d": ["e.root"]},
    "format.yaml": {
        "name": "mine", "tree": "T", "energy_unit": "MeV", "detect": ["My*"], "eras": [{"name": "e", "has": ["x"]}],
        "triggers": ["HLT_*"], "events": {"run": "run", "n_pv": {"count": "v"}},
        "collections": {"hlt_jets": {"source": ["MyJet"], "fields": {"pt": "pt", "mass": {"constant": 0.0}}, "where": {"branch": "b", "equals": 1}}},
    },
    "mask.json": {"297050": [[12, 137], [193, 776]], "5": [[1, 1]]},
    "correction.json": _CORRECTION, "table.yaml": _TABLE, "table.json": _RETURNED, "curve.json": _RETURNED,
    "dcb.yaml": {
        "mean": -4e-3, "sigma": {"polynomial": [0.075, -1.5e-5]}, "alpha_low": {"masses": [500, 900], "values": [1, 2]},
        "n_low": 4, "alpha_high": 2, "n_high": 8,
    },
    "template.json": {
        "masses": [600.0, 800.0],
        "templates": [
            {"edges": [500.0, 540.0, 580.0, 620.0, 660.0, 700.0], "counts": [1.0, 2.0, 5.0, 2.0, 1.0]},
            {"edges": [700.0, 740.0, 780.0, 820.0, 860.0, 900.0], "counts": [1.0, 2.0, 4.0, 2.0, 1.0]},
        ],
    },
    "workspace.json": _WORKSPACE, "patch.json": _PATCH,
    "patches.json": {
        "metadata": {"references": {"hepdata": "ins1"}, "description": "", "digests": {}, "labels": ["mass"]},
        "patches": [{"metadata": {"name": "one", "values": [100.0]}, "patch": _PATCH}], "version": "1.0.0",
    },
    "limits.json": [_LIMIT, {**_LIMIT, "mass": 700.0}], "fit.json": _FIT,
    "significance.json": {
        "local": [{"mass": 600.0, "p_local": 0.5, "z_local": 0.0}], "global": [{"p_global": 0.02, "method": "toys"}]
    },
}  # fmt: skip
TEXTS = {
    "list.txt": "# two\na.root\nroot://b//c.root\n", "spectrum.csv": "low,high,count,variance\n1,2,3,3\n2,3,4,4\n",
    "V1_MC_L2Relative_AK4.txt": "{1 JetEta 1 JetPt [0]+[1]*log10(x) Correction L2Relative}\n-5 0 4 8 4000 1.1 0.01\n0 5 4 8 4000 1.2 0.02\n",
    "edges.txt": "# GeV\n1, 2\n4\n", "predictions.csv": "mass,g,sigma\n500,0.25,16\n1000,0.25,1\n", "fractions.csv": "mass,fraction\n10,0.1\n20,0.2\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one valid file of each kind."""
    folder = tmp_path_factory.mktemp("seeds")
    for name, content in DOCUMENTS.items():
        (folder / name).write_text(
            json.dumps(content) if name.endswith("json") else yaml.dump(content, Dumper=yaml.CSafeDumper)
        )
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    (folder / "correction.json.gz").write_bytes(gzip.compress(json.dumps(_CORRECTION).encode(), mtime=0))
    histogram = hist.Hist.new.Reg(4, 1, 5, name="mass").StrCat(["a", "b"], name="kind").Weight()
    histogram.fill(mass=[1.5, 2.5, 2.6], kind=["a", "b", "a"])
    histogram = histogram[:, sum]
    DOCUMENTS["h.json"] = json.loads(json.dumps(histogram, default=uhi.io.json.default))
    (folder / "h.json").write_text(json.dumps(DOCUMENTS["h.json"]))
    with zipfile.ZipFile(folder / "h.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        uhi.io.zip.write(archive, "h", histogram)
    with uproot.recreate(folder / "h.root", compression=None) as file:
        file["h"] = np.histogram([1.5, 2.5, 2.6], bins=[1.0, 2.0, 3.0])
    n = 20
    numbers = {
        name: np.linspace(30, 300, n)
        for name in ("pt_hlt", "pt_hlt_raw", "pt_offline", "pt_tag", "phi", "eta", "eta_hlt", "eta_tag")
    }
    identity = {name: np.arange(n) for name in ("run", "luminosity_block", "event")}
    pq.write_table(
        pa.table({**identity, **numbers, "weight": np.ones(n)}), folder / "pairs.parquet", compression="none"
    )
    counts = np.full(n, 2)
    with uproot.recreate(folder / "events.root", compression=uproot.ZLIB(1)) as file:
        import awkward as ak

        jets_of = ak.zip(
            {
                k: ak.unflatten(np.linspace(1, 50, 2 * n).astype(np.float32), counts)
                for k in ("pt", "eta", "phi", "m")
            }
        )
        made = file.mktree(
            "Events", {"run": np.dtype("u4"), "ScoutingPFJet": jets_of.type.content},
            counter_name=lambda c: f"n{c}", field_name=lambda o, i: f"{o}_{i}" if o else i,
        )  # fmt: skip
        made.extend({"run": np.full(n, 5, np.uint32), "ScoutingPFJet": jets_of})
    return folder


@pytest.fixture
def numbered(tmp_path: Path) -> Callable[[str], Path]:
    """Names of files that were not there before: some readers keep what they have read by its name."""
    count = itertools.count()

    def name(suffix: str) -> Path:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        if not suffix.startswith("workspace"):
            (folder / "workspace.json").write_text(json.dumps(_WORKSPACE))
        return folder / suffix

    return name


# ---- what is done to them

PIECES = (
    b"", b"-", b"nan", b"1e999", b'"', b"\xff", b"\0", b"[", b"}", b"&a ", b"*a", b"9" * 400, b"0x" + b"f" * 900, b"!!int ", b"\r", b":",
    b",", b"(", b"\xe2\x80\xa8", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xc2\xb2",
)  # fmt: skip
NESTED: Any = [1]
for _ in range(60):
    NESTED = [NESTED]
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1e308, -1e308, 1e-320, 10**15, 10**400, float("nan"), float("inf"), "", "x", "nan", "\0", "²", "x" * 100_000,
    [], {}, [[]], [1] * 5, [1] * 2000, {"a": 1}, [None], NESTED, "../../x", "(" * 3000, "a\nb",
)  # fmt: skip


def mutated(seed: bytes, choices: random.Random) -> bytes:
    """Some bytes replaced, taken out, repeated or put in."""
    data = bytearray(seed)
    for _ in range(choices.randint(1, 3)):
        at, length = choices.randrange(len(data) or 1), choices.randint(0, 12)
        flipped = bytes(b ^ (1 << choices.randrange(8)) for b in data[at : at + 1])
        how = choices.randrange(4)
        if how == 0:
            data[at : at + 1] = flipped
        elif how == 1:
            data[at : at + length] = bytes(data[at : at + length]) * 2
        elif how == 2 and choices.random() < 0.3:
            del data[at:]
        else:
            data[at : at + length] = choices.choice(PIECES)
    return bytes(data)


def replaced(node: Any, choices: random.Random) -> Any:
    """A document with one of its nodes replaced by something else, taken out, repeated, or under another key."""
    if not isinstance(node, (dict, list)) or not node or choices.random() < 0.1:
        return choices.choice(VALUES)
    copied = node.copy()
    key = choices.choice(list(node)) if isinstance(node, dict) else choices.randrange(len(node))
    how = choices.random()
    if how < 0.08:
        del copied[key]
    elif how < 0.16 and isinstance(copied, dict):
        copied[choices.choice(["", "x", f"{key} ", "²", "..", "a/b", "k" * 300])] = copied.pop(key)
    elif how < 0.16:
        copied.insert(key, node[key])
    else:
        copied[key] = replaced(node[key], choices)
    return copied


def fuzzed(spoil: Callable[[random.Random], None], examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def spoiled(choices: random.Random) -> None:
        spoil(choices)

    spoiled()


def spoil_bytes(name: str, seeds: Path, numbered: Callable[[str], Path], examples: int) -> None:
    original = (seeds / name).read_bytes()

    def spoil(choices: random.Random) -> None:
        path = numbered(name)
        path.write_bytes(mutated(original, choices))
        refused_or_sound(READERS[name], path)

    fuzzed(spoil, examples)


def spoil_document(name: str, numbered: Callable[[str], Path], examples: int) -> None:
    def spoil(choices: random.Random) -> None:
        path = numbered(name)
        content = replaced(DOCUMENTS[name], choices)
        path.write_text(
            json.dumps(content) if name.endswith("json") else yaml.dump(content, Dumper=yaml.CSafeDumper)
        )
        refused_or_sound(READERS[name], path)

    fuzzed(spoil, examples)


@pytest.mark.parametrize("name", READERS)
def test_the_valid_files_are_read(name: str, seeds: Path, numbered: Callable[[str], Path]) -> None:
    path = numbered(name)
    path.write_bytes((seeds / name).read_bytes())
    assert refused_or_sound(READERS[name], path) == ""


@pytest.mark.parametrize("name", READERS)
def test_spoiled_bytes(name: str, seeds: Path, numbered: Callable[[str], Path]) -> None:
    spoil_bytes(name, seeds, numbered, 6)


@pytest.mark.parametrize("name", [*DOCUMENTS, "h.json"])
def test_spoiled_documents(name: str, seeds: Path, numbered: Callable[[str], Path]) -> None:
    spoil_document(name, numbered, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_spoiled_bytes(name: str, seeds: Path, numbered: Callable[[str], Path]) -> None:
    spoil_bytes(name, seeds, numbered, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DOCUMENTS, "h.json"])
def test_many_spoiled_documents(name: str, seeds: Path, numbered: Callable[[str], Path]) -> None:
    spoil_document(name, numbered, 60)


# ---- made to do harm


def _bomb(levels: int) -> str:
    """YAML of some 100 bytes a level that stands for nine times as much with each."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


def _merged(levels: int) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, levels)]
    return "\n".join(lines)


def _formula(expression: str) -> str:
    node = {**_NODE["content"][1], "expression": expression}
    return json.dumps({**_CORRECTION, "corrections": [{**_CORRECTION["corrections"][0], "data": node}]})


BOMBS: dict[str, tuple[str, str | bytes, str]] = {
    "aliases": ("config.yaml", _bomb(12), "is larger than 10 MB with its aliases written out; take some out"),
    "merged": ("set.yaml", _merged(12), "is larger than 10 MB with its aliases written out; take some out"),
    "itself": ("format.yaml", "a: &a [*a]", "has an alias 'a' within itself, or of nothing; write the value out"),
    "anchors of a signal": ("dcb.yaml", _bomb(12), "has the anchor or alias 'a0', which is not read"),
    "deep YAML": ("calibrate.yaml", "[" * 100_000, "nests more than 100 levels, expected fewer"),
    "deep signal": ("dcb.yaml", "[" * 100_000, "nests more than 20 levels"),
    "long number": ("config.yaml", "dijet: {pt_min: 1" + ":59" * 100_000 + "}", "has a number of 300001 characters"),
    "long number of a signal": ("dcb.yaml", "mean: 1" + ":59" * 100_000, "has a value of 300001 characters"),
    "many keys": ("set.yaml", "\n".join(f"{i}: [a]" for i in range(10_000)), "dataset name 0 cannot name a folder"),
    "many runs": ("mask.json", json.dumps({str(i): [[2, 1]] for i in range(10_000)}), r"run 0: \[2, 1\] is not \[first, last\]"),
    "deep mask": ("mask.json", "[" * 100_000, "is not JSON .*recursion"),
    "deep product": ("fit.json", '{"a":' * 100_000, "is no JSON .*recursion"),
    "deep correction": ("correction.json", "[" * 200_000, "nests 200000 levels, expected at most 200"),
    "deep brackets": ("correction.json", _formula("(" * 10_000 + "x" + ")" * 10_000), "formula of 20001 characters and 10000 levels"),
    "long formula": ("correction.json", _formula("+".join(["x"] * 50_000)), "formula of 99999 characters and 0 levels"),
    "formula given twice": (
        "correction.json", _formula("x").replace('"expression"', '"expression": "' + "(" * 10_000 + '", "expression"'),
        "10000 levels of brackets",
    ),
    "formula with escapes": ("correction.json", _formula("(" * 2000 + "x").replace("(", "\\u0028"), "2000 levels of brackets"),
    "long formula of CMS": (
        "V1_MC_L2Relative_AK4.txt", f"{{1 JetEta 1 JetPt {'+'.join(['x'] * 50_000)} Correction L2Relative}}\n-5 5 2 4 8000\n",
        "has a formula of",
    ),
    "bins of nothing": (
        "h.json", json.dumps({
            "uhi_schema": 1, "axes": [{"type": "regular", "bins": 10**9, "lower": 0, "upper": 1, "underflow": False, "overflow": False, "circular": False}],
            "storage": {"type": "double", "values": [1.0]},
        }), r"its axes have 1e\+09 bins, its storage 1 values",
    ),
    "copies of copies": (
        "patch.json", json.dumps([{"op": "copy", "from": "/channels", "path": "/channels/-"}] * 60),
        "the patch copies more than 200000 values",
    ),
    "endless counts": ("workspace.json", json.dumps(_WORKSPACE).replace("52.0, 49.0", "Infinity, 49.0"), "observations that are not finite"),
    "no counts": ("workspace.json", json.dumps({**_WORKSPACE, "observations": [{"name": "x", "data": [1, 2]}]}), "no observations of channel 'channel'"),
    "no rate": ("workspace.json", json.dumps(_WORKSPACE).replace('"lo": 0.9', '"lo": 0'), "is a factor 1.1 up and 0 down, expected both above 0"),
    "one long line": ("predictions.csv", "mass,g,sigma\n" + "1" * 200_000, r"field larger than field limit"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, numbered: Callable[[str], Path]) -> None:
    file, content, says = BOMBS[name]
    path = numbered(file)
    path.write_text(content)
    assert re.search(says, refused_or_sound(READERS[file], path))


def test_compressed_bombs(numbered: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trila.corrections.correction_text._LARGEST", 1_000_000)
    path = numbered("correction.json.gz")
    path.write_bytes(gzip.compress(b" " * 2_000_000))
    assert path.stat().st_size < 5000
    assert "has more than 1 MB of text, expected less" in refused_or_sound(correction, path)
    path.write_bytes(gzip.compress(b" " * 900_000) * 2)  # of two members
    assert "has more than 1 MB of text, expected less" in refused_or_sound(correction, path)


def test_tables_of_pairs_that_are_too_large(
    seeds: Path, numbered: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trila.analysis.pairs._MOST_VALUES", 100)
    path = numbered("pairs.parquet")
    path.write_bytes((seeds / "pairs.parquet").read_bytes())
    assert "20 rows of 12 columns are more than 100 numbers" in refused_or_sound(pairs, path)


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "list.txt", "mask.json", "spectrum.csv", "table.yaml", "fit.json", "predictions.csv"],
)
def test_devices_have_no_end(name: str, numbered: Callable[[str], Path]) -> None:
    path = numbered(name)
    path.symlink_to("/dev/zero")
    assert "has more than " in refused_or_sound(READERS[name], path)


def test_events_are_not_read_from_a_device(numbered: Callable[[str], Path]) -> None:
    path = numbered("events.root")
    path.symlink_to("/dev/zero")
    assert "is a device or a pipe; copy what comes out of it to a file" in refused_or_sound(events, path)


def test_a_sample_deletes_only_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / "truth.json").write_text(json.dumps({"files": ["mine.txt", "..", "a.root"]}))
    with pytest.raises(
        InputError,
        match=r"truth\.json does not list the files of a sample .*names of ROOT files are expected",
    ):
        simulate(tmp_path, kind="jets", events=1, seed=1)
    assert (tmp_path / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize(
    "name", ["a\0b.root", "x" * 5000 + "*", "x" * 300 + ".txt", "\0.yaml", "/dev/null/x.json"]
)
def test_names_that_no_file_can_have(name: str) -> None:
    for reader in (
        lambda: datasets([name]) and inspect(name),
        lambda: load_config(name),
        lambda: load_mask(name),
        lambda: jets.load(name),
    ):
        with limited(), pytest.raises(REFUSED):
            reader()


#: What expressions are made of, and what they must not be made of.
WORDS = ("p0", "p1", "x", "m", "t", "1", "1e9", "+", "-", "*", "**", "/", "(", ")", ",", "exp", "log(", "pow(", "min", "p9", "__import__", ".", "[", "lambda", "9" * 50, ";", "p0=1")  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25))
def test_expressions_are_functions_or_refused(words: list[str]) -> None:
    text = f"expr:{' '.join(words)}"

    def parsed(_: Path) -> None:
        assert all(name.startswith("p") for name in expression(text).parameters)

    refused_or_sound(parsed, Path())


def test_what_steers_a_terminal_is_not_printed() -> None:
    assert escaped("a\x1b[2Jb\x07\u202ec") == "a?[2Jb??c"
