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
DAY = 86_400.0  # seconds
PERIODS = {"month": 12, "day": 31, "weekday": 7, "hour": 24}  # of parts of a date
_YEAR_1000 = -30_610_224_000.0
FORMATS = (ISO, *(day + time for day, time in itertools.product(_DAYS, _TIMES)))


def date_format(texts: pa.Array) -> str | None:
    """Find the first of `FORMATS` in which all texts are dates; None where there is none.

    Where 03/04/2020 could be either, the month is taken to come first, unless a day above 12 shows otherwise.
    """

    def fits(part: pa.Array, form: str) -> bool:
        return not np.isnan(parse_dates(part, form)).any()

    return next((form for form in FORMATS if fits(texts[:1], form) and fits(texts, form)), None)


def parse_dates(texts: pa.Array, form: str) -> NDArray[np.float64]:
    """Parse dates to seconds since 1970 (UTC where a zone is given), float64 (N,); NaN for what is not in `form`."""
    if form == ISO:
        return _iso(texts)
    found = from_timestamps(pc.strptime(texts, format=form, unit="s", error_is_null=True))
    return np.where(found < _YEAR_1000, np.nan, found)  # 1.2.20 may be a version, and its year is unclear


def from_timestamps(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
    """Convert a timestamp or date column to seconds since 1970, float64 (N,); NaN for null."""
    micros = pc.cast(column, pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
    whole = pc.cast(pc.cast(micros, pa.int64()), pa.float64(), safe=False)
    return np.asarray(pc.fill_null(whole, float("nan"))) / 1e6


def _iso(texts: pa.Array) -> NDArray[np.float64]:
    """Parse dates in ISO 8601."""
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):  # without and with a zone
        try:
            return from_timestamps(pc.cast(texts, kind))
        except pa.ArrowInvalid:
            continue
    if len(texts) <= 1:
        return np.full(len(texts), np.nan)
    half = len(texts) // 2  # what is no date is found by halving
    return np.concatenate([_iso(texts[:half]), _iso(texts[half:])])


def date_parts(seconds: NDArray[np.float64], origin: float) -> dict[str, NDArray[np.float64]]:
    """Split dates into their parts, each float64 (N,), NaN where the date is missing; those with a period begin with 0.

    Args:
        seconds: since 1970, float64 (N,).
        origin: the date from which elapsed days are counted, in seconds since 1970.
    """
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
