"""The scale against truth: closed forms of binning and trigger biases, and a known response."""

from typing import NamedTuple

import numpy as np
import pytest

from trila.corrections.cells import cell_of, medians, sort_cells
from trila.corrections.derivation import DerivationConfig, derive
from trila.corrections.pairs import Pairs
from trila.corrections.tag_bins import corrected
from trila.corrections.uncertainties import uncertainties


class _Smearing(NamedTuple):
    offline: float = 0.10
    hlt: float = 0.12
    correlation: float = 0.8


def _jets(log_pt: np.ndarray, smearing: _Smearing, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """ln of offline and of HLT pT: log-normal and correlated."""
    shared, own = rng.normal(size=(2, log_pt.size))
    r = smearing.correlation
    return (
        log_pt + smearing.offline * shared,
        log_pt + smearing.hlt * (r * shared + np.sqrt(1 - r * r) * own),
    )


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_migration_between_bins_has_the_closed_form(correlation: float) -> None:
    """For log-normal smearing and dN/dln p ~ p^-k, k = 4: biases of <ln h/o> in bins of each pT."""
    rng = np.random.default_rng(1)
    smearing = _Smearing(correlation=correlation)
    log_pt = rng.exponential(0.25, 4_000_000)  # from 1 upwards; bins lie well above that edge
    (o_tag, _), (o, h) = _jets(log_pt, smearing, rng), _jets(log_pt, smearing, rng)
    covariance = correlation * smearing.offline * smearing.hlt
    k = 4.0
    expected = {
        "probe offline": (o, k * (covariance - smearing.offline**2)),
        "probe HLT": (h, k * (smearing.hlt**2 - covariance)),
        "mean": (0.5 * (o + h), 0.5 * k * (smearing.hlt**2 - smearing.offline**2)),
        "tag": (o_tag, 0.0),
    }
    for axis, bias in expected.values():
        inside = (axis > 0.75) & (axis < 1.2)
        assert np.mean((h - o)[inside]) == pytest.approx(bias, abs=0.0015)


def test_bias_of_a_trigger_on_the_probe_and_on_the_tag() -> None:
    """A threshold on the HLT pT that the probe must pass biases bins of its offline pT by the mean of a truncated
    Gaussian; one that the tag must pass does not bias bins of the tag's pT.
    """
    from scipy import stats

    rng = np.random.default_rng(2)
    smearing = _Smearing()
    log_pt = rng.exponential(0.25, 4_000_000)
    (o_tag, h_tag), (o, h) = _jets(log_pt, smearing, rng), _jets(log_pt, smearing, rng)
    threshold, at = 0.9, 0.9
    fires = h > threshold
    bin_ = np.abs(o - at) < 0.01
    # given o, h is Gaussian: regress on the exponential spectrum with k = 4 and the correlated smearing
    k, so, sh, r = 4.0, smearing.offline, smearing.hlt, smearing.correlation
    mean = at + k * (r * so * sh - so * so)
    width = sh * np.sqrt(1 - r * r)
    cut = (threshold - mean) / width
    expected = mean - at + width * stats.norm.pdf(cut) / stats.norm.sf(cut)
    assert np.mean((h - o)[bin_ & fires]) == pytest.approx(expected, abs=0.002)
    assert expected > 0.03
    tag_bin = (h_tag > threshold) & (o_tag > 0.8) & (o_tag < 1.1)
    assert np.mean((h - o)[tag_bin]) == pytest.approx(0.0, abs=0.0015)


def _response(pt: np.ndarray) -> np.ndarray:
    return 0.93 + 0.06 * (1 - np.exp(-pt / 80))


def _pairs(number: int, seed: int, spread: float = 0.35) -> Pairs:
    """Imbalanced dijets on a falling spectrum, weighted flat, with exact response at particle level."""
    rng = np.random.default_rng(seed)
    hard = np.exp(rng.uniform(np.log(12), np.log(2000), number))
    weight = (hard / 100) ** -4
    pt = np.stack([hard * np.exp(spread * np.sqrt(20 / hard) * rng.normal(size=number)) for _ in range(2)])
    shared, own = rng.normal(size=(2, 2, number))
    offline = pt * (1 + np.hypot(0.85 / np.sqrt(pt), 0.04) * shared)
    hlt = pt * _response(pt) * (1 + np.hypot(1.0 / np.sqrt(pt), 0.05) * (0.75 * shared + 0.66 * own))
    order = [0, 1], [1, 0]
    flat = {
        "hlt": np.concatenate([hlt[p] for _, p in order]),
        "offline": np.concatenate([offline[p] for _, p in order]),
        "tag": np.concatenate([offline[t] for t, _ in order]),
        "particle": np.concatenate([pt[p] for _, p in order]),
    }
    event = np.tile(np.arange(number), 2)
    good = (flat["hlt"] > 8) & (flat["offline"] > 5)
    return Pairs(
        eta=rng.uniform(-1.3, 1.3, 2 * number), phi=np.zeros(2 * number), weight=np.tile(weight, 2),
        run=np.ones(2 * number, int), luminosity_block=event // 1000, event=event, **flat,
    ).take(good)  # fmt: skip


_CONFIG = DerivationConfig(eta_edges=(-1.3, 0.0, 1.3), replicas=40, eigen_variations=3)
_PARTICLE = np.array([30, 40, 60, 100, 200, 400, 800, 1500.0])


def _closure(pairs: Pairs, log_pt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cell, cells = cell_of((pairs.particle, _PARTICLE))
    entries = sort_cells(cell, np.exp(log_pt) / pairs.offline, cells)
    low, middle, high = (medians(entries, pairs.weight, p) for p in (0.16, 0.5, 0.84))
    number = np.bincount(cell[cell >= 0], minlength=cells)
    return middle - 1, 1.25 * 0.5 * (high - low) / np.sqrt(number)


def test_response_of_imbalanced_dijets_is_recovered_at_particle_level() -> None:
    pairs, others = _pairs(400_000, 3), _pairs(400_000, 4)
    scale = derive(pairs, _CONFIG)
    assert scale.change < _CONFIG.tolerance
    closure, error = _closure(others, corrected(others.hlt, others.eta, _CONFIG.eta_edges, scale.curves))
    limit = np.where(_PARTICLE[:-1] < 40, 0.01, np.where(_PARTICLE[:-1] < 100, 0.005, 0.002))
    assert np.all(np.abs(closure) < limit + 3 * error), (closure, error)
    assert np.all(3 * error < 2 * limit), (
        error
    )  # the sample is large enough for the statement to mean something


@pytest.mark.slow
def test_the_errors_are_those_of_repeated_experiments() -> None:
    """Corrections of independent samples spread as each of them says, over pT and both regions."""
    pt = np.log(np.array([40.0, 80.0, 200.0, 600.0]))
    fixed = _CONFIG.model_copy(update={"knots": 4})
    found, errors = [], []
    for seed in range(24):
        pairs = _pairs(30_000, 100 + seed)
        scale = derive(pairs, fixed)
        found.append([curve.reference(pt) - pt for curve in scale.curves if curve is not None])
        sources = uncertainties(pairs, scale, fixed, [pt, pt])
        errors.append(
            [np.sqrt(sum(v**2 for k, v in s.items() if k.startswith("statistical"))) for s in sources]
        )
    pulls = (np.array(found) - np.mean(found, axis=0)) / np.array(errors)
    assert 0.8 < pulls.std() * np.sqrt(24 / 23) < 1.25


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"no bin has 100 effective pairs, of \d+ pairs in all \(most: .*use more data"
    ):
        derive(_pairs(50, 1), _CONFIG)


def test_a_region_without_pairs_has_no_curve() -> None:
    scale = derive(_pairs(20_000, 1), DerivationConfig(eta_edges=(-3.0, -2.0, 0.0, 1.3)))
    assert scale.curves[0] is None
    assert scale.curves[1] is not None
    assert not scale.measurement.used[0].any()
