"""When to stop: the monitored score, and the wall clock."""

import math
import os
import signal
import time

import pytest

from trainer.checkpoint.store import NullStore
from trainer.system.signals import DEADLINE, Interrupted, SignalHandler
from trainer.training.stopping import Monitor, RunClock


def observed(monitor: Monitor, *scores: float) -> list[bool]:
    return [monitor.observe(score, step) for step, score in enumerate(scores, 1)]


def test_max_takes_larger_scores_only() -> None:
    monitor = Monitor("val/accuracy", "max")
    assert observed(monitor, 0.5, 0.5, 0.4, 0.6, 0.55) == [True, False, False, True, False]
    assert (monitor.best, monitor.best_step, monitor.bad) == (0.6, 4, 1)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_of_equals_the_last_is_best_where_that_is_wanted(mode: str) -> None:
    monitor = Monitor("val/score", mode, latest=True, patience=3)
    assert observed(monitor, math.nan, 0.5, 0.5, math.nan, 0.5) == [False, True, True, False, True]
    assert (monitor.best, monitor.best_step, monitor.bad) == (0.5, 5, 3)


def test_min_takes_smaller_scores_only() -> None:
    monitor = Monitor("val/loss", "min")
    assert observed(monitor, 2.0, 3.0, 1.0, 1.0, -1.0) == [True, False, True, False, True]
    assert (monitor.best, monitor.best_step, monitor.bad) == (-1.0, 5, 0)


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_the_best_is_the_best_seen_and_min_delta_is_for_the_patience_alone(mode: str, sign: int) -> None:
    monitor, bad = Monitor("val/score", mode, min_delta=0.25), []
    for step, score in enumerate((1.0, 1.25, 1.2, 1.5)):  # exactly min_delta is not more than it
        improved = monitor.observe(sign * score, step)
        bad.append((improved, monitor.bad))
    assert bad == [(True, 0), (True, 1), (False, 2), (True, 0)]
    assert (monitor.best, monitor.best_step) == (sign * 1.5, 3)


@pytest.mark.parametrize(("mode", "better"), [("max", 0.9), ("min", 0.1)])
def test_the_better_of_two_scores_decides(mode: str, better: float) -> None:
    monitor = Monitor("val/score", mode, averaged="val_ema/score")
    for raw, averaged, expected in (
        (0.5, better, "val_ema/score"),
        (better, 0.5, "val/score"),
        (0.5, 0.5, "val/score"),
        (math.nan, 0.5, "val_ema/score"),
        (0.5, math.inf, "val/score"),
    ):
        assert monitor.deciding({"val/score": raw, "val_ema/score": averaged}) == expected
    assert "the better of val/score and val_ema/score" in monitor.words


def test_a_monitor_of_an_older_version_is_restored() -> None:
    monitor = Monitor("val/loss", "min", min_delta=0.5, patience=3)
    monitor.load_state_dict({"name": "val/loss", "best": 1.0, "best_step": 7, "bad": 2})
    assert (monitor.best, monitor.best_step, monitor.best_name, monitor.bad) == (1.0, 7, "val/loss", 2)
    assert monitor.observe(0.9, 8) and monitor.exhausted  # better, and not by as much as min_delta


@pytest.mark.parametrize("mode", ["max", "min"])
def test_nan_is_never_best(mode: str) -> None:
    monitor = Monitor("val/loss", mode)
    assert observed(monitor, math.nan, 1.0, math.nan) == [False, True, False]
    assert (monitor.best, monitor.best_step, monitor.bad) == (1.0, 2, 1)


def test_patience_is_used_up_by_validations_in_a_row() -> None:
    monitor = Monitor("val/loss", "min", patience=2)
    exhausted = []
    for step, score in enumerate([3.0, 4.0, 2.0, 2.0, 2.0]):
        monitor.observe(score, step)
        exhausted.append(monitor.exhausted)
    assert exhausted == [False, False, False, False, True]


def test_without_patience_it_is_never_exhausted() -> None:
    monitor = Monitor("val/loss", "min")
    observed(monitor, *[1.0] * 1000)
    assert not monitor.exhausted


def test_nothing_but_nan_uses_up_the_patience() -> None:
    monitor = Monitor("val/loss", "min", patience=3)
    observed(monitor, math.nan, math.nan, math.nan)
    assert monitor.exhausted
    assert monitor.best is None


def test_a_monitor_is_restored() -> None:
    before, after = (Monitor("val/loss", "min", patience=2) for _ in range(2))
    observed(before, 3.0, 1.0, 2.0)
    after.load_state_dict(before.state_dict())
    assert after == before
    assert not after.observe(1.5, 4)
    assert after.exhausted


def test_a_monitor_of_another_score_starts_without_a_past() -> None:
    before, after = Monitor("val/loss", "min"), Monitor("val/accuracy", "max")
    observed(before, 3.0, 1.0)
    after.load_state_dict(before.state_dict())
    assert (after.best, after.best_step, after.bad) == (None, 0, 0)


class SlowStore(NullStore):
    """As if a save had taken long."""

    seconds = 3.0


def test_the_seconds_of_a_run_go_on_from_those_before() -> None:
    clock = RunClock(100.0, math.inf, NullStore())
    time.sleep(0.05)
    assert 100.05 <= clock.seconds < 101
    clock.start()
    assert clock.seconds < 100.05


def test_what_is_left_leaves_room_for_a_save_and_does_not_count_earlier_processes() -> None:
    assert 6.9 < RunClock(100.0, 10.0, SlowStore()).left <= 7
    assert 9.9 < RunClock(100.0, 10.0, NullStore()).left <= 10
    assert RunClock(0.0, math.inf, SlowStore()).left == math.inf


def test_the_alarm_interrupts_what_can_be_interrupted_when_the_time_is_over() -> None:
    with SignalHandler() as signals:
        RunClock(0.0, 0.1, NullStore()).set_alarm(signals)
        with pytest.raises(Interrupted) as stopped, signals.interruptible:
            time.sleep(5)
    assert stopped.value.signal == DEADLINE


@pytest.mark.parametrize("limit", [math.inf, 0.0])
def test_without_a_limit_or_after_it_no_alarm_is_set(limit: float) -> None:
    with SignalHandler() as signals:
        RunClock(0.0, limit, NullStore()).set_alarm(signals)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_request_to_save_is_answered_once() -> None:
    with SignalHandler() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.take_save_request()
        assert not signals.take_save_request()
