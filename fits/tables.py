"""Tables that a user gives as CSV: columns by name, every value a number."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trila.fits.errors import FitError

__all__ = ["read_table"]

#: Bytes of a table.
_LARGEST = 10_000_000


def read_table(path: str | Path, columns: Sequence[str]) -> NDArray[np.float64]:
    """Columns of a CSV file whose first line names them. Lines that begin with # and other columns are left out.

    Args:
        path: of the file.
        columns: names of those that are wanted.

    Returns:
        Values, shape (rows, columns).

    Raises:
        FitError: the file cannot be read or is too large, a column is missing or there twice, or a value is no number.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise FitError(
                f"'{path}' has more than {_LARGEST / 1e6:g} MB, expected less; give a CSV file with {', '.join(columns)}."
            )
        lines = (
            line
            for line in data.decode("utf-8-sig").splitlines()
            if line.strip() and not line.startswith("#")
        )
        rows = list(csv.reader(lines, strict=True))
    except FitError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise FitError(
            f"cannot read '{path}' ({str(error)[:80]}); give a CSV file with {', '.join(columns)}."
        ) from error
    header = [name.strip() for name in rows[0]] if rows else []
    wrong = [name for name in columns if header.count(name) != 1]
    if wrong:
        shown = ", ".join(name[:20] for name in header[:12]) or "(none)"
        remedy = f"leave one '{wrong[0]}' in" if wrong[0] in header else f"add '{wrong[0]}' to"
        raise FitError(
            f"'{path}' has columns {shown}, expected {', '.join(columns)}; {remedy} its first line."
        )
    where = [header.index(name) for name in columns]
    values = np.empty((len(rows) - 1, len(columns)))
    for i, row in enumerate(rows[1:]):
        for j, (name, at) in enumerate(zip(columns, where, strict=True)):
            text = row[at] if at < len(row) else ""
            try:
                values[i, j] = float(text)
            except ValueError as error:
                raise FitError(
                    f"'{path}' has {name} = '{text[:40]}', expected a number; correct that row."
                ) from error
    return values
