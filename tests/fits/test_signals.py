"""Shapes of resonances, against SciPy's distributions bin by bin, and templates made from a known family."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from trila.fits.errors import FitError
from trila.fits.signals import (
    DoubleCrystalBall,
    Gaussian,
    Histogram,
    Resolution,
    Signal,
    Template,
    leave_one_out,
    signal,
)

Array = NDArray[np.float64]

MASSES = np.array([453.0, 620.0, 1100.0])
# A jittered grid: nothing is at a round place.
EDGES = np.cumsum(np.random.default_rng(5).uniform(3.0, 70.0, 50)) + 200.0

FAMILY = DoubleCrystalBall.model_validate(
    {
        "mean": {"polynomial": [-0.01, 2e-6]},
        "sigma": {"polynomial": [0.08, -1.5e-5, 2e-9]},
        "alpha_low": {"masses": [400, 1000, 3000], "values": [1.0, 1.2, 1.5]},
        "n_low": 3.5,
        "alpha_high": {"polynomial": [1.8, 1e-4]},
        "n_high": 6,
    }
)
STEPS = 500.0 * 1.1 ** np.arange(8)
BINS = np.unique(
    np.concatenate([[-20, -5, -1, 0, 0.2, 0.4], np.arange(0.5, 1.5, 0.02), [1.5, 2, 3, 10, 30]]).round(9)
)


@pytest.fixture(scope="module")
def template() -> Template:
    """The family at steps of 10% in mass, in bins of 2% of the mass: a third to a quarter of a width."""
    counts = [FAMILY.fractions([mass], BINS * mass)[0] for mass in STEPS]
    return Template(
        masses=tuple(STEPS),
        templates=tuple(
            Histogram(edges=tuple(BINS * mass), counts=tuple(1e4 * content))
            for mass, content in zip(STEPS, counts, strict=True)
        ),
    )


@pytest.mark.parametrize(("scale", "factor"), [(1.0, 1.0), (1.03, 1.0), (0.98, 1.2)])
def test_gaussians_are_scipys(scale: float, factor: float) -> None:
    for shape, widths in (
        (Gaussian(0.07), 0.07 * MASSES),
        (Resolution(0.01, 3e-5), MASSES * np.sqrt(0.01**2 + (3e-5 * MASSES) ** 2)),
    ):
        found = shape.fractions(MASSES, EDGES, scale=scale, resolution=factor)
        for row, mass, width in zip(found, MASSES, widths, strict=True):
            expected = np.diff(stats.norm(mass * scale, width * scale * factor).cdf(EDGES))
            np.testing.assert_allclose(row, expected, atol=1e-15)
        np.testing.assert_allclose(shape.width(MASSES), widths, rtol=1e-14)


def test_crystal_ball_is_scipys() -> None:
    """A high tail that starts at 30 widths is none."""
    one = DoubleCrystalBall(mean=-0.02, sigma=0.06, alpha_low=1.3, n_low=4.0, alpha_high=30.0, n_high=2.0)
    found = one.fractions(MASSES, EDGES, scale=1.01, resolution=0.9)
    for row, mass in zip(found, MASSES, strict=True):
        peak, width = mass * 0.98 * 1.01, mass * 0.06 * 1.01 * 0.9
        expected = np.diff(stats.crystalball(beta=1.3, m=4.0, loc=peak, scale=width).cdf(EDGES))
        np.testing.assert_allclose(row, expected, atol=1e-14)
    np.testing.assert_allclose(one.width(MASSES), 0.06 * MASSES, rtol=1e-14)


@pytest.mark.parametrize("shape", [Gaussian(0.1), Resolution(0.01, 1e-5), FAMILY, "template"], ids=str)
def test_yield_counts_all_events(shape: Signal, request: pytest.FixtureRequest) -> None:
    if isinstance(shape, str):
        shape = request.getfixturevalue(shape)
    masses = [501.0, 620.0, 970.0]
    everywhere = shape.fractions(masses, [-np.inf, *EDGES, np.inf])
    np.testing.assert_allclose(everywhere.sum(axis=1), 1.0, rtol=1e-12)
    assert everywhere.dtype == np.float64
    assert everywhere.min() >= 0
    inside = shape.fractions(masses, EDGES)
    assert inside.shape == (3, EDGES.size - 1)
    np.testing.assert_array_equal(inside, everywhere[:, 1:-1])
    half = shape.fractions(masses, [-np.inf, 620.0])[1, 0]
    assert 0.3 < half < 0.75


def test_far_bins_are_not_rounded_away() -> None:
    row = Gaussian(0.01).fractions([1000.0], [880.0, 900.0, 1100.0, 1120.0])[0]
    assert row[0] == pytest.approx(stats.norm.sf(10) - stats.norm.sf(12), rel=1e-12)
    assert row[2] == pytest.approx(row[0], rel=1e-12)


def test_template_returns_its_own_bins(template: Template) -> None:
    for mass, histogram in zip(template.masses, template.templates, strict=True):
        found = template.fractions([mass], histogram.edges)[0]
        counts = np.array(histogram.counts)
        np.testing.assert_allclose(found, counts / counts.sum(), atol=1e-7)


def test_template_between_masses_is_the_family(template: Template) -> None:
    """Contents of bins of a quarter of a width in the core, and the events within two widths."""
    for mass in np.sqrt(STEPS[1:] * STEPS[:-1]):
        width = FAMILY.width([mass])[0]
        peak = mass * (1 + FAMILY.at(np.array([mass]))[0, 0])
        edges = peak + width * np.linspace(-2.0, 2.0, 17)
        found, expected = template.fractions([mass], edges)[0], FAMILY.fractions([mass], edges)[0]
        np.testing.assert_allclose(found, expected, rtol=0.02)
        assert found.sum() == pytest.approx(expected.sum(), rel=0.01)
        # The shortest interval of the whole distribution, by search.
        low = np.linspace(peak - 2 * width, peak, 2001)
        many = FAMILY.fractions([mass], np.linspace(peak - 5 * width, peak + 5 * width, 20001))[0]
        below = FAMILY.fractions([mass], [-np.inf, peak - 5 * width])[0, 0] + np.concatenate(
            [[0], np.cumsum(many)]
        )
        points = np.linspace(peak - 5 * width, peak + 5 * width, 20001)
        high = np.interp(np.interp(low, points, below) + 2 * stats.norm.cdf(0.5) - 1, below, points)
        assert template.width([mass])[0] == pytest.approx((high - low).min(), rel=0.005)


def test_template_of_gaussians_is_gaussian_at_all_masses() -> None:
    """Quantiles that are linear in the mass are interpolated exactly; so are scale and resolution."""
    masses = (500.0, 600.0, 800.0)
    edges = np.linspace(0.6, 1.4, 81)
    widths = [0.05 + 1e-5 * mass for mass in masses]
    shape = Template(
        masses=masses,
        templates=tuple(
            Histogram(edges=tuple(edges * m), counts=tuple(np.diff(stats.norm(1.0, w).cdf(edges))))
            for m, w in zip(masses, widths, strict=True)
        ),
    )
    tested = np.array([500.0, 537.0, 600.0, 777.0, 800.0])
    found = shape.fractions(tested, EDGES, scale=1.02, resolution=1.1)
    for row, mass in zip(found, tested, strict=True):
        width = mass * (0.05 + 1e-5 * mass)
        exact = np.diff(stats.norm(mass * 1.02, width * 1.02 * 1.1).cdf(EDGES))
        np.testing.assert_allclose(row, exact, atol=2e-5)
        assert shape.width([mass])[0] == pytest.approx(width, rel=1e-4)


def test_leave_one_out(template: Template) -> None:
    found = leave_one_out(template)
    np.testing.assert_array_equal(found.masses, STEPS[1:-1])
    assert np.abs(found.core).max() < 0.02
    assert np.abs(found.yields).max() < 0.01


def test_leave_one_out_sees_a_template_that_does_not_belong(template: Template) -> None:
    """A template moved by 5% in mass is 5% over its width away from the prediction; one that is right is close."""
    wrong = list(template.templates)
    wrong[3] = Histogram(edges=tuple(1.05 * edge for edge in wrong[3].edges), counts=wrong[3].counts)
    found = leave_one_out(Template(masses=template.masses, templates=tuple(wrong)))
    relative = template.width([STEPS[3]])[0] / STEPS[3]
    assert found.core[2] == pytest.approx(0.05 / relative, rel=0.15)
    assert found.yields[2] < -0.01
    assert found.core[5] < 0.02


def test_templates_with_few_events_and_empty_bins() -> None:
    """Bins without events inside and outside of the peak, in other bins for each mass."""
    first = Histogram(edges=tuple(range(100, 1001, 50)), counts=(0, 0, 0, 1, 0, 2, 5, 0, 9, 4, 1, *[0] * 7))
    second = Histogram(edges=(0, 500, 550, 600, 650, 700, 2000), counts=(1, 3, 8, 6, 2, 1))
    shape = Template(masses=(500.0, 600.0), templates=(first, second))
    contents = shape.fractions([500.0], first.edges)[0]
    np.testing.assert_allclose(contents, np.array(first.counts) / 22, atol=1e-7)
    between = shape.fractions([500.0, 510.0, 555.0], [-np.inf, *range(0, 2000, 7), np.inf], resolution=1.1)
    np.testing.assert_allclose(between.sum(axis=1), 1.0, rtol=1e-12)
    assert np.all(np.isfinite(between) & (between >= 0))


def test_many_masses_are_the_same_as_one_by_one(template: Template) -> None:
    masses = np.linspace(500.0, 970.0, 300)
    for shape in (template, FAMILY):
        together = shape.fractions(masses, EDGES, scale=0.99, resolution=1.2)
        alone = [shape.fractions([mass], EDGES, scale=0.99, resolution=1.2)[0] for mass in masses[::50]]
        np.testing.assert_allclose(together[::50], alone, atol=1e-13)


@pytest.mark.parametrize("shape", [Gaussian(0.1), Resolution(0.01, 1e-5), FAMILY, "template"], ids=str)
def test_factors_may_differ_between_masses(shape: Signal, request: pytest.FixtureRequest) -> None:
    if isinstance(shape, str):
        shape = request.getfixturevalue(shape)
    masses, scales, factors = [501.0, 620.0, 970.0], [0.98, 1.0, 1.03], [1.2, 0.9, 1.0]
    together = shape.fractions(masses, EDGES, scale=scales, resolution=factors)
    for row, mass, scale, factor in zip(together, masses, scales, factors, strict=True):
        alone = shape.fractions([mass], EDGES, scale=scale, resolution=factor)[0]
        np.testing.assert_allclose(row, alone, atol=1e-13)


def test_shapes_travel_to_workers(template: Template) -> None:
    for shape in (Gaussian(0.05), Resolution(0.01, 1e-4), FAMILY, template):
        there = pickle.loads(pickle.dumps(shape))
        np.testing.assert_array_equal(there.fractions([600.0], EDGES), shape.fractions([600.0], EDGES))


def test_texts(tmp_path: Path, template: Template) -> None:
    assert signal("gauss:0.05") == Gaussian(0.05)
    assert signal("resolution:0.01,1e-4") == Resolution(0.01, 1e-4)
    ball, yaml_file, json_file = tmp_path / "ball.yaml", tmp_path / "t.yaml", tmp_path / "t.json"
    ball.write_text(
        "mean: -4e-3\nsigma: {polynomial: [0.075, -1.5e-5]}\nalpha_low: {masses: [500, 900], values: [1, 2]}\n"
        "n_low: 4\nalpha_high: 2\nn_high: 8\n"
    )
    read = signal(f"dcb:{ball}")
    assert isinstance(read, DoubleCrystalBall)
    np.testing.assert_allclose(read.width([600.0]), [600 * (0.075 - 1.5e-5 * 600)])
    content = template.model_dump(mode="json")
    json_file.write_text(json.dumps(content))
    lines = [f"  - {{edges: {h['edges']}, counts: {h['counts']}}}" for h in content["templates"]]
    yaml_file.write_text("\n".join([f"masses: {content['masses']}", "templates:", *lines]))
    assert signal(str(json_file)) == signal(str(yaml_file)) == template


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gaus:0.05", r"unknown signal 'gaus:0\.05'; expected gauss:WIDTH, resolution:A,B, dcb:FILE"),
        ("gauss", r"signal 'gauss', expected gauss:WIDTH with 1 number; mend it"),
        ("gauss:5%", r"signal 'gauss:5%', expected gauss:WIDTH with 1 number"),
        (
            "gauss:0",
            r"relative width 0 of a Gaussian, expected a number above 0 and up to 1; give the width over",
        ),
        ("gauss:5", r"relative width 5 of a Gaussian"),
        ("gauss:nan", r"relative width nan of a Gaussian"),
        ("resolution:0.01", r"signal 'resolution:0\.01', expected resolution:A,B with 2 numbers"),
        ("resolution:0,0", r"resolution with a = 0, b = 0/GeV; expected a between 0 and 1"),
        ("resolution:0.1,inf", r"resolution with a = 0\.1, b = inf/GeV"),
        ("dcb:", r"Crystal Ball '' is not a file; check the path"),
        ("missing.json", r"template file 'missing\.json' is not a file; check the path"),
        ("x" * 300 + ".json", r"cannot be read: File name too long; check the path"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    with pytest.raises(FitError, match=message):
        signal(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("masses: [1, 2", r"template file '.*' is not YAML or JSON: while parsing .*; mend the file"),
        ("masses: \0", r"is not YAML or JSON: .*; mend"),
        ("", r"top level: Input should be .*dictionary.* \(given: None\)"),
        ("masses: [500, 600]", r"templates: Field required"),
        ("masses: [500, 600]\nmass: 1\ntemplates: []", r"mass: Extra inputs are not permitted \(given: 1\)"),
        ("masses: [500, 600]\nmasses: [1]", r"key 'masses' is given twice"),
        (
            "masses: &a [500, 600]\ntemplates: *a",
            r"has the anchor or alias 'a', which is not read; write the",
        ),
        ("masses: " + "[" * 200_000, r"nests more than 20 levels"),
        ("masses: !!python/name:os.system x", r"could not determine a constructor"),
        ("masses: [600, 500]\ntemplates: []", r"masses do not ascend from above 0; sort them"),
        ("masses: [500, 600]\ntemplates: []", r"0 templates for 2 masses; give one for each"),
        ("masses: [500, .inf]\ntemplates: []", r"masses\.1: .*finite number \(given: inf\)"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    with pytest.raises(FitError, match=message):
        signal(str(path))


def test_binary_and_huge_files(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(FitError, match=r"is not YAML or JSON: .* can't decode"):
        signal(str(path))
    with path.open("wb") as file:
        file.truncate(30_000_000)
    with pytest.raises(FitError, match=r"has 30 MB, expected at most 20 MB; check that it is the right file"):
        signal(str(path))


@pytest.mark.parametrize(
    ("edges", "counts", "message"),
    [
        ((1, 3, 2), (1, 1), r"edges of a template do not ascend; sort them"),
        ((1, 2, 3), (1, 1, 1), r"3 counts for 3 edges; give one edge more than counts"),
        ((1, 2, 3), (1, -1), r"a template has -1 events in a bin; merge bins until none is below 0"),
        ((1, 2, 3, 4, 5, 6), (1, 1, 1, 0, 1), r"holds events in fewer than 5 bins, which give no shape"),
    ],
)
def test_wrong_histograms(edges: tuple[float, ...], counts: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Histogram(edges=edges, counts=counts)


def test_wrong_arguments(template: Template) -> None:
    with pytest.raises(
        FitError, match=r"signal masses \[500\.0, -1\.0\], expected a list of numbers above 0"
    ):
        Gaussian(0.1).fractions([500.0, -1.0], EDGES)
    with pytest.raises(FitError, match=r"signal masses 500\.0, expected a list"):
        Gaussian(0.1).width(500.0)
    with pytest.raises(
        FitError, match=r"bin edges of shape \(3,\), expected .* increasing values; sort them"
    ):
        Gaussian(0.1).fractions([500.0], [1.0, 3.0, 2.0])
    with pytest.raises(FitError, match=r"resolution factor 0 on a signal, expected a number above 0"):
        FAMILY.fractions([500.0], EDGES, resolution=0.0)
    with pytest.raises(FitError, match=r"scale factor -1 on a signal"):
        template.fractions([500.0], EDGES, scale=-1.0)
    with pytest.raises(FitError, match=r"resolution factor -2 on a signal"):
        FAMILY.fractions([500.0, 600.0], EDGES, resolution=[1.0, -2.0])
    with pytest.raises(
        FitError, match=r"scale factors of shape \(2,\) on signals at 3 masses, expected one, or"
    ):
        template.fractions([500.0, 600.0, 700.0], EDGES, scale=[1.0, 1.1])
    with pytest.raises(
        FitError, match=r"mass 1500 GeV is outside of the templates, 500 to 974\.359 GeV; add"
    ):
        template.fractions([600.0, 1500.0], EDGES)
    with pytest.raises(FitError, match=r"2 templates; leaving one out needs at least 3: add masses"):
        leave_one_out(Template(masses=template.masses[:2], templates=template.templates[:2]))
    many = Histogram(edges=tuple(range(10_001)), counts=(1.0,) * 10_000)
    with pytest.raises(ValueError, match=r"20002 bin edges in all, expected at most 20000; merge bins"):
        Template(masses=(1.0, 2.0), templates=(many, many))
