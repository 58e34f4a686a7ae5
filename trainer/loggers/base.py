"""What loggers take: one record of numbers and tensors for each interval, and what a logger must do with it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class LogRecord:
    """What is known at one step: numbers for every logger, tensors for those that draw.

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
    confusion: "Tensor | None" = None
    images: "Tensor | None" = None
    labels: list[str] | None = None
    histograms: "dict[str, Tensor]" = field(default_factory=dict)
    gradients: dict[str, dict[str, float | None]] = field(default_factory=dict)


@dataclass
class Activity:
    """What a run does at this moment: the loop sets it, and whoever shows it looks at it in a time of its own.

    Attributes:
        step: optimizer steps done.
        doing: "reading" (waiting for a batch), "training", "validating" or "saving".
    """

    step: int = 0
    doing: str = "reading"


@dataclass(frozen=True)
class LoggerContext:
    """What is known of a run when its loggers are opened.

    Attributes:
        directory: of the run; its name is that of the run.
        tensorboard: folder of the event files.
        start_step: steps done when this process starts; 0 in a new run.
        recorded: the last step whose record is complete; records after it belong to a past that was given up.
        total_steps: of the whole run.
        steps_per_epoch: of one pass over the training data.
        monitor: the score that decides what is best, such as "val/accuracy".
        mode: whether a larger value of it is better ("max") or a smaller one ("min").
        hparams: every key of the config by its full name; lists and null as text.
        labels: names of the classes; None for numbers.
        console: where a person reads; None: nobody does.
        activity: what the run is doing, at any moment.
    """

    directory: Path
    tensorboard: Path
    start_step: int
    recorded: int
    total_steps: int
    steps_per_epoch: int
    monitor: str
    mode: str
    hparams: dict[str, int | float | str | bool]
    labels: tuple[str, ...] | None = None
    console: Console | None = None
    activity: Activity = field(default_factory=Activity)


class Logger(Protocol):
    """Where records go. A logger cannot touch the run, so the order of loggers cannot matter."""

    def write(self, record: LogRecord) -> None:
        """Take one record."""
        ...

    def flush(self) -> None:
        """Make durable what was written: a checkpoint is never ahead of it. Called by the thread that saves."""
        ...

    def rewind(self, step: int) -> None:
        """Forget the records after `step`: the run goes on from there again."""
        ...

    def close(self, summary: dict[str, Any]) -> None:
        """End with the run, of which this is the summary (see `trainer.runs.directory`)."""
        ...
