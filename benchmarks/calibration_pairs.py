"""Tag-and-probe pairs of a toy with a known response, straight to a RESULT: what `calibrate` is timed on.

No events are simulated: two jets that balance, drawn and measured in whole arrays.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import ArrayLike, NDArray

from trila import __version__
from trila.analysis import results
from trila.analysis.config import RunConfig
from trila.processors.recipes import file_digest

__all__ = ["make", "response", "sample"]

Array = NDArray[np.float64]

TRIGGER, THRESHOLD = "HLT_PFJet40", 40.0
RHO, OFFSET = 35.0, 0.05
_EVENTS = 250_000  # of a table, as a run writes one for each chunk


def response(pt: ArrayLike, eta: ArrayLike) -> Array:
    """Median of HLT over offline pT at the mean pile-up, by offline pT (GeV) and η."""
    rises = 0.06 * np.exp(-np.asarray(pt, dtype=np.float64) / 120.0)
    return 0.99 - rises - 0.01 * np.abs(np.asarray(eta, dtype=np.float64))


def _table(seed: int, part: int) -> pa.Table:
    """Pairs of `_EVENTS` events: one, or two where both jets are central."""
    generator = np.random.default_rng([seed, part])
    n = _EVENTS
    scale = 25.0 * (3500.0 / 25.0) ** generator.random(n)
    alpha = generator.exponential(0.1, n)
    balance = generator.normal(0.0, 0.05 + 0.4 * alpha, (2, n))
    particle = scale * np.exp(0.5 * np.stack([balance[0], -balance[1]]))
    reach = np.arccosh(np.maximum(6500.0 / scale, 1.05))  # where a jet of this pT has the energy of a proton
    eta = generator.uniform(-1.0, 1.0, (2, n)) * np.minimum(np.array([[1.3], [3.0]]), reach)
    rho = generator.normal(RHO, 8.0, n).clip(1.0)
    area = generator.normal(0.5, 0.02, (2, n))
    # what jets fluctuate by is seen by both reconstructions, and each adds its own
    shared, *own = generator.normal(size=(3, 2, n)) * (0.8 / np.sqrt(particle))
    offline = particle * (1.0 + 0.8 * shared + 0.6 * own[0]).clip(0.1)
    tail = np.where(generator.random((2, n)) < 0.02, generator.uniform(0.5, 1.0, (2, n)), 1.0)
    hlt = offline * response(offline, eta) * tail * (1.0 + 0.5 * own[1]).clip(0.1)
    hlt += OFFSET * area * (rho - RHO)
    tables = []
    for tag, probe in ((0, 1), (1, 0)):
        used = np.flatnonzero((np.abs(eta[tag]) < 1.3) & (hlt[tag] > THRESHOLD) & (hlt[probe] > 20.0))
        measured: dict[str, Array] = {
            "pt_hlt": hlt[probe], "pt_hlt_raw": hlt[probe], "pt_offline": offline[probe],
            "pt_offline_raw": 0.95 * offline[probe], "pt_gen": particle[probe], "pt_tag": offline[tag],
            "pt_hlt_tag": hlt[tag], "eta": eta[probe], "phi": generator.uniform(-np.pi, np.pi, n),
            "eta_tag": eta[tag], "eta_hlt": eta[probe], "rho": rho, "mu": rho * 1.3, "area": area[probe],
            "alpha": alpha,
        }  # fmt: skip
        number = part * n + np.arange(n)
        exact: dict[str, NDArray[Any]] = {
            "run": (380_000 + part // 4) * np.ones(n, np.uint32), "luminosity_block": number // 1000 % 2000,
            "event": number.astype(np.uint64), "weight": (scale / 100.0) ** -4.0,
        }  # fmt: skip
        exact["luminosity_block"] = exact["luminosity_block"].astype(np.uint32)
        rounded = {name: values.astype(np.float32) for name, values in measured.items()}
        tables.append(pa.table({name: values[used] for name, values in (exact | rounded).items()}))
    return pa.concat_tables(tables)


def make(path: Path, pairs: int, seed: int) -> None:
    """Write a RESULT with so many pairs."""
    settings = {"response": {"tag_trigger": TRIGGER}}
    manifest = {
        "format_version": results.FORMAT_VERSION,
        "trila": __version__,
        "configuration": json.loads(RunConfig.model_validate(settings).model_dump_json()),
        "reference": "offline",
        "datasets": {"toy": {"is_data": False, "cross_section": None, "scale": 1.0, "fraction": 1.0}},
        "inputs": [{"dataset": "toy", "era": "toy"}],
    }
    with results.working(path) as folder:
        parts: dict[str, str] = {}
        (path / "pairs" / "toy").mkdir(parents=True)
        while pairs > 0:
            table = _table(seed, len(parts))[:pairs]
            name = f"toy/{len(parts):03d}.parquet"
            pyarrow.parquet.write_table(table, path / "pairs" / name, compression="lz4")
            parts[name] = file_digest(path / "pairs" / name)
            pairs -= table.num_rows
        results.write(results.Result(path, {}, {}, manifest), folder, blocks=None, parts=parts)


def sample(folder: Path, *, pairs: int, seed: int) -> tuple[Path, float | None]:
    """A RESULT that is made if it is not there; a changed toy makes another one.

    Returns:
        Its folder, and how long it took to make it, None if it was there.
    """
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    path = folder / f"pairs-{pairs}-{seed}-{version}"
    if (path / "histograms.zip").exists():
        return path, None
    begin = time.perf_counter()
    shutil.rmtree(path, ignore_errors=True)
    make(path, pairs, seed)
    return path, time.perf_counter() - begin
