"""Text files to arrow tables: as pyarrow parses them, or row by row where that cannot be trusted."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from trainer.data.table.byte_streams import Checked, DoubtError, Rewritten, TypesError
from trainer.data.table.column_store import ColumnStore
from trainer.data.table.dialect import Dialect
from trainer.data.table.row_parser import TextRow, records
from trainer.data.table.row_validator import Rejection, Schema, validate_rows
from trainer.errors import DataError

BLOCK, LARGE = 2**20, 2**25  # bytes that pyarrow parses at a time; a row must fit in
PER_COLUMN = 64  # bytes of a block for each column at least

Types = dict[str, pa.DataType]  # of the columns that are wanted


@dataclass(frozen=True)
class CsvFile:
    """A file and how it writes its table."""

    path: Path
    dialect: Dialect
    quoted: bool = False  # whether it has quotes anywhere

    @property
    def plain(self) -> bool:
        """Whether pyarrow knows the dialect."""
        delimiter, quote = self.dialect.delimiter, self.dialect.quote or ""
        return delimiter.isascii() and quote.isascii() and not self.dialect.blanks and self.dialect.escape is None

    def fast(self, types: Types, missing: list[str], store: ColumnStore) -> pa.Table:
        """The table as pyarrow reads it; strings trimmed.

        Raises:
            DoubtError: where that may not be what the file says.
        """

        def parts() -> Iterator[pa.Table]:
            options = self._options(types, missing, self.dialect, self.quoted)
            for part in self._parsed(self._checked(), options, store.by_parts):
                for name in part.column_names:
                    if pa.types.is_floating(part[name].type) and not _finite(part[name]):
                        raise TypesError(f"column {name} is not finite")
                yield _trimmed(part, missing)

        return store.store(pa.schema(types), parts())

    def exact(
        self, types: Types, missing: list[str], rules: Schema, reject: Callable[[Rejection], None], store: ColumnStore
    ) -> pa.Table:
        """The rows that can be used; `reject` is told of the others."""
        stream = Rewritten(self._sifted(rules, reject))
        options = self._options(types, missing, self._rewritten(), True)
        return store.store(pa.schema(types), self._parsed(stream, options, store.by_parts, exact=True))

    def head(self, columns: Iterable[str]) -> Iterator[pa.Table]:
        """The first rows, as strings."""
        return islice(self.blocks(columns), 1)

    def blocks(self, columns: Iterable[str], rules: Schema | None = None) -> Iterator[pa.Table]:
        """All rows as strings, block by block: of a file that pyarrow can read, or with `rules` of any file."""
        types = dict.fromkeys(columns, pa.string())
        if rules is None:
            options = self._options(types, [], self.dialect, self.quoted)
            return self._parsed(self._checked(), options, by_parts=True)
        options = self._options(types, [], self._rewritten(), True)
        stream = Rewritten(self._sifted(rules, lambda rejection: None))
        return self._parsed(stream, options, by_parts=True, exact=True)

    def line(self, row: int, rules: Schema) -> int:
        """The physical line of a usable row (0 is the first), from 1."""
        return next(islice(self.lines(rules), row, None))

    def lines(self, rules: Schema) -> Iterator[int]:
        """The physical line of each usable row, from 1."""
        line = 0

        def watched() -> Iterator[TextRow]:
            nonlocal line
            for record in self._records():
                line = record.line
                yield record

        for _ in validate_rows(self.path, self.dialect, watched(), rules, lambda rejection: None):
            yield line

    def _records(self) -> Iterator[TextRow]:
        return records(self.dialect.open(self.path), self.dialect.reader_options())

    def _sifted(self, rules: Schema, reject: Callable[[Rejection], None]) -> Iterator[list[str]]:
        return validate_rows(self.path, self.dialect, self._records(), rules, reject)

    def _checked(self) -> Checked:
        return Checked(self.path, self.dialect, self.quoted)

    def _rewritten(self) -> Dialect:
        return Dialect("utf-8", decimal=self.dialect.decimal, names=self.dialect.names)

    def _parsed(
        self, stream: Checked | Rewritten, options: dict[str, Any], by_parts: bool, exact: bool = False
    ) -> Iterator[pa.Table]:
        """What pyarrow makes of a stream: at once, on all cores, or in parts of the size of a block."""
        with self._parsing(exact):
            if by_parts:
                for batch in pa_csv.open_csv(stream, **options):
                    yield pa.Table.from_batches([batch])
            else:
                yield pa_csv.read_csv(stream, **options)

    @contextmanager
    def _parsing(self, exact: bool = False) -> Iterator[None]:
        """What pyarrow's errors mean: that there are no rows, which is none; and else doubt, or in the end a fault."""
        try:
            yield
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return
            if exact:
                raise DataError(f"{self.path}: cannot be parsed ({error}).") from error
            raise (TypesError if "conversion error" in str(error) else DoubtError)(str(error)) from error

    def _options(self, types: Types, missing: list[str], dialect: Dialect, quoted: bool) -> dict[str, Any]:
        def ragged(row: pa_csv.InvalidRow) -> str:
            blank = not row.text.strip() and dialect.delimiter not in row.text
            return "skip" if blank else "error"

        block = max(BLOCK, PER_COLUMN * len(dialect.names)) if dialect is self.dialect else LARGE
        return {
            "read_options": pa_csv.ReadOptions(column_names=dialect.names, block_size=block),
            "parse_options": pa_csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote or False,
                newlines_in_values=quoted,
                invalid_row_handler=ragged,
            ),
            "convert_options": pa_csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=sorted({f"{a}{word}{b}" for word in missing for a in ("", " ") for b in ("", " ")}),
                strings_can_be_null=True,
                check_utf8=False,  # `Checked` did
                decimal_point=dialect.decimal,
            ),
        }


def _finite(column: pa.ChunkedArray) -> bool:
    """Whether all numbers are finite. A sum that is finite says so at once; one that is not may have overflowed."""
    if np.isfinite(pc.sum(column).as_py() or 0.0):
        return True
    return bool(pc.all(pc.is_finite(column)).as_py())


def _trimmed(table: pa.Table, missing: list[str]) -> pa.Table:
    """Strings without blanks around them, null where what is left means missing."""
    words = pa.array(missing, pa.string())
    for index, (name, kind) in enumerate(zip(table.column_names, table.schema.types, strict=True)):
        if not pa.types.is_string(kind):
            continue
        text = pc.utf8_trim_whitespace(table[name])
        if pc.sum(pc.binary_length(text)).as_py() != pc.sum(pc.binary_length(table[name])).as_py():
            text = pc.if_else(pc.is_in(text, value_set=words), pa.scalar(None, pa.string()), text)
            table = table.set_column(index, name, text)
    return table
