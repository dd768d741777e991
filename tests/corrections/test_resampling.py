"""The Poisson bootstrap of events."""

import numpy as np
from scipy import stats

from trila.corrections.cells import medians, sort_cells
from trila.corrections.resampling import bootstrap_weights, second_half

N = 40_000
RUN, BLOCK, EVENT = np.full(N, 3), np.arange(N) // 100, np.arange(N)


def test_weights_are_poisson_and_independent_between_replicas() -> None:
    weights = np.stack([w.astype(float) for w in bootstrap_weights(RUN, BLOCK, EVENT, 9)])
    expected = stats.poisson.pmf(np.arange(6), 1.0) * N
    for row in weights:
        counts = np.bincount(row.astype(int), minlength=6)[:6]
        assert (
            stats.chisquare(
                np.append(counts, N - counts.sum()), np.append(expected, N - expected.sum())
            ).pvalue
            > 1e-4
        )
    correlation = np.corrcoef(weights)[np.triu_indices(9, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(N)


def test_entries_of_an_event_share_their_weight_in_any_order() -> None:
    order = np.random.default_rng(1).permutation(N)
    for here, there in zip(
        bootstrap_weights(RUN, BLOCK, EVENT, 5),
        bootstrap_weights(RUN[order], BLOCK[order], EVENT[order], 5),
        strict=True,
    ):
        np.testing.assert_array_equal(here[order], there)


def test_error_of_a_median_of_correlated_weighted_entries() -> None:
    """Each event enters twice with the same value: the error is that of half the entries, here N_eff of the events."""
    rng = np.random.default_rng(5)
    value, weight = rng.normal(1, 0.1, N), rng.exponential(size=N)
    twice = np.repeat(np.arange(N), 2)
    entries = sort_cells(np.zeros(2 * N, np.int32), value[twice], 1)
    replicas = [
        medians(entries, weight[twice] * k)[0]
        for k in bootstrap_weights(RUN[twice], BLOCK[twice], EVENT[twice], 400)
    ]
    effective = weight.sum() ** 2 / (weight**2).sum()
    closed_form = 0.1 * np.sqrt(np.pi / 2 / effective)
    assert np.std(replicas) / closed_form == np.clip(np.std(replicas) / closed_form, 0.85, 1.15)


def test_halves_are_halves_and_independent_of_the_replicas() -> None:
    second = second_half(RUN, BLOCK, EVENT)
    assert abs(second.mean() - 0.5) < 4 * 0.5 / np.sqrt(N)
    first = next(iter(bootstrap_weights(RUN, BLOCK, EVENT, 1)))
    assert abs(np.corrcoef(second, first)[0, 1]) < 5 / np.sqrt(N)
