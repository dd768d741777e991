"""The step from a RESULT to a calibration file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trila import __version__
from trila.analysis import results
from trila.analysis.calibration_config import CalibrationConfig
from trila.analysis.calibration_report import notes, summarise
from trila.analysis.derive import Derived, Progress, derive_all
from trila.analysis.pairs import Level, pileup_variable, read_pairs, run_range, storage_threshold
from trila.analysis.provenance import Provenance, record
from trila.corrections import calibration_set, correction_set
from trila.corrections.pairs import Pairs
from trila.processors.errors import InputError
from trila.processors.recipes import digest
from trila.processors.triggers import threshold

__all__ = ["Outcome", "calibrate"]


class Outcome(NamedTuple):
    """What `calibrate` made.

    Attributes:
        derived: the calibration and the measurements.
        path: of the file.
        summary: content of `calibration.json` in the report.
        notes: what the user should know.
        plots: files, if a report was asked for.
    """

    derived: Derived
    path: Path
    summary: dict[str, Any]
    notes: list[str]
    plots: tuple[Path, ...]


def calibrate(
    result: str | Path, output: str | Path, *, config: CalibrationConfig, report: str | Path | None = None,
    progress: Progress, style: Mapping[str, Any] | None = None, min_fraction: float = 1.0,
) -> Outcome:  # fmt: skip
    """Derive a calibration from the first half of a result's pairs, and write it.

    Args:
        result: RESULT of `trila run response`.
        output: correctionlib file to write, `.json.gz` or `.json`.
        config: how.
        report: folder for plots and `calibration.json`.
        progress: shows long work.
        style: of the plots.
        min_fraction: share of the planned events that RESULT must hold, see `results.read`.

    Raises:
        InputError: the result has no pairs, or too few.
        CorrectionError: the file cannot be written.
    """
    source = results.read(result, min_fraction=min_fraction)
    pairs, left_out = read_pairs(source, config.hlt, config.offline, half="first")
    first, last = run_range(source)
    if config.runs and config.runs[0] > first:
        raise InputError(
            f"{result} has runs from {first} on, but the first range of runs starts with {config.runs[0]}; start there"
        )
    trigger = source.manifest["configuration"]["response"]["tag_trigger"]
    threshold_pt = (threshold(trigger) if trigger not in (None, "none") else None) or 0.0
    try:
        derived = derive_all(pairs, config, trigger_threshold=threshold_pt, last_run=last, progress=progress)
    except ValueError as error:
        raise InputError(f"{result}: {error}") from error
    made = record(
        "calibrate",
        {
            "result": str(result),
            "corrections": [level.file for level in (config.hlt, config.offline) if level.file],
            "configuration": digest(config.model_dump(mode="json")),
        },
    )
    description = _description(source, config, trigger, pairs, made)
    data_type = "DATA" if any(d["is_data"] for d in source.manifest["datasets"].values()) else "MC"
    names = calibration_set.Names(config.names.tag, data_type, config.names.algorithm)
    content = calibration_set.build(derived.calibration, names, description)
    correction_set.write(content, output)
    summary = summarise(derived, config, description)
    told = notes(derived, config)
    if left_out:
        told.append(
            f"{left_out} pairs were left out: a pT that is not above zero, or a pile-up or an area that is no number"
        )
    if config.storage_threshold is None:
        told.append(
            f"HLT jets look as if stored from {description['storage_threshold']:g} GeV on (storage_threshold says otherwise)"
        )
    plots: tuple[Path, ...] = ()
    if report is not None:
        from trila.analysis.plots_calibration import plot_calibration

        folder = Path(report)
        folder.mkdir(parents=True, exist_ok=True)
        results.write_json(folder / "calibration.json", summary)
        pileup = pileup_variable(source) or "rho"
        plots = tuple(
            plot_calibration(
                derived,
                folder,
                config=config,
                is_data=data_type == "DATA",
                pileup=pileup,
                made=made,
                **(style or {}),
            )
        )
    return Outcome(derived, Path(output), summary, told, plots)


def _description(
    source: results.Result, config: CalibrationConfig, trigger: str | None, pairs: Pairs, made: Provenance
) -> dict[str, Any]:
    """What the file says of itself."""
    manifest = source.manifest
    events = manifest["configuration"]["events"]
    response = manifest["configuration"]["response"]
    eras = sorted({item["era"] for item in manifest["inputs"] if item["era"]})
    return {
        "made_by": f"trila {__version__}",
        "definition": f"corrected HLT pT over offline pT has {config.scale.estimator} 1 in bins of the tag's offline pT",
        "estimator": config.scale.estimator,
        "levels": {"hlt": _level(config.hlt), "offline": _level(config.offline), "tag": "offline, as stored"},
        "stored_levels": {"hlt": response["hlt_level"], "offline": response["offline_level"]},
        "reference": manifest["reference"],
        "trigger": trigger or "none",
        "orthogonal_triggers": response["orthogonal_triggers"],
        "required_triggers": events["triggers"],
        "era": eras,
        "lumi_mask_digest": None if events["lumi_mask"] is None else digest(events["lumi_mask"]),
        "manifest_digest": digest(manifest),
        "configuration": config.model_dump(mode="json"),
        "pileup_variable": pileup_variable(source),
        "eta_edges": list(config.scale.eta_edges),
        "half": "events of the first half by their hash; `trila closure` uses the second",
        "storage_threshold": storage_threshold(source)
        if config.storage_threshold is None
        else config.storage_threshold,
        "pairs": int(pairs.hlt.size),
        "provenance": made.as_json(),
    }


def _level(level: Level) -> dict[str, Any]:
    """A level as the file has it: with the whole path of its own correction file, and its digest."""
    if level.file is None:
        return level.model_dump()
    path = Path(level.file).resolve()
    return {
        **level.model_dump(), "file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip
