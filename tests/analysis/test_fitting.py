"""Fits with backgrounds that are more than a function, as `trila fit`, `limit` and `significance` make them."""

import json
from pathlib import Path

import numpy as np
import pytest

from trila.analysis.fit_inputs import FitInput, prepared
from trila.analysis.fitting import fit
from trila.analysis.hunts import significance
from trila.analysis.limits import Choices, limit
from trila.analysis.product_files import read_product
from trila.analysis.scans import scan
from trila.fits.errors import FitError
from trila.fits.functions import Domain, expectation

EDGES = np.geomspace(489.0, 2037.0, 27)
TRUTH = expectation("dijet3", EDGES, [1.0, 9.0, 5.5], domain=Domain(489.0, 2037.0, 13000.0))
TRUTH *= 1e6 / TRUTH.sum()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> FitInput:
    """A spectrum of a million events, two bins of which nobody may look at."""
    path = tmp_path_factory.mktemp("spectrum") / "mass.csv"
    counts = np.random.default_rng(1).poisson(TRUTH)
    rows = [f"{low},{high},{n}" for low, high, n in zip(EDGES, EDGES[1:], counts, strict=False)]
    path.write_text("\n".join(["low,high,count", *rows]))
    return prepared(str(path), range=f"{EDGES[0]}:{EDGES[-1]}", blind=[f"{EDGES[10]}:{EDGES[12]}"])


@pytest.mark.parametrize(
    ("function", "parameters"), [("gp", ["A", "a", "b", "c", "d"]), ("swift:dijet3", [])]
)
def test_products_of_other_backgrounds(
    given: FitInput, tmp_path: Path, function: str, parameters: list[str]
) -> None:
    outcome = fit(given, function, tmp_path / "fit.json")
    content = json.loads((tmp_path / "fit.json").read_text())
    assert content == json.loads(json.dumps(outcome.content))
    assert content["function"].startswith(function)
    assert content["parameters"] == parameters
    assert len(content["values"]) == len(content["covariance"]) == len(parameters)
    assert content["p_value"] > 1e-3
    # the blinded bins too
    assert np.abs((np.array(content["prediction"]) - TRUTH) / np.sqrt(TRUTH)).max() < 3
    assert content["data"][10:12] == [None, None]
    assert read_product(tmp_path / "fit.json") is not None


@pytest.mark.slow
def test_windows_that_do_not_describe_the_spectrum_are_named(given: FitInput, tmp_path: Path) -> None:
    wave = TRUTH * (1 + 0.3 * np.sin(3 * np.arange(TRUTH.size)))
    wavy = given._replace(spectrum=given.spectrum._replace(counts=np.round(wave)))
    outcome = fit(wavy, "swift:dijet3", tmp_path / "fit.json")
    assert "no windows of dijet3 describe the spectrum" in outcome.notes[-1]


@pytest.mark.parametrize(
    ("function", "window", "says"),
    [
        ("swift:dijet4", None, "give --function dijet4 --window K"),
        ("swift", None, "--function swift names no function; give one, such as swift:dijet4"),
        (
            "gp",
            5.0,
            "--function gp is a background of the whole range, and does not go together with --window",
        ),
        ("gp:gp", None, "'gp' is a background, but no function of mass"),
    ],
)
def test_searches_refuse(given: FitInput, function: str, window: float | None, says: str) -> None:
    with pytest.raises(FitError, match=says):
        scan(given, function, "gauss:0.05", np.array([700.0]), window=window)


@pytest.mark.slow
def test_limits_and_significances_with_a_gaussian_process(given: FitInput, tmp_path: Path) -> None:
    masses = np.array([650.0, 670.0])
    choices = Choices(workspaces=tmp_path / "models")
    made = limit(
        given,
        "gp",
        "gauss:0.07",
        masses,
        tmp_path / "limits.json",
        choices,
        progress=lambda *_: lambda _: None,
    )
    assert [row["certificate"]["passed"] for row in made.content] == [True, True]
    assert {row["certificate"]["form"] for row in made.content} == {"linear"}
    assert (tmp_path / "models" / "signals.json").is_file()
    outcome = significance(given, "gp:dijet3", "gauss:0.07", masses, tmp_path / "s.json", toys=30)
    assert {row["method"] for row in outcome.content["global"]} == {"toys", "Gross-Vitells"}
    assert all(row["p_local"] > 1e-3 for row in outcome.content["local"])
