"""Dates in the forms in which tables have them: the one that fits all values, and what says that there is none."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from trainer.data.table import dates
from trainer.errors import ConfigError

NOON = datetime(2023, 1, 25, 13, 5, 9, tzinfo=UTC).timestamp()
DAY = datetime(2023, 1, 25, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "form", "seconds"),
    [
        ("2023-01-25", dates.ISO, DAY),
        ("2023-01-25T13:05:09+02:00", dates.ISO, NOON - 7200),
        ("25.01.2023 13:05:09", "%d.%m.%Y %H:%M:%S", NOON),
        ("01/25/2023 01:05:09 PM", "%m/%d/%Y %I:%M:%S %p", NOON),
        ("01/25/2023 12:05:09 AM", "%m/%d/%Y %I:%M:%S %p", DAY + 309),
        ("01/25/2023 12:05:09 p.m.", "%m/%d/%Y %I:%M:%S %p", DAY + 12 * 3600 + 309),
        ("2023-01-25 13:05:09 UTC", "%Y-%m-%d %H:%M:%S %z", NOON),
        ("2023-01-25 13:05:09.250 UTC", "%Y-%m-%d %H:%M:%S.%f %z", NOON + 0.25),
        ("2023-01-25T13:05:09.123456789Z", "%Y-%m-%dT%H:%M:%S.%f%z", NOON + 0.123456789),
        ("25.01.2023 13:05:09,500", "%d.%m.%Y %H:%M:%S.%f", NOON + 0.5),
        ("2023/01/25 13:05:09.500", "%Y/%m/%d %H:%M:%S.%f", NOON + 0.5),
        ("25/Jan/2023:13:05:09 -0100", "%d/%b/%Y:%H:%M:%S %z", NOON + 3600),
        ("Wed, 25 Jan 2023 13:05:09 GMT", "%a, %d %b %Y %H:%M:%S %z", NOON),
        ("Wed Jan 25 13:05:09 PST 2023", "%a %b %d %H:%M:%S %z %Y", NOON + 8 * 3600),
        ("25-Jan-23", "%d-%b-%y", DAY),
        ("25-JAN-99", "%d-%b-%y", datetime(1999, 1, 25, tzinfo=UTC).timestamp()),
        ("01/25/23", "%m/%d/%y", DAY),
        ("2023-01", "%Y-%m", datetime(2023, 1, 1, tzinfo=UTC).timestamp()),
        ("20230125", "%Y%m%d", DAY),
        ("20230125T130509", "%Y%m%dT%H%M%S", NOON),
        ("January 2023", "%B %Y", datetime(2023, 1, 1, tzinfo=UTC).timestamp()),
    ],
)
def test_a_form_is_found_and_read(text: str, form: str, seconds: float) -> None:
    texts = pa.array([text])
    assert dates.date_format(texts) == form
    assert dates.parse_dates(texts, form)[0] == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize("text", ["1.2.20", "12", "3.5", "soon", "2023-13-01", "30/02/2023 10:00 AM", "13:05", "a/b/c"])
def test_what_is_no_date_has_no_form(text: str) -> None:
    assert dates.date_format(pa.array([text, text + " "])) is None


def test_days_of_each_month_are_those_of_the_calendar() -> None:
    texts = pa.array(["02/29/2024 01:00 PM", "02/29/2023 01:00 PM", "04/31/2023 01:00 PM", "12/31/2023 13:00 PM"])
    seconds = dates.parse_dates(texts, "%m/%d/%Y %I:%M %p")
    assert np.isnan(seconds).tolist() == [False, True, True, True]
    assert seconds[0] == datetime(2024, 2, 29, 13, tzinfo=UTC).timestamp()


def test_day_and_month_are_told_apart_by_all_values() -> None:
    ambiguous = [f"0{day}/03/2021" for day in range(1, 8)]
    assert dates.date_format(pa.array([*ambiguous, "25/03/2021"])) == "%d/%m/%Y"
    assert dates.date_format(pa.array([*ambiguous, "03/25/2021"])) in ("%m/%d/%Y", "%d/%m/%Y")
    assert dates.date_format(pa.array([f"03/{day:02d}/2021" for day in range(1, 29)])) == "%m/%d/%Y"


def test_where_both_orders_fit_the_one_that_lies_closer_together_is_taken_and_the_other_is_told() -> None:
    week = pa.array([f"0{day}/03/2021" for day in range(1, 8)])
    assert dates.date_format(week) == "%d/%m/%Y", "a week of March, not the third of seven months"
    assert dates.other_order(week, "%d/%m/%Y") == "%m/%d/%Y"
    assert dates.other_order(pa.array(["25/03/2021"]), "%d/%m/%Y") is None
    assert dates.other_order(pa.array(["01.03.2021"]), "%d.%m.%Y") is None, "nobody writes the month first with points"


def test_what_says_that_there_is_no_date_does_not_keep_a_form_from_fitting() -> None:
    texts = pa.array(["2021-05-01", "0000-00-00", "00/00/0000", "9999-12-31", "0001-01-01"])
    assert dates.date_format(texts) == dates.ISO
    seconds = dates.parse_dates(texts, dates.ISO)
    assert dates.sentinels(texts).tolist() == [False, True, True, False, False]
    assert dates.far(seconds).tolist() == [False, False, False, True, True]


def test_a_few_words_are_for_the_rows_that_have_them() -> None:
    texts, counts = pa.array(["2021-05-01", "unknown"]), np.array([95.0, 5.0])
    assert dates.date_format(texts, counts) == dates.ISO
    assert dates.date_format(texts, counts[::-1].copy()) is None


def test_numbers_are_moments_in_the_unit_that_gives_this_century() -> None:
    assert dates.unix_unit(1.6e9, 1.7e9) == "unix seconds"
    assert dates.unix_unit(1.6e12, 1.7e12) == "unix milliseconds"
    assert dates.unix_unit(1.6e18, 1.7e18) == "unix nanoseconds"
    assert dates.unix_unit(1, 1000) is None
    assert dates.parse_dates(pa.array(["1674651909.25", "x"]), "unix seconds").tolist()[0] == NOON + 0.25
    assert dates.parse_dates(pa.array(["1674651909250"]), "unix milliseconds")[0] == pytest.approx(NOON + 0.25)


def test_a_format_with_a_part_that_is_not_known_is_an_error_that_lists_them() -> None:
    with pytest.raises(ConfigError, match=r"data\.formats\.day=%Q: %Q is no part of a date; there are %Y, %y"):
        dates.check_date_format("%Q", "data.formats.day")
    dates.check_date_format("%d.%m.%y um %H Uhr", "data.formats.day")
    assert dates.parse_dates(pa.array(["25.01.23 um 13 Uhr"]), "%d.%m.%y um %H Uhr")[0] == DAY + 13 * 3600
