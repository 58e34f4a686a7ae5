"""All rows of all files, and where in its file each of them stands."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.data.table.column_store import ColumnStore, MemoryColumnStore
from trainer.data.table.csv_file import CsvFile
from trainer.data.table.row_validator import Rejection, Schema
from trainer.data.table.typed_file import TypedFile

PIECE = 1 << 16  # rows that are filtered at a time

TableFile = CsvFile | TypedFile
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """All rows of all files of a table.

    Attributes:
        columns: names are unique and trimmed; the columns of `data.ignore` are left out. A column is
            float32 (numbers; float64 where float32 could not tell its values apart), int32, int64 or uint64 (whole
            numbers), or string (trimmed; also true/false and dates, as they are written). Parquet also gives
            timestamp and date32. Null where a value is missing; numbers are finite. A column without any value
            has the type null. The target has no nulls, unless it was read with `read_table(..., labelled=False)`.
        files: in the order of the rows.
        rejected: the rows that `data.on_error=skip` left out.
        rows_read: how many rows the files have: always `columns.num_rows + len(rejected)`.
        notes: what was detected about the files that a user might not expect, one sentence each.
    """

    columns: pa.Table
    files: tuple[Path, ...]
    rejected: tuple[Rejection, ...]
    rows_read: int
    notes: tuple[str, ...]
    _parts: tuple["FilePart", ...] = field(repr=False)
    _schema: Schema = field(repr=False)

    @property
    def decimal(self) -> str:
        """The decimal sign of the first file of text; a point where there is none."""
        return next((part.file.dialect.decimal for part in self._parts if isinstance(part.file, CsvFile)), ".")

    @property
    def file_rows(self) -> tuple[int, ...]:
        """How many rows each file gave."""
        return tuple(part.rows for part in self._parts)

    def lines(self) -> list[int]:
        """Return the physical line of each row in its file, from 1; for Parquet the row. Reads the files again."""
        return [line for part in self._parts for line in part.lines(self._schema)]

    def places(self) -> Iterator[tuple[str, int]]:
        """Yield the file of each row, and its line there. Reads the files again, as far as it is asked."""
        for part in self._parts:
            path = str(part.file.path)
            for line in part.lines(self._schema):
                yield path, line

    def where(self, row: int) -> str:
        """Return file and physical line of a row of `columns`, such as "adult.csv, line 17". Reads the file again."""
        part, row = self._part(row)
        return f"{part.file.path}, {part.file.unit} {part.line(row, self._schema)}"

    def _part(self, row: int) -> tuple["FilePart", int]:
        """Return the part of a row, and its number there."""
        for part in self._parts:
            if row < part.rows:
                return part, row
            row -= part.rows
        raise IndexError(row)

    def without(self, misfits: "dict[int, Misfit]", store: ColumnStore | None = None) -> "Table":
        """Return the table without some rows, which are rejected for these reasons."""
        gone = np.array(sorted(misfits), dtype=np.int64)
        keep = np.ones(self.columns.num_rows, dtype=bool)
        keep[gone] = False
        parts, rejected, start = [], list(self.rejected), 0
        for part in self._parts:
            here = gone[(gone >= start) & (gone < start + part.rows)]
            for row, line in zip(here.tolist(), part.some_lines(here - start, self._schema), strict=True):
                misfit = misfits[row]
                rejected.append(
                    Rejection(part.file.path, line, misfit.column, misfit.reason, misfit.text, "", part.file.unit)
                )
            parts.append(part.keeping(keep[start : start + part.rows]))
            start += part.rows
        starts = range(0, len(keep), PIECE)
        pieces = (self.columns.slice(at, PIECE).filter(pa.array(keep[at : at + PIECE])) for at in starts)
        columns = (store or MemoryColumnStore()).store(self.columns.schema, pieces)
        return dataclasses.replace(self, columns=columns, rejected=tuple(rejected), _parts=tuple(parts))


@dataclass(frozen=True)
class Misfit:
    """What is wrong with a row that was read, once all of its column is known: see `Rejection`."""

    column: str
    reason: str
    text: str


@dataclass(frozen=True)
class FilePart:
    """The rows of a table that come from one file.

    Attributes:
        file: where they come from.
        rows: how many there are.
        kept: which of the rows that the file gave they are, ascending; None: all.
    """

    file: TableFile
    rows: int
    kept: Rows | None = field(default=None, repr=False)

    def line(self, row: int, schema: Schema) -> int:
        """Return the physical line, or for Parquet the number, of a usable row (0 is the first)."""
        row = row if self.kept is None else int(self.kept[row])
        return row + 1 if isinstance(self.file, TypedFile) else self.file.line(row, schema)

    def lines(self, schema: Schema) -> Iterable[int]:
        """Return the physical line, or for Parquet the number, of each usable row, from 1."""
        if isinstance(self.file, TypedFile):
            return range(1, self.rows + 1) if self.kept is None else (self.kept + 1).tolist()
        return self.file.lines(schema) if self.kept is None else self.some_lines(np.arange(self.rows), schema)

    def some_lines(self, rows: Rows, schema: Schema) -> list[int]:
        """Return the lines of some rows, which are ascending."""
        wanted = rows if self.kept is None else self.kept[rows]
        if isinstance(self.file, TypedFile):
            return [row + 1 for row in wanted.tolist()]
        if not len(wanted):
            return []
        found, places = [], iter(wanted.tolist())
        place: int | None = next(places)
        for row, line in enumerate(self.file.lines(schema)):
            if row == place:
                found.append(line)
                place = next(places, None)
                if place is None:
                    break
        return found

    def keeping(self, keep: NDArray[np.bool_]) -> "FilePart":
        """Return the part with only some of its rows."""
        if keep.all():
            return self
        kept = np.flatnonzero(keep) if self.kept is None else self.kept[keep]
        return dataclasses.replace(self, rows=len(kept), kept=kept)
