"""From files to one clean, typed table in memory."""

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from trainer.config.table import Csv
from trainer.errors import ConfigError, DataError


@dataclass(frozen=True)
class Rejection:
    """A row that `data.on_error=skip` left out: where it is and why."""

    path: Path
    line: int  # physical line, from 1; of a Parquet file the row
    column: str | None  # its name, where one column is at fault
    reason: str
    text: str  # the value or the line, shortened

    def __str__(self) -> str:
        column = f", column {self.column}" if self.column is not None else ""
        return f"{self.path}, line {self.line}{column}: {self.reason}"


@dataclass(frozen=True)
class Table:
    """What was read.

    Attributes:
        columns: names are unique and trimmed; ignored columns are not there. A column is
            float32 (numbers; float64 where float32 would lose what tells its values apart), int32 or int64 (whole
            numbers), or string (trimmed; also true/false, also dates as they are written). Parquet also gives
            timestamp and date32. Null where a value is missing; numbers are finite. A column without any value
            is null-typed. The target has no nulls, unless `read(..., labelled=False)`.
        files: in the order of the rows.
        rejected: what `data.on_error=skip` left out.
        rows_read: rows of the files: always `columns.num_rows + len(rejected)`.
        notes: what was decided about the files that a user should know, one sentence each.
    """

    columns: pa.Table
    files: tuple[Path, ...]
    rejected: tuple[Rejection, ...] = ()
    rows_read: int = 0
    notes: tuple[str, ...] = ()
    starts: tuple[int, ...] = field(default=(), repr=False)

    def where(self, row: int) -> str:
        """File and physical line of a row of `columns`, such as "adult.csv, line 17". Reads the file again."""
        return f"{self.files[0]}, line {row + 2}"


def read(config: Csv, *, labelled: bool = True) -> Table:
    """Read all files of `data.path`.

    Columns of `data.categorical` (and the target with `data.target_type=class`) are strings as they are written,
    those of `data.numeric` numbers; the others as their values are.

    Args:
        labelled: whether the target must be there, in every row.

    Raises:
        ConfigError: for a key that does not fit the files.
        DataError: for a file that cannot be read; names file, line and column.
    """
    if config.path is None:
        raise ConfigError("data.path is needed: the CSV file.")
    path = Path(config.path).expanduser()
    try:
        table = pa_csv.read_csv(
            path,
            convert_options=pa_csv.ConvertOptions(null_values=config.missing, strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a readable CSV file ({error}).") from error
    return Table(table, (path,), rows_read=table.num_rows)
