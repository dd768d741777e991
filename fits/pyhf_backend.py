"""pyhf's backend and optimiser for the time of a block.

Both are global settings of pyhf, and what computes with it (models, fits, limits) uses whatever is set at the moment. A block
leaves pyhf as it found it, also when it ends with an exception:

    with pyhf_backend("numpy", "minuit"):
        observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(data, model)

Threads share the settings: one block at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

from trila.fits.errors import FitError

__all__ = ["pyhf_backend"]

_BACKENDS, _OPTIMIZERS = ("numpy", "jax"), ("minuit", "scipy")


@contextmanager
def pyhf_backend(
    name: Literal["numpy", "jax"] = "numpy", optimizer: Literal["minuit", "scipy"] = "minuit", **options: Any
) -> Iterator[None]:
    """Set pyhf's backend, in double precision, and its optimiser; restore both on the way out.

    SciPy's optimiser without the gradients of JAX reports success at 10⁸ events where it has found no minimum: use
    Minuit with NumPy. pyhf switches JAX to 64 bits for the whole process when its JAX backend is first loaded; that stays
    so, as later uses of pyhf rely on it.

    Args:
        name: of the backend.
        optimizer: that `pyhf.infer` uses.
        options: of the optimiser, such as `tolerance` and `strategy` of Minuit.

    Raises:
        FitError: a backend or optimiser that is not one of these.
    """
    for kind, given, known in (("backend", name, _BACKENDS), ("optimizer", optimizer, _OPTIMIZERS)):
        if given not in known:
            raise FitError(f"pyhf {kind} '{given}', expected {' or '.join(known)}; choose one of them")
    import pyhf

    if name == "jax":
        import jax

        precision: Any = jax.enable_x64(True)
    else:
        precision = nullcontext()
    chosen = getattr(pyhf.optimize, f"{optimizer}_optimizer")(**options)
    before = pyhf.get_backend()
    with precision:
        try:
            pyhf.set_backend(name, chosen, precision="64b")
            yield
        finally:
            pyhf.set_backend(*before)
