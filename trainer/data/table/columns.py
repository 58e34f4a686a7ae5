"""Columns of a table as float arrays, any rows of them at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.data.table import dates
from trainer.data.table.column_types import TRUTH, is_text, is_time
from trainer.data.table.reading import Table
from trainer.data.table.transforms import Values
from trainer.errors import DataError


@dataclass(frozen=True)
class LazyColumn:
    """A column as numbers: NaN where a value is missing.

    Attributes:
        rows: how many there are.
        between: the values (stop - start,) from one row to another.
        at: the values at some rows, given as a sorted int64 array.
    """

    rows: int
    between: Callable[[int, int], Values]
    at: Callable[[Values], Values]


def numeric_column(table: Table, name: str) -> LazyColumn:
    """Numbers as they are, float32 or float64.

    Raises:
        DataError: naming the first value that is no finite number.
    """
    column = table.columns[name]
    if is_text(column.type):
        column = _parsed(table, name)
    elif is_time(column.type):
        return _source(column, dates.from_timestamps)
    return _source(column, _floats)


def boolean_column(table: Table, name: str) -> LazyColumn:
    """1 and 0 for yes and no: words such as true and false, or the two numbers.

    Raises:
        DataError: naming a value that is neither.
    """
    meaning = {word: float(value) for words in TRUTH for word, value in words.items()}
    meaning |= {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}

    def lookup(texts: pa.Array) -> Values:
        return np.array([meaning.get(text.lower(), np.nan) for text in texts.to_pylist()], dtype=np.float32)

    return _strict(table, name, lookup, "neither yes nor no (true/false, yes/no, y/n, t/f, on/off, 1/0)")


def datetime_column(table: Table, name: str, form: str) -> LazyColumn:
    """Seconds since 1970, float64.

    Raises:
        DataError: naming a value that is no date in the format `form`.
    """
    if is_time(table.columns[name].type):
        return _source(table.columns[name], dates.from_timestamps)
    return _strict(table, name, lambda texts: dates.seconds(texts, form), f"not a date written as {form}")


class Categories:
    """A column of texts as places in the list of those that occur.

    Attributes:
        texts: the values that occur, in the order of the file.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column  # cast where it is used, as its texts may take many times the room
        self.texts: pa.Array = pc.unique(column).drop_null().cast(pa.string())

    def places(self, start: int = 0, stop: int | None = None) -> Values:
        """Where each row's value stands in `texts`, int32 (rows,); -1 where it is missing. Found anew at each call."""
        part = self._column.slice(start, None if stop is None else stop - start)
        if part.type != pa.string():
            part = part.cast(pa.string())
        return np.asarray(pc.fill_null(pc.index_in(part, value_set=self.texts), -1))

    def levels(self, rows: Values) -> tuple[str, ...]:
        """The values that occur in the given rows, sorted."""
        counts = np.bincount(self.places()[rows] + 1, minlength=1 + len(self.texts))
        return tuple(sorted(self.texts.take(pa.array(np.flatnonzero(counts[1:]))).to_pylist()))

    def source(self, meaning: Values) -> LazyColumn:
        """The column with each text replaced by its number, as `meaning` (texts,) has it."""
        numbers = np.append(meaning, np.nan).astype(meaning.dtype)  # the last is found at -1
        return LazyColumn(
            len(self._column),
            lambda start, stop: numbers[self.places(start, stop)],
            lambda rows: numbers[self.places()[rows]],
        )

    def codes(self, levels: tuple[str, ...]) -> LazyColumn:
        """The number of each row's level from 1, float32; 0 where it is none of `levels`, NaN where missing."""
        place = {level: code for code, level in enumerate(levels, 1)}
        return self.source(np.array([place.get(text, 0) for text in self.texts.to_pylist()], dtype=np.float32))


def _floats(part: pa.Array | pa.ChunkedArray) -> Values:
    return np.asarray(part if pa.types.is_floating(part.type) else part.cast(pa.float64(), safe=False))


def _source(column: pa.ChunkedArray, convert: Callable[[pa.Array | pa.ChunkedArray], Values]) -> LazyColumn:
    """A column that is converted where it is used: the whole table would else be held twice."""

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
    """Texts by what they mean; one that means nothing is an error."""
    column = Categories(table.columns[name])
    meaning = lookup(column.texts)
    unknown = np.flatnonzero(np.isnan(meaning))
    if len(unknown):
        row = int((column.places() == unknown[0]).argmax())
        raise DataError(f"{table.where(row)}: the column {name} holds '{column.texts[unknown[0]]}', {otherwise}.")
    return column.source(meaning)


def _parsed(table: Table, name: str) -> pa.ChunkedArray:
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
