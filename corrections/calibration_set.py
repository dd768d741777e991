"""A calibration as a correctionlib set: for everybody who evaluates correctionlib, and for coffea's jet tools.

| correction | inputs | what |
| --- | --- | --- |
| `hlt_pileup_offset` | JetPt, JetEta, JetA (where the input has it), Rho | factor on the raw HLT pT |
| `hlt_to_offline` | JetPt, JetEta, systematic | factor on the pT after it |
| `hlt_run` | run, JetPt, JetEta | factor on the pT after that, where runs differ |
| `hlt_resolution` | JetPt, JetEta, systematic | relative resolution of the corrected pT |
| `hlt_jec` | all that these need | compound: raw HLT pT to the offline scale |

`CorrectionLibJECStack` of coffea looks for other names and wants no `systematic`: `{tag}_{MC|DATA}_L1L2L3Res_{algorithm}`,
the signed relative change `{tag}_{MC|DATA}_{source}_{algorithm}` against the corrected pT, `..._PtResolution_...` and
`..._ScaleFactor_...`. The file has both.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from correctionlib import schemav2
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trila.corrections.calibration import Calibration
from trila.corrections.correction_set import read
from trila.corrections.correction_text import CorrectionError
from trila.corrections.estimators import Estimator
from trila.corrections.nodes import (
    REFUSE,
    SPLINE_FORMULA,
    by_eta,
    by_run,
    clamped,
    formula,
    knots_for,
    spline,
    switch,
    variable,
)
from trila.corrections.pileup import PIVOT, SMALLEST_FACTOR
from trila.corrections.response_curve import Curve

__all__ = ["FORMAT", "Names", "build", "metadata"]

Array = NDArray[np.float64]
Node = dict[str, Any]

#: Value of `format` in the description of a set, by which files of this package are known.
FORMAT = "trila-calibration-1"

_RESOLUTION = "resolution"

# Points of a varied curve, at least: its source may turn more often than the curve itself.
_LEAST = 33


class _Level(BaseModel):
    model_config = ConfigDict(frozen=True)

    level: Literal["raw", "stored", "corrected"]
    file: str | None = None
    correction: str | None = None
    sha256: str | None = None


class _Levels(BaseModel):
    model_config = ConfigDict(frozen=True)

    hlt: _Level
    offline: _Level


class _Derived(BaseModel):
    """What a closure test needs to know of how a calibration was derived."""

    model_config = ConfigDict(frozen=True)

    levels: _Levels
    sources: tuple[str, ...]
    estimator: Estimator
    storage_threshold: float = Field(ge=0, allow_inf_nan=False)
    manifest_digest: str
    pileup_variable: str | None


class Names(NamedTuple):
    """How coffea's jet tools find the corrections: `{tag}_{MC|DATA}_{level}_{algorithm}`."""

    tag: str
    data_type: str
    algorithm: str

    def of(self, level: str) -> str:
        """Full name of a level or source."""
        return f"{self.tag}_{self.data_type}_{level}_{self.algorithm}"


def build(calibration: Calibration, names: Names, description: Mapping[str, Any]) -> Any:
    """The set.

    Args:
        calibration: what to write.
        names: for coffea.
        description: what the file says of itself, besides `format`, `sources` and `valid`: JSON values.

    Returns:
        A `correctionlib.schemav2.CorrectionSet`.
    """
    sources = list(
        next(s for s, c in zip(calibration.sources, calibration.curves, strict=True) if c is not None)
    )
    resolved = any(region.fit is not None for region in calibration.resolution)
    text = {
        "format": FORMAT,
        **description,
        "sources": [*sources, *([_RESOLUTION] if resolved else [])],
        "valid": _valid(calibration),
        "units": {"JetPt": "GeV", "Rho": "GeV"},
    }
    offset = _offset(calibration)
    scale = _scale(calibration, sources)
    chain = [offset] if offset else []
    chain += [scale]
    if calibration.runs:
        chain.append(_runs(calibration))
    corrections = [*chain]
    if resolved:
        corrections.append(_resolution(calibration))
    compounds = [_compound("hlt_jec", "raw HLT pT to the offline scale", chain)]
    corrections += _for_coffea(calibration, names, sources, offset)
    levels = [names.of("L1FastJet"), names.of("L2Relative")] + (["hlt_run"] if calibration.runs else [])
    stack = [c for c in corrections if c["name"] in levels]
    stack.sort(key=lambda c: levels.index(c["name"]))
    compounds.append(_compound(names.of("L1L2L3Res"), "the nominal hlt_jec, for coffea's jet tools", stack))
    return schemav2.CorrectionSet.model_validate(
        {
            "schema_version": 2,
            "description": json.dumps(text, sort_keys=True),
            "corrections": corrections,
            "compound_corrections": compounds,
        }
    )


def metadata(path: str) -> dict[str, Any]:
    """What a calibration file says of itself.

    Raises:
        CorrectionError: it is no correction file, or not one that `trila calibrate` made.
    """
    description = read(path).description or ""
    try:
        found = json.loads(description)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CorrectionError(
            f"correction file {path} does not say how it was derived; expected one that `trila calibrate` made"
        )
    try:
        _Derived.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise CorrectionError(
            f"correction file {path} says of how it was derived: {'.'.join(map(str, first['loc']))}: {first['msg']}; make it "
            "again with `trila calibrate`"
        ) from error
    return found


def _correction(name: str, text: str, inputs: list[str], data: Any, output: str = "factor") -> Node:
    return {
        "name": name, "version": 1, "description": text, "inputs": [variable(i) for i in inputs],
        "output": {"name": output, "type": "real"}, "data": data,
        "generic_formulas": [SPLINE_FORMULA] if "JetPt" in inputs else [],
    }  # fmt: skip


def _compound(name: str, text: str, stack: list[Node]) -> Node:
    order = ("JetPt", "JetEta", "JetA", "Rho", "run", "systematic")
    needed = {i["name"] for correction in stack for i in correction["inputs"]}
    return {
        "name": name, "description": text, "inputs": [variable(i) for i in order if i in needed],
        "output": {"name": "factor", "type": "real"}, "inputs_update": ["JetPt"], "input_op": "*", "output_op": "*",
        "stack": [correction["name"] for correction in stack],
    }  # fmt: skip


def _valid(calibration: Calibration) -> Node:
    """Where jets are corrected: raw HLT pT for each region of η; outside the factor is that at the end."""
    regions = []
    for low, high, curve in zip(
        calibration.eta_edges[:-1], calibration.eta_edges[1:], calibration.curves, strict=True
    ):
        if curve is not None:
            ends = np.exp(_measured(curve))
            regions.append({"JetEta": [low, high], "JetPt": [float(ends[0]), float(ends[1])]})
    pts = [pt for region in regions for pt in region["JetPt"]]
    etas = [eta for region in regions for eta in region["JetEta"]]
    return {"JetPt": [min(pts), max(pts)], "JetEta": [min(etas), max(etas)], "regions": regions}


def _measured(curve: Curve) -> Array:
    """ln of the raw pT at both ends of a curve."""
    ends = np.array([curve.low, curve.high])
    return np.asarray(ends + curve.log_response(ends))


class _Table(NamedTuple):
    """A curve as points so fine that a spline through them is the curve: ln of raw pT, factor, ln of corrected pT."""

    points: Array
    factor: Array
    log_pt: Array


def _table(curve: Curve, least: int = 2) -> _Table:
    points = knots_for(lambda u: np.exp(curve.reference(u) - u), *_measured(curve))
    points = np.linspace(points[0], points[-1], max(points.size, least))
    log_pt = curve.reference(points)
    return _Table(points, np.exp(log_pt - points), log_pt)


def _curve_node(curve: Curve | None) -> Node:
    if curve is None:
        return REFUSE
    table = _table(curve)
    return spline(table.points, table.factor)


def _nominal(curves: Sequence[Curve | None], eta_edges: Sequence[float]) -> Node:
    return by_eta(eta_edges, [_curve_node(curve) for curve in curves])


def _scale(calibration: Calibration, sources: list[str]) -> Node:
    rows: dict[str, list[Node]] = {f"{source}_{way}": [] for source in sources for way in ("up", "down")}
    for curve, log_pt, changes in zip(
        calibration.curves, calibration.log_pt, calibration.sources, strict=True
    ):
        table = None if curve is None else _table(curve, _LEAST)
        for source in sources:
            for way, sign in (("up", 1.0), ("down", -1.0)):
                node = REFUSE
                if table is not None:
                    change = np.interp(table.log_pt, log_pt, changes[source])
                    node = spline(table.points, table.factor * (1.0 + sign * change))
                rows[f"{source}_{way}"].append(node)
    nominal = _nominal(calibration.curves, calibration.eta_edges)
    nodes = {"nominal": nominal} | {name: by_eta(calibration.eta_edges, row) for name, row in rows.items()}
    return _correction(
        "hlt_to_offline", "factor on the HLT pT (without pile-up offset) to the offline scale",
        ["JetPt", "JetEta", "systematic"], switch(nodes, nominal),
    )  # fmt: skip


def _runs(calibration: Calibration) -> Node:
    # where a range has too few pairs of its own, what all runs share holds
    rows = [
        by_eta(
            calibration.eta_edges,
            [
                REFUSE if common is None else 1.0 if own is None else _curve_node(own)
                for own, common in zip(one.curves, calibration.curves, strict=True)
            ],
        )
        for one in calibration.runs
    ]
    data = by_run([r.first for r in calibration.runs], calibration.runs[-1].last, rows)
    return _correction(
        "hlt_run", "factor of a range of runs, on top of the average", ["run", "JetPt", "JetEta"], data
    )


def _offset(calibration: Calibration) -> Node | None:
    """`Offset.factor`: 1 - A (ρ - ρ0) (s0 + s1 ln(pT/100 GeV)) / pT, ρ and the pT in the logarithm held inside."""
    offset = calibration.offset
    if offset is None:
        return None
    # x, y, z are the variables in the order below
    area, density, others = ("y*", "z", ["JetA", "Rho"]) if offset.uses_area else ("", "y", ["Rho"])
    expression = (
        f"max([0],1-{area}(max([1],min([2],{density}))-[3])*([4]+[5]*log(max([6],min([7],x))/[8]))/x)"
    )
    rows = [
        formula(
            expression, ["JetPt", *others],
            [SMALLEST_FACTOR, *offset.rho_range, offset.rho_0, s0, s1, *pt_range, PIVOT],
        )
        for s0, s1, pt_range in zip(offset.s0, offset.s1, offset.pt_range, strict=True)
    ]  # fmt: skip
    return _correction(
        "hlt_pileup_offset", "factor on the raw HLT pT that takes off what pile-up adds beyond its average",
        ["JetPt", "JetEta", *others], by_eta(calibration.eta_edges, rows),
    )  # fmt: skip


def _mirrored(calibration: Calibration, rows: list[Any]) -> Node:
    """Bins of |η| as bins of η."""
    edges = [region.eta[0] for region in calibration.resolution] + [calibration.resolution[-1].eta[1]]
    return by_eta([-e for e in reversed(edges[1:])] + edges, [*reversed(rows), *rows])


def _resolution_nodes(calibration: Calibration, shift: float) -> Node:
    rows: list[Any] = []
    for region in calibration.resolution:
        if region.fit is None:
            rows.append(REFUSE)
            continue
        n, s, c = region.fit.n, region.fit.s, region.fit.c
        terms = [1.0 + shift * region.uncertainty, n * abs(n), s * s, c * c]
        rows.append(clamped(formula("[0]*sqrt([1]/(x*x)+[2]/x+[3])", ["JetPt"], terms), *region.pt))
    return _mirrored(calibration, rows)


def _resolution(calibration: Calibration) -> Node:
    nodes = {
        name: _resolution_nodes(calibration, shift)
        for name, shift in (("nominal", 0.0), (f"{_RESOLUTION}_up", 1.0), (f"{_RESOLUTION}_down", -1.0))
    }
    return _correction(
        "hlt_resolution", "relative resolution of the corrected HLT pT", ["JetPt", "JetEta", "systematic"],
        switch(nodes, nodes["nominal"]), "resolution",
    )  # fmt: skip


def _for_coffea(
    calibration: Calibration, names: Names, sources: list[str], offset: Node | None
) -> list[Node]:
    """The same without `systematic`, under the names that coffea's jet tools look for."""
    nominal = _nominal(calibration.curves, calibration.eta_edges)
    found = [_correction(names.of("L2Relative"), "the nominal hlt_to_offline", ["JetPt", "JetEta"], nominal)]
    if offset is not None:
        found.insert(0, {**offset, "name": names.of("L1FastJet")})
    for source in sources:
        rows = [
            REFUSE if curve is None else spline(*_thinned(log_pt, changes[source]))
            for curve, log_pt, changes in zip(
                calibration.curves, calibration.log_pt, calibration.sources, strict=True
            )
        ]
        found.append(
            _correction(
                names.of(source), f"relative change of the corrected pT, {source} up", ["JetEta", "JetPt"],
                by_eta(calibration.eta_edges, rows), "change",
            )
        )  # fmt: skip
    if any(region.fit is not None for region in calibration.resolution):
        found.append(
            _correction(
                names.of("PtResolution"), "relative resolution of the corrected pT", ["JetEta", "JetPt", "Rho"],
                _resolution_nodes(calibration, 0.0), "resolution",
            )
        )  # fmt: skip
        factors = {
            key: _mirrored(
                calibration,
                [1.0 if r.fit is None else 1.0 + shift * r.uncertainty for r in calibration.resolution],
            )
            for key, shift in (("nom", 0.0), ("up", 1.0), ("down", -1.0))
        }
        found.append(
            _correction(
                names.of("ScaleFactor"), "1, and the uncertainty of the resolution", ["JetEta", "systematic"],
                switch(factors),
            )
        )  # fmt: skip
    return found


def _thinned(log_pt: Array, change: Array) -> tuple[Array, Array]:
    """Every tenth point: uncertainties need no more."""
    return log_pt[::10], change[::10]
