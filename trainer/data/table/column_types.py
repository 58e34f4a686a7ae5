"""What each column of a table is: as the config says, or inferred from its values."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.config.quoting import shell_override
from trainer.config.table import Csv
from trainer.config.transform import KINDS
from trainer.data.table import dates
from trainer.data.table.arrow_types import ALMOST, is_text, is_time
from trainer.data.table.column_warnings import MOSTLY, either_order, mostly_numbers, no_dates, without_dates
from trainer.data.table.reading import require_column
from trainer.data.table.table import Table
from trainer.data.table.text_values import MEANING, TRUTH, Counts, counted, has_digits, is_padded, truth
from trainer.data.table.transforms import MAX_LEVELS
from trainer.data.table.written_numbers import number_style
from trainer.errors import ConfigError, DataError

HEAD = 100_000  # rows from which the kind of a column is inferred; what is strict is then held against all of them
ONEHOT_LIMIT = 1000  # levels of one category that are still worth a column each
FEW = 100  # distinct values that say what a column may be
COMPACT = (10_000_101, 99_991_231)  # 20210131 as a number
_IDENTIFIER = re.compile(
    r"((.*[\s_.-])?(?i:id|uid|uuid|guid|index|idx|row|rownum|key|nr|no)|.*[a-z](Id|ID)|Unnamed: \d+|)"
)
_MOMENT = re.compile(
    r"(.*[\s_.-])?(ts|time|timestamp|datetime|date|epoch|unix|unixtime|created|updated)([\s_.-].*)?", re.I
)


@dataclass(frozen=True)
class Found:
    """What was inferred of a column; see `Column`."""

    kind: str
    reason: str = ""
    form: str = ""
    warning: str = ""
    unsaid: int = 0  # rows with a value that says that there is none


@dataclass(frozen=True)
class Column:
    """What is known about a column.

    Attributes:
        name: as in the file.
        kind: an input (numeric, categorical, boolean, datetime), another purpose (target, weight, group, split, time),
            or a reason to leave it out (text, id, empty).
        missing: rows without a value, or with one that says that there is none, such as 0000-00-00.
        distinct: number of distinct values, null not counted, among the first `HEAD` rows.
        sampled: whether there are more rows than those.
        example: the first value.
        reason: why it is left out although the user did not ask for that; "" otherwise.
        form: how dates or numbers are written, see `trainer.data.table.dates.FORMATS` and `written_numbers.STYLES`; ""
            where they are neither, or numbers that are written plainly.
        warning: what may be wrong with reading it so; "" otherwise.
    """

    name: str
    kind: str
    missing: int
    distinct: int
    sampled: bool
    example: str
    reason: str = ""
    form: str = ""
    warning: str = ""

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
    for key, given in (("transforms", config.chains()), ("formats", config.formats), ("order", config.order)):
        for name in given:
            if key != "transforms" or name not in KINDS:
                require_column(name, f"data.{key}", (*KINDS, *names) if key == "transforms" else names, table.files[0])
    if config.time in config.ignore:
        configured[str(config.time)] = "time"
    return configured


def check_transforms(config: Csv, columns: Sequence[Column]) -> None:
    """Raise `ConfigError` for transforms of a column that is no input: nothing would come of them."""
    for column in columns:
        if column.name in config.chains() and not column.is_input and column.kind != "target":
            why = f"which {column.reason}" if column.reason else f"being data.{column.kind}"
            way_out = shell_override("data.categorical", [column.name])
            raise ConfigError(
                f"data.transforms.{column.name}: the column is no input, {why}; take the transforms away, or make it "
                f"one: {way_out}."
            )


def _column(config: Csv, name: str, table: Table, configured: str | None) -> Column:
    """Determine what a column is; `configured` is the key that names it."""
    column = table.columns[name]
    head = column.slice(0, HEAD)
    present = pc.drop_null(head)
    distinct = pc.unique(present)
    if configured is None and name in config.formats:
        configured = "datetime"
    if configured is None and name in config.order:
        configured = "categorical"
    if configured is not None:
        found = _as_configured(config, configured, name, table)
    elif not len(present) and column.null_count == len(column):
        found = Found("empty", "has no value in any row")
    else:
        found = _inferred(config, name, table, len(present), distinct)
    example = present[0].cast(pa.string()).as_py() if len(present) else ""
    missing, sampled = column.null_count + found.unsaid, len(column) > HEAD
    return Column(name, found.kind, missing, len(distinct), sampled, example, found.reason, found.form, found.warning)


def _as_configured(config: Csv, key: str, name: str, table: Table) -> Found:
    """Return what a column is that a key names."""
    column = table.columns[name]
    if key == "numeric" and is_text(column.type):
        texts, counts = counted(column)
        return Found("numeric", form=number_style(texts, counts, table.decimal)[0] if len(texts) else "")
    if key not in ("datetime", "time") or is_time(column.type) or (key == "time" and not is_text(column.type)):
        return Found(key)
    texts, counts = counted(column)
    form = config.formats.get(name)
    if form is not None:
        dates.check_date_format(form, f"data.formats.{name}")
        return _dates(key, name, texts, counts, form, told=False)
    form = dates.date_format(texts, counts)
    if form is None and key == "time":
        return Found(key)  # what is wrong is for those who need it
    if form is None:
        raise DataError(no_dates(name, texts, counts))
    return _dates(key, name, texts, counts, form)


def _dates(kind: str, name: str, texts: pa.Array, counts: Counts, form: str, told: bool = True) -> Found:
    """Return what a column of dates is; `told` that its form may be another one, unless the user has given it."""
    unsaid, sentence = without_dates(name, texts, counts, form)
    warning = " ".join(filter(None, [either_order(name, texts, form) if told else "", sentence]))
    return Found(kind, form=form, warning=warning, unsaid=unsaid)


def _inferred(config: Csv, name: str, table: Table, rows: int, distinct: pa.Array) -> Found:
    """Infer what a column is, from `rows` values of its head of which some are `distinct`."""
    column = table.columns[name]
    kind = column.type
    if pa.types.is_boolean(kind):
        return Found("boolean")
    if is_time(kind):
        return Found("datetime")
    if not is_text(kind):
        return _of_numbers(name, column, rows, distinct)
    strict = _strict_kind(name, table, distinct)
    if strict is not None:
        return strict
    warning = mostly_numbers(name, *counted(column.slice(0, HEAD)), table.decimal) if has_digits(distinct) else ""
    levels, limit = len(distinct), min(MAX_LEVELS, max(10, rows // 2))
    if levels <= limit:
        if levels > ONEHOT_LIMIT and config.categories == "onehot":
            return Found("text", f"has {levels:,} levels, too many for a column each; see data.categories")
        return Found("categorical", warning=warning)
    if warning:
        return Found("text", warning=f"left out: {warning}")
    words = pc.mean(pc.count_substring(distinct, " ")).as_py() + 1
    of = f"has {levels:,} distinct values in {rows:,} rows"
    return Found("text", f"{of}, like free text") if words >= 3 else Found("id", f"{of}, like an identifier")


def _of_numbers(name: str, column: pa.ChunkedArray, rows: int, distinct: pa.Array) -> Found:
    """Infer what a column of numbers is: a measurement, an identifier, or a moment."""
    whole = pa.types.is_integer(column.type)
    if whole and column.null_count == 0 and len(distinct) == rows > 1 and _IDENTIFIER.fullmatch(name):
        return Found("id", "is a different whole number in every row, and named like an identifier")
    named = _MOMENT.fullmatch(name) is not None
    if len(distinct) < 3 or not (whole or named):
        return Found("numeric")
    bounds = pc.min_max(column).as_py()
    low, high = bounds["min"], bounds["max"]
    if whole and COMPACT[0] <= low and high <= COMPACT[1]:
        texts = pc.unique(pc.drop_null(column)).cast(pa.string())
        if not np.isnan(dates.parse_dates(texts, "%Y%m%d")).any():
            return Found("datetime", form="%Y%m%d")
    unit = dates.unix_unit(low, high) if named else None
    return Found("numeric") if unit is None else Found("datetime", form=unit)


def _strict_kind(name: str, table: Table, distinct: pa.Array) -> Found | None:
    """Return what a column of text is where nearly all of it is of one strict kind: yes or no, dates, or numbers."""
    few = distinct[:: -(-len(distinct) // FEW) or 1].cast(pa.string())
    truths = pc.sum(pc.is_in(pc.utf8_lower(few), value_set=pa.array(list(MEANING)))).as_py() or 0
    if 2 * truths < len(few):
        ones = np.ones(len(few))  # all of the column is counted only where a few values are mostly of such a kind
        if number_style(few, ones, table.decimal)[1] < MOSTLY and dates.date_format(few, share=MOSTLY) is None:
            return None
    texts, counts = counted(table.columns[name])
    words = pc.is_in(pc.utf8_lower(texts), value_set=pa.array([word for pair in TRUTH for word in pair]))
    if float(counts @ np.asarray(words)) >= ALMOST * counts.sum() and truth(texts.filter(words)) is not None:
        return Found("boolean")
    style, share = number_style(texts, counts, table.decimal)
    if share >= ALMOST and not is_padded(texts):
        return Found("numeric", form=style)
    form = dates.date_format(texts, counts)
    return None if form is None else _dates("datetime", name, texts, counts, form)


def as_written(kind: str, form: str, table: Table, name: str) -> tuple[str, str]:
    """Return how a table writes a column whose kind and form in training are known: files may differ in that.

    Numbers and dates may be written in another form; and yes and no, which were 1 and 0, in words.
    """
    column = table.columns[name]
    if kind == "boolean" or not is_text(column.type):
        return kind, form
    texts, counts = counted(column)
    if not len(texts):
        return kind, form
    if kind == "datetime":
        fits = form and float(counts @ ~np.isnan(dates.parse_dates(texts, form))) >= ALMOST * counts.sum()
        return kind, form if fits else dates.date_format(texts, counts) or form or dates.ISO
    if truth(texts) is not None:
        return "boolean", ""
    return kind, number_style(texts, counts, table.decimal)[0]
