"""The learning-rate schedules: each one class with its keys and its formula, a function of the step.

Those that hold, rise or start again are in `scheduler_phases.py`.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer.config.durations import RunLength
from trainer.config.registry import register
from trainer.config.section import Section, key, other_default
from trainer.errors import ConfigError

Formula = Callable[[int, float], float]  # (steps since the warm-up, the optimizer's own rate) -> the rate


@dataclass
class SchedulerConfig(Section):
    """Base of the schedules: the keys that all share, and the formula of what follows the warm-up."""

    warmup: str = key(
        "0",
        "length of a linear warm-up from 0 to the full learning rate; the schedule starts after it",
        duration=True,
        wall_clock=False,
    )
    interval: str = key("step", "update the learning rate at each step, or once per epoch", choices=("step", "epoch"))
    weight_decay: str = key(
        "constant",
        "weight decay over the run: constant, or flat_cos: whole for the first half, then half a cosine to 0",
        choices=("constant", "flat_cos"),
    )

    def formula(self, run: RunLength) -> Formula:
        """Return the rate as a function of the steps since the warm-up and of the optimizer's own rate.

        Durations are resolved here, once; what is returned is called for each parameter group at every step. A schedule
        that depends on the scores as well returns a `StatefulFormula`.

        Raises:
            ConfigError: where a class has no formula of its own.
        """
        kind = type(self)
        raise ConfigError(
            f"{self.section}={self.option}: {kind.__module__}.{kind.__qualname__} has no method "
            "formula(self, run) -> Callable[[int, float], float]; write it."
        )


def flat_cos(progress: float) -> float:
    """Return 1 in the first half, then half a cosine to 0 (Holzmüller et al. 2024, arXiv:2407.04491, appendix A).

    Args:
        progress: share of the run that is done.
    """
    return 1.0 if progress < 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * progress - 1)))


class StatefulFormula(ABC):
    """A formula with a memory of the scores. Its memory is plain numbers, which checkpoints keep."""

    @abstractmethod
    def __call__(self, step: int, base: float) -> float:
        """Return the rate, as every formula does."""

    @abstractmethod
    def observe(self, score: float, mode: str) -> None:
        """Take the monitored score of a validation; `mode` is min or max."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the memory as plain numbers."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""


@register("scheduler", "constant")
@dataclass
class ConstantLR(SchedulerConfig):
    """Constant learning rate."""

    def formula(self, run: RunLength) -> Formula:
        return lambda step, base: base


@register("scheduler", "cosine")
@dataclass
class CosineLR(SchedulerConfig):
    """Half a cosine from the full learning rate down to eta_min (SGDR, Loshchilov & Hutter 2017, eq. 5, one period)."""

    t_max: str | None = key(None, "length of the descent; null: to the end of the run", duration=True, wall_clock=False)
    eta_min: float = key(0.0, "lowest learning rate, as an absolute value", at_least=0)

    def formula(self, run: RunLength) -> Formula:
        """As `CosineAnnealingLR` in closed form; held at the bottom after `t_max` instead of rising again."""
        t_max, eta_min = run.span(self.t_max, "scheduler.t_max"), self.eta_min

        def rate(step: int, base: float) -> float:
            low = min(eta_min, base)
            return low + (base - low) * (1 + math.cos(math.pi * min(step, t_max) / t_max)) / 2

        return rate


@register("scheduler", "step")
@dataclass
class StepLR(SchedulerConfig):
    """Multiply the learning rate by gamma every step_size."""

    step_size: str = key("30%", "time between two drops", duration=True, wall_clock=False)
    gamma: float = key(0.1, "factor of each drop", above=0)

    def formula(self, run: RunLength) -> Formula:
        size, gamma = run.span(self.step_size, "scheduler.step_size"), self.gamma
        return lambda step, base: base * gamma ** (step // size)


@register("scheduler", "multistep")
@dataclass
class MultiStepLR(SchedulerConfig):
    """Multiply the learning rate by gamma at each milestone."""

    milestones: list[str] = key(["50%", "75%"], "times of the drops", duration=True, wall_clock=False)
    gamma: float = key(0.1, "factor of each drop", above=0)

    def formula(self, run: RunLength) -> Formula:
        milestones = sorted(run.span(milestone, "scheduler.milestones") for milestone in self.milestones)
        gamma = self.gamma
        return lambda step, base: base * gamma ** bisect_right(milestones, step)


@register("scheduler", "exponential")
@dataclass
class ExponentialLR(SchedulerConfig):
    """Multiply the learning rate by gamma every period, smoothly."""

    gamma: float = key(0.95, "factor per period", above=0)
    period: str = key("1ep", "time over which gamma applies once", duration=True, wall_clock=False)

    def formula(self, run: RunLength) -> Formula:
        period, gamma = run.span(self.period, "scheduler.period"), self.gamma
        return lambda step, base: base * gamma ** (step / period)


@register("scheduler", "linear")
@dataclass
class LinearLR(SchedulerConfig):
    """Scale the learning rate linearly from start_factor to end_factor."""

    start_factor: float = key(1.0, "factor at the start", above=0)
    end_factor: float = key(0.0, "factor at the end and after it", at_least=0)
    total: str | None = key(None, "length of the line; null: to the end of the run", duration=True, wall_clock=False)

    def formula(self, run: RunLength) -> Formula:
        total, start, end = run.span(self.total, "scheduler.total"), self.start_factor, self.end_factor
        return lambda step, base: base * (start + (end - start) * min(step, total) / total)


@register("scheduler", "polynomial")
@dataclass
class PolynomialLR(SchedulerConfig):
    """Multiply the learning rate by (1 - t/total) ** power."""

    power: float = key(1.0, "exponent of the descent", above=0)
    total: str | None = key(None, "length of the descent; null: to the end of the run", duration=True, wall_clock=False)

    def formula(self, run: RunLength) -> Formula:
        total, power = run.span(self.total, "scheduler.total"), self.power
        return lambda step, base: base * (1 - min(step, total) / total) ** power


@register("scheduler", "inverse_sqrt")
@dataclass
class InverseSqrtLR(SchedulerConfig):
    """After the warm-up, fall with the inverse square root of the step (Vaswani et al. 2017, section 5.3)."""

    warmup: str = other_default(
        SchedulerConfig, "warmup", "5%", "length of the linear warm-up; four times as late, the rate has halved"
    )

    def formula(self, run: RunLength) -> Formula:
        """With the steps counted from 1: base · sqrt(warmup / step)."""
        warmup = run.warmup
        if not warmup:
            raise ConfigError(
                f"scheduler.warmup={self.warmup}: scheduler=inverse_sqrt falls at the pace of its warm-up and needs "
                "one, such as 5%."
            )
        return lambda step, base: base * math.sqrt(warmup / (warmup + step + 1))


@register("scheduler", "plateau")
@dataclass
class PlateauLR(SchedulerConfig):
    """Multiply the learning rate by factor when the monitored score stops improving; the only stateful schedule."""

    factor: float = key(0.1, "factor of each drop", above=0, below=1)
    patience: int = key(10, "validations without improvement to tolerate before a drop", at_least=0)
    threshold: float = key(1e-4, "smallest relative improvement that counts", at_least=0)
    cooldown: int = key(0, "validations to ignore after a drop", at_least=0)
    min_lr: float = key(0.0, "lower bound of the learning rate", at_least=0)

    def formula(self, run: RunLength) -> "Plateau":
        return Plateau(self)


@dataclass
class Plateau(StatefulFormula):
    """The formula and the memory of `torch.optim.lr_scheduler.ReduceLROnPlateau` (threshold_mode="rel").

    Attributes:
        keys: what the drops are made by.
        factor: the product of the drops so far.
        best: the best score so far; None: no score yet.
        bad: validations without improvement, in a row.
        cooldown: validations still to come that are not counted.
    """

    keys: PlateauLR
    factor: float = 1.0
    best: float | None = None
    bad: int = 0
    cooldown: int = 0

    def __call__(self, step: int, base: float) -> float:
        return max(base * self.factor, min(base, self.keys.min_lr))

    def observe(self, score: float, mode: str) -> None:
        """Count a validation, and drop the rate when the patience is used up."""
        sign = 1.0 if mode == "min" else -1.0
        if math.isnan(score):
            self.bad += 1
        elif self.best is None or sign * score < sign * self.best - self.keys.threshold * abs(self.best):
            self.best, self.bad = score, 0
        else:
            self.bad += 1
        if self.cooldown > 0:
            self.cooldown -= 1
            self.bad = 0
        if self.bad > self.keys.patience:
            self.factor *= self.keys.factor
            self.cooldown, self.bad = self.keys.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor, "best": self.best, "bad": self.bad, "cooldown": self.cooldown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.state_dict():
            if not isinstance(state[name], (int, float)) and not (name == "best" and state[name] is None):
                raise ValueError(f"the plateau's {name} is {state[name]!r:.80}")
            setattr(self, name, state[name])
