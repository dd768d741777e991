"""Pulls, impacts and goodness of fit, against weighted least squares in closed form and explicit refits with pyhf."""

from typing import Any

import numpy as np
import pyhf
import pytest
from scipy import stats

from trila.fits.diagnosis import best_fit, correlations, goodness_of_fit, impacts, pulls
from trila.fits.errors import FitError
from trila.fits.likelihood import LinearTerm, Model, Observation, Structure, Tensors, Term
from trila.fits.pyhf_backend import pyhf_backend
from trila.fits.workspaces import from_pyhf

BINS, PARAMETERS = 6, 4
NAMES = ("mu", "energy", "trigger", "norm")
MEASURED, WIDTH = np.array([0.0, 0.3, -0.2, 0.0]), np.array([np.inf, 1.0, 0.5, np.inf])
#: At this many events a bin is Gaussian to 1e-5, and a likelihood is a sum of squares.
BACKGROUND = np.array([1.0, 1.2, 1.5, 0.9, 0.8, 1.1]) * 1e10
JACOBIAN = np.random.default_rng(5).normal(0, 0.8e5, (BINS, PARAMETERS))
RESIDUAL = np.random.default_rng(6).normal(0, 1, BINS) * np.sqrt(BACKGROUND)
#: By hand: the inverse of Jᵀ V⁻¹ J with the constraints, and the estimate.
COVARIANCE = np.linalg.inv(JACOBIAN.T @ (JACOBIAN / BACKGROUND[:, None]) + np.diag(1 / WIDTH**2))
ESTIMATE = COVARIANCE @ (JACOBIAN.T @ (RESIDUAL / BACKGROUND) + MEASURED / WIDTH**2)
ERRORS = np.sqrt(np.diag(COVARIANCE))


def linear(counts: np.ndarray = BACKGROUND + RESIDUAL, jacobian: np.ndarray = JACOBIAN) -> Model:
    """λ = background + J · θ; one shape, so that all tests share one compilation."""
    empty = np.zeros((0, 1, BINS))
    tensors = Tensors(
        np.zeros((1, BINS)), np.full((1, 1, BINS), PARAMETERS), np.zeros(0, dtype=int), empty, empty,
        np.zeros(0, dtype=int), empty, empty, 1 / WIDTH**2, np.zeros(PARAMETERS), np.ones(BINS),
        (LinearTerm(BACKGROUND, jacobian),),
    )  # fmt: skip
    return Model(
        Structure("code4", "code4p", (Term(None, 0, PARAMETERS, 0, BINS),)), tensors, NAMES, 0,
        np.zeros(PARAMETERS), np.full(PARAMETERS, -50.0), np.full(PARAMETERS, 50.0), np.zeros(PARAMETERS, dtype=bool),
        Observation(counts, MEASURED),
    )  # fmt: skip


def bounded(name: str, *, lower: float = -50.0, upper: float = 50.0) -> Model:
    here = np.array(NAMES) == name
    return linear()._replace(lower=np.where(here, lower, -50.0), upper=np.where(here, upper, 50.0))


def test_best_fit_is_weighted_least_squares() -> None:
    fit = best_fit(linear())
    assert fit.converged
    assert fit.verified
    np.testing.assert_allclose(fit.values, ESTIMATE, atol=1e-4)
    np.testing.assert_allclose(fit.covariance, COVARIANCE, atol=1e-4)
    np.testing.assert_allclose(fit.errors, ERRORS, rtol=1e-4)
    residual = RESIDUAL - JACOBIAN @ ESTIMATE
    chi2 = np.sum(residual**2 / BACKGROUND) + np.sum(((ESTIMATE - MEASURED) / WIDTH) ** 2)
    assert fit.deviance == pytest.approx(chi2, abs=1e-3)


def test_pulls() -> None:
    model = linear()
    found = pulls(model, best_fit(model))
    assert found.parameters == NAMES
    constrained = [1, 2]
    np.testing.assert_allclose(
        found.pulls[constrained], ((ESTIMATE - MEASURED) / WIDTH)[constrained], atol=1e-3
    )
    np.testing.assert_allclose(found.constraints[constrained], (ERRORS / WIDTH)[constrained], rtol=1e-3)
    assert np.isnan(found.pulls[[0, 3]]).all()
    assert np.isnan(found.constraints[[0, 3]]).all()
    np.testing.assert_allclose(found.values, ESTIMATE, atol=1e-3)


def test_impacts() -> None:
    """A Gaussian's conditional mean moves by cov(μ, θ)/var(θ) for each unit of θ."""
    model = linear()
    found = impacts(model, best_fit(model))
    slope = COVARIANCE[0] / ERRORS**2
    order = 1 + np.argsort(-np.abs(slope * ERRORS)[1:])
    assert found.parameters == tuple(NAMES[k] for k in order)
    signs = np.array([1.0, -1.0])
    np.testing.assert_allclose(found.postfit, (slope * ERRORS)[order, None] * signs, atol=2e-4)
    assert (found.postfit_status == "").all()
    constrained = np.isfinite(WIDTH)[order]
    expected = (slope[order][constrained] * WIDTH[order][constrained])[:, None] * signs
    np.testing.assert_allclose(found.prefit[constrained], expected, atol=2e-4)
    assert np.isnan(found.prefit[~constrained]).all()
    assert (found.prefit_status[~constrained] == "no constraint").all()


def test_correlations() -> None:
    model = linear()
    found = correlations(model, best_fit(model))
    assert found.parameters == NAMES
    np.testing.assert_allclose(found.matrix, COVARIANCE / np.outer(ERRORS, ERRORS), atol=1e-4)


def test_fixed_parameters_take_no_part() -> None:
    """The fit of the others is that with the column left out; a parameter that cannot move has no impact."""
    model = linear()._replace(fixed=np.array([False, False, True, False]))
    model = model._replace(start=np.where(model.fixed, 0.4, model.start))
    fit = best_fit(model)
    others = [0, 1, 3]
    precision = np.linalg.inv(COVARIANCE)[np.ix_(others, others)]
    np.testing.assert_allclose(fit.covariance[np.ix_(others, others)], np.linalg.inv(precision), atol=1e-4)
    assert fit.values[2] == 0.4
    assert fit.errors[2] == 0.0
    assert np.isnan(pulls(model, fit).pulls[2])
    assert "trigger" not in impacts(model, fit).parameters
    assert correlations(model, fit).parameters == ("mu", "energy", "norm")
    found = goodness_of_fit(model, fit)
    assert found.ndof == BINS + 1 - 3
    assert found.statistic == pytest.approx(fit.deviance - (0.6 / 0.5) ** 2, abs=1e-9)


def test_shifts_outside_bounds_are_named() -> None:
    model = bounded("energy", upper=ESTIMATE[1] + 0.5 * ERRORS[1])
    found = impacts(model, best_fit(model))
    row = found.parameters.index("energy")
    assert found.postfit_status[row].tolist() == ["outside bounds", ""]
    assert np.isnan(found.postfit[row, 0])
    assert found.postfit[row, 1] == pytest.approx(-COVARIANCE[0, 1] / ERRORS[1], abs=2e-4)


def test_results_at_a_bound_are_named() -> None:
    """Shifts that push the parameter of interest to its bound say nothing of its slope."""
    slope = COVARIANCE[0] / ERRORS
    largest = 1 + int(np.argmax(np.abs(slope[1:])))
    model = bounded("mu", lower=ESTIMATE[0] - 0.5 * abs(slope[largest]))
    found = impacts(model, best_fit(model))
    row = found.parameters.index(NAMES[largest])
    down = int(slope[largest] > 0)
    assert found.postfit_status[row, down] == "result at bound"
    assert np.isnan(found.postfit[row, down])
    assert found.postfit[row, 1 - down] == pytest.approx(abs(slope[largest]), abs=2e-4)


def test_other_parameters_at_a_bound_are_named() -> None:
    """The number stands: it is the model's."""
    strongest = 1 + int(np.argmax(np.abs(COVARIANCE[3, 1:3] / ERRORS[1:3])))
    move = abs(COVARIANCE[3, strongest]) / ERRORS[strongest]
    model = bounded("norm", upper=ESTIMATE[3] + 0.5 * move)
    found = impacts(model, best_fit(model))
    row = found.parameters.index(NAMES[strongest])
    up = int(COVARIANCE[3, strongest] < 0)
    assert found.postfit_status[row, up] == "other at bound"
    assert np.isfinite(found.postfit[row]).all()


def test_a_fit_at_a_bound_has_no_error_there() -> None:
    """The others have those of a fit with that parameter fixed."""
    model = bounded("norm", upper=ESTIMATE[3] - 1.0)
    fit = best_fit(model)
    assert fit.at_bound.tolist() == [False, False, False, True]
    assert np.isnan(fit.errors[3])
    rest = np.linalg.inv(np.linalg.inv(COVARIANCE)[:3, :3])
    np.testing.assert_allclose(fit.covariance[:3, :3], rest, atol=1e-4)
    assert correlations(model, fit).parameters == NAMES[:3]
    found = impacts(model, fit)
    assert found.parameters[-1] == "norm"
    assert found.postfit_status[-1].tolist() == ["no error", "no error"]
    assert np.isnan(found.postfit[-1]).all()


def test_a_model_that_the_data_do_not_determine_is_not_verified() -> None:
    doubled = JACOBIAN.copy()
    doubled[:, 3] = doubled[:, 0]
    model = linear(jacobian=doubled)
    fit = best_fit(model)
    assert fit.converged
    assert not fit.verified
    assert np.isnan(fit.errors).all()
    found = impacts(model, fit)
    assert (found.postfit_status == "no error").all()
    assert np.isnan(found.postfit).all()
    assert np.isnan(goodness_of_fit(model, fit).p_value)


def test_a_failed_fit_gives_no_numbers() -> None:
    model = linear(counts=np.where(np.arange(BINS) == 2, np.nan, BACKGROUND))
    fit = best_fit(model)
    assert not fit.converged
    assert not fit.verified
    assert np.isnan(fit.errors).all()
    found = impacts(model, fit)
    assert np.isnan(found.postfit).all()
    assert np.isnan(found.prefit).all()
    constrained = [found.parameters.index(name) for name in ("energy", "trigger")]
    assert (found.prefit_status[constrained] == "not converged").all()
    assert np.isnan(goodness_of_fit(model, fit).p_value)
    assert np.isnan(correlations(model, fit).matrix).all()


def test_goodness_of_fit() -> None:
    """χ² of six bins and two constraints with four parameters; toys of a Gaussian model follow it."""
    model = linear()
    fit = best_fit(model)
    found = goodness_of_fit(model, fit, toys=1000, seed=2)
    assert found.ndof == BINS + 2 - PARAMETERS
    assert found.statistic == fit.deviance
    assert found.p_value == pytest.approx(stats.chi2.sf(fit.deviance, 4), rel=1e-12)
    assert found.toys_failed == 0
    assert stats.kstest(found.toys, stats.chi2(4).cdf).pvalue > 1e-3
    assert found.p_toys == pytest.approx(
        found.p_value, abs=4 * np.sqrt(found.p_value * (1 - found.p_value) / 1000)
    )
    again = goodness_of_fit(model, fit, toys=5, seed=2).toys
    np.testing.assert_array_equal(again, goodness_of_fit(model, fit, toys=5, seed=2).toys)
    assert np.isnan(goodness_of_fit(model, fit).p_toys)


def test_bins_left_out_are_no_degrees_of_freedom() -> None:
    model = linear()
    model = model._replace(tensors=model.tensors._replace(weight=np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])))
    found = goodness_of_fit(model, best_fit(model), toys=200, seed=4)
    assert found.ndof == 3
    assert found.toys.mean() == pytest.approx(3.0, abs=4 * np.sqrt(6.0 / 200))


def test_messages() -> None:
    model = linear()
    with pytest.raises(FitError, match=r"alternative 3, expected 0 to 0"):
        best_fit(model, alternative=3)
    with pytest.raises(
        FitError, match=r"the model has no parameter of interest; choose one of its parameters"
    ):
        best_fit(model._replace(poi=-1))
    with pytest.raises(FitError, match=r"-1 toys, expected 0 for none or a positive number such as 1000"):
        goodness_of_fit(model, best_fit(model), toys=-1)


def pyhf_model() -> tuple[Any, list[float]]:
    """Two channels with a normalisation, a shape, statistical errors and a free norm."""

    def sample(name: str, data: list[float], *modifiers: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "data": data, "modifiers": list(modifiers)}

    mu = {"name": "mu", "type": "normfactor", "data": None}
    free = {"name": "norm", "type": "normfactor", "data": None}
    lumi = {"name": "rate", "type": "normsys", "data": {"hi": 1.1, "lo": 0.92}}
    shape = {"hi_data": [95.0, 90.0, 70.0], "lo_data": [112.0, 88.0, 52.0]}
    errors = {"name": "uncorrelated", "type": "shapesys", "data": [10.0, 9.0, 6.0]}
    spectrum = {
        "channels": [
            {"name": "search", "samples": [
                sample("s", [5.0, 30.0, 8.0], mu, lumi),
                sample("b", [104.0, 89.0, 61.0], free, {"name": "shape", "type": "histosys", "data": shape}, errors),
            ]},
            {"name": "side", "samples": [sample("b", [400.0], free, lumi)]},
        ]
    }  # fmt: skip
    model = pyhf.Model(spectrum, poi_name="mu")
    return model, [109.0, 130.0, 60.0, 415.0, *model.config.auxdata]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")
def test_refits_with_pyhf() -> None:
    """Each nuisance parameter fixed aside in pyhf, with Minuit at a tight tolerance."""
    with pyhf_backend("numpy", "minuit", tolerance=1e-7, strategy=2):
        theirs, data = pyhf_model()
        model = from_pyhf(theirs, data)
        fit, names = best_fit(model), theirs.config.par_names
        values = pyhf.infer.mle.fit(data, theirs)
        np.testing.assert_allclose(fit.values, values, atol=1e-4)
        np.testing.assert_allclose(fit.errors, slow_errors(theirs, data, values), rtol=1e-3)
        found = impacts(model, fit)
        gammas = 1 / np.sqrt(model.tensors.poisson[model.tensors.poisson > 0])
        width = {"norm": np.nan, "rate": 1.0, "shape": 1.0}
        width |= {f"uncorrelated[{k}]": gamma for k, gamma in enumerate(gammas)}
        assert set(found.parameters) == set(width)
        for row, name in enumerate(found.parameters):
            k = names.index(name)
            sizes = np.array([fit.errors[k], width[name]])
            shifts = np.array([found.postfit[row], found.prefit[row]])
            assert np.isnan(shifts[:, 0]).tolist() == np.isnan(sizes).tolist()
            for which, column in np.ndindex(2, 2):
                if np.isfinite(sizes[which]):
                    start, fixed = theirs.config.suggested_init(), theirs.config.suggested_fixed()
                    start[k], fixed[k] = values[k] + (1, -1)[column] * sizes[which], True
                    refit = pyhf.infer.mle.fit(data, theirs, init_pars=start, fixed_params=fixed)
                    moved = refit[theirs.config.poi_index] - values[theirs.config.poi_index]
                    assert shifts[which, column] == pytest.approx(moved, abs=3e-4)


def slow_errors(model: Any, data: list[float], values: np.ndarray) -> np.ndarray:
    """From second differences of pyhf's -2 ln L; Minuit's own change with its internal transformation of bounds."""
    step, number = 1e-3 * np.eye(len(values)), len(values)

    def twice_nll(theta: np.ndarray) -> float:
        return float(-2 * model.logpdf(theta, data)[0])

    hessian = np.empty((number, number))
    for i, j in np.ndindex(number, number):
        a, b = step[i], step[j]
        corners = [twice_nll(values + x) for x in (a + b, a - b, b - a, -a - b)]
        hessian[i, j] = (corners[0] - corners[1] - corners[2] + corners[3]) / 4e-6
    return np.sqrt(np.diag(2 * np.linalg.inv(hessian)))
