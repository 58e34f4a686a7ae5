"""The transforms of `trainer.config.transform`, fitted and applied to one column at a time.

A column is a float array (rows,) with NaN where a value is missing. A category is the number of its level: 1 to
`levels` in sorted order, 0 for one that was not seen in training. States are plain data: they are saved with the run.
"""

import math
from statistics import NormalDist
from typing import Any, Protocol, runtime_checkable

import numpy as np

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
    SmoothClip,
    Standardize,
    TransformConfig,
)
from trainer.data.table.column_statistics import Values, known, moments, quantiles, sample
from trainer.data.table.dates import PERIODS, date_parts
from trainer.errors import ConfigError

State = dict[str, Any]

MAX_LEVELS = 100_000


@runtime_checkable
class ColumnTransform(Protocol):
    """What a transform of a column must do."""

    def fit(self, values: Values, levels: int) -> State:
        """Measure the training values (rows,) and return what to remember of them.

        Args:
            values: of the training rows.
            levels: of a column of categories, how many there are; 0: the column has numbers.
        """
        ...

    def apply(self, values: Values, state: State) -> Values | list[Values]:
        """Transform any values (rows,) to one column (rows,), or to several, with what was remembered in training."""
        ...


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
    """Computes (x - center) / scale; a column whose scale is 0 is only centred."""

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
        least, low, median, high, most = quantiles(values, [0.0, 0.25, 0.5, 0.75, 1.0])
        return {"center": median, "scale": high - low or (most - least) / 2}


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
        return {"quantiles": quantiles(values, np.linspace(0, 1, self.quantiles).tolist())}

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
        low, high = quantiles(values, [self.low, self.high])
        return {"low": low, "high": high}

    def apply(self, values: Values, state: State) -> Values:
        return np.clip(values, float(state["low"]), float(state["high"]))


class SmoothClipper:
    """See `trainer.config.transform.SmoothClip`."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def fit(self, values: Values, levels: int) -> State:
        return {}

    def apply(self, values: Values, state: State) -> Values:
        clipped: Values = values / np.sqrt(1 + np.square(values / values.dtype.type(self.limit)))
        return clipped


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
    """See `trainer.config.transform.Calendar`; the values are seconds since 1970."""

    def fit(self, values: Values, levels: int) -> State:
        there = known(values)
        origin = float(there.min()) if len(there) else 0.0
        parts = [name for name, part in date_parts(there, origin).items() if len(there) and part.min() < part.max()]
        return {"origin": origin, "parts": parts}

    def apply(self, values: Values, state: State) -> list[Values]:
        parts = date_parts(values, float(state["origin"]))
        columns: list[Values] = []
        for name in state["parts"]:
            part, period = parts[name], PERIODS.get(name)
            if period is None:
                columns.append(part)
            else:
                angle = part * (2 * math.pi / period)
                columns += [np.sin(angle), np.cos(angle)]
        return columns


_WITHOUT_KEYS: dict[type[TransformConfig], type[ColumnTransform]] = {
    MissingIndicator: MissingFlag,
    Standardize: StandardScaler,
    Robust: RobustScaler,
    MinMax: MinMaxScaler,
    Log1p: LogTransformer,
    Calendar: CalendarEncoder,
    OneHot: OneHotEncoder,
    Nothing: Identity,
    Ordinal: Identity,
    Embed: Identity,
}


def build_transform(config: TransformConfig) -> ColumnTransform:
    """Make the transform that a config selects: of a plug-in the config itself, which has `fit` and `apply`."""
    if isinstance(config, ColumnTransform):
        return config
    plain = _WITHOUT_KEYS.get(type(config))
    if plain is not None:
        return plain()
    match config:
        case Impute():
            return Imputer(config.method, config.value)
        case Quantile():
            return QuantileTransformer(config.output, config.quantiles)
        case Clip():
            return Clipper(config.low, config.high)
        case SmoothClip():
            return SmoothClipper(config.limit)
    kind = type(config)
    raise ConfigError(
        f"transform {config.option}: {kind.__module__}.{kind.__qualname__} lacks fit(values, levels) and "
        "apply(values, state); write both."
    )
