"""All that changes while training, in one place: what is saved, and what a resumed run starts from."""

import copy
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainer.errors import CheckpointError
from trainer.optim.schedules import Schedule

# What optimizers remember of each element of a parameter. The fused kernels read as many as the parameter has.
_MOMENTS = {
    *("acc_delta", "ax", "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg", "max_exp_avg_sq", "momentum_buffer", "prev"),
    *("square_avg", "step_size", "sum"),
}


def _is_number(value: object, least: float = 0.0) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value >= least


def _is_count(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and least <= value < 1 << 62


def _are_scores(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(score, (int, float)) for name, score in value.items()
    )


def _is_flow(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and (x is None or isinstance(x, float)) for name, x in value.items()
    )


def _is_record(value: object) -> bool:
    return (
        isinstance(value, dict)
        and _are_scores(value["scalars"])
        and all(isinstance(name, str) and isinstance(x, Tensor) for name, x in value["histograms"].items())
        and all(isinstance(name, str) and _is_flow(x) for name, x in value.get("gradients", {}).items())
    )


# The attributes of a `TrainState` that are plain data and saved under their own names, and what they may be.
_PLAIN: dict[str, Callable[[Any], bool]] = {
    "step": _is_count,
    "scores": _are_scores,
    "seconds": _is_number,
    "records": _is_count,
    "pending": lambda value: value is None or _is_record(value),
    "micro_batch": lambda value: value is None or _is_count(value, 1),
    "rate": lambda value: _is_number(value) and value > 0,
    "rollbacks": _is_count,
    "skips": _is_count,
}


@dataclass
class Monitor:
    """Which score decides, which was best, and how long ago that was.

    Attributes:
        name: of the score, such as "val/accuracy".
        mode: "max" or "min".
        min_delta: smallest change that counts as an improvement.
        patience: validations without improvement after which to stop; None: never.
        best, best_step: the best score so far, and the step it was reached at.
        bad: validations since then.
    """

    name: str
    mode: str
    min_delta: float = 0.0
    patience: int | None = None
    best: float | None = None
    best_step: int = 0
    bad: int = 0

    def observe(self, score: float, step: int) -> bool:
        """Take the score of a validation; returns whether it is the best so far. NaN and infinity never are."""
        gain = math.inf if self.best is None else score - self.best if self.mode == "max" else self.best - score
        if math.isfinite(score) and gain > self.min_delta:
            self.best, self.best_step, self.bad = score, step, 0
            return True
        self.bad += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether the patience is used up."""
        return self.patience is not None and self.bad >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"name": self.name, "best": self.best, "best_step": self.best_step, "bad": self.bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the past; another score than the saved one starts without a past."""
        best = state["best"]
        if not (best is None or _is_number(best, -math.inf)) or not all(
            _is_count(state[n]) for n in ("best_step", "bad")
        ):
            raise ValueError(f"monitor {state!r:.80} is not a score, a step and a count")
        if state["name"] == self.name:
            self.best, self.best_step, self.bad = state["best"], state["best_step"], state["bad"]


def _lay_out(memory: dict[str, Any], parameter: Tensor) -> None:
    """Bring the moments of a parameter into its layout: the fused kernels take the two for alike without looking.

    Raises:
        ValueError: for moments of another shape.
    """
    for name, value in memory.items():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if name in _MOMENTS and value is not None and shape != tuple(parameter.shape):
            raise ValueError(f"{name} of {shape} for a parameter of {tuple(parameter.shape)}")
        if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
            memory[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _check_names(optimizer: torch.optim.Optimizer) -> None:
    """Raise `ValueError` where a parameter's memory lacks what the optimizer will look up.

    What that is, a step on a number of its own shows: names differ from class to class and with the settings.
    """
    like = optimizer.param_groups[0]["params"][0]
    number = torch.zeros(1, 1, dtype=like.dtype, device=like.device, requires_grad=True)
    zero = torch.zeros_like(number)
    number.grad = zero.to_sparse() if isinstance(optimizer, torch.optim.SparseAdam) else zero
    twin = copy.copy(optimizer)
    twin.param_groups, twin.state = [{**optimizer.param_groups[0], "params": [number]}], defaultdict(dict)
    twin.step()
    for memory in optimizer.state.values():
        lacking = twin.state[number].keys() - memory.keys()
        if memory and lacking:
            raise ValueError(f"the optimizer's memory lacks {', '.join(sorted(lacking))}")


@dataclass
class TrainState:
    """Everything that training changes. `step` is the only position: all else follows from it and the seed.

    Attributes:
        step: optimizer steps done.
        tally: sums of the training scores since the last record (see `Task.train_sums`); None: no step since.
        scores: of the last validation.
        seconds: wall-clock time of the run before this process.
        records: records written so far.
        pending: the scalars, histograms and gradients of a record that still waits for its validation, which a signal
            has cut short; None: none does.
        micro_batch: what lack of memory has left of the plan's micro-batch; None: all of it.
        rate: factor on the learning rate, after rollbacks.
        rollbacks, skips: how often the run was set back to a checkpoint; steps in a row that were not finite.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    monitor: Monitor
    ema: AveragedModel | None = None
    step: int = 0
    tally: Tensor | None = None
    scores: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    records: int = 0
    pending: dict[str, Any] | None = None
    micro_batch: int | None = None
    rate: float = 1.0
    rollbacks: int = 0
    skips: int = 0

    @property
    def evaluated(self) -> nn.Module:
        """The network to validate and to use: the averaged one where there is one."""
        return self.model if self.ema is None else self.ema.module

    @property
    def recorded(self) -> int:
        """The last step whose record is complete, if it has one."""
        return self.step if self.pending is None else self.step - 1

    def state_dict(self, steps_per_epoch: int) -> dict[str, Any]:
        """Tensors and plain data, for `torch.save`; the tensors are the live ones, not copies."""
        return {
            "epoch": self.step // steps_per_epoch,
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "scheduler_state_dict": self.schedule.state_dict(),
            "scaler_state_dict": self.scaler.state_dict(),
            "ema_state_dict": None if self.ema is None else self.ema.state_dict(),
            "monitor": self.monitor.state_dict(),
            "tally": self.tally,
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            CheckpointError: where it belongs to another network or optimizer.
        """
        try:
            self.model.load_state_dict(saved["model_state_dict"])
            self._load_optimizer(saved["optimizer_state_dict"])
            self.schedule.load_state_dict(saved["scheduler_state_dict"])
            self.scaler.load_state_dict(saved["scaler_state_dict"])
            if self.ema is not None:
                # A run that starts averaging when it is resumed starts from the weights it has.
                self.ema.load_state_dict(saved["ema_state_dict"] or AveragedModel(self.model).state_dict())
            self.monitor.load_state_dict(saved["monitor"])
            self.tally = saved["tally"]
            if not (self.tally is None or isinstance(self.tally, Tensor)):
                raise ValueError(f"tally {self.tally!r:.80} is no tensor")
            for name, fits in _PLAIN.items():
                if not fits(saved[name]):
                    raise ValueError(f"{name} {saved[name]!r:.80}")
                setattr(self, name, saved[name])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this model and optimizer: {' '.join(str(error).split())[:300]}"
            ) from error
        if self.tally is not None:
            self.tally = self.tally.to(next(self.model.parameters()).device)

    def _load_optimizer(self, saved: dict[str, Any]) -> None:
        """Load the optimizer's memory; its settings (rate, decay, ...) stay those of the config, which may be new."""
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(saved)
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            parameters = group["params"]
            group.clear()
            group.update(own, params=parameters)
            for parameter in parameters:
                _lay_out(self.optimizer.state.get(parameter, {}), parameter)
        for part in getattr(self.optimizer, "parts", (self.optimizer,)):
            _check_names(part)
