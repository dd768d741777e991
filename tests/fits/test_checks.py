import numpy as np
import pytest

from trila.fits import checks
from trila.fits.errors import FitError


def test_good_values_pass_as_float64() -> None:
    assert checks.above("mass", [[1, 2]], 0, "").dtype == np.float64
    assert checks.above("mass", np.zeros(0), 0, "").shape == (0,)
    assert checks.at_least("count", 0, 0, "").shape == ()
    assert checks.inside("level", 0.95, "") == 0.95


@pytest.mark.parametrize(
    ("value", "printed"), [(0.0, "0"), (-1.0, "-1"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_bad_values_are_named(value: float, printed: str) -> None:
    with pytest.raises(
        FitError, match=f"mass contains {printed}, expected finite values above 0; check the unit"
    ):
        checks.above("mass", [1.0, value], 0, "check the unit")
    if value != 0:
        with pytest.raises(
            FitError, match=f"count contains {printed}, expected finite values of at least 0; look"
        ):
            checks.at_least("count", value, 0, "look")


@pytest.mark.parametrize("value", [0.0, 1.0, 95.0, float("nan")])
def test_a_probability_is_between_its_ends(value: float) -> None:
    with pytest.raises(FitError, match=f"level is {value:g}, expected a value between 0 and 1; give 0.95"):
        checks.inside("level", value, "give 0.95")
