"""Monitoring events made of Pythia jets and a detector that has nothing in common with the package's own simulation.

The particle-level jets come from a real parton shower: third jets, imbalance and flavours of topology that no formula of
ours knows. What is measured of a jet of particle-level pT p is

    offline = p (1 + σ_o z_o),
    HLT     = p R(p, η) (1 + σ_h t) + κ A (ρ - ρ0),    R = (1 - a (p/GeV)^(-b)) (1 + c η - d (min(|η|, 3)/2.4)^3),

with a power law as of a hadronic calorimeter (Groom, Nucl. Instrum. Meth. A 572 (2007) 633), a scale that differs between
the two sides, t of a double-sided Crystal Ball, and z_o a Gaussian. They are correlated: t is the quantile of the Crystal Ball
that a Gaussian z_h has among Gaussians, and z_h has a correlation r with z_o. ρ has a Gamma distribution, A a spread from jet
to jet. HLT jets below 10 GeV and offline jets below 5 GeV are not stored, so soft probes lose their partners.

Every event is measured many times, each time with a number of its own; nothing here imports `trila`.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, special, stats

Array = NDArray[Any]

_JETS = 6  # of an event: softer ones hardly ever come out as one of the two leading
_BLOCK = 50_000  # events at a time


class Detector(NamedTuple):
    """Parameters of the formulas above.

    Attributes:
        power, exponent: a and b of the response.
        side, forward: c and d.
        offline, hlt: noise (GeV), stochastic (√GeV) and constant term of σ_o and σ_h.
        low, high: where the tails of the Crystal Ball begin, in σ_h, and their powers.
        correlation: r.
        offset, offset_rho: κ, and ρ0 in GeV.
        rho_shape, rho_scale: of the Gamma distribution of ρ, GeV.
        area, area_spread: mean of A, and its standard deviation.
        angle: resolution of η and φ.
        hlt_pt, offline_pt: jets are stored above, GeV.
    """

    power: float = 0.30
    exponent: float = 0.25
    side: float = 0.004
    forward: float = 0.05
    offline: tuple[float, float, float] = (2.5, 0.80, 0.03)
    hlt: tuple[float, float, float] = (3.0, 0.95, 0.05)
    low: tuple[float, float] = (1.6, 4.0)
    high: tuple[float, float] = (2.0, 7.0)
    correlation: float = 0.7
    offset: float = 0.10
    offset_rho: float = 18.0
    rho_shape: float = 8.0
    rho_scale: float = 2.8
    area: float = 0.5
    area_spread: float = 0.05
    angle: float = 0.02
    hlt_pt: float = 10.0
    offline_pt: float = 5.0

    @property
    def rho_mean(self) -> float:
        """Mean of ρ, GeV."""
        return self.rho_shape * self.rho_scale

    def response(self, pt: ArrayLike, eta: ArrayLike) -> Array:
        """R at particle-level pT (GeV) and η."""
        p, y = np.asarray(pt, dtype=np.float64), np.asarray(eta, dtype=np.float64)
        shape = 1.0 + self.side * y - self.forward * (np.minimum(np.abs(y), 3.0) / 2.4) ** 3
        return np.asarray((1.0 - self.power * p**-self.exponent) * shape)

    def offset_at(self, rho: float) -> float:
        """What pile-up adds to HLT jets of the mean area, GeV."""
        return self.offset * self.area * (rho - self.offset_rho)

    def quantile(self, probability: ArrayLike) -> Array:
        """t below which a part of the Crystal Ball lies."""
        return np.interp(probability, *_crystal_ball(self.low, self.high))

    def probability(self, t: ArrayLike) -> Array:
        """The part of the Crystal Ball below t."""
        below, at = _crystal_ball(self.low, self.high)
        return np.interp(t, at, below)

    def median(self, pt: Array, eta: Array, rho: float) -> Array:
        """The median of HLT over offline pT at particle-level pT and η, shape (n,) each, and ρ, for the mean area.

        h < m o with given z_o says that t is below (m o - offset)/(p R σ_h) - 1/σ_h; the probability of that is one of a
        Gaussian z_h of known mean and width. The average over z_o is a sum, its zero found by Newton's method.
        """
        scale, wide = pt * self.response(pt, eta), width(pt, self.hlt)
        z = np.linspace(-6.0, 6.0, 401)[:, np.newaxis]
        weight = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
        offline = pt * (1.0 + width(pt, self.offline) * z)
        r = self.correlation

        def below(ratio: Array) -> Array:
            t = ((ratio * offline - self.offset_at(rho)) / scale - 1.0) / wide
            inside = special.ndtr((special.ndtri(self.probability(t)) - r * z) / np.sqrt(1.0 - r * r))
            return np.asarray(np.sum(weight * inside, axis=0))

        ratio, step = (scale + self.offset_at(rho)) / pt, 1e-3
        for _ in range(4):
            slope = (below(ratio + step) - below(ratio - step)) / (2.0 * step)
            ratio = ratio - (below(ratio) - 0.5) / slope
        return ratio


def width(pt: ArrayLike, terms: tuple[float, float, float]) -> Array:
    """Relative σ at particle-level pT (GeV)."""
    p = np.asarray(pt, dtype=np.float64)
    noise, stochastic, constant = terms
    return np.asarray(np.sqrt((noise / p) ** 2 + stochastic**2 / p + constant**2))


@cache
def _crystal_ball(low: tuple[float, float], high: tuple[float, float]) -> tuple[Array, Array]:
    """Cumulative distribution and where; the tails go on to -12 and 12."""
    t = np.linspace(-12.0, 12.0, 24_001)
    density = np.exp(-0.5 * t * t)
    for side, (start, power) in ((-1.0, low), (1.0, high)):
        beyond = side * t > start
        steps = power / start - start + side * t[beyond]
        density[beyond] = np.exp(-0.5 * start**2) * (power / start / steps) ** power
    below = integrate.cumulative_simpson(density, x=t, initial=0.0)
    return below / below[-1], t


def write_events(
    source: Path, path: Path, *, repeats: int, seed: int, detector: Detector | None = None
) -> int:
    """Measure the Pythia events and write a file of CMS's scouting monitoring stream.

    Of events with about the same leading pT those with a large weight are measured more often, each time with as much less
    of it: else few events would decide on the soft end of the spectrum, where weights differ by factors of a hundred.

    Args:
        source: Parquet file with particle-level jets and weights.
        path: ROOT file to write.
        repeats: how often an event is measured, about.
        seed: of the random numbers.
        detector: its parameters, if not the usual ones.

    Returns:
        Number of events.
    """
    used = detector or Detector()
    rng = np.random.default_rng(seed)
    events = ak.from_parquet(source)
    events = events[ak.num(events.jet.pt) >= 2]  # no dijet comes from less
    jets = events.jet[ak.argsort(events.jet.pt, ascending=False)][:, :_JETS]
    weight = ak.to_numpy(events.w)
    times = np.maximum(np.rint(repeats * _relative(weight, ak.to_numpy(jets.pt[:, 0]))), 1.0).astype(np.int64)
    order = rng.permutation(np.repeat(np.arange(times.size), times))
    with uproot.recreate(path, compression=None) as file:
        tree = None
        for first in range(0, order.size, _BLOCK):
            which = order[first : first + _BLOCK]
            number = first + np.arange(which.size)
            branches = _measured(jets[which], used, rng) | {
                "run": (1 + number // (10 * _BLOCK)).astype(np.uint32),
                "luminosityBlock": (1 + number // 1000).astype(np.uint32),
                "event": (1 + number).astype(np.uint64),
                "genWeight": weight[which] / times[which],
            }
            if tree is None:
                types = {
                    name: values.type.content if isinstance(values, ak.Array) else values.dtype
                    for name, values in branches.items()
                }
                tree = file.mktree("Events", types, counter_name=lambda name: f"n{name}", field_name=_field)
            tree.extend(branches)
    return int(order.size)


def _relative(weight: Array, leading: Array) -> Array:
    """Weight over what is usual at the leading jet's pT (GeV): a parabola in the logarithms."""
    x, y = np.log(leading.astype(np.float64)), np.log(weight)
    return np.exp(y - np.polynomial.Polynomial.fit(x, y, 2)(x))


def _field(outer: str, inner: str) -> str:
    return inner if outer == "" else f"{outer}_{inner}"


def _measured(particle: ak.Array, detector: Detector, rng: np.random.Generator) -> dict[str, Any]:
    """The collections of one measurement of these events, and ρ."""
    counts = ak.to_numpy(ak.num(particle.pt))
    gen = {name: ak.to_numpy(ak.flatten(particle[name])) for name in ("pt", "eta", "phi", "mass")}
    pt, eta = gen["pt"].astype(np.float64), gen["eta"].astype(np.float64)
    z_offline, own = rng.normal(size=(2, pt.size))
    z_hlt = detector.correlation * z_offline + np.sqrt(1.0 - detector.correlation**2) * own
    offline = pt * (1.0 + width(pt, detector.offline) * z_offline)
    tail = detector.quantile(special.ndtr(z_hlt))
    rho = rng.gamma(detector.rho_shape, detector.rho_scale, counts.size)
    area = np.maximum(rng.normal(detector.area, detector.area_spread, pt.size), 0.1)
    hlt = pt * detector.response(pt, eta) * (1.0 + width(pt, detector.hlt) * tail)
    hlt += detector.offset * area * (np.repeat(rho, counts) - detector.offset_rho)
    jets = {"ScoutingPFJet": (hlt, detector.hlt_pt, "m"), "Jet": (offline, detector.offline_pt, "mass")}
    found: dict[str, Any] = {"GenJet": _jagged(counts, gen)}
    owner = np.repeat(np.arange(counts.size), counts)
    for name, (measured, threshold, mass) in jets.items():
        stored = measured > threshold
        fields = {
            "pt": measured,
            "eta": eta + rng.normal(0.0, detector.angle, pt.size),
            "phi": np.remainder(gen["phi"] + rng.normal(0.0, detector.angle, pt.size) + np.pi, 2 * np.pi)
            - np.pi,
            mass: 0.1 * measured,
        }
        if name == "ScoutingPFJet":
            fields["jetArea"] = area
        kept = {field: values[stored].astype(np.float32) for field, values in fields.items()}
        found[name] = _jagged(np.bincount(owner[stored], minlength=counts.size), kept)
    found["ScoutingRho_fixedGridRhoFastjetAll"] = rho.astype(np.float32)
    return found


def _jagged(counts: Array, fields: dict[str, Array]) -> ak.Array:
    offsets = ak.index.Index64(np.append(0, np.cumsum(counts)))
    contents = [ak.contents.NumpyArray(np.ascontiguousarray(values)) for values in fields.values()]
    record = ak.contents.RecordArray(contents, list(fields))
    return ak.Array(ak.contents.ListOffsetArray(offsets, record))
