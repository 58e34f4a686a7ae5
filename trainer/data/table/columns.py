"""Columns of a table as float arrays, of which any rows can be read."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.data.table import dates
from trainer.data.table.column_statistics import Values
from trainer.data.table.column_types import TRUTH, is_text, is_time
from trainer.data.table.reading import Table
from trainer.errors import DataError


@dataclass(frozen=True)
class LazyColumn:
    """A column of numbers that are converted when they are read; NaN where a value is missing.

    Attributes:
        rows: how many there are.
        between: returns the values (stop - start,) from row `start` to row `stop`.
        at: returns the values at some rows, which are given as an ascending int64 array.
    """

    rows: int
    between: Callable[[int, int], Values]
    at: Callable[[Values], Values]


def numeric_column(table: Table, name: str) -> LazyColumn:
    """Return a column of numbers, float32 or float64.

    Raises:
        DataError: naming the first value that is not a finite number.
    """
    column = table.columns[name]
    if is_text(column.type):
        column = _parsed(table, name)
    elif is_time(column.type):
        return _lazy(column, dates.from_timestamps)
    return _lazy(column, _floats)


def boolean_column(table: Table, name: str) -> LazyColumn:
    """Return a column of 1 and 0 for yes and no: of words such as true and false, or of the two numbers.

    Raises:
        DataError: naming a value that is neither.
    """
    meaning = {word: float(value) for words in TRUTH for word, value in words.items()}
    meaning |= {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}

    def lookup(texts: pa.Array) -> Values:
        return np.array([meaning.get(text.lower(), np.nan) for text in texts.to_pylist()], dtype=np.float32)

    return _strict(table, name, lookup, "neither yes nor no (true/false, yes/no, y/n, t/f, on/off, 1/0)")


def datetime_column(table: Table, name: str, form: str) -> LazyColumn:
    """Return a column of dates as seconds since 1970, float64.

    Raises:
        DataError: naming a value that is no date in the format `form`.
    """
    if is_time(table.columns[name].type):
        return _lazy(table.columns[name], dates.from_timestamps)
    return _strict(table, name, lambda texts: dates.parse_dates(texts, form), f"not a date written as {form}")


class Categories:
    """A column of strings, each known by its position in the list of distinct strings.

    Args:
        column: the strings, or values that can be cast to strings.

    Attributes:
        texts: the distinct values, in the order in which they first occur.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column  # cast where it is used, as its texts may take many times the memory
        self.texts: pa.Array = pc.unique(column).drop_null().cast(pa.string())

    def positions(self, start: int = 0, stop: int | None = None) -> Values:
        """Find the position of each row's value in `texts`, int32 (rows,), anew at each call; -1: it is missing."""
        part = self._column.slice(start, None if stop is None else stop - start)
        if part.type != pa.string():
            part = part.cast(pa.string())
        return np.asarray(pc.fill_null(pc.index_in(part, value_set=self.texts), -1))

    def levels(self, rows: Values) -> tuple[str, ...]:
        """Return the distinct values of the given rows, sorted."""
        counts = np.bincount(self.positions()[rows] + 1, minlength=1 + len(self.texts))
        return tuple(sorted(self.texts.take(pa.array(np.flatnonzero(counts[1:]))).to_pylist()))

    def lazy(self, meaning: Values) -> LazyColumn:
        """Return the column with each text replaced by its number in `meaning` (texts,)."""
        numbers = np.append(meaning, np.nan).astype(meaning.dtype)  # the last is found at -1
        return LazyColumn(
            len(self._column),
            lambda start, stop: numbers[self.positions(start, stop)],
            lambda rows: numbers[self.positions()[rows]],
        )

    def codes(self, levels: tuple[str, ...]) -> LazyColumn:
        """Return the position of each row's value in `levels`, from 1, float32; 0: it is none of them; NaN: missing."""
        numbers = {level: number for number, level in enumerate(levels, 1)}
        return self.lazy(np.array([numbers.get(text, 0) for text in self.texts.to_pylist()], dtype=np.float32))


def _floats(part: pa.Array | pa.ChunkedArray) -> Values:
    """Convert numbers to a float array, NaN for null."""
    return np.asarray(part if pa.types.is_floating(part.type) else part.cast(pa.float64(), safe=False))


def _lazy(column: pa.ChunkedArray, convert: Callable[[pa.Array | pa.ChunkedArray], Values]) -> LazyColumn:
    """Make a column that `convert` converts part by part: as a whole it would be in memory twice."""

    def at(rows: Values) -> Values:
        starts = np.cumsum([0, *map(len, column.chunks)])
        cuts = np.searchsorted(rows, starts)
        found = np.empty(len(rows), dtype=convert(column.slice(0, 0)).dtype)
        for chunk, start, first, last in zip(column.chunks, starts[:-1], cuts[:-1], cuts[1:], strict=True):
            if first < last:
                np.take(convert(chunk), rows[first:last] - start, out=found[first:last], mode="clip")
        return found

    return LazyColumn(len(column), lambda start, stop: convert(column.slice(start, stop - start)), at)


def _strict(table: Table, name: str, lookup: Callable[[pa.Array], Values], otherwise: str) -> LazyColumn:
    """Replace texts by the numbers that `lookup` gives them; raise `DataError` for one that it gives NaN."""
    column = Categories(table.columns[name])
    meaning = lookup(column.texts)
    unknown = np.flatnonzero(np.isnan(meaning))
    if len(unknown):
        row = int((column.positions() == unknown[0]).argmax())
        raise DataError(f"{table.where(row)}: the column {name} holds '{column.texts[unknown[0]]}', {otherwise}.")
    return column.lazy(meaning)


def _parsed(table: Table, name: str) -> pa.ChunkedArray:
    """Parse a column of strings as numbers."""
    column = table.columns[name].cast(pa.string())
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        for row, text in enumerate(column.to_pylist()):
            try:
                float(text or 0)
            except ValueError:
                raise DataError(f"{table.where(row)}: the column {name} holds '{text}', not a finite number.") from None
        raise
