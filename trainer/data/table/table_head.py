"""What stands above the rows of a text file and beside them: its header, titles, units, and columns that are none."""

import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

from trainer.config.quoting import shell_override
from trainer.config.table import Csv
from trainer.data.table.dialect import Dialect
from trainer.data.table.row_parser import RowParser, TextRow, excerpt, parse_rows
from trainer.errors import DataError

MAX_COLUMNS = 100_000
SAMPLE = 200  # rows from which a dialect is detected
CERTAIN = 3  # rows that must all be longer than the header for that to count as intended
FEW = 2  # columns of which one may well be empty in a row
MOST_TITLES = 20  # lines above a header
NUMBER = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?\s*")
WHOLE, FRACTION = re.compile(r"\s*-?[0-9]{1,15}\s*"), re.compile(r"\s*[+-]?[0-9]*[.,][0-9]+([eE][+-]?[0-9]+)?\s*")
YEAR = re.compile(r"\s*(1[89]|20)\d\d\s*")
INDEX = re.compile(r"Unnamed: 0|index|level_0")  # what pandas calls an index that is read as a column
Cells = list[str]


def text_rows(text: str, dialect: Dialect, skip: int) -> tuple[RowParser, Iterator[TextRow]]:
    """Parse the rows of a text in a dialect, without its first `skip` lines."""
    lines = RowParser("", io.StringIO(text, newline=""), dialect.comment, dialect.delimiter, dialect.blanks)
    try:
        for _ in range(skip):
            lines.next_line()
    except StopIteration:
        return lines, iter(())
    return lines, parse_rows(lines, dialect.reader_options())


@dataclass(frozen=True)
class Head:
    """What is above the rows of a file.

    Attributes:
        skip: lines above the header, or above the first row.
        header: whether there is a header.
        more: further rows below the header that are none of the table, such as units.
        lines: all physical lines above the first row.
        notes: what was detected, one sentence each.
    """

    skip: int
    header: bool
    more: int
    lines: int
    notes: list[str]


def find_head(config: Csv, path: Path, text: str, dialect: Dialect, skip: int, wanted: Sequence[str]) -> Head:
    """Find the header, and where the rows begin."""
    lines, found = text_rows(text, dialect, skip)
    rows: list[TextRow] = []
    before: list[int] = []  # of each row the lines above it
    ends: list[int] = []  # and those through it
    for row in islice(found, SAMPLE + MOST_TITLES + 1):
        rows.append(row)
        before.append(row.line - 1)
        ends.append(row.line - 1 + len(lines.row_lines))
    if not rows:
        raise DataError(f"{path}: is empty: it has no line to read.")
    notes: list[str] = []
    at = _with_names(rows, wanted)
    known = at is not None
    if at is None:
        at = _titles(rows) if skip == config.skip_lines == 0 else 0
    if at:
        notes.append(f"{path}: its first {'line is a title' if at == 1 else f'{at} lines are titles'}, passed over.")
    sample = [row.cells for row in rows[at + 1 :] if row.problem is None]
    header = known or _has_header(config, [cell.strip() for cell in rows[at].cells], sample)
    if not header and config.header == "auto":
        notes.append(f"{path}: its first line looks like data, so the columns are numbered (else: data.header=true).")
    if header and not known and config.header == "auto" and _counts([cell.strip() for cell in rows[at].cells], sample):
        notes.append(
            f"{path}: its first line counts the columns, and is read as their names (else: data.header=false)."
        )
    more = 0
    if header and config.header == "auto" and _is_second_header(config, rows[at].cells, sample):
        more = 1
        shown = excerpt(dialect.delimiter.join(sample[0]))
        notes.append(
            f"{path}, line {rows[at + 1].line}: {shown} looks like a second header, as of units, and is passed over "
            "(else: data.header=true)."
        )
    last = at + more
    return Head(before[at], header, more, ends[last] if header else before[at], notes)


def _with_names(rows: Sequence[TextRow], wanted: Sequence[str]) -> int | None:
    """Return which of the first rows has the names that are wanted, and is the header; None: none has.

    One name alone, and numbers as names, occur among values: they are known in the first row only.
    """
    numbered = all(name.isdigit() for name in wanted)
    for at, row in enumerate(rows[: MOST_TITLES if len(wanted) > 1 and not numbered else 1]):
        cells = [cell.strip() for cell in row.cells]
        counts = cells == [str(number) for number in range(len(cells))] and len(cells) > FEW
        if wanted and {*wanted} <= {*cells} and (counts or not numbered):
            return at
    return None


def _titles(rows: Sequence[TextRow]) -> int:
    """Return how many rows at the beginning are titles: they have one value, where nearly all others have more."""
    widths = Counter(len(row.cells) for row in rows)
    width, count = widths.most_common(1)[0]
    if width < 2 or count < 0.8 * (len(rows) - MOST_TITLES):
        return 0
    titles = 0
    for row in rows[:MOST_TITLES]:
        filled = sum(bool(cell.strip()) for cell in row.cells)
        if filled > 1 or (len(row.cells) == width and (filled == 0 or width == FEW)):
            break
        titles += 1
    return titles if titles < len(rows) and len(rows[titles].cells) == width else 0


def _is_second_header(config: Csv, first: Cells, sample: list[Cells]) -> bool:
    """Return whether the row below the header is none of the table: words in each column that is else of numbers."""
    if len(sample) < CERTAIN + 1 or len(sample[0]) != len(first):
        return False
    missing = set(config.missing_words())
    columns = [[row[at].strip() for row in sample if at < len(row)] for at in range(len(first))]
    numeric = [
        column[0]
        for column in columns
        if (filled := [cell for cell in column[1:] if cell not in missing]) and all(map(NUMBER.fullmatch, filled))
    ]
    return len(numeric) > 1 and not any(cell in missing or NUMBER.fullmatch(cell) for cell in numeric)


def _has_header(config: Csv, first: Cells, rest: list[Cells]) -> bool:
    """Return whether the first line names the columns: as the key says, or words above numbers, or names that keys use.

    Where every column holds words, a first line is data if each of its words occurs again in its column.
    """
    if config.header != "auto":
        return config.header == "true"
    if any(name in first for name in config.named_columns() if not name.isdigit()):
        return True
    if _counts(first, rest):
        return True
    known = set(config.missing_words())
    columns = [[row[index].strip() for row in rest if index < len(row)] for index in range(len(first))]
    names = values = 0
    for cell, column in zip(first, columns, strict=True):
        filled = [value for value in column if value not in known]
        if not filled or not all(NUMBER.fullmatch(value) for value in filled) or YEAR.fullmatch(cell):
            continue
        is_number = NUMBER.fullmatch(cell) is not None
        values += is_number
        names += not is_number and cell not in known
    if names or values:
        return names >= values
    if not rest:
        return not any(NUMBER.fullmatch(cell) for cell in first)
    return len(rest) < 3 or not all(cell in column for cell, column in zip(first, columns, strict=True))


def _counts(first: Cells, rest: list[Cells]) -> bool:
    """Return whether a line of numbers counts the columns, as pandas writes it: 0, 1, 2 over other numbers.

    Other numbers at equal distances, as 10, 20, 30, do so above columns of fractions.
    """
    if len(first) < 2 or len(rest) < CERTAIN or not all(WHOLE.fullmatch(cell) for cell in first):
        return False
    numbers = [int(cell) for cell in first]
    if len({after - before for before, after in pairwise(numbers)} - {0}) != 1:
        return False
    columns = [[row[at].strip() for row in rest if at < len(row)] for at in range(len(first))]
    fractions = sum(
        sum(FRACTION.fullmatch(cell) is not None for cell in column) > len(column) / 2 for column in columns
    )
    counting = numbers[0] in (0, 1) and numbers[1] - numbers[0] == 1
    return fractions > len(columns) / 2 or (counting and len(first) > 2 and numbers[0] == 0 and [*first] not in rest)


def column_names(
    path: Path, header: TextRow, sample: list[Cells], notes: list[str], used: Collection[str]
) -> tuple[list[str], set[str]]:
    """Read the names of the columns from the header; return them, and those that are no columns of the table.

    A first column without a name is an index, for which R writes no name at all; a last one comes from lines that end
    with the delimiter, where the header may or may not do so. Unless a key names it, an index is none of the table; nor
    is a column without name and values.
    """
    where = f"{path}, line {header.line}"
    if header.problem:
        raise DataError(f"{where}: {header.problem}.")
    names = [cell.strip() for cell in header.cells]
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{where}: has {len(names):,} columns; more than {MAX_COLUMNS:,} are not read.")
    if len(sample) >= CERTAIN and all(len(row) == len(names) + 1 for row in sample):
        names.insert(0 if any(row[-1].strip() for row in sample) else len(names), "")
    unread = _name_the_nameless(path, names, sample, notes)
    nameless = not header.cells[0].strip()
    is_index = (names[0] == "index" and nameless) or (INDEX.fullmatch(names[0]) is not None and _ascends(sample))
    if is_index and names[0] not in used and len(names) > len(unread) + 1:
        unread.add(names[0])
        way_out = shell_override("data.numeric", [names[0]])
        notes.append(f"{path}: its first column, {names[0]}, is an index and left out (else: {way_out}).")
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(
                f"{where}, column {number} of {len(names)}: has no name; give it one, or set data.header=false."
            )
        if any(ord(character) < 32 or "\ud800" <= character <= "\udfff" for character in name):
            raise DataError(f"{where}, column {number}: its name {name!r} is not clean text; see data.encoding.")
        if name in seen:
            raise DataError(f"{where}: columns {seen[name]} and {number} are both named '{name}'; rename one.")
        seen[name] = number
    return names, unread


def _name_the_nameless(path: Path, names: list[str], sample: list[Cells], notes: list[str]) -> set[str]:
    """Give names to columns without one, in `names`; return those that have no values either."""
    empty = set[str]()
    for number, name in enumerate(names):
        filled = any(number < len(row) and row[number].strip() for row in sample)
        if name or len(names) == 1 or (number == 0 and not filled):
            continue
        names[number] = _free("unnamed" if number else "index", names)
        if number and not filled:
            empty.add(names[number])
        elif number:
            notes.append(f"{path}: its column {number + 1} has no name and is called {names[number]}.")
    if empty:
        notes.append(f"{path}: {len(empty)} column{'s' * (len(empty) > 1)} without name and values, left out.")
    return empty


def _free(name: str, names: Collection[str]) -> str:
    """Return the name, with a number where it is taken."""
    return next(one for one in (name, *(f"{name}_{i}" for i in range(2, MAX_COLUMNS))) if one not in names)


def _ascends(sample: list[Cells]) -> bool:
    """Return whether the first column counts the rows: whole numbers, one more in each."""
    cells = [row[0].strip() for row in sample if row]
    if len(cells) < CERTAIN or not all(WHOLE.fullmatch(cell) for cell in cells):
        return False
    return all(int(after) == int(before) + 1 for before, after in pairwise(cells))
