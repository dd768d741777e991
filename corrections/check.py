"""Pitfalls of correction sets: what is of the schema and can be evaluated, and yet gives wrong numbers.

Every correction is evaluated at random points within its bins, beyond them, and at NaN. Problems should keep a file
from being used; notes say what its user has to take care of.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import correctionlib
import numpy as np
from correctionlib import schemav2
from numpy.typing import NDArray

from trila.corrections.contents import Entry, Input, branches, edges_of, entries
from trila.corrections.correction_set import read
from trila.corrections.correction_text import CorrectionError

__all__ = ["Finding", "check"]

_POINTS = 200
_CHOICES = 64  # combinations of categories that are evaluated
_CMS_KEYS = ({"nom", "up", "down"}, {"up", "down"})
#: Where inputs without bins are evaluated; 0 to 1 if not here.
_TYPICAL = {
    "JetPt": (10.0, 3000.0), "JetEta": (-2.5, 2.5), "JetPhi": (-math.pi, math.pi), "JetA": (0.3, 0.7),
    "JetE": (20.0, 5000.0), "JetMass": (1.0, 300.0), "Rho": (1.0, 60.0), "run": (1.0, 500_000.0),
}  # fmt: skip


class Finding(NamedTuple):
    """Something to know about a correction.

    Attributes:
        correction: its name.
        problem: whether it gives wrong numbers; else it is a note.
        text: what was found, and what to do.
    """

    correction: str
    problem: bool
    text: str


def check(path: str | Path) -> list[Finding]:
    """What is wrong with a correction set, correction by correction.

    Raises:
        CorrectionError: it cannot be read, is not of the schema, or a correction cannot be evaluated.
    """
    corrections = read(path)
    try:
        evaluator = correctionlib.CorrectionSet(corrections.model_copy(update={"compound_corrections": None}))
    except (RuntimeError, IndexError) as error:
        raise CorrectionError(f"correction file {path} cannot be evaluated: {_line(error)}") from error
    models = {item.name: item for item in corrections.corrections}
    findings: list[Finding] = []
    for entry in entries(corrections):
        if entry.name in models:
            texts = itertools.chain(
                _phi(entry), _extrapolation(models[entry.name]), _values(entry, evaluator[entry.name])
            )
            findings += [Finding(entry.name, True, text) for text in texts]
            findings += [Finding(entry.name, False, text) for text in _nan(entry, evaluator[entry.name])]
            findings += _systematics(entry)
    for compound in corrections.compound_corrections or []:
        findings += [Finding(compound.name, True, text) for text in _stack(compound, models)]
    return findings


def _stack(compound: Any, models: dict[str, Any]) -> Iterator[str]:
    given = [variable.name for variable in compound.inputs]
    for name in compound.inputs_update:
        if name not in given:
            yield f"updates '{name}', which is none of its inputs; add it to them"
    for name in compound.stack:
        if name not in models:
            yield f"its stack names '{name}', which is not in the file; put it there, or take it out of the stack"
            continue
        missing = [variable.name for variable in models[name].inputs if variable.name not in given]
        if missing:
            yield f"'{name}' of its stack needs {', '.join(missing)}; add to the compound's inputs"


def _systematics(entry: Entry) -> Iterator[Finding]:
    """Names of variations: `nominal` and pairs of `<source>_up` and `<source>_down`, or those of CMS scale factors."""
    keys = {str(key) for item in entry.inputs if item.name == "systematic" for key in item.keys}
    if keys in _CMS_KEYS:
        yield Finding(
            entry.name,
            False,
            f"systematics are called {', '.join(sorted(keys))} as in CMS, not nominal, <source>_up",
        )
        return
    if keys and "nominal" not in keys:
        yield Finding(entry.name, True, "systematics have no 'nominal'; add it")
    for key in sorted(keys - {"nominal"}):
        source, _, direction = key.rpartition("_")
        if not source or direction not in ("up", "down"):
            yield Finding(
                entry.name,
                True,
                f"systematic '{key}' is not nominal, <source>_up or <source>_down; rename it",
            )
        elif f"{source}_{'down' if direction == 'up' else 'up'}" not in keys:
            yield Finding(entry.name, True, f"systematic '{key}' lacks its opposite; add it")


def _phi(entry: Entry) -> Iterator[str]:
    for item in entry.inputs:
        if (
            item.name == "JetPhi"
            and "wrap" not in item.outside
            and (item.low > -math.pi or item.high < math.pi)
        ):
            yield f"bins of JetPhi from {item.low:g} to {item.high:g} leave out directions; expected -pi to pi"


def _extrapolation(correction: Any) -> Iterator[str]:
    """Formulas in an outermost bin with `clamp` that change beyond it: it holds the bin, not the variable."""
    for (name, upper), cases in _outermost(correction).items():
        changed = [edge for edge, goes_on in zip(*_beyond(cases, name, upper), strict=True) if goes_on]
        if changed:
            yield (
                f"goes on {'above' if upper else 'below'} {name} {min(changed) if upper else max(changed):g}, although "
                f"its bins are clamped, in {len(changed)} of {len(cases)} formulas; put max(lo,min(hi,x)) into them"
            )


def _outermost(correction: Any) -> dict[tuple[str, bool], list[tuple[float, Any]]]:
    """Edge and formula in every outermost bin that is clamped, for each input and its upper or lower end."""
    found: dict[tuple[str, bool], list[tuple[float, Any]]] = {}
    rewritten = {
        (id(below), node.input)
        for node in branches(correction.data)
        if isinstance(node, schemav2.Transform)
        for below in branches(node.content)
    }
    for node in branches(correction.data):
        axes = edges_of(node)
        if not axes or node.flow != "clamp":
            continue
        index = np.arange(len(node.content)).reshape([len(edges) - 1 for _, edges in axes])
        for axis, (name, edges) in enumerate(axes):
            for upper, edge in ((False, edges[0]), (True, edges[-1])):
                if math.isinf(edge) or (id(node), name) in rewritten:
                    continue
                for i in index.take(-1 if upper else 0, axis=axis).ravel():
                    cases = found.setdefault((name, upper), [])
                    cases += [(edge, formula) for formula in _formulas(node.content[i], name, correction)]
    return found


def _beyond(cases: Sequence[tuple[float, Any]], name: str, upper: bool) -> tuple[list[float], list[bool]]:
    """The edges, and whether the formula there differs between its edge and a point beyond, the others being typical."""
    real = {formula_input: "real" for _, formula in cases for formula_input in formula.variables}
    inputs = [schemav2.Variable(name=variable, type=kind) for variable, kind in real.items()]
    output = schemav2.Variable(name="value", type="real")
    evaluator = correctionlib.CorrectionSet(
        schemav2.CorrectionSet(
            schema_version=2,
            corrections=[
                schemav2.Correction(name=str(i), version=1, inputs=inputs, output=output, data=formula)
                for i, (_, formula) in enumerate(cases)
            ],
        )
    )
    goes_on = []
    for i, (edge, _) in enumerate(cases):
        beyond = (1.0 if upper else -1.0) if edge == 0 else edge * 2 if upper == (edge > 0) else edge / 2
        values = [
            evaluator[str(i)].evaluate(*(at if n == name else sum(_TYPICAL.get(n, (0, 1))) / 2 for n in real))
            for at in (edge, beyond)
        ]
        goes_on.append(not math.isclose(*values, rel_tol=1e-9))
    return [edge for edge, _ in cases], goes_on


def _formulas(node: Any, name: str, correction: Any) -> Iterator[Any]:
    """Formulas of an input below a node, unless something on the way bins or rewrites the input again."""
    if isinstance(node, schemav2.FormulaRef):
        formula = correction.generic_formulas[node.index]
        node = formula.model_copy(update={"parameters": node.parameters})
    if isinstance(node, schemav2.Formula):
        if name in node.variables:
            yield node
    elif isinstance(node, schemav2.Category):
        for item in node.content:
            yield from _formulas(item.value, name, correction)
    elif isinstance(node, schemav2.Transform) and node.input != name:
        yield from _formulas(node.content, name, correction)
    elif name not in dict(edges_of(node)):
        for item in getattr(node, "content", []):
            yield from _formulas(item, name, correction)


def _values(entry: Entry, evaluator: Any) -> Iterator[str]:
    """Points within the bins that are refused, or where the value is not finite."""
    columns = _columns(entry)
    for choice in itertools.islice(itertools.product(*(_choices(item) for item in entry.inputs)), _CHOICES):
        where = ", ".join(f"{i.name} {c}" for i, c in zip(entry.inputs, choice, strict=True) if c is not None)
        where = f" ({where})" if where else ""
        arguments = [column if c is None else c for column, c in zip(columns, choice, strict=True)]
        try:
            values = np.atleast_1d(evaluator.evaluate(*arguments))
        except (RuntimeError, IndexError) as error:
            refused = sum(_refuses(evaluator, arguments, i) for i in range(_POINTS))
            yield f"refuses {refused} of {_POINTS} points within its bins{where}: {_line(error)}; close the gap"
            return
        wrong = int(np.count_nonzero(~np.isfinite(values)))
        if wrong:
            yield f"is not finite at {wrong} of {len(values)} points within its bins{where}; mend the formula"
            return


def _choices(item: Input) -> tuple[Any, ...]:
    """Values of an input of categories; nothing to choose for one of numbers."""
    return item.keys or (("",) if item.type == "string" else (None,))


def _refuses(evaluator: Any, arguments: Sequence[Any], i: int) -> bool:
    try:
        evaluator.evaluate(*(a[i].item() if isinstance(a, np.ndarray) else a for a in arguments))
    except (RuntimeError, IndexError):
        return True
    return False


def _columns(entry: Entry) -> list[NDArray[Any]]:
    """Random points within the bins of all inputs, and at typical values of inputs without bins."""
    random = np.random.default_rng(1)
    columns = []
    for item in entry.inputs:
        typical = _TYPICAL.get(item.name, (0.0, 1.0))
        low = item.low if math.isfinite(item.low) else typical[0]
        high = item.high if math.isfinite(item.high) else typical[1]
        if low >= high:  # one end is infinite, and the other beyond what is typical
            low, high = (low, low + 1) if math.isfinite(item.low) else (high - 1, high)
        values = random.uniform(low, high, _POINTS)
        columns.append(values.astype(np.int64) if item.type == "int" else values)
    return columns


def _nan(entry: Entry, evaluator: Any) -> Iterator[str]:
    """Inputs for which correctionlib takes NaN for a number in some bin."""
    silent = []
    arguments = [
        column[0].item() if (choice := _choices(item)[0]) is None else choice
        for item, column in zip(entry.inputs, _columns(entry), strict=True)
    ]
    for i, item in enumerate(entry.inputs):
        if item.type == "real":
            try:
                value = evaluator.evaluate(*arguments[:i], math.nan, *arguments[i + 1 :])
            except (RuntimeError, IndexError):
                continue
            silent += [item.name] if math.isfinite(value) else []
    if silent:
        yield f"NaN in {', '.join(silent)} gives a number; make sure that there is none"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
