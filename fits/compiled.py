"""JAX as fits use it: in double precision, with the compiled code kept between runs, and as it was afterwards.

Precision and cache are global settings of JAX. They are set for the time of a call alone, so that a program that uses JAX
for something else beside trila finds it as it left it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax._src import compilation_cache

__all__ = ["double_precision"]

_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


def cache_directory() -> Path:
    """The folder of compiled fits: `jax` under `TRILA_CACHE`, else under `trila` in the user's cache folder."""
    chosen = os.environ.get("TRILA_CACHE")
    base = (
        Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trila"
    )
    return base / "jax"


@contextmanager
def double_precision() -> Iterator[None]:
    """JAX in 64 bits with a cache of compiled code, restored on the way out."""
    before = {name: getattr(jax.config, name) for name in _SETTINGS}
    wanted = dict(zip(_SETTINGS, (str(cache_directory()), 0.0, -1), strict=True))
    changed = before != wanted
    if changed:
        _set(wanted)
    try:
        with jax.enable_x64(True):
            yield
    finally:
        if changed:
            _set(before)


def _set(settings: dict[str, object]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
    compilation_cache.reset_cache()  # JAX looks at the folder once in a process
