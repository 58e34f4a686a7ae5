"""The rows of a text file one by one, with the physical lines they stand in: slow, exact, by Python's `csv` module."""

import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TextIO

from trainer.errors import DataError

MAX_LINE = 2**24  # characters
SHOWN = 60  # characters of a line or value in a message


class TextRow(NamedTuple):
    """One row. Where its quotes are wrong, `problem` says how, and the last cell is the one at fault."""

    line: int  # the physical line it begins in, from 1
    cells: list[str]
    text: str  # that line
    problem: str | None = None


class RowParser:
    """The physical lines of a text, for a `csv.reader` to take; remembers those of the row under way.

    Blank lines and comments between rows are passed over. A line of blanks is a row where the table has one column.

    Args:
        name: of the file, for errors.
        text: opened with newline="".
        comment: lines that begin with it are passed over.
        delimiter: a line that holds one is not blank.
        blanks: runs of blanks and tabs separate values.
    """

    def __init__(self, name: object, text: TextIO, comment: str | None, delimiter: str, blanks: bool = False) -> None:
        self.number = 0  # of the last line handed out
        self.characters = 0  # of all lines handed out or passed over
        self.held: list[str] = []  # the lines of the row under way
        self.closing: re.Pattern[str] | None = None  # blanks that are taken away between a quote and a delimiter
        self.alone = False  # whether the table has one column
        self._name, self._text, self._comment, self._delimiter, self._blanks = name, text, comment, delimiter, blanks
        self._again: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.take()
        while not self.held and self._passed_over(line):
            line = self.take()
        self.held.append(line)
        if self._blanks:
            line = line.replace("\t", " ").rstrip() + "\n"
        return line if self.closing is None else self.closing.sub("", line)

    def take(self) -> str:
        """The next line, whatever it holds."""
        line = self._again.popleft() if self._again else self._text.readline(MAX_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == MAX_LINE:
            raise DataError(f"{self._name}, line {self.number}: is longer than {MAX_LINE:,} characters.")
        self.characters += len(line)
        return line

    def again(self, lines: list[str]) -> None:
        """Hand out the last `lines` once more."""
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)
        self.characters -= sum(map(len, lines))
        self.held = self.held[: len(self.held) - len(lines)]

    def _passed_over(self, line: str) -> bool:
        if self._comment is not None and line.startswith(self._comment):
            return True
        blank = line.strip("\r\n") if self.alone else line.strip()
        return not blank and (self._blanks or self._delimiter not in line)


def records(lines: RowParser, options: dict[str, object]) -> Iterator[TextRow]:
    """The rows. One whose quotes are wrong is given as its first line with a `problem`; the next line is the next row.

    Args:
        options: of `csv.reader`, with strict=True.
    """
    while True:
        try:
            for cells in csv.reader(lines, **options):  # type: ignore[arg-type]  # typeshed wants each by name
                if cells:
                    yield TextRow(lines.number - len(lines.held) + 1, cells, lines.held[0])
                lines.held.clear()
            return
        except csv.Error as error:
            problem = _problem(error)
        quote, delimiter = (re.escape(str(options[key])) for key in ("quotechar", "delimiter"))
        closing = re.compile(f"(?<={quote})[ \t]+(?=[{delimiter}\r\n]|$)")
        if lines.closing is None and any(closing.search(line) for line in lines.held):
            lines.closing = closing  # `"a" ,"b"`: once more, without those blanks
            lines.again(lines.held)
            continue
        first, column = lines.held[0], _faulty_column("".join(lines.held), quote, delimiter)
        lines.again(lines.held[1:])
        yield TextRow(lines.number, [""] * (column + 1), first, problem)
        lines.held.clear()


def _faulty_column(text: str, quote: str, delimiter: str) -> int:
    """The first cell, from 0, that is too long, or neither quoted as a whole nor without a quote at its beginning."""
    cell = re.compile(
        rf"[ ]*(?:{quote}(?:[^{quote}]|{quote}{quote})*+{quote}|(?![ ]*{quote})[^{delimiter}\r\n]*){delimiter}"
    )
    column = position = 0
    while (match := cell.match(text, position)) and match.end() - position <= csv.field_size_limit():
        column, position = column + 1, match.end()
    return column


def _problem(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text:
        return "a quote is opened and never closed"
    if "field larger" in text:
        return f"a value is longer than {csv.field_size_limit():,} characters; is a quote left open?"
    return f"a quoted value goes on after its closing quote ({text})"


def shown(text: str) -> str:
    """A line or value, short and printable, in quotes."""
    text = text.rstrip("\r\n")
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
