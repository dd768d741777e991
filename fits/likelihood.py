"""The likelihood of binned counts: HistFactory's samples and modifiers, smooth functions, and constraints.

Expected events in bin i, with parameters θ,

    λ_i(θ) = Σ_s (nominal_si + Σ_h δ_hsi(θ)) · Π_k θ_[k,s,i] · Π_n f_nsi(θ)  +  Σ_j F_ji(θ),

where δ are shape systematics (`histosys`), θ_[k,s,i] the parameters that multiply bin i of sample s (`normfactor`,
`shapefactor`, `shapesys`, `staterror`, `lumi`), f normalisation systematics (`normsys`) and F smooth functions of mass, exact
or linear in their parameters. The first two are those of HistFactory (CERN-OPEN-2012-016) with the interpolations of pyhf.

What is minimised is the deviance from the saturated model,

    D(θ) = Σ_i w_i 2[λ_i - n_i + n_i ln(n_i/λ_i)]  +  Σ_p constraint_p(θ_p),

which differs from -2 ln L by a constant (`twice_nll_offset`). It is small where the model fits: at 10⁹ events -2 ln L itself is a
number of 10¹⁰ whose rounding hides the differences that limits are made of. A weight w of 0 leaves a bin out; w = count/variance
makes weighted counts scaled Poisson (Bohm and Zech, arXiv:1309.1287).

All functions here work with NumPy and with JAX; the namespace is that of θ. A leaf of `Tensors` may have a leading axis over
alternatives (masses of a scan); `Model.tensors_of` takes one of them.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

from trila.fits.functions import Domain, SpectrumFunction

__all__ = [
    "FunctionTerm", "LinearTerm", "Model", "Observation", "Structure", "Tensors", "Term", "deviance", "natural", "poisson_deviance", "rates", "select",
    "twice_nll_offset",
]  # fmt: skip

Array = NDArray[np.float64]
AnyArray = Any  # of NumPy or JAX


class Term(NamedTuple):
    """Where a smooth function stands.

    Attributes:
        function: its density; None for a linear form.
        first, last: its parameters are θ[first:last].
        low, high: its bins are λ[low:high].
    """

    function: SpectrumFunction | None
    first: int
    last: int
    low: int
    high: int


class Structure(NamedTuple):
    """What is compiled for: the same for all masses and toys of a scan.

    Attributes:
        normsys, histosys: interpolation codes of pyhf.
        terms: smooth functions.
    """

    normsys: Literal["code1", "code4"]
    histosys: Literal["code0", "code2", "code4p"]
    terms: tuple[Term, ...]


class LinearTerm(NamedTuple):
    """F = offset + matrix · θ.

    Attributes:
        offset: events, shape (bins,).
        matrix: events per unit of each parameter, shape (bins, parameters).
    """

    offset: AnyArray
    matrix: AnyArray


class FunctionTerm(NamedTuple):
    """F = ∫ density(m; natural(centre + transform · θ)) dm over each bin, by quadrature.

    Attributes:
        nodes, weights: of the quadrature, GeV, shape (bins, points).
        centre: coordinates of the fit at θ = 0, see `natural`, shape (parameters,).
        transform: whitening, shape (parameters, parameters).
        domain: low, high and sqrt_s, GeV, shape (3,).
    """

    nodes: AnyArray
    weights: AnyArray
    centre: AnyArray
    transform: AnyArray
    domain: AnyArray


class Tensors(NamedTuple):
    """The numbers of a likelihood; S samples, I bins, P parameters.

    Attributes:
        nominal: shape (S, I).
        factors: which parameter multiplies bin i of sample s, P for none, int, shape (K, S, I).
        norm_parameter: of each normalisation systematic, int, shape (N,).
        norm_up, norm_down: logarithm of the factor at +1 and -1, shape (N, S, I).
        shape_parameter: of each shape systematic, int, shape (H,).
        shape_up, shape_down: rate at +1 and -1 less the nominal, shape (H, S, I).
        normal: 1/width² of normal constraints, 0 for none, shape (P,).
        poisson: auxiliary counts per unit of parameters with a Poisson constraint, 0 for none, shape (P,).
        weight: of each bin in the deviance, shape (I,).
        terms: numbers of the smooth functions.
    """

    nominal: AnyArray
    factors: AnyArray
    norm_parameter: AnyArray
    norm_up: AnyArray
    norm_down: AnyArray
    shape_parameter: AnyArray
    shape_up: AnyArray
    shape_down: AnyArray
    normal: AnyArray
    poisson: AnyArray
    weight: AnyArray
    terms: tuple[LinearTerm | FunctionTerm, ...]


#: Dimensions of a leaf without alternatives.
_DIMENSIONS = Tensors(2, 3, 1, 3, 3, 1, 3, 3, 1, 1, 1, ())
_TERM_DIMENSIONS: dict[type, tuple[int, ...]] = {LinearTerm: (1, 2), FunctionTerm: (2, 2, 1, 2, 1)}


class Observation(NamedTuple):
    """What was measured.

    Attributes:
        counts: shape (..., I).
        auxiliary: measurement that constrains each parameter, shape (..., P); any number where there is no constraint.
    """

    counts: AnyArray
    auxiliary: AnyArray


class Model(NamedTuple):
    """A likelihood with its parameters, for one or many alternatives (masses).

    Attributes:
        structure: what is compiled for.
        tensors: its numbers.
        parameters: names, P of them.
        poi: index of the parameter of interest; -1 where there is none and only `minimise` is of use.
        start: of fits, shape (P,).
        lower, upper: bounds, shape (P,) or (M, P).
        fixed: parameters that no fit may move, shape (P,).
        observation: of the data; `counts` (I,) or (M, I), `auxiliary` (P,).
        alternatives: M, their number.
    """

    structure: Structure
    tensors: Tensors
    parameters: tuple[str, ...]
    poi: int
    start: Array
    lower: Array
    upper: Array
    fixed: NDArray[np.bool_]
    observation: Observation
    alternatives: int = 1

    def tensors_of(self, index: int) -> Tensors:
        """The numbers of one alternative."""
        return select(self.tensors, index)

    def observed(self) -> Observation:
        """The data for each alternative: shapes (M, I) and (M, P)."""
        counts = np.asarray(self.observation.counts, dtype=np.float64)
        size = (self.alternatives,)
        return Observation(
            np.array(np.broadcast_to(counts, size + counts.shape[-1:])),
            np.array(np.broadcast_to(self.observation.auxiliary, (*size, len(self.parameters)))),
        )


def select(tensors: Tensors, index: AnyArray) -> Tensors:
    """One alternative of tensors whose leaves may have a leading axis over alternatives."""

    def one(leaf: AnyArray, dimensions: int) -> AnyArray:
        return leaf[index] if leaf.ndim > dimensions else leaf

    terms = tuple(
        type(term)(*(one(x, n) for x, n in zip(term, _TERM_DIMENSIONS[type(term)], strict=True)))
        for term in tensors.terms
    )
    plain = [one(x, n) for x, n in zip(tensors[:-1], _DIMENSIONS[:-1], strict=True)]
    return Tensors._make([*plain, terms])


def rates(structure: Structure, tensors: Tensors, theta: AnyArray) -> AnyArray:
    """Expected events per bin, shape (I,), of parameters of shape (P,)."""
    xp = theta.__array_namespace__()
    t = tensors
    extended = xp.concat([theta, xp.ones(1, dtype=theta.dtype)])
    samples = t.nominal
    if t.shape_parameter.shape[0]:
        alpha = theta[t.shape_parameter][:, None, None]
        samples = samples + xp.sum(_SHAPES[structure.histosys](xp, alpha, t.shape_up, t.shape_down), axis=0)
    samples = samples * xp.prod(extended[t.factors], axis=0)
    if t.norm_parameter.shape[0]:
        alpha = theta[t.norm_parameter][:, None, None]
        samples = samples * xp.exp(
            xp.sum(_NORMS[structure.normsys](xp, alpha, t.norm_up, t.norm_down), axis=0)
        )
    expected = xp.sum(samples, axis=0)
    for term, numbers in zip(structure.terms, t.terms, strict=True):
        smooth = _smooth(term, numbers, theta[term.first : term.last])
        before, after = term.low, expected.shape[0] - term.high
        expected = expected + (xp.pad(smooth, (before, after)) if before or after else smooth)
    return expected


def _smooth(term: Term, numbers: LinearTerm | FunctionTerm, theta: AnyArray) -> AnyArray:
    if isinstance(numbers, LinearTerm):
        return numbers.offset + numbers.matrix @ theta
    assert term.function is not None
    parameters = natural(term.function, numbers.centre + numbers.transform @ theta)
    return (term.function.density(numbers.nodes, parameters, Domain(*numbers.domain)) * numbers.weights).sum(
        axis=-1
    )


def natural(function: SpectrumFunction, coordinates: AnyArray) -> AnyArray:
    """A function's own parameters from those that fits use, along the first axis: a norm is fitted as its logarithm.

    A change of the norm is made up for by the others in an exponent: in the logarithm that is a straight line.
    """
    if not function.normed:
        return coordinates
    xp = coordinates.__array_namespace__()
    return xp.concat([xp.exp(coordinates[:1]), coordinates[1:]])


def deviance(structure: Structure, tensors: Tensors, observation: Observation, theta: AnyArray) -> AnyArray:
    """D(θ), a scalar; not finite where a used bin is expected to hold fewer than no events."""
    xp = theta.__array_namespace__()
    bins = poisson_deviance(observation.counts, rates(structure, tensors, theta), tensors.weight)
    pulls = (observation.auxiliary - theta) ** 2 * tensors.normal
    scaled = xp.where(tensors.poisson > 0, tensors.poisson * theta, 1.0)
    counted = xp.where(tensors.poisson > 0, observation.auxiliary, 1.0)
    return bins + xp.sum(pulls + _poisson(xp, counted, scaled))


def poisson_deviance(counts: AnyArray, expected: AnyArray, weight: AnyArray) -> AnyArray:
    """Σ w 2[λ - n + n ln(n/λ)] over the last axis; bins of weight 0 may hold anything."""
    xp = expected.__array_namespace__()
    used = weight > 0
    bins = _poisson(xp, xp.where(used, counts, 0.0), xp.where(used, expected, 1.0))
    return xp.sum(xp.where(used, bins, 0.0) * weight, axis=-1)


def _poisson(xp: Any, counts: AnyArray, expected: AnyArray) -> AnyArray:
    """2[λ - n + n ln(n/λ)] without loss of digits where λ is near n; infinite for negative counts, NaN for NaN."""
    filled = counts != 0
    safe = xp.where(filled, counts, 1.0)
    excess = xp.where(filled, (expected - counts) / safe, 0.0)
    possible = excess > -1
    some = safe * (excess - xp.log1p(xp.where(possible, excess, 0.0)))
    none = xp.where(expected >= 0, expected, xp.inf)
    return 2 * xp.where(filled, xp.where(possible, some, xp.inf), none)


def twice_nll_offset(model: Model, observation: Observation) -> float:
    """-2 ln L less the deviance, of one alternative with all its bins used: the constants of Poisson and normal densities."""
    t = model.tensors_of(0)
    counts = np.concatenate([observation.counts, observation.auxiliary[t.poisson > 0]])
    poisson = 2 * np.sum(counts - xlogy(counts, counts) + gammaln(counts + 1))
    return float(poisson - np.sum(np.log(t.normal[t.normal > 0] / (2 * np.pi))))


def _exponential(xp: Any, alpha: AnyArray, up: AnyArray, down: AnyArray) -> AnyArray:
    """`code1`: ln of the factor is piecewise linear."""
    return xp.where(alpha >= 0, alpha * up, -alpha * down)


#: Rows: value, slope and curvature of a₁α + ... + a₆α⁶ at +1 and -1.
_POWERS = np.arange(1, 7)
_CODE4 = np.linalg.inv(
    np.array(
        [
            np.ones(6),
            (-1.0) ** _POWERS,
            _POWERS,
            _POWERS * (-1.0) ** (_POWERS - 1),
            _POWERS * (_POWERS - 1),
            _POWERS * (_POWERS - 1) * (-1.0) ** _POWERS,
        ]
    )
)


def _smooth_exponential(xp: Any, alpha: AnyArray, up: AnyArray, down: AnyArray) -> AnyArray:
    """`code4`: as `code1` outside ±1, the factor a polynomial of sixth order inside."""
    high, low = xp.exp(up), xp.exp(down)
    conditions = xp.stack([high - 1, low - 1, up * high, -down * low, up**2 * high, down**2 * low], axis=-1)
    coefficients = conditions @ xp.asarray(_CODE4.T)
    inside = xp.abs(alpha) < 1
    bounded = xp.where(inside, alpha, 0.0)
    factor = 1.0
    for k in range(5, -1, -1):
        factor = factor * bounded + coefficients[..., k] if k < 5 else coefficients[..., k]
    polynomial = 1 + bounded * factor
    return xp.where(inside, xp.log(polynomial), _exponential(xp, alpha, up, down))


def _linear(xp: Any, alpha: AnyArray, up: AnyArray, down: AnyArray) -> AnyArray:
    """`code0`: piecewise linear."""
    return xp.where(alpha >= 0, alpha * up, -alpha * down)


def _quadratic(xp: Any, alpha: AnyArray, up: AnyArray, down: AnyArray) -> AnyArray:
    """`code2`: a parabola inside ±1, its tangents outside, as in RooFit.

    pyhf 0.7.6 has no tangents there, but lines that do not meet the parabola at ±1.
    """
    a, b = (up + down) / 2, (up - down) / 2
    outside = xp.where(alpha > 0, up + (b + 2 * a) * (alpha - 1), down + (b - 2 * a) * (alpha + 1))
    return xp.where(xp.abs(alpha) <= 1, (a * alpha + b) * alpha, outside)


def _smooth_linear(xp: Any, alpha: AnyArray, up: AnyArray, down: AnyArray) -> AnyArray:
    """`code4p`: linear outside ±1, a polynomial of sixth order inside."""
    square = xp.where(xp.abs(alpha) < 1, alpha, 0.0) ** 2
    even = (up + down) / 16 * square * (15 + square * (-10 + 3 * square))
    inside = alpha * (up - down) / 2 + even
    return xp.where(xp.abs(alpha) < 1, inside, _linear(xp, alpha, up, down))


_NORMS = {"code1": _exponential, "code4": _smooth_exponential}
_SHAPES = {"code0": _linear, "code2": _quadratic, "code4p": _smooth_linear}
