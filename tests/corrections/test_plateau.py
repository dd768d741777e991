"""The plateau rule against its words, counted out by hand."""

import numpy as np
import pytest

from trila.corrections.plateau import plateau

EDGES = np.array([100.0, 200.0, 300.0, 400.0, 500.0])
STANDARD = [90.0, 190.0, 216.0, 244.0, 296.0, 325.0]


def counts(*passed: int, total: int = 1000) -> np.ndarray:
    return np.array([[total - k, k] for k in passed], dtype=float)


def test_first_bin_after_which_all_hold() -> None:
    values = counts(500, 1000, 999, 1000)
    found = plateau(values, values, EDGES, 0.99, round_to=STANDARD)
    assert (found.start, found.rounded, found.bins, found.reason) == (200.0, 216.0, 3, "")
    # 999 of 1000: the limit is the solution of P(at least 999 | p) = 0.1587.
    assert found.lower_limit == pytest.approx(0.996707, abs=1e-5)


def test_a_later_bin_below_moves_the_plateau() -> None:
    values = counts(500, 1000, 980, 1000)
    assert plateau(values, values, EDGES, 0.99).start == 400.0
    assert plateau(values, values, EDGES, 0.95).start == 200.0


def test_an_edge_is_not_rounded_up() -> None:
    values = counts(500, 1000, 1000, 1000)
    assert plateau(values, values, EDGES, 0.99, round_to=[200.0, 300.0]).rounded == 200.0
    assert plateau(values, values, EDGES, 0.99, round_to=[150.0]).rounded is None


def test_sparse_bins_are_merged_before_they_are_judged() -> None:
    # 100 that all pass reach 98.2% only; a spectrum that ends so would never have a plateau.
    values = np.concatenate([counts(500, 1000), counts(*[100] * 12, total=100)])
    edges = np.arange(100.0, 100.0 + 10 * 15, 10.0)
    assert plateau(values, values, edges, 0.99).start == 110.0


def test_no_plateau_is_said() -> None:
    values = counts(500, 900, 960, 970)
    found = plateau(values, values, EDGES, 0.99)
    assert found.start is None
    assert found.reason.startswith("the last bin, from 400, has a lower limit of 0.9")
    few = counts(5, 9, 10, 10, total=10)
    assert plateau(few, few, EDGES, 0.99).reason == "fewer than 550 effective entries"


def test_weights_count_as_effective_entries() -> None:
    values = counts(500, 1000, 1000, 1000)
    assert plateau(values, values, EDGES, 0.995).start == 300.0
    assert plateau(7 * values, 49 * values, EDGES, 0.995).start == 300.0
    assert plateau(values, 10 * values, EDGES, 0.995).start is None


@pytest.mark.parametrize("level", [0.0, 1.0, 99.0])
def test_level_is_a_fraction(level: float) -> None:
    with pytest.raises(ValueError, match=r"expected an efficiency between 0 and 1, such as 0\.99"):
        plateau(counts(1), counts(1), [0.0, 1.0], level)
