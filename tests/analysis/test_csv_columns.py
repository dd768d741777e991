"""Large CSV files: line numbers through comments and empty lines, and every malformed file's message."""

import bz2
import gzip
from pathlib import Path

import pyarrow.compute as pc
import pytest

from trila.analysis import csv_columns
from trila.analysis.csv_columns import NUMBER, matched, read_columns
from trila.processors.errors import InputError

TEXT = "# a comment\n\n#Run,LS,value\r\n1,2,0.5\r\n\n# run,ls too\n 3,4,1e3 \n#Run,LS,value\n5,6,7"


def read(path: Path) -> csv_columns.Columns:
    return read_columns(str(path), "table", "make it so")


@pytest.mark.parametrize(("suffix", "packed"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)])
def test_lines_and_columns(tmp_path: Path, suffix: str, packed: type) -> None:
    """A header that comes again, as in files put together, is no data."""
    path = tmp_path / f"table.csv{suffix}"
    path.write_bytes(packed(TEXT.replace("# run,ls too\n", "# what\n").encode()))
    found = read(path)
    assert found.names == ["run", "ls", "value"]
    assert found.line.tolist() == [4, 7, 9]
    assert found.column("value").to_pylist() == ["0.5", "1e3", "7"]
    assert matched(found, "ls", r"(?P<n>\d+)(?P<none>x)?", "a number")["none"].to_pylist() == ["", "", ""]
    kept = found.kept(pc.equal(found.column("ls"), "4"))
    assert (kept.line.tolist(), kept.column("value").to_pylist()) == ([7], ["1e3"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no line that names its columns, such as '#run:fill,ls,...'; make it so"),
        (b"1,2,3\n", "has no line that names its columns"),
        (b"#run,ls,value\n", "holds no data, only 'run,ls,value'; make it so"),
        (
            b"#run,ls\n1,2\n#run,ls,v\n1,2,3\n",
            "is of two kinds: '#run,ls' and '#run,ls,v'; give files of one kind",
        ),
        (
            b"#run,ls,v\n1,2,3\n\n1,2\n",
            r"line 4: 2 columns, expected 3 \(run,ls,v\); is the file cut off\? make it so",
        ),
        (b"#run\n\xff\n", "is not text .*; give the CSV file itself"),
    ],
)
def test_malformed_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"table .*table.csv.*{message}"):
        read(path)


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"table .*no\.csv cannot be read: No such file or directory; check"):
        read(tmp_path / "no.csv")
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(TEXT.encode() * 100)[:60])
    with pytest.raises(InputError, match=r"cut\.csv\.gz cannot be read: .*; check the file"):
        read(cut)
    (tmp_path / "large.csv").write_text(TEXT)
    monkeypatch.setattr(csv_columns, "_LARGEST_FILE", 0)
    with pytest.raises(
        InputError, match=r"large\.csv is larger than 0 MiB; make one file for each year of data"
    ):
        read(tmp_path / "large.csv")


@pytest.mark.parametrize("value", ["nan", "-1", "inf", "", "1e999", "0x1", "1 2", "--"])
def test_no_number(tmp_path: Path, value: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"#run,value\n\n1,2\n1,{value}\n")
    with pytest.raises(
        InputError, match=f"table.csv, line 4: value is '{value}', expected a number; correct the line"
    ):
        matched(read(path), "value", f"(?P<n>{NUMBER})", "a number")
