"""What the texts of a column say, as numbers: yes and no, dates, and numbers in any style."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer.data.table import dates
from trainer.data.table.column_statistics import Values
from trainer.data.table.written_numbers import parse_numbers

TRUTH = ({"true": 1, "false": 0}, {"yes": 1, "no": 0}, {"t": 1, "f": 0}, {"y": 1, "n": 0}, {"on": 1, "off": 0})
MEANING = {word: float(value) for words in TRUTH for word, value in words.items()}
MEANING |= {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
Counts = NDArray[np.float64]


def counted(column: pa.ChunkedArray) -> tuple[pa.Array, Counts]:
    """Return the distinct texts of a column, null left out, and how often each occurs, float64."""
    found = pc.value_counts(pc.drop_null(column.cast(pa.string())))
    return found.field("values"), np.asarray(found.field("counts"), dtype=np.float64)


def has_digits(texts: pa.Array) -> bool:
    """Return whether half of the first values have a digit: dates and numbers do."""
    some = pc.match_substring_regex(texts[:100], "[0-9]")
    return 2 * (pc.sum(some).as_py() or 0) >= len(some) > 0


def is_padded(texts: pa.Array) -> bool:
    """Return whether a text begins with a zero that no number needs, as in 007: they are codes, not numbers."""
    return bool(pc.any(pc.match_substring_regex(texts, "^0[0-9]+$")).as_py())


def truth(distinct: pa.Array) -> dict[str, int] | None:
    """Return which word is 1 and which 0, in lower case, where the values are two words for yes and no; else None."""
    if not 2 <= len(distinct) <= 8:
        return None
    words = {text.lower() for text in distinct.to_pylist()}
    return next((meaning for meaning in TRUTH if words == meaning.keys()), None)


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
