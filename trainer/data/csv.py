"""Tables in CSV files, read with polars."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch

from trainer.config.table import Csv
from trainer.data.split import from_splits, split_index
from trainer.errors import ConfigError, DataError, did_you_mean
from trainer.interfaces import Data, Split

MAX_CLASSES = 20  # distinct whole numbers up to which a numeric target is read as classes
LINE = "\0line"  # a column name that no file has
DELIMITERS = {"tab": "\t", "\\t": "\t", "semicolon": ";", "pipe": "|", "space": " ", "comma": ","}
MAX_LEVELS = 1000  # levels of one category that are still worth a column each


def build(config: Csv, seed: int) -> Data:
    """Features float32 (N, columns) and the target; everything fitted on the training rows only.

    Raises:
        ConfigError: for a missing or unknown column name.
        DataError: for a file that cannot be read or learned from.
    """
    table, target = read(config)
    values, labels = _target(config, table[target])
    train, val = split_index(values, config.val_fraction, seed)
    if not len(val):
        raise ConfigError("data.val_fraction=0: a CSV file has no validation rows of its own; hold out a share.")
    encoder = Encoder.fit(config, table.drop(target), train.numpy())
    inputs = torch.from_numpy(encoder.transform(table))
    whole = Split(inputs, values)
    return from_splits(
        whole.subset(train),
        whole.subset(val),
        labels,
        description=f"{len(encoder.numeric)} numeric + {len(encoder.levels)} categorical columns",
    )


def read(config: Csv) -> tuple[pl.DataFrame, str]:
    """The table as trimmed strings, null where missing, without ignored columns; and the name of the target."""
    if config.path is None:
        raise ConfigError("data.path is needed: the CSV file.")
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise DataError(f"data.path={path}: no such file.")
    delimiter = DELIMITERS.get(config.delimiter, config.delimiter)
    if len(delimiter.encode()) != 1:
        raise ConfigError(
            f"data.delimiter={config.delimiter}: must be a single character, or one of {', '.join(DELIMITERS)}."
        )
    try:
        table = pl.read_csv(path, separator=delimiter, has_header=config.header, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable CSV file ({str(error).splitlines()[0]}).") from error
    names = [name.strip() if config.header else str(i) for i, name in enumerate(table.columns)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: more than one column is named '{twice}'; rename one.")
    table.columns = names
    if config.target is None:
        raise ConfigError(f"data.target is needed: the column to predict. Columns: {', '.join(table.columns)}.")
    for key in ("numeric", "categorical", "ignore"):
        for name in getattr(config, key):
            _require(table, name, f"data.{key}", path)
    _require(table, config.target, "data.target", path)
    _check_lists(config)
    text = pl.all().str.strip_chars()
    table = table.select(pl.when(text.is_in(config.missing)).then(None).otherwise(text).name.keep())
    table = table.with_row_index(LINE, offset=1 + config.header)
    table = table.filter(~pl.all_horizontal(pl.exclude(LINE).is_null()))  # blank lines, often the last
    if not table.height:
        raise DataError(f"{path}: has no rows.")
    absent = table.filter(pl.col(config.target).is_null())
    if absent.height:
        raise DataError(
            f"{path}: the target {config.target} is missing in {absent.height} of {table.height} rows, first in line "
            f"{absent[LINE][0]}; remove those rows."
        )
    return table.drop(LINE, *config.ignore), config.target


def _check_lists(config: Csv) -> None:
    """No column may be named twice: which of the two would count?"""
    named = {key: getattr(config, key) for key in ("ignore", "numeric", "categorical")}
    for key, columns in named.items():
        if config.target in columns:
            raise ConfigError(f"data.{key}={columns}: holds the target, {config.target}; see data.target_type.")
        for other, others in named.items():
            twice = sorted(set(columns) & set(others)) if other != key else []
            if twice:
                raise ConfigError(f"data.{key} and data.{other} both name the column {twice[0]}; leave it in one.")


def _require(table: pl.DataFrame, name: str, key: str, path: Path) -> None:
    if name not in table.columns:
        hint = did_you_mean(name, table.columns)
        raise ConfigError(f"{key}={name}: {path} has no such column.{hint} Columns: {', '.join(table.columns)}.")


def _numbers(column: pl.Series) -> pl.Series | None:
    """The column as float64, or None where a value is not a finite number."""
    numbers = column.cast(pl.Float64, strict=False)
    if numbers.null_count() > column.null_count() or not numbers.drop_nulls().is_finite().all():
        return None
    return numbers


def _target(config: Csv, column: pl.Series) -> tuple[torch.Tensor, tuple[str, ...] | None]:
    """Class codes (int64, N) and names, or numbers (float32, N×1) and None."""
    numbers = _numbers(column)
    if numbers is None and config.target_type == "number":
        bad = column.filter(~column.cast(pl.Float64, strict=False).is_finite().fill_null(False))[0]
        raise DataError(f"data.target_type=number: the column {column.name} holds '{bad}', not a finite number.")
    whole = numbers is not None and (numbers == numbers.round()).all() and numbers.n_unique() <= MAX_CLASSES
    if numbers is not None and (config.target_type == "number" or (config.target_type == "auto" and not whole)):
        if numbers.n_unique() == 1:
            raise DataError(f"The target {column.name} is {column[0]} in every row: there is nothing to learn.")
        return torch.from_numpy(numbers.to_numpy().astype(np.float32)).unsqueeze(1), None
    if numbers is not None:  # 1 and 1.0 are one class, named as it is first written
        first = pl.DataFrame({"text": column, "number": numbers}).unique("number", keep="first", maintain_order=True)
        column = numbers.replace_strict(first["number"], first["text"]).alias(column.name)
    levels = column.unique().to_list()
    levels.sort(key=float if numbers is not None else str)
    if len(levels) < 2:
        raise DataError(f"The target {column.name} is {levels[0]} in every row: there is nothing to learn.")
    if len(levels) > column.len() // 2:
        raise DataError(
            f"The target {column.name} has {len(levels)} distinct values in {column.len()} rows: too many for "
            "classes. Is data.target the right column?"
        )
    codes = column.replace_strict(levels, list(range(len(levels))), return_dtype=pl.Int64)
    return torch.from_numpy(codes.to_numpy().copy()), tuple(levels)


@dataclass
class Encoder:
    """How columns become features, as fitted on the training rows.

    A number that is missing becomes the training median, and a further 0/1 column says so where that occurs in
    training. A category that is missing is a level of its own; one not seen in training gives zeros (or -1 as code).
    """

    numeric: dict[str, tuple[float, float, float, bool]] = field(default_factory=dict)  # median, mean, std, indicator
    levels: dict[str, list[str]] = field(default_factory=dict)
    onehot: bool = True

    @classmethod
    def fit(cls, config: Csv, table: pl.DataFrame, rows: np.ndarray) -> "Encoder":
        """Measure medians, means, deviations and levels on the given rows of the feature columns."""
        encoder = cls(onehot=config.categories == "onehot")
        for column in table.iter_columns():
            name, numbers = column.name, _numbers(column)
            if numbers is None and name in config.numeric:
                bad = column.filter(column.is_not_null() & column.cast(pl.Float64, strict=False).is_null())
                raise DataError(
                    f"data.numeric: the column {name} holds '{bad[0] if len(bad) else 'inf'}', not a finite number."
                )
            known = column[rows].drop_nulls()
            if known.is_empty():
                continue  # nothing is known of it in training
            if numbers is not None and name not in config.categorical:
                encoder.numeric[name] = _moments(numbers[rows], config.standardize)
            else:
                encoder.levels[name] = sorted(known.unique().to_list())
                count = len(encoder.levels[name])
                if count > min(MAX_LEVELS, max(10, len(rows) // 2)):
                    raise DataError(
                        f"The column {name} has {count} distinct values in {len(rows)} training rows, like an "
                        f"identifier or free text; leave it out with data.ignore=[{name}]."
                    )
        if not encoder.numeric and not encoder.levels:
            raise DataError("There is no column to learn from beside the target.")
        return encoder

    def transform(self, table: pl.DataFrame) -> np.ndarray:
        """float32 (rows, features) of a table with the same columns."""
        columns: list[np.ndarray] = []
        for name, (median, mean, std, indicator) in self.numeric.items():
            numbers = table[name].cast(pl.Float64, strict=False)
            columns.append(((numbers.fill_null(median) - mean) / std).to_numpy())
            if indicator:
                columns.append(numbers.is_null().cast(pl.Float64).to_numpy())
        for name, levels in self.levels.items():
            with_missing = [*levels, None]
            codes = table[name].replace_strict(with_missing, list(range(len(with_missing))), default=-1).to_numpy()
            if self.onehot:
                columns.extend((codes == code).astype(np.float32) for code in range(len(with_missing)))
            else:
                columns.append(codes)
        return np.stack(columns, axis=1, dtype=np.float32, casting="same_kind")


def _moments(numbers: pl.Series, standardize: bool) -> tuple[float, float, float, bool]:
    median = float(numbers.median())  # type: ignore[arg-type]  # a number: the column is numeric and not all null
    filled = numbers.fill_null(median).to_numpy()
    std = float(filled.std()) or 1.0  # a constant column is only centred
    mean = float(filled.mean()) if standardize else 0.0
    return median, mean, std if standardize else 1.0, numbers.null_count() > 0
