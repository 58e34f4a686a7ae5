"""What a person sees while training: a live display in a terminal, plain lines elsewhere."""

import math
import os
import sys
import time
from typing import Any

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, TextColumn

from trainer.loggers.base import Logger, LoggerContext, LogRecord

QUIET_SECONDS = 1.0  # plain lines of training alone come at most this often; validations are always printed

WIDE = 120  # columns of a terminal from which the live display has room for a bar, the rate and the speed


def format_value(name: str, value: float) -> str:
    """Return a score as it is printed: four decimals, or scientific where those say nothing."""
    if name == "lr" or (value and not 1e-3 <= abs(value) < 1e5):
        return f"{value:.3g}"
    return f"{value:.4f}"


def format_duration(seconds: float) -> str:
    """Return seconds as 9s, 3m20s, 2h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def scores(record: LogRecord) -> str:
    """Return `train loss 0.39 accuracy 0.89  val loss 0.37 accuracy 0.90`; means since the last record: `recent`."""
    groups: dict[str, list[str]] = {}
    for name, value in record.scalars.items():
        split, _, score = name.partition("/")
        if score:
            groups.setdefault(split, []).append(f"{score} {format_value(score, value)}")
    return "  ".join(f"{split.removeprefix('train_')} {' '.join(words)}" for split, words in groups.items())


class Screen(Console):
    """A console whose reader may leave (`train | head`): the run goes on, with `train.log` alone."""

    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on, where rich would end the process."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """What both displays need: the length of the run, and how fast it goes.

    Args:
        total: steps of the whole run.
        steps_per_epoch: steps of one pass over the training data.
        monitor: the score that decides what is best.
        start_step: steps done when this process starts.
    """

    def __init__(self, total: int, steps_per_epoch: int, monitor: str, start_step: int = 0) -> None:
        self.total, self.steps_per_epoch, self.monitor = total, steps_per_epoch, monitor
        self.restart(start_step)

    def restart(self, step: int) -> None:
        """Measure the rate from here: the run goes on from `step`."""
        self.start_step, self._started = step, time.monotonic()

    def rate(self, step: int) -> float:
        """Return the steps a second since the start of the process, validations and saves included."""
        return max(step - self.start_step, 1) / max(time.monotonic() - self._started, 1e-9)

    def position(self, step: int) -> str:
        """Return `epoch 3/20  step 69/460`; the epoch is the one that the step belongs to."""
        epoch, epochs = (-(-steps // self.steps_per_epoch) for steps in (step, self.total))
        return f"epoch {epoch}/{epochs}  step {step}/{self.total}"

    def speed(self, record: LogRecord) -> str:
        """Return `lr 0.001  6,176 samples/s  eta 3m20s`."""
        words = []
        if "lr" in record.scalars:
            words.append(f"lr {format_value('lr', record.scalars['lr'])}")
        if "samples_per_second" in record.scalars:
            words.append(f"{record.scalars['samples_per_second']:,.0f} samples/s")
        return _join(*words, self.eta(record))

    def eta(self, record: LogRecord) -> str:
        """Return `eta 3m20s`; "" at the end."""
        left = self.total - record.step
        return f"eta {format_duration(left / self.rate(record.step))}" if left > 0 else ""

    def best(self, record: LogRecord) -> str:
        """Return `best 0.9972`; "" before the first validation."""
        return "" if record.best is None else f"best {format_value(self.monitor, record.best)}"


def _join(*words: str) -> str:
    return "  ".join(word for word in words if word)


def _is_validation(record: LogRecord) -> bool:
    return any(name.startswith("val/") for name in record.scalars)


class PlainConsoleLogger:
    """One line for each record, at most one a second between validations; for pipes and log files."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self.console, self.progress, self._printed = console, progress, -math.inf

    def write(self, record: LogRecord) -> None:
        """Print a line, unless there was one just before."""
        now, progress = time.monotonic(), self.progress
        if not _is_validation(record) and now - self._printed < QUIET_SECONDS:
            return
        self._printed = now
        text = _join(
            progress.position(record.step),
            scores(record),
            progress.speed(record),
            progress.best(record),
        )
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def flush(self) -> None:
        """Do nothing: lines are written at once."""

    def rewind(self, step: int) -> None:
        """Measure the rate from here; what was printed stays."""
        self.progress.restart(step)

    def close(self, summary: dict[str, Any]) -> None:
        """Do nothing: there is nothing to release."""


class LiveConsoleLogger:
    """A progress bar with the current numbers, and a line above it for each validation."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self.console, self.progress = console, progress
        self.wide = console.width >= WIDE
        bar = (BarColumn(bar_width=24),) if self.wide else ()
        columns = (TextColumn("{task.description}"), *bar, TextColumn("{task.fields[numbers]}"))
        self.bar = rich.progress.Progress(*columns, console=console, transient=True, refresh_per_second=5)
        self.task = self.bar.add_task("starting", total=progress.total, completed=progress.start_step, numbers="")
        self.bar.start()

    def write(self, record: LogRecord) -> None:
        """Move the bar; print a line for a validation."""
        progress = self.progress
        where, best = progress.position(record.step), progress.best(record)
        if _is_validation(record):
            self.console.print(_join(where, scores(record), best), soft_wrap=True, highlight=False, markup=False)
        training = LogRecord(0, 0, 0.0, scalars={k: v for k, v in record.scalars.items() if k.startswith("train")})
        numbers = _join(scores(training), progress.speed(record) if self.wide else progress.eta(record), best)
        self.bar.update(self.task, completed=record.step, description=where, numbers=numbers)

    def flush(self) -> None:
        """Do nothing: nothing is kept here."""

    def rewind(self, step: int) -> None:
        """Set the bar back."""
        self.progress.restart(step)
        self.bar.update(self.task, completed=step, description=self.progress.position(step))

    def close(self, summary: dict[str, Any]) -> None:
        """Remove the bar; the lines above it stay."""
        self.bar.stop()


def console_logger(console: Console, context: LoggerContext) -> Logger:
    """Return the display that suits a console: a live one for a terminal, lines for anything else."""
    progress = Progress(context.total_steps, context.steps_per_epoch, context.monitor, context.start_step)
    return (LiveConsoleLogger if console.is_terminal else PlainConsoleLogger)(console, progress)
