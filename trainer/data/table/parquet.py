"""Parquet files: typed already; what is left is to check the values and to take the smallest type that holds them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.config.table import Csv
from trainer.data.table.arrow_types import NUMBER, Kind
from trainer.data.table.column_store import ColumnStore
from trainer.data.table.row_validator import Rejection
from trainer.errors import DataError

Reject = Callable[[Rejection], None]
ROWS = 1 << 16  # that are filtered at a time
MAX_CELLS = 2**34  # a file of some bytes can claim any number of rows


def parquet_columns(path: Path) -> tuple[str, ...]:
    """The columns.

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


def read_parquet(
    path: Path,
    config: Csv,
    columns: list[str],
    text: frozenset[str],
    target: str | None,
    reject: Reject,
    store: ColumnStore,
) -> pa.Table:
    """The rows that can be used; `reject` is told of the others. NaN is missing; infinity is a fault.

    Args:
        columns: those that are wanted.
        text: columns that become strings, whatever they are.
        target: a column that must not be missing, or None.
        store: where the columns are held; where that is on disk, only one at a time is in memory.
    """
    found: dict[str, pa.ChunkedArray] = {}
    rejections: dict[int, Rejection] = {}
    for group in [[name] for name in columns] if store.by_parts else [columns]:
        part = _read(path, group)
        for name in part.column_names:
            column, faulty, reason = _column(path, config, part[name], name, name in text, name == target)
            found[name] = store.store(pa.schema({name: column.type}), iter([pa.table({name: column})]))[name]
            for row in np.flatnonzero(faulty.to_numpy()).tolist() if faulty is not None else ():
                rejections.setdefault(row, Rejection(path, row + 1, name, reason, "", "correct it", "row"))
    for row in sorted(rejections):
        reject(rejections[row])
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
    path: Path, config: Csv, column: pa.ChunkedArray, name: str, as_text: bool, is_target: bool
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None, str]:
    """The column in its final type; which rows are at fault, if any, and why."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_boolean(kind) or (as_text and not _is_text(kind)):
        column, kind = column.cast(pa.string()), pa.string()
    if _is_text(kind):
        column = _text(column, config.missing)
        if name in config.numeric:
            return _parsed(column)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        column, infinite = _number(column)
        if pc.any(infinite).as_py():
            return column, infinite, "the value is not finite"
    elif not (pa.types.is_null(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise DataError(f"{path}, column {name}: holds {kind}, not numbers, text or dates; see data.ignore=[{name}].")
    if is_target and column.null_count:
        return column, pc.is_null(column), "the target is missing"
    return column, None, ""


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _text(column: pa.ChunkedArray, missing: list[str]) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.is_in(text, value_set=pa.array(missing, pa.string())), None, text)


def _parsed(text: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None, str]:
    """Numbers that are written as text."""
    number = pc.match_substring_regex(text, NUMBER)
    numbers, infinite = _number(pc.if_else(number, text, None).cast(pa.float64()))
    faulty = pc.or_(pc.invert(pc.fill_null(number, True)), infinite)
    return numbers, faulty if pc.any(faulty).as_py() else None, "the value is not a finite number"


def _number(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """In the smallest type, with null for what is not finite; and which rows are infinite."""
    whole = pa.types.is_integer(column.type)
    if not whole:
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)
    infinite = pc.fill_null(pc.is_inf(column), False)
    column = pc.if_else(infinite, None, column)
    bounds, filled = pc.min_max(column).as_py(), len(column) - column.null_count
    if not filled:
        return pa.chunked_array([pa.nulls(len(column))]), infinite
    kind = Kind(filled, filled, whole, bounds["min"], bounds["max"])
    return column.cast(kind.type(numeric=True, categorical=False), safe=False), infinite
