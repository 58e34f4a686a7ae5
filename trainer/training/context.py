"""What a run is made of."""

import dataclasses
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config.root import Config
from trainer.config.trainer import TrainerConfig
from trainer.data.loaders.protocols import EvalLoader, TrainLoader
from trainer.data.types import Data
from trainer.loggers.base import Activity
from trainer.system.device import autocast, choose_device, choose_precision, numerics
from trainer.tasks.base import Task
from trainer.training.state import TrainState
from trainer.training.timeline import Timeline


@dataclass(frozen=True)
class Compute:
    """The device of a run, its precision, and how image batches lie in memory.

    Attributes:
        device: where parameters and batches are.
        precision: dtype of matrix products.
        memory_format: of batches with four dimensions.
    """

    device: torch.device
    precision: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format

    @classmethod
    def choose(cls, settings: TrainerConfig) -> "Compute":
        """Choose by `trainer.device` and `trainer.precision`.

        Raises:
            ConfigError: for a device or precision that this machine does not have.
        """
        device = choose_device(settings.device)
        return cls(device, choose_precision(settings.precision, device))

    def suited_to(self, model: nn.Module, channels_last: bool | None) -> "Compute":
        """Return the same with the memory format that suits a model, or that `trainer.channels_last` wants."""
        if channels_last is None:  # on 2 CPU cores a step of the CNN on 64×3×32×32 took 16 % less time
            convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
            channels_last = convolves and (self.device.type == "cpu" or self.precision is not torch.float32)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return dataclasses.replace(self, memory_format=memory_format)

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, in the memory format of the batches."""
        model = model.to(self.device)
        if self.memory_format is torch.channels_last:
            model = model.to(memory_format=torch.channels_last)
        return model

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context in which matrix products run in the precision of the run."""
        return autocast(self.device, self.precision)

    def formatted(self, inputs: Tensor) -> Tensor:
        """Return a batch in the memory format of the run."""
        return inputs.contiguous(memory_format=self.memory_format) if inputs.ndim == 4 else inputs


@dataclass(frozen=True)
class RunContext:
    """All parts of a run, put together.

    Attributes:
        config: of the run, checked.
        data: what is trained and validated on.
        task: what is minimised and scored.
        train, val: the loaders of the two splits.
        timeline: how far to train, and when to do what.
        state: what training changes.
        compute: where the maths runs, and in what.
        activity: what is being done at the moment.
    """

    config: Config
    data: Data
    task: Task
    train: TrainLoader
    val: EvalLoader
    timeline: Timeline
    state: TrainState
    compute: Compute
    activity: Activity = field(default_factory=Activity)

    def environment(self) -> dict[str, Any]:
        """Return what the bits of a result depend on beside the config, by name."""
        return numerics(self.compute.device, self.compute.precision)

    def notes(self) -> dict[str, Any]:
        """Return the plain data that goes into every checkpoint, for whoever uses or resumes it."""
        return {
            "data_spec": self.data.spec.to_dict(),
            "preprocessing": self.data.preprocessing,
            "environment": self.environment(),
        }
