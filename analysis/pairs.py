"""Reads the tag-and-probe pairs of a RESULT, at the levels that a calibration shall connect.

| level | HLT | offline |
| --- | --- | --- |
| `raw` | stored correction undone (the same where none was stored) | `rawFactor` undone |
| `stored` | as stored | as stored |
| `corrected` | raw, then corrected with a correctionlib file | the same |
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from trila.analysis import results
from trila.corrections import jets
from trila.corrections.pairs import Pairs
from trila.corrections.resampling import second_half
from trila.processors.errors import InputError

__all__ = ["Level", "Read", "pileup_variable", "read_pairs", "run_range", "storage_threshold"]

Half = Literal["first", "second", "both"]
_IDENTITY = ("run", "luminosity_block", "event")


class Level(BaseModel):
    """The level of a jet energy.

    Attributes:
        level: "raw", "stored" or "corrected".
        file: correctionlib file, for "corrected".
        correction: its name in the file; the only one, if not given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["raw", "stored", "corrected"]
    file: str | None = None
    correction: str | None = None

    def model_post_init(self, _context: Any) -> None:
        if (self.level == "corrected") != (self.file is not None):
            raise ValueError("level 'corrected' needs a file, and only that level takes one")


class Read(NamedTuple):
    """Pairs that can be used.

    Attributes:
        pairs: with pT above zero, and a pile-up and an area that are numbers.
        left_out: how many others there are.
    """

    pairs: Pairs
    left_out: int


def read_pairs(result: results.Result, hlt: Level, offline: Level, *, half: Half = "both") -> Read:
    """The pairs of a RESULT.

    Args:
        result: of `trila run response`.
        hlt, offline: which energies.
        half: of the events, by a hash: a calibration is derived from the first, and closed with the second.

    Raises:
        InputError: it has no pairs, or they lack what the levels or the resampling need.
    """
    folder = result.path / "pairs"
    if not folder.is_dir():
        raise InputError(
            f"{result.path} has no pairs: `trila run response FILES... -o {result.path}` makes them (without --no-pairs)"
        )
    scales = {name: dataset["scale"] for name, dataset in result.manifest["datasets"].items()}
    columns = _columns(folder, scales, half)
    if not columns:
        raise InputError(f"the table of pairs of {result.path} is empty: no event had a tag and a probe")
    reference = "pt_offline" if "pt_offline" in columns else "pt_gen"
    pairs = Pairs(
        hlt=_at(columns, hlt, "pt_hlt", result.path),
        offline=_at(columns, offline, reference, result.path),
        tag=columns["pt_tag"],
        eta=columns["eta_hlt"],
        phi=columns["phi"],
        weight=columns["weight"],
        run=columns["run"],
        luminosity_block=columns["luminosity_block"],
        event=columns["event"],
        pileup=columns.get("rho", columns.get("mu")),
        area=columns.get("area"),
        particle=columns.get("pt_gen"),
        # stored without its correction: of use where the probe is at that level too
        tag_hlt=columns.get("pt_hlt_tag") if hlt.level == "raw" else None,
        tag_eta=columns["eta_tag"],
        alpha=columns.get("alpha"),
    )
    good = (pairs.hlt > 0) & (pairs.offline > 0) & np.isfinite(pairs.hlt) & np.isfinite(pairs.offline)
    for column in (pairs.pileup, pairs.area):
        good &= True if column is None else np.isfinite(column)
    return Read(pairs if good.all() else pairs.take(good), int(np.sum(~good)))


def pileup_variable(result: results.Result) -> Literal["rho", "mu"] | None:
    """Which measure of pile-up all pairs of a RESULT have; ρ, where they have both."""
    schemas = [pq.read_schema(file).names for file in _files(result)]
    names = set.intersection(*map(set, schemas)) if schemas else set()
    return "rho" if "rho" in names else "mu" if "mu" in names else None


def run_range(result: results.Result) -> tuple[int, int]:
    """First and last run of all pairs, of both halves; 0 and 0 without pairs."""
    runs = _column(result, "run")
    return (int(runs.min()), int(runs.max())) if runs.size else (0, 0)


def storage_threshold(result: results.Result) -> float:
    """pT above which HLT jets are stored, as the pairs show it: what all but 0.01% of the probes exceed, in whole GeV."""
    pt = _column(result, "pt_hlt")
    stored = pt[pt > 0]
    return float(np.floor(np.quantile(stored, 1e-4))) if stored.size else 0.0


def _files(result: results.Result) -> list[Path]:
    return sorted((result.path / "pairs").rglob("*.parquet"))


def _read_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(file, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"pairs {file} are damaged: {str(error)[:200]}; run `trila run response` again"
        ) from error


def _column(result: results.Result, name: str) -> NDArray[Any]:
    """One column of all pairs."""
    parts = [_read_table(file, [name])[name].to_numpy() for file in _files(result)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _columns(folder: Path, scales: dict[str, float], half: Half) -> dict[str, NDArray[Any]]:
    """Columns that all datasets have; weights of simulated ones in pb, as in the histograms.

    File by file, as the other half of the pairs need not be kept.
    """
    parts: list[dict[str, NDArray[Any]]] = []
    for name, scale in scales.items():
        for file in sorted((folder / name).glob("*.parquet")):
            table = _read_table(file)
            missing = [column for column in _IDENTITY if column not in table.column_names]
            if missing:
                raise InputError(
                    f"the pairs of {folder.parent} have no {', '.join(missing)}: errors and the two halves of the data go "
                    "by the identity of the event; run on input that has it"
                )
            columns = {column: table[column].to_numpy() for column in table.column_names}
            if half != "both":
                second = second_half(*(columns[column] for column in _IDENTITY))
                keep = second if half == "second" else ~second
                columns = {column: values[keep] for column, values in columns.items()}
            parts.append({**columns, "weight": columns["weight"] * scale})
    common = [c for c in parts[0] if all(c in part for part in parts)] if parts else []
    return {column: np.concatenate([part.pop(column) for part in parts]) for column in common}


def _at(columns: dict[str, NDArray[Any]], level: Level, name: str, path: Path) -> NDArray[Any]:
    """pT at a level."""
    if level.level == "stored" or (name == "pt_gen" and level.level == "raw"):
        return columns[name]
    if f"{name}_raw" not in columns:
        raise InputError(
            f"the pairs of {path} do not say what {name} is before its correction; use level: stored, or input "
            "with rawFactor"
        )
    raw = columns[f"{name}_raw"]
    if level.file is None:
        return raw
    # The area is that of the HLT jet: a correction of offline jets that asks for it is refused.
    ours = {"JetEta": "eta_hlt", "JetA": "area"} if name == "pt_hlt" else {"JetEta": "eta"}
    names = {"JetPhi": "phi", "Rho": "rho", "run": "run"} | ours
    inputs = {"JetPt": raw} | {wanted: columns[c] for wanted, c in names.items() if c in columns}
    return raw * jets.evaluate(level.file, level.correction, inputs)
