"""The models behind limits as files of pyhf: one background with a patch for each mass, or a workspace for each."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from trila.analysis.fit_inputs import write_product
from trila.analysis.provenance import Provenance, identity
from trila.fits.limits import Limits
from trila.fits.linear_basis import background_workspace, patch_set, workspace
from trila.fits.search import Search

__all__ = ["write_models"]


def write_models(
    folder: Path, found: Search, limits: Limits, *, name: str, exact: ArrayLike = (), made: Provenance
) -> tuple[str, ...]:
    """Write a linear search as HistFactory JSON.

    With one background for all masses: `background.json` and `signals.json`, a patch set. With windows: `NAME_MASS.json`
    for each mass. HistFactory's files have no room for more: `provenance.json` beside them says how they were made.

    Args:
        folder: made if missing.
        found: in linear form.
        limits: of its masses, in units of its parameter of interest.
        name: of the channel.
        exact: masses, GeV, whose limits needed the function itself.
        made: record of the limits.

    Returns:
        What the user should know.

    Raises:
        InputError: the folder cannot be written.
    """
    masses = found.templates.masses
    usable = np.isfinite(np.column_stack([limits.observed, limits.expected])).all(axis=1)
    if not usable.any():
        return ("no workspaces: there is no limit at any mass",)
    notes = [f"no workspace at {m:g} GeV, where there is no limit" for m in masses[~usable]]
    if len(found.fit.windows.edges) == 1:
        files = {
            "background.json": background_workspace(found, limits, name=name),
            "signals.json": patch_set(found, limits, name=name),
        }
    else:
        files = {
            f"{name}_{masses[index]:g}.json": workspace(found, int(index), limits, name=name)
            for index in np.flatnonzero(usable)
        }
    for file, content in files.items():
        write_product(folder / file, content)
    listed = {file: identity(folder / file).sha256 for file in files}
    write_product(folder / "provenance.json", {"provenance": made.as_json(), "files": listed})
    count = np.size(exact)
    if count:
        notes.insert(
            0,
            f"{count} masses have limits by the function itself: their workspaces, which are linear, give others there",
        )
    return tuple(notes[:3])
