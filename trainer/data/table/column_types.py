"""What each column of a table is: as the config says, or inferred from its values."""

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from trainer.config.table import Csv
from trainer.config.transform import KINDS
from trainer.data.table.dates import date_format
from trainer.data.table.reading import Table, require_column
from trainer.data.table.transforms import MAX_LEVELS
from trainer.errors import DataError

HEAD = 100_000  # rows from which the kind of a column is inferred
DATES = 1000  # distinct values that must all be dates
TRUTH = ({"true": 1, "false": 0}, {"yes": 1, "no": 0}, {"t": 1, "f": 0}, {"y": 1, "n": 0}, {"on": 1, "off": 0})
ONEHOT_LIMIT = 1000  # levels of one category that are still worth a column each
_IDENTIFIER = re.compile(
    r"((.*[\s_.-])?(?i:id|uid|uuid|guid|index|idx|row|rownum|key|nr|no)|.*[a-z](Id|ID)|Unnamed: \d+|)"
)


@dataclass(frozen=True)
class Column:
    """What is known about a column.

    Attributes:
        name: as in the file.
        kind: an input (numeric, categorical, boolean, datetime), another purpose (target, weight, group, split), or a
            reason to leave it out (text, id, empty).
        missing: rows without a value.
        distinct: number of distinct values, null not counted, among the first `HEAD` rows.
        sampled: whether there are more rows than those.
        example: the first value.
        reason: why it is left out although the user did not ask for that; "" otherwise.
        form: the format of dates, see `trainer.data.table.dates.FORMATS`; "" where they are none.
    """

    name: str
    kind: str
    missing: int
    distinct: int
    sampled: bool
    example: str
    reason: str = ""
    form: str = ""

    @property
    def is_input(self) -> bool:
        """Whether it is an input of the model."""
        return self.kind in KINDS


def infer_columns(config: Csv, table: Table) -> list[Column]:
    """Determine what each column is, in the order of the file.

    Raises:
        ConfigError: where the config names a column that is not there, or one for two purposes.
        DataError: where a column is not what the config says.
    """
    configured = _configured(config, table)
    return [_column(config, name, table, configured.get(name)) for name in table.columns.column_names]


def _configured(config: Csv, table: Table) -> dict[str, str]:
    """Return the key that names a column, by column; raise `ConfigError` where one is not there."""
    names = tuple(table.columns.column_names)
    configured = {name: key for name, key in config.named_columns().items() if key != "ignore"}  # those are not read
    for name, key in configured.items():
        require_column(name, f"data.{key}", names, table.files[0])
    for name in config.chains():
        if name not in KINDS:
            require_column(name, "data.transforms", (*KINDS, *names), table.files[0])
    return configured


def _column(config: Csv, name: str, table: Table, configured: str | None) -> Column:
    """Determine what a column is; `configured` is the key that names it."""
    column = table.columns[name]
    head = column.slice(0, HEAD)
    present = pc.drop_null(head)
    distinct = pc.unique(present)
    if configured is not None:
        kind, reason, form = _as_configured(configured, name, table)
    elif not len(present) and column.null_count == len(column):
        kind, reason, form = "empty", "has no value in any row", ""
    else:
        kind, reason, form = _inferred(config, name, column, len(present), distinct)
    example = present[0].cast(pa.string()).as_py() if len(present) else ""
    return Column(name, kind, column.null_count, len(distinct), len(column) > HEAD, example, reason, form)


def _as_configured(key: str, name: str, table: Table) -> tuple[str, str, str]:
    """Return kind, reason of leaving it out, and format of dates, of a column that a key names."""
    if key != "datetime" or is_time(table.columns[name].type):
        return key, "", ""
    distinct = pc.unique(pc.drop_null(table.columns[name].cast(pa.string())))
    form = date_format(distinct[:DATES]) if len(distinct) else None
    if form is None:
        raise DataError(
            f"data.datetime: the column {name} holds '{distinct[0] if len(distinct) else ''}', not a date such as "
            "2024-05-31 or 2024-05-31 17:30; all its values must be written in one way."
        )
    return "datetime", "", form


def _inferred(config: Csv, name: str, column: pa.ChunkedArray, rows: int, distinct: pa.Array) -> tuple[str, str, str]:
    """Infer kind, reason of leaving it out, and format of dates, from `rows` values of which some are `distinct`."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return "boolean", "", ""
    if is_time(kind):
        return "datetime", "", ""
    if not is_text(kind):
        unique = pa.types.is_integer(kind) and column.null_count == 0 and len(distinct) == rows > 1
        if unique and _IDENTIFIER.fullmatch(name):
            return "id", "is a different whole number in every row, and named like an identifier", ""
        return "numeric", "", ""
    if truth(distinct) is not None:
        return "boolean", "", ""
    form = date_format(distinct[:DATES]) if len(distinct) else None
    if form is not None:
        return "datetime", "", form
    levels, limit = len(distinct), min(MAX_LEVELS, max(10, rows // 2))
    if levels <= limit:
        if levels > ONEHOT_LIMIT and config.categories == "onehot":
            return "text", f"has {levels:,} levels, too many for a column each; see data.categories", ""
        return "categorical", "", ""
    words = pc.mean(pc.count_substring(distinct, " ")).as_py() + 1
    of = f"has {levels:,} distinct values in {rows:,} rows"
    return ("text", f"{of}, like free text", "") if words >= 3 else ("id", f"{of}, like an identifier", "")


def truth(distinct: pa.Array) -> dict[str, int] | None:
    """Return which word is 1 and which 0, in lower case, where the values are two words for yes and no; else None."""
    if len(distinct) not in (2, 3, 4):
        return None
    words = {text.lower() for text in distinct.to_pylist()}
    return next((meaning for meaning in TRUTH if words == meaning.keys()), None)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column holds strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def is_time(kind: pa.DataType) -> bool:
    """Return whether a column holds dates or timestamps."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
