"""The learning-rate schedules of several phases: those that hold the rate, raise it or start again."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from trainer.config.durations import RunLength
from trainer.config.registry import register
from trainer.config.scheduler import Formula, SchedulerConfig
from trainer.config.section import key, other_default
from trainer.errors import ConfigError


@register("scheduler", "onecycle")
@dataclass
class OneCycleLR(SchedulerConfig):
    """One rise to the optimizer's learning rate, which is the peak, and one fall (Smith & Topin 2018)."""

    pct_start: float = key(0.3, "fraction of the run spent rising", above=0, below=1)
    div_factor: float = key(25.0, "peak divided by the initial learning rate", above=0)
    final_div_factor: float = key(1e4, "initial divided by the final learning rate", above=0)
    anneal: str = key("cos", "shape of the rise and the fall", choices=("cos", "linear"))

    def formula(self, run: RunLength) -> Formula:
        """As `OneCycleLR` with the optimizer's rate as max_lr: up for pct_start of the steps, then down."""
        peak, last = self.pct_start * run.rest - 1, run.rest - 1
        div_factor, final_div_factor, linear = self.div_factor, self.final_div_factor, self.anneal == "linear"

        def anneal(start: float, end: float, share: float) -> float:
            share = min(1.0, max(0.0, share))
            if linear:
                return start + (end - start) * share
            return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

        def rate(step: int, base: float) -> float:
            first = base / div_factor
            if step < peak:  # a run too short for a rise starts at the peak
                return anneal(first, base, step / peak)
            return anneal(base, first / final_div_factor, (step - peak) / max(last - peak, 1e-9))

        return rate


@register("scheduler", "cosine_restarts")
@dataclass
class CosineRestartsLR(SchedulerConfig):
    """Half cosines from the full learning rate down to eta_min, in a row (SGDR, Loshchilov & Hutter 2017)."""

    t_0: str = key("25%", "length of the first descent", duration=True, wall_clock=False)
    t_mult: int = key(1, "each descent is this many times as long as the one before", at_least=1)
    eta_min: float = key(0.0, "lowest learning rate, as an absolute value", at_least=0)

    def formula(self, run: RunLength) -> Formula:
        """As `CosineAnnealingWarmRestarts`, stepped once per optimizer step."""
        first, t_mult, eta_min = run.span(self.t_0, "scheduler.t_0"), self.t_mult, self.eta_min

        def rate(step: int, base: float) -> float:
            length = first
            if t_mult == 1:
                step %= length
            while step >= length:
                step, length = step - length, length * t_mult
            low = min(eta_min, base)
            return low + (base - low) * (1 + math.cos(math.pi * step / length)) / 2

        return rate


@register("scheduler", "cyclic")
@dataclass
class CyclicLR(SchedulerConfig):
    """Rise to the optimizer's learning rate, which is the peak, and fall again, over and over (Smith 2017)."""

    step_size_up: str = key("2ep", "length of a rise", duration=True, wall_clock=False)
    step_size_down: str | None = key(None, "length of a fall; null: as of a rise", duration=True, wall_clock=False)
    div_factor: float = key(4.0, "peak divided by the lowest learning rate", at_least=1)
    mode: str = key(
        "triangular",
        "height of the peaks: all the same; halved after each cycle; multiplied by gamma at each step",
        choices=("triangular", "triangular2", "exp_range"),
    )
    gamma: float = key(0.99994, "factor of the height at each step, of exp_range", above=0, at_most=1)

    def formula(self, run: RunLength) -> Formula:
        """As `CyclicLR` with the optimizer's rate as max_lr, and base_lr = max_lr / div_factor."""
        up = run.span(self.step_size_up, "scheduler.step_size_up")
        down = up if self.step_size_down is None else run.span(self.step_size_down, "scheduler.step_size_down")
        div_factor, gamma = self.div_factor, self.gamma
        scales: dict[str, Callable[[int], float]] = {
            "triangular": lambda step: 1.0,
            "triangular2": lambda step: 0.5 ** (step // (up + down)),
            "exp_range": lambda step: gamma**step,
        }
        scale = scales[self.mode]

        def rate(step: int, base: float) -> float:
            at = step % (up + down)
            height = at / up if at <= up else (up + down - at) / down
            low = base / div_factor
            return low + (base - low) * height * scale(step)

        return rate


DECAYS: dict[str, Callable[[float], float]] = {  # of the share of the decay that is done
    "linear": lambda share: 1 - share,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "sqrt": lambda share: 1 - math.sqrt(share),
}


@register("scheduler", "trapezoid")
@dataclass
class TrapezoidLR(SchedulerConfig):
    """Warm-up, then the full learning rate, and a decay at the end: WSD (Hägele et al. 2024, arXiv:2405.18392)."""

    warmup: str = other_default(SchedulerConfig, "warmup", "5%")
    decay: str = key("20%", "length of the decay, which ends with the run", duration=True, wall_clock=False)
    shape: str = key(
        "sqrt", "the decay: a line, half a cosine, or 1 - sqrt of the share that is done", choices=tuple(DECAYS)
    )
    end_factor: float = key(0.0, "factor at the end of the decay", at_least=0)

    def formula(self, run: RunLength) -> Formula:
        """Hold the full rate until the decay begins, which is then the paper's f(n, N, N_decay)."""
        decay, shape, end = run.span(self.decay, "scheduler.decay"), DECAYS[self.shape], self.end_factor
        if decay > run.rest:
            raise ConfigError(
                f"scheduler.decay={self.decay} is {decay} steps, but the warm-up leaves only {run.rest}; shorten one "
                "of them or train longer."
            )
        stable = run.rest - decay

        def rate(step: int, base: float) -> float:
            share = min(1.0, max(0, step - stable) / decay)
            return base * (end + (1 - end) * shape(share))

        return rate


@register("scheduler", "coslog")
@dataclass
class CosLogLR(SchedulerConfig):
    """Several cosines from 0 up and down, each twice as long as the one before (Holzmüller et al. 2024, section 3)."""

    cycles: int = key(4, "number of cosines", at_least=1, at_most=30)

    def formula(self, run: RunLength) -> Formula:
        """Return base · (1 - cos(2π log2(1 + (2^cycles - 1) t))) / 2, with t the share of the run that is done."""
        whole, most = run.rest, 2**self.cycles - 1

        def rate(step: int, base: float) -> float:
            share = min(1.0, step / whole)
            return base * (1 - math.cos(2 * math.pi * math.log2(1 + most * share))) / 2

        return rate
