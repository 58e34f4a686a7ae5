"""Parts of a network that are held still, up to a step or for good."""

import math

from torch import nn

from trainer.config.durations import RunLength
from trainer.config.model import ModelConfig
from trainer.models.norm import BATCH_NORMS
from trainer.models.parts import frozen_parameters
from trainer.training.timeline import Timeline


class NothingFrozen:
    """All parts are trained."""

    def apply(self, step: int) -> None:
        """Do nothing."""


class Freezing(NothingFrozen):
    """Holds parts of a network still; a function of the step, so that a run that is resumed needs no memory of it.

    Frozen BatchNorm normalises by its running statistics and does not change them, whatever mode the network is in.

    Args:
        model: the network.
        freeze: see `trainer.models.parts.frozen_parameters`.
        until: the step after which they are trained; infinity: they never are.
    """

    def __init__(self, model: nn.Module, freeze: str, until: float) -> None:
        frozen = frozen_parameters(model, freeze)
        held = {id(parameter) for parameter in frozen.values()}
        self.parameters, self.until = list(frozen.values()), until
        self.norms = [
            module
            for module in model.modules()
            if isinstance(module, BATCH_NORMS) and all(id(parameter) in held for parameter in module.parameters())
        ]

    def apply(self, step: int) -> None:
        """Set what is trained in the step after `step` steps."""
        trained = step >= self.until
        if self.parameters[0].requires_grad != trained:
            for parameter in self.parameters:
                parameter.requires_grad_(trained)
                parameter.grad = None
        for norm in self.norms:
            if norm.training != trained:
                norm.train(trained)


def freezing_of(model: nn.Module, config: ModelConfig, timeline: Timeline) -> NothingFrozen:
    """Make what the keys `model.freeze` and `model.unfreeze_at` ask for."""
    if config.freeze is None:
        return NothingFrozen()
    until = math.inf
    if config.unfreeze_at is not None:
        until = RunLength(timeline.steps_per_epoch, timeline.total).steps(config.unfreeze_at, "model.unfreeze_at")
    return Freezing(model, config.freeze, until)
