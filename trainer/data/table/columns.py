"""Columns of a table as float arrays, of which any rows can be read."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.data.table import dates
from trainer.data.table.arrow_types import is_text, is_time
from trainer.data.table.column_statistics import Values
from trainer.data.table.levels import level_values, match_levels, sort_levels
from trainer.data.table.row_parser import excerpt
from trainer.data.table.table import Table
from trainer.data.table.text_values import describe_kind, read_texts
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


def numeric_column(table: Table, name: str, form: str = "") -> LazyColumn:
    """Return a column of numbers, float32 or float64.

    Args:
        table: that has it.
        name: of the column.
        form: how its numbers are written, one of `trainer.data.table.written_numbers.STYLES`; "": plainly.

    Raises:
        DataError: naming the first value that is not a finite number.
    """
    column = table.columns[name]
    if is_text(column.type):
        return _strict(table, name, "numeric", form)
    return _lazy(column, dates.from_timestamps if is_time(column.type) else _floats)


def boolean_column(table: Table, name: str) -> LazyColumn:
    """Return a column of 1 and 0 for yes and no: of words such as true and false, or of the two numbers.

    Raises:
        DataError: naming a value that is neither.
    """
    return _strict(table, name, "boolean", "")


def datetime_column(table: Table, name: str, form: str) -> LazyColumn:
    """Return a column of dates as seconds since 1970, float64.

    Raises:
        DataError: naming a value that is no date in the format `form`.
    """
    column = table.columns[name]
    if is_time(column.type):
        return _lazy(column, dates.from_timestamps)
    if form in dates.UNIX and not is_text(column.type):
        return _lazy(column, lambda part: _floats(part).astype(np.float64) * dates.UNIX[form])
    return _strict(table, name, "datetime", form)


class Categories:
    """A column of strings, each known by its position in the list of distinct strings.

    Args:
        column: the strings, or values that can be cast to strings.

    Attributes:
        texts: the distinct values, in the order in which they first occur.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        self._column, self._values = column, pc.unique(column).drop_null()
        self.texts: pa.Array = self._values.cast(pa.string())

    def positions(self, start: int = 0, stop: int | None = None) -> Values:
        """Find the position of each row's value in `texts`, int32 (rows,), anew at each call; -1: it is missing."""
        part = self._column.slice(start, None if stop is None else stop - start)
        return np.asarray(pc.fill_null(pc.index_in(part, value_set=self._values), -1))

    def levels(self, rows: Values, order: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the distinct levels of the given rows: in the given order, or else by size or by letters.

        Those that `order` lacks come last.
        """
        counts = np.bincount(self.positions()[rows] + 1, minlength=1 + len(self.texts))
        there = set(level_values(self.texts.take(pa.array(np.flatnonzero(counts[1:])))).to_pylist())
        first = [level for level in level_values(pa.array(list(order), pa.string())).to_pylist() if level in there]
        return (*first, *sort_levels(there.difference(first)))

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
        return self.lazy(match_levels(self.texts, levels).astype(np.float32))

    def unknown(self, levels: tuple[str, ...], rows: Values | None = None) -> Counter[str]:
        """Count the rows with values that are none of the levels, by value."""
        codes = match_levels(self.texts, levels)
        positions = self.positions() if rows is None else self.positions()[rows]
        counts = np.bincount(positions[positions >= 0], minlength=len(self.texts))
        new = np.flatnonzero((codes == 0) & (counts > 0))
        return Counter({self.texts[int(at)].as_py(): int(counts[at]) for at in new})


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


def _strict(table: Table, name: str, kind: str, form: str) -> LazyColumn:
    """Replace texts by their numbers; raise `DataError` for one that has none, where `without_misfits` left it."""
    column = Categories(table.columns[name])
    meaning, wrong = read_texts(column.texts, kind, form)
    if wrong.any():
        row = int(np.append(wrong, False)[column.positions()].argmax())
        text = excerpt(column.texts[int(wrong.argmax())].as_py())
        raise DataError(f"{table.where(row)}, column {name}: {text} is {describe_kind(kind, form)}.")
    return column.lazy(meaning)
