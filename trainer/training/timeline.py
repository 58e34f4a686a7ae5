"""How far to train, and when to do what."""

from dataclasses import dataclass

from trainer.training.interval import Interval


@dataclass(frozen=True)
class Timeline:
    """How far to train and when to do what; everything in optimizer steps.

    Attributes:
        total: steps of the whole run.
        steps_per_epoch: steps of one pass over the training data.
        log, evaluate, save, histograms, gradients: when these are due.
        micro_batch: samples at a time through the network; None: the whole batch.
        auto_micro_batch: whether it is halved when the device runs out of memory.
        on_nan, on_nan_limit, on_nan_factor: what a step that is not finite leads to; see `trainer.on_nan`.
        clip_norm: longest gradient; None: as it comes.
        max_seconds: wall-clock time of this process after which to save and stop; None: never.
    """

    total: int
    steps_per_epoch: int
    log: Interval
    evaluate: Interval
    save: Interval
    histograms: Interval
    gradients: Interval
    micro_batch: int | None = None
    auto_micro_batch: bool = False
    on_nan: str = "stop"
    on_nan_limit: int = 5
    on_nan_factor: float = 0.5
    clip_norm: float | None = None
    max_seconds: float | None = None

    def records(self, step: int) -> bool:
        """Whether there is a record after `step`: whatever else is recorded comes with the training metrics."""
        extras = (self.histograms, self.gradients)
        return self.log.due(step) or self.evaluate.due(step) or any(c.recurs and c.due(step) for c in extras)

    def measures(self, step: int) -> bool:
        """Whether the gradients of `step` are measured, layer by layer."""
        return self.gradients.recurs and self.gradients.due(step)
