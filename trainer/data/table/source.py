"""The files of a table: which they are, and a stream of their decompressed bytes."""

import bz2
import glob
import gzip
import io
import lzma
import zlib
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
FOREIGN = {  # the first bytes of files that are often given by mistake
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; unpack it, or export the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; export the sheet as CSV",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"ARROW1": "an Arrow file; write it as Parquet",
    b"\x7fELF": "a program",
}


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
        pattern = shell_override("data.path", f"{glob.escape(str(path))}/*.csv")
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


def is_parquet(path: Path) -> bool:
    """Return whether it is a Parquet file, whatever its name."""
    return first_bytes(path, 4) == b"PAR1"


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
