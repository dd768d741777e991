"""Reads the tag-and-probe pairs of a RESULT, at the levels that a calibration shall connect.

| level | HLT | offline |
| --- | --- | --- |
| `raw` | stored correction undone (the same where none was stored) | `rawFactor` undone |
| `stored` | as stored | as stored |
| `corrected` | raw, then corrected with a correctionlib file | the same |
"""

from collections.abc import Iterable
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
#: Of one file, which may be small when they are all equal: 4 GB.
_MOST_VALUES = 500_000_000
_IDENTITY = ("run", "luminosity_block", "event")
_NEEDED = (*_IDENTITY, "pt_hlt", "pt_tag", "eta_hlt", "eta_tag", "phi", "weight")


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
    columns = _columns(result, _scales(result), half)
    if not columns:
        raise InputError(f"the table of pairs of {result.path} is empty: no event had a tag and a probe")
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise InputError(
            f"the pairs of {result.path} have no {', '.join(missing)}; run `trila run response` again"
        )
    reference = "pt_offline" if "pt_offline" in columns else "pt_gen"
    if reference not in columns:
        raise InputError(
            f"the pairs of {result.path} have no pt_offline and no pt_gen; run `trila run response` again"
        )
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
    schemas = [_stored_columns(file) for file in _files(result)]
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
    """Tables that belong to the result; a run that has not ended, or was stopped, has others beside them."""
    listed = result.manifest.get("pairs")
    if not isinstance(listed, dict) or any(Path(n).parts[:-1] != (Path(n).parent.name,) for n in listed):
        raise InputError(f"the manifest of {result.path} does not list its tables of pairs; run it again")
    return [result.path / "pairs" / name for name in sorted(listed)]


def _stored_columns(file: Path) -> list[str]:
    return list(_read_table(file, rows=False).column_names)


def _read_table(file: Path, columns: list[str] | None = None, *, rows: bool = True) -> pa.Table:
    """A table of numbers, or its names of columns alone."""
    try:
        with pq.ParquetFile(file) as stored:
            _check(file, stored, columns or ())
            table = stored.read(columns=columns) if rows else stored.schema_arrow.empty_table()
        if any(column.null_count for column in table.columns):
            raise pa.ArrowInvalid("numbers are missing in it")
        return table
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"pairs {file} are damaged: {' '.join(str(error).split())[:200]}; run `trila run response` again"
        ) from error


def _check(file: Path, stored: pq.ParquetFile, columns: Iterable[str]) -> None:
    """A damaged or foreign table may claim any number of rows, and columns of anything."""
    rows, schema = stored.metadata.num_rows, stored.schema_arrow
    wrong = [f"{name} is not there" for name in columns if name not in schema.names]
    wrong += [f"{field.name[:40]!r} is no number" for field in schema if not _is_number(field.type)]
    wrong += [
        f"{name} is no integer"
        for name in _IDENTITY
        if name in schema.names and not _is_integer(schema, name)
    ]
    if len(set(schema.names)) < len(schema.names):
        wrong.append("two columns have one name")
    if not 0 <= rows * len(schema) <= _MOST_VALUES:
        wrong.append(f"{rows} rows of {len(schema)} columns are more than {_MOST_VALUES} numbers")
    if wrong:
        raise InputError(
            f"pairs {file} are not as they were written: {wrong[0]}; run `trila run response` again"
        )


def _is_integer(schema: pa.Schema, name: str) -> bool:
    return bool(pa.types.is_integer(schema.field(name).type))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _column(result: results.Result, name: str) -> NDArray[Any]:
    """One column of all pairs."""
    parts = [_read_table(file, [name])[name].to_numpy() for file in _files(result)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _scales(result: results.Result) -> dict[str, float]:
    """By dataset, the factor that makes its weights those of the histograms."""
    try:
        scales = {name: float(dataset["scale"]) for name, dataset in result.manifest["datasets"].items()}
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(
            f"the manifest of {result.path} does not list its datasets with their scale; run it again"
        ) from error
    if not all(map(np.isfinite, scales.values())) or any(Path(name).name != name for name in scales):
        raise InputError(f"the manifest of {result.path} has a dataset that cannot be; run it again")
    return scales


def _columns(result: results.Result, scales: dict[str, float], half: Half) -> dict[str, NDArray[Any]]:
    """Columns that all datasets have; weights of simulated ones in pb, as in the histograms.

    File by file, as the other half of the pairs need not be kept.
    """
    parts: list[dict[str, NDArray[Any]]] = []
    for name, scale in scales.items():
        for file in [file for file in _files(result) if file.parent.name == name]:
            table = _read_table(file)
            missing = [column for column in _IDENTITY if column not in table.column_names]
            if missing:
                raise InputError(
                    f"the pairs of {result.path} have no {', '.join(missing)}: errors and the two halves of the data go "
                    "by the identity of the event; run on input that has it"
                )
            if "weight" not in table.column_names:
                raise InputError(f"pairs {file} have no weight; run `trila run response` again")
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
