"""Shapes of resonances: which fraction of the signal events is in each bin of mass.

| SIGNAL | shape |
| --- | --- |
| `gauss:WIDTH` | `Gaussian`, WIDTH over mass the same for all masses |
| `resolution:A,B` | `Resolution`, a Gaussian with (σ/m)² = A² + (B m)², for dimuons |
| `dcb:FILE.yaml` | `DoubleCrystalBall`, parameters that depend on the mass; see `trila.fits.crystal_ball` |
| `FILE.yaml`, `FILE.json` | `Template`, simulated spectra at some masses, interpolated between them |

`signal` makes one of them from that text. All follow the protocol `Signal`: fractions count the whole signal, also what
is outside of the bins or the fit range, so that a yield is the number of all signal events. `scale` multiplies the
measured mass of each event, as a wrong energy scale does: the peak is at m·scale, and the width grows with it.
`resolution` multiplies the distance of each event from the peak.

A template file holds all signal events of each mass:

```yaml
masses: [500, 600]                  # GeV, ascending
templates:                          # one for each mass, in bins of its own (GeV)
  - {edges: [0, 400, 450, 475, 500, 550, 1500], counts: [13, 40, 102, 111, 60, 2]}
  - {edges: [0, 480, 540, 570, 600, 660, 1800], counts: [12, 41, 99, 113, 58, 3]}
```
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtr, ndtri

from trila.fits.crystal_ball import CrystalBallParameters, tail_probability
from trila.fits.errors import FitError

__all__ = [
    "DoubleCrystalBall", "Gaussian", "Histogram", "LeaveOneOut", "Resolution", "Signal", "Template", "leave_one_out",
    "signal",
]  # fmt: skip

Array = NDArray[np.float64]

# A template's bins hold at least this fraction of the events: quantiles need a distribution that rises everywhere.
_FLOOR = 1e-9

# What a Gaussian has within half a σ of its peak; the shortest interval with as much gives the width of any core, with
# little influence of the tails.
_CORE = 0.3829249225480262

# Edges that all templates of a file may have together: interpolation keeps them all, for each mass.
_MOST_EDGES = 20_000

# Files of signals are small; one of a wrong kind may be huge, or made to use up memory.
_MOST_BYTES = 20_000_000
_DEEPEST = 20
#: Characters of a number or a name; the time that Python takes for a number grows with their square.
_LONGEST = 400


_Model = TypeVar("_Model", bound=BaseModel)


class Signal(Protocol):
    """What all shapes can do."""

    def fractions(
        self, masses: ArrayLike, edges: ArrayLike, *, scale: ArrayLike = 1.0, resolution: ArrayLike = 1.0
    ) -> Array:
        """Fraction of the signal events in each bin, for each mass.

        Args:
            masses: of the resonance, above 0, GeV, shape (M,).
            edges: ascending bin edges, GeV, shape (bins + 1,); the outer ones may be infinite.
            scale: factor on the measured mass of each event, shape () or (M,).
            resolution: factor on its distance from the peak, shape () or (M,).

        Returns:
            Shape (M, bins). Not normalised to the bins: the sum is 1 only where they hold all events.

        Raises:
            FitError: masses, edges or factors out of range, or a mass that the shape is not known for.
        """

    def width(self, masses: ArrayLike) -> Array:
        """Width σ of the core, GeV, at masses in GeV; shape (M,)."""


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian whose width is the same fraction of every mass, not truncated.

    >>> Gaussian(0.1).fractions([1000.0], [900.0, 1000.0, 1100.0]).round(4).tolist()
    [[0.3413, 0.3413]]
    """

    relative_width: float

    def __post_init__(self) -> None:
        if not 0 < self.relative_width <= 1:
            raise FitError(
                f"relative width {self.relative_width:g} of a Gaussian, expected a number above 0 and up to 1; "
                f"give the width over the mass, such as 0.05 for 5%."
            )

    def fractions(
        self, masses: ArrayLike, edges: ArrayLike, *, scale: ArrayLike = 1.0, resolution: ArrayLike = 1.0
    ) -> Array:
        """See `Signal`."""
        _, ratio, stretch = _ratios(masses, edges, scale, resolution)
        return _gaussian_contents((ratio - 1) / (self.relative_width * stretch))

    def width(self, masses: ArrayLike) -> Array:
        """See `Signal`."""
        return self.relative_width * _checked_masses(masses)


@dataclass(frozen=True)
class Resolution:
    """A Gaussian with the resolution of a dimuon mass: (σ/m)² = a² + (b m)².

    Attributes:
        a: multiple scattering, at low mass.
        b: curvature of stiff tracks, 1/GeV.

    >>> Resolution(0.01, 0.0).width([9.46]).round(6).tolist()
    [0.0946]
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (0 <= self.a <= 1 and 0 <= self.b < np.inf and self.a + self.b > 0):
            raise FitError(
                f"resolution with a = {self.a:g}, b = {self.b:g}/GeV; expected a between 0 and 1, b of at least 0, and "
                f"not both 0; a resolution of 1% at all masses is 0.01,0."
            )

    def fractions(
        self, masses: ArrayLike, edges: ArrayLike, *, scale: ArrayLike = 1.0, resolution: ArrayLike = 1.0
    ) -> Array:
        """See `Signal`."""
        mass, ratio, stretch = _ratios(masses, edges, scale, resolution)
        return _gaussian_contents((ratio - 1) / (self._relative(mass)[:, np.newaxis] * stretch))

    def width(self, masses: ArrayLike) -> Array:
        """See `Signal`."""
        mass = _checked_masses(masses)
        return self._relative(mass) * mass

    def _relative(self, mass: Array) -> Array:
        return np.asarray(np.hypot(self.a, self.b * mass))


class DoubleCrystalBall(CrystalBallParameters):
    """A double-sided Crystal Ball; `resolution` stretches its tails together with its core."""

    def fractions(
        self, masses: ArrayLike, edges: ArrayLike, *, scale: ArrayLike = 1.0, resolution: ArrayLike = 1.0
    ) -> Array:
        """See `Signal`."""
        mass, ratio, stretch = _ratios(masses, edges, scale, resolution)
        mean, sigma, *tails = self.at(mass)[:, :, np.newaxis]
        position = (ratio - 1 - mean) / (sigma * stretch)
        return _contents(position, tail_probability(position, *tails))

    def width(self, masses: ArrayLike) -> Array:
        """See `Signal`."""
        mass = _checked_masses(masses)
        return np.asarray(self.at(mass)[1] * mass)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Histogram(_Strict):
    """All simulated signal events of one mass.

    Attributes:
        edges: ascending, GeV.
        counts: events or sums of weights per bin; at least five bins hold some.
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not all(low < high for low, high in pairwise(self.edges)):
            raise ValueError("the edges of a template do not ascend; sort them")
        if len(self.counts) != len(self.edges) - 1:
            raise ValueError(
                f"{len(self.counts)} counts for {len(self.edges)} edges; give one edge more than counts"
            )
        if min(self.counts, default=0.0) < 0:
            raise ValueError(
                f"a template has {min(self.counts):g} events in a bin; merge bins until none is below 0"
            )
        if sum(count > 0 for count in self.counts) < 5:
            raise ValueError(
                "a template holds events in fewer than 5 bins, which give no shape; use finer bins"
            )
        return self


class _Quantiles(NamedTuple):
    """Templates as quantiles of x = measured mass / m, on probabilities that all of them share.

    Probabilities p are given as Gaussian deviates Φ⁻¹(p), in which the quantiles of a peak are close to a straight line.

    Attributes:
        deviate: ascending, shape (J,); those at the edges of all templates are among them.
        ratio: x at these, shape (K, J).
        shortest: x at both ends of intervals that hold `_CORE` of the events each, shape (K, 2, intervals).
    """

    deviate: Array
    ratio: Array
    shortest: Array


class Template(_Strict):
    """Simulated spectra at some masses, and between them by horizontal morphing.

    The quantiles of x = measured mass / m are interpolated linearly in m, so that peaks move and widen instead of turning
    into two (A. L. Read, Nucl. Instrum. Meth. A 425 (1999) 357). Within a template's bins the distribution is a smooth
    monotone curve through the edges: at a mass of the file, its own bins get back their contents. The width
    is that of the shortest interval with 38.3% of the events, which for a Gaussian is σ.

    Attributes:
        masses: ascending, GeV, at least two.
        templates: one for each mass.
    """

    masses: tuple[float, ...] = Field(min_length=2)
    templates: tuple[Histogram, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.masses[0] <= 0 or not all(low < high for low, high in pairwise(self.masses)):
            raise ValueError("the masses do not ascend from above 0; sort them, and give each once")
        if len(self.templates) != len(self.masses):
            raise ValueError(
                f"{len(self.templates)} templates for {len(self.masses)} masses; give one for each"
            )
        edges = sum(len(histogram.edges) for histogram in self.templates)
        if edges > _MOST_EDGES:
            raise ValueError(f"{edges} bin edges in all, expected at most {_MOST_EDGES}; merge bins")
        return self

    def fractions(
        self, masses: ArrayLike, edges: ArrayLike, *, scale: ArrayLike = 1.0, resolution: ArrayLike = 1.0
    ) -> Array:
        """See `Signal`; masses between the first and the last template."""
        mass, ratio, stretch = _ratios(masses, edges, scale, resolution)
        centre = self._core(mass)[0][:, np.newaxis]
        before_smearing = centre + (ratio - centre) / stretch
        knots = self._mixed(mass, self._quantiles.ratio)
        return _gaussian_contents(_interpolate_rows(before_smearing, knots, self._quantiles.deviate))

    def width(self, masses: ArrayLike) -> Array:
        """See `Signal`; masses between the first and the last template."""
        mass = _checked_masses(masses)
        return self._core(mass)[1] * mass

    @cached_property
    def _quantiles(self) -> _Quantiles:
        deviates = [_deviates(np.array(histogram.counts)) for histogram in self.templates]
        curves = [
            PchipInterpolator(deviate, np.array(histogram.edges) / mass)
            for deviate, histogram, mass in zip(deviates, self.templates, self.masses, strict=True)
        ]
        end = deviates[0][-1]
        knots = np.unique(np.concatenate([*deviates, np.linspace(-end, end, 401)]))
        # Edges of two templates at almost the same probability would make knots that cannot be told apart.
        knots = knots[np.diff(knots, prepend=-np.inf) > 1e-11]
        low = np.linspace(0.0, 1.0 - _CORE, 1001)[1:-1]
        interval = ndtri(np.stack([low, low + _CORE]))
        return _Quantiles(
            knots,
            np.stack([curve(knots) for curve in curves]),
            np.stack([curve(interval) for curve in curves]),
        )

    def _mixed(self, mass: Array, table: Array) -> Array:
        """A table with a row for each template, interpolated to masses."""
        known = np.array(self.masses)
        outside = (mass < known[0]) | (mass > known[-1])
        if outside.any():
            raise FitError(
                f"mass {mass[outside][0]:g} GeV is outside of the templates, {known[0]:g} to {known[-1]:g} GeV; add a "
                f"template, or leave the mass out."
            )
        left = np.clip(np.searchsorted(known, mass, side="right") - 1, 0, known.size - 2)
        share = (mass - known[left]) / (known[left + 1] - known[left])
        share = share.reshape(-1, *(1,) * (table.ndim - 1))
        return np.asarray((1 - share) * table[left] + share * table[left + 1])

    def _core(self, mass: Array) -> tuple[Array, Array]:
        """Middle and length of the shortest interval that holds `_CORE` of the events, over the mass; shape (M,)."""
        low, high = np.moveaxis(self._mixed(mass, self._quantiles.shortest), 1, 0)
        best = np.argmin(high - low, axis=1, keepdims=True)
        ends = [np.take_along_axis(end, best, axis=1)[:, 0] for end in (low, high)]
        return (ends[0] + ends[1]) / 2, ends[1] - ends[0]


def _deviates(counts: Array) -> Array:
    """Gaussian deviates of the cumulative distribution at a template's edges; ascending, shape (bins + 1,)."""
    parts = np.concatenate([[_FLOOR], counts / counts.sum() + _FLOOR, [_FLOOR]])
    # From the nearer side, as in `_contents`.
    below, above = np.cumsum(parts)[:-1], np.cumsum(parts[::-1])[-2::-1]
    total = below + above
    return np.asarray(np.where(below < above, ndtri(below / total), -ndtri(above / total)))


class LeaveOneOut(NamedTuple):
    """How well each inner template is predicted by its two neighbours; arrays of shape (templates - 2,).

    Attributes:
        masses: of the templates left out, GeV.
        core: largest horizontal distance of the two cumulative distributions between their 16% and 84% quantiles,
            in widths.
        yields: relative difference of the events within two widths of the peak.
    """

    masses: Array
    core: Array
    yields: Array


def leave_one_out(template: Template) -> LeaveOneOut:
    """Predict each inner template from its two neighbours: twice as far apart as those that an analysis interpolates.

    Raises:
        FitError: fewer than three templates.
    """
    masses = np.array(template.masses)
    if masses.size < 3:
        raise FitError(f"{masses.size} templates; leaving one out needs at least 3: add masses.")
    deviate, ratio, _ = template._quantiles
    share = ((masses[1:-1] - masses[:-2]) / (masses[2:] - masses[:-2]))[:, np.newaxis]
    true, predicted = ratio[1:-1], (1 - share) * ratio[:-2] + share * ratio[2:]
    centre, width = template._core(masses[1:-1])
    core = np.abs(deviate) <= 1
    distance = np.abs(predicted - true)[:, core].max(axis=1) / width
    window = centre[:, np.newaxis] + width[:, np.newaxis] * np.array([-2.0, 2.0])
    expected, found = (
        _gaussian_contents(_interpolate_rows(window, knots, deviate))[:, 0] for knots in (true, predicted)
    )
    return LeaveOneOut(masses[1:-1], distance, found / expected - 1)


def _checked_masses(masses: ArrayLike) -> Array:
    values = np.asarray(masses, dtype=np.float64)
    if values.ndim != 1 or not np.all((values > 0) & (values < np.inf)):
        raise FitError(
            f"signal masses {values.tolist()!s:.80}, expected a list of numbers above 0 in GeV; check the masses."
        )
    return values


def _ratios(
    masses: ArrayLike, edges: ArrayLike, scale: ArrayLike, resolution: ArrayLike
) -> tuple[Array, Array, Array]:
    """Masses, shape (M,), edges over the peaks' masses, (M, bins + 1), and factors on widths, (M, 1), all checked."""
    mass, boundaries = _checked_masses(masses), np.asarray(edges, dtype=np.float64)
    if boundaries.ndim != 1 or boundaries.size < 2 or not np.all(boundaries[1:] > boundaries[:-1]):
        raise FitError(
            f"bin edges of shape {boundaries.shape}, expected at least two increasing values; sort them."
        )
    moved, stretch = _factor("scale", scale, mass), _factor("resolution", resolution, mass)
    return mass, boundaries / (mass * moved)[:, np.newaxis], stretch[:, np.newaxis]


def _factor(name: str, factor: ArrayLike, mass: Array) -> Array:
    """A factor for each mass, shape (M,)."""
    values = np.asarray(factor, dtype=np.float64)
    if values.shape not in ((), mass.shape):
        raise FitError(
            f"{name} factors of shape {values.shape} on signals at {mass.size} masses, expected one, or one for each mass."
        )
    good = (values > 0) & (values < np.inf)
    if not np.all(good):
        raise FitError(
            f"{name} factor {values[~good].flat[0]:g} on a signal, expected a number above 0; 1 changes nothing."
        )
    return np.broadcast_to(values, mass.shape)


def _contents(position: Array, beyond: Array) -> Array:
    """Probability between adjacent positions.

    Args:
        position: ascending along the last axis; the peak is at 0.
        beyond: probability beyond each position, as seen from the peak.
    """
    low = position < 0
    signed = np.where(low, beyond, -beyond)
    return np.diff(signed, axis=-1) + (low[..., :-1] & ~low[..., 1:])


def _gaussian_contents(position: Array) -> Array:
    return _contents(position, ndtr(-np.abs(position)))


def _interpolate_rows(x: Array, knots: Array, values: Array) -> Array:
    """Linear interpolation with knots of its own for each row, straight on beyond the outer ones.

    Args:
        x: shape (M, N); may be infinite.
        knots: ascending along the last axis, shape (M, J).
        values: at the knots, the same for all rows, shape (J,).
    """
    first, last = knots[:, :1], knots[:, -1:]
    rows = np.arange(len(knots))[:, np.newaxis]
    # One search serves all rows, as each has a stretch of numbers to itself.
    stretched = (knots - first) / (last - first) + 2 * rows
    wanted = np.clip((x - first) / (last - first), 0, 1) + 2 * rows
    found = np.searchsorted(stretched.ravel(), wanted.ravel(), side="right").reshape(x.shape) - 1
    left = np.clip(found - rows * values.size, 0, values.size - 2)
    low, high = (np.take_along_axis(knots, index, axis=1) for index in (left, left + 1))
    return np.asarray(values[left] + (x - low) / (high - low) * (values[left + 1] - values[left]))


def signal(text: str) -> Signal:
    """The shape that a SIGNAL of the command line names.

    Args:
        text: see the top of this module.

    Raises:
        FitError: an unknown kind, numbers that are none or out of range, or a file that is missing or not as expected.

    >>> signal("gauss:0.05")
    Gaussian(relative_width=0.05)
    """
    kind, _, rest = text.partition(":")
    if kind == "gauss":
        return Gaussian(*_numbers(text, rest, "gauss:WIDTH", 1))
    if kind == "resolution":
        return Resolution(*_numbers(text, rest, "resolution:A,B", 2))
    if kind == "dcb":
        return _load(rest, "Crystal Ball", DoubleCrystalBall)
    if Path(text).suffix in {".yaml", ".yml", ".json"}:
        return _load(text, "template file", Template)
    raise FitError(
        f"unknown signal '{text}'; expected gauss:WIDTH, resolution:A,B, dcb:FILE.yaml or a template file "
        f"(.yaml, .yml, .json)."
    )


def _numbers(text: str, rest: str, form: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise FitError(f"signal '{text}', expected {form} with {count} number{'s' * (count > 1)}; mend it.")
    return numbers


def _load(path: str, what: str, model: type[_Model]) -> _Model:
    try:
        return model.model_validate(_read_yaml(path, what))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        reason = first["msg"].removeprefix("Value error, ")
        given = " ".join(str(first["input"])[:80].split())
        raise FitError(f"{what} '{path}': {where[:120]}: {reason[:300]} (given: {given})") from error


class _Loader(yaml.CSafeLoader):
    """Safe YAML in which a key that is given twice is an error: the first one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in found:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key.value}' is given twice", key.start_mark
                )
            found.add(str(key.value))
        return dict(super().construct_mapping(node, deep=deep))


def _read_yaml(path: str, what: str) -> Any:
    try:
        if not Path(path).is_file():
            raise FitError(f"{what} '{path}' is not a file; check the path.")
        size = Path(path).stat().st_size
        if size > _MOST_BYTES:
            raise FitError(
                f"{what} '{path}' has {size / 1e6:.0f} MB, expected at most {_MOST_BYTES / 1e6:.0f} MB; check that it is "
                f"the right file."
            )
        content = Path(path).read_text(encoding="utf-8")
        complaint = _unsafe(content)
        if complaint is None:
            return yaml.load(content, _Loader)
    except OSError as error:
        raise FitError(f"{what} '{path}' cannot be read: {error.strerror}; check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FitError(
            f"{what} '{path}' is not YAML or JSON: {' '.join(str(error).split())[:300]}; mend the file."
        ) from error
    # values that belie their tags, such as !!bool 7
    except (LookupError, AttributeError, ArithmeticError, TypeError, ValueError) as error:
        if isinstance(error, FitError):
            raise
        raise FitError(
            f"{what} '{path}' is not YAML or JSON: {type(error).__name__} {str(error)[:80]}; mend its values."
        ) from error
    raise FitError(f"{what} '{path}' {complaint}.")


def _unsafe(content: str) -> str | None:
    """Why a YAML text is not to be loaded: a short one with aliases can fill the memory, a deep one the stack."""
    depth = 0
    for event in yaml.parse(content, yaml.CSafeLoader):
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            return f"has the anchor or alias '{anchor}', which is not read; write the value out"
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _LONGEST:
            return f"has a value of {len(event.value)} characters, expected at most {_LONGEST}; give numbers"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            return f"nests more than {_DEEPEST} levels; expected lists of numbers under known keys"
    return None
