"""The luminosity of a RESULT: what was planned, what was seen, which blocks are missing, what prescaled triggers kept.

The blocks seen are those of `luminosity_blocks.json`, in which at least one event was read. docs/luminosity.md explains
the numbers; `plots_luminosity.py` draws them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.luminosity_files import Prescales, read_luminosity, read_prescales
from trila.corrections.lumi import LumiMask, LumiMaskError, check_mask, load_mask
from trila.corrections.luminosity import (
    Coverage,
    LuminosityTable,
    RunLuminosity,
    by_run,
    coverage,
    expand,
    ranges,
)
from trila.corrections.prescales import effective_luminosity, prescale_of
from trila.processors.errors import InputError

__all__ = ["BlockSum", "EffectiveLuminosity", "LuminosityAccount", "account"]


class BlockSum(NamedTuple):
    """A set of blocks summed up."""

    blocks: int
    delivered: float
    """1/pb."""
    recorded: float
    """1/pb."""


class EffectiveLuminosity(NamedTuple):
    """Luminosity that prescales left, 1/pb; blocks without a prescale count nothing and are listed."""

    planned: float
    seen: float
    without_prescale: LumiMask
    """Planned blocks in which the prescale of the trigger, or of one of the triggers, is unknown."""


@dataclass(frozen=True, eq=False)
class LuminosityAccount:
    """Luminosity of a RESULT; blocks are in the form of masks, as other tools read them."""

    result: str
    inputs: dict[str, str]
    """SHA-256 of the files that the account is made of, by path as given."""
    planned: BlockSum
    """Blocks with a luminosity, of the mask if one is given."""
    seen: BlockSum
    """Planned blocks in which events were read."""
    not_seen: LumiMask
    """Planned blocks with recorded luminosity in which no event was read."""
    mask_without_luminosity: LumiMask
    """Blocks of the mask that the luminosity file lacks; empty without a mask."""
    seen_without_luminosity: LumiMask
    """Blocks seen, inside the mask, that the luminosity file lacks, or in which nothing was recorded."""
    seen_outside_mask: LumiMask
    """Blocks seen that the mask does not certify, whose events a run with that mask leaves out."""
    runs: RunLuminosity
    """Recorded luminosity by run."""
    triggers: dict[str, EffectiveLuminosity]
    """By trigger."""
    any_trigger: EffectiveLuminosity | None
    """Of events that all the triggers accept, kept by at least one of them; None with fewer than two triggers."""
    shared_seeds: dict[str, tuple[str, ...]]
    """Prescaled seeds that several of the triggers use; where there are, `any_trigger` is an approximation."""

    @property
    def fraction(self) -> float | None:
        """Recorded luminosity seen over planned; None where nothing is planned."""
        return self.seen.recorded / self.planned.recorded if self.planned.recorded > 0 else None

    def as_json(self) -> dict[str, Any]:
        """The account as an object for JSON; luminosities in 1/pb."""
        runs = zip(*(part.tolist() for part in self.runs), strict=True)
        return {
            "result": self.result,
            "inputs": dict(self.inputs),
            "planned": self.planned._asdict(),
            "seen": self.seen._asdict(),
            "fraction": self.fraction,
            "not_seen": _lists(self.not_seen),
            "mask_without_luminosity": _lists(self.mask_without_luminosity),
            "seen_without_luminosity": _lists(self.seen_without_luminosity),
            "seen_outside_mask": _lists(self.seen_outside_mask),
            "runs": [{"run": run, "planned": planned, "seen": seen} for run, planned, seen in runs],
            "triggers": {name: _effective_json(found) for name, found in self.triggers.items()},
            "any_trigger": None if self.any_trigger is None else _effective_json(self.any_trigger),
            "shared_seeds": {seed: list(names) for seed, names in self.shared_seeds.items()},
        }


def _lists(mask: LumiMask) -> dict[str, list[list[int]]]:
    return {run: [list(pair) for pair in pairs] for run, pairs in mask.items()}


def _effective_json(found: EffectiveLuminosity) -> dict[str, Any]:
    return found._asdict() | {"without_prescale": _lists(found.without_prescale)}


def account(
    result: Path, *, mask: str | None, luminosity: str, prescales: str | None, triggers: Sequence[str]
) -> LuminosityAccount:
    """Compare the blocks that a run has seen with those that it should have seen.

    Args:
        result: RESULT of a run over data.
        mask: certified blocks, JSON; None to plan for all blocks of the luminosity file.
        luminosity: output of `brilcalc lumi --byls --output-style csv`.
        prescales: output of `brilcalc trg --prescale`, or a table with run, ls, trigger, prescale.
        triggers: names in the prescale file whose effective luminosity is wanted.

    Raises:
        InputError: no such result, or it is of simulation; a file that is wrong; prescales without triggers, or triggers
            without prescales.
        LumiMaskError: the mask is wrong.
        UnknownName: a trigger is not in the prescale file.
    """
    if (prescales is None) != (not triggers):
        given, missing = ("--trigger", "--prescales") if prescales is None else ("--prescales", "--trigger")
        raise InputError(f"{given} is given without {missing}; effective luminosities need both")
    seen = expand(_seen(result))
    table = read_luminosity(luminosity)
    covered = coverage(table, seen, None if mask is None else expand(load_mask(mask)))
    known = Prescales({}, {}) if prescales is None else read_prescales(prescales, triggers)
    by_trigger = {
        name: prescale_of(found, table.block[covered.planned]) for name, found in known.ranges.items()
    }
    every = list(by_trigger.values())
    return LuminosityAccount(
        result=str(result),
        inputs={
            path: hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for path in (str(result / "luminosity_blocks.json"), luminosity, mask, prescales)
            if path is not None
        },
        planned=_sum(table, covered.planned),
        seen=_sum(table, covered.seen),
        not_seen=ranges(covered.not_seen),
        mask_without_luminosity=ranges(covered.mask_without_luminosity),
        seen_without_luminosity=ranges(covered.seen_without_luminosity),
        seen_outside_mask=ranges(covered.seen_outside_mask),
        runs=by_run(table, covered),
        triggers={name: _effective(table, covered, [found]) for name, found in by_trigger.items()},
        any_trigger=_effective(table, covered, every) if len(every) > 1 else None,
        shared_seeds=known.shared_seeds,
    )


def _seen(result: Path) -> LumiMask:
    """The blocks in which a run has read events."""
    if not (result / "manifest.json").is_file():
        raise InputError(
            f"{result} is no result: it has no manifest.json; `trila run ... -o {result}` makes one"
        )
    path = result / "luminosity_blocks.json"
    try:
        return check_mask(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise InputError(
            f"{result} has no luminosity_blocks.json: it is of simulation, or no event was read; "
            "give the result of a run over data"
        ) from error
    except (OSError, ValueError, AttributeError, LumiMaskError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}); run it again") from error


def _sum(table: LuminosityTable, rows: NDArray[np.bool_]) -> BlockSum:
    return BlockSum(int(rows.sum()), float(table.delivered[rows].sum()), float(table.recorded[rows].sum()))


def _effective(
    table: LuminosityTable, covered: Coverage, prescales: list[NDArray[np.float64]]
) -> EffectiveLuminosity:
    """Effective luminosity of the planned blocks and of those seen; each trigger's prescales are of the planned."""
    planned = covered.planned
    combined = np.stack(prescales, axis=-1)
    recorded = table.recorded[planned]
    seen = np.where(covered.seen[planned], recorded, 0.0)
    return EffectiveLuminosity(
        effective_luminosity(recorded, combined),
        effective_luminosity(seen, combined),
        ranges(table.block[planned][np.isnan(combined).any(axis=-1) & (recorded > 0)]),
    )
