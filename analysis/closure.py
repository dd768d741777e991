"""The step that tests a calibration file: does it close on the half of the pairs that it was not derived from?

The bins, the errors and the rules are those of `trila.corrections.closure` and `trila.corrections.closure_limits`.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from trila import __version__
from trila.analysis import results
from trila.analysis.pairs import Level, pileup_variable, read_pairs
from trila.analysis.provenance import Provenance, record
from trila.corrections import jets
from trila.corrections.calibration_set import metadata
from trila.corrections.closure import ClosureConfig, Row, closes, closure_table, untested, z_of
from trila.corrections.closure_limits import Limit, claimed_from
from trila.corrections.pairs import Pairs
from trila.processors.errors import InputError
from trila.processors.formats import validation_message
from trila.processors.recipes import digest

__all__ = ["FORMAT_VERSION", "Closure", "closure"]

FORMAT_VERSION = 1

Array = NDArray[np.float64]
_Progress = Callable[[str, int], Callable[[int], None]]


class Closure(NamedTuple):
    """What `closure` found.

    Attributes:
        rows: all bins.
        passed: whether at least one bin was tested, and none failed.
        z: number of errors beyond its limit at which a bin fails; nan if none was tested.
        summary: the same as content of `closure.json`, with digests of what it was made from.
        paths: files written.
    """

    rows: tuple[Row, ...]
    passed: bool
    z: float
    summary: dict[str, Any]
    paths: tuple[Path, ...]


def _silent(_stage: str, _total: int) -> Callable[[int], None]:
    return lambda _advance: None


def closure(
    result: str | Path,
    corrections: str | Path,
    outdir: str | Path | None = None,
    *,
    config: ClosureConfig | None = None,
    progress: _Progress = _silent,
    style: Mapping[str, Any] | None = None,
    min_fraction: float = 1.0,
) -> Closure:
    """Test a calibration on the second half of a result's pairs.

    Jets beyond the range of pT that the calibration holds in get the factor at its end. To leave them out would select
    pairs by one of the two pT that are compared, and shift the median of the bins at either end by some 0.1%.
    Their number is in the summary; so is that of the pairs at an η without a calibration, which are left out.

    Args:
        result: RESULT of `trila run response`.
        corrections: file that `trila calibrate` made.
        outdir: folder for `closure.json` and the plots; nothing is written without.
        config: bins and rules, if not the usual ones.
        progress: shows long work.
        style: of the plots: `style`, `label`, `com`, `lumi`.
        min_fraction: share of the planned events that RESULT must hold, see `results.read`.

    Raises:
        InputError: the result has no pairs to test with, or the folder cannot be written.
        CorrectionError: the file is no calibration, or needs what the pairs do not have.
    """
    settings = config or ClosureConfig()
    path = str(corrections)
    source, made = results.read(result, min_fraction=min_fraction), metadata(path)
    levels = {name: _level(made["levels"][name], path) for name in ("hlt", "offline")}
    read, left_out = read_pairs(source, levels["hlt"], levels["offline"], half="second")
    _check_pileup(path, made, source)
    pairs = read.take(_calibrated(path, read.eta))
    if pairs.hlt.size == 0:
        raise InputError(
            f"{result}: none of {read.hlt.size} pairs of the second half is at an eta that {path} has a calibration "
            "for; use more data"
        )
    corrected, changes = _evaluated(path, pairs, made["sources"], progress)
    rows = closure_table(pairs, corrected, changes, made["estimator"], made["storage_threshold"], settings)
    z = z_of(rows, made["estimator"], settings)
    counts = {
        "second_half": int(read.hlt.size),
        "used": int(pairs.hlt.size),
        "left_out": left_out,
        "eta_without_calibration": int(read.hlt.size - pairs.hlt.size),
        "beyond_range_of_pt": int((~jets.inside_range(path, pairs.hlt, pairs.eta)).sum()),
    }
    how = record(
        "closure",
        {"result": str(result), "corrections": path, "configuration": settings.model_dump(mode="json")},
    )
    summary = {
        "format_version": FORMAT_VERSION,
        "trila": __version__,
        "definition": f"{made['estimator']} of corrected HLT pT over offline pT of the probes, minus 1",
        "passed": closes(rows),
        "z": None if math.isnan(z) else z,
        "tested": sum(row.tested for row in rows),
        "failed": sum(row.passed is False for row in rows),
        "not_tested": dict(Counter(row.reason for row in rows if not row.tested)),
        "limits_not_tested": [_words(limit) for limit in untested(rows)],
        "claimed_from": claimed_from(made["storage_threshold"]),
        "storage_threshold": made["storage_threshold"],
        "pairs": counts,
        "manifest_digest": digest(source.manifest),
        "derived_from_this_result": made["manifest_digest"] == digest(source.manifest),
        "corrections_sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "configuration": settings.model_dump(mode="json"),
        "rows": [_plain(row) for row in rows],
        "provenance": how.as_json(),
    }
    paths = () if outdir is None else _write(Path(outdir), summary, rows, source, how, style or {})
    return Closure(rows, closes(rows), z, summary, paths)


def _check_pileup(path: str, made: Mapping[str, Any], source: results.Result) -> None:
    """A pile-up offset in ρ says nothing about pairs that know only μ, nor the other way round."""
    needed, there = made["pileup_variable"], pileup_variable(source)
    if "Rho" in jets.required_inputs(path, "hlt_jec") and needed != there:
        raise InputError(
            f"{path} takes off pile-up by '{needed}', and the pairs of {source.path} have '{there or 'none'}'; use the "
            "result of a run on input that has it, or derive the calibration with pileup: false"
        )


def _level(said: Mapping[str, Any], path: str) -> Level:
    """A level that the calibration was derived with; its own correction file must still be the same."""
    try:
        level = Level.model_validate({key: value for key, value in said.items() if key != "sha256"})
    except ValidationError as error:
        raise InputError(f"{path} has a level of {validation_message(error)}; derive it again") from error
    if level.file is not None and Path(level.file).is_file():
        found = hashlib.sha256(Path(level.file).read_bytes()).hexdigest()
        if found != said.get("sha256", found):
            raise InputError(f"{level.file} has changed since {path} was derived with it; derive it again")
    return level


def _words(limit: Limit) -> str:
    eta = (
        f"|eta| {limit.eta[0]:g} to {limit.eta[1]:g}"
        if math.isfinite(limit.eta[1])
        else f"|eta| from {limit.eta[0]:g}"
    )
    pt = (
        f"{limit.pt[0]:g} to {limit.pt[1]:g} GeV"
        if math.isfinite(limit.pt[1])
        else f"from {limit.pt[0]:g} GeV"
    )
    return f"{100 * limit.value:g}% for {eta}, {pt}"


def _calibrated(path: str, eta: NDArray[Any]) -> NDArray[np.bool_]:
    """Which probes are at an η that has a calibration."""
    found = np.zeros(eta.shape, dtype=np.bool_)
    for (low, high), _ in jets.valid_regions(path):
        found |= (eta >= low) & (eta < high)
    return found


def _evaluated(path: str, pairs: Pairs, sources: list[str], progress: _Progress) -> tuple[Array, Array]:
    """Corrected pT (GeV), and its relative change by each statistical variation, shape (variations, n)."""
    variations = [name for name in sources if name.startswith("statistical_")]
    advance = progress("applying corrections", 1 + len(variations))
    inputs = {
        "JetPt": pairs.hlt, "JetEta": pairs.eta, "JetPhi": pairs.phi, "JetA": pairs.area, "Rho": pairs.pileup,
        "run": pairs.run,
    }  # fmt: skip
    columns = {name: values for name, values in inputs.items() if values is not None}

    def factor(systematic: str) -> Array:
        found = jets.evaluate(path, "hlt_jec", columns, {"systematic": systematic}, hold=True)
        advance(1)
        return found

    nominal = factor("nominal")
    changes = np.empty((len(variations), nominal.size))
    for number, name in enumerate(variations):
        changes[number] = factor(f"{name}_up") / nominal - 1.0
    return pairs.hlt * nominal, changes


def _plain(row: Row) -> dict[str, Any]:
    """A row for JSON, which knows no nan."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row._asdict().items()
    }


def _write(
    folder: Path,
    summary: dict[str, Any],
    rows: tuple[Row, ...],
    source: results.Result,
    how: Provenance,
    style: Mapping[str, Any],
) -> tuple[Path, ...]:
    from trila.analysis.plots_closure import plot_closure  # matplotlib takes long to import

    is_data = any(dataset["is_data"] for dataset in source.manifest["datasets"].values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        results.write_json(folder / "closure.json", summary)
        plots = plot_closure(
            rows, folder, is_data=is_data, pileup=pileup_variable(source) or "rho", made=how, **style
        )
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}; choose another folder") from error
    return (folder / "closure.json", *plots)
