"""Searches in published and in open data by the command line: the CMS dijet spectrum of 137/fb, and dimuons of 2012.

Neither holds a resonance: functions describe them, limits are certified and near those that were published, dimuon limits
scatter about the expected ones as statistics says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from trila.analysis import cli

pytestmark = pytest.mark.slow

DIJET = ("--range", "1530:8152")


def trila(*arguments: object) -> str:
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def drawn(product: Path, folder: Path, *names: str) -> None:
    trila("plot", product, "-o", folder)
    for name in names:
        assert (folder / f"{name}.png").stat().st_size > 10_000
        assert (folder / f"{name}.pdf").is_file()


@pytest.fixture(scope="module")
def dijets(data_dir: Path) -> Path:
    """Figure 5 of arXiv:1911.03947, as event counts."""
    return data_dir / "hepdata" / "cms_dijet_137fb_ins1764471.csv"


def test_dijet_functions_describe_the_data(dijets: Path, tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    trila("fit", dijets, "--function", "dijet4", *DIJET, "-o", path)
    found = read(path)
    assert found["p_value"] > 0.05
    assert found["ndof"] == 41 - 4
    assert sum(found["prediction"]) == pytest.approx(sum(found["data"]), rel=1e-5)
    drawn(path, tmp_path / "plots", "fit")
    trila("ftest", dijets, "--family", "dijet", *DIJET, "-o", path)
    # the publication needs no more than four parameters
    assert read(path)["chosen"] in ("dijet3", "dijet4")
    drawn(path, tmp_path / "plots", "fit")


def test_dijet_limits_are_near_the_published_ones(data_dir: Path, dijets: Path, tmp_path: Path) -> None:
    """Those of quarks in 36/fb (arXiv:1806.00843), scaled by the luminosity; of other signal shapes, so within a factor of 3."""
    path = tmp_path / "limits.json"
    search = ["--function", "dijet4", *DIJET, "--signal", "gauss:0.05", "--masses", "2000:6500:500"]
    trila("limit", dijets, *search, "--lumi", 137_000, "--check", "all", "-o", path)
    found = read(path)
    assert len(found) == 10
    assert all(entry["certificate"]["passed"] and entry["certificate"]["minuit"] < 1e-3 for entry in found)
    table = read(data_dir / "hepdata" / "hepdata_crosssectionlimit_cms36ifb.json")["values"]
    published = {float(row["x"][0]["value"]): float(row["y"][2]["value"]) for row in table}
    ratios = [entry["expected"][2] / published[entry["mass"]] * np.sqrt(137 / 36) for entry in found]
    assert min(ratios) > 1 / 3
    assert max(ratios) < 3
    # ten limits, most of them within two standard deviations
    inside = [entry["expected"][0] < entry["observed"] < entry["expected"][4] for entry in found]
    assert sum(inside) >= 8
    drawn(path, tmp_path / "plots", "limits")


def test_dimuons_from_events_to_the_coupling(data_dir: Path, tmp_path: Path) -> None:
    result, path = tmp_path / "result", tmp_path / "limits.json"
    trila("run", "dimuon", data_dir / "cms" / "DoubleMuParked2012_100k.root", "-o", result)
    spectrum = f"{result}:dimuon.mass[sign=os,category=all]"
    search = [
        "--function",
        "bernstein2",
        "--range",
        "8:120",
        "--sqrts",
        8000,
        "--signal",
        "resolution:0.012,0",
    ]
    vetoes = ["--veto", "9:10.9", "--veto", "75:105"]
    masses = ",".join(f"{m:.3f}" for m in [10.0, *np.geomspace(12.0, 60.0, 31)])
    trila(
        "limit",
        spectrum,
        *search,
        *vetoes,
        "--masses",
        masses,
        "--window",
        8,
        "--cl",
        0.9,
        "--eps2",
        "-o",
        path,
    )
    left_out, *found = read(path)
    # the Upsilons are vetoed
    assert left_out["observed"] is None
    assert left_out["certificate"]["reasons"] == ["in a bin that is not used, such as a veto"]
    assert all(entry["certificate"]["passed"] for entry in found)
    inside = [entry["expected"][1] < entry["observed"] < entry["expected"][3] for entry in found]
    assert 0.4 < np.mean(inside) < 0.9
    # if all of these dimuons were from virtual photons: a lower bound of the limit on the coupling
    assert all(1e-6 < entry["eps2"]["observed"] < 1e-2 for entry in found)
    drawn(path, tmp_path / "plots", "limits", "limits_eps2")
