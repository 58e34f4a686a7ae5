"""From a batch to its gradient: cut into parts that fit the device, and bounded in length."""

import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from trainer.data.types import Batch
from trainer.models.norm import BATCH_NORMS
from trainer.system import memory
from trainer.training.context import RunContext

log = logging.getLogger("trainer")

MicroBatch = tuple[Tensor, Tensor, Tensor | None]  # inputs, targets, weights


class MicroBatching:
    """Cuts batches into micro-batches, smaller ones after the device has run out of memory, where that is wanted."""

    def __init__(self, context: RunContext) -> None:
        settings, self.state, self.compute = context.config.trainer, context.state, context.compute
        self.most, self.halves = settings.micro_batch or context.config.data.batch_size, settings.auto_micro_batch
        self._shrunk = False
        self._batch_norm = any(isinstance(module, BATCH_NORMS) for module in self.state.model.modules())
        self._model, self._said = context.config.model, False

    def size(self, batch: Batch) -> int:
        """Return the samples at a time: as configured, and what lack of memory has left of it."""
        left = self.state.micro_batch if self.halves and self.state.micro_batch else self.most
        samples = batch.targets.size(0)
        size = min(samples, self.most, left)
        if self._batch_norm and size < samples:  # it takes no part of a single sample
            sizes = (*range(size, 1, -1), *range(size + 1, samples))
            return next((size for size in sizes if samples % size != 1), samples)
        return size

    def split(self, batch: Batch) -> Iterator[MicroBatch]:
        """Yield the parts of a batch, in the memory format of the run."""
        samples, size = batch.targets.size(0), self.size(batch)
        if size == samples:
            yield self.compute.formatted(batch.inputs), batch.targets, batch.weights
            return
        for start in range(0, samples, size):
            part = slice(start, start + size)
            weights = None if batch.weights is None else batch.weights[part]
            yield self.compute.formatted(batch.inputs[part]), batch.targets[part], weights
        if self._shrunk:  # and this time the batch went through
            self._shrunk = False
            log.warning(f"{self.compute.device} is out of memory; from here on {size} samples at a time.")
        if self._batch_norm and not self._said:
            self._said = True
            known = self._model.keys().get("norm")
            offered = known is not None and "group" in (known[2].choices or ())
            without = "model.norm=group" if offered else "A model without BatchNorm"
            log.warning(
                f"BatchNorm takes its statistics from {size} samples at a time, not from the batch of {samples}: the "
                f"result is not that of whole batches. {without} does not depend on it."
            )

    def shrink(self, batch: Batch, error: BaseException) -> None:
        """Halve the micro-batch after the device has run out of memory, where that is wanted and possible.

        Raises:
            TrainerError: where it is not; any other error is raised as it is.
        """
        if not memory.is_out_of_memory(error):
            raise error
        size, device = self.size(batch), self.compute.device
        shape = "×".join(map(str, batch.inputs.shape[1:]))
        doing = f"in step {self.state.step + 1}, with {size} samples of {shape} at a time"
        if not self.halves:
            same = "the batch stays the same" if self._batch_norm else "the batch and the result stay the same"
            remedy = f"set trainer.micro_batch={max(1, size // 2)}, or trainer.auto_micro_batch=true to have it found"
            raise memory.exhausted(device, doing, f"{remedy}; {same}") from error
        self.state.micro_batch, self._shrunk = -(-size // 2), True
        if self.size(batch) >= size:
            least = "one sample is" if size == 1 else f"{size} samples, of which BatchNorm needs two, are"
            raise memory.exhausted(device, doing, f"even {least} too much; use a smaller model") from error

    def release(self) -> None:
        """Give cached memory back to the device, so that a smaller attempt finds blocks that are whole."""
        memory.release(self.compute.device)


class InverseWeights:
    """Gives 1 / weight, the first gradient of a backward pass; the few weights that are plain numbers are kept."""

    def __init__(self) -> None:
        self._kept: dict[float, Tensor] = {}

    def __call__(self, weight: Tensor | float, like: Tensor) -> Tensor:
        """Return 1 / weight as a scalar with the device and dtype of another tensor."""
        if isinstance(weight, Tensor):
            return (1 / weight).to(like.dtype)
        if weight not in self._kept:
            self._kept[weight] = torch.tensor(1 / weight, device=like.device, dtype=like.dtype)
        return self._kept[weight]


class GradientClip:
    """Measures the gradient where that is needed, and scales it down where it is longer than allowed.

    Args:
        parameters: that are trained.
        max_norm: the longest L2 norm over all of them; None: any.

    Attributes:
        clips: whether there is a bound.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], max_norm: float | None) -> None:
        self.parameters, self.clips = parameters, max_norm is not None
        self._max_norm = max_norm or 0.0

    def __call__(self, gradients: Sequence[Tensor], wanted: bool) -> Tensor | None:
        """Return the norm before clipping, a scalar on the device; None where it is neither bounded nor wanted."""
        if not (self.clips or wanted):
            return None
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.clips:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self._max_norm, norm)
        return norm
