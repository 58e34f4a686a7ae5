"""All text files of one table: what their columns hold is judged by their first blocks, then by every row in doubt."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pyarrow as pa

from trainer.config.table import Csv
from trainer.data.table.arrow_types import Kind, survey
from trainer.data.table.byte_streams import DoubtError, EncodingError, QuotesError, TypesError
from trainer.data.table.column_store import ColumnStore
from trainer.data.table.csv_file import CsvFile
from trainer.data.table.row_validator import Rejection, Schema


@dataclass
class CsvReader:
    """Reads files with the same columns; falls back from the fast way to the exact one where it must.

    The fast way takes the types from the first block of each file and lets pyarrow parse the rest. Where that fails,
    the types are taken from all rows; where rows may be wrong, each is judged alone.

    Args:
        columns: those that are wanted.
        text: the columns that are strings, whatever they hold.
        target: a column that must not be missing, or None.
        reject: is told of each row that cannot be used; may raise.
        store: where the tables are held.
    """

    config: Csv
    files: list[CsvFile]
    columns: list[str]
    text: frozenset[str]
    target: str | None
    reject: Callable[[Rejection], None]
    store: ColumnStore
    whole: bool = False  # whether the types are those of all rows, not of the first blocks
    exact: bool = field(init=False)

    def __post_init__(self) -> None:
        self.exact = not all(file.plain for file in self.files)

    def read(self) -> tuple[list[pa.Table], Schema]:
        """A table for each file, with the columns in this order and of the same types; and what a usable row was."""
        while True:
            try:
                return self._attempt()
            except EncodingError as error:
                self._in_another_encoding(error)
            except QuotesError:
                self.files = [replace(file, quoted=True) for file in self.files]
            except DoubtError as doubt:
                if self.exact:
                    raise  # nothing is surer than the exact way
                self.exact = self.whole or not isinstance(doubt, TypesError)
                self.whole = True

    def _in_another_encoding(self, error: EncodingError) -> None:
        """What is not UTF-8 is Windows' text, if no key says otherwise."""
        if self.config.encoding != "auto":
            self.exact = True
            return
        note = f"{error.path}: read as cp1252, not being UTF-8."
        self.files = [
            replace(file, dialect=replace(file.dialect, encoding="cp1252", notes=(*file.dialect.notes, note)))
            if file.path == error.path
            else file
            for file in self.files
        ]

    def _attempt(self) -> tuple[list[pa.Table], Schema]:
        kinds, missing = self._kinds(), self.config.missing
        types = {name: kind.type(name in self.config.numeric, name in self.text) for name, kind in kinds.items()}
        numbers = {name for name, kind in types.items() if pa.types.is_integer(kind) or pa.types.is_floating(kind)}
        rules = self._rules(numbers, self.target)
        if self.exact:
            tables = [file.exact(types, missing, rules, self.reject, self.store) for file in self.files]
            return [table.select(self.columns) for table in tables], rules
        if any(kinds[name].numbers < kinds[name].filled for name in numbers):
            raise DoubtError("values that are no numbers")
        tables = [file.fast(types, missing, self.store).select(self.columns) for file in self.files]
        if self.target is not None and any(table[self.target].null_count for table in tables):
            raise DoubtError("rows without a target")
        return tables, rules

    def _kinds(self) -> dict[str, Kind]:
        kinds = {name: Kind() for name in self.columns}
        for file in self.files:
            if self.exact:
                blocks = file.blocks(self.columns, self._rules(set(), None))  # what is sure before types are known
            else:
                blocks = file.blocks(self.columns) if self.whole else file.head(self.columns)
            survey(blocks, kinds, self.config.missing, file.dialect.decimal)
        return kinds

    def _rules(self, numbers: set[str], target: str | None) -> Schema:
        return Schema(frozenset(numbers), frozenset(self.columns), target, frozenset(self.config.missing))
