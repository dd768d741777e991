"""Tables of luminosity and of prescales by luminosity block, as CMS's `brilcalc` writes them (docs/luminosity.md)."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trila.analysis.csv_columns import BLOCK, LARGEST, NUMBER, Columns, matched, read_columns
from trila.corrections.lumi import blocks
from trila.corrections.luminosity import LuminosityTable
from trila.corrections.prescales import PrescaleRanges
from trila.processors.errors import InputError, unknown_name

__all__ = ["Prescales", "read_luminosity", "read_prescales"]

_LUMI_REMEDY = "make it with `brilcalc lumi --byls --output-style csv -u /pb ...`"
_PRESCALE_REMEDY = (
    "make it with `brilcalc trg --prescale --hltpath 'HLT_Name_v*' --output-style csv ...`, "
    "or with columns run,ls,trigger,prescale"
)
_BRILCALC_PRESCALES = {"run", "cmsls", "totprescval", "hltpath/prescval", "logic", "l1bit/prescval"}
_PLAIN_PRESCALES = {"run", "ls", "trigger", "prescale"}

#: Seconds of a luminosity block by which brilcalc divides in its units per second.
_SECONDS = 23.31
#: 1/pb of an inverse cross section; as powers of ten of 1/cm2, 1/ub is 1e30.
_INVERSE = {
    "/kb": 1e-15,
    "/b": 1e-12,
    "/mb": 1e-9,
    "/ub": 1e-6,
    "/nb": 1e-3,
    "/pb": 1.0,
    "/fb": 1e3,
    "/ab": 1e6,
}


class Prescales(NamedTuple):
    """Prescales of the triggers that were asked for."""

    ranges: dict[str, PrescaleRanges]
    """By trigger."""
    shared_seeds: dict[str, tuple[str, ...]]
    """Prescaled seeds of the first level that two or more of the triggers use: their prescales are not independent."""


def read_luminosity(path: str) -> LuminosityTable:
    """Read delivered and recorded luminosity by block from the output of `brilcalc lumi --byls`.

    Units are those of the header. A second number 0 of a block ("71:0") says that the experiment was not running.

    Raises:
        InputError: not such a file, an unknown unit, a value that is no number or negative, a block given twice, or
            nothing recorded at all; with the line.
    """
    columns = read_columns(path, "luminosity file", _LUMI_REMEDY)
    if "hltpath" in columns.names:
        raise InputError(
            f"luminosity file {path} is by trigger path, its prescales applied; make it without --hltpath, and give "
            "prescales on their own"
        )
    if not {"run:fill", "ls"} <= set(columns.names):
        raise InputError(
            f"luminosity file {path} has columns {columns.header}, expected run:fill and ls; {_LUMI_REMEDY}"
        )
    run = matched(columns, "run:fill", rf"(?P<run>{BLOCK})(?::\d+)?", "run:fill, two numbers")["run"]
    ls = matched(
        columns, "ls", rf"(?P<ls>{BLOCK})(?::(?P<cms>{BLOCK}))?", "a luminosity block, such as 71:71"
    )
    other = np.asarray(
        pc.and_(pc.not_equal(ls["cms"], ls["ls"]), pc.invert(pc.is_in(ls["cms"], pa.array(["", "0"]))))
    )
    if other.any():
        at = int(np.flatnonzero(other)[0])
        raise InputError(
            f"{path}, line {columns.line[at]}: ls is '{ls['ls'][at]}:{ls['cms'][at]}', two different blocks; expected "
            "the same number twice, or 0 for the second; correct the line"
        )
    block = blocks(_numbers(columns, run, "run"), _numbers(columns, ls["ls"], "ls"))
    order = np.argsort(block, kind="stable")
    twice = np.flatnonzero(block[order][1:] == block[order][:-1])
    if twice.size:
        before, at = order[twice[0]], order[twice[0] + 1]
        raise InputError(
            f"{path}, line {columns.line[at]}: run {run[int(at)]}, luminosity block {ls['ls'][int(at)]} was given in "
            f"line {columns.line[before]} already; leave one of them out"
        )
    delivered, recorded = (_luminosity(columns, kind)[order] for kind in ("delivered", "recorded"))
    if not recorded.any():
        raise InputError(
            f"luminosity file {path}: nothing is recorded in any block; was it rounded away? make it in a smaller "
            "unit: brilcalc lumi --byls --output-style csv -u /ub"
        )
    return LuminosityTable(block[order], delivered, recorded)


def _numbers(columns: Columns, text: Any, name: str) -> NDArray[np.int64]:
    """Runs or luminosity blocks as numbers, if they are not too large."""
    found: NDArray[np.int64] = np.asarray(pc.cast(text, pa.int64()))
    if (found > LARGEST).any():
        at = int(np.flatnonzero(found > LARGEST)[0])
        raise InputError(
            f"{columns.path}, line {columns.line[at]}: {name} is {found[at]}, expected at most {LARGEST}"
        )
    return found


def _luminosity(columns: Columns, kind: str) -> NDArray[np.float64]:
    """The column `kind(unit)` in 1/pb."""
    names = [name for name in columns.names if re.fullmatch(rf"{kind}\s*\(.*\)", name)]
    if len(names) != 1:
        raise InputError(
            f"luminosity file {columns.path} has columns {columns.header}, expected one {kind}(unit); {_LUMI_REMEDY}"
        )
    factor = _unit(columns.path, names[0].partition("(")[2].rstrip(")").strip())
    text = matched(columns, names[0], f"(?P<value>{NUMBER})", "a number that is not negative")["value"]
    values: NDArray[np.float64] = np.asarray(pc.cast(text, pa.float64()))
    return values * factor


def _unit(path: str, unit: str) -> float:
    """1/pb of a block per unit."""
    if unit == "hz/nb":
        raise InputError(
            f"luminosity file {path} is in hz/nb, by which some versions of brilcalc mean hz/pb; make it with -u /pb"
        )
    powers = {f"1e{exponent}/cm2": 10.0 ** (exponent - 36) for exponent in range(21, 43)}
    integrated = _INVERSE | powers
    instant = {f"hz{name}": value for name, value in _INVERSE.items()} | {
        f"{n}s": v for n, v in powers.items()
    }
    factors = integrated | {name: value * _SECONDS for name, value in instant.items()}
    if unit not in factors:
        raise InputError(
            f"luminosity file {path} is in the unknown unit '{unit}', expected one of {', '.join(_INVERSE)}, hz/ub, "
            "1e30/cm2s and their like; make it with -u /pb"
        )
    return factors[unit]


def read_prescales(path: str, triggers: Sequence[str]) -> Prescales:
    """Read prescales by range of blocks, from the output of `brilcalc trg --prescale` or a plain table.

    brilcalc gives the block from which on a prescale is in force, in one run. Versions at the end of names ("_v7") are
    ignored on both sides.

    Args:
        path: of the file.
        triggers: names of the triggers wanted.

    Raises:
        InputError: not such a file; a prescale that is no number, negative or between 0 and 1; ranges that overlap; with
            the line.
        UnknownName: no such trigger in the file; offers the nearest.
    """
    columns = read_columns(path, "prescale file", _PRESCALE_REMEDY)
    from_brilcalc = set(columns.names) >= _BRILCALC_PRESCALES
    if not from_brilcalc and not set(columns.names) >= _PLAIN_PRESCALES:
        raise InputError(
            f"prescale file {path} has columns {columns.header}, expected others; {_PRESCALE_REMEDY}"
        )
    if from_brilcalc:
        # Runs whose changes of prescale are not known; their blocks have no prescale then, which the account lists.
        columns = columns.kept(pc.not_equal(columns.column("cmsls"), "None"))
        names = matched(columns, "hltpath/prescval", rf"(?P<name>.+)/{NUMBER}", "a path and its prescale")[
            "name"
        ]
    else:
        names = columns.column("trigger")
    names = pc.replace_substring_regex(names, r"_v\d+$", "")
    known = [str(name) for name in pc.unique(names).to_pylist()]
    rows = {}
    for trigger in dict.fromkeys(triggers):
        if (bare := re.sub(r"_v\d+$", "", trigger)) not in known:
            raise unknown_name("trigger", trigger, known, f"They are those of {path}.")
        rows[trigger] = columns.kept(pc.equal(names, bare))
    if from_brilcalc:
        return Prescales({name: _brilcalc_ranges(table) for name, table in rows.items()}, _shared_seeds(rows))
    return Prescales({name: _plain_ranges(table) for name, table in rows.items()}, {})


def _brilcalc_ranges(columns: Columns) -> PrescaleRanges:
    """Ranges of one trigger: each row is in force until the next of its run."""
    run = _numbers(columns, matched(columns, "run", f"(?P<n>{BLOCK})", "a run")["n"], "run")
    ls = _numbers(columns, matched(columns, "cmsls", f"(?P<n>{BLOCK})", "a luminosity block")["n"], "cmsls")
    first = blocks(run, ls)
    order = np.argsort(first, kind="stable")
    first, run = first[order], run[order]
    last = blocks(run, np.full(run.size, LARGEST))
    same = np.flatnonzero(run[1:] == run[:-1])
    last[same] = np.maximum(first[same + 1] - np.uint64(1), first[same])  # the same block twice overlaps
    return _disjoint(columns, order, first, last, _brilcalc_prescale(columns)[order])


def _plain_ranges(columns: Columns) -> PrescaleRanges:
    """Ranges of one trigger, `ls` being a block or first-last."""
    run = _numbers(columns, matched(columns, "run", f"(?P<n>{BLOCK})", "a run")["n"], "run")
    ls = matched(
        columns, "ls", rf"(?P<first>{BLOCK})(?:-(?P<last>{BLOCK}))?", "a luminosity block, or first-last"
    )
    low = _numbers(columns, ls["first"], "ls")
    high = _numbers(columns, pc.if_else(pc.equal(ls["last"], ""), ls["first"], ls["last"]), "ls")
    if (low > high).any():
        at = int(np.flatnonzero(low > high)[0])
        raise InputError(
            f"{columns.path}, line {columns.line[at]}: ls is '{low[at]}-{high[at]}', expected first-last; "
            "correct the line"
        )
    order = np.argsort(first := blocks(run, low), kind="stable")
    last = blocks(run, high)
    return _disjoint(columns, order, first[order], last[order], _prescale(columns, "prescale")[order])


def _disjoint(
    columns: Columns,
    order: NDArray[np.intp],
    first: NDArray[np.uint64],
    last: NDArray[np.uint64],
    prescale: Any,
) -> PrescaleRanges:
    """The ranges, if no two overlap; `order` says which rows of `columns` the others are."""
    overlap = np.flatnonzero(first[1:] <= last[:-1])
    if overlap.size:
        before, at = columns.line[order[overlap[0]]], columns.line[order[overlap[0] + 1]]
        raise InputError(
            f"{columns.path}, line {max(before, at)}: the same trigger, run and luminosity block as in line "
            f"{min(before, at)}; leave one of them out"
        )
    return PrescaleRanges(first, last, prescale)


def _prescale(columns: Columns, name: str) -> NDArray[np.float64]:
    """Prescales of the column: 0, or 1 and more."""
    text = matched(columns, name, f"(?P<value>{NUMBER})", "a prescale: 0, or 1 and more")["value"]
    found: NDArray[np.float64] = np.asarray(pc.cast(text, pa.float64()))
    wrong = (found > 0) & (found < 1)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{columns.path}, line {columns.line[at]}: {name} is {found[at]:g}, expected a prescale: 0, or 1 and more; "
            "correct the line"
        )
    return found


def _brilcalc_prescale(columns: Columns) -> NDArray[np.float64]:
    """Total prescales: of the path, times the smallest of its seeds that is not disabled.

    brilcalc takes the smallest of all seeds of an OR, so that one disabled seed makes the total 0 although the others
    fire; such totals are made again from the prescales of path and seeds.
    """
    total = _prescale(columns, "totprescval").copy()  # what comes from pyarrow is read-only
    for at in np.flatnonzero((total == 0) & np.asarray(pc.equal(columns.column("logic"), "OR"))).tolist():
        path = float(columns.column("hltpath/prescval")[at].as_py().rpartition("/")[2])
        alive = [
            value for value in _seeds(columns.column("l1bit/prescval")[at].as_py()).values() if value > 0
        ]
        total[at] = path * min(alive, default=0.0)
    return total


def _seeds(text: str) -> dict[str, float]:
    """Prescales of seeds, "L1_SingleJet60/10 L1_SingleJet90/1"; what does not look so is left out.

    >>> _seeds("L1_SingleJet60/10 L1_SingleJet90/1")
    {'L1_SingleJet60': 10.0, 'L1_SingleJet90': 1.0}
    """
    return {name: float(value) for name, value in re.findall(rf"(\S+)/({NUMBER})(?=\s|$)", text)}


def _shared_seeds(rows: dict[str, Columns]) -> dict[str, tuple[str, ...]]:
    """Seeds with a prescale other than 0 and 1 that several triggers have, and these triggers."""
    users: dict[str, list[str]] = defaultdict(list)
    for trigger, columns in rows.items():
        texts = pc.unique(columns.column("l1bit/prescval")).to_pylist()
        for seed in sorted({name for text in texts for name, value in _seeds(text).items() if value > 1}):
            users[seed].append(trigger)
    return {seed: tuple(names) for seed, names in sorted(users.items()) if len(names) > 1}
