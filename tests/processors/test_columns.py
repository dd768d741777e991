"""Values of events for their objects, against NumPy's repetition."""

import numpy as np
import pytest

from trila.processors.columns import Jagged


@pytest.mark.parametrize("counts", [[], [0, 0], [1], [7], [0, 3, 1, 0, 9, 2], [5, 0, 0, 0], [0, 0, 1]])
@pytest.mark.parametrize("dtype", [np.float64, np.bool_])
def test_spread_repeats_the_value_of_an_event(counts: list[int], dtype: type) -> None:
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    values = np.arange(1, len(counts) + 1).astype(dtype)
    values[::2] = 0
    found = Jagged(offsets, {}).spread(values)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, np.repeat(values, counts))
