"""Durations as people type them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config.durations import Duration, parse_duration
from trainer.errors import ConfigError

KEY = "trainer.save_every"


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("500", 500, "step"),
        (500, 500, "step"),
        (0.5, 0.5, "step"),
        ("500step", 500, "step"),
        ("1 step", 1, "step"),
        ("500 steps", 500, "step"),
        ("10ep", 10, "epoch"),
        ("1 epoch", 1, "epoch"),
        ("2.5 Epochs", 2.5, "epoch"),
        (".5ep", 0.5, "epoch"),
        ("3.ep", 3, "epoch"),
        (" 5% ", 5, "%"),
        ("0", 0, "step"),
        ("30s", 30, "second"),
        ("30sec", 30, "second"),
        ("15min", 900, "second"),
        ("2h", 7200, "second"),
        ("0.5 H", 1800, "second"),
        ("1d", 86400, "second"),
    ],
)
def test_every_unit_is_read(text: str | float, value: float, unit: str) -> None:
    assert parse_duration(text, KEY) == Duration(value, unit)


@pytest.mark.parametrize(
    "text", ["", "soon", "ep", "-5", "1,5", "5 weeks", "1e3", "1 000", "5%%", "nan", "inf", "None", "10ep 5%", "."]
)
def test_what_is_no_duration_is_refused_with_the_key_and_the_forms(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_duration(text, KEY)
    assert str(error.value).startswith(f"{KEY}={text}: not a duration")
    assert "10ep" in str(error.value)
    assert "15min" in str(error.value)


@pytest.mark.parametrize("text", ["30s", "15min", "2h", "1d"])
def test_minutes_are_refused_where_only_steps_make_sense(text: str) -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.warmup=") as error:
        parse_duration(text, "scheduler.warmup", wall_clock=False)
    assert "wall-clock" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "steps"),
    [("500", 500), ("2ep", 20), ("0.5ep", 5), ("5%", 50), ("100%", 1000), ("0.04%", 1), ("0", 0), ("0ep", 0)],
)
def test_a_duration_in_steps_of_a_run_of_1000_with_10_an_epoch(text: str, steps: int) -> None:
    assert parse_duration(text, KEY).steps(steps_per_epoch=10, total=1000) == steps


def _read(text: str) -> Duration | str:
    try:
        return parse_duration(text, KEY)
    except ConfigError as error:
        return str(error)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=12), st.from_regex(r"\A[0-9. ]{1,8}[a-z%]{0,6}\Z")))
def test_any_text_is_a_finite_duration_or_an_error_that_names_the_key(text: str) -> None:
    read = _read(text)
    if isinstance(read, str):
        assert read.startswith(f"{KEY}={text}: not a duration")
    else:
        assert math.isfinite(read.value)
        assert read.value >= 0
        assert read.unit in ("step", "epoch", "%", "second")
