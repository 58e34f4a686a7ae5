"""Durations as people type them: `500`, `10ep`, `5%`, `15min`."""

import math
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
        return max(1, round(self.value * self._scale(steps_per_epoch, total))) if self.value else 0

    def rounded(self, steps_per_epoch: int, total: int) -> str:
        """Return what rounding to whole steps makes of it, such as `7 steps (0.304ep)`; "" where it changes nothing."""
        if self.unit == "second":
            return ""
        steps, scale = self.steps(steps_per_epoch, total), self._scale(steps_per_epoch, total)
        if math.isclose(steps, self.value * scale, rel_tol=1e-9):
            return ""
        unit = "ep" if self.unit == "epoch" else self.unit
        exact = next(text for digits in range(3, 18) if float(text := f"{steps / scale:.{digits}g}") != self.value)
        return f"{steps:,} step{'s' * (steps != 1)} ({exact}{unit})"

    def _scale(self, steps_per_epoch: int, total: int) -> float:
        """Return the steps of one unit."""
        assert self.unit != "second", "a wall-clock duration has no number of steps"
        return {"step": 1.0, "epoch": float(steps_per_epoch), "%": total / 100}[self.unit]


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
        """Return the length of a part of a schedule in optimizer steps; null: all after the warm-up.

        Raises:
            ConfigError: for a length of 0.
        """
        steps = self.rest if duration is None else self.steps(duration, key)
        if not steps:
            raise ConfigError(f"{key}={duration}: a part of a schedule takes at least one step.")
        return steps


def parse_duration(text: str | float, key: str, wall_clock: bool = True) -> Duration:
    """Read a duration typed for `key`; raises `ConfigError` naming the key and the accepted forms."""
    match_ = _PATTERN.fullmatch(str(text).lower())
    if match_:
        value, unit = float(match_[1]), match_[2]
        if unit in _UNITS and value < LONGEST:
            if _is_fraction(match_):
                raise ConfigError(f"{key}={text}: {_whose_fraction(value)}")
            return Duration(value, _UNITS[unit])
        if unit in _SECONDS and wall_clock and value < LONGEST:
            return Duration(value * _SECONDS[unit], "second")
    forms = "500 (steps), 10ep (epochs), 5% (of the run)" + (", 15min, 30s, 2h (wall-clock)" if wall_clock else "")
    raise ConfigError(f"{key}={text}: not a duration; write {forms}.")


def parse_seconds(text: str, key: str) -> float:
    """Read a wall-clock time typed for `key`, in seconds; raises `ConfigError` for anything else."""
    match_ = _PATTERN.fullmatch(text.lower())
    if match_ and match_[2] in _SECONDS and float(match_[1]) < LONGEST:
        return float(match_[1]) * _SECONDS[match_[2]]
    raise ConfigError(f"{key}={text}: must be a wall-clock time, such as 90min or 2h.")


def whole_steps(text: str) -> str:
    """Return a bare fraction that an earlier version saved as the steps it was then; any other text as it is."""
    match_ = _PATTERN.fullmatch(text.lower())
    return str(max(1, round(float(match_[1])))) if match_ and _is_fraction(match_) else text


def _is_fraction(match_: re.Match[str]) -> bool:
    """Return whether it is part of a step, or `1.0`, which other programs take as the whole of something."""
    number, value = match_[1], float(match_[1])
    return _UNITS.get(match_[2]) == "step" and (value % 1 > 0 or (value == 1 and "." in number))


def _whose_fraction(value: float) -> str:
    """Say what a fraction without a unit may have meant: other programs take it as a share of an epoch or a run."""
    share, epochs = f"{value * 100:.15g}% (of the run)", f"{value:.15g}ep (epochs)"
    if value > 1:
        forms = f"{epochs} or whole steps, such as {math.ceil(value)}"
    else:
        forms = f"{share} or {epochs}" if value < 1 else f"1 (step), {share} or {epochs}"
    return f"a fraction of what? Write {forms}."
