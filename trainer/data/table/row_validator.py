"""The exact judgement of each row: which can be used, and what is wrong with the others, where."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trainer.data.table.dialect import Dialect
from trainer.data.table.row_parser import TextRow, shown

UNDECODED = {True: re.compile("[\udc80-\udcff]"), False: re.compile("\ufffd")}


@dataclass(frozen=True)
class Rejection:
    """A row that cannot be used: where it is and why.

    Attributes:
        line: physical line that the row begins in, from 1; or the row of a Parquet file (`unit`).
        column: its name, where one column is at fault.
        text: the value at fault, or the beginning of the line.
        remedy: what a user can do about it.
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
    """What a usable row is: as many cells as columns, in clean text, numbers where numbers belong, and a target.

    Attributes:
        numbers: the columns of numbers.
        checked: the columns whose text matters.
        target: a column that must not be missing, or None.
    """

    numbers: frozenset[str]
    checked: frozenset[str]
    target: str | None
    missing: frozenset[str]


def validate_rows(
    path: Path, dialect: Dialect, rows: Iterator[TextRow], rules: Schema, reject: Callable[[Rejection], None]
) -> Iterator[list[str]]:
    """The usable rows, their cells trimmed; `reject` is told of the others."""
    surely_usable = _first_test(dialect, rules)
    for row in rows:
        cells = [cell.strip() for cell in row.cells]
        fault = None if row.problem is None and surely_usable(cells) else _fault(row, cells, dialect, rules)
        if fault is None:
            yield cells
        else:
            reject(Rejection(path, row.line, fault.column, fault.reason, shown(fault.text), fault.remedy))


def _first_test(dialect: Dialect, rules: Schema) -> Callable[[list[str]], bool]:
    """A test that only usable cells pass, and nearly all of them, at a third of the cost of judging each cell."""
    names, missing, comma = dialect.names, rules.missing, dialect.decimal == ","
    numbers = [index for index, name in enumerate(names) if name in rules.numbers]
    target = names.index(rules.target) if rules.target is not None else None

    def surely_usable(cells: list[str]) -> bool:
        text = "".join(cells)
        if len(cells) != len(names) or not text.isascii() or "\0" in text:
            return False
        if target is not None and cells[target] in missing:
            return False
        words = " ".join([cell for index in numbers if (cell := cells[index]) not in missing])
        if "_" in words or (comma and "." in words):
            return False
        try:
            total = sum(map(float, (words.replace(",", ".") if comma else words).split(" "))) if words else 0.0
        except ValueError:
            return False
        return total - total == 0

    return surely_usable


class RowError(NamedTuple):
    column: str | None
    reason: str
    remedy: str
    text: str


def _fault(row: TextRow, cells: list[str], dialect: Dialect, rules: Schema) -> RowError | None:
    """What is wrong with the row, if anything: the first column at fault."""
    if (fault := _fault_of_row(row, dialect)) is not None:
        return fault
    undecoded = UNDECODED[dialect.utf8]
    for name, cell in zip(dialect.names, cells, strict=True):
        if name in rules.checked:
            is_number, is_target = name in rules.numbers, name == rules.target
            found = _fault_of_cell(cell, is_number, is_target, rules.missing, dialect.decimal, undecoded)
            if found is not None:
                return RowError(name, *found, cell)
    return None


def _fault_of_row(row: TextRow, dialect: Dialect) -> RowError | None:
    names, width = dialect.names, len(row.cells)
    if row.problem is not None:
        remedy = "close it, or set data.quote=none if quotes are ordinary characters"
        return RowError(names[min(width, len(names)) - 1], f"{row.problem}: {shown(row.text)}", remedy, row.text)
    if width == len(names):
        return None
    column = names[width] if width < len(names) else f"number {len(names) + 1}"
    reason = f"the row has {width} values instead of {len(names)}: {shown(row.text)}"
    remedy = f"mend it, or see data.delimiter (here {dialect.delimiter!r}) and data.quote"
    return RowError(column, reason, remedy, row.text)


def _fault_of_cell(
    cell: str, is_number: bool, is_target: bool, missing: frozenset[str], decimal: str, undecoded: re.Pattern[str]
) -> tuple[str, str] | None:
    """Reason and remedy, or None."""
    if cell in missing:
        return ("the target is missing", "fill it in or remove the row") if is_target else None
    if is_number and _is_number(cell, decimal):
        return None
    if "\0" in cell:
        return f"{shown(cell)} holds a NUL byte", "is it text? see data.encoding"
    if undecoded.search(cell):
        return f"{shown(cell)} is not valid in the file's encoding", "set data.encoding, such as cp1252 or latin-1"
    if not is_number:
        return None
    return (
        f"{shown(cell)} is not a finite number, as most of the column are",
        f"set data.missing=[...,{cell}] if it means missing, or name the column in data.categorical",
    )


def _is_number(cell: str, decimal: str) -> bool:
    if decimal == ",":
        if "." in cell:
            return False
        cell = cell.replace(",", ".", 1)
    try:
        number = float(cell)
    except ValueError:
        return False
    return number - number == 0 and cell.isascii() and "_" not in cell
