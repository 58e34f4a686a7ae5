"""Signals to this very process: noted, honoured where nothing is lost, and a run goes on as if there were none."""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from messages import told_to
from torch import Tensor, nn

from trainer import Config, Run, Trainer, assemble
from trainer.checkpoint.store import Store
from trainer.config.data import Synthetic
from trainer.config.model import Mlp
from trainer.config.trainer import TrainerConfig
from trainer.data.types import DataSpec
from trainer.loggers.files import FilesLogger, read_metrics
from trainer.models.mlp import MLP
from trainer.system.signals import SAVE, STOP, Interrupted, SignalHandler

ME = os.getpid()


def test_requests_are_noted_and_nothing_is_thrown_where_something_could_be_lost() -> None:
    with SignalHandler() as signals:
        os.kill(ME, signal.SIGUSR1)
        assert signals.save_wanted and signals.signal is None
        os.kill(ME, signal.SIGTERM)
        assert signals.signal == signal.SIGTERM
        os.kill(ME, signal.SIGTERM)  # an impatient batch system is not a person who presses Ctrl-C again
        with pytest.raises(KeyboardInterrupt):
            os.kill(ME, signal.SIGINT)


def test_what_can_be_dropped_is_dropped_also_for_a_request_that_came_before() -> None:
    with SignalHandler() as signals:
        with pytest.raises(Interrupted) as caught, signals.interruptible:
            os.kill(ME, signal.SIGINT)
        assert caught.value.signal == signal.SIGINT
        with pytest.raises(Interrupted), signals.interruptible:
            raise AssertionError("unreachable")


def test_a_library_that_swallows_the_interruption_does_not_keep_the_run_alive() -> None:
    def library(fails_later: bool) -> None:
        with contextlib.suppress(BaseException):
            os.kill(ME, signal.SIGTERM)
        if fails_later:
            raise ImportError("cannot load module more than once per process")

    for fails_later in (False, True):
        with SignalHandler() as signals:
            with pytest.raises(Interrupted) as caught, signals.interruptible:
                library(fails_later)
            assert caught.value.signal == signal.SIGTERM


def test_an_alarm_drops_what_can_be_dropped_and_nothing_else() -> None:
    with SignalHandler() as signals:
        signals.alarm(0.05)
        time.sleep(0.1)
        assert signals.signal is None  # the loop itself looks at the clock
        signals.alarm(0.05)
        with pytest.raises(Interrupted) as caught, signals.interruptible:
            time.sleep(5)
        assert caught.value.signal == signal.SIGALRM
        signals.alarm(0.05)
        signals.alarm(0)
        with signals.interruptible:
            time.sleep(0.1)


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM)]
    with SignalHandler():
        pass
    assert before == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM)]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2", "SIGXCPU"])
def test_whatever_announces_the_end_is_a_request_to_stop(name: str) -> None:
    number, missed = signal.Signals[name], list[int]()
    before = signal.signal(number, lambda number, _: missed.append(number))
    with SignalHandler() as signals:
        os.kill(ME, number)
        assert (signals.signal, missed) == (number, [])
    signal.signal(number, before)


def test_what_was_ignored_stays_ignored() -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (*STOP, SAVE)}
    try:
        with SignalHandler() as signals, signals.interruptible:
            for number in before:
                os.kill(ME, number)
            assert signals.signal is None
            assert not signals.save_wanted
        assert all(signal.getsignal(number) == signal.SIG_IGN for number in before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Signalling(nn.Module):
    """Sends signals to this process from its forward passes."""

    plan: ClassVar[dict[tuple[bool, int], int]] = {}  # (training, number of the pass) -> signal

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.passes = inner, {True: 0, False: 0}

    def forward(self, x: Tensor) -> Tensor:
        self.passes[self.training] += 1
        if number := self.plan.pop((self.training, self.passes[self.training]), None):
            os.kill(ME, number)
        return self.inner(x)


@dataclass
class SignallingMlp(Mlp):
    def build(self, spec: DataSpec) -> nn.Module:
        return Signalling(MLP(spec.features, spec.outputs, self.hidden, self.activation, self.dropout))


def trainer(run: Run, signals: SignalHandler, resume: str | None = None) -> Trainer:
    config = Config(
        model=SignallingMlp(hidden=[8], dropout=0.2),
        data=Synthetic(num_samples=80, batch_size=16, eval_batch_size=4),
        trainer=TrainerConfig(epochs=3, device="cpu", log_every="3", ema=0.9),
    )
    run.config.touch()  # a config of a class that is registered nowhere
    return assemble(config, run, resume=resume, signals=signals)


def ended(folder: Path) -> tuple[dict[str, Tensor], list[dict[str, object]]]:
    payload, _ = Store(folder / "checkpoints").load("last")
    rows = [{k: v for k, v in row.items() if k not in ("time", "samples_per_second")} for row in read_metrics(folder)]
    return payload["model_state_dict"] | payload["ema_state_dict"], rows


def fit(folder: Path, resume: str | None = None, tell: Callable[[str], None] | None = None) -> tuple[str, list[str]]:
    said: list[str] = []
    run = Run.at(folder)
    with SignalHandler() as signals:
        made = trainer(run, signals, resume)
        with told_to(tell or said.append):
            reason = made.fit([FilesLogger(run.directory, made.state.recorded)])
    run.release()
    return reason, said


@pytest.mark.parametrize("place", [(True, 1), (True, 6), (True, 8), (False, 1), (False, 2), (False, 6)])
def test_a_run_that_was_stopped_anywhere_ends_as_one_that_was_not(tmp_path: Path, place: tuple[bool, int]) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert fit(whole)[0] == "completed"
    Signalling.plan[place] = signal.SIGTERM
    assert fit(stopped)[0] == f"signal {int(signal.SIGTERM)}"
    assert not Signalling.plan
    rows_before = read_metrics(stopped)
    assert fit(stopped, resume="last")[0] == "completed"
    (weights, rows), (expected, expected_rows) = ended(stopped), ended(whole)
    assert weights.keys() == expected.keys() and all(torch.equal(weights[k], expected[k]) for k in weights)
    assert rows == expected_rows and len(rows_before) < len(rows)


def test_a_validation_that_was_cut_short_waits_in_the_checkpoint(tmp_path: Path) -> None:
    Signalling.plan[False, 2] = signal.SIGINT
    assert fit(tmp_path)[0] == f"signal {int(signal.SIGINT)}"
    payload, path = Store(tmp_path / "checkpoints").load("last")
    assert payload["pending"]["scalars"]["train/loss"] > 0
    assert "val/loss" not in payload["pending"]["scalars"]
    assert payload["step"] == 4 and json.loads((path / "manifest.json").read_text())["step"] == 4
    assert [row["step"] for row in read_metrics(tmp_path)] == [3]


def test_sigusr1_saves_says_so_and_changes_nothing(tmp_path: Path) -> None:
    whole, asked = tmp_path / "whole", tmp_path / "asked"
    fit(whole)
    Signalling.plan[True, 7] = signal.SIGUSR1  # in step 6: the first forward pass is that of the check of a plug-in
    reason, said = fit(asked)
    assert reason == "completed"
    assert "Saved step 6, as SIGUSR1 asked." in said
    (weights, rows), (expected, expected_rows) = ended(asked), ended(whole)
    assert all(torch.equal(weights[k], expected[k]) for k in expected) and rows == expected_rows


def test_sigusr1_in_the_middle_of_a_validation_saves_at_once(tmp_path: Path) -> None:
    whole, asked, copied = tmp_path / "whole", tmp_path / "asked", tmp_path / "copied"
    fit(whole)

    def tell(text: str) -> None:
        assert text == "Saved step 4, as SIGUSR1 asked."
        assert "val/loss" not in read_metrics(asked)[-1]  # the validation is not over
        shutil.copytree(asked, copied, symlinks=True)

    Signalling.plan[False, 2] = signal.SIGUSR1
    assert fit(asked, tell=tell)[0] == "completed" and copied.exists()
    assert fit(copied, resume="last")[0] == "completed"  # as after a kill at that moment
    for folder in (asked, copied):
        (weights, rows), (expected, expected_rows) = ended(folder), ended(whole)
        assert all(torch.equal(weights[k], expected[k]) for k in expected) and rows == expected_rows
        for name in ("last", "best", "step-00000004"):
            assert Store(folder / "checkpoints", keep=9).load(name)[0]["pending"] is None


def test_a_request_to_stop_waits_for_what_is_uninterruptible() -> None:
    done: list[str] = []

    def undisturbed(signals: SignalHandler) -> None:
        with signals.uninterruptible():
            os.kill(ME, signal.SIGTERM)
            done.append("finished")
        done.append("and what follows")

    with SignalHandler() as signals, pytest.raises(Interrupted), signals.interruptible:
        undisturbed(signals)
    assert done == ["finished"]
