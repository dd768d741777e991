"""A search for narrow dimuon peaks in collision data: CMS open data of 2012, which hold no dark photon."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from trila.fits.background import fit_background
from trila.fits.certificates import certify
from trila.fits.dimuon_limits import coupling_limits, in_events, photon_density
from trila.fits.functions import resolve
from trila.fits.limits import upper_limits
from trila.fits.resonances import veto_windows
from trila.fits.search import search, templates
from trila.fits.signals import Resolution
from trila.fits.significance import discovery
from trila.fits.spectrum import Spectrum, checked, masked
from trila.fits.windows import merged, sliding

SIGNAL = Resolution(0.012, 0.0)


@pytest.fixture(scope="module")
def spectrum(data_dir: Path) -> Spectrum:
    """Masses of opposite-sign pairs of massless muons in fine bins, without the known resonances."""
    with uproot.open(data_dir / "cms" / "DoubleMuParked2012_100k.root") as file:
        events = file["Events"].arrays(["nMuon", "Muon_pt", "Muon_eta", "Muon_phi", "Muon_charge"])
    events = events[events.nMuon == 2]
    events = events[ak.sum(events.Muon_charge, axis=1) == 0]
    pt, eta, phi = (ak.to_numpy(events[f"Muon_{name}"]).astype(np.float64).T for name in ("pt", "eta", "phi"))
    mass = np.sqrt(2 * pt[0] * pt[1] * (np.cosh(eta[0] - eta[1]) - np.cos(phi[0] - phi[1])))
    edges = np.geomspace(0.2, 120.0, 6001)
    fine = checked(edges, np.histogram(mass, edges)[0], name="DoubleMuParked")
    return masked(fine, veto_windows((0.012, 0.0)))


@pytest.mark.slow
def test_limits_and_no_bump(spectrum: Spectrum) -> None:
    masses = np.geomspace(11.5, 60.0, 128)
    coarse = merged(spectrum, SIGNAL, masses)
    assert coarse.counts.size < spectrum.counts.size / 4
    windows = sliding(coarse, SIGNAL, masses, 8000.0, parameters=3, nsigma=8.0)
    assert windows.skipped == ()
    # the windows of the first masses reach into the veto of the Upsilons
    assert np.any(windows.windows.weight[0] == 0)
    fit = fit_background(resolve("bernstein2"), windows.windows)
    signal = templates(
        SIGNAL, windows.masses, coarse.edges, first=windows.first, bins=windows.windows.counts.shape[1]
    )
    found = search(fit, signal)

    limits = upper_limits(found.model, level=0.9)
    assert limits.verified.all()
    assert all(certificate.passed for certificate in certify(found.model, limits, check="sample"))
    bumps = discovery(found.model)
    assert bumps.verified.all()
    assert bumps.z_local.max() < 5
    # observed limits scatter about the expected ones as statistics says
    inside = (limits.observed > limits.expected[:, 1]) & (limits.observed < limits.expected[:, 3])
    assert 0.4 < inside.mean() < 0.9

    # ε² if all these dimuons were from virtual photons: a lower bound of the limit on it
    events = in_events(found.templates.masses, found.unit, limits)
    coupling = coupling_limits(events, photon_density(fit, windows.masses))
    assert np.all((coupling.observed > 1e-6) & (coupling.observed < 1e-2))
