"""Learning rates as pure functions of the step, equal to torch's schedulers stepped once per optimizer step."""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer

from trainer.config import durations
from trainer.config import scheduler as config
from trainer.errors import ConfigError

Rate = Callable[[int, float], float]  # (steps since the warm-up, the optimizer's own rate) -> the rate


@dataclass(frozen=True)
class Clock:
    """The length of a run: what durations are measured against."""

    steps_per_epoch: int
    total: int  # optimizer steps of the whole run

    def steps(self, duration: str, key: str) -> int:
        """A duration typed for `key`, in optimizer steps."""
        return durations.parse(duration, key, wall_clock=False).steps(self.steps_per_epoch, self.total)


@dataclass
class Schedule:
    """The rate at each step: a linear warm-up, then `rate`, times the plateau's factor."""

    rate: Rate
    warmup: int = 0
    interval: int = 1  # the rate changes every so many steps
    plateau: "Plateau | None" = None

    def __call__(self, step: int, base: float) -> float:
        """The rate of the optimizer step `step` (0 is the first) for a group whose own rate is `base`."""
        if step < self.warmup:
            return base * (step + 1) / self.warmup
        since = (step - self.warmup) // self.interval * self.interval
        lr = self.rate(since, base)
        return lr if self.plateau is None else self.plateau.limit(lr)

    def apply(self, optimizer: Optimizer, step: int, factor: float = 1.0) -> float:
        """Set the rates of all groups for `step`, times a factor; returns the first group's."""
        for group in optimizer.param_groups:
            group["lr"] = factor * self(step, group.setdefault("initial_lr", group["lr"]))
        lr: float = optimizer.param_groups[0]["lr"]
        return lr

    def observe(self, score: float, mode: str) -> None:
        """Take the monitored score of a validation; only a plateau has a memory for it."""
        if self.plateau is not None:
            self.plateau.observe(score, mode)

    def state_dict(self) -> dict[str, Any]:
        """The plateau's memory; {} for the pure schedules."""
        return {} if self.plateau is None else self.plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        if self.plateau is not None and state:
            self.plateau.load_state_dict(state)


@dataclass
class Plateau:
    """The factor of `torch.optim.lr_scheduler.ReduceLROnPlateau` (threshold_mode="rel")."""

    config: config.PlateauLR
    factor: float = 1.0
    best: float | None = None
    bad: int = 0
    cooldown: int = 0
    _saved: tuple[str, ...] = field(default=("factor", "best", "bad", "cooldown"), repr=False)

    def limit(self, lr: float) -> float:
        """The rate after the drops so far."""
        return max(lr * self.factor, min(lr, self.config.min_lr))

    def observe(self, score: float, mode: str) -> None:
        """Count a validation, and drop the rate when the patience is used up."""
        sign = 1.0 if mode == "min" else -1.0
        if math.isnan(score):
            self.bad += 1
        elif self.best is None or sign * score < sign * self.best - self.config.threshold * abs(self.best):
            self.best, self.bad = score, 0
        else:
            self.bad += 1
        if self.cooldown > 0:
            self.cooldown -= 1
            self.bad = 0
        if self.bad > self.config.patience:
            self.factor *= self.config.factor
            self.cooldown, self.bad = self.config.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {name: getattr(self, name) for name in self._saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name in self._saved:
            if not isinstance(state[name], (int, float)) and not (name == "best" and state[name] is None):
                raise ValueError(f"the plateau's {name} is {state[name]!r:.80}")
            setattr(self, name, state[name])


def make_schedule(scheduler: config.SchedulerConfig, clock: Clock) -> Schedule:
    """The schedule of a config for a run of that length.

    Raises:
        ConfigError: when the warm-up leaves nothing of the run.
    """
    warmup = clock.steps(scheduler.warmup, "scheduler.warmup")
    if warmup >= clock.total > 0:
        raise ConfigError(
            f"scheduler.warmup={scheduler.warmup} is {warmup} steps, but the run has only {clock.total}; "
            "shorten the warm-up or train longer."
        )
    rest = Clock(clock.steps_per_epoch, max(1, clock.total - warmup))
    plateau = Plateau(scheduler) if isinstance(scheduler, config.PlateauLR) else None
    interval = clock.steps_per_epoch if scheduler.interval == "epoch" else 1
    return Schedule(_rate(scheduler, rest, clock), warmup, interval, plateau)


def _rate(s: config.SchedulerConfig, rest: Clock, clock: Clock) -> Rate:
    """The schedule after the warm-up: `rest` is the run without it, `clock` with it."""

    def duration(text: str | None, key: str) -> int:
        return rest.total if text is None else max(1, clock.steps(text, f"scheduler.{key}"))

    match s:
        case config.CosineLR():
            return _cosine(duration(s.t_max, "t_max"), s.eta_min)
        case config.StepLR():
            size, gamma = duration(s.step_size, "step_size"), s.gamma
            return lambda step, base: base * gamma ** (step // size)
        case config.MultiStepLR():
            milestones, factor = sorted(duration(m, "milestones") for m in s.milestones), s.gamma
            return lambda step, base: base * factor ** bisect_right(milestones, step)
        case config.ExponentialLR():
            period, gamma_ = duration(s.period, "period"), s.gamma
            return lambda step, base: base * gamma_ ** (step / period)
        case config.LinearLR():
            total, start, end = duration(s.total, "total"), s.start_factor, s.end_factor
            return lambda step, base: base * (start + (end - start) * min(step, total) / total)
        case config.PolynomialLR():
            length, power = duration(s.total, "total"), s.power
            return lambda step, base: base * (1 - min(step, length) / length) ** power
        case config.OneCycleLR():
            return _onecycle(s, rest.total)
        case _:  # constant, and plateau, whose factor is applied on top
            return lambda step, base: base


def _cosine(t_max: int, eta_min: float) -> Rate:
    """`CosineAnnealingLR` in closed form; held at the bottom after `t_max` instead of rising again."""

    def rate(step: int, base: float) -> float:
        low = min(eta_min, base)
        return low + (base - low) * (1 + math.cos(math.pi * min(step, t_max) / t_max)) / 2

    return rate


def _onecycle(s: config.OneCycleLR, total: int) -> Rate:
    """`OneCycleLR` with the base rate as its max_lr: up for pct_start of the steps, then down."""
    peak, last = s.pct_start * total - 1, total - 1

    def anneal(start: float, end: float, share: float) -> float:
        share = min(1.0, max(0.0, share))
        if s.anneal == "linear":
            return start + (end - start) * share
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    def rate(step: int, base: float) -> float:
        first = base / s.div_factor
        if step < peak:  # a run too short for a rise starts at the peak
            return anneal(first, base, step / peak)
        return anneal(base, first / s.final_div_factor, (step - peak) / max(last - peak, 1e-9))

    return rate
