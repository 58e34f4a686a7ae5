"""All text files of a table: column types are taken from the first blocks, and where these mislead from every row."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from trainer.data.table.arrow_types import ValueStats, collect_stats
from trainer.data.table.byte_streams import DoubtError, EncodingError, QuotesError, TypesError
from trainer.data.table.csv_file import CsvFile
from trainer.data.table.read_options import ReadOptions
from trainer.data.table.row_validator import Schema


class CsvReader:
    """Reads text files with the same columns, fast where that is safe, else exactly.

    The fast way takes the column types from the first block of each file and lets pyarrow parse the rest. Where that
    fails, the types are taken from all rows; where rows may be wrong, each row is validated by itself.

    Args:
        options: what is wanted of the files.
        files: in the order of their tables.
        exact: whether to begin with the exact way; without it, only where a dialect is beyond pyarrow.
    """

    def __init__(self, options: ReadOptions, files: list[CsvFile], exact: bool = False) -> None:
        self.options, self.files = options, files
        self._exact = exact or not all(file.plain for file in files)
        self._from_all_rows = False  # whether the types are taken from all rows, not from the first blocks

    def read(self) -> tuple[list[pa.Table], Schema]:
        """Read all files.

        Returns:
            A table for each file, all with the columns in the wanted order and of the same types; and what was
            required of a row. `files` then has the dialects with which that worked.

        Raises:
            DataError: for a file that cannot be read.
        """
        while True:
            try:
                return self._attempt()
            except EncodingError as error:
                self._change_encoding(error)
            except QuotesError:
                self.files = [replace(file, quoted=True) for file in self.files]
            except DoubtError as doubt:
                if self._exact:
                    raise  # nothing is surer than the exact way
                self._exact = self._from_all_rows or not isinstance(doubt, TypesError)
                self._from_all_rows = True

    def _change_encoding(self, error: EncodingError) -> None:
        """Take a file that is not UTF-8 for Windows' encoding, unless a key says what it is."""
        if self.options.config.encoding != "auto":
            self._exact = True
            return
        note = f"{error.path}: read as cp1252, not being UTF-8."
        self.files = [
            replace(file, dialect=replace(file.dialect, encoding="cp1252", notes=(*file.dialect.notes, note)))
            if file.path == error.path
            else file
            for file in self.files
        ]

    def _attempt(self) -> tuple[list[pa.Table], Schema]:
        """Read all files in the current way; raise `DoubtError` where the result may be wrong."""
        stats, options = self._collect_stats(), self.options
        types = {
            name: found.type(name in options.config.numeric, name in options.text, name in options.exact)
            for name, found in stats.items()
        }
        numbers = {name for name, kind in types.items() if pa.types.is_integer(kind) or pa.types.is_floating(kind)}
        schema = self._schema(numbers, options.targets)
        if self._exact:
            tables = [file.read_exactly(types, schema, options) for file in self.files]
            return [table.select(options.columns) for table in tables], schema
        if any(stats[name].numbers < stats[name].filled for name in numbers):
            raise DoubtError("values that are no numbers")
        tables = [file.read_fast(types, options).select(options.columns) for file in self.files]
        if any(table[name].null_count for table in tables for name in options.targets):
            raise DoubtError("rows without a target")
        return tables, schema

    def _collect_stats(self) -> dict[str, ValueStats]:
        """Collect statistics of the values of each column: of the first blocks, or of all rows."""
        columns = self.options.columns
        stats = {name: ValueStats() for name in columns}
        for file in self.files:
            if self._exact:  # of rows, only what can be required before types are known
                blocks = file.blocks(columns, self._schema(set(), ()))
            else:
                blocks = file.blocks(columns) if self._from_all_rows else file.head(columns)
            collect_stats(blocks, stats, self.options.config, file.dialect.decimal)
        return stats

    def _schema(self, numbers: set[str], targets: Sequence[str]) -> Schema:
        columns, missing = frozenset(self.options.columns), frozenset(self.options.config.missing_words())
        return Schema(frozenset(numbers), columns, frozenset(targets), missing, self.options.settled)
