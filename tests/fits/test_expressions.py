"""Expressions of the user: their values, and that nothing but an expression passes."""

import math
import pickle
import time

import numpy as np
import pytest

from trila.fits.errors import FitError
from trila.fits.expressions import expression
from trila.fits.families import Domain

DOMAIN = Domain(500.0, 2500.0, 13000.0)
MASSES = np.array([600.0, 1300.0, 2400.0])
P = np.array([3.0, 2.0, 0.5])

#: Expressions and the same in plain Python, of m, x, t and parameters.
VALUES = {
    "p0*exp(-p1*x)*x**-p2": lambda m, x, t, p: p[0] * math.exp(-p[1] * x) * x ** (-p[2]),
    "p0 - p1 - p2": lambda m, x, t, p: p[0] - p[1] - p[2],
    "p0 / p1 / p2 * m": lambda m, x, t, p: p[0] / p[1] / p[2] * m,
    "-p1**2 * p0 + p2": lambda m, x, t, p: -(p[1] ** 2) * p[0] + p[2],
    "p0 ** p1 ** p2": lambda m, x, t, p: p[0] ** (p[1] ** p[2]),
    "+p0 * (1 + p1 * t) ** 2 - 1.5e-3 * p2": lambda m, x, t, p: p[0] * (1 + p[1] * t) ** 2 - 1.5e-3 * p[2],
    "p0*log(m) + p1*log1p(-x) + p2*expm1(x)": lambda m, x, t, p: (
        p[0] * math.log(m) + p[1] * math.log(1 - x) + p[2] * (math.exp(x) - 1)
    ),
    "sqrt(p0) * abs(-p1) * pow(t, p2)": lambda m, x, t, p: p[0] ** 0.5 * p[1] * t ** p[2],
    "min(p0*t, p1) + max(p2, x)": lambda m, x, t, p: min(p[0] * t, p[1]) + max(p[2], x),
    "p0 + p1 * p2": lambda m, x, t, p: p[0] + p[1] * p[2],
    "p0*2**3**2/pow(2, 9)+0*p1*p2": lambda m, x, t, p: p[0],
}


@pytest.mark.parametrize("text", VALUES)
def test_values_are_those_of_python(text: str) -> None:
    function = expression(f"expr:{text}")
    assert function.parameters == ("p0", "p1", "p2")
    expected = [VALUES[text](m, m / 13000.0, (m - 500.0) / 2000.0, P) for m in MASSES]
    np.testing.assert_allclose(function.density(MASSES, P, DOMAIN), expected, rtol=1e-14)


def test_jax_and_numpy_agree() -> None:
    import jax

    densities = [expression(f"expr:{text}").density for text in VALUES]
    with jax.enable_x64(True):
        found = jax.jit(lambda p: [density(MASSES, p, DOMAIN) for density in densities])(P)
    for density, values in zip(densities, found, strict=True):
        assert values.shape == MASSES.shape
        np.testing.assert_allclose(values, density(MASSES, P, DOMAIN), rtol=1e-12)


def test_an_expression_is_equal_to_itself_and_can_be_sent() -> None:
    text = "expr:p0 * exp(-p1*x); p0=1e6"
    function = expression(text)
    assert expression(text) is function
    assert function.name == text
    copy = pickle.loads(pickle.dumps(function))
    assert copy == function
    assert hash(copy) == hash(function)
    assert expression("expr:p0 * exp(p1*x); p0=1e6") != function


def test_start_values() -> None:
    function = expression("expr:p0 - 1 + p1*x + p2*t; p2 = -1e-3 ,p0=2.5")
    rows = function.start(MASSES, np.ones(3), np.ones(3), DOMAIN)
    np.testing.assert_array_equal(rows, [[2.5, 1.0, -1e-3]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('true')", r"'__import__.* has '_', which none needs; use numbers"),
        ("p0.real", r"has 'p0\.real'; use numbers, \+ - \* / \*\*, m, x, t, p0, p1, \.\.\. and abs, exp"),
        ("lambda: p0", r"has ':', which none needs"),
        ("p0[0]", r"has '\[', which none needs"),
        ("p0 if m else t", r"has 'p0 if m else t'; use numbers"),
        ("p0 and m", r"has 'p0 and m'; use"),
        ("not p0", r"has 'not p0'; use"),
        ("p0 // m", r"has 'p0 // m'; use"),
        ("True * p0", r"has 'True'; use"),
        ("None", r"has 'None'; use"),
        ("p0 * 1j", r"has '1j'; use"),
        ("(p0, m)", r"has '\(p0, m\)'; use"),
        ("p0 ^ 2", r"has '\^', which none needs; write \*\* for a power"),
        ("p0 * π", r"has 'π', which none needs"),
        ("p0\n+ m", r"'p0\?\+ m' has '\\n', which none needs"),
        ("p0 * \0", r"has '\\x00', which none needs"),
        ("p0 * mass", r"has an unknown 'mass'; use numbers"),
        ("p0 * p01", r"has an unknown 'p01'"),
        ("p0 * eval(m)", r"has an unknown function 'eval'; use numbers"),
        ("p0 * exp", r"has an unknown 'exp'"),
        ("exp(p0)(m)", r"has 'exp\(p0\)\(m\)'; use"),
        ("p0 * exp(m, x)", r"gives exp 2 arguments, expected 1; separate"),
        ("p0 * pow(m)", r"gives pow 1 arguments, expected 2; separate"),
        ("exp(*p0)", r"has '\*p0'; use"),
        ("exp(**p0)", r"has 'exp\(\*\*p0\)'; use"),
        ("p0 * 9**9**9", r"has the power 3\.8742e\+08, expected one between -100 and 100; use exp"),
        ("p0 * m**101", r"has the power 101, expected one between"),
        ("p0 * 9**(9*9)**-0.5**9 * 1e999", r"has a number that is not finite, expected one below 1e308"),
        ("p0 * 1" + "0" * 400, r"has a number that is not finite"),
        ("p0 * (1/0)", r"has a number that is not finite"),
        ("p0 * log(-1)", r"has a number that is not finite"),
        ("p0 +", r"cannot be read \(invalid syntax\); check its brackets"),
        ("p0 * (m", r"cannot be read \('\(' was never closed\); check"),
        ("", r"expression of 0 characters, expected 1 to 2000; write a Python function"),
        ("p0" + "+m" * 1000, r"expression of 2002 characters, expected 1 to 2000"),
        ("(" * 10**6 + "p0", r"expression of 1000002 characters"),
        ("(" * 900 + "p0" + ")" * 900, r"cannot be read \(.*\); check"),
        ("-" * 1900 + "p0", r"(is more than 60 levels deep; leave out|cannot be read \(too deep\))"),
        ("p0" + "+m" * 100, r"'p0\+m\+m.*\.\.\.' is more than 60 levels deep; leave out brackets"),
        ("m * x", r"has the parameters none, expected p0, p1, \.\.\. without gaps and at most 20; number"),
        ("p1 * m", r"has the parameters p1, expected p0"),
        ("p0 * p2 * p11", r"has the parameters p0, p2, p11, expected"),
        ("+".join(f"p{i}" for i in range(21)), r"has the parameters p0, .* p20, expected .* at most 20"),
        (
            "p0 * m; p0",
            r"start value 'p0', expected one number for each of p0, such as 'expr:\.\.\.; p0=1e6'",
        ),
        ("p0 * m; p0=1, p0=2", r"start value 'p0=2', expected one number for each"),
        ("p0 * m; p1=2", r"start value 'p1=2', expected"),
        ("p0 * m; p0=nan", r"start value 'p0=nan', expected"),
        ("p0 * m; p0=1; m", r"start value 'p0=1; m', expected"),
        ("p0 * m;", r"start value '', expected"),
    ],
)
def test_anything_else_is_refused(text: str, message: str) -> None:
    begin = time.process_time()
    with pytest.raises(FitError, match=message) as caught:
        expression(f"expr:{text}")
    assert time.process_time() - begin < 0.5
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
