"""The key of a table in the cache: a digest of everything that the data made of its files depends on."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from trainer.config.table import Csv
from trainer.data.files import mapped
from trainer.data.table.imported_code import imported_sources
from trainer.errors import DataError

LOADER = "trainer.data.table.table_data"  # the module whose code, with all that it imports, makes the data
# Keys that do not change what is made of a table, only where it is kept and how batches are drawn. The files and the
# transforms are in the cache's key in another form.
APART = {"batch_size", "eval_batch_size", "drop_last", "timeout", "sampling", "memory", "cache_bytes"}
APART |= {"path", "val_path", "transforms"}


sources = functools.cache(imported_sources)  # of one process, whose code is what it has imported


def only_built_in_transforms(config: Csv) -> bool:
    """Return whether all transforms are of this package: those of plug-ins may change without any key changing."""
    return all(type(one).__module__.startswith("trainer.") for chain in config.chains().values() for one in chain)


def table_key(config: Csv, seed: int, paths: Sequence[Path], held_out: int) -> str:
    """Return the key of a table, which changes with its content, the config, the seed, the code and the libraries.

    Args:
        config: how the table is made.
        seed: of the run.
        paths: the files of the table.
        held_out: how many of them, the last ones, are for validation.

    Raises:
        DataError: for a file that cannot be read.
    """
    keys = {name: value for name, value in dataclasses.asdict(config).items() if name not in APART}
    chains = {
        where: [(one.option, dataclasses.asdict(one)) for one in chain] for where, chain in config.chains().items()
    }
    code = sources(LOADER)
    try:
        contents = mapped.digest_files([*paths, *code.values()])
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}).") from error
    # The paths belong to it since messages name them.
    files = list(zip([*(str(path.resolve()) for path in paths), *code], contents, strict=True))
    versions = (torch.__version__, np.__version__, pa.__version__)
    made_of = [keys, chains, seed, files, held_out, versions]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
