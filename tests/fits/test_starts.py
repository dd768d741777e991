"""Start values against the parameters that made a spectrum."""

import re
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from trila.fits.errors import FitError
from trila.fits.expressions import expression
from trila.fits.families import Domain
from trila.fits.functions import FAMILIES, FUNCTIONS, SpectrumFunction

Array = NDArray[np.float64]

EDGES = np.geomspace(489.0, 6099.0, 54)
MASSES = (EDGES[1:] + EDGES[:-1]) / 2
WIDTHS = np.diff(EDGES)
DOMAIN = Domain(489.0, 6099.0, 13000.0)
EVENTS = 1e8
#: Of the largest function of a family; a smaller one leaves out the last.
TRUTH = {
    "dijet": (1.0, 10.0, 5.5, 0.1, 0.02, -0.003),
    "ua2": (1.0, 4.5, 12.0, 3.0, 4.0, -2.0),
    "modexp": (1.0, -38.0, 0.21, 3.0, 6.0, -2.0),
    "modexp4": (1.0, -40.0, 0.2, 0.3),  # whose fourth is what the fifth is for modexp5
    "polyext": (1.0, 9.0, 5.2, 0.1, 2.0, -3.0, 4.0),
    "bernstein": (1.0, 0.3, 0.1, 0.03, 0.01, 0.002, 0.001),
    "exppoly": (1.0, 3.0, 0.8, -0.3, 0.2, 0.1),
    "legendre": (1.0, -0.8, 0.35, -0.1, 0.03, -0.01, 0.004),
    "powerlaw": (1.0, 5.0),
}
LOG_LINEAR = [*FAMILIES["dijet"], *FAMILIES["ua2"], "powerlaw"]
POLYNOMIALS = [*FAMILIES["bernstein"], *FAMILIES["legendre"]]


def spectrum(name: str) -> tuple[Array, Array, Array]:
    """The true parameters with 10⁸ events, the density at the masses, and its statistical error."""
    function = FUNCTIONS[name]
    truth = np.array(TRUTH.get(name, TRUTH[function.family])[: len(function.parameters)])
    shape = function.density(MASSES, truth, DOMAIN)
    norm = EVENTS / np.sum(shape * WIDTHS)
    linear = slice(None) if name in POLYNOMIALS else slice(1)
    truth[linear] *= norm
    if function.family == "exppoly":
        truth[2:] *= norm
    values = shape * norm
    return truth, values, np.sqrt(np.maximum(values * WIDTHS, 1.0)) / WIDTHS


def start(function: SpectrumFunction, values: Array, errors: Array) -> Array:
    rows = function.start(MASSES, values, errors, DOMAIN)
    assert rows.ndim == 2
    assert rows.shape[0] >= 1
    assert rows.shape[1] == len(function.parameters)
    assert np.all(np.isfinite(rows))
    for row in rows:
        assert np.all(function.density(MASSES, row, DOMAIN) > 0)
    return rows


@pytest.mark.parametrize("name", [*LOG_LINEAR, *POLYNOMIALS])
def test_linear_problems_are_solved(name: str) -> None:
    truth, values, errors = spectrum(name)
    rows = start(FUNCTIONS[name], values, errors)
    np.testing.assert_allclose(rows, [truth], rtol=1e-6)


@pytest.mark.parametrize("name", [*FAMILIES["modexp"], *FAMILIES["polyext"], *FAMILIES["exppoly"]])
def test_the_best_start_is_near_a_smooth_spectrum(name: str) -> None:
    function = FUNCTIONS[name]
    _, values, errors = spectrum(name)
    rows = start(function, values, errors)
    ratios = [function.density(MASSES, row, DOMAIN) / values for row in rows]
    assert min(np.max(np.abs(ratio - 1.0)) for ratio in ratios) < 0.2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_counts_with_noise_give_usable_starts(name: str) -> None:
    """Counts of 10⁵ and of a hundred events, with many empty bins, and of one bin."""
    _, values, _ = spectrum(name)
    rng = np.random.default_rng(5)
    for events in (1e5, 1e2):
        counts = rng.poisson(values * WIDTHS * events / EVENTS)
        errors = np.sqrt(np.maximum(counts, 1)) / WIDTHS
        start(FUNCTIONS[name], counts / WIDTHS, errors)
    alone = np.where(np.arange(MASSES.size) == 20, 5.0, 0.0)
    start(FUNCTIONS[name], alone, np.ones_like(alone))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_windows_and_fine_bins_give_usable_starts(name: str) -> None:
    """Six bins, fewer than some functions have parameters, and a spectrum over eight decades in bins of 10 GeV."""
    rng = np.random.default_rng(6)
    for edges in (EDGES[20:27], np.arange(500.0, 5501.0, 10.0)):
        masses = (edges[1:] + edges[:-1]) / 2
        domain = Domain(edges[0], edges[-1], 13000.0)
        shape = FUNCTIONS["dijet4"].density(masses, np.array(TRUTH["dijet"][:4]), domain)
        counts = rng.poisson(EVENTS * shape / shape.sum())
        rows = FUNCTIONS[name].start(masses, counts / 1.0, np.sqrt(np.maximum(counts, 1)), domain)
        assert rows.shape[0] >= 1
        for row in rows:
            density = FUNCTIONS[name].density(masses, row, domain)
            assert np.all(np.isfinite(density) & (density > 0))


def test_starts_with_noise_are_within_their_errors() -> None:
    """The weighted fit of the logarithm is unbiased where bins have many events."""
    truth, values, _ = spectrum("dijet3")
    low = MASSES < 2000.0
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(200):
        counts = rng.poisson(values[low] * WIDTHS[low])
        errors = np.sqrt(counts) / WIDTHS[low]
        rows.append(FUNCTIONS["dijet3"].start(MASSES[low], counts / WIDTHS[low], errors, DOMAIN)[0])
    mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
    assert np.all(np.abs(mean - truth) < 4.0 * spread / np.sqrt(200))


def test_a_norm_that_no_float_holds_is_avoided() -> None:
    """In a window of a few bins, noise alone would give dijet6 a norm of e to the power of thousands."""
    window = slice(10, 18)
    rng = np.random.default_rng(2)
    values = spectrum("dijet6")[1]
    noisy = values[window] * (1 + 0.1 * rng.standard_normal(8))
    domain = Domain(EDGES[10], EDGES[18], 13000.0)
    rows = FUNCTIONS["dijet6"].start(MASSES[window], noisy, 0.1 * values[window], domain)
    density = FUNCTIONS["dijet6"].density(MASSES[window], rows[0], domain)
    assert rows[0, 0] > 0
    assert 0.7 < np.min(density / noisy) < np.max(density / noisy) < 1.4


def test_polynomials_stay_positive_where_free_ones_do_not() -> None:
    """A spectrum that is zero in the upper half: the free fit of second order dips below zero."""
    values = np.where(MASSES < 1500.0, 1e3, 0.0)
    for family, order in product(("bernstein", "legendre"), (2, 3)):
        start(FUNCTIONS[f"{family}{order}"], values, np.full_like(values, 10.0))


def test_given_starts_take_their_norm_from_the_data() -> None:
    function = expression("expr:p0 * exp(-p1*x); p1=20")
    values = 5e4 * np.exp(-20.0 * MASSES / 13000.0)
    rows = start(function, values, np.sqrt(values))
    np.testing.assert_allclose(rows, [[1.0, 20.0], [5e4, 20.0]], rtol=1e-12)
    offset = expression("expr:p0 + exp(-p1*x); p1=20")
    np.testing.assert_array_equal(start(offset, values, np.sqrt(values)), [[1.0, 20.0]])


def test_messages() -> None:
    nothing = np.zeros_like(MASSES)
    for function in (*FUNCTIONS.values(), expression("expr:p0 * x")):
        with pytest.raises(FitError, match="53 bins without events, expected events in some; choose a range"):
            function.start(MASSES, nothing, np.ones_like(MASSES), DOMAIN)
    negative = expression("expr:p0 - p1*m; p0=1000")
    message = "p0 - p1*m at its start values (1000, 1) is not a positive number at 1023.16 GeV, expected one"
    with pytest.raises(FitError, match=re.escape(message)):
        negative.start(MASSES, np.ones_like(MASSES), np.ones_like(MASSES), DOMAIN)
    overflow = expression("expr:p0 * exp(p1*m)")
    with pytest.raises(FitError, match=r"is not a positive number at .* GeV, .* give other start values"):
        overflow.start(MASSES, np.ones_like(MASSES), np.ones_like(MASSES), DOMAIN)
