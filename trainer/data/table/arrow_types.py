"""The Arrow type of a text column, judged by its values."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

NUMBER, WHOLE = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$", r"^-?[0-9]+$"
ALMOST = 0.95  # the share of numbers from which a column counts as numeric, and its other values as errors
NARROW = 1e-3  # a spread below this share of the magnitude is told apart in float64 only


@dataclass
class ValueStats:
    """Statistics of the values of a column that are not missing.

    Attributes:
        filled: how many there are.
        numbers: how many of them are finite numbers.
        whole: whether all numbers are written without fraction or exponent.
        low, high: the least and the greatest number.
    """

    filled: int = 0
    numbers: int = 0
    whole: bool = True
    low: float = math.inf
    high: float = -math.inf

    def add(self, values: pa.ChunkedArray, missing: pa.Array, decimal: str) -> None:
        """Count more values.

        Args:
            values: strings, as they are written.
            missing: the strings that mean a missing value.
            decimal: the decimal point.
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
        self.numbers += len(numbers)
        self.whole = self.whole and pc.all(pc.match_substring_regex(text, WHOLE)).as_py()
        bounds = pc.min_max(numbers).as_py()
        if bounds["min"] is not None:
            self.low, self.high = min(self.low, bounds["min"]), max(self.high, bounds["max"])

    def type(self, numeric: bool, categorical: bool) -> pa.DataType:
        """Choose the type of the column: null without values, string, or the smallest that tells its numbers apart.

        Args:
            numeric: whether it must be numbers.
            categorical: whether it must be strings.
        """
        if not self.filled:
            return pa.null()
        if categorical or not (numeric or self.numbers >= ALMOST * self.filled):
            return pa.string()
        magnitude = max(abs(self.low), abs(self.high))
        if self.whole and magnitude < 2**63:
            return pa.int32() if magnitude < 2**31 else pa.int64()
        if self.whole and not numeric:
            return pa.string()  # digits beyond any integer type are a name
        narrow = 0 < self.high - self.low < NARROW * magnitude
        return pa.float64() if narrow or magnitude > 1e37 or 0 < magnitude < 1e-30 else pa.float32()


def collect_stats(blocks: Iterable[pa.Table], stats: dict[str, ValueStats], missing: list[str], decimal: str) -> None:
    """Add tables of strings to the statistics of their columns; columns without statistics are passed over."""
    values = pa.array(missing, pa.string())
    for block in blocks:
        for name in block.column_names:
            if name in stats:
                stats[name].add(block[name], values, decimal)
