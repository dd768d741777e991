"""What a correction set holds: each correction's inputs, the range of their bins, and the values of its systematics."""

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from correctionlib import schemav2

__all__ = ["Entry", "Input", "branches", "edges_of", "entries", "metadata"]

_BRANCHES = (schemav2.Binning, schemav2.MultiBinning, schemav2.Category, schemav2.Transform)


class Input(NamedTuple):
    """One input of a correction.

    Attributes:
        name: such as `JetPt`.
        type: `real`, `int` or `string`.
        description: with the unit, if the file says it.
        low: lowest edge of its bins, nan without bins.
        high: highest edge of its bins, nan without bins.
        outside: what happens beyond the bins: `clamp`, `error`, `wrap`, `formula`, or a value; each once.
        keys: the values of a categorical input, in the file's order.
    """

    name: str
    type: str
    description: str
    low: float
    high: float
    outside: tuple[str, ...]
    keys: tuple[str | int, ...]


class Entry(NamedTuple):
    """One correction or compound correction.

    Attributes:
        name: in the file.
        description: its text; empty without.
        inputs: in the order of evaluation; those of a compound with the bins of its stack.
        stack: corrections that a compound applies one after the other; empty for others.
    """

    name: str
    description: str
    inputs: tuple[Input, ...]
    stack: tuple[str, ...]


def entries(corrections: Any) -> list[Entry]:
    """The corrections of a `correctionlib.schemav2.CorrectionSet`, compounds last."""
    found = [_entry(item, [item], ()) for item in corrections.corrections]
    for item in corrections.compound_corrections or []:
        stack = [member for member in corrections.corrections if member.name in item.stack]
        found.append(_entry(item, stack, tuple(item.stack)))
    return found


def metadata(corrections: Any) -> dict[str, Any]:
    """What a set's description says as a JSON object, as in files of this package; its text as `description` in others."""
    text = corrections.description or ""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    return {"description": text} if text else {}


def _entry(item: Any, corrections: list[Any], stack: tuple[str, ...]) -> Entry:
    nodes = [node for correction in corrections for node in branches(correction.data)]
    inputs = tuple(_input(variable, nodes) for variable in item.inputs)
    return Entry(item.name, item.description or "", inputs, stack)


def _input(variable: Any, nodes: list[Any]) -> Input:
    low, high = math.nan, math.nan
    outside: dict[str, None] = {}
    keys: dict[str | int, None] = {}
    # below a transform the input is something else, such as its logarithm
    transformed = {
        id(below)
        for node in nodes
        if isinstance(node, schemav2.Transform) and node.input == variable.name
        for below in branches(node.content)
    }
    for node in nodes:
        for name, edges in edges_of(node):
            if name == variable.name and id(node) not in transformed:
                low, high = min(edges[0], low), max(edges[-1], high)  # nan gives way
                outside[_outside(node.flow)] = None
        if isinstance(node, schemav2.Category) and node.input == variable.name:
            keys |= dict.fromkeys(item.key for item in node.content)
    return Input(
        variable.name, variable.type, variable.description or "", low, high, tuple(outside), tuple(keys)
    )


def _outside(flow: Any) -> str:
    if isinstance(flow, float):
        return f"{flow:g}"
    return flow if isinstance(flow, str) else "formula"


def branches(node: Any) -> Iterator[Any]:
    """The nodes that branch, at or below a node of the schema: binnings, categories and transforms, but no leaves."""
    if isinstance(node, schemav2.Binning | schemav2.MultiBinning):
        below = [*node.content, node.flow]
    elif isinstance(node, schemav2.Category):
        below = [item.value for item in node.content] + ([] if node.default is None else [node.default])
    elif isinstance(node, schemav2.Transform):
        below = [node.rule, node.content]
    else:
        return
    yield node
    for child in below:
        if isinstance(child, _BRANCHES):  # most are leaves, for which a generator each would take long
            yield from branches(child)


def edges_of(node: Any) -> list[tuple[str, list[float]]]:
    """Inputs and edges of a binning, one pair per axis; none for other nodes."""
    if isinstance(node, schemav2.Binning):
        return [(node.input, _edges(node.edges))]
    if isinstance(node, schemav2.MultiBinning):
        return [(name, _edges(edges)) for name, edges in zip(node.inputs, node.edges, strict=True)]
    return []


def _edges(edges: Any) -> list[float]:
    if isinstance(edges, schemav2.UniformBinning):
        return [edges.low + (edges.high - edges.low) * i / edges.n for i in range(edges.n + 1)]
    return [float(edge) for edge in edges]
