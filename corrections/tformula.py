"""Formulas of CMS text files (ROOT's TFormula) in the dialect that correctionlib reads.

correctionlib knows a part of TFormula: no `TMath::`, no `.5`, `1e+2`, unary `+` or `[p0]`, and `-x^2` is (-x)^2 there
but -(x^2) in ROOT. What can be said in its dialect is translated; the rest is refused, with the place.
"""

import math
import re
from collections.abc import Sequence

from trila.corrections.correction_text import CorrectionError

__all__ = ["VARIABLES", "constant", "held", "parameter_count"]

VARIABLES = ("x", "y", "z", "t")
"""Names of a formula's variables, in their order."""

_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|\[p?(?P<parameter>\d{1,4})\]"
    r"|(?P<name>(?:\w+::)*[A-Za-z_]\w*(?:\(\))?)"
    r"|(?P<symbol><=|>=|==|!=|&&|\|\||\*\*|[-+*/^()<>,])"
)
_TMATH = {
    "Sqrt": "sqrt", "Abs": "abs", "Exp": "exp", "Log": "log", "Log10": "log10", "Erf": "erf", "Power": "pow",
    "Min": "min", "Max": "max", "ATan2": "atan2", "Sin": "sin", "Cos": "cos", "Tan": "tan", "ASin": "asin",
    "ACos": "acos", "ATan": "atan", "SinH": "sinh", "CosH": "cosh", "TanH": "tanh", "ASinH": "asinh",
    "ACosH": "acosh", "ATanH": "atanh",
}  # fmt: skip
_FUNCTIONS = {"fabs": "abs"} | {name: name for name in _TMATH.values()}
_FUNCTIONS |= {f"TMath::{root}": name for root, name in _TMATH.items()}
_CONSTANTS = {"pi": math.pi, "TMath::Pi()": math.pi, "TMath::E()": math.e}
_BEFORE_A_SIGN = ("(", ",", "+", "-", "*", "/", "^", "<", ">", "<=", ">=", "==", "!=", "&&", "||")


def constant(expression: str) -> float | None:
    """The value of a formula that is just a number, else nothing."""
    try:
        return float(expression)
    except ValueError:
        return None


def parameter_count(expression: str) -> int:
    """How many parameters a formula needs: one more than the highest number.

    >>> parameter_count("[0]+[p2]*x")
    3
    """
    return max(
        (int(match["parameter"]) + 1 for match in _TOKEN.finditer(expression) if match["parameter"]),
        default=0,
    )


def held(expression: str, n_variables: int) -> str:
    """A formula for correctionlib, in which every variable is held within a range.

    Variable i becomes `max([2i],min([2i+1],x))`, and the formula's own parameters follow these: correctionlib's
    `clamp` holds the bin, not the variable.

    Args:
        expression: as ROOT's TFormula has it.
        n_variables: how many of `VARIABLES` the formula may use.

    Raises:
        CorrectionError: correctionlib has no such function, operator or variable.

    >>> held("[0]-.5*TMath::Log10(x)", 1)
    '[2]-0.5*log10(max([0],min([1],x)))'
    """
    tokens = _tokens(expression)
    result: list[str] = []
    for i, token in enumerate(tokens):
        if token[0] == "[":
            result.append(f"[{int(token[1:-1]) + 2 * n_variables}]")
        elif token in VARIABLES:
            k = 2 * VARIABLES.index(token)
            if k >= 2 * n_variables:
                raise CorrectionError(
                    f"formula {expression[:200]}: '{token}' is none of its {n_variables} variables"
                )
            result.append(f"max([{k}],min([{k + 1}],{token}))")
        elif token in ("+", "-") and _is_sign(tokens, i):
            result.append(_sign(tokens, i, expression))
        else:
            if token == "^" and _follows(tokens, i + 1) == "^":
                raise CorrectionError(f"formula {expression[:200]}: a^b^c is read in two ways; put brackets")
            result.append(token)
    return "".join(result)


def _tokens(expression: str) -> list[str]:
    """Numbers, parameters as `[i]`, variables, correctionlib's functions, and operators."""
    tokens: list[str] = []
    position = 0
    text = re.sub(r"\s", "", expression)
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise CorrectionError(
                f"formula {expression[:200]}: correctionlib has no '{text[position]}'; comparisons give 0 or 1, so that "
                "(x<[0])*a+(x>=[0])*b can stand for a choice"
            )
        position = match.end()
        if match["number"]:
            tokens.append(repr(float(match["number"])).replace("e+", "e"))
        elif match["parameter"]:
            tokens.append(f"[{int(match['parameter'])}]")
        elif (name := match["name"]) in _CONSTANTS:
            tokens.append(repr(_CONSTANTS[name]))
        elif name in VARIABLES:
            tokens.append(name)
        elif name and name not in _FUNCTIONS:
            known = ", ".join(sorted(set(_FUNCTIONS.values())))
            raise CorrectionError(
                f"formula {expression[:200]}: correctionlib has no '{name}'; it has {known}"
            )
        else:
            tokens.append(_FUNCTIONS[name] if name else match["symbol"].replace("**", "^"))
    return tokens


def _is_sign(tokens: Sequence[str], i: int) -> bool:
    """Whether a plus or minus stands before an operand and not between two."""
    return i == 0 or tokens[i - 1] in _BEFORE_A_SIGN


def _sign(tokens: Sequence[str], i: int, expression: str) -> str:
    if tokens[i] == "+":
        return ""
    if _follows(tokens, i + 1) != "^":
        return "-"
    if i and tokens[i - 1] in ("/", "^"):  # the factor below would belong to the left side
        raise CorrectionError(
            f"formula {expression[:200]}: put brackets around the power after '{tokens[i - 1]}-'"
        )
    return "-1.0*"  # in correctionlib (2.9) a sign binds stronger than a power


def _follows(tokens: Sequence[str], i: int) -> str | None:
    """The token after the operand that starts at `i`: a number, a name, a bracket, or a function's call."""
    while i < len(tokens) and (tokens[i] in ("+", "-") or tokens[i] in _FUNCTIONS):
        i += 1
    depth = 0
    while i < len(tokens):
        depth += (tokens[i] == "(") - (tokens[i] == ")")
        i += 1
        if depth <= 0:
            break
    return tokens[i] if i < len(tokens) else None
