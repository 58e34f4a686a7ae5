"""From files to one clean, typed table."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from trainer.config.table import Csv
from trainer.data.table import partitions, source
from trainer.data.table.column_store import ColumnStore, MemoryColumnStore
from trainer.data.table.csv_file import CsvFile
from trainer.data.table.csv_reader import CsvReader
from trainer.data.table.read_options import ReadOptions
from trainer.data.table.row_validator import Rejection, Schema
from trainer.data.table.sniffing import sniff
from trainer.data.table.table import FilePart, Table, TableFile
from trainer.data.table.typed_file import TypedFile, read_typed
from trainer.errors import ConfigError, DataError, did_you_mean

PIECE = 1 << 16  # rows that are cast at a time
SHOWN_NAMES = 50  # columns that a message lists
LISTED = 5  # columns that a note names


def read_table(
    config: Csv, store: ColumnStore | None = None, *, labelled: bool = True, wanted: Sequence[str] | None = None
) -> Table:
    """Read all files of `data.path`.

    Columns of `data.categorical`, `data.datetime` and `data.text` (and the target with `data.target_type=class`) are
    strings as they are written, those of `data.numeric` numbers, or strings where most are written as people do; the
    types of the others are inferred.

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
        notes += _check_wanted(paths, names, wanted, config.targets)
        columns = list(wanted)
    by_folder = [name for name in folders if name in columns and name not in files[0].names]
    rejected: list[Rejection] = []
    in_files = [name for name in columns if name not in by_folder]
    read, schema = _read_files(files, _options(config, in_files, labelled, wanted is not None, rejected, store))
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
    config: Csv,
    columns: list[str],
    labelled: bool,
    settled: bool,
    rejected: list[Rejection],
    store: ColumnStore,
) -> ReadOptions:
    """Say what is wanted of files with these columns; rows that cannot be used are added to `rejected`, or an error."""

    def reject(rejection: Rejection) -> None:
        if config.on_error == "raise":
            raise DataError(f"{rejection}; {rejection.remedy}. data.on_error=skip leaves such rows out.")
        rejected.append(rejection)

    text = frozenset([*config.categorical, *config.datetime, *config.text, *config.formats, *config.order])
    if config.target_type == "class":
        text |= {*config.targets}
    exact = frozenset(str(name) for name in (config.time, config.group, config.split) if name is not None)
    # With on_error=raise a missing target is found in the whole table, where all of them can be counted.
    targets = config.targets if labelled and config.on_error == "skip" else ()
    return ReadOptions(config, columns, text, exact, targets, reject, store, settled)


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
    paths: tuple[Path, ...], names: list[tuple[str, ...]], wanted: Sequence[str], targets: Sequence[str]
) -> Iterator[str]:
    """Raise `DataError` where a file lacks a column; yield a note on the columns that are not used."""
    for path, here in zip(paths, names, strict=True):
        for name in wanted:
            if name not in here:
                known = ", ".join(here[:SHOWN_NAMES])
                what = "predicts" if name in targets else "was trained with"
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
    if labelled and not config.targets:
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
    for name in config.targets:
        target = table.columns[name]
        if target.null_count:
            row = pc.index(pc.is_null(target), True).as_py()
            raise DataError(
                f"{table.where(row)}, column {name}: the target is missing, as in {target.null_count:,} of "
                f"{len(target):,} rows; remove those rows, or leave them out with data.on_error=skip."
            )
