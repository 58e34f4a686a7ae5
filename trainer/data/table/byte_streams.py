"""Byte streams for pyarrow to parse: the bytes of a file, checked as they pass; or valid rows as plain CSV."""

import codecs
import csv
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from trainer.data.table.dialect import Dialect
from trainer.data.table.source import BLOCK, Unpacked


class DoubtError(Exception):
    """What pyarrow makes of a file may be wrong: the file must be read again, in another way."""


class QuotesError(DoubtError):
    """A file that was read as if it had no quotes has some."""


class EncodingError(DoubtError):
    """A file that began in ASCII, and was read as UTF-8, is not UTF-8."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is not UTF-8")
        self.path = path


class TypesError(DoubtError):
    """A value is not of the type of its column."""


class CheckedStream(io.RawIOBase):
    """The rows of a file in UTF-8. Each block is checked as it passes, at a small part of the cost of parsing it.

    Args:
        path: the file.
        dialect: how it writes its table.
        quotes: whether values may be quoted.

    Raises:
        DoubtError: while reading, for what pyarrow accepts silently or reads in another way than `csv.reader` with
            strict=True: NUL, undecodable bytes, comments, and quotes that open inside a value, never close, or are
            followed by more of the value.
    """

    def __init__(self, path: Path, dialect: Dialect, quotes: bool) -> None:
        self._file = Unpacked(path)
        self._path, self._utf8, self._ascii = path, dialect.utf8, True
        kind = codecs.getincrementaldecoder("utf-8" if dialect.utf8 else dialect.encoding)
        self._decoder = kind("strict" if dialect.utf8 else "replace")
        self._skip = dialect.offset + (len(codecs.BOM_UTF8) if dialect.encoding == "utf-8-sig" else 0)
        self._comments = [f"{end}{dialect.comment}".encode() for end in "\n\r"] if dialect.comment else []
        self._quote = dialect.quote.encode() if dialect.quote else None
        self._quotes, self._count, self._ended = quotes, 0, False
        self._tail = b"\n"  # the last bytes before the block
        self._beside = np.zeros(256, dtype=bool)  # what may stand before an opening quote and after a closing one
        self._beside[list(f"{dialect.delimiter}{dialect.quote or ''}\r\n".encode())] = True

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next block, b"" at the end."""
        while not self._ended:
            raw = self._file.read(BLOCK if size < 0 else size)
            self._ended = not raw
            block = self._in_utf8(raw)
            skipped = min(self._skip, len(block))
            self._skip -= skipped
            block = block[skipped:] if skipped else block
            self._check(block if raw else block + b"\n")
            if block:
                return block
        if self._count % 2:
            raise DoubtError("a quote is open at the end")
        return b""

    def _in_utf8(self, raw: bytes) -> bytes:
        """Convert a block to UTF-8; an empty one ends the file."""
        if not self._utf8:
            text = self._decoder.decode(raw, final=not raw)
            if "\ufffd" in text:
                raise DoubtError("undecodable bytes")
            return text.encode()
        if raw.isascii() and not self._decoder.getstate()[0] and raw:
            return raw
        try:
            self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            if self._ascii and error.object[: error.start].isascii():
                raise EncodingError(self._path) from error
            raise DoubtError("undecodable bytes") from error
        self._ascii = self._ascii and raw.isascii()
        return raw

    def _check(self, block: bytes) -> None:
        """Raise `DoubtError` where pyarrow might misread the block."""
        if b"\0" in block:
            raise DoubtError("NUL")
        if self._comments or (self._quote is not None and (self._quotes or self._quote in block)):
            around = self._tail + block
            if any(comment in around for comment in self._comments):
                raise DoubtError("comments")
            self._check_quotes(around)
        self._tail = (self._tail + block[-2:])[-2:]

    def _check_quotes(self, around: bytes) -> None:
        """Raise `DoubtError` unless every second quote opens a value, or goes on with it, and the others close it."""
        if self._quote is None:
            return
        if self._quote in around and not self._quotes:
            raise QuotesError("quotes")
        data = np.frombuffer(around, dtype=np.uint8)
        at = np.flatnonzero(data[1:-1] == self._quote[0]) + 1
        opening, closing = at[self._count % 2 :: 2], at[1 - self._count % 2 :: 2]
        if not (self._beside[data[opening - 1]].all() and self._beside[data[closing + 1]].all()):
            raise DoubtError("quotes inside values")
        self._count += len(at)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class RewrittenStream(io.RawIOBase):
    """Rows as plain CSV: commas, double quotes where needed, UTF-8, CRLF (so that the writer quotes CR and LF)."""

    def __init__(self, rows: Iterator[list[str]]) -> None:
        self._rows, self._bytes = rows, bytearray()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next block, b"" at the end."""
        size = BLOCK if size < 0 else size
        while len(self._bytes) < size:
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\r\n").writerows(islice(self._rows, 100))
            if not text.tell():
                break
            self._bytes += text.getvalue().encode("utf-8", "replace")  # writes "?" in columns that are not read
        block = bytes(self._bytes[:size])
        del self._bytes[:size]
        return block
