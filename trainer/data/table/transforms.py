"""What the transforms of `trainer.config.transform` do to a column.

A column is a float array (rows,) with NaN where a value is missing. A category is the number of its level: 1 to
`levels` in sorted order, 0 for one that was not seen in training. States are plain data: they are saved with the run.
"""

import math
from statistics import NormalDist
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trainer.config.transform import (
    Calendar,
    Clip,
    Embed,
    Impute,
    Log1p,
    MinMax,
    MissingIndicator,
    Nothing,
    OneHot,
    Ordinal,
    Quantile,
    Robust,
    Standardize,
    TransformConfig,
)
from trainer.errors import ConfigError

Values = NDArray[Any]
State = dict[str, Any]

SAMPLE = 100_000  # values from which quantiles are measured: their rank is then uncertain by 0.2 %
CHUNK = 1 << 14  # values added up at a time
DAY = 86_400.0  # seconds
MAX_LEVELS = 100_000


@runtime_checkable
class ColumnTransform(Protocol):
    """A transform, ready to be fitted and applied."""

    def fit(self, values: Values, levels: int) -> State:
        """What to remember of the training values (rows,); `levels` is 0 for a column of numbers."""
        ...

    def apply(self, values: Values, state: State) -> Values | list[Values]:
        """One column (rows,), or several, from any values."""
        ...


def known(values: Values) -> Values:
    """The values that are not missing."""
    missing = np.isnan(values)
    return values[~missing] if missing.any() else values


def sample(values: Values) -> Values:
    """At most `SAMPLE` values, evenly spaced: all of them, where there are not more."""
    return values[:: -(-len(values) // SAMPLE) or 1]


def moments(values: Values) -> tuple[float, float]:
    """Mean and standard deviation of the known values, added up in float64 by chunks."""
    values = known(values)
    if not len(values):
        return 0.0, 0.0
    shift = float(values[0])  # near the mean, so that the squares lose no digits
    total = squares = 0.0
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK].astype(np.float64)
        part -= shift
        total += float(part.sum())
        squares += float(np.square(part, out=part).sum())  # BLAS would wait for its own threads, once for each chunk
    mean = total / len(values)
    return mean + shift, math.sqrt(max(0.0, squares / len(values) - mean * mean))


class Imputer:
    """See `trainer.config.transform.Impute`."""

    def __init__(self, method: str, value: float) -> None:
        self.method, self.value = method, value

    def fit(self, values: Values, levels: int) -> State:
        method = self.method
        if method == "auto":
            method = "category" if levels else "median"
        if method == "category":
            return {"value": float(levels + 1)}
        there = known(values)
        if method == "constant" or not len(there):
            return {"value": self.value}
        if method == "mean":
            return {"value": moments(there)[0]}
        if method == "most_frequent":
            found, counts = np.unique(there, return_counts=True)
            return {"value": float(found[counts.argmax()])}
        # Of a column without gaps the median is needed only should a new file have one: a sample will do.
        return {"value": float(np.median(there if len(there) < len(values) else sample(there)))}

    def apply(self, values: Values, state: State) -> Values:
        missing = np.isnan(values)
        return np.where(missing, values.dtype.type(state["value"]), values) if missing.any() else values


class MissingFlag:
    """See `trainer.config.transform.MissingIndicator`."""

    def fit(self, values: Values, levels: int) -> State:
        return {"present": bool(np.isnan(values).any())}

    def apply(self, values: Values, state: State) -> list[Values]:
        return [np.isnan(values).astype(np.float32)] if state["present"] else []


class _Scale:
    """(x - center) / scale; a column whose scale is 0 is only centred."""

    def apply(self, values: Values, state: State) -> Values:
        scaled: Values = (values - float(state["center"])) / (float(state["scale"]) or 1.0)
        return scaled


class StandardScaler(_Scale):
    """See `trainer.config.transform.Standardize`."""

    def fit(self, values: Values, levels: int) -> State:
        mean, deviation = moments(values)
        # A constant such as 0.1 has a deviation of rounding alone, which must not be blown up to 1.
        return {"center": mean, "scale": deviation if deviation > 1e-9 * abs(mean) else 0.0}


class RobustScaler(_Scale):
    """See `trainer.config.transform.Robust`."""

    def fit(self, values: Values, levels: int) -> State:
        low, median, high = _quantiles(values, [0.25, 0.5, 0.75])
        return {"center": median, "scale": high - low}


class MinMaxScaler(_Scale):
    """See `trainer.config.transform.MinMax`."""

    def fit(self, values: Values, levels: int) -> State:
        there = known(values)
        low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 0.0)
        return {"center": low, "scale": high - low}


class QuantileTransformer:
    """See `trainer.config.transform.Quantile`."""

    def __init__(self, output: str, quantiles: int) -> None:
        self.output, self.quantiles = output, quantiles

    def fit(self, values: Values, levels: int) -> State:
        return {"quantiles": _quantiles(values, np.linspace(0, 1, self.quantiles).tolist())}

    def apply(self, values: Values, state: State) -> Values:
        points = np.asarray(state["quantiles"], dtype=np.float64)
        ranks = (np.arange(len(points)) + 0.5) / len(points)
        if self.output == "normal":
            ranks = np.array([NormalDist().inv_cdf(rank) for rank in ranks])
        # Where many training values are alike, the middle of their ranks: from below and from above.
        up = np.interp(values, points, ranks)
        down = -np.interp(-values, -points[::-1], -ranks[::-1])
        middle: Values = (up + down) / 2
        return middle


class LogTransformer:
    """See `trainer.config.transform.Log1p`."""

    def fit(self, values: Values, levels: int) -> State:
        return {}

    def apply(self, values: Values, state: State) -> Values:
        return np.copysign(np.log1p(np.abs(values)), values)


class Clipper:
    """See `trainer.config.transform.Clip`."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def fit(self, values: Values, levels: int) -> State:
        low, high = _quantiles(values, [self.low, self.high])
        return {"low": low, "high": high}

    def apply(self, values: Values, state: State) -> Values:
        return np.clip(values, float(state["low"]), float(state["high"]))


class Identity:
    """See `trainer.config.transform.Nothing`."""

    def fit(self, values: Values, levels: int) -> State:
        return {}

    def apply(self, values: Values, state: State) -> Values:
        return values


class OneHotEncoder:
    """See `trainer.config.transform.OneHot`."""

    def fit(self, values: Values, levels: int) -> State:
        return {"levels": levels}

    def apply(self, values: Values, state: State) -> list[Values]:
        if not 0 <= state["levels"] <= MAX_LEVELS:
            raise ValueError(f"{state['levels']} levels")
        return [(values == code).astype(np.float32) for code in range(1, state["levels"] + 2)]


class CalendarEncoder:
    """See `trainer.config.transform.Calendar`. The values are seconds since 1970."""

    def fit(self, values: Values, levels: int) -> State:
        there = known(values)
        origin = float(there.min()) if len(there) else 0.0
        parts = [name for name, part in _parts(there, origin).items() if len(there) and part.min() < part.max()]
        return {"origin": origin, "parts": parts}

    def apply(self, values: Values, state: State) -> list[Values]:
        parts = _parts(values, float(state["origin"]))
        columns: list[Values] = []
        for name in state["parts"]:
            part, period = parts[name], _PERIODS.get(name)
            if period is None:
                columns.append(part)
            else:
                angle = part * (2 * math.pi / period)
                columns += [np.sin(angle), np.cos(angle)]
        return columns


_PERIODS = {"month": 12, "day": 31, "weekday": 7, "hour": 24}


def _parts(seconds: Values, origin: float) -> dict[str, Values]:
    """The parts of dates, each float64 (rows,), NaN where the date is missing; periodic ones begin with 0."""
    missing = np.isnan(seconds)
    whole = np.where(missing, 0, np.floor(seconds)).astype(np.int64).astype("datetime64[s]")
    days, months, years = (whole.astype(f"datetime64[{unit}]") for unit in "DMY")
    parts = {
        "elapsed": (seconds - origin) / DAY,
        "year": years.astype(np.int64) + 1970.0,
        "month": (months - years).astype(np.float64),
        "day": (days - months).astype(np.float64),
        "weekday": (days.astype(np.int64) + 3) % 7.0,  # 1 January 1970 was a Thursday
        "hour": (whole - days).astype(np.float64) / 3600,
    }
    return {name: np.where(missing, np.nan, part) for name, part in parts.items()}


def _quantiles(values: Values, shares: list[float]) -> list[float]:
    there = sample(known(values))
    return [float(q) for q in np.quantile(there, shares)] if len(there) else [0.0] * len(shares)


def build_transform(config: TransformConfig) -> ColumnTransform:
    """Make what a transform config selects; one that has `fit` and `apply` of its own is itself what is made."""
    if isinstance(config, ColumnTransform):
        return config
    match config:
        case Impute():
            return Imputer(config.method, config.value)
        case MissingIndicator():
            return MissingFlag()
        case Standardize():
            return StandardScaler()
        case Robust():
            return RobustScaler()
        case MinMax():
            return MinMaxScaler()
        case Quantile():
            return QuantileTransformer(config.output, config.quantiles)
        case Log1p():
            return LogTransformer()
        case Clip():
            return Clipper(config.low, config.high)
        case Calendar():
            return CalendarEncoder()
        case OneHot():
            return OneHotEncoder()
        case Nothing() | Ordinal() | Embed():
            return Identity()
    kind = type(config)
    raise ConfigError(
        f"transform {config.option}: {kind.__module__}.{kind.__qualname__} lacks fit(values, levels) and "
        "apply(values, state); write both."
    )
