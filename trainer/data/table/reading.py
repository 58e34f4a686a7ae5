"""From files to one clean, typed table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from trainer.config.table import Csv
from trainer.data.table import parquet, source
from trainer.data.table.column_store import ColumnStore, MemoryColumnStore
from trainer.data.table.csv_file import CsvFile
from trainer.data.table.csv_reader import CsvReader
from trainer.data.table.read_options import ReadOptions
from trainer.data.table.row_validator import Rejection, Schema
from trainer.data.table.sniffing import sniff
from trainer.errors import ConfigError, DataError, did_you_mean

PIECE = 1 << 16  # rows that are cast at a time
SHOWN_NAMES = 50  # columns that a message lists

TableFile = CsvFile | Path  # a path: Parquet


@dataclass(frozen=True)
class Table:
    """All rows of all files of a table.

    Attributes:
        columns: names are unique and trimmed; the columns of `data.ignore` are left out. A column is
            float32 (numbers; float64 where float32 could not tell its values apart), int32 or int64 (whole
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
    def file_rows(self) -> tuple[int, ...]:
        """How many rows each file gave."""
        return tuple(part.rows for part in self._parts)

    def lines(self) -> list[int]:
        """Return the physical line of each row in its file, from 1; for Parquet the row. Reads the files again."""
        return [line for part in self._parts for line in part.lines(self._schema)]

    def where(self, row: int) -> str:
        """Return file and physical line of a row of `columns`, such as "adult.csv, line 17". Reads the file again."""
        for part in self._parts:
            if row < part.rows:
                return part.where(row, self._schema)
            row -= part.rows
        raise IndexError(row)


@dataclass(frozen=True)
class FilePart:
    """The rows of a table that come from one file.

    Attributes:
        file: where they come from.
        rows: how many there are.
    """

    file: TableFile
    rows: int

    def where(self, row: int, schema: Schema) -> str:
        """Return the file and the physical line, or for Parquet the number, of a usable row (0 is the first)."""
        if isinstance(self.file, Path):
            return f"{self.file}, row {row + 1}"
        return f"{self.file.path}, line {self.file.line(row, schema)}"

    def lines(self, schema: Schema) -> Iterable[int]:
        """Return the physical line, or for Parquet the number, of each usable row, from 1."""
        return range(1, self.rows + 1) if isinstance(self.file, Path) else self.file.lines(schema)


def read_table(config: Csv, store: ColumnStore | None = None, *, labelled: bool = True) -> Table:
    """Read all files of `data.path`.

    Columns of `data.categorical`, `data.datetime` and `data.text` (and the target with `data.target_type=class`) are
    strings as they are written, those of `data.numeric` numbers; the types of the others are inferred.

    Args:
        config: which files, and how to read them.
        store: holds the columns; None: in memory.
        labelled: whether the target must be there, and in every row.

    Raises:
        ConfigError: for a key that does not fit the files.
        DataError: for a file that cannot be read; names file, line and column.
    """
    store = store or MemoryColumnStore()
    paths = source.source_files(config.path)
    files = [path if source.is_parquet(path) else CsvFile(path, sniff(config, path)) for path in paths]
    names = [parquet.parquet_columns(file) if isinstance(file, Path) else file.dialect.names for file in files]
    _check_columns(config, paths, names, labelled)
    rejected: list[Rejection] = []
    read, schema = _read_files(files, _options(config, names[0], labelled, rejected, store))
    whole = _concatenate(paths, [table for _, table in read], store)
    result = Table(
        whole,
        paths,
        tuple(rejected),
        whole.num_rows + len(rejected),
        tuple(note for file, _ in read if isinstance(file, CsvFile) for note in file.dialect.notes),
        tuple(FilePart(file, table.num_rows) for file, table in read),
        schema,
    )
    _check_rows(config, result, labelled)
    return result


def _options(
    config: Csv, names: Sequence[str], labelled: bool, rejected: list[Rejection], store: ColumnStore
) -> ReadOptions:
    """Say what is wanted of files with these columns; rows that cannot be used are added to `rejected`, or an error."""

    def reject(rejection: Rejection) -> None:
        if config.on_error == "raise":
            raise DataError(f"{rejection}; {rejection.remedy}. data.on_error=skip leaves such rows out.")
        rejected.append(rejection)

    text = frozenset([*config.categorical, *config.datetime, *config.text])
    if config.target_type == "class":
        text |= {str(config.target)}
    # With on_error=raise a missing target is found in the whole table, where all of them can be counted.
    target = config.target if labelled and config.on_error == "skip" else None
    return ReadOptions(config, [name for name in names if name not in config.ignore], text, target, reject, store)


def _read_files(files: Sequence[TableFile], options: ReadOptions) -> tuple[list[tuple[TableFile, pa.Table]], Schema]:
    """Read each file; return it, in the dialect that proved right, with its table; and what was required of a row."""
    reader = CsvReader(options, [file for file in files if isinstance(file, CsvFile)])
    tables, schema = reader.read()
    texts = iter(zip(reader.files, tables, strict=True))
    read: list[tuple[TableFile, pa.Table]] = [
        (file, parquet.read_parquet(file, options)) if isinstance(file, Path) else next(texts) for file in files
    ]
    return read, schema


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
