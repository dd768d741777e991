"""Limits on couplings, against a cross-section in closed form and a loop."""

from pathlib import Path

import numpy as np
import pytest

from trila.fits.couplings import Scaling, coupling_limit, read_scaling
from trila.fits.errors import FitError

TABLE = """# Z' to quarks at 13 TeV
 mass , g, sigma, order
1000, 0.25, 10.0, LO

500,0.25,160.0,LO
2000,0.1,0.1,LO
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "zprime.csv"
    path.write_text(text)
    return path


def test_table_is_read_and_sorted(tmp_path: Path) -> None:
    table = read_scaling(write(tmp_path, TABLE))
    np.testing.assert_array_equal(table.mass, [500.0, 1000.0, 2000.0])
    np.testing.assert_array_equal(table.coupling, [0.25, 0.25, 0.1])
    np.testing.assert_array_equal(table.sigma, [160.0, 10.0, 0.1])
    assert table.source.endswith("zprime.csv")


def test_a_power_law_is_exact() -> None:
    """σ = 3 pb g² (m/TeV)⁻⁴: the coupling that gives a cross-section is known."""
    mass = np.array([400.0, 900.0, 1500.0, 3000.0])
    coupling = np.array([0.25, 0.1, 0.25, 0.5])
    table = Scaling(mass, coupling, 3.0 * coupling**2 * (mass / 1000) ** -4, "closed form")
    wanted = np.array([0.03, 0.1, 0.3, 0.05, 0.2])
    at = np.array([400.0, 450.0, 1100.0, 2200.0, 3000.0])
    limits = 3.0 * wanted**2 * (at / 1000) ** -4
    np.testing.assert_allclose(coupling_limit(table, at, limits), wanted, rtol=1e-12)
    # A band: four times the cross-section is twice the coupling, at any mass.
    band = coupling_limit(table, at, limits * np.array([0.25, 0.5, 1.0, 2.0, 4.0])[:, np.newaxis])
    np.testing.assert_allclose(band[[0, 2, 4]], wanted * np.array([[0.5], [1.0], [2.0]]), rtol=1e-12)


def test_interpolation_of_a_steep_spectrum() -> None:
    """A cross-section with the fall of parton densities, in steps of 10 %: the coupling is right to 0.2 %."""

    def sigma(mass: np.ndarray) -> np.ndarray:
        return np.asarray(50 * (1 - mass / 13000) ** 8 * (mass / 1000) ** -5)

    mass = 500 * 1.1 ** np.arange(16)
    table = Scaling(mass, np.full(16, 0.25), sigma(mass), "steep")
    at = np.sqrt(mass[1:] * mass[:-1])
    np.testing.assert_allclose(coupling_limit(table, at, sigma(at)), 0.25, rtol=2e-3)


def test_agrees_with_a_loop(tmp_path: Path) -> None:
    table = read_scaling(write(tmp_path, TABLE))
    masses, limits = [600.0, 1000.0, 1900.0], [2.0, 0.4, 0.01]
    expected = []
    for mass, limit in zip(masses, limits, strict=True):
        k = max(i for i in range(2) if table.mass[i] <= mass)
        low, high = (table.sigma[i] / table.coupling[i] ** 2 for i in (k, k + 1))
        fraction = np.log(mass / table.mass[k]) / np.log(table.mass[k + 1] / table.mass[k])
        expected.append(np.sqrt(limit / (low * (high / low) ** fraction)))
    np.testing.assert_allclose(coupling_limit(table, masses, limits), expected, rtol=1e-12)
    assert np.isnan(coupling_limit(table, masses, [2.0, np.nan, 0.01])[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mass,sigma\n1,1\n",
            r"zprime.csv' has columns mass, sigma, expected mass, g, sigma; add 'g'",
        ),
        (
            "mass,g,g,sigma\n",
            r"has columns mass, g, g, sigma, expected mass, g, sigma; leave one 'g' in its first line",
        ),
        ("", r"has columns \(none\), expected mass, g, sigma; add 'mass'"),
        ("mass,g,sigma\n1,1,abc\n", r"has sigma = 'abc', expected a number; correct that row"),
        ("mass,g,sigma\n1,0,1\n", r"has g = '0', expected a number above 0"),
        ("mass,g,sigma\n1,inf,1\n", r"has g = 'inf', expected a number above 0"),
        ("mass,g,sigma\n1,1\n", r"has sigma = '', expected a number; correct that row"),
        ("mass,g,sigma\n5,1,1\n5,2,1\n", r"has a mass of 5 GeV twice; keep one row for each mass"),
        ("mass,g,sigma\n5,1,1\n", r"has 1 masses, expected at least two; add rows"),
        ("mass,g,sigma\n", r"has 0 masses, expected at least two; add rows"),
    ],
)
def test_messages_of_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FitError, match=message):
        read_scaling(write(tmp_path, text))


def test_messages(tmp_path: Path) -> None:
    with pytest.raises(
        FitError, match=r"cannot read '.*none.csv' \(.*\); give a CSV file with mass, g, sigma"
    ):
        read_scaling(tmp_path / "none.csv")
    table = read_scaling(write(tmp_path, TABLE))
    with pytest.raises(
        FitError, match=r"a mass of 400 GeV, expected 500 to 2000 GeV, the range of '.*zprime.csv'"
    ):
        coupling_limit(table, [400.0, 600.0], [1.0, 1.0])
    with pytest.raises(FitError, match=r"limits of shape \(2, 5\) for masses of shape \(2,\), .* transpose"):
        coupling_limit(table, [600.0, 700.0], np.ones((2, 5)))
    with pytest.raises(FitError, match=r"limit in pb contains -1, .* nan where there is none"):
        coupling_limit(table, [600.0], [-1.0])
