"""R against measurements that are not knots of the table, and tables of one's own."""

import numpy as np
import pytest

from trila.fits.errors import FitError
from trila.fits.hadronic_ratio import MEASURED, RatioTable, hadronic_ratio

# Averages of the exclusive measurements in the compilation of the Particle Data Group (PTEP 2020, 083C01).
LOW = np.array(
    [
        *[(0.385, 0.16656), (0.435, 0.27425), (0.475, 0.40007), (0.525, 0.63063), (0.609, 1.44296)],
        *[(0.651, 2.47453), (0.691, 4.26096), (0.731, 7.15723), (0.761, 9.02736), (0.773, 10.84473)],
        *[(0.78, 17.3225), (0.787, 12.65467), (0.797, 6.99877), (0.831, 4.23669), (0.871, 2.49883)],
        *[(0.911, 1.61684), (0.945, 1.1175), (0.971, 1.00062), (1.0085, 2.08681), (1.01759, 29.47729)],
        *[(1.019, 47.19204), (1.02, 45.32414), (1.0285, 3.83147), (1.045, 1.42505), (1.0675, 1.01508)],
        *[(1.1, 0.91898), (1.15, 0.89085), (1.225, 0.96626), (1.275, 1.09977), (1.375, 1.48668)],
        *[(1.425, 1.7495), (1.55, 2.19381), (1.625, 2.46918), (1.7, 2.45453), (1.8, 2.19352), (1.9, 2.04352)],
        # KEDR.
        *[(2.1357, 2.275), (2.4441, 2.175), (2.9489, 2.234), (3.2225, 2.195), (3.6182, 2.218)],
    ]
)
# Single measurements, with larger errors: BES, Crystal Ball, MD-1, CLEO, JADE.
HIGH = np.array(
    [
        *[(3.85, 2.47), (3.93, 3.18), (4.058, 4.29), (4.13, 3.99), (4.23, 3.21), (4.35, 3.49), (4.44, 3.85)],
        *[(4.8, 3.66), (6.0, 3.44), (9.39, 3.49), (10.52, 3.56), (27.66, 3.84), (35.01, 3.92)],
    ]
)


def test_between_the_knots_it_is_what_was_measured() -> None:
    np.testing.assert_allclose(hadronic_ratio(LOW[:, 0]), LOW[:, 1], rtol=0.06)
    np.testing.assert_allclose(hadronic_ratio(HIGH[:, 0]), HIGH[:, 1], rtol=0.12)


def test_peaks_are_those_of_the_leptonic_widths() -> None:
    """R = 9/α² B(ee) B(hadrons) at the peak of a narrow resonance; ω stands on the ρ."""
    assert hadronic_ratio(1.0195) == pytest.approx(9 * 137.036**2 * 2.979e-4, rel=0.05)
    assert 9 * 137.036**2 * 7.38e-5 < hadronic_ratio(0.782) < 9 * 137.036**2 * (7.38e-5 + 4.72e-5)


@pytest.mark.parametrize(
    ("mass", "flavours", "nf", "alpha_s"),
    [(3.0, 2.0, 3, 0.254), (9.0, 10 / 3, 4, 0.183), (30.0, 11 / 3, 5, 0.143)],
)
def test_plateaus_are_those_of_qcd(mass: float, flavours: float, nf: int, alpha_s: float) -> None:
    a = alpha_s / np.pi
    qcd = flavours * (1 + a + (1.9857 - 0.1152 * nf) * a**2 - (6.6369 + 1.2001 * nf) * a**3)
    assert hadronic_ratio(mass) == pytest.approx(qcd, rel=0.04)


def test_below_the_threshold_there_are_no_hadrons() -> None:
    np.testing.assert_array_equal(hadronic_ratio([0.0, 0.211, 2 * 0.13957]), 0.0)
    assert np.all(np.diff(MEASURED.mass) > 0)


def test_a_table_of_ones_own() -> None:
    table = RatioTable(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    np.testing.assert_allclose(hadronic_ratio([[0.5, 1.0], [2.0, 3.0]], table), [[0.0, 2.0], [3.0, 4.0]])


def test_messages() -> None:
    with pytest.raises(FitError, match=r"R at 91 GeV, expected masses up to 70 GeV, .* extend the table"):
        hadronic_ratio([1.0, 91.0])
    with pytest.raises(FitError, match=r"mass in GeV contains -1, .* check the unit"):
        hadronic_ratio(-1.0)
    with pytest.raises(FitError, match=r"masses of a table of R do not increase; sort"):
        hadronic_ratio(1.0, RatioTable(np.array([2.0, 1.0]), np.ones(2)))
    with pytest.raises(FitError, match=r"a table of R with \(2,\) masses and \(3,\) values, .* same length"):
        hadronic_ratio(1.0, RatioTable(np.array([1.0, 2.0]), np.ones(3)))
    with pytest.raises(FitError, match=r"R contains -1, .* check the table"):
        hadronic_ratio(1.0, RatioTable(np.array([1.0, 2.0]), np.array([1.0, -1.0])))
