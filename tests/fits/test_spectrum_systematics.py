"""Shifts and smearings of spectra whose count above a mass is known in closed form."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from trila.fits.errors import FitError
from trila.fits.signals import Gaussian, Resolution
from trila.fits.spectrum import Spectrum, checked, rebin, select
from trila.fits.spectrum_systematics import mass_shift, spectrum_variations, width_change

Array = NDArray[np.float64]

END = 13000.0
NARROW = np.arange(400.0, END + 1, 5.0)
#: Bins of 6% in mass, as wide as a resolution.
WIDE = np.append(np.geomspace(400.0, 8000.0, 51), END)
MASSES = np.array([500.0, 640.0, 1250.0, 2400.0, 3700.0])


def falling(mass: Array) -> Array:
    """Events above a mass: a power that gets steeper, down to none at the collision energy."""
    x = np.minimum(mass / END, 1.0)
    return 1e10 * (x / 0.04) ** -6 * (1 - x) ** 8


def power(mass: Array) -> Array:
    """Events above a mass: a power law that does not end."""
    return 1e9 * (mass / 500.0) ** -6.5


def spectrum(above: Array, edges: Array) -> Spectrum:
    counts = above[:-1] - above[1:]
    # weights of one half, and as many events as these counts: expectations are no integers
    return checked(edges, 0.5 * counts, 0.25 * counts, name="toy")


def shift(mass: Array) -> Array:
    return np.asarray(0.01 + 0.004 * np.log(mass / 1000.0))


def shifted(mass: Array, sign: float) -> Array:
    """Events above a mass where each is moved by `shift`."""
    before = [optimize.brentq(lambda x, m=m: x * (1 + sign * shift(x)) - m, 0.5 * m, 2 * m) for m in mass]
    return falling(np.array(before))


@pytest.mark.parametrize("edges", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["up", "down"])
def test_a_shift_comes_back(edges: Array, sign: float) -> None:
    found = mass_shift(spectrum(falling(edges), edges), spectrum(shifted(edges, sign), edges), MASSES)
    np.testing.assert_allclose(found, sign * shift(MASSES), rtol=2e-3)


def test_no_shift() -> None:
    nominal = spectrum(falling(WIDE), WIDE)
    np.testing.assert_allclose(mass_shift(nominal, nominal, MASSES), 0.0, atol=1e-14)


@pytest.mark.parametrize("edges", [NARROW, WIDE], ids=["narrow", "wide"])
def test_a_smearing_of_a_power_law_comes_back(edges: Array) -> None:
    """Exactly exp(n² s²/2) more events, by the mean of a log-normal variable's powers."""
    s, width = 0.02, 0.06
    more = spectrum(power(edges) * np.exp(0.5 * (6.5 * s) ** 2), edges)
    nominal = spectrum(power(edges), edges)
    masses = np.array([450.0, 640.0, 1250.0])
    expected = np.sqrt(1 + (s / width) ** 2)
    # δ is small, but its square is not left out in the shift: a relative difference of δ/2
    np.testing.assert_allclose(width_change(nominal, more, masses, width) - 1, expected - 1, rtol=3e-3)
    better = np.sqrt(1 - (s / width) ** 2)
    np.testing.assert_allclose(width_change(more, nominal, masses, [width] * 3) - 1, better - 1, rtol=3e-3)


def test_a_smearing_of_a_spectrum_that_is_no_power_law() -> None:
    """Smeared numerically; its curvature, which is left out, changes s² by up to 5%."""
    s = 0.02
    node, weight = np.polynomial.hermite_e.hermegauss(30)
    above = sum(
        w * falling(NARROW * np.exp(-s * x)) for x, w in zip(node, weight / weight.sum(), strict=True)
    )
    factor = width_change(spectrum(falling(NARROW), NARROW), spectrum(above, NARROW), MASSES, 0.05)
    np.testing.assert_allclose(0.05**2 * (factor**2 - 1), s**2, rtol=0.06)


def test_events_that_are_moved_one_by_one() -> None:
    """Of a shift fluctuates where events lie within a bin, of a smearing the events that cross a mass."""
    generator = np.random.default_rng(4)
    number, n = 400_000, 6
    mass = 500.0 * generator.uniform(size=number) ** (-1 / n)
    masses = np.array([600.0, 700.0, 850.0])  # the edge at 500 GeV is smeared out far below
    events = number * (masses / 500.0) ** -n

    def counted(mass: Array, edges: Array) -> Spectrum:
        return checked(edges, np.histogram(mass, edges)[0], name="toy")

    fine, coarse = (np.append(np.arange(500.0, 3000.0, step), 1e5) for step in (1.0, 50.0))
    found = mass_shift(counted(mass, fine), counted(1.01 * mass, fine), masses)
    np.testing.assert_allclose(found, 0.01, atol=1e-4)
    found = mass_shift(counted(mass, coarse), counted(1.01 * mass, coarse), masses)
    error = np.sqrt(n * 0.01 * events) / (n * events)
    np.testing.assert_array_less(np.abs(found - 0.01), 3 * error)
    s = 0.02
    smeared = mass * np.exp(s * generator.normal(size=number))
    factor = width_change(counted(mass, fine), counted(smeared, fine), masses, 0.05)
    error = np.sqrt(np.sqrt(2 / np.pi) * n * s * events) / (n**2 * events * 0.05**2)
    expected = np.hypot(0.05, s) / 0.05
    np.testing.assert_array_less(np.abs(factor - expected), 3 * error)
    with pytest.raises(
        FitError,
        match=r"width of a signal at 1300 GeV has an error of 0\.1\d with 1\d{3} events above, .* 0\.05;",
    ):
        width_change(counted(mass, fine), counted(smeared, fine), [600.0, 1300.0], 0.05)


def test_shapes_of_a_signal() -> None:
    """Gaussians with the shifted mean and the widened core, bin by bin."""
    signal, bins = Resolution(0.03, 1e-5), np.linspace(400.0, 3000.0, 60)
    masses = np.array([520.0, 1250.0, 2400.0])
    s, n = 0.01, 6.5
    nominal = spectrum(power(NARROW), NARROW)
    varied = {
        "JES_up": spectrum(power(NARROW / 1.012), NARROW),
        "JES_down": spectrum(power(NARROW / 0.99), NARROW),
        "JER_core_up": spectrum(power(NARROW) * np.exp(0.5 * (n * s) ** 2), NARROW),
        "JER_core_down": spectrum(power(NARROW) * np.exp(-0.5 * (n * s) ** 2), NARROW),
    }
    found = spectrum_variations(signal, masses, bins, nominal, varied)
    assert list(found) == ["JES", "JER_core"]
    width = masses * np.hypot(0.03, 1e-5 * masses)
    wide, narrow = (np.sqrt(width**2 + sign * (s * masses) ** 2) for sign in (1, -1))
    expected = [(1.012, 1.012 * width), (0.99, 0.99 * width), (1.0, wide), (1.0, narrow)]
    rows = [found["JES"].up, found["JES"].down, found["JER_core"].up, found["JER_core"].down]
    for row, (scale, sigma) in zip(rows, expected, strict=True):
        exact = [np.diff(stats.norm(m * scale, w).cdf(bins)) for m, w in zip(masses, sigma, strict=True)]
        np.testing.assert_allclose(row, exact, atol=3e-4)
    assert np.abs(found["JES"].up - found["JES"].down).max() > 0.05
    assert np.abs(found["JER_core"].up - found["JER_core"].down).max() > 0.01


def test_masses_with_too_few_events_are_refused() -> None:
    nominal = spectrum(falling(WIDE), WIDE)
    up = spectrum(shifted(WIDE, 1.0), WIDE)
    last = WIDE[falling(WIDE) >= 400][-1]
    assert 4500 < last < 8000
    mass_shift(nominal, up, [last])
    with pytest.raises(
        FitError, match=rf"shift at {last + 1:g} GeV .* from .* to {last:g} GeV only, where at least 400"
    ):
        mass_shift(nominal, up, [500.0, last + 1])
    with pytest.raises(FitError, match=r"shift at 395 GeV can be measured from 400 to"):
        width_change(nominal, up, [395.0], 0.05)
    # the count that a fluctuation has is that of events, not of weights
    heavy = nominal._replace(counts=2 * nominal.counts, variances=1e9 * nominal.counts)
    with pytest.raises(FitError, match=r"75\.\d+ events in all, expected at least 400 above two edges"):
        mass_shift(heavy, heavy, [500.0])


def test_a_range_is_no_whole_spectrum() -> None:
    edges = NARROW
    nominal, up = spectrum(falling(edges), edges), spectrum(shifted(edges, 1.0), edges)
    short, short_up = (select(one, 400.0, 2000.0) for one in (nominal, up))
    near = mass_shift(short, short_up, [600.0])
    np.testing.assert_allclose(near, shift(np.array([600.0])), rtol=0.02)
    with pytest.raises(
        FitError, match=r"ends at 2000 GeV, where as many events cross as \d+% of those at 1250 GeV"
    ):
        mass_shift(short, short_up, [600.0, 1250.0])


def test_messages() -> None:
    nominal, better = spectrum(power(NARROW), NARROW), spectrum(0.8 * power(NARROW), NARROW)
    with pytest.raises(
        FitError, match=r"resolution at 640 GeV is better by 0\.1\d+ of the mass, more .*signal, 0\.05;"
    ):
        width_change(nominal, better, [640.0], 0.05)
    with pytest.raises(
        FitError, match=r"the width of the signal over its mass contains 0, expected .*; give 0\.05 for 5%"
    ):
        width_change(nominal, better, [640.0], 0.0)
    with pytest.raises(FitError, match=r"masses in GeV contains -1, expected"):
        mass_shift(nominal, better, [-1.0])
    coarse = rebin(better, NARROW[::4])
    with pytest.raises(
        FitError, match=r"toy: 630 bins from 400 to 13000 GeV for a variation of 2520 from 400 to"
    ):
        mass_shift(nominal, coarse, [640.0])
    negative = nominal._replace(counts=np.where(NARROW[:-1] == 500.0, -1.0, nominal.counts))
    with pytest.raises(
        FitError, match=r"weights of the bin 500 to 505 GeV sum to -1, expected 0 or more; merge bins"
    ):
        mass_shift(negative, nominal, [640.0])
    single = checked([400.0, 500.0, 600.0], [1000, 0], name="toy")
    with pytest.raises(FitError, match=r"toy: events in 1 bins, which give no shift of masses"):
        mass_shift(single, single, [450.0])
    for name, missing in [("JES_up", "JES_down"), ("JES_down", "JES_up"), ("JES", "JES_up and JES_down")]:
        with pytest.raises(
            FitError, match=rf"variation '{name}' of a spectrum without {missing}; expected NAME_up"
        ):
            spectrum_variations(Gaussian(0.05), [640.0], [600.0, 700.0], nominal, {name: nominal})
