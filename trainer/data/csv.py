"""Tables as data: from files to the two splits of a model's inputs."""

import dataclasses

import torch

from trainer.config.table import Csv
from trainer.data.split import from_splits
from trainer.data.table import leakage, preprocess, roles, source, splits, target
from trainer.data.table.encode import encode
from trainer.data.table.overview import overview
from trainer.data.table.preprocess import Preprocessor
from trainer.data.table.reading import read
from trainer.errors import CheckpointError, DataError
from trainer.interfaces import Data, DataSpec, Samples, Split, as_float


def build(config: Csv, seed: int) -> Data:
    """Inputs float32 (N, features) and the target; everything fitted on the training rows only.

    Raises:
        ConfigError: for a missing or unknown column name.
        DataError: for a file that cannot be read or learned from.
    """
    held_out = source.files(config.val_path) if config.val_path is not None else ()
    table = read(dataclasses.replace(config, path=[*map(str, source.files(config.path)), *map(str, held_out)]))
    columns = roles.infer(config, table)
    assert config.target is not None  # read has checked it
    targets, labels = target.infer(table, config.target, config.target_type)
    train, val = splits.split(config, table, targets, len(held_out), seed)
    if labels is not None and len(alone := targets[train].unique()) == 1:
        raise DataError(f"The target {config.target} is {labels[int(alone)]} in every training row.")
    weights = None if config.weight is None else splits.weights(table, config.weight)
    fitted = preprocess.fit(config, table, columns, train.numpy())
    inputs = encode(fitted, table, [train.numpy(), val.numpy()])
    leaks = leakage.find(fitted, table, targets.numpy(), train.numpy(), labels is not None)
    known = overview(table, columns, fitted, leaks)
    parts = [
        Split(part, targets[rows], rows, None if weights is None else weights[rows])
        for part, rows in zip(inputs, (train, val), strict=True)
    ]
    data = from_splits(parts[0], parts[1], labels, description=fitted.words())
    return dataclasses.replace(
        data,
        spec=dataclasses.replace(data.spec, cardinalities=fitted.cardinalities),
        notes=known.notes,
        warnings=known.warnings,
        files=known.files,
        preprocessing=fitted.to_json(),
    )


def samples(config: Csv, path: str, spec: DataSpec, preprocessing: str | None, labelled: bool) -> Samples:
    """The rows of another table, as the model was given those that it was trained with.

    Raises:
        CheckpointError: where the preprocessing is damaged, or not the model's.
        DataError: for a file that cannot be read, that lacks a column, or whose column is not as it was.
    """
    if preprocessing is None:
        raise CheckpointError("The checkpoint has no preprocessing: it was not trained on a table.")
    fitted = Preprocessor.from_json(preprocessing)
    if fitted.width() != spec.features or fitted.cardinalities != spec.cardinalities:
        raise CheckpointError("The saved preprocessing is not that of the model.")
    table = read(_as_trained(config, path, fitted), labelled=labelled)
    (inputs,) = encode(fitted, table)
    if not labelled:
        targets = torch.zeros(len(inputs), dtype=torch.int64)
    elif spec.labels is not None:
        targets = target.codes(table, str(config.target), spec.labels)
    else:
        targets, _ = target.infer(table, str(config.target), "number")
    return Samples(Split(inputs, targets), as_float, "line", table.lines(), tuple(map(str, table.rejected)))


def _as_trained(config: Csv, path: str, fitted: Preprocessor) -> Csv:
    """The config for another file, in which each column is what it was found to be in training."""
    kinds = {column.name: column.kind for column in fitted.columns}
    numeric, categorical = ([name for name, kind in kinds.items() if kind == one] for one in ("numeric", "categorical"))
    told = dataclasses.replace(config, path=path, val_path=None, numeric=numeric, categorical=categorical)
    return dataclasses.replace(
        told,
        boolean=[],
        datetime=[],
        text=[],
        ignore=[],
        transforms={},
    )
