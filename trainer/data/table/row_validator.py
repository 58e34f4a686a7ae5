"""Row by row validation: which rows can be used, and what is wrong with the others, exactly where."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trainer.config.quoting import shell_override
from trainer.data.table.dialect import Dialect
from trainer.data.table.row_parser import TextRow, excerpt

UNDECODED = {True: re.compile("[\udc80-\udcff]"), False: re.compile("\ufffd")}


@dataclass(frozen=True)
class Rejection:
    """A row that cannot be used: where it is and why.

    Attributes:
        path: the file.
        line: the physical line in which the row begins, from 1; of a Parquet file the number of the row.
        column: the name of the column at fault; None where it is not one column.
        reason: what is wrong.
        text: the value at fault, or the beginning of the line.
        remedy: what the user can do about it.
        unit: what `line` counts: "line" or "row".
    """

    path: Path
    line: int
    column: str | None
    reason: str
    text: str
    remedy: str
    unit: str = "line"

    def __str__(self) -> str:
        column = f", column {self.column}" if self.column is not None else ""
        return f"{self.path}, {self.unit} {self.line}{column}: {self.reason}"


@dataclass(frozen=True)
class Schema:
    """What a row must be: as many cells as columns, in clean text, numbers where numbers belong, and a target.

    Attributes:
        numbers: the columns of numbers.
        checked: the columns that are validated.
        targets: columns that must not be missing.
        missing: the strings that mean a missing value.
        settled: whether a trained model has settled what each column is, so that no key can change it.
    """

    numbers: frozenset[str]
    checked: frozenset[str]
    targets: frozenset[str]
    missing: frozenset[str]
    settled: bool = False


def validate_rows(
    path: Path, dialect: Dialect, rows: Iterator[TextRow], schema: Schema, reject: Callable[[Rejection], None]
) -> Iterator[list[str]]:
    """Yield the cells of each valid row, trimmed; call `reject` with each of the others.

    Args:
        path: the file, for messages.
        dialect: how it writes its table.
        rows: of the file.
        schema: what a row must be.
        reject: is called with what is wrong; may raise.
    """
    surely_valid = _first_test(dialect, schema)
    for row in rows:
        cells = [cell.strip() for cell in row.cells]
        error = None if row.problem is None and surely_valid(cells) else _row_error(row, cells, dialect, schema)
        if error is None:
            yield cells
        else:
            reject(Rejection(path, row.line, error.column, error.reason, excerpt(error.text), error.remedy))


def _first_test(dialect: Dialect, schema: Schema) -> Callable[[list[str]], bool]:
    """Make a test that only valid cells pass, and nearly all of them, at a third of the cost of checking each cell."""
    names, missing, comma = dialect.names, schema.missing, dialect.decimal == ","
    numbers = [index for index, name in enumerate(names) if name in schema.numbers]
    targets = [index for index, name in enumerate(names) if name in schema.targets]

    def surely_valid(cells: list[str]) -> bool:
        text = "".join(cells)
        if len(cells) != len(names) or not text.isascii() or "\0" in text:
            return False
        if any(cells[index] in missing for index in targets):
            return False
        words = " ".join([cell for index in numbers if (cell := cells[index]) not in missing])
        if "_" in words or (comma and "." in words):
            return False
        try:
            total = sum(map(float, (words.replace(",", ".") if comma else words).split(" "))) if words else 0.0
        except ValueError:
            return False
        return total - total == 0

    return surely_valid


class RowError(NamedTuple):
    """What is wrong with a row; see `Rejection`."""

    column: str | None
    reason: str
    remedy: str
    text: str


def _row_error(row: TextRow, cells: list[str], dialect: Dialect, schema: Schema) -> RowError | None:
    """Find what is wrong with the row, at the first column at fault; None: nothing."""
    if (error := _structure_error(row, dialect)) is not None:
        return error
    undecoded = UNDECODED[dialect.utf8]
    for name, cell in zip(dialect.names, cells, strict=True):
        if name in schema.checked:
            is_number, is_target = name in schema.numbers, name in schema.targets
            found = _cell_error(cell, is_number, is_target, schema, dialect.decimal, undecoded)
            if found is not None:
                return RowError(name, *found, cell)
    return None


def _structure_error(row: TextRow, dialect: Dialect) -> RowError | None:
    """Find what is wrong with the quotes or the number of cells; None: nothing."""
    names, width = dialect.names, len(row.cells)
    if row.problem is not None:
        remedy = "close it, or set data.quote=none if quotes are ordinary characters"
        return RowError(names[min(width, len(names)) - 1], f"{row.problem}: {excerpt(row.text)}", remedy, row.text)
    if width == len(names):
        return None
    column = names[width] if width < len(names) else f"number {len(names) + 1}"
    reason = f"the row has {width} value{'s' * (width != 1)} instead of {len(names)}: {excerpt(row.text)}"
    remedy = f"fix it, or see data.delimiter (here {dialect.delimiter!r}) and data.quote"
    return RowError(column, reason, remedy, row.text)


def _cell_error(
    cell: str, is_number: bool, is_target: bool, schema: Schema, decimal: str, undecoded: re.Pattern[str]
) -> tuple[str, str] | None:
    """Return what is wrong with a cell and the remedy; None: nothing."""
    if cell in schema.missing:
        return ("the target is missing", "fill it in or remove the row") if is_target else None
    if is_number and _is_number(cell, decimal):
        return None
    if "\0" in cell:
        return f"{excerpt(cell)} holds a NUL byte", "is it text? see data.encoding"
    if undecoded.search(cell):
        return f"{excerpt(cell)} is not valid in the file's encoding", "set data.encoding, such as cp1252 or latin-1"
    if not is_number:
        return None
    as_text = "" if schema.settled else ", or name the column in data.categorical"
    return (
        f"{excerpt(cell)} is not a finite number, as most of the column are",
        f"set {shell_override('data.missing', [cell])} if it means missing{as_text}",
    )


def _is_number(cell: str, decimal: str) -> bool:
    """Return whether a cell is a finite number."""
    if decimal == ",":
        if "." in cell:
            return False
        cell = cell.replace(",", ".", 1)
    try:
        number = float(cell)
    except ValueError:
        return False
    return number - number == 0 and cell.isascii() and "_" not in cell
