"""Rows with a value that is not of the kind of its column, which is known once all of the column is."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from trainer.config.quoting import shell_override
from trainer.data.table.arrow_types import is_text
from trainer.data.table.column_store import ColumnStore
from trainer.data.table.columns import Categories
from trainer.data.table.row_parser import excerpt
from trainer.data.table.table import Misfit, Table
from trainer.data.table.text_values import describe_kind, read_texts
from trainer.errors import DataError

SHOWN = 3  # values that an error lists


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
    table: Table,
    columns: Iterable[tuple[str, str, str]],
    on_error: str,
    store: ColumnStore | None = None,
    settled: bool = False,
) -> Table:
    """Return the table without the rows that have a text which is not of the kind of its column.

    Args:
        table: all rows.
        columns: name, kind and form of each that has to be of a kind.
        on_error: `data.on_error`.
        store: holds the columns.
        settled: whether a trained model has settled what each column is, so that no key can change it.

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
    as_text = "" if settled else f"{shell_override('data.categorical', [first.column])} the column as text, "
    raise DataError(
        f"{table.where(row)}, column {first.column}: {first.reason}; as such are {shown}{more} of "
        f"{table.columns.num_rows:,} rows. {shell_override('data.missing', [first.text])} reads it as missing, "
        f"{as_text}and data.on_error=skip leaves such rows out."
    )
