"""From what training has summed up to records, and records to the loggers."""

import contextlib
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.data.images.normalize import Normalize
from trainer.data.types import Batch
from trainer.loggers.base import Logger, LogRecord
from trainer.training.context import RunContext
from trainer.training.step import StepOutput
from trainer.training.train_metrics import TrainMetrics

SHOWN = 32  # training samples


class NoSampleImages:
    """What a run shows whose inputs are no images: nothing."""

    def keep(self, batch: Batch) -> None:
        """Do nothing with the first batch."""

    def add_to(self, record: LogRecord) -> None:
        """Add nothing to the first record."""


class SampleImages(NoSampleImages):
    """Adds the first training images of a run, and the names of their classes, to its first record.

    Args:
        normalize: says how the pixels were turned into inputs.
    """

    def __init__(self, context: RunContext, normalize: Normalize) -> None:
        self.train, self.labels, self.normalize = context.train, context.data.spec.labels, normalize
        self._first: Batch | None = None

    def keep(self, batch: Batch) -> None:
        """Keep the first batch of the run until its first record."""
        self._first = batch

    def add_to(self, record: LogRecord) -> None:
        """Add images (N, C, H, W) in [0, 1] and their labels; the batch is made again where another process had it."""
        first, self._first = self._first, None
        if first is None:
            with contextlib.closing(self.train.stream(0)) as stream:
                first = next(stream)
        record.images = self.normalize.undo(first.inputs[:SHOWN]).cpu()
        if self.labels is not None:
            record.labels = [self.labels[target] for target in _classes(first.targets[:SHOWN]).tolist()]


def _classes(targets: Tensor) -> Tensor:
    """Return class indices (N,); of mixed samples, the class of the larger share."""
    return targets if targets.ndim == 1 else targets.argmax(1)


def sample_images(context: RunContext) -> NoSampleImages:
    """Return what shows the first training images of a run, where its inputs are images."""
    prepare = context.data.prepare
    return SampleImages(context, prepare) if isinstance(prepare, Normalize) else NoSampleImages()


class Recorder:
    """Makes the records of a run.

    Args:
        context: what is trained, and how.
        metrics: the training scores since the last record.

    Attributes:
        loggers: where records go.
    """

    def __init__(self, context: RunContext, metrics: TrainMetrics) -> None:
        self.state, self.task, self.timeline = context.state, context.task, context.timeline
        self.metrics, self.images = metrics, sample_images(context)
        self.loggers: Sequence[Logger] = ()
        self.restart_watch()

    def count(self, samples: int) -> None:
        """Count samples that were just trained on, for the samples per second."""
        self._samples += samples

    def restart_watch(self) -> None:
        """Let the samples per second count training alone, not validating and saving."""
        self._samples, self._since = 0, time.monotonic()

    def record(self, output: StepOutput, seconds: float) -> LogRecord:
        """Return how training goes: the one wait for the device in an interval.

        `train/...` are means over the epoch, where it or the run ends; `train_recent/...` those since the last record.

        Args:
            seconds: wall-clock time of the run.
        """
        state = self.state
        record = LogRecord(output.step, output.epoch, seconds)
        self.metrics.close()
        split, sums = ("train_recent", state.train_sums)
        if output.step % self.timeline.steps_per_epoch == 0 or output.step == self.timeline.total:
            split, sums = "train", self.metrics.epoch_sums(self.timeline.epoch(output.step - 1))
        if sums is not None:  # every step may have been skipped
            scores = self.task.train_scores(sums.tolist())
            record.scalars |= {f"{split}/{name}": value for name, value in scores.items()}
        state.train_sums = None
        record.scalars["lr"] = output.lr
        if output.grad_norm is not None:
            record.scalars["grad_norm"] = output.grad_norm.item()
        elapsed = time.monotonic() - self._since
        record.scalars["samples_per_second"] = self._samples / elapsed if elapsed else 0.0
        if self.timeline.histograms.recurs and self.timeline.histograms.due(output.step):
            self._add_histograms(record)
        if output.layer_stats is not None:
            record.gradients = output.layer_stats.read()
        self.restart_watch()
        return record

    def write(self, record: LogRecord) -> None:
        """Give a record to the loggers; the first one of a run with its first training images."""
        record.best = self.state.monitor.best
        if self.state.records == 0:
            self.images.add_to(record)
        self.state.records += 1
        for logger in self.loggers:
            logger.write(record)

    def flush(self) -> None:
        """Make durable what was written, see `Logger.flush`."""
        for logger in self.loggers:
            logger.flush()

    def rewind(self, step: int) -> None:
        """Forget what was recorded after `step`, see `Logger.rewind`."""
        self.metrics.forget()
        for logger in self.loggers:
            logger.rewind(step)

    def suspend(self, record: LogRecord) -> None:
        """Keep a record that still waits for its validation in the state, for whoever resumes it."""
        self.state.pending = {name: getattr(record, name) for name in ("scalars", "histograms", "gradients")}

    def resumed(self, seconds: float) -> LogRecord | None:
        """Return the record that was kept, as it was; None: none was."""
        state, pending = self.state, self.state.pending
        if pending is None:
            return None
        state.pending = None
        record = LogRecord(state.step, self.timeline.epoch(state.step), seconds)
        record.scalars, record.histograms = dict(pending["scalars"]), dict(pending["histograms"])
        record.gradients = dict(pending.get("gradients", {}))  # saves of older versions have none
        return record

    def _add_histograms(self, record: LogRecord) -> None:
        for name, parameter in self.state.model.named_parameters():
            record.histograms[f"weights/{name}"] = parameter.detach().float().cpu()
            if parameter.grad is not None:
                gradient: Tensor = parameter.grad.float().cpu()
                if bool(torch.isfinite(gradient).all()):
                    record.histograms[f"gradients/{name}"] = gradient
