"""What loggers take: one record of numbers and tensors for each interval, and what a logger must do with it."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


@dataclass
class LogRecord:
    """What is known at one step: numbers for every sink, tensors for those that draw.

    Attributes:
        step, epoch: optimizer steps and whole epochs done.
        time: wall-clock seconds since the run began, over all its resumptions.
        best: the best monitored score so far.
        scalars: `train/loss`, `val/accuracy`, `lr`, ... in a fixed order.
        confusion: see `Evaluation.confusion`.
        images, labels: a few augmented training samples as the model sees them, (N, C, H, W) in [0, 1]; their names.
        histograms: tensors by name.
        gradients: what the step did to each layer, by its name; see `trainer.training.layer_stats`.
    """

    step: int
    epoch: int
    time: float
    best: float | None = None
    scalars: dict[str, float] = field(default_factory=dict)
    confusion: Tensor | None = None
    images: Tensor | None = None
    labels: list[str] | None = None
    histograms: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, dict[str, float | None]] = field(default_factory=dict)


class Logger(Protocol):
    """Where records go. A sink cannot touch the run, so the order of sinks cannot matter."""

    def write(self, record: LogRecord) -> None:
        """Take one record."""
        ...

    def flush(self) -> None:
        """Make durable what was written: a checkpoint is never ahead of it. Called by the thread that saves."""
        ...

    def rewind(self, step: int) -> None:
        """The run goes on from `step` again: forget the records after it."""
        ...

    def close(self, summary: dict[str, Any]) -> None:
        """The run has ended, with this summary (see `trainer.runs.directory`)."""
        ...
