"""Durations as people type them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import registry, root  # noqa: F401  # the import registers every option
from trainer.config.durations import Duration, parse_duration
from trainer.errors import ConfigError

KEY = "trainer.save_every"


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("500", 500, "step"),
        (500, 500, "step"),
        ("500.0", 500, "step"),
        (500.0, 500, "step"),
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


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("0.25", "25% (of the run) or 0.25ep (epochs)."),
        (0.1, "10% (of the run) or 0.1ep (epochs)."),
        (".07", "7% (of the run) or 0.07ep (epochs)."),
        ("0.5 steps", "50% (of the run) or 0.5ep (epochs)."),
        ("1.5", "1.5ep (epochs) or whole steps, such as 2."),
        ("1.0", "1 (step), 100% (of the run) or 1ep (epochs)."),
    ],
)
def test_a_fraction_without_a_unit_is_refused_with_what_it_may_have_meant(text: str | float, forms: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_duration(text, KEY)
    assert str(error.value) == f"{KEY}={text}: a fraction of what? Write {forms}"


DURATION_KEYS = [
    (group, option, name)
    for group in registry.GROUPS
    for option in registry.names(group)
    for name, (_, _, known) in registry.lookup(group, option).keys().items()
    if known.duration
]


@pytest.mark.parametrize(("group", "option", "name"), DURATION_KEYS)
def test_every_key_that_is_a_duration_refuses_a_bare_fraction(group: str, option: str, name: str) -> None:
    kind = registry.lookup(group, option)
    is_list = kind.keys()[name][0].startswith("list")
    with pytest.raises(ConfigError, match=rf"^{group}\.{name}(\[1\])?=0\.25: a fraction of what\? Write 25%"):
        kind(**{name: ["50%", "0.25"] if is_list else "0.25"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.3ep", "7 steps (0.304ep)"),
        ("7%", "16 steps (6.96%)"),
        ("0.01ep", "1 step (0.0435ep)"),
        ("1ep", ""),
        ("10%", ""),
        ("0ep", ""),
        ("7", ""),
        ("20s", ""),
    ],
)
def test_a_duration_that_rounds_to_another_number_of_steps_says_so(text: str, words: str) -> None:
    assert parse_duration(text, KEY).rounded(steps_per_epoch=23, total=230) == words


@given(st.integers(1, 10_000), st.integers(1, 500), st.integers(1, 100))
def test_whole_epochs_and_shares_that_divide_the_run_are_never_called_rounded(
    per_epoch: int, epochs: int, share: int
) -> None:
    total = per_epoch * epochs
    assert parse_duration(f"{epochs}ep", KEY).rounded(per_epoch, total) == ""
    assert (parse_duration(f"{share}%", KEY).rounded(per_epoch, total) == "") == (share * total % 100 == 0)


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
        assert read.startswith((f"{KEY}={text}: not a duration", f"{KEY}={text}: a fraction of what?"))
    else:
        assert math.isfinite(read.value)
        assert read.value >= 0
        assert read.unit in ("step", "epoch", "%", "second")
