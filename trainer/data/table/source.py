"""The files of a table: which they are, and a stream of their decompressed bytes."""

import bz2
import glob
import gzip
import io
import itertools
import json
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainer.config.quoting import shell_override
from trainer.data.files.cache import FOLDER
from trainer.errors import ConfigError, DataError, did_you_mean
from trainer.system.home import expanded

# A file that unpacks to more than this and to more than RATIO times its size is rejected: real data is compressed 3 to
# 50 times, a gzip bomb 1,000 times, and bombs of other methods a million times.
UNPACKED, RATIO = 2**28, 200
BLOCK = 2**20

PACKED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda path: pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"),
}
# What files are that are often given by mistake, by how they begin, and what to do about it.
_CSV = "write it as CSV or Parquet"
FOREIGN: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(start, re.DOTALL | re.IGNORECASE), what)
    for start, what in (
        (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it: git lfs pull"),
        (rb"\s*(<!doctype html|<html)", "a web page, perhaps of an error or a login; download the file itself"),
        (rb"\s*<(\?xml|error|\w+:)", f"XML, perhaps an error of a server; download the file itself, or {_CSV}"),
        (rb"\s*(\[\s*[\[{]|\{\s*\")", "JSON in one piece; write an object in each line (JSON lines), or CSV"),
        (rb".{257}ustar", "a tar archive; unpack it, and name the table in it"),
        (rb"\x89PNG", "a PNG image"),
        (rb"\xff\xd8\xff", "a JPEG image"),
        (rb"GIF8", "a GIF image"),
        (rb"%PDF", "a PDF document; copy its table to CSV"),
        (rb"PK\x03\x04", "a ZIP archive; unpack it, and name the table in it"),
        (rb"\xd0\xcf\x11\xe0", "an old Excel workbook or another document of Office; export the sheet as CSV"),
        (rb"SQLite format 3", f"an SQLite database; {_CSV}"),
        (rb"\x89HDF", f"an HDF5 file; {_CSV}"),
        (rb"\x93NUMPY", "a NumPy array; see data=tensors"),
        (rb"ARROW1|FEA1|\xff\xff\xff\xff", "an Arrow or Feather file; write it as Parquet"),
        (rb"ORC", "an ORC file; write it as Parquet"),
        (rb"Obj\x01", "an Avro file; write it as Parquet"),
        (rb"\$FL[23]", f"an SPSS file (.sav); {_CSV}: pandas.read_spss reads it"),
        (rb"<stata_dta>|[\x69-\x73][\x01\x02]\x01\x00", f"a Stata file (.dta); {_CSV}: pandas.read_stata reads it"),
        (rb"\0{12}\xc2\xea\x81\x60", f"a SAS file (.sas7bdat); {_CSV}: pandas.read_sas reads it"),
        (
            rb"RD[AX][23]\n|[XAB]\n\0\0\0[\x02\x03]",
            "an R data file; write it as CSV: write.csv(x, 'x.csv', row.names=FALSE)",
        ),
        (rb"\x80[\x02-\x05][\x95c}\]q(]", f"a Python pickle, which can run code and is not read; {_CSV}: to_parquet"),
        (rb"\x7fELF", "a program"),
    )
)
FOREIGN_BYTES = 512  # of the beginning, in which they show
EXCEL = (b"xl/workbook", b"xl/worksheets", b"xl/_rels")  # of which one is among the names at the beginning


def source_files(path: Any) -> tuple[Path, ...]:
    """Find the files that `data.path` names; those of a pattern are in alphabetical order.

    Raises:
        ConfigError: where nothing is named.
        DataError: for a path that is no file, and for a pattern that matches nothing.
    """
    named = path if isinstance(path, list) else [path] if path is not None else []
    if not named:
        raise ConfigError("data.path is needed: the file of the table, a pattern such as 'part-*.csv', or a list.")
    found = [match for name in named for match in _matches(expanded(name))]
    twice = next((file for file in found if found.count(file) > 1), None) if len(found) < 10_000 else None
    if twice is not None:
        raise ConfigError(f"data.path={path}: names {twice} twice.")
    return tuple(found)


def _matches(path: Path) -> list[Path]:
    """Return the file itself, or the files that match a pattern."""
    if path.is_file():
        return [path]
    if path.is_dir():
        endings = Counter(file.suffix for file in itertools.islice(path.rglob("*.*"), 1000) if file.is_file())
        ending = endings.most_common(1)[0][0] if endings else ".csv"
        deep = "" if any(path.glob(f"*{ending}")) or not endings else "**/"
        pattern = shell_override("data.path", f"{glob.escape(str(path))}/{deep}*{ending}")
        raise DataError(f"data.path={path}: is a directory; {pattern} reads the files in it.")
    if any(sign in str(path) for sign in "*?["):
        matches = Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))
        if found := sorted(match for match in matches if FOLDER not in match.parts and match.is_file()):
            return found
        raise DataError(f"data.path={path}: no file matches this pattern.")
    if path.exists():
        raise DataError(f"data.path={path}: is no regular file.")
    siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f"data.path={path}: no such file.{did_you_mean(path.name, siblings)}")


def first_bytes(path: Path, count: int = 16) -> bytes:
    """Read the first bytes of a file as they are stored; raise `DataError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def typed_kind(path: Path) -> str | None:
    """Return which format of typed values a file has, whatever its name; None for text.

    JSON lines begin with an object that ends in the first line, and go on; ARFF begins with its relation.
    """
    start = first_bytes(path, FOREIGN_BYTES)
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"PK\x03\x04"):
        return "excel" if any(name in first_bytes(path, 1 << 16) for name in EXCEL) else None
    if any(start.startswith(magic) for magic in PACKED):
        with Unpacked(path) as file:
            start = file.read(FOREIGN_BYTES)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"\{\s*\"", text):
        with Unpacked(path) as file:
            lines = file.read(BLOCK).lstrip(b"\xef\xbb\xbf \t\r\n").split(b"\n", 2)
        return "jsonl" if len(lines) > 1 and lines[1].strip() and _is_object(lines[0]) else None
    return "arff" if re.match(rb"(%[^\n]*\n|\s*\n)*\s*@relation\s", text, re.IGNORECASE) else None


def _is_object(line: bytes) -> bool:
    """Return whether a line is an object of JSON."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def foreign_kind(start: bytes) -> str | None:
    """Return what a file is that is no table, by its first bytes (unpacked), and what to do about it; None: text."""
    return next((what for pattern, what in FOREIGN if pattern.match(start)), None)


class Unpacked(io.RawIOBase):
    """The bytes of a file, decompressed while they are read (gzip, bzip2, xz or zstd, as its first bytes say).

    Raises:
        DataError: for a file that cannot be opened, is damaged or cut short, or is a decompression bomb.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0
        start = first_bytes(path)
        opener = next((opener for magic, opener in PACKED.items() if start.startswith(magic)), None)
        self._limit = max(UNPACKED, RATIO * path.stat().st_size) if opener is not None else None
        self._file = opener(path) if opener is not None else path.open("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, b"" at the end."""
        try:
            block = self._file.read(BLOCK if size < 0 else size)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
            raise DataError(
                f"{self.path}: damaged or cut short: cannot be read beyond byte {self.position:,} ({error})."
            ) from error
        self.position += len(block)
        if self._limit is not None and self.position > self._limit:
            raise DataError(
                f"{self.path}: unpacks to more than {RATIO} times its {self.path.stat().st_size:,} bytes, as no table "
                "of measurements does. If it is genuine, unpack it yourself."
            )
        return block

    def readinto(self, buffer: Any) -> int:
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
