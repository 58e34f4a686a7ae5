"""The dialect of a text file: as the keys say, or detected from its first lines."""

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from trainer.config.table import Csv
from trainer.data.table import encodings
from trainer.data.table.dialect import Dialect
from trainer.data.table.row_parser import MAX_LINE, RowParser, TextRow, parse_rows
from trainer.data.table.source import BLOCK, FOREIGN, Unpacked, first_bytes
from trainer.errors import ConfigError, DataError

DELIMITERS = {"tab": "\t", "\\t": "\t", "semicolon": ";", "pipe": "|", "space": " ", "comma": ","}
CANDIDATES = ("\t", ";", "|", ",")  # of two that fit equally well the first: a comma may be a decimal point
MAX_COLUMNS = 100_000
SAMPLE = 200  # rows from which a dialect is detected
CERTAIN = 3  # rows that must all be longer than the header for that to count as intended
NUMBER = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?\s*")
COMMA_NUMBER, POINT_NUMBER = (re.compile(rf"\s*[+-]?\d*{point}\d+([eE][+-]?\d+)?\s*") for point in (",", r"\."))
YEAR = re.compile(r"\s*(1[89]|20)\d\d\s*")
Cells = list[str]


def sniff(config: Csv, path: Path) -> Dialect:
    """Detect the dialect of a file, as far as the keys leave it open.

    Raises:
        ConfigError: for a key that is no delimiter, quote or encoding.
        DataError: for a file that is not text, is empty, or has a header that does not name its columns.
    """
    if not config.comment and config.comment is not None:
        raise ConfigError("data.comment='': would make a comment of every line; null means that there are none.")
    text, encoding = _text(config, path)
    quote = _quote(text) if config.quote == "auto" else _character("quote", config.quote, {"none": None})
    escape = None if config.escape is None else _character("escape", config.escape, {})
    dialect = Dialect(encoding, quote=quote, escape=escape, comment=config.comment)
    if config.delimiter == "auto":
        dialect = _with_delimiter(dialect, text, config.skip_lines)
    else:
        delimiter = _character("delimiter", config.delimiter, DELIMITERS) or ","
        dialect = replace(dialect, delimiter=delimiter, blanks=delimiter == " ")
    lines, rows = _rows(text, dialect, config.skip_lines)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: is empty: it has no line to read.")
    before, through = lines.characters - sum(map(len, lines.row_lines)), lines.characters
    sample = [row.cells for row in islice(rows, SAMPLE) if row.problem is None]
    header = _has_header(config, [cell.strip() for cell in first.cells], sample)
    notes = [] if dialect.utf8 else [f"{path}: read as {encoding}."]
    if not header and config.header == "auto":
        notes.append(f"{path}: its first line looks like data, so the columns are numbered (else: data.header=true).")
    consumed = text[: through if header else before]
    decimal = _decimal(dialect, sample) if config.decimal == "auto" else config.decimal
    return replace(
        dialect,
        names=_names(path, first, sample, notes)
        if header
        else tuple(str(number) for number in range(len(first.cells))),
        lines=len(io.StringIO(consumed, newline="").readlines()),
        offset=len(consumed.encode("utf-8", "surrogateescape")),
        decimal=decimal,
        notes=(*notes, *([f"{path}: read with a decimal comma."] if decimal == "," else [])),
    )


def _text(config: Csv, path: Path) -> tuple[str, str]:
    """Read the first complete lines of a file, and detect their encoding."""
    start = first_bytes(path)
    foreign = next((kind for magic, kind in FOREIGN.items() if start.startswith(magic)), None)
    if foreign is not None:
        raise DataError(f"{path}: is no table in text: it begins like {foreign}.")
    with Unpacked(path) as file:
        head = b""
        while (block := file.read(BLOCK)) and len(head) < MAX_LINE:
            head += block
            if len(head) >= BLOCK and b"\n" in head:
                break
    encoding = (
        encodings.guess_encoding(head) if config.encoding == "auto" else encodings.named_encoding(config.encoding, head)
    )
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape" if encoding.startswith("utf-8") else "replace")
    text = decoder.decode(head)
    ends = text.rfind("\n") + 1 or text.rfind("\r") + 1
    if not block:
        return text, encoding
    if not ends:
        raise DataError(f"{path}, line 1: is longer than {MAX_LINE:,} characters.")
    return text[:ends], encoding


def _character(key: str, value: str, words: Mapping[str, str | None]) -> str | None:
    """Return the character that a key gives, itself or as a word; raise `ConfigError` for anything else."""
    if value in words:
        return words[value]
    if len(value) != 1 or value in "\r\n\0":
        known = f", or one of {', '.join(words)}" if words else ""
        raise ConfigError(f"data.{key}={value}: must be a single character{known}.")
    return value


def _quote(text: str) -> str:
    """Choose the quote: an apostrophe where values begin and end with it and none with a double quote."""
    if re.search(r'(?m)(?:^|[,;\t|]) *"', text):
        return '"'
    opened = len(re.findall(r"(?m)(?:^|[,;\t|])'", text))
    closed = len(re.findall(r"(?m)'(?:[,;\t|]|\r?$)", text))
    return "'" if opened and opened == closed else '"'


def _rows(text: str, dialect: Dialect, skip: int) -> tuple[RowParser, Iterator[TextRow]]:
    """Parse the rows of a text in a dialect, without its first `skip` lines."""
    lines = RowParser("", io.StringIO(text, newline=""), dialect.comment, dialect.delimiter, dialect.blanks)
    try:
        for _ in range(skip):
            lines.next_line()
    except StopIteration:
        return lines, iter(())
    return lines, parse_rows(lines, dialect.reader_options())


def _with_delimiter(dialect: Dialect, text: str, skip: int) -> Dialect:
    """Choose the delimiter that gives most rows the same number of columns, more than one."""
    best, fitting = dialect, 0.0
    for delimiter in (*CANDIDATES, " "):
        if delimiter == " " and fitting:
            break
        candidate = replace(dialect, delimiter=delimiter, blanks=delimiter == " ")
        rows = [row.cells for row in islice(_rows(text, candidate, skip)[1], SAMPLE) if row.problem is None]
        widths = Counter(len(cells) for cells in rows)
        width, count = widths.most_common(1)[0] if widths else (1, 0)
        if delimiter == " ":  # words of a sentence are no columns: they must be as many everywhere, and numbers
            cells = [cell for row in rows[1:] or rows for cell in row]
            if count < len(rows) or 2 * sum(NUMBER.fullmatch(cell) is not None for cell in cells) < len(cells):
                break
        if width > 1 and count / len(rows) > fitting:
            best, fitting = candidate, count / len(rows)
    return best


def _has_header(config: Csv, first: Cells, rest: list[Cells]) -> bool:
    """Return whether the first line names the columns: as the key says, or words above numbers, or names that keys use.

    Where every column holds words, a first line is data if each of its words occurs again in its column.
    """
    if config.header != "auto":
        return config.header == "true"
    if any(name in first for name in config.named_columns() if not name.isdigit()):
        return True
    known = set(config.missing)
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


def _names(path: Path, header: TextRow, sample: list[Cells], notes: list[str]) -> tuple[str, ...]:
    """Read the names of the columns from the header.

    A first column without a name is an index, for which R writes no name at all; a last one comes from lines that end
    with the delimiter, where the header may or may not do so.
    """
    where = f"{path}, line {header.line}"
    if header.problem:
        raise DataError(f"{where}: {header.problem}.")
    names = [cell.strip() for cell in header.cells]
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{where}: has {len(names):,} columns; more than {MAX_COLUMNS:,} are not read.")
    if len(sample) >= CERTAIN and all(len(row) == len(names) + 1 for row in sample):
        names.insert(0 if any(row[-1].strip() for row in sample) else len(names), "")
    for position, which, name in ((0, "first", "index"), (-1, "last", "unnamed")):
        if not names[position] and name not in names and len(names) > 1:
            names[position] = name
            notes.append(f"{path}: its {which} column has no name and is called {name}.")
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
    return tuple(names)


def _decimal(dialect: Dialect, rows: list[Cells]) -> str:
    """Choose the decimal point: a comma where it separates no values and occurs in more numbers than a point does."""
    if dialect.delimiter == ",":
        return "."
    cells = [cell for row in rows for cell in row]
    commas, points = (sum(form.fullmatch(cell) is not None for cell in cells) for form in (COMMA_NUMBER, POINT_NUMBER))
    return "," if commas > points else "."
