"""What a person sees while training: a live display in a terminal, plain lines elsewhere."""

import math
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from trainer.interfaces import Record

QUIET_SECONDS = 1.0  # plain lines of training alone come at most this often; validations are always printed


def format_value(name: str, value: float) -> str:
    """A score as it is printed: four decimals, or scientific where those say nothing."""
    if name == "lr" or (value and not 1e-3 <= abs(value) < 1e5):
        return f"{value:.3g}"
    return f"{value:.4f}"


def format_duration(seconds: float) -> str:
    """Seconds as 9s, 3m20s, 2h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def line(record: Record, total: int, epochs: int, monitor: str, rate: float) -> str:
    """One record as one line: step, epoch, scores, speed, time left, best so far."""
    scalars = record.scalars
    words = [f"epoch {record.epoch}/{epochs}", f"step {record.step}/{total}"]
    for name, value in scalars.items():
        if name.startswith(("train/", "val/")):
            words.append(f"{name} {format_value(name, value)}")
    if "lr" in scalars:
        words.append(f"lr {format_value('lr', scalars['lr'])}")
    if "samples_per_second" in scalars:
        words.append(f"{scalars['samples_per_second']:,.0f} samples/s")
    if rate and record.step < total:
        words.append(f"eta {format_duration((total - record.step) / rate)}")
    if record.best is not None:
        words.append(f"best {monitor.removeprefix('val/')} {format_value(monitor, record.best)}")
    return "  ".join(words)


class PlainSink:
    """One line for each record, at most one a second between validations; for pipes and log files."""

    def __init__(self, console: Console, total: int, epochs: int, monitor: str, start_step: int = 0) -> None:
        self.console, self.total, self.epochs, self.monitor = console, total, epochs, monitor
        self._start_step, self._started, self._printed = start_step, time.monotonic(), -math.inf

    def write(self, record: Record) -> None:
        now = time.monotonic()
        validated = any(name.startswith("val/") for name in record.scalars)
        if not record.scalars or (not validated and now - self._printed < QUIET_SECONDS):
            return
        self._printed = now
        rate = (record.step - self._start_step) / (now - self._started)
        text = line(record, self.total, self.epochs, self.monitor, rate)
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def close(self, summary: dict[str, Any]) -> None:
        """Nothing to release."""


class _Numbers(ProgressColumn):
    """The scores of the last record."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("numbers", ""))


class LiveSink:
    """A progress bar with the current numbers, and a line above it for each validation."""

    def __init__(self, console: Console, total: int, epochs: int, monitor: str, start_step: int = 0) -> None:
        self.plain = PlainSink(console, total, epochs, monitor, start_step)
        self.total, self.epochs = total, epochs
        self._start_step, self._started = start_step, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), _Numbers())
        self.progress = Progress(*columns, console=console, transient=True, refresh_per_second=5)
        self.bar = self.progress.add_task("starting", total=total, completed=start_step)
        self.progress.start()

    def write(self, record: Record) -> None:
        scalars = record.scalars
        if any(name.startswith("val/") for name in scalars):
            self.plain.write(record)
        rate = (record.step - self._start_step) / (time.monotonic() - self._started)
        words = [
            f"{name.removeprefix('train/')} {format_value(name, value)}"
            for name, value in scalars.items()
            if name.startswith("train/") or name == "lr"
        ]
        if "samples_per_second" in scalars:
            words.append(f"{scalars['samples_per_second']:,.0f}/s")
        if rate and record.step < self.total:
            words.append(f"eta {format_duration((self.total - record.step) / rate)}")
        if record.best is not None:
            words.append(f"best {format_value(self.plain.monitor, record.best)}")
        fields = {"numbers": "  ".join(words)} if any(n.startswith("train/") for n in scalars) else {}
        shown = min(record.epoch + 1, self.epochs)
        description = f"epoch {shown}/{self.epochs}  step {record.step}/{self.total}"
        self.progress.update(self.bar, completed=record.step, description=description, **fields)  # type: ignore[arg-type]

    def close(self, summary: dict[str, Any]) -> None:
        """Remove the bar; the lines above it stay."""
        self.progress.stop()
