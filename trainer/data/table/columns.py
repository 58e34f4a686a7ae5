"""Columns of a table as float arrays, of which any rows can be read."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.config.quoting import shell_override
from trainer.data.table import dates
from trainer.data.table.arrow_types import is_text, is_time
from trainer.data.table.column_statistics import Values
from trainer.data.table.column_store import ColumnStore
from trainer.data.table.reading import Misfit, Table
from trainer.data.table.row_parser import excerpt
from trainer.data.table.written_numbers import parse_numbers
from trainer.errors import DataError

TRUTH = ({"true": 1, "false": 0}, {"yes": 1, "no": 0}, {"t": 1, "f": 0}, {"y": 1, "n": 0}, {"on": 1, "off": 0})
MEANING = {word: float(value) for words in TRUTH for word, value in words.items()}
MEANING |= {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
WHOLE_WITH_ZEROS = r"^(-?(?:0|[1-9][0-9]*))\.0+$"
SHOWN = 3  # values that an error lists


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


def read_texts(texts: pa.Array, kind: str, form: str) -> tuple[Values, Values]:
    """Read the texts of a column.

    Args:
        texts: distinct strings, without null.
        kind: numeric, boolean or datetime.
        form: of the numbers or dates.

    Returns:
        Their numbers, float64 (N,), NaN for those that say that there is none; and which are no such thing, bool (N,).
    """
    match kind:
        case "boolean":
            lower = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
            at = np.asarray(pc.fill_null(pc.index_in(lower, value_set=pa.array(list(MEANING))), -1))
            values = np.append(np.array(list(MEANING.values())), np.nan)[at]
            return values, np.isnan(values)
        case "datetime":
            values = dates.parse_dates(texts, form)
            wrong = np.isnan(values)
            if wrong.any():
                wrong &= ~dates.sentinels(texts)
            return np.where(dates.far(values), np.nan, values), wrong
    values = parse_numbers(texts, form)
    return values, np.isnan(values)


def describe_kind(kind: str, form: str) -> str:
    """Say what a value is not, for an error."""
    match kind:
        case "boolean":
            return "neither yes nor no (true/false, yes/no, y/n, t/f, on/off, 1/0)"
        case "datetime":
            return f"not a date written as {form}"
    return f"not a number written as {form}" if form else "not a finite number"


def misfits(table: Table, columns: Iterable[tuple[str, str, str]]) -> dict[int, Misfit]:
    """Find the rows with a text that is not of the kind of its column.

    Args:
        table: all rows.
        columns: name, kind and form of each that has to be of a kind.
    """
    found: dict[int, Misfit] = {}
    for name, kind, form in columns:
        if kind == "categorical" or not is_text(table.columns[name].type):
            continue
        column = Categories(table.columns[name])
        wrong = read_texts(column.texts, kind, form)[1]
        if wrong.any():
            positions = column.positions()
            for row in np.flatnonzero(np.append(wrong, False)[positions]).tolist():
                text = column.texts[int(positions[row])].as_py()
                found.setdefault(row, Misfit(name, f"{excerpt(text)} is {describe_kind(kind, form)}", text))
    return found


def without_misfits(
    table: Table, columns: Iterable[tuple[str, str, str]], on_error: str, store: ColumnStore | None = None
) -> Table:
    """Return the table without the rows that have a text which is not of the kind of its column.

    Raises:
        DataError: with `on_error` "raise", for the first of them; it says how many there are, and the ways out.
    """
    found = misfits(table, columns)
    if not found:
        return table
    if on_error == "skip":
        return table.without(found, store)
    row = min(found)
    first = found[row]
    words = Counter(misfit.text for misfit in found.values() if misfit.column == first.column)
    shown = ", ".join(f"{excerpt(text)} in {count:,}" for text, count in words.most_common(SHOWN))
    more = f" and {len(words) - SHOWN} other values" if len(words) > SHOWN else ""
    raise DataError(
        f"{table.where(row)}, column {first.column}: {first.reason}; as such are {shown}{more} of "
        f"{table.columns.num_rows:,} rows. {shell_override('data.missing', [first.text])} reads it as missing, "
        f"{shell_override('data.categorical', [first.column])} the column as text, and data.on_error=skip leaves such "
        "rows out."
    )


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
        self._values: pa.Array | None = None

    def positions(self, start: int = 0, stop: int | None = None) -> Values:
        """Find the position of each row's value in `texts`, int32 (rows,), anew at each call; -1: it is missing."""
        part = self._column.slice(start, None if stop is None else stop - start)
        if part.type != pa.string():
            part = part.cast(pa.string())
        return np.asarray(pc.fill_null(pc.index_in(part, value_set=self.texts), -1))

    @property
    def values(self) -> pa.Array:
        """Return what each text stands for as a level: 1, 1.0 and 1.00 are one, and 007 is not 7."""
        if self._values is None:
            self._values = level_values(self.texts)
        return self._values

    def levels(self, rows: Values, order: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the distinct levels of the given rows: in the given order, or else by size or by letters.

        Those that `order` lacks come last.
        """
        counts = np.bincount(self.positions()[rows] + 1, minlength=1 + len(self.texts))
        there = set(self.values.take(pa.array(np.flatnonzero(counts[1:]))).to_pylist())
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


def level_values(texts: pa.Array) -> pa.Array:
    """Return what each text stands for as a level: whole numbers without a fraction of zeros, and all else as it is."""
    if not pc.any(pc.match_substring_regex(texts, WHOLE_WITH_ZEROS)).as_py():
        return texts
    return pc.replace_substring_regex(texts, WHOLE_WITH_ZEROS, r"\1")


def match_levels(texts: pa.Array, levels: tuple[str, ...]) -> Values:
    """Return the position of each text in `levels`, from 1, int64 (N,); 0: it is none of them.

    A text that is no level as it stands is the one that is the same number, or the same word in another case, where
    that is one only.
    """
    exact = {level: number for number, level in enumerate(levels, 1)}
    values = level_values(pa.array(levels, pa.string())).to_pylist()
    exact = {value: exact[level] for level, value in zip(levels, values, strict=True)} | exact
    found = np.array([exact.get(text, 0) for text in level_values(texts).to_pylist()], dtype=np.int64)
    new = np.flatnonzero(found == 0)
    if len(new):
        counts = Counter(_folded(level) for level in levels)
        alike = {_folded(level): number for number, level in enumerate(levels, 1) if counts[_folded(level)] == 1}
        for at in new.tolist():
            found[at] = alike.get(_folded(texts[at].as_py()), 0)
    return found


def sort_levels(levels: Iterable[str]) -> list[str]:
    """Sort levels: by size where all are numbers, else by letters."""
    texts = list(levels)
    try:
        return sorted(texts, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(texts)


def _folded(text: str) -> str:
    """Return what two spellings of one value share: the number, or the letters in one case without blanks around."""
    word = text.strip().casefold()
    if word[:1] == "0" and word[1:2].isdigit():
        return word  # a code, such as 007
    try:
        return format(float(word), ".17g")
    except ValueError:
        return word


def _strict(table: Table, name: str, kind: str, form: str) -> LazyColumn:
    """Replace texts by their numbers; raise `DataError` for one that has none: see `without_misfits`."""
    column = Categories(table.columns[name])
    meaning, wrong = read_texts(column.texts, kind, form)
    if wrong.any():
        without_misfits(table, [(name, kind, form)], "raise")
    return column.lazy(meaning)
