"""The transforms of table columns that `data.transforms` selects, and their keys.

Not a section of the config: a chain of them is given for a kind of column or for one column.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from trainer.config import parts
from trainer.config.registry import register
from trainer.config.section import FIXED, key
from trainer.errors import ConfigError

KINDS = ("numeric", "categorical", "boolean", "datetime")
NUMBERS, CATEGORIES, BOTH = "numbers", "categories", "both"


@dataclass
class TransformConfig(parts.Part):
    """Base of the transforms. What the built-in ones do is in `trainer/data/table/transforms.py`.

    A transform of a plug-in has `fit(values, levels) -> state` and `apply(values, state) -> columns` beside its keys.

    Attributes:
        takes: columns of numbers, of categories (codes), or both.
        beside: whether what it gives is put beside the column, out of reach of the transforms that follow.
        codes: whether it gives category codes for a learned embedding.
    """

    on_resume: ClassVar[str] = FIXED
    selected_by: ClassVar[str] = "data.transforms"
    takes: ClassVar[str] = NUMBERS
    beside: ClassVar[bool] = False
    codes: ClassVar[bool] = False


@register("transform", "impute")
@dataclass
class Impute(TransformConfig):
    """Fill in missing values, as measured on the training rows."""

    takes: ClassVar[str] = BOTH

    method: str = key(
        "auto",
        "auto: the median of numbers, and for categories a level of its own (category)",
        choices=("auto", "median", "mean", "most_frequent", "constant", "category"),
    )
    value: float = key(0.0, "with constant: the number to fill in")


@register("transform", "missing_indicator")
@dataclass
class MissingIndicator(TransformConfig):
    """Add a column that is 1 where the value is missing, if one is missing in training."""

    beside: ClassVar[bool] = True


@register("transform", "standardize")
@dataclass
class Standardize(TransformConfig):
    """Scale to mean 0 and standard deviation 1."""


@register("transform", "robust")
@dataclass
class Robust(TransformConfig):
    """Scale to median 0 and interquartile range 1 (where that is 0: half the range 1), which is robust to outliers."""


@register("transform", "minmax")
@dataclass
class MinMax(TransformConfig):
    """Scale the training range to [0, 1]; values outside it map outside."""


@register("transform", "quantile")
@dataclass
class Quantile(TransformConfig):
    """Replace a value by its rank among the training values, spread evenly or like a normal distribution."""

    output: str = key("normal", "distribution of the results", choices=("normal", "uniform"))
    quantiles: int = key(1000, "number of quantiles to measure ranks with", at_least=2, at_most=100_000)


@register("transform", "log1p")
@dataclass
class Log1p(TransformConfig):
    """sign(x) · log(1 + |x|): for amounts that span powers of ten, of either sign."""


@register("transform", "clip")
@dataclass
class Clip(TransformConfig):
    """Clip values to two quantiles of the training values."""

    low: float = key(0.01, "lower quantile; smaller values are raised to it", at_least=0, below=1)
    high: float = key(0.99, "upper quantile; larger values are lowered to it", above=0, at_most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low >= self.high:
            raise ConfigError(f"data.transforms: clip.low={self.low} must be less than clip.high={self.high}.")


@register("transform", "smooth_clip")
@dataclass
class SmoothClip(TransformConfig):
    """x / √(1 + (x / limit)²): leaves small values as they are, and none beyond the limit; after robust."""

    limit: float = key(3.0, "bound of the magnitude, which is never reached", above=0)


@register("transform", "none")
@dataclass
class Nothing(TransformConfig):
    """Leave the values as they are."""

    takes: ClassVar[str] = BOTH


@register("transform", "calendar")
@dataclass
class Calendar(TransformConfig):
    """Elapsed days and year of a date, and sine and cosine of month, day, weekday and hour: the parts that vary."""


@register("transform", "onehot")
@dataclass
class OneHot(TransformConfig):
    """One column per level and one for missing values; a level not seen in training gives zeros."""

    takes: ClassVar[str] = CATEGORIES


@register("transform", "ordinal")
@dataclass
class Ordinal(TransformConfig):
    """The number of the level in sorted order from 1; 0 for a level not seen in training."""

    takes: ClassVar[str] = CATEGORIES


@register("transform", "embed")
@dataclass
class Embed(TransformConfig):
    """The code of the level, for which the model learns an embedding; 0 for a level not seen in training."""

    takes: ClassVar[str] = CATEGORIES
    codes: ClassVar[bool] = True


def parse_transforms(chains: dict[str, Any]) -> dict[str, list[TransformConfig]]:
    """Parse the value of `data.transforms`: for a kind of column, or the name of one, its transforms in order.

    Raises:
        ConfigError: for an unknown transform, a key that it does not have, or a value out of range.
    """
    return {name: chain(entries, f"data.transforms.{name}") for name, entries in chains.items()}


def chain(entries: Any, where: str) -> list[TransformConfig]:
    """Return the transforms of a list of entries, in their order; see `parts.select`."""
    return parts.select("transform", entries, where)
