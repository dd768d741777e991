"""Turn-on fits against closed forms and toys: values, errors and coverage, steep spectra, wide bins, weights.

The truth of every toy is an error function with μ = 200 and σ = 15 GeV on a spectrum that falls as x⁻⁶.
"""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, optimize, stats

from trila.corrections.turnon import NotFitted, TurnOn, expected, fit_turn_on, point
from trila.corrections.turnon_curve import efficiency

Array = NDArray[np.float64]

MU, SIGMA = 200.0, 15.0
TRUE = {0.5: 200.0, 0.95: 224.672804, 0.99: 234.895218, 0.995: 238.637440}
FINE, WIDE = np.arange(120.0, 602.0, 2.0), np.arange(120.0, 630.0, 30.0)


def spectrum(size: int, generator: np.random.Generator, power: float = 6.0) -> Array:
    low, high = 120.0 ** (1 - power), 600.0 ** (1 - power)
    return np.asarray((low + (high - low) * generator.uniform(size=size)) ** (1 / (1 - power)))


def counted(x: Array, passed: NDArray[np.bool_], edges: Array, weight: Array | None = None) -> Array:
    weights = np.ones_like(x) if weight is None else weight
    parts = [np.histogram(x[chosen], edges, weights=weights[chosen])[0] for chosen in (~passed, passed)]
    return np.stack(parts, axis=1)


def toy(
    size: int,
    seed: int,
    edges: Array = FINE,
    top: float = 1.0,
    parameters: tuple[float, ...] = (MU, SIGMA, 1.0),
) -> Array:
    generator = np.random.default_rng(seed)
    x = spectrum(size, generator)
    return counted(x, generator.uniform(size=size) < top * efficiency(x, parameters), edges)


def asimov(edges: Array, top: float = 1.0, events: float = 2e5, power: float = 6.0) -> Array:
    """Expected counts by adaptive integration."""

    def integral(function: object) -> Array:
        return np.array([integrate.quad(function, a, b, epsrel=1e-10)[0] for a, b in pairwise(edges)])

    total = integral(lambda x: (x / 120.0) ** -power)
    passed = integral(lambda x: (x / 120.0) ** -power * top * stats.norm.cdf((x - MU) / SIGMA))
    return np.stack([total - passed, passed], axis=1) * events / total.sum()


def closed(mu: float, sigma: float, covariance: Array | None = None) -> TurnOn:
    matrix = np.zeros((3, 3)) if covariance is None else covariance
    names = ("mu", "sigma", "epsilon_max")
    return TurnOn(names, np.array([mu, sigma, 0.9]), matrix, (), 0.0, 1, 1.0, 0.0, 500.0, "good")


@pytest.mark.parametrize(("level", "value"), [(0.95, 224.673), (0.99, 234.895), (0.995, 238.637)])
def test_points_of_a_known_curve(level: float, value: float) -> None:
    assert point(closed(MU, SIGMA), level).value == pytest.approx(value, abs=1e-3)
    assert point(closed(MU, SIGMA), level).value == pytest.approx(TRUE[level], abs=1e-6)


def test_error_of_a_point_is_that_of_mu_plus_z_sigma() -> None:
    covariance = np.array([[4.0, 1.5, 0.3], [1.5, 3.0, 0.2], [0.3, 0.2, 0.1]])
    z = stats.norm.ppf(0.99)
    by_hand = np.sqrt(4.0 + 2 * z * 1.5 + z**2 * 3.0)
    assert point(closed(MU, SIGMA, covariance), 0.99).error == pytest.approx(by_hand, rel=1e-9)


def test_points_of_several_components_solve_the_curve() -> None:
    values = np.array([200.0, 10.0, 0.8, 0.3, 230.0, 20.0, 0.1, 260.0, 40.0])
    names = ("mu", "sigma", "epsilon_max", *(f"{n}_{i}" for i in (2, 3) for n in ("fraction", "mu", "sigma")))
    covariance = np.diag([1.0, 0.5, 0.01, 1e-3, 4.0, 2.0, 1e-3, 9.0, 4.0])
    fit = TurnOn(names, values, covariance, (), 0.0, 1, 1.0, 0.0, 500.0, "good")
    found = point(fit, 0.99)
    mixture = 0.6 * stats.norm.cdf(found.value, 200, 10) + 0.3 * stats.norm.cdf(found.value, 230, 20)
    mixture += 0.1 * stats.norm.cdf(found.value, 260, 40)
    assert mixture == pytest.approx(0.99, abs=1e-10)
    assert float(efficiency(found.value, values)) == pytest.approx(0.8 * 0.99, abs=1e-10)
    # The error again, with derivatives by finite differences.
    steps = np.sqrt(np.diag(covariance)) * 1e-3
    moved = [
        (
            point(fit._replace(values=values + h), 0.99).value
            - point(fit._replace(values=values - h), 0.99).value
        )
        for h in np.diag(steps)
    ]
    assert found.error == pytest.approx(np.linalg.norm(np.array(moved) / 2e-3), rel=1e-4)


@pytest.mark.parametrize("edges", [FINE, WIDE], ids=["fine", "twice sigma"])
@pytest.mark.parametrize("top", [1.0, 0.97])
def test_a_steep_spectrum_does_not_move_the_points(edges: Array, top: float) -> None:
    """With bins of twice σ the value at the centre is off by more than a GeV."""
    values = asimov(edges, top)
    fit = fit_turn_on(values, values, edges)
    for level in (0.95, 0.99, 0.995):
        assert point(fit, level).value == pytest.approx(TRUE[level], abs=0.02)
    # the spectrum inside a bin is a power law of its own: not exact where the curve is steepest in wide bins
    assert point(fit, 0.5).value == pytest.approx(TRUE[0.5], abs=0.04)
    assert fit.values[2] == pytest.approx(top, abs=1e-5)
    assert (fit.at_limit == ("epsilon_max",)) is (top == 1.0)


def test_the_average_over_a_bin_is_what_matters() -> None:
    """The same fit with ε at the centres of the wide bins would be wrong."""
    values = asimov(WIDE)
    centre = 0.5 * (WIDE[1:] + WIDE[:-1])
    true = values[:, 1] / values.sum(axis=1)
    fit = fit_turn_on(values, values, WIDE)
    rising = slice(1, 5)
    np.testing.assert_allclose(expected(values, WIDE, fit)[rising], true[rising], atol=1e-3)
    assert np.abs(efficiency(centre, [MU, SIGMA, 1.0]) - true)[rising].max() > 0.04


def pulls_of(toys: int, size: int, edges: Array, top: float) -> tuple[Array, Array, Array]:
    """Pulls of the points, shape (toys, levels), p-values, and numbers of components.

    Against what the expected counts give: how far that is from the truth, another test says in GeV.
    """
    pulls, p_values, components = [], [], []
    counts = asimov(edges, top)
    exact = fit_turn_on(counts, counts, edges)
    wanted = [point(exact, level).value for level in TRUE]
    for seed in range(toys):
        values = toy(size, seed, edges, top)
        fit = fit_turn_on(values, values, edges)
        found = [point(fit, level) for level in TRUE]
        pulls.append([(p.value - true) / p.error for p, true in zip(found, wanted, strict=True)])
        p_values.append(fit.p_value)
        components.append(fit.values.size // 3)
    return np.array(pulls), np.array(p_values), np.array(components)


def test_pulls_of_a_few_toys() -> None:
    pulls, p_values, components = pulls_of(20, 10_000, FINE, 0.97)
    assert np.abs(np.median(pulls, axis=0)).max() < 1.25 * 3 / np.sqrt(20)
    assert ((np.abs(pulls) < 1).sum(axis=0) >= 8).all()
    assert (p_values > 0.001).all()
    assert np.count_nonzero(components > 1) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("edges", "size"), [(FINE, 40_000), (WIDE, 200_000)], ids=["fine", "wide"])
@pytest.mark.parametrize("top", [1.0, 0.97])
def test_pulls_of_many_toys(edges: Array, size: int, top: float) -> None:
    """Mean 0, width 1, flat p-values, and hardly a second component, of 400 toys; bounds of about 3.5 deviations."""
    pulls, p_values, components = pulls_of(400, size, edges, top)
    assert np.abs(np.median(pulls, axis=0)).max() < 3.5 * 1.25 / np.sqrt(400)
    half_widths = 0.5 * np.diff(np.quantile(pulls, [0.158655, 0.841345], axis=0), axis=0)
    assert np.abs(half_widths - 1.0).max() < 0.15
    assert np.mean(p_values < 0.05) < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(components > 1) < 0.02


def test_error_agrees_with_the_likelihood_profile() -> None:
    """With μ = x99 - z σ, twice the log-likelihood at its lowest over σ and ε_max rises by one at x99 ± error."""
    values = toy(40_000, 5, top=0.97)
    fit = fit_turn_on(values, values, FINE)
    mine = point(fit, 0.99)
    z, inside = stats.norm.ppf(0.99), slice(int(np.searchsorted(FINE, fit.low)), None)
    passed, failed = values[inside, 1], values[inside, 0]

    def twice(parameters: Array, x99: float) -> float:
        sigma, top = parameters
        p = expected(values, FINE, fit._replace(values=np.array([x99 - z * sigma, sigma, top])))[inside]
        return float(-2 * (passed * np.log(p) + failed * np.log1p(-np.minimum(p, 1 - 1e-9))).sum())

    def profile(x99: float) -> float:
        return float(optimize.minimize(twice, fit.values[1:], args=(x99,), method="Nelder-Mead").fun)

    lowest = profile(mine.value)
    for side in (-1, 1):
        assert profile(mine.value + side * mine.error) - lowest == pytest.approx(1.0, abs=0.3)


@pytest.mark.slow
def test_error_agrees_with_toys_of_the_fit() -> None:
    """Parametric bootstrap."""
    values = toy(40_000, 5, top=0.97)
    fit = fit_turn_on(values, values, FINE)
    generator = np.random.default_rng(6)
    total, p = values.sum(axis=1), expected(values, FINE, fit)
    replicas = []
    for _ in range(200):
        passed = generator.binomial(total.astype(int), p).astype(float)
        again = np.stack([total - passed, passed], axis=1)
        replicas.append(point(fit_turn_on(again, again, FINE), 0.99).value)
    low, high = np.quantile(replicas, [0.158655, 0.841345])
    assert 0.5 * (high - low) == pytest.approx(point(fit, 0.99).error, rel=0.2)


def test_a_second_seed_is_found() -> None:
    """The sum of two error functions: its 99% point, and a better p-value than one error function has."""
    truth = (190.0, 8.0, 1.0, 0.4, 240.0, 15.0)
    values = toy(300_000, 3, parameters=truth)
    fit = fit_turn_on(values, values, FINE)
    assert fit.values.size >= 6
    assert fit.p_value > 0.001
    names = ("mu", "sigma", "epsilon_max", "fraction_2", "mu_2", "sigma_2")
    true = point(TurnOn(names, np.array(truth), np.zeros((6, 6)), (), 0, 1, 1, 0, 0, "good"), 0.99).value
    found = point(fit, 0.99)
    assert abs(found.value - true) < 3 * found.error
    assert found.error < 0.01 * true


@pytest.mark.slow
def test_weights_do_not_bias_nor_fool_the_errors() -> None:
    """Events of two weights, the heavy ones with a threshold of their own: the curve of the weighted mixture.

    Heavy events fail more often, so a likelihood with each bin's own effective count would come out too high.
    """
    pulls = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        x = spectrum(60_000, generator, power=3.0)
        heavy = generator.uniform(size=x.size) < 0.1
        weight = np.where(heavy, 5.0, 0.5)
        passed = generator.uniform(size=x.size) < np.where(heavy, 0.9, 0.99) * efficiency(x, [MU, SIGMA, 1.0])
        values, variances = (counted(x, passed, FINE, w) for w in (weight, weight**2))
        fit = fit_turn_on(values, variances, FINE)
        top = (0.1 * 5.0 * 0.9 + 0.9 * 0.5 * 0.99) / (0.1 * 5.0 + 0.9 * 0.5)
        found = point(fit, 0.95)
        error = np.sqrt(fit.covariance[2, 2])
        pulls.append([(found.value - TRUE[0.95]) / found.error, (fit.values[2] - top) / error])
    pull = np.array(pulls)
    assert np.abs(pull.mean(axis=0)).max() < 0.5
    assert pull.std(axis=0).min() > 0.65
    assert pull.std(axis=0).max() < 1.4


def test_a_common_weight_changes_nothing() -> None:
    values = toy(20_000, 4)
    plain, weighted = fit_turn_on(values, values, FINE), fit_turn_on(0.01 * values, 1e-4 * values, FINE)
    np.testing.assert_allclose(weighted.values, plain.values, rtol=1e-5)
    assert weighted.deviance == pytest.approx(plain.deviance, rel=1e-5)


def test_a_step_is_known_to_a_bin() -> None:
    generator = np.random.default_rng(7)
    x = spectrum(20_000, generator)
    for threshold in (200.0, 201.3):
        values = counted(x, x >= threshold, FINE)
        fit = fit_turn_on(values, values, FINE)
        assert fit.status == "step"
        assert abs(point(fit, 0.99).value - threshold) < 2.0
        assert point(fit, 0.5).error == pytest.approx(2.0 / np.sqrt(12), rel=1e-6)


def test_a_curve_of_another_shape_is_marked() -> None:
    generator = np.random.default_rng(8)
    x = spectrum(500_000, generator, power=2.0)
    loss = np.where((x > 270) & (x < 300), 0.9, 1.0)
    values = counted(x, generator.uniform(size=x.size) < loss * efficiency(x, [MU, SIGMA, 1.0]), FINE)
    assert fit_turn_on(values, values, FINE).status == "poor fit"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((240, 2)), "too few entries: 0.0 effective ones, expected at least 20; add events"),
        (np.tile([10.0, 0.0], (240, 1)), "no turn-on: nothing passed; choose a lower threshold"),
        (
            np.tile([0.0, 10.0], (240, 1)),
            "no turn-on: already in the first bin, from 120, the efficiency is 1.000",
        ),
        (toy(120, 1), "too few entries: around the threshold .* expected at least 10 of both"),
    ],
    ids=["empty", "nothing passed", "no rise", "few"],
)
def test_what_cannot_be_fitted_says_so(values: Array, message: str) -> None:
    with pytest.raises(NotFitted, match=message):
        fit_turn_on(values, values, FINE)


def test_wrong_arguments() -> None:
    values = toy(1000, 1)
    with pytest.raises(ValueError, match=r"values have shape \(240, 2\) and edges \(3,\); expected \(n, 2\)"):
        fit_turn_on(values, values, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="edges must increase from 0 or above"):
        fit_turn_on(values, values, FINE[::-1])
    with pytest.raises(ValueError, match="give one for each"):
        fit_turn_on(values, values[:5], FINE)
    with pytest.raises(ValueError, match="4 parameters, expected 3, 6 or 9: mu, sigma"):
        efficiency(200.0, [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ValueError, match="level is 99, expected a fraction of the plateau"):
        point(closed(MU, SIGMA), 99)
