"""From the columns of a table to tensors of rows: each value is read once, and each row written once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from trainer.config.quoting import shell_override
from trainer.data.files.mapped import THREADS, MemoryRows, Rows
from trainer.data.table.column_statistics import Values
from trainer.data.table.columns import LazyColumn
from trainer.data.table.preprocess import Preprocessor
from trainer.data.table.table import Table
from trainer.errors import DataError

BLOCK = 1 << 18  # numbers: 1 MB, which fits into the cache of a core


def encode_rows(
    preprocessor: Preprocessor,
    table: Table,
    parts: Sequence[Values | None] = (None,),
    outputs: Sequence[Rows] | None = None,
    block_size: int = BLOCK,
) -> list[Tensor]:
    """Turn rows of a table into inputs of a model.

    Args:
        preprocessor: what was fitted on the training rows.
        table: whose rows.
        parts: the rows of each tensor that is wanted, ascending int64; None: all rows.
        outputs: the destination of each tensor; None: memory.
        block_size: numbers that are turned from columns into rows at a time; at least 1,024 rows are.

    Returns:
        For each part float32 (rows, inputs).

    Raises:
        DataError: where a column is missing or not as it was in training, naming file and line of a value.
    """
    rows, width = table.columns.num_rows, preprocessor.width()
    sources = [column.lazy(table) for column in preprocessor.columns]
    whole = [None if part is None else np.asarray(part) for part in parts]
    if outputs is None:
        outputs = [MemoryRows((rows if part is None else len(part), width)) for part in whole]

    def block(start: int) -> None:
        stop = min(start + step, rows)
        values = _rows(preprocessor, sources, start, stop)
        if not np.isfinite(values).all():
            raise _not_finite(preprocessor, table, start, values)
        for part, output in zip(whole, outputs, strict=True):
            if part is None:
                output.put(start, values, slice(None))
            else:
                first, last = np.searchsorted(part, (start, stop))
                output.put(int(first), values, part[first:last] - start)

    step = max(1024, min(block_size // width, 1 << 16))
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(block, range(0, rows, step)):
            pass
    return [output.tensor() for output in outputs]


class RangeEncoder:
    """Turns any range of the rows of a table into inputs, float32 (rows, inputs); see `encode_rows`."""

    def __init__(self, preprocessor: Preprocessor, table: Table) -> None:
        self._preprocessor, self._table = preprocessor, table
        self._sources = [column.lazy(table) for column in preprocessor.columns]

    def __call__(self, start: int, stop: int) -> Tensor:
        """Return the inputs of the rows from `start` to `stop`; raise `DataError` for one that is not finite."""
        values = _rows(self._preprocessor, self._sources, start, stop)
        if not np.isfinite(values).all():
            raise _not_finite(self._preprocessor, self._table, start, values)
        return torch.from_numpy(values)


def _rows(preprocessor: Preprocessor, sources: Sequence[LazyColumn], start: int, stop: int) -> Values:
    """Return the inputs of the rows from `start` to `stop`, float32 (stop - start, inputs)."""
    columns = [
        values
        for column, source in zip(preprocessor.columns, sources, strict=True)
        for values in column.apply(source.between(start, stop))
    ]
    # Each column is copied as it lies, then all are turned at once: a tenth of the time of np.stack(axis=1).
    return np.ascontiguousarray(np.stack(columns, dtype=np.float32, casting="same_kind").T)


def _not_finite(preprocessor: Preprocessor, table: Table, start: int, values: Values) -> DataError:
    """Make the error for an input that is not finite: it names the column and the value that it comes from."""
    row, position = (int(index[0]) for index in np.nonzero(~np.isfinite(values)))
    for column in preprocessor.columns:
        if position < column.width():
            break
        position -= column.width()
    value = table.columns[column.name][start + row].as_py()
    chain = ", ".join(transform.option for transform in column.transforms)
    was = "is missing" if value is None else f"is {value}"
    return DataError(
        f"{table.where(start + row)}: the column {column.name} {was}, which its transforms ({chain}) leave without a "
        "finite number; begin them with impute, or leave the column out with "
        f"{shell_override('data.ignore', [column.name])}."
    )
