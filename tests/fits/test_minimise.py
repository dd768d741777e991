"""Batched minima, against closed forms, SciPy's bounded minimiser, and themselves one at a time."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from trila.fits.compiled import double_precision
from trila.fits.likelihood import LinearTerm, Model, Observation, Structure, Tensors, Term, deviance
from trila.fits.minimise import Minimum, minimise
from trila.fits.profile import covariance

BINS, PARAMETERS = 4, 3
#: Three bins with a parameter each, and one without.
DIAGONAL = np.eye(BINS, PARAMETERS)


def linear(
    offset: Sequence[float],
    matrix: np.ndarray,
    counts: Sequence[float],
    *,
    normal: Sequence[float] = (0.0, 0.0, 0.0),
    lower: float = -np.inf,
    upper: float = np.inf,
) -> Model:
    """λ = offset + matrix · θ, with normal constraints at 0; one shape, so that all tests share one compilation."""
    empty = np.zeros((0, 1, BINS))
    tensors = Tensors(
        np.zeros((1, BINS)), np.full((1, 1, BINS), PARAMETERS), np.zeros(0, dtype=int), empty, empty,
        np.zeros(0, dtype=int), empty, empty, np.array(normal), np.zeros(PARAMETERS), np.ones(BINS),
        (LinearTerm(np.array(offset, dtype=float), np.array(matrix, dtype=float)),),
    )  # fmt: skip
    return Model(
        Structure("code4", "code4p", (Term(None, 0, PARAMETERS, 0, BINS),)), tensors, ("a", "b", "c"), 0,
        np.zeros(PARAMETERS), np.full(PARAMETERS, lower), np.full(PARAMETERS, upper), np.zeros(PARAMETERS, dtype=bool),
        Observation(np.array(counts, dtype=float), np.zeros(PARAMETERS)),
    )  # fmt: skip


def fit(
    model: Model, start: Sequence[float] = (0.0, 0.0, 0.0), free: Sequence[bool] = (True,) * 3
) -> Minimum:
    return minimise(model, model.observed(), np.array([start], dtype=float), np.array(free))


def test_counting() -> None:
    """The estimate is the excess, its variance the count."""
    model = linear([10.0, 20.0, 30.0, 5.0], DIAGONAL, [14.0, 17.0, 1000.0, 9.0])
    found = fit(model)
    assert found.converged.all()
    np.testing.assert_allclose(found.values[0], [4.0, -3.0, 970.0], rtol=1e-9)
    np.testing.assert_allclose(found.deviance, 2 * (5 - 9 + 9 * np.log(9 / 5)), rtol=1e-12)
    spread, sound = covariance(found, np.ones(PARAMETERS, dtype=bool))
    assert sound.all()
    np.testing.assert_allclose(spread[0], np.diag([14.0, 17.0, 1000.0]), rtol=1e-8, atol=1e-8)
    assert found.edm[0] < 1e-7


def test_least_squares() -> None:
    """At 10¹⁰ counts a bin is Gaussian: weighted least squares with constraints, in one matrix equation."""
    offset, normal = np.array([1e10, 2e10, 3e10, 1.5e10]), np.array([0.0, 4.0, 1.0])
    matrix = np.array([[1.0, 0.5, -1.0], [0.3, 2.0, 0.7], [1.1, -0.4, 0.9], [0.2, 0.8, 1.5]]) * 1e5
    residual = np.array([1.0, -0.7, 0.4, 1.6]) * np.sqrt(offset)
    found = fit(linear(offset, matrix, offset + residual, normal=normal))
    inverse = np.linalg.inv(matrix.T @ (matrix / offset[:, None]) + np.diag(normal))
    expected = inverse @ (matrix.T @ (residual / offset))
    assert found.converged.all()
    np.testing.assert_allclose(found.values[0], expected, atol=1e-4 * np.sqrt(np.diag(inverse)).min())
    spread, _ = covariance(found, np.ones(PARAMETERS, dtype=bool))
    np.testing.assert_allclose(spread[0], inverse, rtol=1e-4, atol=1e-4 * np.diag(inverse).min())


def test_an_estimate_ends_at_its_bound() -> None:
    model = linear([10.0, 20.0, 30.0, 5.0], DIAGONAL, [4.0, 26.0, 0.0, 5.0], lower=0.0, upper=5.0)
    found = fit(model, start=[3.0, 3.0, 3.0])
    assert found.converged.all()
    np.testing.assert_allclose(found.values[0], [0.0, 5.0, 0.0], atol=1e-12)
    rate, counts = np.array([10.0, 25.0]), np.array([4.0, 26.0])
    pair = np.sum(2 * (rate - counts + counts * np.log(counts / rate)))
    assert found.deviance[0] == pytest.approx(pair + 2 * 30.0, rel=1e-12)
    assert found.gradient[0, 0] > 0 > found.gradient[0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_bounds_of_correlated_parameters(seed: int) -> None:
    """SciPy's bounded quasi-Newton method finds no lower point."""
    generator = np.random.default_rng(seed)
    matrix = generator.normal(0, 8, (BINS, PARAMETERS))
    model = linear([100.0] * 4, matrix, generator.poisson(100, BINS) * 1.0, lower=-0.3, upper=0.5)

    def objective(theta: np.ndarray) -> float:
        return float(deviance(model.structure, model.tensors, model.observation, theta))

    slow = optimize.minimize(objective, np.zeros(3), bounds=[(-0.3, 0.5)] * 3, options={"ftol": 1e-14})
    found = fit(model)
    assert found.converged.all()
    assert found.deviance[0] == pytest.approx(slow.fun, abs=1e-7)
    assert found.deviance[0] == pytest.approx(objective(found.values[0]), abs=1e-12)


def test_held_parameters_stay_where_they_are() -> None:
    """A held one may lie outside its bounds: a limit above the bound of its parameter of interest."""
    model = linear([10.0, 20.0, 30.0, 5.0], DIAGONAL, [14.0, 17.0, 20.0, 5.0], lower=-15.0, upper=6.0)
    model = model._replace(fixed=np.array([False, False, True]))
    found = fit(model, start=[9.0, 1.0, 2.5], free=[False, True, True])
    assert found.converged.all()
    np.testing.assert_allclose(found.values[0], [9.0, -3.0, 2.5], rtol=1e-8)
    assert found.values[0, [0, 2]].tolist() == [9.0, 2.5]


@pytest.mark.parametrize("second", [[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
def test_parameters_that_the_data_do_not_determine(second: list[float]) -> None:
    """Two parameters of one bin, or one of none: there is a minimum, but no covariance."""
    matrix = np.column_stack([[1.0, 0.0, 0.0, 0.0], second, [0.0, 0.0, 1.0, 0.0]])
    found = fit(linear([10.0, 20.0, 30.0, 5.0], matrix, [14.0, 20.0, 37.0, 5.0]))
    assert found.converged.all()
    assert found.deviance[0] == pytest.approx(0.0, abs=1e-7)
    spread, sound = covariance(found, np.ones(PARAMETERS, dtype=bool))
    assert not sound[0]
    assert np.isnan(spread[0]).all()
    alone, determined = covariance(found, np.array([True, False, True]))
    assert determined[0]
    np.testing.assert_allclose(np.diag(alone[0]), [14.0, 0.0, 37.0], rtol=1e-4)


@pytest.mark.parametrize("start", [[-9.99, 0.0, 0.0], [1e6, 0.0, -29.9], [1e4, 1e8, 1e-3]])
def test_far_starts(start: list[float]) -> None:
    found = fit(linear([10.0, 20.0, 30.0, 5.0], DIAGONAL, [14.0, 17.0, 1000.0, 9.0]), start=start)
    assert found.converged.all()
    np.testing.assert_allclose(found.values[0], [4.0, -3.0, 970.0], rtol=1e-4)


def test_a_start_that_cannot_be_is_not_a_minimum() -> None:
    """Fewer than no events are expected there; and data that are no numbers have no minimum."""
    model = linear([10.0, 20.0, 30.0, 5.0], DIAGONAL, [14.0, 17.0, 25.0, 9.0])
    assert not fit(model, start=[-20.0, 0.0, 0.0]).converged.any()
    for bad in (np.nan, np.inf, -3.0):
        data = model.observation._replace(counts=np.array([14.0, bad, 25.0, 9.0]))
        assert not fit(model._replace(observation=data)).converged.any()


def test_bins_that_are_left_out_may_hold_anything() -> None:
    model = linear([10.0, 20.0, 30.0, 5.0], DIAGONAL, [14.0, 17.0, 25.0, np.nan])
    model = model._replace(tensors=model.tensors._replace(weight=np.array([1.0, 1.0, 1.0, 0.0])))
    found = fit(model)
    assert found.converged.all()
    np.testing.assert_allclose(found.values[0], [4.0, -3.0, -5.0], rtol=1e-8)


def test_weights_are_scaled_counts() -> None:
    """A weight multiplies a bin's deviance: the variance is that much smaller."""
    model = linear([10.0, 20.0, 30.0, 5.0], DIAGONAL, [14.0, 17.0, 25.0, 5.0])
    weight = np.array([0.5, 4.0, 1.0, 1.0])
    found = fit(model._replace(tensors=model.tensors._replace(weight=weight)))
    spread, _ = covariance(found, np.ones(PARAMETERS, dtype=bool))
    np.testing.assert_allclose(np.diag(spread[0]), [28.0, 17 / 4, 25.0], rtol=1e-6)


def test_many_fits_are_single_fits() -> None:
    """More than one call of the compiled function holds, each problem with its own data, start and free parameters."""
    generator = np.random.default_rng(3)
    number = 150
    model = linear(
        [100.0] * 4, generator.normal(0, 8, (BINS, PARAMETERS)), [100.0] * 4, lower=-2.0, upper=2.0
    )
    data = Observation(generator.poisson(100, (number, BINS)) * 1.0, np.zeros((number, PARAMETERS)))
    start = generator.uniform(-1, 1, (number, PARAMETERS))
    free = generator.random((number, PARAMETERS)) < 0.7
    many = minimise(model, data, start, free)
    assert many.converged.all()
    np.testing.assert_array_equal(many.values[~free], start[~free])
    for k in (0, 77, 128, number - 1):
        one = minimise(model, Observation(*(x[k : k + 1] for x in data)), start[k : k + 1], free[k])
        np.testing.assert_allclose(one.values[0], many.values[k], atol=1e-9)
        np.testing.assert_allclose(one.deviance[0], many.deviance[k], rtol=1e-12)


def test_jax_is_left_as_it_was() -> None:
    before = dict(jax.config.values)
    fit(linear([10.0, 20.0, 30.0, 5.0], DIAGONAL, [14.0, 17.0, 25.0, 9.0]))
    assert dict(jax.config.values) == before
    assert jnp.ones(1).dtype == jnp.float32

    def fails_inside() -> None:
        with double_precision():
            assert jnp.ones(1).dtype == jnp.float64
            raise ZeroDivisionError("inside")

    with pytest.raises(ZeroDivisionError, match="inside"):
        fails_inside()
    assert dict(jax.config.values) == before


def test_compiled_code_is_kept_in_the_chosen_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILA_CACHE", str(tmp_path))
    with double_precision():
        assert jax.jit(lambda x: x * 2.5 + 1.25)(2.0) == 6.25
    assert list((tmp_path / "jax").iterdir())
    assert jax.config.jax_compilation_cache_dir != str(tmp_path / "jax")
