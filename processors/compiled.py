"""Compiled kernels, kept between runs.

`kernel` is `numba.njit` whose machine code is stored under `TRILA_CACHE` (default: the user's cache folder), so that
only the first run after an installation or a change compiles.

In a kernel `float(x)` leaves a float32 as it is: write `np.float64(x)` where precision matters, as in differences of
energies and momenta.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

__all__ = ["cache_directory", "kernel"]

Function = TypeVar("Function", bound=Callable[..., Any])


def cache_directory() -> Path:
    """The folder of compiled code: `TRILA_CACHE`, else `trila` in the user's cache folder."""
    chosen = os.environ.get("TRILA_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trila"


@cache
def _kernel_folder() -> str:
    """Where machine code is kept: by the digest of all compiled sources of the package.

    Numba looks at the file of a function alone, and would keep using it with old versions of what it calls elsewhere.
    """
    package = Path(__file__).resolve().parents[1]
    sources = [p for folder in ("processors", "analysis") for p in sorted((package / folder).glob("*.py"))]
    # kernels, and the named tuples that they take apart
    texts = [
        text
        for text in (path.read_bytes() for path in sources)
        if b"@kernel" in text or b"NamedTuple" in text
    ]
    return str(cache_directory() / f"numba-{hashlib.sha256(b''.join(texts)).hexdigest()[:16]}")


def kernel(function: Function) -> Function:
    """Compile `function` on its first call and keep the machine code on disk.

    Numba decides where to cache when a function is decorated, from a global setting: it is changed for the decoration
    alone, so that the functions of other packages stay where they are. A cache folder that cannot be written costs
    the compilation, not the run.
    """
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _kernel_folder()
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)  # type: ignore[no-any-return]
    except RuntimeError:  # "cannot cache function": no writable folder
        return numba.njit(nogil=True, error_model="numpy")(function)  # type: ignore[no-any-return]
    finally:
        numba.config.CACHE_DIR = before
