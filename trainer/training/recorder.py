"""From what training has summed up to records, and records to the sinks."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainer.data.types import Batch
from trainer.loggers.base import Logger, LogRecord
from trainer.tasks.base import Task
from trainer.training.state import TrainState
from trainer.training.step import StepOutput
from trainer.training.timeline import Timeline
from trainer.training.train_metrics import TrainMetrics

PICTURED = 32  # training samples that are shown


class Recorder:
    """Makes the records of a run.

    Args:
        state, task, plan: see `Trainer`.
        tally: the training scores since the last record.
        sinks: where records go.
        first: gives the first training batch of the run.
        picture: turns a few model inputs into pixels for people; None: the inputs are no images.
        labels: names of the classes, for those pictures.
    """

    def __init__(
        self,
        state: TrainState,
        task: Task,
        plan: Timeline,
        tally: TrainMetrics,
        sinks: Sequence[Logger],
        first: Callable[[], Batch],
        picture: Callable[[Tensor], Tensor] | None,
        labels: tuple[str, ...] | None,
    ) -> None:
        self.state, self.task, self.plan, self.tally, self.sinks = state, task, plan, tally, sinks
        self.first, self.picture, self.labels = first, picture, labels
        self._samples, self._since = 0, time.monotonic()

    def count(self, samples: int) -> None:
        """Samples that were just trained on, for the samples per second."""
        self._samples += samples

    def restart_watch(self) -> None:
        """Samples per second count training alone, not validating and saving."""
        self._samples, self._since = 0, time.monotonic()

    def record(self, report: StepOutput, seconds: float) -> LogRecord:
        """The training since the last record: the one wait for the device in an interval."""
        state = self.state
        record = LogRecord(report.step, report.epoch, seconds)
        self.tally.close()
        if state.tally is not None:  # every step of the interval may have been skipped
            scores = self.task.train_scores(state.tally.tolist())
            record.scalars |= {f"train/{name}": value for name, value in scores.items()}
        state.tally = None
        record.scalars["lr"] = report.lr
        if report.grad_norm is not None:
            record.scalars["grad_norm"] = report.grad_norm.item()
        elapsed = time.monotonic() - self._since
        record.scalars["samples_per_second"] = self._samples / elapsed if elapsed else 0.0
        if self.plan.histograms.recurs and self.plan.histograms.due(report.step):
            self._histograms(record)
        if report.flow is not None:
            record.gradients = report.flow.read()
        self.restart_watch()
        return record

    def write(self, record: LogRecord) -> None:
        """Give a record to the sinks; the first one of a run with its first training images."""
        state = self.state
        record.best = state.monitor.best
        if state.records == 0 and self.picture is not None:
            batch = self.first()
            record.images = self.picture(batch.inputs[:PICTURED]).cpu()
            if self.labels is not None:
                targets = batch.targets[:PICTURED]
                classes = targets if targets.ndim == 1 else targets.argmax(1)  # of mixed samples, the larger share
                record.labels = [self.labels[target] for target in classes.tolist()]
        state.records += 1
        for sink in self.sinks:
            sink.write(record)

    def flush(self) -> None:
        """See `Sink.flush`."""
        for sink in self.sinks:
            sink.flush()

    def rewind(self, step: int) -> None:
        """See `Sink.rewind`."""
        self.tally.forget()
        for sink in self.sinks:
            sink.rewind(step)

    def suspend(self, record: LogRecord) -> None:
        """Keep a record that still waits for its validation in the state, for whoever resumes it."""
        self.state.pending = {name: getattr(record, name) for name in ("scalars", "histograms", "gradients")}

    def resumed(self, seconds: float) -> LogRecord | None:
        """The record that was kept, as it was."""
        state, pending = self.state, self.state.pending
        if pending is None:
            return None
        state.pending = None
        record = LogRecord(state.step, state.step // self.plan.steps_per_epoch, seconds)
        record.scalars, record.histograms = dict(pending["scalars"]), dict(pending["histograms"])
        record.gradients = dict(pending.get("gradients", {}))  # saves of older versions have none
        return record

    def _histograms(self, record: LogRecord) -> None:
        for name, parameter in self.state.model.named_parameters():
            record.histograms[f"weights/{name}"] = parameter.detach().float().cpu()
            if parameter.grad is not None:
                gradient: Tensor = parameter.grad.float().cpu()
                if bool(torch.isfinite(gradient).all()):
                    record.histograms[f"gradients/{name}"] = gradient
