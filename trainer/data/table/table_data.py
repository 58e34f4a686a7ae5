"""Tables as data: from files to the two splits of a model's inputs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.config.table import Csv
from trainer.data.splits import from_splits
from trainer.data.table import column_types, leakage, preprocess, row_split, source, target
from trainer.data.table.encode import encode_rows
from trainer.data.table.overview import describe_table
from trainer.data.table.preprocess import FittedColumn, Preprocessor
from trainer.data.table.reading import read_table
from trainer.data.table.table_cache import TableCache, open_cache
from trainer.data.types import Data, DataSpec, Samples, Split, as_float
from trainer.errors import CheckpointError, DataError
from trainer.system import streams

SIDES = ("train", "val")
SLOW = 1 << 28  # bytes that take more than a second to read: the user is told what is going on
ONE_CLASS = (
    "there is nothing to learn",
    "a score on them would say nothing of the other classes; hold out rows of several (data.split, data.time, ...)",
)


def load_table(config: Csv, seed: int) -> Data:
    """Load a table: inputs float32 (N, features) and targets; everything is fitted on the training rows only.

    Raises:
        ConfigError: for a missing or unknown column name.
        DataError: for a file that cannot be read or learned from.
        TrainerError: with data.memory=disk where the disk does not take the files.
    """
    held_out = source.source_files(config.val_path) if config.val_path is not None else ()
    files = (*source.source_files(config.path), *held_out)
    with open_cache(config, seed, files, len(held_out)) as cache:
        cached = cache.load()
        if cached is not None:
            return cached
        size = sum(path.stat().st_size for path in files)
        if size >= SLOW:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            streams.tell(f"reading   {files[0]}{more}, {size / 1e9:.2g} GB")
        whole = dataclasses.replace(config, path=[*map(str, files)])
        try:
            return cache.commit(_prepare(whole, seed, len(held_out), cache))
        except OSError as error:
            cache.fall_back(error)
        return _prepare(whole, seed, len(held_out), cache)


def _prepare(config: Csv, seed: int, held_out: int, cache: TableCache) -> Data:
    """Read the files of `config.path`, the last `held_out` of which are for validation, and make data of them."""
    table = read_table(config, cache.column_store())
    columns = column_types.infer_columns(config, table)
    assert config.target is not None  # read_table has checked it
    targets, labels = target.infer_target(table, config.target, config.target_type)
    targets = cache.spill("targets", targets)
    rows_of = row_split.split_rows(config, table, targets, held_out, seed)
    sides = [cache.spill(f"{side}.rows", rows) for side, rows in zip(SIDES, rows_of, strict=True)]
    del rows_of
    _check_classes(config.target, targets, labels, sides)
    weights = None if config.weight is None else row_split.row_weights(table, config.weight)
    train, val = (rows.numpy() for rows in sides)
    fitted = preprocess.fit_preprocessor(config, table, columns, train)
    leaks = leakage.find_leaks(fitted, table, targets.numpy(), train, labels is not None)
    overview = describe_table(table, columns, fitted, leaks)
    outputs = [
        cache.rows(f"{side}.inputs", (len(rows), fitted.width()))
        for side, rows in zip(SIDES, (train, val), strict=True)
    ]
    splits = [
        Split(inputs, targets[rows], rows, None if weights is None else weights[rows])
        for inputs, rows in zip(encode_rows(fitted, table, [train, val], outputs), sides, strict=True)
    ]
    data = from_splits(splits[0], splits[1], labels, description=fitted.words())
    return dataclasses.replace(
        data,
        spec=dataclasses.replace(data.spec, cardinalities=fitted.cardinalities),
        notes=overview.notes,
        warnings=overview.warnings,
        files=overview.files,
        preprocessing=fitted.to_json(),
    )


def _check_classes(name: str, targets: Tensor, labels: tuple[str, ...] | None, sides: list[Tensor]) -> None:
    """Raise `DataError` where all training rows, or all validation rows, are of one class."""
    for rows, side, why in zip(sides, ("training", "validation"), ONE_CLASS, strict=True):
        if labels is not None and len(alone := targets[rows].unique()) == 1:
            raise DataError(f"The target {name} is {labels[int(alone)]} in every {side} row: {why}.")


def read_table_samples(config: Csv, path: str, spec: DataSpec, preprocessing: str | None, labelled: bool) -> Samples:
    """Read the rows of another table, transformed exactly like the training rows.

    Args:
        config: of the run that trained the model.
        path: a file, or a pattern.
        spec, preprocessing: of the training data.
        labelled: whether the table must have the target.

    Raises:
        CheckpointError: where the preprocessing is damaged, or not the model's.
        DataError: for a file that cannot be read, that lacks a column, or whose column is not as it was in training.
    """
    if preprocessing is None:
        raise CheckpointError("The checkpoint has no preprocessing: it was not trained on a table.")
    fitted = Preprocessor.from_json(preprocessing)
    if fitted.width() != spec.features or fitted.cardinalities != spec.cardinalities:
        raise CheckpointError("The saved preprocessing is not that of the model.")
    table = read_table(_as_trained(config, path, fitted), labelled=labelled)
    (inputs,) = encode_rows(fitted, table)
    if not labelled:
        targets = torch.zeros(len(inputs), dtype=torch.int64)
    elif spec.labels is not None:
        targets = target.class_codes(table, str(config.target), spec.labels)
    else:
        targets, _ = target.infer_target(table, str(config.target), "number")
    return Samples(Split(inputs, targets), as_float, "line", table.lines(), tuple(map(str, table.rejected)))


def _as_trained(config: Csv, path: str, fitted: Preprocessor) -> Csv:
    """Return the config for another file, in which each column is of the kind that it had in training."""
    kinds = {column.name: column.kind for column in fitted.columns}
    numeric, categorical = ([name for name, kind in kinds.items() if kind == one] for one in ("numeric", "categorical"))
    return dataclasses.replace(
        config,
        path=path,
        val_path=None,
        numeric=numeric,
        categorical=categorical,
        boolean=[],
        datetime=[],
        text=[],
        ignore=[],
        transforms={},
    )


def raw_columns(config: Csv, fitted: Preprocessor, rows: Tensor, is_raw: Callable[[FittedColumn], bool]) -> Tensor:
    """Read rows of the run's own table again, as the columns are before their transforms.

    Args:
        config: of the run.
        rows: their positions, int64.
        is_raw: whether a column is wanted so; of the others come the inputs that their transforms give.

    Returns:
        float64 (rows, entries): numbers, seconds since 1970, or codes of categories; NaN where a value is missing.
    """
    held_out = source.source_files(config.val_path) if config.val_path is not None else ()
    files = [*map(str, (*source.source_files(config.path), *held_out))]
    table = read_table(dataclasses.replace(_as_trained(config, "", fitted), path=files), labelled=False)
    order = rows.argsort()
    at = rows[order].numpy()
    entries: list[np.ndarray[Any, Any]] = []
    for column in fitted.columns:
        values = column.lazy(table).at(at)
        entries += [values] if is_raw(column) else column.apply(values)
    found = torch.from_numpy(np.stack(entries, axis=1).astype(np.float64))
    return found[order.argsort()]
