"""Simulated samples: ROOT files as the experiments write them, and `truth.json` with everything that went in.

`simulate` writes toy events (`trila.analysis.toy_events`) in the layout of CMS ScoutingNano or of ATLAS trigger-level
ntuples. A sample is made for closure tests: `truth.json` holds the response that a calibration should find, the trigger
thresholds, the spectrum and the yields.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from trila import __version__
from trila.analysis import toy_events
from trila.analysis.toy_detector import ResponseTruth, hlt_over_offline, hlt_response, offline_response
from trila.analysis.toy_events import Collection, Events, GaussianSignal, Toy
from trila.fits.functions import expectation
from trila.processors.compiled import kernel
from trila.processors.errors import InputError, unknown_name

__all__ = [
    "EVENTS_PER_LUMINOSITY_BLOCK",
    "FIRST_RUN",
    "JET_THRESHOLDS",
    "Format",
    "Kind",
    "raw_factor",
    "round_mantissa",
    "simulate",
]

Kind = Literal["jets", "dijet", "dimuon"]
Format = Literal["cms-scouting", "atlas-tla"]
Floats = NDArray[np.float32]

JET_THRESHOLDS = (40, 60, 80, 140, 200, 260, 320, 400, 450, 500)
FIRST_RUN = 380_000
EVENTS_PER_LUMINOSITY_BLOCK = 1000
_TREES: Mapping[str, str] = {"cms-scouting": "Events", "atlas-tla": "AnalysisMiniTree"}
_MUON_MASS = 0.1056584
_ETA_REGIONS = ((0.0, 1.3), (1.3, 2.5), (2.5, 3.0), (3.0, 4.7))
_PT_GRID = (20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000, 1500, 2000, 3000)


def simulate(
    outdir: Path,
    *,
    kind: Kind = "jets",
    events: int = 100_000,
    files: int = 1,
    seed: int = 1,
    format: Format = "cms-scouting",
    signal: GaussianSignal | None = None,
    toy: Toy = toy_events.DEFAULT,
    block: int = 50_000,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write a sample and its truth; a sample that is there already is replaced.

    Args:
        outdir: folder, empty or with an earlier sample.
        kind: "jets" (HLT, offline and particle level, weighted), "dijet" or "dimuon" (data-like).
        events: in all files together.
        files: over which the events are spread; each is a run of its own.
        seed: event i of a seed is the same in any number of files and blocks.
        format: layout of the files.
        signal: resonance to inject into "dijet".
        toy: parameters of generator, detector and trigger.
        block: events per write.
        progress: called after each block with the number of events in it.

    Returns:
        The ROOT files.

    Raises:
        InputError: arguments that do not go together, or a folder that holds something else.
    """
    _check(kind, format, events, files, seed, signal, block)
    old = _earlier_sample(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    paths = [outdir / f"{kind}_{index:03d}.root" for index in range(files)]
    parts = [path.with_name(f".{path.name}.part") for path in paths]
    bounds = [index * events // files for index in range(files + 1)]
    counts: Counter[str] = Counter()
    try:
        for index, part in enumerate(parts):
            begin, end = bounds[index], bounds[index + 1]
            blocks = _blocks(kind, begin, end, seed, events, signal, toy, block)
            _write(part, format, kind, FIRST_RUN + index, blocks, counts, progress)
        truth = _truth(kind, format, events, files, seed, signal, toy, counts)
        # Without truth.json the folder is not a sample: it goes first and comes last.
        (outdir / "truth.json").unlink(missing_ok=True)
        for path in old:
            path.unlink(missing_ok=True)
        for part, path in zip(parts, paths, strict=True):
            part.rename(path)
        truth["files"] = [path.name for path in paths]
        part = outdir / ".truth.json.part"
        part.write_text(json.dumps(truth, indent=1) + "\n")
        part.rename(outdir / "truth.json")
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return paths


def _check(
    kind: str, format: str, events: int, files: int, seed: int, signal: GaussianSignal | None, block: int
) -> None:
    if kind not in get_args(Kind):
        raise unknown_name("kind of sample", kind, get_args(Kind))
    if format not in get_args(Format):
        raise unknown_name("format of a sample", format, get_args(Format))
    if format == "atlas-tla" and kind == "dimuon":
        raise InputError("kind dimuon in format atlas-tla: that layout has no muons; use cms-scouting.")
    for name, value, low, high in (
        ("events", events, 1, 2**62),
        ("files", files, 1, events),
        ("block", block, 1, 2**62),
        ("seed", seed, 0, 2**62),
    ):
        if not low <= value <= high:
            raise InputError(f"{name} is {value}, expected {low} to {high}; choose a value in between.")
    if signal is not None and kind != "dijet":
        raise InputError(f"a signal was given for kind {kind}; it exists for dijet only: leave it out.")
    if signal is not None and not 0 <= signal.events <= events:
        raise InputError(
            f"signal of {signal.events} events in a sample of {events}; expected 0 to {events}, the signal is "
            "part of the sample: ask for fewer."
        )


def _earlier_sample(outdir: Path) -> list[Path]:
    """ROOT files of the sample in the folder, to be replaced."""
    if not outdir.exists():
        return []
    if not outdir.is_dir():
        raise InputError(f"{outdir} is a file, expected a folder; choose another name.")
    # Names that end in .part were left by a run that was killed.
    found = sorted(path.name for path in outdir.iterdir() if not path.name.endswith(".part"))
    if not found:
        return []
    if "truth.json" not in found:
        raise InputError(
            f"{outdir} is not empty (it holds {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}) and "
            "has no truth.json, so it is not an earlier sample; choose an empty or a new folder."
        )
    try:
        names = json.loads((outdir / "truth.json").read_text())["files"]
        return [outdir / Path(name).name for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{outdir / 'truth.json'} does not list the files of a sample ({error!r}); choose an empty or a new "
            "folder."
        ) from error


def _blocks(
    kind: str,
    begin: int,
    end: int,
    seed: int,
    total: int,
    signal: GaussianSignal | None,
    toy: Toy,
    block: int,
) -> Iterator[tuple[int, int, Events]]:
    """First event, first event of the file, events."""
    for first in range(begin, end, block):
        count = min(block, end - first)
        if kind == "jets":
            yield first, begin, toy_events.jets(first, count, seed, toy=toy)
        elif kind == "dijet":
            yield first, begin, toy_events.dijet(first, count, seed, total=total, signal=signal, toy=toy)
        else:
            yield first, begin, toy_events.dimuon(first, count, seed, toy=toy)


def _write(
    path: Path,
    format: str,
    kind: str,
    run: int,
    blocks: Iterator[tuple[int, int, Events]],
    counts: Counter[str],
    progress: Callable[[int], None] | None,
) -> None:
    layout = _cms_branches if format == "cms-scouting" else _atlas_branches
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        tree = None
        for first, begin, events in blocks:
            number = first + np.arange(events.weight.size)
            lumi = 1 + (number - begin) // EVENTS_PER_LUMINOSITY_BLOCK
            branches = layout(kind, run, lumi, number + 1, events)
            if tree is None:
                types = {name: _type(values) for name, values in branches.items()}
                tree = file.mktree(_TREES[format], types, counter_name=_counter_name, field_name=_field_name)
            tree.extend(branches)
            counts["without HLT objects"] += int(np.count_nonzero(~events.products))
            for process, times in enumerate(np.bincount(events.process + 1)):
                counts[f"process {process - 1}"] += int(times)
            if progress is not None:
                progress(events.weight.size)


def _counter_name(collection: str) -> str:
    return f"n{collection}"


def _field_name(outer: str, inner: str) -> str:
    return inner if outer == "" else f"{outer}_{inner}"


def _type(values: Any) -> Any:
    return values.dtype if isinstance(values, np.ndarray) else values.type.content


@kernel
def _round_in_place(bits: NDArray[np.uint32]) -> None:
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            old = bits[i, j]
            carry = (old >> np.uint32(12)) & np.uint32(1) & np.uint32((old & np.uint32(0x7FE000)) < 0x7FC000)
            bits[i, j] = (old & np.uint32(0xFFFFE000)) + (carry << np.uint32(13))


def round_mantissa(values: Floats) -> Floats:
    """Rounded to 10 bits after the binary point of the mantissa, as the HLT packer of CMS does.

    It rounds half up, except that the two largest mantissas are cut: it never carries into the exponent
    (`MiniFloatConverter::reduceMantissaToNbitsRounding` of CMSSW).

    Args:
        values: shape (fields, objects).
    """
    rounded = values.copy()
    _round_in_place(rounded.view(np.uint32))
    return rounded


def raw_factor(pt: Floats) -> Floats:
    """1 - uncorrected/corrected pT that `Jet_rawFactor` states for the offline jets of the toy, at corrected pT (GeV)."""
    factor: Floats = (0.03 + 0.12 * np.exp(-pt / np.float32(150.0))).astype(np.float32)
    return factor


def _jagged(counts: NDArray[np.int32], fields: Mapping[str, NDArray[Any]]) -> ak.Array:
    offsets = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    contents = [ak.contents.NumpyArray(np.ascontiguousarray(values)) for values in fields.values()]
    record = ak.contents.RecordArray(contents, list(fields), length=int(offsets[-1]))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))


def _named(collection: Collection, *names: str) -> ak.Array:
    return _jagged(collection.counts, dict(zip(names, collection.values, strict=True)))


def _cms_branches(
    kind: str, run: int, lumi: NDArray[np.int64], number: NDArray[np.int64], events: Events
) -> dict[str, Any]:
    # In place: the events are made for this file, and memory that is new to the process is slow.
    for packed in (events.hlt, events.vertices, events.hlt_muons, events.dimuon_vertices):
        _round_in_place(packed.values.view(np.uint32))
    hlt = dict(zip(toy_events.HLT_JET_FIELDS, events.hlt.values, strict=True))
    jets = {k: v.astype(np.int32) if k.endswith("Multiplicity") else v for k, v in hlt.items()}
    muon_pt, muon_eta, muon_phi, charge, isolation, n_vertices = events.hlt_muons.values
    muon_vertices = n_vertices.astype(np.uint16)
    # Offset of each muon's entries in the event's table of vertex indices: those of the muons before it.
    entries = np.concatenate(([0], np.cumsum(muon_vertices, dtype=np.int64)))
    starts = np.concatenate(([0], np.cumsum(events.hlt_muons.counts)))
    table_counts = np.diff(entries[starts]).astype(np.int32)
    muon_offsets = entries[:-1] - np.repeat(entries[starts[:-1]], events.hlt_muons.counts)
    muons = {
        "pt": muon_pt,
        "eta": muon_eta,
        "phi": muon_phi,
        "m": np.full_like(muon_pt, round_mantissa(np.full((1, 1), _MUON_MASS, np.float32))[0, 0]),
        "charge": charge.astype(np.int32),
        "trackIso": isolation,
        "nScoutingMuonVtxVtxIndx": muon_vertices,
        "oScoutingMuonVtxVtxIndx": muon_offsets.astype(np.uint16),
    }
    branches: dict[str, Any] = {
        "run": np.full(number.size, run, np.uint32),
        "luminosityBlock": lumi.astype(np.uint32),
        "event": number.astype(np.uint64),
        "ScoutingPFJet": _jagged(events.hlt.counts, jets),
        "ScoutingRho_fixedGridRhoFastjetAll": events.rho,
        "ScoutingPrimaryVertex": _named(events.vertices, "x", "y", "z"),
        "ScoutingMuonVtx": _jagged(events.hlt_muons.counts, muons),
        "ScoutingMuonVtxDisplacedVertex": _named(
            events.dimuon_vertices,
            *("x", "y", "z", "xError", "yError", "zError", "chi2", "ndof"),
        ),
        # All toy muons that have a vertex share the event's only one.
        "ScoutingMuonVtxVtxIndx": _jagged(table_counts, {"vtxIndx": np.zeros(int(entries[-1]), np.int32)}),
    }
    if kind == "jets":
        pt, eta, phi, mass, area = events.offline.values
        offline = {"pt": pt, "eta": eta, "phi": phi, "mass": mass, "rawFactor": raw_factor(pt), "area": area}
        pt, eta, phi, charge = events.offline_muons.values
        muons = {"pt": pt, "eta": eta, "phi": phi, "mass": np.full_like(pt, _MUON_MASS)}
        muons["charge"] = charge.astype(np.int32)
        branches |= {
            "Jet": _jagged(events.offline.counts, offline),
            "GenJet": _named(events.gen, "pt", "eta", "phi", "mass"),
            "Muon": _jagged(events.offline_muons.counts, muons),
            "genWeight": events.weight,
            "Generator_binvar": events.hard_scale.astype(np.float32),
            "Pileup_nTrueInt": events.mu,
            "PV_npvsGood": events.n_pv,
        }
    return branches | _triggers(events)


def _triggers(events: Events) -> dict[str, NDArray[np.bool_]]:
    ht, single = events.l1_ht >= 280, events.l1_pt >= 180
    leading = round_mantissa(events.hlt_pt[np.newaxis])[0]
    return {
        "L1_HTT280er": ht,
        "L1_SingleJet180": single,
        "DST_PFScouting_JetHT": (ht | single) & events.products,
        "DST_PFScouting_DoubleMuon": events.muon_pair & events.products,
        "DST_PFScouting_ZeroBias": events.zero_bias & events.products,
        "HLT_IsoMu27": events.reference,
    } | {f"HLT_PFJet{threshold}": leading >= threshold for threshold in JET_THRESHOLDS}


def _atlas_branches(
    kind: str, run: int, lumi: NDArray[np.int64], number: NDArray[np.int64], events: Events
) -> dict[str, Any]:
    """Momenta in MeV, lengths in mm; nothing is rounded."""
    names = ("pt", "eta", "phi", "m")

    def in_mev(jets: Collection) -> ak.Array:
        pt, eta, phi, mass = jets.values[:4]
        thousand = np.float32(1000.0)
        return _jagged(jets.counts, dict(zip(names, (pt * thousand, eta, phi, mass * thousand), strict=True)))

    one = np.ones(number.size, np.int32)
    branches: dict[str, Any] = {
        "runNumber": np.full(number.size, run, np.uint32),
        "eventNumber": number.astype(np.uint64),
        "lumiBlock": lumi.astype(np.uint32),
        "averageInteractionsPerCrossing": events.mu,
        "actualInteractionsPerCrossing": events.mu,
        "trigger_akt4_pf": in_mev(events.hlt),
        "offline_pv": _jagged(events.vertices.counts, {"z": events.vertices.values[2] * np.float32(10.0)}),
    }
    if kind == "jets":
        branches["offline_akt4_pf_NOSYS"] = in_mev(events.offline)
        branches["mcChannelNumber"] = np.full(number.size, 364_700, np.uint32)
        branches["mcEventWeights"] = ak.Array(
            ak.contents.ListOffsetArray(
                ak.index.Index64(np.concatenate(([0], np.cumsum(one)))), ak.contents.NumpyArray(events.weight)
            )
        )
    return branches


# ---- truth.json
def _plain(value: Any) -> Any:
    """Named tuples to dictionaries, at any depth."""
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _response_table(toy: Toy) -> list[dict[str, Any]]:
    rows = []
    for low, high in _ETA_REGIONS:
        eta, pt = (low + high) / 2, np.array(_PT_GRID, np.float64)
        truths: dict[str, ResponseTruth] = {
            "hlt": hlt_response(pt, eta, detector=toy.detector, pileup=toy.pileup),
            "offline": offline_response(pt, eta, detector=toy.detector),
            "hlt_over_offline": hlt_over_offline(pt, eta, detector=toy.detector, pileup=toy.pileup),
        }
        row: dict[str, Any] = {"abs_eta": [low, high], "at_abs_eta": eta, "pt": list(_PT_GRID)}
        rows.append(row | {k: {n: v.tolist() for n, v in t._asdict().items()} for k, t in truths.items()})
    return rows


def _truth(
    kind: str,
    format: str,
    events: int,
    files: int,
    seed: int,
    signal: GaussianSignal | None,
    toy: Toy,
    counts: Counter[str],
) -> dict[str, Any]:
    truth: dict[str, Any] = {
        "trila": __version__,
        "kind": kind,
        "format": format,
        "events": events,
        "files": [],
        "seed": seed,
        "first_run": FIRST_RUN,
        "parameters": _plain(toy),
        "events_without_hlt_objects": counts["without HLT objects"],
        "pileup": {
            "mu_mean": toy.pileup.mu_mean,
            "rho_mean": toy.pileup.rho_mean,
            "rho_spread": toy.pileup.rho_spread,
            "offset": "HLT jets carry offset·(rho - offset_rho)/10·area/0.5 GeV, offline jets nothing",
        },
        "response": {
            "definition": "measured over particle-level pT at particle-level (pt, eta), averaged over pile-up; "
            "hlt_over_offline at particle-level pt, its mean is the ratio of means; the low tail is "
            "independent in HLT and offline, and not part of core and resolution",
            "table": _response_table(toy),
        },
        "triggers": _trigger_truth(toy),
    }
    if kind == "jets":
        truth["spectrum"] = {
            "of": "pT of the hard scattering (Generator_binvar), with genWeight",
            "function": "p^-exponent (1 - 2p/sqrt_s)^beta from pt_min to pt_max",
            **{k: getattr(toy.jets, k) for k in ("exponent", "beta", "sqrt_s", "pt_min", "pt_max", "bias")},
        }
    if kind == "dijet":
        truth["spectrum"] = _dijet_truth(toy, counts)
        truth["signal"] = _plain(signal) if signal is not None else None
    if kind in ("jets", "dimuon"):
        truth["dimuon"] = _dimuon_truth(kind, events, toy, counts)
    return truth


def _dijet_truth(toy: Toy, counts: Counter[str]) -> dict[str, Any]:
    generator, background = toy.dijet, counts["process 0"]
    shape = (1.0, *generator.shape)
    edges = np.geomspace(generator.mass_min, generator.mass_max, 1001)
    norm = background / float(expectation("dijet4", edges, shape, sqrt_s=generator.sqrt_s).sum())
    return {
        "of": "particle-level dijet mass of the background",
        "function": "dijet4",
        "parameters": [norm, *generator.shape],
        "sqrt_s": generator.sqrt_s,
        "mass_min": generator.mass_min,
        "mass_max": generator.mass_max,
        "background_events": background,
        "signal_events": counts["process 1"],
    }


def _dimuon_truth(kind: str, events: int, toy: Toy, counts: Counter[str]) -> dict[str, Any]:
    shapes = ("resonance", "continuum", "combinatorial")
    pairs = events * (toy.jets.dimuon_fraction if kind == "jets" else 1.0)
    total = sum(process.events for process in toy_events.PROCESSES)
    detector = toy.muon_detector
    return {
        "relative_mass_resolution": {
            # Two independent muons: σ_m/m = ½ √(σ1² + σ2²), up to the angles.
            region: {"hlt": hlt / np.sqrt(2.0), "offline": offline / np.sqrt(2.0)}
            for region, hlt, offline in (
                ("both muons in barrel", detector.hlt_barrel, detector.offline_barrel),
                ("both muons forward", detector.hlt_forward, detector.offline_forward),
            )
        },
        "processes": [
            {
                **_plain(process),
                "shape": shapes[process.shape],
                "expected": pairs * process.events / total,
                "generated": counts[f"process {index}"],
            }
            for index, process in enumerate(toy_events.PROCESSES)
        ],
    }


def _trigger_truth(toy: Toy) -> dict[str, Any]:
    level1 = "particle-level jets times l1_scale, smeared by l1_resolution"
    triggers: dict[str, Any] = {
        "L1_HTT280er": {"threshold": 280.0, "acts_on": f"scalar sum of {level1}, above ht_pt within ht_eta"},
        "L1_SingleJet180": {"threshold": 180.0, "acts_on": f"leading of {level1}"},
        "DST_PFScouting_JetHT": {"acts_on": "L1_HTT280er or L1_SingleJet180"},
        "DST_PFScouting_DoubleMuon": {
            "threshold": toy.trigger.muon_threshold,
            "width": toy.trigger.muon_width,
            "acts_on": "true pT of both muons, an error function each",
        },
        "DST_PFScouting_ZeroBias": {"fraction": toy.trigger.zero_bias_fraction, "acts_on": "random"},
        "HLT_IsoMu27": {"fraction": toy.trigger.reference_fraction, "acts_on": "random"},
    }
    for threshold in JET_THRESHOLDS:
        triggers[f"HLT_PFJet{threshold}"] = {
            "threshold": float(threshold),
            "acts_on": "pT of the leading HLT jet as stored (also in events without HLT objects), at or above",
        }
    return triggers
