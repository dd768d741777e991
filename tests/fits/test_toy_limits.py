"""Limits from toys, against exact limits of counts and the asymptotic ones where they are right."""

import numpy as np
import pytest
from scipy import stats

from trila.fits.counting import cls_limit
from trila.fits.errors import FitError
from trila.fits.likelihood import Model, Observation, Structure, Tensors
from trila.fits.limits import upper_limits
from trila.fits.minimise import Minimum
from trila.fits.profile import free_fit
from trila.fits.toy_limits import toy_cls, toy_limits


def counting(count: float, background: float, error: float = 0.0) -> Model:
    """One bin; a background known, or with a relative error."""
    none = np.zeros((0, 2, 1))
    up = np.array([[[0.0], [np.log1p(error)]]])
    return Model(
        Structure("code4", "code4p", ()),
        Tensors(
            np.array([[1.0], [background]]), np.array([[[0], [2]]]), np.array([1]), up, -up, np.zeros(0, dtype=np.int64), none,
            none, np.array([0.0, 1.0]), np.zeros(2), np.ones(1), (),
        ),
        ("mu", "background"), 0, np.zeros(2), np.array([-0.9 * background, -10.0]), np.array([np.inf, 10.0]),
        np.array([False, error == 0.0]), Observation(np.array([count]), np.zeros(2)),
    )  # fmt: skip


def test_cls_at_the_exact_limit() -> None:
    """Three events over three: CLs is 0.05 at 5.39545, where the asymptotic one is 0.03."""
    found = toy_cls(counting(3.0, 3.0), np.array([5.39545]), 2000, 1)
    assert found.observed[0] == pytest.approx(0.05, abs=3 * 0.05 * found.observed_error[0])
    assert found.failed == 0
    clsb, clb = stats.poisson.cdf(3, 8.39545), stats.poisson.cdf(3, 3.0)
    error = np.sqrt((1 - clsb) / (2000 * clsb) + (1 - clb) / (2000 * clb))
    assert found.observed_error[0] == pytest.approx(error, rel=0.15)


def test_expected_cls_is_that_of_the_quantiles_of_the_background() -> None:
    """Counts at the quantiles of the background's distribution, from the least to the most."""
    found = toy_cls(counting(3.0, 3.0), np.array([5.0, 6.0]), 2000, 2)
    counts = stats.poisson.ppf(stats.norm.cdf([-2, -1, 0, 1, 2]), 3.0)
    for row, errors, mu in zip(found.expected, found.expected_error, found.mu, strict=True):
        truth = stats.poisson.cdf(counts, 3.0 + mu) / stats.poisson.cdf(counts, 3.0)
        pulls = np.log(row / truth) / np.maximum(errors, 0.02)
        assert np.all(np.abs(pulls) < 4)


@pytest.mark.parametrize(
    ("count", "limit"), [(3.0, 5.39545), pytest.param(0.0, 2.99573, marks=pytest.mark.slow)]
)
def test_exact_limits_of_counts(count: float, limit: float) -> None:
    found = toy_limits(counting(count, 3.0), toys=1000, seed=1)
    assert found.observed[0] == pytest.approx(limit, abs=3 * found.observed_error[0])
    assert found.observed_error[0] < 0.25 * limit
    assert found.verified[0, 0]
    truth = cls_limit([0, 1, 3, 5, 7], 3.0)
    assert np.all(np.abs(found.expected[0, 1:] - truth[1:]) < 4 * found.expected_error[0, 1:] + 0.02)
    # two or three toys with signal have no event, and the error says so
    assert 0.15 < found.expected_error[0, 0] < 1.5
    assert found.failed[0] == 0
    assert found.drawn[0] >= 2 * 1000 * 6


def test_asymptotic_limits_at_high_counts() -> None:
    model = counting(520.0, 500.0, 0.05)
    asymptotic, found = upper_limits(model), toy_limits(model, toys=500, seed=5)
    assert found.observed[0] == pytest.approx(asymptotic.observed[0], abs=3 * found.observed_error[0])
    off = np.abs(found.expected - asymptotic.expected)[0, 1:]
    assert np.all(off < 3 * found.expected_error[0, 1:] + 0.02 * asymptotic.expected[0, 1:])
    assert found.verified[0, 1:].all()


def test_equal_seeds_give_equal_limits() -> None:
    first, again = (toy_limits(counting(3.0, 3.0), toys=100, seed=2) for _ in range(2))
    other = toy_limits(counting(3.0, 3.0), toys=100, seed=3)
    assert first.observed[0] == again.observed[0]
    assert first.observed[0] != other.observed[0]
    assert first.observed[0] == pytest.approx(
        other.observed[0], abs=4 * np.hypot(first.observed_error[0], other.observed_error[0])
    )


def test_data_without_a_fit_have_no_limit() -> None:
    found = toy_limits(counting(np.nan, 3.0), toys=100)
    assert np.isnan(found.observed).all()
    assert np.isnan(found.expected).all()
    assert not found.verified.any()
    with pytest.raises(
        FitError, match="fit of the data of alternative 0 did not converge, expected a minimum to draw"
    ):
        toy_cls(counting(np.nan, 3.0), np.array([1.0]), 100, 1)


def test_failed_toys_exclude_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With signal they count as beyond the data, without it as not: both raise CLs."""
    sound = toy_cls(counting(3.0, 3.0), np.array([5.0]), 1000, 1)

    def failing(model: Model, data: Observation, start: np.ndarray, which: np.ndarray) -> Minimum:
        found = free_fit(model, data, start, which)
        return found._replace(converged=found.converged & ((len(which) == 1) | (np.arange(len(which)) >= 20)))

    monkeypatch.setattr("trila.fits.toy_limits.free_fit", failing)
    found = toy_cls(counting(3.0, 3.0), np.array([5.0]), 1000, 1)
    assert found.failed == 40
    assert sound.observed[0] * 1.2 < found.observed[0] < sound.observed[0] + 0.05
    assert np.all(found.expected[0] >= sound.expected[0])


def test_messages() -> None:
    with pytest.raises(
        FitError, match=r"the confidence level is 95, expected a value between 0 and 1; give 0.95 for 95 %"
    ):
        toy_limits(counting(3.0, 3.0), level=95)
    with pytest.raises(FitError, match="0 toys, expected at least 1; give a number such as 1000"):
        toy_limits(counting(3.0, 3.0), toys=0)


@pytest.mark.slow
def test_errors_are_those_of_other_seeds() -> None:
    found = [toy_limits(counting(3.0, 3.0), toys=500, seed=i) for i in range(24)]
    observed = np.array([x.observed[0] for x in found])
    errors = np.array([x.observed_error[0] for x in found])
    assert observed.std(ddof=1) == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.4)
    assert observed.mean() == pytest.approx(5.39545, abs=3.5 * observed.std() / np.sqrt(24))
    median = np.array([x.expected[0, 3] for x in found])
    # the quantile of a count is one count, for nearly all seeds
    assert np.median(median) == pytest.approx(cls_limit(5, 3.0), rel=0.05)
