"""Where the columns of a table are held: in memory, or in Arrow files that are mapped into it."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from trainer import storage


class Held(Protocol):
    """Puts tables together.

    Attributes:
        by_parts: whether a file should be read in small parts, since it may not fit into memory.
    """

    by_parts: bool

    def keep(self, schema: pa.Schema, parts: Iterator[pa.Table]) -> pa.Table:
        """The parts, each of this schema, as one table."""
        ...


class InMemory:
    """As they are."""

    by_parts = False

    def keep(self, schema: pa.Schema, parts: Iterator[pa.Table]) -> pa.Table:
        """See `Held.keep`."""
        return pa.concat_tables([schema.empty_table(), *parts])


class OnDisk:
    """In files of a folder, which must stay there as long as the tables are used.

    Raises:
        TrainerError: where the disk does not take them.
    """

    by_parts = True

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()

    def keep(self, schema: pa.Schema, parts: Iterator[pa.Table]) -> pa.Table:
        """See `Held.keep`."""
        path = self._folder / f"{next(self._numbers)}.arrow"
        try:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
                for part in parts:
                    writer.write_table(part)
        except OSError as error:
            raise storage.unwritable(path, error) from error
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
