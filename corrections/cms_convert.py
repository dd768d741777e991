"""CMS jet corrections from text files to one correctionlib set.

Names are those of the official CMS files, which coffea looks for: `{tag}_{MC|DATA}_{level}_{algorithm}`, for
uncertainties with the source instead of the level; and the compound `{tag}_{MC|DATA}_L1L2L3Res_{algorithm}` where its
four levels are all there. Inputs are in alphabetical order, `systematic` last.

Outside the bins, corrections and resolutions are 1, as in CMSSW and coffea; scale factors and uncertainties are those
of the outermost bin, as in coffea. Within the bins, variables of formulas are held within the file's ranges. Upper
edges belong to the next bin.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from correctionlib import schemav2

from trila.corrections import cms_text, tformula
from trila.corrections.cms_text import FileName, Table
from trila.corrections.correction_text import CorrectionError, check_formula

__all__ = ["COMPOUND", "LEVELS", "convert"]

LEVELS = ("L1FastJet", "L2Relative", "L3Absolute", "L2L3Residual")
"""Levels of the full correction, in the order in which they are applied."""

COMPOUND = "L1L2L3Res"
"""What the official files call the product of `LEVELS`."""

_DESCRIPTIONS = {
    "JetPt": "transverse momentum, GeV",
    "JetEta": "pseudorapidity",
    "JetPhi": "azimuth, rad",
    "JetE": "energy, GeV",
    "JetA": "catchment area",
    "Rho": "median transverse momentum per area, GeV",
    "systematic": "variation",
}
_OUTPUT = {
    "correction": "factor on the transverse momentum",
    "resolution": "relative resolution of the transverse momentum",
    "scale factor": "resolution in data over that in simulation",
    "uncertainty": "relative shift of the transverse momentum, with its sign",
}
_OUTSIDE = {"correction": 1.0, "resolution": 1.0, "scale factor": "clamp", "uncertainty": "clamp"}
_LINE = "[2]+[3]*(max([0],min([1],x))-[0])"


def convert(paths: Iterable[str | Path], tag: str | None = None) -> Any:
    """The corrections of CMS text files as a `correctionlib.schemav2.CorrectionSet`.

    Args:
        paths: JEC, resolution, scale-factor and uncertainty files; the header says which.
        tag: used in all names, instead of that of the files' names. A file whose name is not of CMS's form gives its
            name to its corrections, behind the tag if there is one.

    Raises:
        CorrectionError: a file cannot be read, its bins have gaps or overlap, its formula is beyond correctionlib, or
            two corrections would have the same name.
    """
    corrections: list[Any] = []
    origin: dict[str, str] = {}
    levels: dict[str, dict[str, Any]] = {}  # of each compound
    for path in paths:
        stem, name = cms_text.parse_name(path)
        if name is not None and tag is not None:
            name = name._replace(tag=tag)
        for table in cms_text.parse(path):
            title = (
                _title(name, table.section) if name else "_".join(filter(None, [tag, stem, table.section]))
            )
            if title in origin:
                raise CorrectionError(f"{path} and {origin[title]} both give {title}; convert them apart")
            origin[title] = str(path)
            made = _correction(table, title, _version(name), str(path))
            corrections.append(made)
            if name is not None and table.kind == "correction" and name.level in LEVELS:
                levels.setdefault(_title(name._replace(level=COMPOUND), ""), {})[name.level] = made
    if not corrections:
        raise CorrectionError("no file to convert; name at least one")
    compounds = [_compound(title, stack) for title, stack in levels.items() if len(stack) == len(LEVELS)]
    return schemav2.CorrectionSet(
        schema_version=2,
        description="CMS jet corrections, converted from text files by trila",
        corrections=corrections,
        compound_corrections=compounds,
    )


def _title(name: FileName, section: str) -> str:
    what = section or {"SF": "ScaleFactor"}.get(name.level, name.level)
    return f"{name.tag}_{name.sample}_{'Regrouped_' if name.regrouped else ''}{what}_{name.algorithm}"


def _version(name: FileName | None) -> int:
    match = re.search(r"V(\d+)\D*$", name.tag) if name else None
    return int(match[1]) if match else 1


def _correction(table: Table, title: str, version: int, path: str) -> Any:
    bins = [_Bin(edges, content) for edges, content in zip(table.bins, _contents(table, path), strict=True)]
    names = sorted({*table.binned, *table.variables})
    inputs = [schemav2.Variable(name=n, type="real", description=_described(n, table)) for n in names]
    if table.kind == "scale factor":
        inputs.append(
            schemav2.Variable(name="systematic", type="string", description=_DESCRIPTIONS["systematic"])
        )
    outside = _OUTSIDE[table.kind]
    return schemav2.Correction(
        name=title,
        description=f"{table.kind}, converted from {Path(path).name}; outside the bins "
        + ("that of the outermost bin" if outside == "clamp" else f"{outside:g}"),
        version=version,
        inputs=inputs,
        output=schemav2.Variable(name="correction", type="real", description=_OUTPUT[table.kind]),
        generic_formulas=_formulas(table, path),
        data=_tree(bins, table.binned, outside, path if not table.section else f"{path}, [{table.section}]"),
    )


def _described(name: str, table: Table) -> str:
    """What an input is, with the range outside of which nothing changes any more, where there is one for all bins."""
    text = _DESCRIPTIONS.get(name, name)
    if name not in table.variables or table.kind == "scale factor":
        return text
    if table.kind == "uncertainty":
        ends = [(numbers[0], numbers[-3]) for numbers in table.parameters]
    else:
        ends = [row[table.variables.index(name)] for row in table.ranges]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return f"{text}, held within {low:g} to {high:g}{'' if len(set(ends)) == 1 else ' or less'}"


def _formulas(table: Table, path: str) -> list[Any] | None:
    if table.kind == "scale factor":
        return None
    expression = _LINE if table.kind == "uncertainty" else tformula.held(table.formula, len(table.variables))
    check_formula(expression, path)
    formula = schemav2.Formula(
        nodetype="formula", parser="TFormula", expression=expression, variables=list(table.variables)
    )
    trial = schemav2.Correction(
        name="trial",
        version=1,
        inputs=[schemav2.Variable(name=name, type="real") for name in table.variables],
        output=schemav2.Variable(name="value", type="real"),
        data=formula.model_copy(update={"parameters": [1.0] * tformula.parameter_count(expression)}),
    )
    try:
        trial.to_evaluator()
    except RuntimeError as error:
        text = " ".join(str(error).split())[:200]
        raise CorrectionError(
            f"{path}: formula {table.formula[:200]}: not for correctionlib: {text}"
        ) from error
    return [formula]


def _contents(table: Table, path: str) -> list[Any]:
    """The content of each row's bin."""
    if table.kind == "scale factor":
        return [_central_up_down(*numbers[:3]) for numbers in table.parameters]
    if table.kind == "uncertainty":
        return [_lines(numbers, table, path) for numbers in table.parameters]
    value = tformula.constant(table.formula)
    if value is not None:
        return [value] * len(table.bins)
    return [
        _reference([end for pair in ranges for end in pair] + list(numbers))
        for ranges, numbers in zip(table.ranges, table.parameters, strict=True)
    ]


def _reference(parameters: Sequence[float]) -> Any:
    return schemav2.FormulaRef(nodetype="formularef", index=0, parameters=list(parameters))


def _central_up_down(central: float, down: float, up: float) -> Any:
    return schemav2.Category(
        nodetype="category",
        input="systematic",
        content=[
            schemav2.CategoryItem(key=key, value=value)
            for key, value in {"nom": central, "up": up, "down": down}.items()
        ],
    )


def _lines(numbers: Sequence[float], table: Table, path: str) -> Any:
    """Straight lines between knots, constant outside; neighbours with the same value become one bin."""
    knots, ups, downs = numbers[::3], numbers[1::3], numbers[2::3]
    if ups != downs:
        raise CorrectionError(
            f"{path}{f', [{table.section}]' if table.section else ''}: up and down differ, which one relative shift "
            "cannot say; convert each as a file of its own"
        )
    if len(set(ups)) == 1:
        return ups[0]
    edges = [knots[0]]
    content: list[Any] = []
    for i, (low, high) in enumerate(pairwise(knots)):
        slope = (ups[i + 1] - ups[i]) / (high - low)
        if not slope and content and content[-1] == ups[i]:
            edges[-1] = high
        else:
            content.append(_reference([low, high, ups[i], slope]) if slope else ups[i])
            edges.append(high)
    return schemav2.Binning(
        nodetype="binning", input=table.variables[0], edges=edges, content=content, flow="clamp"
    )


class _Bin(NamedTuple):
    edges: tuple[tuple[float, float], ...]
    content: Any


def _tree(bins: Sequence[_Bin], names: Sequence[str], outside: Any, place: str, axis: int = 0) -> Any:
    """Boxes as nested binnings: the first variable is cut wherever a box begins or ends, and so on within each piece.

    So a slice in one variable may be finer where another has certain values, and boxes may span several pieces.
    """
    if axis == len(names):
        if len(bins) > 1:
            corners = " and ".join(_described_box(names, item.edges) for item in bins[:2])
            raise CorrectionError(f"{place}: bins overlap: {corners}; expected one bin for each jet")
        return bins[0].content
    cuts = sorted({edge for item in bins for edge in item.edges[axis]})
    edges = [cuts[0]]
    groups: list[list[_Bin]] = []
    for low, high in pairwise(cuts):
        group = [item for item in bins if item.edges[axis][0] <= low and high <= item.edges[axis][1]]
        if not group:
            known = _described_box(names[:axis], bins[0].edges[:axis])
            raise CorrectionError(
                f"{place}: no bin for {names[axis]} from {low:g} to {high:g}{f' at {known}' if known else ''}; "
                "close the gap in the file"
            )
        if groups and group == groups[-1]:
            edges[-1] = high
        else:
            groups.append(group)
            edges.append(high)
    return schemav2.Binning(
        nodetype="binning",
        input=names[axis],
        edges=edges,
        content=[_tree(group, names, outside, place, axis + 1) for group in groups],
        flow=outside,
    )


def _described_box(names: Sequence[str], edges: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in zip(names, edges, strict=True))


def _compound(title: str, stack: dict[str, Any]) -> Any:
    inputs = {variable.name: variable for level in LEVELS for variable in stack[level].inputs}
    return schemav2.CompoundCorrection(
        name=title,
        description=f"product of {', '.join(LEVELS)}, each at the transverse momentum that the ones before have made",
        inputs=[
            inputs[name].model_copy(update={"description": _DESCRIPTIONS.get(name, name)})
            for name in sorted(inputs)
        ],
        output=schemav2.Variable(name="correction", type="real", description=_OUTPUT["correction"]),
        inputs_update=["JetPt"],
        input_op="*",
        output_op="*",
        stack=[stack[level].name for level in LEVELS],
    )
