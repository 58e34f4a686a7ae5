"""When something is due: intervals in steps replay, intervals in seconds count from what was last done."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config.trainer import TrainerConfig
from trainer.errors import ConfigError
from trainer.training.timeline import Interval, Timeline

KEY = "trainer.save_every"


@settings(deadline=None)
@given(total=st.integers(1, 300), every=st.integers(1, 400))
def test_due_every_so_many_steps_and_at_the_last(total: int, every: int) -> None:
    interval = Interval.of(str(every), KEY, steps_per_epoch=7, total=total)
    due = [step for step in range(1, total + 1) if interval.due(step)]
    assert due == sorted({*range(every, total + 1, every), total})
    assert interval.recurs


@settings(deadline=None)
@given(total=st.integers(1, 300), epochs=st.integers(1, 5), per_epoch=st.integers(1, 50))
def test_due_at_the_end_of_every_so_many_epochs(total: int, epochs: int, per_epoch: int) -> None:
    interval = Interval.of(f"{epochs}ep", KEY, per_epoch, total)
    assert all(
        interval.due(step) == (step == total or step % (epochs * per_epoch) == 0) for step in range(1, total + 1)
    )


@settings(deadline=None)
@given(total=st.integers(1, 500), start=st.integers(1, 500), every=st.integers(1, 60))
def test_a_interval_in_steps_does_not_depend_on_what_was_asked_before(total: int, start: int, every: int) -> None:
    asked, fresh = (Interval.of(str(every), KEY, 10, total) for _ in range(2))
    answers = [asked.due(step) for step in range(1, total + 1)]
    assert [fresh.due(step) for step in range(start, total + 1)] == answers[start - 1 :]


@pytest.mark.parametrize("text", [None, "0", "0ep", "0%", "0min"])
def test_null_and_zero_are_never_except_at_the_last_step(text: str | None) -> None:
    interval = Interval.of(text, KEY, steps_per_epoch=10, total=30)
    assert [step for step in range(1, 31) if interval.due(step)] == [30]
    assert not interval.recurs


def test_per_cent_are_of_the_run() -> None:
    interval = Interval.of("25%", KEY, steps_per_epoch=3, total=200)
    assert [step for step in range(1, 201) if interval.due(step)] == [50, 100, 150, 200]


def test_seconds_are_due_when_they_have_passed_and_only_once() -> None:
    interval = Interval.of("0.2s", KEY, steps_per_epoch=10, total=1000)
    assert interval.recurs
    assert not interval.due(1)
    time.sleep(0.25)
    assert interval.due(2)
    assert interval.due(2), "asked again about the same step, the answer is the same"
    assert not interval.due(3)
    time.sleep(0.25)
    assert interval.due(4)


def test_seconds_are_due_at_the_last_step_however_long_they_are() -> None:
    interval = Interval.of("2h", KEY, steps_per_epoch=10, total=1000)
    assert not interval.due(999)
    assert interval.due(1000)


def test_a_bad_interval_names_its_key() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.log_every=often"):
        Interval.of("often", "trainer.log_every", steps_per_epoch=10, total=100)


def test_what_is_done_for_another_reason_restarts_the_seconds() -> None:
    interval = Interval.of("0.2s", KEY, steps_per_epoch=10, total=1000)
    time.sleep(0.25)
    interval.restart(1)  # before anyone asked whether it was due
    assert not interval.due(2)
    time.sleep(0.25)
    assert interval.due(3)


def test_restarting_does_not_move_an_interval_in_steps() -> None:
    interval = Interval.of("4", KEY, steps_per_epoch=10, total=1000)
    interval.restart(3)
    assert [step for step in range(1, 10) if interval.due(step)] == [4, 8]


def test_the_settings_become_steps() -> None:
    timeline = Timeline.of(TrainerConfig(epochs=4, log_every="50%", eval_every="2ep", max_time="2min"), 5)
    assert (timeline.total, timeline.steps_per_epoch, timeline.max_seconds) == (20, 5, 120)
    assert [step for step in range(1, 21) if timeline.records(step)] == [10, 20]
    assert [timeline.epoch(step) for step in (4, 5, 9, 20)] == [0, 1, 1, 4]
    assert not any(map(timeline.measures_layers, range(1, 21)))


def test_a_table_whose_length_nobody_says_makes_as_many_steps_as_it_takes_to_learn_it() -> None:
    small = Timeline.of(TrainerConfig(), 3, least_steps=1000)
    assert (small.total, small.evaluate.every_steps) == (334 * 3, 17 * 3), "20 validations"
    assert Timeline.of(TrainerConfig(), 80, least_steps=1000).total == 20 * 80, "20 epochs are more"
    for typed in (TrainerConfig(epochs=2), TrainerConfig(steps=6)):
        assert Timeline.of(typed, 3, least_steps=1000).total == 6
        assert Timeline.of(typed, 3, least_steps=1000).evaluate.every_steps == 3, "each epoch"
    assert Timeline.of(TrainerConfig(eval_every="1ep"), 3, least_steps=1000).evaluate.every_steps == 3


def test_steps_go_before_epochs_and_a_trial_has_three() -> None:
    assert Timeline.of(TrainerConfig(epochs=4, steps=7), 5).total == 7
    assert Timeline.of(TrainerConfig(epochs=4, steps=7, fast_dev_run=True), 5).total == 3


def test_what_is_measured_has_a_record() -> None:
    timeline = Timeline.of(TrainerConfig(epochs=4, log_every=None, eval_every=None, log_gradients="3"), 5)
    assert [step for step in range(1, 21) if timeline.records(step)] == [3, 6, 9, 12, 15, 18, 20]
    assert [step for step in range(1, 21) if timeline.measures_layers(step)] == [3, 6, 9, 12, 15, 18, 20]
