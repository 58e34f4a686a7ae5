"""Statistics of one column, over the values that are not missing."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]

SAMPLE = 100_000  # values from which quantiles are measured: their rank is then uncertain by 0.2 %
TINY = 1e-140  # whose square is still a number
CHUNK = 1 << 14  # values added up at a time


def known(values: Values) -> Values:
    """Return the values that are not missing."""
    missing = np.isnan(values)
    return values[~missing] if missing.any() else values


def sample(values: Values) -> Values:
    """Return at most `SAMPLE` values, evenly spaced; all values where there are no more."""
    return values[:: -(-len(values) // SAMPLE) or 1]


def moments(values: Values) -> tuple[float, float]:
    """Compute mean and standard deviation of the known values, added up in float64 by chunks."""
    values = known(values)
    if not len(values):
        return 0.0, 0.0
    reach = float(np.abs(values).max())
    if reach and not TINY < reach < 1 / TINY:  # the squares would be 0 or infinite
        mean, deviation = moments(values.astype(np.float64) / reach)
        return mean * reach, deviation * reach
    shift = float(values[0])  # near the mean, so that the squares lose no digits
    total = squares = 0.0
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK].astype(np.float64)
        part -= shift
        total += float(part.sum())
        squares += float(np.square(part, out=part).sum())  # BLAS would wait for its own threads, once for each chunk
    mean = total / len(values)
    return mean + shift, math.sqrt(max(0.0, squares / len(values) - mean * mean))


def quantiles(values: Values, shares: list[float]) -> list[float]:
    """Compute quantiles of the known values, of a sample where there are many; 0 where there are none."""
    there = sample(known(values))
    return [float(q) for q in np.quantile(there, shares)] if len(there) else [0.0] * len(shares)
