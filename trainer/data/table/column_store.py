"""Where the columns of a table are held: in memory, or in Arrow files that are mapped into it."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from trainer.system import atomic_files

FILES = 32  # that are open at the same time
PART = 1 << 24  # bytes that are written together


class ColumnStore(Protocol):
    """Puts tables together.

    Attributes:
        by_parts: whether a file should be read in small parts, since it may not fit into memory.
    """

    by_parts: bool

    def store(self, schema: pa.Schema, parts: Iterator[pa.Table]) -> pa.Table:
        """The parts, each of this schema, as one table."""
        ...


class MemoryColumnStore:
    """As they are."""

    by_parts = False

    def store(self, schema: pa.Schema, parts: Iterator[pa.Table]) -> pa.Table:
        """See `ColumnStore.keep`."""
        return pa.concat_tables([schema.empty_table(), *parts])


class DiskColumnStore:
    """In files of a folder, a column each, or some columns each where there are many.

    A column is then read without those beside it, and forward. The folder must stay as long as the tables are used.

    Raises:
        TrainerError: where the disk does not take them.
    """

    by_parts = True

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()

    def store(self, schema: pa.Schema, parts: Iterator[pa.Table]) -> pa.Table:
        """See `ColumnStore.keep`."""
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
                for part in _gathered(parts):
                    for writer, group in zip(writers, groups, strict=True):
                        writer.write_table(part.select(group))
            tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
        except OSError as error:
            raise atomic_files.unwritable(self._folder, error) from error
        return pa.Table.from_arrays([column for table in tables for column in table.columns], schema=schema)


def _gathered(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The parts put together to larger ones."""
    waiting: list[pa.Table] = []
    for part in parts:
        waiting.append(part)
        if sum(one.nbytes for one in waiting) >= PART:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting.clear()
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()
