"""How a text file writes a table: its delimiter, quotes, encoding and the like."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from trainer.data.table.row_parser import RowParser
from trainer.data.table.source import BLOCK, Unpacked


@dataclass(frozen=True)
class Dialect:
    """How to read one text file.

    Attributes:
        encoding: a codec of Python.
        delimiter: separates values.
        quote: encloses a value that holds delimiters; None: nothing does.
        escape: takes the next character literally; None: nothing does.
        comment: begins a line that is passed over; None: there are no comments.
        blanks: whether runs of blanks and tabs separate values; `delimiter` is then a blank.
        decimal: the decimal point.
        names: of the columns, in the order of the file.
        unread: those of them that are no columns of the table: an index, and columns without name and values.
        lines: physical lines before the first row.
        offset: bytes before the first row, in UTF-8 and without a byte order mark.
        notes: what was detected that a user might not expect, one sentence each.
    """

    encoding: str
    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    comment: str | None = None
    blanks: bool = False
    decimal: str = "."
    names: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()
    lines: int = 0
    offset: int = 0
    notes: tuple[str, ...] = ()

    @property
    def utf8(self) -> bool:
        """Whether the file is in UTF-8, with or without a byte order mark."""
        return self.encoding in ("utf-8", "utf-8-sig")

    def reader_options(self) -> dict[str, object]:
        """Return the options of `csv.reader`."""
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quote,
            "quoting": csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            "escapechar": self.escape,
            "skipinitialspace": True,
            "strict": True,
        }

    def open(self, path: Path) -> RowParser:
        """Open a file at its first row; undecodable bytes become lone surrogates or U+FFFD."""
        errors = "surrogateescape" if self.utf8 else "replace"
        text = io.TextIOWrapper(
            io.BufferedReader(Unpacked(path), BLOCK), encoding=self.encoding, errors=errors, newline=""
        )
        lines = RowParser(path, text, self.comment, self.delimiter, self.blanks)
        for _ in range(self.lines):
            lines.next_line()
        lines.single_column = len(self.names) == 1
        return lines
