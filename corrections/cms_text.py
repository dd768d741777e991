"""Text files of CMS jet corrections: what they say, as plain numbers.

A file is one table, or several under `[Section]` headings. A table opens with

    {n binning-variable... n formula-variable... formula Correction|Resolution|ScaleFactor level}

and each row gives the bin's edges, the number of columns that follow, the range within which each variable of the
formula is held, and the parameters. Scale factors have no formula but central, down and up; uncertainties have knots
in the formula's variable, each with the relative shift up and down. Bins hold their lower edge. (CMSSW,
CondFormats/JetMETObjects; CMS, arXiv:1607.03663)
"""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from trila.corrections import tformula
from trila.corrections.correction_text import CorrectionError, text

__all__ = ["FileName", "Kind", "Table", "parse", "parse_name"]

Kind = Literal["correction", "resolution", "scale factor", "uncertainty"]

#: Of a table: bins are compared with one another.
_MOST_ROWS = 10_000
_NONE = ('""', "''", "None")
_NAME = re.compile(
    r"(?P<regrouped>Regrouped[^_]*_)?(?P<tag>.+?)_(?P<sample>MC|DATA)_(?P<level>.+)_(?P<algorithm>[^_]+)"
)
_SUFFIXES = re.compile(r"(\.(jec|junc|jr|jersf))?(\.txt)?(\.gz)?$")


class FileName(NamedTuple):
    """What the name of a CMS file says: `{tag}_{MC|DATA}_{level}_{algorithm}`.

    Attributes:
        tag: campaign and version, such as `Summer22_22Sep2023_V3`.
        sample: MC or DATA.
        level: such as `L2Relative`, `UncertaintySources`, `PtResolution` or `SF`.
        algorithm: jets, such as `AK4PFPuppi`.
        regrouped: whether the uncertainties are a regrouped set of the tag's.
    """

    tag: str
    sample: str
    level: str
    algorithm: str
    regrouped: bool


class Table(NamedTuple):
    """One table of a file.

    Attributes:
        section: heading that the table stands under; empty without.
        kind: what its numbers are.
        binned: binning variables, in the file's order.
        variables: variables of the formula, x first.
        formula: in ROOT's dialect; empty for scale factors and uncertainties.
        bins: lower and upper edge in each binning variable, one tuple a row.
        ranges: lower and upper end of each variable of the formula, one tuple a row; empty for uncertainties.
        parameters: the remaining numbers of each row.
    """

    section: str
    kind: Kind
    binned: tuple[str, ...]
    variables: tuple[str, ...]
    formula: str
    bins: tuple[tuple[tuple[float, float], ...], ...]
    ranges: tuple[tuple[tuple[float, float], ...], ...]
    parameters: tuple[tuple[float, ...], ...]


def parse_name(path: str | Path) -> tuple[str, FileName | None]:
    """The name of a file without its suffixes, and its parts where it is of the form that CMS uses.

    >>> parse_name("Summer22_V3_MC_L2Relative_AK4PFPuppi.jec.txt.gz")[1].level
    'L2Relative'
    """
    stem = _SUFFIXES.sub("", Path(path).name)
    match = _NAME.fullmatch(stem)
    if match is None:
        return stem, None
    tag, sample, level, algorithm = match.group("tag", "sample", "level", "algorithm")
    return stem, FileName(tag, sample, level, algorithm, bool(match["regrouped"]))


def parse(path: str | Path) -> tuple[Table, ...]:
    """The tables of a text file, compressed or not.

    Raises:
        CorrectionError: not a text file of CMS jet corrections, or one that is not consistent; says in which line.
    """
    tables: list[Table] = []
    section = ""
    header: _Header | None = None
    rows: list[_Row] = []
    lines = text(path).splitlines()
    for number, line in enumerate([*lines, "["], start=1):  # the last line ends the last table
        content = line.strip()
        place = f"{path}, line {number}"
        if not content or content.startswith("#"):
            continue
        if content.startswith("["):
            if header is not None:
                tables.append(_table(section, header, rows, f"{path}, {section or 'table'}"))
            elif section:
                raise CorrectionError(f"{path}: section [{section}] is empty; the file is not complete")
            section, header, rows = content.strip("[]"), None, []
        elif header is None:
            header = _header(content, place)
        else:
            rows.append(_row(content, header, place))
            if len(rows) > _MOST_ROWS:
                raise CorrectionError(
                    f"{place}: a table of more than {_MOST_ROWS} rows; expected fewer, split it"
                )
    if not tables:
        raise CorrectionError(
            f"{path}: no table of jet corrections in it; expected {{n variable... formula ...}}"
        )
    names = [table.section for table in tables]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CorrectionError(f"{path}: section [{twice}] is there twice; leave one")
    return tuple(tables)


class _Header(NamedTuple):
    kind: Kind
    binned: tuple[str, ...]
    variables: tuple[str, ...]
    formula: str


class _Row(NamedTuple):
    bins: tuple[tuple[float, float], ...]
    ranges: tuple[tuple[float, float], ...]
    parameters: tuple[float, ...]


def _header(line: str, place: str) -> _Header:
    words = line.strip("{} \t").split()
    try:
        n_binned = int(words[0])
        n_variables = int(words[n_binned + 1])
        formula = words[n_binned + n_variables + 2]
    except (ValueError, IndexError) as error:
        raise CorrectionError(
            f"{place}: {line[:80]!r} is no header of jet corrections; expected "
            "{n binning-variable... n formula-variable... formula Correction|Resolution|ScaleFactor level}"
        ) from error
    binned, variables = (
        tuple(words[1 : n_binned + 1]),
        tuple(words[n_binned + 2 : n_binned + n_variables + 2]),
    )
    kind = _kind(formula, words[n_binned + n_variables + 3 :], place)
    if n_binned < 1 or len(set(binned)) < n_binned or len(set(variables)) < n_variables:
        raise CorrectionError(f"{place}: expected one binning variable or more, and none twice")
    if kind in ("correction", "resolution") and n_variables > len(tformula.VARIABLES):
        raise CorrectionError(
            f"{place}: {n_variables} variables in a formula; expected 4 at most (x, y, z, t)"
        )
    if kind == "uncertainty" and n_variables != 1:
        raise CorrectionError(
            f"{place}: {n_variables} variables of an uncertainty; expected 1, which has the knots"
        )
    return _Header(kind, binned, variables, "" if formula in _NONE else formula)


def _kind(formula: str, rest: Sequence[str], place: str) -> Kind:
    if rest[:1] == ["ScaleFactor"] and formula in _NONE:
        return "scale factor"
    if rest[:1] == ["Resolution"] and formula not in _NONE:
        return "resolution"
    if rest[:1] == ["Correction"]:
        return "uncertainty" if formula in _NONE else "correction"
    raise CorrectionError(
        f"{place}: '{' '.join([formula[:40], *rest])[:80]}' cannot be converted; expected a formula and Correction or "
        'Resolution, "" and Correction for uncertainties, or None and ScaleFactor'
    )


def _row(line: str, header: _Header, place: str) -> _Row:
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError as error:
        raise CorrectionError(f"{place}: {str(error)[:80]}; expected numbers only") from error
    if not all(math.isfinite(number) for number in numbers):
        raise CorrectionError(f"{place}: not all numbers are finite")
    n_binned, n_variables = len(header.binned), len(header.variables)
    n_ranges = 0 if header.kind == "uncertainty" else n_variables
    columns = numbers[2 * n_binned + 1 :]
    n_least = 2 * n_ranges + {"scale factor": 3, "uncertainty": 3}.get(
        header.kind, tformula.parameter_count(header.formula)
    )
    if len(numbers) <= 2 * n_binned or numbers[2 * n_binned] != len(columns) or len(columns) < n_least:
        raise CorrectionError(
            f"{place}: {len(numbers)} numbers; expected {2 * n_binned} bin edges, the number of those that follow, "
            f"and at least {n_least} more"
        )
    row = _Row(
        _pairs(numbers[: 2 * n_binned]), _pairs(columns[: 2 * n_ranges]), tuple(columns[2 * n_ranges :])
    )
    for name, (low, high) in zip(header.binned + header.variables, row.bins + row.ranges, strict=False):
        if low > high or (low == high and name in header.binned):
            raise CorrectionError(f"{place}: {name} from {low:g} to {high:g}; expected the lower end first")
    if header.kind == "uncertainty":
        knots = row.parameters[::3]
        if len(row.parameters) % 3 or any(a >= b for a, b in pairwise(knots)):
            raise CorrectionError(
                f"{place}: expected {header.variables[0]}, up and down in turn, in rising order"
            )
    return row


def _pairs(numbers: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _table(section: str, header: _Header, rows: Sequence[_Row], place: str) -> Table:
    if not rows:
        raise CorrectionError(f"{place}: a header but no rows; the file is not complete")
    bins, ranges, parameters = zip(*rows, strict=True)
    return Table(
        section, header.kind, header.binned, header.variables, header.formula, bins, ranges, parameters
    )
