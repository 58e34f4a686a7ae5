"""A cache of tables that are ready to train on: a second run need not read and prepare the table again.

The entries are in `.trainer-cache/table-<key>/` beside the table, or in the user's cache folder where that cannot be
written. The key stands for the content of the table's files, for every key of the config that shapes what is made of
them, for the seed, and for the code that makes it.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.config.table import Csv
from trainer.data.files import mapped
from trainer.data.files.cache import cache_folders, say_where
from trainer.data.files.mapped import FileRows, MemoryRows, Rows
from trainer.data.table import cache_entries
from trainer.data.table.cache_entries import PREFIX, UNREADABLE
from trainer.data.table.cache_key import only_built_in_transforms, table_key
from trainer.data.table.column_store import ColumnStore, DiskColumnStore, MemoryColumnStore
from trainer.data.types import Data, Split
from trainer.errors import DataError
from trainer.system import atomic_files, locks, streams

WORTHWHILE = 1 << 21  # bytes of the files from which on an entry is worth the disk: smaller ones are read in 0.1 s
TENSORS = ("inputs", "targets", "rows", "weights")
Status = tuple[tuple[int, ...], ...]


class TableCache:
    """The cache entry of one table, and the files from which it is made.

    Args:
        config: says how large the cache may be, and whether rows are kept on disk.
        work: a folder for files that are being made; None: everything is made in memory.
        entry: the path of the entry; None: the table is not cached.
        paths: the files of the table.
        status: of those files when their content was digested, see `_status`.
    """

    def __init__(
        self,
        config: Csv,
        work: Path | None = None,
        entry: Path | None = None,
        paths: Sequence[Path] = (),
        status: Status = (),
    ) -> None:
        self._work, self._entry, self._paths, self._status = work, entry, paths, status
        self._limit, self._on_disk = config.cache_bytes, config.memory == "disk"
        for folder in (self._arrays, self._columns) if work is not None else ():
            folder.mkdir()

    @property
    def _arrays(self) -> Path:
        assert self._work is not None
        return self._work / "arrays"

    @property
    def _columns(self) -> Path:
        assert self._work is not None
        return self._work / "columns"

    def load(self) -> Data | None:
        """Load the entry; None where there is none, or it is damaged."""
        if self._entry is None:
            return None
        try:
            data, names = cache_entries.load_entry(self._entry)
            data = dataclasses.replace(data, description=f"{data.description}, prepared before")
            return self._with_tensors(self._entry, data, names)
        except UNREADABLE:
            return None

    def column_store(self) -> ColumnStore:
        """Return where the columns of the table are kept while it is prepared."""
        return DiskColumnStore(self._columns) if self._on_disk else MemoryColumnStore()

    def rows(self, name: str, shape: tuple[int, ...]) -> Rows:
        """Return where the rows of a float32 array go; raise `OSError` where there is no space for its file."""
        return MemoryRows(shape) if self._work is None else FileRows(self._arrays / f"{name}.npy", shape)

    def spill(self, name: str, tensor: Tensor) -> Tensor:
        """Move a tensor with a number for each row into a file, where rows are not to be kept in memory."""
        if not self._on_disk:
            return tensor
        path = (self._arrays if name.endswith(".rows") else self._columns) / f"{name}.npy"
        mapped.save_array(path, tensor.numpy())
        return mapped.map_array(path)

    def fall_back(self, error: OSError) -> None:
        """Go on in memory after the disk did not take the files; what is mapped already stays readable.

        Raises:
            TrainerError: where rows are not to be kept in memory.
        """
        if self._work is None:
            raise error
        if self._on_disk:
            raise atomic_files.unwritable(self._work, error) from error
        self._work = None

    def commit(self, data: Data) -> Data:
        """Put the tensors of the data into files, and make them the entry where the table may be cached.

        Raises:
            OSError: where rows are not to be kept in memory, and the disk does not take them.
        """
        if self._work is None:
            return data
        tensors = _tensors(data)
        try:
            for name, tensor in tensors.items():
                if not (self._arrays / f"{name}.npy").exists():
                    mapped.save_array(self._arrays / f"{name}.npy", tensor.numpy())
            stored = self._with_tensors(self._arrays, data, list(tensors))
        except OSError:
            if self._on_disk:
                raise
            return data
        # Where a file has changed meanwhile, it is unknown which content was read.
        with contextlib.suppress(OSError, DataError):  # then there is no entry, but this run has its data
            if self._entry is not None and _status(self._paths) == self._status:
                cache_entries.commit_entry(self._arrays, self._entry, data, list(tensors), self._limit)
        return stored

    def _with_tensors(self, folder: Path, data: Data, names: Sequence[str]) -> Data:
        """Return the data with the arrays of a folder as its tensors, in memory or on disk as the config says."""

        def opened(name: str) -> Any:
            path = folder / f"{name}.npy"
            if not self._on_disk or name.endswith(".rows"):
                return mapped.map_array(path)
            # Targets and weights are read with each window: small parts, which are better off in memory.
            return mapped.open_array(path) if name.endswith(".inputs") else mapped.map_array(path).clone()

        tensors = {name: opened(name) for name in names}
        train, val = (
            Split(**{name: tensors[f"{side}.{name}"] for name in TENSORS if f"{side}.{name}" in tensors})
            for side in ("train", "val")
        )
        description = f"{data.description}, on disk" if self._on_disk else data.description
        return dataclasses.replace(data, train=train, val=val, description=description)


def _tensors(data: Data) -> dict[str, Tensor]:
    """Return the tensors of both splits by the names of their files."""
    splits = {"train": data.train, "val": data.val}
    named = {f"{side}.{name}": getattr(split, name) for side, split in splits.items() for name in TENSORS}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def _status(paths: Sequence[Path]) -> Status:
    """Return what changes with a file, for each: its size, its identity, and its times of change.

    Raises:
        DataError: for a file that is not there any more.
    """
    found = []
    for path in paths:
        try:
            known = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
        found.append((known.st_size, known.st_dev, known.st_ino, known.st_mtime_ns, known.st_ctime_ns))
    return tuple(found)


@contextlib.contextmanager
def open_cache(config: Csv, seed: int, paths: Sequence[Path], held_out: int) -> Iterator[TableCache]:
    """Open the cache for the table that a config makes of some files; other processes that want the same one wait.

    Args:
        config: how the table is made.
        seed: of the run.
        paths: the files of the table.
        held_out: how many of them, the last ones, are for validation.

    Raises:
        DataError: for a file that cannot be read.
        TrainerError: with data.memory=disk where no folder for its files can be written.
    """
    status = _status(paths)
    large = sum(size for size, *_ in status) >= WORTHWHILE
    cacheable = config.cache_bytes > 0 and large and only_built_in_transforms(config)
    if not cacheable and config.memory == "ram":
        yield TableCache(config)
        return
    name = PREFIX + table_key(config, seed, paths, held_out) if cacheable else None

    def wait() -> None:
        streams.tell(f"waiting   for another run that reads {paths[0]}")

    with contextlib.ExitStack() as stack:
        for folder in cache_folders(paths[0].parent):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if name is not None:
                    stack.enter_context(locks.making(folder, name, wait))
                work = stack.enter_context(locks.work_folder(folder, f"{atomic_files.TEMPORARY}{PREFIX}"))
                cache = TableCache(config, work, None if name is None else folder / name, paths, status)
            except OSError as error:
                refused = atomic_files.unwritable(folder, error)
                continue
            say_where(folder)
            yield cache
            return
        if config.memory == "disk":
            raise refused
        yield TableCache(config)
