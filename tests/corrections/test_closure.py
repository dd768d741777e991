"""The closure test: errors against closed forms and replicas, toys at the limits, defects that it must find."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trila.corrections.cells import cell_of, medians, sort_cells
from trila.corrections.closure import ClosureConfig, Row, closes, closure_table, untested, z_of
from trila.corrections.closure_limits import LIMITS
from trila.corrections.pairs import Pairs
from trila.corrections.resampling import bootstrap_weights

Array = NDArray[np.float64]


def make_pairs(
    events: int, seed: int, *, pt: tuple[float, float] = (30.0, 1000.0), eta: float = 1.3, **columns: Any
) -> Pairs:
    """Two entries an event; pT spread evenly in its logarithm, all momenta of a pair equal, weights 1."""
    generator = np.random.default_rng(seed)
    tag = np.exp(generator.uniform(*np.log(pt), 2 * events))
    event = np.repeat(np.arange(events), 2)
    base = Pairs(
        hlt=tag, offline=tag, tag=tag, eta=generator.uniform(-eta, eta, tag.size),
        phi=generator.uniform(-np.pi, np.pi, tag.size), weight=np.ones(tag.size), run=np.ones(tag.size, dtype=np.uint32),
        luminosity_block=np.full(tag.size, seed, dtype=np.uint32), event=event.astype(np.uint64),
    )  # fmt: skip
    return base._replace(**columns)


def table(
    pairs: Pairs, response: Array, config: ClosureConfig | None = None, *, threshold: float = 10.0,
    changes: Array | None = None, estimator: Any = "median",
) -> tuple[Row, ...]:  # fmt: skip
    none = np.zeros((1, response.size)) if changes is None else changes
    return closure_table(
        pairs, pairs.offline * response, none, estimator, threshold, config or ClosureConfig()
    )


def one(**bins: Any) -> ClosureConfig:
    """A single bin of η and pT, and ranges of pT without pairs for the other variables."""
    return ClosureConfig(
        **{"eta_edges": (-5.2, 5.2), "pt_edges": (30, 1000), "pt_ranges": (5000, 6000), **bins}
    )


def test_error_of_the_median_of_correlated_entries() -> None:
    """Var(median) = (π/2) σ^2 / n (1 + 2/π asin ρ), if the two entries of an event have correlation ρ."""
    events, sigma, correlation = 200_000, 0.1, 0.7
    generator = np.random.default_rng(3)
    both = generator.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], events).ravel()
    row = table(make_pairs(events, 3), 1.0 + sigma * both, one())[0]
    n = 2 * events
    expected = math.sqrt(0.5 * math.pi * sigma**2 / n * (1 + 2 / math.pi * math.asin(correlation)))
    assert row.entries == n
    assert row.error_statistical == pytest.approx(expected, rel=0.01)
    # the two entries in bins of their own do not know of each other
    pairs = make_pairs(events, 3)
    apart = pairs._replace(eta=np.tile([-0.5, 0.5], events))
    rows = table(apart, 1.0 + sigma * both, one(eta_edges=(-1.3, 0.0, 1.3)))
    for row in rows[:2]:
        assert row.error_statistical == pytest.approx(math.sqrt(0.5 * math.pi * sigma**2 / events), rel=0.015)


def test_error_of_the_median_is_that_of_the_replicas() -> None:
    """A skewed response and weights that differ, ten bins, two entries an event: against the bootstrap itself."""
    events, replicas = 100_000, 100
    generator = np.random.default_rng(4)
    shared = np.repeat(generator.gamma(4.0, 0.1, events), 2)
    response = 0.4 + shared + generator.gamma(4.0, 0.05, 2 * events)
    pairs = make_pairs(events, 4, weight=np.repeat(generator.exponential(1.0, events), 2))
    pairs = pairs._replace(tag=np.repeat(pairs.tag[::2], 2))  # both in the same bin
    edges = np.exp(np.linspace(np.log(30), np.log(1000), 11))
    rows = table(pairs, response, one(pt_edges=tuple(edges)))[:10]
    cell, cells = cell_of((pairs.tag, edges))
    entries = sort_cells(cell, response, cells)
    identity = (pairs.run, pairs.luminosity_block, pairs.event)
    drawn = np.stack([medians(entries, pairs.weight * k) for k in bootstrap_weights(*identity, replicas)])
    errors = np.array([row.error_statistical for row in rows])
    assert np.all(np.abs(errors / drawn.std(axis=0, ddof=1) - 1.0) < 0.4)
    # 100 replicas know an error to 7%, and the median of 10,000 entries has steps: 4% in the mean of ten bins
    expected = np.sqrt(np.mean(drawn.var(axis=0, ddof=1)))
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(expected, rel=0.08)
    alone = table(pairs._replace(event=np.arange(2 * events)), response, one(pt_edges=tuple(edges)))[:10]
    assert (
        np.sqrt(np.mean([row.error_statistical**2 for row in alone])) < 0.85 * expected
    )  # the test can tell
    np.testing.assert_allclose(
        [row.closure + 1.0 for row in rows], medians(entries, pairs.weight), rtol=1e-12
    )


def test_other_estimators_are_resampled() -> None:
    """The ratio of means of h = o (1 + σ z), at one offline pT: error σ / sqrt(n)."""
    events = 4000
    generator = np.random.default_rng(5)
    flat = np.full(2 * events, 100.0)
    pairs = make_pairs(events, 5, offline=flat)
    response = 1.0 + 0.1 * generator.normal(size=2 * events)
    config = one(replicas=400)
    rows = table(pairs, response, config, estimator="ratio_of_means")
    assert rows[0].closure == pytest.approx(response.mean() - 1.0, rel=1e-9)
    assert rows[0].error_statistical == pytest.approx(0.1 / math.sqrt(2 * events), rel=0.12)
    core = table(pairs, response, one(replicas=40), estimator="core")[0]
    assert core.closure == pytest.approx(0.0, abs=5 * core.error_statistical)
    assert core.error_statistical == pytest.approx(0.1 / math.sqrt(2 * events), rel=0.6)
    # errors that are drawn are not exact: more of them are allowed
    tested = [row._replace(tested=True) for row in rows]
    assert z_of(tested, "ratio_of_means", config) > z_of(tested, "median", config)


def test_error_of_the_derivation() -> None:
    """Quadratic sum over variations of the weighted mean in the bin."""
    pairs = make_pairs(5000, 6, weight=np.tile([1.0, 3.0], 5000))
    changes = np.stack([np.full(10_000, 0.003), np.tile([0.016, 0.0], 5000)])
    row = table(pairs, np.random.default_rng(6).normal(1, 0.1, 10_000), one(), changes=changes)[0]
    assert row.error_derivation == pytest.approx(0.005, rel=1e-9)
    assert row.error == pytest.approx(math.hypot(row.error_statistical, 0.005), rel=1e-9)
    assert row.pull == pytest.approx(row.closure / row.error)


def failed(rows: tuple[Row, ...]) -> set[tuple[Any, ...]]:
    return {(row.variable, row.eta, row.pt) for row in rows if row.passed is False}


def test_a_local_defect_is_found() -> None:
    """1% too low in one bin of the barrel."""
    pairs = make_pairs(80_000, 7, pt=(100.0, 600.0))
    pairs = pairs._replace(particle=pairs.tag)
    response = np.random.default_rng(7).normal(1.0, 0.05, pairs.hlt.size)
    clean = table(pairs, response)
    assert closes(clean)
    here = (pairs.eta > 0) & (pairs.tag > 200) & (pairs.tag < 300)
    rows = table(pairs, np.where(here, 0.99 * response, response))
    assert not closes(rows)
    names = {("tag", (0.0, 1.3), (200.0, 300.0)), ("particle", (0.0, 1.3), (200.0, 300.0))}
    assert names <= failed(rows)
    assert {name for name in failed(rows) if name[0] in ("tag", "particle")} == names
    # and where only one direction is wrong
    here = np.abs(pairs.phi - 1.0) < 0.2
    rows = table(pairs, np.where(here, 0.97 * response, response))
    assert {(row.variable, row.other) for row in rows if row.passed is False and row.variable == "phi"} == {
        ("phi", tuple(np.linspace(-3.1416, 3.1416, 9)[5:7].tolist()))
    }


def test_nothing_to_test_fails() -> None:
    pairs = make_pairs(500, 8)
    rows = table(pairs, np.random.default_rng(8).normal(1.0, 0.05, 1000))
    assert not any(row.tested for row in rows)
    assert not closes(rows)
    assert math.isnan(z_of(rows, "median", ClosureConfig()))
    assert {row.passed for row in rows} == {None}
    assert closure_table(
        pairs.take(np.zeros(1000, dtype=bool)), [], np.zeros((1, 0)), "median", 10.0, ClosureConfig()
    )
    assert not closes(())


def test_limits_without_a_tested_bin_are_named() -> None:
    row = Row("tag", (0.0, 1.3), (100.0, 150.0), None, 1e4, 0.0, 1e-4, 0.0, 1e-4, 0.002, True, "", 0.0, True)
    other = row._replace(variable="rho", eta=(3.0, 5.2), pt=(30.0, 40.0), limit=0.03)
    missing = untested((row, other, row._replace(eta=(1.3, 2.5), tested=False)))
    assert len(missing) == len(LIMITS) - 1
    assert not any(limit.holds(row.eta, row.pt) for limit in missing)


def test_reasons_why_a_bin_is_not_tested() -> None:
    pairs = make_pairs(60_000, 9, pt=(30.0, 2000.0))
    response = np.random.default_rng(9).normal(1.0, 0.05, pairs.hlt.size)
    rows = {(row.eta, row.pt): row for row in table(pairs, response, threshold=20.0) if row.variable == "tag"}
    barrel = {pt: row for (eta, pt), row in rows.items() if eta == (0.0, 1.3)}
    assert barrel[40.0, 45.0].reason == "below 45 GeV, where the storage threshold of 20 GeV is felt"
    assert barrel[40.0, 45.0].limit is None
    assert barrel[45.0, 60.0].tested
    assert barrel[45.0, 60.0].reason == ""
    assert barrel[1000.0, 1500.0].reason == "no limit is given there"
    assert rows[(1.3, 2.5), (45.0, 60.0)].reason == "fewer than 100 effective pairs"
    wide = table(pairs, 1.0 + 6.0 * (response - 1.0))
    assert {
        row.reason for row in wide if row.variable == "tag" and row.eta[0] == 0.0 and row.pt[0] == 100
    } == {"error above a third of the limit"}
    refused = table(
        pairs, 100.0 * response, one(eta_edges=(0.0, 1.3), pt_edges=(45, 60), replicas=20), estimator="core"
    )
    assert refused[0].reason == "no answer of the estimator"
    # a calibration that knows little is not tested: it could not fail
    vague = table(pairs, response, changes=np.full((1, response.size), 0.02))
    assert not any(row.tested for row in vague if row.eta in ((0.0, 1.3), (-1.3, 0.0)))


def test_variables_and_their_bins() -> None:
    events = 3000
    generator = np.random.default_rng(10)
    pileup = generator.permutation(np.repeat(np.arange(30), 2 * events // 30))
    run = np.repeat(generator.choice(np.arange(370_000, 370_100), events), 2).astype(np.uint32)
    phi = np.where(np.arange(2 * events) % 2, np.float32(np.pi), -np.float32(np.pi)).astype(np.float32)
    pairs = make_pairs(events, 10, pt=(40.0, 100.0), pileup=pileup, run=run, phi=phi)
    rows = table(pairs, np.ones(2 * events))
    assert [*dict.fromkeys(row.variable for row in rows)] == ["tag", "rho", "phi", "run"]
    inside = {
        kind: [
            row for row in rows if row.variable == kind and row.eta == (0.0, 1.3) and row.pt == (40.0, 100.0)
        ]
        for kind in ("rho", "phi", "run")
    }
    for several in inside.values():  # nobody is left out: not at |φ| = π, not in the last run
        assert sum(row.entries for row in several) == pytest.approx(2 * events)
    assert [row.other for row in inside["rho"]] == [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)]
    groups = [row.other for row in inside["run"]]
    assert len(groups) == 10
    assert groups[0] is not None
    assert groups[0][0] == 370_000
    assert groups[-1] is not None
    assert groups[-1][1] == 370_099
    for group, row in zip(groups, inside["run"], strict=True):
        assert group is not None
        assert row.entries == ((run >= group[0]) & (run <= group[1])).sum()
        assert row.entries == pytest.approx(0.2 * events, rel=0.15)
    single = table(pairs._replace(run=np.ones_like(run), pileup=None), np.ones(2 * events))
    assert {row.variable for row in single} == {"tag", "phi"}


def test_order_and_scale_of_weights_do_not_matter() -> None:
    pairs = make_pairs(5000, 11, weight=np.random.default_rng(11).uniform(0.5, 2.0, 10_000))
    response = np.random.default_rng(12).normal(1.0, 0.1, 10_000)
    order = np.random.default_rng(13).permutation(10_000)
    other = pairs.take(order)._replace(weight=7.0 * pairs.weight[order])
    for first, second in zip(table(pairs, response), table(other, response[order]), strict=True):
        for name in ("entries", "closure", "error"):
            np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-9)


@pytest.mark.slow
def test_false_alarms_of_pairs_at_the_limit() -> None:
    """Toys of pairs whose response is exactly at the limit in every bin: the rate of failures is as asked for."""
    toys, rate, limit = 400, 0.2, 0.03
    edges = tuple(np.exp(np.linspace(np.log(40), np.log(1000), 13)).tolist())
    config = one(eta_edges=(3.0, 5.2), pt_edges=edges, false_alarms=rate)
    alarms, pulls = 0, []
    for seed in range(toys):
        generator = np.random.default_rng(5000 + seed)
        pairs = make_pairs(10_000, 1000 + seed, pt=(40.0, 1000.0))._replace(eta=np.full(20_000, 4.0))
        signs = np.where(cell_of((pairs.tag, edges))[0] % 2, 1.0, -1.0)
        noise = np.where(generator.uniform(size=20_000) < 0.1, 0.4, 0.2) * generator.normal(size=20_000)
        rows = table(pairs, 1.0 + signs * limit + noise, config)
        tested = [row for row in rows if row.tested]
        assert len(tested) == 12
        alarms += not closes(rows)
        pulls += [(abs(row.closure) - limit) / row.error for row in tested]
    assert alarms == pytest.approx(rate * toys, abs=3.5 * math.sqrt(rate * (1 - rate) * toys))
    assert np.std(pulls) == pytest.approx(1.0, abs=0.04)
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.06)
