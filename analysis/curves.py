"""Published curves to lay over limits: a column of a HEPData table, YAML or JSON.

A curve is named on the command line as `FILE`, `FILE:COLUMN` or `NAME=FILE:COLUMN`, where COLUMN is the header of a
dependent variable or its position from 1, and NAME stands in the legend.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from trila.analysis.fit_inputs import read_json
from trila.analysis.fit_products import shown
from trila.analysis.spectra_tables import is_hepdata
from trila.processors.documents import read_yaml
from trila.processors.errors import InputError
from trila.processors.formats import validation_message

__all__ = ["PICOBARN", "Curve", "read_curve"]

Array = NDArray[np.float64]

#: Units of cross-sections, in pb.
PICOBARN = {"fb": 1e-3, "pb": 1.0, "nb": 1e3}
_GEV = {"MeV": 1e-3, "GeV": 1.0, "TeV": 1e3}
_TEXT = re.compile(r"(?:(?P<name>[^=]*)=)?(?P<path>.+?\.(?:json|ya?ml))(?::(?P<column>.+))?", re.DOTALL)
_UNIT = re.compile(r"\[\s*([fpn]b)\s*\]")
_MASS_UNIT = re.compile(r"\[\s*([MGT]eV)\b")


class Curve(NamedTuple):
    """A published curve of n points.

    Attributes:
        name: for the legend.
        mass: ascending, GeV, shape (n,).
        value: shape (n,).
        unit: "fb", "pb" or "nb"; empty where the header names none of them, as for couplings.
    """

    name: str
    mass: Array
    value: Array
    unit: str


class _Cell(BaseModel):
    """A point, or a bin of the mass. HEPData may write numbers as text, and has other text where there is none."""

    value: float | str | None = None
    low: float | str | None = None
    high: float | str | None = None

    def number(self) -> float:
        """The point, or the middle of the bin; NaN where there is none."""
        ends = (self.low, self.high) if self.value is None else (self.value, self.value)
        try:
            return sum(float(end) for end in ends if end is not None) / sum(end is not None for end in ends)
        except (ValueError, ZeroDivisionError):
            return np.nan


class _Header(BaseModel):
    name: str
    units: str | None = None
    colspan: int = Field(default=1, ge=1, le=100)

    def text(self) -> str:
        return self.name + (f" [{self.units}]" if self.units else "")


class _Variable(BaseModel):
    header: _Header
    values: list[_Cell]


class _Submitted(BaseModel):
    """The YAML form: a column for each variable."""

    independent_variables: list[_Variable] = Field(min_length=1, max_length=1)
    dependent_variables: list[_Variable] = Field(min_length=1)


class _Row(BaseModel):
    x: list[_Cell] = Field(min_length=1, max_length=1)
    y: list[_Cell] = Field(min_length=1)


class _Returned(BaseModel):
    """The JSON form that hepdata.net returns: rows, and headers that may stand over several columns."""

    headers: list[_Header] = Field(min_length=1)
    values: list[_Row] = Field(min_length=1)


def read_curve(text: str) -> Curve:
    """The curve that a text names.

    Raises:
        InputError: no such file or column, not a HEPData table, or a value that is no number above zero.
    """
    parts = _TEXT.fullmatch(text)
    if not parts:
        raise InputError(
            f"curve '{text[:80]}'; expected FILE.json or FILE.yaml, with :COLUMN behind and NAME= before it"
        )
    path = parts["path"]
    content: Any = read_json(Path(path)) if path.endswith(".json") else read_yaml(path, "curve")
    if not is_hepdata(content):
        raise InputError(
            f"curve {path} is no HEPData table; expected one as hepdata.net gives it, YAML or JSON"
        )
    try:
        mass, others = _variables(content)
    except ValidationError as error:
        raise InputError(
            f"curve {path}, {validation_message(error)}; expected a function of the mass alone: choose another table"
        ) from error
    chosen = _chosen(others, parts["column"], path)
    if len(chosen.values) != len(mass.values):
        raise InputError(
            f"curve {path} has {len(mass.values)} masses and {len(chosen.values)} values; download it again"
        )
    x, y = (np.array([cell.number() for cell in one.values]) for one in (mass, chosen))
    wrong = np.flatnonzero(~((x > 0) & (y > 0) & np.isfinite(x + y)))
    if wrong.size:
        i = int(wrong[0])
        raise InputError(
            f"curve {path}, row {i + 1}: {y[i]:g} at a mass of {x[i]:g}; expected numbers above 0: choose the column of a limit"
        )
    scale, unit = _MASS_UNIT.search(mass.header.text()), _UNIT.search(chosen.header.text())
    name = parts["name"] or _UNIT.sub("", chosen.header.text()).strip() or Path(path).stem
    order = np.argsort(x, kind="stable")
    return Curve(
        shown(name), x[order] * (_GEV[scale[1]] if scale else 1.0), y[order], unit[1] if unit else ""
    )


def _variables(content: Any) -> tuple[_Variable, list[_Variable]]:
    """The mass and the dependent variables of a table of either form."""
    if "dependent_variables" in content:
        table = _Submitted.model_validate(content)
        return table.independent_variables[0], table.dependent_variables
    rows = _Returned.model_validate(content)
    headers = [header for header in rows.headers for _ in range(header.colspan)]
    cells = zip(*([row.x[0], *row.y] for row in rows.values), strict=False)
    mass, *others = (
        _Variable(header=header, values=list(column)) for header, column in zip(headers, cells, strict=False)
    )
    return mass, others


def _chosen(variables: list[_Variable], wanted: str | None, path: str) -> _Variable:
    """The dependent variable of a header or position."""
    headers = [variable.header.text() for variable in variables]
    if wanted is None and len(variables) == 1:
        return variables[0]
    if wanted in headers:
        return variables[headers.index(wanted)]
    if wanted is not None and wanted in map(str, range(1, len(variables) + 1)):
        return variables[int(wanted) - 1]
    known = ", ".join(f"{i} '{header[:40]}'" for i, header in enumerate(headers[:8], 1))
    asked = f"no column '{wanted[:40]}'" if wanted is not None else f"{len(variables)} columns"
    raise InputError(f"curve {path} has {asked}; give one of them as FILE:COLUMN: {known or 'it has none'}")
