from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from trila.fits import functions
from trila.fits.errors import FitError
from trila.fits.functions import Domain

DOMAIN = Domain(400.0, 7000.0, 13600.0)
PARAMETERS = {
    "dijet3": (1e-2, 9.0, 5.2),
    "dijet6": (1e-2, 10.0, 5.5, 0.1, 0.02, -0.003),
    "ua2-6": (1e-2, 4.5, 12.0, 3.0, 4.0, -2.0),
    "modexp5": (1e12, -38.0, 0.21, 3.0, 6.0),
    "polyext7": (1e-2, 9.0, 5.2, 0.1, 2.0, -3.0, 4.0),
    "bernstein4": (900.0, 400.0, 150.0, 80.0, 20.0),
    "exppoly2": (900.0, 3.0, 700.0, -300.0),
    "legendre5": (900.0, -600.0, 250.0, -80.0, 20.0, -6.0),
    "powerlaw": (1e-2, 4.5),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_expectation_agrees_with_adaptive_quadrature(name: str) -> None:
    edges = np.array([453.0, 489.0, 526.0, 1000.0, 1058.0, 6000.0, 6099.0])
    parameters = np.array(PARAMETERS[name])
    density = functions.FUNCTIONS[name].density
    expected = [
        quad(lambda m: density(np.float64(m), parameters, DOMAIN), low, high, epsrel=1e-12)[0]
        for low, high in pairwise(edges)
    ]
    found = functions.expectation(name, edges, parameters, domain=DOMAIN)
    # Eight points are enough for bins of the widths in use, not for one of a factor of six in mass.
    usual = np.diff(edges) < 100.0
    np.testing.assert_allclose(found[usual], np.array(expected)[usual], rtol=1e-10)
    many = functions.expectation(name, edges, parameters, domain=DOMAIN, points=40)
    np.testing.assert_allclose(many, expected, rtol=1e-10)


def test_centre_times_width_is_not_good_enough() -> None:
    edges = np.array([489.0, 526.0])
    integral = functions.expectation("dijet3", edges, PARAMETERS["dijet3"], domain=DOMAIN)
    centre = functions.density("dijet3", edges.mean(), PARAMETERS["dijet3"], domain=DOMAIN) * 37.0
    assert 1e-3 < abs(centre / integral[0] - 1.0) < 1e-1


def test_integrate_bins_is_exact_for_polynomials() -> None:
    found = functions.integrate_bins(lambda m: m**3, [0.0, 1.0, 3.0], points=2)
    np.testing.assert_allclose(found, [0.25, 20.0], rtol=1e-14)


def test_weights_of_the_quadrature_are_widths() -> None:
    mass, weights = functions.quadrature([1.0, 2.0, 5.0], points=5)
    assert mass.shape == weights.shape == (2, 5)
    np.testing.assert_allclose(weights.sum(axis=-1), [1.0, 3.0], rtol=1e-14)
    assert np.all(np.diff(mass.ravel()) > 0)


def test_many_windows_at_once() -> None:
    """Edges of windows along the first axis, their parameters along the second."""
    edges = np.array([[500.0, 600.0, 700.0], [600.0, 700.0, 800.0]])
    parameters = np.array([PARAMETERS["dijet6"], np.multiply(PARAMETERS["dijet6"], 1.1)])
    mass, weights = functions.quadrature(edges)
    columns = parameters.T[:, :, np.newaxis, np.newaxis]
    found = (functions.FUNCTIONS["dijet6"].density(mass, columns, DOMAIN) * weights).sum(axis=-1)
    for row, window, values in zip(found, edges, parameters, strict=True):
        expected = functions.expectation("dijet6", window, values, domain=DOMAIN)
        np.testing.assert_allclose(row, expected, rtol=1e-14)


def test_each_function_names_its_parameters() -> None:
    counts = {name: len(function.parameters) for name, function in functions.FUNCTIONS.items()}
    assert counts == (
        {f"dijet{n}": n for n in (3, 4, 5, 6)}
        | {f"ua2-{n}": n for n in (4, 5, 6)}
        | {f"modexp{n}": n for n in (3, 4, 5, 6)}
        | {f"polyext{n}": n for n in (5, 6, 7)}
        | {f"bernstein{n}": n + 1 for n in (2, 3, 4, 5, 6)}
        | {f"exppoly{n}": n + 2 for n in (1, 2, 3, 4)}
        | {f"legendre{n}": n + 1 for n in (2, 3, 4, 5, 6)}
        | {"powerlaw": 2}
    )


def test_families_hold_every_function_in_order() -> None:
    assert [name for names in functions.FAMILIES.values() for name in names] == list(functions.FUNCTIONS)
    assert functions.FAMILIES["ua2"] == ("ua2-4", "ua2-5", "ua2-6")
    for names in functions.FAMILIES.values():
        counts = [len(functions.FUNCTIONS[name].parameters) for name in names]
        assert np.all(np.diff(counts) == 1)


def test_resolve_takes_names_expressions_and_files(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("def f(mass, parameters, domain):\n    return parameters[0] / mass\n")
    with file.open("a") as out:
        out.write('f.parameters = ("norm",)\nf.start = (1.0,)\n')
    for name in ("dijet5", "expr:p0 / m", f"{file}:f"):
        assert functions.resolve(name) == functions.resolve(name)
        assert functions.resolve(name).name == name
    for name in ("expr:p0 / m", f"{file}:f", functions.resolve("expr:p0/m")):
        found = functions.density(name, [2.0, 4.0], [8.0], domain=DOMAIN)
        np.testing.assert_allclose(found, [4.0, 2.0], rtol=1e-15)


def test_messages() -> None:
    with pytest.raises(
        FitError, match=r"unknown function 'dijet7'; did you mean dijet6 or dijet5 or dijet4\?"
    ):
        functions.density("dijet7", 500.0, [1.0], domain=DOMAIN)
    with pytest.raises(
        FitError, match=r"'qqq'; known: dijet3, .* powerlaw\? expr:EXPRESSION and FILE.py:NAME"
    ):
        functions.resolve("qqq")
    with pytest.raises(
        FitError, match=r"dijet3 got parameters of shape \(2,\), expected 3 values \(p0, p1, p2\)"
    ):
        functions.density("dijet3", 500.0, [1.0, 2.0], domain=DOMAIN)
    with pytest.raises(
        FitError, match=r"masses from 500 to 20000 GeV, expected .* sqrt_s = 13600 GeV; check the units"
    ):
        functions.expectation("dijet3", [500.0, 20000.0], [1.0, 2.0, 3.0], domain=DOMAIN)
    with pytest.raises(
        FitError, match=r"fit range from 700 to 400 GeV, expected a lower end below .* exchange"
    ):
        functions.density("dijet3", 500.0, [1.0, 2.0, 3.0], domain=Domain(700.0, 400.0, 13600.0))
    with pytest.raises(
        FitError, match=r"bin edges of shape \(3,\), expected at least two increasing values; sort"
    ):
        functions.expectation("dijet3", [500.0, 700.0, 600.0], [1.0, 2.0, 3.0], domain=DOMAIN)
