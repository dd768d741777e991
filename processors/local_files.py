"""Local ROOT files as uproot reads them here: by a call for each piece, in the thread that asks for it.

Mapped into memory, a file that another process cuts short would end this one with a signal (SIGBUS), which no code can
catch, and its pages would count as memory of this process. uproot's own ways without a mapping move the position of an
open file, which threads that share it would do to each other, or hand each basket to another thread.
"""

import os
import queue
import weakref
from pathlib import Path
from typing import Any, Self

import uproot
from uproot.source.chunk import Chunk
from uproot.source.futures import TrivialFuture

__all__ = ["LocalFile"]


class LocalFile(uproot.source.chunk.Source):
    """A local file, for `uproot.open(..., handler=LocalFile)`; closed with the last object that refers to it.

    Of what lies behind the end of the file, chunks hold nothing: uproot refuses them when they are looked at (OSError).
    """

    def __init__(self, file_path: str, **options: Any) -> None:
        super().__init__()
        self._file_path = file_path
        self._file = Path(file_path).open("rb", buffering=0)  # noqa: SIM115
        self._num_bytes = os.fstat(self._file.fileno()).st_size
        weakref.finalize(self, self._file.close)

    def chunk(self, start: int, stop: int) -> Chunk:
        """Bytes `start` to `stop`."""
        # damaged files ask for any number of bytes, for which there may be no memory
        size = max(0, min(stop, self._num_bytes) - start)
        return Chunk(self, start, stop, TrivialFuture(os.pread(self._file.fileno(), size, start)))

    def chunks(self, ranges: list[tuple[int, int]], notifications: queue.Queue[Chunk]) -> list[Chunk]:
        """Bytes of several ranges, also put on the queue."""
        chunks = [self.chunk(start, stop) for start, stop in ranges]
        for chunk in chunks:
            notifications.put(chunk)
        return chunks

    @property
    def closed(self) -> bool:
        """Whether it can be read no more."""
        return self._file.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
