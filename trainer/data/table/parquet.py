"""Parquet files, which are typed already: their values are checked, and stored in the smallest type that holds them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.config.quoting import shell_override
from trainer.config.table import Csv
from trainer.data.table.arrow_types import NUMBER, ValueStats
from trainer.data.table.read_options import ReadOptions
from trainer.data.table.row_validator import Rejection
from trainer.errors import DataError

ROWS = 1 << 16  # filtered at a time
MAX_CELLS = 2**34  # a file of a few bytes can claim any number of rows


def parquet_columns(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of a file.

    Raises:
        DataError: for a file that is damaged, or claims to be absurdly large.
    """
    try:
        metadata, schema = pq.read_metadata(path), pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}).") from error
    if metadata.num_rows * metadata.num_columns > MAX_CELLS:
        raise DataError(f"{path}: claims {metadata.num_rows:,} rows of {metadata.num_columns:,} columns.")
    return tuple(schema.names)


def read_parquet(path: Path, options: ReadOptions) -> pa.Table:
    """Read the rows that can be used; the others are rejected. NaN means missing, infinity is an error.

    Where the columns are not kept in memory, only one of them is there at a time.

    Raises:
        DataError: for a file that cannot be read, and a column of a type that is none of numbers, text and dates.
    """
    store, found = options.store, dict[str, pa.ChunkedArray]()
    rejections: dict[int, Rejection] = {}
    for group in [[name] for name in options.columns] if store.by_parts else [options.columns]:
        part = _read(path, group)
        for name in part.column_names:
            column, faulty, reason = _column(path, part[name], name, options)
            found[name] = store.store(pa.schema({name: column.type}), iter([pa.table({name: column})]))[name]
            for row in np.flatnonzero(faulty.to_numpy()).tolist() if faulty is not None else ():
                rejections.setdefault(row, Rejection(path, row + 1, name, reason, "", "correct it", "row"))
    for row in sorted(rejections):
        options.reject(rejections[row])
    table = pa.table(found)
    if not rejections:
        return table
    good = np.ones(table.num_rows, dtype=bool)
    good[list(rejections)] = False
    starts = range(0, table.num_rows, ROWS)
    parts = (table.slice(start, ROWS).filter(pa.array(good[start : start + ROWS])) for start in starts)
    return store.store(table.schema, parts)


def _read(path: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}).") from error


def _column(
    path: Path, column: pa.ChunkedArray, name: str, options: ReadOptions
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None, str]:
    """Convert a column to its final type; return it with the rows at fault, None if there are none, and the reason."""
    kind, config = column.type, options.config
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_boolean(kind) or (name in options.text and not _is_text(kind)):
        column, kind = column.cast(pa.string()), pa.string()
    if _is_text(kind):
        column = _text(column, config)
        if name in config.numeric:
            return _parsed(column)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        column, infinite = _number(column)
        if pc.any(infinite).as_py():
            return column, infinite, "the value is not finite"
    elif not (pa.types.is_null(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        way_out = shell_override("data.ignore", [name])
        raise DataError(f"{path}, column {name}: holds {kind}, not numbers, text or dates; see {way_out}.")
    if name == options.target and column.null_count:
        return column, pc.is_null(column), "the target is missing"
    return column, None, ""


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _text(column: pa.ChunkedArray, config: Csv) -> pa.ChunkedArray:
    """Trim strings; those that mean a missing value become null."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.is_in(text, value_set=pa.array(config.missing, pa.string())), None, text)


def _parsed(text: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None, str]:
    """Parse numbers that are written as text; see `_column`."""
    number = pc.match_substring_regex(text, NUMBER)
    numbers, infinite = _number(pc.if_else(number, text, None).cast(pa.float64()))
    faulty = pc.or_(pc.invert(pc.fill_null(number, True)), infinite)
    return numbers, faulty if pc.any(faulty).as_py() else None, "the value is not a finite number"


def _number(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Convert numbers to the smallest type, null for what is not finite; return them and which rows are infinite."""
    whole = pa.types.is_integer(column.type)
    if not whole:
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)
    infinite = pc.fill_null(pc.is_inf(column), False)
    column = pc.if_else(infinite, None, column)
    bounds, filled = pc.min_max(column).as_py(), len(column) - column.null_count
    if not filled:
        return pa.chunked_array([pa.nulls(len(column))]), infinite
    stats = ValueStats(filled, filled, whole, bounds["min"], bounds["max"])
    return column.cast(stats.type(numeric=True, categorical=False), safe=False), infinite
