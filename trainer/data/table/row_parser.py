"""The rows of a text file one by one, with their physical lines: slow and exact, by Python's `csv` module."""

import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TextIO

from trainer.errors import DataError

MAX_LINE = 2**24  # characters
SHOWN = 60  # characters of a line or value in a message


class TextRow(NamedTuple):
    """One row of a text file.

    Attributes:
        line: the physical line in which it begins, from 1.
        cells: its values.
        text: the physical line in which it begins, as it is written.
        problem: what is wrong with its quotes, the last cell being the one at fault; None: nothing.
    """

    line: int
    cells: list[str]
    text: str
    problem: str | None = None


class RowParser:
    """Hands the physical lines of a text to a `csv.reader`, and remembers those of the current row.

    Blank lines and comments between rows are passed over. A line of blanks is a row where the table has one column.

    Args:
        name: of the file, for errors.
        text: opened with newline="".
        comment: lines that begin with it are passed over; None: there are no comments.
        delimiter: a line that holds one is not blank.
        blanks: whether runs of blanks and tabs separate values.

    Attributes:
        number: of the last line handed out, from 1.
        characters: of all lines handed out or passed over.
        row_lines: the lines of the current row.
        closing: matches the blanks to be removed between a closing quote and a delimiter; None: they stay.
        single_column: whether the table has one column.
    """

    def __init__(self, name: object, text: TextIO, comment: str | None, delimiter: str, blanks: bool = False) -> None:
        self.number = self.characters = 0
        self.row_lines: list[str] = []
        self.closing: re.Pattern[str] | None = None
        self.single_column = False
        self._name, self._text, self._comment, self._delimiter, self._blanks = name, text, comment, delimiter, blanks
        self._pushed_back: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.next_line()
        while not self.row_lines and self._is_between_rows(line):
            line = self.next_line()
        self.row_lines.append(line)
        if self._blanks:
            line = line.replace("\t", " ").rstrip() + "\n"
        return line if self.closing is None else self.closing.sub("", line)

    def next_line(self) -> str:
        """Return the next physical line, whatever it holds; raise `StopIteration` at the end."""
        line = self._pushed_back.popleft() if self._pushed_back else self._text.readline(MAX_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == MAX_LINE:
            raise DataError(f"{self._name}, line {self.number}: is longer than {MAX_LINE:,} characters.")
        self.characters += len(line)
        return line

    def push_back(self, lines: list[str]) -> None:
        """Take back the last `lines`, which are handed out once more."""
        self._pushed_back.extendleft(reversed(lines))
        self.number -= len(lines)
        self.characters -= sum(map(len, lines))
        self.row_lines = self.row_lines[: len(self.row_lines) - len(lines)]

    def _is_between_rows(self, line: str) -> bool:
        """Return whether a line is blank or a comment."""
        if self._comment is not None and line.startswith(self._comment):
            return True
        content = line.strip("\r\n") if self.single_column else line.strip()
        return not content and (self._blanks or self._delimiter not in line)


def parse_rows(lines: RowParser, options: dict[str, object]) -> Iterator[TextRow]:
    """Yield the rows. One whose quotes are wrong ends with its first line and has a `problem`; the next line follows.

    Args:
        lines: of the file.
        options: of `csv.reader`, with strict=True.
    """
    while True:
        try:
            for cells in csv.reader(lines, **options):  # type: ignore[arg-type]  # typeshed wants each by name
                if cells:
                    yield TextRow(lines.number - len(lines.row_lines) + 1, cells, lines.row_lines[0])
                lines.row_lines.clear()
            return
        except csv.Error as error:
            problem = _problem(error)
        quote, delimiter = (re.escape(str(options[key])) for key in ("quotechar", "delimiter"))
        closing = re.compile(f"(?<={quote})[ \t]+(?=[{delimiter}\r\n]|$)")
        if lines.closing is None and any(closing.search(line) for line in lines.row_lines):
            lines.closing = closing  # `"a" ,"b"`: once more, without those blanks
            lines.push_back(lines.row_lines)
            continue
        first, column = lines.row_lines[0], _faulty_column("".join(lines.row_lines), quote, delimiter)
        lines.push_back(lines.row_lines[1:])
        yield TextRow(lines.number, [""] * (column + 1), first, problem)
        lines.row_lines.clear()


def _faulty_column(text: str, quote: str, delimiter: str) -> int:
    """Find the first cell, from 0, whose quotes are wrong: neither around the whole of it nor away from its start.

    A cell that is too long is at fault too.
    """
    cell = re.compile(
        rf"[ ]*(?:{quote}(?:[^{quote}]|{quote}{quote})*+{quote}|(?![ ]*{quote})[^{delimiter}\r\n]*){delimiter}"
    )
    column = position = 0
    while (match := cell.match(text, position)) and match.end() - position <= csv.field_size_limit():
        column, position = column + 1, match.end()
    return column


def _problem(error: csv.Error) -> str:
    """Say in words what an error of Python's `csv` means."""
    text = str(error)
    if "unexpected end" in text:
        return "a quote is opened and never closed"
    if "field larger" in text:
        return f"a value is longer than {csv.field_size_limit():,} characters; is a quote left open?"
    return f"a quoted value goes on after its closing quote ({text})"


def excerpt(text: str) -> str:
    """Return a line or value for a message: in quotes, printable, and cut to a few words."""
    text = text.rstrip("\r\n")
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
