"""What the code is: a digest of the package's own sources.

A version number stays the same while the code of a checkout changes; this does not.
"""

import hashlib
from functools import cache
from importlib.resources import files

__all__ = ["code_digest"]

_FOLDERS = ("analysis", "corrections", "fits", "processors")
_SUFFIXES = (".py", ".yaml")


@cache
def code_digest() -> str:
    """SHA-256 of the sources of trila: all `.py` and `.yaml` files of the package, in the order of their names.

    The same for an installed copy and the checkout that it was made from, on every machine. Read once: a process goes on
    with the code that it has imported, whatever becomes of the files.
    """
    found: dict[str, bytes] = {}
    for folder in ("", *_FOLDERS):
        # as resources: a package may lie in a zip file, and an editable one has its folders elsewhere
        for entry in files(f"trila.{folder}".rstrip(".")).iterdir():
            if entry.name.endswith(_SUFFIXES) and entry.is_file():
                found[f"{folder}/{entry.name}".lstrip("/")] = entry.read_bytes()
    total = hashlib.sha256()
    for name in sorted(found):
        total.update(f"{name} {hashlib.sha256(found[name]).hexdigest()}\n".encode())
    return total.hexdigest()
