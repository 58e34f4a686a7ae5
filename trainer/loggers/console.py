"""What a person sees while training: a live display in a terminal, plain lines elsewhere."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from trainer.loggers.base import Activity, Logger, LoggerContext, LogRecord
from trainer.loggers.screen import LiveLine, fitted, is_live, say

QUIET_SECONDS = 1.0  # plain lines of training alone come at most this often; validations are always printed
BAR = 16  # columns


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
        """Return `epoch 3/20  step 69/460`."""
        return _join(self.epoch(step), f"step {step}/{self.total}")

    def epoch(self, step: int) -> str:
        """Return `epoch 3/20`: the one that the step belongs to."""
        epoch, epochs = (-(-steps // self.steps_per_epoch) for steps in (max(step, 1), self.total))
        return f"epoch {epoch}/{epochs}"

    def speed(self, record: LogRecord) -> str:
        """Return `lr 0.001  6,176 samples/s  eta 3m20s`."""
        return _join(_learning_rate(record), _samples_per_second(record), self.eta(record.step))

    def eta(self, step: int) -> str:
        """Return `eta 3m20s`; "" at the end."""
        left = self.total - step
        return f"eta {format_duration(left / self.rate(step))}" if left > 0 else ""

    def bar(self, step: int) -> str:
        """Return `━━━━────────────`: the share of the steps that are done."""
        done = BAR * step // max(self.total, 1)
        return "━" * done + "─" * (BAR - done)

    def best(self, record: LogRecord) -> str:
        """Return `best 0.9972`; "" before the first validation."""
        return "" if record.best is None else f"best {format_value(self.monitor, record.best)}"


def _join(*words: str) -> str:
    return "  ".join(word for word in words if word)


def _learning_rate(record: LogRecord) -> str:
    return f"lr {format_value('lr', record.scalars['lr'])}" if "lr" in record.scalars else ""


def _samples_per_second(record: LogRecord) -> str:
    speed = record.scalars.get("samples_per_second")
    return "" if speed is None else f"{speed:,.0f} samples/s"


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
        say(self.console, text)

    def flush(self) -> None:
        """Do nothing: lines are written at once."""

    def rewind(self, step: int) -> None:
        """Measure the rate from here; what was printed stays."""
        self.progress.restart(step)

    def close(self, summary: dict[str, Any]) -> None:
        """Do nothing: there is nothing to release."""


class LiveConsoleLogger:
    """A line that moves with the steps and says what is being done, and a line above it for each validation.

    Args:
        activity: of the run; looked at for each redraw.
    """

    def __init__(self, console: Console, progress: Progress, activity: Activity) -> None:
        self.console, self.progress, self.activity = console, progress, activity
        self._record, self._drawn = LogRecord(0, 0, 0.0), progress.start_step
        self._line = LiveLine(console, self.text)

    def write(self, record: LogRecord) -> None:
        """Show the numbers of a record from the next redraw on; print a line for a validation."""
        if _is_validation(record):
            where, best = self.progress.position(record.step), self.progress.best(record)
            self.console.print(Text(_join(where, scores(record), best)))  # broken between words alone
        self._record = record

    def text(self, columns: int) -> str:
        """Return the line as it is now: what matters most, and as much more as fits."""
        step, record, progress = self.activity.step, self._record, self.progress
        parts = [(2, progress.epoch(step)), (0, f"step {step}/{progress.total}")]
        parts += [(6, progress.bar(step)), (1, self._doing(step))]
        training = [name for name in record.scalars if name.startswith("train")]
        for name in training:
            score = f"{name.removeprefix('train_').replace('/', ' ')} {format_value(name, record.scalars[name])}"
            parts.append((4 if name == training[0] else 7, score))
        parts += [(9, _learning_rate(record)), (8, _samples_per_second(record))]
        parts += [(3, progress.eta(step)), (5, progress.best(record))]
        return fitted(parts, columns)

    def flush(self) -> None:
        """Do nothing: nothing is kept here."""

    def rewind(self, step: int) -> None:
        """Measure the rate from here; the line follows the steps by itself."""
        self.progress.restart(step)

    def close(self, summary: dict[str, Any]) -> None:
        """Remove the line; those above it stay."""
        self._line.close()

    def _doing(self, step: int) -> str:
        """Return what is being done. A batch is waited for in each step; where steps are made, that is training."""
        doing, moved = self.activity.doing, step != self._drawn
        self._drawn = step
        return "training" if moved and doing == "reading" else doing


@contextlib.contextmanager
def shown_while(console: Console | None, doing: str) -> Iterator[None]:
    """Show in a terminal that something is being done, and for how long."""
    if console is None or not is_live(console):
        yield
        return
    began = time.monotonic()
    line = LiveLine(
        console, lambda columns: fitted([(0, doing), (1, format_duration(time.monotonic() - began))], columns)
    )
    try:
        yield
    finally:
        line.close()


def console_logger(console: Console, context: LoggerContext) -> Logger:
    """Return the display that suits a console: a live one for a terminal, lines for anything else."""
    progress = Progress(context.total_steps, context.steps_per_epoch, context.monitor, context.start_step)
    if is_live(console):
        return LiveConsoleLogger(console, progress, context.activity)
    return PlainConsoleLogger(console, progress)
