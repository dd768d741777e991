"""Functions in files of the user."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from trila.fits.errors import FitError
from trila.fits.families import Domain
from trila.fits.own_functions import own_function

DOMAIN = Domain(500.0, 2500.0, 13000.0)
MASSES = np.array([600.0, 1300.0, 2400.0])
CODE = """
def falling(mass, parameters, domain):
    xp = parameters.__array_namespace__()
    return parameters[0] * xp.exp(-parameters[1] * mass / domain.sqrt_s)


falling.parameters = ("norm", "slope")
falling.start = [1, 20.0]
"""


def write(folder: Path, code: str) -> str:
    file = folder / "own.py"
    file.write_text(code)
    return f"{file}:falling"


def test_density_and_start(tmp_path: Path) -> None:
    function = own_function(write(tmp_path, CODE))
    assert function.parameters == ("norm", "slope")
    expected = 7.0 * np.exp(-20.0 * MASSES / 13000.0)
    np.testing.assert_allclose(function.density(MASSES, np.array([7.0, 20.0]), DOMAIN), expected, rtol=1e-14)
    rows = function.start(MASSES, expected, np.sqrt(expected), DOMAIN)
    np.testing.assert_allclose(rows, [[1.0, 20.0], [7.0, 20.0]], rtol=1e-12)


def test_jax_compiles_it(tmp_path: Path) -> None:
    import jax

    function = own_function(write(tmp_path, CODE))
    p = np.array([7.0, 20.0])
    with jax.enable_x64(True):
        found = jax.jit(lambda q: function.density(MASSES, q, DOMAIN))(p)
    np.testing.assert_allclose(found, function.density(MASSES, p, DOMAIN), rtol=1e-12)


def test_a_file_is_one_function_until_it_is_edited(tmp_path: Path) -> None:
    text = write(tmp_path, CODE)
    function = own_function(text)
    again = own_function(text)
    assert again == function
    assert hash(again) == hash(function)
    assert pickle.loads(pickle.dumps(function)) == function
    file = tmp_path / "own.py"
    later = file.stat().st_mtime_ns + 1_000_000_000
    write(tmp_path, CODE.replace("-parameters[1]", "-2.0 * parameters[1]"))
    os.utime(file, ns=(later, later))
    edited = own_function(text)
    assert edited != function
    p = np.array([7.0, 10.0])
    np.testing.assert_allclose(
        edited.density(MASSES, p, DOMAIN), function.density(MASSES, p * [1.0, 2.0], DOMAIN), rtol=1e-14
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\n", r"own\.py has no function 'falling'; functions with parameters there: none; correct"),
        (CODE.replace("falling", "rising"), r"has no function 'falling'; .* there: rising; correct the name"),
        ("falling = 3\n", r"has no function 'falling'"),
        ("def falling(:\n", r"own\.py cannot be run \(SyntaxError: .*\); correct it until python .* works"),
        ("1 / 0\n", r"cannot be run \(ZeroDivisionError: division by zero\)"),
        (CODE.replace("falling.parameters", "other"), r"falling\.parameters is None, expected a tuple of"),
        (CODE.replace('("norm", "slope")', '"norm"'), r"falling\.parameters is 'norm', expected a tuple"),
        (
            CODE.replace('"slope"', '"norm"'),
            r"is \('norm', 'norm'\), expected a tuple of different names; add",
        ),
        (CODE.replace("falling.start", "other"), r"falling\.start is None, expected 2 numbers, one for each"),
        (CODE.replace("[1, 20.0]", "[1]"), r"falling\.start is \[1\], expected 2 numbers"),
        (CODE.replace("[1, 20.0]", "['a', 2]"), r"falling\.start is \['a', 2\], expected 2 numbers"),
        (CODE.replace("[1, 20.0]", "7"), r"falling\.start is 7, expected 2 numbers"),
        (CODE.replace("20.0]", "float('nan')]"), r"falling\.start is \[1, nan\], expected 2 numbers"),
    ],
)
def test_unusable_files(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(FitError, match=message):
        own_function(write(tmp_path, code))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    message = f"{tmp_path}/none.py is not a file, expected Python code with a function 'f'; check the path"
    with pytest.raises(FitError, match=re.escape(message)):
        own_function(f"{tmp_path}/none.py:f")


def test_code_that_fails_when_it_is_called(tmp_path: Path) -> None:
    p = np.array([7.0, 20.0])
    body = "    return parameters[0] *"
    index = own_function(write(tmp_path, CODE.replace(body, "    return parameters[2] *")))
    with pytest.raises(
        FitError, match=r"own\.py: falling raised IndexError: index 2 is out of bounds.*; write"
    ):
        index.density(MASSES, p, DOMAIN)
    (tmp_path / "other").mkdir()
    shape = own_function(write(tmp_path / "other", CODE.replace(body, "    return parameters * 1.0 + 0.0 *")))
    with pytest.raises(FitError, match=r"raised ValueError: operands could not be broadcast"):
        shape.density(MASSES, p, DOMAIN)
    (tmp_path / "third").mkdir()
    short = own_function(
        write(tmp_path / "third", CODE.replace(body, "    return parameters\n    return 0 *"))
    )
    with pytest.raises(
        FitError, match=r"returned shape \(2,\) for masses of shape \(3,\), expected the same"
    ):
        short.density(MASSES, p, DOMAIN)


def test_code_that_is_only_for_numpy(tmp_path: Path) -> None:
    import jax

    code = CODE.replace("xp = parameters.__array_namespace__()", "import numpy as xp")
    function = own_function(write(tmp_path, code))
    with pytest.raises(
        FitError, match=r"raised TracerArrayConversionError: .* write it with xp = parameters"
    ):
        jax.jit(lambda q: function.density(MASSES, q, DOMAIN))(np.array([7.0, 20.0]))
