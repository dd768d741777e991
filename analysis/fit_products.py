"""What fits, limits and tests leave as JSON, as far as figures show it.

`product_files.py` reads them. Keys that are not named here are passed over. A number that could not be computed is null,
never NaN. Masses are in GeV.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = [
    "Bias", "BumpHunt", "Correlations", "Coupling", "Diagnosis", "FTest", "Fit", "GlobalTest", "Impact", "Injection", "Limit",
    "Limits", "LocalTest", "Product", "Pull", "Significance", "Spurious", "Step", "column", "shown",
]  # fmt: skip

Array = NDArray[np.float64]

#: Characters of a name that a legend has room for.
_LONGEST = 48


def shown(text: str) -> str:
    """Text as figures can show it: in one line, not longer than a legend, and without matplotlib's marks of mathematics."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return (line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…").replace("$", r"\$")


def _given(mass: Any) -> Any:
    if mass is None:
        raise ValueError("nothing to draw it against; those of a workspace have a mass if its patch has")
    return mass


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Numbers = tuple[Number, ...]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
NotNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Count = Annotated[int, Field(strict=True, ge=-1_000_000_000, le=1_000_000_000)]
Probability = Annotated[float, Field(strict=True, ge=0, le=1)]
Mass = Annotated[Positive, BeforeValidator(_given)]
Text = Annotated[str, AfterValidator(shown)]
Five = Annotated[tuple[Positive | None, ...], Field(min_length=5, max_length=5)]


class _Product(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Chi2(_Product):
    deviance: Number
    pearson: Number | None = None


class Fit(_Product):
    """A function fitted to a spectrum of n bins.

    Attributes:
        function, parameters, values, covariance: what was fitted, and what came out.
        chi2, ndof, p_value: over the bins that were used.
        edges: GeV, shape (n + 1,).
        data: counts or sums of weights, shape (n,); null in bins that nobody may see.
        prediction: of the function, shape (n,); below 0 only in bins that were not used, where nothing keeps it above.
        used: False for bins that the fit did not look at; all are used, if not given.
        blinded: (low, high) of the windows whose data is not shown, GeV.
        variances: of `data`, if these are sums of weights.
        signal: events per bin of a signal to draw, and its name.
        sqrt_s: collision energy, GeV.
        spectrum: name of the spectrum.
        unit: what `data` counts.
    """

    function: Text
    parameters: tuple[Text, ...]
    values: Numbers
    covariance: tuple[tuple[Number | None, ...], ...]
    chi2: _Chi2
    ndof: Count
    p_value: Probability | None
    edges: Annotated[Numbers, Field(min_length=2)]
    data: tuple[Number | None, ...]
    prediction: Numbers
    used: tuple[bool, ...] | None = None
    blinded: tuple[tuple[Number, Number], ...] = ()
    variances: tuple[NotNegative | None, ...] | None = None
    signal: Numbers | None = None
    signal_name: Text = "Signal"
    sqrt_s: Positive | None = None
    spectrum: Text = ""
    unit: Text = "events"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        bins = len(self.edges) - 1
        for name in ("data", "prediction", "used", "variances", "signal"):
            given = getattr(self, name)
            if given is not None and len(given) != bins:
                raise ValueError(f"{name} has {len(given)} entries; expected {bins}, one for each bin")
        if not all(low < high for low, high in pairwise(self.edges)):
            raise ValueError("edges must increase")
        for number, used in zip(self.prediction, self.used or (True,) * bins, strict=True):
            if used and number < 0:
                raise ValueError(
                    f"prediction is {number:g} in a bin that was used; expected at least 0 there"
                )
        sizes = {len(self.parameters), len(self.values), len(self.covariance), *map(len, self.covariance)}
        if len(sizes) > 1:
            raise ValueError(
                f"parameters, values and covariance have the sizes {sorted(sizes)}; expected one"
            )
        return self


class Coupling(_Product):
    """Limits on a coupling: observed, and expected at -2, -1, 0, 1, 2 standard deviations; null where there is none."""

    observed: Positive | None
    expected: Five | None = None


class _Certificate(_Product):
    passed: bool


class Limit(_Product):
    """Upper limits at one mass.

    Attributes:
        mass: GeV.
        observed: null if it failed.
        expected: at -2, -1, 0, 1, 2 standard deviations; null if they failed.
        best_fit, sigma: of the signal, in the same unit.
        unit: "events", "pb", or the name of a parameter.
        certificate: whether the limit was proved to be one; without proof it is not shown.
        level: of confidence.
        coupling, eps2: the same as a limit on g_q or ε².
    """

    mass: Mass
    observed: Positive | None
    expected: Five | None
    best_fit: Number | None = None
    sigma: Positive | None = None
    unit: Text = "events"
    certificate: _Certificate = _Certificate(passed=True)
    level: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.95
    coupling: Coupling | None = None
    eps2: Coupling | None = None


class Limits(_Product):
    """Limits at several masses, ascending, all of one unit."""

    rows: Annotated[tuple[Limit, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _ascending(cls, content: Any) -> Any:
        rows = content["rows"]
        if all(isinstance(row, dict) and isinstance(row.get("mass"), (int, float)) for row in rows):
            return {"rows": sorted(rows, key=lambda row: row["mass"])}
        return content

    @model_validator(mode="after")
    def _one_scan(self) -> Self:
        for first, second in pairwise(self.rows):
            if first.mass == second.mass:
                raise ValueError(f"mass {first.mass:g} stands twice; keep one row for each")
            for name in ("unit", "level"):
                if getattr(first, name) != getattr(second, name):
                    raise ValueError(
                        f"{name} is {getattr(first, name)} at {first.mass:g} GeV and {getattr(second, name)} at "
                        f"{second.mass:g} GeV; expected one for all"
                    )
        return self


class Step(_Product):
    """One F-test: whether the function `to` is needed instead of `from`."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    simple: Text = Field(alias="from")
    to: Text
    f: Number | None
    p_value: Probability | None


class FTest(_Product):
    """F-tests in their order, none for a single function, the one chosen, and the p-value below which the larger is taken."""

    tests: tuple[Step, ...]
    chosen: Text
    level: Probability = 0.05


class BumpHunt(_Product):
    """The window with the largest excess, GeV, null without any; its statistic, and those of toys."""

    low: Number | None
    high: Number | None
    p_local: Probability | None = None
    statistic: Number
    p_global: Probability | None
    p_global_error: NotNegative | None = None
    toys_statistics: Numbers = ()


class LocalTest(_Product):
    """Significance at one mass; null where it failed. `expected` is the local p-value that a signal would give."""

    mass: Mass
    p_local: Probability | None
    z_local: Number | None = None
    expected: Probability | None = None


class GlobalTest(_Product):
    """Probability of an excess at least as significant anywhere in the scan."""

    p_global: Probability | None
    method: Text
    p_global_error: NotNegative | None = None


def _one_or_more(content: Any) -> Any:
    return [content] if isinstance(content, dict) else content


class Significance(_Product):
    """A scan of local significances, and its global significance by one method or several."""

    local: Annotated[tuple[LocalTest, ...], Field(min_length=1)]
    overall: tuple[GlobalTest, ...] = Field(alias="global")

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, content: Any) -> Any:
        return {**content, "global": _one_or_more(content["global"])}


class Pull(_Product):
    """A parameter after the fit.

    Attributes:
        name, value, error: of the fit.
        pull: (value - measured)/width of its constraint; null without constraint.
        constraint: error/width; null likewise.
    """

    name: Text
    value: Number | None
    error: NotNegative | None
    pull: Number | None
    constraint: NotNegative | None


class Impact(_Product):
    """Shift of the result with a parameter held one standard deviation up and down, after and before the fit."""

    name: Text
    up: Number | None
    down: Number | None
    prefit_up: Number | None = None
    prefit_down: Number | None = None


class Correlations(_Product):
    """Correlation coefficients of K parameters, shape (K, K)."""

    names: tuple[Text, ...]
    matrix: tuple[tuple[Annotated[float, Field(strict=True, ge=-1.001, le=1.001)], ...], ...]

    @model_validator(mode="after")
    def _square(self) -> Self:
        if {len(self.names), len(self.matrix), *map(len, self.matrix)} != {len(self.names)}:
            raise ValueError(f"matrix is not {len(self.names)} by {len(self.names)}, as its names ask for")
        return self


class _GoodnessOfFit(_Product):
    statistic: Number
    ndof: Count
    p_value: Probability | None = None
    p_toys: Probability | None = None


class Diagnosis(_Product):
    """What a fit did to its parameters, and they to its result. `unit` names the result."""

    pulls: tuple[Pull, ...]
    impacts: tuple[Impact, ...]
    correlations: Correlations | None = None
    goodness_of_fit: _GoodnessOfFit | None = None
    unit: Text = ""


class Spurious(_Product):
    """Signal that is fitted where there is none, its error, and the ratio of the two; null where the fit failed."""

    mass: Mass
    spurious: Number | None
    sigma: Positive | None
    ratio: Number | None


class Injection(_Product):
    """Fits to toys with a signal.

    Attributes:
        injected: size of the signal.
        mean_pull, width: of (fitted - injected)/error.
        mean_pull_error: of the mean.
        mass: GeV.
        fitted, fitted_error: mean of the fitted signals and its error.
        pulls: of all toys.
    """

    injected: Number
    mean_pull: Number | None
    width: NotNegative | None
    mean_pull_error: NotNegative | None = None
    mass: Positive | None = None
    fitted: Number | None = None
    fitted_error: NotNegative | None = None
    pulls: Numbers = ()


class Bias(_Product):
    """Tests of a background function: spurious signals and injected signals, either of which may be missing."""

    spurious: tuple[Spurious, ...] = ()
    injection: tuple[Injection, ...] = ()
    unit: Text = "events"


Product = Fit | Limits | FTest | BumpHunt | Significance | Diagnosis | Bias


def column(values: Sequence[float | None]) -> Array:
    """Numbers as an array, NaN for null."""
    return np.array(values, np.float64)
