"""Large CSV files with comment lines, as columns of text that remember their line numbers.

For tables of 10^6 lines, which are read as a whole and checked column by column; a value that is wrong is named with its
line. pyarrow's own reader counts no lines, and knows no comments.
"""

import os
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trila.processors.errors import InputError

__all__ = ["BLOCK", "LARGEST", "NUMBER", "Columns", "matched", "read_columns"]

#: Bytes, after decompression: several times the luminosity of all that an experiment has recorded.
_LARGEST_FILE = 512 * 2**20

LARGEST = 2**32 - 1
"""The largest number of a run or luminosity block."""
BLOCK = r"\d{1,10}"
"""What such a number looks like; `LARGEST` is checked by whoever reads it."""
NUMBER = r"(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][+-]?\d{1,2})?"
"""A finite number that is not negative."""


class Columns(NamedTuple):
    """The lines that hold data."""

    path: str
    header: str
    """The line that names the columns, without "#"."""
    names: list[str]
    """Of the columns, lower case."""
    line: NDArray[np.int64]
    """Numbers of the lines, from 1, shape (n,)."""
    fields: Any
    """Text of each line by column: pyarrow's list array of shape (n,)."""

    def column(self, name: str) -> Any:
        """Text of one column, a pyarrow array of shape (n,)."""
        return pc.list_element(self.fields, self.names.index(name))

    def kept(self, rows: Any) -> "Columns":
        """Those lines that a Boolean pyarrow array of shape (n,) selects."""
        return self._replace(line=self.line[np.asarray(rows)], fields=self.fields.filter(rows))


def read_columns(path: str, what: str, remedy: str) -> Columns:
    """Read a CSV file whose header line begins with "run", or "#run"; other lines that begin with "#" are comments.

    Args:
        path: the file; compressed if its name ends so (.gz, .bz2, .zst).
        what: the file holds, for messages.
        remedy: how to make such a file, for messages.

    Raises:
        InputError: unreadable, too large, no text, no header or several that differ, or a line with more or fewer
            columns than the header.
    """
    lines = pc.utf8_trim_whitespace(pc.split_pattern(pa.array([_text(path, what)]), "\n").values)
    is_header = pc.match_substring_regex(lines, r"(?i)^#?\s*run(:fill)?\s*,")
    headers = pc.unique(lines.filter(is_header)).to_pylist()
    if not headers:
        raise InputError(
            f"{what} {path} has no line that names its columns, such as '#run:fill,ls,...'; {remedy}"
        )
    if len(headers) > 1:
        raise InputError(
            f"{what} {path} is of two kinds: '{headers[0]}' and '{headers[1]}'; give files of one kind and unit"
        )
    header = headers[0].lstrip("# ")
    names = [name.strip().lower() for name in header.split(",")]
    data = pc.invert(pc.or_(pc.starts_with(lines, "#"), pc.or_(is_header, pc.equal(lines, ""))))
    columns = Columns(
        path, header, names, np.flatnonzero(np.asarray(data)) + 1, pc.split_pattern(lines.filter(data), ",")
    )
    if not columns.line.size:
        raise InputError(f"{what} {path} holds no data, only '{header}'; {remedy}")
    lengths = np.asarray(pc.list_value_length(columns.fields))
    if (lengths != len(names)).any():
        wrong = int(np.flatnonzero(lengths != len(names))[0])
        raise InputError(
            f"{what} {path}, line {columns.line[wrong]}: {lengths[wrong]} columns, expected {len(names)} ({header}); "
            f"is the file cut off? {remedy}"
        )
    return columns


def _text(path: str, what: str) -> str:
    try:
        with pa.input_stream(path, compression="detect") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise InputError(f"{what} {path} cannot be read: {reason}; check the file") from error
    if len(content) > _LARGEST_FILE:
        raise InputError(
            f"{what} {path} is larger than {_LARGEST_FILE // 2**20} MiB; make one file for each year of data"
        )
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} is not text ({error}); give the CSV file itself") from error


def matched(columns: Columns, name: str, pattern: str, expected: str) -> dict[str, Any]:
    """Parts of the text of one column.

    Args:
        columns: the lines.
        name: of the column.
        pattern: a regular expression with named groups, which the whole text must match.
        expected: what the text should be, for the message.

    Returns:
        By the name of the group, text, pyarrow arrays of shape (n,); "" where an optional group is not there.

    Raises:
        InputError: a text that does not match; says which line.
    """
    text = columns.column(name)
    found = pc.extract_regex(text, f"^(?:{pattern})$")
    if found.null_count:
        wrong = int(np.flatnonzero(np.asarray(pc.is_null(found)))[0])
        raise InputError(
            f"{columns.path}, line {columns.line[wrong]}: {name} is '{text[wrong].as_py()}', expected {expected}; "
            f"correct the line, or make the file again"
        )
    return {field.name: pc.struct_field(found, field.name) for field in found.type}
