"""pyhf's global settings: what a block asks for inside of it, and afterwards what was there before."""

from typing import Any

import pyhf
import pytest

from trila.fits.errors import FitError
from trila.fits.pyhf_backend import pyhf_backend


@pytest.mark.parametrize("name", ["numpy", "jax"])
@pytest.mark.parametrize("optimizer", ["minuit", "scipy"])
def test_a_block_has_what_it_asks_for(name: Any, optimizer: Any) -> None:
    before = pyhf.get_backend()
    with pyhf_backend(name, optimizer):
        library, chosen = pyhf.get_backend()
        assert (library.name, library.precision, chosen.name) == (name, "64b", optimizer)
    assert pyhf.get_backend() == before


def test_options_reach_the_optimizer() -> None:
    with pyhf_backend("numpy", "minuit", tolerance=0.01, strategy=2):
        assert (pyhf.optimizer.tolerance, pyhf.optimizer.strategy) == (0.01, 2)


def test_an_exception_restores_as_well() -> None:
    before = pyhf.get_backend()
    with pytest.raises(ZeroDivisionError), pyhf_backend("jax", "scipy"):
        raise ZeroDivisionError
    assert pyhf.get_backend() == before


def test_blocks_nest() -> None:
    before = pyhf.get_backend()
    with pyhf_backend("numpy", "scipy"):
        outer = pyhf.get_backend()
        with pyhf_backend("jax", "minuit"):
            assert pyhf.get_backend() != outer
        assert pyhf.get_backend() == outer
    assert pyhf.get_backend() == before


def test_the_jax_backend_computes_in_double_precision() -> None:
    """Also where 64 bits are off at the moment: 10⁹ events need them."""
    import jax

    with jax.enable_x64(False), pyhf_backend("jax", "scipy"):
        assert pyhf.tensorlib.astensor([1e9 + 1.0]).dtype == "float64"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "torch"}, r"pyhf backend 'torch', expected numpy or jax; choose one of them"),
        ({"optimizer": "simplex"}, r"pyhf optimizer 'simplex', expected minuit or scipy; choose one of them"),
    ],
)
def test_messages(settings: dict[str, Any], message: str) -> None:
    before = pyhf.get_backend()
    with pytest.raises(FitError, match=message), pyhf_backend(**settings):
        pass
    assert pyhf.get_backend() == before
