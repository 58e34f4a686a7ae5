"""What may be wrong with how a column is read, and the ways out: sentences for warnings and errors."""

import numpy as np
import pyarrow as pa

from trainer.config.quoting import shell_override
from trainer.data.table import dates
from trainer.data.table.arrow_types import ALMOST
from trainer.data.table.row_parser import excerpt
from trainer.data.table.text_values import Counts, has_digits, is_padded
from trainer.data.table.written_numbers import number_style, parse_numbers

MOSTLY = 0.5  # the share of numbers from which a column of text is told to be mostly numbers
LISTED = 3  # values that a message lists


def no_dates(name: str, texts: pa.Array, counts: Counts) -> str:
    """Return the error for a column that is no dates: it names what keeps the most likely format from fitting."""
    closest = dates.date_format(texts, counts, share=MOSTLY)
    example = texts[0].as_py() if len(texts) else ""
    if closest is not None:
        wrong = np.isnan(dates.parse_dates(texts, closest)) & ~dates.sentinels(texts)
        example = texts[int(wrong.argmax())].as_py()
        return (
            f"data.datetime: the column {name} holds {excerpt(example)} among dates written as {closest}; all its "
            f"values must be written in one way: {shell_override('data.missing', [example])} reads it as missing, and "
            f"data.formats.{name}=FORMAT says how they are written."
        )
    return (
        f"data.datetime: the column {name} holds '{example}', not a date such as 2024-05-31 or 2024-05-31 17:30; all "
        f"its values must be written in one way, which data.formats.{name}='%d.%m.%Y' may say."
    )


def either_order(name: str, texts: pa.Array, form: str) -> str:
    """Return the warning for dates that fit with day and month exchanged as well; "" where they do not."""
    other = dates.other_order(texts, form)
    if other is None:
        return ""
    way_out = shell_override(f"data.formats.{name}", other)
    return f"the dates of {name} fit {form} and {other}, and are read as the first; {way_out} reads them as the second."


def without_dates(name: str, texts: pa.Array, counts: Counts, form: str) -> tuple[int, str]:
    """Return how many rows say that there is no date, as 0000-00-00 and 9999-12-31 do, and the sentence about them."""
    seconds = dates.parse_dates(texts, form)
    said = dates.far(seconds)
    if np.isnan(seconds).any():
        said |= dates.sentinels(texts)
    if not said.any():
        return 0, ""
    found = np.flatnonzero(said).tolist()
    shown = ", ".join(f"{excerpt(texts[at].as_py())} in {int(counts[at]):,} rows" for at in found[:LISTED])
    return int(counts @ said), f"the column {name} says that there is no date, which is missing: {shown}."


def mostly_numbers(name: str, texts: pa.Array, counts: Counts, decimal: str) -> str:
    """Return the warning for text that is mostly numbers, with the words that are none; "" where it is not."""
    if not len(texts) or not has_digits(texts) or is_padded(texts):
        return ""
    good = ~np.isnan(parse_numbers(texts, number_style(texts, counts, decimal)[0]))
    share = float(counts @ good / counts.sum())
    if not MOSTLY <= share < ALMOST or not good[counts.argsort()[::-1]][:1000].sum() > 2:
        return ""
    others = sorted(np.flatnonzero(~good).tolist(), key=lambda at: -counts[at])
    shown = ", ".join(f"{excerpt(texts[at].as_py())} in {int(counts[at]):,} rows" for at in others[:LISTED])
    more = f", and {len(others) - LISTED} more" if len(others) > LISTED else ""
    missing = shell_override("data.missing", [texts[at].as_py() for at in others[:LISTED]])
    as_text = shell_override("data.categorical", [name])
    return (
        f"the column {name} is {share:.0%} numbers, and read as text; not numbers: {shown}{more}. {missing} reads "
        f"these as missing, and the column as numbers; {as_text} keeps it as text."
    )
