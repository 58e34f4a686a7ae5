"""Which rows of a table are for training and which for validation, and how much each counts."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from trainer.config.table import Csv
from trainer.data.splits import split_samples
from trainer.data.table.arrow_types import is_text
from trainer.data.table.column_store import ColumnStore
from trainer.data.table.column_types import Column
from trainer.data.table.columns import Categories, datetime_column, numeric_column
from trainer.data.table.dates import date_format
from trainer.data.table.reading import require_column
from trainer.data.table.row_parser import excerpt
from trainer.data.table.table import Misfit, Table
from trainer.data.table.text_values import counted, read_texts
from trainer.errors import ConfigError, DataError

TRAINING = ("train", "training", "fit", "learn")
VALIDATION = ("val", "valid", "validation", "dev", "eval")
TEST = ("test", "testing", "holdout")


def split_rows(
    config: Csv, table: Table, columns: Sequence[Column], targets: Tensor, held_out_files: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Split the rows of a table.

    Validation rows are those of files of their own, those that a column names, the latest ones, or drawn with the seed:
    a share or a fold, with the rows of a group on one side, and stratified by class where there are no groups.

    Args:
        config: says which of these ways.
        table: all rows.
        columns: what each column is.
        targets: of all rows.
        held_out_files: how many of the table's files, the last ones, are for validation.
        seed: of the run.

    Returns:
        The rows for training and for validation, each int64 and ascending.

    Raises:
        ConfigError: for a column that is not there.
        DataError: where either side would be empty.
    """
    rows = len(targets)
    if held_out_files:
        first = rows - sum(table.file_rows[-held_out_files:])
        return torch.arange(first), torch.arange(first, rows)
    if config.split is not None:
        return _by_column(table, config.split)
    if not config.holds_out:
        raise ConfigError(
            "data.val_fraction=0: a table has no validation rows of its own; hold out a share, or name them with "
            "data.val_path, data.split or data.time."
        )
    if config.time is not None:
        return _by_time(table, config.time, config.val_fraction, columns)
    groups = None if config.group is None else _groups(table, config.group)
    return split_samples(config, targets, seed, groups)


def _by_column(table: Table, name: str) -> tuple[Tensor, Tensor]:
    """Split by the words in a column. Test rows are used for validation where there are no validation rows."""
    require_column(name, "data.split", tuple(table.columns.column_names), table.files[0])
    words = Categories(table.columns[name])
    texts = [text.lower() for text in words.texts.to_pylist()]
    unknown = sorted({text for text in texts if text not in TRAINING + VALIDATION + TEST})
    if unknown:
        raise DataError(
            f"data.split: the column {name} holds '{unknown[0]}'; it must say for each row whether it is for training "
            f"({', '.join(TRAINING)}), validation ({', '.join(VALIDATION)}) or test ({', '.join(TEST)})."
        )
    positions = words.positions()
    if (positions < 0).any():
        raise DataError(f"{table.where(int((positions < 0).argmax()))}: the column {name} (data.split) is empty.")

    def those(kinds: tuple[str, ...]) -> Tensor:
        wanted = [position for position, text in enumerate(texts) if text in kinds]
        return torch.from_numpy(np.flatnonzero(np.isin(positions, wanted)))

    train, val = those(TRAINING), those(VALIDATION)
    if not len(val):
        val = those(TEST)
    for rows, what in ((train, "training"), (val, "validation")):
        if not len(rows):
            raise DataError(f"data.split: the column {name} has no row for {what}.")
    return train, val


def _by_time(table: Table, name: str, fraction: float, columns: Sequence[Column]) -> tuple[Tensor, Tensor]:
    """Hold out the latest rows; rows of the same moment are on one side."""
    require_column(name, "data.time", tuple(table.columns.column_names), table.files[0])
    times = _times(table, name, columns)
    if np.isnan(times).any():
        raise DataError(f"{table.where(int(np.isnan(times).argmax()))}: the column {name} (data.time) is empty.")
    wanted = max(1, round(len(times) * fraction))
    first = np.sort(times)[-wanted]
    held_out = times >= first
    if held_out.all():
        raise DataError(f"data.time: the column {name} leaves no rows before the last {fraction:.0%} to train on.")
    later = torch.from_numpy(held_out)
    return (~later).nonzero().flatten(), later.nonzero().flatten()


def _times(table: Table, name: str, columns: Sequence[Column]) -> np.ndarray:
    """Read a column of dates or numbers as float64 (N,)."""
    column = table.columns[name]
    if is_text(column.type):
        form = _date_form(table, name, columns)
        source = datetime_column(table, name, form)
    else:
        source = numeric_column(table, name)
    return source.between(0, source.rows).astype(np.float64)


def _date_form(table: Table, name: str, columns: Sequence[Column]) -> str:
    """Return how a column of text writes its dates: as its column is known to, or found here."""
    known = next((one.form for one in columns if one.name == name and one.kind in ("datetime", "time")), "")
    if known:
        return known
    texts, counts = counted(table.columns[name])
    found = date_format(texts, counts) if len(texts) else None
    if found is None:
        raise DataError(
            f"data.time: the column {name} holds '{texts[0] if len(texts) else ''}'; its values must be "
            f"numbers, or dates that are all written in one way, which data.formats.{name}='%d.%m.%Y' may say."
        )
    return found


def without_unusable(config: Csv, table: Table, columns: Sequence[Column], store: ColumnStore) -> Table:
    """Return the table without the rows whose weight, time or side cannot be read, where `data.on_error` skips."""
    if config.on_error != "skip":
        return table
    found: dict[int, Misfit] = {}
    for key, name in (("weight", config.weight), ("time", config.time), ("split", config.split)):
        if name is not None and name in table.columns.column_names:
            wrong = _wrong(key, name, table, columns)
            for row in np.flatnonzero(wrong).tolist():
                value = table.columns[name][row].as_py()
                what = "is empty" if value is None else f"is {excerpt(str(value))}"
                found.setdefault(row, Misfit(name, f"data.{key} {what}", "" if value is None else str(value)))
    return table.without(found, store) if found else table


def _wrong(key: str, name: str, table: Table, columns: Sequence[Column]) -> np.ndarray:
    """Return which rows have no usable value in a column of this purpose, bool (N,)."""
    column = table.columns[name]
    if key == "split":
        texts = pc.utf8_lower(column.cast(pa.string()))
        return ~np.asarray(pc.is_in(texts, value_set=pa.array([*TRAINING, *VALIDATION, *TEST])))
    if is_text(column.type):
        categories = Categories(column)
        kind, form = ("numeric", "") if key == "weight" else ("datetime", _date_form(table, name, columns))
        values = np.append(read_texts(categories.texts, kind, form)[0], np.nan)[categories.positions()]
    else:
        values = _lazy_values(table, name)
    return ~(values >= 0) if key == "weight" else np.isnan(values)


def _lazy_values(table: Table, name: str) -> np.ndarray:
    source = numeric_column(table, name)
    return source.between(0, source.rows)


def _groups(table: Table, name: str) -> Tensor:
    """Return the number of each row's group, int64 (N,); a row whose group is missing is a group of its own."""
    require_column(name, "data.group", tuple(table.columns.column_names), table.files[0])
    positions = Categories(table.columns[name]).positions().astype(np.int64)
    alone = positions < 0
    positions[alone] = positions.max(initial=-1) + 1 + np.arange(alone.sum())
    return torch.from_numpy(np.unique(positions, return_inverse=True)[1].reshape(-1))


def row_weights(table: Table, name: str, key: str = "data.weight") -> Tensor:
    """Read how much each row counts, float32 (N,), from a column that a key names.

    Raises:
        DataError: naming a row whose weight is missing, negative or no number.
    """
    require_column(name, key, tuple(table.columns.column_names), table.files[0])
    source = numeric_column(table, name)
    values = source.between(0, source.rows)
    bad = ~(values >= 0)  # also NaN
    if bad.any():
        row = int(bad.argmax())
        value = table.columns[name][row].as_py()
        raise DataError(
            f"{table.where(row)}: the column {name} ({key}) {'is empty' if value is None else f'holds {value}'}; "
            "a weight is a number >= 0."
        )
    if not values.any():
        raise DataError(f"{key}: the column {name} is 0 in every row.")
    return torch.from_numpy(values.astype(np.float32))
