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
from trainer.data.table.columns import MEANING, TRUTH
from trainer.data.table.reading import Table, require_column
from trainer.data.table.row_parser import excerpt
from trainer.data.table.transforms import MAX_LEVELS
from trainer.data.table.written_numbers import number_style, parse_numbers
from trainer.errors import ConfigError, DataError

HEAD = 100_000  # rows from which the kind of a column is inferred; what is strict is then held against all of them
MOSTLY = 0.5  # the share of numbers from which a column of text is told to be mostly numbers
LISTED = 3  # values that a message lists
ONEHOT_LIMIT = 1000  # levels of one category that are still worth a column each
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
    sampled = len(column) > HEAD
    return Column(
        name, found.kind, column.null_count, len(distinct), sampled, example, found.reason, found.form, found.warning
    )


def _as_configured(config: Csv, key: str, name: str, table: Table) -> Found:
    """Return what a column is that a key names."""
    column = table.columns[name]
    if key == "numeric" and is_text(column.type):
        texts, counts = counted(column)
        return Found("numeric", form=number_style(texts, counts, table.decimal)[0] if len(texts) else "")
    if key != "datetime" or is_time(column.type):
        return Found(key)
    texts, counts = counted(column.cast(pa.string()))
    form = config.formats.get(name)
    if form is not None:
        dates.check_date_format(form, f"data.formats.{name}")
        return Found("datetime", form=form)
    form = dates.date_format(texts, counts)
    if form is None:
        raise DataError(_no_dates(name, texts, counts))
    return Found("datetime", form=form, warning=_either_order(name, texts, form))


def _no_dates(name: str, texts: pa.Array, counts: np.ndarray) -> str:
    """Return the error for a column that is no dates: it names what keeps the most likely format from fitting."""
    closest = dates.date_format(texts, counts, share=MOSTLY)
    example = texts[0].as_py() if len(texts) else ""
    if closest is not None:
        wrong = np.isnan(dates.parse_dates(texts, closest)) & ~dates.sentinels(texts)
        example = texts[int(wrong.argmax())].as_py()
        return (
            f"data.datetime: the column {name} holds {excerpt(example)} among dates written as {closest}; all its "
            f"values must be written in one way: {shell_override('data.missing', [example])} reads it as missing, and "
            f"data.formats.{name}=FORMAT says how they are written."
        )
    return (
        f"data.datetime: the column {name} holds '{example}', not a date such as 2024-05-31 or 2024-05-31 17:30; all "
        f"its values must be written in one way, which data.formats.{name}='%d.%m.%Y' may say."
    )


def _either_order(name: str, texts: pa.Array, form: str) -> str:
    """Return the warning for dates that fit with day and month exchanged as well; "" where they do not."""
    other = dates.other_order(texts, form)
    if other is None:
        return ""
    way_out = shell_override(f"data.formats.{name}", other)
    return f"the dates of {name} fit {form} and {other}, and are read as the first; {way_out} reads them as the second."


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
    texts, counts = counted(column.slice(0, HEAD))
    warning = _mostly_numbers(name, texts, counts, table.decimal)
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
    bounds = pc.min_max(column).as_py()
    low, high = bounds["min"], bounds["max"]
    if low is None or len(distinct) < 3:
        return Found("numeric")
    if whole and COMPACT[0] <= low and high <= COMPACT[1]:
        texts = pc.unique(pc.drop_null(column)).cast(pa.string())
        if not np.isnan(dates.parse_dates(texts, "%Y%m%d")).any():
            return Found("datetime", form="%Y%m%d")
    unit = dates.unix_unit(low, high) if _MOMENT.fullmatch(name) else None
    return Found("numeric") if unit is None else Found("datetime", form=unit)


def _strict_kind(name: str, table: Table, distinct: pa.Array) -> Found | None:
    """Return what a column of text is where nearly all of it is of one strict kind: yes or no, dates, or numbers."""
    column = table.columns[name]
    few = pc.utf8_lower(distinct.cast(pa.string()))
    truths = pc.is_in(few, value_set=pa.array(list(MEANING)))
    if pc.sum(truths).as_py() == 0 and not _has_digits(few):
        return None
    texts, counts = counted(column)
    words = pc.is_in(pc.utf8_lower(texts), value_set=pa.array([word for pair in TRUTH for word in pair]))
    if float(counts @ np.asarray(words)) >= ALMOST * counts.sum() and truth(texts.filter(words)) is not None:
        return Found("boolean")
    style, share = number_style(texts, counts, table.decimal)
    if share >= ALMOST and not is_padded(texts):
        return Found("numeric", form=style)
    form = dates.date_format(texts, counts)
    return None if form is None else Found("datetime", form=form, warning=_either_order(name, texts, form))


def _has_digits(texts: pa.Array) -> bool:
    """Return whether half of the first values have a digit: dates and numbers do."""
    some = pc.match_substring_regex(texts[:100], "[0-9]")
    return 2 * (pc.sum(some).as_py() or 0) >= len(some) > 0


def is_padded(texts: pa.Array) -> bool:
    """Return whether a text begins with a zero that no number needs, as in 007: they are codes, not numbers."""
    return bool(pc.any(pc.match_substring_regex(texts, "^0[0-9]+$")).as_py())


def _mostly_numbers(name: str, texts: pa.Array, counts: np.ndarray, decimal: str) -> str:
    """Return the warning for text that is mostly numbers, with the words that are none; "" where it is not."""
    if not len(texts) or not _has_digits(texts) or is_padded(texts):
        return ""
    good = ~np.isnan(parse_numbers(texts, number_style(texts, counts, decimal)[0]))
    share = float(counts @ good / counts.sum())
    if not MOSTLY <= share < ALMOST or not good[counts.argsort()[::-1]][:1000].sum() > 2:
        return ""
    others = sorted(np.flatnonzero(~good).tolist(), key=lambda at: -counts[at])
    shown = ", ".join(f"{excerpt(texts[at].as_py())} in {int(counts[at]):,} rows" for at in others[:LISTED])
    more = f", and {len(others) - LISTED} more" if len(others) > LISTED else ""
    missing = shell_override("data.missing", [texts[at].as_py() for at in others[:LISTED]])
    as_text = shell_override("data.categorical", [name])
    return (
        f"the column {name} is {share:.0%} numbers, and read as text; not numbers: {shown}{more}. {missing} reads "
        f"these as missing, and the column as numbers; {as_text} keeps it as text."
    )


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


def counted(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Return the distinct texts of a column, null left out, and how often each occurs, float64."""
    found = pc.value_counts(pc.drop_null(column.cast(pa.string())))
    return found.field("values"), np.asarray(found.field("counts"), dtype=np.float64)


def truth(distinct: pa.Array) -> dict[str, int] | None:
    """Return which word is 1 and which 0, in lower case, where the values are two words for yes and no; else None."""
    if not 2 <= len(distinct) <= 8:
        return None
    words = {text.lower() for text in distinct.to_pylist()}
    return next((meaning for meaning in TRUTH if words == meaning.keys()), None)
