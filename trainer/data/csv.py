"""Tables as data: from files to the two splits of a model's inputs."""

import dataclasses

from trainer.config.table import Csv
from trainer.data.split import from_splits, split_index
from trainer.data.table import leakage, preprocess, roles, target
from trainer.data.table.encode import encode
from trainer.data.table.overview import overview
from trainer.data.table.reading import read
from trainer.errors import ConfigError
from trainer.interfaces import Data, Split


def build(config: Csv, seed: int) -> Data:
    """Inputs float32 (N, features) and the target; everything fitted on the training rows only.

    Raises:
        ConfigError: for a missing or unknown column name.
        DataError: for a file that cannot be read or learned from.
    """
    table = read(config)
    columns = roles.infer(config, table)
    assert config.target is not None  # read has checked it
    targets, labels = target.infer(table, config.target, config.target_type)
    train, val = split_index(targets, config.val_fraction, seed)
    if not len(val):
        raise ConfigError("data.val_fraction=0: a CSV file has no validation rows of its own; hold out a share.")
    fitted = preprocess.fit(config, table, columns, train.numpy())
    inputs = encode(fitted, table, [train.numpy(), val.numpy()])
    leaks = leakage.find(fitted, table, targets.numpy(), train.numpy(), labels is not None)
    known = overview(table, columns, fitted, leaks)
    parts = [Split(part, targets[rows], rows) for part, rows in zip(inputs, (train, val), strict=True)]
    data = from_splits(parts[0], parts[1], labels, description=fitted.words())
    return dataclasses.replace(
        data,
        spec=dataclasses.replace(data.spec, cardinalities=fitted.cardinalities),
        notes=known.notes,
        warnings=known.warnings,
        files=known.files,
        preprocessing=fitted.to_json(),
    )
