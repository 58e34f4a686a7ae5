"""Files whose values have types already (Parquet, JSON lines, Excel, ARFF): they are checked, and stored in the
smallest type that holds them.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from trainer.config.quoting import shell_override
from trainer.config.table import Csv
from trainer.data.table import source
from trainer.data.table.arrow_types import ALMOST, NUMBER, ValueStats, is_time, without_sentinels
from trainer.data.table.read_options import ReadOptions
from trainer.data.table.row_validator import Rejection
from trainer.data.table.source import Unpacked
from trainer.errors import DataError

ROWS = 1 << 16  # filtered at a time
INDEX = re.compile(r"__index_level_\d+__")  # as pandas names an index that has no name
MAX_CELLS = 2**34  # a file of a few bytes can claim any number of rows


@dataclass(frozen=True)
class TypedFile:
    """A file whose values have types.

    Attributes:
        path: the file.
        kind: one of `READERS`.
        names: of its columns; the index that pandas has written beside them is left out.
        notes: what a user might not expect, one sentence each.
        loaded: all of it, where the format cannot be read by columns.
    """

    path: Path
    kind: str
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    loaded: pa.Table | None = field(default=None, repr=False)
    unit: ClassVar[str] = "row"

    @classmethod
    def of(cls, path: Path) -> "TypedFile | None":
        """Return a file of one of the formats, known by its content; None for one of text.

        Raises:
            DataError: for a file that is damaged, claims to be absurdly large, or needs a package.
        """
        kind = source.typed_kind(path)
        if kind is None:
            return None
        if kind == "parquet":
            names, index = _parquet_columns(path)
            table = None
        else:
            table = READERS[kind](path)
            names, index = tuple(table.column_names), ()
        twice = next((name for name in names if names.count(name) > 1), None) if len(names) < 10_000 else None
        if twice is not None:
            raise DataError(f"{path}: two columns are named '{twice}'; rename one.")
        note = f"{path}: its index {', '.join(index)} is no column; name it in the file to use it." if index else ""
        return cls(path, kind, names, (note,) if note else (), table)

    def read(self, columns: list[str]) -> pa.Table:
        """Read some columns; raise `DataError` where the file is damaged."""
        if self.loaded is not None:
            return self.loaded.select(columns)
        try:
            return pq.read_table(self.path, columns=columns, partitioning=None)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path}: not a readable Parquet file ({error}).") from error


def _parquet_columns(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the columns, and those of an index of pandas without a name of its own."""
    try:
        metadata, schema = pq.read_metadata(path), pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}).") from error
    if metadata.num_rows * metadata.num_columns > MAX_CELLS:
        raise DataError(f"{path}: claims {metadata.num_rows:,} rows of {metadata.num_columns:,} columns.")
    index = tuple(name for name in schema.names if INDEX.fullmatch(name))
    return tuple(name for name in schema.names if name not in index), index


def _json_lines(path: Path) -> pa.Table:
    """Read a file with an object in each line."""
    try:
        with Unpacked(path) as file:
            return pa_json.read_json(file)
    except pa.ArrowException as error:
        raise DataError(f"{path}: not readable as JSON lines, an object in each line ({error}).") from error


def _excel(path: Path) -> pa.Table:
    """Read the first sheet of a workbook that has cells; its first row names the columns."""
    try:
        import python_calamine
    except ImportError as error:
        raise DataError(
            f"{path}: is an Excel workbook, which takes a package to read: pip install 'trainer[tables]'; or export "
            "the sheet as CSV."
        ) from error
    try:
        book = python_calamine.CalamineWorkbook.from_path(str(path))
        rows = next((rows for name in book.sheet_names if (rows := book.get_sheet_by_name(name).to_python())), [])
    except (python_calamine.CalamineError, OSError) as error:
        raise DataError(f"{path}: not a readable Excel workbook ({error}).") from error
    if not rows:
        raise DataError(f"{path}: is empty: it has no row to read.")
    names = [str(cell).strip() for cell in rows[0]]
    return pa.table({name: _cells([row[at] for row in rows[1:]]) for at, name in enumerate(names) if name})


def _arff(path: Path) -> pa.Table:
    """Read a file of Weka."""
    try:
        from scipy.io import arff
    except ImportError as error:
        raise DataError(
            f"{path}: is an ARFF file, which takes SciPy to read: pip install 'trainer[tables]'; or save it as CSV."
        ) from error
    try:
        with Unpacked(path) as file:
            data, meta = arff.loadarff(io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8"))
    except (arff.ArffError, NotImplementedError, ValueError) as error:
        raise DataError(f"{path}: not readable as ARFF ({error}).") from error
    texts = {name: meta[name][0] == "nominal" for name in meta.names()}
    return pa.table(
        {
            name: pa.array([None if cell == b"?" else cell.decode() for cell in data[name]]) if text else data[name]
            for name, text in texts.items()
        }
    )


def _cells(cells: list[Any]) -> pa.Array:
    """Return the cells of a column of a workbook as one type; empty ones are null, mixed ones text."""
    filled = [None if cell == "" else cell for cell in cells]
    try:
        return pa.array(filled)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if cell is None else _cell_text(cell) for cell in filled])


def _cell_text(cell: Any) -> str:
    """Return how a cell is shown: a whole number, which Excel keeps as 3.0, without its fraction."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


READERS: dict[str, Callable[[Path], pa.Table]] = {"jsonl": _json_lines, "excel": _excel, "arff": _arff}


def read_typed(file: TypedFile, options: ReadOptions) -> pa.Table:
    """Read the rows that can be used; the others are rejected. NaN means missing, infinity is an error.

    Where the columns are not kept in memory, only one of them is there at a time.

    Raises:
        DataError: for a file that cannot be read, and a column of a type that is none of numbers, text and dates.
    """
    path = file.path
    store, found = options.store, dict[str, pa.ChunkedArray]()
    rejections: dict[int, Rejection] = {}
    for group in [[name] for name in options.columns] if store.by_parts else [options.columns]:
        part = file.read(group)
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


def _column(
    path: Path, column: pa.ChunkedArray, name: str, options: ReadOptions
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None, str]:
    """Convert a column to its final type; return it with the rows at fault, None if there are none, and the reason."""
    kind, config = column.type, options.config
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    dated = name in config.datetime and is_time(kind)
    if pa.types.is_boolean(kind) or (name in options.text and not _is_text(kind) and not dated):
        column, kind = column.cast(pa.string()), pa.string()
    if _is_text(kind):
        column = _text(column, config)
        if name in config.numeric:
            return _parsed(column, options.config, name in options.exact)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        column, infinite = _number(column, options.config, name in options.exact)
        if pc.any(infinite).as_py():
            return column, infinite, "the value is not finite"
    elif not (pa.types.is_null(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        way_out = shell_override("data.ignore", [name])
        raise DataError(f"{path}, column {name}: holds {kind}, not numbers, text or dates; see {way_out}.")
    if name in options.targets and column.null_count:
        return column, pc.is_null(column), "the target is missing"
    return column, None, ""


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _text(column: pa.ChunkedArray, config: Csv) -> pa.ChunkedArray:
    """Trim strings; those that mean a missing value become null."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.is_in(text, value_set=pa.array(config.missing_words(), pa.string())), None, text)


def _parsed(text: pa.ChunkedArray, config: Csv, exact: bool) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None, str]:
    """Parse numbers that are written as text; see `_column`."""
    number = pc.match_substring_regex(text, NUMBER)
    if len(text) > text.null_count and pc.mean(pc.cast(number, pa.float64())).as_py() < ALMOST:
        return text, None, ""  # they may be written as people do: see `written_numbers`
    numbers, infinite = _number(pc.if_else(number, text, None).cast(pa.float64()), config, exact)
    faulty = pc.or_(pc.invert(pc.fill_null(number, True)), infinite)
    return numbers, faulty if pc.any(faulty).as_py() else None, "the value is not a finite number"


def _number(column: pa.ChunkedArray, config: Csv, exact: bool) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Convert numbers to the smallest type, null for what is not finite; return them and which rows are infinite."""
    column = without_sentinels(pa.table({"": column}), config.missing_numbers())[""]
    whole = pa.types.is_integer(column.type)
    if not whole:
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)
    infinite = pc.fill_null(pc.is_inf(column), False)
    column = pc.if_else(infinite, None, column)
    bounds, filled = pc.min_max(column).as_py(), len(column) - column.null_count
    if not filled:
        return pa.chunked_array([pa.nulls(len(column))]), infinite
    reach = max(abs(bounds["min"]), abs(bounds["max"]))
    stats = ValueStats(filled, filled, whole, bounds["min"], bounds["max"], reach)
    return column.cast(stats.type(numeric=True, categorical=False, exact=exact), safe=False), infinite
