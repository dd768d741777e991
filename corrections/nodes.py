"""Building blocks of correctionlib files: smooth curves, clamped inside, and bins of η.

Nodes are plain dictionaries of correctionlib's schema v2; `trila.corrections.correction_set.write` validates the whole.
correctionlib's `clamp` holds the number of the bin, not the variable, so a formula in the last bin would go on to rise:
here the variable itself is held, by a `transform` node around the bins.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

__all__ = [
    "REFUSE", "SPLINE_FORMULA", "by_eta", "by_run", "clamped", "formula", "knots_for", "spline", "switch", "variable",
]  # fmt: skip

Array = NDArray[np.float64]
Node = dict[str, Any]

#: What every spline's pieces refer to, as formula 0 of the correction: a cubic in the distance from its left end.
SPLINE_FORMULA: Node = {
    "nodetype": "formula",
    "parser": "TFormula",
    "variables": ["JetPt"],
    "expression": "[1]+(x-[0])*([2]+(x-[0])*([3]+(x-[0])*[4]))",
}

#: Content that no jet may reach: correctionlib raises an error.
REFUSE: Node = {
    "nodetype": "binning", "input": "JetPt", "edges": [1e300, 2e300], "flow": "error", "content": [1.0],
}  # fmt: skip


def variable(name: str) -> Node:
    """An input of a correction, with its unit."""
    texts = {
        "JetPt": "pT of the jet [GeV]",
        "JetEta": "pseudorapidity of the jet",
        "JetA": "area of the jet",
        "Rho": "pile-up density of the event [GeV]",
        "run": "run number",
        "systematic": "nominal, or <source>_up or <source>_down; nominal for a source of another correction",
    }
    return {
        "name": name, "type": "string" if name == "systematic" else "real", "description": texts[name],
    }  # fmt: skip


def formula(expression: str, variables: Sequence[str], parameters: Sequence[float] = ()) -> Node:
    """A formula in x, y, z, t: the variables in this order, and [0], [1], ...: the parameters."""
    return {
        "nodetype": "formula", "parser": "TFormula", "variables": list(variables), "expression": expression,
        "parameters": [float(p) for p in parameters],
    }  # fmt: skip


def clamped(content: Any, low: float, high: float, *, logarithm: bool = False) -> Node:
    """Content that sees JetPt held between two values (GeV), or its logarithm."""
    rule = "log(max([0],min([1],x)))" if logarithm else "max([0],min([1],x))"
    return {
        "nodetype": "transform", "input": "JetPt", "rule": formula(rule, ["JetPt"], [low, high]), "content": content,
    }  # fmt: skip


def knots_for(function: Callable[[Array], Array], low: float, high: float, tolerance: float = 1e-7) -> Array:
    """So many equidistant points that a cubic spline through them follows a smooth function to `tolerance`."""
    check = np.linspace(low, high, 2001)
    wanted = function(check)
    for number in (5, 9, 17, 33, 65, 129):
        points = np.linspace(low, high, number)
        if np.max(np.abs(CubicSpline(points, function(points))(check) - wanted)) < tolerance:
            break
    return points


def spline(points: ArrayLike, values: ArrayLike) -> Node:
    """A cubic spline in ln(JetPt/GeV), constant outside of its points; refers to `SPLINE_FORMULA`.

    Args:
        points: ln of pT in GeV, ascending, shape (n,), n >= 2.
        values: at the points.
    """
    u = np.asarray(points, dtype=np.float64)
    pieces = CubicSpline(u, values)
    content = [
        {
            "nodetype": "formularef",
            "index": 0,
            "parameters": [float(start), *(float(c) for c in reversed(piece))],
        }
        for start, piece in zip(u[:-1], pieces.c.T, strict=True)
    ]
    bins = {
        "nodetype": "binning", "input": "JetPt", "edges": u.tolist(), "flow": "clamp", "content": content,
    }  # fmt: skip
    return clamped(bins, float(np.exp(u[0])), float(np.exp(u[-1])), logarithm=True)


def by_eta(edges: Sequence[float], content: Sequence[Any]) -> Node:
    """Content for each bin of JetEta; jets outside of all are refused."""
    return {
        "nodetype": "binning", "input": "JetEta", "edges": [float(e) for e in edges], "flow": "error",
        "content": list(content),
    }  # fmt: skip


def by_run(firsts: Sequence[int], last: int, content: Sequence[Any]) -> Node:
    """Content for each range of runs, given their first runs and the last one of all; other runs are refused."""
    edges = [float(first) for first in firsts] + [last + 1.0]
    return {"nodetype": "binning", "input": "run", "edges": edges, "flow": "error", "content": list(content)}


def switch(choices: Mapping[str, Any], otherwise: Any | None = None) -> Node:
    """Content for each value of `systematic`; `otherwise` for the values that are not listed."""
    node: Node = {
        "nodetype": "category", "input": "systematic",
        "content": [{"key": key, "value": value} for key, value in choices.items()],
    }  # fmt: skip
    return node if otherwise is None else {**node, "default": otherwise}
