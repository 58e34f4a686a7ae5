"""How far to train, and when to do what."""

import functools
import math
import time
from dataclasses import dataclass, field

from trainer.config.durations import parse_duration, parse_seconds
from trainer.config.trainer import EPOCHS, TrainerConfig


@dataclass
class Interval:
    """Something that recurs every so many steps or seconds, and always at the last step.

    Intervals in steps are pure functions of the step and replay exactly after a resume; intervals in seconds cannot.
    """

    total: int
    every_steps: int = 0
    every_seconds: float = 0.0
    _last: float = field(default_factory=time.monotonic, repr=False)
    _last_step: int = field(default=-1, repr=False)

    @property
    def recurs(self) -> bool:
        """Whether it is ever due before the last step."""
        return bool(self.every_steps or self.every_seconds)

    @classmethod
    def of(cls, text: str | None, key: str, steps_per_epoch: int, total: int) -> "Interval":
        """Make the interval typed for `key`; null or 0 is never, except at the last step."""
        if text is None:
            return cls(total)
        duration = parse_duration(text, key)
        if duration.unit == "second":
            return cls(total, every_seconds=duration.value)
        return cls(total, every_steps=duration.steps(steps_per_epoch, total))

    def due(self, step: int) -> bool:
        """Return whether it is due after `step` optimizer steps."""
        if step == self.total:
            return True
        if self.every_steps:
            return step % self.every_steps == 0
        if self.every_seconds and time.monotonic() - self._last >= self.every_seconds:
            self.restart(step)
        return step == self._last_step  # asked again about the same step, the answer is the same

    def restart(self, step: int) -> None:
        """Count the seconds from now: what is due was done after `step`, for this reason or another."""
        self._last, self._last_step = time.monotonic(), step


TRIAL_STEPS = 3  # of trainer.fast_dev_run


@dataclass(frozen=True)
class Timeline:
    """How far to train and when to do what; everything in optimizer steps.

    Attributes:
        total: steps of the whole run.
        steps_per_epoch: steps of one pass over the training data.
        log, evaluate, save, histograms, layer_stats: when these are due.
        max_seconds: wall-clock time of this process after which to save and stop; infinity: never.
    """

    total: int
    steps_per_epoch: int
    log: Interval
    evaluate: Interval
    save: Interval
    histograms: Interval
    layer_stats: Interval
    max_seconds: float = math.inf

    @classmethod
    def of(cls, settings: TrainerConfig, steps_per_epoch: int, least_steps: int = 0) -> "Timeline":
        """Turn the durations of `trainer.*` into steps.

        Args:
            settings: the durations.
            steps_per_epoch: optimizer steps of one pass over the training data.
            least_steps: of the whole run where neither its epochs nor its steps are given; see `DataConfig`.
        """
        epochs = settings.epochs or max(EPOCHS, -(-least_steps // steps_per_epoch))
        total = settings.steps or epochs * steps_per_epoch
        if settings.fast_dev_run:
            total = TRIAL_STEPS

        lengthened = not settings.steps and not settings.epochs and epochs > EPOCHS
        validations = f"{-(-epochs // EPOCHS)}ep" if lengthened else "1ep"

        def every(key: str) -> Interval:
            text = getattr(settings, key)
            return Interval.of(validations if text == "auto" else text, f"trainer.{key}", steps_per_epoch, total)

        limit = settings.max_time
        return cls(
            total=total,
            steps_per_epoch=steps_per_epoch,
            log=every("log_every"),
            evaluate=every("eval_every"),
            save=every("save_every"),
            histograms=every("log_histograms"),
            layer_stats=every("log_gradients"),
            max_seconds=math.inf if limit is None else parse_seconds(limit, "trainer.max_time"),
        )

    def epoch(self, step: int) -> int:
        """Return the whole epochs that are done after `step`."""
        return step // self.steps_per_epoch

    @functools.cached_property
    def _recorded(self) -> list[Interval]:
        """What a record follows: whatever else is recorded comes with the training metrics."""
        return [self.log, self.evaluate, *(each for each in (self.histograms, self.layer_stats) if each.recurs)]

    def records(self, step: int) -> bool:
        """Return whether there is a record after `step`."""
        return any(interval.due(step) for interval in self._recorded)

    def measures_layers(self, step: int) -> bool:
        """Return whether the gradients of `step` are measured, layer by layer."""
        return self.layer_stats.recurs and self.layer_stats.due(step)
