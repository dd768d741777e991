"""Dark photons against the Breit-Wigner of amplitudes, published formulas and CODATA."""

import numpy as np
import pytest
from scipy import constants
from scipy.integrate import quad

from trila.fits import dark_photon
from trila.fits.dark_photon import (
    decay_length,
    effective_flavours,
    eps2_limit,
    expected_yield,
    lifetime,
    muon_branching,
    rate_ratio,
    signal_factor,
    widths,
)
from trila.fits.errors import FitError


def test_constants_are_codata() -> None:
    gev_ps = constants.hbar / constants.e * 1e-9 * 1e12
    assert pytest.approx(gev_ps, rel=1e-9) == dark_photon.HBAR
    assert pytest.approx(constants.fine_structure, rel=1e-9) == dark_photon.ALPHA
    assert pytest.approx(constants.c * 1e3 * 1e-12, rel=1e-12) == dark_photon.LIGHT_SPEED
    lighter = [
        constants.value(f"{name} mass energy equivalent in MeV") / 1e3 for name in ("electron", "muon")
    ]
    # The τ is that of the Particle Data Group, Phys. Rev. D 110 (2024) 030001.
    np.testing.assert_allclose(dark_photon.LEPTON_MASSES, [*lighter, 1.77693], rtol=1e-7)


def test_widths_and_lifetime_below_the_pions() -> None:
    found = widths(0.25, 1e-9)
    assert found.ee == pytest.approx(6.081e-13, rel=1e-3)
    assert found.mumu == pytest.approx(4.410e-13, rel=1e-3)
    assert found.tautau == 0.0
    assert found.hadrons == 0.0
    assert lifetime(0.25, 1e-9) == pytest.approx(0.6274, rel=1e-3)
    assert decay_length(0.25, 1e-9) == pytest.approx(0.188, rel=1e-3)
    assert muon_branching(0.25) == pytest.approx(0.4204, rel=1e-3)


def test_widths_are_consistent() -> None:
    mass = np.geomspace(0.005, 60, 50)
    found = widths(mass, 1e-6)
    np.testing.assert_allclose(lifetime(mass, 1e-6), 6.582119569e-25 / found.total * 1e12, rtol=1e-9)
    np.testing.assert_allclose(muon_branching(mass), found.mumu / found.total, rtol=1e-12)
    np.testing.assert_allclose(
        effective_flavours(mass) * 1e-6 * mass / (3 * 137.035999), found.total, rtol=1e-8
    )


def test_muons_are_produced_as_in_e_plus_e_minus() -> None:
    """The width of a vector to fermions is the integral of |M|² over two-body phase space."""
    m, fermion = 0.5, 0.1056583755
    momentum = np.sqrt(m**2 / 4 - fermion**2)
    # Spin-averaged |M|² = (4 e² ε²/3)(m² + 2 m_ℓ²), Γ = p |M|²/(8 π m²).
    squared = 4 / 3 * 4 * np.pi * dark_photon.ALPHA * 1e-6 * (m**2 + 2 * fermion**2)
    assert widths(m, 1e-6).mumu == pytest.approx(momentum * squared / (8 * np.pi * m**2), rel=1e-12)


def test_flavours() -> None:
    assert effective_flavours(60.0, hadrons=11 / 3) == pytest.approx(20 / 3, rel=1e-4)
    assert effective_flavours(1.0, hadrons=1.5) == pytest.approx(3.5, rel=1e-3)
    # Above the τ threshold, the built-in table: 3 leptons and R with its QCD corrections.
    assert effective_flavours(25.0) == pytest.approx(3 + 3.85, rel=2e-3)
    np.testing.assert_allclose(effective_flavours([0.25, 0.5], hadrons=[0.0, 1.0]).shape, (2,))


@pytest.mark.parametrize(
    ("mass", "eps2", "flavours", "window"),
    [(25.0, 2e-5, 6.67, 1.0), (1.5, 1e-6, 4.0, 0.05), (40.0, 1e-4, 6.67, 2.0)],
)
def test_ratio_is_the_integral_of_the_line(mass: float, eps2: float, flavours: float, window: float) -> None:
    width = eps2 * constants.fine_structure * mass * flavours / 3

    def line(u: float) -> float:
        """|A'|² over |γ*|², with the mass at tan(u) half widths from the peak."""
        m = mass + width / 2 * np.tan(u)
        ratio = eps2**2 * m**4 / ((m**2 - mass**2) ** 2 + width**2 * mass**2)
        return float(ratio * width / 2 / np.cos(u) ** 2 / window)

    end = np.arctan(window / width)
    integral = quad(line, -end, end, limit=200, epsrel=1e-9)[0]
    assert rate_ratio(mass, eps2, window, flavours) == pytest.approx(integral, rel=1e-4)


def test_published_ratio() -> None:
    assert rate_ratio(25.0, 2e-5, 1.0, 6.67) == pytest.approx(0.0484081, rel=1e-4)
    # arXiv:1603.08926, with a window of ± 2 σ.
    sigma = 0.1
    assert rate_ratio(25.0, 2e-5, 4 * sigma, 6.67) == pytest.approx(
        3 * np.pi / 8 * 25.0 / sigma * 2e-5 * 137.035999 / 6.67, rel=1e-8
    )
    np.testing.assert_allclose(signal_factor([1.0, 25.0], [3.5, 20 / 3]), [184.5, 2421.6], rtol=3e-4)


def test_limit_on_the_coupling() -> None:
    assert eps2_limit(25.0, 1000.0, 5e4, flavours=6.67) == pytest.approx(8.2630e-6, rel=1e-3)
    mass, photons = np.array([2.0, 5.0, 25.0]), np.array([3e6, 4e5, 5e4])
    limits = eps2_limit(mass, [[300.0, 200.0, 100.0], [600.0, np.nan, 200.0]], photons, efficiency_ratio=0.9)
    assert limits.shape == (2, 3)
    assert np.isnan(limits[1, 1])
    np.testing.assert_allclose(
        expected_yield(mass, limits[0], photons, efficiency_ratio=0.9), [300.0, 200.0, 100.0], rtol=1e-12
    )
    np.testing.assert_allclose(limits[1, ::2], 2 * limits[0, ::2])


def test_a_simulated_signal_is_found_again() -> None:
    """Dimuons drawn from the photon's spectrum and an A' line: the excess gives back the coupling."""
    rng = np.random.default_rng(7)
    mass, eps2, flavours, half = 25.0, 1e-3, 6.67, 1.0
    photons = rng.poisson(2e6)
    # dN/dm falls as m⁻³ between 20 and 30 GeV.
    m = (20.0**-2 - rng.uniform(size=photons) * (20.0**-2 - 30.0**-2)) ** -0.5
    per_gev = np.sum(np.abs(m - mass) < half) / (2 * half)
    signal = rng.poisson(per_gev * rate_ratio(mass, eps2, 2 * half, flavours) * 2 * half)
    found = eps2_limit(mass, signal, per_gev, flavours=flavours)
    assert found == pytest.approx(eps2, rel=4 / np.sqrt(signal))


def test_messages() -> None:
    with pytest.raises(FitError, match=r"mass in GeV contains 0, .* check the unit"):
        widths(0.0, 1e-6)
    with pytest.raises(FitError, match=r"eps2 contains -1e-06, .* square of the kinetic mixing"):
        lifetime(1.0, -1e-6)
    with pytest.raises(FitError, match=r"hadrons contains -1, .* give R at each mass"):
        effective_flavours(1.0, hadrons=-1.0)
    with pytest.raises(FitError, match=r"flavours contains 0, .* as `effective_flavours` does"):
        muon_branching(1.0, flavours=0.0)
    with pytest.raises(FitError, match=r"R at 100 GeV, expected masses up to 70 GeV"):
        signal_factor(100.0)
    with pytest.raises(FitError, match=r"width of the window in GeV contains 0"):
        rate_ratio(1.0, 1e-6, 0.0)
    with pytest.raises(FitError, match=r"photons_per_gev contains -5, .* subtract less, or merge masses"):
        expected_yield(1.0, 1e-6, -5.0)
    with pytest.raises(FitError, match=r"the efficiency ratio contains nan"):
        expected_yield(1.0, 1e-6, 5.0, efficiency_ratio=np.nan)
    with pytest.raises(FitError, match=r"yield_limit contains 0, .* nan where there is none"):
        eps2_limit(1.0, 0.0, 5.0)
    with pytest.raises(FitError, match=r"photons_per_gev contains 0, .* leave out masses without"):
        eps2_limit(1.0, 1.0, 0.0)
    with pytest.raises(FitError, match=r"the efficiency ratio contains 0, .* leave out masses without"):
        eps2_limit(1.0, 1.0, 1.0, efficiency_ratio=0.0)
