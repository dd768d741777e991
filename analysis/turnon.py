"""Trigger turn-ons of a RESULT: fitted curves, the points where triggers are efficient, and plateau bins.

`turnon` reads the `efficiency.*` histograms of a run and writes `turnon.json` (`docs/turnon.md`) and a figure of each
fitted curve. The fit is `trila.corrections.turnon`, the rule without a model `trila.corrections.plateau`.
"""

import hashlib
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import hist
import numpy as np

from trila import __version__
from trila.analysis import results
from trila.analysis.plots_efficiency import TurnOnKind, turn_on_groups
from trila.analysis.plots_style import Label, Style, save_figure
from trila.analysis.plots_turnon import fitted_turn_on_figure
from trila.analysis.provenance import record
from trila.corrections.plateau import plateau
from trila.corrections.turnon import NotFitted, TurnOn, fit_turn_on, point
from trila.processors.errors import InputError, unknown_name
from trila.processors.histograms import CMS_DIJET_EDGES

__all__ = ["FORMAT_VERSION", "LEVELS", "TurnOnOutcome", "turnon"]

FORMAT_VERSION = 1
LEVELS = (0.95, 0.99, 0.995)
_VARIABLES: dict[TurnOnKind, tuple[str, str]] = {
    "leading": ("pt", "orthogonal"),
    "average": ("average_pt", "orthogonal"),
    "mass": ("mass", "orthogonal"),
    "tag_probe": ("pt", "tag_probe"),
}


class TurnOnOutcome(NamedTuple):
    """What `turnon` did.

    Attributes:
        path: of `turnon.json`.
        turn_ons: its entries, one for each histogram.
        figures: the files drawn.
    """

    path: Path
    turn_ons: list[dict[str, Any]]
    figures: list[Path]


def turnon(
    result: str | Path, outdir: str | Path | None = None, *, triggers: Collection[str] = (),
    style: Style = "cms", label: str = "Private work",
    com: float | None = None, lumi: float | None = None,
    progress: Callable[[str, int], Callable[[int], None]] | None = None, min_fraction: float = 1.0,
) -> TurnOnOutcome:  # fmt: skip
    """Fit every turn-on of a RESULT, and write `turnon.json` and the figures.

    A histogram that allows no fit is an entry with the reason, not an error.

    Args:
        result: RESULT of `trila run efficiency`.
        outdir: folder to write, made if it does not exist; the folder `turnon` in RESULT, if not given.
        triggers: those to fit; all, if none is given.
        style: whose look.
        label: text after the experiment's name.
        com: centre-of-mass energy, TeV.
        lumi: integrated luminosity, 1/pb.
        progress: called with a stage's name and its total; gives a function to call with each advance.
        min_fraction: share of the planned events that RESULT must hold, see `results.read`.

    Raises:
        InputError: no complete result, none with efficiencies, or a folder that cannot be written.
    """
    content = results.read(result, min_fraction=min_fraction)
    groups = turn_on_groups(content.histograms)
    if not groups:
        raise InputError(
            f"{result} has no efficiency histograms (its processors: {', '.join(content.manifest['processors'])}); "
            f"`trila run efficiency FILES -o {result}` makes them"
        )
    known = {trigger for members in groups.values() for trigger in members}
    for name in triggers:
        if name not in known:
            raise unknown_name("trigger", name, known)
    chosen = set(triggers) or known
    groups = {
        key: {trigger: members[trigger] for trigger in members if trigger in chosen}
        for key, members in groups.items()
    }
    folder = Path(outdir) if outdir is not None else content.path / "turnon"
    is_data = any(dataset["is_data"] for dataset in content.manifest["datasets"].values())
    banner = Label(style, label, is_data, com, lumi)
    reference = _reference(content.manifest)
    made = record("turnon", {"result": str(result), "triggers": sorted(triggers)})
    advance = progress("fitting turn-ons", sum(map(len, groups.values()))) if progress else None
    entries, figures = [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for (_, kind), members in groups.items():
            for trigger, histogram in members.items():
                entry, fit = _entry(trigger, kind, histogram)
                entries.append(entry)
                if fit is not None:
                    points = {name: p for name, p in entry["points"].items() if p["value"] is not None}
                    figure = fitted_turn_on_figure(
                        histogram, fit, points, banner, trigger=trigger, kind=kind, reference=reference
                    )
                    name = f"turnon_{trigger}" + ("" if kind == "leading" else f"_{kind}")
                    figures += save_figure(figure, folder / name, style, made)
                if advance is not None:
                    advance(1)
        path = folder / "turnon.json"
        document = {
            "format_version": FORMAT_VERSION,
            "trila": __version__,
            "result": str(result),
            "manifest_sha256": hashlib.sha256((content.path / "manifest.json").read_bytes()).hexdigest(),
            "reference": reference,
            "turn_ons": entries,
            "provenance": made.as_json(),
        }
        results.write_json(path, document)
    except OSError as error:
        raise InputError(
            f"folder {folder} cannot be written: {error.strerror or error}; give another with -o"
        ) from error
    return TurnOnOutcome(path, entries, figures)


def _reference(manifest: dict[str, Any]) -> Literal["offline", "hlt"]:
    """The jets on the axis, as `trila.processors.efficiency` chooses them."""
    chosen = manifest["configuration"]["efficiency"]["reference"]
    if chosen == "auto":
        sources = [item["sources"] for item in manifest["inputs"] if item["sources"]]
        return "offline" if any("offline_jets" in source for source in sources) else "hlt"
    return "hlt" if chosen == "hlt" else "offline"


def _entry(trigger: str, kind: TurnOnKind, histogram: hist.Hist[Any]) -> tuple[dict[str, Any], TurnOn | None]:
    """What `turnon.json` says of one histogram, and the fit, if there is one."""
    values, variances = np.asarray(histogram.values()), np.asarray(histogram.variances())
    edges = np.asarray(histogram.axes[0].edges)
    variable, method = _VARIABLES[kind]
    standard = CMS_DIJET_EDGES if kind == "mass" else None
    entry: dict[str, Any] = {
        "trigger": trigger,
        "variable": variable,
        "method": method,
        "plateau": {
            _percent(level): plateau(values, variances, edges, level, round_to=standard)._asdict()
            for level in LEVELS
        },
    }
    try:
        fit = fit_turn_on(values, variances, edges)
    except NotFitted as error:
        nothing = {_percent(level): {"value": None, "error": None} for level in LEVELS}
        return entry | {"status": "not fitted", "reason": str(error), "points": nothing}, None
    return entry | _fitted(fit), fit


def _fitted(fit: TurnOn) -> dict[str, Any]:
    """Parameters, points and verdict; a point that may lie beyond the data is an extrapolation and left out."""
    found = {_percent(level): point(fit, level) for level in LEVELS}
    reasons = {
        "good": "",
        "poor fit": f"p-value {fit.p_value:.2g}: the curve does not describe the efficiencies",
        "step": "the rise is narrower than the bins: the threshold is known to a bin",
        "not converged": "the fit did not converge from any start",
    }
    status, reason = str(fit.status), reasons[fit.status]
    missing = {name: p for name, p in found.items() if p.value + p.error > fit.high}
    if missing:
        name, p = next(iter(missing.items()))
        status = "no plateau"
        reason = f"{name} would be at {p.value:.4g} ± {p.error:.2g}, the data end at {fit.high:.4g}"
    numbers = dict(zip(fit.names, fit.values.tolist(), strict=True))
    return {
        "status": status,
        "reason": reason,
        "mu": numbers["mu"],
        "sigma": numbers["sigma"],
        "epsilon_max": numbers["epsilon_max"],
        "further_components": [
            {key: numbers[f"{key}_{i}"] for key in ("fraction", "mu", "sigma")}
            for i in range(2, len(numbers) // 3 + 1)
        ],
        "parameters": list(fit.names),
        "covariance": fit.covariance.tolist(),
        "at_limit": list(fit.at_limit),
        "chi2": fit.deviance,
        "ndof": fit.ndof,
        "p_value": None if math.isnan(fit.p_value) else fit.p_value,
        "range": [fit.low, fit.high],
        "points": {
            name: {"value": None, "error": None} if name in missing else p._asdict()
            for name, p in found.items()
        },
    }


def _percent(level: float) -> str:
    return f"{100 * level:g}%"
