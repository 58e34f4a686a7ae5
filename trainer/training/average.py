"""The moving average of the weights, beside the weights as they are trained."""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.tasks.base import AVERAGED_PREFIX, PREFIX

MODEL, AVERAGE = "model", "average"  # which weights: as they are trained, or averaged
WARMUP_POWER = 2 / 3


class NoAverage:
    """The weights as they are trained, and no others.

    Attributes:
        module: the network with the averaged weights; without an average the trained one.
        networks: those to validate, by the prefix of their scores.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module, self.networks = model, {PREFIX: model}

    def update(self, model: nn.Module) -> None:
        """Do nothing: no average is kept."""

    def state_dict(self) -> dict[str, Any] | None:
        """Return what is saved: nothing."""
        return None

    def load_state_dict(self, saved: dict[str, Any] | None, model: nn.Module) -> None:
        """Leave aside the average that a run may have kept before."""


class ExponentialAverage(NoAverage):
    """An exponential moving average of the weights, updated after each step (`torch.optim.swa_utils`).

    Floating-point buffers, such as the statistics of BatchNorm, are averaged as the weights are; others are copied.

    Args:
        model: the network that is trained.
        decay: share of the average that a step leaves, see `ema_decay`.
        warmup: whether the decay rises to that from 0.
    """

    def __init__(self, model: nn.Module, decay: float, warmup: bool = True) -> None:
        self._average = AveragedModel(model)
        super().__init__(self._average.module)
        self.networks = {PREFIX: model, AVERAGED_PREFIX: self.module}
        self._decay, self._warmup, self._updates = decay, warmup, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the weights of the model into the average; the first time, they are the average.

        Not by `AveragedModel.update_parameters`: that copies the number of updates to the device, and waits for it.
        """
        decay = ema_decay(self._updates, self._decay) if self._warmup else self._decay
        groups: defaultdict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
        for averaged, now in zip(_tensors(self.module), _tensors(model), strict=True):
            group = groups[averaged.dtype]
            group[0].append(averaged)
            group[1].append(now)
        for dtype, (averages, values) in groups.items():
            if self._updates and (dtype.is_floating_point or dtype.is_complex):
                get_ema_multi_avg_fn(decay)(averages, values, self._updates)
            else:
                for own, given in zip(averages, values, strict=True):
                    own.copy_(given)
        self._updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights under `module.`, and how many went in."""
        self._average.n_averaged.fill_(self._updates)
        return self._average.state_dict()

    def load_state_dict(self, saved: dict[str, Any] | None, model: nn.Module) -> None:
        """Restore the average; a run that starts averaging when it is resumed starts from the weights it has."""
        self._average.load_state_dict(saved or AveragedModel(model).state_dict())
        self._updates = int(self._average.n_averaged)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def average_of(model: nn.Module, decay: float | None, warmup: bool = True) -> NoAverage:
    """Make the average that `trainer.ema` asks for; None: none."""
    return NoAverage(model) if decay is None else ExponentialAverage(model, decay, warmup)


def ema_decay(updates: int, decay: float) -> float:
    """Return the decay after so many updates: it rises as 1 - (1 + updates)^(-2/3), and ends at `decay`.

    Without this, the first weights would stay in the average for about 1 / (1 - decay) steps, whatever was learned
    meanwhile. Source: `get_decay` of timm's `ModelEmaV3`, with `warmup_gamma=1` and `warmup_power=2/3`.
    """
    return min(decay, 1.0 - math.pow(1 + updates, -WARMUP_POWER))


def slow_average(decay: float | None, warmup: bool, steps: int) -> str | None:
    """Return a warning where a run is too short for the decay of its average; None where it is not."""
    if decay is None or 1 / (1 - decay) <= steps:
        return None
    last = ema_decay(steps, decay)
    end = (
        f"the warm-up of the decay ends at {last:.4g}, an average over about {1 / (1 - last):,.0f} steps"
        if warmup
        else f"{decay**steps:.0%} of the averaged weights will still be those of the first step"
    )
    return f"trainer.ema={decay} averages over about {1 / (1 - decay):,.0f} steps, and the run has {steps:,}: {end}."


def saved_weights(payload: dict[str, Any]) -> Any:
    """Return which weights of a checkpoint are to be used; older versions used the average where there was one."""
    return payload.get("weights", MODEL if payload.get("ema_state_dict") is None else AVERAGE)
