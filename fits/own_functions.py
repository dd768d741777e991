"""Functions of spectra that the user writes in Python: `FILE.py:NAME`.

    def falling(mass, parameters, domain):
        xp = parameters.__array_namespace__()
        x = mass / domain.sqrt_s
        return parameters[0] * xp.exp(-parameters[1] * x) / x

    falling.parameters = ("p0", "p1")
    falling.start = (1e6, 10.0)

A function takes masses in GeV, parameters and a `trila.fits.families.Domain`, and returns events per GeV in the shape of
the masses. It uses the array library of its parameters, which has NumPy's interface whether NumPy or JAX computes, and
has no branches on values. `parameters` are its names and `start` one value for each; where the density is proportional
to the first, that one starts from the data. The file is run, like any program of yours.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from trila.fits.errors import FitError
from trila.fits.families import Domain, SpectrumFunction
from trila.fits.starts import GivenStart

__all__ = ["OwnDensity", "own_function"]


@dataclass(frozen=True)
class OwnDensity:
    """A user's density, by where it is: equal for equal files, and it can be sent to another process.

    Attributes:
        path: of the Python file, absolute.
        name: of the function in it.
        modified: time of the file's last change, ns; an edited file is another density.
    """

    path: str
    name: str
    modified: int

    def __call__(self, mass: Any, parameters: Any, domain: Domain) -> Any:
        function = _function(self.path, self.name, self.modified)
        try:
            density = function(mass, parameters, domain)
            shape = density.shape
        except Exception as error:  # whatever the user's code raises
            reason = (str(error).splitlines() or [""])[0]
            raise FitError(
                f"{self.path}: {self.name} raised {type(error).__name__}: {reason}; write it with xp = "
                "parameters.__array_namespace__() and functions of xp, without branches on values."
            ) from error
        if shape != mass.shape:
            raise FitError(
                f"{self.path}: {self.name} returned shape {shape} for masses of shape {mass.shape}, expected the same; "
                "return one density for each mass."
            )
        return density


def own_function(text: str) -> SpectrumFunction:
    """The function of a user's file.

    Args:
        text: `FILE.py:NAME`.

    Raises:
        FitError: no such file or function, code that fails, or attributes `parameters` and `start` that are missing or
            do not agree.
    """
    file, _, name = text.rpartition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise FitError(
            f"{file} is not a file, expected Python code with a function '{name}'; check the path."
        )
    modified = path.stat().st_mtime_ns
    function = _function(str(path), name, modified)
    parameters = getattr(function, "parameters", None)
    if (
        not isinstance(parameters, (tuple, list))
        or not parameters
        or not all(isinstance(p, str) for p in parameters)
        or len(set(parameters)) != len(parameters)
    ):
        raise FitError(
            f"{file}: {name}.parameters is {parameters!r}, expected a tuple of different names; add "
            f'{name}.parameters = ("p0", "p1").'
        )
    start = getattr(function, "start", None)
    try:
        values = tuple(float(value) for value in start or ())
    except (TypeError, ValueError):
        values = ()
    if len(values) != len(parameters) or not np.all(np.isfinite(values)):
        raise FitError(
            f"{file}: {name}.start is {start!r}, expected {len(parameters)} numbers, one for each parameter; add "
            f"{name}.start = (1.0, ...)."
        )
    density = OwnDensity(str(path), name, modified)
    return SpectrumFunction(
        text, tuple(parameters), density, GivenStart(text, density, values), "own", str(path)
    )


@lru_cache(maxsize=64)
def _module(path: str, modified: int) -> ModuleType:
    """The file's module, run once for each of its versions."""
    spec = importlib.util.spec_from_file_location(f"trila_own_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise FitError(f"{path} is not Python code; give a file whose name ends in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise FitError(
            f"{path} cannot be run ({type(error).__name__}: {error}); correct it until python {path} works."
        ) from error
    return module


def _function(path: str, name: str, modified: int) -> Callable[..., Any]:
    module = _module(path, modified)
    function: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(function):
        known = ", ".join(n for n in dir(module) if hasattr(getattr(module, n), "parameters")) or "none"
        raise FitError(
            f"{path} has no function '{name}'; functions with parameters there: {known}; correct the name."
        )
    return function
