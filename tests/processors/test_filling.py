"""Fast filling does exactly what `hist.Hist.fill` does."""

import hist
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trila.processors import filling
from trila.processors.histograms import CMS_DIJET_EDGES, JET_PT_EDGES, new, variable


def _nasty(edges: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random values, the edges themselves, and their neighbours in floating point."""
    spread = rng.uniform(edges[0] - 10, edges[-1] * 1.1, 5000)
    return np.concatenate(
        [spread, edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf), [np.nan, -1e30, 1e30]]
    )


@pytest.mark.parametrize(
    "axis",
    [
        variable(JET_PT_EDGES, "pt", ""),
        variable(CMS_DIJET_EDGES, "mass", ""),
        variable(np.geomspace(0.2, 400, 3001).tolist(), "mass", ""),
        variable([-5.2, -3.0, -1.3, 0.0, 1e-9, 5.2], "eta", ""),
        variable([0.0, 1.0, 1.0 + 1e-12], "crowded at the end", ""),
        variable([64.0, 695312.0], "last edge rounded down", ""),
        hist.axis.Regular(600, 0, 3, name="response"),
        hist.axis.Regular(14000, 0, 14000, name="mass"),
        hist.axis.Regular(64, -np.pi, np.pi, name="phi"),
    ],
    ids=lambda axis: f"{type(axis).__name__}-{len(axis)}",
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_indices_agree_with_boost_histogram(axis: hist.axis.Variable, dtype: str) -> None:
    values = _nasty(np.asarray(axis.edges), np.random.default_rng(5)).astype(dtype)
    expected = axis.index(values.astype(np.float64)) + 1
    np.testing.assert_array_equal(filling.indices(axis, values), expected)


@settings(deadline=None, max_examples=50)
@given(
    edges=st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=20, unique=True),
    values=st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=50),
)
def test_any_edges(edges: list[float], values: list[float]) -> None:
    axis = variable(sorted(edges), "x", "")
    array = np.array(values, dtype=np.float64)
    np.testing.assert_array_equal(filling.indices(axis, array), np.asarray(axis.index(array)) + 1)


def test_fill_adds_weights_and_their_squares() -> None:
    rng = np.random.default_rng(3)
    axes = (
        hist.axis.StrCategory(["os", "ss"], name="sign"),
        variable([0.0, 1.0, 2.5], "x", ""),
        hist.axis.Integer(0, 2, name="passed", underflow=False, overflow=False),
        hist.axis.Regular(7, -1, 1, name="y"),
    )
    ours, theirs = new(*axes), new(*axes)
    for sign in ("os", "ss"):
        x, y, w = rng.normal(1, 1, 1000), rng.normal(0, 1, 1000), rng.normal(1, 1, 1000)
        passed = rng.integers(0, 2, 1000)
        filling.fill(
            ours, w, filling.indices(axes[0], sign), filling.indices(axes[1], x), filling.indices(axes[2], passed),
            filling.indices(axes[3], y),
        )  # fmt: skip
        theirs.fill(sign, x, passed, y, weight=w)
    assert ours == theirs


def test_values_below_an_axis_without_underflow() -> None:
    """Nothing may be filled below the first bin: there is other memory."""
    axis = hist.axis.Integer(0, 2, name="passed", underflow=False, overflow=False)
    with pytest.raises(ValueError, match=r"values below axis 'passed', which has no underflow"):
        filling.indices(axis, np.array([0, -1]))
