"""Parts of a network that change over training, as functions of how much of it is done: resuming needs no state."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from trainer.config.scheduler import flat_cos


@runtime_checkable
class FollowsProgress(Protocol):
    """A module that is told before each step how much of training is done."""

    def set_progress(self, progress: float) -> None:
        """Take the share of the optimizer steps that are done, from 0 to 1."""
        ...


class FlatCosDropout(nn.Module):
    """Dropout whose probability follows `flat_cos`.

    The probability at work is a tensor: a compiled network is not compiled anew where it changes, and no device waits.

    Shape:
        Any to the same.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.current: Tensor
        self.register_buffer("current", torch.tensor(p), persistent=False)

    def set_progress(self, progress: float) -> None:
        """See `FollowsProgress`."""
        self.current.fill_(self.p * flat_cos(progress))

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.p):
            return x
        return x * (torch.rand_like(x) >= self.current) / (1 - self.current)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ModelProgress:
    """Tells the modules of a network that follow it how much of training is done.

    Args:
        model: the network.
        total: optimizer steps of the run.
    """

    def __init__(self, model: nn.Module, total: int) -> None:
        self.modules = [module for module in model.modules() if isinstance(module, FollowsProgress)]
        self.total = total

    def __call__(self, step: int) -> None:
        """Tell them that `step` steps are done."""
        for module in self.modules:
            module.set_progress(step / self.total)
