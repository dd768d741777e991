"""Workspaces of pyhf or HistFactory that a user gives: limits, significances and diagnoses."""

from pathlib import Path
from typing import Any, NamedTuple

from trila.analysis.fit_inputs import number, read_json, write_product
from trila.analysis.limits import limit_entry
from trila.analysis.provenance import on_rows, record
from trila.fits.certificates import Check, certify
from trila.fits.diagnosis import best_fit, correlations, goodness_of_fit, impacts, pulls
from trila.fits.errors import FitError
from trila.fits.likelihood import Model
from trila.fits.limits import upper_limits
from trila.fits.significance import discovery
from trila.fits.workspaces import from_workspace
from trila.processors.errors import InputError, unknown_name

__all__ = ["GivenModel", "diagnose", "is_workspace", "limit", "models", "significance"]

#: No mass is this large; JSON knows numbers that are infinite.
_HUGE = 1e100


class GivenModel(NamedTuple):
    """A model that a workspace describes.

    Attributes:
        name: of its patch; empty without one.
        mass: first value of the patch, GeV; None without one.
        model: itself.
    """

    name: str
    mass: float | None
    model: Model


def is_workspace(text: str) -> bool:
    """Whether an argument names a JSON file with channels."""
    path = Path(text)
    if path.suffix != ".json" or not _is_file(text):
        return False
    content = read_json(path)
    return isinstance(content, dict) and "channels" in content


def models(path: Path, *, patch: str | None = None, poi: str | None = None) -> list[GivenModel]:
    """Models of a workspace: one, or one for each patch of a patch set.

    Args:
        path: the workspace.
        patch: JSON patch or pyhf's patch set; PATCHES.json:NAME takes one of the set.
        poi: parameter of interest; default the measurement's.

    Raises:
        InputError: a file that cannot be read, or no such patch.
        FitError: as `from_workspace`.
    """
    workspace = read_json(path)
    if patch is None:
        return [GivenModel("", None, from_workspace(workspace, poi=poi))]
    file, _, name = patch.partition(":") if not _is_file(patch) else (patch, "", "")
    content = read_json(Path(file))
    if isinstance(content, list):
        return [GivenModel(Path(file).stem, None, from_workspace(workspace, patch=content, poi=poi))]
    try:
        given = content["patches"]
        found = {str(p["metadata"]["name"]): (p["metadata"]["values"], p["patch"]) for p in given}
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{file} is neither a JSON patch nor a patch set of pyhf; expected a list, or 'patches'"
        ) from error
    _check_digest(file, content, workspace)
    if not found or len(found) < len(given):
        raise InputError(
            f"{file} holds {len(given)} patches with {len(found)} names; expected at least one, each with a name of its own"
        )
    if name:
        if name not in found:
            raise unknown_name("patch", name, found)
        found = {name: found[name]}
    return [
        GivenModel(label, _mass(values), from_workspace(workspace, patch=operations, poi=poi))
        for label, (values, operations) in found.items()
    ]


def _check_digest(file: str, patches: Any, workspace: Any) -> None:
    """A patch set says which background it is for.

    Raises:
        InputError: it is for another one.
    """
    import pyhf

    metadata = patches.get("metadata") if isinstance(patches, dict) else None
    known = metadata.get("digests") if isinstance(metadata, dict) else None
    for algorithm, wanted in known.items() if isinstance(known, dict) else ():
        if algorithm in ("sha256", "md5") and pyhf.utils.digest(workspace, algorithm=algorithm) != wanted:
            raise InputError(
                f"{file} is for another background: its {algorithm} is {str(wanted)[:12]}..., and the workspace has another one; give "
                "the workspace that it was made for"
            )


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # a name that is too long
        return False


def _mass(values: Any) -> float | None:
    first = values[0] if isinstance(values, list) and values else None
    if not isinstance(first, (int, float)) or isinstance(first, bool) or not abs(first) < _HUGE:
        return None
    return float(first)


def limit(
    path: Path,
    output: Path,
    *,
    patch: str | None = None,
    poi: str | None = None,
    level: float = 0.95,
    check: Check = "sample",
) -> list[dict[str, Any]]:
    """Upper limits on the parameter of interest of each model, in its own units.

    Raises:
        FitError, InputError: as `models`, and a file that cannot be written.
    """
    made = record("limit", _asked(path, patch, poi) | {"level": level, "check": check})
    content = []
    for given in models(path, patch=patch, poi=poi):
        found = upper_limits(given.model, level=level)
        certificate = certify(given.model, found, check=check)[0]
        name = given.model.parameters[given.model.poi]
        content.append(
            {
                **limit_entry(
                    given.mass, found.observed[0], found.expected[0], found.best_fit[0], found.sigma[0], certificate,
                    unit=name, level=level, form="histfactory", inputs=made.digest,
                ),
                "patch": given.name,
            }
        )  # fmt: skip
    content = on_rows(content, made)
    write_product(output, content)
    return content


def significance(
    path: Path, output: Path, *, patch: str | None = None, poi: str | None = None
) -> dict[str, Any]:
    """Local significance of each model.

    Raises:
        FitError, InputError: as `models`, and a file that cannot be written.
    """
    rows = []
    for given in models(path, patch=patch, poi=poi):
        found = discovery(given.model)
        good = bool(found.verified[0])
        rows.append(
            {
                "mass": given.mass, "patch": given.name,
                "p_local": float(found.p_local[0]) if good else None, "z_local": float(found.z_local[0]) if good else None,
                "best_fit": number(found.best_fit[0]), "sigma": number(found.sigma[0]),
            }
        )  # fmt: skip
    content = {
        "local": rows,
        "global": [],
        "provenance": record("significance", _asked(path, patch, poi)).as_json(),
    }
    write_product(output, content)
    return content


def diagnose(
    path: Path,
    outdir: Path,
    *,
    patch: str | None = None,
    poi: str | None = None,
    toys: int = 0,
    seed: int = 0,
) -> tuple[Path, dict[str, Any]]:
    """Pulls, constraints, impacts, correlations and goodness of fit of one model, written as `diagnosis.json`.

    Raises:
        FitError, InputError: as `models`, several models, a fit that failed, and a file that cannot be written.
    """
    found = models(path, patch=patch, poi=poi)
    if len(found) > 1:
        names = ", ".join(given.name for given in found[:5])
        raise InputError(
            f"{patch} holds {len(found)} patches; name one of them as PATCHES.json:NAME, such as {names}"
        )
    model = found[0].model
    fit = best_fit(model)
    if not fit.verified:
        raise FitError(
            f"the fit of {path} did not converge to a minimum with a positive definite Hessian: there is nothing to diagnose; "
            "look for parameters that the data do not determine"
        )
    pulled, shifted, related = pulls(model, fit), impacts(model, fit), correlations(model, fit)
    good = goodness_of_fit(model, fit, toys=toys, seed=seed)
    content = {
        "pulls": [
            {"name": name, "value": number(v), "error": number(e), "pull": number(p), "constraint": number(c)}
            for name, v, e, p, c in zip(*pulled, strict=True)
        ],
        "impacts": [
            {
                "name": name, "up": number(post[0]), "down": number(post[1]), "prefit_up": number(pre[0]),
                "prefit_down": number(pre[1]), "status": sorted({str(s) for s in (*why, *before) if s}),
            }
            for name, post, pre, why, before in zip(*shifted, strict=True)
        ],
        "correlations": {"names": list(related.parameters), "matrix": related.matrix.tolist()},
        "goodness_of_fit": {
            "statistic": good.statistic, "ndof": good.ndof, "p_value": number(good.p_value), "p_toys": number(good.p_toys),
            "failed_toys": good.toys_failed,
        },
        "unit": model.parameters[model.poi],
        "provenance": record("diagnose", _asked(path, patch, poi) | {"toys": toys, "seed": seed}).as_json(),
    }  # fmt: skip
    write_product(outdir / "diagnosis.json", content)
    return outdir / "diagnosis.json", content


def _asked(path: Path, patch: str | None, poi: str | None) -> dict[str, Any]:
    return {"workspace": str(path), "patch": patch, "poi": poi}
