"""How a text file writes a table."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from trainer.data.table.row_parser import RowParser
from trainer.data.table.source import BLOCK, Unpacked


@dataclass(frozen=True)
class Dialect:
    """How to read one file.

    Attributes:
        blanks: values are separated by runs of blanks and tabs; `delimiter` is then a blank.
        names: of the columns, in the order of the file.
        lines, offset: what comes before the rows: physical lines, and bytes in UTF-8 without a byte order mark.
        notes: what was concluded that a user might not expect.
    """

    encoding: str
    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    comment: str | None = None
    blanks: bool = False
    decimal: str = "."
    names: tuple[str, ...] = ()
    lines: int = 0
    offset: int = 0
    notes: tuple[str, ...] = ()

    @property
    def utf8(self) -> bool:
        return self.encoding in ("utf-8", "utf-8-sig")

    def reader_options(self) -> dict[str, object]:
        """For `csv.reader`."""
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quote,
            "quoting": csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            "escapechar": self.escape,
            "skipinitialspace": True,
            "strict": True,
        }

    def open(self, path: Path) -> RowParser:
        """The lines of the file from its first row on; undecodable bytes become lone surrogates or U+FFFD."""
        errors = "surrogateescape" if self.utf8 else "replace"
        text = io.TextIOWrapper(
            io.BufferedReader(Unpacked(path), BLOCK), encoding=self.encoding, errors=errors, newline=""
        )
        lines = RowParser(path, text, self.comment, self.delimiter, self.blanks)
        for _ in range(self.lines):
            lines.take()
        lines.alone = len(self.names) == 1
        return lines
