"""Dates as they are written in tables, and as seconds since 1970."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ISO = "ISO 8601"
_NUMBERS = ("%d.%m.%Y", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y")
_DAYS = (*_NUMBERS, "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y")
_TIMES = ("", " %H:%M", " %H:%M:%S")
_YEAR_1000 = -30_610_224_000.0
FORMATS = (ISO, *(day + time for day, time in itertools.product(_DAYS, _TIMES)))


def date_format(texts: pa.Array) -> str | None:
    """The first of `FORMATS` in which all texts are dates; None where there is none.

    Where 03/04/2020 could be either, the month is taken to come first, unless a day above 12 shows otherwise.
    """

    def fits(part: pa.Array, form: str) -> bool:
        return not np.isnan(seconds(part, form)).any()

    return next((form for form in FORMATS if fits(texts[:1], form) and fits(texts, form)), None)


def seconds(texts: pa.Array, form: str) -> NDArray[np.float64]:
    """Seconds since 1970 (UTC where a zone is given), float64 (N,); NaN for what is no date in that format."""
    if form == ISO:
        return _iso(texts)
    found = from_timestamps(pc.strptime(texts, format=form, unit="s", error_is_null=True))
    return np.where(found < _YEAR_1000, np.nan, found)  # 1.2.20 is a version, or else who knows which year


def from_timestamps(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
    """Seconds since 1970 of a timestamp or date column; NaN where null."""
    micros = pc.cast(column, pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
    whole = pc.cast(pc.cast(micros, pa.int64()), pa.float64(), safe=False)
    return np.asarray(pc.fill_null(whole, float("nan"))) / 1e6


def _iso(texts: pa.Array) -> NDArray[np.float64]:
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):  # without and with a zone
        try:
            return from_timestamps(pc.cast(texts, kind))
        except pa.ArrowInvalid:
            continue
    if len(texts) <= 1:
        return np.full(len(texts), np.nan)
    half = len(texts) // 2  # what is no date is found by halving
    return np.concatenate([_iso(texts[:half]), _iso(texts[half:])])
