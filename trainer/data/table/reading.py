"""From files to one clean, typed table."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer.config.table import Csv
from trainer.data.table import partitions, source
from trainer.data.table.column_store import ColumnStore, MemoryColumnStore
from trainer.data.table.csv_file import CsvFile
from trainer.data.table.csv_reader import CsvReader
from trainer.data.table.read_options import ReadOptions
from trainer.data.table.row_validator import Rejection, Schema
from trainer.data.table.sniffing import sniff
from trainer.data.table.typed_file import TypedFile, read_typed
from trainer.errors import ConfigError, DataError, did_you_mean

PIECE = 1 << 16  # rows that are cast at a time
SHOWN_NAMES = 50  # columns that a message lists
LISTED = 5  # columns that a note names

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


def read_table(
    config: Csv, store: ColumnStore | None = None, *, labelled: bool = True, wanted: Sequence[str] | None = None
) -> Table:
    """Read all files of `data.path`.

    Columns of `data.categorical`, `data.datetime` and `data.text` (and the target with `data.target_type=class`) are
    strings as they are written, those of `data.numeric` numbers; the types of the others are inferred.

    Args:
        config: which files, and how to read them.
        store: holds the columns; None: in memory.
        labelled: whether the target must be there, and in every row.
        wanted: the only columns that are read and judged, by which the header of a file is known; None: all but
            those of `data.ignore`.

    Raises:
        ConfigError: for a key that does not fit the files.
        DataError: for a file that cannot be read; names file, line and column.
    """
    store = store or MemoryColumnStore()
    paths = source.source_files(config.path)
    files = [_open(config, path, wanted or ()) for path in paths]
    folders = partitions.of_paths(paths, wanted or ())
    names = [tuple(dict.fromkeys([*file.names, *folders])) for file in files]
    notes = [note for file in files if isinstance(file, TypedFile) for note in file.notes]
    if wanted is None:
        _check_columns(config, paths, names, labelled)
        columns = [name for name in names[0] if name not in config.ignore or name == config.time]
    else:
        notes += _check_wanted(paths, names, wanted, config.target)
        columns = list(wanted)
    by_folder = [name for name in folders if name in columns and name not in files[0].names]
    rejected: list[Rejection] = []
    in_files = [name for name in columns if name not in by_folder]
    read, schema = _read_files(files, _options(config, in_files, labelled, rejected, store))
    tables = [
        partitions.with_columns(table, path, {name: folders[name] for name in by_folder}).select(columns)
        for path, (_, table) in zip(paths, read, strict=True)
    ]
    if by_folder:
        notes.append(f"{paths[0]}: {', '.join(by_folder)} from the names of folders.")
    whole = _concatenate(paths, tables, store)
    result = Table(
        whole,
        paths,
        tuple(rejected),
        whole.num_rows + len(rejected),
        (*(note for file, _ in read if isinstance(file, CsvFile) for note in file.dialect.notes), *notes),
        tuple(FilePart(file, table.num_rows) for file, table in read),
        schema,
    )
    _check_rows(config, result, labelled)
    return result


def _open(config: Csv, path: Path, wanted: Sequence[str]) -> TableFile:
    """Find out how a file writes its table."""
    typed = TypedFile.of(path)
    return typed if typed is not None else CsvFile(path, sniff(config, path, wanted))


def _options(
    config: Csv, columns: list[str], labelled: bool, rejected: list[Rejection], store: ColumnStore
) -> ReadOptions:
    """Say what is wanted of files with these columns; rows that cannot be used are added to `rejected`, or an error."""

    def reject(rejection: Rejection) -> None:
        if config.on_error == "raise":
            raise DataError(f"{rejection}; {rejection.remedy}. data.on_error=skip leaves such rows out.")
        rejected.append(rejection)

    text = frozenset([*config.categorical, *config.datetime, *config.text, *config.formats, *config.order])
    if config.target_type == "class":
        text |= {str(config.target)}
    exact = frozenset(str(name) for name in (config.time, config.group, config.split) if name is not None)
    # With on_error=raise a missing target is found in the whole table, where all of them can be counted.
    target = config.target if labelled and config.on_error == "skip" else None
    return ReadOptions(config, columns, text, exact, target, reject, store)


def _read_files(files: Sequence[TableFile], options: ReadOptions) -> tuple[list[tuple[TableFile, pa.Table]], Schema]:
    """Read each file; return it, in the dialect that proved right, with its table; and what was required of a row."""
    reader = CsvReader(options, [file for file in files if isinstance(file, CsvFile)])
    tables, schema = reader.read()
    texts = iter(zip(reader.files, tables, strict=True))
    read: list[tuple[TableFile, pa.Table]] = [
        (file, read_typed(file, options)) if isinstance(file, TypedFile) else next(texts) for file in files
    ]
    return read, schema


def _check_wanted(
    paths: tuple[Path, ...], names: list[tuple[str, ...]], wanted: Sequence[str], target: str | None
) -> Iterator[str]:
    """Raise `DataError` where a file lacks a column; yield a note on the columns that are not used."""
    for path, here in zip(paths, names, strict=True):
        for name in wanted:
            if name not in here:
                known = ", ".join(here[:SHOWN_NAMES])
                what = "predicts" if name == target else "was trained with"
                raise DataError(
                    f"{path}: has no column {name}, which the model {what}.{did_you_mean(name, here)} Columns: {known}."
                )
    unused = [name for name in names[0] if name not in wanted]
    if unused:
        more = f" and {len(unused) - LISTED:,} more" if len(unused) > LISTED else ""
        yield f"{paths[0]}: not used: {', '.join(unused[:LISTED])}{more}."


def require_column(name: str, key: str, names: tuple[str, ...], path: Path) -> None:
    """Raise `ConfigError` for a key that names a column which is not there, with the nearest that is."""
    if name in names:
        return
    known = ", ".join(names[:SHOWN_NAMES]) + (f" and {len(names) - SHOWN_NAMES} more" * (len(names) > SHOWN_NAMES))
    raise ConfigError(f"{key}={name}: {path} has no such column.{did_you_mean(name, names)} Columns: {known}.")


def _check_columns(config: Csv, paths: tuple[Path, ...], names: list[tuple[str, ...]], labelled: bool) -> None:
    """Raise unless all files have the same columns, in any order, and among them those that keys name."""
    for path, other in zip(paths[1:], names[1:], strict=True):
        for name in [*names[0], *other]:
            for columns, file, without in ((other, paths[0], path), (names[0], path, paths[0])):
                if name not in columns:
                    raise DataError(f"{without}: has no column '{name}', which {file} has.")
    if labelled and config.target is None:
        raise ConfigError(
            f"data.target is needed: the column to predict. Columns: {', '.join(names[0][:SHOWN_NAMES])}."
        )
    for name, key in config.named_columns().items():
        if labelled or key != "target":
            require_column(name, f"data.{key}", names[0], paths[0])


def _concatenate(paths: tuple[Path, ...], tables: list[pa.Table], store: ColumnStore) -> pa.Table:
    """Put the tables of all files together; numbers of different types become the type that holds them all."""
    try:
        schema = pa.unify_schemas([table.schema for table in tables], promote_options="permissive")
        if all(table.schema == schema for table in tables):
            return pa.concat_tables(tables)
        pieces = (pa.Table.from_batches([batch]) for table in tables for batch in table.to_batches(PIECE))
        return store.store(schema, (piece.select(schema.names).cast(schema) for piece in pieces))
    except pa.ArrowException as error:
        raise DataError(
            f"{paths[0]} and other files: a column is of one type here and another there ({error})."
        ) from error


def _check_rows(config: Csv, table: Table, labelled: bool) -> None:
    """Raise `DataError` unless there are rows, and each has a target where `labelled`."""
    files = f"{table.files[0]}" + (f" and {len(table.files) - 1} more" if len(table.files) > 1 else "")
    if not table.columns.num_rows:
        first = f" that can be used; {len(table.rejected)} cannot, first: {table.rejected[0]}" if table.rejected else ""
        raise DataError(f"{files}: has no rows{first}.")
    if not labelled:
        return
    target = table.columns[config.target]
    if target.null_count:
        row = pc.index(pc.is_null(target), True).as_py()
        raise DataError(
            f"{table.where(row)}, column {config.target}: the target is missing, as in {target.null_count:,} of "
            f"{len(target):,} rows; remove those rows, or leave them out with data.on_error=skip."
        )
