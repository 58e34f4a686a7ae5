"""The column to predict: classes or numbers."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from trainer.data.table.column_types import HEAD, is_text
from trainer.data.table.reading import Table
from trainer.errors import DataError

MAX_CLASSES = 20  # distinct whole numbers up to which a numeric target is read as classes


def infer_target(table: Table, name: str, target_type: str) -> tuple[Tensor, tuple[str, ...] | None]:
    """Read the column to predict.

    Args:
        table: all rows.
        name: of the column.
        target_type: class, number, or auto: class, unless the column is numeric with fractions or many values.

    Returns:
        Class codes int64 (N,) and the names of the classes, or numbers float32 (N, 1) and None.

    Raises:
        DataError: for a target that cannot be learned: constant, not a number where one is needed, free text.
    """
    column = table.columns[name]
    numbers = _numbers(column)
    if numbers is None and target_type == "number":
        row, word = _first_word(column)
        raise DataError(
            f"data.target_type=number: the column {name} holds '{word}' ({table.where(row)}), not a finite number."
        )
    if numbers is not None and (target_type == "number" or (target_type == "auto" and not _few(numbers))):
        values = np.asarray(numbers.cast(pa.float32(), safe=False)).astype(np.float32)  # a copy: arrow's is read-only
        if values.min() == values.max():
            raise DataError(f"The target {name} is {column[0]} in every row: there is nothing to learn.")
        return torch.from_numpy(values).unsqueeze(1), None
    labels = _labels(column, numbers is not None)
    if len(labels) < 2:
        raise DataError(f"The target {name} is {labels[0]} in every row: there is nothing to learn.")
    if len(labels) > len(column) // 2:
        raise DataError(
            f"The target {name} has {len(labels)} distinct values in {len(column)} rows: too many for classes. Is "
            "data.target the right column?"
        )
    return class_codes(table, name, labels), labels


def class_codes(table: Table, name: str, labels: tuple[str, ...]) -> Tensor:
    """Find the class of each row, int64 (N,), as its position in `labels`; 1, 1.0 and 1e0 are the same class.

    Raises:
        DataError: naming a row whose class is none of them.
    """
    column = table.columns[name]
    codes = {label: code for code, label in enumerate(labels)}
    canonical = [_canonical(label) for label in labels]
    numeric = None not in canonical
    codes |= {number: code for code, number in enumerate(canonical) if number is not None and numeric}
    encoded = pc.dictionary_encode(column).combine_chunks()
    texts = encoded.dictionary.cast(pa.string()).to_pylist()
    lookup = np.array([codes.get(text, codes.get(_canonical(text) or "", -1)) for text in texts])
    found = lookup[np.asarray(encoded.indices)]
    if (found < 0).any():
        row = int((found < 0).argmax())
        raise DataError(f"{table.where(row)}: {name} is '{column[row]}', none of the classes {', '.join(labels[:10])}.")
    return torch.from_numpy(found.astype(np.int64, copy=False))


def _canonical(text: str) -> str | None:
    """Return one spelling for each number, so that 1, 1.0 and 1e0 are the same class; None for what is no number."""
    try:
        return format(float(text), ".17g")
    except ValueError:
        return None


def _labels(column: pa.ChunkedArray, numeric: bool) -> tuple[str, ...]:
    """Return the names of the classes in order; a number keeps the spelling in which it first occurs."""
    texts = pc.unique(column).cast(pa.string()).to_pylist()
    if not numeric:
        return tuple(sorted(texts))
    first: dict[float, str] = {}
    for text in texts:
        first.setdefault(float(text), text)
    return tuple(first[number] for number in sorted(first))


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return the column as numbers; None where a value is not a finite number."""
    if is_text(column.type):
        try:
            column = column.cast(pa.string()).cast(pa.float64())
        except pa.ArrowInvalid:
            return None
        return column if pc.all(pc.is_finite(column)).as_py() else None
    return column if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) else None


def _few(numbers: pa.ChunkedArray) -> bool:
    """Return whether the numbers are whole, and few enough to be classes."""
    if len(pc.unique(numbers.slice(0, HEAD))) > MAX_CLASSES:
        return False  # mostly enough; the whole would need a table of all its values
    distinct = pc.unique(numbers)
    return len(distinct) <= MAX_CLASSES and pc.all(pc.equal(distinct, pc.round(distinct))).as_py()


def _first_word(column: pa.ChunkedArray) -> tuple[int, str]:
    """Find the first value that is not a finite number, and its row."""
    for row, value in enumerate(column.cast(pa.string()).to_pylist()):
        number = _canonical(value)
        if number is None or not np.isfinite(float(number)):
            return row, value
    raise AssertionError("every value is a number")
