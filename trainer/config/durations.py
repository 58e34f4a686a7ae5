"""Durations as people type them: `500`, `10ep`, `5%`, `15min`."""

import re
from dataclasses import dataclass

from trainer.errors import ConfigError

_UNITS = {"": "step", "step": "step", "steps": "step", "ep": "epoch", "epoch": "epoch", "epochs": "epoch", "%": "%"}
_SECONDS = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = 1e15  # steps or seconds: more is a typing mistake
_PATTERN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z%]*)\s*")


@dataclass(frozen=True)
class Duration:
    """An amount of training: steps, epochs, per cent of the run, or seconds of wall-clock time."""

    value: float
    unit: str  # "step" | "epoch" | "%" | "second"

    def steps(self, steps_per_epoch: int, total: int) -> int:
        """Return the optimizer steps, rounded, at least 1 unless the duration is 0; not for wall-clock durations."""
        assert self.unit != "second", "a wall-clock duration has no number of steps"
        scale = {"step": 1.0, "epoch": float(steps_per_epoch), "%": total / 100}[self.unit]
        return max(1, round(self.value * scale)) if self.value else 0


@dataclass(frozen=True)
class RunLength:
    """The length of a run: what durations are measured against.

    Attributes:
        steps_per_epoch: optimizer steps of one epoch.
        total: optimizer steps of the whole run.
        warmup: those of them before the schedule begins.
    """

    steps_per_epoch: int
    total: int
    warmup: int = 0

    @property
    def rest(self) -> int:
        """Return the optimizer steps that follow the warm-up, at least 1."""
        return max(1, self.total - self.warmup)

    def steps(self, duration: str, key: str) -> int:
        """Return a duration typed for `key` in optimizer steps; a share is one of the whole run."""
        return parse_duration(duration, key, wall_clock=False).steps(self.steps_per_epoch, self.total)

    def span(self, duration: str | None, key: str) -> int:
        """Return the length of a part of a schedule in optimizer steps, at least 1; null: all after the warm-up."""
        return self.rest if duration is None else max(1, self.steps(duration, key))


def parse_duration(text: str | float, key: str, wall_clock: bool = True) -> Duration:
    """Read a duration typed for `key`; raises `ConfigError` naming the key and the accepted forms."""
    match_ = _PATTERN.fullmatch(str(text).lower())
    if match_:
        value, unit = float(match_[1]), match_[2]
        if unit in _UNITS and value < LONGEST:
            return Duration(value, _UNITS[unit])
        if unit in _SECONDS and wall_clock and value < LONGEST:
            return Duration(value * _SECONDS[unit], "second")
    forms = "500 (steps), 10ep (epochs), 5% (of the run)" + (", 15min, 30s, 2h (wall-clock)" if wall_clock else "")
    raise ConfigError(f"{key}={text}: not a duration; write {forms}.")
