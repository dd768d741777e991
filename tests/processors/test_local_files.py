"""Any bytes of a file are those that are in it, whoever asks for them at the same time, and none are made up."""

import gc
import os
import queue
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import uproot

from trila.processors.local_files import LocalFile

SIZE = 100_000


@pytest.fixture
def content() -> bytes:
    return np.random.default_rng(3).bytes(SIZE)


@pytest.fixture
def path(content: bytes, tmp_path: Path) -> Path:
    (tmp_path / "a.root").write_bytes(content)
    return tmp_path / "a.root"


def test_chunks_are_bytes_of_the_file(path: Path, content: bytes) -> None:
    ranges = [(0, 4), (17, 9_001), (99_999, SIZE), (50, 50)]
    told: queue.Queue[uproot.source.chunk.Chunk] = queue.Queue()
    with LocalFile(str(path)) as file:
        assert (file.num_bytes, file.file_path, file.closed) == (SIZE, str(path), False)
        chunks = file.chunks(ranges, told)
        assert [chunk.raw_data.tobytes() for chunk in chunks] == [content[a:b] for a, b in ranges]
        assert [told.get_nowait() for _ in ranges] == chunks
    assert file.closed
    with pytest.raises(ValueError, match="closed file"):
        file.chunk(0, 4)


def test_threads_share_a_file(path: Path, content: bytes) -> None:
    file = LocalFile(str(path))
    starts = np.random.default_rng(4).integers(0, SIZE - 500, 4000).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda start: file.chunk(start, start + 500).raw_data.tobytes(), starts))
    assert found == [content[start : start + 500] for start in starts]


@pytest.mark.parametrize(
    ("start", "stop", "found"), [(SIZE - 1, SIZE + 1, 1), (SIZE + 5, SIZE + 9, 0), (0, 1 << 62, SIZE)]
)
def test_what_lies_behind_the_end_is_refused(path: Path, start: int, stop: int, found: int) -> None:
    """Also where a damaged file asks for more than there is memory."""
    chunk = LocalFile(str(path)).chunk(start, stop)
    with pytest.raises(OSError, match=rf"length {stop - start},\s+received {found} bytes from LocalFile"):
        chunk.raw_data  # noqa: B018


def test_what_was_cut_off_meanwhile_is_refused(path: Path, content: bytes) -> None:
    file = LocalFile(str(path))
    before = file.chunk(1000, 2000)
    os.truncate(path, 1500)
    assert before.raw_data.tobytes() == content[1000:2000]
    assert file.chunk(0, 1500).raw_data.tobytes() == content[:1500]
    with pytest.raises(OSError, match=r"length 1000,\s+received 500 bytes from LocalFile"):
        file.chunk(1000, 2000).raw_data  # noqa: B018


def test_it_is_closed_with_the_last_that_refers_to_it(path: Path) -> None:
    file = LocalFile(str(path))
    stream, chunk = file._file, file.chunk(0, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del file
        gc.collect()
        assert not stream.closed
        del chunk
        gc.collect()
        assert stream.closed
