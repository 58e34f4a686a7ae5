"""The Arrow type of a text column, judged by its values."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from trainer.config.table import Csv

NUMBER, WHOLE = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$", r"^-?[0-9]+$"
PADDED = r"^0[0-9]+$"
ALMOST = 0.95  # the share of numbers from which a column counts as numeric, and its other values as errors
EXACT = 2.0**24  # from which float32 has no fractions
NARROW = 1e-3  # a spread below this share of the magnitude is told apart in float64 only


@dataclass
class ValueStats:
    """Statistics of the values of a column that are not missing.

    Attributes:
        filled: how many there are.
        numbers: how many of them are finite numbers.
        whole: whether all numbers are written without fraction or exponent.
        low, high: the least and the greatest number.
        padded: whether a whole number begins with a zero that it does not need, as codes do: 007.
        reach: the greatest magnitude, that of numbers which stand for a missing value too.
    """

    filled: int = 0
    numbers: int = 0
    whole: bool = True
    low: float = math.inf
    high: float = -math.inf
    reach: float = 0.0
    padded: bool = False

    def add(self, values: pa.ChunkedArray, missing: pa.Array, decimal: str, sentinels: Sequence[float] = ()) -> None:
        """Count more values.

        Args:
            values: strings, as they are written.
            missing: the strings that mean a missing value.
            decimal: the decimal point.
            sentinels: the numbers that mean a missing value, however they are written.
        """
        text = pc.utf8_trim_whitespace(values)
        text = text.filter(pc.invert(pc.is_in(text, value_set=missing)))
        self.filled += len(text)
        if decimal == ",":  # a point is then no part of a number
            text = text.filter(pc.invert(pc.match_substring(text, ".")))
            text = pc.replace_substring(text, ",", ".")
        try:
            numbers = text.cast(pa.float64())
        except pa.ArrowInvalid:  # some are no numbers: the costly way
            text = text.filter(pc.match_substring_regex(text, NUMBER))
            numbers = text.cast(pa.float64())
        finite = pc.is_finite(numbers)
        text, numbers = text.filter(finite), numbers.filter(finite)
        if not len(numbers):
            return
        bounds = pc.min_max(pc.abs(numbers)).as_py()
        self.reach = max(self.reach, bounds["max"] or 0.0)
        if sentinels:
            real = pc.invert(pc.is_in(numbers, value_set=pa.array(sentinels, pa.float64())))
            self.filled -= len(numbers) - pc.sum(real).as_py()
            numbers = numbers.filter(real)
        self.numbers += len(numbers)
        self.whole = self.whole and pc.all(pc.match_substring_regex(text, WHOLE)).as_py()
        self.padded = self.padded or (self.whole and pc.any(pc.match_substring_regex(text, PADDED)).as_py())
        bounds = pc.min_max(numbers).as_py()
        if bounds["min"] is not None:
            self.low, self.high = min(self.low, bounds["min"]), max(self.high, bounds["max"])

    def type(self, numeric: bool, categorical: bool, exact: bool = False) -> pa.DataType:
        """Choose the type of the column: null without values, string, or the smallest that tells its numbers apart.

        Args:
            numeric: whether it must be numbers.
            categorical: whether it must be strings.
            exact: whether fractions are never rounded to float32: moments and names, unlike measurements.
        """
        if not self.filled:
            return pa.null()
        if categorical or self.numbers < ALMOST * self.filled:
            return pa.string()  # numbers, perhaps, that are written as people do: see `written_numbers`
        magnitude = self.reach
        if self.whole and self.padded and not numeric:
            return pa.string()
        if self.whole and magnitude < 2**63:
            return pa.int32() if magnitude < 2**31 else pa.int64()
        if self.whole and not numeric:
            return pa.string()  # digits beyond any integer type are a name
        if self.whole and self.low >= 0 and magnitude < 2**64:
            return pa.uint64()
        narrow = 0 < self.high - self.low < NARROW * magnitude
        large = magnitude >= EXACT and not self.whole
        return pa.float64() if exact or narrow or large or magnitude > 1e37 or 0 < magnitude < 1e-30 else pa.float32()


def collect_stats(blocks: Iterable[pa.Table], stats: dict[str, ValueStats], config: Csv, decimal: str) -> None:
    """Add tables of strings to the statistics of their columns; columns without statistics are passed over."""
    values, sentinels = pa.array(config.missing_words(), pa.string()), config.missing_numbers()
    for block in blocks:
        for name in block.column_names:
            if name in stats:
                stats[name].add(block[name], values, decimal, sentinels)


def without_sentinels(table: pa.Table, sentinels: Sequence[float]) -> pa.Table:
    """Return a table in which the numbers that mean a missing value are null."""
    for index, (name, kind) in enumerate(zip(table.column_names, table.schema.types, strict=True)):
        if sentinels and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            values = pa.array([number for number in sentinels if _holds(kind, number)], pa.float64()).cast(kind)
            column = table[name]
            if pc.any(pc.is_in(column, value_set=values)).as_py():
                table = table.set_column(index, name, pc.if_else(pc.is_in(column, value_set=values), None, column))
    return table


def _holds(kind: pa.DataType, number: float) -> bool:
    """Return whether a type of numbers has this one."""
    if not pa.types.is_integer(kind):
        return True
    return number.is_integer() and abs(number) < 2.0 ** (kind.bit_width - 1)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column holds strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def is_time(kind: pa.DataType) -> bool:
    """Return whether a column holds dates or timestamps."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
