"""The weights that are validated and used: those that are trained, or an average of them."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class NoAverage:
    """The weights as they are trained.

    Attributes:
        module: the network to validate and to use.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module = model

    def update(self, model: nn.Module) -> None:
        """Do nothing: the weights are the model's own."""

    def state_dict(self) -> dict[str, Any] | None:
        """Return what is saved: nothing."""
        return None

    def load_state_dict(self, saved: dict[str, Any] | None, model: nn.Module) -> None:
        """Leave aside the average that a run may have kept before."""


class ExponentialAverage(NoAverage):
    """An exponential moving average of the weights, updated after each step (`torch.optim.swa_utils`)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        super().__init__(self._average.module)

    def update(self, model: nn.Module) -> None:
        """Take the weights of the model into the average."""
        self._average.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights under `module.`, and how many went in."""
        return self._average.state_dict()

    def load_state_dict(self, saved: dict[str, Any] | None, model: nn.Module) -> None:
        """Restore the average; a run that starts averaging when it is resumed starts from the weights it has."""
        self._average.load_state_dict(saved or AveragedModel(model).state_dict())


def average_of(model: nn.Module, decay: float | None) -> NoAverage:
    """Make the average that `trainer.ema` asks for; None: none."""
    return NoAverage(model) if decay is None else ExponentialAverage(model, decay)
