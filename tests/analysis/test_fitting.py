"""Fits with backgrounds that are more than a function, as `trila fit`, `limit` and `significance` make them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trila.analysis import fitting
from trila.analysis.fit_inputs import FitInput, prepared, vetoed
from trila.analysis.fitting import fit, fit_content, fitted
from trila.analysis.hunts import significance
from trila.analysis.limits import Choices, limit
from trila.analysis.product_files import read_product
from trila.analysis.scans import scan, slices
from trila.fits.errors import FitError
from trila.fits.functions import Domain, expectation, resolve
from trila.fits.search import search
from trila.fits.sliding_background import SlidingBackground, sliding_background
from trila.fits.toy_limits import toy_limits
from trila.processors.errors import InputError

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


def test_one_name_is_one_uncertainty(given: FitInput) -> None:
    nominal = given.spectrum
    varied = {f"JES_{way}": nominal for way in ("up", "down")}
    with pytest.raises(FitError, match="'JES' is in --uncertainty and among the variations"):
        slices(
            given._replace(variations=(nominal, varied)),
            3,
            "gauss:0.05",
            np.array([600.0]),
            sources=["JES=0.1"],
        )


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> FitInput:
    """Two thousand events, so few that a background linear in its parameters will not do."""
    path = tmp_path_factory.mktemp("spectrum") / "mass.csv"
    edges = np.linspace(1000.0, 4000.0, 16)
    shape = expectation("powerlaw", edges, [1.0, 6.0], domain=Domain(1000.0, 4000.0, 13000.0))
    counts = np.random.default_rng(3).poisson(2000 * shape / shape.sum())
    rows = [f"{low},{high},{n}" for low, high, n in zip(edges, edges[1:], counts, strict=False)]
    path.write_text("\n".join(["low,high,count", *rows]))
    return prepared(str(path), range="1000:4000")


@pytest.mark.slow
def test_toys_take_the_function_where_its_expansion_is_not_valid(sparse: FitInput, tmp_path: Path) -> None:
    masses = np.array([3000.0])
    choices = Choices(toys=50, check="none")
    (row,) = limit(
        sparse,
        "dijet3",
        "gauss:0.1",
        masses,
        tmp_path / "limits.json",
        choices,
        progress=lambda *_: lambda _: None,
    ).content
    ready = scan(sparse, "dijet3", "gauss:0.1", masses)
    found = search(ready.fit, ready.templates, form="exact")
    made = toy_limits(found.model, toys=50, seed=0)
    assert row["certificate"]["form"] == "exact"
    assert made.verified.all() == row["certificate"]["passed"]
    if made.verified.all():
        assert row["observed"] == pytest.approx(made.observed[0] * found.unit[0])


def test_a_variance_beyond_floating_point_numbers_is_null(given: FitInput) -> None:
    found = fitted(resolve("dijet3"), given)
    # as of a norm of 1e160 of six parameters on few events
    found = found._replace(covariance=found.covariance * np.where(np.eye(3) * [1, 0, 0] > 0, np.inf, 1.0))
    content = fit_content(found, given)
    assert content["covariance"][0][0] is None
    assert content["covariance"][1] == found.covariance[0][1].tolist()


@pytest.mark.slow
def test_limits_are_written_although_no_model_can_be(sparse: FitInput, tmp_path: Path) -> None:
    counts = np.where(np.arange(15) < 6, sparse.spectrum.counts, 0.0)
    outcome = limit(
        sparse._replace(spectrum=sparse.spectrum._replace(counts=counts)), "dijet3", "gauss:0.02", np.array([3900.0]),
        tmp_path / "limits.json", Choices(workspaces=tmp_path / "models"), progress=lambda *_: lambda _: None,
    )  # fmt: skip
    assert "no workspaces: there is no limit at any mass" in outcome.notes
    assert json.loads((tmp_path / "limits.json").read_text())[0]["observed"] is None


def test_windows_that_do_not_converge_are_an_error(
    given: FitInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def some_failed(*arguments: Any) -> SlidingBackground:
        found = sliding_background(*arguments)
        return found._replace(chosen=found.chosen._replace(failed=2, p_value=0.0))

    monkeypatch.setattr(fitting, "sliding_background", some_failed)
    with pytest.raises(FitError, match="2 of the windows of dijet3 did not converge"):
        fit(given, "swift:dijet3", tmp_path / "fit.json")
    assert not (tmp_path / "fit.json").exists()


def test_vetoes_of_known_resonances() -> None:
    """The J/psi at 1%: 5 widths on both sides, and 2 more below; what is no resolution is refused."""
    mass = 3.0969
    windows = vetoed("resonances:0.01,0")
    assert any(low == pytest.approx(mass * 0.93, rel=1e-3) for low, _ in windows)
    assert all(low < high for low, high in windows)
    assert vetoed("9:11") == [(9.0, 11.0)]
    with pytest.raises(InputError, match=r"--veto 'resonances:0.01', expected resonances:a,b"):
        vetoed("resonances:0.01")
