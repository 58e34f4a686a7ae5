"""Learning-rate schedules at work: warm-up, interval and what a formula of `trainer.config.scheduler` says after it.

The rates equal those of torch's schedulers stepped once per optimizer step.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from trainer.config.durations import RunLength
from trainer.config.scheduler import Formula, SchedulerConfig, StatefulFormula, flat_cos
from trainer.errors import ConfigError


@dataclass
class Schedule:
    """The learning rate at each step: a linear warm-up, then the formula.

    Attributes:
        formula: the rate after the warm-up.
        warmup: optimizer steps of the rise.
        interval: the rate changes every so many steps.
        decay: the factor of the weight decay at each step; None: it is constant.
    """

    formula: Formula
    warmup: int = 0
    interval: int = 1
    decay: Callable[[int], float] | None = None

    def __call__(self, step: int, base: float) -> float:
        """Return the rate of the optimizer step `step` (0 is the first) for a group whose own rate is `base`."""
        if step < self.warmup:
            return base * (step + 1) / self.warmup
        return self.formula((step - self.warmup) // self.interval * self.interval, base)

    def apply(self, optimizer: Optimizer, step: int, factor: float = 1.0) -> float:
        """Set the rates of all groups for `step`, times a factor; returns the first group's."""
        for group in optimizer.param_groups:
            group["lr"] = factor * self(step, group.setdefault("initial_lr", group["lr"]))
            if self.decay is not None and "weight_decay" in group:
                whole = group.setdefault("initial_weight_decay", group["weight_decay"])
                group["weight_decay"] = whole * self.decay(step)
        lr: float = optimizer.param_groups[0]["lr"]
        return lr

    def observe(self, score: float, mode: str) -> None:
        """Take the monitored score of a validation; only a stateful formula remembers it."""
        if isinstance(self.formula, StatefulFormula):
            self.formula.observe(score, mode)

    def state_dict(self) -> dict[str, Any]:
        """Return the memory of the formula; {} of one that has none."""
        return self.formula.state_dict() if isinstance(self.formula, StatefulFormula) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, which may be that of another schedule: only a memory meets a memory."""
        if isinstance(self.formula, StatefulFormula) and state:
            self.formula.load_state_dict(state)


def make_schedule(scheduler: SchedulerConfig, run: RunLength) -> Schedule:
    """Make the schedule of a config for a run of that length.

    Raises:
        ConfigError: when the warm-up leaves nothing of the run, and where the formula is missing or no function.
    """
    warmup = run.steps(scheduler.warmup, "scheduler.warmup")
    if warmup >= run.total > 0:
        raise ConfigError(
            f"scheduler.warmup={scheduler.warmup} is {warmup} steps, but the run has only {run.total}; "
            "shorten the warm-up or train longer."
        )
    interval = run.steps_per_epoch if scheduler.interval == "epoch" else 1
    formula = scheduler.formula(dataclasses.replace(run, warmup=warmup))
    if not callable(formula):
        raise ConfigError(
            f"{scheduler.section}={scheduler.option}: formula(self, run) gave {formula!r:.80}; it returns a function "
            "(step, base) -> rate."
        )
    decay = (lambda step: flat_cos(step / run.total)) if scheduler.weight_decay == "flat_cos" else None
    return Schedule(formula, warmup, interval, decay)
