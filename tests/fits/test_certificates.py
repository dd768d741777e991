"""Certificates: each reason for which a limit is none is found, and a sound one passes."""

from typing import Any

import numpy as np
import pytest

from trila.fits.certificates import Certificate, certify, checked_alternatives, minuit_excess
from trila.fits.likelihood import Model, Observation, Structure, Tensors
from trila.fits.limits import Limits, upper_limits
from trila.fits.profile import free_parameters


def _counting(counts: list[float], *, upper: float = 100.0) -> Model:
    """Signal and background with a 10% constraint on the latter in each of some bins, POI not below 0."""
    bins = len(counts)
    none = np.zeros((0, 2, bins))
    nominal = np.array([np.linspace(1, 2, bins), np.full(bins, 50.0)])
    factors = np.array([np.zeros((bins,)), np.ones((bins,))], dtype=np.int64)[None]
    return Model(
        Structure("code4", "code4p", ()),
        Tensors(
            nominal, factors, np.zeros(0, dtype=np.int64), none, none, np.zeros(0, dtype=np.int64), none, none,
            np.array([0.0, 100.0]), np.zeros(2), np.ones(bins), (),
        ),
        ("mu", "background"), 0, np.array([1.0, 1.0]), np.array([0.0, 0.1]), np.array([upper, 10.0]),
        np.zeros(2, dtype=bool), Observation(np.array(counts), np.array([0.0, 1.0])),
    )  # fmt: skip


MODEL = _counting([52.0, 49.0, 55.0])


@pytest.fixture(scope="module")
def limits() -> Limits:
    return upper_limits(MODEL)


def _only(found: list[Certificate]) -> Certificate:
    assert len(found) == 1
    return found[0]


def test_a_sound_limit_passes(limits: Limits) -> None:
    one = _only(certify(MODEL, limits, check="all"))
    assert one.passed
    assert one.reasons == ()
    assert one.distance < 1e-7
    # Minuit stops within its tolerance of the minimum, above it
    assert one.minuit is not None
    assert -1e-2 < one.minuit < 1e-4


def test_without_a_check_nothing_is_said_of_minuit(limits: Limits) -> None:
    assert _only(certify(MODEL, limits, check="none")).minuit is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"converged": np.array([False])}, "not converged"),
        ({"hessian": -np.eye(2)[None]}, "Hessian is not positive definite"),
        ({"values": np.array([[1.0, 10.0]])}, "at a bound: background"),
        ({"values": np.array([[1.0, 2.0]]), "deviance": np.array([30.0])}, "Minuit finds a minimum lower by"),
    ],
)
def test_a_fit_at_the_limit_that_is_none(limits: Limits, change: dict[str, Any], reason: str) -> None:
    one = _only(certify(MODEL, limits._replace(at_limit=limits.at_limit._replace(**change)), check="all"))
    assert not one.passed
    assert any(text.startswith("fit at the limit") or "Minuit" in text for text in one.reasons)
    assert any(reason in text for text in one.reasons)


def test_a_missing_root(limits: Limits) -> None:
    verified = np.array([[True, True, True, False, True, True]])
    one = _only(certify(MODEL, limits._replace(verified=verified), check="none"))
    assert one.reasons == ("no root for the expected limit at +0 sigma",)


def test_an_estimate_at_the_upper_bound() -> None:
    model = _counting([90.0, 99.0, 120.0], upper=2.0)
    assert any(
        "at a bound: mu" in text for text in _only(certify(model, upper_limits(model), check="none")).reasons
    )


def test_no_signal_is_no_fault() -> None:
    """The best fit stands at 0, where the parameter of interest ends."""
    model = _counting([40.0, 41.0, 39.0])
    limits = upper_limits(model)
    assert limits.best_fit[0] == 0
    assert _only(certify(model, limits, check="all")).passed


def test_minuit_from_elsewhere_finds_the_same_minimum(limits: Limits) -> None:
    best = limits.profile.best
    row = Observation(*(x[0] for x in limits.profile.observation))
    free = free_parameters(MODEL, poi=True)
    assert abs(minuit_excess(MODEL, 0, row, best.values[0], best.deviance[0], free)) < 2e-3
    assert minuit_excess(MODEL, 0, row, best.values[0], best.deviance[0] + 0.5, free) == pytest.approx(
        0.5, abs=2e-3
    )


@pytest.mark.parametrize(
    ("number", "check", "expected"),
    [
        (25, "none", []),
        (3, "all", [0, 1, 2]),
        (1, "sample", [0]),
        (25, "sample", [0, 12, 24]),
        (20, "sample", [0, 19]),
    ],
)
def test_which_are_checked(number: int, check: Any, expected: list[int]) -> None:
    assert checked_alternatives(number, check).tolist() == expected
