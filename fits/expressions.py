"""Functions of spectra that the user writes as an expression: `expr:EXPRESSION; p0=START, p1=START`.

    expr:p0 * exp(-p1*x) * x**-p2; p1=10, p2=5

An expression has

| what | meaning |
| --- | --- |
| `m`, `x`, `t` | mass in GeV, m/√s, (m - low)/(high - low) of the fit range |
| `p0`, `p1`, ... | parameters, without gaps |
| `+ - * / **` and brackets | `**` is a power |
| `exp log log1p expm1 sqrt abs` | of one argument; `log` is the natural logarithm |
| `pow min max` | of two |

Start values that are not given are 1; where the density is proportional to p0, p0 starts from the data. The text is
parsed into a tree of these and nothing else: no part of it is ever run as Python, and its length, depth and powers are
limited.
"""

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from trila.fits.errors import FitError
from trila.fits.families import Domain, SpectrumFunction
from trila.fits.starts import GivenStart

__all__ = ["PREFIX", "Expression", "expression"]

PREFIX = "expr:"
"""What the name of an expression begins with."""

_LONGEST = 2000
"""Characters."""
_DEEPEST = 60
"""Levels of brackets, operators and calls."""
_HIGHEST = 100.0
"""Power, where it is a number."""
_MOST = 20
"""Parameters."""
_VARIABLES = ("m", "x", "t")
_OPERATORS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "negative": operator.neg,
}
_SYMBOLS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
}
#: Name and number of arguments of a function, as the array libraries call it.
_CALLS = {
    "exp": ("exp", 1),
    "log": ("log", 1),
    "log1p": ("log1p", 1),
    "expm1": ("expm1", 1),
    "sqrt": ("sqrt", 1),
    "abs": ("abs", 1),
    "pow": ("**", 2),
    "min": ("minimum", 2),
    "max": ("maximum", 2),
}
_ALLOWED = re.compile(r"[A-Za-z0-9.+\-*/(), ]*")
_PARAMETER = re.compile(r"p(0|[1-9]\d?)")

#: A number, the name of a variable or parameter, or an operation and what it is applied to.
Node = float | str | tuple[Any, ...]


@dataclass(frozen=True)
class Expression:
    """The density that a parsed expression stands for.

    Attributes:
        tree: a number, a name, or (operation, tree, ...).
    """

    tree: Node

    def __call__(self, mass: Any, parameters: Any, domain: Domain) -> Any:
        names = {
            "m": mass,
            "x": mass / domain.sqrt_s,
            "t": (mass - domain.low) / (domain.high - domain.low),
        } | {f"p{i}": parameters[i] for i in range(parameters.shape[0])}
        xp = parameters.__array_namespace__()
        # An expression without m, x and t is a number.
        return xp.broadcast_to(xp.asarray(_value(self.tree, xp, names)), mass.shape)


@lru_cache(maxsize=256)
def expression(name: str) -> SpectrumFunction:
    """The function of an expression.

    Args:
        name: `expr:EXPRESSION` or `expr:EXPRESSION; p0=START, p1=START`.

    Raises:
        FitError: no such variable, function or operator, too long, too deep, too high a power, gaps in the numbers of
            the parameters, or start values that are no numbers.

    >>> density = expression("expr:p0 * x**-p1").density
    >>> density(np.array([1300.0]), np.array([2.0, 3.0]), Domain(500.0, 2000.0, 13000.0)).round(9).tolist()
    [2000.0]
    """
    text, separator, starts = name.removeprefix(PREFIX).partition(";")
    tree, parameters = _parsed(text.strip())
    values = _start_values(starts, parameters) if separator else (1.0,) * len(parameters)
    density = Expression(tree)
    return SpectrumFunction(
        name, parameters, density, GivenStart(_shown(text), density, values), "expression", "the user"
    )


def _value(node: Node, xp: Any, names: dict[str, Any]) -> Any:
    if isinstance(node, float):
        return node
    if isinstance(node, str):
        return names[node]
    arguments = [_value(argument, xp, names) for argument in node[1:]]
    apply = _OPERATORS[node[0]] if node[0] in _OPERATORS else getattr(xp, node[0])
    return apply(*arguments)


def _parsed(text: str) -> tuple[Node, tuple[str, ...]]:
    """The tree of an expression, and its parameters."""
    if not 0 < len(text) <= _LONGEST:
        raise FitError(
            f"expression of {len(text)} characters, expected 1 to {_LONGEST}; write a Python function instead and give "
            "it as FILE.py:NAME."
        )
    allowed = _ALLOWED.match(text)
    if allowed is not None and allowed.end() < len(text):
        character = text[allowed.end()]
        remedy = "write ** for a power." if character == "^" else f"use {_known()}."
        raise FitError(f"expression '{_shown(text)}' has {character!r}, which none needs; {remedy}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numbers that run into words, which are refused below
            root = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "too deep"
        raise FitError(
            f"expression '{_shown(text)}' cannot be read ({reason}); check its brackets and operators."
        ) from error
    found: set[str] = set()
    tree = _node(root, text, 0, found)
    count = len(found)
    parameters = tuple(f"p{i}" for i in range(count))
    if not 0 < count <= _MOST or found != set(parameters):
        given = ", ".join(sorted(found, key=lambda p: int(p[1:]))) or "none"
        raise FitError(
            f"expression '{_shown(text)}' has the parameters {given}, expected p0, p1, ... without gaps and at most "
            f"{_MOST}; number them again."
        )
    return tree, parameters


def _node(node: ast.expr, text: str, depth: int, found: set[str]) -> Node:
    """A part of the tree; parameters are added to those found."""
    if depth > _DEEPEST:
        raise FitError(
            f"expression '{_shown(text)}' is more than {_DEEPEST} levels deep; leave out brackets that it does not "
            "need."
        )

    def inner(part: ast.expr) -> Node:
        return _node(part, text, depth + 1, found)

    match node:
        case ast.Constant(value=float() | int() as value) if not isinstance(value, bool):
            return _number(value, text)
        case ast.Name(id=name):
            if _PARAMETER.fullmatch(name):
                found.add(name)
            elif name not in _VARIABLES:
                raise FitError(f"expression '{_shown(text)}' has an unknown '{name}'; use {_known()}.")
            return name
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return inner(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _applied("negative", (inner(operand),), text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _SYMBOLS:
            return _applied(_SYMBOLS[type(op)], (inner(left), inner(right)), text)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _CALLS:
            function, count = _CALLS[name]
            if len(arguments) != count:
                raise FitError(
                    f"expression '{_shown(text)}' gives {name} {len(arguments)} arguments, expected {count}; separate "
                    "them with commas."
                )
            return _applied(function, tuple(inner(argument) for argument in arguments), text)
        case ast.Call(func=ast.Name(id=name)) if name not in _CALLS:
            raise FitError(f"expression '{_shown(text)}' has an unknown function '{name}'; use {_known()}.")
    raise FitError(f"expression '{_shown(text)}' has '{_shown(ast.unparse(node))}'; use {_known()}.")


def _applied(function: str, arguments: tuple[Node, ...], text: str) -> Node:
    """An operation in the tree, or its value where it is applied to numbers alone."""
    if function == "**" and isinstance(arguments[1], float) and abs(arguments[1]) > _HIGHEST:
        raise FitError(
            f"expression '{_shown(text)}' has the power {arguments[1]:g}, expected one between -{_HIGHEST:g} and "
            f"{_HIGHEST:g}; use exp for steeper functions."
        )
    numbers = [np.float64(argument) for argument in arguments if isinstance(argument, float)]
    if len(numbers) < len(arguments):
        return (function, *arguments)
    with np.errstate(all="ignore"):
        return _number(float(_value((function, *numbers), np, {})), text)


def _number(value: float, text: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FitError(
            f"expression '{_shown(text)}' has a number that is not finite, expected one below 1e308; check its powers "
            "and divisions."
        )
    return number


def _start_values(text: str, parameters: tuple[str, ...]) -> tuple[float, ...]:
    """The values of `p0=1e6, p1=10`, and 1 for parameters that it leaves out."""
    values = dict.fromkeys(parameters, 1.0)
    given: set[str] = set()
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if name not in values or name in given or not math.isfinite(value):
            raise FitError(
                f"start value '{_shown(part)}', expected one number for each of {', '.join(parameters)}, such as "
                f"'{PREFIX}...; p0=1e6'; correct it or leave it out."
            )
        given.add(name)
        values[name] = value
    return tuple(values.values())


def _known() -> str:
    return f"numbers, + - * / **, m, x, t, p0, p1, ... and {', '.join(sorted(_CALLS))}"


def _shown(text: str) -> str:
    """A text for a message: the beginning of a long one, without control characters."""
    line = "".join(character if character.isprintable() else "?" for character in text.strip())
    return line if len(line) <= 60 else f"{line[:57]}..."
