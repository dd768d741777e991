"""Derives all parts of a calibration from pairs, in their order: pile-up offset, scale, uncertainties, resolution, runs."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.analysis.calibration_config import CalibrationConfig
from trila.corrections.calibration import Calibration, RunRange, points_of
from trila.corrections.derivation import Scale, derive
from trila.corrections.jer import Jer, measure_jer, regions
from trila.corrections.pairs import Pairs
from trila.corrections.pileup import Offset, derive_offset
from trila.corrections.tag_bins import corrected
from trila.corrections.uncertainties import uncertainties
from trila.processors.errors import InputError

__all__ = ["Derived", "Progress", "derive_all"]

Array = NDArray[np.float64]
Progress = Callable[[str, int], Callable[[int], None]]


class Derived(NamedTuple):
    """A calibration and what was measured on the way; all of the first half of the pairs.

    Attributes:
        calibration: what the file holds.
        scale: responses and curves.
        jer: resolutions of HLT and offline jets.
        pairs: with the pile-up offset taken off.
    """

    calibration: Calibration
    scale: Scale
    jer: tuple[Jer, ...]
    pairs: Pairs


def derive_all(
    pairs: Pairs,
    config: CalibrationConfig,
    *,
    trigger_threshold: float = 0.0,
    last_run: int | None = None,
    progress: Progress,
) -> Derived:
    """Derive every part of a calibration.

    Args:
        pairs: the half to derive from, at the levels of the configuration.
        config: how.
        trigger_threshold: GeV, of the single-jet trigger that the tags fired; 0 if none was asked for.
        last_run: where the last range of runs ends; the last one of these pairs, if not given.
        progress: shows long work.

    Raises:
        ValueError: no bin has enough pairs.
    """
    settings = config.scale
    offset = None
    if config.pileup:
        offset = derive_offset(pairs, settings.eta_edges, settings.pt_edges, entries=settings.entries)
        if offset is not None:
            pairs = offset.subtract(pairs)
    scale = derive(pairs, settings, progress("deriving the scale, passes", settings.iterations[1]))
    points = tuple(points_of(curve) for curve in scale.curves)
    sources = uncertainties(
        pairs, scale, settings, points, trigger_threshold=trigger_threshold,
        progress=progress("uncertainties", settings.eigen_variations + 6),
    )  # fmt: skip
    sources = tuple(
        {**region, "pileup": _pileup_change(offset, number, pairs, log_pt)}
        for number, (region, log_pt) in enumerate(zip(sources, points, strict=True))
    )
    jer = _jer(pairs, offset, scale, config)
    runs = _by_run(pairs, scale.log_pt, config, int(pairs.run.max()) if last_run is None else last_run)
    calibration = Calibration(settings.eta_edges, scale.curves, points, sources, offset, regions(jer), runs)
    return Derived(calibration, scale, jer, pairs)


def _pileup_change(offset: Offset | None, region: int, pairs: Pairs, log_pt: Array) -> Array:
    """Change of the correction by the error of the offset, where pile-up is one standard deviation off its average."""
    if offset is None or pairs.pileup is None:
        return np.zeros_like(log_pt)
    area = 1.0 if pairs.area is None else float(np.average(pairs.area, weights=pairs.weight))
    spread = np.sqrt(np.average((pairs.pileup - offset.rho_0) ** 2, weights=pairs.weight))
    error = offset.error[region]
    if np.isnan(error):  # not measured, so not taken off: as large as it is elsewhere
        error = np.nanmax(np.abs(offset.s0) + offset.error)
    return np.asarray(area * float(spread) * float(error) / np.exp(log_pt))


def _jer(pairs: Pairs, offset: Offset | None, scale: Scale, config: CalibrationConfig) -> tuple[Jer, ...]:
    method = config.resolution
    if method == "auto":
        method = "asymmetry" if pairs.particle is None else "particle"
    if method == "particle" and pairs.particle is None:
        raise InputError(
            "resolution: particle needs pairs with particle-level jets; use asymmetry, or simulation"
        )
    if method == "asymmetry" and config.offline.level != "stored":
        raise InputError(
            f"resolution: asymmetry needs the tag at the level of the probe, and tags are stored only as they are; level "
            f"of the offline jets is '{config.offline.level}'; use stored, or resolution: particle"
        )
    tag = None
    if pairs.tag_hlt is not None and pairs.tag_eta is not None:
        matched = np.maximum(pairs.tag_hlt, 1.0)  # 0 stands for a tag without an HLT jet
        if offset is not None and pairs.pileup is not None:
            # The area of the tag is not known; those of jets of one radius hardly differ.
            area = 1.0 if pairs.area is None else np.median(pairs.area)
            matched = matched * offset.factor(matched, pairs.tag_eta, area, pairs.pileup)
        tag = np.exp(corrected(matched, pairs.tag_eta, config.scale.eta_edges, scale.curves))
        tag[pairs.tag_hlt <= 0] = 0.0
    return measure_jer(pairs, np.exp(scale.log_pt), tag, method, entries=config.scale.entries)


def _by_run(pairs: Pairs, log_pt: Array, config: CalibrationConfig, last_run: int) -> tuple[RunRange, ...]:
    """What each range of runs leaves of the response after the correction that all share."""
    if not config.runs:
        return ()
    edges = [*config.runs, max(last_run, config.runs[-1]) + 1]
    shared = pairs._replace(hlt=np.exp(log_pt))
    found = []
    for first, following in pairwise(edges):
        inside = (pairs.run >= first) & (pairs.run < following)
        try:
            curves = derive(shared.take(inside), config.scale).curves
        except ValueError as error:
            raise ValueError(f"runs {first} to {following - 1}: {error}") from error
        found.append(RunRange(first, following - 1, curves))
    return tuple(found)
