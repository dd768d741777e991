"""The Crystal Ball of a signal, against SciPy's one-sided one, quadrature, and SciPy's own interpolation."""

from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import integrate, stats

from trila.fits.crystal_ball import CrystalBallParameters, tail_probability
from trila.fits.errors import FitError

NUMBERS = {"mean": 0.0, "sigma": 0.05, "alpha_low": 1.2, "n_low": 3.0, "alpha_high": 2.0, "n_high": 5.0}


def slow_density(t: float, alpha_low: float, n_low: float, alpha_high: float, n_high: float) -> float:
    """As in the papers, with (n/alpha)^n written out; not normalised."""
    alpha, n = (alpha_low, n_low) if t < 0 else (alpha_high, n_high)
    if abs(t) <= alpha:
        return float(np.exp(-(t**2) / 2))
    return float((n / alpha) ** n * np.exp(-(alpha**2) / 2) * (n / alpha - alpha + abs(t)) ** -n)


def test_one_tail_is_scipys() -> None:
    """A high tail that starts at 30 widths is none."""
    t = np.linspace(-25.0, 6.0, 311)
    one = stats.crystalball(beta=1.4, m=3.5)
    beyond = tail_probability(t, 1.4, 3.5, 30.0, 2.0)
    np.testing.assert_allclose(beyond, np.where(t < 0, one.cdf(t), one.sf(t)), rtol=1e-9)
    np.testing.assert_allclose(tail_probability(-t[t < 0], 30.0, 2.0, 1.4, 3.5), beyond[t < 0], rtol=1e-14)


@pytest.mark.parametrize("tails", [(1.5, 3.0, 2.0, 5.0), (0.5, 1.5, 3.0, 40.0), (2.5, 120.0, 0.8, 2.0)])
def test_tails_are_integrals_of_the_density(tails: tuple[float, float, float, float]) -> None:
    alpha_low, _, alpha_high, _ = tails
    breaks = [-np.inf, -alpha_low, 0.0, alpha_high, np.inf]

    def between(low: float, high: float) -> float:
        ends = [low, *(b for b in breaks if low < b < high), high]
        return sum(
            integrate.quad(slow_density, *part, args=tails, epsabs=0, epsrel=1e-11, limit=200)[0]
            for part in pairwise(ends)
        )

    total = between(-np.inf, np.inf)
    for t in (-30.0, -2.7, -0.3, 0.0, 0.4, 3.5, 50.0):
        expected = (between(-np.inf, t) if t < 0 else between(t, np.inf)) / total
        assert tail_probability(t, *tails) == pytest.approx(expected, rel=1e-7)


def test_ends_and_broadcasting() -> None:
    np.testing.assert_array_equal(tail_probability([-np.inf, np.inf], 1.0, 2.0, 3.0, 4.0), [0.0, 0.0])
    t, alpha = np.linspace(-5.0, 5.0, 11), np.array([[1.0], [2.0]])
    both = tail_probability(t, alpha, 3.0, 2.0, 4.0)
    assert both.shape == (2, 11)
    np.testing.assert_array_equal(both[1], tail_probability(t, 2.0, 3.0, 2.0, 4.0))


def test_parameters_as_functions_of_the_mass() -> None:
    masses = np.array([400.0, 750.0, 2000.0])
    table = {"masses": [400, 1000, 2000], "values": [1.0, 1.5, 1.6]}
    found = CrystalBallParameters.model_validate(
        NUMBERS | {"mean": -0.01, "sigma": {"polynomial": [0.08, -2e-5, 4e-9]}, "alpha_low": table}
    ).at(masses)
    assert found.shape == (6, 3)
    np.testing.assert_array_equal(found[0], -0.01)
    np.testing.assert_allclose(found[1], [0.08 - 2e-5 * m + 4e-9 * m * m for m in masses], rtol=1e-14)
    # At 750 GeV, the cubic Hermite of Fritsch and Carlson by hand: slopes at the ends of the first part are
    # 1.0656e-3 (three points, one-sided) and 1.91e-4 (weighted harmonic mean).
    first, second, width = 0.5 / 600, 0.1 / 1000, 600.0
    start = ((2 * 600 + 1000) * first - 600 * second) / 1600
    weights = (2 * 1000 + 600, 1000 + 2 * 600)
    end = sum(weights) / (weights[0] / first + weights[1] / second)
    u = 350.0 / width
    hermite = (
        (1 + 2 * u) * (1 - u) ** 2 * 1.0
        + u * (1 - u) ** 2 * width * start
        + u**2 * (3 - 2 * u) * 1.5
        + u**2 * (u - 1) * width * end
    )
    np.testing.assert_allclose(found[2], [1.0, hermite, 1.6], rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0}, r"sigma is 0, expected a value above 1e-09 and up to 1; mend it"),
        ({"n_low": 1.0}, r"n_low is 1, expected a value above 1 and up to 1e\+06; mend it"),
        ({"mean": 1000}, r"mean is 1000, expected a value above -0\.5 and up to 0\.5"),
        ({"sigma": {"coefficients": [1]}}, r"expected a number, \{polynomial: .*\} or \{masses: .*\}"),
        ({"sigma": {"polynomial": [1, 2, 3, 4]}}, r"at most 3 items"),
        ({"sigma": {"masses": [1, 2, 2], "values": [1, 1, 1]}}, r"masses of a table do not ascend; sort"),
        ({"sigma": {"masses": [1, 2], "values": [1]}}, r"1 values for 2 masses; give one for each"),
        ({"sigma": float("nan")}, r"finite number"),
        ({"gamma": 1.0}, r"Extra inputs are not permitted"),
    ],
)
def test_wrong_parameters_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CrystalBallParameters.model_validate(NUMBERS | change)


def test_wrong_values_at_a_mass() -> None:
    falling = CrystalBallParameters.model_validate(NUMBERS | {"sigma": {"polynomial": [0.1, -1e-4]}})
    with pytest.raises(FitError, match=r"sigma of the Crystal Ball is -0\.1 at 2000 GeV, expected .* mend"):
        falling.at(np.array([500.0, 2000.0]))
    table = CrystalBallParameters.model_validate(
        NUMBERS | {"n_low": {"masses": [500, 1000], "values": [3, 4]}}
    )
    with pytest.raises(FitError, match=r"mass 1200 GeV is outside of the table of n_low, 500 to 1000 GeV"):
        table.at(np.array([700.0, 1200.0]))
