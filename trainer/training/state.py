"""All that changes while training, in one place: what is saved, and what a resumed run starts from."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainer.errors import CheckpointError
from trainer.optim.schedules import Schedule
from trainer.training.average import AVERAGE, MODEL, NoAverage, saved_weights
from trainer.training.optimizer_state import load_optimizer
from trainer.training.stopping import Monitor


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
    "sums_epoch": _is_count,
    "weights": lambda value: value in (MODEL, AVERAGE),
}


@dataclass
class TrainState:
    """Everything that training changes. `step` is the only position: all else follows from it and the seed.

    Attributes:
        step: optimizer steps done.
        average: the moving average of the weights, where one is kept.
        weights: those that decided in the last validation and are to be used: "model" or "average".
        train_sums: sums of the training scores since the last record (see `Task.train_sums`); None: no step since.
        epoch_sums, sums_epoch: the same since the beginning of an epoch, and which, counted from 0.
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
    average: NoAverage
    step: int = field(default=0, init=False)
    weights: str = field(default=MODEL, init=False)
    train_sums: Tensor | None = field(default=None, init=False)
    epoch_sums: Tensor | None = field(default=None, init=False)
    sums_epoch: int = field(default=0, init=False)
    scores: dict[str, float] = field(default_factory=dict, init=False)
    seconds: float = field(default=0.0, init=False)
    records: int = field(default=0, init=False)
    pending: dict[str, Any] | None = field(default=None, init=False)
    micro_batch: int | None = field(default=None, init=False)
    rate: float = field(default=1.0, init=False)
    rollbacks: int = field(default=0, init=False)
    skips: int = field(default=0, init=False)

    @property
    def evaluated(self) -> nn.Module:
        """The network to use: the one whose weights were better in the last validation."""
        return self.average.module if self.weights == AVERAGE else self.model

    @property
    def recorded(self) -> int:
        """The last step whose record is complete, if it has one."""
        return self.step if self.pending is None else self.step - 1

    def state_dict(self, steps_per_epoch: int) -> dict[str, Any]:
        """Return tensors and plain data, for `torch.save`; the tensors are the live ones, not copies."""
        return {
            "epoch": self.step // steps_per_epoch,
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "scheduler_state_dict": self.schedule.state_dict(),
            "scaler_state_dict": self.scaler.state_dict(),
            "ema_state_dict": self.average.state_dict(),
            "monitor": self.monitor.state_dict(),
            "tally": self.train_sums,
            "epoch_sums": self.epoch_sums,
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, or that of an older version, which used the average where there was one.

        Raises:
            CheckpointError: where it belongs to another network or optimizer.
        """
        saved = {"epoch_sums": None, "sums_epoch": 0, "weights": saved_weights(saved)} | saved
        try:
            self.model.load_state_dict(saved["model_state_dict"])
            load_optimizer(self.optimizer, saved["optimizer_state_dict"])
            self.schedule.load_state_dict(saved["scheduler_state_dict"])
            self.scaler.load_state_dict(saved["scaler_state_dict"])
            self.average.load_state_dict(saved["ema_state_dict"], self.model)
            self.monitor.load_state_dict(saved["monitor"])
            self.train_sums, self.epoch_sums = (self._sums(saved[name]) for name in ("tally", "epoch_sums"))
            for name, fits in _PLAIN.items():
                if not fits(saved[name]):
                    raise ValueError(f"{name} {saved[name]!r:.80}")
                setattr(self, name, saved[name])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this model and optimizer: {' '.join(str(error).split())[:300]}"
            ) from error
        if self.average.module is self.model:
            self.weights = MODEL  # it no longer keeps an average

    def _sums(self, saved: object) -> Tensor | None:
        if not (saved is None or isinstance(saved, Tensor)):
            raise ValueError(f"sums of scores {saved!r:.80} are no tensor")
        return None if saved is None else saved.to(next(self.model.parameters()).device)
