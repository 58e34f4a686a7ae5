"""Where the columns of a table are kept: in memory, or in Arrow files that are mapped into memory."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from trainer.system import atomic_files

FILES = 32  # open at the same time
PART = 1 << 24  # bytes written together


class ColumnStore(Protocol):
    """Collects the parts of a table as they are read.

    Attributes:
        by_parts: whether files should be read in small parts, since they may not fit into memory.
    """

    by_parts: bool

    def store(self, schema: pa.Schema, parts: Iterator[pa.Table]) -> pa.Table:
        """Return the parts, each of the given schema, as one table."""
        ...


class MemoryColumnStore:
    """Keeps the columns in memory."""

    by_parts = False

    def store(self, schema: pa.Schema, parts: Iterator[pa.Table]) -> pa.Table:
        """See `ColumnStore.store`."""
        return pa.concat_tables([schema.empty_table(), *parts])


class DiskColumnStore:
    """Keeps the columns in files of a folder: a file for each column, or for several where there are many.

    A column is thus read by itself, from beginning to end. The folder must stay as long as the tables are used.

    Raises:
        TrainerError: on storing, where the disk does not take them.
    """

    by_parts = True

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()

    def store(self, schema: pa.Schema, parts: Iterator[pa.Table]) -> pa.Table:
        """See `ColumnStore.store`."""
        each = -(-len(schema) // FILES)
        groups = [schema.names[start : start + each] for start in range(0, len(schema), each)]
        paths = [self._folder / f"{next(self._numbers)}.arrow" for _ in groups]
        try:
            with contextlib.ExitStack() as stack:
                writers = []
                for path, group in zip(paths, groups, strict=True):
                    file = stack.enter_context(pa.OSFile(str(path), "wb"))
                    kinds = pa.schema([schema.field(name) for name in group])
                    writers.append(stack.enter_context(pa.ipc.new_file(file, kinds)))
                for part in _enlarged(parts):
                    for writer, group in zip(writers, groups, strict=True):
                        writer.write_table(part.select(group))
            tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
        except OSError as error:
            raise atomic_files.unwritable(self._folder, error) from error
        return pa.Table.from_arrays([column for table in tables for column in table.columns], schema=schema)


def _enlarged(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Put parts together to larger ones, of `PART` bytes or more."""
    waiting: list[pa.Table] = []
    for part in parts:
        waiting.append(part)
        if sum(one.nbytes for one in waiting) >= PART:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting.clear()
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()
