"""The luminosity account of a RESULT, by hand; its figure holds its numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from trila.analysis.luminosity import LuminosityAccount, account
from trila.analysis.luminosity_files import read_luminosity
from trila.corrections.lumi import LumiMaskError
from trila.processors.errors import InputError, UnknownName

LUMI = "#run:fill,ls,delivered(/pb),recorded(/pb)\n" + "".join(
    f"{run}:1,{ls}:{cms},{delivered},{recorded}\n"
    for run, ls, cms, delivered, recorded in (
        (5, 1, 1, 2.0, 1.0), (5, 2, 2, 2.0, 1.5), (5, 3, 3, 4.0, 2.0), (5, 4, 0, 1.0, 0.0),
        (6, 1, 1, 8.0, 8.0), (6, 2, 2, 8.0, 4.0),
        (9, 1, 1, 16.0, 16.0),
    )
)  # fmt: skip
PRESCALES = "run,ls,trigger,prescale\n5,1-3,HLT_A,2\n6,1-9,HLT_A,4\n5,1-3,HLT_B,3\n6,1,HLT_B,0\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A result, as far as an account needs it, with the files that go with it; the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "result").mkdir()
    (tmp_path / "result/manifest.json").write_text("{}")
    (tmp_path / "result/luminosity_blocks.json").write_text(
        '{"5": [[2, 3], [8, 8]], "6": [[1, 1]], "7": [[1, 2]]}'
    )
    (tmp_path / "mask.json").write_text('{"5": [[1, 5]], "6": [[1, 2]], "7": [[2, 2]]}')
    (tmp_path / "lumi.csv").write_text(LUMI)
    (tmp_path / "prescales.csv").write_text(PRESCALES)
    return tmp_path


def taken(
    mask: str | None = None, prescales: str | None = None, triggers: tuple[str, ...] = ()
) -> LuminosityAccount:
    return account(Path("result"), mask=mask, luminosity="lumi.csv", prescales=prescales, triggers=triggers)


def test_with_a_mask(folder: Path) -> None:
    found = taken("mask.json")
    assert found.planned == (6, 25.0, 16.5)  # of runs 5 and 6
    assert found.seen == (3, 14.0, 11.5)
    assert found.fraction == 11.5 / 16.5
    assert found.not_seen == {"5": ((1, 1),), "6": ((2, 2),)}  # but not 5:4, in which nothing was recorded
    assert found.mask_without_luminosity == {"5": ((5, 5),), "7": ((2, 2),)}
    assert found.seen_without_luminosity == {"7": ((2, 2),)}
    assert found.seen_outside_mask == {"5": ((8, 8),), "7": ((1, 1),)}
    assert [part.tolist() for part in found.runs] == [[5, 6], [4.5, 12.0], [3.5, 8.0]]
    assert found.triggers == {}
    assert found.any_trigger is None


def test_without_a_mask(folder: Path) -> None:
    """All of the luminosity file is planned, run 9 too, of which nothing was seen."""
    found = taken()
    assert found.planned == (7, 41.0, 32.5)
    assert found.seen == (3, 14.0, 11.5)
    assert found.not_seen == {"5": ((1, 1),), "6": ((2, 2),), "9": ((1, 1),)}
    assert found.seen_without_luminosity == {"5": ((8, 8),), "7": ((1, 2),)}
    assert found.mask_without_luminosity == found.seen_outside_mask == {}
    assert found.runs.seen.tolist() == [3.5, 8.0, 0.0]


def test_effective_luminosity(folder: Path) -> None:
    """HLT_B is disabled in 6:1 and unknown in 6:2, where HLT_A is known; each block is counted where it can be."""
    found = taken("mask.json", "prescales.csv", ("HLT_A", "HLT_B"))
    first, second = found.triggers["HLT_A"], found.triggers["HLT_B"]
    assert first.planned == pytest.approx(4.5 / 2 + 12.0 / 4)
    assert first.seen == pytest.approx(3.5 / 2 + 8.0 / 4)
    assert first.without_prescale == {}  # nothing is recorded in 5:4
    assert second.planned == pytest.approx(4.5 / 3)
    assert second.without_prescale == {"6": ((2, 2),)}
    assert found.any_trigger is not None
    assert found.any_trigger.planned == pytest.approx(4.5 * (1 - 1 / 2 * 2 / 3) + 8.0 / 4)
    assert found.any_trigger.seen == pytest.approx(3.5 * (1 - 1 / 2 * 2 / 3) + 8.0 / 4)
    assert found.any_trigger.without_prescale == {"6": ((2, 2),)}
    assert taken("mask.json", "prescales.csv", ("HLT_A", "HLT_A")).any_trigger is None


def test_as_json(folder: Path) -> None:
    """It survives JSON, and its blocks are masks that can be read again."""
    content = taken("mask.json", "prescales.csv", ("HLT_A", "HLT_B")).as_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["not_seen"] == {"5": [[1, 1]], "6": [[2, 2]]}
    assert content["runs"][1] == {"run": 6, "planned": 12.0, "seen": 8.0}
    assert set(content["inputs"]) == {
        "result/luminosity_blocks.json",
        "lumi.csv",
        "mask.json",
        "prescales.csv",
    }
    (folder / "mask.json").write_text(json.dumps(content["not_seen"]))
    assert taken("mask.json").seen.blocks == 0


def test_nothing_planned_has_no_fraction(folder: Path) -> None:
    (folder / "mask.json").write_text('{"1": [[1, 1]]}')
    found = taken("mask.json", "prescales.csv", ("HLT_A", "HLT_B"))
    assert found.fraction is None
    assert found.planned == (0, 0.0, 0.0)
    assert found.any_trigger == (0.0, 0.0, {})
    assert found.as_json()["runs"] == []


def test_a_result_that_saw_nothing(folder: Path) -> None:
    (folder / "result/luminosity_blocks.json").write_text("{}")
    assert taken().fraction == 0.0


def test_a_real_file(folder: Path, data_dir: Path) -> None:
    """What was seen and what was not make up the whole."""
    path = str(data_dir / "lumi/lumi_small.csv")
    table = read_luminosity(path)
    (folder / "result/luminosity_blocks.json").write_text('{"297050": [[1, 300]]}')
    found = account(folder / "result", mask=None, luminosity=path, prescales=None, triggers=())
    (folder / "rest.json").write_text(json.dumps(found.as_json()["not_seen"]))
    rest = account(folder / "result", mask="rest.json", luminosity=path, prescales=None, triggers=())
    assert found.seen.recorded + rest.planned.recorded == pytest.approx(table.recorded.sum(), rel=1e-12)
    assert 0 < found.seen.recorded < found.planned.recorded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prescales": "prescales.csv"},
            "--prescales is given without --trigger; effective luminosities need both",
        ),
        ({"triggers": ("HLT_A",)}, "--trigger is given without --prescales"),
    ],
)
def test_prescales_and_triggers_go_together(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        taken(**options)


def test_bad_input(folder: Path) -> None:
    with pytest.raises(UnknownName, match="unknown trigger 'HLT_AB'; did you mean"):
        taken(prescales="prescales.csv", triggers=("HLT_AB",))
    with pytest.raises(LumiMaskError, match=r"luminosity mask no\.json cannot be read"):
        taken("no.json")
    blocks = folder / "result/luminosity_blocks.json"
    for content in ("{", "[]", '{"5": [[2, 1]]}'):
        blocks.write_text(content)
        with pytest.raises(InputError, match=r"luminosity_blocks.json is damaged .*; run it again"):
            taken()
    blocks.unlink()
    with pytest.raises(
        InputError, match=r"result has no luminosity_blocks.json: it is of simulation, or no event"
    ):
        taken()
    (folder / "result/manifest.json").unlink()
    with pytest.raises(InputError, match=r"result is no result: it has no manifest.json; `trila run"):
        taken()


@pytest.mark.parametrize(
    "style", ["cms", *(pytest.param(name, marks=pytest.mark.slow) for name in ("atlas", "lhcb"))]
)
def test_figure(folder: Path, style: str) -> None:
    """The steps are the luminosities by run, and their sums; the label says what was seen."""
    from trila.analysis.plots_luminosity import luminosity_figure
    from trila.analysis.plots_style import Label

    found = taken("mask.json")
    figure = luminosity_figure(found, Label(style=style))
    assert figure is not None
    upper, lower = figure.axes
    for ax, planned, seen in ((upper, [4.5, 12.0], [3.5, 8.0]), (lower, [4.5, 16.5], [3.5, 11.5])):
        drawn = {patch.get_gid(): patch.get_data().values.tolist() for patch in ax.patches}
        assert drawn == {"planned": planned, "seen": seen}
        assert ax.get_ylim()[1] > max(planned)
    texts = " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
    assert r"11.5 $\mathrm{pb}^{-1}$" in texts
    assert "simulation" not in texts.casefold()
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["Planned", "Seen: 69.69% of planned"]
    figure.canvas.draw()
    assert [t.get_text() for t in lower.get_xticklabels() if t.get_text()] == ["5", "6"]


def test_no_figure_of_nothing(folder: Path) -> None:
    from trila.analysis.plots_luminosity import luminosity_figure
    from trila.analysis.plots_style import Label

    (folder / "mask.json").write_text('{"1": [[1, 1]]}')
    assert luminosity_figure(taken("mask.json"), Label()) is None


def test_figure_in_inverse_femtobarn(folder: Path) -> None:
    from trila.analysis.plots_luminosity import luminosity_figure
    from trila.analysis.plots_style import Label

    (folder / "lumi.csv").write_text(LUMI.replace("/pb", "/fb"))
    figure = luminosity_figure(taken("mask.json"), Label())
    assert figure is not None
    lower = figure.axes[1]
    assert r"\mathrm{fb}" in lower.get_ylabel()
    np.testing.assert_allclose(lower.patches[0].get_data().values, [4.5, 16.5])
