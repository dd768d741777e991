"""Resonances against the Particle Data Group, windows against hand-made ones."""

import numpy as np
import pytest

from trila.fits.errors import FitError
from trila.fits.resonances import RESONANCES, relative_resolution, veto_windows


def test_masses_and_widths_are_those_of_the_particle_data_group() -> None:
    """Particle Data Group, Phys. Rev. D 110 (2024) 030001; MeV."""
    assert {name: (round(r.mass * 1e3, 3), round(r.width * 1e3, 5)) for name, r in RESONANCES.items()} == {
        "eta": (547.862, 0.00131),
        "rho": (775.26, 147.4),
        "omega": (782.66, 8.68),
        "phi": (1019.46, 4.249),
        "J/psi": (3096.9, 0.0926),
        "psi(2S)": (3686.097, 0.293),
        "Upsilon(1S)": (9460.4, 0.054),
        "Upsilon(2S)": (10023.4, 0.032),
        "Upsilon(3S)": (10355.1, 0.0203),
        "Z": (91187.9, 2495.5),
    }


def test_resolution() -> None:
    assert relative_resolution(40.0, 0.009, 3e-4) == pytest.approx(0.015)
    np.testing.assert_allclose(relative_resolution([1.0, 10.0], 0.01, 0.0), 0.01)


def test_windows_by_hand() -> None:
    windows = veto_windows((0.01, 0.0), names=["Z", "J/psi"])
    # 5 σ above, 7 σ below for the J/psi; 2 Γ = 4.991 GeV exceed 5 σ = 4.559 GeV for the Z.
    np.testing.assert_allclose(
        windows,
        [
            (3.0969 * 0.93, 3.0969 * 1.05),
            (91.1879 - 4.991 - 2 * 0.911879, 91.1879 + 4.991),
        ],
    )
    narrow = veto_windows((0.01, 0.0), names=["J/psi"], nsigma=4.0, tail_sigma=0.0)
    np.testing.assert_allclose(narrow, [(3.0969 * 0.96, 3.0969 * 1.04)])


def test_a_function_or_its_parameters() -> None:
    parameters = (0.008, 2e-4)
    by_function = veto_windows(lambda mass: np.sqrt(0.008**2 + (2e-4 * mass) ** 2))
    np.testing.assert_allclose(veto_windows(parameters), by_function)


def test_windows_are_the_union() -> None:
    """A mass is vetoed if it is in the window of any resonance."""
    scan = np.linspace(0.1, 120.0, 20001)
    for constant in (0.003, 0.01, 0.03):
        windows = np.array(veto_windows((constant, 1e-4)))
        assert np.all(windows[1:, 0] > windows[:-1, 1])
        found = np.any(
            (scan[:, np.newaxis] >= windows[:, 0]) & (scan[:, np.newaxis] <= windows[:, 1]), axis=1
        )
        expected = np.zeros(scan.size, dtype=bool)
        for mass, width in RESONANCES.values():
            sigma = mass * np.sqrt(constant**2 + (1e-4 * mass) ** 2)
            half = max(5 * sigma, 2 * width)
            expected |= (scan >= mass - half - 2 * sigma) & (scan <= mass + half)
        np.testing.assert_array_equal(found, expected)
    # At 1 % the Υ states are one window, at 0.3 % the first stands alone.
    assert len(veto_windows((0.01, 0.0), names=[name for name in RESONANCES if name.startswith("U")])) == 1
    assert len(veto_windows((0.003, 0.0), names=[name for name in RESONANCES if name.startswith("U")])) == 2


def test_no_names_no_windows() -> None:
    assert veto_windows((0.01, 0.0), names=[]) == []


def test_messages() -> None:
    with pytest.raises(FitError, match=r"unknown resonance 'jpsi'; choose from eta, rho, .*, Z"):
        veto_windows((0.01, 0.0), names=["phi", "jpsi"])
    with pytest.raises(FitError, match=r"the relative mass resolution contains 0, .* give σ_m/m"):
        veto_windows((0.0, 0.0))
    with pytest.raises(FitError, match=r"nsigma contains -1, .* number of standard deviations"):
        veto_windows((0.01, 0.0), nsigma=-1.0)
