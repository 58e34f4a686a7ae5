"""Dates as they are written in tables, and as seconds since 1970."""

import functools
import itertools
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer.data.table.arrow_types import NUMBER
from trainer.errors import ConfigError

ISO = "ISO 8601"
UNIX = {"unix seconds": 1.0, "unix milliseconds": 1e-3, "unix microseconds": 1e-6, "unix nanoseconds": 1e-9}
_NUMBERS = ("%d.%m.%Y", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y")
_DAYS = (*_NUMBERS, "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y")
_FINE_DAYS = (*_DAYS, "%Y-%m-%d", "%m/%d/%y", "%d/%m/%y", "%m-%d-%y", "%d-%m-%y", "%d-%b-%y", "%d %b %y")
_TIMES = ("", " %H:%M", " %H:%M:%S")
_FINE_TIMES = (" %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", " %I:%M:%S.%f %p")
_ZONES = (" %z", "%z")
_LOGS = ("%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S")
_WHOLE = (
    *("%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%dT%H%M%S", "%Y-%m", "%Y/%m", "%b %Y", "%B %Y"),
    *("%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %z", "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y"),
)
DAY = 86_400.0  # seconds
PERIODS = {"month": 12, "day": 31, "weekday": 7, "hour": 24}  # of parts of a date
ALMOST = 0.95  # the share of dates from which a column counts as dates, and its other values as errors
_YEAR_1000, _YEAR_2 = -30_610_224_000.0, -62_104_060_800.0
_FAR = 221_845_392_000.0  # 1 January 9000
_SIMPLE = tuple(day + time for day, time in itertools.product(_DAYS, _TIMES))  # what pyarrow parses fast
FORMATS = tuple(
    dict.fromkeys(
        (
            *(ISO, *_SIMPLE),
            *map("".join, itertools.product(_FINE_DAYS, (*_TIMES, *_FINE_TIMES))),
            *map("".join, itertools.product(_FINE_DAYS, (*_TIMES[1:], *_FINE_TIMES), _ZONES)),
            *map("".join, itertools.product(_LOGS, ("", *_ZONES))),
            *_WHOLE,
        )
    )
)
# The part of a format that a letter stands for, as a regular expression (re2, which pyarrow uses).
_PARTS = {
    "Y": r"\d{4}",
    "y": r"\d{2}",
    "m": r"\d{1,2}",
    "d": r"\d{1,2}",
    "H": r"\d{1,2}",
    "I": r"\d{1,2}",
    "M": r"\d{2}",
    "S": r"\d{2}",
    "f": r"\d{1,9}",
    "p": r"[AaPp]\.?[Mm]\.?",
    "b": r"[A-Za-z]{3}\.?",
    "B": r"[A-Za-z]{3,9}",
    "a": r"[A-Za-z]{3,9}",
    "A": r"[A-Za-z]{3,9}",
    "z": r"Z|[+-]\d{2}:?\d{2}|[+-]\d{2}|[A-Z]{2,4}",
}
_FIXED_WIDTH = {"m", "d", "H"}  # two digits each where no sign separates them, as in 20210131
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# RFC 822, section 5: the names of zones in mails and logs, in hours from UTC.
_NAMED_ZONES = {"Z": 0, "UTC": 0, "GMT": 0, "UT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6}
_NAMED_ZONES |= {"PST": -8, "PDT": -7}
_SENTINEL = r"^(0000[-/.]00[-/.]00([ T]00:00(:00)?)?|00[-/.]00[-/.]0000|0{8}|0)$"
Seconds = NDArray[np.float64]


def date_format(texts: pa.Array, counts: Seconds | None = None, share: float = ALMOST) -> str | None:
    """Find the format of `FORMATS` in which most texts are dates; None where no format fits a `share` of them.

    Args:
        texts: distinct, without null.
        counts: how often each occurs, float64 (N,); None: once.
        share: that must be dates, those apart that say that there is none.

    Of two that fit equally many, as where 03/04/2020 could be either, the one is taken under which they lie closer
    together: a week of days rather than seven months. Where that tells nothing, the month comes first.
    """
    if not len(texts):
        return None
    counts = np.ones(len(texts)) if counts is None else counts
    tried = texts[:: max(1, len(texts) // 100)][:100]
    few = [(text, _signs_of(text)) for text in tried.filter(pa.array(~sentinels(tried)))[::20].to_pylist()]
    likely = [form for form in FORMATS if form == ISO or any(_looks_like(*each, form) for each in few)]
    first = [form for form in likely if 2 * _share(tried, parse_dates(tried, form)) >= share]
    found = [parse_dates(texts, form) for form in first]
    ranked = [(_share(texts, seconds, counts), -_spread(seconds), -rank) for rank, seconds in enumerate(found)]
    fitting = [entry for entry in ranked if entry[0] >= share]
    return first[-max(fitting)[2]] if fitting else None


def other_order(texts: pa.Array, form: str) -> str | None:
    """Return the format that reads the same texts with day and month exchanged; None where they fit one order only."""
    if form.startswith("%d.%m."):
        return None  # nobody writes the month first there
    swapped = form.replace("%m", "\0").replace("%d", "%m").replace("\0", "%d")
    if swapped == form or "%b" in form or swapped not in FORMATS:
        return None
    return swapped if _share(texts, parse_dates(texts, swapped)) >= _share(texts, parse_dates(texts, form)) else None


def sentinels(texts: pa.Array) -> NDArray[np.bool_]:
    """Return which texts are how some programs write that there is no date, such as 0000-00-00, bool (N,)."""
    return np.asarray(pc.fill_null(pc.match_substring_regex(texts, _SENTINEL), False))


def far(seconds: Seconds) -> NDArray[np.bool_]:
    """Return which dates are so far off (year 1, year 9999) that they say that there is none, bool (N,)."""
    return (seconds >= _FAR) | (seconds < _YEAR_2)


def check_date_format(form: str, key: str) -> None:
    """Raise `ConfigError` for a format with a part that is not known."""
    unknown = [letter for letter in re.findall(r"%(.?)", form) if letter not in (*_PARTS, "%")]
    if form in (ISO, *UNIX):
        return
    if unknown or "%" not in form:
        raise ConfigError(
            f"{key}={form}: %{unknown[0] if unknown else '...'} is no part of a date; there are "
            f"{', '.join('%' + letter for letter in _PARTS)}, {', '.join(UNIX)}."
        )


def parse_dates(texts: pa.Array, form: str) -> Seconds:
    """Parse dates to seconds since 1970 (UTC where a zone is given), float64 (N,); NaN for what is not in `form`."""
    if form == ISO:
        return _iso(texts)
    if form in UNIX:
        plain = pc.if_else(pc.match_substring_regex(texts, NUMBER), texts, None)
        return np.asarray(pc.fill_null(plain.cast(pa.float64()), float("nan"))) * UNIX[form]
    if form in _SIMPLE:
        found = from_timestamps(pc.strptime(texts, format=form, unit="s", error_is_null=True))
        return np.where(found < _YEAR_1000, np.nan, found)  # 1.2.20 may be a version, and its year is unclear
    return _by_parts(texts, form)


def from_timestamps(column: pa.Array | pa.ChunkedArray) -> Seconds:
    """Convert a timestamp or date column to seconds since 1970, float64 (N,); NaN for null."""
    micros = pc.cast(column, pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
    whole = pc.cast(pc.cast(micros, pa.int64()), pa.float64(), safe=False)
    return np.asarray(pc.fill_null(whole, float("nan"))) / 1e6


def unix_unit(low: float, high: float) -> str | None:
    """Return in which of `UNIX` numbers from `low` to `high` are moments from 2001 to 2096; None where in none."""
    return next((name for name, unit in UNIX.items() if low * unit >= 1e9 and high * unit <= 4e9), None)


def _share(texts: pa.Array, seconds: Seconds, counts: Seconds | None = None) -> float:
    """Return the share of dates among texts that are no sentinels; 0 where all are."""
    good = ~np.isnan(seconds)
    weights = np.ones(len(texts)) if counts is None else counts
    if not good.all():
        weights = weights * ~(~good & sentinels(texts))
    return float(weights @ good / weights.sum()) if weights.any() else 0.0


def _spread(seconds: Seconds) -> float:
    """Return the time between the middle nine tenths of dates, in days."""
    known = seconds[~np.isnan(seconds)]
    return float(round(np.subtract(*np.quantile(known, [0.95, 0.05])) / DAY, 3)) if len(known) else 0.0


def _iso(texts: pa.Array) -> Seconds:
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


def _by_parts(texts: pa.Array, form: str) -> Seconds:
    """Parse dates part by part, by a regular expression that is made of the format."""
    found = pc.extract_regex(texts, _pattern(form))
    fits = np.asarray(pc.fill_null(pc.is_valid(found), False))
    names = [field.name for field in found.type]
    part = {name: found.field(index).filter(pa.array(fits)) for index, name in enumerate(names)}
    seconds = np.full(len(texts), np.nan)
    if fits.any():
        seconds[fits] = _seconds(part, int(fits.sum()))
    return seconds


def _signs_of(text: str) -> set[str]:
    return {sign for sign in text if not sign.isalnum()}


def _looks_like(text: str, signs: set[str], form: str) -> bool:
    """Return whether a text is written so; its signs are compared first, as compiling a pattern takes a millisecond."""
    needed, allowed = _signs(form)
    return needed <= signs <= allowed and _compiled(form).match(text) is not None


@functools.cache
def _signs(form: str) -> tuple[set[str], set[str]]:
    """Return the signs that a date of a format must have, and those that it may have."""
    literal = _signs_of(re.sub("%.", "", form))
    needed = literal - {"."} if "%f" in form else literal  # a comma may stand there
    optional = {"z": "+-:", "f": ".,", "p": ".", "b": "."}
    return needed, literal | {sign for letter, signs in optional.items() if f"%{letter}" in form for sign in signs}


@functools.cache
def _compiled(form: str) -> re.Pattern[str]:
    return re.compile(_pattern(form))


def _pattern(form: str) -> str:
    """Return the regular expression of a format, a named group for each part."""
    pattern = ""
    for at, piece in enumerate(re.split(r"(%.)", form)):
        if at % 2 == 0:
            pattern += "[.,]" if piece == "." and form[form.find("%S.") :].startswith("%S.%f") else re.escape(piece)
            continue
        letter = piece[1]
        digits = "" if letter not in _FIXED_WIDTH or "%Y%m" not in form else r"\d{2}"
        pattern += f"(?P<{letter}>{digits or _PARTS[letter]})" if letter != "%" else "%"
    return f"^{pattern}$"


def _seconds(part: dict[str, pa.Array], count: int) -> Seconds:
    """Return the seconds since 1970 of the parts of dates, each (count,) of strings."""

    def whole(letter: str, otherwise: int = 0) -> NDArray[np.int64]:
        return np.asarray(part[letter].cast(pa.int64())) if letter in part else np.full(count, otherwise)

    year = whole("Y", 1970)
    if "y" in part:  # as POSIX has it: 69 to 99 are of the 20th century
        year = whole("y") + np.where(whole("y") >= 69, 1900, 2000)
    month, day = whole("m", 1), whole("d", 1)
    for letter in ("b", "B"):
        if letter in part:
            names = pc.utf8_lower(pc.utf8_slice_codeunits(part[letter], 0, 3))
            month = np.asarray(pc.fill_null(pc.index_in(names, value_set=pa.array(_MONTHS)), -1)) + 1
    hour, minute, second = whole("H"), whole("M"), whole("S")
    if "I" in part:
        hour = whole("I")
        afternoon = np.asarray(pc.starts_with(pc.utf8_lower(part["p"]), "p")) if "p" in part else np.zeros(count, bool)
        wrong = (hour < 1) | (hour > 12)
        hour = np.where(wrong, 99, hour % 12 + 12 * afternoon)
    good = (month >= 1) & (month <= 12) & (day >= 1) & (hour < 24) & (minute < 60) & (second <= 60)
    good &= (year >= 1000) | (year <= 1)
    month = np.clip(month, 1, 12)
    months = (year - 1970) * 12 + month - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    length = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) - first
    good &= day <= length
    seconds = (first + day - 1) * DAY + hour * 3600.0 + minute * 60.0 + second
    if "f" in part:
        seconds = seconds + np.asarray(pc.binary_join_element_wise("0", part["f"], ".").cast(pa.float64()))
    if "z" in part:
        zones = pc.unique(part["z"])
        offsets = np.array([_offset(zone) for zone in zones.to_pylist()])
        seconds = seconds - offsets[np.asarray(pc.index_in(part["z"], value_set=zones))]
    return np.where(good, seconds, np.nan)


def _offset(zone: str) -> float:
    """Return the seconds by which a zone is ahead of UTC; NaN for one that is not known."""
    if zone in _NAMED_ZONES:
        return _NAMED_ZONES[zone] * 3600.0
    digits = zone[1:].replace(":", "")
    if zone[0] not in "+-" or not digits.isdigit():
        return float("nan")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 3600.0 + int(digits[2:] or 0) * 60.0)


def date_parts(seconds: Seconds, origin: float) -> dict[str, Seconds]:
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
