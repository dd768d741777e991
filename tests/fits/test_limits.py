"""Upper limits, against published numbers of pyhf's example, closed forms, and what must not give a number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyhf
import pytest
from scipy import optimize, stats

from trila.fits.asymptotics import BANDS, expected_cls, observed_cls
from trila.fits.errors import FitError
from trila.fits.likelihood import Model, Observation
from trila.fits.limits import upper_limits
from trila.fits.profile import asimov, conditional, profile
from trila.fits.pyhf_backend import pyhf_backend
from trila.fits.workspaces import from_pyhf

#: pyhf's schema validation, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")


def counting_pair(
    signal: list[float], background: list[float], errors: list[float], counts: list[float]
) -> Model:
    """pyhf's example: bins with uncorrelated errors of the background, which were measured in counts."""
    model = pyhf.simplemodels.uncorrelated_background(signal, background, errors)
    return from_pyhf(model, [*counts, *model.config.auxdata])


def example() -> Model:
    return counting_pair([12.0, 11.0], [50.0, 52.0], [3.0, 7.0], [51.0, 48.0])


def counting(count: float, background: float) -> Model:
    """One bin of a known background: the second is left out, and nothing but the signal moves."""
    model = counting_pair([1.0, 0.0], [background, 1.0], [1.0, 1.0], [count, 0.0])
    return model._replace(
        tensors=model.tensors._replace(weight=np.array([1.0, 0.0])),
        fixed=np.arange(len(model.parameters)) != model.poi,
        upper=np.full(len(model.parameters), 100.0),
    )


def cls_at(model: Model, mu: Any) -> tuple[np.ndarray, np.ndarray]:
    """Observed CLs (N,) and expected CLs (N, 5) at values of the parameter of interest, as the paper defines them."""
    values = np.asarray(mu, dtype=np.float64)
    fits = profile(model)
    which = np.zeros(values.size, dtype=np.int64)
    expectation = asimov(model, fits.background.values, fits.which)

    def scan(data: Observation) -> np.ndarray:
        many = Observation(*(np.repeat(x, values.size, axis=0) for x in data))
        start = np.repeat(fits.background.values, values.size, axis=0)
        return conditional(model, many, values, start, which).deviance

    flat = scan(expectation)
    q = np.where(fits.best.values[0, model.poi] > values, 0.0, scan(fits.observation) - fits.best.deviance[0])
    return observed_cls(q, flat).cls, expected_cls(flat)


def exact_cls(
    mu: float,
    signal: Sequence[float] = (12.0, 11.0),
    background: Sequence[float] = (50.0, 52.0),
    errors: Sequence[float] = (3.0, 7.0),
    counts: Sequence[float] = (51.0, 48.0),
) -> tuple[float, np.ndarray]:
    """Observed and expected CLs of such a model: in each bin the best nuisance parameter solves a quadratic equation."""
    s, b, n = (np.asarray(x) for x in (signal, background, counts))
    tau = (b / np.asarray(errors)) ** 2

    def best_gamma(mu: float, n: np.ndarray, a: np.ndarray) -> np.ndarray:
        square, line = b * (b + tau), (b + tau) * mu * s - (n + a) * b
        return (-line + np.sqrt(line**2 + 4 * square * a * mu * s)) / (2 * square)

    def twice_ratio(mu: float, n: np.ndarray, a: np.ndarray) -> float:
        gamma = best_gamma(mu, n, a)
        rate, auxiliary = b * gamma + mu * s, tau * gamma
        terms = rate - n + n * np.log(n / rate) + auxiliary - a + a * np.log(a / auxiliary)
        return float(2 * np.sum(terms))

    def slope(mu: float) -> float:
        return float(np.sum(s * (1 - n / (b * best_gamma(mu, n, tau) + mu * s))))

    best = 0.0 if slope(0.0) >= 0 else optimize.brentq(slope, 0.0, 10.0, xtol=1e-13)
    flat = best_gamma(0.0, n, tau)
    asimov_ratio = twice_ratio(mu, b * flat, tau * flat)
    width = np.sqrt(asimov_ratio)
    root = np.sqrt(twice_ratio(mu, n, tau) - twice_ratio(best, n, tau)) if mu > best else 0.0
    tail = root - width if root <= width else (root**2 - asimov_ratio) / (2 * width)
    observed = stats.norm.sf(tail + width) / stats.norm.sf(tail)
    return float(observed), stats.norm.sf(width - BANDS) / stats.norm.sf(-BANDS)


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
def test_cls_in_closed_form(mu: float) -> None:
    observed, expected = cls_at(example(), [mu])
    exact = exact_cls(mu)
    np.testing.assert_allclose(observed[0], exact[0], rtol=1e-7)
    np.testing.assert_allclose(expected[0], exact[1], rtol=1e-7)


def theirs(signal: list[float], background: list[float], errors: list[float], counts: list[float]) -> Any:
    """Observed and expected CLs at 1, and the limits of 21 points from 0 to 5, by pyhf as it comes, with SciPy's SLSQP."""
    model = pyhf.simplemodels.uncorrelated_background(signal, background, errors)
    data = [*counts, *model.config.auxdata]
    with pyhf_backend("numpy", "scipy"):
        observed, expected = pyhf.infer.hypotest(1.0, data, model, return_expected_set=True)
        grid = pyhf.infer.intervals.upper_limits.linear_grid_scan(data, model, np.linspace(0, 5, 21))
    return float(observed), np.array(expected), np.array([grid[0], *grid[1]])


PUBLISHED_CLS = [0.0525150, 0.0026063, 0.0138200, 0.0644532, 0.2352564, 0.5730362]
PUBLISHED_GRID = [1.0176409, 0.5957692, 2.0665494]  # observed, expected at -2 and +2 standard deviations


@pytest.mark.slow
def test_published_numbers_are_those_of_pyhfs_minimiser() -> None:
    """The numbers of pyhf's documentation come out of pyhf to all their digits, and miss the closed form by up to 6e-5.

    So the tests below compare with them up to that distance, and with the closed form to 1e-7.
    """
    observed, expected, grid = theirs([12.0, 11.0], [50.0, 52.0], [3.0, 7.0], [51.0, 48.0])
    np.testing.assert_array_equal(np.round([observed, *expected], 7), PUBLISHED_CLS)
    np.testing.assert_array_equal(np.round(grid[[0, 1, 5]], 7), PUBLISHED_GRID)
    exact = exact_cls(1.0)
    assert 5e-5 < np.abs(expected / exact[1] - 1).max() < 6e-5
    one_bin = ([10.0], [50.0], [7.0], [55.0])
    assert round(theirs(*one_bin)[0], 7) == 0.4541889
    assert 1e-6 < abs(0.4541889 / exact_cls(1.0, *one_bin)[0] - 1) < 1e-5


def test_cls_of_pyhfs_example() -> None:
    """As in pyhf's documentation, up to its minimiser's distance from the closed form."""
    observed, expected = cls_at(example(), [1.0])
    assert observed[0] == pytest.approx(PUBLISHED_CLS[0], rel=1e-5)
    np.testing.assert_allclose(expected[0], PUBLISHED_CLS[1:], rtol=5e-5)


@pytest.mark.slow
def test_cls_of_pyhf_with_a_tight_minimiser() -> None:
    model = pyhf.simplemodels.uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
    data = [51.0, 48.0, *model.config.auxdata]
    with pyhf_backend("numpy", "minuit", tolerance=1e-8):
        theirs = pyhf.infer.hypotest(1.0, data, model, return_expected_set=True)
    observed, expected = cls_at(example(), [1.0])
    np.testing.assert_allclose(observed[0], theirs[0], rtol=1e-6)
    np.testing.assert_allclose(expected[0], theirs[1], rtol=1e-6)


def test_limits_of_pyhfs_example() -> None:
    found = upper_limits(example())
    assert found.verified.all()
    assert found.observed[0] == pytest.approx(1.01157, rel=1e-5)
    np.testing.assert_allclose(found.expected[0], [0.55988, 0.75703, 1.06235, 1.50117, 2.05079], rtol=1e-5)
    assert exact_cls(found.observed[0])[0] == pytest.approx(0.05, rel=1e-6)


def test_a_grid_is_off_by_its_interpolation() -> None:
    """Limits from CLs at 21 points from 0 to 5, as pyhf's scan documents them, up to its minimiser's distance."""
    grid = np.linspace(0, 5, 21)
    observed, expected = cls_at(example(), grid)
    limits = [np.interp(0.05, x[::-1], grid[::-1]) for x in (observed, expected[:, 0], expected[:, 4])]
    np.testing.assert_allclose(limits, PUBLISHED_GRID, rtol=1e-5)
    slow = np.array([[exact[0], exact[1][0], exact[1][4]] for exact in map(exact_cls, grid[1:])])
    interpolated = [np.interp(0.05, column[::-1], grid[:0:-1]) for column in slow.T]
    np.testing.assert_allclose(limits, interpolated, rtol=1e-7)
    exact = upper_limits(example())
    assert limits[0] / exact.observed[0] == pytest.approx(1.006, abs=1e-3)
    assert limits[1] / exact.expected[0, 0] == pytest.approx(1.064, abs=1e-3)


@pytest.mark.parametrize(("count", "limit"), [(0.0, 2.566), (3.0, 4.779)])
def test_counts_over_a_background_of_three(count: float, limit: float) -> None:
    """Where the asymptotic limit is not the exact one (3.00 and 5.40)."""
    assert upper_limits(counting(count, 3.0)).observed[0] == pytest.approx(limit, abs=1e-3)


def test_expected_counting_limits_in_closed_form() -> None:
    """√q_A(μ) of a known background is √(2[μ - b ln(1 + μ/b)]), and band N its root."""
    targets = upper_limits(counting(10.0, 10.0)).expected[0]
    found = np.sqrt(2 * (targets - 10 * np.log1p(targets / 10)))
    np.testing.assert_allclose(found, [1.05176, 1.41199, 1.95996, 2.72718, 3.65598], rtol=1e-5)


@pytest.mark.parametrize("level", [0.68, 0.9, 0.99])
def test_cls_at_the_limit_is_what_was_asked_for(level: float) -> None:
    found = upper_limits(example(), level=level)
    limits = [found.observed[0], *found.expected[0]]
    observed, expected = cls_at(example(), limits)
    reached = [observed[0], *(expected[n + 1, n] for n in range(BANDS.size))]
    np.testing.assert_allclose(reached, 1 - level, rtol=1e-5)


@pytest.mark.slow
def test_scaling_the_signal_scales_the_limits() -> None:
    """Alternatives of one model: limits in events do not depend on the cross section a signal was normalised to."""
    model = example()
    scales = np.array([1.0, 0.01])
    signal = model.tensors.nominal < 20
    nominal = model.tensors.nominal * np.where(signal, scales[:, None, None], 1.0)
    many = model._replace(
        tensors=model.tensors._replace(nominal=nominal),
        alternatives=2,
        upper=np.where(np.arange(3) == model.poi, 1e4, model.upper),
    )
    found = upper_limits(many)
    assert found.verified.all()
    np.testing.assert_allclose(found.observed * scales, found.observed[0], rtol=1e-5)
    np.testing.assert_allclose(
        found.expected * scales[:, None], np.tile(found.expected[0], (2, 1)), rtol=1e-5
    )


def test_a_limit_may_lie_above_the_bound_of_its_parameter() -> None:
    """The bound is for fits that search the parameter; a limit holds it."""
    model = example()
    bounded = model._replace(upper=np.where(np.arange(3) == model.poi, 0.9, model.upper))
    found, free = upper_limits(bounded), upper_limits(model)
    assert free.best_fit[0] < 0.9
    np.testing.assert_allclose(found.observed, free.observed, rtol=1e-5)
    np.testing.assert_allclose(found.expected, free.expected, rtol=1e-5)


def test_a_limit_with_the_estimate_at_its_bound_is_not_verified() -> None:
    model = counting_pair([12.0, 11.0], [50.0, 52.0], [3.0, 7.0], [90.0, 92.0])
    bounded = model._replace(upper=np.where(np.arange(3) == model.poi, 0.9, model.upper))
    assert upper_limits(model).verified.all()
    assert upper_limits(bounded).verified.tolist() == [[False, True, True, True, True, True]]


def test_estimates_below_zero_compare_with_the_background() -> None:
    """q̃ with μ̂ < 0 allowed is that of a fit bounded at 0."""
    low = counting_pair([12.0, 11.0], [50.0, 52.0], [3.0, 7.0], [40.0, 41.0])
    free = low._replace(lower=np.where(np.arange(3) == low.poi, -2.0, low.lower))
    bounded, found = upper_limits(low), upper_limits(free)
    assert found.best_fit[0] < -0.1
    np.testing.assert_allclose(found.observed, bounded.observed, rtol=1e-5)


def test_the_error_of_the_best_fit_is_that_of_the_likelihood() -> None:
    """Second differences of the profile likelihood."""
    model = counting_pair([12.0, 11.0], [50.0, 52.0], [3.0, 7.0], [60.0, 64.0])
    found = upper_limits(model)
    step = 0.02
    fits = profile(model)
    values = found.best_fit[0] + step * np.array([-1.0, 0.0, 1.0])
    many = Observation(*(np.repeat(x, 3, axis=0) for x in fits.observation))
    start = np.repeat(fits.best.values, 3, axis=0)
    d = conditional(model, many, values, start, np.zeros(3, dtype=np.int64)).deviance
    assert found.sigma[0] == pytest.approx(np.sqrt(2 * step**2 / (d[0] - 2 * d[1] + d[2])), rel=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_data_that_are_no_counts_give_no_limit(bad: float) -> None:
    model = example()
    found = upper_limits(model._replace(observation=model.observation._replace(counts=np.array([bad, 48.0]))))
    assert np.isnan(found.observed).all()
    assert np.isnan(found.expected).all()
    assert np.isnan(found.best_fit).all()
    assert not found.verified.any()


@pytest.mark.slow
def test_one_impossible_alternative_does_not_disturb_the_others() -> None:
    """Events where neither signal nor background can be; the other alternative has its limit."""
    model = example()
    nominal = np.stack([model.tensors.nominal, model.tensors.nominal * [0.0, 1.0]])
    many = model._replace(tensors=model.tensors._replace(nominal=nominal), alternatives=2)
    found, alone = upper_limits(many), upper_limits(model)
    np.testing.assert_allclose(found.observed[0], alone.observed[0], rtol=1e-6)
    assert np.isnan(found.observed[1])
    assert np.isnan(found.expected[1]).all()
    assert not found.verified[1].any()


def test_no_sensitivity_gives_no_limit() -> None:
    model = example()
    nothing = model.tensors.nominal * np.where(model.tensors.nominal > 20, 1.0, 0.0)
    found = upper_limits(model._replace(tensors=model.tensors._replace(nominal=nothing)))
    assert np.isnan(found.observed).all()
    assert np.isnan(found.expected).all()
    assert not found.verified.any()


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_message_of_a_level(level: float) -> None:
    with pytest.raises(
        FitError, match=rf"confidence level {level:g}, expected a value between 0 and 1, such"
    ):
        upper_limits(example(), level=level)


@pytest.mark.slow
def test_cls_with_one_bin() -> None:
    bin_ = ([10.0], [50.0], [7.0], [55.0])
    observed, _ = cls_at(counting_pair(*bin_), [1.0])
    assert observed[0] == pytest.approx(exact_cls(1.0, *bin_)[0], abs=1e-9)
    assert observed[0] == pytest.approx(0.4541889, rel=1e-5)  # of ROOT and pyhf, with their minimisers


@pytest.mark.slow
@pytest.mark.parametrize(("code", "cls"), [("code0", 0.1001463), ("code4p", 0.1009486)])
def test_cls_depends_on_the_interpolation_of_shapes(code: str, cls: float) -> None:
    shape = {
        "name": "shape",
        "type": "histosys",
        "data": {"hi_data": [102.0, 190.0], "lo_data": [98.0, 100.0]},
    }
    signal = {
        "name": "s",
        "data": [30.0, 95.0],
        "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
    }
    background = {"name": "b", "data": [100.0, 150.0], "modifiers": [shape]}
    settings = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": code}}
    model = pyhf.Model(
        {"channels": [{"name": "c", "samples": [signal, background]}]},
        poi_name="mu",
        modifier_settings=settings,
    )
    observed, _ = cls_at(from_pyhf(model, [120.0, 180.0, *model.config.auxdata]), [1.0])
    assert observed[0] == pytest.approx(cls, abs=1e-5)
