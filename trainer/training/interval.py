"""What recurs while training, and the clock that answers "is it due?"."""

import time
from dataclasses import dataclass, field

from trainer.config.durations import parse_duration


@dataclass
class Interval:
    """Something that recurs every so many steps or seconds, and always at the last step.

    Cadences in steps are pure functions of the step and replay exactly after a resume; cadences in
    seconds cannot.
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
        """The cadence typed for `key`; null or 0 is never, except at the last step."""
        if text is None:
            return cls(total)
        duration = parse_duration(text, key)
        if duration.unit == "second":
            return cls(total, every_seconds=duration.value)
        return cls(total, every_steps=duration.steps(steps_per_epoch, total))

    def due(self, step: int) -> bool:
        """Whether it is due after `step` optimizer steps."""
        if step == self.total:
            return True
        if self.every_steps:
            return step % self.every_steps == 0
        if self.every_seconds and time.monotonic() - self._last >= self.every_seconds:
            self._last, self._last_step = time.monotonic(), step
        return step == self._last_step  # asked again about the same step, the answer is the same
