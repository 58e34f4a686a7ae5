"""The column to predict: classes or numbers."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from trainer.config.table import Csv
from trainer.config.transform import Log1p, MinMax, Nothing, Robust, Standardize
from trainer.data.table.arrow_types import is_text
from trainer.data.table.column_types import HEAD
from trainer.data.table.columns import Categories
from trainer.data.table.levels import level_values, match_levels, sort_levels
from trainer.data.table.row_parser import excerpt
from trainer.data.table.table import Misfit, Table
from trainer.data.table.text_values import counted, is_padded, read_texts
from trainer.data.table.transforms import build_transform
from trainer.data.table.written_numbers import number_style
from trainer.data.target_steps import LOG1P, SCALE, Step, apply_steps
from trainer.errors import ConfigError, DataError

MAX_CLASSES = 20  # distinct whole numbers up to which a numeric target is read as classes


def infer_targets(table: Table, config: Csv) -> tuple[Tensor, tuple[str, ...] | None]:
    """Read the column or columns to predict.

    Args:
        table: all rows.
        config: names the columns and says what they are: class, number, or auto: class, unless the column is numeric
            with fractions or many values. Several columns are numbers.

    Returns:
        Class codes int64 (N,) and the names of the classes, or numbers float32 (N, columns) and None.

    Raises:
        DataError: for a target that cannot be learned: constant, not a number where one is needed, free text.
    """
    if len(config.targets) == 1:
        return _infer_target(table, config.targets[0], config.target_type)
    return torch.cat([_infer_target(table, name, "number")[0] for name in config.targets], dim=1), None


def _infer_target(table: Table, name: str, target_type: str) -> tuple[Tensor, tuple[str, ...] | None]:
    column = table.columns[name]
    numbers = _numbers(table, name)
    if numbers is None and target_type == "number":
        row, word = _first_word(table, name)
        raise DataError(
            f"data.target_type=number: the column {name} holds '{word}' ({table.where(row)}), not a finite number."
        )
    if numbers is not None and (
        target_type == "number" or (target_type == "auto" and not _few(numbers, len(column) // 2))
    ):
        values = np.asarray(numbers.cast(pa.float32(), safe=False)).astype(np.float32)  # a copy: arrow's is read-only
        if values.min() == values.max():
            raise DataError(f"The target {name} is {column[0]} in every row: there is nothing to learn.")
        return torch.from_numpy(values).unsqueeze(1), None
    texts = pc.unique(column).cast(pa.string())
    first: dict[str, str] = {}  # of each value the spelling in which it first occurs
    for value, text in zip(level_values(texts).to_pylist(), texts.to_pylist(), strict=True):
        first.setdefault(value, text)
    labels = tuple(first[value] for value in sort_levels(first))
    if len(labels) < 2:
        raise DataError(f"The target {name} is {labels[0]} in every row: there is nothing to learn.")
    if len(labels) > len(column) // 2:
        as_number = "" if numbers is None else ", or set data.target_type=number (task=regression does so)"
        raise DataError(
            f"The target {name} has {len(labels)} distinct values in {len(column)} rows: too many for classes. Is "
            f"data.target the right column? If so, give more rows{as_number}."
        )
    return class_codes(table, name, labels), labels


def numbers(table: Table, names: Sequence[str]) -> Tensor:
    """Read columns of numbers to compare predictions with, float32 (N, columns); raise `DataError` for other values."""
    columns = []
    for name in names:
        found = _numbers(table, name)
        if found is None:
            row, word = _first_word(table, name)
            raise DataError(f"{table.where(row)}: the column {name} holds '{word}', not a finite number.")
        columns.append(np.array(found.cast(pa.float32(), safe=False), dtype=np.float32))
    return torch.from_numpy(np.stack(columns, axis=1))


def fit_steps(config: Csv, numbers: Tensor | None) -> tuple[Step, ...]:
    """Fit the transforms of the target that the config asks for; () where it asks for none.

    Args:
        config: says which.
        numbers: of the training rows, float32 (N, 1); None: the target is classes.

    Raises:
        ConfigError: for classes, and for a transform that cannot be undone.
    """
    if len(config.targets) > 1:
        return ()  # the config has refused their transforms
    [name] = config.targets
    steps: list[Step] = []
    for transform in config.chains().get(name, []):
        if numbers is None:
            raise ConfigError(
                f"data.transforms.{name}: the target is classes, which have no transform; data.target_type=number "
                "reads it as numbers."
            )
        match transform:
            case Nothing():
                continue
            case Log1p():
                steps.append((LOG1P, 0.0, 1.0))
            case Standardize() | Robust() | MinMax():
                values = apply_steps(numbers.double(), steps).numpy()[:, 0]
                state = build_transform(transform).fit(values, 0)
                steps.append((SCALE, float(state["center"]), float(state["scale"]) or 1.0))
            case _:
                raise ConfigError(
                    f"data.transforms.{name}: {transform.option} of the target cannot be undone; there are log1p, "
                    "standardize, robust and minmax."
                )
    return tuple(steps)


def strict_numbers(table: Table, name: str) -> tuple[str, str, str]:
    """Return name, kind and form of a target that has to be numbers; see `without_misfits`."""
    if not is_text(table.columns[name].type):
        return name, "numeric", ""
    return name, "numeric", number_style(*counted(table.columns[name]), table.decimal)[0]


def class_codes(table: Table, name: str, labels: tuple[str, ...]) -> Tensor:
    """Find the class of each row, int64 (N,), as its position in `labels`; see `match_levels`.

    Raises:
        DataError: naming a row whose class is none of them, and how many there are.
    """
    column = Categories(table.columns[name])
    found = match_levels(column.texts, labels)[column.positions()] - 1
    if (found < 0).any():
        strangers = unknown_classes(table, name, labels)
        row = min(strangers)
        words = Counter(misfit.text for misfit in strangers.values()).most_common(3)
        shown = ", ".join(f"{excerpt(text)} in {count:,} rows" for text, count in words)
        raise DataError(
            f"{table.where(row)}: {strangers[row].reason} {', '.join(labels[:10])}; such are {shown}. "
            "data.on_error=skip (--on-error skip) leaves such rows out."
        )
    return torch.from_numpy(found)


def unknown_classes(table: Table, name: str, labels: tuple[str, ...]) -> dict[int, Misfit]:
    """Find the rows whose class is none of `labels`."""
    column = Categories(table.columns[name])
    new = np.append(match_levels(column.texts, labels) == 0, False)
    if not new.any():
        return {}
    positions = column.positions()
    found = {}
    for row in np.flatnonzero(new[positions]).tolist():
        text = column.texts[int(positions[row])].as_py()
        found[row] = Misfit(name, f"{name} is {excerpt(text)}, none of the classes", text)
    return found


def _numbers(table: Table, name: str) -> pa.ChunkedArray | None:
    """Return the column as numbers, also of such as 1,234.50; None where a value is not a finite number, or a code."""
    column = table.columns[name]
    if not is_text(column.type):
        return column if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) else None
    written = Categories(column)
    if not len(written.texts) or is_padded(written.texts):
        return None
    form, share = number_style(written.texts, np.ones(len(written.texts)), table.decimal)
    if share < 1:
        return None
    values = np.append(read_texts(written.texts, "numeric", form)[0], np.nan)
    return pa.chunked_array([values[written.positions()]])


def _few(numbers: pa.ChunkedArray, most: int) -> bool:
    """Return whether the numbers are whole, and few enough to be classes: `most` of them at most."""
    if len(pc.unique(numbers.slice(0, HEAD))) > MAX_CLASSES:
        return False  # mostly enough; the whole would need a table of all its values
    distinct = pc.unique(numbers)
    return len(distinct) <= min(MAX_CLASSES, max(2, most)) and pc.all(pc.equal(distinct, pc.round(distinct))).as_py()


def _first_word(table: Table, name: str) -> tuple[int, str]:
    """Find the first value that is not a finite number, and its row."""
    texts = table.columns[name].cast(pa.string())
    distinct = pc.unique(texts)
    wrong = read_texts(distinct, "numeric", number_style(distinct, np.ones(len(distinct)), table.decimal)[0])[1]
    word = distinct[int(wrong.argmax())]
    return pc.index(texts, word).as_py(), word.as_py()
