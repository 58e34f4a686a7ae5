"""What turns gathered samples into a batch, whichever loader gathered them."""

import torch
from torch import Tensor

from trainer.data.loaders.sampler import Sampler
from trainer.data.types import Augment, Batch, BatchContext, Mix, Prepare


class Collate:
    """From the samples of a step as they are stored to its batch: augmented, prepared, mixed.

    Args:
        order: in which the samples come.
        prepare, augment, mix: see `trainer.data.types.Data`.
    """

    def __init__(
        self, order: Sampler, prepare: Prepare, augment: Augment | None = None, mix: Mix | None = None
    ) -> None:
        self.order, self.prepare, self.augment, self.mix = order, prepare, augment, mix

    def __call__(self, inputs: Tensor, targets: Tensor, weights: Tensor | None, positions: Tensor, step: int) -> Batch:
        if self.augment is None and self.mix is None:
            return Batch(self.prepare(inputs), targets, weights, positions)
        draws = BatchContext(self.order.seed, step, step // self.order.steps_per_epoch, positions)
        if self.augment is not None:
            inputs = self.augment(inputs, draws)
        inputs = self.prepare(inputs)
        if self.mix is not None:
            inputs, targets = self.mix(inputs, targets, draws)
        return Batch(inputs, targets, weights, positions)


def padded(inputs: Tensor, targets: Tensor, size: int, prepare: Prepare) -> Batch:
    """The batch filled up to `size` with copies of its first row, of weight 0."""
    weights = torch.ones(len(targets), device=targets.device)
    missing = size - len(targets)
    if missing:
        inputs = torch.cat([inputs, inputs[:1].expand(missing, *inputs.shape[1:])])
        targets = torch.cat([targets, targets[:1].expand(missing, *targets.shape[1:])])
        weights = torch.cat([weights, weights.new_zeros(missing)])
    return Batch(prepare(inputs), targets, weights)
