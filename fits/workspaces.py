"""A pyhf workspace as a `Model`: any HistFactory JSON gets the fits, limits and significances of this package.

pyhf reads and checks the specification, orders parameters and knows their constraints; the likelihood, its derivatives and its
minima are `likelihood.py` and `minimise.py`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trila.fits.errors import FitError
from trila.fits.likelihood import Model, Observation, Structure, Tensors

__all__ = ["from_pyhf", "from_workspace"]

#: Values that a patch may copy.
_MOST_COPIED = 200_000
_MULTIPLIES = ("normfactor", "lumi", "shapefactor", "shapesys", "staterror")


def from_workspace(
    workspace: Mapping[str, Any], *, patch: Sequence[Any] | None = None, poi: str | None = None
) -> Model:
    """The model and data of a HistFactory workspace.

    Args:
        workspace: content of the JSON.
        patch: JSON patch (RFC 6902) to apply first, such as one signal of a patch set.
        poi: parameter of interest; default the measurement's.

    Raises:
        FitError: not valid against pyhf's schema, no such parameter, or no parameter of interest.
    """
    import pyhf

    try:
        content = workspace if patch is None else _patched(workspace, patch)
        # pyhf may change what it is given; integers may be larger than any float
        content = json.loads(json.dumps(content), parse_int=float)
        read = pyhf.Workspace(content)
        with np.errstate(all="ignore"):  # what is not finite is found below
            model = read.model() if poi is None else read.model(poi_name=poi)
        missing = [channel for channel in model.config.channels if channel not in read.observations]
        if missing:  # pyhf would write a traceback to its log
            raise ValueError(f"no observations of channel '{missing[0][:40]}'")
        data = read.data(model, include_auxdata=True)
    except FitError:
        raise
    except Exception as error:  # pyhf, jsonschema and jsonpatch share no base class
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise FitError(f"the workspace cannot be used ({reason}); check it with `pyhf inspect`") from error
    return from_pyhf(model, data)


def _patched(workspace: Mapping[str, Any], patch: Sequence[Any]) -> Any:
    """A workspace after a JSON patch, whose copies of copies could fill the memory.

    Raises:
        FitError: too many values.
    """
    import jsonpatch
    from jsonpointer import resolve_pointer

    content = jsonpatch.apply_patch(workspace, [])  # a copy
    values = 0
    for operation in patch:
        if isinstance(operation, dict) and operation.get("op") == "copy":
            values += _size(resolve_pointer(content, operation["from"]))
        if values > _MOST_COPIED:
            raise FitError(
                f"the patch copies more than {_MOST_COPIED} values, expected fewer; write the workspace out instead"
            )
        content = jsonpatch.apply_patch(content, [operation], in_place=True)
    return content


def _size(node: Any) -> int:
    """Number of values in a JSON content."""
    values, open_ = 0, [node]
    while open_:
        node = open_.pop()
        values += 1
        open_ += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return values


def from_pyhf(model: Any, data: Sequence[float]) -> Model:
    """The `Model` of a `pyhf.Model` with HistFactory's own modifiers, and its data with auxiliary data.

    Raises:
        FitError: no parameter of interest, or a modifier that is not HistFactory's.
    """
    config = model.config
    if config.poi_index is None:
        known = ", ".join(name for name, kind in config.modifiers if kind == "normfactor")
        raise FitError(f"the workspace names no parameter of interest; give --poi, one of {known}")
    number = config.npars
    bins = sum(config.channel_nbins[c] for c in config.channels)
    samples = list(config.samples)
    channels = {channel["name"]: channel for channel in model.spec["channels"]}
    nominal = np.zeros((len(samples), bins))
    factors: list[np.ndarray[Any, Any]] = []
    norms: dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
    shapes: dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
    covered: dict[str, int] = {}  # bins of a staterror in earlier channels
    begin = 0
    for name in config.channels:
        size = config.channel_nbins[name]
        here = slice(begin, begin + size)
        seen: set[str] = set()
        for sample in channels[name]["samples"]:
            row = samples.index(sample["name"])
            rate = np.asarray(sample["data"], dtype=np.float64)
            nominal[row, here] = rate
            layer = 0
            for modifier in sample["modifiers"]:
                kind, label, values = modifier["type"], modifier["name"], modifier["data"]
                first = config.par_map[label]["slice"].start
                if kind in _MULTIPLIES:
                    if layer == len(factors):
                        factors.append(np.full((len(samples), bins), number))
                    offset = covered.get(label, 0) if kind == "staterror" else 0
                    several = kind not in ("normfactor", "lumi")
                    factors[layer][row, here] = first + offset + (np.arange(size) if several else 0)
                    layer += 1
                    if kind == "staterror":
                        seen.add(label)
                elif kind == "normsys":
                    if not (0 < values["hi"] < np.inf and 0 < values["lo"] < np.inf):
                        raise FitError(
                            f"modifier '{label[:40]}' of sample '{sample['name'][:40]}' is a factor {values['hi']:g} up and "
                            f"{values['lo']:g} down, expected both above 0; give the ratio to the nominal rate"
                        )
                    up, down = norms.setdefault(
                        label, (np.zeros((len(samples), bins)), np.zeros((len(samples), bins)))
                    )
                    up[row, here], down[row, here] = np.log(values["hi"]), np.log(values["lo"])
                elif kind == "histosys":
                    up, down = shapes.setdefault(
                        label, (np.zeros((len(samples), bins)), np.zeros((len(samples), bins)))
                    )
                    up[row, here] = np.asarray(values["hi_data"]) - rate
                    down[row, here] = np.asarray(values["lo_data"]) - rate
                else:
                    raise FitError(f"modifier '{label}' is of type {kind}, which HistFactory does not have")
        for label in seen:
            covered[label] = covered.get(label, 0) + size
        begin += size
    changes = [side for pair in shapes.values() for side in pair]
    observed = np.asarray(data[:bins], dtype=np.float64)
    if not all(np.isfinite(values).all() for values in (nominal, observed, *changes)):
        raise FitError(
            "the workspace has rates or observations that are not finite, expected numbers; check its channels"
        )
    normal, poisson, auxiliary = _constraints(config, np.asarray(data[bins:], dtype=np.float64))
    bounds = np.asarray(config.suggested_bounds(), dtype=np.float64)
    stack = (len(samples), bins)
    settings = {kind: options["interpcode"] for kind, options in _settings(model).items()}
    return Model(
        Structure(settings["normsys"], settings["histosys"], ()),
        Tensors(
            nominal,
            np.array(factors or [np.full(stack, number)]),
            *_stacked(norms, config, stack),
            *_stacked(shapes, config, stack),
            normal,
            poisson,
            np.ones(bins),
            (),
        ),
        tuple(config.par_names),
        int(config.poi_index),
        np.asarray(config.suggested_init(), dtype=np.float64),
        bounds[:, 0],
        bounds[:, 1],
        np.asarray(config.suggested_fixed(), dtype=bool),
        Observation(observed, auxiliary),
    )


def _settings(model: Any) -> dict[str, dict[str, Any]]:
    """Interpolation codes of the model. pyhf has other defaults where settings are given for one kind of modifier alone."""
    settings: dict[str, dict[str, Any]] = {
        "normsys": {"interpcode": "code1"},
        "histosys": {"interpcode": "code0"},
    }
    return settings | dict(model.config.modifier_settings)


def _stacked(
    found: Mapping[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]],
    config: Any,
    stack: tuple[int, int],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    index = np.array([config.par_map[name]["slice"].start for name in found], dtype=np.int64)
    empty = np.zeros((0, *stack))
    up = np.array([pair[0] for pair in found.values()]) if found else empty
    down = np.array([pair[1] for pair in found.values()]) if found else empty
    return index, up, down


def _constraints(config: Any, measured: Any) -> tuple[Any, Any, Any]:
    normal, poisson, auxiliary = (np.zeros(config.npars) for _ in range(3))
    position = 0
    for name in config.auxdata_order:
        entry = config.par_map[name]
        paramset, here = entry["paramset"], entry["slice"]
        size = here.stop - here.start
        auxiliary[here] = measured[position : position + size]
        if paramset.pdf_type == "normal":
            normal[here] = 1 / np.asarray(paramset.width()) ** 2
        else:
            poisson[here] = paramset.factors
        position += size
    return normal, poisson, auxiliary
