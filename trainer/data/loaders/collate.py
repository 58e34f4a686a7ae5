"""From gathered samples to a batch, the same for every loader."""

import torch
from torch import Tensor

from trainer.config.root import is_outside
from trainer.data.loaders.sampler import Sampler
from trainer.data.types import Augment, Batch, BatchContext, Mix, Prepare
from trainer.system import seeds


class Collate:
    """Turns the samples of a step, as they are stored, into its training batch: augmented, prepared, mixed.

    Args:
        sampler: which samples make up a batch; gives the seed and the number of steps in an epoch.
        prepare, augment, mix: see `trainer.data.types.Data`.
    """

    def __init__(
        self, sampler: Sampler, prepare: Prepare, augment: Augment | None = None, mix: Mix | None = None
    ) -> None:
        self.sampler, self.prepare, self.augment, self.mix = sampler, prepare, augment, mix
        self._reseeds = any(is_outside(type(part)) and is_outside(part) for part in (augment, mix) if part is not None)

    def __call__(self, inputs: Tensor, targets: Tensor, weights: Tensor | None, positions: Tensor, step: int) -> Batch:
        """Return the batch of `step`; for the arguments see `trainer.data.types.Batch`."""
        if self.augment is None and self.mix is None:
            return Batch(self.prepare(inputs), targets, weights, positions)
        if self._reseeds:  # code of a plug-in may draw from any generator
            seeds.reseed_all(inputs.device, seeds.fold(self.sampler.seed, seeds.AUGMENT, step))
        context = BatchContext(self.sampler.seed, step, step // self.sampler.steps_per_epoch, positions)
        if self.augment is not None:
            inputs = self.augment(inputs, context)
        inputs = self.prepare(inputs)
        if self.mix is not None:
            inputs, targets = self.mix(inputs, targets, context)
        return Batch(inputs, targets, weights, positions)


def padded(inputs: Tensor, targets: Tensor, size: int, prepare: Prepare) -> Batch:
    """Return an evaluation batch of `size` rows: the given ones, then copies of the first with weight 0."""
    weights = torch.ones(len(targets), device=targets.device)
    missing = size - len(targets)
    if missing:
        inputs = torch.cat([inputs, inputs[:1].expand(missing, *inputs.shape[1:])])
        targets = torch.cat([targets, targets[:1].expand(missing, *targets.shape[1:])])
        weights = torch.cat([weights, weights.new_zeros(missing)])
    return Batch(prepare(inputs), targets, weights)
