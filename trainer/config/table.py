"""Tables as data: the keys of `data=csv`."""

import contextlib
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from trainer.config.data import DataConfig
from trainer.config.registry import register
from trainer.config.section import FREE, FUTURE, key
from trainer.config.transform import TransformConfig, parse_transforms
from trainer.errors import ConfigError

ROLES = ("target", "weight", "group", "split")  # keys that name one column
LISTS = ("numeric", "categorical", "boolean", "datetime", "text", "ignore")  # keys that name several
MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "NAN", "-nan", "null", "NULL", "None")
SPELLED = ("", ".0", ".00")  # after a whole number
# How a file writes its table. `evaluate` and `predict` find it anew in each file, unless they are given the key.
WRITING = ("delimiter", "quote", "escape", "encoding", "decimal", "header", "skip_lines", "comment")
READING = (*WRITING, "missing", "missing_defaults", "formats", "on_error")  # what they may be given


@register("data", "csv")
@dataclass
class Csv(DataConfig):
    """A table in one or several files (CSV, also compressed, or Parquet): columns to learn from, one target."""

    least_steps: ClassVar[int] = 1000  # a small table is far from learned after 20 epochs

    path: Any = key(None, "file, pattern such as 'part-*.csv', or list of them", on_resume=FREE)
    delimiter: str = key("auto", "column delimiter: one character, or tab, semicolon, pipe, space, comma")
    quote: str = key("auto", "quote character around values that contain delimiters, or none")
    escape: str | None = key(None, "escape character, such as a backslash; null: none")
    encoding: str = key(
        "auto", "text encoding: utf-8, utf-16, cp1252, latin-1, ...; auto: detected from the first bytes"
    )
    decimal: str = key("auto", "decimal point of numbers", choices=("auto", ".", ","))
    header: str = key(
        "auto",
        "whether the first line names the columns; auto: unless it looks like data",
        choices=("auto", "true", "false"),
    )
    skip_lines: int = key(0, "lines to skip before the header or the first row", at_least=0)
    comment: str | None = key(None, "skip lines that begin with this, such as '#'; null: none")
    missing: list[str] = key(
        [], "values that stand for a missing one, beside the usual: numbers as numbers, words as words"
    )
    missing_defaults: bool = key(
        True, f"whether these stand for a missing value, too: nothing, {', '.join(MISSING[1:])}"
    )
    formats: dict[str, Any] = key({}, "for a column of dates: how they are written, such as '%d.%m.%Y %H:%M'")
    order: dict[str, Any] = key({}, "for a column of categories: its levels in their order, as [low,mid,high]")
    on_error: str = key(
        "raise",
        "raise: stop at a row that cannot be read and say where it is; skip: leave it out and list it",
        choices=("raise", "skip"),
    )
    target: Any = key(
        None,
        "column to predict: its name, or its number (from 0) without a header; a list of several columns of numbers",
    )
    numeric: list[str] = key([], "columns to read as numbers, overriding detection")
    categorical: list[str] = key([], "columns to read as categories, overriding detection")
    boolean: list[str] = key([], "columns to read as yes or no, overriding detection")
    datetime: list[str] = key([], "columns to read as dates, overriding detection")
    text: list[str] = key([], "columns of free text, left out without a warning")
    ignore: list[str] = key([], "columns to leave out")
    weight: str | None = key(None, "column of sample weights; not an input")
    val_path: Any = key(
        None, "file or files of the validation rows, as in path; null: rows are held out", on_resume=FREE
    )
    split: str | None = key(None, "column that assigns each row to train, val or test; not an input")
    time: str | None = key(None, "column of dates or numbers: the latest val_fraction of the rows is held out")
    group: str | None = key(None, "column of groups: the rows of a group stay on one side of the split; not an input")
    categories: str = key(
        "auto",
        "encode a category as one column per level, or as a learned embedding; auto: by the number of levels",
        choices=("auto", "onehot", "embedding"),
    )
    onehot_levels: int = key(16, "with auto: one column per level up to this many levels", at_least=1)
    transforms: dict[str, Any] = key(
        {},
        "for a kind (numeric, categorical, boolean, datetime) or a column: its transforms, see trainer list transform",
    )
    target_type: str = key(
        "auto",
        "auto: class, unless the column is numeric and has fractions or more than 20 values",
        choices=("auto", "class", "number"),
    )

    memory: str = key(
        "ram",
        "hold the rows in memory, or in files that are read in parts, for tables larger than memory",
        choices=("ram", "disk"),
        on_resume=FUTURE,
    )
    cache_bytes: int = key(
        20_000_000_000,
        "cache tables of 2 MB and more for the next run, up to this many bytes per folder; 0: off",
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
        self._check_target()
        self._check_split()
        self._check_columns_keys()
        self.chains()
        self.named_columns()

    def named_columns(self) -> dict[str, str]:
        """Return each named column with the key that names it; raises `ConfigError` where two keys name one column."""
        named: dict[str, str] = {}
        for role in (*ROLES, *LISTS):
            value: Any = self.targets if role == "target" else getattr(self, role)
            for name in value if role in ("target", *LISTS) else [value] * (value is not None):
                if named.setdefault(name, role) == role:
                    continue
                if named[name] == "target":
                    raise ConfigError(f"data.{role}={value}: holds the target, {name}; see data.target_type.")
                raise ConfigError(f"data.{named[name]} and data.{role} both name the column {name}; leave it in one.")
        return named

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns to predict: one, several of numbers, or none where none is named."""
        return () if self.target is None else tuple(self.target) if isinstance(self.target, list) else (self.target,)

    def _check_target(self) -> None:
        """Give the target one form: a name, or a list of two or more."""
        if self.target is None:
            return
        given = self.target if isinstance(self.target, list) else [self.target]
        names = [str(name) for name in given]
        if not names or len(set(names)) < len(names) or not all(isinstance(name, str | int | float) for name in given):
            raise ConfigError(f"data.target={self.target}: expected a column, or a list of different columns.")
        self.target = names[0] if len(names) == 1 else names
        if len(names) == 1:
            return
        if self.target_type == "class":
            raise ConfigError(
                f"data.target={','.join(names)}: several columns are predicted as numbers, and data.target_type=class "
                "asks for classes; name one column."
            )
        for name in names:
            if name in self.transforms:
                raise ConfigError(f"data.transforms.{name}: the target is transformed where it is one column alone.")

    def missing_words(self) -> list[str]:
        """Return the texts that stand for a missing value; of a number the usual ways to write it."""
        numbers = [f"{number:.0f}{end}" for number in self.missing_numbers() if number.is_integer() for end in SPELLED]
        return list(dict.fromkeys([*(MISSING if self.missing_defaults else ()), *self.missing, *numbers]))

    def missing_numbers(self) -> list[float]:
        """Return the numbers that stand for a missing value in a column of numbers, however they are written there."""
        found = []
        for word in self.missing:
            with contextlib.suppress(ValueError):
                found.append(float(word))
        return [number for number in found if math.isfinite(number)]

    def _check_columns_keys(self) -> None:
        """Check `formats` and `order`, and give their values one type."""
        for name, form in self.formats.items():
            if not isinstance(form, str) or not form:
                raise ConfigError(
                    f"data.formats.{name}={form}: expected how its dates are written, such as '%d.%m.%Y'."
                )
        for name, levels in self.order.items():
            if not isinstance(levels, list) or len(set(map(str, levels))) < max(2, len(levels)):
                raise ConfigError(f"data.order.{name}={levels}: expected a list of two or more different levels.")
        named = self.named_columns()
        for word, kind, given in (("formats", "datetime", self.formats), ("order", "categorical", self.order)):
            for name in given:
                if named.get(name, kind) not in (kind, "ignore"):
                    raise ConfigError(
                        f"data.{word}.{name}: is for a column of data.{kind}, and data.{named[name]} names it; leave "
                        "one of them out."
                    )
        self.order = {name: [str(level) for level in levels] for name, levels in self.order.items()}

    def _check_split(self) -> None:
        """Raise `ConfigError` where more than one key says which rows are held out."""
        ways = {"val_path": self.val_path, "split": self.split, "time": self.time, "folds": self.folds}
        given = [name for name, value in ways.items() if value is not None]
        if self.group is not None and given and given != ["folds"]:
            given.append("group")
        if len(given) > 1:
            raise ConfigError(
                f"data.{given[0]} and data.{given[1]} both say which rows are for validation; leave one of them out."
            )

    def chains(self) -> dict[str, list[TransformConfig]]:
        """Return `transforms`, checked; raises `ConfigError` for one that does not exist or has no such key."""
        return parse_transforms(self.transforms)
