"""Keep freed memory in the process.

glibc gives large arrays back to the system as soon as they are freed, and Dask asks it to do so even with small ones.
Each chunk then maps its memory afresh, page by page, which costs workers as much as the work itself.
"""

import contextlib
import ctypes

__all__ = ["keep"]

# from malloc.h of glibc
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep(size: int = 1 << 30) -> None:
    """Let the process keep up to `size` bytes of freed memory, where it uses glibc; no change elsewhere."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, size)
        library.mallopt(_M_TRIM_THRESHOLD, size)
