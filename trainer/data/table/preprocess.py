"""From the columns of a table to the inputs of a model: fitted on the training rows, saved, applied to any table."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from trainer.config.quoting import shell_override
from trainer.config.table import Csv
from trainer.config.transform import BOTH, CATEGORIES, KINDS, NUMBERS, TransformConfig, chain
from trainer.data.files.mapped import THREADS
from trainer.data.table import column_types
from trainer.data.table.column_statistics import Values
from trainer.data.table.column_types import Column
from trainer.data.table.columns import Categories, LazyColumn, boolean_column, datetime_column, numeric_column
from trainer.data.table.table import Table
from trainer.data.table.transforms import ColumnTransform, State, build_transform
from trainer.errors import CheckpointError, ConfigError, DataError, TrainerError

_ORDER = ("numeric", "boolean", "datetime", "categorical")  # of the inputs
DEFAULTS: dict[str, list[Any]] = {
    "numeric": ["missing_indicator", "impute", "standardize"],
    "boolean": ["missing_indicator", {"name": "impute", "method": "most_frequent"}],
    "datetime": ["missing_indicator", "impute", "calendar", "standardize"],
    "onehot": ["impute", "onehot"],
    "embedding": ["impute", "embed"],
}


@dataclass(frozen=True)
class FittedColumn:
    """A column, and the transforms that were fitted to it on the training rows.

    Attributes:
        name, kind, form: see `trainer.data.table.column_types.Column`.
        levels: of a category, the values of the training rows in their order; their codes count from 1.
        transforms: applied in this order.
        states: what each transform has measured, one state for each column that it is given.
    """

    name: str
    kind: str
    form: str
    levels: tuple[str, ...]
    transforms: tuple[TransformConfig, ...]
    states: tuple[tuple[State, ...], ...] = field(repr=False)

    @property
    def cardinality(self) -> int:
        """Number of codes for an embedding (one for unseen values, the levels, one for missing); 0: not embedded."""
        return len(self.levels) + 2 if self.transforms[-1].codes else 0

    def width(self) -> int:
        """Return how many inputs the column becomes."""
        return len(self.apply(np.zeros(1)))

    def apply(self, values: Values) -> list[Values]:
        """Transform values of the column, (rows,), to inputs, each (rows,)."""
        columns, extra = [values], []
        for transform, states in zip(self.transforms, self.states, strict=True):
            step = build_transform(transform)
            given = _each(step, columns, states)
            if transform.beside:
                extra += given
            else:
                columns = given
        return columns + extra

    def lazy(self, table: Table) -> LazyColumn:
        """Find the column in a table; raise `DataError` where it is not there or not as it was in training."""
        if table.columns.schema.get_field_index(self.name) < 0:  # a list of the names would be made for each column
            raise DataError(f"{table.files[0]}: has no column {self.name}, which the model was trained with.")
        match self.kind:
            case "categorical":
                return Categories(table.columns[self.name]).codes(self.levels)
            case "boolean":
                return boolean_column(table, self.name)
            case "datetime":
                return datetime_column(table, self.name, self.form)
        return numeric_column(table, self.name, self.form)


@dataclass(frozen=True)
class Preprocessor:
    """The columns of a table that become inputs; those of category codes for embeddings come last."""

    columns: tuple[FittedColumn, ...]

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """How many category codes each of the last inputs has; see `trainer.data.types.DataSpec`."""
        return tuple(column.cardinality for column in self.columns if column.cardinality)

    def written_in(self, table: Table, formats: Mapping[str, str]) -> "Preprocessor":
        """Return the same for a table that may write numbers, dates, and yes and no, in another way.

        Args:
            table: that has the columns.
            formats: how dates are written there, by column, as far as the user says it.
        """
        found = []
        for column in self.columns:
            kind, form = column_types.as_written(column.kind, column.form, table, column.name)
            found.append(dataclasses.replace(column, kind=kind, form=formats.get(column.name, form)))
        return Preprocessor(tuple(found))

    def width(self) -> int:
        """Return how many inputs there are."""
        return sum(column.width() for column in self.columns)

    def words(self) -> str:
        """Return a description such as "3 numeric + 2 categorical columns"."""
        kinds = [column.kind for column in self.columns]
        counts = [(kinds.count(kind), kind) for kind in _ORDER]
        return " + ".join(f"{n} {kind}" for n, kind in counts if n or kind in ("numeric", "categorical")) + " columns"

    def to_json(self) -> str:
        """Return everything as text, for a checkpoint."""
        return json.dumps({"columns": [_to_plain(column) for column in self.columns]})

    @classmethod
    def from_json(cls, text: str) -> "Preprocessor":
        """Make a preprocessor from what `to_json` returned.

        Raises:
            CheckpointError: for anything else; a transform that is not registered is named.
        """
        try:
            columns = tuple(_from_plain(plain) for plain in json.loads(text)["columns"])
            for column in columns:  # it must work on values that can occur
                for values in (np.zeros(2), np.array([np.nan, 1.0]), np.array([len(column.levels) + 1.0, 0.0])):
                    if not all(part.shape == (2,) and part.dtype.kind == "f" for part in column.apply(values)):
                        raise ValueError(f"column {column.name} does not give columns of numbers")
        except TrainerError as error:
            raise CheckpointError(f"The saved preprocessing cannot be used: {error}") from error
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise CheckpointError(
                f"The saved preprocessing is damaged ({' '.join(str(error).split())[:200]})."
            ) from error
        return cls(columns)


def fit_preprocessor(config: Csv, table: Table, columns: Sequence[Column], rows: Values) -> Preprocessor:
    """Fit the transforms of all inputs.

    Args:
        config: says which transforms a column has.
        table: all rows.
        columns: what each column is.
        rows: the training rows, ascending int64.

    Raises:
        ConfigError: for transforms that do not fit a column.
        DataError: where there is no input.
    """
    inputs = [column for column in columns if column.is_input]
    # Each thread holds the training values of one column.
    with ThreadPoolExecutor(THREADS if config.memory == "ram" else 1) as pool:
        results = pool.map(lambda column: _fit(config, table, column, rows), inputs)
        fitted = [column for column in results if column is not None]
    if not fitted:
        raise DataError("There is no column to learn from beside the target.")
    return Preprocessor(tuple(sorted(fitted, key=lambda column: (bool(column.cardinality), _ORDER.index(column.kind)))))


def _fit(config: Csv, table: Table, column: Column, rows: Values) -> FittedColumn | None:
    """Fit the transforms of one column; None where it has no value in the training rows."""
    levels: tuple[str, ...] = ()
    blank = FittedColumn(column.name, column.kind, column.form, (), (), ())
    if column.kind == "categorical":
        categories = Categories(table.columns[column.name])
        levels = categories.levels(rows, config.order.get(column.name, ()))
        values = categories.codes(levels).at(rows)
    else:
        values = blank.lazy(table).at(rows)
    if np.isnan(values).all():
        return None
    transforms = choose_transforms(config, column, len(levels))
    states: list[tuple[State, ...]] = []
    parts = [values]
    for transform in transforms:
        step = build_transform(transform)
        states.append(tuple(step.fit(part, len(levels)) for part in parts))
        if not transform.beside and transform is not transforms[-1]:
            parts = _each(step, parts, states[-1])
    return FittedColumn(column.name, column.kind, column.form, levels, tuple(transforms), tuple(states))


def choose_transforms(config: Csv, column: Column, levels: int) -> list[TransformConfig]:
    """Choose the transforms of a column: those configured for its name, for its kind, or the defaults.

    Args:
        config: says which transforms a column has.
        column: what it is.
        levels: of a category, how many there are.

    Raises:
        ConfigError: where they do not fit the column or one another.
    """
    where = next((name for name in (column.name, column.kind) if name in config.transforms), None)
    if where is not None:
        transforms = chain(config.transforms[where], f"data.transforms.{where}")
    else:
        kind = column.kind
        if kind == "categorical":
            few = config.categories == "auto" and levels <= config.onehot_levels
            kind = "onehot" if few or config.categories == "onehot" else "embedding"
        transforms = chain(DEFAULTS[kind], f"the transforms of {kind} columns")
    categories = column.kind == "categorical"
    for position, transform in enumerate(transforms):
        if transform.takes not in (BOTH, CATEGORIES if categories else NUMBERS):
            hint = (
                "after onehot, embed or ordinal"
                if categories
                else f"for {shell_override('data.categorical', [column.name])}"
            )
            raise ConfigError(
                f"data.transforms.{where}: {transform.option} is for columns of {transform.takes}, and {column.name} "
                f"has {'categories' if categories else 'numbers'} there; it can come {hint}."
            )
        if transform.codes and position < len(transforms) - 1:
            raise ConfigError(f"data.transforms.{where}: {transform.option} gives codes, and must be the last.")
        categories = categories and transform.takes == BOTH
    if categories:
        raise ConfigError(
            f"data.transforms.{where}: leaves the categories of {column.name} as they are; end with onehot, embed or "
            "ordinal."
        )
    return transforms


def _each(step: ColumnTransform, columns: Sequence[Values], states: Sequence[State]) -> list[Values]:
    """Apply a transform to several columns, each with its own state."""
    given: list[Values] = []
    for values, state in zip(columns, states, strict=True):
        result = step.apply(values, state)
        given += result if isinstance(result, list) else [result]
    return given


def _to_plain(column: FittedColumn) -> dict[str, Any]:
    """Return a fitted column as plain data."""
    plain = {name: getattr(column, name) for name in ("name", "kind", "form", "levels", "states")}
    entries = [
        {"name": transform.option} | {key.name: getattr(transform, key.name) for key in fields(transform)}
        for transform in column.transforms
    ]
    return plain | {"transforms": entries}


def _from_plain(plain: dict[str, Any]) -> FittedColumn:
    """Make a fitted column from what `_to_plain` returned; raise `ValueError` or `LookupError` for anything else."""
    name, kind, form, levels = plain["name"], plain["kind"], plain["form"], tuple(plain["levels"])
    if kind not in KINDS or not all(isinstance(text, str) for text in (name, form, *levels)):
        raise ValueError(f"a column {name!r:.80} of kind {kind!r:.80}")
    states = tuple(tuple(dict(state) for state in part) for part in plain["states"])
    return FittedColumn(name, kind, form, levels, tuple(chain(plain["transforms"], f"column {name}")), states)
