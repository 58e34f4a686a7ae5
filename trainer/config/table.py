"""Tables as data: the keys of `data=csv`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.config.data import Data
from trainer.config.section import FREE, key
from trainer.registry import register

if TYPE_CHECKING:
    from trainer.interfaces import Data as BuiltData


@register("data", "csv")
@dataclass
class Csv(Data):
    """A table in a CSV file: numeric and categorical columns, one target."""

    path: str | None = key(None, "the file", on_resume=FREE)
    target: str | None = key(None, "the column to predict: its name, or its number (0 is the first) without a header")
    delimiter: str = key(",", "what separates two values: one character, or tab, semicolon, pipe, space")
    header: bool = key(True, "whether the first line names the columns")
    missing: list[str] = key(["", "?", "NA", "N/A", "NaN", "nan", "null", "None"], "values that mean: not known")
    numeric: list[str] = key([], "columns to read as numbers, against the inference")
    categorical: list[str] = key([], "columns to read as categories, against the inference")
    ignore: list[str] = key([], "columns to leave out")
    encoding: str = key(
        "onehot",
        "a category becomes one column per level, or one column of codes",
        choices=("onehot", "codes"),
    )
    standardize: bool = key(True, "scale numbers to mean 0 and deviation 1, as measured on the training rows")
    target_type: str = key(
        "auto",
        "auto: class, unless the column is numeric and has fractions or more than 20 values",
        choices=("auto", "class", "number"),
    )

    def build(self, seed: int) -> "BuiltData":
        from trainer.data.csv import build

        return build(self, seed)
