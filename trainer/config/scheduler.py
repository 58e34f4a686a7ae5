"""The learning-rate schedules: each a factor on the optimizer's own rate, as a pure function of the step."""

from dataclasses import dataclass

from trainer.config.registry import register
from trainer.config.section import Section, key


@dataclass
class SchedulerConfig(Section):
    """Base of the scheduler configs: `build(clock)` makes the schedule for a run of that length."""

    warmup: str = key(
        "0",
        "duration of a linear rise from 0 to the full rate; the schedule begins after it",
        duration=True,
        wall_clock=False,
    )
    interval: str = key("step", "when the rate changes: at each step, or once an epoch", choices=("step", "epoch"))


@register("scheduler", "constant")
@dataclass
class ConstantLR(SchedulerConfig):
    """The optimizer's rate throughout."""


@register("scheduler", "cosine")
@dataclass
class CosineLR(SchedulerConfig):
    """Half a cosine from the full rate down to eta_min (SGDR, Loshchilov & Hutter 2017, eq. 5, one period)."""

    t_max: str | None = key(
        None, "duration of the descent; null: to the end of the run", duration=True, wall_clock=False
    )
    eta_min: float = key(0.0, "the rate at the bottom, as an absolute rate", at_least=0)


@register("scheduler", "step")
@dataclass
class StepLR(SchedulerConfig):
    """The rate times gamma every step_size."""

    step_size: str = key("30%", "duration between two drops", duration=True, wall_clock=False)
    gamma: float = key(0.1, "factor of each drop", above=0)


@register("scheduler", "multistep")
@dataclass
class MultiStepLR(SchedulerConfig):
    """The rate times gamma at each milestone."""

    milestones: list[str] = key(["50%", "75%"], "the moments of the drops", duration=True, wall_clock=False)
    gamma: float = key(0.1, "factor of each drop", above=0)


@register("scheduler", "exponential")
@dataclass
class ExponentialLR(SchedulerConfig):
    """The rate times gamma every period, smoothly."""

    gamma: float = key(0.95, "factor per period", above=0)
    period: str = key("1ep", "the duration over which gamma applies once", duration=True, wall_clock=False)


@register("scheduler", "linear")
@dataclass
class LinearLR(SchedulerConfig):
    """A straight line from start_factor to end_factor of the rate."""

    start_factor: float = key(1.0, "factor at the beginning", above=0)
    end_factor: float = key(0.0, "factor at the end, and from then on", at_least=0)
    total: str | None = key(None, "duration of the line; null: to the end of the run", duration=True, wall_clock=False)


@register("scheduler", "polynomial")
@dataclass
class PolynomialLR(SchedulerConfig):
    """The rate times (1 - t/total) ** power."""

    power: float = key(1.0, "exponent of the descent", above=0)
    total: str | None = key(
        None, "duration of the descent; null: to the end of the run", duration=True, wall_clock=False
    )


@register("scheduler", "onecycle")
@dataclass
class OneCycleLR(SchedulerConfig):
    """One rise to the optimizer's rate and one fall (Smith & Topin 2018); the rate in the optimizer is the peak."""

    pct_start: float = key(0.3, "share of the run spent rising", above=0, below=1)
    div_factor: float = key(25.0, "the peak over the first rate", above=0)
    final_div_factor: float = key(1e4, "the first rate over the last", above=0)
    anneal: str = key("cos", "shape of the rise and the fall", choices=("cos", "linear"))


@register("scheduler", "plateau")
@dataclass
class PlateauLR(SchedulerConfig):
    """The rate times factor when the monitored score has stopped improving; the one schedule with a memory."""

    factor: float = key(0.1, "factor of each drop", above=0, below=1)
    patience: int = key(10, "validations without improvement that are let pass before a drop", at_least=0)
    threshold: float = key(1e-4, "relative improvement that counts as one", at_least=0)
    cooldown: int = key(0, "validations after a drop in which none is counted", at_least=0)
    min_lr: float = key(0.0, "the rate never falls below this", at_least=0)
