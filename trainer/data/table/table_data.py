"""Tables as data: from files to the two splits of a model's inputs."""

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trainer.config.table import Csv
from trainer.data.splits import from_splits
from trainer.data.table import column_types, inspection, leakage, preprocess, row_split, source, target
from trainer.data.table.column_store import ColumnStore, DiskColumnStore, MemoryColumnStore
from trainer.data.table.column_types import Column
from trainer.data.table.encode import RangeEncoder, encode_rows
from trainer.data.table.misfits import without_misfits
from trainer.data.table.overview import describe_table
from trainer.data.table.preprocess import FittedColumn, Preprocessor
from trainer.data.table.reading import read_table
from trainer.data.table.table import Table
from trainer.data.table.table_cache import TableCache, open_cache
from trainer.data.types import Data, DataSpec, Samples, Split, as_float
from trainer.errors import CheckpointError, DataError
from trainer.system import streams

SIDES = ("train", "val")
PART = 1 << 16  # rows that are handed on at a time
SPILL = 1 << 25  # bytes of new files from which on their columns are kept on disk, however many rows there are
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
    table, columns = _usable_rows(config, cache.column_store())
    targets, labels = target.infer_targets(table, config)
    targets = cache.spill("targets", targets)
    rows_of = row_split.split_rows(config, table, columns, targets, held_out, seed)
    sides = [cache.spill(f"{side}.rows", rows) for side, rows in zip(SIDES, rows_of, strict=True)]
    del rows_of
    _check_classes(config.targets[0], targets, labels, sides)
    weights = None if config.weight is None else row_split.row_weights(table, config.weight)
    train, val = (rows.numpy() for rows in sides)
    fitted = preprocess.fit_preprocessor(config, table, columns, train)
    leaks = leakage.find_leaks(fitted, table, targets.numpy(), train, labels is not None)
    steps = target.fit_steps(config, None if labels is not None else targets[sides[0]])
    doubts = inspection.find_doubts(config, table, columns, fitted, targets, labels, (train, val))
    chain = [one.option for one in config.chains().get(config.targets[0], [])]
    overview = describe_table(table, columns, fitted, leaks, doubts, chain)
    outputs = [
        cache.rows(f"{side}.inputs", (len(rows), fitted.width()))
        for side, rows in zip(SIDES, (train, val), strict=True)
    ]
    splits = [
        Split(inputs, targets[rows], rows, None if weights is None else weights[rows])
        for inputs, rows in zip(encode_rows(fitted, table, [train, val], outputs), sides, strict=True)
    ]
    data = from_splits(splits[0], splits[1], labels, description=fitted.words())
    spec = dataclasses.replace(data.spec, cardinalities=fitted.cardinalities)
    if steps:
        spec = spec.with_target_steps(steps, splits[0].targets)
    return dataclasses.replace(
        data,
        spec=spec,
        notes=overview.notes,
        warnings=(*overview.warnings, *inspection.repeated_rows(splits)),
        files=overview.files,
        preprocessing=fitted.to_json(),
    )


def _usable_rows(config: Csv, store: ColumnStore) -> tuple[Table, list[Column]]:
    """Read the rows of the run's own files that can be used, and determine what each column is."""
    table = read_table(config, store)
    columns = column_types.infer_columns(config, table)
    column_types.check_transforms(config, columns)
    strict = [(one.name, one.kind, one.form) for one in columns if one.is_input]
    if config.target_type == "number" or len(config.targets) > 1:
        strict += [target.strict_numbers(table, name) for name in config.targets]
    table = without_misfits(table, strict, config.on_error, store)
    return row_split.without_unusable(config, table, columns, store), columns


def _check_classes(name: str, targets: Tensor, labels: tuple[str, ...] | None, sides: list[Tensor]) -> None:
    """Raise `DataError` where all training rows, or all validation rows, are of one class."""
    for rows, side, why in zip(sides, ("training", "validation"), ONE_CLASS, strict=True):
        if labels is not None and len(alone := targets[rows].unique()) == 1:
            raise DataError(f"The target {name} is {labels[int(alone)]} in every {side} row: {why}.")


def read_table_samples(
    config: Csv,
    paths: Sequence[str],
    spec: DataSpec,
    preprocessing: str | None,
    labelled: bool,
    keep: Sequence[str] = (),
) -> Iterator[Samples]:
    """Read the rows of other tables, transformed exactly like the training rows, in parts of bounded size.

    Only the columns that the model takes are read and judged; how a file writes its table is found anew for each, by
    their names.

    Args:
        config: of the run that trained the model, with what the user says of the new files.
        paths: files, or patterns.
        spec, preprocessing: of the training data.
        labelled: whether the tables must have the target.
        keep: columns to hand on with the samples.

    Raises:
        CheckpointError: where the preprocessing is damaged, or not the model's.
        DataError: for a file that cannot be read, that lacks a column, or whose column is not as it was in training.
    """
    if preprocessing is None:
        raise CheckpointError("The checkpoint has no preprocessing: it was not trained on a table.")
    fitted = Preprocessor.from_json(preprocessing)
    if fitted.width() != spec.features or fitted.cardinalities != spec.cardinalities:
        raise CheckpointError("The saved preprocessing is not that of the model.")
    asked = _as_trained(config, [*paths], fitted, keep)
    files = source.source_files(asked.path)
    with contextlib.ExitStack() as stack:
        store: ColumnStore = MemoryColumnStore()
        if sum(path.stat().st_size for path in files) >= SPILL:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="trainer-table-"))
            store = DiskColumnStore(Path(folder))
        yield from _parts(asked, fitted, spec, labelled, keep, store)


def _parts(
    config: Csv, fitted: Preprocessor, spec: DataSpec, labelled: bool, keep: Sequence[str], store: ColumnStore
) -> Iterator[Samples]:
    """Yield the rows of `read_table_samples` in parts."""
    inputs = [column.name for column in fitted.columns]
    wanted = dict.fromkeys([*inputs, *(config.targets if labelled else ()), *keep])
    table = read_table(config, store, labelled=labelled, wanted=[*wanted])
    fitted = fitted.written_in(table, config.formats)
    strict = [(one.name, one.kind, one.form) for one in fitted.columns]
    if labelled and spec.labels is None:
        strict += [target.strict_numbers(table, name) for name in config.targets]
    table = without_misfits(table, strict, config.on_error, store, settled=True)
    if labelled and spec.labels is not None and config.on_error == "skip":
        strangers = target.unknown_classes(table, config.targets[0], spec.labels)
        table = table.without(strangers, store) if strangers else table
    if not table.columns.num_rows:
        raise DataError(f"{table.files[0]}: none of its {table.rows_read:,} rows can be used: {table.rejected[0]}.")
    if not labelled:
        targets = None
    elif spec.labels is not None:
        targets = target.class_codes(table, config.targets[0], spec.labels)
    else:
        targets = target.numbers(table, config.targets)
    notes = (*table.notes, *inspection.unknown_levels(fitted, table))
    rejected = tuple(map(str, table.rejected))
    encode, places = RangeEncoder(fitted, table), table.places()
    several = len(table.files) > 1
    for start in range(0, table.columns.num_rows, PART):
        stop = min(start + PART, table.columns.num_rows)
        here = list(itertools.islice(places, stop - start))
        yield Samples(
            Split(
                encode(start, stop),
                torch.zeros(stop - start, dtype=torch.int64) if targets is None else targets[start:stop],
            ),
            as_float,
            "line",
            [line for _, line in here],
            rejected if not start else (),
            files=[path for path, _ in here] if several else None,
            kept={column: table.columns[column][start:stop].cast(pa.string()).to_pylist() for column in keep},
            notes=notes if not start else (),
        )


def _as_trained(config: Csv, path: Any, fitted: Preprocessor, keep: Sequence[str] = ()) -> Csv:
    """Return the config for other files, in which each column is of the kind that it had in training."""
    kinds = {column.name: column.kind for column in fitted.columns}
    numeric, categorical, dates = (
        [name for name, kind in kinds.items() if kind == one] for one in ("numeric", "categorical", "datetime")
    )
    return dataclasses.replace(
        config,
        path=path,
        val_path=None,
        numeric=numeric,
        categorical=categorical,
        boolean=[],
        datetime=dates,
        text=[name for name in keep if name not in kinds],
        order={},
        ignore=[],
        group=None,
        weight=None,
        split=None,
        time=None,
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
    table, _ = _usable_rows(dataclasses.replace(config, path=files), MemoryColumnStore())
    order = rows.argsort()
    at = rows[order].numpy()
    entries: list[np.ndarray[Any, Any]] = []
    for column in fitted.columns:
        values = column.lazy(table).at(at)
        entries += [values] if is_raw(column) else column.apply(values)
    found = torch.from_numpy(np.stack(entries, axis=1).astype(np.float64))
    return found[order.argsort()]
