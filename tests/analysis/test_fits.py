"""The commands of fits and searches, as a user meets them: every field of what they write, against truth from elsewhere.

The spectrum is drawn from a known function. Limits are compared with a calculation from the exact likelihood by Fisher
scoring, and CLs as published (Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727), written here once more; couplings with
their formulas. All steps must leave the settings of NumPy, JAX, pyhf and matplotlib as they were.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import hist
import jax
import matplotlib
import numpy as np
import pyhf
import pytest
import uhi.io.json
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import chi2, f, norm, poisson
from typer.testing import CliRunner

from trila.analysis import cli, fitting, hunts, workspaces
from trila.analysis.fit_inputs import FitInput, prepared
from trila.analysis.limits import Choices, LimitOutcome, limit
from trila.analysis.product_files import read_product
from trila.fits.dark_photon import ALPHA, effective_flavours

#: pyhf's schema validation, not ours.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")

SQRT_S = 520.0
EDGES = np.round(20.0 * 3.0 ** (np.arange(26) / 25), 2)
MASSES = np.array([26.0, 32.0, 40.0])
WIDTH = 0.05
SIGNAL = f"gauss:{WIDTH}"
EVENTS = 2e7
LUMI = 500.0
#: Of dijet3, p1 and p2.
POWERS = (9.0, 5.6)
RANGE = ("--range", "20:60", "--sqrts", "520")
SEARCH = ("--function", "dijet3", *RANGE, "--signal", SIGNAL, "--masses", "26,32,40")


def density(mass: float, powers: Any = POWERS) -> float:
    """The function of dijet3, for p0 = 1."""
    return float((1 - mass / SQRT_S) ** powers[0] * (mass / SQRT_S) ** -powers[1])


def expectation(edges: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Events per bin of p0 = 1, with all masses multiplied by a number."""
    return np.array([quad(density, a / scale, b / scale)[0] for a, b in pairwise(edges)])


P0 = EVENTS / expectation(EDGES).sum()


def write_csv(path: Path, counts: Any, edges: Any = EDGES) -> Path:
    rows = [f"{low},{high},{int(n)}" for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    path.write_text("low,high,count\n" + "\n".join(rows) + "\n")
    return path


def fractions(mass: float, edges: Any = EDGES) -> np.ndarray:
    """Of a Gaussian signal in each bin."""
    return np.diff(norm.cdf(edges, mass, WIDTH * mass))


def trila(*arguments: object) -> str:
    """What a command that must succeed prints."""
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.stderr
    return done.stdout + done.stderr


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def silent(stage: str, total: int) -> Callable[[int], None]:
    return lambda done: None


# ---- what may not change


def library_settings() -> dict[str, Any]:
    return {
        "numpy": np.geterr(),
        "jax": dict(jax.config.values),
        "pyhf": [id(part) for part in pyhf.get_backend()],
        "matplotlib": matplotlib.rcParams.copy(),
    }


@contextmanager
def unchanged() -> Iterator[None]:
    before = library_settings()
    yield
    after = library_settings()
    for name, value in before.items():
        assert after[name] == value, f"the settings of {name} have changed"


@pytest.fixture(autouse=True)
def _settings_stay() -> Iterator[None]:
    with unchanged():
        yield


# ---- limits from the likelihood, one mass at a time


class Direct(NamedTuple):
    """Best fit and limits, events: observed, and expected at -2, -1, 0, 1, 2 standard deviations."""

    best: float
    sigma: float
    q0: float
    observed: float
    expected: list[float]


class Fitted(NamedTuple):
    deviance: float
    events: float
    expected: np.ndarray


class Likelihood:
    """Counts over p0 (1 - x)^p1 x^-p2, integrated over bins, and a signal."""

    def __init__(self, mass: float, used: np.ndarray) -> None:
        nodes, weights = np.polynomial.legendre.leggauss(8)
        half = np.diff(EDGES)[:, None] / 2
        x = ((EDGES[1:] + EDGES[:-1])[:, None] / 2 + half * nodes) / SQRT_S
        self.weights, self.used, self.signal = half * weights, used, fractions(mass)
        self.columns = np.stack([np.ones(x.shape), np.log(1 - x), -np.log(x)], axis=-1)

    def fit(self, counts: np.ndarray, events: float | None = None) -> Fitted:
        """Minimum of the deviance by Fisher scoring; the number of signal events is held if it is given."""
        theta, free = np.array([math.log(P0), *POWERS]), events is None
        mu = 0.0 if events is None else events
        for _ in range(50):
            rate = np.exp(self.columns @ theta) * self.weights
            expected = rate.sum(axis=-1) + mu * self.signal
            slope = np.column_stack([np.einsum("iq,iqp->ip", rate, self.columns), self.signal])[:, : 3 + free]
            scaled, pull = (a[self.used].T / np.sqrt(expected[self.used]) for a in (slope, counts - expected))
            # columns of unit length: the three powers are alike
            length = np.linalg.norm(scaled, axis=1)
            step = np.linalg.lstsq((scaled / length[:, None]).T, pull, rcond=1e-14)[0] / length
            theta, mu = theta + step[:3], mu + (step[3] if free else 0.0)
            if np.linalg.norm(step @ scaled) < 1e-8:
                break
        n, nu = counts[self.used], expected[self.used]
        return Fitted(2 * float(np.sum(nu - n + n * np.log(n / nu))), mu, expected)

    def limits(self, counts: np.ndarray, level: float) -> Direct:
        best, background = self.fit(counts), self.fit(counts, 0.0)
        asimov = background.expected
        lowest = background.deviance if best.events < 0 else best.deviance
        unit = 1 / np.sqrt(np.sum((self.signal**2 / asimov)[self.used]))

        def root_of_asimov(mu: float) -> float:
            return math.sqrt(max(self.fit(asimov, mu).deviance, 0.0))

        def tail(mu: float) -> float:
            a = root_of_asimov(mu)
            q = 0.0 if best.events > mu else max(self.fit(counts, mu).deviance - lowest, 0.0)
            z = (math.sqrt(q), math.sqrt(q) - a) if q <= a * a else ((q + a * a) / 2 / a, (q - a * a) / 2 / a)
            return float(norm.logsf(z[0]) - norm.logsf(z[1]) - math.log(1 - level))

        def band(mu: float, n: int) -> float:
            return root_of_asimov(mu) - float(norm.isf((1 - level) * norm.cdf(n)) + n)

        ends = (0.1 * unit, 40 * unit)
        return Direct(
            best.events,
            brentq(lambda s: self.fit(counts, best.events + s).deviance - best.deviance - 1, *ends),
            background.deviance - best.deviance if best.events > 0 else 0.0,
            brentq(tail, *ends, rtol=1e-6),
            [brentq(band, *ends, args=(n,), rtol=1e-6) for n in range(-2, 3)],
        )


def agrees(entry: dict[str, Any], wanted: Direct, unit: float = 1.0) -> None:
    """A limit of the linear model against that of the function: 0.2 %."""
    np.testing.assert_allclose(entry["observed"], wanted.observed * unit, rtol=2e-3)
    np.testing.assert_allclose(entry["expected"], np.array(wanted.expected) * unit, rtol=2e-3)
    np.testing.assert_allclose(entry["best_fit"], wanted.best * unit, atol=5e-3 * wanted.sigma * unit)
    np.testing.assert_allclose(entry["sigma"], wanted.sigma * unit, rtol=5e-3)


# ---- shared products


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return np.random.default_rng(5).poisson(P0 * expectation(EDGES)).astype(np.float64)


@pytest.fixture(scope="module")
def csv(counts: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("spectrum") / "spectrum.csv", counts)


@pytest.fixture(scope="module")
def given(csv: Path) -> FitInput:
    return prepared(str(csv), range="20:60", sqrt_s=SQRT_S)


def limits(given: FitInput, output: Path, points: Any = MASSES, **choices: Any) -> LimitOutcome:
    return limit(given, "dijet3", SIGNAL, np.asarray(points), output, Choices(**choices), progress=silent)


@pytest.fixture(scope="module")
def plain(given: FitInput, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """LIMITS.json, every mass fitted again by Minuit."""
    path = tmp_path_factory.mktemp("limits") / "limits.json"
    with unchanged():
        outcome = limits(given, path, check="all")
    assert outcome.notes == ()
    found: list[dict[str, Any]] = read(path)
    assert found == json.loads(json.dumps(outcome.content))
    return found


# ---- fits


def test_fit(given: FitInput, counts: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "new" / "fit.json"
    outcome = fitting.fit(given, "dijet3", path)
    found = read(path)
    assert found == json.loads(json.dumps(outcome.content))
    assert outcome.notes == ()
    assert found.keys() == {
        "function", "parameters", "values", "covariance", "chi2", "ndof", "p_value", "edges", "data", "prediction", "used",
        "blinded", "sqrt_s", "spectrum", "provenance",
    }  # fmt: skip
    assert (found["function"], found["parameters"]) == ("dijet3", ["p0", "p1", "p2"])
    # in the function's own parameters: as far from the truth as their covariance says
    distance = np.array(found["values"]) - [P0, *POWERS]
    assert distance @ np.linalg.solve(found["covariance"], distance) < chi2.isf(0.01, 3)
    p0, *powers = found["values"]
    own = [p0 * quad(density, a, b, args=(powers,))[0] for a, b in pairwise(EDGES)]
    np.testing.assert_allclose(found["prediction"], own, rtol=1e-6)
    n, nu = np.array(found["data"]), np.array(found["prediction"])
    np.testing.assert_array_equal(n, counts)
    assert found["chi2"]["pearson"] == pytest.approx(np.sum((n - nu) ** 2 / nu), rel=1e-9)
    assert found["chi2"]["deviance"] == pytest.approx(2 * np.sum(nu - n + n * np.log(n / nu)), rel=1e-4)
    assert found["ndof"] == 22
    assert found["p_value"] == pytest.approx(chi2.sf(found["chi2"]["deviance"], 22), rel=1e-6)
    assert found["edges"] == EDGES.tolist()
    assert (found["used"], found["blinded"], found["sqrt_s"]) == ([True] * 25, [], SQRT_S)
    assert found["spectrum"] == "spectrum.csv"
    options = found["provenance"]["options"]
    assert (options["function"], options["range"]) == ("dijet3", [20.0, 60.0])


def test_what_is_blind_is_neither_looked_at_nor_shown(counts: np.ndarray, tmp_path: Path) -> None:
    """Data there may be anything: nothing that is written depends on it."""
    hidden = (EDGES[1:] > 30) & (EDGES[:-1] < 33)
    vetoed = (EDGES[1:] > 45) & (EDGES[:-1] < 47)
    results = []
    for factor in (1, 1000):
        path = write_csv(tmp_path / "spectrum.csv", np.where(hidden, factor * counts, counts))
        given = prepared(str(path), range="20:60", sqrt_s=SQRT_S, blind=["30:33"], veto=["45:47"])
        results.append(fitting.fit(given, "dijet3", tmp_path / "fit.json").content)
    found = results[0]
    assert [x is None for x in found["data"]] == hidden.tolist()
    assert found["used"] == (~(hidden | vetoed)).tolist()
    assert found["blinded"] == [[30.0, 33.0]]
    assert found["ndof"] == 25 - hidden.sum() - vetoed.sum() - 3
    used = np.array(found["used"])
    n, nu = counts[used], np.array(found["prediction"])[used]
    assert found["chi2"]["pearson"] == pytest.approx(np.sum((n - nu) ** 2 / nu), rel=1e-9)
    options = [one.pop("provenance")["options"] for one in results]
    assert results[0] == results[1]
    assert (options[0]["blinded"], options[0]["vetoed"]) == ([[30.0, 33.0]], [[45.0, 47.0]])


@pytest.mark.slow
def test_f_test(csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    printed = trila("ftest", csv, "--family", "dijet", *RANGE, "-o", path)
    found = read(path)
    assert found.keys() == {"family", "tests", "chosen", "fits", "failed", "provenance"}
    assert [(t["from"], t["to"]) for t in found["tests"]] == [
        (f"dijet{n}", f"dijet{n + 1}") for n in (3, 4, 5)
    ]
    for test in found["tests"]:
        one, two = (found["fits"][test[key]] for key in ("from", "to"))
        value = max(one["chi2"] - two["chi2"], 0) / (two["chi2"] / two["ndof"])
        assert test["f"] == pytest.approx(value, rel=1e-6, abs=1e-9)
        assert test["p_value"] == pytest.approx(f.sf(value, 1, two["ndof"]), rel=1e-6)
    # the spectrum is one of dijet3
    assert (found["chosen"], found["failed"]) == ("dijet3", {})
    assert "chosen: dijet3" in printed
    assert trila("ftest", csv, "--family", "dijet", *RANGE).endswith("chosen: dijet3\n")


# ---- limits


def test_limits_are_those_of_the_likelihood(plain: list[dict[str, Any]], counts: np.ndarray) -> None:
    assert [entry["mass"] for entry in plain] == MASSES.tolist()
    for entry in plain:
        assert entry.keys() == {
            "mass", "observed", "expected", "best_fit", "sigma", "unit", "level", "certificate", "provenance",
        }  # fmt: skip
        assert (entry["unit"], entry["level"]) == ("events", 0.95)
        agrees(entry, Likelihood(entry["mass"], np.ones(25, dtype=bool)).limits(counts, 0.95))


def test_certificates(plain: list[dict[str, Any]], given: FitInput, tmp_path: Path) -> None:
    for entry in plain:
        certificate = entry["certificate"]
        assert certificate.keys() == {"passed", "reasons", "distance", "minuit", "form", "inputs"}
        assert (certificate["passed"], certificate["reasons"], certificate["form"]) == (True, [], "linear")
        assert certificate["distance"] < 1e-6
        assert certificate["inputs"] == entry["provenance"]["digest"]
        assert abs(certificate["minuit"]) < 1e-3
    for check, again in {"sample": [True, False, False], "none": [False] * 3}.items():
        found = limits(given, tmp_path / "limits.json", check=check).content
        assert [entry["certificate"]["minuit"] is not None for entry in found] == again
        assert [entry["observed"] for entry in found] == [entry["observed"] for entry in plain]


def test_level_and_luminosity_on_the_command_line(csv: Path, counts: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    printed = trila("limit", csv, *SEARCH, "--cl", 0.9, "--lumi", LUMI, "--check", "none", "-o", path)
    assert "observed 90% CL" in printed
    assert "[pb]" in printed
    found = read(path)[1]
    assert (found["unit"], found["level"]) == ("pb", 0.9)
    agrees(found, Likelihood(32.0, np.ones(25, dtype=bool)).limits(counts, 0.9), 1 / LUMI)


def test_couplings(plain: list[dict[str, Any]], given: FitInput, tmp_path: Path) -> None:
    """σ = 2 pb g² (m/30 GeV)⁻⁴; and ε² = 2 α N_f N/(3π m dN/dm) (arXiv:1603.08926)."""
    rows = [f"{m},{g},{2 * g**2 * (m / 30) ** -4}" for m, g in [(20, 0.25), (30, 0.1), (60, 0.5)]]
    (tmp_path / "g.csv").write_text("\n".join(["mass,g,sigma", *rows]))
    (tmp_path / "other.csv").write_text("mass,fraction\n20,0.1\n60,0.3\n")
    p0, *powers = fitting.fit(given, "dijet3", tmp_path / "fit.json").content["values"]
    choices = {"luminosity": LUMI, "coupling": tmp_path / "g.csv", "eps2": True, "check": "none"}
    for other in (None, tmp_path / "other.csv"):
        found = limits(given, tmp_path / "limits.json", other=other, **choices).content
        for entry, events in zip(found, plain, strict=True):
            mass = entry["mass"]
            cross_section = np.array([events["observed"], *events["expected"]]) / LUMI
            np.testing.assert_allclose([entry["observed"], *entry["expected"]], cross_section, rtol=1e-12)
            coupling = np.sqrt(cross_section / (2 * (mass / 30) ** -4))
            stated = entry["coupling"]
            np.testing.assert_allclose([stated["observed"], *stated["expected"]], coupling, rtol=1e-9)
            share = 1 if other is None else 1 - (0.1 + 0.2 * (mass - 20) / 40)
            photons = p0 * density(mass, powers) * share
            flavours = float(effective_flavours(mass))
            mixing = cross_section * LUMI * 2 * ALPHA * flavours / (3 * math.pi * mass * photons)
            stated = entry["eps2"]
            np.testing.assert_allclose([stated["observed"], *stated["expected"]], mixing, rtol=1e-6)
    assert read_product(tmp_path / "limits.json")


def test_blind_masses_and_vetoes(counts: np.ndarray, csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    given = prepared(str(csv), range="20:60", sqrt_s=SQRT_S, blind=["35:37"], veto=["50:53"])
    outcome = limits(given, path, [26.0, 32.0, 36.0, 40.0], check="none")
    assert outcome.notes == (
        "1 of 4 masses are left out", "no certified limit at 1 of 4 masses",
    )  # fmt: skip
    found = read(path)
    assert [entry["mass"] for entry in found] == [26.0, 32.0, 36.0, 40.0]
    assert all(entry["blinded"] == [[35.0, 37.0]] for entry in found)
    missing = found.pop(2)
    assert [missing[key] for key in ("observed", "expected", "best_fit", "sigma")] == [None] * 4
    assert not missing["certificate"]["passed"]
    assert missing["certificate"]["reasons"] == ["blinded"]
    used = ~((EDGES[1:] > 35) & (EDGES[:-1] < 37) | (EDGES[1:] > 50) & (EDGES[:-1] < 53))
    for entry in found:
        agrees(entry, Likelihood(entry["mass"], used).limits(counts, 0.95))


@pytest.mark.slow
def test_workspaces_give_the_same_limits(csv: Path, tmp_path: Path) -> None:
    """Written with uncertainties of yield and shape, read back as any workspace, all patches or one."""
    path, folder = tmp_path / "limits.json", tmp_path / "models"
    sources = [
        "--uncertainty",
        "efficiency=0.1",
        "--uncertainty",
        "scale=0.01",
        "--uncertainty",
        "spurious=0.2sigma",
    ]
    trila("limit", csv, *SEARCH, *sources, "--workspaces", folder, "-o", path)
    wanted = read(path)
    again = tmp_path / "again.json"
    model, signals = folder / "background.json", folder / "signals.json"
    assert pyhf.Workspace(read(model))
    events = [p["metadata"]["values"][1] for p in read(signals)["patches"]]
    trila("limit", model, "--patch", signals, "-o", again)
    found = read(again)
    assert [(e["mass"], e["patch"], e["unit"]) for e in found] == [(m, f"mass_{m:g}", "mu") for m in MASSES]
    for entry, other, unit in zip(found, wanted, events, strict=True):
        assert entry["certificate"]["passed"]
        np.testing.assert_allclose(entry["observed"] * unit, other["observed"], rtol=1e-3)
        np.testing.assert_allclose(np.array(entry["expected"]) * unit, other["expected"], rtol=1e-3)
    printed = trila("limit", model, "--patch", f"{signals}:mass_32", "-o", again)
    assert [entry["mass"] for entry in read(again)] == [32.0]
    np.testing.assert_allclose(read(again)[0]["observed"], found[1]["observed"], rtol=1e-6)
    assert "95% CL [mu]" in printed
    trila("significance", model, "--patch", signals, "-o", again)
    assert [(row["mass"], row["patch"]) for row in read(again)["local"]] == [
        (m, f"mass_{m:g}") for m in MASSES
    ]


@pytest.mark.slow
def test_uncertainties(plain: list[dict[str, Any]], given: FitInput, tmp_path: Path) -> None:
    """Half a standard deviation of spurious signal adds in quadrature; a yield known to 30 % widens limits besides."""
    found = limits(given, tmp_path / "limits.json", sources=("efficiency=0.3", "spurious=0.5sigma")).content
    for entry, other in zip(found, plain, strict=True):
        assert entry["certificate"]["passed"]
        assert entry["sigma"] == pytest.approx(other["sigma"] * math.sqrt(1.25), rel=0.05)
        assert entry["expected"][2] > other["expected"][2] * math.sqrt(1.25)


@pytest.mark.slow
def test_limits_in_windows(tmp_path: Path) -> None:
    """Windows of their own; a mass without one is left out, with the reason, and the others have workspaces of their own."""
    edges = np.round(20.0 * 3.0 ** (np.arange(161) / 160), 3)
    counts = np.random.default_rng(6).poisson(EVENTS * expectation(edges) / expectation(edges).sum())
    csv, path, folder = (
        write_csv(tmp_path / "fine.csv", counts, edges),
        tmp_path / "limits.json",
        tmp_path / "models",
    )
    search = ["--function", "dijet3", *RANGE, "--signal", "gauss:0.02", "--masses", "28,32,40,61"]
    printed = trila("limit", csv, *search, "--window", 8, "--workspaces", folder, "-o", path)
    assert "1 of 4 masses are left out" in printed
    found = read(path)
    assert found[3]["certificate"]["reasons"] == ["outside of the spectrum, 20 to 60 GeV"]
    assert found[3]["observed"] is None
    assert sorted(p.name for p in folder.iterdir()) == [
        "mass_28.json", "mass_32.json", "mass_40.json", "provenance.json",
    ]  # fmt: skip
    whole = tmp_path / "whole.json"
    trila("limit", csv, *search[:-1], "28,32,40", "-o", whole)
    for entry, other in zip(found, read(whole), strict=False):
        assert entry["certificate"]["passed"]
        # a window determines the background less well than the whole range
        assert 1 < entry["sigma"] / other["sigma"] < 2


@pytest.mark.slow
def test_limits_from_toys(plain: list[dict[str, Any]], csv: Path, tmp_path: Path) -> None:
    """So many events are asymptotic: 5 % of toys beyond of 400 is 22 % of CLs, some 6 % of the limit."""
    path = tmp_path / "limits.json"
    arguments = [*SEARCH[:-1], "32", "--toys", 400, "--seed", 3, "-o", path]
    trila("limit", csv, *arguments)
    found = read(path)
    assert found[0]["certificate"]["passed"]
    np.testing.assert_allclose(found[0]["observed"], plain[1]["observed"], rtol=0.2)
    np.testing.assert_allclose(found[0]["expected"][1:4], plain[1]["expected"][1:4], rtol=0.25)
    first = path.read_text()
    trila("limit", csv, *arguments)
    assert path.read_text() == first


@pytest.mark.slow
def test_limits_with_the_function_profiled(plain: list[dict[str, Any]], csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    trila("limit", csv, *SEARCH, "--function", "envelope:dijet", "-o", path)
    for entry, other in zip(read(path), plain, strict=True):
        assert entry["functions"] == {"background": "dijet3", "best_fit": "dijet3", "limit": "dijet3"}
        certificate = entry["certificate"]
        assert certificate.keys() == other["certificate"].keys()
        assert (certificate["passed"], certificate["reasons"], certificate["form"]) == (True, [], "envelope")
        assert certificate["distance"] < 1e-6
        # the first mass alone is in the sample
        assert (certificate["minuit"] is None) == (entry["mass"] > MASSES[0])
        assert abs(certificate["minuit"] or 0.0) < 1e-3
        np.testing.assert_allclose(entry["observed"], other["observed"], rtol=2e-3)
        np.testing.assert_allclose(entry["expected"], other["expected"], rtol=2e-3)


@pytest.mark.slow
def test_calibration_uncertainties_of_the_spectrum(tmp_path: Path) -> None:
    """A spectrum whose masses move by 1 % gives the limits of `scale=0.01`."""
    # the scale is read off the number of events above a mass: it needs the spectrum to its end
    edges = np.round(20.0 * 25.0 ** (np.arange(76) / 75), 2)
    axis = hist.axis.Variable(edges, name="mass", label="mass [GeV]")
    names = ["nominal", "JES_up", "JES_down"]
    histogram = hist.Hist(
        axis, hist.axis.StrCategory(names, name="systematic"), storage=hist.storage.Weight()
    )
    for k, scale in enumerate([1.0, 1.01, 0.99]):
        histogram.view()["value"][:, k] = np.round(P0 * expectation(edges, scale))
        histogram.view()["variance"][:, k] = histogram.view()["value"][:, k]
    spectrum = tmp_path / "spectrum.json"
    spectrum.write_text(json.dumps(histogram, default=uhi.io.json.default))
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    trila("limit", spectrum, *SEARCH, "--systematics", "-o", one)
    trila("limit", spectrum, *SEARCH, "--uncertainty", "scale=0.01", "-o", two)
    for entry, other in zip(read(one), read(two), strict=True):
        assert entry["certificate"]["passed"]
        np.testing.assert_allclose(entry["expected"], other["expected"], rtol=0.02)


def test_a_workspace_without_uncertainties_is_a_counting_experiment(tmp_path: Path) -> None:
    """n = 12 with b = 10 known: q_μ is a closed form, and nothing is left to be fitted but μ."""
    content = {
        "channels": [
            {
                "name": "channel",
                "samples": [
                    {"name": "signal", "data": [2.0], "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]},
                    {"name": "background", "data": [10.0], "modifiers": []},
                ],
            }
        ],
        "observations": [{"name": "channel", "data": [12.0]}],
        "measurements": [{"name": "search", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }  # fmt: skip
    path, output = tmp_path / "workspace.json", tmp_path / "limits.json"
    path.write_text(json.dumps(content))

    def q(n: float, mu: float) -> float:
        best, expected = max(n, 10.0), 10 + 2 * mu
        return 2 * (expected - best + n * math.log(best / expected))

    def tail(mu: float) -> float:
        a, z = math.sqrt(q(10, mu)), math.sqrt(q(12, mu))
        return float(norm.sf(z) / norm.sf(z - a)) - 0.05

    printed = trila("limit", path, "-o", output)
    (found,) = read(output)
    assert (found["mass"], found["patch"], found["unit"]) == (None, "", "mu")
    assert found["observed"] == pytest.approx(brentq(tail, 2, 9), rel=1e-4)
    median = brentq(lambda mu: math.sqrt(q(10, mu)) - norm.isf(0.025), 1, 9)
    assert found["expected"][2] == pytest.approx(median, rel=1e-4)
    assert found["best_fit"] == pytest.approx(1.0, rel=1e-4)
    assert found["sigma"] == pytest.approx(math.sqrt(12) / 2, rel=1e-3)
    assert f"{found['observed']:.4g}" in printed
    row = workspaces.significance(path, tmp_path / "s.json")["local"][0]
    assert row["z_local"] == pytest.approx(math.sqrt(q(12, 0)), rel=1e-4)


# ---- excesses


def test_significance(csv: Path, counts: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "significance.json"
    printed = trila("significance", csv, *SEARCH, "--toys", 30, "-o", path)
    found = read(path)
    assert found.keys() == {"local", "global", "provenance"}
    for row in found["local"]:
        assert row.keys() == {"mass", "p_local", "z_local", "best_fit", "sigma"}
        wanted = Likelihood(row["mass"], np.ones(25, dtype=bool)).limits(counts, 0.95)
        assert row["z_local"] == pytest.approx(math.sqrt(wanted.q0), abs=5e-3)
        assert row["p_local"] == pytest.approx(norm.sf(row["z_local"]), rel=1e-6)
        assert row["best_fit"] == pytest.approx(wanted.best, abs=5e-3 * wanted.sigma)
    (toys,) = found["global"]
    assert (toys["method"], toys["toys"], toys["failed_toys"]) == ("toys", 30, 0)
    # three masses far apart: three chances of a local p-value, but for the fluctuation of 30 toys
    smallest = min(row["p_local"] for row in found["local"])
    assert abs(toys["p_global"] - (1 - (1 - smallest) ** 3)) < 4 * max(toys["p_global_error"], 0.05)
    assert (
        "note: no bound by Gross and Vitells: masses 32 and 40 GeV are 8 GeV apart, expected at most half"
        in printed
    )
    assert trila("significance", csv, *SEARCH, "--toys", 0, "-o", path).count("global") == 0
    assert read(path)["global"] == []


@pytest.mark.slow
def test_significance_with_several_functions(csv: Path, tmp_path: Path) -> None:
    """An envelope in which dijet3 is enough has the significances of that function, and no global p-value."""
    one, several = tmp_path / "one.json", tmp_path / "several.json"
    trila("significance", csv, *SEARCH, "--toys", 0, "-o", one)
    printed = trila("significance", csv, *SEARCH, "--function", "envelope:dijet", "--toys", 30, "-o", several)
    assert "note: no global p-value: toys need one background for all masses" in printed
    assert read(several)["global"] == []
    for single, row in zip(read(one)["local"], read(several)["local"], strict=True):
        assert row["z_local"] == pytest.approx(single["z_local"], abs=5e-3)
        assert row["best_fit"] == pytest.approx(single["best_fit"], abs=5e-3 * single["sigma"])


@pytest.mark.slow
def test_a_bump_is_found(counts: np.ndarray, tmp_path: Path) -> None:
    """Ten standard deviations at 32 GeV, by the bump hunt and by the scan in small steps."""
    signal = 10 * Likelihood(32.0, np.ones(25, dtype=bool)).limits(counts, 0.95).sigma
    csv = write_csv(tmp_path / "bump.csv", np.round(counts + signal * fractions(32.0)))
    path = tmp_path / "bump.json"
    printed = trila("bumphunt", csv, "--function", "dijet3", *RANGE, "--toys", 50, "-o", path)
    found = read(path)
    assert found.keys() == {
        "low", "high", "events", "background", "p_local", "statistic", "p_global", "p_global_error", "p_global_interval",
        "toys", "failed_toys", "windows", "toys_statistics", "provenance",
    }  # fmt: skip
    assert found["low"] < 32 < found["high"]
    assert found["high"] - found["low"] < 6 * WIDTH * 32
    inside = (EDGES[:-1] >= found["low"]) & (EDGES[1:] <= found["high"])
    assert found["events"] == np.round(counts + signal * fractions(32.0))[inside].sum()
    assert found["p_local"] == pytest.approx(poisson.sf(found["events"] - 1, found["background"]), rel=1e-6)
    assert found["statistic"] == pytest.approx(-math.log(found["p_local"]), rel=1e-9)
    assert len(found["toys_statistics"]) == 50
    assert max(found["toys_statistics"]) < found["statistic"]
    assert found["p_global"] == pytest.approx(1 / 51)
    # windows of 2 to 12 of 25 bins
    assert found["windows"] == sum(25 - width + 1 for width in range(2, 13))
    assert "describes the spectrum badly" in printed

    scan = ["--masses", "29:35:0.7", "--toys", 30, "--seed", 2]
    trila("significance", csv, *SEARCH[:-2], *scan, "-o", path)
    found = read(path)
    top = max(found["local"], key=lambda row: row["z_local"])
    assert abs(top["mass"] - 32) < 1
    assert top["z_local"] == pytest.approx(10, abs=1.5)
    bound, toys = found["global"]
    assert (bound["method"], toys["method"]) == ("Gross-Vitells", "toys")
    assert top["p_local"] < bound["p_global"] < 1e-10
    assert toys["p_global"] == pytest.approx(1 / 31)


@pytest.mark.slow
def test_bias(csv: Path, plain: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "bias.json"
    arguments = ["--toys", 100, "--strengths", "0,2", "--truth", "dijet3", "--truth", "ua2-4"]
    printed = trila("bias", csv, *SEARCH, *arguments, "-o", path)
    found = read(path)
    assert found.keys() == {"spurious", "injection", "linearity", "coverage", "unit", "provenance"}
    assert len(found["spurious"]) == len(found["linearity"]) == len(found["coverage"]) == 2 * 3
    assert len(found["injection"]) == 2 * 3 * 2
    for row in found["spurious"]:
        # a function makes up no signal on itself, and hardly any on one much like it
        assert abs(row["ratio"]) < (1e-4 if row["truth"] == "dijet3" else 1)
    sigmas = {entry["mass"]: entry["sigma"] for entry in plain}
    for row in found["injection"]:
        assert row["injected"] in (0, pytest.approx(2 * sigmas[row["mass"]], rel=0.02))
        assert len(row["pulls"]) == row["toys"] - row["failed"] == 100
        assert row["mean_pull"] == pytest.approx(np.mean(row["pulls"]), abs=1e-9)
        assert row["width"] == pytest.approx(np.std(row["pulls"], ddof=1), rel=1e-9)
        if row["truth"] == "dijet3":
            assert abs(row["mean_pull"]) < 4 * row["mean_pull_error"]
            assert abs(row["width"] - 1) < 4 * row["width_error"]
    for row in found["linearity"]:
        if row["truth"] == "dijet3":
            assert abs(row["slope"] - 1) < 4 * row["slope_error"] + 1e-3
    for row in found["coverage"]:
        assert row["low"] <= row["covered"] <= row["high"]
    assert "lowest" in printed
    # no limit excludes a signal of 0: then there is no coverage, but the rest
    trila("bias", csv, *SEARCH, "--toys", 5, "--strengths", "0", "-o", path)
    assert read(path)["coverage"] == []
    assert len(read(path)["injection"]) == 3


# ---- diagnoses and figures


@pytest.mark.slow
def test_diagnosis(tmp_path: Path) -> None:
    """Two bins and one background of uncertain size: pulls and impacts in closed form."""
    content = pyhf.simplemodels.correlated_background(
        [0.0, 40.0], [1000.0, 400.0], [1100.0, 440.0], [900.0, 360.0]
    ).spec
    content = json.loads(json.dumps({
        **content, "observations": [{"name": "single_channel", "data": [1080.0, 552.0]}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}], "version": "1.0.0",
    }))  # fmt: skip
    path, folder = tmp_path / "workspace.json", tmp_path / "out"
    path.write_text(json.dumps(content))
    printed = trila("diagnose", path, "--toys", 50, "-o", folder)
    found = read(folder / "diagnosis.json")
    assert found.keys() == {"pulls", "impacts", "correlations", "goodness_of_fit", "unit", "provenance"}
    assert found["unit"] == "mu"
    pulls = {row["name"]: row for row in found["pulls"]}
    nuisance = next(name for name in pulls if name != "mu")
    # the second bin determines mu alone: the first and the constraint determine the size, 1000 + 100 x
    x = brentq(lambda x: 100 * (1080 / (1000 + 100 * x) - 1) - x, -3, 3)
    curvature = 100**2 * 1080 / (1000 + 100 * x) ** 2 + 1
    assert pulls[nuisance]["pull"] == pytest.approx(x, abs=1e-3)
    assert pulls[nuisance]["constraint"] == pytest.approx(1 / math.sqrt(curvature), rel=1e-3)
    assert pulls["mu"]["value"] == pytest.approx((552 - 400 - 40 * x) / 40, abs=1e-3)
    assert pulls["mu"]["pull"] is None
    (impact,) = found["impacts"]
    assert impact["up"] == pytest.approx(-1 / math.sqrt(curvature), rel=1e-3)
    assert impact["prefit_up"] == pytest.approx(-1.0, rel=1e-3)
    assert impact["down"] == pytest.approx(-impact["up"], rel=1e-3)
    good = found["goodness_of_fit"]
    assert good["ndof"] == 1
    assert good["statistic"] == pytest.approx(
        x**2 + 2 * (1000 + 100 * x - 1080 + 1080 * math.log(1080 / (1000 + 100 * x))), rel=1e-3
    )
    assert good["p_value"] == pytest.approx(chi2.sf(good["statistic"], 1), rel=1e-6)
    assert abs(good["p_toys"] - good["p_value"]) < 0.3
    assert sorted(found["correlations"]["names"]) == sorted(pulls)
    drawn = {p.name for p in folder.iterdir()}
    assert drawn == {"diagnosis.json"} | {
        f"diagnosis_{kind}.{suffix}" for kind in ("ranking", "correlations") for suffix in ("png", "pdf")
    }  # fmt: skip
    assert "4 plots" in printed


@pytest.mark.slow
def test_fits_and_limits_are_drawn(csv: Path, plain: list[dict[str, Any]], tmp_path: Path) -> None:
    trila("fit", csv, "--function", "dijet3", *RANGE, "--blind", "30:33", "-o", tmp_path / "fit.json")
    (tmp_path / "limits.json").write_text(json.dumps(plain))
    for name in ("fit", "limits"):
        assert "2 files" in trila("plot", tmp_path / f"{name}.json", "-o", tmp_path / "plots")
    drawn = sorted(p.name for p in (tmp_path / "plots").iterdir())
    assert drawn == ["fit.pdf", "fit.png", "limits.pdf", "limits.png"]


@pytest.mark.slow
def test_bumphunts_on_blind_data_do_not_look(counts: np.ndarray, tmp_path: Path) -> None:
    """A bump in blinded bins is found by nobody."""
    hidden = (EDGES[1:] > 30) & (EDGES[:-1] < 33)
    found = []
    for factor in (1, 1000):
        path = write_csv(tmp_path / "spectrum.csv", np.where(hidden, factor * counts, counts))
        given = prepared(str(path), range="20:60", sqrt_s=SQRT_S, blind=["30:33"])
        content = hunts.bumphunt(given, "dijet3", tmp_path / "bump.json", toys=5).content
        assert content.pop("provenance")["options"]["blinded"] == [[30.0, 33.0]]
        found.append(content)
    assert found[0] == found[1]
    assert found[0]["high"] <= 30.2 or found[0]["low"] >= 32.8
