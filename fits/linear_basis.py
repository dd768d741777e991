"""A search as a HistFactory workspace that any program reads: a smooth background in its linear form.

| you want | use |
| --- | --- |
| the workspace of one mass | `workspace` |
| one background and a patch for each mass | `background_workspace`, `patch_set` |
| one workspace of several channels (categories) | `combined` |
| to know whether the linear form will do, or another expansion | `validity`, `relinearised` of `linear_validity.py` |

The expansion of the background about its fit, B + Σ_k z_k D_k, is a sample B without uncertainties and a sample for each
D_k, whose normalisation z_k is free (`normfactor` from 0). Its rates have both signs, which HistFactory's schema allows.
Nothing constrains the z_k but the data: a constraint from the fit of the same data would use these twice. The modes of a
Gaussian process have a prior instead, and are `histosys` with a unit normal constraint. The z_k are
whitened (each has an error of one, and they are uncorrelated), so that minimisers converge with their default settings;
without, pyhf's fits of 10⁸ events do not. At extreme z the rates may be negative: no bound of one parameter forbids that.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trila.fits.errors import FitError
from trila.fits.histfactory import POI, background_bound, bins_of, highest, signal_part
from trila.fits.limits import Limits
from trila.fits.search import CONSTRAINED, Search

__all__ = ["background_workspace", "combined", "patch_set", "workspace"]

Workspace = dict[str, Any]

_MEASUREMENT = "search"
#: Where a patch adds samples and settings of parameters.
_SAMPLES, _PARAMETERS = "/channels/0/samples/-", "/measurements/0/config/parameters/-"


def workspace(
    found: Search, index: int, limits: Limits, *, name: str, events: float | None = None
) -> Workspace:
    """HistFactory's JSON (version 1.0.0) of one mass.

    Args:
        found: in linear form.
        index: of the mass.
        limits: of the masses of `found`; bounds lie well above them.
        name: of the channel.
        events: of the signal, in this channel, for a parameter of interest of 1; default the unit of the search.

    Raises:
        FitError: another form, a name that HistFactory does not have, or no limit for this mass.
    """
    content = _background(found, index, limits, name)
    part = signal_part(found, index, limits, name=name, events=events)
    content["channels"][0]["samples"] += part.samples
    content["measurements"][0]["config"]["parameters"] += part.parameters
    return content


def background_workspace(found: Search, limits: Limits, *, name: str) -> Workspace:
    """The background alone, to which each patch of `patch_set` adds a signal; arguments and errors as there."""
    if len(found.fit.windows.edges) > 1:
        raise FitError(
            f"{len(found.fit.windows.edges)} windows have backgrounds of their own, expected one for all masses; write a "
            "workspace for each mass instead of patches"
        )
    return _background(found, 0, limits, name)


def patch_set(found: Search, limits: Limits, *, name: str, record: str = "ins0000000") -> dict[str, Any]:
    """pyhf's patch set: a signal for each mass that has limits; with one, the background is the `workspace` of its mass.

    A patch is named NAME_MASS (a point in the mass is a p), and carries its mass in GeV and the events of a parameter of
    interest of 1.

    Args:
        found: in linear form, with one window for all masses.
        limits: of its masses.
        name: of the channel.
        record: INSPIRE number of the publication, which the schema wants.

    Raises:
        FitError: another form, a window for each mass, a name or record that the schema does not allow, or no limits at all.
    """
    import pyhf

    background = background_workspace(found, limits, name=name)
    if not re.fullmatch(r"ins[0-9]{7}", record):
        raise FitError(f"record '{record}', expected ins and seven digits, as in ins1234567; see INSPIRE")
    masses = np.flatnonzero(np.isfinite(highest(limits)))
    if not masses.size:
        raise FitError(f"none of {len(found.unit)} masses has limits, expected at least one; see their fits")
    return {
        "metadata": {
            "description": f"Signals of channel {name}: one at each mass, with its yield as parameter of interest",
            "references": {"hepdata": record},
            "digests": {"sha256": pyhf.utils.digest(background)},
            "labels": ["mass", "events"],
        },
        "patches": [_patch(found, int(index), limits, name) for index in masses],
        "version": "1.0.0",
    }


def combined(workspaces: Sequence[Mapping[str, Any]]) -> Workspace:
    """Several channels with one parameter of interest; nuisances of the same name are one parameter.

    Args:
        workspaces: as `workspace` makes them, of different names; their `events` say how the signal is shared out.

    Raises:
        FitError: two channels of one name, or none.
    """
    channels = [channel for one in workspaces for channel in one["channels"]]
    names = [channel["name"] for channel in channels]
    if len(set(names)) != len(names) or not names:
        raise FitError(
            f"channels {', '.join(names) or 'none'}, expected at least one, each with a name of its own; rename them"
        )
    parameters: dict[str, dict[str, Any]] = {}
    for one in workspaces:
        for entry in one["measurements"][0]["config"]["parameters"]:
            before = parameters.get(entry["name"], entry)
            pairs = (before["bounds"][0], entry["bounds"][0])
            widest = [min(low for low, _ in pairs), max(high for _, high in pairs)]
            parameters[entry["name"]] = entry | {"bounds": [widest]}
    observations = [entry for one in workspaces for entry in one["observations"]]
    return _content(channels, observations, list(parameters.values()))


def _background(found: Search, index: int, limits: Limits, name: str) -> Workspace:
    if found.form != "linear":
        raise FitError(
            f"a search of form '{found.form}' is no HistFactory model, expected form 'linear'; make it in that form, or use "
            "trila.fits.pyhf_modifier"
        )
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise FitError(f"channel name '{name}', expected letters, digits and underscores; rename it")
    here, bound = bins_of(found, index), background_bound(found, limits)
    constrained = np.isfinite(here.prior)
    # HistFactory's constraints are centred at 0
    centred = here.background + here.jacobian @ np.where(constrained, here.prior, 0.0)
    samples: list[dict[str, Any]] = [{"name": "background", "data": centred.tolist(), "modifiers": []}]
    parameters = []
    for k, column in enumerate(here.jacobian.T):
        label, reach = f"background_{k}_{name}", CONSTRAINED if constrained[k] else bound
        data = column
        modifier: dict[str, Any] = {"name": label, "type": "normfactor", "data": None}
        if constrained[k]:
            shapes = {"hi_data": column.tolist(), "lo_data": (-column).tolist()}
            data, modifier = np.zeros(column.size), {"name": label, "type": "histosys", "data": shapes}
        samples.append({"name": f"background_{k}", "data": data.tolist(), "modifiers": [modifier]})
        parameters.append({"name": label, "inits": [0.0], "bounds": [[-reach, reach]]})
    observation = {"name": name, "data": here.counts.tolist()}
    return _content([{"name": name, "samples": samples}], [observation], parameters)


def _content(channels: list[Any], observations: list[Any], parameters: list[dict[str, Any]]) -> Workspace:
    config = {"poi": POI, "parameters": parameters}
    return {
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": _MEASUREMENT, "config": config}],
        "version": "1.0.0",
    }


def _patch(found: Search, index: int, limits: Limits, name: str) -> dict[str, Any]:
    part, mass = signal_part(found, index, limits, name=name), float(found.templates.masses[index])
    values = [(_SAMPLES, sample) for sample in part.samples]
    values += [(_PARAMETERS, entry) for entry in part.parameters]
    return {
        "metadata": {
            "name": f"{name}_{np.format_float_positional(mass, trim='-').replace('.', 'p')}",
            "values": [mass, float(found.unit[index])],
        },
        "patch": [{"op": "add", "path": path, "value": value} for path, value in values],
    }
