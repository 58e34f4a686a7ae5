"""Tables that name images, as rows of text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainer.config.table import Csv
from trainer.data.table.dialect import Dialect
from trainer.data.table.row_parser import parse_rows
from trainer.data.table.sniffing import sniff
from trainer.data.table.typed_file import TypedFile
from trainer.errors import DataError

SEVERAL = "|"  # between the labels of a list

Rows = list[list[str]]


def read_label_rows(path: Path) -> Rows:
    """Return the rows of a table as text, its names first: text in any dialect that `data=csv` reads, or typed values.

    Raises:
        DataError: where it cannot be read.
    """
    if not path.is_file():
        raise DataError(f"data.labels={path}: no such file.")
    if not path.stat().st_size:
        raise DataError(f"data.labels={path}: it is empty.")
    typed = TypedFile.of(path)
    rows = _in_words(list(_of_text(path))) if typed is None else table_rows(typed.read([*typed.names]))
    width = max(map(len, rows), default=0)
    if not width:
        raise DataError(f"data.labels={path}: it is empty.")
    return [[cell.strip() for cell in row] + [""] * (width - len(row)) for row in rows]


def table_rows(table: pa.Table) -> Rows:
    """Return a table as text, its names first."""
    columns = [[_as_text(value) for value in column.to_pylist()] for column in table.columns]
    return [table.column_names, *map(list, zip(*columns, strict=True))]


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return SEVERAL.join(map(_as_text, value))
    return "" if value is None else str(value)


def _of_text(path: Path) -> Iterator[list[str]]:
    # Whether the first row has names is seen from the files that the others name, and so not asked here.
    dialect = sniff(Csv(header="false"), path)
    rows = list(_parsed(path, dialect))
    try:
        "".join(cell for row in rows for cell in row).encode()
    except UnicodeEncodeError:  # only the beginning was in ASCII
        rows = list(_parsed(path, Dialect("cp1252", dialect.delimiter, dialect.quote, lines=dialect.lines)))
    return iter(rows)


def _in_words(rows: Rows) -> Rows:
    """Return rows of one column that have as many words each, such as `cat/1.jpg cat`, by their words."""
    words = [row[0].split() for row in rows if len(row) == 1]
    alike = len(words) == len(rows) and len({*map(len, words)}) == 1
    return words if alike else rows


def _parsed(path: Path, dialect: Dialect) -> Iterator[list[str]]:
    for row in parse_rows(dialect.open(path), dialect.reader_options()):
        if row.problem is not None:
            raise DataError(f"{path}, line {row.line}: {row.problem}.")
        if any(cell.strip() for cell in row.cells):
            yield row.cells
