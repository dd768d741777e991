import numpy as np
import pytest
from scipy import stats

from trila.fits.errors import FitError
from trila.fits.signal_systematics import Uncertainty, uncertainties, variations
from trila.fits.signals import Gaussian

MASSES = np.array([500.0, 900.0])
EDGES = np.cumsum(np.random.default_rng(3).uniform(5.0, 50.0, 40)) + 300.0


def test_texts() -> None:
    found = uncertainties(
        ["scale=0.02", "resolution=1e-1", "luminosity=0.016", "JES_flavour-2=0.3", "spurious=40"]
    )
    assert found == (
        Uncertainty(name="scale", kind="shape", size=0.02),
        Uncertainty(name="resolution", kind="shape", size=0.1),
        Uncertainty(name="luminosity", kind="norm", size=0.016),
        Uncertainty(name="JES_flavour-2", kind="norm", size=0.3),
        Uncertainty(name="spurious", kind="spurious", size=40.0, unit="events"),
    )
    assert uncertainties(["spurious=0.2sigma"])[0] == Uncertainty(
        name="spurious", kind="spurious", size=0.2, unit="sigma"
    )
    assert uncertainties([]) == ()


@pytest.mark.parametrize("size", [0.02, 0.5])
def test_variations_of_a_gaussian_are_closed_forms(size: float) -> None:
    signal = Gaussian(0.06)
    scale = variations(signal, MASSES, EDGES, Uncertainty(name="scale", kind="shape", size=size))
    width = variations(signal, MASSES, EDGES, Uncertainty(name="resolution", kind="shape", size=size))
    for sign, moved, smeared in ((1, scale.up, width.up), (-1, scale.down, width.down)):
        factor = 1 + sign * size
        assert moved.shape == smeared.shape == (2, EDGES.size - 1)
        for row, mass in enumerate(MASSES):
            # The measured mass of each event changes, so that the width follows the peak.
            expected = np.diff(stats.norm(mass * factor, 0.06 * mass * factor).cdf(EDGES))
            np.testing.assert_allclose(moved[row], expected, atol=1e-15)
            expected = np.diff(stats.norm(mass, 0.06 * mass * factor).cdf(EDGES))
            np.testing.assert_allclose(smeared[row], expected, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale", r"uncertainty 'scale', expected SOURCE=SIZE, a name and a number such as scale=0\.02"),
        ("=0.1", r"uncertainty '=0\.1', expected SOURCE=SIZE"),
        ("scale=2%", r"uncertainty 'scale=2%', expected SOURCE=SIZE"),
        ("a b=0.1", r"uncertainty 'a b=0\.1', expected SOURCE=SIZE"),
        ("scale=0.2sigma", r"uncertainty 'scale=0\.2sigma', expected SOURCE=SIZE"),
        (
            "luminosity=2",
            r"has size 2, expected a number between 0 and 1, a fraction \(2% is 0\.02\); change",
        ),
        ("scale=0", r"has size 0, expected a number between 0 and 1"),
        ("scale=nan", r"uncertainty 'scale=nan', expected SOURCE=SIZE"),
        ("spurious=-3", r"has size -3, expected a number above 0; change the size"),
        ("spurious=inf", r"has size inf, expected a number above 0"),
        (
            "resolutin=0.1",
            r"'resolutin' would be a normalisation, but looks like 'resolution'; write that, or",
        ),
        ("Scale=0.1", r"'Scale' would be a normalisation, but looks like 'scale'"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    with pytest.raises(FitError, match=message):
        uncertainties([text])


def test_a_name_given_twice() -> None:
    with pytest.raises(
        FitError, match=r"uncertainty 'scale' is given 2 times; give one size, or other names"
    ):
        uncertainties(["scale=0.1", "luminosity=0.1", "scale=0.2"])


def test_a_normalisation_has_no_shape() -> None:
    one = uncertainties(["efficiency=0.1"])[0]
    with pytest.raises(FitError, match=r"'efficiency' is of kind norm, expected scale or resolution"):
        variations(Gaussian(0.1), MASSES, EDGES, one)
