"""Reads the tables that spectra are published in: CSV files, and HEPData tables as YAML or JSON.

| input | bins | counts | variances |
| --- | --- | --- | --- |
| CSV with a line of names | columns `low`, `high` | `count` | `variance`, where there is one |
| HEPData | `low` and `high` of the independent variable | the dependent variable | square of the statistical error |

Columns of a table are chosen with `columns`, such as `low=xmin,high=xmax,count=N`. Of a HEPData table, `count=` takes the
header of the dependent variable, or its position from 1. `per=GeV` says that values are per GeV (TeV, MeV): they are
multiplied by the bin's width. Masses are in GeV, unless a HEPData header gives TeV or MeV.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trila.fits.spectrum import Spectrum, from_rows
from trila.processors.errors import InputError, unknown_name

__all__ = ["csv_spectrum", "hepdata_spectrum", "is_hepdata"]

_GEV = {"MeV": 1e-3, "GeV": 1.0, "TeV": 1e3}
_CSV_COLUMNS = ("low", "high", "count", "variance", "per")
_HEPDATA_COLUMNS = ("count", "per")
#: A unit of mass that values are divided by, as headers spell it: "Events / GeV", "pb GeV^-1".
_DENSITY = re.compile(r"/\s*([MGT])eV\b|\b([MGT])eV\s*(?:\^|\*\*)\s*\{?\s*-\s*1", re.IGNORECASE)
_MASS_UNIT = re.compile(r"\[\s*([MGT])eV\b", re.IGNORECASE)

Node = Any  # of YAML or JSON, not checked yet


class _Variable(NamedTuple):
    """One column of a HEPData table: its header, units included, and a mapping for each row."""

    header: str
    rows: list[Mapping[str, Node]]


def csv_spectrum(data: bytes, name: str, columns: str | None = None) -> Spectrum:
    """The spectrum in a CSV file. Lines that begin with # and columns that are not asked for are passed over.

    Args:
        data: content of the file.
        name: for messages.
        columns: names of its columns, such as `low=xmin,count=N`; `low`, `high`, `count`, `variance`, if not given.

    Raises:
        InputError: no text, no such column, or a value that is no number.
        FitError: numbers that make no spectrum.
    """
    chosen = _chosen(columns, _CSV_COLUMNS)
    try:
        lines = data.decode("utf-8-sig").splitlines()
        text = ("" if line.lstrip()[:1] in ("", "#") else line for line in lines)
        rows = [(number, row) for number, row in enumerate(csv.reader(text, strict=True), 1) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name} is no CSV file: {error}; expected lines such as low,high,count") from error
    if len(rows) < 2:
        raise InputError(
            f"{name} has no rows; expected a line of names, such as low,high,count, and one for each bin"
        )
    header = [field.strip() for field in rows[0][1]]
    repeated = [field for field in header if field and header.count(field) > 1]
    if repeated:
        raise InputError(f"{name} has two columns '{repeated[0]}'; rename one")
    position = {}
    for key in ("low", "high", "count", "variance"):
        field = chosen.get(key, key)
        if field in header:
            position[key] = header.index(field)
        elif key != "variance" or key in chosen:
            known = [known[:40] for known in header]
            raise unknown_name(f"column of {name}", field, known, f"Name it with --columns {key}=NAME.")
    values: dict[str, list[float]] = {key: [] for key in position}
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise InputError(
                f"{name}, line {number}: {len(row)} fields; expected {len(header)}, as in its line of names"
            )
        for key, where in position.items():
            values[key].append(_number(row[where], f"{name}, line {number}, {header[where]}"))
    return _spectrum(values, chosen.get("per", "bin"), name)


def is_hepdata(content: Node) -> bool:
    """Whether the content of a YAML or JSON file is a HEPData table, of either of the two forms."""
    return isinstance(content, dict) and (
        {"headers", "values"} <= content.keys()
        or {"independent_variables", "dependent_variables"} <= content.keys()
    )


def hepdata_spectrum(content: dict[str, Node], name: str, columns: str | None = None) -> Spectrum:
    """The spectrum in a HEPData table: the submitted YAML form, or the JSON form that hepdata.net returns.

    Integer values whose errors are those of Poisson counts, symmetrical or not, are event counts.

    Args:
        content: as read; `is_hepdata` is true for it.
        name: for messages.
        columns: `count=` header or position of the dependent variable, where there are several, and `per=`.

    Raises:
        InputError: not a table of one independent variable in bins, or no such dependent variable.
        FitError: numbers that make no spectrum.
    """
    chosen = _chosen(columns, _HEPDATA_COLUMNS)
    independent, dependent = (
        _submitted(content, name) if "dependent_variables" in content else _json(content, name)
    )
    if len(independent) != 1:
        raise InputError(f"{name} has {len(independent)} independent variables; a spectrum has one, the mass")
    mass = independent[0]
    value = _dependent(dependent, chosen.get("count"), name)
    if len(value.rows) != len(mass.rows) or not mass.rows:
        raise InputError(
            f"{name}: {len(mass.rows)} masses and {len(value.rows)} values; expected one for each bin"
        )
    points = [number for number, row in enumerate(mass.rows, 1) if not {"low", "high"} <= row.keys()]
    if points:
        raise InputError(
            f"{name}, row {points[0]}: '{mass.header}' is a point; expected bins with low and high: points are no spectrum, "
            "choose the table of the histogram or make a CSV with low,high,count"
        )
    density = _DENSITY.search(value.header)
    if density and "per" not in chosen:
        unit = f"{(density[1] or density[2]).upper()}eV"
        raise InputError(
            f"{name}: '{value.header}' is no number of events; give --columns per={unit} to multiply it by the bin's width, "
            "or per=bin if it is one"
        )
    given = _MASS_UNIT.search(mass.header)
    gev = _GEV[f"{given[1].upper()}eV"] if given else 1.0
    values: dict[str, list[float]] = {"low": [], "high": [], "count": []}
    errors: list[float] = []
    for number, (x, y) in enumerate(zip(mass.rows, value.rows, strict=True), 1):
        where = f"{name}, row {number}"
        values["low"].append(_number(x["low"], where) * gev)
        values["high"].append(_number(x["high"], where) * gev)
        values["count"].append(_number(y.get("value"), where))
        errors.append(_error(y.get("errors"), values["count"][-1], where))
    if any(error > 0 for error in errors) and not _poisson(np.array(values["count"]), np.array(errors)):
        values["variance"] = [error * error for error in errors]
    return _spectrum(values, chosen.get("per", "bin"), name)


def _poisson(counts: np.ndarray[Any, Any], errors: np.ndarray[Any, Any]) -> bool:
    """Whether these are event counts with errors of about their square root.

    Printed errors are rounded, and the mean of both sides of a central interval is up to one event more.
    """
    if np.any(counts < 0) or np.any(counts != np.round(counts)):
        return False
    root = np.sqrt(counts)
    return not np.any(np.abs(errors - root) > 1.0 + 0.01 * root)


def _spectrum(values: Mapping[str, Sequence[float]], per: str, name: str) -> Spectrum:
    if per not in ("bin", *_GEV):
        raise unknown_name("unit of per=", per, ("bin", *_GEV))
    low, high, count = (np.array(values[key]) for key in ("low", "high", "count"))
    variance = np.array(values["variance"]) if "variance" in values else None
    if per != "bin":
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # what is no number is found when the spectrum is checked
            width = (high - low) / _GEV[per]
            count = count * width
            variance = None if variance is None else variance * width**2
    return from_rows(low, high, count, variance, name=name)


def _chosen(columns: str | None, known: Sequence[str]) -> dict[str, str]:
    """`low=xmin,count=N` as a mapping."""
    chosen: dict[str, str] = {}
    for item in columns.split(",") if columns else ():
        key, separator, value = (part.strip() for part in item.partition("="))
        if not separator or not value:
            raise InputError(
                f"--columns has '{item}'; expected WHAT=NAME, separated by commas, such as count=N"
            )
        if key not in known:
            raise unknown_name("key of --columns", key, known)
        if key in chosen:
            raise InputError(f"--columns gives '{key}' twice; give it once")
        chosen[key] = value
    return chosen


def _number(value: Node, where: str) -> float:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    # only text is shown: lists that refer to themselves have no end
    shown = f"'{value[:40]}'" if isinstance(value, str) else f"a value of type {type(value).__name__}"
    raise InputError(f"{where}: {shown} is no number; give one, or leave the row out if it is at an end")


def _text(node: Node) -> str:
    return node if isinstance(node, str) else ""


def _error(errors: Node, value: float, where: str) -> float:
    """The statistical error of a value: the one so labelled, or the only one; NaN without one."""

    def size(side: Node) -> float:
        if isinstance(side, str) and side.strip().endswith("%"):
            return abs(_number(side.strip()[:-1], where) * value) / 100.0
        return abs(_number(side, f"{where}, error"))

    found = []
    for error in errors if isinstance(errors, list) else ():
        if not isinstance(error, dict) or error.get("hide"):
            continue
        both = error.get("asymerror")
        sides = [both.get("plus"), both.get("minus")] if isinstance(both, dict) else [error.get("symerror")]
        found.append((_text(error.get("label")).lower(), sum(map(size, sides)) / len(sides)))
    statistical = [error for label, error in found if "stat" in label]
    other = [error for label, error in found if "sys" not in label and "lumi" not in label]
    chosen = statistical or other
    return chosen[0] if len(chosen) == 1 else math.nan


def _mappings(node: Node, where: str) -> list[Mapping[str, Node]]:
    if not isinstance(node, list) or not all(isinstance(item, dict) for item in node):
        raise InputError(f"{where} is no list of mappings; download the table from hepdata.net again")
    return node


def _submitted(content: dict[str, Node], name: str) -> tuple[list[_Variable], list[_Variable]]:
    """Variables of the YAML form: a column each."""

    def variables(key: str) -> list[_Variable]:
        found = []
        for item in _mappings(content[key], f"{name}: {key}"):
            header = item.get("header")
            header = header if isinstance(header, dict) else {}
            units = f" [{_text(header.get('units'))}]" if header.get("units") else ""
            rows = _mappings(item.get("values"), f"{name}: values of {key}")
            found.append(_Variable(_text(header.get("name")) + units, rows))
        return found

    return variables("independent_variables"), variables("dependent_variables")


def _json(content: dict[str, Node], name: str) -> tuple[list[_Variable], list[_Variable]]:
    """Variables of the JSON form: rows with lists `x` and `y`, and headers that may stand over several columns."""
    rows = _mappings(content["values"], f"{name}: values")
    x = [_mappings(row.get("x"), f"{name}: x of values") for row in rows]
    y = [_mappings(row.get("y"), f"{name}: y of values") for row in rows]
    number = (len(x[0]), len(y[0])) if rows else (0, 0)
    if any((len(a), len(b)) != number for a, b in zip(x, y, strict=True)):
        raise InputError(f"{name}: its rows differ in length; download the table from hepdata.net again")
    headers: list[str] = []
    for header in _mappings(content["headers"], f"{name}: headers"):
        span = header.get("colspan")
        span = span if isinstance(span, int) else 1
        headers += [_text(header.get("name"))] * max(0, min(span, sum(number) - len(headers)))
    headers += [""] * (sum(number) - len(headers))
    independent = [_Variable(headers[i], [row[i] for row in x]) for i in range(number[0])]
    return independent, [_Variable(headers[number[0] + i], [row[i] for row in y]) for i in range(number[1])]


def _dependent(variables: Sequence[_Variable], wanted: str | None, name: str) -> _Variable:
    """The column of counts."""
    if not variables:
        raise InputError(f"{name} has no dependent variable; choose a table with values")
    if wanted is None and len(variables) == 1:
        return variables[0]
    shown = ", ".join(f"{i} '{variable.header[:40]}'" for i, variable in enumerate(variables[:8], 1))
    if wanted is None:
        raise InputError(
            f"{name} has {len(variables)} dependent variables; choose one with --columns count=: {shown}"
        )
    named = [variable for variable in variables if variable.header == wanted]
    if len(named) == 1:
        return named[0]
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 9 and 1 <= int(wanted) <= len(variables):
        return variables[int(wanted) - 1]
    raise InputError(
        f"{name}: '{wanted}' is not one of its dependent variables; give the position of one: {shown}"
    )
