"""Tables as data: the keys of `data=csv`."""

from dataclasses import dataclass
from typing import Any

from trainer.config.data import DataConfig
from trainer.config.registry import register
from trainer.config.section import FREE, FUTURE, key
from trainer.config.transform import TransformConfig, parse_transforms
from trainer.errors import ConfigError

ROLES = ("target", "weight", "group", "split")  # keys that name one column
LISTS = ("numeric", "categorical", "boolean", "datetime", "text", "ignore")  # keys that name several
MISSING = ["", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "None"]


@register("data", "csv")
@dataclass
class Csv(DataConfig):
    """A table in one or several files (CSV, also compressed, or Parquet): columns to learn from, one target."""

    path: Any = key(None, "the file, a pattern such as 'part-*.csv', or a list of them", on_resume=FREE)
    delimiter: str = key("auto", "what separates two values: one character, or tab, semicolon, pipe, space, comma")
    quote: str = key("auto", "what encloses a value that holds delimiters: one character, or none")
    escape: str | None = key(None, "the character that takes the next one literally, such as a backslash; null: none")
    encoding: str = key("auto", "of the text: utf-8, utf-16, cp1252, latin-1, ...; auto: by its first bytes")
    decimal: str = key("auto", "the decimal point of the numbers", choices=("auto", ".", ","))
    header: str = key(
        "auto",
        "whether the first line names the columns; auto: unless it looks like data",
        choices=("auto", "true", "false"),
    )
    skip_lines: int = key(0, "lines to pass over before the header or the first row", at_least=0)
    comment: str | None = key(None, "lines that begin with this are passed over, such as '#'; null: none")
    missing: list[str] = key(MISSING, "values that mean: not known")
    on_error: str = key(
        "raise",
        "what to do with a row that cannot be read: fail and say where it is, or leave it out and list it",
        choices=("raise", "skip"),
    )
    target: str | None = key(None, "the column to predict: its name, or its number (0 is the first) without a header")
    numeric: list[str] = key([], "columns to read as numbers, against the inference")
    categorical: list[str] = key([], "columns to read as categories, against the inference")
    boolean: list[str] = key([], "columns to read as yes or no, against the inference")
    datetime: list[str] = key([], "columns to read as dates, against the inference")
    text: list[str] = key([], "columns of free text: left out, without a warning")
    ignore: list[str] = key([], "columns to leave out")
    weight: str | None = key(None, "the column that says how much each row counts; no input")
    val_path: Any = key(
        None, "the file or files of the validation rows, as in path; null: they are held out", on_resume=FREE
    )
    split: str | None = key(None, "the column that says of each row: train, val or test; no input")
    time: str | None = key(None, "the column of dates or numbers whose latest val_fraction of the rows is held out")
    group: str | None = key(None, "the column that says which rows belong together, on one side; no input")
    categories: str = key(
        "auto",
        "a category becomes one column per level, or a code for a learned embedding; auto: by the number of levels",
        choices=("auto", "onehot", "embedding"),
    )
    onehot_levels: int = key(16, "with auto: up to so many levels one column each", at_least=1)
    transforms: dict[str, Any] = key(
        {}, "for a kind (numeric, categorical, boolean, datetime) or a column: its transforms (trainer list transform)"
    )
    target_type: str = key(
        "auto",
        "auto: class, unless the column is numeric and has fractions or more than 20 values",
        choices=("auto", "class", "number"),
    )

    memory: str = key(
        "ram",
        "where the rows are held: in memory, or in files of which parts are read in turn, for tables larger than it",
        choices=("ram", "disk"),
        on_resume=FUTURE,
    )
    cache_bytes: int = key(
        20_000_000_000,
        "keep tables of 8 MB and more ready for the next run, up to so many bytes for each folder; 0: do not",
        at_least=0,
        on_resume=FREE,
    )

    def __post_init__(self) -> None:
        self.header = str(self.header).lower()  # true and false of YAML are booleans
        super().__post_init__()
        for name, value in (("path", self.path), ("val_path", self.val_path)):
            paths = value if isinstance(value, list) else [value]
            if not all(isinstance(path, str) for path in paths) and value is not None:
                raise ConfigError(f"data.{name}={value}: expected a file, a pattern or a list of them.")
        if self.memory == "disk" and self.sampling == "balanced":
            raise ConfigError(
                "data.memory=disk: rows are read by blocks, so data.sampling=balanced cannot draw them one by one; "
                "task.class_weights=balanced weighs the classes instead."
            )
        self._check_split()
        self.chains()
        self.named_columns()

    def named_columns(self) -> dict[str, str]:
        """Column -> the key that names it; raises `ConfigError` for one that two keys name: which would count?"""
        named: dict[str, str] = {}
        for role in (*ROLES, *LISTS):
            value = getattr(self, role)
            for name in value if role in LISTS else [value] * (value is not None):
                if named.setdefault(name, role) == role:
                    continue
                if named[name] == "target":
                    raise ConfigError(f"data.{role}={value}: holds the target, {name}; see data.target_type.")
                raise ConfigError(f"data.{named[name]} and data.{role} both name the column {name}; leave it in one.")
        return named

    def _check_split(self) -> None:
        """Only one key may say which rows are held out."""
        ways = {"val_path": self.val_path, "split": self.split, "time": self.time, "folds": self.folds}
        given = [name for name, value in ways.items() if value is not None]
        if self.group is not None and given and given != ["folds"]:
            given.append("group")
        if len(given) > 1:
            raise ConfigError(
                f"data.{given[0]} and data.{given[1]} both say which rows are for validation; leave one of them out."
            )

    def chains(self) -> dict[str, list[TransformConfig]]:
        """`transforms`, checked; raises `ConfigError` for one that does not exist or has no such key."""
        return parse_transforms(self.transforms)
