"""The dialect of a text file: as the keys say, or detected from its first lines."""

import codecs
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from trainer.config.table import Csv
from trainer.data.table import encodings
from trainer.data.table.dialect import Dialect
from trainer.data.table.row_parser import MAX_LINE
from trainer.data.table.source import BLOCK, FOREIGN_BYTES, Unpacked, foreign_kind
from trainer.data.table.table_head import MOST_TITLES, NUMBER, SAMPLE, Cells, column_names, find_head, text_rows
from trainer.errors import ConfigError, DataError

DELIMITERS = {"tab": "\t", "\\t": "\t", "semicolon": ";", "pipe": "|", "space": " ", "comma": ","}
CANDIDATES = ("\t", ";", "|", ",")  # of two that fit equally well the first: a comma may be a decimal point
COMMA_NUMBER, POINT_NUMBER = (re.compile(rf"\s*[+-]?\d*{point}\d+([eE][+-]?\d+)?\s*") for point in (",", r"\."))
SEP = re.compile(r"sep=([^\r\n])\r?(?:\n|$)", re.IGNORECASE)  # what Excel reads, and some programs write for it


def sniff(config: Csv, path: Path, wanted: Sequence[str] = ()) -> Dialect:
    """Detect the dialect of a file, as far as the keys leave it open.

    Args:
        config: the keys.
        path: the file.
        wanted: names of columns that it should have: a line that holds them all is its header, whatever is above it.

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
    notes = [] if dialect.utf8 else [f"{path}: read as {encoding}."]
    skip, said = config.skip_lines, SEP.match(text)
    if said is not None and not skip:
        skip = 1
        notes.append(f"{path}: its first line says that {said[1]!r} separates the columns.")
    if config.delimiter == "auto" and said is not None:
        dialect = replace(dialect, delimiter=said[1])
    elif config.delimiter == "auto":
        dialect = _with_delimiter(dialect, text, skip, wanted)
    else:
        delimiter = _character("delimiter", config.delimiter, DELIMITERS) or ","
        dialect = replace(dialect, delimiter=delimiter, blanks=delimiter == " ")
    head = find_head(config, path, text, dialect, skip, wanted)
    rows = text_rows(text, dialect, head.skip)[1]
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: is empty: it has no line to read.")
    sample = [row.cells for row in islice(rows, SAMPLE) if row.problem is None][head.more :]
    consumed = "".join(io.StringIO(text, newline="").readlines()[: head.lines])
    decimal = _decimal(dialect, sample) if config.decimal == "auto" else config.decimal
    names, unread = [str(number) for number in range(len(first.cells))], set[str]()
    notes += head.notes
    if head.header:
        names, unread = column_names(path, first, sample, notes, set(config.named_columns()) | {*wanted})
    return replace(
        dialect,
        names=tuple(names),
        unread=frozenset(unread),
        lines=head.lines,
        offset=len(consumed.encode("utf-8", "surrogateescape")),
        decimal=decimal,
        notes=(*notes, *([f"{path}: read with a decimal comma."] if decimal == "," else [])),
    )


def _text(config: Csv, path: Path) -> tuple[str, str]:
    """Read the first complete lines of a file, and detect their encoding."""
    with Unpacked(path) as file:
        head = b""
        while (block := file.read(BLOCK)) and len(head) < MAX_LINE:
            head += block
            if len(head) >= BLOCK and b"\n" in head:
                break
    foreign = foreign_kind(head[:FOREIGN_BYTES].removeprefix(codecs.BOM_UTF8))
    if foreign is not None:
        raise DataError(f"{path}: is no table: it begins like {foreign}.")
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


def _with_delimiter(dialect: Dialect, text: str, skip: int, wanted: Sequence[str]) -> Dialect:
    """Choose the delimiter that gives most rows the same number of columns, more than one; or the `wanted` ones."""
    best, fitting = dialect, 0.0
    for delimiter in (*CANDIDATES, " ") if wanted else ():
        candidate = replace(dialect, delimiter=delimiter, blanks=delimiter == " ")
        first = islice(text_rows(text, candidate, skip)[1], MOST_TITLES)
        if any({*wanted} <= {cell.strip() for cell in row.cells} for row in first):
            return candidate
    for delimiter in (*CANDIDATES, " "):
        if delimiter == " " and fitting:
            break
        candidate = replace(dialect, delimiter=delimiter, blanks=delimiter == " ")
        rows = [row.cells for row in islice(text_rows(text, candidate, skip)[1], SAMPLE) if row.problem is None]
        widths = Counter(len(cells) for cells in rows)
        width, count = widths.most_common(1)[0] if widths else (1, 0)
        if delimiter == " ":  # words of a sentence are no columns: they must be as many everywhere, and numbers
            cells = [cell for row in rows[1:] or rows for cell in row]
            if count < len(rows) or 2 * sum(NUMBER.fullmatch(cell) is not None for cell in cells) < len(cells):
                break
        if width > 1 and count / len(rows) > fitting:
            best, fitting = candidate, count / len(rows)
    return best


def _decimal(dialect: Dialect, rows: list[Cells]) -> str:
    """Choose the decimal point: a comma where it separates no values and occurs in more numbers than a point does."""
    if dialect.delimiter == ",":
        return "."
    cells = [cell for row in rows for cell in row]
    commas, points = (sum(form.fullmatch(cell) is not None for cell in cells) for form in (COMMA_NUMBER, POINT_NUMBER))
    return "," if commas > points else "."
