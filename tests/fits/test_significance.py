"""Discoveries, against Li and Ma's formula, published numbers and toys."""

import numpy as np
import pyhf
import pytest
from scipy import stats

from trila.fits.errors import FitError
from trila.fits.likelihood import Model, Observation
from trila.fits.profile import asimov
from trila.fits.significance import discovery
from trila.fits.workspaces import from_pyhf

#: pyhf's schema validation, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")


def bin_of(signal: float, background: float, error: float, count: float) -> Model:
    """One bin whose background was measured in (b/error)² counts."""
    model = pyhf.simplemodels.uncorrelated_background([signal], [background], [error])
    return from_pyhf(model, [count, *model.config.auxdata])


def li_ma(on: float, off: float, tau: float) -> float:
    """Astrophys. J. 272 (1983) 317, eq. (17): counts with signal, counts without, and exposure of these over those."""
    total = on + off
    return float(
        np.sqrt(2 * (on * np.log(on * (1 + tau) / total) + off * np.log(off * (1 + tau) / (tau * total))))
    )


def test_published_p_value() -> None:
    found = discovery(bin_of(25.0, 50.0, 7.0, 80.0))
    assert found.verified.all()
    assert found.p_local[0] == pytest.approx(0.0039369, abs=1e-7)
    assert found.z_local[0] == pytest.approx(stats.norm.isf(0.0039369), abs=1e-5)


@pytest.mark.parametrize(
    ("signal", "background", "error", "count"),
    [(25.0, 50.0, 7.0, 80.0), (10.0, 100.0, 5.0, 140.0), (3.0, 4.0, 2.0, 30.0), (1e4, 1e8, 5e3, 1.0001e8)],
)
def test_on_and_off_counts(signal: float, background: float, error: float, count: float) -> None:
    off = (background / error) ** 2
    found = discovery(bin_of(signal, background, error, count))
    expected = li_ma(count, off, off / background)
    assert found.z_local[0] == pytest.approx(expected, rel=1e-6)
    assert found.q0[0] == pytest.approx(expected**2, rel=1e-6)
    assert found.best_fit[0] == pytest.approx((count - background) / signal, rel=1e-5)


def test_sigma_is_that_of_the_difference_of_counts() -> None:
    """The variance of n - b is n + error² at the best fit, where neither was pulled."""
    found = discovery(bin_of(25.0, 50.0, 7.0, 80.0))
    assert found.sigma[0] == pytest.approx(np.sqrt(80 + 49) / 25, rel=1e-6)


def test_expected_significance() -> None:
    """That of the Asimov data set with signal, in closed form."""
    model = bin_of(10.0, 100.0, 5.0, 100.0)
    signal = np.array([[1.0, 1.0]])
    found = discovery(model, asimov(model, signal, np.array([0])), np.array([0]))
    assert found.z_local[0] == pytest.approx(0.877246, abs=1e-6)
    known = model._replace(fixed=np.arange(2) != model.poi)
    for s, b, z in [(10, 100, 0.983992), (5, 1, 3.391329), (50, 100, 4.651831)]:
        model = bin_of(s, b, 1.0, s + b)._replace(fixed=known.fixed)
        assert discovery(model).z_local[0] == pytest.approx(z, abs=1e-6)


@pytest.mark.parametrize("lower", [0.0, -5.0])
def test_a_deficit_is_no_discovery(lower: float) -> None:
    model = bin_of(25.0, 50.0, 7.0, 40.0)
    model = model._replace(lower=np.where(np.arange(2) == model.poi, lower, model.lower))
    found = discovery(model)
    assert (found.q0[0], found.p_local[0], found.z_local[0]) == (0.0, 0.5, 0.0)
    assert found.best_fit[0] == pytest.approx(max(-10 / 25, lower), rel=1e-5)
    assert found.verified.all()


def test_significances_of_toys_are_half_normal() -> None:
    model = bin_of(100.0, 10_000.0, 50.0, 10_000.0)
    generator = np.random.default_rng(1)
    number = 1500
    off = np.where(model.tensors.poisson > 0, model.tensors.poisson, 1.0)
    data = Observation(
        generator.poisson(10_000, (number, 1)) * 1.0, generator.poisson(off, (number, 2)) * 1.0
    )
    found = discovery(model, data, np.zeros(number, dtype=np.int64))
    assert found.verified.all()
    for threshold in (0.0, 1.0, 2.0):
        share = stats.norm.sf(threshold)
        error = np.sqrt(share * (1 - share) / number)
        assert np.mean(found.z_local > threshold) == pytest.approx(share, abs=3.5 * error)


def test_an_estimate_at_its_upper_bound_is_not_verified() -> None:
    """Its q_0 is that of the bound, smaller than that of the data."""
    found = discovery(bin_of(1.0, 4.0, 2.0, 30.0))
    assert found.best_fit[0] == 10.0
    assert found.z_local[0] < li_ma(30.0, 4.0, 1.0)
    assert not found.verified.any()


def test_a_failed_fit_is_no_number() -> None:
    with pytest.raises(FitError, match="observations that are not finite"):
        bin_of(25.0, 50.0, 7.0, np.nan)
    found = discovery(bin_of(25.0, 50.0, 7.0, -1.0))
    assert not found.verified.any()
    assert np.isnan([found.q0, found.p_local, found.z_local, found.best_fit, found.sigma]).all()
