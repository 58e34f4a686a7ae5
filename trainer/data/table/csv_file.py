"""From a text file to an Arrow table: parsed by pyarrow, or row by row where that cannot be trusted."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from trainer.data.table.arrow_types import without_sentinels
from trainer.data.table.byte_streams import CheckedStream, DoubtError, RewrittenStream, TypesError
from trainer.data.table.dialect import Dialect
from trainer.data.table.read_options import ReadOptions
from trainer.data.table.row_parser import TextRow, parse_rows
from trainer.data.table.row_validator import Rejection, Schema, validate_rows
from trainer.errors import DataError

BLOCK, LARGE = 2**20, 2**25  # bytes that pyarrow parses at a time; a row must fit in
PER_COLUMN = 64  # bytes of a block for each column at least

Types = dict[str, pa.DataType]  # of the columns that are wanted


@dataclass(frozen=True)
class CsvFile:
    """A text file, and how it writes its table.

    Attributes:
        path: the file.
        dialect: how it writes its table.
        quoted: whether it has quotes anywhere.
    """

    path: Path
    dialect: Dialect
    quoted: bool = False
    unit: ClassVar[str] = "line"

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(name for name in self.dialect.names if name not in self.dialect.unread)

    @property
    def plain(self) -> bool:
        """Whether pyarrow knows the dialect."""
        delimiter, quote = self.dialect.delimiter, self.dialect.quote or ""
        return delimiter.isascii() and quote.isascii() and not self.dialect.blanks and self.dialect.escape is None

    def read_fast(self, types: Types, options: ReadOptions) -> pa.Table:
        """Read the table as pyarrow parses it; strings are trimmed.

        Raises:
            DoubtError: where that may not be what the file says.
        """
        missing, store = options.config.missing_words(), options.store

        def parts() -> Iterator[pa.Table]:
            arguments = self._arguments(types, missing, self.dialect, self.quoted)
            for part in self._parse(self._checked(), arguments, store.by_parts):
                for name in part.column_names:
                    if pa.types.is_floating(part[name].type) and not _finite(part[name]):
                        raise TypesError(f"column {name} is not finite")
                yield without_sentinels(_trimmed(part, missing), options.config.missing_numbers())

        return store.store(pa.schema(types), parts())

    def read_exactly(self, types: Types, schema: Schema, options: ReadOptions) -> pa.Table:
        """Read the rows that can be used, each validated by itself; the others are rejected."""
        stream = RewrittenStream(self._valid_rows(schema, options.reject))
        arguments = self._arguments(types, options.config.missing_words(), self._rewritten_dialect(), True)
        sentinels = options.config.missing_numbers()
        parsed = self._parse(stream, arguments, options.store.by_parts, exact=True)
        parts = (without_sentinels(part, sentinels) for part in parsed)
        return options.store.store(pa.schema(types), parts)

    def head(self, columns: Iterable[str]) -> Iterator[pa.Table]:
        """Yield the first block of rows, as strings."""
        return islice(self.blocks(columns), 1)

    def blocks(self, columns: Iterable[str], schema: Schema | None = None) -> Iterator[pa.Table]:
        """Yield all rows as strings, block by block; with a `schema` the valid ones, of files in any dialect."""
        types = dict.fromkeys(columns, pa.string())
        if schema is None:
            arguments = self._arguments(types, [], self.dialect, self.quoted)
            return self._parse(self._checked(), arguments, by_parts=True)
        arguments = self._arguments(types, [], self._rewritten_dialect(), True)
        stream = RewrittenStream(self._valid_rows(schema, lambda rejection: None))
        return self._parse(stream, arguments, by_parts=True, exact=True)

    def line(self, row: int, schema: Schema) -> int:
        """Return the physical line, from 1, of a valid row (0 is the first)."""
        return next(islice(self.lines(schema), row, None))

    def lines(self, schema: Schema) -> Iterator[int]:
        """Yield the physical line of each valid row, from 1."""
        line = 0

        def watched() -> Iterator[TextRow]:
            nonlocal line
            for row in self._rows():
                line = row.line
                yield row

        for _ in validate_rows(self.path, self.dialect, watched(), schema, lambda rejection: None):
            yield line

    def _rows(self) -> Iterator[TextRow]:
        return parse_rows(self.dialect.open(self.path), self.dialect.reader_options())

    def _valid_rows(self, schema: Schema, reject: Callable[[Rejection], None]) -> Iterator[list[str]]:
        return validate_rows(self.path, self.dialect, self._rows(), schema, reject)

    def _checked(self) -> CheckedStream:
        return CheckedStream(self.path, self.dialect, self.quoted)

    def _rewritten_dialect(self) -> Dialect:
        """Return the dialect in which `RewrittenStream` writes."""
        return Dialect("utf-8", decimal=self.dialect.decimal, names=self.dialect.names)

    def _parse(
        self, stream: CheckedStream | RewrittenStream, arguments: dict[str, Any], by_parts: bool, exact: bool = False
    ) -> Iterator[pa.Table]:
        """Parse a stream with pyarrow: as a whole, on all cores; or in parts of the size of a block."""
        with self._translated_errors(exact):
            if by_parts:
                for batch in pa_csv.open_csv(stream, **arguments):
                    yield pa.Table.from_batches([batch])
            else:
                yield pa_csv.read_csv(stream, **arguments)

    @contextmanager
    def _translated_errors(self, exact: bool = False) -> Iterator[None]:
        """Turn pyarrow's errors into ours: doubt, or in the exact way a `DataError`; no rows at all are no error."""
        try:
            yield
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return
            if exact:
                raise DataError(f"{self.path}: cannot be parsed ({error}).") from error
            raise (TypesError if "conversion error" in str(error) else DoubtError)(str(error)) from error

    def _arguments(self, types: Types, missing: list[str], dialect: Dialect, quoted: bool) -> dict[str, Any]:
        """Return the arguments of pyarrow's parser."""

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
                check_utf8=False,  # `CheckedStream` did
                decimal_point=dialect.decimal,
            ),
        }


def _finite(column: pa.ChunkedArray) -> bool:
    """Return whether all numbers are finite. A finite sum says so at once; one that is not may have overflowed."""
    if np.isfinite(pc.sum(column).as_py() or 0.0):
        return True
    return bool(pc.all(pc.is_finite(column)).as_py())


def _trimmed(table: pa.Table, missing: list[str]) -> pa.Table:
    """Trim all strings; those that then mean a missing value become null."""
    words = pa.array(missing, pa.string())
    for index, (name, kind) in enumerate(zip(table.column_names, table.schema.types, strict=True)):
        if not pa.types.is_string(kind):
            continue
        text = pc.utf8_trim_whitespace(table[name])
        if pc.sum(pc.binary_length(text)).as_py() != pc.sum(pc.binary_length(table[name])).as_py():
            text = pc.if_else(pc.is_in(text, value_set=words), pa.scalar(None, pa.string()), text)
            table = table.set_column(index, name, text)
    return table
