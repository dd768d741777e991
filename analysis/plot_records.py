"""The record of how a plot was made, inside the file: a text chunk of PNG, the keywords of PDF.

Files of others are data: of a PNG the chunks before the image are looked at, of a PDF the end, and no more.
"""

import re
import struct
from pathlib import Path
from typing import Literal

from trila.analysis.provenance import Provenance

__all__ = ["Kind", "plot_metadata", "plot_text"]

Kind = Literal["png", "pdf"]

_PNG_KEY, _PDF_KEY = "trila", "Keywords"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Chunks of a PNG before its image, of which matplotlib writes five.
_CHUNKS = 100
#: Bytes of a record, and of the end of a PDF, where the document information stands before the table of objects.
_LONGEST, _END = 2_000_000, 4_000_000
_KEYWORDS = re.compile(rb"/Keywords \(((?:[^()\\]|\\.)*+)\)", re.DOTALL)


def plot_metadata(made: Provenance | None, kind: Kind) -> dict[str, str | None]:
    """What `savefig` writes besides the image.

    No date of creation: the same plot made again is the same file.
    """
    if kind == "png":
        return {} if made is None else {_PNG_KEY: made.as_text()}
    return {"CreationDate": None} | ({} if made is None else {_PDF_KEY: made.as_text()})


def plot_text(path: Path) -> str | None:
    """The text that a plot carries; None if there is none.

    Raises:
        OSError: the file cannot be read.
    """
    found = _png(path) if path.suffix.lower() == ".png" else _pdf(path)
    return None if found is None else found.decode("latin-1")


def _png(path: Path) -> bytes | None:
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            return None
        for _ in range(_CHUNKS):
            head = file.read(8)
            length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"IDAT")
            if kind == b"IDAT":  # the image; texts of ours stand before it
                return None
            if kind == b"tEXt" and length <= _LONGEST:
                key, _, text = file.read(length).partition(b"\0")
                if key == _PNG_KEY.encode():
                    return text
                length = 0
            file.seek(length + 4, 1)  # and the checksum
    return None


def _pdf(path: Path) -> bytes | None:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _END, 0))
        found = _KEYWORDS.findall(file.read(_END))
    # the document information is the last object of all
    return None if not found else re.sub(rb"\\(.)", rb"\1", found[-1], flags=re.DOTALL)
